import ClusterBase
import Controllers
import FleetModel
import NodeRuntime

/// One of a fleet's regions is lost and comes back: each cell has its hosts in one of its own.
///
///     hosts crash, or go on while they count as lost ─▶ declared lost ─▶ hosts are back ─▶ declared back
///
/// Nobody follows a root in these runs: what it would say of regions and of room every engine is told from time to time, at
/// times of its own, and only while its node runs.
extension Fleet {
    struct Regions {
        var random: PRNG
        /// For plans, whose draws move no others.
        var planRandom: PRNG
        /// The number of the cell whose region is evacuated.
        var evacuated = 0
        var standings: [RegionStanding] = []
        /// The number of the cell whose region it is.
        var lost = 0
        var isFalse = false
    }

    func regionName(_ cell: Int) -> String { profile.losesRegion ? "r\(cell)" : "r" }

    /// A majority of the voters is elsewhere, so that every cell goes on.
    private var losable: [Int] {
        (0..<profile.cells).filter { cell in
            (0..<profile.voters).count { self.cell(of: $0) == cell } * 2 < profile.voters
        }
    }

    func planRegions() {
        guard profile.losesRegion, let cell = losable.last else { return }
        regions.lost = losable.count > 1 ? losable[regions.random.below(losable.count)] : cell
        regions.isFalse = regions.random.chance(1, in: 4)
        var at = Nanoseconds.milliseconds(regions.random.within(3_000...8_000)).count
        for step: UInt64 in 0..<4 {
            world.plan(.fleetRegion, at: at, a: step)
            at += Nanoseconds.milliseconds(regions.random.within(step == 1 ? 5_000...14_000 : 100...4_000)).count
        }
        world.plan(.fleetRegion, at: Nanoseconds.seconds(1).count, a: 4)
        planEvacuation()
    }

    func regionTurn(_ step: UInt64) {
        guard profile.losesRegion else { return }
        let nodes = world.nodes.filter { cell(of: $0.number) == regions.lost }
        switch step {
        case 0 where !regions.isFalse && world.recovery.phase == .chaos:
            counts.regionsLost += 1
            // Longer than the region stays lost: whoever starts them again is there in time.
            for node in nodes where node.isRunning { world.crash(node, restartAfter: Nanoseconds.seconds(30).count) }
        case 1 where world.recovery.phase == .chaos:
            rehearse()
            declare(isLost: true)
        case 2: for node in nodes { world.start(node) }
        case 3: declare(isLost: false)
        case 5...: planTurn(step)
        default: break
        }
        if step != 4 { return }
        for node in world.nodes { tellRegions(node) }
        world.plan(
            .fleetRegion, at: world.now + Nanoseconds.milliseconds(regions.random.within(500...2_500)).count, a: 4)
    }

    private func declare(isLost: Bool) {
        let name = regionName(regions.lost)
        if !isLost && standing(of: name)?.isLost != true { return }
        change(name) { standing in
            standing.isLost = isLost
            if isLost && !standing.isEvacuated { standing.plan = nil }
        }
    }

    func standing(of region: String) -> RegionStanding? { regions.standings.first { $0.name == region } }

    /// As a root would write it down.
    func change(_ region: String, _ change: (inout RegionStanding) -> Void) {
        let epoch = (regions.standings.map(\.epoch).max() ?? 0) + 1
        var standing = standing(of: region) ?? RegionStanding(name: region, epoch: epoch, isLost: false)
        standing.epoch = epoch
        change(&standing)
        regions.standings.removeAll { $0.name == region }
        regions.standings.append(standing)
        regions.standings.sort { $0.name < $1.name }
    }

    /// Whoever leads a cell can say at any time what the loss would bring: each VM has one fate. Nothing changes by that.
    private func rehearse() {
        let region = regionName(regions.lost)
        for node in world.nodes where node.isRunning {
            for own in 0..<profile.cells {
                guard let keeper = node.runtime?.withCellKeeper(Fleet.group(of: own), { $0 }), keeper.isReady else {
                    continue
                }
                let played = keeper.rehearse(lossOf: region, facts(of: own), goesOn: true, now: node.local(world.now))
                let fates = played.restarted + played.away + played.waiting
                if fates == played.vms + played.waitedBefore + played.preempted { continue }
                world.fail(
                    "a rehearsal accounts for each VM once",
                    "cell \(own), the loss of \(region): \(fates) fates of \(played.vms) VMs there, \(played.waitedBefore) that "
                        + "waited and \(played.preempted) that made room")
            }
        }
    }

    private func facts(of own: Int) -> RegionFacts {
        let cells = (0..<profile.cells).filter { $0 != own }.map { other in
            RegionFacts.Cell(
                number: Fleet.group(of: other).number, name: "c\(other)", region: regionName(other),
                report: checkers[other].view.report(of: Fleet.group(of: other)))
        }
        return RegionFacts(
            own: Fleet.group(of: own).number, region: regionName(own), regions: regions.standings, cells: cells)
    }

    /// What a root would have told the node by now.
    func tellRegions(_ node: SimulatedNode) {
        guard profile.losesRegion, node.isRunning, !regions.standings.isEmpty else { return }
        let now = node.local(world.now)
        for own in 0..<profile.cells {
            node.runtime?.tell(regions: facts(of: own), of: Fleet.group(of: own), now: now)
        }
    }

    /// What becomes of a new VM when its region is lost.
    func drawRegion(_ spec: inout VMDescription) {
        guard profile.losesRegion else { return }
        spec.regionLoss = VMDescription.RegionLoss.allCases[regions.random.below(3)]
        spec.returnsHome = regions.random.chance(1, in: 2)
        if regions.random.chance(1, in: 5) { spec.regions = [regionName(regions.random.below(profile.cells))] }
    }

    /// The region is back for good, whatever was planned.
    func endRegions() {
        declare(isLost: false)
        endPlan()
        for node in world.nodes { tellRegions(node) }
    }

    /// At rest nobody waits in a lost region, and whoever is to go home is there if that has room.
    func isAwayRightly(_ vm: CellVM) -> String? {
        if let left = isLeftRightly(vm) { return left }
        guard let home = vm.home, vm.boundTo == nil, !vm.spec.isBoundToHost, vm.place != nil,
            vm.phase == .running
        else { return nil }
        let takesBack = standing(of: home.region)?.takesBack(home, returnsHome: vm.spec.returnsHome)
        if !(takesBack ?? vm.spec.returnsHome) { return nil }
        let taker = taker(of: vm, in: Int(home.cell) - 1)
        return taker.map { "is to go home, and host \($0) there takes it" }
    }

    /// A host of the cell that could have the VM, by rules that are worked out anew.
    func taker(of vm: CellVM, in cell: Int) -> HostID? {
        let view = checkers[cell].view
        for id in view.hosts.keys.sorted() {
            guard let host = view.hosts[id], vm.spec.groups.isEmpty, host.state == .ready else { continue }
            let slice = view.slices[vm.tenant]
            if slice != nil && slice?.quota != .unlimited { continue }
            // hash order: any of them
            let isTaken = view.vms.values.contains { $0.name == vm.name && $0.tenant == vm.tenant }
            if isTaken { continue }
            if FleetRules.refusal(vm, host, view) == nil { return id }
        }
        return nil
    }
}
