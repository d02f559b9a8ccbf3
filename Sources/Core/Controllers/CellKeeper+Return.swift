import ClusterBase
package import FleetModel
import Placement

// VMs that left a host by a drain come back to it: those of `all` by moves, those of `lazy` when they go anywhere.

/// Hosts that take VMs back, and these VMs.
struct ReturnWork: Sendable {
    /// Those to which moves back begin.
    // hash order: read sorted
    var hosts: Set<HostID> = []
    /// By the host of their origin, whether that counts or not.
    // hash order: looked up, or read by sorted keys
    private var away: [HostID: Set<VMID>] = [:]
    // hash order: looked up only
    private var origins: [VMID: HostID] = [:]
    /// VMs that their host did not take, and when in the order of events that was.
    // hash order: looked up only
    var stuck: [VMID: Int] = [:]
    var at = Instant.origin
    /// Some move back, or will as soon as a budget lets them.
    var goOn = false

    mutating func follow(_ vm: VMID, _ host: HostID?) {
        let known = origins[vm]
        if known == host { return }
        if let known {
            away[known]?.remove(vm)
            if away[known]?.isEmpty == true { away[known] = nil }
        }
        if let host { away[host, default: []].insert(vm) }
        origins[vm] = host
        stuck[vm] = nil
    }

    /// Ascending.
    func vms(of host: HostID) -> [VMID] { (away[host] ?? []).sorted() }
}

extension CellKeeper {
    func isReturning(_ host: CellHost) -> Bool {
        host.takesBack && host.returns == .all && !host.isReturnPaused
    }

    mutating func followReturn(of id: HostID, _ host: CellHost?, _ now: Instant) {
        if let host, isReturning(host) {
            if returns.hosts.insert(id).inserted { returns.at = now }
            // Its row changes with each that has come.
            if host.awayCount == 0 { returns.at = min(returns.at, now) }
        } else {
            returns.hosts.remove(id)
        }
    }

    /// The host that is taken first when a VM goes anywhere; nil where none is, and for one that is there.
    func hostTakingBack(_ vm: CellVM) -> HostID? {
        guard let origin = vm.origin, let host = view.hosts[origin.host], host.takesBack,
            vm.comesBack(to: host, at: view.time), vm.place?.assignment.host != host.id,
            hostsIndexed[host.id]?.state == .ready
        else { return nil }
        return host.id
    }

    /// A place on that one host for a VM that is elsewhere; nil where it takes it not.
    mutating func decideReturn(_ vm: CellVM, _ home: HostID) -> Assignment? {
        guard let from = vm.place?.assignment, let own = index.spec(vm.id) else { return nil }
        take(vm.id)
        let target = index.decide(own, policy: policy, among: HostFilter(only: [home])).assignment
        put(own, at: from)
        return target
    }

    /// Moves back what is to come back, and says when all is there that can be.
    mutating func planReturns(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        if returns.hosts.isEmpty { returns.goOn = false }
        if returns.hosts.isEmpty || now < returns.at { return }
        returns.at = now + CellKeeper.drainInterval
        returns.goOn = false
        let through = view.through ?? .zero
        var budget = MoveBudget(self)
        var tries = 0
        var releases: [Release] = []
        for id in returns.hosts.sorted() {
            guard let host = view.hosts[id] else { continue }
            var isOver = !isBeingLeft(id)
            for vm in returns.vms(of: id).compactMap({ view.vms[$0] }) where vm.comesBack(to: host, at: view.time) {
                guard let place = vm.place else { continue }
                if pending[vm.id] != nil || failedUntil[vm.id].map({ now < $0 }) ?? false {
                    isOver = false
                    continue
                }
                let way = way(vm)
                switch way {
                case .never: continue
                case .wait: if vm.phase != .unknown || vm.migration != nil { isOver = false }
                // Nothing is left that could be asked of the guest.
                case .migrate where failedIntents[vm.id].map({ $0.harder == $0 }) ?? false: continue
                case .migrate, .restart:
                    // One that did not fit is looked at again when room may have appeared.
                    if let since = returns.stuck[vm.id],
                        !queue.mayFit(index.spec(vm.id)?.groups ?? [], since: since)
                    {
                        continue
                    }
                    if way == .migrate && !budget.allows(place.assignment.host, id, self)
                        || tries >= CellKeeper.returnTriesMax
                    {
                        isOver = false
                        continue
                    }
                    tries += 1
                    counts.decisions += 1
                    guard let target = decideReturn(vm, id) else {
                        returns.stuck[vm.id] = queue.event
                        continue
                    }
                    returns.stuck[vm.id] = nil
                    isOver = false
                    if way == .migrate {
                        begin(vm, target, .return, now, &budget, &operations)
                        continue
                    }
                    let key = CellLedger.Key.release(vm.id, place.epoch)
                    if releases.count < CellKeeper.placingsMax, ledger.mayAsk(key, through, now) {
                        ledger.asked(key, now)
                        releases.append(
                            Release(vm.id, epoch: place.epoch, reason: "it goes back to \(hostName(id))"))
                    }
                }
            }
            if !isOver {
                returns.goOn = true
            } else if ledger.mayAsk(.endReturn(id), through, now) {
                ledger.asked(.endReturn(id), now)
                operations.append(.careForHost(id, .endReturn))
            }
        }
        if !releases.isEmpty { operations.append(.releaseVMs(releases, cause: .return)) }
    }

