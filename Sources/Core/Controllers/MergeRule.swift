package import ClusterBase
package import FleetModel

/// Whether a cell that has become small is to be merged, and into which: asked where the cell is led.
///
/// Into one of its region that is like it, has a report, takes part in no plan, and is half full at most by its own bound afterwards
/// (or by what any cell may have): no merge makes a cell that is split then, nor one soon after. The one with the fewest hosts takes it.
/// The first cell and the one that keeps its region's names stay, as they can not be retired, and so does an empty one.
package enum MergeRule {
    /// What to ask of the root; nil for nothing. `vms` are the cell's. O(nodes).
    package static func plan(
        _ view: RootView, _ group: GroupID, vms: Int, _ bound: SplitBound
    ) -> RootCommand.Operation? {
        guard let cell = view.cell(group), cell.group != view.firstCell?.group,
            !RootCell.keepsNames(cell, of: view.cells), mayBegin(cell, view)
        else { return nil }
        let first = view.firstCell?.group
        func hosts(_ group: GroupID) -> UInt64 {
            UInt64(view.nodes.count { $0.state != .removed && ($0.cell ?? first) == group })
        }
        let own = (hosts: hosts(group), vms: UInt64(vms))
        guard own.hosts > 0, (bound.kind == .hosts ? own.hosts : own.vms) < bound.count else { return nil }
        var best: (into: RootCell, hosts: UInt64)?
        for other in view.cells where other.group != group && other.region == cell.region {
            guard other.survives == cell.survives, other.replicas == cell.replicas, isFree(other, view),
                let report = view.report(of: other.group)
            else { continue }
            let both = (hosts: own.hosts + hosts(other.group), vms: own.vms + report.vms)
            let most = SplitBound(value: report.splitAbove)
            guard both.hosts <= (most?.kind == .hosts ? most?.count ?? 0 : CellLimits.hostsMax) / 2,
                both.vms <= (most?.kind == .vms ? most?.count ?? 0 : CellLimits.vmsMax) / 2
            else { continue }
            if best.map({ both.hosts < $0.hosts }) ?? true { best = (other, both.hosts) }
        }
        guard let best else { return nil }
        var wish = HostsPlan.Wish(.merge)
        wish.into = best.into.name
        wish.retires = true
        wish.isAutomatic = true
        return .planHosts(cell: cell.name, wish)
    }

    /// Nothing is planned for it, nor was a while ago: what a split has just made is left alone.
    private static func mayBegin(_ cell: RootCell, _ view: RootView) -> Bool {
        if !isFree(cell, view) { return false }
        let plans = view.cells.compactMap { $0.group == cell.group || $0.plan?.to == cell.group ? $0.plan : nil }
        return plans.allSatisfy { view.time >= $0.changedAt.advanced(by: SplitRule.restsFor) }
    }

    /// Hosts neither come to it nor go by a plan.
    private static func isFree(_ cell: RootCell, _ view: RootView) -> Bool {
        !view.cells.contains { $0.plan?.isLive == true && ($0.group == cell.group || $0.plan?.to == cell.group) }
    }
}
