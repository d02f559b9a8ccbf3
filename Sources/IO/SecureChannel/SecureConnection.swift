package import ClusterBase
package import Reactor
package import TLSSession

/// Is told what happens on a connection, always from the loop and never from within a call to the connection.
package protocol SecureConnectionDelegate: AnyObject {
    /// Both sides have shown who they are, as far as they had to: `connection.peerCertificate`.
    func established(_ connection: SecureConnection)
    /// Shows what arrived and was not yet taken, `bytes[from ..< to]`, and gives back how many bytes were taken. Keeping
    /// the array costs a copy of it at the next arrival.
    func received(_ connection: SecureConnection, _ bytes: [UInt8], from: Int, to: Int) -> Int
    /// There is room again after `isWritable` was false.
    func drained(_ connection: SecureConnection)
    /// The other side said that nothing more comes from it; it may still listen. True keeps the connection until
    /// `closeWhenDrained` or `close`, false ends it.
    func inputEnded(_ connection: SecureConnection) -> Bool
    /// The connection is over, and says nothing more.
    func closed(_ connection: SecureConnection, _ reason: CloseReason)
}

extension SecureConnectionDelegate {
    package func drained(_ connection: SecureConnection) {}
    package func inputEnded(_ connection: SecureConnection) -> Bool { false }
}

/// Why a connection is over.
package enum CloseReason: Hashable, Sendable, CustomStringConvertible {
    /// The other side said that it was done.
    case ended
    /// The other side went away without a word: its process or machine is gone, or something between cut the line.
    case cut
    case failed(SystemError)
    /// The other side is not who it should be, or does not speak TLS.
    case insecure(TLSFailure)
    case handshakeTimedOut
    /// More came than the delegate takes and the buffer holds.
    case inputTooLarge
    /// What `closeWhenDrained` waited for was sent.
    case finished
    /// What `closeWhenDrained` waited for was not taken in time.
    case stuck

    package var description: String {
        switch self {
        case .ended: "the other side closed the connection"
        case .cut: "the connection was cut"
        case .failed(let error): error.description
        case .insecure(let failure): failure.message
        case .handshakeTimedOut: "the other side did not finish the handshake in time"
        case .inputTooLarge: "the other side sent more at once than is allowed"
        case .finished: "everything was sent"
        case .stuck: "the other side did not take the rest in time"
        }
    }
}

/// The bounds of one connection.
package struct SecureConnectionSettings: Hashable, Sendable {
    package var handshakeTimeout = Nanoseconds.seconds(5)
    /// How long `closeWhenDrained` waits.
    package var closeTimeout = Nanoseconds.seconds(2)
    /// Bytes that may wait for the delegate to take them. What passes it ends the connection.
    package var inputBytesMax = 1 << 20
    /// Bytes that may wait to be sent; a write that would pass it is refused.
    package var outputBytesMax = 16 << 20
    /// From here on `isWritable` is false, until half of it is left.
    package var outputHighWater = 1 << 20
    /// Bytes that one turn reads or encrypts, so that one connection delays the others by a bound.
    package var bytesPerTurnMax = 1 << 20
    /// Leaves after everything else of a turn.
    package var isBulk = false
    /// One of many clients: it is read after all others in a turn, and its handshake takes turns with others'. A thousand at
    /// once are no reason for a long turn of the loop.
    package var isCrowd = false
    package var socket = SocketSettings()
    package init() {}
}

