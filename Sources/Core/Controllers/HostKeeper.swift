package import ClusterBase
package import FleetModel
package import NodePorts

/// Leads one host to what its cell wants of it: runs in the host's agent, over the driver.
///
///     found ──▶ registerHost ──▶ hostWork, again and again ──▶ orders for the driver
///                   ▲                   │                          │ news
///                   │ (no lease)        ▼                          ▼
///                   └────────────── lease, rows ◀── cell ◀── reportVMs, until the rows show it
///
/// What keeps a VM from running twice:
///
/// * Nothing starts, arrives or goes on after a migration without a lease, and only what the newest answer names. A lease
///   counts from when its question was sent.
/// * An epoch starts once. Of a VM there is one copy: an older epoch's is gone before another begins.
/// * When answers stay away, every VM that may start elsewhere is stopped while a fifth of the lease is left: by this, or by
///   the guard that runs them, which is handed every grant.
/// * Registering names every copy that is not known to be gone; what it names stays in force.
package struct HostKeeper: Sendable {
    package enum Input: Sendable {
        /// The host's machine or settings are others now.
        case described(HostDescription)
        /// The root's map, or the cell before, puts it into its cell under this epoch. Where that is another one, answers of the one
        /// before count for nothing; what it promised of the lease goes on until it ends.
        case assigned(epoch: UInt64, isOtherCell: Bool)
        case answered(question: UInt64, CellAnswer)
        case questionFailed(question: UInt64)
        case commandDone(number: UInt64, CellResult)
        /// It may have taken effect or not.
        case commandFailed(number: UInt64)
        case news(HypervisorNews)
        /// The cell's state may have changed: worth a question.
        case stirred
        /// The agent is about to end. Unless VMs outlive it, they end first, and that is reported.
        case ending(vmsStay: Bool)
    }

    /// What the agent has to do now.
    package struct Output: Sendable {
        package var orders: [HypervisorOrder] = []
        package var questions: [(number: UInt64, query: CellQuery)] = []
        package var command: (number: UInt64, command: CellCommand)?
        /// The newest of the lease's grants, for a guard.
        package var grant: Grant?
        /// Its cell says that the host went to this one with its VMs.
        package var wentTo: UInt64?
        package init() {}
        package var isEmpty: Bool { orders.isEmpty && questions.isEmpty && command == nil && wentTo == nil }
    }

    /// For how long this host may run what.
    package struct Grant: Hashable, Sendable {
        package var sentAt: Instant
        /// Zero when nothing is promised.
        package var length: Nanoseconds
        package var generation: LogIndex
        package var permits: [RunPermit]
        package init(sentAt: Instant, length: Nanoseconds, generation: LogIndex, permits: [RunPermit]) {
            self.sentAt = sentAt
            self.length = length
            self.generation = generation
            self.permits = permits
        }
    }

    package struct Timing: Hashable, Sendable {
        /// Between questions when nothing is under way.
        package var calm = Nanoseconds.milliseconds(500)
        /// The same while something is.
        package var busy = Nanoseconds.milliseconds(75)
        /// The same while a guest arrives, which stands still until its commit is heard.
        package var arriving = Nanoseconds.milliseconds(15)
        /// After a command that failed, and between reports that don't show in the cell's answers.
        package var retry = Nanoseconds.milliseconds(300)
        package var repetition = Nanoseconds.seconds(2)
        /// Between registrations that the cell refused.
        package var refusal = Nanoseconds.seconds(5)
        /// What a guest gets to end by itself, unless its annotation `stop-grace-ms` says otherwise.
        package var grace = Nanoseconds.seconds(10)
        /// What the last reports get before the process ends without them.
        package var endMax = Nanoseconds.seconds(1)
        package static let graceMax = Nanoseconds.seconds(600)
        package init() {}

        /// What a VM's annotation says; nil without one that can be read.
        static func grace(of spec: VMDescription) -> Nanoseconds? {
            guard let text = spec.annotations.first(where: { $0.key == "stop-grace-ms" })?.value,
                let milliseconds = UInt32(text)
            else { return nil }
            return min(.milliseconds(Int64(milliseconds)), graceMax)
        }
    }

    /// Reports in one command.
    package static let reportsMax = 256
    /// Questions without an answer; more are not asked, and the oldest is given up.
    package static let questionsMax = 4

    package let host: HostID
    package let incarnation: Incarnation
    let timing: Timing
    /// A guard stops what must not outlive the lease, and may hold a newer one than this process knows.
    private let isGuarded: Bool
    private var grant: Grant?
    private var wentTo: UInt64?
    var about: HostDescription
    private var assignment: UInt64 = 0

    // hash order: looked up, read by sorted keys, or asked whether all of it is so
    var records: [VMID: Record] = [:]
    /// The newest answer's rows, ascending.
    var work: [CellVM] = []
    /// VMs whose row or copy is another one than when it was looked at; nil for all. Looked at twice, nothing else comes of it, so
    /// that a step costs what came in, and neither what the host runs nor what is under way.
    // hash order: read by sorted keys
    package var due: Set<VMID>?
    /// VMs of those looked at that something is under way with, that the cell has to hear of, and whose copy arrives.
    // hash order: read by sorted keys, or asked whether there is one
    var (busy, owing, arriving): (Set<VMID>, Set<VMID>, Set<VMID>) = ([], [], [])
    var workIndex = LogIndex.zero
    var workAnswer = LogIndex.zero
    /// False until the rows were heard after the registration that is in force.
    var knowsWork = false
    /// Of the newest answer, or of an earlier process of this agent.
    var leaseUntil: Instant?
    var leaseLength = Nanoseconds.milliseconds(Int64(CellSetting.leaseLength.standard))

    enum Standing: Hashable, Sendable {
        case absent
        case registered
    }
    var standing = Standing.absent
    private var endingSince: Instant?
    var isEnding: Bool { endingSince != nil }
    private var endsVMs = false
    /// Why the cell does not take this host, for people.
    package private(set) var problem: String?

    private struct Question: Sendable {
        var number: UInt64
        var sentAt: Instant
        var since: LogIndex
    }
    private var questions: [Question] = []
    private var numberLast: UInt64 = 0
    private var askedAt: Instant?
    var asksAll = true
    private var isStirred = false
    private var newestSentAt: Instant?

    /// What the cell took last of VMs that this process never had, while its rows don't show it.
    var takenOfOthers: [VMID: (report: VMReport, at: Instant)] = [:]  // hash order: looked up only

    enum Sent: Sendable {
        case registration
        case reports([VMReport])
    }
    private var command: (number: UInt64, what: Sent)?
    private var commandNotBefore = Instant.origin
    private var reportedAt = Instant.origin
    var isBusy = false
    /// A mutant's: a question failed while a copied VM waits for its commit.
    var doubtsCommit = false
    private var wakeAt: Instant?

    /// One VM as this host knows it.
    struct Record: Sendable {
        var highest: UInt64 = 0
        var copy: Copy?
        /// How the copy of the highest epoch ended.
        var end: (state: VMReport.State, message: String, isHostsFault: Bool)?
        var isDiscarded = false
        /// What the cell took last, and when.
        var taken: (report: VMReport, at: Instant)?
    }

    /// What the driver has of a VM.
    struct Copy: Sendable {
        enum State: Hashable, Sendable { case starting, running, paused, arriving, copying, copied }
        enum Order: Hashable, Sendable {
            case pause, resume, finish, discard
            case stop(isForced: Bool)
            case send(UInt64)
            case cancel
        }
        var epoch: UInt64
        var state: State
        var generation: UInt64
        var isolation: VMDescription.Isolation
        var order: Order?
        var offered: UInt64
        var progressMillis: UInt32 = 0
        /// The target whose copying failed.
        var failedTarget: UInt64 = 0
        var message = ""
        /// Why it was stopped, if its owner did not ask for it.
        var stopCause: String?

        var isLeaving: Bool {
            switch order {
            case .stop, .discard: true
            default: false
            }
        }
    }

    #if MUTANTS
    package var mutant: FleetMutant?
    #endif

    func mutated(_ mutant: FleetMutant) -> Bool {
        #if MUTANTS
        self.mutant == mutant
        #else
        false
        #endif
    }

    /// `leaseUntil` is what is left of the lease of this agent's process before.
    package init(
        host: HostID, incarnation: Incarnation, about: HostDescription, found: [FoundVM] = [],
        leaseUntil: Instant? = nil, isGuarded: Bool = false,
        timing: Timing = Timing()
    ) {
        self.host = host
        self.incarnation = incarnation
        self.about = about
        self.timing = timing
        self.leaseUntil = leaseUntil
        self.isGuarded = isGuarded
        for vm in found {
            var record = Record()
            record.highest = vm.epoch
            let state: Copy.State? =
                switch vm.state {
                case .starting: vm.isArriving ? .arriving : .starting
                case .running, .copyFailed: .running
                case .paused: vm.isArriving ? .arriving : .paused
                case .copying: .copying
                case .copied: .copied
                case .stopped, .crashed: nil
                }
            if let state {
                record.copy = Copy(
                    epoch: vm.epoch, state: state, generation: vm.generation, isolation: vm.isolation,
                    offered: vm.generation)
            } else {
                record.end = (vm.state, "it ended while its host's agent was away", true)
            }
            records[vm.vm] = record
        }
    }

    // MARK: For the agent

    /// When it wants a step though nothing happened.
    package var deadline: Instant { wakeAt ?? .origin }
    package var isRegistered: Bool { standing == .registered }
    /// Until when this host may run VMs that may start elsewhere; nil before the first answer.
    package var lease: Instant? { leaseUntil }
    /// True when `ending` is done: no VM is left that would end with this process, and the cell knows or can't be told.
    package func isEnded(_ now: Instant) -> Bool {
        guard let endingSince else { return false }
        if !endsVMs { return true }
        if case .reports = command?.what { return now >= endingSince + timing.endMax }
        let isDone = !(knowsWork && !owing.isEmpty) && records.values.allSatisfy { $0.copy == nil }
        return isDone || now >= endingSince + timing.endMax
    }
    /// The rows of VMs that are this host's, as it heard them last.
    package var known: [CellVM] { work }
    /// True when nothing is under way: it has nothing to look at before something comes in.
    package var isSettled: Bool { due?.isEmpty ?? false && busy.isEmpty && owing.isEmpty }
    /// What it knows of a VM, for people who look for a fault.
    package func describe(_ vm: VMID) -> String { records[vm].map { "\($0)" } ?? "nothing" }
    /// Of the copy that the driver has of a VM.
    package func epoch(of vm: VMID) -> UInt64? { records[vm]?.copy?.epoch }
    /// VMs that the driver has, ascending.
    package var vms: [VMID] { records.keys.sorted().filter { records[$0]?.copy != nil } }

    /// Takes in what happened and gives what is to be done.
    package mutating func step(_ inputs: [Input], now: Instant) -> Output {
        var output = Output()
        for input in inputs { take(input, now) }
        let mayStart =
            (holdsLease(now) || mutated(.startsWithoutLease)) && standing == .registered && knowsWork && !isEnding
        isBusy = false
        if isEnding && endsVMs { endAll(&output) }
        // Found without a lease that anybody remembers is as good as without one.
        if !isGuarded, !holdsLease(now) { stopForLease(&output) }
        lookAtDue(mayStart: mayStart, &output)
        sendCommand(now, &output)
        ask(now, &output)
        output.grant = grant
        output.wentTo = wentTo
        (grant, wentTo) = (nil, nil)
        return output
    }

    func holdsLease(_ now: Instant) -> Bool {
        guard let leaseUntil else { return false }
        return now < leaseUntil - leaseLength / 5
    }

    // MARK: Hearing

    private mutating func take(_ input: Input, _ now: Instant) {
        switch input {
        case .described(let description):
            guard description != about else { return }
            about = description
            leaveCell()
        case .assigned(let epoch, let isOtherCell):
            if isOtherCell {
                questions = []
                command = nil
            } else if epoch == assignment {
                return
            }
            assignment = epoch
            leaveCell()
        case .answered(let number, let answer): hear(number, answer, now)
        case .questionFailed(let number):
            questions.removeAll { $0.number == number }
            if mutated(.sourceResumesUnknown) { (doubtsCommit, due) = (true, nil) }
        case .commandDone(let number, let result):
            guard let sent = command, sent.number == number else { return }
            command = nil
            settle(sent.what, result, now)
        case .commandFailed(let number):
            guard command?.number == number else { return }
            command = nil
            commandNotBefore = now + timing.retry
        case .news(.state(let report)): hear(report)
        case .stirred: isStirred = true
        case .ending(let vmsStay):
            endingSince = endingSince ?? now
            endsVMs = !vmsStay
        }
    }

    private mutating func hear(_ number: UInt64, _ answer: CellAnswer, _ now: Instant) {
        guard let at = questions.firstIndex(where: { $0.number == number }) else { return }
        let question = questions.remove(at: at)
        var rows: [CellVM]?
        var changes: WorkChanges?
        let (index, lease): (LogIndex, UInt64)
        switch answer.body {
        case .work(let all, let at, let length): (rows, index, lease) = (all, at, length)
        case .workChanges(let some, let at, let length): (changes, index, lease) = (some, at, length)
        default: return
        }
        guard lease > 0 else {
            // Nothing is promised to this host. What it heard before a later registration says nothing.
            if standing == .registered, question.sentAt >= reportedAt {
                leaveCell()
                if answer.wentTo > 0 { return leaveFor(answer.wentTo, now) }
                leaseUntil = nil
                grant = Grant(sentAt: question.sentAt, length: .zero, generation: answer.index, permits: [])
            }
            return
        }
        guard standing == .registered, question.sentAt >= registeredAt else { return }
        leaseLength = .milliseconds(Int64(clamping: min(lease, 3_600_000)))
        if newestSentAt.map({ question.sentAt >= $0 }) ?? true {
            newestSentAt = question.sentAt
            leaseUntil = (mutated(.leaseFromReceipt) ? now : question.sentAt) + leaseLength
        }
        guard answer.index >= workAnswer else { return }
        if let rows {
            work = rows.sorted { $0.id < $1.id }
            due = nil
            (workIndex, workAnswer, knowsWork, asksAll) = (index, answer.index, true, false)
        } else if let changes {
            // Since an earlier answer than the last is more than is needed, and right.
            guard knowsWork, question.since <= workIndex else { return }
            guard let merged = changes.merged(with: work) else {
                // Nothing begins by rows that the cell does not have so.
                (knowsWork, asksAll, isStirred) = (false, true, true)
                return
            }
            noteDue(changes.vms, from: work, to: merged)
            (work, workIndex, workAnswer) = (merged, index, answer.index)
        } else if knowsWork, question.since == workIndex {
            workAnswer = answer.index
        }
        guard isGuarded, knowsWork, workAnswer == answer.index else { return }
        grant = Grant(
            sentAt: question.sentAt, length: leaseLength,
            generation: LogIndex(answer.leaseBase + answer.index.rawValue),
            permits: RunPermit.permits(work, on: host))
    }

    var registeredAt: Instant { registrationAnsweredAt }
    private var registrationAnsweredAt = Instant.origin

    private mutating func leaveCell() {
        standing = .absent
        knowsWork = false
        asksAll = true
        commandNotBefore = .origin
    }

    /// Whoever leads this agent knows how to get there; until then nothing is asked here in haste.
    private mutating func leaveFor(_ cell: UInt64, _ now: Instant) {
        wentTo = cell
        commandNotBefore = now + timing.retry
    }

    private mutating func settle(_ what: Sent, _ result: CellResult, _ now: Instant) {
        switch (what, result.outcome) {
        case (_, .refused(.hostWentTo(_, let cell))):
            leaveCell()
            leaveFor(cell, now)
        case (.registration, .refused(.hostArrives(_))): commandNotBefore = now + timing.retry
        case (.registration, .refused(let refusal)):
            problem = "\(refusal)"
            commandNotBefore = now + timing.refusal
        case (.registration, _):
            problem = nil
            standing = .registered
            registrationAnsweredAt = now
            (work, workIndex, workAnswer, knowsWork, asksAll) = ([], .zero, .zero, false, true)
            due = nil
            isStirred = true
        case (.reports, .refused):
            // Another process of this agent registered, or the host is no member any more.
            leaveCell()
            commandNotBefore = now + timing.retry
        case (.reports(let reports), _):
            for report in reports {
                if records[report.vm] == nil {
                    takenOfOthers[report.vm] = (report, now)
                } else {
                    records[report.vm]?.taken = (report, now)
                }
            }
            isStirred = true
        }
        reportedAt = now
    }

    private mutating func hear(_ report: VMReport) {
        guard var record = records[report.vm], var copy = record.copy, copy.epoch == report.epoch else { return }
        due?.insert(report.vm)
        // That it runs on says nothing of why its move failed, which the cell may not know yet.
        let runsOn = report.state == .running || report.state == .paused
        if !(runsOn && report.message.isEmpty && copy.failedTarget != 0) { copy.message = report.message }
        if report.generation > 0 { copy.generation = report.generation }
        switch report.state {
        case .starting: break
        case .running, .paused:
            // Arrived: it runs when it is told to.
            if copy.state == .arriving, copy.order != .finish { break }
            copy.state = report.state == .running ? .running : .paused
            if !copy.isLeaving { copy.order = nil }
        case .copying:
            copy.state = .copying
            copy.progressMillis = report.progressMillis
        case .copied:
            copy.state = .copied
            copy.progressMillis = 1_000
        case .copyFailed:
            if case .send(let target) = copy.order { copy.failedTarget = target }
            copy.state = .running
            if !copy.isLeaving { copy.order = nil }
        case .stopped, .crashed:
            let wasTold = copy.isLeaving && copy.stopCause == nil
            record.end = (
                // One that a lease's end stopped waits as after a crash: a host that can't keep its lease is not asked for more at once.
                wasTold ? .stopped : .crashed, copy.stopCause ?? report.message,
                copy.stopCause == nil && report.isHostsFault
            )
            record.copy = nil
            if copy.order == .discard { record.isDiscarded = true }
            records[report.vm] = record
            return
        }
        record.copy = copy
        records[report.vm] = record
    }

    // MARK: Asking and telling

    private mutating func sendCommand(_ now: Instant, _ output: inout Output) {
        guard command == nil, now >= commandNotBefore else { return }
        let operation: CellCommand.Operation
        let what: Sent
        if standing == .absent {
            guard !isEnding else { return }
            let running = records.keys.sorted().compactMap { vm in
                mutated(.registrationForgetsCopies) ? nil : records[vm]?.copy.map { RunningVM(vm, epoch: $0.epoch) }
            }
            (operation, what) = (
                .registerHost(host, incarnation, about, running: running, assignment: assignment), .registration
            )
        } else {
            // Judged by rows that were read after the last reports took effect, unless a guest stands still meanwhile.
            guard knowsWork, newestSentAt.map({ $0 >= reportedAt }) ?? false || owesCopied else { return }
            let reports = reports(now)
            guard !reports.isEmpty else { return }
            (operation, what) = (.reportVMs(host, incarnation, reports), .reports(reports))
        }
        numberLast += 1
        command = (numberLast, what)
        output.command = (numberLast, CellCommand(by: "host \(about.name)", operation))
    }

    private mutating func ask(_ now: Instant, _ output: inout Output) {
        guard standing == .registered else {
            wakeAt = max(commandNotBefore, now + timing.busy)
            return noteLease(now)
        }
        let isArriving = !arriving.isEmpty
        let busy = isArriving ? timing.arriving : timing.busy
        let pause = isBusy || isStirred || command != nil || !knowsWork ? busy : timing.calm
        // A question is under way already, or one was asked a moment ago.
        let isFirst = askedAt.map { $0 < registeredAt } ?? true
        // Answers that take long are waited for: a question that is given up renews no lease.
        let mayHurry = questions.isEmpty || (isArriving && questions.count < HostKeeper.questionsMax - 1)
        let next = isFirst ? now : (askedAt ?? now) + (mayHurry ? pause : max(pause, timing.calm))
        if now >= next {
            if questions.count == HostKeeper.questionsMax { questions.removeFirst() }
            numberLast += 1
            let since = asksAll ? LogIndex.zero : workIndex
            questions.append(Question(number: numberLast, sentAt: now, since: since))
            output.questions.append((numberLast, .hostWork(host, since: since, takesChanges: true)))
            askedAt = now
            isStirred = false
            wakeAt = now + (isBusy || !knowsWork ? busy : timing.calm)
        } else {
            wakeAt = next
        }
        noteLease(now)
    }

    /// Wakes when the lease is about to end, too.
    private mutating func noteLease(_ now: Instant) {
        guard let leaseUntil, let wakeAt else { return }
        let stopAt = leaseUntil - leaseLength / 5
        if stopAt > now { self.wakeAt = min(wakeAt, stopAt) }
    }
}
