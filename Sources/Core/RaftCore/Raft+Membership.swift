import ClusterBase

// Members: joint consensus with apply-time configurations.
//
// A configuration takes effect on a replica when its entry is known to be committed there. That is safe because
//  * the leader appends no change while an earlier one is not committed, nor before an entry of its own term is;
//  * an append that carries configuration k+1 carries a commit of at least k, and a follower stores both together:
//    whoever holds k+1 uses at least k, so any two replicas' majorities belong to neighbouring configurations;
//  * neighbours differ by one voter, or by entering or leaving a joint configuration, and so always intersect.

extension Raft {
    mutating func changeMembership(_ steps: [MembershipStep], _ now: Instant, _ effects: inout Effects) {
        switch plannedConfiguration(steps) {
        case .failure(let refusal):
            effects.events.append(.membershipRefused(refusal))
        case .success(let next):
            appendOwn(.configuration(next))
            isBroadcastOwed = true
            effects.events.append(.membershipProposed(index: log.last))
        }
    }

    private func plannedConfiguration(_ steps: [MembershipStep]) -> Result<Configuration, MembershipRefusal> {
        guard phase == .leader else { return .failure(.notLeader(hint: leader)) }
        if !hasCommittedInTerm && !mutated(.changeBeforeOwnTermCommit) { return .failure(.termNotCommitted) }
        if !mutated(.twoChangesInFlight) {
            if let entry = log.configurations.last, entry.index > commit { return .failure(.changeInFlight) }
            if configuration.isJoint { return .failure(.changeInFlight) }
        }
        switch configuration.applying(steps) {
        case .failure(let refusal): return .failure(refusal)
        case .success(let next):
            if next == configuration { return .failure(.nothingToChange) }
            // Waiting can mend a leader without a quorum; a change that takes the quorum away can't be taken back.
            if !isQuorumAlive(in: next) { return .failure(.wouldLoseQuorum) }
            return .success(next)
        }
    }

    private func isQuorumAlive(in next: Configuration) -> Bool {
        var old = 0
        var oldAlive = 0
        var new = 0
        var newAlive = 0
        for member in next.members where member.role.isVoting {
            let isAlive = !isSuspected(member.peer.node)
            if member.role.votesInOldHalf {
                old += 1
                oldAlive += isAlive ? 1 : 0
            }
            if member.role.votesInNewHalf {
                new += 1
                newAlive += isAlive ? 1 : 0
            }
        }
        return oldAlive > old / 2 && newAlive > new / 2
    }

    mutating func apply(_ next: Configuration, at index: LogIndex, _ effects: inout Effects) {
        #if MUTANTS
        previousConfiguration = configuration
        #endif
        if !next.isNeighbour(of: configuration) {
            fail(29, "\(next.described) at \(index) does not follow \(configuration.described)")
        }
        configuration = next
        configurationIndex = index
        // A change counts from its commit on, so the commit must not be forgotten: after a restart this replica would go by the
        // members before, of whom one may be gone by then, and a group with nothing to write would never learn better.
        if !mutated(.configurationCommitNotWritten) { isHardStateDirty = true }
        effects.events.append(.configurationApplied(index: index, next))
        guard phase == .leader else { return }
        heardOfMembersAfter = log.last
        var kept: [Progress] = []
        kept.reserveCapacity(next.members.count)
        for member in next.members {
            if let i = progress.firstIndex(where: { $0.member.peer == member.peer }) {
                var known = progress[i]
                known.member = member
                kept.append(known)
            } else {
                // Nothing is known of it; the first probe tells it who leads.
                kept.append(Progress(member: member, next: log.last.next, now: .origin))
            }
        }
        // Those that leave hear that the change is committed, so that they need not find out by campaigning.
        for gone in progress where next.member(gone.member.peer.replica) == nil && gone.member.peer != peer {
            announceRemoval(to: gone, &effects)
        }
        progress = kept
        if let target = transferTarget, next.member(target)?.role.votesInNewHalf != true {
            endTransfer(succeeded: false, &effects)
        }
    }

