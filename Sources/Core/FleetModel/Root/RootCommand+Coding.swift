internal import BinaryCoding
import ClusterBase
internal import Schema

// The root's commands, results and packs as bytes, as Proto/root.proto describes them.

extension Root {
    /// Joins encoded commands to one entry's payload, under the leader's clock; nil when it has none.
    package static func pack(
        _ commands: [[UInt8]], level: UInt32 = FeatureLevel.oldest, time: LogTime?
    ) -> [UInt8] {
        WireRootPack(version: level, commands: commands, time: time?.rawValue ?? 0).serialized()
    }

    static func unpack(
        _ bytes: [UInt8], knows: UInt32
    ) throws(StoreError) -> Result<(level: UInt32, commands: [[UInt8]], time: LogTime), RootRefusal> {
        // All replicas answer the same to what can't be read, and nobody sees more of it.
        guard let pack = try? WireRootPack(serialized: bytes) else { return .failure(.malformed) }
        guard let level = try FeatureLevel.check(UInt64(pack.version), knows: knows) else {
            return .failure(.unknownVersion(UInt64(pack.version)))
        }
        // A field that this version doesn't know could change what the commands mean.
        if pack.commands.isEmpty || !pack.unknownFields.isEmpty { return .failure(.malformed) }
        return .success((level, pack.commands, LogTime(pack.time)))
    }
}

extension RootCommand {
    package func encoded() -> [UInt8] { wire.serialized() }

    /// Reads one command. What is not exactly how this version would have written it is refused: a replica that skipped
    /// what another one understands would end in another state. What came after `level` is as unknown as it was then.
    package static func decode(
        _ bytes: [UInt8], level: UInt32 = FeatureLevel.newest
    ) -> Result<RootCommand, RootRefusal> {
        if bytes.count > RootLimits.commandBytesMax { return .failure(.tooMany(.commandBytes)) }
        // As above.
        guard let wire = try? WireRootCommand(serialized: bytes), let command = RootCommand(wire),
            command.encoded() == bytes, command.level <= level
        else { return .failure(.malformed) }
        return .success(command)
    }
}

extension RootCommand: RootMapped {
    init?(_ wire: WireRootCommand) {
        guard let operation = wire.operation.flatMap(Operation.init) else { return nil }
        self.init(
            request: wire.request.isEmpty ? nil : wire.request, origin: wire.origin.map(CommandOrigin.init),
            by: wire.by,
            operation)
    }
    var wire: WireRootCommand {
        WireRootCommand(request: request ?? [], by: by, origin: origin?.wire, operation: operation.wire)
    }
}

extension RootCommand.Operation {
    private static func declaration(_ wire: WireRootCommand.DeclareRegion) -> Self {
        .declareRegion(name: wire.name, isLost: wire.isLost, epoch: wire.epoch, isAutomatic: wire.isAutomatic)
    }

    private static func ofPlaces(_ wire: WireRootCommand.Operation) -> Self? {
        switch wire {
        case .moveHost(let wire):
            guard let step = RootCommand.MoveStep(rawValue: wire.step.rawValue) else { return nil }
            return .moveHost(
                NodeID(wire.node), to: GroupID(wire.to), epoch: wire.epoch, step, vms: wire.vms, reason: wire.reason)
        case .planHosts(let wire): return HostsPlan.Wish(wire).map { .planHosts(cell: wire.cell, $0) }
        case .noteHosts(let wire):
            return .noteHosts(cell: wire.cell, number: wire.number, NodeID(wire.node), reason: wire.reason)
        case .reportLatencies(let wire):
            return .reportLatencies(
                NodeID(wire.node), wire.roundTrips.map { RegionRoundTrip($0.region, micros: $0.micros) })
        case .setLatency(let wire): return .setLatency(wire.region, wire.other, micros: wire.micros)
        default: return nil
        }
    }

    private static func plan(_ wire: WireRootCommand.PlanRegion) -> Self? {
        guard let step = RegionPlan.Step(rawValue: wire.step.rawValue) else { return nil }
        if wire.returns.rawValue == 0 { return .planRegion(name: wire.name, step, returns: nil, epoch: wire.epoch) }
        guard let returns = RegionPlan.Returns(rawValue: wire.returns.rawValue) else { return nil }
        return .planRegion(name: wire.name, step, returns: returns, epoch: wire.epoch)
    }
}

