internal import AdminAPI
internal import AdminHTTP
internal import ClusterBase
internal import FleetModel
internal import Glibc
internal import GuardCore
internal import Reactor
internal import TLSSession

/// Renews the host's lease over connections of the guard's own, to any node's admin port, with the node's certificate.
///
/// The agent's grants are as good; while they come this only looks now and then whether its own way works. When they stay
/// away it asks one node after the other, and does not wait for one that is silent before it asks the next.
final class GuardRenewal {
    /// Without a grant for so long, it asks by itself: a little more than the agent's pace.
    static let patience = Nanoseconds.milliseconds(700)
    /// From one request to the next, to another node, while no answer has come.
    static let retry = Nanoseconds.milliseconds(250)
    /// A node that is silent for so long is asked again over another connection when its turn comes.
    static let answerMax = Nanoseconds.milliseconds(600)
    /// Requests without an answer.
    static let underWayMax = 4
    /// Between looks at whether its own way works.
    static let trial = Nanoseconds.seconds(10)
    static let nodesMax = 1_024

    private final class Node {
        let address: SocketAddress
        var client: AdminClient?
        var sentAt: Instant?
        init(_ address: SocketAddress) { self.address = address }
    }

    private let loop: EventLoop
    private let path: String
    private let log: (String) -> Void
    private let onGrant: (LeaseGrant) -> Void
    private var nodes: [Node] = []
    /// The one that is asked next.
    private var turn = 0
    private var askedAt = Instant.origin
    private var wantsWhole = false
    private(set) var succeededAt: Instant?
    private var triedAt = Instant.origin
    private var complaint: String?
    private var host: HostID?
    private var context: TLSContext?
    private var contextAt = Instant.origin

    /// `path` is the node's directory, with its key and certificate.
    init(
        _ loop: EventLoop, path: String, log: @escaping (String) -> Void, onGrant: @escaping (LeaseGrant) -> Void
    ) {
        self.loop = loop
        self.path = path
        self.log = log
        self.onGrant = onGrant
    }

    /// Where it can ask, best first.
    func setNodes(_ addresses: [SocketAddress]) {
        let wanted = Array(addresses.prefix(GuardRenewal.nodesMax))
        if wanted == nodes.map(\.address) { return }
        for node in nodes where !wanted.contains(node.address) { node.client?.close() }
        nodes = wanted.map { address in nodes.first { $0.address == address } ?? Node(address) }
        turn = 0
    }

    func wantWhole() { wantsWhole = true }

    // MARK: Time

    func deadline(newestSentAt: Instant?, isNeeded: Bool) -> Instant? {
        guard !nodes.isEmpty, isNeeded else { return nil }
        let pause = askedAt + GuardRenewal.retry
        if wantsWhole { return pause }
        return max(pause, min((newestSentAt ?? .origin) + GuardRenewal.patience, triedAt + GuardRenewal.trial))
    }

    func tend(_ now: Instant, newestSentAt: Instant?, digest: UInt64, isNeeded: Bool) {
        guard let due = deadline(newestSentAt: newestSentAt, isNeeded: isNeeded), now >= due else { return }
        for node in nodes where node.sentAt.map({ now - $0 > GuardRenewal.answerMax }) ?? false { give(up: node) }
        guard nodes.count(where: { $0.sentAt != nil }) < GuardRenewal.underWayMax else { return }
        for _ in nodes.indices {
            let node = nodes[turn % nodes.count]
            if node.sentAt == nil { return ask(node, now, digest) }
            turn += 1
        }
    }

    private func give(up node: Node) {
        node.client?.close()
        node.client = nil
        node.sentAt = nil
    }

    private func ask(_ node: Node, _ now: Instant, _ digest: UInt64) {
        askedAt = now
        triedAt = now
        do throws(GuardFailure) {
            let (context, host) = try identity(now)
            let client = node.client ?? make(node, context)
            node.client = client
            // Before anything is sent: the lease counts from here.
            node.sentAt = SystemClock.now
            // The node after it is next, unless this one answers.
            turn += 1
            client.send(
                AdminCall(.fleet(.renewLease(LeaseWish(host: host, digest: wantsWhole ? nil : digest)))))
        } catch {
            complain("\(error)")
        }
    }

    private func make(_ node: Node, _ context: TLSContext) -> AdminClient {
        var settings = AdminClientSettings()
        settings.connectTimeout = GuardRenewal.answerMax
        settings.answerTimeout = GuardRenewal.answerMax
        settings.bodyBytesMax = 1 << 20
        return AdminClient(
            loop, to: node.address, host: "\(node.address)", serverName: nil, context: context, settings: settings
        ) { [weak self, weak node] client, event in
            guard let self, let node, node.client === client else { return }
            self.heard(node, event)
        }
    }

    private func heard(_ node: Node, _ event: AdminClient.Event) {
        guard let sentAt = node.sentAt else { return }
        node.sentAt = nil
        switch event {
        case .answer(let answer):
            if let problem = answer.problem { return complain("\(node.address): \(problem.detail)") }
            do throws(Problem) {
                let info = try LeaseInfo(body: answer.body[...])
                take(info, sentAt, node)
            } catch {
                complain("\(node.address): \(error.detail)")
            }
        case .failed(let failure): complain(failure.description)
        case .streamBegan, .piece, .streamEnded: complain("\(node.address) answers with a stream")
        }
    }

    private func take(_ info: LeaseInfo, _ sentAt: Instant, _ node: Node) {
        if let complaint { log("the lease can be renewed again, by \(node.address), after: \(complaint)") }
        if succeededAt == nil { log("the guard's own way to renew the lease works, by \(node.address)") }
        complaint = nil
        succeededAt = loop.now
        if info.permits != nil { wantsWhole = false }
        // It knows the way to the leader.
        if let at = nodes.firstIndex(where: { $0 === node }) { turn = at }
        onGrant(
            LeaseGrant(
                sentAt: sentAt, length: .milliseconds(Int64(clamping: min(info.lengthMilliseconds, 1 << 32))),
                generation: LogIndex(info.generation), permits: info.permits, digest: info.digest))
    }

    private func complain(_ text: String) {
        if complaint == nil { log("the lease could not be renewed: \(text)") }
        complaint = text
    }

    // MARK: Who it is

    /// Read anew every half a minute: certificates are renewed by the agent.
    private func identity(_ now: Instant) throws(GuardFailure) -> (TLSContext, HostID) {
        if let context, let host, now - contextAt < .seconds(30) { return (context, host) }
        do throws(TLSFailure) {
            let identity = try TLSIdentity(chain: text("node.pem"), key: text("node.key"))
            let trust = try Certificate.list(pem: text("authorities.pem"))
            guard case .node(_, let node)? = identity.chain.first?.identity else {
                throw TLSFailure(.malformed, "\(path)/node.pem is no node's certificate")
            }
            let made = try TLSContext(
                side: .client, identity: identity, trust: .authorities(trust), protocols: AdminSettings.protocols)
            for node in nodes where node.sentAt == nil { give(up: node) }
            context = made
            host = HostID(node.rawValue)
            contextAt = now
            return (made, HostID(node.rawValue))
        } catch {
            throw GuardFailure("The node's certificate in \(path) can't be used: \(error.message).")
        }
    }

    private func text(_ name: String) throws(TLSFailure) -> String {
        let file = open("\(path)/\(name)", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw TLSFailure(.malformed, "\(name): \(String(cString: strerror(errno)))") }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 17)
        let count = read(file, &bytes, bytes.count)
        guard count > 0 else { throw TLSFailure(.malformed, "\(name) is empty") }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}
