internal import AdminAPI
internal import ClusterBase
internal import Reactor
internal import SecureChannel
internal import TLSSession

/// One client's connection: parses its requests and keeps their answers in order.
///
///     ┌ first ────┬───────────┬───────────┐
///     │ answering │ bytes     │ waiting   │ … at most `pipelinedMax`
///     └───────────┴───────────┴───────────┘
///     written at once  kept until it is first  no answer yet
final class AdminConnection: SecureConnectionDelegate {
    /// A request whose answer is not written in full.
    private struct Pending {
        enum State {
            /// The handler has it.
            case waiting
            /// The handler sends pieces.
            case streaming
            /// Everything is in `bytes`.
            case complete
        }
        var number: UInt32
        var frame: ResponseWriter.Frame
        var state: State
        var began: Instant
        var isWrite: Bool
        /// What could not be written yet, since others are first.
        var bytes: [UInt8] = []
        /// The stream was told to wait.
        var isFull = false
        /// Since when, of the first.
        var fullSince: Instant?
        /// The connection ends after it.
        var closes: Bool
    }

    let slot: Int
    let generation: UInt32
    let isSurplus: Bool
    let address: String
    /// Of its address, for what it asks without saying who it is.
    let budget: ClientBudget
    private let server: AdminServer
    private var channel: SecureConnection?
    private var parser: RequestParser
    private var principal = Principal.anonymous
    /// When the certificate that proved it ends; seconds since 1970.
    private var principalEnds = Int64.max
    private var pending: [Pending] = []
    private var nextNumber: UInt32 = 0
    private var heldBytes = 0
    /// Nothing that comes is read as a request any more.
    private var isDeaf = false
    private var isPaused = false
    private var isProcessing = false
    private var isWaitingForTurn = false
    /// The first stream was full while others were before it, and has to be told that it may go on.
    private var isRoomDue = false
    /// A client waits for `100 Continue` that has to come after the answers before it.
    private var owesContinue = false
    private var isClosing = false
    /// How long its end waits for the reader, where that is not what the settings say.
    private var closeTime: Nanoseconds?
    /// When the first byte of the request under way came, and when its head was complete.
    private var requestBegan: Instant?
    private var bodyBegan: Instant?
    private var lastActive: Instant
    /// For the sender's timeout: how much was sent when, while something waited.
    private var sentBytes: UInt64 = 0
    private var sentAt: Instant

    init(_ server: AdminServer, slot: Int, generation: UInt32, isSurplus: Bool, address: String, budget: ClientBudget) {
        self.server = server
        self.slot = slot
        self.generation = generation
        self.isSurplus = isSurplus
        self.address = address
        self.budget = budget
        lastActive = server.loop.now
        sentAt = server.loop.now
        parser = RequestParser(limits: server.settings.limits)
    }

    func begin(
        _ loop: EventLoop, _ socket: consuming Socket, _ from: SocketAddress, _ context: TLSContext,
        _ settings: SecureConnectionSettings
    ) throws {
        channel = try SecureConnection(loop, socket, from, context: context, settings: settings, delegate: self)
    }

    private var limits: AdminLimits { server.settings.limits }

    // MARK: From the socket

    func established(_ connection: SecureConnection) {
        lastActive = server.loop.now
        if let shown = connection.peerCertificate, let identity = shown.identity,
            identity.cluster == server.authority.cluster
        {
            principalEnds = shown.notAfter
            switch identity {
            case .node(_, let node): principal = .node(node)
            case .operator(_, let name): principal = .operator(name)
            }
        }
        if isSurplus {
            refuse(
                Problem(
                    .overloaded,
                    "\(limits.connectionsMax) connections are open, which is the bound; close some, or ask another node"
                ))
        } else if server.isDraining {
            drain()
        }
    }

    func received(_ connection: SecureConnection, _ bytes: [UInt8], from: Int, to: Int) -> Int {
        lastActive = server.loop.now
        if isDeaf { return to - from }
        parser.append(contentsOf: bytes[from..<to])
        process()
        return to - from
    }

