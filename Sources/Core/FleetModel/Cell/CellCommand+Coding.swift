internal import BinaryCoding
import ClusterBase
internal import Schema

// A cell's commands, results and packs as bytes, as Proto/cell.proto describes them.

extension Cell {
    /// Joins encoded commands to one entry's payload, under the leader's clock; nil when it has none.
    package static func pack(
        _ commands: [[UInt8]], level: UInt32 = FeatureLevel.oldest, time: LogTime?
    ) -> [UInt8] {
        WireCellPack(version: level, commands: commands, time: time?.rawValue ?? 0).serialized()
    }

    static func unpack(
        _ bytes: [UInt8], knows: UInt32
    ) throws(StoreError) -> Result<(level: UInt32, commands: [[UInt8]], time: LogTime), CellRefusal> {
        // All replicas answer the same to what can't be read, and nobody sees more of it.
        guard let pack = try? WireCellPack(serialized: bytes) else { return .failure(.malformed) }
        guard let level = try FeatureLevel.check(UInt64(pack.version), knows: knows) else {
            return .failure(.unknownVersion(UInt64(pack.version)))
        }
        // A field that this version doesn't know could change what the commands mean.
        if pack.commands.isEmpty || !pack.unknownFields.isEmpty { return .failure(.malformed) }
        return .success((level, pack.commands, LogTime(pack.time)))
    }
}

extension CellCommand {
    package func encoded() -> [UInt8] { wire.serialized() }

    /// Reads one command. What is not exactly how this version would have written it is refused: a replica that skipped
    /// what another one understands would end in another state. What came after `level` is as unknown as it was then.
    package static func decode(
        _ bytes: [UInt8], level: UInt32 = FeatureLevel.newest
    ) -> Result<CellCommand, CellRefusal> {
        if bytes.count > CellLimits.commandBytesMax { return .failure(.tooMany(.commandBytes)) }
        // As above.
        guard let wire = try? WireCellCommand(serialized: bytes), let command = CellCommand(wire),
            command.encoded() == bytes, command.level <= level
        else { return .failure(.malformed) }
        return .success(command)
    }

    init?(_ wire: WireCellCommand) {
        guard let operation = wire.operation.flatMap(Operation.init) else { return nil }
        self.init(
            request: wire.request.isEmpty ? nil : wire.request, origin: wire.origin.map(CommandOrigin.init),
            by: wire.by,
            imagesAt: LogIndex(wire.imagesAt), isBounded: wire.isBounded, operation)
        generation = wire.generation == 0 ? nil : wire.generation
    }
    var wire: WireCellCommand {
        WireCellCommand(
            request: request ?? [], by: by, imagesAt: imagesAt.rawValue, origin: origin?.wire, isBounded: isBounded,
            generation: generation ?? 0, operation: operation.wire)
    }
}

extension CommandOrigin {
    init(_ wire: WireCommandOrigin) {
        self.init(
            session: Session(node: wire.node, mark: wire.mark), sequence: wire.sequence, settled: wire.settled,
            born: LogIndex(wire.born))
    }
    var wire: WireCommandOrigin {
        WireCommandOrigin(
            node: session.node, mark: session.mark, sequence: sequence, settled: settled, born: born.rawValue)
    }
}

extension CellCommand.Operation {
    /// Of settings that this program does not know it takes none.
    private static func settingsTaken(_ wire: WireCellCommand.TakeSettings) -> Self? {
        let groups = wire.groups.compactMap { CellGroup($0) }
        if groups.count != wire.groups.count { return nil }
        // hash order: looked up only
        var settings: [CellSetting: UInt64] = [:]
        for row in wire.settings.compactMap({ CellSettingValue($0) }) { settings[row.setting] = row.value }
        return .takeSettings(from: wire.from, plan: wire.plan, settings, groups: groups)
    }

