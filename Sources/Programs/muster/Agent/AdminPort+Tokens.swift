import AdminAPI
import AdminHTTP
import AgentConfig
import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import TLSSession

// Tokens: for hosts that want to join, and for programs that ask.

extension AdminPort {
    func listTokens(_ ticket: Ticket) {
        agent.request(.query(.root, .root(.all(.tokens)))) { [self] outcome in
            guard case .read(.root(let read)) = outcome, let tokens = read.records(FleetModel.JoinToken.self) else {
                return answer(ticket, AdminResponse(Problem(outcome)))
            }
            var items = tokens.map { token in
                TokenInfo(
                    id: Fingerprints.short(token.hash), kind: "join", role: "",
                    usesLeft: token.isRevoked ? 0 : Int64(token.usesLeft),
                    expires: Int64(token.expiresAt.rawValue / 1_000), note: token.isRevoked ? "revoked" : token.note)
            }
            items += agent.view.operators.filter { $0.kind == .bearer }.map { known in
                TokenInfo(
                    id: known.name, kind: "api", role: AdminPort.role(of: known).text, usesLeft: -1,
                    expires: known.expiresAt.map { Int64($0.rawValue / 1_000) } ?? 0, note: "")
            }
            answer(ticket, AdminResponse(json: Listing(items).json, index: read.index))
        }
    }

    func createToken(_ wanted: TokenCreation, _ asker: Asker) {
        let secret: [UInt8]
        do throws(TLSFailure) {
            secret = try self.secret(of: wanted, asker)
        } catch {
            return fail(asker.ticket, .internal, error.message)
        }
        wanted.kind == .join ? createJoinToken(wanted, secret, asker) : createBearer(wanted, secret, asker)
    }

    /// Nobody can guess it. The same request under the same Idempotency-Key has the same one at every node that holds the
    /// authority's key, and at one that does not the same as there before: a token whose answer was lost can be had again,
    /// though nobody keeps its secret.
    private func secret(of wanted: TokenCreation, _ asker: Asker) throws(TLSFailure) -> [UInt8] {
        guard let request = asker.request else { return Crypto.randomBytes(32) }
        let key = try (agent.authority?.key ?? agent.identity.key).pem()
        let wish = [
            wanted.kind.rawValue, wanted.role?.text ?? "", "\(wanted.uses ?? 0)", "\(wanted.ttlSeconds ?? 0)",
            wanted.note ?? "",
        ]
        let about = ([asker.principal] + wish).joined(separator: "\n")
        return Crypto.hkdf(
            secret: Array(key.utf8), salt: request, info: Array("muster token\n\(about)".utf8), count: 32)
    }

    private func createJoinToken(_ wanted: TokenCreation, _ secret: [UInt8], _ asker: Asker) {
        guard let signer = agent.view.authorities.first(where: { $0.signs }) else {
            return fail(asker.ticket, .unavailable, "this node does not know the cluster's authority yet; ask again")
        }
        let hash = Crypto.sha256(secret)
        func tell(_ expires: LogTime, _ index: LogIndex) {
            let token = AgentConfig.JoinToken(
                addresses: agent.adminAddresses, secret: secret, fingerprint: signer.fingerprint)
            let made = CreatedToken(
                id: Fingerprints.short(hash), token: token.text, expires: Int64(expires.rawValue / 1_000))
            answer(asker.ticket, AdminResponse(json: made.json, status: 201, index: index))
        }
        let seconds = wanted.ttlSeconds.map { UInt64(clamping: $0) }
        let lifetime = (seconds ?? agent.view.settings[.tokenLifetime] / 1_000) * 1_000
        let operation = RootCommand.Operation.createToken(
            hash: hash, note: wanted.note ?? "", lifetime: lifetime, uses: UInt32(clamping: wanted.uses ?? 0))
        agent.change(operation, request: asker.request, by: asker.name) { [self] result in
            switch result {
            case .success: withToken(hash, asker) { tell($0?.expiresAt ?? .zero, $1) }
            // Asked for before with other defaults in force: it is what it was then.
            case .failure(let problem) where asker.request != nil && AdminPort.mayBeThere(problem):
                withToken(hash, asker) { [self] known, index in
                    known.map { tell($0.expiresAt, index) } ?? answer(asker.ticket, AdminResponse(AdminPort.keyUsed))
                }
            case .failure(let problem): answer(asker.ticket, AdminResponse(problem))
            }
        }
    }

