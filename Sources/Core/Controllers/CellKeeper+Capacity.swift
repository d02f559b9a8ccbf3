internal import ClusterBase
package import FleetModel
import Placement

// What other capacity of a host would do. Planned in the index, which is the same afterwards.

extension CellKeeper {
    /// Waiting VMs for which a plan of other capacity looks for a place.
    static let capacityTriesMax = 256

    /// Which VMs a host with this policy has no right to any more, and which waiting ones would get a place. Nothing is stopped
    /// because of a policy: VMs that don't fit stay where they are until they are moved. Nil for a host that is not known.
    package mutating func planCapacity(_ id: HostID, _ wanted: HostPolicy) -> CellPlan? {
        guard let known = hostsIndexed[id] else { return nil }
        var plan = CellPlan(.capacity(id), through: view.through ?? .zero)
        plan.change = wanted.digest
        if var host = view.hosts[id] {
            host.policy = wanted
            plan.notes = reserveNotes(id, as: host, isRefused: true)
        }
        var changed = known
        changed.policy = wanted
        let there = index.vms(on: id).sorted { before($0, $1) }
        var kept: [(spec: VMSpec, at: Assignment)] = []
        for vm in there {
            guard let spec = index.spec(vm), let assignment = index.assignment(vm) else { continue }
            kept.append((spec, assignment))
            take(vm)
        }
        guard replace(intern(changed)) else {
            for (spec, assignment) in kept { put(spec, at: assignment) }
            return nil
        }
        let state = index.host(id)?.state ?? .ready
        set(id, .ready)
        // The most important and the largest first: what is left over is then the least.
        var over: [VMSpec] = []
        var stayed: [(spec: VMSpec, at: Assignment)] = []
        for (spec, assignment) in kept {
            let found = index.decide(spec, policy: policy, among: HostFilter(only: [id]))
            if let again = found.assignment {
                put(spec, at: again)
                stayed.append((spec, assignment))
            } else if !CellKeeper.isCopy(spec.id) {
                over.append(spec)
            }
        }
        var placed = planOver(over, id, &plan)
        for spec in placed.reversed() { take(spec.id) }
        set(id, state)
        placed = []
        if plan.left.isEmpty { placed = planWaiting(&plan) }
        for spec in placed.reversed() { take(spec.id) }
        for (spec, _) in stayed { take(spec.id) }
        guard replace(intern(known)) else { preconditionFailure("host \(id) can't be as it was") }
        for (spec, assignment) in kept { put(spec, at: assignment) }
        return plan
    }

    /// What would not fit any more, each with the reason and with where it would find room; that is in the index then.
    private mutating func planOver(_ specs: [VMSpec], _ id: HostID, _ plan: inout CellPlan) -> [VMSpec] {
        var placed: [VMSpec] = []
        for spec in specs {
            guard let vm = view.vms[spec.id] else { continue }
            var why = "it has no room for it"
            if plan.left.count < CellKeeper.plansExplainedMax, let known = whyNot(spec, on: id) { why = known }
            let isStill = vm.power == .stopped && vm.phase == .stopped
            var text = "\(hostName(id)) would not take it: \(why); it \(isStill ? "stays" : "runs on") there"
            if let to = index.decide(spec, policy: policy, among: HostFilter(except: [id])).assignment {
                put(spec, at: to)
                placed.append(spec)
                if vm.boundTo != nil {
                    text += ", as its local disk is"
                } else if way(vm) == .migrate {
                    text += ", and `muster rebalance run` moves it to \(hostName(to.host))"
                } else if isStill {
                    text += " until `muster rebalance run` has it give up its place"
                }
            } else {
                text += ", as no other host takes it"
            }
            plan.left.append(left(vm, .noHostFits, text))
        }
        return placed
    }

    /// The same as its loss, once it is out of service; that a host with VMs is taken out only by force is said by the cell.
    package mutating func planRemoval(_ id: HostID) -> CellPlan? {
        guard let host = hostsIndexed[id] else { return nil }
        var plan = planLoss([id])
        plan.purpose = .remove(id)
        plan.notes = reserveNotes(id, as: nil, isRefused: false)
        plan.change = host.vmCount == 0 ? 0 : 1
        return plan
    }

    /// Gives waiting VMs the places that they would get, in their order; they are in the index then.
    private mutating func planWaiting(_ plan: inout CellPlan) -> [VMSpec] {
        var placed: [VMSpec] = []
        // hash order: looked up only
        var refused: Set<Int> = []
        for id in queue.inOrder(most: CellKeeper.capacityTriesMax) {
            guard let kind = queue.kind(of: id), !refused.contains(kind) else { continue }
            if queue.kinds[kind].isGang {
                // All of it is looked at with the first of it.
                refused.insert(kind)
                let gang = queue.members(kind)
                let batch = index.decideBatch(
                    gang, policy: policy, allOrNothing: true, stepsMax: CellKeeper.togetherStepsMax)
                if !batch.isComplete { continue }
                for (spec, decision) in zip(gang, batch.decisions) {
                    if let assignment = decision.assignment { placed.append(settle(spec, assignment, &plan)) }
                }
                continue
            }
            var spec = queue.kinds[kind].spec
            spec.id = id
            let filter = HostFilter(only: queue.kinds[kind].key.boundTo.map { [$0] })
            guard let assignment = index.decide(spec, policy: policy, among: filter).assignment else {
                refused.insert(kind)
                continue
            }
            placed.append(settle(spec, assignment, &plan))
        }
        return placed
    }

    private mutating func settle(_ spec: VMSpec, _ assignment: Assignment, _ plan: inout CellPlan) -> VMSpec {
        put(spec, at: assignment)
        plan.steps.append(
            CellPlan.Step(
                .place, vm: spec.id, name: view.vms[spec.id]?.name ?? "", tenant: view.vms[spec.id]?.tenant ?? "",
                to: assignment, toName: hostName(assignment.host)))
        return spec
    }

    func before(_ a: VMID, _ b: VMID) -> Bool {
        guard let first = index.spec(a), let second = index.spec(b) else { return a < b }
        if first.priority != second.priority { return first.priority > second.priority }
        let sizes = (index.size(of: first), index.size(of: second))
        return sizes.0 == sizes.1 ? a < b : sizes.0 > sizes.1
    }

    private mutating func replace(_ host: Host) -> Bool {
        do throws(IndexError) {
            try index.updateHost(host)
            return true
        } catch { return false }
    }
}
