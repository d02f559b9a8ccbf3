import ClusterBase
package import FleetModel
import Placement

// Hosts that fall silent, hosts that drain, and the cell's housekeeping.

extension CellKeeper {
    // MARK: Health

    /// A host is declared down when it was silent for so long that its lease has run out whatever its clock does: a tenth more
    /// than the lease and half a second, since it was heard last and since this node leads.
    mutating func planHealth(_ now: Instant, _ watch: () -> NodeWatch, _ operations: inout [CellCommand.Operation]) {
        let before = view[.leaseBefore]
        let lease =
            mutated(.shorterLeaseCountsAtOnce) ? view[.leaseLength] : max(view[.leaseLength], before & 0xFFFF_FFFF)
        if before != leaseBefore.value { leaseBefore = (before, now) }
        if lease >= leaseLongest.milliseconds || now >= leaseLongest.until || mutated(.shorterLeaseCountsAtOnce) {
            leaseLongest = (lease, now + CellKeeper.silenceMax(lease))
        }
        if now < healthAt { return }
        forgetLongerLease(now, &operations)
        let silenceMax =
            mutated(.givesUpTooEarly)
            ? .milliseconds(Int64(clamping: lease / 2)) : CellKeeper.silenceMax(leaseLongest.milliseconds)
        let watch = watch()
        let through = view.through ?? .zero
        var next = now + CellKeeper.idleInterval
        if let end = longerLeaseEnd { next = min(next, max(end, now + CellKeeper.healthPause)) }
        askTime(now, &operations)
        var declared = 0
        for id in hostOrder {
            guard let host = view.hosts[id], host.health == .up || host.health == .away else { continue }
            let end = absences[id]?.at
            if let end, now < end { next = min(next, end) }
            let isOver = end.map { now >= $0 } ?? false
            if host.health == .away && !isOver { continue }
            var silence = watch.silence(of: NodeID(rawValue: id.rawValue), at: now)
            if !mutated(.newLeaderDoesNotWait) { silence = min(silence, now - leadsSince) }
            // Before it came with its VMs it may have spoken to the cell where it was alone, and still have a lease from there.
            if let arrived = arrivedAt[id] { silence = min(silence, now - arrived) }
            // Since then nothing was granted to it, whether it is heard or not.
            if let since = deadSince[id] { silence = max(silence, now - since) }
            if host.health == .up && silence < silenceMax {
                next = min(next, now + (silenceMax - silence))
                if isOver { endAbsence(id, now, &operations) }
                continue
            }
            let key = CellLedger.Key.down(id, host.incarnation)
            guard declared < CellKeeper.declaredAtOnceMax, ledger.mayAsk(key, through, now) else {
                next = min(next, now + CellKeeper.healthPause)
                continue
            }
            ledger.asked(key, now)
            declared += 1
            counts.hostsDeclaredDown += 1
            let unheard = watch.silence(of: NodeID(rawValue: id.rawValue), at: now)
            operations.append(
                .declareDown(
                    id, host.incarnation, silence: tellsSilence ? UInt64(clamping: unheard.milliseconds) : 0))
        }
        healthAt = max(next, now + CellKeeper.pause)
    }

    /// Whether a lease may be granted to a host: not while its being declared down may come to be, and to none that was declared dead.
    package func mayGrant(to host: HostID) -> Bool {
        guard let known = view.hosts[host] else { return true }
        if known.declaredDeadAt > .zero && known.health == .up { return false }
        return !ledger.isUnderWay(.down(host, known.incarnation))
    }

    /// A longer lease of before has run out everywhere when it was in force nowhere for as long as a host is waited for.
    private var longerLeaseEnd: Instant? {
        let lease = leaseBefore.value & 0xFFFF_FFFF
        return lease == 0 ? nil : leaseBefore.since + CellKeeper.silenceMax(lease)
    }

    private mutating func forgetLongerLease(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        let value = leaseBefore.value
        guard let end = longerLeaseEnd, now >= end,
            ledger.mayAsk(.leaseBefore(value), view.through ?? .zero, now)
        else { return }
        ledger.asked(.leaseBefore(value), now)
        operations.append(.setSetting(.leaseBefore, value))
    }

