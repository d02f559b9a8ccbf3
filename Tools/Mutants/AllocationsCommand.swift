import AllocationCounter
import ClusterBase
import RaftCore
import RaftScripts
import SimulatorFront
import Terminal

/// `mutants allocations`: what steps of the core take from the heap, each held to a budget. Budgets are for what runs:
/// an unoptimized build keeps values on the heap that the optimizer takes off it.
enum AllocationsCommand {
    static func run() throws -> Int32 {
        guard allocation_counter_is_active() != 0, isOptimized else {
            throw UsageError(
                "allocations are counted in an optimized build without sanitizers; use Tools/check allocations")
        }
        var ledger = Ledger()
        counterCounts(&ledger)
        idleGroups(&ledger)
        leadershipRounds(&ledger)
        beatRounds(&ledger)
        steps(&ledger)
        followersSteps(&ledger)
        campaigns(&ledger)
        committedEntries(&ledger)
        print("\(ledger.judged) budgets of the heap: \(ledger.exceeded) exceeded")
        return ledger.exceeded == 0 ? 0 : 1
    }

    private static var isOptimized: Bool {
        #if DEBUG
        false
        #else
        true
        #endif
    }
}

/// What was measured, each against its budget.
private struct Ledger {
    var judged = 0
    var exceeded = 0

    mutating func judge(_ what: String, _ measured: Int, _ unit: String, within budget: ClosedRange<Int>) {
        judged += 1
        let isGood = budget.contains(measured)
        if !isGood { exceeded += 1 }
        let bound = budget.upperBound == .max ? "at least \(budget.lowerBound)" : "at most \(budget.upperBound)"
        print("\(isGood ? "good    " : "exceeded") \(what): \(measured) \(unit), \(bound) may be")
    }
}

/// Allocations of this thread during `work`.
private func allocations(_ work: () -> Void) -> Int {
    allocation_counter_begin()
    work()
    return allocation_counter_end()
}

/// Of many rounds all allocations together: nothing is hidden by taking the best one.
private func allocations(rounds: Int, _ work: (Int) -> Void) -> Int {
    for i in 0..<100 { work(i) }
    return allocations { for i in 100..<(100 + rounds) { work(i) } }
}

extension AllocationsCommand {
    /// A counter that counts nothing would keep every budget.
    private static func counterCounts(_ ledger: inout Ledger) {
        var kept: [[Int]] = []
        kept.reserveCapacity(8)
        let count = allocations { kept.append([Int](repeating: 1, count: 100)) }
        ledger.judge(
            "an array, to see that the counter counts", count + kept.count - 1, "allocations", within: 1...(.max))
    }

    private static func idleGroups(_ ledger: inout Ledger) {
        var cluster = CoreCluster()
        cluster.elect()
        cluster.propose([[1]])
        let count = allocations(rounds: 10_000) { _ in cluster.tick() }
        precondition(cluster.isQuiet, "an idle group sent something")
        ledger.judge("10,000 ticks of an idle leader and two followers", count, "allocations", within: 0...0)
    }

    private static func leadershipRounds(_ ledger: inout Ledger) {
        var cluster = CoreCluster()
        cluster.elect()
        cluster.propose([[1]])
        let count = allocations(rounds: 10_000) { cluster.confirm(ticket: UInt64($0)) }
        ledger.judge("10,000 rounds that confirm leadership, three cores", count, "allocations", within: 0...0)
    }

    /// Heartbeats are the nodes': each of three ticks, and its beats reach the two others, of 1,000 groups or of none.
    private static func beatRounds(_ ledger: inout Ledger) {
        for groups in [0, 1_000] {
            var nodes = BeatingNodes(groups: groups)
            for _ in 0..<100 { nodes.round() }
            precondition(nodes.areSettled, "the nodes do not know each other's leaderships after 100 rounds")
            let count = allocations(rounds: 10_000) { _ in nodes.round() }
            precondition(nodes.areSettled && nodes.suspicions == 0, "a beat round went wrong")
            ledger.judge(
                "10,000 heartbeat rounds of three nodes that lead \(groups) groups each", count, "allocations",
                within: 0...0)
        }
    }

