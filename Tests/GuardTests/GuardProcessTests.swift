import ClusterBase
import FleetModel
import Glibc
import Guard
import Reactor
import Testing

/// A real guard, real children, real signals. Times are those of the machine's clock since boot.
@Suite(.serialized) struct GuardProcessTests {
    @Test func `a guest outlives its agent, and the next agent is told of it`() throws {
        let ward = try Ward()
        defer { ward.end() }
        ward.grant([1: 7])
        let process = try ward.run(1, epoch: 7)
        ward.disconnect()
        #expect(ward.goesOn(1))
        try ward.connect()
        #expect(ward.link?.guests == [GuardLink.Guest(vm: VMID(1), epoch: 7, process: process)])
        #expect(ward.goesOn(1))
        #expect(try ward.guardProcess != getpid())
        ward.link?.stop(VMID(1), epoch: 7)
        #expect(ward.wait { ward.events.contains { if case .ended(_, 7, 137, nil) = $0 { true } else { false } } })
        #expect(!Ward.lives(process))
    }

    @Test(arguments: [0, 3])
    func `a guard comes before other work by the steps that its agent was told, its guests don't`(steps: Int) throws {
        let ward = try Ward(priority: steps)
        defer { ward.end() }
        ward.grant([1: 7])
        let guest = try ward.run(1, epoch: 7)
        // Whoever may not come before others stays among them.
        let mayComeBefore = geteuid() == 0
        let process = Int32(PRIO_PROCESS.rawValue)
        #expect(getpriority(process, id_t(try ward.guardProcess)) == (mayComeBefore ? Int32(-steps) : 0))
        #expect(getpriority(process, id_t(guest)) == 0)
    }

    @Test func `guests die with their guard, and the next one starts no epoch again`() throws {
        let ward = try Ward()
        defer { ward.end() }
        // Nothing of the beginning is under way any more.
        _ = ward.wait(atMost: .milliseconds(200)) { false }
        ward.grant([1: 7, 2: 3])
        let guests = [try ward.run(1, epoch: 7), try ward.run(2, epoch: 3)]
        let first = ward.incarnation
        kill(try ward.guardProcess, SIGKILL)
        #expect(ward.wait { guests.allSatisfy { !Ward.lives($0) } })
        let killedAt = SystemClock.now
        #expect(ward.wait { ward.incarnation > first })
        // Not when what was asked of the first one would have been given up: that takes ten seconds.
        #expect(SystemClock.now - killedAt < .seconds(4))
        ward.grant([1: 7])
        ward.start(1, epoch: 7)
        #expect(ward.wait { ward.refusal(1) != nil })
        #expect(ward.refusal(1) == "epoch 7 ran on this host already")
        ward.grant([1: 8])
        _ = try ward.run(1, epoch: 8)
    }

