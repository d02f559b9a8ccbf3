import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import StoreLayout
import Testing

/// A cluster that keeps its own roles: real engines over the test's ports, founded on the first node.
@Suite struct StewardTests {
    private static func hash(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 32) }
    private static func about(_ number: UInt64) -> NodeDescription {
        NodeDescription(
            name: "n\(number)", locality: Locality(region: "r", zone: "z\(number % 3)"), peerAddress: "n\(number):1",
            adminAddress: "n\(number):2", key: hash(UInt8(number)), programVersion: "1", level: 1)
    }

    func cluster(of count: UInt64) throws -> TestCluster {
        var settings = NodeSettings()
        settings.forwardsRequests = true
        settings.runsControllers = true
        settings.controllerInterval = .milliseconds(200)
        settings.rootFollowInterval = .milliseconds(200)
        // Minutes of the cluster's time in seconds of the test's: fewer beats.
        settings.liveness.beatInterval = .milliseconds(80)
        settings.liveness.suspicionFloor = .milliseconds(300)
        settings.raft.suspicion = .milliseconds(300)
        let cluster = try TestCluster(nodes: count, hosts: 0, settings)
        let first = cluster.nodes[0]
        first.turn(.createGroup(.root, ReplicaID(1), .voters([1])))
        for node in cluster.nodes {
            node.turn(.wallClock(LogTime(1_700_000_000_000)))
            node.turn(.directory(Directory([Directory.Row(group: .root, nodes: [NodeID(1)])])))
        }
        let hash = StewardTests.hash
        let founding = RootCommand.Founding(
            cluster: [UInt8](repeating: 7, count: 16), name: "test", node: StewardTests.about(1),
            certificate: NodeCertificate(fingerprint: hash(101), issuer: hash(102), expiresAt: LogTime(9)),
            authority: Authority(fingerprint: hash(102), certificate: [1], signs: true, since: .zero),
            administrator: Operator(name: "admin", role: .administrator, kind: .bearer, credential: hash(103)))
        _ = try #require(try cluster.leader(of: .root))
        #expect(try ask(cluster, .found(founding)) == .node(NodeID(1)))
        #expect(try ask(cluster, .createToken(hash: hash(9), note: "", lifetime: 0, uses: 100)) == .done)
        #expect(try ask(cluster, .changeSetting(.stableFor, 1_000)) == .done)
        #expect(try ask(cluster, .changeSetting(.replaceAfter, 10_000)) == .done)
        for number in 2...count {
            #expect(try ask(cluster, .joinNode(token: hash(9), StewardTests.about(number))) == .node(NodeID(number)))
            #expect(try ask(cluster, .reportNode(NodeID(number), StewardTests.about(number))) == .node(NodeID(number)))
        }
        return cluster
    }

    private func ask(_ cluster: TestCluster, _ operation: RootCommand.Operation, at node: Int = 0) throws -> RootResult
        .Outcome?
    {
        let ticket = cluster.nextTicket()
        let asked = cluster.nodes[node]
        asked.turn(.request(.command(.root, RootCommand(operation).encoded()), ticket: ticket))
        _ = try cluster.run { !asked.answers(to: ticket).isEmpty }
        guard case .applied(.root(let result))? = asked.answers(to: ticket).first else { return nil }
        return result.outcome
    }

    private func members(_ cluster: TestCluster, _ group: GroupID, _ role: Role) -> [UInt64] {
        for node in cluster.nodes where node.engine != nil && node.leads(group) {
            let members = node.inspect(group) { raft, _ in raft.configuration.members } ?? []
            return members.filter { $0.role == role }.map(\.peer.node.rawValue).sorted()
        }
        return []
    }

    private func put(_ cluster: TestCluster, _ group: GroupID, at node: TestNode) throws -> UInt64? {
        let ticket = cluster.nextTicket()
        let command = SpaceCommand(.put(key: [1], value: [2])).encoded()
        node.turn(.request(.command(group, command), ticket: ticket))
        _ = try cluster.run { !node.answers(to: ticket).isEmpty }
        guard case .applied(.space(let result))? = node.answers(to: ticket).first,
            case .written(let version) = result.outcome
        else { return nil }
        return version
    }

    @Test func `nodes that join become voters and standbys by themselves, and every node follows the root`() throws {
        let cluster = try cluster(of: 5)
        let isThere = try cluster.run(
            until: {
                members(cluster, .root, .voter).count == 3 && members(cluster, .root, .learner).count == 2
            }, limit: .seconds(60))
        #expect(isThere, "\(members(cluster, .root, .voter)) \(members(cluster, .root, .learner))")
        try cluster.run(for: .seconds(2))
        for node in cluster.nodes {
            let view = try #require(node.engine?.root)
            #expect(view.nodes.map(\.name) == ["n1", "n2", "n3", "n4", "n5"])
            #expect(view.placement(.root)?.replicas.allSatisfy { $0.phase == .made } == true)
            #expect(node.reports.contains { if case .rootChanged = $0 { true } else { false } })
        }
    }

    @Test func `a space is made, used from any node, survives a dead node, and is gone when it is deleted`() throws {
        let cluster = try cluster(of: 4)
        #expect(try cluster.run(until: { members(cluster, .root, .voter).count == 3 }, limit: .seconds(60)))
        guard case .group(let group)? = try ask(cluster, .createSpace(name: "locks", replicas: 3), at: 3) else {
            Issue.record("no space")
            return
        }
        #expect(try cluster.run(until: { members(cluster, group, .voter).count == 3 }, limit: .seconds(30)))
        try cluster.run(for: .seconds(2))
        for (i, node) in cluster.nodes.enumerated() { #expect(try put(cluster, group, at: node) == UInt64(i + 1)) }

        let victim = try #require(members(cluster, group, .voter).last)
        let lost = cluster.nodes[Int(victim) - 1]
        lost.crash()
        let isReplaced = try cluster.run(
            until: {
                let voters = members(cluster, group, .voter)
                return voters.count == 3 && !voters.contains(victim)
            }, limit: .seconds(60))
        #expect(isReplaced, "\(members(cluster, group, .voter)) without \(victim)")
        let asked = try #require(cluster.nodes.first { $0 !== lost })
        #expect(try put(cluster, group, at: asked) == 5)

        try lost.start(cluster.settings)
        lost.turn(.directory(Directory([Directory.Row(group: .root, nodes: (1...4).map { NodeID($0) })])))
        #expect(try cluster.run(until: { lost.engine?.groups.contains(group) == false }, limit: .seconds(30)))
        #expect(try put(cluster, group, at: lost) == 6)

        #expect(try ask(cluster, .deleteSpace(name: "locks"), at: Int(asked.id.rawValue) - 1) == .group(group))
        let isGone = try cluster.run(
            until: { cluster.nodes.allSatisfy { $0.engine?.groups.contains(group) == false } }, limit: .seconds(10))
        #expect(isGone)
    }

    @Test func `a root voter that comes back after it was replaced hears of it, though its own old replica never will`()
        throws
    {
        let cluster = try cluster(of: 4)
        #expect(try cluster.run(until: { members(cluster, .root, .voter).count == 3 }, limit: .seconds(60)))
        try cluster.run(for: .seconds(3))
        let victim = try #require(members(cluster, .root, .voter).last)
        let lost = cluster.nodes[Int(victim) - 1]
        #expect(!lost.leads(.root))
        lost.crash()
        let isReplaced = try cluster.run(
            until: {
                let voters = members(cluster, .root, .voter)
                return voters.count == 3 && !voters.contains(victim)
            }, limit: .seconds(60))
        #expect(isReplaced)
        try lost.start(cluster.settings)
        lost.turn(.directory(Directory([Directory.Row(group: .root, nodes: (1...4).map { NodeID($0) })])))
        #expect(try cluster.run(until: { lost.engine?.root.through != nil }, limit: .seconds(15)))
        let isKept = try cluster.run(
            until: {
                members(cluster, .root, .learner).contains(victim) && lost.engine?.groups.contains(.root) == true
            },
            limit: .seconds(60))
        #expect(isKept, "\(members(cluster, .root, .voter)) \(members(cluster, .root, .learner))")
    }

    @Test func `the first node can be drained, leadership and all, and be removed`() throws {
        let cluster = try cluster(of: 4)
        #expect(try cluster.run(until: { members(cluster, .root, .voter).count == 3 }, limit: .seconds(60)))
        #expect(try ask(cluster, .arrangeNode(NodeID(1), voting: .automatic, isDraining: true)) == .node(NodeID(1)))
        let isDrained = try cluster.run(
            until: { members(cluster, .root, .voter) == [2, 3, 4] && cluster.nodes[0].engine?.groups == [] },
            limit: .seconds(120))
        #expect(isDrained, "\(members(cluster, .root, .voter))")
        #expect(try ask(cluster, .removeNode(NodeID(1), isForced: false), at: 1) == .node(NodeID(1)))
    }

    @Test func `a settled cluster writes nothing`() throws {
        let cluster = try cluster(of: 3)
        #expect(try cluster.run(until: { members(cluster, .root, .voter).count == 3 }, limit: .seconds(60)))
        let cell = GroupID(.cell, number: 1)
        #expect(try cluster.run(until: { members(cluster, cell, .voter).count == 3 }, limit: .seconds(60)))
        try cluster.run(for: .seconds(10))
        for node in cluster.nodes { node.notes.removeAll() }
        try cluster.run(for: .seconds(20))
        for node in cluster.nodes { #expect(!node.notes.contains(.writesAsked(snapshot: false))) }
    }

    @Test func `what the own replica of the root has applied is seen without asking anybody`() throws {
        let cluster = try cluster(of: 3)
        #expect(try cluster.run(until: { members(cluster, .root, .voter).count == 3 }, limit: .seconds(60)))
        try cluster.run(for: .seconds(10))
        let follower = try #require(cluster.nodes.first { !$0.leads(.root) })
        for step in 1...100 {
            let value = UInt64(3_600_000 + step)
            #expect(try ask(cluster, .changeSetting(.tokenLifetime, value), at: 1) == .done)
            let applied = follower.applied(.root)
            let before = try #require(follower.engine?.root.through, "the view is loaded anew")
            let frames = follower.frames
            let isNew = follower.engine?.followOwnRoot(cluster.now)
            let through = try #require(follower.engine?.root.through)
            #expect(isNew == (before < applied))
            #expect(through == max(before, applied))
            #expect(follower.frames == frames)
            // Questions are under way all the time.
            follower.engine?.followRoot(cluster.now)
            follower.turn(.tick)
        }
        try cluster.run(for: .seconds(2))
        for node in cluster.nodes { #expect(node.engine?.root.settings[.tokenLifetime] == 3_600_100) }
    }
}
