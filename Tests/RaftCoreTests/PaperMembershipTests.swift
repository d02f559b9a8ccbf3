import ClusterBase
import RaftScripts
import Testing

@testable import RaftCore

// One test per rule of Raft §6 and the thesis' chapter 4 on membership, and the ways in which configurations take
// effect here only once committed.

@Suite struct PaperMembershipTests {
    private func led(_ voters: Int, settings: Settings = Settings()) -> RaftTestCluster {
        var cluster = RaftTestCluster(voters: voters, settings: settings)
        cluster.elect(1)
        cluster.deliver()
        return cluster
    }

    private func roles(_ raft: Raft) -> [UInt64: Role] {
        Dictionary(uniqueKeysWithValues: raft.configuration.members.map { ($0.peer.replica.rawValue, $0.role) })
    }

    private func refusal(_ cluster: RaftTestCluster) -> MembershipRefusal? {
        for event in cluster[1].events.reversed() {
            if case .membershipRefused(let refusal) = event { return refusal }
        }
        return nil
    }

    private func replaceTwo(_ cluster: inout RaftTestCluster) {
        cluster.addEmpty(4)
        cluster.addEmpty(5)
        cluster.step(
            1,
            .changeMembership([
                .addVoter(cluster.peer(4), priority: 0), .addVoter(cluster.peer(5), priority: 0), .remove(ReplicaID(2)),
                .remove(ReplicaID(3)),
            ]))
    }

    // MARK: §6 joint consensus

    /// §6: "the cluster first switches to a transitional configuration we call joint consensus; once the joint consensus
    /// has been committed, the system then transitions to the new configuration".
    @Test func `a change of several voters goes through a joint configuration and leaves it by itself`() {
        var cluster = led(3)
        replaceTwo(&cluster)
        cluster.deliverUntilJoint(1)
        #expect(roles(cluster[1].raft) == [1: .voter, 2: .leaving, 3: .leaving, 4: .entering, 5: .entering])
        cluster.live(for: .seconds(1))
        for id in [1, 4, 5] as [UInt64] {
            #expect(roles(cluster[id].raft) == [1: .voter, 4: .voter, 5: .voter])
        }
        #expect(cluster.isConverged([1, 4, 5]))
        #expect(cluster.problems.isEmpty, "\(cluster.problems)")
    }

    @Test func `a change of one voter needs no joint configuration`() {
        var cluster = led(3)
        cluster.addEmpty(4)
        cluster.step(1, .changeMembership([.addVoter(cluster.peer(4), priority: 0)]))
        cluster.live(for: .seconds(1))
        #expect(roles(cluster[4].raft) == [1: .voter, 2: .voter, 3: .voter, 4: .voter])
        #expect(cluster[1].raft.log.configurations.count == 1)
        #expect(cluster.isConverged([1, 2, 3, 4]))
    }

    /// §6: "Agreement (for elections and entry commitment) requires separate majorities from both the old and new
    /// configurations."
    @Test(
        arguments: [
            (up: [1, 2, 4], agrees: true), (up: [1, 3, 5], agrees: true), (up: [1, 2, 3], agrees: false),
            (up: [1, 4, 5], agrees: false),
        ] as [(up: [UInt64], agrees: Bool)])
    func `in a joint configuration entries and leaders need both majorities`(up: [UInt64], agrees: Bool) {
        var cluster = led(3)
        replaceTwo(&cluster)
        for id in cluster.ids { cluster.deliverUntilJoint(id) }
        for id in cluster.ids where !up.contains(id) { cluster.crash(id) }
        let before = cluster[1].raft.commit
        cluster.take()
        cluster.crash(1)
        cluster.restart(1)
        cluster.live(for: .seconds(3))
        #expect((cluster.leader != nil) == agrees)
        #expect((cluster[1].raft.commit > before) == agrees)
        #expect(cluster.problems.isEmpty, "\(cluster.problems)")
    }

