internal import BinaryCoding
import ClusterBase
internal import Schema

// The rows of a cell's state as Proto/cell.proto describes them.

/// A value that has a message in Proto/cell.proto.
package protocol CellCoded: Hashable, Sendable {
    /// Nil when the bytes are none that this version knows.
    static func decode(_ bytes: [UInt8]) -> Self?
    func encoded() -> [UInt8]
}

protocol CellMapped: CellCoded {
    associatedtype Wire: WireMessage
    init?(_ wire: Wire)
    var wire: Wire { get }
}

extension CellMapped {
    package static func decode(_ bytes: [UInt8]) -> Self? {
        // Where in the bytes it went wrong matters to nobody: either they are of another version, or of no one's.
        guard let wire = try? Wire(serialized: bytes) else { return nil }
        return Self(wire)
    }
    package func encoded() -> [UInt8] { wire.serialized() }

    static func all(_ wires: [Wire]) -> [Self]? {
        if wires.isEmpty { return [] }
        var values: [Self] = []
        values.reserveCapacity(wires.count)
        for wire in wires {
            guard let value = Self(wire) else { return nil }
            values.append(value)
        }
        return values
    }
}

extension CellRow {
    /// Nil when the bytes are none that this version can read.
    package var content: CellRowContent? {
        guard let table else { return .unknownTable }
        switch table {
        case .hosts: return part(CellHost.self, { $0.id }).map { .host($0, $1) }
        case .vms: return part(CellVM.self, { $0.id }).map { .vm($0, $1) }
        case .groups: return part(CellGroup.self, { $0.id }).map { .group($0, $1) }
        case .tombstones: return part(CellTombstone.self, { $0.id }).map { .tombstone($0, $1) }
        case .remains:
            guard let number = key.bigEndian64(at: 1), key.count == 9 else { return nil }
            guard let value else { return .remains(VMID(number), nil) }
            guard let remains = CellRemains.decode(value), remains.vm == VMID(number) else { return nil }
            return .remains(remains.vm, remains)
        case .arrivals:
            guard let number = key.bigEndian64(at: 1), key.count == 9 else { return nil }
            guard let value else { return .arrival(VMID(number), nil) }
            return CellVM.Arrival.decode(value).map { .arrival(VMID(number), $0) }
        case .hostArrivals: return part(HostArrival.self, { $0.host.id }).map { .hostArrival($0, $1) }
        case .hostMoves:
            guard let number = key.bigEndian64(at: 1), key.count == 9 else { return nil }
            guard let value else { return .hostMove(number, nil) }
            guard let move = HostMove.decode(value), move.number == number else { return nil }
            return .hostMove(number, move)
        case .moves:
            guard let number = key.bigEndian64(at: 1), key.count == 9 else { return nil }
            guard let value else { return .move(number, nil) }
            guard let move = CellMove.decode(value), move.number == number else { return nil }
            return .move(number, move)
        case .slices:
            let tenant = String(decoding: key.dropFirst(), as: UTF8.self)
            guard let value else { return .slice(tenant, nil) }
            guard let slice = TenantSlice.decode(value), slice.tenant == tenant else { return nil }
            return .slice(tenant, slice)
        case .settings:
            guard let number = key.bigEndian64(at: 1), key.count == 9 else { return nil }
            // One that only newer versions know.
            guard let setting = CellSetting(rawValue: UInt32(clamping: number)) else { return .unknownTable }
            guard let value else { return .setting(setting, nil) }
            guard let row = CellSettingValue.decode(value), row.setting == setting else { return nil }
            return .setting(setting, row.value)
        }
    }

    private func part<Record: CellCoded, ID: Identity>(
        _ type: Record.Type, _ id: (Record) -> ID
    ) -> (id: ID, record: Record?)? {
        guard let number = key.bigEndian64(at: 1), key.count == 9 else { return nil }
        guard let value else { return (ID(number), nil) }
        guard let record = Record.decode(value), id(record).rawValue == number else { return nil }
        return (ID(number), record)
    }
}

// MARK: Hosts

