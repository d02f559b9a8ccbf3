import ClusterBase
import Glibc
import PeerTransport
import Reactor
import Schema
import Testing

/// A program at one end of a stream, on the test's loop: writes a pattern, or reads it and checks it.
final class Program: ReadinessHandler {
    private let loop: EventLoop
    private var listener: Socket?
    private var socket: Socket?
    private var watch: Watch?
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 8)
    private(set) var count = 0
    private(set) var isOver = false
    private(set) var isRight = true
    private var wanted = 0
    var isReading = true {
        didSet { if let watch { loop.change(watch, to: isReading ? .readable : []) } }
    }

    /// Reads from the first who comes.
    init(_ loop: EventLoop, at path: String) throws {
        self.loop = loop
        listener = try Socket.listening(onPath: path)
        watch = try listener?.watched(by: loop, self)
    }

    /// Writes so many bytes.
    init(_ loop: EventLoop, to path: String, bytes: Int) throws {
        self.loop = loop
        wanted = bytes
        socket = try Socket.connected(toPath: path)
        watch = try socket?.watched(by: loop, for: .writable, self)
    }

    deinit {
        if let watch { loop.unwatch(watch) }
        buffer.deallocate()
    }

    private static func byte(_ at: Int) -> UInt8 { UInt8(truncatingIfNeeded: (at &* 2_654_435_761) >> 16) }

    func end() {
        if let watch { loop.unwatch(watch) }
        watch = nil
        socket = nil
        listener = nil
        isOver = true
    }

    func ready(_ readiness: Readiness) {
        if listener != nil { return accept() }
        if wanted > 0 { return write() }
        guard isReading || readiness.contains(.hangup) else { return }
        while true {
            switch socket?.read(into: buffer) ?? .ended {
            case .bytes(let got):
                for i in 0..<got where buffer[i] != Program.byte(count + i) { isRight = false }
                count += got
            case .notNow: return
            case .ended, .failed: return end()
            }
        }
    }

    private func accept() {
        var from = SocketAddress.loopback()
        guard let made = try? listener?.accept(from: &from) else { return }
        if let watch { loop.unwatch(watch) }
        listener = nil
        socket = consume made
        watch = try? socket?.watched(by: loop, for: isReading ? .readable : [], self)
    }

    private func write() {
        while count < wanted {
            let length = min(buffer.count, wanted - count)
            for i in 0..<length { buffer[i] = Program.byte(count + i) }
            switch socket?.write(UnsafeRawBufferPointer(rebasing: buffer[..<length])) ?? .ended {
            case .bytes(let put): count += put
            case .notNow: return
            case .ended, .failed: return end()
            }
        }
        end()
    }
}

/// A program that talks: what it gets, it says back in the other case.
final class Talker: ReadinessHandler {
    private let loop: EventLoop
    private let answers: Bool
    private var listener: Socket?
    private var socket: Socket?
    private var watch: Watch?
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 8)
    private(set) var heard: [UInt8] = []
    private(set) var isOver = false

    /// Greets the first who comes, as a server does, and answers.
    init(_ loop: EventLoop, at path: String) throws {
        (self.loop, answers) = (loop, true)
        listener = try Socket.listening(onPath: path)
        watch = try listener?.watched(by: loop, self)
    }

    init(_ loop: EventLoop, to path: String) throws {
        (self.loop, answers) = (loop, false)
        socket = try Socket.connected(toPath: path)
        watch = try socket?.watched(by: loop, self)
    }

    deinit {
        if let watch { loop.unwatch(watch) }
        buffer.deallocate()
    }

    func say(_ bytes: [UInt8]) {
        guard case .bytes(bytes.count)? = bytes.withUnsafeBytes({ socket?.write($0) }) else { return end() }
    }

    func end() {
        if let watch { loop.unwatch(watch) }
        watch = nil
        socket = nil
        listener = nil
        isOver = true
    }

    func ready(_ readiness: Readiness) {
        if listener != nil {
            var from = SocketAddress.loopback()
            guard let made = try? listener?.accept(from: &from) else { return }
            if let watch { loop.unwatch(watch) }
            listener = nil
            socket = consume made
            watch = try? socket?.watched(by: loop, self)
            return say(Array("hello".utf8))
        }
        while true {
            switch socket?.read(into: buffer) ?? .ended {
            case .bytes(let count):
                heard += buffer[..<count]
                if answers { say(buffer[..<count].map { $0 ^ 0x20 }) }
            case .notNow: return
            case .ended, .failed: return end()
            }
        }
    }
}

