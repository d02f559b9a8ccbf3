internal import BinaryCoding
package import ClusterBase
package import NodePorts
package import RaftCore
internal import Schema
internal import WireFormat

/// One piece of a snapshot: rows of `key length u16 ‖ value length u32 ‖ key ‖ sealed value`, ascending by key.
package struct SnapshotPiece: Hashable, Sendable {
    package var number: UInt64
    package var bytes: [UInt8]
    /// CRC-32C of `bytes`.
    package var checksum: UInt32
    /// With the last piece: what the whole must be.
    package var manifest: SnapshotManifest?

    package init(number: UInt64, bytes: [UInt8], checksum: UInt32, manifest: SnapshotManifest?) {
        self.number = number
        self.bytes = bytes
        self.checksum = checksum
        self.manifest = manifest
    }
}

enum SnapshotRow {
    static let headBytes = 6

    static func append(_ key: [UInt8], _ value: [UInt8], to bytes: inout [UInt8]) {
        precondition(key.count < 1 << 16, "a key of \(key.count) bytes")
        bytes.append(UInt8(key.count >> 8))
        bytes.append(UInt8(key.count & 0xFF))
        bytes.appendBigEndian(UInt32(value.count))
        bytes.append(contentsOf: key)
        bytes.append(contentsOf: value)
    }

    /// Reads a row and moves on behind it; nil when it is not all there.
    static func read(_ bytes: [UInt8], _ at: inout Int) -> (key: [UInt8], value: [UInt8])? {
        if bytes.count - at < headBytes { return nil }
        let keyCount = Int(bytes[at]) << 8 | Int(bytes[at + 1])
        var valueCount = 0
        for i in at + 2..<at + headBytes { valueCount = valueCount << 8 | Int(bytes[i]) }
        let start = at + headBytes
        if bytes.count - start < keyCount + valueCount { return nil }
        at = start + keyCount + valueCount
        return (Array(bytes[start..<start + keyCount]), Array(bytes[start + keyCount..<at]))
    }
}

/// Reads a group's state out of a consistent view, piece by piece, from wherever the receiver stands.
///
/// The pieces of one source are always cut the same way, so that a receiver which holds some of them goes on with the
/// next. Every record is checked before it leaves: a damaged state is never sent on.
package struct SnapshotSource<View: OrderedReader> {
    private let base: LogBase
    private let view: View
    private let group: GroupID
    private let prefix: [UInt8]
    private let bytesMax: Int
    /// Where each piece begins that was reached so far: the number of pieces is not known before the end.
    private var starts: [(key: [UInt8], digest: RunningDigest)]

    /// `view` shows one moment of the store and stays until the source is gone; `base` is where its state is applied, as
    /// `StoredState.applied` tells, with the configuration there. A piece has at most `bytesMax` bytes, or one record.
    package init(
        _ group: GroupID, generation: UInt32, base: LogBase, bytesMax: Int, _ view: View
    ) throws(StoreError) {
        precondition(bytesMax > 0, "pieces of \(bytesMax) bytes")
        let applied = try StoredState.applied(group, generation: generation, in: view)
        precondition(applied.isAt(base), "group \(group) is applied up to \(applied.index), not \(base.index)")
        self.base = base
        self.view = view
        self.group = group
        self.bytesMax = bytesMax
        prefix = StateKey.prefix(group, generation)
        starts = [(StateKey.applied, RunningDigest())]
    }

    /// The piece with this number; nil when there is none because the snapshot ends before it. Costs one search and the
    /// piece itself for every number up to one above the highest asked before.
    package mutating func piece(_ number: UInt64) throws(StoreError) -> SnapshotPiece? {
        while UInt64(starts.count) <= number {
            // Asked for a piece farther on than reached: the ones before are read over.
            if try read(starts.count - 1).manifest != nil { return nil }
        }
        return try read(Int(number))
    }

    private mutating func read(_ number: Int) throws(StoreError) -> SnapshotPiece {
        let from = starts[number].key
        var total = starts[number].digest
        var bytes: [UInt8] = []
        bytes.reserveCapacity(bytesMax)
        var next: [UInt8]?
        var damaged: [UInt8]?
        try view.scan(StateKey.range(prefix, KeyRange(from: from, to: nil))) { stored, sealed in
            let key = Array(stored[StateKey.prefixBytes...])
            if !bytes.isEmpty && bytes.count + SnapshotRow.headBytes + key.count + sealed.count > bytesMax {
                next = key
                return false
            }
            if !StateRecord.isIntact(sealed, key, group) {
                damaged = key
                return false
            }
            SnapshotRow.append(key, sealed, to: &bytes)
            total.add(key, sealed)
            return true
        }
        if let damaged { throw StateRecord.damage(damaged, group) }
        if let next, number + 1 == starts.count { starts.append((next, total)) }
        return SnapshotPiece(
            number: UInt64(number), bytes: bytes, checksum: CRC32C.of(bytes),
            manifest: next == nil
                ? SnapshotManifest(base: base, keyCount: total.keyCount, digest: total.digest) : nil)
    }
}