    private init?(ofHost wire: WireCellCommand.Operation) {
        switch wire {
        case .careForHost(let wire):
            guard let care = HostCare(wire) else { return nil }
            self = .careForHost(HostID(wire.host), care)
        case .sendHost(let wire):
            guard let company = HostCompany(wire) else { return nil }
            self = .sendHost(
                HostID(wire.host), to: wire.to, assignment: wire.assignment, keepsNames: wire.keepsNames,
                company: company)
        case .advanceHost(let wire):
            guard let step = wire.next else { return nil }
            self = .advanceHost(wire.number, step)
        case .prepareHost(let wire):
            guard let part = HostPreparation(wire) else { return nil }
            self = .prepareHost(part)
        case .endHost(let wire):
            guard let ending = HostEnding(wire) else { return nil }
            self = .endHost(ending)
        case .confirmHost(let wire): self = .confirmHost(HostID(wire.host), from: wire.from, number: wire.number)
        default: return nil
        }
    }

    private static func slice(_ wire: WireCellCommand.SetSlice) -> Self {
        .setSlice(
            tenant: wire.tenant, revision: Revision(wire.revision), wire.quota.map { Quota($0) } ?? .unlimited,
            through: LogIndex(wire.through))
    }

    private init?(ofLoan wire: WireCellCommand.Operation) {
        switch wire {
        case .lendQuota(let wire): self = .lendQuota(tenant: wire.tenant, to: wire.to, QuotaShare(wire.share))
        case .takeQuota(let wire):
            self = .takeQuota(tenant: wire.tenant, from: wire.from, number: wire.number, QuotaShare(wire.share))
        case .settleLoan(let wire):
            self = .settleLoan(tenant: wire.tenant, to: wire.to, number: wire.number, isTaken: wire.isTaken)
        default: return nil
        }
    }

