import ClusterBase
package import FleetModel

// A region is evacuated: what may leave it does, in waves. In a cell with hosts in other regions its hosts empty themselves as
// those do that are drained, while VMs run; from a cell with all hosts there VMs go to other cells, each of which keeps a
// place before the VM is asked to end.

extension CellKeeper {
    /// Between two looks at who leaves.
    static let leaversInterval = Nanoseconds.seconds(5)

    /// Moves of a plan that may be under way from here.
    var movesAtOnce: Int { regions.isRehearsed ? CellKeeper.awayMax : Int(clamping: view[.migrationsMax]) }

    func standing(of region: String) -> RegionStanding? { regions.facts.regions.first { $0.name == region } }

    /// Where its host is, and that of its cell for one without.
    package func region(of vm: CellVM) -> String {
        vm.place.flatMap { view.hosts[$0.assignment.host]?.about.locality.region } ?? regions.facts.region
    }

    /// A move that the plan which began it does not stand behind any more. Only for one that has not left.
    package func isCalledOff(_ move: CellMove) -> Bool {
        switch move.cause {
        case .asked, .regionLost: return false
        case .evacuation:
            guard let vm = view.vms[move.vm] else { return false }
            return standing(of: region(of: vm)).map { $0.callsOff(.evacuation) } ?? !regions.facts.regions.isEmpty
        case .regionBack:
            guard let cell = regions.facts.cells.first(where: { $0.number == move.to }) else { return false }
            return standing(of: cell.region)?.callsOff(.regionBack) ?? false
        }
    }

    /// Evacuated regions that this cell has to do with, which send VMs away now.
    mutating func evacuatedHere(_ now: Instant) -> [RegionStanding] {
        let evacuated = regions.facts.regions.filter { $0.isEvacuated && !$0.isLost }
        // hash order: compared, and looked up
        var closed: [String: Bool] = [:]
        if !evacuated.isEmpty {
            let isMixed = hostOrder.contains { id in
                guard let host = view.hosts[id], host.health == .up, host.duty == .inService else { return false }
                let region = host.about.locality.region
                return !regions.facts.regions.contains { $0.name == region && ($0.isEvacuated || $0.isLost) }
            }
            if isMixed { for region in evacuated { closed[region.name] = region.sendsAway } }
        }
        if closed != regions.closed {
            let before = regions.closed
            regions.closed = closed
            for id in hostOrder {
                guard let region = view.hosts[id]?.about.locality.region, before[region] != closed[region] else {
                    continue
                }
                hostChanged(id, now)
            }
        }
        return evacuated.filter { region in
            guard region.sendsAway else { return false }
            return region.name == regions.facts.region
                || hostOrder.contains { view.hosts[$0]?.about.locality.region == region.name }
        }
    }

    /// As it is where a plan says more of its region than anybody said of the host.
    func asPlanned(_ host: CellHost) -> CellHost {
        guard host.duty == .inService || host.duty == .cordoned || host.isDrainPaused,
            let empties = regions.closed[host.about.locality.region]
        else { return host }
        var host = host
        if host.isDrainPaused {
            host.isDrainPaused = !empties
            return host
        }
        host.duty = empties ? .draining : .cordoned
        return host
    }

    /// Nothing of its own keeps it here at this moment.
    func canLeave(_ vm: CellVM) -> Bool {
        guard vm.departure == nil, vm.arrival == nil, vm.migration == nil, !vm.isDeleting, vm.boundTo == nil,
            !vm.spec.isBoundToHost, vm.gang == 0, pending[vm.id] == nil
        else { return false }
        switch vm.phase {
        case .waiting, .running, .paused, .stopped, .crashed, .looping: return vm.place?.isReleasing != true
        case .starting, .stopping, .unknown: return false
        }
    }

    /// Whether a plan has it go to another cell: where its own has hosts elsewhere only what finds none of these.
    private func mustGoFar(_ vm: CellVM, _ regions: [RegionStanding]) -> Bool {
        if vm.spec.regionLoss == .homeOnly { return false }
        let region = region(of: vm)
        if !regions.contains(where: { $0.name == region }) { return false }
        return self.regions.closed[region] == nil || (vm.place != nil && stuckSince[vm.id] != nil)
    }

