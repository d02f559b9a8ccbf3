import ClusterBase
import FleetModel

// What a plan for a region that is there does with a cell's VMs: those that leave and those that go back.

extension Rehearsal {
    static func suppose(
        _ direction: RegionPlan.Direction, _ returns: RegionPlan.Returns?, _ region: String, _ facts: inout RegionFacts
    ) {
        let known = facts.regions.first { $0.name == region }
        let epoch = (facts.regions.map(\.epoch).max() ?? 0) + 1
        var plan = RegionPlan(number: epoch, direction: direction, returns: returns ?? known?.plan?.returns ?? .policy)
        if let now = known?.plan, now.direction == direction, now.state != .cancelled { plan.number = now.number }
        var standing = known ?? RegionStanding(name: region, epoch: epoch, isLost: false)
        standing.plan = plan
        standing.isLost = false
        facts.regions.removeAll { $0.name == region }
        facts.regions.append(standing)
    }

    /// As many as may be on their way from the cell at once.
    var pace: Int { max(1, min(Int(clamping: keeper.view[.migrationsMax]), CellKeeper.awayMax)) }

    private var plan: RegionPlan? { keeper.standing(of: result.region)?.plan }

    /// How long it stands still.
    func downtime(_ vm: CellVM) -> String {
        if of == .loss { return "" }
        if vm.goesLive { return "it goes while it runs; where that fails, by a stop and a start" }
        switch vm.phase {
        case .running, .paused:
            let grace = HostKeeper.Timing.grace(of: vm.spec)
            let most = grace.map { "in at most \($0.milliseconds) ms" } ?? "in the time that its host gives it"
            return
                "it is down from its stop, which its guest is asked for and has to end \(most), until it has started there"
        default: return "it is not running, and goes as it is"
        }
    }

    // MARK: What there is

    /// VMs in the region, and those that have left it by the plan and are here.
    mutating func leave() {
        var wayTo: [(CellVM, UInt64)] = []
        for id in keeper.view.vms.keys.sorted() {
            guard let vm = keeper.view.vms[id], !vm.isDeleting, vm.arrival == nil else { continue }
            if let home = vm.home, home.region == result.region, home.epoch >= plan?.number ?? 0 { result.moved += 1 }
            if keeper.region(of: vm) != result.region { continue }
            if vm.place == nil { result.waitedBefore += 1 } else { result.vms += 1 }
            if let departure = vm.departure { wayTo.append((vm, departure.to)) } else { unsettled.insert(id) }
        }
        result.moving = wayTo.count
        for (vm, to) in wayTo { tell(vm, to, wave: 0, text: "it is on its way there already") }
    }

    /// VMs here whose home the region is. Those that have come back have none any more.
    mutating func goBack() {
        keeper.regions.guests = keeper.regions.guests.filter { keeper.view.vms[$0]?.home?.region == result.region }
        for id in keeper.regions.guests.sorted() {
            guard let vm = keeper.view.vms[id], !vm.isDeleting, vm.arrival == nil else { continue }
            if vm.place == nil { result.waitedBefore += 1 } else { result.vms += 1 }
            guard let departure = vm.departure else {
                unsettled.insert(id)
                continue
            }
            result.moving += 1
            tell(vm, departure.to, wave: 0, text: "it is on its way there already")
        }
    }

    // MARK: What follows

    /// To another host of its cell, and done at once.
    mutating func migrate(_ id: VMID, _ to: Assignment, _ rows: inout [CellRowContent]) {
        guard let vm = keeper.view.vms[id] else { return }
        var row = vm
        row.epochHighest += 1
        row.place = VMPlace(to, epoch: row.epochHighest)
        rows.append(.vm(id, row))
        if unsettled.remove(id) == nil { return }
        result.add(
            CellRehearsal.Step(
                vm, .migrate, to: keeper.hostName(to.host), wave: result.migrated / pace + 1,
                text: "it goes to a host of its cell, and runs meanwhile"))
    }

    mutating func endPlan() -> CellRehearsal {
        let wave = Wave(keeper, .origin)
        for vm in keeper.sortedByTurn(unsettled.sorted().compactMap { keeper.view.vms[$0] }) {
            if let to = vm.departure?.to {
                tell(vm, to, wave: 0, text: "it is on its way there already")
                continue
            }
            let (cause, text) = of == .evacuation ? keeper.evacuationWait(vm, wave) : keeper.returnWait(vm, wave)
            result.add(CellRehearsal.Step(vm, .wait, cause: cause, text: text))
        }
        result.targets.removeAll { $0.vms == 0 }
        result.waves = (max(result.away - result.moving, result.migrated) + pace - 1) / pace
        return result
    }
}

extension CellKeeper {
    /// Why a VM whose home is in another region does not go there now, and that in words.
    fileprivate func returnWait(_ vm: CellVM, _ wave: Wave) -> (cause: CellRehearsal.Cause, text: String) {
        if vm.boundTo != nil || vm.spec.isBoundToHost { return (.localDisk, "it stays with its local disk") }
        guard let home = vm.home, let standing = standing(of: home.region),
            standing.takesBack(home, returnsHome: vm.spec.returnsHome)
        else { return (.returnPolicy, "it stays here: it is not to return") }
        if !canLeave(vm) { return (.busy, "it is in the midst of something else, and goes when that is over") }
        if let tried = regions.tries[vm.id], !tried.text.isEmpty {
            return (.refused, "it is tried again: \(tried.text)")
        }
        let cells = regions.facts.cells.filter { $0.number == home.cell || $0.region == home.region }
        if !cells.contains(where: { wave.hasRoom(vm, $0) }) { return (.noRoom, "there is no room for it at home") }
        return (.inTurn, "it goes home in its turn")
    }
}
