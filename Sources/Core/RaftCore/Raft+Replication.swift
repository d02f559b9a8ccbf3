import ClusterBase

// What a leader does with entries: taking proposals, sending, counting answers, committing.

extension Raft {
    // MARK: Proposing

    mutating func propose(_ payloads: [[UInt8]], _ now: Instant, _ effects: inout Effects) {
        if payloads.isEmpty { return effects.proposals.append(.refused(.empty)) }
        if phase != .leader {
            if settings.forwardsProposals, let leader, !isLeaderDoubted {
                effects.messages.append(message(to: leader, .forward(payloads)))
                effects.proposals.append(.forwarded(to: leader))
            } else {
                effects.proposals.append(.refused(.notLeader(hint: leader)))
            }
            return
        }
        if let refusal = appendProposals(payloads) {
            effects.proposals.append(.refused(refusal))
        } else {
            effects.proposals.append(
                .appended(index: log.last.advanced(by: 1 - payloads.count), term: term))
        }
    }

    /// Appends the payloads as one entry each, or refuses all.
    mutating func appendProposals(_ payloads: [[UInt8]]) -> ProposalRefusal? {
        if transferTarget != nil { return .transferringLeadership }
        if isStorageStalled { return .storageStalled }
        var bytes = 0
        for payload in payloads {
            if payload.count > settings.proposalBytesMax { return .tooLarge }
            bytes += payload.count + Entry.overheadBytes
        }
        // At least one always passes, however large.
        if uncommittedBytes > 0 && uncommittedBytes + bytes > settings.uncommittedBytesMax {
            return .tooMuchUncommitted
        }
        for payload in payloads { appendOwn(.command(payload)) }
        isBroadcastOwed = true
        return nil
    }

    mutating func appendOwn(_ content: EntryContent) {
        let entry = Entry(index: log.last.next, term: term, after: log.lastChain, content: content)
        log.append(entry)
        uncommittedBytes += entry.byteCount
        appendedFrom = min(appendedFrom ?? entry.index, entry.index)
        if mutated(.leaderCountsUnsyncedEntries), let i = configuration.position(of: peer.replica), i < progress.count {
            progress[i].match = log.last
        }
    }

    // MARK: Sending

    mutating func broadcast(_ now: Instant, _ effects: inout Effects) {
        for i in 0..<progress.count where progress[i].member.peer != peer {
            sendAppends(to: i, isForced: false, now, &effects)
        }
    }

    /// Tells a follower that just appeared, or came back, who leads and how far.
    mutating func greet(_ i: Int, _ now: Instant, _ effects: inout Effects) {
        if progress[i].state == .snapshot { return }
        progress[i].becomeProbe(next: min(progress[i].next, log.last.next))
        progress[i].commitKnown = .zero
        sendAppends(to: i, isForced: true, now, &effects)
    }

    /// Sends what the follower's state and window allow. `isForced` sends an empty append when there is nothing else.
    mutating func sendAppends(to i: Int, isForced: Bool, _ now: Instant, _ effects: inout Effects) {
        guard !isSuspected(progress[i].member.peer.node), progress[i].state != .snapshot, !progress[i].isFetching else {
            return
        }
        var mustSend = isForced
        while true {
            let isProbing = progress[i].state == .probe
            if isProbing && progress[i].isProbeOutstanding { return }
            let next = progress[i].next
            let previous = next.previous
            if previous < log.base.index {
                progress[i].becomeSnapshot()
                effects.snapshots.append(progress[i].member.peer)
                return
            }
            if next > log.last {
                let isCommitNews = commit > progress[i].commitKnown && commit > progress[i].commitSent
                let isWindowEmpty = progress[i].inflight.isEmpty
                guard mustSend || isProbing || (isCommitNews && isWindowEmpty) else { return }
                emitAppend(to: i, previous, [], now, &effects)
                return
            }
            if progress[i].isWindowFull(settings) { return }
            if next < log.firstCached {
                progress[i].isFetching = true
                effects.fetches.append(
                    Fetch(
                        peer: progress[i].member.peer, from: next, through: log.firstCached.previous,
                        bytesMax: settings.appendBytesMax))
                return
            }
            let entries = log.entries(
                from: next, bytesMax: settings.appendBytesMax, countMax: settings.appendEntriesMax)
            emitAppend(to: i, previous, entries, now, &effects)
            mustSend = false
        }
    }

