import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Testing

private let group = GroupID(1)

@Suite struct ForwardingTests {
    private static var settings: NodeSettings {
        var settings = NodeSettings()
        settings.forwardsRequests = true
        return settings
    }

    /// Three nodes with the group, and one without that knows where it is.
    private func cluster(_ settings: NodeSettings = settings) throws -> TestCluster {
        let cluster = try TestCluster(nodes: 4, hosts: 3, settings)
        let hosts = (1...3).map { NodeID($0) }
        for node in cluster.nodes {
            node.turn(.directory(Directory([Directory.Row(group: group, nodes: hosts)])))
        }
        return cluster
    }

    private func get(_ key: String) -> ClientRequest { .query(group, .space(.get(key: Array(key.utf8)))) }

    private func answer(_ cluster: TestCluster, _ node: TestNode, _ request: ClientRequest) throws -> ClientAnswer? {
        let ticket = cluster.nextTicket()
        node.turn(.request(request, ticket: ticket))
        _ = try cluster.run { !node.answers(to: ticket).isEmpty }
        #expect(node.answers(to: ticket).count <= 1)
        return node.answers(to: ticket).first
    }

    private func put(_ key: String, bytes: Int = 1) -> ClientRequest {
        .command(
            group,
            SpaceCommand(.put(key: Array(key.utf8), value: [UInt8](repeating: 7, count: bytes))).encoded())
    }

    private func version(_ answer: ClientAnswer?) -> UInt64? {
        guard case .applied(.space(let result))? = answer, case .written(let version) = result.outcome else {
            return nil
        }
        return version
    }

    @Test func `any node can be asked, with a replica or without`() throws {
        let cluster = try cluster()
        _ = try #require(try cluster.leader())
        for (i, node) in cluster.nodes.enumerated() {
            #expect(version(try answer(cluster, node, put("k"))) == UInt64(i + 1))
            guard case .read(.space(let read))? = try answer(cluster, node, get("k")),
                case .record(let record) = read.body
            else {
                Issue.record("node \(node.id) did not read")
                continue
            }
            #expect(record?.version == UInt64(i + 1))
        }
    }

