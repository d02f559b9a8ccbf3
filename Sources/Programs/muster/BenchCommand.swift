import ClusterBase
import Glibc
import HistoryChecker
import RaftCore
import Simulator
import Terminal

/// `muster bench`: small programs with a hash of their result, so that nobody optimises the work away.
enum BenchCommand {
    static func run(_ arguments: [String]) throws -> Int32 {
        var options = Options(arguments)
        let name = options.word()
        if let name, ["placement", "replay", "rebalance"].contains(name) { return try placement(arguments) }
        if name == "admin" {
            try admin(&options)
            return 0
        }
        if name == "fleet" {
            try fleet(&options)
            return 0
        }
        if name == "chaos" { return try chaos(&options) }
        if name == "etcd" {
            try etcd(&options)
            return 0
        }
        let isQuick = options.flag("--quick")
        try options.end()
        switch name {
        case "core": core(isQuick: isQuick)
        case "history": history(isQuick: isQuick)
        case "simulate": simulate(isQuick: isQuick)
        default:
            throw UsageError("name a bench; `muster bench --help` lists them")
        }
        return 0
    }

    private static func history(isQuick: Bool) {
        var generator = HistoryGenerator.benchmark
        if isQuick { generator.operations = 5_000 }
        let history = generator.generate(seed: 1)
        let started = Console.seconds()
        let verdict = Linearizability.check(history)
        let seconds = Console.seconds() - started
        print("history: \(history.operations.count) operations judged \(verdict) in \(Int(seconds * 1_000)) ms")
    }

    private static func simulate(isQuick: Bool) {
        var simulated: Int64 = 0
        var hash = ChainHash()
        var failed = 0
        let started = Console.cpuSeconds()
        for seed in 1...(isQuick ? 4 : 40) {
            var random = PRNG(seed: UInt64(seed)).child(0x5EED)
            let profile = Profile.draw(&random, nodes: 5...5)
            let result = Simulation(seed: UInt64(seed), profile: profile, chaos: .seconds(60)).run()
            simulated += result.simulated.count
            hash.add(result.traceHash)
            if result.violation != nil { failed += 1 }
        }
        let seconds = Console.cpuSeconds() - started
        let speed = Int(Double(simulated) / 1e9 / seconds)
        print(
            "simulate: 5 nodes under load and faults, \(speed) simulated seconds per CPU second, \(failed) failed, hash \(hash.value)"
        )
    }
}
