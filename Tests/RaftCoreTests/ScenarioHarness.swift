import ClusterBase

@testable import RaftCore

/// A deterministic cluster of replicas in memory: a clock that only commands move, one queue per ordered pair of
/// replicas, a disk per replica whose writes end when a command says so. Every step is checked against the cluster as a
/// whole; a breach is a line that begins with `VIOLATION`.
struct ScenarioHarness {
    /// What survives a crash.
    struct Disk {
        var hardState = HardState()
        var base: LogBase
        var entries: [Entry] = []
        /// What the state machine's own storage holds after a restart.
        var applied: LogIndex = .zero

        var last: LogIndex { base.index.advanced(by: entries.count) }

        func entry(at index: LogIndex) -> Entry? {
            index > base.index && index <= last ? entries[index - base.index - 1] : nil
        }

        mutating func take(_ write: LogWrite) {
            hardState = write.hardState
            if write.snapshot != nil, let newBase = write.base {
                base = newBase
                entries = []
                applied = newBase.index
            }
            if let first = write.entries.first {
                entries.removeLast(max(0, last - first.index.previous))
                entries.append(contentsOf: write.entries)
            }
            entries.removeLast(max(0, last - write.last))
            if write.snapshot == nil, let newBase = write.base {
                entries.removeFirst(newBase.index - base.index)
                base = newBase
                applied = max(applied, newBase.index)
            }
        }
    }

    struct Replica {
        var raft: Raft?
        var disk: Disk
        var incarnation: UInt64 = 1
        var pending: [LogWrite] = []
        var fetches: [Fetch] = []
        var applied: LogIndex = .zero
        var handedOut: LogIndex = .zero
        var isDiskHeld = false
        var isApplyHeld = false
        var areFetchesHeld = false
        var captured: LogBase?
    }

    struct Sent {
        var number: Int
        var message: Message
    }

    struct Link: Hashable, Comparable {
        var from: UInt64
        var to: UInt64
        static func < (a: Link, b: Link) -> Bool { (a.from, a.to) < (b.from, b.to) }
    }

    var settings = Settings()
    var now = Instant.origin
    var replicas: [UInt64: Replica] = [:]
    var queue: [Sent] = []
    var sentCount = 0
    var cut: Set<Link> = []
    var held: Set<Link> = []
    var suspicions: Set<Link> = []
    var snapshotCount: UInt64 = 0
    var output: [String] = []
    /// While the cluster runs by itself a message is shown when it arrives, else when it is sent.
    var showsSent = true

    // What no step may contradict.
    private var leaderOfTerm: [String: UInt64] = [:]
    /// By epoch: a forced recovery may begin another history.
    private var appliedChains: [Epoch: [LogIndex: UInt64]] = [:]

    var ids: [UInt64] { replicas.keys.sorted() }

    mutating func line(_ text: String) { output.append(text) }

    static func peer(_ id: UInt64) -> Peer { Peer(replica: ReplicaID(id), node: NodeID(id)) }

    // MARK: Life of a replica

    mutating func start(_ id: UInt64, _ configuration: Configuration) {
        let base = LogBase(index: .zero, term: .zero, chain: 0, configuration: configuration)
        replicas[id] = Replica(raft: nil, disk: Disk(base: base))
        boot(id)
    }

    /// Starts a replica from its disk alone.
    mutating func boot(_ id: UInt64) {
        guard var replica = replicas[id] else { return }
        let disk = replica.disk
        var restored = RestoredLog(empty: disk.base, hardState: disk.hardState)
        for entry in disk.entries { restored.append(entry) }
        replica.applied = disk.applied
        replica.handedOut = disk.applied
        replica.pending = []
        replica.fetches = []
        replica.raft = Raft(
            peer: Self.peer(id), incarnation: Incarnation(replica.incarnation), restored: restored,
            applied: disk.applied, settings: settings, seed: id, now: now)
        replicas[id] = replica
    }

    mutating func crash(_ id: UInt64) {
        replicas[id]?.raft = nil
        replicas[id]?.pending = []
        replicas[id]?.fetches = []
        replicas[id]?.incarnation += 1
    }

