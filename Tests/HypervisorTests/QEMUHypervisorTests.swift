import ClusterBase
import FleetModel
import Glibc
import Hypervisor
import NodePorts
import Reactor
import Testing

/// Real guests. Without QEMU on the machine they are skipped, and say so.
@Suite(.serialized, .enabled(if: QEMU.absence == nil, "no QEMU, no kernel or no busybox on this machine"))
struct QEMUHypervisorTests {
    @Test func `a guest boots and speaks, and its agent's end does not touch it`() throws {
        let drivers = try QEMUDrivers()
        defer { drivers.end() }
        let vm = drivers.vm()
        let began = drivers.now
        drivers.order(0, .start(vm, epoch: 4, isPaused: false))
        #expect(drivers.wait { String(decoding: Files.read(drivers.serial(0, vm)), as: UTF8.self).contains("tick") })
        print("boot to first tick: \((drivers.now - began).milliseconds) ms")
        let pids = drivers.pids(0)
        #expect(pids.count == 1)
        try drivers.restartAgent(0)
        #expect(
            drivers.hosts[0].found == [
                FoundVM(vm.id, epoch: 4, state: .running, generation: vm.generation, isolation: .stop)
            ])
        #expect(drivers.wait(0, vm, .running, atMost: 5))
        #expect(drivers.pids(0) == pids)
        let size = Files.size(drivers.serial(0, vm))
        #expect(drivers.wait(atMost: 5) { Files.size(drivers.serial(0, vm)) > size })
        drivers.order(0, .stop(vm.id, epoch: 4, grace: .zero))
        #expect(drivers.wait(0, vm, .stopped, atMost: 5))
        #expect(drivers.pids(0).isEmpty)
        try drivers.restartAgent(0)
        #expect(drivers.hosts[0].found.map(\.state) == [.stopped])
    }

    @Test func `a killed QEMU and a guest that ends itself are crashes with a reason`() throws {
        let drivers = try QEMUDrivers()
        defer { drivers.end() }
        let (a, b) = (
            drivers.vm(1),
            drivers.vm(2) { $0.annotations[0] = Named("qemu.append", "console=ttyS0 quiet panic=-1 poweroff") }
        )
        drivers.order(0, .start(a, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, a, .running))
        for pid in drivers.pids(0) { kill(pid, SIGKILL) }
        #expect(drivers.wait(0, a, .crashed, atMost: 5))
        drivers.order(0, .start(b, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, b, .crashed, atMost: 60))
        #expect(drivers.last(0, b)?.message.contains("guest ended it") == true)
    }

    @Test func `a process of which only a thread is left, as one that hangs in a write, is there`() throws {
        let drivers = try QEMUDrivers()
        defer { drivers.end() }
        let vm = drivers.vm()
        let own = "\(drivers.settings[0].directory)/\(vm.id)"
        mkdir(own, 0o700)
        Files.write(own + "/record", Array("vm \(vm.id) epoch 4 generation 1 isolation 2 arriving 0\n".utf8))
        let program = """
            import ctypes, threading, time
            threading.Thread(target=time.sleep, args=(600,)).start()
            ctypes.CDLL(None).pthread_exit(None)
            """
        let process = try #require(
            Program.start("/usr/bin/python3", ["-c", program, own + "/pid"], to: "/dev/null"))
        func state() -> Substring? {
            String(decoding: Files.read("/proc/\(process)/stat"), as: UTF8.self).split(separator: " ").dropFirst(2)
                .first
        }
        for _ in 0..<100 where state() != "Z" { usleep(50_000) }
        #expect(state() == "Z" && Files.read("/proc/\(process)/cmdline").isEmpty, "its first thread has ended")
        try drivers.restartAgent(0)
        #expect(drivers.hosts[0].found.map(\.state) == [.running])
        kill(process, SIGKILL)
        waitpid(process, nil, 0)
        try drivers.restartAgent(0)
        #expect(drivers.hosts[0].found.map(\.state) == [.stopped])
    }

    private static let canFreeze =
        geteuid() == 0 && access("/usr/sbin/mkfs.ext4", X_OK) == 0 && access("/usr/sbin/fsfreeze", X_OK) == 0

    @Test(.enabled(if: canFreeze, "only root can mount and freeze a file system"))
    func `a guest goes on, and can be ended, while the disk of its host's directory stands still`() throws {
        var folder = ""
        let drivers = try QEMUDrivers { settings, host in
            guard host == 0 else { return }
            folder = String(settings.directory.dropLast(2))
            let image = folder + "/image"
            Program.run("/usr/bin/truncate", ["--size", "64M", image])
            Program.run("/usr/sbin/mkfs.ext4", ["-q", "-F", image])
            mkdir(folder + "/m", 0o700)
            Program.run("/usr/bin/mount", ["-o", "loop", image, folder + "/m"])
            settings.directory = folder + "/m/a"
            mkdir(settings.directory, 0o700)
        }
        let place = folder + "/m"
        defer {
            for pid in drivers.pids(0) { kill(pid, SIGKILL) }
            if let said = Files.target("\(place)/a/\(drivers.vm().id)/serial.log") { unlink(said) }
            for _ in 0..<50 {
                if Program.run("/usr/bin/umount", [place]) == 0 { break }
                usleep(100_000)
            }
            drivers.end()
        }
        let vm = drivers.vm()
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        let serial = drivers.serial(0, vm)
        #expect(drivers.wait { String(decoding: Files.read(serial), as: UTF8.self).contains("tick") })
        try #require(Program.run("/usr/sbin/fsfreeze", ["--freeze", place]) == 0)
        let size = Files.size(serial)
        // More than any buffer between the guest and its log.
        #expect(drivers.wait(atMost: 20) { Files.size(serial) > size + 5_000 }, "it stands still with the disk")
        let pids = drivers.pids(0)
        for pid in pids { kill(pid, SIGKILL) }
        // The driver would tidy up the directory, and wait with it.
        func ended() -> Bool { pids.allSatisfy { Files.read("/proc/\($0)/cmdline").isEmpty } }
        for _ in 0..<50 where !ended() { usleep(100_000) }
        let hasEnded = ended()
        try #require(Program.run("/usr/sbin/fsfreeze", ["--unfreeze", place]) == 0)
        #expect(hasEnded)
        #expect(drivers.wait(0, vm, .crashed, atMost: 5))
        #expect(String(decoding: Files.read(serial), as: UTF8.self).contains("tick"), "what it said stays")
    }

    @Test func `disks begin with their image, are made once, and the ephemeral ones anew`() throws {
        let drivers = try QEMUDrivers()
        defer { drivers.end() }
        Files.write(drivers.path + "/images/base.img", [UInt8](repeating: 7, count: 1 << 20))
        let vm = drivers.vm { spec in
            spec.disks = [
                .init(name: "root", sizeMiB: 16, kind: .ephemeral, image: "base.img"),
                .init(name: "data", sizeMiB: 8, kind: .local),
                .init(name: "all", sizeMiB: 4, kind: .shared(domain: "fast")),
            ]
        }
        let own = "\(drivers.settings[0].directory)/\(vm.id)"
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .running))
        #expect(Files.size("\(own)/local-data.raw") == 8 << 20)
        #expect(Files.size("\(drivers.path)/storage/fast/vm-\(vm.id)-all.raw") == 4 << 20)
        #expect(Files.read("\(own)/ephemeral-root.qcow2").prefix(4).elementsEqual([0x51, 0x46, 0x49, 0xFB]))
        drivers.order(0, .stop(vm.id, epoch: 1, grace: .zero))
        #expect(drivers.wait(0, vm, .stopped, atMost: 5))
        #expect(Files.size("\(own)/local-data.raw") == 8 << 20)
        drivers.order(0, .discard(vm.id, epoch: 1, forGood: true))
        #expect(access(own, F_OK) != 0)
        #expect(
            access("\(drivers.path)/storage/fast/vm-\(vm.id)-all.raw", F_OK) == 0, "shared disks are not the host's")
    }

    @Test
    func `a shared disk holds all of its image, comes to its place once, and every host of its domain begins with it`()
        throws
    {
        let drivers = try QEMUDrivers { settings, _ in settings.cache = settings.images + "/cache" }
        defer { drivers.end() }
        mkdir(drivers.path + "/images/cache", 0o700)
        let bytes = (0..<(1 << 20)).map { UInt8(truncatingIfNeeded: $0 / 511) }
        let cached = drivers.path + "/images/cache/0a"
        Files.write(cached, bytes)
        let vm = drivers.vm { spec in
            spec.disks = [.init(name: "root", sizeMiB: 16, kind: .shared(domain: "fast"), image: "sha256-0a")]
        }
        let folder = drivers.path + "/storage/fast"
        let disk = "\(folder)/vm-\(vm.id)-root.qcow2"
        // A host that had the VM before began with it, and went away.
        Files.write(disk + ".part-1", [1, 2, 3])
        drivers.order(0, .start(vm, epoch: 2, isPaused: false))
        #expect(drivers.wait(0, vm, .running))
        #expect(try Files.names(in: folder).filter { !$0.hasPrefix(".") } == ["vm-\(vm.id)-root.qcow2"])
        let head = Files.read(disk)
        #expect(head.prefix(4).elementsEqual([0x51, 0x46, 0x49, 0xFB]) && head[8..<16].allSatisfy { $0 == 0 })
        #expect(head[24..<32].elementsEqual([0, 0, 0, 0, 1, 0, 0, 0]), "it is as large as was asked for")
        #expect(head.count >= 1 << 20, "the bytes are in it")
        drivers.order(0, .stop(vm.id, epoch: 2, grace: .zero))
        #expect(drivers.wait(0, vm, .stopped, atMost: 5))
        drivers.order(0, .discard(vm.id, epoch: 2, forGood: true))
        // Another host takes it as it is, with what the guest has made of it.
        Files.remove(cached)
        Files.write(cached, [UInt8](repeating: 9, count: 512))
        let before = Files.read(disk)
        drivers.order(1, .start(vm, epoch: 3, isPaused: false))
        #expect(drivers.wait(1, vm, .running))
        #expect(Files.read(disk) == before)
        drivers.order(1, .discard(vm.id, epoch: 3, forGood: true))
        #expect(access(disk, F_OK) == 0)
    }

    @Test(arguments: [false, true])
    func `a guest that counts goes on counting where it moved`(isDirtying: Bool) throws {
        let drivers = try QEMUDrivers()
        defer { drivers.end() }
        let words = "console=ttyS0 quiet panic=-1" + (isDirtying ? " dirty" : "")
        let vm = drivers.vm { $0.annotations[0] = Named("qemu.append", words) }
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait { String(decoding: Files.read(drivers.serial(0, vm)), as: UTF8.self).contains("tick 2") })
        var epoch: UInt64 = 1
        var gaps: [Int64] = []
        for round in 0..<4 {
            let (from, to) = (round % 2, 1 - round % 2)
            let arrived = Files.size(drivers.serial(to, vm))
            var (lastSize, lastTick) = (Files.size(drivers.serial(from, vm)), drivers.now)
            func watch() {
                let size = Files.size(drivers.serial(from, vm))
                if size != lastSize { (lastSize, lastTick) = (size, drivers.now) }
            }
            let began = drivers.now
            drivers.order(to, .receive(vm, epoch: epoch + 1, from: HostID(rawValue: UInt64(from + 1))))
            drivers.order(
                from, .send(vm.id, epoch: epoch, target: epoch + 1, to: HostID(rawValue: UInt64(to + 1))))
            #expect(
                drivers.wait(atMost: 60) {
                    watch()
                    return drivers.last(from, vm)?.state == .copied
                })
            drivers.order(to, .finishArrival(vm.id, epoch: epoch + 1))
            #expect(drivers.wait(atMost: 10) { Files.size(drivers.serial(to, vm)) > arrived })
            gaps.append((drivers.now - lastTick).milliseconds)
            print("moved in \((drivers.now - began).milliseconds) ms, ticks apart \(gaps.last ?? -1) ms")
            drivers.order(from, .discard(vm.id, epoch: epoch, forGood: true))
            #expect(drivers.wait(from, vm, .stopped, atMost: 5))
            epoch += 1
        }
        // Once before it was copied and once after, and it stood still at both: see Guest+Moving.
        for case let host as QEMUHypervisor in drivers.hosts { #expect(host.looksAtWritesMax == 2) }
        let text = String(decoding: Files.read(drivers.serial(0, vm)), as: UTF8.self)
        let ticks = text.split(whereSeparator: \.isNewline).compactMap { line in
            line.hasPrefix("tick ") ? Int(line.dropFirst(5)) : nil
        }
        #expect(zip(ticks, ticks.dropFirst()).allSatisfy { $0 < $1 }, "it never goes back")
        #expect(gaps.allSatisfy { $0 < 5_000 }, "\(gaps)")
    }

    @Test func `a move to nobody fails, and the guest runs on`() throws {
        let drivers = try QEMUDrivers()
        defer { drivers.end() }
        let vm = drivers.vm()
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .running))
        drivers.order(0, .send(vm.id, epoch: 1, target: 2, to: HostID(rawValue: 2)))
        #expect(drivers.wait(atMost: 15) { drivers.states(0).contains(.copyFailed) })
        #expect(drivers.wait(0, vm, .running, atMost: 2))
    }

    /// A guest that changes its memory faster than it is copied, some way into its move.
    private func moving(_ drivers: QEMUDrivers) -> CellVM {
        let vm = drivers.vm { $0.annotations[0] = Named("qemu.append", "console=ttyS0 quiet panic=-1 dirty") }
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait { String(decoding: Files.read(drivers.serial(0, vm)), as: UTF8.self).contains("tick 2") })
        for carrier in drivers.carriers { carrier.network.setBulkRate(4 << 20) }
        move(drivers, vm, 2)
        #expect(drivers.wait(atMost: 20) { drivers.last(0, vm)?.progressMillis ?? 0 > 100 })
        #expect(drivers.last(0, vm)?.state == .copying)
        return vm
    }

    private func move(_ drivers: QEMUDrivers, _ vm: CellVM, _ epoch: UInt64) {
        drivers.order(1, .receive(vm, epoch: epoch, from: HostID(rawValue: 1)))
        drivers.order(0, .send(vm.id, epoch: 1, target: epoch, to: HostID(rawValue: 2)))
    }

    private func ticks(_ drivers: QEMUDrivers, _ host: Int, _ vm: CellVM) -> Bool {
        let size = Files.size(drivers.serial(host, vm))
        return drivers.wait(atMost: 5) { Files.size(drivers.serial(host, vm)) > size }
    }

    enum Trouble: CaseIterable {
        case cut, calledOff, destinationKilled, destinationDiscarded, sourcesAgentAnew, destinationsAgentAnew
    }

    @Test(arguments: Trouble.allCases)
    func `a move that breaks on its way leaves the guest running, and the next one succeeds`(_ trouble: Trouble) throws
    {
        let drivers = try QEMUDrivers()
        defer { drivers.end() }
        let vm = moving(drivers)
        switch trouble {
        case .cut:
            drivers.carriers[0].network.setJudge { _, _ in .refuse("its network is cut") }
            drivers.carriers[0].network.setJudge { _, _ in .accept }
        case .calledOff: drivers.order(0, .cancelSend(vm.id, epoch: 1))
        case .destinationKilled: for pid in drivers.pids(1) { kill(pid, SIGKILL) }
        case .destinationDiscarded: drivers.order(1, .discard(vm.id, epoch: 2, forGood: true))
        case .sourcesAgentAnew: try drivers.restartAgent(0)
        case .destinationsAgentAnew: try drivers.restartAgent(1)
        }
        #expect(drivers.wait(0, vm, .running, atMost: 10))
        // QEMU may have given it up by itself before the next agent came.
        if trouble != .calledOff, trouble != .sourcesAgentAnew {
            #expect(drivers.states(0).contains(.copyFailed))
        }
        print(drivers.news[0].last { $0.state == .copyFailed }?.message ?? "")
        if trouble == .cut || trouble == .destinationKilled {
            #expect(!drivers.states(1).contains(.crashed), "its source says first why it failed")
        }
        #expect(ticks(drivers, 0, vm))
        if trouble == .cut {
            #expect(drivers.wait(1, vm, .crashed, atMost: 15))
        } else {
            drivers.order(1, .discard(vm.id, epoch: 2, forGood: true))
            #expect(drivers.wait(1, vm, .stopped, atMost: 5))
        }
        #expect(drivers.pids(1).isEmpty)
        #expect(drivers.sockets == [])
        for carrier in drivers.carriers { carrier.network.setBulkRate(1 << 30) }
        let isMoved = drivers.wait {
            let state = drivers.last(0, vm)?.state
            if state != .copying && state != .copied { move(drivers, vm, 3) }
            return state == .copied
        }
        #expect(isMoved)
        drivers.order(1, .finishArrival(vm.id, epoch: 3))
        #expect(drivers.wait(1, vm, .running, atMost: 5))
        #expect(ticks(drivers, 1, vm))
    }

    @Test func `a guest is copied only when the destination has said so, whatever its own QEMU says`() throws {
        let drivers = try QEMUDrivers()
        defer { drivers.end() }
        let vm = drivers.vm()
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait { Files.size(drivers.serial(0, vm)) > 0 })
        drivers.carriers[1].losesTaken = true
        move(drivers, vm, 2)
        // Its QEMU is done, and it stands still.
        #expect(
            drivers.wait(atMost: 20) {
                drivers.last(0, vm)?.progressMillis ?? 0 > 0 && drivers.carriers[0].sent?.bytesCarried ?? 0 > 20 << 20
            })
        _ = drivers.wait(atMost: 2) { false }
        #expect(!drivers.states(0).contains(.copied))
        // A new agent knows that nobody can have committed.
        try drivers.restartAgent(0)
        #expect(drivers.wait(0, vm, .running, atMost: 5))
        #expect(ticks(drivers, 0, vm))
        #expect(!drivers.states(0).contains(.copied))
    }

    @Test func `an agent that begins anew leaves a copied guest as it is, for the cell to judge`() throws {
        let drivers = try QEMUDrivers()
        defer { drivers.end() }
        let vm = drivers.vm()
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait { Files.size(drivers.serial(0, vm)) > 0 })
        move(drivers, vm, 2)
        #expect(drivers.wait(0, vm, .copied))
        let size = Files.size(drivers.serial(0, vm))
        try drivers.restartAgent(0)
        let count = drivers.news[0].count
        #expect(drivers.wait(atMost: 5) { drivers.news[0].count > count && drivers.last(0, vm)?.state == .copied })
        _ = drivers.wait(atMost: 1) { false }
        #expect(Files.size(drivers.serial(0, vm)) == size, "it stands still")
        drivers.order(0, .cancelSend(vm.id, epoch: 1))
        #expect(drivers.wait(0, vm, .running, atMost: 5))
        #expect(ticks(drivers, 0, vm))
    }

    @Test func `whether KVM runs guests is tried, and said`() throws {
        let drivers = try QEMUDrivers(triesKVM: true)
        defer { drivers.end() }
        let vm = drivers.vm()
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .running))
        let text = (drivers.hosts[0] as? QEMUHypervisor)?.accelerationText ?? ""
        print(text)
        #expect(text.hasPrefix("guests run under"))
        // What was chosen boots a kernel, too.
        #expect(drivers.wait(atMost: 60) { Files.size(drivers.serial(0, vm)) > 0 }, "\(text)")
    }

    @Test func `the test guest of KVM runs on any machine that can run a guest`() throws {
        let drivers = try QEMUDrivers()
        defer { drivers.end() }
        let probe = KVMProbe(
            QEMUSettings(directory: drivers.path, images: drivers.path, storage: drivers.path), device: "/dev/null",
            accelerator: "tcg")
        var verdict: (QEMUMachine.Accelerator, String)?
        #expect(
            drivers.wait(atMost: 10) {
                verdict = probe.verdict(drivers.now)
                return verdict != nil
            })
        #expect(verdict?.0 == .kvm, "\(verdict?.1 ?? "")")
    }
}

