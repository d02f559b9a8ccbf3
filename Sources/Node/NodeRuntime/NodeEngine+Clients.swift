package import ClusterBase
package import FleetModel
import NodePorts
import RaftCore
import StoreLayout

// Commands in, results out.

extension NodeEngine {
    /// What a pack adds to one command that fills it alone.
    static var packOverheadBytes: Int { 16 }

    func take(_ request: ClientRequest, _ ticket: UInt64, _ now: Instant) {
        if case .query(let group, let query) = request, group.kind != query.kind {
            return answer(ticket, .refused(.malformed))
        }
        if isWork(request) { liveness.stir(now: now) }
        if mayForward(ticket) && !isAnsweredHere(request) { return forward(request, ticket, now) }
        guard let i = position(of: request.group) else { return answer(ticket, .refused(.noSuchGroup)) }
        switch request {
        case .command(_, let command): queueCommand(i, command, ticket)
        case .query(_, let query):
            if isLease(query) && !replicas[i].isLeader {
                return answer(ticket, .refused(.notLeader(hint: replicas[i].leader)))
            }
            #if MUTANTS
            if settings.fleetMutant == .leaseWithoutQuorum, isLease(query), let found = readHere(request.group, query) {
                return answer(ticket, .read(found))
            }
            #endif
            if replicas[i].reading.count >= settings.raft.readsMax {
                return answer(ticket, .refused(.overloaded))
            }
            replicas[i].reading.append(.init(ticket: ticket, query: query, began: now))
            step(i, .read(ticket: ticket), now)
        case .changeMembership(_, let steps): ask(i, .changeMembership(steps), ticket, now)
        case .transferLeadership(_, let target): ask(i, .transferLeadership(to: target), ticket, now)
        case .forceRecovery: ask(i, .forceRecovery, ticket, now)
        }
    }

    private func ask(_ i: Int, _ input: Input, _ ticket: UInt64, _ now: Instant) {
        results.removeAll(keepingCapacity: true)
        step(i, input, now)
        answer(ticket, results.first ?? .accepted)
        results.removeAll(keepingCapacity: true)
    }

    private func queueCommand(_ i: Int, _ command: [UInt8], _ ticket: UInt64) {
        if !replicas[i].isLeader {
            return answer(ticket, .refused(.notLeader(hint: replicas[i].leader)))
        }
        if isSpaceLow, let kind = replicas[i].group.kind, Machine.wantsSpace(kind, command) {
            return answer(ticket, .refused(.spaceLow))
        }
        if command.count > settings.raft.proposalBytesMax - NodeEngine.packOverheadBytes {
            return answer(ticket, .refused(.tooLarge))
        }
        if uncommittedBytes > 0 && uncommittedBytes + command.count > settings.uncommittedBytesMax {
            return answer(ticket, .refused(.overloaded))
        }
        let waiting = replicas[i].queue.count
        if waiting >= settings.commandsQueuedMax
            || replicas[i].commandsUnderWay + waiting >= settings.commandsUnderWayMax
        {
            return answer(ticket, .refused(.overloaded))
        }
        replicas[i].queue.append(.init(ticket: ticket, command: command))
        if !replicas[i].isReady {
            replicas[i].isReady = true
            ready.append(replicas[i].group)
        }
    }

    /// Packs what has queued up into entries. Once per turn, so that a pack is as large as the load makes it.
    func packCommands(_ now: Instant) {
        if ready.isEmpty { return }
        var groups: [GroupID] = []
        swap(&groups, &ready)
        for group in groups {
            guard let i = position(of: group) else { continue }
            replicas[i].isReady = false
            // A copy beside `removeAll` would make room for the queue anew, as much as it ever had.
            var queue: [Replica.Waiting] = []
            swap(&queue, &replicas[i].queue)
            var at = 0
            while at < queue.count {
                var pack: [[UInt8]] = []
                var tickets: [UInt64] = []
                var bytes = 0
                while at < queue.count && pack.count < settings.packCommandsMax {
                    bytes += queue[at].command.count
                    if !pack.isEmpty && bytes > settings.packBytesMax { break }
                    pack.append(queue[at].command)
                    tickets.append(queue[at].ticket)
                    at += 1
                }
                guard let kind = group.kind else {
                    answerAll(tickets, .refused(.malformed))
                    continue
                }
                let refusal = proposePack(
                    group, Machine.pack(kind, pack, level: packLevel, time: wallTime(now)), tickets, now)
                if let refusal { refuse(group, pack, tickets, refusal) }
            }
        }
    }

