import ClusterBase
import RaftCore

/// What one replica's log store holds. Only whole writes get in, in order.
package struct TestDisk {
    package var hardState = HardState()
    package var base: LogBase
    package var entries: [Entry] = []

    package var last: LogIndex { entries.last?.index ?? base.index }

    package mutating func take(_ write: LogWrite) {
        hardState = write.hardState
        if let base = write.base {
            if write.snapshot != nil {
                entries.removeAll()
            } else {
                entries.removeAll { $0.index <= base.index }
            }
            self.base = base
        }
        if let first = write.entries.first { entries.removeAll { $0.index >= first.index } }
        entries.append(contentsOf: write.entries.filter { $0.index > base.index })
        entries.removeAll { $0.index > write.last }
    }

    package func entry(at index: LogIndex) -> Entry? {
        guard index > base.index, index <= last else { return nil }
        return entries[index - base.index - 1]
    }

    package func chain(at index: LogIndex) -> UInt64? { index == base.index ? base.chain : entry(at: index)?.chain }
    package func term(at index: LogIndex) -> Term? { index == base.index ? base.term : entry(at: index)?.term }
}

package struct TestReplica {
    package var raft: Raft
    package var disk: TestDisk
    package var incarnation: UInt64 = 1
    package var isUp = true
    /// Issued and not durable.
    package var writes: [LogWrite] = []
    package var handedOut: LogIndex
    /// What the state machine holds; as durable as the log.
    package var applied: LogIndex
    package var events: [Event] = []
    package var reads: [ReadOutcome] = []
    package var proposals: [ProposalOutcome] = []
    package var fetches: [Fetch] = []
    package var snapshots: [Peer] = []
}

