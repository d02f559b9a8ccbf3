import AdminAPI
import AdminHTTP
import AgentConfig
import ClusterBase
import PeerTransport
import RaftCore
import Reactor
import SecureChannel
import TLSSession

/// Whether a cluster would take this host, and whether both reach each other, before anything is changed.
///
///     every member that the token names ── check ─▶ judges, dials this host's two addresses, looks whose key answers
///     this host ── dials the members' addresses for peers, looks whose certificate answers
///
/// As long as it lives this host answers where its agent will, with a certificate over the key that it wants to join with.
/// An authority made for the moment signs it; members are told its fingerprint beside the token's secret.
final class JoinCheck: SecureConnectionDelegate {
    private let loop: EventLoop
    private let context: TLSContext
    private let authority: CertificateAuthority
    private var listeners: [Listener] = []
    private var visitors: [SecureConnection] = []

    /// Connections held at a time; more end at once.
    private static let visitorsMax = 64
    private static let lifetimeSeconds: Int64 = 3_600
    private static let answerTimeout = Nanoseconds.seconds(10)

    /// Listens at once: a host that can't listen must not become a member.
    init(_ settings: AgentSettings, _ key: PrivateKey, _ request: CertificateRequest) throws {
        loop = try EventLoop()
        let now = SystemClock.wallNanoseconds / 1_000_000_000
        authority = try CertificateAuthority.make(
            cluster: "join", now: now, lifetimeSeconds: JoinCheck.lifetimeSeconds)
        let certificate = try authority.issue(
            request, identity: .node(cluster: "join", node: NodeID(1)), now: now,
            lifetimeSeconds: JoinCheck.lifetimeSeconds)
        context = try TLSContext(
            side: .server, identity: TLSIdentity(chain: [certificate, authority.certificate], key: key),
            trust: .authorities([]), clientCertificate: .notAsked)
        for (endpoint, whom) in [(settings.peerListen, "peers"), (settings.adminListen, "the admin port")] {
            listeners.append(
                try Agent.listen(endpoint, for: whom) { address throws(SystemError) in
                    try Listener(loop, on: address) { [unowned self] socket, from in answer(socket, from) }
                })
        }
    }

    func close() {
        for listener in listeners { listener.close() }
        for visitor in visitors { visitor.abandon() }
        listeners = []
        visitors = []
        loop.removeMailboxes()
    }

    private func answer(_ socket: consuming Socket, _ from: SocketAddress) {
        guard visitors.count < JoinCheck.visitorsMax else { return }
        // Whoever looks sees that it broke off.
        if let made = try? SecureConnection(
            loop, socket, from, context: context, settings: SecureConnectionSettings(), delegate: self)
        {
            visitors.append(made)
        }
    }

    func established(_ connection: SecureConnection) {}
    func received(_ connection: SecureConnection, _ bytes: [UInt8], from: Int, to: Int) -> Int { to - from }
    func closed(_ connection: SecureConnection, _ reason: CloseReason) { visitors.removeAll { $0 === connection } }

    // MARK: The members' side

    /// Asks all members that are named, at once. Every one that answers must agree. Gives what they said.
    func ask(_ wanted: JoinRequest, at addresses: [Address], _ context: TLSContext) throws -> [JoinAnswer] {
        var wanted = wanted
        wanted.probe = authority.certificate.fingerprint.description
        var outcomes = askAll(wanted, addresses, context)
        if outcomes.contains(where: { (try? $0.get())?.problem?.field == "probe" }) {  // Who did not answer has none.
            // A member's program is older, and only looks whether something listens.
            wanted.probe = ""
            outcomes = askAll(wanted, addresses, context)
        }
        var agreed: [JoinAnswer] = []
        var undecided: Problem?
        var failure: (any Error)?
        for outcome in outcomes {
            do {
                let answer = try outcome.get()
                guard let problem = answer.problem else {
                    agreed.append(try JoinAnswer(body: answer.body[...]))
                    continue
                }
                // It may know nothing just now; then the others' word counts.
                if problem.kind.isWorthRetrying {
                    undecided = problem
                } else {
                    throw AgentFailure("The cluster said no: \(problem.detail).", isFinal: true)
                }
            } catch let error as AdminClientFailure {
                failure = error
            }
        }
        if agreed.isEmpty {
            if let undecided { throw AgentFailure("The cluster said no: \(undecided.detail).") }
            if let refused = failure as? AdminClientFailure, refused.isUntrusted {
                throw AgentFailure(
                    "\(refused) The token is good for the authority that signed when it was made: if that was rotated since, create "
                        + "a new token with `muster token create`; if it was not, this is another cluster.",
                    isFinal: true)
            }
            throw failure ?? AgentFailure("The token names no address; copy it again.")
        }
        return agreed
    }

