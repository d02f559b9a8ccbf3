package import ClusterBase
internal import Schema

/// How long a tenant's VMs were down whose hosts were lost, or that left an evacuated region, in the cell where they run again. Counted where a VM's row says that
/// it runs, so that no leader's memory is needed.
package struct TenantRecovery: Hashable, Sendable {
    /// VMs that were lost at about the same time.
    package struct Loss: Hashable, Sendable {
        /// When the host of the first of them was heard last.
        package var lostAt: LogTime
        /// How long the last one of them was down that runs again, and how many do.
        package var millis: UInt64 = 0
        package var vms: UInt64 = 0
        /// It took longer than was declared.
        package var isMissed = false
        package init(lostAt: LogTime) { self.lostAt = lostAt }

        init?(_ wire: WireTenantLoss?) {
            guard let wire else { return nil }
            self.init(lostAt: LogTime(wire.lostAt))
            millis = wire.millis
            vms = wire.vms
            isMissed = wire.isMissed
        }
        var wire: WireTenantLoss {
            WireTenantLoss(lostAt: lostAt.rawValue, millis: millis, vms: vms, isMissed: isMissed)
        }
    }

    /// Hosts that were heard last within this many milliseconds of each other were lost together.
    package static let togetherMillis: UInt64 = 60_000

    package var last: Loss
    package var longest: Loss
    package var losses: UInt64 = 1
    /// Of those.
    package var missed: UInt64 = 0

    package init(_ loss: Loss) {
        last = loss
        longest = loss
    }

    /// Takes in that a VM runs again. True for the first of a loss that was down longer than `most`.
    package mutating func ran(_ lostAt: LogTime, at time: LogTime, within most: Nanoseconds?) -> Bool {
        let apart = max(lostAt.rawValue, last.lostAt.rawValue) - min(lostAt.rawValue, last.lostAt.rawValue)
        if apart > TenantRecovery.togetherMillis {
            // One of a loss before, which had to wait for long, counts for nothing that is kept but the longest.
            if lostAt < last.lostAt {
                let late = TenantRecovery.down(lostAt, time)
                if late > longest.millis {
                    longest = Loss(lostAt: lostAt)
                    (longest.millis, longest.vms) = (late, 1)
                }
                return false
            }
            last = Loss(lostAt: lostAt)
            losses += 1
        }
        last.lostAt = min(last.lostAt, lostAt)
        last.vms += 1
        last.millis = max(last.millis, TenantRecovery.down(lostAt, time))
        let isMissed = most.map { last.millis > UInt64(clamping: $0.milliseconds) } ?? false
        let isNews = isMissed && !last.isMissed
        last.isMissed = last.isMissed || isMissed
        if isNews { missed += 1 }
        if last.millis >= longest.millis { longest = last }
        return isNews
    }

    private static func down(_ lostAt: LogTime, _ time: LogTime) -> UInt64 {
        time.rawValue - min(time.rawValue, lostAt.rawValue)
    }

    init?(_ wire: WireTenantRecovery?) {
        guard let wire, let last = Loss(wire.last), let longest = Loss(wire.longest) else { return nil }
        self.init(last)
        self.longest = longest
        losses = wire.losses
        missed = wire.missed
    }
    var wire: WireTenantRecovery {
        WireTenantRecovery(last: last.wire, longest: longest.wire, losses: losses, missed: missed)
    }
}

extension Objective {
    /// Nil for no promise.
    package var most: Nanoseconds? { if case .within(let most) = self { most } else { nil } }
}

extension TenantSlice {
    /// How long its VMs may be down that were lost, where its cell says `most`; nil for no promise.
    package func rto(unless most: Nanoseconds?) -> Nanoseconds? { quota.rto == .auto ? most : quota.rto.most }
}

extension CellStep {
    /// A VM whose host was lost runs again, or is not to run any more.
    mutating func settleLoss(of vm: inout CellVM) throws(StoreError) {
        let runs = vm.phase == .running || vm.phase == .paused
        guard runs || vm.power == .stopped || vm.isDeleting || vm.phase == .looping else { return }
        let lostAt = vm.lostAt
        vm.lostAt = .zero
        if !runs { return }
        var slice = try slice(vm.tenant)
        let most = slice.rto(unless: Objective(value: try setting(.rto))?.most)
        var known = slice.recovery ?? TenantRecovery(TenantRecovery.Loss(lostAt: lostAt))
        let isMissed = known.ran(lostAt, at: time, within: most)
        slice.recovery = known
        put(slice)
        if isMissed, let most {
            note(
                "tenant.rto-missed", tenant: vm.tenant,
                "VM \(vm.name) was down for \(known.last.millis) ms since its host was lost, or it left an evacuated region; declared are at most "
                    + Objective.within(most).text)
        }
    }
}
