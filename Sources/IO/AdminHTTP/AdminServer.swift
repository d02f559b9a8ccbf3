package import AdminAPI
internal import ClusterBase
package import Reactor
internal import SecureChannel
package import TLSSession

/// The admin port of a node: takes HTTPS connections, finds out who asks, and hands each authorized request to a handler.
/// Belongs to the loop's thread.
///
///     accept ─▶ handshake ─▶ parse ─▶ route ─▶ judge ─▶ handler.handle(call, principal, ticket)
///                              ▲        │        │                │ later, in any order
///                              │        ▼        ▼                ▼
///                            socket ◀── answers in the order of requests ◀── answer(ticket, response)
///
/// Requests of one connection may overtake each other inside the node, their answers don't.
package final class AdminServer {
    package let address: SocketAddress
    package internal(set) var counters = AdminCounters()
    package let settings: AdminSettings

    let loop: EventLoop
    let router: Router
    let authority: any AdminAuthority
    // Not weak: an object with weak references pays for every retain.
    private(set) var handler: (any AdminHandler)?
    /// For connections from now on; those that are there keep theirs.
    package var context: TLSContext

    private var listener: Listener?
    private var slots: [AdminConnection?] = []
    private var generations: [UInt32] = []
    private var free: [Int] = []
    private var turnedAway = 0
    var heldBytes = 0
    /// By address, of clients that have connections.
    private var budgets: [String: ClientBudget] = [:]
    /// Of clients that said who they are.
    private var clients: ClientBudgets
    private(set) var isDraining = false
    private var drained: (() -> Void)?
    private var drainEnds: Instant?
    /// Runs while a drain waits for requests that may be on their way.
    private var grace: TimerID?
    var hasGrace: Bool { grace != nil }
    private var sweep: TimerID?
    private let clock: SweepClock
    private var waiting: [AdminConnection] = []
    private var wakeup: TimerID?
    private var dateSecond: Int64 = -1
    private var dateBytes: [UInt8] = []
    let document: [UInt8]

    /// Listens at once. `context` is a server's, with `ClientCertificate.optional` and `AdminSettings.protocols`. The
    /// server lives, and its handler and authority with it, until `close`, or until a drain is done.
    package init(
        _ loop: EventLoop, on address: SocketAddress, context: TLSContext, authority: any AdminAuthority,
        handler: any AdminHandler, settings: AdminSettings = AdminSettings()
    ) throws(SystemError) {
        precondition(
            settings.limits.connectionsMax + settings.turnAwayMax <= Ticket.slotsMax,
            "\(settings.limits.connectionsMax) connections have no tickets; \(Ticket.slotsMax) do")
        self.loop = loop
        self.context = context
        self.authority = authority
        self.handler = handler
        self.settings = settings
        router = Router(limits: settings.limits)
        document = OpenAPIDocument.bytes(version: settings.version)
        clock = SweepClock()
        clients = ClientBudgets(settings)
        let door = Door()
        let listener = try Listener(loop, on: address) { socket, from in door.open(socket, from) }
        self.listener = listener
        self.address = listener.address
        door.server = self
        clock.server = self
    }

    /// Lets the listener's handler be made before the server is.
    private final class Door {
        var server: AdminServer?
        func open(_ socket: consuming Socket, _ from: SocketAddress) { server?.accept(socket, from) }
    }

    /// The server's timers.
    private final class SweepClock: TimerHandler {
        static let graceTag = 2
        var server: AdminServer?
        func timerFired(_ tag: Int) {
            switch tag {
            case 0: server?.sweepDue()
            case SweepClock.graceTag: server?.graceDue()
            default: server?.wakeWaiting()
            }
        }
    }

    /// Connections that are open, those in their handshake and those turned away among them.
    package var connectionCount: Int { slots.count - free.count }

    // MARK: Connections

    private func accept(_ socket: consuming Socket, _ from: SocketAddress) {
        counters.accepted += 1
        let isSurplus = connectionCount - turnedAway >= settings.limits.connectionsMax
        if isSurplus {
            counters.turnedAway += 1
            if turnedAway >= settings.turnAwayMax { return }
        }
        let slot = free.popLast() ?? slots.count
        if slot == slots.count {
            slots.append(nil)
            generations.append(0)
        }
        let connection = AdminConnection(
            self, slot: slot, generation: generations[slot], isSurplus: isSurplus, address: from.host,
            budget: budget(from))
        do {
            try connection.begin(loop, socket, from, context, settings.connection)
        } catch {
            // The socket is gone before anything was said, as it is when a port scan connects.
            counters.insecure += 1
            free.append(slot)
            if connection.budget.users == 0 { budgets[connection.address] = nil }
            return
        }
        slots[slot] = connection
        connection.budget.users += 1
        if isSurplus { turnedAway += 1 }
        if sweep == nil { sweep = loop.setTimer(after: sweepInterval, clock, tag: 0) }
    }

    private func budget(_ from: SocketAddress) -> ClientBudget {
        let address = from.host
        if let known = budgets[address] { return known }
        let made = ClientBudget(perSecond: settings.strangerRateMax, now: loop.now)
        budgets[address] = made
        return made
    }

    /// Why somebody asks too often; nil when that is not so.
    func tooOften(_ client: Principal, _ budget: ClientBudget) -> Problem? {
        let isKnown = client != .anonymous
        if isKnown ? clients.take(client, loop.now) : budget.take(loop.now) { return nil }
        counters.tooOften += 1
        let (most, setting) =
            isKnown
            ? (settings.requestRateMax, "admin.request-rate") : (settings.strangerRateMax, "admin.stranger-rate")
        return Problem(
            .tooManyRequests,
            "\(isKnown ? "\(client)" : "this address, without a certificate or a token that counts,") asks this node more than "
                + "\(most) times a second, which is the bound (\(setting)); ask less often")
    }

    func forget(_ connection: AdminConnection) {
        let slot = connection.slot
        guard slots[slot] === connection else { return }
        slots[slot] = nil
        generations[slot] = (generations[slot] + 1) & Ticket.numberMask
        free.append(slot)
        if connection.isSurplus { turnedAway -= 1 }
        connection.budget.users -= 1
        if connection.budget.users == 0 { budgets[connection.address] = nil }
        finishDrainIfDone()
    }

    private func connection(_ ticket: Ticket) -> AdminConnection? {
        guard ticket.slot < slots.count, generations[ticket.slot] == ticket.generation else { return nil }
        return slots[ticket.slot]
    }

    // MARK: Answers

    /// Answers a request. Does nothing when nobody waits for it any more.
    package func answer(_ ticket: Ticket, _ response: AdminResponse) {
        connection(ticket)?.answer(ticket.number, response)
    }

    /// Sends a piece of a stream that `answer` began with a response whose body is `stream`.
    package func send(_ ticket: Ticket, _ piece: [UInt8]) -> StreamRoom {
        connection(ticket)?.send(ticket.number, piece) ?? .gone
    }

    /// Where the request came from; empty when nobody waits for it any more.
    package func clientAddress(_ ticket: Ticket) -> String { connection(ticket)?.address ?? "" }

    /// Ends a stream. One that is not `isWhole` breaks off with its connection, so that the client can tell.
    package func endStream(_ ticket: Ticket, isWhole: Bool = true) {
        connection(ticket)?.endStream(ticket.number, isWhole: isWhole)
    }

    /// Seconds since 1970.
    var second: Int64 { SystemClock.wallNanoseconds / 1_000_000_000 }

    /// The value of the Date field, made once a second.
    var date: [UInt8] {
        let second = second
        if second != dateSecond {
            dateSecond = second
            dateBytes = HTTPDate.bytes(unixSeconds: second)
        }
        return dateBytes
    }

    /// Lets a connection go on with requests that it holds, outside the present call.
    func goOnSoon(_ connection: AdminConnection) {
        waiting.append(connection)
        if wakeup == nil { wakeup = loop.setTimer(at: loop.now, clock, tag: 1) }
    }

    private func wakeWaiting() {
        wakeup = nil
        let ready = waiting
        waiting.removeAll(keepingCapacity: true)
        for connection in ready { connection.goOn() }
    }

    // MARK: Time

    private var sweepInterval: Nanoseconds {
        let limits = settings.limits
        let shortest = min(
            limits.headTimeout, limits.bodyTimeout, limits.idleTimeout, limits.sendTimeout, settings.answerTimeout,
            limits.drainTimeout)
        return max(.milliseconds(5), min(.seconds(1), shortest / 4))
    }

    /// One timer looks at all connections: a timer each would be set and cancelled with every request.
    private func sweepDue() {
        sweep = nil
        let now = loop.now
        for connection in slots { connection?.check(now) }
        if let end = drainEnds, now >= end {
            for connection in slots { connection?.cut() }
        }
        if connectionCount > 0 { sweep = loop.setTimer(after: sweepInterval, clock, tag: 0) }
    }

    // MARK: The end

    /// Takes no more connections, answers what is under way, ends streams and closes; `done` follows within
    /// `drainTimeout`, at once when nothing is open. A connection on which nothing is asked stays for `drainGrace`, and what
    /// comes in that time is answered as its last request: its client could not know.
    package func drain(_ done: @escaping () -> Void) {
        listener?.close()
        listener = nil
        isDraining = true
        drained = done
        drainEnds = loop.now + settings.limits.drainTimeout
        grace = loop.setTimer(after: settings.limits.drainGrace, clock, tag: SweepClock.graceTag)
        for connection in slots { connection?.drain() }
        finishDrainIfDone()
    }

    private func graceDue() {
        grace = nil
        for connection in slots { connection?.drain() }
    }

    private func finishDrainIfDone() {
        guard isDraining, connectionCount == 0, let done = drained else { return }
        drained = nil
        release()
        done()
    }

    /// Ends everything at once.
    package func close() {
        listener?.close()
        listener = nil
        isDraining = true
        for connection in slots { connection?.cut() }
        release()
    }

    private func release() {
        for timer in [sweep, wakeup, grace] { if let timer { loop.cancel(timer) } }
        sweep = nil
        grace = nil
        wakeup = nil
        clock.server = nil
        handler = nil
    }
}
