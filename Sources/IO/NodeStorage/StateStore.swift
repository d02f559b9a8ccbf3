package import ClusterBase
package import KeyValueStore
internal import NodePorts
internal import StoreLayout
internal import Synchronization

/// The applied state of a node: a flushed store, with its newest rows in memory before it, into which snapshots come as
/// files of their own.
///
///     write ─▶ rows in memory ─(many, or flush)─▶ one batch ───▶ write buffer ─ flush ─▶ files
///     load ─▶ queue ─▶ ┌ thread, while there is something: rows ─▶ a file in incoming/ ──┐
///                      └ file full or old, or flush: the store takes it, then the last put ┘
///
/// A command that is applied so reads and writes what was written lately without the store; a row that is written again
/// and again goes to it once. All that is in memory goes to the store in one batch, so that a crash leaves a prefix of
/// the writes, as before.
///
/// The rows of a snapshot go to the disk once, and past the buffers that others' state is in. A thread of its own does
/// both, so that the one that applies commands never waits for it, except when the queue or the memory is full, to end a
/// sequence, and to delete a range.
package final class StateStore: OrderedStore, Sendable {
    /// A file is given to the store at this size.
    static let fileBytes = 64 << 20
    /// Or when its first row came so long ago: of a slow load a crash takes no more than that.
    static let fileAge = Duration.seconds(2)
    /// Beyond this `load` works off the queue itself.
    static let queuedBytesMax = 32 << 20
    /// Rows in memory go to the store beyond this; the writer waits for it beyond twice of it. As much again is kept for
    /// reading, and the rows' places take about as much as the rows.
    package static let freshBytesMax = 16 << 20

    private let shared: Shared

    package init(_ rocks: RocksStore, incoming: String, freshBytesMax: Int = StateStore.freshBytesMax) {
        shared = Shared(rocks, incoming, freshBytesMax)
    }

    deinit { shared.endLoader() }

    // MARK: Reading and writing

    package func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? {
        if let row = shared.rows.withLock({ $0.rows.row(of: key) }) { return row }
        return try shared.rocks.value(for: key)
    }

    package func scan(_ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool) throws(StoreError) {
        try shared.rows.withLock({ $0.rows }).scan(range, over: shared.rocks, body)
    }

    package func view() -> View {
        // Both of one moment: what leaves the memory is in one of them at least.
        shared.rows.withLock { View(rows: $0.rows, store: shared.rocks.view()) }
    }

    /// The state as it was at one moment.
    package struct View: OrderedReader, Sendable {
        fileprivate let rows: WriteBack
        fileprivate let store: RocksView

        package func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? {
            if let row = rows.row(of: key) { return row }
            return try store.value(for: key)
        }

        package func scan(_ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool) throws(StoreError) {
            try rows.scan(range, over: store, body)
        }
    }

    package func write(_ batch: WriteBatch, isSynced: Bool) throws(StoreError) {
        if shared.isLoading.load(ordering: .relaxed) { shared.endSequences(in: batch) }
        try shared.write(batch)
        if isSynced { try flush() }
    }

    package func load(_ batch: WriteBatch) throws(StoreError) {
        if shared.enqueue(batch) > Self.queuedBytesMax { try shared.workOff() }
    }

    /// Works off all rows and loads first.
    package func flush() throws(StoreError) {
        try shared.drain()
        if shared.isLoading.load(ordering: .relaxed) { try shared.finish() }
        try shared.rocks.flush()
    }

    /// Ends what goes on in the background, and makes what was written durable if it can. Loads that were not flushed are
    /// lost, as in a crash.
    func stop() {
        shared.endLoader()
        try? shared.drain()  // What is lost is applied again from the log.
        shared.rocks.stop()
    }

    /// One of RocksDB's properties, such as `rocksdb.stats`.
    package func property(_ name: String) -> String? { shared.rocks.property(name) }
    /// Bytes of memory held now, without the shared block cache.
    package var memoryByteCount: Int {
        shared.rocks.memoryByteCount + shared.rows.withLock { $0.rows.byteCount }
    }
}

/// What the owner of the store and the loader's thread share.
private final class Shared: Sendable {
    /// The loads whose last puts have the same key.
    struct Sequence {
        let lastKey: [UInt8]
        var file: SortedFile?
        /// Of `file`.
        var begunAt = ContinuousClock.now
        /// The highest row so far.
        var highest: [UInt8]
        /// Tells how far the rows of `file` and of all before go.
        var last: WriteBatch
    }

