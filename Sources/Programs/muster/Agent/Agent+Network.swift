import AdminAPI
import BinaryCoding
import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import PeerTransport
import RaftCore
import Reactor
import Schema
import TLSSession

// The other nodes: who may speak, what they send, and what nodes ask each other beside Raft.

extension Agent: PeerNetworkDelegate {
    func received(_ frame: PeerFrame) { engine.handle(.frame(frame), now: loop.now) }
    func linkUp(_ node: NodeID, _ facts: LinkFacts) {
        expelledBy.remove(node)
        engine.handle(.linkUp(node), now: loop.now)
    }
    func linkBroken(_ node: NodeID, _ how: LinkBreak) { engine.handle(.linkBroken(node, how), now: loop.now) }

    func answered(_ request: RequestID, _ outcome: RequestOutcome) {
        controlPending.removeValue(forKey: request.number)?(outcome)
    }

    func noted(_ note: PeerNote) {
        switch note {
        case .linkUp, .linkEnded, .heardAgain: log.info("\(note)")
        case .notReachable, .silent, .refused, .refusedByPeer, .garbage: log.warning("\(note)")
        case .expelled(let peer, let how, let why): expelled(peer, how, why)
        }
    }

    /// One node alone may remember wrongly; what several say, each from its own memory, is so.
    private func expelled(_ peer: NodeID, _ how: Expulsion, _ why: String) {
        let isNew = expelledBy.insert(peer).inserted
        let others =
            view.through == nil
            ? files.peers().count : view.nodes.count { $0.state != .removed && $0.id != node }
        let isSure = expelledBy.count >= min(Agent.expellersMax, others / 2 + 1)
        if isNew {
            log.error(
                "another node says that this process must not go on"
                    + (isSure ? ": the agent ends" : "; it ends when enough others say so, too"),
                ["node": "\(peer)", "why": why])
        }
        if isSure { stop(how == .removed ? .removed : .copied) }
    }

    /// A member as the root knows it. Before this process has heard the root, as its last one knew it; a node that never heard
    /// the root takes whoever shows a certificate of the cluster's authority.
    func judge(_ peer: NodeID, _ certificate: Certificate) -> Judgement {
        guard view.through != nil else {
            guard let known = knownBefore, peer <= known.highest, !known.nodes.contains(peer) else { return .accept }
            return .refuse("node \(peer) was no member when this node last heard the root")
        }
        guard let known = view.node(peer) else {
            // It may have joined a moment ago, and this node's view be older.
            return peer > view.cluster?.nodeHighest ?? NodeID(0) ? .accept : .refuse("node \(peer) is no member")
        }
        if known.state == .removed {
            return .removed(
                "node \(peer) was removed from the cluster; to come back it joins again with an empty data directory")
        }
        if known.state == .joining || view.accepts(peer, fingerprint: certificate.fingerprint.bytes) { return .accept }
        // Renewed a moment ago, perhaps; or the renewed one never reached the node's disk, and it comes with the one before. That
        // proves no less, for a node's key stays the same: let in, it has itself certified again. What can't be read proves nothing.
        return (try? certificate.keyHash()) == known.about.key
            ? .accept : .refuse("the root knows another certificate of node \(peer), and another key")
    }

    func peerContexts() throws(AgentFailure) -> (server: TLSContext, client: TLSContext) {
        do throws(TLSFailure) {
            let names = [PeerNetwork.protocolName]
            return (
                try TLSContext(
                    side: .server, identity: identity, trust: .authorities(authorities), clientCertificate: .required,
                    protocols: names),
                try TLSContext(
                    side: .client, identity: identity, trust: .authorities(authorities), protocols: names)
            )
        } catch {
            throw AgentFailure("TLS can't be set up: \(error.message)")
        }
    }

    // MARK: What nodes ask each other

    func ask(_ node: NodeID, _ body: NodeRequest.Body, _ done: @escaping (NodeAnswer?) -> Void) {
        do throws(RequestRefusal) {
            let id = try network.sendRequest(to: node, NodeRequest(version: 1, body: body).serialized())
            controlPending[id.number] = { outcome in
                guard case .answered(let bytes) = outcome else { return done(nil) }
                done(try? NodeAnswer(serialized: bytes))  // A node that answers nonsense is as good as none.
            }
        } catch {
            done(nil)
        }
    }

