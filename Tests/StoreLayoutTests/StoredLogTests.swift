import ClusterBase
import NodePorts
import RaftCore
import Simulator
import StoreLayout
import Testing

let group = GroupID(7)
let replica = ReplicaID(3)
let members = Configuration.voters([1, 2, 3])

/// Entries with commands, a no-op and a configuration, in rising terms.
func someEntries(_ count: Int, after base: LogBase = RestoredLog(firstMembers: members).base) -> [Entry] {
    var entries: [Entry] = []
    var chain = base.chain
    for i in 0..<count {
        let index = base.index.advanced(by: i + 1)
        let content: EntryContent =
            switch i % 5 {
            case 0: .noop
            case 3: .configuration(members)
            default: .command([UInt8](repeating: UInt8(truncatingIfNeeded: i), count: 3 + i % 4))
            }
        let entry = Entry(
            index: index, term: Term(base.term.rawValue + 1 + UInt64(i / 4)), after: chain, content: content)
        chain = entry.chain
        entries.append(entry)
    }
    return entries
}

func write(
    _ entries: [Entry], _ state: HardState, last: LogIndex, base: LogBase? = nil, snapshot: SnapshotID? = nil
) -> GroupWrite {
    GroupWrite(
        group: group, replica: replica,
        write: LogWrite(
            sequence: 1, hardState: state, entries: entries, last: last, base: base, snapshot: snapshot))
}

/// A store with a replica whose log has these entries.
func storeWithLog(_ count: Int) throws -> (store: MemoryStore, entries: [Entry], state: HardState) {
    var store = MemoryStore()
    try StoredLog.createReplica(group, replica, RestoredLog(firstMembers: members), in: &store)
    let entries = someEntries(count)
    let state = HardState(
        term: Term(entries.last.map { $0.term.rawValue + 2 } ?? 1), votedFor: ReplicaID(2),
        commit: LogIndex(UInt64(count / 2)))
    try store.write(StoredLog.batch(for: [write(entries, state, last: LogIndex(UInt64(count)))]), isSynced: true)
    return (store, entries, state)
}

func restored(_ store: MemoryStore, cacheBytesMax: Int = 1 << 20) throws -> RestoredLog {
    let found = try StoredLog.restore(group, cacheBytesMax: cacheBytesMax, in: store)
    guard case .log(replica, let log, _) = found else {
        Issue.record("\(found)")
        throw StoreError(.corrupt, "no log")
    }
    return log
}

func damage(_ store: MemoryStore) throws -> String? {
    guard case .damaged(_, let reason) = try StoredLog.restore(group, cacheBytesMax: 1 << 20, in: store) else {
        return nil
    }
    return reason
}

@Suite struct StoredLogTests {
    @Test func `what was written is restored: hard state, base, terms, configurations and tail`() throws {
        let (store, entries, state) = try storeWithLog(23)
        let log = try restored(store)
        let expected = RestoredLog(
            hardState: state, base: RestoredLog(firstMembers: members).base, entries: entries)
        #expect(log.hardState == state)
        #expect(log.base == expected.base)
        #expect(log.terms == expected.terms)
        #expect(log.configurations == expected.configurations)
        #expect(log.tail == entries)
        #expect(log.last == LogIndex(23))
        #expect(log.lastChain == entries[22].chain)
    }

    @Test func `a restored log keeps the newest entries within its bound, and all that may still be in conflict`()
        throws
    {
        let (store, entries, state) = try storeWithLog(40)
        let all = entries.reduce(0) { $0 + $1.byteCount }
        for bound in [0, 1, 100, 500, all / 2, all - 1, all] {
            let log = try restored(store, cacheBytesMax: bound)
            var expected = entries
            while expected.reduce(0, { $0 + $1.byteCount }) > bound, expected[0].index < state.commit {
                expected.removeFirst()
            }
            #expect(log.tail == expected)
            #expect(log.last == LogIndex(40))
            #expect(log.terms.count == 10)
        }
    }