    struct Queue: Sendable {
        var batches = RingBuffer<WriteBatch>()
        var byteCount = 0
        var loader: WorkThread?
        var isStopping = false
    }

    struct Loads: @unchecked Sendable {  // Only inside of `loads`.
        /// A few: one for each snapshot that comes in.
        var sequences: [Sequence] = []
        var fileNumber = 0
        /// The first failure of the loader's thread; told by the next `flush`.
        var failure: StoreError?
    }

    struct Rows: Sendable {
        var rows = WriteBack()
        /// Why rows could not be put into the store; then nothing more is written.
        var failure: StoreError?
        /// The thread has been asked to put them there.
        var isDrainAsked = false
    }

    let rocks: RocksStore
    /// Taken last, and never held for long.
    let rows = Mutex(Rows())
    /// Held while rows go from memory to the store. Taken before `rows`.
    private let draining = Mutex(())
    private let freshBytesMax: Int
    /// Whether there is anything in `queue` or `loads`. Set by the owner of the store only, or with both locks held.
    let isLoading = Atomic<Bool>(false)
    private let incoming: String
    private let work = Wakeup()
    /// Taken last, and never held for long.
    private let queue = Mutex(Queue())
    /// Held while rows go to files.
    private let loads = Mutex(Loads())

    init(_ rocks: RocksStore, _ incoming: String, _ freshBytesMax: Int) {
        self.rocks = rocks
        self.incoming = incoming
        self.freshBytesMax = freshBytesMax
    }

    // MARK: Rows in memory

    func write(_ batch: WriteBatch) throws(StoreError) {
        if batch.deletesRange {
            try draining.withLock { _ throws(StoreError) in
                try drainNow()
                try rocks.write(batch, isSynced: false)
                _ = rows.withLock { $0.rows.forgetKept() }
            }
            return
        }
        let (failure, waits, asks) = rows.withLock { rows -> (StoreError?, Bool, Bool) in
            if rows.failure == nil { rows.rows.add(batch) }
            let byteCount = rows.rows.freshByteCount
            let asks = byteCount > freshBytesMax && !rows.isDrainAsked
            if asks { rows.isDrainAsked = true }
            return (rows.failure, byteCount > 2 * freshBytesMax, asks)
        }
        if let failure { throw failure }
        if waits {
            try drain()
        } else if asks {
            queue.withLock { startLoader(&$0) }
            work.signal()
        }
    }

    /// Puts all rows that are in memory now into the store.
    func drain() throws(StoreError) {
        try draining.withLock { _ throws(StoreError) in try drainNow() }
    }

    private func drainNow() throws(StoreError) {
        let (leaving, failure) = rows.withLock { rows -> (SortedTable?, StoreError?) in
            rows.isDrainAsked = false
            return rows.failure == nil ? (rows.rows.beginDraining(), nil) : (nil, rows.failure)
        }
        if let failure { throw failure }
        guard let leaving else { return }
        do throws(StoreError) {
            try rocks.write(leaving.batch, isSynced: false)
        } catch {
            rows.withLock { $0.failure = error }
            throw error
        }
        // What is forgotten is let go here, outside of the lock.
        _ = rows.withLock { $0.rows.endDraining() }
    }

    // MARK: The queue

    /// Bytes that wait now.
    func enqueue(_ batch: WriteBatch) -> Int {
        let byteCount = queue.withLock { queue in
            queue.batches.append(batch)
            queue.byteCount += batch.byteCount
            isLoading.store(true, ordering: .relaxed)
            startLoader(&queue)
            return queue.byteCount
        }
        work.signal()
        return byteCount
    }

    private func startLoader(_ queue: inout Queue) {
        if queue.loader == nil && !queue.isStopping {
            queue.loader = WorkThread("state-loader") { [self] in runLoader() }
        }
    }

    private func pop() -> WriteBatch? {
        queue.withLock { queue in
            let batch = queue.batches.popFirst()
            queue.byteCount -= batch?.byteCount ?? 0
            return batch
        }
    }

    func endLoader() {
        let loader = queue.withLock { queue in
            queue.isStopping = true
            return queue.loader
        }
        work.signal()
        loader?.join()
    }

    private func runLoader() {
        while !queue.withLock({ $0.isStopping }) {
            // A failure stays in `rows`, and the next write tells it.
            if rows.withLock({ $0.isDrainAsked && $0.failure == nil }) { try? drain() }
            let isMore = loads.withLock { loads in
                // A failure stays in `loads` until a flush asks.
                loads.failure == nil && (try? workOne(&loads)) == true
            }
            if !isMore { work.wait() }
        }
    }

