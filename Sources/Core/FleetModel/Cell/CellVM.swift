package import ClusterBase

/// What a VM asks for, as people write it.
package struct VMDescription: Hashable, Sendable {
    package struct NamedSelector: Hashable, Sendable {
        package enum Match: Hashable, Sendable {
            case oneOf([String])
            case noneOf([String])
            case exists
            case absent
        }
        package var key: String
        package var match: Match
        package init(_ key: String, _ match: Match) {
            self.key = key
            self.match = match
        }
    }
    package struct NamedPreference: Hashable, Sendable {
        package var selector: NamedSelector
        package var weight: Int
        package init(_ selector: NamedSelector, weight: Int) {
            self.selector = selector
            self.weight = weight
        }
    }
    package struct NamedToleration: Hashable, Sendable {
        package var key: String
        /// Nil: any value.
        package var value: String?
        package init(_ key: String, value: String? = nil) {
            self.key = key
            self.value = value
        }
    }
    package struct NamedDeviceWish: Hashable, Sendable {
        package var kinds: [String]
        package var count: Int
        package var millis: Int32
        package init(kinds: [String], count: Int = 1, millis: Int32 = Device.wholeMillis) {
            self.kinds = kinds
            self.count = count
            self.millis = millis
        }
    }
    package struct NamedDisk: Hashable, Sendable {
        package enum Kind: Hashable, Sendable {
            case shared(domain: String)
            case local
            case ephemeral
        }
        package var name: String
        package var sizeMiB: Int64
        package var kind: Kind
        /// What it begins with; empty for nothing.
        package var image: String
        /// A shared one stays when the VM is deleted. Wants feature level 3.
        package var isKept = false
        package init(name: String, sizeMiB: Int64, kind: Kind, image: String = "", isKept: Bool = false) {
            self.name = name
            self.sizeMiB = sizeMiB
            self.kind = kind
            self.image = image
            self.isKept = isKept
        }
    }
    package enum Restart: Int32, Hashable, Sendable, CaseIterable { case always = 1, onFailure, never }
    /// What becomes of it when its host is cut off.
    package enum Isolation: Int32, Hashable, Sendable, CaseIterable {
        /// It stops, and may start elsewhere after the lease.
        case stop = 1
        /// It runs on, and never starts elsewhere without the host's word or an operator's.
        case keep
    }

    /// What becomes of it when its region is lost.
    package enum RegionLoss: Int32, Hashable, Sendable, CaseIterable {
        /// It waits for hosts of its cell.
        case homeOnly
        /// It goes to a cell of another region if its own has no place for it.
        case mayMove
        /// The same, before all that may.
        case mustMove
    }

    /// What its cell is chosen by first, of those that have room.
    package enum CellChoice: Int32, Hashable, Sendable, CaseIterable { case near, cheap }

    /// Without local disks, which are counted from `disks`.
    package var resources: Resources
    package var numa = NUMAWish.none
    package var devices: [NamedDeviceWish] = []
    package var devicesOnSameNodes = false
    package var required: [NamedSelector] = []
    package var preferred: [NamedPreference] = []
    package var tolerations: [NamedToleration] = []
    package var disks: [NamedDisk] = []
    package var networks: [String] = []
    /// Empty: all.
    package var zones: [String] = []
    package var priority: Int32 = 0
    /// Placement groups by name.
    package var groups: [String] = []
    package var policy: PlacementPolicy?
    package var restart = Restart.always
    /// Restarts in place within ten minutes before it counts as looping.
    package var restartsMax: UInt32 = 5
    package var isolation = Isolation.stop
    package var regionLoss = RegionLoss.homeOnly
    /// When its region is back it goes home; else it stays where it came to. Wants feature level 3, as these others do.
    package var returnsHome = false
    /// Where it may go when its region is lost; empty: to any region.
    package var regions: [String] = []
    /// Regions to which its way is to be short; empty for none. Wants feature level 3, as the next two do.
    package var near: [String] = []
    /// The longest round trip to any of them that it may have, in milliseconds; 0: of any length.
    package var nearWithin: UInt32 = 0
    package var cellChoice = CellChoice.near
    package var labels: [Named] = []
    /// For drivers: `sim.boot-ms`, `qemu.kernel`, …
    package var annotations: [Named] = []
    /// For drivers too, and for nobody else; ascending by key. Wants feature level 3.
    package var secrets: [SecretField] = []
    /// A TPM 2.0, and where what it remembers lies; nil for none. Wants feature level 3.
    package var tpm: NamedDisk.Kind?
    /// How it is moved where nobody says; nil: as its cell is set. Wants feature level 3.
    package var moveIntent: MoveIntent?
    /// What their boxes are bound to beside the VM's name: no other VM has the same. The cell gives none away twice, and none
    /// changes in a VM's life.
    package var sealMark: [UInt8] = []

    package init(resources: Resources) { self.resources = resources }

    /// All that it takes from its host: its resources and its local and ephemeral disks.
    package var demand: Resources {
        var sum = resources
        for disk in disks {
            if case .shared = disk.kind { continue }
            sum.diskMiB += disk.sizeMiB
        }
        return sum
    }
    /// Of its disks on its host, which move along with it.
    package var diskMiBOnHost: Int64 {
        disks.reduce(0) { sum, disk in
            if case .shared = disk.kind { return sum }
            return sum + min(disk.sizeMiB, CellLimits.diskMiBMax)
        }
    }
    /// True when a disk of its host, or what its TPM remembers there, can't be had elsewhere.
    package var isBoundToHost: Bool { tpm == .local || disks.contains { $0.kind == .local } }
    /// Where it keeps what is shared, with repetitions.
    package var sharedDomains: [String] {
        (disks.map(\.kind) + [tpm].compactMap { $0 }).compactMap { kind in
            if case .shared(let domain) = kind { domain } else { nil }
        }
    }
}

