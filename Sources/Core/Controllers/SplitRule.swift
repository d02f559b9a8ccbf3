package import ClusterBase
package import FleetModel

/// Whether a cell that has outgrown its bound is to be split, and which of its hosts go: asked where the cell is led.
///
/// Half of the hosts go, of each zone by itself, and whole racks where hosts name theirs; hosts with VMs of one hard group that no two
/// cells can keep go or stay together, where that is possible. Both cells keep as many hosts as their group wants voters, over two zones
/// where there are any, if they are to survive something; a cell that can not be divided so is left alone.
package enum SplitRule {
    /// Root time in milliseconds for which nothing begins by itself after somebody called a plan off.
    package static let restsFor: UInt64 = 3_600_000

    /// What to ask of the root; nil for nothing. `vms` are the cell's, and `together` gives hosts that are not to be parted. O(nodes).
    package static func plan(
        _ view: RootView, _ group: GroupID, vms: Int, _ bound: SplitBound,
        together: () -> [[HostID]] = { [] }
    ) -> RootCommand.Operation? {
        guard let cell = view.cell(group) else { return nil }
        if let plan = cell.plan {
            if plan.isLive { return nil }
            if plan.state == .cancelled && view.time < plan.changedAt.advanced(by: restsFor) { return nil }
        }
        let isTaken = view.cells.contains { $0.plan?.isLive == true && $0.plan?.to == group }
        if isTaken { return nil }
        let first = view.firstCell?.group
        let own = view.nodes.filter { $0.state != .removed && ($0.cell ?? first) == group }
        let size = bound.kind == .hosts ? own.count : vms
        guard UInt64(size) > bound.count else { return nil }
        let bundles = together().map { $0.map { NodeID(rawValue: $0.rawValue) } }
        guard let going = half(of: own, cell, together: bundles) ?? half(of: own, cell),
            let name = name(beside: cell, view)
        else {
            return nil
        }
        var wish = HostsPlan.Wish(.split)
        wish.into = name
        wish.nodes = going.map(\.id)
        wish.isAutomatic = true
        return .planHosts(cell: cell.name, wish)
    }

    /// The hosts that go, by name; nil where either side would be left with too few.
    static func half(of nodes: [RootNode], _ cell: RootCell, together: [[NodeID]] = []) -> [RootNode]? {
        let sorted = nodes.sorted { $0.name < $1.name }
        // hash order: sorted at once
        let zones = Set(sorted.map(\.about.locality.zone)).sorted()
        let units = units(of: sorted, together)
        // Those of several zones first: of these, too, half.
        let wide = units.filter { unit in unit.contains { $0.about.locality.zone != unit[0].about.locality.zone } }
        var going: [RootNode] = []
        take(wide, upTo: wide.reduce(0) { $0 + $1.count } / 2, &going)
        // hash order: looked up only
        let known = Set(wide.flatMap { $0.map(\.id) })
        for zone in zones {
            // As many as make it half of all zones so far.
            let upTo = (sorted.count { $0.about.locality.zone <= zone }) / 2
            let here = units.filter { $0[0].about.locality.zone == zone && !known.contains($0[0].id) }
            let later = going.count { $0.about.locality.zone > zone }
            take(here, upTo: upTo + later, &going)
        }
        going = Array(going.prefix(RootLimits.plannedHostsMax))
        // hash order: looked up only
        let gone = Set(going.map(\.id))
        let staying = sorted.filter { !gone.contains($0.id) }
        return isEnough(going, cell, zones.count) && isEnough(staying, cell, zones.count) ? going : nil
    }

    /// Each unit that brings their number nearer to `upTo`.
    private static func take(_ units: [[RootNode]], upTo: Int, _ going: inout [RootNode]) {
        for unit in units {
            let left = upTo - going.count
            if left <= 0 { break }
            if unit.count <= left || unit.count - left < left { going += unit }
        }
    }

    /// Hosts that go or stay together, by rack and name: a rack, and racks that hold VMs of one group. What would be more than half of
    /// all is not kept together.
    private static func units(of nodes: [RootNode], _ together: [[NodeID]]) -> [[RootNode]] {
        // Who names no rack is in none.
        let ordered = nodes.sorted { one, other in
            let (a, b) = (one.about.locality, other.about.locality)
            return (a.zone, a.rack, one.name) < (b.zone, b.rack, other.name)
        }
        var units: [[RootNode]] = []
        for node in ordered {
            let place = node.about.locality
            if let last = units.last?.last?.about.locality, !place.rack.isEmpty, last.zone == place.zone,
                last.rack == place.rack
            {
                units[units.count - 1].append(node)
            } else {
                units.append([node])
            }
        }
        // hash order: looked up only
        var unitOf: [NodeID: Int] = [:]
        for (i, unit) in units.enumerated() { for node in unit { unitOf[node.id] = i } }
        for bundle in together {
            // hash order: sorted at once
            let joined = Set(bundle.compactMap { unitOf[$0] }).sorted()
            guard let first = joined.first, joined.count > 1 else { continue }
            let size = joined.reduce(0) { $0 + units[$1].count }
            if size > nodes.count / 2 { continue }
            for other in joined.dropFirst() {
                for node in units[other] { unitOf[node.id] = first }
                units[first] += units[other]
                units[other] = []
            }
        }
        return units.filter { !$0.isEmpty }
    }

    private static func isEnough(_ nodes: [RootNode], _ cell: RootCell, _ zones: Int) -> Bool {
        if cell.survives == nil { return !nodes.isEmpty }
        // hash order: counted only
        let own = Set(nodes.map(\.about.locality.zone)).count
        return nodes.count >= Int(cell.replicas) && own >= min(2, zones)
    }

    /// The cell's name with the first number from 2 on that no other one has.
    private static func name(beside cell: RootCell, _ view: RootView) -> String? {
        var base = cell.name
        if let dash = base.lastIndex(of: "-"), UInt32(base[base.index(after: dash)...]) != nil {
            base = String(base[..<dash])
        }
        base = String(base.prefix(RootLimits.nameBytesMax - 8))
        let taken = view.cells.map(\.name)
        return (2...view.cells.count + 2).lazy.map { "\(base)-\($0)" }.first { !taken.contains($0) }
    }
}
