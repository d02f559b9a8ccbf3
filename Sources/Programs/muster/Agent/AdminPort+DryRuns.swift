import AdminAPI
import AdminHTTP
import ClusterBase
import Controllers
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import TLSSession

// What a change would do, for who asks with dry-run=1, or holds the change to the plan that was shown.
//
//     the command that the change would be ─▶ the cell carries it out on changes that nobody keeps ─▶ refused: the same refusal
//                                                                                              └─▶ rows then ─▶ a plan

extension AdminPort {
    /// Gives `done` the plan of a change, or why there is none; what the asker did wrong is answered at once.
    func rehearse(
        _ change: FleetRequest, _ cells: [GroupID], _ asker: FleetAsker, _ done: @escaping (AdminResponse) -> Void
    ) {
        if let problem = agent.problem(wanting: FeatureLevel.rehearsals) { return fail(asker, problem) }
        let cell = cells[0]
        switch change {
        case .updateVM(let reference, let spec, let generation):
            withUpdate(reference, spec, generation, cell, asker) { [self] vm, update, imagesAt in
                foretell([update], imagesAt: imagesAt, cell, asker) { [self] result in
                    finish(result, done) { [self] found in
                        let (before, after) = AdminPort.rehearsed(vm, in: found)
                        return PlanInfo(updating: before, to: after, at: found.index, hostName: hostName)
                    }
                }
            }
        case .deleteVM(let reference, let generation):
            withVM(reference, cell, asker) { [self] vm in
                foretell([.deleteVM(vm.id, generation: generation)], cell, asker) { [self] result in
                    finish(result, done) { [self] found in
                        let (before, after) = AdminPort.rehearsed(vm, in: found)
                        return PlanInfo(deleting: before, isAtOnce: after == nil, at: found.index, hostName: hostName)
                    }
                }
            }
        case .migrateVM(let reference, let wish):
            if let name = wish.cell { return rehearseMove(reference, to: name, wish.isCold, cell, asker, done) }
            withVM(reference, cell, asker) { [self] vm in
                hand(.dryRun(.migrateVM(.id(vm.id), wish)), cell, asker, done)
            }
        case .changeSettings(let settings):
            judgeLease(settings, cell, asker) { [self] in
                foretell(settings.values.map { .setSetting($0.0, $0.1) }, cell, asker) { [self] result in
                    finish(result, done) { found in
                        PlanInfo(settings: AdminPort.rehearsed(settings.values, in: found), at: found.index)
                    }
                }
            }
        default: preconditionFailure("\(change.operation) is rehearsed by nobody")
        }
    }

    /// Why there is no plan.
    private struct Unplanned: Error {
        var problem: Problem
        /// What the cell said, and at which state, where it was asked.
        var refusal: CellRefusal?
        var index: LogIndex?

        var response: AdminResponse {
            var response = AdminResponse(problem)
            response.index = index
            return response
        }
    }

    /// Asks the cell what these commands would do.
    private func foretell(
        _ operations: [CellCommand.Operation], imagesAt: LogIndex = .zero, _ cell: GroupID, _ asker: FleetAsker,
        _ done: @escaping (Result<CellAnswer, Unplanned>) -> Void
    ) {
        var commands: [[UInt8]] = []
        for operation in operations {
            if let problem = agent.problem(wanting: operation.level) {
                return done(.failure(Unplanned(problem: problem)))
            }
            let command = CellCommand(
                by: asker.by, imagesAt: operation.namesImages ? imagesAt : .zero,
                isBounded: isBounded(operation, asker), operation)
            if let problem = AdminPort.sizeProblem(command) { return done(.failure(Unplanned(problem: problem))) }
            commands.append(command.encoded())
        }
        let query = CellQuery.rehearsal(commands, cell: cell.number, level: agent.engine.levelOpen)
        agent.request(.query(cell, .cell(query))) { [self] outcome in
            guard case .read(.cell(let found)) = outcome else {
                return done(.failure(Unplanned(problem: Problem(outcome))))
            }
            guard case .refused(let refusal) = found.body else { return done(.success(found)) }
            let problem = problem(refusal, cell).ofDryRun(overCells: cells.count)
            done(.failure(Unplanned(problem: problem, refusal: refusal, index: found.index)))
        }
    }

