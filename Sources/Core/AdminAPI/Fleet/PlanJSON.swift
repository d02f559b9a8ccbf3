internal import ClusterBase
package import FleetModel

// What people ask about placement, and what they are told.

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
    package var numaNodes: [Int64]

    package init(
        host: String, excludedBy: [String] = [], shortages: [String] = [], free: Resources, softRules: Int64? = nil,
        score: Int64? = nil, numaNodes: [Int64] = []
    ) {
        self.host = host
        self.excludedBy = excludedBy
        self.shortages = shortages
        self.free = SignedResources(free)
        self.softRules = softRules
        self.score = score
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
            Field("numaNodes", .integers, "where in the host the VM would go"),
        ])
    package var members: [JSONMember] {
        var members = [
            JSONMember("host", host), JSONMember("excludedBy", excludedBy), JSONMember("shortages", shortages),
            JSONMember("free", free),
        ]
        members.add("softRules", softRules)
        members.add("score", score)
        members.append(JSONMember("numaNodes", integers: numaNodes))
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            host: object.text("host"), excludedBy: object.strings("excludedBy"),
            shortages: object.strings("shortages"), free: (try object.object("free") ?? SignedResources(.zero)).amount,
            softRules: object.optionalInteger("softRules"), score: object.optionalInteger("score"),
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

    package init(
        vm: String, standing: String, host: String, before: Int64, index: UInt64, hosts: Int64, candidates: Int64,
        excluded: [RuleCount], best: [HostVerdict], asked: [HostVerdict], policy: String, tieBreak: String, tied: Int64,
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
            best: found.best.map { HostVerdict($0) }, asked: found.asked.map { HostVerdict($0) },
            policy: found.policy.rawValue, tieBreak: found.tieBreak, tied: Int64(found.tied),
            nearest: found.nearest ?? "", invalid: found.invalid ?? "")
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
            Field("best", .objects(HostVerdict.shape), "the best candidates, best first"),
            Field("asked", .objects(HostVerdict.shape), "the hosts that were asked about"),
            Field("policy", .string, "what the score is for"),
            Field("tieBreak", .string, "what decides between equal scores"),
            Field("tied", .integer, "hosts that share the best score"),
            Field("nearest", .string, "the smallest single change that would let it in; empty for none"),
            Field("invalid", .string, "why it can't be judged at all; empty where it can"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("vm", vm), JSONMember("standing", standing), JSONMember("host", host),
            JSONMember("before", before), JSONMember("index", index), JSONMember("hosts", hosts),
            JSONMember("candidates", candidates), JSONMember("excluded", objects: excluded),
            JSONMember("best", objects: best), JSONMember("asked", objects: asked), JSONMember("policy", policy),
            JSONMember("tieBreak", tieBreak), JSONMember("tied", tied), JSONMember("nearest", nearest),
            JSONMember("invalid", invalid),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            vm: object.text("vm"), standing: object.text("standing"), host: object.text("host"),
            before: object.integer("before"), index: object.unsigned("index"), hosts: object.integer("hosts"),
            candidates: object.integer("candidates"),
            excluded: try object.objects("excluded"), best: try object.objects("best"),
            asked: try object.objects("asked"), policy: object.text("policy"), tieBreak: object.text("tieBreak"),
            tied: object.integer("tied"), nearest: object.text("nearest"), invalid: object.text("invalid"))
    }
}

