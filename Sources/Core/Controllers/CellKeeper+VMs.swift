import ClusterBase
import FleetModel
import Placement

// What runs, what crashed, what moves, and what should.

extension CellKeeper {
    /// Puts a VM on the lists of what needs care, or takes it off them.
    mutating func care(_ vm: CellVM, _ now: Instant) {
        followRegion(vm, now)
        returns.follow(vm.id, vm.origin?.host)
        if let migration = vm.migration {
            if let known = migrating[vm.id], known.target == migration.target.epoch,
                known.progressMillis == migration.progressMillis
            {
                // No progress.
            } else {
                migrating[vm.id] = MigrationWatch(
                    target: migration.target.epoch, progressMillis: migration.progressMillis,
                    intent: migration.intent, givesUpAt: now + CellKeeper.migrationStallMax)
            }
        } else if let watch = migrating.removeValue(forKey: vm.id) {
            // What it took part in may go on elsewhere, and it rests: moved lately, or it could not.
            let cooldown = Nanoseconds.milliseconds(Int64(clamping: min(view[.moveCooldown], 1 << 40)))
            let isOnLeavingHost = leavesHost(vm)
            let hasFailed = vm.place?.epoch != watch.target
            // What could not be had for a better balance can't be had in a moment either.
            let balance = hasFailed ? max(cooldown, CellKeeper.restAfterFailedBalance) : cooldown
            restingUntil[vm.id] = now + (isOnLeavingHost ? CellKeeper.restAfterFailure : balance)
            // One that has just come to a host leaves it at once if that is to be empty.
            if hasFailed { failedUntil[vm.id] = now + CellKeeper.restAfterFailure }
            failedIntents[vm.id] = hasFailed && triesHarder(vm) ? watch.intent : nil
            drainAt = min(drainAt, now)
            returns.at = min(returns.at, now)
            enforcement.at = min(enforcement.at, now)
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
}
