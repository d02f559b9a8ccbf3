/// What a host's labels must be, or should be.
public struct Selector: Hashable, Sendable {
    public enum Match: Hashable, Sendable {
        case oneOf([Word])
        /// Also true where the key is missing.
        case noneOf([Word])
        case exists
        case absent
    }
    public var key: Word
    public var match: Match
    public init(_ key: Word, _ match: Match) {
        self.key = key
        self.match = match
    }

    public func matches(_ labels: [Label]) -> Bool {
        let label = labels.first { $0.key == key }
        switch match {
        case .oneOf(let values): return label.map { values.contains($0.value) } ?? false
        case .noneOf(let values): return label.map { !values.contains($0.value) } ?? true
        case .exists: return label != nil
        case .absent: return label == nil
        }
    }
}

/// A selector that adds to the score instead of refusing.
public struct Preference: Hashable, Sendable {
    public static let weightMax = 100
    public var selector: Selector
    /// From 1 to `weightMax`: how bad a host is that does not match.
    public var weight: Int
    public init(_ selector: Selector, weight: Int) {
        self.selector = selector
        self.weight = weight
    }
}

/// Lets a VM onto hosts with a taint of this key, and of this value unless that is nil.
public struct Toleration: Hashable, Sendable {
    public var key: Word
    public var value: Word?
    public init(_ key: Word, value: Word? = nil) {
        self.key = key
        self.value = value
    }
    public func tolerates(_ taint: Taint) -> Bool { taint.key == key && (value == nil || value == taint.value) }
}

/// How a VM's CPUs and memory must lie in the host's NUMA nodes. Both halves are always split evenly.
public enum NUMAWish: Hashable, Sendable {
    /// Anywhere; counts against the host only.
    case none
    /// Evenly over exactly this many nodes.
    case nodes(Int)
    /// On one node, else evenly over two, and so on up to this many.
    case fewest(max: Int)
}

/// Devices that a VM needs, all of kinds that it can use.
public struct DeviceWish: Hashable, Sendable {
    /// Any of these kinds; empty means any kind.
    public var kinds: [Word]
    public var count: Int
    /// Thousandths of each device: 1000 is the whole device, less is a part that others may share.
    public var millis: Int32
    public init(kinds: [Word] = [], count: Int = 1, millis: Int32 = Device.wholeMillis) {
        self.kinds = kinds
        self.count = count
        self.millis = millis
    }
}

/// A disk of a VM.
public struct Disk: Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        /// In a storage domain that several hosts can open; takes no room on the host.
        case shared(domain: Word)
        /// On the host's own disk: the VM waits for its host.
        case local
        /// On the host's own disk, and may be lost.
        case ephemeral
    }
    public var sizeMiB: Int64
    public var kind: Kind
    public init(sizeMiB: Int64, kind: Kind) {
        self.sizeMiB = sizeMiB
        self.kind = kind
    }
}

/// What a VM asks of a host. It doesn't say where the VM is.
public struct VMSpec: Hashable, Sendable {
    public static let groupsMax = 16
    public static let selectorsMax = 64
    public static let deviceWishesMax = 4

    public var id: VMID
    /// Without local disks, which are counted from `disks`.
    public var resources: Resources
    public var numa: NUMAWish
    public var devices: [DeviceWish]
    /// True when the devices must hang on the NUMA nodes that the VM gets.
    public var devicesOnSameNodes: Bool
    public var required: [Selector]
    public var preferred: [Preference]
    public var tolerations: [Toleration]
    public var disks: [Disk]
    public var networks: [Word]
    /// The zones it may be in; empty means all.
    public var zones: [Word]
    /// Higher preempts lower.
    public var priority: Int32
    public var tenant: TenantID
    public var groups: [PlacementGroupID]
    /// Takes the place of the cell's policy.
    public var policy: PlacementPolicy?

    public init(
        id: VMID, resources: Resources, numa: NUMAWish = .none, devices: [DeviceWish] = [],
        devicesOnSameNodes: Bool = false, required: [Selector] = [], preferred: [Preference] = [],
        tolerations: [Toleration] = [], disks: [Disk] = [], networks: [Word] = [], zones: [Word] = [],
        priority: Int32 = 0, tenant: TenantID = TenantID(rawValue: 0), groups: [PlacementGroupID] = [],
        policy: PlacementPolicy? = nil
    ) {
        self.id = id
        self.resources = resources
        self.numa = numa
        self.devices = devices
        self.devicesOnSameNodes = devicesOnSameNodes
        self.required = required
        self.preferred = preferred
        self.tolerations = tolerations
        self.disks = disks
        self.networks = networks
        self.zones = zones
        self.priority = priority
        self.tenant = tenant
        self.groups = groups
        self.policy = policy
    }

    /// All that the VM takes from its host: its resources and its local and ephemeral disks.
    public var demand: Resources {
        var sum = resources
        for disk in disks {
            if case .shared = disk.kind { continue }
            sum.diskMiB += disk.sizeMiB
        }
        return sum
    }
}

/// What the score is for. `pack`, `balance` and `spread` are the product's; the rest are baselines to compare with.
public enum PlacementPolicy: String, Hashable, Sendable, CaseIterable {
    /// Leaves the most room for the kinds of VMs that the fleet runs.
    case pack
    /// The host where the sum of squared shares in use grows the least.
    case balance
    /// The host with the fewest VMs.
    case spread
    /// The host with the lowest id.
    case firstFit
    /// The host with the least left, as a sum of shares.
    case bestFit
    /// The host with the most left, as a sum of shares.
    case worstFit
    /// The host with the least sum of squared shares left.
    case leastSquares
    /// The host whose free shares point the way that the demand points.
    case dotProduct
}
