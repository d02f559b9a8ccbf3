#if canImport(AllocationCounter)
import AllocationCounter
import ClusterBase
import Testing

@testable import RaftCore

/// Allocations of this thread during `work`.
private func allocations(_ work: () -> Void) -> Int {
    allocation_counter_begin()
    work()
    return allocation_counter_end()
}

/// A leader and its followers without any harness between them: buffers are made once and used again.
private struct Bench {
    var leader: Raft
    var follower: Raft
    var out = Effects()
    var back = Effects()
    var now = Instant(nanoseconds: 0)

    init() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.propose(1, [1, 2, 3])
        cluster.run(for: .seconds(1))
        leader = cluster[1].raft
        follower = cluster[2].raft
        now = cluster.now
    }

    mutating func lead(_ input: Input) {
        out.removeAll()
        leader.step(input, now: now, into: &out)
    }

    /// The leader's last messages to replica 2, and its answers taken in by the leader.
    mutating func exchange(_ answers: inout [Message]) {
        back.removeAll()
        for message in out.messages where message.to.replica == ReplicaID(2) {
            follower.step(.received(message), now: now, into: &back)
        }
        if let write = back.writes.last {
            follower.step(.persisted(sequence: write.sequence), now: now, into: &back)
        }
        answers.removeAll(keepingCapacity: true)
        answers.append(contentsOf: back.messages)
        out.removeAll()
        for message in answers { leader.step(.received(message), now: now, into: &out) }
    }
}

/// Budgets are for what runs: an unoptimized build keeps values on the heap that the optimizer takes off it.
private var isOptimized: Bool {
    #if DEBUG
    false
    #else
    true
    #endif
}

@Suite(.enabled(if: allocation_counter_is_active() != 0 && isOptimized)) struct RaftCoreAllocationTests {
    private func fewest(of tries: Int = 5, _ work: () -> Void) -> Int {
        (0..<tries).map { _ in allocations(work) }.min() ?? 0
    }

    @Test func `the counter counts`() {
        var kept: [[Int]] = []
        kept.reserveCapacity(8)
        #expect(allocations { kept.append([Int](repeating: 1, count: 100)) } >= 1)
        #expect(allocations {} == 0)
    }

    @Test func `a tick of an idle leader or follower allocates nothing`() {
        var bench = Bench()
        let atLeader = fewest { bench.lead(.tick) }
        let atFollower = fewest {
            bench.back.removeAll()
            bench.follower.step(.tick, now: bench.now, into: &bench.back)
        }
        #expect(bench.out.isEmpty && bench.back.isEmpty)
        #expect(atLeader == 0)
        #expect(atFollower == 0)
    }

    @Test func `a round that confirms leadership allocates nothing once its buffers are warm`() {
        var bench = Bench()
        var answers: [Message] = []
        var ticket: UInt64 = 0
        func round() {
            ticket += 1
            bench.lead(.read(ticket: ticket))
            bench.exchange(&answers)
        }
        for _ in 0..<3 { round() }
        let count = fewest { round() }
        #expect(bench.out.reads.count == 1)
        #expect(count == 0)
    }

    @Test func `taking in that a write is durable, and that entries are applied, allocates nothing`() {
        var bench = Bench()
        var answers: [Message] = []
        var durable: [Int] = []
        var applied: [Int] = []
        for i in 0..<8 {
            bench.lead(.propose([[UInt8(i)]]))
            let sequence = bench.out.writes[0].sequence
            bench.exchange(&answers)
            bench.out.removeAll()
            durable.append(allocations { bench.lead(.persisted(sequence: sequence)) })
            guard let commit = bench.out.commit else {
                Issue.record("not committed")
                return
            }
            applied.append(allocations { bench.lead(.applied(commit)) })
        }
        #expect(durable.min() == 0)
        #expect(applied.min() == 0)
    }

    /// 64 payloads: their entries are values in the log's ring; what is allocated is one array of entries for the write
    /// and one for each follower's append, and a message each.
    @Test func `appending 64 proposals allocates a handful of arrays, whatever their number`() {
        var bench = Bench()
        var answers: [Message] = []
        let payloads = (0..<64).map { [UInt8](repeating: UInt8($0), count: 128) }
        var counts: [Int] = []
        for _ in 0..<12 {
            counts.append(allocations { bench.lead(.propose(payloads)) })
            let sequence = bench.out.writes[0].sequence
            bench.exchange(&answers)
            bench.lead(.persisted(sequence: sequence))
            bench.exchange(&answers)
        }
        #expect((counts.min() ?? 0) <= 4, "\(counts)")
    }

    /// Leader and follower together, from the proposal to the commit, with the answers on their way.
    @Test func `a committed entry costs less than 400 bytes of heap in a batch of 64`() {
        var bench = Bench()
        var answers: [Message] = []
        let payloads = (0..<64).map { [UInt8](repeating: UInt8($0), count: 128) }
        var bytes: [Int] = []
        for _ in 0..<12 {
            let before = bench.leader.commit
            allocation_counter_begin()
            bench.lead(.propose(payloads))
            let sequence = bench.out.writes[0].sequence
            bench.exchange(&answers)
            bench.lead(.persisted(sequence: sequence))
            bench.exchange(&answers)
            _ = allocation_counter_end()
            bytes.append(allocation_counter_bytes() / 64)
            #expect(bench.leader.commit == before.advanced(by: 64))
        }
        #expect((bytes.min() ?? 0) < 400, "\(bytes)")
    }
}
#endif
