import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodeRuntime
import RaftCore
import Reactor

// The plan of new VMs where there are several cells: what their creation would come to.
//
//     cells by what was heard of them ─▶ each plans what the ones before did not place ─▶ the first plans the rest besides
//                                        (all or none: the first that would place all)      └▶ one plan of all parts

/// A plan of new VMs that cells are asked for one after the other.
private final class CellsPlan {
    let items: [VMCreation]
    let isAtomic: Bool
    let cells: [GroupID]
    let asker: FleetAsker
    /// No further cell is asked after this.
    let deadline: Instant
    let done: (AdminResponse) -> Void
    /// Which VMs each cell has so far.
    // hash order: looked up only
    var taken: [GroupID: [VMCreation]] = [:]
    var parts: [PlanInfo.Part] = []
    var first: AdminResponse?

    init(
        _ items: [VMCreation], isAtomic: Bool, _ cells: [GroupID], _ asker: FleetAsker, deadline: Instant,
        _ done: @escaping (AdminResponse) -> Void
    ) {
        self.items = items
        self.isAtomic = isAtomic
        self.cells = cells
        self.asker = asker
        self.deadline = deadline
        self.done = done
    }
}

extension AdminPort {
    /// The plan over these cells, the best first; one alone makes it by itself.
    func planCreation(
        _ items: [VMCreation], isAtomic: Bool, among cells: [GroupID], _ asker: FleetAsker,
        _ done: @escaping (AdminResponse) -> Void
    ) {
        if cells.count < 2 { return planCreation(items, isAtomic: isAtomic, cells[0], asker, done) }
        let deadline = agent.loop.now + CreationJob.patience
        planOn(CellsPlan(items, isAtomic: isAtomic, cells, asker, deadline: deadline, done), items, cells[...])
    }

    private func planOn(_ plan: CellsPlan, _ rest: [VMCreation], _ cells: ArraySlice<GroupID>) {
        guard let cell = cells.first, agent.loop.now < plan.deadline || plan.first == nil else {
            return plan.isAtomic ? endAtomic(plan) : planRest(plan, rest)
        }
        planCreation(rest, isAtomic: plan.isAtomic, cell, plan.asker) { [self] answer in
            if plan.first == nil || plan.first?.status != 200 { plan.first = answer }
            // A cell that does not answer takes nothing.
            guard let found = AdminPort.plan(in: answer) else { return planOn(plan, rest, cells.dropFirst()) }
            let part = found.part(of: rest, in: cellName(cell))
            if plan.isAtomic {
                guard part.taken.count == rest.count else { return planOn(plan, rest, cells.dropFirst()) }
                plan.parts = [part]
                return endAtomic(plan)
            }
            plan.taken[cell] = part.taken
            if !part.taken.isEmpty { plan.parts.append(part) }
            part.rest.isEmpty ? end(plan) : planOn(plan, part.rest, cells.dropFirst())
        }
    }

    /// What no cell would place as it is comes to the first one, with what that has already.
    private func planRest(_ plan: CellsPlan, _ rest: [VMCreation]) {
        let cell = plan.cells[0]
        let name = cellName(cell)
        let own = plan.taken[cell] ?? []
        let asked = plan.items.filter { item in
            own.contains { $0.tenant == item.tenant && $0.name == item.name }
                || rest.contains { $0.tenant == item.tenant && $0.name == item.name }
        }
        planCreation(asked, isAtomic: false, cell, plan.asker) { [self] answer in
            guard let found = AdminPort.plan(in: answer) else { return plan.done(answer) }
            plan.parts.removeAll { $0.cell == name }
            plan.parts.insert(PlanInfo.Part(cell: name, plan: found, taken: asked, rest: []), at: 0)
            let lacking = found.left.filter { $0.cause == CellPlan.Left.Cause.quota.rawValue }.map(\.vm)
            guard let tenant = asked.first(where: { lacking.contains($0.name) })?.tenant else { return end(plan) }
            let wanted = asked.filter { $0.tenant == tenant }
            let share = QuotaShare(
                vms: Int64(wanted.count), wanted.reduce(Resources.zero) { $0 + $1.spec.charge })
            findLoans(share, of: tenant, for: cell) { [self] loans in
                end(plan, loans.isEmpty ? [] : [PlanInfo.loanNote(tenant: tenant, to: name)])
            }
        }
    }

    private func end(_ plan: CellsPlan, _ notes: [String] = []) {
        plan.done(AdminResponse(json: PlanInfo(creatingIn: plan.parts, notes: notes).json, index: nil))
    }

    private func endAtomic(_ plan: CellsPlan) {
        if plan.parts.isEmpty, let first = plan.first { return plan.done(first) }
        end(plan)
    }

    private static func plan(in answer: AdminResponse) -> PlanInfo? {
        guard answer.status == 200, case .bytes(let bytes) = answer.body else { return nil }
        // What can't be read is no plan.
        return try? PlanInfo(body: bytes[...])
    }
}
