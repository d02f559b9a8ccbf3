import HistoryChecker

/// Tries every order of the operations of one key, and for those with an unknown outcome also leaving them out.
/// Shares no idea with the checker that it judges.
struct BruteForce {
    let operations: [History.Operation]

    init(_ history: History) { operations = history.operations.filter { $0.outcome != .failed } }

    var isLinearizable: Bool { canFinish(Set(operations.indices), nil) }

    private func end(_ i: Int) -> Int64 {
        operations[i].outcome == .unknown ? .max : operations[i].returned!
    }

    private func canFinish(_ left: Set<Int>, _ state: UInt64?) -> Bool {
        if left.allSatisfy({ operations[$0].outcome == .unknown }) { return true }
        for next in left where left.allSatisfy({ operations[next].invoked <= end($0) }) {
            guard let after = step(operations[next], state) else { continue }
            if canFinish(left.subtracting([next]), after.state) { return true }
        }
        return false
    }

    /// The state after the operation; nil when its answer contradicts the state.
    private func step(_ operation: History.Operation, _ state: UInt64?) -> (state: UInt64?, Void)? {
        switch (operation.kind, operation.outcome) {
        case (.get, .observed(let value)): return value == state ? (state, ()) : nil
        case (.get, _): return (state, ())
        case (.put(let value), _): return (value, ())
        case (.delete, _): return (nil, ())
        case (.compareAndSet(let expected, let new), .swapped): return expected == state ? (new, ()) : nil
        case (.compareAndSet(let expected, _), .refused): return expected != state ? (state, ()) : nil
        case (.compareAndSet(let expected, let new), _): return (expected == state ? new : state, ())
        }
    }
}

/// Wing and Gong's search, depth first with Lowe's cache, for histories of one key and up to 64 operations.
struct DepthFirst {
    private struct Place: Hashable {
        let done: UInt64
        let state: UInt64?
    }

    private let operations: [History.Operation]
    private var seen: Set<Place> = []

    init(_ history: History) { operations = history.operations.filter { $0.outcome != .failed } }

    mutating func isLinearizable() -> Bool {
        var required: UInt64 = 0
        for i in operations.indices where operations[i].outcome != .unknown { required |= 1 << UInt64(i) }
        var stack = [Place(done: 0, state: nil)]
        while let place = stack.popLast() {
            if place.done & required == required { return true }
            if !seen.insert(place).inserted { continue }
            var deadline = Int64.max
            for i in operations.indices where required & ~place.done & (1 << UInt64(i)) != 0 {
                deadline = min(deadline, operations[i].returned!)
            }
            for i in operations.indices where place.done & (1 << UInt64(i)) == 0 && operations[i].invoked <= deadline {
                let done = place.done | 1 << UInt64(i)
                switch (operations[i].kind, operations[i].outcome) {
                case (.get, .observed(let value)):
                    if value == place.state { stack.append(Place(done: done, state: place.state)) }
                case (.put(let value), _): stack.append(Place(done: done, state: value))
                case (.delete, _): stack.append(Place(done: done, state: nil))
                case (.compareAndSet(let expected, _), .refused):
                    if expected != place.state { stack.append(Place(done: done, state: place.state)) }
                case (.compareAndSet(let expected, let new), _):
                    if expected == place.state { stack.append(Place(done: done, state: new)) }
                default: break
                }
            }
        }
        return false
    }
}
