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

    /// Moves for what may not stay, in the index as well: `undo` takes them back. At a time, what rests is left alone. Hosts on
    /// which all may stay are looked at no more until they change.
    mutating func makeRepairs(
        vmsMax: Int, _ now: Instant?, _ budget: inout MoveBudget
    ) -> (moves: [Move], isComplete: Bool) {
        var moves: [Move] = []
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
            if examined >= vmsMax { return (moves, false) }
            examined += index.vms(on: host).count
            let astray = astray(on: host)
            if astray.isEmpty {
                suspects.remove(host)
                continue
            }
            // What leaves a host that drains, or was lost, is not for here.
            guard let state = view.hosts[host]?.state, state == .ready || state == .cordoned else { continue }
            for id in astray {
                guard budget.allows(host), let vm = view.vms[id], way(vm) == .migrate, vm.boundTo == nil,
                    pending[id] == nil, now.map({ now in restingUntil[id].map { now >= $0 } ?? true }) ?? true,
                    let spec = index.spec(id), let from = index.assignment(id)
                else { continue }
                take(id)
                guard
                    let to = index.decide(spec, policy: policy, among: budget.filter(from: host, self)).assignment
                else {
                    put(spec, at: from)
                    continue
                }
                put(spec, at: to)
                budget.take(host, to.host, self)
                moves.append(Move(vm: id, from: from, to: to, gain: 0, cost: CellKeeper.moveCost(vm)))
            }
        }
        return (moves, true)
    }

    /// The index as it was before these moves.
    mutating func undo(_ moves: [Move]) {
        for move in moves.reversed() {
            guard let spec = index.spec(move.vm) else { continue }
            take(move.vm)
            put(spec, at: move.from)
        }
    }

    /// VMs that their host would not take as it is, were it in service: all that break a rule there, and of the others the least
    /// important and the smallest, until the rest has room.
    private mutating func astray(on host: HostID) -> [VMID] {
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
        for (spec, at) in off { put(spec, at: at) }
        set(host, state)
        return off.map(\.spec.id).filter { !CellKeeper.isCopy($0) }
    }
}
