public import ClusterBase

/// What a VM asks for, as people write it.
public struct VMDescription: Hashable, Sendable {
    public struct NamedSelector: Hashable, Sendable {
        public enum Match: Hashable, Sendable {
            case oneOf([String])
            case noneOf([String])
            case exists
            case absent
        }
        public var key: String
        public var match: Match
        public init(_ key: String, _ match: Match) {
            self.key = key
            self.match = match
        }
    }
    public struct NamedPreference: Hashable, Sendable {
        public var selector: NamedSelector
        public var weight: Int
        public init(_ selector: NamedSelector, weight: Int) {
            self.selector = selector
            self.weight = weight
        }
    }
    public struct NamedToleration: Hashable, Sendable {
        public var key: String
        /// Nil: any value.
        public var value: String?
        public init(_ key: String, value: String? = nil) {
            self.key = key
            self.value = value
        }
    }
    public struct NamedDeviceWish: Hashable, Sendable {
        public var kinds: [String]
        public var count: Int
        public var millis: Int32
        public init(kinds: [String], count: Int = 1, millis: Int32 = Device.wholeMillis) {
            self.kinds = kinds
            self.count = count
            self.millis = millis
        }
    }
    public struct NamedDisk: Hashable, Sendable {
        public enum Kind: Hashable, Sendable {
            case shared(domain: String)
            case local
            case ephemeral
        }
        public var name: String
        public var sizeMiB: Int64
        public var kind: Kind
        /// What it begins with; empty for nothing.
        public var image: String
        public init(name: String, sizeMiB: Int64, kind: Kind, image: String = "") {
            self.name = name
            self.sizeMiB = sizeMiB
            self.kind = kind
            self.image = image
        }
    }
    public enum Restart: Int32, Hashable, Sendable, CaseIterable { case always = 1, onFailure, never }
    /// What becomes of it when its host is cut off.
    public enum Isolation: Int32, Hashable, Sendable, CaseIterable {
        /// It stops, and may start elsewhere after the lease.
        case stop = 1
        /// It runs on, and never starts elsewhere without the host's word or an operator's.
        case keep
    }

    /// Without local disks, which are counted from `disks`.
    public var resources: Resources
    public var numa = NUMAWish.none
    public var devices: [NamedDeviceWish] = []
    public var devicesOnSameNodes = false
    public var required: [NamedSelector] = []
    public var preferred: [NamedPreference] = []
    public var tolerations: [NamedToleration] = []
    public var disks: [NamedDisk] = []
    public var networks: [String] = []
    /// Empty: all.
    public var zones: [String] = []
    public var priority: Int32 = 0
    /// Placement groups by name.
    public var groups: [String] = []
    public var policy: PlacementPolicy?
    public var restart = Restart.always
    /// Restarts in place within ten minutes before it counts as looping.
    public var restartsMax: UInt32 = 5
    public var isolation = Isolation.stop
    public var labels: [Named] = []
    /// For drivers: `sim.boot-ms`, `qemu.kernel`, …
    public var annotations: [Named] = []

    public init(resources: Resources) { self.resources = resources }

    /// All that it takes from its host: its resources and its local and ephemeral disks.
    public var demand: Resources {
        var sum = resources
        for disk in disks {
            if case .shared = disk.kind { continue }
            sum.diskMiB += disk.sizeMiB
        }
        return sum
    }
    /// True when a disk of its host can't be had elsewhere.
    public var isBoundToHost: Bool { disks.contains { $0.kind == .local } }
}

/// Where a VM is, and the permission to run there.
public struct VMPlace: Hashable, Sendable {
    public var assignment: Assignment
    /// One higher with every permission to start it, in place too; never the same twice for a VM.
    public var epoch: UInt64
    /// It is to stop, and leaves when its host has confirmed that.
    public var isReleasing = false
    public init(_ assignment: Assignment, epoch: UInt64) {
        self.assignment = assignment
        self.epoch = epoch
    }
}

/// A live migration under way.
public struct Migration: Hashable, Sendable {
    public enum Phase: Int32, Hashable, Sendable, CaseIterable {
        /// Room is kept at the destination, memory is copied; everything can still go back.
        case copying = 1
        /// Committed: the VM is the destination's, and only forward exists. It ends when the source has confirmed that its
        /// copy is gone.
        case leaving
        /// Given up: it ends when the destination has confirmed that it holds nothing.
        case undoing
    }
    public enum Cause: Int32, Hashable, Sendable, CaseIterable { case asked = 1, drain, rebalance, preemption }
    public var phase: Phase
    public var cause: Cause
    /// Where it goes: the place with its epoch that becomes the VM's by the commit.
    public var target: VMPlace
    /// Where it came from, once `leaving`.
    public var source: VMPlace
    public var since: LogTime
    /// What the source said of it last: thousandths of the memory copied. 1000 only when all is copied and the source has
    /// paused it: then the move can be committed.
    public var progressMillis: UInt32 = 0
    public var isCopied: Bool { progressMillis >= 1_000 }
    public init(phase: Phase, cause: Cause, target: VMPlace, source: VMPlace, since: LogTime) {
        self.phase = phase
        self.cause = cause
        self.target = target
        self.source = source
        self.since = since
    }
}

/// A VM of a cell.
public struct CellVM: Hashable, Sendable {
    /// What its owner wants.
    public enum Power: Int32, Hashable, Sendable, CaseIterable { case running = 1, paused, stopped }
    /// What it is known to do.
    public enum Phase: Int32, Hashable, Sendable, CaseIterable {
        /// Waits for a place.
        case waiting = 1
        /// Has a place and permission to start there.
        case starting
        case running
        case paused
        /// Its host was told to stop it.
        case stopping
        case stopped
        /// Ended by itself or could not start; starts again when its policy allows.
        case crashed
        /// Ended too often; waits for somebody.
        case looping
        /// Its host is down, and it can't or may not start elsewhere.
        case unknown
    }

