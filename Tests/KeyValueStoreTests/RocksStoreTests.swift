import ClusterBase
import Glibc
import KeyValueStore
import NodePorts
import StoreFolder
import Testing

func smallSettings(_ kind: StoreKind) -> StoreSettings {
    let cache = BlockCache(byteCountMax: 4 << 20)
    var settings = kind == .log ? StoreSettings.log(cache) : StoreSettings.state(cache)
    settings.writeBufferBytes = 1 << 20
    settings.backgroundJobsMax = 1
    return settings
}

func batch(_ key: UInt8, _ value: UInt8 = 1) -> WriteBatch {
    var batch = WriteBatch()
    batch.put([key], [value])
    return batch
}

@Suite struct RocksStoreTests {
    let folder = Folder()
    var path: String { folder.path + "/store" }

    @Test(arguments: [StoreKind.log, .state])
    func `a store is there after it was closed and opened again`(kind: StoreKind) throws {
        do {
            let store = try RocksStore(path, smallSettings(kind))
            try store.write(batch(1), isSynced: false)
            try store.write(batch(2), isSynced: false)
            store.stop()
        }
        let store = try RocksStore(path, smallSettings(kind), mayCreate: false)
        #expect(try rows(store).map(\.key) == [[1], [2]])
    }

    @Test func `a store in use is refused with a sentence that says so`() throws {
        let store = try RocksStore(path, smallSettings(.log))
        let failure = #expect(throws: StoreOpenFailure.self) { try RocksStore(path, smallSettings(.log)) }
        #expect(failure == .inUse(path: path))
        #expect(failure?.description.contains("in use") == true)
        try store.write(batch(1), isSynced: true)
    }

