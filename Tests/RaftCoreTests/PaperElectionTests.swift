import ClusterBase
import RaftScripts
import Testing

@testable import RaftCore

// One test per rule of the Raft paper (extended version) on terms and elections; the section is named at each.
// Where this design refines a rule (pre-vote first, answers after the disk, liveness from outside), the test says so.

@Suite struct PaperElectionTests {
    let three = Configuration.voters(1...3)

    /// One replica with a log of these terms; the others exist only as senders and receivers.
    private func alone(
        voters: UInt64 = 3, term: UInt64, votedFor: UInt64? = nil, log: [UInt64] = [], commit: UInt64 = 0
    ) -> RaftTestCluster {
        let configuration = Configuration.voters(1...voters)
        var cluster = RaftTestCluster(configuration, up: [])
        cluster.add(1, restored(configuration, term: term, votedFor: votedFor, commit: commit, entries(log)))
        return cluster
    }

    /// Brings the lone replica to a campaign with votes of the next term requested.
    private func campaign(_ cluster: inout RaftTestCluster, voters: UInt64 = 3) {
        cluster.now = cluster[1].raft.electionDeadline ?? cluster.now
        cluster.step(1, .tick)
        let term = cluster[1].raft.term.rawValue
        for id in 2...voters {
            let answer = VoteAnswer(isGranted: true, campaignTerm: Term(term + 1), leader: nil)
            cluster.step(1, .received(cluster.message(from: id, to: 1, term: max(1, term), .preVoteAnswer(answer))))
            if cluster[1].raft.phase == .candidate { break }
        }
    }

    private func vote(
        _ cluster: RaftTestCluster, from: UInt64, term: UInt64, granted: Bool = true, of campaign: UInt64? = nil
    ) -> Input {
        .received(
            cluster.message(
                from: from, to: 1, term: term,
                .voteAnswer(VoteAnswer(isGranted: granted, campaignTerm: Term(campaign ?? term), leader: nil))))
    }

    private func request(_ cluster: RaftTestCluster, from: UInt64, term: UInt64, last: UInt64, _ lastTerm: UInt64)
        -> Input
    {
        .received(
            cluster.message(
                from: from, to: 1, term: term,
                .vote(VoteRequest(lastIndex: LogIndex(last), lastTerm: Term(lastTerm), isTransfer: false))))
    }

    // MARK: §5.1 terms

