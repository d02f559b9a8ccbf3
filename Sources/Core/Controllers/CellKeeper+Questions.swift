internal import ClusterBase
package import FleetModel
import Placement

// Questions: answered from the index, which is the same afterwards. `mutating` because deciding remembers winners.

extension CellKeeper {
    /// Answers any question. Explaining is O(hosts), planning a drain or a loss one decision per VM concerned, planning a
    /// rebalancing and `losses` one or more per VM of the cell.
    package mutating func answer(_ question: CellQuestion) -> CellReply {
        if !isReady { return .notReady }
        switch question {
        case .explain(let vm, let hosts):
            return explain(vm, hosts: hosts).map { .explanation($0) } ?? .refused(.unknownVM(vm))
        case .create(let creations, let isAtomic):
            return .plan(planCreate(creations, isAtomic: isAtomic))
        case .drain(let host):
            return planDrain(host).map { .plan($0) } ?? .refused(.unknownHost(host))
        case .rebalance: return .plan(planRebalance())
        case .budgets(let from, let to): return .budgets(MoveBudget(self).lacks(from: from, to: to, self))
        case .loss(let hosts):
            if let host = hosts.first(where: { hostsIndexed[$0] == nil }) { return .refused(.unknownHost(host)) }
            return .plan(planLoss(hosts))
        case .losses(let scope): return .losses(losses(scope))
        case .capacity(let host, let policy):
            return planCapacity(host, policy).map { .plan($0) } ?? .refused(.unknownHost(host))
        case .remove(let host): return planRemoval(host).map { .plan($0) } ?? .refused(.unknownHost(host))
        }
    }

    // MARK: Explain

    /// Nil for a VM that is not known.
    package mutating func explain(_ id: VMID, hosts: [HostID] = []) -> CellExplanation? {
        guard let vm = view.vms[id] else { return nil }
        let standing: CellExplanation.Standing =
            if let nomination = nominations[id] {
                .nominated(nomination.host)
            } else if let place = vm.place {
                .placed(place.assignment.host)
            } else if CellKeeper.isWaiting(vm) {
                .waiting(before: queue.before(id))
            } else {
                .idle
            }
        var result = CellExplanation(
            vm: id, name: vm.name, tenant: vm.tenant, standing: standing, through: view.through ?? .zero,
            policy: vm.spec.policy ?? policy, tieBreak: "", hosts: index.hostCount, candidates: 0, tied: 0)
        guard let spec = intern(vm) else {
            result.invalid = "a placement group that it names does not exist"
            return result
        }
        let found = index.explain(spec, policy: policy, hosts: hosts)
        result.tieBreak = found.tieBreak
        result.candidates = found.candidates
        result.tied = found.tied
        result.rules = found.counts.map { CellExplanation.RuleCount(rule: ruleName($0.rule), hosts: $0.hosts) }
        result.verdicts = found.rules.map {
            CellExplanation.RuleVerdict(
                rule: ruleName($0.rule), excluded: $0.excluded, excludedAlone: $0.excludedAlone)
        }
        result.best = found.best.map { candidate($0) }
        result.asked = found.asked.map { candidate($0) }
        result.nearest = found.nearest.map { text($0) }
        result.invalid = found.invalid
        result.region = regionText(vm) ?? ""
        if vm.place == nil, let bound = vm.boundTo { result.nearest = boundText(spec, bound) }
        if let kind = queue.kind(of: id), queue.kinds[kind].isGang {
            result.gang = gangStanding(queue.members(kind), textsMax: CellKeeper.gangExplainedMax)
        }
        return result
    }

