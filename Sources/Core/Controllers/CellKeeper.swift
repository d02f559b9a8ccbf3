package import ClusterBase
package import FleetModel
package import Placement

/// The controllers of a cell, on the node that leads it: they place what waits, restart what crashed, move what must leave,
/// and declare hosts down.
///
///     changes of the cell ─▶ take ─▶ view ─▶ index of free room, queue, lists of what needs care
///                                                 │
///     what was heard, the time ─────────────▶ plan ─▶ commands ─▶ the cell, which judges each ─▶ changes, and `take` of
///                                                                                                 each outcome
///
/// It is an optimist: what it asks for is counted in its index at once, and taken back when the cell refuses. It looks at what
/// changed and at nothing else, may begin anywhere with an empty memory, and does no harm when it runs twice or too late.
/// A value with one owner; a copy is a fork that can be asked questions elsewhere.
package struct CellKeeper: Sendable {
    package internal(set) var view = CellView()
    package internal(set) var counts = CellKeeperCounts()
    package var index: PlacementIndex
    var words = WordTable()
    let seed: UInt64
    /// What was silent before is not held against anyone.
    let leadsSince: Instant
    /// `FeatureLevel.diskMoves` is open: VMs that run take local disks along.
    package var movesDisks = false
    /// Nothing is made for tenants that nobody set, and slices say how much of the root was known.
    package var knowsTenants = false
    /// `FeatureLevel.linkBudgets` is open: advice is written down as an event.
    package var notesAdvice = false
    /// `FeatureLevel.objectives` is open: the cell is told for how long a host was not heard.
    package var tellsSilence = false
    /// `FeatureLevel.moveIntents` is open: moves say what they may cost.
    package var knowsIntents = false

    /// VMs that are not in the index yet after all was loaded, the next one last.
    var backlog: [VMID] = []
    /// What of each VM is in the index; second copies under ids of their own.
    // hash order: looked up only
    var indexed: [VMID: Indexed] = [:]
    /// As the index has them.
    // hash order: looked up only
    var hostsIndexed: [HostID: CellHost] = [:]
    /// Ascending.
    var hostOrder: [HostID] = []
    // hash order: looked up only
    var groupsNamed: [GroupName: PlacementGroupID] = [:]
    /// VMs whose host or group is not known yet.
    // hash order: read sorted
    var unresolved: Set<VMID> = []
    /// Placed and removed since the mix was set.
    var changedSinceMix = 0
    /// How many VMs of each priority are where they could be stopped for others.
    // hash order: only its least key is read
    var victimPriorities: [Int32: Int] = [:]

    var queue = WaitingQueue()
    var regions = RegionWork()
    var ledger = CellLedger()
    /// What was asked for and does not show in the view yet.
    // hash order: looked up, or read sorted
    var pending: [VMID: Pending] = [:]
    /// How often in a row the cell refused a VM's placing.
    // hash order: looked up only
    var races: [VMID: Int] = [:]
    // hash order: read sorted
    var nominations: [VMID: Nomination] = [:]
    var reserve = ReservePlan()
    // hash order: read sorted
    var migrating: [VMID: MigrationWatch] = [:]
    // hash order: read sorted
    var crashed: [VMID: CrashWatch] = [:]
    // hash order: read sorted
    var draining: Set<HostID> = []
    var returns = ReturnWork()
    var enforcement = EnforcementWork()
    /// Hosts on which more is in use than they offer.
    // hash order: counted only
    var exceeded: Set<HostID> = []
    /// VMs that found no other host, and when in the order of events that was.
    // hash order: looked up only
    var stuckSince: [VMID: Int] = [:]
    /// VMs that are left where they are until then.
    // hash order: looked up only
    var restingUntil: [VMID: Instant] = [:]
    /// VMs that could not be moved, and that no drain tries to move until then.
    // hash order: looked up only
    var failedUntil: [VMID: Instant] = [:]
    /// Of VMs that `triesHarder`: how the last move was tried that failed.
    // hash order: looked up only
    var failedIntents: [VMID: MoveIntent] = [:]
    /// Tenants whose slices are older than what the root says.
    // hash order: read sorted
    var tenants: [String: TenantWish] = [:]
    /// The root's index that `tenants` is true at; zero before they are known.
    var tenantsThrough = LogIndex.zero
    // hash order: read sorted
    var slicesDue: Set<String> = []
    /// Tenants with loans on their way.
    // hash order: read sorted
    var lenders: Set<String> = []

    /// VMs that were lost with their hosts and do not run yet, and when they were lost.
    // hash order: read sorted
    var lost: [VMID: Instant] = [:]
    /// How long what ended lately took: ways to other cells, and moves to other hosts.
    var ways = WayTimes()
    var moves = WayTimes()

    var leaseLongest: (milliseconds: UInt64, until: Instant) = (0, .origin)
    /// What the cell says of longer leases of before, and since when this leader knows it.
    var leaseBefore: (value: UInt64, since: Instant) = (0, .origin)
    var healthAt: Instant
    /// Since when hosts are known here that came from another cell with their VMs.
    // hash order: looked up only
    var arrivedAt: [HostID: Instant] = [:]
    // hash order: read sorted
    var absences: [HostID: Absence] = [:]
    /// Since when this leader knows of hosts that they were declared dead: from then on it grants them nothing.
    // hash order: looked up only
    var deadSince: [HostID: Instant] = [:]
    /// The cell's time was asked for since this node leads.
    var knowsTime = false
    var drainAt: Instant
    var rebalanceAt: Instant
    /// Between looks at a part of the VMs for moves that make the cell better.
    package var rebalanceInterval = Nanoseconds.seconds(60)
    var rebalanceNext: VMID = VMID(rawValue: 0)
    /// Hosts that were changed, or came to be known, since all on them was found to be where it may be.
    // hash order: read sorted
    var suspects: Set<HostID> = []
    /// Of the advice that was written down last.
    var adviceNoted: UInt64 = 0
    /// VMs leave a host that drains, or will as soon as a budget lets them.
    var drainGoesOn = false
    var garbageAt: Instant
    var garbageThrough = LogIndex.zero
    var garbageDoneAt: Instant
    var sweepAt: Instant
    /// Work was left over by a bound.
    var isCutShort = false
    var wakeAt: Instant

    #if MUTANTS
    package var mutant: FleetMutant?
    #endif

    func mutated(_ mutant: FleetMutant) -> Bool {
        #if MUTANTS
        self.mutant == mutant
        #else
        false
        #endif
    }

    /// `seed` decides among hosts that are equally good; one cell has one.
    package init(seed: UInt64, leadsSince: Instant) {
        self.seed = seed
        self.leadsSince = leadsSince
        index = PlacementIndex(seed: seed)
        healthAt = leadsSince
        drainAt = leadsSince
        rebalanceAt = leadsSince
        garbageAt = leadsSince + CellKeeper.garbageInterval
        garbageDoneAt = leadsSince
        sweepAt = leadsSince
        wakeAt = leadsSince
    }

    // MARK: Following

    /// What to ask the cell's state next.
    package var nextQuery: CellQuery { view.nextQuery }
    /// False while the state is read for the first time, or again; nothing is planned then.
    package var isReady: Bool { view.through != nil && backlog.isEmpty }
    /// When `plan` has something to do if nothing changes before.
    package var deadline: Instant { wakeAt }

    /// Takes in the answer to `nextQuery`. O(rows); after all was loaded anew, the index is built by `plan`, a part each time.
    package mutating func take(_ answer: CellAnswer, now: Instant) {
        let changes = view.take(answer)
        if changes.isWhole {
            beginAgain(now)
        } else if !changes.isEmpty {
            take(changes, now)
        }
        if !absences.isEmpty { refreshAbsences(now) }
        wakeAt = min(wakeAt, now)
    }

    /// Tells what the root says of tenants at its index `through`: all of them, each time that they changed.
    package mutating func take(tenants wishes: [TenantWish], through: LogIndex = .zero, now: Instant) {
        tenantsThrough = max(tenantsThrough, through)
        // hash order: looked up, or read by sorted keys
        var next: [String: TenantWish] = [:]
        for wish in wishes { next[wish.name] = wish }
        if next == tenants { return }
        tenants = next
        slicesDue = slicesOfAll
        wakeAt = min(wakeAt, now)
    }

    /// The VMs that migrate, by id.
    package var migratingVMs: [VMID] { migrating.keys.sorted() }

    /// Every tenant that the root or this cell knows.
    // hash order: read sorted
    var slicesOfAll: Set<String> { Set(tenants.keys).union(view.slices.keys) }

    mutating func take(_ changes: CellChanges, _ now: Instant) {
        if changes.settingsChanged { settingsChanged(now) }
        for id in changes.groups where view.groups[id] != nil { groupChanged(id) }
        for id in changes.hosts { hostChanged(id, now) }
        for id in changes.vms { vmChanged(id, now) }
        for id in changes.groups where view.groups[id] == nil { groupChanged(id) }
        for tenant in changes.slices { slicesDue.insert(tenant) }
        if !unresolved.isEmpty && !(changes.hosts.isEmpty && changes.groups.isEmpty) {
            for id in unresolved.sorted() { vmChanged(id, now) }
        }
        for id in hostsLeaving { hostChanged(id, now) }
    }

    private mutating func settingsChanged(_ now: Instant) {
        healthAt = min(healthAt, now)
        drainAt = min(drainAt, now)
        rebalanceAt = min(rebalanceAt, now)
        // A VM without a policy of its own may go elsewhere under another one, and no hard rule has changed.
    }

    // MARK: Planning

    /// The commands that the cell needs now. At most `commandsMax`, and of work: 4,096 VMs brought into the index, 512
    /// decisions for what waits, 256 for what leaves, 4 preemptions, 2 explanations. When more is left, `deadline` is now.
    ///
    /// Whoever proposes them tells the outcome of each by `take(_:of:now:)`. `watch` is only asked when hosts are looked at.
    package mutating func plan(now: Instant, watch: () -> NodeWatch) -> [CellCommand.Operation] {
        isCutShort = false
        guard view.through != nil else {
            wakeAt = now + CellKeeper.idleInterval
            return []
        }
        if !backlog.isEmpty {
            workOff(now)
            wakeAt = now
            return []
        }
        counts.plans += 1
        tuneMix()
        var operations: [CellCommand.Operation] = []
        sweep(now)
        planHealth(now, watch, &operations)
        planSlices(now, &operations)
        planMigrations(now, &operations)
        planRestarts(now, &operations)
        planNominations(now, &operations)
        planPlacings(now, &operations)
        planRegions(now, &operations)
        planDrains(now, &operations)
        planReturns(now, &operations)
        planEnforcement(now, &operations)
        planRebalance(now, &operations)
        planReasons(now, &operations)
        planGarbage(now, &operations)
        count()
        wakeAt = isCutShort ? now : nextDeadline(now)
        return operations
    }

    func nextDeadline(_ now: Instant) -> Instant {
        var next = min(healthAt, garbageAt, now + CellKeeper.idleInterval)
        if !pending.isEmpty || ledger.count > 0 { next = min(next, sweepAt) }
        if !draining.isEmpty { next = min(next, drainAt) }
        if !returns.hosts.isEmpty { next = min(next, returns.at) }
        if !enforcement.hosts.isEmpty { next = min(next, enforcement.at) }
        if view[.rebalance] > 0 { next = min(next, rebalanceAt) }
        for id in crashed.keys { if let due = crashed[id]?.dueAt { next = min(next, due) } }
        for id in migrating.keys { if let due = migrating[id]?.givesUpAt { next = min(next, due) } }
        if regions.isBusy { next = min(next, regions.planAt) }
        next = min(next, queue.deadline)
        return max(next, now + CellKeeper.pause)
    }

    private mutating func count() {
        counts.waiting = queue.count
        counts.refusedClasses = queue.closedCount
        counts.nominated = nominations.count
        counts.migrating = migrating.count
        counts.draining = draining.count
        counts.exceeded = exceeded.count
        counts.crashed = crashed.count
        counts.underWay = ledger.underWay + pending.count
    }
}

