public import ClusterBase

/// Ways to make a history wrong, each after a mistake that a store could make. The result provably has no
/// explanation: every written value is unique, so a value is held for one unbroken stretch of time, which begins with
/// the only operation that wrote it.
public enum HistoryMutation: CaseIterable, Hashable, Sendable {
    /// A get sees a value that an acknowledged write had replaced before the get began.
    case staleRead
    /// The same, where the replacing write was a delete.
    case readOfDeleted
    /// A get sees an absent register after an acknowledged put, though nothing can have deleted it.
    case lostWrite
    /// Two compare-and-sets succeed from the same value.
    case lostUpdate
    /// A get sees a value that nobody wrote.
    case valueFromNowhere
    /// A get sees what a refused compare-and-set would have written.
    case readOfRefused
    /// A write that somebody saw is said to have failed.
    case failureTookEffect
    /// A get sees a value whose only write began after the get had returned.
    case readFromTheFuture
    /// A write that somebody saw is said to have begun later than it was seen.
    case lateInvocation
    /// Two gets, one after the other, have each other's answers, though the writes they saw had an order too.
    case swappedAnswers
    /// After its successor was seen, a value is seen again, as if its write had been applied twice.
    case appliedTwice
    /// A compare-and-set is refused though the register can only have held what it expected.
    case refusedWithoutReason

    /// The history with this mistake in it; nil when it has no place for it. Its written values must be unique.
    public func apply(to history: History, random: inout PRNG) -> History? {
        let operations = history.operations
        // hash order: sorted at once
        var keys = Array(Set(operations.map(\.key))).sorted()
        while !keys.isEmpty {
            let key = keys.remove(at: random.below(keys.count))
            let places = operations.indices.filter { operations[$0].key == key }
            let register = RegisterHistory(places.map { operations[$0] }, start: random.below(places.count))
            guard let changes = register.changes(self) else { continue }
            var mutant = operations
            for change in changes { mutant[places[change.place]] = change.operation }
            return History(mutant)
        }
        return nil
    }
}

/// The operations on one register, searched for the place of a mistake.
private struct RegisterHistory {
    typealias Change = (place: Int, operation: History.Operation)

    let operations: [History.Operation]
    /// Places in the order in which they are searched.
    let order: [Int]
    /// The write of each value, known to have taken effect or not.
    private var writers: [UInt64: Int] = [:]  // hash order: looked up by value only

    init(_ operations: [History.Operation], start: Int) {
        self.operations = operations
        order = Array(start..<operations.count) + Array(0..<start)
        for place in operations.indices {
            if let value = Self.value(of: operations[place]) { writers[value] = place }
        }
    }

    /// The value that a put or compare-and-set names as new.
    private static func value(of operation: History.Operation) -> UInt64? {
        switch operation.kind {
        case .put(let value): value
        case .compareAndSet(_, let new): new
        case .get, .delete: nil
        }
    }

    // MARK: Facts

    /// Whether it certainly took effect.
    private func changed(_ place: Int) -> Bool {
        switch operations[place].outcome {
        case .acknowledged, .swapped: true
        default: false
        }
    }

    private func mayChange(_ place: Int) -> Bool { changed(place) || operations[place].outcome == .unknown }

    /// What a get saw; nil for other operations, and for a get without an answer.
    private func seen(_ place: Int) -> UInt64?? {
        if case .observed(let value) = operations[place].outcome { return .some(value) }
        return nil
    }

    /// Whether `a` returned before `b` was invoked.
    private func precedes(_ a: Int, _ b: Int) -> Bool {
        guard let returned = operations[a].returned, operations[a].outcome != .unknown else { return false }
        return returned < operations[b].invoked
    }

    private func seeing(_ value: UInt64?, _ place: Int) -> Change {
        var operation = operations[place]
        operation.outcome = .observed(value)
        return (place, operation)
    }

    private func first<Result>(_ body: (Int) -> Result?) -> Result? {
        for place in order {
            if let result = body(place) { return result }
        }
        return nil
    }

    private var gets: [Int] { order.filter { seen($0) != nil } }
    private var writes: [Int] { order.filter(changed) }

    // MARK: Mistakes

    func changes(_ mutation: HistoryMutation) -> [Change]? {
        switch mutation {
        case .staleRead: staleRead { _ in true }
        case .readOfDeleted: staleRead { operations[$0].kind == .delete }
        case .lostWrite: lostWrite()
        case .lostUpdate: lostUpdate()
        case .valueFromNowhere: gets.first.map { [seeing(freshValue, $0)] }
        case .readOfRefused: readOfRefused()
        case .failureTookEffect: failureTookEffect()
        case .readFromTheFuture: readFromTheFuture()
        case .lateInvocation: lateInvocation()
        case .swappedAnswers: swappedAnswers()
        case .appliedTwice: appliedTwice()
        case .refusedWithoutReason: refusedWithoutReason()
        }
    }

