internal import BinaryCoding
package import ClusterBase
internal import Schema

/// The replicated state machine of a cell: its hosts, the VMs with their places and permissions to run, placement groups,
/// and what tenants were lent.
///
///     pack at index ──▶ time goes on ──▶ command in slot 0, 1, … ──▶ came before: known result? ──(yes)──▶ that result
///                                                                        │ no
///                                                                        ▼
///             judge against the state at this index: capacity, quota, hard rules, epochs ──▶ refused, nothing changed
///                                                                        │ allowed
///                                                                        ▼
///              VM rows change, and with them hosts, indexes, slices; once per entry: host rows, events, history
///
/// Everything follows from the state and the log alone, so all replicas agree; the only time is the one in the log.
package enum Cell {
    /// Applies one entry's pack and returns one result per command, in order; a pack that can't be read has one, a refusal.
    /// The access must be a value: a command that is all or nothing works on a copy.
    ///
    /// Throws when the state can't be read, and for a pack of a level above what the program `knows`; then nothing of the
    /// pack may become durable.
    package static func apply<Access: StateAccess>(
        pack: [UInt8], index: LogIndex, group: GroupID = GroupID(.cell, number: 1),
        knows: UInt32 = FeatureLevel.newest, access: inout Access
    ) throws(StoreError) -> [CellResult] {
        var step = try CellStep(index, group.number, access)
        var results: [CellResult] = []
        switch try unpack(pack, knows: knows) {
        case .failure(let refusal):
            results.append(CellResult(revision: Revision(index: index, slot: 0), outcome: .refused(refusal)))
        case .success(let (level, commands, time)):
            step.level = level
            step.advance(to: time)
            if commands.count > SpaceLimits.packCommandsMax {
                results.append(CellResult(revision: Revision(index: index, slot: 0), outcome: .refused(.malformed)))
                break
            }
            for (slot, bytes) in commands.enumerated() {
                results.append(try step.apply(bytes, Revision(index: index, slot: slot)))
            }
        }
        try step.finish()
        access = step.access
        return results
    }
}

/// The work on one entry. It owns the access while it lasts.
struct CellStep<Access: StateAccess> {
    let index: LogIndex
    /// Of the cell: the upper bits of its VMs' ids.
    let number: UInt64
    var access: Access
    var summary: CellSummary
    var revision = Revision.zero
    var by = ""
    /// The command's, if it has one.
    var request: [UInt8] = []
    /// The command's: up to where its sender knew the root's images.
    var imagesAt = LogIndex.zero
    /// The command's: its sender is held to the priorities of tenants.
    var isBounded = false
    /// The command's: of the VM or the host that it is about.
    var generation: UInt64?
    /// Somebody asked for the command: what it does is part of the audit.
    var isAudit = false
    /// Of the entry: what came later means nothing in it.
    var level = FeatureLevel.oldest

    // hash order: looked up, and written by sorted keys
    var hosts: [HostID: Cached<CellHost>] = [:]
    // hash order: looked up, and written by sorted keys
    var slices: [String: Cached<TenantSlice>] = [:]
    // hash order: looked up, and written by sorted keys
    var groups: [PlacementGroupID: Cached<CellGroup>] = [:]
    /// Ids of groups by tenant and name, as far as they were looked up.
    // hash order: looked up only
    var groupIDs: [[UInt8]: PlacementGroupID] = [:]
    /// The command's: groups that came along, and may have lost their last member.
    var emptied: [PlacementGroupID] = []
    /// Domains with members of groups whose rule needs them all, as far as they were looked up.
    // hash order: looked up, or read by sorted keys
    var domains: [PlacementGroupID: [[UInt8]: UInt64]] = [:]

    /// Of what is kept free for losses.
    var reserve = ReserveWork()
    /// Of the processes that send commands.
    var sessions: SessionBook
    var changedVMs: [UInt64] = []
    var changedSettings: [UInt32] = []
    var events: [WireCellEvent] = []

    init(_ index: LogIndex, _ number: UInt64, _ access: Access) throws(StoreError) {
        self.index = index
        self.number = number
        self.access = access
        sessions = SessionBook(CellKey.sessionKinds, index)
        summary = try CellSummary.read(access)
    }

