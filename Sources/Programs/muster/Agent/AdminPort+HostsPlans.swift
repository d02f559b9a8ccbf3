import AdminAPI
import AdminHTTP
import ClusterBase
import Controllers
import FleetModel
import NodePorts
import NodeRuntime
import StoreLayout

// Cells are split and merged by plans that the root keeps.

extension AdminPort {
    /// Hosts of which a dry run says what would become of them.
    private static let foretoldMax = 256

    func planHosts(_ name: String, _ wish: HostsPlanWish, _ asker: Asker) {
        if let problem = agent.problem(wanting: FeatureLevel.cells) {
            return answer(asker.ticket, AdminResponse(problem))
        }
        agent.refreshView { [self] problem in
            if let problem { return answer(asker.ticket, AdminResponse(problem)) }
            guard let cell = agent.view.cell(name) else {
                return answer(asker.ticket, AdminResponse(AdminPort.noCell(name)))
            }
            var wanted = HostsPlan.Wish(wish.step)
            wanted.number = cell.plan?.number ?? 0
            wanted.into = wish.into ?? ""
            wanted.retires = wish.retires
            if let problem = choose(wish, of: cell, into: &wanted) {
                return answer(asker.ticket, AdminResponse(problem))
            }
            guard wish.step == .split, let count = wish.hosts else { return plan(wanted, cell, "", wish, asker) }
            choose(Int(clamping: count), of: cell, into: wanted.into) { [self] outcome in
                switch outcome {
                case .failure(let problem): answer(asker.ticket, AdminResponse(problem))
                case .success(let choice):
                    wanted.nodes = choice.nodes
                    if wanted.nodes.isEmpty { return answer(asker.ticket, AdminResponse(AdminPort.noneGoes(cell))) }
                    let why = wish.isDryRun ? choice.leftOut : choice.named + choice.leftOut + choice.held
                    plan(wanted, cell, why, wish, asker)
                }
            }
        }
    }

    /// `why` says how those that go were chosen.
    private func plan(
        _ wanted: HostsPlan.Wish, _ cell: RootCell, _ why: String, _ wish: HostsPlanWish, _ asker: Asker
    ) {
        if wish.isDryRun { return foretell(wanted, cell, why, asker) }
        agent.change(.planHosts(cell: cell.name, wanted), request: asker.request, by: asker.name) { [self] result in
            switch result {
            case .failure(let problem): answer(asker.ticket, AdminResponse(problem))
            case .success(let result):
                known(result, asker.ticket) { [self] in
                    AdminResponse(Acceptance(planText(cell.name) + why), status: asker.status)
                }
            }
        }
    }

    /// Fixes which hosts go; gives what is wrong with the wish.
    private func choose(_ wish: HostsPlanWish, of cell: RootCell, into wanted: inout HostsPlan.Wish) -> Problem? {
        let ways = (wish.hosts == nil ? 0 : 1) + (wish.rack == nil ? 0 : 1) + (wish.zone == nil ? 0 : 1)
        switch wish.step {
        case .pause, .resume, .cancel: return nil
        case .merge:
            wanted.number = 0
            if ways == 0 { return nil }
            return Problem(.invalid, "a merge takes all hosts; leave out hosts, rack and zone", field: "hosts")
        case .split: break
        }
        wanted.number = 0
        if ways != 1 {
            return Problem(.invalid, "say which hosts go: give one of hosts, rack and zone", field: "hosts")
        }
        if !RootCheck.isName(wanted.into) {
            return Problem(.invalid, "say what the cell is called that hosts go to", field: "into")
        }
        if let hosts = wish.hosts {
            return hosts > 0 ? nil : Problem(.invalid, "say how many hosts go: 1 or more", field: "hosts")
        }
        let chosen = hosts(of: cell).filter { node in
            wish.rack.map { $0 == node.about.locality.rack } ?? (wish.zone == node.about.locality.zone)
        }
        wanted.nodes = SplitChoice.inOrder(chosen).map(\.id)
        return chosen.isEmpty ? AdminPort.noneGoes(cell) : nil
    }

    private static func noneGoes(_ cell: RootCell) -> Problem {
        Problem(.notPossible, "no host of cell \(cell.name) is one of those that are to go")
    }

