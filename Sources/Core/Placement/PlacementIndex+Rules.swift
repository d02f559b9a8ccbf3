import ClusterBase
import FleetModel

/// What rules of a request on a host's class look at.
struct RuleSet: Hashable, Sendable {
    var required: [Selector]
    var preferred: [Preference]
    var tolerations: [Toleration]
    var domains: [Word]
    var networks: [Word]
    var wantsTPM: Bool

    init(_ spec: VMSpec) {
        required = spec.required
        preferred = spec.preferred
        tolerations = spec.tolerations
        domains = []
        for disk in spec.disks {
            if case .shared(let domain) = disk.kind { domains.append(domain) }
        }
        networks = spec.networks
        wantsTPM = spec.wantsTPM
    }
}

enum Verdict: Hashable, Sendable {
    case unknown
    case excluded(Rule)
    case penalty(Int64)
}

/// Verdicts of rule sets on host classes, each found once.
struct VerdictCache: Sendable {
    static let ruleSetsMax = 1024
    // hash order: looked up only
    var numbers: [RuleSet: Int] = [:]
    var table: [[Verdict]] = []
    /// The same as penalties, `Search.excluded` where a rule excludes.
    var penalties: [[Int64]] = []
    /// The number of the set of no rules.
    var plain: Int?
}

extension PlacementIndex {
    static func judge(_ rules: RuleSet, _ hostClass: HostClass) -> Verdict {
        for selector in rules.required where !selector.matches(hostClass.labels) { return .excluded(.selector) }
        var penalty: Int64 = 0
        for taint in hostClass.taints where !rules.tolerations.contains(where: { $0.tolerates(taint) }) {
            if taint.effect == .noPlacement { return .excluded(.taint) }
            penalty += 100
        }
        for domain in rules.domains where !hostClass.storageDomains.contains(domain) {
            return .excluded(.storageDomain)
        }
        for network in rules.networks where !hostClass.networks.contains(network) { return .excluded(.network) }
        if rules.wantsTPM && !hostClass.hasTPM { return .excluded(.tpm) }
        for wish in rules.preferred where !wish.selector.matches(hostClass.labels) { penalty += Int64(wish.weight) }
        return .penalty(min(penalty, 1 << 14) * softUnit)
    }

    /// The number of the verdicts of a request's rules, which are then known for every class.
    mutating func verdictNumber(_ spec: VMSpec) -> Int {
        let isPlain =
            spec.required.isEmpty && spec.preferred.isEmpty && spec.tolerations.isEmpty && spec.disks.isEmpty
            && spec.networks.isEmpty && !spec.wantsTPM
        let number: Int
        let rules: RuleSet?
        if isPlain, let plain = verdicts.plain {
            number = plain
            if verdicts.table[number].count == classes.count { return number }
            rules = RuleSet(spec)
        } else {
            let set = RuleSet(spec)
            rules = set
            if let known = verdicts.numbers[set] {
                number = known
            } else {
                if verdicts.table.count >= VerdictCache.ruleSetsMax { verdicts = VerdictCache() }
                number = verdicts.table.count
                verdicts.table.append([])
                verdicts.penalties.append([])
                verdicts.numbers[set] = number
            }
            if isPlain { verdicts.plain = number }
        }
        while let rules, verdicts.table[number].count < classes.count {
            let verdict = PlacementIndex.judge(rules, classes[verdicts.table[number].count])
            verdicts.table[number].append(verdict)
            if case .penalty(let penalty) = verdict {
                verdicts.penalties[number].append(penalty)
            } else {
                verdicts.penalties[number].append(Search.excluded)
            }
        }
        return number
    }

    func check(_ id: PlacementGroupID) -> GroupCheck? {
        guard let state = groups[id] else { return nil }
        var least = Int.max
        var most = 0
        switch state.group.scope {
        case .host:
            var takingWithMembers = 0
            for (i, slot) in state.slots.enumerated() {
                most = max(most, Int(state.slotCounts[i]))
                if seats[Int(slot)].takesVMs {
                    takingWithMembers += 1
                    least = min(least, Int(state.slotCounts[i]))
                }
            }
            if takingWithMembers < hostsTaking { least = 0 }
        case .rack: (least, most) = PlacementIndex.members(state, domains.rackTaking)
        case .zone: (least, most) = PlacementIndex.members(state, domains.zoneTaking)
        }
        return GroupCheck(state: state, least: least == .max ? 0 : least, most: most)
    }

    /// The fewest members in a domain that has hosts which take VMs, and the most in any.
    private static func members(_ state: GroupState, _ taking: [Int]) -> (least: Int, most: Int) {
        var least = Int.max
        var most = 0
        for (i, taking) in taking.enumerated() {
            let count = state.count(domain: Int32(i))
            most = max(most, count)
            if taking > 0 { least = min(least, count) }
        }
        return (least, most)
    }
}

/// One group's rule, ready to judge domains for one more member.
struct GroupCheck: Sendable {
    let state: GroupState
    let least: Int
    let most: Int

    /// True when a host with members can be better than one without.
    var drawsTogether: Bool {
        switch state.group.rule {
        case .pack, .affinity: state.members > 0
        case .spread, .antiAffinity: false
        }
    }

    /// What one more member costs in a domain that has `count`; nil when a hard rule forbids it.
    func penalty(_ count: Int) -> Int64? {
        let group = state.group
        var excess: Int
        switch group.rule {
        case .antiAffinity(let perDomainMax):
            excess = max(0, count + 1 - max(1, perDomainMax))
            if group.isHard { return excess > 0 ? nil : 0 }
        case .spread(let skewMax):
            if group.isHard { return count + 1 - least > max(1, skewMax) ? nil : 0 }
            excess = max(0, count - least)
        case .pack:
            if state.members == 0 { return 0 }
            if group.isHard { return count == 0 ? nil : 0 }
            excess = most - count
        case .affinity:
            if state.members == 0 { return 0 }
            if group.isHard { return count == 0 ? nil : 0 }
            excess = count == 0 ? 1 : 0
        }
        return Int64(min(excess, 64)) * Int64(min(max(1, group.weight), 100)) * PlacementIndex.softUnit
    }
}
