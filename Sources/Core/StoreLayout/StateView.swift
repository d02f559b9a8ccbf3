internal import BinaryCoding
package import ClusterBase

#if MUTANTS
package import FleetModel
#else
internal import FleetModel
#endif

/// What a state machine works on: one generation of one group's state in a store, under the changes made since `begin`.
///
///     begin(group, generation, applied, store) ──▶ the machine reads and changes ──▶ finish(index, …) ──▶ WriteBatch
///
/// Reads see the changes. Nothing reaches the store before the caller writes the batch, which carries the effects and
/// how far they go together. One view is used again and again, so that applying need not allocate anew; it holds the
/// store only between `begin` and `finish`, so that a store with copy-on-write is written in place.
///
/// The store is behind an existential: a generic view would be compiled unspecialized for callers that are themselves
/// generic over their store, and copy the store at every read.
package struct StateView: StateAccess {
    private var store: (any OrderedReader)?
    private var group = GroupID(0)
    private var generation: UInt32 = 0
    private var prefix: [UInt8] = []
    /// Where the position lies in the store.
    private var appliedKey: [UInt8] = []
    private var applied = AppliedState.nothing
    private var digest: UInt64 = 0
    /// Changes by the machine's keys: a sealed value, or a mark for a deletion.
    private var changes = SortedTable()
    /// Ranges deleted since `begin`. A change in such a range was made after it.
    private var deletedRanges: [KeyRange] = []
    private var batch = WriteBatch()
    private var memo = Memo()

    /// The first row that was read at a position, kept for the next one who begins there: every entry and every query
    /// begins with the machine's summary.
    private final class Memo {
        var key: [UInt8]?
        /// Sealed; nil when there is none.
        var row: [UInt8]?
        /// Says what the state holds: its digest is over all changes.
        var applied = AppliedState.nothing
    }

    #if MUTANTS
    package var mutant: FleetMutant?
    #endif

    package init() {}

    /// Whether something would be lost by `abandon`.
    package var isEmpty: Bool { batch.isEmpty }
    /// Bytes of changes so far: a caller that applies many entries ends a batch when it grows large.
    package var byteCount: Int { batch.byteCount }

    /// Starts on a group's state, which has been applied up to `applied`.
    package mutating func begin(_ group: GroupID, generation: UInt32, applied: AppliedState, _ store: any OrderedReader)
    {
        precondition(self.store == nil, "a view of group \(self.group) was not finished")
        if self.group != group || self.generation != generation || prefix.isEmpty {
            prefix = StateKey.prefix(group, generation)
            appliedKey = prefix + StateKey.applied
            memo = Memo()
        }
        self.store = store
        self.group = group
        self.generation = generation
        self.applied = applied
        digest = applied.digest
        if memo.applied != applied {
            memo.key = nil
            memo.applied = applied
        }
    }

    /// Ends with the batch that makes the effects and the new position durable together, and with that position. Once
    /// it is written, `reuse` takes the batch back, so that the next one need not allocate.
    package mutating func finish(index: LogIndex, term: Term, chain: UInt64) -> (
        batch: WriteBatch, applied: AppliedState
    ) {
        precondition(index >= applied.index, "applied goes back from \(applied.index) to \(index)")
        let now = AppliedState(index: index, term: term, chain: chain, digest: digest)
        batch.put(appliedKey, now.sealed(group))
        var finished = WriteBatch()
        swap(&finished, &batch)
        memo.applied = now
        if let known = memo.key {
            if let change = changes.row(of: known) {
                memo.row = change
            } else if deletedRanges.contains(where: { $0.contains(known) }) {
                memo.key = nil
            }
        }
        clear()
        return (finished, now)
    }

    /// Takes back a batch that `finish` gave, for its memory.
    package mutating func reuse(_ finished: consuming WriteBatch) {
        if !batch.isEmpty { return }
        batch = finished
        batch.removeAll()
    }

    /// Ends without any effect.
    package mutating func abandon() {
        if !batch.isEmpty { batch.removeAll() }
        clear()
    }

    private mutating func clear() {
        store = nil
        if !changes.isEmpty { changes.removeAll() }
        if !deletedRanges.isEmpty { deletedRanges.removeAll(keepingCapacity: true) }
    }

    // MARK: Reading

    package func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? { try row(for: key)?.value() }

    package func row(for key: [UInt8]) throws(StoreError) -> StoredRow? {
        if let change = changes.row(of: key) { return change.map { StateRecord.row($0) } }
        for range in deletedRanges where range.contains(key) { return nil }
        if let known = memo.key, known == key { return memo.row.map { StateRecord.row($0) } }
        let sealed = try reader.value(for: prefix + key)
        if let sealed, !StateRecord.isIntact(sealed, key, group) { throw StateRecord.damage(key, group) }
        if memo.key == nil {
            memo.key = key
            memo.row = sealed
        }
        return sealed.map { StateRecord.row($0) }
    }

    package func scan(
        _ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool
    ) throws(StoreError) {
        var pending = changes.first(from: range.from)
        /// Takes the next change before `key`, or at all, out of the range.
        func pendingBefore(_ key: [UInt8]?) -> (key: [UInt8], value: [UInt8]?)? {
            guard let change = pending, range.contains(change.key) else { return nil }
            if let key, !change.key.precedes(key) { return nil }
            pending = changes.first(from: change.key, isAfter: true)
            return (change.key, change.value.map { StateRecord.row($0).value() })
        }
        var isDone = false
        var failure: StoreError?
        try reader.scan(StateKey.range(prefix, range)) { stored, sealed in
            let key = Array(stored[prefix.count...])
            while let change = pendingBefore(key) {
                if let value = change.value, !body(change.key, value) {
                    isDone = true
                    return false
                }
            }
            if let change = pending, change.key == key {
                pending = changes.first(from: key, isAfter: true)
                if let sealed = change.value { isDone = !body(key, StateRecord.row(sealed).value()) }
                return !isDone
            }
            for range in deletedRanges where range.contains(key) { return true }
            do throws(StoreError) {
                isDone = !body(key, try StateRecord.open(sealed, key, group))
            } catch {
                failure = error
                isDone = true
            }
            return !isDone
        }
        if let failure { throw failure }
        while !isDone, let change = pendingBefore(nil) {
            if let value = change.value { isDone = !body(change.key, value) }
        }
    }

    private var reader: any OrderedReader {
        guard let store else { preconditionFailure("a view was used outside of begin and finish") }
        return store
    }

    // MARK: Changing

    package mutating func put(_ key: [UInt8], _ value: consuming [UInt8]) {
        check(key)
        mark(1, key, value)
        let sealed = StateRecord.seal(value, key, group)
        changes.put(key, sealed)
        batch.put(prefix + key, sealed)
    }

    package mutating func delete(_ key: [UInt8]) {
        check(key)
        mark(2, key, [])
        changes.mark(key)
        batch.delete(prefix + key)
    }

    package mutating func delete(_ range: KeyRange) {
        check(range.from)
        mark(3, range.from, range.to ?? [])
        changes.remove(range)
        deletedRanges.append(range)
        batch.delete(StateKey.range(prefix, range))
    }

    private func check(_ key: [UInt8]) {
        precondition(
            (key.first ?? 0) > StateKey.ownKinds, "the kind byte of a key of group \(group) is not its machine's")
    }

    /// Every change goes into the digest in the order in which it is made, so that the digest at an index does not depend
    /// on which entries shared a batch.
    private mutating func mark(_ operation: UInt64, _ key: [UInt8], _ value: [UInt8]) {
        var hash = ChainHash(digest)
        hash.add(operation)
        hash.add(key)
        hash.add(value)
        digest = hash.value
    }
}