    /// §6: "the leader … is not part of the new configuration. In this case, the leader steps down (returns to follower
    /// state) once it has committed the C_new log entry. … it does not count itself in majorities."
    @Test func `a removed leader stays until the change is committed, then hands over`() {
        var cluster = led(3)
        cluster.step(1, .changeMembership([.remove(ReplicaID(1))]))
        #expect(cluster[1].raft.isLeader)
        cluster.deliver()
        #expect(!cluster[1].raft.isLeader)
        #expect(cluster[1].events.contains(.steppedDown(term: Term(1), reason: .removed)))
        cluster.live(for: .seconds(1))
        #expect(cluster.leader == 2 || cluster.leader == 3)
        #expect(cluster[1].raft.deadline == nil)
        #expect(cluster.problems.isEmpty, "\(cluster.problems)")
    }

    /// Thesis §4.2.2: a leader that becomes a learner may not lead either.
    @Test func `a leader that is made a learner hands over and goes on as a learner`() {
        var cluster = led(3)
        cluster.step(1, .changeMembership([.demote(ReplicaID(1))]))
        cluster.live(for: .seconds(1))
        #expect(cluster.leader == 2 || cluster.leader == 3)
        #expect(cluster[1].raft.configuration.member(ReplicaID(1))?.role == .learner)
        cluster.propose(cluster.leader ?? 2, [1])
        cluster.live(for: .seconds(1))
        #expect(cluster.isConverged([1, 2, 3]))
    }

    /// §6: "new servers … join the cluster as non-voting members (the leader replicates log entries to them, but they are
    /// not considered for majorities)".
    @Test func `a learner gets the log and counts for nothing`() {
        var cluster = led(3)
        cluster.addEmpty(4)
        cluster.step(1, .changeMembership([.addLearner(cluster.peer(4), promotesItself: false, priority: 0)]))
        cluster.live(for: .seconds(1))
        #expect(cluster.isConverged([1, 2, 3, 4]))
        let before = cluster[1].raft.commit
        cluster.isolate(2)
        cluster.isolate(3)
        cluster.propose(1, [1])
        cluster.deliver()
        #expect(cluster[4].raft.lastIndex > before)
        #expect(cluster[1].raft.commit == before)
    }

    /// Thesis §4.2.1: "we wait for it to catch up" before a new server becomes a voter.
    @Test func `a learner that keeps up for long enough becomes a voter by itself, and then has a timer`() {
        var settings = Settings()
        settings.promotionStability = .seconds(2)
        var cluster = led(3, settings: settings)
        cluster.addEmpty(4)
        cluster.step(1, .changeMembership([.addLearner(cluster.peer(4), promotesItself: true, priority: 0)]))
        cluster.live(for: .seconds(1))
        #expect(cluster[4].raft.configuration.member(ReplicaID(4))?.role == .learner)
        cluster.live(for: .seconds(4))
        #expect(cluster[4].raft.configuration.member(ReplicaID(4))?.role == .voter)
        cluster.crash(1)
        cluster.crash(2)
        cluster.step(4, .nodeSuspected(NodeID(1)))
        #expect(cluster[4].raft.deadline != nil)
    }

