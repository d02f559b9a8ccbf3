package import ClusterBase
import NodePorts
import StoreLayout

/// An ordered store in memory with a simulated disk under it: what RocksDB keeps over a crash, this keeps.
///
///     write ──▶ unsynced ──(flush, write(isSynced: true))──▶ durable
///                  │
///                  └──(crash)──▶ a prefix of the unsynced batches survives, drawn by the caller's generator
///
/// A batch is atomic: a torn one is gone as a whole. Unsynced batches can be undone from a list of what they replaced,
/// so that neither a write nor a flush costs more than what it changes.
///
/// After a sync that failed the disk never again promises anything: the operating system has marked the lost pages
/// clean, later syncs report success, and nothing written since the last good sync is safe (the "fsyncgate" of 2018).
package struct MemoryStore: OrderedStore, Sendable {
    /// What the disk under the store does to writes.
    package enum DiskFault: Hashable, Sendable {
        case none
        /// Every write and flush throws `noSpace`.
        case noSpace
        /// Every write and flush throws `writeFailed`.
        case writeError
    }

    /// A consistent picture of the store.
    package struct View: OrderedReader, Sendable {
        let table: SortedTable

        package func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? { table.value(for: key) }
        package func scan(_ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool) throws(StoreError) {
            table.scan(range, body)
        }
    }

    private struct Undo: Sendable {
        let key: [UInt8]
        /// Nil when the key was not there.
        let value: [UInt8]?
    }

    private var table = SortedTable()
    /// How to take back the unsynced batches, oldest change first.
    private var undo: [Undo] = []
    /// Where in `undo` each unsynced batch begins.
    private var batchStarts: [Int] = []
    /// Set by a failed sync: how many of the unsynced batches it was to make durable.
    private var failedSyncBatches: Int?
    /// The batch of the write whose sync failed: not visible, and perhaps on the disk.
    private var limbo: WriteBatch?

    package var fault = DiskFault.none
    /// Synced writes and flushes that succeeded: what a disk's wear and a simulation's cost are counted by.
    package private(set) var syncCount = 0
    /// How many unsynced batches the last crash left.
    package private(set) var keptBatchCount = 0

    package init() {}

    package var count: Int { table.count }
    /// Bytes of all keys and values.
    package var byteCount: Int { table.byteCount }
    package var unsyncedBatchCount: Int { batchStarts.count }

    // MARK: Reading

    package func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? { table.value(for: key) }

    package func scan(_ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool) throws(StoreError) {
        table.scan(range, body)
    }

    /// What is really there, whatever a reader would be told.
    func held(_ key: [UInt8]) -> [UInt8]? { table.value(for: key) }

    package func view() -> View { View(table: table) }

    // MARK: Writing

    /// A write that throws has changed nothing that is visible; when it was synced, it may still be there after a crash.
    package mutating func write(_ batch: WriteBatch, isSynced: Bool) throws(StoreError) {
        if let error = faultError("write of \(batch.operations.count) operations") {
            if isSynced { syncFailed(limbo: batch) }
            throw error
        }
        let needsUndo = !isSynced || failedSyncBatches != nil
        if needsUndo { batchStarts.append(undo.count) }
        for operation in batch.operations { perform(operation, needsUndo: needsUndo) }
        if isSynced { syncSucceeded() }
    }

    package mutating func flush() throws(StoreError) {
        if let error = faultError("flush of \(batchStarts.count) batches") {
            syncFailed(limbo: nil)
            throw error
        }
        syncSucceeded()
    }

    private mutating func perform(_ operation: WriteBatch.Operation, needsUndo: Bool) {
        switch operation {
        case .put(let key, let value):
            let old = table.put(key, value)
            if needsUndo { undo.append(Undo(key: key, value: old)) }
        case .delete(let key):
            guard let old = table.remove(key) else { return }
            if needsUndo { undo.append(Undo(key: key, value: old)) }
        case .deleteRange(let range):
            if needsUndo {
                table.remove(range) { undo.append(Undo(key: $0, value: $1)) }
            } else {
                table.remove(range)
            }
        }
    }

    private func faultError(_ what: String) -> StoreError? {
        switch fault {
        case .none: nil
        case .noSpace: StoreError(.noSpace, "\(what): no space left on the simulated disk")
        case .writeError: StoreError(.writeFailed, "\(what): the simulated disk reports a write error")
        }
    }

    private mutating func syncSucceeded() {
        syncCount += 1
        if failedSyncBatches != nil { return }
        undo.removeAll(keepingCapacity: true)
        batchStarts.removeAll(keepingCapacity: true)
    }

    private mutating func syncFailed(limbo batch: WriteBatch?) {
        if failedSyncBatches != nil { return }
        failedSyncBatches = batchStarts.count
        limbo = batch
    }

    // MARK: Faults

    /// Power loss: what is durable stays, of the rest a prefix that `random` chooses. `inFlight` are batches handed to
    /// the disk and not reported as written yet, in order; they follow the unsynced ones. Views made before stay as
    /// they were. Returns how many batches of `inFlight` survived.
    @discardableResult package mutating func crash(_ random: inout PRNG, inFlight: [WriteBatch] = []) -> Int {
        let unsynced = batchStarts.count
        var kept: Int
        var keptInFlight = 0
        if let failed = failedSyncBatches {
            // At least one of the batches that the failed sync was to save is lost, and all after them.
            kept = failed == 0 ? 0 : random.below(failed)
        } else {
            kept = random.below(unsynced + inFlight.count + 1)
            keptInFlight = max(0, kept - unsynced)
            kept = min(kept, unsynced)
        }
        if kept < unsynced {
            for change in undo[batchStarts[kept]...].reversed() {
                if let value = change.value { table.put(change.key, value) } else { table.remove(change.key) }
            }
        }
        if failedSyncBatches == 0, let batch = limbo, random.chance(1, in: 2) {
            for operation in batch.operations { perform(operation, needsUndo: false) }
        }
        for batch in inFlight[..<keptInFlight] {
            for operation in batch.operations { perform(operation, needsUndo: false) }
        }
        undo.removeAll(keepingCapacity: true)
        batchStarts.removeAll(keepingCapacity: true)
        failedSyncBatches = nil
        limbo = nil
        keptBatchCount = min(kept, unsynced)
        return keptInFlight
    }

    /// Flips one bit in the value of a record that `random` chooses, and returns the record's key; nil when there is
    /// none with a value. Views made before keep the good value, as a cache would.
    package mutating func rot(_ random: inout PRNG) -> [UInt8]? {
        if table.isEmpty { return nil }
        let start = random.below(table.count)
        for i in 0..<table.count {
            let row = table.row(at: (start + i) % table.count)
            if row.value.isEmpty { continue }
            flip(bit: random.below(row.value.count * 8), of: row.key, row.value)
            return row.key
        }
        return nil
    }

    /// Flips one bit in the value of this record, which must be there and not be empty.
    package mutating func rot(_ key: [UInt8], bit: Int) {
        guard let value = table.value(for: key), bit >= 0, bit < value.count * 8 else {
            preconditionFailure("there is no bit \(bit) in the value of key \(key)")
        }
        flip(bit: bit, of: key, value)
    }

    private mutating func flip(bit: Int, of key: [UInt8], _ value: [UInt8]) {
        var value = value
        value[bit / 8] ^= 1 << UInt8(bit % 8)
        table.put(key, value)
    }

    /// Loses a record that `random` chooses, as a dropped block would, and returns its key.
    package mutating func loseRecord(_ random: inout PRNG) -> [UInt8]? {
        if table.isEmpty { return nil }
        let key = table.row(at: random.below(table.count)).key
        table.remove(key)
        return key
    }

    /// Loses this record, and says whether it was there.
    @discardableResult package mutating func lose(_ key: [UInt8]) -> Bool { table.remove(key) != nil }
}
