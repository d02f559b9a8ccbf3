import ClusterBase

extension CellView {
    /// Hosts with VMs of one hard group that two cells could not keep: those of each group, groups with fewer hosts first. Groups that
    /// keep VMs on different hosts, or in different racks, are kept by cells that share no rack. O(VMs).
    package var hostsTogether: [[HostID]] {
        // hash order: looked up only
        var found: [PlacementGroupID: Set<HostID>] = [:]
        // hash order: looked up only
        var wanted: [[String]: PlacementGroupID] = [:]
        var apart = HostCompany()
        apart.racksApart = true
        // hash order: each fills a place of its own
        for (id, group) in groups where !apart.keeps(group) { wanted[[group.tenant, group.name]] = id }
        if wanted.isEmpty { return [] }
        // hash order: sets of hosts are filled, which have no order
        for vm in vms.values where !vm.spec.groups.isEmpty {
            for name in vm.spec.groups {
                guard let id = wanted[[vm.tenant, name]] else { continue }
                for claim in vm.claims { found[id, default: []].insert(claim.host) }
            }
        }
        // hash order: sorted
        return found.sorted { ($0.value.count, $0.key) < ($1.value.count, $1.key) }.map { $0.value.sorted() }
            .filter { $0.count > 1 }
    }
}
