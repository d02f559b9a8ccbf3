import ClusterBase
import FleetModel

// What a cell keeps free for losses, counted once more from all of its rows.

extension FleetRules {
    /// The sums are what the rows say, and nothing that begins leaves too little for a loss.
    static func brokenReserve(_ before: CellView, _ after: CellView) -> Broken? {
        guard let standing = after.reserve, !standing.isCounting else { return nil }
        var slack = slack(after, standing.reserve)
        if slack != standing.slack.vector {
            return Broken(
                promise: "the reserve is counted right", detail: "\(standing), and by its rows \(slack) is left")
        }
        guard let old = before.reserve, !old.isCounting, old.reserve == standing.reserve, slack.min() < 0,
            // hash order: whether all are the same
            before.hosts.allSatisfy({ isSame($0.value, after.hosts[$0.key]) }), before.hosts.count == after.hosts.count
        else { return nil }
        // What came beside it and may use the reserve may have come later, and so may what is owed a place again.
        let users = after.vms.keys.sorted().filter { id in
            guard let vm = after.vms[id], vm.place != nil else { return false }
            return before.vms[id].map { $0.place == nil && $0.mayUseReserve } ?? vm.mayUseReserve
        }
        if !users.isEmpty { slack = Self.slack(after, standing.reserve, without: users) }
        for id in after.vms.keys.sorted() {
            guard let vm = after.vms[id], vm.isOwedAPlace, before.vms[id]?.isOwedAPlace != true else { continue }
            slack &+= vm.demand.vector
        }
        for id in after.vms.keys.sorted() {
            guard let vm = after.vms[id], vm.place != nil, let was = before.vms[id], was.place == nil,
                !was.mayUseReserve
            else { continue }
            let demand = vm.demand.vector
            for lane in 0..<4 where demand[lane] > 0 && slack[lane] < 0 && slack[lane] < old.slack.vector[lane] {
                return Broken(
                    promise: "no place is given out of the reserve", detail: "\(vm), which leaves \(slack): \(standing)"
                )
            }
        }
        return nil
    }

    /// Whether a VM that waits, or another one of its gang, would leave too little for a loss.
    static func breaksReserve(_ vm: CellVM, _ view: CellView) -> Bool {
        guard var standing = view.reserve, !standing.isCounting, !vm.mayUseReserve else { return false }
        for id in view.vms.keys.sorted() {
            guard let one = view.vms[id], id == vm.id || (vm.gang > 0 && one.gang == vm.gang) else { continue }
            let counts = one.spec.startsElsewhere && one.boundTo == nil
            if standing.lack(for: one.demand, counts: counts) != nil { return true }
            standing.take(one.demand, counts: counts)
        }
        return false
    }

    private static func isSame(_ a: CellHost, _ b: CellHost?) -> Bool {
        a.state == b?.state && a.offered == b?.offered && a.about.locality == b?.about.locality
    }

    private static func slack(
        _ view: CellView, _ reserve: FailoverReserve, without others: [VMID] = []
    ) -> SIMD4<Int64> {
        // hash order: looked up, or read as a sorted list of sums
        var free: [HostID: SIMD4<Int64>] = [:]
        for id in view.hosts.keys.sorted() {
            guard let host = view.hosts[id], host.health == .up else { continue }
            free[id] = host.state == .ready ? host.offered.vector : .zero
        }
        // hash order: read as a sorted list of sums
        var lost: [String: SIMD4<Int64>] = [:]
        var (debt, owed, largest) = (SIMD4<Int64>.zero, SIMD4<Int64>.zero, SIMD4<Int64>.zero)
        for id in view.vms.keys.sorted() {
            guard let vm = view.vms[id] else { continue }
            let demand = vm.demand.vector
            guard let place = vm.place, !others.contains(id) else {
                let isOwed = vm.lostAt > .zero && vm.power != .stopped && !vm.isDeleting && vm.boundTo == nil
                if isOwed && vm.departure?.isLeaving != true { owed &+= demand }
                continue
            }
            let host = view.hosts[place.assignment.host]
            let goes =
                !place.isReleasing && !vm.isDeleting && vm.power != .stopped && vm.boundTo == nil
                && !vm.spec.isBoundToHost && vm.spec.restart != .never && vm.spec.isolation == .stop
            if goes { largest.replace(with: demand, where: demand .> largest) }
            guard let host, host.health == .up else { continue }
            switch host.state {
            case .ready: free[host.id, default: .zero] &-= demand
            case .draining, .maintenance: debt &+= demand
            case .cordoned, .down: break
            }
            if goes && (host.state == .ready || host.state == .cordoned) {
                lost[domain(reserve.scope, host), default: .zero] &+= demand
            }
        }
        var sum = SIMD4<Int64>.zero
        for id in view.hosts.keys.sorted() {
            guard let host = view.hosts[id], var left = free[id], host.state == .ready else { continue }
            left.replace(with: 0, where: left .< 0)
            sum &+= left
            lost[domain(reserve.scope, host), default: .zero] &+= left
        }
        var worst = SIMD4<Int64>.zero
        for lane in 0..<4 {
            // hash order: sorted
            worst[lane] = lost.values.map { $0[lane] }.sorted(by: >).prefix(reserve.count).reduce(0, +)
        }
        return sum &- debt &- worst &- owed &- largest
    }
}
