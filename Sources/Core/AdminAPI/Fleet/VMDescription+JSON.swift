internal import ClusterBase
package import FleetModel

// What a VM asks for, in both directions.

/// What a host's label must be.
extension VMDescription.NamedSelector: Shaped {
    package static let shape = Shape("Selector", fields)

    static let fields = [
        Field("key", .string, "the label"),
        Field("oneOf", .strings, isRequired: false, "its value is one of these"),
        Field("noneOf", .strings, isRequired: false, "its value is none of these, or it is not there"),
        Field("exists", .boolean, isRequired: false, "true: it is there, whatever its value; false: it is not there"),
    ]

    package var members: [JSONMember] {
        switch match {
        case .oneOf(let values): [JSONMember("key", key), JSONMember("oneOf", values)]
        case .noneOf(let values): [JSONMember("key", key), JSONMember("noneOf", values)]
        case .exists: [JSONMember("key", key), JSONMember("exists", true)]
        case .absent: [JSONMember("key", key), JSONMember("exists", false)]
        }
    }

    package init(_ object: ShapedObject) throws(Problem) {
        let given = ["oneOf", "noneOf", "exists"].filter { object.has($0) }
        guard given.count == 1 else {
            throw object.wrong("key", "comes with one of \"oneOf\", \"noneOf\" and \"exists\"; send exactly one")
        }
        let match: Match =
            switch given[0] {
            case "oneOf": .oneOf(object.strings("oneOf"))
            case "noneOf": .noneOf(object.strings("noneOf"))
            default: object.bool("exists") ? .exists : .absent
            }
        self.init(object.text("key"), match)
    }
}

extension VMDescription.NamedPreference: Shaped {
    package static let shape = Shape(
        "Preference",
        VMDescription.NamedSelector.fields
            + [Field("weight", .range(1, Int64(Preference.weightMax)), "how bad a host is that does not match")])
    package var members: [JSONMember] { selector.members + [JSONMember("weight", Int64(weight))] }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(try VMDescription.NamedSelector(object), weight: Int(object.integer("weight")))
    }
}

extension VMDescription.NamedToleration: Shaped {
    package static let shape = Shape(
        "Toleration",
        [
            Field("key", .string, "the taint's key"),
            Field("value", .string, isRequired: false, "the taint's value; any when left out"),
        ])
    package var members: [JSONMember] {
        var members = [JSONMember("key", key)]
        members.add("value", value)
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(object.text("key"), value: object.optionalText("value"))
    }
}

extension VMDescription.NamedDeviceWish: Shaped {
    package static let shape = Shape(
        "DeviceWish",
        [
            Field("kinds", .strings, isRequired: false, "kinds that it can use; any when empty"),
            Field("count", .range(1, Int64(Host.devicesMax)), isRequired: false, "how many; 1 when left out"),
            Field(
                "millis", .range(1, Int64(Device.wholeMillis)), isRequired: false,
                "thousandths of each; 1000, the whole device, when left out"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("kinds", kinds), JSONMember("count", Int64(count)), JSONMember("millis", Int64(millis)),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            kinds: object.strings("kinds"), count: Int(object.optionalInteger("count") ?? 1),
            millis: Int32(object.optionalInteger("millis") ?? Int64(Device.wholeMillis)))
    }
}

extension VMDescription.NamedDisk: Shaped {
    package static let shape = Shape(
        "Disk",
        [
            Field("name", .name, "its name in the VM"), Field("sizeMiB", .range(1, Resources.amountMax), "its size"),
            Field(
                "kind", .choice(["shared", "local", "ephemeral"]),
                "shared: in a storage domain; local: on the host, and the VM waits for its host; ephemeral: on the host, "
                    + "and may be lost"),
            Field("domain", .string, isRequired: false, "the storage domain of a shared disk"),
            Field("image", .string, isRequired: false, "what it begins with; nothing when left out"),
            Field(
                "keep", .boolean, isRequired: false,
                "true: a shared disk stays when the VM is deleted, and is listed under /v1/remains; else it goes with it"
            ),
        ])

