import ClusterBase
public import FleetModel

/// Which hosts a decision may use, beyond the request's own rules.
public struct HostFilter: Hashable, Sendable {
    /// Nil: all of them.
    public var only: [HostID]?
    /// Hosts that are left out, also where `only` names them.
    public var except: [HostID]
    public init(only: [HostID]? = nil, except: [HostID] = []) {
        self.only = only
        self.except = except
    }
    /// Leaves no host out.
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
        for id in spec.groups where groups[id] == nil {
            return .refuse(Refusal(invalid: "VM \(spec.id): placement group \(id) is not known"))
        }
        let chosen = spec.policy ?? policy
        var search = search(spec, chosen, filter)
        let shape: CompiledShape
        if let only = filter.only {
            shape = CompiledShape(Shape(spec))
            for id in only {
                guard let slot = slotOf[id] else { continue }
                judge(Int(slot), score(Int(slot), shape, chosen), &search)
            }
        } else {
            let number = currentWinners(Shape(spec), chosen)
            run(&search, number)
            shape = winners[number].shape
        }
        if search.bestSlot < 0 { return .refuse(refusal(spec, search, filter)) }
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
    private func refusal(_ spec: VMSpec, _ search: Search, _ filter: HostFilter) -> Refusal {
        var counts = RuleCounts()
        if let only = filter.only {
            var others = slotOf.count
            for id in only {
                guard let slot = slotOf[id] else { continue }
                counts.add(firstRule(spec, search, Int(slot)) ?? .room, 1)
                others -= 1
            }
            counts.add(.excludedByCaller, others)
            return counts.refusal
        }
        // What a rule excludes it excludes all over a class or a rack, but for hosts with members of a group.
        let isByRack = !search.domainChecks.isEmpty || !spec.zones.isEmpty
        let outside = isByRack ? domains.rackZone.map { isOutside(spec, $0) } : []
        let special = search.specialBlocks
        var next = 0
        var state = 0
        var byClass = Array(repeating: 0, count: classes.count)
        var byRack = Array(repeating: 0, count: outside.count)
        for block in blocks.indices where blocks[block].count > 0 {
            let taking = blocks[block].taking
            state += blocks[block].count - taking
            if taking == 0 { continue }
            while next < special.count && special[next] < block { next += 1 }
            if next < special.count && special[next] == block {
                let first = block << PlacementIndex.blockShift
                for slot in first..<first + PlacementIndex.blockSize where seats[slot].takesVMs {
                    counts.add(firstRule(spec, search, slot) ?? .room, 1)
                }
                continue
            }
            let key = blocks[block].key
            let isExcluded = search.classPenalties[Int(key.hostClass)] == Search.excluded
            if !isByRack || isExcluded && !outside[Int(key.rack)] {
                byClass[Int(key.hostClass)] += taking
            } else {
                byRack[Int(key.rack)] += taking
            }
        }
        counts.add(.hostState, state)
        for (number, hosts) in byClass.enumerated() where hosts > 0 {
            if case .excluded(let rule) = search.verdicts[number] {
                counts.add(rule, hosts)
            } else {
                counts.add(groupRule(spec, search, rack: nil) ?? .room, hosts)
            }
        }
        for (rack, hosts) in byRack.enumerated() where hosts > 0 {
            counts.add(outside[rack] ? .zone : groupRule(spec, search, rack: rack) ?? .room, hosts)
        }
        return counts.refusal
    }

    private func isOutside(_ spec: VMSpec, _ zone: Int32) -> Bool {
        !spec.zones.isEmpty && !spec.zones.contains(domains.zoneWords[Int(zone)])
    }

    /// The first group that excludes hosts without members; those over racks and zones are judged where a rack is named.
    private func groupRule(_ spec: VMSpec, _ search: Search, rack: Int?) -> Rule? {
        for id in spec.groups {
            if search.hostChecks.contains(where: { $0.state.group.id == id && $0.penalty(0) == nil }) {
                return .group(id)
            }
            guard let rack, let check = search.domainChecks.first(where: { $0.state.group.id == id }) else { continue }
            let domain = check.state.group.scope == .rack ? Int32(rack) : domains.rackZone[rack]
            if check.penalty(check.state.count(domain: domain)) == nil { return .group(id) }
        }
        return nil
    }
}

/// Hosts by the first rule that excludes them.
private struct RuleCounts {
    private var counts: [Refusal.Count] = []

