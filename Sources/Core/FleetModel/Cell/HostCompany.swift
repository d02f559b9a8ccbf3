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
        var staying: [Locality] = []
        var there: [Locality] = []
        for node in nodes where node.state != .removed {
            let cell = node.cell ?? first
            if cell == target || leaving.contains(node.id) {
                there.append(node.about.locality)
            } else if cell == source {
                staying.append(node.about.locality)
            }
        }
        return HostCompany(of: going, staying: staying, there: there)
    }
}

extension HostCompany {
    /// Of these hosts, where hosts of the two cells stand when they have gone.
    package init(of going: [NodeID], staying: [Locality], there: [Locality]) {
        // hash order: compared only
        func racks(_ places: [Locality]) -> Set<[String]> { Set(places.map { [$0.zone, $0.rack] }) }
        // hash order: compared only
        func zones(_ places: [Locality]) -> Set<String> { Set(places.map(\.zone)) }
        hosts = going.prefix(RootLimits.plannedHostsMax).map { HostID(rawValue: $0.rawValue) }
        racksApart = racks(staying).isDisjoint(with: racks(there))
        zonesApart = zones(staying).isDisjoint(with: zones(there))
    }
}
