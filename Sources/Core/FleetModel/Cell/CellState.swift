internal import BinaryCoding
import ClusterBase
internal import Schema

// How a cell lies in its state. Every key begins with a kind byte: those of `CellTable`, and the ones below, which nobody
// outside asks for. The layout is read by later versions: a change needs a new kind byte.

enum CellKey {
    enum Kind {
        static let summary: UInt8 = 0x60
        /// ‖ tenant ‖ 0 ‖ name → id, of a VM or of the last one that was deleted
        static let vmName: UInt8 = 0x70
        /// ‖ tenant ‖ 0 ‖ name → id
        static let groupName: UInt8 = 0x71
        /// ‖ name → id; not of removed ones
        static let hostName: UInt8 = 0x72
        /// ‖ host ‖ VM → nothing; for each VM that counts on the host
        static let hostVM: UInt8 = 0x73
        /// ‖ tenant ‖ 0 ‖ VM → nothing
        static let tenantVM: UInt8 = 0x74
        /// ‖ priority, highest first ‖ since ‖ VM → nothing
        static let waiting: UInt8 = 0x75
        /// ‖ group ‖ domain → members that count in it, 8 bytes
        static let groupDomain: UInt8 = 0x76
        /// ‖ scope ‖ domain → hosts in it that take VMs, 8 bytes; of racks and zones
        static let taking: UInt8 = 0x77
        /// ‖ request id → `KeptCellRequest`
        static let request: UInt8 = 0x78
        /// ‖ time ‖ request id → tenant, and from feature level 3 on a 0: then it has a place in the tenant's order
        static let requestTime: UInt8 = 0x79
        /// ‖ index → `CellHistory`
        static let history: UInt8 = 0x7A
        /// ‖ index → `CellEvents`
        static let events: UInt8 = 0x7B
        /// ‖ time ‖ VM → nothing
        static let tombstoneTime: UInt8 = 0x7C
        /// ‖ time ‖ host → nothing; of hosts that were declared down and have not come back
        static let down: UInt8 = 0x7D
        /// ‖ tenant ‖ 0 ‖ name → `NameHold`, where this cell keeps the names of its region
        static let nameHold: UInt8 = 0x7E
        /// ‖ number of another cell → `CellPeer`
        static let peer: UInt8 = 0x7F
        /// ‖ tenant, empty for everybody's ‖ 0 ‖ name of an image → `ImageRelease`
        static let imageRelease: UInt8 = 0x80
        /// ‖ tenant ‖ 0 ‖ time ‖ request id → nothing
        static let requestOrder: UInt8 = 0x81
        /// ‖ gang ‖ VM → nothing; of VMs that wait for their first place together
        static let gangVM: UInt8 = 0x85
        /// ‖ mark ‖ 0 ‖ VM → nothing; what lists of VMs are filtered by
        static let vmMark: UInt8 = 0x86
        /// ‖ host ‖ VM → nothing; of VMs that may come from another cell with their host
        static let arriving: UInt8 = 0x91
        /// ‖ number of another cell → `CellPeer`, of moves of hosts
        static let hostPeer: UInt8 = 0x92
        static let sessions: UInt8 = 0x82
        static let session: UInt8 = 0x83
        static let sessionResult: UInt8 = 0x84
    }

    static let sessionKinds = SessionBook.Kinds(
        book: Kind.sessions, session: Kind.session, result: Kind.sessionResult)

