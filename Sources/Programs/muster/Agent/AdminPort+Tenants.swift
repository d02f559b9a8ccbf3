import AdminAPI
import ClusterBase
import Controllers
import FleetModel
import NodeRuntime
import RaftCore

// What the root says of a tenant comes to the cells: their leaders see to that by themselves, within a second. Who changes a
// tenant is answered when it is there, and who is refused by a cell that has not heard of a tenant is asked about at the root.

extension AdminPort {
    /// Whether it is made or changed this node's view says, which may be behind: then the root refuses, and is asked first.
    func setTenant(_ name: String, _ settings: TenantSettings, _ asker: FleetAsker, isFresh: Bool = false) {
        let isThere = agent.view.tenant(name) != nil
        let operation: RootCommand.Operation =
            isThere
            ? .setTenant(name: name, settings.quota, tier: settings.tier)
            : .createTenant(name: name, settings.quota, tier: settings.tier)
        if let problem = agent.problem(wanting: operation.level) { return fail(asker, problem) }
        // Another command than the one that was refused, so under another id.
        agent.change(operation, request: asker.request(isFresh ? 1 : 0), by: asker.by) { [self] result in
            guard case .failure(let problem) = result, !isFresh,
                problem == Problem(isThere ? RootRefusal.unknownTenant(name) : .tenantExists(name))
            else {
                guard case .success(let done) = result else { return finishRoot(result, asker, "") }
                return bringEverywhere(name, asker) { [self] behind in
                    let words = "the tenant \(name) is set" + AdminPort.words(behind)
                    guard settings.isEnforced else { return finishRoot(.success(done), asker, words) }
                    enforce(settings.quota, of: name, asker) { [self] stopped in
                        switch stopped {
                        case .failure(let problem): fail(asker, problem)
                        case .success(let whom): finishRoot(.success(done), asker, words + whom)
                        }
                    }
                }
            }
            agent.refreshView { [self] problem in
                if let problem { return fail(asker, problem) }
                setTenant(name, settings, asker, isFresh: true)
            }
        }
    }

    private func finishRoot(_ result: Result<RootResult, Problem>, _ asker: FleetAsker, _ words: String) {
        switch result {
        case .failure(let problem): fail(asker, problem)
        case .success(let done):
            answer(asker, AdminResponse(json: Acceptance(words).json, index: done.revision.index))
        }
    }

    func deleteTenant(_ name: String, _ cells: [GroupID], _ asker: FleetAsker) {
        readAll(.slice(name), .linearizable, cells) { [self] answers in
            for answer in answers {
                guard case .success(let found) = answer else {
                    if case .failure(let problem) = answer { fail(asker, problem) }
                    return
                }
                for row in AdminPort.rows(found.answer).rows {
                    guard case .slice(_, let slice?) = row else { continue }
                    for (count, what) in [(slice.usedCount, "VMs"), (slice.groupCount, "placement groups")]
                    where count > 0 {
                        return fail(
                            asker, Problem(.notPossible, "the tenant \(name) has \(count) \(what); delete them first"))
                    }
                }
            }
            let ends = agent.view.operators.count {
                $0.scope == name && [.tenantReader, .tenantWriter].contains($0.role)
            }
            let with = ends == 0 ? "" : ends == 1 ? " with the token for it" : " with the \(ends) tokens for it"
            agent.change(.deleteTenant(name: name), request: asker.request(), by: asker.by) { [self] result in
                guard case .success(let done) = result else { return finishRoot(result, asker, "") }
                bringEverywhere(name, asker) { [self] behind in
                    finishRoot(.success(done), asker, "the tenant \(name) is deleted\(with)" + AdminPort.words(behind))
                }
            }
        }
    }

    // MARK: To the cells

    /// Has a cell hear of those of these tenants that the root knows; false where it knows none of them. What the root does not
    /// say is no answer.
    func bring(
        _ tenants: [String], to cell: GroupID, _ asker: FleetAsker, _ done: @escaping (Result<Bool, Problem>) -> Void
    ) {
        agent.refreshView { [self] problem in
            if let problem { return done(.failure(problem)) }
            let known = tenants.filter { agent.view.tenant($0) != nil }
            if known.isEmpty { return done(.success(false)) }
            bring(known[...], to: cell, asker) { done(.success($0)) }
        }
    }

    private func bring(
        _ tenants: ArraySlice<String>, to cell: GroupID, _ asker: FleetAsker, _ done: @escaping (Bool) -> Void
    ) {
        guard let tenant = tenants.first else { return done(true) }
        bringOne(tenant, to: cell, asker, .end(of: agent.view.through ?? .zero)) { [self] isThere in
            if isThere { bring(tenants.dropFirst(), to: cell, asker, done) } else { done(false) }
        }
    }

    /// Brings what the root says of a tenant now, or that it is gone, to all cells; gives those that it did not come to.
    func bringEverywhere(_ tenant: String, _ asker: FleetAsker, _ done: @escaping (_ behind: [String]) -> Void) {
        agent.refreshView { [self] problem in
            let all = cells
            if problem != nil { return done(all.map(\.name)) }
            var left = all.count
            var behind: [String] = []
            for cell in all {
                bringOne(tenant, to: cell.group, asker, .end(of: agent.view.through ?? .zero)) { isThere in
                    left -= 1
                    if !isThere { behind.append(cell.name) }
                    if left == 0 { done(behind.sorted()) }
                }
            }
            if all.isEmpty { done([]) }
        }
    }

    /// An older word than what the cell has changes nothing there.
    private func bringOne(
        _ tenant: String, to cell: GroupID, _ asker: FleetAsker, _ through: Revision, _ done: @escaping (Bool) -> Void
    ) {
        let knows = agent.engine.levelOpen >= FeatureLevel.knownTenants
        let operation: CellCommand.Operation
        if let known = agent.view.tenant(tenant) {
            let wish = TenantWish(known, isLent: agent.view.firstCell.map { $0.group == cell } ?? true)
            operation = .setSlice(
                tenant: tenant, revision: wish.revision, wish.quota, through: knows ? through.index : .zero)
        } else {
            operation = .returnSlice(tenant: tenant, revision: through)
        }
        let controller = FleetAsker(
            principal: .anonymous, by: "controller", key: nil, ticket: asker.ticket, tenants: nil)
        command(operation, .once(), cell, controller) { result in
            if case .success(let said) = result, said.outcome == .done { done(true) } else { done(false) }
        }
    }

    static func words(_ behind: [String]) -> String {
        behind.isEmpty
            ? ", and in force in every cell"
            : "; \(behind.count == 1 ? "cell" : "cells") \(behind.joined(separator: ", ")) did not answer, and "
                + "\(behind.count == 1 ? "takes" : "take") it over later; ask again to know when"
    }
}