extension RootCommand.Operation {
    init?(_ wire: WireRootCommand.Operation) {
        switch wire {
        case .found(let wire):
            guard let node = wire.node.flatMap(NodeDescription.init),
                let certificate = wire.certificate.flatMap(NodeCertificate.init),
                let authority = wire.authority.flatMap(Authority.init),
                let administrator = wire.administrator.flatMap(FleetModel.Operator.init)
            else { return nil }
            self = .found(
                RootCommand.Founding(
                    cluster: wire.cluster, name: wire.name, node: node, certificate: certificate, authority: authority,
                    administrator: administrator))
        case .createToken(let wire):
            self = .createToken(hash: wire.secretHash, note: wire.note, lifetime: wire.lifetime, uses: wire.uses)
        case .revokeToken(let hash): self = .revokeToken(hash: hash)
        case .joinNode(let wire):
            guard let about = wire.about.flatMap(NodeDescription.init) else { return nil }
            self = .joinNode(token: wire.token, about)
        case .reportNode(let wire):
            guard let about = wire.about.flatMap(NodeDescription.init) else { return nil }
            self = .reportNode(NodeID(wire.node), about)
        case .certifyNode(let wire):
            guard let certificate = wire.certificate.flatMap(NodeCertificate.init) else { return nil }
            self = .certifyNode(NodeID(wire.node), certificate)
        case .arrangeNode(let wire):
            guard let voting = RootNode.VotingWish(rawValue: wire.voting.rawValue) else { return nil }
            self = .arrangeNode(NodeID(wire.node), voting: voting, isDraining: wire.isDraining)
        case .removeNode(let wire): self = .removeNode(NodeID(wire.node), isForced: wire.isForced)
        case .trustAuthority(let wire):
            self = .trustAuthority(fingerprint: wire.fingerprint, certificate: wire.certificate)
        case .signWithAuthority(let fingerprint): self = .signWithAuthority(fingerprint: fingerprint)
        case .distrustAuthority(let fingerprint): self = .distrustAuthority(fingerprint: fingerprint)
        case .createSpace(let wire): self = .createSpace(name: wire.name, replicas: wire.replicas)
        case .deleteSpace(let name): self = .deleteSpace(name: name)
        case .deleteSpaceOf(let wire): self = .deleteSpace(name: wire.name, group: GroupID(wire.group))
        case .foundGroup(let wire): self = .foundGroup(GroupID(wire.group), nodes: wire.nodes.map { NodeID($0) })
        case .changePlacement(let wire):
            guard let changes = PlacementChange.all(wire.changes) else { return nil }
            self = .changePlacement(GroupID(wire.group), revision: Revision(wire.revision), changes)
        case .reportReplicas(let wire):
            self = .reportReplicas(
                NodeID(wire.node), made: wire.made.map { HeldReplica($0) }, lost: wire.lost.map { HeldReplica($0) })
        case .reportGroup(let wire):
            self = .reportGroup(GroupID(wire.group), Epoch(wire.epoch), gone: wire.gone.map { ReplicaID($0) })
        case .changeSetting(let wire):
            guard let setting = RootSetting(rawValue: wire.setting) else { return nil }
            self = .changeSetting(setting, wire.value)
        case .addOperator(let wire):
            guard let added = FleetModel.Operator(wire) else { return nil }
            self = .addOperator(added)
        case .removeOperator(let name): self = .removeOperator(name: name)
        case .finalizeLevel(let level): self = .finalizeLevel(level)
        case .setBackup(let wire):
            guard let schedule = BackupSchedule(wire) else { return nil }
            self = .setBackup(schedule)
        case .removeBackup(let name): self = .removeBackup(name: name)
        case .noteBackup(let wire):
            self = .noteBackup(name: wire.name, succeeded: wire.succeeded, outcome: wire.outcome)
        case .recordRecovery(let wire):
            guard let record = RecoveryRecord(wire) else { return nil }
            self = .recordRecovery(record)
        case .noteTime: self = .noteTime
        case .createCell(let wire):
            let survives = RootCell.Survival(rawValue: wire.survives.rawValue)
            if survives == nil && wire.survives.rawValue != 0 { return nil }
            self = .createCell(name: wire.name, replicas: wire.replicas, region: wire.region, survives: survives)
        case .createTenant(let wire):
            self = .createTenant(name: wire.name, wire.quota.map { Quota($0) } ?? .unlimited, tier: wire.tier)
        case .setTenant(let wire):
            self = .setTenant(name: wire.name, wire.quota.map { Quota($0) } ?? .unlimited, tier: wire.tier)
        case .deleteTenant(let name): self = .deleteTenant(name: name)
        case .moveHost, .planHosts, .noteHosts, .reportLatencies, .setLatency:
            guard let found = Self.ofPlaces(wire) else { return nil }
            self = found
        case .retireCell(let name): self = .retireCell(name: name)
        case .reportCell(let wire):
            guard let report = CellReport(wire) else { return nil }
            self = .reportCell(report)
        case .nameSealingKey(let hash): self = .nameSealingKey(hash)
        case .noteForbidden(let wire): self = .noteForbidden(action: wire.action, omitted: wire.omitted)
        case .declareRegion(let wire): self = Self.declaration(wire)
        case .planRegion(let wire):
            guard let planned = Self.plan(wire) else { return nil }
            self = planned
        case .markDomain(let wire): self = .markDomain(name: wire.name, mark: wire.mark, before: wire.before)
        case .rotateSealingKey(let wire):
            guard let step = RootCommand.SealingStep(rawValue: wire.step.rawValue) else { return nil }
            self = .rotateSealingKey(step, wire.key)
        case .addImage(let wire):
            guard let image = RootImage(wire) else { return nil }
            self = .addImage(image)
        case .holdImage(let wire):
            self = .holdImage(
                tenant: wire.tenant, name: wire.name, sha256: wire.sha256, NodeID(wire.node), isHeld: wire.isHeld)
        case .removeImage(let wire):
            guard let step = RootImage.Removal(rawValue: wire.step.rawValue) else { return nil }
            self = .removeImage(tenant: wire.tenant, name: wire.name, step, removal: wire.removal)
        }
    }