    static let summary: [UInt8] = [Kind.summary]
    static func vmName(_ tenant: String, _ name: String) -> [UInt8] { named(Kind.vmName, tenant, name) }
    static func groupName(_ tenant: String, _ name: String) -> [UInt8] { named(Kind.groupName, tenant, name) }
    static func nameHold(_ tenant: String, _ name: String) -> [UInt8] { named(Kind.nameHold, tenant, name) }
    static func imageRelease(_ tenant: String, _ name: String) -> [UInt8] { named(Kind.imageRelease, tenant, name) }
    static func peer(_ cell: UInt64) -> [UInt8] { key(Kind.peer, cell) }
    static func hostPeer(_ cell: UInt64) -> [UInt8] { key(Kind.hostPeer, cell) }
    static func arriving(_ host: HostID) -> [UInt8] { key(Kind.arriving, host.rawValue) }
    static func arriving(_ host: HostID, _ vm: VMID) -> [UInt8] { key(Kind.arriving, host.rawValue, vm.rawValue) }
    static func hostName(_ name: String) -> [UInt8] { [Kind.hostName] + Array(name.utf8) }
    static func hostVM(_ host: HostID, _ vm: VMID) -> [UInt8] { key(Kind.hostVM, host.rawValue, vm.rawValue) }
    static func hostVMs(_ host: HostID) -> [UInt8] { key(Kind.hostVM, host.rawValue) }
    static func gangVM(_ gang: UInt64, _ vm: VMID) -> [UInt8] { key(Kind.gangVM, gang, vm.rawValue) }
    static func gangVMs(_ gang: UInt64) -> [UInt8] { key(Kind.gangVM, gang) }
    static func tenantVMs(_ tenant: String) -> [UInt8] { named(Kind.tenantVM, tenant, "") }
    static func tenantVM(_ tenant: String, _ vm: VMID) -> [UInt8] {
        var bytes = tenantVMs(tenant)
        bytes.appendBigEndian(vm.rawValue)
        return bytes
    }
    static func waiting(_ vm: CellVM) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(21)
        bytes.append(Kind.waiting)
        // Biased, so that unsigned order is the order of priorities, and turned round.
        bytes.appendBigEndian(~(UInt32(bitPattern: vm.spec.priority) ^ 0x8000_0000))
        bytes.appendBigEndian(vm.queuedAt.rawValue)
        bytes.appendBigEndian(vm.id.rawValue)
        return bytes
    }
    static func groupDomains(_ group: PlacementGroupID) -> [UInt8] { key(Kind.groupDomain, group.rawValue) }
    static func groupDomain(_ group: PlacementGroupID, _ domain: [UInt8]) -> [UInt8] { groupDomains(group) + domain }
    static func taking(_ scope: PlacementGroup.Scope, _ domain: [UInt8]) -> [UInt8] {
        [Kind.taking, scope.rawValue] + domain
    }
    static func request(_ request: [UInt8]) -> [UInt8] { [Kind.request] + request }
    static func requestTime(_ time: LogTime, _ request: [UInt8]) -> [UInt8] {
        key(Kind.requestTime, time.rawValue) + request
    }
    static func requestOrders(_ tenant: [UInt8]) -> [UInt8] { [Kind.requestOrder] + tenant + [0] }
    static func requestOrder(_ tenant: String, _ time: LogTime, _ request: [UInt8]) -> [UInt8] {
        var bytes = requestOrders(Array(tenant.utf8))
        bytes.appendBigEndian(time.rawValue)
        return bytes + request
    }
    static func history(_ index: LogIndex) -> [UInt8] { key(Kind.history, index.rawValue) }
    static func events(_ index: LogIndex) -> [UInt8] { key(Kind.events, index.rawValue) }
    static func tombstoneTime(_ time: LogTime, _ vm: VMID) -> [UInt8] {
        key(Kind.tombstoneTime, time.rawValue, vm.rawValue)
    }
    static func down(_ time: LogTime, _ host: HostID) -> [UInt8] { key(Kind.down, time.rawValue, host.rawValue) }

    private static func key(_ kind: UInt8, _ number: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(9)
        bytes.append(kind)
        bytes.appendBigEndian(number)
        return bytes
    }

    private static func key(_ kind: UInt8, _ first: UInt64, _ second: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(17)
        bytes.append(kind)
        bytes.appendBigEndian(first)
        bytes.appendBigEndian(second)
        return bytes
    }

    private static func named(_ kind: UInt8, _ tenant: String, _ name: String) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(tenant.utf8.count + name.utf8.count + 10)
        bytes.append(kind)
        bytes.append(contentsOf: tenant.utf8)
        bytes.append(0)
        bytes.append(contentsOf: name.utf8)
        return bytes
    }

    static func corrupt(_ key: [UInt8]) -> StoreError {
        let name = key.prefix(40).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        return StoreError(.corrupt, "the cell's row under key \(name) is none that this version can read")
    }
}

