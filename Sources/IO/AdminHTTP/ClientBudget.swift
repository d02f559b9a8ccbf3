internal import ClusterBase

/// What one client's address may still ask, on all its connections together: a bucket that fills with time. Belongs to the
/// loop's thread.
final class ClientBudget {
    let address: String
    /// Connections that use it.
    var users = 0
    private let perSecond: Double
    private var tokens: Double
    private var at: Instant

    init(_ address: String, perSecond: Int, now: Instant) {
        self.address = address
        self.perSecond = Double(perSecond)
        tokens = Double(perSecond)
        at = now
    }

    /// False when too much was asked lately.
    func take(_ now: Instant) -> Bool {
        if tokens < 1 || now - at > .milliseconds(100) {
            tokens = min(perSecond, tokens + Double((now - at).count) * perSecond / 1e9)
            at = now
        }
        if tokens < 1 { return false }
        tokens -= 1
        return true
    }
}