extension Resources {
    init(_ wire: WireResources) {
        self.init(
            cpuMillis: wire.cpuMillis, memoryMiB: wire.memoryMib, diskMiB: wire.diskMib, networkMbps: wire.networkMbps)
    }
    init(ofWire wire: WireResources?) {
        guard let wire else {
            self = .zero
            return
        }
        self.init(
            cpuMillis: wire.cpuMillis, memoryMiB: wire.memoryMib, diskMiB: wire.diskMib, networkMbps: wire.networkMbps)
    }
    var wire: WireResources {
        WireResources(cpuMillis: cpuMillis, memoryMib: memoryMiB, diskMib: diskMiB, networkMbps: networkMbps)
    }
    /// Nothing for zero.
    var sparse: WireResources? { self == .zero ? nil : wire }
}

extension Named {
    init(_ wire: WireNamed) { self.init(wire.key, wire.value) }
    var wire: WireNamed { WireNamed(key: key, value: value) }
}

extension NUMANode {
    init(_ wire: WireNumaNode) { self.init(cpuMillis: wire.cpuMillis, memoryMiB: wire.memoryMib) }
    var wire: WireNumaNode { WireNumaNode(cpuMillis: cpuMillis, memoryMib: memoryMiB) }
}

extension NamedDevice: CellMapped {
    init?(_ wire: WireHostDevice) {
        if let node = wire.numaNode, node > 255 { return nil }
        self.init(kind: wire.kind, numaNode: wire.numaNode.map { UInt8(truncatingIfNeeded: $0) })
    }
    var wire: WireHostDevice { WireHostDevice(kind: kind, numaNode: numaNode.map { UInt32($0) }) }
}

extension HostDescription: CellMapped {
    init?(_ wire: WireHostDescription) {
        guard let devices = NamedDevice.all(wire.devices) else { return nil }
        let place = wire.locality ?? WireLocality()
        self.init(
            name: wire.name, locality: Locality(region: place.region, zone: place.zone, rack: place.rack),
            capacity: Resources(ofWire: wire.capacity), numaNodes: wire.numaNodes.map { NUMANode($0) },
            devices: devices, labels: wire.labels.map { Named($0) }, storageDomains: wire.storageDomains,
            networks: wire.networks, driver: wire.driver)
        storageProblems = wire.storageProblems.map { Named($0.domain, $0.text) }
        hasTPM = wire.hasTpm
        guestUser = wire.guestUser
    }
    var wire: WireHostDescription {
        let isNowhere = locality == Locality()
        return WireHostDescription(
            name: name,
            locality: isNowhere ? nil : WireLocality(region: locality.region, zone: locality.zone, rack: locality.rack),
            capacity: capacity.sparse, numaNodes: numaNodes.map(\.wire), devices: devices.map(\.wire),
            labels: labels.map(\.wire), storageDomains: storageDomains, networks: networks, driver: driver,
            storageProblems: storageProblems.map { WireHostDescription.StorageProblem(domain: $0.key, text: $0.value) },
            hasTpm: hasTPM, guestUser: guestUser)
    }
}

extension NamedTaint: CellMapped {
    init?(_ wire: WireHostTaint) {
        let effect: Taint.Effect
        switch wire.effect {
        case .noPlacement: effect = .noPlacement
        case .avoid: effect = .avoid
        default: return nil
        }
        self.init(wire.key, wire.value, effect: effect)
    }
    var wire: WireHostTaint {
        WireHostTaint(key: key, value: value, effect: effect == .noPlacement ? .noPlacement : .avoid)
    }
}

extension HostPolicy: CellMapped {
    init?(_ wire: WireHostPolicy) {
        guard let taints = NamedTaint.all(wire.taints) else { return nil }
        let over = wire.overcommit.map {
            Overcommit(cpuMilli: $0.cpu, memoryMilli: $0.memory, diskMilli: $0.disk, networkMilli: $0.network)
        }
        self.init(
            reserved: Resources(ofWire: wire.reserved), overcommit: over ?? .none,
            labels: wire.labels.map { Named($0) }, taints: taints)
    }
    var wire: WireHostPolicy {
        let over = overcommit
        return WireHostPolicy(
            reserved: reserved.sparse,
            overcommit: over == .none
                ? nil
                : WireOvercommit(
                    cpu: over.cpuMilli, memory: over.memoryMilli, disk: over.diskMilli, network: over.networkMilli),
            labels: labels.map(\.wire), taints: taints.map(\.wire))
    }
}