/// Where a VM is, and the permission to run there.
package struct VMPlace: Hashable, Sendable {
    package var assignment: Assignment
    /// One higher with every permission to start it, in place too; never the same twice for a VM.
    package var epoch: UInt64
    /// It is to stop, and leaves when its host has confirmed that.
    package var isReleasing = false
    package init(_ assignment: Assignment, epoch: UInt64) {
        self.assignment = assignment
        self.epoch = epoch
    }
}

/// A live migration under way.
package struct Migration: Hashable, Sendable {
    package enum Phase: Int32, Hashable, Sendable, CaseIterable {
        /// Room is kept at the destination, memory is copied; everything can still go back.
        case copying = 1
        /// Committed: the VM is the destination's, and only forward exists. It ends when the source has confirmed that its
        /// copy is gone.
        case leaving
        /// Given up: it ends when the destination has confirmed that it holds nothing.
        case undoing
    }
    package enum Cause: Int32, Hashable, Sendable, CaseIterable {
        case asked = 1, drain, rebalance, preemption
        /// Back where it was before a drain. Wants feature level 3.
        case `return` = 14
        /// Its host has no room for it any more, or it may not be there. Wants feature level 3.
        case capacity = 25
    }
    package var phase: Phase
    package var cause: Cause
    /// Where it goes: the place with its epoch that becomes the VM's by the commit.
    package var target: VMPlace
    /// Where it came from, once `leaving`.
    package var source: VMPlace
    package var since: LogTime
    /// What the source said of it last: thousandths of what is copied, its memory and its disks there. 1000 only when all is copied and the source has
    /// paused it: then the move can be committed.
    package var progressMillis: UInt32 = 0
    package var isCopied: Bool { progressMillis >= 1_000 }
    /// Of a VM whose disks moved along: the destination has said, after the commit, that it runs there.
    package var hasArrived = false
    package var intent: MoveIntent
    package init(
        phase: Phase, cause: Cause, intent: MoveIntent = .balanced, target: VMPlace, source: VMPlace, since: LogTime
    ) {
        self.phase = phase
        self.cause = cause
        self.intent = intent
        self.target = target
        self.source = source
        self.since = since
    }
}

