/// What is known about a history after checking it.
public enum Verdict: Hashable, Sendable {
    /// Every register's operations have an order that respects real time and explains every answer.
    case linearizable
    /// No such order exists. Of several keys, the one whose violation shows earliest.
    case violation(Violation)
    /// No violation was found, but a bound was reached before this key (the smallest of several) was decided.
    case undecided(key: UInt64)
}

/// Why a history is refused: the return of one operation that no order of effects can explain.
public struct Violation: Hashable, Sendable {
    /// How many operations before the violation are kept for the explanation.
    public static let recentMax = 8

    /// The register whose operations have no explanation.
    public var key: UInt64
    /// The operation whose return has no explanation. The history up to just before that return has one.
    public var operation: History.Operation
    /// What the register may have held just before, without the writes of `pending` that may be on top; sorted,
    /// absent first.
    public var states: [UInt64?]
    /// The other operations that were open at that moment, in order of invocation; `operation` may have run before
    /// or after each of them.
    public var pending: [History.Operation]
    /// The last operations of the key that had returned before, oldest first.
    public var recent: [History.Operation]
    /// How many returns of the key could be explained before this one.
    public var explainedReturns: Int
}

extension Violation: CustomStringConvertible {
    public var description: String {
        var lines = ["key \(key) is not linearizable: after \(explainedReturns) explained returns, nothing explains"]
        lines.append("    \(operation)")
        lines.append("the register held one of: \(states.map(text).joined(separator: ", "))")
        if !pending.isEmpty { lines.append("open at that moment:") }
        lines += pending.map { "    \($0)" }
        if !recent.isEmpty { lines.append("returned before, oldest first:") }
        lines += recent.map { "    \($0)" }
        return lines.joined(separator: "\n")
    }
}

/// Bounds of a check. At a bound a key becomes undecided; it is never guessed.
public enum CheckLimits {
    /// Steps (an effect tried, or two configurations compared) that one key may take beyond `stepsPerReturn` for each
    /// of its returns. A hundred million take about a second.
    public static let stepsDefault = 100_000_000
    /// What each return grants, so that a long history is not undecided for its length alone.
    public static let stepsPerReturn = 10_000
    /// Configurations of one key held at one time; bounds memory.
    public static let configurationsMax = 1 << 17
    /// Operations of one key open at one time. Unknown outcomes stay open until they can no longer matter.
    public static let openOperationsMax = 4096
    /// Writes of unknown outcome that are kept if they would all do the same. Further ones are left out; should a
    /// configuration use up those that were kept, a violation found later is only undecided.
    public static let twinsMax = 16
}
