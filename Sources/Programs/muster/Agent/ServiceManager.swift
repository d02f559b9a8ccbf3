import ClusterBase
import Glibc

/// The service manager that started this process, if one did (sd_notify's protocol).
enum ServiceManager {
    /// How much longer than now a start may take, as the manager is told again and again.
    static let moreTime = "EXTEND_TIMEOUT_USEC=30000000"

    /// Whether one waits to hear from this process.
    static var isThere: Bool { Muster.variable("NOTIFY_SOCKET") != nil }

    /// Tells all of it at once, one assignment each.
    static func tell(_ assignments: String...) {
        let state = assignments.joined(separator: "\n")
        guard let path = Muster.variable("NOTIFY_SOCKET"), path.utf8.count < 108 else { return }
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        withUnsafeMutableBytes(of: &address.sun_path) { target in
            for (i, byte) in bytes.enumerated() { target[i] = i == 0 && byte == UInt8(ascii: "@") ? 0 : byte }
        }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count + (path.hasPrefix("@") ? 0 : 1))
        _ = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { rebound in
                state.withCString { text in sendto(descriptor, text, strlen(text), 0, rebound, length) }
            }
        }
    }

    /// How often the manager wants a sign of life; nil when it does not watch.
    static var watchdog: Nanoseconds? {
        Muster.variable("WATCHDOG_USEC").flatMap { Int64($0) }.map { .microseconds($0 / 2) }
    }
}

/// What the manager is told of a running node.
///
///     starting ─(the root was heard, all groups here have leaders)─▶ ready ─(asked to end)─▶ stopping
///         │ more time is asked for, with what it waits for            │ signs of life
struct ManagerReports {
    private let watchdog = ServiceManager.watchdog
    private var watchdogAt = Instant.origin
    private var checkAt = Instant.origin
    private var extendAt = Instant.origin
    private let began: Instant
    private var isReady = false

    private static let checkInterval = Nanoseconds.milliseconds(100)
    private static let extendInterval = Nanoseconds.seconds(5)
    /// From then on a group without a leader, which may have lost its quorum for good, keeps nobody waiting.
    private static let leaderlessMax = Nanoseconds.seconds(30)

    init(now: Instant) { began = now }

    var deadline: Instant {
        let sign = watchdog == nil ? Instant(nanoseconds: .max) : watchdogAt
        return isReady ? sign : min(sign, checkAt)
    }

    /// A loop that turns is what the watchdog wants to see. `waitsFor` is asked until the node is ready: what it waits for,
    /// and whether that is the root.
    mutating func turned(_ now: Instant, waitsFor: () -> (text: String, isRoot: Bool)?) {
        if let watchdog, now >= watchdogAt {
            watchdogAt = now + watchdog
            ServiceManager.tell("WATCHDOG=1")
        }
        if isReady || now < checkAt { return }
        checkAt = now + ManagerReports.checkInterval
        let reason = waitsFor()
        if let reason, reason.isRoot || now < began + ManagerReports.leaderlessMax {
            if now < extendAt { return }
            extendAt = now + ManagerReports.extendInterval
            return ServiceManager.tell(ServiceManager.moreTime, "STATUS=waits: \(reason.text)")
        }
        isReady = true
        ServiceManager.tell("READY=1", "STATUS=\(reason?.text ?? "serves")")
    }

    mutating func stops() {
        isReady = true
        ServiceManager.tell("STOPPING=1", "STATUS=hands leadership over and drains connections")
    }
}
