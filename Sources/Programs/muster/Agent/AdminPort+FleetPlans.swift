import AdminAPI
import AdminHTTP
import AgentConfig
import ClusterBase
import Controllers
import FleetModel
import Hypervisor
import NodePorts
import NodeRuntime
import PeerTransport
import RaftCore
import Schema

// Questions that only the cell's leader answers, since its controller has the index. Another node hands them on, once it
// has authorized them.

extension AdminPort {
    /// Answers as the leader, or has the leader answer.
    func askLeader(_ request: FleetRequest, _ cell: GroupID, _ asker: FleetAsker) {
        guard let vm = request.vm else { return hand(request, cell, asker) { [self] in answer(asker, $0) } }
        // Whose VM it is, is judged here; the leader is told its id.
        withVM(vm, cell, asker) { [self] known in
            switch request {
            case .explain(_, let hosts):
                guard asker.tenants != nil else {
                    return hand(.explain(.id(known.id), hosts: hosts), cell, asker) { [self] in answer(asker, $0) }
                }
                if !hosts.isEmpty {
                    return fail(
                        asker,
                        Problem(
                            .forbidden, "what hosts have and lack is for those who see all tenants; ask without hosts=",
                            field: "hosts"))
                }
                hand(.explain(.id(known.id), hosts: []), cell, asker) { [self] in
                    answer(asker, AdminPort.withoutHosts($0))
                }
            case .migrateVM(_, let wish):
                hand(.migrateVM(.id(known.id), wish), cell, asker) { [self] in answer(asker, $0) }
            default: preconditionFailure("\(request.operation) is no question for a leader")
            }
        }
    }

    /// An explanation for who reaches some tenants alone: the rules and what would help, and nothing of what hosts have.
    private static func withoutHosts(_ response: AdminResponse) -> AdminResponse {
        guard response.status == 200, case .bytes(let bytes) = response.body else { return response }
        do throws(Problem) {
            var info = try ExplainInfo(body: bytes[...])
            info.best = []
            info.asked = []
            var plain = AdminResponse(json: info.json, index: response.index)
            plain.leader = response.leader
            return plain
        } catch {
            return AdminResponse(error)
        }
    }

    func hand(
        _ request: FleetRequest, _ cell: GroupID, _ asker: FleetAsker, _ done: @escaping (AdminResponse) -> Void
    ) {
        if lead(request, cell, asker, done) { return }
        let leader = agent.engine.inspect(cell) { raft, _ in raft.leader?.node } ?? nil
        var nodes = agent.view.placement(cell)?.replicas.filter { !$0.isLeaving }.map(\.node) ?? []
        if let leader { nodes = [leader] + nodes.filter { $0 != leader } }
        relay(request, cell, to: nodes.filter { $0 != agent.node && agent.isHeard($0) }[...], asker, done)
    }

    // MARK: Logs

    /// What a VM wrote is on its host, which is asked for it.
    func showLogs(_ reference: VMReference, _ bytes: Int, _ cell: GroupID, _ asker: FleetAsker) {
        withHost(reference, cell, asker) { [self] vm, node in
            if node == agent.node { return answer(asker, logs(of: vm, bytes)) }
            relay(.logs(.id(vm), bytes: bytes), cell, to: [node], asker) { [self] in answer(asker, $0) }
        }
    }

    func useConsole(_ reference: VMReference, _ turn: ConsoleTurn, _ cell: GroupID, _ asker: FleetAsker) {
        withHost(reference, cell, asker) { [self] vm, node in
            if node == agent.node { return answer(asker, console(of: vm, turn)) }
            relay(.console(.id(vm), turn), cell, to: [node], asker) { [self] in answer(asker, $0) }
        }
    }

    private func withHost(
        _ reference: VMReference, _ cell: GroupID, _ asker: FleetAsker, _ body: @escaping (VMID, NodeID) -> Void
    ) {
        withVM(reference, cell, asker) { [self] vm in
            guard let place = vm.place else {
                return fail(
                    asker, Problem(.notPossible, "the VM has no place, and so no console; see `muster vm explain`"))
            }
            body(vm.id, NodeID(place.assignment.host.rawValue))
        }
    }

