import ClusterBase
public import FleetModel

/// A VM's way from one place to another.
public struct Move: Hashable, Sendable {
    /// Who moves.
    public var vm: VMID
    /// Where it is when its turn comes.
    public var from: Assignment
    /// Where it goes.
    public var to: Assignment
    /// How much better the cell's score gets.
    public var gain: Int64
    /// What it costs: the VM's memory in MiB, plus `RebalanceBudget.costBase`.
    public var cost: Int64
    public init(vm: VMID, from: Assignment, to: Assignment, gain: Int64, cost: Int64) {
        self.vm = vm
        self.from = from
        self.to = to
        self.gain = gain
        self.cost = cost
    }
}

/// What one plan of rebalancing may do.
public struct RebalanceBudget: Hashable, Sendable {
    /// Added to every move's cost, in MiB: what a move takes beside copying memory.
    public static let costBase: Int64 = 256

    /// Moves of one plan.
    public var movesMax: Int
    /// In and out of one host together.
    public var movesPerHostMax: Int
    /// VMs that stay: moved lately (cool-down), or not movable.
    public var frozen: [VMID]
    /// Hosts that moves are under way from or to, once per move and host; they count against `movesPerHostMax`.
    public var busyHosts: [HostID]
    /// VMs looked at in one pass, from the lowest id; a bound on the time.
    public var vmsExaminedMax: Int
    /// A move must gain at least this part of an average host, in 65,536ths. Above zero, so that plans end.
    public var gainMin: Int64
    /// Over the uplink of one rack, in and out together: moves that begin in one rack and end in another take those of both.
    public var movesPerLinkMax: Int
    /// A host of the rack for each end of a move between racks that is under way; they count against `movesPerLinkMax`.
    public var busyLinks: [HostID]

    /// Whatever is left out bounds nothing, or stands at a modest value.
    public init(
        movesMax: Int = 32, movesPerHostMax: Int = 4, frozen: [VMID] = [], vmsExaminedMax: Int = 1_000_000,
        gainMin: Int64 = 64, busyHosts: [HostID] = [], movesPerLinkMax: Int = .max, busyLinks: [HostID] = []
    ) {
        self.movesPerLinkMax = movesPerLinkMax
        self.busyLinks = busyLinks
        self.busyHosts = busyHosts
        self.movesMax = movesMax
        self.movesPerHostMax = movesPerHostMax
        self.frozen = frozen
        self.vmsExaminedMax = vmsExaminedMax
        self.gainMin = gainMin
    }
}

/// A VM and the gain per cost of its best move: the best first.
private struct MoveCandidate: Comparable {
    var vm: VMID
    var worth: Double

    init(_ move: Move) {
        vm = move.vm
        worth = Double(move.gain) / Double(move.cost)
    }

    static func < (a: Self, b: Self) -> Bool { a.worth == b.worth ? a.vm < b.vm : a.worth > b.worth }
}

/// Moves in the order in which they must be made, and what they change.
public struct RebalancePlan: Hashable, Sendable {
    /// In the order in which they must be made.
    public var moves: [Move]
    /// Higher is better; comparable only under one policy and mix.
    public var scoreBefore: Int64
    /// The score once all moves are made.
    public var scoreAfter: Int64
    /// False when a budget ended the search before it found nothing more to gain.
    public var isComplete: Bool
    public init(moves: [Move], scoreBefore: Int64, scoreAfter: Int64, isComplete: Bool) {
        self.moves = moves
        self.scoreBefore = scoreBefore
        self.scoreAfter = scoreAfter
        self.isComplete = isComplete
    }
}

extension PlacementIndex {
    /// How good the whole cell is under a policy: for `pack` (and the baselines) the worth of all free room, else how
    /// evenly hosts are filled. Every move of a plan raises it, which is why plans never go in circles.
    public func cellScore(_ policy: PlacementPolicy) -> Int64 {
        var sum: Int64 = 0
        for slot in seats.indices where seats[slot].isUsed { sum += hostScore(slot, policy) }
        return sum
    }

    /// One host's part of the cell's score, in 65,536ths of a host.
    func hostScore(_ slot: Int, _ policy: PlacementPolicy) -> Int64 {
        let seat = seats[slot]
        switch policy {
        case .balance:
            let used = SIMD4<Double>(repeating: 1) - seat.shares(seat.free)
            var squares = 0.0
            for i in 0..<4 where seat.inverse[i] > 0 { squares += used[i] * used[i] }
            return -Int64(min(squares, 64) * 65536)
        case .spread:
            return -Int64(seat.vmCount) * Int64(seat.vmCount) * 1024
        default:
            if !mix.parts.isEmpty { return seat.worth >> 16 }
            let shares = seat.shares(seat.free)
            return Int64(min((shares * shares).sum(), 64) * 65536)
        }
    }

