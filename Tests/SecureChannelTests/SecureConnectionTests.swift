import ClusterBase
import Reactor
import SecureChannel
import TLSSession
import Testing

@Suite struct SecureConnectionTests {
    @Test func `both sides see the other's certificate`() throws {
        let pair = try Pair()
        #expect(pair.client.connection?.peerCertificate?.identity == .node(cluster: "test", node: NodeID(2)))
        #expect(pair.server?.connection?.peerCertificate?.identity == .node(cluster: "test", node: NodeID(1)))
    }

    @Test func `megabytes go both ways at once and arrive in order`() throws {
        let pair = try Pair()
        let server = try #require(pair.server)
        let bytes = random(2 << 20, seed: 1)
        let answer = random(2 << 20, seed: 2)
        pair.client.takes = { Swift.min($0, 40_000) }
        #expect(pair.client.connection?.write(bytes) == true)
        #expect(server.connection?.write(answer) == true)
        #expect(
            pair.loop.run(atMost: .seconds(30)) {
                server.input.count == bytes.count && pair.client.input.count == answer.count
            })
        expectSame(server.input, bytes)
        expectSame(pair.client.input, answer)
    }

    @Test func `what the delegate leaves is shown again with what follows`() throws {
        let pair = try Pair()
        let server = try #require(pair.server)
        // Takes whole groups of seven bytes only.
        server.takes = { $0 / 7 * 7 }
        let bytes = random(70_001, seed: 3)
        for start in stride(from: 0, to: bytes.count, by: 1_003) {
            #expect(pair.client.connection?.write(Array(bytes[start..<min(start + 1_003, bytes.count)])) == true)
            pair.loop.turn(waitingAtMost: .zero)
        }
        #expect(pair.loop.run(atMost: .seconds(10)) { server.input.count == 70_000 })
        pair.loop.turn(waitingAtMost: .milliseconds(10))
        expectSame(server.input, Array(bytes[..<70_000]))
    }

    @Test func `a writer faster than its reader is held at the bound, and told when there is room`() throws {
        var settings = SecureConnectionSettings()
        settings.outputBytesMax = 4 << 20
        settings.outputHighWater = 1 << 20
        settings.socket.sendBufferBytes = 64 << 10
        settings.socket.receiveBufferBytes = 64 << 10
        let pair = try Pair(settings)
        let server = try #require(pair.server)
        let connection = try #require(pair.client.connection)
        server.connection?.pauseReading()
        let block = random(64 << 10, seed: 4)
        var accepted = 0
        for _ in 0..<400 {
            if connection.write(block) { accepted += 1 }
            #expect(connection.bytesQueued <= settings.outputBytesMax + (1 << 18))
            pair.loop.turn(waitingAtMost: .zero)
        }
        #expect(accepted < 200)
        #expect(!connection.isWritable)
        #expect(pair.client.drains == 0)
        // A paused reader's buffer is bounded too.
        #expect(server.input.isEmpty)
        server.connection?.resumeReading()
        #expect(pair.loop.run(atMost: .seconds(30)) { server.input.count == accepted * block.count })
        #expect(pair.client.drains == 1)
        #expect(connection.isWritable)
    }

    @Test func `everything that a turn writes leaves in one record and one arrival`() throws {
        let pair = try Pair()
        let server = try #require(pair.server)
        let before = server.arrivals
        let sentBefore = pair.client.connection?.bytesSent ?? 0
        for i in 0..<100 { #expect(pair.client.connection?.write([UInt8](repeating: UInt8(i), count: 100)) == true) }
        #expect(pair.loop.run(atMost: .seconds(5)) { server.input.count == 10_000 })
        #expect(server.arrivals == before + 1)
        // One record: five bytes of header, one of type, sixteen of tag.
        #expect((pair.client.connection?.bytesSent ?? 0) - sentBefore == 10_022)
    }

    @Test func `an orderly end and a cut are told apart`() throws {
        let orderly = try Pair()
        orderly.client.connection?.close()
        #expect(orderly.loop.run(atMost: .seconds(5)) { orderly.server?.closed != nil })
        #expect(orderly.server?.closed == .ended)
        // Who closes is not told.
        #expect(orderly.client.closed == nil)

        let cut = try Pair(cutsClient: true)
        cut.cut?.close()
        #expect(cut.loop.run(atMost: .seconds(5)) { cut.server?.closed != nil })
        #expect(cut.server?.closed == .cut)
    }

    @Test func `what was written before closeWhenDrained arrives, even if the other side still talks`() throws {
        let pair = try Pair()
        let server = try #require(pair.server)
        let bytes = random(3 << 20, seed: 5)
        #expect(server.connection?.write(random(1 << 20, seed: 6)) == true)
        #expect(pair.client.connection?.write(bytes) == true)
        pair.client.connection?.closeWhenDrained()
        #expect(pair.client.connection?.write([1]) == false)
        #expect(pair.loop.run(atMost: .seconds(10)) { server.closed != nil })
        expectSame(server.input, bytes)
        #expect(server.closed == .ended)
        #expect(pair.loop.run(atMost: .seconds(10)) { pair.client.closed != nil })
    }

    @Test func `a silent client leaves after the handshake's time`() throws {
        var settings = SecureConnectionSettings()
        settings.handshakeTimeout = .milliseconds(50)
        let pair = try Pair(settings, cutsClient: true)
        #expect(pair.loop.run(atMost: .seconds(5)) { pair.server?.closed != nil })
        #expect(pair.server?.closed == .handshakeTimedOut)
        #expect(pair.loop.timersPending == 0)
        pair.cut?.close()
    }

    @Test func `a client that does not speak TLS is refused with a sentence`() throws {
        let pair = try Pair(cutsClient: true)
        pair.cut?.say(Array("GET / HTTP/1.1\r\nHost: here\r\n\r\n".utf8))
        #expect(pair.loop.run(atMost: .seconds(5)) { pair.server?.closed != nil })
        guard case .insecure(let failure) = pair.server?.closed else {
            Issue.record("\(String(describing: pair.server?.closed))")
            return
        }
        #expect(failure.code == .protocolViolated)
        pair.cut?.close()
    }

    @Test func `more than the buffer holds and nobody takes ends the connection`() throws {
        var settings = SecureConnectionSettings()
        settings.inputBytesMax = 100_000
        let pair = try Pair(settings)
        let server = try #require(pair.server)
        server.takes = { _ in 0 }
        #expect(pair.client.connection?.write(random(400_000, seed: 8)) == true)
        #expect(pair.loop.run(atMost: .seconds(5)) { server.closed != nil })
        #expect(server.closed == .inputTooLarge)
    }

    /// Compares without describing megabytes.
    private func expectSame(_ found: [UInt8], _ wanted: [UInt8], _ location: SourceLocation = #_sourceLocation) {
        let isSame = found == wanted
        #expect(found.count == wanted.count, sourceLocation: location)
        #expect(isSame, sourceLocation: location)
    }

    private func random(_ count: Int, seed: UInt64) -> [UInt8] {
        var random = PRNG(seed: seed)
        return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }
}

