internal import AdminAPI
internal import ClusterBase

/// What one client may still ask, on all its connections together: a bucket that fills with time. Belongs to the loop's thread.
final class ClientBudget {
    /// Connections that use it.
    var users = 0
    private let perSecond: Double
    private var tokens: Double
    private var at: Instant

    init(perSecond: Int, now: Instant) {
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

    /// Nothing is owed: a new one would be the same.
    func isFull(_ now: Instant) -> Bool { now - at >= .seconds(1) }
}

/// The budgets of clients that are known by name. Those of strangers are by address, and live as long as a connection does.
struct ClientBudgets {
    private let most: Int
    private let perSecond: Int
    // hash order: looked up, and filtered
    private var known: [Principal: ClientBudget] = [:]

    init(_ settings: AdminSettings) { (most, perSecond) = (settings.clientsMax, settings.requestRateMax) }

    var count: Int { known.count }

    mutating func take(_ client: Principal, _ now: Instant) -> Bool {
        if let budget = known[client] { return budget.take(now) }
        if known.count >= most { known = known.filter { !$0.value.isFull(now) } }
        // As many as that ask within one second: each has what is left of its second, and the oldest is nobody's to choose.
        if known.count >= most { known = [:] }
        let made = ClientBudget(perSecond: perSecond, now: now)
        known[client] = made
        return made.take(now)
    }
}
