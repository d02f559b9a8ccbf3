internal import BinaryCoding
internal import ClusterBase
internal import NodePorts
internal import Reactor
internal import Schema
internal import SecureChannel
internal import TLSSession
internal import WireFormat

/// One connection with one node, from its first byte to its end. Decides nothing: the network does.
///
///     opened by us:   shaking ── hello ─▶ awaitsAnswer ── welcome ─▶ up ─▶ over
///     opened by them: shaking ─▶ awaitsHello ── hello, welcome ─▶ up ─▶ over
///                                     └── refusal ─▶ leaving ─▶ over
final class PeerConnection: SecureConnectionDelegate, TimerHandler {
    enum State {
        case shaking
        case awaitsHello
        case awaitsAnswer
        case up
        /// Sends its refusal, or is about to be ended from the outside; hears nothing.
        case leaving
        case over
    }

    let network: PeerNetwork
    let serial: UInt64
    let isDialed: Bool
    let address: SocketAddress
    private(set) var secure: SecureConnection?
    private(set) var state = State.shaking
    var lane: PeerLane
    /// Who it should be when we opened it; who it is from the hello on.
    var node: NodeID?
    /// Of the other side's process.
    var start = NodeStart(Incarnation(0), process: 0, written: 0)
    var incarnation: Incarnation { start.incarnation }
    var facts: LinkFacts?
    /// The peer's last word about its connections, as of this one's beginning.
    var peerSequence: UInt64 = 0
    var isCompressing = false
    var upSince = Instant.origin
    /// When the peer last sent something.
    var heardAt = Instant.origin
    /// When this node last did.
    var saidAt = Instant.origin
    /// The peer says something at least so often; nil from a program that does not promise it.
    var heardEvery: Nanoseconds?
    /// It has not kept to that. Its machine may still acknowledge what it is sent.
    var isSilent = false
    /// Requests of the peer that this node has not answered.
    var requestsOpen = 0
    /// What it carries, on the stream lane.
    var stream: PeerStream?
    /// What the peer said when it refused.
    var wasRefused: PeerHelloAnswer.Refusal?
    /// It sent what no correct node sends.
    var isHostile = false
    /// Why it ends, when the network ends it.
    var endReason: String?
    private var timer: TimerID?

    private static let helloTag = 0
    private static let endTag = 1
    private static let expiryTag = 2

    init(
        _ network: PeerNetwork, serial: UInt64, isDialed: Bool, lane: PeerLane, node: NodeID?, address: SocketAddress
    ) {
        self.network = network
        self.serial = serial
        self.isDialed = isDialed
        self.lane = lane
        self.node = node
        self.address = address
    }

    /// Begins the handshake.
    func start(_ socket: consuming Socket, _ context: TLSContext) throws {
        secure = try SecureConnection(
            network.loop, socket, address, context: context,
            settings: network.settings.connection(isBulk: isDialed && lane != .control), delegate: self)
    }

    var certificate: Certificate? { secure?.peerCertificate }
    var bytesQueued: Int { secure?.bytesQueued ?? 0 }
    var isWritable: Bool { state == .up && (secure?.isWritable ?? false) }

    // MARK: From the connection

    func established(_ connection: SecureConnection) {
        guard state == .shaking else { return }
        timer = network.loop.setTimer(after: network.settings.helloTimeout, self, tag: PeerConnection.helloTag)
        if isDialed {
            guard network.mayGreet(self) else { return }
            state = .awaitsAnswer
            say(.hello, network.hello(self))
        } else {
            state = .awaitsHello
        }
    }

