import ClusterBase

// Elections: pre-vote, vote, doubt, transfer.

extension Raft {
    /// Whether this replica may ask for votes.
    package var mayCampaign: Bool {
        guard !isStopped, !isFenced, !isStorageStalled, let member = configuration.member(peer.replica) else {
            return false
        }
        return member.role.isVoting
    }

    /// The configuration that a campaign is judged by.
    private var campaignConfiguration: Configuration {
        #if MUTANTS
        if settings.mutant == .campaignsWithUnappliedConfiguration, let previous = previousConfiguration {
            return previous
        }
        #endif
        return configuration
    }

    mutating func restartElectionTimer(_ now: Instant) {
        let base = settings.suspicion
        // Where votes take longer than this, on slow disks, the same candidates would meet again and again: each round that
        // failed makes the draw wider.
        electionDeadline = now + base + random.within(.zero...(base * max(1, campaignRounds))) + priorityDelay
    }

    /// A higher priority campaigns earlier. The handicap shrinks with every failed round, so that a low priority that
    /// is left alone is not kept waiting.
    private var priorityDelay: Nanoseconds {
        guard let own = configuration.member(peer.replica) else { return .zero }
        var best = own.priority
        for member in configuration.members where member.role.isVoting { best = max(best, member.priority) }
        let steps = min(Int64(best) - Int64(own.priority), 16)
        return settings.suspicion * steps / (4 * (campaignRounds + 1))
    }

    /// Doubt of the leader starts a campaign soon. The others doubt it at about the same time, so each has its turn; whoever
    /// asked in vain before is answered now, and goes first.
    private mutating func campaignSoon(after old: NodeID?, _ now: Instant) {
        let isAsked = grantLate(now)
        let step = settings.suspicion / 8
        let wait = step * (turn(after: old) + (isAsked ? 1 : 0))
        electionDeadline = now + wait + random.within(.zero...(step / 2)) + priorityDelay
    }

    /// This replica's place among those that may follow the leader of node `old`. It goes round with the term: many groups
    /// that lose one node are not all led by the same other one.
    private func turn(after old: NodeID?) -> Int64 {
        var place: UInt64 = 0
        var count: UInt64 = 0
        for member in configuration.members
        where member.role.isVoting && member.peer.node != old && !isSuspected(member.peer.node) {
            if member.peer == peer { place = count }
            count += 1
        }
        return count > 1 ? Int64((place + term.rawValue) % count) : 0
    }

    mutating func campaign(_ now: Instant, _ effects: inout Effects) {
        guard phase != .leader else { return }
        guard mayCampaign else {
            // A learner, or a replica that is removed or fenced, waits to be told.
            if phase != .follower { becomeFollower(term, leader: leader, now, &effects) }
            if configuration.member(peer.replica)?.role.isVoting == true && !isFenced { restartElectionTimer(now) }
            return
        }
        campaignRounds = min(campaignRounds + 1, 16)
        leader = nil
        phase = .preCandidate
        isTransferCampaign = false
        failReads(&effects)
        resetVotes()
        restartElectionTimer(now)
        askAgainAfter(settings.suspicion / 2, now)
        effects.events.append(.becamePreCandidate(term: term))
        if mutated(.voteClearedByPreCandidate) {
            votedFor = nil
            isHardStateDirty = true
        }
        for member in configuration.members where member.role.isVoting && member.peer != peer {
            effects.messages.append(preVote(to: member.peer))
        }
        tally(peer.replica, granted: true, now, &effects)
    }

    private func preVote(to other: Peer) -> Message {
        let request = VoteRequest(lastIndex: log.last, lastTerm: log.lastTerm, isTransfer: false)
        var message = message(to: other, .preVote(request))
        message.term = term.next
        return message
    }

    private mutating func askAgainAfter(_ wait: Nanoseconds, _ now: Instant) {
        askAgainWait = wait
        askAgainAt = now + wait
    }

