import ClusterBase
import FleetModel
import Placement

// What a change from outside left where it may not be: on a host that offers less, has other labels or taints, or is in another
// rack; or in a group whose rule is another one. It runs on, and is the first to move when the cell is balanced.

extension CellKeeper {
    /// VMs of one look of the controller whose hosts were changed.
    static let repairExaminedMax = 4_096

    /// After a rule that may be about VMs of any host became another one.
    mutating func suspectAll() { suspects.formUnion(hostOrder) }

    /// What is done about VMs that may not stay where they are, in the index as well.
    struct Repairs {
        /// It does not run, and gives up its place.
        struct Leave {
            var spec: VMSpec
            var from: Assignment
            var epoch: UInt64
        }
        var moves: [Move] = []
        var leaves: [Leave] = []
        /// Of a plan: who stays all the same, and why.
        var left: [CellPlan.Left] = []
        var isComplete = true
        var isEmpty: Bool { moves.isEmpty && leaves.isEmpty }
        var vms: [VMID] { moves.map(\.vm) + leaves.map(\.spec.id) }
    }

    /// Moves for what may not stay, and the places that those give up that are stopped: `undo` takes them back. At a time, what
    /// rests is left alone; without one it is a plan, which says who stays. Hosts on which all may stay are looked at no more
    /// until they change.
    mutating func makeRepairs(vmsMax: Int, _ now: Instant?, _ budget: inout MoveBudget) -> Repairs {
        var repairs = Repairs()
        var examined = 0
        // hash order: sorted; those that promise too much come first
        let hosts = suspects.sorted { a, b in
            let (first, second) = (view.hosts[a]?.excess != nil, view.hosts[b]?.excess != nil)
            return first == second ? a < b : first
        }
        for host in hosts {
            if hostsIndexed[host] == nil {
                suspects.remove(host)
                continue
            }
            if examined >= vmsMax {
                repairs.isComplete = false
                return repairs
            }
            examined += index.vms(on: host).count
            let astray = astray(on: host)
            if astray.isEmpty {
                suspects.remove(host)
                continue
            }
            // What leaves a host that drains, or was lost, is not for here.
            guard let state = view.hosts[host]?.state, state == .ready || state == .cordoned else { continue }
            for id in astray {
                if let now, let until = restingUntil[id], now < until { continue }
                repair(id, on: host, &budget, &repairs, explains: now == nil)
            }
        }
        return repairs
    }

    enum Repair {
        /// It moves, or gives up its place.
        case found
        /// A budget is in the way, or something is under way with it.
        case later
        case stays
    }

    @discardableResult
    mutating func repair(
        _ id: VMID, on host: HostID, _ budget: inout MoveBudget, _ repairs: inout Repairs, explains: Bool = false
    ) -> Repair {
        guard let vm = view.vms[id], let place = vm.place, let spec = index.spec(id),
            let from = index.assignment(id), pending[id] == nil
        else { return .later }
        let way = way(vm)
        if case .wait = way { return .later }
        let isStill = way == .restart && vm.power == .stopped && vm.departure == nil && vm.arrival == nil
        guard vm.boundTo == nil, way == .migrate || isStill else {
            if explains { stays(vm, spec, on: host, nil, &repairs) }
            return .stays
        }
        if way == .migrate ? !budget.allows(host) : repairs.leaves.count >= CellKeeper.placingsMax { return .later }
        take(id)
        let filter = way == .migrate ? budget.filter(from: host, self) : HostFilter(except: [host])
        guard let to = index.decide(spec, policy: policy, among: filter).assignment else {
            put(spec, at: from)
            // Where a budget keeps others from taking it, there is more to say later.
            if way == .migrate && budget.leavesOut { return .later }
            if explains { stays(vm, spec, on: host, "no other host takes it", &repairs) }
            return .stays
        }
        if isStill {
            repairs.leaves.append(Repairs.Leave(spec: spec, from: from, epoch: place.epoch))
            return .found
        }
        put(spec, at: to)
        budget.take(host, to.host, self)
        repairs.moves.append(Move(vm: id, from: from, to: to, gain: 0, cost: CellKeeper.moveCost(vm)))
        return .found
    }