    private mutating func emitAppend(
        to i: Int, _ previous: LogIndex, _ entries: [Entry], _ now: Instant, _ effects: inout Effects
    ) {
        guard let previousTerm = log.term(at: previous) else { preconditionFailure("no term at \(previous)") }
        let lastSent = previous.advanced(by: entries.count)
        // Never above what this message makes the follower match, and never below the configuration entry before
        // one that it carries: both lie at or below `lastSent`.
        let sentCommit = min(commit, lastSent)
        let append = Append(
            previousIndex: previous, previousTerm: previousTerm, previousChain: log.chain(at: previous) ?? 0,
            commit: sentCommit, entries: entries)
        let to = progress[i].member.peer
        effects.messages.append(message(to: to, .append(append)))
        progress[i].commitSent = sentCommit
        if progress[i].state == .probe {
            progress[i].isProbeOutstanding = true
        } else if !entries.isEmpty {
            var bytes = 0
            for entry in entries { bytes += entry.byteCount }
            progress[i].inflight.append(.init(last: lastSent, bytes: bytes))
            progress[i].inflightBytes += bytes
            progress[i].next = lastSent.next
        }
        if progress[i].retryAt == nil { progress[i].retryAt = now + settings.suspicion * progress[i].retryFactor }
    }

    /// No answer in time: whatever was under way counts as lost, and one probe finds out where the follower stands.
    mutating func repeatAppend(to i: Int, _ now: Instant, _ effects: inout Effects) {
        progress[i].retryAt = nil
        guard progress[i].member.peer != peer, !isSuspected(progress[i].member.peer.node) else { return }
        guard progress[i].state != .snapshot, !progress[i].isFetching else { return }
        if mutated(.fullWindowNeverProbes) && progress[i].isWindowFull(settings) { return }
        let isOwed =
            progress[i].isProbeOutstanding || !progress[i].inflight.isEmpty || progress[i].commitKnown < commit
            || progress[i].next <= log.last
        guard isOwed else { return }
        progress[i].retryFactor = min(progress[i].retryFactor * 2, 8)
        // What a new leader does not know of a follower yet is no reason to begin at the start of the log.
        progress[i].becomeProbe(next: progress[i].state == .probe ? progress[i].next : progress[i].match.next)
        sendAppends(to: i, isForced: true, now, &effects)
    }

    mutating func fetched(
        _ replica: ReplicaID, _ entries: [Entry], _ previousChain: UInt64, _ now: Instant, _ effects: inout Effects
    ) {
        guard phase == .leader, let i = configuration.position(of: replica), progress[i].isFetching else { return }
        guard let first = entries.first else { return fetchFailed(replica, &effects) }
        progress[i].isFetching = false
        guard progress[i].state != .snapshot else { return }
        guard first.index == progress[i].next else {
            // The follower moved on while the disk was read.
            return sendAppends(to: i, isForced: false, now, &effects)
        }
        let previous = first.index.previous
        guard previous >= log.base.index, let previousTerm = log.term(at: previous) else {
            return sendAppends(to: i, isForced: false, now, &effects)
        }
        // What was read must be this log's: the disk is outside.
        for entry in entries where log.term(at: entry.index) != entry.term {
            return stop(divergedAt: entry.index, &effects)
        }
        let lastSent = previous.advanced(by: entries.count)
        effects.messages.append(
            message(
                to: progress[i].member.peer,
                .append(
                    Append(
                        previousIndex: previous, previousTerm: previousTerm,
                        previousChain: previous == .zero ? 0 : (log.chain(at: previous) ?? previousChain),
                        commit: min(commit, lastSent), entries: entries))))
        progress[i].commitSent = min(commit, lastSent)
        var bytes = 0
        for entry in entries { bytes += entry.byteCount }
        if progress[i].state == .probe {
            progress[i].isProbeOutstanding = true
        } else {
            progress[i].inflight.append(.init(last: lastSent, bytes: bytes))
            progress[i].inflightBytes += bytes
            progress[i].next = lastSent.next
        }
        if progress[i].retryAt == nil { progress[i].retryAt = now + settings.suspicion * progress[i].retryFactor }
        if progress[i].state == .replicate { sendAppends(to: i, isForced: false, now, &effects) }
    }