extension CellHost: CellCoded, CellMapped {
    init?(_ wire: WireCellHost) {
        guard let about = wire.about.flatMap(HostDescription.init), let duty = Duty(rawValue: wire.duty.rawValue),
            let health = Health(rawValue: wire.health.rawValue)
        else { return nil }
        self.init(
            id: HostID(wire.id), about: about, incarnation: Incarnation(wire.incarnation), since: LogTime(wire.since))
        if let kept = wire.policy {
            guard let policy = HostPolicy(kept) else { return nil }
            self.policy = policy
        }
        self.duty = duty
        self.health = health
        generation = wire.generation
        workIndex = LogIndex(wire.workIndex)
        used = Resources(ofWire: wire.used)
        vmCount = wire.vmCount
        numaUsed = wire.numaUsed.map { NUMANode($0) }
        devicesUsed = wire.devicesUsed.map { Int32(clamping: $0) }
        assignment = wire.assignment
        isReleased = wire.isReleased
        if wire.departureNumber > 0 {
            departure = Departure(number: wire.departureNumber, to: wire.departureTo)
        }
        wentTo = wire.wentTo
        staysBelow = wire.staysBelow
        leaseBase = wire.leaseBase
        isDrainPaused = wire.isDrainPaused
        awayUntil = LogTime(wire.awayUntil)
        declaredDeadAt = LogTime(wire.declaredDeadAt)
        guard let returns = HostReturn(rawValue: wire.returns.rawValue) else { return nil }
        drain = wire.drainNumber
        self.returns = returns
        isReturnPaused = wire.isReturnPaused
        awayCount = wire.awayVMs
        isEnforced = wire.isEnforced
    }
    var wire: WireCellHost {
        WireCellHost(
            id: id.rawValue, about: about.wire, policy: policy == HostPolicy() ? nil : policy.wire,
            duty: WireHostDuty(rawValue: duty.rawValue), health: WireHostHealth(rawValue: health.rawValue),
            incarnation: incarnation.rawValue, generation: generation, since: since.rawValue,
            workIndex: workIndex.rawValue, used: used.sparse, vmCount: vmCount, numaUsed: numaUsed.map(\.wire),
            devicesUsed: devicesUsed.map { UInt32(clamping: $0) }, assignment: assignment, isReleased: isReleased,
            departureNumber: departure?.number ?? 0, departureTo: departure?.to ?? 0, wentTo: wentTo,
            staysBelow: staysBelow, leaseBase: leaseBase, isDrainPaused: isDrainPaused,
            awayUntil: awayUntil.rawValue, declaredDeadAt: declaredDeadAt.rawValue, drainNumber: drain,
            returns: WireHostReturn(rawValue: returns.rawValue), isReturnPaused: isReturnPaused, awayVMs: awayCount,
            isEnforced: isEnforced)
    }
}

// MARK: VMs

extension VMDescription.NamedSelector: CellMapped {
    init?(_ wire: WireLabelSelector) {
        switch wire.match {
        case .oneOf: self.init(wire.key, .oneOf(wire.values))
        case .noneOf: self.init(wire.key, .noneOf(wire.values))
        case .exists: self.init(wire.key, .exists)
        case .absent: self.init(wire.key, .absent)
        default: return nil
        }
    }
    var wire: WireLabelSelector {
        switch match {
        case .oneOf(let values): WireLabelSelector(key: key, match: .oneOf, values: values)
        case .noneOf(let values): WireLabelSelector(key: key, match: .noneOf, values: values)
        case .exists: WireLabelSelector(key: key, match: .exists)
        case .absent: WireLabelSelector(key: key, match: .absent)
        }
    }
}

extension VMDescription.NamedPreference: CellMapped {
    init?(_ wire: WireVmDescription.Preference) {
        guard let selector = wire.selector.flatMap(VMDescription.NamedSelector.init) else { return nil }
        self.init(selector, weight: Int(wire.weight))
    }
    var wire: WireVmDescription.Preference {
        WireVmDescription.Preference(selector: selector.wire, weight: UInt32(clamping: weight))
    }
}

extension VMDescription.NamedDisk.Kind {
    init?(_ wire: WireVmDescription.Tpm) {
        switch wire.kind {
        case .shared: self = .shared(domain: wire.domain)
        case .local: self = .local
        case .ephemeral: self = .ephemeral
        default: return nil
        }
    }
    var wire: WireVmDescription.Tpm {
        switch self {
        case .shared(let domain): WireVmDescription.Tpm(kind: .shared, domain: domain)
        case .local: WireVmDescription.Tpm(kind: .local)
        case .ephemeral: WireVmDescription.Tpm(kind: .ephemeral)
        }
    }
}

