internal import ClusterBase
package import FleetModel

/// What lists are of, and what their filters and sorting know.
package enum FleetKind: Hashable, Sendable, CaseIterable {
    case hosts, vms, groups, tenants, migrations, events

    package var fields: [FilterField] {
        switch self {
        case .vms:
            [
                FilterField("id", .number), FilterField("name", .text), FilterField("tenant", .text),
                FilterField("phase", .text, oneOf: FleetWords.phase.all),
                FilterField("power", .text, oneOf: FleetWords.power.all), FilterField("host", .text),
                FilterField("priority", .number), FilterField("cpuMillis", .number),
                FilterField("memoryMiB", .number), FilterField("generation", .number),
                FilterField("restarts", .number), FilterField("since", .number), FilterField("created", .number),
                FilterField("createdBy", .text), FilterField("message", .text), FilterField("group", .texts),
                FilterField("network", .texts), FilterField("label", .map), FilterField("annotation", .map),
            ]
        case .hosts:
            [
                FilterField("id", .number), FilterField("name", .text),
                FilterField("state", .text, oneOf: FleetWords.state.all + ["away"]),
                FilterField("duty", .text, oneOf: FleetWords.duty.all),
                FilterField("health", .text, oneOf: FleetWords.health.all), FilterField("region", .text),
                FilterField("zone", .text), FilterField("rack", .text), FilterField("driver", .text),
                FilterField("vmCount", .number), FilterField("cpuMillis", .number), FilterField("memoryMiB", .number),
                FilterField("freeCpuMillis", .number), FilterField("freeMemoryMiB", .number),
                FilterField("storageDomain", .texts), FilterField("network", .texts), FilterField("device", .texts),
                FilterField("taint", .texts), FilterField("label", .map),
            ]
        case .groups:
            [
                FilterField("id", .number), FilterField("name", .text), FilterField("tenant", .text),
                FilterField("rule", .text, oneOf: ["spread", "antiAffinity", "pack", "affinity"]),
                FilterField("scope", .text, oneOf: FleetWords.scope.all), FilterField("memberCount", .number),
            ]
        case .tenants:
            [
                FilterField("name", .text), FilterField("tier", .text), FilterField("usedCount", .number),
                FilterField("cpuMillis", .number), FilterField("memoryMiB", .number),
            ]
        case .migrations:
            [
                FilterField("id", .number), FilterField("vm", .text), FilterField("tenant", .text),
                FilterField("phase", .text, oneOf: FleetWords.migrationPhase.all),
                FilterField("cause", .text, oneOf: FleetWords.cause.all), FilterField("from", .text),
                FilterField("to", .text), FilterField("progressMillis", .number),
            ]
        case .events:
            [
                FilterField("kind", .text), FilterField("tenant", .text), FilterField("vm", .text),
                FilterField("host", .text), FilterField("by", .text),
            ]
        }
    }

    /// What an item of its lists looks like.
    package var shape: Shape {
        switch self {
        case .vms: VMInfo.shape
        case .hosts: HostInfo.shape
        case .groups: CellGroup.shape
        case .tenants: TenantInfo.shape
        case .migrations: MigrationInfo.shape
        case .events: EventInfo.shape
        }
    }
}

