internal import CLinux
public import ClusterBase
internal import Glibc

/// The machine's clocks. Reading one costs about 30 ns and no system call.
public enum SystemClock {
    /// Never goes back, and goes on while the machine is suspended, so that nobody's lease outlives a suspended holder.
    public static var now: Instant { Instant(nanoseconds: clinux_now()) }
    /// Nanoseconds since 1970 by the wall clock, which may jump.
    public static var wallNanoseconds: Int64 { clinux_wall() }
    /// How long the process has run on CPUs.
    public static var processCPU: Nanoseconds { Nanoseconds(clinux_process_cpu()) }
    /// How long the calling thread has run on a CPU.
    public static var threadCPU: Nanoseconds { Nanoseconds(clinux_thread_cpu()) }
}

/// What a file system has room for.
public struct DiskSpace: Hashable, Sendable {
    public var totalBytes: UInt64
    /// What a process without privileges may still write.
    public var availableBytes: UInt64

    /// Asks the file system that holds `path`.
    public init(at path: String) throws(SystemError) {
        var space = clinux_space()
        _ = try SystemError.check(clinux_disk_space(path, &space), "ask for the space of", path)
        totalBytes = space.total_bytes
        availableBytes = space.available_bytes
    }
}