    /// Says in a plan why a VM is left where it may not stay; `why` nil: by what it is.
    private mutating func stays(
        _ vm: CellVM, _ spec: VMSpec, on host: HostID, _ why: String?, _ repairs: inout Repairs
    ) {
        let cause: CellPlan.Left.Cause
        let text: String
        if let why {
            (cause, text) = (.noHostFits, why)
        } else if vm.boundTo != nil {
            cause = .localDisk
            let isAsked = "it has a local disk there, which goes along only when asked: `muster vm migrate \(vm.name)`"
            text = way(vm) == .migrate ? isAsked : localDiskText(hostName(host))
        } else if vm.phase == .looping || vm.spec.restart == .never {
            cause = .notRunning
            text = "it ended by itself and would start again elsewhere: restart it, or stop it"
        } else {
            return
        }
        var reason = ""
        if repairs.left.count < CellKeeper.plansExplainedMax, let state = index.host(host)?.state,
            let from = index.assignment(spec.id)
        {
            take(spec.id)
            set(host, .ready)
            reason = whyNot(spec, on: host).map { ": \($0)" } ?? ""
            set(host, state)
            put(spec, at: from)
        }
        repairs.left.append(left(vm, cause, "it may not stay on \(hostName(host))\(reason); \(text)"))
    }

    /// What excludes a VM from a host that has no part of it; nil where nothing does.
    mutating func whyNot(_ spec: VMSpec, on host: HostID) -> String? {
        guard let report = index.explain(spec, policy: policy, hosts: [host], bestMax: 0).asked.first else {
            return nil
        }
        let rules = report.excludedBy.filter { if case .resource = $0 { false } else { true } }.map { ruleName($0) }
        let lacks = report.shortages.isEmpty ? [] : ["\(Explanation.text(report.shortages)) too little is free"]
        return rules.isEmpty && lacks.isEmpty ? nil : (rules + lacks).joined(separator: ", ")
    }

    /// The index as it was before these repairs.
    mutating func undo(_ repairs: Repairs) {
        for move in repairs.moves.reversed() {
            guard let spec = index.spec(move.vm) else { continue }
            take(move.vm)
            put(spec, at: move.from)
        }
        for leave in repairs.leaves.reversed() { put(leave.spec, at: leave.from) }
    }

    /// VMs that their host would not take as it is, were it in service: all that break a rule there, and of the others the least
    /// important and the smallest, until the rest has room. The index is as it was.
    mutating func astray(on host: HostID) -> [VMID] {
        guard let state = index.host(host)?.state else { return [] }
        let there = index.vms(on: host).sorted { before($0, $1) }
        var off: [(spec: VMSpec, at: Assignment)] = []
        var lacksRoom = false
        set(host, .ready)
        for forRoom in [false, true] where !forRoom || lacksRoom {
            for id in there.reversed() {
                guard let spec = index.spec(id), let at = index.assignment(id) else { continue }
                take(id)
                let refusal = index.decide(spec, policy: policy, among: HostFilter(only: [host])).refusal
                let isRoom = refusal?.counts.contains { $0.rule == .room } ?? true
                lacksRoom = lacksRoom || refusal != nil && isRoom
                if refusal == nil || isRoom && !forRoom { put(spec, at: at) } else { off.append((spec, at)) }
            }
        }
        // A large one that went after small ones may have made room for some of these.
        var astray: [(spec: VMSpec, at: Assignment)] = []
        for one in off.reversed() {
            if index.decide(one.spec, policy: policy, among: HostFilter(only: [host])).assignment == nil {
                astray.append(one)
            } else {
                put(one.spec, at: one.at)
            }
        }
        for (spec, at) in astray { put(spec, at: at) }
        set(host, state)
        return astray.reversed().map(\.spec.id).filter { !CellKeeper.isCopy($0) }
    }
}
