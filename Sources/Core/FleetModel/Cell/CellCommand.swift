package import ClusterBase

/// One change that someone asks of a cell.
package struct CellCommand: Hashable, Sendable {
    package enum Operation: Hashable, Sendable {
        // By the hosts.

        /// The agent of a host began, or its machine changed. What a process before it ran and this one does not name is
        /// over. `assignment` is the epoch of the root's map that puts it into this cell; where it is not 0, it wants feature
        /// level `FeatureLevel.cells`.
        case registerHost(
            HostID, Incarnation, HostDescription, running: [RunningVM], assignment: UInt64 = 0)
        /// What became of VMs on a host. Reports of another incarnation, and of epochs that are not in force, count for
        /// nothing.
        case reportVMs(HostID, Incarnation, [VMReport])

        // By operators.

        case setHostDuty(HostID, CellHost.Duty)
        /// Where it is enforced, which wants feature level 3, what may not stay there then is moved away.
        case setHostPolicy(HostID, HostPolicy, generation: UInt64?, isEnforced: Bool = false)
        /// What is said of a host beside its duty. Wants feature level 3.
        case careForHost(HostID, HostCare)
        /// Only one that is down and has no VMs, unless forced: then an operator says that they are gone.
        case removeHost(HostID, isForced: Bool)
        /// All or, where `isAtomic` is false, those that can be.
        case createVMs([VMCreation], isAtomic: Bool)
        /// Refused when `generation` is not the VM's.
        case updateVM(VMID, VMDescription, generation: UInt64?)
        case setPower(VMID, CellVM.Power, generation: UInt64?)
        /// Stops and starts it again where it is.
        case restartVM(VMID)
        case deleteVM(VMID, generation: UInt64?)
        case putGroup(CellGroup)
        case deleteGroup(tenant: String, name: String)
        case setSetting(CellSetting, UInt64)
        /// It goes to another cell: refused while it has VMs, and from then on it is refused under this assignment.
        case releaseHost(HostID, assignment: UInt64)
        /// It goes to another cell of the region with the VMs on it, which run on; to its own cell: it stays under this assignment.
        /// Where this cell keeps the names of its region, it goes on keeping its VMs'.
        case sendHost(
            HostID, to: UInt64, assignment: UInt64, keepsNames: Bool, company: HostCompany = HostCompany())
        /// Before the cell is retired: refused while anything is in it, and from then on nothing comes.
        case closeCell
        /// Where the region has several cells, the first of them keeps its names: the VM of this name is the cell's to make
        /// and no other's. Refused with who has it, unless that is the creation which this one `replaces`.
        case holdName(tenant: String, name: String, cell: UInt64, request: [UInt8], replaces: [UInt8])

        /// Part of what this cell may give out of a tenant's quota becomes another cell's. The number of the loan is the
        /// revision of the result. One loan of a tenant is on its way to a cell at a time.
        case lendQuota(tenant: String, to: UInt64, QuotaShare)
        /// What another cell lent; the same loan comes once.
        case takeQuota(tenant: String, from: UInt64, number: UInt64, QuotaShare)
        /// A loan is where it was to go; or it is not, and can't come there any more.
        case settleLoan(tenant: String, to: UInt64, number: UInt64, isTaken: Bool)

        /// It is to go to another cell. Where its name has to be held there, it is under this request id, which is empty
        /// otherwise.
        /// Of a region's several cells the one that keeps its names goes on keeping this one's where `keepsName`.
        /// There its home is `home`.
        case moveVM(
            VMID, to: UInt64, request: [UInt8], keepsName: Bool = false, home: CellVM.Home? = nil,
            cause: CellMove.Cause = .asked, isCold: Bool = false)
        /// The next step of the move with this number, which is the revision that began it. It is sent to `far`.
        case advanceMove(UInt64, CellMove.Step, reason: String, far: CellMove.FarEnd? = nil)
        /// A VM may come from another cell, which asks that all be kept that it needs.
        case prepareArrival(CellArrival)
        /// It is this cell's now, or does not come; moves from there with a number below `floor` are over.
        case endArrival(
            VMID, from: UInt64, number: UInt64, isCommitted: Bool, epoch: UInt64, floor: UInt64,
            downSince: LogTime = .zero, sent: UInt64 = 0)

        /// Asked by a cell that keeps room for a VM of this one: refused where the VM is here and knows nothing of the move.
        case confirmMove(VMID, from: UInt64, number: UInt64)

        /// The next step of a host's move with this number, which is the revision that began it.
        case advanceHost(UInt64, HostMove.Step)
        /// A host may come from another cell, which asks that it be kept with its VMs.
        case prepareHost(HostPreparation)
        /// It is this cell's now, or does not come.
        case endHost(HostEnding)
        /// Asked by a cell that keeps a host of this one: refused where this one knows nothing of the move.
        case confirmHost(HostID, from: UInt64, number: UInt64)

        // By controllers.

        /// The same values under another key. Boxes that are not those of the VM any more are left out.
        case resealVM(VMID, [Resealed])
        /// Places waiting VMs. Each is judged for itself unless `isAtomic`.
        case placeVMs([Placing], isAtomic: Bool)
        /// Why VMs still wait; for people.
        case explainWaiting([WaitingReason])
        /// Tells VMs to stop and leave their place; they wait for another one then.
        case releaseVMs([Release], cause: Migration.Cause)
        /// Lets a crashed VM start again.
        case retryVM(VMID, epoch: UInt64)
        /// Its crash was one too many.
        case giveUpVM(VMID, epoch: UInt64)
        case beginMigration(
            VMID, from: UInt64, to: Assignment, cause: Migration.Cause, intent: MoveIntent = .balanced)
        /// The source has paused it and copied all: from here on it is the destination's.
        case commitMigration(VMID, target: UInt64)
        case cancelMigration(VMID, target: UInt64)
        /// Its lease has run out.
        /// `silence` is for how many milliseconds it was not heard.
        case declareDown(HostID, Incarnation, silence: UInt64 = 0)
        /// A host that drains is empty.
        case finishDrain(HostID)
        /// Who asks knew the root's tenants up to `through`: one who knows less than who returned a slice sets none. Where it is not
        /// zero, it wants feature level 3.
        case setSlice(tenant: String, revision: Revision, Quota, through: LogIndex = .zero)
        /// The root knows no such tenant any more, as of this revision of the root.
        case returnSlice(tenant: String, revision: Revision)
        case collectGarbage
        /// The root has declared a region lost, or back.
        case noteRegion(CellRegion)
        /// The removal of an image began at this entry of the root: who knows less may not name it any more.
        case releaseImage(tenant: String, name: String, at: LogIndex)
        /// Of the shared disks that VMs left, these are gone too, or nobody looks after them any more.
        case dropRemains([CellRemains.Left])
        /// What the controller of the balance proposes, for people to read. Wants feature level 3.
        case noteAdvice(String)
        /// A promise is not kept as the cell is, or is kept again, in words for people. Wants feature level 3.
        case noteRisk(CellRisk.Kind, isOver: Bool, String)
        /// What is set in the cell that this one was split from, by the plan with this number: the same plan's settings come once. And
        /// groups of a cell that is merged into this one, those that are missing. Wants feature level 3.
        // hash order: rows of it are sorted before they are written or read one after another
        case takeSettings(from: UInt64, plan: UInt64, [CellSetting: UInt64], groups: [CellGroup] = [])
        /// Nothing but the time.
        case noteTime
    }

    /// 16 random bytes of somebody's own that make repetitions harmless for up to 24 h; nil for none.
    package var request: [UInt8]?
    /// The process that sends it, which makes its repetitions harmless until it is answered. Wants feature level
    /// `FeatureLevel.sessions`.
    package var origin: CommandOrigin?
    /// Who asked, and from where, for the audit.
    package var by: String
    /// Up to which entry of the root whoever asks knew the images that the operation names; zero where it names none. Wants
    /// feature level 3.
    package var imagesAt = LogIndex.zero
    /// Who asks reaches some tenants alone, and gives no VM a higher priority than its tenant's `priorityMax`. Wants feature
    /// level 3.
    package var isBounded = false
    /// Of the VM or the host that the operation is about: one of another generation is not changed. Wants feature level 3.
    package var generation: UInt64?
    package var operation: Operation

    /// An origin takes no more bytes than this when it is encoded.
    package static let originBytesMax = 64

    package init(
        request: [UInt8]? = nil, origin: CommandOrigin? = nil, by: String,
        imagesAt: LogIndex = .zero, isBounded: Bool = false, generation: UInt64? = nil, _ operation: Operation
    ) {
        self.generation = generation
        self.request = request
        self.origin = origin
        self.by = by
        self.imagesAt = imagesAt
        self.isBounded = isBounded
        self.operation = operation
    }

    /// What repetitions have in common.
    var unnamed: CellCommand { CellCommand(by: by, generation: generation, operation) }
}

