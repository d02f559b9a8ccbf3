package import FleetModel

/// What of a guest is on its way.
package enum GuestPart: Hashable, Sendable {
    case memory
    /// One of its disks on its host, by its place among its disks. Its QEMUs talk about it.
    case disk(Int)
}

/// What becomes of a part of a guest on its way.
package enum MemoryNews: Hashable, Sendable {
    /// At the source: the destination waits, and what QEMU writes to the path is carried.
    case open
    /// At the source: the destination's QEMU has read in all of it. The last news.
    case taken
    /// It is lost, for this reason. The last news.
    case ended(String)
}

/// A part of a guest on its way from one host to another.
package protocol MemoryStream: AnyObject {
    var bytesCarried: UInt64 { get }
    /// At the destination: QEMU has read in all of it.
    func tellTaken()
    /// Ends it without news; the other host hears the reason where it can.
    func close(_ reason: String)
}

/// Carries guests between hosts: the agents' connections. Nothing else reaches a QEMU that waits for memory or disks. Belongs
/// to the loop's thread; tells news on it, and never before the call that asks for it returns.
package protocol MemoryCarrier: AnyObject {
    /// From the QEMU that will connect to the path to the host that receives the VM under this epoch.
    func send(
        _ part: GuestPart, of vm: VMID, epoch: UInt64, to host: HostID, path: String,
        _ hear: @escaping (MemoryNews) -> Void
    ) -> any MemoryStream
    /// From that host, which sends the VM under this epoch, to the QEMU that listens at the path.
    func receive(
        _ part: GuestPart, of vm: VMID, epoch: UInt64, from host: HostID, path: String,
        _ hear: @escaping (MemoryNews) -> Void
    ) -> any MemoryStream
}