    init?(_ wire: WireCellCommand.Operation) {
        switch wire {
        case .registerHost(let wire):
            guard let about = wire.about.flatMap(HostDescription.init) else { return nil }
            self = .registerHost(
                HostID(wire.host), Incarnation(wire.incarnation), about,
                running: wire.running.map { RunningVM(VMID($0.vm), epoch: $0.epoch) }, assignment: wire.assignment)
        case .reportVMs(let wire):
            guard let reports = VMReport.all(wire.reports) else { return nil }
            self = .reportVMs(HostID(wire.host), Incarnation(wire.incarnation), reports)
        case .setHostDuty(let wire):
            guard let duty = CellHost.Duty(rawValue: wire.duty.rawValue) else { return nil }
            self = .setHostDuty(HostID(wire.host), duty)
        case .setHostPolicy(let wire):
            guard let policy = wire.policy.flatMap(HostPolicy.init) else { return nil }
            self = .setHostPolicy(HostID(wire.host), policy, generation: wire.generation, isEnforced: wire.enforce)
        case .removeHost(let wire): self = .removeHost(HostID(wire.host), isForced: wire.isForced)
        case .createVMs(let wire):
            guard let items = VMCreation.all(wire.items) else { return nil }
            self = .createVMs(items, isAtomic: wire.isAtomic)
        case .updateVM(let wire):
            guard let spec = wire.spec.flatMap(VMDescription.init) else { return nil }
            self = .updateVM(VMID(wire.vm), spec, generation: wire.generation)
        case .setPower(let wire):
            guard let power = CellVM.Power(rawValue: wire.power.rawValue) else { return nil }
            self = .setPower(VMID(wire.vm), power, generation: wire.generation)
        case .restartVM(let vm): self = .restartVM(VMID(vm))
        case .deleteVM(let wire): self = .deleteVM(VMID(wire.vm), generation: wire.generation)
        case .putGroup(let wire):
            guard let group = CellGroup(wire) else { return nil }
            self = .putGroup(group)
        case .deleteGroup(let wire): self = .deleteGroup(tenant: wire.tenant, name: wire.name)
        case .setSetting(let wire):
            guard let setting = CellSetting(rawValue: wire.setting) else { return nil }
            self = .setSetting(setting, wire.value)
        case .placeVMs(let wire):
            guard let items = Placing.all(wire.items) else { return nil }
            self = .placeVMs(items, isAtomic: wire.isAtomic)
        case .explainWaiting(let wire):
            self = .explainWaiting(wire.items.map { WaitingReason(VMID($0.vm), $0.text) })
        case .releaseVMs(let wire):
            guard let cause = Migration.Cause(rawValue: wire.cause.rawValue) else { return nil }
            self = .releaseVMs(
                wire.items.map { Release(VMID($0.vm), epoch: $0.epoch, reason: $0.reason) }, cause: cause)
        case .retryVM(let wire): self = .retryVM(VMID(wire.vm), epoch: wire.epoch)
        case .giveUpVM(let wire): self = .giveUpVM(VMID(wire.vm), epoch: wire.epoch)
        case .beginMigration(let wire):
            guard let target = wire.to.flatMap(Assignment.init),
                let cause = Migration.Cause(rawValue: wire.cause.rawValue), let intent = MoveIntent(ofMove: wire.intent)
            else { return nil }
            self = .beginMigration(VMID(wire.vm), from: wire.from, to: target, cause: cause, intent: intent)
        case .commitMigration(let wire): self = .commitMigration(VMID(wire.vm), target: wire.epoch)
        case .cancelMigration(let wire): self = .cancelMigration(VMID(wire.vm), target: wire.epoch)
        case .declareDown(let wire):
            self = .declareDown(HostID(wire.host), Incarnation(wire.incarnation), silence: wire.silenceMillis)
        case .finishDrain(let host): self = .finishDrain(HostID(host))
        case .setSlice(let wire): self = .slice(wire)
        case .returnSlice(let wire): self = .returnSlice(tenant: wire.tenant, revision: Revision(wire.revision))
        case .collectGarbage: self = .collectGarbage
        case .noteTime: self = .noteTime
        case .noteAdvice(let text): self = .noteAdvice(text)
        case .noteRisk(let wire):
            guard let kind = CellRisk.Kind(rawValue: wire.kind) else { return nil }
            self = .noteRisk(kind, isOver: wire.isOver, wire.text)
        case .releaseHost(let wire): self = .releaseHost(HostID(wire.host), assignment: wire.assignment)
        case .closeCell: self = .closeCell
        case .sendHost, .advanceHost, .prepareHost, .endHost, .confirmHost, .careForHost: self.init(ofHost: wire)
        case .takeSettings(let wire):
            guard let taken = Self.settingsTaken(wire) else { return nil }
            self = taken
        case .lendQuota, .takeQuota, .settleLoan: self.init(ofLoan: wire)
        case .moveVM(let wire):
            guard let cause = CellMove.Cause(rawValue: wire.cause.rawValue) else { return nil }
            self = .moveVM(
                VMID(wire.vm), to: wire.to, request: wire.request, keepsName: wire.keepsName,
                home: wire.home.map { CellVM.Home($0) }, cause: cause, isCold: wire.isCold)
        case .noteRegion(let wire): self = .noteRegion(CellRegion(wire))
        case .confirmMove(let wire): self = .confirmMove(VMID(wire.vm), from: wire.from, number: wire.number)
        case .advanceMove(let wire):
            guard let step = CellMove.Step(rawValue: wire.step.rawValue) else { return nil }
            self = .advanceMove(wire.number, step, reason: wire.reason, far: CellMove.FarEnd(wire, step))
        case .resealVM(let wire):
            self = .resealVM(VMID(wire.vm), wire.boxes.map { Resealed(key: $0.key, from: $0.from, to: $0.to) })
        case .releaseImage(let wire):
            self = .releaseImage(tenant: wire.tenant, name: wire.name, at: LogIndex(wire.at))
        case .dropRemains(let wire):
            self = .dropRemains(
                wire.left.map { CellRemains.Left(VMID($0.vm), $0.disks.map { CellRemains.Disk($0) }) })
        case .prepareArrival(let wire):
            guard let arrival = CellArrival(wire) else { return nil }
            self = .prepareArrival(arrival)
        case .endArrival(let wire):
            self = .endArrival(
                VMID(wire.vm), from: wire.from, number: wire.number, isCommitted: wire.isCommitted, epoch: wire.epoch,
                floor: wire.floor, downSince: LogTime(wire.downSince), sent: wire.sent)
        case .holdName(let wire):
            self = .holdName(
                tenant: wire.tenant, name: wire.name, cell: wire.cell, request: wire.request, replaces: wire.replaces)
        }
    }

