import ClusterBase

/// How long log writes of this node take, of which follows how long one may: a disk that always answers within milliseconds is
/// given up sooner than one that is slow by nature.
struct StoragePace {
    /// The longest of this stretch of time and of the one before it.
    private var longest = Nanoseconds.zero
    private var longestBefore = Nanoseconds.zero
    private var turnsAt: Instant

    private static let stretch = Nanoseconds.seconds(60)
    /// A write that takes this many times the longest of the last minutes is no slow one, it hangs.
    private static let timesLongest: Int64 = 8
    /// Of the limit that is set: shorter halts than this part of it are in the nature of disks that others use too.
    private static let leastPart: Int64 = 4

    init(now: Instant) { turnsAt = now + StoragePace.stretch }

    mutating func wrote(within time: Nanoseconds, now: Instant) {
        if now >= turnsAt {
            // Older than two stretches is forgotten, whatever came between.
            longestBefore = now >= turnsAt + StoragePace.stretch ? .zero : longest
            longest = .zero
            turnsAt = now + StoragePace.stretch
        }
        longest = max(longest, time)
    }

    /// A write under way for this long means that the disk hangs. Of a disk that nothing is known of, `most`.
    func stallMin(most: Nanoseconds) -> Nanoseconds {
        let known = max(longest, longestBefore)
        guard known > .zero, known.count < most.count / StoragePace.timesLongest else { return most }
        return max(Nanoseconds(known.count * StoragePace.timesLongest), Nanoseconds(most.count / StoragePace.leastPart))
    }
}
