public import ClusterBase

/// A name and a value, as people write them: a label, an annotation.
public struct Named: Hashable, Comparable, Sendable {
    public var key: String
    public var value: String
    public init(_ key: String, _ value: String) {
        self.key = key
        self.value = value
    }
    public static func < (a: Named, b: Named) -> Bool { a.key == b.key ? a.value < b.value : a.key < b.key }
}

/// A taint as people write it.
public struct NamedTaint: Hashable, Sendable {
    public var key: String
    public var value: String
    public var effect: Taint.Effect
    public init(_ key: String, _ value: String = "", effect: Taint.Effect = .noPlacement) {
        self.key = key
        self.value = value
        self.effect = effect
    }
}

/// A device of a host by the name of its kind.
public struct NamedDevice: Hashable, Sendable {
    public var kind: String
    public var numaNode: UInt8?
    public init(kind: String, numaNode: UInt8? = nil) {
        self.kind = kind
        self.numaNode = numaNode
    }
}

/// What a host's agent found out about its machine, and what its settings say of it.
public struct HostDescription: Hashable, Sendable {
    public var name: String
    public var locality: Locality
    public var capacity: Resources
    public var numaNodes: [NUMANode]
    public var devices: [NamedDevice]
    /// From the agent's settings; an operator's labels come on top.
    public var labels: [Named]
    public var storageDomains: [String]
    public var networks: [String]
    /// The driver that runs VMs here: `simulated`, `qemu`.
    public var driver: String
    public init(
        name: String, locality: Locality = Locality(), capacity: Resources, numaNodes: [NUMANode] = [],
        devices: [NamedDevice] = [], labels: [Named] = [], storageDomains: [String] = [], networks: [String] = [],
        driver: String = ""
    ) {
        self.name = name
        self.locality = locality
        self.capacity = capacity
        self.numaNodes = numaNodes
        self.devices = devices
        self.labels = labels
        self.storageDomains = storageDomains
        self.networks = networks
        self.driver = driver
    }
}

/// What an operator says of a host.
public struct HostPolicy: Hashable, Sendable {
    /// Kept for the host itself; taken off after overcommit.
    public var reserved: Resources
    public var overcommit: Overcommit
    public var labels: [Named]
    public var taints: [NamedTaint]
    public init(
        reserved: Resources = .zero, overcommit: Overcommit = .none, labels: [Named] = [], taints: [NamedTaint] = []
    ) {
        self.reserved = reserved
        self.overcommit = overcommit
        self.labels = labels
        self.taints = taints
    }
}

/// A host of a cell. Its number is its node's.
public struct CellHost: Hashable, Sendable {
    /// What an operator wants of it.
    public enum Duty: Int32, Hashable, Sendable, CaseIterable {
        case inService = 1
        /// What is here stays, nothing comes.
        case cordoned
        /// What is here leaves, nothing comes.
        case draining
        /// Empty, and nothing comes.
        case maintenance
    }
    /// What the cell's leader knows of it.
    public enum Health: Int32, Hashable, Sendable, CaseIterable {
        case up = 1
        /// Its lease has run out: what it ran, it runs no more.
        case down
        /// An operator took it out of the cell. For ever.
        case removed
    }

    public var id: HostID
    public var about: HostDescription
    public var policy = HostPolicy()
    public var duty = Duty.inService
    public var health = Health.up
    /// The agent's process that registered last.
    public var incarnation: Incarnation
    /// Of its last change by an operator; what `If-Match` compares.
    public var generation: UInt64 = 1
    public var since: LogTime
    /// The last entry that changed what the host is to do.
    public var workIndex = LogIndex.zero
    /// Of its VMs, its arriving ones and those that are still leaving.
    public var used = Resources.zero
    public var vmCount: UInt64 = 0
    /// Of each of its NUMA nodes; shorter than the list of nodes where none is in use.
    public var numaUsed: [NUMANode] = []
    /// Thousandths of each of its devices; shorter than the list of devices where none is in use.
    public var devicesUsed: [Int32] = []

    public init(id: HostID, about: HostDescription, incarnation: Incarnation, since: LogTime) {
        self.id = id
        self.about = about
        self.incarnation = incarnation
        self.since = since
    }

    /// What placement sees.
    public var state: HostState {
        if health != .up { return .down }
        switch duty {
        case .inService: return .ready
        case .cordoned: return .cordoned
        case .draining: return .draining
        case .maintenance: return .maintenance
        }
    }

    public var offered: Resources { policy.overcommit.applied(to: about.capacity) - policy.reserved }
    /// The settings' labels and the operator's, of which the latter win.
    public var labels: [Named] {
        policy.labels + about.labels.filter { own in !policy.labels.contains { $0.key == own.key } }
    }
}
