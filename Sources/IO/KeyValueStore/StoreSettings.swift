internal import CRocksDB
import ClusterBase

/// A bounded cache of blocks read from disk, shared by the stores that are opened with it.
package final class BlockCache: @unchecked Sendable {  // RocksDB's cache locks itself.
    let cache: OpaquePointer

    package init(byteCountMax: Int) {
        guard let made = rocksdb_cache_create_lru(byteCountMax) else {
            preconditionFailure("no memory for a block cache of \(byteCountMax) bytes")
        }
        cache = made
    }

    deinit { rocksdb_cache_destroy(cache) }

    /// Bytes in use now.
    package var byteCount: Int { Int(rocksdb_cache_get_usage(cache)) }
}

/// What a store is for, and so what it promises.
package enum StoreKind: Hashable, Sendable {
    /// A write-ahead log that synced writes wait for. A torn end of it is dropped, damage before the end refuses to open.
    case log
    /// No write-ahead log: durable is what `flush` made durable.
    case state
}

/// The bounds of one store.
package struct StoreSettings: Sendable {
    package var kind: StoreKind
    /// Writes collect in memory up to this, then go to a file in the background.
    package var writeBufferBytes: Int
    /// Write buffers in memory, the one being filled included; when all are full, writes wait.
    package var writeBuffersMax: Int
    /// Write-ahead logs on disk; beyond it the oldest write buffer goes to a file.
    package var writeAheadBytesMax: Int
    package var openFilesMax = 256
    /// Threads that write and merge files, shared by all stores of the process.
    package var backgroundJobsMax = 2
    package var blockCache: BlockCache

    package static func log(_ cache: BlockCache) -> StoreSettings {
        StoreSettings(
            kind: .log, writeBufferBytes: 64 << 20, writeBuffersMax: 4, writeAheadBytesMax: 512 << 20, blockCache: cache
        )
    }

    package static func state(_ cache: BlockCache) -> StoreSettings {
        StoreSettings(
            kind: .state, writeBufferBytes: 32 << 20, writeBuffersMax: 3, writeAheadBytesMax: 0, blockCache: cache)
    }

    /// RocksDB's options. With `isSalvage` it opens what it can of a damaged store.
    func options(isSalvage: Bool, mayCreate: Bool) throws(StoreError) -> OpaquePointer {
        var words = [
            "create_if_missing=\(mayCreate)", "create_missing_column_families=true",
            "paranoid_checks=\(!isSalvage)", "write_buffer_size=\(writeBufferBytes)",
            "max_write_buffer_number=\(writeBuffersMax)", "max_open_files=\(openFilesMax)",
            "max_background_jobs=\(backgroundJobsMax)", "bytes_per_sync=1048576",
            // A store whose write failed stays failed: the process ends and opens it again.
            "max_bgerror_resume_count=0",
            // One thread writes.
            "allow_concurrent_memtable_write=false", "unordered_write=false", "enable_pipelined_write=false",
            "level_compaction_dynamic_level_bytes=true", "stats_dump_period_sec=0", "stats_persist_period_sec=0",
            "max_manifest_file_size=16777216",
            // Of its own messages only those of the start: on a full disk RocksDB ends the process when it writes the second
            // one that does not fit, before the error of the write itself can be told.
            "info_log_level=HEADER_LEVEL", "keep_log_file_num=2", "max_log_file_size=1048576",
        ]
        switch kind {
        case .log:
            words += [
                "wal_recovery_mode=\(isSalvage ? "kSkipAnyCorruptedRecords" : "kTolerateCorruptedTailRecords")",
                "track_and_verify_wals_in_manifest=\(!isSalvage)", "manual_wal_flush=false",
                // The write numbers go to files together with what they number.
                "atomic_flush=true", "max_total_wal_size=\(writeAheadBytesMax)", "compression=kNoCompression",
            ]
        case .state:
            words += ["compression=kLZ4Compression", "memtable_whole_key_filtering=false"]
        }
        let base = rocksdb_options_create()
        defer { rocksdb_options_destroy(base) }
        guard let options = rocksdb_options_create() else {
            preconditionFailure("no memory for the options of a store")
        }
        var error: UnsafeMutablePointer<CChar>?
        rocksdb_get_options_from_string(base, words.joined(separator: ";"), options, &error)
        if let text = takeText(&error) {
            rocksdb_options_destroy(options)
            throw StoreError(.readFailed, "this RocksDB does not know an option of the store: \(text)")
        }
        setTable(options)
        return options
    }

    private func setTable(_ options: OpaquePointer) {
        let table = rocksdb_block_based_options_create()
        defer { rocksdb_block_based_options_destroy(table) }
        rocksdb_block_based_options_set_block_cache(table, blockCache.cache)
        // XXH3.
        rocksdb_block_based_options_set_checksum(table, 4)
        rocksdb_block_based_options_set_format_version(table, 5)
        rocksdb_block_based_options_set_block_size(table, 16 << 10)
        // Inside the bound of the cache, not beside it.
        rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1)
        rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1)
        if kind == .state {
            // The table's options own the filter from here on.
            rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10))
            // In blocks: a large file's filter in one piece is larger than a shard of the cache, which then never keeps it, and
            // every read of a row would read and check all of it.
            rocksdb_block_based_options_set_index_type(
                table, Int32(rocksdb_block_based_table_index_type_two_level_index_search))
            rocksdb_block_based_options_set_partition_filters(table, 1)
            rocksdb_block_based_options_set_metadata_block_size(table, 4 << 10)
            rocksdb_block_based_options_set_pin_top_level_index_and_filter(table, 1)
        }
        rocksdb_options_set_block_based_table_factory(options, table)
    }
}
