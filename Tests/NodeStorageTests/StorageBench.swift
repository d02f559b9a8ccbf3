import ClusterBase
import Glibc
import KeyValueStore
import NodePorts
import NodeStorage
import RaftCore
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

    func nanoseconds() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }

    /// Appends of this size, each followed by fdatasync, a second.
    func rawSyncs(_ count: Int, bytes: Int) -> Double {
        let fd = open(path + "/raw", O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        defer { close(fd) }
        let block = [UInt8](repeating: 1, count: bytes)
        let began = nanoseconds()
        for _ in 0..<count {
            _ = block.withUnsafeBytes { write(fd, $0.baseAddress, $0.count) }
            fdatasync(fd)
        }
        return Double(count) * 1e9 / Double(nanoseconds() - began)
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
        var raw = 0.0
        var batches = 0.0
        let rounds = 4
        for round in 0..<rounds {
            raw += rawSyncs(syncs / rounds, bytes: 300) / Double(rounds)
            let began = nanoseconds()
            for i in 0..<syncs / rounds {
                let ticket = UInt64(round * syncs + i)
                writer.submit([log.grow(1, bytes: 128)], ticket: ticket)
                while writer.statistics.ticketCount < UInt64(round * (syncs / rounds) + i + 1) { sched_yield() }
            }
            batches += Double(syncs / rounds) * 1e9 / Double(nanoseconds() - began) / Double(rounds)
        }
        print("storage: \(Int(raw)) bare fdatasync/s, \(Int(batches)) synced batches/s through the writer")

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
        let rounds300 = Self.isLong ? 2_000 : 20
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
        began = nanoseconds()
        for batch in batchesOf300 { try state.write(batch, isSynced: false) }
        let perPut = (nanoseconds() - began) / (rounds300 * 300)
        print("storage: \(perPut) ns a put of 64 bytes in an unsynced batch of 300")
        began = nanoseconds()
        var found = 0
        for case .put(let key, _) in batchesOf300.flatMap(\.operations).prefix(Self.isLong ? 100_000 : 1_000) {
            if try state.value(for: key) != nil { found += 1 }
        }
        print("storage: \((nanoseconds() - began) / max(1, found)) ns a get")
        began = nanoseconds()
        var rows = 0
        try state.scan(KeyRange(from: [], to: nil)) { _, _ in
            rows += 1
            return true
        }
        print("storage: \((nanoseconds() - began) / max(1, rows)) ns a row of a scan")
        began = nanoseconds()
        for i in 0..<100 as Range<UInt8> { try state.scan(.prefix([0, 0, 0, 1, i])) { _, _ in false } }
        print("storage: \((nanoseconds() - began) / 100) ns a scan of one row")
        directory.stop()
    }
}
