import ClusterBase
import FleetModel
import Glibc
import Guard
import Reactor
import Testing

/// Guests with a process beside their own, as one with a TPM has it.
@Suite(.serialized) struct GuardCompanionTests {
    private func companion(_ ward: Ward, of process: Int32) throws -> Int32 {
        try #require(ward.children(of: try ward.guardProcess).first { $0 != process })
    }

    @Test func `a guest talks to its companion, and both end together`() throws {
        let ward = try Ward()
        defer { ward.end() }
        ward.grant([1: 7, 2: 1])
        let process = try ward.run(1, epoch: 7, companion: Ward.echo)
        let beside = try companion(ward, of: process)
        #expect(Ward.group(of: beside) == Ward.group(of: process), "one cgroup for both")
        // One that has none has no line either.
        let alone = try ward.run(2, epoch: 1)
        var place = [CChar](repeating: 0, count: 256)
        let count = max(0, readlink("/proc/\(alone)/fd/3", &place, place.count))
        let third = String(decoding: place.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        #expect(!third.hasPrefix("socket:"))
        #expect(ward.children(of: try ward.guardProcess).count == 3)
        ward.link?.stop(VMID(1), epoch: 7)
        #expect(ward.wait { ward.events.contains { if case .ended(_, 7, _, nil) = $0 { true } else { false } } })
        #expect(!Ward.lives(process) && !Ward.lives(beside), "it is not said to be gone before both are")
        #expect(ward.goesOn(2))
    }

    @Test func `a guest whose companion ends is ended with a word, and dies with its guard`() throws {
        let ward = try Ward()
        defer { ward.end() }
        ward.grant([1: 7])
        let process = try ward.run(1, epoch: 7, companion: Ward.echo)
        kill(try companion(ward, of: process), SIGKILL)
        #expect(
            ward.wait {
                ward.events.contains {
                    if case .ended(_, 7, _, let cause?) = $0 {
                        cause.text.contains("TPM") && !cause.isHostsFault
                    } else {
                        false
                    }
                }
            })
        #expect(!Ward.lives(process))
        ward.grant([1: 8])
        let next = try ward.run(1, epoch: 8, companion: Ward.echo)
        let beside = try companion(ward, of: next)
        kill(try ward.guardProcess, SIGKILL)
        #expect(ward.wait { !Ward.lives(next) && !Ward.lives(beside) })
    }

    @Test func `when either can't be started, nothing of them is left, and it is said`() throws {
        let ward = try Ward()
        defer { ward.end() }
        ward.grant([1: 7, 2: 7])
        ward.start(1, epoch: 7, companion: GuardLink.Companion(program: "/nonesuch", words: []))
        #expect(ward.wait { ward.refusal(1) != nil })
        #expect(ward.refusal(1) == "can't start /nonesuch: No such file or directory")
        ward.start(2, epoch: 7, program: "/nonesuch", companion: Ward.echo)
        #expect(ward.wait { ward.refusal(2) != nil })
        #expect(ward.refusal(2) == "can't start /nonesuch: No such file or directory")
        #expect(ward.wait { ward.children(of: (try? ward.guardProcess) ?? 0).isEmpty })
        ward.grant([1: 8])
        _ = try ward.run(1, epoch: 8, companion: Ward.echo)
    }

    @Test func `of what a guest says in memory the guard keeps the end, and of no other file anything less`() throws {
        let ward = try Ward()
        defer { ward.end() }
        let places = ["/dev/shm/muster-test-\(getpid())", ward.path + "/on-disk"]
        defer { for place in places { unlink(place) } }
        for place in places { Ward.write(place, String(repeating: "x", count: 3 << 20) + "the end") }
        func blocks(_ path: String) -> (size: Int, bytes: Int) {
            var about = stat()
            return stat(path, &about) == 0 ? (Int(about.st_size), Int(about.st_blocks) * 512) : (0, 0)
        }
        ward.grant([1: 7, 2: 7], length: .seconds(20))
        for (i, place) in places.enumerated() {
            ward.start(UInt64(i + 1), epoch: 7, output: place)
            #expect(ward.wait { ward.lastTick(UInt64(i + 1)) != nil })
        }
        #expect(ward.wait { blocks(places[0]).bytes <= (1 << 20) + 8_192 })
        #expect(blocks(places[0]).size == (3 << 20) + 7, "places in it stay what they were")
        #expect(String(decoding: Ward.bytes(places[0]).suffix(7), as: UTF8.self) == "the end")
        #expect(blocks(places[1]).bytes >= 3 << 20)
    }
}
