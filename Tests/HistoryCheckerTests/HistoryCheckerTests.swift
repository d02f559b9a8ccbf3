import ClusterBase
import HistoryChecker
import Testing

/// What the checker says about histories small enough to judge by eye.
@Suite struct HistoryCheckerTests {
    private func operation(
        _ client: UInt64, _ kind: History.Kind, _ span: ClosedRange<Int64>, _ outcome: History.Outcome, key: UInt64 = 1
    ) -> History.Operation {
        History.Operation(
            client: ClientID(client), key: key, kind: kind, invoked: span.lowerBound,
            returned: outcome == .unknown ? nil : span.upperBound, outcome: outcome)
    }

    @Test func `an empty history is linearizable`() {
        #expect(Linearizability.check(History()) == .linearizable)
        var checker = StreamingChecker()
        #expect(checker.finish() == .linearizable)
    }

    @Test func `a stale read is told with the states that were possible and the operations before`() {
        let history = History([
            operation(1, .put(5), 0...10, .acknowledged),
            operation(1, .put(6), 20...30, .acknowledged),
            operation(3, .put(7), 35...60, .acknowledged),
            operation(2, .get, 40...50, .observed(5)),
            operation(2, .get, 70...80, .observed(7)),
        ])
        guard case .violation(let found) = Linearizability.check(history) else {
            Issue.record("not refused")
            return
        }
        #expect(found.key == 1)
        #expect(found.operation == history.operations[3])
        #expect(found.states == [6])
        #expect(found.pending == [history.operations[2]])
        #expect(found.recent == Array(history.operations[0...1]))
        #expect(found.explainedReturns == 2)
        #expect(history.prefix(of: found) == Array(history.operations[0...3]))
        #expect(found.description.contains("client 2 [40, 50] get on 1: saw 5"))
    }

    @Test func `a write of unknown outcome may take effect late, and only once`() {
        let late = [
            operation(1, .put(5), 0...0, .unknown),
            operation(2, .put(6), 10...20, .acknowledged),
            operation(2, .get, 30...40, .observed(5)),
        ]
        #expect(Linearizability.check(History(late)) == .linearizable)
        let twice =
            late + [
                operation(2, .put(7), 50...60, .acknowledged), operation(2, .get, 70...80, .observed(5)),
            ]
        #expect(Linearizability.check(History(twice)).isViolation)
    }

    @Test func `a write of unknown outcome may never take effect before it was invoked`() {
        let history = History([
            operation(2, .get, 0...10, .observed(5)), operation(1, .put(5), 20...20, .unknown),
        ])
        #expect(Linearizability.check(history).isViolation)
    }

    @Test func `a refused compare-and-set may be explained by a write that nobody ever sees`() {
        let base = [
            operation(1, .put(5), 0...10, .acknowledged),
            operation(2, .compareAndSet(expected: 5, new: 6), 20...30, .refused),
            operation(2, .put(8), 40...50, .acknowledged),
        ]
        #expect(Linearizability.check(History(base)).isViolation)
        let explained = base + [operation(3, .put(7), 15...15, .unknown)]
        #expect(Linearizability.check(History(explained)) == .linearizable)
        // A second refusal from the same value needs a second one.
        let again =
            explained + [
                operation(2, .compareAndSet(expected: 8, new: 9), 60...70, .refused)
            ]
        #expect(Linearizability.check(History(again)).isViolation)
        let both = again + [operation(4, .put(10), 16...16, .unknown)]
        #expect(Linearizability.check(History(both)) == .linearizable)
    }

    @Test func `what failed for certain is not seen`() {
        let history = History([
            operation(1, .put(5), 0...10, .failed), operation(2, .get, 20...30, .observed(5)),
        ])
        #expect(Linearizability.check(history).isViolation)
    }

    @Test func `a return and an invocation at the same time are concurrent`() {
        let history = History([
            operation(1, .put(5), 0...10, .acknowledged), operation(2, .get, 10...20, .observed(nil)),
        ])
        #expect(Linearizability.check(history) == .linearizable)
    }

    @Test func `a violation on one key is told whatever other keys did, the earliest first`() {
        var history = History()
        for key in UInt64(1)...9 {
            let start = Int64(key) * 100
            history.append(operation(1, .put(key), start...start + 10, .acknowledged, key: 10 - key))
            let seen: UInt64? = key >= 4 ? 77 : key
            history.append(operation(1, .get, start + 20...start + 30, .observed(seen), key: 10 - key))
        }
        guard case .violation(let found) = Linearizability.check(history) else {
            Issue.record("not refused")
            return
        }
        #expect(found.key == 6)
    }

    @Test func `a key that runs out of steps is undecided and nothing is guessed`() {
        var generator = HistoryGenerator()
        generator.keys = 1
        generator.clients = 16
        generator.operations = 200
        let history = generator.generate(seed: 1)
        #expect(Linearizability.check(history) == .linearizable)
        #expect(Linearizability.check(history, budget: 0) == .undecided(key: 0))
    }

    @Test func `far more writes of unknown outcome than slots for twins do not hide a violation`() {
        var history = History([operation(1, .put(1), 0...1, .acknowledged)])
        for i in 0..<500 {
            let start = Int64(i) * 10 + 10
            history.append(operation(2, .put(1_000 + UInt64(i)), start...start, .unknown))
            history.append(operation(3, .delete, start...start, .unknown))
            history.append(operation(1, .compareAndSet(expected: 2, new: 3), start + 1...start + 5, .refused))
        }
        #expect(Linearizability.check(history) == .linearizable)
        history.append(operation(1, .get, 10_000...10_010, .observed(2)))
        #expect(Linearizability.check(history).isViolation)
    }

    @Test func `more open operations than there is room for make a key undecided`() {
        var history = History()
        for i in 0...UInt64(CheckLimits.openOperationsMax) {
            history.append(operation(i, .put(i), 0...10, .acknowledged))
        }
        #expect(Linearizability.check(history) == .undecided(key: 1))
    }

    @Test func `ids of byte strings are the same for the same bytes and lead back`() {
        var names = ByteNames()
        let a = names.id(of: [1, 2])
        let b = names.id(of: [])
        #expect(a != b)
        #expect(names.id(of: [1, 2]) == a)
        #expect(names.bytes(of: a) == [1, 2])
        #expect(names.bytes(of: b) == [])
        #expect(names.bytes(of: 0) == nil)
        #expect(names.bytes(of: 3) == nil)
    }

    @Test func `an outcome that its kind can't have is our own mistake`() async {
        await #expect(processExitsWith: .failure) {
            var history = History()
            history.append(
                History.Operation(
                    client: ClientID(1), key: 1, kind: .put(1), invoked: 0, returned: 1, outcome: .observed(1)))
        }
    }
}
