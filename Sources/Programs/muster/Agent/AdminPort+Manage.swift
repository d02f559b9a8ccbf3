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
import StoreLayout
import TLSSession

// Nodes, tokens, spaces, certificates: what is asked of the root.

extension AdminPort {
    func manage(_ call: AdminCall, _ principal: Principal, _ ticket: Ticket) {
        let address = server.clientAddress(ticket)
        let asker = Asker(
            name: address.isEmpty ? "\(principal)" : "\(principal) from \(address)", principal: "\(principal)",
            request: call.idempotencyKey.map(AdminPort.requestID), ticket: ticket,
            status: Route.status[call.request.operation] ?? 200)
        switch call.request {
        case .spaces: listSpaces(ticket)
        case .space(let name): showSpace(name, ticket)
        case .createSpace(let wanted): create(wanted, asker)
        case .deleteSpace(let name, let isForced): deleteSpace(name, isForced: isForced, asker)
        case .moveSpace(let name, let move): self.move(name, move, asker)
        case .status: status(ticket)
        case .settings: refresh(ticket) { [self] in AdminResponse(Listing(settings)) }
        case .changeSetting(let name, let wanted):
            guard let setting = RootSetting.named(name) else {
                return fail(ticket, .notFound, "there is no setting \(name); see `muster setting list`")
            }
            change(.changeSetting(setting, UInt64(clamping: wanted.value)), asker, "\(name) is set")
        case .nodes(let mode):
            refreshed(mode, ticket) { [self] age in
                var response = AdminResponse(Listing(agent.view.nodes.filter { $0.state != .removed }.map(agent.info)))
                response.age = age
                answer(ticket, ofRoot(response))
            }
        case .node(let name):
            withNode(name, ticket) { [self] node in answer(ticket, ofRoot(AdminResponse(agent.info(node)))) }
        case .removeNode(let name, let isForced):
            withNode(name, ticket) { [self] node in
                if !isForced, let problem = quorumLost(without: node) { return answer(ticket, AdminResponse(problem)) }
                change(
                    .removeNode(node.id, isForced: isForced), asker,
                    "node \(name) is removed; its host stays in its cell until `muster host remove \(name)`")
            }
        case .promoteNode(let name): arrange(name, .preferred, asker, "node \(name) votes when it can")
        case .demoteNode(let name): arrange(name, .never, asker, "node \(name) votes no more when another can")
        case .join(let wanted): join(wanted, ticket)
        case .assignHost(let name, let wanted): assignHost(name, to: wanted, asker)
        case .cells: listCells(ticket)
        case .cell(let name): showCell(name, ticket)
        case .createCell(let wanted): create(wanted, asker)
        case .retireCell(let name): retireCell(name, asker)
        case .planHosts(let name, let wish): planHosts(name, wish, asker)
        case .regions: refresh(ticket) { [self] in AdminResponse(Listing(regions)) }
        case .region(let name): region(name, ticket)
        case .declareRegion(let name, let isLost): declareRegion(name, isLost: isLost, asker)
        case .planRegion(let name, let wish): planRegion(name, wish, asker)
        case .setLatency(let name, let wish): setLatency(name, wish, asker)
        case .tokens: listTokens(ticket)
        case .createToken(let wanted): createToken(wanted, asker)
        case .revokeToken(let id): revokeToken(id, asker)
        case .transferLeadership(let wanted): transfer(wanted, ticket)
        case .certificates: refresh(ticket) { [self] in AdminResponse(Listing(agent.certificates)) }
        case .rotateCertificates(let wanted): rotate(wanted, asker)
        case .renewCertificate(let wanted): renew(wanted, principal, ticket)
        case .upgrade: refresh(ticket) { [self] in AdminResponse(Listing(agent.gates)) }
        case .finalizeUpgrade(let wanted): finalizeUpgrade(wanted, asker)
        case .recover(let wanted): recover(wanted, asker)
        case .backupPlan: refresh(ticket) { [self] in AdminResponse(backupPlan) }
        case .beginBackup:
            agent.refreshView { [self] problem in
                if let problem { return answer(ticket, AdminResponse(problem)) }
                holdMoves(CellSetting.movesHeldMax - 60_000, asker) { [self] problem in
                    let begun = AdminResponse(Acceptance("no VM goes from cell to cell until the backup ends"))
                    answer(ticket, problem.map { AdminResponse($0) } ?? begun)
                }
            }
        case .endBackup:
            holdMoves(0, asker) { [self] problem in
                answer(
                    ticket,
                    problem.map { AdminResponse($0) } ?? AdminResponse(Acceptance("VMs go from cell to cell again")))
            }
        case .copyGroup(let group): copy(GroupID(group), principal, ticket)
        case .backupSchedules: refresh(ticket) { [self] in AdminResponse(Listing(agent.view.backups.map(agent.info))) }
        case .setBackupSchedule(let name, let wanted):
            change(
                .setBackup(
                    FleetModel.BackupSchedule(
                        name: name, interval: min(UInt64(clamping: wanted.everySeconds), 1 << 40) * 1_000,
                        keep: UInt32(clamping: wanted.keep), destination: wanted.directory, keyName: wanted.keyFile)),
                asker, "backups are made by the schedule \(name)")
        case .removeBackupSchedule(let name):
            change(.removeBackup(name: name), asker, "the schedule \(name) is removed; its backups stay")
        case .fleet(let request): fleet(request, call.cell, call.plan, call.idempotencyKey, principal, ticket)
        case .health, .ready, .metrics, .document, .write, .read, .list, .watch, .lock, .locks:
            preconditionFailure("\(call.request.operation) is answered elsewhere")
        }
    }

