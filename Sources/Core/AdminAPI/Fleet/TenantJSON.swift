internal import ClusterBase
package import FleetModel

// Placement groups, tenants and quotas.

/// `POST /v1/groups`, and what a list says of a group.
extension CellGroup: Shaped {
    static let creation = [
        Field("name", .name, "unique in its tenant"),
        Field("tenant", .name, isRequired: false, "\(defaultTenant) when left out"),
        Field(
            "rule", .choice(["spread", "antiAffinity", "pack", "affinity"]),
            "spread: domains differ by at most limit; antiAffinity: at most limit in a domain; pack and affinity: a member "
                + "joins a domain that has members"),
        Field("limit", .range(1, 1_000_000), isRequired: false, "for spread and antiAffinity; 1 when left out"),
        Field("scope", .choice(FleetWords.scope.all), isRequired: false, "what a domain is; host"),
        Field("hard", .boolean, isRequired: false, "it refuses instead of adding to the score; true"),
        Field("weight", .range(1, 100), isRequired: false, "how much it counts where it is soft; 50"),
    ]

    package static let creationShape = Shape("GroupCreation", creation)
    package static let shape = Shape(
        "PlacementGroup",
        [Field("id", .integer, "never given to another one")]
            + creation.map { Field($0.name, $0.kind, isRequired: $0.name != "limit", $0.summary) }
            + [
                Field("memberCount", .integer, "VMs in it"),
                Field(
                    "brought", .boolean, isRequired: false,
                    "it came to its cell with VMs of another one, and goes with the last of its VMs unless somebody sets it there"
                ),
            ])

    /// What a creation's body holds.
    package var creationMembers: [JSONMember] {
        let names = CellGroup.creation.map(\.name)
        return members.filter { names.contains($0.name) }
    }

    package var members: [JSONMember] {
        var members = [JSONMember("id", id.rawValue), JSONMember("name", name), JSONMember("tenant", tenant)]
        switch rule {
        case .spread(let limit): members += [JSONMember("rule", "spread"), JSONMember("limit", Int64(limit))]
        case .antiAffinity(let limit):
            members += [JSONMember("rule", "antiAffinity"), JSONMember("limit", Int64(limit))]
        case .pack: members.append(JSONMember("rule", "pack"))
        case .affinity: members.append(JSONMember("rule", "affinity"))
        }
        members += [
            JSONMember("scope", FleetWords.scope[scope]), JSONMember("hard", isHard),
            JSONMember("weight", Int64(weight)), JSONMember("memberCount", memberCount),
        ]
        if isBrought { members.append(JSONMember("brought", .bool(true))) }
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        let limit = object.optionalInteger("limit").map { Int($0) }
        let rule: PlacementGroup.Rule
        switch object.text("rule") {
        case "spread": rule = .spread(skewMax: limit ?? 1)
        case "antiAffinity": rule = .antiAffinity(perDomainMax: limit ?? 1)
        case "pack": rule = .pack
        default: rule = .affinity
        }
        if limit != nil && (rule == .pack || rule == .affinity) {
            throw object.wrong("limit", "belongs to spread and antiAffinity; leave it out")
        }
        self.init(
            id: PlacementGroupID(object.unsigned("id")), name: object.text("name"),
            tenant: object.optionalText("tenant") ?? defaultTenant, rule: rule,
            scope: object.optionalText("scope").flatMap { FleetWords.scope[$0] } ?? .host,
            isHard: object.has("hard") ? object.bool("hard") : true,
            weight: Int(object.optionalInteger("weight") ?? 50))
        memberCount = object.unsigned("memberCount")
        isBrought = object.bool("brought")
    }
}