    private static let noConsoles = Problem(
        .notPossible,
        "the host's driver is the simulated one, which runs no guests and has no consoles; hosts with "
            + "hypervisor.driver = qemu have")

    private func console(of vm: VMID, _ turn: ConsoleTurn) -> AdminResponse {
        guard let driver = agent.host.driver as? QEMUHypervisor else { return AdminResponse(AdminPort.noConsoles) }
        if !turn.typed.isEmpty,
            let problem = driver.type(turn.typed, into: vm, session: turn.session, before: turn.typedBefore)
        {
            return AdminResponse(Problem(.unavailable, problem))
        }
        let path = "\(Agent.vmDirectory(agent.settings))/\(vm.rawValue)/serial.log"
        let (text, next) = NodeFiles.readOn(path, from: turn.from, ConsoleOutput.bytesMax)
        return AdminResponse(ConsoleOutput(host: agent.settings.nodeName, text: text, next: next))
    }

    private func logs(of vm: VMID, _ bytes: Int) -> AdminResponse {
        guard agent.settings.hypervisor == .qemu else { return AdminResponse(AdminPort.noConsoles) }
        let folder = "\(Agent.vmDirectory(agent.settings))/\(vm.rawValue)"
        // A VM that has written nothing yet has no file.
        let text = (try? NodeFiles.readEnd(folder + "/serial.log", bytes)) ?? []
        return AdminResponse(VMLogs(host: agent.settings.nodeName, console: folder + "/console", text: text))
    }

    func relay(
        _ request: FleetRequest, _ cell: GroupID, to nodes: ArraySlice<NodeID>, _ asker: FleetAsker,
        _ done: @escaping (AdminResponse) -> Void
    ) {
        guard let node = nodes.first else {
            let who =
                [.getVMLogs, .useVMConsole, .getVMUsage, .getVMForecast, .getHostUsage].contains(request.operation)
                ? "the host does not answer" : "the cell has no leader that this node reaches"
            return done(AdminResponse(Problem(.unavailable, "\(who); ask again in a moment")))
        }
        var bytes: [UInt8] = []
        // A program that knows of one cell only knows no name of it.
        let name = cells.count > 1 ? cellName(cell) : nil
        RequestWriter(host: "cell").write(
            AdminCall(
                .fleet(asker.generation.map { .onlyAt(generation: $0, request) } ?? request), cell: name,
                idempotencyKey: asker.key), into: &bytes)
        agent.ask(node, .admin(NodeRequest.AdminQuestion(request: bytes, by: asker.by))) { [self] said in
            guard let said, said.status > 0 else {
                // What changes something may have been done by one that did not get to say so.
                if said == nil, request.isCarriedOutByLeader {
                    return done(AdminResponse(AdminPort.outcomeUnknown))
                }
                return relay(request, cell, to: nodes.dropFirst(), asker, done)
            }
            let status = Int(said.status)
            var response = AdminResponse(status: status, status < 400 ? .json : .problem, .bytes(said.body))
            if said.index > 0 { response.index = LogIndex(said.index) }
            response.leader = agent.name(of: node)
            done(response)
        }
    }

    private static let outcomeUnknown = Problem(
        .outcomeUnknown, "the leader did not answer, and may have begun or not; look with GET /v1/events")

    /// Another node's question. It is answered with status 0 where the cell is not led here.
    func handedOn(_ question: NodeRequest.AdminQuestion, _ done: @escaping (NodeAnswer) -> Void) {
        var parser = RequestParser()
        parser.append(contentsOf: question.request)
        let none = NodeAnswer(version: 1, refusal: "the cell is not led here, or the question is not understood")
        // A question that this version does not know is none for it.
        guard case .request(let head) = parser.next(), let call = try? router.call(parser, head),
            case .fleet(var request) = call.request,
            let cell = cells.first(where: { known in call.cell.map { $0 == known.name } ?? true })?.group
        else { return done(none) }
        if case .logs(.id(let vm), let bytes) = request { return done(handedOut(logs(of: vm, bytes))) }
        if case .usage(.id(let vm)) = request { return done(handedOut(usage(of: vm))) }
        if case .forecast(.id(let vm)) = request { return forecast(of: vm) { [self] in done(handedOut($0)) } }
        if case .hostUsage = request { return done(handedOut(usageHere)) }
        if case .console(.id(let vm), let turn) = request { return done(handedOut(console(of: vm, turn))) }
        var generation: UInt64?
        if case .onlyAt(let number, let change) = request { (generation, request) = (number, change) }
        var asker = FleetAsker(
            principal: .anonymous, by: question.by, key: call.idempotencyKey, ticket: Ticket(rawValue: 0), tenants: nil)
        asker.generation = generation
        let isLed = lead(request, cell, asker) { [self] response in done(handedOut(response)) }
        if !isLed { done(none) }
    }

