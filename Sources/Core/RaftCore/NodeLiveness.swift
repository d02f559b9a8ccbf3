public import ClusterBase

/// Which nodes are alive and what they lead, for one node: liveness is a property of nodes, so an idle group costs
/// nothing. Each node beats to every node that it shares a group with.
///
///                first beat                     silent for S, link refused,
///                                               link closed and not back
///     unheard ──────────────────────▶ alive ──────────────────────────────▶ suspected
///        │                              ▲                                       │
///        └─(nothing for suspicionMax)──▶│◀────────────── next beat ─────────────┘
///                                   suspected
///
/// Beside that a peer may be stalled: alive, but its beats say that its engine or its log store does not move.
///
/// The rule for a follower: its leader counts as alive only if `leads(node, group, term)`, that is, the node is alive,
/// not stalled, and claims the group. A leader that the follower heard of only just now by a message has one
/// `suspicionTimeout` to claim it, for a claim travels with a beat. Nothing here is needed for safety: a wrong verdict
/// costs a refused pre-vote or an election.
///
/// The caller ticks at `deadline` at the latest, and reads its sockets before it ticks. Times are differences of this
/// node's own clock; another node's clock is only ever echoed back to it.
///
/// Nodes that have no work rest: their beats come once in `restInterval`, and each says so, that its reader may wait for the
/// next one as long. The first that gets work wakes the others with its next beat, which goes out at once.
///
/// Costs: a beat is constant work; a tick looks at every peer and comes once per `beatInterval`, or `restInterval`. Neither allocates
/// unless leadership changes.
public struct NodeLiveness: Sendable {
    /// Whose view of the others this is.
    public let node: NodeID
    /// Of this process; beats carry it.
    public let incarnation: Incarnation
    /// The same on all nodes.
    public let settings: LivenessSettings
    /// What was dropped or corrected since the process began.
    public private(set) var counters = LivenessCounters()
    /// When the next tick is due; far away when no peer is tracked. Any call may move it.
    public private(set) var deadline = NodeLiveness.never

    /// Sorted by node.
    private var peers: [LivenessPeer] = []
    /// Sorted by group.
    private var led: [Led] = []
    /// The highest number of a beat to any peer that was forgotten since. A peer that is tracked again may remember it
    /// and would pass over a lower one.
    private var sequenceForgotten: UInt64 = 0
    /// The latest time that was passed in.
    private var lastNow: Instant
    /// When the beats to near peers go out; one moment for all, so that a tick's look at every peer pays for many beats.
    private var beatsNext: Instant
    /// From when on the next beats may go along with a turn that comes anyway: at rest an idle node is made of wake-ups, and
    /// nodes that send what they owe when they hear from others soon wake together. A beat that is early harms no measure.
    private var beatsMayGoFrom: Instant
    /// When a peer that must hear of a change of leadership gets its beat before the others.
    private var urgentNext = NodeLiveness.never
    /// Own lateness up to here was taken out already.
    private var pausesTakenOutUntil: Instant
    /// Set by a pause of our own: what the peers sent meanwhile may still lie in the sockets.
    private var mustDrainFirst = false
    /// Peers with a timeout below `doubtGap` get twice of it until `doubtUntil`.
    private var doubtUntil: Instant
    private var doubtGap = Nanoseconds.zero

    /// Whether the nodes of this cluster all know what a resting one says.
    private var mayRest = false
    /// Until then this node has work of its own, or another's work keeps it awake.
    private var stirredUntil: Instant
    private var wokenUntil: Instant

    static let never = Instant(nanoseconds: .max)

    private struct Led: Sendable {
        var group: GroupID
        var term: Term
        var nodes: [NodeID]
    }

    /// `incarnation` must be above that of every earlier process of this node.
    public init(node: NodeID, incarnation: Incarnation, settings: LivenessSettings, now: Instant) {
        settings.check()
        self.node = node
        self.incarnation = incarnation
        self.settings = settings
        lastNow = now
        beatsNext = now
        beatsMayGoFrom = now
        pausesTakenOutUntil = now
        doubtUntil = now
        stirredUntil = now + settings.stirredFor
        wokenUntil = now
    }

