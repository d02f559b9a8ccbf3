import ClusterBase

/// Makes histories that are linearizable by construction: it simulates registers that apply each operation at one
/// moment, and clients that see this through delays, time-outs and refusals. The same seed gives the same history.
public struct HistoryGenerator: Sendable {
    /// How many clients there are, each with one operation under way at a time.
    public var clients = 8
    /// How many registers the clients draw from.
    public var keys: UInt64 = 16
    /// How many operations all clients invoke together.
    public var operations = 1000
    /// From invocation to return.
    public var latency: ClosedRange<Int64> = 1_000_000...20_000_000
    /// From a return to the client's next invocation.
    public var thinkTime: ClosedRange<Int64> = 0...5_000_000
    /// In a hundred: operations that time out. Of these a third never take effect, a third do before the client gives
    /// up, a third up to twenty latencies later.
    public var unknownPercent: UInt64 = 3
    /// In a hundred: operations that fail for certain.
    public var failedPercent: UInt64 = 1
    /// In a hundred: operations on the one key that all clients work on for `crowdOperations` operations, before the
    /// crowd moves to the next key.
    public var crowdPercent: UInt64 = 0
    /// After how many operations of all clients the crowd moves on.
    public var crowdOperations = 1000
    /// How often each kind is drawn, relative to the others.
    public var gets: UInt64 = 50
    /// How often a put is drawn, relative to the others.
    public var puts: UInt64 = 25
    /// How often a delete is drawn, relative to the others.
    public var deletes: UInt64 = 5
    /// How often a compare-and-set is drawn, relative to the others.
    public var compareAndSets: UInt64 = 20
    /// Every written value is new; else values are drawn from `1 ... valueCount`.
    public var valuesAreUnique = true
    /// How many values there are where they are not unique.
    public var valueCount: UInt64 = 4

    public init() {}

    /// The setting that speed is measured with: 100,000 operations of 16 clients on 128 keys, a quarter of them on a
    /// key where all clients meet.
    public static var benchmark: HistoryGenerator {
        var generator = HistoryGenerator()
        generator.clients = 16
        generator.keys = 128
        generator.operations = 100_000
        generator.crowdPercent = 25
        return generator
    }

    /// Operations are in order of invocation; times start at 0.
    public func generate(seed: UInt64) -> History {
        precondition(clients > 0 && keys > 0, "no history without clients and keys")
        precondition(latency.lowerBound >= 0 && thinkTime.lowerBound >= 0, "time only goes forward")
        var run = Run(settings: self, random: PRNG(seed: seed))
        return run.history()
    }
}

/// A moment of the simulated time; the order of creation decides between equal times.
private struct Moment: Comparable {
    enum Event {
        case invocation(client: Int)
        case effect(operation: Int)
    }
    var time: Int64
    var number: Int
    var event: Event

    static func < (a: Self, b: Self) -> Bool { a.time != b.time ? a.time < b.time : a.number < b.number }
    static func == (a: Self, b: Self) -> Bool { a.time == b.time && a.number == b.number }
}

private struct Run {
    private enum Fate {
        case returns
        case fails
        case timesOut(takesEffect: Bool, late: Bool)
    }

    let settings: HistoryGenerator
    var random: PRNG
    private var moments = Heap<Moment>()
    private var momentCount = 0
    private var operations: [History.Operation] = []
    private var states: [UInt64?]
    private var previous: [UInt64?]
    private var lastValue: UInt64 = 0

    init(settings: HistoryGenerator, random: PRNG) {
        self.settings = settings
        self.random = random
        states = [UInt64?](repeating: nil, count: Int(settings.keys))
        previous = states
    }

    mutating func history() -> History {
        operations.reserveCapacity(settings.operations)
        for client in 0..<settings.clients {
            schedule(.invocation(client: client), at: random.within(settings.thinkTime))
        }
        while let moment = moments.popFirst() {
            switch moment.event {
            case .effect(let operation): takeEffect(operation)
            case .invocation(let client):
                if operations.count < settings.operations { invoke(client, at: moment.time) }
            }
        }
        return History(operations)
    }

    private mutating func schedule(_ event: Moment.Event, at time: Int64) {
        momentCount += 1
        moments.insert(Moment(time: time, number: momentCount, event: event))
    }

    private mutating func invoke(_ client: Int, at time: Int64) {
        let key = drawKey()
        let kind = drawKind(key)
        let fate = drawFate(kind)
        let end = time + random.within(settings.latency)
        let number = operations.count
        var operation = History.Operation(
            client: ClientID(UInt64(client) + 1), key: key, kind: kind, invoked: time, returned: end,
            outcome: .acknowledged)
        switch fate {
        case .returns: schedule(.effect(operation: number), at: random.within(time...end))
        case .fails: operation.outcome = .failed
        case .timesOut(let takesEffect, let late):
            operation.outcome = .unknown
            operation.returned = nil
            let last = late ? time + 20 * settings.latency.upperBound : end
            if takesEffect { schedule(.effect(operation: number), at: random.within(time...last)) }
        }
        operations.append(operation)
        schedule(.invocation(client: client), at: end + 1 + random.within(settings.thinkTime))
    }

    private mutating func drawKey() -> UInt64 {
        if random.chance(settings.crowdPercent, in: 100) {
            return UInt64(operations.count / max(settings.crowdOperations, 1)) % settings.keys
        }
        return random.below(settings.keys)
    }

    private mutating func drawKind(_ key: UInt64) -> History.Kind {
        var draw = random.below(settings.gets + settings.puts + settings.deletes + settings.compareAndSets)
        if draw < settings.gets { return .get }
        draw -= settings.gets
        if draw < settings.puts { return .put(drawValue()) }
        draw -= settings.puts
        if draw < settings.deletes { return .delete }
        // Mostly what the register holds now, so that many succeed and races decide; else what it held before.
        let expected = random.chance(3, in: 4) ? states[Int(key)] : previous[Int(key)]
        return .compareAndSet(expected: expected, new: drawValue())
    }

    private mutating func drawValue() -> UInt64 {
        if !settings.valuesAreUnique { return 1 + random.below(settings.valueCount) }
        lastValue += 1
        return lastValue
    }

    private mutating func drawFate(_ kind: History.Kind) -> Fate {
        if random.chance(settings.failedPercent, in: 100) { return .fails }
        if !random.chance(settings.unknownPercent, in: 100) { return .returns }
        switch random.below(3) {
        case 0: return .timesOut(takesEffect: false, late: false)
        case 1: return .timesOut(takesEffect: true, late: false)
        default: return .timesOut(takesEffect: true, late: true)
        }
    }

    private mutating func takeEffect(_ number: Int) {
        let key = Int(operations[number].key)
        let isKnown = operations[number].outcome != .unknown
        let outcome: History.Outcome
        var new = states[key]
        switch operations[number].kind {
        case .get: outcome = .observed(states[key])
        case .put(let value):
            new = value
            outcome = .acknowledged
        case .delete:
            new = nil
            outcome = .acknowledged
        case .compareAndSet(let expected, let value):
            outcome = expected == states[key] ? .swapped : .refused
            if expected == states[key] { new = value }
        }
        if new != states[key] { previous[key] = states[key] }
        states[key] = new
        if isKnown { operations[number].outcome = outcome }
    }
}