    private func candidate(_ report: Explanation.HostReport) -> CellExplanation.Candidate {
        CellExplanation.Candidate(
            host: report.host, name: hostName(report.host),
            excludedBy: report.excludedBy.map { ruleName($0) + storageText($0, report.host) },
            shortages: report.shortages.map { CellExplanation.Shortage(resource: $0.kind, amount: $0.amount) },
            free: report.free, assignment: report.assignment,
            score: report.terms.map { terms in
                CellExplanation.Score(
                    softRules: terms.softRules, policy: terms.policy,
                    groups: terms.groups.map {
                        CellExplanation.GroupTerm(group: groupName($0.group), weight: $0.weight)
                    }, worthBefore: terms.worthBefore, worthAfter: terms.worthAfter)
            })
    }

    // MARK: Words

    func hostName(_ id: HostID) -> String {
        view.hosts[id].flatMap { $0.about.name.isEmpty ? nil : $0.about.name } ?? "host \(id)"
    }
    func groupName(_ id: PlacementGroupID) -> String { view.groups[id]?.name ?? "\(id)" }
    func ruleName(_ rule: Rule) -> String {
        if case .group(let id) = rule { return "group \(groupName(id))" }
        return rule.description
    }

    /// What a host says of storage that it does not reach.
    private func storageText(_ rule: Rule, _ host: HostID) -> String {
        guard rule == .storageDomain, let problems = view.hosts[host]?.about.storageProblems, !problems.isEmpty else {
            return ""
        }
        return " (\(problems.prefix(2).map(\.value).joined(separator: "; ")))"
    }

    /// `no host fits: 3 by free memory, 2 by taint; fits on h4 if 3072 MiB of memory more were free`.
    func waitingText(_ found: Explanation) -> String {
        if let invalid = found.invalid { return invalid }
        if found.candidates > 0 { return "waits for its turn" }
        if found.hosts == 0 { return "there are no hosts" }
        let counts = found.counts.map { "\($0.hosts) by \(ruleName($0.rule))" }.joined(separator: ", ")
        let nearest = found.nearest.map { "; " + text($0) } ?? ""
        return "no host fits: \(counts)\(nearest)"
    }

    /// Of a VM whose local disks are on one host: what keeps it from there.
    mutating func boundText(_ spec: VMSpec, _ host: HostID) -> String {
        let name = hostName(host)
        let found = index.explain(spec, policy: policy, hosts: [host], bestMax: 0)
        if let invalid = found.invalid { return invalid }
        guard let report = found.asked.first else { return "its local disk is on \(name), which is not in this cell" }
        if report.excludedBy.isEmpty { return "waits for its turn" }
        if !report.shortages.isEmpty { return "its local disk is on \(name); " + text(.free(host, report.shortages)) }
        return
            "its local disk is on \(name), which is excluded by \(report.excludedBy.map { ruleName($0) }.joined(separator: ", "))"
    }

    func text(_ change: NearestChange) -> String {
        switch change {
        case .free(let host, let shortages):
            let parts = shortages.map { shortage in
                switch shortage.kind {
                case .cpu: "\(shortage.amount)m CPU"
                case .memory: "\(shortage.amount) MiB of memory"
                case .disk: "\(shortage.amount) MiB of disk"
                case .network: "\(shortage.amount) Mbit/s"
                }
            }
            return "fits on \(hostName(host)) if \(parts.joined(separator: " and ")) more were free"
        case .groupLimit(let group, let limit, let scope, let host):
            return "fits on \(hostName(host)) if group \(groupName(group)) allowed \(limit) per \(scope)"
        case .groupSoft(let group, let host):
            return "fits on \(hostName(host)) if the rule of group \(groupName(group)) were soft"
        case .hostReady(let host, let state):
            return "fits on \(hostName(host)) if it were not \(state)"
        case .rule(let rule, let host):
            return "fits on \(hostName(host)) but for one rule: \(ruleName(rule))\(storageText(rule, host))"
        }
    }

    // MARK: Plans