    private static func steps(_ ledger: inout Ledger) {
        var pair = LeaderAndFollower()
        let payloads = (0..<64).map { [UInt8](repeating: UInt8($0), count: 128) }
        var proposing = 0
        var persisting = 0
        var applying = 0
        for i in 0..<60 {
            let first = allocations { pair.lead(.propose(payloads)) }
            let sequence = pair.out.writes[0].sequence
            pair.exchange()
            pair.out.removeAll()
            let second = allocations { pair.lead(.persisted(sequence: sequence)) }
            guard let commit = pair.out.commit else { preconditionFailure("the batch was not committed") }
            let third = allocations { pair.lead(.applied(commit)) }
            if i < 20 { continue }
            proposing = max(proposing, first)
            persisting = max(persisting, second)
            applying = max(applying, third)
        }
        // One array of entries for the write and one for each follower's append; their entries are values in the log.
        ledger.judge("64 proposals at their leader", proposing, "allocations", within: 0...4)
        ledger.judge("taking in that a write is durable", persisting, "allocations", within: 0...0)
        ledger.judge("taking in that entries are applied", applying, "allocations", within: 0...0)
    }

    private static func followersSteps(_ ledger: inout Ledger) {
        var pair = LeaderAndFollower()
        let payloads = (0..<64).map { [UInt8](repeating: UInt8($0), count: 128) }
        var most = (appending: 0, persisting: 0, hearing: 0, applying: 0)
        for i in 0..<60 {
            pair.lead(.propose(payloads))
            let sequence = pair.out.writes[0].sequence
            guard let append = pair.toFollower else { preconditionFailure("nothing is sent to the follower") }
            let appending = allocations { pair.follow(.received(append)) }
            let written = pair.back.writes[0].sequence
            let persisting = allocations { pair.follow(.persisted(sequence: written)) }
            for answer in pair.back.messages { pair.lead(.received(answer)) }
            pair.lead(.persisted(sequence: sequence))
            guard let news = pair.toFollower, let commit = pair.out.commit else {
                preconditionFailure("the batch was not committed")
            }
            let hearing = allocations { pair.follow(.received(news)) }
            precondition(pair.back.commit == commit, "the follower does not learn of the commit")
            let applying = allocations { pair.follow(.applied(commit)) }
            pair.lead(.applied(commit))
            if i < 20 { continue }
            most.appending = max(most.appending, appending)
            most.persisting = max(most.persisting, persisting)
            most.hearing = max(most.hearing, hearing)
            most.applying = max(most.applying, applying)
        }
        ledger.judge("64 entries at a follower", most.appending, "allocations", within: 0...2)
        ledger.judge("a follower's write is durable", most.persisting, "allocations", within: 0...0)
        ledger.judge("a follower hears of a commit", most.hearing, "allocations", within: 0...0)
        ledger.judge("a follower has applied entries", most.applying, "allocations", within: 0...0)
    }

    /// Elections are rare, and still bounded: from the broken link until the new leader's first entry is on its way.
    private static func campaigns(_ ledger: inout Ledger) {
        var most = 0
        for _ in 0..<20 {
            var pair = LeaderAndFollower()
            most = max(most, allocations { pair.takeOver() })
            precondition(pair.follower.isLeader, "the follower did not take over")
        }
        ledger.judge("a follower takes over, granted by one more", most, "allocations", within: 0...20)
    }

    /// From the proposal until all three cores have applied it, compaction counted.
    private static func committedEntries(_ ledger: inout Ledger) {
        let batch = 64
        let rounds = 2_000
        for size in [128, 1_024] {
            var cluster = CoreCluster()
            cluster.elect()
            let payloads = [[UInt8]](repeating: [UInt8](repeating: 7, count: size), count: batch)
            for _ in 0..<200 { cluster.propose(payloads) }
            let before = cluster.commit
            let count = allocations { for _ in 0..<rounds { cluster.propose(payloads) } }
            let bytes = allocation_counter_bytes()
            let entries = cluster.commit - before
            precondition(entries == rounds * batch, "\(entries) entries were committed instead of \(rounds * batch)")
            let what = "an entry of \(size) bytes committed by three cores in batches of \(batch)"
            ledger.judge(what, bytes / entries, "bytes", within: 0...committedEntryBytesMax)
            ledger.judge("1,000 of them", count * 1_000 / entries, "allocations", within: 0...committedAllocationsMax)
        }
    }

