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
}
