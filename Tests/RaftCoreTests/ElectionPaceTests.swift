import ClusterBase
import RaftScripts
import Testing

@testable import RaftCore

/// How long a group is without a leader beyond what the network and the disks take.
@Suite struct ElectionPaceTests {
    private func led(_ voters: Int = 3, seed: UInt64 = 1) -> RaftTestCluster {
        var cluster = RaftTestCluster(voters: voters, seed: seed)
        cluster.elect(1)
        cluster.deliver()
        return cluster
    }

    private func step(_ cluster: RaftTestCluster) -> Nanoseconds { cluster.settings.suspicion / 8 }

    @Test(arguments: 0..<20 as Range<UInt64>)
    func `of two that ask each other at the same instant one wins in that round`(seed: UInt64) {
        var cluster = led(seed: seed)
        let term = cluster[1].raft.term
        cluster.crash(1)
        for id in [2, 3] as [UInt64] { cluster.step(id, .linkBroken(NodeID(1))) }
        cluster.now += cluster.settings.suspicion
        for id in [2, 3] as [UInt64] { cluster.step(id, .tick) }
        #expect(cluster[2].raft.phase == .preCandidate && cluster[3].raft.phase == .preCandidate)
        cluster.deliver()
        #expect(cluster.leader == 2)
        #expect(cluster[2].raft.term == term.next && cluster[3].raft.leader == cluster.peer(2))
    }

    @Test func `two that asked at once while one went unheard elect in the round after`() {
        var cluster = led()
        cluster.crash(1)
        for id in [2, 3] as [UInt64] { cluster.step(id, .linkBroken(NodeID(1))) }
        cluster.now += cluster.settings.suspicion
        for id in [2, 3] as [UInt64] { cluster.step(id, .tick) }
        cluster.take { $0.from.replica == ReplicaID(2) }
        cluster.deliver()
        #expect(cluster.leader == nil)
        cluster.run(for: cluster.settings.suspicion * 3)
        #expect(cluster.leader != nil)
    }

