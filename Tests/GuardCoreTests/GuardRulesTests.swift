import ClusterBase
import FleetModel
import GuardCore
import Testing

/// One guard and what it was told last, with time as a number of milliseconds.
struct Bench {
    var rules = GuardRules()
    var generation: UInt64 = 0
    var ticket: UInt64 = 0

    static func at(_ milliseconds: Int64) -> Instant { .origin + .milliseconds(milliseconds) }

    mutating func step(_ now: Int64, _ inputs: GuardRules.Input...) -> [GuardRules.Effect] {
        rules.step(inputs, now: Bench.at(now))
    }

    /// A grant of three seconds of these VMs, each under its epoch.
    mutating func grant(
        _ now: Int64, sentAt: Int64, _ vms: [UInt64: UInt64], length: Int64 = 3_000,
        isolation: VMDescription.Isolation = .stop
    ) -> [GuardRules.Effect] {
        generation += 1
        let permits = vms.map { RunPermit(VMID($0.key), epoch: $0.value, isolation: isolation) }.sorted()
        return step(
            now,
            .granted(
                LeaseGrant(
                    sentAt: Bench.at(sentAt), length: .milliseconds(length), generation: LogIndex(generation),
                    permits: permits)))
    }

    mutating func ask(_ now: Int64, _ vm: UInt64, epoch: UInt64) -> [GuardRules.Effect] {
        ticket += 1
        return step(now, .startAsked(VMID(vm), epoch: epoch, ticket: ticket))
    }
}

@Suite struct GuardRulesTests {
    private let one = VMID(1)

