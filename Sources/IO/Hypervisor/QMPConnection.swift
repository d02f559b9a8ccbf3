internal import AdminAPI
internal import Glibc
internal import Reactor

/// Why QEMU did not do something, in its own words.
struct QMPFailure: Error, Hashable {
    var message: String
}

/// The line to one QEMU process: commands in order, answers by number, and what it tells by itself. Belongs to the loop's
/// thread.
final class QMPConnection: ReadinessHandler {
    /// One message of QEMU's; more ends the connection.
    static let messageBytesMax = 1 << 20

    private let loop: EventLoop
    private let socket: Socket
    private var watch: Watch?
    private var received: [UInt8] = []
    private var unsent: [UInt8] = []
    private var numberLast: Int64 = 0
    private var waiting: [Int64: (Result<JSONValue, QMPFailure>) -> Void] = [:]
    private var isReady = false
    /// Commands that were given before QEMU said hello.
    private var held: [UInt8] = []
    /// Says the event's name and its data.
    var onEvent: (String, JSONValue) -> Void = { _, _ in }
    var onClosed: () -> Void = {}

    /// To one of these processes, and to no other that somebody put in its place; nil for any.
    init(_ loop: EventLoop, path: String, of processes: [Int32]? = nil) throws(SystemError) {
        self.loop = loop
        socket = try Socket.connected(toPath: path)
        if let processes, let other = socket.peerProcess, !processes.contains(other) {
            throw SystemError("connect to", path, code: EACCES)
        }
        watch = try socket.watched(by: loop, self)
    }

    var isOpen: Bool { watch != nil }

    /// Answered once, unless the connection ends before.
    func execute(
        _ command: String, _ arguments: [JSONMember] = [],
        _ done: @escaping (Result<JSONValue, QMPFailure>) -> Void = { _ in }
    ) {
        guard isOpen else { return }
        numberLast += 1
        waiting[numberLast] = done
        var members = [JSONMember("execute", .string(command)), JSONMember("id", .integer(numberLast))]
        if !arguments.isEmpty { members.append(JSONMember("arguments", .object(arguments))) }
        var writer = JSONWriter()
        writer.value(.object(members))
        writer.endLine()
        if isReady || command == "qmp_capabilities" { send(writer.finish()) } else { held += writer.finish() }
    }

    func close() {
        guard let watch else { return }
        loop.unwatch(watch)
        self.watch = nil
        waiting.removeAll()
    }

    private func send(_ bytes: [UInt8]) {
        unsent += bytes
        flush()
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

    private func end() {
        guard isOpen else { return }
        close()
        onClosed()
    }

    func ready(_ readiness: Readiness) {
        if readiness.contains(.writable) { flush() }
        while isOpen {
            switch socket.read(into: loop.scratch) {
            case .bytes(let count):
                received += loop.scratch[..<count]
                takeLines()
            case .notNow:
                if readiness.contains(.hangup) { end() }
                return
            case .ended, .failed: return end()
            }
        }
    }

    private func takeLines() {
        while let newline = received.firstIndex(of: 10) {
            let line = received[..<newline]
            let message = try? JSONParser.parse(line, depthMax: 64, valuesMax: 100_000)  // Judged below.
            received.removeSubrange(...newline)
            guard let message else { return end() }
            take(message)
            if !isOpen { return }
        }
        if received.count > QMPConnection.messageBytesMax { end() }
    }

    private func take(_ message: JSONValue) {
        if message["QMP"] != nil {
            execute("qmp_capabilities") { [unowned self] _ in
                isReady = true
                send(held)
                held = []
            }
        } else if let event = message["event"]?.text {
            onEvent(event, message["data"] ?? .null)
        } else if let number = message["id"]?.integer, let done = waiting.removeValue(forKey: number) {
            if let failure = message["error"] {
                done(.failure(QMPFailure(message: failure["desc"]?.text ?? "unknown error")))
            } else {
                done(.success(message["return"] ?? .null))
            }
        }
    }
}
