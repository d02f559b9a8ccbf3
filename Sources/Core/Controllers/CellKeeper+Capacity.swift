internal import ClusterBase
package import FleetModel
import Placement

// What other capacity of a host would do. Planned in the index, which is the same afterwards.

extension CellKeeper {
    /// Waiting VMs for which a plan of other capacity looks for a place.
    static let capacityTriesMax = 256

    /// Which VMs a host with this policy has no room for any more or may not have, and which waiting ones would get a place. Where it
    /// is enforced the former move away that can; else nothing is done because of a policy, and they stay where they are until
    /// they are moved. Nil for a host that is not known.
    package mutating func planCapacity(_ id: HostID, _ wanted: HostPolicy, isEnforced: Bool = false) -> CellPlan? {
        guard let known = hostsIndexed[id] else { return nil }
        var plan = CellPlan(.capacity(id), through: view.through ?? .zero)
        plan.change = isEnforced ? mix64(wanted.digest) : wanted.digest
        if var host = view.hosts[id] {
            host.policy = wanted
            plan.notes = reserveNotes(id, as: host, isRefused: true)
        }
        var changed = known
        changed.policy = wanted
        guard replace(intern(changed)) else { return nil }
        let over = isEnforced && known.state != .ready && known.state != .cordoned ? [] : astray(on: id)
        if isEnforced && over.isEmpty && known.state != .ready && known.state != .cordoned {
            plan.notes.append("nothing is moved off it for that, as it is not in service")
        }
        var elsewhere: [(spec: VMSpec, from: Assignment)] = []
        for vm in over.reversed() { planOver(vm, id, isEnforced: isEnforced, &elsewhere, &plan) }
        var placed: [VMSpec] = []
        if over.isEmpty { placed = planWaiting(&plan) }
        for spec in placed.reversed() { take(spec.id) }
        for (spec, from) in elsewhere.reversed() {
            take(spec.id)
            put(spec, at: from)
        }
        guard replace(intern(known)) else { preconditionFailure("host \(id) can't be as it was") }
        return plan
    }

    /// One that may not stay, with the reason and with where it would find room; that is in the index then.
    private mutating func planOver(
        _ id: VMID, _ host: HostID, isEnforced: Bool, _ elsewhere: inout [(spec: VMSpec, from: Assignment)],
        _ plan: inout CellPlan
    ) {
        guard let vm = view.vms[id], let spec = index.spec(id), let from = index.assignment(id) else { return }
        var why = "it has no room for it"
        take(id)
        if plan.left.count < CellKeeper.plansExplainedMax, let known = whyNot(spec, on: host) { why = known }
        let isStill = vm.power == .stopped && vm.phase == .stopped
        let target = index.decide(spec, policy: policy, among: HostFilter(except: [host])).assignment
        var text = "\(hostName(host)) would not take it: \(why); it \(isStill ? "stays" : "runs on") there"
        let way = way(vm)
        var cause = CellPlan.Left.Cause.noHostFits
        if target == nil {
            put(spec, at: from)
            text += ", as no other host takes it"
        } else if way == .migrate || isStill && vm.boundTo == nil {
            if isEnforced {
                plan.steps.append(
                    CellPlan.Step(
                        isStill ? .release : .migrate, vm: id, name: vm.name, tenant: vm.tenant,
                        epoch: vm.place?.epoch ?? 0, from: from.host, fromName: hostName(from.host),
                        to: isStill ? nil : target, toName: isStill ? "" : hostName(target?.host ?? host),
                        cost: isStill ? 0 : CellKeeper.moveCost(vm)))
            }
            text +=
                isStill
                ? "; with --enforce it gives up its place"
                : "; with --enforce it moves to \(hostName(target?.host ?? host))"
        } else if vm.boundTo != nil {
            cause = .localDisk
            text += ", as its local disk is"
        } else {
            cause = .notRunning
            text += " until it runs or is stopped"
        }
        if let target {
            put(spec, at: target)
            elsewhere.append((spec, from))
        }
        if isEnforced && plan.steps.last?.vm == id { return }
        plan.left.append(left(vm, cause, text))
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
