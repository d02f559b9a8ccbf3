import ClusterBase
import Glibc
import Simulator
import Terminal

/// `muster simulate`: many seeds, some at a time, with a summary at the end.
package enum SimulateCommand {
    struct Plan {
        var seeds = 1...20
        var nodes = 3...7
        var chaos = Nanoseconds.seconds(60)
        var jobs = 1
        var budget: Double?
        var trace: String?
        var mutant: String?
        /// Hosts and VMs on the nodes.
        var isFleet = false
        /// Programs of two versions.
        var isMixed = false
        var mode: String { isFleet ? "--fleet " : isMixed ? "--mixed " : "" }
        var isQuiet = false
    }

    package static func run(_ arguments: [String]) async throws -> Int32 {
        var options = Options(arguments)
        var plan = Plan()
        plan.jobs = Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        plan.seeds = try options.range("--seeds", 0...Int.max) ?? plan.seeds
        plan.nodes = try options.range("--nodes", 1...15) ?? plan.nodes
        if let seconds = try options.number("--seconds", 1...100_000) { plan.chaos = .seconds(Int64(seconds)) }
        if let minutes = try options.number("--minutes", 1...10_000) { plan.chaos = .seconds(Int64(minutes) * 60) }
        plan.jobs = try options.number("--jobs", 1...256) ?? plan.jobs
        plan.budget = try options.number("--cpu-seconds", 1...10_000_000).map(Double.init)
        plan.trace = try options.value("--trace")
        plan.mutant = try options.value("--mutant")
        plan.isFleet = options.flag("--fleet")
        plan.isMixed = options.flag("--mixed")
        if plan.isFleet && plan.isMixed {
            throw UsageError("--fleet and --mixed are runs of their own; give one of them")
        }
        plan.isQuiet = options.flag("--quiet") || !Console.isTerminal
        try options.end()
        if let mutant = plan.mutant {
            try MutantsCommand.require(mutant, plan.isFleet ? .fleet : plan.isMixed ? .mixed : .consensus)
        }
        print(
            "seeds \(plan.seeds.lowerBound)..\(plan.seeds.upperBound), \(plan.nodes.lowerBound)..\(plan.nodes.upperBound) nodes, "
                + "\(plan.chaos) of faults each" + (plan.mutant.map { ", mutant \($0)" } ?? ""))
        if let trace = plan.trace { return try runTraced(plan, trace) }
        return await runAll(plan)
    }

    static func simulation(_ seed: UInt64, _ plan: Plan) -> Simulation {
        var random = PRNG(seed: seed).child(0x5EED)
        var profile =
            plan.isFleet
            ? Profile.drawFleet(&random, nodes: plan.nodes) : Profile.draw(&random, nodes: plan.nodes)
        profile.isMixed = plan.isMixed
        return Simulation(seed: seed, profile: profile, chaos: plan.chaos, mutant: plan.mutant)
    }

    private static func runAll(_ plan: Plan) async -> Int32 {
        let started = Console.seconds()
        var summary = Summary()
        await withTaskGroup(of: SimulationResult.self) { group in
            var next = plan.seeds.lowerBound
            func add(_ group: inout TaskGroup<SimulationResult>) {
                if next > plan.seeds.upperBound || summary.mustStop(plan) { return }
                let seed = UInt64(next)
                next += 1
                group.addTask { simulation(seed, plan).run() }
            }
            for _ in 0..<plan.jobs { add(&group) }
            while let result = await group.next() {
                summary.add(result, plan)
                if !plan.isQuiet { summary.showProgress(plan, started) }
                add(&group)
            }
        }
        summary.print(plan, started)
        let idle = summary.harmThatNeverStruck(plan)
        if !idle.isEmpty {
            print("in so many seeds these never struck, so nothing was shown: \(idle.joined(separator: ", "))")
        }
        return summary.failures.isEmpty && idle.isEmpty ? 0 : 1
    }

    private static func runTraced(_ plan: Plan, _ path: String) throws -> Int32 {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
        if file < 0 { throw UsageError("'\(path)' can't be written; name another file") }
        defer { close(file) }
        let started = Console.seconds()
        var summary = Summary()
        for seed in plan.seeds where !summary.mustStop(plan) {
            var buffer = ""
            let simulation = simulation(UInt64(seed), plan)
            Console.write("seed \(seed)\n", to: file)
            simulation.traceLine = { line in
                buffer += line
                buffer += "\n"
                if buffer.utf8.count > 1 << 16 {
                    Console.write(buffer, to: file)
                    buffer = ""
                }
            }
            let result = simulation.run()
            Console.write(buffer + "end \(result.traceHash)\n", to: file)
            summary.add(result, plan)
        }
        summary.print(plan, started)
        return summary.failures.isEmpty ? 0 : 1
    }
}

