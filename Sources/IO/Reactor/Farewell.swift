internal import CLinux
internal import Glibc

/// Other nodes learn of this process's end by the end of its connections. The kernel closes those after the last of its threads
/// is gone; one that waits for a disk, or memory that is given back, would keep them waiting for their next leader.
package enum Farewell {
    /// From now on all connections end as soon as the calling thread does, whatever the other threads wait for. The small
    /// process that sees to it shares the descriptors of this one, and lives as long. `steps` as in `ThreadPriority`.
    package static func arrange(steps: Int) -> SystemError? {
        guard let (words, count) = argumentBytes() else { return nil }
        let result = clinux_farewell(Int32(steps), words, count)
        return result < 0 ? SystemError("begin a process", code: -result) : nil
    }

    /// Where the system reads this process's arguments.
    private static func argumentBytes() -> (UnsafeMutablePointer<CChar>, Int)? {
        let all = CommandLine.unsafeArgv
        guard CommandLine.argc > 0, let first = all[0], let last = all[Int(CommandLine.argc) - 1] else { return nil }
        return (first, last - first + strlen(last) + 1)
    }
}