    func drained(_ connection: SecureConnection) {
        drainedFirst()
        goOn()
    }

    private func drainedFirst() {
        guard let first = pending.first, first.isFull else { return }
        pending[0].isFull = false
        pending[0].fullSince = nil
        server.handler?.streamHasRoom(Ticket(slot: slot, generation: generation, number: first.number))
    }

    /// A client that says nothing more still gets the answers that are due; a stream has no end to wait for.
    func inputEnded(_ connection: SecureConnection) -> Bool {
        isDeaf = true
        hold(0)
        if let last = pending.lastIndex(where: { $0.state == .waiting }) {
            pending[last].closes = true
            pending[last].frame.closes = true
        } else {
            closeWhenSent()
        }
        return true
    }

    func closed(_ connection: SecureConnection, _ reason: CloseReason) {
        if case .insecure = reason { server.counters.insecure += 1 }
        if case .handshakeTimedOut = reason { server.counters.tooSlow += 1 }
        over()
    }

    /// Ends the connection without a word.
    func cut() {
        channel?.close()
        over()
    }

    private func over() {
        if channel == nil { return }
        channel = nil
        isDeaf = true
        hold(0)
        let lost = pending
        pending = []
        for request in lost where request.state != .complete {
            server.handler?.cancelled(Ticket(slot: slot, generation: generation, number: request.number))
        }
        server.forget(self)
    }

    // MARK: Requests

    /// Goes on where it stopped, unless the reason is still there.
    func goOn() {
        isWaitingForTurn = false
        if isRoomDue {
            isRoomDue = false
            drainedFirst()
        }
        if channel != nil && !isDeaf { process() }
    }

    private var mayRead: Bool {
        pending.count < limits.pipelinedMax && (channel?.bytesQueued ?? 0) < limits.sendBufferBytesMax
    }

    private func process() {
        if isProcessing { return }
        isProcessing = true
        defer { isProcessing = false }
        while !isDeaf && mayRead {
            switch parser.next() {
            case .request(let head): take(head)
            case .expectsContinue: if pending.isEmpty { writeContinue() } else { owesContinue = true }
            case .fault(let fault):
                server.counters.malformed += 1
                refuse(Problem(fault, limits: limits))
            case .needsMore:
                hold(parser.heldBytes)
                noteProgress()
                if isPaused {
                    isPaused = false
                    channel?.resumeReading()
                }
                return
            }
        }
        if isDeaf { return hold(0) }
        hold(parser.heldBytes)
        requestBegan = nil
        bodyBegan = nil
        if !isPaused {
            isPaused = true
            channel?.pauseReading()
        }
    }

    private func writeContinue() {
        owesContinue = false
        channel?.withOutput { ResponseWriter.writeContinue(into: &$0) }
    }

    private func noteProgress() {
        if !parser.isMidRequest {
            requestBegan = nil
            bodyBegan = nil
        } else {
            if requestBegan == nil { requestBegan = server.loop.now }
            if bodyBegan == nil && parser.isInBody { bodyBegan = server.loop.now }
        }
    }

    /// Counts what this connection keeps of incomplete requests, and gives up when all keep too much.
    private func hold(_ bytes: Int) {
        server.heldBytes += bytes - heldBytes
        heldBytes = bytes
        if bytes > server.settings.heldBytesFree && server.heldBytes > server.settings.heldBytesMax && !isDeaf {
            refuse(
                Problem(
                    .overloaded,
                    "requests on their way hold \(server.settings.heldBytesMax) bytes, which is the bound; ask again later"
                ))
        }
    }