    public var id: VMID
    public var name: String
    public var tenant: String
    public var spec: VMDescription
    /// Of its specification and wishes; what `If-Match` compares.
    public var generation: UInt64 = 1
    public var power = Power.running
    /// It goes as soon as it is stopped.
    public var isDeleting = false
    public var place: VMPlace?
    public var migration: Migration?
    public var phase = Phase.waiting
    /// Since when it is in this phase.
    public var since: LogTime
    /// Why it waits or what went wrong, for people.
    public var message = ""
    /// The generation of the specification that runs.
    public var runningGeneration: UInt64 = 0
    /// The highest epoch ever given out.
    public var epochHighest: UInt64 = 0
    /// Restarts after crashes since `restartsSince`.
    public var restarts: UInt32 = 0
    public var restartsSince = LogTime.zero
    /// Where it waits among those without a place: priority first, then this.
    public var queuedAt = LogTime.zero
    public var createdAt: LogTime
    public var createdBy: String
    /// Of its last change, whatever it was.
    public var revision = Revision.zero
    /// The host that has its local disks; it is placed nowhere else.
    public var boundTo: HostID?
    /// What it may still take of its hosts where that is more than its specification says: until its host has reported
    /// that the smaller one is in force.
    public var held: Resources?
    /// The entries with its last events, ascending.
    public var events: [LogIndex] = []

    /// What it counts for on each of its hosts.
    public var demand: Resources { held ?? spec.demand }

    public init(id: VMID, name: String, tenant: String, spec: VMDescription, at: LogTime, by: String) {
        self.id = id
        self.name = name
        self.tenant = tenant
        self.spec = spec
        since = at
        createdAt = at
        createdBy = by
    }
}

/// What is remembered of a VM that is gone.
public struct CellTombstone: Hashable, Sendable {
    public var id: VMID
    public var name: String
    public var tenant: String
    public var deletedAt: LogTime
    public var deletedBy: String
    public var events: [LogIndex]
    public init(
        id: VMID, name: String, tenant: String, deletedAt: LogTime, deletedBy: String, events: [LogIndex] = []
    ) {
        self.id = id
        self.name = name
        self.tenant = tenant
        self.deletedAt = deletedAt
        self.deletedBy = deletedBy
        self.events = events
    }
}

/// A placement group by name, of one tenant.
public struct CellGroup: Hashable, Sendable {
    public var id: PlacementGroupID
    public var name: String
    public var tenant: String
    public var rule: PlacementGroup.Rule
    public var scope: PlacementGroup.Scope
    public var isHard: Bool
    public var weight: Int
    public var memberCount: UInt64 = 0
    public init(
        id: PlacementGroupID = PlacementGroupID(0), name: String, tenant: String, rule: PlacementGroup.Rule,
        scope: PlacementGroup.Scope = .host, isHard: Bool = true, weight: Int = 50
    ) {
        self.id = id
        self.name = name
        self.tenant = tenant
        self.rule = rule
        self.scope = scope
        self.isHard = isHard
        self.weight = weight
    }
}

/// What a tenant may have. Nil: no bound.
public struct Quota: Hashable, Sendable {
    public var vmCount: UInt64?
    public var cpuMillis: Int64?
    public var memoryMiB: Int64?
    public var diskMiB: Int64?
    public init(vmCount: UInt64? = nil, cpuMillis: Int64? = nil, memoryMiB: Int64? = nil, diskMiB: Int64? = nil) {
        self.vmCount = vmCount
        self.cpuMillis = cpuMillis
        self.memoryMiB = memoryMiB
        self.diskMiB = diskMiB
    }
    public static let unlimited = Quota()
}

/// What a cell was lent of a tenant's quota, and what of it is in use.
public struct TenantSlice: Hashable, Sendable {
    public var tenant: String
    /// Of the root's row that it was made from; older ones are refused.
    public var revision: Revision
    public var quota: Quota
    /// Of its VMs, placed or not; `used.diskMiB` counts all disks, shared ones too.
    public var usedCount: UInt64 = 0
    public var used = Resources.zero
    /// Results kept for repetitions of its commands.
    public var requestCount: UInt64 = 0
    public var groupCount: UInt64 = 0
    public init(tenant: String, revision: Revision = .zero, quota: Quota = .unlimited) {
        self.tenant = tenant
        self.revision = revision
        self.quota = quota
    }
}

/// Something that happened, for people and for the audit.
public struct CellEvent: Hashable, Sendable {
    public var revision: Revision
    public var time: LogTime
    /// `vm.created`, `vm.placed`, `host.down`, … The list is in FleetModel's page.
    public var kind: String
    public var tenant: String
    /// Names of what it is about; empty where there is none.
    public var vm: String
    public var host: String
    public var by: String
    public var text: String
    /// An operator asked for it: it is part of the audit, and so are such commands that were refused.
    public var isAudit = false
    public var vmID: VMID?
    public var hostID: HostID?
    public init(
        revision: Revision, time: LogTime, kind: String, tenant: String = "", vm: String = "", host: String = "",
        by: String, text: String
    ) {
        self.revision = revision
        self.time = time
        self.kind = kind
        self.tenant = tenant
        self.vm = vm
        self.host = host
        self.by = by
        self.text = text
    }
}