    // MARK: Work and rest

    /// Whether this node may beat less often while nobody has work. All nodes of the cluster must know what such beats say.
    public mutating func allowRest(now: Instant) {
        if mayRest || settings.restInterval == .zero { return }
        mayRest = true
        stirredUntil = now + settings.stirredFor
    }

    /// This node has work that others are needed for. At rest it asks all of them at once who is there, and a silence counts
    /// from now as it does between nodes that never rest.
    public mutating func stir(now: Instant) {
        let was = activity(now)
        stirredUntil = now + settings.stirredFor
        if mayRest && was != .own { wake(now) }
    }

    private func activity(_ now: Instant) -> Beat.Activity {
        now < stirredUntil ? .own : now < wokenUntil ? .woken : .none
    }

    private mutating func wake(_ now: Instant) {
        advance(to: now)
        for i in 0..<peers.count {
            peers[i].endRest(now: now, settings: settings)
            hurry(i, now)
        }
    }

    // MARK: Who is a peer

    /// Starts to beat to `node` and to listen to it; nothing changes for one that is tracked already.
    /// False at `peersMax`: the node is not tracked and so never alive.
    public mutating func track(_ node: NodeID, now: Instant) -> Bool {
        precondition(node != self.node, "node \(node) is no peer of its own")
        advance(to: now)
        let i = position(of: node)
        if i < peers.count && peers[i].node == node { return true }
        guard peers.count < settings.peersMax else { return false }
        if peers.isEmpty { beatsNext = now }
        var peer = LivenessPeer(node: node, sequenceSent: sequenceForgotten, settings: settings, now: now)
        for group in led where group.nodes.contains(node) { _ = peer.told.set(group.group, group.term) }
        peers.insert(peer, at: i)
        hurry(i, now)
        deadline = min(deadline, beatsNext)
        return true
    }

    /// Forgets `node` and all that is known of it. Tracked again, it starts from nothing.
    public mutating func untrack(_ node: NodeID) {
        guard let i = index(of: node) else { return }
        sequenceForgotten = max(sequenceForgotten, peers[i].sequenceSent)
        peers.remove(at: i)
        if peers.isEmpty {
            deadline = NodeLiveness.never
            urgentNext = NodeLiveness.never
        }
    }

    /// States that this node leads `group` in `term`, or does not when nil, and which nodes have a copy of the group.
    /// To be told again when these change. Nodes may be tracked before or after.
    public mutating func setLeadership(
        _ group: GroupID, term: Term?, sharedWith nodes: [NodeID], now: Instant
    ) {
        advance(to: now)
        var i = 0
        var high = led.count
        while i < high {
            let middle = (i + high) / 2
            if led[middle].group < group { i = middle + 1 } else { high = middle }
        }
        let isKnown = i < led.count && led[i].group == group
        if let term {
            if isKnown {
                precondition(
                    term >= led[i].term, "group \(group) is led in term \(led[i].term) and can't go back to \(term)")
                led[i].term = term
                led[i].nodes = nodes
            } else {
                precondition(
                    led.count < settings.groupsMax, "\(led.count) groups are led, group \(group) is one too many")
                led.insert(Led(group: group, term: term, nodes: nodes), at: i)
            }
        } else if isKnown {
            led.remove(at: i)
        }
        for p in 0..<peers.count {
            let told = nodes.contains(peers[p].node) ? term : nil
            if peers[p].told.set(group, told) { hurry(p, now) }
        }
    }

    // MARK: What happens