    private func announceRemoval(to gone: Progress, _ effects: inout Effects) {
        guard gone.match >= log.base.index, let term = log.term(at: gone.match) else { return }
        guard gone.match.next >= log.firstCached else { return }
        let entries =
            gone.match == log.last
            ? [] : log.entries(from: gone.match.next, bytesMax: settings.appendBytesMax, countMax: 256)
        let lastSent = gone.match.advanced(by: entries.count)
        effects.messages.append(
            message(
                to: gone.member.peer,
                .append(
                    Append(
                        previousIndex: gone.match, previousTerm: term, previousChain: log.chain(at: gone.match) ?? 0,
                        commit: min(commit, lastSent), entries: entries))))
    }

    /// After every commit: a leader whose configuration is joint proposes to leave it, whoever entered it; one that
    /// is not a voter any more steps down.
    mutating func leaveJointIfDue(_ now: Instant, _ effects: inout Effects) {
        guard phase == .leader else { return }
        watchQuorum(now)
        if configuration.isJoint {
            let isPending = (log.configurations.last?.index ?? .zero) > commit
            if hasCommittedInTerm && !isPending { appendOwn(.configuration(configuration.leavingJoint())) }
            return
        }
        if configuration.member(peer.replica)?.role.isVoting == true { return }
        if mutated(.removedLeaderCountsItself) { return }
        // The change that removes this leader is committed. The best of those that stay goes on at once.
        broadcast(now, &effects)
        yieldAfterRemoval(now, &effects)
    }

    private mutating func yieldAfterRemoval(_ now: Instant, _ effects: inout Effects) {
        var best: Int?
        for i in 0..<progress.count where progress[i].member.role.votesInNewHalf {
            if isSuspected(progress[i].member.peer.node) { continue }
            if let known = best, progress[known].match >= progress[i].match { continue }
            best = i
        }
        if let best { effects.messages.append(message(to: progress[best].member.peer, .campaignNow)) }
        effects.events.append(.steppedDown(term: term, reason: .removed))
        becomeFollower(term, leader: nil, now, &effects)
        electionDeadline = nil
    }

    // MARK: Learners

    /// Notes since when a learner has kept up.
    mutating func watchPromotion(_ i: Int, _ now: Instant) {
        guard progress[i].member.role == .learner, progress[i].member.promotesItself else { return }
        let isNear = log.last - progress[i].match <= settings.promotionLagMax
        if !isNear {
            progress[i].caughtUpSince = nil
        } else if progress[i].caughtUpSince == nil {
            progress[i].caughtUpSince = now
            let due = now + settings.promotionStability
            promotionDeadline = min(promotionDeadline ?? due, due)
        }
    }

    /// Makes voters of all learners that have kept up for long enough, together.
    mutating func promoteLearners(_ now: Instant, _ effects: inout Effects) {
        promotionDeadline = nil
        var steps: [MembershipStep] = []
        for i in 0..<progress.count {
            guard let since = progress[i].caughtUpSince, progress[i].member.role == .learner else { continue }
            if log.last - progress[i].match > settings.promotionLagMax {
                progress[i].caughtUpSince = nil
            } else if now >= since + settings.promotionStability {
                steps.append(.promote(progress[i].member.peer.replica))
            } else {
                let due = since + settings.promotionStability
                promotionDeadline = min(promotionDeadline ?? due, due)
            }
        }
        guard !steps.isEmpty else { return }
        changeMembership(steps, now, &effects)
        // Refused, or overtaken by another leader's change: look again later.
        let later = now + max(settings.promotionStability, settings.suspicion)
        promotionDeadline = min(promotionDeadline ?? later, later)
    }

    // MARK: Lost quorum

    /// This replica alone goes on under the next epoch, with what it holds. All others come back under new ids.
    mutating func forceRecovery(_ now: Instant, _ effects: inout Effects) {
        let mark = RecoveryMark(possibleLossAfter: commit, term: term)
        let own = configuration.member(peer.replica)
        let member = Member(peer: peer, role: .voter, priority: own?.priority ?? 0)
        // Ids of changes that this replica does not know to be committed are given out all the same.
        var highest = configuration.replicaHighest
        for entry in log.configurations {
            if case .configuration(let known) = entry.content { highest = max(highest, known.replicaHighest) }
        }
        let next = Configuration(members: [member], epoch: epoch.next, replicaHighest: highest, recovery: mark)
        becomeFollower(term.next, leader: nil, now, &effects)
        failWaitingReads(&effects)
        votedFor = peer.replica
        isHardStateDirty = true
        isFenced = false
        // What it holds becomes the group's history, committed or not; the operator has accepted that.
        appendOwn(.configuration(next))
        advanceCommit(to: log.last, &effects)
        effects.events.append(.recoveryForced(mark))
        // Nobody else votes, so there is nobody to wait for.
        electionDeadline = now
    }
}

