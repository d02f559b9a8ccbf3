import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodeRuntime
import RaftCore

// What another quota would do, and, where somebody says so, its enforcement: VMs that run beyond it are stopped.
//
//     quota ─▶ beyond it? ─▶ the tenant's VMs of all cells ─▶ whom it stops ─▶ each stopped as it was seen ─┐
//                                     ▲                                          └ changed meanwhile        │
//                                     └────────────────────────── looked at again ◀──────────────────────────┘

/// A VM that is to run, and its cell.
private struct TenantRunner {
    var runner: QuotaExcess.Runner
    var cell: GroupID
}

extension AdminPort {
    /// VMs of one tenant that are to run, among which some are chosen.
    private static let runnersMax = 200_000
    /// Stops that are under way for one request.
    private static let stopsAtOnce = 64
    /// Times that an enforcement looks who runs.
    private static let enforcementRounds = 3

    /// What a tenant may have is the root's word, and what it uses the sum of all cells.
    func planQuota(_ wish: QuotaWish, _ asker: FleetAsker, _ done: @escaping (AdminResponse) -> Void) {
        agent.refreshView { [self] problem in
            if let problem { return done(AdminResponse(problem)) }
            let known = agent.view.tenant(wish.tenant).map { TenantSettings(quota: $0.quota, tier: $0.tier) }
            planQuota(wish) { [self] result in
                guard case .success(var plan) = result else {
                    if case .failure(let problem) = result { done(AdminResponse(problem)) }
                    return
                }
                let finish = { (plan: CellPlan) in
                    let info = PlanInfo(plan).changing(
                        wish.tenant, from: known, to: TenantSettings(quota: wish.quota, tier: wish.tier))
                    done(AdminResponse(json: info.json, index: plan.through == .zero ? nil : plan.through))
                }
                // What exists is within it, and so is what runs.
                if plan.left.isEmpty { return finish(plan) }
                runners(of: wish.tenant) { [self] found in
                    switch found {
                    case .failure(let problem): done(AdminResponse(problem))
                    case .success(let found):
                        let stops = QuotaExcess.stops(found.map(\.runner), for: wish.quota)
                        plan.add(stops, isEnforced: wish.isEnforced, hostName: hostName)
                        finish(plan)
                    }
                }
            }
        }
    }

    private func planQuota(_ wish: QuotaWish, _ done: @escaping (Result<CellPlan, Problem>) -> Void) {
        readAll(.slice(wish.tenant), .linearizable, cells.map(\.group)) { answers in
            var used = Resources.zero
            var count: UInt64 = 0
            var through = LogIndex.zero
            for answer in answers {
                switch answer {
                case .failure(let problem): return done(.failure(problem))
                case .success(let found):
                    through = answers.count == 1 ? found.answer.index : .zero
                    for row in AdminPort.rows(found.answer).rows {
                        guard case .slice(_, let slice?) = row else { continue }
                        used += slice.used
                        count += slice.usedCount
                    }
                }
            }
            done(
                .success(
                    CellPlan(
                        of: wish.tenant, wish.quota, used: used, count: count, through: through,
                        isEnforced: wish.isEnforced)))
        }
    }

    // MARK: Who runs

    private func runners(of tenant: String, _ done: @escaping (Result<[TenantRunner], Problem>) -> Void) {
        readRunners(of: tenant, cells.map(\.group)[...], after: nil, [], done)
    }

    /// Page by page, cell by cell.
    private func readRunners(
        of tenant: String, _ cells: ArraySlice<GroupID>, after: VMID?, _ known: [TenantRunner],
        _ done: @escaping (Result<[TenantRunner], Problem>) -> Void
    ) {
        guard let cell = cells.first else { return done(.success(known)) }
        if known.count > AdminPort.runnersMax {
            let problem = Problem(
                .notPossible,
                "more than \(AdminPort.runnersMax) VMs of the tenant \(tenant) are to run, too many to choose among; stop some first"
            )
            return done(.failure(problem))
        }
        read(.vmsOfTenant(tenant, after: after, limit: 0), .linearizable, cell) { [self] result in
            guard case .success(let found) = result else {
                if case .failure(let problem) = result { done(.failure(problem)) }
                return
            }
            var known = known
            var last = after
            let page = AdminPort.rows(found.answer)
            for row in page.rows {
                guard case .vm(let id, let vm?) = row else { continue }
                last = id
                if let runner = QuotaExcess.Runner(vm) { known.append(TenantRunner(runner: runner, cell: cell)) }
            }
            if page.resumeAfter == nil || last == after {
                readRunners(of: tenant, cells.dropFirst(), after: nil, known, done)
            } else {
                readRunners(of: tenant, cells, after: last, known, done)
            }
        }
    }

