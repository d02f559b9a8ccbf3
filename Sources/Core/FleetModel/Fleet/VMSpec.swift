/// What a host's labels must be, or should be.
public struct Selector: Hashable, Sendable {
    /// What the value of a label must be.
    public enum Match: Hashable, Sendable {
        /// One of these values; a host without the key does not match.
        case oneOf([Word])
        /// Also true where the key is missing.
        case noneOf([Word])
        /// The key is there, with any value.
        case exists
        /// The key is not there.
        case absent
    }
    /// The label that is looked at.
    public var key: Word
    /// What its value must be.
    public var match: Match
    public init(_ key: Word, _ match: Match) {
        self.key = key
        self.match = match
    }

    /// Whether a host with these labels is one of those meant.
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
    /// The weight of the strongest preference.
    public static let weightMax = 100
    /// What the VM likes.
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
    /// The key of the taints that it tolerates.
    public var key: Word
    /// The only value that it tolerates; nil for all of them.
    public var value: Word?
    public init(_ key: Word, value: Word? = nil) {
        self.key = key
        self.value = value
    }
    /// Whether this taint does not keep the VM away.
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
    /// How many such devices, at least one.
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
    /// Where a disk lies.
    public enum Kind: Hashable, Sendable {
        /// In a storage domain that several hosts can open; takes no room on the host.
        case shared(domain: Word)
        /// On the host's own disk: the VM waits for its host.
        case local
        /// On the host's own disk, and may be lost.
        case ephemeral
    }
    /// Its size in MiB.
    public var sizeMiB: Int64
    /// Whether it ties the VM to its host.
    public var kind: Kind
    public init(sizeMiB: Int64, kind: Kind) {
        self.sizeMiB = sizeMiB
        self.kind = kind
    }
}

/// What a VM asks of a host. It doesn't say where the VM is.
public struct VMSpec: Hashable, Sendable {
    /// The most groups of one VM.
    public static let groupsMax = 16
    /// The most selectors and the most preferences of one VM.
    public static let selectorsMax = 64
    /// The most kinds of devices that one VM wishes for.
    public static let deviceWishesMax = 4

    /// Unique within an index.
    public var id: VMID
    /// Without local disks, which are counted from `disks`.
    public var resources: Resources
    /// How it must lie in the host's NUMA nodes.
    public var numa: NUMAWish
    /// What it needs of devices; at most `deviceWishesMax`.
    public var devices: [DeviceWish]
    /// True when the devices must hang on the NUMA nodes that the VM gets.
    public var devicesOnSameNodes: Bool
    /// Every one of these must match the host's labels.
    public var required: [Selector]
    /// Those that don't match make a host a worse place by their weight.
    public var preferred: [Preference]
    /// Which taints don't keep it away.
    public var tolerations: [Toleration]
    /// Shared disks must be within reach of the host; the others take room on it.
    public var disks: [Disk]
    /// All of these must be at the host.
    public var networks: [Word]
    /// It can only be where VMs can have a TPM.
    public var wantsTPM = false
    /// The zones it may be in; empty means all.
    public var zones: [Word]
    /// Higher preempts lower.
    public var priority: Int32
    /// Whose quota it counts against; placement itself knows no quotas.
    public var tenant: TenantID
    /// Groups that it is a member of: at most `groupsMax`, each once and known to the index.
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
