public import ClusterBase

/// Where a message goes and where it came from: a group's copy, and the node that holds it.
@frozen public struct Peer: Hashable, Sendable, CustomStringConvertible {
    public var replica: ReplicaID
    /// The node that holds the replica; beats and messages go to nodes.
    public var node: NodeID
    @inlinable public init(replica: ReplicaID, node: NodeID) {
        self.replica = replica
        self.node = node
    }
    public var description: String { "r\(replica)@n\(node)" }
}

/// One replica's part in a configuration.
///
///     learner ──(enter)──▶ entering ──(leave)──▶ voter ──(enter)──▶ leaving ──(leave)──▶ (gone)
///                                                      └─(enter)──▶ demoting ─(leave)──▶ learner
///
/// `entering`, `leaving` and `demoting` exist only in a joint configuration (Raft thesis §4.3).
public enum Role: UInt8, Sendable, CaseIterable {
    /// Gets entries and counts for no majority.
    case learner = 0
    /// Votes, and counts for majorities.
    case voter = 1
    /// Votes in the new half only.
    case entering = 2
    /// Votes in the old half only; gone when the joint configuration is left.
    case leaving = 3
    /// Votes in the old half only; a learner when the joint configuration is left.
    case demoting = 4

    /// Whether it counts for the majority of the configuration that is (or is becoming) the old one.
    @inlinable public var votesInOldHalf: Bool { self == .voter || self == .leaving || self == .demoting }
    @inlinable public var votesInNewHalf: Bool { self == .voter || self == .entering }
    @inlinable public var isVoting: Bool { self != .learner }
}

/// A replica with its part in a configuration.
public struct Member: Hashable, Sendable {
    /// The replica and its node.
    public var peer: Peer
    /// Its part.
    public var role: Role
    /// Whether the leader makes this learner a voter by itself once it is caught up and stable.
    public var promotesItself: Bool
    /// Higher campaigns earlier. Only a tie-breaker: it never outweighs a longer log.
    public var priority: Int8

    public init(peer: Peer, role: Role, promotesItself: Bool = false, priority: Int8 = 0) {
        self.peer = peer
        self.role = role
        self.promotesItself = promotesItself
        self.priority = priority
    }
}

/// What an operator's forced reconfiguration leaves behind for ever.
public struct RecoveryMark: Hashable, Sendable {
    /// Entries after this index may have been acknowledged and are lost.
    public var possibleLossAfter: LogIndex
    /// The term in which the recovery was forced.
    public var term: Term
    public init(possibleLossAfter: LogIndex, term: Term) {
        self.possibleLossAfter = possibleLossAfter
        self.term = term
    }
}

/// Who takes part in a group. Members are sorted by replica id; at most `membersMax`.
public struct Configuration: Hashable, Sendable {
    /// A group is small: majorities are recomputed naively over this many at every step.
    public static let membersMax = 15

    /// By replica id, ascending.
    public private(set) var members: [Member]
    /// One higher after every forced recovery.
    public var epoch: Epoch
    /// The highest replica id that this group ever gave out: ids are never used again.
    public private(set) var replicaHighest: ReplicaID
    /// What the last forced recovery left behind; nil when there was none.
    public var recovery: RecoveryMark?

    /// Sorts the members; the highest id is at least the highest of them.
    public init(
        members: [Member], epoch: Epoch = .zero, replicaHighest: ReplicaID = ReplicaID(0), recovery: RecoveryMark? = nil
    ) {
        self.members = members.sorted { $0.peer.replica < $1.peer.replica }
        self.epoch = epoch
        self.replicaHighest = max(replicaHighest, self.members.last?.peer.replica ?? ReplicaID(0))
        self.recovery = recovery
    }

    /// Voters with replica id = node id, for tests and for the first configuration of a group.
    public static func voters(_ ids: some Sequence<UInt64>) -> Configuration {
        Configuration(members: ids.map { Member(peer: Peer(replica: ReplicaID($0), node: NodeID($0)), role: .voter) })
    }

    /// Whether majorities of two halves are needed, because a change is under way.
    public var isJoint: Bool {
        for member in members where member.role.rawValue >= Role.entering.rawValue { return true }
        return false
    }

    /// Where a replica is among the members; nil when it is none.
    @inlinable public func position(of replica: ReplicaID) -> Int? {
        for i in 0..<members.count where members[i].peer.replica == replica { return i }
        return nil
    }

    /// A replica's part; nil when it has none.
    public func member(_ replica: ReplicaID) -> Member? {
        guard let i = position(of: replica) else { return nil }
        return members[i]
    }

    /// The first replica on a node; nil when the node has none.
    public func peer(at node: NodeID) -> Peer? {
        for member in members where member.peer.node == node { return member.peer }
        return nil
    }
}

/// One step of a membership change, as an operator or a controller asks for it. Several may be asked for at once.
public enum MembershipStep: Hashable, Sendable {
    /// Gets entries from now on; the leader makes it a voter by itself if `promotesItself`.
    case addLearner(Peer, promotesItself: Bool, priority: Int8)
    /// Votes as soon as the change is done; it should hold the log nearly to its end by then.
    case addVoter(Peer, priority: Int8)
    /// A learner becomes a voter.
    case promote(ReplicaID)
    /// A voter becomes a learner.
    case demote(ReplicaID)
    /// It takes no part any more; its id is never used again.
    case remove(ReplicaID)
}

/// Why a membership change was refused. Nothing was changed.
public enum MembershipRefusal: Hashable, Sendable, Error {
    /// This replica does not lead; `hint` is who does, as far as it knows.
    case notLeader(hint: Peer?)
    /// The leader has not committed an entry of its own term yet (Ongaro 2015).
    case termNotCommitted
    /// An earlier change is not applied yet, or a joint configuration is not left yet.
    case changeInFlight
    /// No member has this id.
    case unknownReplica(ReplicaID)
    /// Ids are given once: this one is in use or was.
    case replicaIDReused(ReplicaID)
    /// Another replica of the group is on this node.
    case nodeHasReplica(NodeID)
    /// More than `membersMax` would take part.
    case tooManyMembers
    /// Nobody would be left to vote.
    case noVoterLeft
    /// With the members now alive the result could not commit anything.
    case wouldLoseQuorum
    /// The configuration would be what it is.
    case nothingToChange
}