extension Configuration {
    /// The configuration that these steps lead to: joint, unless no more than one voter changes.
    func applying(_ steps: [MembershipStep]) -> Result<Configuration, MembershipRefusal> {
        var next = members
        var highest = replicaHighest
        func position(_ replica: ReplicaID) -> Int? { next.firstIndex { $0.peer.replica == replica } }
        for step in steps {
            switch step {
            case .addLearner(let peer, _, _), .addVoter(let peer, _):
                if peer.replica <= highest { return .failure(.replicaIDReused(peer.replica)) }
                if next.contains(where: { $0.peer.node == peer.node && $0.role != .leaving }) {
                    return .failure(.nodeHasReplica(peer.node))
                }
                highest = peer.replica
                if case .addLearner(_, let promotesItself, let priority) = step {
                    next.append(Member(peer: peer, role: .learner, promotesItself: promotesItself, priority: priority))
                } else if case .addVoter(_, let priority) = step {
                    next.append(Member(peer: peer, role: .entering, priority: priority))
                }
            case .promote(let replica):
                guard let i = position(replica) else { return .failure(.unknownReplica(replica)) }
                switch next[i].role {
                case .learner: next[i].role = .entering
                case .demoting: next[i].role = .voter
                default: break
                }
            case .demote(let replica):
                guard let i = position(replica) else { return .failure(.unknownReplica(replica)) }
                switch next[i].role {
                case .voter: next[i].role = .demoting
                case .entering: next[i].role = .learner
                default: break
                }
            case .remove(let replica):
                guard let i = position(replica) else { return .failure(.unknownReplica(replica)) }
                // Who never voted does not vote on leaving either.
                if next[i].role == .learner || next[i].role == .entering {
                    next.remove(at: i)
                } else {
                    next[i].role = .leaving
                }
            }
        }
        if next.count > Configuration.membersMax { return .failure(.tooManyMembers) }
        if !next.contains(where: { $0.role.votesInNewHalf }) { return .failure(.noVoterLeft) }
        let joint = Configuration(members: next, epoch: epoch, replicaHighest: highest, recovery: recovery)
        let changed = next.count { $0.role.rawValue >= Role.entering.rawValue }
        // Majorities of two configurations that differ by one voter intersect: no joint step is needed.
        return .success(changed <= 1 ? joint.leavingJoint() : joint)
    }

    /// Whether every majority of the one meets every majority of the other: they differ by one voter, or by entering or leaving
    /// a joint configuration. A forced recovery and a replica that knew no members yet are outside of the rule.
    func isNeighbour(of previous: Configuration) -> Bool {
        if previous.members.isEmpty || epoch != previous.epoch { return true }
        let before = previous.voters(\.votesInNewHalf)
        if isJoint { return !previous.isJoint && voters(\.votesInOldHalf) == before }
        let after = voters(\.votesInNewHalf)
        if previous.isJoint { return after == before }
        let joined = after.count { !before.contains($0) }
        let left = before.count { !after.contains($0) }
        return joined + left <= 1
    }

    private func voters(_ half: KeyPath<Role, Bool>) -> [ReplicaID] {
        var found: [ReplicaID] = []
        for member in members where member.role[keyPath: half] { found.append(member.peer.replica) }
        return found
    }

    var described: String {
        members.map { "\($0.peer.replica) \($0.role)" }.joined(separator: ", ")
    }

    /// The configuration that a joint one leads to.
    func leavingJoint() -> Configuration {
        var next: [Member] = []
        for member in members where member.role != .leaving {
            var settled = member
            switch member.role {
            case .entering:
                settled.role = .voter
                settled.promotesItself = false
            case .demoting: settled.role = .learner
            default: break
            }
            next.append(settled)
        }
        return Configuration(members: next, epoch: epoch, replicaHighest: replicaHighest, recovery: recovery)
    }
}
