import AdminAPI
import AgentConfig
import ClusterBase
import FleetModel
import Hypervisor
import NodePorts
import NodeRuntime
import PeerTransport
import RaftCore
import Reactor
import Schema
import StoreLayout
import TLSSession

// Following the root, and doing what it says.

extension Agent {
    private var authoritiesFile: String { "authorities.pem" }

    private static let controlInterval = Nanoseconds.milliseconds(250)
    private static let keepInterval = Nanoseconds.seconds(1)
    /// How long a former voter of the root keeps the authority's key: it may soon be one again.
    private static let authorityKept = Nanoseconds.seconds(30)

    /// The root's state, as the engine follows it.
    var view: RootView { engine.root }

    /// Goes on when this node's view of the root holds everything up to now.
    func refreshView(_ done: @escaping (Problem?) -> Void) {
        request(.query(.root, .root(.cluster))) { [self] answer in
            guard case .read(.root(let read)) = answer else { return done(Problem(answer)) }
            awaitView(read.index, done)
        }
    }

    /// The same, and goes on without after so long: what this node has may be old then.
    func refreshView(within bound: Nanoseconds, _ done: @escaping (Problem?) -> Void) {
        let refresh = BoundedRefresh(until: loop.now + bound, done)
        boundedRefreshes.append(refresh)
        refreshView { refresh.end($0) }
    }

    /// Goes on when this node's view of the root holds everything up to there. Of a change that was acknowledged this is all that
    /// whoever made it can want to see: to ask for the newest state would be another round trip.
    func awaitView(_ index: LogIndex, _ done: @escaping (Problem?) -> Void) {
        if (view.through ?? .zero) < index { followOwnRoot() }
        if (view.through ?? .zero) >= index { return done(nil) }
        waiting.append((index, loop.now + .seconds(5), done))
        engine.followRoot(loop.now)
    }

    private func followOwnRoot() {
        if engine.followOwnRoot(loop.now) { viewChanged() }
    }

    /// Answers who waits for the view.
    func tendWaiting() {
        endRefreshes()
        if waiting.isEmpty { return }
        followOwnRoot()
        let through = view.through ?? .zero
        let ready = waiting.filter { through >= $0.index || loop.now >= $0.until }
        waiting.removeAll { through >= $0.index || loop.now >= $0.until }
        for item in ready {
            item.done(
                through >= item.index
                    ? nil : Problem(.unavailable, "this node does not hear the root; ask again, or ask another node"))
        }
    }

    private func endRefreshes() {
        if boundedRefreshes.isEmpty { return }
        let late = boundedRefreshes.filter { loop.now >= $0.until }
        boundedRefreshes.removeAll { $0.isOver || loop.now >= $0.until }
        for refresh in late {
            refresh.end(Problem(.unavailable, "a majority of its voters can't be reached from here, or is slow"))
        }
    }

    func viewChanged() {
        // Who left the cluster is forgotten there, and where it was, too.
        countRegions()
        network.setPeers(
            view.nodes.filter { $0.state != .removed && $0.id != node }.compactMap { other in
                // An address that can't be read is not dialled.
                guard let address = try? Address(parsing: other.about.peerAddress) else { return nil }
                return PeerAddresses(node: other.id, addresses: [address])
            })
        network.setJudge { [unowned self] in self.judge($0, $1) }
        network.setBulkRate(bulkRate)
        (host.driver as? QEMUHypervisor)?.know(bytesPerSecond: Int64(clamping: bulkRate))
        admin.viewChanged()
        host.guardian?.setNodes(leaseAddresses)
        rememberPeers()
        trustAuthorities()
        if view.node(node)?.state == .removed {
            log.error(
                "this node was removed from the cluster; to come back it joins again with an empty data directory")
            stop(.removed)
        }
        if let known = view.node(node)?.name, known != settings.nodeName {
            log.error(
                "this node joined under another name, which is its for ever: the agent ends; start it with --node-name \(known)",
                ["name": settings.nodeName])
            stop(.misnamed)
        }
        followLevel()
        followAssignment()
        controlAt = loop.now
        controlLeeway = .zero
    }

    /// Going back to an older program ends where a level opens: with what this node writes down, with whom it talks to.
    private func followLevel() {
        guard let open = view.cluster?.level, open > network.featureLevelNeeded else { return }
        network.featureLevelNeeded = open
        if (try? files.openLevel()) ?? 0 < open { keep("level", "\(open)\n") }  // An unreadable file is written anew.
        if open > level {
            log.error(
                "the cluster has opened a feature level that this program does not know: the agent ends; install the newer "
                    + "program", ["open": "\(open)", "known": "\(level)"])
            stop(.outdated)
        }
    }