    /// Values of this register are below it. Other registers' values do not matter.
    private var freshValue: UInt64 { operations.reduce(0) { max($0, Self.value(of: $1) ?? 0) } + 1 }

    private func staleRead(_ isReplacement: (Int) -> Bool) -> [Change]? {
        let replacements = writes.filter(isReplacement)
        let written = writes.filter { Self.value(of: operations[$0]) != nil }
        for get in gets {
            for replacement in replacements where precedes(replacement, get) {
                if let old = written.first(where: { precedes($0, replacement) }) {
                    return [seeing(Self.value(of: operations[old]), get)]
                }
            }
        }
        return nil
    }

    private func lostWrite() -> [Change]? {
        let removals = order.filter { place in
            switch operations[place].kind {
            case .delete, .compareAndSet(_, nil): mayChange(place)
            default: false
            }
        }
        for write in writes where Self.value(of: operations[write]) != nil {
            for get in gets where precedes(write, get) {
                if removals.allSatisfy({ precedes($0, write) || precedes(get, $0) }) { return [seeing(nil, get)] }
            }
        }
        return nil
    }

    private func lostUpdate() -> [Change]? {
        for winner in writes {
            guard case .compareAndSet(let expected?, _) = operations[winner].kind else { continue }
            return first { loser in
                guard operations[loser].outcome == .refused else { return nil }
                var operation = operations[loser]
                operation.kind = .compareAndSet(expected: expected, new: freshValue)
                operation.outcome = .swapped
                return [(loser, operation)]
            }
        }
        return nil
    }

    private func readOfRefused() -> [Change]? {
        first { place in
            guard operations[place].outcome == .refused, let value = Self.value(of: operations[place]) else {
                return nil
            }
            return gets.first.map { [seeing(value, $0)] }
        }
    }

    private func failureTookEffect() -> [Change]? {
        for get in gets {
            guard let value = seen(get) ?? nil, let writer = writers[value] else { continue }
            var operation = operations[writer]
            operation.outcome = .failed
            return [(writer, operation)]
        }
        return nil
    }

    private func readFromTheFuture() -> [Change]? {
        for get in gets {
            if let writer = writes.first(where: { precedes(get, $0) && Self.value(of: operations[$0]) != nil }) {
                return [seeing(Self.value(of: operations[writer]), get)]
            }
        }
        return nil
    }

    private func lateInvocation() -> [Change]? {
        for get in gets {
            guard let value = seen(get) ?? nil, let writer = writers[value], let returned = operations[get].returned
            else { continue }
            var operation = operations[writer]
            operation.invoked = returned + 1
            operation.returned = operation.returned.map { max($0, returned + 1) }
            return [(writer, operation)]
        }
        return nil
    }

    private func swappedAnswers() -> [Change]? {
        for early in gets {
            guard let old = seen(early) ?? nil, let oldWriter = writers[old] else { continue }
            for late in gets where precedes(early, late) {
                guard let new = seen(late) ?? nil, let newWriter = writers[new] else { continue }
                if precedes(oldWriter, newWriter) { return [seeing(new, early), seeing(old, late)] }
            }
        }
        return nil
    }

    private func appliedTwice() -> [Change]? {
        for witness in gets {
            guard let new = seen(witness) ?? nil, let newWriter = writers[new] else { continue }
            guard let old = writes.first(where: { precedes($0, newWriter) && Self.value(of: operations[$0]) != nil })
            else { continue }
            if let late = gets.first(where: { precedes(witness, $0) }) {
                return [seeing(Self.value(of: operations[old]), late)]
            }
        }
        return nil
    }

    private func refusedWithoutReason() -> [Change]? {
        let changes = order.filter(mayChange)
        for write in writes {
            guard let value = Self.value(of: operations[write]) else { continue }
            let victim = first { place in
                guard operations[place].outcome == .refused, precedes(write, place) else { return nil as Int? }
                let isAlone = changes.allSatisfy { $0 == write || precedes($0, write) || precedes(place, $0) }
                return isAlone ? place : nil
            }
            guard let victim, case .compareAndSet(_, let new) = operations[victim].kind else { continue }
            var operation = operations[victim]
            operation.kind = .compareAndSet(expected: value, new: new)
            return [(victim, operation)]
        }
        return nil
    }
}
