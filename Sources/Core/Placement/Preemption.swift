public import FleetModel

/// VMs of lower priority to stop so that a VM fits.
public struct Preemption: Hashable, Sendable {
    /// Where the VM goes once they are gone.
    public var assignment: Assignment
    /// Ascending. None can be left out.
    public var victims: [VMID]
    /// What stopping them costs.
    public var cost: PreemptionCost
}

/// What a set of victims costs. Compared field by field, the first first.
public struct PreemptionCost: Hashable, Comparable, Sendable {
    /// The highest priority among the victims.
    public var priorityMost: Int32
    /// How many victims there are.
    public var count: Int
    /// The sum of the victims' shares of an average host, in 65,536ths.
    public var size: Int64

    public static func < (a: Self, b: Self) -> Bool {
        if a.priorityMost != b.priorityMost { return a.priorityMost < b.priorityMost }
        if a.count != b.count { return a.count < b.count }
        return a.size < b.size
    }
}

extension PlacementIndex {
    /// Up to this many candidates on one host the cheapest set is found exactly, beyond it by taking away what is not
    /// needed from a sufficient set.
    public static let preemptionExactMax = 16
    /// Sets of candidates that one search looks at: some milliseconds of work. Hosts whose turn comes after that get by with a
    /// sufficient set that nothing can be taken from.
    public static let preemptionStepsMax = 1 << 18
    /// What trying a set on its host costs, in sets that are only summed up.
    private static let trialSteps = 64

    /// Finds the cheapest set of VMs, all on one host and each of a priority below the request's, without which the
    /// request fits there and keeps every hard rule. Nil when there is none; no victims when it fits as it is. The
    /// index is unchanged afterwards.
    ///
    /// Cheapest: the lowest highest priority, then the fewest VMs, then the smallest; then the lowest host id. Groups
    /// are judged as they will be without the victims. O(hosts + VMs of the hosts that rules allow), and at most
    /// `preemptionStepsMax` sets of VMs: beyond that a cheaper set may be missed.
    public mutating func decidePreemption(_ spec: VMSpec, policy: PlacementPolicy = .pack) -> Preemption? {
        var steps = PlacementIndex.preemptionStepsMax
        return decidePreemption(spec, policy: policy, steps: &steps)
    }

    private mutating func decidePreemption(
        _ spec: VMSpec, policy: PlacementPolicy, steps: inout Int
    ) -> Preemption? {
        if PlacementIndex.problem(spec) != nil { return nil }
        if spec.groups.contains(where: { groups[$0] == nil }) { return nil }
        if let assignment = decide(spec, policy: policy).assignment {
            return Preemption(
                assignment: assignment, victims: [], cost: PreemptionCost(priorityMost: .min, count: 0, size: 0))
        }
        let verdicts = self.verdicts.table[verdictNumber(spec)]
        var best: Preemption?
        for host in hostIDs {
            guard let slot32 = slotOf[host] else { continue }
            let slot = Int(slot32)
            if !seats[slot].takesVMs { continue }
            let block = blocks[slot >> PlacementIndex.blockShift]
            if !spec.zones.isEmpty && !spec.zones.contains(domains.zoneWords[Int(block.zone)]) { continue }
            guard case .penalty = verdicts[Int(block.key.hostClass)] else { continue }
            var candidates: [PlacedVM] = []
            var room = Resources(seats[slot].free)
            for id in vmsOn[slot] {
                guard let vm = vms[id], vm.spec.priority < spec.priority else { continue }
                if let best, vm.spec.priority > best.cost.priorityMost { continue }
                candidates.append(vm)
                room += vm.spec.demand
            }
            if candidates.isEmpty || !room.holds(spec.demand) { continue }
            if let best, !mayBeat(best.cost, spec, slot, candidates) { continue }
            if let found = cheapestVictims(spec, policy, host, slot, candidates, below: best?.cost, &steps) {
                best = found
            }
        }
        return best
    }

