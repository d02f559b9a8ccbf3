import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodeRuntime
import RaftCore

// What a plan of new VMs says of names that other cells of the region have: what their creation would say.
//
//     names ─▶ would the region's keeper have them held? ─(all)─▶ the cell plans all
//                                                    └─(not all)─▶ the cell plans the others, and those are left out

extension AdminPort {
    /// The plan of new VMs, with what only the region knows, and what who asks may not give them.
    func planCreation(
        _ items: [VMCreation], isAtomic: Bool, _ cell: GroupID, _ asker: FleetAsker,
        _ done: @escaping (AdminResponse) -> Void
    ) {
        let refused = items.compactMap { item in
            priorityRefusal(item, asker).map { (creation: item, text: "\($0)") }
        }
        if refused.isEmpty { return planNamed(items, isAtomic: isAtomic, cell, asker, done) }
        let others = items.filter { priorityRefusal($0, asker) == nil }
        planNamed(isAtomic || others.isEmpty ? items : others, isAtomic: isAtomic, cell, asker) { planned in
            done(AdminPort.plan(planned, refusing: refused, of: items, isAtomic: isAtomic))
        }
    }

    /// What the cell would say of a VM's priority to one who reaches its tenant alone.
    private func priorityRefusal(_ item: VMCreation, _ asker: FleetAsker) -> CellRefusal? {
        let operation = CellCommand.Operation.createVMs([], isAtomic: false)
        guard isBounded(operation, asker), let tenant = agent.view.tenant(item.tenant),
            item.spec.priority > tenant.quota.priorityMax
        else { return nil }
        return .priorityTooHigh(
            tenant: item.tenant, most: Int64(tenant.quota.priorityMax), asked: Int64(item.spec.priority))
    }

    /// A plan as the asker may see it.
    static func plan(_ planned: AdminResponse, for asker: FleetAsker) -> AdminResponse {
        guard let tenants = asker.tenants, planned.status == 200, case .bytes(let bytes) = planned.body else {
            return planned
        }
        do throws(Problem) {
            var answer = AdminResponse(
                json: try PlanInfo(body: bytes[...]).seen(by: tenants).json, index: planned.index)
            answer.leader = planned.leader
            return answer
        } catch {
            return AdminResponse(error)
        }
    }

    private func planNamed(
        _ items: [VMCreation], isAtomic: Bool, _ cell: GroupID, _ asker: FleetAsker,
        _ done: @escaping (AdminResponse) -> Void
    ) {
        let region = cells.first { $0.group == cell }?.region
        let siblings = cells.filter { $0.region == region }.map(\.group)
        guard siblings.count > 1 else { return hand(.plan(.create(items, isAtomic: isAtomic)), cell, asker, done) }
        let search = NameSearch(items)
        search.done = { [self] in
            if let problem = search.problem { return done(AdminResponse(problem)) }
            let refused = items.indices.compactMap { at in
                search.refused[at].map { (creation: items[at], text: "\($0)") }
            }
            let others = items.indices.filter { search.refused[$0] == nil }.map { items[$0] }
            // Of all or none the others are not looked at by themselves.
            let asked = isAtomic || others.isEmpty ? items : others
            hand(.plan(.create(asked, isAtomic: isAtomic)), cell, asker) { planned in
                done(AdminPort.plan(planned, refusing: refused, of: items, isAtomic: isAtomic))
            }
        }
        goOn(search, for: cell, in: siblings, asker)
    }

    private static func plan(
        _ planned: AdminResponse, refusing refused: [(creation: VMCreation, text: String)], of items: [VMCreation],
        isAtomic: Bool
    ) -> AdminResponse {
        guard !refused.isEmpty, planned.status == 200, case .bytes(let bytes) = planned.body else { return planned }
        do throws(Problem) {
            var plan = try PlanInfo(body: bytes[...])
            if refused.count == items.count { plan.steps = [] }
            plan = plan.refusing(refused, of: items, isAtomic: isAtomic)
            var answer = AdminResponse(json: plan.json, index: planned.index)
            answer.leader = planned.leader
            return answer
        } catch {
            return AdminResponse(error)
        }
    }

    private func goOn(_ search: NameSearch, for cell: GroupID, in siblings: [GroupID], _ asker: FleetAsker) {
        while search.underWay < NameSearch.width, search.problem == nil, let at = search.next() {
            search.underWay += 1
            refusal(ofNameOf: search.items[at], for: cell, in: siblings, asker) { [self] found in
                search.underWay -= 1
                switch found {
                case .failure(let problem): search.problem = search.problem ?? problem
                case .success(let refusal): search.refused[at] = refusal
                }
                goOn(search, for: cell, in: siblings, asker)
            }
        }
        search.endIfIdle()
    }
}

/// Which names of new VMs a region has; so many are asked for at one time.
private final class NameSearch {
    static let width = 64

    let items: [VMCreation]
    private var left = 0
    var underWay = 0
    var refused: [CellRefusal?]
    var problem: Problem?
    var done: (() -> Void)?

    init(_ items: [VMCreation]) {
        self.items = items
        refused = Array(repeating: nil, count: items.count)
    }

    func next() -> Int? {
        if left == items.count { return nil }
        left += 1
        return left - 1
    }

    /// Answers may come while others are asked for: it ends once.
    func endIfIdle() {
        guard underWay == 0, problem != nil || left == items.count, let end = done else { return }
        done = nil
        end()
    }
}
