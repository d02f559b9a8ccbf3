import ClusterBase

// What comes in: whose term it belongs to, and a follower's log.

extension Message.Body {
    /// Whether only a replica that has seen a term sends this. Answers come from fresh replicas too, in term zero.
    var needsTerm: Bool {
        switch self {
        case .preVote, .vote, .append, .confirmLeadership, .campaignNow: true
        default: false
        }
    }
}

extension Raft {
    // MARK: Receiving

    mutating func receive(_ message: Message, _ now: Instant, _ effects: inout Effects) {
        if message.epoch > epoch && isBlank && !mutated(.newReplicaFencedByRecovery) {
            // It has no epoch of its own: it is of the group that asks it in. What it gets to read there may be of older ones,
            // so that it is of this one is written down with the log's base.
            log.adopt(message.epoch)
            baseToWrite = log.base
        }
        guard message.epoch == epoch else {
            return receiveFromOtherEpoch(message, now, &effects)
        }
        if isFenced {
            // Neither its vote nor its acknowledgement may help a history that its group has left.
            effects.events.append(.ignoredStaleEpoch(from: message.from, epoch: message.epoch))
            return
        }
        if message.term.rawValue == 0 && message.body.needsTerm {
            effects.events.append(.malformed(from: message.from, .termZero))
            return
        }
        switch message.body {
        case .preVote(let request):
            forgetCampaigningLeader(message, now, &effects)
            return receivePreVote(message, request, now, &effects)
        case .vote(let request):
            forgetCampaigningLeader(message, now, &effects)
            if message.term >= term { return receiveVote(message, request, now, &effects) }
        case .preVoteAnswer(let answer):
            if !answer.isGranted && message.term > term { becomeFollower(message.term, leader: nil, now, &effects) }
            return receivePreVoteAnswer(message, answer, now, &effects)
        case .voteAnswer(let answer):
            if message.term > term { becomeFollower(message.term, leader: nil, now, &effects) }
            return receiveVoteAnswer(message, answer, now, &effects)
        case .append, .confirmLeadership, .campaignNow:
            if message.term >= term { return receiveFromLeader(message, now, &effects) }
        case .appendAnswer(let answer):
            if message.term > term { return becomeFollower(message.term, leader: nil, now, &effects) }
            if message.term == term || mutated(.staleAnswerRaisesMatch) {
                return receiveAppendAnswer(message, answer, now, &effects)
            }
        case .leadershipConfirmed(let round):
            if message.term > term { return becomeFollower(message.term, leader: nil, now, &effects) }
            if message.term == term { return leadershipConfirmed(message.from, round, now, &effects) }
        case .readRequest(let context):
            return receiveReadRequest(message, context, now, &effects)
        case .readAnswer(let context, let index):
            return receiveReadAnswer(context, index, now, &effects)
        case .forward(let payloads):
            // Refusals are silent: the client behind it retries by its session.
            if phase == .leader { _ = appendProposals(payloads) }
            return
        case .stale:
            // Only a member's word deposes a leader.
            if message.term > term && configuration.member(message.from.replica) != nil {
                becomeFollower(message.term, leader: nil, now, &effects)
            }
            return
        }
        // A request of an older term. Its sender must hear of ours, or a deposed leader, or a candidate behind in its
        // terms, would go on for ever (etcd's stuck candidate).
        effects.events.append(.ignoredStaleTerm(from: message.from, term: message.term))
        switch message.body {
        case .append, .confirmLeadership, .vote: sendDurable(self.message(to: message.from, .stale))
        default: break
        }
    }

    private mutating func receiveFromOtherEpoch(_ message: Message, _ now: Instant, _ effects: inout Effects) {
        if message.epoch < epoch {
            effects.events.append(.ignoredStaleEpoch(from: message.from, epoch: message.epoch))
            if case .stale = message.body { return }
            sendDurable(self.message(to: message.from, .stale))
        } else if !isFenced {
            // The group was recovered by force without this replica. What it holds may not be what the group holds.
            isFenced = true
            effects.events.append(.fencedOff(by: message.from, epoch: message.epoch))
            becomeFollower(term, leader: nil, now, &effects)
            failWaitingReads(&effects)
            electionDeadline = nil
        }
    }

    private mutating func receiveFromLeader(_ message: Message, _ now: Instant, _ effects: inout Effects) {
        if case .campaignNow = message.body {
            if message.term > term { becomeFollower(message.term, leader: message.from, now, &effects) }
            return receiveCampaignNow(message, now, &effects)
        }
        if phase == .leader && message.term == term {
            effects.events.append(.malformed(from: message.from, .twoLeadersInOneTerm))
            return
        }
        if message.term > term || phase != .follower || leader != message.from {
            becomeFollower(message.term, leader: message.from, now, &effects)
        }
        // Its beats may be late, but it speaks.
        if isSuspected(message.from.node) { restartElectionTimer(now) }
        switch message.body {
        case .append(let append): receiveAppend(message, append, &effects)
        case .confirmLeadership(let round):
            sendDurable(self.message(to: message.from, .leadershipConfirmed(round: round)))
        default: break
        }
    }

    // MARK: Following