extension CellCommand.Operation {
    /// Whoever asks for it says up to which entry of the root it knows the images.
    package var namesImages: Bool {
        switch self {
        case .createVMs(let items, _): items.contains { !$0.spec.imageNames.isEmpty }
        case .updateVM(_, let spec, _): !spec.imageNames.isEmpty
        case .prepareArrival(let arrival): !arrival.spec.imageNames.isEmpty
        case .prepareHost(let part): part.items.contains { !$0.vm.spec.imageNames.isEmpty }
        default: false
        }
    }
}

/// A secret field of a VM under another key.
package struct Resealed: Hashable, Sendable {
    package var key: String
    package var from: [UInt8]
    package var to: [UInt8]
    package init(key: String, from: [UInt8], to: [UInt8]) {
        self.key = key
        self.from = from
        self.to = to
    }
}

/// A VM that a host's driver runs, as a new agent found it.
package struct RunningVM: Hashable, Sendable {
    package var vm: VMID
    package var epoch: UInt64
    package init(_ vm: VMID, epoch: UInt64) {
        self.vm = vm
        self.epoch = epoch
    }
}

/// What a host says of one VM.
package struct VMReport: Hashable, Sendable {
    package enum State: Int32, Hashable, Sendable, CaseIterable {
        case starting = 1, running, paused
        /// Its copy here is gone: it was told to stop.
        case stopped
        /// Its copy here is gone: it ended by itself, or could not start.
        case crashed
        /// As the source of a migration: `progressMillis` of its memory are copied.
        case copying
        /// As the source: paused, all copied; waits for the commit.
        case copied
        /// As the source: the copying failed, it runs on.
        case copyFailed
    }
    package var vm: VMID
    package var epoch: UInt64
    package var state: State
    /// Of the specification that it runs with.
    package var generation: UInt64
    package var progressMillis: UInt32
    package var message: String
    /// Of a crash: it ended with what it ran on, through no fault of its own. From feature level 3 on it starts again at once, and that counts as no crash.
    package var isHostsFault: Bool
    package init(
        _ vm: VMID, epoch: UInt64, _ state: State, generation: UInt64 = 0, progressMillis: UInt32 = 0,
        message: String = "", isHostsFault: Bool = false
    ) {
        self.vm = vm
        self.epoch = epoch
        self.state = state
        self.generation = generation
        self.progressMillis = progressMillis
        self.message = message
        self.isHostsFault = isHostsFault
    }
}

