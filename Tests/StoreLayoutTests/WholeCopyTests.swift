import ClusterBase
import NodePorts
import RaftCore
import Simulator
import StoreLayout
import Testing

/// What a copy takes along of a store of which not everything is whole.
@Suite struct WholeCopyTests {
    let node = NodeIdentity(cluster: [UInt8](repeating: 5, count: 16), node: NodeID(3))

    /// Whatever the order of its parts, a copy comes in batches.
    func copy(_ store: MemoryStore) throws -> (copy: MemoryStore, lost: [CopyLoss]) {
        var copy = MemoryStore()
        let lost = try StoredLog.copyWhole(from: store) { batch throws(StoreError) in
            try copy.write(batch, isSynced: true)
        }
        return (copy, lost)
    }

    func key(_ group: GroupID, _ kind: String) -> [UInt8] {
        var key: [UInt8] = []
        key.appendBigEndian(group.rawValue)
        return key + Array(kind.utf8)
    }

    @Test func `whole logs are copied with what they forgot left behind, and damaged ones stay damaged`() throws {
        var (store, entries, state) = try storeWithLog(20)
        var nodeStore = MemoryStore()
        try StoredLog.format(node, in: &nodeStore)
        var record = WriteBatch()
        try nodeStore.scan(KeyRange(from: [], to: nil)) { key, value in
            record.put(key, value)
            return true
        }
        try store.write(record, isSynced: true)
        // The log is cut at 8, and a row below it lies about still.
        let base = LogBase(
            index: entries[7].index, term: entries[7].term, chain: entries[7].chain, configuration: members)
        try store.write(StoredLog.batch(for: [write([], state, last: LogIndex(20), base: base)]), isSynced: true)
        var leftover = WriteBatch()
        let below: [UInt8] = key(group, "e") + [0, 0, 0, 0, 0, 0, 0, 3]
        leftover.put(below, [1, 2, 3])
        for other in [8, 9, 10] as [UInt64] {
            try StoredLog.createReplica(
                GroupID(other), ReplicaID(other), RestoredLog(firstMembers: members), in: &store)
        }
        try StoredLog.destroyReplica(GroupID(8), ReplicaID(8), in: &store)
        leftover.put(key(GroupID(9), "r"), [9, 9, 9])
        leftover.delete(key(GroupID(10), "h"))
        try store.write(leftover, isSynced: true)

        let (copy, lost) = try copy(store)
        #expect(lost.map(\.group) == [GroupID(9), GroupID(10)])
        #expect(try StoredLog.identity(in: copy).identity == node)
        let (mine, theirs) = (try restored(copy), try restored(store))
        #expect(mine.base == theirs.base && mine.hardState == theirs.hardState)
        #expect(mine.last == theirs.last && mine.lastChain == theirs.lastChain && mine.tail == theirs.tail)
        #expect(try copy.value(for: below) == nil)
        #expect(try StoredLog.groups(in: copy) == [7, 8, 9, 10].map { GroupID($0) })
        guard case .tombstone(ReplicaID(8)) = try StoredLog.restore(GroupID(8), cacheBytesMax: 0, in: copy) else {
            Issue.record("a replica that was removed may come back")
            return
        }
        guard case .damaged(nil, _) = try StoredLog.restore(GroupID(9), cacheBytesMax: 0, in: copy),
            case .damaged(ReplicaID(10)?, _) = try StoredLog.restore(GroupID(10), cacheBytesMax: 0, in: copy)
        else {
            Issue.record("a damaged replica goes on, or is as if it had never been")
            return
        }
    }

    @Test func `the state of the named groups is copied in batches, and no other`() throws {
        var store = MemoryStore()
        var batch = WriteBatch()
        for group in [7, 8, 9] as [UInt64] {
            for row in 0..<300 {
                batch.put(
                    key(GroupID(group), "\u{0}\u{0}\u{0}\u{1} \(row)"), [UInt8](repeating: UInt8(group), count: 20_000))
            }
        }
        try store.write(batch, isSynced: true)
        var copy = MemoryStore()
        var batches = 0
        let lost = try StoredState.copyWhole(of: [GroupID(7), GroupID(9)], from: store) { batch throws(StoreError) in
            #expect(batch.byteCount < 5 << 20)
            batches += 1
            try copy.write(batch, isSynced: false)
        }
        #expect(lost.isEmpty && batches >= 4)
        #expect(try StoredState.groups(in: copy) == [GroupID(7), GroupID(9)])
        for group in [7, 9] as [UInt64] {
            var rows = 0
            try copy.scan(.prefix(key(GroupID(group), ""))) { _, value in
                rows += value.count == 20_000 && value[0] == UInt8(group) ? 1 : 0
                return true
            }
            #expect(rows == 300)
        }
    }
}
