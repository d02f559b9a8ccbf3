package import ClusterBase
internal import Compression
package import FleetModel
internal import NodePorts
package import RaftCore
package import Schema
internal import StoreLayout
internal import WireFormat

/// Checks a backup record by record, and turns its pieces into batches for a state store that is empty.
///
///     head ─▶ ┬─▶ group ─▶ piece 0 … last ─┬─▶ end
///             ├─▶ group that is gone ──────┤
///             └────────────◀───────────────┘          abandoned: the group since its record does not count
///
/// Whoever only wants to know whether a backup is good drops the batches.
package struct BackupScan: Sendable {
    /// What is to be done with a record.
    package enum Step: Hashable, Sendable {
        case none
        /// A plain write, before the rows of a group or to take them back.
        case write(WriteBatch)
        /// Rows, as `OrderedStore.load` takes them.
        case load(WriteBatch)
    }

    /// A group that is in the backup as a whole.
    package struct Group: Hashable, Sendable {
        package var group: GroupID
        package var name: String
        /// Where its state is, without members.
        package var base: LogBase
        package var keyCount: UInt64
        /// Bytes of its rows.
        package var byteCount: UInt64
    }

    package private(set) var head: BackupRecord.Head?
    package private(set) var groups: [Group] = []
    /// Groups that were deleted while the backup was made.
    package private(set) var gone: [GroupID] = []
    /// From the root's own rows.
    package private(set) var cluster: RootCluster?
    package private(set) var placements: [GroupPlacement] = []
    package private(set) var isComplete = false

    /// Names the generation that the rows of each group are under.
    static let snapshot = SnapshotID(source: ReplicaID(1), incarnation: Incarnation(1), number: 1 << 40)

    private struct Coming: Sendable {
        var group: Group
        var staging: SnapshotStaging
    }
    private var coming: Coming?

    package init() {}

    /// Takes the next record. After a failure the backup is of no use.
    package mutating func take(_ body: BackupRecord.Body) throws(BackupFailure) -> Step {
        if isComplete { throw .damaged("something follows its end") }
        if head == nil {
            guard case .head(let found) = body, found.clusterID.count == RootLimits.clusterBytes else {
                throw .damaged("it does not begin with its head")
            }
            head = found
            return .none
        }
        switch body {
        case .head: throw .damaged("it has two heads")
        case .group(let found): return try begin(found)
        case .piece(let piece): return try receive(piece)
        case .abandoned:
            guard let coming else { throw .damaged("nothing was there to abandon") }
            self.coming = nil
            if coming.group.group == .root { (cluster, placements) = (nil, []) }
            return .write(coming.staging.discard())
        case .end(let end):
            try finish(end)
            return .none
        }
    }

    /// Throws unless the end was seen.
    package func requireComplete() throws(BackupFailure) {
        if !isComplete {
            throw BackupFailure(.cutOff, "The backup ends in the middle: it was cut off; use another one.")
        }
    }

    private mutating func begin(_ found: BackupRecord.Group) throws(BackupFailure) -> Step {
        let group = GroupID(found.group)
        guard coming == nil else { throw .damaged("group \(group) begins within another") }
        guard !groups.contains(where: { $0.group == group }), !gone.contains(group) else {
            throw .damaged("group \(group) is there twice")
        }
        guard found.index <= WireLimits.numberMax, found.term <= WireLimits.numberMax else {
            throw .damaged("group \(group) is at entry \(found.index) of term \(found.term)")
        }
        if found.isGone {
            gone.append(group)
            return .none
        }
        guard group.kind != nil else {
            throw BackupFailure(
                .tooNew, "The backup holds group \(group) of a kind that this program does not know; use a newer one.")
        }
        let base = LogBase(
            index: LogIndex(found.index), term: Term(found.term), chain: found.chain,
            configuration: Configuration(members: []))
        do throws(StoreError) {
            let (staging, batch) = try SnapshotStaging.open(
                group, BackupScan.snapshot, current: StoredState.firstGeneration, in: NoRows())
            coming = Coming(
                group: Group(group: group, name: found.name, base: base, keyCount: 0, byteCount: 0), staging: staging)
            return .write(batch)
        } catch {
            preconditionFailure("a store without rows failed: \(error)")
        }
    }

    private mutating func receive(_ piece: BackupRecord.Piece) throws(BackupFailure) -> Step {
        guard var coming else { throw .damaged("a piece belongs to no group") }
        let group = coming.group.group
        var rows = piece.bytes
        if piece.isPacked {
            do throws(LZ4Failure) {
                rows = try LZ4Codec.decompress(piece.bytes, byteCountMax: BackupFrame.recordBytesMax)
            } catch {
                throw .damaged("piece \(piece.number) of group \(group): \(error)")
            }
        }
        let base = coming.group.base
        let manifest = piece.total.map { SnapshotManifest(base: base, keyCount: $0.keyCount, digest: $0.digest) }
        let batch: WriteBatch
        do throws(SnapshotRefusal) {
            batch = try coming.staging.receive(
                SnapshotPiece(number: piece.number, bytes: rows, checksum: piece.checksum, manifest: manifest))
        } catch {
            throw .damaged("group \(group): \(error)")
        }
        coming.group.byteCount += UInt64(rows.count)
        if group == .root { try note(batch) }
        if let manifest {
            coming.group.keyCount = manifest.keyCount
            groups.append(coming.group)
            self.coming = nil
        } else {
            self.coming = coming
        }
        return .load(batch)
    }

    /// What a restore has to know of the root before it begins.
    private mutating func note(_ batch: WriteBatch) throws(BackupFailure) {
        for case .put(let stored, let sealed) in batch.operations {
            guard let (key, value) = StoredState.row(stored, sealed) else { continue }
            switch key.first.flatMap(RootTable.init(kind:)) {
            case .cluster?:
                guard let found = RootCluster.decode(value) else { throw .damaged("the root's own row is unreadable") }
                cluster = found
            case .placements?:
                guard let found = GroupPlacement.decode(value) else { throw .damaged("a placement is unreadable") }
                placements.append(found)
            default: break
            }
        }
    }

    private mutating func finish(_ end: BackupRecord.End) throws(BackupFailure) {
        guard coming == nil else { throw .damaged("it ends within group \(coming?.group.group ?? .root)") }
        guard end.groups == UInt64(groups.count) else {
            throw .damaged("it has \(groups.count) groups and says \(end.groups)")
        }
        guard cluster != nil else {
            throw BackupFailure(.incomplete, "The backup holds no founded cluster; use another one.")
        }
        for placement in placements where placement.replicaHighest > ReplicaID(0) {
            let isHere = groups.contains { $0.group == placement.group } || gone.contains(placement.group)
            if !isHere {
                throw BackupFailure(
                    .incomplete, "The backup lacks group \(placement.group), which its root names; use another one.")
            }
        }
        isComplete = true
    }
}

/// A store that holds nothing.
private struct NoRows: OrderedReader {
    func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? { nil }
    func scan(_ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool) throws(StoreError) {}
}
