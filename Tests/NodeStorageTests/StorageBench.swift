import ClusterBase
import Glibc
import KeyValueStore
import NodePorts
import NodeStorage
import RaftCore
import StoreFolder
import StoreLayout
import Testing

/// Prints what the storage costs on the disk of the working directory. Small in every run, so that it can't rot;
/// `MUSTER_BENCH=1` makes it long enough to be believed.
@Suite(.serialized) struct StorageBench {
    static let isLong = getenv("MUSTER_BENCH") != nil
    let path: String

    init() {
        path = "storage-bench-\(getpid())"
        Folder.remove(path)
        mkdir(path, 0o700)
    }

    func nanoseconds() -> Int { read(CLOCK_MONOTONIC) }

    /// Of this thread's own work: others on the machine don't count.
    func worked() -> Int { read(CLOCK_THREAD_CPUTIME_ID) }

    private func read(_ clock: clockid_t) -> Int {
        var time = timespec()
        clock_gettime(clock, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }

    /// A file of writes of 300 bytes with a sync each, as a log without a store would be.
    struct BareLog: ~Copyable {
        private let fd: CInt
        private let block = [UInt8](repeating: 1, count: 300)

        init(_ path: String) {
            fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
            posix_fallocate(fd, 0, 64 << 20)
            fsync(fd)
        }

        deinit { close(fd) }

        func append(_ count: Int) {
            for _ in 0..<count {
                _ = block.withUnsafeBytes { write(fd, $0.baseAddress, $0.count) }
                fdatasync(fd)
            }
        }
    }

    @Test func `synced batches against bare syncs, and a put in a batch of 300`() throws {
        defer { Folder.remove(path) }
        let syncs = Self.isLong ? 2_000 : 20
        let directory = try NodeDirectory.create(path + "/data", identity)
        var store = directory.log
        var log = GrowingLog(1)
        try log.create(in: &store)
        let answers = Answers<LogWriter.Outcome>()
        let writer = LogWriter(
            commit: { [store] batch throws(StoreError) in try store.write(batch, isSynced: true) },
            onOutcome: { answers.add($0) })

        // In turns, since a shared disk changes its mind.
        let bare = BareLog(path + "/bare")
        var (bareTime, time) = (0, 0)
        let rounds = 20
        for round in 0..<rounds {
            var began = nanoseconds()
            bare.append(syncs / rounds)
            bareTime += nanoseconds() - began
            began = nanoseconds()
            for i in 0..<syncs / rounds {
                let number = UInt64(round * (syncs / rounds) + i + 1)
                writer.submit([log.grow(1, bytes: 128)], ticket: number)
                while writer.statistics.ticketCount < number { sched_yield() }
            }
            time += nanoseconds() - began
        }
        func perSecond(_ time: Int) -> Int { Int(Double(syncs) * 1e9 / Double(time)) }
        print(
            "storage: \(perSecond(bareTime)) bare fdatasync/s, \(perSecond(time)) synced batches/s through the writer")

        let commits = writer.statistics.commitCount
        let handOvers = Self.isLong ? 100_000 : 500
        var began = nanoseconds()
        for i in 0..<handOvers { writer.submit([log.grow(1, bytes: 128)], ticket: UInt64(1_000_000 + i)) }
        writer.stop()
        let seconds = Double(nanoseconds() - began) / 1e9
        let merged = writer.statistics.commitCount - commits
        print("storage: \(Int(Double(handOvers) / seconds)) hand-overs/s in \(merged) synced writes")
        #expect(merged < handOvers)

        let state = directory.state
        let rounds300 = Self.isLong ? 400 : 20
        var batchesOf300: [WriteBatch] = []
        var random = PRNG(seed: 1)
        for _ in 0..<rounds300 {
            var batch = WriteBatch()
            for _ in 0..<300 {
                var key: [UInt8] = [0, 0, 0, 1]
                key.appendBigEndian(random.next())
                batch.put(key, [UInt8](repeating: 3, count: 64))
            }
            batchesOf300.append(batch)
        }
        began = worked()
        for batch in batchesOf300 { try state.write(batch, isSynced: false) }
        let perPut = (worked() - began) / (rounds300 * 300)
        print("storage: \(perPut) ns of CPU a put of 64 bytes in an unsynced batch of 300")
        began = worked()
        var found = 0
        for case .put(let key, _) in batchesOf300.flatMap(\.operations).prefix(Self.isLong ? 100_000 : 1_000) {
            if try state.value(for: key) != nil { found += 1 }
        }
        print("storage: \((worked() - began) / max(1, found)) ns of CPU a get")
        began = worked()
        var rows = 0
        try state.scan(KeyRange(from: [], to: nil)) { _, _ in
            rows += 1
            return true
        }
        print("storage: \((worked() - began) / max(1, rows)) ns of CPU a row of a scan")
        began = worked()
        for i in 0..<100 as Range<UInt8> { try state.scan(.prefix([0, 0, 0, 1, i])) { _, _ in false } }
        print("storage: \((worked() - began) / 100) ns of CPU a scan of one row")
        directory.stop()
    }
}