/// What all runs together did.
struct Summary {
    var runs = 0
    var simulated = Nanoseconds.zero
    var events: UInt64 = 0
    var elections = 0
    var operations = 0
    var unknown = 0
    var snapshots = 0
    var changes = 0
    var committed: UInt64 = 0
    var faults = [Int](repeating: 0, count: Fault.allCases.count)
    var plots = [Int](repeating: 0, count: Plot.allCases.count)
    var harm = Harm()
    var endings = [Int](repeating: 0, count: Ending.allCases.count)
    var fleet: FleetCounts?
    var upgrade: UpgradeCounts?
    var failures: [SimulationResult] = []

    func mustStop(_ plan: SimulateCommand.Plan) -> Bool {
        if !failures.isEmpty && plan.mutant != nil { return true }
        if failures.count >= 10 { return true }
        guard let budget = plan.budget else { return false }
        return Console.cpuSeconds() >= budget
    }

    mutating func add(_ result: SimulationResult, _ plan: SimulateCommand.Plan) {
        runs += 1
        simulated += result.simulated
        events += result.events
        elections += result.elections
        operations += result.operations
        unknown += result.operationsUnknown
        snapshots += result.snapshotsInstalled
        changes += result.membershipChanges
        committed += result.entriesCommitted
        harm += result.harm
        for i in endings.indices { endings[i] += result.endings[i] }
        for i in faults.indices { faults[i] += result.faults[i] }
        for i in plots.indices { plots[i] += result.plots[i] }
        if let counts = result.fleet {
            var sum = fleet ?? FleetCounts()
            sum += counts
            fleet = sum
        }
        if let counts = result.upgrade {
            var sum = upgrade ?? UpgradeCounts()
            sum += counts
            upgrade = sum
        }
        guard let violation = result.violation else { return }
        failures.append(result)
        let text = "\(violation)"
        Swift.print(
            "seed \(result.seed) broke a promise: \(text.count > 3_000 ? String(text.prefix(3_000)) + " …" : text)")
        Swift.print(
            "  replay: muster simulate \(plan.mode)--seeds \(result.seed)..\(result.seed) --nodes "
                + "\(plan.nodes.lowerBound)..\(plan.nodes.upperBound) --seconds \(plan.chaos.count / 1_000_000_000)"
                + (plan.mutant.map { " --mutant \($0)" } ?? ""))
        fflush(nil)
    }

    /// A kind of harm that stops striking would make every run green; a thousand seeds have something of each, unless their
    /// clusters are too small or their time too short for some of it.
    func harmThatNeverStruck(_ plan: SimulateCommand.Plan) -> [String] {
        guard runs >= 1_000, failures.isEmpty, plan.mutant == nil, !plan.isFleet, !plan.isMixed,
            plan.nodes.lowerBound >= 3, plan.chaos >= .seconds(60)
        else { return [] }
        var idle = Fault.allCases.filter { faults[Int($0.rawValue)] == 0 }.map { "\($0)" }
        idle += Plot.allCases.filter { plots[Int($0.rawValue)] == 0 }.map { "\($0)" }
        idle += Ending.allCases.filter { endings[Int($0.rawValue)] == 0 }.map { "\($0)" }
        let counts = [
            ("entries forgotten by one", harm.entriesForgotten),
            ("frames lost", harm.framesLost), ("frames doubled", harm.framesDoubled),
            ("frames delayed", harm.framesDelayed), ("frames held back", harm.framesHeldBack),
            ("log writes lost", harm.logWritesLost), ("batches of state lost", harm.stateBatchesLost),
            ("rotten states found", harm.rottenStatesFound), ("snapshots", UInt64(snapshots)),
        ]
        idle += counts.filter { $0.1 == 0 }.map(\.0)
        return idle
    }