    /// Asks those again who are alive and have not answered, ever less often, until the round is over: where every vote is
    /// needed, one lost message would cost a whole timeout.
    mutating func askAgain(_ now: Instant, _ effects: inout Effects) {
        // A leader waits for its heir no longer than that, and a request that is a leader's wish must not outlive the wish.
        let isLate = isTransferCampaign && askAgainWait >= settings.suspicion
        askAgainAfter(max(askAgainWait * 2, settings.suspicion / 2), now)
        if isLate { return }
        // The own vote is not durable yet, so the others have not been asked.
        if phase == .candidate, let own = configuration.position(of: peer.replica), votes[own] == 0 { return }
        let request = VoteRequest(lastIndex: log.last, lastTerm: log.lastTerm, isTransfer: isTransferCampaign)
        for i in configuration.members.indices where i < votes.count && votes[i] == 0 {
            let member = configuration.members[i]
            guard member.role.isVoting, member.peer != peer, !isSuspected(member.peer.node) else { continue }
            if phase == .preCandidate {
                effects.messages.append(preVote(to: member.peer))
            } else {
                sendDurable(message(to: member.peer, .vote(request)))
            }
        }
    }

    private mutating func resetVotes() {
        votes.removeAll(keepingCapacity: true)
        for _ in configuration.members { votes.append(0) }
        if mutated(.preVoteCountedAsVote), phase == .candidate, let own = configuration.position(of: peer.replica) {
            // The answers to the pre-vote stay counted.
            votes[own] = 1
            for i in 0..<votes.count where preVotesGranted.contains(configuration.members[i].peer.replica) {
                votes[i] = 1
            }
        }
    }

    private var preVotesGranted: [ReplicaID] {
        #if MUTANTS
        return mutantPreVotes
        #else
        return []
        #endif
    }

    private mutating func becomeCandidate(isTransfer: Bool, _ now: Instant, _ effects: inout Effects) {
        term = term.next
        votedFor = peer.replica
        isHardStateDirty = true
        leader = nil
        phase = .candidate
        isTransferCampaign = isTransfer
        // A campaign asked for by the leader comes without a pre-vote, which would have done this.
        failReads(&effects)
        resetVotes()
        restartElectionTimer(now)
        askAgainAfter(settings.suspicion / 2, now)
        effects.events.append(.becameCandidate(term: term))
        // The requests, like the own vote, count on a term that is durable.
        let request = VoteRequest(lastIndex: log.last, lastTerm: log.lastTerm, isTransfer: isTransfer)
        for member in campaignConfiguration.members where member.role.isVoting && member.peer != peer {
            sendDurable(message(to: member.peer, .vote(request)))
        }
    }

    /// Takes in one answer and acts on the count. A majority of each half of a joint configuration is needed.
    mutating func tally(_ replica: ReplicaID, granted: Bool, _ now: Instant, _ effects: inout Effects) {
        guard phase == .candidate || phase == .preCandidate else { return }
        if let i = configuration.position(of: replica), i < votes.count {
            // A pre-vote may be granted after it was refused, see `grantLate`.
            if votes[i] == 0 || (granted && phase == .preCandidate) { votes[i] = granted ? 1 : -1 }
        }
        guard hasMajority(votesGranted) else { return }
        if phase == .preCandidate {
            #if MUTANTS
            mutantPreVotes = configuration.members.indices.filter { votes[$0] > 0 }
                .map { configuration.members[$0].peer.replica }
            #endif
            becomeCandidate(isTransfer: false, now, &effects)
        } else {
            becomeLeader(now, &effects)
        }
    }

    private func votesGranted(_ i: Int) -> Bool { i < votes.count && votes[i] > 0 }

    /// Whether the members that satisfy `holds` are a majority of the configuration, of both halves if it is joint.
    func hasMajority(_ holds: (Int) -> Bool) -> Bool {
        let members = campaignConfigurationMembers
        var old = 0
        var oldHeld = 0
        var new = 0
        var newHeld = 0
        for i in 0..<members.count {
            let role = members[i].role
            guard role.isVoting else { continue }
            let isHeld = holds(i)
            if role.votesInOldHalf {
                old += 1
                if isHeld { oldHeld += 1 }
            }
            if role.votesInNewHalf {
                new += 1
                if isHeld { newHeld += 1 }
            }
        }
        return oldHeld > old / 2 && newHeld > new / 2
    }

