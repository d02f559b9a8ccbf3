import ClusterBase
import FleetModel
import Glibc
import Hypervisor
import NodePorts
import Reactor
import Testing

/// Modules of the guest's kernel, which its first file system brings along.
enum Modules {
    static let folder: String? = QEMU.kernel.map { "/lib/modules/" + $0.dropFirst("/boot/vmlinuz-".count) + "/kernel/" }
    static let virtio = [
        "drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_legacy_dev",
        "drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci",
    ]
    static let network = ["net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net"]
    static let disk = ["drivers/block/virtio_blk", "drivers/cdrom/cdrom", "fs/isofs/isofs"]

    /// As files of an archive, and the lines that load them. What is not there is in the kernel itself.
    static func loaded(_ names: [String]) -> (files: [(name: String, mode: UInt32, bytes: [UInt8])], script: String) {
        var files: [(name: String, mode: UInt32, bytes: [UInt8])] = []
        var script = ""
        for name in names {
            let bytes = Files.read((folder ?? "") + name + ".ko")
            if bytes.isEmpty { continue }
            let file = (name.split(separator: "/").last.map { String($0) } ?? name) + ".ko"
            files.append((file, 0o100644, bytes))
            script += "/bin/busybox insmod /\(file)\n"
        }
        return (files, script)
    }

    static let begin = """
        #!/bin/busybox sh
        /bin/busybox mkdir -p /proc /sys /tmp /seed
        /bin/busybox mount -t proc proc /proc
        /bin/busybox mount -t sysfs sysfs /sys
        /bin/busybox mount -t devtmpfs dev /dev

        """
}

/// What runs another program and waits, in the caller's network.
enum Program {
    @discardableResult
    static func run(_ program: String, _ words: [String], to path: String = "/dev/null") -> Int32 {
        guard let process = start(program, words, to: path) else { return -1 }
        var status: Int32 = 0
        waitpid(process, &status, 0)
        return status
    }

    static func start(_ program: String, _ words: [String], to path: String) -> pid_t? {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 1, path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        var list: [UnsafeMutablePointer<CChar>?] = ([program] + words).map { strdup($0) } + [nil]
        defer { for word in list { free(word) } }
        var process: pid_t = 0
        return posix_spawn(&process, program, &actions, nil, &list, nil) == 0 ? process : nil
    }

    /// What `ip` says.
    static func ip(_ words: String, in folder: String) -> String {
        _ = run("/usr/sbin/ip", words.split(separator: " ").map { String($0) }, to: folder + "/ip")
        return String(decoding: Files.read(folder + "/ip"), as: UTF8.self)
    }
}

/// A network of its own for one thread and what it starts.
enum Namespace {
    private static let unshare: (@convention(c) (Int32) -> Int32)? = dlsym(nil, "unshare").map {
        unsafeBitCast($0, to: (@convention(c) (Int32) -> Int32).self)
    }
    private static let newNetwork: Int32 = 0x4000_0000

    /// Why there can't be one, as a sentence; nil when there can.
    static let absence: String? = {
        for (path, package) in [("/usr/sbin/ip", "iproute2"), ("/usr/bin/perl", "perl"), ("/dev/net/tun", "")]
        where access(path, R_OK) != 0 { return "\(path) is not there (Debian: \(package))" }
        var isGood = false
        inside { isGood = true }
        return isGood ? nil : "only root can make networks"
    }()

    /// Runs it on a thread of its own, which is gone afterwards, and its network with it.
    static func inside(_ body: @escaping () -> Void) {
        nonisolated(unsafe) let body = body
        let thread = try? WorkerThread("namespace") {
            guard let unshare, unshare(newNetwork) == 0 else { return }
            Program.run("/usr/sbin/ip", ["link", "set", "lo", "up"])
            body()
        }
        thread?.join()
    }
}

