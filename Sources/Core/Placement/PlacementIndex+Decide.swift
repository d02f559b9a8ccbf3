import ClusterBase
public import FleetModel

/// Which hosts a decision may use, beyond the request's own rules.
public struct HostFilter: Hashable, Sendable {
    /// Nil: all of them.
    public var only: [HostID]?
    public var except: [HostID]
    public init(only: [HostID]? = nil, except: [HostID] = []) {
        self.only = only
        self.except = except
    }
    public static let all = HostFilter()
}

extension PlacementIndex {
    /// Chooses a host, its NUMA nodes and devices for a VM, or says which rules kept every host out.
    ///
    /// A VM's own policy goes before `policy`. Of all hosts that no hard rule excludes it is one with the least sum of
    /// soft rules' weights, and of these one with the best score of the policy; ties go to the lowest id (`pack`) or
    /// to an order given by the seed (`balance`, `spread`). The state is not changed; only what is remembered is.
    public mutating func decide(
        _ spec: VMSpec, policy: PlacementPolicy = .pack, among filter: HostFilter = .all
    ) -> Decision {
        if let problem = PlacementIndex.problem(spec) { return .refuse(Refusal(invalid: problem)) }
        var checks: [GroupCheck] = []
        for id in spec.groups {
            guard let check = check(id) else {
                return .refuse(Refusal(invalid: "VM \(spec.id): placement group \(id) is not known"))
            }
            checks.append(check)
        }
        let chosen = spec.policy ?? policy
        var search = Search(spec, chosen, checks, verdictsFor(spec), filter, self)
        let shape: CompiledShape
        if let only = filter.only {
            shape = CompiledShape(Shape(spec))
            for id in only {
                guard let slot = slotOf[id] else { continue }
                let score = score(Int(slot), shape, chosen)
                if score != Winners.none { search.judge(Int(slot), score, self) }
            }
        } else {
            let number = currentWinners(Shape(spec), chosen)
            search.run(number, self)
            shape = winners[number].shape
        }
        if search.bestSlot < 0 { return .refuse(refusal(spec, search)) }
        guard let fit = fit(search.bestSlot, shape, chosen) else {
            preconditionFailure("host \(seats[search.bestSlot].host) won without room for VM \(spec.id)")
        }
        return .place(assignment(search.bestSlot, fit, spec), score: search.bestTotal)
    }

    func assignment(_ slot: Int, _ fit: Fit, _ spec: VMSpec) -> Assignment {
        var assignment = Assignment(host: HostID(rawValue: seats[slot].host))
        if fit.nodes != 0 {
            for n in 0..<8 where fit.nodes & (1 << UInt8(n)) != 0 { assignment.numaNodes.append(UInt8(n)) }
        }
        for (w, wish) in spec.devices.enumerated() {
            var bits = fit.devices[w]
            while bits != 0 {
                assignment.devices.append(DeviceUse(device: UInt8(bits.trailingZeroBitCount), millis: wish.millis))
                bits &= bits - 1
            }
        }
        if assignment.devices.count > 1 { assignment.devices.sort { $0.device < $1.device } }
        return assignment
    }

    /// Counts hosts by the first rule that excludes them, block by block: O(blocks + members of the groups).
    private func refusal(_ spec: VMSpec, _ search: Search) -> Refusal {
        // hash order: summed up, or read by sorted keys
        var counts: [Rule: Int] = [:]
        if let only = search.filter.only {
            for id in only {
                guard let slot = slotOf[id] else { continue }
                counts[search.firstRule(Int(slot), self) ?? .room, default: 0] += 1
            }
            counts[.excludedByCaller, default: 0] += slotOf.count - counts.values.reduce(0, +)
        } else {
            for block in blocks.indices where blocks[block].count > 0 {
                counts[.hostState, default: 0] += blocks[block].count - blocks[block].taking
                if blocks[block].taking == 0 { continue }
                let first = block << PlacementIndex.blockShift
                if search.isSpecial(block: block) {
                    for slot in first..<first + PlacementIndex.blockSize where seats[slot].takesVMs {
                        counts[search.firstRule(slot, self) ?? .room, default: 0] += 1
                    }
                } else if let slot = (first..<first + PlacementIndex.blockSize).first(where: { seats[$0].takesVMs }) {
                    counts[search.firstRule(slot, self) ?? .room, default: 0] += blocks[block].taking
                }
            }
        }
        let rules = counts.keys.sorted()
        return Refusal(
            counts: rules.compactMap { rule in
                let hosts = counts[rule, default: 0]
                return hosts > 0 ? Refusal.Count(rule: rule, hosts: hosts) : nil
            })
    }
}

/// One search for the best host.
struct Search {
    let spec: VMSpec
    let policy: PlacementPolicy
    let verdicts: [Verdict]
    let filter: HostFilter
    var hostChecks: [GroupCheck] = []
    var domainChecks: [GroupCheck] = []
    /// Slots the caller excludes, ascending.
    var except: [Int32] = []
    /// What a host without members of any group costs; nil when a hard rule wants members.
    var hostBase: Int64? = 0
    var bestSlot = -1
    var bestTotal = Int64.max

