import BackupFormat
import BinaryCoding
import ClusterBase
import FleetModel
import NodePorts
import RaftCore
import Schema
import Simulator
import StoreLayout
import Testing

@Suite struct BackupFormatTests {
    @Test(arguments: [1, 7, 4_096, 1 << 20])
    func `what a backup brings back is what was saved, however the file is read`(
        step: Int
    ) throws {
        let bench = try BackupBench(keys: step == 1 ? 3 : 700)
        let saved = try bench.whole()
        var state = MemoryStore()
        var log = MemoryStore()
        let scan = try scan(saved, step: step, into: &state)
        #expect(scan.groups.map(\.name) == ["root", "box"])
        let node = try BackupRestore.node(scan)
        #expect(node == NodeID(2))
        try BackupRestore.finish(scan, as: BackupBench.founding(20, "r1"), log: &log, state: &state)

        // The space: the same rows, and a log that goes on far behind where its state stood.
        let before = StateReader(BackupBench.box, generation: 1, bench.store)
        let after = StateReader(BackupBench.box, generation: 2, state)
        // What is known of keys and of clients; the bookkeeping and the history are the new space's.
        #expect(try rows(before).filter { 0x11...0x13 ~= $0[0][0] } == rows(after).filter { 0x11...0x13 ~= $0[0][0] })
        guard
            case .log(let replica, let restored, let snapshot) = try StoredLog.restore(
                BackupBench.box, cacheBytesMax: 1 << 20, in: log)
        else {
            Issue.record("the space has no log")
            return
        }
        let generation = try StoredState.generation(of: BackupBench.box, snapshot: snapshot, in: state)
        #expect(generation == 2)
        let applied = try StoredState.applied(BackupBench.box, generation: 2, in: state)
        #expect(applied.isAt(restored.base))
        // Whoever watched the old space, and may have seen more than was saved, lists again.
        let seen = try Space.read(.changes(since: .zero, prefix: [], limit: 0), before).revision
        #expect(applied.index.rawValue > seen.index.rawValue + 1_000_000)
        for since in [seen, .end(of: LogIndex(seen.index.rawValue + 1_000))] {
            let told = try Space.read(.changes(since: since, prefix: [], limit: 0), after).body
            #expect(told == .compacted(.end(of: applied.index)))
        }
        #expect(restored.base.configuration.members.map(\.peer) == [Peer(replica: replica, node: node)])
        #expect(replica > ReplicaID(1))

        // The root: everything but what trusted the old cluster.
        let root = StateReader(.root, generation: 2, state)
        func all<Record: RootRecord>(_ type: Record.Type) throws -> [Record] {
            try #require(try Root.read(.all(Record.table), root).records(type))
        }
        let cluster = try #require(try all(RootCluster.self).first)
        #expect(cluster.id == [UInt8](repeating: 20, count: 16))
        #expect(cluster.name == "test")
        #expect(try all(RootNode.self).filter { $0.state != .removed }.map(\.name) == ["r1"])
        #expect(try all(JoinToken.self).isEmpty)
        #expect(try all(Authority.self).map(\.fingerprint) == [BackupBench.hash(22)])
        #expect(try all(Operator.self).map(\.name) == ["admin", "token-1"])
        #expect(try all(BackupSchedule.self).map(\.name) == ["nightly"])
        #expect(try all(RootSpace.self).map(\.name) == ["box", "empty"])
        #expect(try all(RootSettingValue.self) == [RootSettingValue(.rootVoters, 5)])
        let placements = try all(GroupPlacement.self)
        #expect(placements.map(\.replicas.count) == [1, 0, 1])
        #expect(placements.allSatisfy { $0.replicas.allSatisfy { $0.node == node && $0.phase == .made } })
        // And it is a root that goes on: it answers followers from now on, and takes commands.
        #expect(try Root.read(.changes(since: .zero, limit: 0), root).body == .compacted(position(of: .root, state)))
    }

