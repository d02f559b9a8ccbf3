import AdminAPI
import AdminHTTP
import AgentConfig
import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import PeerTransport
import RaftCore
import Reactor
import TLSSession

// New hosts: what is judged before they may join, and their first certificate.

extension AdminPort {
    /// A new host proves itself with a token's secret. Registers it, has its key's certificate signed, and tells it
    /// where the others are. Repeated with the same key it gives the same node.
    func join(_ wanted: JoinRequest, _ ticket: Ticket) {
        if wanted.isRenewal { return renew(wanted, ticket) }
        guard let secret = [UInt8](hexadecimal: wanted.secret) else {
            return fail(ticket, .malformed, "the secret is no hexadecimal number; use the token as it was printed")
        }
        guard let (request, key) = proof(wanted, ticket) else { return }
        let hash = Crypto.sha256(secret)
        let about = NodeDescription(
            name: wanted.name, locality: Locality(region: wanted.region, zone: wanted.zone, rack: wanted.rack),
            peerAddress: wanted.address, adminAddress: wanted.adminAddress, key: key, programVersion: wanted.version,
            level: UInt32(clamping: wanted.level))
        if wanted.isCheck { return checkJoin(about, hash, clock: wanted.clock, probe: wanted.probe, ticket) }
        // A stranger gets nothing written: only who has a token is put before the root.
        agent.request(.query(.root, .root(.token(hash: hash)))) { [self] outcome in
            guard case .read(.root(let read)) = outcome else { return answer(ticket, AdminResponse(Problem(outcome))) }
            guard let known = read.records(FleetModel.JoinToken.self)?.first, !known.isRevoked else {
                return fail(ticket, .unauthenticated, AdminPort.tokenUnknown)
            }
            join(about, known, request, ticket)
        }
    }

    private static let tokenUnknown =
        "the token is unknown or revoked; create one with `muster token create`"

    private func join(
        _ about: NodeDescription, _ token: FleetModel.JoinToken, _ request: CertificateRequest, _ ticket: Ticket
    ) {
        // For the audit, which names the token as it is listed.
        let by = "join token \(RootEvent.tokenName(token.hash))"
        let from = server.clientAddress(ticket)
        agent.change(.joinNode(token: token.hash, about), by: from.isEmpty ? by : "\(by) from \(from)") {
            [self] result in
            switch result {
            case .failure(let problem): answer(ticket, AdminResponse(problem))
            case .success(let joined):
                guard case .node(let node) = joined.outcome else {
                    return fail(ticket, .internal, "the root did not say which node this is; try again")
                }
                agent.obtainCertificate(request, for: node) { [self] made in
                    switch made {
                    case .failure(let failure): fail(ticket, .unavailable, failure.description)
                    case .success(let certificate): answerJoin(node, certificate, ticket)
                    }
                }
            }
        }
    }

    /// The request for a certificate, which its own key has signed, and that key's hash; nil when the answer is given.
    private func proof(_ wanted: JoinRequest, _ ticket: Ticket) -> (CertificateRequest, [UInt8])? {
        do throws(TLSFailure) {
            let request = try CertificateRequest(der: wanted.certificateRequest)
            return (request, try request.keyHash())
        } catch {
            fail(ticket, .malformed, error.message)
            return nil
        }
    }

    /// A member that was away past the end of its certificate: its registered key is the proof.
    private func renew(_ wanted: JoinRequest, _ ticket: Ticket) {
        guard let (request, key) = proof(wanted, ticket) else { return }
        guard let known = agent.view.nodes.first(where: { $0.about.key == key && $0.state != .removed }) else {
            return fail(
                ticket, .unauthenticated,
                "this key is no member's: a node that was removed joins again with an empty data directory and a token")
        }
        agent.obtainCertificate(request, for: known.id) { [self] made in
            switch made {
            case .failure(let failure): fail(ticket, .unavailable, failure.description)
            case .success(let certificate): answerJoin(known.id, certificate, ticket)
            }
        }
    }

