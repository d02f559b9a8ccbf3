package import ClusterBase
package import NodePorts
package import RaftCore
package import Reactor
internal import Schema

/// Is told what the other nodes say, always from the loop and never from within a call to the network.
package protocol PeerNetworkDelegate: AnyObject {
    /// From the node that the connection's certificate names.
    func received(_ frame: PeerFrame)
    /// A connection to the node stands; also when a newer one has taken the place of one that stood.
    func linkUp(_ node: NodeID, _ facts: LinkFacts)
    /// The node's connection ended, or nobody listens there. At once, and once each.
    func linkBroken(_ node: NodeID, _ how: LinkBreak)
    /// Another node asks; answered by `PeerNetwork.answer`, or never.
    func received(_ request: PeerQuestion, _ bytes: [UInt8])
    /// What became of a request; exactly once for each that was sent.
    func answered(_ request: RequestID, _ outcome: RequestOutcome)
    /// For the log.
    func noted(_ note: PeerNote)
}

/// What a node said of itself when its connection was made.
package struct LinkFacts: Hashable, Sendable {
    package var incarnation: Incarnation
    package var featureLevel: UInt32
    /// The version of the frames on this connection.
    package var frames: UInt32
    /// Whether this node opened it.
    package var isDialed: Bool
    package var address: SocketAddress
}

/// What the membership says about a node that shows this certificate.
package enum Judgement: Hashable, Sendable {
    case accept
    /// With one sentence for people.
    case refuse(String)
    /// It was a member and never will be again; with one sentence for people.
    case removed(String)

    var objection: Objection? {
        switch self {
        case .accept: nil
        case .refuse(let reason): Objection(.identity, reason)
        case .removed(let reason): Objection(.removed, reason)
        }
    }
}

/// Why a connection is refused.
struct Objection {
    var refusal: PeerHelloAnswer.Refusal
    var reason: String
    /// It may be an old word under way, which is nothing to tell people.
    var isQuiet = false

    init(_ refusal: PeerHelloAnswer.Refusal, _ reason: String, isQuiet: Bool = false) {
        self.refusal = refusal
        self.reason = reason
        self.isQuiet = isQuiet
    }
}

/// What a process can learn from its peers that it must not go on, whatever it does.
package enum Expulsion: Hashable, Sendable {
    case removed
    /// Its data directory is an older copy, or another process runs with a copy of it.
    case copied
}

/// A request of this node to another.
package struct RequestID: Hashable, Sendable {
    package let number: UInt64
}

/// A request of another node to this one.
package struct PeerQuestion: Hashable, Sendable {
    package let node: NodeID
    let number: UInt64
    let connection: UInt64
}

/// What became of a request.
package enum RequestOutcome: Hashable, Sendable {
    case answered([UInt8])
    /// The other node had too much to do, and did nothing about it.
    case overloaded
    /// The connection ended before the answer came: it was done or not.
    case linkBroken
    /// No answer came in time: it was done or not.
    case timedOut
}

/// Why a request was not sent: nothing of it has happened.
package enum RequestRefusal: Error, Hashable, Sendable {
    case noLink
    /// A bound of `PeerSettings` is reached; ask again later.
    case overloaded
    case tooLarge
}

/// What an operator may want to know about a connection. The texts are one sentence.
package enum PeerNote: Hashable, Sendable, CustomStringConvertible {
    case linkUp(NodeID, LinkFacts)
    case linkEnded(NodeID, String)
    /// The connection stands, and nothing has come over it for longer than the peer said.
    case silent(NodeID, Nanoseconds)
    case heardAgain(NodeID)
    /// Told once until a connection stands again.
    case notReachable(NodeID, String)
    /// This node refused a connection.
    case refused(SocketAddress, NodeID?, String)
    /// The peer refused a connection of this node.
    case refusedByPeer(NodeID, String)
    /// The peer refused this process for ever.
    case expelled(NodeID, Expulsion, String)
    /// A peer sent what no correct node sends, and lost its connection.
    case garbage(NodeID, String)

    package var description: String {
        switch self {
        case .linkUp(let node, let facts):
            "connected with node \(node) at \(facts.address), incarnation \(facts.incarnation)"
        case .linkEnded(let node, let why): "lost the connection with node \(node): \(why)"
        case .silent(let node, let time):
            "node \(node) has said nothing for \(time.count / 1_000_000_000) s, though its connection stands"
        case .heardAgain(let node): "node \(node) is heard again"
        case .notReachable(let node, let why): "node \(node) is not reachable: \(why)"
        case .refused(let address, let node, let why):
            "refused a connection from \(address)\(node.map { " of node \($0)" } ?? ""): \(why)"
        case .refusedByPeer(let node, let why), .expelled(let node, _, let why):
            "node \(node) refused the connection: \(why)"
        case .garbage(let node, let why): "node \(node) sent what no node sends, and lost its connection: \(why)"
        }
    }
}

/// The network's accounts since its start, for metrics.
package struct PeerCounters: Hashable, Sendable {
    package var framesSent: UInt64 = 0
    package var framesReceived: UInt64 = 0
    package var framesCompressed: UInt64 = 0
    /// Before encryption.
    package var bytesSent: UInt64 = 0
    package var bytesReceived: UInt64 = 0
    /// Frames for nodes without a connection.
    package var framesUnsent: UInt64 = 0
    /// Raft messages that were dropped because too much waited for their node.
    package var messagesDropped: UInt64 = 0
    /// Messages that alone are larger than a frame.
    package var messagesTooLarge: UInt64 = 0
    package var piecesSent: UInt64 = 0
    package var piecesDropped: UInt64 = 0
    package var connectsTried: UInt64 = 0
    package var connectsFailed: UInt64 = 0
    package var linksMade: UInt64 = 0
    package var linksEnded: UInt64 = 0
    /// Times that a connection stood and nothing came over it.
    package var silences: UInt64 = 0
    /// Connections that were replaced by a newer one of the same node.
    package var linksReplaced: UInt64 = 0
    /// Connections that lost against the other side's at the same time.
    package var collisions: UInt64 = 0
    /// Connections that this node refused, by reason.
    package var refusedIdentity: UInt64 = 0
    package var refusedMembership: UInt64 = 0
    package var refusedCluster: UInt64 = 0
    package var refusedVersion: UInt64 = 0
    package var refusedFull: UInt64 = 0
    package var refusedTLS: UInt64 = 0
    /// Connections that ended because of what the peer sent, by what it was.
    package var garbageChecksum: UInt64 = 0
    package var garbageOversize: UInt64 = 0
    package var garbageUndecodable: UInt64 = 0
    package var garbageForeign: UInt64 = 0
    package var streamBytesSent: UInt64 = 0
    /// Streams that no one waited for in time.
    package var streamsUnclaimed: UInt64 = 0
    /// Streams from a node that they don't come from, or that are being carried already.
    package var streamsRefused: UInt64 = 0
    package var requestsSent: UInt64 = 0
    package var requestsReceived: UInt64 = 0
    package var requestsFailed: UInt64 = 0
    package init() {}

    package var refused: UInt64 {
        refusedIdentity + refusedMembership + refusedCluster + refusedVersion + refusedFull + refusedTLS
    }
    package var garbage: UInt64 { garbageChecksum + garbageOversize + garbageUndecodable + garbageForeign }
}

/// One peer as it stands now, for status.
package struct PeerStatus: Hashable, Sendable {
    package var node: NodeID
    /// Nil while there is no connection.
    package var link: LinkFacts?
    package var since: Instant?
    package var bytesQueued: Int
    package var bulkBytesQueued: Int
    /// Why there is no connection.
    package var failure: String?
}