/// A VM of a cell.
package struct CellVM: Hashable, Sendable {
    /// What its owner wants.
    package enum Power: Int32, Hashable, Sendable, CaseIterable { case running = 1, paused, stopped }
    /// What it is known to do.
    package enum Phase: Int32, Hashable, Sendable, CaseIterable {
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

    package var id: VMID
    package var name: String
    package var tenant: String
    package var spec: VMDescription
    /// Of its specification and wishes; what `If-Match` compares.
    package var generation: UInt64 = 1
    package var power = Power.running
    /// It goes as soon as it is stopped.
    package var isDeleting = false
    package var place: VMPlace?
    package var migration: Migration?
    package var phase = Phase.waiting
    /// Since when it is in this phase.
    package var since: LogTime
    /// Why it waits or what went wrong, for people.
    package var message = ""
    /// The generation of the specification that runs.
    package var runningGeneration: UInt64 = 0
    /// The highest epoch ever given out.
    package var epochHighest: UInt64 = 0
    /// Restarts after crashes since `restartsSince`.
    package var restarts: UInt32 = 0
    package var restartsSince = LogTime.zero
    /// Where it waits among those without a place: priority first, then this.
    package var queuedAt = LogTime.zero
    package var createdAt: LogTime
    package var createdBy: String
    /// Of its last change, whatever it was.
    package var revision = Revision.zero
    /// The host that has its local disks; it is placed nowhere else, and leaves only by a live migration that takes them along.
    package var boundTo: HostID?
    /// What it may still take of its hosts where that is more than its specification says: until its host has reported
    /// that the smaller one is in force.
    package var held: Resources?
    /// The entries with its last events, ascending.
    package var events: [LogIndex] = []
    package var departure: Departure?
    package var arrival: Arrival?
    /// Shared disks that were taken off it, and whose files go: no disk of it gets one of these names in its domain again.
    package var droppedDisks: [CellRemains.Disk] = []
    /// It waits for its first place with the others of this number, its gang: all of them get one by one command, or none.
    /// 0 for one that is by itself, and for all that have their place. Wants feature level 3.
    package var gang: UInt64 = 0
    /// Where it was when its region was lost, and came from for that.
    package var home: Home?
    /// When the host was heard last with which it was lost; zero once it runs again, or is not to. Wants feature level 3.
    package var lostAt = LogTime.zero
    /// The host that it left by a drain. Wants feature level 3.
    package var origin: Origin?

    /// It moved with its disks, and its destination has not yet said that it runs: its source keeps what it has of them.
    package var awaitsArrival: Bool {
        guard let migration, migration.phase == .leaving, !migration.hasArrived, spec.isBoundToHost, let place,
            !place.isReleasing, !isDeleting, power != .stopped
        else { return false }
        switch phase {
        case .starting, .running, .paused, .unknown: return true
        // It ended there, by what is on its disks there.
        case .waiting, .stopping, .stopped, .crashed, .looping: return false
        }
    }

    /// What it counts for on each of its hosts.
    package var demand: Resources { held ?? spec.demand }

    package init(id: VMID, name: String, tenant: String, spec: VMDescription, at: LogTime, by: String) {
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
package struct CellTombstone: Hashable, Sendable {
    package var id: VMID
    package var name: String
    package var tenant: String
    package var deletedAt: LogTime
    package var deletedBy: String
    package var events: [LogIndex]
    /// The number of the cell that it went to; 0 for one that was deleted.
    package var movedTo: UInt64 = 0
    package init(
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
package struct CellGroup: Hashable, Sendable {
    package var id: PlacementGroupID
    package var name: String
    package var tenant: String
    package var rule: PlacementGroup.Rule
    package var scope: PlacementGroup.Scope
    package var isHard: Bool
    package var weight: Int
    package var memberCount: UInt64 = 0
    /// It came with VMs of another cell, and goes with the last of its VMs: nobody set it here, and no cell that has ended left it.
    package var isBrought = false
    package init(
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

/// What a tenant may have. Of amounts nil: no bound.
package struct Quota: Hashable, Sendable {
    /// The one tenant that is there before anybody sets it.
    package static let tenantAlwaysThere = "default"

    package var vmCount: UInt64?
    package var cpuMillis: Int64?
    package var memoryMiB: Int64?
    package var diskMiB: Int64?
    /// The highest priority that those who reach this tenant alone may give its VMs. Operators may give any.
    package var priorityMax: Int32
    /// How long its VMs may be down that were lost with their hosts; `auto`: as their cell has it. Wants feature level 3.
    package var rto: Objective
    package init(
        vmCount: UInt64? = nil, cpuMillis: Int64? = nil, memoryMiB: Int64? = nil, diskMiB: Int64? = nil,
        priorityMax: Int32 = 0, rto: Objective = .auto
    ) {
        self.vmCount = vmCount
        self.cpuMillis = cpuMillis
        self.memoryMiB = memoryMiB
        self.diskMiB = diskMiB
        self.priorityMax = priorityMax
        self.rto = rto
    }
    package static let unlimited = Quota()
    /// Nothing of what is bounded.
    package var emptied: Quota {
        Quota(
            vmCount: vmCount.map { _ in 0 }, cpuMillis: cpuMillis.map { _ in 0 }, memoryMiB: memoryMiB.map { _ in 0 },
            diskMiB: diskMiB.map { _ in 0 }, priorityMax: priorityMax, rto: rto)
    }
}

/// What a cell was lent of a tenant's quota, and what of it is in use.
package struct TenantSlice: Hashable, Sendable {
    package var tenant: String
    /// Of the root's row that it was made from; older ones are refused.
    package var revision: Revision
    package var quota: Quota
    /// Of its VMs, placed or not; `used.diskMiB` counts all disks, shared ones too.
    package var usedCount: UInt64 = 0
    package var used = Resources.zero
    /// Results kept for repetitions of its commands.
    package var requestCount: UInt64 = 0
    package var groupCount: UInt64 = 0
    /// What other cells lent to this one, less what it lent to them.
    package var net = QuotaShare.zero
    /// To others, and not known to be there; at most one to each.
    package var lending: [QuotaLoan] = []
    /// The last loan of each other cell that came.
    package var taken: [QuotaReceipt] = []
    /// Of its VMs whose hosts were lost; nil where none was.
    package var recovery: TenantRecovery?
    package init(tenant: String, revision: Revision = .zero, quota: Quota = .unlimited) {
        self.tenant = tenant
        self.revision = revision
        self.quota = quota
    }
}

extension TenantSlice {
    /// What this cell may give out of the tenant's quota: the root's part of it and what was lent.
    package var allowed: Quota {
        func sum(_ bound: Int64?, _ lane: Int) -> Int64? { bound.map { max(0, $0 + net.vector[lane]) } }
        return Quota(
            vmCount: sum(quota.vmCount.map { Int64(clamping: $0) }, 0).map { UInt64(clamping: $0) },
            cpuMillis: sum(quota.cpuMillis, 1), memoryMiB: sum(quota.memoryMiB, 2), diskMiB: sum(quota.diskMiB, 3),
            priorityMax: quota.priorityMax, rto: quota.rto)
    }

    /// Whether anything new is made for it: somebody set it, and the root's word came here.
    package var isKnown: Bool { revision != .zero || tenant == Quota.tenantAlwaysThere }

    package var use: QuotaShare {
        QuotaShare(
            vms: Int64(clamping: usedCount), cpuMillis: used.cpuMillis, memoryMiB: used.memoryMiB, diskMiB: used.diskMiB
        )
    }

    /// What it may lend: of what has a bound, what is not in use; of the rest, what was lent to it.
    package var free: QuotaShare {
        let bounds = [
            quota.vmCount.map { Int64(clamping: $0) }, quota.cpuMillis, quota.memoryMiB, quota.diskMiB,
        ]
        var free = QuotaShare.zero
        for (lane, bound) in bounds.enumerated() {
            let most = bound.map { $0 + net.vector[lane] - use.vector[lane] } ?? net.vector[lane]
            free.vector[lane] = max(0, most)
        }
        return free
    }
}

extension TenantSlice {
    /// What others lend so that this cell may give out so much more, and some more after it: by the place of the lender,
    /// those with the most first. Empty where they have not enough, or where nothing is missing.
    package func loans(
        for wanted: QuotaShare, from lenders: [TenantSlice], atMost count: Int
    ) -> [(lender: Int, share: QuotaShare)] {
        let bounds = [quota.vmCount.map { Int64(clamping: $0) }, quota.cpuMillis, quota.memoryMiB, quota.diskMiB]
        var missing = QuotaShare.zero
        for (lane, bound) in bounds.enumerated() {
            guard let bound, wanted.vector[lane] > 0 else { continue }
            // Less than nothing is left of a bound that was lowered below what is lent.
            missing.vector[lane] = max(0, use.vector[lane] + wanted.vector[lane] - bound - net.vector[lane])
        }
        let lanes = (0..<4).filter { missing.vector[$0] > 0 }
        guard let first = lanes.first else { return [] }
        let order = lenders.indices.sorted { a, b in
            let (x, y) = (lenders[a].free.vector[first], lenders[b].free.vector[first])
            return x == y ? a < b : x > y
        }
        var loans: [(lender: Int, share: QuotaShare)] = []
        for lender in order.prefix(count) {
            let free = lenders[lender].free
            var share = QuotaShare.zero
            for lane in lanes where missing.vector[lane] > 0 {
                let needed = min(missing.vector[lane], free.vector[lane])
                // A quarter of what it then has left, so that the next VM needs no loan.
                share.vector[lane] = needed + (free.vector[lane] - needed) / 4
                missing.vector[lane] -= needed
            }
            if share != .zero { loans.append((lender, share)) }
            if missing == .zero { return loans }
        }
        return []
    }
}

/// Amounts of a quota, those that a loan moves from cell to cell.
package struct QuotaShare: Hashable, Sendable {
    /// VMs, thousandths of a core, MiB of memory, MiB of disk.
    package var vector: SIMD4<Int64>
    package init(vms: Int64 = 0, cpuMillis: Int64 = 0, memoryMiB: Int64 = 0, diskMiB: Int64 = 0) {
        vector = SIMD4(vms, cpuMillis, memoryMiB, diskMiB)
    }
    package static let zero = QuotaShare()
    /// What so many VMs count for that ask for so much together.
    package init(vms: Int64, _ charge: Resources) {
        self.init(vms: vms, cpuMillis: charge.cpuMillis, memoryMiB: charge.memoryMiB, diskMiB: charge.diskMiB)
    }
    /// In the order of the vector.
    package static let names = ["VMs", "cpu", "memory", "disk"]
}

/// A part of a quota on its way to another cell: the lender has it no more, whether it came or not.
package struct QuotaLoan: Hashable, Sendable {
    package var to: UInt64
    package var number: UInt64
    package var share: QuotaShare
    package init(to: UInt64, number: UInt64, share: QuotaShare) {
        self.to = to
        self.number = number
        self.share = share
    }
}

/// The last loan of a cell that came.
package struct QuotaReceipt: Hashable, Sendable {
    package var from: UInt64
    package var number: UInt64
    package init(from: UInt64, number: UInt64) {
        self.from = from
        self.number = number
    }
}

/// Something that happened, for people and for the audit.
package struct CellEvent: Hashable, Sendable {
    package var revision: Revision
    package var time: LogTime
    /// `vm.created`, `vm.placed`, `host.down`, … The list is in FleetModel's page.
    package var kind: String
    package var tenant: String
    /// Names of what it is about; empty where there is none.
    package var vm: String
    package var host: String
    package var by: String
    package var text: String
    /// An operator asked for it: it is part of the audit, and so are such commands that were refused.
    package var isAudit = false
    package var vmID: VMID?
    package var hostID: HostID?
    package init(
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

extension VMID {
    /// The number of the cell that the VM was made in.
    package var cellNumber: UInt64 { rawValue >> 40 }
}