extension VMDescription.NamedDisk: CellMapped {
    init?(_ wire: WireVmDescription.Disk) {
        let kind: Kind
        switch wire.kind {
        case .shared: kind = .shared(domain: wire.domain)
        case .local: kind = .local
        case .ephemeral: kind = .ephemeral
        default: return nil
        }
        self.init(name: wire.name, sizeMiB: wire.sizeMib, kind: kind, image: wire.image, isKept: wire.isKept)
    }
    var wire: WireVmDescription.Disk {
        typealias Wire = WireVmDescription.Disk
        return switch kind {
        case .shared(let domain):
            Wire(name: name, sizeMib: sizeMiB, kind: .shared, domain: domain, image: image, isKept: isKept)
        case .local: Wire(name: name, sizeMib: sizeMiB, kind: .local, image: image, isKept: isKept)
        case .ephemeral: Wire(name: name, sizeMib: sizeMiB, kind: .ephemeral, image: image, isKept: isKept)
        }
    }
}

extension SecretField {
    var wire: WireVmDescription.Secret {
        guard let box else { preconditionFailure("the secret field \(key) is encoded before it is sealed") }
        return WireVmDescription.Secret(key: key, sealed: box)
    }
}

extension VMDescription: CellMapped {
    init?(_ wire: WireVmDescription) {
        self.init(resources: Resources(ofWire: wire.resources))
        switch wire.numa {
        case .any: numa = .none
        case .nodes: numa = .nodes(Int(wire.numaCount))
        case .fewest: numa = .fewest(max: Int(wire.numaCount))
        default: return nil
        }
        devices = wire.devices.map {
            NamedDeviceWish(kinds: $0.kinds, count: Int($0.count), millis: Int32(clamping: $0.millis))
        }
        devicesOnSameNodes = wire.devicesOnSameNodes
        guard let required = NamedSelector.all(wire.required), let preferred = NamedPreference.all(wire.preferred),
            let disks = NamedDisk.all(wire.disks), let restart = Restart(rawValue: wire.restart.rawValue),
            let isolation = Isolation(rawValue: wire.isolation.rawValue),
            let regionLoss = RegionLoss(rawValue: wire.regionLoss.rawValue)
        else { return nil }
        if wire.moveIntent != .unspecified {
            guard let intent = MoveIntent(rawValue: wire.moveIntent.rawValue) else { return nil }
            moveIntent = intent
        }
        guard let choice = CellChoice(rawValue: wire.cellChoice.rawValue) else { return nil }
        (near, nearWithin, cellChoice) = (wire.near, wire.nearWithin, choice)
        self.required = required
        self.preferred = preferred
        tolerations = wire.tolerations.map { NamedToleration($0.key, value: $0.value) }
        self.disks = disks
        networks = wire.networks
        zones = wire.zones
        priority = wire.priority
        groups = wire.groups
        if !wire.policy.isEmpty {
            guard let policy = PlacementPolicy(rawValue: wire.policy) else { return nil }
            self.policy = policy
        }
        self.restart = restart
        restartsMax = wire.restartsMax
        self.isolation = isolation
        self.regionLoss = regionLoss
        returnsHome = wire.returnsHome
        regions = wire.regions
        if let known = wire.tpm {
            guard let kind = NamedDisk.Kind(known) else { return nil }
            tpm = kind
        }
        labels = wire.labels.map { Named($0) }
        annotations = wire.annotations.map { Named($0) }
        secrets = wire.secrets.map { SecretField($0.key, .sealed($0.sealed)) }
        sealMark = wire.sealMark
    }

