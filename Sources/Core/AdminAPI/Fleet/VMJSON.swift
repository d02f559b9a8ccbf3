internal import ClusterBase
package import FleetModel

// VMs and what is asked of them.

/// The tenant of whom nothing is said.
package let defaultTenant = Quota.tenantAlwaysThere

/// `POST /v1/vms`, and an item of a batch.
extension VMCreation: Shaped {
    package static let shape = Shape(
        "VMCreation",
        [
            Field("name", .name, "unique in its tenant; not of digits only, which would be an id, and not batch"),
            Field("tenant", .name, isRequired: false, "\(defaultTenant) when left out"),
            Field("power", .choice(FleetWords.power.all), isRequired: false, "what it is to do; running"),
            Field("spec", .object(VMDescription.shape), "what it asks for"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("name", name), JSONMember("tenant", tenant), JSONMember("power", FleetWords.power[power]),
            JSONMember("spec", spec),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        guard let spec: VMDescription = try object.object("spec") else { throw object.wrong("spec", "is missing") }
        self.init(
            name: object.text("name"), tenant: object.optionalText("tenant") ?? defaultTenant, spec: spec,
            power: object.optionalText("power").flatMap { FleetWords.power[$0] } ?? .running)
        if name.utf8.allSatisfy({ $0 &- 48 <= 9 }) {
            throw object.wrong("name", "is a number, which would be taken for an id; put a letter into it")
        }
        if name == "batch" { throw object.wrong("name", "is the path of batches; use another one") }
    }
}

/// What `PUT /v1/vms/{vm}` replaces.
package struct VMUpdate: Shaped {
    package var spec: VMDescription
    package init(_ spec: VMDescription) { self.spec = spec }
    package static let shape = Shape(
        "VMUpdate", [Field("spec", .object(VMDescription.shape), "takes the place of all of the old one")])
    package var members: [JSONMember] { [JSONMember("spec", spec)] }
    package init(_ object: ShapedObject) throws(Problem) {
        guard let spec: VMDescription = try object.object("spec") else { throw object.wrong("spec", "is missing") }
        self.spec = spec
    }
}

/// The answer to a creation.
package struct CreatedVM: Shaped {
    package var id: VMID
    package var name: String
    package var tenant: String
    package init(id: VMID, name: String, tenant: String) {
        self.id = id
        self.name = name
        self.tenant = tenant
    }
    package static let shape = Shape(
        "CreatedVM",
        [
            Field("id", .integer, "never given to another one"), Field("name", .string, "its name"),
            Field("tenant", .string, "its tenant"),
        ])
    package var members: [JSONMember] {
        [JSONMember("id", id.rawValue), JSONMember("name", name), JSONMember("tenant", tenant)]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(id: VMID(object.unsigned("id")), name: object.text("name"), tenant: object.text("tenant"))
    }
}

/// `POST /v1/vms/batch`.
package struct VMBatch: Shaped {
    package static let itemsMax = 10_000

    /// What became of one item before the cell saw it.
    package typealias Item = Result<VMCreation, Problem>

    /// In the order of the body; what is wrong with one is its own result.
    package var items: [Item]
    /// As they were given, also of what is wrong otherwise; empty where there is none.
    package private(set) var names: [String]
    /// All or none.
    package var isAtomic: Bool
    /// They go to cells of different regions, as evenly as can be.
    package var overRegions: OverRegions?

    /// Where a region has no room for one, soft lets it go to another one, and hard has it wait there.
    package enum OverRegions: String, Hashable, Sendable, CaseIterable { case soft, hard }
    package init(_ items: [VMCreation], isAtomic: Bool = false) {
        self.items = items.map { .success($0) }
        names = items.map(\.name)
        self.isAtomic = isAtomic
    }

    package static let shape = Shape(
        "VMBatch",
        [
            // Not as the shape of a creation: what is wrong with one item is that item's result.
            Field("items", .anyObjects, "bodies of POST /v1/vms; at most \(itemsMax); each is judged for itself"),
            Field(
                "atomic", .boolean, isRequired: false,
                "all are created, or none; those that are to run get their first places all at once, or wait; at most 1,024"
            ),
            Field(
                "overRegions", .choice(OverRegions.allCases.map(\.rawValue)), isRequired: false,
                "they go to cells of different regions, one after the other; where a region has no room for one, soft lets it go to another "
                    + "one, and hard has it wait there"),
        ])

    package var members: [JSONMember] {
        // An item that could not be read has no JSON to be written.
        let good = items.compactMap { try? $0.get() }
        let members = [JSONMember("items", objects: good), JSONMember("atomic", isAtomic)]
        return members + (overRegions.map { [JSONMember("overRegions", $0.rawValue)] } ?? [])
    }

    package init(_ object: ShapedObject) throws(Problem) {
        let elements = object.json["items"]?.elements ?? []
        isAtomic = object.bool("atomic")
        overRegions = object.optionalText("overRegions").flatMap { OverRegions(rawValue: $0) }
        if isAtomic && overRegions != nil {
            throw object.wrong(
                "overRegions", "is for several cells, and all or none are made in one; leave one of the two out")
        }
        items = []
        // No longer than a name may be: it is said again.
        names = elements.map { element in
            element["name"]?.text.flatMap { $0.utf8.count <= AdminLimits.nameBytesMax ? $0 : nil } ?? ""
        }
        if elements.isEmpty || elements.count > VMBatch.itemsMax {
            throw object.wrong("items", "holds \(elements.count) items; send 1 to \(VMBatch.itemsMax)")
        }
        items.reserveCapacity(elements.count)
        for (place, element) in elements.enumerated() {
            do throws(Problem) {
                let shaped = try ShapedObject(
                    element, VMCreation.shape, isStrict: object.isStrict, path: "items[\(place)]")
                items.append(.success(try VMCreation(shaped)))
            } catch {
                if isAtomic { throw error }
                items.append(.failure(error))
            }
        }
    }
}

/// The answer to a batch: one result for each item, in their order.
package struct VMBatchResult: Shaped {
    package struct Item: Shaped {
        package var name: String
        package var status: Int
        /// Of a VM that was made.
        package var id: VMID?
        /// The type and the detail of its problem, where it was not.
        package var problem: String?
        package var detail: String?
        package var field: String?

        package init(name: String, id: VMID) {
            self.name = name
            self.id = id
            status = 201
        }
        package init(name: String, _ problem: Problem) {
            self.name = name
            status = problem.kind.status
            self.problem = problem.kind.type
            detail = problem.detail
            field = problem.members.first { $0.name == "field" }?.value.text
        }

        package static let shape = Shape(
            "VMBatchItem",
            [
                Field("name", .string, "the item's name; empty where it had none"),
                Field("status", .integer, "201, or that of its problem"),
                Field("id", .integer, isRequired: false, "of the VM that was made"),
                Field("type", .string, isRequired: false, "the URI that names the problem"),
                Field("detail", .string, isRequired: false, "what to do"),
                Field("field", .string, isRequired: false, "the member that is wrong"),
            ])
        package var members: [JSONMember] {
            var members = [JSONMember("name", name), JSONMember("status", Int64(status))]
            if let id { members.append(JSONMember("id", id.rawValue)) }
            members.add("type", problem)
            members.add("detail", detail)
            members.add("field", field)
            return members
        }
        package init(_ object: ShapedObject) throws(Problem) {
            name = object.text("name")
            status = Int(object.integer("status"))
            id = object.has("id") ? VMID(object.unsigned("id")) : nil
            problem = object.optionalText("type")
            detail = object.optionalText("detail")
            field = object.optionalText("field")
        }
    }

    package var items: [Item]
    package init(_ items: [Item]) { self.items = items }
    package static let shape = Shape(
        "VMBatchResult",
        [
            Field("created", .integer, "how many were made"), Field("refused", .integer, "how many were not"),
            Field("items", .objects(Item.shape), "in the order of the request"),
        ])
    package var members: [JSONMember] {
        let made = items.count { $0.id != nil }
        return [
            JSONMember("created", Int64(made)), JSONMember("refused", Int64(items.count - made)),
            JSONMember("items", objects: items),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) { items = try object.objects("items") }
}

/// A part of a device that a VM has.
package struct DevicePart: Shaped {
    package var device: Int64
    package var millis: Int64
    package init(device: Int64, millis: Int64) {
        self.device = device
        self.millis = millis
    }
    package static let shape = Shape(
        "DevicePart",
        [
            Field("device", .integer, "its place in the host's list of devices"),
            Field("millis", .integer, "thousandths of it"),
        ])
    package var members: [JSONMember] { [JSONMember("device", device), JSONMember("millis", millis)] }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(device: object.integer("device"), millis: object.integer("millis"))
    }
}

/// A live migration under way.
package struct MigrationInfo: Shaped {
    package var vm: String
    package var id: VMID
    package var tenant: String
    package var phase: String
    package var cause: String
    package var intent: String
    package var from: String
    package var to: String
    package var since: Int64
    /// Thousandths of the memory, and of disks on the host, that are copied.
    package var progressMillis: Int64
    package var memoryMiB: Int64
    /// Of disks on its host, which move along.
    package var diskMiB: Int64
    package var copiedMiB: Int64
    /// As it went so far; 0 while that says nothing.
    package var secondsLeft: Int64

    package init(_ migration: Migration, of vm: CellVM, now: LogTime?, hostName: (HostID) -> String) {
        self.vm = vm.name
        id = vm.id
        tenant = vm.tenant
        phase = FleetWords.migrationPhase[migration.phase]
        cause = FleetWords.cause[migration.cause]
        intent = FleetWords.intent[migration.intent]
        from = hostName(migration.source.assignment.host)
        to = hostName(migration.target.assignment.host)
        since = migration.since.seconds
        progressMillis = Int64(migration.progressMillis)
        memoryMiB = vm.spec.resources.memoryMiB
        diskMiB = vm.spec.disks.reduce(0) { sum, disk in
            if case .shared = disk.kind { return sum }
            return sum + min(disk.sizeMiB, Resources.amountMax)
        }
        copiedMiB = min(memoryMiB + diskMiB, Resources.amountMax) * progressMillis / 1_000
        secondsLeft = 0
        if let now, now > migration.since, progressMillis > 0, migration.phase == .copying {
            let passed = min((now.rawValue - migration.since.rawValue) / 1_000, 1 << 30)
            secondsLeft = Int64(passed) * (1_000 - progressMillis) / progressMillis
        }
    }

    package static let shape = Shape(
        "Migration",
        [
            Field("vm", .string, "the VM's name"), Field("id", .integer, "the VM's id"),
            Field("tenant", .string, "its tenant"),
            Field("phase", .string, "copying; leaving once it is the destination's; undoing when it was given up"),
            Field(
                "cause", .string,
                "asked, drain, rebalance, preemption, return, or capacity: its host may not have it any more"),
            Field(
                "intent", .choice(FleetWords.intent.all), isRequired: false,
                "what it may cost: gentle, balanced or now; balanced"),
            Field("from", .string, "the host that it leaves"), Field("to", .string, "the host that it goes to"),
            Field("since", .integer, "seconds since 1970"),
            Field("progressMillis", .integer, "thousandths of its memory, and of its disks there, that are copied"),
            Field("memoryMiB", .integer, "its memory"),
            Field("diskMiB", .integer, isRequired: false, "its disks on the host that it leaves, which move along"),
            Field("copiedMiB", .integer, "what is copied of both"),
            Field("secondsLeft", .integer, "what the rest takes, as it went so far; 0 while that is not known"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("vm", vm), JSONMember("id", id.rawValue), JSONMember("tenant", tenant),
            JSONMember("phase", phase), JSONMember("cause", cause), JSONMember("intent", intent),
            JSONMember("from", from), JSONMember("to", to),
            JSONMember("since", since), JSONMember("progressMillis", progressMillis),
            JSONMember("memoryMiB", memoryMiB), JSONMember("diskMiB", diskMiB), JSONMember("copiedMiB", copiedMiB),
            JSONMember("secondsLeft", secondsLeft),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        vm = object.text("vm")
        id = VMID(object.unsigned("id"))
        tenant = object.text("tenant")
        phase = object.text("phase")
        cause = object.text("cause")
        intent = object.optionalText("intent") ?? MoveIntent.balanced.word
        from = object.text("from")
        to = object.text("to")
        since = object.integer("since")
        progressMillis = object.integer("progressMillis")
        memoryMiB = object.integer("memoryMiB")
        diskMiB = object.optionalInteger("diskMiB") ?? 0
        copiedMiB = object.integer("copiedMiB")
        secondsLeft = object.integer("secondsLeft")
    }
}

/// A VM: what is wanted, where it is, what it does.
package struct VMInfo: Shaped {
    package var id: VMID
    package var name: String
    package var tenant: String
    package var generation: UInt64
    package var phase: String
    /// Since when it is in its phase; seconds since 1970, as all times here.
    package var since: Int64
    package var power: String
    /// Empty while it has no place.
    package var host: String
    package var epoch: UInt64
    package var numaNodes: [Int64]
    package var devices: [DevicePart]
    package var isReleasing: Bool
    package var isDeleting: Bool
    package var message: String
    package var restarts: Int64
    package var runningGeneration: UInt64
    /// 0 unless it waits.
    package var queued: Int64
    package var created: Int64
    package var createdBy: String
    package var revision: String
    package var migration: MigrationInfo?
    /// Numbers of cells, while it goes from one to the other.
    package var toCell: Int64?
    package var fromCell: Int64?
    /// Empty unless a drain moved it off a host that it comes back to. Of a VM that is shown alone.
    package var origin = ""
    package var spec: VMDescription

    /// Values that programs keep as annotations which know no secret fields are shown as those show them.
    package var showsAnnotations = false

    package init(_ vm: CellVM, now: LogTime? = nil, hostName: (HostID) -> String) {
        id = vm.id
        name = vm.name
        tenant = vm.tenant
        generation = vm.generation
        phase = FleetWords.phase[vm.phase]
        since = vm.since.seconds
        power = FleetWords.power[vm.power]
        host = vm.place.map { hostName($0.assignment.host) } ?? ""
        epoch = vm.place?.epoch ?? 0
        numaNodes = (vm.place?.assignment.numaNodes ?? []).map(Int64.init)
        devices = (vm.place?.assignment.devices ?? []).map {
            DevicePart(device: Int64($0.device), millis: Int64($0.millis))
        }
        isReleasing = vm.place?.isReleasing ?? false
        isDeleting = vm.isDeleting
        message = vm.message
        restarts = Int64(vm.restarts)
        runningGeneration = vm.runningGeneration
        queued = vm.phase == .waiting ? vm.queuedAt.seconds : 0
        created = vm.createdAt.seconds
        createdBy = vm.createdBy
        revision = vm.revision.description
        migration = (vm.migration ?? vm.sending).map { MigrationInfo($0, of: vm, now: now, hostName: hostName) }
        toCell = vm.departure.map { Int64(clamping: $0.to) }
        fromCell = vm.arrival.map { Int64(clamping: $0.from) }
        spec = vm.spec
    }

    package static let shape = Shape(
        "VM",
        [
            Field("id", .integer, "never given to another one"), Field("name", .string, "unique in its tenant"),
            Field("tenant", .string, "its owner"),
            Field("generation", .integer, "of its specification and wishes: what If-Match compares"),
            Field("phase", .choice(FleetWords.phase.all), "what it is known to do"),
            Field("since", .integer, "in this phase; seconds since 1970, as all times here"),
            Field("power", .choice(FleetWords.power.all), "what it is to do"),
            Field("host", .string, "where it is placed; empty while it waits"),
            Field("epoch", .integer, "of its permission to run there"),
            Field("numaNodes", .integers, "the NUMA nodes that it has"),
            Field("devices", .objects(DevicePart.shape), "the devices that it has"),
            Field("isReleasing", .boolean, "it stops, and leaves its place then"),
            Field("isDeleting", .boolean, "it goes as soon as it is stopped"),
            Field("message", .string, "why it waits, or what went wrong"),
            Field("restarts", .integer, "restarts after crashes lately"),
            Field("runningGeneration", .integer, "the generation that runs; 0: none yet"),
            Field("queued", .integer, "since when it waits for a place; 0 when it does not"),
            Field("created", .integer, "when it was created"), Field("createdBy", .string, "by whom"),
            Field("revision", .string, "of its last change, index.slot"),
            Field("migration", .object(MigrationInfo.shape), isRequired: false, "while it moves"),
            Field("toCell", .integer, isRequired: false, "the number of the cell that it goes to, while it does"),
            Field(
                "fromCell", .integer, isRequired: false,
                "the number of the cell that it comes from, and whose it is until it has come"),
            Field(
                "origin", .string, isRequired: false,
                "the host that a drain moved it off, and that takes it back when its resumption says so; not in lists"),
            Field("spec", .object(VMDescription.shape), "what it asks for"),
        ])

    package var members: [JSONMember] {
        var members = [
            JSONMember("id", id.rawValue), JSONMember("name", name), JSONMember("tenant", tenant),
            JSONMember("generation", generation), JSONMember("phase", phase), JSONMember("since", since),
            JSONMember("power", power), JSONMember("host", host), JSONMember("epoch", epoch),
            JSONMember("numaNodes", integers: numaNodes), JSONMember("devices", objects: devices),
            JSONMember("isReleasing", isReleasing), JSONMember("isDeleting", isDeleting),
            JSONMember("message", message), JSONMember("restarts", restarts),
            JSONMember("runningGeneration", runningGeneration), JSONMember("queued", queued),
            JSONMember("created", created), JSONMember("createdBy", createdBy), JSONMember("revision", revision),
        ]
        if let migration { members.append(JSONMember("migration", migration)) }
        if let toCell { members.append(JSONMember("toCell", toCell)) }
        if let fromCell { members.append(JSONMember("fromCell", fromCell)) }
        if !origin.isEmpty { members.append(JSONMember("origin", origin)) }
        members.append(JSONMember("spec", .object(spec.members(showsAnnotations: showsAnnotations))))
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        id = VMID(object.unsigned("id"))
        name = object.text("name")
        tenant = object.text("tenant")
        generation = object.unsigned("generation")
        phase = object.text("phase")
        since = object.integer("since")
        power = object.text("power")
        host = object.text("host")
        epoch = object.unsigned("epoch")
        numaNodes = object.integers("numaNodes")
        devices = try object.objects("devices")
        isReleasing = object.bool("isReleasing")
        isDeleting = object.bool("isDeleting")
        message = object.text("message")
        restarts = object.integer("restarts")
        runningGeneration = object.unsigned("runningGeneration")
        queued = object.integer("queued")
        created = object.integer("created")
        createdBy = object.text("createdBy")
        revision = object.text("revision")
        migration = try object.object("migration")
        toCell = object.has("toCell") ? object.integer("toCell") : nil
        fromCell = object.has("fromCell") ? object.integer("fromCell") : nil
        origin = object.optionalText("origin") ?? ""
        guard let spec: VMDescription = try object.object("spec") else { throw object.wrong("spec", "is missing") }
        self.spec = spec
    }
}