extension CellKeeper {
    /// Placings of one command: a batch as the admin port sends it.
    package static let placingsMax = 512
    static let reasonsMax = 256
    /// VMs that arrived together and are decided together where one by one not all of them find room.
    static let togetherMax = 64
    /// Decisions that this may take, beyond one for each of them.
    static let togetherStepsMax = 1_024
    /// Commands of one plan.
    package static let commandsMax = 512
    static let triesMax = 768
    static let drainTriesMax = 256
    static let explainsMax = 2
    static let indexedAtOnceMax = 4_096
    static let declaredAtOnceMax = 64
    static let restartsAtOnceMax = 64
    static let nominationsMax = 64
    /// VMs of a gang, times hosts, for which others to stop are looked for.
    static let gangVictimsWorkMax = 16_384
    /// Between two plans for which nothing changed.
    static let pause = Nanoseconds.milliseconds(10)
    static let idleInterval = Nanoseconds.seconds(60)
    /// What was asked for and shows neither in an outcome nor in the view is asked for again.
    static let patience = Nanoseconds.seconds(10)
    static let garbageInterval = Nanoseconds.seconds(600)
    static let garbageIntervalIdle = Nanoseconds.seconds(6 * 3_600)
    /// A migration whose progress stands still for this long is cancelled.
    static let migrationStallMax = Nanoseconds.seconds(300)
    /// A VM whose migration failed or was refused is left alone for this long.
    static let restAfterFailure = Nanoseconds.seconds(30)
    static let restAfterFailedBalance = Nanoseconds.seconds(3_600)
    static let nominationMax = Nanoseconds.seconds(120)
    /// Restarts are counted over this long.
    static let restartsWindowMilliseconds: UInt64 = 600_000
}