    /// What snapshots and moving VMs may take of this node's network, in bytes per second: its own setting, or the cluster's
    /// where that is less.
    var bulkRate: Int {
        let all = view.settings[.bulkRate]
        return min(
            settings.bulkBytesPerSecond, all == 0 ? .max : Int(clamping: all), PeerSettings.bulkBytesPerSecondMax)
    }

    private func rememberPeers() {
        let others = view.nodes.filter { $0.state != .removed && $0.id != node }
        for (file, address) in [("peers", \NodeDescription.peerAddress), ("admins", \NodeDescription.adminAddress)] {
            let highest = view.cluster.map { "highest \($0.nodeHighest)\n" } ?? ""
            let text = others.map { "\($0.id) \($0.about[keyPath: address])\n" }.joined() + highest
            // An unreadable file is written anew.
            if (try? files.text(file)) == text { continue }
            keep(file, text)
        }
    }

    /// Writes a file that the next start reads: now, or as soon as that works.
    private func keep(_ file: String, _ text: String) {
        unkept.removeAll { $0.file == file }
        unkept.append((file, text))
        keepAt = loop.now
        keepFiles()
    }

    private func keepFiles() {
        if unkept.isEmpty || loop.now < keepAt { return }
        keepAt = loop.now + Agent.keepInterval
        let due = unkept
        unkept = []
        for (file, text) in due {
            do throws(AgentFailure) {
                try files.write(file, text)
                if unkeptTold.remove(file) != nil { log.info("a file is written at last", ["file": file]) }
            } catch {
                unkept.append((file, text))
                if unkeptTold.insert(file).inserted {
                    log.warning("a file that the next start needs can't be written yet: \(error)", ["file": file])
                }
            }
        }
    }

    /// What can't be kept is a warning: it is asked for again.
    func keep(_ body: () throws(AgentFailure) -> Void) {
        do throws(AgentFailure) { try body() } catch { log.warning(error.description) }
    }

    private func trustAuthorities() {
        let wanted = view.authorities.map(\.fingerprint).sorted { $0.lexicographicallyPrecedes($1) }
        let known = authorities.map(\.fingerprint.bytes).sorted { $0.lexicographicallyPrecedes($1) }
        if wanted == known || wanted.isEmpty { return }
        // Counted below.
        let certificates = view.authorities.compactMap { try? Certificate(der: $0.certificate) }
        guard certificates.count == wanted.count else {
            return log.error("the root holds an authority that can't be read")
        }
        authorities = certificates
        keep(authoritiesFile, certificates.map(\.pem).joined())
        useCertificates("the cluster's authorities changed")
    }

    /// New connections show and trust what is known now; those that stand are replaced without a gap.
    func useCertificates(_ why: String) {
        do throws(AgentFailure) {
            let (server, client) = try peerContexts()
            network.setContexts(server: server, client: client)
            try admin.renewContext()
            network.refresh()
            log.info(why)
        } catch {
            log.error(error.description)
        }
    }

    // MARK: Controlling

    /// What follows from the root's state and this node's part in it.
    func control() {
        controlAt = loop.now + Agent.controlInterval
        controlLeeway = Agent.controlInterval
        keepFiles()
        found()
        renewCertificate()
        tendRecoveries()
        guard view.through != nil, let own = view.node(node), own.state != .removed else { return }
        describeSelf(own)
        finishOwnMove(own)
        retireMergedCells()
        tendBackups()
        finalizeWhenDue()
        handOverAuthority()
        tendSealingKey()
        tendImages()
        tendRemains()
    }

    /// The first command of a cluster waits in a file until it is applied.
    private func found() {
        guard !isFounding, leads(.root), files.has("founding") else { return }
        // Logged here.
        guard let bytes = try? files.read("founding") else { return log.error("the founding file can't be read") }
        isFounding = true
        request(.command(.root, bytes)) { [self] answer in
            isFounding = false
            guard case .applied(.root(let result)) = answer else { return }
            if case .refused(let refusal) = result.outcome, refusal != .alreadyFounded {
                return log.error("the cluster can't be founded: \(refusal)")
            }
            log.info("the cluster is founded")
            files.remove("founding")
        }
    }

    /// Whose certificate the next start would show: a signature is work, and this is asked several times a second.
    private var issuerKept: [UInt8] {
        guard !unkept.contains(where: { $0.file == "node.pem" }), let own = identity.chain.first else {
            return toldIssuer?.issuer ?? []
        }
        if let toldIssuer, toldIssuer.own == own.fingerprint, !toldIssuer.issuer.isEmpty { return toldIssuer.issuer }
        let issuer = authorities.first { own.isSigned(by: $0) }?.fingerprint.bytes ?? []
        toldIssuer = (own.fingerprint, issuer)
        return issuer
    }

