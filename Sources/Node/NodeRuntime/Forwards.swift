import ClusterBase
import FleetModel
import NodePorts
import RaftCore

/// Requests that other nodes answer for this one's clients, and those that this one answers for others'.
///
///     client ─▶ waiting ──(a node to ask is known)──▶ asked ──(result, final refusal)──▶ client
///                  ▲                                    │
///                  └──(not the leader, no such group; a query also: silence, and then whoever answers first is heard)
///     a command whose node falls silent is `unknown`: nobody asks it again
struct Forwards {
    /// Tickets from here on are the engine's own.
    static var firstTicket: UInt64 { 1 << 63 }

    /// One request of an own client.
    struct Own {
        var ticket: UInt64
        var request: ClientRequest
        var bytes: Int
        var givesUpAt: Instant
        var stage: Stage
        var hops: UInt32 = 0
        /// The node that a refusal named.
        var hint: NodeID?
        /// The replica here did not answer in time: it may be no member any more, and nobody tells it.
        var isElsewhere = false
        /// Of a query, those that were silent so long that another node was asked too: what they say is an answer all the same.
        var earlier: [Key] = []
    }

    enum Stage {
        /// For a leader, until this time, and then it looks again.
        case waiting(until: Instant)
        case asked(Key, at: Instant)
        /// At this node's own replica, under a ticket of the engine's.
        case here(since: Instant)
    }

    /// A request on the wire.
    struct Key: Hashable {
        var node: NodeID
        var number: UInt64
    }

    /// Who waits for a ticket of the engine's.
    enum Waiter {
        /// With the client's ticket, since the place may be another request's by then.
        case own(slot: Int, ticket: UInt64)
        case node(NodeID, Incarnation, number: UInt64)
        case steward(StewardTask)
    }

    var directory = Directory()
    var own = Slots<Own>()
    var ownBytes = 0
    var waiters = Slots<(ticket: UInt64, waiter: Waiter)>()
    private var ticketNumber: UInt64 = 0
    // hash order: looked up only
    var slotOfKey: [Key: Int] = [:]
    // hash order: looked up only
    private var numbers: [NodeID: UInt64] = [:]
    // hash order: looked up only
    private var seen: [NodeID: SeenNumbers] = [:]
    /// Whom a group's commands last found as its leader, or a refusal named.
    // hash order: looked up only
    private var leaders: [GroupID: NodeID] = [:]
    /// Groups whose leader is remembered; beyond it all are forgotten.
    private static var leadersMax: Int { 16_384 }
    /// When to look after what waits or was asked.
    var sweepAt = Instant(nanoseconds: .max)

    struct Outgoing {
        var node: NodeID
        var frame: PeerFrame
        var bytes: Int
    }
    var outgoing: [Outgoing] = []

    /// Nodes whose connection broke and did not come back: nothing is sent to them.
    private var cutOff: [NodeID] = []

    /// The group may have another leader: whatever waits for one looks again.
    mutating func wake(_ group: GroupID, _ now: Instant) {
        if own.count == 0 { return }
        for slot in own.indices {
            guard let waiting = own[slot], waiting.request.group == group, case .waiting = waiting.stage else {
                continue
            }
            own[slot]?.stage = .waiting(until: now)
            sweepAt = min(sweepAt, now)
        }
    }

    mutating func note(_ node: NodeID, isCutOff: Bool) {
        if isCutOff {
            if !cutOff.contains(node) { cutOff.append(node) }
        } else if !cutOff.isEmpty {
            cutOff.removeAll { $0 == node }
        }
    }

    func isCutOff(_ node: NodeID) -> Bool { cutOff.contains(node) }

    mutating func nextNumber(for node: NodeID) -> UInt64 {
        let number = (numbers[node] ?? 0) + 1
        numbers[node] = number
        return number
    }

    /// Whether this number of this process is new here.
    mutating func take(_ number: UInt64, of node: NodeID, _ incarnation: Incarnation) -> Bool {
        seen[node, default: SeenNumbers(incarnation: incarnation)].take(number, incarnation)
    }

    func leader(of group: GroupID) -> NodeID? { leaders[group] }

    mutating func note(leader: NodeID?, of group: GroupID) {
        if leaders.count >= Forwards.leadersMax { leaders.removeAll() }
        leaders[group] = leader
    }

    /// How often a node did not answer: where nobody is known to lead, the search begins with another one each time.
    private(set) var passedOver = 0

    /// The node did not answer: the next request does not begin with it.
    mutating func passOver(_ node: NodeID, _ group: GroupID) {
        if leaders[group] == node { leaders[group] = nil }
        passedOver = (passedOver + 1) & 0xFFFF
    }

    mutating func ticket(for waiter: Waiter) -> UInt64 {
        ticketNumber += 1
        let slot = waiters.insert((0, waiter))
        let ticket = Forwards.firstTicket | ticketNumber << 20 & (Forwards.firstTicket - 1) | UInt64(slot)
        waiters[slot]?.ticket = ticket
        return ticket
    }

    /// Nil for a ticket that has been answered.
    mutating func waiter(of ticket: UInt64) -> Waiter? {
        let slot = Int(ticket & (1 << 20 - 1))
        guard let found = waiters[slot], found.ticket == ticket else { return nil }
        waiters.remove(slot)
        return found.waiter
    }
}

/// Values in numbered places, which are used again.
struct Slots<Value> {
    private var values: [Value?] = []
    private var free: [Int] = []
    private(set) var count = 0

    /// Where values may be.
    var indices: Range<Int> { values.indices }

    mutating func insert(_ value: Value) -> Int {
        count += 1
        if let slot = free.popLast() {
            values[slot] = value
            return slot
        }
        values.append(value)
        return values.count - 1
    }

    /// Setting is for a place that holds a value.
    subscript(slot: Int) -> Value? {
        get { values.indices.contains(slot) ? values[slot] : nil }
        set { values[slot] = newValue }
    }

    mutating func remove(_ slot: Int) {
        if values[slot] == nil { return }
        values[slot] = nil
        free.append(slot)
        count -= 1
    }
}

/// Which numbers of a sender's process have come: a frame that arrives twice must not take effect twice.
struct SeenNumbers {
    /// A request that comes later than this many others is dropped; its sender has given it up.
    static let window: UInt64 = 4_096

    private(set) var incarnation: Incarnation
    private var highest: UInt64 = 0
    private var bits: [UInt64]

    init(incarnation: Incarnation) {
        self.incarnation = incarnation
        bits = [UInt64](repeating: 0, count: Int(SeenNumbers.window / 64))
    }

    mutating func take(_ number: UInt64, _ incarnation: Incarnation) -> Bool {
        if incarnation < self.incarnation || number == 0 { return false }
        if incarnation > self.incarnation { self = SeenNumbers(incarnation: incarnation) }
        if number > highest {
            let steps = min(number - highest, SeenNumbers.window)
            for step in 0..<steps { set(number - step, false) }
            highest = number
        } else if highest - number >= SeenNumbers.window || isSet(number) {
            return false
        }
        set(number, true)
        return true
    }

    private func isSet(_ number: UInt64) -> Bool {
        let bit = number % SeenNumbers.window
        return bits[Int(bit / 64)] >> (bit % 64) & 1 == 1
    }

    private mutating func set(_ number: UInt64, _ value: Bool) {
        let bit = number % SeenNumbers.window
        let mask: UInt64 = 1 << (bit % 64)
        if value { bits[Int(bit / 64)] |= mask } else { bits[Int(bit / 64)] &= ~mask }
    }
}