/// What one end of a stream was told.
final class Heard {
    var events: [StreamEvent] = []
    var why: String? {
        for case .ended(let why) in events { return why }
        return nil
    }
}

@Suite(.serialized) struct PeerStreamTests {
    /// Node 1 sends to node 2, each with a directory.
    final class Ends {
        let loop: EventLoop
        let a: TestPeer
        let b: TestPeer
        let folder: String
        let name = StreamName(vm: 1 << 40 | 7, epoch: 9)
        let sent = Heard()
        let received = Heard()
        var from: String { folder + "/from" }
        var to: String { folder + "/to" }

        init(_ change: (inout PeerSettings) -> Void = { _ in }) throws {
            loop = try EventLoop()
            var template = Array("/tmp/muster-s-XXXXXX".utf8CString)
            mkdtemp(&template)
            folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
            a = try TestPeer(loop, 1, change)
            b = try TestPeer(loop, 2, change)
            a.knows(b)
            b.knows(a)
            waits(loop) { a.isUp && b.isUp && a.facts?.isDialed != b.facts?.isDialed }
            _ = loop.run(atMost: .milliseconds(30)) { false }
        }

        deinit {
            for path in [from, to] { unlink(path) }
            rmdir(folder)
        }

        func send(_ peer: TestPeer? = nil, _ name: StreamName? = nil, _ heard: Heard? = nil) -> PeerStream {
            let heard = heard ?? sent
            return (peer ?? a).network.sendStream(name ?? self.name, to: b.node, listeningAt: from) {
                heard.events.append($0)
            }
        }

        func receive() -> PeerStream {
            b.network.receiveStream(name, from: a.node, connectingTo: to) { [received] in received.events.append($0) }
        }
    }

    @Test(arguments: [true, false])
    func `what one program writes another reads, whole and in order, and the sender is told that it was taken in`(
        claimsFirst: Bool
    ) throws {
        let ends = try Ends()
        let loop = ends.loop
        let before = loop.watched
        let reader = try Program(loop, at: ends.to)
        var receiver: PeerStream? = claimsFirst ? ends.receive() : nil
        let sender = ends.send()
        if receiver == nil {
            // It waits there until somebody claims it.
            _ = loop.run(atMost: .milliseconds(300)) { false }
            #expect(ends.sent.events.isEmpty)
            receiver = ends.receive()
        }
        waits(loop) { ends.sent.events == [.open] }
        let writer = try Program(loop, to: ends.from, bytes: 24 << 20)
        let start = SystemClock.now
        waits(loop) { reader.count == 24 << 20 }
        let took = SystemClock.now - start
        print("24 MiB, both ends and both programs on one thread: \(24_000 / max(1, took.milliseconds)) MiB/s")
        #expect(reader.isRight)
        #expect(writer.isOver)
        #expect(access(ends.from, F_OK) != 0, "nobody else can connect")
        #expect(ends.sent.events == [.open], "the end of the bytes says nothing of what became of them")
        #expect(sender.bytesCarried == 24 << 20)
        receiver?.tellTaken()
        waits(loop) { ends.sent.events == [.open, .taken] }
        waits(loop) { reader.isOver && loop.watched == before }
        #expect(ends.received.events.isEmpty)
    }