    #if MUTANTS
    func mutated(_ mutant: FleetMutant) -> Bool { access.mutant == mutant }
    #else
    @inline(__always) func mutated(_: FleetMutant) -> Bool { false }
    #endif

    var time: LogTime { summary.time }

    mutating func advance(to time: LogTime) { summary.time = max(summary.time, time) }

    mutating func apply(_ bytes: [UInt8], _ revision: Revision) throws(StoreError) -> CellResult {
        self.revision = revision
        switch CellCommand.decode(bytes, level: level) {
        case .failure(let refusal): return CellResult(revision: revision, outcome: .refused(refusal))
        case .success(let command): return try apply(command)
        }
    }

    mutating func execute(_ operation: CellCommand.Operation) throws(StoreError) -> CellResult {
        let outcome: CellResult.Outcome =
            if let refusal = try refusal(ofGeneration: operation) {
                .refused(refusal)
            } else if let refusal = try refusal(ofLeaving: operation) {
                .refused(refusal)
            } else if summary.reserve != nil && operation.isJudgedByReserve {
                try judgedByReserve { step throws(StoreError) in try step.outcome(of: operation) }
            } else { try self.outcome(of: operation) }
        if !emptied.isEmpty { try removeEmptied() }
        if isAudit { try noteRefusal(of: operation, outcome) }
        return CellResult(revision: revision, outcome: outcome)
    }

    /// Whoever looked at another generation than there is now decided on something else.
    private mutating func refusal(ofGeneration operation: CellCommand.Operation) throws(StoreError) -> CellRefusal? {
        guard let generation else { return nil }
        if !operation.isJudgedByGeneration {
            return .invalid(field: "generation", "no generation is asked for with this; leave it out")
        }
        let now: UInt64?
        switch operation {
        case .restartVM(let id), .beginMigration(let id, _, _, _, _), .cancelMigration(let id, _),
            .moveVM(let id, _, _, _, _, _, _):
            now = try vm(id)?.generation
        case .advanceMove(let number, _, _, _):
            let move = try access.record(CellMove.self, CellTable.moves.key(number))
            now = try move.flatMap { (move) throws(StoreError) in try vm(move.vm) }?.generation
        case .setHostDuty(let id, _), .removeHost(let id, _), .careForHost(let id, _): now = try host(id)?.generation
        default: now = nil
        }
        // What is not there has its own refusal.
        return now == nil || now == generation ? nil : now.map { .generationChanged($0) }
    }

