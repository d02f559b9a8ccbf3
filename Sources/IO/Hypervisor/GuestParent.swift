package import FleetModel
package import Glibc

/// Why a guest's process does not run.
package struct GuestRefusal: Error, Hashable, Sendable {
    package var message: String
    package init(_ message: String) { self.message = message }
}

/// What a guest's process may take of the host, where that can be limited.
package struct GuestLimits: Hashable, Sendable {
    package var cpuMillis: UInt64
    package var memoryMiB: UInt64
    package init(cpuMillis: UInt64, memoryMiB: UInt64) {
        self.cpuMillis = cpuMillis
        self.memoryMiB = memoryMiB
    }
}

/// A program beside a guest's, which is started before it and ends with it. The two have a line to each other as the descriptor
/// `line`, which nobody else has.
package struct GuestCompanion: Hashable, Sendable {
    package static let line: Int32 = 3
    package var program: String
    package var words: [String]
    package init(program: String, words: [String]) {
        self.program = program
        self.words = words
    }
}

/// Who starts guests' processes and is their parent: the host's guard. Belongs to the loop's thread, and answers on it.
package protocol GuestParent: AnyObject {
    /// False while it is not known what it has; then nothing that ran under it does any more, or nobody can tell.
    var isUp: Bool { get }
    /// Starts a program with no shell in between; answers once, and never before it returns. `output` is a file in memory that its
    /// guest's words are appended to, of which the parent keeps the end. Both programs run as `user`; nil for the parent's.
    func start(
        _ vm: VMID, epoch: UInt64, program: String, _ arguments: [String], errorPath: String,
        limits: GuestLimits, output: String?, companion: GuestCompanion?, user: GuestUser?,
        _ done: @escaping (Result<pid_t, GuestRefusal>) -> Void)
    /// Ends at once what it has of the VM up to this epoch, started or about to be.
    func stop(_ vm: VMID, epoch: UInt64)
}