    // MARK: Steps

    mutating func step(_ id: UInt64, _ input: Input) {
        guard var raft = replicas[id]?.raft else { return line("\(id) is down") }
        let wasLeader = raft.isLeader
        let before = raft
        var effects = Effects()
        raft.step(input, now: now, into: &effects)
        replicas[id]?.raft = raft
        show(id, effects)
        if raft.isLeader { checkLeader(id, raft) }
        if wasLeader && raft.isLeader && raft.commit > before.commit { checkCommit(id, before, raft) }
        for message in effects.messages { send(message) }
        for write in effects.writes { replicas[id]?.pending.append(write) }
        replicas[id]?.fetches.append(contentsOf: effects.fetches)
        if let commit = effects.commit { replicas[id]?.handedOut = commit }
        if replicas[id]?.isApplyHeld == false { apply(id) }
    }

    private mutating func send(_ message: Message) {
        let link = Link(from: message.from.replica.rawValue, to: message.to.replica.rawValue)
        if link.from == link.to { line("VIOLATION \(link.from) sends to itself") }
        if cut.contains(link) || replicas[link.to]?.raft == nil {
            return line("\(text(message)) (lost)")
        }
        sentCount += 1
        queue.append(Sent(number: sentCount, message: message))
        if showsSent { line(text(message)) }
    }

    /// Lets the state machine take what was handed out.
    mutating func apply(_ id: UInt64) {
        guard let replica = replicas[id], replica.raft != nil, replica.handedOut > replica.applied else { return }
        let epoch = replica.raft?.epoch ?? .zero
        var names: [String] = []
        var index = replica.applied.next
        while index <= replica.handedOut {
            guard let entry = replica.disk.entry(at: index) else {
                line("VIOLATION \(id) applies \(index), which is not on its disk")
                return
            }
            if let chain = appliedChains[epoch]?[index], chain != entry.chain {
                line("VIOLATION \(id) applies another entry \(index) than was applied elsewhere")
            }
            appliedChains[epoch, default: [:]][index] = entry.chain
            names.append(text(entry))
            index = index.next
        }
        line("\(id) applies \(names.joined(separator: ", "))")
        replicas[id]?.applied = replica.handedOut
        step(id, .applied(replica.handedOut))
    }

    /// Ends the next `count` writes of a replica.
    mutating func persist(_ id: UInt64, _ count: Int) {
        guard let replica = replicas[id], !replica.pending.isEmpty else { return }
        let done = Array(replica.pending.prefix(count))
        replicas[id]?.pending.removeFirst(done.count)
        for write in done {
            replicas[id]?.disk.take(write)
            if write.snapshot != nil, let base = write.base {
                replicas[id]?.applied = base.index
                replicas[id]?.handedOut = max(base.index, replica.handedOut)
            }
        }
        if let last = done.last { step(id, .persisted(sequence: last.sequence)) }
    }

    mutating func answerFetch(_ id: UInt64) {
        guard let replica = replicas[id], let fetch = replica.fetches.first else {
            return line("\(id) has no fetch to answer")
        }
        let disk = replica.disk
        replicas[id]?.fetches.removeFirst()
        var entries: [Entry] = []
        var bytes = 0
        var index = fetch.from
        while index <= fetch.through, let entry = disk.entry(at: index) {
            bytes += entry.byteCount
            if !entries.isEmpty && bytes > fetch.bytesMax { break }
            entries.append(entry)
            index = index.next
        }
        if entries.isEmpty { return step(id, .fetchFailed(fetch.peer.replica)) }
        let chain = disk.entry(at: fetch.from.previous)?.chain ?? 0
        step(id, .fetched(fetch.peer.replica, entries: entries, previousChain: chain))
    }

    mutating func deliver(_ sent: Sent) {
        queue.removeAll { $0.number == sent.number }
        let isLost = replicas[sent.message.to.replica.rawValue]?.raft == nil
        line(text(sent.message) + (isLost ? " (lost)" : ""))
        if isLost { return }
        step(sent.message.to.replica.rawValue, .received(sent.message))
    }

