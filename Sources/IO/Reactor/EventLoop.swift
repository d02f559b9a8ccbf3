internal import CLinux
package import ClusterBase
internal import Glibc

/// Is told when a descriptor can be read or written.
package protocol ReadinessHandler: AnyObject {
    func ready(_ readiness: Readiness)
}

/// Is told when a timer is due, with the tag that it was set with.
package protocol TimerHandler: AnyObject {
    func timerFired(_ tag: Int)
}

/// Has output that leaves at the end of the turn.
package protocol FlushHandler: AnyObject {
    func flush()
}

/// Has work that takes turns with others': see `EventLoop.mayLabour`.
package protocol LabourHandler: AnyObject {
    func labour()
}

/// What the loop works for: a node's engine, a test.
package protocol TurnOwner: AnyObject {
    /// When it wants a turn even if nothing happens.
    var deadline: Instant { get }
    /// Called once per turn, after everything that was ready was read and all due timers ran, before output leaves.
    func turnEnded(_ turn: Turn)
}

/// What a descriptor is watched for.
package struct Readiness: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package static let readable = Readiness(rawValue: 1)
    package static let writable = Readiness(rawValue: 2)
    /// The connection ended or failed; always told, whatever is watched for.
    package static let hangup = Readiness(rawValue: 4)

    var epoll: UInt32 {
        (contains(.readable) ? EPOLLIN.rawValue | EPOLLRDHUP.rawValue : 0)
            | (contains(.writable) ? EPOLLOUT.rawValue : 0)
    }

    init(epoll events: UInt32) {
        var found: Readiness = []
        if events & (EPOLLIN.rawValue | EPOLLRDHUP.rawValue) != 0 { found.insert(.readable) }
        if events & EPOLLOUT.rawValue != 0 { found.insert(.writable) }
        if events & (EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0 { found.insert(.hangup) }
        self = found
    }
}

/// One descriptor under watch. Given back before the descriptor is closed.
package struct Watch: Hashable, Sendable {
    let slot: UInt32
    let generation: UInt32
    var tag: UInt64 { UInt64(generation) << 32 | UInt64(slot) }
}

/// What one turn of the loop was like, for whoever must tell its own pauses from a silent peer.
package struct Turn: Hashable, Sendable {
    package var now: Instant
    /// How much later than it asked for the loop woke up: the time that the machine gave to others.
    package var lateness: Nanoseconds
    /// From the last turn's wake-up to this one's wait: how long nobody looked at the sockets.
    package var gap: Nanoseconds
    /// False when more was ready than one turn takes: what peers sent may still wait unread.
    package var isDrained: Bool
}

/// The loop's own accounts since its start.
package struct LoopCounters: Hashable, Sendable {
    package var turns: UInt64 = 0
    /// Descriptors found ready.
    package var events: UInt64 = 0
    package var timersFired: UInt64 = 0
    package var latenessLongest = Nanoseconds.zero
    /// The longest time from waking up to waiting again.
    package var turnLongest = Nanoseconds.zero
}