    private func finish(
        _ result: Result<CellAnswer, Unplanned>, _ done: (AdminResponse) -> Void, _ make: (CellAnswer) -> PlanInfo
    ) {
        switch result {
        case .failure(let unplanned): done(unplanned.response)
        case .success(let found): done(AdminResponse(json: make(found).json, index: found.index))
        }
    }

    /// The VM as it is and as it would be: the one that was asked about where nothing would change.
    private static func rehearsed(_ vm: CellVM, in answer: CellAnswer) -> (before: CellVM, after: CellVM?) {
        var found: [CellVM?] = []
        for row in rows(answer).rows {
            if case .vm(vm.id, let row) = row { found.append(row) }
        }
        guard found.count == 2, let before = found[0] else { return (vm, vm) }
        return (before, found[1])
    }

    /// The settings that were asked for, each as it is and as it would be.
    private static func rehearsed(
        _ wanted: [(CellSetting, UInt64)], in answer: CellAnswer
    ) -> [(setting: CellSetting, before: UInt64, after: UInt64)] {
        wanted.map { setting, value in
            var found: [UInt64] = []
            for row in rows(answer).rows {
                if case .setting(setting, let row) = row { found.append(row ?? setting.standard) }
            }
            let isThere = found.count == 2
            return (setting: setting, before: isThere ? found[0] : value, after: isThere ? found[1] : value)
        }
    }

    // MARK: Moves

    /// At the leader, which has found the host.
    func rehearseMigration(
        _ begin: CellCommand.Operation, of vm: CellVM, to host: HostID, _ intent: MoveIntent, _ cell: GroupID,
        _ asker: FleetAsker, _ done: @escaping (AdminResponse) -> Void
    ) {
        foretell([begin], cell, asker) { [self] result in
            switch result {
            case .failure(let unplanned): done(unplanned.response)
            case .success(let found):
                let plan = PlanInfo(migrating: vm, to: host, intent: intent, at: found.index, hostName: hostName)
                addForecast(to: plan, of: vm, intent, cell, asker) {
                    done(AdminResponse(json: $0.json, index: found.index))
                }
            }
        }
    }

    /// To another cell: whether it may leave, whether its name is free there, and whether there is room now.
    private func rehearseMove(
        _ reference: VMReference, to name: String, _ isCold: Bool, _ cell: GroupID, _ asker: FleetAsker,
        _ done: @escaping (AdminResponse) -> Void
    ) {
        guard let target = cells.first(where: { $0.name == name }) else { return fail(asker, AdminPort.noCell(name)) }
        withVM(reference, cell, asker) { [self] vm in
            if target.group == cell { return fail(asker, AdminPort.isThereAlready(name)) }
            checkName(of: vm, for: target, from: cell, asker) { [self] unplanned in
                if let unplanned { return done(unplanned.response) }
                foretell([beginning(vm, to: target, request: [], isCold: isCold, cell)], cell, asker) { [self] result in
                    guard case .success(let found) = result else {
                        if case .failure(let unplanned) = result { done(unplanned.response) }
                        return
                    }
                    foresee(vm, in: target, asker) { [self] forecast in
                        let plan = PlanInfo(
                            moving: vm, to: name, isCold: isCold, forecast: forecast, at: found.index,
                            hostName: hostName)
                        done(AdminResponse(json: plan.json, index: found.index))
                    }
                }
            }
        }
    }

    /// In another region its name has to be free as well, or held for a creation that came to nothing.
    private func checkName(
        of vm: CellVM, for target: RootCell, from cell: GroupID, _ asker: FleetAsker,
        _ done: @escaping (Unplanned?) -> Void
    ) {
        let siblings = cells.filter { $0.region == target.region }.map(\.group)
        guard let home = cells.first(where: { $0.group == cell }), home.region != target.region else {
            return done(nil)
        }
        let wish = VMCreation(name: vm.name, tenant: vm.tenant, spec: vm.spec, power: vm.power)
        refusal(ofNameOf: wish, for: target.group, in: siblings, asker) { result in
            switch result {
            case .failure(let problem): done(Unplanned(problem: problem))
            case .success(let refusal): done(refusal.map { Unplanned(problem: Problem($0), refusal: $0) })
            }
        }
    }

