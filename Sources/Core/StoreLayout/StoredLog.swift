internal import BinaryCoding
package import ClusterBase
package import NodePorts
package import RaftCore
internal import Schema
internal import WireFormat

/// How the logs of all groups of a node lie in one ordered store.
///
///     0x00                         whose directory this is
///     group ‖ 'b'                  where the log begins
///     group ‖ 'e' ‖ index          an entry
///     group ‖ 'h'                  term, vote, commit, and the log's last index
///     group ‖ 'r'                  replica id and standing
///     group ‖ 's'                  the snapshot that the state began with
///
/// Every record is sealed with a checksum over its key and value. A group's records change in one batch per write, so
/// after a crash they fit together; where they don't, something was lost, and the replica must not go on as if it had
/// not been: it may have voted or acknowledged what is gone. Nothing here ever shortens a log to make it fit.
package enum StoredLog {
    /// The layout of keys and records that this code writes.
    package static let formatVersion: UInt32 = 1
    /// The tail that a restored log keeps in memory is cut back when it is this much over its bound.
    static let tailSlack = 2

    // MARK: Writing

    /// The changes that make these writes durable, in order, for one synced write. Needs no reading.
    package static func batch(for writes: [GroupWrite]) -> WriteBatch {
        var batch = WriteBatch()
        for write in writes { add(write, to: &batch) }
        return batch
    }

    /// Adds one write's changes to a batch.
    package static func add(_ groupWrite: GroupWrite, to batch: inout WriteBatch) {
        let group = groupWrite.group
        let write = groupWrite.write
        switch groupWrite.act {
        case .write: break
        case .create:
            batch.delete(LogKey.all(group))
            putReplica(groupWrite.replica, .normal, group, into: &batch)
        case .destroy:
            batch.delete(LogKey.all(group))
            return putReplica(groupWrite.replica, .tombstone, group, into: &batch)
        }
        for entry in write.entries { putEntry(entry, group, into: &batch) }
        if let base = write.base {
            putBase(base, group, into: &batch)
            // From the very first index on: the store's tombstones join, and reading begins above them.
            batch.delete(
                KeyRange(from: LogKey.entry(group, .zero), to: LogKey.entry(group, base.index.next)))
        }
        if let snapshot = write.snapshot { putSnapshot(snapshot, group, into: &batch) }
        putHardState(write.hardState, last: write.last, group, into: &batch)
    }

    static func putEntry(_ entry: Entry, _ group: GroupID, into batch: inout WriteBatch) {
        let key = LogKey.entry(group, entry.index)
        batch.put(key, entry.sealed(under: key))
    }

    static func putBase(_ base: LogBase, _ group: GroupID, into batch: inout WriteBatch) {
        let key = LogKey.base(group)
        batch.put(key, LogBaseRecord(base).sealed(under: key))
    }

    static func putSnapshot(_ snapshot: SnapshotID, _ group: GroupID, into batch: inout WriteBatch) {
        let key = LogKey.snapshot(group)
        batch.put(key, SnapshotRecord(snapshot).sealed(under: key))
    }

    static func putHardState(_ state: HardState, last: LogIndex, _ group: GroupID, into batch: inout WriteBatch) {
        let key = LogKey.hardState(group)
        batch.put(key, HardStateRecord(state, last: last).sealed(under: key))
    }

    static func putReplica(
        _ replica: ReplicaID, _ standing: Standing, _ group: GroupID, into batch: inout WriteBatch
    ) {
        let key = LogKey.replica(group)
        batch.put(key, ReplicaRecord(replica: replica, standing: standing).sealed(under: key))
    }

    // MARK: Reading entries

    /// The entries `from ... through`, or fewer: at least one, and no more than `bytesMax` bytes of them beyond the first.
    ///
    /// Throws `corrupt` when the first of them is not there or any is not what was written.
    package static func entries(
        _ group: GroupID, from: LogIndex, through: LogIndex, bytesMax: Int, in store: some OrderedReader
    ) throws(StoreError) -> [Entry] {
        precondition(from <= through && from > .zero, "\(from) through \(through) of group \(group) is no range")
        var found: [Entry] = []
        var bytes = 0
        var failure: StoreError?
        let range = KeyRange(from: LogKey.entry(group, from), to: LogKey.entry(group, through.next))
        try store.scan(range) { key, value in
            switch openEntry(key, value, group) {
            case .failure(let damage):
                failure = StoreError(.corrupt, damage.sentence)
                return false
            case .success(let entry):
                let expected = from.advanced(by: found.count)
                if entry.index != expected {
                    failure = StoreError(.corrupt, missing(expected, group).sentence)
                    return false
                }
                if !found.isEmpty && bytes + entry.byteCount > bytesMax { return false }
                bytes += entry.byteCount
                found.append(entry)
                return true
            }
        }
        if let failure { throw failure }
        if found.isEmpty { throw StoreError(.corrupt, missing(from, group).sentence) }
        return found
    }

    static func missing(_ index: LogIndex, _ group: GroupID) -> LogDamage {
        LogDamage(group, "entry \(index) is missing")
    }

    static func openEntry(_ key: [UInt8], _ value: [UInt8], _ group: GroupID) -> Result<Entry, LogDamage> {
        let index = LogIndex(key.bigEndian64(at: 9) ?? 0)
        do throws(DecodeError) {
            let entry = try Entry(sealed: value, under: key)
            if entry.index != index || key.count != 17 {
                return .failure(LogDamage(group, "the record of entry \(index) holds entry \(entry.index)"))
            }
            return .success(entry)
        } catch {
            return .failure(LogDamage(group, "the record of entry \(index) is unreadable: \(error)"))
        }
    }

    // MARK: Records

    /// The record under a key; nil when there is none.
    static func read<Record: WireMessage>(
        _ type: Record.Type, _ key: [UInt8], _ store: some OrderedReader
    ) throws(StoreError) -> Result<Record, DecodeError>? {
        guard let value = try store.value(for: key) else { return nil }
        do throws(DecodeError) {
            return .success(try Record(sealed: value, under: key))
        } catch {
            return .failure(error)
        }
    }
}

/// Keys of the log store. Numbers are big-endian.
enum LogKey {
    static let node: [UInt8] = [0]

    static func base(_ group: GroupID) -> [UInt8] { key(group, UInt8(ascii: "b")) }
    static func hardState(_ group: GroupID) -> [UInt8] { key(group, UInt8(ascii: "h")) }
    static func replica(_ group: GroupID) -> [UInt8] { key(group, UInt8(ascii: "r")) }
    static func snapshot(_ group: GroupID) -> [UInt8] { key(group, UInt8(ascii: "s")) }

    static func entry(_ group: GroupID, _ index: LogIndex) -> [UInt8] {
        var bytes = key(group, UInt8(ascii: "e"))
        bytes.appendBigEndian(index.rawValue)
        return bytes
    }

    /// All records of a group.
    static func all(_ group: GroupID) -> KeyRange {
        var prefix: [UInt8] = []
        prefix.appendBigEndian(group.rawValue)
        return .prefix(prefix)
    }

    private static func key(_ group: GroupID, _ kind: UInt8) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(17)
        bytes.appendBigEndian(group.rawValue)
        bytes.append(kind)
        return bytes
    }
}

/// What is wrong with a replica's log, in one sentence that names the group, the record and the index.
package struct LogDamage: Error, Hashable, Sendable, CustomStringConvertible {
    package var group: GroupID
    package var sentence: String

    init(_ group: GroupID, _ finding: String) {
        self.group = group
        sentence = "the log of group \(group) is damaged: \(finding)"
    }

    package var description: String { sentence }
}
