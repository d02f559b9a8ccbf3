import ClusterBase
import Controllers
import FleetModel
import NodePorts
import RaftCore

// What a fleet must be like when nothing disturbs it any more.

extension Fleet {
    /// Whether nothing is under way, and everything is as it was asked for. What is not goes into `unrest`.
    var isAtRest: Bool {
        if let found = findUnrest() {
            unrest = found
            return false
        }
        return true
    }

    /// So long after the faults have stopped, and its cell answers again, a VM that was lost with its host may be without running
    /// while a host takes it: that one begins to start it within seconds, and no guest takes longer to boot.
    static let runsWithin: Int64 = 60_000_000_000

    /// One that could run for longer than that and does not.
    var lateVM: String? {
        // hash order: looked up only
        var since: [VMID: Int64] = [:]
        // Until its group has answered a client again, a cell is not to be blamed.
        let answers = world.recovery.successes
        for cell in 0..<profile.cells where cell < answers.count && answers[cell] > 0 {
            let view = checkers[cell].view
            for id in view.vms.keys.sorted() {
                guard let vm = view.vms[id], vm.lostAt > .zero, couldRun(vm, view) else { continue }
                let began = lostSince[id] ?? world.now
                if world.now - began > Fleet.runsWithin {
                    return "VM \(id) could run for \((world.now - began) / 1_000_000) ms, and does not: \(vm)"
                }
                since[id] = began
            }
        }
        lostSince = since
        return nil
    }

    /// It is nowhere and a host takes it, or it is about to start at one that is there.
    private func couldRun(_ vm: CellVM, _ view: CellView) -> Bool {
        if vm.arrival != nil || vm.departure != nil || vm.gang > 0 || vm.isDeleting { return false }
        if let place = vm.place {
            guard vm.phase == .starting, !place.isReleasing else { return false }
            let host = hosts[Int(place.assignment.host.rawValue) - 1]
            return isThere(host) && host.node.isRunning && view.hosts[host.id]?.health == .up
        }
        if vm.migration != nil { return false }
        return view.hosts.keys.sorted().contains { id in
            guard let host = view.hosts[id], isThere(hosts[Int(id.rawValue) - 1]) else { return false }
            return FleetRules.refusal(vm, host, view) == nil
        }
    }

    /// Whether a host takes part, as far as the faults that stay let it.
    private func isThere(_ host: SimulatedHost) -> Bool {
        !world.recovery.leftBehind.contains(host.node.number)
    }

    /// A VM that it takes back is on a host whose word never comes.
    private func awaitsLeftBehind(_ home: HostID, _ view: CellView) -> Bool {
        // hash order: asked whether there is one
        view.vms.values.contains { vm in
            guard vm.origin?.host == home, let at = vm.place?.assignment.host else { return false }
            return !isThere(hosts[Int(at.rawValue) - 1])
        }
    }

    private func findUnrest() -> String? {
        if !chores.isEmpty { return "operators still have to do \(chores[0])" }
        if let found = unrestOfPlans { return found }
        for cell in 0..<profile.cells {
            if let found = findUnrest(cell, checkers[cell].view) { return found }
        }
        return nil
    }

    private func findUnrest(_ cell: Int, _ view: CellView) -> String? {
        if let move = checkers[cell].moves.first { return "\(move) is not over" }
        if let move = checkers[cell].hostMoves.first { return "\(move) is not over" }
        let hosts = hosts.filter { $0.cell == cell }
        for host in hosts where isThere(host) {
            guard host.node.isRunning, host.keeper?.isRegistered == true else {
                return "host \(host.id) is not registered: \(host.keeper?.problem ?? "its agent does not run")"
            }
            if view.hosts[host.id]?.health != .up { return "host \(host.id) is not up" }
            if let row = view.hosts[host.id], row.takesBack, row.returns == .all, !row.isReturnPaused,
                !awaitsLeftBehind(host.id, view)
            {
                return "host \(host.id) still takes \(row.awayCount) VMs back"
            }
            if view.hosts[host.id]?.isEnforced == true {
                return "host \(host.id) still has VMs moved off that may not stay"
            }
        }
        for host in hosts where !isThere(host) && !(host.keeper?.isRegistered ?? false) {
            if view.hosts[host.id]?.health == .up && !host.node.isRunning {
                return "host \(host.id) is lost and counts as up"
            }
        }
        for id in view.vms.keys.sorted() {
            guard let vm = view.vms[id] else { continue }
            if let found = unrest(of: vm, view) {
                let place = vm.place.map { self.hosts[Int($0.assignment.host.rawValue) - 1] }
                let there = place.map {
                    "; its host has \($0.keeper?.describe(id) ?? "no agent"), \($0.driver.describe(id))"
                }
                return "VM \(id) \(found): \(vm)\(there ?? "")"
            }
        }
        return findStray(hosts, view)
    }

