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
        /// The other cell has kept it, at a host that its memory goes to while it runs on.
        case sending
    }
    /// What its coordinator does with it next.
    package enum Step: Int32, Hashable, Sendable, CaseIterable { case leave = 1, commit, abort, settle, send }

    /// The place that the other cell has kept for one that is sent there live.
    package struct FarEnd: Hashable, Sendable {
        package var host: HostID
        package var epoch: UInt64
        package init(_ host: HostID, epoch: UInt64) {
            self.host = host
            self.epoch = epoch
        }
    }

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
    /// It stops here and starts there, also where it could go while it runs.
    package var isCold = false
    /// The epoch under which it was sent live, once it is committed; 0 for one that went cold.
    package var sent: UInt64 = 0
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
        let sender = isCold || cause == .regionLost ? nil : vm.sender
        return CellArrival(
            from: cell, number: number, vm: vm.id, name: vm.name, tenant: vm.tenant, spec: vm.spec, power: vm.power,
            generation: vm.generation, share: share, createdAt: vm.createdAt, createdBy: vm.createdBy, request: request,
            droppedDisks: vm.droppedDisks, home: home, lostAt: vm.lostAt, sender: sender,
            epoch: sender == nil ? 0 : vm.epochHighest, groups: groups)
    }

    /// What the other cell is told in the end. `open` are all moves from the cell that are kept.
    package func ending(from cell: UInt64, open: [CellMove]) -> CellCommand.Operation {
        let floor = open.filter { $0.to == to }.map(\.number).min() ?? number
        return .endArrival(
            vm, from: cell, number: number, isCommitted: phase == .committed, epoch: epoch, floor: min(floor, number),
            downSince: downSince, sent: sent)
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
    /// Where it runs, of one that may be sent live, and the highest epoch that was given out there.
    package var sender: HostID?
    package var epoch: UInt64 = 0
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
        /// Its memory goes to a host there.
        package var far: Far?
        package init(number: UInt64, to: UInt64, isLeaving: Bool = false) {
            self.number = number
            self.to = to
            self.isLeaving = isLeaving
        }
    }

    /// A live migration to a host of another cell. Until that cell is told of the commit nothing of it runs there.
    package struct Far: Hashable, Sendable {
        package var end: CellMove.FarEnd
        /// The epoch of the copy that is sent. One that began since then is another one.
        package var source: UInt64
        /// As of a migration within the cell.
        package var progressMillis: UInt32 = 0
        package var intent: MoveIntent
        /// Why it can't be sent; empty while it may be.
        package var failure = ""
        package var isCopied: Bool { progressMillis >= 1_000 }
        package init(_ end: CellMove.FarEnd, source: UInt64, _ intent: MoveIntent) {
            self.end = end
            self.source = source
            self.intent = intent
        }
    }

    /// It may come from another cell, whose it still is. Its place here is kept for it, and nothing of it runs there.
    package struct Arrival: Hashable, Sendable {
        package var from: UInt64
        package var number: UInt64
        package var share: QuotaShare
        /// The host there that its memory comes from while it runs.
        package var sender: HostID?
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

    /// The migration that its host is to send: within the cell, or to a host of another one.
    package var sending: Migration? {
        if let migration { return migration.phase == .copying ? migration : nil }
        guard let far = departure?.far, let place, place.epoch == far.source, !place.isReleasing, far.failure.isEmpty,
            departure?.isLeaving == false, phase == .running || phase == .paused
        else { return nil }
        var migration = Migration(
            phase: .copying, cause: .asked, intent: far.intent,
            target: VMPlace(Assignment(host: far.end.host), epoch: far.end.epoch), source: place, since: since)
        migration.progressMillis = far.progressMillis
        return migration
    }

    /// What is sent is the copy that runs; where that has ended, or is to, nothing of it comes.
    mutating func endSending() {
        guard let far = departure?.far, far.failure.isEmpty, sending == nil else { return }
        departure?.far?.failure = "it does not run any more where it was sent from"
    }

    /// Its host, where it runs and nothing keeps it from being sent to another cell live.
    var sender: HostID? {
        guard let place, !place.isReleasing, !isDeleting, migration == nil, !spec.isBoundToHost,
            power != .stopped, phase == .running || phase == .paused
        else { return nil }
        return place.assignment.host
    }

    /// It would be sent to another cell live.
    package var goesLive: Bool { sender != nil }

    /// A host has something to do for it: it is this cell's, or its memory comes there.
    var isWork: Bool { arrival.map { $0.sender != nil } ?? true }

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

extension CellMove.FarEnd {
    init?(_ wire: WireCellCommand.AdvanceMove, _ step: CellMove.Step) {
        if step != .send { return nil }
        self.init(HostID(wire.host), epoch: wire.epoch)
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
        isCold = wire.isCold
        sent = wire.sent
    }
    var wire: WireCellMove {
        WireCellMove(
            number: number, vm: vm.rawValue, tenant: tenant, to: to, phase: WireCellMovePhase(rawValue: phase.rawValue),
            share: share.sparse, request: request, epoch: epoch, since: since.rawValue, home: home?.wire,
            cause: WireCellMoveCause(rawValue: cause.rawValue), downSince: downSince.rawValue, isCold: isCold,
            sent: sent)
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
            lostAt: LogTime(wire.lostAt), sender: wire.sender == 0 ? nil : HostID(wire.sender), epoch: wire.epoch,
            groups: groups)
    }
    var wire: WireCellCommand.PrepareArrival {
        WireCellCommand.PrepareArrival(
            from: from, number: number, vm: vm.rawValue, name: name, tenant: tenant, spec: spec.wire,
            power: WireVmPower(rawValue: power.rawValue), generation: generation, share: share.sparse,
            createdAt: createdAt.rawValue, createdBy: createdBy, request: request,
            droppedDisks: droppedDisks.map(\.wire), home: home?.wire, lostAt: lostAt.rawValue,
            sender: sender?.rawValue ?? 0, epoch: epoch, groups: groups.map(\.wire))
    }
}

