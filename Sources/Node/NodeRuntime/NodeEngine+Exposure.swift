package import ClusterBase
package import Controllers
package import FleetModel
import NodePorts
import RaftCore

// What the loss of a zone or a region would cost a cell is looked at where the cell is led, and told before there is one.

extension NodeEngine {
    func watchExposure(_ k: Int, _ now: Instant) {
        let view = steward.view
        guard now >= cells.kept[k].lookAt, view.through != nil, cells.kept[k].keeper.isReady else { return }
        cells.kept[k].lookAt = now + settings.exposureInterval
        let group = cells.kept[k].group
        guard let i = position(of: group) else { return }
        let exposure = NodeEngine.exposure(of: &replicas[i], &cells.kept[k].commitTimes, view, now)
        cells.kept[k].exposure = exposure
        let keeper = cells.kept[k].keeper.view
        let promise = CellPromise(keeper, survives: view.cell(group)?.survives)
        var risks = cells.kept[k].risks ?? CellRiskWatch(told: view.report(of: group)?.risks ?? [])
        var found = exposure.risks(promise)
        if let late = cells.kept[k].keeper.lateVMs(now) { found.append(late) }
        if let reserve = cells.kept[k].keeper.reserveAtRisk { found.append(reserve) }
        let changes = risks.look(found, time: keeper.time, now: now)
        cells.kept[k].risks = risks
        if changes.isEmpty || packLevel < FeatureLevel.objectives { return }
        for change in changes {
            let note = CellCommand.Operation.noteRisk(change.kind, isOver: change.isOver, change.text)
            ask(.command(group, CellCommand(by: "controller", note).encoded()), .told, now)
        }
        cells.kept[k].reportAt = now
    }

    private static func exposure(
        of replica: inout Replica, _ known: inout CommitTimes?, _ view: RootView, _ now: Instant
    ) -> CellExposure {
        let commit = replica.raft.commit
        var times = known ?? CommitTimes(commit, now: now)
        var least = commit
        for member in replica.raft.configuration.members {
            least = min(least, replica.raft.match(of: member.peer.replica) ?? .zero)
        }
        times.note(commit, least: least, now: now)
        known = times
        return CellExposure(replica.raft, times: times, now: now) { id in
            view.node(id).map { ($0.name, $0.about.locality) }
        }
    }

    /// Of a cell that is led here: what a loss would cost by the last look, what is promised, and what of that is not kept. Nil
    /// where it is not led, or was not looked at yet.
    package func exposure(
        of group: GroupID
    ) -> (exposure: CellExposure, promise: CellPromise, risks: [CellRisk])? {
        guard let k = cells.position(of: group), let exposure = cells.kept[k].exposure else { return nil }
        let promise = CellPromise(cells.kept[k].keeper.view, survives: steward.view.cell(group)?.survives)
        return (exposure, promise, cells.kept[k].risks?.told ?? [])
    }
}
