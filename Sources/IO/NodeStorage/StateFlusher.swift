package import ClusterBase
internal import Synchronization

/// Makes the applied state durable on a thread of its own. All tickets that wait are answered by one flush.
package final class StateFlusher: Sendable {
    package enum Outcome: Sendable {
        /// Everything written before these were asked for is durable.
        case flushed(tickets: [UInt64])
        /// The flush failed, and the process must end.
        case failed(StoreError)
    }

    private struct State: Sendable {
        var tickets: [UInt64] = []
        var isStopping = false
    }

    private final class Shared: Sendable {
        let state = Mutex(State())
        let work = Wakeup()
    }

    private let shared = Shared()
    private let thread: WorkThread

    /// `flush` and `onOutcome` are called on the flusher's thread only.
    package init(
        flush: @escaping @Sendable () throws(StoreError) -> Void, onOutcome: @escaping @Sendable (Outcome) -> Void
    ) {
        thread = WorkThread("state-flusher") { [shared] in
            while true {
                let (tickets, isStopping) = shared.state.withLock { state in
                    defer { state.tickets.removeAll() }
                    return (state.tickets, state.isStopping)
                }
                if tickets.isEmpty {
                    if isStopping { return }
                    shared.work.wait()
                    continue
                }
                do throws(StoreError) {
                    try flush()
                } catch {
                    return onOutcome(.failed(error))
                }
                onOutcome(.flushed(tickets: tickets))
            }
        }
    }

    deinit { stop() }

    /// Asks for a flush.
    package func flush(ticket: UInt64) {
        shared.state.withLock { $0.tickets.append(ticket) }
        shared.work.signal()
    }

    /// Does what was asked for and ends the thread.
    package func stop() {
        shared.state.withLock { $0.isStopping = true }
        shared.work.signal()
        thread.join()
    }
}