    var wire: WireRootCommand.Operation {
        typealias Wire = WireRootCommand
        return switch self {
        case .found(let founding):
            .found(
                Wire.Found(
                    cluster: founding.cluster, name: founding.name, node: founding.node.wire,
                    certificate: founding.certificate.wire, authority: founding.authority.wire,
                    administrator: founding.administrator.wire))
        case .createToken(let hash, let note, let lifetime, let uses):
            .createToken(Wire.CreateToken(secretHash: hash, note: note, lifetime: lifetime, uses: uses))
        case .revokeToken(let hash): .revokeToken(hash)
        case .joinNode(let token, let about): .joinNode(Wire.JoinNode(token: token, about: about.wire))
        case .reportNode(let node, let about): .reportNode(Wire.ReportNode(node: node.rawValue, about: about.wire))
        case .certifyNode(let node, let certificate):
            .certifyNode(Wire.CertifyNode(node: node.rawValue, certificate: certificate.wire))
        case .arrangeNode(let node, let voting, let isDraining):
            .arrangeNode(
                Wire.ArrangeNode(
                    node: node.rawValue, voting: WireVotingWish(rawValue: voting.rawValue), isDraining: isDraining))
        case .removeNode(let node, let isForced):
            .removeNode(Wire.RemoveNode(node: node.rawValue, isForced: isForced))
        case .trustAuthority(let fingerprint, let certificate):
            .trustAuthority(WireAuthority(fingerprint: fingerprint, certificate: certificate))
        case .signWithAuthority(let fingerprint): .signWithAuthority(fingerprint)
        case .distrustAuthority(let fingerprint): .distrustAuthority(fingerprint)
        case .createSpace(let name, let replicas): .createSpace(Wire.CreateSpace(name: name, replicas: replicas))
        case .deleteSpace(let name, nil): .deleteSpace(name)
        case .deleteSpace(let name, let group?):
            .deleteSpaceOf(Wire.DeleteSpaceOf(name: name, group: group.rawValue))
        case .foundGroup(let group, let nodes):
            .foundGroup(Wire.FoundGroup(group: group.rawValue, nodes: nodes.map(\.rawValue)))
        case .changePlacement(let group, let revision, let changes):
            .changePlacement(
                Wire.ChangePlacement(
                    group: group.rawValue, revision: revision.rawValue, changes: changes.map(\.wire)))
        case .reportReplicas(let node, let made, let lost):
            .reportReplicas(
                Wire.ReportReplicas(node: node.rawValue, made: made.map(\.wire), lost: lost.map(\.wire)))
        case .reportGroup(let group, let epoch, let gone):
            .reportGroup(
                Wire.ReportGroup(group: group.rawValue, epoch: epoch.rawValue, gone: gone.map(\.rawValue)))
        case .changeSetting(let setting, let value): .changeSetting(RootSettingValue(setting, value).wire)
        case .addOperator(let added): .addOperator(added.wire)
        case .removeOperator(let name): .removeOperator(name)
        case .finalizeLevel(let level): .finalizeLevel(level)
        case .setBackup(let schedule): .setBackup(schedule.wire)
        case .removeBackup(let name): .removeBackup(name)
        case .noteBackup(let name, let succeeded, let outcome):
            .noteBackup(Wire.NoteBackup(name: name, succeeded: succeeded, outcome: outcome))
        case .recordRecovery(let record): .recordRecovery(record.wire)
        case .noteTime: .noteTime(Wire.NoteTime())
        case .createCell(let name, let replicas, let region, let survives):
            .createCell(
                Wire.CreateCell(
                    name: name, replicas: replicas, region: region,
                    survives: WireCellSurvival(rawValue: survives?.rawValue ?? 0)))
        case .createTenant(let name, let quota, let tier):
            .createTenant(Wire.PutTenant(name: name, quota: quota.sparse, tier: tier))
        case .setTenant(let name, let quota, let tier):
            .setTenant(Wire.PutTenant(name: name, quota: quota.sparse, tier: tier))
        case .deleteTenant(let name): .deleteTenant(name)
        case .moveHost(let node, let to, let epoch, let step, let vms, let reason):
            .moveHost(
                Wire.MoveHost(
                    node: node.rawValue, to: to.rawValue, epoch: epoch, step: Wire.MoveStep(rawValue: step.rawValue),
                    vms: vms, reason: reason))
        case .planHosts(let cell, let wish): .planHosts(wish.wire(cell))
        case .noteHosts(let cell, let number, let node, let reason):
            .noteHosts(Wire.NoteHosts(cell: cell, number: number, node: node.rawValue, reason: reason))
        case .retireCell(let name): .retireCell(name)
        case .reportCell(let report): .reportCell(report.wire)
        case .nameSealingKey(let hash): .nameSealingKey(hash)
        case .noteForbidden(let action, let omitted):
            .noteForbidden(Wire.NoteForbidden(action: action, omitted: omitted))
        case .declareRegion(let name, let isLost, let epoch, let isAutomatic):
            .declareRegion(Wire.DeclareRegion(name: name, isLost: isLost, epoch: epoch, isAutomatic: isAutomatic))
        case .planRegion(let name, let step, let returns, let epoch):
            .planRegion(
                Wire.PlanRegion(
                    name: name, step: WireRegionPlanStep(rawValue: step.rawValue),
                    returns: WireRegionPlanReturns(rawValue: returns?.rawValue ?? 0), epoch: epoch))
        case .reportLatencies(let node, let found):
            .reportLatencies(
                Wire.ReportLatencies(
                    node: node.rawValue,
                    roundTrips: found.map { Wire.ReportLatencies.RoundTrip(region: $0.region, micros: $0.micros) }))
        case .setLatency(let a, let b, let micros): .setLatency(Wire.SetLatency(region: a, other: b, micros: micros))
        case .markDomain(let name, let mark, let before):
            .markDomain(Wire.MarkDomain(name: name, mark: mark, before: before))
        case .rotateSealingKey(let step, let hash):
            .rotateSealingKey(
                Wire.RotateSealingKey(step: Wire.RotateSealingKey.Step(rawValue: step.rawValue), key: hash))
        case .addImage(let image): .addImage(image.wire)
        case .holdImage(let tenant, let name, let sha256, let node, let isHeld):
            .holdImage(
                Wire.HoldImage(tenant: tenant, name: name, sha256: sha256, node: node.rawValue, isHeld: isHeld))
        case .removeImage(let tenant, let name, let step, let removal):
            .removeImage(
                Wire.RemoveImage(
                    tenant: tenant, name: name, step: Wire.RemoveImage.Step(rawValue: step.rawValue), removal: removal))
        }
    }
}

