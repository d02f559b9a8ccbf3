package import ClusterBase
internal import Schema

/// What goes to another cell beside a host, and what the two cells have in common when all of it has gone: what the cell that they
/// leave needs to know to keep the hard rules of its groups. By itself a host goes alone, between cells that share all.
package struct HostCompany: Hashable, Sendable {
    /// Everything that is in the cell goes.
    package var isAll = false
    /// Other hosts that go. Of those that are not in the cell any more nothing is asked.
    package var hosts: [HostID] = []
    /// No rack, no zone, has hosts of both cells then. Hosts of a zone that name no rack are one rack.
    package var racksApart = false
    package var zonesApart = false

    package init() {}

    init?(_ wire: WireCellCommand.SendHost) {
        if wire.going.count > RootLimits.plannedHostsMax { return nil }
        isAll = wire.allGo
        hosts = wire.going.map { HostID($0) }
        racksApart = wire.racksApart
        zonesApart = wire.zonesApart
    }

    /// Whether two cells that judge a group by the members that each of them has can not break its rule together.
    package func keeps(_ group: CellGroup) -> Bool {
        if isAll || !group.isHard { return true }
        switch (group.rule, group.scope) {
        // Hosts of two cells are different ones.
        case (.antiAffinity, .host), (.spread, .host): return true
        case (.antiAffinity, .rack), (.spread, .rack): return racksApart
        case (.antiAffinity, .zone), (.spread, .zone): return zonesApart
        case (.pack, _), (.affinity, _): return false
        }
    }
}

extension RootView {
    /// Of a host that is to go from one cell to another: by the plan that has it go, or alone.
    package func company(of node: NodeID, from source: GroupID, to target: GroupID) -> HostCompany {
        guard let cell = self.cell(source), let plan = cell.plan, plan.state != .done, plan.to == target else {
            return company(of: [node], from: source, to: target)
        }
        if plan.kind == .merge && plan.isLive {
            var company = HostCompany()
            company.isAll = true
            return company
        }
        let leaving = leaving(cell).map(\.id)
        return company(of: leaving.contains(node) ? leaving : [node], from: source, to: target)
    }

    /// Of these hosts, which go together.
    package func company(of going: [NodeID], from source: GroupID, to target: GroupID) -> HostCompany {
        let first = firstCell?.group
        // hash order: looked up only
        let leaving = Set(going)
        // hash order: looked up only
        var staying: (racks: Set<[String]>, zones: Set<String>) = ([], [])
        // hash order: looked up only
        var there: (racks: Set<[String]>, zones: Set<String>) = ([], [])
        for node in nodes where node.state != .removed {
            let place = node.about.locality
            let cell = node.cell ?? first
            if cell == target || leaving.contains(node.id) {
                there.racks.insert([place.zone, place.rack])
                there.zones.insert(place.zone)
            } else if cell == source {
                staying.racks.insert([place.zone, place.rack])
                staying.zones.insert(place.zone)
            }
        }
        var company = HostCompany()
        company.hosts = going.prefix(RootLimits.plannedHostsMax).map { HostID(rawValue: $0.rawValue) }
        company.racksApart = staying.racks.isDisjoint(with: there.racks)
        company.zonesApart = staying.zones.isDisjoint(with: there.zones)
        return company
    }
}
