import ClusterBase

// Linearizable reads without a log entry (Raft §8): the leader notes its commit, has a majority confirm that it still
// leads, and answers once the state machine is that far. One confirming round serves all reads that were queued before
// it was sent. No clock is involved.

/// Reads on their way. Of batches, one is open and one may be under way.
struct ReadQueue: Sendable {
    enum Asker: Sendable {
        case local(ticket: UInt64)
        case remote(Peer, ReadContext)
    }

    struct Waiting: Sendable {
        var index: LogIndex
        var ticket: UInt64
    }

    /// Asked since the last round was sent.
    var open: [Asker] = []
    /// Wait for the round `roundNeeded` or a later one, and may then read at `index`.
    var confirming: [Asker] = []
    var index: LogIndex = .zero
    /// The number of the last round that was sent.
    var round: UInt64 = 0
    /// The round that `confirming` was first sent with; answers to it or to later ones confirm.
    var roundNeeded: UInt64 = 0
    /// Confirmed; wait until the state machine is far enough. Ascending by index.
    var waiting: [Waiting] = []
    /// Set on a follower: under what the batch was passed on to the leader last.
    var context: ReadContext?
    var contextNumber: UInt64 = 0
    /// The number under which it was passed on first: an answer to any since then is good for all of it.
    var contextFirst: UInt64 = 0
    var retryAt: Instant?
    /// A mutant's memory: the commit when the open batch was begun.
    var openedAt: LogIndex = .zero

    var count: Int { open.count + confirming.count + waiting.count }
    var described: String {
        "reads: \(open.count) open, \(confirming.count) to be confirmed by round \(roundNeeded) of \(round), \(waiting.count) "
            + "wait for \(waiting.last.map { "\($0.index)" } ?? "nothing"), asked again at \(retryAt.map { "\($0)" } ?? "no time")"
    }

    mutating func beginTerm() {
        open.removeAll(keepingCapacity: true)
        confirming.removeAll(keepingCapacity: true)
        context = nil
        round = 0
        roundNeeded = 0
        retryAt = nil
    }
}

extension Raft {
    mutating func read(_ ticket: UInt64, _ now: Instant, _ effects: inout Effects) {
        guard phase == .leader || (leader != nil && !isLeaderDoubted), reads.count < settings.readsMax else {
            effects.reads.append(ReadOutcome(ticket: ticket, verdict: .refused(hint: leader)))
            return
        }
        if reads.open.isEmpty { reads.openedAt = commit }
        reads.open.append(.local(ticket: ticket))
        advanceReads(now, &effects)
    }

    mutating func receiveReadRequest(
        _ message: Message, _ context: ReadContext, _ now: Instant, _ effects: inout Effects
    ) {
        guard phase == .leader, reads.count < settings.readsMax else {
            effects.messages.append(self.message(to: message.from, .readAnswer(context, index: nil)))
            return
        }
        if reads.open.isEmpty { reads.openedAt = commit }
        reads.open.append(.remote(message.from, context))
        advanceReads(now, &effects)
    }

    /// Sends off the open batch if none is under way.
    mutating func advanceReads(_ now: Instant, _ effects: inout Effects) {
        guard !reads.open.isEmpty, reads.confirming.isEmpty else { return }
        if phase == .leader {
            // Before an entry of the own term is committed, earlier leaders' commits may be unknown here (etcd #7331).
            guard hasCommittedInTerm || mutated(.readBeforeOwnTermCommit) else { return }
            swap(&reads.open, &reads.confirming)
            reads.index = mutated(.readBatchSharesFirstIndex) ? reads.openedAt : commit
            sendRound(isRepeated: false, now, &effects)
        } else if let leader {
            swap(&reads.open, &reads.confirming)
            reads.contextFirst = reads.contextNumber + 1
            askLeader(leader, now, &effects)
        }
    }

    private mutating func sendRound(isRepeated: Bool, _ now: Instant, _ effects: inout Effects) {
        // A number of its own for every round, repetitions too: a late answer must not confirm a later read (etcd #20418).
        if !mutated(.readContextReused) || reads.round == 0 { reads.round += 1 }
        if !isRepeated { reads.roundNeeded = reads.round }
        reads.retryAt = now + settings.suspicion
        for i in 0..<progress.count {
            let member = progress[i].member
            if !member.role.isVoting || member.peer == peer || isSuspected(member.peer.node) { continue }
            effects.messages.append(message(to: member.peer, .confirmLeadership(round: reads.round)))
        }
        if let i = configuration.position(of: peer.replica) { progress[i].readRound = reads.round }
        finishRound(now, &effects)
    }

