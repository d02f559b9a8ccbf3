internal import BinaryCoding
internal import CGuard
package import ClusterBase
internal import FleetModel
internal import Glibc
internal import GuardCore
package import Reactor
internal import Schema

/// A host's guard: the parent of its guests, which end when it ends. Carries out what `GuardRules` say.
///
///     agent ─▶ socket ─▶ GuardOrder ─┐                   ┌─▶ fork, exec; SIGKILL; the kernel's timer
///     nodes ─▶ TLS ─▶ grants ────────┼─▶ GuardRules ─────┼─▶ disk thread: epochs
///     SIGCHLD ─▶ reaped ─────────────┘    (per turn)     └─▶ GuardWord ─▶ agent
///
/// All but the disk's work is on one thread, which never ends before the process does: children die with it.
package final class GuardProcess: TurnOwner, ReadinessHandler {
    /// What an unused guard waits for an agent.
    static let idleMax = Nanoseconds.seconds(10)
    /// How often it looks after what guests say, and what it keeps of that.
    static let trimInterval = Nanoseconds.seconds(1)
    static let outputKept: Int64 = 1 << 20
    /// Connections that have not said who they are.
    static let strangersMax = 8

    private let directory: GuardDirectory
    private let incarnation: UInt64
    private let lockFile: Int32
    private let groups: GuestGroups
    private let loop: EventLoop
    private let listener: Socket
    private let timer: Int32
    private var disk: GuardDisk?
    private var renewal: GuardRenewal?
    private var rules: GuardRules
    private var inputs: [GuardRules.Input] = []
    private struct Child {
        var vm: VMID
        var epoch: UInt64
        var isCompanion = false
    }
    // hash order: looked up only
    private var children: [Int32: Child] = [:]
    private var processes: [VMID: Int32] = [:]
    /// What was started with a VM's process and ends with it.
    private var companions: [VMID: Int32] = [:]
    /// How the last process of a VM ended, until that is told.
    private var statuses: [VMID: UInt32] = [:]
    /// Where what a VM's guest says is kept in memory.
    private var outputs: [VMID: String] = [:]
    private var trimAt: Instant?
    /// Of VMs whose process could not be started when its companion was, until that is gone: the ticket and why.
    private var unstarted: [VMID: (UInt64, String)] = [:]
    /// What the agent asked for, by its ticket.
    private var orders: [UInt64: GuardStart] = [:]
    private var agent: GuardFrames<GuardOrder>?
    private var strangers: [GuardFrames<GuardOrder>] = []
    /// Where it renews.
    private var addresses: [String] = []
    private var idleSince: Instant?
    private var watchdog: HardwareWatchdog?
    /// When the kernel ends this process.
    private var armedUntil: Instant?
    private var isEnding = false
    private var isOver = false
    /// What it is to go on as, when nothing is half done.
    private var successor: String?

    /// Takes the lock of the node's directory; nil when another guard has it. The process's standard error is its log.
    /// `inherited` is what this process left for itself when it became this program.
    package init?(nodeDirectory: String, inherited: GuardInheritance? = nil) throws(GuardFailure) {
        directory = GuardDirectory(of: nodeDirectory)
        if let problem = directory.problem { throw GuardFailure(problem) }
        try directory.make()
        let handed = try inherited?.read()
        if let handed, let inherited {
            lockFile = inherited.lockFile
            incarnation = handed.incarnation
        } else {
            guard let file = try directory.lock() else { return nil }
            lockFile = file
            incarnation = try directory.nextIncarnation()
        }
        let (highest, lines) = try directory.epochs()
        if lines > highest.count + GuardDirectory.staleLinesMax { try directory.keep(highest) }
        rules = handed.map { GuardRules(highest: highest, handed: $0.rules) } ?? GuardRules(highest: highest)
        groups = GuestGroups(nodeDirectory: nodeDirectory)
        cguard_name("muster-guard")
        let isLocked = cguard_lock_memory()
        // Where the system allows it: with this process all guests go.
        _ = cguard_spare("-900")
        // And what it renews late is lost.
        _ = ThreadPriority.comeBefore(steps: GuardPriority.told)
        var made: Int32 = 0
        let result = cguard_timer_make(&made)
        guard result == 0 else {
            throw GuardFailure("The kernel gives no timer: \(String(cString: strerror(-result))).")
        }
        timer = made
        do throws(SystemError) {
            loop = try EventLoop()
            listener = try Socket.listening(onPath: directory.socketPath)
        } catch {
            throw GuardFailure("The guard can't be reached: \(error).")
        }
        var settled: ((GuardDisk.Prepared) -> Void)?
        let mail = loop.makeMailbox(of: GuardDisk.Prepared.self, itemsMax: GuardDisk.jobsMax) { settled?($0) }
        disk = try GuardDisk(directory, highest) { prepared in
            precondition(mail.post(prepared), "the guard's mailbox is full: it has stood still for too long")
        }
        settled = { [unowned self] in self.prepared($0) }
        do throws(SystemError) {
            try loop.handleSignals([SIGCHLD, SIGTERM, SIGINT, SIGHUP]) { [unowned self] in self.signalled($0) }
            _ = try listener.watched(by: loop, self)
        } catch {
            throw GuardFailure("The guard can't be reached: \(error).")
        }
        renewal = GuardRenewal(
            loop, path: nodeDirectory, log: { [unowned self] in self.log($0) },
            onGrant: { [unowned self] in self.inputs.append(.granted($0)) })
        log(
            "guard \(incarnation) \(handed == nil ? "begins" : "goes on as another program"), process \(getpid()), "
                + "\(highest.count) VMs known, \(processes.count) run"
                + (isLocked == 0 ? "" : "; its memory can't be locked: \(String(cString: strerror(-isLocked)))")
                + (groups.problem.isEmpty ? "" : "; \(groups.problem)"))
        if let handed { goOn(handed) }
    }

    /// Runs until it is told to end and its guests are gone, or nobody needs it.
    package func run() {
        loop.owner = self
        while !isOver { loop.turn(waitingAtMost: .seconds(1)) }
        unlink(directory.socketPath)
        groups.close()
    }

    private func log(_ line: String) {
        let milliseconds = SystemClock.now.nanoseconds / 1_000_000
        _ = disk?.put(.log("boot+\(milliseconds / 1_000).\(String(1_000 + milliseconds % 1_000).dropFirst())s \(line)"))
    }

    // MARK: Turns

    package var deadline: Instant {
        if !inputs.isEmpty { return .origin }
        var next = rules.deadline ?? Instant(nanoseconds: .max)
        if let idleSince { next = min(next, idleSince + GuardProcess.idleMax) }
        if let trimAt { next = min(next, trimAt) }
        let due = renewal?.deadline(newestSentAt: rules.newestSentAt, isNeeded: !rules.isIdle)
        return due.map { min(next, $0) } ?? next
    }

    package func turnEnded(_ turn: Turn) {
        while true {
            let taken = inputs
            inputs.removeAll(keepingCapacity: true)
            let effects = rules.step(taken, now: SystemClock.now)
            // First all of them stand still, then one after the other ends.
            for case .kill(let vm, let epoch, _) in effects { freeze(vm, epoch) }
            for effect in effects { carryOut(effect) }
            if inputs.isEmpty { break }
        }
        if groups.hasLeftovers { groups.removeLeftovers() }
        trim()
        if let successor { become(successor) }
        renewal?.tend(
            loop.now, newestSentAt: rules.newestSentAt, digest: rules.digest, isNeeded: !rules.isIdle)
        let isIdle = rules.isIdle && agent == nil
        idleSince = isIdle ? idleSince ?? loop.now : nil
        let isForgotten = idleSince.map { loop.now - $0 >= GuardProcess.idleMax } ?? false
        if rules.isIdle && isEnding || isForgotten { isOver = true }
    }

    private func carryOut(_ effect: GuardRules.Effect) {
        switch effect {
        case .arm(let moment):
            let result = cguard_timer_set(timer, moment.map { max(1, $0.nanoseconds) } ?? 0)
            // Without it nothing here is safe; the guests go with this process.
            precondition(result == 0, "the kernel's timer can't be set: errno \(-result)")
            armedUntil = moment
            feedWatchdog()
        case .start(let vm, let epoch, let ticket):
            let path = orders[ticket]?.errorPath ?? "/dev/null"
            if disk?.put(.prepare(vm, epoch: epoch, ticket: ticket, errorPath: path)) != true {
                failed(vm, epoch, ticket, "the guard's disk has stood still for too long")
            }
        case .refuse(let ticket, let refusal): refuse(ticket, "\(refusal)")
        case .kill(let vm, let epoch, let cause):
            if cause != .asked { log("VM \(vm) epoch \(epoch): \(cause.text)") }
            // One that is still being prepared is not started any more.
            if processes[vm] != nil || companions[vm] != nil { kill(vm, epoch) }
        case .confirm(let vm, let epoch, let cause): confirmed(vm, epoch, cause)
        case .renew(let isWhole): if isWhole { renewal?.wantWhole() }
        }
    }

    private func feedWatchdog() {
        if let armedUntil { watchdog?.feed(until: armedUntil, now: SystemClock.now) } else { watchdog?.rest() }
    }

    private func watch(with path: String) {
        if path == watchdog?.path ?? "" { return }
        watchdog?.rest()
        watchdog = path.isEmpty ? nil : HardwareWatchdog(path) { [unowned self] in self.log($0) }
        feedWatchdog()
    }

    // MARK: Starting and ending

    /// It writes nothing more, whatever its end takes.
    private func freeze(_ vm: VMID, _ epoch: UInt64) {
        let all = [processes[vm], companions[vm]].compactMap { $0 }
        if all.isEmpty || groups.freeze(vm, epoch) { return }
        for process in all { _ = cguard_stop(process) }
    }

    private func kill(_ vm: VMID, _ epoch: UInt64) {
        groups.kill(vm, epoch)
        for process in [processes[vm], companions[vm]].compactMap({ $0 }) { _ = cguard_kill(process) }
    }

    private func failed(_ vm: VMID, _ epoch: UInt64, _ ticket: UInt64, _ reason: String) {
        inputs.append(.startFailed(vm, epoch: epoch))
        refuse(ticket, reason)
    }

    private func refuse(_ ticket: UInt64, _ reason: String) {
        orders[ticket] = nil
        say(.refused(GuardRefused(ticket: ticket, reason: reason)))
    }

    private func prepared(_ job: GuardDisk.Prepared) {
        let file: Int32
        switch job.errorFile {
        case .failure(let failure): return failed(job.vm, job.epoch, job.ticket, failure.description)
        case .success(let opened): file = opened
        }
        defer { close(file) }
        guard let order = orders.removeValue(forKey: job.ticket) else {
            return failed(job.vm, job.epoch, job.ticket, "its agent is gone")
        }
        // The disk took its time, and meanwhile the lease may have come to its end or the order been taken back.
        guard let guest = rules.guests[job.vm], guest.epoch == job.epoch, guest.state == .starting,
            guest.isolation == .keep || rules.mayRun(SystemClock.now)
        else { return failed(job.vm, job.epoch, job.ticket, "\(GuardRules.Refusal.noLease)") }
        var group: Int32?
        do throws(GuardFailure) {
            group = try groups.make(job.vm, job.epoch, cpuMillis: order.cpuMillis, memoryMiB: order.memoryMib)
        } catch {
            return failed(job.vm, job.epoch, job.ticket, error.description)
        }
        defer { if let group { close(group) } }
        var lines: [Int32] = [-1, -1]
        if !order.companion.isEmpty {
            let made = cguard_line(&lines)
            var companion = made
            if made == 0 {
                companion = GuardProcess.start(order.companion, order.companionWords, -1, group ?? -1, lines[0], order)
            }
            guard companion > 0 else {
                for line in lines where line >= 0 { close(line) }
                groups.remove(job.vm, job.epoch)
                return failed(
                    job.vm, job.epoch, job.ticket,
                    "can't start \(order.companion): \(String(cString: strerror(-companion)))")
            }
            children[companion] = Child(vm: job.vm, epoch: job.epoch, isCompanion: true)
            companions[job.vm] = companion
        }
        let process = GuardProcess.start(order.program, order.words, file, group ?? -1, lines[1], order)
        for line in lines where line >= 0 { close(line) }
        guard process > 0 else {
            let text = "can't start \(order.program): \(String(cString: strerror(-process)))"
            guard let companion = companions[job.vm] else {
                groups.remove(job.vm, job.epoch)
                return failed(job.vm, job.epoch, job.ticket, text)
            }
            // What was started is gone first.
            unstarted[job.vm] = (job.ticket, text)
            _ = cguard_kill(companion)
            return
        }
        children[process] = Child(vm: job.vm, epoch: job.epoch)
        processes[job.vm] = process
        if !order.output.isEmpty { outputs[job.vm] = order.output }
        inputs.append(.started(job.vm, epoch: job.epoch))
        say(.started(GuardStarted(ticket: job.ticket, process: UInt32(process))))
    }

    private func signalled(_ signal: Int32) {
        guard signal == SIGCHLD else {
            if signal == SIGTERM || signal == SIGINT { end("signal \(signal)") }
            return
        }
        var status: Int32 = 0
        while true {
            let process = cguard_reap(&status)
            if process <= 0 { return }
            guard let child = children.removeValue(forKey: process) else { continue }
            if child.isCompanion {
                companions[child.vm] = nil
                // Neither is anything without the other.
                if processes[child.vm] != nil { inputs.append(.companionEnded(child.vm, epoch: child.epoch)) }
            } else {
                processes[child.vm] = nil
                statuses[child.vm] = UInt32(status)
                if let companion = companions[child.vm] { _ = cguard_kill(companion) }
            }
            if processes[child.vm] == nil && companions[child.vm] == nil { left(child) }
        }
    }

    /// What guests say does not fill the memory, however long nobody reads it.
    private func trim() {
        if outputs.isEmpty { return trimAt = nil }
        guard let at = trimAt, loop.now < at else {
            trimAt = loop.now + GuardProcess.trimInterval
            for vm in outputs.keys.sorted() {
                if let path = outputs[vm] { _ = cguard_trim(path, GuardProcess.outputKept) }
            }
            return
        }
    }

    /// Nothing of it runs any more.
    private func left(_ child: Child) {
        groups.remove(child.vm, child.epoch)
        outputs[child.vm] = nil
        if let (ticket, text) = unstarted.removeValue(forKey: child.vm) {
            failed(child.vm, child.epoch, ticket, text)
        } else {
            inputs.append(.reaped(child.vm, epoch: child.epoch))
        }
    }

    /// A program with all its words, on its own; its number, or the negated errno.
    private static func start(
        _ program: String, _ arguments: [String], _ errorFile: Int32, _ group: Int32, _ line: Int32,
        _ order: GuardStart
    ) -> Int32 {
        var who = cguard_user()
        // One that is told by halves runs nowhere.
        guard order.moreGroups.count <= GuardLink.User.moreGroupsMax, order.user < UInt32.max, order.group < UInt32.max,
            order.user == 0 || order.group > 0
        else {
            return -EINVAL
        }
        (who.user, who.group, who.more_count) = (order.user, order.group, Int32(order.moreGroups.count))
        withUnsafeMutableBytes(of: &who.more) { more in
            for (at, group) in order.moreGroups.enumerated() {
                more.storeBytes(of: group, toByteOffset: 4 * at, as: UInt32.self)
            }
        }
        var words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) }
        words.append(nil)
        var environment: [UnsafeMutablePointer<CChar>?] = [strdup("PATH=/usr/bin:/bin"), strdup("LC_ALL=C"), nil]
        defer { for word in words + environment { free(word) } }
        let process = cguard_start(program, &words, &environment, errorFile, group, line, &who)
        environment.removeAll(keepingCapacity: true)
        return process
    }

    private func confirmed(_ vm: VMID, _ epoch: UInt64, _ cause: GuardRules.Cause?) {
        let status = statuses.removeValue(forKey: vm) ?? 0
        if cause != nil && cause != .asked { log("VM \(vm) epoch \(epoch) is gone") }
        say(
            .ended(
                GuardEnded(
                    vm: vm.rawValue, epoch: epoch, incarnation: incarnation, status: status,
                    cause: cause?.rawValue ?? 0)))
    }

    private func end(_ why: String) {
        if isEnding { return }
        isEnding = true
        log("ends: \(why)")
        inputs.append(.ending)
    }

    // MARK: The agent

    private func say(_ body: GuardWord.Body) { agent?.send(GuardWord(version: 1, body: body)) }

    package func ready(_ readiness: Readiness) {
        var from = SocketAddress.loopback()
        do throws(SystemError) {
            while let socket = try listener.accept(from: &from) {
                guard strangers.count < GuardProcess.strangersMax else { continue }
                let line = try GuardFrames<GuardOrder>(loop, socket)
                line.onMessage = { [unowned self, unowned line] in self.heard($0, line) }
                line.onEnd = { [unowned self, unowned line] in self.lost(line) }
                strangers.append(line)
            }
        } catch {
            log("no connection could be taken: \(error)")
        }
    }

    private func lost(_ line: GuardFrames<GuardOrder>) {
        strangers.removeAll { $0 === line }
        guard agent === line else { return }
        agent = nil
        // What it asked for and nobody waits for any more.
        orders = [:]
    }

    private func heard(_ order: GuardOrder, _ line: GuardFrames<GuardOrder>) {
        guard order.version == 1, let body = order.body else {
            log("an agent of another version was turned away; upgrade the older of the two")
            line.close()
            return lost(line)
        }
        if case .hello = body {
            strangers.removeAll { $0 === line }
            if agent !== line { agent?.close() }
            agent = line
            return welcome()
        }
        // Only who has said hello last is listened to.
        guard agent === line else { return }
        switch body {
        case .hello: break
        case .grant(let grant): take(grant)
        case .start(let start):
            orders[start.ticket] = start
            inputs.append(.startAsked(VMID(start.vm), epoch: start.epoch, ticket: start.ticket))
        case .stop(let stop): inputs.append(.stopAsked(VMID(stop.vm), epoch: stop.epoch))
        case .nodes(let nodes):
            addresses = nodes.addresses
            renewal?.setNodes(addresses.compactMap { GuardProcess.address($0) })
            watch(with: nodes.watchdog)
        case .end: end("its agent wants it")
        case .upgrade(let upgrade): successor = upgrade.program
        }
    }

    private func welcome() {
        let guests = processes.keys.sorted().map { vm in
            GuardGuest(vm: vm.rawValue, epoch: rules.guests[vm]?.epoch ?? 0, process: UInt32(processes[vm] ?? 0))
        }
        say(
            .welcome(
                GuardWelcome(
                    incarnation: incarnation, guests: guests,
                    leaseUntil: UInt64(max(0, rules.leaseUntil?.nanoseconds ?? 0)),
                    program: GuardInheritance.identity(of: "/proc/self/exe"), groupsProblem: groups.problem)))
    }

    private func take(_ grant: GuardGrant) {
        let permits = grant.permits.map {
            RunPermit(
                VMID($0.vm), epoch: $0.epoch,
                isolation: VMDescription.Isolation(rawValue: $0.isolation) ?? .stop)
        }
        inputs.append(
            .granted(
                LeaseGrant(
                    sentAt: Instant(nanoseconds: Int64(clamping: grant.sentAt)),
                    length: .milliseconds(Int64(clamping: min(grant.lengthMilliseconds, 1 << 32))),
                    generation: LogIndex(grant.generation), permits: permits.sorted())))
    }

    /// `10.0.0.1:7470` or `[::1]:7470`.
    static func address(_ text: String) -> SocketAddress? {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            return nil
        }
        let host = text[..<colon].drop { $0 == "[" }
        return SocketAddress(digits: String(host.last == "]" ? host.dropLast() : host), port: port)
    }
}

