import ClusterBase
import HistoryChecker
import Testing

/// The checker's verdict against two others that were written apart from it.
@Suite struct CheckerAgainstBruteForceTests {
    @Test func `tiny histories get the verdict of trying every order`() {
        var random = PRNG(seed: 11)
        var good = 0
        let total = RunLength.share(of: 40_000)
        for i in 0..<total {
            let history = randomHistory(
                operations: 1 + random.below(7), span: 1 + random.within(1...12), values: 1 + random.below(3),
                unknownPercent: [0, 20, 50][i % 3], &random)
            let expected = BruteForce(history).isLinearizable
            let verdict = Linearizability.check(history)
            #expect(verdict.isViolation == !expected, "\(history.operations)")
            if verdict.isViolation == expected { return }
            let streamed = stream(history, &random).verdict
            #expect(streamed.isViolation == !expected, "streamed: \(history.operations)")
            if streamed.isViolation == expected { return }
            if expected { good += 1 }
        }
        print("tiny histories: \(total), of which linearizable: \(good)")
        #expect(good > total / 10 && good < total * 9 / 10)
    }

    @Test func `good histories with one random change get the verdict of a depth-first search`() {
        var random = PRNG(seed: 12)
        var good = 0
        let total = RunLength.share(of: 4_000)
        for i in 0..<total {
            var generator = HistoryGenerator()
            generator.clients = 2 + random.below(6)
            generator.keys = 1
            generator.operations = 8 + random.below(24)
            generator.unknownPercent = [0, 10, 30][i % 3]
            generator.valuesAreUnique = i % 4 == 0
            generator.valueCount = 2 + random.below(3)
            generator.deletes = 10
            var operations = generator.generate(seed: UInt64(i)).operations
            for _ in 0..<random.below(3) { disturb(&operations, &random) }
            let history = History(operations)
            var search = DepthFirst(history)
            let expected = search.isLinearizable()
            let verdict = Linearizability.check(history)
            #expect(verdict.isViolation == !expected, "\(history.operations)")
            if verdict.isViolation == expected { return }
            let streamed = stream(history, &random).verdict
            #expect(streamed.isViolation == !expected, "streamed: \(history.operations)")
            if streamed.isViolation == expected { return }
            if expected { good += 1 }
        }
        print("disturbed histories: \(total), of which linearizable: \(good)")
        #expect(good > total / 10 && good < total * 9 / 10)
    }

    @Test func `a violation is told at the shortest prefix that has no explanation`() {
        var random = PRNG(seed: 13)
        var violations = 0
        for _ in 0..<RunLength.share(of: 10_000) {
            let history = randomHistory(operations: 6, span: 10, values: 2, unknownPercent: 15, &random)
            guard case .violation(let found) = Linearizability.check(history) else { continue }
            let end = found.operation.returned!
            // Of several returns at one time, which was first is the checker's choice.
            if history.operations.filter({ $0.returned == end }).count > 1 { continue }
            violations += 1
            #expect(!BruteForce(cut(history, at: end, with: found.operation)).isLinearizable, "\(found)")
            #expect(BruteForce(cut(history, at: end, with: nil)).isLinearizable, "\(found)")
            let prefix = History(history.prefix(of: found))
            #expect(Linearizability.check(prefix).isViolation, "\(found)")
        }
        #expect(violations > RunLength.share(of: 500))
    }

    private func disturb(_ operations: inout [History.Operation], _ random: inout PRNG) {
        let i = random.below(operations.count)
        let other = operations[random.below(operations.count)]
        switch (operations[i].kind, operations[i].outcome) {
        case (.get, .observed):
            if case .observed(let value) = other.outcome { operations[i].outcome = .observed(value) }
            if case .put(let value) = other.kind { operations[i].outcome = .observed(value) }
        case (.compareAndSet, .swapped): operations[i].outcome = .refused
        case (.compareAndSet, .refused): operations[i].outcome = .swapped
        case (_, .acknowledged): operations[i].outcome = random.chance(1, in: 2) ? .failed : .unknown
        default: break
        }
    }

    /// The history as it was known when `operation` had returned, or just before when there is none: what returned
    /// later counts as open, and gets that are open need no explanation.
    private func cut(_ history: History, at end: Int64, with operation: History.Operation?) -> History {
        var result = History()
        var isUsed = false
        for var candidate in history.operations where candidate.invoked <= end && candidate.outcome != .failed {
            let isGoal = candidate == operation && !isUsed
            if isGoal { isUsed = true }
            if let returned = candidate.returned, candidate.outcome != .unknown, returned >= end, !isGoal {
                switch candidate.outcome {
                case .observed, .refused: continue
                // It may take effect now or later, as what it is known to be.
                default: candidate.outcome = .unknown
                }
            }
            result.append(candidate)
        }
        return result
    }
}