    private func handedOut(_ response: AdminResponse) -> NodeAnswer {
        var body: [UInt8] = []
        if case .bytes(let bytes) = response.body { body = bytes }
        return NodeAnswer(
            version: 1, status: UInt32(response.status), body: body, index: response.index?.rawValue ?? 0)
    }

    /// False where the cell is not led here; nothing was done then.
    private func lead(
        _ request: FleetRequest, _ cell: GroupID, _ asker: FleetAsker, _ done: @escaping (AdminResponse) -> Void
    ) -> Bool {
        if case .list(let list) = request, list.asksController {
            guard agent.engine.ledCells.contains(cell) else { return false }
            listMigrations(list, cell, asker, done)
            return true
        }
        let question: CellQuestion
        switch request {
        case .explain(.id(let vm), let names):
            switch hosts(names) {
            case .failure(let problem): return said(AdminResponse(problem), done)
            case .success(let hosts): question = .explain(vm, hosts: hosts)
            }
        case .migrateVM(.id(let vm), let wish), .dryRun(.migrateVM(.id(let vm), let wish)):
            switch hosts(wish.host.map { [$0] } ?? []) {
            case .failure(let problem): return said(AdminResponse(problem), done)
            case .success(let hosts): question = .explain(vm, hosts: hosts)
            }
        case .plan(.create(let items, let isAtomic)):
            question = .create(items, isAtomic: isAtomic, refused: refused(items, cell, asker))
        case .plan(.drain(let name)):
            guard let host = hostID(name) else { return said(AdminResponse(AdminPort.noHost(name)), done) }
            question = .drain(host)
        case .plan(.returns(let name)):
            guard let host = hostID(name) else { return said(AdminResponse(AdminPort.noHost(name)), done) }
            question = .returns(host)
        case .plan(.loss(let names)):
            switch hosts(names) {
            case .failure(let problem): return said(AdminResponse(problem), done)
            case .success(let hosts): question = .loss(hosts)
            }
        case .plan(.capacity(let wish)):
            guard let host = hostID(wish.host) else { return said(AdminResponse(AdminPort.noHost(wish.host)), done) }
            question = .capacity(host, wish.policy, isEnforced: wish.isEnforced)
        case .plan(.remove(let name)):
            guard let host = hostID(name) else { return said(AdminResponse(AdminPort.noHost(name)), done) }
            question = .remove(host)
        case .plan(.declareDead(let name)), .careForHost(let name, .declareDead):
            guard let host = hostID(name) else { return said(AdminResponse(AdminPort.noHost(name)), done) }
            question = .declareDead(host)
        case .plan(.rebalance), .rebalance, .startRebalance: question = .rebalance
        case .losses(let scope): question = .losses(scope)
        case .renewLease(let wish): return grant(wish, cell, done)
        case .dryRun(.changeSettings(let settings)): return judgeLease(settings, of: cell, done)
        case .rehearse(let region, let kind, let returns): return rehearse(region, kind, returns, of: cell, done)
        case .recovery: return recovery(of: cell, done)
        default: return false
        }
        if agent.engine.ledCells.contains(cell), case .migrateVM(.id(let vm), _) = request,
            let known = migrationAsked(of: vm, cell, asker)
        {
            return said(known, done)
        }
        guard let reply = agent.engine.ask(cell, question) else { return false }
        switch (reply, request) {
        case (.notReady, _):
            done(AdminResponse(Problem(.unavailable, "the cell's leader is new and still reads the state; ask again")))
        case (.refused(let refusal), _): done(AdminResponse(problem(refusal, cell)))
        case (.explanation(let found), .migrateVM(.id(let vm), let wish)):
            migrate(vm, found, wish, isDryRun: false, cell, asker, done)
        case (.explanation(let found), .dryRun(.migrateVM(.id(let vm), let wish))):
            migrate(vm, found, wish, isDryRun: true, cell, asker, done)
        case (.explanation(let found), _):
            done(
                AdminResponse(
                    json: ExplainInfo(found, hostName: hostName).json, index: found.through))
        case (.plan(let plan), .startRebalance(let start)): begin(plan, start, cell, asker, done)
        case (.plan(let plan), .careForHost):
            guard case .declareDead(let host) = plan.purpose else { return false }
            declareDead(host, cell, asker, done)
        case (.plan(let plan), _):
            var info = PlanInfo(plan)
            if case .declareDead(let host) = plan.purpose { info.notes += deathNotes(host, plan, cell) }
            if case .rebalance = plan.purpose { info.notes += rebalanceNotes(of: cell) }
            if case .plan(.capacity(let wish)) = request, case .capacity(let host) = plan.purpose,
                let known = agent.engine.withCellKeeper(cell, { $0.view.hosts[host]?.policy }) ?? nil
            {
                info = info.changing(from: known, to: wish.policy)
            }
            done(AdminResponse(json: info.json, index: plan.through))
        case (.losses(let found), _):
            let listed = Listing(found.map { LossInfo($0, hostName: hostName) })
            done(AdminResponse(json: listed.json, index: agent.engine.withCellKeeper(cell) { $0.view.through } ?? nil))
        case (.budgets, _):
            done(AdminResponse(Problem(.internal, "the answer is of another kind; report this")))
        }
        return true
    }