    private func take(_ head: RequestHead) {
        server.counters.requests += 1
        requestBegan = nil
        bodyBegan = nil
        let number = nextNumber
        nextNumber = (nextNumber + 1) & Ticket.numberMask
        let frame = ResponseWriter.Frame(
            isHead: head.method == .head, isOldVersion: head.isOldVersion, closes: head.closes || server.isDraining)
        if frame.closes { isDeaf = true }
        pending.append(
            Pending(
                number: number, frame: frame, state: .waiting, began: server.loop.now,
                isWrite: head.method != .get && head.method != .head, closes: frame.closes))
        let stranger = identify(head)
        if let problem = server.tooOften(asking, budget) { return answer(number, AdminResponse(problem)) }
        do throws(Router.Refusal) {
            let call = try server.router.call(parser, head)
            guard let refusal = judge(call.request.action, stranger) else { return serve(call, number) }
            let path = parser.text(head.path)
            guard mayBeNews(refusal) else { return refuse(call, number, refusal, path) }
            // What was granted a moment ago is known at the root before it is known here.
            let (asking, token) = (asking, tokenUnknown)
            server.authority.learn { [weak self] isNewest in
                self?.judgeAgain(call, number, asking, token, path, isNewest)
            }
        } catch {
            answer(number, error.response)
        }
    }

    private func serve(_ call: AdminCall, _ number: UInt32) {
        switch call.request {
        case .document: answer(number, AdminResponse(.json, .bytes(server.document)))
        case .health: answer(number, AdminResponse(.text, .bytes(Array("alive\n".utf8))))
        default: server.handler?.handle(call, from: asking, ticket(number))
        }
    }

    private func refuse(_ call: AdminCall, _ number: UInt32, _ refusal: Problem, _ path: String) {
        server.counters.refused += 1
        if refusal.kind == .forbidden && call.request.action.isChange {
            server.authority.forbade(call.request.action, asking, from: server.clientAddress(ticket(number)))
        }
        var problem = refusal
        problem.instance = path
        answer(number, AdminResponse(problem))
    }

    private func ticket(_ number: UInt32) -> Ticket { Ticket(slot: slot, generation: generation, number: number) }

    private func mayBeNews(_ refusal: Problem) -> Bool {
        tokenUnknown != nil || (refusal.kind == .forbidden && asking != .anonymous)
    }

    private func judgeAgain(
        _ call: AdminCall, _ number: UInt32, _ before: Principal, _ token: [UInt8]?, _ path: String, _ isNewest: Bool
    ) {
        // Nobody waits for it any more.
        guard pending.contains(where: { $0.number == number && $0.state == .waiting }) else { return }
        asking = before
        var stranger: Problem?
        if let token {
            if let found = server.authority.principal(ofToken: token[...]) {
                asking = found
            } else {
                stranger = isNewest ? AdminConnection.tokenRefusal : AdminConnection.tokenNotLookedUp
            }
        }
        if let refusal = judge(call.request.action, stranger) { return refuse(call, number, refusal, path) }
        serve(call, number)
    }

    /// Who asks with the request that is being judged.
    private var asking = Principal.anonymous
    /// What it shows as a token, if nobody is known by it here.
    private var tokenUnknown: [UInt8]?

    private static var tokenRefusal: Problem {
        Problem(.unauthenticated, "the token is unknown, revoked or has expired; ask an administrator for a new one")
    }
    private static var tokenNotLookedUp: Problem {
        Problem(
            .unavailable,
            "the token is not known here, and the root can't be asked whether it is new; ask again, or ask another node"
        )
    }

    /// Finds out who asks; gives what is wrong with what it shows.
    private func identify(_ head: RequestHead) -> Problem? {
        asking = principal
        tokenUnknown = nil
        if server.second >= principalEnds {
            asking = .anonymous
            return Problem(.unauthenticated, "the client certificate has expired; renew it and connect again")
        }
        guard principal == .anonymous, head.authorization.isThere else { return nil }
        let field = parser.bytes(head.authorization)
        let scheme = Array("bearer ".utf8)
        let isBearer =
            field.count > scheme.count
            && zip(field, scheme).allSatisfy { byte, letter in byte == letter || byte | 0x20 == letter }
        guard isBearer else {
            return Problem(
                .unauthenticated,
                "the Authorization field is of no known scheme; send `Authorization: Bearer` with an API token")
        }
        let token = field.dropFirst(scheme.count)
        guard let found = server.authority.principal(ofToken: token) else {
            tokenUnknown = Array(token)
            return AdminConnection.tokenRefusal
        }
        asking = found
        return nil
    }

