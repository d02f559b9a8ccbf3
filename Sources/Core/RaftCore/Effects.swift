public import ClusterBase

/// What survives a restart beside the entries.
public struct HardState: Hashable, Sendable {
    public var term: Term
    public var votedFor: ReplicaID?
    /// A hint, but never below the configuration entry before the last one in the log (the append rule).
    public var commit: LogIndex
    public init(term: Term = .zero, votedFor: ReplicaID? = nil, commit: LogIndex = .zero) {
        self.term = term
        self.votedFor = votedFor
        self.commit = commit
    }
}

/// The point that a log starts behind: what compaction or a snapshot left out, in four numbers and a configuration.
public struct LogBase: Hashable, Sendable {
    public var index: LogIndex
    public var term: Term
    public var chain: UInt64
    /// The configuration in force at `index`.
    public var configuration: Configuration
    public init(index: LogIndex, term: Term, chain: UInt64, configuration: Configuration) {
        self.index = index
        self.term = term
        self.chain = chain
        self.configuration = configuration
    }
}

/// One atomic change of a replica's durable log. The shell makes writes durable in order and answers
/// `persisted(sequence)`; it may have several under way. All parts of one write become durable together.
public struct LogWrite: Hashable, Sendable {
    public var sequence: UInt64
    public var hardState: HardState
    /// Contiguous. Entries that the log holds from the first of these on are replaced.
    public var entries: [Entry]
    /// The last index of the log after this write; what lies above it is gone.
    public var last: LogIndex
    /// A new start of the log. Entries at or below `base.index` may be deleted.
    public var base: LogBase?
    /// Set when `base` came from a snapshot: this write switches the state machine over to it.
    public var snapshot: SnapshotID?
    public init(
        sequence: UInt64, hardState: HardState, entries: [Entry], last: LogIndex, base: LogBase?, snapshot: SnapshotID?
    ) {
        self.sequence = sequence
        self.hardState = hardState
        self.entries = entries
        self.last = last
        self.base = base
        self.snapshot = snapshot
    }
}

/// Names one snapshot as its sender made it. Unique over restarts.
public struct SnapshotID: Hashable, Sendable {
    public var source: ReplicaID
    public var incarnation: Incarnation
    public var number: UInt64
    public init(source: ReplicaID, incarnation: Incarnation, number: UInt64) {
        self.source = source
        self.incarnation = incarnation
        self.number = number
    }
}

/// What became of a proposal within the step that made it; being appended is not being committed.
public enum ProposalOutcome: Hashable, Sendable {
    /// Appended here; it takes effect if `term` at `index` commits.
    case appended(index: LogIndex, term: Term)
    /// Passed on to the leader; whether it took effect shows only in the log.
    case forwarded(to: Peer)
    case refused(ProposalRefusal)
}

/// Why a proposal was not taken. It has no effect, now or later.
public enum ProposalRefusal: Hashable, Sendable {
    case notLeader(hint: Peer?)
    /// The bound on bytes that are appended and not committed is reached.
    case tooMuchUncommitted
    case transferringLeadership
    case tooLarge
    /// There was nothing in it.
    case empty
    case storageStalled
}

/// Whether a read may now be answered from the applied state.
public struct ReadOutcome: Hashable, Sendable {
    public enum Verdict: Hashable, Sendable {
        /// The state machine may answer: it holds everything acknowledged before the read was asked.
        case ready(LogIndex)
        case refused(hint: Peer?)
    }
    public var ticket: UInt64
    public var verdict: Verdict
    public init(ticket: UInt64, verdict: Verdict) {
        self.ticket = ticket
        self.verdict = verdict
    }
}

/// Facts the shell may log, count or act on.
public enum Event: Hashable, Sendable {
    case becameFollower(term: Term, leader: Peer?)
    case becamePreCandidate(term: Term)
    case becameCandidate(term: Term)
    case becameLeader(term: Term)
    case steppedDown(term: Term, reason: StepDownReason)
    case configurationApplied(index: LogIndex, Configuration)
    case membershipRefused(MembershipRefusal)
    case membershipProposed(index: LogIndex)
    case transferStarted(to: Peer)
    case transferEnded(succeeded: Bool)
    case transferRefused
    case snapshotInstalled(LogIndex)
    /// A snapshot that came in holds nothing new; the shell drops it.
    case snapshotIgnored(SnapshotID)
    case ignoredStaleTerm(from: Peer, term: Term)
    case ignoredStaleEpoch(from: Peer, epoch: Epoch)
    /// This replica's epoch or id is out of date; it must not campaign until it hears from its group again.
    case fencedOff(by: Peer, epoch: Epoch)
    /// A peer sent what no correct peer sends; it was dropped.
    case malformed(from: Peer, MalformedMessage)
    /// Two logs hold different entries at one index and term, or two states differ: this replica stopped.
    case diverged(at: LogIndex)
    case recoveryForced(RecoveryMark)
}

/// Why a leader leads no longer.
public enum StepDownReason: Hashable, Sendable {
    case higherTerm
    case quorumLost
    case asked
    case removed
}

/// What makes a message one that no correct peer sends; it is dropped and reported.
public enum MalformedMessage: Hashable, Sendable {
    case entriesNotContiguous
    case entryTermDecreases
    case entryTermAboveMessageTerm
    case chainBroken
    case configurationWithoutCommit
    case termZero
    case twoLeadersInOneTerm
    case conflictBelowCommit
    case matchBeyondLog
}

/// Where one step's results go. The caller owns it and uses it again, so that a step need not allocate.
///
/// Order of work: `messages` may leave at once; `writes` go to the log store, each answered by `persisted`;
/// `commit` says how far the state machine may go, answered by `applied`; `reads` may be answered now.
public struct Effects: Sendable {
    public var messages: [Message] = []
    public var writes: [LogWrite] = []
    /// The state machine may apply all entries up to here; only set when it grew.
    public var commit: LogIndex?
    public var reads: [ReadOutcome] = []
    public var proposals: [ProposalOutcome] = []
    /// Entries that a slow follower needs and the cache no longer holds; answered by `fetched`.
    public var fetches: [Fetch] = []
    /// Followers that need a snapshot; answered by `snapshotSent`.
    public var snapshots: [Peer] = []
    public var events: [Event] = []

    public init() {}

    public var isEmpty: Bool {
        messages.isEmpty && writes.isEmpty && commit == nil && reads.isEmpty && proposals.isEmpty && fetches.isEmpty
            && snapshots.isEmpty && events.isEmpty
    }

    public mutating func removeAll() {
        // A step has few of them, and emptying what is empty costs as much as any.
        if !messages.isEmpty { messages.removeAll(keepingCapacity: true) }
        if !writes.isEmpty { writes.removeAll(keepingCapacity: true) }
        commit = nil
        if !reads.isEmpty { reads.removeAll(keepingCapacity: true) }
        if !proposals.isEmpty { proposals.removeAll(keepingCapacity: true) }
        if !fetches.isEmpty { fetches.removeAll(keepingCapacity: true) }
        if !snapshots.isEmpty { snapshots.removeAll(keepingCapacity: true) }
        if !events.isEmpty { events.removeAll(keepingCapacity: true) }
    }
}

/// Asks for the entries `from ... through` of the durable log, or fewer, at least one, up to `bytesMax`.
public struct Fetch: Hashable, Sendable {
    public var peer: Peer
    public var from: LogIndex
    public var through: LogIndex
    public var bytesMax: Int
    public init(peer: Peer, from: LogIndex, through: LogIndex, bytesMax: Int) {
        self.peer = peer
        self.from = from
        self.through = through
        self.bytesMax = bytesMax
    }
}