    // MARK: Rows to files

    func workOff() throws(StoreError) {
        try loads.withLock { loads throws(StoreError) in while try workOne(&loads) {} }
    }

    /// Works off everything, and has the store take all that was loaded.
    func finish() throws(StoreError) {
        try loads.withLock { loads throws(StoreError) in
            while try workOne(&loads) {}
            for i in loads.sequences.indices { try take(i, &loads) }
            loads.sequences.removeAll()
            queue.withLock { if $0.batches.isEmpty { isLoading.store(false, ordering: .relaxed) } }
        }
    }

    /// Takes the next load from the queue to its file. False when there is none.
    private func workOne(_ loads: inout Loads) throws(StoreError) -> Bool {
        if let failure = loads.failure { throw failure }
        guard let batch = pop() else { return false }
        do throws(StoreError) {
            try add(batch, &loads)
        } catch {
            loads.failure = error
            throw error
        }
        return true
    }

    private func add(_ batch: WriteBatch, _ loads: inout Loads) throws(StoreError) {
        guard case .put(let lastKey, let lastValue)? = batch.operations.last else {
            preconditionFailure("a load of \(batch.operations.count) operations does not end with a put")
        }
        var at = loads.sequences.firstIndex { $0.lastKey == lastKey }
        if let i = at, case .put(let first, _)? = batch.operations.first, batch.operations.count > 1,
            !loads.sequences[i].highest.precedes(first)
        {
            // Begun again from where the store stands, which does not have what was not taken yet.
            loads.sequences.remove(at: i)
            at = nil
        }
        if at == nil {
            loads.sequences.append(Sequence(lastKey: lastKey, file: nil, highest: [], last: WriteBatch()))
        }
        let i = at ?? loads.sequences.count - 1
        for operation in batch.operations.dropLast() {
            guard case .put(let key, let value) = operation else {
                preconditionFailure("a load holds a deletion")
            }
            if loads.sequences[i].file == nil {
                loads.fileNumber += 1
                loads.sequences[i].file = try SortedFile("\(incoming)/\(loads.fileNumber).sst", for: rocks)
                loads.sequences[i].begunAt = .now
            }
            try loads.sequences[i].file?.put(key, value)
            loads.sequences[i].highest = key
        }
        loads.sequences[i].last = WriteBatch()
        loads.sequences[i].last.put(lastKey, lastValue)
        guard let file = loads.sequences[i].file else { return }
        if file.byteCount >= StateStore.fileBytes
            || ContinuousClock.now - loads.sequences[i].begunAt >= StateStore.fileAge
        {
            try take(i, &loads)
        }
    }

    /// The rows first, then what tells of them. What was written before them goes before them.
    private func take(_ i: Int, _ loads: inout Loads) throws(StoreError) {
        try draining.withLock { _ throws(StoreError) in
            try drainNow()
            try takeNow(i, &loads)
            // It may be other than what is kept for reading.
            _ = rows.withLock { $0.rows.forgetKept() }
        }
    }

    private func takeNow(_ i: Int, _ loads: inout Loads) throws(StoreError) {
        if let file = loads.sequences[i].file {
            loads.sequences[i].file = nil
            try rocks.take(file)
        }
        if case .put(let key, let value)? = loads.sequences[i].last.operations.last {
            // A file, too: a crash that took this one row would take all rows that it tells of.
            loads.fileNumber += 1
            let file = try SortedFile("\(incoming)/\(loads.fileNumber).sst", for: rocks)
            try file.put(key, value)
            try rocks.take(file)
            loads.sequences[i].last = WriteBatch()
        }
    }

    /// Drops the loads that a batch's deletions end.
    func endSequences(in batch: WriteBatch) {
        for case .deleteRange(let range) in batch.operations {
            loads.withLock { loads in
                loads.sequences.removeAll { range.contains($0.lastKey) }
                queue.withLock { queue in
                    var kept = RingBuffer<WriteBatch>()
                    var byteCount = 0
                    while let batch = queue.batches.popFirst() {
                        if case .put(let key, _)? = batch.operations.last, range.contains(key) { continue }
                        kept.append(batch)
                        byteCount += batch.byteCount
                    }
                    queue.batches = kept
                    queue.byteCount = byteCount
                }
            }
        }
    }
}