/// What the root says of a tenant, for its slice in this cell.
package struct TenantWish: Hashable, Sendable {
    package var name: String
    package var revision: Revision
    package var quota: Quota
    /// Among VMs of one priority, those of the tier that comes first in the alphabet go first when their region is lost; those
    /// without one go last.
    package var tier: String
    package init(name: String, revision: Revision, quota: Quota, tier: String = "") {
        self.tier = tier
        self.name = name
        self.revision = revision
        self.quota = quota
    }

    /// A quota is lent as a whole, and to the first cell.
    package init(_ tenant: RootTenant, isLent: Bool) {
        self.init(
            name: tenant.name, revision: tenant.revision, quota: isLent ? tenant.quota : tenant.quota.emptied,
            tier: tenant.tier)
    }
}

/// What became of a command that a keeper asked for.
package enum CellOutcome: Hashable, Sendable {
    case applied(CellResult)
    /// It may take effect or not, now or later.
    case unknown
    /// It has no effect: it was not taken up.
    case notTaken
}

/// A VM's copy as it is in the index.
struct Indexed: Hashable, Sendable {
    var assignment: Assignment
    /// Of the specification, and what it may still take beyond that.
    var generation: UInt64
    var held: Resources?
    /// Of a second copy: where the first is.
    var first: HostID?
    var isPinned: Bool
    var priority: Int32
    var hasGroups: Bool
}

