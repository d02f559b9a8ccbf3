import ClusterBase
import Simulator
import Testing

/// A run as `muster simulate --mixed` draws it.
private func upgrade(_ seed: UInt64, seconds: Int64) -> Simulation {
    var random = PRNG(seed: seed).child(0x5EED)
    var profile = Profile.draw(&random, nodes: 3...5)
    profile.isMixed = true
    return Simulation(seed: seed, profile: profile, chaos: .seconds(seconds))
}

@Suite struct UpgradeSimulationTests {
    @Test func `programs of two versions agree on every state, while nodes are upgraded, go back and the level opens`()
    {
        var seen = UpgradeCounts()
        for seed: UInt64 in 1...6 {
            let result = upgrade(seed, seconds: 15).run()
            #expect(result.violation == nil, "seed \(seed): \(result.violation.map { "\($0)" } ?? "")")
            if let counts = result.upgrade { seen += counts }
        }
        // What the runs are for has happened in them.
        #expect(seen.forward > 6 && seen.back > 2 && seen.opened > 0)
        #expect(seen.compared > 100)
        #expect(seen.refused > 0 && seen.conditional > 0)
    }

    @Test func `without an upgrade nothing of it is drawn`() {
        var random = PRNG(seed: 3).child(0x5EED)
        let result = Simulation(
            seed: 3, profile: Profile.draw(&random, nodes: 3...3), chaos: .seconds(2)
        ).run()
        #expect(result.upgrade == nil)
    }

    @Test func `the same seed gives the same upgrade`() {
        #expect(upgrade(9, seconds: 4).run().traceHash == upgrade(9, seconds: 4).run().traceHash)
    }
}
