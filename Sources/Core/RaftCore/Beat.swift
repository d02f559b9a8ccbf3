public import ClusterBase

/// What one node tells another at every beat. One beat per ordered pair of nodes, whatever the number of groups.
public struct Beat: Hashable, Sendable {
    /// The sender's process.
    public var incarnation: Incarnation
    /// One higher at every beat to this receiver; a lower one than the last is passed over.
    public var sequence: UInt64
    /// The sender's clock when it sent this; only ever echoed.
    public var sentAt: Instant
    /// The newest beat of the receiver that the sender has seen, and how long the sender held it.
    public var echo: Echo?
    /// How long ago the sender's engine last finished a turn, and its log store a synced write it was asked for.
    public var enginePulseAge: Nanoseconds
    /// How long ago the sender's log store finished the oldest write that it was asked for.
    public var storagePulseAge: Nanoseconds
    /// Digest over all (group, term) the sender leads and shares with the receiver, as of `leadershipVersion`.
    public var leadershipDigest: UInt64
    /// The number of the last change of that set. Counted from 1 within one incarnation; zero says nothing.
    public var leadershipVersion: UInt64
    /// The version that `changes` continue from. A receiver at another version can't use them, unless `isWhole`.
    public var changesAfter: UInt64
    /// The first changes after `changesAfter`, in order, each one version; at most `changesMax`, the rest follows
    /// when these are acknowledged. A lost beat costs nothing: the next one holds them again.
    public var changes: [LeadershipChange]
    /// Whether the set was empty at `changesAfter`, so that a receiver at any version may start there.
    public var isWhole: Bool
    /// The receiver's leadership version that the sender has taken in; zero asks for the whole set. It means the
    /// versions of the incarnation in `echo`, and nothing without one.
    public var acknowledgedVersion: UInt64
    /// How long the sender lets the receiver wait for its next beat, where that is longer than a beat's usual interval; zero
    /// where it is not.
    public var restsFor: Nanoseconds
    /// Why the sender wants to be beaten to at the usual interval, if it does.
    public var activity: Activity

    /// Whether a node has work.
    public enum Activity: Hashable, Sendable {
        /// It may be left to rest.
        case none
        /// Another node that has work told it so: it must know soon who is there.
        case woken
        /// It has work of its own; who hears this is woken.
        case own
    }

    /// About 4 KB on the wire: small enough for a frame that must not wait, large enough to tell of 1,000 groups in four.
    public static let changesMax = 256

    /// What comes back of a beat, so that its sender can measure the round trip.
    public struct Echo: Hashable, Sendable {
        /// The process that sent the beat which is echoed.
        public var incarnation: Incarnation
        /// That beat's number.
        public var sequence: UInt64
        /// That beat's `sentAt`, on the clock of who now receives the echo.
        public var sentAt: Instant
        /// How long the beat lay here before the echo left.
        public var heldFor: Nanoseconds
        public init(incarnation: Incarnation, sequence: UInt64, sentAt: Instant, heldFor: Nanoseconds) {
            self.incarnation = incarnation
            self.sequence = sequence
            self.sentAt = sentAt
            self.heldFor = heldFor
        }
    }

    /// One change of what a node leads.
    public struct LeadershipChange: Hashable, Sendable {
        /// The group that the sender has begun or ceased to lead, or leads in a new term.
        public var group: GroupID
        /// The term the sender leads the group in, or nil when it leads it no more.
        public var term: Term?
        public init(group: GroupID, term: Term?) {
            self.group = group
            self.term = term
        }
    }

    public init(
        incarnation: Incarnation, sequence: UInt64, sentAt: Instant, echo: Echo? = nil,
        enginePulseAge: Nanoseconds = .zero, storagePulseAge: Nanoseconds = .zero, leadershipDigest: UInt64 = 0,
        leadershipVersion: UInt64 = 0, changesAfter: UInt64 = 0, changes: [LeadershipChange] = [],
        isWhole: Bool = false, acknowledgedVersion: UInt64 = 0, restsFor: Nanoseconds = .zero,
        activity: Activity = .none
    ) {
        self.incarnation = incarnation
        self.sequence = sequence
        self.sentAt = sentAt
        self.echo = echo
        self.enginePulseAge = enginePulseAge
        self.storagePulseAge = storagePulseAge
        self.leadershipDigest = leadershipDigest
        self.leadershipVersion = leadershipVersion
        self.changesAfter = changesAfter
        self.changes = changes
        self.isWhole = isWhole
        self.acknowledgedVersion = acknowledgedVersion
        self.restsFor = restsFor
        self.activity = activity
    }
}