    private mutating func receiveAppend(_ message: Message, _ append: Append, _ effects: inout Effects) {
        if let problem = malformation(of: append, term: message.term) {
            effects.events.append(.malformed(from: message.from, problem))
            return
        }
        let lastNew = append.previousIndex.advanced(by: append.entries.count)
        if mutated(.truncatesBelowCommit), lastNew < log.last, lastNew >= log.base.index, log.chain(at: lastNew) != nil
        {
            commit = min(commit, lastNew)
            log.truncate(after: lastNew)
            durable = min(durable, lastNew)
            appendedFrom = lastNew.next
        }
        if lastNew <= commit {
            // All of it is committed here already, so a current leader's log must hold the same.
            let lastNewTerm = append.entries.last?.term ?? append.previousTerm
            if let own = log.term(at: lastNew), own != lastNewTerm { return stop(divergedAt: lastNew, &effects) }
            return answerAccepted(message.from, commit)
        }
        if append.previousIndex >= log.base.index {
            guard log.term(at: append.previousIndex) == append.previousTerm else {
                return answerRejected(message.from, append)
            }
            if append.previousChain != 0, let own = log.chain(at: append.previousIndex), own != append.previousChain {
                return stop(divergedAt: append.previousIndex, &effects)
            }
        }
        guard takeEntries(append, message.from, &effects) else { return }
        let matching = mutated(.commitBeyondMatch) ? log.last : lastNew
        let newCommit = min(append.commit, matching, log.last)
        if newCommit > commit { advanceCommit(to: newCommit, &effects) }
        answerAccepted(message.from, lastNew)
    }

    /// Appends what is new, cutting the log only at a real conflict (Raft §5.3). False if it was refused.
    private mutating func takeEntries(_ append: Append, _ from: Peer, _ effects: inout Effects) -> Bool {
        var position = 0
        if mutated(.truncatesWithoutConflict), log.last > append.previousIndex, append.previousIndex >= commit {
            log.truncate(after: append.previousIndex)
            durable = min(durable, append.previousIndex)
            appendedFrom = min(appendedFrom ?? append.previousIndex.next, append.previousIndex.next)
        }
        while position < append.entries.count {
            let entry = append.entries[position]
            if entry.index > log.last { break }
            if entry.index > log.base.index && log.term(at: entry.index) != entry.term { break }
            if let own = log.chain(at: entry.index), own != entry.chain, entry.index > log.base.index {
                stop(divergedAt: entry.index, &effects)
                return false
            }
            position += 1
        }
        if position == append.entries.count { return true }
        let first = append.entries[position]
        if first.index <= commit {
            // A leader that lacks what is committed here: one of the two logs is wrong.
            stop(divergedAt: first.index, &effects)
            return false
        }
        // The append rule: an entry that changes the configuration may only follow one that is known to be committed.
        var lastChange = log.configurations.last { $0.index < first.index }?.index ?? log.base.index
        for i in position..<append.entries.count {
            guard case .configuration = append.entries[i].content else { continue }
            if lastChange > max(append.commit, commit) && !mutated(.twoChangesInFlight)
                && !mutated(.leavesUncommittedJoint)
            {
                effects.events.append(.malformed(from: from, .configurationWithoutCommit))
                return false
            }
            lastChange = append.entries[i].index
        }
        if first.index <= log.last {
            log.truncate(after: first.index.previous)
            logWasCut(after: first.index.previous)
        }
        for i in position..<append.entries.count { log.append(append.entries[i]) }
        appendedFrom = min(appendedFrom ?? first.index, first.index)
        return true
    }

    /// What no correct leader sends. Checked in full before anything is changed.
    private func malformation(of append: Append, term: Term) -> MalformedMessage? {
        var index = append.previousIndex
        var entryTerm = append.previousTerm
        var chain = append.previousChain
        // The own chain stands in for one that the leader does not hold any more, but only at an entry both have: where
        // the logs differ this append is no breach, and is refused so that the leader tries further down.
        if chain == 0 && index > .zero && log.term(at: index) == entryTerm { chain = log.chain(at: index) ?? 0 }
        let isChainKnown = chain != 0 || index == .zero
        for i in 0..<append.entries.count {
            let entry = append.entries[i]
            if entry.index != index.next { return .entriesNotContiguous }
            if entry.term < entryTerm { return .entryTermDecreases }
            if entry.term > term { return .entryTermAboveMessageTerm }
            if isChainKnown || i > 0 {
                let expected = Entry.chain(after: chain, index: entry.index, term: entry.term, content: entry.content)
                if expected != entry.chain { return .chainBroken }
            }
            index = entry.index
            entryTerm = entry.term
            chain = entry.chain
        }
        return nil
    }

    private mutating func answerAccepted(_ leader: Peer, _ match: LogIndex) {
        // Waits for every write issued so far: all of the prefix must be durable, not only this message's part.
        sendDurable(message(to: leader, .appendAnswer(AppendAnswer(verdict: .accepted(match: match), commit: commit))))
    }

    private mutating func answerRejected(_ leader: Peer, _ append: Append) {
        let hint = log.lastIndex(upTo: append.previousIndex, termAtMost: append.previousTerm)
        let verdict = AppendAnswer.Verdict.rejected(
            previousIndex: append.previousIndex, hintIndex: hint, hintTerm: log.term(at: hint) ?? .zero)
        sendDurable(message(to: leader, .appendAnswer(AppendAnswer(verdict: verdict, commit: commit))))
    }

    /// Two logs differ where they must not. Going on would serve one of two histories, so this replica stops.
    mutating func stop(divergedAt index: LogIndex, _ effects: inout Effects) {
        isStopped = true
        effects.events.append(.diverged(at: index))
        leaveOffice()
        endTransfer(succeeded: false, &effects)
        phase = .follower
        leader = nil
        electionDeadline = nil
        isBroadcastOwed = false
        failReads(&effects)
        for read in reads.waiting {
            effects.reads.append(ReadOutcome(ticket: read.ticket, verdict: .refused(hint: nil)))
        }
        reads.waiting.removeAll()
    }
}
