import ClusterBase

extension CellView {
    /// Where the cell would stand with its reserve if a host were another one, or were not there; nil where nothing is judged by it.
    /// Counted from the rows. O(VMs).
    package func reserve(if id: HostID, were changed: CellHost?) -> ReserveStanding? {
        guard var standing = reserve, !standing.isCounting else { return nil }
        let scope = standing.reserve.scope
        // hash order: looked up only
        var known: [HostID: ReserveHost] = [:]
        // hash order: sums
        for vm in vms.values {
            let use = ReserveUse(vm)
            if let part = use.still { known[part.host, default: ReserveHost()].still &+= part.amount }
            if let part = use.second { known[part.host, default: ReserveHost()].second &+= part.amount }
            if changed == nil && vm.place?.assignment.host == id { standing.owed.vector &+= use.counted }
        }
        var free = SIMD4<Int64>.zero
        // hash order: read sorted
        var weights: [[UInt8]: SIMD4<Int64>] = [:]
        for number in hosts.keys.sorted() {
            guard let host = number == id ? changed : hosts[number], host.health == .up else { continue }
            let part = ReserveHost.part(host, known[number] ?? ReserveHost())
            free &+= part.free
            weights[host.domain(scope), default: .zero] &+= part.weight
        }
        standing.free = Resources(free)
        for kind in ResourceKind.allCases {
            let lane = kind.rawValue
            // hash order: sorted at once
            let order = weights.filter { $0.value[lane] > 0 }.sorted {
                $0.value[lane] == $1.value[lane] ? $0.key.precedes($1.key) : $0.value[lane] > $1.value[lane]
            }
            let worst = order.prefix(standing.reserve.count)
            standing.worst.vector[lane] = worst.reduce(0) { $0 &+ $1.value[lane] }
            standing.domains[lane] = worst.map { ReserveStanding.name($0.key, scope) }
        }
        return standing
    }
}