    // MARK: Enforcement

    /// Stops what runs beyond the quota, and says in words what was stopped.
    func enforce(
        _ quota: Quota, of tenant: String, _ asker: FleetAsker, _ done: @escaping (Result<String, Problem>) -> Void
    ) {
        enforce(quota, of: tenant, asker, round: 1, stopped: [], refusal: nil, done)
    }

    private func enforce(
        _ quota: Quota, of tenant: String, _ asker: FleetAsker, round: Int, stopped: [String], refusal: Problem?,
        _ done: @escaping (Result<String, Problem>) -> Void
    ) {
        runners(of: tenant) { [self] result in
            guard case .success(let found) = result else {
                if case .failure(let problem) = result { done(.failure(AdminPort.unenforced(problem, stopped))) }
                return
            }
            let stops = QuotaExcess.stops(found.map(\.runner), for: quota)
            if stops.isEmpty { return done(.success(AdminPort.words(stopped: stopped))) }
            if stopped.count >= QuotaExcess.stopsMax || round > AdminPort.enforcementRounds {
                let why = refusal?.detail ?? "more VMs run beyond it"
                return done(
                    .failure(
                        AdminPort.unenforced(
                            Problem(.notPossible, "\(stops.count) VMs run on beyond it: \(why); ask again"), stopped)))
            }
            let chosen = Set(stops.prefix(QuotaExcess.stopsMax - stopped.count).map(\.vm))
            stop(found.filter { chosen.contains($0.runner.vm) }[...], asker, [], nil) { [self] more, last in
                enforce(
                    quota, of: tenant, asker, round: round + 1, stopped: stopped + more, refusal: last ?? refusal, done)
            }
        }
    }

    /// Each as it was seen: one that somebody changed since, or that is elsewhere by now, is left alone.
    private func stop(
        _ runners: ArraySlice<TenantRunner>, _ asker: FleetAsker, _ stopped: [String], _ refusal: Problem?,
        _ done: @escaping (_ stopped: [String], _ refusal: Problem?) -> Void
    ) {
        if runners.isEmpty { return done(stopped, refusal) }
        let wave = runners.prefix(AdminPort.stopsAtOnce)
        var left = wave.count
        var (stopped, refusal) = (stopped, refusal)
        for item in wave {
            let stop = CellCommand.Operation.setPower(
                item.runner.vm, .stopped, generation: item.runner.generation)
            command(stop, .once(), item.cell, asker) { [self] result in
                left -= 1
                switch result {
                case .failure(let problem): refusal = problem
                case .success(let said):
                    if case .refused(let why) = said.outcome {
                        refusal = problem(why, item.cell)
                    } else {
                        stopped.append(item.runner.name)
                    }
                }
                if left == 0 { self.stop(runners.dropFirst(wave.count), asker, stopped, refusal, done) }
            }
        }
    }

    /// What is known is said first: the quota is set.
    private static func unenforced(_ problem: Problem, _ stopped: [String]) -> Problem {
        var problem = problem
        problem.detail =
            "the quota is set" + (stopped.isEmpty ? "" : words(stopped: stopped)) + ", and not all is enforced: "
            + problem.detail
        return problem
    }

    private static func words(stopped: [String]) -> String {
        if stopped.isEmpty { return "; nothing runs beyond it" }
        let named = stopped.sorted().prefix(20).joined(separator: ", ")
        let rest = stopped.count > 20 ? " and \(stopped.count - 20) more" : ""
        return "; \(stopped.count == 1 ? "1 VM stops" : "\(stopped.count) VMs stop"): \(named)\(rest)"
    }
}
