/// A run that once found something, kept so that it stays found. A seed means the same run only as long as the simulator
/// draws in the same order; one that no longer reaches what it found is replaced.
struct RegressionSeed: Sendable, CustomStringConvertible {
    var seed: UInt64
    var nodes: ClosedRange<Int>
    /// Simulated seconds of faults.
    var seconds: Int64
    /// What the run found.
    var found: String

    var description: String { "seed \(seed), \(nodes.lowerBound)..\(nodes.upperBound) nodes, \(seconds) s: \(found)" }

    static let all: [RegressionSeed] = [
        RegressionSeed(seed: 1, nodes: 3...7, seconds: 3, found: "nothing yet: the first seed, so that the list is run")
    ]
}