    static func silenceMax(_ lease: UInt64) -> Nanoseconds {
        let bounded = Int64(min(lease, 1 << 32))
        return Nanoseconds.milliseconds(bounded + bounded / 10 + 500)
    }

    // MARK: Drain

    /// Why a VM stays on its host for now, or how it can leave.
    enum Way: Hashable {
        case migrate
        /// It does not run: it just gets another place.
        case restart
        /// Something is under way with it.
        case wait
        case never(CellPlan.Left.Cause)
    }

    func way(_ vm: CellVM) -> Way {
        guard let place = vm.place, !place.isReleasing, !vm.isDeleting, vm.migration == nil else { return .wait }
        if vm.boundTo != nil {
            switch vm.phase {
            case .running where movesDisks, .paused where movesDisks: return .migrate
            default: return .never(.localDisk)
            }
        }
        // Room that is kept for it, and nothing of it runs here.
        if vm.arrival != nil { return .restart }
        switch vm.phase {
        case .running, .paused: return .migrate
        case .stopped, .crashed, .looping: return .restart
        case .waiting, .starting, .stopping, .unknown: return .wait
        }
    }

    mutating func planDrains(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        if draining.isEmpty { drainGoesOn = false }
        if draining.isEmpty || now < drainAt { return }
        drainAt = now + CellKeeper.drainInterval
        drainGoesOn = false
        let through = view.through ?? .zero
        var budget = MoveBudget(self)
        var tries = 0
        var releases: [Release] = []
        for host in draining.sorted() {
            if view.hosts[host]?.vmCount == 0 && index.vms(on: host).isEmpty {
                if view.hosts[host]?.duty == .draining, ledger.mayAsk(.finishDrain(host), through, now) {
                    ledger.asked(.finishDrain(host), now)
                    operations.append(.finishDrain(host))
                }
                continue
            }
            for id in index.vms(on: host) where !CellKeeper.isCopy(id) {
                guard let vm = view.vms[id], let place = vm.place, pending[id] == nil else { continue }
                switch way(vm) {
                case .wait, .never: continue
                case .restart:
                    drainGoesOn = true
                    let key = CellLedger.Key.release(id, place.epoch)
                    if releases.count < CellKeeper.placingsMax, ledger.mayAsk(key, through, now) {
                        ledger.asked(key, now)
                        releases.append(Release(id, epoch: place.epoch, reason: "its host is drained"))
                    }
                case .migrate:
                    if let until = failedUntil[id], now < until { continue }
                    if let stuck = stuckSince[id], !queue.mayFit(index.spec(id)?.groups ?? [], since: stuck) {
                        continue
                    }
                    drainGoesOn = true
                    if !budget.allows(host) || tries >= CellKeeper.drainTriesMax { continue }
                    tries += 1
                    counts.decisions += 1
                    guard let target = decideMove(vm, budget) else {
                        // Where only a budget is in the way, it is tried again when a move has ended.
                        if !budget.leavesOut { stuckSince[id] = queue.event }
                        continue
                    }
                    stuckSince[id] = nil
                    begin(vm, target, .drain, now, &budget, &operations)
                }
            }
        }
        if !releases.isEmpty { operations.append(.releaseVMs(releases, cause: .drain)) }
    }

    /// The best other host for a placed VM that takes one more migration; nil when none does. Groups are judged as they will
    /// be without it where it is.
    mutating func decideMove(_ vm: CellVM, _ budget: MoveBudget) -> Assignment? {
        guard let from = vm.place?.assignment, let own = index.spec(vm.id) else { return nil }
        if let home = hostTakingBack(vm), budget.allows(from.host, home, self), let target = decideReturn(vm, home) {
            return target
        }
        let target: Assignment?
        do throws(IndexError) {
            try index.remove(vm.id)
            target = index.decide(own, policy: policy, among: budget.filter(from: from.host, self)).assignment
            try index.place(own, from)
        } catch {
            preconditionFailure("VM \(vm.id) left the index and can't come back: \(error)")
        }
        return target
    }