    /// The same for several VMs, on as many hosts as it takes: the highest priority first, of equals the largest, each
    /// as if those before had their places and their victims were gone. A VM that got a place is no victim of a later
    /// one. One answer per request, in the order of the requests; the index is unchanged afterwards.
    public mutating func decidePreemptions(
        _ specs: [VMSpec], policy: PlacementPolicy = .pack
    ) -> [Preemption?] {
        let sizes = specs.map { totals.share(of: Shape($0)) }
        let order = specs.indices.sorted { a, b in
            if specs[a].priority != specs[b].priority { return specs[a].priority > specs[b].priority }
            return sizes[a] == sizes[b] ? a < b : sizes[a] > sizes[b]
        }
        var answers: [Preemption?] = Array(repeating: nil, count: specs.count)
        var steps = PlacementIndex.preemptionStepsMax
        var gone: [PlacedVM] = []
        var come: [VMID] = []
        for i in order where vms[specs[i].id] == nil {
            guard let answer = decidePreemption(specs[i], policy: policy, steps: &steps),
                let slot = slotOf[answer.assignment.host]
            else { continue }
            for victim in answer.victims { if let vm = takeOff(victim) { gone.append(vm) } }
            // Nothing preempts what has just come: later requests have no higher priority.
            putOn(Int(slot), PlacedVM(spec: specs[i], assignment: answer.assignment, slot: slot))
            come.append(specs[i].id)
            answers[i] = answer
        }
        for id in come.reversed() { _ = takeOff(id) }
        for vm in gone.reversed() { putOn(Int(vm.slot), vm) }
        return answers
    }

    private mutating func cheapestVictims(
        _ spec: VMSpec, _ policy: PlacementPolicy, _ host: HostID, _ slot: Int, _ all: [PlacedVM],
        below limit: PreemptionCost?, _ steps: inout Int
    ) -> Preemption? {
        let sized = all.map { (vm: $0, size: victimSize($0)) }
        let sorted = sized.sorted { a, b in
            if a.vm.spec.priority != b.vm.spec.priority { return a.vm.spec.priority < b.vm.spec.priority }
            if a.size != b.size { return a.size > b.size }
            return a.vm.spec.id < b.vm.spec.id
        }
        // The lowest priority up to which everything must go: found by taking off one VM after the other.
        var off: [PlacedVM] = []
        var upTo: Int32?
        for (i, candidate) in sorted.enumerated() {
            if let vm = takeOff(candidate.vm.spec.id) { off.append(vm) }
            let isLastOfPriority =
                i + 1 == sorted.count || sorted[i + 1].vm.spec.priority != candidate.vm.spec.priority
            if isLastOfPriority, fits(spec, policy, host) != nil {
                upTo = candidate.vm.spec.priority
                break
            }
        }
        for vm in off.reversed() { putOn(slot, vm) }
        guard let upTo else { return nil }
        let pool = sorted.filter { $0.vm.spec.priority <= upTo }
        if pool.count <= PlacementIndex.preemptionExactMax {
            return exactVictims(spec, policy, host, slot, pool, below: limit, &steps)
        }
        return prunedVictims(spec, policy, host, slot, pool, below: limit)
    }

    private mutating func fits(_ spec: VMSpec, _ policy: PlacementPolicy, _ host: HostID) -> Assignment? {
        decide(spec, policy: policy, among: HostFilter(only: [host])).assignment
    }

    private mutating func judged(
        _ spec: VMSpec, _ policy: PlacementPolicy, _ host: HostID, _ slot: Int,
        _ victims: [(vm: PlacedVM, size: Int64)]
    ) -> Preemption? {
        var off: [PlacedVM] = []
        for victim in victims { if let vm = takeOff(victim.vm.spec.id) { off.append(vm) } }
        let assignment = fits(spec, policy, host)
        for vm in off.reversed() { putOn(slot, vm) }
        guard let assignment else { return nil }
        return Preemption(
            assignment: assignment, victims: victims.map(\.vm.spec.id).sorted(), cost: PlacementIndex.cost(victims))
    }

    private static func cost(_ victims: [(vm: PlacedVM, size: Int64)]) -> PreemptionCost {
        PreemptionCost(
            priorityMost: victims.map(\.vm.spec.priority).max() ?? .min, count: victims.count,
            size: victims.reduce(0) { $0 + $1.size })
    }