    var wire: WireCellCommand.Operation {
        typealias Wire = WireCellCommand
        return switch self {
        case .registerHost(let host, let incarnation, let about, let running, let assignment):
            .registerHost(
                Wire.RegisterHost(
                    host: host.rawValue, incarnation: incarnation.rawValue, about: about.wire,
                    running: running.map { Wire.VmEpoch(vm: $0.vm.rawValue, epoch: $0.epoch) },
                    assignment: assignment))
        case .reportVMs(let host, let incarnation, let reports):
            .reportVMs(
                Wire.ReportVms(
                    host: host.rawValue, incarnation: incarnation.rawValue, reports: reports.map(\.wire)))
        case .setHostDuty(let host, let duty):
            .setHostDuty(Wire.SetHostDuty(host: host.rawValue, duty: WireHostDuty(rawValue: duty.rawValue)))
        case .setHostPolicy(let host, let policy, let generation, let isEnforced):
            .setHostPolicy(
                Wire.SetHostPolicy(
                    host: host.rawValue, policy: policy.wire, generation: generation, enforce: isEnforced))
        case .careForHost(let host, let care): .careForHost(care.wire(host))
        case .removeHost(let host, let isForced):
            .removeHost(Wire.RemoveHost(host: host.rawValue, isForced: isForced))
        case .createVMs(let items, let isAtomic):
            .createVMs(Wire.CreateVms(items: items.map(\.wire), isAtomic: isAtomic))
        case .updateVM(let vm, let spec, let generation):
            .updateVM(Wire.UpdateVm(vm: vm.rawValue, spec: spec.wire, generation: generation))
        case .setPower(let vm, let power, let generation):
            .setPower(
                Wire.SetPower(vm: vm.rawValue, power: WireVmPower(rawValue: power.rawValue), generation: generation))
        case .restartVM(let vm): .restartVM(vm.rawValue)
        case .deleteVM(let vm, let generation): .deleteVM(Wire.DeleteVm(vm: vm.rawValue, generation: generation))
        case .putGroup(let group): .putGroup(group.wire)
        case .deleteGroup(let tenant, let name): .deleteGroup(Wire.DeleteGroup(tenant: tenant, name: name))
        case .setSetting(let setting, let value): .setSetting(CellSettingValue(setting, value).wire)
        default: controllerWire
        }
    }

