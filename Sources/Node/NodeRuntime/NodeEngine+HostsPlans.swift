package import ClusterBase
import Controllers
package import FleetModel
import NodePorts
import RaftCore
import StoreLayout

// Where a cell is led, hosts leave it one after the other for another cell, as the root's plan says.

extension NodeEngine {
    func tendHostsPlans(_ now: Instant) {
        let answers = cells.hostsPlanAnswers
        cells.hostsPlanAnswers.removeAll()
        for (group, node, operation, outcome) in answers {
            guard let k = cells.position(of: group) else { continue }
            cells.kept[k].hostsPlanAt = now
            guard let to = hostsPlan(of: group)?.plan.to else { continue }
            if let ask = cells.kept[k].hostsPlan.hear(outcome, of: operation, node, to: to, now: now) {
                send(ask, group, now)
            }
        }
        for k in cells.kept.indices {
            let isNews = cells.kept[k].hostsPlanThrough != steward.view.through
            guard isNews || now >= cells.kept[k].hostsPlanAt else { continue }
            cells.kept[k].hostsPlanThrough = steward.view.through
            cells.kept[k].hostsPlanAt = now + settings.moveInterval
            tendHostsPlan(k, now)
        }
    }

    private func hostsPlan(of group: GroupID) -> HostsPlanKeeper.Facts? {
        HostsPlanKeeper.Facts(cells.toldRoot ?? steward.view, group)
    }

    private func tendHostsPlan(_ k: Int, _ now: Instant) {
        let group = cells.kept[k].group
        guard packLevel >= FeatureLevel.cells, cells.kept[k].keeper.isReady else { return }
        guard let facts = hostsPlan(of: group) else { return splitOutgrown(k, now) }
        var keeper = cells.kept[k].hostsPlan
        let view = cells.kept[k].keeper.view
        let asks = keeper.plan(facts, now: now, settings: view.settings) { operation in
            refusal(of: operation, group)
        } vms: {
            view.vms.keys.sorted().compactMap { view.vms[$0] }
        } groups: {
            view.groups.keys.sorted().compactMap { view.groups[$0] }
        }
        cells.kept[k].hostsPlan = keeper
        for ask in asks { send(ask, group, now) }
    }

    /// A cell beyond its bound begins a plan by itself, and so does one that has become too small.
    private func splitOutgrown(_ k: Int, _ now: Instant) {
        guard now >= cells.kept[k].splitAt, cells.toldRoot != nil || steward.commandsUnderWay == 0 else { return }
        cells.kept[k].splitAt = now + Cells.splitInterval
        let view = cells.kept[k].keeper.view
        let root = cells.toldRoot ?? steward.view
        let group = cells.kept[k].group
        if let bound = SplitBound(value: view[.splitAbove]),
            let operation = SplitRule.plan(root, group, vms: view.vms.count, bound, ties: { CellTies(view) })
        {
            return send(.root(operation), group, now)
        }
        if let bound = SplitBound(value: view[.mergeBelow]),
            let operation = MergeRule.plan(root, group, vms: view.vms.count, bound)
        {
            send(.root(operation), group, now)
        }
    }

    /// Why the cell would not carry it out as it is now; nil where it would, or nobody knows.
    private func refusal(of operation: CellCommand.Operation, _ group: GroupID) -> CellRefusal? {
        let command = CellCommand(by: "controller", operation)
        let query = CellQuery.rehearsal([command.encoded()], cell: group.number, level: packLevel)
        guard case .cell(let answer)? = readHere(group, .cell(query)), case .refused(let refusal) = answer.body else {
            return nil
        }
        return refusal
    }

    private func send(_ ask: HostsPlanKeeper.Ask, _ group: GroupID, _ now: Instant) {
        switch ask {
        case .root(let operation):
            if cells.toldRoot == nil { self.ask(operation, now) } else { cells.rootAsks.append(operation) }
        case .own(let node, let operation):
            let command = CellCommand(by: "controller", operation)
            let task = node.map { StewardTask.hostsPlan(group, $0, operation) } ?? .told
            self.ask(.command(group, command.encoded()), task, now)
        case .other(let target, let operation):
            let command = CellCommand(by: "controller", operation)
            self.ask(.command(target, command.encoded()), .hostsPlan(group, NodeID(rawValue: 0), operation), now)
        }
    }

    /// May be in the midst of a replica's step: it only notes.
    func tended(_ group: GroupID, _ node: NodeID, _ operation: CellCommand.Operation, _ answer: ClientAnswer) {
        var outcome: CellResult.Outcome?
        if case .applied(.cell(let result)) = answer { outcome = result.outcome }
        cells.hostsPlanAnswers.append((group, node, operation, outcome))
    }

    /// What a shell tells that follows no root, and what is asked of the root there since it was told last.
    package func tell(root view: RootView, now: Instant) -> [RootCommand.Operation] {
        defer { cells.rootAsks.removeAll() }
        cells.toldRoot = view
        for k in cells.kept.indices { cells.kept[k].hostsPlanAt = now }
        return cells.rootAsks
    }
}