    @Test func `a store that is not there is not made unasked`() throws {
        let failure = #expect(throws: StoreOpenFailure.self) {
            try RocksStore(path, smallSettings(.state), mayCreate: false)
        }
        #expect(failure == .missing(path: path))
    }

    @Test func `a view stays as it was and keeps the store open`() throws {
        var store: RocksStore? = try RocksStore(path, smallSettings(.state))
        try store?.write(batch(1), isSynced: false)
        let view = try #require(store?.view())
        try store?.write(batch(1, 2), isSynced: false)
        try store?.write(batch(2), isSynced: false)
        try store?.flush()
        #expect(try store?.value(for: [1]) == [2])
        store = nil
        #expect(try view.value(for: [1]) == [1])
        #expect(try rows(view).map(\.key) == [[1]])
        #expect(throws: StoreOpenFailure.inUse(path: path)) { try RocksStore(path, smallSettings(.state)) }
    }

    @Test func `a range without an end takes everything from its start, of its own batch too`() throws {
        let store = try RocksStore(path, smallSettings(.state))
        for key: UInt8 in [1, 200, 255] { try store.write(batch(key), isSynced: false) }
        var cut = WriteBatch()
        cut.put([255, 255, 255], [1])
        cut.delete(KeyRange(from: [200], to: nil))
        cut.put([201], [7])
        try store.write(cut, isSynced: false)
        #expect(try rows(store).map(\.key) == [[1], [201]])
    }

    @Test func `a stopped store refuses writes and can still be read`() throws {
        let store = try RocksStore(path, smallSettings(.state))
        try store.write(batch(1), isSynced: false)
        store.stop()
        #expect(throws: StoreError.self) { try store.write(batch(2), isSynced: false) }
        #expect(try store.value(for: [1]) == [1])
    }

    @Test func `a changed block of a file is damage, not data`() throws {
        do {
            let store = try RocksStore(path, smallSettings(.state))
            var batch = WriteBatch()
            for i in 0..<2_000 as Range<UInt64> {
                var key: [UInt8] = []
                key.appendBigEndian(i)
                batch.put(key, (0..<40).map { UInt8(truncatingIfNeeded: Int(i) &* 31 + $0) })
            }
            try store.write(batch, isSynced: true)
            store.stop()
        }
        let file = try #require(Folder.names(path).first { $0.hasSuffix(".sst") })
        var bytes = Folder.read(path + "/" + file)
        bytes[bytes.count / 3] ^= 0x10
        Folder.write(path + "/" + file, bytes)
        let store = try RocksStore(path, smallSettings(.state))
        let error = #expect(throws: StoreError.self) { try rows(store) }
        #expect(error?.code == .corrupt)
    }

    @Test func `a damaged log store refuses to open, and what is readable can be salvaged`() throws {
        do {
            let store = try RocksStore(path, smallSettings(.log))
            for key in 0..<200 as Range<UInt8> {
                var batch = batch(key)
                batch.put([key, 1], [UInt8](repeating: key, count: 300))
                try store.write(batch, isSynced: true)
            }
            let copy = folder.path + "/copy"
            Folder.copy(path, to: copy)
            let log = try #require(Folder.names(copy).last { $0.hasSuffix(".log") })
            var bytes = Folder.read(copy + "/" + log)
            bytes[1_000] ^= 1
            Folder.write(copy + "/" + log, bytes)
        }
        let copy = folder.path + "/copy"
        let failure = #expect(throws: StoreOpenFailure.self) { try RocksStore(copy, smallSettings(.log)) }
        guard case .store(let error)? = failure else {
            Issue.record("\(failure.debugDescription)")
            return
        }
        #expect(error.code == .corrupt)
        let salvaged = try RocksStore(copy, smallSettings(.log), isSalvage: true)
        let found = try rows(salvaged).count
        #expect(found > 0 && found < 400)
    }

    @Test func `numbers of writes come back, and a missing one is named`() throws {
        let store = try RocksStore(path, smallSettings(.log))
        #expect(try store.numbers() == nil)
        for number in 5..<20 as Range<UInt64> { try store.write(batch(1), number: number, forgetBelow: nil) }
        #expect(try store.numbers() == RocksStore.Numbers(first: 5, last: 19, missing: nil))
        try store.write(batch(2), number: 21, forgetBelow: 10)
        #expect(try store.numbers() == RocksStore.Numbers(first: 10, last: 21, missing: 20))
        try store.write(WriteBatch(), number: 22, forgetBelow: 21)
        #expect(try store.numbers() == RocksStore.Numbers(first: 21, last: 22, missing: nil))
        // They are beside the rows, not among them.
        #expect(try rows(store).map(\.key) == [[1], [2]])
    }

    @Test func `what a large file says of rows is read once and kept, although it is larger than a shard of the cache`()
        throws
    {
        var settings = smallSettings(.state)
        settings.blockCache = BlockCache(byteCountMax: 8 << 20)
        let store = try RocksStore(path, settings)
        // Its filter has ten bits a row: 625 KB, where the cache has sixteen shards of 512.
        let file = try SortedFile(folder.path + "/rows", for: store)
        for i in 0..<500_000 as Range<UInt64> { try file.put(key(2 * i), [1]) }
        try store.take(file)
        var random = PRNG(seed: 1)
        func readAbsent(_ count: Int) throws -> Int {
            let before = bytesReadByThisThread()
            for _ in 0..<count { #expect(try store.value(for: key(2 * random.below(500_000) + 1)) == nil) }
            return bytesReadByThisThread() - before
        }
        _ = try readAbsent(10_000)
        let bytes = try readAbsent(2_000)
        // One in a hundred has to look at a block of rows.
        #expect(bytes < 2_000 * 1_024, "\(bytes) bytes for 2,000 rows")
    }

    @Test func `memory and sizes can be asked for`() throws {
        let store = try RocksStore(path, smallSettings(.state))
        var large = WriteBatch()
        var random = PRNG(seed: 1)
        for i in 0..<500 as Range<UInt64> {
            var key: [UInt8] = [7]
            key.appendBigEndian(i)
            large.put(key, (0..<200).map { _ in UInt8(random.below(256)) })
        }
        try store.write(large, isSynced: false)
        #expect(store.memoryByteCount > 100_000)
        try store.flush()
        #expect(try store.approximateByteCount(of: .prefix([7])) > 50_000)
        #expect(try store.approximateByteCount(of: .prefix([8])) == 0)
        #expect(store.integerProperty("rocksdb.estimate-num-keys") == 500)
        #expect(store.property("rocksdb.no-such-property") == nil)
        var cut = WriteBatch()
        cut.delete(KeyRange(from: [], to: nil))
        try store.write(cut, isSynced: true)
        store.compact(KeyRange(from: [], to: nil))
        #expect(try store.approximateByteCount(of: KeyRange(from: [], to: [255])) == 0)
    }
}

private func key(_ number: UInt64) -> [UInt8] {
    var key: [UInt8] = [7]
    key.appendBigEndian(number)
    return key
}

/// From files, as the kernel counts it.
private func bytesReadByThisThread() -> Int {
    // Its size is not known before it is read.
    let fd = open("/proc/thread-self/io", O_RDONLY | O_CLOEXEC)
    defer { close(fd) }
    var bytes = [UInt8](repeating: 0, count: 4_096)
    let count = read(fd, &bytes, bytes.count)
    precondition(count > 0, "the kernel does not count what threads read")
    let line = String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n")[0]
    return Int(line.dropFirst("rchar: ".count))!
}

func rows(_ reader: some OrderedReader, _ range: KeyRange = KeyRange(from: [], to: nil)) throws
    -> [(key: [UInt8], value: [UInt8])]
{
    var found: [(key: [UInt8], value: [UInt8])] = []
    try reader.scan(range) { key, value in
        found.append((key, value))
        return true
    }
    return found
}