    private var campaignConfigurationMembers: [Member] {
        #if MUTANTS
        if settings.mutant == .campaignsWithUnappliedConfiguration, phase != .leader,
            let previous = previousConfiguration
        {
            // Same positions as `votes`: members the old configuration did not have are left out of the count.
            return configuration.members.map { member in
                var old = member
                old.role = previous.member(member.peer.replica)?.role ?? .learner
                return old
            }
        }
        #endif
        return configuration.members
    }

    // MARK: Answering

    /// A candidate's log must be at least as up to date as ours (Raft §5.4.1).
    private func isUpToDate(_ request: VoteRequest) -> Bool {
        if mutated(.logsComparedByIndexFirst) { return request.lastIndex >= log.last }
        if request.lastTerm != log.lastTerm { return request.lastTerm > log.lastTerm }
        return request.lastIndex >= log.last
    }

    private func answer(_ campaignTerm: Term, isGranted: Bool) -> VoteAnswer {
        VoteAnswer(
            isGranted: isGranted, campaignTerm: campaignTerm,
            leader: isGranted || (!isLeader && isLeaderDoubted) ? nil : leader, commit: commit,
            commitTerm: log.term(at: commit) ?? .zero)
    }

    /// Takes in what a voter knows to be committed, if it is an entry of this log. A configuration among it changes who
    /// is to be asked: the campaign begins again.
    private mutating func learnCommit(of answer: VoteAnswer, _ now: Instant, _ effects: inout Effects) {
        guard phase == .preCandidate || phase == .candidate else { return }
        let isShared = log.term(at: answer.commit) == answer.commitTerm || mutated(.commitBeyondMatch)
        guard answer.commit > commit, isShared else { return }
        let known = configurationIndex
        advanceCommit(to: min(answer.commit, log.last), &effects)
        guard configurationIndex > known else { return }
        becomeFollower(term, leader: nil, now, &effects)
        electionDeadline = nil
        if mayCampaign { campaignSoon(after: nil, now) }
    }

    /// While the own leader is alive no other is wanted.
    private var wantsLeader: Bool { !isLeader && isLeaderDoubted }

    /// A pre-vote changes nothing here: no term, no vote, no timer (Raft thesis §9.6). So its answer waits for no write.
    mutating func receivePreVote(
        _ message: Message, _ request: VoteRequest, _ now: Instant, _ effects: inout Effects
    ) {
        let isKnown = !mutated(.refusesUnknownVoter) || configuration.member(message.from.replica) != nil
        let isGood = message.term > term && isUpToDate(request) && isKnown
        // Its sender doubts the leader a little earlier than this replica may.
        if isGood && !wantsLeader && !isLeader {
            askedInVain = AskedInVain(from: message.from, term: message.term, request: request, at: now)
        }
        let isGranted = isGood && wantsLeader && !goesBefore(message, request)
        effects.messages.append(
            self.message(to: message.from, .preVoteAnswer(answer(message.term, isGranted: isGranted))))
    }

    /// Of two equal ones that ask each other at the same time only one is granted it, else both would vote for themselves.
    /// While its own question is open, that is, and in a first round only: its words may be lost and the other's not.
    private func goesBefore(_ message: Message, _ request: VoteRequest) -> Bool {
        guard phase == .preCandidate, campaignRounds <= 1, message.term == term.next,
            peer.replica < message.from.replica, request.lastIndex == log.last, request.lastTerm == log.lastTerm,
            let i = configuration.position(of: message.from.replica)
        else { return false }
        return i < votes.count && votes[i] == 0
    }

    /// Grants now, that the leader is doubted here too, the pre-vote that was refused for the leader's sake. Whoever asked
    /// would ask again only after a whole timeout, and this replica's own log may be too short to win.
    private mutating func grantLate(_ now: Instant) -> Bool {
        guard let asked = askedInVain else { return false }
        askedInVain = nil
        guard now - asked.at <= settings.suspicion, asked.term == term.next, wantsLeader, !isFenced,
            isUpToDate(asked.request)
        else {
            return false
        }
        sendDurable(message(to: asked.from, .preVoteAnswer(answer(asked.term, isGranted: true))))
        return true
    }

