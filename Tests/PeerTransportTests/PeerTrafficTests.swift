import ClusterBase
import NodePorts
import PeerTransport
import RaftCore
import Reactor
import Schema
import Testing

@Suite(.serialized) struct PeerTrafficTests {
    private func pair(
        codec: (any FrameCodec)? = nil, _ change: (inout PeerSettings) -> Void = { _ in }
    ) throws -> (EventLoop, TestPeer, TestPeer) {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1, codec: codec, change)
        let b = try TestPeer(loop, 2, codec: codec, change)
        a.knows(b)
        b.knows(a)
        waits(loop) { a.isUp && b.isUp && a.facts?.isDialed != b.facts?.isDialed }
        return (loop, a, b)
    }

    @Test func `a hundred thousand frames arrive in order`() throws {
        let (loop, a, b) = try pair()
        b.keepsFrames = false
        var next: UInt64 = 1
        defer { b.onFrame = nil }
        b.onFrame = { frame in
            if frame.firstIndex == next { next += 1 } else { Issue.record("\(String(describing: frame.firstIndex))") }
        }
        var sent: UInt64 = 0
        #if DEBUG
        let count: UInt64 = 10_000
        #else
        let count: UInt64 = 100_000
        #endif
        let start = SystemClock.now
        let cpu = SystemClock.threadCPU
        while next <= count {
            if sent < count && sent < next + 4_000 {
                for _ in 0..<200 {
                    sent += 1
                    a.network.send(a.frame(to: b.node, first: sent), to: b.node)
                }
            }
            loop.turn(waitingAtMost: .milliseconds(1))
            if SystemClock.now - start > .seconds(60) { break }
        }
        #expect(next == count + 1)
        #expect(a.network.counters.messagesDropped == 0)
        let wall = SystemClock.now - start
        print(
            "\(count) frames of one 128-byte entry: \(wall.milliseconds) ms, both ends' CPU per frame "
                + "\((SystemClock.threadCPU - cpu).count / Int64(count)) ns, turns \(loop.counters.turns)")
    }

    @Test func `a frame larger than peers take arrives in parts, whole and in order`() throws {
        let (loop, a, b) = try pair()
        var frame = a.frame(to: b.node, entries: 4, bytes: 100_000)
        frame.beat = a.beat(9).beat
        frame.messages = (0..<30).map { a.message(to: b.node, entries: 4, bytes: 100_000, first: $0 * 4 + 1) }
        a.network.send(frame, to: b.node)
        waits(loop) { b.frames.reduce(0) { $0 + $1.messages.count } == 30 }
        #expect(b.frames.count > 1)
        #expect(b.frames.compactMap(\.beat).count == 1)
        #expect(b.frames.first?.beat != nil)
        let isSame = b.frames.flatMap(\.messages) == frame.messages
        #expect(isSame)
        // One message that alone is too large is not sent, and the connection stands.
        a.network.send(a.frame(to: b.node, entries: 50, bytes: 100_000), to: b.node)
        #expect(a.network.counters.messagesTooLarge == 1)
        #expect(a.isUp)
    }

    @Test func `a peer that does not read costs a bounded queue, whose newest messages are dropped and beats are not`()
        throws
    {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) { $0.queuedBytesMax = 2 << 20 }
        let raw = try RawPeer(loop, 2, to: a)
        raw.connection?.pauseReading()
        var beats = 0
        for i in 0..<400 as Range<UInt64> {
            var frame = a.frame(to: NodeID(2), entries: 8, bytes: 8_000, first: i + 1)
            frame.beat = a.beat(i).beat
            a.network.send(frame, to: NodeID(2))
            beats += 1
            loop.turn(waitingAtMost: .zero)
        }
        let queued = try #require(a.network.status.first?.bytesQueued)
        #expect(queued >= 2 << 20)
        #expect(queued < (2 << 20) + 200_000)
        #expect(a.network.counters.messagesDropped > 100)
        // All beats were taken.
        #expect(a.network.counters.framesSent == UInt64(beats) + 2)
        #expect(a.isUp)
        raw.connection?.resumeReading()
        waits(loop) { a.network.status.first?.bytesQueued == 0 }
    }

    @Test func `a frame without a connection is counted and lost`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1)
        a.network.send(a.beat(1), to: NodeID(5))
        #expect(a.network.counters.framesUnsent == 1)
    }

    @Test func `frames past the threshold are compressed between nodes that both can`() throws {
        let codec = RunLengthCodec()
        let (loop, a, b) = try pair(codec: codec)
        a.network.send(a.frame(to: b.node, bytes: 100_000), to: b.node)
        a.network.send(a.frame(to: b.node, bytes: 10, first: 2), to: b.node)
        waits(loop) { b.frameCount == 2 }
        #expect(b.frames.map(\.firstIndex) == [1, 2])
        #expect(a.network.counters.framesCompressed == 1)
        #expect(a.network.counters.bytesSent < 10_000)
        // A node without a codec is sent plain ones.
        let c = try TestPeer(loop, 3)
        c.knows(a)
        waits(loop) { c.isUp }
        a.network.send(a.frame(to: c.node, bytes: 100_000), to: c.node)
        waits(loop) { c.frameCount == 1 }
        #expect(a.network.counters.framesCompressed == 1)
    }

    @Test func `requests are answered in any order, and fail when the connection ends`() throws {
        let (loop, a, b) = try pair()
        defer { b.onRequest = nil }
        b.onRequest = { request, bytes in if bytes[0] % 2 == 0 { b.network.answer(request, bytes + [7]) } }
        var ids: [RequestID] = []
        for i in 0..<10 as Range<UInt8> { ids.append(try a.network.sendRequest(to: b.node, [i])) }
        waits(loop) { a.outcomes.count == 5 }
        #expect(a.outcomes.map(\.0) == [0, 2, 4, 6, 8].map { ids[$0] })
        #expect(a.outcomes.map(\.1) == [0, 2, 4, 6, 8].map { .answered([$0, 7]) })
        b.network.answer(b.requests[1].0, [99])
        waits(loop) { a.outcomes.count == 6 }
        // An answer to what was answered goes nowhere that anybody waits.
        b.network.answer(b.requests[1].0, [98])
        b.network.close()
        waits(loop) { a.outcomes.count == 10 }
        #expect(a.outcomes.suffix(4).allSatisfy { $0.1 == .linkBroken })
        #expect(throws: RequestRefusal.noLink) { try a.network.sendRequest(to: b.node, [1]) }
        #expect(throws: RequestRefusal.tooLarge) {
            try a.network.sendRequest(to: b.node, [UInt8](repeating: 0, count: 3 << 20))
        }
    }

    @Test func `requests beyond the bounds are refused on both sides, and end in time`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) {
            $0.requestsMax = 10
            $0.requestTimeout = .milliseconds(200)
        }
        let b = try TestPeer(loop, 2) { $0.requestsMax = 4 }
        a.knows(b)
        waits(loop) { a.isUp && b.isUp }
        for i in 0..<10 as Range<UInt8> { _ = try a.network.sendRequest(to: b.node, [i]) }
        #expect(throws: RequestRefusal.overloaded) { try a.network.sendRequest(to: b.node, [11]) }
        waits(loop) { a.outcomes.count == 10 }
        #expect(a.outcomes.filter { $0.1 == .overloaded }.count == 6)
        #expect(a.outcomes.filter { $0.1 == .timedOut }.count == 4)
        #expect(b.requests.count == 4)
        // An answer after that is passed over.
        b.network.answer(b.requests[0].0, [1])
        _ = try a.network.sendRequest(to: b.node, [12])
        waits(loop) { b.requests.count == 5 }
        #expect(a.outcomes.count == 10)
    }
}

