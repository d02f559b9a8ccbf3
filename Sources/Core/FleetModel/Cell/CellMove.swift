import ClusterBase
internal import Schema

// VMs on their way from one cell to another: what the cells keep of them, and what they tell each other.

/// A VM's way to another cell, as the cell that it leaves keeps it: whoever leads that cell brings it to its end.
package struct CellMove: Hashable, Sendable {
    package enum Phase: Int32, Hashable, Sendable, CaseIterable {
        /// The other cell is asked to keep what the VM needs; nothing has changed for the VM.
        case preparing = 1
        /// The other cell has kept it. The VM is stopped and leaves its place.
        case leaving
        /// It is the other cell's, which is told so until it has said that it knows.
        case committed
        /// It stays. The other cell is told so until it has said that it knows.
        case aborting
    }
    /// What its coordinator does with it next.
    package enum Step: Int32, Hashable, Sendable, CaseIterable { case leave = 1, commit, abort, settle }

    /// Why it goes.
    package enum Cause: Int32, Hashable, Sendable, CaseIterable {
        case asked
        /// Its region is lost, and it has no place; it stays if it finds one first.
        case regionLost
        /// Its region is back, and it goes home.
        case regionBack
        /// Its region is evacuated: it runs until the other cell has what it needs.
        case evacuation

        func text(_ home: CellVM.Home?) -> String {
            guard let home else { return "" }
            return switch self {
            case .asked: ""
            case .regionLost: ": region \(home.region) is lost"
            case .regionBack: ": region \(home.region) is back"
            case .evacuation: ": its region is evacuated"
            }
        }
    }

    /// The revision of the command that began it.
    package var number: UInt64
    package var vm: VMID
    package var tenant: String
    package var to: UInt64
    package var phase = Phase.preparing
    /// Of the tenant's quota, which goes along.
    package var share: QuotaShare
    /// Under which its name is held where it goes; empty for none.
    package var request: [UInt8]
    /// The highest that was given out here, once it is committed.
    package var epoch: UInt64 = 0
    /// What it has as its home where it goes.
    package var home: CellVM.Home?
    package var cause = Cause.asked
    /// Since when it is down though it is to run, of one that leaves an evacuated region.
    package var downSince = LogTime.zero
    /// Since when it is in this phase.
    package var since: LogTime
    package init(
        number: UInt64, vm: VMID, tenant: String, to: UInt64, share: QuotaShare, request: [UInt8], since: LogTime
    ) {
        self.number = number
        self.vm = vm
        self.tenant = tenant
        self.to = to
        self.share = share
        self.request = request
        self.since = since
    }
}

extension CellMove {
    /// What the other cell is asked to keep for the VM, which is `vm` where it is.
    package func preparation(of vm: CellVM, from cell: UInt64, groups: [CellGroup] = []) -> CellArrival {
        CellArrival(
            from: cell, number: number, vm: vm.id, name: vm.name, tenant: vm.tenant, spec: vm.spec, power: vm.power,
            generation: vm.generation, share: share, createdAt: vm.createdAt, createdBy: vm.createdBy, request: request,
            droppedDisks: vm.droppedDisks, home: home, lostAt: vm.lostAt, groups: groups)
    }

    /// What the other cell is told in the end. `open` are all moves from the cell that are kept.
    package func ending(from cell: UInt64, open: [CellMove]) -> CellCommand.Operation {
        let floor = open.filter { $0.to == to }.map(\.number).min() ?? number
        return .endArrival(
            vm, from: cell, number: number, isCommitted: phase == .committed, epoch: epoch, floor: min(floor, number),
            downSince: downSince)
    }
}

/// A VM that may come from another cell.
package struct CellArrival: Hashable, Sendable {
    package var from: UInt64
    package var number: UInt64
    package var vm: VMID
    package var name: String
    package var tenant: String
    package var spec: VMDescription
    package var power: CellVM.Power
    package var generation: UInt64
    package var share: QuotaShare
    package var createdAt: LogTime
    package var createdBy: String
    package var request: [UInt8]
    package var droppedDisks: [CellRemains.Disk]
    package var home: CellVM.Home?
    /// Of one that was lost with its host, and does not run yet.
    package var lostAt = LogTime.zero
    /// Its groups, made there where they are missing.
    package var groups: [CellGroup] = []
}

extension CellVM {
    /// It goes to another cell.
    package struct Departure: Hashable, Sendable {
        package var number: UInt64
        package var to: UInt64
        /// The other cell has kept what it needs: it leaves its place, and takes no other here.
        package var isLeaving = false
        package init(number: UInt64, to: UInt64, isLeaving: Bool = false) {
            self.number = number
            self.to = to
            self.isLeaving = isLeaving
        }
    }

    /// It may come from another cell, whose it still is. Its place here is kept for it, and nothing of it runs there.
    package struct Arrival: Hashable, Sendable {
        package var from: UInt64
        package var number: UInt64
        package var share: QuotaShare
        /// It comes with this host, and is there what `row` says, a row of the cell that it comes from.
        package var host: HostID?
        package var row: [UInt8] = []
        package init(from: UInt64, number: UInt64, share: QuotaShare) {
            self.from = from
            self.number = number
            self.share = share
        }
    }

