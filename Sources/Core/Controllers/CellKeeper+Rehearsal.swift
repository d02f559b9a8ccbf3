package import ClusterBase
package import FleetModel

// The loss of a region, its evacuation or the way back, rehearsed: the functions that plan for them run in a copy of the keeper,
// which is told rows as the cell would have them. The keeper itself is not touched.

extension CellKeeper {
    /// Waves that are played through; what is left then would go in its turn.
    static let rehearsalWavesMax = 256
    static let rehearsalTurnsMax = 1_024
    /// Longer than anything that was refused rests.
    static let rehearsalRest = Nanoseconds.seconds(61)

    /// What would become of this cell's VMs if all hosts of a region fell silent at once and it were declared lost. `facts` are
    /// those of this moment; `goesOn` says whether the cell has a majority without the region. O(VMs), and a plan per wave: for
    /// another thread than the one that leads.
    package func rehearse(
        lossOf region: String, _ facts: RegionFacts, goesOn: Bool, now: Instant
    ) -> CellRehearsal {
        var rehearsal = Rehearsal(self, region, .loss, facts, now)
        if !goesOn { return rehearsal.stop() }
        let hasHosts = hostOrder.contains { view.hosts[$0]?.about.locality.region == region }
        if !hasHosts && facts.region != region { return CellRehearsal(region: region, through: view.through ?? .zero) }
        rehearsal.lose()
        rehearsal.play()
        return rehearsal.end()
    }

    /// What a plan for a region that is there would do with this cell's VMs, or what one that is under way has done and has
    /// still to do. The costs are those of the loss.
    package func rehearse(
        _ direction: RegionPlan.Direction, of region: String, returns: RegionPlan.Returns?, _ facts: RegionFacts,
        now: Instant
    ) -> CellRehearsal {
        var rehearsal = Rehearsal(self, region, direction == .evacuate ? .evacuation : .return, facts, now, returns)
        if direction == .evacuate { rehearsal.leave() } else { rehearsal.goBack() }
        rehearsal.play()
        return rehearsal.endPlan()
    }
}

struct Rehearsal {
    var keeper: CellKeeper
    let of: CellRehearsal.Kind
    var result: CellRehearsal
    private var now: Instant
    private var time: LogTime
    /// Plans that sent somebody away.
    private var rounds = 0
    /// VMs without a place of which it is not known yet what becomes of them.
    // hash order: read sorted
    var unsettled: Set<VMID> = []
    /// Those that stay with their lost hosts.
    // hash order: read sorted
    private var tied: [VMID: (cause: CellPlan.Left.Cause, host: HostID)] = [:]
    // hash order: looked up only
    private var preempted: Set<VMID> = []

    init(
        _ keeper: CellKeeper, _ region: String, _ of: CellRehearsal.Kind, _ facts: RegionFacts, _ now: Instant,
        _ returns: RegionPlan.Returns? = nil
    ) {
        self.keeper = keeper
        self.of = of
        self.now = now
        time = keeper.view.time
        result = CellRehearsal(region: region, through: keeper.view.through ?? .zero)
        result.kind = of
        result.hosts = keeper.hostOrder.count { keeper.view.hosts[$0]?.about.locality.region == region }
        var facts = facts
        switch of {
        case .loss:
            result.silence = CellKeeper.silenceMax(
                max(
                    keeper.view[.leaseLength], keeper.view[.leaseBefore] & 0xFFFF_FFFF, keeper.leaseLongest.milliseconds
                ))
            if !facts.regions.contains(where: { $0.name == region && $0.isLost }) {
                let epoch = (facts.regions.map(\.epoch).max() ?? 0) + 1
                facts.regions.removeAll { $0.name == region }
                facts.regions.append(RegionStanding(name: region, epoch: epoch, isLost: true))
            }
        case .evacuation: Rehearsal.suppose(.evacuate, returns, region, &facts)
        case .return: Rehearsal.suppose(.goBack, returns, region, &facts)
        }
        result.targets = facts.cells.map { cell in
            CellRehearsal.Target(
                cell: cell.number, name: cell.name, region: cell.region, free: cell.report?.free ?? .zero,
                at: cell.report?.at ?? .zero)
        }
        result.wayTime = keeper.ways.mean
        result.moveTime = keeper.moves.mean
        result.pace = of == .loss ? CellKeeper.awayMax : pace
        // Nobody goes home meanwhile, and no row is told anything.
        if of != .return { self.keeper.regions.guests = [] }
        self.keeper.regions.isRehearsed = of != .loss
        self.keeper.regions.tellAt = Instant(nanoseconds: .max)
        self.keeper.take(regions: facts, now: now)
    }

