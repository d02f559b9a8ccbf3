import ClusterBase
import RaftScripts
import Testing

@testable import RaftCore

/// What no correct cluster does, and so no scenario can show.
@Suite struct ScenariosCornersTests {
    private static let leader = Peer(replica: ReplicaID(1), node: NodeID(1))
    private static let own = Peer(replica: ReplicaID(2), node: NodeID(2))

    /// A follower of 1 in term 1 with these entries on its disk, the first `commit` of them committed.
    private static func follower(_ contents: [EntryContent], commit: UInt64, applied: UInt64 = 0) -> Raft {
        let base = LogBase(index: .zero, term: .zero, chain: 0, configuration: .voters([1, 2, 3]))
        var restored = RestoredLog(
            empty: base, hardState: HardState(term: Term(1), votedFor: nil, commit: LogIndex(commit)))
        for content in contents {
            restored.append(
                Entry(index: restored.last.next, term: Term(1), after: restored.lastChain, content: content))
        }
        return Raft(
            peer: own, incarnation: Incarnation(1), restored: restored, applied: LogIndex(applied),
            settings: Settings(), seed: 1, now: .origin)
    }

    private static func message(_ term: UInt64, _ body: Message.Body) -> Input {
        .received(Message(from: leader, to: own, epoch: .zero, term: Term(term), body: body))
    }

    @Test func `an append that breaks the append rule leaves the log as it was`() throws {
        var raft = Self.follower([.noop, .command([1]), .command([2])], commit: 1)
        let chain = try #require(raft.chain(at: LogIndex(1)))
        let first = Entry(
            index: LogIndex(2), term: Term(2), after: chain, content: .configuration(.voters([1, 2, 3, 4])))
        let second = Entry(
            index: LogIndex(3), term: Term(2), after: first.chain, content: .configuration(.voters([1, 2, 3, 4, 5])))
        var effects = Effects()
        raft.step(
            Self.message(
                2,
                .append(
                    Append(
                        previousIndex: LogIndex(1), previousTerm: Term(1), previousChain: chain, commit: LogIndex(1),
                        entries: [first, second]))),
            now: .origin, into: &effects)
        #expect(effects.events.contains(.malformed(from: Self.leader, .configurationWithoutCommit)))
        #expect(raft.lastIndex == LogIndex(3))
        #expect(raft.lastTerm == Term(1))
        #expect(raft.durable == LogIndex(3))
    }

    @Test func `a write vouches for nothing that was replaced since, though it came back`() throws {
        var raft = Self.follower([.noop], commit: 1)
        let base = try #require(raft.chain(at: LogIndex(1)))
        func entries(_ terms: [UInt64]) -> [Entry] {
            var chain = base
            var entries: [Entry] = []
            for (i, term) in terms.enumerated() {
                let entry = Entry(index: LogIndex(UInt64(i) + 2), term: Term(term), after: chain, content: .noop)
                chain = entry.chain
                entries.append(entry)
            }
            return entries
        }
        func append(_ term: UInt64, _ terms: [UInt64]) -> Input {
            Self.message(
                term,
                .append(
                    Append(
                        previousIndex: LogIndex(1), previousTerm: Term(1), previousChain: base,
                        commit: LogIndex(term == 3 ? 4 : 1), entries: entries(terms))))
        }
        var effects = Effects()
        raft.step(append(1, [1, 1]), now: .origin, into: &effects)
        raft.step(append(2, [2]), now: .origin, into: &effects)
        raft.step(append(3, [1, 1, 3]), now: .origin, into: &effects)
        let sequences = effects.writes.map(\.sequence)
        #expect(sequences.count == 3 && raft.commit == LogIndex(4))
        // A crash after the second write would find entry 2 of term 2: the state machine must not hold another.
        raft.step(.persisted(sequence: sequences[0]), now: .origin, into: &effects)
        #expect(raft.durable == LogIndex(1))
        raft.step(.persisted(sequence: sequences[1]), now: .origin, into: &effects)
        #expect(raft.durable == LogIndex(1))
        #expect(effects.commit == LogIndex(1))
        raft.step(.persisted(sequence: sequences[2]), now: .origin, into: &effects)
        #expect(raft.durable == LogIndex(4) && effects.commit == LogIndex(4))
    }