    /// Gives back why the core does not take the pack.
    private func proposePack(
        _ group: GroupID, _ payload: [UInt8], _ tickets: [UInt64], _ now: Instant
    ) -> ProposalRefusal? {
        guard let i = position(of: group) else {
            answerAll(tickets, .refused(.noSuchGroup))
            return nil
        }
        var refused: ProposalRefusal?
        replicas[i].raft.step(.propose([payload]), now: now, into: &effects)
        let outcome = effects.proposals.first
        switch outcome {
        case .appended(let index, let term):
            replicas[i].underWay.append(.init(index: index, term: term, tickets: tickets))
            replicas[i].commandsUnderWay += tickets.count
        case .forwarded: answerAll(tickets, .unknown)
        case .refused(let refusal): refused = refusal
        case nil: answerAll(tickets, .refused(.overloaded))
        }
        finishStep(i, now)
        return refused
    }

    /// While leadership is handed over, what may be forwarded waits for the next leader: it is a matter of milliseconds.
    private func refuse(_ group: GroupID, _ pack: [[UInt8]], _ tickets: [UInt64], _ refusal: ProposalRefusal) {
        guard refusal == .transferringLeadership, settings.forwardsRequests else {
            return answerAll(tickets, .refused(translated(refusal)))
        }
        for (command, ticket) in zip(pack, tickets) {
            if mayForward(ticket) {
                forward(.command(group, command), ticket, lastNow, atOnce: false)
            } else {
                answer(ticket, .refused(.notLeader(hint: nil)))
            }
        }
    }

    private func answerAll(_ tickets: [UInt64], _ answer: ClientAnswer) {
        for ticket in tickets { self.answer(ticket, answer) }
    }

    private func translated(_ refusal: ProposalRefusal) -> ClientAnswer.Refusal {
        switch refusal {
        case .notLeader(let hint): .notLeader(hint: hint)
        case .tooMuchUncommitted, .transferringLeadership: .overloaded
        case .tooLarge: .tooLarge
        case .empty: .malformed
        case .storageStalled: .storageStalled
        }
    }

    /// The wall clock by this node's own; nil before anyone told it.
    func wallTime(_ now: Instant) -> LogTime? {
        wallOffset.map { LogTime(UInt64(clamping: now.nanoseconds / 1_000_000 + $0)) }
    }

    func refuseQueue(_ i: Int) {
        let hint = replicas[i].raft.leader
        let queue = replicas[i].queue
        replicas[i].queue.removeAll(keepingCapacity: true)
        for waiting in queue {
            if mayForward(waiting.ticket) {
                forward(.command(replicas[i].group, waiting.command), waiting.ticket, lastNow, atOnce: false)
            } else {
                answer(waiting.ticket, .refused(.notLeader(hint: hint)))
            }
        }
    }

    // MARK: Applying

    /// Brings the state machine up to `through` and answers whoever waited for it.
    func apply(_ i: Int, through: LogIndex, _ now: Instant) {
        guard replicas[i].installing == nil else { return }
        do throws(StoreError) {
            while replicas[i].applied.index < through {
                let next = replicas[i].applied.index.next
                if let entry = replicas[i].cachedEntry(at: next) {
                    try apply(i, entry)
                    continue
                }
                let entries = try ports.entries(
                    of: replicas[i].group, replica: replicas[i].raft.peer.replica, from: next, through: through,
                    bytesMax: settings.replayBytesMax)
                guard entries.first?.index == next else {
                    throw StoreError(.corrupt, "entry \(next) of group \(replicas[i].group) is missing")
                }
                for entry in entries where entry.index <= through { try apply(i, entry) }
            }
        } catch {
            if error.code == .corrupt || error.code == .readFailed {
                damaged(i, error.message)
            } else {
                fail(error.message, isOutdated: error.code == .outdated)
            }
            return
        }
        replicas[i].raft.step(.applied(replicas[i].applied.index), now: now, into: &effects)
        finishStep(i, now)
    }

