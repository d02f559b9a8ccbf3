internal import CLinux

/// Threads that others wait for come before work that may wait: without that, a host that is full of such work keeps a node from
/// its beats for longer than other nodes forgive.
package enum ThreadPriority {
    /// For the calling thread, and not for what it begins. False where the system does not allow it.
    package static func comeBefore(steps: Int) -> Bool { steps == 0 || clinux_come_before(Int32(steps)) >= 0 }
}
