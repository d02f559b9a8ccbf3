internal import CLinux
internal import Synchronization

/// Wakes the event loop from any thread.
final class Waker: Sendable {
    let fd: Int32
    private let isAsleep = Atomic(false)

    init() throws(SystemError) { fd = try SystemError.check(clinux_eventfd(), "make the event loop's waker") }

    deinit { _ = clinux_close(fd) }

    /// A system call only when the loop waits: a busy loop looks at its mail every turn anyway.
    func wake() {
        if isAsleep.load(ordering: .relaxed), isAsleep.exchange(false, ordering: .relaxed) {
            _ = clinux_eventfd_add(fd)
        }
    }

    /// True when the loop may wait. The flag goes up before the look at the mail: whoever posts after the look took the
    /// inbox's lock after it, and so sees the flag.
    func willSleep(_ inboxes: [any Inbox]) -> Bool {
        isAsleep.store(true, ordering: .relaxed)
        for inbox in inboxes where inbox.hasMail {
            isAsleep.store(false, ordering: .relaxed)
            return false
        }
        return true
    }

    /// False when nobody posted between `willSleep` and now. Who posts after that is found at the next `willSleep`.
    func wasWoken() -> Bool { !isAsleep.exchange(false, ordering: .relaxed) }
}

/// The loop's end of a mailbox.
protocol Inbox: AnyObject {
    var hasMail: Bool { get }
    func drain()
}

/// Values on their way from any thread to the event loop, in order, at most `itemsMax` at once.
package final class Mailbox<Item: Sendable>: Sendable {
    package let itemsMax: Int
    fileprivate let state: Guarded<State>
    private let waker: Waker

    fileprivate struct State: Sendable {
        var items: [Item] = []
        var isClosed = false
    }

    fileprivate init(_ waker: Waker, itemsMax: Int) {
        precondition(itemsMax > 0, "a mailbox of \(itemsMax) items takes nothing")
        self.itemsMax = itemsMax
        self.waker = waker
        state = Guarded(State())
    }

    /// False when the mailbox is full or closed; then the item was not taken, and the sender says so to its own caller.
    package func post(_ item: Item) -> Bool {
        let (isTaken, isFirst) = state.withLock { state -> (Bool, Bool) in
            if state.isClosed || state.items.count >= itemsMax { return (false, false) }
            state.items.append(item)
            return (true, state.items.count == 1)
        }
        if isFirst { waker.wake() }
        return isTaken
    }

    /// Takes nothing more. What is in it still arrives.
    package func close() { state.withLock { $0.isClosed = true } }
}

private final class MailboxInbox<Item: Sendable>: Inbox {
    let mailbox: Mailbox<Item>
    let handler: (Item) -> Void
    /// Swapped with the mailbox's array at every turn, so that neither grows again.
    var taken: [Item] = []

    init(_ mailbox: Mailbox<Item>, _ handler: @escaping (Item) -> Void) {
        self.mailbox = mailbox
        self.handler = handler
    }

    var hasMail: Bool { mailbox.state.withLock { !$0.items.isEmpty } }

    func drain() {
        taken = mailbox.state.withLock { [spare = taken] state in
            if state.items.isEmpty { return spare }
            let items = state.items
            state.items = spare
            return items
        }
        if taken.isEmpty { return }
        for item in taken { handler(item) }
        taken.removeAll(keepingCapacity: true)
    }
}

extension EventLoop {
    /// Makes a mailbox whose items come to `handler` on the loop's thread, each turn before the timers.
    package func makeMailbox<Item: Sendable>(
        of type: Item.Type = Item.self, itemsMax: Int, _ handler: @escaping (Item) -> Void
    ) -> Mailbox<Item> {
        let mailbox = Mailbox<Item>(waker, itemsMax: itemsMax)
        inboxes.append(MailboxInbox(mailbox, handler))
        return mailbox
    }

    /// Forgets every mailbox and its handler; for the end, since handlers often hold what holds the loop.
    package func removeMailboxes() { inboxes.removeAll() }
}
