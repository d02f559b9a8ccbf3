package import ClusterBase
internal import Schema

// Hosts on their way from one cell to another with the VMs on them: what the cells keep of them.

/// A host's way to another cell with its VMs, as the cell that it leaves keeps it: whoever leads that cell brings it to its end.
package struct HostMove: Hashable, Sendable {
    package enum Phase: Int32, Hashable, Sendable, CaseIterable {
        /// The other cell is asked to keep what the host and its VMs are here. Nobody but the host changes them meanwhile.
        case preparing = 1
        /// They are the other cell's, which is told so until it has said that it knows, and the root after that.
        case committed
        /// They stay. The other cell and the root are told so.
        case aborting
    }
    /// What its coordinator does with it next.
    package enum Step: Hashable, Sendable {
        /// The other cell has all rows as they were after the entry `through`.
        case commit(through: LogIndex)
        case abort(reason: String)
        case settle
    }
    /// What of a tenant's quota is bounded, 1 each.
    package struct Bounds: Hashable, Sendable {
        package var tenant: String
        package var share: QuotaShare
    }

    /// The revision of the command that began it.
    package var number: UInt64
    package var host: HostID
    package var to: UInt64
    /// The epoch of the root's map under which it is here, and which ends.
    package var assignment: UInt64
    package var phase = Phase.preparing
    /// This cell keeps the names of its region.
    package var keepsNames = false
    /// Of the tenants with VMs on it, ascending.
    package var bounds: [Bounds] = []
    /// Since when it is in this phase.
    package var since: LogTime
    /// Why it stays.
    package var reason = ""
    /// All that are on it.
    package var vms: UInt64 = 0
    /// Once it is committed: where the generations of its leases go on, and the longest lease in milliseconds that it may still
    /// hold.
    package var leaseBase: UInt64 = 0
    package var lease: UInt64 = 0
    package init(number: UInt64, host: HostID, to: UInt64, assignment: UInt64, since: LogTime) {
        self.number = number
        self.host = host
        self.to = to
        self.assignment = assignment
        self.since = since
    }
}

extension HostMove {
    /// What of its tenant's quota goes along with a VM.
    package func share(of vm: CellVM) -> QuotaShare {
        guard let bounds = bounds.first(where: { $0.tenant == vm.tenant }) else { return .zero }
        let charge = vm.spec.charge
        let mask = bounds.share.vector
        return QuotaShare(
            vms: mask[0] > 0 ? 1 : 0, cpuMillis: mask[1] > 0 ? charge.cpuMillis : 0,
            memoryMiB: mask[2] > 0 ? charge.memoryMiB : 0, diskMiB: mask[3] > 0 ? charge.diskMiB : 0)
    }

    /// What the other cell is asked to keep, of a host with these VMs, in parts that are no larger than they have to be.
    /// Each with those of `groups` that its VMs are in.
    package func preparations(
        of host: CellHost, _ vms: [CellVM], from cell: UInt64, groups: [CellGroup] = []
    ) -> [CellCommand.Operation] {
        var parts: [HostPreparation] = []
        var host = host
        host.assignment = assignment
        var part = HostPreparation(from: cell, number: number, host: host, items: [])
        // hash order: looked up only
        let known = Dictionary(groups.map { (HostPreparation.GroupName($0), $0) }) { first, _ in first }
        var bytes = 0
        for vm in vms {
            let names = vm.spec.groups.map { HostPreparation.GroupName(tenant: vm.tenant, name: $0) }
            let size = vm.encoded().count + 64 + names.count * HostPreparation.groupBytes
            if !part.items.isEmpty,
                part.items.count == CellLimits.hostPartMax || bytes + size > CellLimits.hostPartBytesMax
            {
                parts.append(part)
                part.items = []
                part.groups = []
                bytes = 0
            }
            for group in names.compactMap({ known[$0] }) where !part.groups.contains(group) {
                part.groups.append(group)
            }
            part.items.append(HostPreparation.Item(vm: vm, share: share(of: vm)))
            bytes += size
        }
        parts.append(part)
        return parts.map { .prepareHost($0) }
    }

    /// What the other cell is told in the end. `open` are all moves of hosts from the cell that are kept.
    package func ending(from cell: UInt64, open: [HostMove]) -> CellCommand.Operation {
        let floor = open.filter { $0.to == to }.map(\.number).min() ?? number
        return .endHost(
            HostEnding(
                from: cell, number: number, host: host, isCommitted: phase == .committed, vms: vms,
                leaseBase: leaseBase, lease: lease, floor: min(floor, number)))
    }
}

/// A part of what a cell is asked to keep for a host that may come to it: the host, and some of its VMs.
package struct HostPreparation: Hashable, Sendable {
    package struct Item: Hashable, Sendable {
        package var vm: CellVM
        package var share: QuotaShare
        package init(vm: CellVM, share: QuotaShare) {
            self.vm = vm
            self.share = share
        }
    }
    /// A group takes no more bytes than this.
    static let groupBytes = 2 * CellLimits.nameBytesMax + 40
    struct GroupName: Hashable {
        var tenant: String
        var name: String
        init(tenant: String, name: String) {
            self.tenant = tenant
            self.name = name
        }
        init(_ group: CellGroup) { self.init(tenant: group.tenant, name: group.name) }
    }
    package var from: UInt64
    package var number: UInt64
    package var host: CellHost
    package var items: [Item]
    /// Those that their VMs are in, made there where they are missing.
    package var groups: [CellGroup] = []
    package init(from: UInt64, number: UInt64, host: CellHost, items: [Item]) {
        self.from = from
        self.number = number
        self.host = host
        self.items = items
    }
}

