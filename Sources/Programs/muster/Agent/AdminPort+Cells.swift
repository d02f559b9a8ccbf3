import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import TLSSession

// Which cells there are, and which of them a request is about.

extension AdminPort {
    static func noCell(_ name: String) -> Problem { Problem(RootRefusal.unknownCell(name)) }

    private static let needsCell = Problem(
        .invalid, "the cluster has several cells, and this is about one; name it with cell= or --cell", field: "cell")

    /// The cell of a host, as far as the map that this node knows tells.
    func cell(of host: HostID) -> GroupID? { agent.view.assignment(of: NodeID(host.rawValue))?.cell }

    /// Goes on with the cells that a request is about: the one that it says, the one that has what it names, or for a list
    /// all of them.
    func locate(
        _ request: FleetRequest, _ name: String?, _ asker: FleetAsker, _ body: @escaping ([GroupID]) -> Void
    ) {
        if case .dryRun(let change) = request { return locate(change, name, asker, body) }
        let groups = cells.map(\.group)
        var name = name
        if case .recovery(let asked) = request { name = asked }
        if let name {
            guard let known = cells.first(where: { $0.name == name }) else {
                return fail(asker, AdminPort.noCell(name))
            }
            return body([known.group])
        }
        guard groups.count > 1 else { return body(groups) }
        switch request {
        case .list(let list), .audit(let list):
            if case .atLeast = list.mode { return fail(asker, AdminPort.needsCell) }
            guard list.watch != nil || list.kind == .events else { return body(groups) }
            if let name = list.host { return body([hostID(name).flatMap(cell(of:)) ?? groups[0]]) }
            guard let name = list.vm else { return fail(asker, AdminPort.needsCell) }
            let vm = UInt64(name).map { VMReference.id(VMID($0)) } ?? .named(name, tenant: list.tenant ?? defaultTenant)
            locate(vm, groups, asker, body)
        case .host(let name, _), .setDuty(let name, _), .setHostPolicy(let name, _, _, _), .removeHost(let name, _),
            .careForHost(let name, _), .markStorage(let name, _), .hostUsage(let name), .plan(.drain(let name)),
            .plan(.returns(let name)),
            .plan(.remove(let name)),
            .plan(.declareDead(let name)):
            body([hostID(name).flatMap(cell(of:)) ?? groups[0]])
        case .plan(.capacity(let wish)): body([hostID(wish.host).flatMap(cell(of:)) ?? groups[0]])
        case .plan(.quota): body(groups)
        case .plan(.loss(let names)):
            let found = names.compactMap { hostID($0).flatMap(cell(of:)) }
            if let first = found.first, found.contains(where: { $0 != first }) {
                return fail(asker, Problem(.invalid, "these hosts are in several cells; ask about each cell's alone"))
            }
            body([found.first ?? groups[0]])
        case .renewLease(let wish): body([cell(of: wish.host) ?? groups[0]])
        case .group(let name, let tenant, _), .deleteGroup(let name, let tenant):
            locateGroup(name, tenant, groups, asker, body)
        case .createVM(let creation): rank([creation], groups, asker, body)
        case .createVMs(let batch):
            rank(batch.items.compactMap { if case .success(let item) = $0 { item } else { nil } }, groups, asker, body)
        case .plan(.create(let items, _)): rank(items, groups, asker, body)
        case .createGroup: body([groups[0]])
        case .tenant, .setTenant, .deleteTenant, .rehearse: body(groups)
        case .recovery: preconditionFailure("it names its cell")
        case .remains, .forgetRemains, .images, .image, .addImagePart, .addImage, .removeImage: body(groups)
        case .plan(.rebalance), .rebalance, .losses, .startRebalance, .settings, .changeSettings:
            fail(asker, AdminPort.needsCell)
        default:
            guard let vm = request.vm else { preconditionFailure("\(request.operation) is about no cell") }
            locate(vm, groups, asker, body)
        }
    }

    /// A VM's id says in which cell it was made. A name is asked for in all cells at once.
    func locate(
        _ vm: VMReference, _ groups: [GroupID], _ asker: FleetAsker, _ body: @escaping ([GroupID]) -> Void
    ) {
        if case .id(let id) = vm {
            let home = GroupID(.cell, number: id.cellNumber)
            return locate(id, groups.contains(home) ? [home] : groups, groups, asker, body)
        }
        find(AdminPort.query(vm), groups, asker, "VM \(vm)") { row in
            switch row {
            case .vm(_, let vm?): vm.arrival == nil ? VMWorth.here : 4
            case .tombstone(_, let gone?): gone.movedTo == 0 ? 2 : 1
            default: 0
            }
        } _: {
            body([$0 ?? groups[0]])
        }
    }