    /// Moves of the drain before are still on their way.
    private func isBeingLeft(_ host: HostID) -> Bool {
        // hash order: a sum
        migrating.keys.contains { id in
            guard let vm = view.vms[id], let migration = vm.migration, migration.cause == .drain else { return false }
            return migration.phase == .copying && vm.place?.assignment.host == host
        }
    }

    // MARK: Asked beforehand

    /// What would come back to a host in service, and what can't and why. Budgets decide how fast, not whether. Nil for a host that is
    /// not known.
    package mutating func planReturn(_ id: HostID) -> CellPlan? {
        guard let host = view.hosts[id], let state = index.host(id)?.state else { return nil }
        var plan = CellPlan(.returns(id), through: view.through ?? .zero)
        let coming = returns.vms(of: id).compactMap { view.vms[$0] }.filter { $0.comesBack(to: host, at: view.time) }
            .sorted { a, b in
                if a.spec.priority != b.spec.priority { return a.spec.priority > b.spec.priority }
                let (mine, theirs) = (a.spec.resources.memoryMiB, b.spec.resources.memoryMiB)
                return mine == theirs ? a.id < b.id : mine > theirs
            }
        if host.health == .up && !host.state.takesVMs { set(id, .ready) }
        defer { set(id, state) }
        var moved: [(spec: VMSpec, from: Assignment)] = []
        var explained = 0
        for vm in coming {
            guard let place = vm.place, let own = index.spec(vm.id) else { continue }
            let kind: CellPlan.Step.Kind
            switch way(vm) {
            case .never(let cause):
                plan.left.append(left(vm, cause, text(cause, hostName(place.assignment.host), plan.purpose)))
                continue
            case .restart: kind = .restart
            case .migrate, .wait: kind = .migrate
            }
            take(vm.id)
            guard let target = index.decide(own, policy: policy, among: HostFilter(only: [id])).assignment else {
                var why = "\(hostName(id)) does not take it now"
                if explained < CellKeeper.plansExplainedMax {
                    explained += 1
                    why = returnText(own, id)
                }
                put(own, at: place.assignment)
                plan.left.append(left(vm, .noHostFits, why))
                continue
            }
            put(own, at: target)
            moved.append((own, place.assignment))
            plan.steps.append(
                CellPlan.Step(
                    kind, vm: vm.id, name: vm.name, tenant: vm.tenant, epoch: place.epoch,
                    from: place.assignment.host, fromName: hostName(place.assignment.host), to: target,
                    toName: hostName(id), cost: kind == .migrate ? CellKeeper.moveCost(vm) : 0))
        }
        for move in moved.reversed() {
            take(move.spec.id)
            put(move.spec, at: move.from)
        }
        plan.notes = returnNotes(host, coming)
        return plan
    }

    private mutating func returnText(_ spec: VMSpec, _ host: HostID) -> String {
        let found = index.explain(spec, policy: policy, hosts: [host], bestMax: 0)
        let name = hostName(host)
        if let invalid = found.invalid { return invalid }
        guard let report = found.asked.first, !report.excludedBy.isEmpty else { return "\(name) does not take it now" }
        if !report.shortages.isEmpty { return "\(name) has no room for it; " + text(.free(host, report.shortages)) }
        return "\(name) is excluded by \(report.excludedBy.map { ruleName($0) }.joined(separator: ", "))"
    }

    private func returnNotes(_ host: CellHost, _ coming: [CellVM]) -> [String] {
        let name = hostName(host.id)
        if host.drain == 0 {
            return ["nothing is remembered of VMs that left \(name): it was not drained, or was resumed since"]
        }
        var notes: [String] = []
        let placeless = coming.count { $0.place == nil }
        if placeless > 0 {
            notes.append("\(placeless) of its VMs have no place now; they take \(name) first when they are started")
        }
        if coming.isEmpty { notes.append("no VM is away that left \(name) by a drain") }
        if host.health != .up { notes.append("\(name) is not up: nothing comes back before it is") }
        return notes
    }

    static let returnTriesMax = 1_024
}
