import ClusterBase
import FleetModel
import RaftCore
import Testing

@testable import Controllers

@Suite struct GroupKeeperTests {
    /// The survivor may be behind the change that took in the replica: then its id is new here, and its history old.
    @Test func `what was placed before a forced recovery is not asked in, though the group never heard of its id`() {
        func placed(_ replica: UInt64) -> PlacedReplica {
            PlacedReplica(
                replica: ReplicaID(replica), node: NodeID(replica), part: .voter, phase: .made, since: LogTime(0))
        }
        let group = GroupID(7)
        var placement = GroupPlacement(
            group: group, replicas: [placed(1), placed(2), placed(3), placed(4)], replicaHighest: ReplicaID(4))
        let alone = Member(peer: Peer(replica: ReplicaID(1), node: NodeID(1)), role: .voter)
        let standing = GroupStanding(
            own: ReplicaID(1),
            configuration: Configuration(members: [alone], epoch: Epoch(1), replicaHighest: ReplicaID(3)),
            epoch: Epoch(1), isSettled: true, silent: [], caughtUp: [])
        var keeper = GroupKeeper()
        let gone = [2, 3, 4].map { ReplicaID($0) }
        #expect(
            keeper.plan(placement, standing, RootView(), now: .origin)
                == [.report(.reportGroup(group, Epoch(1), gone: gone))])

        // Once the root knows, what it places is new.
        (placement.epoch, placement.replicas) = (Epoch(1), [placed(1), placed(5)])
        let peer = Peer(replica: ReplicaID(5), node: NodeID(5))
        #expect(
            keeper.plan(placement, standing, RootView(), now: .origin)
                == [.change([.addLearner(peer, promotesItself: false, priority: 0)])])
    }

    @Test
    func `a learner whose node came a moment ago does not vote, however long its log was with its leader's before`() {
        let (own, voter, standby) = (ReplicaID(1), ReplicaID(2), ReplicaID(3))
        func placed(_ number: UInt64) -> PlacedReplica {
            PlacedReplica(
                replica: ReplicaID(number), node: NodeID(number), part: .voter, phase: .made, since: LogTime(0))
        }
        let placement = GroupPlacement(
            group: GroupID(7), replicas: [placed(1), placed(2), placed(3)], replicaHighest: standby)
        let members = [own, voter, standby].map { replica in
            Member(
                peer: Peer(replica: replica, node: NodeID(replica.rawValue)),
                role: replica == standby ? .learner : .voter)
        }
        var standing = GroupStanding(
            own: own, configuration: Configuration(members: members, replicaHighest: standby), epoch: .zero,
            isSettled: true, silent: [], caughtUp: [voter, standby])
        var keeper = GroupKeeper()
        func steps(at second: Int64, present since: Int64) -> [GroupAction] {
            standing.presentSince = [(standby, .origin + .seconds(since))]
            return keeper.plan(placement, standing, RootView(), now: .origin + .seconds(second))
        }
        #expect(steps(at: 20, present: 0).isEmpty)
        // By then it was caught up for the ten seconds of the setting, and its node was started again.
        #expect(steps(at: 31, present: 25).isEmpty)
        #expect(steps(at: 36, present: 25) == [.change([.promote(standby)])])
    }
}
