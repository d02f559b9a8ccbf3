import ClusterBase
import FleetModel
import Glibc
import Hypervisor
import NodePorts
import Testing

/// Real guests that write to disks of their hosts while they move.
@Suite(.serialized, .enabled(if: QEMU.absence == nil, "no QEMU, no kernel or no busybox on this machine"))
struct DiskMoveTests {
    /// Writes one block after the other to its first disk, each with its number, and says so when it is on the disk.
    private static let script = """
        for i in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] && break; /bin/busybox usleep 200000; done
        i=0
        while true; do
            i=$((i+1)); echo "block $i of the guest" > /tmp/block
            /bin/busybox dd if=/tmp/block of=/dev/vda bs=4096 seek=$i conv=notrunc,fsync 2>/dev/null && echo "wrote $i"
        done

        """
    private static let blockBytes = 4_096

    /// Two hosts, and at the first a guest that writes. Of its first disk there is so much already, behind what it writes.
    private func make(_ filled: Int) throws -> (QEMUDrivers, CellVM) {
        let modules = Modules.loaded(Modules.virtio + ["drivers/block/virtio_blk"])
        let drivers = try QEMUDrivers(
            script: Modules.begin + modules.script + DiskMoveTests.script, more: modules.files)
        Files.write(drivers.path + "/images/base.img", noise(1 << 20, 1))
        let vm = drivers.vm { spec in
            spec.disks = [
                .init(name: "data", sizeMiB: 32, kind: .local),
                .init(name: "root", sizeMiB: 16, kind: .local, image: "base.img"),
                .init(name: "tmp", sizeMiB: 8, kind: .ephemeral),
            ]
        }
        mkdir("\(drivers.settings[0].directory)/\(vm.id)", 0o700)
        let file = open(disk(drivers, 0, vm), O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        ftruncate(file, 32 << 20)
        let bytes = noise(filled, 2)
        #expect(bytes.withUnsafeBytes { pwrite(file, $0.baseAddress, $0.count, 16 << 20) } == filled)
        close(file)
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait { wrote(drivers, 0, vm) >= 10 })
        return (drivers, vm)
    }