/// A group's name, which is its tenant's.
struct GroupName: Hashable, Sendable {
    var tenant: String
    var name: String
}

/// What was asked for one VM and is in the index already.
struct Pending: Hashable, Sendable {
    enum Kind: Hashable, Sendable {
        /// For a waiting VM as it is at this generation.
        case place(generation: UInt64)
        /// For a placed VM, from the place with this epoch.
        case move(epoch: UInt64)
    }
    var kind: Kind
    var assignment: Assignment
    var since: Instant
    /// Room that is being made: nothing was asked of the cell for it yet.
    var isNomination = false
    /// The cell has taken it: it shows in the view from this entry on.
    var doneAt: LogIndex?
}

/// A waiting VM for which others are stopped.
struct Nomination: Hashable, Sendable {
    var host: HostID
    /// None where it fits without, and waits for the others of its gang.
    var victims: [VMID]
    /// Those that are placed together with it have the same; zero for one that is placed alone.
    var gang: UInt64 = 0
    var givesUpAt: Instant
}

struct MigrationWatch: Hashable, Sendable {
    var target: UInt64
    var progressMillis: UInt32
    var intent: MoveIntent
    var givesUpAt: Instant
}

struct CrashWatch: Hashable, Sendable {
    var epoch: UInt64
    var dueAt: Instant
}