    private func describeSelf(_ own: RootNode) {
        let about = description(key: own.about.key)
        guard own.state == .joining || own.about != about, reported != about, loop.now >= describesAgainAt else {
            return
        }
        reported = about
        change(.reportNode(node, about)) { [self] outcome in
            guard case .failure(let problem) = outcome else { return }
            log.warning("the root did not take what this node says of itself: \(problem.detail)")
            reported = nil
            describesAgainAt = loop.now + .seconds(60)
        }
    }

    /// Opens the next feature level by itself when every node has understood it for as long as the cluster is set to wait.
    private func finalizeWhenDue() {
        let wait = view.settings[.finalizeAfter]
        guard wait > 0, leads(.root), let level = view.cluster?.level, level < self.level,
            view.nodes.allSatisfy({ $0.state == .removed || $0.about.level > level })
        else {
            levelReadySince = nil
            return
        }
        let since = levelReadySince ?? loop.now
        levelReadySince = since
        guard loop.now - since >= .milliseconds(Int64(clamping: wait)) else { return }
        levelReadySince = nil
        change(.finalizeLevel(level + 1), by: settings.nodeName) { [self] result in
            switch result {
            case .success: log.info("a feature level is open", ["feature-level": "\(level + 1)"])
            case .failure(let problem): log.warning("a feature level was not opened: \(problem.detail)")
            }
        }
    }

    func description(key: [UInt8]) -> NodeDescription {
        var about = Agent.description(settings, key: key)
        // What the next start would not know is not told.
        if (view.cluster?.level ?? 0) >= FeatureLevel.trustTold, !unkept.contains(where: { $0.file == authoritiesFile })
        {
            about.trusts = authorities.map(\.fingerprint.bytes).sorted { $0.lexicographicallyPrecedes($1) }
            about.issuer = issuerKept
        }
        return about
    }

    /// Root voters hold the authority's key; the others give it up.
    private func handOverAuthority() {
        let placed = view.placement(.root)?.replica(on: node)
        let isVoter = placed.map { $0.part == .voter && !$0.isLeaving } ?? false
        let signer = view.authorities.first { $0.signs }?.fingerprint
        guard let signer else { return }
        giveUpAuthority(isVoter: isVoter)
        if authority?.certificate.fingerprint.bytes == signer || takeNextAuthority(signer) { return }
        if isVoter {
            let others = view.placement(.root)?.replicas.map(\.node).filter { $0 != node && isHeard($0) } ?? []
            for other in others { askForAuthority(other, signer) }
        }
    }

    /// Who votes no more forgets the key, after a while and once another node has signed this one's certificate: the last that
    /// holds the key must not.
    private func giveUpAuthority(isVoter: Bool) {
        guard authority != nil, !isVoter else {
            authorityIdleSince = nil
            return
        }
        let since = authorityIdleSince ?? loop.now
        authorityIdleSince = since
        guard loop.now - since >= Agent.authorityKept, !isRenewing, loop.now >= renewAt else { return }
        renewNow(byOthers: true) { [self] failure in
            // Tried again: the others may not have it yet.
            guard failure == nil else { return }
            authority = nil
            files.forgetAuthority()
            log.info("no voter of the root any more: the authority's key is not here now")
        }
    }

    /// The authority that was made here signs now. Only what the view says counts: before it does, the others still give out
    /// the old one's key, and the new one's is nowhere but here.
    private func takeNextAuthority(_ signer: [UInt8]) -> Bool {
        guard files.has(NodeFiles.nextAuthority + ".sealed") else { return false }
        do throws(AgentFailure) {
            guard let next = try files.authority(NodeFiles.nextAuthority),
                next.certificate.fingerprint.bytes == signer
            else { return false }
            try files.keep(next)
            authority = next
            files.forgetAuthority(NodeFiles.nextAuthority)
            log.info("the authority that was made here signs now")
            return true
        } catch {
            log.error(error.description)
            return false
        }
    }

    private func askForAuthority(_ other: NodeID, _ signer: [UInt8]) {
        ask(other, .authorityKey(NodeRequest.AuthorityKey())) { [self] answer in
            guard let answer, !answer.authorityKey.isEmpty, authority?.certificate.fingerprint.bytes != signer else {
                return
            }
            do throws(TLSFailure) {
                let made = try CertificateAuthority(
                    certificate: Certificate(der: answer.certificate),
                    key: PrivateKey(pem: String(decoding: answer.authorityKey, as: UTF8.self)))
                guard made.certificate.fingerprint.bytes == signer,
                    view.authorities.first(where: { $0.signs })?.fingerprint == signer
                else { return }
                // What is in no file is not held: others give it up once this node signs.
                keep { () throws(AgentFailure) in
                    try files.keep(made)
                    authority = made
                    log.info("holds the authority's key now")
                }
            } catch {
                log.warning("node \(other) sent no key of the authority: \(error.message)")
            }
        }
    }

    // MARK: Certificates