    /// Why the region's keeper of names would not have this one held for a new VM of the cell; nil where it would. One that is
    /// held for a creation that came to nothing is free.
    func refusal(
        ofNameOf creation: VMCreation, for cell: GroupID, in siblings: [GroupID], _ asker: FleetAsker,
        _ done: @escaping (Result<CellRefusal?, Problem>) -> Void
    ) {
        guard let keeper = siblings.first else { return done(.success(nil)) }
        let hold = CellCommand.Operation.holdName(
            tenant: creation.tenant, name: creation.name, cell: cell.number,
            request: Crypto.randomBytes(CellLimits.requestBytes), replaces: [])
        foretell([hold], keeper, asker) { [self] result in
            guard case .failure(let unplanned) = result else { return done(.success(nil)) }
            guard let refusal = unplanned.refusal else { return done(.failure(unplanned.problem)) }
            guard case .nameHeld = refusal else { return done(.success(refusal)) }
            isThere(creation, in: siblings, of: siblings, asker) { taken in
                done(taken.map { $0 ? .vmNameTaken(creation.name) : nil })
            }
        }
    }

    /// At the leader: which of these VMs would not be made, whatever room there is. Each is judged for itself.
    func refused(_ items: [VMCreation], _ cell: GroupID, _ asker: FleetAsker) -> [CellPlan.Refused] {
        guard agent.engine.levelOpen >= FeatureLevel.rehearsals else { return [] }
        var refused: [CellPlan.Refused] = []
        let unknown = agent.engine.withCellKeeper(cell) { keeper in
            let hosts = keeper.view.hosts.values
            return !hosts.isEmpty && hosts.allSatisfy { $0.health == .removed || $0.about.driver == "simulated" }
        }
        let strangers = unknown == true ? unknownImages(items) : []
        for (at, item) in items.enumerated() {
            let stranger = strangers.first { $0.at == at }
            if let problem = imageProblem(item.spec, item.tenant) ?? stranger?.problem {
                refused.append(CellPlan.Refused(at, invalid: problem.detail))
                continue
            }
            var plain = item
            plain.spec.secrets = []
            plain.spec.sealMark = []
            let operation = CellCommand.Operation.createVMs([plain], isAtomic: false)
            let known = agent.view.through ?? .zero
            let command = CellCommand(by: asker.by, imagesAt: operation.namesImages ? known : .zero, operation)
            let query = CellQuery.rehearsal(
                [command.encoded()], cell: cell.number, level: agent.engine.levelOpen)
            guard case .cell(let found)? = agent.engine.readHere(cell, .cell(query)),
                case .refused(let refusal) = found.body, refusal != .malformed
            else { continue }
            refused.append(CellPlan.Refused(at, refusal))
        }
        return refused
    }

    /// What the other cell would do with it now, in words; empty where that is not known. Its part of the quota goes along.
    private func foresee(
        _ vm: CellVM, in target: RootCell, _ asker: FleetAsker, _ done: @escaping (String) -> Void
    ) {
        // Its name comes along, whoever keeps the region's; under its number no other VM goes there.
        let wish = VMCreation(name: "\(vm.id.rawValue)", tenant: vm.tenant, spec: vm.spec, power: vm.power)
        hand(.plan(.create([wish], isAtomic: false)), target.group, asker) { planned in
            guard planned.status == 200, case .bytes(let bytes) = planned.body,
                // What can't be read says nothing.
                let plan = try? PlanInfo(body: bytes[...])
            else { return done("") }
            if let left = plan.left.first {
                let isKnown = left.cause != CellPlan.Left.Cause.quota.rawValue
                return done(isKnown ? "cell \(target.name) has no room for it now: \(left.text)" : "")
            }
            guard let step = plan.steps.last, !step.to.isEmpty else { return done("") }
            done("cell \(target.name) would place it on host \(step.to) now")
        }
    }
}
