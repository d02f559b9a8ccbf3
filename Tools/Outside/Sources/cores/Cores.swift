import ClusterBase
import RaftCore

/// Proposes through three replicas of one group: their disks, wires and state machines are arrays.
@main
struct Cores {
    var rafts: [Raft] = []
    var logs: [[Entry]] = [[], [], []]
    var applied: [[Entry]] = [[], [], []]
    var wire = RingBuffer<Message>()
    var reads: [ReadOutcome] = []
    var now = Instant.origin
    var effects = Effects()

    static func main() {
        var cores = Cores()
        cores.elect()
        for i in 0..<10 { cores.step(0, .propose([[UInt8(i)], [UInt8(i)]])) }
        // Through a follower: it asks the leader.
        cores.step(1, .read(ticket: 7))
        guard let read = cores.reads.first, read.ticket == 7, case .ready(let index) = read.verdict else {
            fatalError("the read was not answered: \(cores.reads)")
        }
        let payloads = cores.applied.map { entries in
            entries.compactMap { if case .command(let payload) = $0.content { payload[0] } else { nil } }
        }
        precondition(payloads[0].count == 20 && payloads[1] == payloads[0], "two replicas applied different entries")
        precondition(payloads[2] == payloads[0], "two replicas applied different entries")
        print("cores: \(payloads[0].count) commands applied by three replicas, a read is good from \(index) on")
    }

    init() {
        for id in 1...3 as ClosedRange<UInt64> {
            let peer = Peer(replica: ReplicaID(id), node: NodeID(id))
            rafts.append(
                Raft(
                    peer: peer, incarnation: Incarnation(1), restored: RestoredLog(firstMembers: .voters([1, 2, 3])),
                    applied: .zero, settings: Settings(), seed: id, now: now))
        }
    }

    mutating func elect() {
        for _ in 0..<10 where !rafts[0].isLeader {
            now = max(now, rafts[0].deadline ?? now)
            step(0, .tick)
        }
        precondition(rafts[0].isLeader, "nobody leads")
    }

    /// Feeds one replica and carries everything that follows from it to its end.
    mutating func step(_ i: Int, _ input: Input) {
        rafts[i].step(input, now: now, into: &effects)
        settle(i)
        while let message = wire.popFirst() {
            let to = Int(message.to.node.rawValue) - 1
            rafts[to].step(.received(message), now: now, into: &effects)
            settle(to)
        }
    }

    mutating func settle(_ i: Int) {
        while !effects.isEmpty {
            let done = effects
            effects.removeAll()
            for message in done.messages { wire.append(message) }
            reads += done.reads
            for write in done.writes {
                if let first = write.entries.first { logs[i].removeAll { $0.index >= first.index } }
                logs[i] += write.entries
                rafts[i].step(.persisted(sequence: write.sequence), now: now, into: &effects)
            }
            if let commit = done.commit {
                applied[i] += logs[i].filter { $0.index > (applied[i].last?.index ?? .zero) && $0.index <= commit }
                rafts[i].step(.applied(commit), now: now, into: &effects)
            }
        }
    }
}