    private mutating func outcome(of operation: CellCommand.Operation) throws(StoreError) -> CellResult.Outcome {
        switch operation {
        case .registerHost(let host, let incarnation, let about, let running, let assignment):
            return try register(host, incarnation, about, running, assignment)
        case .reportVMs(let host, let incarnation, let reports): return try report(host, incarnation, reports)
        case .setHostDuty(let host, let duty): return try setDuty(host, duty)
        case .setHostPolicy(let host, let policy, let generation, let isEnforced):
            return try setPolicy(host, policy, generation, isEnforced: isEnforced)
        case .careForHost(let host, let care): return try self.care(host, care)
        case .removeHost(let host, let isForced): return try removeHost(host, isForced)
        case .createVMs(let items, let isAtomic): return try create(items, isAtomic)
        case .updateVM(let vm, let spec, let generation): return try update(vm, spec, generation)
        case .setPower(let vm, let power, let generation): return try setPower(vm, power, generation)
        case .restartVM(let vm): return try restart(vm)
        case .deleteVM(let vm, let generation): return try delete(vm, generation)
        case .putGroup(let group): return try putGroup(group)
        case .deleteGroup(let tenant, let name): return try deleteGroup(tenant, name)
        case .setSetting(let setting, let value): return try set(setting, value)
        case .placeVMs(let items, let isAtomic): return try place(items, isAtomic)
        case .explainWaiting(let items): return try explain(items)
        case .releaseVMs(let items, let cause): return try release(items, cause)
        case .retryVM(let vm, let epoch): return try retry(vm, epoch)
        case .giveUpVM(let vm, let epoch): return try giveUp(vm, epoch)
        case .beginMigration(let vm, let from, let target, let cause, let intent):
            return try beginMigration(vm, from, target, cause, intent)
        case .commitMigration(let vm, let target): return try commitMigration(vm, target)
        case .cancelMigration(let vm, let target): return try cancelMigration(vm, target)
        case .declareDown(let host, let incarnation, let silence):
            return try declareDown(host, incarnation, silence: silence)
        case .finishDrain(let host): return try finishDrain(host)
        case .setSlice(let tenant, let revision, let quota, let through):
            return try setSlice(tenant, revision, quota, through)
        case .returnSlice(let tenant, let revision): return try returnSlice(tenant, revision)
        case .collectGarbage: return try collectGarbage()
        case .noteTime: return .done
        case .noteAdvice(let text): return noteAdvice(text)
        case .noteRisk(let kind, let isOver, let text): return noteRisk(kind, isOver: isOver, text)
        case .releaseImage(let tenant, let name, let at): return try releaseImage(tenant, name, at: at)
        case .dropRemains(let items): return try dropRemains(items)
        case .releaseHost(let host, let assignment): return try releaseHost(host, assignment)
        case .sendHost(let host, let cell, let assignment, let keepsNames, let company):
            return try sendHost(host, to: cell, assignment, keepsNames: keepsNames, company)
        case .takeSettings(let from, let plan, let settings, let groups):
            return try takeSettings(from, plan, settings, groups)
        case .advanceHost(let number, let step): return try advanceHost(number, step)
        case .prepareHost(let part): return try prepareHost(part)
        case .endHost(let ending): return try endHost(ending)
        case .confirmHost(let host, let from, let number): return try confirmHost(host, from: from, number)
        case .closeCell: return try closeCell()
        case .lendQuota(let tenant, let to, let share): return try lendQuota(tenant, to: to, share)
        case .takeQuota(let tenant, let from, let number, let share):
            return try takeQuota(tenant, QuotaReceipt(from: from, number: number), share)
        case .settleLoan(let tenant, let to, let number, let isTaken):
            return try settleLoan(tenant, to: to, number, isTaken)
        case .moveVM(let vm, let cell, let request, let keepsName, let home, let cause, let isCold):
            return try moveVM(vm, to: cell, request, keepsName: keepsName, home, cause, isCold: isCold)
        case .noteRegion(let region): return noteRegion(region)
        case .confirmMove(let vm, let from, let number): return try confirmMove(vm, from: from, number)
        case .resealVM(let vm, let boxes): return try reseal(vm, boxes)
        case .advanceMove(let number, let step, let reason, let far):
            return try advanceMove(number, step, reason, far)
        case .prepareArrival(let arrival): return try prepareArrival(arrival)
        case .endArrival(let vm, let cell, let number, let isCommitted, let epoch, let floor, let downSince, let sent):
            return try endArrival(
                vm, from: cell, number, isCommitted: isCommitted, epoch, floor: floor, downSince, sent: sent)
        case .holdName(let tenant, let name, let cell, let request, let replaces):
            return try holdName(tenant, name, NameHold(cell: cell, request: request, at: time), replaces: replaces)
        }
    }

    /// Does the items one by one: each alone, or none when one is refused.
    mutating func each<Item>(
        _ items: [Item], isAtomic: Bool,
        _ body: (inout CellStep, Item) throws(StoreError) -> Result<VMID, CellRefusal>
    ) throws(StoreError) -> CellResult.Outcome {
        if items.isEmpty { return .refused(.invalid(field: "items", "name at least one")) }
        if items.count > CellLimits.itemsMax { return .refused(.tooMany(.items)) }
        let before = isAtomic ? self : nil
        var results: [CellResult.Item] = []
        results.reserveCapacity(items.count)
        for item in items {
            switch try body(&self, item) {
            case .success(let vm): results.append(.vm(vm))
            case .failure(let refusal):
                if let before {
                    let at = results.count
                    self = before
                    var none = [CellResult.Item](repeating: .refused(.anotherItem), count: items.count)
                    none[at] = .refused(refusal)
                    return .items(none)
                }
                results.append(.refused(refusal))
            }
        }
        return .items(results)
    }

    // MARK: The end of the entry