    @Test func `when no grant comes any more, the guest is gone before the lease is`() throws {
        let ward = try Ward()
        defer { ward.end() }
        let end = ward.grant([1: 7], length: .milliseconds(1_800))
        let process = try ward.run(1, epoch: 7)
        #expect(ward.wait { !Ward.lives(process) })
        let goneAt = SystemClock.now
        #expect(goneAt < end, "\(goneAt) \(end)")
        let last = try #require(ward.lastTick(1))
        print("without grants: last sign of life \((end - last).milliseconds) ms before the lease's end")
        // Stopping begins a third before the end of so short a lease, not much earlier.
        #expect(last > end - .milliseconds(900))
        #expect(
            ward.wait {
                ward.events.contains { event in
                    if case .ended(_, 7, _, let why?) = event {
                        why.text.contains("lease") && !why.isHostsFault
                    } else {
                        false
                    }
                }
            })
        // And the guard is there for the next one.
        ward.grant([1: 8])
        _ = try ward.run(1, epoch: 8)
    }

    @Test func `a stopped guard is ended by the kernel before the lease ends, and its guests with it`() throws {
        let ward = try Ward()
        defer { ward.end() }
        let end = ward.grant([1: 7], length: .milliseconds(1_800))
        let process = try ward.run(1, epoch: 7)
        let guarding = try ward.guardProcess
        kill(guarding, SIGSTOP)
        #expect(ward.wait { !Ward.lives(process) })
        let goneAt = SystemClock.now
        #expect(goneAt < end, "\(goneAt) \(end)")
        let last = try #require(ward.lastTick(1))
        print("with a stopped guard: last sign of life \((end - last).milliseconds) ms before the lease's end")
        // It was the timer and not the guard: that is stopped.
        #expect(last > end - .milliseconds(400))
        #expect(!Ward.lives(guarding))
    }

    @Test func `what keeps running when cut off outlives the lease`() throws {
        let ward = try Ward()
        defer { ward.end() }
        let end = ward.grant([1: 7], length: .seconds(1), isolation: .keep)
        _ = try ward.run(1, epoch: 7)
        #expect(ward.wait { SystemClock.now > end + .milliseconds(300) })
        #expect(ward.goesOn(1))
        ward.start(2, epoch: 1)
        #expect(ward.wait { ward.refusal(2) != nil })
        #expect(ward.refusal(2)?.contains("no lease") == true)
    }

    @Test func `what a newer grant does not name is killed at once`() throws {
        let ward = try Ward()
        defer { ward.end() }
        ward.grant([1: 7])
        let process = try ward.run(1, epoch: 7)
        ward.grant([2: 1])
        #expect(ward.wait(atMost: .seconds(1)) { !Ward.lives(process) })
        #expect(ward.wait { ward.log.contains("does not name it") })
    }

    @Test func `a program that is not there is a refusal, and its epoch is used up`() throws {
        let ward = try Ward()
        defer { ward.end() }
        ward.grant([1: 7])
        ward.start(1, epoch: 7, program: "/nonesuch")
        #expect(ward.wait { ward.refusal(1) != nil })
        #expect(ward.refusal(1) == "can't start /nonesuch: No such file or directory")
    }

    @Test func `nonsense on the socket costs its sender the connection and nobody else anything`() throws {
        let ward = try Ward()
        defer { ward.end() }
        ward.grant([1: 7])
        _ = try ward.run(1, epoch: 7)
        for bytes in [[0xFF, 0xFF, 0xFF, 0xFF], [4, 0, 0, 0, 9, 9, 9, 9], [2, 0, 0, 0, 8, 9]] as [[UInt8]] {
            let stranger = try Socket.connected(toPath: ward.path + "/guard/socket")
            #expect(bytes.withUnsafeBytes { stranger.write($0) } == .bytes(bytes.count))
            var hasEnded = false
            #expect(
                ward.wait {
                    if case .ended = stranger.read(into: ward.loop.scratch) { hasEnded = true }
                    return hasEnded
                })
        }
        #expect(ward.link?.isUp == true)
        #expect(ward.goesOn(1))
    }

    @Test func `there is one guard per directory, with one thread that forks`() throws {
        let ward = try Ward()
        defer { ward.end() }
        let (status, _) = try run("guard", ward.path)
        #expect(status == 0)
        let process = try ward.guardProcess
        let threads = ward.names("/proc/\(process)/task").compactMap { id in
            String(decoding: Ward.bytes("/proc/\(process)/task/\(id)/comm"), as: UTF8.self).split(separator: "\n").first
        }
        // The thread sanitizer brings a thread of its own, with the program's name.
        let own = getenv("TSAN_OPTIONS") == nil ? threads : Array(Set(threads))
        #expect(own.sorted() == ["guard-disk", "muster-guard"])
    }

    @Test func `mistakes are one sentence`() throws {
        let ward = try Ward()
        defer { ward.end() }
        for words in [["guard"], ["guard", "--help"], ["guard", "a", "b"]] {
            let (status, complaint) = try run(words)
            #expect(status == 2)
            #expect(complaint.contains("the agent starts it by itself"))
        }
        #expect(try run("guard", "/nonesuch/n1").complaint.contains("/nonesuch/n1/guard"))
        let long = ward.path + "/" + String(repeating: "x", count: 100)
        #expect(try run("guard", long).complaint.contains("choose a shorter --node-data"))
        ward.disconnect()
        kill(try ward.guardProcess, SIGTERM)
        #expect(ward.wait { ward.guards.isEmpty })
        Ward.write(ward.path + "/guard/epochs", "1 7 12\n")
        let damaged = try run("guard", ward.path)
        #expect(damaged.status == 1)
        #expect(damaged.complaint.contains("Line 1 of \(ward.path)/guard/epochs is damaged"))
    }

    private func run(_ words: String...) throws -> (status: Int32, complaint: String) { try run(words) }

    private func run(_ words: [String]) throws -> (status: Int32, complaint: String) {
        var ends: [Int32] = [0, 0]
        pipe(&ends)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[1], 2)
        posix_spawn_file_actions_addclose(&actions, ends[0])
        let binary = try Ward.binary()
        var arguments: [UnsafeMutablePointer<CChar>?] = ([binary] + words).map { strdup($0) }
        arguments.append(nil)
        defer { for argument in arguments { free(argument) } }
        var process: pid_t = 0
        let code = posix_spawn(&process, binary, &actions, nil, arguments, environ)
        close(ends[1])
        guard code == 0 else { throw Ward.Failure(description: "\(binary) does not start") }
        var bytes = [UInt8](repeating: 0, count: 4_096)
        let count = read(ends[0], &bytes, bytes.count)
        close(ends[0])
        var status: Int32 = 0
        waitpid(process, &status, 0)
        return (status >> 8 & 0xFF, String(decoding: bytes.prefix(max(0, count)), as: UTF8.self))
    }
}
