import ClusterBase
public import FleetModel

/// The free room of a cell's hosts, kept up to date change by change, and the one place where decisions are made.
///
/// Hosts that no rule can tell apart, having the same labels, taints, storage, networks, zone and rack, share blocks
/// of up to 32. Rules are judged per block. For each shape of VM that is asked for, the index remembers the best
/// host of each block and of each bunch of up to 64 blocks, and repairs that from a log of changed hosts. So a
/// decision looks at hosts / 2048 summaries and the few blocks that can win; a change costs a constant for each
/// remembered shape, paid when that shape is next asked for. Only the first decision for a shape looks at every host.
///
/// A decision is a function of hosts, VMs, groups, mix, and seed. What is remembered, and the order of changes that
/// led to the state, never alter it. The type is a value: a copy is a fork on which a plan can be tried.
public struct PlacementIndex: Sendable {
    /// Shapes whose winners are remembered; past that the one unused for longest is forgotten.
    public static let shapesRememberedMax = 256
    static let blockShift = 5
    static let blockSize = 1 << PlacementIndex.blockShift
    static let worthSlots = 1 << 16

    /// Breaks ties of `balance` and `spread`, so that equal hosts don't fill in order of their ids.
    public let seed: UInt64
    /// What `pack` keeps room for.
    public internal(set) var mix = ShapeMix()
    /// What all hosts that are in the index offer together.
    public internal(set) var totals = FleetTotals()

    var seats: [Seat] = []
    var insides: [RoomInside?] = []
    var hosts: [Host?] = []
    var vmsOn: [[VMID]] = []
    // hash order: looked up, or read by sorted keys
    var slotOf: [HostID: Int32] = [:]
    var blocks: [Block] = []
    // hash order: looked up only
    var blocksOf: [BlockKey: [Int32]] = [:]
    var emptyBlocks: [Int32] = []
    var bunches: [Bunch] = []
    /// The newest bunch of blocks of several classes; -1: none.
    var mixedBunch: Int32 = -1
    var classes: [HostClass] = []
    // hash order: looked up only
    var classNumber: [HostClass: Int32] = [:]
    /// By class: how many blocks it has, and its newest bunch; -1: none.
    var classBlocks: [(blocks: Int32, bunch: Int32)] = []
    var domains = DomainTable()
    // hash order: looked up, or read by sorted keys
    var vms: [VMID: PlacedVM] = [:]
    // hash order: looked up, or read by sorted keys
    var groups: [PlacementGroupID: GroupState] = [:]
    var shapes = ShapeTable()
    var hostsTaking = 0

    var compiledMix = CompiledMix(ShapeMix())
    var worths = [RememberedWorth](repeating: RememberedWorth(), count: PlacementIndex.worthSlots)
    var winners: [Winners] = []
    // hash order: looked up only
    var winnersOf: [WinnersKey: Int] = [:]
    var useCount: UInt64 = 0
    /// Slots that changed, `~slot` where the host is another; the first has number `changesBase`.
    var changes: [Int32] = []
    /// By slot: the number of its last change.
    var lastChange: [Int] = []
    var changesBase = 0
    var verdicts = VerdictCache()

    public init(seed: UInt64 = 0) { self.seed = seed }

    // MARK: Reading

    /// How many hosts are in the index, in whatever state.
    public var hostCount: Int { slotOf.count }
    /// How many VMs are placed.
    public var vmCount: Int { vms.count }
    /// The host as it was added or changed last.
    public func host(_ id: HostID) -> Host? { slotOf[id].flatMap { hosts[Int($0)] } }
    /// The spec that the VM was placed with.
    public func spec(_ id: VMID) -> VMSpec? { vms[id]?.spec }
    /// The group as it was set last.
    public func group(_ id: PlacementGroupID) -> PlacementGroup? { groups[id]?.group }
    /// Where a VM is; nil when it isn't placed.
    public func assignment(_ id: VMID) -> Assignment? { vms[id]?.assignment }
    /// All hosts, ascending. O(hosts × log hosts).
    public var hostIDs: [HostID] { slotOf.keys.sorted() }
    /// All placed VMs, ascending. O(VMs × log VMs).
    public var vmIDs: [VMID] { vms.keys.sorted() }
    /// All groups, ascending.
    public var groupIDs: [PlacementGroupID] { groups.keys.sorted() }
    /// The VMs of one host, ascending.
    public func vms(on id: HostID) -> [VMID] { slotOf[id].map { vmsOn[Int($0)].sorted() } ?? [] }
    /// What a host has left; negative amounts say that a change from outside left it short.
    public func free(_ id: HostID) -> Resources? { slotOf[id].map { Resources(seats[Int($0)].free) } }
    /// What each NUMA node of a host has left.
    public func freeNodes(_ id: HostID) -> [NUMANode]? {
        guard let slot = slotOf[id] else { return nil }
        guard let nodes = insides[Int(slot)]?.nodes else { return [] }
        return (0..<nodes.count).map { NUMANode(cpuMillis: nodes.cpu[$0], memoryMiB: nodes.memory[$0]) }
    }
    /// What each device of a host has left, in thousandths.
    public func freeDevices(_ id: HostID) -> [Int32]? {
        guard let slot = slotOf[id] else { return nil }
        return insides[Int(slot)]?.devices ?? []
    }

