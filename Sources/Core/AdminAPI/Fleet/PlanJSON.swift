internal import ClusterBase
package import FleetModel

// What people ask about what moves, and what they are told.

/// `POST /v1/plan`: what would happen. Nothing happens.
package enum PlanWish: Shaped {
    /// All of them or none where `isAtomic`.
    case create([VMCreation], isAtomic: Bool)
    /// The host by name.
    case drain(String)
    /// The host by name, were it in service.
    case returns(String)
    case rebalance
    /// These hosts, by name, were lost at once.
    case loss([String])
    /// This host, by name, had this policy: other reservations, overcommit, labels or taints.
    indirect case capacity(CapacityWish)
    /// This host, by name, were taken out of the cell.
    case remove(String)
    /// This host, by name, were declared dead.
    case declareDead(String)
    /// This tenant had this quota.
    case quota(QuotaWish)

    package static let itemsMax = 1_000

    package static let shape = Shape(
        "PlanWish",
        [
            Field(
                "create", .objects(VMCreation.shape), isRequired: false, "these VMs were made; at most \(itemsMax)"),
            Field("atomic", .boolean, isRequired: false, "with create: all of them were made and placed, or none"),
            Field("drain", .name, isRequired: false, "this host were drained"),
            Field(
                "return", .name, isRequired: false, "this host, which was drained, were resumed, and its VMs moved back"
            ),
            Field("rebalance", .object(Shape("RebalanceWish", [])), isRequired: false, "the cell were rebalanced now"),
            Field("loss", .names, isRequired: false, "these hosts were lost at once; at most \(itemsMax)"),
            Field("capacity", .object(CapacityWish.shape), isRequired: false, "this host had this policy"),
            Field("remove", .name, isRequired: false, "this host were taken out of the cell"),
            Field("declareDead", .name, isRequired: false, "this host were declared dead"),
            Field("quota", .object(QuotaWish.shape), isRequired: false, "this tenant had this quota"),
        ])
    package var members: [JSONMember] {
        switch self {
        // A program that knows no plans of that kind is not asked for one where nobody wants it.
        case .create(let items, let isAtomic):
            [JSONMember("create", objects: items)] + (isAtomic ? [JSONMember("atomic", true)] : [])
        case .drain(let host): [JSONMember("drain", host)]
        case .returns(let host): [JSONMember("return", host)]
        case .rebalance: [JSONMember("rebalance", .object([]))]
        case .loss(let hosts): [JSONMember("loss", hosts)]
        case .capacity(let wish): [JSONMember("capacity", wish)]
        case .remove(let host): [JSONMember("remove", host)]
        case .declareDead(let host): [JSONMember("declareDead", host)]
        case .quota(let wish): [JSONMember("quota", wish)]
        }
    }
    package init(_ object: ShapedObject) throws(Problem) {
        let all = ["create", "drain", "return", "rebalance", "loss", "capacity", "remove", "declareDead", "quota"]
        let given = all.filter { object.has($0) }
        guard given.count == 1 else {
            throw Problem(.invalid, "a plan is about one of \(all.joined(separator: ", ")); send exactly one")
        }
        let isAtomic = object.bool("atomic")
        if isAtomic && given[0] != "create" {
            throw object.wrong("atomic", "is for create only; leave it out")
        }
        switch given[0] {
        case "create":
            let items: [VMCreation] = try object.objects("create")
            if items.isEmpty || items.count > PlanWish.itemsMax {
                throw object.wrong("create", "holds \(items.count) items; send 1 to \(PlanWish.itemsMax)")
            }
            self = .create(items, isAtomic: isAtomic)
        case "drain": self = .drain(object.text("drain"))
        case "return": self = .returns(object.text("return"))
        case "declareDead": self = .declareDead(object.text("declareDead"))
        case "remove": self = .remove(object.text("remove"))
        case "capacity":
            guard let wish: CapacityWish = try object.object("capacity") else {
                throw object.wrong("capacity", "is null; send the host and its policy")
            }
            self = .capacity(wish)
        case "quota":
            guard let wish: QuotaWish = try object.object("quota") else {
                throw object.wrong("quota", "is null; send the tenant and its quota")
            }
            self = .quota(wish)
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

/// A host's policy that is not in force yet.
package struct CapacityWish: Shaped {
    package var host: String
    package var policy: HostPolicy
    /// What may not stay there then is moved away.
    package var isEnforced: Bool
    package init(host: String, policy: HostPolicy, isEnforced: Bool = false) {
        self.host = host
        self.policy = policy
        self.isEnforced = isEnforced
    }
    package static let shape = Shape(
        "CapacityWish",
        [
            Field("host", .name, "its name"),
            Field("policy", .object(HostPolicy.shape), "all of its labels, taints, reservations and overcommit"),
            Field("enforce", .boolean, isRequired: false, "move away what may not stay there then"),
        ])
    package var members: [JSONMember] {
        [JSONMember("host", host), JSONMember("policy", policy)]
            + (isEnforced ? [JSONMember("enforce", true)] : [])
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            host: object.text("host"), policy: try object.object("policy") ?? HostPolicy(),
            isEnforced: object.bool("enforce"))
    }
}

/// A tenant's quota that is not in force yet.
package struct QuotaWish: Shaped {
    package var tenant: String
    package var quota: Quota
    /// Empty: it stays.
    package var tier: String
    /// What runs beyond it is stopped.
    package var isEnforced: Bool
    package init(tenant: String, quota: Quota, tier: String = "", isEnforced: Bool = false) {
        self.tenant = tenant
        self.quota = quota
        self.tier = tier
        self.isEnforced = isEnforced
    }
    package static let shape = Shape(
        "QuotaWish",
        [
            Field("tenant", .name, "its name"),
            Field("quota", .object(Quota.shape), isRequired: false, "what it may have; no bounds when left out"),
            Field("tier", .name, isRequired: false, "a word for its class of service; not looked at when left out"),
            Field("enforce", .boolean, isRequired: false, "stop what runs beyond it"),
        ])
    package var members: [JSONMember] {
        var members = [JSONMember("tenant", tenant), JSONMember("quota", quota)]
        if !tier.isEmpty { members.append(JSONMember("tier", tier)) }
        if isEnforced { members.append(JSONMember("enforce", true)) }
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            tenant: object.text("tenant"), quota: try object.object("quota") ?? .unlimited, tier: object.text("tier"),
            isEnforced: object.bool("enforce"))
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
                "action", .choice(CellPlan.Step.Kind.allCases.map(\.rawValue) + ["update", "delete", "move"]),
                "place what has no place, migrate while it runs, restart elsewhere, preempt: stop to make room, create: make it "
                    + "without a place, as it is to be stopped, stop it for a quota, release: give up a place that it may not have, as it is stopped, update its specification, delete it, or move it to another cell"
            ),
            Field("vm", .string, "the VM's name"), Field("tenant", .string, "its tenant"),
            Field("from", .string, "the host that it leaves, or is on; empty for none"),
            Field("to", .string, "the host, or of a move the cell, that it goes to; empty for none"),
            Field("cost", .integer, "memory and disks of its host to copy, in MiB; 0 where not counted"),
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
    /// Values that would be other ones.
    package var changes: [PlanChange]
    /// What else there is to say, in sentences.
    package var notes: [String]
    /// Of a live migration, as measured now: no part of the digest.
    package var forecast: MoveForecastInfo?
    package init(
        index: UInt64, digest: String, steps: [PlanStep], left: [PlanLeft] = [], scoreBefore: Int64 = 0,
        scoreAfter: Int64 = 0, isComplete: Bool = true, changes: [PlanChange] = [], notes: [String] = []
    ) {
        self.index = index
        self.digest = digest
        self.steps = steps
        self.left = left
        self.scoreBefore = scoreBefore
        self.scoreAfter = scoreAfter
        self.isComplete = isComplete
        self.changes = changes
        self.notes = notes
    }

    package init(_ plan: CellPlan) {
        let idle = plan.steps.count { $0.kind == .create }
        let ofIdle =
            idle == 1
            ? "1 VM is created stopped, and gets a place when it is started"
            : "\(idle) VMs are created stopped, and get places when they are started"
        self.init(
            index: plan.through.rawValue, digest: String(plan.digest, radix: 16),
            steps: plan.steps.map { step in
                PlanStep(
                    action: step.kind.rawValue, vm: step.name, tenant: step.tenant, from: step.fromName,
                    to: step.toName, cost: step.cost, gain: step.gain)
            },
            left: plan.left.map {
                PlanLeft(vm: $0.name, tenant: $0.tenant, cause: $0.cause.rawValue, text: $0.text)
            }, scoreBefore: plan.scoreBefore ?? 0, scoreAfter: plan.scoreAfter ?? 0, isComplete: plan.isComplete,
            notes: (idle == 0 ? [] : [ofIdle]) + plan.notes)
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
            Field("changes", .objects(PlanChange.shape), isRequired: false, "values that would be other ones"),
            Field("notes", .strings, isRequired: false, "what else there is to say"),
            Field(
                "forecast", .object(MoveForecastInfo.shape), isRequired: false,
                "of a live migration: how it would go by what its host measures now; the digest is without it"),
        ])
    package var members: [JSONMember] {
        var members = [
            JSONMember("index", index), JSONMember("digest", digest), JSONMember("steps", objects: steps),
            JSONMember("left", objects: left), JSONMember("scoreBefore", scoreBefore),
            JSONMember("scoreAfter", scoreAfter), JSONMember("isComplete", isComplete),
        ]
        members.add("changes", objects: changes)
        members.add("notes", notes)
        if let forecast { members.append(JSONMember("forecast", forecast)) }
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            index: object.unsigned("index"), digest: object.text("digest"), steps: try object.objects("steps"),
            left: try object.objects("left"), scoreBefore: object.integer("scoreBefore"),
            scoreAfter: object.integer("scoreAfter"), isComplete: object.bool("isComplete"),
            changes: try object.objects("changes"), notes: object.strings("notes"))
        forecast = try object.object("forecast")
    }
}

