import ClusterBase
import FleetModel
import Glibc
import Hypervisor
import NodePorts
import Reactor
import Simulator

/// A driver under test: two hosts of it, the time, and what they said.
class Drivers {
    enum Kind: String, CaseIterable, CustomStringConvertible {
        case simulated, qemu
        var description: String { rawValue }
        /// Those that can run on this machine.
        static var here: [Kind] { QEMU.absence == nil ? allCases : [.simulated] }
    }

    var hosts: [any Hypervisor] = []
    private(set) var news: [[VMReport]] = []
    var now: Instant { .origin }

    static func make(_ kind: Kind) throws -> Drivers {
        switch kind {
        case .simulated: SimulatedDrivers()
        case .qemu: try QEMUDrivers()
        }
    }

    func take(_ host: Int) {
        for case .state(let report) in hosts[host].takeNews(now: now) { news[host].append(report) }
    }
    func add(_ host: any Hypervisor) {
        hosts.append(host)
        news.append([])
    }
    func order(_ host: Int, _ order: HypervisorOrder) { hosts[host].carryOut([order], now: now) }
    /// A moment of waiting.
    func pass() {}
    func end() {}

    func last(_ host: Int, _ vm: CellVM) -> VMReport? { news[host].last { $0.vm == vm.id } }
    func states(_ host: Int) -> [VMReport.State] { news[host].map(\.state) }

    /// False when it takes too long.
    func wait(_ host: Int, _ vm: CellVM, _ state: VMReport.State, atMost seconds: Int64 = 30) -> Bool {
        wait(atMost: seconds) { self.last(host, vm)?.state == state }
    }
    func wait(atMost seconds: Int64 = 30, _ isDone: () -> Bool) -> Bool {
        let until = now + .seconds(seconds)
        while !isDone() {
            if now >= until { return false }
            pass()
        }
        return true
    }

    /// A VM that both drivers can run; each heeds its own annotations.
    func vm(_ number: UInt64 = 1, _ change: (inout VMDescription) -> Void = { _ in }) -> CellVM {
        var spec = VMDescription(resources: Resources(cpuMillis: 1_000, memoryMiB: 128))
        spec.annotations = [
            Named("qemu.append", "console=ttyS0 quiet panic=-1"), Named("qemu.initrd", "initrd"),
            Named("qemu.kernel", "kernel"),
        ]
        change(&spec)
        return CellVM(
            id: VMID(rawValue: 1 << 40 | number), name: "vm-\(number)", tenant: "default", spec: spec,
            at: LogTime(rawValue: 0), by: "test")
    }
}

final class SimulatedDrivers: Drivers {
    private var time = Instant.origin + .seconds(1)
    override var now: Instant { time }

    override init() {
        super.init()
        for _ in 0..<2 { add(SimulatedHypervisor()) }
    }

    override func pass() {
        let next = hosts.compactMap(\.deadline).min() ?? time + .milliseconds(100)
        time = max(time + .milliseconds(1), min(next, time + .milliseconds(100)))
        for host in hosts.indices { take(host) }
    }
}

/// What the tests need of the machine to run real guests.
enum QEMU {
    static let kernel: String? = {
        let names = (try? Files.names(in: "/boot")) ?? []
        return names.filter { $0.hasPrefix("vmlinuz-") }.sorted().last.map { "/boot/" + $0 }
    }()
    static let busybox = "/usr/bin/busybox"

    static let hasTPM = access("/usr/bin/swtpm", X_OK) == 0

    /// What is missing, as a sentence; nil when guests can run.
    static let absence: String? = {
        for (path, package) in [
            ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"), ("/usr/bin/qemu-img", "qemu-utils"),
            (busybox, "busybox-static"), ("/usr/bin/setpriv", "util-linux"),
        ] where access(path, X_OK) != 0 {
            return "No real guests are run: \(path) is not there (Debian: \(package))."
        }
        if kernel == nil {
            return "No real guests are run: there is no kernel in /boot (Debian: linux-image-cloud-amd64)."
        }
        return nil
    }()

    /// A program that becomes QEMU and ends with the thread that started it, as a test's guests do with a test that is killed.
    static func leashed(in folder: String) throws -> String {
        let program = folder + "/qemu"
        Files.write(
            program,
            Array("#!/bin/sh\nexec /usr/bin/setpriv --pdeathsig KILL -- /usr/bin/qemu-system-x86_64 \"$@\"\n".utf8))
        guard chmod(program, 0o700) == 0 else { throw Files.Failure() }
        return program
    }
}

