package import ClusterBase
package import FleetModel

// `GET /v1/cells/{cell}/recovery`: what the loss of each zone and region would cost the cell, against what it promises.

extension Objective {
    /// Nil where it is left out.
    init?(member name: String, of object: ShapedObject) throws(Problem) {
        guard let text = object.optionalText(name) else { return nil }
        guard let known = Objective(text: text) else {
            throw Problem(
                .invalid,
                "\(name) is \"\(text)\"; send a whole number with ms, s, m, h or d, such as 5s, and a week at most, or none, or auto",
                field: name)
        }
        self = known
    }
}

/// One zone or region with replicas of the cell's group, were it lost now.
package struct CellLossInfo: Shaped {
    package var scope: String
    package var region: String
    package var zone: String
    package var replicas: Int64
    package var elsewhere: Int64
    package var isCovered: Bool
    /// Nil where nothing would be left.
    package var entries: UInt64?
    package var lagMillis: Int64?
    package var best: String
    package var goesOn: Bool
    package var catchUpEntries: UInt64
    package var text: String

    package init(
        scope: String, region: String, zone: String, replicas: Int, elsewhere: Int, isCovered: Bool, entries: UInt64?,
        lag: Nanoseconds, best: String, goesOn: Bool, catchUp: UInt64
    ) {
        self.scope = scope
        self.region = region
        self.zone = zone
        self.replicas = Int64(replicas)
        self.elsewhere = Int64(elsewhere)
        self.isCovered = isCovered
        self.entries = entries
        lagMillis = entries == nil ? nil : lag.milliseconds
        self.best = best
        self.goesOn = goesOn
        catchUpEntries = catchUp
        text = CellLossInfo.text(isCovered, entries, lag, goesOn, catchUp)
    }

    private static func text(
        _ isCovered: Bool, _ entries: UInt64?, _ lag: Nanoseconds, _ goesOn: Bool, _ catchUp: UInt64
    ) -> String {
        guard let entries else { return "everything is lost: no replica elsewhere answers" }
        let kept =
            entries > 0
            ? "\(entries) acknowledged entries of the last \(lag.milliseconds) ms are lost"
            : isCovered ? "nothing is lost" : "nothing is lost now, but a majority there waits for nobody elsewhere"
        if !goesOn { return "\(kept); no majority is left, and its VMs wait" }
        return catchUp > 0
            ? "\(kept); it goes on when a replica has caught up \(catchUp) entries" : "\(kept); it goes on"
    }

    package static let shape = Shape(
        "CellLoss",
        [
            Field("scope", .choice(["zone", "region"]), "what would be lost"),
            Field("region", .string, "its region"), Field("zone", .string, "its name; empty for a region"),
            Field("replicas", .integer, "replicas of the cell's group there"),
            Field("elsewhere", .integer, "replicas elsewhere whose nodes answer the cell's leader"),
            Field(
                "isCovered", .boolean,
                "each majority has a voter elsewhere, so that nothing is acknowledged which is there alone"),
            Field(
                "entries", .integer, isRequired: false,
                "acknowledged entries that no replica elsewhere holds; left out where nothing would be left"),
            Field(
                "lagMillis", .integer, isRequired: false,
                "how old the oldest of them is, to about a second; it is never told too low by a leader that saw it committed"
            ),
            Field("best", .string, "the node elsewhere with the newest log; empty for none"),
            Field("goesOn", .boolean, "those elsewhere that answer are a majority"),
            Field("catchUpEntries", .integer, "what one of them has to get before writes go on"),
            Field("text", .string, "the same in words"),
        ])
    package var members: [JSONMember] {
        var members = [
            JSONMember("scope", scope), JSONMember("region", region), JSONMember("zone", zone),
            JSONMember("replicas", replicas), JSONMember("elsewhere", elsewhere), JSONMember("isCovered", isCovered),
        ]
        if let entries { members.append(JSONMember("entries", entries)) }
        members.add("lagMillis", lagMillis)
        members += [
            JSONMember("best", best), JSONMember("goesOn", goesOn), JSONMember("catchUpEntries", catchUpEntries),
            JSONMember("text", text),
        ]
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        scope = object.text("scope")
        region = object.text("region")
        zone = object.text("zone")
        replicas = object.integer("replicas")
        elsewhere = object.integer("elsewhere")
        isCovered = object.bool("isCovered")
        entries = object.has("entries") ? object.unsigned("entries") : nil
        lagMillis = object.optionalInteger("lagMillis")
        best = object.text("best")
        goesOn = object.bool("goesOn")
        catchUpEntries = object.unsigned("catchUpEntries")
        text = object.text("text")
    }
}

