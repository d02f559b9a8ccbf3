import ClusterBase
import NodePorts
import NodeRuntime
import RaftCore
import Testing

@Suite struct IdleGroupsTests {
    /// A thousand groups cost what one does when nobody uses them: beats between nodes, and nothing per group.
    @Test func `idle groups send no message of their own`() throws {
        let groups: UInt64 = 1_000
        let cluster = try TestCluster(groups: groups)
        let areLed = try cluster.run {
            (1...groups).allSatisfy { group in cluster.nodes.contains { $0.leads(GroupID(group)) } }
        }
        #expect(areLed)
        // What the elections left behind is acknowledged and applied everywhere.
        try cluster.run(for: .seconds(2))
        for node in cluster.nodes {
            node.frames = 0
            node.messages.removeAll()
            node.reports.removeAll()
            node.notes.removeAll()
        }
        try cluster.run(for: .seconds(10))
        let frames = cluster.nodes.map(\.frames)
        // One frame per beat and peer: 15 ms apart at the fastest.
        let most = Int(Nanoseconds.seconds(10).count / cluster.settings.liveness.beatInterval.count) * 2
        for node in cluster.nodes {
            #expect(node.messages.isEmpty, "\(node.messages.count) messages, the first \(node.messages.prefix(1))")
            #expect(node.reports.isEmpty, "\(node.reports.prefix(3))")
            #expect(!node.notes.contains(.writesAsked(snapshot: false)))
            #expect(node.frames > most / 8 && node.frames <= most + most / 10, "\(frames) frames in 10 s")
        }
    }
}
