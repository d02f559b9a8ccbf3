package import ClusterBase
import FleetModel
import NodePorts
package import RaftCore
import StoreLayout

/// One group's copy on this node: its core, its applied state, and the clients that wait for either.
struct Replica {
    struct Waiting {
        var ticket: UInt64
        var command: [UInt8]
    }

    /// The commands of one appended entry, in slot order.
    struct UnderWay {
        var index: LogIndex
        var term: Term
        var tickets: [UInt64]
    }

    struct Reading {
        var ticket: UInt64
        var query: Query
        var began: Instant
    }

    let group: GroupID
    var raft: Raft
    /// The generation of applied state in use, and how far it is applied.
    var generation: UInt32
    var applied: AppliedState
    /// What the state store will hold for certain after a crash.
    var durableApplied: LogIndex
    /// What the applied part of its log takes on the disk.
    var logSize = LogSize()
    /// A snapshot that the core has taken: the state switches over to it when this write is durable.
    struct Installing {
        var snapshot: SnapshotID
        var sequence: UInt64
    }
    var installing: Installing?
    /// How far the core lets the state machine go; taken up after the step that said so.
    var pendingCommit: LogIndex?
    var queue: [Waiting] = []
    var underWay = RingBuffer<UnderWay>()
    var commandsUnderWay = 0
    /// Ascending by ticket, as asked.
    var reading: [Reading] = []
    /// Everything that was acknowledged before this moment is applied here: when the newest read began whose index a
    /// quorum confirmed to the leader. Nothing weaker counts: a leader that is heard may be one no more.
    var currentAt: Instant?
    /// The deadline that the timer heap holds for this replica.
    var scheduled: Instant?
    /// When to look whether the leader's node says that it leads this group.
    var leaderCheckAt: Instant?
    var leadershipTold: Term?
    var isReady = false
    /// What the engine's sum holds of this replica.
    var uncommittedCounted = 0
    /// Nothing has happened in it since the last review of suspicion.
    var isReviewed = false

    init(group: GroupID, raft: Raft, generation: UInt32, applied: AppliedState) {
        self.group = group
        self.raft = raft
        self.generation = generation
        self.applied = applied
        self.durableApplied = applied.index
    }
}

extension Replica {
    // Mutating only in name: reading through an owner's array in place saves a copy of the whole core.
    mutating func cachedEntry(at index: LogIndex) -> Entry? { raft.cachedEntry(at: index) }
    mutating func chain(at index: LogIndex) -> UInt64? { raft.chain(at: index) }
    mutating func doubts(_ node: NodeID) -> Bool { raft.doubts(node) }
    var isLeader: Bool { mutating get { raft.isLeader } }
    var standing: Standing {
        mutating get {
            Standing(
                replica: raft.peer.replica, phase: raft.phase, term: raft.term, commit: raft.commit,
                durable: raft.durable, applied: applied.index)
        }
    }
    var leader: Peer? { mutating get { raft.leader } }
    var isTransferring: Bool { mutating get { raft.isTransferring } }
    var isBlank: Bool { mutating get { raft.isBlank } }
    var lastIndex: LogIndex { mutating get { raft.lastIndex } }
    var logEntries: Int { mutating get { raft.lastIndex - raft.base.index } }
    var cacheBytes: Int { mutating get { raft.cacheBytes } }
    var uncommittedBytes: Int { mutating get { raft.uncommittedBytes } }
    var members: [Member] { mutating get { raft.configuration.members } }
}

/// Where a replica stands. Whatever its group promises to anyone shows in these.
package struct Standing: Hashable, Sendable {
    package var replica: ReplicaID
    package var phase: Raft.Phase
    package var term: Term
    package var commit: LogIndex
    package var durable: LogIndex
    package var applied: LogIndex
    package init(
        replica: ReplicaID = ReplicaID(0), phase: Raft.Phase = .follower, term: Term = .zero, commit: LogIndex = .zero,
        durable: LogIndex = .zero, applied: LogIndex = .zero
    ) {
        self.replica = replica
        self.phase = phase
        self.term = term
        self.commit = commit
        self.durable = durable
        self.applied = applied
    }
}

/// What is under way at one replica. Nothing of it lasts: it ends, or its bound is in the settings.
package struct Backlog: Hashable, Sendable {
    /// Commands that wait for an entry, or for theirs to be applied.
    package var commands: Int
    package var reads: Int
    /// Whether leadership is being handed over.
    package var isTransferring: Bool
    /// The nodes that get a snapshot or wait for one.
    package var snapshotsTo: [NodeID]
    package var snapshotsFrom: Int
    /// Entries that the log still holds.
    package var logEntries: Int
    /// What of them is in memory.
    package var cacheBytes: Int
}

/// A replica that waits until the state store holds nothing of its group.
struct Creation {
    var ticket: UInt64
    var group: GroupID
    var replica: ReplicaID
    /// Empty for one that its group is about to add.
    var members: Configuration
}

/// A log write under way. Not inside of the engine, which is generic: each use would look its type up.
struct LogTicket {
    var ticket: UInt64
    var sequences: [(group: GroupID, sequence: UInt64)]
}

/// What decides how groups judge a peer.
struct PeerReview: Equatable {
    var node: NodeID
    var suspicion: Nanoseconds
    var isFit: Bool
}

struct GroupDeadline: Comparable {
    var at: Instant
    var group: GroupID
    static func < (a: GroupDeadline, b: GroupDeadline) -> Bool { a.at != b.at ? a.at < b.at : a.group < b.group }
}
