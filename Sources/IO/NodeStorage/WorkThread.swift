internal import Glibc

/// A thread of the operating system for work that waits for a disk.
final class WorkThread: @unchecked Sendable {  // Only `join` changes anything, and its caller calls it once.
    private static let stackBytes = 512 << 10
    private var thread = pthread_t()
    private var isJoined = false

    /// Starts a thread that runs `body`. Its name has at most 15 bytes.
    init(_ name: StaticString, _ body: @escaping @Sendable () -> Void) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setstacksize(&attributes, Self.stackBytes)
        let boxed = Unmanaged.passRetained(Box(name, body))
        let failed = pthread_create(&thread, &attributes, startWork, boxed.toOpaque())
        pthread_attr_destroy(&attributes)
        precondition(failed == 0, "no thread for \(name): errno \(failed)")
    }

    /// Waits until the body has returned.
    func join() {
        if isJoined { return }
        isJoined = true
        pthread_join(thread, nil)
    }
}

private final class Box: Sendable {
    let name: StaticString
    let body: @Sendable () -> Void
    init(_ name: StaticString, _ body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
    }
}

private func startWork(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    let work = Unmanaged<Box>.fromOpaque(argument).takeRetainedValue()
    // Only for whoever looks at the process.
    let fd = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
    if fd >= 0 {
        _ = write(fd, work.name.utf8Start, work.name.utf8CodeUnitCount)
        close(fd)
    }
    // Signals are for the threads that expect them.
    var all = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_BLOCK, &all, nil)
    work.body()
    return nil
}
