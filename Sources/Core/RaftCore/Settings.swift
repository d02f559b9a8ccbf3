public import ClusterBase

/// The bounds and times of one group's core. Every bound lets at least one entry pass, so that none can wedge a group.
public struct Settings: Sendable {
    /// How long silence of the leader lasts before a replica doubts it; the node's liveness measures and updates it.
    public var suspicion = Nanoseconds.milliseconds(50)
    /// One append message carries at most this many bytes of entries, or one entry.
    public var appendBytesMax = 512 << 10
    /// One append message carries at most this many entries.
    public var appendEntriesMax = 256
    /// Appends under way to one follower without an answer.
    public var inflightMessagesMax = 128
    /// Bytes of entries under way to one follower without an answer.
    public var inflightBytesMax = 4 << 20
    /// Bytes appended and not committed; beyond it proposals are refused with a value.
    public var uncommittedBytesMax = 16 << 20
    /// One proposal's payload.
    public var proposalBytesMax = 1 << 20
    /// Recent entries kept in memory, so that replication to healthy followers reads no disk. Entries that are not
    /// both applied and durable stay in memory beyond it; `uncommittedBytesMax` bounds those.
    public var cacheBytesMax = 4 << 20
    /// Reads waiting for a leadership round, or for the state machine; more are refused.
    public var readsMax = 65_536
    /// A learner that promotes itself must be within this many entries of the leader …
    public var promotionLagMax = 1_000
    /// … for this long.
    public var promotionStability = Nanoseconds.seconds(10)
    /// Whether a follower passes proposals on to its leader, instead of refusing them with a hint.
    public var forwardsProposals = false
    #if MUTANTS
    package var mutant: Mutant?
    #endif

    public init() {}
}