extension OrderedReader {
    func record<Record: CellMapped>(_ type: Record.Type, _ key: [UInt8]) throws(StoreError) -> Record? {
        guard let bytes = try value(for: key) else { return nil }
        guard let record = Record.decode(bytes) else { throw CellKey.corrupt(key) }
        return record
    }

    /// A row that is one number.
    func number(_ key: [UInt8]) throws(StoreError) -> UInt64? {
        guard let bytes = try value(for: key) else { return nil }
        guard bytes.count == 8, let number = bytes.bigEndian64(at: 0) else { throw CellKey.corrupt(key) }
        return number
    }

    /// The last eight bytes of the keys that begin with `prefix`, after the one that ends with `after`.
    func ids(
        _ prefix: [UInt8], after: UInt64? = nil, limit: Int = .max
    ) throws(StoreError) -> [UInt64] {
        var range = KeyRange.prefix(prefix)
        if let after {
            range.from = prefix
            range.from.appendBigEndian(after)
            range.from.append(0)
        }
        var ids: [UInt64] = []
        var bad: [UInt8]?
        try scan(range) { key, _ in
            guard let id = key.bigEndian64(at: key.count - 8) else {
                bad = key
                return false
            }
            ids.append(id)
            return ids.count < limit
        }
        if let bad { throw CellKey.corrupt(bad) }
        return ids
    }
}

extension UInt64 {
    var bigEndianBytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(8)
        bytes.appendBigEndian(self)
        return bytes
    }
}

/// What the cell knows of its own bookkeeping.
struct CellSummary: CellMapped {
    /// The last entry that was applied.
    var applied = LogIndex.zero
    var time = LogTime.zero
    /// All results that are kept, and of them those of no tenant.
    var requests: UInt64 = 0
    var cellRequests: UInt64 = 0
    var historyChanges: UInt64 = 0
    var historyBytes: UInt64 = 0
    /// Changes up to this entry may be gone.
    var compactedThrough = LogIndex.zero
    /// Of those that are not removed.
    var hosts: UInt64 = 0
    var hostsRemoved: UInt64 = 0
    var hostsTaking: UInt64 = 0
    var vms: UInt64 = 0
    var vmHighest: UInt64 = 0
    var groupHighest: UInt64 = 0
    var tenants: UInt64 = 0
    var tombstones: UInt64 = 0
    var events: UInt64 = 0
    var eventBytes: UInt64 = 0
    /// Events up to this entry may be gone.
    var eventsThrough = LogIndex.zero
    var groups: UInt64 = 0
    /// The cell is to be retired, and takes nothing any more.
    var isClosed = false
    /// Names that are held here.
    var names: UInt64 = 0
    /// VMs on their way to other cells, those included that have come to be heard of.
    var moves: UInt64 = 0
    /// Images that are noted as released, and the newest entry of the root of those that are noted no more.
    var imageReleases: UInt64 = 0
    var imagesFloor = LogIndex.zero
    /// VMs that are gone, and whose shared disks are not.
    var remains: UInt64 = 0
    /// VMs with ids up to this one have their marks, and no others.
    var markedThrough: UInt64 = 0
    var areAllMarked: Bool { markedThrough == .max }
    /// What the root said of regions, ascending by name.
    var regions: [CellRegion] = []
    /// Of the root's tenants it was heard up to there that one is gone: who knows less sets none.
    var tenantsFloor = LogIndex.zero
    /// Hosts on their way to other cells with their VMs, those included that have gone or stay and are still to be heard of; and
    /// such that may come.
    var hostMoves: UInt64 = 0
    var hostArrivals: UInt64 = 0
    /// Nil where nothing is kept free for losses.
    var reserve: ReserveCount?

