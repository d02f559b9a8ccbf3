import AgentConfig
import ClusterBase
import CommandSyntax
import Glibc
import Reactor
import Terminal

/// Runs the agent as a child, and again when it ended for its storage or by a signal that nobody sent on purpose.
///
/// Signals are not handled but waited for, so that none is lost between two lives and none hits a process that got the
/// child's number. The child is in a process group of its own: a terminal's Ctrl-C comes here alone, and the child is asked
/// to end once.
struct Supervisor {
    private var child: pid_t = 0
    private var isAskedToEnd = false
    private var waited = sigset_t()

    init() {
        sigemptyset(&waited)
        for number in [SIGTERM, SIGINT, SIGCHLD] { sigaddset(&waited, number) }
    }

    mutating func run() throws -> ExitCode {
        signal(SIGPIPE, SIG_IGN)
        sigprocmask(SIG_BLOCK, &waited, nil)
        var pause = RestartPause()
        while true {
            let born = SystemClock.now
            try spawn()
            let status = waitForEnd()
            let number = status & 0x7F
            let code = status >> 8 & 0xFF
            let storageFailed = number == 0 && code == Agent.End.storage.rawValue
            if number == 0 && !storageFailed { exit(code) }
            if isAskedToEnd || number == SIGTERM || number == SIGINT { return .success }
            Console.complain(
                "muster: the agent ended (\(number != 0 ? "signal \(number)" : "code \(code)")); it is started again")
            if rest(pause.after(life: SystemClock.now - born, storageFailed: storageFailed)) { return .success }
        }
    }

    private mutating func spawn() throws {
        let words = CommandLine.arguments.filter { $0 != "--supervise" }
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
        arguments.append(nil)
        defer { for argument in arguments { free(argument) } }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP))
        let result = posix_spawn(&child, "/proc/self/exe", nil, &attributes, arguments, environ)
        guard result == 0 else {
            throw AgentFailure("Can't start the agent: \(String(cString: strerror(result))).")
        }
    }

    /// The status that the child ended with.
    private mutating func waitForEnd() -> CInt {
        while true {
            var status: CInt = 0
            if waitpid(child, &status, WNOHANG) == child { return status }
            let number = sigwaitinfo(&waited, nil)
            if number == SIGTERM || number == SIGINT {
                isAskedToEnd = true
                kill(child, SIGTERM)
            }
        }
    }

    /// True when it is asked to end meanwhile.
    private func rest(_ time: Nanoseconds) -> Bool {
        var asked = waited
        sigdelset(&asked, SIGCHLD)
        var limit = timespec(tv_sec: Int(time.count / 1_000_000_000), tv_nsec: Int(time.count % 1_000_000_000))
        return sigtimedwait(&asked, nil, &limit) > 0
    }
}
