package import ClusterBase
package import Reactor

/// Who this node is to its peers, and the bounds of what it says and hears. All sizes are bytes.
package struct PeerSettings: Hashable, Sendable {
    /// The cluster's name, as the certificates and the first message have it.
    package var cluster: String
    package var node: NodeID
    package var incarnation: Incarnation
    /// Drawn anew by each process, or zero: two of one incarnation run with copies of one data directory.
    package var process: UInt64 = 0
    /// What this program can do.
    package var featureLevel: UInt32 = 1

    /// An attempt to connect, and the first messages after it.
    package var connectTimeout = Nanoseconds.seconds(2)
    package var helloTimeout = Nanoseconds.seconds(2)
    /// The pause before the second attempt; it doubles up to the longest, and each is drawn from its upper half.
    package var backoffMin = Nanoseconds.milliseconds(2)
    package var backoffMax = Nanoseconds.seconds(1)
    /// A connection that held so long is dialled again at once when it ends.
    package var stableAfter = Nanoseconds.seconds(1)
    /// A process that was heard within this time is there: no later start of its node takes its place.
    package var livesWithin = Nanoseconds.seconds(3)
    /// Each side of a link says something at least so often, or once in so long for each peer that there is, whichever is
    /// longer: what all links of a node cost is bounded, however many there are.
    package var signInterval = Nanoseconds.seconds(5)
    package var signIntervalPerPeer = Nanoseconds.milliseconds(50)
    /// A peer is silent when it has said nothing for so many of the intervals that it named.
    package static let signsMissedMax: Int64 = 3
    static let signMillisecondsMax: UInt64 = 3_600_000
    /// Sent data that a peer's machine does not acknowledge so long ends the connection.
    package var silenceMax = Nanoseconds.seconds(4)

    /// What may wait for one peer. Beyond it the newest Raft messages are dropped, which Raft repeats; beats still go.
    package var queuedBytesMax = 16 << 20
    /// Frames from this size on are compressed, if there is a codec.
    package var compressFrom = 4 << 10
    /// Connections of unknown peers that have not said who they are.
    package var strangersMax = 256

    /// All bulk connections of this node together.
    package var bulkBytesPerSecond = 64 << 20
    package static let bulkBytesPerSecondMax = TokenBucket.bytesPerSecondMax
    /// Pieces that may wait for one peer; beyond it the newest is dropped, and the transfer repeats it.
    package var bulkQueuedBytesMax = 16 << 20
    /// A bulk connection without work is closed after so long.
    package var bulkIdleMax = Nanoseconds.seconds(30)

    /// What a stream's sender waits for its receiver, and then for its own program.
    package var streamReachMax = Nanoseconds.seconds(10)
    /// A stream that nobody has claimed for so long is closed.
    package var streamClaimMax = Nanoseconds.seconds(10)
    /// Streams of one peer that nobody has claimed; one more is refused.
    package var streamsUnclaimedMax = 16

    /// Requests to one peer, and from one peer, without an answer.
    package var requestsMax = 4_096
    package var requestBytesMax = 2 << 20
    package var requestTimeout = Nanoseconds.seconds(10)

    package init(cluster: String, node: NodeID, incarnation: Incarnation) {
        self.cluster = cluster
        self.node = node
        self.incarnation = incarnation
    }
}

/// Where a node can be reached, best first.
package struct PeerAddresses: Hashable, Sendable {
    package var node: NodeID
    package var addresses: [Address]
    package init(node: NodeID, addresses: [Address]) {
        self.node = node
        self.addresses = addresses
    }
}
