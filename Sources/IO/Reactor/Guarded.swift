internal import Glibc

/// A value behind a lock; the only lock of the house. Hold it for a few instructions and never while calling out.
///
/// A pthread mutex rather than the standard library's: the thread sanitizer sees it, and threads can wait on it.
package final class Guarded<Value: Sendable>: @unchecked Sendable {  // `value` is only touched with `mutex` held
    private var value: Value
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>

    package init(_ value: Value) {
        self.value = value
        mutex = .allocate(capacity: 1)
        mutex.initialize(to: pthread_mutex_t())
        condition = .allocate(capacity: 1)
        condition.initialize(to: pthread_cond_t())
        let isMutex = pthread_mutex_init(mutex, nil)
        let isCondition = pthread_cond_init(condition, nil)
        precondition(isMutex == 0, "a mutex could not be made: errno \(isMutex)")
        precondition(isCondition == 0, "a condition could not be made: errno \(isCondition)")
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    package func withLock<Result, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&value)
    }

    /// Waits until `isReady` says yes, then runs `body`, all under the lock. Whoever makes it true calls `wakeAll`.
    package func waitUntil<Result>(
        _ isReady: (borrowing Value) -> Bool, then body: (inout Value) -> Result
    ) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while !isReady(value) { pthread_cond_wait(condition, mutex) }
        return body(&value)
    }

    /// Lets everybody who waits look again.
    package func wakeAll() { pthread_cond_broadcast(condition) }
}
