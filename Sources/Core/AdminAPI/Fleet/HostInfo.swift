internal import ClusterBase
package import FleetModel

// Hosts.

extension NamedTaint: Shaped {
    package static let shape = Shape(
        "Taint",
        [
            Field("key", .string, "what VMs tolerate it by"), Field("value", .string, isRequired: false, "its value"),
            Field(
                "effect", .choice(FleetWords.effect.all), isRequired: false,
                "no-placement keeps VMs away that do not tolerate it, avoid does so where other hosts do; no-placement"),
        ])
    package var members: [JSONMember] {
        [JSONMember("key", key), JSONMember("value", value), JSONMember("effect", FleetWords.effect[effect])]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            object.text("key"), object.text("value"),
            effect: object.optionalText("effect").flatMap { FleetWords.effect[$0] } ?? .noPlacement)
    }
}

extension Overcommit: Shaped {
    /// A promise of a hundred times what is there.
    private static let most: Int64 = 100_000
    package static let shape = Shape(
        "Overcommit",
        ["cpu", "memory", "disk", "network"].map {
            Field(
                "\($0)Milli", .range(1, most), isRequired: false, "thousandths of what is there; 1000 is no overcommit")
        })
    package var members: [JSONMember] {
        [
            JSONMember("cpuMilli", cpuMilli), JSONMember("memoryMilli", memoryMilli),
            JSONMember("diskMilli", diskMilli), JSONMember("networkMilli", networkMilli),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            cpuMilli: object.optionalInteger("cpuMilli") ?? 1_000,
            memoryMilli: object.optionalInteger("memoryMilli") ?? 1_000,
            diskMilli: object.optionalInteger("diskMilli") ?? 1_000,
            networkMilli: object.optionalInteger("networkMilli") ?? 1_000)
    }
}