    private var controllerWire: WireCellCommand.Operation {
        typealias Wire = WireCellCommand
        return switch self {
        case .placeVMs(let items, let isAtomic):
            .placeVMs(Wire.PlaceVms(items: items.map(\.wire), isAtomic: isAtomic))
        case .explainWaiting(let items):
            .explainWaiting(
                Wire.ExplainWaiting(items: items.map { Wire.WaitingReason(vm: $0.vm.rawValue, text: $0.text) }))
        case .releaseVMs(let items, let cause):
            .releaseVMs(
                Wire.ReleaseVms(
                    items: items.map { Wire.Release(vm: $0.vm.rawValue, epoch: $0.epoch, reason: $0.reason) },
                    cause: WireMigrationCause(rawValue: cause.rawValue)))
        case .retryVM(let vm, let epoch): .retryVM(Wire.VmEpoch(vm: vm.rawValue, epoch: epoch))
        case .giveUpVM(let vm, let epoch): .giveUpVM(Wire.VmEpoch(vm: vm.rawValue, epoch: epoch))
        case .beginMigration(let vm, let from, let target, let cause, let intent):
            .beginMigration(
                Wire.BeginMigration(
                    vm: vm.rawValue, from: from, to: target.wire, cause: WireMigrationCause(rawValue: cause.rawValue),
                    intent: intent.ofMove))
        case .commitMigration(let vm, let target): .commitMigration(Wire.VmEpoch(vm: vm.rawValue, epoch: target))
        case .cancelMigration(let vm, let target): .cancelMigration(Wire.VmEpoch(vm: vm.rawValue, epoch: target))
        case .declareDown(let host, let incarnation, let silence):
            .declareDown(
                Wire.DeclareDown(
                    host: host.rawValue, incarnation: incarnation.rawValue, silenceMillis: silence))
        case .finishDrain(let host): .finishDrain(host.rawValue)
        case .setSlice(let tenant, let revision, let quota, let through):
            .setSlice(
                Wire.SetSlice(
                    tenant: tenant, revision: revision.rawValue, quota: quota.sparse, through: through.rawValue))
        case .returnSlice(let tenant, let revision):
            .returnSlice(Wire.ReturnSlice(tenant: tenant, revision: revision.rawValue))
        case .collectGarbage: .collectGarbage(Wire.CollectGarbage())
        case .releaseImage(let tenant, let name, let at):
            .releaseImage(Wire.ReleaseImage(tenant: tenant, name: name, at: at.rawValue))
        case .dropRemains(let items):
            .dropRemains(
                Wire.DropRemains(
                    left: items.map {
                        Wire.DropRemains.Left(vm: $0.vm.rawValue, disks: $0.disks.map(\.wire))
                    }))
        case .releaseHost(let host, let assignment):
            .releaseHost(Wire.ReleaseHost(host: host.rawValue, assignment: assignment))
        case .closeCell: .closeCell(Wire.CloseCell())
        case .sendHost(let host, let to, let assignment, let keepsNames, let company):
            .sendHost(
                Wire.SendHost(
                    host: host.rawValue, to: to, assignment: assignment, keepsNames: keepsNames, allGo: company.isAll,
                    going: company.hosts.map(\.rawValue), racksApart: company.racksApart,
                    zonesApart: company.zonesApart))
        case .takeSettings(let from, let plan, let settings, let groups):
            .takeSettings(
                Wire.TakeSettings(
                    from: from, plan: plan, settings: CellSettingValue.rows(of: settings).map(\.wire),
                    groups: groups.map(\.wire)))
        case .advanceHost(let number, let step): .advanceHost(Wire.AdvanceHost(number, step))
        case .prepareHost(let part): .prepareHost(part.wire)
        case .endHost(let ending): .endHost(ending.wire)
        case .confirmHost(let host, let from, let number):
            .confirmHost(Wire.ConfirmHost(from: from, number: number, host: host.rawValue))
        case .lendQuota(let tenant, let to, let share):
            .lendQuota(Wire.LendQuota(tenant: tenant, to: to, share: share.sparse))
        case .takeQuota(let tenant, let from, let number, let share):
            .takeQuota(Wire.TakeQuota(tenant: tenant, from: from, number: number, share: share.sparse))
        case .settleLoan(let tenant, let to, let number, let isTaken):
            .settleLoan(Wire.SettleLoan(tenant: tenant, to: to, number: number, isTaken: isTaken))
        case .holdName(let tenant, let name, let cell, let request, let replaces):
            .holdName(
                Wire.HoldName(tenant: tenant, name: name, cell: cell, request: request, replaces: replaces))
        case .moveVM(let vm, let cell, let request, let keepsName, let home, let cause, let isCold):
            .moveVM(
                Wire.MoveVm(
                    vm: vm.rawValue, to: cell, request: request, keepsName: keepsName, home: home?.wire,
                    cause: WireCellMoveCause(rawValue: cause.rawValue), isCold: isCold))
        case .noteRegion(let region): .noteRegion(region.wire)
        case .noteAdvice(let text): .noteAdvice(text)
        case .noteRisk(let kind, let isOver, let text):
            .noteRisk(WireCellCommand.NoteRisk(kind: kind.rawValue, isOver: isOver, text: text))
        case .confirmMove(let vm, let from, let number):
            .confirmMove(Wire.ConfirmMove(vm: vm.rawValue, from: from, number: number))
        case .advanceMove(let number, let step, let reason, let far):
            .advanceMove(
                Wire.AdvanceMove(
                    number: number, step: Wire.MoveStep(rawValue: step.rawValue), reason: reason,
                    host: far?.host.rawValue ?? 0, epoch: far?.epoch ?? 0))
        case .resealVM(let vm, let boxes):
            .resealVM(
                Wire.ResealVm(
                    vm: vm.rawValue, boxes: boxes.map { Wire.ResealVm.Box(key: $0.key, from: $0.from, to: $0.to) }))
        case .prepareArrival(let arrival): .prepareArrival(arrival.wire)
        case .endArrival(let vm, let cell, let number, let isCommitted, let epoch, let floor, let downSince, let sent):
            .endArrival(
                Wire.EndArrival(
                    from: cell, number: number, vm: vm.rawValue, isCommitted: isCommitted, epoch: epoch, floor: floor,
                    downSince: downSince.rawValue, sent: sent))
        default: .noteTime(Wire.CellNoteTime())
        }
    }
}