@Suite(.serialized, .enabled(if: QEMU.absence == nil, "no QEMU, no kernel or no busybox on this machine"))
struct GuestDeviceTests {
    @Test func `cloud-init's disk is read by a real guest`() throws {
        let modules = Modules.loaded(Modules.virtio + Modules.disk)
        let script =
            Modules.begin + modules.script + """
                for i in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] && break; /bin/busybox usleep 200000; done
                /bin/busybox mount -t iso9660 -o ro /dev/vda /seed
                for f in /seed/*; do echo "file $f"; /bin/busybox cat $f; done
                /bin/busybox touch /seed/x 2>/dev/null || echo "it can't be written to"
                echo done; /bin/busybox sleep 1000
                """
        let drivers = try QEMUDrivers(script: script, more: modules.files)
        defer { drivers.end() }
        let vm = drivers.vm { spec in
            spec.annotations.append(Named("cloud-init.user-data", "#cloud-config\nhostname: from-muster\n"))
        }
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        func said() -> String { String(decoding: Files.read(drivers.serial(0, vm)), as: UTF8.self) }
        #expect(drivers.wait(atMost: 60) { said().contains("done") }, "\(said())")
        let text = String(decoding: said().utf8.filter { $0 != 13 }, as: UTF8.self)
        #expect(text.contains("file /seed/user-data\n#cloud-config\nhostname: from-muster\n"), "\(text)")
        #expect(
            text.contains("file /seed/meta-data\ninstance-id: \"muster-\(vm.id)\"\nlocal-hostname: \"vm-1\"\n"),
            "\(text)")
        #expect(text.contains("it can't be written to"))
    }

    @Test func `what is typed reaches the guest once, however often it is sent`() throws {
        let script = Modules.begin + "echo ready; while read line; do echo \"heard $line\"; done"
        let drivers = try QEMUDrivers(script: script)
        defer { drivers.end() }
        let vm = drivers.vm()
        let driver = try #require(drivers.hosts[0] as? QEMUHypervisor)
        #expect(driver.type([65], into: vm.id, session: "s", before: 0) != nil, "it does not run")
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        func said() -> String { String(decoding: Files.read(drivers.serial(0, vm)), as: UTF8.self) }
        #expect(drivers.wait(atMost: 60) { said().contains("ready") }, "\(said())")
        for _ in 0..<3 { #expect(driver.type(Array("one\n".utf8), into: vm.id, session: "s", before: 0) == nil) }
        #expect(driver.type(Array("e\ntwo\n".utf8), into: vm.id, session: "s", before: 2) == nil)
        #expect(drivers.wait(atMost: 10) { said().contains("heard two") }, "\(said())")
        #expect(said().split(whereSeparator: \.isNewline).count { $0.hasPrefix("heard one") } == 1, "\(said())")
        #expect(driver.type([UInt8](repeating: 65, count: 20_000), into: vm.id, session: "s", before: 8) != nil)
        driver.closeConsoles()
    }

    static let hasUEFI = access("/usr/share/OVMF/OVMF_CODE_4M.fd", R_OK) == 0

    @Test(.enabled(if: hasUEFI, "there is no UEFI firmware (Debian: ovmf)"))
    func `a guest boots by UEFI with the NUMA nodes that were asked for, and has both where it moved`() throws {
        let script =
            Modules.begin + """
                seen() {
                    echo "$1: $(/bin/busybox ls -d /sys/devices/system/node/node* | /bin/busybox wc -l) nodes,"\
                        "$(/bin/busybox nproc) CPUs, EFI $([ -d /sys/firmware/efi ] && echo yes || echo no)"
                }
                seen here; i=0
                while true; do
                    i=$((i+1)); echo "tick $i"; [ $((i % 50)) = 0 ] && seen now; /bin/busybox usleep 10000
                done
                """
        let drivers = try QEMUDrivers(script: script)
        defer { drivers.end() }
        let vm = drivers.vm { spec in
            spec.resources = Resources(cpuMillis: 2_000, memoryMiB: 256)
            spec.annotations += [Named("qemu.firmware", "uefi"), Named("qemu.numa", "2")]
        }
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        func said(_ host: Int) -> String { String(decoding: Files.read(drivers.serial(host, vm)), as: UTF8.self) }
        #expect(drivers.wait(atMost: 90) { said(0).contains("tick") }, "\(said(0).suffix(2_000))")
        #expect(said(0).contains("here: 2 nodes, 2 CPUs, EFI yes"), "\(said(0).suffix(2_000))")
        let variables = "local-firmware.fd"
        func remembered(_ host: Int) -> [UInt8] {
            Files.read("\(drivers.settings[host].directory)/\(vm.id)/\(variables)")
        }
        // The firmware has written down what it boots from.
        let template = Files.read("/usr/share/OVMF/OVMF_VARS_4M.fd")
        #expect(remembered(0).count == template.count && remembered(0) != template)
        drivers.order(1, .receive(vm, epoch: 2, from: HostID(rawValue: 1)))
        drivers.order(0, .send(vm.id, epoch: 1, target: 2, to: HostID(rawValue: 2)))
        #expect(drivers.wait(0, vm, .copied, atMost: 60))
        let before = remembered(0)
        drivers.order(1, .finishArrival(vm.id, epoch: 2))
        #expect(drivers.wait(1, vm, .running, atMost: 5))
        #expect(
            drivers.wait(atMost: 30) { said(1).contains("now: 2 nodes, 2 CPUs, EFI yes") }, "\(said(1).suffix(500))")
        #expect(remembered(1) == before, "what it remembers came along")
        drivers.order(0, .discard(vm.id, epoch: 1, forGood: true))
        #expect(drivers.wait(0, vm, .stopped, atMost: 5))
        #expect(remembered(0).isEmpty)
    }

    /// Listens on a bridge and writes down when a frame of the guest's came, and of which kind.
    private static let listener = """
        use Time::HiRes qw(clock_gettime); $| = 1;
        socket(my $s, 17, 3, unpack('S', pack('n', 3))) or die;
        bind($s, pack('SnlSCCa8', 17, 3, $ARGV[0], 0, 0, 0, '')) or die;
        while (1) { recv($s, my $f, 2048, 0); next unless unpack('H12', substr($f, 6, 6)) eq $ARGV[1];
            printf "%.6f %s\\n", clock_gettime(7), unpack('H4', substr($f, 12, 2)); }
        """

    private struct Heard {
        var at: Double
        var kind: Substring
    }

    @Test(.enabled(if: Namespace.absence == nil, "no network can be made here"), arguments: [false, true])
    func `a guest speaks on its bridge, and at its next host not before the commit`(isOtherUser: Bool) throws {
        var failure: (any Error)?
        Namespace.inside {
            do { try GuestDeviceTests.move(isOtherUser) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    private static func move(_ isOtherUser: Bool) throws {
        let modules = Modules.loaded(Modules.virtio + Modules.network)
        let script =
            Modules.begin + modules.script + """
                /bin/busybox ip addr add 10.99.0.2/24 dev eth0; /bin/busybox ip link set eth0 up
                echo ready
                while true; do /bin/busybox ping -i 0.02 10.99.0.1 >/dev/null; done
                """
        let users = isOtherUser ? try GuestUsers("2000000-2065535") : nil
        let drivers = try QEMUDrivers(hasGuards: isOtherUser, script: script, more: modules.files) { settings, number in
            settings.users = users
            settings.bridges = ["lan": "br0"]
            settings.tapPrefix = number == 0 ? "a" : "b"
        }
        defer { drivers.end() }
        let path = drivers.path
        if isOtherUser { drivers.letUsersIn() }
        for words in ["link add br0 type bridge", "addr add 10.99.0.1/24 dev br0", "link set br0 up"] {
            #expect(Program.ip(words, in: path).isEmpty)
        }
        let vm = drivers.vm { $0.networks = ["lan"] }
        let mac = "525401000001"
        let witness = Program.start(
            "/usr/bin/perl", ["-e", listener, "\(if_nametoindex("br0"))", mac], to: path + "/heard")
        defer {
            if let witness {
                kill(witness, SIGKILL)
                waitpid(witness, nil, 0)
            }
        }
        func heard() -> [Heard] {
            String(decoding: Files.read(path + "/heard"), as: UTF8.self).split(separator: "\n").compactMap { line in
                let words = line.split(separator: " ")
                return words.count == 2 ? Double(words[0]).map { Heard(at: $0, kind: words[1]) } : nil
            }
        }
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(
            drivers.wait(atMost: 60) { heard().count { $0.kind == "0800" } > 20 },
            "\(String(decoding: Files.read(drivers.serial(0, vm)), as: UTF8.self)) \(drivers.last(0, vm)?.message ?? "")"
        )
        let tap = "100000000010"
        #expect(Program.ip("-o link show a\(tap)", in: path).contains("master br0"))
        drivers.order(1, .receive(vm, epoch: 2, from: HostID(rawValue: 1)))
        drivers.order(0, .send(vm.id, epoch: 1, target: 2, to: HostID(rawValue: 2)))
        #expect(drivers.wait(atMost: 60) { drivers.last(0, vm)?.state == .copied })
        // All is there, and nothing of it can be heard: the tap is no port, and no address was announced.
        #expect(!Program.ip("-o link show b\(tap)", in: path).contains("master br0"))
        let stood = heard().count
        #expect(!heard().contains { $0.kind == "8035" })
        #expect(!drivers.wait(atMost: 1) { heard().count > stood + 1 })
        let committed = Double(SystemClock.now.nanoseconds) / 1e9
        drivers.order(1, .finishArrival(vm.id, epoch: 2))
        #expect(drivers.wait(atMost: 20) { heard().contains { $0.kind == "8035" } }, "its address is announced")
        #expect(drivers.wait(atMost: 20) { heard().contains { $0.kind == "0800" && $0.at > committed } })
        let first = heard().first { $0.at > committed }?.at ?? 0
        print("on the bridge \(Int((first - committed) * 1_000)) ms after the commit")
        drivers.order(0, .discard(vm.id, epoch: 1, forGood: true))
        #expect(drivers.wait(0, vm, .stopped, atMost: 5))
        #expect(if_nametoindex("a\(tap)") == 0, "the source's tap is gone")
        // Another agent takes the tap away with the guest.
        try drivers.restartAgent(1)
        #expect(drivers.wait(1, vm, .running, atMost: 5))
        drivers.order(1, .stop(vm.id, epoch: 2, grace: .zero))
        #expect(drivers.wait(1, vm, .stopped, atMost: 5))
        #expect(if_nametoindex("b\(tap)") == 0)
    }

    @Test func `a guest says what it uses of its memory, and gives some back while it runs`() throws {
        let modules = Modules.loaded(Modules.virtio + ["drivers/virtio/virtio_balloon"])
        let drivers = try QEMUDrivers(
            script: Modules.begin + modules.script + "while true; do /bin/busybox sleep 1; done\n", more: modules.files)
        defer { drivers.end() }
        var vm = drivers.vm { _ in }
        let memory = vm.spec.resources.memoryMiB
        func now() -> VMStatistics? { drivers.hosts[0].statistics(of: vm.id, now: drivers.now) }
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(atMost: 40) { now()?.guest != nil })
        let said = try #require(now()?.guest)
        #expect((memory / 2...memory).contains(said.totalMiB) && (1...said.totalMiB).contains(said.availableMiB))
        #expect(said.freeMiB + said.cachesMiB <= said.totalMiB && now()?.balloonMiB == memory)
        func leave(_ word: String) -> UInt64 {
            vm.spec.annotations.removeAll { $0.key == "qemu.balloon" }
            vm.spec.annotations.append(Named("qemu.balloon", word))
            vm.generation += 1
            drivers.order(0, .update(vm, epoch: 1))
            return vm.generation
        }
        let taken = leave("\(memory - 24)")
        #expect(drivers.wait(atMost: 20) { now()?.balloonMiB == memory - 24 })
        #expect(drivers.last(0, vm)?.generation == taken, "it needs no other start for that")
        #expect(drivers.wait(atMost: 40) { now()?.guest?.availableMiB ?? .max <= said.availableMiB - 20 })
        // What can't be waits for its next start, which says why.
        _ = leave("all of it")
        #expect(!drivers.wait(atMost: 2) { now()?.balloonMiB != memory - 24 })
        #expect(drivers.last(0, vm)?.generation == taken)
        drivers.order(0, .stop(vm.id, epoch: 1, grace: .zero))
        #expect(drivers.wait(0, vm, .stopped, atMost: 5))
        #expect(now() == nil)
    }

    @Test func `a network without a bridge is refused by name`() throws {
        let drivers = try QEMUDrivers { settings, _ in settings.bridges = ["lan": "no-such-bridge"] }
        defer { drivers.end() }
        for (number, network) in ["lan", "wan"].enumerated() {
            let vm = drivers.vm(UInt64(number + 1)) { $0.networks = [network] }
            drivers.order(0, .start(vm, epoch: 1, isPaused: false))
            #expect(drivers.wait(0, vm, .crashed, atMost: 5))
            #expect(drivers.last(0, vm)?.message.contains("networks has '\(network)'") == true)
        }
    }
}