    func received(_ connection: SecureConnection, _ bytes: [UInt8], from: Int, to: Int) -> Int {
        var at = from
        heardAt = network.loop.now
        if isSilent { network.heardAgain(self) }
        do throws(FrameDamage) {
            while state != .over {
                // Whoever is told to go is not listened to any more.
                if state == .leaving { return to - from }
                if lane == .stream, state == .up, !isDialed {
                    if at == to { break }
                    guard let stream, stream.state == .carrying || stream.state == .taken else {
                        throw .foreign("bytes of a stream that nobody asked for")
                    }
                    at += stream.take(bytes, from: at, to: to)
                    break
                }
                let payloadMax = state == .up ? FrameCoder.payloadBytesMax : FrameCoder.helloBytesMax
                guard let header = try FrameCoder.header(bytes, from: at, to: to, payloadMax: payloadMax),
                    to - at - FrameCoder.headerBytes >= header.count
                else { break }
                try take(bytes, at, header)
                at += FrameCoder.headerBytes + header.count
            }
        } catch {
            network.damaged(self, error)
        }
        return state == .over ? 0 : at - from
    }

    private func take(_ bytes: [UInt8], _ at: Int, _ header: FrameCoder.Header) throws(FrameDamage) {
        network.counters.framesReceived += 1
        network.counters.bytesReceived += UInt64(header.count + FrameCoder.headerBytes)
        let codec = state == .up ? network.codec : nil
        switch (FrameKind(rawValue: header.kind), state) {
        case (.streamWord, .up) where lane == .stream:
            let word = try FrameCoder.open(bytes, from: at, header, codec: nil) {
                reader throws(DecodeError) in try PeerStreamWord(from: &reader)
            }
            stream?.take(word)
        case (_, .up) where lane == .stream: throw .foreign("a frame of kind \(header.kind) on a stream's connection")
        case (.peerFrame, .up):
            let frame = try FrameCoder.open(bytes, from: at, header, codec: codec) {
                reader throws(DecodeError) in
                let wire = try RaftPeerFrame(from: &reader)
                if wire.written > start.written {
                    start.written = wire.written
                    network.moved(self)
                }
                return try PeerFrame(wire: wire)
            }
            guard frame.from == node, frame.incarnation == incarnation else {
                throw .foreign("a frame of node \(frame.from), incarnation \(frame.incarnation), on its connection")
            }
            network.delegate?.received(frame)
        case (.request, .up):
            let request = try FrameCoder.open(bytes, from: at, header, codec: codec) {
                reader throws(DecodeError) in try PeerRequest(from: &reader)
            }
            network.take(request, self)
        case (.answer, .up):
            let answer = try FrameCoder.open(bytes, from: at, header, codec: codec) {
                reader throws(DecodeError) in try PeerAnswer(from: &reader)
            }
            network.take(answer, self)
        case (.sign, .up):
            let sign = try FrameCoder.open(bytes, from: at, header, codec: codec) {
                reader throws(DecodeError) in try PeerSign(from: &reader)
            }
            // No longer than anybody would wait.
            let milliseconds = Int64(clamping: min(sign.withinMilliseconds, PeerSettings.signMillisecondsMax))
            heardEvery = milliseconds == 0 ? nil : .milliseconds(milliseconds)
        case (.hello, .awaitsHello):
            let hello = try FrameCoder.open(bytes, from: at, header, codec: nil) {
                reader throws(DecodeError) in try PeerHello(from: &reader)
            }
            network.take(hello, self)
        case (.helloAnswer, .awaitsAnswer):
            let answer = try FrameCoder.open(bytes, from: at, header, codec: nil) {
                reader throws(DecodeError) in try PeerHelloAnswer(from: &reader)
            }
            network.take(answer, self)
        case (nil, .up):
            // A newer program's kind of frame: what it means it can't expect us to know, but it must be whole.
            _ = try FrameCoder.open(bytes, from: at, header, codec: nil) { _ throws(DecodeError) in }
        default:
            throw .foreign("a frame of kind \(header.kind) that does not belong here")
        }
    }

    func drained(_ connection: SecureConnection) {
        if state == .up { network.drained(self) }
    }

    func closed(_ connection: SecureConnection, _ reason: CloseReason) {
        if state == .over { return }
        let was = finish()
        network.ended(self, was, reason)
    }