    /// Bytes of which no 64 KiB are like others.
    private func noise(_ count: Int, _ seed: UInt64) -> [UInt8] {
        var random = PRNG(seed: seed)
        let part = (0..<(1 << 16)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        return (0..<(count >> 16)).flatMap { [UInt8(truncatingIfNeeded: $0)] + part.dropFirst() }
    }

    private func disk(_ drivers: QEMUDrivers, _ host: Int, _ vm: CellVM, _ name: String = "local-data.raw") -> String {
        "\(drivers.settings[host].directory)/\(vm.id)/\(name)"
    }

    /// The last block of which the guest said at a host that it is on its disk.
    private func wrote(_ drivers: QEMUDrivers, _ host: Int, _ vm: CellVM) -> Int {
        let text = String(decoding: Files.read(drivers.serial(host, vm)), as: UTF8.self)
        return text.split(whereSeparator: \.isNewline).last { $0.hasPrefix("wrote ") }.flatMap { Int($0.dropFirst(6)) }
            ?? 0
    }

    /// The first block of which the guest said that it is on its disk there, and it is not.
    private func missing(_ drivers: QEMUDrivers, _ host: Int, _ vm: CellVM) -> Int? {
        let last = wrote(drivers, host, vm)
        return missing(Files.read(disk(drivers, host, vm)), upTo: last)
    }

    /// The first block up to that one which is not as the guest wrote it.
    private func missing(_ bytes: [UInt8], upTo last: Int) -> Int? {
        (1...max(1, last)).first { block in
            bytes.count < block * DiskMoveTests.blockBytes
                || !bytes[(block * DiskMoveTests.blockBytes)...].starts(
                    with: Array("block \(block) of the guest\n".utf8))
        }
    }

    private func move(_ drivers: QEMUDrivers, _ vm: CellVM, from: Int = 0, _ epoch: UInt64, to target: UInt64) {
        drivers.order(1 - from, .receive(vm, epoch: target, from: HostID(rawValue: UInt64(from + 1))))
        drivers.order(from, .send(vm.id, epoch: epoch, target: target, to: HostID(rawValue: UInt64(2 - from))))
    }

    /// As a host's keeper has it: orders are repeated until they are seen to. False when it is not copied in time.
    private func isCopied(_ drivers: QEMUDrivers, _ vm: CellVM, from: Int = 0, _ epoch: UInt64, to target: UInt64)
        -> Bool
    {
        drivers.wait(atMost: 90) {
            let state = drivers.last(from, vm)?.state
            if state != .copying && state != .copied { move(drivers, vm, from: from, epoch, to: target) }
            return state == .copied
        }
    }

    private func setRate(_ drivers: QEMUDrivers, _ bytes: Int) {
        for carrier in drivers.carriers { carrier.network.setBulkRate(bytes) }
    }

    private func writesOn(_ drivers: QEMUDrivers, _ host: Int, _ vm: CellVM) -> Bool {
        let last = wrote(drivers, host, vm)
        return drivers.wait(atMost: 20) { wrote(drivers, host, vm) >= last + 10 }
    }

    /// Both ends have the same, and all that the guest wrote.
    private func isSame(_ drivers: QEMUDrivers, _ vm: CellVM, _ last: Int) -> Bool {
        let (a, b) = (Files.read(disk(drivers, 0, vm)), Files.read(disk(drivers, 1, vm)))
        let others = [("local-root.qcow2", "qcow2"), ("ephemeral-tmp.raw", "raw")].allSatisfy { name, format in
            let paths = [disk(drivers, 0, vm, name), disk(drivers, 1, vm, name)]
            return Program.run("/usr/bin/qemu-img", ["compare", "-U", "-f", format, "-F", format] + paths) == 0
        }
        return a == b && missing(b, upTo: last) == nil && others
    }

    @Test func `a guest moves with the disks of its host, there and back, and writes them all the while`() throws {
        let (drivers, vm) = try make(12 << 20)
        defer { drivers.end() }
        setRate(drivers, 16 << 20)
        for round in 0..<2 {
            let (from, to, epoch) = (round, 1 - round, UInt64(round + 1))
            let before = wrote(drivers, from, vm)
            let began = drivers.now
            #expect(isCopied(drivers, vm, from: from, epoch, to: epoch + 1))
            let last = wrote(drivers, from, vm)
            #expect(last > before + 10, "it wrote while it was copied: \(before) to \(last)")
            print("copied in \((drivers.now - began).milliseconds) ms, \(last - before) blocks written meanwhile")
            #expect(drivers.news[from].contains { $0.state == .copying && (1...900).contains($0.progressMillis) })
            #expect(!drivers.states(to).contains(.running) || round == 1, "nobody has committed")
            #expect(isSame(drivers, vm, last))
            drivers.order(to, .finishArrival(vm.id, epoch: epoch + 1))
            #expect(drivers.wait(to, vm, .running, atMost: 5))
            #expect(drivers.wait(atMost: 20) { wrote(drivers, to, vm) >= last + 10 })
            #expect(missing(drivers, to, vm) == nil)
            drivers.order(from, .discard(vm.id, epoch: epoch, forGood: true))
            #expect(drivers.wait(from, vm, .stopped, atMost: 5))
            #expect(access(disk(drivers, from, vm), F_OK) != 0)
        }
        // What was empty stayed so: its host has not given more room than there are bytes.
        var info = stat()
        #expect(stat(disk(drivers, 0, vm), &info) == 0 && info.st_size == 32 << 20 && info.st_blocks * 512 < 26 << 20)
    }

    enum Trouble: CaseIterable {
        case destinationsAgentAnew, cut, calledOff, destinationKilled, destinationDiscarded, sourcesAgentAnew
    }

    @Test(arguments: Trouble.allCases)
    func `a move that breaks while disks are copied leaves the guest and its disks, and nothing at the destination`(
        _ trouble: Trouble
    ) throws {
        let (drivers, vm) = try make(8 << 20)
        defer { drivers.end() }
        setRate(drivers, 2 << 20)
        move(drivers, vm, 1, to: 2)
        #expect(drivers.wait(atMost: 20) { drivers.last(0, vm)?.progressMillis ?? 0 > 50 })
        #expect(drivers.last(0, vm)?.state == .copying && access(disk(drivers, 1, vm), F_OK) == 0)
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
        #expect(drivers.wait(0, vm, .running, atMost: 15), "\(drivers.last(0, vm)?.message ?? "")")
        // QEMU may have given it up by itself before the next agent came.
        if trouble != .calledOff, trouble != .sourcesAgentAnew {
            #expect(drivers.states(0).contains(.copyFailed))
        }
        print(drivers.news[0].last { $0.state == .copyFailed }?.message ?? "")
        #expect(writesOn(drivers, 0, vm))
        if trouble == .cut || trouble == .destinationKilled {
            #expect(drivers.wait(1, vm, .crashed, atMost: 15))
        } else {
            drivers.order(1, .discard(vm.id, epoch: 2, forGood: true))
            #expect(drivers.wait(1, vm, .stopped, atMost: 5))
        }
        #expect(drivers.pids(1).isEmpty && access(disk(drivers, 1, vm), F_OK) != 0)
        #expect(missing(drivers, 0, vm) == nil)
        setRate(drivers, 1 << 30)
        #expect(
            isCopied(drivers, vm, 1, to: 3), "\(drivers.news[0].last { $0.state == .copyFailed }?.message ?? "")")
        #expect(isSame(drivers, vm, wrote(drivers, 0, vm)))
        drivers.order(1, .finishArrival(vm.id, epoch: 3))
        #expect(drivers.wait(1, vm, .running, atMost: 5))
        #expect(writesOn(drivers, 1, vm))
    }