    /// What the cell's controller does about its balance by itself, and what it found last.
    private func rebalanceNotes(of cell: GroupID) -> [String] {
        agent.engine.withCellKeeper(cell) { keeper in
            let found = keeper.counts.advice.map { "; at index \($0.through) it found: \($0.text)" } ?? ""
            return switch keeper.view[.rebalance] {
            case 0: ["the setting rebalance is off: none of this is done by itself"]
            case 1: ["the setting rebalance is advice: the controller proposes moves and makes none\(found)"]
            default: ["the setting rebalance is auto: the controller makes moves by itself\(found)"]
            }
        } ?? []
    }

    private func said(_ response: AdminResponse, _ done: (AdminResponse) -> Void) -> Bool {
        done(response)
        return true
    }

    private func hosts(_ names: [String]) -> Result<[HostID], Problem> {
        var hosts: [HostID] = []
        for name in names {
            guard let host = hostID(name) else { return .failure(AdminPort.noHost(name)) }
            hosts.append(host)
        }
        return .success(hosts)
    }

    /// Carries a plan out if it is the one that was shown.
    private func begin(
        _ plan: CellPlan, _ start: RebalanceStart, _ cell: GroupID, _ asker: FleetAsker,
        _ done: @escaping (AdminResponse) -> Void
    ) {
        let info = PlanInfo(plan)
        if let digest = start.digest, digest != info.digest {
            return done(
                AdminResponse(
                    Problem(
                        .conflict, "the plan is another one now; look at it and decide again",
                        members: [JSONMember("digest", .string(info.digest))])))
        }
        // Each move is judged by the cell again; what does not hold any more is left out there.
        let operations = plan.operations(knowsIntents: agent.engine.levelOpen >= FeatureLevel.moveIntents)
        for (part, operation) in operations.enumerated() { command(operation, part: part, cell, asker) { _ in } }
        done(AdminResponse(json: info.json, status: 202, index: plan.through))
    }

