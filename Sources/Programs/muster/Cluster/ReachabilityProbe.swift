import ClusterBase
import Reactor

/// Something that could not be connected to, and why.
struct Unreachable {
    let what: String
    let address: Address
    let reason: String
}

/// Tries whether addresses can be connected to, all at once, and tells those that can't. Answers once.
final class ReachabilityProbe {
    static let timeout = Nanoseconds.seconds(3)

    private let loop: EventLoop
    private let resolver: Resolver
    private var dialers: [Dialer] = []
    private var unanswered: Int
    private var failed: [Unreachable] = []
    private let done: ([Unreachable]) -> Void

    init(_ loop: EventLoop, _ targets: [(what: String, address: Address)], _ done: @escaping ([Unreachable]) -> Void) {
        self.loop = loop
        self.done = done
        resolver = Resolver(loop)
        unanswered = targets.count
        if targets.isEmpty { done([]) }
        for (what, address) in targets {
            resolver.resolve(address) { [self] outcome in
                switch outcome {
                case .failed(let reason): answered(Unreachable(what: what, address: address, reason: reason))
                case .found(let places): dial(places[0], what, address)
                }
            }
        }
    }

    private func dial(_ place: SocketAddress, _ what: String, _ address: Address) {
        dialers.append(
            Dialer(loop, to: place, timeout: ReachabilityProbe.timeout) { [self] _, error in
                answered(error.map { Unreachable(what: what, address: address, reason: $0.description) })
            })
    }

    private func answered(_ failure: Unreachable?) {
        if let failure { failed.append(failure) }
        unanswered -= 1
        if unanswered == 0 { done(failed) }
    }

    /// Gives up what is under way; nothing is told any more.
    func close() {
        for dialer in dialers { dialer.cancel() }
        dialers = []
        resolver.close()
    }
}