    /// Writes what belongs to the entry as a whole.
    mutating func finish() throws(StoreError) {
        summary.applied = index
        try markMore()
        try writeReserve()
        var history = WireCellHistory()
        writeHosts(&history)
        writeGroups(&history)
        writeSlices(&history)
        changedVMs.sort()
        for vm in changedVMs where history.vms.last != vm { history.vms.append(vm) }
        history.settings = changedSettings
        try write(history)
        try writeEvents()
        try sessions.finish(&access)
        access.put(CellKey.summary, summary.encoded())
    }

    private mutating func writeHosts(_ history: inout WireCellHistory) {
        for id in hosts.keys.sorted() {
            guard let cached = hosts[id], cached.isChanged, let host = cached.record else { continue }
            access.put(CellTable.hosts.key(id.rawValue), host.encoded())
            history.hosts.append(id.rawValue)
        }
    }

    private mutating func writeGroups(_ history: inout WireCellHistory) {
        for id in groups.keys.sorted() {
            guard let cached = groups[id], cached.isChanged else { continue }
            let key = CellTable.groups.key(id.rawValue)
            if let group = cached.record { access.put(key, group.encoded()) } else { access.delete(key) }
            history.groups.append(id.rawValue)
        }
    }

    private mutating func writeSlices(_ history: inout WireCellHistory) {
        for tenant in slices.keys.sorted() {
            guard let cached = slices[tenant], cached.isChanged else { continue }
            let key = CellTable.slices.key(tenant)
            if let slice = cached.record { access.put(key, slice.encoded()) } else { access.delete(key) }
            history.slices.append(tenant)
        }
    }

    private mutating func write(_ history: WireCellHistory) throws(StoreError) {
        if history.changeCount == 0 { return }
        let value = history.serialized()
        access.put(CellKey.history(index), value)
        summary.historyChanges += history.changeCount
        summary.historyBytes += UInt64(value.count)
        if !summary.historyIsTooLong { return }
        var gone: [[UInt8]] = []
        var left = summary
        var bad: [UInt8]?
        try access.scan(.prefix([CellKey.Kind.history])) { key, value in
            guard left.historyIsTooLong, let index = key.bigEndian64(at: 1), index != self.index.rawValue else {
                return false
            }
            // The key says which record it is; how it is malformed helps nobody.
            guard let history = try? WireCellHistory(serialized: value) else {
                bad = key
                return false
            }
            gone.append(key)
            left.historyChanges -= min(left.historyChanges, history.changeCount)
            left.historyBytes -= min(left.historyBytes, UInt64(value.count))
            left.compactedThrough = LogIndex(index)
            return true
        }
        if let bad { throw CellKey.corrupt(bad) }
        for key in gone { access.delete(key) }
        summary = left
    }
}

extension WireCellHistory {
    var changeCount: UInt64 {
        UInt64(hosts.count + vms.count + groups.count + slices.count + settings.count)
    }
}

extension CellCommand.Operation {
    /// A command may say of which generation the VM or the host has to be that this changes.
    package var isJudgedByGeneration: Bool {
        switch self {
        case .restartVM, .beginMigration, .cancelMigration, .moveVM, .advanceMove, .setHostDuty, .removeHost,
            .careForHost:
            true
        default: false
        }
    }

    /// An operator or an owner asked for it; neither a host nor a controller did.
    var isAsked: Bool {
        switch self {
        case .setHostDuty, .setHostPolicy, .removeHost, .createVMs, .updateVM, .setPower, .restartVM,
            .deleteVM, .putGroup, .deleteGroup, .releaseHost, .sendHost, .closeCell:
            true
        case .careForHost(_, let care): care != .endAbsence && care != .endReturn && care != .endEnforcement
        case .moveVM(_, _, _, _, _, let cause, _): cause == .asked
        case .setSetting(let setting, _): CellSetting.shown.contains(setting)
        case .beginMigration(_, _, _, let cause, _), .releaseVMs(_, let cause): cause == .asked
        // Who may also be a controller that gave up; the one who asked has a name in the audit either way.
        case .cancelMigration, .advanceMove(_, .abort, _, _): true
        default: false
        }
    }
}
