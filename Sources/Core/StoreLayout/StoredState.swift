internal import BinaryCoding
package import ClusterBase
package import RaftCore
internal import Schema
internal import WireFormat

/// How far a replica's state machine has applied its log.
package struct AppliedState: Hashable, Sendable {
    package var index: LogIndex
    package var term: Term
    /// The log's chain at `index`.
    package var chain: UInt64
    /// A hash over every change since the state was empty: equal at equal indices on all replicas of a group.
    package var digest: UInt64

    package init(index: LogIndex, term: Term, chain: UInt64, digest: UInt64) {
        self.index = index
        self.term = term
        self.chain = chain
        self.digest = digest
    }

    package static let nothing = AppliedState(index: .zero, term: .zero, chain: 0, digest: 0)
}

/// How the applied states of all groups of a node lie in one ordered store that is not synced but flushed.
///
///     group ‖ generation ‖ 0       what the generation began with, and how much of its snapshot has arrived
///     group ‖ generation ‖ 1       how far it is applied, written in the batch of the effects
///     group ‖ generation ‖ kind ‖ …    the state machine's records
///
/// A snapshot arrives under a generation of its own beside the one in use. The switch is a record of the log store that
/// names the snapshot: the generation that began with that snapshot is the valid one, all others are left over.
package enum StoredState {
    /// The generation of a state that began empty.
    package static let firstGeneration: UInt32 = 1

    /// How far a generation is applied; `nothing` when it has no position yet.
    package static func applied(
        _ group: GroupID, generation: UInt32, in store: some OrderedReader
    ) throws(StoreError) -> AppliedState {
        let key = StateKey.prefix(group, generation) + StateKey.applied
        guard let sealed = try store.value(for: key) else { return .nothing }
        return try AppliedState(sealed: try StateRecord.open(sealed, StateKey.applied, group), group)
    }

    /// The generation whose state is the replica's: the first, or the one that began with the snapshot that the log store
    /// names. Nil when that one is not here or not complete, which is damage: the state is lost.
    package static func generation(
        of group: GroupID, snapshot: SnapshotID?, in store: some OrderedReader
    ) throws(StoreError) -> UInt32? {
        guard let snapshot else { return firstGeneration }
        for generation in try generations(of: group, in: store) {
            if let record = try generationRecord(group, generation, store), record.isComplete,
                record.snapshot == snapshot.wire
            {
                return generation
            }
        }
        return nil
    }

    /// All generations of a group that have any record, ascending.
    package static func generations(
        of group: GroupID, in store: some OrderedReader
    ) throws(StoreError) -> [UInt32] {
        var found: [UInt32] = []
        var range = StateKey.group(group)
        while true {
            var next: UInt32?
            try store.scan(range) { key, _ in
                next = UInt32(truncatingIfNeeded: (key.bigEndian64(at: 4) ?? 0))
                return false
            }
            guard let next else { return found }
            found.append(next)
            guard let end = successor(ofPrefix: StateKey.prefix(group, next)) else { return found }
            range.from = end
        }
    }

    /// All groups that have any state here, ascending.
    package static func groups(in store: some OrderedReader) throws(StoreError) -> [GroupID] {
        var groups: [GroupID] = []
        var range = KeyRange(from: [], to: nil)
        while true {
            var next: UInt64?
            try store.scan(range) { key, _ in
                next = key.bigEndian64(at: 0)
                return false
            }
            guard let next else { return groups }
            groups.append(GroupID(next))
            guard let end = StateKey.group(GroupID(next)).to else { return groups }
            range.from = end
        }
    }

    /// Deletes every generation of a group but these; with nil all of them.
    package static func deleteGenerations(
        of group: GroupID, except kept: UInt32?, and alsoKept: UInt32? = nil, in store: some OrderedReader
    ) throws(StoreError) -> WriteBatch {
        var batch = WriteBatch()
        for generation in try generations(of: group, in: store) where generation != kept && generation != alsoKept {
            batch.delete(.prefix(StateKey.prefix(group, generation)))
        }
        return batch
    }

    /// A hash over all keys and values of a generation, its position included, and how many there are. Reads and checks
    /// everything.
    package static func contents(
        _ group: GroupID, generation: UInt32, in store: some OrderedReader
    ) throws(StoreError) -> (keyCount: UInt64, digest: UInt64) {
        var total = RunningDigest()
        var damaged: [UInt8]?
        let prefix = StateKey.prefix(group, generation)
        try store.scan(StateKey.range(prefix, KeyRange(from: StateKey.applied, to: nil))) { stored, sealed in
            let key = Array(stored[StateKey.prefixBytes...])
            if !StateRecord.isIntact(sealed, key, group) {
                damaged = key
                return false
            }
            total.add(key, sealed)
            return true
        }
        if let damaged { throw StateRecord.damage(damaged, group) }
        return (total.keyCount, total.digest)
    }

    /// The machine's own key and value of a stored row; nil for the layout's own, and for one that is damaged.
    package static func row(_ stored: [UInt8], _ sealed: [UInt8]) -> (key: [UInt8], value: [UInt8])? {
        guard stored.count > StateKey.prefixBytes, let group = stored.bigEndian64(at: 0) else { return nil }
        let key = Array(stored[StateKey.prefixBytes...])
        guard key[0] > StateKey.ownKinds, StateRecord.isIntact(sealed, key, GroupID(group)) else { return nil }
        return (key, Array(sealed.dropLast(StateRecord.overheadBytes)))
    }

    static func generationRecord(
        _ group: GroupID, _ generation: UInt32, _ store: some OrderedReader
    ) throws(StoreError) -> GenerationRecord? {
        let key = StateKey.prefix(group, generation) + StateKey.generation
        switch try StoredLog.read(GenerationRecord.self, key, store) {
        case nil: return nil
        case .success(let record)?: return record
        case .failure(let error)?:
            throw StoreError(
                .corrupt, "the state of group \(group) is damaged: the record of generation \(generation): \(error)")
        }
    }

    static func put(
        _ record: GenerationRecord, _ group: GroupID, _ generation: UInt32, into batch: inout WriteBatch
    ) {
        let key = StateKey.prefix(group, generation) + StateKey.generation
        batch.put(key, record.sealed(under: key))
    }
}

