import ClusterBase
import Glibc
import NodePorts
import NodeStorage
import RaftCore
import StoreFolder
import StoreLayout
import Synchronization
import Testing

@Suite struct LogWriterTests {
    func tickets(_ outcomes: [LogWriter.Outcome]) -> [UInt64] {
        outcomes.flatMap { outcome -> [UInt64] in
            if case .written(let tickets) = outcome { tickets } else { [] }
        }
    }

    @Test func `what waits goes in one write with one sync, and tickets are answered in order`() throws {
        let batches = Answers<Int>()
        let answers = Answers<LogWriter.Outcome>()
        let gate = Gate()
        let writer = LogWriter(
            commit: { batch throws(StoreError) in
                batches.add(batch.operations.count)
                gate.pass()
            },
            onOutcome: { answers.add($0) })
        var log = GrowingLog(1)
        writer.submit([log.grow(1)], ticket: 0)
        #expect(batches.wait { $0.count == 1 })
        for ticket in 1...100 as ClosedRange<UInt64> { writer.submit([log.grow(1)], ticket: ticket) }
        gate.open()
        #expect(answers.wait { tickets($0).count == 101 })
        #expect(tickets(answers.all) == Array(0...100))
        // One entry and one hard state each.
        #expect(batches.all == [2, 200])
        #expect(writer.statistics.commitCount == 2)
        #expect(writer.statistics.ticketCount == 101)
        writer.stop()
    }

    @Test func `a batch ends at its bound`() throws {
        let batches = Answers<Int>()
        let answers = Answers<LogWriter.Outcome>()
        let gate = Gate()
        var bounds = LogWriter.Bounds()
        bounds.batchBytesMax = 10_000
        let writer = LogWriter(
            bounds: bounds,
            commit: { batch throws(StoreError) in
                batches.add(batch.byteCount)
                gate.pass()
            },
            onOutcome: { answers.add($0) })
        var log = GrowingLog(1)
        for ticket in 0..<20 as Range<UInt64> { writer.submit([log.grow(1, bytes: 3_000)], ticket: ticket) }
        gate.open()
        #expect(answers.wait { tickets($0).count == 20 })
        #expect(batches.all.allSatisfy { $0 <= 10_000 })
        #expect(tickets(answers.all) == Array(0..<20))
        writer.stop()
    }

    @Test func `beyond the bound of the queue a hand-over waits for room`() throws {
        let answers = Answers<LogWriter.Outcome>()
        let gate = Gate()
        var bounds = LogWriter.Bounds()
        bounds.queuedBytesMax = 10_000
        let writer = LogWriter(
            bounds: bounds, commit: { _ throws(StoreError) in gate.pass() }, onOutcome: { answers.add($0) })
        let handedOver = Atomic<Int>(0)
        let done = Answers<Bool>()
        try withThread {
            var log = GrowingLog(1)
            for ticket in 0..<50 as Range<UInt64> {
                writer.submit([log.grow(1, bytes: 1_000)], ticket: ticket)
                handedOver.add(1, ordering: .relaxed)
            }
            done.add(true)
        } while: {
            usleep(50_000)
            #expect(handedOver.load(ordering: .relaxed) < 20)
            #expect(writer.queuedBytes <= 10_000)
            gate.open()
            #expect(done.wait { !$0.isEmpty })
        }
        #expect(answers.wait { tickets($0).count == 50 })
        writer.stop()
    }

    @Test func `nothing is acknowledged after a write that failed, and the failure is told once`() throws {
        for failing in 1...4 {
            let count = Mutex(0)
            let answers = Answers<LogWriter.Outcome>()
            var bounds = LogWriter.Bounds()
            bounds.batchBytesMax = 1
            let writer = LogWriter(
                bounds: bounds,
                commit: { _ throws(StoreError) in
                    let number = count.withLock { count in
                        count += 1
                        return count
                    }
                    if number == failing { throw StoreError(.writeFailed, "the disk is gone") }
                },
                onOutcome: { answers.add($0) })
            var log = GrowingLog(1)
            for ticket in 1...10 as ClosedRange<UInt64> { writer.submit([log.grow(1)], ticket: ticket) }
            #expect(answers.wait { $0.contains { if case .failed = $0 { true } else { false } } })
            for ticket in 11...20 as ClosedRange<UInt64> { writer.submit([log.grow(1)], ticket: ticket) }
            writer.stop()
            #expect(tickets(answers.all) == (1..<UInt64(failing)).map { $0 })
            #expect(answers.all.count { if case .failed = $0 { true } else { false } } == 1)
            #expect(count.withLock { $0 } == failing)
        }
    }

    @Test func `an empty hand-over is one synced write too, so that it shows whether the disk answers`() throws {
        let batches = Answers<Int>()
        let answers = Answers<LogWriter.Outcome>()
        let writer = LogWriter(
            commit: { batch throws(StoreError) in batches.add(batch.operations.count) }, onOutcome: { answers.add($0) })
        writer.submit([], ticket: 7)
        #expect(batches.wait { $0 == [0] })
        writer.stop()
        #expect(tickets(answers.all) == [7])
        #expect(writer.statistics.commitCount == 1)
        #expect(writer.statistics.lastCommitAt > 0)
    }

    @Test func `stopping writes what waits`() throws {
        let folder = Folder()
        var log = GrowingLog(1)
        do {
            let directory = try NodeDirectory.create(folder.path + "/data", identity, smallSettings())
            var store = directory.log
            try log.create(in: &store)
            let answers = Answers<LogWriter.Outcome>()
            let writer = LogWriter(
                commit: { [store] batch throws(StoreError) in try store.write(batch, isSynced: true) },
                onOutcome: { answers.add($0) })
            for ticket in 0..<300 as Range<UInt64> { writer.submit([log.grow(2)], ticket: ticket) }
            writer.stop()
            #expect(tickets(answers.all) == Array(0..<300))
        }
        let directory = try NodeDirectory.open(folder.path + "/data", identity, smallSettings())
        #expect(directory.findings.isEmpty)
        #expect(try restored(log.group, in: directory.log)?.last == LogIndex(600))
    }

    /// Runs `body` on a thread of its own while `other` runs here.
    private func withThread(_ body: @escaping @Sendable () -> Void, while other: () -> Void) throws {
        final class Work: Sendable {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
        var thread = pthread_t()
        let work = Unmanaged.passRetained(Work(body)).toOpaque()
        pthread_create(
            &thread, nil,
            {
                Unmanaged<Work>.fromOpaque($0!).takeRetainedValue().body(); return nil
            }, work)
        other()
        pthread_join(thread, nil)
    }
}