    @Test func `a replica that stops refuses its reads and does not lead`() throws {
        var raft = Self.follower([.noop, .command([1])], commit: 2)
        var effects = Effects()
        let chain = try #require(raft.chain(at: LogIndex(2)))
        raft.step(
            Self.message(
                1,
                .append(
                    Append(
                        previousIndex: LogIndex(2), previousTerm: Term(1), previousChain: chain, commit: LogIndex(2),
                        entries: []))),
            now: .origin, into: &effects)
        // One read is confirmed and waits for the state machine, one is on its way.
        raft.step(.read(ticket: 7), now: .origin, into: &effects)
        let context = ReadContext(incarnation: Incarnation(1), number: 1)
        raft.step(Self.message(1, .readAnswer(context, index: LogIndex(2))), now: .origin, into: &effects)
        raft.step(.read(ticket: 8), now: .origin, into: &effects)
        #expect(effects.reads.isEmpty)
        // The leader's entry 2 is another one of the same term.
        effects.removeAll()
        let other = Append(
            previousIndex: LogIndex(2), previousTerm: Term(1), previousChain: chain ^ 1, commit: LogIndex(2),
            entries: [Entry(index: LogIndex(3), term: Term(1), after: chain ^ 1, content: .noop)])
        raft.step(Self.message(1, .append(other)), now: .origin, into: &effects)
        #expect(effects.events.contains(.diverged(at: LogIndex(2))))
        #expect(effects.reads.map(\.ticket).sorted() == [7, 8])
        #expect(raft.isStopped && !raft.isLeader && raft.deadline == nil)
    }

    @Test func `two snapshots in a row are installed one after the other, and release the reads they satisfy`() {
        var raft = Self.follower([.noop], commit: 1, applied: 1)
        var effects = Effects()
        func base(_ index: UInt64) -> LogBase {
            LogBase(
                index: LogIndex(index), term: Term(1), chain: index + 100, configuration: .voters([1, 2, 3]))
        }
        raft.step(Self.message(1, .confirmLeadership(round: 1)), now: .origin, into: &effects)
        raft.step(.read(ticket: 7), now: .origin, into: &effects)
        let context = ReadContext(incarnation: Incarnation(1), number: 1)
        raft.step(Self.message(1, .readAnswer(context, index: LogIndex(20))), now: .origin, into: &effects)
        for index: UInt64 in [10, 20] {
            let id = SnapshotID(source: ReplicaID(1), incarnation: Incarnation(1), number: index)
            raft.step(
                .snapshotReceived(id, base: base(index), from: Self.leader), now: .origin, into: &effects)
        }
        let sequences = effects.writes.filter { $0.snapshot != nil }.map(\.sequence)
        #expect(sequences.count == 2)
        effects.removeAll()
        raft.step(.persisted(sequence: sequences[0]), now: .origin, into: &effects)
        #expect(effects.events == [.snapshotInstalled(LogIndex(10))])
        #expect(raft.applied == LogIndex(10))
        #expect(effects.reads.isEmpty)
        effects.removeAll()
        raft.step(.persisted(sequence: sequences[1]), now: .origin, into: &effects)
        #expect(effects.events == [.snapshotInstalled(LogIndex(20))])
        #expect(effects.reads == [ReadOutcome(ticket: 7, verdict: .ready(LogIndex(20)))])
    }

    @Test func `a fetch that brings nothing is a failed fetch`() {
        var harness = ScenarioHarness()
        _ = try? harness.execute("cluster nodes=1,2,3 cache-bytes=100")
        for command in ["elect 1", "cut 1-3", "propose 1 a b c d e", "stabilize", "heal", "hold-fetch 1", "run 60ms"] {
            _ = try? harness.execute(command)
        }
        harness.output = []
        harness.step(1, .fetched(ReplicaID(3), entries: [], previousChain: 0))
        #expect(harness.output == ["1 wants a snapshot sent to 3"])
    }
}