    /// Finds moves with the best gain per cost, each keeping every hard rule, within a budget. The index is unchanged
    /// afterwards. With a plan that `isComplete`, a second run right after applying it finds nothing.
    ///
    /// VMs on hosts that take no VMs, as in a drain, stay: those are the drain's to move.
    /// O(VMs examined × passes) decisions.
    public mutating func planRebalance(
        policy: PlacementPolicy = .pack, budget: RebalanceBudget = RebalanceBudget()
    ) -> RebalancePlan {
        let before = cellScore(policy)
        let frozen = budget.frozen.sorted()
        var moves: [Move] = []
        // hash order: looked up only
        var movesOf: [HostID: Int] = [:]
        for host in budget.busyHosts { movesOf[host, default: 0] += 1 }
        // hash order: looked up only
        var movesOver: [Int32: Int] = [:]
        for host in budget.busyLinks { if let rack = rack(of: host) { movesOver[rack, default: 0] += 1 } }
        var isComplete = true
        // hash order: looked up only
        var moved: Set<VMID> = []
        search: while true {
            var candidates = Heap<MoveCandidate>()
            var examined = 0
            for id in vmIDs {
                if PlacementIndex.has(frozen, id) || moved.contains(id) { continue }
                examined += 1
                if examined > budget.vmsExaminedMax {
                    isComplete = false
                    break
                }
                if let move = bestMove(id, policy, budget.gainMin) { candidates.insert(MoveCandidate(move)) }
            }
            var progress = false
            while let candidate = candidates.popFirst() {
                if moves.count >= budget.movesMax {
                    isComplete = false
                    break search
                }
                // Earlier moves have changed what this one gains; where others may gain more now, it waits.
                guard let move = bestMove(candidate.vm, policy, budget.gainMin) else { continue }
                let current = MoveCandidate(move)
                if let next = candidates.first, next < current {
                    candidates.insert(current)
                    continue
                }
                let links = links(move)
                if movesOf[move.from.host, default: 0] >= budget.movesPerHostMax
                    || movesOf[move.to.host, default: 0] >= budget.movesPerHostMax
                    || links.contains(where: { movesOver[$0, default: 0] >= budget.movesPerLinkMax })
                {
                    isComplete = false
                    continue
                }
                relocate(move.vm, move.to)
                for link in links { movesOver[link, default: 0] += 1 }
                movesOf[move.from.host, default: 0] += 1
                movesOf[move.to.host, default: 0] += 1
                moves.append(move)
                moved.insert(move.vm)
                progress = true
            }
            if !progress { break }
        }
        // What has moved once stays in this plan: a second move would undo or lengthen its first. The next may move it.
        if isComplete {
            for id in moved.sorted()
            where !PlacementIndex.has(frozen, id) && bestMove(id, policy, budget.gainMin) != nil {
                isComplete = false
                break
            }
        }
        let after = cellScore(policy)
        for move in moves.reversed() { relocate(move.vm, move.from) }
        return RebalancePlan(moves: moves, scoreBefore: before, scoreAfter: after, isComplete: isComplete)
    }

    /// Makes a planned move in the index. Refused when the VM is no longer where the plan says.
    public mutating func apply(_ move: Move) throws(IndexError) {
        guard let vm = vms[move.vm] else { throw .unknownVM(move.vm) }
        if vm.assignment != move.from {
            throw .badAssignment("VM \(move.vm) is on host \(vm.assignment.host) and not where the plan found it")
        }
        if let fault = validateMove(move) { throw .badAssignment(fault) }
        relocate(move.vm, move.to)
    }

    private func rack(of host: HostID) -> Int32? { slotOf[host].map { blocks[Int($0) >> Self.blockShift].key.rack } }

    /// The racks whose uplinks a move takes; none within a rack.
    private func links(_ move: Move) -> [Int32] {
        guard let from = rack(of: move.from.host), let to = rack(of: move.to.host), from != to else { return [] }
        return [from, to]
    }

    private mutating func validateMove(_ move: Move) -> String? {
        guard let slot = slotOf[move.to.host], let host = hosts[Int(slot)] else {
            return "host \(move.to.host) is not known"
        }
        return PlacementIndex.mismatch(move.to, host)
    }

    mutating func relocate(_ id: VMID, _ to: Assignment) {
        guard var vm = takeOff(id), let slot = slotOf[to.host] else {
            preconditionFailure("VM \(id) can't go to host \(to.host)")
        }
        vm.assignment = to
        putOn(Int(slot), vm)
    }

    static func has(_ sorted: [VMID], _ id: VMID) -> Bool {
        var low = 0
        var high = sorted.count
        while low < high {
            let middle = (low + high) / 2
            if sorted[middle] < id { low = middle + 1 } else { high = middle }
        }
        return low < sorted.count && sorted[low] == id
    }

