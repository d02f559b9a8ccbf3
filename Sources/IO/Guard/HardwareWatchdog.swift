internal import CGuard
internal import ClusterBase
internal import Glibc

/// The machine's hardware watchdog: it resets the host when the guard has not fed it for a lease. What a kill can't end, a guest
/// that hangs in the kernel or a kernel that does nothing any more, ends so.
///
///     armed, and with every lease ─▶ feed     guests stop in time ─▶ rest     they don't ─▶ nobody feeds ─▶ reset
final class HardwareWatchdog {
    let path: String
    private var file: Int32 = -1
    /// What the device was told last.
    private var seconds: Int32 = 0
    private let log: (String) -> Void
    private var told = ""

    init(_ path: String, log: @escaping (String) -> Void) {
        self.path = path
        self.log = log
    }

    deinit { rest() }

    /// Counts anew: the machine is reset in the second after `moment`, if it is not fed again before.
    func feed(until moment: Instant, now: Instant) {
        let left = max(Nanoseconds.zero, moment - now)
        let wanted = Int32(clamping: (left.milliseconds + 999) / 1_000)
        if file < 0 { begin() }
        if file < 0 { return }
        if max(1, wanted) != seconds {
            var set = max(1, wanted)
            let result = cguard_watchdog_time(file, &set)
            guard result == 0 else {
                // With a time of its own it would reset a host that is well.
                complain("takes no time: \(String(cString: strerror(-result))); it is no watchdog that can be used")
                return rest()
            }
            seconds = max(1, wanted)
            if set > seconds { complain("counts at least \(set) s, and the lease ends before") }
        }
        let result = cguard_watchdog_feed(file)
        if result != 0 { complain("can't be fed: \(String(cString: strerror(-result)))") }
    }

    /// Nothing is left that has to end.
    func rest() {
        if file < 0 { return }
        // A device that is closed without this word goes on counting.
        let result = cguard_watchdog_rest(file)
        if result != 0 { complain("may go on counting: \(String(cString: strerror(-result)))") }
        file = -1
        seconds = 0
    }

    private func begin() {
        file = open(path, O_WRONLY | O_APPEND | O_CLOEXEC)
        if file >= 0 { return log("the watchdog \(path) resets this host if guests outlive their lease") }
        complain("can't be opened: \(String(cString: strerror(errno)))")
    }

    private func complain(_ sentence: String) {
        if told == sentence { return }
        told = sentence
        log("the watchdog \(path) \(sentence)")
    }
}