/// A group's applied state as queries read it. Costs one reference beside the store's own.
package struct StateReader<Store: OrderedReader>: OrderedReader {
    private let store: Store
    private let group: GroupID
    private let prefix: [UInt8]

    package init(_ group: GroupID, generation: UInt32, _ store: Store) {
        self.store = store
        self.group = group
        prefix = StateKey.prefix(group, generation)
    }

    package func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? {
        guard let sealed = try store.value(for: prefix + key) else { return nil }
        return try StateRecord.open(sealed, key, group)
    }

    package func scan(
        _ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool
    ) throws(StoreError) {
        var failure: StoreError?
        try store.scan(StateKey.range(prefix, range)) { stored, sealed in
            let key = Array(stored[prefix.count...])
            do throws(StoreError) {
                return body(key, try StateRecord.open(sealed, key, group))
            } catch {
                failure = error
                return false
            }
        }
        if let failure { throw failure }
    }
}

/// Keys of the state store: group ‖ generation ‖ kind ‖ the machine's own. Numbers are big-endian.
enum StateKey {
    /// Kinds up to here are the layout's own; a machine's begin above.
    static let ownKinds: UInt8 = 0x0F
    /// How far the machine has applied. Part of a snapshot.
    static let applied: [UInt8] = [1]
    /// What the generation began with. Not part of a snapshot.
    static let generation: [UInt8] = [0]
    static let prefixBytes = 12