    @Test(.enabled(if: getuid() == 0, "a file system can't be mounted here: not root"))
    func `a move to a host whose disk is full ends with that word, and the guest goes on with its own disk`() throws {
        let (drivers, vm) = try make(8 << 20)
        defer { drivers.end() }
        let place = drivers.settings[1].directory
        try #require(Program.run("/usr/bin/mount", ["-t", "tmpfs", "-o", "size=6m,mode=700", "full", place]) == 0)
        defer {
            for pid in drivers.pids(1) { kill(pid, SIGKILL) }
            _ = Program.run("/usr/bin/umount", ["-l", place])
        }
        move(drivers, vm, 1, to: 2)
        #expect(drivers.wait(atMost: 30) { drivers.states(0).contains(.copyFailed) })
        let why = drivers.news[0].last { $0.state == .copyFailed }?.message ?? ""
        #expect(why == "the destination has no room left for its disk")
        #expect(drivers.wait(0, vm, .running, atMost: 5))
        #expect(writesOn(drivers, 0, vm))
        #expect(missing(drivers, 0, vm) == nil)
        drivers.order(1, .discard(vm.id, epoch: 2, forGood: true))
        #expect(drivers.wait(1, vm, .stopped, atMost: 5))
    }

    @Test func `a guest whose destination never says that it has all goes on with its own disk`() throws {
        let (drivers, vm) = try make(4 << 20)
        defer { drivers.end() }
        drivers.carriers[1].losesTaken = true
        move(drivers, vm, 1, to: 2)
        #expect(drivers.wait(atMost: 60) { drivers.states(0).contains(.copyFailed) })
        #expect(drivers.wait(0, vm, .running, atMost: 5))
        #expect(!drivers.states(0).contains(.copied))
        #expect(writesOn(drivers, 0, vm))
        #expect(missing(drivers, 0, vm) == nil)
        drivers.order(1, .discard(vm.id, epoch: 2, forGood: true))
        #expect(drivers.wait(1, vm, .stopped, atMost: 5))
        #expect(access(disk(drivers, 1, vm), F_OK) != 0)
    }
}
