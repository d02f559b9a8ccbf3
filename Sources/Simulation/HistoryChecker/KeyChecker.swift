/// One key of a history: its front, and what an explanation needs to remember. Shared by both ways of checking.
struct KeyChecker: Sendable {
    enum Finding: Hashable, Sendable {
        case violation(Violation)
        case undecided
    }

    let key: UInt64
    /// Once set, the key is not followed any further.
    private(set) var finding: Finding?
    private var frontier: RegisterFrontier
    private var explainedReturns = 0
    /// The last operations that returned; the oldest is at `explainedReturns % recentMax` when full.
    private var recent: [History.Operation] = []

    init(key: UInt64, budget: Int) {
        self.key = key
        frontier = RegisterFrontier(budget: budget)
    }

    /// Opens an operation whose outcome is known to the caller; nil when the key is no longer followed.
    mutating func begin(_ operation: History.Operation, _ effect: OpenOperations.Effect) -> Int? {
        if finding != nil { return nil }
        let slot = frontier.begin(operation, effect)
        if slot == nil { finding = .undecided }
        return slot
    }

    /// Closes an operation that `begin` opened and that has returned.
    mutating func end(_ slot: Int) {
        if finding != nil { return }
        switch frontier.end(slot) {
        case .possible: break
        case .impossible: finding = .violation(violation(slot))
        case .exhausted: finding = .undecided
        }
    }

    /// Remembers an operation that `end` has explained.
    mutating func remember(_ operation: History.Operation) {
        if finding != nil { return }
        if recent.count < Violation.recentMax {
            recent.append(operation)
        } else {
            recent[explainedReturns % Violation.recentMax] = operation
        }
        explainedReturns += 1
    }

    private func violation(_ slot: Int) -> Violation {
        let oldest = recent.count < Violation.recentMax ? 0 : explainedReturns % Violation.recentMax
        return Violation(
            key: key, operation: frontier.table.operation(slot), states: frontier.states,
            pending: frontier.table.operations(except: slot),
            recent: Array(recent[oldest...] + recent[..<oldest]), explainedReturns: explainedReturns)
    }
}