/// The word on a host that was to come to another cell.
package struct HostEnding: Hashable, Sendable {
    package var from: UInt64
    package var number: UInt64
    package var host: HostID
    package var isCommitted: Bool
    package var vms: UInt64
    package var leaseBase: UInt64
    package var lease: UInt64
    package var floor: UInt64
    package init(
        from: UInt64, number: UInt64, host: HostID, isCommitted: Bool, vms: UInt64, leaseBase: UInt64, lease: UInt64,
        floor: UInt64
    ) {
        self.from = from
        self.number = number
        self.host = host
        self.isCommitted = isCommitted
        self.vms = vms
        self.leaseBase = leaseBase
        self.lease = lease
        self.floor = floor
    }
}

/// A host that may come from another cell, as it was there.
package struct HostArrival: Hashable, Sendable {
    package var host: CellHost
    package var from: UInt64
    package var number: UInt64
}

extension CellHost {
    /// It goes to another cell with its VMs.
    package struct Departure: Hashable, Sendable {
        package var number: UInt64
        package var to: UInt64
        package init(number: UInt64, to: UInt64) {
            self.number = number
            self.to = to
        }
    }
}

extension HostMove: CellCoded, CellMapped {
    init?(_ wire: WireHostMove) {
        guard let phase = Phase(rawValue: wire.phase.rawValue) else { return nil }
        self.init(
            number: wire.number, host: HostID(wire.host), to: wire.to, assignment: wire.assignment,
            since: LogTime(wire.since))
        self.phase = phase
        keepsNames = wire.keepsNames
        bounds = wire.bounds.map { Bounds(tenant: $0.tenant, share: QuotaShare($0.share)) }
        reason = wire.reason
        vms = wire.vms
        leaseBase = wire.leaseBase
        lease = wire.lease
    }
    var wire: WireHostMove {
        WireHostMove(
            number: number, host: host.rawValue, to: to, assignment: assignment,
            phase: WireHostMovePhase(rawValue: phase.rawValue), keepsNames: keepsNames,
            bounds: bounds.map { WireHostMove.Bounds(tenant: $0.tenant, share: $0.share.sparse) },
            since: since.rawValue, reason: reason, vms: vms, leaseBase: leaseBase, lease: lease)
    }
}

extension HostArrival: CellCoded, CellMapped {
    init?(_ wire: WireHostArrival) {
        guard let host = wire.host.flatMap(CellHost.init) else { return nil }
        self.init(host: host, from: wire.from, number: wire.number)
    }
    var wire: WireHostArrival { WireHostArrival(host: host.wire, from: from, number: number) }
}

extension HostPreparation: CellMapped {
    init?(_ wire: WireCellCommand.PrepareHost) {
        guard let host = wire.host.flatMap(CellHost.init) else { return nil }
        var items: [Item] = []
        for item in wire.items {
            guard let vm = item.vm.flatMap(CellVM.init) else { return nil }
            items.append(Item(vm: vm, share: QuotaShare(item.share)))
        }
        self.init(from: wire.from, number: wire.number, host: host, items: items)
        groups = wire.groups.compactMap { CellGroup($0) }
        if groups.count != wire.groups.count { return nil }
    }
    var wire: WireCellCommand.PrepareHost {
        WireCellCommand.PrepareHost(
            from: from, number: number, host: host.wire,
            items: items.map { WireCellCommand.PrepareHost.Item(vm: $0.vm.wire, share: $0.share.sparse) },
            groups: groups.map(\.wire))
    }
}

extension HostEnding: CellMapped {
    init?(_ wire: WireCellCommand.EndHost) {
        self.init(
            from: wire.from, number: wire.number, host: HostID(wire.host), isCommitted: wire.isCommitted, vms: wire.vms,
            leaseBase: wire.leaseBase, lease: wire.lease, floor: wire.floor)
    }
    var wire: WireCellCommand.EndHost {
        WireCellCommand.EndHost(
            from: from, number: number, host: host.rawValue, isCommitted: isCommitted, vms: vms, leaseBase: leaseBase,
            lease: lease, floor: floor)
    }
}

extension WireCellCommand.AdvanceHost {
    init(_ number: UInt64, _ step: HostMove.Step) {
        switch step {
        case .commit(let through): self.init(number: number, step: .commit, through: through.rawValue)
        case .abort(let reason): self.init(number: number, step: .abort, reason: reason)
        case .settle: self.init(number: number, step: .settle)
        }
    }
    var next: HostMove.Step? {
        switch step {
        case .commit: .commit(through: LogIndex(through))
        case .abort: .abort(reason: reason)
        case .settle: .settle
        default: nil
        }
    }
}
