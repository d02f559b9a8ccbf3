import RaftCore
import SimulatorFront
import Terminal

extension BenchCommand {
    /// Three cores in one thread, messages and durability at once: what a proposal costs in the core alone.
    static func core(isQuick: Bool) {
        var cluster = CoreCluster()
        cluster.elect()
        let batch = 64
        let payload = [UInt8](repeating: 7, count: 100)
        let payloads = [[UInt8]](repeating: payload, count: batch)
        let rounds = isQuick ? 200 : 20_000
        for _ in 0..<100 { cluster.propose(payloads) }
        let started = Console.cpuSeconds()
        for _ in 0..<rounds { cluster.propose(payloads) }
        let seconds = Console.cpuSeconds() - started
        let count = rounds * batch
        print(
            "core: \(Int(Double(count) / seconds)) proposals/s through 3 cores in batches of \(batch), "
                + "commit \(cluster.commit), hash \(cluster.chain)")
        confirmRounds(isQuick ? 1_000 : 200_000, &cluster)
    }

    private static func confirmRounds(_ rounds: Int, _ cluster: inout CoreCluster) {
        for ticket in 0..<1_000 { cluster.confirm(ticket: UInt64(ticket)) }
        let started = Console.cpuSeconds()
        for ticket in 0..<rounds { cluster.confirm(ticket: UInt64(ticket)) }
        let seconds = Console.cpuSeconds() - started
        print("core: \(Int(Double(rounds) / seconds)) leadership rounds/s")
    }
}