    @Test func `a shortened log hides what lies above its end, also after it has grown over some of it`() throws {
        var (store, entries, state) = try storeWithLog(10)
        state.term = state.term.next
        let replaced = Entry(index: LogIndex(6), term: state.term, after: entries[4].chain, content: .command([9]))
        try store.write(StoredLog.batch(for: [write([replaced], state, last: LogIndex(6))]), isSynced: true)
        #expect(try restored(store).tail == Array(entries[..<5]) + [replaced])
        let next = Entry(index: LogIndex(7), term: state.term, after: replaced.chain, content: .noop)
        try store.write(StoredLog.batch(for: [write([next], state, last: LogIndex(7))]), isSynced: true)
        #expect(try restored(store).last == LogIndex(7))
    }

    @Test func `compaction removes the prefix and keeps the chain`() throws {
        var (store, entries, state) = try storeWithLog(20)
        let base = LogBase(
            index: LogIndex(12), term: entries[11].term, chain: entries[11].chain, configuration: members)
        state.commit = LogIndex(15)
        let before = store.count
        try store.write(StoredLog.batch(for: [write([], state, last: LogIndex(20), base: base)]), isSynced: true)
        #expect(store.count == before - 12)
        let log = try restored(store)
        #expect(log.base == base)
        #expect(log.tail == Array(entries[12...]))
    }

    @Test func `a snapshot replaces the log and is named in it`() throws {
        var (store, _, state) = try storeWithLog(5)
        state.commit = LogIndex(100)
        let base = LogBase(index: LogIndex(100), term: Term(3), chain: 99, configuration: members)
        let id = SnapshotID(source: ReplicaID(1), incarnation: Incarnation(4), number: 2)
        state.term = Term(9)
        try store.write(
            StoredLog.batch(for: [write([], state, last: LogIndex(100), base: base, snapshot: id)]), isSynced: true)
        guard case .log(_, let log, let snapshot) = try StoredLog.restore(group, cacheBytesMax: 100, in: store) else {
            Issue.record("no log")
            return
        }
        #expect(snapshot == id)
        #expect(log.base == base)
        #expect(log.last == LogIndex(100))
        #expect(log.tail.isEmpty)
    }