extension CellVM.Home {
    init(_ wire: WireVmHome) { self.init(cell: wire.cell, region: wire.region, epoch: wire.epoch) }
    var wire: WireVmHome { WireVmHome(cell: cell, region: region, epoch: epoch) }
}

extension CellVM.Departure {
    init(_ wire: WireVmDeparture) {
        self.init(number: wire.number, to: wire.to, isLeaving: wire.isLeaving)
        far = wire.far.map { CellVM.Far($0) }
    }
    var wire: WireVmDeparture { WireVmDeparture(number: number, to: to, isLeaving: isLeaving, far: far?.wire) }
}

extension CellVM.Far {
    init(_ wire: WireFarMove) {
        self.init(
            CellMove.FarEnd(HostID(wire.host), epoch: wire.epoch), source: wire.source,
            MoveIntent(ofMove: wire.intent) ?? .balanced)
        progressMillis = wire.progressMillis
        failure = wire.failure
    }
    var wire: WireFarMove {
        WireFarMove(
            host: end.host.rawValue, epoch: end.epoch, source: source, progressMillis: progressMillis,
            intent: intent.ofMove, failure: failure)
    }
}

extension CellVM.Arrival: CellCoded, CellMapped {
    init(_ wire: WireVmArrival) {
        self.init(from: wire.from, number: wire.number, share: QuotaShare(wire.share))
        host = wire.host == 0 ? nil : HostID(wire.host)
        row = wire.row
        sender = wire.sender == 0 ? nil : HostID(wire.sender)
    }
    var wire: WireVmArrival {
        WireVmArrival(
            from: from, number: number, share: share.sparse, host: host?.rawValue ?? 0, row: row,
            sender: sender?.rawValue ?? 0)
    }
}