    private func judge(_ action: Action, _ stranger: Problem?) -> Problem? {
        if action == .ask || action == .join { return nil }
        if let stranger { return stranger }
        let roles = asking == .anonymous ? [] : server.authority.roles(of: asking)
        let verdict = Access.judge(action, asking, roles: roles, metricsAreOpen: server.authority.metricsAreOpen)
        if verdict == .forbidden && !server.authority.knowsRoles {
            return Problem(
                .unavailable,
                "this node does not know the cluster's state yet; ask again in a moment, or ask another node")
        }
        return Access.problem(verdict, action, asking)
    }

    /// Answers what is no request, after everything before it, and reads nothing more.
    private func refuse(_ problem: Problem) {
        isDeaf = true
        let number = nextNumber
        nextNumber = (nextNumber + 1) & Ticket.numberMask
        pending.append(
            Pending(
                number: number, frame: ResponseWriter.Frame(closes: true), state: .waiting, began: server.loop.now,
                isWrite: false, closes: true))
        answer(number, AdminResponse(problem))
    }

    // MARK: Answers

    func answer(_ number: UInt32, _ response: AdminResponse) {
        guard let place = pending.firstIndex(where: { $0.number == number }), pending[place].state == .waiting else {
            return
        }
        server.counters.count(status: response.status)
        let isLast = place == pending.count - 1
        if response.closes || (server.isDraining && isLast) {
            pending[place].closes = true
            pending[place].frame.closes = true
            isDeaf = true
        }
        let frame = pending[place].frame
        let date = server.date
        pending[place].state = response.isStream ? .streaming : .complete
        if place == 0 {
            channel?.withOutput { ResponseWriter.write(response, frame, date: date, into: &$0) }
            advance()
        } else {
            ResponseWriter.write(response, frame, date: date, into: &pending[place].bytes)
        }
    }

    func send(_ number: UInt32, _ piece: [UInt8]) -> StreamRoom {
        guard let channel, let place = pending.firstIndex(where: { $0.number == number }),
            pending[place].state == .streaming
        else { return .gone }
        let frame = pending[place].frame
        let waiting: Int
        if place == 0 {
            if channel.room < piece.count + 32 {
                // Its owner went on without waiting for room.
                cut()
                return .gone
            }
            channel.withOutput { ResponseWriter.writePiece(piece, frame, into: &$0) }
            waiting = channel.bytesQueued
        } else {
            ResponseWriter.writePiece(piece, frame, into: &pending[place].bytes)
            waiting = pending[place].bytes.count
        }
        pending[place].isFull = waiting >= limits.sendBufferBytesMax
        return pending[place].isFull ? .full : .open
    }

    func endStream(_ number: UInt32, isWhole: Bool) {
        guard let place = pending.firstIndex(where: { $0.number == number }), pending[place].state == .streaming else {
            return
        }
        pending[place].state = .complete
        if isWhole {
            let frame = pending[place].frame
            if place == 0 {
                channel?.withOutput { ResponseWriter.writeEnd(frame, into: &$0) }
            } else {
                ResponseWriter.writeEnd(frame, into: &pending[place].bytes)
            }
        } else {
            pending[place].closes = true
        }
        if place == 0 { advance() }
    }