    /// Who asked, for the records and for the answer.
    struct Asker {
        /// Who asks, and from where.
        var name: String
        /// Who asks, wherever it is.
        var principal: String
        var request: [UInt8]?
        var ticket: Ticket
        /// Of an answer that says yes.
        var status: Int
    }

    private static func requestID(_ key: IdempotencyKey) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(key.client.rawValue)
        bytes.appendBigEndian(key.sequence)
        return bytes
    }

    func fail(_ ticket: Ticket, _ kind: Problem.Kind, _ detail: String) {
        answer(ticket, AdminResponse(Problem(kind, detail)))
    }

    /// So long a status waits for the root: without one that answers it is wanted most, and soon.
    private static let statusPatience = Nanoseconds.seconds(1)

    private func status(_ ticket: Ticket) {
        agent.refreshView(within: AdminPort.statusPatience) { [self] problem in
            var status = agent.status
            var response = AdminResponse(status)
            if let problem {
                let age = agent.engine.rootAge(SystemClock.now)
                let since = age.map { "of \($0.count / 1_000_000_000) s ago" } ?? "of an unknown age"
                status.isReady = false
                status.isCurrent = false
                status.alarms.insert(
                    "the root group does not answer, and what is shown of it is \(since): \(problem.detail)", at: 0)
                response = AdminResponse(status)
                response.age = age
            }
            answer(ticket, ofRoot(response))
        }
    }

    private var settings: [SettingInfo] {
        RootSetting.allCases.map { setting in
            SettingInfo(
                name: setting.name, value: Int64(clamping: agent.view.settings[setting]),
                standard: Int64(clamping: setting.standard), unit: setting.unit, summary: setting.summary)
        }
    }

    /// Answers from the root's state as it is now, and not as this node happened to know it.
    func refresh(_ ticket: Ticket, _ make: @escaping () -> AdminResponse) {
        agent.refreshView { [self] problem in answer(ticket, problem.map { AdminResponse($0) } ?? ofRoot(make())) }
    }

    /// Answers from a state of the root that has this change.
    func known(_ result: RootResult, _ ticket: Ticket, _ make: @escaping () -> AdminResponse) {
        agent.awaitView(result.revision.index) { [self] problem in
            answer(ticket, problem.map { AdminResponse($0) } ?? ofRoot(make()))
        }
    }

    /// The answer with the index of the root's state that it was made of.
    func ofRoot(_ response: AdminResponse) -> AdminResponse {
        var response = response
        response.index = agent.view.through
        return response
    }

    func change(_ operation: RootCommand.Operation, _ asker: Asker, _ done: String) {
        agent.change(operation, request: asker.request, by: asker.name) { [self] result in
            switch result {
            case .success(let result):
                known(result, asker.ticket) { AdminResponse(Acceptance(done), status: asker.status) }
            case .failure(let problem): answer(asker.ticket, AdminResponse(problem))
            }
        }
    }

    /// First the space itself takes nothing any more: nodes learn one after the other that it is gone, and what the last of
    /// them still let in would be lost after it was acknowledged.
    private func deleteSpace(_ name: String, isForced: Bool, _ asker: Asker, since: Instant? = nil) {
        let began = since ?? agent.loop.now
        agent.refreshView { [self] problem in
            if let problem { return answer(asker.ticket, AdminResponse(problem)) }
            // No space has the root's group: then the root says what became of this request before, or that there is none.
            let group = agent.view.space(name)?.group ?? .root
            let end = SpaceCommand(.end)
            let done = "the space \(name) is deleted"
            if agent.problem(wanting: end.level) != nil { return change(.deleteSpace(name: name), asker, done) }
            if isForced || group == .root {
                return change(.deleteSpace(name: name, group: group), asker, done)
            }
            agent.request(.command(group, end.encoded())) { [self] outcome in
                if outcome == .refused(.noSuchGroup) {
                    // Its replicas are still to be made, or somebody else has deleted it.
                    let again = { [self] in deleteSpace(name, isForced: isForced, asker, since: began) }
                    if retry(since: began, again) { return }
                }
                guard case .applied(.space(let result)) = outcome else {
                    return fail(
                        asker.ticket, .unavailable,
                        "the replicas of the space \(name) don't agree now to take nothing more, so that it stays; ask again, or "
                            + "use --force if they never will: what is written at that moment may be acknowledged and lost"
                    )
                }
                switch result.outcome {
                case .deleted, .refused(.ended): break
                default: return answer(asker.ticket, AdminResponse(Agent.levelUnheard(end.level)))
                }
                change(.deleteSpace(name: name, group: group), asker, done)
            }
        }
    }

    /// Why the node can't be removed now: it ends at once, and counts as a voter until its group has agreed to go on without
    /// it, which takes a majority of the others.
    private func quorumLost(without node: RootNode) -> Problem? {
        for placement in agent.view.placements {
            let voters = placement.replicas.filter { $0.part == .voter }.map(\.node)
            guard voters.contains(node.id), voters.count > 1 else { continue }
            let missing = voters.filter { other in
                other != node.id && (!agent.isHeard(other) || agent.view.node(other)?.state == .removed)
            }
            guard voters.count - missing.count - 1 <= voters.count / 2, !missing.isEmpty else { continue }
            return Problem(
                .notPossible,
                "group \(placement.group) would lose its quorum: \(missing.map(agent.name).joined(separator: " and ")) can't be "
                    + "reached or leaves just now. Wait until the group has other voters (`muster status`), or bring that node back; "
                    + "--force removes the node all the same")
        }
        return nil
    }

    /// Opens the next level, or as far as one that is named.
    private func finalizeUpgrade(_ wanted: UpgradeFinalization, _ asker: Asker) {
        agent.refreshView { [self] problem in
            if let problem { return answer(asker.ticket, AdminResponse(problem)) }
            let open = agent.view.cluster?.level ?? FeatureLevel.oldest
            let next = min(open + 1, max(open, agent.level))
            if let gate = wanted.gate, gate != "level-\(next)", gate != "level-\(open)" {
                return fail(
                    asker.ticket, .notPossible,
                    "'\(gate)' is not what opens next, which is level-\(next); see `muster upgrade status`")
            }
            change(
                .finalizeLevel(wanted.gate == "level-\(open)" ? open : next), asker,
                next == open
                    ? "feature level \(open) is open, the newest that this node knows"
                    : "feature level \(next) is open: \(FeatureLevel.summary(next)); older programs are refused from now on"
            )
        }
    }

    func withNode(_ name: String, _ ticket: Ticket, _ body: @escaping (RootNode) -> Void) {
        agent.refreshView { [self] problem in
            if let problem { return answer(ticket, AdminResponse(problem)) }
            let byNumber = UInt64(name).flatMap { number in agent.view.node(NodeID(number)) }
            guard let node = agent.view.node(named: name) ?? byNumber, node.state != .removed else {
                return fail(ticket, .notFound, "there is no node \(name); see `muster node list`")
            }
            body(node)
        }
    }

    private func arrange(_ name: String, _ wish: RootNode.VotingWish, _ asker: Asker, _ done: String) {
        withNode(name, asker.ticket) { [self] node in
            change(.arrangeNode(node.id, voting: wish, isDraining: node.isDraining), asker, done)
        }
    }

    // MARK: Spaces

    func info(_ space: RootSpace, _ leaders: [GroupID: NodeID] = [:]) -> SpaceInfo {
        let placement = agent.view.placement(space.group)
        let placed = placement?.replicas.filter { !$0.isLeaving } ?? []
        let isReady = placed.count { $0.phase == .made } > placed.count / 2
        let isMoving = placement?.replicas.contains { $0.isLeaving } ?? false
        return SpaceInfo(
            name: space.name, group: space.group.rawValue, nodes: placed.map { agent.name(of: $0.node) },
            leader: (leaders[space.group] ?? agent.leaderHere(space.group)).map(agent.name) ?? "",
            state: isReady ? (isMoving ? "moving" : "ready") : "creating")
    }

    private func create(_ wanted: SpaceCreation, _ asker: Asker) {
        let replicas = UInt32(clamping: wanted.replicas ?? 0)
        agent.change(.createSpace(name: wanted.name, replicas: replicas), request: asker.request, by: asker.name) {
            [self] result in
            switch result {
            case .failure(let problem): answer(asker.ticket, AdminResponse(problem))
            case .success(let result):
                known(result, asker.ticket) { [self] in
                    agent.view.space(wanted.name).map { AdminResponse(json: info($0).json, status: 201) }
                        ?? AdminResponse(Acceptance("the space \(wanted.name) is made"), status: 202)
                }
            }
        }
    }

    private func move(_ name: String, _ move: SpaceMove, _ asker: Asker) {
        agent.refreshView { [self] problem in
            if let problem { return answer(asker.ticket, AdminResponse(problem)) }
            guard let space = agent.view.space(name), let placement = agent.view.placement(space.group) else {
                return answer(asker.ticket, AdminResponse(Problem.noSpace(name)))
            }
            var wanted: [NodeID] = []
            for word in move.nodes {
                guard let node = agent.view.node(named: word) else {
                    return fail(asker.ticket, .notFound, "there is no node \(word); see `muster node list`")
                }
                wanted.append(node.id)
            }
            var changes: [PlacementChange] = []
            for node in wanted where placement.replica(on: node) == nil { changes.append(.add(node, .voter)) }
            for placed in placement.replicas where !placed.isLeaving && !wanted.contains(placed.node) {
                changes.append(.leave(placed.replica))
            }
            if changes.isEmpty {
                return answer(
                    asker.ticket, AdminResponse(Acceptance("the space is there already"), status: asker.status))
            }
            change(
                .changePlacement(space.group, revision: placement.revision, changes), asker,
                "the space moves; see `muster space list`")
        }
    }

    // MARK: Leadership, certificates, recovery

    private func transfer(_ wanted: LeaderTransfer, _ ticket: Ticket) {
        agent.refreshView { [self] problem in
            if let problem { return answer(ticket, AdminResponse(problem)) }
            let named = wanted.space.flatMap { agent.view.space($0)?.group }
            if let space = wanted.space, named == nil { return answer(ticket, AdminResponse(Problem.noSpace(space))) }
            let group = named ?? wanted.group.map { GroupID(UInt64(bitPattern: $0)) } ?? .root
            var target: ReplicaID?
            if let name = wanted.to {
                guard let node = agent.view.node(named: name),
                    let placed = agent.view.placement(group)?.replica(on: node.id)
                else { return fail(ticket, .notFound, "node \(name) holds no replica of it; see `muster status`") }
                target = placed.replica
            }
            let leader = agent.engine.inspect(group) { raft, _ in raft.leader } ?? nil
            if let target, leader?.replica == target {
                return answer(ticket, AdminResponse(Acceptance("it leads already"), status: 202))
            }
            agent.request(.transferLeadership(group, to: target)) { [self] outcome in
                answer(ticket, AdminResponse(outcome))
            }
        }
    }

    private func rotate(_ wanted: CertificateRotation, _ asker: Asker) {
        switch wanted.subject {
        case .node:
            if let name = wanted.node, name != agent.settings.nodeName {
                return fail(asker.ticket, .misdirected, "ask node \(name) itself to renew its certificate")
            }
            agent.renewNow { [self] failure in
                if let failure { return fail(asker.ticket, .unavailable, failure.description) }
                answer(asker.ticket, AdminResponse(Acceptance("the certificate is renewed"), status: asker.status))
            }
        case .ca: rotateAuthority(asker, wanted)
        case .sealingKey:
            change(
                .rotateSealingKey(.begin, []), asker,
                "another key takes over the secret fields; see `muster cert list` for how far it is")
        }
    }

    /// A step of the authority's rotation:
    ///
    ///     1  a new authority is made and trusted by everybody   operators and programs learn it, at their leisure
    ///     2  it signs; nodes renew their certificates by it      operators renew theirs
    ///     3  the old one is trusted no more                      refused while a node's certificate is still signed by it
    private func rotateAuthority(_ asker: Asker, _ wanted: CertificateRotation) {
        agent.refreshView { [self] problem in
            if let problem { return answer(asker.ticket, AdminResponse(problem)) }
            let other = agent.view.authorities.first { !$0.signs }
            let signer = agent.view.authorities.first { $0.signs }
            // Whose turn it was last to begin signing, or to end it, tells the steps apart.
            let isSigned = (other?.since ?? .zero) <= (signer?.since ?? .zero)
            let due: CertificateRotation.Step = other == nil || signer == nil ? .trust : isSigned ? .finish : .sign
            if let step = wanted.step, step != due, !wanted.isAbandoned {
                return fail(
                    asker.ticket, .notPossible,
                    "the step '\(step)' is not due: '\(due)' is next. If it was asked for before, it is done")
            }
            switch (due, other) {
            case (.sign, let other?): wanted.isAbandoned ? abandon(other, asker) : letSign(other, asker)
            case (.finish, let other?):
                if wanted.isAbandoned {
                    return fail(asker.ticket, .notPossible, "the new authority signs already; go on with the rotation")
                }
                change(
                    .distrustAuthority(fingerprint: other.fingerprint), asker,
                    "the old authority is trusted no more; the rotation is complete")
            default:
                if wanted.isAbandoned {
                    return fail(asker.ticket, .notPossible, "no rotation is under way; nothing was changed")
                }
                makeAuthority(asker)
            }
        }
    }

    private func makeAuthority(_ asker: Asker) {
        guard agent.authority != nil else {
            return fail(
                asker.ticket, .misdirected, "ask a node that votes in the root group; it holds the authority's key")
        }
        let made: CertificateAuthority
        do throws(AgentFailure) {
            if let proposed = try proposedAuthority() { made = proposed } else { made = try newAuthority() }
        } catch {
            return fail(asker.ticket, .internal, error.description)
        }
        change(
            .trustAuthority(fingerprint: made.certificate.fingerprint.bytes, certificate: made.certificate.der), asker,
            "a new authority is trusted and signs nothing yet; let every operator run `muster cert renew` and give programs the "
                + "new ca.pem, then ask this node again")
    }

    /// What was asked for before may come to be trusted yet, whatever its asker heard: it is the one that is asked for again.
    /// Another one's key would take the place of its key.
    private func proposedAuthority() throws(AgentFailure) -> CertificateAuthority? {
        guard let kept = try agent.files.authority(NodeFiles.nextAuthority) else { return nil }
        let fingerprint = kept.certificate.fingerprint.bytes
        return agent.view.authorities.contains { $0.fingerprint == fingerprint } ? nil : kept
    }

    /// Its key is kept before anybody trusts it.
    private func newAuthority() throws(AgentFailure) -> CertificateAuthority {
        let made: CertificateAuthority
        do throws(TLSFailure) {
            made = try CertificateAuthority.make(cluster: cluster, now: Int64(agent.wallTime.rawValue / 1_000))
        } catch {
            throw AgentFailure(error.message)
        }
        try agent.files.keep(made, as: NodeFiles.nextAuthority)
        return made
    }

    private func letSign(_ next: Authority, _ asker: Asker) {
        let made: CertificateAuthority?
        do throws(AgentFailure) {
            made = try agent.files.authority(NodeFiles.nextAuthority)
        } catch {
            return fail(asker.ticket, .internal, error.description)
        }
        guard let made, made.certificate.fingerprint.bytes == next.fingerprint else {
            return fail(
                asker.ticket, .misdirected,
                "the key of the new authority is with the node where it was made; ask that one, or give the new authority up "
                    + "with `muster cert rotate --authority --abandon`")
        }
        if let doubt = doubt(of: next) { return answer(asker.ticket, AdminResponse(doubt)) }
        agent.change(.signWithAuthority(fingerprint: next.fingerprint), request: asker.request, by: asker.name) {
            [self] result in
            let signed: RootResult
            switch result {
            case .failure(let problem): return answer(asker.ticket, AdminResponse(problem))
            case .success(let result): signed = result
            }
            known(signed, asker.ticket) { [self] in
                // With what signs now, before anybody asks for a certificate by it.
                agent.control()
                return AdminResponse(
                    Acceptance(
                        "the new authority signs now; let every operator run `muster cert renew`, create new tokens for hosts that "
                            + "are still to join, and ask again when `muster cert list` shows that it signed every node's "
                            + "certificate"), status: asker.status)
            }
        }
    }

    /// Who would be locked out if it signed now: those that are connected hear of it in a moment, the others need somebody's hand.
    private func doubt(of next: Authority) -> Problem? {
        guard (agent.view.cluster?.level ?? 0) >= FeatureLevel.trustTold else { return nil }
        let doubters = agent.view.nodes.filter { $0.state != .removed && !$0.about.trusts.contains(next.fingerprint) }
        if doubters.isEmpty { return nil }
        let away = doubters.filter { !agent.isHeard($0.id) }
        let names = (away.isEmpty ? doubters : away).prefix(5).map(\.name).joined(separator: ", ")
        return away.isEmpty
            ? Problem(.unavailable, "\(names) will have heard of the new authority in a moment; ask again")
            : Problem(
                .notPossible,
                "\(names) would be locked out: not reached now, and without trust in the new authority; start the agent there and "
                    + "ask again, or remove the node with `muster node remove`")
    }

    private func abandon(_ next: Authority, _ asker: Asker) {
        agent.files.forgetAuthority(NodeFiles.nextAuthority)
        change(.distrustAuthority(fingerprint: next.fingerprint), asker, "the new authority is given up")
    }

    private func renew(_ wanted: CertificateRenewal, _ principal: Principal, _ ticket: Ticket) {
        func tell(_ made: Certificate?) {
            answer(
                ticket,
                AdminResponse(
                    RenewedCertificate(certificate: made?.der ?? [], authorities: agent.authorities.map(\.pem))))
        }
        if wanted.certificateRequest.isEmpty { return tell(nil) }
        let request: CertificateRequest
        do throws(TLSFailure) {
            request = try CertificateRequest(der: wanted.certificateRequest)
        } catch {
            return fail(ticket, .malformed, error.message)
        }
        switch principal {
        case .node(let node):
            agent.obtainCertificate(request, for: node) { [self] result in
                switch result {
                case .failure(let failure): fail(ticket, .unavailable, failure.description)
                case .success(let made): tell(made)
                }
            }
        case .operator(let name):
            guard let authority = agent.authority else {
                return fail(
                    ticket, .misdirected, "ask a node that votes in the root group; it holds the authority's key")
            }
            do throws(TLSFailure) {
                tell(
                    try authority.issue(
                        request, identity: .operator(cluster: cluster, name: name),
                        now: Int64(agent.wallTime.rawValue / 1_000)))
            } catch {
                fail(ticket, .malformed, error.message)
            }
        case .token, .anonymous:
            fail(ticket, .forbidden, "who asks with a token has no certificate; leave certificateRequest empty")
        }
    }

    private func recover(_ wanted: Recovery, _ asker: Asker) {
        let group = GroupID(UInt64(bitPattern: wanted.group))
        guard wanted.acceptsLoss else {
            return fail(
                asker.ticket, .notPossible,
                "what only the lost voters held is gone for good after this; say that you accept it with --accept-loss")
        }
        let last = agent.engine.inspect(group) { raft, _ in (raft.commit, raft.epoch, raft.leader?.node) }
        guard let (commit, epoch, leader) = last else {
            return fail(
                asker.ticket, .notFound, "this node has no replica of the group; ask one that has, the newest one")
        }
        if let leader {
            return fail(
                asker.ticket, .notPossible,
                "the group is led by node \(leader) and has not lost its quorum; nothing was changed")
        }
        agent.request(.forceRecovery(group)) { [self] outcome in
            guard case .accepted = outcome else { return answer(asker.ticket, AdminResponse(outcome)) }
            let record = RecoveryRecord(
                group: group, epoch: Epoch(epoch.rawValue + 1), possibleLossAfter: commit, reason: wanted.reason)
            agent.log.warning(
                "a group was taken out of a lost quorum by force",
                ["group": "\(group)", "by": asker.name, "reason": wanted.reason, "loss-after": "\(commit)"])
            agent.record(record, by: asker.name)
            // It is done, whether or not the root can note it now: nobody may take an answer for a reason to do it elsewhere too.
            answer(
                asker.ticket,
                AdminResponse(
                    Acceptance(
                        "the group goes on with this node alone; the root notes it as soon as it can: see `muster audit --root`"
                    ),
                    status: asker.status))
        }
    }
}
