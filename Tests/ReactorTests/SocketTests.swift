import ClusterBase
import Reactor
import Testing

@Suite struct SocketTests {
    @Test func `an echo of two megabytes comes back whole through small socket buffers`() throws {
        let loop = try EventLoop()
        var echo: Echo?
        let listener = try Listener(loop, on: .loopback()) { socket, _ in echo = Echo(loop, socket, isServer: true) }
        defer { listener.close() }
        var client: Echo?
        _ = Dialer(loop, to: listener.address, timeout: .seconds(5)) { socket, error in
            #expect(error == nil)
            if let socket { client = Echo(loop, socket, isServer: false) }
        }
        #expect(loop.run(atMost: .seconds(5)) { client != nil && echo != nil })
        let sender = try #require(client)
        var random = PRNG(seed: 7)
        let bytes = (0..<(2 << 20)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        sender.output = bytes
        loop.wantsFlush(sender)
        #expect(loop.run(atMost: .seconds(30)) { sender.input.count >= bytes.count })
        let isSame = sender.input == bytes
        #expect(isSame)
        #expect(sender.partialWrites + (echo?.partialWrites ?? 0) > 0)
        sender.close()
        #expect(loop.run(atMost: .seconds(5)) { echo?.isOver == true })
        #expect(loop.watched == 1)
    }

    @Test func `a port where nobody listens refuses, and the error says what to do`() throws {
        let loop = try EventLoop()
        let free = try Listener(loop, on: .loopback()) { _, _ in }
        let address = free.address
        free.close()
        var failure: SystemError?
        _ = Dialer(loop, to: address, timeout: .seconds(5)) { _, error in failure = error }
        #expect(loop.run(atMost: .seconds(5)) { failure != nil })
        #expect(failure?.isRefused == true)
        #expect(failure?.description.contains("start the program") == true)
        #expect(loop.watched == 0)
        #expect(loop.timersPending == 0)
    }

    @Test func `a port that is taken is refused with what to do`() throws {
        let loop = try EventLoop()
        let first = try Listener(loop, on: .loopback()) { _, _ in }
        defer { first.close() }
        let error = #expect(throws: SystemError.self) { try Listener(loop, on: first.address) { _, _ in } }
        #expect(error?.description.contains("choose another port") == true)
        #expect(error?.description.contains("\(first.address)") == true)
    }

    @Test func `IPv6 works as IPv4 does`() throws {
        let loop = try EventLoop()
        let v6 = try #require(SocketAddress(digits: "::1", port: 0))
        let listener: Listener
        do {
            listener = try Listener(loop, on: v6) { _, from in #expect(from.isV6) }
        } catch {
            try Test.cancel("this machine has no IPv6")
        }
        defer { listener.close() }
        var isConnected = false
        _ = Dialer(loop, to: listener.address, timeout: .seconds(5)) { _, error in isConnected = error == nil }
        #expect(loop.run(atMost: .seconds(5)) { isConnected && listener.accepted == 1 })
    }

    @Test func `a handler that was taken away by another of the same turn is not called`() throws {
        let loop = try EventLoop()
        var sockets: [Echo] = []
        let listener = try Listener(loop, on: .loopback()) { socket, _ in
            sockets.append(Echo(loop, socket, isServer: true))
        }
        defer { listener.close() }
        var clients: [Echo] = []
        for _ in 0..<2 {
            _ = Dialer(loop, to: listener.address, timeout: .seconds(5)) { socket, _ in
                if let socket { clients.append(Echo(loop, socket, isServer: false)) }
            }
        }
        #expect(loop.run(atMost: .seconds(5)) { sockets.count == 2 && clients.count == 2 })
        sockets[0].onReady = { sockets[1].close() }
        sockets[1].onReady = { sockets[0].close() }
        for client in clients {
            client.output = [1]
            client.flush()
        }
        #expect(loop.run(atMost: .seconds(5)) { sockets.contains { $0.isOver } })
        loop.turn(waitingAtMost: .milliseconds(20))
        #expect(sockets.filter { $0.readies > 0 }.count == 1)
        for echo in clients + sockets { echo.close() }
        #expect(loop.watched == 1)
    }
}

/// One end of a connection; the server's sends back what it gets.
final class Echo: ReadinessHandler, FlushHandler {
    let loop: EventLoop
    let isServer: Bool
    private var socket: Socket?
    private var watch: Watch?
    private var interest: Readiness = .readable
    var input: [UInt8] = []
    var output: [UInt8] = []
    private var sent = 0
    var partialWrites = 0
    var readies = 0
    var isOver = false
    var onReady: (() -> Void)?

    init(_ loop: EventLoop, _ socket: consuming Socket, isServer: Bool) {
        self.loop = loop
        self.isServer = isServer
        var settings = SocketSettings()
        settings.sendBufferBytes = 128 << 10
        settings.receiveBufferBytes = 128 << 10
        settings.userTimeout = .seconds(10)
        do throws(SystemError) {
            try socket.configure(settings)
            self.socket = consume socket
            watch = try self.socket?.watched(by: loop, self)
        } catch {
            Issue.record(error)
        }
    }

    func ready(_ readiness: Readiness) {
        readies += 1
        onReady?()
        guard !isOver else { return }
        if readiness.contains(.writable) { flush() }
        guard readiness.contains(.readable) else { return }
        switch socket?.read(into: loop.scratch) {
        case .bytes(let count):
            if isServer {
                output.append(contentsOf: loop.scratch[..<count])
                loop.wantsFlush(self)
            } else {
                input.append(contentsOf: loop.scratch[..<count])
            }
        case .notNow, nil: break
        case .ended, .failed: close()
        }
    }

    func flush() {
        guard !isOver, sent < output.count else { return }
        let outcome = output.withUnsafeBytes { socket?.write(UnsafeRawBufferPointer(rebasing: $0[sent...])) }
        if case .bytes(let count) = outcome { sent += count }
        let isPartial = sent < output.count
        if isPartial { partialWrites += 1 }
        let wanted: Readiness = isPartial ? [.readable, .writable] : .readable
        if wanted != interest, let watch {
            interest = wanted
            loop.change(watch, to: wanted)
        }
    }

    func close() {
        if let watch { loop.unwatch(watch) }
        watch = nil
        socket = nil
        isOver = true
        onReady = nil
    }
}
