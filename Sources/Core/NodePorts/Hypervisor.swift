public import ClusterBase
public import FleetModel

/// What a host's driver is told. Each is about one VM under one epoch, and harmless when repeated; the driver answers by
/// `HypervisorNews`, never at once. Of one VM the driver carries out orders in their order.
public enum HypervisorOrder: Hashable, Sendable {
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
    case send(VMID, epoch: UInt64, target: UInt64, to: HostID)
    /// The commit is made: the received VM goes on.
    case finishArrival(VMID, epoch: UInt64)
    /// The migration is off: the source goes on, if it was paused.
    case cancelSend(VMID, epoch: UInt64)
    /// Whatever this host still has of the VM under this epoch or an older one goes, its own disks too when `forGood`.
    case discard(VMID, epoch: UInt64, forGood: Bool)
}

/// What a driver has to say.
public enum HypervisorNews: Hashable, Sendable {
    case state(VMReport)
    /// What ran already when the driver began, and is still under its hands.
    case found([RunningVM])
}

/// Runs VMs on one host. No call blocks.
public protocol Hypervisor: AnyObject {
    /// `simulated`, `qemu`.
    var name: String { get }
    func carryOut(_ orders: [HypervisorOrder])
}
