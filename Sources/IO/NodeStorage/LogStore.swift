package import ClusterBase
package import KeyValueStore
internal import NodePorts
internal import Synchronization

/// The log store of a node: every synced write has a number, and the horizon outside of the store knows the newest.
///
/// What is found at the next start tells, by the numbers, whether all of it is there.
package final class LogStore: OrderedStore, Sendable {
    private let rocks: RocksStore
    private let horizon: HorizonFile
    private let numbering: Mutex<Numbering>
    private let writtenLast: Atomic<UInt64>
    /// The number of the newest synced write. Never waits for one.
    package var written: UInt64 { writtenLast.load(ordering: .relaxed) }

    init(_ rocks: RocksStore, _ horizon: HorizonFile, last: UInt64, keptBytes: Int) {
        self.rocks = rocks
        self.horizon = horizon
        numbering = Mutex(Numbering(last: last, keptBytes: keptBytes))
        writtenLast = Atomic(last)
    }

    package func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? { try rocks.value(for: key) }
    package func scan(_ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool) throws(StoreError) {
        try rocks.scan(range, body)
    }
    package func view() -> RocksView { rocks.view() }
    package func flush() throws(StoreError) { try rocks.flush() }

    package func write(_ batch: WriteBatch, isSynced: Bool) throws(StoreError) {
        if !isSynced { return try rocks.write(batch, isSynced: false) }
        try numbering.withLock { numbering throws(StoreError) in
            let (number, forgetBelow) = numbering.next(byteCount: batch.byteCount)
            try rocks.write(batch, number: number, forgetBelow: forgetBelow)
            // Nobody misses an empty one.
            if !batch.isEmpty { try horizon.note(number) }
            writtenLast.store(number, ordering: .relaxed)
        }
    }

    func stop() { rocks.stop() }

    /// One of RocksDB's properties, such as `rocksdb.stats`.
    package func property(_ name: String) -> String? { rocks.property(name) }
    /// Bytes of memory held now, without the shared block cache.
    package var memoryByteCount: Int { rocks.memoryByteCount }
}

/// Gives writes their numbers, and says which old ones are not needed any more: a number is kept as long as its write
/// may still be in a write-ahead log, since that is where it can get lost.
struct Numbering: Sendable {
    private static let markBytes = 16 << 20
    private static let markCount: UInt64 = 65_536
    /// Marks beyond this are those of files that RocksDB has removed.
    private let marksMax: Int
    private(set) var last: UInt64
    private var bytesSinceMark = 0
    /// Numbers at regular distances, oldest first.
    private var marks: [UInt64]
    private var forgetBelow: UInt64?

    /// Everything up to `last` is in files.
    init(last: UInt64, keptBytes: Int) {
        self.last = last
        marksMax = keptBytes / Self.markBytes + 2
        marks = [last + 1]
        forgetBelow = last + 1
    }

    mutating func next(byteCount: Int) -> (number: UInt64, forgetBelow: UInt64?) {
        last += 1
        bytesSinceMark += byteCount
        if bytesSinceMark >= Self.markBytes || last - (marks.last ?? 0) >= Self.markCount {
            bytesSinceMark = 0
            marks.append(last)
            if marks.count > marksMax { forgetBelow = marks.removeFirst() }
        }
        defer { forgetBelow = nil }
        return (last, forgetBelow)
    }
}
