internal import BinaryCoding
internal import CGuard
package import ClusterBase
package import FleetModel
internal import Glibc
internal import GuardCore
package import Reactor
internal import Schema

/// An agent's line to its host's guard. Starts a guard where there is none, and comes back to one that is there. Belongs to
/// the loop's thread.
///
///     down ─▶ connect ─▶ (nobody: start a guard) ─▶ hello ─▶ welcome: up ─▶ lost: down
package final class GuardLink: TimerHandler {
    package struct Guest: Hashable, Sendable {
        package var vm: VMID
        package var epoch: UInt64
        package var process: Int32
        package init(vm: VMID, epoch: UInt64, process: Int32) {
            self.vm = vm
            self.epoch = epoch
            self.process = process
        }
    }

    package enum Event: Sendable {
        /// These are the guests that it has; whatever else runs here, runs without a guard.
        case up(incarnation: UInt64, guests: [Guest])
        case down
        /// Nobody answers, and why that may be.
        case problem(String)
        /// This VM's copy of this epoch is gone. `status` has 128 and more for a signal; `cause` says why the guard stopped
        /// it, where it did so by itself.
        case ended(VMID, epoch: UInt64, status: Int32, cause: Cause?)
    }

    private struct Ask {
        var order: GuardStart
        var until: Instant
        var done: (Result<Int32, GuardFailure>) -> Void
    }

    static let retry = Nanoseconds.milliseconds(50)
    /// A guard that was started gets so long until another is.
    static let startInterval = Nanoseconds.seconds(1)
    /// What a start waits for a guard, and for its answer.
    static let askMax = Nanoseconds.seconds(10)
    /// Down for so long is worth a word.
    static let problemAfter = Nanoseconds.seconds(5)

    private let loop: EventLoop
    private let directory: GuardDirectory
    private let program: String
    private let words: [String]
    private let onEvent: (Event) -> Void
    private let agentIncarnation: UInt64
    private var line: GuardFrames<GuardWord>?
    private var timer: TimerID?
    private var timerAt = Instant.origin
    private var startedAt: Instant?
    private var downSince: Instant
    private var hasComplained = false
    package private(set) var incarnation: UInt64?
    package private(set) var guests: [Guest] = []
    /// What of cgroups is not to be had for guests, as a sentence; empty when all is.
    package private(set) var groupsProblem = ""
    /// The program that was asked to become this agent's.
    private var askedFor: String?
    private var ticketLast: UInt64 = 0
    // hash order: looked up, and read by sorted keys
    private var asks: [UInt64: Ask] = [:]
    private var grant: GuardGrant?
    private var nodes: [String] = []
    private let priority: Int
    private let watchdog: String
    private var isClosed = false

    /// The guard is started as `program`, which is this very program where nothing else is said, with its name and
    /// `guard` and the directory for arguments. It comes before other work by `priority` steps of niceness; one that is there
    /// already keeps what it began with. `watchdog` is the device that resets the host, if guests outlive their lease.
    package init(
        _ loop: EventLoop, nodeDirectory: String, program: String = "/proc/self/exe", incarnation: UInt64,
        priority: Int = GuardPriority.standard, watchdog: String = "", onEvent: @escaping (Event) -> Void
    ) throws(GuardFailure) {
        self.loop = loop
        directory = GuardDirectory(of: nodeDirectory)
        if let problem = directory.problem { throw GuardFailure(problem) }
        try directory.make()
        self.program = program
        self.priority = priority
        self.watchdog = watchdog
        words = ["muster-guard", "guard", nodeDirectory]
        agentIncarnation = incarnation
        self.onEvent = onEvent
        downSince = loop.now
        timer = loop.setTimer(at: .origin, self, tag: 0)
    }

    package var isUp: Bool { incarnation != nil }

    // MARK: Orders

    /// Hands on a lease that this host was granted; the newest is told again to a guard that comes later.
    package func give(sentAt: Instant, length: Nanoseconds, generation: LogIndex, _ permits: [RunPermit]) {
        let told = GuardGrant(
            sentAt: UInt64(max(0, sentAt.nanoseconds)), lengthMilliseconds: UInt64(max(0, length.milliseconds)),
            generation: generation.rawValue,
            permits: permits.map {
                GuardPermit(vm: $0.vm.rawValue, epoch: $0.epoch, isolation: $0.isolation.rawValue)
            })
        grant = told
        send(.grant(told))
    }

    /// Where the guard can renew the lease by itself.
    package func setNodes(_ addresses: [String]) {
        if addresses == nodes { return }
        nodes = addresses
        tellNodes()
    }

    private func tellNodes() {
        if !nodes.isEmpty || !watchdog.isEmpty { send(.nodes(GuardNodes(addresses: nodes, watchdog: watchdog))) }
    }

    /// A program that is started before a guest's and ends with it; the two have a line to each other as descriptor 3.
    package struct Companion: Hashable, Sendable {
        package var program: String
        package var words: [String]
        package init(program: String, words: [String]) {
            self.program = program
            self.words = words
        }
    }

    /// Whom a guest's programs run as, in place of the guard's user.
    package struct User: Hashable, Sendable {
        package var user: UInt32
        package var group: UInt32
        /// At most `moreGroupsMax`.
        package var moreGroups: [UInt32]
        package static let moreGroupsMax = Int(CGUARD_GROUPS_MAX)
        package init(user: UInt32, group: UInt32, moreGroups: [UInt32] = []) {
            self.user = user
            self.group = group
            self.moreGroups = moreGroups
        }
    }

    /// Has the guard start a program as a guest; answers with its process number, or why it does not run.
    package func start(
        _ vm: VMID, epoch: UInt64, program: String, _ words: [String], errorPath: String, cpuMillis: UInt64 = 0,
        memoryMiB: UInt64 = 0, output: String = "", companion: Companion? = nil, user: User? = nil,
        _ done: @escaping (Result<Int32, GuardFailure>) -> Void
    ) {
        ticketLast += 1
        let order = GuardStart(
            ticket: ticketLast, vm: vm.rawValue, epoch: epoch, program: program, words: words, errorPath: errorPath,
            cpuMillis: cpuMillis, memoryMib: memoryMiB, companion: companion?.program ?? "",
            companionWords: companion?.words ?? [], output: output, user: user?.user ?? 0, group: user?.group ?? 0,
            moreGroups: user?.moreGroups ?? [])
        asks[ticketLast] = Ask(order: order, until: loop.now + GuardLink.askMax, done: done)
        send(.start(order))
        schedule(after: GuardLink.askMax)
    }

    /// Ends what the guard has of a VM up to this epoch, at once.
    package func stop(_ vm: VMID, epoch: UInt64) { send(.stop(GuardStop(vm: vm.rawValue, epoch: epoch))) }

    /// No event follows; the guard and its guests stay.
    package func close() {
        isClosed = true
        if let timer { loop.cancel(timer) }
        timer = nil
        line?.close()
        line = nil
        incarnation = nil
    }

    private func send(_ body: GuardOrder.Body) {
        guard isUp else { return }
        line?.send(GuardOrder(version: 1, body: body))
    }

    // MARK: The line

    private func schedule(after time: Nanoseconds) {
        let at = SystemClock.now + time
        if isClosed || (timer != nil && timerAt <= at) { return }
        if let timer { loop.cancel(timer) }
        (timer, timerAt) = (loop.setTimer(at: at, self, tag: 0), at)
    }

    package func timerFired(_ tag: Int) {
        timer = nil
        giveUpAsks()
        if !isUp { tend() }
        if !asks.isEmpty { schedule(after: .milliseconds(500)) }
    }

    private func giveUpAsks() {
        for ticket in asks.keys.sorted() {
            guard let ask = asks[ticket], loop.now >= ask.until else { continue }
            asks[ticket] = nil
            // It may come to it later.
            send(.stop(GuardStop(vm: ask.order.vm, epoch: ask.order.epoch)))
            ask.done(.failure(GuardFailure("the host's guard does not answer; see \(directory.logPath)")))
        }
    }

    private func tend() {
        if !hasComplained, loop.now - downSince >= GuardLink.problemAfter {
            hasComplained = true
            onEvent(.problem("the host's guard does not answer, so no VM starts here; see \(directory.logPath)"))
        }
        schedule(after: GuardLink.retry)
        if line != nil { return }
        do throws(SystemError) {
            let line = try GuardFrames<GuardWord>(loop, try Socket.connected(toPath: directory.socketPath))
            line.onMessage = { [unowned self] in heard($0) }
            line.onEnd = { [unowned self] in lost() }
            self.line = line
            line.send(GuardOrder(version: 1, body: .hello(GuardHello(incarnation: agentIncarnation))))
        } catch {
            startGuard()
        }
    }

    /// Several that are started at once are no harm: one gets the lock.
    private func startGuard() {
        if let startedAt, loop.now - startedAt < GuardLink.startInterval { return }
        startedAt = loop.now
        let log = open(directory.logPath, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o600)
        defer { if log >= 0 { Glibc.close(log) } }
        var words: [UnsafeMutablePointer<CChar>?] = self.words.map { strdup($0) }
        words.append(nil)
        var environment: [UnsafeMutablePointer<CChar>?] = GuardPriority.environment(priority).map { strdup($0) }
        environment.append(nil)
        defer { for word in words + environment { free(word) } }
        let result = cguard_detach(program, &words, &environment, log)
        environment.removeAll(keepingCapacity: true)
        if result != 0, !hasComplained {
            hasComplained = true
            onEvent(.problem("the host's guard can't be started: \(String(cString: strerror(-result)))"))
        }
    }

    /// A guard that is another program than this agent's becomes it, with its guests; once, for one that stays what it is can't.
    private func upgrade(_ its: String) {
        let own = GuardInheritance.identity(of: program)
        guard !its.isEmpty, !own.isEmpty, its != own, askedFor != its else { return }
        askedFor = its
        // What is at the program's path may be yet another one by then.
        send(.upgrade(GuardUpgrade(program: program == "/proc/self/exe" ? "/proc/\(getpid())/exe" : program)))
    }

    private func lost() {
        line = nil
        let wasUp = isUp
        incarnation = nil
        guests = []
        downSince = loop.now
        hasComplained = false
        // What it was asked and had not answered runs nowhere: its guests went with it.
        for ticket in asks.keys.sorted() where wasUp {
            let failure = GuardFailure("the host's guard ended; it is started again")
            asks.removeValue(forKey: ticket)?.done(.failure(failure))
        }
        schedule(after: .zero)
        if wasUp { onEvent(.down) }
    }

    private func heard(_ word: GuardWord) {
        guard word.version == 1, let body = word.body else {
            line?.close()
            return lost()
        }
        switch body {
        case .welcome(let welcome):
            incarnation = welcome.incarnation
            guests = welcome.guests.map {
                Guest(vm: VMID($0.vm), epoch: $0.epoch, process: Int32(clamping: $0.process))
            }
            tellNodes()
            if let grant { send(.grant(grant)) }
            for ticket in asks.keys.sorted() { if let ask = asks[ticket] { send(.start(ask.order)) } }
            groupsProblem = welcome.groupsProblem
            upgrade(welcome.program)
            onEvent(.up(incarnation: welcome.incarnation, guests: guests))
        case .started(let started):
            asks.removeValue(forKey: started.ticket)?.done(.success(Int32(clamping: started.process)))
        case .refused(let refused):
            asks.removeValue(forKey: refused.ticket)?.done(.failure(GuardFailure(refused.reason)))
        case .ended(let ended):
            // A confirmation of another guard's says nothing of this one's guests.
            guard ended.incarnation == incarnation else { return }
            onEvent(
                .ended(
                    VMID(ended.vm), epoch: ended.epoch, status: Int32(clamping: ended.status),
                    cause: GuardLink.cause(ended.cause)))
        }
    }
}

extension GuardLink {
    /// Why the guard stopped a guest by itself.
    package struct Cause: Hashable, Sendable {
        /// For people.
        package let text: String
        /// It ended with the guard.
        package let isHostsFault: Bool
    }

    /// Nil where it was asked to, or did not.
    private static func cause(_ number: UInt32) -> Cause? {
        guard let cause = GuardRules.Cause(rawValue: number), cause != .asked else { return nil }
        return Cause(text: cause.text, isHostsFault: cause == .guardEnds)
    }
}
