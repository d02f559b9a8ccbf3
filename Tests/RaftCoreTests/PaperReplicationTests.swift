import ClusterBase
import RaftScripts
import Testing

@testable import RaftCore

// One test per rule of the Raft paper on logs: §5.3, §5.4.2, §5.5, §7, §8, thesis §6.4 and §10.2.1.

@Suite struct PaperReplicationTests {
    private func follower(term: UInt64, _ log: [UInt64], commit: UInt64 = 0) -> RaftTestCluster {
        let configuration = Configuration.voters(1...3)
        var cluster = RaftTestCluster(configuration, up: [])
        cluster.add(1, restored(configuration, term: term, commit: commit, entries(log)))
        return cluster
    }

    private func terms(_ raft: Raft) -> [UInt64] {
        var list: [UInt64] = []
        var index = raft.base.index.next
        while index <= raft.lastIndex {
            list.append(raft.term(at: index)?.rawValue ?? 0)
            index = index.next
        }
        return list
    }

    // MARK: §5.3

    /// §5.3: "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel to
    /// each of the other servers."
    @Test func `a proposal is appended and sent to all others at once`() {
        var cluster = RaftTestCluster(voters: 5)
        cluster.elect(1)
        cluster.deliver()
        cluster.propose(1, [7], [8])
        #expect(cluster[1].proposals == [.appended(index: LogIndex(2), term: Term(1))])
        let appends = cluster.network.compactMap(\.append)
        #expect(appends.count == 4)
        #expect(appends.allSatisfy { $0.entries.map(\.content) == [.command([7]), .command([8])] })
    }

    /// §5.3: "When the entry has been safely replicated, the leader applies the entry." A majority, itself included.
    @Test func `an entry commits with the majority's answers and not before`() {
        var cluster = RaftTestCluster(voters: 5)
        cluster.elect(1)
        cluster.deliver()
        cluster.propose(1, [7])
        cluster.deliver { $0.isTo(2) || $0.isFrom(2) }
        #expect(cluster[1].raft.commit == LogIndex(1))
        cluster.deliver { $0.isTo(3) || $0.isFrom(3) }
        #expect(cluster[1].raft.commit == LogIndex(2))
        #expect(cluster[1].applied == LogIndex(2))
    }

    /// §5.3: "Once a follower learns that a log entry is committed, it applies the entry to its local state machine (in
    /// log order)." The harness checks the order and the entries.
    @Test func `followers learn the commit and apply in log order`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        for i in 0..<20 { cluster.propose(1, [UInt8(i)]) }
        cluster.deliver()
        for id in cluster.ids { #expect(cluster[id].applied == LogIndex(21)) }
        #expect(cluster.problems.isEmpty)
        // And then all is quiet: nobody owes anybody anything.
        for id in cluster.ids { #expect(cluster[id].raft.deadline == nil) }
    }

    /// §5.3: "the leader retries AppendEntries RPCs indefinitely (even after it has responded to the client) until all
    /// followers eventually store all log entries".
    @Test func `what is lost on the way is sent again until every follower has it`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.cut(1, 3)
        cluster.propose(1, [7])
        cluster.run(for: .seconds(2))
        #expect(cluster[1].raft.commit == LogIndex(2) && cluster[3].raft.lastIndex == LogIndex(1))
        cluster.heal()
        cluster.run(for: .seconds(2))
        #expect(cluster.isConverged([1, 2, 3]))
    }

