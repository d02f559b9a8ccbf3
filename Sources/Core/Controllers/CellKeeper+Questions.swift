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
        case .create(let creations, let isAtomic, let refused):
            return .plan(planCreate(creations, isAtomic: isAtomic, refused))
        case .drain(let host):
            return planDrain(host).map { .plan($0) } ?? .refused(.unknownHost(host))
        case .returns(let host):
            return planReturn(host).map { .plan($0) } ?? .refused(.unknownHost(host))
        case .rebalance: return .plan(planRebalance())
        case .budgets(let from, let to): return .budgets(MoveBudget(self).lacks(from: from, to: to, self))
        case .loss(let hosts):
            if let host = hosts.first(where: { hostsIndexed[$0] == nil }) { return .refused(.unknownHost(host)) }
            return .plan(planLoss(hosts))
        case .losses(let scope): return .losses(losses(scope))
        case .capacity(let host, let policy, let isEnforced):
            return planCapacity(host, policy, isEnforced: isEnforced).map { .plan($0) } ?? .refused(.unknownHost(host))
        case .declareDead(let host): return planDeath(host).map { .plan($0) } ?? .refused(.unknownHost(host))
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
        result.reserve = reserveText(vm) ?? ""
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
        var words = change.text(host: hostName, group: groupName)
        var changes = [change]
        if case .several(let parts, _) = change { changes = parts }
        for case .rule(let rule, let host) in changes { words += storageText(rule, host) }
        return words
    }

    // MARK: Plans

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
        if var drained = view.hosts[host], drained.duty != .maintenance {
            drained.duty = .draining
            plan.notes = reserveNotes(host, as: drained, isRefused: true)
        }
        var none = 0
        moveAway([host], &plan, searches: &none) { keeper, vm in
            switch keeper.way(vm) {
            case .migrate: .go(.migrate)
            case .restart: .go(.restart)
            case .wait: keeper.isLeaving(vm, from: host) ? .gone : .go(.migrate)
            case .never(let cause): .stay(cause)
            }
        }
        return plan
    }

    /// What becomes of the VMs of hosts that are lost at once, and of those that are stopped for them.
    package mutating func planLoss(_ named: [HostID]) -> CellPlan {
        var searches = max(1, CellKeeper.gangVictimsWorkMax / max(1, index.hostCount))
        return planLoss(named, searches: &searches)
    }

    private mutating func planLoss(_ named: [HostID], searches: inout Int) -> CellPlan {
        var hosts: [HostID] = []
        for host in named where !hosts.contains(host) { hosts.append(host) }
        var plan = CellPlan(.loss(hosts), through: view.through ?? .zero)
        moveAway(hosts, &plan, searches: &searches) { keeper, vm in
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

    func left(_ vm: CellVM, _ cause: CellPlan.Left.Cause, _ text: String) -> CellPlan.Left {
        CellPlan.Left(vm: vm.id, name: vm.name, tenant: vm.tenant, cause: cause, text: text)
    }

    func text(_ cause: CellPlan.Left.Cause, _ host: String, _ purpose: CellPlan.Purpose) -> String {
        if case .drain = purpose, cause == .localDisk, movesDisks {
            return localDiskText(host)
        }
        return CellKeeper.text(cause, host)
    }

    /// Of one that does not run.
    func localDiskText(_ host: String) -> String {
        movesDisks
            ? "it has a local disk on \(host), which moves only while the VM runs; start it, or delete it"
            : CellKeeper.text(.localDisk, host)
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
        case .reserve: "it would use what is kept free for losses"
        case .quota: "its tenant's quota"
        case .invalid: "its specification"
        case .anotherItem: "another one of the batch has no place"
        case .preempted: "it is stopped for one of a higher priority"
        case .notRunning: "it ended by itself"
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
        var searches = max(1, CellKeeper.lossesWorkMax / max(1, index.hostCount))
        return domains.keys.sorted().map { name in
            let hosts = domains[name] ?? []
            let plan = planLoss(hosts, searches: &searches)
            return LossReport(
                scope: scope, name: name, hosts: hosts, restarted: plan.steps.count { $0.kind == .restart },
                preempted: plan.steps.count { $0.kind == .preempt }, down: plan.left, isComplete: plan.isComplete)
        }
    }

    /// Hosts looked at, each time anew, for whom VMs of all losses together would have stopped.
    private static let lossesWorkMax = 1 << 18

    /// Of one plan: VMs that get a text with the nearest change; the others get one without.
    static let plansExplainedMax = 64
}
