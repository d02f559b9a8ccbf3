import ClusterBase
import FleetModel
import Glibc
import Guard
import Reactor

/// A node's directory with a real guard, the line to it, and guests that write the time down fifty times a second.
final class Ward {
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    let path: String
    let loop: EventLoop
    private(set) var link: GuardLink?
    private(set) var events: [GuardLink.Event] = []
    private(set) var answers: [UInt64: Result<Int32, GuardFailure>] = [:]
    private var generation: UInt64 = 0

    /// What guards are started from, and become.
    private let program: String
    private let priority: Int
    private let watchdog: String

    init(program: String? = nil, priority: Int = GuardPriority.standard, watchdog: String = "") throws {
        self.priority = priority
        self.watchdog = watchdog
        self.program = try program ?? Ward.binary()
        var template = Array("/tmp/muster-g-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Failure(description: "no directory") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        loop = try EventLoop()
        try connect()
    }

    func connect(as other: String? = nil) throws {
        link = try GuardLink(
            loop, nodeDirectory: path, program: other ?? program, incarnation: 1, priority: priority,
            watchdog: watchdog
        ) { [unowned self] in events.append($0) }
        guard wait({ self.link?.isUp ?? false }) else { throw Failure(description: "no guard: \(log)") }
    }

    func disconnect() {
        link?.close()
        link = nil
    }

    func end() {
        disconnect()
        for process in guards { kill(process, SIGKILL) }
        for name in ["guard/lock", "guard/incarnation", "guard/epochs", "guard/socket", "guard/log"] + names(path) {
            unlink(path + "/" + name)
        }
        rmdir(path + "/guard")
        rmdir(path)
    }

    var log: String { text("guard/log") }
    var incarnation: UInt64 { link?.incarnation ?? 0 }
    /// How often a guard has welcomed this node's agent.
    var linesBegun: Int { events.count { if case .up = $0 { true } else { false } } }

    /// Until it is so. The time is for a hang: a guard that starts waits for the disk, and that can be slow.
    func wait(atMost time: Nanoseconds = .seconds(30), _ isSo: () -> Bool) -> Bool {
        let until = SystemClock.now + time
        while !isSo() {
            if SystemClock.now >= until { return false }
            // What changes outside wakes nobody.
            loop.turn(waitingAtMost: .milliseconds(5))
        }
        return true
    }

    // MARK: Leases and guests

    /// Gives a grant of the VMs, by their epochs, as asked for just now; returns its end.
    @discardableResult
    func grant(
        _ vms: [UInt64: UInt64], length: Nanoseconds = .seconds(3), isolation: VMDescription.Isolation = .stop
    ) -> Instant {
        generation += 1
        let sentAt = SystemClock.now
        link?.give(
            sentAt: sentAt, length: length, generation: LogIndex(generation),
            vms.map { RunPermit(VMID($0.key), epoch: $0.value, isolation: isolation) }.sorted())
        return sentAt + length
    }

    /// Answers each line with itself, on the line that it was started with.
    static let echo = GuardLink.Companion(
        program: "/usr/bin/perl",
        words: ["-e", "open(my $l, '+<&=', 3) or die; while (sysread($l, my $x, 1)) { syswrite($l, $x) }"])
    /// Ticks once for each answer of its companion.
    static let asking = """
        $| = 1; open(my $f, '>>', $ARGV[0]); $f->autoflush(1); open(my $l, '+<&=', 3) or die;
        while (1) { syswrite($l, 'x'); sysread($l, my $x, 1) or die; open(my $u, '<', '/proc/uptime'); my $t = <$u>;
            print $f $t; select(undef, undef, undef, 0.02); }
        """

    func start(
        _ vm: UInt64, epoch: UInt64, program: String = "/usr/bin/perl", cpuMillis: UInt64 = 0, memoryMiB: UInt64 = 0,
        output: String = "", companion: GuardLink.Companion? = nil, user: GuardLink.User? = nil
    ) {
        answers[vm] = nil
        let script = """
            $| = 1; open(my $f, '>>', $ARGV[0]); $f->autoflush(1);
            while (1) { open(my $u, '<', '/proc/uptime'); my $t = <$u>; print $f $t; select(undef, undef, undef, 0.02); }
            """
        link?.start(
            VMID(vm), epoch: epoch, program: program,
            ["-MIO::Handle", "-e", companion == nil ? script : Ward.asking, ticks(vm)],
            errorPath: path + "/error-\(vm)", cpuMillis: cpuMillis, memoryMiB: memoryMiB, output: output,
            companion: companion, user: user
        ) { [unowned self] in answers[vm] = $0 }
    }

    /// Starts it and waits until it ticks; gives its process.
    func run(
        _ vm: UInt64, epoch: UInt64, cpuMillis: UInt64 = 0, memoryMiB: UInt64 = 0,
        companion: GuardLink.Companion? = nil, user: GuardLink.User? = nil
    ) throws -> Int32 {
        if user != nil { chmod(path, 0o777) }
        start(vm, epoch: epoch, cpuMillis: cpuMillis, memoryMiB: memoryMiB, companion: companion, user: user)
        _ = wait { self.answers[vm] != nil }
        let process = try answers[vm]?.get() ?? 0
        guard wait({ self.lastTick(vm) != nil }) else {
            throw Failure(description: "it does not tick: \(log) \(text("error-\(vm)"))")
        }
        return process
    }

    func refusal(_ vm: UInt64) -> String? {
        if case .failure(let failure)? = answers[vm] { failure.description } else { nil }
    }

    func ticks(_ vm: UInt64) -> String { path + "/ticks-\(vm)" }

    /// On the clock that leases count by, to a hundredth of a second.
    func lastTick(_ vm: UInt64) -> Instant? {
        let last = text("ticks-\(vm)").split(separator: "\n").last?.split(separator: " ").first
        return last.flatMap { Double($0) }.map { Instant(nanoseconds: Int64($0 * 1e9)) }
    }

    func goesOn(_ vm: UInt64) -> Bool {
        let before = lastTick(vm)
        return wait(atMost: .seconds(1)) { self.lastTick(vm) != before }
    }

    // MARK: Processes

    static func lives(_ process: Int32) -> Bool {
        // Dead and not reaped is dead.
        let text = String(decoding: bytes("/proc/\(process)/stat"), as: UTF8.self)
        guard let end = text.lastIndex(of: ")") else { return false }
        return text[end...].split(separator: " ").dropFirst().first.map { $0 != "Z" && $0 != "X" } ?? false
    }

    /// Children of a process.
    func children(of parent: Int32) -> [Int32] {
        names("/proc").compactMap { Int32($0) }.filter { process in
            let text = String(decoding: Ward.bytes("/proc/\(process)/stat"), as: UTF8.self)
            guard let end = text.lastIndex(of: ")") else { return false }
            return text[end...].split(separator: " ").dropFirst(2).first == "\(parent)" && Ward.lives(process)
        }
    }

    /// The guards of this directory.
    var guards: [Int32] {
        names("/proc").compactMap { Int32($0) }.filter { process in
            let words = Ward.bytes("/proc/\(process)/cmdline").split(separator: 0)
            return words.count >= 3 && words[1].elementsEqual("guard".utf8) && words[2].elementsEqual(path.utf8)
        }
    }

    /// The cgroup of version 2 that a process is in, below the file system's root.
    static func group(of process: Int32) -> String {
        String(decoding: bytes("/proc/\(process)/cgroup"), as: UTF8.self).split(separator: "\n")
            .first { $0.hasPrefix("0::") }.map { String($0.dropFirst(3)) } ?? ""
    }

    /// Where cgroups of version 2 are, if this user may make some there.
    static let groupsMount: String? = {
        let lines = String(decoding: bytes("/proc/self/mountinfo"), as: UTF8.self).split(separator: "\n")
        guard let line = lines.first(where: { $0.contains(" - cgroup2 ") }) else { return nil }
        let mount = String(line.split(separator: " ")[4])
        let own = group(of: getpid())
        return access(mount + own, W_OK) == 0 ? mount : nil
    }()

    var guardProcess: Int32 {
        get throws {
            // One that finds the lock taken, and one that is about to become a guest, are there for a moment.
            _ = wait(atMost: .seconds(5)) { self.guards.count == 1 }
            guard let first = guards.first, guards.count == 1 else {
                throw Failure(description: "\(guards.count) guards run: \(log)")
            }
            return first
        }
    }

    func names(_ path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var found: [String] = []
        while let entry = readdir(folder) {
            found.append(
                withUnsafePointer(to: entry.pointee.d_name) { tuple in
                    tuple.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                })
        }
        return found.filter { $0 != "." && $0 != ".." && $0 != "guard" }
    }

    func text(_ name: String) -> String { String(decoding: Ward.bytes(path + "/" + name), as: UTF8.self) }

    static func bytes(_ path: String) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return [] }
        defer { close(file) }
        var all: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(file, &part, part.count)
            if count <= 0 { return all }
            all += part[..<count]
        }
    }

    static func write(_ path: String, _ text: String) {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        defer { close(file) }
        _ = Array(text.utf8).withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
    }

    /// The program, which lies beside the tests' bundle.
    static func binary() throws -> String {
        var buffer = [CChar](repeating: 0, count: 4_096)
        guard realpath(CommandLine.arguments[0], &buffer) != nil else { throw Failure(description: "no path") }
        var path = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        for _ in 0..<4 {
            path = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
            if access(path + "/muster", X_OK) == 0 { return path + "/muster" }
        }
        throw Failure(description: "there is no muster beside \(CommandLine.arguments[0])")
    }
}