    func received(_ request: PeerQuestion, _ bytes: [UInt8]) {
        // Nonsense is answered as such.
        guard let asked = try? NodeRequest(serialized: bytes), let body = asked.body else {
            return reply(request, refusal: "this request is not understood here; upgrade this node")
        }
        switch body {
        case .sign(let wanted):
            sign(wanted) { [self] result in
                switch result {
                case .success(let certificate):
                    network.answer(request, NodeAnswer(version: 1, certificate: certificate.der).serialized())
                case .failure(let failure): reply(request, refusal: failure.description)
                }
            }
        case .seal(let wanted):
            guard let answer = sealAnswer(wanted) else {
                return reply(request, refusal: "the key of secret fields is not here")
            }
            network.answer(request, answer.serialized())
        case .unseal(let wanted): answerUnseal(request, wanted)
        case .removeDisks(let wanted):
            removeDisks(GroupID(.cell, number: wanted.cell), VMID(rawValue: wanted.vm)) { [self] refusal in
                network.answer(request, NodeAnswer(version: 1, refusal: refusal ?? "").serialized())
            }
        case .markDomain(let wanted):
            markDomain(wanted.domain, by: wanted.by) { [self] refusal in
                network.answer(request, NodeAnswer(version: 1, refusal: refusal ?? "").serialized())
            }
        case .sendImage(let wanted): network.answer(request, sendImageAnswer(request, wanted).serialized())
        case .sealingKey(let wanted):
            guard let answer = sealingKeyAnswer(for: request.node, wanted.key) else {
                return reply(request, refusal: "it is not here, or not for node \(request.node)")
            }
            network.answer(request, answer.serialized())
        case .leaders(let wanted): network.answer(request, leadersAnswer(wanted).serialized())
        case .admin(let question): admin.handedOn(question) { [self] in network.answer(request, $0.serialized()) }
        case .authorityKey:
            // Only root voters hold it, and only they get it.
            let isVoter =
                view.placement(.root)?.replica(on: request.node).map { $0.part == .voter && !$0.isLeaving } ?? false
            // A key that can't be written is not handed out.
            guard isVoter, let authority, let pem = try? authority.key.pem() else {
                return reply(request, refusal: "it is not here, or not for node \(request.node)")
            }
            network.answer(
                request,
                NodeAnswer(version: 1, certificate: authority.certificate.der, authorityKey: Array(pem.utf8))
                    .serialized())
        }
    }

    private func reply(_ request: PeerQuestion, refusal: String) {
        network.answer(request, NodeAnswer(version: 1, refusal: refusal).serialized())
    }

    // MARK: Signing

    /// Gets a node's certificate signed: here, or by a node that holds the authority's key.
    func obtainCertificate(
        _ request: CertificateRequest, for node: NodeID, byOthers: Bool = false,
        _ done: @escaping (Result<Certificate, AgentFailure>) -> Void
    ) {
        let wanted = NodeRequest.Sign(
            request: request.der, node: node.rawValue, dnsNames: request.dnsNames, addresses: request.addresses)
        if authority != nil && !byOthers { return sign(wanted, done) }
        let voters = view.placement(.root)?.replicas.filter { $0.part == .voter }.map(\.node) ?? []
        obtain(wanted, from: voters.filter { isHeard($0) }, done)
    }

    private func obtain(
        _ wanted: NodeRequest.Sign, from nodes: [NodeID], _ done: @escaping (Result<Certificate, AgentFailure>) -> Void
    ) {
        guard let next = nodes.first else {
            return done(.failure(AgentFailure("no node that holds the authority's key can be reached; try again")))
        }
        ask(next, .sign(wanted)) { [self] answer in
            // A node that answers nonsense is passed over.
            if let answer, !answer.certificate.isEmpty, let made = try? Certificate(der: answer.certificate) {
                return done(.success(made))
            }
            obtain(wanted, from: Array(nodes.dropFirst()), done)
        }
    }

    /// Signs for a node whose registered key made the request, and writes the certificate down in the root first: a
    /// certificate that the root does not know is refused by everybody.
    private func sign(_ wanted: NodeRequest.Sign, _ done: @escaping (Result<Certificate, AgentFailure>) -> Void) {
        guard let authority else { return done(.failure(AgentFailure("the authority's key is not here"))) }
        let node = NodeID(wanted.node)
        request(.query(.root, .root(.node(node)))) { [self] answer in
            guard case .read(.root(let read)) = answer, let known = read.records(RootNode.self)?.first else {
                return done(.failure(AgentFailure("node \(node) is not known to the root")))
            }
            let certificate: Certificate
            do throws(TLSFailure) {
                let csr = try CertificateRequest(der: wanted.request)
                guard known.state != .removed, try csr.keyHash() == known.about.key else {
                    return done(.failure(AgentFailure("the request was not made with the key of node \(node)")))
                }
                certificate = try authority.issue(
                    csr, identity: .node(cluster: cluster, node: node), dnsNames: wanted.dnsNames,
                    addresses: wanted.addresses, now: Int64(wallTime.rawValue / 1_000),
                    lifetimeSeconds: Int64(view.settings[.certificateLifetime] / 1_000))
            } catch {
                return done(.failure(AgentFailure(error.message)))
            }
            let note = NodeCertificate(
                fingerprint: certificate.fingerprint.bytes, issuer: authority.certificate.fingerprint.bytes,
                expiresAt: LogTime(UInt64(certificate.notAfter) * 1_000))
            change(.certifyNode(node, note)) { outcome in
                switch outcome {
                case .success: done(.success(certificate))
                case .failure(let problem): done(.failure(AgentFailure(problem.detail)))
                }
            }
        }
    }
}