/// How to read and show one list.
package struct FleetList: Hashable, Sendable {
    package static let limitMax = 1_000

    package struct Sort: Hashable, Sendable {
        package var field: String
        package var isDescending: Bool
        package init(_ field: String, isDescending: Bool = false) {
            self.field = field
            self.isDescending = isDescending
        }
        package var text: String { (isDescending ? "-" : "") + field }
    }

    package var kind: FleetKind
    package var filter: FilterExpression?
    /// Members that are shown; all when empty. `spec.labels` shows one member of an inner object.
    package var fields: [String]
    /// Nil: by key, which for what has an id is the order of creation.
    package var sort: Sort?
    package var limit: Int
    /// A page's `next`.
    package var after: String?
    /// Only this tenant's.
    package var tenant: String?
    /// Only of this VM or this host, for events.
    package var vm: String?
    package var host: String?
    package var mode: ReadMode
    /// Of the audit: what was asked of the root instead of a cell.
    package var isRoot = false
    /// Changes instead of a page.
    package var watch: Watch?

    package struct Watch: Hashable, Sendable {
        /// Nil: from now.
        package var from: Revision?
        /// Server-sent events instead of JSON lines.
        package var asEvents: Bool
        package init(from: Revision? = nil, asEvents: Bool = false) {
            self.from = from
            self.asEvents = asEvents
        }
    }

    /// The cell's controller knows which VMs migrate; without it all of them are looked at.
    package var asksController: Bool {
        if case .stale = mode { return false }
        return kind == .migrations && watch == nil
    }

    package init(
        _ kind: FleetKind, filter: FilterExpression? = nil, fields: [String] = [], sort: Sort? = nil,
        limit: Int = FleetList.limitMax, after: String? = nil, tenant: String? = nil, vm: String? = nil,
        host: String? = nil, mode: ReadMode = .linearizable, watch: Watch? = nil
    ) {
        self.kind = kind
        self.filter = filter
        self.fields = fields
        self.sort = sort
        self.limit = limit
        self.after = after
        self.tenant = tenant
        self.vm = vm
        self.host = host
        self.mode = mode
        self.watch = watch
    }
}

extension FleetList {
    /// What all VMs of the list have, where that is as a rule few VMs': most of them run, and those are looked at one by one.
    package var mark: CellMark? {
        guard kind == .vms, let filter, filter.required("name") == nil else { return nil }
        if let group = filter.required("group"), !group.isEmpty { return .group(group) }
        if let label = filter.requiredPair("label") { return .label(label.key, label.value) }
        guard let phase = filter.required("phase").flatMap({ FleetWords.phase[$0] }), phase != .running else {
            return nil
        }
        return .phase(phase)
    }
}

/// A page of a list. It may be short, and even empty, while `next` is there: what was looked at passed no filter.
package struct FleetPage<Item: Shaped>: Shaped {
    package var items: [Item]
    package var next: String?
    package init(_ items: [Item], next: String? = nil) {
        self.items = items
        self.next = next
    }
    package static var shape: Shape { Shape.page(of: Item.shape) }
    package var members: [JSONMember] {
        var members = [JSONMember("items", objects: items)]
        members.add("next", next)
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(try object.objects("items"), next: object.optionalText("next"))
    }
}

extension Shape {
    /// What a page of these looks like; with `fields`, an item has only those members.
    static func page(of item: Shape) -> Shape {
        let part = Shape(
            item.name + "Part", item.fields.map { Field($0.name, $0.kind, isRequired: false, $0.summary) })
        return Shape(
            item.name + "Page",
            [
                Field("items", .objects(part), "in order; with fields= they have only those members"),
                Field(
                    "next", .string, isRequired: false,
                    "there may be more: ask again with after= this, even where this page is short"),
                Field(
                    "indexes", .anyObject, isRequired: false,
                    "where the cluster has several cells: the index of each cell's state that was read, by its name"),
            ])
    }
}

extension JSONValue {
    /// The value with only these members; a dot leads into an inner object.
    package func only(_ fields: [String]) -> JSONValue {
        if fields.isEmpty { return self }
        guard let members else { return self }
        var kept: [JSONMember] = []
        for member in members {
            if fields.contains(member.name) {
                kept.append(member)
                continue
            }
            let inner = fields.filter { $0.hasPrefix(member.name + ".") }.map {
                String($0.dropFirst(member.name.count + 1))
            }
            if !inner.isEmpty { kept.append(JSONMember(member.name, member.value.only(inner))) }
        }
        return .object(kept)
    }
}

// MARK: What filters see

