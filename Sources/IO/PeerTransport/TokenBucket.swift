internal import ClusterBase

/// Lets bytes through at a rate, with a burst of a twentieth of a second.
struct TokenBucket {
    let bytesPerSecond: Int
    private let burst: Int
    private var tokens: Int
    private var filledAt: Instant

    /// The smallest burst: a piece of the usual size.
    static let burstMin = 1 << 18
    /// A second of it, in nanoseconds times bytes, still is an Int.
    static let bytesPerSecondMax = 8_000_000_000

    init(bytesPerSecond: Int, now: Instant) {
        precondition(
            bytesPerSecond > 0 && bytesPerSecond <= TokenBucket.bytesPerSecondMax,
            "a rate of \(bytesPerSecond) bytes per second is not between 1 and \(TokenBucket.bytesPerSecondMax)")
        self.bytesPerSecond = bytesPerSecond
        burst = max(bytesPerSecond / 20, TokenBucket.burstMin)
        tokens = burst
        filledAt = now
    }

    mutating func fill(_ now: Instant) {
        let passed = min((now - filledAt).count, 1_000_000_000)
        let gained = Int(passed) * bytesPerSecond / 1_000_000_000
        guard gained > 0 else { return }
        filledAt = now
        tokens = min(burst, tokens + gained)
    }

    /// True while anything may pass; what passes may leave a debt.
    var isOpen: Bool { tokens > 0 }

    mutating func take(_ bytes: Int) { tokens -= bytes }

    /// When it is open again.
    var opensAt: Instant {
        tokens > 0 ? filledAt : filledAt + Nanoseconds(Int64(1 - tokens) * 1_000_000_000 / Int64(bytesPerSecond) + 1)
    }
}
