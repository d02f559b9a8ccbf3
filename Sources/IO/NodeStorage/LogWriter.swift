package import ClusterBase
internal import Glibc
package import NodePorts
internal import RaftCore
internal import StoreLayout
internal import Synchronization

/// Makes log writes durable on a thread of its own: everything that waits goes in one write with one sync.
///
///     submit ─▶ queue ─▶ ┌ thread: take all that waits ─▶ one batch ─▶ commit (synced) ┐ ─▶ onOutcome(.written)
///                        └───────────────────────── again ────────────────────────────┘
///                                                  │ failed
///                                                  └─▶ onOutcome(.failed) once; nothing is acknowledged any more
///
/// Tickets are answered in the order in which they came, on the writer's thread.
package final class LogWriter: Sendable {
    /// How much may wait, and how much goes at once.
    package struct Bounds: Sendable {
        /// Beyond this `submit` waits for room: the last resort, after the bounds on what clients may have under way.
        package var queuedBytesMax = 256 << 20
        /// A batch takes no further hand-over beyond this.
        package var batchBytesMax = 8 << 20
        package init() {}
    }

    package enum Outcome: Sendable {
        /// These are durable, in this order.
        case written(tickets: [UInt64])
        /// The write or sync failed, and the process must end.
        case failed(StoreError)
    }

    /// What the writer did since it began.
    package struct Statistics: Hashable, Sendable {
        package var commitCount: UInt64 = 0
        package var ticketCount: UInt64 = 0
        package var longestCommitNanoseconds: UInt64 = 0
        /// On CLOCK_MONOTONIC, in nanoseconds: when the newest commit ended, and when the one under way began, or 0.
        package var lastCommitAt: UInt64 = 0
        package var commitBeganAt: UInt64 = 0
    }

    private struct HandOver: Sendable {
        var ticket: UInt64
        var writes: [GroupWrite]
        var byteCount: Int
    }

    private struct State: Sendable {
        var queue = RingBuffer<HandOver>()
        var queuedBytes = 0
        var isThreadWaiting = false
        var isSubmitterWaiting = false
        var isStopping = false
        var hasFailed = false
        var statistics = Statistics()
    }

    private final class Shared: Sendable {
        let state = Mutex(State())
        let work = Wakeup()
        let room = Wakeup()
    }

    private let shared = Shared()
    private let bounds: Bounds
    private let thread: WorkThread

    /// `commit` makes a batch durable and is called on the writer's thread only, as `onOutcome` is, and first of all `begin`.
    package init(
        bounds: Bounds = Bounds(), begin: @escaping @Sendable () -> Void = {},
        commit: @escaping @Sendable (WriteBatch) throws(StoreError) -> Void,
        onOutcome: @escaping @Sendable (Outcome) -> Void
    ) {
        self.bounds = bounds
        thread = WorkThread("log-writer") { [shared] in
            begin()
            Self.run(shared, bounds, commit, onOutcome)
        }
    }

    deinit { stop() }

    /// Hands over one turn's writes; none at all still make one synced write, which shows whether the disk answers.
    package func submit(_ writes: [GroupWrite], ticket: UInt64) {
        enqueue(HandOver(ticket: ticket, writes: writes, byteCount: writes.reduce(64) { $0 + $1.byteCountEstimate }))
    }

    package var statistics: Statistics { shared.state.withLock { $0.statistics } }
    /// Bytes that wait.
    package var queuedBytes: Int { shared.state.withLock { $0.queuedBytes } }

    /// Writes what waits and ends the thread. Nothing is taken afterwards.
    package func stop() {
        shared.state.withLock { $0.isStopping = true }
        shared.work.signal()
        shared.room.signal()
        thread.join()
    }

    private func enqueue(_ handOver: HandOver) {
        while true {
            let (isDone, wakesThread) = shared.state.withLock { state -> (Bool, Bool) in
                if state.hasFailed || state.isStopping { return (true, false) }
                if !state.queue.isEmpty && state.queuedBytes + handOver.byteCount > bounds.queuedBytesMax {
                    state.isSubmitterWaiting = true
                    return (false, false)
                }
                state.queue.append(handOver)
                state.queuedBytes += handOver.byteCount
                defer { state.isThreadWaiting = false }
                return (true, state.isThreadWaiting)
            }
            if wakesThread { shared.work.signal() }
            if isDone { return }
            shared.room.wait()
        }
    }

    // MARK: The thread

    private static func run(
        _ shared: Shared, _ bounds: Bounds, _ commit: (WriteBatch) throws(StoreError) -> Void,
        _ onOutcome: (Outcome) -> Void
    ) {
        var taken: [HandOver] = []
        var batch = WriteBatch()
        while take(&taken, shared, bounds) {
            if taken.isEmpty {
                shared.work.wait()
                continue
            }
            for handOver in taken {
                for write in handOver.writes { StoredLog.add(write, to: &batch) }
            }
            let began = monotonicNanoseconds()
            shared.state.withLock { $0.statistics.commitBeganAt = began }
            do throws(StoreError) {
                try commit(batch)
            } catch {
                shared.state.withLock { state in
                    state.hasFailed = true
                    state.queue = RingBuffer()
                    state.queuedBytes = 0
                }
                shared.room.signal()
                return onOutcome(.failed(error))
            }
            let tickets = taken.map(\.ticket)
            note(shared, began: began, tickets: tickets.count)
            onOutcome(.written(tickets: tickets))
            batch.removeAll()
            taken.removeAll(keepingCapacity: true)
        }
    }

    /// Takes what waits, up to a batch. False when all is done and no more will come.
    private static func take(_ taken: inout [HandOver], _ shared: Shared, _ bounds: Bounds) -> Bool {
        let (goesOn, hasRoom) = shared.state.withLock { state -> (Bool, Bool) in
            var byteCount = 0
            while let next = state.queue.first {
                if !taken.isEmpty && byteCount + next.byteCount > bounds.batchBytesMax { break }
                byteCount += next.byteCount
                taken.append(next)
                _ = state.queue.popFirst()
            }
            state.queuedBytes -= byteCount
            if taken.isEmpty && state.isStopping { return (false, false) }
            state.isThreadWaiting = taken.isEmpty
            defer { state.isSubmitterWaiting = false }
            return (true, state.isSubmitterWaiting)
        }
        if hasRoom { shared.room.signal() }
        return goesOn
    }

    private static func note(_ shared: Shared, began: UInt64, tickets: Int) {
        let now = monotonicNanoseconds()
        shared.state.withLock { state in
            state.statistics.commitCount += 1
            state.statistics.ticketCount += UInt64(tickets)
            state.statistics.longestCommitNanoseconds = max(
                state.statistics.longestCommitNanoseconds, now - began)
            state.statistics.lastCommitAt = now
            state.statistics.commitBeganAt = 0
        }
    }
}

extension GroupWrite {
    /// About what it takes in memory and on the disk.
    var byteCountEstimate: Int { write.entries.reduce(128) { $0 + $1.byteCount + 64 } }
}

func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
