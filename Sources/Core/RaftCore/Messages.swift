public import ClusterBase

/// What one log entry holds.
public enum EntryContent: Hashable, Sendable {
    /// A leader's first entry of its term (Raft §8).
    case noop
    /// Commands for the state machine; the core never looks inside.
    case command([UInt8])
    /// Who takes part from here on, once it is committed.
    indirect case configuration(Configuration)
}

/// One entry of a group's log.
public struct Entry: Hashable, Sendable {
    /// One higher than the entry before.
    public var index: LogIndex
    /// Of the leader that made it; never lower than that of the entry before.
    public var term: Term
    /// Hash over the previous entry's chain, this index, term and content: equal chains mean equal logs up to here.
    public var chain: UInt64
    /// What it holds.
    public var content: EntryContent

    public init(index: LogIndex, term: Term, chain: UInt64, content: EntryContent) {
        self.index = index
        self.term = term
        self.chain = chain
        self.content = content
    }

    /// Makes the entry that follows one whose chain is `previousChain`.
    public init(index: LogIndex, term: Term, after previousChain: UInt64, content: EntryContent) {
        self.index = index
        self.term = term
        self.content = content
        self.chain = Entry.chain(after: previousChain, index: index, term: term, content: content)
    }

    /// The chain of an entry that follows one with the chain `previous`.
    public static func chain(after previous: UInt64, index: LogIndex, term: Term, content: EntryContent) -> UInt64 {
        var hash = ChainHash(previous)
        hash.add(index.rawValue)
        hash.add(term.rawValue)
        switch content {
        case .noop: hash.add(0)
        case .command(let payload):
            hash.add(1)
            hash.add(payload)
        case .configuration(let configuration):
            hash.add(2)
            configuration.add(to: &hash)
        }
        return hash.value
    }

    /// What the entry counts for in windows and bounds: its payload and a fixed overhead.
    @inlinable public var byteCount: Int {
        switch content {
        case .command(let payload): payload.count + Entry.overheadBytes
        case .noop: Entry.overheadBytes
        case .configuration(let configuration): Entry.overheadBytes + configuration.members.count * 24
        }
    }
    /// What an entry counts for beside its payload, in bytes.
    public static let overheadBytes = 48
}

extension Configuration {
    func add(to hash: inout ChainHash) {
        hash.add(UInt64(members.count))
        for member in members {
            hash.add(member.peer.replica.rawValue)
            hash.add(member.peer.node.rawValue)
            hash.add(
                UInt64(member.role.rawValue) << 16 | UInt64(member.promotesItself ? 1 : 0) << 8
                    | UInt64(UInt8(bitPattern: member.priority)))
        }
        hash.add(epoch.rawValue)
        hash.add(replicaHighest.rawValue)
        hash.add(recovery?.possibleLossAfter.rawValue ?? 0)
        hash.add(recovery?.term.rawValue ?? 0)
    }
}

/// A message between two replicas of one group. The group, and batching per node, are the shell's.
public struct Message: Hashable, Sendable {
    /// Who sends it; the shell has checked that the node is who it says.
    public var from: Peer
    /// Whom it is for; a replica drops what is for another one.
    public var to: Peer
    /// The sender's; lower ones are refused.
    public var epoch: Epoch
    /// The sender's term; of a pre-vote request, the term it would campaign in.
    public var term: Term
    /// What it says.
    public var body: Body

    public init(from: Peer, to: Peer, epoch: Epoch, term: Term, body: Body) {
        self.from = from
        self.to = to
        self.epoch = epoch
        self.term = term
        self.body = body
    }

    /// What a message says, and what it carries.
    public enum Body: Hashable, Sendable {
        /// Would you vote for me? Changes nothing at the receiver (Raft thesis §9.6).
        case preVote(VoteRequest)
        /// Whether the vote would be given.
        case preVoteAnswer(VoteAnswer)
        /// Vote for me (Raft §5.2).
        case vote(VoteRequest)
        /// The vote, durable before this leaves.
        case voteAnswer(VoteAnswer)
        /// The leader's entries, or its commit alone (Raft §5.3).
        case append(Append)
        /// How far the log agrees, durable before this leaves.
        case appendAnswer(AppendAnswer)
        /// The leader asks whether it still leads; `round` never repeats within a term.
        case confirmLeadership(round: UInt64)
        /// The follower knows of no later leader than the one that asked in this round.
        case leadershipConfirmed(round: UInt64)
        /// A follower asks for a read index on behalf of its own clients.
        case readRequest(ReadContext)
        /// The answer; without an index the request was refused and may be asked again under a new context.
        case readAnswer(ReadContext, index: LogIndex?)
        /// The leader hands over: campaign at once, without a pre-vote (Raft thesis §3.10).
        case campaignNow
        /// A follower passes proposals on to its leader.
        case forward([[UInt8]])
        /// The receiver's epoch or replica is out of date: `epoch` and `term` are what the sender knows.
        case stale
    }
}