    private func planText(_ name: String) -> String {
        guard let cell = agent.view.cell(name), let plan = cell.plan else {
            return "nothing is planned for cell \(name)"
        }
        let into = cellName(plan.to)
        let left = agent.view.leaving(cell).count
        let look = "`muster cell show \(name)` says how far it is"
        let what = plan.kind == .split ? "the split of cell \(name)" : "the merge of cell \(name) into \(into)"
        switch plan.state {
        case .running where plan.kind == .split:
            return
                "cell \(name) is split: \(left) hosts go to cell \(into) with their VMs, which run on, one after the other. \(look)"
        case .running:
            return
                "cell \(name) is merged into cell \(into): its \(left) hosts go there with their VMs, which run on, one after the "
                + "other, then the VMs that are on no host" + (plan.retires ? ", and then the cell is retired" : "")
                + ". \(look)"
        case .paused: return "\(what) is paused: a host that is on its way arrives, and no other begins"
        case .cancelled:
            return
                "\(what) is called off: the \(plan.hosts) hosts that have gone stay in cell \(into), \(left) on their way arrive, and "
                + "the others stay. Nothing is half way"
                + (plan.makesCell && plan.hosts == 0 && left == 0
                    ? "; cell \(into), which it made, is empty: `muster cell retire \(into)` ends it" : "")
        case .done: return "\(what) is done: \(plan.hosts) hosts went to cell \(into) with \(plan.vms) VMs"
        }
    }

    // MARK: Dry runs

    /// What would go, and what keeps hosts, as the cell says that has them.
    private func foretell(_ wish: HostsPlan.Wish, _ cell: RootCell, _ why: String, _ asker: Asker) {
        let view = agent.view
        let into = view.cell(wish.into)
        if let into, into.region != cell.region || into == cell {
            return answer(asker.ticket, AdminResponse(Problem(RootRefusal.cellsApart(wish.into))))
        }
        var nodes = wish.nodes.compactMap { view.node($0) }
        if wish.step == .merge {
            guard into != nil else { return answer(asker.ticket, AdminResponse(AdminPort.noCell(wish.into))) }
            nodes = hosts(of: cell).sorted { $0.name < $1.name }
        } else if wish.step != .split {
            return fail(asker.ticket, .invalid, "a dry run is of a split or a merge")
        }
        let made = into == nil ? "cell \(wish.into) would be made, and get" : "cell \(wish.into) would get"
        let to = into?.group.number ?? (view.cluster?.cellHighest ?? 0) + 1
        var company = view.company(of: nodes.map(\.id), from: cell.group, to: GroupID(.cell, number: to))
        company.isAll = wish.step == .merge
        foretell(nodes.prefix(AdminPort.foretoldMax), to: to, company, in: cell, asker, goes: [], stays: []) {
            goes, stays in
            let more = nodes.count - min(nodes.count, AdminPort.foretoldMax)
            return made + " " + (goes.isEmpty ? "no host" : goes.joined(separator: ", "))
                + (more > 0 ? "; \(more) more were not looked at" : "")
                + (stays.isEmpty ? "" : "; these stay for now: " + stays.joined(separator: "; ")) + why
        }
    }

    private func foretell(
        _ nodes: ArraySlice<RootNode>, to cell: UInt64, _ company: HostCompany, in home: RootCell, _ asker: Asker,
        goes: [String],
        stays: [String], _ text: @escaping ([String], [String]) -> String
    ) {
        guard let node = nodes.first else {
            return answer(asker.ticket, AdminResponse(Acceptance(text(goes, stays))))
        }
        let host = HostID(rawValue: node.id.rawValue)
        let epoch = node.cellEpoch
        func next(_ outcome: Result<Bool, Problem>) {
            switch outcome {
            case .failure(let problem) where problem.kind.status >= 500: answer(asker.ticket, AdminResponse(problem))
            case .failure(let problem):
                foretell(
                    nodes.dropFirst(), to: cell, company, in: home, asker, goes: goes,
                    stays: stays + ["\(node.name): \(problem.detail)"], text)
            case .success(let hasVMs):
                foretell(
                    nodes.dropFirst(), to: cell, company, in: home, asker,
                    goes: goes + [node.name + (hasVMs ? " with its VMs" : "")], stays: stays, text)
            }
        }
        rehearse(.releaseHost(host, assignment: epoch), home, asker) { [self] refusal in
            guard case .refused(.hostInUse) = refusal else { return next(refusal.result(false)) }
            let send = CellCommand.Operation.sendHost(
                host, to: cell, assignment: epoch, keepsNames: false, company: company)
            rehearse(send, home, asker) { next($0.result(true)) }
        }
    }

    private enum Foretold {
        case done
        case refused(CellRefusal)
        case failed(Problem)

        func result(_ hasVMs: Bool) -> Result<Bool, Problem> {
            switch self {
            case .done: .success(hasVMs)
            case .refused(let refusal): .failure(Problem(refusal))
            case .failed(let problem): .failure(problem)
            }
        }
    }

    private func rehearse(
        _ operation: CellCommand.Operation, _ cell: RootCell, _ asker: Asker, _ done: @escaping (Foretold) -> Void
    ) {
        let command = CellCommand(by: asker.name, operation)
        let query = CellQuery.rehearsal(
            [command.encoded()], cell: cell.group.number, level: agent.engine.levelOpen)
        agent.request(.query(cell.group, .cell(query))) { outcome in
            guard case .read(.cell(let answer)) = outcome else { return done(.failed(Problem(outcome))) }
            guard case .refused(let refusal) = answer.body else { return done(.done) }
            done(.refused(refusal))
        }
    }
}
