import ClusterBase
import Simulator

/// Runs one seed twice: a whole cluster under faults, whose promises hold and whose trace is the same both times.
@main
enum Seed {
    static func main() {
        let first = run(7)
        if let violation = first.violation { fatalError("seed 7 broke a promise: \(violation)") }
        let second = run(7)
        precondition(first.traceHash == second.traceHash, "one seed made two traces")
        print(
            "seed: \(first.simulated) simulated, \(first.operations) operations judged, \(first.elections) elections, "
                + "trace \(first.traceHash) twice")
    }

    static func run(_ seed: UInt64) -> SimulationResult {
        var random = PRNG(seed: seed)
        var profile = Profile.draw(&random, nodes: 3...3)
        profile.clients = 3
        profile.faults = [.crash, .partition]
        let simulation = Simulation(seed: seed, profile: profile, chaos: .seconds(2))
        var lines = 0
        simulation.traceLine = { _ in lines += 1 }
        let result = simulation.run()
        precondition(lines > 0, "nothing was traced")
        return result
    }
}