    /// The best place for a VM that is placed, when it is better than its own by `gainMin`.
    private mutating func bestMove(_ id: VMID, _ policy: PlacementPolicy, _ gainMin: Int64) -> Move? {
        guard let vm = vms[id], hosts[Int(vm.slot)]?.state.takesVMs == true else { return nil }
        let chosen = vm.spec.policy ?? policy
        let from = Int(vm.slot)
        let soft = softPenalty(vm.spec, from)
        let fromBefore = hostScore(from, policy)
        guard let taken = takeOff(id) else { return nil }
        let fromAfter = hostScore(from, policy)
        let decision = decide(taken.spec, policy: chosen, among: HostFilter(except: [vm.assignment.host]))
        var move: Move?
        if case .place(let to, let total) = decision, let slot32 = slotOf[to.host] {
            let slot = Int(slot32)
            let toBefore = hostScore(slot, policy)
            var probe = taken
            probe.assignment = to
            putOn(slot, probe)
            let gain = fromAfter - fromBefore + hostScore(slot, policy) - toBefore
            _ = takeOff(id)
            // A move never makes a soft rule worse.
            if gain >= max(1, gainMin) && total / PlacementIndex.softUnit <= soft {
                move = Move(
                    vm: id, from: vm.assignment, to: to, gain: gain,
                    cost: max(0, vm.spec.resources.memoryMiB) + RebalanceBudget.costBase)
            }
        }
        putOn(from, taken)
        return move
    }

    /// The sum of soft weights at the place where a VM is now, as if it came there.
    private mutating func softPenalty(_ spec: VMSpec, _ slot: Int) -> Int64 {
        guard let vm = takeOff(spec.id) else { return 0 }
        let soft = softPenalty(search(spec, spec.policy ?? .pack), slot)
        putOn(slot, vm)
        return (soft ?? .max / 2) / PlacementIndex.softUnit
    }

    /// One VM that can move elsewhere so that `spec` fits on the host it leaves; nil when no single move does.
    ///
    /// Looks at the VMs of the hosts that lack the least. The index is unchanged afterwards.
    public mutating func moveThatLetsIn(
        _ spec: VMSpec, policy: PlacementPolicy = .pack, hostsMax: Int = 16
    ) -> Move? {
        for id in hostsNearlyFitting(spec, policy, count: hostsMax) {
            for other in vms(on: id) {
                guard let taken = takeOff(other) else { continue }
                let slot = Int(taken.slot)
                var found: Move?
                if case .place = decide(spec, policy: policy, among: HostFilter(only: [id])),
                    case .place(let to, _) = decide(
                        taken.spec, policy: policy, among: HostFilter(except: [id]))
                {
                    found = Move(
                        vm: other, from: taken.assignment, to: to, gain: 0,
                        cost: max(0, taken.spec.resources.memoryMiB) + RebalanceBudget.costBase)
                }
                putOn(slot, taken)
                if let found { return found }
            }
        }
        return nil
    }

    /// Hosts that every rule but room allows, those that lack the smallest share first.
    mutating func hostsNearlyFitting(_ spec: VMSpec, _ policy: PlacementPolicy, count: Int) -> [HostID] {
        if spec.groups.contains(where: { groups[$0] == nil }) { return [] }
        let search = search(spec, policy)
        let demand = spec.demand.vector
        let shape = Shape(spec)
        var near: [(lack: Double, host: UInt64)] = []
        for slot in seats.indices where seats[slot].isUsed && firstRule(spec, search, slot) == nil {
            var lack = 0.0
            for i in 0..<4 where demand[i] > 0 {
                lack += max(0, Double(demand[i] - seats[slot].free[i]) * seats[slot].inverse[i])
            }
            near.append((lack + insideLack(slot, shape), seats[slot].host))
        }
        near.sort { $0 < $1 }
        return near.prefix(count).map { HostID(rawValue: $0.host) }
    }

    /// What NUMA nodes and devices lack for a shape, roughly in shares of the host.
    private func insideLack(_ slot: Int, _ shape: Shape) -> Double {
        if shape.nodesMin == 0 && shape.devices.isEmpty { return 0 }
        let impossible = 64.0
        guard let inside = insides[slot] else { return impossible }
        var lack = 0.0
        if shape.nodesMin > 0 {
            let share = shape.perNode(shape.nodesMin)
            let inverse = seats[slot].inverse
            var lacks: [Double] = []
            for n in 0..<inside.nodes.count {
                let cpu = Double(max(0, share[0] - inside.nodes.cpu[n])) * inverse[0]
                lacks.append(cpu + Double(max(0, share[1] - inside.nodes.memory[n])) * inverse[1])
            }
            if lacks.count < shape.nodesMin { return impossible }
            lacks.sort()
            lack += lacks.prefix(shape.nodesMin).reduce(0, +)
        }
        for wish in shape.devices {
            var lacks: [Int32] = []
            for d in inside.devices.indices where inside.usable(d, wish) {
                lacks.append(max(0, wish.millis - inside.devices[d]))
            }
            if lacks.count < wish.count { return impossible }
            lacks.sort()
            lack += Double(lacks.prefix(wish.count).reduce(0, +)) / 1000 / Double(inside.devices.count)
        }
        return lack
    }
}
