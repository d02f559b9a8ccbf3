internal import ClusterBase

/// What of a tenant's VMs would have to stop for the rest to run within a quota. A quota itself bounds what exists; what is
/// stopped counts there as before, and its disks are given back only with it.
package enum QuotaExcess {
    /// Stops of one plan; what is beyond is found by planning again.
    package static let stopsMax = 1_000

    /// A VM that is to run.
    package struct Runner: Hashable, Sendable {
        package var vm: VMID
        package var name: String
        package var tenant: String
        package var priority: Int32
        package var createdAt: LogTime
        /// It is stopped as it is here, or not at all.
        package var generation: UInt64
        package var place: VMPlace?
        package var charge: Resources
        /// Nil for one that is not to run, goes, or is another cell's.
        package init?(_ vm: CellVM) {
            if vm.power == .stopped || vm.isDeleting || vm.arrival != nil || vm.departure?.isLeaving == true {
                return nil
            }
            self.vm = vm.id
            name = vm.name
            tenant = vm.tenant
            priority = vm.spec.priority
            createdAt = vm.createdAt
            generation = vm.generation
            place = vm.place
            charge = vm.spec.charge
        }

        /// The least important first, and of those the newest.
        func stopsBefore(_ other: Runner) -> Bool {
            if priority != other.priority { return priority < other.priority }
            return createdAt == other.createdAt ? vm > other.vm : createdAt > other.createdAt
        }
    }

    /// Those that stop, in their order: the least important and newest until the rest is within the quota, without those that
    /// then turn out not to matter. A bound of disk stops nobody.
    package static func stops(_ runners: [Runner], for quota: Quota) -> [Runner] {
        var sum = SIMD4<Int64>.zero
        let bounds: SIMD4<Int64> = [
            quota.vmCount.map { Int64(clamping: $0) } ?? .max, quota.cpuMillis ?? .max, quota.memoryMiB ?? .max, .max,
        ]
        func share(_ runner: Runner) -> SIMD4<Int64> { QuotaShare(vms: 1, runner.charge).vector }
        for runner in runners { sum &+= share(runner) }
        var stops: [Runner] = []
        for runner in runners.sorted(by: { $0.stopsBefore($1) }) {
            let isOver = sum .> bounds
            if !any(isOver) { break }
            let own = share(runner)
            if !any(isOver .& (own .> 0)) { continue }
            stops.append(runner)
            sum &-= own
        }
        var mattersNot = [Bool](repeating: false, count: stops.count)
        for i in stops.indices.reversed() {
            let own = share(stops[i])
            if any(sum &+ own .> bounds) { continue }
            sum &+= own
            mattersNot[i] = true
        }
        return stops.indices.filter { !mattersNot[$0] }.map { stops[$0] }
    }
}

extension CellPlan {
    /// Adds what a quota stops where it is enforced, and else says whom it would stop. A plan has at most
    /// `QuotaExcess.stopsMax` of them.
    package mutating func add(_ stops: [QuotaExcess.Runner], isEnforced: Bool, hostName: (HostID) -> String) {
        if !isEnforced {
            if stops.isEmpty { return }
            let named = stops.prefix(CellPlan.stopsNamedMax).map(\.name)
            let rest = stops.count > named.count ? " and \(stops.count - named.count) more" : ""
            let whom = stops.count == 1 ? "1 VM" : "\(stops.count) VMs"
            notes.append(
                "with --enforce \(whom) would be stopped, the least important and newest first: "
                    + named.joined(separator: ", ") + rest)
            return
        }
        change = mix64(change ^ 1)
        isComplete = stops.count <= QuotaExcess.stopsMax
        steps += stops.prefix(QuotaExcess.stopsMax).map { runner in
            let host = runner.place?.assignment.host
            return Step(
                .stop, vm: runner.vm, name: runner.name, tenant: runner.tenant, epoch: runner.place?.epoch ?? 0,
                from: host, fromName: host.map(hostName) ?? "", to: nil, toName: "")
        }
        if !stops.isEmpty {
            notes.append(
                "what is stopped stays, with its disks, and counts as before: delete it, or make it smaller, to have room for more"
            )
        }
    }

    private static let stopsNamedMax = 20
}