    /// Writes what was waiting for the first answer to be complete.
    private func advance() {
        while !pending.isEmpty && pending[0].state == .complete {
            let closes = pending[0].closes
            pending.removeFirst()
            if closes { return closeWhenSent() }
            guard !pending.isEmpty else { break }
            let bytes = pending[0].bytes
            pending[0].bytes = []
            if !bytes.isEmpty { channel?.withOutput { $0.append(contentsOf: bytes) } }
            if pending[0].state == .streaming && pending[0].isFull && !bytes.isEmpty {
                pending[0].isFull = (channel?.bytesQueued ?? 0) >= limits.sendBufferBytesMax
                if !pending[0].isFull { toldRoomSoon() }
            }
        }
        lastActive = server.loop.now
        if owesContinue && pending.isEmpty { writeContinue() }
        if isPaused && !isProcessing && mayRead { goOnOutsideThisCall() }
        if server.isDraining { drain() }
    }

    private func toldRoomSoon() {
        pending[0].isFull = true
        isRoomDue = true
        goOnOutsideThisCall()
    }
    private func goOnOutsideThisCall() {
        if isWaitingForTurn { return }
        isWaitingForTurn = true
        server.goOnSoon(self)
    }

    private func closeWhenSent() {
        isDeaf = true
        isClosing = true
        let lost = pending
        pending = []
        hold(0)
        for request in lost where request.state != .complete {
            server.handler?.cancelled(Ticket(slot: slot, generation: generation, number: request.number))
        }
        channel?.closeWhenDrained(within: closeTime)
    }

    // MARK: Time and the end

    /// Looks for what took too long.
    func check(_ now: Instant) {
        guard let channel, channel.isEstablished, !isClosing else { return }
        if isOverdue(now) { return endOverdue() }
        if channel.bytesQueued == 0 || channel.bytesSent != sentBytes {
            sentBytes = channel.bytesSent
            sentAt = now
        } else if now - sentAt > limits.sendTimeout {
            server.counters.tooSlow += 1
            return cut()
        }
        if let first = pending.first(where: { $0.state == .waiting }), now - first.began > server.settings.answerTimeout
        {
            server.counters.unanswered += 1
            server.handler?.cancelled(Ticket(slot: slot, generation: generation, number: first.number))
            let detail =
                first.isWrite
                ? "nothing answered in time, and the change may take effect or not; read to see, or send it again with the "
                    + "same Idempotency-Key" : "nothing answered in time; ask again, or ask another node"
            return answer(
                first.number, AdminResponse(Problem(first.isWrite ? .outcomeUnknown : .unavailable, detail)))
        }
        if isDeaf { return }
        let isLate =
            requestBegan.map { began in
                bodyBegan.map { now - $0 > limits.bodyTimeout } ?? (now - began > limits.headTimeout)
            } ?? false
        if isLate {
            server.counters.tooSlow += 1
            return refuse(
                Problem(.timeout, "the request did not arrive in time; send it at once when it is complete"))
        }
        if pending.isEmpty && requestBegan == nil && now - lastActive > limits.idleTimeout { closeWhenSent() }
    }

    /// However little its reader takes, a stream may not wait for it for ever.
    private func isOverdue(_ now: Instant) -> Bool {
        guard let first = pending.first, first.state == .streaming, first.isFull else { return false }
        let since = first.fullSince ?? now
        pending[0].fullSince = since
        return now - since > limits.streamTimeout
    }

    private func endOverdue() {
        server.counters.tooSlow += 1
        isDeaf = true
        closeTime = limits.streamGrace
        pending[0].closes = true
        let ticket = Ticket(slot: slot, generation: generation, number: pending[0].number)
        server.handler?.streamIsOverdue(ticket)
        // A handler that has not ended it has no more to say.
        if !isClosing { cut() }
    }

    /// Answers what is under way and closes. Whoever asks nothing yet has the time of grace for it, and whoever began a
    /// request may end it.
    func drain() {
        guard let channel, !isClosing else { return }
        if pending.isEmpty {
            if server.hasGrace || requestBegan != nil { return }
            channel.isEstablished ? closeWhenSent() : cut()
            return
        }
        isDeaf = true
        for place in pending.indices where pending[place].state == .streaming {
            pending[place].closes = true
            let number = pending[place].number
            server.handler?.cancelled(Ticket(slot: slot, generation: generation, number: number))
            endStream(number, isWhole: true)
            return
        }
    }
}