/// `PUT /v1/hosts/{host}/policy`: takes the place of all of the old one.
extension HostPolicy: Shaped {
    package static let shape = Shape(
        "HostPolicy",
        [
            Field("reserved", .object(Resources.shape), isRequired: false, "kept for the host itself"),
            Field("overcommit", .object(Overcommit.shape), isRequired: false, "what it promises more than it has"),
            Field("labels", .map, isRequired: false, "they win over those of the host's settings"),
            Field("taints", .objects(NamedTaint.shape), isRequired: false, "they keep VMs away"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("reserved", reserved), JSONMember("overcommit", overcommit), JSONMember("labels", pairs: labels),
            JSONMember("taints", objects: taints),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            reserved: try object.object("reserved") ?? .zero, overcommit: try object.object("overcommit") ?? .none,
            labels: object.pairs("labels"), taints: try object.objects("taints"))
    }
}

/// A NUMA node of a host, and what VMs that ask for nodes have of it.
package struct HostNUMANode: Hashable, Sendable, Shaped {
    package var has: NUMANode
    package var used: NUMANode
    package init(_ has: NUMANode, used: NUMANode) {
        self.has = has
        self.used = used
    }
    package static let shape = Shape(
        "NUMANode",
        [
            Field("cpuMillis", .integer, "thousandths of a core"), Field("memoryMiB", .integer, "memory in MiB"),
            Field("usedCPUMillis", .integer, isRequired: false, "what VMs that ask for nodes have of these"),
            Field("usedMemoryMiB", .integer, isRequired: false, "what they have of the memory"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("cpuMillis", has.cpuMillis), JSONMember("memoryMiB", has.memoryMiB),
            JSONMember("usedCPUMillis", used.cpuMillis), JSONMember("usedMemoryMiB", used.memoryMiB),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            NUMANode(cpuMillis: object.integer("cpuMillis"), memoryMiB: object.integer("memoryMiB")),
            used: NUMANode(
                cpuMillis: object.optionalInteger("usedCPUMillis") ?? 0,
                memoryMiB: object.optionalInteger("usedMemoryMiB") ?? 0))
    }
}

/// A device of a host, and how much of it VMs have.
package struct HostDevice: Hashable, Sendable, Shaped {
    package var device: NamedDevice
    package var usedMillis: Int64
    package init(_ device: NamedDevice, usedMillis: Int64) {
        self.device = device
        self.usedMillis = usedMillis
    }
    package static let shape = Shape(
        "Device",
        [
            Field("kind", .string, "the name of its kind"),
            Field("numaNode", .range(0, 255), isRequired: false, "the NUMA node that it hangs on"),
            Field("usedMillis", .integer, isRequired: false, "thousandths of it that VMs have; 1000 is all of it"),
        ])
    package var members: [JSONMember] {
        var members = [JSONMember("kind", device.kind)]
        members.add("numaNode", device.numaNode.map(Int64.init))
        members.append(JSONMember("usedMillis", usedMillis))
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            NamedDevice(
                kind: object.text("kind"), numaNode: object.optionalInteger("numaNode").map { UInt8($0) }),
            usedMillis: object.optionalInteger("usedMillis") ?? 0)
    }
}

/// A host: what it has, what it is to do, what of it is in use.
package struct HostInfo: Shaped {
    package var id: HostID
    package var name: String
    /// What placement sees; `duty` is what an operator wants and `health` what the cell's leader knows.
    package var state: String
    package var duty: String
    package var health: String
    package var locality: Locality
    package var driver: String
    package var capacity: Resources
    /// After overcommit and what is reserved.
    package var offered: SignedResources
    package var used: Resources
    package var free: SignedResources
    package var vmCount: UInt64
    package var labels: [Named]
    package var policy: HostPolicy
    package var numaNodes: [HostNUMANode]
    package var devices: [HostDevice]
    package var storageDomains: [String]
    /// Those of its settings that it does not reach, and why.
    package var storageProblems: [Named]
    package var networks: [String]
    package var hasTPM: Bool
    /// Whom its VMs' processes run as, and why not as a user of their own; empty where there are none.
    package var guestUser: String
    /// It drains, and no move off it begins.
    package var isDrainPaused: Bool
    /// What becomes of VMs that left it by a drain, when it is in service.
    package var returns: HostReturn
    package var isReturnPaused: Bool
    /// How many they are.
    package var awayCount: UInt64
    /// What may not stay there since it was changed is moved away.
    package var isEnforced: Bool
    /// Seconds since 1970; zero for one that is not to be away.
    package var awayUntil: Int64
    /// What is to be known of its state, in words; empty for nothing.
    package var note: String
    package var generation: UInt64
    package var since: Int64

    package init(_ host: CellHost) {
        id = host.id
        name = host.about.name
        state = host.stateWord
        duty = FleetWords.duty[host.duty]
        health = FleetWords.health[host.health]
        locality = host.about.locality
        driver = host.about.driver
        capacity = host.about.capacity
        offered = SignedResources(host.offered)
        used = host.used
        free = SignedResources(host.offered - host.used)
        vmCount = host.vmCount
        labels = host.labels.sorted()
        policy = host.policy
        numaNodes = host.about.numaNodes.enumerated().map { i, node in
            HostNUMANode(
                node, used: i < host.numaUsed.count ? host.numaUsed[i] : NUMANode(cpuMillis: 0, memoryMiB: 0))
        }
        devices = host.about.devices.enumerated().map { i, device in
            HostDevice(device, usedMillis: i < host.devicesUsed.count ? Int64(host.devicesUsed[i]) : 0)
        }
        storageDomains = host.about.storageDomains
        storageProblems = host.about.storageProblems
        networks = host.about.networks
        hasTPM = host.about.hasTPM
        guestUser = host.about.guestUser
        isDrainPaused = host.isDrainPaused
        returns = host.returns
        isReturnPaused = host.isReturnPaused
        awayCount = host.awayCount
        isEnforced = host.isEnforced
        awayUntil = host.awayUntil.seconds
        note = host.note
        generation = host.generation
        since = host.since.seconds
    }

    package static let shape = Shape(
        "Host",
        [
            Field("id", .integer, "its number, which is its node's"), Field("name", .string, "its name"),
            Field("state", .choice(FleetWords.state.all + ["away", "removed"]), "what follows from duty and health"),
            Field("duty", .choice(FleetWords.duty.all), "what an operator wants of it"),
            Field("health", .choice(FleetWords.health.all), "what the cell's leader knows of it"),
            Field("region", .string, "its region"), Field("zone", .string, "its zone"),
            Field("rack", .string, "its rack"), Field("driver", .string, "what runs its VMs"),
            Field("capacity", .object(Resources.shape), "what it has"),
            Field(
                "offered", .object(SignedResources.shape), "what VMs may take: with overcommit, less what is reserved"),
            Field("used", .object(Resources.shape), "what VMs take, arriving and leaving ones too"),
            Field("free", .object(SignedResources.shape), "what is left"),
            Field("vmCount", .integer, "VMs that take something here"),
            Field("labels", .map, "the settings' and the operators'"),
            Field("policy", .object(HostPolicy.shape), "what operators say of it"),
            Field("numaNodes", .objects(HostNUMANode.shape), "its NUMA nodes"),
            Field("devices", .objects(HostDevice.shape), "its devices"),
            Field("storageDomains", .strings, "shared disks that it can open"),
            Field(
                "storageProblems", .map, isRequired: false,
                "storage domains of its settings that it does not reach, and what to do"),
            Field("networks", .strings, "networks that it has"),
            Field("tpm", .boolean, isRequired: false, "whether VMs can have a TPM there: swtpm is installed"),
            Field(
                "guestUser", .string, isRequired: false,
                "whom its VMs' processes run as, and why not as a user of their own, in words"),
            Field("drainPaused", .boolean, isRequired: false, "whether it drains, and no move off it begins"),
            Field(
                "return", .choice(FleetWords.hostReturn.all), isRequired: false,
                "what becomes of VMs that left it by a drain: as said for when it is in service, or since it is"),
            Field("returnPaused", .boolean, isRequired: false, "whether they are to come back, and no move begins"),
            Field("awayVMs", .integer, isRequired: false, "how many they are"),
            Field(
                "enforced", .boolean, isRequired: false,
                "whether what may not stay there since it was changed is moved away now"),
            Field(
                "awayUntil", .integer, isRequired: false,
                "when its VMs start elsewhere if it is not back; seconds since 1970, 0 for one that is not to be away"),
            Field("note", .string, isRequired: false, "what is to be known of its state"),
            Field("generation", .integer, "of its last change by an operator: what If-Match compares"),
            Field("since", .integer, "when it was first registered; seconds since 1970"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("id", id.rawValue), JSONMember("name", name), JSONMember("state", state),
            JSONMember("duty", duty), JSONMember("health", health), JSONMember("region", locality.region),
            JSONMember("zone", locality.zone), JSONMember("rack", locality.rack), JSONMember("driver", driver),
            JSONMember("capacity", capacity), JSONMember("offered", offered), JSONMember("used", used),
            JSONMember("free", free), JSONMember("vmCount", vmCount), JSONMember("labels", pairs: labels),
            JSONMember("policy", policy), JSONMember("numaNodes", objects: numaNodes),
            JSONMember("devices", objects: devices), JSONMember("storageDomains", storageDomains),
            JSONMember("storageProblems", pairs: storageProblems), JSONMember("networks", networks),
            JSONMember("tpm", hasTPM), JSONMember("guestUser", guestUser),
            JSONMember("drainPaused", isDrainPaused),
            JSONMember("return", FleetWords.hostReturn[returns]), JSONMember("returnPaused", isReturnPaused),
            JSONMember("awayVMs", awayCount), JSONMember("enforced", isEnforced), JSONMember("awayUntil", awayUntil),
            JSONMember("note", note),
            JSONMember("generation", generation), JSONMember("since", since),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        id = HostID(object.unsigned("id"))
        name = object.text("name")
        state = object.text("state")
        duty = object.text("duty")
        health = object.text("health")
        locality = Locality(region: object.text("region"), zone: object.text("zone"), rack: object.text("rack"))
        driver = object.text("driver")
        capacity = try object.object("capacity") ?? .zero
        offered = try object.object("offered") ?? SignedResources(.zero)
        used = try object.object("used") ?? .zero
        free = try object.object("free") ?? SignedResources(.zero)
        vmCount = object.unsigned("vmCount")
        labels = object.pairs("labels")
        policy = try object.object("policy") ?? HostPolicy()
        numaNodes = try object.objects("numaNodes")
        devices = try object.objects("devices")
        storageDomains = object.strings("storageDomains")
        storageProblems = object.pairs("storageProblems")
        networks = object.strings("networks")
        hasTPM = object.bool("tpm")
        guestUser = object.optionalText("guestUser") ?? ""
        isDrainPaused = object.bool("drainPaused")
        returns = object.optionalText("return").flatMap { FleetWords.hostReturn[$0] } ?? .none
        isReturnPaused = object.bool("returnPaused")
        awayCount = UInt64(clamping: object.optionalInteger("awayVMs") ?? 0)
        isEnforced = object.bool("enforced")
        awayUntil = object.optionalInteger("awayUntil") ?? 0
        note = object.text("note")
        generation = object.unsigned("generation")
        since = object.integer("since")
    }
}

extension CellHost {
    /// What follows from duty and health.
    var stateWord: String {
        switch health {
        case .removed: "removed"
        case .away: "away"
        case .up, .down: FleetWords.state[state]
        }
    }

    /// What is to be known of its state beside that; empty for nothing.
    fileprivate var note: String {
        if health == .removed { return "" }
        if declaredDeadAt > .zero { return "declared dead" }
        if health == .away { return "its VMs wait for it" }
        if awayUntil > .zero { return "is to be away" }
        if isDrainPaused { return "its drain is paused" }
        if isEnforced { return (excess.map { $0 + ": " } ?? "") + "what may not stay is moved away" }
        if let excess { return excess }
        if returns == .none || duty != .inService { return "" }
        return returnText + (isReturnPaused ? ", and that is paused" : "")
    }
}
