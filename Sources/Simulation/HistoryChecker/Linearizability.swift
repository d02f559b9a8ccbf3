/// Checks whole histories.
public enum Linearizability {
    /// Says whether the registers of `history`, all absent at first, behaved as if every operation had taken effect at
    /// one moment between its invocation and its return. Returns at the same nanosecond as an invocation count as
    /// concurrent with it.
    ///
    /// Keys are independent, so each is checked alone. `budget` bounds the steps of each key beyond those that its
    /// returns grant. The verdict depends on nothing but the arguments.
    public static func check(_ history: History, budget: Int = CheckLimits.stepsDefault) -> Verdict {
        let operations = history.operations
        var undecided: UInt64?
        var worst: Violation?
        for group in groups(operations) {
            switch check(operations, group, budget) {
            case nil: break
            case .undecided: undecided = undecided ?? operations[group[0]].key
            case .violation(let found):
                if let known = worst, known.isEarlier(than: found) { break }
                worst = found
            }
        }
        if let worst { return .violation(worst) }
        if let undecided { return .undecided(key: undecided) }
        return .linearizable
    }

    /// The positions of each key's operations in order of invocation; keys ascend.
    private static func groups(_ operations: [History.Operation]) -> [[Int]] {
        // hash order: looked up by key only
        var places: [UInt64: Int] = [:]
        var keys: [UInt64] = []
        var groups: [[Int]] = []
        for i in operations.indices {
            let key = operations[i].key
            if let place = places[key] {
                groups[place].append(i)
            } else {
                places[key] = groups.count
                keys.append(key)
                groups.append([i])
            }
        }
        for g in groups.indices {
            groups[g].sort { (operations[$0].invoked, $0) < (operations[$1].invoked, $1) }
        }
        return keys.indices.sorted { keys[$0] < keys[$1] }.map { groups[$0] }
    }

    private static func check(
        _ operations: [History.Operation], _ group: [Int], _ budget: Int
    ) -> KeyChecker.Finding? {
        let unseen = UnseenWrites(operations, group)
        var checker = KeyChecker(key: operations[group[0]].key, budget: budget)
        var returns: [(time: Int64, place: Int)] = []
        returns.reserveCapacity(group.count)
        for place in group.indices {
            let operation = operations[group[place]]
            if operation.outcome == .unknown || operation.outcome == .failed { continue }
            if let time = operation.returned { returns.append((time, place)) }
        }
        returns.sort { ($0.time, $0.place) < ($1.time, $1.place) }
        var slots = [Int](repeating: -1, count: group.count)
        var next = 0
        for (time, place) in returns {
            while next < group.count && operations[group[next]].invoked <= time {
                let operation = operations[group[next]]
                if let effect = unseen.effect(of: operation), let slot = checker.begin(operation, effect) {
                    slots[next] = slot
                }
                next += 1
            }
            if checker.finding != nil { break }
            checker.end(slots[place])
            checker.remember(operations[group[place]])
        }
        return checker.finding
    }
}

extension Violation {
    fileprivate func isEarlier(than other: Violation) -> Bool {
        let a = operation.returned ?? .max
        let b = other.operation.returned ?? .max
        return a != b ? a < b : key < other.key
    }
}

/// Finds writes of one key that have an unknown outcome and leave a value that nobody in the whole history ever sees
/// or expects. Only a refused compare-and-set can make use of one, and to it all such values are the same.
private struct UnseenWrites {
    private var hasUnknown = false
    private var hasRefused = false
    private var absentIsMentioned = false
    private var mentioned: [UInt64] = []
    /// One value that nobody sees or expects, in place of all of them.
    private var substitute: UInt64?

    init(_ operations: [History.Operation], _ group: [Int]) {
        for i in group {
            let operation = operations[i]
            if operation.outcome == .unknown { hasUnknown = true }
            if operation.outcome == .refused { hasRefused = true }
        }
        if !hasUnknown { return }
        for i in group {
            switch (operations[i].kind, operations[i].outcome) {
            case (_, .failed): break
            case (.get, .observed(let value)): mention(value)
            case (.compareAndSet(let expected, _), _): mention(expected)
            default: break
            }
        }
        mentioned.sort()
        for i in group where operations[i].outcome == .unknown {
            switch operations[i].kind {
            case .put(let value) where !isMentioned(value): substitute = substitute ?? value
            case .compareAndSet(_, let value?) where !isMentioned(value): substitute = substitute ?? value
            default: break
            }
        }
    }

    private mutating func mention(_ value: UInt64?) {
        if let value { mentioned.append(value) } else { absentIsMentioned = true }
    }

    private func isMentioned(_ value: UInt64?) -> Bool {
        guard let value else { return absentIsMentioned }
        var low = 0
        var high = mentioned.count
        while low < high {
            let middle = (low + high) / 2
            if mentioned[middle] < value { low = middle + 1 } else { high = middle }
        }
        return low < mentioned.count && mentioned[low] == value
    }

    /// What the operation may do, as far as anybody can tell the difference; nil when nobody can.
    func effect(of operation: History.Operation) -> OpenOperations.Effect? {
        let effect = OpenOperations.Effect(of: operation)
        if operation.outcome != .unknown { return effect }
        switch effect {
        case .write(let value) where !isMentioned(value): return hasRefused ? .write(substitute) : nil
        case .swap(let expected, let value) where !isMentioned(value):
            return hasRefused ? .swap(expected: expected, new: substitute) : nil
        default: return effect
        }
    }
}