    // MARK: Hosts

    /// Adds a host without VMs. O(1) beside what the remembered shapes pay later.
    public mutating func addHost(_ host: Host) throws(IndexError) {
        if slotOf[host.id] != nil { throw .hostExists(host.id) }
        try PlacementIndex.check(host)
        seat(host)
    }

    /// Takes a host out. Refused while VMs are on it.
    public mutating func removeHost(_ id: HostID) throws(IndexError) {
        guard let slot = slotOf[id] else { throw .unknownHost(id) }
        let count = vmsOn[Int(slot)].count
        if count > 0 { throw .hostHasVMs(id, count: count) }
        unseat(Int(slot))
    }

    /// Gives a host new properties; its VMs stay, even where it becomes too small for them (what is free is then
    /// negative). Refused when a VM has a NUMA node or a device that would be gone.
    public mutating func updateHost(_ host: Host) throws(IndexError) {
        guard let old = slotOf[host.id] else { throw .unknownHost(host.id) }
        try PlacementIndex.check(host)
        let stay = vmsOn[Int(old)].sorted()
        for id in stay {
            guard let vm = vms[id] else { preconditionFailure("VM \(id) is on \(host.id) but not known") }
            if let problem = PlacementIndex.mismatch(vm.assignment, host) { throw .badAssignment(problem) }
        }
        var moved: [PlacedVM] = []
        for id in stay { if let vm = takeOff(id) { moved.append(vm) } }
        unseat(Int(old))
        let slot = seat(host)
        for vm in moved { putOn(slot, vm) }
    }

    /// Cordons, drains, or takes a host back.
    public mutating func setState(_ id: HostID, _ state: HostState) throws(IndexError) {
        guard let slot32 = slotOf[id] else { throw .unknownHost(id) }
        let slot = Int(slot32)
        hosts[slot]?.state = state
        let takes = state.takesVMs
        if seats[slot].takesVMs == takes { return }
        seats[slot].takesVMs = takes
        countTaking(slot, takes ? 1 : -1)
        changed(slot)
    }

    // MARK: VMs

    /// Records that a VM is where `assignment` says. The caller has decided: capacity and rules are not judged here,
    /// so that a state read back from elsewhere can always be indexed; use `validate` to judge.
    public mutating func place(_ spec: VMSpec, _ assignment: Assignment) throws(IndexError) {
        if vms[spec.id] != nil { throw .vmExists(spec.id) }
        if let problem = PlacementIndex.problem(spec) { throw .badVM(problem) }
        guard let slot = slotOf[assignment.host] else { throw .unknownHost(assignment.host) }
        for id in spec.groups where groups[id] == nil { throw .unknownGroup(id) }
        if !assignment.numaNodes.isEmpty || !assignment.devices.isEmpty, let host = hosts[Int(slot)],
            let problem = PlacementIndex.mismatch(assignment, host)
        {
            throw .badAssignment(problem)
        }
        putOn(Int(slot), PlacedVM(spec: spec, assignment: assignment, slot: slot))
    }

    /// Takes a VM off its host and says where it was.
    @discardableResult
    public mutating func remove(_ id: VMID) throws(IndexError) -> Assignment {
        guard let vm = takeOff(id) else { throw .unknownVM(id) }
        return vm.assignment
    }

    // MARK: Groups and mix

    /// Adds a group or changes its rule. Members placed before are not judged again.
    public mutating func setGroup(_ group: PlacementGroup) {
        if groups[group.id]?.group.scope == group.scope {
            groups[group.id]?.group = group
            return
        }
        let members = groups[group.id]?.members ?? 0
        groups[group.id] = GroupState(group)
        if members == 0 { return }
        for id in vms.keys.sorted() {
            guard let vm = vms[id], vm.spec.groups.contains(group.id) else { continue }
            countMember(group.id, Int(vm.slot), 1)
        }
    }

    /// Takes a group out; it must have no members.
    public mutating func removeGroup(_ id: PlacementGroupID) throws(IndexError) {
        guard let state = groups[id] else { throw .unknownGroup(id) }
        if state.members > 0 { throw .groupHasMembers(id, count: state.members) }
        groups[id] = nil
    }