    /// Takes in a beat that came from `node` over a connection that proved to be `node`'s.
    public mutating func received(
        _ beat: Beat, from node: NodeID, now: Instant, into effects: inout LivenessEffects
    ) {
        advance(to: now)
        guard let i = index(of: node) else {
            counters.beatsOfStrangers += 1
            return
        }
        guard beat.changes.count <= Beat.changesMax else {
            counters.beatsMalformed += 1
            return
        }
        switch peers[i].order(of: beat) {
        case .ofOldIncarnation: counters.beatsOfOldIncarnation += 1
        case .old: counters.beatsOld += 1
        case .next: take(beat, i, now, &effects)
        case .firstOfNewIncarnation:
            if peers[i].incarnation != nil {
                effects.events.append(.nodeRestarted(node, beat.incarnation))
                peers[i].restarted()
            }
            peers[i].incarnation = beat.incarnation
            take(beat, i, now, &effects)
        }
    }

    /// Anything else that `node` sent, by this process of it. It breaks a silence, for beats queue behind what is sent before
    /// them; it says nothing of the path, and makes no suspected node alive.
    public mutating func sawSign(of node: NodeID, _ incarnation: Incarnation, now: Instant) {
        advance(to: now)
        if let i = index(of: node) { peers[i].gaveSign(incarnation, now: now) }
    }

    private mutating func take(_ beat: Beat, _ i: Int, _ now: Instant, _ effects: inout LivenessEffects) {
        peers[i].heard(beat, now: now, settings: settings)
        heed(beat.activity, i, now)
        if peers[i].state == .suspected { peers[i].heardAgain() }
        if let echo = beat.echo {
            if echo.incarnation == incarnation {
                // What a peer acknowledges of an earlier process of ours would be taken for our own versions.
                peers[i].told.acknowledged(beat.acknowledgedVersion)
                // After a pause of our own the beat may have waited in the socket: that is no round trip.
                if !mustDrainFirst && !peers[i].takeRoundTrip(echo, now: now, settings: settings) {
                    counters.echoesIgnored += 1
                }
            } else {
                counters.echoesIgnored += 1
            }
        }
        let node = peers[i].node
        if peers[i].state != .alive {
            peers[i].state = .alive
            effects.events.append(.nodeAlive(node))
        }
        switch peers[i].claimed.take(beat, from: node, groupsMax: settings.groupsMax, into: &effects) {
        case nil: break
        case .malformed: counters.beatsMalformed += 1
        case .digestMismatch: counters.digestMismatches += 1
        }
        let wasStalled = peers[i].isStalled
        peers[i].takePulses(beat, settings: settings)
        if peers[i].isStalled != wasStalled {
            effects.events.append(wasStalled ? .nodeRecovered(node) : .nodeStalled(node))
        }
    }

    /// A peer with work wants to hear soon who is there, and so do those that it told.
    private mutating func heed(_ activity: Beat.Activity, _ i: Int, _ now: Instant) {
        if activity == .none { return }
        if peers[i].announced > .zero { hurry(i, now) }
        guard activity == .own else { return }
        let was = self.activity(now)
        wokenUntil = max(wokenUntil, now + max(settings.beatInterval, peers[i].timing.beatInterval) * 4)
        if mayRest && was == .none { wake(now) }
    }

    /// A connection to `node` ended. A refused one is a verdict; a closed one shortens what the peer has left to
    /// `closedLinkGrace`, until a beat or a new connection shows that it is there.
    public mutating func linkBroken(
        _ node: NodeID, _ how: LinkBreak, now: Instant, into effects: inout LivenessEffects
    ) {
        advance(to: now)
        guard let i = index(of: node) else { return }
        peers[i].isIntervalBroken = true
        guard peers[i].state == .alive else { return }
        switch how {
        case .refused: suspect(i, .linkRefused, &effects)
        case .closed:
            peers[i].closedLinkDue = min(peers[i].closedLinkDue, now + settings.closedLinkGrace)
            deadline = min(deadline, peers[i].closedLinkDue)
        }
    }

    /// A connection to `node` stands (again). Only a beat makes a suspected node alive.
    public mutating func linkUp(_ node: NodeID, now: Instant) {
        advance(to: now)
        guard let i = index(of: node) else { return }
        peers[i].isIntervalBroken = true
        peers[i].closedLinkDue = NodeLiveness.never
        hurry(i, now)
    }