    /// Where VMs that don't exist yet would go. Quotas that are used up are named, too; names are not looked at. One that is to
    /// be stopped gets no place.
    package mutating func planCreate(_ creations: [VMCreation], isAtomic: Bool = false) -> CellPlan {
        var plan = CellPlan(.create, through: view.through ?? .zero)
        plan.change = CellKeeper.sum(of: creations)
        var specs: [VMSpec] = []
        var items: [Int] = []
        var idle: [Int] = []
        // hash order: looked up only
        var asked: [String: (count: UInt64, demand: Resources)] = [:]
        for (i, creation) in creations.enumerated() {
            func leave(_ cause: CellPlan.Left.Cause, _ text: String) {
                plan.left.append(
                    CellPlan.Left(
                        vm: VMID(rawValue: 0), item: i, name: creation.name, tenant: creation.tenant, cause: cause,
                        text: text))
            }
            guard let spec = intern(creation.spec, id: CellKeeper.trialID(i), tenant: creation.tenant) else {
                leave(.invalid, "a placement group that it names does not exist; make it first")
                continue
            }
            let before = asked[creation.tenant] ?? (0, .zero)
            if let text = quotaText(creation, before) {
                leave(.quota, text)
                continue
            }
            asked[creation.tenant] = (before.count + 1, before.demand + creation.spec.demand)
            if creation.power == .stopped {
                idle.append(i)
                continue
            }
            specs.append(spec)
            items.append(i)
        }
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
        if isAtomic || specs.count == 1, !batch.isComplete, mayPreempt(specs), let found = makingRoom(for: specs) {
            planRoom(found, items.map { (item: $0, creation: creations[$0]) }, &plan)
            return plan
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

    /// Of who is created and what each takes: secret fields are sealed anew each time, and are left out.
    private static func sum(of creations: [VMCreation]) -> UInt64 {
        var sum: UInt64 = 0
        func add(_ value: UInt64) { sum = mix64(sum ^ value) }
        for creation in creations {
            for text in [creation.name, creation.tenant] {
                for byte in text.utf8 { add(UInt64(byte)) }
                add(256)
            }
            for lane in 0..<4 { add(UInt64(bitPattern: creation.spec.demand.vector[lane])) }
            add(UInt64(bitPattern: Int64(creation.spec.priority)))
            add(creation.power == .stopped ? 1 : 0)
            for disk in creation.spec.disks { add(UInt64(bitPattern: disk.sizeMiB)) }
        }
        return sum
    }

    private static func leftWithOthers(_ item: Int, _ creation: VMCreation) -> CellPlan.Left {
        CellPlan.Left(
            vm: VMID(rawValue: 0), item: item, name: creation.name, tenant: creation.tenant, cause: .anotherItem,
            text: text(.anotherItem, ""))
    }

    /// Who is stopped for those that are created all or none, and then their places.
    private func planRoom(
        _ found: [Preemption], _ creations: [(item: Int, creation: VMCreation)], _ plan: inout CellPlan
    ) {
        for id in found.flatMap(\.victims) {
            guard let vm = view.vms[id], let place = vm.place else { continue }
            plan.steps.append(
                CellPlan.Step(
                    .preempt, vm: id, name: vm.name, tenant: vm.tenant, epoch: place.epoch,
                    from: place.assignment.host, fromName: hostName(place.assignment.host), to: nil, toName: ""))
        }
        for (known, answer) in zip(creations, found) {
            plan.steps.append(
                CellPlan.Step(
                    .place, vm: VMID(rawValue: 0), item: known.item, name: known.creation.name,
                    tenant: known.creation.tenant, to: answer.assignment, toName: hostName(answer.assignment.host)))
        }
    }

    private func quotaText(_ creation: VMCreation, _ before: (count: UInt64, demand: Resources)) -> String? {
        guard let slice = view.slices[creation.tenant] else { return nil }
        let demand = slice.used + before.demand + creation.spec.demand
        if let most = slice.allowed.vmCount, slice.usedCount + before.count + 1 > most {
            return "tenant \(creation.tenant) has a quota of \(most) VMs"
        }
        if let most = slice.allowed.cpuMillis, demand.cpuMillis > most {
            return "tenant \(creation.tenant) has a quota of \(most)m CPU"
        }
        if let most = slice.allowed.memoryMiB, demand.memoryMiB > most {
            return "tenant \(creation.tenant) has a quota of \(most) MiB of memory"
        }
        if let most = slice.allowed.diskMiB, demand.diskMiB > most {
            return "tenant \(creation.tenant) has a quota of \(most) MiB of disk"
        }
        return nil
    }

    /// Why some of a batch have no place, as it is when the others have theirs.
    // hash order: looked up, or read by sorted keys
    mutating func texts(
        _ specs: [VMSpec], _ batch: BatchDecision, most: Int = CellKeeper.plansExplainedMax
        // hash order: looked up, or read by sorted keys
    ) -> [Int: String] {
        // hash order: looked up only
        var texts: [Int: String] = [:]
        do throws(IndexError) { try index.placeBatch(specs, batch) } catch { return [:] }
        for (position, decision) in batch.decisions.enumerated() where decision.assignment == nil {
            guard texts.count < most else { break }
            if decision.refusal?.invalid != nil { continue }
            let found = index.explain(specs[position], policy: policy, bestMax: 0)
            texts[position] =
                found.candidates > 0 ? "it fits alone, and not together with the others" : waitingText(found)
        }
        for (position, decision) in batch.decisions.enumerated() where decision.assignment != nil {
            take(specs[position].id)
        }
        return texts
    }

    func refusalText(_ decision: Decision) -> String {
        guard let refusal = decision.refusal else { return "" }
        if let invalid = refusal.invalid { return invalid }
        if refusal.counts.isEmpty { return "there are no hosts" }
        return "no host fits: " + refusal.counts.map { "\($0.hosts) by \(ruleName($0.rule))" }.joined(separator: ", ")
    }

    static func trialID(_ i: Int) -> VMID { VMID(rawValue: 1 << 62 | UInt64(i)) }

    /// What leaves a host that is drained, in its order, and what can't. Budgets decide how fast, not whether. Nil for a host that
    /// is not known.
    package mutating func planDrain(_ host: HostID) -> CellPlan? {
        guard hostsIndexed[host] != nil else { return nil }
        var plan = CellPlan(.drain(host), through: view.through ?? .zero)
        moveAway([host], &plan) { keeper, vm in
            switch keeper.way(vm) {
            case .migrate: .go(.migrate)
            case .restart: .go(.restart)
            case .wait: keeper.isLeaving(vm, from: host) ? .gone : .go(.migrate)
            case .never(let cause): .stay(cause)
            }
        }
        return plan
    }

    /// What becomes of the VMs of hosts that are lost at once.
    package mutating func planLoss(_ hosts: [HostID]) -> CellPlan {
        var plan = CellPlan(.loss(hosts), through: view.through ?? .zero)
        moveAway(hosts, &plan) { keeper, vm in
            if vm.isDeleting || vm.power == .stopped { return .gone }
            if vm.boundTo != nil { return .stay(.localDisk) }
            if vm.spec.isolation == .keep { return .stay(.isolationKeep) }
            if vm.spec.restart == .never { return .stay(.neverRestarts) }
            return .go(.restart)
        }
        return plan
    }

    private func isLeaving(_ vm: CellVM, from host: HostID) -> Bool {
        guard let place = vm.place else { return true }
        return place.isReleasing || vm.isDeleting || (vm.migration.map { $0.phase != .undoing } ?? false)
    }

    enum Fate {
        case go(CellPlan.Step.Kind)
        case stay(CellPlan.Left.Cause)
        case gone
    }

    /// Takes the hosts out of service in the index, finds other places for their VMs, and puts all back.
    mutating func moveAway(
        _ hosts: [HostID], _ plan: inout CellPlan, _ fate: (CellKeeper, CellVM) -> Fate
    ) {
        var states: [(HostID, HostState)] = []
        for host in hosts {
            guard let state = index.host(host)?.state else { continue }
            states.append((host, state))
            set(host, state.takesVMs ? .draining : state)
        }
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
        var moved: [(spec: VMSpec, from: Assignment)] = []
        var explained = 0
        for vm in leaving {
            guard case .go(let kind) = fate(self, vm), let from = vm.place, let own = index.spec(vm.id) else {
                continue
            }
            take(own.id)
            guard let target = index.decide(own, policy: policy).assignment else {
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
            moved.append((own, from.assignment))
            plan.steps.append(
                CellPlan.Step(
                    kind, vm: vm.id, name: vm.name, tenant: vm.tenant, epoch: from.epoch,
                    from: from.assignment.host, fromName: hostName(from.assignment.host), to: target,
                    toName: hostName(target.host), cost: kind == .migrate ? CellKeeper.moveCost(vm) : 0))
        }
        for (spec, from) in moved.reversed() {
            take(spec.id)
            put(spec, at: from)
        }
        for (host, state) in states { set(host, state) }
    }

    func left(_ vm: CellVM, _ cause: CellPlan.Left.Cause, _ text: String) -> CellPlan.Left {
        CellPlan.Left(vm: vm.id, name: vm.name, tenant: vm.tenant, cause: cause, text: text)
    }

    private func text(_ cause: CellPlan.Left.Cause, _ host: String, _ purpose: CellPlan.Purpose) -> String {
        if case .drain = purpose, cause == .localDisk, movesDisks {
            return "it has a local disk on \(host), which moves only while the VM runs; start it, or delete it"
        }
        return CellKeeper.text(cause, host)
    }

    /// What moves with it, in MiB.
    static func moveCost(_ vm: CellVM) -> Int64 {
        vm.spec.disks.reduce(vm.spec.resources.memoryMiB) { sum, disk in
            if case .shared = disk.kind { return sum }
            return sum + disk.sizeMiB
        }
    }

    static func text(_ cause: CellPlan.Left.Cause, _ host: String) -> String {
        switch cause {
        case .localDisk: "it has a local disk on \(host); delete it or wait for the host"
        case .isolationKeep: "its isolation policy is keep: it starts elsewhere only when \(host) says that it stopped"
        case .neverRestarts: "its restart policy is never"
        case .noHostFits: "no other host fits"
        case .quota: "its tenant's quota"
        case .invalid: "its specification"
        case .anotherItem: "another one of the batch has no place"
        }
    }

    mutating func set(_ host: HostID, _ state: HostState) {
        do throws(IndexError) { try index.setState(host, state) } catch { preconditionFailure("\(error)") }
    }
    mutating func take(_ id: VMID) {
        do throws(IndexError) { try index.remove(id) } catch { preconditionFailure("\(error)") }
    }
    mutating func put(_ spec: VMSpec, at assignment: Assignment) {
        do throws(IndexError) { try index.place(spec, assignment) } catch { preconditionFailure("\(error)") }
    }

    /// Of each host, rack or zone: what its loss would leave down. Those that leave nothing down are counted, too.
    package mutating func losses(_ scope: PlacementGroup.Scope) -> [LossReport] {
        // hash order: read by sorted keys
        var domains: [String: [HostID]] = [:]
        for id in hostOrder {
            guard let host = view.hosts[id], host.health == .up else { continue }
            let place = host.about.locality
            let name =
                switch scope {
                case .host: hostName(id)
                case .rack: "\(place.zone)/\(place.rack)"
                case .zone: place.zone
                }
            domains[name, default: []].append(id)
        }
        return domains.keys.sorted().map { name in
            let hosts = domains[name] ?? []
            let plan = planLoss(hosts)
            return LossReport(scope: scope, name: name, hosts: hosts, restarted: plan.steps.count, down: plan.left)
        }
    }

    /// Of one plan: VMs that get a text with the nearest change; the others get one without.
    static let plansExplainedMax = 64
}