extension PlacementChange: RootMapped {
    init?(_ wire: WireRootCommand.PlacementChange) {
        switch wire.change {
        case .add(let add)?:
            guard let part = PlacedReplica.Part(rawValue: add.part.rawValue) else { return nil }
            self = .add(NodeID(add.node), part)
        case .setPart(let set)?:
            guard let part = PlacedReplica.Part(rawValue: set.part.rawValue) else { return nil }
            self = .setPart(ReplicaID(set.replica), part)
        case .leave(let replica)?: self = .leave(ReplicaID(replica))
        case nil: return nil
        }
    }
    var wire: WireRootCommand.PlacementChange {
        typealias Wire = WireRootCommand.PlacementChange
        return switch self {
        case .add(let node, let part):
            Wire(change: .add(Wire.Add(node: node.rawValue, part: WireReplicaPart(rawValue: part.rawValue))))
        case .setPart(let replica, let part):
            Wire(
                change: .setPart(
                    Wire.SetPart(replica: replica.rawValue, part: WireReplicaPart(rawValue: part.rawValue))))
        case .leave(let replica): Wire(change: .leave(replica.rawValue))
        }
    }
}

extension HostsPlan.Wish {
    init?(_ wire: WireRootCommand.PlanHosts) {
        guard let step = HostsPlan.Step(rawValue: wire.step.rawValue) else { return nil }
        self.init(step)
        number = wire.number
        into = wire.into
        nodes = wire.nodes.map { NodeID($0) }
        retires = wire.retires
        isAutomatic = wire.isAutomatic
    }
    func wire(_ cell: String) -> WireRootCommand.PlanHosts {
        WireRootCommand.PlanHosts(
            cell: cell, step: WireHostsPlanStep(rawValue: step.rawValue), number: number, into: into,
            nodes: nodes.map(\.rawValue), retires: retires, isAutomatic: isAutomatic)
    }
}

