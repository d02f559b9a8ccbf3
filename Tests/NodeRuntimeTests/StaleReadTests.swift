import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Testing

private let group = GroupID(1)

/// How old a read of a node's own copy may be: counted from when that copy was known to be current, by nothing weaker.
@Suite struct StaleReadTests {
    private static let get = Query.space(.get(key: Array("key 0".utf8)))

    private func settings() -> NodeSettings {
        var settings = NodeSettings()
        settings.forwardsRequests = true
        return settings
    }

    /// What the node's own copy says, if it may.
    private func here(_ node: TestNode, _ bound: Nanoseconds) -> (version: UInt64?, age: Nanoseconds)? {
        guard let here = node.engine?.readHere(group, StaleReadTests.get, within: bound, now: node.cluster.now),
            case .space(let found) = here.answer, case .record(let record) = found.body
        else { return nil }
        return (record?.version, here.age)
    }

    private func ask(_ cluster: TestCluster, _ node: TestNode) throws -> ClientAnswer? {
        let ticket = cluster.nextTicket()
        node.turn(.request(.query(group, StaleReadTests.get), ticket: ticket))
        _ = try cluster.run { !node.answers(to: ticket).isEmpty }
        return node.answers(to: ticket).first
    }

    private func isRead(_ answer: ClientAnswer?) -> Bool {
        if case .read? = answer { true } else { false }
    }

    @Test func `the age is counted from when the read began that a quorum confirmed`() throws {
        let cluster = try TestCluster(settings())
        let leader = try #require(try cluster.leader())
        #expect(try cluster.put(1, at: leader))
        let follower = try #require(cluster.nodes.first { $0 !== leader })
        try cluster.run(for: .seconds(2))
        // It hears its leader all the time, and has all that there is; but nobody has said so.
        #expect(here(follower, .seconds(3_600)) == nil)

        let began = cluster.now
        #expect(isRead(try ask(cluster, follower)))
        #expect(cluster.now > began)
        try cluster.run(for: .milliseconds(300))
        let found = try #require(here(follower, .seconds(1)))
        #expect(found.version == 1 && found.age == cluster.now - began)
        #expect(here(follower, found.age)?.version == 1)
        #expect(here(follower, found.age - Nanoseconds(1)) == nil)
        // Another one brings it up to date; that of another node does not.
        #expect(isRead(try ask(cluster, leader)))
        #expect(here(follower, found.age - Nanoseconds(1)) == nil)
        #expect(isRead(try ask(cluster, follower)))
        #expect(here(follower, .milliseconds(50)) != nil)
    }

    @Test func `a follower that is cut off answers until the bound has passed, and refuses then`() throws {
        let cluster = try TestCluster(settings())
        let leader = try #require(try cluster.leader())
        #expect(try cluster.put(1, at: leader))
        let follower = try #require(cluster.nodes.first { $0 !== leader })
        let began = cluster.now
        #expect(isRead(try ask(cluster, follower)))
        follower.isCut = true
        #expect(try cluster.put(1, at: leader))
        #expect(here(follower, .seconds(3))?.version == 1, "the others have gone on, and the bound allows that")
        while cluster.now - began < .seconds(3) {
            #expect(here(follower, .seconds(3))?.version == 1)
            try cluster.run(for: .milliseconds(100))
        }
        try cluster.run(for: .milliseconds(1))
        #expect(here(follower, .seconds(3)) == nil)
        #expect(try ask(cluster, follower) == .refused(.unavailable))
        #expect(here(follower, .seconds(3)) == nil, "a question that nobody answered says nothing")

        follower.isCut = false
        try cluster.run(for: .seconds(3))
        #expect(isRead(try ask(cluster, follower)))
        #expect(here(follower, .seconds(1))?.version == 2)
    }

    @Test func `a leader that is cut off and knows nothing of it yet does not call its copy current`() throws {
        let cluster = try TestCluster(settings())
        let leader = try #require(try cluster.leader())
        #expect(try cluster.put(1, at: leader))
        let began = cluster.now
        #expect(isRead(try ask(cluster, leader)))
        leader.isCut = true
        let ticket = cluster.nextTicket()
        leader.turn(.request(.query(group, StaleReadTests.get), ticket: ticket))
        try cluster.run(for: .milliseconds(100))
        #expect(leader.leads(group))
        #expect(here(leader, .seconds(1))?.age == cluster.now - began)
        #expect(here(leader, .milliseconds(50)) == nil)
    }

    @Test func `a replica that takes another's place begins without having been current`() throws {
        let cluster = try TestCluster(settings())
        let leader = try #require(try cluster.leader())
        #expect(try cluster.put(1, at: leader))
        let follower = try #require(cluster.nodes.first { $0 !== leader })
        #expect(isRead(try ask(cluster, follower)))
        #expect(here(follower, .seconds(60)) != nil)
        let old = ReplicaID(follower.id.rawValue)
        follower.turn(.destroyReplica(group))
        leader.turn(.request(.changeMembership(group, [.remove(old)]), ticket: cluster.nextTicket()))
        #expect(try cluster.run { leader.inspect(group) { raft, _ in raft.configuration.members.count == 2 } ?? false })
        #expect(here(follower, .seconds(60)) == nil)
        follower.turn(.createReplica(group, ReplicaID(9)))
        try cluster.run(for: .milliseconds(100))
        let peer = Peer(replica: ReplicaID(9), node: follower.id)
        let add = MembershipStep.addLearner(peer, promotesItself: true, priority: 0)
        leader.turn(.request(.changeMembership(group, [add]), ticket: cluster.nextTicket()))
        #expect(try cluster.run { follower.applied(group) == leader.applied(group) })
        #expect(here(follower, .seconds(60)) == nil)
    }

    @Test func `the view of the root is as old as the newest answer that it has all of, wherever it is followed`()
        throws
    {
        let cluster = try StewardTests().cluster(of: 8)
        try cluster.run(for: .seconds(10))
        let holders = cluster.nodes.filter { $0.engine?.groups.contains(.root) == true }
        let others = cluster.nodes.filter { $0.engine?.groups.contains(.root) != true }
        #expect(holders.count >= 3 && !others.isEmpty)
        for node in cluster.nodes {
            let age = try #require(node.engine?.rootAge(cluster.now))
            // Where the root has a replica, it is asked less often while nothing is new.
            #expect(age < (others.contains { $0 === node } ? .seconds(1) : .seconds(7)), "node \(node.id)")
        }
        // A question to the replica makes the view that it feeds as young.
        let holder = try #require(holders.last)
        let ticket = cluster.nextTicket()
        let asked = cluster.now
        holder.turn(.request(.query(.root, .root(.cluster)), ticket: ticket))
        #expect(try cluster.run { !holder.answers(to: ticket).isEmpty })
        #expect(try #require(holder.engine?.rootAge(cluster.now)) <= cluster.now - asked)

        let lost = try #require(others.first)
        lost.isCut = true
        let before = try #require(lost.engine?.rootAge(cluster.now))
        try cluster.run(for: .seconds(20))
        #expect(try #require(lost.engine?.rootAge(cluster.now)) >= before + .seconds(19))
        lost.isCut = false
        try cluster.run(for: .seconds(10))
        #expect(try #require(lost.engine?.rootAge(cluster.now)) < .seconds(2))
    }
}
