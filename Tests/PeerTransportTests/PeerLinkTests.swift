import ClusterBase
import NodePorts
import PeerTransport
import RaftCore
import Reactor
import Schema
import TLSSession
import Testing

@Suite(.serialized) struct PeerLinkTests {
    @Test func `two nodes that dial each other at once end with one connection, the same for both`() throws {
        for seed in 0..<20 as Range<UInt64> {
            let loop = try EventLoop()
            let a = try TestPeer(loop, 1)
            let b = try TestPeer(loop, 2)
            var random = PRNG(seed: seed)
            a.knows(b)
            // Both ways of meeting: at the same moment, and somewhere within the other's handshake.
            for _ in 0..<random.below(6) { loop.turn(waitingAtMost: .milliseconds(1)) }
            b.knows(a)
            waits(loop) { a.isUp && b.isUp && a.facts?.isDialed != b.facts?.isDialed }
            _ = loop.run(atMost: .milliseconds(60)) { false }
            #expect(a.isUp)
            #expect(b.isUp)
            #expect(a.facts?.isDialed != b.facts?.isDialed)
            // Two listeners, the waker is no descriptor of the table, and one connection with two ends.
            #expect(loop.watched == 4)
            #expect(a.facts?.featureLevel == 2)
            a.network.send(a.beat(1), to: b.node)
            b.network.send(b.beat(2), to: a.node)
            waits(loop) { a.frameCount == 1 && b.frameCount == 1 }
        }
    }

