import ClusterBase
import FleetModel
import Glibc
import Guard
import Reactor
import Testing

/// Guests in cgroups of their own, on a machine that lets this user make some; elsewhere they are skipped, and say so.
@Suite(.serialized, .enabled(if: Ward.groupsMount != nil, "this user can't make cgroups of version 2 here"))
struct GuardGroupTests {
    private func folder(_ process: Int32) -> String { (Ward.groupsMount ?? "") + Ward.group(of: process) }

    @Test func `each guest has a cgroup of its own, and nothing of it is left when it is gone`() throws {
        let ward = try Ward()
        defer { ward.end() }
        ward.grant([1: 7, 2: 3])
        let guests = [
            try ward.run(1, epoch: 7, cpuMillis: 500, memoryMiB: 64),
            try ward.run(2, epoch: 3, cpuMillis: 500, memoryMiB: 64),
        ]
        let folders = guests.map { folder($0) }
        #expect(folders[0].hasSuffix("/vm-1-7") && folders[1].hasSuffix("/vm-2-3"), "\(folders)")
        let base = String(folders[0].dropLast("/vm-1-7".utf8.count))
        let handedDown = String(decoding: Ward.bytes(base + "/cgroup.subtree_control"), as: UTF8.self)
        for controller in ["cpu", "memory"] {
            let isHere = handedDown.split(whereSeparator: \.isWhitespace).contains { $0 == controller }
            #expect(isHere != ward.link?.groupsProblem.contains(controller), "what is not limited is said")
            guard isHere else { continue }
            let value = String(decoding: Ward.bytes(folders[0] + "/\(controller).max"), as: UTF8.self)
            #expect(value.hasPrefix(controller == "cpu" ? "50000 100000" : "67108864"))
        }
        // What a guest starts is in it too, and goes with it.
        ward.link?.stop(VMID(1), epoch: 7)
        #expect(ward.wait { !Ward.lives(guests[0]) && access(folders[0], F_OK) != 0 })
        #expect(ward.goesOn(2))
        kill(try ward.guardProcess, SIGKILL)
        #expect(ward.wait { !Ward.lives(guests[1]) })
        // The next guard takes away what the last one left.
        #expect(ward.wait { ward.link?.isUp ?? false && access(folders[1], F_OK) != 0 })
        ward.link?.close()
        kill(try ward.guardProcess, SIGTERM)
        #expect(ward.wait { access(base, F_OK) != 0 })
    }

    @Test func `a guest that is in the midst of something stands still before it is killed`() throws {
        let ward = try Ward()
        defer { ward.end() }
        ward.grant([1: 7])
        let process = try ward.run(1, epoch: 7)
        let events = folder(process) + "/cgroup.events"
        // Frozen by hand: it ends all the same, as one does whose freezing is the guard's first step.
        Ward.write(folder(process) + "/cgroup.freeze", "1")
        #expect(ward.wait { String(decoding: Ward.bytes(events), as: UTF8.self).contains("frozen 1") })
        #expect(!ward.goesOn(1))
        #expect(Ward.lives(process))
        ward.link?.stop(VMID(1), epoch: 7)
        #expect(ward.wait { !Ward.lives(process) })
        #expect(ward.wait { ward.events.contains { if case .ended(_, 7, 137, nil) = $0 { true } else { false } } })
    }
}

