import ClusterBase
import FleetModel
import Placement

// What runs, what crashed, what moves, and what should.

extension CellKeeper {
    /// Puts a VM on the lists of what needs care, or takes it off them.
    mutating func care(_ vm: CellVM, _ now: Instant) {
        followRegion(vm, now)
        if let migration = vm.migration {
            if let known = migrating[vm.id], known.target == migration.target.epoch,
                known.progressMillis == migration.progressMillis
            {
                // No progress.
            } else {
                migrating[vm.id] = MigrationWatch(
                    target: migration.target.epoch, progressMillis: migration.progressMillis,
                    givesUpAt: now + CellKeeper.migrationStallMax)
            }
        } else if migrating.removeValue(forKey: vm.id) != nil {
            // What it took part in may go on elsewhere, and it rests: moved lately, or it could not.
            let cooldown = Nanoseconds.milliseconds(Int64(clamping: min(view[.moveCooldown], 1 << 40)))
            let isOnLeavingHost = vm.place.map { draining.contains($0.assignment.host) } ?? false
            restingUntil[vm.id] = now + (isOnLeavingHost ? CellKeeper.restAfterFailure : cooldown)
            drainAt = min(drainAt, now)
        }
        if vm.phase == .crashed, !vm.isDeleting, vm.power != .stopped, let place = vm.place, !place.isReleasing,
            vm.spec.restart != .never, vm.migration == nil
        {
            if crashed[vm.id]?.epoch != place.epoch {
                crashed[vm.id] = CrashWatch(epoch: place.epoch, dueAt: now + backoff(vm))
            }
        } else {
            crashed[vm.id] = nil
        }
        if let host = vm.place?.assignment.host, draining.contains(host) { drainAt = min(drainAt, now) }
    }

    // MARK: Crashes

    private func isLooping(_ vm: CellVM) -> Bool {
        vm.restarts >= vm.spec.restartsMax
            && view.time.rawValue < vm.restartsSince.advanced(by: CellKeeper.restartsWindowMilliseconds).rawValue
    }

    private func backoff(_ vm: CellVM) -> Nanoseconds {
        if isLooping(vm) { return .zero }
        let first = min(view[.backoffFirst], 1 << 32)
        let most = min(view[.backoffMax], 1 << 32)
        return Nanoseconds.milliseconds(Int64(min(first << min(UInt64(vm.restarts), 20), most)))
    }

    mutating func planRestarts(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        if crashed.isEmpty { return }
        let through = view.through ?? .zero
        var asked = 0
        for id in crashed.keys.sorted() {
            guard let watch = crashed[id], now >= watch.dueAt, let vm = view.vms[id], let place = vm.place,
                view.hosts[place.assignment.host]?.health == .up
            else { continue }
            if asked == CellKeeper.restartsAtOnceMax {
                isCutShort = true
                break
            }
            let isLooping = isLooping(vm)
            let key = isLooping ? CellLedger.Key.giveUp(id, place.epoch) : .retry(id, place.epoch)
            guard ledger.mayAsk(key, through, now) else {
                crashed[id]?.dueAt = now + CellKeeper.healthPause
                continue
            }
            asked += 1
            ledger.asked(key, now)
            if isLooping {
                operations.append(.giveUpVM(id, epoch: place.epoch))
            } else {
                counts.restarts += 1
                operations.append(.retryVM(id, epoch: place.epoch))
            }
            crashed[id]?.dueAt = now + CellKeeper.healthPause
        }
    }

    // MARK: Migrations

    mutating func planMigrations(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        if migrating.isEmpty { return }
        let through = view.through ?? .zero
        for id in migrating.keys.sorted() {
            guard let watch = migrating[id], let migration = view.vms[id]?.migration, migration.phase == .copying else {
                continue
            }
            if migration.isCopied {
                let key = CellLedger.Key.commit(id, watch.target)
                if ledger.mayAsk(key, through, now) {
                    ledger.asked(key, now)
                    operations.append(.commitMigration(id, target: watch.target))
                }
            } else if now >= watch.givesUpAt {
                let key = CellLedger.Key.cancel(id, watch.target)
                if ledger.mayAsk(key, through, now) {
                    ledger.asked(key, now)
                    counts.migrationsCancelled += 1
                    operations.append(.cancelMigration(id, target: watch.target))
                }
                migrating[id]?.givesUpAt = now + CellKeeper.patience
            }
        }
    }

    // MARK: Rebalancing

    /// Whether moving it can make the cell better.
    func isMovable(_ vm: CellVM) -> Bool {
        // Its disks would have to come along: that is not worth a better balance.
        if vm.boundTo != nil { return false }
        guard way(vm) == .migrate, pending[vm.id] == nil, let place = vm.place else { return false }
        return view.hosts[place.assignment.host]?.state == .ready
    }

    /// By itself where the cell is set so: every minute a part of the VMs is looked at. What was moved rests; and since it is
    /// not known here what another leader moved, nothing is moved before this node has led for that long. Every move makes the
    /// cell's score better by a stated least amount, so moves come to an end.
    mutating func planRebalance(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        if view[.rebalance] != 2 || now < rebalanceAt { return }
        let cooldown = Nanoseconds.milliseconds(Int64(clamping: min(view[.moveCooldown], 1 << 40)))
        if now < leadsSince + cooldown {
            rebalanceAt = leadsSince + cooldown
            return
        }
        rebalanceAt = now + CellKeeper.rebalanceInterval
        if queue.count > 0 || !draining.isEmpty || !nominations.isEmpty { return }
        var budget = MoveBudget(self)
        if budget.left <= 0 { return }
        // Only those of a window may move: the others are frozen.
        var frozen: [VMID] = []
        var window = 0
        var last: VMID?
        let ids = index.vmIDs
        for pass in 0..<2 {
            for id in ids where (id > rebalanceNext) == (pass == 0) {
                guard window < CellKeeper.rebalancedAtOnceMax, !CellKeeper.isCopy(id), let vm = view.vms[id],
                    isMovable(vm), restingUntil[id].map({ now >= $0 }) ?? true
                else {
                    frozen.append(id)
                    continue
                }
                window += 1
                last = id
            }
        }
        guard let last else { return }
        rebalanceNext = last
        let plan = index.planRebalance(
            policy: policy,
            budget: RebalanceBudget(
                movesMax: budget.left, movesPerHostMax: max(1, Int(clamping: view[.migrationsPerHostMax])),
                frozen: frozen, gainMin: CellKeeper.rebalanceGainMin, busyHosts: budget.busyHosts))
        for move in plan.moves {
            guard budget.allows(move.from.host), budget.allows(move.to.host), let vm = view.vms[move.vm] else {
                continue
            }
            begin(vm, move.to, .rebalance, now, &budget, &operations)
        }
    }

    static let rebalancedAtOnceMax = 512
    /// The least gain of a move made without being asked: a 64th of an average host.
    static let rebalanceGainMin: Int64 = 1_024
}