    /// The mix of the VMs that are placed now. Shapes that need kinds of devices of which less is left than of others
    /// count for more, so that VMs which take any kind leave these alone. O(hosts + shapes × log shapes).
    public func mixOfPlacedVMs() -> ShapeMix {
        let devices = freeDevices()
        return ShapeMix(counts: shapes.counted, totals: totals) { devices.scarcity($0) }
    }

    private func freeDevices() -> FreeDevices {
        var free = FreeDevices()
        if totals.devices.isEmpty { return free }
        for inside in insides {
            guard let inside else { continue }
            for d in inside.devices.indices {
                free.add(inside.layout.kinds[d], Int64(max(0, inside.devices[d])))
            }
        }
        return free
    }

    /// The mix of VMs that are not placed yet: for a batch in an empty cell.
    public func mix(of specs: [VMSpec]) -> ShapeMix {
        var table = ShapeTable()
        for spec in specs { _ = table.add(Shape(spec)) }
        return ShapeMix(counts: table.counted, totals: totals)
    }

    /// Changes what `pack` keeps room for; every remembered winner is found anew. O(hosts × shapes of the mix) at
    /// worst, far less where hosts have equal room. Do it rarely: a mix changes slowly.
    public mutating func setMix(_ mix: ShapeMix) {
        if mix == self.mix { return }
        self.mix = mix
        compiledMix = CompiledMix(mix)
        for i in worths.indices { worths[i].value = -1 }
        for slot in seats.indices where seats[slot].isUsed { seats[slot].worth = worth(slot) }
        winners.removeAll()
        winnersOf.removeAll()
        changesBase += changes.count
        changes.removeAll(keepingCapacity: true)
    }
}

/// A VM and its place.
struct PlacedVM: Hashable, Sendable {
    var spec: VMSpec
    var assignment: Assignment
    var slot: Int32
    /// Its number in the table of shapes while it is placed.
    var shape: Int32 = -1
}

/// The shapes of placed VMs and how many VMs have each. A number is free again when its last VM goes.
struct ShapeTable: Sendable {
    // hash order: looked up only
    private var numbers: [Shape: Int32] = [:]
    private var shapes: [Shape] = []
    private var counts: [Int] = []
    private var unused: [Int32] = []

    var counted: [(shape: Shape, count: Int)] { zip(shapes, counts).filter { $0.1 > 0 }.map { ($0, $1) } }

    mutating func add(_ shape: Shape) -> Int32 {
        if let number = numbers[shape] {
            counts[Int(number)] += 1
            return number
        }
        if let number = unused.popLast() {
            shapes[Int(number)] = shape
            counts[Int(number)] = 1
            numbers[shape] = number
            return number
        }
        let number = Int32(shapes.count)
        shapes.append(shape)
        counts.append(1)
        numbers[shape] = number
        return number
    }

    mutating func remove(_ number: Int32) {
        counts[Int(number)] -= 1
        if counts[Int(number)] > 0 { return }
        numbers[shapes[Int(number)]] = nil
        unused.append(number)
    }
}

/// All devices and what is left of them, by kind.
struct FreeDevices {
    private var kinds: [(kind: Word, free: Int64, all: Int64)] = []

    mutating func add(_ kind: Word, _ left: Int64) {
        let all = Int64(Device.wholeMillis)
        if let i = kinds.firstIndex(where: { $0.kind == kind }) {
            kinds[i].free += left
            kinds[i].all += all
        } else {
            kinds.append((kind, left, all))
        }
    }

    /// How much rarer the kinds that a shape can use are among free devices than among all, from 1/8 to 8.
    func scarcity(_ shape: Shape) -> Double {
        var most = 1.0
        for wish in shape.devices where !wish.kinds.isEmpty {
            var (free, all, freeOfIts, allOfIts) = (0.0, 0.0, 0.0, 0.0)
            for kind in kinds {
                free += Double(kind.free)
                all += Double(kind.all)
                if !wish.kinds.contains(kind.kind) { continue }
                freeOfIts += Double(kind.free)
                allOfIts += Double(kind.all)
            }
            if all <= 0 || allOfIts <= 0 { continue }
            let rarity = (free / all) / max(freeOfIts / allOfIts, 1.0 / 256)
            most = wish == shape.devices[0] ? rarity : max(most, rarity)
        }
        return min(max(most, 1.0 / 8), 8)
    }
}

/// The worth of one state of a host's room, by the hash of that state.
struct RememberedWorth: Sendable {
    var key: UInt64 = 0
    /// Below zero: nothing is remembered.
    var value: Int64 = -1
}