    func showProgress(_ plan: SimulateCommand.Plan, _ started: Double) {
        let done = Double(runs) / Double(plan.seeds.count)
        let width = 40
        let filled = min(width, Int(done * Double(width)))
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: width - filled)
        let speed = Double(simulated.count) / 1e9 / max(0.001, Console.seconds() - started)
        Console.write(
            "\r[\(bar)] \(runs)/\(plan.seeds.count) seeds, \(Int(speed)) simulated s/s, \(failures.count) failed ",
            to: 2)
    }

    func print(_ plan: SimulateCommand.Plan, _ started: Double) {
        if !plan.isQuiet { Console.write("\n", to: 2) }
        let wall = max(0.001, Console.seconds() - started)
        let cpu = max(0.001, Console.cpuSeconds())
        let seconds = Double(simulated.count) / 1e9
        Swift.print(
            """
            \(runs) seeds, \(Int(seconds)) simulated seconds in \(Int(wall * 1000)) ms of wall time and \(Int(cpu * 1000)) ms of CPU: \
            \(Int(seconds / cpu)) simulated seconds per CPU second
            \(events) events, \(elections) elections, \(committed) entries committed, \(changes) configurations applied, \
            \(snapshots) snapshots installed
            \(operations) client operations judged, \(unknown) of unknown outcome
            """)
        Swift.print(
            """
            \(harm.framesSent) frames sent, of which \(harm.framesLost) lost, \(harm.framesDoubled) doubled, \(harm.framesDelayed) \
            delayed out of order, \(harm.framesHeldBack) held back by a cut; writes lost before they were durable: \
            \(harm.logWritesLost) of logs, \(harm.stateBatchesLost) of states
            runs that ended with a majority gone and a forced recovery: \(endings[Int(Ending.disaster.rawValue)]), which forgot \
            \(harm.entriesForgotten) committed entries
            """)
        if let fleet {
            Swift.print(
                """
                VMs: \(fleet.created) created, \(fleet.deleted) deleted, \(fleet.starts) starts, \(fleet.movesBegun) moves begun, \
                \(fleet.rebalanced) of them for a better balance, \(fleet.returned) back after a drain and \(fleet.enforced) off hosts that were changed, and \(fleet.movesCommitted) committed, \(fleet.vmsAtEnd) at the end of which \(fleet.waitingAtEnd) wait
                gangs: \(fleet.gangsPlaced) placed, \(fleet.gangsLeft) VMs left theirs without a place
                between cells: \(fleet.cellsChanged) VMs went, \(fleet.cellsChangedLive) of them live, \(fleet.cellsKept) were kept for and stayed
                hosts between cells: \(fleet.hostsHandedOver) went with \(fleet.vmsHandedOver) VMs, \(fleet.hostsKept) were to go and stayed; plans for \
                splits and merges were made or changed \(fleet.hostsPlans) times, and \(fleet.plansByThemselves) began by themselves; \
                \(fleet.hostsByPlans) hosts changed cells beside them
                regions lost: \(fleet.regionsLost), \(fleet.regionAway) VMs went to others, \(fleet.regionHome) went home; plans for \
                regions were made or changed \(fleet.regionPlans) times, and \(fleet.evacuated) VMs left by them
                hosts: \(fleet.hostsDeclaredDown) declared down, \(fleet.leasesEnded) leases ended, \(fleet.mishaps) mishaps; \
                \(fleet.commands) commands of hosts, \(fleet.refused) of owners refused
                moves were struck \(fleet.movesStruck.reduce(0, +)) times at an end, in \(fleet.movesStruck.count { $0 > 0 }) of \
                \(fleet.movesStruck.count) pairs of a step and a fault
                fleet plots: \(zip(FleetPlot.allCases, fleet.plots).map { "\($0) \($1)" }.joined(separator: " "))
                """)
        }
        if let upgrade {
            Swift.print(
                """
                programs: \(upgrade.forward) starts with a newer one, \(upgrade.back) back to the older; the level opened in \
                \(upgrade.opened) runs, in \(upgrade.strays) of them a node went back too late, and stopped \(upgrade.stops) times
                states of both programs at one index: \(upgrade.compared), all equal unless said otherwise; \
                conditional deletes: \(upgrade.conditional) done, \(upgrade.refused) refused while the level was closed
                """)
        }
        var line = "faults:"
        for fault in Fault.allCases where faults[Int(fault.rawValue)] > 0 {
            line += " \(fault) \(faults[Int(fault.rawValue)])"
        }
        for plot in Plot.allCases where plots[Int(plot.rawValue)] > 0 {
            line += " \(plot) \(plots[Int(plot.rawValue)])"
        }
        for ending in Ending.allCases where endings[Int(ending.rawValue)] > 0 {
            line += " \(ending) \(endings[Int(ending.rawValue)])"
        }
        Swift.print(line)
        Swift.print(failures.isEmpty ? "no promise was broken" : "\(failures.count) runs broke a promise")
    }
}