@Suite(.serialized) struct PeerBulkTests {
    @Test func `pieces arrive over a connection of their own, whole, and it is closed when idle`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) { $0.bulkIdleMax = .milliseconds(500) }
        let b = try TestPeer(loop, 2)
        a.knows(b)
        b.knows(a)
        waits(loop) { a.isUp && b.isUp && a.facts?.isDialed != b.facts?.isDialed }
        _ = loop.run(atMost: .milliseconds(30)) { false }
        let before = loop.watched
        let sent = (0..<20 as Range<UInt64>).map { a.piece(to: b.node, number: $0, bytes: 256 << 10) }
        for frame in sent { a.network.send(frame, to: b.node) }
        waits(loop) { b.frameCount == 20 }
        #expect(loop.watched == before + 2)
        let isSame = b.frames == sent
        #expect(isSame)
        #expect(a.network.counters.piecesSent == 20)
        // What is said about pieces is small and goes with the rest.
        var done = a.piece(to: b.node, number: 1, bytes: 1)
        done.snapshots[0].body = .done
        a.network.send(done, to: b.node)
        waits(loop) { b.frameCount == 21 }
        #expect(a.network.counters.piecesSent == 20)
        waits(loop) { loop.watched == before }
        #expect(a.breaks.isEmpty)
        a.network.send(a.piece(to: b.node, number: 30, bytes: 100), to: b.node)
        waits(loop) { b.frameCount == 22 }
    }

    @Test func `the rate holds, and the queue has a bound`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) {
            $0.bulkBytesPerSecond = 8 << 20
            $0.bulkQueuedBytesMax = 4 << 20
        }
        let b = try TestPeer(loop, 2)
        b.keepsFrames = false
        a.knows(b)
        waits(loop) { a.isUp && b.isUp }
        let block = a.piece(to: b.node, number: 0, bytes: 256 << 10)
        for number in 0..<32 as Range<UInt64> { a.network.send(block.numbered(number), to: b.node) }
        #expect(a.network.counters.piecesDropped >= 16)
        let start = SystemClock.now
        let expected = 32 - Int(a.network.counters.piecesDropped)
        waits(loop) { b.frameCount == expected }
        // 3.75 MiB at 8 MiB/s, less the burst and one piece of debt.
        #expect(SystemClock.now - start >= .milliseconds(250))
        #expect(SystemClock.now - start < .seconds(10))
    }

    @Test func `a piece that is sent again while it still waits goes once`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) { $0.bulkBytesPerSecond = 4 << 20 }
        let b = try TestPeer(loop, 2)
        b.keepsFrames = false
        a.knows(b)
        waits(loop) { a.isUp && b.isUp }
        let block = a.piece(to: b.node, number: 0, bytes: 256 << 10)
        for _ in 0..<3 {
            for number in 0..<8 as Range<UInt64> { a.network.send(block.numbered(number), to: b.node) }
        }
        waits(loop) { b.frameCount == 8 }
        _ = loop.run(atMost: .milliseconds(300)) { false }
        #expect(b.frameCount == 8 && a.network.counters.piecesDropped == 0)
        // One that has left may be lost.
        a.network.send(block.numbered(3), to: b.node)
        waits(loop) { b.frameCount == 9 }
    }

    @Test func `bulk does not delay what is said beside it`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1)
        let b = try TestPeer(loop, 2)
        b.keepsFrames = false
        a.keepsFrames = false
        a.knows(b)
        waits(loop) { a.isUp && b.isUp }
        var echoed: UInt64 = 0
        defer { b.onFrame = nil }
        b.onFrame = { frame in if let beat = frame.beat { b.network.send(b.beat(beat.sequence), to: a.node) } }
        a.onFrame = { frame in echoed = frame.beat?.sequence ?? echoed }
        var number: UInt64 = 0
        var pieceNumber: UInt64 = 0

        func roundTrips(_ count: Int, bulk: Bool) -> [Nanoseconds] {
            var times: [Nanoseconds] = []
            for _ in 0..<count {
                while bulk && (a.network.status.first?.bulkBytesQueued ?? 0) < 8 << 20 {
                    pieceNumber += 1
                    a.network.send(block.numbered(pieceNumber), to: b.node)
                }
                number += 1
                let start = SystemClock.now
                a.network.send(a.beat(number), to: b.node)
                _ = loop.run(atMost: .seconds(10)) { echoed == number }
                times.append(SystemClock.now - start)
                _ = loop.run(atMost: .milliseconds(1)) { false }
            }
            return times.sorted()
        }
        let block = a.piece(to: b.node, number: 1, bytes: 256 << 10)
        #if DEBUG
        let count = 50
        #else
        let count = 300
        #endif
        _ = roundTrips(20, bulk: false)
        let alone = roundTrips(count, bulk: false)
        let before = b.frameCount
        let start = SystemClock.now
        let beside = roundTrips(count, bulk: true)
        let pieces = b.frameCount - before - count
        #expect(pieces > 10)
        let perPiece = (SystemClock.now - start) / Int64(max(1, pieces))
        func shown(_ times: [Nanoseconds]) -> String {
            "p50 \(times[count / 2].count / 1_000) µs p99 \(times[count * 99 / 100].count / 1_000) µs"
        }
        print(
            "round trip of a beat, both ends on one thread: alone \(shown(alone)), beside bulk of "
                + "\(256_000_000 / max(1, perPiece.count / 1_000) / 1_024) MiB/s \(shown(beside))")
        // A beat waits for what a few turns do for bulk, a piece each, and not for the 32 that are queued.
        #expect(beside[count / 2] < perPiece * 6)
    }

    @Test func `pieces for a node that is not reachable are dropped, and the link stays`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1)
        let raw = try RawPeer(loop, 2, to: a)
        a.network.send(a.piece(to: NodeID(2), number: 1, bytes: 100), to: NodeID(2))
        #expect(a.network.counters.piecesDropped == 1)
        let gone = try TestPeer(loop, 3)
        let closed = gone.entry
        gone.network.close()
        a.network.setPeers([PeerAddresses(node: NodeID(2), addresses: closed.addresses)])
        a.network.send(a.piece(to: NodeID(2), number: 2, bytes: 100), to: NodeID(2))
        waits(loop) { a.network.counters.piecesDropped == 2 }
        #expect(a.network.isLinked(NodeID(2)))
        #expect(raw.closed == nil)
    }
}

/// Counts equal bytes: small, and enough to see that a codec is used on both ends.
final class RunLengthCodec: FrameCodec {
    func compress(_ bytes: UnsafeRawBufferPointer, into output: inout [UInt8]) -> Bool {
        let before = output.count
        var i = 0
        while i < bytes.count {
            var run = 1
            while run < 255 && i + run < bytes.count && bytes[i + run] == bytes[i] { run += 1 }
            output.append(UInt8(run))
            output.append(bytes[i])
            i += run
        }
        if output.count - before < bytes.count { return true }
        output.removeLast(output.count - before)
        return false
    }

    func expand(_ bytes: UnsafeRawBufferPointer, count: Int) -> [UInt8]? {
        guard bytes.count % 2 == 0 else { return nil }
        var output: [UInt8] = []
        for i in stride(from: 0, to: bytes.count, by: 2) {
            guard output.count + Int(bytes[i]) <= count else { return nil }
            output.append(contentsOf: repeatElement(bytes[i + 1], count: Int(bytes[i])))
        }
        return output
    }
}
