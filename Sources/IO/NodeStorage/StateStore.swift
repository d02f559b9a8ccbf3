package import ClusterBase
package import KeyValueStore
internal import NodePorts
internal import Synchronization

/// The applied state of a node: a flushed store, into which snapshots come as files of their own.
///
///     write ───────────────────────────────────────────────────▶ write buffers ─ flush ─▶ files
///     load ─▶ queue ─▶ ┌ thread, while there is something: rows ─▶ a file in incoming/ ┐
///                      └ file full, or flush: the store takes it, then the last put ───┘
///
/// The rows of a snapshot so go to the disk once, and past the buffers that others' state is in. A thread of its own does
/// it, so that the one that applies commands never waits for it, except when the queue is full, or to end a sequence.
package final class StateStore: OrderedStore, Sendable {
    /// A file is given to the store at this size.
    static let fileBytes = 64 << 20
    /// Beyond this `load` works off the queue itself.
    static let queuedBytesMax = 32 << 20

    private let shared: Shared

    init(_ rocks: RocksStore, incoming: String) { shared = Shared(rocks, incoming) }

    deinit { shared.endLoader() }

    // MARK: Reading and writing

    package func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? { try shared.rocks.value(for: key) }
    package func scan(_ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool) throws(StoreError) {
        try shared.rocks.scan(range, body)
    }
    package func view() -> RocksView { shared.rocks.view() }

    package func write(_ batch: WriteBatch, isSynced: Bool) throws(StoreError) {
        if shared.isLoading.load(ordering: .relaxed) { shared.endSequences(in: batch) }
        try shared.rocks.write(batch, isSynced: false)
        if isSynced { try flush() }
    }

    package func load(_ batch: WriteBatch) throws(StoreError) {
        if shared.enqueue(batch) > Self.queuedBytesMax { try shared.workOff() }
    }

    /// Works off all loads first.
    package func flush() throws(StoreError) {
        if shared.isLoading.load(ordering: .relaxed) { try shared.finish() }
        try shared.rocks.flush()
    }

    /// Ends what goes on in the background. Loads that were not flushed are lost, as in a crash.
    func stop() {
        shared.endLoader()
        shared.rocks.stop()
    }

    /// One of RocksDB's properties, such as `rocksdb.stats`.
    package func property(_ name: String) -> String? { shared.rocks.property(name) }
    /// Bytes of memory held now, without the shared block cache.
    package var memoryByteCount: Int { shared.rocks.memoryByteCount }
}

/// What the owner of the store and the loader's thread share.
private final class Shared: Sendable {
    /// The loads whose last puts have the same key.
    struct Sequence {
        let lastKey: [UInt8]
        var file: SortedFile?
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

    let rocks: RocksStore
    /// Whether there is anything in `queue` or `loads`. Set by the owner of the store only, or with both locks held.
    let isLoading = Atomic<Bool>(false)
    private let incoming: String
    private let work = Wakeup()
    /// Taken last, and never held for long.
    private let queue = Mutex(Queue())
    /// Held while rows go to files.
    private let loads = Mutex(Loads())

    init(_ rocks: RocksStore, _ incoming: String) {
        self.rocks = rocks
        self.incoming = incoming
    }

    // MARK: The queue

    /// Bytes that wait now.
    func enqueue(_ batch: WriteBatch) -> Int {
        let byteCount = queue.withLock { queue in
            queue.batches.append(batch)
            queue.byteCount += batch.byteCount
            isLoading.store(true, ordering: .relaxed)
            if queue.loader == nil && !queue.isStopping {
                queue.loader = WorkThread("state-loader") { [self] in runLoader() }
            }
            return queue.byteCount
        }
        work.signal()
        return byteCount
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
            }
            try loads.sequences[i].file?.put(key, value)
            loads.sequences[i].highest = key
        }
        loads.sequences[i].last = WriteBatch()
        loads.sequences[i].last.put(lastKey, lastValue)
        if (loads.sequences[i].file?.byteCount ?? 0) >= StateStore.fileBytes { try take(i, &loads) }
    }

    /// The rows first, then what tells of them.
    private func take(_ i: Int, _ loads: inout Loads) throws(StoreError) {
        if let file = loads.sequences[i].file {
            loads.sequences[i].file = nil
            try rocks.take(file)
        }
        if !loads.sequences[i].last.isEmpty {
            try rocks.write(loads.sequences[i].last, isSynced: false)
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