    /// How many of the candidates must go at least, by each resource alone.
    private func victimsMin(_ spec: VMSpec, _ slot: Int, _ demands: [Resources]) -> Int {
        let free = Resources(seats[slot].free)
        var most = 0
        for lane in 0..<4 where free.vector[lane] < spec.demand.vector[lane] {
            var room = free.vector[lane]
            var count = 0
            for amount in demands.map({ $0.vector[lane] }).sorted(by: >) where room < spec.demand.vector[lane] {
                room += amount
                count += 1
            }
            most = max(most, count)
        }
        return most
    }

    /// False when no set of these can be cheaper. Where all have one priority their number and sizes tell, which spares hosts
    /// that are like others the search.
    private func mayBeat(_ limit: PreemptionCost, _ spec: VMSpec, _ slot: Int, _ candidates: [PlacedVM]) -> Bool {
        if candidates.contains(where: { $0.spec.priority < limit.priorityMost }) { return true }
        let count = victimsMin(spec, slot, candidates.map(\.spec.demand))
        if count != limit.count { return count < limit.count }
        let sizes = candidates.map { victimSize($0) }.sorted()
        return sizes.prefix(count).reduce(0, +) < limit.size
    }

    private func victimSize(_ vm: PlacedVM) -> Int64 { Int64(totals.share(of: Shape(vm.spec)) * 65536) }

    /// Sets by their number of VMs, the smallest first; all but those that free enough are dismissed by a sum.
    private mutating func exactVictims(
        _ spec: VMSpec, _ policy: PlacementPolicy, _ host: HostID, _ slot: Int,
        _ pool: [(vm: PlacedVM, size: Int64)], below limit: PreemptionCost?, _ steps: inout Int
    ) -> Preemption? {
        let demands = pool.map { $0.vm.spec.demand }
        let free = Resources(seats[slot].free)
        for count in max(1, victimsMin(spec, slot, demands))...pool.count {
            // Victims come in the order of their priorities.
            if let limit, count > limit.count, limit.priorityMost <= pool[0].vm.spec.priority { return nil }
            var sufficient: [(cost: PreemptionCost, mask: Int)] = []
            var mask = 1 << count - 1
            while mask < 1 << pool.count {
                steps -= 1
                if steps < 0 { return prunedVictims(spec, policy, host, slot, pool, below: limit) }
                var room = free
                var size: Int64 = 0
                var rest = mask
                while rest != 0 {
                    let i = rest.trailingZeroBitCount
                    rest &= rest - 1
                    room += demands[i]
                    size += pool[i].size
                }
                let highest = pool[Int.bitWidth - 1 - mask.leadingZeroBitCount].vm.spec.priority
                let cost = PreemptionCost(priorityMost: highest, count: count, size: size)
                if room.holds(spec.demand), limit.map({ cost < $0 }) ?? true { sufficient.append((cost, mask)) }
                // The next larger number with as many bits.
                let lowest = mask & -mask
                let ripple = mask + lowest
                mask = ((ripple ^ mask) >> 2) / lowest | ripple
            }
            sufficient.sort { $0.cost == $1.cost ? $0.mask < $1.mask : $0.cost < $1.cost }
            for candidate in sufficient {
                steps -= PlacementIndex.trialSteps
                if steps < 0 { return prunedVictims(spec, policy, host, slot, pool, below: limit) }
                let victims = pool.indices.filter { candidate.mask & (1 << $0) != 0 }.map { pool[$0] }
                if let found = judged(spec, policy, host, slot, victims) { return found }
            }
        }
        return nil
    }

    /// All of the pool, less whatever is not needed: the highest priorities and largest VMs are spared first.
    private mutating func prunedVictims(
        _ spec: VMSpec, _ policy: PlacementPolicy, _ host: HostID, _ slot: Int,
        _ pool: [(vm: PlacedVM, size: Int64)], below limit: PreemptionCost?
    ) -> Preemption? {
        var victims = pool
        guard var best = judged(spec, policy, host, slot, victims) else { return nil }
        // Small ones of a high priority go back first, so that few large ones of a low priority remain.
        for i in pool.indices.reversed() {
            var fewer = victims
            fewer.removeAll { $0.vm.spec.id == pool[i].vm.spec.id }
            if fewer.isEmpty { continue }
            if let found = judged(spec, policy, host, slot, fewer) {
                victims = fewer
                best = found
            }
        }
        if let limit, !(best.cost < limit) { return nil }
        return best
    }
}