    /// Judged by term and log alone, never by whether this replica's configuration knows the candidate (etcd #10998).
    mutating func receiveVote(_ message: Message, _ request: VoteRequest, _ now: Instant, _ effects: inout Effects) {
        // A transfer is the leader's own wish.
        if message.term > term && !wantsLeader && !request.isTransfer {
            sendDurable(self.message(to: message.from, .voteAnswer(answer(message.term, isGranted: false))))
            return
        }
        if message.term > term { becomeFollower(message.term, leader: nil, now, &effects) }
        let isFree = votedFor == nil || votedFor == message.from.replica
        let isKnown = !mutated(.refusesUnknownVoter) || configuration.member(message.from.replica) != nil
        let isGranted = message.term == term && isFree && leader == nil && isUpToDate(request) && isKnown
        if isGranted {
            if votedFor == nil {
                votedFor = message.from.replica
                isHardStateDirty = true
            }
            restartElectionTimer(now)
        }
        let reply = self.message(to: message.from, .voteAnswer(answer(message.term, isGranted: isGranted)))
        // The vote is durable before the answer leaves, else a restart could vote twice (Raft §5.2).
        if mutated(.voteAnsweredBeforeDurable) {
            effects.messages.append(reply)
        } else {
            sendDurable(reply)
        }
    }

    mutating func receivePreVoteAnswer(
        _ message: Message, _ answer: VoteAnswer, _ now: Instant, _ effects: inout Effects
    ) {
        learnCommit(of: answer, now, &effects)
        if answer.isGranted {
            if phase == .preCandidate && answer.campaignTerm == term.next {
                tally(message.from.replica, granted: true, now, &effects)
            }
            return
        }
        guard phase == .preCandidate else { return }
        tally(message.from.replica, granted: false, now, &effects)
        guard let named = answer.leader, named != peer else { return }
        if named == leaderForgotten && named != message.from && message.term == term && campaignRounds <= 1 {
            // Its connection has just ended here, and there it will in a moment, or it was this connection alone.
            let soon = now + settings.suspicion / 4
            electionDeadline = min(electionDeadline ?? soon, soon)
        } else if let denied = leaderDenied, denied.node == named.node, denied.term == term, named != message.from {
            // Its own word counts for more than another's belief. Those who share the belief lose it as this replica did; if each
            // took it up again from one that has not yet, a group could go on for ever after a leader that has left.
            return
        } else if message.term == term && !isSuspected(named.node) {
            // The group has a leader that this replica did not know: follow it and stop campaigning.
            becomeFollower(term, leader: named, now, &effects)
        } else if message.term < term {
            // The others follow a leader of an older term. It must hear of ours, or this replica stays cut off.
            sendDurable(self.message(to: named, .stale))
        }
    }

    mutating func receiveVoteAnswer(_ message: Message, _ answer: VoteAnswer, _ now: Instant, _ effects: inout Effects)
    {
        learnCommit(of: answer, now, &effects)
        let isCurrent = answer.campaignTerm == term && message.term <= term
        guard phase == .candidate && (isCurrent || mutated(.lateVoteCounted)) else { return }
        tally(message.from.replica, granted: answer.isGranted, now, &effects)
        if phase == .candidate && !answer.isGranted { hastenIfLost(now) }
    }

    /// A split vote is not waited out: once too few are left that could still grant theirs, the next round comes soon. The
    /// first step is for whoever has won meanwhile, and after a few rounds the disks set the pace.
    private mutating func hastenIfLost(_ now: Instant) {
        guard campaignRounds <= 3, let deadline = electionDeadline else { return }
        let canWin = hasMajority { i in
            i < votes.count && (votes[i] > 0 || (votes[i] == 0 && !isSuspected(configuration.members[i].peer.node)))
        }
        if canWin { return }
        let step = settings.suspicion / 8
        electionDeadline = min(deadline, now + step * (1 + turn(after: nil)) + random.within(.zero...step))
    }

    // MARK: Doubt

