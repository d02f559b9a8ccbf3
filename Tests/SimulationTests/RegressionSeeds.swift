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
    /// The test that holds the bug, whatever the seed means today; nil where the run's own rules were wrong and not the nodes.
    var heldBy: String?

    var description: String { "seed \(seed), \(nodes.lowerBound)..\(nodes.upperBound) nodes, \(seconds) s: \(found)" }

    static let all: [RegressionSeed] = [
        RegressionSeed(
            seed: 28, nodes: 3...7, seconds: 60, hasPlots: false,
            found: "a node asked to be woken at once while a flush was slow",
            heldBy: "a node whose flush is slow does not ask to be woken at once"),
        RegressionSeed(
            seed: 35, nodes: 3...7, seconds: 60, hasPlots: false,
            found: "a node with a new disk was passed over for its old incarnation",
            heldBy: "a directory that is set up anew begins with a later incarnation than the one it replaces"
        ),
        RegressionSeed(
            seed: 100, nodes: 3...7, seconds: 60, hasPlots: false,
            found: "beats to a node that had been forgotten for a while began again at one, and it passed over them",
            heldBy: "a peer that was forgotten and is tracked again gets beats with higher numbers"),
        RegressionSeed(
            seed: 49, nodes: 3...7, seconds: 60,
            found: "a destroyed replica's state was gone, and a crash brought its log back",
            heldBy: "the state of a destroyed replica stays until its log is gone for good"),
        RegressionSeed(
            seed: 222, nodes: 3...7, seconds: 60,
            found: "a new voter counted, a restart forgot it, and by the members before a lost one was needed",
            heldBy: "a change that counts is not forgotten by a restart"),
        RegressionSeed(
            seed: 459, nodes: 3...7, seconds: 60,
            found: "every vote was needed, and each lost message cost a whole round",
            heldBy: "what was lost is asked for again within the round"),
        RegressionSeed(
            seed: 27, nodes: 3...7, seconds: 60,
            found: "a group that was recovered by force fenced off the new replicas that it asked in",
            heldBy: "a group that was recovered by force takes in new members, which read of older epochs on their way"),
        RegressionSeed(
            seed: 33, nodes: 3...7, seconds: 60,
            found: "a new replica of a recovered group read of the epoch before, and was of that one then",
            heldBy: "a group that was recovered by force takes in new members, which read of older epochs on their way"),
        RegressionSeed(
            seed: 62, nodes: 3...7, seconds: 60,
            found: "commands whose entries were cut from the log were never answered",
            heldBy: "a command whose entry is cut from the log is answered, though nothing comes in its place"),
        RegressionSeed(
            seed: 117, nodes: 3...7, seconds: 60,
            found: "a log that a follower had kept long was never cut when nobody wrote any more",
            heldBy: "a log that a slow follower kept long is cut when it has caught up, without another write"),
        RegressionSeed(
            seed: 100_059, nodes: 3...7, seconds: 60,
            found: "voters took up their belief in a leader that had left from each other, one after the other",
            heldBy: "others' belief does not bring back a leader whose node says that it leads no more"),
        RegressionSeed(
            seed: 200_029, nodes: 3...7, seconds: 60,
            found: "a read waited for ever for an entry that a forced recovery had given up",
            heldBy: "a read that waits for entries which a forced recovery gave up is refused"),
        RegressionSeed(
            seed: 100_017, nodes: 3...7, seconds: 60,
            found: "an ending took two voters of four, since it counted a learner as one"),
        RegressionSeed(
            seed: 100_758, nodes: 3...7, seconds: 60,
            found:
                "a path with a window of one that loses frames carries ten entries a second, which was taken for a standstill"
        ),
        RegressionSeed(
            seed: 200_166, nodes: 3...7, seconds: 60,
            found: "a leader whose disk fell behind its clients stepped aside, which was taken for a healthy one's loss"
        ),
        RegressionSeed(
            seed: 200_391, nodes: 3...7, seconds: 60,
            found: "the last word about a snapshot was lost twice, and each time only a timeout ends the transfer"),
        RegressionSeed(
            seed: 200_786, nodes: 3...7, seconds: 60,
            found: "time to cut a log counted from before the replica had it"),
        RegressionSeed(
            seed: 200_813, nodes: 3...7, seconds: 60,
            found: "a replica was found damaged again, since its node ended before that was written down"),
        RegressionSeed(
            seed: 201_875, nodes: 3...7, seconds: 60,
            found: "a new leader had two hundred entries to hand on over a slow path before it could answer"),
    ]
}