// Going on as another program: the process, its children and the lease stay.

extension GuardProcess {
    /// Becomes `program` as soon as nothing is half done. When that fails, everything goes on as it is.
    private func become(_ program: String) {
        guard orders.isEmpty, let handed = rules.handover else { return }
        successor = nil
        // The kernel's timer does not outlive this program; a child that waits for the same moment does.
        let watcher = rules.endsAt.map { cguard_watch(max(1, $0.nanoseconds)) } ?? 0
        guard watcher >= 0 else {
            return log("the guard goes on as it is: no process is to be had: \(String(cString: strerror(-watcher)))")
        }
        defer { if watcher > 0 { _ = cguard_kill(watcher) } }
        let state = GuardInheritance.State(
            incarnation: incarnation, rules: handed, processes: processes, companions: companions, outputs: outputs,
            addresses: addresses,
            watcher: watcher)
        do throws(GuardFailure) {
            let inheritance = try GuardInheritance(state, lockFile: lockFile)
            // The next program opens it anew.
            watchdog?.rest()
            defer { feedWatchdog() }
            let problem = inheritance.become(program, directory.nodePath)
            log("the guard goes on as it is: it can't become \(program): \(problem)")
        } catch {
            log("the guard goes on as it is: \(error)")
        }
    }

    /// Takes over what a program of before had in this process.
    private func goOn(_ handed: GuardInheritance.State) {
        (processes, companions, outputs) = (handed.processes, handed.companions, handed.outputs)
        for vm in rules.guests.keys.sorted() {
            guard let epoch = rules.guests[vm]?.epoch else { continue }
            if let process = processes[vm] { children[process] = Child(vm: vm, epoch: epoch) }
            if let process = companions[vm] { children[process] = Child(vm: vm, epoch: epoch, isCompanion: true) }
        }
        addresses = handed.addresses
        renewal?.setNodes(addresses.compactMap { GuardProcess.address($0) })
        // Arms the kernel's timer, and then nobody else needs to wait for the lease's end.
        for effect in rules.step([], now: SystemClock.now) { carryOut(effect) }
        if handed.watcher > 0 { _ = cguard_kill(handed.watcher) }
        for guest in handed.rules.guests where guest.guest.isDying {
            freeze(guest.vm, guest.guest.epoch)
            kill(guest.vm, guest.guest.epoch)
        }
        // Who ended meanwhile told nobody.
        signalled(SIGCHLD)
    }
}