    mutating func fetchFailed(_ replica: ReplicaID, _ effects: inout Effects) {
        guard phase == .leader, let i = configuration.position(of: replica), progress[i].isFetching else { return }
        progress[i].becomeSnapshot()
        effects.snapshots.append(progress[i].member.peer)
    }

    // MARK: Answers

    mutating func receiveAppendAnswer(
        _ message: Message, _ answer: AppendAnswer, _ now: Instant, _ effects: inout Effects
    ) {
        guard phase == .leader, let i = configuration.position(of: message.from.replica), message.from != peer else {
            return
        }
        progress[i].heardAt = now
        switch answer.verdict {
        case .accepted(let match): accepted(i, match, answer.commit, now, &effects)
        case .rejected(let previous, let hintIndex, let hintTerm):
            rejected(i, previous, hintIndex, hintTerm, now, &effects)
        }
    }

    private mutating func accepted(
        _ i: Int, _ match: LogIndex, _ followerCommit: LogIndex, _ now: Instant, _ effects: inout Effects
    ) {
        if match > log.last {
            if mutated(.staleAnswerRaisesMatch) {
                progress[i].match = log.last
                return advanceLeaderCommit(now, &effects)
            }
            effects.events.append(.malformed(from: progress[i].member.peer, .matchBeyondLog))
            return
        }
        let replica = progress[i].member.peer.replica
        let isNews = progress[i].accept(match)
        progress[i].commitKnown = max(progress[i].commitKnown, followerCommit)
        switch progress[i].state {
        case .probe:
            if mutated(.snapshotLeavesFollowerPaused) && progress[i].isProbeOutstanding && match <= log.base.index
                && log.base.index > .zero
            {
                return
            }
            progress[i].becomeReplicate()
        case .snapshot where progress[i].match >= log.base.index && progress[i].match > .zero:
            // Whatever lets replication go on ends the snapshot, its own acknowledgement or not (etcd #10308).
            if mutated(.snapshotLeavesFollowerPaused) {
                progress[i].becomeProbe(next: progress[i].next)
                progress[i].isProbeOutstanding = true
                return
            } else {
                progress[i].becomeReplicate()
            }
        default: break
        }
        let isOwed = !progress[i].inflight.isEmpty || progress[i].commitKnown < commit || progress[i].isProbeOutstanding
        progress[i].retryAt = isOwed ? now + settings.suspicion * progress[i].retryFactor : nil
        if isNews { advanceLeaderCommit(now, &effects) }
        // The commit may have put another configuration into force.
        guard phase == .leader, let at = configuration.position(of: replica) else { return }
        watchPromotion(at, now)
        sendAppends(to: at, isForced: false, now, &effects)
        if transferTarget == progress[at].member.peer.replica { offerLeadership(to: at, &effects) }
    }

    private mutating func rejected(
        _ i: Int, _ previous: LogIndex, _ hintIndex: LogIndex, _ hintTerm: Term, _ now: Instant,
        _ effects: inout Effects
    ) {
        switch progress[i].state {
        case .snapshot: return
        case .probe:
            // An answer to an older probe says nothing new.
            if previous != progress[i].next.previous { return }
            // It said before that it holds this. Asked again by the timer, not as fast as the wire carries it.
            if previous <= progress[i].match { return }
        case .replicate:
            if previous <= progress[i].match { return }
        }
        // Skip whole terms at once: the follower's log can't match above an index whose term ours never had.
        let candidate = log.lastIndex(upTo: min(hintIndex, previous.previous), termAtMost: hintTerm)
        progress[i].becomeProbe(next: candidate.next)
        progress[i].retryAt = nil
        sendAppends(to: i, isForced: true, now, &effects)
    }

