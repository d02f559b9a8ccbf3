public import ClusterBase

/// How often nodes beat, and how long a silence is forgiven. Equal on all nodes of a cluster.
public struct LivenessSettings: Hashable, Sendable {
    /// The beat towards a near peer; towards a far one it is half the round trip.
    public var beatInterval = Nanoseconds.milliseconds(15)
    /// No silence shorter than this is judged, however regular a peer was.
    public var suspicionFloor = Nanoseconds.milliseconds(50)
    /// No silence longer than this is forgiven, however irregular a peer was.
    public var suspicionMax = Nanoseconds.seconds(2)
    /// What a peer gets to connect again after its connection closed.
    public var closedLinkGrace = Nanoseconds.milliseconds(15)
    /// The beat between nodes that have no work; zero, and they never rest. A silence is forgiven for three of these more.
    public var restInterval = Nanoseconds.zero
    /// How long a node that had work goes on at the usual interval.
    public var stirredFor = Nanoseconds.seconds(2)
    /// A peer whose log store has not finished a write for this long is not fit to lead.
    public var storageStallMax = Nanoseconds.seconds(1)
    /// A peer whose engine has not finished a turn for this long is not fit to lead.
    public var engineStallMax = Nanoseconds.seconds(1)
    /// For how long after a long pause of its own a node gives its peers twice the time.
    public var selfDoubt = Nanoseconds.seconds(1)
    /// Leadership changes in one beat; at most `Beat.changesMax`.
    public var changesPerBeatMax = Beat.changesMax
    /// Peers of one node. A tick looks at each of them.
    public var peersMax = 1_024
    /// Groups that one node leads, and that it believes a peer to lead.
    public var groupsMax = 65_536

    public init() {}

    /// The slowest beat: even then several fit into the longest suspicion timeout.
    var beatIntervalMax: Nanoseconds { max(suspicionMax / 8, beatInterval) }

    func check() {
        precondition(beatInterval > .zero, "a beat every \(beatInterval) is no beat")
        // Two lost beats and one that is half an interval late must not be a verdict on their own.
        precondition(
            suspicionFloor >= beatInterval * 3,
            "a suspicion floor of \(suspicionFloor) is below three beats of \(beatInterval)")
        precondition(
            suspicionMax >= suspicionFloor, "suspicion at most \(suspicionMax) is below its floor \(suspicionFloor)")
        precondition(
            restInterval == .zero || (beatInterval...suspicionMax).contains(restInterval),
            "a beat every \(restInterval) at rest is none between \(beatInterval) and \(suspicionMax)")
        precondition(stirredFor >= .zero, "work that lasts \(stirredFor) is none")
        precondition(closedLinkGrace >= .zero, "a grace of \(closedLinkGrace) is negative")
        precondition(storageStallMax > .zero, "a storage stall of \(storageStallMax) would be always")
        precondition(engineStallMax > .zero, "an engine stall of \(engineStallMax) would be always")
        precondition(selfDoubt >= .zero, "a self-doubt of \(selfDoubt) is negative")
        precondition(
            (1...Beat.changesMax).contains(changesPerBeatMax),
            "\(changesPerBeatMax) changes per beat are not in 1...\(Beat.changesMax)")
        precondition(peersMax > 0, "\(peersMax) peers are none")
        precondition(groupsMax > 0, "\(groupsMax) groups are none")
    }
}

/// How long ago this node's own engine finished a turn, and its log store the oldest write it was asked for.
public struct Pulses: Hashable, Sendable {
    /// Since the engine finished its last turn.
    public var engineAge: Nanoseconds
    /// Since the log store was asked for the oldest write that it has not finished; zero when it has none.
    public var storageAge: Nanoseconds
    public init(engineAge: Nanoseconds = .zero, storageAge: Nanoseconds = .zero) {
        self.engineAge = engineAge
        self.storageAge = storageAge
    }
}

