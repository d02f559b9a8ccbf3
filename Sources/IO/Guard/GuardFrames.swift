internal import BinaryCoding
internal import Reactor

/// Messages over a connected socket: each behind its length in four bytes. Belongs to the loop's thread.
final class GuardFrames<Incoming: WireMessage>: ReadinessHandler {
    /// One message, and all that is not sent yet.
    static var messageBytesMax: Int { 1 << 20 }
    static var unsentBytesMax: Int { 8 << 20 }

    private let loop: EventLoop
    private let socket: Socket
    private var watch: Watch?
    private var received: [UInt8] = []
    private var unsent: [UInt8] = []
    var onMessage: (Incoming) -> Void = { _ in }
    var onEnd: () -> Void = {}

    init(_ loop: EventLoop, _ socket: consuming Socket) throws(SystemError) {
        self.loop = loop
        self.socket = socket
        watch = try self.socket.watched(by: loop, self)
    }

    var isOpen: Bool { watch != nil }

    func send(_ message: some WireMessage) {
        let bytes = message.serialized()
        precondition(bytes.count <= GuardFrames.messageBytesMax, "a message of \(bytes.count) bytes")
        let count = UInt32(bytes.count)
        for shift in [0, 8, 16, 24] as [UInt32] { unsent.append(UInt8(truncatingIfNeeded: count >> shift)) }
        unsent += bytes
        // Whoever does not read is gone.
        if unsent.count > GuardFrames.unsentBytesMax { return end() }
        flush()
    }

    /// No word of it follows.
    func close() {
        guard let watch else { return }
        loop.unwatch(watch)
        self.watch = nil
        onMessage = { _ in }
        onEnd = {}
    }

    private func end() {
        guard isOpen else { return }
        let onEnd = onEnd
        close()
        onEnd()
    }

    private func flush() {
        guard let watch else { return }
        while !unsent.isEmpty {
            switch unsent.withUnsafeBytes({ socket.write($0) }) {
            case .bytes(let count): unsent.removeFirst(count)
            case .notNow: return loop.change(watch, to: [.readable, .writable])
            case .ended, .failed: return end()
            }
        }
        loop.change(watch, to: .readable)
    }

    func ready(_ readiness: Readiness) {
        if readiness.contains(.writable) { flush() }
        while isOpen {
            switch socket.read(into: loop.scratch) {
            case .bytes(let count):
                received += loop.scratch[..<count]
                take()
            case .notNow:
                if readiness.contains(.hangup) { end() }
                return
            case .ended, .failed: return end()
            }
        }
    }

    private func take() {
        var at = 0
        while isOpen, received.count - at >= 4 {
            let count = (0..<4).reduce(0) { $0 | Int(received[at + $1]) << (8 * $1) }
            if count > GuardFrames.messageBytesMax { return end() }
            if received.count - at - 4 < count { break }
            // What it says wrong does not matter: nonsense ends the connection.
            guard let message = try? Incoming(serialized: Array(received[(at + 4)..<(at + 4 + count)])) else {
                return end()
            }
            at += 4 + count
            onMessage(message)
        }
        received.removeFirst(min(at, received.count))
    }
}