    // MARK: Committing

    /// Counts this replica's own durable entries. Returns whether that was news.
    mutating func countOwnLog(_ now: Instant) -> Bool {
        guard let i = configuration.position(of: peer.replica) else { return false }
        progress[i].heardAt = now
        return progress[i].accept(durable)
    }

    /// The highest index that a majority holds, of each half of a joint configuration. Computed naively every time: the
    /// clever trackers of others were release bugs (openraft #1802). The value is of the progress alone: a closure that
    /// looks at the replica costs a copy of all of it.
    func quorumValue(_ value: (borrowing Progress) -> UInt64) -> UInt64 {
        if mutated(.quorumTrackerUnsorted) {
            let voters = progress.indices.filter { progress[$0].member.role.isVoting }
            return voters.isEmpty ? 0 : value(progress[voters[voters.count / 2]])
        }
        let new = majorityValue(ofNewHalf: true, value)
        if mutated(.jointCommitByNewHalfOnly) { return new }
        return min(new, majorityValue(ofNewHalf: false, value))
    }

    private func majorityValue(ofNewHalf isNew: Bool, _ value: (borrowing Progress) -> UInt64) -> UInt64 {
        func counts(_ i: Int) -> Bool {
            isNew ? progress[i].member.role.votesInNewHalf : progress[i].member.role.votesInOldHalf
        }
        var voters = 0
        for i in 0..<progress.count where counts(i) { voters += 1 }
        let needed = mutated(.quorumOffByOne) ? max(1, voters / 2) : voters / 2 + 1
        var best: UInt64 = 0
        for i in 0..<progress.count where counts(i) {
            let bound = value(progress[i])
            if bound <= best { continue }
            var holders = 0
            for k in 0..<progress.count where counts(k) && value(progress[k]) >= bound { holders += 1 }
            if holders >= needed { best = bound }
        }
        return best
    }

    mutating func advanceLeaderCommit(_ now: Instant, _ effects: inout Effects) {
        while phase == .leader {
            var index = LogIndex(quorumValue { $0.match.rawValue })
            if mutated(.removedLeaderCountsItself), configuration.position(of: peer.replica) == nil { index = log.last }
            // Only entries of the own term are committed by counting (Raft §5.4.2, figure 8).
            guard index > commit, log.term(at: index) == term || mutated(.oldTermCommittedByCounting) else { break }
            // One configuration at a time: what follows it is counted by the new majorities.
            var target = index
            for entry in log.configurations where entry.index > commit && entry.index < target { target = entry.index }
            if log.term(at: target) != term { target = index }
            let previous = commit
            advanceCommit(to: target, &effects)
            subtractCommitted(after: previous)
            isBroadcastOwed = true
            leaveJointIfDue(now, &effects)
        }
        // Reads that came before an entry of the own term was committed.
        advanceReads(now, &effects)
    }

    private mutating func subtractCommitted(after previous: LogIndex) {
        guard phase == .leader else { return }
        var index = previous.next
        while index <= commit && uncommittedBytes > 0 {
            uncommittedBytes -= log.entry(at: index)?.byteCount ?? 0
            index = index.next
        }
        if commit == log.last { uncommittedBytes = 0 }
        uncommittedBytes = max(0, uncommittedBytes)
    }

    /// Takes in that everything up to `index` is committed, and puts configurations among it into force.
    mutating func advanceCommit(to index: LogIndex, _ effects: inout Effects) {
        precondition(index <= log.last, "commit \(index) lies beyond the log's last \(log.last)")
        commit = max(commit, index)
        for entry in log.configurations where entry.index > configurationIndex && entry.index <= commit {
            if case .configuration(let configuration) = entry.content {
                apply(configuration, at: entry.index, &effects)
            }
        }
    }
}