    @Test func `a node that keeps its connection and says nothing is silent until it is heard again`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) { $0.signInterval = .milliseconds(40) }
        let b = try TestPeer(loop, 2) { $0.signInterval = .milliseconds(40) }
        a.knows(b)
        waits(loop) { a.isUp && b.isUp }
        // Both are idle for many times as long as either may be quiet.
        let sent = a.network.counters.framesSent
        _ = loop.run(atMost: .milliseconds(1_000)) { false }
        #expect(a.network.isHeard(b.node) && b.network.isHeard(a.node))
        #expect(a.network.counters.silences == 0)
        #expect((1_000 / 40 / 2...2 * 1_000 / 40).contains(Int(a.network.counters.framesSent - sent)))
        #expect(a.frameCount == 0)

        // One that promises, and then says nothing, as a stopped process does; and one that promises nothing.
        let stopped = try RawPeer(loop, 3, to: a)
        let since = SystemClock.now
        stopped.say(kind: 7, PeerSign(version: 1, withinMilliseconds: 60).serialized())
        let former = try RawPeer(loop, 4, to: a)
        waits(loop) { !a.network.isHeard(NodeID(3)) }
        #expect(SystemClock.now - since >= .milliseconds(180))
        #expect(a.network.isLinked(NodeID(3)))
        #expect(a.network.counters.silences == 1)
        #expect(a.notes.contains { if case .silent(NodeID(3), _) = $0 { true } else { false } })
        #expect(a.network.isHeard(NodeID(4)))
        stopped.say(kind: 7, PeerSign(version: 1, withinMilliseconds: 60_000).serialized())
        waits(loop) { a.network.isHeard(NodeID(3)) }
        #expect(a.notes.contains { $0 == .heardAgain(NodeID(3)) })
        #expect(stopped.closed == nil && former.closed == nil)
    }

    @Test func `who stood still itself holds nobody for silent, and with many peers each is told less often`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) {
            $0.signInterval = .milliseconds(20)
            $0.signIntervalPerPeer = .milliseconds(1)
            $0.backoffMin = .seconds(20)
            $0.backoffMax = .seconds(20)
        }
        let b = try TestPeer(loop, 2) { $0.signInterval = .milliseconds(20) }
        a.knows(b)
        waits(loop) { a.isUp && b.isUp }
        _ = loop.run(atMost: .milliseconds(100)) { false }
        let end = SystemClock.now + .milliseconds(400)
        while SystemClock.now < end {}
        _ = loop.run(atMost: .milliseconds(200)) { false }
        #expect(a.network.counters.silences == 0 && b.network.counters.silences == 0)

        let gone = try TestPeer(loop, 3)
        let nobody = gone.entry.addresses
        gone.network.close()
        a.network.setPeers([b.entry] + (10..<410).map { PeerAddresses(node: NodeID($0), addresses: nobody) })
        _ = loop.run(atMost: .milliseconds(100)) { false }
        let sent = a.network.counters.framesSent
        _ = loop.run(atMost: .milliseconds(1_200)) { false }
        #expect(a.network.isHeard(b.node) && b.network.isHeard(a.node))
        #expect(a.network.counters.framesSent - sent < 20)
    }

    @Test func `a link whose other end is gone is told at once, then that nobody listens`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) { $0.stableAfter = .zero }
        var b: TestPeer? = try TestPeer(loop, 2)
        a.network.setPeers([b!.entry])
        waits(loop) { a.isUp && b!.isUp }
        let at = SystemClock.now
        b!.network.close()
        b = nil
        waits(loop) { a.breaks.count >= 2 }
        let broken = try #require(a.brokenAt)
        #expect(broken - at < .milliseconds(100))
        #expect(a.breaks == [.closed, .refused])
        #expect(!a.network.isLinked(NodeID(2)))
        #expect(a.network.counters.linksEnded == 1)
        // Told once, however often it is tried.
        _ = loop.run(atMost: .milliseconds(100)) { false }
        #expect(a.breaks == [.closed, .refused])
    }

    @Test func `attempts at a closed port grow apart`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) {
            $0.backoffMin = .milliseconds(4)
            $0.backoffMax = .milliseconds(64)
        }
        let gone = try TestPeer(loop, 2)
        let entry = gone.entry
        gone.network.close()
        a.network.setPeers([entry])
        _ = loop.run(atMost: .milliseconds(500)) { false }
        // 4, 8, 16, 32, 64 … with the half of each drawn: 11 to 21 attempts when nothing else runs.
        #expect(a.network.counters.connectsTried >= 3)
        #expect(a.network.counters.connectsTried <= 24)
        #expect(a.breaks == [.refused])
        #expect(a.network.status.first?.failure?.contains("start the program") == true)
        let back = try TestPeer(loop, 2, incarnation: 2, on: gone.address)
        waits(loop) { a.isUp && back.isUp }
        #expect(a.facts?.incarnation == Incarnation(2))
    }

    @Test func `a node that comes back dials by itself and takes the place of its former self`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) {
            $0.livesWithin = .zero
            $0.backoffMin = .seconds(20); $0.backoffMax = .seconds(20)
        }
        let first = try RawPeer(loop, 2, to: a)
        #expect(a.facts?.incarnation == Incarnation(1))
        let second = try TestPeer(loop, 2, incarnation: 2)
        second.knows(a)
        waits(loop) { second.isUp }
        #expect(a.facts?.incarnation == Incarnation(2))
        #expect(a.breaks == [.closed])
        #expect(a.network.counters.linksReplaced == 1)
        waits(loop) { first.closed != nil }
        // Its former self is not heard any more.
        let late = try RawPeer(loop, 2, to: a)
        #expect(late.answer?.refusal == .copy)
        #expect(a.isUp)
    }

    @Test func `a node whose data directory is an older copy is not linked, whoever dials, and is told why`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) {
            $0.backoffMin = .milliseconds(5); $0.backoffMax = .milliseconds(10)
        }
        var b: TestPeer? = try TestPeer(loop, 2, incarnation: 7)
        let address = b!.address
        a.knows(b!)
        waits(loop) { a.isUp }
        b!.network.close()
        b = nil
        waits(loop) { !a.isUp }
        let copy = try TestPeer(loop, 2, incarnation: 6, on: address)
        waits(loop) { a.network.counters.refusedIdentity > 0 }
        #expect(!a.isUp)
        let before = a.network.counters.refusedIdentity
        copy.knows(a)
        waits(loop) { copy.network.status.first?.failure?.contains("is an older copy") == true }
        #expect(copy.network.status.first?.failure?.contains("join again with an empty directory") == true)
        #expect(a.network.counters.refusedIdentity > before && !a.isUp && !copy.isUp)
        copy.network.close()
        // A later start of the same node is taken.
        let later = try TestPeer(loop, 2, incarnation: 8)
        later.knows(a)
        waits(loop) { a.isUp && later.isUp }
        #expect(a.facts?.incarnation == Incarnation(8))
    }

    @Test func `a later start with fewer writes than were heard of has an older copy, unless damage took its count`()
        throws
    {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1)
        func start(_ incarnation: UInt64, written: UInt64, process: UInt64 = 0) throws -> TestPeer {
            let peer = try TestPeer(loop, 2, incarnation: incarnation) {
                $0.process = process
                $0.backoffMin = .milliseconds(5)
            }
            peer.network.written = { written }
            peer.knows(a)
            return peer
        }
        let first = try start(1, written: 40)
        a.knows(first)
        waits(loop) { a.isUp && first.isUp }
        // It goes on writing, and says so with a beat.
        first.network.written = { 50 }
        let heard = a.frameCount
        first.network.send(first.beat(1), to: NodeID(1))
        waits(loop) { a.frameCount > heard }
        first.network.close()
        waits(loop) { !a.isUp }

        let copy = try start(2, written: 45)
        waits(loop) { copy.notes.contains { if case .expelled(NodeID(1), .copied, _) = $0 { true } else { false } } }
        #expect(copy.network.status.first?.failure?.contains("45 writes") == true && !a.isUp)
        copy.network.close()

        let damaged = try start(2, written: 0, process: 7)
        waits(loop) { a.isUp && damaged.isUp }
        // A copy that was started as often is another process.
        let twin = try start(2, written: 60, process: 8)
        waits(loop) { twin.notes.contains { if case .expelled(NodeID(1), .copied, _) = $0 { true } else { false } } }
        #expect(a.isUp && damaged.isUp && !twin.isUp)
        twin.network.close()
        // Another connection of the same process is none.
        damaged.network.refresh()
        waits(loop) { a.network.counters.linksReplaced > 0 }
        #expect(a.isUp)
        damaged.network.close()
        waits(loop) { !a.isUp }
        let next = try start(3, written: 48)
        waits(loop) { a.isUp && next.isUp }
    }

    @Test func `a later start takes no place of one that is heard, however often it was started`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) { $0.livesWithin = .milliseconds(400) }
        let own = try TestPeer(loop, 2, incarnation: 1)
        own.knows(a)
        waits(loop) { a.isUp }
        let copy = try TestPeer(loop, 2, incarnation: 30) {
            $0.backoffMin = .milliseconds(5); $0.backoffMax = .milliseconds(20)
        }
        copy.knows(a)
        let until = SystemClock.now + .seconds(1)
        var number: UInt64 = 0
        while SystemClock.now < until {
            number += 1
            own.network.send(own.beat(number), to: NodeID(1))
            _ = loop.run(atMost: .milliseconds(50)) { false }
        }
        #expect(a.network.counters.collisions > 0 && a.facts?.incarnation == Incarnation(1) && !copy.isUp)
        #expect(!own.notes.contains { if case .expelled = $0 { true } else { false } })
        // Its end is seen at once, or its silence after a while.
        waits(loop) { copy.isUp }
        #expect(a.facts?.incarnation == Incarnation(30))
    }

    @Test func `an old process learns that a later start took its place, and a removed node that it is out`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) { $0.livesWithin = .zero }
        let old = try TestPeer(loop, 2, incarnation: 1) { $0.backoffMin = .milliseconds(5) }
        old.knows(a)
        waits(loop) { a.isUp }
        let copy = try TestPeer(loop, 2, incarnation: 2)
        copy.knows(a)
        waits(loop) { old.notes.contains { if case .expelled(_, .copied, _) = $0 { true } else { false } } }
        #expect(copy.isUp && a.facts?.incarnation == Incarnation(2))

        a.network.setJudge { _, _ in .removed("node 2 was removed") }
        waits(loop) { copy.notes.contains { if case .expelled(NodeID(1), .removed, _) = $0 { true } else { false } } }
        #expect(!a.isUp)
    }

    @Test func `an old hello that was under way does not replace the connection made after it`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1) { $0.helloTimeout = .milliseconds(200) }
        func hello(_ sequence: UInt64) -> PeerHello {
            PeerHello(
                version: 1, cluster: "test", node: 2, incarnation: 1, to: 1, lane: .control, framesOldest: 1,
                framesNewest: 1, featureLevel: 1, sequence: sequence)
        }
        let later = try RawPeer(loop, 2, to: a, hello: hello(5))
        let earlier = try RawPeer(loop, 2, to: a, hello: hello(4))
        #expect(later.answer?.refusal == .unspecified)
        #expect(earlier.answer?.refusal == .superseded)
        let latest = try RawPeer(loop, 2, to: a, hello: hello(6))
        #expect(latest.answer?.refusal == .unspecified)
        waits(loop) { later.closed != nil }
        #expect(a.breaks.isEmpty)
    }

    @Test func `nodes that refresh at the same moment lose no connection`() throws {
        for round in 0..<10 {
            let loop = try EventLoop()
            let a = try TestPeer(loop, 1)
            let b = try TestPeer(loop, 2)
            a.knows(b)
            b.knows(a)
            waits(loop) { a.isUp && b.isUp }
            _ = loop.run(atMost: .milliseconds(20)) { false }
            let made = a.network.counters.linksMade
            a.network.refresh()
            for _ in 0..<round { loop.turn(waitingAtMost: .zero) }
            b.network.refresh()
            waits(loop) { a.network.counters.linksMade > made }
            // For a moment each side may stand on its own of two connections.
            waits(loop) { a.facts?.isDialed != b.facts?.isDialed }
            _ = loop.run(atMost: .milliseconds(50)) { false }
            #expect(a.isUp && b.isUp)
            #expect(a.breaks.isEmpty && b.breaks.isEmpty)
            waits(loop) { a.facts?.isDialed != b.facts?.isDialed }
        }
    }

    @Test func `what is under way when a connection is replaced arrives, in both directions`() throws {
        for round in 0..<3 {
            let loop = try EventLoop()
            let a = try TestPeer(loop, 1)
            let b = try TestPeer(loop, 2)
            for peer in [a, b] { peer.keepsFrames = false }
            a.knows(b)
            b.knows(a)
            waits(loop) { a.isUp && b.isUp }
            _ = loop.run(atMost: .milliseconds(20)) { false }
            var sent = 0
            for turn in 0..<20 {
                if turn == 1 { a.network.refresh() }
                if turn == 1 + round { b.network.refresh() }
                // More than a turn reads, so that the new connection is heard before the old one is empty.
                for _ in 0..<(turn < 12 ? 5 : 0) {
                    sent += 1
                    a.network.send(a.frame(to: b.node, bytes: 300_000), to: b.node)
                    b.network.send(b.frame(to: a.node, bytes: 300_000), to: a.node)
                }
                loop.turn(waitingAtMost: .zero)
            }
            _ = loop.run(atMost: .seconds(5)) { a.frameCount == sent && b.frameCount == sent }
            #expect(a.frameCount == sent && b.frameCount == sent, "of \(sent)")
            #expect(a.network.counters.linksReplaced > 0)
            #expect(a.breaks.isEmpty && b.breaks.isEmpty)
        }
    }

    @Test func `a connection ends with the certificate that it was made with`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1)
        let b = try TestPeer(loop, 2)
        a.network.setContexts(
            server: try Keys.context(.server, node: 1, lifetimeSeconds: 2),
            client: try Keys.context(.client, node: 1, lifetimeSeconds: 2))
        a.knows(b)
        waits(loop) { a.isUp && b.isUp }
        waits(loop) { !b.breaks.isEmpty }
        #expect(b.notes.contains { "\($0)".contains("its certificate has expired") })
        a.network.setContexts(server: try Keys.context(.server, node: 1), client: try Keys.context(.client, node: 1))
        waits(loop) { a.isUp && b.isUp }
    }

    @Test func `refreshed connections replace the old ones without a break`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1)
        let b = try TestPeer(loop, 2)
        a.knows(b)
        b.knows(a)
        waits(loop) { a.isUp && b.isUp }
        _ = loop.run(atMost: .milliseconds(30)) { false }
        let made = a.network.counters.linksMade
        a.network.setContexts(server: try Keys.context(.server, node: 1), client: try Keys.context(.client, node: 1))
        a.network.refresh()
        waits(loop) { a.network.counters.linksMade == made + 1 }
        _ = loop.run(atMost: .milliseconds(30)) { false }
        #expect(a.network.isLinked(b.node))
        #expect(b.network.isLinked(a.node))
        #expect(a.breaks.isEmpty)
        #expect(b.breaks.isEmpty)
    }
}