    private func position(of group: GroupID, _ state: MemoryStore) throws -> LogIndex {
        try StoredState.applied(group, generation: 2, in: state).index
    }

    private func rows(_ reader: some OrderedReader) throws -> [[[UInt8]]] {
        var found: [[[UInt8]]] = []
        try reader.scan(KeyRange(from: [0x10], to: nil)) { key, value in
            found.append([key, value])
            return true
        }
        return found
    }

    @Test func `every byte that is changed and every place where it is cut off is noticed`() throws {
        let bytes = try BackupBench(keys: 2).whole()
        #expect(refusal(bytes) == nil)
        for i in bytes.indices {
            var damaged = bytes
            damaged[i] ^= 1 << (i % 8)
            let failure = refusal(damaged)
            #expect(failure != nil, "byte \(i)")
            let end = refusal(Array(bytes[..<i]))
            #expect(end?.reason == .cutOff, "cut at \(i)")
        }
        #expect(refusal(bytes + bytes)?.reason == .damaged)
        #expect(refusal(Array("this is no backup at all".utf8)) != nil)
    }

    @Test func `a group that the root names and that is not there makes it incomplete, unless it says that it is gone`()
        throws
    {
        let bench = try BackupBench(keys: 2)
        let root = try bench.frames(.root, "root")
        #expect(refusal(BackupBench.head + root + BackupBench.end(1))?.reason == .incomplete)
        let gone = BackupBench.frame(
            .group(BackupRecord.Group(group: BackupBench.box.rawValue, name: "box", isGone: true)))
        var state = MemoryStore()
        var log = MemoryStore()
        let scan = try scan(BackupBench.head + root + gone + BackupBench.end(1), into: &state)
        try BackupRestore.finish(scan, as: BackupBench.founding(20, "r1"), log: &log, state: &state)
        let reader = StateReader(.root, generation: 2, state)
        #expect(try Root.read(.all(.spaces), reader).records(RootSpace.self)?.map(\.name) == ["empty"])
    }

    @Test func `a group that was abandoned begins again and counts once`() throws {
        let bench = try BackupBench(keys: 700)
        let box = try bench.frames(BackupBench.box, "box")
        // The first record and the first piece of it.
        var frames = BackupFrames()
        frames.append(box)
        let part = try #require(try frames.next()).bytes + #require(try frames.next()).bytes
        #expect(part.count < box.count)
        let whole =
            try BackupBench.head + bench.frames(.root, "root") + part + BackupBench.frame(.abandoned(.init())) + box
            + BackupBench.end(2)
        var state = MemoryStore()
        let scan = try scan(whole, into: &state)
        #expect(scan.groups.count == 2)
        #expect(
            try StoredState.contents(BackupBench.box, generation: 2, in: state)
                == StoredState.contents(BackupBench.box, generation: 1, in: bench.store))
    }

    @Test func `records are as another implementation of protobuf has them`() throws {
        func expect(_ name: String, _ body: BackupRecord.Body) throws {
            let record = BackupRecord(version: 1, body: body)
            #expect(record.serialized() == (try golden(name)), "\(name)")
            #expect(try BackupRecord(serialized: golden(name)) == record, "\(name)")
        }
        try expect(
            "backup-head-v1",
            .head(
                .init(
                    clusterID: [UInt8](0..<16), clusterName: "local", takenAt: 1_700_000_000_000, programVersion: "0.1",
                    level: 1)))
        try expect(
            "backup-group-v1",
            .group(.init(group: 1 << 56, name: "root", index: 1000, term: 6, chain: 0xFEDC_BA98_7654_3210)))
        try expect(
            "backup-piece-v1",
            .piece(
                .init(
                    number: 3, bytes: Array("rows".utf8), isPacked: true, checksum: 0xDEAD_BEEF,
                    total: .init(keyCount: 17, digest: 18))))
        try expect("backup-abandoned-v1", .abandoned(.init()))
        try expect("backup-end-v1", .end(.init(groups: 2)))
    }
}