/// `POST /v1/plan`: what would happen. Nothing happens.
package enum PlanWish: Shaped {
    case create([VMCreation])
    /// The host by name.
    case drain(String)
    case rebalance
    /// These hosts, by name, were lost at once.
    case loss([String])

    package static let itemsMax = 1_000

    package static let shape = Shape(
        "PlanWish",
        [
            Field(
                "create", .objects(VMCreation.shape), isRequired: false, "these VMs were made; at most \(itemsMax)"),
            Field("drain", .name, isRequired: false, "this host were drained"),
            Field("rebalance", .object(Shape("RebalanceWish", [])), isRequired: false, "the cell were rebalanced now"),
            Field("loss", .names, isRequired: false, "these hosts were lost at once; at most \(itemsMax)"),
        ])
    package var members: [JSONMember] {
        switch self {
        case .create(let items): [JSONMember("create", objects: items)]
        case .drain(let host): [JSONMember("drain", host)]
        case .rebalance: [JSONMember("rebalance", .object([]))]
        case .loss(let hosts): [JSONMember("loss", hosts)]
        }
    }
    package init(_ object: ShapedObject) throws(Problem) {
        let given = ["create", "drain", "rebalance", "loss"].filter { object.has($0) }
        guard given.count == 1 else {
            throw Problem(
                .invalid, "a plan is about one of \"create\", \"drain\", \"rebalance\" and \"loss\"; send exactly one"
            )
        }
        switch given[0] {
        case "create":
            let items: [VMCreation] = try object.objects("create")
            if items.isEmpty || items.count > PlanWish.itemsMax {
                throw object.wrong("create", "holds \(items.count) items; send 1 to \(PlanWish.itemsMax)")
            }
            self = .create(items)
        case "drain": self = .drain(object.text("drain"))
        case "loss":
            let hosts = object.strings("loss")
            if hosts.isEmpty || hosts.count > PlanWish.itemsMax {
                throw object.wrong("loss", "names \(hosts.count) hosts; send 1 to \(PlanWish.itemsMax)")
            }
            self = .loss(hosts)
        default:
            let members = object.json["rebalance"]?.members ?? []
            if !members.isEmpty { throw object.wrong("rebalance", "holds members; send {}") }
            self = .rebalance
        }
    }
}