/// Why a piece was not taken. What had arrived before is as it was.
package enum SnapshotRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    /// Send this one next.
    case outOfOrder(expected: UInt64)
    case checksum(piece: UInt64)
    case malformed(piece: UInt64, String)
    /// All has arrived and is not what was sent. Start over.
    case digest(expected: UInt64, found: UInt64, keyCountExpected: UInt64, keyCountFound: UInt64)
    /// The state in it is not the one that its manifest names. Start over.
    case position(expected: LogIndex, found: LogIndex)

    package var description: String {
        switch self {
        case .outOfOrder(let expected): "piece \(expected) is the next one"
        case .checksum(let piece): "piece \(piece) was damaged on its way; send it again"
        case .malformed(let piece, let finding): "piece \(piece) is malformed: \(finding)"
        case .digest(let expected, let found, let keyCountExpected, let keyCountFound):
            "the snapshot has \(keyCountFound) keys with digest \(found) instead of \(keyCountExpected) with \(expected); "
                + "start it again"
        case .position(let expected, let found):
            "the snapshot's state is applied up to \(found) and not up to \(expected); start it again"
        }
    }
}

/// Takes a snapshot in under a generation of its own. What has arrived is in the store with the number of pieces, in one
/// batch each, so that a receiver which starts again goes on where the store stands.
///
///     open ──▶ receive piece 0, 1, … ──▶ (last) receive verifies ──▶ isComplete
///                     ▲                                                   │ flush the state store, then the log write
///                     └── open again after a restart, or the sender's      ▼ that names the snapshot: the switch
///     discard at any time before the switch
package struct SnapshotStaging: Sendable {
    package let group: GroupID
    package let snapshot: SnapshotID
    package let generation: UInt32
    private var record: GenerationRecord

    /// The piece that comes next.
    package var next: UInt64 { record.pieces }
    package var isComplete: Bool { record.isComplete }

    /// Goes on with this snapshot where the store stands, or begins it: `batch` then prepares the store and is written
    /// before any piece; it also removes other generations than `current`, which is in use.
    package static func open(
        _ group: GroupID, _ snapshot: SnapshotID, current: UInt32, in store: some OrderedReader
    ) throws(StoreError) -> (staging: SnapshotStaging, batch: WriteBatch) {
        let wire = snapshot.wire
        var batch = WriteBatch()
        var highest = current
        for generation in try StoredState.generations(of: group, in: store) where generation != current {
            highest = max(highest, generation)
            if let record = try StoredState.generationRecord(group, generation, store), record.snapshot == wire {
                return (SnapshotStaging(group, snapshot, generation, record), WriteBatch())
            }
            batch.delete(.prefix(StateKey.prefix(group, generation)))
        }
        var record = GenerationRecord()
        record.version = WireVersions.generation
        record.snapshot = wire
        StoredState.put(record, group, highest + 1, into: &batch)
        return (SnapshotStaging(group, snapshot, highest + 1, record), batch)
    }

    /// What had arrived of a snapshot when the process ended, for its sender to go on with; nil where there is none, or where
    /// it can't be read.
    package static func left(
        of group: GroupID, current: UInt32, in store: some OrderedReader
    ) throws(StoreError) -> SnapshotStaging? {
        for generation in try StoredState.generations(of: group, in: store) where generation != current {
            do throws(StoreError) {
                guard let record = try StoredState.generationRecord(group, generation, store), !record.isComplete,
                    let wire = record.snapshot,
                    let snapshot = try? SnapshotID(wire: wire)  // What names none belongs to none.
                else { continue }
                return SnapshotStaging(group, snapshot, generation, record)
            } catch {
                guard error.code == .corrupt else { throw error }
            }
        }
        return nil
    }

    private init(_ group: GroupID, _ snapshot: SnapshotID, _ generation: UInt32, _ record: GenerationRecord) {
        self.group = group
        self.snapshot = snapshot
        self.generation = generation
        self.record = record
    }

    /// Checks the next piece and gives the batch that stores it, which can be written by `load`: rows ascending, and the
    /// record of how far they go as its last put. With the last one comes the manifest; then everything that
    /// arrived must be what was sent.
    ///
    /// A caller that can't write the batch opens the staging anew. After a refusal for the digest or the position nothing
    /// is left to do but `discard`.
    package mutating func receive(_ piece: SnapshotPiece) throws(SnapshotRefusal) -> WriteBatch {
        if piece.number != next || isComplete { throw .outOfOrder(expected: next) }
        if CRC32C.of(piece.bytes) != piece.checksum { throw .checksum(piece: piece.number) }
        var batch = WriteBatch()
        var after = record
        try add(piece, to: &after, &batch)
        after.pieces += 1
        if let manifest = piece.manifest {
            if manifest.digest != after.digest || manifest.keyCount != after.keyCount {
                throw .digest(
                    expected: manifest.digest, found: after.digest, keyCountExpected: manifest.keyCount,
                    keyCountFound: after.keyCount)
            }
            let applied = AppliedState(after.applied ?? AppliedRecord())
            if !applied.isAt(manifest.base) { throw .position(expected: manifest.base.index, found: applied.index) }
            after.isComplete = true
        }
        StoredState.put(after, group, generation, into: &batch)
        record = after
        return batch
    }

    private func add(
        _ piece: SnapshotPiece, to record: inout GenerationRecord, _ batch: inout WriteBatch
    ) throws(SnapshotRefusal) {
        let prefix = StateKey.prefix(group, generation)
        var total = RunningDigest(keyCount: record.keyCount, digest: record.digest)
        var at = 0
        while at < piece.bytes.count {
            guard let (key, sealed) = SnapshotRow.read(piece.bytes, &at) else {
                throw .malformed(piece: piece.number, "a record is cut off")
            }
            if !record.lastKey.precedes(key) { throw .malformed(piece: piece.number, "its keys don't ascend") }
            if key.precedes(StateKey.applied) { throw .malformed(piece: piece.number, "a key belongs to the receiver") }
            if !StateRecord.isIntact(sealed, key, group) {
                throw .malformed(piece: piece.number, "a record does not match its checksum")
            }
            if key == StateKey.applied {
                do throws(StoreError) {
                    let applied = try AppliedState(sealed: try StateRecord.open(sealed, key, group), group)
                    record.applied = applied.record
                } catch {
                    throw .malformed(piece: piece.number, error.message)
                }
            }
            total.add(key, sealed)
            record.lastKey = key
            batch.put(prefix + key, sealed)
        }
        record.keyCount = total.keyCount
        record.digest = total.digest
    }

    /// The batch that removes what has arrived.
    package func discard() -> WriteBatch {
        var batch = WriteBatch()
        batch.delete(.prefix(StateKey.prefix(group, generation)))
        return batch
    }
}
