package import ClusterBase
package import FleetModel

/// Whether a cell that has outgrown its bound is to be split, and which of its hosts go: asked where the cell is led.
///
/// Half of the hosts go (`SplitChoice`). Both cells keep as many hosts as their group wants voters, over two zones where there are any,
/// if they are to survive something; a cell that can not be divided so is left alone.
package enum SplitRule {
    /// Root time in milliseconds for which nothing begins by itself after somebody called a plan off.
    package static let restsFor: UInt64 = 3_600_000

    /// What to ask of the root; nil for nothing. `vms` are the cell's. O(nodes).
    package static func plan(
        _ view: RootView, _ group: GroupID, vms: Int, _ bound: SplitBound,
        ties: () -> CellTies = { CellTies() }
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
        var facts = SplitChoice.Facts(cell: cell, nodes: own)
        facts.ties = ties()
        guard let choice = SplitChoice.half(facts), let name = name(beside: cell, view) else { return nil }
        var wish = HostsPlan.Wish(.split)
        wish.into = name
        wish.nodes = choice.nodes
        wish.isAutomatic = true
        return .planHosts(cell: cell.name, wish)
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
