import ClusterBase
import FleetModel
import Simulator
import Testing

/// A run as `muster simulate --fleet` draws it.
private func fleet(
    _ seed: UInt64, nodes: ClosedRange<Int> = 3...7, seconds: Int64, mayOpenLevel: Bool = true
) -> Simulation {
    var random = PRNG(seed: seed).child(0x5EED)
    var profile = Profile.drawFleet(&random, nodes: nodes)
    if !mayOpenLevel { profile.fleet?.opensLevel = false }
    return Simulation(seed: seed, profile: profile, chaos: .seconds(seconds))
}

/// Hosts and VMs, without any fault, mishap or operator.
private func calm() -> Profile {
    var profile = Profile()
    profile.nodes = 4
    profile.clients = 0
    profile.keys = 1
    profile.settings.forwardsRequests = true
    profile.settings.runsControllers = true
    var fleet = FleetProfile()
    fleet.hasOperators = false
    profile.fleet = fleet
    return profile
}

@Suite struct FleetSimulationTests {
    @Test func `the same seed gives the same fleet, event by event`() {
        var traces: [[String]] = [[], []]
        for i in traces.indices {
            let run = fleet(4_712, nodes: 3...5, seconds: 3)
            run.traceLine = { traces[i].append($0) }
            #expect(run.run().violation == nil)
        }
        #expect(traces[0].count > 1_000)
        #expect(traces[0] == traces[1])
    }

    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func `six seeds with hosts and VMs keep every promise`(seed: UInt64) {
        let result = fleet(seed, seconds: RunLength.seconds).run()
        #expect(result.violation == nil, "seed \(seed): \(result.violation.map { "\($0)" } ?? "")")
        #expect((result.fleet?.created ?? 0) > 0)
        #expect((result.fleet?.starts ?? 0) > 0)
    }

    @Test(arguments: FleetRegression.all)
    func `what a seed with VMs once found is not there any more`(regression: FleetRegression) {
        // As it ran then.
        let run = fleet(regression.seed, nodes: regression.nodes, seconds: regression.seconds, mayOpenLevel: false)
        let result = run.run()
        #expect(result.violation == nil, "\(regression): \(result.violation.map { "\($0)" } ?? "")")
    }

    /// Nothing excuses a lease that runs out, a host that is given up or a move that does not end.
    @Test func `without faults no lease ends and no host is given up`() {
        let result = Simulation(seed: 51, profile: calm(), chaos: .seconds(8)).run()
        #expect(result.violation == nil, "\(result.violation.map { "\($0)" } ?? "")")
        #expect(result.fleet?.hostsDeclaredDown == 0)
        #expect(result.fleet?.leasesEnded == 0)
        #expect((result.fleet?.starts ?? 0) > 0)
        #expect(result.operationsUnknown == 0)
    }

    /// Small bounds are set and changed while nodes crash, links break and an operator plans as well.
    @Test func `cells are split and merged by themselves, whatever fails meanwhile`() {
        var (began, gone, with) = (0, 0, 0)
        for seed in 1...SplitRuns.count {
            var random = PRNG(seed: seed).child(0x5EED)
            var profile = Profile.drawFleet(&random, nodes: 5...8)
            profile.groups = 4
            profile.fleet?.cells = 4
            profile.fleet?.spareCells = 2
            profile.fleet?.voters = 3
            profile.fleet?.plots = []
            profile.fleet?.losesRegion = false
            profile.fleet?.movesHosts = true
            profile.fleet?.plansHosts = true
            let result = Simulation(seed: seed, profile: profile, chaos: .seconds(RunLength.seconds + 10)).run()
            #expect(result.violation == nil, "seed \(seed): \(result.violation.map { "\($0)" } ?? "")")
            began += result.fleet?.plansByThemselves ?? 0
            gone += result.fleet?.hostsByPlans ?? 0
            with += result.fleet?.vmsHandedOver ?? 0
        }
        #expect(began >= Int(SplitRuns.count) / 2 && gone > 0 && with > 0, "\(began), \(gone) hosts with \(with) VMs")
    }

    /// VMs go to and fro between cells while nodes crash, links break and guests die.
    @Test func `of several cells one owns a VM, whatever fails on its way`() {
        var changed = 0
        var kept = 0
        for seed: UInt64 in 60...65 {
            var profile = calm()
            profile.nodes = 6
            profile.groups = 2
            profile.fleet?.cells = 2
            profile.fleet?.mishapIntervalMax = .seconds(3)
            profile.faults = [.crash, .pause, .partition, .oneWayPartition, .isolateLeader]
            profile.faultIntervalMax = .seconds(2)
            profile.faultLengthMax = .seconds(4)
            let result = Simulation(seed: seed, profile: profile, chaos: .seconds(10)).run()
            #expect(result.violation == nil, "seed \(seed): \(result.violation.map { "\($0)" } ?? "")")
            changed += result.fleet?.cellsChanged ?? 0
            kept += result.fleet?.cellsKept ?? 0
        }
        #expect(changed > 10 && kept > 0, "\(changed) VMs went to another cell, \(kept) did not get there")
    }