    var wire: WireVmDescription {
        typealias Wire = WireVmDescription
        let rule: (WireNumaRule, Int) =
            switch numa {
            case .none: (.any, 0)
            case .nodes(let count): (.nodes, count)
            case .fewest(let most): (.fewest, most)
            }
        return Wire(
            resources: resources.sparse, numa: rule.0, numaCount: UInt32(clamping: rule.1),
            devices: devices.map {
                Wire.DeviceWish(
                    kinds: $0.kinds, count: UInt32(clamping: $0.count), millis: UInt32(clamping: $0.millis))
            }, devicesOnSameNodes: devicesOnSameNodes, required: required.map(\.wire), preferred: preferred.map(\.wire),
            tolerations: tolerations.map { Wire.Toleration(key: $0.key, value: $0.value) }, disks: disks.map(\.wire),
            networks: networks, zones: zones, priority: priority, groups: groups, policy: policy?.rawValue ?? "",
            restart: WireRestartRule(rawValue: restart.rawValue), restartsMax: restartsMax,
            isolation: WireIsolationRule(rawValue: isolation.rawValue), labels: labels.map(\.wire),
            annotations: annotations.map(\.wire), secrets: secrets.map(\.wire), sealMark: sealMark,
            regionLoss: WireRegionLossRule(rawValue: regionLoss.rawValue), returnsHome: returnsHome, regions: regions,
            tpm: tpm?.wire, moveIntent: WireMoveIntent(rawValue: moveIntent?.rawValue ?? 0), near: near,
            nearWithin: nearWithin, cellChoice: WireCellChoice(rawValue: cellChoice.rawValue))
    }
}

extension Assignment: CellMapped {
    init?(_ wire: WireAssignment) {
        var nodes: [UInt8] = []
        for node in wire.numaNodes {
            if node > 255 { return nil }
            nodes.append(UInt8(truncatingIfNeeded: node))
        }
        var devices: [DeviceUse] = []
        for use in wire.devices {
            if use.device > 255 { return nil }
            devices.append(
                DeviceUse(device: UInt8(truncatingIfNeeded: use.device), millis: Int32(clamping: use.millis)))
        }
        self.init(host: HostID(wire.host), numaNodes: nodes, devices: devices)
    }
    var wire: WireAssignment {
        WireAssignment(
            host: host.rawValue, numaNodes: numaNodes.map { UInt32($0) },
            devices: devices.map {
                WireAssignment.DeviceUse(device: UInt32($0.device), millis: UInt32(clamping: $0.millis))
            })
    }
}

extension VMPlace: CellMapped {
    init?(_ wire: WireVmPlace) {
        guard let assignment = wire.assignment.flatMap(Assignment.init) else { return nil }
        self.init(assignment, epoch: wire.epoch)
        isReleasing = wire.isReleasing
    }
    var wire: WireVmPlace { WireVmPlace(assignment: assignment.wire, epoch: epoch, isReleasing: isReleasing) }
}

extension Migration: CellMapped {
    init?(_ wire: WireMigration) {
        guard let phase = Phase(rawValue: wire.phase.rawValue), let cause = Cause(rawValue: wire.cause.rawValue),
            let intent = MoveIntent(ofMove: wire.intent),
            let target = wire.target.flatMap(VMPlace.init), let source = wire.source.flatMap(VMPlace.init)
        else { return nil }
        self.init(
            phase: phase, cause: cause, intent: intent, target: target, source: source, since: LogTime(wire.since))
        progressMillis = wire.progressMillis
        hasArrived = wire.hasArrived
    }
    var wire: WireMigration {
        WireMigration(
            phase: WireMigrationPhase(rawValue: phase.rawValue), cause: WireMigrationCause(rawValue: cause.rawValue),
            target: target.wire, source: source.wire, since: since.rawValue, progressMillis: progressMillis,
            hasArrived: hasArrived, intent: intent.ofMove)
    }
}

extension MoveIntent {
    /// A move's, which names all but `balanced`: that is what moves were before there were intents.
    init?(ofMove wire: WireMoveIntent) {
        if wire == .unspecified {
            self = .balanced
        } else {
            self.init(rawValue: wire.rawValue)
        }
    }
    var ofMove: WireMoveIntent { self == .balanced ? .unspecified : WireMoveIntent(rawValue: rawValue) }
}