/// Asks for a vote, or before that whether it would be given; the end of the candidate's log goes with it.
public struct VoteRequest: Hashable, Sendable {
    /// The last index of the candidate's log.
    public var lastIndex: LogIndex
    /// The term of the entry there.
    public var lastTerm: Term
    /// Set when the leader itself asked for this campaign: stickiness to a live leader does not apply.
    public var isTransfer: Bool
    public init(lastIndex: LogIndex, lastTerm: Term, isTransfer: Bool) {
        self.lastIndex = lastIndex
        self.lastTerm = lastTerm
        self.isTransfer = isTransfer
    }
}

/// A vote given or refused.
public struct VoteAnswer: Hashable, Sendable {
    /// Whether the vote is given; a refusal counts as an answer too.
    public var isGranted: Bool
    /// The term that the request asked about: answers to older campaigns count for nothing.
    public var campaignTerm: Term
    /// A refusal names the leader its sender follows, so that a cut-off replica learns where to reconnect.
    public var leader: Peer?
    /// What its sender knows to be committed. A candidate that holds this entry learns so of a configuration under
    /// which it can win; without it, it might ask for ever for the vote of a replica that is removed (raft-rs,
    /// `maybe_commit_by_vote`).
    public var commit: LogIndex
    /// The term of the entry at `commit`.
    public var commitTerm: Term
    public init(
        isGranted: Bool, campaignTerm: Term, leader: Peer?, commit: LogIndex = .zero, commitTerm: Term = .zero
    ) {
        self.isGranted = isGranted
        self.campaignTerm = campaignTerm
        self.leader = leader
        self.commit = commit
        self.commitTerm = commitTerm
    }
}

/// Entries to follow the one named as previous; without any it only carries the commit.
public struct Append: Hashable, Sendable {
    /// The index right before the first of `entries`.
    public var previousIndex: LogIndex
    /// The term of the leader's entry there; the follower's must be the same.
    public var previousTerm: Term
    /// The chain of the leader's entry there: equal terms with another chain are two histories.
    public var previousChain: UInt64
    /// How far the leader has committed, which may be beyond these entries.
    public var commit: LogIndex
    /// Contiguous; may be none.
    public var entries: [Entry]
    public init(
        previousIndex: LogIndex, previousTerm: Term, previousChain: UInt64, commit: LogIndex, entries: [Entry]
    ) {
        self.previousIndex = previousIndex
        self.previousTerm = previousTerm
        self.previousChain = previousChain
        self.commit = commit
        self.entries = entries
    }
}

/// How far the follower's durable log agrees with the leader's, or where it does not.
public struct AppendAnswer: Hashable, Sendable {
    /// Whether the entries were taken.
    public enum Verdict: Hashable, Sendable {
        /// Durable up to this index, and equal to the leader's log.
        case accepted(match: LogIndex)
        /// `previousIndex` did not match. The receiver's log may match at `hintIndex`, whose term there is `hintTerm`.
        case rejected(previousIndex: LogIndex, hintIndex: LogIndex, hintTerm: Term)
    }
    /// The answer to one append.
    public var verdict: Verdict
    /// What the follower knows to be committed: the leader repeats itself until this is its own.
    public var commit: LogIndex
    public init(verdict: Verdict, commit: LogIndex) {
        self.verdict = verdict
        self.commit = commit
    }
}

/// Names one batch of reads. Unique over restarts, because the incarnation is in it (etcd #20418).
public struct ReadContext: Hashable, Sendable {
    /// The process that asks.
    public var incarnation: Incarnation
    /// One higher with every batch of that process.
    public var number: UInt64
    public init(incarnation: Incarnation, number: UInt64) {
        self.incarnation = incarnation
        self.number = number
    }
}
