package import ClusterBase
package import FleetModel
import Placement

// What waits gets a place, or room is made for it, or its row says why it waits.

extension CellKeeper {
    // MARK: Placing

    mutating func planPlacings(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        beginReserve()
        queue.review(now, victimsFrom: victimPriorities.keys.min())
        var placings: [Placing] = []
        var refused: [VMID] = []
        var tries = 0
        var preemptions = index.hostCount <= 1_000 ? 4 : 1
        while let (id, kind) = queue.next(now) {
            if placings.count == CellKeeper.placingsMax || tries >= CellKeeper.triesMax || preemptions == 0 {
                isCutShort = true
                break
            }
            if queue.kinds[kind].isGang {
                guard let gang = queue.gang(kind) else { continue }
                // The first of a plan may be larger than all that is tried otherwise.
                if tries > 0 && tries + gang.count > CellKeeper.triesMax {
                    isCutShort = true
                    break
                }
                tries += gang.count
                let left = reserve.left
                guard useReserve(gang.compactMap { view.vms[$0.id] }) else {
                    queue.refused(kind, now)
                    continue
                }
                if placeTogether(gang, now, &operations) { continue }
                reserve.left = left
                if mayPreempt(gang), !queue.kinds[kind].isSought {
                    preemptions = max(0, preemptions - gang.count)
                    if nominate(gang, now, &operations) { continue }
                    queue.sought(kind)
                }
                queue.refused(kind, now)
                continue
            }
            tries += 1
            counts.decisions += 1
            guard let vm = view.vms[id] else { preconditionFailure("VM \(id) waits and is not known") }
            let left = reserve.left
            guard useReserve([vm]) else {
                counts.refusals += 1
                queue.refused(kind, now)
                continue
            }
            var spec = queue.kinds[kind].spec
            spec.id = id
            let filter = HostFilter(only: queue.hosts(for: kind))
            let own = hostTakingBack(vm).flatMap { home in
                index.decide(spec, policy: policy, among: HostFilter(only: [home])).assignment
            }
            if let assignment = own ?? index.decide(spec, policy: policy, among: filter).assignment {
                queue.found(kind)
                expect(vm, .place(generation: vm.generation), assignment, now)
                placings.append(Placing(id, generation: vm.generation, assignment))
                continue
            }
            reserve.left = left
            counts.refusals += 1
            if mayPreempt(spec), !queue.kinds[kind].isSought {
                preemptions -= 1
                if nominate(vm, spec, now, &operations) { continue }
                queue.sought(kind)
            }
            queue.refused(kind, now)
            refused.append(id)
        }
        decideTogether(refused, &placings, now)
        if !placings.isEmpty {
            counts.placed += UInt64(placings.count)
            operations.append(.placeVMs(placings, isAtomic: false))
        }
    }

    /// Counts a VM where it is about to be.
    mutating func expect(
        _ vm: CellVM, _ kind: Pending.Kind, _ assignment: Assignment, _ now: Instant, isNomination: Bool = false
    ) {
        pending[vm.id] = Pending(kind: kind, assignment: assignment, since: now, isNomination: isNomination)
        vmChanged(vm.id, now)
    }

    /// Takes back what was expected of a VM.
    mutating func takeBack(_ id: VMID, _ now: Instant) {
        if pending.removeValue(forKey: id) == nil { return }
        nominations[id] = nil
        vmChanged(id, now)
    }

    // MARK: Preemption

    private func mayPreempt(_ spec: VMSpec) -> Bool {
        nominations.count < CellKeeper.nominationsMax && (victimPriorities.keys.min() ?? .max) < spec.priority
    }

    /// Has others stopped for a VM, and keeps the room for it. False when nothing that may be stopped is enough.
    private mutating func nominate(
        _ vm: CellVM, _ spec: VMSpec, _ now: Instant, _ operations: inout [CellCommand.Operation]
    ) -> Bool {
        guard let found = index.decidePreemption(spec, policy: policy), !found.victims.isEmpty else { return false }
        guard let releases = releases(of: found.victims, for: vm, now) else { return false }
        stop(releases, now, &operations)
        expect(vm, .place(generation: vm.generation), found.assignment, now, isNomination: true)
        nominations[vm.id] = Nomination(
            host: found.assignment.host, victims: found.victims, givesUpAt: now + CellKeeper.nominationMax)
        return true
    }

