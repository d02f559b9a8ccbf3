import ClusterBase
package import FleetModel

/// `POST /v1/cells/{cell}/plan`.
package struct HostsPlanWish: Shaped {
    package var step: HostsPlan.Step
    package var into: String?
    /// Of a split, one of these: so many hosts, or those of a rack or a zone.
    package var hosts: Int64?
    package var rack: String?
    package var zone: String?
    /// Of a merge: the cell is retired when nothing is left in it.
    package var retires: Bool
    /// Nothing is changed: the answer says what would go, and what keeps hosts.
    package var isDryRun: Bool
    package init(
        _ step: HostsPlan.Step, into: String? = nil, hosts: Int64? = nil, rack: String? = nil, zone: String? = nil,
        retires: Bool = false, isDryRun: Bool = false
    ) {
        self.step = step
        self.into = into
        self.hosts = hosts
        self.rack = rack
        self.zone = zone
        self.retires = retires
        self.isDryRun = isDryRun
    }

    private static let steps: [(String, HostsPlan.Step)] = [
        ("split", .split), ("merge", .merge), ("pause", .pause), ("resume", .resume), ("cancel", .cancel),
    ]
    package static let shape = Shape(
        "HostsPlanWish",
        [
            Field("step", .choice(steps.map(\.0)), "what is planned, or what becomes of the plan"),
            Field(
                "into", .name, isRequired: false,
                "the cell that hosts go to; a split makes it like the one that they leave if it is not there"),
            Field(
                "hosts", .integer, isRequired: false,
                "of a split: so many hosts, chosen so that racks stay whole and few are held back; else those of a rack or a zone"
            ),
            Field("rack", .string, isRequired: false, "of a split: the hosts of this rack"),
            Field("zone", .string, isRequired: false, "of a split: the hosts of this zone"),
            Field("retire", .boolean, isRequired: false, "of a merge: retire the cell when nothing is left in it"),
            Field(
                "dryRun", .boolean, isRequired: false, "say what would go, or what prevents it, and change nothing"),
        ])

    package var members: [JSONMember] {
        var members = [JSONMember("step", HostsPlanWish.steps.first { $0.1 == step }?.0 ?? "")]
        members.add("into", into)
        members.add("hosts", hosts)
        members.add("rack", rack)
        members.add("zone", zone)
        if retires { members.append(JSONMember("retire", .bool(true))) }
        if isDryRun { members.append(JSONMember("dryRun", .bool(true))) }
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        let name = object.text("step")
        self.init(
            // The shape lets only these pass.
            HostsPlanWish.steps.first { $0.0 == name }?.1 ?? .cancel, into: object.optionalText("into"),
            hosts: object.optionalInteger("hosts"), rack: object.optionalText("rack"),
            zone: object.optionalText("zone"),
            retires: object.bool("retire"), isDryRun: object.bool("dryRun"))
    }
}

/// How hosts of a cell go to another one.
package struct HostsPlanInfo: Shaped {
    /// `split` or `merge`.
    package var kind: String
    package var state: String
    package var into: String
    package var number: UInt64
    /// Hosts that have gone, VMs on them, and hosts that are still to go.
    package var hosts: UInt64
    package var vms: UInt64
    package var left: UInt64
    /// Of those, who did not go yet when it was to, and why.
    package var stays: [String]
    /// Milliseconds that the rest takes, if hosts go as they went; nil where that is not known.
    package var expectedMillis: UInt64?
    package var retires: Bool
    package var isAutomatic: Bool
    /// Seconds since 1970.
    package var since: Int64
    package var changedAt: Int64
    package var by: String

    package init(_ plan: HostsPlan, of cell: RootCell, _ view: RootView) {
        kind = plan.kind == .split ? "split" : "merge"
        state = "\(plan.state)"
        into = view.cell(plan.to)?.name ?? "\(plan.to.number)"
        number = plan.number
        hosts = plan.hosts
        vms = plan.vms
        let leaving = view.leaving(cell).count
        left = UInt64(leaving)
        stays = plan.stays.map { "\(view.node($0.node)?.name ?? "\($0.node)"): \($0.reason)" }
        expectedMillis = plan.expected(left: leaving)
        retires = plan.retires
        isAutomatic = plan.isAutomatic
        since = Int64(plan.since.rawValue / 1_000)
        changedAt = Int64(plan.changedAt.rawValue / 1_000)
        by = plan.by
    }

    package static let shape = Shape(
        "HostsPlan",
        [
            Field("kind", .choice(["split", "merge"]), "some hosts go, or all, and then the VMs that are on none"),
            Field(
                "state", .choice(HostsPlan.State.allCases.map { "\($0)" }),
                "paused: a host that is on its way arrives, and no other begins"),
            Field("into", .string, "the cell that hosts go to"), Field("number", .integer, "which plan it is"),
            Field("hosts", .integer, "hosts that have gone"), Field("vms", .integer, "VMs that went with them"),
            Field("left", .integer, "hosts that are still to go"),
            Field("stays", .strings, "hosts that did not go when they were to, and why; they are tried again"),
            Field(
                "expectedMillis", .integer, isRequired: false,
                "how long the rest takes if hosts go as they went; left out until one has gone"),
            Field("retire", .boolean, isRequired: false, "the cell is retired when nothing is left in it"),
            Field("automatic", .boolean, isRequired: false, "begun by the cluster itself"),
            Field("since", .integer, "when it began, in seconds since 1970"),
            Field("changedAt", .integer, "when it was changed last, in seconds since 1970"),
            Field("by", .string, "who changed it last"),
        ])

    package var members: [JSONMember] {
        var members = [
            JSONMember("kind", kind), JSONMember("state", state), JSONMember("into", into),
            JSONMember("number", number), JSONMember("hosts", hosts), JSONMember("vms", vms), JSONMember("left", left),
            JSONMember("stays", stays),
        ]
        if let expectedMillis { members.append(JSONMember("expectedMillis", expectedMillis)) }
        if retires { members.append(JSONMember("retire", .bool(true))) }
        if isAutomatic { members.append(JSONMember("automatic", .bool(true))) }
        members += [JSONMember("since", since), JSONMember("changedAt", changedAt), JSONMember("by", by)]
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        kind = object.text("kind")
        state = object.text("state")
        into = object.text("into")
        number = object.unsigned("number")
        hosts = object.unsigned("hosts")
        vms = object.unsigned("vms")
        left = object.unsigned("left")
        stays = object.strings("stays")
        expectedMillis = object.optionalInteger("expectedMillis").map { UInt64(clamping: $0) }
        retires = object.bool("retire")
        isAutomatic = object.bool("automatic")
        since = object.integer("since")
        changedAt = object.integer("changedAt")
        by = object.text("by")
    }
}
