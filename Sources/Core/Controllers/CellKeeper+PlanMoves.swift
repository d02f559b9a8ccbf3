internal import ClusterBase
import FleetModel
import Placement

// Other places for all that leaves some hosts at once, in a plan.

extension CellKeeper {
    /// What was done to the index for a plan.
    private enum Trial {
        case moved(VMSpec, from: Assignment)
        case stopped(VMSpec, at: Assignment)
        /// One that was stopped.
        case placed(VMID)
    }

    /// One that looks for a place: it is on a host that goes, or was stopped for another and is in the index no more.
    private struct Seeker {
        var vm: CellVM
        var own: VMSpec
        var from: Assignment
        var kind: CellPlan.Step.Kind
        var isStopped = false

        /// As VMs wait: the urgent first, then the large.
        func precedes(_ other: Seeker) -> Bool {
            if own.priority != other.own.priority { return own.priority > other.own.priority }
            let (mine, theirs) = (vm.spec.resources.memoryMiB, other.vm.spec.resources.memoryMiB)
            return mine == theirs ? vm.id < other.vm.id : mine > theirs
        }
    }

    /// Takes the hosts out of service in the index, finds other places for their VMs, and puts all back. While there are
    /// `searches` left, VMs that wait for a place then have others of lower priority stopped, as they will; and those look for
    /// another place in their turn.
    mutating func moveAway(
        _ hosts: [HostID], _ plan: inout CellPlan, searches: inout Int, _ fate: (CellKeeper, CellVM) -> Fate
    ) {
        let stopsOthers = plan.purpose.stopsOthers
        var states: [(HostID, HostState)] = []
        for host in hosts {
            guard let state = index.host(host)?.state else { continue }
            states.append((host, state))
            set(host, state.takesVMs ? .draining : state)
        }
        var trials: [Trial] = []
        var explained = 0
        var seekers = leaving(hosts, &plan, fate)
        var next = 0
        while next < seekers.count {
            let seeker = seekers[next]
            next += 1
            if !seeker.isStopped { take(seeker.own.id) }
            var target = index.decide(seeker.own, policy: policy).assignment
            if target == nil, stopsOthers, seeker.kind == .restart,
                (victimPriorities.keys.min() ?? .max) < seeker.own.priority
            {
                if searches == 0 { plan.isComplete = false }
                if searches > 0, let found = index.decidePreemption(seeker.own, policy: policy) {
                    for id in found.victims {
                        guard let stopped = stopOther(id, &trials, &plan) else { continue }
                        let at = seekers[next...].firstIndex { stopped.precedes($0) } ?? seekers.count
                        seekers.insert(stopped, at: at)
                    }
                    target = found.assignment
                }
                searches = max(0, searches - 1)
            }
            guard let target else {
                leave(seeker, &explained, &plan)
                continue
            }
            put(seeker.own, at: target)
            trials.append(seeker.isStopped ? .placed(seeker.own.id) : .moved(seeker.own, from: seeker.from))
            plan.steps.append(
                CellPlan.Step(
                    seeker.kind, vm: seeker.vm.id, name: seeker.vm.name, tenant: seeker.vm.tenant,
                    epoch: seeker.vm.place?.epoch ?? 0, from: seeker.from.host, fromName: hostName(seeker.from.host),
                    to: target, toName: hostName(target.host),
                    cost: seeker.kind == .migrate ? CellKeeper.moveCost(seeker.vm) : 0))
        }
        for trial in trials.reversed() {
            switch trial {
            case .moved(let spec, let from):
                take(spec.id)
                put(spec, at: from)
            case .placed(let id): take(id)
            case .stopped(let spec, let place): put(spec, at: place)
            }
        }
        for (host, state) in states { set(host, state) }
    }

    /// One that finds no place.
    private mutating func leave(_ seeker: Seeker, _ explained: inout Int, _ plan: inout CellPlan) {
        var text = seeker.isStopped ? "no host fits" : "no other host fits"
        if explained < CellKeeper.plansExplainedMax {
            explained += 1
            text = waitingText(index.explain(seeker.own, policy: policy, bestMax: 0))
        }
        if seeker.isStopped {
            let why = CellKeeper.text(.preempted, hostName(seeker.from.host))
            plan.left.append(left(seeker.vm, .preempted, "\(why), and \(text)"))
        } else {
            put(seeker.own, at: seeker.from)
            plan.left.append(left(seeker.vm, .noHostFits, text))
        }
    }

    /// What leaves, in the order in which it finds places; what stays goes into the plan.
    private func leaving(_ hosts: [HostID], _ plan: inout CellPlan, _ fate: (CellKeeper, CellVM) -> Fate) -> [Seeker] {
        var leaving: [Seeker] = []
        for host in hosts {
            for id in index.vms(on: host) where !CellKeeper.isCopy(id) {
                guard let vm = view.vms[id], let place = vm.place, place.assignment.host == host else { continue }
                switch fate(self, vm) {
                case .gone: continue
                case .stay(let cause): plan.left.append(left(vm, cause, text(cause, hostName(host), plan.purpose)))
                case .go(let kind):
                    guard let own = index.spec(id) else { continue }
                    leaving.append(Seeker(vm: vm, own: own, from: place.assignment, kind: kind))
                }
            }
        }
        leaving.sort { $0.precedes($1) }
        return leaving
    }

    /// Takes it out of the index; nil for one that is not known.
    private mutating func stopOther(_ id: VMID, _ trials: inout [Trial], _ plan: inout CellPlan) -> Seeker? {
        guard let spec = index.spec(id), let place = index.assignment(id) else { return nil }
        take(id)
        trials.append(.stopped(spec, at: place))
        guard let vm = view.vms[id] else { return nil }
        plan.steps.append(
            CellPlan.Step(
                .preempt, vm: id, name: vm.name, tenant: vm.tenant, epoch: vm.place?.epoch ?? 0, from: place.host,
                fromName: hostName(place.host), to: nil, toName: ""))
        return Seeker(vm: vm, own: spec, from: place, kind: .restart, isStopped: true)
    }
}

extension CellPlan.Purpose {
    /// Of a loss VMs wait and have others stopped; what is drained stays where it is until it can go.
    fileprivate var stopsOthers: Bool {
        switch self {
        case .loss, .remove, .declareDead: true
        case .create, .drain, .returns, .rebalance, .capacity, .quota: false
        }
    }
}
