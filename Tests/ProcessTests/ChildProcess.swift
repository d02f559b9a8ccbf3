import Foundation
import Synchronization

/// A child process, as Foundation's `Process` is used here. That one learns of all its children's ends by one thread, which waits
/// for a single child when sockets are closed and opened at the same time: then nobody's end is heard while that child lives.
final class Process {
    private struct Refused: Error, CustomStringConvertible {
        let description: String
    }

    var executableURL: URL?
    var arguments: [String] = []
    var environment: [String: String]?
    var standardInput = FileHandle.nullDevice
    var standardOutput: FileHandle?
    var standardError: FileHandle?
    private(set) var processIdentifier: pid_t = 0
    private static let descriptorsMax: Int32 = 512
    /// How it ended, once it has.
    private let status = Mutex<Int32?>(nil)

    func run() throws {
        let path = executableURL?.path ?? ""
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, standardInput.fileDescriptor, 0)
        for (number, handle) in [(1 as Int32, standardOutput), (2, standardError)] {
            if let handle { posix_spawn_file_actions_adddup2(&actions, handle.fileDescriptor, number) }
        }
        // What other tests have open at the moment is not the child's.
        for descriptor in 3..<Process.descriptorsMax { posix_spawn_file_actions_addclose(&actions, descriptor) }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        var all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        var words: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) }
        words.append(nil)
        defer { for word in words { free(word) } }
        // hash order: the order of variables means nothing
        var variables: [UnsafeMutablePointer<CChar>?] = (environment ?? ProcessInfo.processInfo.environment).map {
            strdup("\($0.key)=\($0.value)")
        }
        variables.append(nil)
        defer { for variable in variables { free(variable) } }
        let result = posix_spawn(&processIdentifier, path, &actions, &attributes, words, variables)
        guard result == 0 else {
            throw Refused(description: "\(path) does not start: \(String(cString: strerror(result)))")
        }
    }

    /// Whether it has ended is asked under the lock, so that nobody waits for a number that is another process's by then.
    private func look() -> Int32? {
        status.withLock { known in
            if known != nil || processIdentifier == 0 { return known }
            var found: Int32 = 0
            let result = waitpid(processIdentifier, &found, WNOHANG)
            if result == processIdentifier {
                known = found & 0x7F == 0 ? (found >> 8) & 0xFF : found & 0x7F
            } else if result < 0 && errno == ECHILD {
                known = -1
            }
            return known
        }
    }

    var isRunning: Bool { processIdentifier != 0 && look() == nil }
    var terminationStatus: Int32 { look() ?? -1 }

    func waitUntilExit() {
        var pause: UInt32 = 1_000
        while isRunning {
            usleep(pause)
            pause = min(pause * 2, 20_000)
        }
    }

    func terminate() { if isRunning { kill(processIdentifier, SIGTERM) } }

    /// Nobody waits for it any more: what has ended is let go.
    deinit { _ = look() }
}