@Suite struct QEMUMachineTests {
    struct Bad: CustomTestStringConvertible {
        var field: String
        var change: @Sendable (inout VMDescription) -> Void
        var testDescription: String { field }
    }

    static let bad: [Bad] = [
        Bad(field: "annotations.qemu.extra") { $0.annotations = [Named("qemu.extra", "-device foo")] },
        Bad(field: "annotations.qemu.kernel") { $0.annotations = [Named("qemu.kernel", "../../etc/shadow")] },
        Bad(field: "annotations.qemu.kernel") { $0.annotations = [Named("qemu.kernel", "/etc/shadow")] },
        Bad(field: "annotations.qemu.kernel") { $0.annotations = [Named("qemu.kernel", "link")] },
        Bad(field: "annotations.qemu.kernel") { $0.annotations = [Named("qemu.kernel", "-s")] },
        Bad(field: "annotations.qemu.kernel") { $0.annotations = [Named("qemu.append", "quiet")] },
        Bad(field: "annotations.qemu.append") {
            $0.annotations = [Named("qemu.kernel", "good"), Named("qemu.append", "a\n-S")]
        },
        Bad(field: "annotations.qemu.firmware") { $0.annotations = [Named("qemu.firmware", "/etc/shadow")] },
        Bad(field: "annotations.qemu.firmware") { $0.annotations = [Named("qemu.firmware", "uefi")] },
        Bad(field: "annotations.qemu.balloon") { $0.annotations = [Named("qemu.balloon", "15")] },
        Bad(field: "annotations.qemu.balloon") { $0.annotations = [Named("qemu.balloon", "64M")] },
        Bad(field: "annotations.qemu.balloon") {
            $0.annotations = [Named("qemu.balloon", "\($0.resources.memoryMiB + 1)")]
        },
        Bad(field: "annotations.qemu.numa") { $0.annotations = [Named("qemu.numa", "2")] },
        Bad(field: "annotations.qemu.numa") { $0.annotations = [Named("qemu.numa", "0")] },
        Bad(field: "annotations.qemu.numa") {
            $0.annotations = [Named("qemu.numa", "3")]
            $0.resources.cpuMillis = 3_000
        },
        Bad(field: "annotations.qemu.numa") { $0.annotations = [Named("qemu.numa", "1,memdev=x")] },
        Bad(field: "disks") { $0.disks = [.init(name: "a,readonly=off", sizeMiB: 1, kind: .local)] },
        Bad(field: "disks") { $0.disks = [.init(name: "../a", sizeMiB: 1, kind: .local)] },
        Bad(field: "disks.a") { $0.disks = [.init(name: "a", sizeMiB: 1, kind: .shared(domain: ".."))] },
        Bad(field: "disks.a") { $0.disks = [.init(name: "a", sizeMiB: 1, kind: .shared(domain: "absent"))] },
        Bad(field: "disks.a.image") { $0.disks = [.init(name: "a", sizeMiB: 1, kind: .local, image: "nbd:x:1")] },
        Bad(field: "disks.a.image") { $0.disks = [.init(name: "a", sizeMiB: 1, kind: .local, image: "chained")] },
        Bad(field: "networks") { $0.networks = ["user,hostfwd=tcp::22-:22"] },
        Bad(field: "resources.memoryMiB") { $0.resources.memoryMiB = 1 },
        Bad(field: "resources.cpuMillis") { $0.resources.cpuMillis = 1_000_000 },
    ]

