package import ClusterBase
package import FleetModel

/// What a host's guard may do with guests: a value that is told what happened and says what to do. Only its effects act.
///
///     asked ──▶ held ──▶ starting ──▶ running ──▶ dying ──▶ (reaped: confirmed)
///                 │ not named in time                ▲
///                 ▼                                  │ asked, not named any more, or the lease is about to end
///              refused                               └─ the kernel's timer does the same to the guard itself
///
/// * A lease counts from when its request was sent, and never ends earlier by a later answer that is older.
/// * A guest starts only under a lease with time left, only if the newest grant names its VM and epoch, only once per epoch,
///   never under an epoch below the highest that was ever started, and only while no other copy of its VM is left.
/// * While a guest that may start elsewhere is left, a kernel timer is armed before the lease's end. It is armed before the
///   guest starts, and taken back only after the last such guest was reaped.
package struct GuardRules: Sendable {
    package enum Input: Sendable {
        case granted(LeaseGrant)
        /// The agent wants it started.
        case startAsked(VMID, epoch: UInt64, ticket: UInt64)
        case started(VMID, epoch: UInt64)
        /// Nothing of it runs.
        case startFailed(VMID, epoch: UInt64)
        /// The agent wants it gone, at once.
        case stopAsked(VMID, epoch: UInt64)
        /// The process that was started with it has ended, without which it is not whole.
        case companionEnded(VMID, epoch: UInt64)
        /// Its process has ended and nothing of it is left.
        case reaped(VMID, epoch: UInt64)
        /// Everything goes: the guard is to end.
        case ending
    }

    package enum Effect: Hashable, Sendable {
        /// The kernel ends the guard then; nil disarms.
        case arm(Instant?)
        /// The epoch is written down durably, then the process starts; `started` or `startFailed` follows.
        case start(VMID, epoch: UInt64, ticket: UInt64)
        case refuse(ticket: UInt64, Refusal)
        /// Killed at once.
        case kill(VMID, epoch: UInt64, Cause)
        /// This copy, and no other, is gone.
        case confirm(VMID, epoch: UInt64, Cause?)
        /// Ask for a grant now; `whole` with all its permits.
        case renew(whole: Bool)
    }

    package enum Cause: UInt32, Hashable, Sendable, CaseIterable {
        case asked = 1
        case leaseEnds
        /// The newest grant does not name it.
        case notGranted
        case guardEnds
        case companionEnded

        package var text: String {
            switch self {
            case .asked: "stopped by its agent"
            case .leaseEnds: "stopped by its host's guard: the host's lease was about to run out"
            case .notGranted: "stopped by its host's guard: the host's newest lease does not name it"
            case .guardEnds: "stopped by its host's guard, which ended"
            case .companionEnded: "stopped by its host's guard: the process of its TPM ended"
            }
        }
    }

    package enum Refusal: Hashable, Sendable, CustomStringConvertible {
        case noLease
        case notGranted
        case epochOver(highest: UInt64)
        case stillHere(epoch: UInt64)
        case tooMany
        case ending

        package var description: String {
            switch self {
            case .noLease: "the host holds no lease with time left; it starts when the cell can be reached"
            case .notGranted: "the host's lease does not name it"
            case .epochOver(let highest): "epoch \(highest) ran on this host already"
            case .stillHere(let epoch): "its copy of epoch \(epoch) is still here"
            case .tooMany: "the guard has as many guests as it takes (\(GuardRules.guestsMax))"
            case .ending: "the guard is about to end"
            }
        }
    }

    package struct Guest: Hashable, Sendable {
        package enum State: Hashable, Sendable {
            case starting
            case running
            case dying(Cause)
        }
        package var epoch: UInt64
        package var isolation: VMDescription.Isolation
        package var state: State
        package init(epoch: UInt64, isolation: VMDescription.Isolation, state: State) {
            self.epoch = epoch
            self.isolation = isolation
            self.state = state
        }
    }

    struct Ask: Sendable {
        var vm: VMID
        var epoch: UInt64
        var ticket: UInt64
        var until: Instant
    }

    package static let guestsMax = 4_096
    /// Starts that wait for a grant.
    package static let asksMax = 256
    /// VMs whose highest epoch is remembered; beyond it those go whose VM no grant names.
    package static let epochsMax = 65_536

    let timing: LeaseTiming
    // hash order: looked up, and read by sorted keys
    package private(set) var guests: [VMID: Guest] = [:]
    // hash order: looked up, and read by sorted keys
    package private(set) var highest: [VMID: UInt64]
    // hash order: looked up only
    private(set) var permits: [VMID: RunPermit] = [:]
    package private(set) var digest = RunPermit.digest([])
    package private(set) var generation = LogIndex.zero
    /// Nil before the first grant.
    package private(set) var leaseUntil: Instant?
    package private(set) var leaseLength = Nanoseconds.zero
    package private(set) var newestSentAt: Instant?
    private(set) var asks: [Ask] = []
    private var armed: Instant?
    private(set) var isEnding = false
    /// A grant was withdrawn: the lease counts no more.
    private(set) var isWithdrawn = false

    // hash order: looked up, and read by sorted keys
    package init(highest: [VMID: UInt64] = [:], timing: LeaseTiming = LeaseTiming()) {
        self.highest = highest
        self.timing = timing
    }

    // hash order: looked up, and read by sorted keys
    /// Goes on where a guard of before stopped. Its kernel timer is armed with the first step.
    package init(highest: [VMID: UInt64], handed: GuardHandover, timing: LeaseTiming = LeaseTiming()) {
        self.init(highest: highest, timing: timing)
        for permit in handed.permits { permits[permit.vm] = permit }
        digest = RunPermit.digest(handed.permits.sorted())
        (generation, leaseUntil, leaseLength) = (handed.generation, handed.leaseUntil, handed.leaseLength)
        (newestSentAt, isWithdrawn) = (handed.newestSentAt, handed.isWithdrawn)
        for guest in handed.guests {
            guests[guest.vm] = guest.guest
            self.highest[guest.vm] = max(self.highest[guest.vm] ?? 0, guest.guest.epoch)
        }
    }

    // MARK: Times

    /// From then on nothing starts and what may start elsewhere is killed.
    package var stopAt: Instant? {
        guard let leaseUntil else { return nil }
        return isWithdrawn ? .origin : leaseUntil - timing.stopLead(of: leaseLength)
    }

    var lastMoment: Instant? { leaseUntil.map { $0 - timing.lastLead(of: leaseLength) } }

    /// When it wants a step though nothing happened.
    package var deadline: Instant? {
        var next = asks.map(\.until).min()
        let isWaiting = guests.values.contains { $0.isolation == .stop && !$0.isDying }
        if isWaiting, let stopAt { next = min(next ?? stopAt, stopAt) }
        return next
    }

    package func mayRun(_ now: Instant) -> Bool { stopAt.map { now < $0 } ?? false }
    package var isIdle: Bool { guests.isEmpty && asks.isEmpty }

    // MARK: Steps

    /// Takes in what happened and gives what is to be done, in order. Costs a look at each guest.
    package mutating func step(_ inputs: [Input], now: Instant) -> [Effect] {
        var effects: [Effect] = []
        for input in inputs { take(input, now, &effects) }
        if !mayRun(now) { stopAll(.leaseEnds, &effects) { $0.isolation == .stop } }
        judgeAsks(now, &effects)
        arm(&effects)
        return effects
    }

    private mutating func take(_ input: Input, _ now: Instant, _ effects: inout [Effect]) {
        switch input {
        case .granted(let grant): take(grant, now, &effects)
        case .startAsked(let vm, let epoch, let ticket):
            if isEnding { return effects.append(.refuse(ticket: ticket, .ending)) }
            if asks.count >= GuardRules.asksMax { return effects.append(.refuse(ticket: ticket, .tooMany)) }
            asks.append(Ask(vm: vm, epoch: epoch, ticket: ticket, until: now + timing.askMax))
            if permits[vm]?.epoch != epoch || !mayRun(now) { effects.append(.renew(whole: true)) }
        case .started(let vm, let epoch):
            guard let guest = guests[vm], guest.epoch == epoch, guest.state == .starting else { return }
            guests[vm]?.state = .running
        case .startFailed(let vm, let epoch): if guests[vm]?.epoch == epoch { guests[vm] = nil }
        case .stopAsked(let vm, let epoch):
            if let at = asks.firstIndex(where: { $0.vm == vm && $0.epoch <= epoch }) {
                effects.append(.refuse(ticket: asks.remove(at: at).ticket, .notGranted))
            }
            guard let guest = guests[vm], guest.epoch <= epoch else { return }
            kill(vm, .asked, &effects)
        case .companionEnded(let vm, let epoch): if guests[vm]?.epoch == epoch { kill(vm, .companionEnded, &effects) }
        case .reaped(let vm, let epoch):
            guard let guest = guests[vm], guest.epoch == epoch else { return }
            guests[vm] = nil
            var cause: Cause?
            if case .dying(let why) = guest.state { cause = why }
            effects.append(.confirm(vm, epoch: epoch, cause))
        case .ending:
            isEnding = true
            for ask in asks { effects.append(.refuse(ticket: ask.ticket, .ending)) }
            asks = []
            stopAll(.guardEnds, &effects) { _ in true }
        }
    }

    private mutating func take(_ grant: LeaseGrant, _ now: Instant, _ effects: inout [Effect]) {
        // A request that was not sent yet can't have been answered.
        guard grant.sentAt <= now, grant.length <= LeaseTiming.lengthMax else { return }
        let isInForce = leaseUntil.map { now < $0 } ?? false
        if grant.length <= .zero {
            // Only the newest word can take back what an earlier one gave.
            if newestSentAt.map({ grant.sentAt >= $0 }) ?? true, isInForce { isWithdrawn = true }
            return
        }
        // While a lease is in force the log only grows; after it a cell may have been restored.
        if isInForce, grant.generation < generation { return }
        let until = grant.sentAt + grant.length
        if until <= now { return }
        if let permits = grant.permits {
            let sorted = permits.sorted()
            guard RunPermit.digest(sorted) == grant.digest else { return }
            self.permits = [:]
            for permit in sorted { self.permits[permit.vm] = permit }
            digest = grant.digest
        } else if grant.digest != digest {
            return effects.append(.renew(whole: true))
        }
        generation = grant.generation
        if until > leaseUntil ?? .origin {
            leaseUntil = until
            leaseLength = grant.length
        }
        newestSentAt = max(newestSentAt ?? .origin, grant.sentAt)
        isWithdrawn = false
        for vm in guests.keys.sorted() {
            guard let guest = guests[vm] else { continue }
            // Named under a later epoch it is this host's to start again, and no other's: its agent lets it end by itself.
            if let permit = permits[vm], permit.epoch >= guest.epoch {
                guests[vm]?.isolation = permit.isolation
            } else {
                kill(vm, .notGranted, &effects)
            }
        }
    }

    // MARK: Starting

    private mutating func judgeAsks(_ now: Instant, _ effects: inout [Effect]) {
        var waiting: [Ask] = []
        let all = asks
        asks = []
        for ask in all {
            switch verdict(ask, now) {
            case .success(let permit):
                highest[ask.vm] = ask.epoch
                forgetEpochs()
                guests[ask.vm] = Guest(epoch: ask.epoch, isolation: permit.isolation, state: .starting)
                arm(&effects)
                effects.append(.start(ask.vm, epoch: ask.epoch, ticket: ask.ticket))
            case .failure(let refusal):
                let mayChange = refusal == .noLease || refusal == .notGranted
                if mayChange, now < ask.until {
                    waiting.append(ask)
                } else {
                    effects.append(.refuse(ticket: ask.ticket, refusal))
                }
            }
        }
        asks = waiting
    }

    private enum Verdict {
        case success(RunPermit)
        case failure(Refusal)
    }

    private func verdict(_ ask: Ask, _ now: Instant) -> Verdict {
        if let guest = guests[ask.vm] { return .failure(.stillHere(epoch: guest.epoch)) }
        if let highest = highest[ask.vm], ask.epoch <= highest { return .failure(.epochOver(highest: highest)) }
        if guests.count >= GuardRules.guestsMax { return .failure(.tooMany) }
        guard mayRun(now) else { return .failure(.noLease) }
        guard let permit = permits[ask.vm], permit.epoch == ask.epoch else { return .failure(.notGranted) }
        return .success(permit)
    }

    private mutating func forgetEpochs() {
        guard highest.count > GuardRules.epochsMax else { return }
        for vm in highest.keys.sorted() where permits[vm] == nil && guests[vm] == nil {
            highest[vm] = nil
            if highest.count <= GuardRules.epochsMax / 2 { return }
        }
    }

    // MARK: Stopping

    private mutating func kill(_ vm: VMID, _ cause: Cause, _ effects: inout [Effect]) {
        guard let guest = guests[vm], !guest.isDying else { return }
        guests[vm]?.state = .dying(cause)
        effects.append(.kill(vm, epoch: guest.epoch, cause))
    }

    private mutating func stopAll(_ cause: Cause, _ effects: inout [Effect], where isMeant: (Guest) -> Bool) {
        for vm in guests.keys.sorted() {
            guard let guest = guests[vm], isMeant(guest) else { continue }
            kill(vm, cause, &effects)
        }
    }

    private mutating func arm(_ effects: inout [Effect]) {
        let wanted = endsAt
        if wanted == armed { return }
        armed = wanted
        effects.append(.arm(wanted))
    }
}

extension GuardRules.Guest {
    package var isDying: Bool {
        if case .dying = state { true } else { false }
    }
}