    /// Sends the beats that are due and reaches the verdicts that are due. Sockets must have been read before.
    ///
    /// A tick that is late by more than half a beat means that this node stood still: all peers get as much time more,
    /// and no verdict is reached before the tick after it.
    public mutating func tick(now: Instant, pulses: Pulses, into effects: inout LivenessEffects) {
        advance(to: now)
        let mayJudge = !mustDrainFirst
        mustDrainFirst = false
        let isBeat = now >= min(beatsNext, beatsMayGoFrom)
        let isUrgent = now >= urgentNext
        let activity = activity(now)
        let isAtRest = mayRest && activity == .none
        var isAllAtRest = isAtRest
        var verdictNext = NodeLiveness.never
        for i in 0..<peers.count {
            if peers[i].wantsBeat(isBeat: isBeat, isUrgent: isUrgent, now: now, settings: settings) {
                effects.beats.append(
                    AddressedBeat(
                        to: peers[i].node,
                        beat: peers[i].nextBeat(
                            incarnation, now: now, pulses: pulses, own: activity, mayRest: isAtRest,
                            settings: settings)))
            }
            isAllAtRest = isAllAtRest && peers[i].announced > .zero
            guard peers[i].state != .suspected else { continue }
            let silenceDue = peers[i].silentSince(settings) + timeout(i) + peers[i].restForgiven(settings)
            let due = min(silenceDue, peers[i].closedLinkDue)
            if due > now || !mayJudge {
                verdictNext = min(verdictNext, due)
            } else if peers[i].state == .unheard {
                suspect(i, .neverHeard, &effects)
            } else {
                suspect(i, silenceDue <= now ? .silence : .linkClosed, &effects)
            }
        }
        if isBeat {
            // On the beat where possible, so that a late tick does not delay all later ones.
            let interval = isAllAtRest ? settings.restInterval : settings.beatInterval
            let isEarly = now < beatsNext
            beatsNext += interval
            if isEarly || beatsNext <= now { beatsNext = now + interval }
            beatsMayGoFrom = isAllAtRest ? beatsNext - settings.beatInterval / 2 : beatsNext
        }
        if isUrgent { urgentNext = NodeLiveness.never }
        deadline = peers.isEmpty ? NodeLiveness.never : min(beatsNext, min(urgentNext, verdictNext))
    }

    private mutating func suspect(_ i: Int, _ cause: SuspicionCause, _ effects: inout LivenessEffects) {
        peers[i].state = .suspected
        peers[i].closedLinkDue = NodeLiveness.never
        counters.suspicions += 1
        effects.events.append(.nodeSuspected(peers[i].node, cause))
    }

    // MARK: Own time

    /// Every input goes through here first: a pause of our own must be taken out before anything is measured.
    private mutating func advance(to now: Instant) {
        precondition(now >= lastNow, "time went back from \(lastNow) to \(now) on node \(node)")
        lastNow = now
        let expected = max(deadline, pausesTakenOutUntil)
        guard now > expected else { return }
        let late = now - expected
        guard late > settings.beatInterval / 2 else { return }
        pausesTakenOutUntil = now
        mustDrainFirst = true
        counters.ownPauses += 1
        var isLong = false
        for i in 0..<peers.count {
            isLong = isLong || late > peers[i].suspicion(settings)
            peers[i].takeOut(late, now: now)
        }
        if isLong {
            doubtGap = now < doubtUntil ? max(doubtGap, late) : late
            doubtUntil = now + settings.selfDoubt
        }
    }

    private func timeout(_ i: Int) -> Nanoseconds {
        let suspicion = peers[i].suspicion(settings)
        return lastNow < doubtUntil && suspicion < doubtGap ? suspicion * 2 : suspicion
    }