    mutating func nodeSuspected(_ node: NodeID, _ now: Instant, _ effects: inout Effects) {
        if !isSuspected(node) { suspected.append(node) }
        if phase == .leader {
            for i in 0..<progress.count where progress[i].member.peer.node == node {
                progress[i].retryAt = nil
                progress[i].caughtUpSince = nil
            }
            watchQuorum(now)
        } else if leader?.node == node {
            campaignSoon(after: node, now)
        } else if phase == .candidate {
            hastenIfLost(now)
        }
    }

    mutating func nodeAlive(_ node: NodeID, _ now: Instant, _ effects: inout Effects) {
        suspected.removeAll { $0 == node }
        if phase == .leader {
            watchQuorum(now)
            for i in 0..<progress.count where progress[i].member.peer.node == node && progress[i].member.peer != peer {
                progress[i].heardAt = now
                greet(i, now, &effects)
            }
        } else if leader?.node == node {
            electionDeadline = nil
            campaignRounds = 0
        } else if isCampaigning {
            // It may be the one that was missing: it is asked at once, and the round is no longer than a first one.
            askAgainAfter(.zero, now)
            let round = settings.suspicion + random.within(.zero...settings.suspicion) + priorityDelay
            if let deadline = electionDeadline { electionDeadline = min(deadline, now + round) }
        }
    }

    mutating func nodeRestarted(_ node: NodeID, _ now: Instant, _ effects: inout Effects) {
        if phase == .leader {
            for i in 0..<progress.count where progress[i].member.peer.node == node && progress[i].member.peer != peer {
                greet(i, now, &effects)
            }
        } else if leader?.node == node {
            forgetLeader(now, &effects)
        }
    }

    mutating func linkBroken(_ node: NodeID, _ now: Instant, _ effects: inout Effects) {
        guard phase != .leader && leader?.node == node else { return }
        leaderForgotten = leader
        forgetLeader(now, &effects)
    }

    mutating func leadershipDenied(_ node: NodeID, _ deniedTerm: Term, _ now: Instant, _ effects: inout Effects) {
        guard phase == .follower && leader?.node == node && term == deniedTerm else { return }
        leaderDenied = (node, term)
        forgetLeader(now, &effects)
    }

    /// Whoever asks for votes beyond the term it led does not lead any more.
    mutating func forgetCampaigningLeader(_ message: Message, _ now: Instant, _ effects: inout Effects) {
        if phase == .follower && leader == message.from && message.term > term { forgetLeader(now, &effects) }
    }

    /// Safe at any time: a campaign still needs a majority that has lost the leader as well.
    private mutating func forgetLeader(_ now: Instant, _ effects: inout Effects) {
        let old = leader?.node
        leader = nil
        failReads(&effects)
        effects.events.append(.becameFollower(term: term, leader: nil))
        campaignSoon(after: old, now)
    }

    // MARK: Leading

    private mutating func becomeLeader(_ now: Instant, _ effects: inout Effects) {
        phase = .leader
        leader = peer
        electionDeadline = nil
        campaignRounds = 0
        isTransferCampaign = false
        quorumDeadline = nil
        endTransfer(succeeded: false, &effects)
        reads.beginTerm()
        progress.removeAll(keepingCapacity: true)
        for member in configuration.members { progress.append(Progress(member: member, next: log.last.next, now: now)) }
        uncommittedBytes = 0
        var index = max(commit.next, log.firstCached)
        while index <= log.last {
            uncommittedBytes += log.entry(at: index)?.byteCount ?? 0
            index = index.next
        }
        effects.events.append(.becameLeader(term: term))
        // An empty entry of the own term, so that older ones commit with it (Raft §5.4.2, §8).
        appendOwn(.noop)
        termStart = log.last
        heardOfMembersAfter = termStart
        if mutated(.leavesUncommittedJoint), let entry = log.configurations.last, entry.index > commit,
            case .configuration(let pending) = entry.content, pending.isJoint
        {
            appendOwn(.configuration(pending.leavingJoint()))
        }
        watchQuorum(now)
        isBroadcastOwed = true
    }

