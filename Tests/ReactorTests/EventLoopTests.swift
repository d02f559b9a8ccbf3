import ClusterBase
import Reactor
import Testing

@Suite struct EventLoopTests {
    @Test func `timers fire in the order of their times, never early, and not when cancelled`() throws {
        let loop = try EventLoop()
        let log = Log(loop)
        let start = SystemClock.now
        for (tag, milliseconds) in [(3, 30), (1, 10), (4, 10), (2, 20), (9, 15)] as [(Int, Int64)] {
            let timer = loop.setTimer(at: start + .milliseconds(milliseconds), log, tag: tag)
            if tag == 9 { loop.cancel(timer) }
        }
        #expect(loop.timersPending == 4)
        let isDone = loop.run(atMost: .seconds(5)) { log.fired.count == 4 }
        #expect(isDone)
        #expect(log.fired.map(\.tag) == [1, 4, 2, 3])
        for (fired, milliseconds) in zip(log.fired, [10, 10, 20, 30] as [Int64]) {
            #expect(fired.at >= start + .milliseconds(milliseconds))
        }
        #expect(loop.timersPending == 0)
    }

    @Test func `a timer set for now by a timer fires in the next turn, so that a turn ends`() throws {
        let loop = try EventLoop()
        let log = Log(loop)
        log.again = 3
        _ = loop.setTimer(at: loop.now, log, tag: 1)
        loop.turn(waitingAtMost: .seconds(1))
        #expect(log.fired.count == 1)
        loop.turn(waitingAtMost: .seconds(1))
        loop.turn(waitingAtMost: .seconds(1))
        #expect(log.fired.count == 3)
    }

    @Test func `cancelling a fired timer does not touch the one that took its place`() throws {
        let loop = try EventLoop()
        let log = Log(loop)
        let first = loop.setTimer(at: loop.now, log, tag: 1)
        loop.turn(waitingAtMost: .zero)
        _ = loop.setTimer(at: loop.now, log, tag: 2)
        loop.cancel(first)
        loop.turn(waitingAtMost: .zero)
        #expect(log.fired.map(\.tag) == [1, 2])
    }

    @Test func `a hundred thousand timers that are set and cancelled leave nothing behind`() throws {
        let loop = try EventLoop()
        let log = Log(loop)
        for tag in 0..<100_000 { loop.cancel(loop.setTimer(at: loop.now + .seconds(100), log, tag: tag)) }
        _ = loop.setTimer(at: loop.now, log, tag: -1)
        loop.turn(waitingAtMost: .zero)
        #expect(log.fired.map(\.tag) == [-1])
        #expect(loop.timersPending == 0)
    }

    @Test func `the owner is called when its deadline comes, and each turn after timers and before output`() throws {
        let loop = try EventLoop()
        let log = Log(loop)
        let owner = Owner(loop, log)
        loop.owner = owner
        owner.deadline = SystemClock.now + .milliseconds(20)
        let deadline = owner.deadline
        loop.turn(waitingAtMost: .seconds(5))
        let turn = try #require(owner.turns.last)
        #expect(turn.now >= deadline)
        #expect(turn.isDrained)

        let mailbox = loop.makeMailbox(of: Int.self, itemsMax: 4) { log.order.append("mail \($0)") }
        defer { loop.removeMailboxes() }
        log.order = []
        owner.deadline = deadline + .seconds(100)
        owner.flushes = true
        _ = loop.setTimer(at: loop.now, log, tag: 5)
        #expect(mailbox.post(7))
        loop.turn(waitingAtMost: .seconds(5))
        #expect(log.order == ["mail 7", "timer 5", "end", "flush", "bulk flush"])
    }

    @Test func `a late wake-up is told to the owner`() throws {
        let loop = try EventLoop()
        let log = Log(loop)
        let owner = Owner(loop, log)
        loop.owner = owner
        owner.deadline = SystemClock.now + .seconds(100)
        owner.busy = .milliseconds(30)
        loop.turn(waitingAtMost: .zero)
        owner.busy = .zero
        loop.turn(waitingAtMost: .zero)
        let turn = try #require(owner.turns.last)
        #expect(turn.gap >= .milliseconds(30))
        #expect(loop.counters.turnLongest >= .milliseconds(30))
    }

    @Test func `a signal comes to the loop`() throws {
        let loop = try EventLoop()
        var found: [Int32] = []
        try loop.handleSignals([SignalTest.number]) { found.append($0) }
        SignalTest.raiseInThisThread()
        let isDone = loop.run(atMost: .seconds(5)) { !found.isEmpty }
        #expect(isDone)
        #expect(found == [SignalTest.number])
    }
}

/// Remembers what it was told.
final class Log: TimerHandler {
    let loop: EventLoop
    var fired: [(tag: Int, at: Instant)] = []
    var order: [String] = []
    var again = 0
    init(_ loop: EventLoop) { self.loop = loop }

    func timerFired(_ tag: Int) {
        fired.append((tag, SystemClock.now))
        order.append("timer \(tag)")
        again -= 1
        if again > 0 { _ = loop.setTimer(at: loop.now, self, tag: tag) }
    }
}

final class Owner: TurnOwner, FlushHandler {
    let loop: EventLoop
    let log: Log
    var deadline = Instant(nanoseconds: .max)
    var turns: [Turn] = []
    var flushes = false
    var busy = Nanoseconds.zero
    private let bulk: Bulk

    final class Bulk: FlushHandler {
        let log: Log
        init(_ log: Log) { self.log = log }
        func flush() { log.order.append("bulk flush") }
    }

    init(_ loop: EventLoop, _ log: Log) {
        self.loop = loop
        self.log = log
        bulk = Bulk(log)
    }

    func turnEnded(_ turn: Turn) {
        turns.append(turn)
        log.order.append("end")
        if flushes {
            loop.wantsFlush(bulk, isBulk: true)
            loop.wantsFlush(self)
        }
        let end = SystemClock.now + busy
        while SystemClock.now < end {}
    }

    func flush() { log.order.append("flush") }
}