    @Test(arguments: [3, 5, 7]) func `those who lose a leader together campaign one after the other`(voters: Int) {
        var firsts: Set<UInt64> = []
        for term in 1...8 as ClosedRange<UInt64> {
            var cluster = led(voters, seed: term)
            for _ in 1..<term {
                cluster.step(1, .stepDown)
                cluster.take()
                cluster.elect(1)
            }
            let others = Array(2...UInt64(voters))
            for id in others { cluster.step(id, .linkBroken(NodeID(1))) }
            let order = others.sorted { cluster[$0].raft.electionDeadline! < cluster[$1].raft.electionDeadline! }
            let due = order.map { cluster[$0].raft.electionDeadline! }
            #expect(due[0] - cluster.now <= step(cluster) / 2)
            for (a, b) in zip(due, due.dropFirst()) { #expect(b - a >= step(cluster) / 2) }
            firsts.insert(order[0])
        }
        // Which one goes first is another one in another term: not every group goes to the same node.
        #expect(firsts.count > 1)
    }

    /// The leader's silence is noticed by one first, and by the other only when it is over for it too.
    @Test(arguments: [true, false]) func `whoever doubts last grants what it refused before`(isShorter: Bool) {
        var cluster = led()
        if isShorter {
            cluster.isolate(3)
            cluster.propose(1, [1])
            cluster.deliver()
            cluster.heal()
        }
        cluster.crash(1)
        cluster.take()
        cluster.step(2, .nodeSuspected(NodeID(1)))
        cluster.now += cluster.settings.suspicion / 2
        cluster.step(2, .tick)
        cluster.deliver()
        #expect(cluster.leader == nil && cluster[2].raft.phase == .preCandidate)
        cluster.now += cluster.settings.suspicion / 2
        cluster.step(3, .nodeSuspected(NodeID(1)))
        cluster.deliver()
        #expect(cluster.leader == 2)
    }

    @Test func `a connection's end that one sees a moment earlier does not send it back to the dead leader`() {
        var cluster = led()
        cluster.crash(1)
        cluster.step(2, .linkBroken(NodeID(1)))
        cluster.now += cluster.settings.suspicion / 4
        cluster.step(2, .tick)
        cluster.deliver()
        #expect(cluster[2].raft.leader == nil && cluster[2].raft.phase == .preCandidate)
        cluster.step(3, .linkBroken(NodeID(1)))
        cluster.deliver()
        #expect(cluster.leader == 2)
    }

    @Test func `a connection that only one lost costs no election`() {
        var cluster = led()
        cluster.step(2, .linkBroken(NodeID(1)))
        cluster.run(for: cluster.settings.suspicion)
        #expect(cluster.leader == 1 && cluster[2].raft.leader == cluster.peer(1))
        #expect(cluster[2].raft.term == Term(1) && cluster[3].raft.term == Term(1))
    }

    @Test func `a pre-vote refused long ago is not granted any more`() {
        var cluster = led()
        cluster.step(2, .linkBroken(NodeID(1)))
        cluster.run(for: cluster.settings.suspicion * 4)
        cluster.step(3, .nodeSuspected(NodeID(1)))
        #expect(cluster.network.isEmpty)
    }

    /// The answer changes nothing and promises nothing.
    @Test func `a pre-vote is answered while the disk is busy`() {
        var cluster = led()
        cluster.persistsAtOnce = false
        cluster.propose(1, [1])
        cluster.deliver()
        #expect(cluster[3].writes.isEmpty == false)
        cluster.crash(1)
        for id in [2, 3] as [UInt64] { cluster.step(id, .linkBroken(NodeID(1))) }
        cluster.now += cluster.settings.suspicion
        cluster.step(2, .tick)
        cluster.deliver()
        #expect(cluster[2].raft.phase == .candidate)
    }

    @Test func `a split vote is not waited out`() {
        var cluster = led()
        cluster.crash(1)
        for id in [2, 3] as [UInt64] { cluster.step(id, .linkBroken(NodeID(1))) }
        cluster.now += cluster.settings.suspicion
        cluster.step(2, .tick)
        let granted = VoteAnswer(isGranted: true, campaignTerm: Term(2), leader: nil, commit: .zero, commitTerm: .zero)
        cluster.step(2, .received(cluster.message(from: 3, to: 2, term: 1, .preVoteAnswer(granted))))
        #expect(cluster[2].raft.phase == .candidate)
        var refused = granted
        refused.isGranted = false
        cluster.step(2, .received(cluster.message(from: 3, to: 2, term: 2, .voteAnswer(refused))))
        // The dead node's vote may still come, for all that is known.
        #expect(cluster[2].raft.electionDeadline! - cluster.now >= cluster.settings.suspicion)
        cluster.step(2, .nodeSuspected(NodeID(1)))
        let wait = cluster[2].raft.electionDeadline! - cluster.now
        #expect(wait >= step(cluster) && wait <= step(cluster) * 3)
    }

    /// A leader that was removed has left without a word. Those who hear of it one after the other must not take up their belief in
    /// it again from those who have not heard yet.
    @Test func `others' belief does not bring back a leader whose node says that it leads no more`() {
        var cluster = RaftTestCluster(voters: 4)
        cluster.elect(1)
        cluster.deliver()
        let term = cluster[1].raft.term
        cluster.isolate(1)
        for id in [2, 3] as [UInt64] {
            cluster.step(id, .leadershipDenied(NodeID(1), term: term))
            cluster.run(for: cluster.settings.suspicion * 2)
            cluster.deliver()
            #expect(cluster[id].raft.leader == nil, "the last one still names its leader, and is not believed")
        }
        #expect(cluster[2].raft.leader == nil)
        #expect(cluster[4].raft.leader == cluster.peer(1))
        cluster.step(4, .leadershipDenied(NodeID(1), term: term))
        cluster.run(for: cluster.settings.suspicion * 4)
        cluster.deliver()
        #expect(cluster.leader.map { $0 != 1 } ?? false)
    }

    @Test func `a leader that says again that it leads is followed at others' word`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        let term = cluster[1].raft.term
        cluster.isolate(1)
        cluster.step(2, .leadershipDenied(NodeID(1), term: term))
        cluster.step(2, .leadershipClaimed(NodeID(1), term: term))
        cluster.run(for: cluster.settings.suspicion * 2)
        cluster.deliver()
        #expect(cluster[2].raft.leader == cluster.peer(1))
    }