    /// Whether a quorum is with this leader; if not it has until `quorumDeadline` (check-quorum, Raft thesis §6.2).
    /// Answers heard lately count only at the deadline: nothing would ask again when they have grown old.
    mutating func watchQuorum(_ now: Instant) {
        // What counts is doubt alone: a member that is doubted and answered just now must be looked at again.
        if hasMajority({ progress[$0].member.peer == peer || !isSuspected(progress[$0].member.peer.node) }) {
            quorumDeadline = nil
        } else if quorumDeadline == nil {
            quorumDeadline = now + settings.suspicion
        }
    }

    private func hasActiveQuorum(_ now: Instant) -> Bool {
        hasMajority { i in
            let other = progress[i]
            if other.member.peer == peer || !isSuspected(other.member.peer.node) { return true }
            // Its beats are late, but it answered.
            return now - other.heardAt < settings.suspicion
        }
    }

    mutating func checkQuorum(_ now: Instant, _ effects: inout Effects) {
        guard let deadline = quorumDeadline, now >= deadline else { return }
        if hasActiveQuorum(now) {
            quorumDeadline = now + settings.suspicion
            return
        }
        effects.events.append(.steppedDown(term: term, reason: .quorumLost))
        becomeFollower(term, leader: nil, now, &effects)
    }

    // MARK: Handing over

    mutating func transfer(to target: ReplicaID?, _ now: Instant, _ effects: inout Effects) {
        guard phase == .leader, let i = transferChoice(target) else {
            effects.events.append(.transferRefused)
            return
        }
        let replica = progress[i].member.peer.replica
        // Asking again for the same target does not extend the deadline.
        if transferTarget == replica { return }
        transferTarget = replica
        transferDeadline = now + settings.suspicion * 4
        effects.events.append(.transferStarted(to: progress[i].member.peer))
        if !offerLeadership(to: i, &effects) { sendAppends(to: i, isForced: true, now, &effects) }
    }

    /// A live voter of the configuration to come: the one named, or the one with the most of the log.
    private func transferChoice(_ target: ReplicaID?) -> Int? {
        var best: Int?
        for i in 0..<progress.count {
            let member = progress[i].member
            guard member.role.votesInNewHalf, member.peer != peer, !isSuspected(member.peer.node) else { continue }
            if let target {
                if member.peer.replica == target { return i }
            } else if let known = best {
                if progress[i].match > progress[known].match { best = i }
            } else {
                best = i
            }
        }
        return best
    }

    /// Tells the target to campaign once it has the whole log. Returns whether it was told.
    @discardableResult
    mutating func offerLeadership(to i: Int, _ effects: inout Effects) -> Bool {
        guard progress[i].match == log.last else { return false }
        effects.messages.append(message(to: progress[i].member.peer, .campaignNow))
        return true
    }

    mutating func endTransfer(succeeded: Bool, _ effects: inout Effects) {
        guard transferTarget != nil else { return }
        transferTarget = nil
        transferDeadline = nil
        effects.events.append(.transferEnded(succeeded: succeeded))
    }

    mutating func receiveCampaignNow(_ message: Message, _ now: Instant, _ effects: inout Effects) {
        guard phase != .leader, mayCampaign, message.term == term else { return }
        becomeCandidate(isTransfer: true, now, &effects)
    }

    /// Gives up leadership at once, and lets the best follower know so that it need not wait.
    mutating func yieldLeadership(_ now: Instant, _ effects: inout Effects) {
        guard phase == .leader else { return }
        if let i = transferChoice(nil) { effects.messages.append(message(to: progress[i].member.peer, .campaignNow)) }
        effects.events.append(.steppedDown(term: term, reason: .asked))
        becomeFollower(term, leader: nil, now, &effects)
        // The others go first.
        electionDeadline = now + settings.suspicion * 4
    }

    mutating func storageStalled(_ isStalled: Bool, _ now: Instant, _ effects: inout Effects) {
        guard isStorageStalled != isStalled else { return }
        isStorageStalled = isStalled
        if isStalled {
            if phase == .leader { yieldLeadership(now, &effects) }
            if phase != .follower { becomeFollower(term, leader: nil, now, &effects) }
        }
        if !isStalled && phase != .leader && isLeaderDoubted {
            // Rounds that failed before say nothing of a disk that works again.
            campaignRounds = 0
            restartElectionTimer(now)
        }
    }
}
