import ClusterBase
import Reactor
import SecureChannel
import TLSSession
import Terminal

extension BenchCommand {
    /// The same load on etcd: unary gRPC over HTTP/2 and TLS, one request in flight per connection. TLS 1.2, since etcd
    /// 3.5.1 knows nothing newer.
    static func etcd(_ options: inout Options) throws {
        let told = try LoadOptions(&options, protocols: ["h2"], allowsTLS12: true)
        try options.end()
        let load = Load(try EventLoop(), told) { loop, place, done in EtcdLoadClient(loop, place, told.context, done) }
        load.run()
        print(load.report)
    }
}

/// As much of gRPC over HTTP/2 as a client needs that asks one thing at a time and reads no header: a call is good when a
/// message came back before its stream ended; etcd tells of an error by a stream without one.
///
/// Windows are opened wide at the beginning and never tended: 2 GiB of answers per connection is the bound.
private final class EtcdLoadClient: LoadClient, SecureConnectionDelegate, TimerHandler {
    private let loop: EventLoop
    private let place: SocketAddress
    private let context: TLSContext
    private let done: (any LoadClient, LoadOutcome) -> Void
    private var dialer: Dialer?
    private var channel: SecureConnection?
    private var isReady = false
    private var isBusy = false
    private var waiting: LoadRequest?
    private var stream: UInt32 = 1
    private var hasMessage = false
    private var path: Path?
    private var frame: [UInt8] = []
    private var deadline = Instant.origin
    private var timer: TimerID?

    private enum Path: String {
        case put = "/etcdserverpb.KV/Put"
        case range = "/etcdserverpb.KV/Range"
    }

    private enum FrameType {
        static let data: UInt8 = 0
        static let headers: UInt8 = 1
        static let reset: UInt8 = 3
        static let settings: UInt8 = 4
        static let ping: UInt8 = 6
        static let goAway: UInt8 = 7
        static let windowUpdate: UInt8 = 8
    }

    private static let timeMax = Nanoseconds.seconds(5)

    init(
        _ loop: EventLoop, _ place: SocketAddress, _ context: TLSContext,
        _ done: @escaping (any LoadClient, LoadOutcome) -> Void
    ) {
        self.loop = loop
        self.place = place
        self.context = context
        self.done = done
    }

    func connect() {
        isBusy = true
        setDeadline()
        dialer = Dialer(loop, to: place, timeout: .seconds(1)) { socket, error in self.dialed(socket, error) }
    }

    private func dialed(_ socket: consuming Socket?, _ error: SystemError?) {
        dialer = nil
        guard let connected = socket.take() else { return end(error?.description ?? "no connection") }
        do {
            channel = try SecureConnection(
                loop, connected, place, context: context, settings: SecureConnectionSettings(), delegate: self)
        } catch {
            end("\(error)")
        }
    }

    func send(_ request: LoadRequest) {
        guard let channel, isReady else {
            waiting = request
            return connect()
        }
        isBusy = true
        setDeadline()
        hasMessage = false
        frame.removeAll(keepingCapacity: true)
        appendHeaders(request)
        appendMessage(request)
        channel.withOutput { $0.append(contentsOf: frame) }
    }

    func close() {
        if let timer { loop.cancel(timer) }
        timer = nil
        drop()
    }

    // MARK: Writing

    private func appendFrame(_ type: UInt8, flags: UInt8, _ stream: UInt32, _ count: Int) {
        frame += [UInt8(count >> 16 & 0xFF), UInt8(count >> 8 & 0xFF), UInt8(count & 0xFF), type, flags]
        frame.appendBigEndian(stream)
    }

    /// As gRPC's own clients do, fields that stay go to the compression table with the first request.
    private func appendHeaders(_ request: LoadRequest) {
        let wanted: Path
        switch request {
        case .read: wanted = .range
        case .write: wanted = .put
        }
        // :method POST, :scheme https
        var block: [UInt8] = [0x83, 0x87]
        if path == nil {
            path = wanted
            block += [0x44] + EtcdLoadClient.text(wanted.rawValue)  // :path
            block += [0x41] + EtcdLoadClient.text("bench")  // :authority
            block += [0x5F] + EtcdLoadClient.text("application/grpc")  // content-type
            block += [0x40] + EtcdLoadClient.text("te") + EtcdLoadClient.text("trailers")
        } else {
            precondition(path == wanted, "a load both reads and writes")
            // The four of them, the first one added being the last of the table.
            block += [0xC1, 0xC0, 0xBF, 0xBE]
        }
        appendFrame(FrameType.headers, flags: 0x4, stream, block.count)
        frame += block
    }