    static let stabilizeStepsMax = 2_000

    /// Ends all writes, answers all fetches and delivers all messages among `only`, oldest first, until nothing moves.
    mutating func stabilize(_ only: [UInt64], until isEnough: (ScenarioHarness) -> Bool = { _ in false }) {
        showsSent = false
        defer { showsSent = true }
        var steps = 0
        while steps < Self.stabilizeStepsMax {
            if isEnough(self) { return }
            steps += 1
            if let id = only.first(where: { hasWriteToEnd($0) }) {
                persist(id, .max)
            } else if let id = only.first(where: { hasFetchToAnswer($0) }) {
                answerFetch(id)
            } else if let sent = queue.first(where: { mayArrive($0, only) }) {
                deliver(sent)
            } else {
                return
            }
        }
        line("VIOLATION the cluster does not come to rest within \(steps) steps")
    }

    private func hasWriteToEnd(_ id: UInt64) -> Bool {
        guard let replica = replicas[id] else { return false }
        return !replica.isDiskHeld && !replica.pending.isEmpty
    }

    private func hasFetchToAnswer(_ id: UInt64) -> Bool {
        guard let replica = replicas[id] else { return false }
        return !replica.areFetchesHeld && !replica.fetches.isEmpty
    }

    private func mayArrive(_ sent: Sent, _ only: [UInt64]) -> Bool {
        let link = Link(from: sent.message.from.replica.rawValue, to: sent.message.to.replica.rawValue)
        return only.contains(link.from) && only.contains(link.to) && !held.contains(link)
    }

    /// Moves the clock, ticking whoever is due; between ticks the cluster comes to rest if `delivers`.
    mutating func run(_ length: Nanoseconds, delivers: Bool) {
        let end = now + length
        if delivers { stabilize(ids) }
        while let (due, id) = nextDeadline(), due <= end {
            now = max(now, due)
            line("\(id) ticks at \((now - .origin).milliseconds)ms")
            step(id, .tick)
            if delivers { stabilize(ids) }
            if output.count > 4 * Self.stabilizeStepsMax {
                return line("VIOLATION timers never rest")
            }
        }
        now = end
    }

    private func nextDeadline() -> (Instant, UInt64)? {
        var best: (Instant, UInt64)?
        for id in ids {
            guard let due = replicas[id]?.raft?.deadline else { continue }
            if let known = best, known.0 <= due { continue }
            best = (due, id)
        }
        return best
    }

    // MARK: Checks over the cluster

    private mutating func checkLeader(_ id: UInt64, _ raft: Raft) {
        let key = "\(raft.epoch)/\(raft.term)"
        if let other = leaderOfTerm[key], other != id {
            line("VIOLATION \(other) and \(id) both lead in term \(raft.term)")
        }
        leaderOfTerm[key] = id
    }

    /// What a leader commits is on the disks of a majority, of both halves if its configuration is joint.
    private mutating func checkCommit(_ id: UInt64, _ before: Raft, _ after: Raft) {
        guard let chain = after.chain(at: after.commit) else { return }
        for configuration in [before.configuration, after.configuration] {
            if isOnMajority(after.commit, chain, configuration, \.votesInOldHalf)
                && isOnMajority(after.commit, chain, configuration, \.votesInNewHalf)
            {
                return
            }
        }
        line("VIOLATION \(id) commits \(after.commit), which no majority has on disk")
    }

    private func isOnMajority(
        _ index: LogIndex, _ chain: UInt64, _ configuration: Configuration, _ counts: (Role) -> Bool
    ) -> Bool {
        var voters = 0
        var holders = 0
        for member in configuration.members where counts(member.role) {
            voters += 1
            guard let disk = replicas[member.peer.replica.rawValue]?.disk else { continue }
            if disk.base.index >= index || disk.entry(at: index)?.chain == chain { holders += 1 }
        }
        return holders > voters / 2
    }
}
