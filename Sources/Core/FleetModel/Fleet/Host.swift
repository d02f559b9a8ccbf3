/// A property of a host: a key with one value.
@frozen public struct Label: Hashable, Comparable, Sendable {
    public var key: Word
    /// The one value that the key has on a host.
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
    /// What a taint does to VMs that don't tolerate it.
    public enum Effect: UInt8, Hashable, Sendable {
        /// Hard: no VM that does not tolerate it is placed here.
        case noPlacement
        /// Soft: such a VM is placed here only when other places are worse.
        case avoid
    }
    /// What a toleration has to name.
    public var key: Word
    /// What a toleration may name beside the key.
    public var value: Word
    /// Whether it refuses, or only makes the host a worse place.
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
    /// Such as a model; a VM names the kinds that it can use.
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
    /// Memory in MiB.
    public var memoryMiB: Int64
    @inlinable public init(cpuMillis: Int64, memoryMiB: Int64) {
        self.cpuMillis = cpuMillis
        self.memoryMiB = memoryMiB
    }
}

/// Whether a host takes new VMs.
public enum HostState: UInt8, Hashable, Sendable, CaseIterable, CustomStringConvertible {
    /// Only a `ready` host takes new VMs; on the others they stay (`cordoned`), leave (`draining`), have left
    /// (`maintenance`) or are lost (`down`).
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
    /// CPU promised per thousandth that is there.
    public var cpuMilli: Int64
    /// Memory promised per thousandth that is there.
    public var memoryMilli: Int64
    /// Disk promised per thousandth that is there.
    public var diskMilli: Int64
    /// Network bandwidth promised per thousandth that is there.
    public var networkMilli: Int64
    public init(
        cpuMilli: Int64 = 1000, memoryMilli: Int64 = 1000, diskMilli: Int64 = 1000, networkMilli: Int64 = 1000
    ) {
        self.cpuMilli = cpuMilli
        self.memoryMilli = memoryMilli
        self.diskMilli = diskMilli
        self.networkMilli = networkMilli
    }
    /// A host promises what it has.
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
    /// The most devices of one host.
    public static let devicesMax = 64

    /// Unique within an index.
    public var id: HostID
    /// What the hardware has.
    public var capacity: Resources
    /// What is kept for the host itself; taken off after overcommit.
    public var reserved: Resources
    /// How much more than `capacity` is promised to VMs.
    public var overcommit: Overcommit
    /// What each NUMA node has for VMs. CPU overcommit and memory overcommit apply to them as well.
    public var numaNodes: [NUMANode]
    /// A VM's assignment names them by their position here.
    public var devices: [Device]
    /// The region of the zone.
    public var region: Word
    /// What groups of scope zone spread over, and what a VM may be restricted to.
    public var zone: Word
    /// Racks of two zones are two racks, also when they have the same word.
    public var rack: Word
    /// What selectors of VMs look at; of two with one key the one with the lower value counts.
    public var labels: [Label]
    /// What keeps VMs away that don't tolerate it.
    public var taints: [Taint]
    /// Storage domains whose shared disks this host can open.
    public var storageDomains: [Word]
    /// Networks that a VM on this host can be attached to.
    public var networks: [Word]
    /// VMs can have a TPM here.
    public var hasTPM = false
    /// Whether it takes new VMs.
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
