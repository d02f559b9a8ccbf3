import ClusterBase
import Simulator
import Testing

@Suite struct ProfileTests {
    private func drawn(_ seed: UInt64) -> Profile {
        var random = PRNG(seed: seed)
        return Profile.draw(&random, nodes: 3...7)
    }

    @Test func `a profile stays within the bounds that it was asked for`() {
        for seed in 0..<300 as Range<UInt64> {
            let profile = drawn(seed)
            #expect((3...7).contains(profile.nodes))
            #expect(profile.groups >= 1 && profile.clients >= 2 && profile.keys >= 1)
            #expect(profile.latencyFar >= profile.latencyNear)
            // No bound may be so tight that not even one entry passes.
            #expect(profile.settings.raft.inflightMessagesMax >= 1)
            #expect(profile.settings.packCommandsMax >= 1)
            #expect(profile.settings.snapshotWindow >= 1)
        }
    }

    @Test func `every fault is drawn by some seed, and some seed draws none`() {
        let profiles = (0..<300 as Range<UInt64>).map(drawn)
        for fault in Fault.allCases {
            #expect(profiles.contains { $0.faults.contains(fault) }, "\(fault) is drawn by nobody")
            #expect(profiles.contains { !$0.faults.isEmpty && !$0.faults.contains(fault) }, "\(fault) is always drawn")
        }
        #expect(profiles.contains { $0.faults.isEmpty })
    }

    @Test func `every plot is drawn by some seed, and by none without faults`() {
        let profiles = (0..<300 as Range<UInt64>).map(drawn)
        for plot in Plot.allCases {
            #expect(profiles.contains { $0.plots.contains(plot) }, "\(plot) is drawn by nobody")
        }
        #expect(profiles.allSatisfy { $0.plots.isEmpty || !$0.faults.isEmpty })
        #expect(profiles.count { $0.plots.isEmpty } > 150)
    }

    @Test func `a draw depends on its seed alone`() {
        for seed in 0..<50 as Range<UInt64> {
            let (a, b) = (drawn(seed), drawn(seed))
            #expect(a.nodes == b.nodes && a.faults == b.faults && a.settings.flushEntries == b.settings.flushEntries)
            #expect(a.latencyFar == b.latencyFar && a.lossPerMille == b.lossPerMille)
        }
    }
}
