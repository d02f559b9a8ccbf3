public import ClusterBase
public import Reactor

/// Who this node is to its peers, and the bounds of what it says and hears. All sizes are bytes.
public struct PeerSettings: Hashable, Sendable {
    /// The cluster's name, as the certificates and the first message have it.
    public var cluster: String
    public var node: NodeID
    public var incarnation: Incarnation
    /// What this program can do.
    public var featureLevel: UInt32 = 1

    /// An attempt to connect, and the first messages after it.
    public var connectTimeout = Nanoseconds.seconds(2)
    public var helloTimeout = Nanoseconds.seconds(2)
    /// The pause before the second attempt; it doubles up to the longest, and each is drawn from its upper half.
    public var backoffMin = Nanoseconds.milliseconds(2)
    public var backoffMax = Nanoseconds.seconds(1)
    /// A connection that held so long is dialled again at once when it ends.
    public var stableAfter = Nanoseconds.seconds(1)
    /// Sent data that a peer's machine does not acknowledge so long ends the connection.
    public var silenceMax = Nanoseconds.seconds(4)

    /// What may wait for one peer. Beyond it the newest Raft messages are dropped, which Raft repeats; beats still go.
    public var queuedBytesMax = 16 << 20
    /// Frames from this size on are compressed, if there is a codec.
    public var compressFrom = 4 << 10
    /// Connections of unknown peers that have not said who they are.
    public var strangersMax = 256

    /// All bulk connections of this node together.
    public var bulkBytesPerSecond = 64 << 20
    /// Pieces that may wait for one peer; beyond it the newest is dropped, and the transfer repeats it.
    public var bulkQueuedBytesMax = 16 << 20
    /// A bulk connection without work is closed after so long.
    public var bulkIdleMax = Nanoseconds.seconds(30)

    /// Requests to one peer, and from one peer, without an answer.
    public var requestsMax = 4_096
    public var requestBytesMax = 2 << 20
    public var requestTimeout = Nanoseconds.seconds(10)

    public init(cluster: String, node: NodeID, incarnation: Incarnation) {
        self.cluster = cluster
        self.node = node
        self.incarnation = incarnation
    }
}

/// Where a node can be reached, best first.
public struct PeerAddresses: Hashable, Sendable {
    public var node: NodeID
    public var addresses: [Address]
    public init(node: NodeID, addresses: [Address]) {
        self.node = node
        self.addresses = addresses
    }
}
