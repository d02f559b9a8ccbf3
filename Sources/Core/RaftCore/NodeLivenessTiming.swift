import ClusterBase

/// What one peer's beats say about the path to it, and how long a silence of it is therefore forgiven. Constant size.
///
///     S = clamp(max(3 × mean interval, 2 × longest recent interval, 10 × high round trip), floor, max)
///
/// The mean follows a slow peer within a few beats. The longest recent interval is what a path with random loss needs:
/// at a loss of 30 % a run of three lost beats comes every second, and three times the mean does not cover it.
struct BeatTiming: Sendable {
    private(set) var interval: Nanoseconds
    private(set) var intervalLongest: Nanoseconds
    /// Smoothed, and its mean deviation, as TCP does it (RFC 6298); zero before the first sample.
    private(set) var roundTrip = Nanoseconds.zero
    private(set) var roundTripDeviation = Nanoseconds.zero
    /// S, without the doubling of self-doubt.
    private(set) var suspicion: Nanoseconds
    /// How often to beat towards this peer.
    private(set) var beatInterval: Nanoseconds

    /// More beats lost in a row are a cut and not chance (30 % lost: once in 6 million), and say nothing about the path.
    static let lostRunMax: UInt64 = 12
    /// A round trip above this is a clock's or a peer's fault.
    static let roundTripMax = Nanoseconds.seconds(30)

    init(settings: LivenessSettings) {
        interval = settings.beatInterval
        intervalLongest = settings.beatInterval
        beatInterval = settings.beatInterval
        // The path may be a long one: until the first round trip is known, only a long silence counts.
        suspicion = max(settings.suspicionFloor, settings.suspicionMax / 4)
    }

    /// Takes in that a beat came `elapsed` after the one before it, with `lost` between them.
    mutating func beatArrived(after elapsed: Nanoseconds, lost: UInt64, settings: LivenessSettings) {
        // An outage says nothing about how regular the path is when it works.
        guard lost <= BeatTiming.lostRunMax, elapsed <= settings.suspicionMax else { return }
        // Beats that queued up and early beats come at once, and must not make the peer look faster than it is.
        let sample = max(elapsed, settings.beatInterval)
        interval = (interval * 4 + sample) / 5
        // Half of it is forgotten in 355 beats, about five seconds.
        intervalLongest = max(sample, intervalLongest - intervalLongest / 512)
        update(settings)
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
        let wanted = max(interval * 3, max(intervalLongest * 2, roundTripHigh * 10))
        suspicion = min(max(wanted, settings.suspicionFloor), settings.suspicionMax)
    }
}
