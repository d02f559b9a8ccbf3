import ClusterBase
import HistoryChecker

/// A history of one key with random times and random answers, sense or nonsense.
func randomHistory(operations: Int, span: Int64, values: UInt64, unknownPercent: UInt64, _ random: inout PRNG)
    -> History
{
    var history = History()
    func value(_ random: inout PRNG) -> UInt64? { random.chance(1, in: 4) ? nil : 1 + random.below(values) }
    for client in 0..<operations {
        let invoked = random.within(0...span)
        let kind: History.Kind
        var outcome: History.Outcome
        switch random.below(8) {
        case 0, 1, 2:
            kind = .get
            outcome = .observed(value(&random))
        case 3, 4:
            kind = .put(1 + random.below(values))
            outcome = .acknowledged
        case 5:
            kind = .delete
            outcome = .acknowledged
        default:
            kind = .compareAndSet(expected: value(&random), new: value(&random))
            outcome = random.chance(1, in: 2) ? .swapped : .refused
        }
        if random.chance(unknownPercent, in: 100) { outcome = .unknown }
        if random.chance(3, in: 100) { outcome = .failed }
        let isOpen = outcome == .unknown
        history.append(
            History.Operation(
                client: ClientID(UInt64(client)), key: 7, kind: kind, invoked: invoked,
                returned: isOpen ? nil : invoked + random.within(0...span / 2), outcome: outcome))
    }
    return history
}

/// Feeds a history to the streaming checker as it happened. What has an unknown outcome ends some time later, or in
/// `neverPercent` of a hundred cases never.
func stream(_ history: History, _ random: inout PRNG, neverPercent: UInt64 = 10) -> (verdict: Verdict, heldMax: Int) {
    struct Moment {
        var time: Int64
        var operation: Int
        var isReturn: Bool
    }
    var moments: [Moment] = []
    for (i, operation) in history.operations.enumerated() {
        moments.append(Moment(time: operation.invoked, operation: i, isReturn: false))
        if operation.outcome == .unknown {
            if random.chance(neverPercent, in: 100) { continue }
            moments.append(
                Moment(time: operation.invoked + random.within(0...20_000_000), operation: i, isReturn: true))
        } else {
            moments.append(Moment(time: operation.returned ?? operation.invoked, operation: i, isReturn: true))
        }
    }
    // At one time: first returns, so that the checker's own treatment of ties shows, then invocations, then the
    // returns of what was invoked at that time.
    func rank(_ moment: Moment) -> Int {
        moment.isReturn ? (history.operations[moment.operation].invoked == moment.time ? 2 : 0) : 1
    }
    moments.sort { ($0.time, rank($0), $0.operation) < ($1.time, rank($1), $1.operation) }
    var checker = StreamingChecker()
    var tickets: [Int: StreamingChecker.Ticket] = [:]
    var heldMax = 0
    for moment in moments {
        let operation = history.operations[moment.operation]
        if moment.isReturn {
            checker.end(tickets[moment.operation]!, operation.outcome, at: moment.time)
        } else {
            tickets[moment.operation] = checker.begin(
                client: operation.client, key: operation.key, kind: operation.kind, at: moment.time)
        }
        heldMax = max(heldMax, checker.heldEvents)
    }
    return (checker.finish(), heldMax)
}

extension Verdict {
    var isViolation: Bool {
        if case .violation = self { return true }
        return false
    }
}
