internal import ClusterBase
package import FleetModel

// Why a VM is where it is, for people.

/// A host's part in an explanation.
package struct HostVerdict: Shaped {
    package var host: String
    /// Every rule that keeps the VM out; empty for a candidate.
    package var excludedBy: [String]
    /// What is missing, in words.
    package var shortages: [String]
    package var free: SignedResources
    /// Of a candidate; lower is better, and the soft rules outweigh the policy's score.
    package var softRules: Int64?
    package var score: Int64?
    /// What soft groups add to the soft rules.
    package var groups: [GroupWeight]
    /// For `pack`: the worth of the host's free room before and after.
    package var worthBefore: Int64?
    package var worthAfter: Int64?
    package var numaNodes: [Int64]

    package init(
        host: String, excludedBy: [String] = [], shortages: [String] = [], free: Resources, softRules: Int64? = nil,
        score: Int64? = nil, groups: [GroupWeight] = [], worthBefore: Int64? = nil, worthAfter: Int64? = nil,
        numaNodes: [Int64] = []
    ) {
        self.host = host
        self.excludedBy = excludedBy
        self.shortages = shortages
        self.free = SignedResources(free)
        self.softRules = softRules
        self.score = score
        self.groups = groups
        self.worthBefore = worthBefore
        self.worthAfter = worthAfter
        self.numaNodes = numaNodes
    }

    init(_ candidate: CellExplanation.Candidate) {
        self.init(
            host: candidate.name, excludedBy: candidate.excludedBy,
            shortages: candidate.shortages.map { shortage in
                switch shortage.resource {
                case .cpu: "\(shortage.amount)m CPU"
                case .memory: "\(shortage.amount) MiB of memory"
                case .disk: "\(shortage.amount) MiB of disk"
                case .network: "\(shortage.amount) Mbit/s"
                }
            }, free: candidate.free, softRules: candidate.score?.softRules, score: candidate.score?.policy,
            groups: (candidate.score?.groups ?? []).map { GroupWeight(group: $0.group, weight: $0.weight) },
            worthBefore: candidate.score?.worthBefore, worthAfter: candidate.score?.worthAfter,
            numaNodes: (candidate.assignment?.numaNodes ?? []).map { Int64($0) })
    }

    package static let shape = Shape(
        "HostVerdict",
        [
            Field("host", .string, "its name"),
            Field("excludedBy", .strings, "every rule that keeps the VM out; empty for a candidate"),
            Field("shortages", .strings, "what is missing"),
            Field("free", .object(SignedResources.shape), "what is left"),
            Field("softRules", .integer, isRequired: false, "the weights of soft rules that it breaks"),
            Field("score", .integer, isRequired: false, "the policy's; lower is better"),
            Field(
                "groups", .objects(GroupWeight.shape), isRequired: false, "what each soft group adds to the soft rules"),
            Field(
                "worthBefore", .integer, isRequired: false,
                "of the host's free room to VMs that may come; pack keeps the loss of it small"),
            Field("worthAfter", .integer, isRequired: false, "the same with the VM on the host"),
            Field("numaNodes", .integers, "where in the host the VM would go"),
        ])
    package var members: [JSONMember] {
        var members = [
            JSONMember("host", host), JSONMember("excludedBy", excludedBy), JSONMember("shortages", shortages),
            JSONMember("free", free),
        ]
        members.add("softRules", softRules)
        members.add("score", score)
        if softRules != nil { members.append(JSONMember("groups", objects: groups)) }
        members.add("worthBefore", worthBefore)
        members.add("worthAfter", worthAfter)
        members.append(JSONMember("numaNodes", integers: numaNodes))
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            host: object.text("host"), excludedBy: object.strings("excludedBy"),
            shortages: object.strings("shortages"), free: (try object.object("free") ?? SignedResources(.zero)).amount,
            softRules: object.optionalInteger("softRules"), score: object.optionalInteger("score"),
            groups: object.has("groups") ? try object.objects("groups") : [],
            worthBefore: object.optionalInteger("worthBefore"), worthAfter: object.optionalInteger("worthAfter"),
            numaNodes: object.integers("numaNodes"))
    }
}

/// Hosts that one rule excludes.
package struct RuleCount: Shaped {
    package var rule: String
    package var hosts: Int64
    package init(rule: String, hosts: Int64) {
        self.rule = rule
        self.hosts = hosts
    }
    package static let shape = Shape(
        "RuleCount",
        [
            Field("rule", .string, "the rule"),
            Field("hosts", .integer, "hosts of which it is the first to exclude them"),
        ])
    package var members: [JSONMember] { [JSONMember("rule", rule), JSONMember("hosts", hosts)] }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(rule: object.text("rule"), hosts: object.integer("hosts"))
    }
}