/// What rules on a host alone look at, beside its zone, and what is inside it.
struct HostClass: Hashable, Sendable {
    var region: Word
    var labels: [Label]
    var taints: [Taint]
    var storageDomains: [Word]
    var networks: [Word]
    var hasTPM: Bool
    var nodeCount: Int
    /// Ascending, each once.
    var deviceKinds: [Word]

    init(_ host: Host) {
        nodeCount = host.numaNodes.count
        deviceKinds = []
        for device in host.devices where !deviceKinds.contains(device.kind) { deviceKinds.append(device.kind) }
        deviceKinds.sort()
        region = host.region
        labels = host.labels.sorted()
        taints = host.taints.sorted()
        storageDomains = host.storageDomains.sorted()
        networks = host.networks.sorted()
        hasTPM = host.hasTPM
    }

    /// False when no host of this class takes the shape, however empty it is.
    func couldTake(_ shape: Shape) -> Bool {
        if shape.nodesMin > nodeCount { return false }
        for wish in shape.devices {
            if deviceKinds.isEmpty { return false }
            if !wish.kinds.isEmpty && !deviceKinds.contains(where: { wish.kinds.contains($0) }) { return false }
        }
        return true
    }
}

struct BlockKey: Hashable, Sendable {
    var hostClass: Int32
    var rack: Int32
}

/// Up to 32 hosts of one class in one rack: slots `32 × number ..< 32 × (number + 1)`.
struct Block: Hashable, Sendable {
    var key: BlockKey
    var zone: Int32
    var bunch: Int32 = -1
    /// Slots from the first up to the last that was ever used.
    var span = 0
    var count = 0
    var taking = 0
}

/// Up to 64 blocks: of one class, or the first blocks of several classes, so that classes of a host each don't get
/// bunches of a block each.
struct Bunch: Hashable, Sendable {
    static let blocksMax = 64
    /// -1: of several classes.
    var hostClass: Int32
    var blocks: [Int32] = []
}

/// Zones and racks as dense numbers, with how many of their hosts take VMs.
struct DomainTable: Sendable {
    struct RackName: Hashable, Sendable {
        var zone: Word
        var rack: Word
    }
    var zoneWords: [Word] = []
    var zoneTaking: [Int] = []
    var rackNames: [RackName] = []
    var rackTaking: [Int] = []
    var rackZone: [Int32] = []
    // hash order: looked up only
    private var zoneNumber: [Word: Int32] = [:]
    // hash order: looked up only
    private var rackNumber: [RackName: Int32] = [:]

    mutating func zone(_ word: Word) -> Int32 {
        if let number = zoneNumber[word] { return number }
        let number = Int32(zoneWords.count)
        zoneWords.append(word)
        zoneTaking.append(0)
        zoneNumber[word] = number
        return number
    }

    mutating func rack(_ zoneWord: Word, _ rackWord: Word) -> Int32 {
        let name = RackName(zone: zoneWord, rack: rackWord)
        if let number = rackNumber[name] { return number }
        let number = Int32(rackNames.count)
        rackNames.append(name)
        rackTaking.append(0)
        rackZone.append(zone(zoneWord))
        rackNumber[name] = number
        return number
    }
}

/// How many members of a group each domain has.
struct GroupState: Sendable {
    var group: PlacementGroup
    var members = 0
    /// By zone or rack number; unused for groups over hosts.
    var counts: [Int32] = []
    /// For groups over hosts: slots with members, ascending, and their counts.
    var slots: [Int32] = []
    var slotCounts: [Int32] = []

    init(_ group: PlacementGroup) { self.group = group }

    func position(_ slot: Int32) -> Int {
        var low = 0
        var high = slots.count
        while low < high {
            let middle = (low + high) / 2
            if slots[middle] < slot { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Counts members that come to a host or go from it.
    mutating func change(slot: Int32, rack: Int32, zone: Int32, _ sign: Int32) {
        members += Int(sign)
        switch group.scope {
        case .host:
            let at = position(slot)
            if at < slots.count && slots[at] == slot {
                slotCounts[at] += sign
                if slotCounts[at] == 0 {
                    slots.remove(at: at)
                    slotCounts.remove(at: at)
                }
            } else {
                slots.insert(slot, at: at)
                slotCounts.insert(sign, at: at)
            }
        case .rack, .zone:
            let domain = Int(group.scope == .rack ? rack : zone)
            while counts.count <= domain { counts.append(0) }
            counts[domain] += sign
        }
    }

    @inline(__always) func count(slot: Int32) -> Int {
        let at = position(slot)
        return at < slots.count && slots[at] == slot ? Int(slotCounts[at]) : 0
    }

    @inline(__always) func count(domain: Int32) -> Int {
        Int(domain) < counts.count ? Int(counts[Int(domain)]) : 0
    }
}