    package var members: [JSONMember] {
        var members = [JSONMember("name", name), JSONMember("sizeMiB", sizeMiB)]
        switch kind {
        case .shared(let domain): members += [JSONMember("kind", "shared"), JSONMember("domain", domain)]
        case .local: members.append(JSONMember("kind", "local"))
        case .ephemeral: members.append(JSONMember("kind", "ephemeral"))
        }
        if !image.isEmpty { members.append(JSONMember("image", image)) }
        if isKept { members.append(JSONMember("keep", true)) }
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        let domain = object.text("domain")
        let kind: Kind
        switch object.text("kind") {
        case "shared": kind = .shared(domain: domain)
        case "local": kind = .local
        default: kind = .ephemeral
        }
        if (object.text("kind") == "shared") == domain.isEmpty {
            throw object.wrong("domain", "belongs to shared disks, which need one; set it accordingly")
        }
        if object.bool("keep") && domain.isEmpty {
            throw object.wrong("keep", "is for shared disks; what lies on a host goes with the VM, so leave it out")
        }
        self.init(
            name: object.text("name"), sizeMiB: object.integer("sizeMiB"), kind: kind, image: object.text("image"),
            isKept: object.bool("keep"))
    }
}

extension VMDescription.NamedDisk.Kind {
    package var text: String {
        switch self {
        case .shared(let domain): "shared:\(domain)"
        case .local: "local"
        case .ephemeral: "ephemeral"
        }
    }

    package init?(text: String) {
        switch text {
        case "local": self = .local
        case "ephemeral": self = .ephemeral
        default:
            guard text.hasPrefix("shared:"), text.utf8.count > 7 else { return nil }
            self = .shared(domain: String(text.dropFirst(7)))
        }
    }
}

extension VMDescription: Shaped {
    package static let shape = Shape(
        "VMSpec",
        [
            Field("cpuMillis", .range(1, Resources.amountMax), "thousandths of a core"),
            Field("memoryMiB", .range(1, Resources.amountMax), "memory in MiB"),
            Field(
                "diskMiB", .range(0, Resources.amountMax), isRequired: false,
                "room on the host's disk beside that of \"disks\""),
            Field("networkMbps", .range(0, Resources.amountMax), isRequired: false, "bandwidth in Mbit/s"),
            Field(
                "numaExactly", .range(1, Int64(Host.numaNodesMax)), isRequired: false,
                "spread evenly over exactly so many NUMA nodes"),
            Field(
                "numaAtMost", .range(1, Int64(Host.numaNodesMax)), isRequired: false,
                "on one NUMA node, else evenly over two, and so on up to this many"),
            Field("devices", .objects(NamedDeviceWish.shape), isRequired: false, "devices that it needs"),
            Field(
                "devicesOnSameNodes", .boolean, isRequired: false,
                "its devices must hang on the NUMA nodes that it gets"),
            Field("required", .objects(NamedSelector.shape), isRequired: false, "what its host's labels must be"),
            Field("preferred", .objects(NamedPreference.shape), isRequired: false, "what they should be"),
            Field("tolerations", .objects(NamedToleration.shape), isRequired: false, "taints that it bears"),
            Field("disks", .objects(NamedDisk.shape), isRequired: false, "its disks"),
            Field(
                "tpm", .string, isRequired: false,
                "a TPM 2.0, and where what it remembers lies, as for a disk: shared:DOMAIN, local or ephemeral; none when left out"
            ),
            Field("networks", .strings, isRequired: false, "networks that its host must have"),
            Field("zones", .strings, isRequired: false, "zones that it may be in; all when empty"),
            Field("priority", .range(-1_000_000, 1_000_000), isRequired: false, "higher preempts lower; 0"),
            Field("groups", .names, isRequired: false, "placement groups that it is a member of"),
            Field(
                "policy", .choice(FleetWords.policy.all), isRequired: false, "takes the place of the cell's policy"),
            Field("restart", .choice(FleetWords.restart.all), isRequired: false, "after it ended; always"),
            Field(
                "restartsMax", .range(0, 1_000), isRequired: false,
                "restarts within ten minutes before it counts as looping; 5"),
            Field(
                "isolation", .choice(FleetWords.isolation.all), isRequired: false,
                "when its host is cut off: stop, and start elsewhere, or keep running there; stop"),
            Field(
                "regionLoss", .choice(FleetWords.regionLoss.all), isRequired: false,
                "when its region is lost and its cell has no place for it: wait, go to another region, or go before the others; "
                    + "home-only"),
            Field(
                "regionReturn", .choice(FleetWords.regionReturn.all), isRequired: false,
                "when its region is back: stay where it went, or return; stay"),
            Field("regions", .strings, isRequired: false, "regions that it may go to then; all when empty"),
            Field(
                "near", .strings, isRequired: false,
                "regions to which its way is to be short: of cells with room that comes first from where the longest round trip to any of "
                    + "these is the shortest"),
            Field(
                "nearWithinMillis", .range(1, Int64(CellLimits.nearWithinMax)), isRequired: false,
                "the longest round trip to any of them that it may have; a cell of which that is not known is too far"),
            Field(
                "cellChoice", .choice(FleetWords.cellChoice.all), isRequired: false,
                "what its cell is chosen by first, of those with room: near, or cheap by their cost; near"),
            Field(
                "moveIntent", .choice(FleetWords.intent.all), isRequired: false,
                "what a live migration may cost: gentle never slows the guest down and leaves others most of the bandwidth, or fails; "
                    + "balanced slows it down after a while; now at once, with a longer stop; as the cell is set"),
            Field("labels", .map, isRequired: false, "for filters"),
            Field("annotations", .map, isRequired: false, "for drivers, such as sim.boot-ms"),
            Field(
                "secrets", .map, isRequired: false,
                "the same, but only the host that runs the VM sees the values, such as that of cloud-init.user-data; "
                    + "everybody else sees \(SecretField.marker), which leaves a value as it is"),
        ])

