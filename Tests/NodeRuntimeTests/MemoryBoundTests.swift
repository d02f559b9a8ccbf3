import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Testing

/// What a node's groups may take in memory together.
@Suite struct MemoryBoundTests {
    private func put(_ group: UInt64, _ key: String, bytes: Int, _ ticket: UInt64) -> NodeEvent {
        let command = SpaceCommand(.put(key: Array(key.utf8), value: [UInt8](repeating: 7, count: bytes)))
        return .request(.command(GroupID(group), command.encoded()), ticket: ticket)
    }

    private func outcome(_ node: TestNode, _ ticket: UInt64) -> String {
        switch node.answers(to: ticket).first {
        case .applied?: "applied"
        case .refused(.overloaded)?: "overloaded"
        case nil: "open"
        case let other?: "\(other)"
        }
    }

    @Test func `entries of all groups that are not committed have one bound, and room comes back with commits`() throws
    {
        var settings = NodeSettings()
        settings.uncommittedBytesMax = 1 << 20
        let cluster = try TestCluster(groups: 3, settings)
        try cluster.run(for: .seconds(3))
        let leader = try #require(
            cluster.nodes.first { node in node.engine?.inspect(GroupID(1)) { raft, _ in raft.isLeader } == true })
        let led = (1...3 as ClosedRange<UInt64>).filter { group in
            leader.engine?.inspect(GroupID(group)) { raft, _ in raft.isLeader } == true
        }
        for node in cluster.nodes { node.holdsWrites = true }
        var tickets: [UInt64] = []
        for i in 0..<9 {
            let ticket = cluster.nextTicket()
            tickets.append(ticket)
            leader.turn(put(led[i % led.count], "k\(i)", bytes: 200 << 10, ticket))
        }
        #expect(tickets[..<5].allSatisfy { outcome(leader, $0) == "open" }, "five of 200 KiB fit into a MiB")
        #expect(tickets[5...].allSatisfy { outcome(leader, $0) == "overloaded" })
        for node in cluster.nodes { try node.release() }
        try cluster.run(for: .seconds(1))
        #expect(tickets[..<5].allSatisfy { outcome(leader, $0) == "applied" })
        let again = cluster.nextTicket()
        leader.turn(put(led[0], "again", bytes: 200 << 10, again))
        try cluster.run(for: .seconds(1))
        #expect(outcome(leader, again) == "applied")
    }

    @Test func `groups share the room for recent entries, after a start too`() throws {
        var settings = NodeSettings()
        settings.cachesBytesMax = 1 << 20
        let cluster = try TestCluster(groups: 4, settings)
        try cluster.run(for: .seconds(3))
        for round in 0..<12 {
            for group in 1...4 as ClosedRange<UInt64> {
                for node in cluster.nodes { node.turn(put(group, "k\(round)", bytes: 50 << 10, cluster.nextTicket())) }
            }
            try cluster.run(for: .milliseconds(200))
        }
        func caches(_ node: TestNode) -> [Int] {
            (1...4).map { node.engine?.inspect(GroupID($0)) { raft, _ in raft.cacheBytes } ?? 0 }
        }
        for node in cluster.nodes {
            #expect(caches(node).allSatisfy { $0 <= 256 << 10 && $0 > 150 << 10 }, "\(caches(node))")
        }
        let node = cluster.nodes[0]
        node.crash()
        try node.start(settings)
        #expect(caches(node).allSatisfy { $0 <= 256 << 10 }, "\(caches(node))")
    }
}
