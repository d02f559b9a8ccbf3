package import ClusterBase

/// A name and a value, as people write them: a label, an annotation.
package struct Named: Hashable, Comparable, Sendable {
    package var key: String
    package var value: String
    package init(_ key: String, _ value: String) {
        self.key = key
        self.value = value
    }
    package static func < (a: Named, b: Named) -> Bool { a.key == b.key ? a.value < b.value : a.key < b.key }
}

/// A taint as people write it.
package struct NamedTaint: Hashable, Sendable {
    package var key: String
    package var value: String
    package var effect: Taint.Effect
    package init(_ key: String, _ value: String = "", effect: Taint.Effect = .noPlacement) {
        self.key = key
        self.value = value
        self.effect = effect
    }
}

/// A device of a host by the name of its kind.
package struct NamedDevice: Hashable, Sendable {
    package var kind: String
    package var numaNode: UInt8?
    package init(kind: String, numaNode: UInt8? = nil) {
        self.kind = kind
        self.numaNode = numaNode
    }
}

/// What a host's agent found out about its machine, and what its settings say of it.
package struct HostDescription: Hashable, Sendable {
    package var name: String
    package var locality: Locality
    package var capacity: Resources
    package var numaNodes: [NUMANode]
    package var devices: [NamedDevice]
    /// From the agent's settings; an operator's labels come on top.
    package var labels: [Named]
    package var storageDomains: [String]
    package var networks: [String]
    /// The driver that runs VMs here: `simulated`, `qemu`.
    package var driver: String
    /// Storage domains of its settings that it does not reach, and why, as sentences. Wants feature level 3.
    package var storageProblems: [Named] = []
    /// VMs can have a TPM here. Wants feature level 3.
    package var hasTPM = false
    /// Whom its VMs' processes run as, as a sentence; empty where there are none. Wants feature level 3.
    package var guestUser = ""
    package init(
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
package struct HostPolicy: Hashable, Sendable {
    /// Kept for the host itself; taken off after overcommit.
    package var reserved: Resources
    package var overcommit: Overcommit
    package var labels: [Named]
    package var taints: [NamedTaint]
    package init(
        reserved: Resources = .zero, overcommit: Overcommit = .none, labels: [Named] = [], taints: [NamedTaint] = []
    ) {
        self.reserved = reserved
        self.overcommit = overcommit
        self.labels = labels
        self.taints = taints
    }
}

/// A host of a cell. Its number is its node's.
package struct CellHost: Hashable, Sendable {
    /// What an operator wants of it.
    package enum Duty: Int32, Hashable, Sendable, CaseIterable {
        case inService = 1
        /// What is here stays, nothing comes.
        case cordoned
        /// What is here leaves, nothing comes.
        case draining
        /// Empty, and nothing comes.
        case maintenance
    }
    /// What the cell's leader knows of it.
    package enum Health: Int32, Hashable, Sendable, CaseIterable {
        case up = 1
        /// Its lease has run out: what it ran, it runs no more.
        case down
        /// An operator took it out of the cell. For ever.
        case removed
        /// Its lease has run out, as was said before: what it ran waits for it until its time is over. Feature level 3.
        case away
    }

    package var id: HostID
    package var about: HostDescription
    package var policy = HostPolicy()
    package var duty = Duty.inService
    package var health = Health.up
    /// The agent's process that registered last.
    package var incarnation: Incarnation
    /// Of its last change by an operator; what `If-Match` compares.
    package var generation: UInt64 = 1
    package var since: LogTime
    /// The last entry that changed what the host is to do.
    package var workIndex = LogIndex.zero
    /// Of its VMs, its arriving ones and those that are still leaving.
    package var used = Resources.zero
    package var vmCount: UInt64 = 0
    /// Of each of its NUMA nodes; shorter than the list of nodes where none is in use.
    package var numaUsed: [NUMANode] = []
    /// Thousandths of each of its devices; shorter than the list of devices where none is in use.
    package var devicesUsed: [Int32] = []
    /// The epoch of the root's map under which it is here, or was.
    package var assignment: UInt64 = 0
    /// It went to another cell: its health is `removed`, and it may come back under a later epoch.
    package var isReleased = false
    package var departure: Departure?
    /// The cell that it went to with its VMs; 0 for none.
    package var wentTo: UInt64 = 0
    /// It stays here under assignments below this one: said after a way to another cell was called off, or instead of one.
    package var staysBelow: UInt64 = 0
    /// What comes before the index in the generation of its leases: above all that cells where it was have granted.
    package var leaseBase: UInt64 = 0
    /// It drains, and no move off it begins.
    package var isDrainPaused = false
    /// Until then it is to be away, and what it runs starts nowhere else; zero for one that is not.
    package var awayUntil = LogTime.zero
    /// When somebody said that it is off; zero for nobody, and for one whose agent has registered since.
    package var declaredDeadAt = LogTime.zero
    /// The revision that began the drain whose VMs have it as their origin; 0 for none: those of drains before are void. Wants
    /// feature level 3, as the next ones do.
    package var drain: UInt64 = 0
    /// What becomes of these: while it is not in service what was said beforehand.
    package var returns = HostReturn.none
    /// They are to come back, and no move begins.
    package var isReturnPaused = false
    /// VMs that have it as their origin.
    package var awayCount: UInt64 = 0
    /// What may not stay here since it was changed is moved off it, until nothing more can be. Wants feature level 3.
    package var isEnforced = false

    package init(id: HostID, about: HostDescription, incarnation: Incarnation, since: LogTime) {
        self.id = id
        self.about = about
        self.incarnation = incarnation
        self.since = since
    }

    /// What placement sees.
    package var state: HostState {
        if health != .up { return .down }
        switch duty {
        case .inService:
            return departure == nil && awayUntil == .zero && declaredDeadAt == .zero ? .ready : .cordoned
        case .cordoned: return .cordoned
        case .draining: return .draining
        case .maintenance: return .maintenance
        }
    }

    /// VMs that left it by a drain come back, or take it first when they go anywhere.
    package var takesBack: Bool { returns != .none && drain > 0 && state == .ready }

    package var offered: Resources { policy.overcommit.applied(to: about.capacity) - policy.reserved }
    /// The settings' labels and the operator's, of which the latter win.
    package var labels: [Named] {
        policy.labels + about.labels.filter { own in !policy.labels.contains { $0.key == own.key } }
    }
}
