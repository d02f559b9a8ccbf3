public import ClusterBase

// What one key's lane holds, oldest first:
//
//      time ------------------------------------------------------------------>  now
//      [ followed by the key's front and forgotten ) [ waits for an outcome )
//                                                    ^ the oldest call that has not ended
//
// A call is followed only once its outcome is known, and time cannot pass it before. So a lane holds what was invoked
// since its oldest unended call, and no more.

/// Checks a history while it happens, in memory that does not grow with its length, only with the number of keys,
/// with what is open, and with the writes of unknown outcome that may still take effect.
public struct StreamingChecker: Sendable {
    /// Names a call between `begin` and `end`.
    public struct Ticket: Hashable, Sendable {
        fileprivate let lane: Int
        fileprivate let call: Int
    }

    /// The first violation found; what follows on its key is ignored, other keys are still followed.
    public private(set) var violation: Violation?
    /// Calls and their returns that are held until they can be followed.
    public private(set) var heldEvents = 0

    private let budget: Int
    private var now = Int64.min
    // hash order: looked up by key only
    private var places: [UInt64: Int] = [:]
    private var lanes: [Lane] = []
    private var undecided: UInt64?

    /// `budget` bounds the steps of each key beyond those that its returns grant.
    public init(budget: Int = CheckLimits.stepsDefault) { self.budget = budget }

    /// A client sends an operation. Time never goes back from call to call, of `begin` or `end`.
    public mutating func begin(client: ClientID, key: UInt64, kind: History.Kind, at time: Int64) -> Ticket {
        pass(to: time)
        let place = lane(of: key)
        let operation = History.Operation(
            client: client, key: key, kind: kind, invoked: time, returned: nil, outcome: .unknown)
        heldEvents += 1
        return Ticket(lane: place, call: lanes[place].begin(operation))
    }

    /// A client has its answer, or gives up. Each ticket ends at most once, with an outcome that its kind can have.
    public mutating func end(_ ticket: Ticket, _ outcome: History.Outcome, at time: Int64) {
        pass(to: time)
        heldEvents += lanes[ticket.lane].end(ticket.call, outcome, at: time)
        follow(ticket.lane, before: time)
    }

    /// Ends what is still open with an unknown outcome and gives the verdict on everything. Of several violations it
    /// tells the one that was found first.
    public mutating func finish() -> Verdict {
        for place in lanes.indices {
            lanes[place].endAll()
            follow(place, before: nil)
        }
        if let violation { return .violation(violation) }
        if let undecided { return .undecided(key: undecided) }
        return .linearizable
    }

    private mutating func pass(to time: Int64) {
        precondition(time >= now, "time went back from \(now) to \(time)")
        now = time
    }

    private mutating func lane(of key: UInt64) -> Int {
        if let place = places[key] { return place }
        places[key] = lanes.count
        lanes.append(Lane(key: key, budget: budget))
        return lanes.count - 1
    }

    private mutating func follow(_ place: Int, before time: Int64?) {
        let had = lanes[place].checker.finding != nil
        heldEvents -= lanes[place].follow(before: time)
        guard !had, let finding = lanes[place].checker.finding else { return }
        switch finding {
        case .violation(let found): violation = violation ?? found
        case .undecided: undecided = min(undecided ?? .max, lanes[place].checker.key)
        }
    }
}

/// One key's events that are not followed yet.
private struct Lane: Sendable {
    struct Call: Sendable {
        var operation: History.Operation
        var hasEnded = false
        var slot = -1
    }

    struct Event: Sendable {
        var time: Int64
        var call: Int
        var isReturn: Bool
    }

    var checker: KeyChecker
    private var calls: [Call] = []
    /// The number of `calls[0]`.
    private var firstCall = 0
    private var events: [Event] = []
    /// Events before this place have been followed.
    private var head = 0

    init(key: UInt64, budget: Int) { checker = KeyChecker(key: key, budget: budget) }

    mutating func begin(_ operation: History.Operation) -> Int {
        let number = firstCall + calls.count
        calls.append(Call(operation: operation))
        // Returns at the same time come after it, since they count as concurrent. They are all still here.
        var place = events.count
        while place > head, events[place - 1].time == operation.invoked, events[place - 1].isReturn { place -= 1 }
        events.insert(Event(time: operation.invoked, call: number, isReturn: false), at: place)
        return number
    }

    /// Says how many events it added.
    mutating func end(_ number: Int, _ outcome: History.Outcome, at time: Int64) -> Int {
        precondition(number >= firstCall && !calls[number - firstCall].hasEnded, "call \(number) has ended before")
        let i = number - firstCall
        calls[i].hasEnded = true
        calls[i].operation.outcome = outcome
        if outcome != .unknown { calls[i].operation.returned = time }
        calls[i].operation.requireSense()
        if outcome == .unknown || outcome == .failed { return 0 }
        events.append(Event(time: time, call: number, isReturn: true))
        return 1
    }

    mutating func endAll() {
        for i in calls.indices { calls[i].hasEnded = true }
    }

    /// Follows events up to the first call that has not ended and before `time`. Says how many.
    mutating func follow(before time: Int64?) -> Int {
        let start = head
        while head < events.count {
            let event = events[head]
            if let time, event.time >= time { break }
            let i = event.call - firstCall
            if event.isReturn {
                checker.end(calls[i].slot)
                checker.remember(calls[i].operation)
            } else {
                if !calls[i].hasEnded { break }
                let operation = calls[i].operation
                if let effect = OpenOperations.Effect(of: operation), let slot = checker.begin(operation, effect) {
                    calls[i].slot = slot
                }
            }
            head += 1
        }
        let followed = head - start
        forget()
        return followed
    }

    /// Drops what was followed once it is half of what is held, so that dropping costs a constant per event.
    private mutating func forget() {
        if head < 32 || head * 2 < events.count { return }
        events.removeFirst(head)
        head = 0
        let oldest = events.reduce(firstCall + calls.count) { min($0, $1.call) }
        calls.removeFirst(oldest - firstCall)
        firstCall = oldest
    }
}