/// A socket with TLS 1.3 and a bounded buffer on either side. Belongs to the loop's thread.
///
///     socket ─▶ loop.scratch ─▶ TLSStream ─▶ input ─▶ delegate.received
///     socket ◀── end of turn ◀─ TLSStream ◀─ output ◀─ write, withOutput
///
/// Everything written in a turn is encrypted at its end in as few records as hold it and given to the system in one
/// call. While the socket takes nothing, what is written waits as plaintext in `output`.
package final class SecureConnection: ReadinessHandler, TimerHandler, FlushHandler, LabourHandler {
    package let settings: SecureConnectionSettings
    /// The other end; for people only.
    package let address: SocketAddress
    /// As in the settings, until whoever reads it knows better what the connection is for.
    package var bytesPerTurnMax: Int
    package private(set) var bytesSent: UInt64 = 0
    package private(set) var bytesReceived: UInt64 = 0

    private let loop: EventLoop
    private let stream: TLSStream
    private var socket: Socket?
    private var watch: Watch?
    private var interest: Readiness = .readable
    private var delegate: (any SecureConnectionDelegate)?

    private var input: [UInt8] = []
    private var inputStart = 0
    private var inputEnd = 0
    private var output: [UInt8] = []
    private var outputStart = 0

    private var handshakeTimer: TimerID?
    private var closeTimer: TimerID?
    private var soonTimer: TimerID?
    private var isFlushQueued = false
    private var isToldEstablished = false
    private var isPaused = false
    /// The other side says nothing more, and the delegate still has something to say.
    private var isHalfClosed = false
    private var wasFull = false
    /// What `soon` has to tell.
    private var failure: CloseReason?
    private enum Closing {
        case no
        case draining
        /// Everything is sent; waits for the other side's end, so that no reset overtakes what was sent.
        case lingering
    }
    private var closing = Closing.no

    private static let handshakeTag = 0
    private static let soonTag = 1
    private static let closeTag = 2
    /// What the input starts with, and shrinks back to when it is empty.
    static let inputBytesMin = 1 << 14
    static let inputBytesKept = 1 << 18
    static let outputBytesKept = 1 << 18
    /// Encrypted at once: small enough for the cache, large enough for a good system call.
    static let encryptBytesMax = 1 << 18

    /// Takes over a connected socket and begins the handshake.
    package init(
        _ loop: EventLoop, _ socket: consuming Socket, _ address: SocketAddress, context: TLSContext,
        serverName: String? = nil, settings: SecureConnectionSettings, delegate: any SecureConnectionDelegate
    ) throws {
        self.loop = loop
        self.address = address
        self.settings = settings
        bytesPerTurnMax = settings.bytesPerTurnMax
        self.delegate = delegate
        stream = try TLSStream(context, serverName: serverName)
        try socket.configure(settings.socket)
        self.socket = consume socket
        watch = try self.socket?.watched(by: loop, isCrowd: settings.isCrowd, self)
        handshakeTimer = loop.setTimer(after: settings.handshakeTimeout, self, tag: SecureConnection.handshakeTag)
        if stream.hasOutput { queueFlush() }
    }

    package var isOpen: Bool { socket != nil }
    package var isEstablished: Bool { stream.isEstablished }
    /// The certificate that the other side proved to have; nil before the handshake ended, and when it showed none.
    package var peerCertificate: Certificate? { stream.peerCertificate }
    /// The protocol that ALPN chose.
    package var negotiatedProtocol: String? { stream.negotiatedProtocol }

    // MARK: Writing

    /// What waits to be sent.
    package var bytesQueued: Int { output.count - outputStart + stream.outputBytes }
    /// False when the other side is slower than the writer; `drained` tells of the end of it.
    package var isWritable: Bool { bytesQueued < settings.outputHighWater }
    /// How much may be written until `outputBytesMax`.
    package var room: Int { isOpen && closing == .no ? max(0, settings.outputBytesMax - bytesQueued) : 0 }

    /// Takes all of it for the end of the turn, or none and says false.
    package func write(_ bytes: [UInt8]) -> Bool {
        guard bytes.count <= room else { return false }
        output.append(contentsOf: bytes)
        wrote()
        return true
    }

    /// Takes all of it for the end of the turn, or none and says false.
    package func write(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count <= room else { return false }
        output.append(contentsOf: bytes)
        wrote()
        return true
    }

    /// Lets the body append to what leaves at the end of the turn, without a copy. The body keeps within `room` and
    /// changes nothing but what it appends.
    package func withOutput<Result>(_ body: (inout [UInt8]) -> Result) -> Result {
        let before = output.count
        let result = body(&output)
        precondition(output.count >= before, "\(before - output.count) bytes of others were taken out of the output")
        if output.count > before { wrote() }
        return result
    }

    private func wrote() {
        guard isOpen else { return output.removeAll() }
        if bytesQueued >= settings.outputHighWater { wasFull = true }
        queueFlush()
    }

    private func queueFlush() {
        if isFlushQueued || interest.contains(.writable) { return }
        isFlushQueued = true
        loop.wantsFlush(self, isBulk: settings.isBulk)
    }

    /// Sends what waits, as far as the system takes it.
    package func flush() {
        isFlushQueued = false
        guard isOpen, failure == nil, !interest.contains(.writable) else { return }
        var budget = bytesPerTurnMax
        while true {
            if stream.hasOutput {
                guard send() else { return }
                continue
            }
            let rest = output.count - outputStart
            if rest == 0 || !stream.isEstablished { break }
            if budget <= 0 { return soon() }
            let count = min(rest, budget, SecureConnection.encryptBytesMax)
            do throws(TLSFailure) {
                try encrypt(count)
            } catch {
                return fail(.insecure(error))
            }
            budget -= count
        }
        if wasFull && bytesQueued <= settings.outputHighWater / 2 { soon() }
        if closing == .draining && bytesQueued == 0 { finishWriting() }
    }

    private func encrypt(_ count: Int) throws(TLSFailure) {
        let start = outputStart
        try output.withUnsafeBufferPointer { bytes throws(TLSFailure) in
            try stream.write(UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: bytes[start..<start + count])))
        }
        outputStart += count
        if outputStart == output.count {
            output.removeAll(keepingCapacity: output.capacity <= SecureConnection.outputBytesKept)
            outputStart = 0
        } else if outputStart >= SecureConnection.encryptBytesMax && outputStart * 2 >= output.count {
            output.removeFirst(outputStart)
            outputStart = 0
        }
    }

    /// True when everything encrypted is with the system.
    private func send() -> Bool {
        var outcome = Transfer.notNow
        stream.withOutput { bytes in
            outcome = socket?.write(bytes) ?? .notNow
            if case .bytes(let count) = outcome { return count }
            return 0
        }
        switch outcome {
        case .bytes(let count):
            bytesSent += UInt64(count)
            if !stream.hasOutput { return true }
        case .notNow: break
        case .ended: fail(.cut)
        case .failed(let error): fail(.failed(error))
        }
        if failure == nil { setInterest(interest.union(.writable)) }
        return false
    }

    // MARK: Reading

    package func ready(_ readiness: Readiness) {
        guard isOpen, failure == nil else { return }
        if settings.isCrowd, !stream.isEstablished, readiness.contains(.readable) {
            guard loop.mayLabour(self) else { return setInterest(interest.subtracting(.readable)) }
        }
        if readiness.contains(.writable) {
            setInterest(interest.subtracting(.writable))
            queueFlush()
        }
        if interest.contains(.readable) {
            if readiness.contains(.readable) || readiness.contains(.hangup) { readReady() }
        } else if readiness.contains(.hangup) {
            over(closing == .lingering ? .finished : .cut)
        }
    }

    /// Goes on with the handshake, now that others had their turn.
    package func labour() {
        guard isOpen, failure == nil, !isPaused else { return }
        setInterest(interest.union(.readable))
        readReady()
    }

    private func readReady() {
        var budget = bytesPerTurnMax
        while isOpen, !isPaused, !isHalfClosed, budget > 0 {
            switch socket?.read(into: loop.scratch) ?? .ended {
            case .bytes(let count):
                bytesReceived += UInt64(count)
                budget -= count
                do throws(TLSFailure) {
                    try stream.receive(UnsafeRawBufferPointer(rebasing: loop.scratch[..<count]))
                    if stream.hasOutput { queueFlush() }
                    try deliver()
                } catch {
                    return refuse(error)
                }
                // A buffer that was not filled has emptied the socket, and the next look would be a call for nothing.
                if count < loop.scratch.count { return }
            case .notNow: return
            case .ended: return over(stream.isEnded || closing == .lingering ? .ended : .cut)
            case .failed(let error): return over(closing == .lingering ? .finished : .failed(error))
            }
        }
    }

    private func deliver() throws(TLSFailure) {
        if stream.isEstablished && !isToldEstablished {
            isToldEstablished = true
            if let handshakeTimer { loop.cancel(handshakeTimer) }
            handshakeTimer = nil
            if output.count > outputStart { queueFlush() }
            delegate?.established(self)
        }
        while isOpen && !isPaused {
            makeRoom()
            let start = inputEnd
            let count = try input.withUnsafeMutableBufferPointer { bytes throws(TLSFailure) in
                try stream.read(
                    into: UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(rebasing: bytes[start...])))
            }
            if count == 0 { break }
            inputEnd += count
            if closing != .no {
                inputEnd = 0
                inputStart = 0
                continue
            }
            let isFull = inputEnd == input.count
            try offer()
            if !isFull && !stream.hasInput { break }
        }
        if isOpen && stream.isEnded && !isPaused && !isHalfClosed { endInput() }
    }

    /// A client may ask and say at once that this was all: what is due to it is still sent.
    private func endInput() {
        if closing == .lingering { return over(.finished) }
        isHalfClosed = true
        // Its socket stays readable for ever.
        setInterest(interest.subtracting(.readable))
        if closing == .no, !(delegate?.inputEnded(self) ?? false) { over(.ended) }
    }

    /// Shows the delegate what is there, for as long as it takes something.
    private func offer() throws(TLSFailure) {
        let there = inputEnd - inputStart
        if there == 0 { return }
        let taken = delegate?.received(self, input, from: inputStart, to: inputEnd) ?? there
        precondition(taken >= 0 && taken <= there, "\(taken) of \(there) bytes can't have been taken")
        guard isOpen else { return }
        inputStart += taken
        if inputStart == inputEnd {
            inputStart = 0
            inputEnd = 0
            if input.count > SecureConnection.inputBytesKept { input = [] }
        } else if !isPaused && inputEnd - inputStart >= settings.inputBytesMax {
            over(.inputTooLarge)
        }
    }

    /// Leaves free bytes behind `inputEnd`.
    private func makeRoom() {
        if input.count - inputEnd >= SecureConnection.inputBytesMin / 2 { return }
        let there = inputEnd - inputStart
        if inputStart > 0 && there <= input.count / 2 {
            input.withUnsafeMutableBytes { bytes in
                guard let base = bytes.baseAddress else { return }
                base.copyMemory(from: base + inputStart, byteCount: there)
            }
        } else {
            var larger: [UInt8] = []
            let count = min(max(SecureConnection.inputBytesMin, input.count * 2), settings.inputBytesMax + (1 << 14))
            larger.reserveCapacity(count)
            larger.append(contentsOf: input[inputStart..<inputEnd])
            larger.append(contentsOf: repeatElement(0, count: max(count - there, SecureConnection.inputBytesMin / 2)))
            input = larger
        }
        inputStart = 0
        inputEnd = there
    }

    /// Reads nothing more until `resumeReading`: the other side is held up by its own full socket. At most
    /// `bytesPerTurnMax` more wait in memory.
    package func pauseReading() {
        guard isOpen, !isPaused else { return }
        isPaused = true
        setInterest(interest.subtracting(.readable))
    }

    /// Goes on with what has arrived, in the next turn.
    package func resumeReading() {
        guard isOpen, isPaused else { return }
        isPaused = false
        if !isHalfClosed { setInterest(interest.union(.readable)) }
        soon()
    }

    private func setInterest(_ wanted: Readiness) {
        guard wanted != interest, let watch else { return }
        interest = wanted
        loop.change(watch, to: wanted)
    }

    // MARK: The end

    /// Ends the connection now. What was not sent yet is lost; the delegate is not called any more.
    package func close() {
        guard isOpen else { return }
        delegate = nil
        stream.close()
        if !interest.contains(.writable) { stream.withOutput { bytes in sent(socket?.write(bytes)) } }
        release()
    }

    /// Ends without another byte: the other side sees a line that was cut. For who only wanted to see whom it reaches.
    package func abandon() {
        guard isOpen else { return }
        delegate = nil
        release()
    }

    /// Sends what was written, then ends the connection; `closed` follows. What still arrives is thrown away. Without a time it
    /// waits as long as the settings say.
    package func closeWhenDrained(within time: Nanoseconds? = nil) {
        guard isOpen, closing == .no else { return }
        closing = .draining
        closeTimer = loop.setTimer(after: time ?? settings.closeTimeout, self, tag: SecureConnection.closeTag)
        if isPaused { resumeReading() }
        isPaused = false
        queueFlush()
    }

    private func finishWriting() {
        closing = .lingering
        stream.close()
        stream.withOutput { bytes in sent(socket?.write(bytes)) }
        socket?.endWriting()
        if isHalfClosed { fail(.finished) }
    }

    private func sent(_ outcome: Transfer?) -> Int {
        if case .bytes(let count) = outcome { return count }
        return 0
    }

    /// Refuses the other side, with an alert that tells it why, as far as it can be sent.
    private func refuse(_ error: TLSFailure) {
        stream.withOutput { bytes in sent(socket?.write(bytes)) }
        over(.insecure(error))
    }

    /// Ends the connection from within the loop.
    private func over(_ reason: CloseReason) {
        guard isOpen else { return }
        let delegate = self.delegate
        self.delegate = nil
        release()
        delegate?.closed(self, reason)
    }

    /// Ends the connection from where the delegate must not be called.
    private func fail(_ reason: CloseReason) {
        if failure == nil { failure = reason }
        soon()
    }

    private func soon() {
        if soonTimer == nil { soonTimer = loop.setTimer(at: loop.now, self, tag: SecureConnection.soonTag) }
    }

    package func timerFired(_ tag: Int) {
        switch tag {
        case SecureConnection.handshakeTag:
            handshakeTimer = nil
            over(.handshakeTimedOut)
        case SecureConnection.closeTag:
            closeTimer = nil
            over(closing == .lingering ? .finished : .stuck)
        default:
            soonTimer = nil
            catchUp()
        }
    }

    private func catchUp() {
        if let failure { return over(failure) }
        if wasFull && bytesQueued <= settings.outputHighWater / 2 {
            wasFull = false
            delegate?.drained(self)
        }
        guard isOpen else { return }
        if !isPaused {
            do throws(TLSFailure) {
                if inputEnd > inputStart && closing == .no { try offer() }
                try deliver()
            } catch {
                return refuse(error)
            }
        }
        if isOpen && bytesQueued > 0 { queueFlush() }
    }

    private func release() {
        if let watch { loop.unwatch(watch) }
        for timer in [handshakeTimer, closeTimer, soonTimer] {
            if let timer { loop.cancel(timer) }
        }
        watch = nil
        handshakeTimer = nil
        closeTimer = nil
        soonTimer = nil
        socket = nil
        input = []
        inputStart = 0
        inputEnd = 0
        output = []
        outputStart = 0
    }
}