/// A digest that can stop and go on at any key: it doesn't depend on how the keys are cut into pieces.
struct RunningDigest: Hashable, Sendable {
    var keyCount: UInt64 = 0
    var digest: UInt64 = 0

    mutating func add(_ key: [UInt8], _ value: [UInt8]) {
        var hash = ChainHash(digest)
        hash.add(key)
        hash.add(value)
        digest = hash.value
        keyCount += 1
    }
}

extension AppliedState {
    /// Whether this is the position of a log base.
    package func isAt(_ base: LogBase) -> Bool { index == base.index && term == base.term && chain == base.chain }

    var record: AppliedRecord {
        var record = AppliedRecord()
        record.version = WireVersions.applied
        record.index = index.rawValue
        record.term = term.rawValue
        record.chain = chain
        record.digest = digest
        return record
    }

    init(_ record: AppliedRecord) {
        self.init(index: LogIndex(record.index), term: Term(record.term), chain: record.chain, digest: record.digest)
    }

    func sealed(_ group: GroupID) -> [UInt8] { StateRecord.seal(record.serialized(), StateKey.applied, group) }

    init(sealed payload: [UInt8], _ group: GroupID) throws(StoreError) {
        do throws(DecodeError) {
            let record = try AppliedRecord(serialized: payload)
            if record.version != WireVersions.applied {
                throw DecodeError(.unsupportedVersion(record.version), field: "AppliedRecord")
            }
            self.init(record)
        } catch {
            throw StoreError(.corrupt, "the applied position of group \(group) is unreadable: \(error)")
        }
    }
}