/// A VM that somebody wants.
package struct VMCreation: Hashable, Sendable {
    package var name: String
    package var tenant: String
    package var spec: VMDescription
    package var power: CellVM.Power
    package init(name: String, tenant: String, spec: VMDescription, power: CellVM.Power = .running) {
        self.name = name
        self.tenant = tenant
        self.spec = spec
        self.power = power
    }
}

/// Where a waiting VM is to go, planned for what it was at `generation`.
package struct Placing: Hashable, Sendable {
    package var vm: VMID
    package var generation: UInt64
    package var assignment: Assignment
    package init(_ vm: VMID, generation: UInt64, _ assignment: Assignment) {
        self.vm = vm
        self.generation = generation
        self.assignment = assignment
    }
}

/// Why a VM has no place, in words for people.
package struct WaitingReason: Hashable, Sendable {
    package var vm: VMID
    package var text: String
    package init(_ vm: VMID, _ text: String) {
        self.vm = vm
        self.text = text
    }
}

/// A VM that is to leave its place, planned for the epoch that it has.
package struct Release: Hashable, Sendable {
    package var vm: VMID
    package var epoch: UInt64
    package var reason: String
    package init(_ vm: VMID, epoch: UInt64, reason: String) {
        self.vm = vm
        self.epoch = epoch
        self.reason = reason
    }
}