extension VMReport: CellMapped {
    init?(_ wire: WireCellCommand.VmReport) {
        guard let state = State(rawValue: wire.state.rawValue) else { return nil }
        self.init(
            VMID(wire.vm), epoch: wire.epoch, state, generation: wire.generation, progressMillis: wire.progressMillis,
            message: wire.message, isHostsFault: wire.isHostsFault)
    }
    var wire: WireCellCommand.VmReport {
        WireCellCommand.VmReport(
            vm: vm.rawValue, epoch: epoch, state: WireCellCommand.ReportState(rawValue: state.rawValue),
            generation: generation, progressMillis: progressMillis, message: message, isHostsFault: isHostsFault)
    }
}

extension VMCreation: CellMapped {
    init?(_ wire: WireCellCommand.Creation) {
        guard let spec = wire.spec.flatMap(VMDescription.init), let power = CellVM.Power(rawValue: wire.power.rawValue)
        else { return nil }
        self.init(name: wire.name, tenant: wire.tenant, spec: spec, power: power)
    }
    var wire: WireCellCommand.Creation {
        WireCellCommand.Creation(
            name: name, tenant: tenant, spec: spec.wire, power: WireVmPower(rawValue: power.rawValue))
    }
}

extension Placing: CellMapped {
    init?(_ wire: WireCellCommand.Placing) {
        guard let assignment = wire.assignment.flatMap(Assignment.init) else { return nil }
        self.init(VMID(wire.vm), generation: wire.generation, assignment)
    }
    var wire: WireCellCommand.Placing {
        WireCellCommand.Placing(vm: vm.rawValue, generation: generation, assignment: assignment.wire)
    }
}

extension CellRefusal: CellMapped {
    init?(_ wire: WireCellRefusal) {
        self.init(
            Stored(
                code: wire.code, number: wire.number, text: wire.text, detail: wire.detail, limit: wire.limit,
                used: wire.used, asked: wire.asked))
    }
    var wire: WireCellRefusal {
        let stored = stored
        return WireCellRefusal(
            code: stored.code, number: stored.number, text: stored.text, detail: stored.detail, limit: stored.limit,
            used: stored.used, asked: stored.asked)
    }
}

extension CellResult: CellCoded, CellMapped {
    init?(_ wire: WireCellResult) {
        let outcome: Outcome
        switch wire.outcome {
        case .done?: outcome = .done
        case .kept(let wire)?: outcome = .kept(CellMove.FarEnd(HostID(wire.host), epoch: wire.epoch))
        case .items(let wire)?:
            var items: [Item] = []
            items.reserveCapacity(wire.items.count)
            for item in wire.items {
                switch item.item {
                case .vm(let vm)?: items.append(.vm(VMID(vm)))
                case .refused(let wire)?:
                    guard let refusal = CellRefusal(wire) else { return nil }
                    items.append(.refused(refusal))
                case nil: return nil
                }
            }
            outcome = .items(items)
        case .refused(let wire)?:
            guard let refusal = CellRefusal(wire) else { return nil }
            outcome = .refused(refusal)
        case nil: return nil
        }
        self.init(revision: Revision(wire.revision), outcome: outcome)
    }
    var wire: WireCellResult {
        typealias Wire = WireCellResult
        let outcome: Wire.Outcome =
            switch self.outcome {
            case .done: .done(Wire.Done())
            case .kept(let far): .kept(Wire.Kept(host: far.host.rawValue, epoch: far.epoch))
            case .items(let items):
                .items(
                    Wire.Items(
                        items: items.map {
                            switch $0 {
                            case .vm(let vm): Wire.Item(item: .vm(vm.rawValue))
                            case .refused(let refusal): Wire.Item(item: .refused(refusal.wire))
                            }
                        }))
            case .refused(let refusal): .refused(refusal.wire)
            }
        return Wire(revision: revision.rawValue, outcome: outcome)
    }
}