    /// The payload is the caller's and shared by all; this is what the cores add. Allocations are those of 1,000.
    private static let committedEntryBytesMax = 200
    private static let committedAllocationsMax = 100
}

/// Nodes that beat to each other, each leading groups that all share.
private struct BeatingNodes {
    private var nodes: [NodeLiveness] = []
    private var out = LivenessEffects()
    private var taken = LivenessEffects()
    private var now = Instant(nanoseconds: 1_000_000_000)
    private(set) var suspicions = 0

    init(groups: Int) {
        let ids = (1...3).map { NodeID($0) }
        for id in ids {
            var node = NodeLiveness(node: id, incarnation: Incarnation(1), settings: LivenessSettings(), now: now)
            let others = ids.filter { $0 != id }
            for other in others { precondition(node.track(other, now: now), "node \(other) is one too many") }
            for group in 0..<groups {
                node.setLeadership(
                    GroupID(id.rawValue * 1_000_000 + UInt64(group)), term: Term(1), sharedWith: others, now: now)
            }
            nodes.append(node)
        }
    }

    var areSettled: Bool {
        nodes.allSatisfy { node in
            nodes.allSatisfy { $0.node == node.node || node.isAlive($0.node) && node.hasToldAll($0.node) }
        }
    }

    /// Everybody ticks, and everybody hears everybody.
    mutating func round() {
        now += .milliseconds(15)
        for i in nodes.indices {
            out.removeAll()
            nodes[i].tick(now: now, pulses: Pulses(), into: &out)
            for item in out.beats {
                let to = Int(item.to.rawValue) - 1
                nodes[to].received(item.beat, from: nodes[i].node, now: now, into: &taken)
            }
            for event in out.events { if case .nodeSuspected = event { suspicions += 1 } }
            taken.removeAll()
        }
    }
}

/// A leader and one of its followers without any harness between them: buffers are made once and used again.
private struct LeaderAndFollower {
    var leader: Raft
    var follower: Raft
    var out = Effects()
    var back = Effects()
    var answers: [Message] = []
    var now: Instant

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

    mutating func follow(_ input: Input) {
        back.removeAll()
        follower.step(input, now: now, into: &back)
    }

    /// What the leader's last step sends to the follower.
    var toFollower: Message? { out.messages.first { $0.to.replica == ReplicaID(2) } }

    /// The follower loses its leader, asks, and is granted what it asks for.
    mutating func takeOver() {
        follow(.linkBroken(NodeID(1)))
        for _ in 0..<8 where !follower.isLeader {
            now = max(now, follower.deadline ?? now)
            follow(.tick)
            if let write = back.writes.last {
                follower.step(.persisted(sequence: write.sequence), now: now, into: &back)
            }
            answers.removeAll(keepingCapacity: true)
            for message in back.messages where message.to.replica == ReplicaID(3) { answers.append(message) }
            grant()
        }
    }

    private mutating func grant() {
        while let asked = answers.popLast() {
            let voter = Peer(replica: ReplicaID(3), node: NodeID(3))
            let candidate = Peer(replica: ReplicaID(2), node: NodeID(2))
            var body: Message.Body?
            var term = asked.term
            if case .preVote = asked.body {
                body = .preVoteAnswer(VoteAnswer(isGranted: true, campaignTerm: asked.term, leader: nil))
                term = follower.term
            } else if case .vote = asked.body {
                body = .voteAnswer(VoteAnswer(isGranted: true, campaignTerm: asked.term, leader: nil))
            }
            guard let body else { continue }
            let answer = Message(from: voter, to: candidate, epoch: follower.epoch, term: term, body: body)
            follow(.received(answer))
            if let write = back.writes.last {
                follower.step(.persisted(sequence: write.sequence), now: now, into: &back)
            }
            for message in back.messages where message.to.replica == ReplicaID(3) { answers.append(message) }
        }
    }

    /// The leader's last messages to replica 2, and its answers taken in by the leader.
    mutating func exchange() {
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