/// A guard that goes on as another program.
@Suite(.serialized) struct GuardUpgradeTests {
    /// The same program in a file of its own, which counts as another one. Another process writes it: what this one has open for
    /// writing any child that is just being forked has, too, and nothing becomes a program that somebody can write to.
    static func copy() throws -> String {
        var template = Array("/tmp/muster-u-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Ward.Failure(description: "no folder") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self) + "/muster"
        var child = pid_t()
        let line = ["cp", try Ward.binary(), path]
        var words: [UnsafeMutablePointer<CChar>?] = line.map { strdup($0) }
        words.append(nil)
        defer { for word in words { free(word) } }
        guard posix_spawn(&child, "/bin/cp", nil, nil, &words, environ) == 0 else {
            throw Ward.Failure(description: "cp does not start")
        }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0 && errno == EINTR {}
        guard status == 0 else { throw Ward.Failure(description: "no room for a copy") }
        return path
    }

    static func remove(_ copy: String) {
        unlink(copy)
        rmdir(String(copy.dropLast("/muster".count)))
    }

    static func program(_ process: Int32) -> String {
        var buffer = [CChar](repeating: 0, count: 4_096)
        let count = readlink("/proc/\(process)/exe", &buffer, buffer.count - 1)
        return String(decoding: buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    @Test func `a guard becomes the newer agent's program, and its guests notice nothing`() throws {
        let newer = try GuardUpgradeTests.copy()
        defer { GuardUpgradeTests.remove(newer) }
        let ward = try Ward()
        defer { ward.end() }
        ward.grant([1: 7, 2: 3], length: .seconds(8))
        let guests = [try ward.run(1, epoch: 7), try ward.run(2, epoch: 3)]
        let (process, incarnation) = (try ward.guardProcess, ward.incarnation)
        ward.disconnect()
        let linesBefore = ward.linesBegun
        try ward.connect(as: newer)
        #expect(ward.wait { GuardUpgradeTests.program(process) == newer }, "\(ward.log)")
        // The line to the program of before may not be known to be gone yet: it is the one after it that counts.
        #expect(ward.wait { ward.linesBegun >= linesBefore + 2 && ward.link?.isUp ?? false })
        #expect(try ward.guardProcess == process, "it is the same process")
        #expect(ward.incarnation == incarnation, "what it confirms is confirmed by who started it")
        #expect(
            ward.link?.guests == [
                GuardLink.Guest(vm: VMID(1), epoch: 7, process: guests[0]),
                GuardLink.Guest(vm: VMID(2), epoch: 3, process: guests[1]),
            ])
        #expect(ward.goesOn(1) && ward.goesOn(2))
        // It knows what it had: an epoch that runs does not start again, one that is granted does.
        ward.start(1, epoch: 7)
        #expect(ward.wait { ward.refusal(1) != nil })
        #expect(ward.refusal(1) == "its copy of epoch 7 is still here")
        ward.link?.stop(VMID(2), epoch: 3)
        #expect(ward.wait { !Ward.lives(guests[1]) })
        #expect(
            ward.wait { ward.events.contains { if case .ended(VMID(2), 3, 137, nil) = $0 { true } else { false } } })
        let text = ward.text("ticks-1").split(separator: "\n").compactMap { $0.split(separator: " ").first }.compactMap
        { Double($0) }
        let gap = zip(text, text.dropFirst()).map { $1 - $0 }.max() ?? 0
        print("the longest gap between a guest's ticks while its guard became another program: \(Int(gap * 1_000)) ms")
    }

    @Test func `a guest and its companion go on with a guard that becomes another program, and end together`() throws {
        let newer = try GuardUpgradeTests.copy()
        defer { GuardUpgradeTests.remove(newer) }
        let ward = try Ward()
        defer { ward.end() }
        ward.grant([1: 7], length: .seconds(30))
        let process = try ward.run(1, epoch: 7, companion: Ward.echo)
        let guardian = try ward.guardProcess
        let beside = try #require(ward.children(of: guardian).first { $0 != process })
        ward.disconnect()
        let linesBefore = ward.linesBegun
        try ward.connect(as: newer)
        #expect(ward.wait { GuardUpgradeTests.program(guardian) == newer }, "\(ward.log)")
        #expect(ward.wait { ward.linesBegun >= linesBefore + 2 && ward.link?.isUp ?? false })
        #expect(ward.goesOn(1) && Ward.lives(beside))
        kill(beside, SIGKILL)
        #expect(ward.wait { !Ward.lives(process) })
    }

    @Test(arguments: [false, true])
    func `a lease of before ends the guests of after, whenever their guard is stopped`(isEarly: Bool) throws {
        let newer = try GuardUpgradeTests.copy()
        defer { GuardUpgradeTests.remove(newer) }
        let ward = try Ward()
        defer { ward.end() }
        let end = ward.grant([1: 7], length: .seconds(6))
        let guest = try ward.run(1, epoch: 7)
        let process = try ward.guardProcess
        ward.disconnect()
        // One agent has it become another program, and no agent ever comes with a grant.
        let asking = try GuardLink(ward.loop, nodeDirectory: ward.path, program: newer, incarnation: 2) { _ in }
        #expect(ward.wait { GuardUpgradeTests.program(process) == newer })
        if isEarly {
            // It had no time to arm a timer of its own, perhaps.
            kill(process, SIGSTOP)
        } else {
            #expect(ward.wait { ward.log.contains("goes on as another program") && asking.isUp })
        }
        asking.close()
        #expect(Ward.lives(guest))
        kill(process, SIGSTOP)
        #expect(ward.wait { !Ward.lives(guest) })
        let goneAt = SystemClock.now
        #expect(goneAt < end, "\(goneAt) \(end)")
    }

    @Test func `a guard that can't become a program goes on as it is`() throws {
        let ward = try Ward()
        defer { ward.end() }
        ward.grant([1: 7], length: .seconds(8))
        let guest = try ward.run(1, epoch: 7)
        let process = try ward.guardProcess
        // A file that is there and is no program.
        let wrong = ward.path + "/no-program"
        Ward.write(wrong, "neither a script nor a program")
        chmod(wrong, 0o755)
        ward.disconnect()
        try ward.connect(as: wrong)
        #expect(ward.wait { ward.log.contains("goes on as it is") })
        #expect(try ward.guardProcess == process)
        #expect(Ward.lives(guest) && ward.goesOn(1))
        ward.link?.stop(VMID(1), epoch: 7)
        #expect(ward.wait { !Ward.lives(guest) })
    }
}
