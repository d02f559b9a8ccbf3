import ClusterBase

/// All that a node keeps about one peer.
struct LivenessPeer: Sendable {
    enum State: Sendable {
        case unheard
        case alive
        case suspected
    }

    let node: NodeID
    var state = State.unheard
    /// Of the peer's process; nil before its first beat.
    var incarnation: Incarnation?
    /// The peer's newest beat, when it came, and what the peer's clock said. For the echo.
    private(set) var sequence: UInt64 = 0
    private(set) var receivedAt: Instant
    private(set) var peerSentAt = Instant.origin
    /// When the last beat came, moved by our own pauses since.
    private var heardAt: Instant
    /// When anything else came last, moved likewise.
    private var signAt: Instant
    /// When a closed connection that did not come back is a verdict.
    var closedLinkDue = NodeLiveness.never
    /// The next beat's interval spans a broken connection and measures nothing.
    var isIntervalBroken = true
    /// Until then intervals measure how a stream recovers from an outage, and not the path.
    private var recoversUntil = Instant.origin
    private(set) var timing: BeatTiming
    /// How long it said that its next beat may take; zero for the usual interval.
    private(set) var restsFor = Nanoseconds.zero
    /// What its newest beat said of its work.
    private(set) var activity = Beat.Activity.none
    /// What this node's newest beat to it said.
    private(set) var announced = Nanoseconds.zero
    private(set) var isStalled = false

    private(set) var sequenceSent: UInt64
    private(set) var beatSentAt: Instant?
    private var sequenceEchoed: UInt64 = 0
    /// The peer must hear of something before the next regular beat.
    var isUrgent = false

    var told = ToldClaims()
    var claimed = HeardClaims()

    init(node: NodeID, sequenceSent: UInt64, settings: LivenessSettings, now: Instant) {
        self.node = node
        self.sequenceSent = sequenceSent
        receivedAt = now
        heardAt = now
        signAt = now
        timing = BeatTiming(settings: settings)
    }

    enum Order {
        case ofOldIncarnation
        case old
        case next
        case firstOfNewIncarnation
    }

    func order(of beat: Beat) -> Order {
        guard let incarnation else { return .firstOfNewIncarnation }
        if beat.incarnation < incarnation { return .ofOldIncarnation }
        if beat.incarnation > incarnation { return .firstOfNewIncarnation }
        return beat.sequence > sequence ? .next : .old
    }

    /// The path is the old one and its timing stays; all that the old process knew or said is void.
    mutating func restarted() {
        sequence = 0
        restsFor = .zero
        activity = .none
        isIntervalBroken = true
        claimed.forget()
        told.peerForgot()
    }

    mutating func heard(_ beat: Beat, now: Instant, settings: LivenessSettings) {
        if isIntervalBroken {
            isIntervalBroken = false
        } else if now - heardAt > settings.suspicionMax {
            // A stream that an outage has held back comes in bursts, each after a timer of its sender's.
            recoversUntil = now + settings.suspicionMax / 2
        } else if now >= recoversUntil {
            // Whatever a peer writes there, it is a number.
            let (apart, overflow) = beat.sentAt.nanoseconds.subtractingReportingOverflow(peerSentAt.nanoseconds)
            timing.beatArrived(
                after: now - heardAt, lost: beat.sequence - sequence - 1, sent: overflow ? .zero : Nanoseconds(apart),
                settings: settings)
        }
        sequence = beat.sequence
        peerSentAt = beat.sentAt
        receivedAt = now
        heardAt = now
        closedLinkDue = NodeLiveness.never
        activity = beat.activity
        restsFor = min(beat.restsFor, settings.suspicionMax)
        // What it rests says nothing about the path.
        if restsFor > .zero { isIntervalBroken = true }
    }

    /// This node has work, and lets the peer know: from now on it has no longer than one that never rests.
    mutating func endRest(now: Instant, settings: LivenessSettings) {
        if restsFor == .zero { return }
        heardAt = max(heardAt, min(now, heardAt + restForgiven(settings)))
        restsFor = .zero
    }

    /// Whether it asks for beats at the usual interval.
    var isAwake: Bool { state == .alive && activity != .none }