    mutating func add(_ rule: Rule, _ hosts: Int) {
        if hosts == 0 { return }
        if let at = counts.firstIndex(where: { $0.rule == rule }) {
            counts[at].hosts += hosts
        } else {
            counts.append(Refusal.Count(rule: rule, hosts: hosts))
        }
    }

    var refusal: Refusal { Refusal(counts: counts.sorted { $0.rule < $1.rule }) }
}

/// One search for the best host: the request's rules made ready, and what was found.
struct Search {
    /// Stands for a penalty where a hard rule excludes.
    static let excluded = Int64.max

    let policy: PlacementPolicy
    /// By class of hosts.
    let verdicts: [Verdict]
    /// The same as penalties.
    let classPenalties: [Int64]
    /// What zones and the groups over racks and zones cost, by rack; empty where there are no such rules.
    var rackPenalties: [Int64] = []
    var hostChecks: [GroupCheck] = []
    var domainChecks: [GroupCheck] = []
    /// Slots the caller excludes, ascending.
    var except: [Int32] = []
    /// What a host without members of any group over hosts costs; `excluded` where a hard rule wants members.
    var hostBase: Int64 = 0
    /// True when no group over hosts and no exception tells a block's hosts apart.
    var isSimple = true
    var bestSlot = -1
    var bestTotal = Int64.max

    /// Blocks of which rules tell the hosts apart, ascending.
    var specialBlocks: [Int] {
        var slots = except
        for check in hostChecks { slots += check.state.slots }
        slots.sort()
        var blocks: [Int] = []
        for slot in slots where blocks.last != Int(slot) >> PlacementIndex.blockShift {
            blocks.append(Int(slot) >> PlacementIndex.blockShift)
        }
        return blocks
    }

    /// What the groups over hosts cost at one host.
    func hostPenalty(_ slot: Int) -> Int64 {
        if !except.isEmpty && except.contains(Int32(slot)) { return Search.excluded }
        var sum: Int64 = 0
        for i in hostChecks.indices {
            guard let more = hostChecks[i].penalty(hostChecks[i].state.count(slot: Int32(slot))) else {
                return Search.excluded
            }
            sum += more
        }
        return sum
    }
}

extension PlacementIndex {
    /// Makes the rules of a request ready; its groups must be known.
    mutating func search(_ spec: VMSpec, _ policy: PlacementPolicy, _ filter: HostFilter = .all) -> Search {
        let number = verdictNumber(spec)
        var search = Search(
            policy: policy, verdicts: verdicts.table[number], classPenalties: verdicts.penalties[number])
        for id in spec.groups {
            guard let check = check(id) else { preconditionFailure("group \(id) of VM \(spec.id) is not known") }
            if check.state.group.scope == .host {
                let base = check.penalty(0)
                if let base, search.hostBase != Search.excluded {
                    search.hostBase += base
                } else {
                    search.hostBase = Search.excluded
                }
                search.hostChecks.append(check)
            } else {
                search.domainChecks.append(check)
            }
        }
        if !search.domainChecks.isEmpty || !spec.zones.isEmpty { judgeRacks(spec, &search) }
        for id in filter.except { if let slot = slotOf[id] { search.except.append(slot) } }
        search.except.sort()
        search.isSimple = search.hostChecks.isEmpty && search.except.isEmpty
        return search
    }

    private func judgeRacks(_ spec: VMSpec, _ search: inout Search) {
        search.rackPenalties = Array(repeating: 0, count: domains.rackZone.count)
        for rack in search.rackPenalties.indices {
            let zone = domains.rackZone[rack]
            if !spec.zones.isEmpty && !spec.zones.contains(domains.zoneWords[Int(zone)]) {
                search.rackPenalties[rack] = Search.excluded
                continue
            }
            for i in search.domainChecks.indices {
                let domain = search.domainChecks[i].state.group.scope == .rack ? Int32(rack) : zone
                let count = search.domainChecks[i].state.count(domain: domain)
                guard let more = search.domainChecks[i].penalty(count) else {
                    search.rackPenalties[rack] = Search.excluded
                    break
                }
                search.rackPenalties[rack] += more
            }
        }
    }

    /// What a block's hosts cost beyond their own score; `Search.excluded` when a rule excludes all of them.
    @inline(__always) func blockPenalty(_ search: Search, _ block: Int) -> Int64 {
        let key = blocks[block].key
        let own = search.classPenalties[Int(key.hostClass)]
        if own == Search.excluded || search.rackPenalties.isEmpty { return own }
        let around = search.rackPenalties[Int(key.rack)]
        return around == Search.excluded ? around : own + around
    }