extension Quota: Shaped {
    package static let shape = Shape(
        "Quota",
        [
            Field("vmCount", .range(0, Resources.amountMax), isRequired: false, "VMs; no bound when left out"),
            Field("cpuMillis", .range(0, Resources.amountMax), isRequired: false, "no bound when left out"),
            Field("memoryMiB", .range(0, Resources.amountMax), isRequired: false, "no bound when left out"),
            Field("diskMiB", .range(0, Resources.amountMax), isRequired: false, "no bound when left out"),
            Field(
                "priorityMax", .range(-1_000_000, 1_000_000), isRequired: false,
                "the highest priority that who reaches this tenant alone gives its VMs; 0 when left out"),
            Field(
                "rto", .string, isRequired: false,
                "how long its VMs may be down that were lost with their hosts: a time such as 90s, none for no promise, or auto, as when "
                    + "it is left out: as the cell has it"),
        ])
    package var members: [JSONMember] {
        var members: [JSONMember] = []
        members.add("vmCount", vmCount.map { Int64(clamping: $0) })
        members.add("cpuMillis", cpuMillis)
        members.add("memoryMiB", memoryMiB)
        members.add("diskMiB", diskMiB)
        if priorityMax != 0 { members.append(JSONMember("priorityMax", Int64(priorityMax))) }
        if rto != .auto { members.append(JSONMember("rto", rto.text)) }
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            vmCount: object.optionalInteger("vmCount").map { UInt64($0) },
            cpuMillis: object.optionalInteger("cpuMillis"), memoryMiB: object.optionalInteger("memoryMiB"),
            diskMiB: object.optionalInteger("diskMiB"), priorityMax: Int32(object.optionalInteger("priorityMax") ?? 0),
            rto: try Objective(member: "rto", of: object) ?? .auto)
    }
}

/// `PUT /v1/tenants/{tenant}`.
package struct TenantSettings: Shaped {
    package var quota: Quota
    /// For people and programs that bill; empty for none.
    package var tier: String
    /// What runs beyond the quota is stopped, the least important and newest first.
    package var isEnforced: Bool
    package init(quota: Quota = .unlimited, tier: String = "", isEnforced: Bool = false) {
        self.quota = quota
        self.tier = tier
        self.isEnforced = isEnforced
    }
    package static let shape = Shape(
        "TenantSettings",
        [
            Field("quota", .object(Quota.shape), isRequired: false, "what it may have; no bounds when left out"),
            Field("tier", .name, isRequired: false, "a word for its class of service"),
            Field(
                "enforce", .boolean, isRequired: false,
                "stop what runs beyond the quota, the lowest priority and newest first; without it nothing that runs is stopped"
            ),
        ])
    package var members: [JSONMember] {
        var members = [JSONMember("quota", quota)]
        if !tier.isEmpty { members.append(JSONMember("tier", tier)) }
        if isEnforced { members.append(JSONMember("enforce", true)) }
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            quota: try object.object("quota") ?? .unlimited, tier: object.text("tier"),
            isEnforced: object.bool("enforce"))
    }
}

/// A tenant, its quota and what of it is in use.
package struct TenantInfo: Shaped {
    package var name: String
    package var tier: String
    package var quota: Quota
    package var usedCount: UInt64
    package var used: Resources
    /// Its quota is on its way to the cell, or comes back from it.
    package var isPending: Bool
    package init(
        name: String, tier: String = "", quota: Quota, usedCount: UInt64 = 0, used: Resources = .zero,
        isPending: Bool = false
    ) {
        self.name = name
        self.tier = tier
        self.quota = quota
        self.usedCount = usedCount
        self.used = used
        self.isPending = isPending
    }
    package static let shape = Shape(
        "Tenant",
        [
            Field("name", .string, "its name"), Field("tier", .string, "a word for its class of service"),
            Field("quota", .object(Quota.shape), "what it may have; what is left out has no bound"),
            Field("usedCount", .integer, "VMs that it has"),
            Field("used", .object(Resources.shape), "what its VMs take"),
            Field("isPending", .boolean, "its quota is on its way to the cell, or comes back from it"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("name", name), JSONMember("tier", tier), JSONMember("quota", quota),
            JSONMember("usedCount", usedCount), JSONMember("used", used), JSONMember("isPending", isPending),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            name: object.text("name"), tier: object.text("tier"), quota: try object.object("quota") ?? .unlimited,
            usedCount: object.unsigned("usedCount"), used: try object.object("used") ?? .zero,
            isPending: object.bool("isPending"))
    }
}
