import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Testing

private let group = GroupID(1)

/// The order of a snapshot's switch: the state is durable before the log names it, and in use only after that.
@Suite struct SnapshotSwitchTests {
    /// A cluster whose third node has missed what the others no longer have in their logs.
    private func behind() throws -> (cluster: TestCluster, leader: TestNode, late: TestNode) {
        var settings = NodeSettings()
        settings.flushEntries = 10
        settings.trailingEntries = 0
        settings.cutEntriesMin = 1
        settings.snapshotPieceBytesMax = 200
        let cluster = try TestCluster(settings)
        let leader = try #require(try cluster.leader())
        let late = try #require(cluster.nodes.first { $0 !== leader })
        late.isCut = true
        #expect(try cluster.put(60, at: leader, bytes: 40))
        try cluster.run(for: .milliseconds(200))
        #expect((leader.inspect(group) { raft, _ in raft.base.index } ?? .zero) > late.applied(group))
        late.notes.removeAll()
        return (cluster, leader, late)
    }

    @Test func `the state is flushed before the log write that names the snapshot`() throws {
        let (cluster, leader, late) = try behind()
        late.isCut = false
        #expect(try cluster.run { late.applied(group) == leader.applied(group) })
        let named = try #require(late.notes.firstIndex(of: .writesAsked(snapshot: true)))
        let flushed = try #require(late.notes.firstIndex(of: .flushed))
        #expect(flushed < named)
        #expect(
            late.inspect(group) { _, applied in applied.digest }
                == leader.inspect(group) { _, applied in applied.digest })
    }

    @Test func `as long as the flush is not done the log does not name the snapshot`() throws {
        let (cluster, leader, late) = try behind()
        late.holdsFlushes = true
        late.isCut = false
        #expect(try cluster.run { late.notes.contains(.flushAsked) })
        try cluster.run(for: .seconds(1))
        #expect(!late.notes.contains(.writesAsked(snapshot: true)))
        try late.release()
        #expect(try cluster.run { late.applied(group) == leader.applied(group) })
        #expect(late.notes.contains(.written(snapshot: true)))
    }

    @Test func `until the log write is durable the old state stands, and a crash finds it whole`() throws {
        let (cluster, leader, late) = try behind()
        let before = late.inspect(group) { _, applied in applied }
        late.isCut = false
        #expect(
            try cluster.run {
                late.holdsWrites = late.notes.contains(.flushed)
                return late.notes.contains(.writesAsked(snapshot: true))
            })
        late.holdsWrites = true
        try cluster.run(for: .milliseconds(500))
        if !late.notes.contains(.written(snapshot: true)) {
            #expect(late.inspect(group) { _, applied in applied } == before)
        }
        late.crash()
        late.holdsWrites = false
        try late.start(cluster.settings)
        #expect(late.engine?.groups == [group])
        #expect(try cluster.run { late.applied(group) == leader.applied(group) })
    }
}