    private func askAll(
        _ wanted: JoinRequest, _ addresses: [Address], _ context: TLSContext
    ) -> [Result<AdminAnswer, AdminClientFailure>] {
        var settings = AdminClientSettings()
        settings.connectTimeout = ReachabilityProbe.timeout
        settings.answerTimeout = JoinCheck.answerTimeout
        let resolver = Resolver(loop)
        var clients: [AdminClient] = []
        var outcomes = [Result<AdminAnswer, AdminClientFailure>?](repeating: nil, count: addresses.count)
        func fail(_ i: Int, _ sentence: String) {
            outcomes[i] = .failure(AdminClientFailure(description: sentence, mayHaveHappened: false))
        }
        for (i, address) in addresses.enumerated() {
            resolver.resolve(address) { [loop] found in
                guard case .found(let places) = found else {
                    if case .failed(let sentence) = found { fail(i, sentence) }
                    return
                }
                let client = AdminClient(
                    loop, to: places[0], host: address.description, serverName: address.host, context: context,
                    settings: settings
                ) { _, event in
                    switch event {
                    case .answer(let answer), .streamBegan(let answer): outcomes[i] = .success(answer)
                    case .failed(let failure): outcomes[i] = .failure(failure)
                    case .piece, .streamEnded: break
                    }
                }
                clients.append(client)
                client.send(AdminCall(.join(wanted)))
            }
        }
        _ = loop.run(atMost: settings.connectTimeout + settings.answerTimeout + .seconds(1)) {
            outcomes.allSatisfy { $0 != nil }
        }
        for client in clients { client.close() }
        resolver.close()
        return zip(outcomes, addresses).map { outcome, address in
            outcome
                ?? .failure(
                    AdminClientFailure(description: "\(address) did not answer in time", mayHaveHappened: false))
        }
    }

    // MARK: This side

    /// Looks who answers at the members' addresses for peers.
    func reach(_ answers: [JoinAnswer]) throws {
        var targets: [ReachTarget] = []
        var authorities: [Certificate] = []
        for answer in answers {
            if authorities.isEmpty { authorities = try answer.authorities.map { try Certificate(pem: $0) } }
            for line in answer.peers {
                let words = line.split(separator: " ")
                guard words.count == 2, let number = UInt64(words[0]),
                    let address = try? Address(parsing: String(words[1]))  // One that can't be read is not dialled.
                else { continue }
                if targets.contains(where: { $0.what == "node \(number)" }) { continue }
                let expected = CertificateIdentity.node(cluster: answer.cluster, node: NodeID(number))
                targets.append(
                    ReachTarget(what: "node \(number)", address: address) { shown in
                        shown.identity == expected
                            ? nil : "its certificate names \(shown.uris.joined(separator: " and "))"
                    })
            }
        }
        let context = try TLSContext(
            side: .client, identity: nil, trust: .authorities(authorities), protocols: [PeerNetwork.protocolName])
        var found: [Unreachable]?
        let probe = ReachabilityProbe(loop, targets, context) { found = $0 }
        _ = loop.run(atMost: ReachabilityProbe.timeout * 2 + .seconds(1)) { found != nil }
        probe.close()
        if let first = found?.first {
            throw AgentFailure(
                "This host can't connect to \(first.what) at \(first.address): \(first.reason). Open that port between the "
                    + "hosts, or correct what that node advertises; nothing was changed.")
        }
    }
}
