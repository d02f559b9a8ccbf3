internal import ClusterBase
package import FleetModel
import Placement

// VMs that don't exist yet, in a plan: where they would go, who would be stopped for them, and which would not be made.

extension CellKeeper {
    /// Where VMs that don't exist yet would go, and who is stopped for them. Quotas that are used up are named, too, and names that
    /// come twice; what else speaks against some of them, `refused` says. One that is to be stopped gets no place.
    package mutating func planCreate(
        _ creations: [VMCreation], isAtomic: Bool = false, _ refused: [CellPlan.Refused] = []
    ) -> CellPlan {
        var plan = CellPlan(.create, through: view.through ?? .zero)
        plan.change = CellKeeper.sum(of: creations, isAtomic)
        let (specs, items, idle) = admitted(creations, refused, &plan)
        if isAtomic && !plan.left.isEmpty {
            for item in items + idle { plan.left.append(CellKeeper.leftWithOthers(item, creations[item])) }
            plan.left.sort { ($0.item ?? 0) < ($1.item ?? 0) }
            return plan
        }
        for item in idle {
            plan.steps.append(
                CellPlan.Step(
                    .create, vm: VMID(rawValue: 0), item: item, name: creations[item].name,
                    tenant: creations[item].tenant, to: nil, toName: ""))
        }
        if specs.isEmpty { return plan }
        // All or none are decided as they will be when they wait.
        let steps = isAtomic ? CellKeeper.togetherStepsMax : PlacementIndex.batchStepsMax
        let batch = index.decideBatch(specs, policy: policy, allOrNothing: isAtomic, stepsMax: steps)
        let known = items.map { (item: $0, creation: creations[$0]) }
        if !batch.isComplete, mayPreempt(specs) {
            if isAtomic {
                if let found = makingRoom(for: specs) {
                    planRoom(found.map { $0 }, known, specs, &plan)
                    return plan
                }
            } else {
                // Each waits for itself, the most urgent first, and has others stopped where it finds no room.
                let found = index.decidePreemptions(specs, policy: policy)
                if found.contains(where: { $0?.victims.isEmpty == false }) {
                    let fits = zip(found, batch.decisions).map { $0?.victims.isEmpty == true && $1.assignment != nil }
                    planRoom(found, known, specs, fits: fits, &plan)
                    return plan
                }
            }
        } else if !batch.isComplete, !isAtomic,
            (victimPriorities.keys.min() ?? .max) < specs.map(\.priority).max() ?? .min
        {
            // There are too many to look for whom each would have stopped.
            plan.isComplete = false
        }
        let room = texts(specs, batch)
        for (position, decision) in batch.decisions.enumerated() {
            let i = items[position]
            let creation = creations[i]
            if case .place(let assignment, _) = decision {
                plan.steps.append(
                    CellPlan.Step(
                        .place, vm: VMID(rawValue: 0), item: i, name: creation.name, tenant: creation.tenant,
                        to: assignment, toName: hostName(assignment.host)))
                continue
            }
            if isAtomic && decision.refusal?.invalid != nil {
                plan.left.append(CellKeeper.leftWithOthers(i, creation))
                continue
            }
            plan.left.append(
                CellPlan.Left(
                    vm: VMID(rawValue: 0), item: i, name: creation.name, tenant: creation.tenant, cause: .noHostFits,
                    text: room[position] ?? refusalText(decision)))
        }
        return plan
    }