    /// §5.1: "If one server's current term is smaller than the other's, then it updates its current term."
    @Test func `a replica that hears of a larger term takes it up and makes it durable`() {
        var cluster = alone(term: 2)
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 5, after: nil, [], commit: 0)))
        #expect(cluster[1].raft.term == Term(5))
        #expect(cluster[1].disk.hardState.term == Term(5))
    }

    /// §5.1: "If a candidate or leader discovers that its term is out of date, it immediately reverts to follower."
    @Test func `a candidate that hears of a larger term becomes a follower`() {
        var cluster = alone(term: 2)
        campaign(&cluster)
        #expect(cluster[1].raft.phase == .candidate)
        cluster.step(1, vote(cluster, from: 2, term: 9, granted: false, of: 3))
        #expect(cluster[1].raft.phase == .follower)
        #expect(cluster[1].raft.term == Term(9))
        #expect(cluster[1].raft.votedFor == nil)
    }

    @Test func `a leader that hears of a larger term in an answer becomes a follower`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        let answer = AppendAnswer(verdict: .accepted(match: .zero), commit: .zero)
        cluster.step(1, .received(cluster.message(from: 2, to: 1, term: 8, .appendAnswer(answer))))
        #expect(cluster[1].raft.phase == .follower)
        #expect(cluster[1].raft.term == Term(8))
    }

    /// §5.1: "If a server receives a request with a stale term number, it rejects the request."
    @Test func `an append of an older term is refused and its sender told of the newer term`() {
        var cluster = alone(term: 3, log: [1, 2])
        let new = entries([1], after: nil)
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 2, after: nil, new, commit: 1)))
        #expect(cluster[1].raft.lastIndex == LogIndex(2))
        #expect(cluster[1].raft.commit == .zero)
        let answers = cluster.take()
        #expect(answers.count == 1 && answers[0].isStale && answers[0].term == Term(3))
    }

    @Test func `a vote request of an older term is refused and its sender told of the newer term`() {
        var cluster = alone(term: 3)
        cluster.step(1, request(cluster, from: 2, term: 2, last: 9, 2))
        #expect(cluster[1].raft.votedFor == nil)
        let answers = cluster.take()
        #expect(answers.count == 1 && answers[0].isStale && answers[0].term == Term(3))
    }

    /// Figure 2, "Persistent state on all servers … updated on stable storage before responding to RPCs".
    @Test func `no answer leaves before the term, vote or entries it speaks of are durable`() {
        var cluster = alone(term: 1)
        cluster.persistsAtOnce = false
        cluster.step(1, request(cluster, from: 2, term: 4, last: 0, 0))
        #expect(cluster.network.isEmpty)
        cluster.persist(1)
        #expect(cluster.take().contains { $0.voteAnswer?.isGranted == true })
        #expect(cluster[1].disk.hardState == HardState(term: Term(4), votedFor: ReplicaID(2), commit: .zero))
        let new = entries([4, 4])
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 4, after: nil, new, commit: 0)))
        #expect(cluster.network.isEmpty)
        cluster.persist(1)
        #expect(cluster.take().first?.appendAnswer?.match == LogIndex(2))
        #expect(cluster[1].disk.entries == new)
    }

    @Test func `term, vote and log are found again after a crash`() {
        var cluster = alone(term: 1)
        cluster.step(1, request(cluster, from: 2, term: 4, last: 0, 0))
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 4, after: nil, entries([4, 4]), commit: 1)))
        cluster.crash(1)
        cluster.restart(1)
        #expect(cluster[1].raft.term == Term(4))
        #expect(cluster[1].raft.votedFor == ReplicaID(2))
        #expect(cluster[1].raft.lastIndex == LogIndex(2))
        cluster.take()
        cluster.step(1, request(cluster, from: 3, term: 4, last: 9, 4))
        #expect(cluster.take().first?.voteAnswer?.isGranted == false)
    }

    // MARK: §5.2 elections

    /// §5.2: "When servers start up, they begin as followers."
    @Test func `a replica starts as a follower, after a crash of a leader too`() {
        var cluster = RaftTestCluster(voters: 3)
        for id in cluster.ids { #expect(cluster[id].raft.phase == .follower) }
        cluster.elect(1)
        cluster.crash(1)
        cluster.restart(1)
        #expect(cluster[1].raft.phase == .follower)
        #expect(cluster[1].raft.leader == nil)
    }

    /// §5.2: "A server remains in follower state as long as it receives valid RPCs from a leader." Here the leader's
    /// life is an input: a follower of a live leader has no timer at all.
    @Test func `a follower with a live leader never campaigns`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        #expect(cluster[2].raft.deadline == nil && cluster[3].raft.deadline == nil)
        cluster.run(for: .seconds(3600))
        #expect(cluster[1].raft.isLeader && cluster[1].raft.term == Term(1))
    }

    /// §5.2: "If a follower receives no communication over a period of time called the election timeout, then it
    /// assumes there is no viable leader and begins an election."
    @Test func `a follower whose leader is doubted begins an election when its timer ends`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.crash(1)
        cluster.step(2, .nodeSuspected(NodeID(1)))
        cluster.step(3, .nodeSuspected(NodeID(1)))
        cluster.run(for: .seconds(1))
        #expect(cluster.leader == 2 || cluster.leader == 3)
        #expect(cluster.problems.isEmpty)
    }

    /// §5.2: "To begin an election, a follower increments its current term and transitions to candidate state. It then
    /// votes for itself and issues RequestVote RPCs in parallel to each of the other servers."
    @Test func `a candidate raises its term, votes for itself and asks all others at once`() {
        var cluster = alone(voters: 5, term: 6, log: [1, 6])
        campaign(&cluster, voters: 5)
        #expect(cluster[1].raft.phase == .candidate)
        #expect(cluster[1].raft.term == Term(7))
        #expect(cluster[1].disk.hardState.votedFor == ReplicaID(1))
        let requests = cluster.take { $0.isVote }
        #expect(requests.map { $0.to.replica.rawValue }.sorted() == [2, 3, 4, 5])
        for request in requests {
            #expect(request.term == Term(7))
            #expect(request.body == .vote(VoteRequest(lastIndex: LogIndex(2), lastTerm: Term(6), isTransfer: false)))
        }
    }

    @Test func `vote requests leave only after the candidate's term and own vote are durable`() {
        var cluster = alone(term: 6)
        cluster.persistsAtOnce = false
        campaign(&cluster)
        #expect(cluster[1].raft.phase == .candidate)
        #expect(!cluster.network.contains { $0.isVote })
        cluster.persist(1)
        #expect(cluster.network.count { $0.isVote } == 2)
    }

    /// §5.2: "A candidate wins an election if it receives votes from a majority of the servers in the full cluster for
    /// the same term."
    @Test(arguments: [(2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
    func `an election is won with a majority and not with one vote less`(voters: UInt64, needed: Int) {
        var cluster = alone(voters: voters, term: 1)
        campaign(&cluster, voters: voters)
        #expect(cluster[1].raft.phase == .candidate)
        var votes = 1
        for id in 2...voters {
            if votes == needed - 1 { #expect(cluster[1].raft.phase == .candidate) }
            cluster.step(1, vote(cluster, from: id, term: 2))
            votes += 1
            #expect(cluster[1].raft.isLeader == (votes >= needed))
        }
    }

    @Test func `a single voter elects itself, once its vote is durable`() {
        var cluster = alone(voters: 1, term: 0)
        cluster.persistsAtOnce = false
        cluster.now = cluster[1].raft.electionDeadline ?? cluster.now
        cluster.step(1, .tick)
        #expect(cluster[1].raft.phase == .candidate)
        cluster.persist(1)
        #expect(cluster[1].raft.isLeader)
        #expect(cluster[1].raft.commit == .zero)
        cluster.persist(1)
        #expect(cluster[1].raft.commit == LogIndex(1))
    }

    @Test func `one voter's answer counts once, however often it comes`() {
        var cluster = alone(voters: 5, term: 1)
        campaign(&cluster, voters: 5)
        for _ in 0..<5 { cluster.step(1, vote(cluster, from: 2, term: 2)) }
        #expect(cluster[1].raft.phase == .candidate)
    }

    @Test func `the votes of learners and strangers do not count`() {
        var members = Configuration.voters(1...3).members
        members.append(Member(peer: Peer(replica: ReplicaID(4), node: NodeID(4)), role: .learner))
        let configuration = Configuration(members: members)
        var cluster = RaftTestCluster(configuration, up: [])
        cluster.add(1, restored(configuration, term: 1, []))
        campaign(&cluster)
        cluster.step(1, vote(cluster, from: 4, term: 2))
        cluster.step(1, vote(cluster, from: 9, term: 2))
        #expect(cluster[1].raft.phase == .candidate)
        cluster.step(1, vote(cluster, from: 3, term: 2))
        #expect(cluster[1].raft.isLeader)
    }

    /// §5.2: "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis."
    @Test func `a replica votes for the first that asks in a term and for no other`() {
        var cluster = alone(term: 1)
        cluster.step(1, request(cluster, from: 2, term: 2, last: 0, 0))
        cluster.step(1, request(cluster, from: 3, term: 2, last: 5, 1))
        cluster.step(1, request(cluster, from: 2, term: 2, last: 0, 0))
        let granted = cluster.take().compactMap { $0.voteAnswer?.isGranted }
        #expect(granted == [true, false, true])
        #expect(cluster[1].disk.hardState.votedFor == ReplicaID(2))
    }

    @Test func `a vote is free again in the next term`() {
        var cluster = alone(term: 2, votedFor: 2)
        cluster.step(1, request(cluster, from: 3, term: 3, last: 0, 0))
        #expect(cluster.take().first?.voteAnswer?.isGranted == true)
    }

    /// §5.2: "If the leader's term is at least as large as the candidate's current term, then the candidate recognizes
    /// the leader as legitimate and returns to follower state."
    @Test func `a candidate follows a leader of its own term`() {
        var cluster = alone(term: 1)
        campaign(&cluster)
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 2, after: nil, [], commit: 0)))
        #expect(cluster[1].raft.phase == .follower)
        #expect(cluster[1].raft.leader == cluster.peer(2))
        // Its vote of this term stays given (CCF #5891).
        #expect(cluster[1].raft.votedFor == ReplicaID(1))
    }

    /// §5.2: "If the term in the RPC is smaller than the candidate's current term, then the candidate rejects the RPC
    /// and continues in candidate state."
    @Test func `a candidate goes on in spite of a leader of an older term`() {
        var cluster = alone(term: 1)
        campaign(&cluster)
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 1, after: nil, [], commit: 0)))
        #expect(cluster[1].raft.phase == .candidate)
    }

    /// §5.2: "each candidate will time out and start a new election by incrementing its term". Pre-vote comes before
    /// the increment.
    @Test func `a split vote ends with a timer and another campaign in a higher term`() {
        var cluster = alone(term: 1)
        campaign(&cluster)
        cluster.step(1, vote(cluster, from: 2, term: 2, granted: false))
        cluster.step(1, vote(cluster, from: 3, term: 2, granted: false))
        #expect(cluster[1].raft.phase == .candidate)
        #expect(cluster[1].raft.deadline != nil)
        campaign(&cluster)
        #expect(cluster[1].raft.phase == .candidate && cluster[1].raft.term == Term(3))
    }

    /// §5.2: "election timeouts are chosen randomly from a fixed interval". Here once to twice the suspicion time.
    @Test func `election timeouts differ and lie in their interval`() {
        var seen: Set<Int64> = []
        for seed in 0..<50 as Range<UInt64> {
            let cluster = RaftTestCluster(voters: 3, seed: seed)
            for id in cluster.ids {
                let wait = cluster[id].raft.electionDeadline.map { $0 - cluster.now } ?? .zero
                #expect(wait >= cluster.settings.suspicion && wait <= cluster.settings.suspicion * 2)
                seen.insert(wait.count / 1_000_000)
            }
        }
        #expect(seen.count > 25)
    }

    /// Figure 2, leaders: "Upon election: send initial empty AppendEntries RPCs to each server." §8 makes it a no-op.
    @Test func `a new leader tells all others at once`() {
        var cluster = alone(voters: 5, term: 3, log: [1, 3], commit: 1)
        campaign(&cluster, voters: 5)
        cluster.take()
        cluster.step(1, vote(cluster, from: 2, term: 4))
        cluster.step(1, vote(cluster, from: 3, term: 4))
        let appends = cluster.take { $0.append != nil }
        #expect(appends.map { $0.to.replica.rawValue } == [2, 3, 4, 5])
        #expect(appends.allSatisfy { $0.append?.previousIndex == LogIndex(2) && $0.append?.entries.count == 1 })
        #expect(cluster[1].raft.cachedEntry(at: LogIndex(3))?.content == .noop)
    }

    // MARK: §5.4.1 election restriction

    /// §5.4.1: "If the logs have last entries with different terms, then the log with the later term is more
    /// up-to-date. If the logs end with the same term, then whichever log is longer is more up-to-date."
    @Test(
        arguments: [
            (last: 2, lastTerm: 2, granted: true), (last: 3, lastTerm: 2, granted: true),
            (last: 1, lastTerm: 2, granted: false), (last: 1, lastTerm: 3, granted: true),
            (last: 9, lastTerm: 1, granted: false), (last: 0, lastTerm: 0, granted: false),
        ] as [(last: UInt64, lastTerm: UInt64, granted: Bool)])
    func `a vote and a pre-vote go only to a log that is at least as up to date`(
        last: UInt64, lastTerm: UInt64, granted: Bool
    ) {
        var cluster = alone(term: 3, log: [1, 2])
        cluster.step(1, request(cluster, from: 2, term: 4, last: last, lastTerm))
        #expect(cluster.take().first?.voteAnswer?.isGranted == granted)
        var other = alone(term: 3, log: [1, 2])
        let ask = VoteRequest(lastIndex: LogIndex(last), lastTerm: Term(lastTerm), isTransfer: false)
        other.step(1, .received(other.message(from: 2, to: 1, term: 4, .preVote(ask))))
        #expect(other.take().first?.preVoteAnswer?.isGranted == granted)
    }

    // MARK: thesis §9.6 pre-vote

    /// §9.6: a candidate "only increments its term if it first learns from a majority that they would be willing".
    @Test func `without a majority of pre-votes no term is raised`() {
        var cluster = alone(voters: 5, term: 4)
        for _ in 0..<20 {
            cluster.now = cluster[1].raft.electionDeadline ?? cluster.now
            cluster.step(1, .tick)
        }
        #expect(cluster[1].raft.phase == .preCandidate)
        #expect(cluster[1].raft.term == Term(4))
        #expect(cluster[1].writes.isEmpty && cluster[1].disk.hardState.term == Term(4))
    }

    @Test func `a pre-vote changes nothing durable at the one that is asked`() {
        var cluster = alone(term: 4, log: [4])
        cluster.persistsAtOnce = false
        let ask = VoteRequest(lastIndex: LogIndex(7), lastTerm: Term(4), isTransfer: false)
        for id in 2...3 as ClosedRange<UInt64> {
            cluster.step(1, .received(cluster.message(from: id, to: 1, term: 5, .preVote(ask))))
        }
        #expect(cluster[1].writes.isEmpty)
        #expect(cluster[1].raft.term == Term(4) && cluster[1].raft.votedFor == nil)
        #expect(cluster.take().compactMap { $0.preVoteAnswer?.isGranted } == [true, true])
    }

    /// §9.6 and §4.2.3: granted only "if the server hasn't received heartbeats from a valid leader".
    @Test func `neither vote nor pre-vote is given while the leader is alive`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        let ask = VoteRequest(lastIndex: LogIndex(9), lastTerm: Term(9), isTransfer: false)
        cluster.step(2, .received(cluster.message(from: 3, to: 2, term: 10, .preVote(ask))))
        cluster.step(2, .received(cluster.message(from: 3, to: 2, term: 10, .vote(ask))))
        let answers = cluster.take()
        #expect(answers.compactMap { $0.preVoteAnswer ?? $0.voteAnswer }.map(\.isGranted) == [false, false])
        #expect(
            answers.compactMap { $0.preVoteAnswer ?? $0.voteAnswer }.map(\.leader) == [
                cluster.peer(1), cluster.peer(1),
            ])
        #expect(cluster[2].raft.term == Term(1))
        cluster.step(2, .nodeSuspected(NodeID(1)))
        cluster.step(2, .received(cluster.message(from: 3, to: 2, term: 10, .vote(ask))))
        #expect(cluster.take().first { $0.voteAnswer != nil }?.voteAnswer?.isGranted == true)
    }

    @Test func `a replica that was cut off comes back without deposing the leader`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.isolate(3)
        cluster.live(for: .seconds(5))
        #expect(cluster[3].raft.phase == .preCandidate)
        cluster.heal()
        cluster.live(for: .seconds(1))
        #expect(cluster[1].raft.isLeader && cluster[1].raft.term == Term(1))
        #expect(cluster[3].raft.leader == cluster.peer(1))
        #expect(cluster.problems.isEmpty)
    }

    // MARK: thesis §3.10 leadership transfer

    /// §3.10: "The prior leader stops accepting new client requests."
    @Test func `proposals are refused while leadership is handed over`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.step(1, .transferLeadership(to: ReplicaID(2)))
        cluster.propose(1, [1])
        #expect(cluster[1].proposals.last == .refused(.transferringLeadership))
    }

    /// §3.10: "The prior leader fully updates the target server's log to match its own log … sends a TimeoutNow".
    @Test func `the target is told to campaign only once it has the whole log`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.propose(1, [1])
        let late = cluster.take { $0.isTo(2) }
        cluster.step(1, .transferLeadership(to: ReplicaID(2)))
        #expect(!cluster.network.contains { $0.isCampaignNow })
        for message in late { cluster.deliver(message) }
        cluster.deliver { !$0.isCampaignNow }
        #expect(cluster.network.contains { $0.isCampaignNow && $0.isTo(2) })
        cluster.deliver()
        #expect(cluster[2].raft.isLeader && cluster[2].raft.term == Term(2))
        #expect(cluster[1].events.contains(.transferEnded(succeeded: true)))
        #expect(cluster.problems.isEmpty)
    }

    @Test func `without a name leadership goes to the follower that is furthest`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.cut(1, 2)
        cluster.propose(1, [1])
        cluster.deliver()
        cluster.heal()
        cluster.step(1, .transferLeadership(to: nil))
        cluster.deliver()
        #expect(cluster[3].raft.isLeader)
    }

    /// §3.10: "If leadership transfer does not complete after about an election timeout, the prior leader aborts the
    /// transfer and resumes accepting client requests."
    @Test func `a transfer that does not end in time is given up`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.cut(1, 2)
        cluster.step(1, .transferLeadership(to: ReplicaID(2)))
        cluster.run(for: cluster.settings.suspicion * 4)
        #expect(cluster[1].events.contains(.transferEnded(succeeded: false)))
        cluster.propose(1, [1])
        guard case .appended = cluster[1].proposals.last else {
            Issue.record("refused: \(cluster[1].proposals)")
            return
        }
        #expect(cluster[1].raft.isLeader)
    }

    /// §3.10: a target's vote requests are marked, so that a live leader does not keep others from voting (§4.2.3).
    @Test func `the target of a transfer gets votes although the leader is alive`() {
        var cluster = RaftTestCluster(voters: 5)
        cluster.elect(1)
        cluster.deliver()
        cluster.step(1, .transferLeadership(to: ReplicaID(4)))
        cluster.deliver()
        #expect(cluster[4].raft.isLeader && cluster[4].raft.term == Term(2))
        for id in [1, 2, 3, 5] as [UInt64] { #expect(cluster[id].raft.leader == cluster.peer(4)) }
    }

    // MARK: thesis §6.2 the leader's own doubt

    /// §6.2: "a leader steps down if an election timeout elapses without a successful round of heartbeats to a majority
    /// of its cluster".
    @Test func `a leader that lost a majority steps down and one that lost a minority does not`() {
        var cluster = RaftTestCluster(voters: 5)
        cluster.elect(1)
        cluster.deliver()
        cluster.isolate(5)
        cluster.isolate(4)
        cluster.live(for: .seconds(2))
        #expect(cluster[1].raft.isLeader)
        cluster.isolate(3)
        cluster.live(for: .seconds(2))
        #expect(cluster[1].raft.phase != .leader)
        #expect(cluster[1].events.contains(.steppedDown(term: Term(1), reason: .quorumLost)))
        #expect(cluster.problems.isEmpty)
    }
}