    func timerFired(_ tag: Int) {
        timer = nil
        if state == .over { return }
        if tag == PeerConnection.expiryTag { endReason = "its certificate has expired" }
        secure?.close()
        let was = finish()
        network.ended(self, was, tag == PeerConnection.helloTag ? .handshakeTimedOut : .finished)
    }

    // MARK: From the network

    /// It is one of the node's connections from now on.
    func raise() {
        if let timer { network.loop.cancel(timer) }
        state = .up
        upSince = network.loop.now
        // A certificate speaks for its node until it ends, not until the connection happens to.
        let seconds = min(max(0, (certificate?.notAfter ?? 0) - SystemClock.wallNanoseconds / 1_000_000_000), 1 << 30)
        timer = network.loop.setTimer(after: .seconds(seconds), self, tag: PeerConnection.expiryTag)
    }

    /// A newer connection stands: this one only hears, and not for long.
    func retire() {
        endReason = "a newer connection stands"
        if let timer { network.loop.cancel(timer) }
        timer = network.loop.setTimer(after: network.settings.helloTimeout, self, tag: PeerConnection.endTag)
    }

    /// Refuses the other side after a last message.
    func leave(_ reason: String) {
        endReason = reason
        state = .leaving
        if let timer { network.loop.cancel(timer) }
        timer = nil
        secure?.closeWhenDrained()
    }

    /// Ends it in the next round of timers, since the network's owner is calling; it hears and says nothing until then.
    func endSoon(_ reason: String) {
        guard state != .over else { return }
        let wasUp = state == .up
        endReason = reason
        state = .leaving
        if let timer { network.loop.cancel(timer) }
        timer = network.loop.setTimer(at: network.loop.now, self, tag: PeerConnection.endTag)
        endsLink = wasUp
    }
    private(set) var endsLink = false

    /// Ends it now, without a word to the network.
    func end() {
        secure?.close()
        _ = finish()
    }

    private func finish() -> State {
        let was = endsLink ? .up : state
        state = .over
        if let timer { network.loop.cancel(timer) }
        timer = nil
        secure = nil
        return was
    }

    /// It carries bulk: what a turn takes of it is bounded more tightly.
    func becomeBulk() { secure?.bytesPerTurnMax = PeerNetwork.bulkPerTurnBytes }

    // MARK: Saying

    func say<Body: WireMessage>(_ kind: FrameKind, _ message: Body) {
        write(kind) { message.encode(into: &$0) }
    }

    /// Appends a frame to what leaves at the end of the turn; gives the bytes of its payload.
    @discardableResult
    func write(_ kind: FrameKind, _ encode: (inout ByteWriter) -> Void) -> Int {
        guard let secure else { return 0 }
        let codec = isCompressing ? network.codec : nil
        let (count, isCompressed) = secure.withOutput { output in
            FrameCoder.append(
                kind, to: &output, codec: codec, compressFrom: network.settings.compressFrom, encode)
        }
        saidAt = network.loop.now
        network.counters.framesSent += 1
        network.counters.bytesSent += UInt64(count + FrameCoder.headerBytes)
        network.count(count + FrameCoder.headerBytes, to: node)
        if isCompressed { network.counters.framesCompressed += 1 }
        return count
    }
}

extension PeerSettings {
    func connection(isBulk: Bool) -> SecureConnectionSettings {
        var settings = SecureConnectionSettings()
        settings.handshakeTimeout = helloTimeout
        settings.closeTimeout = helloTimeout
        settings.inputBytesMax = FrameCoder.payloadBytesMax + FrameCoder.headerBytes
        settings.outputBytesMax = .max
        settings.outputHighWater = isBulk ? 1 << 19 : queuedBytesMax
        settings.bytesPerTurnMax = isBulk ? PeerNetwork.bulkPerTurnBytes : 1 << 20
        settings.isBulk = isBulk
        settings.socket.userTimeout = silenceMax
        settings.socket.keepAliveIdle = silenceMax
        return settings
    }
}