    /// What would stand in the way, without changing anything.
    private func checkJoin(
        _ about: NodeDescription, _ token: [UInt8], clock: Int64, probe: String, _ ticket: Ticket
    ) {
        if let open = agent.view.cluster?.level, about.level < open {
            return fail(ticket, .notPossible, RootRefusal.levelTooLow(needed: open).description)
        }
        agent.request(.query(.root, .root(.token(hash: token)))) { [self] outcome in
            guard case .read(.root(let read)) = outcome else { return answer(ticket, AdminResponse(Problem(outcome))) }
            // Who had the name may have been removed a moment ago, by another node's doing.
            agent.awaitView(read.index) { [self] problem in
                if let problem { return answer(ticket, AdminResponse(problem)) }
                if let problem = objection(to: about, read, clock: clock) {
                    return answer(ticket, AdminResponse(problem))
                }
                checkReach(about, probe, ticket)
            }
        }
    }

    private func objection(to about: NodeDescription, _ read: RootAnswer, clock: Int64) -> Problem? {
        let known = read.records(FleetModel.JoinToken.self)?.first
        let other = agent.view.node(named: about.name)
        let isAgain = other?.about.key == about.key
        guard let known, !known.isRevoked else { return Problem(.unauthenticated, AdminPort.tokenUnknown) }
        if let refusal = RootCheck.refusal(of: about) { return Problem(refusal) }
        guard isAgain || (known.usesLeft > 0 && known.expiresAt > read.time) else {
            return Problem(
                .unauthenticated, "the token has expired or is used up; create one with `muster token create`")
        }
        if let other, !isAgain, other.state == .active { return Problem(RootRefusal.nameTaken(about.name)) }
        let ahead = clock - Int64(clamping: agent.wallTime.rawValue)
        if clock != 0, ahead.magnitude > AdminPort.clockSkewMax {
            return Problem(
                .notPossible,
                "the joining host's clock is \(ahead.magnitude / 1_000) s \(ahead > 0 ? "ahead of" : "behind") the "
                    + "cluster's; set it, best by NTP, and join again")
        }
        return nil
    }

    /// Milliseconds. Certificates begin five minutes early, and what people read off two hosts should still agree.
    private static let clockSkewMax: UInt64 = 30_000

    /// Whoever joins answers there while this is checked, with a certificate over the key that it joins with. Only for those
    /// whose token is good: it connects to where they say.
    private func checkReach(_ about: NodeDescription, _ probe: String, _ ticket: Ticket) {
        var targets: [ReachTarget] = []
        for (flag, text) in [("peer", about.peerAddress), ("admin", about.adminAddress)] {
            // What is wrong with it is said by the whole of it.
            guard let address = try? Address(parsing: text) else {
                return fail(ticket, .malformed, "'\(text)' is no address; name one with --\(flag)-advertise")
            }
            targets.append(
                ReachTarget(what: flag, address: address) { shown in
                    // A certificate that was shown has a key.
                    (try? shown.keyHash()) == about.key ? nil : "it shows a certificate over another key"
                })
        }
        var context: TLSContext?
        if !probe.isEmpty {
            guard let fingerprint = Fingerprint(probe) else {
                return answer(ticket, AdminResponse(Problem(.malformed, "that is no fingerprint", field: "probe")))
            }
            do throws(TLSFailure) {
                context = try TLSContext(side: .client, identity: nil, trust: .pinnedAuthority(fingerprint))
            } catch {
                return fail(ticket, .internal, error.message)
            }
        }
        var looking: ReachabilityProbe?
        looking = ReachabilityProbe(agent.loop, targets, context) { [self] failed in
            looking?.close()
            looking = nil
            if let first = failed.first {
                return fail(
                    ticket, .notPossible,
                    "node \(agent.settings.nodeName) can't connect to the joining host at \(first.address): \(first.reason); "
                        + "open that port, or name another address with --\(first.what)-advertise")
            }
            answerJoin(NodeID(0), nil, ticket)
        }
    }

    /// Who is told of nodes before it is one is told of those that can be reached now.
    private func answerJoin(_ node: NodeID, _ certificate: Certificate?, _ ticket: Ticket) {
        let isCheck = certificate == nil
        var peers = agent.view.nodes.filter { $0.state != .removed && $0.id != node }
            .filter { !isCheck || agent.isHeard($0.id) }
            .map { "\($0.id) \($0.about.peerAddress)" }
        if peers.count > 64 { peers.removeSubrange(64...) }
        answer(
            ticket,
            AdminResponse(
                JoinAnswer(
                    cluster: cluster, node: node.rawValue, certificate: certificate?.der ?? [],
                    authorities: agent.authorities.map(\.pem), peers: peers)))
    }
}
