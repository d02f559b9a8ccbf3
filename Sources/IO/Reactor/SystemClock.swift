internal import CLinux
package import ClusterBase
internal import Glibc

/// The machine's clocks. Reading one costs about 30 ns and no system call.
package enum SystemClock {
    /// Never goes back, and goes on while the machine is suspended, so that nobody's lease outlives a suspended holder.
    package static var now: Instant { Instant(nanoseconds: clinux_now()) }
    /// Nanoseconds since 1970 by the wall clock, which may jump.
    package static var wallNanoseconds: Int64 { clinux_wall() }
    /// How long the process has run on CPUs.
    package static var processCPU: Nanoseconds { Nanoseconds(clinux_process_cpu()) }
    /// How long the calling thread has run on a CPU.
    package static var threadCPU: Nanoseconds { Nanoseconds(clinux_thread_cpu()) }
}
