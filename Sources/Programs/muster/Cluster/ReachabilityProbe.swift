import ClusterBase
import Reactor
import SecureChannel
import TLSSession

/// An address, and who is to be there.
struct ReachTarget {
    let what: String
    let address: Address
    /// Nil when the certificate that is shown there is the right one, else what it is instead.
    let objection: (Certificate) -> String?
}

/// Something that could not be connected to, and why.
struct Unreachable {
    let what: String
    let address: Address
    let reason: String
}

/// Tries whether addresses can be connected to and who answers there, all at once, and tells those where it is not who it
/// should be. Answers once. A handshake goes as far as the other side's certificate, and leaves nothing behind.
final class ReachabilityProbe {
    static let timeout = Nanoseconds.seconds(3)

    private let loop: EventLoop
    private let context: TLSContext?
    private let resolver: Resolver
    private var dialers: [Dialer] = []
    private var visits: [Visit] = []
    private var unanswered: Int
    private var failed: [Unreachable] = []
    private let done: ([Unreachable]) -> Void

    /// Without a context it is enough that something listens.
    init(
        _ loop: EventLoop, _ targets: [ReachTarget], _ context: TLSContext?, _ done: @escaping ([Unreachable]) -> Void
    ) {
        self.loop = loop
        self.context = context
        self.done = done
        resolver = Resolver(loop)
        unanswered = targets.count
        if targets.isEmpty { done([]) }
        for target in targets {
            resolver.resolve(target.address) { [self] outcome in
                switch outcome {
                case .failed(let reason): answered(target, reason)
                case .found(let places): dial(places[0], target)
                }
            }
        }
    }

    private func dial(_ place: SocketAddress, _ target: ReachTarget) {
        dialers.append(
            Dialer(loop, to: place, timeout: ReachabilityProbe.timeout) { [self] socket, error in
                dialed(socket, error, place, target)
            })
    }

    private func dialed(
        _ socket: consuming Socket?, _ error: SystemError?, _ place: SocketAddress, _ target: ReachTarget
    ) {
        guard let connected = socket.take() else {
            return answered(target, error?.description ?? "there is no connection")
        }
        guard let context else { return answered(target, nil) }
        let visit = Visit(target) { [self] reason in answered(target, reason) }
        do {
            try visit.begin(loop, connected, place, context)
            visits.append(visit)
        } catch {
            answered(target, "\(error)")
        }
    }

    private func answered(_ target: ReachTarget, _ reason: String?) {
        if let reason { failed.append(Unreachable(what: target.what, address: target.address, reason: reason)) }
        unanswered -= 1
        if unanswered == 0 { done(failed) }
    }

    /// Gives up what is under way; nothing is told any more.
    func close() {
        for dialer in dialers { dialer.cancel() }
        for visit in visits { visit.end() }
        dialers = []
        visits = []
        resolver.close()
    }

    /// One look at a certificate.
    private final class Visit: SecureConnectionDelegate {
        private let target: ReachTarget
        private var done: ((String?) -> Void)?
        private var channel: SecureConnection?

        init(_ target: ReachTarget, _ done: @escaping (String?) -> Void) {
            self.target = target
            self.done = done
        }

        func begin(
            _ loop: EventLoop, _ socket: consuming Socket, _ place: SocketAddress, _ context: TLSContext
        ) throws {
            var settings = SecureConnectionSettings()
            settings.handshakeTimeout = ReachabilityProbe.timeout
            channel = try SecureConnection(
                loop, socket, place, context: context, settings: settings, delegate: self)
        }

        func established(_ connection: SecureConnection) {
            let shown = connection.peerCertificate
            finish(
                shown.map { target.objection($0).map { "somebody else answers there: \($0)" } }
                    ?? "what answers there shows no certificate")
        }

        func received(_ connection: SecureConnection, _ bytes: [UInt8], from: Int, to: Int) -> Int { to - from }

        func closed(_ connection: SecureConnection, _ reason: CloseReason) {
            if case .insecure(let failure) = reason {
                return finish("somebody else answers there: \(failure.message)")
            }
            finish("something listens there and does not answer: \(reason)")
        }

        private func finish(_ reason: String?) {
            let done = self.done
            end()
            done?(reason)
        }

        func end() {
            done = nil
            channel?.abandon()
            channel = nil
        }
    }
}
