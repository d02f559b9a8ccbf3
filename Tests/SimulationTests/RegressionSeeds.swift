/// A run that once found something, kept so that it stays found. A seed means the same run only as long as the simulator
/// draws in the same order; one that no longer reaches what it found is replaced.
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
    ]
}