    /// What stops these VMs for another; nil when one of them can't be stopped now.
    func releases(of victims: [VMID], for vm: CellVM, _ now: Instant) -> [Release]? {
        var releases: [Release] = []
        for id in victims {
            guard let victim = view.vms[id], let place = victim.place,
                ledger.mayAsk(.release(id, place.epoch), view.through ?? .zero, now)
            else { return nil }
            releases.append(
                Release(id, epoch: place.epoch, reason: "stopped for \(vm.name), which has a higher priority"))
        }
        return releases
    }

    mutating func stop(_ releases: [Release], _ now: Instant, _ operations: inout [CellCommand.Operation]) {
        for release in releases { ledger.asked(.release(release.vm, release.epoch), now) }
        counts.preemptions += 1
        operations.append(.releaseVMs(releases, cause: .preemption))
    }

    /// Places the nominated where all that was in their way has gone.
    mutating func planNominations(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        if nominations.isEmpty { return }
        var placings: [Placing] = []
        var gangs: [UInt64] = []
        for id in nominations.keys.sorted() {
            guard let nomination = nominations[id], let asked = pending[id], asked.isNomination else {
                nominations[id] = nil
                continue
            }
            if nomination.gang > 0 {
                if !gangs.contains(nomination.gang) { gangs.append(nomination.gang) }
                continue
            }
            guard let vm = view.vms[id], let spec = queueSpec(vm), view.hosts[nomination.host]?.state.takesVMs == true,
                now < nomination.givesUpAt
            else {
                takeBack(id, now)
                continue
            }
            if nomination.victims.contains(where: { isOn(nomination.host, $0) }) { continue }
            takeBack(id, now)
            let filter = HostFilter(only: [nomination.host])
            guard let assignment = index.decide(spec, policy: policy, among: filter).assignment else { continue }
            expect(vm, .place(generation: vm.generation), assignment, now)
            placings.append(Placing(id, generation: vm.generation, assignment))
        }
        for gang in gangs { placeNominated(gang, now, &operations) }
        if !placings.isEmpty {
            counts.placed += UInt64(placings.count)
            operations.append(.placeVMs(placings, isAtomic: false))
        }
    }

    mutating func queueSpec(_ vm: CellVM) -> VMSpec? {
        CellKeeper.isWaiting(vm) ? intern(vm) : nil
    }

    func isOn(_ host: HostID, _ id: VMID) -> Bool {
        indexed[id]?.assignment.host == host || indexed[CellKeeper.copyID(id)]?.assignment.host == host
    }

    // MARK: Reasons

    /// Tells waiting VMs why they wait: a text for each kind, found anew only after changes, and told only where it is another.
    mutating func planReasons(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        var reasons: [WaitingReason] = []
        var explains = 0
        queue.explainAt = Instant(nanoseconds: .max)
        let through = view.through ?? .zero
        if queue.closedCount > 0 {
            for number in queue.kinds.indices where !queue.kinds[number].isOpen && queue.kinds[number].count > 0 {
                let due = reasonDue(number)
                if let due, now >= due, explains < CellKeeper.explainsMax {
                    explains += 1
                    queue.explained(number, reason(number), now)
                }
                if let due = reasonDue(number) { queue.explainAt = min(queue.explainAt, due) }
                tell(number, through, now, &reasons)
            }
        }
        for id in nominations.keys.sorted() where reasons.count < CellKeeper.reasonsMax {
            // The cell that it comes from takes a text for a no.
            guard let nomination = nominations[id], let vm = view.vms[id], vm.arrival == nil else { continue }
            let text =
                nomination.gang > 0
                ? "room is being made for it and those that are placed together with it, by stopping others"
                : "room is being made on \(hostName(nomination.host)) by stopping \(nomination.victims.count) VMs"
            guard vm.message != text, ledger.mayAsk(.reason(id), through, now) else { continue }
            ledger.asked(.reason(id), now)
            reasons.append(WaitingReason(id, text))
        }
        if !reasons.isEmpty { operations.append(.explainWaiting(reasons)) }
    }

    /// Those that wait longer get their first text soon, and another the more seldom the more they are.
    private func reasonDue(_ number: Int) -> Instant? {
        let kind = queue.kinds[number]
        guard let explained = kind.explainedAt else {
            return (kind.closedSince ?? .origin) + CellKeeper.reasonFirst
        }
        if explained.version == queue.version { return nil }
        return explained.time + CellKeeper.reasonInterval
            + Nanoseconds.milliseconds(Int64(kind.count) * 10 + Int64(index.hostCount))
    }