extension HeldReplica {
    init(_ wire: WireRootCommand.HeldReplica) { self.init(GroupID(wire.group), ReplicaID(wire.replica)) }
    var wire: WireRootCommand.HeldReplica {
        WireRootCommand.HeldReplica(group: group.rawValue, replica: replica.rawValue)
    }
}

extension RootRefusal: RootMapped {
    init?(_ wire: WireRootRefusal) { self.init(code: wire.code, number: wire.number, text: wire.text) }
    var wire: WireRootRefusal {
        let (code, number, text) = stored
        return WireRootRefusal(code: code, number: number, text: text)
    }
}

extension RootResult: RootCoded, RootMapped {
    init?(_ wire: WireRootResult) {
        let outcome: Outcome
        switch wire.outcome {
        case .done?: outcome = .done
        case .node(let node)?: outcome = .node(NodeID(node))
        case .group(let group)?: outcome = .group(GroupID(group))
        case .refused(let wire)?:
            guard let refusal = RootRefusal(wire) else { return nil }
            outcome = .refused(refusal)
        case nil: return nil
        }
        self.init(revision: Revision(wire.revision), outcome: outcome)
    }
    var wire: WireRootResult {
        let outcome: WireRootResult.Outcome =
            switch self.outcome {
            case .done: .done(WireRootResult.Done())
            case .node(let node): .node(node.rawValue)
            case .group(let group): .group(group.rawValue)
            case .refused(let refusal): .refused(refusal.wire)
            }
        return WireRootResult(revision: revision.rawValue, outcome: outcome)
    }
}