/// Replicas of one group as values, one clock moved by hand, and a bag of messages on their way. Everything a shell
/// would do can be held back: writes, applying, answers. After each step the properties of Raft figure 3 are checked;
/// what breaks one is noted in `problems`.
package struct RaftTestCluster {
    package struct Cut: Hashable {
        package var from: UInt64
        package var to: UInt64
        package init(from: UInt64, to: UInt64) {
            self.from = from
            self.to = to
        }
    }
    package struct Transfer {
        package var id: SnapshotID
        package var base: LogBase
        package var from: Peer
        package var to: Peer
    }

    package var replicas: [UInt64: TestReplica] = [:]
    package var network: [Message] = []
    package var now = Instant(nanoseconds: 1_000_000_000)
    package var settings: Settings
    package var seed: UInt64
    package let firstMembers: Configuration
    package var cuts: Set<Cut> = []
    package var transfers: [Transfer] = []

    package var persistsAtOnce = true
    package var appliesAtOnce = true
    package var fetchesAtOnce = true
    package var snapshotsAtOnce = true

    /// Everything that must not have happened.
    package var problems: [String] = []
    /// The leader of each term, for ever.
    package var leaders: [UInt64: UInt64] = [:]
    /// Term and chain of every entry that some replica ever took for committed.
    package var committed: [UInt64: (term: Term, chain: UInt64?)] = [:]
    package var committedLast: UInt64 = 0
    package var snapshotNumber: UInt64 = 0
    private var effects = Effects()

    package init(
        _ configuration: Configuration, up: [UInt64]? = nil, settings: Settings = Settings(), seed: UInt64 = 1
    ) {
        self.settings = settings
        self.seed = seed
        firstMembers = configuration
        for member in configuration.members {
            let id = member.peer.replica.rawValue
            if let up, !up.contains(id) { continue }
            add(id, RestoredLog(firstMembers: configuration))
        }
    }

    package init(voters: Int, up: [UInt64]? = nil, settings: Settings = Settings(), seed: UInt64 = 1) {
        self.init(.voters(1...UInt64(voters)), up: up, settings: settings, seed: seed)
    }

    /// A replica with this log; one that joins later starts with an empty one.
    package mutating func add(_ id: UInt64, _ restored: RestoredLog, applied: LogIndex? = nil) {
        let applied = applied ?? restored.base.index
        var disk = TestDisk(base: restored.base)
        disk.hardState = restored.hardState
        disk.entries = restored.tail
        let raft = Raft(
            peer: peer(id), incarnation: Incarnation(1), restored: restored, applied: applied, settings: settings,
            seed: seed &* 1_000_003 &+ id, now: now)
        replicas[id] = TestReplica(raft: raft, disk: disk, handedOut: applied, applied: applied)
        learnCommit(of: id, from: .zero)
    }

    package mutating func addEmpty(_ id: UInt64) { add(id, RestoredLog(firstMembers: Configuration(members: []))) }

    package func peer(_ id: UInt64) -> Peer { Peer(replica: ReplicaID(id), node: NodeID(id)) }

    package var ids: [UInt64] { replicas.keys.sorted() }
    package var upIDs: [UInt64] { ids.filter { replicas[$0]?.isUp == true } }

    package subscript(id: UInt64) -> TestReplica {
        get {
            guard let replica = replicas[id] else { preconditionFailure("no replica \(id)") }
            return replica
        }
        set { replicas[id] = newValue }
    }

    /// The leader of the highest term among the replicas that run.
    package var leader: UInt64? {
        upIDs.filter { self[$0].raft.isLeader }.max { self[$0].raft.term < self[$1].raft.term }
    }

    // MARK: Stepping

    package mutating func step(_ id: UInt64, _ input: Input) {
        guard var replica = replicas[id], replica.isUp else { return }
        let before = replica.raft.commit
        let configurationBefore = replica.raft.configuration
        var effects = Effects()
        swap(&effects, &self.effects)
        effects.removeAll()
        // Out of the table, so that the step mutates in place.
        replicas[id] = nil
        replica.raft.step(input, now: now, into: &effects)
        replica.writes.append(contentsOf: effects.writes)
        replica.events.append(contentsOf: effects.events)
        replica.reads.append(contentsOf: effects.reads)
        replica.proposals.append(contentsOf: effects.proposals)
        replica.fetches.append(contentsOf: effects.fetches)
        replica.snapshots.append(contentsOf: effects.snapshots)
        if let commit = effects.commit { replica.handedOut = commit }
        let messages = effects.messages
        replicas[id] = replica
        swap(&effects, &self.effects)
        audit(id, commitBefore: before, configurationBefore)
        for message in messages { network.append(message) }
        if persistsAtOnce { persist(id) }
        if appliesAtOnce { apply(id) }
        if fetchesAtOnce { answerFetches(id) }
        if snapshotsAtOnce { sendSnapshots(id) }
    }

    /// Makes the oldest `count` writes durable, all by default, and says so.
    package mutating func persist(_ id: UInt64, _ count: Int = .max) {
        guard self[id].isUp, !self[id].writes.isEmpty else { return }
        let taken = min(count, self[id].writes.count)
        var sequence: UInt64 = 0
        for write in self[id].writes.prefix(taken) {
            self[id].disk.take(write)
            sequence = write.sequence
            if write.snapshot != nil, let base = write.base {
                self[id].applied = max(self[id].applied, base.index)
                note(base.index, base.term, base.chain, by: id)
            }
        }
        self[id].writes.removeFirst(taken)
        step(id, .persisted(sequence: sequence))
    }

    package mutating func apply(_ id: UInt64) {
        guard self[id].isUp, self[id].handedOut > self[id].applied else { return }
        let replica = self[id]
        // A snapshot that is on its way in stands for all before it.
        guard replica.writes.allSatisfy({ $0.snapshot == nil }) else { return }
        var index = replica.applied.next
        while index <= replica.handedOut {
            guard let entry = replica.disk.entry(at: index) else {
                problems.append("r\(id) is told to apply \(index), which its disk does not hold")
                return
            }
            note(index, entry.term, entry.chain, by: id)
            index = index.next
        }
        self[id].applied = replica.handedOut
        step(id, .applied(replica.handedOut))
    }

    package mutating func answerFetches(_ id: UInt64, fail: Bool = false) {
        while self[id].isUp, !self[id].fetches.isEmpty {
            let fetch = self[id].fetches.removeFirst()
            answer(fetch, by: id, fail: fail)
        }
    }

    package mutating func answer(_ fetch: Fetch, by id: UInt64, fail: Bool) {
        let disk = self[id].disk
        var entries: [Entry] = []
        var bytes = 0
        var index = fetch.from
        while index <= fetch.through, let entry = disk.entry(at: index) {
            bytes += entry.byteCount
            if !entries.isEmpty && bytes > fetch.bytesMax { break }
            entries.append(entry)
            index = index.next
        }
        if fail || entries.isEmpty {
            step(id, .fetchFailed(fetch.peer.replica))
        } else {
            let chain = disk.chain(at: fetch.from.previous) ?? 0
            step(id, .fetched(fetch.peer.replica, entries: entries, previousChain: chain))
        }
    }

    /// Starts the transfers that `id` asked for.
    package mutating func sendSnapshots(_ id: UInt64) {
        while self[id].isUp, !self[id].snapshots.isEmpty {
            let target = self[id].snapshots.removeFirst()
            transfers.append(makeSnapshot(of: id, to: target))
        }
    }

    package mutating func makeSnapshot(of id: UInt64, to target: Peer) -> Transfer {
        let replica = self[id]
        let index = replica.applied
        snapshotNumber += 1
        let base: LogBase
        if index == replica.disk.base.index {
            base = replica.disk.base
        } else {
            guard let entry = replica.disk.entry(at: index) else {
                preconditionFailure("applied \(index) is not on disk")
            }
            base = LogBase(
                index: index, term: entry.term, chain: entry.chain, configuration: replica.raft.configuration(at: index)
            )
        }
        return Transfer(
            id: SnapshotID(
                source: ReplicaID(id), incarnation: Incarnation(replica.incarnation), number: snapshotNumber),
            base: base, from: peer(id), to: target)
    }

    /// Ends the oldest transfer.
    package mutating func finishTransfer(fail: Bool = false) {
        guard !transfers.isEmpty else { return }
        let transfer = transfers.removeFirst()
        let target = transfer.to.replica.rawValue
        let source = transfer.from.replica.rawValue
        guard !fail, replicas[target]?.isUp == true, !isCut(source, target) else {
            return step(source, .snapshotSent(transfer.to.replica, installed: nil))
        }
        step(target, .snapshotReceived(transfer.id, base: transfer.base, from: transfer.from))
        step(source, .snapshotSent(transfer.to.replica, installed: transfer.base.index))
    }

    // MARK: The network

    package func isCut(_ from: UInt64, _ to: UInt64) -> Bool { cuts.contains(Cut(from: from, to: to)) }

    package mutating func cut(_ a: UInt64, _ b: UInt64) {
        cuts.insert(Cut(from: a, to: b))
        cuts.insert(Cut(from: b, to: a))
    }

    package mutating func isolate(_ id: UInt64) {
        for other in ids where other != id { cut(id, other) }
    }

    package mutating func heal() { cuts.removeAll() }

    package mutating func deliver(_ message: Message) {
        let to = message.to.replica.rawValue
        guard replicas[to]?.isUp == true, !isCut(message.from.replica.rawValue, to) else { return }
        step(to, .received(message))
    }

    /// Delivers, oldest first, the messages for which `isWanted` holds, and what they lead to.
    package mutating func deliver(where isWanted: (Message) -> Bool = { _ in true }) {
        var budget = 100_000
        while let i = network.firstIndex(where: isWanted) {
            let message = network.remove(at: i)
            deliver(message)
            budget -= 1
            if budget == 0 { problems.append("messages never come to an end") }
            if !problems.isEmpty { return }
        }
    }

    /// Takes the messages for which `isWanted` holds off the network.
    @discardableResult
    package mutating func take(where isWanted: (Message) -> Bool = { _ in true }) -> [Message] {
        let taken = network.filter(isWanted)
        network.removeAll(where: isWanted)
        return taken
    }

    // MARK: Time

    package var deadline: Instant? { upIDs.compactMap { self[$0].raft.deadline }.min() }

    /// Lets time pass: delivers everything, and ticks replicas as their deadlines come.
    package mutating func run(for length: Nanoseconds) {
        let end = now + length
        var budget = 20_000
        while true {
            deliver()
            while !transfers.isEmpty {
                finishTransfer()
                deliver()
            }
            guard let next = deadline, next <= end else { break }
            now = max(now, next)
            for id in upIDs where self[id].raft.deadline.map({ $0 <= now }) == true { step(id, .tick) }
            budget -= 1
            if budget == 0 { problems.append("timers never come to an end") }
            if !problems.isEmpty { break }
        }
        now = end
    }

    /// What the nodes' beats would tell: who is dead, who came back, and whose leader does not lead any more.
    package mutating func beat() {
        for id in upIDs {
            for other in ids where other != id {
                let isReachable = self[other].isUp && !isCut(other, id)
                let isDoubted = self[id].raft.suspected.contains(NodeID(other))
                if !isReachable {
                    if !isDoubted { step(id, .nodeSuspected(NodeID(other))) }
                    continue
                }
                if isDoubted { step(id, .nodeAlive(NodeID(other))) }
                if let leader = self[id].raft.leader, leader.replica.rawValue == other, !self[id].raft.isLeader {
                    let leads = self[other].raft.isLeader && self[other].raft.term == self[id].raft.term
                    if !leads { step(id, .leadershipDenied(NodeID(other), term: self[id].raft.term)) }
                }
            }
        }
    }

    /// Time with beats every 15 ms.
    package mutating func live(for length: Nanoseconds) {
        let end = now + length
        while now < end, problems.isEmpty {
            beat()
            run(for: min(.milliseconds(15), end - now))
        }
    }

    // MARK: Crashing

    /// Ends a replica. Of its writes under way the oldest `durable` reach the disk.
    package mutating func crash(_ id: UInt64, durable: Int = 0) {
        for write in self[id].writes.prefix(durable) {
            self[id].disk.take(write)
            if write.snapshot != nil, let base = write.base { self[id].applied = max(self[id].applied, base.index) }
        }
        self[id].writes = []
        self[id].fetches = []
        self[id].snapshots = []
        self[id].isUp = false
        let broken = transfers.filter { $0.to.replica.rawValue == id }
        transfers.removeAll { $0.from.replica.rawValue == id || $0.to.replica.rawValue == id }
        for transfer in broken {
            step(transfer.from.replica.rawValue, .snapshotSent(transfer.to.replica, installed: nil))
        }
    }

    /// Starts it again from its disk and tells the others.
    package mutating func restart(_ id: UInt64, announced: Bool = true) {
        let old = self[id]
        let restored = RestoredLog(hardState: old.disk.hardState, base: old.disk.base, entries: old.disk.entries)
        let raft = Raft(
            peer: peer(id), incarnation: Incarnation(old.incarnation + 1), restored: restored, applied: old.applied,
            settings: settings, seed: seed &* 1_000_003 &+ old.incarnation &* 997 &+ id, now: now)
        self[id].raft = raft
        self[id].incarnation += 1
        self[id].handedOut = old.applied
        self[id].isUp = true
        guard announced else { return }
        for other in upIDs where other != id { step(other, .nodeRestarted(NodeID(id))) }
    }

    // MARK: Shortcuts

    /// Makes `id` leader, by its timer and the answers of the others. Without `delivers` nobody hears of it yet.
    package mutating func elect(_ id: UInt64, delivers: Bool = true) {
        for other in upIDs {
            if let leader = self[other].raft.leader, leader.replica.rawValue != id, !self[other].raft.isLeader {
                step(other, .linkBroken(leader.node))
            }
        }
        for _ in 0..<8 where !self[id].raft.isLeader {
            if let deadline = self[id].raft.electionDeadline { now = max(now, deadline) }
            step(id, .tick)
            deliver { $0.append == nil }
        }
        if delivers { deliver() }
        if !self[id].raft.isLeader { problems.append("r\(id) was not elected") }
    }

    package mutating func propose(_ id: UInt64, _ payloads: [UInt8]...) { step(id, .propose(payloads)) }

    /// An append as the leader of `term` would send it.
    package func append(
        from: UInt64, to: UInt64, term: UInt64, after previous: Entry?, _ entries: [Entry], commit: UInt64
    ) -> Message {
        Message(
            from: peer(from), to: peer(to), epoch: .zero, term: Term(term),
            body: .append(
                Append(
                    previousIndex: previous?.index ?? .zero, previousTerm: previous?.term ?? .zero,
                    previousChain: previous?.chain ?? 0, commit: LogIndex(commit), entries: entries)))
    }

    /// What `id` hands over as leader until the configuration in force there is joint; the rest stays on the network.
    package mutating func deliverUntilJoint(_ id: UInt64) {
        while !self[id].raft.configuration.isJoint, !network.isEmpty { deliver(network.removeFirst()) }
    }

    package func message(from: UInt64, to: UInt64, term: UInt64, _ body: Message.Body) -> Message {
        Message(from: peer(from), to: peer(to), epoch: .zero, term: Term(term), body: body)
    }

    // MARK: The properties of figure 3

    private mutating func audit(_ id: UInt64, commitBefore: LogIndex, _ configurationBefore: Configuration) {
        let raft = self[id].raft
        #if MUTANTS
        if let violation = raft.violation { return problems.append("r\(id): \(violation)") }
        #endif
        if raft.commit < commitBefore { problems.append("r\(id): commit fell from \(commitBefore) to \(raft.commit)") }
        if raft.isLeader {
            let term = raft.term.rawValue
            if let known = leaders[term], known != id {
                problems.append("two leaders in term \(term): r\(known) and r\(id)")
            } else if leaders[term] == nil {
                leaders[term] = id
                auditCompleteness(id)
            }
        }
        if raft.commit > commitBefore {
            if raft.isLeader { auditQuorum(id, configurationBefore) }
            learnCommit(of: id, from: commitBefore)
        }
        if raft.deadline == nil && raft.phase != .leader && raft.isLeaderDoubted && raft.mayCampaign {
            problems.append("r\(id) has no leader and no timer")
        }
    }

    /// Leader completeness: a new leader holds all that was ever committed.
    private mutating func auditCompleteness(_ id: UInt64) {
        let raft = self[id].raft
        var index = raft.base.index.next
        while index.rawValue <= committedLast {
            if let known = committed[index.rawValue], raft.term(at: index) != known.term {
                problems.append("leader r\(id) of term \(raft.term) lacks the committed entry \(index)")
                return
            }
            index = index.next
        }
    }

    /// What a leader takes for committed is on the disks of a majority, those of crashed replicas counted. Of the
    /// configuration before the entry, or of the one before that if it committed in the same step: quorums of
    /// neighbours intersect.
    private mutating func auditQuorum(_ id: UInt64, _ configurationBefore: Configuration) {
        let raft = self[id].raft
        guard let term = raft.term(at: raft.commit) else { return }
        let holders = Set(
            ids.filter { self[$0].disk.base.index >= raft.commit || self[$0].disk.term(at: raft.commit) == term })
        let counted = [configurationBefore, raft.configuration(at: raft.commit.previous)]
        if counted.contains(where: { isQuorum(holders, of: $0) }) { return }
        problems.append("r\(id) committed \(raft.commit), which is on the disks of \(holders.sorted()) only")
    }

    package func isQuorum(_ holders: Set<UInt64>, of configuration: Configuration) -> Bool {
        for half in [\Role.votesInOldHalf, \Role.votesInNewHalf] {
            let voters = configuration.members.filter { $0.role[keyPath: half] }
            let held = voters.count { holders.contains($0.peer.replica.rawValue) }
            if held <= voters.count / 2 { return false }
        }
        return true
    }

    private mutating func learnCommit(of id: UInt64, from before: LogIndex) {
        let raft = self[id].raft
        var index = max(before, raft.base.index).next
        while index <= raft.commit {
            if let term = raft.term(at: index) { note(index, term, raft.chain(at: index), by: id) }
            index = index.next
        }
    }

    /// State machine safety: nobody takes another entry at this index for committed.
    private mutating func note(_ index: LogIndex, _ term: Term, _ chain: UInt64?, by id: UInt64) {
        guard index > .zero else { return }
        committedLast = max(committedLast, index.rawValue)
        guard let known = committed[index.rawValue] else {
            committed[index.rawValue] = (term, chain)
            return
        }
        if known.term != term || (known.chain != nil && chain != nil && known.chain != chain) {
            problems.append("r\(id) takes another entry at \(index) for committed: term \(term), not \(known.term)")
        }
        if known.chain == nil { committed[index.rawValue] = (term, chain) }
    }

    /// Log matching: where two logs hold an entry of the same index and term, they are equal up to there.
    package mutating func auditLogs() {
        for a in ids {
            for b in ids where b > a {
                let one = self[a].raft
                let other = self[b].raft
                var index = max(one.base.index, other.base.index)
                var haveDiffered = false
                while index <= min(one.lastIndex, other.lastIndex) {
                    let isSameTerm = one.term(at: index) == other.term(at: index)
                    if let x = one.chain(at: index), let y = other.chain(at: index) {
                        if isSameTerm && (x != y || haveDiffered) {
                            problems.append("r\(a) and r\(b) differ at or before \(index), but agree on its term")
                            break
                        }
                        if x != y { haveDiffered = true }
                    }
                    index = index.next
                }
            }
        }
    }

    /// Whether all replicas of `members` that run hold and have applied the same log.
    package func isConverged(_ members: [UInt64]) -> Bool {
        guard let first = members.first else { return true }
        let raft = self[first].raft
        return members.allSatisfy {
            self[$0].raft.lastIndex == raft.lastIndex && self[$0].raft.lastChain == raft.lastChain
                && self[$0].raft.commit == raft.lastIndex && self[$0].applied == raft.lastIndex
        }
    }
}

