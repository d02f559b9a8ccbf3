internal import ClusterBase
package import FleetModel

/// What a VM takes of its host at the moment.
package struct VMUsage: Shaped {
    package var id: UInt64
    package var name: String
    package var tenant: String
    package var host: String
    /// What it takes of its host.
    package var memoryMiB: Int64
    package var cpuMillis: Int64
    /// Since it began to run, here or where it came from.
    package var uptimeSeconds: Int64
    package var balloonMiB: Int64?
    /// What its guest says.
    package var guestTotalMiB: Int64?
    package var guestAvailableMiB: Int64?
    package var guestFreeMiB: Int64?
    package var guestCachesMiB: Int64?

    package init(
        id: UInt64, name: String, tenant: String, host: String, memoryMiB: Int64, cpuMillis: Int64,
        uptimeSeconds: Int64
    ) {
        self.id = id
        self.name = name
        self.tenant = tenant
        self.host = host
        self.memoryMiB = memoryMiB
        self.cpuMillis = cpuMillis
        self.uptimeSeconds = uptimeSeconds
    }

    package static let shape = Shape(
        "VMUsage",
        [
            Field("id", .integer, "the VM's number"), Field("name", .string, "its name"),
            Field("tenant", .string, "whose it is"), Field("host", .string, "where it is"),
            Field("memoryMiB", .integer, "memory that it takes of its host now"),
            Field("cpuMillis", .integer, "thousandths of processors that it uses now"),
            Field("uptimeSeconds", .integer, "since it began to run, here or where it came from"),
            Field(
                "balloonMiB", .integer, isRequired: false,
                "what its balloon leaves it of its memory, where its host knows"),
            Field(
                "guestTotalMiB", .integer, isRequired: false,
                "memory as its guest counts it; this and what follows only where the guest says it, and said it lately"),
            Field(
                "guestAvailableMiB", .integer, isRequired: false,
                "what the guest's programs could still have, caches given up"),
            Field("guestFreeMiB", .integer, isRequired: false, "what the guest uses for nothing"),
            Field("guestCachesMiB", .integer, isRequired: false, "what the guest keeps of its disks in memory"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("id", id), JSONMember("name", name), JSONMember("tenant", tenant), JSONMember("host", host),
            JSONMember("memoryMiB", memoryMiB), JSONMember("cpuMillis", cpuMillis),
            JSONMember("uptimeSeconds", uptimeSeconds),
        ] + known.compactMap { name, value in value.map { JSONMember(name, $0) } }
    }
    /// What only some hosts and guests say.
    private var known: [(String, Int64?)] {
        [
            ("balloonMiB", balloonMiB), ("guestTotalMiB", guestTotalMiB), ("guestAvailableMiB", guestAvailableMiB),
            ("guestFreeMiB", guestFreeMiB), ("guestCachesMiB", guestCachesMiB),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            id: object.unsigned("id"), name: object.text("name"), tenant: object.text("tenant"),
            host: object.text("host"), memoryMiB: object.integer("memoryMiB"), cpuMillis: object.integer("cpuMillis"),
            uptimeSeconds: object.integer("uptimeSeconds"))
        balloonMiB = object.optionalInteger("balloonMiB")
        guestTotalMiB = object.optionalInteger("guestTotalMiB")
        guestAvailableMiB = object.optionalInteger("guestAvailableMiB")
        guestFreeMiB = object.optionalInteger("guestFreeMiB")
        guestCachesMiB = object.optionalInteger("guestCachesMiB")
    }
}

/// What the loss of a host, a rack or a zone would leave down.
package struct LossInfo: Shaped {
    /// VMs of one loss that are named; the others are counted.
    package static let namedMax = 100

    package var name: String
    package var hosts: [String]
    package var restarted: Int64
    package var preempted: Int64
    package var downCount: Int64
    package var down: [PlanLeft]
    package var isComplete: Bool

    package init(
        name: String, hosts: [String], restarted: Int64, preempted: Int64 = 0, downCount: Int64, down: [PlanLeft],
        isComplete: Bool = true
    ) {
        self.name = name
        self.hosts = hosts
        self.restarted = restarted
        self.preempted = preempted
        self.downCount = downCount
        self.down = down
        self.isComplete = isComplete
    }

    package init(_ report: LossReport, hostName: (HostID) -> String) {
        self.init(
            name: report.name, hosts: report.hosts.map(hostName), restarted: Int64(report.restarted),
            preempted: Int64(report.preempted), downCount: Int64(report.down.count),
            down: report.down.prefix(LossInfo.namedMax).map {
                PlanLeft(vm: $0.name, tenant: $0.tenant, cause: $0.cause.rawValue, text: $0.text)
            }, isComplete: report.isComplete)
    }

    package static let shape = Shape(
        "Loss",
        [
            Field("name", .string, "the host, zone/rack, or the zone that is lost"),
            Field("hosts", .strings, "the hosts in it"),
            Field("restarted", .integer, "VMs that would start elsewhere"),
            Field(
                "preempted", .integer, isRequired: false,
                "VMs elsewhere that would be stopped for those of a higher priority; they count as restarted or down, too"
            ),
            Field("downCount", .integer, "VMs that would be down until it is back, or until there is room"),
            Field("down", .objects(PlanLeft.shape), "the first \(namedMax) of those"),
            Field(
                "isComplete", .boolean, isRequired: false,
                "false: a bound ended the search for whom VMs would have stopped, and other VMs may be the ones that are down"
            ),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("name", name), JSONMember("hosts", hosts), JSONMember("restarted", restarted),
            JSONMember("preempted", preempted), JSONMember("downCount", downCount), JSONMember("down", objects: down),
            JSONMember("isComplete", isComplete),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            name: object.text("name"), hosts: object.strings("hosts"), restarted: object.integer("restarted"),
            preempted: object.integer("preempted"), downCount: object.integer("downCount"),
            down: try object.objects("down"),
            isComplete: object.has("isComplete") ? object.bool("isComplete") : true)
    }

    package static let scopes = FleetWords.scope.all
    static func scope(_ word: String) -> PlacementGroup.Scope? { FleetWords.scope[word] }
    static func word(_ scope: PlacementGroup.Scope) -> String { FleetWords.scope[scope] }
}
