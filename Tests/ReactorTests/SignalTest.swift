import Glibc

/// A signal that nobody else uses, sent to one thread only.
enum SignalTest {
    static let number = SIGUSR2
    static func raiseInThisThread() { pthread_kill(pthread_self(), number) }
}
