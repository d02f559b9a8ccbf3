import ClusterBase
import Glibc
import RaftScripts
import Testing

@testable import RaftCore

/// Short runs with everything that can go wrong, drawn from a seed: loss, copies, reordering, cuts, crashes, writes
/// that end late, membership changes, compaction. Safety is checked at every step by the cluster; at the end all heals
/// and the group must come to rest with equal logs.
struct Storm {
    var cluster: RaftTestCluster
    var random: PRNG
    var payload: UInt8 = 0
    let withMembership: Bool
    var nextReplica: UInt64
    /// Highest commit at the time each read was asked, by (replica, ticket).
    var asked: [UInt64: LogIndex] = [:]
    var ticket: UInt64 = 0

    init(seed: UInt64, voters: Int, withMembership: Bool, settings: Settings) {
        cluster = RaftTestCluster(voters: voters, settings: settings, seed: seed)
        cluster.persistsAtOnce = false
        cluster.appliesAtOnce = false
        cluster.fetchesAtOnce = false
        cluster.snapshotsAtOnce = false
        random = PRNG(seed: seed)
        self.withMembership = withMembership
        nextReplica = UInt64(voters) + 1
    }

    static func settings() -> Settings {
        var settings = Settings()
        settings.appendEntriesMax = 3
        settings.appendBytesMax = 200
        settings.inflightMessagesMax = 4
        settings.uncommittedBytesMax = 2_000
        settings.cacheBytesMax = 300
        settings.promotionStability = .milliseconds(60)
        return settings
    }

    mutating func pick(_ list: [UInt64]) -> UInt64? { list.isEmpty ? nil : list[random.below(list.count)] }

    mutating func deliverOne() {
        guard !cluster.network.isEmpty else { return }
        // Mostly old ones first, sometimes any.
        let near = random.chance(3, in: 4) ? min(4, cluster.network.count) : cluster.network.count
        let i = random.below(near)
        let message = cluster.network[i]
        if !random.chance(1, in: 12) { cluster.network.remove(at: i) }
        if random.chance(1, in: 15) { return }
        cluster.deliver(message)
        if cluster.network.count > 400 { cluster.network.removeFirst(100) }
    }

    mutating func act() {
        switch random.below(100) {
        case 0..<45: deliverOne()
        case 45..<62:
            guard let id = pick(cluster.upIDs) else { return }
            let count = cluster[id].writes.count
            if count > 0 { cluster.persist(id, 1 + random.below(count)) }
        case 62..<70:
            if let id = pick(cluster.upIDs) { cluster.apply(id) }
        case 70..<78:
            if let leader = cluster.leader {
                payload &+= 1
                let bytes = [UInt8](repeating: payload, count: random.below(40))
                cluster.step(leader, .propose(Array(repeating: bytes, count: 1 + random.below(3))))
            }
        case 78..<84:
            if let next = cluster.deadline { cluster.now = max(cluster.now, next) }
            cluster.now += Nanoseconds.milliseconds(Int64(random.below(5)))
            for id in cluster.upIDs where cluster[id].raft.deadline.map({ $0 <= cluster.now }) == true {
                cluster.step(id, .tick)
            }
        case 84..<87: cluster.beat()
        case 87..<88:
            // One link, in one direction or both.
            guard let a = pick(cluster.ids), let b = pick(cluster.ids), a != b else { return }
            cluster.cuts.insert(.init(from: a, to: b))
            if random.chance(1, in: 2) { cluster.cuts.insert(.init(from: b, to: a)) }
        case 88..<89: cluster.heal()
        case 89..<90:
            if let id = pick(cluster.upIDs) { cluster.crash(id, durable: random.below(cluster[id].writes.count + 1)) }
        case 90..<92:
            if let id = pick(cluster.ids.filter { !cluster[$0].isUp }) { cluster.restart(id) }
        case 92..<93:
            guard let id = pick(cluster.upIDs), let other = pick(cluster.ids) else { return }
            switch random.below(5) {
            case 0: cluster.step(id, .linkBroken(NodeID(other)))
            case 1: cluster.step(id, .nodeSuspected(NodeID(other)))
            case 2: cluster.step(id, .transferLeadership(to: random.chance(1, in: 2) ? ReplicaID(other) : nil))
            case 3: cluster.step(id, .stepDown)
            default: cluster.step(id, .nodeAlive(NodeID(other)))
            }
        case 93..<95:
            if let id = pick(cluster.upIDs), !cluster[id].fetches.isEmpty {
                let fetch = cluster[id].fetches.removeFirst()
                cluster.answer(fetch, by: id, fail: random.chance(1, in: 8))
            }
        case 95..<96:
            if let id = pick(cluster.upIDs) { compact(id) }
        case 96..<98:
            for id in cluster.upIDs { cluster.sendSnapshots(id) }
            if !cluster.transfers.isEmpty { cluster.finishTransfer(fail: random.chance(1, in: 4)) }
        case 98..<99: read()
        default: changeMembership()
        }
    }

