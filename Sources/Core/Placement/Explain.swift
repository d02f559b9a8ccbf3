public import FleetModel

/// Why a VM is, or is not, where it could be: every rule in counts, the best hosts, and the way out.
public struct Explanation: Hashable, Sendable {
    /// What makes up a candidate's score; lower is better, and the first term outweighs the second.
    public struct ScoreTerms: Hashable, Sendable {
        /// The weights of soft rules that the host breaks.
        public var softRules: Int64
        /// The policy's own score.
        public var policy: Int64
        /// Soft groups among `softRules`, with their weights.
        public var groups: [GroupTerm]
        /// For `pack`: the worth of the host's free room before and after, in 65,536ths of 65,536ths of a host.
        public var worthBefore: Int64
        /// The same with the VM on it.
        public var worthAfter: Int64
    }
    /// What one soft group adds to a host's score.
    public struct GroupTerm: Hashable, Sendable {
        /// The group whose rule the host breaks.
        public var group: PlacementGroupID
        /// What that costs.
        public var weight: Int64
    }
    /// What one host lacks for the request.
    public struct Shortage: Hashable, Sendable {
        /// What there is too little of.
        public var kind: ResourceKind
        /// How much is missing, in the unit of `Resources`.
        public var amount: Int64
    }
    /// How one host was judged.
    public struct HostReport: Hashable, Sendable {
        /// The host that this is about.
        public var host: HostID
        /// All rules that exclude the host, ascending; empty for a candidate.
        public var excludedBy: [Rule]
        /// What it lacks; empty where only other rules exclude it.
        public var shortages: [Shortage]
        /// What VMs may still take from it; negative where it has promised too much.
        public var free: Resources
        /// Where in the host it would go, and its score; nil when a rule excludes it.
        public var assignment: Assignment?
        /// What its score is made of; nil when a rule excludes it.
        public var terms: ScoreTerms?
    }
    /// How a rule judged all hosts.
    public struct RuleReport: Hashable, Sendable {
        /// The rule that this is about.
        public var rule: Rule
        /// Hosts that it excludes, whatever other rules do.
        public var excluded: Int
        /// Of these, hosts that no other rule excludes: what dropping this rule alone would give.
        public var excludedAlone: Int
    }
    /// Hosts by the first rule that excludes them, ascending by rule.
    public var counts: [Refusal.Count]
    /// Every rule that the request or any host brings up, ascending; also those that exclude no host.
    public var rules: [RuleReport] = []
    /// How many hosts there are.
    public var hosts: Int
    /// How many of them no rule excludes.
    public var candidates: Int
    /// Best first.
    public var best: [HostReport]
    /// One per host asked about that is known.
    public var asked: [HostReport]
    /// The policy that the candidates were judged by.
    public var policy: PlacementPolicy
    /// How one of equally good hosts is chosen, in words.
    public var tieBreak: String
    /// Hosts that share the best score, of which the tie-break chose one.
    public var tied: Int
    /// For a VM without a place: the smallest change that lets it in; several at one host where no single one does.
    public var nearest: NearestChange?
    /// Why the request can't be judged at all.
    public var invalid: String?
}

extension Explanation {
    /// `3072 MiB of memory and 500m CPU`.
    public static func text(_ shortages: [Shortage]) -> String {
        let parts = shortages.map { shortage in
            switch shortage.kind {
            case .cpu: "\(shortage.amount)m CPU"
            case .memory: "\(shortage.amount) MiB of memory"
            case .disk: "\(shortage.amount) MiB of disk"
            case .network: "\(shortage.amount) Mbit/s"
            }
        }
        return parts.joined(separator: " and ")
    }
}