    /// What is forgiven a resting peer beyond the path's timeout: a lost beat, which a stream may take 0.2 s to send again where
    /// nothing follows it, and as many in a row as the path loses by chance.
    func restForgiven(_ settings: LivenessSettings) -> Nanoseconds {
        if restsFor == .zero { return .zero }
        return min(restsFor * max(3, timing.lostRun + 1), settings.suspicionMax)
    }

    /// The time that silence counts from. Without any beat no sign helps for long: somebody must say what the peer leads.
    func silentSince(_ settings: LivenessSettings) -> Instant {
        max(heardAt, min(signAt, heardAt + settings.suspicionMax))
    }

    mutating func gaveSign(_ incarnation: Incarnation, now: Instant) {
        if state == .alive && incarnation == self.incarnation { signAt = now }
    }

    /// False when the echo can't be one of ours, or gives no round trip.
    mutating func takeRoundTrip(_ echo: Beat.Echo, now: Instant, settings: LivenessSettings) -> Bool {
        guard echo.sequence <= sequenceSent, echo.heldFor >= .zero else { return false }
        // A beat that is echoed twice was measured already, and one that a cut held back says nothing about the path.
        guard echo.sequence > sequenceEchoed else { return true }
        let (elapsed, overflow) = now.nanoseconds.subtractingReportingOverflow(echo.sentAt.nanoseconds)
        guard !overflow, elapsed >= 0 else { return false }
        sequenceEchoed = echo.sequence
        return timing.measured(Nanoseconds(elapsed) - echo.heldFor, settings: settings)
    }

    /// The peer is heard again after a silence. A stream delivers then what the cut held back, and echoes of beats from
    /// before are as old as the cut was long: as round trips they would make the path a far one for seconds.
    mutating func heardAgain() { sequenceEchoed = sequenceSent }

    /// Recovered only at half of the limit, so that a pulse close to it does not flap.
    mutating func takePulses(_ beat: Beat, settings: LivenessSettings) {
        if isStalled {
            isStalled =
                beat.storagePulseAge > settings.storageStallMax / 2
                || beat.enginePulseAge > settings.engineStallMax / 2
        } else {
            isStalled =
                beat.storagePulseAge > settings.storageStallMax || beat.enginePulseAge > settings.engineStallMax
        }
    }

    /// A process that starts may take its time.
    func suspicion(_ settings: LivenessSettings) -> Nanoseconds {
        state == .unheard ? settings.suspicionMax : timing.suspicion
    }

    /// This node stood still for `pause`: the peer could not be heard, and does not lose that time.
    mutating func takeOut(_ pause: Nanoseconds, now: Instant) {
        heardAt = min(heardAt + pause, now)
        signAt = min(signAt + pause, now)
        if closedLinkDue != NodeLiveness.never { closedLinkDue += pause }
    }

    /// A far peer's beats go out with those of the near ones, at the moment closest to its own interval.
    func wantsBeat(isBeat: Bool, isUrgent urgentNow: Bool, now: Instant, settings: LivenessSettings) -> Bool {
        if urgentNow && isUrgent { return true }
        guard isBeat else { return false }
        guard let beatSentAt else { return true }
        let interval = isAwake ? timing.beatInterval : max(announced, timing.beatInterval)
        return now - beatSentAt >= interval - settings.beatInterval / 2
    }

    /// The next beats come at the usual interval again.
    mutating func hurry() {
        isUrgent = true
        announced = .zero
    }

    mutating func nextBeat(
        _ incarnation: Incarnation, now: Instant, pulses: Pulses, own: Beat.Activity, mayRest: Bool,
        settings: LivenessSettings
    ) -> Beat {
        sequenceSent += 1
        beatSentAt = now
        isUrgent = false
        announced = mayRest && !isAwake ? max(settings.restInterval, timing.beatInterval) : .zero
        var beat = Beat(
            incarnation: incarnation, sequence: sequenceSent, sentAt: now, enginePulseAge: pulses.engineAge,
            storagePulseAge: pulses.storageAge, acknowledgedVersion: claimed.version, restsFor: announced,
            activity: own)
        if let peerIncarnation = self.incarnation {
            beat.echo = Beat.Echo(
                incarnation: peerIncarnation, sequence: sequence, sentAt: peerSentAt, heldFor: now - receivedAt)
        }
        told.fill(&beat, changesMax: settings.changesPerBeatMax)
        return beat
    }
}