    mutating func compact(_ id: UInt64) {
        let raft = cluster[id].raft
        let bound = random.chance(1, in: 3) ? min(raft.applied, raft.durable) : raft.compactionBound
        guard bound > raft.base.index, let chain = cluster[id].disk.chain(at: bound) else { return }
        guard cluster[id].writes.allSatisfy({ $0.snapshot == nil && $0.base == nil }) else { return }
        cluster.step(id, .compact(through: bound, chain: chain))
    }

    mutating func read() {
        guard let id = pick(cluster.upIDs) else { return }
        ticket += 1
        asked[ticket] = LogIndex(cluster.committedLast)
        cluster.step(id, .read(ticket: ticket))
    }

    mutating func checkReads() {
        for id in cluster.ids {
            for outcome in cluster[id].reads {
                guard case .ready(let index) = outcome.verdict, let least = asked[outcome.ticket] else { continue }
                if index < least {
                    cluster.problems.append("read \(outcome.ticket) at \(index) misses \(least), committed before it")
                }
                if index > cluster[id].applied {
                    cluster.problems.append("read \(outcome.ticket) at \(index) is ahead of the state machine")
                }
            }
            cluster[id].reads.removeAll()
        }
    }

    mutating func changeMembership() {
        guard withMembership, let leader = cluster.leader else { return }
        let raft = cluster[leader].raft
        var steps: [MembershipStep] = []
        for _ in 0...random.below(3) {
            let members = raft.configuration.members
            guard let member = pick(members.map { $0.peer.replica.rawValue }) else { return }
            switch random.below(6) {
            case 0 where members.count < 7:
                steps.append(.addVoter(cluster.peer(nextReplica), priority: 0))
                nextReplica += 1
            case 1 where members.count < 7:
                steps.append(
                    .addLearner(cluster.peer(nextReplica), promotesItself: random.chance(1, in: 2), priority: 0))
                nextReplica += 1
            case 2: steps.append(.promote(ReplicaID(member)))
            case 3: steps.append(.demote(ReplicaID(member)))
            default: steps.append(.remove(ReplicaID(member)))
            }
        }
        for id in raft.configuration.replicaHighest.rawValue + 1..<nextReplica where cluster.replicas[id] == nil {
            cluster.addEmpty(id)
        }
        cluster.step(leader, .changeMembership(steps))
    }

