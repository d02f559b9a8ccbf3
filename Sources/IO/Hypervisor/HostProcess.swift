internal import Glibc

/// Processes of this machine, as the QEMU driver starts, finds and ends them.
enum HostProcess {
    /// A child of this process that is to end soon by itself.
    struct Child {
        let pid: pid_t
        let errorPath: String

        /// Its exit status once it has ended; 128 and more for a signal.
        func status() -> Int32? {
            var status: Int32 = 0
            let result = waitpid(pid, &status, WNOHANG)
            if result == 0 || (result < 0 && errno == EINTR) { return nil }
            if result < 0 { return 0 }
            return status & 0x7F == 0 ? (status >> 8) & 0xFF : 128 + (status & 0x7F)
        }

        /// The last of what it complained of.
        var complaint: String { HostProcess.complaint(in: errorPath) }
    }

    /// The last line of a file that is no warning.
    static func complaint(in path: String) -> String {
        let lines = VMDirectory.text(path).split(separator: "\n").map { String($0) }
        let last = lines.last { !$0.contains(": warning:") } ?? lines.last ?? "it said nothing"
        return String(last.suffix(300))
    }

    /// A line between two programs; nil when none is to be had.
    static func line() -> (Int32, Int32)? {
        var ends: [Int32] = [-1, -1]
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        return socketpair(AF_UNIX, kind, 0, &ends) == 0 ? (ends[0], ends[1]) : nil
    }

    /// Starts a program with no shell in between, no open files but its line, and all signals as they are by default.
    static func start(
        _ program: String, _ arguments: [String], errorPath: String, line: Int32? = nil
    ) -> Result<Child, QMPFailure> {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 2, errorPath, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        if let line { posix_spawn_file_actions_adddup2(&actions, line, GuestCompanion.line) }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigdefault(&attributes, &all)
        // The C header hides this flag from programs without its extensions: a session of its own.
        let ownSession: Int16 = 0x80
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK) | Int16(POSIX_SPAWN_SETSIGDEF) | ownSession)
        var words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) }
        words.append(nil)
        var environment: [UnsafeMutablePointer<CChar>?] = [strdup("PATH=/usr/bin:/bin"), strdup("LC_ALL=C"), nil]
        defer { for word in words + environment { free(word) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, program, &actions, &attributes, &words, &environment)
        environment.removeAll(keepingCapacity: true)
        guard code == 0 else {
            return .failure(QMPFailure(message: "can't start \(program): \(String(cString: strerror(code)))"))
        }
        return .success(Child(pid: pid, errorPath: errorPath))
    }

    /// Processes that live and were given this argument, ascending. The argument is a VM's directory with a name in it that
    /// no other program is given, so a number that was used again for another program is not taken for a guest.
    static func living(with argument: String) -> [pid_t] {
        var found: [pid_t] = []
        for name in VMDirectory.names(in: "/proc") {
            guard let pid = pid_t(name), isAlive(pid, with: argument) else { continue }
            found.append(pid)
        }
        return found.sorted()
    }

    /// The same for all VMs in a directory, by VM's directory.
    static func living(below directory: String) -> [String: [pid_t]] {
        var found: [String: [pid_t]] = [:]
        for pid in VMDirectory.names(in: "/proc").compactMap({ pid_t($0) }).sorted() {
            for word in words(of: pid) {
                let text = String(decoding: word, as: UTF8.self)
                guard text.hasPrefix(directory + "/"), let folder = VMDirectory.folder(ofMark: text) else { continue }
                found[folder, default: []].append(pid)
            }
        }
        return found
    }

    static func isAlive(_ pid: pid_t, with argument: String) -> Bool {
        words(of: pid).contains { $0.elementsEqual(argument.utf8) }
    }

    /// A process that has ended, reaped or not, has no arguments. One whose first thread has ended is there as long as another one
    /// is, which may have a write to a disk under way that hangs; that has them still.
    private static func words(of pid: pid_t) -> [ArraySlice<UInt8>] {
        let bytes = VMDirectory.bytes("/proc/\(pid)/cmdline")
        if !bytes.isEmpty { return bytes.split(separator: 0) }
        for thread in VMDirectory.names(in: "/proc/\(pid)/task") where thread != "\(pid)" {
            let bytes = VMDirectory.bytes("/proc/\(pid)/task/\(thread)/cmdline")
            if !bytes.isEmpty { return bytes.split(separator: 0) }
        }
        return []
    }

    /// Whom it runs as; nil when it is gone.
    static func user(of pid: pid_t) -> UInt32? {
        let line = VMDirectory.text("/proc/\(pid)/status").split(separator: "\n").first { $0.hasPrefix("Uid:") }
        return line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { UInt32($0) }
    }

    static func kill(_ pid: pid_t) { _ = Glibc.kill(pid, SIGKILL) }

    /// Memory in bytes that it has, and time that it ran.
    static func usage(of pid: pid_t) -> (memoryBytes: Int64, cpuTicks: Int64)? {
        let pages = VMDirectory.text("/proc/\(pid)/statm").split(separator: " ")
        let text = VMDirectory.text("/proc/\(pid)/stat")
        guard pages.count > 1, let resident = Int64(pages[1]), let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[end...].split(separator: " ")
        guard fields.count > 13, let user = Int64(fields[12]), let system = Int64(fields[13]) else { return nil }
        return (resident * Int64(sysconf(Int32(_SC_PAGESIZE))), user + system)
    }
}