    @Test func `entries come from any point, bounded, and one at least`() throws {
        let (store, entries, _) = try storeWithLog(20)
        let all = try StoredLog.entries(group, from: LogIndex(3), through: LogIndex(9), bytesMax: 1 << 20, in: store)
        #expect(all == Array(entries[2...8]))
        let one = try StoredLog.entries(group, from: LogIndex(3), through: LogIndex(9), bytesMax: 0, in: store)
        #expect(one == [entries[2]])
        let two = entries[2].byteCount + entries[3].byteCount
        let some = try StoredLog.entries(group, from: LogIndex(3), through: LogIndex(9), bytesMax: two, in: store)
        #expect(some == Array(entries[2...3]))
        let error = #expect(throws: StoreError.self) {
            try StoredLog.entries(group, from: LogIndex(21), through: LogIndex(22), bytesMax: 100, in: store)
        }
        #expect(error?.message.contains("entry 21 is missing") == true)
    }

    // MARK: Damage

    @Test func `every flipped bit of every record of a replica is found, and the finding names the record`() throws {
        let (store, _, _) = try storeWithLog(9)
        let base = LogBase(index: LogIndex(2), term: Term(1), chain: someEntries(2)[1].chain, configuration: members)
        var whole = store
        let id = SnapshotID(source: ReplicaID(1), incarnation: Incarnation(4), number: 2)
        try whole.write(
            StoredLog.batch(for: [
                write([], try restored(store).hardState, last: LogIndex(9), base: base, snapshot: id)
            ]), isSynced: true)
        _ = try restored(whole)
        for (key, value) in try rows(whole) {
            for bit in 0..<value.count * 8 {
                var bad = whole
                bad.rot(key, bit: bit)
                let reason = try #require(try damage(bad), "bit \(bit) of key \(key)")
                let name =
                    switch key[8] {
                    case UInt8(ascii: "h"): "hard state record"
                    case UInt8(ascii: "b"): "base record"
                    case UInt8(ascii: "r"): "replica record"
                    case UInt8(ascii: "s"): "snapshot record"
                    default: "entry \(key[16])"
                    }
                #expect(reason.contains("group 7") && reason.contains(name), "\(reason) does not name \(name)")
            }
        }
    }

    @Test func `every lost record is found, but for the snapshot record of a state that can tell by itself`() throws {
        let (store, _, _) = try storeWithLog(9)
        for (key, _) in try rows(store) {
            var bad = store
            bad.lose(key)
            let reason = try #require(try damage(bad), "key \(key)")
            #expect(reason.contains("missing"))
            if key[8] == UInt8(ascii: "e") { #expect(reason.contains("entry \(key[16]) is missing")) }
        }
    }

    @Test func `a record that lies under another key is damage`() throws {
        let (store, _, _) = try storeWithLog(9)
        let all = try rows(store)
        for (key, value) in all where key.count == 17 {
            var bad = store
            var batch = WriteBatch()
            var other = key
            other[16] = key[16] == 9 ? 1 : key[16] + 1
            batch.put(other, value)
            try bad.write(batch, isSynced: true)
            #expect(try damage(bad) != nil)
        }
    }

    @Test func `an entry of a longer dead branch does not pass for the one that was lost`() throws {
        // Index 6 was overwritten in a later term, and that write is lost while the one after it is not.
        var (store, entries, state) = try storeWithLog(6)
        state.term = state.term.next
        let replaced = Entry(index: LogIndex(6), term: state.term, after: entries[4].chain, content: .command([9]))
        let next = Entry(index: LogIndex(7), term: state.term, after: replaced.chain, content: .noop)
        try store.write(StoredLog.batch(for: [write([next], state, last: LogIndex(7))]), isSynced: true)
        #expect(try damage(store)?.contains("entry 7 does not follow") == true)
    }

    @Test func `a term above the hard state's, or one that falls, is damage`() throws {
        var (store, entries, state) = try storeWithLog(6)
        state.term = Term(entries[5].term.rawValue - 1)
        try store.write(StoredLog.batch(for: [write([], state, last: LogIndex(6))]), isSynced: true)
        #expect(try damage(store)?.contains("above term") == true)

        (store, entries, state) = try storeWithLog(6)
        let falling = Entry(index: LogIndex(7), term: Term(1), after: entries[5].chain, content: .noop)
        try store.write(StoredLog.batch(for: [write([falling], state, last: LogIndex(7))]), isSynced: true)
        #expect(try damage(store)?.contains("entry 7 has term 1, below") == true)
    }

    @Test func `a torn last batch is not damage: the log is as it was before`() throws {
        for seed in 0..<40 as Range<UInt64> {
            var (store, entries, state) = try storeWithLog(6)
            var random = PRNG(seed: seed)
            var inFlight: [WriteBatch] = []
            var chain = entries[5].chain
            for index in 7...10 as ClosedRange<UInt64> {
                let entry = Entry(index: LogIndex(index), term: state.term, after: chain, content: .command([1]))
                chain = entry.chain
                state.commit = LogIndex(index - 2)
                inFlight.append(StoredLog.batch(for: [write([entry], state, last: LogIndex(index))]))
            }
            let survived = store.crash(&random, inFlight: inFlight)
            let log = try restored(store)
            #expect(log.last == LogIndex(UInt64(6 + survived)))
            #expect(log.hardState.commit == LogIndex(survived == 0 ? 3 : UInt64(4 + survived)))
        }
    }

    @Test func `a replica that was found damaged stays so`() throws {
        var (store, _, _) = try storeWithLog(6)
        try StoredLog.markDamaged(group, replica, in: &store)
        guard case .damaged(replica, _) = try StoredLog.restore(group, cacheBytesMax: 1, in: store) else {
            Issue.record("it came back")
            return
        }
    }

    // MARK: Replicas and nodes

    @Test func `a destroyed replica leaves a tombstone, and its id or a lower one never comes back`() throws {
        var (store, _, _) = try storeWithLog(6)
        let log = RestoredLog(firstMembers: members)
        #expect(throws: ReplicaRefusal.isHere(group, replica)) {
            try StoredLog.createReplica(group, ReplicaID(9), log, in: &store)
        }
        try StoredLog.destroyReplica(group, replica, in: &store)
        #expect(store.count == 1)
        guard case .tombstone(replica) = try StoredLog.restore(group, cacheBytesMax: 1, in: store) else {
            Issue.record("no tombstone")
            return
        }
        for id in [2, 3] as [UInt64] {
            #expect(throws: ReplicaRefusal.idUsed(group, ReplicaID(id), highest: replica)) {
                try StoredLog.createReplica(group, ReplicaID(id), log, in: &store)
            }
        }
        try StoredLog.createReplica(group, ReplicaID(4), log, in: &store)
        // A late order for the old one doesn't lower the mark.
        try StoredLog.destroyReplica(group, replica, in: &store)
        guard case .tombstone(ReplicaID(4)) = try StoredLog.restore(group, cacheBytesMax: 1, in: store) else {
            Issue.record("the mark fell")
            return
        }
    }

    @Test func `all groups of a node are listed`() throws {
        var store = MemoryStore()
        try StoredLog.format(NodeIdentity(cluster: cluster, node: NodeID(1)), in: &store)
        for id in [300, 1, 0, 7, UInt64.max] as [UInt64] {
            try StoredLog.createReplica(GroupID(id), replica, RestoredLog(firstMembers: members), in: &store)
        }
        #expect(try StoredLog.groups(in: store).map(\.rawValue) == [0, 1, 7, 300, .max])
        guard case .none = try StoredLog.restore(GroupID(2), cacheBytesMax: 1, in: store) else {
            Issue.record("group 2 was never here")
            return
        }
    }

    let cluster = [UInt8](0..<16)

    @Test func `every start is a higher incarnation, and a crash never takes it back`() throws {
        var store = MemoryStore()
        var random = PRNG(seed: 1)
        let identity = NodeIdentity(cluster: cluster, node: NodeID(5))
        #expect(throws: DirectoryRefusal.notFormatted) { try StoredLog.openNode(identity, in: &store) }
        try StoredLog.format(identity, in: &store)
        #expect(throws: DirectoryRefusal.notEmpty) { try StoredLog.format(identity, in: &store) }
        for start in 1...20 as ClosedRange<UInt64> {
            #expect(try StoredLog.openNode(identity, in: &store) == Incarnation(start))
            store.crash(&random)
        }
    }

    @Test func `the directory of another cluster or node is refused with a sentence`() throws {
        var store = MemoryStore()
        try StoredLog.format(NodeIdentity(cluster: cluster, node: NodeID(5)), in: &store)
        let other = NodeIdentity(cluster: [UInt8](repeating: 1, count: 16), node: NodeID(5))
        let refusal = #expect(throws: DirectoryRefusal.self) { try StoredLog.openNode(other, in: &store) }
        #expect(refusal?.description.contains("000102030405060708090a0b0c0d0e0f") == true)
        let node = NodeIdentity(cluster: cluster, node: NodeID(6))
        #expect(throws: DirectoryRefusal.otherNode(found: NodeID(5), expected: NodeID(6))) {
            try StoredLog.openNode(node, in: &store)
        }
    }

    @Test func `a node record that is missing among others is damage, and no reason to set the directory up again`()
        throws
    {
        var store = MemoryStore()
        let identity = NodeIdentity(cluster: cluster, node: NodeID(3))
        try StoredLog.format(identity, in: &store)
        try StoredLog.createReplica(
            group, ReplicaID(1), RestoredLog(firstMembers: Configuration.voters([1])), in: &store)
        var loss = WriteBatch()
        loss.delete([0])
        try store.write(loss, isSynced: true)
        #expect(throws: DirectoryRefusal.damaged("it is missing")) { try StoredLog.openNode(identity, in: &store) }
        #expect(throws: DirectoryRefusal.notEmpty) { try StoredLog.format(identity, in: &store) }
    }

    @Test func `a directory that is set up anew begins with a later incarnation than the one it replaces`() throws {
        var store = MemoryStore()
        let identity = NodeIdentity(cluster: cluster, node: NodeID(3))
        try StoredLog.format(identity, after: Incarnation(70), in: &store)
        #expect(try StoredLog.openNode(identity, in: &store) == Incarnation(71))
    }

    @Test func `a damaged node record is refused, whichever bit is wrong`() throws {
        var store = MemoryStore()
        let identity = NodeIdentity(cluster: cluster, node: NodeID(5))
        try StoredLog.format(identity, in: &store)
        let value = try #require(try store.value(for: [0]))
        for bit in 0..<value.count * 8 {
            var bad = store
            bad.rot([0], bit: bit)
            let refusal = #expect(throws: DirectoryRefusal.self) { try StoredLog.openNode(identity, in: &bad) }
            guard case .damaged? = refusal else {
                Issue.record("bit \(bit): \(String(describing: refusal))")
                continue
            }
        }
    }
}