    static func prefix(_ group: GroupID, _ generation: UInt32) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(prefixBytes)
        bytes.appendBigEndian(group.rawValue)
        bytes.appendBigEndian(generation)
        return bytes
    }

    static func range(_ prefix: [UInt8], _ range: KeyRange) -> KeyRange {
        KeyRange(from: prefix + range.from, to: range.to.map { prefix + $0 } ?? successor(ofPrefix: prefix))
    }

    static func group(_ group: GroupID) -> KeyRange {
        var prefix: [UInt8] = []
        prefix.appendBigEndian(group.rawValue)
        return .prefix(prefix)
    }
}

/// The frame around a value of the state: `value ‖ CRC-32C` over group, key and value.
///
/// The generation is not in it, so that a snapshot carries the sealed bytes from disk to disk and every hand on the way
/// can check them.
enum StateRecord {
    static let overheadBytes = 4

    /// In place of the value, which the caller gives up: no copy of it is made where there is room for four bytes more.
    static func seal(_ value: consuming [UInt8], _ key: [UInt8], _ group: GroupID) -> [UInt8] {
        let sum = checksum(value.span, key, group)
        value.appendBigEndian(sum)
        return value
    }

    /// The value in a record that is known to be intact.
    static func row(_ sealed: [UInt8]) -> StoredRow { StoredRow(sealed, valueCount: sealed.count - overheadBytes) }

    static func isIntact(_ sealed: [UInt8], _ key: [UInt8], _ group: GroupID) -> Bool {
        let count = sealed.count - overheadBytes
        if count < 0 { return false }
        var stored: UInt32 = 0
        for i in count..<sealed.count { stored = stored << 8 | UInt32(sealed[i]) }
        return stored == checksum(sealed.span.extracting(first: count), key, group)
    }

    /// The value in place of its record, which the caller gives up: no copy of it is made.
    static func open(_ sealed: consuming [UInt8], _ key: [UInt8], _ group: GroupID) throws(StoreError) -> [UInt8] {
        if !isIntact(sealed, key, group) { throw damage(key, group) }
        sealed.removeLast(overheadBytes)
        return sealed
    }

    static func damage(_ key: [UInt8], _ group: GroupID) -> StoreError {
        let name = key.prefix(40).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        return StoreError(
            .corrupt, "the state of group \(group) is damaged: the record under key \(name) does not match its checksum"
        )
    }

    private static func checksum(_ value: Span<UInt8>, _ key: [UInt8], _ group: GroupID) -> UInt32 {
        // On the stack: this is done for every row that is read or written.
        let head = InlineArray<16, UInt8> { i in
            UInt8(truncatingIfNeeded: (i < 8 ? group.rawValue : UInt64(key.count)) >> UInt64(56 - 8 * (i & 7)))
        }
        var crc = CRC32C()
        crc.add(head.span)
        crc.add(key)
        crc.add(value)
        return crc.value
    }
}