    private func withToken(
        _ hash: [UInt8], _ asker: Asker, _ body: @escaping (FleetModel.JoinToken?, LogIndex) -> Void
    ) {
        agent.request(.query(.root, .root(.token(hash: hash)))) { [self] outcome in
            guard case .read(.root(let read)) = outcome else {
                return answer(asker.ticket, AdminResponse(Problem(outcome)))
            }
            body(read.records(FleetModel.JoinToken.self)?.first, read.index)
        }
    }

    private func createBearer(_ wanted: TokenCreation, _ secret: [UInt8], _ asker: Asker) {
        let text = "mst_" + secret.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        guard let (role, scope) = wanted.role.flatMap(AdminPort.kept) else {
            return fail(asker.ticket, .malformed, "an API token needs a role; name one")
        }
        let hash = Crypto.sha256(Array(text.utf8))
        let name = "token-" + Fingerprints.short(hash)
        func tell(_ expires: LogTime?) {
            let ends = expires.map { Int64($0.rawValue / 1_000) } ?? 0
            let made = CreatedToken(id: name, token: text, expires: ends)
            answer(asker.ticket, ofRoot(AdminResponse(made, status: 201)))
        }
        let seconds = wanted.ttlSeconds.map { UInt64(clamping: $0) }
        let expires = seconds.map { agent.wallTime.advanced(by: $0 * 1_000) }
        let made = Operator(name: name, role: role, scope: scope, kind: .bearer, credential: hash, expiresAt: expires)
        agent.change(.addOperator(made), request: asker.request, by: asker.name) { [self] result in
            switch result {
            // Whoever uses it at once is known here; where this node does not hear the root, it was made all the same.
            case .success(let done): agent.awaitView(done.revision.index) { _ in tell(expires) }
            // The same command but for the time when it ends, if it was asked for before.
            case .failure(let problem) where asker.request != nil && AdminPort.mayBeThere(problem):
                agent.refreshView { [self] unheard in
                    if let unheard { return answer(asker.ticket, AdminResponse(unheard)) }
                    let known = agent.view.operators.first { $0.kind == .bearer && $0.credential == hash }
                    known.map { tell($0.expiresAt) } ?? answer(asker.ticket, AdminResponse(AdminPort.keyUsed))
                }
            case .failure(let problem): answer(asker.ticket, AdminResponse(problem))
            }
        }
    }

    /// The key was used for another command, or for this one so long ago that nobody knows it any more.
    private static func mayBeThere(_ problem: Problem) -> Bool {
        problem.kind == .retryUnknown || problem.kind == .alreadyExists
    }

    private static let keyUsed = Problem(
        .retryUnknown,
        "this Idempotency-Key was used before, for another request, or at a node with another key to make secrets with; see "
            + "`muster token list` for what it made, revoke that if its secret is lost, and send a new key")

    func revokeToken(_ id: String, _ asker: Asker) {
        if agent.view.operators.contains(where: { $0.name == id }) {
            return change(.removeOperator(name: id), asker, "the token \(id) is revoked")
        }
        agent.request(.query(.root, .root(.all(.tokens)))) { [self] outcome in
            guard case .read(.root(let read)) = outcome, let tokens = read.records(FleetModel.JoinToken.self) else {
                return answer(asker.ticket, AdminResponse(Problem(outcome)))
            }
            guard let token = tokens.first(where: { Fingerprints.short($0.hash) == id }) else {
                return fail(asker.ticket, .notFound, "there is no token \(id); see `muster token list`")
            }
            change(.revokeToken(hash: token.hash), asker, "the token \(id) is revoked")
        }
    }
}
