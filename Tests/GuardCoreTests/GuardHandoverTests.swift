import ClusterBase
import FleetModel
import GuardCore
import Testing

@Suite struct GuardHandoverTests {
    private let one = VMID(1)

    @Test func `who takes over judges as the guard before would have`() throws {
        var bench = Bench()
        _ = bench.grant(100, sentAt: 50, [1: 7, 2: 4])
        _ = bench.ask(200, 1, epoch: 7)
        #expect(bench.rules.handover == nil, "a start is half done")
        _ = bench.step(210, .started(one, epoch: 7))
        let handed = try #require(bench.rules.handover)
        var next = Bench(rules: GuardRules(highest: [one: 7], handed: handed), generation: bench.generation, ticket: 5)
        #expect(next.rules.handover == handed)
        #expect(next.step(220) == [.arm(Bench.at(50 + 3_000 - 250))], "the kernel's timer is armed at once")
        #expect(next.ask(230, 1, epoch: 7) == [.refuse(ticket: 6, .stillHere(epoch: 7))])
        #expect(next.rules.digest == bench.rules.digest)
        // The lease ends when it would have.
        #expect(next.step(2_049).isEmpty)
        #expect(next.step(2_050) == [.kill(one, epoch: 7, .leaseEnds)])
        #expect(next.rules.handover?.guests.first?.guest.isDying == true)
        #expect(
            next.step(2_100, .reaped(one, epoch: 7)) == [.confirm(one, epoch: 7, .leaseEnds), .arm(nil)])
    }

    @Test func `an epoch that ran is over for who takes over, whatever the disk says`() throws {
        var bench = Bench()
        _ = bench.grant(100, sentAt: 50, [1: 7])
        _ = bench.ask(200, 1, epoch: 7)
        _ = bench.step(210, .started(one, epoch: 7))
        let handed = try #require(bench.rules.handover)
        var next = Bench(rules: GuardRules(highest: [:], handed: handed), generation: bench.generation, ticket: 5)
        _ = next.step(300, .reaped(one, epoch: 7))
        #expect(next.ask(310, 1, epoch: 7) == [.refuse(ticket: 6, .epochOver(highest: 7))])
    }

    @Test func `a guard that ends hands nothing over`() {
        var bench = Bench()
        _ = bench.grant(100, sentAt: 50, [1: 7])
        _ = bench.step(200, .ending)
        #expect(bench.rules.handover == nil)
    }
}
