internal import CRocksDB
package import ClusterBase
import Glibc

/// Rows on their way into a store as a file of their own, beside its write buffers: for many rows of a range that is empty.
///
///     put, put, … (ascending) ─▶ RocksStore.take(file): all of them are there and durable, or none
///
/// One owner. A file that is not taken is removed with its last reference.
package final class SortedFile {
    package let path: String
    private let store: RocksStore
    private let writer: OpaquePointer
    private let environment: OpaquePointer
    /// Bytes of the rows so far.
    package private(set) var byteCount = 0

    /// Begins a file on the file system of the store, which takes it over without a copy.
    package init(_ path: String, for store: RocksStore) throws(StoreError) {
        guard let environment = rocksdb_envoptions_create(),
            let writer = rocksdb_sstfilewriter_create(environment, store.options)
        else { preconditionFailure("no memory for the file \(path)") }
        self.path = path
        self.store = store
        self.writer = writer
        self.environment = environment
        var error: UnsafeMutablePointer<CChar>?
        rocksdb_sstfilewriter_open(writer, path, &error)
        if let text = takeText(&error) {
            throw StoreError(rocks: text, otherwise: .writeFailed, "make the file \(path)")
        }
    }

    deinit {
        rocksdb_sstfilewriter_destroy(writer)
        rocksdb_envoptions_destroy(environment)
        // Taken over, it has another name by now.
        remove(path)
    }

    /// Adds a row above all before.
    package func put(_ key: [UInt8], _ value: [UInt8]) throws(StoreError) {
        var error: UnsafeMutablePointer<CChar>?
        crocksdb_file_put(writer, key, key.count, value, value.count, &error)
        if let text = takeText(&error) {
            throw StoreError(rocks: text, otherwise: .writeFailed, "fill the file \(path)")
        }
        byteCount += key.count + value.count
    }

    fileprivate func finish() throws(StoreError) {
        var error: UnsafeMutablePointer<CChar>?
        rocksdb_sstfilewriter_finish(writer, &error)
        if let text = takeText(&error) {
            throw StoreError(rocks: text, otherwise: .writeFailed, "end the file \(path)")
        }
    }
}

extension RocksStore {
    /// Takes over all rows of a file, durably, as if they were written now. The file must have rows.
    package func take(_ file: SortedFile) throws(StoreError) {
        precondition(kind == .state && file.byteCount > 0, "the file \(file.path) is not for the store \(path)")
        try refuseAfterFailure()
        try file.finish()
        let options = rocksdb_ingestexternalfileoptions_create()
        defer { rocksdb_ingestexternalfileoptions_destroy(options) }
        rocksdb_ingestexternalfileoptions_set_move_files(options, 1)
        var error: UnsafeMutablePointer<CChar>?
        crocksdb_ingest_file(db, file.path, options, &error)
        if let text = takeText(&error) {
            throw fail(failure(text, "take the file \(file.path)"))
        }
    }
}