extension Event {
    package var isLeadershipStart: Bool { if case .becameLeader = self { true } else { false } }
}

extension Message {
    package func isTo(_ id: UInt64) -> Bool { to.replica.rawValue == id }
    package func isFrom(_ id: UInt64) -> Bool { from.replica.rawValue == id }
    package var append: Append? { if case .append(let append) = body { append } else { nil } }
    package var appendAnswer: AppendAnswer? { if case .appendAnswer(let answer) = body { answer } else { nil } }
    package var voteAnswer: VoteAnswer? { if case .voteAnswer(let answer) = body { answer } else { nil } }
    package var preVoteAnswer: VoteAnswer? { if case .preVoteAnswer(let answer) = body { answer } else { nil } }
    package var isVote: Bool { if case .vote = body { true } else { false } }
    package var isPreVote: Bool { if case .preVote = body { true } else { false } }
    package var isCampaignNow: Bool { if case .campaignNow = body { true } else { false } }
    package var isStale: Bool { if case .stale = body { true } else { false } }
}

extension AppendAnswer {
    package var match: LogIndex? { if case .accepted(let match) = verdict { match } else { nil } }
}

/// A log of commands with these terms, from index 1 on.
package func entries(_ terms: [UInt64]) -> [Entry] { entries(terms, after: nil) }

package func entries(_ terms: [UInt64], after previous: Entry?) -> [Entry] {
    var list: [Entry] = []
    var last = previous
    for term in terms {
        let entry = Entry(
            index: last?.index.next ?? LogIndex(1), term: Term(term), after: last?.chain ?? 0,
            content: .command([UInt8(truncatingIfNeeded: term)]))
        list.append(entry)
        last = entry
    }
    return list
}

/// A replica's disk after some history.
package func restored(
    _ configuration: Configuration, term: UInt64, votedFor: UInt64? = nil, commit: UInt64 = 0, _ log: [Entry]
) -> RestoredLog {
    RestoredLog(
        hardState: HardState(term: Term(term), votedFor: votedFor.map { ReplicaID($0) }, commit: LogIndex(commit)),
        base: LogBase(index: .zero, term: .zero, chain: 0, configuration: configuration), entries: log)
}