    /// A quarter of a beat after the last one at the earliest: a burst of changes is one beat.
    private mutating func hurry(_ i: Int, _ now: Instant) {
        peers[i].hurry()
        beatsNext = min(beatsNext, now + settings.beatInterval)
        let earliest = peers[i].beatSentAt.map { $0 + settings.beatInterval / 4 } ?? now
        urgentNext = min(urgentNext, max(now, earliest))
        deadline = min(deadline, urgentNext)
    }

    // MARK: Questions

    /// Whether a `tick` now would send beats that are due soon, and do nothing else: for the end of a turn that others caused.
    public func mayBeatEarly(_ now: Instant) -> Bool { now >= beatsMayGoFrom && now < deadline }

    /// How many nodes are tracked.
    public var peerCount: Int { peers.count }

    /// Whether `node` was heard lately. False for nodes that are not tracked or were never heard; true for this node.
    public func isAlive(_ node: NodeID) -> Bool {
        if node == self.node { return true }
        guard let i = index(of: node) else { return false }
        return peers[i].state == .alive
    }

    /// Whether `node` is alive and its engine and log store move, as far as its beats say.
    public func isFitToLead(_ node: NodeID) -> Bool {
        if node == self.node { return true }
        guard let i = index(of: node) else { return false }
        return peers[i].state == .alive && !peers[i].isStalled
    }

    /// The term in which `node` says it leads `group`; nil when it does not say so or is not alive.
    public func claims(_ node: NodeID, _ group: GroupID) -> Term? {
        guard let i = index(of: node), peers[i].state == .alive else { return nil }
        return peers[i].claimed.claims.term(of: group)
    }

    /// Whether a follower of `node` in `term` may go on following. A claim of a later term counts too: the group has a
    /// leader, and its messages will say so.
    public func leads(_ node: NodeID, _ group: GroupID, _ term: Term) -> Bool {
        guard let i = index(of: node), peers[i].state == .alive, !peers[i].isStalled else { return false }
        guard let claimed = peers[i].claimed.claims.term(of: group) else { return false }
        return claimed >= term
    }

    /// How long a silence of `node` is forgiven at present; nil when it is not tracked.
    public func suspicionTimeout(_ node: NodeID) -> Nanoseconds? {
        index(of: node).map { timeout($0) }
    }

    /// The smoothed round trip; nil before the first one.
    public func roundTrip(_ node: NodeID) -> Nanoseconds? {
        guard let i = index(of: node), peers[i].timing.roundTrip != .zero else { return nil }
        return peers[i].timing.roundTrip
    }

    /// What the beats of `node` say about the path to it; nil when it is not tracked.
    public func path(to node: NodeID) -> PathFacts? {
        guard let i = index(of: node) else { return nil }
        let timing = peers[i].timing
        return PathFacts(
            silenceForgiven: timeout(i), interval: timing.interval, intervalLongest: timing.intervalLongest,
            roundTrip: timing.roundTrip, roundTripHigh: timing.roundTripHigh, lostRun: Int(timing.lostRun))
    }

    /// How often this node beats to `node`; nil when it is not tracked.
    public func beatInterval(_ node: NodeID) -> Nanoseconds? {
        index(of: node).map { peers[$0].timing.beatInterval }
    }

    /// The process of `node` that was heard last.
    public func incarnation(of node: NodeID) -> Incarnation? {
        index(of: node).flatMap { peers[$0].incarnation }
    }

    /// Whether `node` has acknowledged all that this node leads and shares with it.
    public func hasToldAll(_ node: NodeID) -> Bool {
        guard let i = index(of: node) else { return false }
        return peers[i].told.peerHoldsBase && !peers[i].told.hasUntold
    }

    private func position(of node: NodeID) -> Int {
        var low = 0
        var high = peers.count
        while low < high {
            let middle = (low + high) / 2
            if peers[middle].node < node { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private func index(of node: NodeID) -> Int? {
        let i = position(of: node)
        return i < peers.count && peers[i].node == node ? i : nil
    }
}