/// A promise that a cell does not keep as it is.
package struct CellRiskInfo: Shaped {
    package var kind: String
    /// Seconds since 1970.
    package var since: Int64
    package var text: String
    package init(_ risk: CellRisk) {
        kind = risk.kind.name
        since = Int64(risk.since.rawValue / 1_000)
        text = risk.text
    }
    package static let shape = Shape(
        "CellRisk",
        [
            Field("kind", .choice(CellRisk.Kind.allCases.map(\.name)), "which promise"),
            Field("since", .integer, "since when, in seconds since 1970"), Field("text", .string, "why, in words"),
        ])
    package var members: [JSONMember] {
        [JSONMember("kind", kind), JSONMember("since", since), JSONMember("text", text)]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        kind = object.text("kind")
        since = object.integer("since")
        text = object.text("text")
    }
}

/// Of one kind of amount: what a cell keeps free for losses, and whether it is there.
package struct CellReserveInfo: Shaped {
    package var kind: String
    /// On hosts that take VMs.
    package var free: Int64
    /// What the worst loss takes: what is free there, and what would start elsewhere.
    package var worst: Int64
    package var owed: Int64
    package var largest: Int64
    /// Less than nothing: so much is short.
    package var left: Int64
    package var losses: [String]

    package init(_ standing: ReserveStanding, _ kind: ResourceKind, losses: [String]) {
        func amount(_ resources: Resources) -> Int64 { resources.vector[kind.rawValue] }
        self.kind = "\(kind)"
        free = amount(standing.free)
        worst = amount(standing.worst)
        owed = amount(standing.owed)
        largest = amount(standing.largest)
        left = amount(standing.slack)
        self.losses = losses
    }
    package static let shape = Shape(
        "CellReserve",
        [
            Field(
                "kind", .choice(ResourceKind.allCases.map(\.description)),
                "of the amounts, which are in thousandths of a CPU, MiB, and Mbit/s"),
            Field("free", .integer, "on hosts that take VMs, less what those that drain have to place elsewhere"),
            Field("worst", .integer, "what the worst loss takes: what is free there, and what would start elsewhere"),
            Field("owed", .integer, "what was lost and has no place yet"),
            Field(
                "largest", .integer, "the largest VM that would start elsewhere: room in many pieces is not all usable"),
            Field("left", .integer, "free, less the others: more VMs may take this; below zero the reserve is broken"),
            Field("losses", .strings, "the hosts, racks or zones whose loss is the worst"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("kind", kind), JSONMember("free", free), JSONMember("worst", worst), JSONMember("owed", owed),
            JSONMember("largest", largest), JSONMember("left", left), JSONMember("losses", losses),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        kind = object.text("kind")
        free = object.integer("free")
        worst = object.integer("worst")
        owed = object.integer("owed")
        largest = object.integer("largest")
        left = object.integer("left")
        losses = object.strings("losses")
    }
}

/// How long VMs of a tier were down whose hosts were lost, or that left an evacuated region.
package struct TierRecoveryInfo: Shaped {
    /// Empty for that of tenants without one.
    package var tier: String
    package var lostAt: Int64
    package var vms: Int64
    package var millis: Int64
    package var isMissed: Bool
    package var longestMillis: Int64
    package var longestAt: Int64
    package var losses: Int64
    package var missed: Int64
    package var rto: String

    /// Of one tenant; `rto` is what is declared for it, or by its cell.
    package init(tier: String, _ known: TenantRecovery, rto: Nanoseconds?) {
        self.tier = tier
        self.rto = (rto.map { Objective.within($0) } ?? .none).text
        lostAt = Int64(known.last.lostAt.rawValue / 1_000)
        vms = Int64(clamping: known.last.vms)
        millis = Int64(clamping: known.last.millis)
        isMissed = known.last.isMissed
        longestMillis = Int64(clamping: known.longest.millis)
        longestAt = Int64(known.longest.lostAt.rawValue / 1_000)
        losses = Int64(clamping: known.losses)
        missed = Int64(clamping: known.missed)
    }

    /// Takes in another tenant of the tier: what was lost together with the last counts together.
    package mutating func add(_ other: TierRecoveryInfo) {
        if other.longestMillis > longestMillis { (longestMillis, longestAt) = (other.longestMillis, other.longestAt) }
        if case .within(let theirs)? = Objective(text: other.rto) {
            if case .within(let least)? = Objective(text: rto), least <= theirs {} else { rto = other.rto }
        }
        losses = max(losses, other.losses)
        missed = max(missed, other.missed)
        let together = Int64(TenantRecovery.togetherMillis / 1_000)
        if other.lostAt > lostAt + together {
            (lostAt, vms, millis, isMissed) = (other.lostAt, other.vms, other.millis, other.isMissed)
        } else if other.lostAt >= lostAt - together {
            lostAt = min(lostAt, other.lostAt)
            vms += other.vms
            millis = max(millis, other.millis)
            isMissed = isMissed || other.isMissed
        }
    }

    package static let shape = Shape(
        "TierRecovery",
        [
            Field("tier", .string, "of the VMs' tenants; empty for those without one"),
            Field(
                "lostAt", .integer,
                "of the last loss or evacuation: when a host of it was heard last, or the first VM stopped, in seconds since 1970"
            ),
            Field("vms", .integer, "VMs of it that run again"),
            Field("millis", .integer, "how long the last of them was down that does, from then on"),
            Field("isMissed", .boolean, "that was longer than was declared"),
            Field("longestMillis", .integer, "the longest of any loss that is remembered"),
            Field("longestAt", .integer, "when that was, in seconds since 1970"),
            Field("losses", .integer, "losses that are counted, of the tenant with most"),
            Field("missed", .integer, "of these, those that took longer than was declared"),
            Field("rto", .string, "the least that is declared for one of its tenants, or by the cell: a time, or none"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("tier", tier), JSONMember("lostAt", lostAt), JSONMember("vms", vms),
            JSONMember("millis", millis), JSONMember("isMissed", isMissed),
            JSONMember("longestMillis", longestMillis), JSONMember("longestAt", longestAt),
            JSONMember("losses", losses), JSONMember("missed", missed), JSONMember("rto", rto),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        tier = object.text("tier")
        lostAt = object.integer("lostAt")
        vms = object.integer("vms")
        millis = object.integer("millis")
        isMissed = object.bool("isMissed")
        longestMillis = object.integer("longestMillis")
        longestAt = object.integer("longestAt")
        losses = object.integer("losses")
        missed = object.integer("missed")
        rto = object.text("rto")
    }
}

/// What a cell promises for the loss of a place, and how it stands.
package struct CellRecoveryInfo: Shaped {
    package var cell: String
    /// The last committed entry.
    package var index: UInt64
    /// What is in force, be it set or by what the cell survives: a time, or `none`.
    package var rpoZone: String
    package var rpoRegion: String
    package var losses: [CellLossInfo]
    package var risks: [CellRiskInfo]
    package var rto: String
    /// VMs that were lost with their hosts and do not run yet.
    package var lostVMs: Int64
    /// By tier.
    package var recoveries: [TierRecoveryInfo]
    /// By kind of amount; empty where nothing is kept free, or VMs are still being counted.
    package var reserve: [CellReserveInfo]

    package init(
        cell: String, index: LogIndex, rpoZone: Nanoseconds?, rpoRegion: Nanoseconds?, losses: [CellLossInfo],
        risks: [CellRisk], rto: Nanoseconds?, lostVMs: Int, recoveries: [TierRecoveryInfo],
        reserve: [CellReserveInfo] = []
    ) {
        func text(_ most: Nanoseconds?) -> String { (most.map { Objective.within($0) } ?? .none).text }
        self.cell = cell
        self.index = index.rawValue
        self.rpoZone = text(rpoZone)
        self.rpoRegion = text(rpoRegion)
        self.losses = losses
        self.risks = risks.map(CellRiskInfo.init)
        self.rto = text(rto)
        self.lostVMs = Int64(lostVMs)
        self.recoveries = recoveries
        self.reserve = reserve
    }

    package static let shape = Shape(
        "CellRecovery",
        [
            Field("cell", .string, "its name"),
            Field("index", .integer, "its last acknowledged entry"),
            Field(
                "rpoZone", .string, "how old what is lost with a zone may be: a time, or none where nothing is promised"
            ),
            Field("rpoRegion", .string, "the same for a region"),
            Field("losses", .objects(CellLossInfo.shape), "each zone and region with replicas of its group"),
            Field(
                "risks", .objects(CellRiskInfo.shape),
                "promises that were not kept for 5 s and have not been kept again for 15 s"),
            Field("rto", .string, "how long VMs may be down that were lost with their hosts: a time, or none"),
            Field("lostVMs", .integer, "VMs that were lost with their hosts and do not run yet, for want of room too"),
            Field("recoveries", .objects(TierRecoveryInfo.shape), "how long those were down that run again, by tier"),
            Field(
                "reserve", .objects(CellReserveInfo.shape),
                "what is kept free for losses (failoverReserve); none where it is off, or VMs are still being counted"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("cell", cell), JSONMember("index", index), JSONMember("rpoZone", rpoZone),
            JSONMember("rpoRegion", rpoRegion), JSONMember("losses", objects: losses),
            JSONMember("risks", objects: risks), JSONMember("rto", rto), JSONMember("lostVMs", lostVMs),
            JSONMember("recoveries", objects: recoveries), JSONMember("reserve", objects: reserve),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        cell = object.text("cell")
        index = object.unsigned("index")
        rpoZone = object.text("rpoZone")
        rpoRegion = object.text("rpoRegion")
        losses = try object.objects("losses")
        risks = try object.objects("risks")
        rto = object.text("rto")
        lostVMs = object.integer("lostVMs")
        recoveries = try object.objects("recoveries")
        reserve = try object.objects("reserve")
    }
}