extension CellVM: CellCoded, CellMapped {
    init?(_ wire: WireCellVm) {
        guard let spec = wire.spec.flatMap(VMDescription.init), let power = Power(rawValue: wire.power.rawValue),
            let phase = Phase(rawValue: wire.phase.rawValue)
        else { return nil }
        self.init(
            id: VMID(wire.id), name: wire.name, tenant: wire.tenant, spec: spec, at: LogTime(wire.createdAt),
            by: wire.createdBy)
        generation = wire.generation
        self.power = power
        isDeleting = wire.isDeleting
        if let kept = wire.place {
            guard let place = VMPlace(kept) else { return nil }
            self.place = place
        }
        if let kept = wire.migration {
            guard let migration = Migration(kept) else { return nil }
            self.migration = migration
        }
        self.phase = phase
        since = LogTime(wire.since)
        message = wire.message
        runningGeneration = wire.runningGeneration
        epochHighest = wire.epochHighest
        restarts = wire.restarts
        restartsSince = LogTime(wire.restartsSince)
        queuedAt = LogTime(wire.queuedAt)
        revision = Revision(wire.revision)
        boundTo = wire.boundTo.map { HostID($0) }
        held = wire.held.map { Resources($0) }
        events = wire.events.map { LogIndex($0) }
        departure = wire.departure.map { Departure($0) }
        arrival = wire.arrival.map { Arrival($0) }
        droppedDisks = wire.droppedDisks.map { CellRemains.Disk($0) }
        gang = wire.gang
        home = wire.home.map { Home($0) }
        lostAt = LogTime(wire.lostAt)
        origin = wire.origin.map { Origin($0) }
    }
    var wire: WireCellVm {
        WireCellVm(
            id: id.rawValue, name: name, tenant: tenant, spec: spec.wire, generation: generation,
            power: WireVmPower(rawValue: power.rawValue), isDeleting: isDeleting, place: place?.wire,
            migration: migration?.wire, phase: WireVmPhase(rawValue: phase.rawValue), since: since.rawValue,
            message: message, runningGeneration: runningGeneration, epochHighest: epochHighest, restarts: restarts,
            restartsSince: restartsSince.rawValue, queuedAt: queuedAt.rawValue, createdAt: createdAt.rawValue,
            createdBy: createdBy, revision: revision.rawValue, boundTo: boundTo?.rawValue, held: held?.wire,
            events: events.map(\.rawValue), departure: departure?.wire, arrival: arrival?.wire,
            droppedDisks: droppedDisks.map(\.wire), gang: gang, home: home?.wire,
            lostAt: lostAt.rawValue, origin: origin?.wire)
    }
}

extension CellTombstone: CellCoded, CellMapped {
    init?(_ wire: WireCellTombstone) {
        self.init(
            id: VMID(wire.id), name: wire.name, tenant: wire.tenant, deletedAt: LogTime(wire.deletedAt),
            deletedBy: wire.deletedBy, events: wire.events.map { LogIndex($0) })
        movedTo = wire.movedTo
    }
    var wire: WireCellTombstone {
        WireCellTombstone(
            id: id.rawValue, name: name, tenant: tenant, deletedAt: deletedAt.rawValue, deletedBy: deletedBy,
            events: events.map(\.rawValue), movedTo: movedTo)
    }
}

// MARK: Groups, tenants, settings, events

extension CellGroup: CellCoded, CellMapped {
    init?(_ wire: WireCellGroup) {
        let rule: PlacementGroup.Rule
        switch wire.rule {
        case .spread: rule = .spread(skewMax: Int(wire.max))
        case .antiAffinity: rule = .antiAffinity(perDomainMax: Int(wire.max))
        case .pack: rule = .pack
        case .affinity: rule = .affinity
        default: return nil
        }
        guard wire.scope.rawValue > 0,
            let scope = PlacementGroup.Scope(rawValue: UInt8(clamping: wire.scope.rawValue - 1))
        else { return nil }
        self.init(
            id: PlacementGroupID(wire.id), name: wire.name, tenant: wire.tenant, rule: rule, scope: scope,
            isHard: wire.isHard, weight: Int(wire.weight))
        memberCount = wire.memberCount
        isBrought = wire.isBrought
    }
    var wire: WireCellGroup {
        let rule: (WireGroupRule, Int) =
            switch self.rule {
            case .spread(let most): (.spread, most)
            case .antiAffinity(let most): (.antiAffinity, most)
            case .pack: (.pack, 0)
            case .affinity: (.affinity, 0)
            }
        return WireCellGroup(
            id: id.rawValue, name: name, tenant: tenant, rule: rule.0, max: UInt32(clamping: rule.1),
            scope: WireGroupScope(rawValue: Int32(scope.rawValue) + 1), isHard: isHard,
            weight: UInt32(clamping: weight), memberCount: memberCount, isBrought: isBrought)
    }
}