enum Files {
    struct Failure: Error {}

    static func names(in path: String) throws -> [String] {
        guard let folder = opendir(path) else { throw Failure() }
        defer { closedir(folder) }
        var found: [String] = []
        while let entry = readdir(folder) {
            found.append(
                withUnsafePointer(to: entry.pointee.d_name) { tuple in
                    tuple.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                })
        }
        return found.filter { $0 != "." && $0 != ".." }
    }

    static func read(_ path: String) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return [] }
        defer { close(file) }
        var all: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = Glibc.read(file, &part, part.count)
            if count <= 0 { return all }
            all += part[..<count]
        }
    }

    static func write(_ path: String, _ bytes: [UInt8]) {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        defer { close(file) }
        var at = 0
        while at < bytes.count {
            let count = bytes[at...].withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            if count <= 0 { return }
            at += count
        }
    }

    static func size(_ path: String) -> Int {
        var info = stat()
        return stat(path, &info) == 0 ? Int(info.st_size) : 0
    }

    /// Where a link leads.
    static func target(_ path: String) -> String? {
        var place = [CChar](repeating: 0, count: 4_096)
        let count = readlink(path, &place, place.count)
        return count > 0 ? String(decoding: place.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
    }

    static func makeTemporary() throws -> String {
        var template = Array("/tmp/muster-q-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Failure() }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    static func remove(_ path: String) {
        for name in (try? names(in: path)) ?? [] {
            let inner = path + "/" + name
            if unlink(inner) != 0 { remove(inner) }
        }
        rmdir(path)
    }

    /// An archive in the "newc" form, which a kernel takes for its first file system.
    static func archive(_ files: [(name: String, mode: UInt32, bytes: [UInt8])]) -> [UInt8] {
        var all: [UInt8] = []
        for (number, file) in (files + [("TRAILER!!!", 0, [])]).enumerated() {
            func field(_ value: Int) -> String {
                let hex = String(value, radix: 16, uppercase: true)
                return String(repeating: "0", count: 8 - hex.count) + hex
            }
            let fields = [
                number + 1, Int(file.mode), 0, 0, 1, 0, file.bytes.count, 0, 0, 0, 0, file.name.utf8.count + 1, 0,
            ]
            all += Array(("070701" + fields.map(field).joined()).utf8) + Array(file.name.utf8) + [0]
            while all.count % 4 != 0 { all.append(0) }
            all += file.bytes
            while all.count % 4 != 0 { all.append(0) }
        }
        return all
    }
}

/// Two hosts with real guests, on one loop.
final class QEMUDrivers: Drivers, TurnOwner {
    /// A guest that counts aloud, a hundred times a second. With `dirty` in its command line it changes memory all the time.
    static let script = """
        #!/bin/busybox sh
        /bin/busybox mkdir -p /proc /tmp
        /bin/busybox mount -t proc proc /proc
        /bin/busybox mount -t tmpfs tmpfs /tmp
        if /bin/busybox grep -q poweroff /proc/cmdline; then /bin/busybox sleep 1; /bin/busybox poweroff -f; fi
        if /bin/busybox grep -q dirty /proc/cmdline; then
            /bin/busybox mount -t devtmpfs dev /dev
            while true; do /bin/busybox dd if=/dev/urandom of=/tmp/dirt bs=64k count=320 2>/dev/null; done &
        fi
        i=0
        while true; do i=$((i+1)); echo "tick $i"; /bin/busybox usleep 10000; done

        """

    let path: String
    let loop: EventLoop
    private(set) var settings: [QEMUSettings] = []
    private(set) var carriers: [TestCarrier] = []
    /// By host; empty where guests are the test's own children.
    private(set) var guards: [TestGuard] = []
    override var now: Instant { SystemClock.now }
    var deadline: Instant { hosts.compactMap(\.deadline).min() ?? now + .seconds(1) }
    func turnEnded(_ turn: Turn) { for host in hosts.indices { take(host) } }

    init(
        triesKVM: Bool = false, hasGuards: Bool = false, script: String = QEMUDrivers.script,
        more: [(name: String, mode: UInt32, bytes: [UInt8])] = [], set: (inout QEMUSettings, Int) -> Void = { _, _ in }
    ) throws {
        path = try Files.makeTemporary()
        loop = try EventLoop()
        super.init()
        for name in ["images", "storage", "storage/fast", "a", "b"] { mkdir("\(path)/\(name)", 0o700) }
        let files: [(name: String, mode: UInt32, bytes: [UInt8])] = [
            ("bin", 0o040755, []), ("dev", 0o040755, []), ("bin/busybox", 0o100755, Files.read(QEMU.busybox)),
            ("init", 0o100755, Array(script.utf8)),
        ]
        Files.write(path + "/images/initrd", Files.archive(files + more))
        if let kernel = QEMU.kernel { Files.write(path + "/images/kernel", Files.read(kernel)) }
        let program = try QEMU.leashed(in: path)
        for name in ["a", "b"] {
            var each = QEMUSettings(directory: "\(path)/\(name)", images: path + "/images", storage: path + "/storage")
            each.triesKVM = triesKVM
            // What a guard starts ends with it.
            if !hasGuards { each.program = program }
            set(&each, settings.count)
            settings.append(each)
        }
        carriers = try TestCarrier.two(loop)
        if hasGuards { guards = try settings.map { try TestGuard(loop, directory: $0.directory) } }
        for host in settings.indices { add(makeDriver(host)) }
        loop.owner = self
    }

    private func makeDriver(_ host: Int) -> QEMUHypervisor {
        let its = guards.isEmpty ? nil : guards[host]
        let driver = QEMUHypervisor(settings[host], loop: loop, carrier: carriers[host], parent: its)
        its?.driver = driver
        return driver
    }

    /// As agents let them in to directories of their own.
    func letUsersIn() {
        for folder in ["", "/a", "/b", "/images", "/storage", "/storage/fast"] { chmod(path + folder, 0o711) }
        for name in ["kernel", "initrd"] { chmod("\(path)/images/\(name)", 0o644) }
    }

    override func pass() {
        for each in guards { each.tend() }
        loop.turn(waitingAtMost: .milliseconds(2))
    }

    override func order(_ host: Int, _ order: HypervisorOrder) {
        switch order {
        case .start(let vm, let epoch, _), .receive(let vm, let epoch, _):
            if !guards.isEmpty { guards[host].permit(vm.id, epoch: epoch) }
        default: break
        }
        super.order(host, order)
    }

    /// The same host under a new agent. Its connections end with an agent.
    func restartAgent(_ host: Int, set: (inout QEMUSettings) -> Void = { _ in }) throws {
        set(&settings[host])
        if !guards.isEmpty {
            guards[host] = try TestGuard(loop, directory: settings[host].directory, after: guards[host])
        }
        hosts[host] = makeDriver(host)
        carriers[host].network.setJudge { _, _ in .refuse("its agent begins anew") }
        carriers[host].network.setJudge { _, _ in .accept }
    }

    /// Where memory goes in and out, at both hosts.
    var sockets: [String] {
        settings.flatMap { each in
            ((try? Files.names(in: each.directory)) ?? []).flatMap { vm in
                ((try? Files.names(in: "\(each.directory)/\(vm)")) ?? []).filter {
                    ["arrival", "departure"].contains($0)
                }
            }
        }
    }
    func serial(_ host: Int, _ vm: CellVM) -> String { "\(settings[host].directory)/\(vm.id)/serial.log" }
    func pids(_ host: Int) -> [Int32] {
        ((try? Files.names(in: "/proc")) ?? []).compactMap { Int32($0) }.filter { pid in
            String(decoding: Files.read("/proc/\(pid)/cmdline"), as: UTF8.self).contains(settings[host].directory + "/")
        }
    }

    override func end() {
        loop.owner = nil
        for carrier in carriers { carrier.network.close() }
        for each in guards {
            each.close()
            if let process = each.process { kill(process, SIGKILL) }
        }
        for host in settings.indices { for pid in pids(host) { kill(pid, SIGKILL) } }
        for each in settings {
            for vm in (try? Files.names(in: each.directory)) ?? [] {
                if let place = Files.target("\(each.directory)/\(vm)/serial.log") { unlink(place) }
            }
        }
        Files.remove(path)
    }
}