    mutating func leadershipConfirmed(_ from: Peer, _ round: UInt64, _ now: Instant, _ effects: inout Effects) {
        guard phase == .leader, let i = configuration.position(of: from.replica), round <= reads.round else { return }
        progress[i].heardAt = now
        progress[i].readRound = max(progress[i].readRound, round)
        finishRound(now, &effects)
    }

    private mutating func finishRound(_ now: Instant, _ effects: inout Effects) {
        guard !reads.confirming.isEmpty, quorumValue({ $0.readRound }) >= reads.roundNeeded else { return }
        for asker in reads.confirming {
            switch asker {
            case .local(let ticket): reads.waiting.append(.init(index: reads.index, ticket: ticket))
            case .remote(let peer, let context):
                effects.messages.append(message(to: peer, .readAnswer(context, index: reads.index)))
            }
        }
        reads.confirming.removeAll(keepingCapacity: true)
        reads.retryAt = nil
        if mutated(.readContextReused) {
            for i in 0..<progress.count where progress[i].member.peer != peer { progress[i].readRound = 0 }
        }
        releaseReads(&effects)
        advanceReads(now, &effects)
    }

    private mutating func askLeader(_ leader: Peer, _ now: Instant, _ effects: inout Effects) {
        reads.contextNumber += 1
        let context = ReadContext(incarnation: incarnation, number: reads.contextNumber)
        reads.context = context
        reads.retryAt = now + settings.suspicion
        effects.messages.append(message(to: leader, .readRequest(context)))
    }

    mutating func receiveReadAnswer(
        _ context: ReadContext, _ index: LogIndex?, _ now: Instant, _ effects: inout Effects
    ) {
        guard phase != .leader, let last = reads.context, context.incarnation == last.incarnation,
            context.number >= reads.contextFirst, context.number <= last.number
        else { return }
        guard let index else { return context == last ? failReads(&effects) : () }
        reads.context = nil
        reads.retryAt = nil
        for asker in reads.confirming {
            if case .local(let ticket) = asker { reads.waiting.append(.init(index: index, ticket: ticket)) }
        }
        reads.confirming.removeAll(keepingCapacity: true)
        releaseReads(&effects)
        advanceReads(now, &effects)
    }

    mutating func retryReads(_ now: Instant, _ effects: inout Effects) {
        reads.retryAt = nil
        guard !reads.confirming.isEmpty else { return }
        if phase == .leader {
            sendRound(isRepeated: true, now, &effects)
        } else if let leader, !isLeaderDoubted {
            askLeader(leader, now, &effects)
        } else {
            failReads(&effects)
        }
    }

    /// Reads that were not confirmed are refused when the leader changes; confirmed ones only wait for the state machine.
    mutating func failReads(_ effects: inout Effects) {
        for asker in reads.open + reads.confirming {
            switch asker {
            case .local(let ticket):
                effects.reads.append(ReadOutcome(ticket: ticket, verdict: .refused(hint: leader)))
            case .remote(let peer, let context):
                effects.messages.append(message(to: peer, .readAnswer(context, index: nil)))
            }
        }
        reads.open.removeAll(keepingCapacity: true)
        reads.confirming.removeAll(keepingCapacity: true)
        reads.context = nil
        reads.retryAt = nil
    }

    /// Reads that wait for entries which may never come: what was confirmed was so before the group lost them.
    mutating func failWaitingReads(_ effects: inout Effects) {
        for read in reads.waiting where read.index > applied {
            effects.reads.append(ReadOutcome(ticket: read.ticket, verdict: .refused(hint: nil)))
        }
        reads.waiting.removeAll { $0.index > applied }
    }

    mutating func releaseReads(_ effects: inout Effects) {
        guard !reads.waiting.isEmpty else { return }
        var kept = 0
        for i in 0..<reads.waiting.count {
            let read = reads.waiting[i]
            if read.index <= applied {
                effects.reads.append(ReadOutcome(ticket: read.ticket, verdict: .ready(read.index)))
            } else {
                reads.waiting[kept] = read
                kept += 1
            }
        }
        reads.waiting.removeLast(reads.waiting.count - kept)
    }
}
