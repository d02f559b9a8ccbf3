package import AdminAPI
package import ClusterBase
package import Reactor
package import SecureChannel
package import TLSSession

/// What came back: the status, the header as it was sent and the body.
package struct AdminAnswer: Hashable, Sendable {
    package var status: Int
    /// The header fields with their line ends.
    var fields: [UInt8]
    package var body: [UInt8]

    /// The value of a header field; `name` is in lower case.
    package func value(of name: String) -> String? {
        for line in fields.split(separator: UInt8(ascii: "\n")) {
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { continue }
            let isIt = line[..<colon].elementsEqual(name.utf8) { byte, letter in
                (byte >= 65 && byte <= 90 ? byte | 0x20 : byte) == letter
            }
            if isIt {
                let value = line[(colon + 1)...].drop { $0 == 0x20 || $0 == 0x09 }
                return String(decoding: value.prefix { $0 != 0x0D }, as: UTF8.self)
            }
        }
        return nil
    }

    package var index: LogIndex? { value(of: "muster-index").flatMap { UInt64($0) }.map { LogIndex($0) } }
    /// `index.slot`.
    package var revision: String? { value(of: "muster-revision") }
    package var isSuccess: Bool { status < 300 }

    /// What is wrong, where the status says that something is.
    package var problem: Problem? {
        if isSuccess { return nil }
        // A body that is no JSON tells no more than the status does.
        let json = (try? JSONParser.parse(body[...], depthMax: 16, valuesMax: 4_096)) ?? .null
        return Problem(json, status: status)
    }
}

/// Why there is no answer.
package struct AdminClientFailure: Error, Hashable, Sendable, CustomStringConvertible {
    /// One sentence that says what to do.
    package var description: String
    /// The request was sent, so it may have taken effect.
    package var mayHaveHappened: Bool
    /// Whoever answered showed no certificate of an authority that is trusted.
    package var isUntrusted = false

    package init(description: String, mayHaveHappened: Bool, isUntrusted: Bool = false) {
        self.description = description
        self.mayHaveHappened = mayHaveHappened
        self.isUntrusted = isUntrusted
    }
}

/// The bounds and times of a client.
package struct AdminClientSettings: Hashable, Sendable {
    package var connectTimeout = Nanoseconds.seconds(5)
    /// From sending a request to the end of its answer, or to the beginning of a stream.
    package var answerTimeout = Nanoseconds.seconds(35)
    package var bodyBytesMax = 16 << 20
    package init() {}
}

