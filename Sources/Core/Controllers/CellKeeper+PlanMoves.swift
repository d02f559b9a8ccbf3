internal import ClusterBase
import FleetModel
import Placement

// Other places for all that leaves some hosts at once, in a plan.

extension CellKeeper {
    /// What was done to the index for a plan.
    private enum Trial {
        case moved(VMSpec, from: Assignment)
        case stopped(VMSpec, at: Assignment)
    }

    /// Takes the hosts out of service in the index, finds other places for their VMs, and puts all back. Where `stopsOthers`, VMs
    /// that wait for a place then have others of lower priority stopped, as they will.
    mutating func moveAway(
        _ hosts: [HostID], _ plan: inout CellPlan, stopsOthers: Bool = false, _ fate: (CellKeeper, CellVM) -> Fate
    ) {
        var states: [(HostID, HostState)] = []
        for host in hosts {
            guard let state = index.host(host)?.state else { continue }
            states.append((host, state))
            set(host, state.takesVMs ? .draining : state)
        }
        var trials: [Trial] = []
        var explained = 0
        var searches = stopsOthers ? max(1, CellKeeper.gangVictimsWorkMax / max(1, index.hostCount)) : 0
        for vm in leaving(hosts, &plan, fate) {
            guard case .go(let kind) = fate(self, vm), let from = vm.place, let own = index.spec(vm.id) else {
                continue
            }
            take(own.id)
            var target = index.decide(own, policy: policy).assignment
            if target == nil, stopsOthers, kind == .restart, (victimPriorities.keys.min() ?? .max) < own.priority {
                if searches == 0 { plan.isComplete = false }
                if searches > 0, let found = index.decidePreemption(own, policy: policy) {
                    for id in found.victims { stopOther(id, &trials, &plan) }
                    target = found.assignment
                }
                searches = max(0, searches - 1)
            }
            guard let target else {
                var text = "no other host fits"
                if explained < CellKeeper.plansExplainedMax {
                    explained += 1
                    text = waitingText(index.explain(own, policy: policy, bestMax: 0))
                }
                put(own, at: from.assignment)
                plan.left.append(left(vm, .noHostFits, text))
                continue
            }
            put(own, at: target)
            trials.append(.moved(own, from: from.assignment))
            plan.steps.append(
                CellPlan.Step(
                    kind, vm: vm.id, name: vm.name, tenant: vm.tenant, epoch: from.epoch,
                    from: from.assignment.host, fromName: hostName(from.assignment.host), to: target,
                    toName: hostName(target.host), cost: kind == .migrate ? CellKeeper.moveCost(vm) : 0))
        }
        for trial in trials.reversed() {
            switch trial {
            case .moved(let spec, let from):
                take(spec.id)
                put(spec, at: from)
            case .stopped(let spec, let place): put(spec, at: place)
            }
        }
        for (host, state) in states { set(host, state) }
    }

    /// What leaves, in the order in which it finds places; what stays goes into the plan.
    private func leaving(_ hosts: [HostID], _ plan: inout CellPlan, _ fate: (CellKeeper, CellVM) -> Fate) -> [CellVM] {
        var leaving: [CellVM] = []
        for host in hosts {
            for id in index.vms(on: host) where !CellKeeper.isCopy(id) {
                guard let vm = view.vms[id], let place = vm.place, place.assignment.host == host else { continue }
                switch fate(self, vm) {
                case .gone: continue
                case .stay(let cause): plan.left.append(left(vm, cause, text(cause, hostName(host), plan.purpose)))
                case .go: leaving.append(vm)
                }
            }
        }
        leaving.sort { a, b in
            if a.spec.priority != b.spec.priority { return a.spec.priority > b.spec.priority }
            if a.spec.resources.memoryMiB != b.spec.resources.memoryMiB {
                return a.spec.resources.memoryMiB > b.spec.resources.memoryMiB
            }
            return a.id < b.id
        }
        return leaving
    }

    private mutating func stopOther(_ id: VMID, _ trials: inout [Trial], _ plan: inout CellPlan) {
        guard let spec = index.spec(id), let place = index.assignment(id) else { return }
        take(id)
        trials.append(.stopped(spec, at: place))
        guard let vm = view.vms[id] else { return }
        plan.steps.append(
            CellPlan.Step(
                .preempt, vm: id, name: vm.name, tenant: vm.tenant, epoch: vm.place?.epoch ?? 0, from: place.host,
                fromName: hostName(place.host), to: nil, toName: ""))
    }
}