    private static func text(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }

    private func appendMessage(_ request: LoadRequest) {
        var message: [UInt8] = []
        func field(_ number: UInt8, _ bytes: [UInt8]) {
            message.append(number << 3 | 2)
            var count = bytes.count
            while count >= 0x80 {
                message.append(UInt8(count & 0x7F | 0x80))
                count >>= 7
            }
            message.append(UInt8(count))
            message += bytes
        }
        switch request {
        case .read(let key): field(1, key)
        case .write(let key, let value):
            field(1, key)
            field(2, value)
        }
        // In frames of at most 16 KiB, which every server takes.
        var bytes: [UInt8] = [0]
        bytes.appendBigEndian(UInt32(message.count))
        bytes += message
        var at = 0
        while at < bytes.count {
            let count = min(bytes.count - at, 1 << 14)
            appendFrame(FrameType.data, flags: at + count == bytes.count ? 0x1 : 0, stream, count)
            frame += bytes[at..<at + count]
            at += count
        }
    }

    private func answerSettings(_ type: UInt8, _ payload: ArraySlice<UInt8>) {
        frame.removeAll(keepingCapacity: true)
        appendFrame(type, flags: 0x1, 0, payload.count)
        frame += payload
        channel?.withOutput { $0.append(contentsOf: frame) }
    }

    // MARK: From the connection

    func established(_ connection: SecureConnection) {
        frame = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
        appendFrame(FrameType.settings, flags: 0, 0, 12)
        // No server push; a stream's window is as large as it gets.
        frame += [0, 2, 0, 0, 0, 0, 0, 4, 0x7F, 0xFF, 0xFF, 0xFF]
        appendFrame(FrameType.windowUpdate, flags: 0, 0, 4)
        frame.appendBigEndian(UInt32(0x7FFF_FFFF - 65_535))
        connection.withOutput { $0.append(contentsOf: frame) }
    }

    func received(_ connection: SecureConnection, _ bytes: [UInt8], from: Int, to: Int) -> Int {
        var at = from
        while to - at >= 9 {
            let count = Int(bytes[at]) << 16 | Int(bytes[at + 1]) << 8 | Int(bytes[at + 2])
            if to - at < 9 + count { break }
            take(bytes[at + 3], flags: bytes[at + 4], bytes[(at + 9)..<(at + 9 + count)])
            at += 9 + count
            if channel !== connection { return to - from }
        }
        return at - from
    }

    private func take(_ type: UInt8, flags: UInt8, _ payload: ArraySlice<UInt8>) {
        switch type {
        case FrameType.settings where flags & 0x1 == 0:
            answerSettings(FrameType.settings, [])
            if isReady { return }
            isReady = true
            if let request = waiting {
                waiting = nil
                send(request)
            } else {
                finish(.good)
            }
        case FrameType.ping where flags & 0x1 == 0: answerSettings(FrameType.ping, payload)
        case FrameType.data:
            if payload.count > 5 { hasMessage = true }
            if flags & 0x1 != 0 { streamEnded() }
        case FrameType.headers where flags & 0x1 != 0: streamEnded()
        case FrameType.reset: end("the server reset the stream")
        case FrameType.goAway: end("the server goes away")
        default: break
        }
    }

    private func streamEnded() {
        stream += 2
        finish(hasMessage ? .good : .refused("the server answered with an error"))
    }

    func closed(_ connection: SecureConnection, _ reason: CloseReason) {
        guard channel === connection else { return }
        end("\(reason)")
    }

    private func drop() {
        dialer?.cancel()
        dialer = nil
        let old = channel
        channel = nil
        old?.close()
        isReady = false
        stream = 1
        path = nil
    }

    private func end(_ reason: String) {
        drop()
        waiting = nil
        if isBusy { finish(.failed(reason)) }
    }

    private func finish(_ outcome: LoadOutcome) {
        isBusy = false
        done(self, outcome)
    }

    // MARK: Time

    private func setDeadline() {
        deadline = SystemClock.now + EtcdLoadClient.timeMax
        if timer == nil { timer = loop.setTimer(at: deadline, self, tag: 0) }
    }

    func timerFired(_ tag: Int) {
        timer = nil
        if !isBusy { return }
        if loop.now < deadline {
            timer = loop.setTimer(at: deadline, self, tag: 0)
        } else {
            end("no answer in time")
        }
    }
}