extension CellVM {
    package func field(_ name: String, hostName: (HostID) -> String) -> FilterValue {
        switch name {
        case "id": return .number(Int64(clamping: id.rawValue))
        case "name": return .text(self.name)
        case "tenant": return .text(tenant)
        case "phase": return .text(FleetWords.phase[phase])
        case "power": return .text(FleetWords.power[power])
        case "host": return .text(place.map { hostName($0.assignment.host) } ?? "")
        case "priority": return .number(Int64(spec.priority))
        case "cpuMillis": return .number(spec.resources.cpuMillis)
        case "memoryMiB": return .number(spec.resources.memoryMiB)
        case "generation": return .number(Int64(clamping: generation))
        case "restarts": return .number(Int64(restarts))
        case "since": return .number(since.seconds)
        case "created": return .number(createdAt.seconds)
        case "createdBy": return .text(createdBy)
        case "message": return .text(message)
        case "group": return .texts(spec.groups)
        case "network": return .texts(spec.networks)
        default: break
        }
        if name.hasPrefix("label.") { return FilterValue(spec.labels, name.dropFirst(6)) }
        if name.hasPrefix("annotation."), !SecretField.keys.contains(String(name.dropFirst(11))) {
            return FilterValue(spec.annotations, name.dropFirst(11))
        }
        return .none
    }
}

extension FilterValue {
    init(_ pairs: [Named], _ key: Substring) {
        self = pairs.first { $0.key == key }.map { .text($0.value) } ?? .none
    }

    /// Whether a thing with this value, and then this key, comes before another one.
    package func precedes(_ other: FilterValue) -> Bool? {
        switch (self, other) {
        case (.number(let a), .number(let b)): a == b ? nil : a < b
        case (.text(let a), .text(let b)): a == b ? nil : a < b
        case (.none, .none): nil
        case (.none, _): true
        default: other == .none ? false : nil
        }
    }
}

extension CellHost {
    package func field(_ name: String) -> FilterValue {
        switch name {
        case "id": return .number(Int64(clamping: id.rawValue))
        case "name": return .text(about.name)
        case "state": return .text(stateWord)
        case "duty": return .text(FleetWords.duty[duty])
        case "health": return .text(FleetWords.health[health])
        case "region": return .text(about.locality.region)
        case "zone": return .text(about.locality.zone)
        case "rack": return .text(about.locality.rack)
        case "driver": return .text(about.driver)
        case "vmCount": return .number(Int64(clamping: vmCount))
        case "cpuMillis": return .number(offered.cpuMillis)
        case "memoryMiB": return .number(offered.memoryMiB)
        case "freeCpuMillis": return .number(offered.cpuMillis - used.cpuMillis)
        case "freeMemoryMiB": return .number(offered.memoryMiB - used.memoryMiB)
        case "storageDomain": return .texts(about.storageDomains)
        case "network": return .texts(about.networks)
        case "device": return .texts(about.devices.map(\.kind))
        case "taint": return .texts(policy.taints.map(\.key))
        default: return name.hasPrefix("label.") ? FilterValue(labels, name.dropFirst(6)) : .none
        }
    }
}

extension CellGroup {
    package func field(_ name: String) -> FilterValue {
        switch name {
        case "id": .number(Int64(clamping: id.rawValue))
        case "name": .text(self.name)
        case "tenant": .text(tenant)
        case "rule": .text(members.first { $0.name == "rule" }?.value.text ?? "")
        case "scope": .text(FleetWords.scope[scope])
        case "memberCount": .number(Int64(clamping: memberCount))
        default: .none
        }
    }
}

extension TenantInfo {
    package func field(_ name: String) -> FilterValue {
        switch name {
        case "name": .text(self.name)
        case "tier": .text(tier)
        case "usedCount": .number(Int64(clamping: usedCount))
        case "cpuMillis": .number(used.cpuMillis)
        case "memoryMiB": .number(used.memoryMiB)
        default: .none
        }
    }
}

extension MigrationInfo {
    package func field(_ name: String) -> FilterValue {
        switch name {
        case "id": .number(Int64(clamping: id.rawValue))
        case "vm": .text(vm)
        case "tenant": .text(tenant)
        case "phase": .text(phase)
        case "cause": .text(cause)
        case "from": .text(from)
        case "to": .text(to)
        case "progressMillis": .number(progressMillis)
        default: .none
        }
    }
}

extension CellEvent {
    package func field(_ name: String) -> FilterValue {
        switch name {
        case "kind": .text(kind)
        case "tenant": .text(tenant)
        case "vm": .text(vm)
        case "host": .text(host)
        case "by": .text(by)
        default: .none
        }
    }
}