    @Test(arguments: bad)
    func `a specification that would break out is refused by name`(_ bad: Bad) throws {
        let path = try Files.makeTemporary()
        defer { Files.remove(path) }
        for name in ["images", "storage", "vms"] { mkdir("\(path)/\(name)", 0o700) }
        Files.write(path + "/images/good", [1])
        symlink("/etc/hostname", path + "/images/link")
        var chained = [UInt8](repeating: 0, count: 512)
        chained.replaceSubrange(0..<8, with: [0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3])
        chained[15] = 200
        Files.write(path + "/images/chained", chained)
        var settings = QEMUSettings(directory: path + "/vms", images: path + "/images", storage: path + "/storage")
        settings.firmware = path + "/none"
        var spec = VMDescription(resources: Resources(cpuMillis: 1_000, memoryMiB: 128))
        bad.change(&spec)
        let vm = CellVM(
            id: VMID(rawValue: 7), name: "vm", tenant: "default", spec: spec, at: LogTime(rawValue: 0), by: "test")
        #expect {
            _ = try QEMUMachine(vm, settings, directory: path + "/vms/7")
        } throws: { error in
            (error as? QEMURefusal)?.field == bad.field
        }
    }

    @Test func `what a guest is told stays one argument`() throws {
        let path = try Files.makeTemporary()
        defer { Files.remove(path) }
        for name in ["images", "storage", "vms"] { mkdir("\(path)/\(name)", 0o700) }
        Files.write(path + "/images/good", [1])
        let settings = QEMUSettings(directory: path + "/vms", images: path + "/images", storage: path + "/storage")
        var spec = VMDescription(resources: Resources(cpuMillis: 1_500, memoryMiB: 128))
        let words = "quiet $(reboot) ; -S ,file=/etc/shadow \"x\""
        spec.annotations = [Named("qemu.kernel", "good"), Named("qemu.append", words)]
        let vm = CellVM(
            id: VMID(rawValue: 7), name: "a,b=c", tenant: "default", spec: spec, at: LogTime(rawValue: 0), by: "test")
        let list = try QEMUMachine(vm, settings, directory: path + "/vms/7").arguments(
            .tcg, isPaused: false, isArriving: false)
        #expect(list.count { $0 == words } == 1)
        #expect(list.allSatisfy { !$0.contains("a,b=c") })
        #expect(!list.contains("-S"))
        #expect(zip(list, list.dropFirst()).contains { $0 == "-smp" && $1 == "2" })
    }
}