/// What an operator sets for a cell; the numbers are in its row.
package enum CellSetting: UInt32, Hashable, Sendable, CaseIterable {
    /// 1 pack, 2 balance, 3 spread.
    case policy = 1
    /// Of hosts, in milliseconds.
    case leaseLength
    /// 0 off, 1 advice only, 2 by itself.
    case rebalance
    /// Migrations at one time: in the cell, at one host.
    case migrationsMax, migrationsPerHostMax
    /// After a move, in milliseconds, a VM is left alone.
    case moveCooldown
    /// Thousandths of the hosts that may be declared down within ten minutes before failover stops by itself.
    case brakeMillis
    /// In milliseconds.
    case tombstoneLifetime
    /// Restart backoff of crashed VMs, first and longest, in milliseconds.
    case backoffFirst, backoffMax
    /// The cell's own, and nobody else's to set: the longest lease that hosts may still hold though `leaseLength` is shorter
    /// by now, in the lower 32 bits, and how often that changed in the upper ones. A leader that has waited that lease out
    /// sets the value that it saw, and the cell forgets the lease if it is still that one.
    case leaseBefore
    /// In milliseconds: so long events are kept, the audit among them. Wants feature level 3.
    case eventLifetime
    /// Not for people either: until then, by the cell's time, no VM's way to another cell goes a step further, so that a
    /// backup has each of them in one cell.
    case movesHeldUntil
    /// Migrations at one time over the uplink of a rack: those that come to it from other racks, or leave it. Wants feature
    /// level 3.
    case migrationsPerLinkMax = 20
    /// `Objective`s: how old the oldest acknowledged write may be that is lost with any one zone, with any one region. By itself 0
    /// for what the cell is to survive, and nothing is promised for what it is not. Want feature level 3.
    case rpoZone = 41
    case rpoRegion
    /// The `Objective` of how long VMs that were lost may be down before they run again. Wants feature level 3.
    case rto
    /// The `MoveIntent` of moves where neither who asks nor the VM says. Wants feature level 3.
    case moveIntent = 74
    /// 0 off, else a `FailoverReserve`'s: what is kept free for losses. Wants feature level 3.
    case failoverReserve = 94
    /// 0 off, else a `SplitBound`'s: beyond it the cell is split. Wants feature level 3.
    case splitAbove = 115
    /// 0 off, else a `SplitBound`'s: with less than that the cell is merged into another one. Wants feature level 3.
    case mergeBelow = 135
    /// What a VM costs here beside other cells, in whatever unit; 0: nobody said. Wants feature level 3.
    case cost = 137
    /// Not for people: the number of the plan by which this cell was made, whose settings it has taken. Wants feature level 3.
    case settingsTaken = 136

    /// Those that people see and set.
    package static let shown = allCases.filter { ![.leaseBefore, .movesHeldUntil, .settingsTaken].contains($0) }
    /// In milliseconds: for so long at most.
    package static let movesHeldMax: UInt64 = 3_600_000

    package var standard: UInt64 {
        switch self {
        case .policy: 1
        case .leaseLength: 3_000
        case .rebalance: 0
        case .migrationsMax: 16
        case .migrationsPerHostMax: 2
        case .migrationsPerLinkMax: 8
        case .moveCooldown: 600_000
        case .brakeMillis: 500
        case .tombstoneLifetime: 24 * 3_600_000
        case .backoffFirst: 1_000
        case .backoffMax: 60_000
        case .leaseBefore, .movesHeldUntil, .failoverReserve, .splitAbove, .mergeBelow, .settingsTaken, .cost: 0
        case .eventLifetime: 90 * 24 * 3_600_000
        case .rpoZone, .rpoRegion, .rto: Objective.auto.value
        case .moveIntent: UInt64(MoveIntent.balanced.rawValue)
        }
    }

    package var name: String {
        switch self {
        case .policy: "policy"
        case .leaseLength: "lease"
        case .rebalance: "rebalance"
        case .migrationsMax: "migrations-max"
        case .migrationsPerHostMax: "migrations-per-host-max"
        case .migrationsPerLinkMax: "migrations-per-link-max"
        case .moveCooldown: "move-cooldown"
        case .brakeMillis: "failover-brake"
        case .tombstoneLifetime: "tombstone-lifetime"
        case .backoffFirst: "restart-backoff"
        case .backoffMax: "restart-backoff-max"
        case .leaseBefore: "lease-before"
        case .eventLifetime: "event-lifetime"
        case .movesHeldUntil: "moves-held-until"
        case .rpoZone: "rpo-zone"
        case .rpoRegion: "rpo-region"
        case .rto: "rto"
        case .moveIntent: "move-intent"
        case .failoverReserve: "failover-reserve"
        case .splitAbove: "split-above"
        case .mergeBelow: "merge-below"
        case .cost: "cost"
        case .settingsTaken: "settings-taken"
        }
    }
}

/// What the cell made of one command.
package struct CellResult: Hashable, Sendable {
    package enum Item: Hashable, Sendable {
        case vm(VMID)
        case refused(CellRefusal)
    }
    package enum Outcome: Hashable, Sendable {
        case done
        /// A place is kept for a VM that may be sent there live.
        case kept(CellMove.FarEnd)
        /// One for each of the command's items.
        case items([Item])
        case refused(CellRefusal)
    }
    package var revision: Revision
    package var outcome: Outcome
    package init(revision: Revision, outcome: Outcome) {
        self.revision = revision
        self.outcome = outcome
    }
}

extension CellResult {
    /// Nothing of the command was done, for want of tenants.
    package var isForUnknownTenant: Bool { !unknownTenants.isEmpty && isRefused }

    private var isRefused: Bool {
        switch outcome {
        case .done, .kept: false
        case .items(let items): items.allSatisfy { if case .refused = $0 { true } else { false } }
        case .refused: true
        }
    }

    /// The tenants for want of which something was refused, each once.
    package var unknownTenants: [String] {
        let refusals: [CellRefusal] =
            switch outcome {
            case .done, .kept: []
            case .items(let items): items.compactMap { if case .refused(let why) = $0 { why } else { nil } }
            case .refused(let why): [why]
            }
        var tenants: [String] = []
        for case .unknownTenant(let name) in refusals where !tenants.contains(name) { tenants.append(name) }
        return tenants
    }
}