/// An HTTPS client of the admin port on the loop's thread: one connection that is kept and made again when it is gone, one
/// request at a time.
///
///     idle ─send─▶ dialing ─▶ handshake ─▶ waiting ─▶ answer ─▶ idle
///                      └──────────┴───────────┴──▶ failed ──▶ idle
package final class AdminClient: SecureConnectionDelegate, TimerHandler {
    package enum Event: Sendable {
        case answer(AdminAnswer)
        /// A stream begins; its pieces follow.
        case streamBegan(AdminAnswer)
        case piece([UInt8])
        /// The stream ended as a whole.
        case streamEnded
        case failed(AdminClientFailure)
    }

    private enum State {
        case idle, connecting, waiting, streaming
    }

    private let loop: EventLoop
    private let address: SocketAddress
    private let serverName: String?
    private let context: TLSContext
    private let writer: RequestWriter
    private let settings: AdminClientSettings
    private let onEvent: (AdminClient, Event) -> Void
    private var state = State.idle
    private var dialer: Dialer?
    private var channel: SecureConnection?
    private var parser = ResponseParser()
    private var request: [UInt8] = []
    private var expectsStream = false
    private var isHead = false
    private var answer = AdminAnswer(status: 0, fields: [], body: [])
    private var closesAfter = false
    private var deadline = Instant.origin
    private var timer: TimerID?

    /// `host` is what the server is called in requests, `serverName` what its certificate must carry; nil checks the chain
    /// only.
    package init(
        _ loop: EventLoop, to address: SocketAddress, host: String, serverName: String?, context: TLSContext,
        bearerToken: String? = nil, settings: AdminClientSettings = AdminClientSettings(),
        onEvent: @escaping (AdminClient, Event) -> Void
    ) {
        self.loop = loop
        self.address = address
        self.serverName = serverName
        self.context = context
        self.settings = settings
        self.onEvent = onEvent
        writer = RequestWriter(host: host, bearerToken: bearerToken)
    }

    package var isBusy: Bool { state != .idle }

    /// Sends a request; its answer comes as an event. Only while no other is under way.
    package func send(_ call: AdminCall) {
        begin(isStream: call.request.isStream, isHead: call.isHead)
        writer.write(call, into: &request)
        transmitOrConnect()
    }

    /// The same for a request in its raw form.
    package func send(_ raw: RawRequest) {
        begin(isStream: raw.isStream, isHead: raw.method == .head)
        writer.write(raw, into: &request)
        transmitOrConnect()
    }

    private func begin(isStream: Bool, isHead: Bool) {
        precondition(state == .idle, "one request at a time")
        expectsStream = isStream
        self.isHead = isHead
        answer = AdminAnswer(status: 0, fields: [], body: [])
        request.removeAll(keepingCapacity: true)
    }

    private func transmitOrConnect() {
        if let channel, channel.isEstablished {
            state = .waiting
            setDeadline(settings.answerTimeout)
            transmit()
        } else {
            state = .connecting
            setDeadline(settings.connectTimeout)
            connect()
        }
    }

    /// Ends the connection and whatever is under way; no event follows.
    package func close() {
        drop()
        if let timer { loop.cancel(timer) }
        timer = nil
        state = .idle
    }

    /// Holds a stream up: the server is told by its full socket.
    package func pause() { channel?.pauseReading() }
    package func resume() { channel?.resumeReading() }

    private func connect() {
        // The dialer forgets its handler when it has called it or is cancelled.
        dialer = Dialer(loop, to: address, timeout: settings.connectTimeout) { socket, error in
            self.dialed(socket, error)
        }
    }

    private func dialed(_ socket: consuming Socket?, _ error: SystemError?) {
        dialer = nil
        guard let connected = socket.take() else {
            return fail(error?.description ?? "there is no connection to \(address); ask another node", sent: false)
        }
        var bounds = SecureConnectionSettings()
        bounds.handshakeTimeout = settings.connectTimeout
        bounds.outputBytesMax = 8 << 20
        do {
            channel = try SecureConnection(
                loop, connected, address, context: context, serverName: serverName, settings: bounds, delegate: self)
        } catch {
            fail("\(error)", sent: false)
        }
    }

    private func transmit() {
        if isHead { parser.expectNoBody() }
        channel?.withOutput { $0.append(contentsOf: request) }
    }

    // MARK: From the socket

    package func established(_ connection: SecureConnection) {
        guard state == .connecting else { return }
        // An operator's certificate is good for asking, and not for answering.
        guard case .node? = connection.peerCertificate?.identity else {
            return fail("what answers at \(address) shows no node's certificate; name a node's admin port", sent: false)
        }
        parser = ResponseParser()
        state = .waiting
        setDeadline(settings.answerTimeout)
        transmit()
    }

    package func received(_ connection: SecureConnection, _ bytes: [UInt8], from: Int, to: Int) -> Int {
        parser.append(contentsOf: bytes[from..<to])
        while channel === connection {
            switch parser.next() {
            case .needsMore: return to - from
            case .head(let head): began(head)
            case .body(let range): take(range)
            case .end: ended()
            case .fault(let fault): fail(fault.detail, sent: true)
            }
        }
        return to - from
    }

    private func began(_ head: ResponseHead) {
        answer = AdminAnswer(status: head.status, fields: Array(parser.bytes(head.fields)), body: [])
        closesAfter = head.closes
        if state == .idle {
            // Nobody asked: the server says why it ends the connection.
            return drop()
        }
        if expectsStream && answer.isSuccess {
            state = .streaming
            onEvent(self, .streamBegan(answer))
        }
    }

    private func take(_ range: ByteRange) {
        if state == .streaming {
            onEvent(self, .piece(Array(parser.bytes(range))))
        } else if answer.body.count + range.count > settings.bodyBytesMax {
            fail("the answer is larger than \(settings.bodyBytesMax) bytes; ask for less", sent: true)
        } else {
            answer.body.append(contentsOf: parser.bytes(range))
        }
    }

    private func ended() {
        let event: Event = state == .streaming ? .streamEnded : .answer(answer)
        state = .idle
        if closesAfter { drop() }
        onEvent(self, event)
    }

    package func closed(_ connection: SecureConnection, _ reason: CloseReason) {
        guard channel === connection else { return }
        channel = nil
        if state == .waiting || state == .streaming, case .end = parser.finish() { return ended() }
        if state == .connecting, case .insecure(let failure) = reason {
            // Nothing gets better by asking again.
            return fail(
                "\(address) is not who it should be: \(failure.message)", sent: false,
                isUntrusted: failure.code == .certificateRefused)
        }
        if state != .idle { fail("\(reason); ask again, or ask another node", sent: state != .connecting) }
    }

    private func drop() {
        dialer?.cancel()
        dialer = nil
        let old = channel
        channel = nil
        old?.close()
    }

    private func fail(_ sentence: String, sent: Bool, isUntrusted: Bool = false) {
        drop()
        state = .idle
        onEvent(
            self,
            .failed(AdminClientFailure(description: sentence, mayHaveHappened: sent, isUntrusted: isUntrusted)))
    }

    // MARK: Time

    /// One timer that looks again at the deadline when it is due: most requests end long before.
    private func setDeadline(_ time: Nanoseconds) {
        deadline = SystemClock.now + time
        if timer == nil { timer = loop.setTimer(at: deadline, self, tag: 0) }
    }

    package func timerFired(_ tag: Int) {
        timer = nil
        if state == .idle || state == .streaming { return }
        if loop.now < deadline {
            timer = loop.setTimer(at: deadline, self, tag: 0)
        } else {
            fail("\(address) did not answer in time; ask again, or ask another node", sent: state == .waiting)
        }
    }
}