/// Waits for sockets, timers and mail from other threads, and hands each to its handler. Owned by the thread that runs
/// it; only `Mailbox` and `EventLoop.Waker` are for others.
///
///     wait ─▶ ready sockets ─▶ some of the crowd ─▶ mailboxes ─▶ due timers ─▶ owner.turnEnded ─▶ flush ─┐
///       ▲                                                                                                │
///       └────────────────────────────────────────────────────────────────────────────────────────────────┘
///
/// Timers come after sockets, so that no verdict about a peer is reached while its message lies unread; output comes
/// last, so that everything a turn says to one peer leaves in one write.
package final class EventLoop {
    /// As of the turn's beginning, and again when the owner is called.
    package private(set) var now: Instant
    package weak var owner: (any TurnOwner)?
    package private(set) var counters = LoopCounters()
    /// Lent to whoever reads a socket; not kept over a call.
    package let scratch: UnsafeMutableRawBufferPointer
    /// Bytes of `scratch`.
    package static let scratchBytes = 1 << 16

    /// Events of the crowd that one turn handles, so that a flood of clients delays neither the peers nor its own first.
    package static let crowdPerTurnMax = 128
    /// Looks at the sockets this often in a turn before timers run, when each look is filled.
    static let looksMax = 4
    /// No wait is longer, so that a jump of a clock has a bound.
    static let waitMax = Nanoseconds.seconds(60)
    /// Pieces of work per turn that ask `mayLabour` first: a few milliseconds.
    package static let laboursPerTurnMax = 8

    private struct Slot {
        var generation: UInt32 = 1
        var fd: Int32 = -1
        var handler: (any ReadinessHandler)?
        var isCrowd = false
    }

    let epoll: Int32
    /// Watched by `epoll` as one descriptor.
    private let crowd: Int32
    private var slots: [Slot] = []
    private var free: [UInt32] = []
    private let found: UnsafeMutablePointer<clinux_event>
    private var timers = TimerTable()
    private var flushFirst: [any FlushHandler] = []
    private var flushLast: [any FlushHandler] = []
    private var isStopped = false
    private var waitedAt: Instant
    private var isCrowdReady = false
    private var laboursLeft = EventLoop.laboursPerTurnMax
    private var labours = RingBuffer<any LabourHandler>()
    var inboxes: [any Inbox] = []
    let waker: Waker
    private var signals: SignalWatcher?

    package init() throws(SystemError) {
        epoll = try SystemError.check(clinux_epoll_create(), "make the event loop")
        do throws(SystemError) {
            crowd = try SystemError.check(clinux_epoll_create(), "make the event loop")
        } catch {
            _ = clinux_close(epoll)
            throw error
        }
        do throws(SystemError) {
            waker = try Waker()
        } catch {
            _ = clinux_close(epoll)
            _ = clinux_close(crowd)
            throw error
        }
        now = SystemClock.now
        waitedAt = now
        scratch = .allocate(byteCount: EventLoop.scratchBytes, alignment: 64)
        found = .allocate(capacity: Int(CLINUX_EVENTS_MAX))
        // Edge-triggered: its counter is never read, each write to it is one edge.
        for (fd, events, tag) in [
            (waker.fd, EPOLLIN.rawValue | EPOLLET.rawValue, EventLoop.wakerTag),
            (crowd, EPOLLIN.rawValue, EventLoop.crowdTag),
        ] {
            let result = clinux_epoll_control(epoll, Int32(EPOLL_CTL_ADD), fd, events, tag)
            precondition(result == 0, "the loop's own descriptors could not be watched: errno \(-result)")
        }
    }

    deinit {
        _ = clinux_close(epoll)
        _ = clinux_close(crowd)
        scratch.deallocate()
        found.deallocate()
    }

    static let wakerTag = UInt64.max
    static let crowdTag = UInt64.max - 1

    // MARK: Running

    /// Runs until `stop`.
    package func run() {
        isStopped = false
        while !isStopped { turn(waitingAtMost: EventLoop.waitMax) }
    }

    /// Runs until `stop` or the moment.
    package func run(until end: Instant) {
        isStopped = false
        while !isStopped {
            let rest = end - SystemClock.now
            if rest <= .zero { return }
            turn(waitingAtMost: rest)
        }
    }

    /// Runs until `isDone`, `stop`, or the end of the time; says whether it is done.
    package func run(atMost time: Nanoseconds, until isDone: () -> Bool) -> Bool {
        isStopped = false
        let end = SystemClock.now + time
        while !isDone() {
            let rest = end - SystemClock.now
            if isStopped || rest <= .zero { return isDone() }
            turn(waitingAtMost: rest)
        }
        return true
    }

    /// Ends `run` after this turn.
    package func stop() { isStopped = true }

    /// One turn: waits for something to do, for at most so long, and does it.
    package func turn(waitingAtMost longest: Nanoseconds) {
        let asleepAt = SystemClock.now
        var wakeAt = asleepAt + min(longest, EventLoop.waitMax)
        if let owner { wakeAt = min(wakeAt, owner.deadline) }
        if let next = timers.next { wakeAt = min(wakeAt, next) }
        let mayWait =
            wakeAt > asleepAt && flushFirst.isEmpty && flushLast.isEmpty && labours.isEmpty
            && waker.willSleep(inboxes)
        let gap = asleepAt - waitedAt
        counters.turnLongest = max(counters.turnLongest, asleepAt - now)

        var count = wait(mayWait ? wakeAt - asleepAt : .zero)
        // Each look into a mailbox costs a lock: none when all were empty and nobody woke the loop since.
        let mayHaveMail = !mayWait || waker.wasWoken()
        now = SystemClock.now
        waitedAt = now
        laboursLeft = EventLoop.laboursPerTurnMax
        let lateness = mayWait && now > wakeAt ? now - wakeAt : .zero
        counters.latenessLongest = max(counters.latenessLongest, lateness)
        counters.turns += 1

        labour()
        var looks = 1
        dispatch(count)
        while count == Int(CLINUX_EVENTS_MAX) && looks < EventLoop.looksMax {
            count = wait(.zero)
            dispatch(count)
            looks += 1
        }
        if isCrowdReady {
            isCrowdReady = false
            dispatch(look(at: crowd, .zero, atMost: EventLoop.crowdPerTurnMax))
        }
        if mayHaveMail { for inbox in inboxes { inbox.drain() } }
        fireTimers()
        now = SystemClock.now
        owner?.turnEnded(
            Turn(
                now: now, lateness: lateness, gap: gap,
                isDrained: count < Int(CLINUX_EVENTS_MAX)))
        flush()
    }

    private func wait(_ time: Nanoseconds) -> Int { look(at: epoll, time, atMost: Int(CLINUX_EVENTS_MAX)) }

    private func look(at epoll: Int32, _ time: Nanoseconds, atMost max: Int) -> Int {
        let count = clinux_epoll_wait(epoll, found, Int32(max), time.count)
        precondition(count >= 0, "epoll failed: errno \(-count)")
        counters.events += UInt64(count)
        return Int(count)
    }

    private func dispatch(_ count: Int) {
        for i in 0..<count {
            let event = found[i]
            if event.tag == EventLoop.wakerTag { continue }
            if event.tag == EventLoop.crowdTag {
                isCrowdReady = true
                continue
            }
            let slot = Int(event.tag & 0xFFFF_FFFF)
            // A handler earlier in this batch may have given the slot back, and another may have it now.
            guard slots[slot].generation == UInt32(event.tag >> 32), let handler = slots[slot].handler else { continue }
            handler.ready(Readiness(epoll: event.events))
        }
    }

    private func fireTimers() {
        // Timers set for now by a timer wait for the next turn, or a handler that does so would never end this one.
        let last = timers.numberLast
        while let (handler, tag) = timers.popDue(now, numberedUpTo: last) {
            counters.timersFired += 1
            handler.timerFired(tag)
        }
    }

    private func flush() {
        var i = 0
        while i < flushFirst.count {
            flushFirst[i].flush()
            i += 1
        }
        flushFirst.removeAll(keepingCapacity: true)
        i = 0
        while i < flushLast.count {
            flushLast[i].flush()
            i += 1
        }
        flushLast.removeAll(keepingCapacity: true)
    }

    /// Calls `flush` once at the end of this turn; bulk goes after everything else.
    package func wantsFlush(_ handler: any FlushHandler, isBulk: Bool = false) {
        if isBulk { flushLast.append(handler) } else { flushFirst.append(handler) }
    }

    // MARK: Labour

    /// Whether there is room in this turn for one more piece of work that takes a good part of a millisecond and can wait,
    /// a step of a handshake say. Whoever is told no is called by `labour` in a later turn, in the order of asking, and
    /// does not watch its socket until then.
    package func mayLabour(_ handler: any LabourHandler) -> Bool {
        if laboursLeft > 0 && labours.isEmpty {
            laboursLeft -= 1
            return true
        }
        labours.append(handler)
        return false
    }

    private func labour() {
        while laboursLeft > 0, let handler = labours.popFirst() {
            laboursLeft -= 1
            handler.labour()
        }
    }

    // MARK: Timers

    /// Calls the handler at that time or soon after, never before, once. A timer for now or earlier fires in the next
    /// round of timers, which makes it the way to do something outside the present call.
    package func setTimer(at moment: Instant, _ handler: any TimerHandler, tag: Int) -> TimerID {
        timers.insert(at: moment, handler, tag)
    }

    /// The same, so long from this very moment: `now` may be the beginning of a long turn.
    package func setTimer(after time: Nanoseconds, _ handler: any TimerHandler, tag: Int) -> TimerID {
        timers.insert(at: SystemClock.now + time, handler, tag)
    }

    /// Harmless when the timer has fired.
    package func cancel(_ timer: TimerID) { timers.remove(timer) }

    package var timersPending: Int { timers.count }

    // MARK: Descriptors

    /// One of a crowd comes after all others in a turn, and at most `crowdPerTurnMax` of them do.
    func watch(
        fd: Int32, _ interest: Readiness, _ handler: any ReadinessHandler, isCrowd: Bool = false
    ) throws(SystemError) -> Watch {
        let slot: UInt32
        if let last = free.popLast() {
            slot = last
        } else {
            slot = UInt32(slots.count)
            slots.append(Slot())
        }
        let watch = Watch(slot: slot, generation: slots[Int(slot)].generation)
        let result = clinux_epoll_control(
            isCrowd ? crowd : epoll, Int32(EPOLL_CTL_ADD), fd, interest.epoll, watch.tag)
        if result < 0 {
            free.append(slot)
            throw SystemError("watch a descriptor", "\(fd)", code: -result)
        }
        slots[Int(slot)].fd = fd
        slots[Int(slot)].handler = handler
        slots[Int(slot)].isCrowd = isCrowd
        return watch
    }

    /// Watches for something else from now on.
    package func change(_ watch: Watch, to interest: Readiness) {
        let slot = slots[Int(watch.slot)]
        precondition(slot.generation == watch.generation, "watch \(watch) was given back")
        let result = clinux_epoll_control(
            slot.isCrowd ? crowd : epoll, Int32(EPOLL_CTL_MOD), slot.fd, interest.epoll, watch.tag)
        precondition(result == 0, "descriptor \(slot.fd) could not be watched for \(interest): errno \(-result)")
    }

    /// Forgets the descriptor and its handler. The descriptor is still open.
    package func unwatch(_ watch: Watch) {
        let slot = Int(watch.slot)
        guard slots[slot].generation == watch.generation else { return }
        _ = clinux_epoll_control(
            slots[slot].isCrowd ? crowd : epoll, Int32(EPOLL_CTL_DEL), slots[slot].fd, 0, 0)
        slots[slot] = Slot(generation: watch.generation &+ 1 == .max ? 1 : watch.generation &+ 1)
        free.append(watch.slot)
    }

    /// How many descriptors are watched.
    package var watched: Int { slots.count - free.count }

    // MARK: Signals

    /// Turns these signals into calls on the loop's thread. Called before any other thread starts: each thread inherits
    /// that the signals are blocked.
    package func handleSignals(
        _ signals: [Int32], _ handler: @escaping (Int32) -> Void
    ) throws(SystemError) {
        precondition(self.signals == nil, "signals are handled once per loop")
        let watcher = try SignalWatcher(signals, handler)
        watcher.watch = try watch(fd: watcher.fd, .readable, watcher)
        self.signals = watcher
    }
}

/// The signals that end a program or tell it to read its settings again.
package enum Signals {
    package static let terminate = SIGTERM
    package static let interrupt = SIGINT
    package static let hangup = SIGHUP
}

private final class SignalWatcher: ReadinessHandler {
    let fd: Int32
    let handler: (Int32) -> Void
    var watch: Watch?

    init(_ signals: [Int32], _ handler: @escaping (Int32) -> Void) throws(SystemError) {
        fd = try SystemError.check(clinux_signalfd(signals, Int32(signals.count)), "ask for signals")
        self.handler = handler
    }

    deinit { _ = clinux_close(fd) }

    func ready(_ readiness: Readiness) {
        while true {
            let signal = clinux_signalfd_next(fd)
            if signal <= 0 { return }
            handler(signal)
        }
    }
}