    mutating func planEvacuation(
        of evacuated: [RegionStanding], _ now: Instant, _ wave: inout Wave,
        _ operations: inout [CellCommand.Operation]
    ) {
        guard let first = evacuated.first else { return }
        regions.isBusy = true
        let least = movesAtOnce - wave.underWay
        if least <= 0 || wave.left <= 0 { return }
        let others = wave.left - least
        wave.left = min(wave.left, least)
        if now >= regions.leavers.until { listLeavers(evacuated, now) }
        var skipped: [VMID] = []
        while wave.left > 0, skipped.count < CellKeeper.awayLookedMax,
            regions.leavers.next < regions.leavers.order.count
        {
            let id = regions.leavers.order[regions.leavers.next]
            regions.leavers.next += 1
            guard let vm = view.vms[id], mustGoFar(vm, evacuated) else { continue }
            guard canLeave(vm), mayGo(vm, now), let target = choose(vm, wave) else {
                skipped.append(id)
                continue
            }
            let region = region(of: vm)
            let standing = evacuated.first { $0.name == region } ?? first
            let home = vm.home ?? CellVM.Home(cell: regions.facts.own, region: region, epoch: standing.epoch)
            begin(vm, to: target, home, .evacuation, now, &wave, &operations)
            counts.regionEvacuated += 1
        }
        // They keep their turn.
        regions.leavers.next -= skipped.count
        for (i, id) in skipped.enumerated() { regions.leavers.order[regions.leavers.next + i] = id }
        wave.left += max(0, others)
    }

    /// O(VMs), and a sort of those that leave.
    private mutating func listLeavers(_ evacuated: [RegionStanding], _ now: Instant) {
        // hash order: sorted
        let found = view.vms.values.filter { mustGoFar($0, evacuated) && $0.departure == nil && !$0.isDeleting }
        regions.leavers = (sortedByTurn(found).map(\.id), 0, now + CellKeeper.leaversInterval)
    }

    // MARK: Words

    /// What the evacuation of its region has to do with a VM; nil for one whose region is not evacuated.
    func evacuationText(_ vm: CellVM) -> String? {
        let region = region(of: vm)
        guard let standing = standing(of: region), standing.isEvacuated, !standing.isLost, !vm.isDeleting else {
            return nil
        }
        let head = "region \(region) is evacuated"
        if vm.departure != nil { return "\(head), and it is on its way to another cell" }
        return "\(head), and \(evacuationWait(vm).text)"
    }

    /// Why a VM in an evacuated region does not leave it now, and that in words.
    func evacuationWait(_ vm: CellVM, _ known: Wave? = nil) -> (cause: CellRehearsal.Cause, text: String) {
        let region = region(of: vm)
        if regions.closed[region] != nil && !(vm.place != nil && stuckSince[vm.id] != nil) {
            if vm.place == nil { return (.noRoom, "no host of its cell in another region takes it") }
            if case .never = way(vm) { return (.localDisk, "it stays with its local disk") }
            return (.inTurn, "it goes to a host of its cell in another region in its turn")
        }
        if vm.boundTo != nil || vm.spec.isBoundToHost { return (.localDisk, "it stays with its local disk") }
        if vm.spec.regionLoss == .homeOnly { return (.homeOnly, "it stays: its regionLoss is home-only") }
        if vm.gang > 0 { return (.gang, "it waits for its first place together with others") }
        let cells = allowed(vm)
        if cells.isEmpty {
            let bound = vm.spec.regions.isEmpty ? "" : " of \(vm.spec.regions.joined(separator: ", "))"
            return (.noRegion, "it stays: there is no cell\(bound) in another region that it may go to")
        }
        if !canLeave(vm) { return (.busy, "it is in the midst of something else, and goes when that is over") }
        if let tried = regions.tries[vm.id], !tried.text.isEmpty {
            return (.refused, "it is tried again: \(tried.text)")
        }
        let wave = known ?? Wave(self, .origin)
        if !cells.contains(where: { wave.hasRoom(vm, $0) }) {
            return (.noRoom, "none of \(cells.count) cells in other regions has room for it")
        }
        if standing(of: region)?.sendsAway == false { return (.paused, "it goes when the plan goes on") }
        return (.inTurn, "it goes to another region in its turn")
    }
}
