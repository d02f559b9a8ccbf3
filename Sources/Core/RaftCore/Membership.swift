public import ClusterBase

/// Where a message goes and where it came from: a group's copy, and the node that holds it.
@frozen public struct Peer: Hashable, Sendable, CustomStringConvertible {
    public var replica: ReplicaID
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
    case learner = 0
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
    public var peer: Peer
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

    public private(set) var members: [Member]
    public var epoch: Epoch
    /// The highest replica id that this group ever gave out: ids are never used again.
    public private(set) var replicaHighest: ReplicaID
    public var recovery: RecoveryMark?

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

    public var isJoint: Bool {
        for member in members where member.role.rawValue >= Role.entering.rawValue { return true }
        return false
    }

    @inlinable public func position(of replica: ReplicaID) -> Int? {
        for i in 0..<members.count where members[i].peer.replica == replica { return i }
        return nil
    }

    public func member(_ replica: ReplicaID) -> Member? {
        guard let i = position(of: replica) else { return nil }
        return members[i]
    }

    public func peer(at node: NodeID) -> Peer? {
        for member in members where member.peer.node == node { return member.peer }
        return nil
    }
}

/// One step of a membership change, as an operator or a controller asks for it. Several may be asked for at once.
public enum MembershipStep: Hashable, Sendable {
    case addLearner(Peer, promotesItself: Bool, priority: Int8)
    case addVoter(Peer, priority: Int8)
    case promote(ReplicaID)
    case demote(ReplicaID)
    case remove(ReplicaID)
}

/// Why a membership change was refused. Nothing was changed.
public enum MembershipRefusal: Hashable, Sendable, Error {
    case notLeader(hint: Peer?)
    /// The leader has not committed an entry of its own term yet (Ongaro 2015).
    case termNotCommitted
    /// An earlier change is not applied yet, or a joint configuration is not left yet.
    case changeInFlight
    case unknownReplica(ReplicaID)
    case replicaIDReused(ReplicaID)
    case nodeHasReplica(NodeID)
    case tooManyMembers
    case noVoterLeft
    /// With the members now alive the result could not commit anything.
    case wouldLoseQuorum
    case nothingToChange
}