    /// Those that would be made: what is to run, its places among all, and the places of what is not to run.
    private mutating func admitted(
        _ creations: [VMCreation], _ refused: [CellPlan.Refused], _ plan: inout CellPlan
    ) -> (specs: [VMSpec], items: [Int], idle: [Int]) {
        // hash order: looked up only
        var refusals: [Int: CellPlan.Refused] = [:]
        for one in refused { refusals[one.item] = one }
        // hash order: looked up only
        var names: Set<[String]> = []
        var specs: [VMSpec] = []
        var items: [Int] = []
        var idle: [Int] = []
        // hash order: looked up only
        var asked: [String: TenantSlice] = [:]
        var left = reserve.left ?? view.reserve
        for (i, creation) in creations.enumerated() {
            func leave(_ cause: CellPlan.Left.Cause, _ text: String) {
                plan.left.append(
                    CellPlan.Left(
                        vm: VMID(rawValue: 0), item: i, name: creation.name, tenant: creation.tenant, cause: cause,
                        text: text))
            }
            if let refusal = refusals[i] {
                leave(refusal.cause, refusal.text)
                continue
            }
            guard names.insert([creation.tenant, creation.name]).inserted else {
                leave(.invalid, "\(CellRefusal.vmNameTaken(creation.name))")
                continue
            }
            guard let spec = intern(creation.spec, id: CellKeeper.trialID(i), tenant: creation.tenant) else {
                leave(.invalid, "a placement group that it names does not exist; make it first")
                continue
            }
            var slice = asked[creation.tenant] ?? view.slices[creation.tenant] ?? TenantSlice(tenant: creation.tenant)
            if knowsTenants && !slice.isKnown {
                leave(.invalid, "\(CellRefusal.unknownTenant(creation.tenant))")
                continue
            }
            if let refusal = slice.refusal(of: creation.spec.charge, count: 1) {
                leave(.quota, "\(refusal)")
                continue
            }
            slice.usedCount += 1
            slice.used += creation.spec.charge
            asked[creation.tenant] = slice
            if creation.power == .stopped {
                idle.append(i)
                continue
            }
            let (demand, counts) = (creation.spec.demand, creation.spec.startsElsewhere)
            if let known = left, let lack = known.lack(for: demand, counts: counts) {
                leave(.reserve, known.text(lack, hostName))
                continue
            }
            left?.take(demand, counts: counts)
            specs.append(spec)
            items.append(i)
        }
        return (specs, items, idle)
    }

    /// Of all that is asked for: the values of secret fields are sealed anew each time, and are left out.
    private static func sum(of creations: [VMCreation], _ isAtomic: Bool) -> UInt64 {
        var sum: UInt64 = isAtomic ? 1 : 0
        func add(_ bytes: some Sequence<UInt8>) {
            for byte in bytes { sum = mix64(sum ^ UInt64(byte)) }
            sum = mix64(sum ^ 256)
        }
        for creation in creations {
            var plain = creation
            for field in plain.spec.secrets { add(field.key.utf8) }
            plain.spec.secrets = []
            plain.spec.sealMark = []
            add(CellCommand(by: "", .createVMs([plain], isAtomic: false)).encoded())
        }
        return sum
    }

    private static func leftWithOthers(_ item: Int, _ creation: VMCreation) -> CellPlan.Left {
        CellPlan.Left(
            vm: VMID(rawValue: 0), item: item, name: creation.name, tenant: creation.tenant, cause: .anotherItem,
            text: text(.anotherItem, ""))
    }

    /// Those that fit as it is, then who is stopped for the others, and then their places; and who finds none all the same.
    private mutating func planRoom(
        _ found: [Preemption?], _ creations: [(item: Int, creation: VMCreation)], _ specs: [VMSpec], fits: [Bool] = [],
        _ plan: inout CellPlan
    ) {
        func place(_ at: Int, _ answer: Preemption) {
            let (item, creation) = creations[at]
            plan.steps.append(
                CellPlan.Step(
                    .place, vm: VMID(rawValue: 0), item: item, name: creation.name, tenant: creation.tenant,
                    to: answer.assignment, toName: hostName(answer.assignment.host)))
        }
        for (at, answer) in found.enumerated() {
            if let answer, at < fits.count, fits[at] { place(at, answer) }
        }
        for id in found.compactMap({ $0 }).flatMap(\.victims) {
            guard let vm = view.vms[id], let place = vm.place else { continue }
            plan.steps.append(
                CellPlan.Step(
                    .preempt, vm: id, name: vm.name, tenant: vm.tenant, epoch: place.epoch,
                    from: place.assignment.host, fromName: hostName(place.assignment.host), to: nil, toName: ""))
        }
        for (at, answer) in found.enumerated() {
            if let answer {
                if at >= fits.count || !fits[at] { place(at, answer) }
                continue
            }
            let why =
                plan.left.count < CellKeeper.plansExplainedMax
                ? waitingText(index.explain(specs[at], policy: policy, bestMax: 0)) : "no host fits"
            let (item, creation) = creations[at]
            plan.left.append(
                CellPlan.Left(
                    vm: VMID(rawValue: 0), item: item, name: creation.name, tenant: creation.tenant, cause: .noHostFits,
                    text: why == "waits for its turn" ? "it fits alone, and not together with the others" : why))
        }
    }
}