    /// Where it was when its region was lost: there it goes again if it is to, when the region is back.
    package struct Home: Hashable, Sendable {
        package var cell: UInt64
        package var region: String
        /// Of the declaration that it was lost.
        package var epoch: UInt64
        package init(cell: UInt64, region: String, epoch: UInt64) {
            self.cell = cell
            self.region = region
            self.epoch = epoch
        }
    }

    static func toCome(from cell: UInt64) -> String { "it is to come from cell number \(cell)" }

    /// Why no host takes one that is to come from another cell, as its row says since one was looked for; empty before that.
    var whyNotKept: String {
        guard let arrival, place == nil, message != CellVM.toCome(from: arrival.from) else { return "" }
        var why = ""
        for character in message {
            if why.utf8.count + character.utf8.count > CellLimits.textBytesMax { break }
            why.append(character)
        }
        return why
    }

    /// It is on its way between cells, and nobody changes it.
    var isBetweenCells: Bool { departure != nil || arrival != nil }
}

/// What a cell remembers of moves from another one: which are over, so that what comes late of them means nothing.
struct CellPeer: CellMapped {
    /// All with lower numbers are over.
    var floor: UInt64 = 0
    /// Others that are over, ascending.
    var ended: [UInt64] = []

    init() {}
    init?(_ wire: WireCellPeer) {
        floor = wire.floor
        ended = wire.ended
    }
    var wire: WireCellPeer { WireCellPeer(floor: floor, ended: ended) }

    func isOver(_ number: UInt64) -> Bool { number < floor || ended.contains(number) }

    mutating func end(_ number: UInt64, floor: UInt64) {
        if !isOver(number) {
            ended.append(number)
            ended.sort()
        }
        self.floor = max(self.floor, floor)
        let least = self.floor
        ended.removeAll { $0 < least }
    }
}

extension CellMove: CellCoded, CellMapped {
    init?(_ wire: WireCellMove) {
        guard let phase = Phase(rawValue: wire.phase.rawValue), let cause = Cause(rawValue: wire.cause.rawValue) else {
            return nil
        }
        self.init(
            number: wire.number, vm: VMID(wire.vm), tenant: wire.tenant, to: wire.to, share: QuotaShare(wire.share),
            request: wire.request, since: LogTime(wire.since))
        self.phase = phase
        epoch = wire.epoch
        home = wire.home.map { CellVM.Home($0) }
        self.cause = cause
        downSince = LogTime(wire.downSince)
    }
    var wire: WireCellMove {
        WireCellMove(
            number: number, vm: vm.rawValue, tenant: tenant, to: to, phase: WireCellMovePhase(rawValue: phase.rawValue),
            share: share.sparse, request: request, epoch: epoch, since: since.rawValue, home: home?.wire,
            cause: WireCellMoveCause(rawValue: cause.rawValue), downSince: downSince.rawValue)
    }
}

extension CellArrival: CellMapped {
    init?(_ wire: WireCellCommand.PrepareArrival) {
        guard let spec = wire.spec.flatMap(VMDescription.init), let power = CellVM.Power(rawValue: wire.power.rawValue)
        else { return nil }
        let groups = wire.groups.compactMap { CellGroup($0) }
        if groups.count != wire.groups.count { return nil }
        self.init(
            from: wire.from, number: wire.number, vm: VMID(wire.vm), name: wire.name, tenant: wire.tenant, spec: spec,
            power: power, generation: wire.generation, share: QuotaShare(wire.share),
            createdAt: LogTime(wire.createdAt),
            createdBy: wire.createdBy, request: wire.request,
            droppedDisks: wire.droppedDisks.map { CellRemains.Disk($0) }, home: wire.home.map { CellVM.Home($0) },
            lostAt: LogTime(wire.lostAt), groups: groups)
    }
    var wire: WireCellCommand.PrepareArrival {
        WireCellCommand.PrepareArrival(
            from: from, number: number, vm: vm.rawValue, name: name, tenant: tenant, spec: spec.wire,
            power: WireVmPower(rawValue: power.rawValue), generation: generation, share: share.sparse,
            createdAt: createdAt.rawValue, createdBy: createdBy, request: request,
            droppedDisks: droppedDisks.map(\.wire), home: home?.wire, lostAt: lostAt.rawValue,
            groups: groups.map(\.wire))
    }
}

extension CellVM.Home {
    init(_ wire: WireVmHome) { self.init(cell: wire.cell, region: wire.region, epoch: wire.epoch) }
    var wire: WireVmHome { WireVmHome(cell: cell, region: region, epoch: epoch) }
}

extension CellVM.Departure {
    init(_ wire: WireVmDeparture) { self.init(number: wire.number, to: wire.to, isLeaving: wire.isLeaving) }
    var wire: WireVmDeparture { WireVmDeparture(number: number, to: to, isLeaving: isLeaving) }
}

extension CellVM.Arrival: CellCoded, CellMapped {
    init(_ wire: WireVmArrival) {
        self.init(from: wire.from, number: wire.number, share: QuotaShare(wire.share))
        host = wire.host == 0 ? nil : HostID(wire.host)
        row = wire.row
    }
    var wire: WireVmArrival {
        WireVmArrival(from: from, number: number, share: share.sparse, host: host?.rawValue ?? 0, row: row)
    }
}