@Suite(.serialized) struct PeerIdentityTests {
    @Test func `a certificate of another node is refused, whatever the hello says`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1)
        let liar = try TestPeer(loop, 2, certificateNode: 9)
        liar.knows(a)
        waits(loop) { a.network.counters.refusedIdentity > 0 && liar.notes.contains { "\($0)".contains("refused") } }
        #expect(!a.isUp)
        #expect(!liar.isUp)
        #expect(a.ups.isEmpty)
        #expect(a.notes.contains { "\($0)".contains("spiffe://test/node/9") })
        // And the other way round: who dials checks whom it reached.
        a.knows(liar)
        let before = a.network.counters.refusedIdentity
        waits(loop) { a.network.counters.refusedIdentity > before }
        #expect(!a.isUp)
    }

    @Test func `another authority's certificate, another cluster's and another cluster's name are refused`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1)
        let foreign = try TestPeer(loop, 2, isForeign: true)
        foreign.knows(a)
        waits(loop) { a.network.counters.refusedTLS > 0 }
        let named = try TestPeer(loop, 3, certificateCluster: "other")
        named.knows(a)
        waits(loop) { a.network.counters.refusedIdentity > 0 }
        let other = try TestPeer(loop, 4, cluster: "other")
        other.network.setPeers([a.entry])
        waits(loop) { other.network.counters.refusedIdentity > 0 }
        let says = try RawPeer(
            loop, 5, to: a,
            hello: PeerHello(
                version: 1, cluster: "other", node: 5, incarnation: 1, to: 1, lane: .control, framesOldest: 1,
                framesNewest: 1))
        #expect(says.answer?.refusal == .cluster)
        #expect(a.network.counters.refusedCluster == 1)
        #expect(a.ups.isEmpty)
    }

    @Test func `a hello for another node and a hello of another time are refused`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1)
        var hello = PeerHello(
            version: 1, cluster: "test", node: 5, incarnation: 1, to: 7, lane: .control, framesOldest: 1,
            framesNewest: 1)
        let lost = try RawPeer(loop, 5, to: a, hello: hello)
        #expect(lost.answer?.refusal == .address)
        #expect(lost.answer?.reason.contains("correct the address") == true)
        hello.to = 1
        hello.framesOldest = 2
        hello.framesNewest = 3
        let new = try RawPeer(loop, 5, to: a, hello: hello)
        #expect(new.answer?.refusal == .version)
        hello.framesOldest = 1
        let both = try RawPeer(loop, 5, to: a, hello: hello)
        #expect(both.answer?.refusal == .unspecified)
        #expect(both.answer?.frames == 1)
        waits(loop) { lost.closed != nil && new.closed != nil }
    }

    @Test func `a node that is no member is refused, and let in when it becomes one`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1)
        a.network.setJudge { _, _ in .refuse("node 2 was removed") }
        let b = try TestPeer(loop, 2)
        b.knows(a)
        waits(loop) { b.notes.contains { "\($0)".contains("node 2 was removed") } }
        #expect(a.network.counters.refusedMembership > 0)
        #expect(!a.isUp)
        a.network.setJudge { _, _ in .accept }
        waits(loop) { a.isUp && b.isUp }
    }

    @Test func `a removed node's live connections are closed at once and stay closed`() throws {
        let loop = try EventLoop()
        let a = try TestPeer(loop, 1)
        let b = try TestPeer(loop, 2)
        let c = try TestPeer(loop, 3)
        a.knows(b, c)
        waits(loop) { a.network.isLinked(b.node) && a.network.isLinked(c.node) && b.isUp && c.isUp }
        a.network.send(a.piece(to: b.node, number: 0, bytes: 1_000), to: b.node)
        waits(loop) { b.frameCount == 1 }
        let heard = a.frameCount
        let at = SystemClock.now
        a.network.setJudge { node, _ in node == NodeID(2) ? .refuse("node 2 was removed") : .accept }
        b.network.send(b.beat(1), to: a.node)
        waits(loop) { !a.network.isLinked(b.node) && !b.isUp }
        #expect(SystemClock.now - at < .seconds(1))
        #expect(a.breaks == [.closed])
        #expect(a.network.isLinked(c.node))
        _ = loop.run(atMost: .milliseconds(50)) { false }
        #expect(!b.isUp)
        #expect(a.frameCount == heard)
    }
}