    /// Ends all faults; a connected quorum must come to rest.
    mutating func calm() {
        cluster.heal()
        cluster.persistsAtOnce = true
        cluster.appliesAtOnce = true
        cluster.fetchesAtOnce = true
        cluster.snapshotsAtOnce = true
        for id in cluster.ids where !cluster[id].isUp { cluster.restart(id) }
        for id in cluster.upIDs {
            cluster.persist(id)
            cluster.apply(id)
            cluster.answerFetches(id)
            cluster.sendSnapshots(id)
        }
        cluster.live(for: .seconds(3))
        checkReads()
        guard let leader = cluster.leader else {
            cluster.problems.append("no leader \(describe())")
            return
        }
        let before = cluster[leader].raft.lastIndex
        cluster.step(leader, .propose([[1, 2, 3]]))
        cluster.live(for: .seconds(1))
        checkReads()
        guard let after = cluster.leader, cluster[after].raft.commit > before else {
            cluster.problems.append("a proposal in quiet times did not commit \(describe())")
            return
        }
        let members = cluster[after].raft.configuration.members.map { $0.peer.replica.rawValue }
        if !cluster.isConverged(members) { cluster.problems.append("the logs did not converge \(describe())") }
        if cluster[after].raft.configuration.isJoint { cluster.problems.append("a joint configuration was not left") }
        for id in members {
            let raft = cluster[id].raft
            if raft.reads.count > 0 { cluster.problems.append("r\(id) still has \(raft.reads.count) reads") }
            if raft.transferTarget != nil { cluster.problems.append("r\(id)'s transfer did not end") }
            if raft.isStopped { cluster.problems.append("r\(id) stopped") }
        }
    }

    func describe() -> String {
        var text = "\n"
        for id in cluster.ids {
            let r = cluster[id].raft
            text += "  r\(id) \(r.phase) t\(r.term) last \(r.lastIndex)/\(r.lastTerm) commit \(r.commit)"
            text +=
                " applied \(cluster[id].applied)/\(r.applied) base \(r.base.index) leader \(r.leader?.description ?? "-")"
            text += " dl \(r.deadline?.description ?? "-") suspects \(r.suspected) stopped \(r.isStopped)"
            text += " config \(r.configuration.members.map { "\($0.peer.replica):\($0.role)" })"
            for p in r.progress {
                text +=
                    "\n      \(p.member.peer) \(p.state) match \(p.match) next \(p.next) probing \(p.isProbeOutstanding)"
                text += " fetching \(p.isFetching) retry \(p.retryAt?.description ?? "-")"
            }
            text += "\n"
        }
        return text
    }

    /// The problems of one whole run.
    static func run(seed: UInt64, steps: Int, withMembership: Bool, settings: Settings = settings()) -> [String] {
        var storm = Storm(
            seed: seed, voters: 3 + 2 * Int(seed % 3), withMembership: withMembership, settings: settings)
        for _ in 0..<steps {
            storm.act()
            storm.checkReads()
            if !storm.cluster.problems.isEmpty { break }
        }
        if storm.cluster.problems.isEmpty { storm.cluster.auditLogs() }
        if storm.cluster.problems.isEmpty { storm.calm() }
        if storm.cluster.problems.isEmpty { storm.cluster.auditLogs() }
        return storm.cluster.problems.map { "seed \(seed): \($0)" }
    }
}

/// A soak sets STORMS to more; they run by the thousand in a release build.
private let stormsPerPart = getenv("STORMS").flatMap { Int(String(cString: $0)) } ?? 25

@Suite struct PaperPropertyTests {
    /// Raft figure 3: election safety, log matching, leader completeness, state machine safety.
    @Test(arguments: 0..<8)
    func `storms break none of the five properties and leave no group stuck`(part: Int) {
        for i in 0..<stormsPerPart {
            let problems = Storm.run(seed: UInt64(part * 1_000_000 + i), steps: 600, withMembership: false)
            #expect(problems.isEmpty, "\(problems.joined(separator: "\n"))")
            if !problems.isEmpty { break }
        }
    }

    @Test(arguments: 0..<8)
    func `storms with membership changes break none of them either`(part: Int) {
        for i in 0..<stormsPerPart {
            let problems = Storm.run(seed: UInt64(10_000_000 + part * 1_000_000 + i), steps: 800, withMembership: true)
            #expect(problems.isEmpty, "\(problems.joined(separator: "\n"))")
            if !problems.isEmpty { break }
        }
    }
}
