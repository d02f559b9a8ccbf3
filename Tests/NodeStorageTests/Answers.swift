import Glibc
import Synchronization

/// What callbacks of other threads said, in order.
final class Answers<Element: Sendable>: Sendable {
    private let list = Mutex<[Element]>([])
    func add(_ element: Element) { list.withLock { $0.append(element) } }
    var all: [Element] { list.withLock { $0 } }

    /// Waits until `condition` holds, for ten seconds at most.
    func wait(until condition: ([Element]) -> Bool) -> Bool {
        for _ in 0..<10_000 {
            if condition(all) { return true }
            usleep(1_000)
        }
        return false
    }
}

/// A door that threads wait at until it is opened.
final class Gate: Sendable {
    private let isOpen = Mutex(false)
    func open() { isOpen.withLock { $0 = true } }
    func pass() { while !isOpen.withLock({ $0 }) { usleep(200) } }
}