    /// Most VMs are where they were made. Of one that went elsewhere all cells are asked at once.
    private func locate(
        _ vm: VMID, _ asked: [GroupID], _ groups: [GroupID], _ asker: FleetAsker, _ body: @escaping ([GroupID]) -> Void
    ) {
        let isFirst = asked.count < groups.count
        find(.vm(vm), asked, asker, "VM \(vm)", mayFail: isFirst) { row in
            // What is only kept for it where it was made is not where it is.
            if case .vm(_, let vm?) = row { vm.arrival == nil ? VMWorth.here : isFirst ? 0 : 4 } else { 0 }
        } _: { [self] found in
            if let found { return body([found]) }
            if isFirst { return locate(vm, groups, groups, asker, body) }
            // Where it was made there may be what is remembered of it.
            let home = GroupID(.cell, number: vm.cellNumber)
            groups.contains(home) ? body([home]) : fail(asker, AdminPort.noVM(.id(vm)))
        }
    }

    private func locateGroup(
        _ name: String, _ tenant: String, _ groups: [GroupID], _ asker: FleetAsker,
        _ body: @escaping ([GroupID]) -> Void
    ) {
        find(.groupNamed(tenant: tenant, name: name), groups, asker, "placement group \(name)") { row in
            if case .group(_, .some) = row { 3 } else { 0 }
        } _: {
            body([$0 ?? groups[0]])
        }
    }

    /// New VMs go where their placement groups are, and else to the cells that most likely have room.
    private func rank(
        _ creations: [VMCreation], _ groups: [GroupID], _ asker: FleetAsker, _ body: @escaping ([GroupID]) -> Void
    ) {
        guard let first = creations.first(where: { !$0.spec.groups.isEmpty }) else {
            return body(rankedCells(for: creations, groups))
        }
        locateGroup(first.spec.groups[0], first.tenant, groups, asker, body)
    }

    /// The cell with the row that is worth most, of those worth anything; two of the greatest worth are for the asker to
    /// tell apart. Where some cell does not answer and no other has it, nobody knows; who `mayFail` asks others then. Nothing is
    /// worth more than `VMWorth.here`: of a VM that is asked for by its id nobody else is waited for then, and by its name only the
    /// cells of other regions, since it is the only one of its name in its own.
    private func find(
        _ query: CellQuery, _ groups: [GroupID], _ asker: FleetAsker, _ what: String, mayFail: Bool = false,
        _ worth: @escaping (CellRowContent) -> Int, _ body: @escaping (GroupID?) -> Void
    ) {
        let isByID = if case .one(.vms, _) = query { true } else { false }
        let regions = groups.map { group in cells.first { $0.group == group }?.region }
        var worths = [Result<Int, Problem>?](repeating: nil, count: groups.count)
        var isOver = false
        for (i, group) in groups.enumerated() {
            read(query, .linearizable, group) { [self] answer in
                worths[i] = answer.map { AdminPort.rows($0.answer).rows.map(worth).max() ?? 0 }
                guard !isOver else { return }
                let here = worths.indices.filter {
                    if case .success(VMWorth.here)? = worths[$0] { true } else { false }
                }
                isOver = worths.indices.allSatisfy { other in
                    worths[other] != nil
                        || (isByID ? !here.isEmpty : here.contains { regions[$0] == regions[other] ?? "" })
                }
                if isOver { judge(worths, groups, asker, what, mayFail: mayFail, body) }
            }
        }
    }

    private func judge(
        _ worths: [Result<Int, Problem>?], _ groups: [GroupID], _ asker: FleetAsker, _ what: String, mayFail: Bool,
        _ body: (GroupID?) -> Void
    ) {
        var best: (worth: Int, cells: [GroupID]) = (0, [])
        var problem: Problem?
        for (group, answer) in zip(groups, worths) {
            switch answer {
            case nil: break
            case .failure(let failure): problem = problem ?? failure
            case .success(let worth):
                if worth > best.worth { best = (worth, []) }
                if worth == best.worth && worth > 0 { best.cells.append(group) }
            }
        }
        if best.worth > 2 && best.cells.count > 1 {
            let names = best.cells.map(cellName).joined(separator: " and ")
            return fail(
                asker, Problem(.invalid, "cells \(names) each have a \(what); name one with cell=", field: "cell"))
        }
        if let problem, best.worth <= 2, !mayFail { return fail(asker, problem) }
        body(best.cells.first)
    }

    /// Asks several cells the same thing at once; the answers are in the order of the cells.
    func readAll(
        _ query: CellQuery, _ mode: ReadMode, _ cells: [GroupID],
        _ done: @escaping ([Result<CellRead, Problem>]) -> Void
    ) {
        let unanswered = Problem(.internal, "a cell gave no answer; report this")
        var answers = [Result<CellRead, Problem>](repeating: .failure(unanswered), count: cells.count)
        var left = cells.count
        for (i, cell) in cells.enumerated() {
            read(query, mode, cell) { answer in
                answers[i] = answer
                left -= 1
                if left == 0 { done(answers) }
            }
        }
    }

