/// A run that once found something, and must stay clean. A seed means the same run only as long as nothing draws or acts
/// otherwise, so what holds the bug itself is the test of the lowest layer that can show it.
struct RegressionSeed: Sendable, CustomStringConvertible {
    var seed: UInt64
    var nodes: ClosedRange<Int>
    /// Simulated seconds of faults.
    var seconds: Int64
    /// The first seeds are older than plots, and would not mean the same run with them.
    var hasPlots = true
    /// What the run found.
    var found: String

    var description: String { "seed \(seed), \(nodes.lowerBound)..\(nodes.upperBound) nodes, \(seconds) s: \(found)" }

    static let all: [RegressionSeed] = [
        RegressionSeed(
            seed: 28, nodes: 3...7, seconds: 60, hasPlots: false,
            found: "a node asked to be woken at once while a flush was slow"),
        RegressionSeed(
            seed: 35, nodes: 3...7, seconds: 60, hasPlots: false,
            found: "a node with a new disk was passed over for its old incarnation"
        ),
        RegressionSeed(
            seed: 100, nodes: 3...7, seconds: 60, hasPlots: false,
            found: "beats to a node that had been forgotten for a while began again at one, and it passed over them"),
        RegressionSeed(
            seed: 49, nodes: 3...7, seconds: 60,
            found: "a destroyed replica's state was gone, and a crash brought its log back"),
        RegressionSeed(
            seed: 222, nodes: 3...7, seconds: 60,
            found: "a new voter counted, a restart forgot it, and by the members before a lost one was needed"),
        RegressionSeed(
            seed: 459, nodes: 3...7, seconds: 60,
            found: "every vote was needed, and each lost message cost a whole round"),
        RegressionSeed(
            seed: 27, nodes: 3...7, seconds: 60,
            found: "a group that was recovered by force fenced off the new replicas that it asked in"),
        RegressionSeed(
            seed: 33, nodes: 3...7, seconds: 60,
            found: "a new replica of a recovered group read of the epoch before, and was of that one then"),
        RegressionSeed(
            seed: 62, nodes: 3...7, seconds: 60,
            found: "commands whose entries were cut from the log were never answered"),
        RegressionSeed(
            seed: 117, nodes: 3...7, seconds: 60,
            found: "a log that a follower had kept long was never cut when nobody wrote any more"),
    ]
}
