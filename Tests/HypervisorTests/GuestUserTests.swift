import ClusterBase
import FleetModel
import Glibc
import Hypervisor
import NodePorts
import Reactor
import Testing

/// Real guests under real guards, each as a user of its own.
@Suite(
    .serialized, .enabled(if: QEMU.absence == nil, "no QEMU, no kernel or no busybox on this machine"),
    .enabled(if: geteuid() == 0, "guests can't run as another user: the tests are not run as root"))
struct GuestUserTests {
    private static let users = "2000000-2065535"

    /// Two hosts whose directories let users in, as an agent makes its own.
    private func make(
        _ words: [String] = [users, users], script: String = QEMUDrivers.script,
        more: [(name: String, mode: UInt32, bytes: [UInt8])] = []
    ) throws -> QEMUDrivers {
        let all = try words.map { try GuestUsers($0) }
        let drivers = try QEMUDrivers(hasGuards: true, script: script, more: more) { $0.users = all[$1] }
        drivers.letUsersIn()
        return drivers
    }

    private func said(_ drivers: QEMUDrivers, _ host: Int, _ vm: CellVM) -> String {
        String(decoding: Files.read(drivers.serial(host, vm)), as: UTF8.self)
    }

    private func speaks(_ drivers: QEMUDrivers, _ host: Int, _ vm: CellVM) -> Bool {
        let size = Files.size(drivers.serial(host, vm))
        return drivers.wait(atMost: 60) { Files.size(drivers.serial(host, vm)) > size + 100 }
    }

    private func status(_ process: Int32, _ heading: String) -> String {
        let lines = String(decoding: Files.read("/proc/\(process)/status"), as: UTF8.self).split(separator: "\n")
        let words = lines.first { $0.hasPrefix(heading + ":") }?.split(whereSeparator: \.isWhitespace).dropFirst()
        return words?.joined(separator: " ") ?? ""
    }

    /// Whether a process's user, with its groups, can read a file.
    private func canRead(_ process: Int32, _ path: String) -> Bool {
        let (user, group) = (status(process, "Uid").split(separator: " "), status(process, "Gid").split(separator: " "))
        let groups = status(process, "Groups").split(separator: " ").joined(separator: ",")
        return Program.run(
            "/usr/bin/setpriv",
            ["--reuid", "\(user[0])", "--regid", "\(group[0])"]
                + (groups.isEmpty ? ["--clear-groups"] : ["--groups", groups])
                + ["/usr/bin/head", "-c", "1", path]) == 0
    }

    /// With a disk of each kind, what cloud-init reads and, where the machine has one, a TPM.
    private func furnished(_ drivers: QEMUDrivers, _ number: UInt64) -> CellVM {
        drivers.vm(number) { spec in
            spec.disks = [
                .init(name: "data", sizeMiB: 8, kind: .local), .init(name: "tmp", sizeMiB: 8, kind: .ephemeral),
                .init(name: "all", sizeMiB: 8, kind: .shared(domain: "fast")),
            ]
            spec.annotations = ([Named("cloud-init.user-data", "secret")] + spec.annotations).sorted()
            if QEMU.hasTPM { spec.tpm = .local }
        }
    }