/// One step of a plan.
package struct PlanStep: Shaped {
    package var action: String
    package var vm: String
    package var tenant: String
    package var from: String
    package var to: String
    /// What it costs and gains, where that is counted; else 0.
    package var cost: Int64
    package var gain: Int64
    package init(
        action: String, vm: String, tenant: String, from: String = "", to: String = "", cost: Int64 = 0, gain: Int64 = 0
    ) {
        self.action = action
        self.vm = vm
        self.tenant = tenant
        self.from = from
        self.to = to
        self.cost = cost
        self.gain = gain
    }
    package static let shape = Shape(
        "PlanStep",
        [
            Field(
                "action", .choice(CellPlan.Step.Kind.allCases.map(\.rawValue)),
                "place what has no place, migrate while it runs, restart elsewhere, or preempt: stop to make room"),
            Field("vm", .string, "the VM's name"), Field("tenant", .string, "its tenant"),
            Field("from", .string, "the host that it leaves; empty for none"),
            Field("to", .string, "the host that it goes to; empty for none"),
            Field("cost", .integer, "memory to copy in MiB; 0 where not counted"),
            Field("gain", .integer, "how much better the cell's score gets; 0 where not counted"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("action", action), JSONMember("vm", vm), JSONMember("tenant", tenant), JSONMember("from", from),
            JSONMember("to", to), JSONMember("cost", cost), JSONMember("gain", gain),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            action: object.text("action"), vm: object.text("vm"), tenant: object.text("tenant"),
            from: object.text("from"), to: object.text("to"), cost: object.integer("cost"),
            gain: object.integer("gain"))
    }
}

/// A VM for which a plan has no way.
package struct PlanLeft: Shaped {
    package var vm: String
    package var tenant: String
    package var cause: String
    package var text: String
    package init(vm: String, tenant: String, cause: String, text: String) {
        self.vm = vm
        self.tenant = tenant
        self.cause = cause
        self.text = text
    }
    package static let shape = Shape(
        "PlanLeft",
        [
            Field("vm", .string, "the VM's name"), Field("tenant", .string, "its tenant"),
            Field("cause", .choice(CellPlan.Left.Cause.allCases.map(\.rawValue)), "why"),
            Field("text", .string, "the same in words, with what would help"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("vm", vm), JSONMember("tenant", tenant), JSONMember("cause", cause), JSONMember("text", text),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            vm: object.text("vm"), tenant: object.text("tenant"), cause: object.text("cause"),
            text: object.text("text"))
    }
}

/// What would be done, planned on the state at one index.
package struct PlanInfo: Shaped {
    /// Of the state that it rests on.
    package var index: UInt64
    /// Equal for plans that do the same.
    package var digest: String
    package var steps: [PlanStep]
    package var left: [PlanLeft]
    package var scoreBefore: Int64
    package var scoreAfter: Int64
    /// False when a bound ended the search before it found nothing more.
    package var isComplete: Bool
    package init(
        index: UInt64, digest: String, steps: [PlanStep], left: [PlanLeft] = [], scoreBefore: Int64 = 0,
        scoreAfter: Int64 = 0, isComplete: Bool = true
    ) {
        self.index = index
        self.digest = digest
        self.steps = steps
        self.left = left
        self.scoreBefore = scoreBefore
        self.scoreAfter = scoreAfter
        self.isComplete = isComplete
    }

    package init(_ plan: CellPlan) {
        self.init(
            index: plan.through.rawValue, digest: String(plan.digest, radix: 16),
            steps: plan.steps.map { step in
                PlanStep(
                    action: step.kind.rawValue, vm: step.name, tenant: step.tenant, from: step.fromName,
                    to: step.toName, cost: step.cost, gain: step.gain)
            },
            left: plan.left.map {
                PlanLeft(vm: $0.name, tenant: $0.tenant, cause: $0.cause.rawValue, text: $0.text)
            }, scoreBefore: plan.scoreBefore ?? 0, scoreAfter: plan.scoreAfter ?? 0, isComplete: plan.isComplete)
    }

    package static let shape = Shape(
        "Plan",
        [
            Field("index", .integer, "of the state that it rests on"),
            Field("digest", .string, "equal for plans that do the same; sent back, only that plan is carried out"),
            Field("steps", .objects(PlanStep.shape), "in their order"),
            Field("left", .objects(PlanLeft.shape), "VMs for which there is no way"),
            Field("scoreBefore", .integer, "of the cell; higher is better, 0 where not counted"),
            Field("scoreAfter", .integer, "of the cell when all is done"),
            Field("isComplete", .boolean, "no bound ended the search"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("index", index), JSONMember("digest", digest), JSONMember("steps", objects: steps),
            JSONMember("left", objects: left), JSONMember("scoreBefore", scoreBefore),
            JSONMember("scoreAfter", scoreAfter), JSONMember("isComplete", isComplete),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            index: object.unsigned("index"), digest: object.text("digest"), steps: try object.objects("steps"),
            left: try object.objects("left"), scoreBefore: object.integer("scoreBefore"),
            scoreAfter: object.integer("scoreAfter"), isComplete: object.bool("isComplete"))
    }
}

/// `POST /v1/vms/{vm}/migrate`.
package struct MigrationWish: Shaped {
    /// By name; nil for the best one.
    package var host: String?
    /// Another cell, by name: it stops here and starts there, on a host that the cell chooses.
    package var cell: String?
    package init(host: String? = nil, cell: String? = nil) {
        self.host = host
        self.cell = cell
    }
    package static let shape = Shape(
        "MigrationWish",
        [
            Field("host", .name, isRequired: false, "where it is to go; the best host when left out"),
            Field(
                "cell", .name, isRequired: false,
                "another cell: a VM that runs stops once that has room for it, and starts there"),
        ])
    package var members: [JSONMember] {
        var members: [JSONMember] = []
        members.add("host", host)
        members.add("cell", cell)
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        host = object.optionalText("host")
        cell = object.optionalText("cell")
        if host != nil && cell != nil {
            throw object.wrong("cell", "chooses the host itself; leave host out, or move the VM within its cell")
        }
    }
}

/// `POST /v1/rebalance`: carries out a plan now, whatever the setting says.
package struct RebalanceStart: Shaped {
    /// The plan's; nil takes whatever is planned then.
    package var digest: String?
    package init(digest: String? = nil) { self.digest = digest }
    package static let shape = Shape(
        "RebalanceStart",
        [Field("digest", .string, isRequired: false, "of the plan that was shown: refused where it is another one now")]
    )
    package var members: [JSONMember] {
        var members: [JSONMember] = []
        members.add("digest", digest)
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) { digest = object.optionalText("digest") }
}

/// `GET` and `PUT /v1/cell/settings`. A change has only what changes.
package struct CellSettingsBody: Shaped {
    private struct Value: Hashable, Sendable {
        var setting: CellSetting
        var number: UInt64
    }
    private var kept: [Value]
    package var values: [(CellSetting, UInt64)] {
        get { kept.map { ($0.setting, $0.number) } }
        set { kept = newValue.map { Value(setting: $0.0, number: $0.1) } }
    }
    package init(_ values: [(CellSetting, UInt64)]) {
        kept = values.map { Value(setting: $0.0, number: $0.1) }
    }

    private static let policies = Words<UInt64>([("pack", 1), ("balance", 2), ("spread", 3)])
    private static let modes = Words<UInt64>([("off", 0), ("advice", 1), ("auto", 2)])

    private static let names: [(CellSetting, String, String)] = [
        (.policy, "policy", "what placement is for"),
        (.leaseLength, "leaseMillis", "after so long without the leader a host's VMs are stopped there"),
        (.rebalance, "rebalance", "off, advice only, or by itself"),
        (.migrationsMax, "migrationsMax", "migrations at one time in the cell"),
        (.migrationsPerHostMax, "migrationsPerHostMax", "migrations at one time at a host"),
        (.moveCooldown, "moveCooldownMillis", "so long a VM is left alone after a move"),
        (
            .brakeMillis, "failoverBrakeMilli",
            "thousandths of the hosts that may be lost within ten minutes before failover stops by itself"
        ),
        (.tombstoneLifetime, "tombstoneLifetimeMillis", "so long a deleted name is remembered"),
        (.backoffFirst, "restartBackoffMillis", "the first wait before a crashed VM starts again"),
        (.backoffMax, "restartBackoffMaxMillis", "the longest"),
        (
            .eventLifetime, "eventLifetimeMillis",
            "so long events are kept, the audit among them, and the last \(CellLimits.eventsMax) at most"
        ),
    ]

    package static let shape = Shape(
        "CellSettings",
        names.map { setting, name, summary in
            let kind: Field.Kind =
                switch setting {
                case .policy: .choice(policies.all)
                case .rebalance: .choice(modes.all)
                default: .range(0, 1 << 53)
                }
            return Field(name, kind, isRequired: false, summary)
        })

    package var members: [JSONMember] {
        CellSettingsBody.names.compactMap { setting, name, _ in
            guard let value = values.first(where: { $0.0 == setting })?.1 else { return nil }
            switch setting {
            case .policy: return JSONMember(name, CellSettingsBody.policies[value])
            case .rebalance: return JSONMember(name, CellSettingsBody.modes[value])
            default: return JSONMember(name, value)
            }
        }
    }

    package init(_ object: ShapedObject) throws(Problem) {
        kept = []
        for (setting, name, _) in CellSettingsBody.names where object.has(name) {
            let value: UInt64?
            switch setting {
            case .policy: value = CellSettingsBody.policies[object.text(name)]
            case .rebalance: value = CellSettingsBody.modes[object.text(name)]
            default: value = object.unsigned(name)
            }
            if let value { kept.append(Value(setting: setting, number: value)) }
        }
    }
}