/// What would give a waiting VM a place.
public indirect enum NearestChange: Hashable, Sendable, CustomStringConvertible {
    /// This much more free on that host.
    case free(HostID, [Explanation.Shortage])
    /// This much more offered by that host, which has too little even when it is empty.
    case offer(HostID, [Explanation.Shortage])
    /// A group's hard rule with this limit instead, in the group's scope.
    case groupLimit(PlacementGroupID, limit: Int, scope: PlacementGroup.Scope, host: HostID)
    /// A hard `pack` or `affinity` rule made soft.
    case groupSoft(PlacementGroupID, host: HostID)
    /// That host ready again.
    case hostReady(HostID, HostState)
    /// That one rule dropped from the request, or met by the host.
    case rule(Rule, host: HostID)
    /// All of these, at that host: no single change would do, at any.
    case several([NearestChange], host: HostID)

    /// A stable word for programs.
    public var code: String {
        switch self {
        case .free: "free_room"
        case .offer: "larger_host"
        case .groupLimit: "group_limit"
        case .groupSoft: "group_soft"
        case .hostReady: "host_ready"
        case .rule: "drop_rule"
        case .several: "several"
        }
    }

    /// The host that would take the VM.
    public var host: HostID {
        switch self {
        case .free(let host, _), .offer(let host, _), .groupLimit(_, _, _, let host), .groupSoft(_, let host),
            .hostReady(let host, _),
            .rule(_, let host), .several(_, let host):
            host
        }
    }

    public var description: String { text(host: { "host \($0)" }, group: { "\($0)" }) }

    /// The change as a sentence without a full stop, hosts and groups by the names that the caller gives them.
    public func text(host name: (HostID) -> String, group: (PlacementGroupID) -> String) -> String {
        switch self {
        case .offer(let host, _):
            "no host is large enough; fits on \(name(host)) if \(condition(group))"
        case .rule(_, let host): "fits on \(name(host)) but for one rule: \(condition(group))"
        case .several(let changes, let host):
            "no single change lets it in; fits on \(name(host)) if "
                + changes.map { change in
                    if case .rule = change { return "it were not for the rule: \(change.condition(group))" }
                    return change.condition(group)
                }.joined(separator: ", and if ")
        default: "fits on \(name(host)) if \(condition(group))"
        }
    }

    /// What would have to be so, or the rule that would have to go.
    private func condition(_ group: (PlacementGroupID) -> String) -> String {
        switch self {
        case .free(_, let shortages): "\(Explanation.text(shortages)) more were free"
        case .offer(_, let shortages): "that offered \(Explanation.text(shortages)) more"
        case .groupLimit(let id, let limit, let scope, _): "group \(group(id)) allowed \(limit) per \(scope)"
        case .groupSoft(let id, _): "the rule of group \(group(id)) were soft"
        case .hostReady(_, let state): "it were not \(state)"
        case .rule(let rule, _): rule.text(group: group)
        case .several(let changes, _): changes.map { $0.condition(group) }.joined(separator: ", ")
        }
    }
}

extension PlacementIndex {
    /// Judges every host for a request by every rule. O(hosts): for people, not for placing.
    ///
    /// A VM that is placed is judged as if it were not, so its own place shows as the candidate it is.
    public mutating func explain(
        _ spec: VMSpec, policy: PlacementPolicy = .pack, hosts asked: [HostID] = [], bestMax: Int = 5
    ) -> Explanation {
        let chosen = spec.policy ?? policy
        var result = Explanation(
            counts: [], hosts: hostCount, candidates: 0, best: [], asked: [], policy: chosen, tieBreak: "", tied: 0)
        switch chosen {
        case .balance, .spread: result.tieBreak = "an order of hosts made from seed \(seed)"
        default: result.tieBreak = "the lowest host id"
        }
        if let problem = PlacementIndex.problem(spec) {
            result.invalid = problem
            return result
        }
        if let id = spec.groups.first(where: { groups[$0] == nil }) {
            result.invalid = "VM \(spec.id): placement group \(id) is not known"
            return result
        }
        let own = takeOff(spec.id)
        judgeAll(spec, chosen, asked, bestMax, &result)
        if let own { putOn(Int(own.slot), own) }
        return result
    }

    /// The rules that a request brings with it.
    private static func rules(of spec: VMSpec) -> [Rule] {
        var rules: [Rule] = [.hostState]
        if !spec.zones.isEmpty { rules.append(.zone) }
        if !spec.required.isEmpty { rules.append(.selector) }
        if !RuleSet(spec).domains.isEmpty { rules.append(.storageDomain) }
        if !spec.networks.isEmpty { rules.append(.network) }
        if spec.wantsTPM { rules.append(.tpm) }
        for id in spec.groups { rules.append(.group(id)) }
        for kind in ResourceKind.allCases where spec.demand.vector[kind.rawValue] > 0 { rules.append(.resource(kind)) }
        if spec.numa != .none { rules.append(.numa) }
        if !spec.devices.isEmpty { rules.append(.devices) }
        return rules
    }