    @Test func `each QEMU is a user's without rights, reads nothing of others, and outlives its agent`() throws {
        let drivers = try make()
        defer { drivers.end() }
        let vms = [furnished(drivers, 1), furnished(drivers, 2)]
        var processes: [Int32] = []
        for vm in vms {
            drivers.order(0, .start(vm, epoch: 1, isPaused: false))
            #expect(drivers.wait(0, vm, .running, atMost: 60), "\(drivers.last(0, vm)?.message ?? "")")
            processes.append(try #require(drivers.pids(0).first { !processes.contains($0) && isQEMU($0) }))
            #expect(speaks(drivers, 0, vm))
        }
        let secret = drivers.path + "/secret"
        Files.write(secret, [1])
        for (at, process) in processes.enumerated() {
            let user = 2_000_000 + (vms[at].id.rawValue % 65_536)
            #expect(status(process, "Uid") == "\(user) \(user) \(user) \(user)")
            #expect(status(process, "Gid") == "\(user) \(user) \(user) \(user)")
            #expect(status(process, "CapEff") == "0000000000000000" && status(process, "CapPrm") == "0000000000000000")
            #expect(status(process, "Seccomp") == "2" && status(process, "NoNewPrivs") == "1")
            let own = "\(drivers.settings[0].directory)/\(vms[at].id)"
            let other = "\(drivers.settings[0].directory)/\(vms[1 - at].id)"
            let shared = "\(drivers.path)/storage/fast/vm-"
            for path in ["\(own)/local-data.raw", "\(own)/ephemeral-tmp.raw", "\(shared)\(vms[at].id)-all.raw"] {
                #expect(canRead(process, path), "\(path)")
            }
            for path in [
                secret, "\(own)/record", "\(other)/local-data.raw", "\(other)/ephemeral-tmp.raw", "\(other)/serial.log",
                "\(shared)\(vms[1 - at].id)-all.raw", "\(drivers.settings[0].directory)/guard/epochs",
            ] {
                #expect(access(path, F_OK) == 0 && !canRead(process, path), "\(path)")
            }
        }
        // Every process of theirs: a TPM's, too.
        for process in drivers.pids(0) where process != drivers.guards[0].process {
            #expect(status(process, "CapEff") == "0000000000000000")
        }
        // The next agent takes them over.
        let before = drivers.pids(0)
        try drivers.restartAgent(0)
        for vm in vms {
            #expect(drivers.wait(0, vm, .running, atMost: 5))
            #expect(speaks(drivers, 0, vm))
        }
        #expect(drivers.pids(0) == before)
        // And none outlives its guard.
        let killedAt = drivers.now
        kill(try #require(drivers.guards[0].process), SIGKILL)
        #expect(drivers.wait(atMost: 5) { processes.allSatisfy { !isQEMU($0) } })
        print("QEMUs of other users were gone \((drivers.now - killedAt).milliseconds) ms after their guard was killed")
        #expect(drivers.wait(atMost: 5) { vms.allSatisfy { drivers.last(0, $0)?.state == .crashed } })
        // Nothing of it is in the way of the next start.
        drivers.order(0, .start(vms[0], epoch: 2, isPaused: false))
        #expect(drivers.wait(0, vms[0], .running, atMost: 60), "\(drivers.last(0, vms[0])?.message ?? "")")
        #expect(speaks(drivers, 0, vms[0]))
        drivers.order(0, .discard(vms[0].id, epoch: 2, forGood: true))
        #expect(drivers.wait(0, vms[0], .stopped, atMost: 5))
        #expect(access("\(drivers.settings[0].directory)/\(vms[0].id)", F_OK) != 0)
    }

    private func isQEMU(_ process: Int32) -> Bool {
        String(decoding: Files.read("/proc/\(process)/cmdline"), as: UTF8.self).contains("qemu-system")
    }

    @Test func `it moves to another host with its disks and its TPM, and is the same user there`() throws {
        let drivers = try make()
        defer { drivers.end() }
        let vm = furnished(drivers, 1)
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .running, atMost: 60), "\(drivers.last(0, vm)?.message ?? "")")
        #expect(speaks(drivers, 0, vm))
        let first = try #require(drivers.pids(0).first { isQEMU($0) && $0 != drivers.guards[0].process })
        for (from, epoch) in [(0, UInt64(1)), (1, 2)] {
            let to = 1 - from
            drivers.order(to, .receive(vm, epoch: epoch + 1, from: HostID(rawValue: UInt64(from + 1))))
            drivers.order(
                from, .send(vm.id, epoch: epoch, target: epoch + 1, to: HostID(rawValue: UInt64(to + 1))))
            #expect(
                drivers.wait(from, vm, .copied, atMost: 60),
                "\(drivers.last(from, vm)?.message ?? "") \(drivers.last(to, vm)?.message ?? "")")
            drivers.order(to, .finishArrival(vm.id, epoch: epoch + 1))
            #expect(drivers.wait(to, vm, .running, atMost: 5))
            drivers.order(from, .discard(vm.id, epoch: epoch, forGood: true))
            #expect(drivers.wait(from, vm, .stopped, atMost: 5))
            #expect(speaks(drivers, to, vm))
        }
        #expect(!isQEMU(first))
        let last = try #require(drivers.pids(0).first { isQEMU($0) && $0 != drivers.guards[0].process })
        #expect(status(last, "Uid").hasPrefix("\(2_000_000 + (vm.id.rawValue % 65_536)) "))
        #expect(status(last, "CapEff") == "0000000000000000")
    }

    @Test func `what its user can't reach is named, with what to do`() throws {
        let drivers = try make()
        defer { drivers.end() }
        let vm = drivers.vm()
        let user = 2_000_000 + (vm.id.rawValue % 65_536)
        let images = drivers.path + "/images"
        chmod(images, 0o700)
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .crashed, atMost: 10))
        #expect(
            drivers.last(0, vm)?.message
                == "can't start: the user \(user), which the VM runs as (hypervisor.user), can't enter \(images); let it (chmod o+x)"
        )
        chmod(images, 0o711)
        chmod(images + "/initrd", 0o600)
        drivers.order(0, .start(vm, epoch: 2, isPaused: false))
        #expect(drivers.wait(atMost: 10) { drivers.last(0, vm)?.epoch == 2 && drivers.last(0, vm)?.state == .crashed })
        #expect(drivers.last(0, vm)?.message.hasSuffix("can't read \(images)/initrd; let it (chmod o+r)") == true)
    }

    @Test func `a host where it would be another user does not take it from where it runs`() throws {
        let drivers = try make([GuestUserTests.users, "3000000"])
        defer { drivers.end() }
        let vm = drivers.vm { $0.disks = [.init(name: "all", sizeMiB: 8, kind: .shared(domain: "fast"))] }
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .running, atMost: 60), "\(drivers.last(0, vm)?.message ?? "")")
        drivers.order(1, .receive(vm, epoch: 2, from: HostID(rawValue: 1)))
        #expect(drivers.wait(1, vm, .crashed, atMost: 15))
        let said = drivers.last(1, vm)?.message ?? ""
        #expect(said.contains("is the user \(2_000_000 + (vm.id.rawValue % 65_536))'s"), "\(said)")
        #expect(said.contains("give all hosts that reach it the same hypervisor.user"), "\(said)")
        #expect(speaks(drivers, 0, vm))
        // Where nothing of it runs any more, it is whose it is to be.
        drivers.order(0, .stop(vm.id, epoch: 1, grace: .zero))
        #expect(drivers.wait(0, vm, .stopped, atMost: 5))
        drivers.order(1, .start(vm, epoch: 3, isPaused: false))
        #expect(drivers.wait(1, vm, .running, atMost: 60), "\(drivers.last(1, vm)?.message ?? "")")
    }

    @Test func `what a guard starts as somebody else does not stay, and without a setting it is root`() throws {
        let drivers = try make()
        defer { drivers.end() }
        let vm = furnished(drivers, 1)
        drivers.guards[0].isOld = true
        drivers.order(0, .start(vm, epoch: 1, isPaused: false))
        #expect(drivers.wait(0, vm, .crashed, atMost: 20))
        #expect(drivers.last(0, vm)?.message == "its host's guard is older than its agent and started it as the user 0")
        #expect(!drivers.pids(0).contains { isQEMU($0) })
        drivers.guards[0].isOld = false
        drivers.order(0, .start(vm, epoch: 2, isPaused: false))
        #expect(drivers.wait(0, vm, .running, atMost: 60), "\(drivers.last(0, vm)?.message ?? "")")
        // An agent without the setting takes it over as who it is, and starts it next as the guard's user.
        try drivers.restartAgent(0) { $0.users = nil }
        #expect(drivers.wait(0, vm, .running, atMost: 5))
        #expect(speaks(drivers, 0, vm))
        drivers.order(0, .stop(vm.id, epoch: 2, grace: .zero))
        #expect(drivers.wait(0, vm, .stopped, atMost: 5))
        drivers.order(0, .start(vm, epoch: 3, isPaused: false))
        #expect(drivers.wait(0, vm, .running, atMost: 60), "\(drivers.last(0, vm)?.message ?? "")")
        #expect(drivers.pids(0).filter { isQEMU($0) }.allSatisfy { status($0, "Uid") == "0 0 0 0" })
        #expect(access("\(drivers.settings[0].directory)/\(vm.id)/q", F_OK) != 0)
        #expect(speaks(drivers, 0, vm))
    }

    @Test func `whom guests run as is a user, or a range of them, and never root`() throws {
        let users = try GuestUsers("200000-265535")
        #expect(users.user(of: VMID(rawValue: 65_536 * 3 + 7)).user == 200_007)
        #expect(users.user(of: VMID(rawValue: 65_536 * 3 + 7)).group == 200_007)
        #expect(users.text == "guests run as users of their own, 200000 to 265535")
        #expect(try GuestUsers("nobody").user(of: VMID(rawValue: 9)).user == 65_534)
        for (word, rest) in [
            ("0", "any user but root"), ("root", "whose group is root's"), ("0-5", "any user but root"),
            ("9-5", "a range goes up"), ("1-4294967295", "a range goes up"), ("no-such-user", "no user of this host"),
        ] {
            do {
                _ = try GuestUsers(word)
                Issue.record("\(word) is taken")
            } catch {
                #expect(error.message.hasPrefix("is '\(word)'") && error.message.contains(rest), "\(error.message)")
            }
        }
    }
}
