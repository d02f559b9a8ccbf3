package import ClusterBase
import RaftCore

/// Three cores in one thread, messages and durability at once and in order: what consensus costs without a disk or a
/// network. It allocates nothing of its own once its buffers are as large as they get.
package struct CoreCluster {
    private var rafts: [Raft] = []
    private var effects = Effects()
    private var inbox = RingBuffer<Message>(capacity: 64)
    private var now = Instant(nanoseconds: 1)

    package init() {
        let configuration = Configuration.voters([1, 2, 3])
        for id in 1...3 {
            rafts.append(
                Raft(
                    peer: Peer(replica: ReplicaID(UInt64(id)), node: NodeID(UInt64(id))), incarnation: Incarnation(1),
                    restored: RestoredLog(firstMembers: configuration), applied: .zero, settings: Settings(),
                    seed: UInt64(id), now: now))
        }
    }

    /// What the first core, which leads, holds for committed.
    package var commit: LogIndex { rafts[0].commit }
    /// The chain over the leader's log: equal for equal runs, so that nobody optimises the work away.
    package var chain: UInt64 { rafts[0].lastChain }
    package var isQuiet: Bool { effects.isEmpty && inbox.isEmpty }

    /// Makes the first core leader.
    package mutating func elect() {
        now += .seconds(1)
        step(0, .tick)
        precondition(rafts[0].isLeader, "the first core did not win an election that it alone ran for")
    }

    /// Proposes one batch and carries it until all three have applied it. Logs are compacted every 8,192 entries.
    package mutating func propose(_ payloads: [[UInt8]]) {
        step(0, .propose(payloads))
        if commit.rawValue % 8_192 < UInt64(payloads.count) {
            for i in 0..<3 {
                let through = rafts[i].applied
                if let chain = rafts[i].chain(at: through) { step(i, .compact(through: through, chain: chain)) }
            }
        }
    }

    /// One round in which both followers confirm that the first core still leads.
    package mutating func confirm(ticket: UInt64) { step(0, .read(ticket: ticket)) }

    /// A tick of each core.
    package mutating func tick() { for i in 0..<3 { step(i, .tick) } }

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
