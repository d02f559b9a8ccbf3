public import ClusterBase

/// What survives a restart beside the entries.
public struct HardState: Hashable, Sendable {
    /// Never falls.
    public var term: Term
    /// Whom the replica voted for in `term`; nil for nobody.
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
    /// The last index that the log does not hold any more; zero when it was never cut.
    public var index: LogIndex
    /// The term of the entry at `index`.
    public var term: Term
    /// The chain of the entry at `index`.
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
    /// One higher with every write of this process.
    public var sequence: UInt64
    /// As it is from this write on.
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
    /// Whose state it is.
    public var source: ReplicaID
    /// The process that made it.
    public var incarnation: Incarnation
    /// The snapshot's number within that process.
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
    /// Not taken; it has no effect, now or later.
    case refused(ProposalRefusal)
}

/// Why a proposal was not taken. It has no effect, now or later.
public enum ProposalRefusal: Hashable, Sendable {
    /// This replica does not lead; `hint` is who does, as far as it knows.
    case notLeader(hint: Peer?)
    /// The bound on bytes that are appended and not committed is reached.
    case tooMuchUncommitted
    /// Leadership is being handed over; the next leader will take it.
    case transferringLeadership
    /// A payload has more than `proposalBytesMax` bytes.
    case tooLarge
    /// There was nothing in it.
    case empty
    /// The log store does not move, so nothing can be promised.
    case storageStalled
}

/// Whether a read may now be answered from the applied state.
public struct ReadOutcome: Hashable, Sendable {
    /// How a read ended.
    public enum Verdict: Hashable, Sendable {
        /// The state machine may answer: it holds everything acknowledged before the read was asked.
        case ready(LogIndex)
        /// Ask again, at `hint` if there is one: who leads changed, or there were too many reads.
        case refused(hint: Peer?)
    }
    /// The number that the shell gave to the read.
    public var ticket: UInt64
    /// Whether the state machine may answer it.
    public var verdict: Verdict
    public init(ticket: UInt64, verdict: Verdict) {
        self.ticket = ticket
        self.verdict = verdict
    }
}

/// Facts the shell may log, count or act on.
public enum Event: Hashable, Sendable {
    /// It follows, in a term; the leader is nil as long as it is not known.
    case becameFollower(term: Term, leader: Peer?)
    /// It asks whether it would be elected; `term` is still its own.
    case becamePreCandidate(term: Term)
    /// It asks for votes in this term, its own vote given.
    case becameCandidate(term: Term)
    /// It leads; its first entry of the term is appended.
    case becameLeader(term: Term)
    /// It led in this term and does not any more.
    case steppedDown(term: Term, reason: StepDownReason)
    /// A configuration is in force, since its entry is committed.
    case configurationApplied(index: LogIndex, Configuration)
    /// A change of members was not taken; nothing was changed.
    case membershipRefused(MembershipRefusal)
    /// A change of members was appended; it takes effect when its entry commits.
    case membershipProposed(index: LogIndex)
    /// Leadership is being handed to this voter; proposals are refused meanwhile.
    case transferStarted(to: Peer)
    /// The hand-over is over: another leads, or this one goes on.
    case transferEnded(succeeded: Bool)
    /// There is nobody to hand leadership to, or this replica does not lead.
    case transferRefused
    /// The state machine and the log were switched over to a snapshot of this index.
    case snapshotInstalled(LogIndex)
    /// A snapshot that came in holds nothing new; the shell drops it.
    case snapshotIgnored(SnapshotID)
    /// A message of an earlier term was dropped.
    case ignoredStaleTerm(from: Peer, term: Term)
    /// A message of an earlier epoch was dropped.
    case ignoredStaleEpoch(from: Peer, epoch: Epoch)
    /// This replica's epoch or id is out of date; it must not campaign until it hears from its group again.
    case fencedOff(by: Peer, epoch: Epoch)
    /// A peer sent what no correct peer sends; it was dropped.
    case malformed(from: Peer, MalformedMessage)
    /// Two logs hold different entries at one index and term, or two states differ: this replica stopped.
    case diverged(at: LogIndex)
    /// An operator's forced recovery is in force here; entries after the mark may be lost.
    case recoveryForced(RecoveryMark)
}

/// Why a leader leads no longer.
public enum StepDownReason: Hashable, Sendable {
    /// A majority was not heard for an election timeout.
    case quorumLost
    /// The shell asked for it.
    case asked
    /// The configuration in force does not have it as a voter any more.
    case removed
}

/// What makes a message one that no correct peer sends; it is dropped and reported.
public enum MalformedMessage: Hashable, Sendable {
    /// The entries do not follow each other by index.
    case entriesNotContiguous
    /// An entry has a lower term than the one before it.
    case entryTermDecreases
    /// An entry has a higher term than the message that carries it.
    case entryTermAboveMessageTerm
    /// An entry's chain is not what its content and its predecessor give.
    case chainBroken
    /// A configuration entry follows one that the message does not say is committed.
    case configurationWithoutCommit
    /// No message that is sent has the term zero.
    case termZero
    /// Two replicas say that they lead in one term.
    case twoLeadersInOneTerm
    /// What the leader sends differs from what is committed here.
    case conflictBelowCommit
    /// A follower acknowledges more than the leader has.
    case matchBeyondLog
}

/// Where one step's results go. The caller owns it and uses it again, so that a step need not allocate.
///
/// Order of work: `messages` may leave at once; `writes` go to the log store, each answered by `persisted`;
/// `commit` says how far the state machine may go, answered by `applied`; `reads` may be answered now.
public struct Effects: Sendable {
    /// May leave at once, in this order.
    public var messages: [Message] = []
    /// For the log store, to become durable in this order; each is answered by `persisted`.
    public var writes: [LogWrite] = []
    /// The state machine may apply all entries up to here; only set when it grew.
    public var commit: LogIndex?
    /// Reads that ended, each by its ticket.
    public var reads: [ReadOutcome] = []
    /// One outcome for each `propose` of this step.
    public var proposals: [ProposalOutcome] = []
    /// Entries that a slow follower needs and the cache no longer holds; answered by `fetched`.
    public var fetches: [Fetch] = []
    /// Followers that need a snapshot; answered by `snapshotSent`.
    public var snapshots: [Peer] = []
    /// What happened, in order, for logs and counters.
    public var events: [Event] = []

    public init() {}

    /// Whether there is nothing to do.
    public var isEmpty: Bool {
        messages.isEmpty && writes.isEmpty && commit == nil && reads.isEmpty && proposals.isEmpty && fetches.isEmpty
            && snapshots.isEmpty && events.isEmpty
    }

    /// Empties all lists and keeps their memory.
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
    /// The follower that needs them.
    public var peer: Peer
    /// The first entry that is wanted.
    public var from: LogIndex
    /// The last entry that is wanted.
    public var through: LogIndex
    /// Payload and overhead of all together; one entry may always come.
    public var bytesMax: Int
    public init(peer: Peer, from: LogIndex, through: LogIndex, bytesMax: Int) {
        self.peer = peer
        self.from = from
        self.through = through
        self.bytesMax = bytesMax
    }
}