    static func isMeantToRun(_ vm: CellVM) -> Bool {
        vm.power != .stopped && !vm.isDeleting && vm.arrival == nil
    }

    // MARK: The loss

    /// Without a majority nobody leads the cell, and when the leases of its hosts have ended, all of it waits.
    mutating func stop() -> CellRehearsal {
        result.goesOn = false
        result.targets = []
        for id in keeper.view.vms.keys.sorted() {
            guard let vm = keeper.view.vms[id], Rehearsal.isMeantToRun(vm) else { continue }
            if vm.place == nil { result.waitedBefore += 1 } else { result.vms += 1 }
            result.add(
                CellRehearsal.Step(
                    vm, .wait, cause: .cellHasNoMajority,
                    text: "its cell has no majority without region \(result.region), and nobody starts it elsewhere"))
        }
        return result
    }

    /// The rows as the cell has them once it has given up all hosts of the region.
    mutating func lose() {
        // What was asked for and is not seen yet is decided again, without the region.
        for id in keeper.pending.keys.sorted() { keeper.takeBack(id, now) }
        var rows: [CellRowContent] = []
        // hash order: looked up only
        var gone: Set<HostID> = []
        for id in keeper.hostOrder {
            guard var host = keeper.view.hosts[id], host.about.locality.region == result.region else { continue }
            gone.insert(id)
            host.health = .down
            host.since = time
            rows.append(.host(id, host))
        }
        for id in keeper.view.vms.keys.sorted() {
            guard let vm = keeper.view.vms[id] else { continue }
            if let row = lost(vm, gone) { rows.append(.vm(id, row)) }
            guard Rehearsal.isMeantToRun(vm) else { continue }
            if let host = vm.place?.assignment.host {
                if gone.contains(host) { result.vms += 1 }
            } else {
                result.waitedBefore += 1
                unsettled.insert(id)
            }
        }
        suppose(rows)
    }

    /// Nil where the loss changes nothing for it.
    // hash order: looked up only
    private mutating func lost(_ vm: CellVM, _ gone: Set<HostID>) -> CellVM? {
        let place = vm.place.flatMap { gone.contains($0.assignment.host) ? $0.assignment.host : nil }
        let isMoving = vm.migration.map {
            gone.contains($0.source.assignment.host) || gone.contains($0.target.assignment.host)
        }
        if place == nil && isMoving != true { return nil }
        var row = vm
        // What is left of the move ends as soon as its other host has said so.
        row.migration = nil
        guard let place else { return row }
        let tie: CellPlan.Left.Cause? = vm.spec.isolation == .keep ? .isolationKeep : vm.tieToLostHost
        if let tie, vm.arrival == nil {
            row.held = nil
            if vm.phase != .stopped { row.enter(.unknown, at: time) }
            if Rehearsal.isMeantToRun(vm) { tied[vm.id] = (tie, place) }
        } else {
            row.leavePlace(at: time)
            if Rehearsal.isMeantToRun(vm) { unsettled.insert(vm.id) }
        }
        return row
    }

    mutating func suppose(_ rows: [CellRowContent]) {
        if rows.isEmpty { return }
        let changes = keeper.view.suppose(rows, at: time)
        keeper.take(changes, now)
    }

    // MARK: What follows

    mutating func play() {
        var quiet = 0
        for _ in 0..<CellKeeper.rehearsalTurnsMax {
            if rounds == CellKeeper.rehearsalWavesMax { break }
            now += CellKeeper.regionInterval
            time = time.advanced(by: UInt64(CellKeeper.regionInterval.milliseconds))
            if turn() {
                quiet = 0
                continue
            }
            quiet += 1
            if quiet == 3 { return }
            // What rests is tried once more.
            now += CellKeeper.rehearsalRest
        }
        result.isComplete = false
    }

    /// One plan, and the rows as they are when all of it was done. False when there was nothing to do.
    private mutating func turn() -> Bool {
        var operations: [CellCommand.Operation] = []
        keeper.isCutShort = false
        keeper.regions.planAt = now
        keeper.tuneMix()
        if keeper.regions.leavers.next == keeper.regions.leavers.order.count { keeper.regions.leavers.until = now }
        if of == .loss { keeper.planNominations(now, &operations) }
        // Where all hosts of the cell are evacuated, whoever waits need not come to one of them first.
        if of == .loss || keeper.regions.closed[result.region] != nil { keeper.planPlacings(now, &operations) }
        keeper.planRegions(now, &operations)
        if of == .evacuation && keeper.regions.closed[result.region] != nil {
            keeper.drainAt = now
            keeper.planDrains(now, &operations)
        }
        var rows: [CellRowContent] = []
        let away = result.away
        for operation in operations {
            switch operation {
            case .noteRegion:
                keeper.take(.applied(CellResult(revision: .zero, outcome: .done)), of: operation, now: now)
            case .placeVMs(let placings, _): for placing in placings { place(placing, &rows) }
            case .releaseVMs(let releases, _): for release in releases { self.release(release.vm, &rows) }
            case .moveVM(let id, let to, _, _, _, _, _): send(id, to, &rows)
            case .beginMigration(let id, _, let to, _, _): migrate(id, to, &rows)
            default: break
            }
        }
        if result.away > away {
            rounds += 1
            if of == .loss { result.waves = rounds }
        }
        suppose(rows)
        return !operations.isEmpty || keeper.isCutShort
    }

