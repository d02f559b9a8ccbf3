import ClusterBase
import FleetModel
import Glibc
import Hypervisor
import NodePorts
import Reactor
import Testing

/// Real guests with a TPM, which they talk to.
@Suite(
    .serialized,
    .enabled(if: QEMU.absence == nil && QEMU.hasTPM, "no QEMU, no kernel, no busybox or no swtpm on this machine"))
struct GuestTPMTests {
    /// Says what its TPM has in a register after it added to that once, again and again, and with `keep` in its command line what an
    /// index of the TPM's memory holds, which it makes with `make`.
    private static let script =
        Modules.begin + #"""
            tpm() {
                exec 3<>/dev/tpm0
                printf "$1" >/cmd; /bin/busybox dd if=/cmd bs=4096 count=1 >&3 2>/dev/null
                /bin/busybox dd bs=4096 count=1 <&3 2>/dev/null | /bin/busybox hexdump -v -e '1/1 "%02x"'
                exec 3>&-
            }
            echo "version $(/bin/busybox cat /sys/class/tpm/tpm0/tpm_version_major)"
            a='aaaaaaaaaaaaaaaa'
            pcr='\200\002\000\000\000\101\000\000\001\202\000\000\000\020\000\000\000\011\100\000\000\011\000\000\000\000\000'
            tpm "$pcr"'\000\000\000\001\000\013'$a$a >/dev/null
            auth='\000\000\000\011\100\000\000\011\000\000\000\000\000'
            if /bin/busybox grep -q make /proc/cmdline; then
                echo "made $(tpm '\200\002\000\000\000\055\000\000\001\052\100\000\000\001'"$auth"'\000\000\000\016\001\000\000\001\000\013\000\002\000\002\000\000\000\010')"
                echo "wrote $(tpm '\200\002\000\000\000\053\000\000\001\067\100\000\000\001\001\000\000\001'"$auth"'\000\010remember\000\000')"
            fi
            echo "kept $(tpm '\200\002\000\000\000\043\000\000\001\116\100\000\000\001\001\000\000\001'"$auth"'\000\010\000\000')"
            i=0
            while true; do
                i=$((i+1)); echo "tick $i register $(/bin/busybox cat /sys/class/tpm/tpm0/pcr-sha256/16)"
                /bin/busybox usleep 100000
            done
            """#

    private static let register = "02E1135630209ABF08D0402D579A5282ED2B5B50BB51EE0ED1450792D5D979A0"
    /// `remember`, as the answer to a read has it.
    private static let kept = "000872656d656d626572"

    private func said(_ drivers: QEMUDrivers, _ host: Int, _ vm: CellVM) -> String {
        String(decoding: Files.read(drivers.serial(host, vm)).filter { $0 != 13 }, as: UTF8.self)
    }

    private func ticks(_ drivers: QEMUDrivers, _ host: Int, _ vm: CellVM) -> [Substring] {
        said(drivers, host, vm).split(separator: "\n").filter { $0.hasPrefix("tick ") && $0.utf8.count > 70 }
    }

    private func vm(
        _ drivers: QEMUDrivers, _ tpm: VMDescription.NamedDisk.Kind, makes: Bool = true
    ) -> CellVM {
        drivers.vm { spec in
            spec.tpm = tpm
            spec.annotations[0] = Named("qemu.append", "console=ttyS0 quiet panic=-1" + (makes ? " make" : ""))
        }
    }

    @Test(arguments: [.local, .shared(domain: "fast"), .ephemeral] as [VMDescription.NamedDisk.Kind])
    func `a guest has a TPM, which goes along with it and remembers where it was told to`(
        _ kind: VMDescription.NamedDisk.Kind
    ) throws {
        let drivers = try QEMUDrivers(script: GuestTPMTests.script)
        defer { drivers.end() }
        let guest = vm(drivers, kind)
        drivers.order(0, .start(guest, epoch: 1, isPaused: false))
        #expect(
            drivers.wait(atMost: 60) { ticks(drivers, 0, guest).count > 2 },
            "\(said(drivers, 0, guest).suffix(500)) \(drivers.last(0, guest)?.message ?? "")")
        let first = said(drivers, 0, guest)
        #expect(first.contains("version 2\n"))
        #expect(first.contains(GuestTPMTests.kept), "\(first.suffix(600))")
        #expect(ticks(drivers, 0, guest).allSatisfy { $0.hasSuffix(GuestTPMTests.register) }, "\(first.suffix(600))")
        // An agent that begins anew takes both over.
        try drivers.restartAgent(0)
        #expect(drivers.wait(0, guest, .running, atMost: 5))
        let count = ticks(drivers, 0, guest).count
        #expect(drivers.wait(atMost: 10) { ticks(drivers, 0, guest).count > count + 2 })
        // A move that is called off leaves it whole.
        drivers.order(1, .receive(guest, epoch: 2, from: HostID(rawValue: 1)))
        drivers.order(0, .send(guest.id, epoch: 1, target: 2, to: HostID(rawValue: 2)))
        #expect(drivers.wait(0, guest, .copied))
        drivers.order(0, .cancelSend(guest.id, epoch: 1))
        drivers.order(1, .discard(guest.id, epoch: 2, forGood: true))
        #expect(drivers.wait(0, guest, .running, atMost: 5) && drivers.wait(1, guest, .stopped, atMost: 5))
        let stood = ticks(drivers, 0, guest).count
        #expect(drivers.wait(atMost: 10) { ticks(drivers, 0, guest).count > stood + 2 })
        // One that is not goes on with it at the other host.
        drivers.order(1, .receive(guest, epoch: 3, from: HostID(rawValue: 1)))
        drivers.order(0, .send(guest.id, epoch: 1, target: 3, to: HostID(rawValue: 2)))
        #expect(drivers.wait(0, guest, .copied))
        drivers.order(1, .finishArrival(guest.id, epoch: 3))
        #expect(drivers.wait(1, guest, .running, atMost: 5))
        drivers.order(0, .discard(guest.id, epoch: 1, forGood: true))
        #expect(drivers.wait(0, guest, .stopped, atMost: 5))
        #expect(drivers.wait(atMost: 10) { ticks(drivers, 1, guest).count > 2 })
        #expect(ticks(drivers, 1, guest).allSatisfy { $0.hasSuffix(GuestTPMTests.register) })
        // What it was told to keep it has after the next start, unless it is made anew at each.
        drivers.order(1, .stop(guest.id, epoch: 3, grace: .zero))
        #expect(drivers.wait(1, guest, .stopped, atMost: 5))
        #expect(tpms(drivers).isEmpty, "nothing of it runs on")
        let host = if case .shared = kind { 0 } else { 1 }
        drivers.order(host, .start(vm(drivers, kind, makes: false), epoch: 4, isPaused: false))
        let before = host == 1 ? said(drivers, 1, guest).utf8.count : 0
        func later() -> String { String(said(drivers, host, guest).utf8.dropFirst(before)) ?? "" }
        #expect(
            drivers.wait(atMost: 60) { later().contains("tick 2 ") },
            "\(later().suffix(500)) \(drivers.last(host, guest)?.message ?? "")")
        #expect(later().contains(GuestTPMTests.kept) == (kind != .ephemeral), "\(later().suffix(500))")
        for each in 0...1 {
            drivers.order(each, .discard(guest.id, epoch: 4, forGood: true))
            #expect(drivers.wait(each, guest, .stopped, atMost: 5))
        }
        #expect(tpms(drivers).isEmpty)
        // In a storage domain it goes as disks do, and only there.
        let place = "\(drivers.path)/storage/fast/vm-\(guest.id)-tpm"
        if case .shared = kind {
            #expect(access(place + "/tpm2-00.permall", R_OK) == 0)
            let left = SharedDisks(drivers.path + "/storage", marks: nil)
            let disk = SharedDisks.Disk(name: VMDescription.tpmName, domain: "fast", hasImage: false)
            for _ in 0..<2 { #expect(left.remove([disk], of: guest.id) == nil) }
        }
        #expect(access(place, F_OK) != 0)
        for each in drivers.settings { #expect(access("\(each.directory)/\(guest.id)", F_OK) != 0) }
    }

    /// Its processes on this machine.
    private func tpms(_ drivers: QEMUDrivers) -> [Int32] {
        ((try? Files.names(in: "/proc")) ?? []).compactMap { Int32($0) }.filter { pid in
            let words = String(decoding: Files.read("/proc/\(pid)/cmdline"), as: UTF8.self)
            return words.contains("swtpm") && words.contains(drivers.path)
        }
    }

    @Test func `without swtpm, or without its storage domain, a VM with a TPM is refused by name`() throws {
        let drivers = try QEMUDrivers { settings, host in if host == 1 { settings.tpmProgram = "/nonesuch/swtpm" } }
        defer { drivers.end() }
        #expect(drivers.settings.map(\.hasTPM) == [true, false])
        for (host, kind, words) in [
            (1, .local, "no /nonesuch/swtpm on this host; install swtpm"),
            (0, .shared(domain: "away"), "tpm is in the storage domain 'away'"),
        ] as [(Int, VMDescription.NamedDisk.Kind, String)] {
            let guest = vm(drivers, kind)
            drivers.order(host, .start(guest, epoch: 1, isPaused: false))
            #expect(drivers.wait(host, guest, .crashed, atMost: 5))
            #expect(drivers.last(host, guest)?.message.contains(words) == true)
        }
    }
}