/// A client and a server on one loop, connected over loopback.
final class Pair {
    let loop: EventLoop
    let client = End()
    var server: End?
    /// The client's bare socket, when it is to behave badly.
    var cut: BareSocket?
    private let listener: Listener

    init(_ settings: SecureConnectionSettings = SecureConnectionSettings(), cutsClient: Bool = false) throws {
        let loop = try EventLoop()
        self.loop = loop
        let serverContext = try Keys.context(.server, node: 2)
        let clientContext = try Keys.context(.client, node: 1)
        let accepted = Box<End>()
        listener = try Listener(loop, on: .loopback()) { socket, from in
            let end = End()
            accepted.value = end
            do {
                end.connection = try SecureConnection(
                    loop, socket, from, context: serverContext, settings: settings, delegate: end)
            } catch { Issue.record(error) }
        }
        let address = listener.address
        let bare = Box<BareSocket>()
        _ = Dialer(loop, to: address, timeout: .seconds(5)) { [client] socket, error in
            guard let socket else {
                Issue.record("no connection: \(String(describing: error))")
                return
            }
            if cutsClient {
                bare.value = BareSocket(socket)
                return
            }
            do {
                client.connection = try SecureConnection(
                    loop, socket, address, context: clientContext, settings: settings, delegate: client)
            } catch { Issue.record(error) }
        }
        let isReady = loop.run(atMost: .seconds(10)) {
            cutsClient
                ? bare.value != nil && accepted.value != nil
                : client.isEstablished && accepted.value?.isEstablished == true
        }
        #expect(isReady)
        listener.close()
        server = accepted.value
        cut = bare.value
    }

    deinit {
        client.connection?.close()
        server?.connection?.close()
    }
}

final class Box<Value> {
    var value: Value?
}

final class BareSocket {
    private var socket: Socket?
    init(_ socket: consuming Socket) { self.socket = consume socket }
    func say(_ bytes: [UInt8]) { _ = bytes.withUnsafeBytes { socket?.write($0) } }
    func close() { socket = nil }
}

/// Remembers what it was told.
final class End: SecureConnectionDelegate {
    var connection: SecureConnection?
    var isEstablished = false
    var input: [UInt8] = []
    var arrivals = 0
    var drains = 0
    var closed: CloseReason?
    var takes: (Int) -> Int = { $0 }

    func established(_ connection: SecureConnection) { isEstablished = true }

    func received(_ connection: SecureConnection, _ bytes: [UInt8], from: Int, to: Int) -> Int {
        arrivals += 1
        let count = takes(to - from)
        input.append(contentsOf: bytes[from..<from + count])
        return count
    }

    func drained(_ connection: SecureConnection) { drains += 1 }
    func closed(_ connection: SecureConnection, _ reason: CloseReason) { closed = reason }
}
