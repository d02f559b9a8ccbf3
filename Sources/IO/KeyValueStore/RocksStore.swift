internal import CRocksDB
package import ClusterBase
internal import NodePorts
import Synchronization

/// An ordered store on a disk: RocksDB behind its C API.
///
///     open ──▶ write, read, view, flush … ──▶ failed (a write or flush threw: no other is taken)
///                          │
///                          └──▶ stop ──▶ the last reference to the store and its views goes: closed
///
/// Any thread may read; writes of different threads wait for each other. A store whose write or flush failed takes no
/// other, since what it holds in memory may differ from what is on the disk.
package final class RocksStore: OrderedStore, @unchecked Sendable {  // RocksDB locks itself; `writing` guards the rest.
    package let path: String
    package let kind: StoreKind
    let db: OpaquePointer
    let options: OpaquePointer
    private let families: [OpaquePointer]
    private let reading: Reading
    private let synced: OpaquePointer
    private let unsynced: OpaquePointer
    /// Kept open as long as the store.
    private let cache: BlockCache
    private let writing: Mutex<Writing>
    private let onRot: (@Sendable (StoreError) -> Void)?

    private struct Writing: @unchecked Sendable {  // Only inside of `writing`.
        /// Used again and again, so that its memory is.
        var batch: OpaquePointer
        var failure: StoreError?
    }

    /// Above this, the memory of a write is given back instead of kept for the next.
    private static let keptBatchBytesMax = 1 << 20

    /// Opens a store, and makes it when it is not there and `mayCreate`.
    ///
    /// With `isSalvage` it opens what can be read of a damaged one; the caller must not take that for what was written.
    ///
    /// A file with a block that is not what was written fails the merging of files, and with it every write and flush from
    /// then on, now and after every start. `onRot` hears of it before the writer does, on the writer's thread.
    package init(
        _ path: String, _ settings: StoreSettings, mayCreate: Bool = true, isSalvage: Bool = false,
        onRot: (@Sendable (StoreError) -> Void)? = nil
    ) throws(StoreOpenFailure) {
        self.path = path
        self.onRot = onRot
        kind = settings.kind
        cache = settings.blockCache
        do throws(StoreError) {
            options = try settings.options(isSalvage: isSalvage, mayCreate: mayCreate)
        } catch {
            throw .store(error)
        }
        var error: UnsafeMutablePointer<CChar>?
        var families: [OpaquePointer] = []
        let opened: OpaquePointer?
        switch settings.kind {
        case .log:
            var first: OpaquePointer?
            var second: OpaquePointer?
            opened = crocksdb_open_two(options, path, Self.numbersFamily, &first, &second, &error)
            families = [first, second].compactMap { $0 }
        case .state:
            opened = rocksdb_open(options, path, &error)
        }
        guard let opened else {
            rocksdb_options_destroy(options)
            throw StoreOpenFailure(takeText(&error) ?? "no reason was given", path: path)
        }
        guard let synced = rocksdb_writeoptions_create(), let unsynced = rocksdb_writeoptions_create(),
            let batch = rocksdb_writebatch_create()
        else { preconditionFailure("no memory for the store \(path)") }
        rocksdb_writeoptions_set_sync(synced, 1)
        if settings.kind == .state { rocksdb_writeoptions_disable_WAL(unsynced, 1) }
        db = opened
        self.families = families
        self.synced = synced
        self.unsynced = unsynced
        reading = Reading(opened, snapshot: nil)
        writing = Mutex(Writing(batch: batch, failure: nil))
    }

    deinit {
        reading.end()
        writing.withLock { rocksdb_writebatch_destroy($0.batch) }
        for family in families { rocksdb_column_family_handle_destroy(family) }
        rocksdb_close(db)
        rocksdb_writeoptions_destroy(synced)
        rocksdb_writeoptions_destroy(unsynced)
        rocksdb_options_destroy(options)
    }

    /// Ends all background work, and makes what a state store holds durable if it can. Reads still work; writes are
    /// refused from here on.
    package func stop() {
        let isFirst = writing.withLock { writing in
            if writing.failure != nil { return false }
            writing.failure = StoreError(.writeFailed, "the store \(path) was stopped")
            return true
        }
        if isFirst { rocksdb_cancel_all_background_work(db, 1) }
    }

    // MARK: Reading

    package func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? { try reading.value(for: key) }

    package func scan(_ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool) throws(StoreError) {
        try reading.scan(range, body)
    }

    package func view() -> RocksView { RocksView(self) }

    // MARK: Writing

    /// A state store's writes are never synced one by one: with `isSynced` it is flushed after the write.
    package func write(_ batch: WriteBatch, isSynced: Bool) throws(StoreError) {
        try commit(isSynced: isSynced && kind == .log) { rows throws(StoreError) in try add(batch, to: rows) }
        if isSynced && kind == .state { try flush() }
    }

    /// Writes a batch, synced, under a number of its own that `numbers` gives back after a crash, and forgets those
    /// below `forgetBelow`. Only for a log store.
    package func write(_ batch: WriteBatch, number: UInt64, forgetBelow: UInt64?) throws(StoreError) {
        precondition(kind == .log, "the store \(path) has no write-ahead log, and so no numbers")
        let family = families[1]
        try commit(isSynced: true) { rows throws(StoreError) in
            try add(batch, to: rows)
            if let forgetBelow { crocksdb_batch_delete_words(rows, family, 0, forgetBelow) }
            crocksdb_batch_put_word(rows, family, number, ~number)
        }
    }

    package func flush() throws(StoreError) {
        try refuseAfterFailure()
        var error: UnsafeMutablePointer<CChar>?
        switch kind {
        case .log: rocksdb_flush_wal(db, 1, &error)
        case .state:
            // Waits for it. Writes go on meanwhile, into the next buffer.
            let options = rocksdb_flushoptions_create()
            defer { rocksdb_flushoptions_destroy(options) }
            rocksdb_flushoptions_set_wait(options, 1)
            rocksdb_flush(db, options, &error)
        }
        guard let text = takeText(&error) else { return }
        throw fail(failure(text, "flush the store \(path)"))
    }

    func refuseAfterFailure() throws(StoreError) {
        if let failure = writing.withLock({ $0.failure }) { throw failure }
    }

    /// Why no more can be written. What was read is whole: it is not `corrupt` to whoever writes.
    func failure(_ text: String, _ doing: String) -> StoreError {
        let failure = StoreError(rocks: text, otherwise: .writeFailed, doing)
        if failure.code != .corrupt { return failure }
        onRot?(failure)
        return StoreError(.writeFailed, failure.message)
    }

    /// From here on every write is refused with the first failure, which it gives back.
    func fail(_ failure: StoreError) -> StoreError {
        writing.withLock { writing in
            let first = writing.failure ?? failure
            writing.failure = first
            return first
        }
    }

    private func commit(
        isSynced: Bool, _ fill: (OpaquePointer) throws(StoreError) -> Void
    ) throws(StoreError) {
        try writing.withLock { writing throws(StoreError) in
            if let failure = writing.failure { throw failure }
            let rows = writing.batch
            rocksdb_writebatch_clear(rows)
            try fill(rows)
            var error: UnsafeMutablePointer<CChar>?
            rocksdb_write(db, isSynced ? synced : unsynced, rows, &error)
            if let text = takeText(&error) {
                let what = "write \(rocksdb_writebatch_count(rows)) rows to the store \(path)"
                let failure = failure(text, what)
                writing.failure = failure
                throw failure
            }
            var byteCount = 0
            _ = rocksdb_writebatch_data(rows, &byteCount)
            if byteCount > Self.keptBatchBytesMax, let fresh = rocksdb_writebatch_create() {
                rocksdb_writebatch_destroy(rows)
                writing.batch = fresh
            }
        }
    }

    private func add(_ batch: WriteBatch, to rows: OpaquePointer) throws(StoreError) {
        for operation in batch.operations {
            switch operation {
            case .put(let key, let value): crocksdb_batch_put(rows, key, key.count, value, value.count)
            case .delete(let key): crocksdb_batch_delete(rows, key, key.count)
            case .deleteRange(let range):
                var to = range.to
                if to == nil { to = try end(with: batch) }
                guard let to, range.from.precedes(to) else { continue }
                crocksdb_batch_delete_range(rows, range.from, range.from.count, to, to.count)
            }
        }
    }

    /// The first key above all that the store will hold with this batch: RocksDB's ranges have an end.
    private func end(with batch: WriteBatch) throws(StoreError) -> [UInt8] {
        var last = try reading.lastKey() ?? []
        for case .put(let key, _) in batch.operations where last.precedes(key) { last = key }
        return last + [0]
    }

    // MARK: Write numbers

    private static let numbersFamily = "numbers"

    /// The numbers that writes had since the newest `forgetBelow`, and the first one that is missing between them.
    package struct Numbers: Hashable, Sendable {
        package var first: UInt64
        package var last: UInt64
        package var missing: UInt64?
        package init(first: UInt64, last: UInt64, missing: UInt64?) {
            self.first = first
            self.last = last
            self.missing = missing
        }
    }

    /// What is there of the numbers of synced writes; nil when none was ever numbered. Reads all of them.
    package func numbers() throws(StoreError) -> Numbers? {
        precondition(kind == .log, "the store \(path) has no write-ahead log, and so no numbers")
        var found: Numbers?
        var damage: StoreError?
        try reading.scan(KeyRange(from: [], to: nil), in: families[1]) { key, value in
            guard key.count == 8, let number = key.bigEndian64(at: 0), value.bigEndian64(at: 0) == ~number else {
                damage = StoreError(.corrupt, "a write number of the store \(path) is not what was written")
                return false
            }
            if var before = found {
                if before.missing == nil && number != before.last + 1 { before.missing = before.last + 1 }
                before.last = number
                found = before
            } else {
                found = Numbers(first: number, last: number, missing: nil)
            }
            return true
        }
        if let damage { throw damage }
        return found
    }

    // MARK: Looking in

    /// One of RocksDB's properties, such as `rocksdb.stats`.
    package func property(_ name: String) -> String? {
        guard let text = rocksdb_property_value(db, name) else { return nil }
        defer { rocksdb_free(text) }
        return String(cString: text)
    }

    /// One of RocksDB's numeric properties, such as `rocksdb.estimate-num-keys`.
    package func integerProperty(_ name: String) -> UInt64? {
        var value: UInt64 = 0
        return rocksdb_property_int(db, name, &value) == 0 ? value : nil
    }

    /// Bytes of memory held now: write buffers and readers of files, without the shared block cache.
    package var memoryByteCount: Int {
        ["rocksdb.size-all-mem-tables", "rocksdb.estimate-table-readers-mem"]
            .reduce(0) { $0 + Int(integerProperty($1) ?? 0) }
    }

    /// About how many bytes on disk a range takes; what is still in memory is not counted.
    package func approximateByteCount(of range: KeyRange) throws(StoreError) -> Int {
        var to = range.to
        if to == nil { to = try reading.lastKey().map { $0 + [0] } }
        guard let to else { return 0 }
        var error: UnsafeMutablePointer<CChar>?
        let size = crocksdb_approximate_size(db, range.from, range.from.count, to, to.count, &error)
        if let text = takeText(&error) {
            throw StoreError(rocks: text, otherwise: .readFailed, "measure a range of the store \(path)")
        }
        return Int(size)
    }

    /// Compacts a range, so that the space of what was deleted in it is free again. Takes long; for a thread that may.
    package func compact(_ range: KeyRange) {
        range.from.withUnsafeBytes { from in
            (range.to ?? []).withUnsafeBytes { to in
                rocksdb_compact_range(
                    db, from.bindMemory(to: CChar.self).baseAddress, from.count,
                    range.to == nil ? nil : to.bindMemory(to: CChar.self).baseAddress, to.count)
            }
        }
    }
}
