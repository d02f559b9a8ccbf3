import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import StoreLayout
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

    /// A transfer that the receiver's process left in the middle, with half of its pieces there. The receiver has started again.
    private func broken(
        isKept: Bool
    ) throws -> (cluster: TestCluster, leader: TestNode, late: TestNode, arrived: UInt64) {
        let (cluster, leader, late) = try behind()
        let before = late.state
        late.isCut = false
        func arrived() -> UInt64 {
            late.snapshots.reduce(0) { if case .received(let next) = $1.body { max($0, next) } else { $0 } }
        }
        for _ in 0..<100_000 where arrived() < 6 { try cluster.run(for: .microseconds(100)) }
        #expect(arrived() >= 6)
        if isKept { try late.state.flush() }
        let count = arrived()
        late.crash()
        if !isKept { late.state = before }
        #expect(late.notes.allSatisfy { $0 != .flushAsked }, "it was through already")
        leader.snapshots.removeAll()
        try late.start(cluster.settings)
        return (cluster, leader, late, count)
    }

    private func sent(_ leader: TestNode) -> [UInt64] {
        leader.snapshots.compactMap { if case .piece(let number, _, _, _) = $0.body { number } else { nil } }
    }

    @Test func `a receiver that starts again goes on with the piece after those that it has`() throws {
        let (cluster, leader, late, arrived) = try broken(isKept: true)
        #expect(try cluster.run(until: { late.applied(group) == leader.applied(group) }, limit: .seconds(2)))
        let least = try #require(sent(leader).min())
        #expect(least >= arrived, "piece \(least) was sent again, of \(arrived)")
        #expect(
            late.inspect(group) { _, applied in applied.digest }
                == leader.inspect(group) { _, applied in applied.digest })
    }

    @Test func `a receiver that lost what had arrived is sent it again at once, and not after the sender has given up`()
        throws
    {
        let (cluster, leader, late, _) = try broken(isKept: false)
        #expect(try cluster.run(until: { late.applied(group) == leader.applied(group) }, limit: .seconds(2)))
        #expect(sent(leader).min() == 0)
    }

    @Test
    func `where a piece takes longer than an answer is waited for, a snapshot comes without many pieces sent twice`()
        throws
    {
        let (cluster, leader, late) = try behind()
        cluster.pieceTime = cluster.settings.snapshotRetry * 2
        late.isCut = false
        leader.snapshots.removeAll()
        #expect(try cluster.run(until: { late.applied(group) == leader.applied(group) }, limit: .seconds(60)))
        let pieces = sent(leader)
        #expect(Set(pieces).count >= 10)
        #expect(pieces.count <= Set(pieces).count + 12, "\(pieces)")
    }

    @Test func `what had arrived of a snapshot that nobody goes on with is removed`() throws {
        let (cluster, _, late, _) = try broken(isKept: true)
        late.isCut = true
        #expect(try StoredState.generations(of: group, in: late.state).count == 2)
        try cluster.run(for: cluster.settings.snapshotTimeout + .seconds(1))
        #expect(try StoredState.generations(of: group, in: late.state).count == 1)
    }
}
