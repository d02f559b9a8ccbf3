import ClusterBase

/// What one peer's beats say about the path to it, and how long a silence of it is therefore forgiven. Constant size.
///
///     S = clamp(max(3 × mean interval, 2 × longest recent interval, 2 × longest halt, (run + 1) × mean interval,
///                   10 × high round trip), floor, max)
///
/// An interval is between beats as the peer sent them: the sequence tells how many were lost in between. So a slow or
/// halting peer shows in the intervals, a lossy path in the share of lost beats, and neither is taken for the other.
/// `run` is how many beats in a row that share loses by chance: with a loss of 30 %, three in a row every second.
///
/// On a host that others keep busy a process stands still for a tenth of a second now and then, without a sign of it before. Who
/// forgets that in seconds takes each such halt for an end; so a halt that was none is remembered for minutes.
struct BeatTiming: Sendable {
    private(set) var interval: Nanoseconds
    private(set) var intervalLongest: Nanoseconds
    /// How long the peer itself stood still and went on.
    private(set) var haltLongest = Nanoseconds.zero
    /// The share of lost beats, where 2^32 is all of them.
    private(set) var lostShare: UInt64 = 0
    /// Smoothed, and its mean deviation, as TCP does it (RFC 6298); zero before the first sample.
    private(set) var roundTrip = Nanoseconds.zero
    private(set) var roundTripDeviation = Nanoseconds.zero
    /// S, without the doubling of self-doubt.
    private(set) var suspicion: Nanoseconds
    /// How often to beat towards this peer.
    private(set) var beatInterval: Nanoseconds

    /// More beats lost in a row are a cut and not chance, and say nothing about the path.
    static let lostRunMax: UInt64 = 16
    /// A run is forgiven when it is more likely than one in 2^24: by chance a suspicion every few days.
    static let lostRunBits: UInt64 = 24
    /// A round trip above this is a clock's or a peer's fault.
    static let roundTripMax = Nanoseconds.seconds(30)

    /// A halt that is longer, in floors of suspicion, is a failure and no way to be: it is to be noticed when it comes again.
    static let haltMax: Int64 = 6

    init(settings: LivenessSettings) {
        interval = settings.beatInterval
        intervalLongest = settings.beatInterval
        beatInterval = settings.beatInterval
        // The path may be a long one: until the first round trip is known, only a long silence counts.
        suspicion = max(settings.suspicionFloor, settings.suspicionMax / 4)
    }

    /// Takes in that a beat came `elapsed` after the one before it, with `lost` between them, and by the peer's own clock was sent
    /// `apart` after it: what a path holds back is not the peer's halt.
    mutating func beatArrived(
        after elapsed: Nanoseconds, lost: UInt64, sent apart: Nanoseconds, settings: LivenessSettings
    ) {
        // An outage says nothing about how regular the path is when it works.
        guard lost <= BeatTiming.lostRunMax, elapsed <= settings.suspicionMax else { return }
        for _ in 0..<lost { lostShare += ((1 << 32) - lostShare) / 256 }
        lostShare -= lostShare / 256
        // Beats that queued up and early beats come at once, and must not make the peer look faster than it is.
        let sample = max(lost == 0 ? elapsed : elapsed / Int64(lost + 1), settings.beatInterval)
        interval = (interval * 4 + sample) / 5
        // Half of it is forgotten in 355 beats, about five seconds.
        let longest = lost == 0 ? elapsed : elapsed - interval * Int64(lost)
        intervalLongest = max(longest, intervalLongest - intervalLongest / 512)
        // Half of it is forgotten in 11,000 beats, about five minutes.
        haltLongest = haltLongest - haltLongest / 16_384
        let halt = min(elapsed, apart)
        if lost == 0, halt > interval * 2, halt <= settings.suspicionFloor * BeatTiming.haltMax {
            haltLongest = max(haltLongest, halt)
        }
        update(settings)
    }

    /// The longest run of lost beats that counts as chance: the number k for which share^k is 2^-24.
    var lostRun: Int64 {
        // Below one in 2^24 a single loss is rarer than what is forgiven.
        guard lostShare >= 1 << 8 else { return 0 }
        // The logarithm to base 2 in 1/256, straight between powers of two; off by a tenth at most.
        let power = UInt64(63 - lostShare.leadingZeroBitCount)
        let logarithm = power << 8 + ((lostShare << 8) >> power - 256)
        let bits = max((32 << 8) - logarithm, 1)
        return Int64(min((BeatTiming.lostRunBits << 8 + bits - 1) / bits, BeatTiming.lostRunMax))
    }

    /// Takes in a round trip; false when it can't be one.
    mutating func measured(_ sample: Nanoseconds, settings: LivenessSettings) -> Bool {
        guard sample >= .zero, sample <= BeatTiming.roundTripMax else { return false }
        if roundTrip == .zero {
            roundTrip = max(sample, Nanoseconds(1))
            roundTripDeviation = sample / 2
        } else {
            let difference = sample - roundTrip
            let deviation = difference < .zero ? difference * -1 : difference
            roundTripDeviation += (deviation - roundTripDeviation) / 4
            roundTrip = max(roundTrip + difference / 8, Nanoseconds(1))
        }
        beatInterval = min(max(settings.beatInterval, roundTrip / 2), settings.beatIntervalMax)
        update(settings)
        return true
    }

    /// About the 99.9th percentile of a round trip without a heavy tail.
    var roundTripHigh: Nanoseconds { roundTrip + roundTripDeviation * 4 }

    private mutating func update(_ settings: LivenessSettings) {
        guard roundTrip != .zero else { return }
        let byInterval = max(interval * max(3, lostRun + 1), max(intervalLongest, haltLongest) * 2)
        let wanted = max(byInterval, roundTripHigh * 10)
        suspicion = min(max(wanted, settings.suspicionFloor), settings.suspicionMax)
    }
}