/// How one rule judged all hosts.
package struct RuleVerdict: Shaped {
    package var rule: String
    package var excluded: Int64
    package var excludedAlone: Int64
    package init(rule: String, excluded: Int64, excludedAlone: Int64) {
        self.rule = rule
        self.excluded = excluded
        self.excludedAlone = excludedAlone
    }
    package static let shape = Shape(
        "RuleVerdict",
        [
            Field("rule", .string, "the rule"),
            Field("excluded", .integer, "hosts that it excludes, whatever other rules do"),
            Field("excludedAlone", .integer, "of these, hosts that nothing else excludes"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("rule", rule), JSONMember("excluded", excluded), JSONMember("excludedAlone", excludedAlone),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            rule: object.text("rule"), excluded: object.integer("excluded"),
            excludedAlone: object.integer("excludedAlone"))
    }
}

/// What a soft group adds to a host's score.
package struct GroupWeight: Shaped {
    package var group: String
    package var weight: Int64
    package init(group: String, weight: Int64) {
        self.group = group
        self.weight = weight
    }
    package static let shape = Shape(
        "GroupWeight",
        [Field("group", .string, "the group's name"), Field("weight", .integer, "what breaking its rule costs")])
    package var members: [JSONMember] { [JSONMember("group", group), JSONMember("weight", weight)] }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(group: object.text("group"), weight: object.integer("weight"))
    }
}

/// VMs that get their first places all or none, one of which is explained.
package struct GangInfo: Shaped {
    /// One of them that does not fit with the others.
    package struct Missing: Shaped {
        package var vm: String
        package var text: String
        package init(vm: String, text: String) {
            self.vm = vm
            self.text = text
        }
        package static let shape = Shape(
            "GangMissing",
            [Field("vm", .string, "its name"), Field("text", .string, "why, when those that fit are there")])
        package var members: [JSONMember] { [JSONMember("vm", vm), JSONMember("text", text)] }
        package init(_ object: ShapedObject) throws(Problem) {
            self.init(vm: object.text("vm"), text: object.text("text"))
        }
    }
    package var count: Int64
    package var fitting: Int64
    package var missing: [Missing]
    package init(count: Int64, fitting: Int64, missing: [Missing]) {
        self.count = count
        self.fitting = fitting
        self.missing = missing
    }
    package static let shape = Shape(
        "Gang",
        [
            Field("count", .integer, "all of them"),
            Field("fitting", .integer, "how many would fit together now"),
            Field("missing", .objects(Missing.shape), "some of the others, and what they lack"),
        ])
    package var members: [JSONMember] {
        [JSONMember("count", count), JSONMember("fitting", fitting), JSONMember("missing", objects: missing)]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            count: object.integer("count"), fitting: object.integer("fitting"), missing: try object.objects("missing"))
    }
}