    @Test func `a lost commit notice is sent again although nothing else happens`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.propose(1, [7])
        cluster.deliver { $0.append?.entries.isEmpty != true }
        #expect(cluster[1].raft.commit == LogIndex(2) && cluster[2].raft.commit == LogIndex(1))
        cluster.take()
        cluster.run(for: .seconds(1))
        #expect(cluster.isConverged([1, 2, 3]))
    }

    /// §5.3, Figure 2 AppendEntries 2: "Reply false if log doesn't contain an entry at prevLogIndex whose term matches".
    @Test(
        arguments: [([], 3, 2), ([1, 1], 3, 2), ([1, 1, 1], 3, 2), ([1, 1, 1, 1], 3, 2)] as [([UInt64], Int, UInt64)])
    func `an append that does not fit is refused and changes nothing`(log: [UInt64], previous: Int, term: UInt64) {
        var cluster = follower(term: 2, log)
        let sent = entries([1, 2, 2, 2])
        cluster.step(
            1, .received(cluster.append(from: 2, to: 1, term: 2, after: sent[previous - 1], [sent[3]], commit: 4)))
        #expect(terms(cluster[1].raft) == log)
        #expect(cluster[1].raft.commit == .zero)
        guard case .rejected(let refused, _, _) = cluster.take().first?.appendAnswer?.verdict else {
            Issue.record("not refused")
            return
        }
        #expect(refused == LogIndex(3))
    }

    /// Figure 2 AppendEntries 3: "If an existing entry conflicts with a new one (same index but different terms), delete
    /// the existing entry and all that follow it." And 4: "Append any new entries not already in the log."
    @Test func `a conflict removes the entry and all after it, on disk too`() {
        var cluster = follower(term: 3, [1, 2, 2, 2])
        let log = entries([1, 3])
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 3, after: log[0], [log[1]], commit: 0)))
        #expect(terms(cluster[1].raft) == [1, 3])
        #expect(cluster[1].disk.entries == log)
        #expect(cluster.take().first?.appendAnswer?.match == LogIndex(2))
    }

    @Test func `entries that are there already are kept, and those after them too`() {
        var cluster = follower(term: 2, [1, 2, 2, 2])
        let log = entries([1, 2, 2, 2])
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 2, after: nil, Array(log[0..<2]), commit: 0)))
        #expect(terms(cluster[1].raft) == [1, 2, 2, 2])
        #expect(cluster.take().first?.appendAnswer?.match == LogIndex(2))
    }

    /// Figure 2 AppendEntries 5: "set commitIndex = min(leaderCommit, index of last new entry)".
    @Test(
        arguments: [(leader: 1, expected: 1), (leader: 2, expected: 2), (leader: 9, expected: 2)]
            as [(leader: UInt64, expected: UInt64)])
    func `the commit follows the leader's up to the last entry that is known to be equal`(
        leader: UInt64, expected: UInt64
    ) {
        var cluster = follower(term: 2, [1, 1, 1, 1])
        let log = entries([1, 1, 1, 1])
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 2, after: log[0], [log[1]], commit: leader)))
        #expect(cluster[1].raft.commit == LogIndex(expected))
    }

    @Test func `the commit never falls`() {
        var cluster = follower(term: 2, [1, 1, 1], commit: 3)
        let log = entries([1, 1, 1])
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 2, after: log[0], [log[1]], commit: 1)))
        #expect(cluster[1].raft.commit == LogIndex(3))
    }

    /// §5.3: "Raft never commits …" — a leader "never overwrites or deletes entries in its own log" (Leader Append-Only).
    @Test func `a leader does not take entries from another one of its term`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.propose(1, [1])
        let other = entries([1], after: cluster[1].disk.entry(at: LogIndex(1)))
        cluster.step(
            1,
            .received(
                cluster.append(from: 2, to: 1, term: 1, after: cluster[1].disk.entry(at: LogIndex(1)), other, commit: 1)
            ))
        #expect(cluster[1].raft.cachedEntry(at: LogIndex(2))?.content == .command([1]))
        #expect(cluster[1].events.contains(.malformed(from: cluster.peer(2), .twoLeadersInOneTerm)))
    }

    /// §5.3: "When a leader first comes to power, it initializes all nextIndex values to the index just after the last
    /// one in its log", and Figure 2: matchIndex starts at zero.
    @Test func `a new leader assumes its own log and knows of no match`() {
        var cluster = follower(term: 2, [1, 1, 2])
        cluster.now = cluster[1].raft.electionDeadline ?? cluster.now
        cluster.step(1, .tick)
        let yes = VoteAnswer(isGranted: true, campaignTerm: Term(3), leader: nil)
        cluster.step(1, .received(cluster.message(from: 2, to: 1, term: 2, .preVoteAnswer(yes))))
        cluster.step(1, .received(cluster.message(from: 2, to: 1, term: 3, .voteAnswer(yes))))
        #expect(cluster[1].raft.isLeader)
        for progress in cluster[1].raft.progress where progress.member.peer != cluster.peer(1) {
            #expect(progress.next == LogIndex(4))
            #expect(progress.match == .zero)
        }
    }

    /// §5.3: "After a rejection, the leader decrements nextIndex and retries."
    @Test func `after a refusal the leader tries further down at once`() {
        var cluster = follower(term: 2, [1, 1, 2])
        cluster.now = cluster[1].raft.electionDeadline ?? cluster.now
        cluster.step(1, .tick)
        let yes = VoteAnswer(isGranted: true, campaignTerm: Term(3), leader: nil)
        cluster.step(1, .received(cluster.message(from: 2, to: 1, term: 2, .preVoteAnswer(yes))))
        cluster.step(1, .received(cluster.message(from: 2, to: 1, term: 3, .voteAnswer(yes))))
        cluster.take()
        let no = AppendAnswer(
            verdict: .rejected(previousIndex: LogIndex(3), hintIndex: LogIndex(1), hintTerm: Term(1)), commit: .zero)
        cluster.step(1, .received(cluster.message(from: 2, to: 1, term: 3, .appendAnswer(no))))
        let retry = cluster.take().compactMap(\.append)
        #expect(retry.count == 1 && retry[0].previousIndex == LogIndex(1) && retry[0].entries.count == 3)
    }

    /// Figure 7: a leader of term 8 over followers that lack entries, hold extra ones, or both.
    @Test(
        arguments: [
            [1, 1, 1, 4, 4, 5, 5, 6, 6], [1, 1, 1, 4], [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
            [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
            [1, 1, 1, 4, 4, 4, 4], [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
        ] as [[UInt64]])
    func `a leader makes any follower of figure 7 equal to itself`(log: [UInt64]) {
        let configuration = Configuration.voters(1...3)
        var cluster = RaftTestCluster(configuration, up: [])
        let leader = entries([1, 1, 1, 4, 4, 5, 5, 6, 6, 6])
        cluster.add(1, restored(configuration, term: 7, leader))
        cluster.add(2, restored(configuration, term: 7, leader))
        cluster.add(3, restored(configuration, term: 7, entries(log)))
        cluster.elect(1)
        cluster.run(for: .seconds(1))
        #expect(cluster[1].raft.term == Term(8))
        #expect(cluster.isConverged([1, 2, 3]))
        #expect(cluster.problems.isEmpty, "\(cluster.problems)")
    }

    // MARK: §5.4.2

    /// §5.4.2, figure 8: "Raft never commits log entries from previous terms by counting replicas."
    @Test func `an entry of an older term commits only with one of the leader's own term`() {
        let configuration = Configuration.voters(1...5)
        var cluster = RaftTestCluster(configuration, up: [])
        cluster.add(1, restored(configuration, term: 3, entries([1, 2])))
        cluster.add(2, restored(configuration, term: 3, entries([1, 2])))
        cluster.add(3, restored(configuration, term: 3, entries([1])))
        cluster.add(4, restored(configuration, term: 3, entries([1])))
        cluster.elect(1, delivers: false)
        cluster.take()
        // Index 2, of term 2, is now on three of five; the entry of the own term is not yet.
        let held = AppendAnswer(verdict: .accepted(match: LogIndex(2)), commit: .zero)
        let term = cluster[1].raft.term.rawValue
        for id in [2, 3] as [UInt64] {
            cluster.step(1, .received(cluster.message(from: id, to: 1, term: term, .appendAnswer(held))))
        }
        #expect(cluster[1].raft.commit == .zero)
        let all = AppendAnswer(verdict: .accepted(match: LogIndex(3)), commit: .zero)
        for id in [2, 3] as [UInt64] {
            cluster[id].disk.entries = cluster[1].disk.entries
            cluster.step(1, .received(cluster.message(from: id, to: 1, term: term, .appendAnswer(all))))
        }
        #expect(cluster[1].raft.commit == LogIndex(3))
    }

    // MARK: §5.5

    /// §5.5: "Raft RPCs are idempotent, so this causes no harm."
    @Test func `the same append twice changes the log once and is answered twice`() {
        var cluster = follower(term: 1, [])
        let append = cluster.append(from: 2, to: 1, term: 1, after: nil, entries([1, 1]), commit: 1)
        cluster.step(1, .received(append))
        let raft = cluster[1].raft
        cluster.persistsAtOnce = false
        cluster.step(1, .received(append))
        #expect(cluster[1].writes.isEmpty)
        #expect(cluster[1].raft.lastChain == raft.lastChain)
        #expect(cluster.take().compactMap { $0.appendAnswer?.match } == [LogIndex(2), LogIndex(2)])
    }

    // MARK: §7 snapshots

    /// §7: the snapshot keeps "the last included index" and "last included term" "to support the AppendEntries
    /// consistency check for the first log entry following the snapshot" and "the latest configuration".
    @Test func `behind a cut log the consistency check still works`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        for i in 0..<9 { cluster.propose(1, [UInt8(i)]) }
        cluster.deliver()
        let chain = cluster[2].disk.chain(at: LogIndex(10)) ?? 0
        cluster.step(2, .compact(through: LogIndex(10), chain: chain))
        #expect(
            cluster[2].disk.base
                == LogBase(index: LogIndex(10), term: Term(1), chain: chain, configuration: cluster.firstMembers))
        #expect(cluster[2].disk.entries.isEmpty)
        cluster.propose(1, [99])
        cluster.deliver()
        #expect(cluster.isConverged([1, 2, 3]))
        cluster.crash(2)
        cluster.restart(2)
        cluster.propose(1, [100])
        cluster.deliver()
        #expect(cluster.isConverged([1, 2, 3]))
    }

    /// §7: "the leader must occasionally send snapshots to followers that lag behind … when the leader has already
    /// discarded the next log entry that it needs to send".
    @Test func `a follower that needs what is discarded gets a snapshot and then entries`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.isolate(3)
        cluster.beat()
        for i in 0..<9 { cluster.propose(1, [UInt8(i)]) }
        cluster.deliver()
        cluster.step(1, .compact(through: LogIndex(9), chain: cluster[1].disk.chain(at: LogIndex(9)) ?? 0))
        cluster.heal()
        cluster.live(for: .seconds(1))
        #expect(cluster[3].events.contains(.snapshotInstalled(LogIndex(10))))
        #expect(cluster.isConverged([1, 2, 3]))
        cluster.propose(1, [1])
        cluster.deliver()
        #expect(cluster.isConverged([1, 2, 3]))
        #expect(cluster.problems.isEmpty, "\(cluster.problems)")
    }

    /// §7: "If instead the follower receives a snapshot that describes a prefix of its log … entries following the
    /// snapshot are still valid and must be retained."
    @Test func `a snapshot of what the log holds already leaves the log alone`() {
        var cluster = follower(term: 2, [1, 1, 2, 2])
        let log = entries([1, 1, 2, 2])
        let base = LogBase(index: LogIndex(3), term: Term(2), chain: log[2].chain, configuration: cluster.firstMembers)
        let id = SnapshotID(source: ReplicaID(2), incarnation: Incarnation(1), number: 1)
        cluster.step(1, .snapshotReceived(id, base: base, from: cluster.peer(2)))
        #expect(terms(cluster[1].raft) == [1, 1, 2, 2])
        #expect(cluster[1].raft.commit == LogIndex(3))
        #expect(cluster[1].events.contains(.snapshotIgnored(id)))
    }

    /// §7: "the follower discards its entire log; it is all superseded by the snapshot".
    @Test func `a snapshot beyond or against the log replaces all of it`() {
        for log in [[1, 1], [1, 1, 1, 1, 1, 1]] as [[UInt64]] {
            var cluster = follower(term: 2, log, commit: 1)
            let base = LogBase(index: LogIndex(4), term: Term(2), chain: 77, configuration: cluster.firstMembers)
            let id = SnapshotID(source: ReplicaID(2), incarnation: Incarnation(1), number: 1)
            cluster.step(1, .snapshotReceived(id, base: base, from: cluster.peer(2)))
            #expect(cluster[1].raft.lastIndex == LogIndex(4) && cluster[1].raft.lastTerm == Term(2))
            #expect(cluster[1].disk.base == base && cluster[1].disk.entries.isEmpty)
            #expect(cluster[1].raft.applied == LogIndex(4) && cluster[1].raft.commit == LogIndex(4))
            #expect(cluster.take().contains { $0.appendAnswer?.match == LogIndex(4) })
        }
    }

    // MARK: §8 clients

    /// §8: "it may not know which [entries] are [committed]. … Raft handles this by having each leader commit a blank
    /// no-op entry into the log at the start of its term."
    @Test func `a new leader commits what its predecessor left, by an empty entry of its own`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.propose(1, [7])
        // Stored by a majority; the leader dies before anyone knows.
        cluster.deliver { $0.append != nil }
        cluster.take()
        cluster.crash(1)
        cluster.live(for: .seconds(1))
        guard let leader = cluster.leader else {
            Issue.record("no leader")
            return
        }
        #expect(cluster[leader].disk.entry(at: LogIndex(2))?.content == .command([7]))
        #expect(cluster[leader].disk.entry(at: LogIndex(3))?.content == .noop)
        #expect(cluster[leader].raft.commit == LogIndex(3))
    }

    /// §8: "a leader must check whether it has been deposed before processing a read-only request … by having the leader
    /// exchange heartbeat messages with a majority of the cluster before responding".
    @Test func `a read is answered after a majority confirmed the leader, and not before`() {
        var cluster = RaftTestCluster(voters: 5)
        cluster.elect(1)
        cluster.deliver()
        cluster.step(1, .read(ticket: 1))
        let asked = cluster.take()
        #expect(asked.count == 4)
        cluster.deliver(asked[0])
        cluster.deliver()
        #expect(cluster[1].reads.isEmpty)
        cluster.deliver(asked[1])
        cluster.deliver()
        #expect(cluster[1].reads == [ReadOutcome(ticket: 1, verdict: .ready(LogIndex(1)))])
    }

    @Test func `a deposed leader that does not know it answers no read`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.isolate(1)
        cluster.elect(2)
        cluster.propose(2, [1])
        cluster.deliver()
        cluster.step(1, .read(ticket: 1))
        cluster.live(for: .seconds(2))
        #expect(cluster[1].reads.count == 1)
        #expect(cluster[1].reads.allSatisfy { if case .refused = $0.verdict { true } else { false } })
    }

    /// Thesis §6.4 step 1: "If the leader has not yet marked an entry from its current term committed, it waits until it
    /// has done so."
    @Test func `a read in a new term waits for the term's first commit and is then answered`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        let first = cluster[1].raft.term
        cluster.crash(1)
        cluster.restart(1)
        cluster.elect(1)
        #expect(cluster[1].raft.term > first)
        // `elect` delivered everything; make the next term's first entry wait.
        cluster.step(1, .stepDown)
        cluster.take()
        for id in [2, 3] as [UInt64] { cluster.step(id, .linkBroken(NodeID(1))) }
        cluster.now = cluster[1].raft.electionDeadline ?? cluster.now
        cluster.step(1, .tick)
        cluster.deliver { $0.append == nil }
        #expect(cluster[1].raft.isLeader && !cluster[1].raft.hasCommittedInTerm)
        cluster.step(1, .read(ticket: 1))
        #expect(cluster[1].reads.isEmpty)
        cluster.deliver()
        #expect(cluster[1].reads.count == 1)
        #expect(cluster[1].reads.first?.verdict == .ready(cluster[1].raft.commit))
    }

    /// Thesis §6.4 step 4: "The leader waits for its state machine to advance at least as far as the readIndex."
    @Test func `a read waits for the state machine`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.appliesAtOnce = false
        cluster.propose(1, [1])
        cluster.deliver()
        cluster.step(1, .read(ticket: 1))
        cluster.deliver()
        #expect(cluster[1].reads.isEmpty)
        cluster.apply(1)
        #expect(cluster[1].reads == [ReadOutcome(ticket: 1, verdict: .ready(LogIndex(2)))])
    }

    /// Thesis §6.4: "The follower would issue a request to the leader that just asked for a current readIndex."
    @Test func `a follower reads by an index of the leader, once it has applied it`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.cut(1, 2)
        cluster.propose(1, [1])
        cluster.deliver()
        cluster.heal()
        cluster.step(2, .read(ticket: 5))
        cluster.deliver()
        #expect(cluster[2].reads.isEmpty)
        cluster.run(for: .seconds(1))
        #expect(cluster[2].reads == [ReadOutcome(ticket: 5, verdict: .ready(LogIndex(2)))])
    }

    @Test func `a read that lost its way is asked again, and refused when the leader is gone`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.step(2, .read(ticket: 1))
        cluster.take()
        cluster.run(for: .seconds(1))
        #expect(cluster[2].reads == [ReadOutcome(ticket: 1, verdict: .ready(LogIndex(1)))])
        cluster[2].reads = []
        cluster.step(2, .read(ticket: 2))
        cluster.crash(1)
        cluster.live(for: .seconds(1))
        #expect(cluster[2].reads.count == 1)
    }

    @Test func `the answer to an earlier asking is good for the reads that were asked for again`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.step(2, .read(ticket: 1))
        let first = cluster.take()
        // On a slow or lossy path the answer comes when the follower has asked again already, time after time.
        for _ in 0..<3 {
            cluster.now = max(cluster.now, cluster[2].raft.deadline ?? cluster.now)
            cluster.step(2, .tick)
            #expect(cluster.take().count == 1)
        }
        cluster.step(2, .read(ticket: 2))
        for message in first { cluster.deliver(message) }
        let answers = cluster.take { $0.isTo(2) && $0.isReadAnswer }
        cluster.deliver { !$0.isReadAnswer }
        for answer in answers + cluster.take(where: \.isReadAnswer) { cluster.deliver(answer) }
        // The second read came after that asking, and is not served by it.
        #expect(cluster[2].reads == [ReadOutcome(ticket: 1, verdict: .ready(LogIndex(1)))])
        cluster.run(for: .seconds(1))
        #expect(cluster[2].reads.map(\.ticket) == [1, 2])
    }

    // MARK: thesis §10.2.1

    /// §10.2.1: "the leader can write to its disk in parallel with replicating to the followers … it may even commit an
    /// entry before it has been written to the leader's disk, if a majority of followers have".
    @Test func `a leader sends before its own write ends and may commit without it`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.persistsAtOnce = false
        cluster.propose(1, [7])
        #expect(cluster.network.count { $0.append?.entries.count == 1 } == 2)
        for id in [2, 3] as [UInt64] {
            cluster.deliver { $0.isTo(id) }
            cluster.persist(id)
        }
        cluster.deliver { $0.isTo(1) }
        #expect(cluster[1].raft.commit == LogIndex(2))
        // Its state machine waits all the same, so that a restart never finds it ahead of its log.
        #expect(cluster[1].handedOut == LogIndex(1))
        cluster.persist(1)
        #expect(cluster[1].handedOut == LogIndex(2))
        #expect(cluster.problems.isEmpty, "\(cluster.problems)")
    }

    @Test func `a leader counts itself only for what is on its disk`() {
        var cluster = RaftTestCluster(voters: 3)
        cluster.elect(1)
        cluster.deliver()
        cluster.persistsAtOnce = false
        cluster.propose(1, [7])
        cluster.deliver { $0.isTo(2) }
        cluster.persist(2)
        cluster.deliver { $0.isTo(1) }
        #expect(cluster[1].raft.commit == LogIndex(1))
        cluster.persist(1)
        #expect(cluster[1].raft.commit == LogIndex(2))
    }
}

extension Message {
    fileprivate var isReadAnswer: Bool {
        if case .readAnswer = body { true } else { false }
    }
}