    /// What all soft rules cost at one host; nil when a hard one excludes it.
    func softPenalty(_ search: Search, _ slot: Int) -> Int64? {
        let around = blockPenalty(search, slot >> PlacementIndex.blockShift)
        let here = search.hostPenalty(slot)
        return around == Search.excluded || here == Search.excluded ? nil : around + here
    }

    /// The first rule, room aside, that excludes a host.
    func firstRule(_ spec: VMSpec, _ search: Search, _ slot: Int) -> Rule? {
        if !seats[slot].takesVMs { return .hostState }
        if search.except.contains(Int32(slot)) { return .excludedByCaller }
        let block = blocks[slot >> PlacementIndex.blockShift]
        if !spec.zones.isEmpty && !spec.zones.contains(domains.zoneWords[Int(block.zone)]) { return .zone }
        if case .excluded(let rule) = search.verdicts[Int(block.key.hostClass)] { return rule }
        for id in spec.groups {
            for check in search.hostChecks where check.state.group.id == id {
                if check.penalty(check.state.count(slot: Int32(slot))) == nil { return .group(id) }
            }
            for check in search.domainChecks where check.state.group.id == id {
                let domain = check.state.group.scope == .rack ? block.key.rack : block.zone
                if check.penalty(check.state.count(domain: domain)) == nil { return .group(id) }
            }
        }
        return nil
    }

    @inline(__always) private func offer(_ slot: Int, _ total: Int64, _ search: inout Search) {
        if total < search.bestTotal
            || (total == search.bestTotal && search.bestSlot >= 0 && precedes(slot, search.bestSlot, search.policy))
        {
            search.bestTotal = total
            search.bestSlot = slot
        }
    }

    /// Judges one host, of which the score is known, by itself.
    private func judge(_ slot: Int, _ score: Int64, _ search: inout Search) {
        if score == Winners.none { return }
        if let soft = softPenalty(search, slot) { offer(slot, score + soft, &search) }
    }

    private func run(_ search: inout Search, _ number: Int) {
        // Hosts that have members can beat a block's winner only where a group draws its members together.
        for i in search.hostChecks.indices where search.hostChecks[i].drawsTogether {
            for slot in search.hostChecks[i].state.slots {
                judge(Int(slot), winners[number].scores[Int(slot)], &search)
            }
        }
        if search.hostBase == Search.excluded { return }
        // The most promising bunch first, so that most of the others need no look.
        var first = -1
        var least = Winners.none
        for bunch in bunches.indices {
            let bound = bound(bunch, search, number)
            if bound < least {
                least = bound
                first = bunch
            }
        }
        if first < 0 { return }
        look(first, &search, number)
        for bunch in bunches.indices where bunch != first {
            let bound = bound(bunch, search, number)
            if bound != Winners.none && bound <= search.bestTotal { look(bunch, &search, number) }
        }
    }

    /// What no host of a bunch, of those without members of a group over hosts, is better than.
    @inline(__always) private func bound(_ bunch: Int, _ search: Search, _ number: Int) -> Int64 {
        let top = winners[number].top[bunch]
        if top == Winners.none { return top }
        let hostClass = bunches[bunch].hostClass
        if hostClass < 0 { return top + search.hostBase }
        let own = search.classPenalties[Int(hostClass)]
        return own == Search.excluded ? Winners.none : top + own + search.hostBase
    }

    private func look(_ bunch: Int, _ search: inout Search, _ number: Int) {
        let base = search.hostBase
        for block32 in bunches[bunch].blocks {
            let block = Int(block32)
            let score = winners[number].best[block]
            if score == Winners.none || score > search.bestTotal - base { continue }
            let around = blockPenalty(search, block)
            if around == Search.excluded || score + around + base > search.bestTotal { continue }
            let slot = Int(winners[number].bestSlot[block])
            if search.isSimple {
                offer(slot, score + around, &search)
            } else if search.hostPenalty(slot) == base {
                offer(slot, score + around + base, &search)
            } else {
                judgeBlock(block, around, &search, number)
            }
        }
    }

    private func judgeBlock(_ block: Int, _ around: Int64, _ search: inout Search, _ number: Int) {
        let first = block << PlacementIndex.blockShift
        for slot in first..<first + blocks[block].span {
            let score = winners[number].scores[slot]
            if score == Winners.none || score > search.bestTotal { continue }
            let here = search.hostPenalty(slot)
            if here != Search.excluded { offer(slot, score + around + here, &search) }
        }
    }
}
