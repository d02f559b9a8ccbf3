package import ClusterBase
package import FleetModel
package import RaftCore

/// An ordered key-value store: RocksDB in production, memory with a simulated disk under it in the Simulator.
///
/// One owner writes. A write is visible at once to `value` and `scan`; it is durable when `write(isSynced: true)` or a
/// `flush` after it has returned. After a crash the store holds a prefix of its writes: all synced ones, and perhaps more.
package protocol OrderedStore: OrderedReader {
    associatedtype View: OrderedReader
    mutating func write(_ batch: WriteBatch, isSynced: Bool) throws(StoreError)
    /// An unsynced write of rows that nobody reads before the next `flush`, as the pieces of a snapshot are: puts under
    /// ascending keys, and a last one that tells how far they go.
    ///
    /// The loads whose last puts have the same key are one sequence: their other keys ascend from load to load. A deletion
    /// of a range with that key in it ends the sequence. Until a flush the rows may be invisible, and a crash may lose
    /// them alone; but where a last put is found, all rows up to it are.
    mutating func load(_ batch: WriteBatch) throws(StoreError)
    /// Makes everything written so far durable.
    mutating func flush() throws(StoreError)
    /// The store as it is now, whatever is written later.
    func view() -> View
}

extension OrderedStore {
    package mutating func load(_ batch: WriteBatch) throws(StoreError) { try write(batch, isSynced: false) }
}

/// One write of one group, on its way to the log store.
package struct GroupWrite: Hashable, Sendable {
    package enum Act: Hashable, Sendable {
        /// Part of a replica's life.
        case write
        /// A new replica begins with `write.base`; whatever the store held of the group gives way.
        case create
        /// The replica ends. Its id stays, so that none up to it is held here again.
        case destroy
    }
    package var group: GroupID
    package var replica: ReplicaID
    package var act: Act
    package var write: LogWrite
    package init(group: GroupID, replica: ReplicaID, act: Act = .write, write: LogWrite) {
        self.group = group
        self.replica = replica
        self.act = act
        self.write = write
    }
}

/// A Raft message of one group.
package struct GroupMessage: Hashable, Sendable {
    package var group: GroupID
    package var message: Message
    package init(group: GroupID, message: Message) {
        self.group = group
        self.message = message
    }
}

/// All that one node sends another in one turn.
package struct PeerFrame: Hashable, Sendable {
    package var from: NodeID
    package var incarnation: Incarnation
    package var beat: Beat?
    package var messages: [GroupMessage]
    /// Pieces of snapshots and their acknowledgements; on connections of their own in production.
    package var snapshots: [SnapshotMessage]
    /// Of clients of the sender, and answers to those of the receiver.
    package var requests: [ForwardedRequest]
    package var answers: [ForwardedAnswer]
    package init(
        from: NodeID, incarnation: Incarnation, beat: Beat? = nil, messages: [GroupMessage] = [],
        snapshots: [SnapshotMessage] = [], requests: [ForwardedRequest] = [], answers: [ForwardedAnswer] = []
    ) {
        self.from = from
        self.incarnation = incarnation
        self.beat = beat
        self.messages = messages
        self.snapshots = snapshots
        self.requests = requests
        self.answers = answers
    }
}

/// What a client asked at a node that can't answer it alone. The receiver takes each number of a sender's process once,
/// and answers it itself or not at all: it never passes it on.
package struct ForwardedRequest: Hashable, Sendable {
    package enum Body: Hashable, Sendable {
        /// An encoded command of the group's state machine.
        case command([UInt8])
        /// An encoded query of the group's state machine.
        case query([UInt8])
        case transferLeadership(to: ReplicaID?)
    }

    /// One higher for every request of this sender's process to this receiver.
    package var number: UInt64
    package var group: GroupID
    /// How often it was sent before.
    package var hops: UInt32
    package var body: Body
    package init(number: UInt64, group: GroupID, hops: UInt32, body: Body) {
        self.number = number
        self.group = group
        self.hops = hops
        self.body = body
    }
}

/// What became of a forwarded request.
package struct ForwardedAnswer: Hashable, Sendable {
    package enum Body: Hashable, Sendable {
        /// The encoded result of the group's state machine.
        case applied([UInt8])
        /// The encoded answer of the group's state machine.
        case read([UInt8])
        case accepted
        case unknown
        case refused(Refusal, leader: Peer?)
    }

    package enum Refusal: Int32, Hashable, Sendable, CaseIterable {
        case notLeader = 1, noSuchGroup, overloaded, tooLarge, storageStalled, transferNotPossible, unavailable,
            malformed, spaceLow
    }

    package var number: UInt64
    /// Of the process that asked.
    package var incarnation: Incarnation
    package var body: Body
    package init(number: UInt64, incarnation: Incarnation, body: Body) {
        self.number = number
        self.incarnation = incarnation
        self.body = body
    }
}

