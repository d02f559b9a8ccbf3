package import ClusterBase
package import FleetModel

/// What a host's driver is told. Each is about one VM under one epoch, and harmless when repeated; the driver answers by
/// `HypervisorNews`, never at once. Of one VM the driver carries out orders in their order.
package enum HypervisorOrder: Hashable, Sendable {
    /// Makes what it needs and starts it, paused where `isPaused`.
    case start(CellVM, epoch: UInt64, isPaused: Bool)
    /// Asks the guest to end, and ends it after the grace; at once with a grace of zero.
    case stop(VMID, epoch: UInt64, grace: Nanoseconds)
    case pause(VMID, epoch: UInt64)
    case resume(VMID, epoch: UInt64)
    /// Changes of a running VM where the driver can.
    case update(CellVM, epoch: UInt64)
    /// Takes a VM in, and holds it paused until `finishArrival`. `epoch` is the target's.
    case receive(CellVM, epoch: UInt64, from: HostID)
    /// Copies its memory to where it is received, pauses it, says `copied`, and waits. `epoch` is the source's.
    case send(VMID, epoch: UInt64, target: UInt64, to: HostID, intent: MoveIntent = .balanced)
    /// The commit is made: the received VM goes on.
    case finishArrival(VMID, epoch: UInt64)
    /// The migration is off: the source goes on, if it was paused.
    case cancelSend(VMID, epoch: UInt64)
    /// Whatever this host still has of the VM under this epoch or an older one goes, its own disks too when `forGood`.
    case discard(VMID, epoch: UInt64, forGood: Bool)

    package var vm: VMID {
        switch self {
        case .start(let vm, _, _), .update(let vm, _), .receive(let vm, _, _): vm.id
        case .stop(let vm, _, _), .pause(let vm, _), .resume(let vm, _), .send(let vm, _, _, _, _),
            .finishArrival(let vm, _), .cancelSend(let vm, _), .discard(let vm, _, _):
            vm
        }
    }
}

/// How an order names an image of the catalogue: by what is in it. Nobody else may write such a name.
package enum CatalogueName {
    package static let prefix = "sha256-"
}

/// What a driver has to say.
package enum HypervisorNews: Hashable, Sendable {
    /// Of a receiving VM, `starting`; of a discarded one `stopped`, once nothing of it is left.
    case state(VMReport)
}

/// A VM that a driver's earlier process left behind.
package struct FoundVM: Hashable, Sendable {
    package var vm: VMID
    package var epoch: UInt64
    /// `stopped` and `crashed`: only what it had on disk is left.
    package var state: VMReport.State
    /// It is being received and has never run here.
    package var isArriving: Bool
    package var generation: UInt64
    package var isolation: VMDescription.Isolation
    package init(
        _ vm: VMID, epoch: UInt64, state: VMReport.State, isArriving: Bool = false, generation: UInt64,
        isolation: VMDescription.Isolation
    ) {
        self.vm = vm
        self.epoch = epoch
        self.state = state
        self.isArriving = isArriving
        self.generation = generation
        self.isolation = isolation
    }
}

/// What a VM takes of its host at the moment.
package struct VMStatistics: Hashable, Sendable {
    /// What it takes of its host.
    package var memoryMiB: Int64
    package var cpuMillis: Int64
    /// Since it began to run, here or where it came from.
    package var uptime: Nanoseconds
    /// What its balloon leaves it of its memory; nil where that is not known.
    package var balloonMiB: Int64?
    /// Nil where it does not say, or has not said for a while.
    package var guest: GuestMemory?
    package init(
        memoryMiB: Int64, cpuMillis: Int64, uptime: Nanoseconds, balloonMiB: Int64? = nil, guest: GuestMemory? = nil
    ) {
        self.memoryMiB = memoryMiB
        self.cpuMillis = cpuMillis
        self.uptime = uptime
        self.balloonMiB = balloonMiB
        self.guest = guest
    }
}

/// What a guest says of its own memory.
package struct GuestMemory: Hashable, Sendable {
    package var totalMiB: Int64
    /// What its programs could still have, caches given up.
    package var availableMiB: Int64
    package var freeMiB: Int64
    package var cachesMiB: Int64
    package init(totalMiB: Int64, availableMiB: Int64, freeMiB: Int64, cachesMiB: Int64) {
        self.totalMiB = totalMiB
        self.availableMiB = availableMiB
        self.freeMiB = freeMiB
        self.cachesMiB = cachesMiB
    }
}

/// Runs VMs on one host. No call blocks, and none answers at once: what came of it is in the news.
package protocol Hypervisor: AnyObject {
    /// `simulated`, `qemu`.
    var name: String { get }
    /// True when VMs go on when this process ends, and the next one finds them.
    var outlivesAgent: Bool { get }
    /// What earlier processes left here, ascending.
    var found: [FoundVM] { get }
    /// When it has something to do or to say even if nobody calls; nil for never.
    var deadline: Instant? { get }
    func carryOut(_ orders: [HypervisorOrder], now: Instant)
    /// What happened since it was asked last, in the order in which it happened.
    func takeNews(now: Instant) -> [HypervisorNews]
    func statistics(of vm: VMID, now: Instant) -> VMStatistics?
    /// Measures, for about a second, what a move of a VM that runs here depends on; nil when it does not run here. Called once.
    func probe(_ vm: VMID, now: Instant, _ done: @escaping (MoveProbe?) -> Void)
}