    /// All nodes of a region crash, or only count as lost; what may go to another region does, and comes home.
    @Test func `of a lost region's VMs none runs twice or is lost, and those that may move run elsewhere`() {
        var (lost, away, home) = (0, 0, 0)
        for seed: UInt64 in 80...93 {
            var profile = calm()
            profile.nodes = 6
            profile.groups = 2
            profile.fleet?.cells = 2
            profile.fleet?.losesRegion = true
            profile.fleet?.vmsMax = 10
            if seed > 84 {
                profile.faults = [.crash, .pause, .partition, .isolateLeader]
                profile.faultIntervalMax = .seconds(3)
                profile.faultLengthMax = .seconds(3)
            }
            let result = Simulation(seed: seed, profile: profile, chaos: .seconds(25)).run()
            #expect(result.violation == nil, "seed \(seed): \(result.violation.map { "\($0)" } ?? "")")
            lost += result.fleet?.regionsLost ?? 0
            away += result.fleet?.regionAway ?? 0
            home += result.fleet?.regionHome ?? 0
        }
        #expect(lost > 2 && away > 3 && home > 0, "\(lost) regions lost, \(away) VMs went away, \(home) home")
    }

    /// A region is evacuated, paused, called off, turned round, and now and then lost meanwhile, while leaders and hosts fail.
    @Test
    func
        `of an evacuated region's VMs none runs twice or is lost, and a plan that is called off leaves each in one place`()
    {
        var (plans, left, home) = (0, 0, 0)
        for seed: UInt64 in 182...197 {
            var profile = calm()
            profile.nodes = 6
            profile.groups = 2
            profile.fleet?.cells = 2
            profile.fleet?.losesRegion = true
            profile.fleet?.vmsMax = 12
            if seed > 182 {
                profile.faults = [.crash, .pause, .partition, .isolateLeader]
                profile.faultIntervalMax = .seconds(3)
                profile.faultLengthMax = .seconds(3)
            }
            let result = Simulation(seed: seed, profile: profile, chaos: .seconds(30)).run()
            #expect(result.violation == nil, "seed \(seed): \(result.violation.map { "\($0)" } ?? "")")
            plans += result.fleet?.regionPlans ?? 0
            left += result.fleet?.evacuated ?? 0
            home += result.fleet?.regionHome ?? 0
        }
        #expect(plans > 20 && left > 8 && home > 0, "\(plans) plans, \(left) VMs left, \(home) went home")
    }

    /// Gangs among other VMs, with leaders and hosts that fail between a decision and its judgement.
    @Test func `VMs that are created all or none get their first places so, whatever fails`() {
        var placed = 0
        for seed: UInt64 in 70...75 {
            var profile = calm()
            profile.fleet?.opensLevel = true
            profile.fleet?.mishapIntervalMax = .seconds(3)
            profile.faults = [.crash, .pause, .partition, .isolateLeader]
            profile.faultIntervalMax = .seconds(2)
            profile.faultLengthMax = .seconds(4)
            let result = Simulation(seed: seed, profile: profile, chaos: .seconds(10)).run()
            #expect(result.violation == nil, "seed \(seed): \(result.violation.map { "\($0)" } ?? "")")
            placed += result.fleet?.gangsPlaced ?? 0
        }
        #expect(placed > 10, "\(placed) gangs were placed")
    }

    /// The machine and its guests are gone; the others run its VMs when its lease has surely run out.
    @Test func `a host that dies is declared down, and its VMs run elsewhere`() {
        var profile = calm()
        profile.faults = [.crash]
        profile.faultIntervalMax = .seconds(3)
        profile.faultLengthMax = .seconds(20)
        profile.fleet?.outlivesAgent = false
        var down = 0
        for seed: UInt64 in 52...57 {
            let result = Simulation(seed: seed, profile: profile, chaos: .seconds(20)).run()
            #expect(result.violation == nil, "seed \(seed): \(result.violation.map { "\($0)" } ?? "")")
            down += Int(result.fleet?.hostsDeclaredDown ?? 0)
        }
        #expect(down > 0)
    }
}

/// A run with VMs that once found something.
struct FleetRegression: Sendable, CustomStringConvertible {
    var seed: UInt64
    var nodes = 3...7
    /// Simulated seconds of faults.
    var seconds: Int64
    /// What the run found.
    var found: String

    var description: String { "seed \(seed), \(nodes.lowerBound)..\(nodes.upperBound) nodes, \(seconds) s: \(found)" }

    static let all: [FleetRegression] = [
        FleetRegression(
            seed: 3, nodes: 3...5, seconds: 10,
            found: "a question that the own replica refused, doubting its leader, was asked again at once, for ever"),
        FleetRegression(
            seed: 276, nodes: 3...8, seconds: 30,
            found: "an agent that began anew said at every turn that a VM stood still, which no row showed"),
        FleetRegression(
            seed: 285, nodes: 3...8, seconds: 30,
            found: "a gentle move back to a drained host, of a VM that writes too much for it, was tried for ever"),
    ]
}

private enum SplitRuns {
    static let count: UInt64 = 8
}