    private mutating func judgeAll(
        _ spec: VMSpec, _ policy: PlacementPolicy, _ asked: [HostID], _ bestMax: Int, _ result: inout Explanation
    ) {
        let search = search(spec, policy)
        let shape = CompiledShape(Shape(spec))
        // hash order: summed up, or read by sorted keys
        var counts: [Rule: Int] = [:]
        // hash order: summed up, or read by sorted keys
        var judged: [Rule: (excluded: Int, alone: Int)] = [:]
        for rule in PlacementIndex.rules(of: spec) { judged[rule] = (0, 0) }
        var best: [(total: Int64, slot: Int)] = []
        var nearest: (distance: Double, change: NearestChange)?
        for host in hostIDs {
            guard let slot32 = slotOf[host] else { continue }
            let slot = Int(slot32)
            let excluding = allRules(spec, search, shape, slot)
            for rule in excluding {
                judged[rule, default: (0, 0)].excluded += 1
                if excluding.count == 1 { judged[rule, default: (0, 0)].alone += 1 }
            }
            if let first = excluding.first {
                counts[first, default: 0] += 1
                if let change = change(excluding, spec, search, shape, slot),
                    nearest.map({ change.0 < $0.distance }) ?? true
                {
                    nearest = change
                }
                continue
            }
            result.candidates += 1
            guard let fit = fit(slot, shape, policy) else { continue }
            let total = fit.score + (softPenalty(search, slot) ?? 0)
            best.append((total, slot))
        }
        best.sort { $0.total == $1.total ? precedes($0.slot, $1.slot, policy) : $0.total < $1.total }
        result.tied = best.prefix { $0.total == best[0].total }.count
        for candidate in best.prefix(max(0, bestMax)) {
            result.best.append(report(spec, search, shape, candidate.slot))
        }
        for host in asked {
            if let slot = slotOf[host] { result.asked.append(report(spec, search, shape, Int(slot))) }
        }
        result.counts = counts.keys.sorted().map { Refusal.Count(rule: $0, hosts: counts[$0, default: 0]) }
        for rule in judged.keys.sorted() {
            guard let report = judged[rule] else { continue }
            result.rules.append(.init(rule: rule, excluded: report.excluded, excludedAlone: report.alone))
        }
        if result.candidates == 0 { result.nearest = nearest?.change }
    }

    private mutating func report(
        _ spec: VMSpec, _ search: Search, _ shape: CompiledShape, _ slot: Int
    ) -> Explanation.HostReport {
        let excluding = allRules(spec, search, shape, slot)
        var report = Explanation.HostReport(
            host: HostID(rawValue: seats[slot].host), excludedBy: excluding, shortages: shortages(shape, slot),
            free: Resources(seats[slot].free))
        if !excluding.isEmpty { return report }
        guard let fit = fit(slot, shape, search.policy) else { return report }
        report.assignment = assignment(slot, fit, spec)
        var groupTerms: [Explanation.GroupTerm] = []
        for check in search.hostChecks + search.domainChecks {
            let weight = (check.penalty(members(check, slot)) ?? 0) / PlacementIndex.softUnit
            if weight > 0 { groupTerms.append(.init(group: check.state.group.id, weight: weight)) }
        }
        groupTerms.sort { $0.group < $1.group }
        let soft = softPenalty(search, slot) ?? 0
        let before = seats[slot].worth
        var probe = PlacedVM(spec: spec, assignment: assignment(slot, fit, spec), slot: Int32(slot))
        probe.spec.groups = []
        putOn(slot, probe)
        let after = seats[slot].worth
        _ = takeOff(spec.id)
        report.terms = Explanation.ScoreTerms(
            softRules: soft / PlacementIndex.softUnit, policy: fit.score, groups: groupTerms, worthBefore: before,
            worthAfter: after)
        return report
    }

    private func members(_ check: GroupCheck, _ slot: Int) -> Int {
        let block = blocks[slot >> PlacementIndex.blockShift]
        switch check.state.group.scope {
        case .host: return check.state.count(slot: Int32(slot))
        case .rack: return check.state.count(domain: block.key.rack)
        case .zone: return check.state.count(domain: block.zone)
        }
    }

    private func shortages(_ shape: CompiledShape, _ slot: Int) -> [Explanation.Shortage] {
        var lacking: [Explanation.Shortage] = []
        for kind in ResourceKind.allCases {
            let need = shape.demand[kind.rawValue]
            let lack = need - seats[slot].free[kind.rawValue]
            if need > 0 && lack > 0 { lacking.append(.init(kind: kind, amount: lack)) }
        }
        return lacking
    }