    @Test func `a leader without space refuses what clients write wherever they ask, and takes it again by itself`()
        throws
    {
        let cluster = try cluster()
        let leader = try #require(try cluster.leader())
        #expect(version(try answer(cluster, leader, put("k"))) == 1)
        leader.turn(.spaceLow(true))
        for node in cluster.nodes { #expect(try answer(cluster, node, put("k")) == .refused(.spaceLow)) }
        guard case .read? = try answer(cluster, cluster.nodes[3], get("k")) else {
            Issue.record("reads go on")
            return
        }
        leader.turn(.spaceLow(false))
        #expect(version(try answer(cluster, cluster.nodes[3], put("k"))) == 2)
    }

    @Test func `a request waits for a leader and is done once there is one`() throws {
        let cluster = try cluster()
        let leader = try #require(try cluster.leader())
        try cluster.run(for: .milliseconds(200))
        leader.crash()
        for node in cluster.nodes where node !== leader { node.turn(.linkBroken(leader.id, .refused)) }
        let others = cluster.nodes.filter { $0 !== leader }
        let tickets = others.map { _ in cluster.nextTicket() }
        for (node, ticket) in zip(others, tickets) { node.turn(.request(put("k"), ticket: ticket)) }
        let reads = others.map { _ in cluster.nextTicket() }
        for (node, ticket) in zip(others, reads) { node.turn(.request(get("k"), ticket: ticket)) }
        try cluster.run(for: .seconds(4))
        for (node, ticket) in zip(others, tickets) {
            #expect(version(node.answers(to: ticket).first) != nil, "\(node.answers(to: ticket))")
        }
        for (node, ticket) in zip(others, reads) {
            guard case .read = node.answers(to: ticket).first else {
                Issue.record("\(node.answers(to: ticket))")
                continue
            }
        }
    }

    @Test func `a command waits as long as it may for a group whose last replica knows of no leader`() throws {
        let cluster = try cluster()
        let leader = try #require(try cluster.leader())
        let others = cluster.nodes[..<3].filter { $0 !== leader }
        for node in [leader, others[0]] {
            node.crash()
            for other in cluster.nodes where other.engine != nil { other.turn(.linkBroken(node.id, .refused)) }
        }
        let asked = cluster.nodes[3]
        let ticket = cluster.nextTicket()
        asked.turn(.request(put("k"), ticket: ticket))
        try cluster.run(for: .seconds(3))
        #expect(asked.answers(to: ticket).isEmpty, "nobody says that there is no leader before there was time for one")
        try others[0].start(ForwardingTests.settings)
        for other in cluster.nodes where other.engine != nil && other !== others[0] {
            other.turn(.linkUp(others[0].id))
        }
        _ = try cluster.run(until: { !asked.answers(to: ticket).isEmpty })
        #expect(version(asked.answers(to: ticket).first) == 1, "\(asked.answers(to: ticket))")
    }

    @Test func `a command whose node falls silent is unknown, and nobody asks it again`() throws {
        let cluster = try cluster()
        let leader = try #require(try cluster.leader())
        let asked = cluster.nodes[3]
        #expect(version(try answer(cluster, asked, put("k"))) == 1)
        leader.isCut = true
        let ticket = cluster.nextTicket()
        asked.turn(.request(put("k"), ticket: ticket))
        try cluster.run(for: .milliseconds(4_900))
        #expect(asked.answers(to: ticket).isEmpty)
        try cluster.run(for: .milliseconds(200))
        #expect(asked.answers(to: ticket) == [.unknown])
        let next = try #require(try cluster.leader(except: leader))
        #expect(version(try answer(cluster, next, put("k"))) == 2, "the lost one never took effect")
    }

    @Test func `a node without a replica asks past a leader that fell silent`() throws {
        let cluster = try cluster()
        let leader = try #require(try cluster.leader())
        let asked = cluster.nodes[3]
        #expect(version(try answer(cluster, asked, put("k"))) == 1)
        leader.isCut = true
        // Each one that nobody answers is one node of the group less to begin with.
        var answers: [ClientAnswer] = []
        for _ in 0..<4 where !answers.contains(where: { version($0) != nil }) {
            let ticket = cluster.nextTicket()
            asked.turn(.request(put("k"), ticket: ticket))
            _ = try cluster.run(until: { !asked.answers(to: ticket).isEmpty }, limit: .seconds(6))
            answers += asked.answers(to: ticket)
        }
        #expect(answers.first == .unknown)
        #expect(answers.contains { version($0) == 2 }, "\(answers)")
    }

    @Test func `a broken connection answers at once, and a query is asked elsewhere`() throws {
        let cluster = try cluster()
        let leader = try #require(try cluster.leader())
        let asked = cluster.nodes[3]
        #expect(version(try answer(cluster, asked, put("k"))) == 1)
        leader.isCut = true
        let (write, read) = (cluster.nextTicket(), cluster.nextTicket())
        asked.turn(.request(put("k"), ticket: write), .request(get("k"), ticket: read))
        asked.turn(.linkBroken(leader.id, .closed))
        #expect(asked.answers(to: write) == [.unknown])
        #expect(try cluster.run(until: { !asked.answers(to: read).isEmpty }, limit: .seconds(4)))
        guard case .read = asked.answers(to: read)[0] else {
            Issue.record("\(asked.answers(to: read))")
            return
        }
    }

    @Test func `a query goes to another node when one is silent`() throws {
        let cluster = try cluster()
        let leader = try #require(try cluster.leader())
        let asked = cluster.nodes[3]
        leader.isCut = true
        let read = cluster.nextTicket()
        asked.turn(.request(get("k"), ticket: read))
        #expect(try cluster.run(until: { !asked.answers(to: read).isEmpty }, limit: .seconds(5)))
        guard case .read = asked.answers(to: read)[0] else {
            Issue.record("\(asked.answers(to: read))")
            return
        }
    }

    @Test func `a query that is longer under way than another node is asked after is answered all the same`() throws {
        let cluster = try cluster()
        _ = try #require(try cluster.leader())
        cluster.frameDelay = .milliseconds(150)
        // Until everybody has got used to it.
        try cluster.run(for: .seconds(20))
        _ = try #require(try cluster.leader())
        let asked = cluster.nodes[3]
        #expect(version(try answer(cluster, asked, put("k"))) == 1)
        for _ in 0..<6 {
            // To the leader and back, and from there to a quorum and back: twice 300 ms.
            guard case .read? = try answer(cluster, asked, get("k")) else {
                Issue.record("a query was not answered")
                return
            }
        }
    }

    @Test func `a frame that arrives twice takes effect once`() throws {
        let cluster = try cluster()
        _ = try #require(try cluster.leader())
        cluster.repeatsFrames = true
        let asked = cluster.nodes[3]
        for i in 1...50 { #expect(version(try answer(cluster, asked, put("k"))) == UInt64(i)) }
    }

    @Test func `many requests at once all come back, each to its own client`() throws {
        let cluster = try cluster()
        _ = try #require(try cluster.leader())
        let asked = cluster.nodes[3]
        let tickets = (0..<3_000).map { _ in cluster.nextTicket() }
        for ticket in tickets { asked.engine?.handle(.request(put("k\(ticket)"), ticket: ticket), now: cluster.now) }
        asked.turn()
        try cluster.run(for: .seconds(3))
        for ticket in tickets { #expect(version(asked.answers(to: ticket).first) == 1) }
    }

    @Test func `what is beyond the bounds is refused at once`() throws {
        var settings = ForwardingTests.settings
        settings.forwardsMax = 5
        settings.forwardBytesMax = 1_000
        let cluster = try cluster(settings)
        _ = try #require(try cluster.leader())
        let asked = cluster.nodes[3]
        let tickets = (0..<8).map { _ in cluster.nextTicket() }
        for ticket in tickets { asked.engine?.handle(.request(put("k"), ticket: ticket), now: cluster.now) }
        #expect(tickets.map { asked.answers(to: $0) }[5...].allSatisfy { $0 == [.refused(.overloaded)] })
        asked.turn()
        try cluster.run(for: .seconds(1))
        #expect(tickets[..<5].allSatisfy { version(asked.answers(to: $0).first) != nil })
        #expect(try answer(cluster, asked, put("k", bytes: 2_000)) == .refused(.overloaded))
        #expect(try answer(cluster, asked, put("k", bytes: 2 << 20)) == .refused(.tooLarge))
        #expect(try answer(cluster, asked, .command(GroupID(77), [1])) == .refused(.noSuchGroup))
        #expect(try answer(cluster, asked, .query(group, .root(.cluster))) == .refused(.malformed))
        #expect(version(try answer(cluster, asked, put("k"))) == 6, "the bounds are free again")
    }

    @Test func `an old directory costs time and not the answer`() throws {
        let cluster = try cluster()
        _ = try #require(try cluster.leader())
        let asked = cluster.nodes[0]
        asked.turn(.destroyReplica(group))
        let row = Directory.Row(group: group, nodes: [NodeID(4), NodeID(1), NodeID(2), NodeID(3)])
        asked.turn(.directory(Directory([row])))
        _ = try #require(try cluster.leader(except: asked))
        #expect(version(try answer(cluster, asked, put("k"))) == 1)
    }

    @Test func `nobody in the group answers in time: what was never sent is unavailable`() throws {
        let cluster = try cluster()
        _ = try #require(try cluster.leader())
        for node in cluster.nodes[..<3] { node.crash() }
        let asked = cluster.nodes[3]
        for node in cluster.nodes[..<3] { asked.turn(.linkBroken(node.id, .refused)) }
        let (write, read) = (cluster.nextTicket(), cluster.nextTicket())
        asked.turn(.request(put("k"), ticket: write), .request(get("k"), ticket: read))
        try cluster.run(for: .seconds(6))
        #expect(asked.answers(to: write) == [.refused(.unavailable)])
        #expect(asked.answers(to: read) == [.refused(.unavailable)])
    }

    @Test func `a request for a group that ends meanwhile is told so, once that is known`() throws {
        let cluster = try cluster()
        _ = try #require(try cluster.leader())
        for node in cluster.nodes[..<3] { node.crash() }
        let outside = cluster.nodes[3]
        for node in cluster.nodes[..<3] { outside.turn(.linkBroken(node.id, .refused)) }
        let ticket = cluster.nextTicket()
        outside.turn(.request(put("k"), ticket: ticket))
        try cluster.run(for: .milliseconds(200))
        #expect(outside.answers(to: ticket).isEmpty)
        outside.turn(.directory(Directory([])))
        try cluster.run(for: .milliseconds(300))
        #expect(outside.answers(to: ticket) == [.refused(.noSuchGroup)])
    }

    @Test func `leadership can be handed over from any node`() throws {
        let cluster = try cluster()
        let leader = try #require(try cluster.leader())
        let target = try #require(cluster.nodes[..<3].first { $0 !== leader })
        let asked = cluster.nodes[3]
        let request = ClientRequest.transferLeadership(group, to: ReplicaID(target.id.rawValue))
        #expect(try answer(cluster, asked, request) == .accepted)
        #expect(try cluster.run { target.leads(group) })
    }

    // MARK: Groups that come to be, and the root

    @Test func `a group begins on the nodes that are told of the same first members`() throws {
        let cluster = try TestCluster(nodes: 4, hosts: 3, ForwardingTests.settings)
        let new = GroupID(9)
        let members = Configuration(
            members: (2...4).map {
                Member(peer: Peer(replica: ReplicaID($0 - 1), node: NodeID($0)), role: .voter)
            })
        for node in cluster.nodes[1...] {
            let replica = ReplicaID(node.id.rawValue - 1)
            node.turn(.createGroup(new, replica, members))
            node.turn(.createGroup(new, replica, members))
        }
        let leader = try #require(try cluster.leader(of: new))
        let command = SpaceCommand(.put(key: [1], value: [2])).encoded()
        #expect(version(try answer(cluster, leader, .command(new, command))) == 1)
        let victim = try #require(cluster.nodes[1...].first { $0 !== leader })
        victim.crash()
        try victim.start(cluster.settings)
        #expect(
            try cluster.run { victim.applied(new) == leader.applied(new) }, "it knows its members from its own disk")
        victim.turn(.destroyReplica(new))
        try cluster.run(for: .milliseconds(100))
        let used = ReplicaID(victim.id.rawValue - 1)
        victim.turn(.createGroup(new, used, members))
        try cluster.run(for: .milliseconds(100))
        #expect(victim.engine?.groups.contains(new) == false, "an id that was held here is not held again")
    }

    @Test func `the root group runs the root's state machine under the leader's clock`() throws {
        let cluster = try TestCluster(nodes: 3, ForwardingTests.settings)
        let members = Configuration.voters(1...3)
        for node in cluster.nodes {
            node.turn(.createGroup(.root, ReplicaID(node.id.rawValue), members), .wallClock(LogTime(1_700_000_000_000)))
        }
        let began = cluster.now
        _ = try #require(try cluster.leader(of: .root))
        let hash = { (byte: UInt8) in [UInt8](repeating: byte, count: 32) }
        let founding = RootCommand.Founding(
            cluster: [UInt8](repeating: 7, count: 16), name: "test",
            node: NodeDescription(
                name: "n1", peerAddress: "a:1", adminAddress: "a:2", key: hash(1), programVersion: "1", level: 1),
            certificate: NodeCertificate(fingerprint: hash(2), issuer: hash(3), expiresAt: LogTime(5)),
            authority: Authority(fingerprint: hash(3), certificate: [1], signs: true, since: .zero),
            administrator: Operator(name: "admin", role: .administrator, kind: .bearer, credential: hash(4)))
        let asked = cluster.nodes[2]
        let found = RootCommand(.found(founding)).encoded()
        guard case .applied(.root(let result))? = try answer(cluster, asked, .command(.root, found)) else {
            Issue.record("the root did not answer")
            return
        }
        #expect(result.outcome == .node(NodeID(1)))
        guard case .read(.root(let read))? = try answer(cluster, asked, .query(.root, .root(.cluster))) else {
            Issue.record("the root did not answer")
            return
        }
        #expect(read.records(RootCluster.self)?.first?.name == "test")
        let passed = UInt64((cluster.now - began).milliseconds)
        #expect(read.time.rawValue >= 1_700_000_000_000 && read.time.rawValue <= 1_700_000_000_000 + passed)
        guard case .read(.root(let rows))? = try answer(cluster, asked, .query(.root, .root(RootView().nextQuery)))
        else {
            return
        }
        var followed = RootView()
        let isLoaded = followed.take(rows)
        #expect(isLoaded)
        #expect(followed.nodes.map(\.name) == ["n1"])
    }
}