    private mutating func place(_ placing: Placing, _ rows: inout [CellRowContent]) {
        guard let vm = keeper.view.vms[placing.vm] else { return }
        var row = vm
        row.epochHighest += 1
        row.place = VMPlace(placing.assignment, epoch: row.epochHighest)
        row.gang = 0
        if row.spec.isBoundToHost { row.boundTo = placing.assignment.host }
        row.enter(.starting, at: time)
        rows.append(.vm(vm.id, row))
        if unsettled.remove(vm.id) == nil { return }
        let isPreempted = preempted.remove(vm.id) != nil
        result.add(
            CellRehearsal.Step(
                vm, .restart, to: keeper.hostName(placing.assignment.host), isPreempted: isPreempted,
                text: isPreempted ? "it is stopped to make room for another, and finds a place" : ""))
    }

    /// Stopped to make room for another one.
    private mutating func release(_ id: VMID, _ rows: inout [CellRowContent]) {
        guard let vm = keeper.view.vms[id], vm.place != nil else { return }
        var row = vm
        row.migration = nil
        row.leavePlace(at: time)
        rows.append(.vm(id, row))
        guard of == .loss, Rehearsal.isMeantToRun(vm) else { return }
        result.preempted += 1
        preempted.insert(id)
        unsettled.insert(id)
    }

    private mutating func send(_ id: VMID, _ to: UInt64, _ rows: inout [CellRowContent]) {
        guard let vm = keeper.view.vms[id] else { return }
        rows.append(.vm(id, nil))
        // One that goes home does so in any case.
        if unsettled.remove(id) == nil { return }
        let cell = keeper.regions.facts.cells.firstIndex { $0.number == to }
        if let cell { keeper.regions.facts.cells[cell].report?.free -= vm.spec.demand }
        tell(vm, to, wave: of == .loss ? rounds + 1 : result.away / pace + 1, text: downtime(vm))
    }

    mutating func tell(_ vm: CellVM, _ to: UInt64, wave: Int, text: String = "") {
        var step = CellRehearsal.Step(
            vm, .away, to: "\(to)", wave: wave, isPreempted: preempted.contains(vm.id), text: text)
        if let at = result.targets.firstIndex(where: { $0.cell == to }) {
            step.to = result.targets[at].name
            step.region = result.targets[at].region
            result.targets[at].vms += 1
            result.targets[at].demand += vm.spec.demand
        }
        result.add(step)
    }

    // MARK: What is left

    mutating func end() -> CellRehearsal {
        for id in tied.keys.sorted() {
            guard let vm = keeper.view.vms[id], let (cause, host) = tied[id] else { continue }
            let text = CellKeeper.text(cause, keeper.hostName(host))
            result.add(CellRehearsal.Step(vm, .wait, cause: CellRehearsal.Cause(cause), text: text))
        }
        // hash order: looked up only
        var texts: [Int: String] = [:]
        for vm in keeper.sortedByTurn(unsettled.sorted().compactMap { keeper.view.vms[$0] }) {
            if let to = vm.departure?.to {
                tell(vm, to, wave: 0, text: "it is on its way there already")
                continue
            }
            var text = ""
            if let kind = keeper.queue.kind(of: vm.id) {
                if texts[kind] == nil, texts.count < CellKeeper.plansExplainedMax { texts[kind] = keeper.reason(kind) }
                text = texts[kind] ?? "no host fits"
            }
            result.add(
                CellRehearsal.Step(
                    vm, .wait, cause: keeper.regionWait(vm), isPreempted: preempted.contains(vm.id),
                    text: keeper.rowText(vm.id, text)))
        }
        result.targets.removeAll { $0.vms == 0 }
        return result
    }
}

extension CellRehearsal.Cause {
    fileprivate init(_ cause: CellPlan.Left.Cause) {
        switch cause {
        case .localDisk: self = .localDisk
        case .isolationKeep: self = .isolationKeep
        case .neverRestarts: self = .neverRestarts
        case .noHostFits, .reserve, .quota, .invalid, .anotherItem, .preempted, .notRunning: self = .noRoom
        }
    }
}