    /// Renews this node's certificate when two thirds of its life are over, when another authority signs now, or when the
    /// root has not heard of it. One that has ended, for nobody could be reached, opens no door: a new start gets another.
    private func renewCertificate() {
        guard let own = identity.chain.first else { return }
        let now = Int64(wallTime.rawValue / 1_000)
        if own.notAfter <= now {
            log.error("the node's certificate has ended: the agent starts again to get another")
            return stop(.storage)
        }
        // Before it is founded the root knows nobody.
        guard !isRenewing, loop.now >= renewAt, view.cluster != nil else { return }
        let life = own.notAfter - own.notBefore
        let isOld = own.notAfter - now < life / 3
        let isKnown = view.accepts(node, fingerprint: own.fingerprint.bytes)
        let isSigned = isSigned(own, by: view.authorities.first { $0.signs }?.certificate)
        guard isOld || !isKnown || !isSigned else { return }
        renewNow { [self] failure in
            if let failure { log.warning("the certificate could not be renewed and is tried again: \(failure)") }
        }
    }

    /// Asked several times a second, and a signature is work: the last answer is kept for as long as it is about the same.
    private func isSigned(_ own: Certificate, by authority: [UInt8]?) -> Bool {
        if let known = signedBy, known.own == own.fingerprint, known.authority == authority { return known.isSigned }
        // Judged as if nobody signed.
        let signer = authority.flatMap { try? Certificate(der: $0) }
        let isSigned = signer.map { own.isSigned(by: $0) } ?? true
        signedBy = (own.fingerprint, authority, isSigned)
        return isSigned
    }

    /// Has it signed again; by another node, if the authority's key that is here is not to be used.
    func renewNow(byOthers: Bool = false, _ done: @escaping (AgentFailure?) -> Void) {
        isRenewing = true
        renewAt = loop.now + .seconds(5)
        let names = CertificateNames(settings)
        do throws(TLSFailure) {
            let request = try CertificateRequest(
                key: identity.key, commonName: settings.nodeName, dnsNames: names.dnsNames, addresses: names.addresses)
            obtainCertificate(request, for: node, byOthers: byOthers) { [self] result in
                isRenewing = false
                switch result {
                case .failure(let failure): done(failure)
                case .success(let certificate):
                    do throws(TLSFailure) {
                        identity = try TLSIdentity(chain: [certificate], key: identity.key)
                        keep("node.pem", certificate.pem)
                        useCertificates("the node's certificate was renewed")
                        done(nil)
                    } catch {
                        done(AgentFailure(error.message))
                    }
                }
            }
        } catch {
            isRenewing = false
            done(AgentFailure(error.message))
        }
    }

    // MARK: Changing the root

    /// Until then values stay where programs keep them that know no such fields, and are shown as those show them: what somebody
    /// reads here may be sent back through one of them.
    var knowsSecretFields: Bool { engine.levelOpen >= FeatureLevel.secrets }

    /// Why nothing can be asked for yet that came with this feature level; nil where it is open.
    func problem(wanting level: UInt32) -> Problem? {
        let open = engine.levelOpen
        if level <= open { return nil }
        return Problem(
            .notPossible,
            "this wants feature level \(level), and level \(open) is open; when all nodes are upgraded, open it with "
                + "`muster upgrade finalize`")
    }

    static func levelUnheard(_ level: UInt32) -> Problem {
        Problem(
            .unavailable, "the group's leader has not heard yet that feature level \(level) is open; send it again")
    }

    /// Has the root apply a change, wherever it is led.
    func change(
        _ operation: RootCommand.Operation, request id: [UInt8]? = nil, by: String = "",
        _ done: @escaping (Result<RootResult, Problem>) -> Void
    ) {
        if let problem = problem(wanting: operation.level) { return done(.failure(problem)) }
        let take = { (answer: ClientAnswer) in
            switch answer {
            case .applied(.root(let result)):
                if result.outcome == .refused(.malformed), operation.level > FeatureLevel.oldest {
                    return done(.failure(Agent.levelUnheard(operation.level)))
                }
                if case .refused(let refusal) = result.outcome { return done(.failure(Problem(refusal))) }
                done(.success(result))
            default: done(.failure(Problem(answer)))
            }
        }
        if let id {
            request(.command(.root, RootCommand(request: id, by: by, operation).encoded()), take)
        } else {
            sendOwn(RootCommand(by: by, operation), take)
        }
    }
}

/// Somebody who waits for the root's newest word, and not for long. Whoever ends it first decides.
final class BoundedRefresh {
    let until: Instant
    private var done: ((Problem?) -> Void)?
    var isOver: Bool { done == nil }

    init(until: Instant, _ done: @escaping (Problem?) -> Void) {
        self.until = until
        self.done = done
    }

    func end(_ problem: Problem?) {
        let waiting = done
        done = nil
        waiting?(problem)
    }
}
