import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import StoreLayout

// Hosts go from cell to cell, with their VMs where they have some.

extension AdminPort {
    func assignHost(_ name: String, to wanted: CellAssignment, _ asker: Asker) {
        withNode(name, asker.ticket) { [self] node in
            guard let cell = agent.view.cell(wanted.cell), let home = agent.view.assignment(of: node.id) else {
                return answer(asker.ticket, AdminResponse(AdminPort.noCell(wanted.cell)))
            }
            if home.cell == cell.group && node.movesTo == nil {
                return answer(asker.ticket, AdminResponse(Acceptance("host \(node.name) is in cell \(cell.name)")))
            }
            if wanted.isDryRun { return foretell(node, to: cell, from: home, asker) }
            let begin = RootCommand.Operation.moveHost(node.id, to: cell.group, epoch: home.epoch, .begin)
            agent.change(begin, request: asker.request, by: asker.name) { [self] result in
                if case .failure(let problem) = result { return answer(asker.ticket, AdminResponse(problem)) }
                var moving = node
                moving.movesTo = cell.group
                agent.moveHost(moving, by: asker.name) { [self] problem in
                    if let problem { return answer(asker.ticket, AdminResponse(problem)) }
                    agent.awaitAssignment(of: node.id, after: home.epoch) { [self] in
                        conclude(node, cell, home.epoch, asker)
                    }
                }
            }
        }
    }

    /// Says where the root has the host now.
    private func conclude(_ node: RootNode, _ cell: RootCell, _ epoch: UInt64, _ asker: Asker) {
        refresh(asker.ticket) { [self] in
            guard let now = agent.view.assignment(of: node.id), now.epoch != epoch else {
                let text = "host \(node.name) is on its way to cell \(cell.name)"
                return AdminResponse(Acceptance(text), status: 202)
            }
            if now.cell == cell.group {
                return AdminResponse(Acceptance("host \(node.name) belongs to cell \(cell.name) now"))
            }
            return AdminResponse(
                Problem(
                    .notPossible,
                    "host \(node.name) stays in cell \(cellName(now.cell)); see `muster events --host \(node.name)` for why, and ask "
                        + "again"))
        }
    }

    /// What would go, and what prevents it, as the cell that has the host says.
    private func foretell(
        _ node: RootNode, to cell: RootCell, from home: (cell: GroupID, epoch: UInt64), _ asker: Asker
    ) {
        let host = HostID(rawValue: node.id.rawValue)
        readAll(.vmsOnHost(host, after: nil, limit: 0), .linearizable, [home.cell]) { [self] found in
            guard case .success(let read)? = found.first else {
                if case .failure(let problem)? = found.first { answer(asker.ticket, AdminResponse(problem)) }
                return
            }
            let names = AdminPort.rows(read.answer).rows.compactMap { row -> String? in
                if case .vm(_, let vm?) = row { vm.name } else { nil }
            }
            if !names.isEmpty, agent.view.cell(home.cell)?.region != cell.region {
                return answer(asker.ticket, AdminResponse(Agent.otherRegion(node.name, cell.name)))
            }
            let operation: CellCommand.Operation =
                names.isEmpty
                ? .releaseHost(host, assignment: home.epoch)
                : .sendHost(
                    host, to: cell.group.number, assignment: home.epoch, keepsNames: false,
                    company: agent.view.company(of: node.id, from: home.cell, to: cell.group))
            let command = CellCommand(by: asker.name, operation)
            let query = CellQuery.rehearsal(
                [command.encoded()], cell: home.cell.number, level: agent.engine.levelOpen)
            agent.request(.query(home.cell, .cell(query))) { [self] outcome in
                guard case .read(.cell(let foretold)) = outcome else {
                    return answer(asker.ticket, AdminResponse(Problem(outcome)))
                }
                if case .refused(let refusal) = foretold.body {
                    return answer(asker.ticket, AdminResponse(Problem(refusal)))
                }
                let listed = names.prefix(20).joined(separator: ", ") + (names.count > 20 ? ", …" : "")
                let text =
                    names.isEmpty
                    ? "host \(node.name) has no VMs and would go to cell \(cell.name) at once"
                    : "host \(node.name) would go to cell \(cell.name) with its VMs, which run on: \(listed)"
                answer(asker.ticket, AdminResponse(Acceptance(text)))
            }
        }
    }
}
