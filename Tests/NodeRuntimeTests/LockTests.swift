import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import Testing

/// Leases of locks, counted where a space is led.
@Suite struct LockTests {
    private let group = GroupID(1)
    private struct Unanswered: Error {}

    private func settings() -> NodeSettings { NodeSettings() }

    private func send(
        _ operation: SpaceCommand.Operation, _ cluster: TestCluster, _ node: TestNode
    ) throws -> SpaceResult.Outcome {
        let ticket = cluster.nextTicket()
        node.turn(.request(.command(group, SpaceCommand(operation).encoded()), ticket: ticket))
        _ = try cluster.run(until: { !node.answers(to: ticket).isEmpty })
        guard case .applied(.space(let result))? = node.answers(to: ticket).first else { throw Unanswered() }
        return result.outcome
    }

    private func holds(_ node: TestNode) -> Bool {
        guard case .space(let found)? = node.engine?.readHere(group, .space(.lock(name: "job"))),
            case .locks(let locks, _) = found.body
        else { return false }
        return !locks.isEmpty
    }

    private func cluster() throws -> TestCluster {
        let cluster = try TestCluster()
        for node in cluster.nodes { node.engine?.open(level: FeatureLevel.locks) }
        return cluster
    }

    @Test func `a lock that is not renewed is free after its lease, and one that is renewed stays`() throws {
        let cluster = try cluster()
        let leader = try #require(try cluster.leader())
        let take = SpaceCommand.Operation.acquire(lock: "job", owner: "me", lease: .seconds(2))
        guard case .held(let token) = try send(take, cluster, leader) else { throw Unanswered() }
        for _ in 0..<4 {
            try cluster.run(for: .milliseconds(1_800))
            #expect(try send(take, cluster, leader) == .held(token: token))
        }
        try cluster.run(for: .milliseconds(1_900))
        #expect(holds(leader))
        try cluster.run(for: .milliseconds(300))
        #expect(!holds(leader))
        let next = try send(.acquire(lock: "job", owner: "you", lease: .seconds(2)), cluster, leader)
        guard case .held(let other) = next else { throw Unanswered() }
        #expect(other > token)
    }

    @Test func `a space that ends in the turn in which it was locked leaves nothing to be woken for`() throws {
        let cluster = try cluster()
        let leader = try #require(try cluster.leader())
        let take = SpaceCommand(.acquire(lock: "job", owner: "me", lease: .seconds(2)))
        let tickets = [cluster.nextTicket(), cluster.nextTicket()]
        leader.turn(
            .request(.command(group, take.encoded()), ticket: tickets[0]),
            .request(.command(group, SpaceCommand(.end).encoded()), ticket: tickets[1]))
        _ = try cluster.run(until: { tickets.allSatisfy { !leader.answers(to: $0).isEmpty } })
        guard case .applied(.space(let result))? = leader.answers(to: tickets[0]).first,
            case .held = result.outcome
        else { throw Unanswered() }
        leader.turn()
        #expect(try #require(leader.engine).deadline > cluster.now)
    }

    @Test func `a new leader counts every lease in full, and ends those that nobody renews`() throws {
        let cluster = try cluster()
        let leader = try #require(try cluster.leader())
        let take = SpaceCommand.Operation.acquire(lock: "job", owner: "me", lease: .seconds(3))
        guard case .held(let token) = try send(take, cluster, leader) else { throw Unanswered() }
        try cluster.run(for: .milliseconds(2_500))
        leader.crash()
        let next = try #require(try cluster.leader(except: leader))
        next.engine?.open(level: FeatureLevel.locks)
        try cluster.run(for: .milliseconds(2_500))
        #expect(holds(next))
        #expect(try send(take, cluster, next) == .held(token: token))
        try cluster.run(for: .milliseconds(2_800))
        #expect(holds(next))
        try cluster.run(for: .milliseconds(500))
        #expect(!holds(next))
    }
}