    /// One entry is one batch: its effects, and that it is applied, become durable together or not at all.
    private func apply(_ i: Int, _ entry: Entry) throws(StoreError) {
        var results = MachineResults.none
        guard let kind = replicas[i].group.kind else {
            throw StoreError(
                .outdated, "group \(replicas[i].group) is of a kind that this program does not know; upgrade it")
        }
        view.begin(replicas[i].group, generation: replicas[i].generation, applied: replicas[i].applied, ports.state)
        if case .command(let pack) = entry.content {
            do throws(StoreError) {
                results = try Machine.apply(
                    kind, replicas[i].group, pack: understood(pack), index: entry.index, knows: settings.level,
                    access: &view)
            } catch {
                view.abandon()
                throw error
            }
        }
        let (batch, applied) = view.finish(index: entry.index, term: entry.term, chain: entry.chain)
        try write(batch)
        view.reuse(batch)
        replicas[i].applied = applied
        if case .space(let results) = results, replicas[i].isLeader { noteLocks(i, entry, results) }
        appliedSinceFlush += 1
        bytesSinceFlush += entry.byteCount
        replicas[i].logSize.applied(entry)
        while let first = replicas[i].underWay.first, first.index <= entry.index {
            _ = replicas[i].underWay.popFirst()
            replicas[i].commandsUnderWay -= first.tickets.count
            for (slot, ticket) in first.tickets.enumerated() {
                if first.index < entry.index {
                    answer(ticket, .unknown)
                } else if first.term == entry.term && slot < results.count {
                    answer(ticket, .applied(results[slot]))
                } else {
                    // Another leader's entry took its place: it never happened.
                    answer(ticket, .refused(.notLeader(hint: replicas[i].raft.leader)))
                }
            }
        }
    }

    /// Commands whose entries were cut from this log, by a leader that never had them: some other replica may still bring
    /// them about, and here nothing may ever come at their index, so nobody is to wait for it.
    func forgetCut(_ i: Int) {
        #if MUTANTS
        if settings.raft.mutant == .cutCommandNeverAnswered { return }
        #endif
        while let last = replicas[i].underWay.last, last.index > replicas[i].lastIndex {
            _ = replicas[i].underWay.popLast()
            replicas[i].commandsUnderWay -= last.tickets.count
            for ticket in last.tickets { answer(ticket, .unknown) }
        }
    }

    private func write(_ batch: WriteBatch) throws(StoreError) {
        #if MUTANTS
        if settings.raft.mutant == .appliedIndexNotAtomic, case .put(let key, let value)? = batch.operations.last {
            var position = WriteBatch()
            position.put(key, value)
            try ports.state.write(position, isSynced: false)
        }
        #endif
        try ports.state.write(batch, isSynced: false)
    }

    func answerRead(_ i: Int, _ outcome: ReadOutcome) {
        guard let at = replicas[i].reading.firstIndex(where: { $0.ticket == outcome.ticket }) else { return }
        let reading = replicas[i].reading.remove(at: at)
        switch outcome.verdict {
        case .refused(let hint):
            if mayForward(reading.ticket) {
                forward(.query(replicas[i].group, reading.query), reading.ticket, lastNow, atOnce: false)
            } else {
                answer(reading.ticket, .refused(.notLeader(hint: hint)))
            }
        case .ready:
            replicas[i].currentAt = max(replicas[i].currentAt ?? reading.began, reading.began)
            if let host = host(of: reading.query), !mayGrant(replicas[i].group, host) {
                return answer(reading.ticket, .refused(.unavailable))
            }
            view.begin(replicas[i].group, generation: replicas[i].generation, applied: replicas[i].applied, ports.state)
            defer { view.abandon() }
            do throws(StoreError) {
                answer(reading.ticket, .read(try Machine.read(reading.query, view)))
            } catch {
                // The record is damaged, the log is not: the replica's next start finds it out, this read stays open.
                answer(reading.ticket, .unknown)
                unreadable.append((replicas[i].group, error.message))
            }
        }
    }
}

extension NodeEngine {
    /// Answers from this node's own copy as it stands, which may be behind; nil when it holds none that can be read.
    /// The caller knows how old it may be, or asks `within`.
    package func readHere(_ group: GroupID, _ query: Query) -> MachineAnswer? {
        guard let i = position(of: group), group.kind == query.kind, replicas[i].applied.index > .zero else {
            return nil
        }
        view.begin(group, generation: replicas[i].generation, applied: replicas[i].applied, ports.state)
        defer { view.abandon() }
        do throws(StoreError) {
            return try Machine.read(query, view)
        } catch {
            unreadable.append((group, error.message))
            return nil
        }
    }

    /// The same, if it misses nothing that was acknowledged longer than `bound` before `now`; with how old it may be. Nil
    /// when that is not known here: then a query that is answered brings this node's replica up to date too.
    package func readHere(
        _ group: GroupID, _ query: Query, within bound: Nanoseconds, now: Instant
    ) -> (answer: MachineAnswer, age: Nanoseconds)? {
        guard let i = position(of: group), let at = replicas[i].currentAt, now - at <= bound,
            let answer = readHere(group, query)
        else { return nil }
        return (answer, max(now - at, .zero))
    }
}