/// How a connection to a peer ended.
public enum LinkBreak: Hashable, Sendable {
    /// It was closed or reset; a new one may be on its way.
    case closed
    /// The peer's machine answered that nobody listens: its process is gone.
    case refused
}

/// What made a node suspect.
public enum SuspicionCause: Hashable, Sendable {
    /// No beat came for as long as the path is forgiven.
    case silence
    /// No beat came since the node is tracked.
    case neverHeard
    /// Its connection closed, and neither it nor a beat came back in time.
    case linkClosed
    /// Its machine answers that nobody listens.
    case linkRefused
}

/// What a node found out about its peers.
public enum LivenessEvent: Hashable, Sendable {
    /// It was heard for the first time, or again after a suspicion.
    case nodeAlive(NodeID)
    /// The node is not alive any more. What it claimed is kept, and counts again when it comes back.
    case nodeSuspected(NodeID, SuspicionCause)
    /// The node's process is a new one. Whatever the old one led is led by nobody; no `leadershipLost` follows.
    case nodeRestarted(NodeID, Incarnation)
    /// The node is alive and says itself that its engine or its log store does not move: it must not lead.
    case nodeStalled(NodeID)
    /// It said that it stood, and says now that it moves again.
    case nodeRecovered(NodeID)
    /// The node leads the group in this term. It leads it in no other.
    case leadershipClaimed(NodeID, GroupID, Term)
    /// The node led the group in this term, and does not any more.
    case leadershipLost(NodeID, GroupID, Term)
}

/// What a peer's beats say about the path to it, and how long a silence on it is therefore forgiven.
public struct PathFacts: Hashable, Sendable {
    /// A longer silence makes the node suspected.
    public var silenceForgiven: Nanoseconds
    /// Between two beats as they arrive: the mean, and the longest of late.
    public var interval: Nanoseconds
    /// The longest between two beats of late.
    public var intervalLongest: Nanoseconds
    /// Smoothed, and what few exceed; zero before the first.
    public var roundTrip: Nanoseconds
    /// What few round trips exceed; zero before the first.
    public var roundTripHigh: Nanoseconds
    /// How many beats in a row this path loses by chance.
    public var lostRun: Int
}

/// A beat and the node that it goes to.
public struct AddressedBeat: Hashable, Sendable {
    /// A node that is tracked.
    public var to: NodeID
    /// What to send.
    public var beat: Beat
    public init(to: NodeID, beat: Beat) {
        self.to = to
        self.beat = beat
    }
}

/// Where `NodeLiveness` puts its results. The caller owns it and uses it again, so that a beat need not allocate.
public struct LivenessEffects: Sendable {
    /// To be sent at once: the ages and the echo in a beat are true now.
    public var beats: [AddressedBeat] = []
    /// What was found out, in order.
    public var events: [LivenessEvent] = []

    public init() {}

    /// Whether there is nothing to do.
    public var isEmpty: Bool { beats.isEmpty && events.isEmpty }

    /// Empties both lists and keeps their memory.
    public mutating func removeAll() {
        beats.removeAll(keepingCapacity: true)
        events.removeAll(keepingCapacity: true)
    }
}

/// What was dropped or corrected, for metrics.
public struct LivenessCounters: Hashable, Sendable {
    /// Beats whose sequence was not above the last one.
    public var beatsOld = 0
    /// Beats of a process that its successor has replaced.
    public var beatsOfOldIncarnation = 0
    /// Beats of nodes that are not tracked.
    public var beatsOfStrangers = 0
    /// Beats that no correct peer sends.
    public var beatsMalformed = 0
    /// Echoes of other incarnations, and round trips that can't be.
    public var echoesIgnored = 0
    /// Claims that differed from their digest and were asked for again.
    public var digestMismatches = 0
    /// Times that a node was suspected.
    public var suspicions = 0
    /// Times that this node itself stood still, and its peers got the time back.
    public var ownPauses = 0
    public init() {}
}