    private mutating func tell(
        _ number: Int, _ through: LogIndex, _ now: Instant, _ reasons: inout [WaitingReason]
    ) {
        let text = queue.kinds[number].text
        if text.isEmpty { return }
        var at = max(queue.kinds[number].toldUpTo, queue.kinds[number].first)
        let end = queue.kinds[number].turns.count
        while at < end {
            if reasons.count == CellKeeper.reasonsMax {
                isCutShort = true
                break
            }
            let id = queue.kinds[number].turns[at].vm
            let text = rowText(id, text)
            if view.vms[id]?.message != text && (regions.lost.isEmpty || view.vms[id]?.departure == nil) {
                guard ledger.mayAsk(.reason(id), through, now) else {
                    queue.explainAt = min(queue.explainAt, now + CellKeeper.reasonFirst)
                    break
                }
                ledger.asked(.reason(id), now)
                reasons.append(WaitingReason(id, text))
            }
            at += 1
        }
        queue.told(number, upTo: at)
    }

    mutating func reason(_ number: Int) -> String {
        let key = queue.kinds[number].key
        if queue.kinds[number].isGang {
            let members = queue.members(number)
            return reserveText(members.compactMap { view.vms[$0.id] }) ?? gangText(members)
        }
        if let bound = key.boundTo { return boundText(key.spec, bound) }
        let found = index.explain(key.spec, policy: policy, bestMax: 0)
        if found.candidates > 0, let vm = queue.kinds[number].head.flatMap({ view.vms[$0.vm] }),
            let text = reserveText(vm)
        {
            return text
        }
        return waitingText(found)
    }

    static let reasonFirst = Nanoseconds.milliseconds(200)
    static let reasonInterval = Nanoseconds.seconds(10)

    // MARK: Outcomes

    /// Takes in what became of a command of `plan`'s.
    package mutating func take(_ outcome: CellOutcome, of operation: CellCommand.Operation, now: Instant) {
        switch operation {
        case .placeVMs(let placings, _):
            for (i, placing) in placings.enumerated() { placed(placing.vm, result(outcome, i), now) }
        case .releaseVMs(let releases, _):
            for (i, release) in releases.enumerated() {
                settle(.release(release.vm, release.epoch), result(outcome, i), now)
            }
        case .explainWaiting(let reasons):
            for (i, reason) in reasons.enumerated() { settle(.reason(reason.vm), result(outcome, i), now) }
        case .beginMigration(let vm, _, _, let cause, _):
            let verdict = result(outcome, 0)
            if case .refused(.breaksReserve) = verdict {
                if cause == .return { returns.stuck[vm] = queue.event }
                if cause == .capacity { enforcement.stuck[vm] = queue.event }
            }
            moved(vm, verdict, now)
        case .retryVM(let vm, let epoch): settle(.retry(vm, epoch), result(outcome, 0), now)
        case .giveUpVM(let vm, let epoch): settle(.giveUp(vm, epoch), result(outcome, 0), now)
        case .commitMigration(let vm, let target): settle(.commit(vm, target), result(outcome, 0), now)
        case .cancelMigration(let vm, let target): settle(.cancel(vm, target), result(outcome, 0), now)
        case .declareDown(let host, let incarnation, _):
            settle(.down(host, incarnation), result(outcome, 0), now)
            if case .refused(.brakeHolds) = result(outcome, 0) {
                counts.brakeHeld += 1
                ledger.refused(.down(host, incarnation), now, for: CellKeeper.brakeInterval)
            }
            healthAt = min(healthAt, now + CellKeeper.healthPause)
        case .careForHost(let host, .endAbsence):
            settle(.absence(host), result(outcome, 0), now)
            healthAt = min(healthAt, now + CellKeeper.healthPause)
        case .careForHost(let host, .endReturn): settle(.endReturn(host), result(outcome, 0), now)
        case .careForHost(let host, .endEnforcement): settle(.endEnforcement(host), result(outcome, 0), now)
        case .finishDrain(let host): settle(.finishDrain(host), result(outcome, 0), now)
        case .setSlice(let tenant, _, _, _), .returnSlice(let tenant, _):
            settle(.slice(tenant), result(outcome, 0), now)
        case .collectGarbage: settle(.garbage, result(outcome, 0), now)
        case .noteTime: settle(.time, result(outcome, 0), now)
        case .noteRegion(let region):
            let verdict = result(outcome, 0)
            settle(.region(region.name, region.epoch), verdict, now)
            if case .done = verdict { noted(region, now) }
        case .moveVM(let vm, _, _, _, _, _, _):
            if case .refused(let refusal) = result(outcome, 0) { notSent(vm, refusal, now) }
        case .noteAdvice:
            // It is told again a minute later.
            if case .done = result(outcome, 0) {} else { adviceNoted = 0 }
        case .setSetting(.leaseBefore, let value): settle(.leaseBefore(value), result(outcome, 0), now)
        default: break
        }
        wakeAt = min(wakeAt, isRefused(outcome) ? now : nextDeadline(now))
    }

