import ClusterBase
import FleetModel
import Testing

@Suite struct RootNodesTests {
    @Test func `nothing is done before the cluster is founded, and it is founded once`() throws {
        var root = RootBench(empty: ())
        #expect(try root.apply(.createSpace(name: "s", replicas: 0)) == .refused(.notFounded))
        #expect(try root.apply(.found(RootBench.founding)) == .node(NodeID(1)))
        #expect(try root.apply(.found(RootBench.founding)) == .refused(.alreadyFounded))
        let cluster = try #require(try root.all(RootCluster.self).first)
        #expect(cluster.nodeHighest == NodeID(1) && cluster.level == 1)
        let replica = try root.placement(.root).replicas
        #expect(replica.map(\.replica) == [ReplicaID(1)] && replica[0].phase == .made && replica[0].part == .voter)
    }

    @Test func `joining uses the token and registers the node in one step`() throws {
        var root = try RootBench()
        try root.addToken(uses: 2)
        #expect(try root.apply(.joinNode(token: RootBench.hash(9), RootBench.about("n2"))) == .node(NodeID(2)))
        #expect(try root.token().usesLeft == 1)
        #expect(try root.node(NodeID(2)).state == .joining)
        #expect(try root.apply(.reportNode(NodeID(2), RootBench.about("n2"))) == .node(NodeID(2)))
        #expect(try root.node(NodeID(2)).state == .active)
    }

    @Test func `a repeated join finds the same node and uses nothing`() throws {
        var root = try RootBench()
        try root.addToken(uses: 1)
        let join = RootCommand.Operation.joinNode(token: RootBench.hash(9), RootBench.about("n2"))
        #expect(try root.apply(join) == .node(NodeID(2)))
        #expect(try root.apply(join) == .node(NodeID(2)))
        #expect(try root.token().usesLeft == 0)
        root.time = LogTime(root.time.rawValue + 4 * 3_600_000)
        #expect(try root.apply(join) == .node(NodeID(2)), "the token has expired, the join is an old one")
    }

    @Test func `a join with another key takes the place of one that never ran, under a new id`() throws {
        var root = try RootBench()
        try root.addToken(uses: 1)
        #expect(try root.apply(.joinNode(token: RootBench.hash(9), RootBench.about("n2"))) == .node(NodeID(2)))
        let again = RootCommand.Operation.joinNode(token: RootBench.hash(9), RootBench.about("n2", key: 99))
        #expect(try root.apply(again) == .node(NodeID(3)))
        #expect(try root.node(NodeID(2)).state == .removed)
        _ = try root.apply(.reportNode(NodeID(3), RootBench.about("n2", key: 99)))
        let third = RootCommand.Operation.joinNode(token: RootBench.hash(9), RootBench.about("n2", key: 77))
        #expect(try root.apply(third) == .refused(.nameTaken("n2")), "it runs now")
    }

    @Test func `a token that is revoked, expired, used up or unknown lets nobody in`() throws {
        var root = try RootBench()
        try root.addToken(1, uses: 1)
        try root.addToken(2)
        try root.addToken(3)
        func join(_ byte: UInt8, _ name: String) -> RootCommand.Operation {
            .joinNode(token: RootBench.hash(byte), RootBench.about(name))
        }
        #expect(try root.apply(join(1, "a")) == .node(NodeID(2)))
        #expect(try root.apply(join(1, "b")) == .refused(.tokenUsedUp))
        #expect(try root.apply(.revokeToken(hash: RootBench.hash(2))) == .done)
        #expect(try root.apply(join(2, "b")) == .refused(.tokenRevoked))
        #expect(try root.apply(join(4, "b")) == .refused(.unknownToken))
        let expiresAt = try root.token(3).expiresAt
        root.time = expiresAt
        #expect(try root.apply(join(3, "b")) == .refused(.tokenExpired(expiresAt)))
        #expect(try root.all(RootNode.self).count == 2)
    }

    @Test func `a name is one node's until that node is removed, and its id is never given out again`() throws {
        var root = try RootBench()
        let first = try root.node("n2")
        let taken = RootCommand.Operation.joinNode(token: RootBench.hash(9), RootBench.about("n2", key: 1))
        #expect(try root.apply(taken) == .refused(.nameTaken("n2")))
        #expect(try root.apply(.removeNode(first, isForced: false)) == .node(first))
        guard case .node(let second) = try root.apply(taken) else {
            Issue.record("the name is not free")
            return
        }
        #expect(second > first)
        #expect(try root.apply(.reportNode(first, RootBench.about("n2"))) == .refused(.nodeRemoved(first)))
        #expect(try root.read(.nodeNamed("n2")).records(RootNode.self)?.map(\.id) == [second])
    }

