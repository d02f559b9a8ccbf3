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

    /// Figure 13, receiver: "Reply immediately if term < currentTerm", and "If existing log entry has same index and term as
    /// snapshot's last included entry, retain log entries following it" is RaftCore's.
    @Test func `a snapshot of an earlier term is refused before anything of it is kept`() throws {
        let cluster = try TestCluster()
        let leader = try #require(try cluster.leader())
        #expect(try cluster.put(3, at: leader))
        try cluster.run(for: .milliseconds(200))
        let follower = try #require(cluster.nodes.first { $0 !== leader })
        let from = try #require(leader.inspect(group) { raft, _ in raft.peer })
        let (to, term) = try #require(follower.inspect(group) { raft, _ in (raft.peer, raft.term) })
        let incarnation = try #require(leader.engine?.incarnation)
        let before = follower.inspect(group) { _, applied in applied }
        func offer(_ term: Term, number: UInt64) -> [SnapshotMessage.Body] {
            follower.snapshots.removeAll()
            follower.notes.removeAll()
            var frame = PeerFrame(from: leader.id, incarnation: incarnation)
            frame.snapshots = [
                SnapshotMessage(
                    group: group, from: from, to: to, epoch: .zero, term: term,
                    snapshot: SnapshotID(source: from.replica, incarnation: incarnation, number: number),
                    body: .piece(number: 7, bytes: [], checksum: 0, manifest: nil))
            ]
            follower.turn(.frame(frame))
            return follower.snapshots.map(\.body)
        }
        #expect(offer(Term(term.rawValue - 1), number: 1) == [.abandoned])
        #expect(follower.notes.isEmpty && follower.inspect(group) { _, applied in applied } == before)
        // Of this term it would be taken: the answer names the piece that is wanted.
        #expect(offer(term, number: 2) == [.received(next: 0)])
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