/// Why a VM is where it is, or why it waits.
package struct ExplainInfo: Shaped {
    package var vm: String
    /// placed, waiting, nominated or idle.
    package var standing: String
    /// Where it is, or where room is being made; empty for none.
    package var host: String
    /// How many wait before it.
    package var before: Int64
    package var index: UInt64
    package var hosts: Int64
    package var candidates: Int64
    package var excluded: [RuleCount]
    /// Every rule by itself.
    package var rules: [RuleVerdict]
    package var best: [HostVerdict]
    /// The hosts that were asked about.
    package var asked: [HostVerdict]
    package var policy: String
    package var tieBreak: String
    /// Hosts that share the best score.
    package var tied: Int64
    /// The smallest single change that would let it in; empty where it is placed or nothing small would.
    package var nearest: String
    /// Why its specification can't be judged at all; empty where it can.
    package var invalid: String
    /// Of one that waits for its place together with others.
    package var gang: GangInfo?
    /// What a lost region has to do with it; empty for nothing.
    package var region = ""
    /// What of the cell's reserve it would break; empty for nothing.
    package var reserve = ""

    package init(
        vm: String, standing: String, host: String, before: Int64, index: UInt64, hosts: Int64, candidates: Int64,
        excluded: [RuleCount], rules: [RuleVerdict], best: [HostVerdict], asked: [HostVerdict], policy: String,
        tieBreak: String, tied: Int64,
        nearest: String, invalid: String
    ) {
        self.vm = vm
        self.standing = standing
        self.host = host
        self.before = before
        self.index = index
        self.hosts = hosts
        self.candidates = candidates
        self.excluded = excluded
        self.rules = rules
        self.best = best
        self.asked = asked
        self.policy = policy
        self.tieBreak = tieBreak
        self.tied = tied
        self.nearest = nearest
        self.invalid = invalid
    }

    package init(_ found: CellExplanation, hostName: (HostID) -> String) {
        var before = 0
        var host = ""
        let standing: String
        switch found.standing {
        case .placed(let place): (standing, host) = ("placed", hostName(place))
        case .waiting(let count): (standing, before) = ("waiting", count)
        case .nominated(let place): (standing, host) = ("nominated", hostName(place))
        case .idle: standing = "idle"
        }
        self.init(
            vm: found.name, standing: standing, host: host, before: Int64(before), index: found.through.rawValue,
            hosts: Int64(found.hosts), candidates: Int64(found.candidates),
            excluded: found.rules.map { RuleCount(rule: $0.rule, hosts: Int64($0.hosts)) },
            rules: found.verdicts.map {
                RuleVerdict(
                    rule: $0.rule, excluded: Int64($0.excluded), excludedAlone: Int64($0.excludedAlone))
            },
            best: found.best.map { HostVerdict($0) }, asked: found.asked.map { HostVerdict($0) },
            policy: found.policy.rawValue, tieBreak: found.tieBreak, tied: Int64(found.tied),
            nearest: found.nearest ?? "", invalid: found.invalid ?? "")
        region = found.region
        reserve = found.reserve
        gang = found.gang.map { gang in
            GangInfo(
                count: Int64(gang.count), fitting: Int64(gang.fitting),
                missing: gang.missing.map { GangInfo.Missing(vm: $0.name, text: $0.text) })
        }
    }

    package static let shape = Shape(
        "Explanation",
        [
            Field("vm", .string, "its name"),
            Field(
                "standing", .choice(["placed", "waiting", "nominated", "idle"]),
                "nominated: room is being made for it; idle: it is not meant to have a place now"),
            Field("host", .string, "where it is, or where room is being made; empty for none"),
            Field("before", .integer, "how many wait before it"),
            Field("index", .integer, "of the state that this is true of"),
            Field("hosts", .integer, "hosts of the cell"),
            Field("candidates", .integer, "hosts that no rule excludes"),
            Field("excluded", .objects(RuleCount.shape), "the others, by the first rule that excludes them"),
            Field(
                "rules", .objects(RuleVerdict.shape), isRequired: false,
                "every rule that the VM or a host brings up, judged by itself"),
            Field("best", .objects(HostVerdict.shape), "the best candidates, best first"),
            Field("asked", .objects(HostVerdict.shape), "the hosts that were asked about"),
            Field("policy", .string, "what the score is for"),
            Field("tieBreak", .string, "what decides between equal scores"),
            Field("tied", .integer, "hosts that share the best score"),
            Field("nearest", .string, "the smallest single change that would let it in; empty for none"),
            Field("invalid", .string, "why it can't be judged at all; empty where it can"),
            Field(
                "gang", .object(GangInfo.shape), isRequired: false,
                "of a VM that waits for its place together with others, all or none"),
            Field(
                "region", .string, isRequired: false,
                "of a VM whose region is lost or was: where it goes, or why not"),
            Field(
                "reserve", .string, isRequired: false,
                "of a VM that waits since the cell keeps room free for losses: which loss, and how much is short"),
        ])
    package var members: [JSONMember] {
        var members = [
            JSONMember("vm", vm), JSONMember("standing", standing), JSONMember("host", host),
            JSONMember("before", before), JSONMember("index", index), JSONMember("hosts", hosts),
            JSONMember("candidates", candidates), JSONMember("excluded", objects: excluded),
            JSONMember("rules", objects: rules),
            JSONMember("best", objects: best), JSONMember("asked", objects: asked), JSONMember("policy", policy),
            JSONMember("tieBreak", tieBreak), JSONMember("tied", tied), JSONMember("nearest", nearest),
            JSONMember("invalid", invalid),
        ]
        if let gang { members.append(JSONMember("gang", gang)) }
        if !region.isEmpty { members.append(JSONMember("region", region)) }
        if !reserve.isEmpty { members.append(JSONMember("reserve", reserve)) }
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            vm: object.text("vm"), standing: object.text("standing"), host: object.text("host"),
            before: object.integer("before"), index: object.unsigned("index"), hosts: object.integer("hosts"),
            candidates: object.integer("candidates"),
            excluded: try object.objects("excluded"), rules: object.has("rules") ? try object.objects("rules") : [],
            best: try object.objects("best"),
            asked: try object.objects("asked"), policy: object.text("policy"), tieBreak: object.text("tieBreak"),
            tied: object.integer("tied"), nearest: object.text("nearest"), invalid: object.text("invalid"))
        gang = try object.object("gang")
        region = object.optionalText("region") ?? ""
        reserve = object.optionalText("reserve") ?? ""
    }
}
