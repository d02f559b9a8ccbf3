/// A property of a host: a key with one value.
@frozen public struct Label: Hashable, Comparable, Sendable {
    public var key: Word
    public var value: Word
    @inlinable public init(_ key: Word, _ value: Word) {
        self.key = key
        self.value = value
    }
    @inlinable public static func < (a: Label, b: Label) -> Bool {
        a.key == b.key ? a.value < b.value : a.key < b.key
    }
}

/// Keeps VMs away that do not tolerate it.
public struct Taint: Hashable, Comparable, Sendable {
    public enum Effect: UInt8, Hashable, Sendable {
        /// Hard: no VM that does not tolerate it is placed here.
        case noPlacement
        /// Soft: such a VM is placed here only when other places are worse.
        case avoid
    }
    public var key: Word
    public var value: Word
    public var effect: Effect
    public init(_ key: Word, _ value: Word = .none, effect: Effect = .noPlacement) {
        self.key = key
        self.value = value
        self.effect = effect
    }
    public static func < (a: Taint, b: Taint) -> Bool {
        if a.key != b.key { return a.key < b.key }
        if a.value != b.value { return a.value < b.value }
        return a.effect.rawValue < b.effect.rawValue
    }
}

/// One device of a host, such as a GPU. Its thousand parts can be shared where the request asks for a part.
public struct Device: Hashable, Sendable {
    /// The parts of a device that nobody uses.
    public static let wholeMillis: Int32 = 1000
    public var kind: Word
    /// The NUMA node that the device hangs on; nil when the host does not say.
    public var numaNode: UInt8?
    public init(kind: Word, numaNode: UInt8? = nil) {
        self.kind = kind
        self.numaNode = numaNode
    }
}

/// The CPUs and the memory of one NUMA node.
@frozen public struct NUMANode: Hashable, Sendable {
    public var cpuMillis: Int64
    public var memoryMiB: Int64
    @inlinable public init(cpuMillis: Int64, memoryMiB: Int64) {
        self.cpuMillis = cpuMillis
        self.memoryMiB = memoryMiB
    }
}

/// Whether a host takes new VMs.
public enum HostState: UInt8, Hashable, Sendable, CaseIterable, CustomStringConvertible {
    case ready, cordoned, draining, maintenance, down
    /// True for the one state in which VMs are placed on a host.
    public var takesVMs: Bool { self == .ready }
    public var description: String {
        switch self {
        case .ready: "ready"
        case .cordoned: "cordoned"
        case .draining: "draining"
        case .maintenance: "in maintenance"
        case .down: "down"
        }
    }
}

/// How much more than it has a host promises, in thousandths: 1000 is no overcommit.
public struct Overcommit: Hashable, Sendable {
    public var cpuMilli: Int64
    public var memoryMilli: Int64
    public var diskMilli: Int64
    public var networkMilli: Int64
    public init(
        cpuMilli: Int64 = 1000, memoryMilli: Int64 = 1000, diskMilli: Int64 = 1000, networkMilli: Int64 = 1000
    ) {
        self.cpuMilli = cpuMilli
        self.memoryMilli = memoryMilli
        self.diskMilli = diskMilli
        self.networkMilli = networkMilli
    }
    public static let none = Overcommit()

    /// `amount` as it is promised. Rounded down.
    public func applied(to amount: Resources) -> Resources {
        Resources(amount.vector &* SIMD4(cpuMilli, memoryMilli, diskMilli, networkMilli) / 1000)
    }
}

/// A host as placement sees it.
public struct Host: Hashable, Sendable {
    /// The most NUMA nodes and devices of one host.
    public static let numaNodesMax = 8
    public static let devicesMax = 64

    public var id: HostID
    /// What the hardware has.
    public var capacity: Resources
    /// What is kept for the host itself; taken off after overcommit.
    public var reserved: Resources
    public var overcommit: Overcommit
    /// What each NUMA node has for VMs. CPU overcommit and memory overcommit apply to them as well.
    public var numaNodes: [NUMANode]
    public var devices: [Device]
    public var region: Word
    public var zone: Word
    /// Racks of two zones are two racks, also when they have the same word.
    public var rack: Word
    public var labels: [Label]
    public var taints: [Taint]
    /// Storage domains whose shared disks this host can open.
    public var storageDomains: [Word]
    public var networks: [Word]
    public var state: HostState

    public init(
        id: HostID, capacity: Resources, reserved: Resources = .zero, overcommit: Overcommit = .none,
        numaNodes: [NUMANode] = [], devices: [Device] = [], region: Word = .none, zone: Word = .none,
        rack: Word = .none, labels: [Label] = [], taints: [Taint] = [], storageDomains: [Word] = [],
        networks: [Word] = [], state: HostState = .ready
    ) {
        self.id = id
        self.capacity = capacity
        self.reserved = reserved
        self.overcommit = overcommit
        self.numaNodes = numaNodes
        self.devices = devices
        self.region = region
        self.zone = zone
        self.rack = rack
        self.labels = labels
        self.taints = taints
        self.storageDomains = storageDomains
        self.networks = networks
        self.state = state
    }

    /// What VMs may take in all: capacity times overcommit, less what is reserved.
    public var offered: Resources { overcommit.applied(to: capacity) - reserved }
}