    /// All rules that exclude a host, ascending.
    private mutating func allRules(
        _ spec: VMSpec, _ search: Search, _ shape: CompiledShape, _ slot: Int
    ) -> [Rule] {
        var rules: [Rule] = []
        if !seats[slot].takesVMs { rules.append(.hostState) }
        let block = slot >> PlacementIndex.blockShift
        let zone = domains.zoneWords[Int(blocks[block].zone)]
        if !spec.zones.isEmpty && !spec.zones.contains(zone) { rules.append(.zone) }
        let hostClass = classes[Int(blocks[block].key.hostClass)]
        let set = RuleSet(spec)
        if set.required.contains(where: { !$0.matches(hostClass.labels) }) { rules.append(.selector) }
        let taints = hostClass.taints.filter { $0.effect == .noPlacement }
        if taints.contains(where: { taint in !set.tolerations.contains { $0.tolerates(taint) } }) {
            rules.append(.taint)
        }
        if set.domains.contains(where: { !hostClass.storageDomains.contains($0) }) { rules.append(.storageDomain) }
        if set.networks.contains(where: { !hostClass.networks.contains($0) }) { rules.append(.network) }
        if set.wantsTPM && !hostClass.hasTPM { rules.append(.tpm) }
        for check in search.hostChecks + search.domainChecks where check.penalty(members(check, slot)) == nil {
            rules.append(.group(check.state.group.id))
        }
        for lack in shortages(shape, slot) { rules.append(.resource(lack.kind)) }
        if !insideFits(shape, slot, devices: false) {
            rules.append(.numa)
            if !insideFits(shape, slot, nodes: false) { rules.append(.devices) }
        } else if !insideFits(shape, slot) {
            rules.append(.devices)
        }
        return rules.sorted()
    }

    /// Whether NUMA nodes and devices, or one of them, would do if the host as a whole had room.
    private mutating func insideFits(
        _ shape: CompiledShape, _ slot: Int, nodes: Bool = true, devices: Bool = true
    ) -> Bool {
        if shape.isPlain { return true }
        var part = shape.shape
        if !devices { part.devices = [] }
        if !nodes { (part.nodesMin, part.nodesMax, part.devicesOnSameNodes) = (0, 0, false) }
        if part.nodesMin == 0 && part.devices.isEmpty { return true }
        let seat = seats[slot]
        defer { seats[slot] = seat }
        seats[slot].takesVMs = true
        for i in 0..<4 { seats[slot].free[i] = max(seat.free[i], shape.demand[i]) }
        return fit(slot, CompiledShape(part), .firstFit) != nil
    }

    /// What would let the request onto a host, and how far away that is: a sum of shares of the host for room, from 1 up for a
    /// rule, then several changes at once; a larger host is the last way out.
    private mutating func change(
        _ rules: [Rule], _ spec: VMSpec, _ search: Search, _ shape: CompiledShape, _ slot: Int
    ) -> (Double, NearestChange)? {
        var changes: [(distance: Double, change: NearestChange)] = []
        let lacking = shortages(shape, slot)
        if !lacking.isEmpty {
            let host = HostID(rawValue: seats[slot].host)
            var distance = 0.0
            for lack in lacking { distance += Double(lack.amount) * seats[slot].inverse[lack.kind.rawValue] }
            guard let offered = hosts[slot]?.offered else { return nil }
            // To have others leave a host that is too small is not a way out.
            let isLarge = offered.holds(spec.demand)
            changes.append(
                isLarge
                    ? (distance, .free(host, lacking)) : (PlacementIndex.farthest + distance, .offer(host, lacking)))
        }
        for rule in rules {
            if case .resource = rule { continue }
            guard let change = change(rule, search, slot) else { return nil }
            changes.append(change)
        }
        if changes.count < 2 { return changes.first }
        return (
            changes.reduce(PlacementIndex.severalAway * Double(changes.count)) { $0 + $1.distance },
            .several(changes.map(\.change), host: HostID(rawValue: seats[slot].host))
        )
    }

    /// More than any single change is away, but a larger host.
    private static let severalAway = 8.0
    /// More than any changes together are away.
    private static let farthest = 1e9

    /// The same of one rule that is not about room in the host as a whole.
    private func change(_ rule: Rule, _ search: Search, _ slot: Int) -> (distance: Double, change: NearestChange)? {
        let host = HostID(rawValue: seats[slot].host)
        switch rule {
        case .group(let id):
            for check in search.hostChecks + search.domainChecks where check.state.group.id == id {
                let group = check.state.group
                let count = members(check, slot)
                switch group.rule {
                case .antiAffinity(let most):
                    return (
                        1 + Double(count + 1 - most) / 64,
                        .groupLimit(id, limit: count + 1, scope: group.scope, host: host)
                    )
                case .spread(let skew):
                    let needed = count + 1 - check.least
                    return (
                        1 + Double(needed - skew) / 64, .groupLimit(id, limit: needed, scope: group.scope, host: host)
                    )
                case .pack, .affinity:
                    return (3, .groupSoft(id, host: host))
                }
            }
            return nil
        case .hostState:
            return (2, .hostReady(host, hosts[slot]?.state ?? .down))
        case .numa, .devices, .room, .resource, .excludedByCaller:
            return (4, .rule(rule, host: host))
        case .zone, .selector, .taint, .storageDomain, .network, .tpm:
            return (3.5, .rule(rule, host: host))
        }
    }
}