    @Test func `two programs talk over a disk's stream, and it ends with either of them`() throws {
        for endsAtSender in [true, false] {
            let ends = try Ends()
            let loop = ends.loop
            let before = loop.watched
            let name = StreamName(vm: ends.name.vm, epoch: ends.name.epoch, disk: 2)
            let server = try Talker(loop, at: ends.to)
            // Beside the stream of its memory, which is another one.
            let memory = ends.receive()
            _ = ends.b.network.receiveStream(name, from: ends.a.node, connectingTo: ends.to) {
                ends.received.events.append($0)
            }
            _ = ends.send(nil, name)
            waits(loop) { ends.sent.events == [.open] }
            // The server has spoken before anybody is there to hear it.
            _ = loop.run(atMost: .milliseconds(100)) { false }
            let client = try Talker(loop, to: ends.from)
            waits(loop) { client.heard == Array("hello".utf8) }
            var said: [UInt8] = []
            for round in 0..<50 {
                let part = (0..<(round * 97 % 4_096 + 1)).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ round) }
                client.say(part)
                said += part
                waits(loop) { server.heard.count == said.count }
            }
            #expect(server.heard == said)
            waits(loop) { client.heard.count == said.count + 5 }
            #expect(Array(client.heard.dropFirst(5)) == said.map { $0 ^ 0x20 })
            #expect(memory.bytesCarried == 0)
            if endsAtSender { client.end() } else { server.end() }
            waits(loop) { client.isOver && server.isOver && ends.sent.why != nil && ends.received.why != nil }
            memory.close("it is over")
            waits(loop) { loop.watched == before }
        }
    }

    @Test func `a program that does not read holds up the one that writes`() throws {
        let ends = try Ends()
        let loop = ends.loop
        let reader = try Program(loop, at: ends.to)
        reader.isReading = false
        let receiver = ends.receive()
        let sender = ends.send()
        waits(loop) { ends.sent.events == [.open] }
        let writer = try Program(loop, to: ends.from, bytes: 64 << 20)
        var last = -1
        while last != writer.count {
            last = writer.count
            _ = loop.run(atMost: .milliseconds(300)) { false }
        }
        // The system's buffers of three sockets and a megabyte or two of this process.
        #expect(writer.count < 24 << 20)
        #expect(receiver.bytesCarried < 4 << 20)
        let turns = loop.counters.turns
        _ = loop.run(atMost: .milliseconds(500)) { false }
        #expect(loop.counters.turns - turns < 500, "nobody spins meanwhile")
        reader.isReading = true
        waits(loop) { reader.count == 64 << 20 }
        #expect(reader.isRight)
        #expect(sender.bytesCarried == 64 << 20)
    }

    @Test func `the rate of bulk is the stream's too, and can be changed on the way`() throws {
        // All of it would take sixteen seconds at this rate.
        let ends = try Ends { $0.bulkBytesPerSecond = 2 << 20 }
        let loop = ends.loop
        let reader = try Program(loop, at: ends.to)
        _ = ends.receive()
        _ = ends.send()
        waits(loop) { ends.sent.events == [.open] }
        let writer = try Program(loop, to: ends.from, bytes: 32 << 20)
        let start = SystemClock.now
        waits(loop) { reader.count >= 2 << 20 }
        #expect(SystemClock.now - start >= .milliseconds(700))
        ends.a.network.setBulkRate(1 << 30)
        waits(loop) { reader.count == 32 << 20 }
        #expect(SystemClock.now - start < .seconds(14))
        #expect(writer.isOver)
    }

    enum Cut: CaseIterable { case receiver, sender, receivingNode, membership }

    @Test(arguments: Cut.allCases)
    func `a stream that breaks on its way is told at once, and nothing of it is left`(cut: Cut) throws {
        let ends = try Ends { $0.bulkBytesPerSecond = 16 << 20 }
        let loop = ends.loop
        let before = loop.watched
        let reader = try Program(loop, at: ends.to)
        let receiver = ends.receive()
        let sender = ends.send()
        waits(loop) { ends.sent.events == [.open] }
        let writer = try Program(loop, to: ends.from, bytes: 64 << 20)
        waits(loop) { reader.count > 1 << 20 }
        switch cut {
        case .receiver: receiver.close("its guest is gone")
        case .sender: sender.close("called off")
        case .receivingNode: ends.b.network.close()
        case .membership: ends.b.network.setJudge { _, _ in .refuse("node 1 was removed") }
        }
        waits(loop) { writer.isOver && reader.isOver }
        #expect(reader.count < 64 << 20)
        #expect(reader.isRight)
        switch cut {
        case .receiver:
            waits(loop) { ends.sent.why?.contains("its guest is gone") == true }
            #expect(ends.received.events.isEmpty)
        case .sender:
            waits(loop) { ends.received.why != nil }
            #expect(ends.sent.events == [.open])
        case .receivingNode: waits(loop) { ends.sent.why != nil }
        case .membership:
            waits(loop) { ends.sent.why != nil && ends.received.why?.contains("removed") == true }
        }
        if cut == .receiver || cut == .sender { waits(loop) { loop.watched == before } }
        #expect(access(ends.from, F_OK) != 0)
    }

    @Test func `a stream that nobody claims is closed and counted, and its sender gives up`() throws {
        let ends = try Ends {
            $0.streamClaimMax = .milliseconds(300)
            $0.streamReachMax = .seconds(1)
        }
        let before = ends.loop.watched
        _ = ends.send()
        waits(ends.loop) { ends.sent.why != nil }
        #expect(ends.sent.events.count == 1)
        #expect(ends.b.network.counters.streamsUnclaimed >= 1)
        #expect(ends.b.notes.contains { "\($0)".contains("nobody here waits for VM") })
        waits(ends.loop) { ends.loop.watched == before }
    }

    @Test func `more than a few unclaimed streams are refused`() throws {
        let ends = try Ends { $0.streamsUnclaimedMax = 2 }
        let all = (0..<3 as Range<UInt64>).map { ends.send(nil, StreamName(vm: $0 + 1, epoch: 1)) }
        waits(ends.loop) { ends.b.network.counters.refusedFull >= 1 }
        for stream in all { stream.close("enough") }
    }

    @Test func `a stream of another node, another move or another cluster feeds nobody`() throws {
        let ends = try Ends { $0.streamReachMax = .seconds(2) }
        let loop = ends.loop
        let other = try TestPeer(loop, 3) { $0.streamReachMax = .milliseconds(600) }
        let stranger = try TestPeer(loop, 1, isForeign: true) { $0.streamReachMax = .milliseconds(600) }
        other.knows(ends.b)
        stranger.knows(ends.b)
        let reader = try Program(loop, at: ends.to)
        let receiver = ends.receive()
        let heards = (0..<4).map { _ in Heard() }
        _ = ends.send(other, nil, heards[0])
        _ = ends.send(stranger, nil, heards[1])
        _ = ends.send(nil, StreamName(vm: ends.name.vm, epoch: 8), heards[2])
        _ = ends.send(nil, StreamName(vm: ends.name.vm + 1, epoch: 9), heards[3])
        waits(loop) { heards.allSatisfy { $0.why != nil } }
        #expect(heards[0].why?.contains("comes from node 1") == true, "\(heards[0].why ?? "")")
        #expect(ends.b.network.counters.streamsRefused >= 1)
        #expect(heards.allSatisfy { $0.events.count == 1 }, "none was opened")
        #expect(ends.received.events.isEmpty)
        // The right one is not harmed by them, and none gets between once it is carried.
        _ = ends.send()
        waits(loop) { ends.sent.events == [.open] }
        let twice = Heard()
        let second = ends.send(nil, nil, twice)
        let writer = try Program(loop, to: ends.from, bytes: 1 << 20)
        waits(loop) { reader.count == 1 << 20 }
        #expect(writer.isOver && reader.isRight)
        second.close("the other one counts")
        #expect(twice.events.isEmpty)
        receiver.tellTaken()
        waits(loop) { ends.sent.events == [.open, .taken] }
    }

    @Test func `one that another node sent first does not stand in the way of the right one`() throws {
        let ends = try Ends()
        let other = try TestPeer(ends.loop, 3)
        other.knows(ends.b)
        let heard = Heard()
        let wrong = ends.send(other, nil, heard)
        _ = ends.loop.run(atMost: .milliseconds(300)) { false }
        _ = ends.send()
        _ = ends.loop.run(atMost: .milliseconds(300)) { false }
        let reader = try Program(ends.loop, at: ends.to)
        _ = ends.receive()
        waits(ends.loop) { ends.sent.events == [.open] }
        #expect(ends.b.network.counters.streamsRefused >= 1)
        #expect(heard.events.isEmpty)
        wrong.close("enough")
        #expect(!reader.isOver)
    }

    @Test func `bytes of a stream that nobody asked for cost the connection`() throws {
        let ends = try Ends()
        let hello = PeerHello(
            version: 1, cluster: "test", node: 5, incarnation: 1, to: 2, lane: .stream, framesOldest: 1,
            framesNewest: 1, featureLevel: 1, sequence: 1, stream: PeerStreamName(vm: 1, epoch: 1))
        let raw = try RawPeer(ends.loop, 5, to: ends.b, hello: hello)
        #expect(raw.answer?.refusal == .unspecified)
        raw.say(kind: 3, [1, 2, 3])
        waits(ends.loop) { raw.closed != nil }
        #expect(ends.b.network.counters.garbageForeign == 1)
        var nameless = hello
        nameless.stream = nil
        let other = try RawPeer(ends.loop, 5, to: ends.b, hello: nameless)
        #expect(other.answer?.refusal == .version)
    }
}
