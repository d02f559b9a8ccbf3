internal import CRocksDB
package import ClusterBase

/// A store as it was at one moment. It keeps the store open, and what was deleted since on the disk, until it is gone.
package final class RocksView: OrderedReader, @unchecked Sendable {  // Nothing in it changes; RocksDB locks itself.
    private let store: RocksStore
    private let snapshot: OpaquePointer
    private let reading: Reading

    init(_ store: RocksStore) {
        guard let made = rocksdb_create_snapshot(store.db) else {
            preconditionFailure("no memory for a view of the store \(store.path)")
        }
        self.store = store
        snapshot = made
        reading = Reading(store.db, snapshot: made)
    }

    deinit {
        reading.end()
        rocksdb_release_snapshot(store.db, snapshot)
    }

    package func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? { try reading.value(for: key) }

    package func scan(_ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool) throws(StoreError) {
        try reading.scan(range, body)
    }
}

/// How a store or a view reads. Its owner calls `end` once, after the last read.
struct Reading {
    private let db: OpaquePointer
    private let snapshot: OpaquePointer?
    private let options: OpaquePointer

    init(_ db: OpaquePointer, snapshot: OpaquePointer?) {
        self.db = db
        self.snapshot = snapshot
        options = Self.makeOptions(snapshot)
    }

    func end() { rocksdb_readoptions_destroy(options) }

    private static func makeOptions(_ snapshot: OpaquePointer?) -> OpaquePointer {
        guard let options = rocksdb_readoptions_create() else { preconditionFailure("no memory for a read") }
        rocksdb_readoptions_set_verify_checksums(options, 1)
        if let snapshot {
            rocksdb_readoptions_set_snapshot(options, snapshot)
            // Whoever reads a view reads all of it, once: the cache is for others.
            rocksdb_readoptions_set_fill_cache(options, 0)
        }
        return options
    }

    func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? {
        var error: UnsafeMutablePointer<CChar>?
        let slice = crocksdb_get(db, options, key, key.count, &error)
        if let text = takeText(&error) { throw StoreError(rocks: text, otherwise: .readFailed, "read a row") }
        guard let slice else { return nil }
        defer { rocksdb_pinnableslice_destroy(slice) }
        var count = 0
        let bytes = crocksdb_slice_bytes(slice, &count)
        return Array(UnsafeBufferPointer(start: bytes, count: count))
    }

    /// Rows of the default column family, or of `family`.
    func scan(
        _ range: KeyRange, in family: OpaquePointer? = nil, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool
    ) throws(StoreError) {
        if let to = range.to, !range.from.precedes(to) { return }
        let options = Self.makeOptions(snapshot)
        defer { rocksdb_readoptions_destroy(options) }
        // The options point into the bound: it stays in place for as long as they are used.
        try (range.to ?? []).withUnsafeBufferPointer { to throws(StoreError) in
            if range.to != nil { crocksdb_set_upper_bound(options, to.baseAddress, to.count) }
            let made =
                family.map { rocksdb_create_iterator_cf(db, options, $0) } ?? rocksdb_create_iterator(db, options)
            guard let iterator = made else { preconditionFailure("no memory for a scan") }
            defer { rocksdb_iter_destroy(iterator) }
            crocksdb_seek(iterator, range.from, range.from.count)
            while rocksdb_iter_valid(iterator) != 0 {
                var count = 0
                let key = crocksdb_key(iterator, &count)
                let keyBytes = Array(UnsafeBufferPointer(start: key, count: count))
                let value = crocksdb_value(iterator, &count)
                if !body(keyBytes, Array(UnsafeBufferPointer(start: value, count: count))) { return }
                rocksdb_iter_next(iterator)
            }
            try check(iterator)
        }
    }

    func lastKey() throws(StoreError) -> [UInt8]? {
        guard let iterator = rocksdb_create_iterator(db, options) else { preconditionFailure("no memory for a scan") }
        defer { rocksdb_iter_destroy(iterator) }
        rocksdb_iter_seek_to_last(iterator)
        if rocksdb_iter_valid(iterator) == 0 {
            try check(iterator)
            return nil
        }
        var count = 0
        let key = crocksdb_key(iterator, &count)
        return Array(UnsafeBufferPointer(start: key, count: count))
    }

    private func check(_ iterator: OpaquePointer) throws(StoreError) {
        var error: UnsafeMutablePointer<CChar>?
        rocksdb_iter_get_error(iterator, &error)
        if let text = takeText(&error) { throw StoreError(rocks: text, otherwise: .readFailed, "scan rows") }
    }
}
