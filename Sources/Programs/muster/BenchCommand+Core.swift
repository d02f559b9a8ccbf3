import ClusterBase
import Glibc
import RaftCore
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
        cluster.confirmRounds(isQuick ? 1_000 : 200_000)
    }
}

struct CoreCluster {
    private var rafts: [Raft] = []
    private var effects = Effects()
    private var inbox = RingBuffer<Message>(capacity: 64)
    private var now = Instant(nanoseconds: 1)

    init() {
        let configuration = Configuration.voters([1, 2, 3])
        for id in 1...3 {
            rafts.append(
                Raft(
                    peer: Peer(replica: ReplicaID(UInt64(id)), node: NodeID(UInt64(id))), incarnation: Incarnation(1),
                    restored: RestoredLog(firstMembers: configuration), applied: .zero, settings: Settings(),
                    seed: UInt64(id), now: now))
        }
    }

    var commit: LogIndex { rafts[0].commit }
    var chain: UInt64 { rafts[0].lastChain }

    mutating func elect() {
        now += .seconds(1)
        step(0, .tick)
        precondition(rafts[0].isLeader, "the first core did not win an election that it alone ran for")
    }

    mutating func propose(_ payloads: [[UInt8]]) {
        step(0, .propose(payloads))
        if commit.rawValue % 8_192 < UInt64(payloads.count) {
            for i in 0..<3 {
                let through = rafts[i].applied
                if let chain = rafts[i].chain(at: through) { step(i, .compact(through: through, chain: chain)) }
            }
        }
    }

    mutating func confirmRounds(_ rounds: Int) {
        for ticket in 0..<1_000 { step(0, .read(ticket: UInt64(ticket))) }
        let started = Console.cpuSeconds()
        for ticket in 0..<rounds { step(0, .read(ticket: UInt64(ticket))) }
        let seconds = Console.cpuSeconds() - started
        print(
            "core: \(Int(Double(rounds) / seconds)) leadership rounds/s")
    }

    private mutating func step(_ i: Int, _ input: Input) {
        rafts[i].step(input, now: now, into: &effects)
        drain(i)
        while let message = inbox.popFirst() {
            let to = Int(message.to.node.rawValue) - 1
            rafts[to].step(.received(message), now: now, into: &effects)
            drain(to)
        }
    }

    private mutating func drain(_ i: Int) {
        while !effects.isEmpty {
            for message in effects.messages { inbox.append(message) }
            let sequence = effects.writes.last?.sequence
            let commit = effects.commit
            effects.removeAll()
            if let sequence { rafts[i].step(.persisted(sequence: sequence), now: now, into: &effects) }
            if let commit { rafts[i].step(.applied(commit), now: now, into: &effects) }
        }
    }
}
