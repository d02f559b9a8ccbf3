import ClusterBase
import FleetModel
import Glibc
import Guard
import Reactor
import Testing

/// Guests that run as a user of their own under a real guard: what they may do, and that they end with it all the same.
@Suite(.serialized, .enabled(if: geteuid() == 0, "guests can't run as another user: the tests are not run as root"))
struct GuestUserTests {
    private static let user = GuardLink.User(user: 64_321, group: 64_322, moreGroups: [64_323])

    /// What the kernel says of a process under a heading, with spaces between.
    private func status(_ process: Int32, _ heading: String) -> String {
        let lines = String(decoding: Ward.bytes("/proc/\(process)/status"), as: UTF8.self).split(separator: "\n")
        let words = lines.first { $0.hasPrefix(heading + ":") }?.split(whereSeparator: \.isWhitespace).dropFirst()
        return words?.joined(separator: " ") ?? ""
    }

    @Test func `a guest and its companion have their user's rights and no others, and die with their guard`() throws {
        let ward = try Ward()
        defer { ward.end() }
        _ = ward.wait(atMost: .milliseconds(200)) { false }
        ward.grant([1: 7, 2: 3], length: .seconds(8))
        let guest = try ward.run(1, epoch: 7, companion: Ward.echo, user: GuestUserTests.user)
        let other = try ward.run(2, epoch: 3)
        let all = ward.children(of: try ward.guardProcess)
        #expect(all.count == 3)
        for process in all where process != other {
            #expect(status(process, "Uid") == "64321 64321 64321 64321")
            #expect(status(process, "Gid") == "64322 64322 64322 64322")
            #expect(status(process, "Groups") == "64323")
            for rights in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                #expect(status(process, rights) == "0000000000000000", "\(rights)")
            }
            #expect(status(process, "NoNewPrivs") == "1")
        }
        #expect(status(other, "Uid") == "0 0 0 0", "one without a user of its own runs as its guard")
        let killedAt = SystemClock.now
        kill(try ward.guardProcess, SIGKILL)
        #expect(ward.wait { all.allSatisfy { !Ward.lives($0) } })
        let took = SystemClock.now - killedAt
        print("guests of other users were gone \(took.milliseconds) ms after their guard was killed")
        #expect(!Ward.lives(guest) && took < .seconds(2))
    }

    @Test func `a guest of another user is gone before the lease is, whether its guard is stopped or not`() throws {
        for isStopped in [false, true] {
            let ward = try Ward()
            defer { ward.end() }
            let end = ward.grant([1: 7], length: .milliseconds(1_800))
            let process = try ward.run(1, epoch: 7, user: GuestUserTests.user)
            if isStopped { kill(try ward.guardProcess, SIGSTOP) }
            #expect(ward.wait { !Ward.lives(process) })
            #expect(SystemClock.now < end)
        }
    }

    @Test func `a guest can't take back that it dies with its guard`() throws {
        let ward = try Ward()
        defer { ward.end() }
        chmod(ward.path, 0o777)
        ward.grant([1: 7, 2: 3], length: .seconds(8))
        for (vm, epoch, user) in [(1, 7, GuestUserTests.user), (2, 3, nil)] as [(UInt64, UInt64, GuardLink.User?)] {
            let mark = ward.path + "/took-back-\(vm)"
            var answer: Result<Int32, GuardFailure>?
            ward.link?.start(
                VMID(vm), epoch: epoch, program: "/usr/bin/setpriv", ["--pdeathsig", "clear", "/usr/bin/touch", mark],
                errorPath: ward.path + "/error-\(vm)", user: user
            ) { answer = $0 }
            #expect(
                ward.wait {
                    ward.events.contains { if case .ended(VMID(vm), _, _, _) = $0 { true } else { false } }
                })
            _ = try #require(answer).get()
            // As root nothing keeps it from doing that: what is told apart is the user's.
            #expect((access(mark, F_OK) == 0) == (user == nil))
            #expect(ward.text("error-\(vm)").contains("not permitted") == (user != nil), "\(ward.text("error-\(vm)"))")
        }
    }

    @Test func `a guard that became another program takes its guests of other users along when it ends`() throws {
        let newer = try GuardUpgradeTests.copy()
        defer { GuardUpgradeTests.remove(newer) }
        let ward = try Ward()
        defer { ward.end() }
        ward.grant([1: 7], length: .seconds(8))
        let guest = try ward.run(1, epoch: 7, user: GuestUserTests.user)
        let process = try ward.guardProcess
        ward.disconnect()
        let linesBefore = ward.linesBegun
        try ward.connect(as: newer)
        #expect(ward.wait { GuardUpgradeTests.program(process) == newer }, "\(ward.log)")
        #expect(ward.wait { ward.linesBegun >= linesBefore + 2 && ward.link?.isUp ?? false })
        #expect(ward.link?.guests == [GuardLink.Guest(vm: VMID(1), epoch: 7, process: guest)])
        #expect(ward.goesOn(1))
        kill(process, SIGKILL)
        #expect(ward.wait(atMost: .seconds(2)) { !Ward.lives(guest) })
    }

    @Test func `a user with root's group, and one with too many groups, start nothing`() throws {
        let ward = try Ward()
        defer { ward.end() }
        ward.grant([1: 7, 2: 3], length: .seconds(8))
        ward.start(1, epoch: 7, user: GuardLink.User(user: 64_321, group: 0))
        ward.start(2, epoch: 3, user: GuardLink.User(user: 64_321, group: 64_321, moreGroups: [1, 2, 3, 4, 5]))
        #expect(ward.wait { ward.refusal(1) != nil && ward.refusal(2) != nil })
        #expect(ward.refusal(1) == "can't start /usr/bin/perl: Invalid argument")
        #expect(ward.refusal(2) == "can't start /usr/bin/perl: Invalid argument")
    }
}
