import ClusterBase
import NodePorts
import PeerTransport
import RaftCore
import Reactor
import Schema
import Testing

@Suite(.serialized) struct PeerGarbageTests {
    /// What a peer may send that no correct node sends, and what is counted for it.
    enum Garbage: String, CaseIterable, Sendable {
        case checksum, oversize, undecodable, foreignNode, oldIncarnation, secondHello, compressed, falseLength
    }

    @Test(arguments: Garbage.allCases)
    func `garbage costs the connection and is counted`(garbage: Garbage) throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1)
        let raw = try RawPeer(loop, 2, to: a)
        #expect(raw.answer?.refusal == .unspecified)
        let good = RaftPeerFrame(version: 1, from: 2, incarnation: 1)
        raw.say(kind: 3, good.serialized())
        waits(loop) { a.frameCount == 1 }
        var counted: KeyPath<PeerCounters, UInt64> = \.garbageForeign
        switch garbage {
        case .checksum:
            raw.say(kind: 3, good.serialized(), spoil: true)
            counted = \.garbageChecksum
        case .oversize:
            raw.say(kind: 3, [], length: 4 << 20 + 5)
            counted = \.garbageOversize
        case .undecodable:
            raw.say(kind: 3, [0xFF, 0xFF, 0xFF])
            counted = \.garbageUndecodable
        case .foreignNode: raw.say(kind: 3, RaftPeerFrame(version: 1, from: 3, incarnation: 1).serialized())
        case .oldIncarnation: raw.say(kind: 3, RaftPeerFrame(version: 1, from: 2, incarnation: 7).serialized())
        case .secondHello: raw.say(kind: 1, PeerHello(version: 1).serialized())
        case .compressed:
            raw.say(kind: 3, flags: 1, [1, 0, 0, 0, 0])
            counted = \.garbageUndecodable
        case .falseLength:
            // The length swallows the next frame's beginning, so the checksum is over the wrong bytes.
            raw.say(kind: 3, good.serialized(), length: UInt32(good.serialized().count + 3))
            raw.say(kind: 3, good.serialized())
            counted = \.garbageChecksum
        }
        raw.say(kind: 3, good.serialized())
        waits(loop) { raw.closed != nil }
        #expect(a.frameCount == 1)
        #expect(a.network.counters[keyPath: counted] == 1)
        #expect(a.network.counters.garbage == 1)
        #expect(a.breaks == [.closed])
        #expect(a.notes.contains { if case .garbage(NodeID(2), _) = $0 { true } else { false } })
    }

    @Test func `a frame of a kind that a newer program sends is passed over`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1)
        let raw = try RawPeer(loop, 2, to: a)
        raw.say(kind: 77, [1, 2, 3])
        raw.say(kind: 3, RaftPeerFrame(version: 1, from: 2, incarnation: 1).serialized())
        waits(loop) { a.frameCount == 1 }
        #expect(raw.closed == nil)
        #expect(a.network.counters.garbage == 0)
    }

    @Test func `a stranger may send one small hello and nothing else`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) { $0.helloTimeout = .milliseconds(100) }
        let large = try RawPeer(loop, 2, to: a, saysHello: false)
        large.say(kind: 1, [UInt8](repeating: 0, count: 5_000))
        waits(loop) { large.closed != nil }
        #expect(a.network.counters.garbageOversize == 1)
        let early = try RawPeer(loop, 2, to: a, saysHello: false)
        early.say(kind: 3, RaftPeerFrame(version: 1, from: 2, incarnation: 1).serialized())
        waits(loop) { early.closed != nil }
        #expect(a.network.counters.garbageForeign == 1)
        let silent = try RawPeer(loop, 2, to: a, saysHello: false)
        waits(loop) { silent.closed != nil }
        #expect(a.frameCount == 0)
        #expect(loop.watched == 1)
    }

    @Test func `random bytes after the handshake end the connection and nothing else`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1)
        var random = PRNG(seed: 11)
        for round in 1...20 as ClosedRange<UInt64> {
            let raw = try RawPeer(
                loop, 2, to: a,
                hello: PeerHello(
                    version: 1, cluster: "test", node: 2, incarnation: round, to: 1, lane: .control, framesOldest: 1,
                    framesNewest: 1))
            #expect(raw.answer?.refusal == .unspecified)
            #expect(raw.connection?.write((0..<4_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }) == true)
            // A length that is allowed waits for bytes that never come; more of them are wrong in the end.
            var sent = 0
            while raw.closed == nil && sent < 6 << 20 {
                let more = (0..<(1 << 16)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                if raw.connection?.write(more) == true { sent += more.count }
                loop.turn(waitingAtMost: .milliseconds(1))
            }
            waits(loop) { raw.closed != nil }
            #expect(a.network.counters.garbage == round)
        }
        #expect(a.frameCount == 0)
    }
}