    package var members: [JSONMember] { members(showsAnnotations: false) }

    /// With `showsAnnotations`, what drivers take as an annotation is shown even if it is secret.
    func members(showsAnnotations: Bool) -> [JSONMember] {
        var members = [JSONMember("cpuMillis", resources.cpuMillis), JSONMember("memoryMiB", resources.memoryMiB)]
        if resources.diskMiB > 0 { members.append(JSONMember("diskMiB", resources.diskMiB)) }
        if resources.networkMbps > 0 { members.append(JSONMember("networkMbps", resources.networkMbps)) }
        switch numa {
        case .none: break
        case .nodes(let count): members.append(JSONMember("numaExactly", Int64(count)))
        case .fewest(let most): members.append(JSONMember("numaAtMost", Int64(most)))
        }
        members.add("devices", objects: devices)
        if devicesOnSameNodes { members.append(JSONMember("devicesOnSameNodes", true)) }
        members.add("required", objects: required)
        members.add("preferred", objects: preferred)
        members.add("tolerations", objects: tolerations)
        members.add("disks", objects: disks)
        if let tpm { members.append(JSONMember("tpm", tpm.text)) }
        members.add("networks", networks)
        members.add("zones", zones)
        members.append(JSONMember("priority", Int64(priority)))
        members.add("groups", groups)
        if let policy { members.append(JSONMember("policy", FleetWords.policy[policy])) }
        members.append(JSONMember("restart", FleetWords.restart[restart]))
        members.append(JSONMember("restartsMax", Int64(restartsMax)))
        members.append(JSONMember("isolation", FleetWords.isolation[isolation]))
        if regionLoss != .homeOnly { members.append(JSONMember("regionLoss", FleetWords.regionLoss[regionLoss])) }
        if returnsHome { members.append(JSONMember("regionReturn", FleetWords.regionReturn[true])) }
        members.add("regions", regions)
        members.add("near", near)
        if nearWithin > 0 { members.append(JSONMember("nearWithinMillis", Int64(nearWithin))) }
        if cellChoice != .near { members.append(JSONMember("cellChoice", FleetWords.cellChoice[cellChoice])) }
        if let moveIntent { members.append(JSONMember("moveIntent", FleetWords.intent[moveIntent])) }
        if !labels.isEmpty { members.append(JSONMember("labels", pairs: labels)) }
        if !annotations.isEmpty {
            // As programs kept it that knew no secret fields.
            let shown = annotations.map {
                !showsAnnotations && SecretField.keys.contains($0.key) ? Named($0.key, SecretField.marker) : $0
            }
            members.append(JSONMember("annotations", pairs: shown))
        }
        if !secrets.isEmpty {
            members.append(JSONMember("secrets", pairs: secrets.map { Named($0.key, SecretField.marker) }))
        }
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            resources: Resources(
                cpuMillis: object.integer("cpuMillis"), memoryMiB: object.integer("memoryMiB"),
                diskMiB: object.integer("diskMiB"), networkMbps: object.integer("networkMbps")))
        if let count = object.optionalInteger("numaExactly") {
            if object.has("numaAtMost") {
                throw object.wrong("numaAtMost", "is given beside numaExactly; send one of them")
            }
            numa = .nodes(Int(count))
        } else if let most = object.optionalInteger("numaAtMost") {
            numa = .fewest(max: Int(most))
        }
        devices = try object.objects("devices")
        devicesOnSameNodes = object.bool("devicesOnSameNodes")
        required = try object.objects("required")
        preferred = try object.objects("preferred")
        tolerations = try object.objects("tolerations")
        disks = try object.objects("disks")
        if let word = object.optionalText("tpm") {
            guard let kind = NamedDisk.Kind(text: word) else {
                throw object.wrong("tpm", "is '\(word)'; it is shared:DOMAIN, local or ephemeral")
            }
            tpm = kind
        }
        networks = object.strings("networks")
        zones = object.strings("zones")
        priority = Int32(object.integer("priority"))
        groups = object.strings("groups")
        policy = object.optionalText("policy").flatMap { FleetWords.policy[$0] }
        if let word = object.optionalText("restart"), let found = FleetWords.restart[word] { restart = found }
        if let count = object.optionalInteger("restartsMax") { restartsMax = UInt32(count) }
        if let word = object.optionalText("isolation"), let found = FleetWords.isolation[word] { isolation = found }
        if let word = object.optionalText("regionLoss"), let found = FleetWords.regionLoss[word] { regionLoss = found }
        if let word = object.optionalText("regionReturn"), let found = FleetWords.regionReturn[word] {
            returnsHome = found
        }
        regions = object.strings("regions")
        near = object.strings("near")
        nearWithin = UInt32(clamping: object.optionalInteger("nearWithinMillis") ?? 0)
        if let word = object.optionalText("cellChoice"), let found = FleetWords.cellChoice[word] { cellChoice = found }
        moveIntent = object.optionalText("moveIntent").flatMap { FleetWords.intent[$0] }
        labels = object.pairs("labels")
        annotations = object.pairs("annotations").filter { !SecretField.keys.contains($0.key) }
        let given = object.pairs("secrets")
        let moved = object.pairs("annotations").filter { SecretField.keys.contains($0.key) }
        for pair in moved where given.contains(where: { $0.key == pair.key }) {
            throw object.wrong("secrets", "has \(pair.key), which is among the annotations too; leave it out there")
        }
        secrets = (given + moved).sorted { $0.key < $1.key }.map { pair in
            SecretField(pair.key, pair.value == SecretField.marker ? .kept : .clear(Array(pair.value.utf8)))
        }
    }
}