    /// With every vote needed a lost message would cost a whole timeout, and more with every round.
    @Test(arguments: [true, false]) func `what was lost is asked for again within the round`(isPreVote: Bool) {
        var cluster = led()
        cluster.crash(1)
        for id in [2, 3] as [UInt64] { cluster.step(id, .linkBroken(NodeID(1))) }
        cluster.now += cluster.settings.suspicion
        cluster.step(2, .tick)
        if !isPreVote {
            let granted = VoteAnswer(
                isGranted: true, campaignTerm: Term(2), leader: nil, commit: .zero, commitTerm: .zero)
            cluster.step(2, .received(cluster.message(from: 3, to: 2, term: 1, .preVoteAnswer(granted))))
            #expect(cluster[2].raft.phase == .candidate)
        }
        cluster.take()
        cluster.now += cluster.settings.suspicion / 2
        #expect(cluster[2].raft.deadline! <= cluster.now)
        cluster.step(2, .tick)
        cluster.deliver()
        #expect(cluster.leader == 2 && cluster[2].raft.term == Term(2))
    }

    /// Its rounds grow rarer while nobody is there, and one that comes back may be the vote that was missing.
    @Test(arguments: 0..<8 as Range<UInt64>)
    func `after a long time without a majority there is a leader soon`(seed: UInt64) {
        var cluster = led(seed: seed)
        cluster.isolate(2)
        cluster.propose(1, [1])
        cluster.deliver()
        cluster.heal()
        for id in [2, 3] as [UInt64] {
            cluster.crash(id)
            cluster.step(1, .nodeSuspected(NodeID(id)))
        }
        let suspicion = cluster.settings.suspicion
        cluster.run(for: suspicion * 80)
        #expect(cluster.leader == nil && cluster[1].raft.campaignRounds > 8)
        // Its log is too short to win.
        cluster.restart(2)
        cluster.step(1, .nodeAlive(NodeID(2)))
        cluster.run(for: suspicion * 5)
        #expect(cluster.leader == 1)
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `after rounds that failed a replica whose disk works again is as fast as a fresh one`(seed: UInt64) {
        var cluster = led(seed: seed)
        let suspicion = cluster.settings.suspicion
        for id in [1, 3] as [UInt64] { cluster.crash(id) }
        cluster.step(2, .linkBroken(NodeID(1)))
        cluster.run(for: suspicion * 120)
        #expect(cluster.leader == nil && cluster[2].raft.campaignRounds > 8)
        cluster.step(2, .storageStalled(true))
        cluster.step(2, .storageStalled(false))
        let due = cluster[2].raft.electionDeadline
        #expect(due.map { $0 - cluster.now <= suspicion * 2 } ?? false, "\(String(describing: due))")
    }

    @Test func `a campaign for a transfer is not repeated when the leader has given it up`() {
        var cluster = led()
        cluster.step(1, .transferLeadership(to: ReplicaID(2)))
        cluster.deliver { $0.to.replica == ReplicaID(2) && $0.from.replica == ReplicaID(1) }
        #expect(cluster[2].raft.phase == .candidate)
        #expect(cluster.take().isEmpty == false)
        // So that the round is not over before the second time.
        cluster[2].raft.electionDeadline = cluster.now + cluster.settings.suspicion * 4
        cluster.now += cluster.settings.suspicion / 2
        cluster.step(2, .tick)
        #expect(cluster.take().count == 2)
        cluster.now += cluster.settings.suspicion
        cluster.step(2, .tick)
        #expect(cluster[2].raft.phase == .candidate && cluster.take().isEmpty)
    }
}
