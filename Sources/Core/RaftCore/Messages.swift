public import ClusterBase

/// What one log entry holds.
public enum EntryContent: Hashable, Sendable {
    /// A leader's first entry of its term (Raft §8).
    case noop
    /// Commands for the state machine; the core never looks inside.
    case command([UInt8])
    indirect case configuration(Configuration)
}

/// One entry of a group's log.
public struct Entry: Hashable, Sendable {
    public var index: LogIndex
    public var term: Term
    /// Hash over the previous entry's chain, this index, term and content: equal chains mean equal logs up to here.
    public var chain: UInt64
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
    public var from: Peer
    public var to: Peer
    public var epoch: Epoch
    /// The sender's term; of a pre-vote request, the term it would campaign in.
    public var term: Term
    public var body: Body

    public init(from: Peer, to: Peer, epoch: Epoch, term: Term, body: Body) {
        self.from = from
        self.to = to
        self.epoch = epoch
        self.term = term
        self.body = body
    }

    public enum Body: Hashable, Sendable {
        case preVote(VoteRequest)
        case preVoteAnswer(VoteAnswer)
        case vote(VoteRequest)
        case voteAnswer(VoteAnswer)
        case append(Append)
        case appendAnswer(AppendAnswer)
        /// The leader asks whether it still leads; `round` never repeats within a term.
        case confirmLeadership(round: UInt64)
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
    public var lastIndex: LogIndex
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
    public var isGranted: Bool
    /// The term that the request asked about: answers to older campaigns count for nothing.
    public var campaignTerm: Term
    /// A refusal names the leader its sender follows, so that a cut-off replica learns where to reconnect.
    public var leader: Peer?
    /// What its sender knows to be committed. A candidate that holds this entry learns so of a configuration under
    /// which it can win; without it, it might ask for ever for the vote of a replica that is removed (raft-rs,
    /// `maybe_commit_by_vote`).
    public var commit: LogIndex
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
    public var previousIndex: LogIndex
    public var previousTerm: Term
    public var previousChain: UInt64
    public var commit: LogIndex
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
    public enum Verdict: Hashable, Sendable {
        /// Durable up to this index, and equal to the leader's log.
        case accepted(match: LogIndex)
        /// `previousIndex` did not match. The receiver's log may match at `hintIndex`, whose term there is `hintTerm`.
        case rejected(previousIndex: LogIndex, hintIndex: LogIndex, hintTerm: Term)
    }
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
    public var incarnation: Incarnation
    public var number: UInt64
    public init(incarnation: Incarnation, number: UInt64) {
        self.incarnation = incarnation
        self.number = number
    }
}