    private func isRefused(_ outcome: CellOutcome) -> Bool {
        switch outcome {
        case .unknown: false
        case .notTaken: true
        case .applied(let result):
            switch result.outcome {
            case .done, .kept: false
            case .refused: true
            case .items(let items): items.contains { if case .refused = $0 { true } else { false } }
            }
        }
    }

    enum Verdict {
        case done(LogIndex)
        case refused(CellRefusal?)
        case unknown

        var isKnown: Bool { if case .unknown = self { false } else { true } }
    }

    private func result(_ outcome: CellOutcome, _ item: Int) -> Verdict {
        switch outcome {
        case .unknown: return .unknown
        case .notTaken: return .refused(nil)
        case .applied(let result):
            let at = result.revision.index
            switch result.outcome {
            case .done, .kept: return .done(at)
            case .refused(let refusal): return .refused(refusal)
            case .items(let items):
                guard item < items.count else { return .unknown }
                if case .refused(let refusal) = items[item] { return .refused(refusal) }
                return .done(at)
            }
        }
    }

    private mutating func settle(_ key: CellLedger.Key, _ verdict: Verdict, _ now: Instant) {
        if let waited = ledger.waited(key, now), verdict.isKnown {
            counts.controllerTimes[key.controller, default: LatencyCounts()].add(waited)
        }
        switch verdict {
        case .done(let index): ledger.done(key, at: index, now)
        case .refused: ledger.refused(key, now)
        case .unknown: break
        }
    }

    private mutating func placed(_ id: VMID, _ verdict: Verdict, _ now: Instant) {
        switch verdict {
        case .done(let index):
            if let since = pending[id]?.since { counts.placingTimes.add(now - since) }
            pending[id]?.doneAt = index
        case .refused(let refusal):
            guard pending[id] != nil else { return }
            takeBack(id, now)
            if refusal == nil {
                queue.lostRace(id, times: 2, now)
            } else {
                counts.takenBack += 1
                races[id, default: 0] += 1
                queue.lostRace(id, times: races[id, default: 0], now)
            }
        case .unknown: break
        }
    }

    private mutating func moved(_ id: VMID, _ verdict: Verdict, _ now: Instant) {
        if let since = pending[id]?.since, verdict.isKnown {
            counts.controllerTimes[.moves, default: LatencyCounts()].add(now - since)
        }
        switch verdict {
        case .done(let index): pending[id]?.doneAt = index
        case .refused:
            guard pending[id] != nil else { return }
            restingUntil[id] = now + CellKeeper.restAfterFailure
            failedUntil[id] = restingUntil[id]
            takeBack(id, now)
        case .unknown: break
        }
    }

    /// Takes back what was asked for long ago and never came, and forgets what binds no more. Every five seconds.
    mutating func sweep(_ now: Instant) {
        if now < sweepAt { return }
        sweepAt = now + CellKeeper.sweepInterval
        let through = view.through ?? .zero
        ledger.sweep(through, now)
        let late = pending.keys.filter { id in
            guard let asked = pending[id], !asked.isNomination else { return false }
            return now - asked.since > CellKeeper.patience || asked.doneAt.map { $0 < through } ?? false
        }
        for id in late.sorted() { takeBack(id, now) }
        if !restingUntil.isEmpty { restingUntil = restingUntil.filter { $0.value > now } }
        if !failedUntil.isEmpty { failedUntil = failedUntil.filter { $0.value > now } }
        if !failedIntents.isEmpty {
            failedIntents = failedIntents.filter { id, _ in view.vms[id].map(triesHarder) ?? false }
        }
    }

    static let sweepInterval = Nanoseconds.seconds(5)
    static let brakeInterval = Nanoseconds.seconds(10)
    static let healthPause = Nanoseconds.milliseconds(100)
}