/// `POST /v1/vms/{vm}/migrate`.
package struct MigrationWish: Shaped {
    /// By name; nil for the best one.
    package var host: String?
    /// Another cell, by name, which chooses the host.
    package var cell: String?
    /// It stops here and starts there, also where it could go while it runs.
    package var isCold = false
    /// Nil: as the VM or its cell is set.
    package var intent: MoveIntent?
    package init(host: String? = nil, cell: String? = nil, intent: MoveIntent? = nil) {
        self.host = host
        self.cell = cell
        self.intent = intent
    }
    package static let shape = Shape(
        "MigrationWish",
        [
            Field("host", .name, isRequired: false, "where it is to go; the best host when left out"),
            Field(
                "cell", .name, isRequired: false,
                "another cell: once that has room for it, a VM that runs goes there live, and any other is started there"
            ),
            Field(
                "cold", .boolean, isRequired: false,
                "to another cell: stop it here and start it there, also where it could go while it runs"),
            Field(
                "intent", .choice(FleetWords.intent.all), isRequired: false,
                "what it may cost: gentle never slows the guest down and leaves others most of the bandwidth, or fails with the reason; "
                    + "balanced slows it down after a while; now at once, with a longer stop; as the VM or its cell is set"
            ),
        ])
    package var members: [JSONMember] {
        var members: [JSONMember] = []
        members.add("host", host)
        members.add("cell", cell)
        if isCold { members.append(JSONMember("cold", .bool(true))) }
        members.add("intent", intent.map { FleetWords.intent[$0] })
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        host = object.optionalText("host")
        cell = object.optionalText("cell")
        intent = object.optionalText("intent").flatMap { FleetWords.intent[$0] }
        isCold = object.bool("cold")
        if cell != nil && intent != nil {
            throw object.wrong(
                "intent", "is for a move within a cell; to another cell it goes as it or its cell is set: leave it out")
        }
        if isCold && cell == nil {
            throw object.wrong("cold", "is for a move to another cell; within its cell a VM moves while it runs")
        }
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
    private static let intents = Words<UInt64>(MoveIntent.allCases.map { ($0.word, UInt64($0.rawValue)) })
    private static let modes = Words<UInt64>([("off", 0), ("advice", 1), ("auto", 2)])

    private static let summaries: [(CellSetting, String)] = [
        (.policy, "what placement is for"),
        (.leaseLength, "after so long without the leader a host's VMs are stopped there"),
        (.rebalance, "off, advice only, or by itself"),
        (.migrationsMax, "migrations at one time in the cell"),
        (.migrationsPerHostMax, "migrations at one time at a host"),
        (.moveCooldown, "so long a VM is left alone after a move"),
        (
            .brakeMillis,
            "thousandths of the hosts that may be lost within ten minutes before failover stops by itself"
        ),
        (.tombstoneLifetime, "so long a deleted name is remembered"),
        (.backoffFirst, "the first wait before a crashed VM starts again"),
        (.backoffMax, "the longest"),
        (
            .eventLifetime,
            "so long events are kept, the audit among them, and the last \(CellLimits.eventsMax) at most"
        ),
        (.migrationsPerLinkMax, "migrations at one time over a rack's uplink, in and out together"),
        (
            .rpoZone,
            "how old what was acknowledged may be that is lost with any one zone: a time such as 0s or 5s, none for no promise, or auto: "
                + "0s where the cell is to survive that, else none"
        ),
        (.rpoRegion, "the same for any one region"),
        (
            .rto,
            "how long VMs whose host, zone or region was lost may be down until they run again: a time such as 90s; none or auto for "
                + "no promise"
        ),
        (
            .moveIntent,
            "what live migrations may cost where neither who asks nor the VM says, and those of a drain: gentle, balanced or now"
        ),
        (
            .failoverReserve,
            "what is kept free for VMs to start elsewhere after a loss: off, or how many hosts, racks or zones may be lost at once, such "
                + "as hosts:1 or racks:2"
        ),
        (
            .splitAbove,
            "beyond so many hosts or VMs half of its hosts go to a new cell: off, or such as hosts:500 or vms:100000"
        ),
        (
            .mergeBelow,
            "with fewer hosts or VMs it is merged into another cell of its region and retired: off, or such as hosts:4 or vms:1000"
        ),
        (
            .cost,
            "what a VM costs there beside other cells, in whatever unit; 0: nobody said, and VMs that are to be cheap go elsewhere first"
        ),
    ]

    package static let shape = Shape(
        "CellSettings",
        summaries.map { setting, summary in
            let kind: Field.Kind =
                switch setting {
                case .policy: .choice(policies.all)
                case .rebalance: .choice(modes.all)
                case .moveIntent: .choice(intents.all)
                case .failoverReserve, .splitAbove, .mergeBelow: .string
                case _ where setting.isObjective: .string
                default: .range(0, 1 << 53)
                }
            return Field(setting.member, kind, isRequired: false, summary)
        })

    package var members: [JSONMember] {
        CellSettingsBody.summaries.compactMap { setting, _ in
            let name = setting.member
            guard let value = values.first(where: { $0.0 == setting })?.1 else { return nil }
            switch setting {
            case .policy: return JSONMember(name, CellSettingsBody.policies[value])
            case .rebalance: return JSONMember(name, CellSettingsBody.modes[value])
            case .moveIntent: return JSONMember(name, CellSettingsBody.intents[value])
            case .failoverReserve: return JSONMember(name, FailoverReserve.text(value))
            case .splitAbove, .mergeBelow: return JSONMember(name, SplitBound.text(value))
            case _ where setting.isObjective: return JSONMember(name, (Objective(value: value) ?? .auto).text)
            default: return JSONMember(name, value)
            }
        }
    }

    package init(_ object: ShapedObject) throws(Problem) {
        kept = []
        for (setting, _) in CellSettingsBody.summaries where object.has(setting.member) {
            let name = setting.member
            let value: UInt64?
            switch setting {
            case .policy: value = CellSettingsBody.policies[object.text(name)]
            case .rebalance: value = CellSettingsBody.modes[object.text(name)]
            case .moveIntent: value = CellSettingsBody.intents[object.text(name)]
            case .failoverReserve, .splitAbove, .mergeBelow:
                let text = object.text(name)
                let found = setting == .failoverReserve ? FailoverReserve.value(text) : SplitBound.value(text)
                guard let known = found else {
                    throw Problem(.invalid, "\(CellRefusal.settingOutOfRange(setting))", field: name)
                }
                value = known
            case _ where setting.isObjective:
                value = try Objective(member: name, of: object)?.value
            default: value = object.unsigned(name)
            }
            if let value { kept.append(Value(setting: setting, number: value)) }
        }
    }
}
