internal import CLinux
internal import Glibc

/// A thread of its own for work that blocks. It takes no signals, so that those reach the event loop.
package final class WorkerThread: @unchecked Sendable {  // `handle` is written before the object is shared
    package let name: String
    private var handle = pthread_t()
    private let isJoined = Guarded(false)

    private final class Start {
        let name: String
        let body: @Sendable () -> Void
        init(_ name: String, _ body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }

    package static let stackBytes = 1 << 20

    /// Starts the thread. Its name is cut to 15 bytes by the system.
    package init(_ name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) {
        self.name = name
        let start = Unmanaged.passRetained(Start(String(name.prefix(15)), body))
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setstacksize(&attributes, WorkerThread.stackBytes)
        let code = pthread_create(
            &handle, &attributes,
            { argument in
                guard let argument else { return nil }
                let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                clinux_block_signals()
                clinux_name_thread(start.name)
                start.body()
                return nil
            }, start.toOpaque())
        if code != 0 {
            start.release()
            throw SystemError("start the thread", name, code: code)
        }
    }

    /// Waits for the thread's end. Called once, by whoever asked it to end; without it the thread runs on alone.
    package func join() {
        let isFirst = isJoined.withLock { joined in
            defer { joined = true }
            return !joined
        }
        if isFirst { pthread_join(handle, nil) }
    }

    deinit {
        if isJoined.withLock({ !$0 }) { pthread_detach(handle) }
    }
}

/// A bounded queue from the event loop to a worker, which takes everything that waits at once.
package final class WorkQueue<Item: Sendable>: Sendable {
    private struct State: Sendable {
        var items: [Item] = []
        var isClosed = false
    }
    private let state = Guarded(State())
    package let itemsMax: Int

    package init(itemsMax: Int) {
        precondition(itemsMax > 0, "a queue of \(itemsMax) items takes nothing")
        self.itemsMax = itemsMax
    }

    /// False when the queue is full or closed, and the item was not taken.
    package func put(_ item: Item) -> Bool {
        let (isTaken, isFirst) = state.withLock { state -> (Bool, Bool) in
            if state.isClosed || state.items.count >= itemsMax { return (false, false) }
            state.items.append(item)
            return (true, state.items.count == 1)
        }
        if isFirst { state.wakeAll() }
        return isTaken
    }

    /// Waits for work and gives all of it, oldest first; nil when the queue is closed and empty.
    package func takeAll() -> [Item]? {
        state.waitUntil({ !$0.items.isEmpty || $0.isClosed }) { state in
            if state.items.isEmpty { return nil }
            let items = state.items
            state.items = []
            state.items.reserveCapacity(Swift.min(items.count, 1_024))
            return items
        }
    }

    /// Takes nothing more; the worker finishes what is there.
    package func close() {
        state.withLock { $0.isClosed = true }
        state.wakeAll()
    }
}