    @Test func `a node that holds the only copy of something is removed only by force`() throws {
        var root = try RootBench()
        let other = try root.node("n2")
        #expect(try root.apply(.removeNode(NodeID(1), isForced: false)) == .refused(.holdsOnlyCopy(.root)))
        let group = try root.space("s", replicas: 1, on: [other])
        _ = try root.apply(.reportReplicas(other, made: [HeldReplica(group, ReplicaID(1))], lost: []))
        #expect(try root.apply(.removeNode(other, isForced: false)) == .refused(.holdsOnlyCopy(group)))
        #expect(try root.apply(.removeNode(other, isForced: true)) == .node(other))
        #expect(try root.apply(.removeNode(NodeID(1), isForced: true)) == .refused(.lastNode))
    }

    @Test func `a removed node's certificates count no more, and an old one only for the overlap`() throws {
        var root = try RootBench()
        let id = try root.node("n2")
        func certify(_ byte: UInt8) throws -> RootResult.Outcome {
            try root.apply(
                .certifyNode(
                    id,
                    NodeCertificate(
                        fingerprint: RootBench.hash(byte), issuer: RootBench.hash(1),
                        expiresAt: root.time.advanced(by: 24 * 3_600_000))))
        }
        #expect(try certify(60) == .node(id))
        #expect(try certify(61) == .node(id))
        var node = try root.node(id)
        #expect(node.accepts(RootBench.hash(60), at: root.time) && node.accepts(RootBench.hash(61), at: root.time))
        let later = root.time.advanced(by: 3_600_000)
        #expect(!node.accepts(RootBench.hash(60), at: later) && node.accepts(RootBench.hash(61), at: later))
        _ = try root.apply(.removeNode(id, isForced: false))
        node = try root.node(id)
        #expect(!node.accepts(RootBench.hash(61), at: root.time))
    }

    @Test func `a node keeps its name and key, and all else that it says is taken over`() throws {
        var root = try RootBench()
        let id = try root.node("n2")
        #expect(try root.apply(.reportNode(id, RootBench.about("n3"))) == .refused(.nodeMismatch(id)))
        #expect(try root.apply(.reportNode(id, RootBench.about("n2", key: 3))) == .refused(.nodeMismatch(id)))
        var moved = RootBench.about("n2", zone: "z9")
        moved.peerAddress = "[::1]:9"
        #expect(try root.apply(.reportNode(id, moved)) == .node(id))
        #expect(try root.node(id).about == moved)
    }

    @Test func `names, addresses and hashes that are none are refused`() throws {
        var root = try RootBench()
        try root.addToken()
        for name in ["", "A", "-a", "a-", "a b", "ä", String(repeating: "a", count: 64)] {
            #expect(
                try root.apply(.joinNode(token: RootBench.hash(9), RootBench.about(name, key: 5)))
                    == .refused(.invalid(.name)))
        }
        for address in ["", "host", "host:", ":1", "host:0", "host:65536", "ho st:1", "::1:5", "host:1x"] {
            var about = RootBench.about("n2")
            about.peerAddress = address
            #expect(
                try root.apply(.joinNode(token: RootBench.hash(9), about)) == .refused(.invalid(.peerAddress)),
                "\(address)")
        }
        #expect(try root.apply(.createToken(hash: [1], note: "", lifetime: 0, uses: 0)) == .refused(.invalid(.hash)))
        #expect(
            try root.apply(.createToken(hash: RootBench.hash(1), note: "", lifetime: 5, uses: 0))
                == .refused(.invalid(.lifetime)))
        #expect(try root.all(RootNode.self).count == 1)
    }

    @Test func `time follows the leaders' clocks and never goes back`() throws {
        var root = try RootBench()
        let now = root.time
        root.time = LogTime(5)
        _ = try root.apply(.noteTime)
        #expect(try root.read(.cluster).time == now)
        root.time = now.advanced(by: 7)
        _ = try root.apply(.noteTime)
        #expect(try root.read(.cluster).time == now.advanced(by: 7))
    }

    @Test func `a level is finalized when every node understands it, one by one, and older programs are refused then`()
        throws
    {
        var root = try RootBench()
        let old = try root.node("n2", level: 1)
        #expect(try root.apply(.finalizeLevel(3)) == .refused(.levelNotNext(2)))
        #expect(try root.apply(.finalizeLevel(2)) == .refused(.levelNotUnderstood(NodeID(1))))
        _ = try root.apply(.reportNode(NodeID(1), RootBench.about("n1", level: 2)))
        #expect(try root.apply(.finalizeLevel(2)) == .refused(.levelNotUnderstood(old)))
        _ = try root.apply(.reportNode(old, RootBench.about("n2", level: 2)))
        #expect(try root.apply(.finalizeLevel(2)) == .done)
        #expect(try root.apply(.finalizeLevel(2)) == .done)
        #expect(
            try root.apply(.joinNode(token: RootBench.hash(9), RootBench.about("n3", level: 1)))
                == .refused(.levelTooLow(needed: 2)))
        #expect(try root.apply(.reportNode(old, RootBench.about("n2", level: 1))) == .refused(.levelTooLow(needed: 2)))
    }
}