    mutating func begin(
        _ vm: CellVM, _ target: Assignment, _ cause: Migration.Cause, _ now: Instant, _ budget: inout MoveBudget,
        _ operations: inout [CellCommand.Operation]
    ) {
        guard let place = vm.place else { return }
        budget.take(place.assignment.host, target.host, self)
        counts.migrationsBegun += 1
        expect(vm, .move(epoch: place.epoch), target, now)
        operations.append(
            .beginMigration(
                vm.id, from: place.epoch, to: target, cause: cause, intent: knowsIntents ? intent(vm, cause) : .balanced
            )
        )
    }

    /// Whether its host empties itself.
    func leavesHost(_ vm: CellVM) -> Bool { vm.place.map { draining.contains($0.assignment.host) } ?? false }

    /// Whether a move that came to no end is followed by one that asks more of the guest: somebody waits for a host to be empty, to
    /// have its VMs back, or to be rid of what may not stay there.
    func triesHarder(_ vm: CellVM) -> Bool {
        if leavesHost(vm) || vm.place.map({ enforcement.hosts.contains($0.assignment.host) }) ?? false { return true }
        guard let origin = vm.origin, let host = view.hosts[origin.host] else { return false }
        return isReturning(host) && vm.comesBack(to: host, at: view.time)
    }

    /// A better balance is worth little to the guest that moves. A host that empties itself or takes its VMs back asks as the VM or the
    /// cell is set, and harder once that did not do; one whose region is given up has no time for more than one try.
    private func intent(_ vm: CellVM, _ cause: Migration.Cause) -> MoveIntent {
        switch cause {
        case .rebalance: return .gentle
        case .asked: return standardIntent(vm)
        case .return, .capacity: return failedIntents[vm.id].map(\.harder) ?? standardIntent(vm)
        case .drain, .preemption:
            if let host = vm.place.flatMap({ view.hosts[$0.assignment.host] }),
                regions.closed[host.about.locality.region] == true
            {
                return .now
            }
            return failedIntents[vm.id].map(\.harder) ?? standardIntent(vm)
        }
    }

    /// Where nobody says.
    package func standardIntent(_ vm: CellVM) -> MoveIntent {
        vm.spec.moveIntent ?? MoveIntent(rawValue: Int32(clamping: view[.moveIntent])) ?? .balanced
    }

    // MARK: Housekeeping

    /// Parts of quotas that are on their way from here to other cells.
    package mutating func openLoans() -> [(tenant: String, loan: QuotaLoan)] {
        var loans: [(tenant: String, loan: QuotaLoan)] = []
        for tenant in lenders.sorted() {
            let lending = view.slices[tenant]?.lending ?? []
            if lending.isEmpty { lenders.remove(tenant) }
            loans += lending.map { (tenant, $0) }
        }
        return loans
    }

    mutating func planSlices(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        if slicesDue.isEmpty { return }
        let through = view.through ?? .zero
        var asked = 0
        for tenant in slicesDue.sorted() {
            if view.slices[tenant]?.lending.isEmpty == false { lenders.insert(tenant) }
            let operation: CellCommand.Operation
            let held = view.slices[tenant]?.revision ?? .zero
            if let wish = tenants[tenant], held < wish.revision {
                operation = .setSlice(
                    tenant: tenant, revision: wish.revision, wish.quota,
                    through: knowsTenants ? tenantsThrough : .zero)
            } else if tenants[tenant] == nil, held > .zero, held.index <= tenantsThrough {
                // Lent before the root's state in which there is no such tenant.
                operation = .returnSlice(tenant: tenant, revision: .end(of: tenantsThrough))
            } else {
                slicesDue.remove(tenant)
                continue
            }
            guard asked < CellKeeper.declaredAtOnceMax, ledger.mayAsk(.slice(tenant), through, now) else { continue }
            asked += 1
            ledger.asked(.slice(tenant), now)
            operations.append(operation)
        }
    }

    /// What is too old goes: every ten minutes when anything happened, else every six hours.
    mutating func planGarbage(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        if now < garbageAt { return }
        let through = view.through ?? .zero
        garbageAt = now + CellKeeper.garbageInterval
        let isQuiet = through.rawValue <= garbageThrough.rawValue + 1
        if isQuiet && now - garbageDoneAt < CellKeeper.garbageIntervalIdle { return }
        garbageDoneAt = now
        garbageThrough = through
        ledger.asked(.garbage, now)
        operations.append(.collectGarbage)
    }

    static let drainInterval = Nanoseconds.seconds(1)
}