    @Test func `a guest starts under a grant that names it, after the kernel's timer is armed`() {
        var bench = Bench()
        _ = bench.grant(100, sentAt: 50, [1: 7])
        #expect(
            bench.ask(200, 1, epoch: 7) == [
                .arm(Bench.at(50 + 3_000 - 250)), .start(one, epoch: 7, ticket: 1),
            ])
    }

    @Test func `without a grant a start waits, asks for one, and is refused in the end`() {
        var bench = Bench()
        #expect(bench.ask(0, 1, epoch: 7) == [.renew(whole: true)])
        #expect(bench.step(1_999).isEmpty)
        #expect(bench.step(2_000) == [.refuse(ticket: 1, .noLease)])
    }

    @Test func `a guest whose companion ended is ended, and its end says so`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [1: 7])
        _ = bench.ask(1, 1, epoch: 7)
        _ = bench.step(2, .started(one, epoch: 7))
        #expect(bench.step(3, .companionEnded(one, epoch: 6)).isEmpty)
        #expect(bench.step(4, .companionEnded(one, epoch: 7)) == [.kill(one, epoch: 7, .companionEnded)])
        #expect(
            bench.step(5, .reaped(one, epoch: 7)) == [.confirm(one, epoch: 7, .companionEnded), .arm(nil)])
    }

    @Test func `a start that waits begins when the grant comes`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [2: 1])
        #expect(bench.ask(10, 1, epoch: 7) == [.renew(whole: true)])
        #expect(bench.grant(60, sentAt: 20, [1: 7, 2: 1]).contains(.start(one, epoch: 7, ticket: 1)))
    }

    @Test func `an epoch starts once, and none below the highest ever does`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [1: 7])
        _ = bench.ask(1, 1, epoch: 7)
        #expect(bench.ask(2, 1, epoch: 7) == [.refuse(ticket: 2, .stillHere(epoch: 7))])
        _ = bench.step(3, .started(one, epoch: 7), .reaped(one, epoch: 7))
        #expect(bench.ask(4, 1, epoch: 7) == [.refuse(ticket: 3, .epochOver(highest: 7))])
        var later = Bench(rules: GuardRules(highest: [one: 7]))
        _ = later.grant(0, sentAt: 0, [1: 6])
        #expect(later.ask(1, 1, epoch: 6) == [.refuse(ticket: 1, .epochOver(highest: 7))])
    }

    @Test func `a lease counts from when its request was sent and stopping begins a second before its end`() {
        var bench = Bench()
        _ = bench.grant(2_900, sentAt: 1_000, [1: 7])
        _ = bench.ask(2_950, 1, epoch: 7)
        #expect(bench.rules.deadline == Bench.at(3_000))
        #expect(bench.step(2_999).isEmpty)
        #expect(bench.step(3_000) == [.kill(one, epoch: 7, .leaseEnds)])
        #expect(bench.step(3_001).isEmpty)
        #expect(bench.step(3_010, .reaped(one, epoch: 7)) == [.confirm(one, epoch: 7, .leaseEnds), .arm(nil)])
    }

    @Test func `a short lease is divided in proportion`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [1: 7], length: 1_200)
        #expect(bench.ask(1, 1, epoch: 7).first == .arm(Bench.at(1_100)))
        #expect(bench.rules.stopAt == Bench.at(800))
    }

    @Test func `a guest that keeps running when cut off arms no timer and outlives the lease`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [1: 7], isolation: .keep)
        #expect(bench.ask(1, 1, epoch: 7) == [.start(one, epoch: 7, ticket: 1)])
        #expect(bench.step(100_000).isEmpty)
        #expect(bench.rules.guests[one] != nil)
    }

    @Test func `a guest that may start elsewhere from now on is covered from now on`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [1: 7], isolation: .keep)
        _ = bench.ask(1, 1, epoch: 7)
        #expect(bench.grant(500, sentAt: 500, [1: 7]) == [.arm(Bench.at(3_250))])
        #expect(bench.step(2_500) == [.kill(one, epoch: 7, .leaseEnds)])
    }

    @Test func `what the newest grant does not name is killed, whatever its policy`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [1: 7, 2: 4], isolation: .keep)
        _ = bench.ask(1, 1, epoch: 7)
        _ = bench.ask(2, 2, epoch: 4)
        #expect(
            bench.grant(10, sentAt: 5, [2: 3], isolation: .keep) == [
                .kill(one, epoch: 7, .notGranted), .kill(VMID(2), epoch: 4, .notGranted),
            ])
    }

    @Test func `a VM that is to start again here is left to its agent until its old copy has ended`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [1: 7])
        _ = bench.ask(1, 1, epoch: 7)
        #expect(bench.grant(10, sentAt: 5, [1: 8]) == [.arm(Bench.at(2_755))])
        #expect(bench.ask(11, 1, epoch: 8) == [.refuse(ticket: 2, .stillHere(epoch: 7))])
        _ = bench.step(12, .reaped(one, epoch: 7))
        #expect(bench.ask(13, 1, epoch: 8).contains(.start(one, epoch: 8, ticket: 3)))
    }

    @Test func `an answer from an older state changes nothing while the lease is in force`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [1: 7])
        _ = bench.ask(1, 1, epoch: 7)
        let old = LeaseGrant(
            sentAt: Bench.at(5), length: .seconds(3), generation: .zero, permits: [])
        #expect(bench.step(10, .granted(old)).isEmpty)
        #expect(bench.rules.leaseUntil == Bench.at(3_000))
    }

    @Test func `a later answer to an earlier request does not shorten the lease`() {
        var bench = Bench()
        _ = bench.grant(500, sentAt: 400, [1: 7])
        _ = bench.grant(600, sentAt: 100, [1: 7])
        #expect(bench.rules.leaseUntil == Bench.at(3_400))
    }

    @Test func `a digest of another set renews nothing and asks for the whole`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [1: 7])
        let other = LeaseGrant(
            sentAt: Bench.at(500), length: .seconds(3), generation: LogIndex(9), permits: nil, digest: 1)
        #expect(bench.step(600, .granted(other)) == [.renew(whole: true)])
        #expect(bench.rules.leaseUntil == Bench.at(3_000))
        let same = LeaseGrant(
            sentAt: Bench.at(700), length: .seconds(3), generation: LogIndex(9), permits: nil,
            digest: bench.rules.digest)
        #expect(bench.step(800, .granted(same)).isEmpty)
        #expect(bench.rules.leaseUntil == Bench.at(3_700))
    }

    @Test func `permits that are not those of the digest are no grant`() {
        var bench = Bench()
        let wrong = LeaseGrant(
            sentAt: Bench.at(0), length: .seconds(3), generation: LogIndex(1),
            permits: [RunPermit(one, epoch: 7, isolation: .stop)], digest: 1)
        _ = bench.step(1, .granted(wrong))
        #expect(bench.rules.leaseUntil == nil)
    }

    @Test func `a grant from the future, too long or already over is none`() {
        for (sentAt, length) in [(100, 3_000), (0, 61_000), (0, 10)] as [(Int64, Int64)] {
            var bench = Bench()
            _ = bench.grant(50, sentAt: sentAt, [1: 7], length: length)
            #expect(bench.rules.leaseUntil == nil, "\(sentAt) \(length)")
        }
    }

    @Test func `a host that the cell gives nothing stops what may start elsewhere at once`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [1: 7])
        _ = bench.ask(1, 1, epoch: 7)
        let none = LeaseGrant(sentAt: Bench.at(500), length: .zero, generation: LogIndex(2), permits: [])
        #expect(bench.step(600, .granted(none)) == [.kill(one, epoch: 7, .leaseEnds)])
        #expect(bench.grant(700, sentAt: 650, [1: 7]).contains(.arm(Bench.at(3_400))))
    }

    @Test func `a confirmation names the copy that is gone and no other`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [1: 7])
        _ = bench.ask(1, 1, epoch: 7)
        #expect(bench.step(2, .reaped(one, epoch: 6)).isEmpty)
        #expect(bench.step(3, .stopAsked(one, epoch: 7)) == [.kill(one, epoch: 7, .asked)])
        #expect(bench.step(4, .reaped(one, epoch: 7)).contains(.confirm(one, epoch: 7, .asked)))
    }

    @Test func `an agent that asks to stop an older epoch leaves a newer copy alone`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [1: 7])
        _ = bench.ask(1, 1, epoch: 7)
        #expect(bench.step(2, .stopAsked(one, epoch: 6)).isEmpty)
    }

    @Test func `a start that could not be made frees its VM but not its epoch`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [1: 7])
        _ = bench.ask(1, 1, epoch: 7)
        #expect(bench.step(2, .startFailed(one, epoch: 7)) == [.arm(nil)])
        #expect(bench.ask(3, 1, epoch: 7) == [.refuse(ticket: 2, .epochOver(highest: 7))])
    }

    @Test func `an ending guard starts nothing and kills everything`() {
        var bench = Bench()
        _ = bench.grant(0, sentAt: 0, [1: 7, 2: 4], isolation: .keep)
        _ = bench.ask(1, 1, epoch: 7)
        #expect(bench.step(2, .ending) == [.kill(one, epoch: 7, .guardEnds)])
        #expect(bench.ask(3, 2, epoch: 4) == [.refuse(ticket: 2, .ending)])
    }

    @Test func `more starts than may wait are refused by name`() {
        var bench = Bench()
        for vm in 1...256 { _ = bench.ask(0, UInt64(vm), epoch: 1) }
        #expect(bench.ask(0, 300, epoch: 1) == [.refuse(ticket: 257, .tooMany)])
    }
}
