import ClusterBase
import FleetModel

/// A region is evacuated while nodes fail, leaders change and regions are lost; the plan pauses, goes on, is called off and turned
/// round at any time, and every node hears of that when it does.
///
///     evacuate ─▶ (pause, resume, cancel, evacuate again, go back: as drawn) ─▶ at the end one of: called off, all back, still out
extension Fleet {
    private static let steps = 5..<13 as Range<UInt64>

    func planEvacuation() {
        regions.evacuated = regions.planRandom.below(profile.cells)
        var at = Nanoseconds.milliseconds(regions.planRandom.within(1_500...9_000)).count
        for step in Fleet.steps {
            world.plan(.fleetRegion, at: at, a: step)
            at += Nanoseconds.milliseconds(regions.planRandom.within(500...6_000)).count
        }
    }

    func planTurn(_ step: UInt64) {
        guard world.recovery.phase == .chaos else { return }
        let name = regionName(regions.evacuated)
        if standing(of: name)?.isLost == true { return }
        let draw = step == Fleet.steps.lowerBound ? 0 : regions.planRandom.below(8)
        let plan = standing(of: name)?.plan
        switch draw {
        case 0...2: set(.evacuate, .running)
        case 3 where plan?.state == .running: set(plan?.direction ?? .evacuate, .paused)
        case 4, 5: if plan?.state == .paused { set(plan?.direction ?? .evacuate, .running) }
        case 6 where plan != nil: set(plan?.direction ?? .evacuate, .cancelled)
        case 7: set(.goBack, .running)
        default: break
        }
    }

    private func set(_ direction: RegionPlan.Direction, _ state: RegionPlan.State) {
        counts.regionPlans += 1
        let returns = RegionPlan.Returns.allCases[regions.planRandom.below(3)]
        change(regionName(regions.evacuated)) { standing in
            standing.plan = RegionPlan(number: standing.epoch, direction: direction, state: state, returns: returns)
        }
    }

    /// What the plan is for good.
    func endPlan() {
        guard profile.losesRegion, standing(of: regionName(regions.evacuated))?.plan != nil else { return }
        switch regions.planRandom.below(3) {
        case 0: set(.evacuate, .cancelled)
        case 1: set(.goBack, .running)
        default: set(.evacuate, .running)
        }
    }

    /// As long as a plan is in force, one that no host elsewhere takes is tried again and again, and nothing comes of it.
    func isTriedInVain(_ vm: CellVM) -> Bool {
        guard profile.losesRegion else { return false }
        let source = vm.arrival.map { Int($0.from) - 1 }
        if let source { return vm.place == nil && standing(of: regionName(source))?.sendsAway == true }
        guard let departure = vm.departure, !departure.isLeaving else { return false }
        let own = vm.place.map { hosts[Int($0.assignment.host.rawValue) - 1].cell } ?? Int(vm.id.cellNumber) - 1
        return standing(of: regionName(own))?.sendsAway == true && isLeftRightly(vm) == nil
    }

    /// At rest nobody who may move is in a region that is evacuated, if another one has room.
    func isLeftRightly(_ vm: CellVM) -> String? {
        guard profile.losesRegion, let host = vm.place?.assignment.host, vm.phase == .running,
            vm.spec.regionLoss != .homeOnly, vm.boundTo == nil, !vm.spec.isBoundToHost
        else { return nil }
        let own = hosts[Int(host.rawValue) - 1].cell
        guard standing(of: regionName(own))?.sendsAway == true else { return nil }
        for cell in 0..<profile.cells where cell != own {
            let region = regionName(cell)
            if standing(of: region)?.isEvacuated == true { continue }
            if !vm.spec.regions.isEmpty && !vm.spec.regions.contains(region) { continue }
            if let taker = taker(of: vm, in: cell) {
                return "is in region \(regionName(own)), which is evacuated, and host \(taker) of \(region) takes it"
            }
        }
        return nil
    }
}