    func cellName(_ group: GroupID) -> String { cells.first { $0.group == group }?.name ?? "\(group.number)" }

    // MARK: Managing them

    func info(_ cell: RootCell, _ leaders: [GroupID: NodeID] = [:]) -> CellInfo {
        let view = agent.view
        let placement = view.placement(cell.group)
        let placed = placement?.replicas.filter { !$0.isLeaving } ?? []
        let isReady = placed.count { $0.phase == .made } > placed.count / 2
        let isMoving = placement?.replicas.contains { $0.isLeaving } ?? false
        let hosts = view.nodes.count { $0.state != .removed && view.assignment(of: $0.id)?.cell == cell.group }
        return CellInfo(
            name: cell.name, group: cell.group.rawValue, region: cell.region,
            survives: cell.survives.map { "\($0)" } ?? "", epoch: cell.epoch, hosts: Int64(hosts),
            nodes: placed.map { agent.name(of: $0.node) },
            leader: (leaders[cell.group] ?? agent.leaderHere(cell.group)).map(agent.name) ?? "",
            state: isReady ? (isMoving ? "moving" : "ready") : "creating",
            risks: agent.risks(of: cell.group).map { "\($0.kind.name): \($0.text)" },
            plan: cell.plan.map { HostsPlanInfo($0, of: cell, view) })
    }

    func create(_ wanted: CellCreation, _ asker: Asker) {
        let survives = RootCell.Survival.allCases.first { "\($0)" == wanted.survives }
        let operation = RootCommand.Operation.createCell(
            name: wanted.name, replicas: UInt32(clamping: wanted.replicas ?? 0), region: wanted.region ?? "",
            survives: survives)
        // Also one that says no more than the first cell's, which older programs know: it makes a second one.
        if let problem = agent.problem(wanting: FeatureLevel.cells) {
            return answer(asker.ticket, AdminResponse(problem))
        }
        agent.change(operation, request: asker.request, by: asker.name) { [self] result in
            let made: RootResult
            switch result {
            case .failure(let problem): return answer(asker.ticket, AdminResponse(problem))
            case .success(let result): made = result
            }
            known(made, asker.ticket) { [self] in
                agent.view.cell(wanted.name).map { AdminResponse(json: info($0).json, status: 201) }
                    ?? AdminResponse(Acceptance("the cell \(wanted.name) is made"), status: 202)
            }
        }
    }

    /// The cell closes if it is empty, so that nothing comes to it any more, and then its group ends.
    func retireCell(_ name: String, _ asker: Asker) {
        agent.refreshView { [self] problem in
            if let problem { return answer(asker.ticket, AdminResponse(problem)) }
            let view = agent.view
            guard let cell = view.cell(name) else {
                return answer(asker.ticket, AdminResponse(AdminPort.noCell(name)))
            }
            let refusal: RootRefusal? =
                view.firstCell == cell
                ? .firstCell(name)
                : info(cell).hosts > 0
                    ? .cellHasHosts(name) : RootCell.keepsNames(cell, of: view.cells) ? .cellKeepsNames(name) : nil
            if let refusal { return answer(asker.ticket, AdminResponse(Problem(refusal))) }
            empty(cell, by: asker.name, asker.ticket) { [self] problem in
                if let problem { return answer(asker.ticket, AdminResponse(problem)) }
                change(.retireCell(name: cell.name), asker, "the cell \(cell.name) is retired")
            }
        }
    }

    /// Nothing comes to the cell any more, and whatever was lent to it has come or is the lender's again: its group may end.
    private func empty(_ cell: RootCell, by: String, _ ticket: Ticket, _ done: @escaping (Problem?) -> Void) {
        let fleet = FleetAsker(principal: .anonymous, by: by, key: nil, ticket: ticket, tenants: nil)
        // What is not back, or still in use, the cell says when it is to close.
        returnLoans(of: cell.group, fleet) { [self] in
            command(.closeCell, .once(), cell.group, fleet) { [self] result in
                switch result {
                case .failure(let problem): done(problem)
                case .success(let said):
                    if case .refused(let refusal) = said.outcome { return done(Problem(refusal)) }
                    settleLoans(to: cell.group, fleet, done)
                }
            }
        }
    }

    /// A cell that was merged into another one and is to end then ends; asked for where it is led, until it is done.
    func retireMerged(_ cell: RootCell, _ done: @escaping (Problem?) -> Void) {
        // Nobody asked for it here, and nobody is answered.
        empty(cell, by: "controller", Ticket(rawValue: 0)) { [self] problem in
            if let problem { return done(problem) }
            agent.change(.retireCell(name: cell.name), by: "controller") { result in
                if case .failure(let problem) = result { done(problem) } else { done(nil) }
            }
        }
    }
}

private enum VMWorth {
    /// The VM itself, and not what is kept for it or remembered of it.
    static let here = 5
}