    var historyIsTooLong: Bool {
        historyChanges > CellLimits.historyChangesMax || historyBytes > CellLimits.historyBytesMax
    }
    var eventsAreTooMany: Bool { events > CellLimits.eventsMax || eventBytes > CellLimits.eventBytesMax }

    static func read(_ access: some OrderedReader) throws(StoreError) -> CellSummary {
        try access.record(CellSummary.self, CellKey.summary) ?? CellSummary()
    }

    init() {}

    init?(_ wire: WireCellSummary) {
        applied = LogIndex(wire.applied)
        time = LogTime(wire.time)
        requests = wire.requests
        cellRequests = wire.cellRequests
        historyChanges = wire.historyChanges
        historyBytes = wire.historyBytes
        compactedThrough = LogIndex(wire.compactedThrough)
        hosts = wire.hosts
        hostsRemoved = wire.hostsRemoved
        hostsTaking = wire.hostsTaking
        vms = wire.vms
        vmHighest = wire.vmHighest
        groupHighest = wire.groupHighest
        tenants = wire.tenants
        tombstones = wire.tombstones
        events = wire.events
        eventBytes = wire.eventBytes
        eventsThrough = LogIndex(wire.eventsThrough)
        groups = wire.groups
        isClosed = wire.isClosed
        names = wire.names
        moves = wire.moves
        imageReleases = wire.imageReleases
        imagesFloor = LogIndex(wire.imagesFloor)
        remains = wire.remains
        markedThrough = wire.markedThrough
        regions = wire.regions.map { CellRegion($0) }
        tenantsFloor = LogIndex(wire.tenantsFloor)
        hostMoves = wire.hostMoves
        hostArrivals = wire.hostArrivals
        reserve = wire.reserve.flatMap { ReserveCount($0) }
    }

    var wire: WireCellSummary {
        WireCellSummary(
            applied: applied.rawValue, time: time.rawValue, requests: requests, historyChanges: historyChanges,
            historyBytes: historyBytes, compactedThrough: compactedThrough.rawValue, hosts: hosts,
            hostsRemoved: hostsRemoved, hostsTaking: hostsTaking, vms: vms, vmHighest: vmHighest, groups: groups,
            groupHighest: groupHighest, tenants: tenants, tombstones: tombstones, events: events,
            eventBytes: eventBytes, cellRequests: cellRequests, eventsThrough: eventsThrough.rawValue,
            isClosed: isClosed, names: names, moves: moves, imageReleases: imageReleases,
            imagesFloor: imagesFloor.rawValue, remains: remains, markedThrough: markedThrough,
            regions: regions.map(\.wire), tenantsFloor: tenantsFloor.rawValue,
            hostMoves: hostMoves, hostArrivals: hostArrivals, reserve: reserve?.wire)
    }
}

/// The outcome of a command with a request id.
struct KeptCellRequest: CellMapped {
    var digest: UInt64
    var result: CellResult

    init(digest: UInt64, result: CellResult) {
        self.digest = digest
        self.result = result
    }

    init?(_ wire: WireKeptCellRequest) {
        guard let result = wire.result.flatMap(CellResult.init) else { return nil }
        self.init(digest: wire.digest, result: result)
    }

    var wire: WireKeptCellRequest { WireKeptCellRequest(digest: digest, result: result.wire) }
}

/// A host, a slice or a group as an entry changes it; written once, at the entry's end.
struct Cached<Record> {
    /// Nil when it is not there, or no more.
    var record: Record?
    var isChanged = false
}