extension AdminClient {
    /// Asks once and waits: for a command line. Addresses are tried in turn until one can be reached. With `repeats` also when
    /// the answer was lost, nobody knows what came of it, or it can't be done just now (no leader, too much under way), again and
    /// again within `answerTimeout`: the caller knows that it takes effect once, wherever it is asked.
    package static func ask(
        _ call: AdminCall, at addresses: [Address], context: TLSContext, serverName: String? = nil,
        bearerToken: String? = nil, settings: AdminClientSettings = AdminClientSettings(), repeats: Bool = false
    ) throws -> AdminAnswer {
        try ask(at: addresses, context, serverName, bearerToken, settings, repeats) { $0.send(call) }
    }

    /// The same for a request in its raw form.
    package static func ask(
        _ raw: RawRequest, at addresses: [Address], context: TLSContext, serverName: String? = nil,
        bearerToken: String? = nil, settings: AdminClientSettings = AdminClientSettings(), repeats: Bool = false
    ) throws -> AdminAnswer {
        try ask(at: addresses, context, serverName, bearerToken, settings, repeats) { $0.send(raw) }
    }

    private static func ask(
        at addresses: [Address], _ context: TLSContext, _ serverName: String?, _ bearerToken: String?,
        _ settings: AdminClientSettings, _ repeats: Bool, _ send: (AdminClient) -> Void
    ) throws -> AdminAnswer {
        let loop = try EventLoop()
        let resolver = Resolver(loop)
        defer {
            resolver.close()
            loop.removeMailboxes()
        }
        let end = SystemClock.now + settings.answerTimeout
        var round = Round(
            loop: loop, resolver: resolver, context: context, serverName: serverName, bearerToken: bearerToken,
            settings: settings, repeats: repeats)
        while true {
            if let answer = try round.ask(addresses, send) { return answer }
            let isWorthMore = repeats && round.isLost && SystemClock.now < end
            if !isWorthMore { break }
            _ = loop.run(atMost: Round.pause) { false }
        }
        if let answer = round.unsettled { return answer }
        throw round.failure
    }

    /// Every address once.
    private struct Round {
        let loop: EventLoop
        let resolver: Resolver
        let context: TLSContext
        let serverName: String?
        let bearerToken: String?
        let settings: AdminClientSettings
        let repeats: Bool
        var failure = AdminClientFailure(description: "no address was given; name a node", mayHaveHappened: false)
        /// The last answer that another one may follow.
        var unsettled: AdminAnswer?
        /// In this round somebody took it and did not say what came of it, or could not do it now.
        var isLost = false

        static let pause = Nanoseconds.milliseconds(100)

        mutating func ask(_ addresses: [Address], _ send: (AdminClient) -> Void) throws -> AdminAnswer? {
            isLost = false
            for address in addresses {
                switch resolver.places(of: address, within: settings.connectTimeout, on: loop) {
                case .failed(let sentence): failure.description = sentence
                case .found(let places):
                    for place in places {
                        if let answer = try ask(address, place, send) { return answer }
                    }
                }
            }
            return nil
        }

        private mutating func ask(
            _ address: Address, _ place: SocketAddress, _ send: (AdminClient) -> Void
        ) throws -> AdminAnswer? {
            var result: Result<AdminAnswer, AdminClientFailure>?
            let client = AdminClient(
                loop, to: place, host: address.description, serverName: serverName ?? address.host,
                context: context, bearerToken: bearerToken, settings: settings
            ) { _, event in
                switch event {
                case .answer(let answer), .streamBegan(let answer): result = .success(answer)
                case .failed(let failure): result = .failure(failure)
                case .piece, .streamEnded: break
                }
            }
            send(client)
            _ = loop.run(atMost: settings.connectTimeout + settings.answerTimeout + .seconds(1)) { result != nil }
            client.close()
            let wasLost = failure.mayHaveHappened
            switch result {
            case .success(let answer)?:
                guard repeats, let problem = answer.problem, problem.kind.mayPass else { return answer }
                unsettled = answer
                isLost = true
                return nil
            case .failure(let found)?: failure = found
            case nil:
                failure = AdminClientFailure(
                    description: "\(address) did not answer in time; ask another node", mayHaveHappened: true)
            }
            if failure.mayHaveHappened {
                if !repeats { throw failure }
                isLost = true
            }
            failure.mayHaveHappened = failure.mayHaveHappened || wasLost
            return nil
        }
    }
}