    init(
        _ spec: VMSpec, _ policy: PlacementPolicy, _ checks: [GroupCheck], _ verdicts: [Verdict], _ filter: HostFilter,
        _ index: borrowing PlacementIndex
    ) {
        self.spec = spec
        self.policy = policy
        self.verdicts = verdicts
        self.filter = filter
        for check in checks {
            if check.state.group.scope == .host {
                hostChecks.append(check)
                if let base = hostBase, let more = check.penalty(0) { hostBase = base + more } else { hostBase = nil }
            } else {
                domainChecks.append(check)
            }
        }
        for id in filter.except { if let slot = index.slotOf[id] { except.append(slot) } }
        except.sort()
    }

    func isSpecial(block: Int) -> Bool {
        let first = Int32(block << PlacementIndex.blockShift)
        let end = first + Int32(PlacementIndex.blockSize)
        for check in hostChecks {
            let at = check.state.position(first)
            if at < check.state.slots.count && check.state.slots[at] < end { return true }
        }
        return except.contains { $0 >= first && $0 < end }
    }

    /// What a block's hosts cost beyond their own score; nil when a rule excludes all of them.
    @inline(__always) func blockPenalty(_ block: Int, _ index: borrowing PlacementIndex) -> Int64? {
        guard case .penalty(var sum) = index.staticVerdict(spec, verdicts, block: block) else { return nil }
        for check in domainChecks {
            let domain = check.state.group.scope == .rack ? index.blocks[block].key.rack : index.blocks[block].zone
            guard let more = check.penalty(check.state.count(domain: domain)) else { return nil }
            sum += more
        }
        return sum
    }

    /// What the groups over hosts cost at one host; nil when a hard rule excludes it.
    @inline(__always) func hostPenalty(_ slot: Int) -> Int64? {
        if !except.isEmpty && except.contains(Int32(slot)) { return nil }
        var sum: Int64 = 0
        for check in hostChecks {
            guard let more = check.penalty(check.state.count(slot: Int32(slot))) else { return nil }
            sum += more
        }
        return sum
    }

    /// The first rule, room aside, that excludes a host.
    func firstRule(_ slot: Int, _ index: borrowing PlacementIndex) -> Rule? {
        if !index.seats[slot].takesVMs { return .hostState }
        if except.contains(Int32(slot)) { return .excludedByCaller }
        let block = slot >> PlacementIndex.blockShift
        if case .excluded(let rule) = index.staticVerdict(spec, verdicts, block: block) { return rule }
        for id in spec.groups {
            for check in hostChecks where check.state.group.id == id {
                if check.penalty(check.state.count(slot: Int32(slot))) == nil { return .group(id) }
            }
            for check in domainChecks where check.state.group.id == id {
                let domain = check.state.group.scope == .rack ? index.blocks[block].key.rack : index.blocks[block].zone
                if check.penalty(check.state.count(domain: domain)) == nil { return .group(id) }
            }
        }
        return nil
    }

    private mutating func offer(_ slot: Int, _ total: Int64, _ index: borrowing PlacementIndex) {
        if total < bestTotal || (total == bestTotal && bestSlot >= 0 && index.precedes(slot, bestSlot, policy)) {
            bestTotal = total
            bestSlot = slot
        }
    }

    /// Judges one host, of which the score is known, by itself.
    mutating func judge(_ slot: Int, _ score: Int64, _ index: borrowing PlacementIndex) {
        guard let around = blockPenalty(slot >> PlacementIndex.blockShift, index) else { return }
        guard let here = hostPenalty(slot) else { return }
        offer(slot, score + around + here, index)
    }

    mutating func run(_ number: Int, _ index: borrowing PlacementIndex) {
        // Hosts that have members can beat a block's winner only where a group draws its members together.
        for check in hostChecks where check.drawsTogether {
            for slot in check.state.slots {
                let score = index.winners[number].scores[Int(slot)]
                if score != Winners.none { judge(Int(slot), score, index) }
            }
        }
        guard let base = hostBase else { return }
        let simple = hostChecks.isEmpty && except.isEmpty
        for top in index.winners[number].top.indices {
            let least = index.winners[number].top[top]
            if least == Winners.none || least > bestTotal { continue }
            for block in top << 6..<min((top + 1) << 6, index.blocks.count) {
                let score = index.winners[number].best[block]
                if score == Winners.none || score > bestTotal - base { continue }
                guard let around = blockPenalty(block, index) else { continue }
                if score + around + base > bestTotal { continue }
                let slot = Int(index.winners[number].bestSlot[block])
                if simple {
                    offer(slot, score + around, index)
                } else if hostPenalty(slot) == base {
                    offer(slot, score + around + base, index)
                } else {
                    let first = block << PlacementIndex.blockShift
                    for other in first..<first + PlacementIndex.blockSize {
                        let score = index.winners[number].scores[other]
                        if score == Winners.none || score > bestTotal { continue }
                        guard let here = hostPenalty(other) else { continue }
                        offer(other, score + around + here, index)
                    }
                }
            }
        }
    }
}
