import ClusterBase
import HistoryChecker
import Testing

/// Histories of a simulated register that is right, and the same with one known mistake.
@Suite struct GeneratedHistoriesTests {
    private func generator(_ i: Int) -> HistoryGenerator {
        var generator = HistoryGenerator()
        generator.clients = 5 + i % 12
        generator.keys = UInt64(1 + i % 5)
        generator.operations = 60 + 20 * (i % 7)
        generator.unknownPercent = UInt64([0, 3, 10, 25][i % 4])
        generator.failedPercent = UInt64(i % 3)
        generator.crowdPercent = UInt64([0, 30][i % 2])
        generator.crowdOperations = 20
        generator.thinkTime = 0...([0, 1_000_000, 30_000_000][i % 3])
        return generator
    }

    @Test func `no history of a right register is refused`() {
        let total = RunLength.share(of: 3_000)
        var operations = 0
        for i in 0..<total {
            var generator = generator(i)
            generator.valuesAreUnique = i % 3 != 0
            generator.valueCount = UInt64(2 + i % 4)
            let history = generator.generate(seed: UInt64(i))
            operations += history.operations.count
            let verdict = Linearizability.check(history)
            #expect(verdict == .linearizable, "seed \(i): \(verdict)")
            if verdict != .linearizable { return }
        }
        print("good histories: \(total) with \(operations) operations, refused: 0, undecided: 0")
    }

    @Test func `no history of a right register is refused while it happens, and memory stays bounded`() {
        var random = PRNG(seed: 21)
        for i in 0..<RunLength.share(of: 300) {
            let history = generator(i).generate(seed: UInt64(i))
            #expect(stream(history, &random).verdict == .linearizable, "seed \(i)")
        }
        var long = HistoryGenerator()
        long.operations = 20_000
        long.keys = 16
        let (verdict, heldMax) = stream(long.generate(seed: 1), &random, neverPercent: 0)
        #expect(verdict == .linearizable)
        #expect(heldMax < 2_000, "\(heldMax)")
        print("streamed \(long.operations) operations, at most \(heldMax) events held")
    }

    @Test(arguments: HistoryMutation.allCases)
    func `every history with a known mistake is refused`(mutation: HistoryMutation) {
        var random = PRNG(seed: 31)
        var made = 0
        var caught = 0
        for i in 0..<RunLength.share(of: 400) {
            let good = generator(i).generate(seed: UInt64(1_000 + i))
            guard let bad = mutation.apply(to: good, random: &random) else { continue }
            made += 1
            let verdict = Linearizability.check(bad)
            if verdict.isViolation { caught += 1 }
            #expect(verdict.isViolation, "seed \(1_000 + i): \(mutation) is \(verdict)")
            #expect(stream(bad, &random).verdict.isViolation, "seed \(1_000 + i): \(mutation), streamed")
        }
        print("\(mutation): caught \(caught) of \(made)")
        #expect(made >= RunLength.share(of: 20))
    }

    @Test(arguments: HistoryMutation.allCases)
    func `a known mistake is wrong by the judgement of a depth-first search too`(mutation: HistoryMutation) {
        var random = PRNG(seed: 41)
        var judged = 0
        for i in 0..<600 where judged < 60 {
            var small = generator(i)
            small.keys = 1
            small.clients = 2 + i % 3
            small.operations = 14 + i % 16
            guard let bad = mutation.apply(to: small.generate(seed: UInt64(i)), random: &random) else { continue }
            var search = DepthFirst(bad)
            let isGood = search.isLinearizable()
            #expect(!isGood, "seed \(i): \(bad.operations)")
            judged += 1
        }
        #expect(judged >= 10)
    }

    @Test func `the same seed gives the same history, and the verdict does not depend on the order of appending`() {
        var random = PRNG(seed: 51)
        for i in 0..<100 {
            let history = generator(i).generate(seed: UInt64(i))
            #expect(history == generator(i).generate(seed: UInt64(i)))
            #expect(history != generator(i).generate(seed: UInt64(i + 1_000)))
            let bad = HistoryMutation.valueFromNowhere.apply(to: history, random: &random) ?? history
            #expect(bad != history)
            guard case .violation(let first) = Linearizability.check(bad),
                case .violation(let second) = Linearizability.check(History(bad.operations.reversed()))
            else {
                Issue.record("seed \(i) has no violation")
                continue
            }
            #expect(first.key == second.key && first.operation == second.operation && first.states == second.states)
        }
    }

    @Test func `the history that speed is measured with is decided, at a tenth of its size`() {
        var generator = HistoryGenerator.benchmark
        generator.operations = 10_000
        #expect(Linearizability.check(generator.generate(seed: 1)) == .linearizable)
    }
}