    private func migrate(
        _ vm: VMID, _ found: CellExplanation, _ wish: MigrationWish, isDryRun: Bool, _ cell: GroupID,
        _ asker: FleetAsker, _ done: @escaping (AdminResponse) -> Void
    ) {
        guard case .placed(let home) = found.standing else {
            return done(
                AdminResponse(Problem(.notPossible, "the VM has no place that it could leave; see its explain")))
        }
        if let name = wish.host, hostID(name) == home {
            return done(AdminResponse(Problem(.notPossible, "the VM is on host \(name) already; name another one")))
        }
        let candidates = (wish.host == nil ? found.best.filter { $0.host != home } : found.asked).filter {
            $0.assignment != nil
        }
        if candidates.isEmpty {
            let why = found.asked.first.map { $0.excludedBy.joined(separator: ", ") } ?? ""
            return done(
                AdminResponse(
                    Problem(
                        .notPossible,
                        why.isEmpty
                            ? "no other host can take the VM; see its explain"
                            : "that host can't take the VM: \(why); see its explain with hosts=")))
        }
        // What is rehearsed is begun later, when other moves are under way.
        var lacks: [String?] = []
        if !isDryRun,
            case .budgets(let known)? = agent.engine.ask(cell, .budgets(from: home, to: candidates.map(\.host)))
        {
            lacks = known
        }
        guard let at = candidates.indices.first(where: { $0 >= lacks.count || lacks[$0] == nil }),
            let target = candidates[at].assignment
        else {
            return done(AdminResponse(Problem(.notPossible, (lacks.first ?? nil) ?? "too many moves are under way")))
        }
        guard case .cell(let state)? = agent.engine.readHere(cell, .cell(.vm(vm))),
            case .vm(_, let known?)? = AdminPort.rows(state).rows.first, let place = known.place
        else { return done(AdminResponse(AdminPort.noVM(.id(vm)))) }
        let standard = agent.engine.withCellKeeper(cell) { $0.standardIntent(known) } ?? nil
        let intent = wish.intent ?? standard ?? .balanced
        let begin = CellCommand.Operation.beginMigration(
            vm, from: place.epoch, to: target, cause: .asked, intent: intent)
        if let problem = agent.problem(wanting: begin.level) { return done(AdminResponse(problem)) }
        if isDryRun, let generation = asker.generation, generation != known.generation {
            return done(AdminResponse(Problem(CellRefusal.generationChanged(known.generation))))
        }
        if isDryRun { return rehearseMigration(begin, of: known, to: target.host, intent, cell, asker, done) }
        command(begin, cell, asker) { [self] result in
            switch result {
            case .failure(let problem): done(AdminResponse(problem))
            case .success(let result):
                done(migrationResponse(result, to: target.host, cell))
            }
        }
    }

    private func migrationResponse(_ result: CellResult, to host: HostID, _ cell: GroupID) -> AdminResponse {
        if case .refused(let refusal) = result.outcome { return AdminResponse(problem(refusal, cell)) }
        var response = AdminResponse(Acceptance("the VM moves to host \(hostName(host))"), status: 202)
        response.index = result.revision.index
        return response
    }

    /// The answer to a move that was asked for before under the same key: the leader would choose another host now.
    private func migrationAsked(of vm: VMID, _ cell: GroupID, _ asker: FleetAsker) -> AdminResponse? {
        guard let request = asker.request() else { return nil }
        let command = CellCommand(
            request: request, by: asker.by, generation: asker.generation,
            .beginMigration(vm, from: 0, to: Assignment(host: HostID(0)), cause: .asked))
        guard case .cell(let found)? = agent.engine.readHere(cell, .cell(.repetition(command.encoded()))) else {
            return nil
        }
        if case .refused(.requestReused) = found.body { return AdminResponse(Problem(CellRefusal.requestReused)) }
        guard let result = found.repeated, case .cell(let state)? = agent.engine.readHere(cell, .cell(.vm(vm))),
            case .vm(_, let known?)? = AdminPort.rows(state).rows.first
        else { return nil }
        let host = known.migration?.target.assignment.host ?? known.place?.assignment.host ?? HostID(0)
        return migrationResponse(result, to: host, cell)
    }
}

extension FleetRequest {
    /// It changes something, and only the leader can.
    fileprivate var isCarriedOutByLeader: Bool {
        switch self {
        case .migrateVM, .startRebalance, .careForHost: true
        default: false
        }
    }
}