    /// By the members before, the two would need the third, which is gone.
    @Test func `a change that counts is not forgotten by a restart`() {
        var settings = Settings()
        settings.promotionStability = .seconds(1)
        var cluster = led(2, settings: settings)
        cluster.addEmpty(3)
        cluster.step(1, .changeMembership([.addLearner(cluster.peer(3), promotesItself: true, priority: 0)]))
        cluster.live(for: .seconds(5))
        for id in [2, 3] as [UInt64] { #expect(roles(cluster[id].raft) == [1: .voter, 2: .voter, 3: .voter]) }
        cluster.crash(1)
        for id in [2, 3] as [UInt64] {
            cluster.crash(id)
            cluster[id].applied = .zero
            cluster.restart(id)
        }
        cluster.live(for: .seconds(5))
        #expect(cluster.leader != nil)
    }

    @Test func `a learner that falls behind is not promoted`() {
        var settings = Settings()
        settings.promotionStability = .seconds(1)
        settings.promotionLagMax = 3
        var cluster = led(3, settings: settings)
        cluster.addEmpty(4)
        cluster.step(1, .changeMembership([.addLearner(cluster.peer(4), promotesItself: true, priority: 0)]))
        cluster.live(for: .milliseconds(200))
        cluster.cut(1, 4)
        for i in 0..<10 { cluster.propose(1, [UInt8(i)]) }
        cluster.run(for: .seconds(3))
        #expect(cluster[1].raft.configuration.member(ReplicaID(4))?.role == .learner)
        cluster.heal()
        cluster.live(for: .seconds(3))
        #expect(cluster[1].raft.configuration.member(ReplicaID(4))?.role == .voter)
    }

    /// §6: "removed servers … can disrupt the cluster. … servers disregard RequestVote RPCs when they believe a current
    /// leader exists."
    @Test func `a removed replica that did not hear of it disturbs nobody`() {
        var cluster = led(3)
        cluster.isolate(3)
        cluster.step(1, .changeMembership([.remove(ReplicaID(3))]))
        cluster.deliver()
        #expect(roles(cluster[1].raft) == [1: .voter, 2: .voter])
        cluster.live(for: .seconds(1))
        cluster.heal()
        cluster.live(for: .seconds(5))
        #expect(cluster[1].raft.isLeader && cluster[1].raft.term == Term(1))
        #expect(!cluster[3].raft.isLeader)
        #expect(cluster.problems.isEmpty, "\(cluster.problems)")
    }

    @Test func `a removed follower hears that it is removed, even if it holds the change already`() {
        var cluster = led(3)
        cluster.step(1, .changeMembership([.remove(ReplicaID(3))]))
        // 3 holds and acknowledges the entry first, so that nothing is left to send when it commits.
        cluster.deliver { $0.isTo(3) }
        cluster.deliver { $0.isFrom(3) }
        cluster.deliver()
        #expect(roles(cluster[3].raft) == [1: .voter, 2: .voter])
        #expect(cluster[3].raft.configurationIndex == LogIndex(2))
    }

    // MARK: thesis §4.1 and Ongaro 2015

    @Test func `a change waits for the one before it`() {
        var cluster = led(5)
        cluster.step(1, .changeMembership([.remove(ReplicaID(5))]))
        cluster.step(1, .changeMembership([.remove(ReplicaID(4))]))
        #expect(refusal(cluster) == .changeInFlight)
        cluster.deliver()
        cluster.step(1, .changeMembership([.remove(ReplicaID(4))]))
        cluster.deliver()
        #expect(roles(cluster[1].raft) == [1: .voter, 2: .voter, 3: .voter])
    }

    @Test func `what would make the group unable to go on is refused with its reason`() {
        var cluster = led(3)
        func ask(_ steps: [MembershipStep]) -> MembershipRefusal? {
            cluster.step(1, .changeMembership(steps))
            return refusal(cluster)
        }
        #expect(ask([.remove(ReplicaID(9))]) == .unknownReplica(ReplicaID(9)))
        #expect(ask([.promote(ReplicaID(9))]) == .unknownReplica(ReplicaID(9)))
        #expect(ask([.remove(ReplicaID(1)), .remove(ReplicaID(2)), .remove(ReplicaID(3))]) == .noVoterLeft)
        #expect(ask([.addVoter(cluster.peer(2), priority: 0)]) == .replicaIDReused(ReplicaID(2)))
        let sameNode = Peer(replica: ReplicaID(7), node: NodeID(2))
        #expect(ask([.addVoter(sameNode, priority: 0)]) == .nodeHasReplica(NodeID(2)))
        #expect(ask([.promote(ReplicaID(2))]) == .nothingToChange)
        let many = (10...30).map { MembershipStep.addLearner(cluster.peer($0), promotesItself: false, priority: 0) }
        #expect(ask(many) == .tooManyMembers)
        cluster.step(1, .nodeSuspected(NodeID(2)))
        #expect(ask([.remove(ReplicaID(3))]) == .wouldLoseQuorum)
        cluster.step(2, .changeMembership([.remove(ReplicaID(3))]))
        #expect(cluster[2].events.last == .membershipRefused(.notLeader(hint: cluster.peer(1))))
        #expect(cluster[1].raft.lastIndex == LogIndex(1))
    }

    @Test func `a replica id is never given out again, not even after its removal`() {
        var cluster = led(3)
        cluster.step(1, .changeMembership([.remove(ReplicaID(3))]))
        cluster.deliver()
        cluster.step(1, .changeMembership([.addVoter(cluster.peer(3), priority: 0)]))
        #expect(refusal(cluster) == .replicaIDReused(ReplicaID(3)))
    }

    @Test func `a change that its leader leaves unfinished is finished by the next one`() {
        var cluster = led(3)
        replaceTwo(&cluster)
        for id in cluster.ids { cluster.deliverUntilJoint(id) }
        cluster.crash(1)
        cluster.take()
        cluster.live(for: .seconds(3))
        guard let leader = cluster.leader else {
            Issue.record("no leader")
            return
        }
        #expect(roles(cluster[leader].raft) == [1: .voter, 4: .voter, 5: .voter])
        cluster.restart(1)
        cluster.live(for: .seconds(1))
        #expect(cluster.isConverged([1, 4, 5]))
        #expect(cluster.problems.isEmpty, "\(cluster.problems)")
    }

    // MARK: lost quorum

    @Test func `a read that waits for entries which a forced recovery gave up is refused`() {
        var cluster = led(3)
        let survivor = cluster.peer(2)
        cluster.propose(1, [1])
        cluster.deliver { $0.append == nil || $0.to != survivor }
        cluster.step(2, .read(ticket: 9))
        cluster.deliver { $0.append == nil || $0.to != survivor }
        cluster.take()
        // Confirmed by a quorum, and the entry that it has to wait for is not here.
        #expect(cluster[2].reads.isEmpty)
        cluster.crash(1)
        cluster.crash(3)
        cluster.step(2, .forceRecovery)
        #expect(cluster[2].reads == [ReadOutcome(ticket: 9, verdict: .refused(hint: nil))])
    }

    @Test func `after a forced recovery one replica goes on alone and the others are fenced off`() {
        var cluster = led(3)
        cluster.propose(1, [1])
        cluster.deliver()
        cluster.crash(2)
        cluster.crash(3)
        cluster.propose(1, [2])
        cluster.live(for: .seconds(1))
        #expect(cluster.leader == nil)
        cluster.step(1, .forceRecovery)
        cluster.live(for: .seconds(1))
        #expect(cluster[1].raft.isLeader)
        #expect(cluster[1].raft.configuration.epoch == Epoch(1))
        #expect(cluster[1].raft.configuration.recovery?.possibleLossAfter == LogIndex(2))
        cluster.restart(2)
        cluster.restart(3)
        cluster.live(for: .seconds(1))
        // The two would be a majority of the old configuration.
        #expect(cluster[1].raft.isLeader)
        cluster.step(
            2,
            .received(
                Message(
                    from: cluster.peer(1), to: cluster.peer(2), epoch: Epoch(1), term: cluster[1].raft.term,
                    body: .stale)))
        #expect(cluster[2].raft.isFenced && cluster[2].raft.deadline == nil)
    }

    @Test func `a group that was recovered by force takes in new members, which read of older epochs on their way`() {
        var cluster = led(3)
        // A configuration of the old epoch in the log, which the new members apply before they reach the recovery.
        cluster.addEmpty(4)
        cluster.step(
            1, .changeMembership([.addLearner(cluster.peer(4), promotesItself: false, priority: 0)]))
        cluster.live(for: .seconds(1))
        for id in [2, 3, 4] as [UInt64] { cluster.crash(id) }
        cluster.step(1, .forceRecovery)
        cluster.live(for: .seconds(1))
        for id in [5, 6] as [UInt64] {
            cluster.addEmpty(id)
            cluster.step(1, .changeMembership([.addVoter(cluster.peer(id), priority: 0)]))
            cluster.live(for: .seconds(1))
        }
        #expect(roles(cluster[6].raft) == [1: .voter, 5: .voter, 6: .voter])
        // What it reads at a restart is of the old epoch up to the recovery, and it belongs to the new one nevertheless.
        cluster.restart(6)
        #expect(cluster[6].raft.epoch == Epoch(1))
        cluster.crash(1)
        cluster.live(for: .seconds(2))
        #expect(cluster.leader.map { [5, 6].contains($0) } ?? false)
        #expect(cluster.isConverged([5, 6]))
        #expect(cluster.problems.isEmpty, "\(cluster.problems)")
    }

    @Test func `a replica with anything of the old history is fenced off, though it knows no members yet`() {
        var cluster = led(3)
        cluster.addEmpty(4)
        let append = cluster.append(from: 1, to: 4, term: 1, after: nil, entries([1]), commit: 0)
        cluster.step(4, .received(append))
        #expect(!cluster[4].raft.isBlank && cluster[4].raft.configuration.members.isEmpty)
        cluster.step(
            4,
            .received(
                Message(
                    from: cluster.peer(2), to: cluster.peer(4), epoch: Epoch(1), term: Term(9), body: .stale)))
        #expect(cluster[4].raft.isFenced && cluster[4].raft.epoch == .zero)
    }

    // MARK: quorums

    /// Thesis figure 4.3 and §4.3: majorities of a configuration and of the one that follows it always intersect.
    @Test(arguments: 0..<20 as Range<UInt64>)
    func `after any steps the quorums of neighbouring configurations intersect`(seed: UInt64) {
        var random = PRNG(seed: seed)
        var checked = 0
        for _ in 0..<60 {
            var configuration = Configuration.voters(1...(1 + UInt64(random.below(5))))
            for _ in 0..<8 {
                var steps: [MembershipStep] = []
                var fresh = configuration.replicaHighest.rawValue + 1
                for _ in 0...random.below(5) {
                    // Also ids that only this request adds.
                    let known =
                        configuration.members.map { $0.peer.replica.rawValue }
                        + Array(configuration.replicaHighest.rawValue + 1..<fresh)
                    let target = ReplicaID(known[random.below(known.count)])
                    switch random.below(6) {
                    case 0 where configuration.members.count + steps.count < 8:
                        steps.append(.addVoter(Peer(replica: ReplicaID(fresh), node: NodeID(fresh)), priority: 0))
                        fresh += 1
                    case 2 where configuration.members.count + steps.count < 8:
                        steps.append(
                            .addLearner(
                                Peer(replica: ReplicaID(fresh), node: NodeID(fresh)), promotesItself: false, priority: 0
                            ))
                        fresh += 1
                    case 3: steps.append(.promote(target))
                    case 4: steps.append(.demote(target))
                    default: steps.append(.remove(target))
                    }
                }
                guard case .success(let next) = configuration.applying(steps), next.members.count <= 9 else { continue }
                expectIntersection(configuration, next, steps)
                checked += 1
                if next.isJoint {
                    let settled = next.leavingJoint()
                    expectIntersection(next, settled, steps)
                    #expect(!settled.isJoint)
                    #expect(settled.members.contains { $0.role == .voter })
                    configuration = settled
                } else {
                    configuration = next
                }
            }
        }
        #expect(checked > 50)
    }

    @Test func `configurations whose majorities may miss each other are no neighbours`() {
        func roles(_ roles: [Role]) -> Configuration {
            Configuration(
                members: roles.enumerated().map {
                    Member(
                        peer: Peer(replica: ReplicaID(UInt64($0 + 1)), node: NodeID(UInt64($0 + 1))), role: $1)
                })
        }
        let before = roles([.voter, .voter, .voter, .learner, .learner])
        #expect(!roles([.voter, .voter, .voter, .voter, .voter]).isNeighbour(of: before))
        #expect(!roles([.voter, .voter, .learner, .voter, .learner]).isNeighbour(of: before))
        let joint = roles([.voter, .voter, .leaving, .entering, .entering])
        #expect(joint.isNeighbour(of: before))
        #expect(!joint.isNeighbour(of: joint))
        #expect(!before.isNeighbour(of: joint))
        #expect(!joint.isNeighbour(of: roles([.voter, .voter, .voter, .voter, .learner])))
        // A forced recovery begins another history.
        #expect(Configuration(members: before.members, epoch: Epoch(1)).isNeighbour(of: joint))
    }

    /// No set of replicas is a quorum of one while the rest is a quorum of the other.
    private func expectIntersection(_ a: Configuration, _ b: Configuration, _ steps: [MembershipStep]) {
        #expect(b.isNeighbour(of: a), "\(a.members) → \(b.members) by \(steps)")
        let ids = (a.members + b.members).map { $0.peer.replica.rawValue }
        let all = Array(Set(ids)).sorted()
        for bits in 0..<(1 << all.count) {
            var some: Set<UInt64> = []
            for (i, id) in all.enumerated() where bits >> i & 1 == 1 { some.insert(id) }
            let rest = Set(all).subtracting(some)
            if isQuorum(some, of: a) && isQuorum(rest, of: b) {
                Issue.record("\(some) and \(rest) decide apart: \(a.members) → \(b.members) by \(steps)")
                return
            }
        }
    }

    private func isQuorum(_ holders: Set<UInt64>, of configuration: Configuration) -> Bool {
        for half in [\Role.votesInOldHalf, \Role.votesInNewHalf] {
            let voters = configuration.members.filter { $0.role[keyPath: half] }
            if voters.count(where: { holders.contains($0.peer.replica.rawValue) }) <= voters.count / 2 { return false }
        }
        return true
    }

    /// The value that a majority reaches, against sorting: the k-th largest of each half, the lower of the two.
    @Test func `the quorum's value is that of a plain sort`() {
        var random = PRNG(seed: 7)
        for _ in 0..<3_000 {
            let count = 1 + UInt64(random.below(9))
            var members: [Member] = []
            for id in 1...count {
                let role = id == 1 ? Role.voter : Role.allCases[random.below(Role.allCases.count)]
                members.append(Member(peer: Peer(replica: ReplicaID(id), node: NodeID(id)), role: role))
            }
            var raft = Raft(
                peer: members[0].peer, incarnation: Incarnation(1),
                restored: RestoredLog(firstMembers: Configuration(members: members)), applied: .zero,
                settings: Settings(), seed: 1, now: .origin)
            for member in members {
                var progress = Progress(member: member, next: LogIndex(100), now: .origin)
                progress.match = LogIndex(UInt64(random.below(6)))
                raft.progress.append(progress)
            }
            func expected(_ counts: (Role) -> Bool) -> UInt64 {
                let sorted = raft.progress.filter { counts($0.member.role) }.map(\.match.rawValue).sorted(by: >)
                return sorted.isEmpty ? 0 : sorted[sorted.count / 2]
            }
            let naive = min(expected { $0.votesInOldHalf }, expected { $0.votesInNewHalf })
            #expect(raft.quorumValue { $0.match.rawValue } == naive)
        }
    }
}