extension Quota: CellMapped {
    init(_ wire: WireTenantQuota) {
        self.init(
            vmCount: wire.vmCount, cpuMillis: wire.cpuMillis, memoryMiB: wire.memoryMib, diskMiB: wire.diskMib,
            priorityMax: wire.priorityMax, rto: Objective(value: wire.rto) ?? .auto)
    }
    var wire: WireTenantQuota {
        WireTenantQuota(
            vmCount: vmCount, cpuMillis: cpuMillis, memoryMib: memoryMiB, diskMib: diskMiB, priorityMax: priorityMax,
            rto: rto.value)
    }
    /// Nothing for no bound at all.
    var sparse: WireTenantQuota? { self == .unlimited ? nil : wire }
}

extension TenantSlice: CellCoded, CellMapped {
    init?(_ wire: WireTenantSlice) {
        self.init(
            tenant: wire.tenant, revision: Revision(wire.revision), quota: wire.quota.map { Quota($0) } ?? .unlimited)
        usedCount = wire.usedCount
        used = Resources(ofWire: wire.used)
        requestCount = wire.requests
        groupCount = wire.groups
        net = QuotaShare(wire.net)
        lending = wire.lending.map { QuotaLoan(to: $0.to, number: $0.number, share: QuotaShare($0.share)) }
        taken = wire.taken.map { QuotaReceipt(from: $0.from, number: $0.number) }
        recovery = TenantRecovery(wire.recovery)
    }
    var wire: WireTenantSlice {
        WireTenantSlice(
            tenant: tenant, revision: revision.rawValue, quota: quota.sparse, usedCount: usedCount, used: used.sparse,
            requests: requestCount, groups: groupCount, net: net.sparse,
            lending: lending.map { WireQuotaLoan(to: $0.to, number: $0.number, share: $0.share.sparse) },
            taken: taken.map { WireQuotaReceipt(from: $0.from, number: $0.number) }, recovery: recovery?.wire)
    }
}

extension QuotaShare {
    init(_ wire: WireQuotaShare?) {
        self.init(
            vms: wire?.vms ?? 0, cpuMillis: wire?.cpuMillis ?? 0, memoryMiB: wire?.memoryMib ?? 0,
            diskMiB: wire?.diskMib ?? 0)
    }
    var sparse: WireQuotaShare? {
        self == .zero
            ? nil : WireQuotaShare(vms: vector[0], cpuMillis: vector[1], memoryMib: vector[2], diskMib: vector[3])
    }
}

/// A setting that was changed.
struct CellSettingValue: CellMapped {
    var setting: CellSetting
    var value: UInt64

    init(_ setting: CellSetting, _ value: UInt64) {
        self.setting = setting
        self.value = value
    }
    init?(_ wire: WireCellSettingRow) {
        guard let setting = CellSetting(rawValue: wire.setting) else { return nil }
        self.init(setting, wire.value)
    }
    var wire: WireCellSettingRow { WireCellSettingRow(setting: setting.rawValue, value: value) }

    /// Ascending by setting.
    // hash order: sorted at once
    static func rows(of settings: [CellSetting: UInt64]) -> [CellSettingValue] {
        // hash order: sorted at once
        settings.map { CellSettingValue($0.key, $0.value) }.sorted { $0.setting.rawValue < $1.setting.rawValue }
    }
}

extension CellEvent {
    init(_ wire: WireCellEvent) {
        self.init(
            revision: Revision(wire.revision), time: LogTime(wire.time), kind: wire.kind, tenant: wire.tenant,
            vm: wire.vm, host: wire.host, by: wire.by, text: wire.text)
        isAudit = wire.isAudit
        vmID = wire.vmID == 0 ? nil : VMID(wire.vmID)
        hostID = wire.hostID == 0 ? nil : HostID(wire.hostID)
    }
    var wire: WireCellEvent {
        WireCellEvent(
            revision: revision.rawValue, time: time.rawValue, kind: kind, tenant: tenant, vm: vm, host: host, by: by,
            text: text, isAudit: isAudit, vmID: vmID?.rawValue ?? 0, hostID: hostID?.rawValue ?? 0)
    }
}