    /// What runs is what the cell says.
    private func findStray(_ hosts: [SimulatedHost], _ view: CellView) -> String? {
        for host in hosts where isThere(host) {
            host.driver.settle(host.node.local(world.now))
            for copy in host.driver.running {
                guard let place = view.vms[copy.vm]?.place, place.assignment.host == host.id, place.epoch == copy.epoch
                else {
                    return
                        "host \(host.id) runs VM \(copy.vm) under epoch \(copy.epoch), and the cell knows nothing of it"
                }
            }
        }
        return nil
    }

    private func unrest(of vm: CellVM, _ view: CellView) -> String? {
        if vm.arrival != nil || vm.departure != nil, !isTriedInVain(vm) { return "is still on its way between cells" }
        // Where it is now, it is looked at as well.
        if vm.arrival != nil { return nil }
        let isHostLost = vm.place.map { view.hosts[$0.assignment.host]?.health != .up } ?? false
        // Left behind, and not down: it may be cut off in a way that its agent still reaches the cell, or about to be lost.
        let host = vm.place.map { hosts[Int($0.assignment.host.rawValue) - 1] }
        let isDoubtful = host.map { !isThere($0) } ?? false
        if let migration = vm.migration {
            let ends = [migration.source, migration.target].map { hosts[Int($0.assignment.host.rawValue) - 1] }
            if ends.allSatisfy({ isThere($0) }) { return "still moves" }
            // Until the end that was left behind confirms or is down, a VM without a place can neither get one nor go.
            if vm.place == nil { return nil }
        }
        if isHostLost || isDoubtful {
            if isHostLost && vm.phase != .unknown && vm.phase != .stopped {
                return "is on a host that is down, as \(vm.phase)"
            }
            if isHostLost && vm.spec.isolation == .stop && vm.boundTo == nil && vm.spec.restart != .never
                && vm.power != .stopped
            {
                return "could start elsewhere"
            }
            return nil
        }
        if vm.isDeleting { return "is still being deleted" }
        guard let place = vm.place else {
            if vm.power == .stopped { return vm.phase == .stopped ? nil : "has no place and is \(vm.phase)" }
            return waitsRightly(vm, view)
        }
        if place.isReleasing { return "still leaves its place" }
        switch vm.power {
        case .stopped: return vm.phase == .stopped ? nil : "is \(vm.phase), and should be stopped"
        case .running, .paused:
            if vm.phase == .looping { return nil }
            if vm.phase == .crashed && vm.spec.restart == .never { return nil }
            let wanted: CellVM.Phase = vm.power == .running ? .running : .paused
            if vm.phase != wanted { return "is \(vm.phase), and should be \(wanted)" }
            if let away = isAwayRightly(vm) { return away }
            let runs = host?.driver.running.contains(RunningVM(vm.id, epoch: place.epoch)) ?? false
            return runs ? nil : "does not run on its host"
        }
    }

    /// A waiting VM has a true reason: no host takes it, by rules that are worked out anew.
    private func waitsRightly(_ vm: CellVM, _ view: CellView) -> String? {
        if FleetRules.breaksReserve(vm, view) {
            return vm.message.isEmpty ? "waits for the reserve without a reason" : nil
        }
        if vm.gang > 0 {
            let gang = view.vms.keys.sorted().compactMap { view.vms[$0] }.filter { $0.gang == vm.gang }
            for id in view.hosts.keys.sorted() {
                guard let host = view.hosts[id] else { continue }
                // Where all could be, each of them finds a place whatever order they are tried in.
                if FleetRules.takesAll(gang, host, view) {
                    return "waits with its gang, and host \(id) takes all of it"
                }
            }
            return vm.message.isEmpty ? "waits without a reason" : nil
        }
        for id in view.hosts.keys.sorted() {
            guard let host = view.hosts[id] else { continue }
            if FleetRules.refusal(vm, host, view) == nil { return "waits, and host \(id) takes it" }
        }
        return vm.message.isEmpty ? "waits without a reason" : nil
    }

    func checkEnd() {
        for checker in checkers {
            counts.vmsAtEnd += checker.view.vms.count
            counts.waitingAtEnd += checker.view.vms.keys.count { id in
                checker.view.vms[id].map { $0.place == nil && $0.power != .stopped } ?? false
            }
        }
    }
}