/// Moves one snapshot from one node to another, piece by piece, from wherever the receiver stands.
package struct SnapshotMessage: Hashable, Sendable {
    package var group: GroupID
    package var from: Peer
    package var to: Peer
    package var epoch: Epoch
    package var term: Term
    package var snapshot: SnapshotID
    package var body: Body

    package enum Body: Hashable, Sendable {
        /// A piece. Piece 0 begins; `manifest` comes with the last one.
        case piece(number: UInt64, bytes: [UInt8], checksum: UInt32, manifest: SnapshotManifest?)
        /// The receiver holds every piece below `next`; the sender goes on there.
        case received(next: UInt64)
        /// The receiver has verified and installed it, or needs it no more.
        case done
        /// Either side gives up; the sender may start again with a newer one.
        case abandoned
    }

    package init(
        group: GroupID, from: Peer, to: Peer, epoch: Epoch, term: Term, snapshot: SnapshotID, body: Body
    ) {
        self.group = group
        self.from = from
        self.to = to
        self.epoch = epoch
        self.term = term
        self.snapshot = snapshot
        self.body = body
    }
}

/// What a snapshot holds, and how its receiver can tell that it has all of it.
package struct SnapshotManifest: Hashable, Sendable {
    package var base: LogBase
    package var keyCount: UInt64
    /// Digest over all keys and values in order.
    package var digest: UInt64
    package init(base: LogBase, keyCount: UInt64, digest: UInt64) {
        self.base = base
        self.keyCount = keyCount
        self.digest = digest
    }
}

/// What one of the node's own clients asks. Every request is answered once by its ticket.
package enum ClientRequest: Hashable, Sendable {
    /// One serialized command for the group's state machine.
    case command(GroupID, [UInt8])
    /// A read, answered linearizably.
    case query(GroupID, Query)
    case changeMembership(GroupID, [MembershipStep])
    case transferLeadership(GroupID, to: ReplicaID?)
    case forceRecovery(GroupID)

    package var group: GroupID {
        switch self {
        case .command(let group, _), .query(let group, _), .changeMembership(let group, _),
            .transferLeadership(let group, _), .forceRecovery(let group):
            group
        }
    }
}

/// What becomes of a request; exactly one for each ticket, unless the node ends before.
package enum ClientAnswer: Hashable, Sendable {
    /// What the state machine made of the command.
    case applied(MachineResult)
    case read(MachineAnswer)
    /// It was taken up; what becomes of it shows in the group's state.
    case accepted
    /// It has no effect, now or later.
    case refused(Refusal)
    /// It may take effect or not: another leader took over before this node knew, or the answer was lost on its way here.
    case unknown

    package enum Refusal: Hashable, Sendable {
        case notLeader(hint: Peer?)
        case noSuchGroup
        /// A bound is reached; ask again later.
        case overloaded
        case tooLarge
        case storageStalled
        /// The leader's disk is nearly full.
        case spaceLow
        /// No node of the group took it up in time.
        case unavailable
        /// It can't be read here, or is for another kind of group.
        case malformed
        case membership(MembershipRefusal)
        case transferNotPossible
    }
}

/// What a node has to say to whoever runs it.
package enum NodeReport: Hashable, Sendable {
    case event(GroupID, Event)
    /// A replica's stored record is not what was written. It neither votes nor answers, and must be replaced.
    case damaged(GroupID, ReplicaID, String)
    /// The node must end: what it has in memory may differ from its disk.
    case storageFailed(String)
    /// The node must end: its group goes on in a way that only a newer program knows.
    case outdated(String)
    case replicaRemoved(GroupID, ReplicaID)
    /// A snapshot that was coming in when an earlier process ended goes on; so many pieces of it are here.
    case snapshotResumed(GroupID, pieces: UInt64)
    /// Another node is held for gone; with what was known of the path to it.
    case peerSuspected(NodeID, SuspicionCause, PathFacts)
    case peerHeard(NodeID)
    /// The node's view of the root goes up to this entry now, and is another one than before.
    case rootChanged(LogIndex)
}

/// What a node needs of the world. No call blocks; what takes time is answered by an event.
package protocol WorldPorts: AnyObject {
    associatedtype State: OrderedStore

    /// Hands over a frame. It may arrive late, twice, out of order or never, and never damaged.
    func send(_ frame: consuming PeerFrame, to node: NodeID)
    /// Makes all these writes durable together, after all earlier ones; answered by the event `logWritten(ticket)`.
    func submit(_ writes: [GroupWrite], ticket: UInt64)
    /// Durable entries `from ... through` of a group, at least one and at most `bytesMax` bytes of them.
    func entries(
        of group: GroupID, replica: ReplicaID, from: LogIndex, through: LogIndex, bytesMax: Int
    ) throws(StoreError) -> [Entry]
    /// The applied state of all groups on this node.
    var state: State { get set }
    /// Makes the applied state durable; answered by the event `stateFlushed(ticket)`.
    func flushState(ticket: UInt64)
    func answer(_ ticket: UInt64, _ answer: ClientAnswer)
    func report(_ report: NodeReport)
}
