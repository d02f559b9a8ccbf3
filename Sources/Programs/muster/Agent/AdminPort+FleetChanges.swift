import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Reactor
import TLSSession

// Changes of a cell that operators ask for.

extension AdminPort {
    func changeFleet(_ request: FleetRequest, _ cells: [GroupID], _ asker: FleetAsker) {
        let cell = cells[0]
        switch request {
        case .createVM(let creation):
            withImages([creation], cells, asker) { [self] unknown in
                if let problem = unknown.first?.problem { return fail(asker, problem) }
                createVM(creation, cells, asker)
            }
        case .createVMs(let wanted):
            let creations = wanted.items.map { item -> VMCreation? in
                if case .success(let known) = item { known } else { nil }
            }
            withImages(creations, cells, asker) { [self] unknown in
                var batch = wanted
                for (at, problem) in unknown {
                    if batch.isAtomic { return fail(asker, problem.inside("items[\(at)]")) }
                    batch.items[at] = .failure(problem.inside("items[\(at)]"))
                }
                createVMs(batch, cells, asker)
            }
        case .updateVM(let vm, let spec, let generation):
            if spec.secrets.isEmpty && spec.disks.allSatisfy(\.image.isEmpty) {
                changeVM(vm, cell, asker, "the VM is changed") { .updateVM($0.id, spec, generation: generation) }
            } else {
                withUpdate(vm, spec, generation, cell, asker) { [self] vm, update, known in
                    command(update, cell, asker, imagesAt: known) { [self] in
                        finish($0, of: update, vm, cell, asker, "the VM is changed")
                    }
                }
            }
        case .deleteVM(let vm, let generation): deleteVM(vm, generation, cell, asker)
        case .startVM(let vm, let generation):
            changeVM(vm, cell, asker, "the VM starts") { .setPower($0.id, .running, generation: generation) }
        case .resumeVM(let vm, let generation):
            changeVM(vm, cell, asker, "the VM goes on", unless: AdminPort.isStopped) {
                .setPower($0.id, .running, generation: generation)
            }
        case .stopVM(let vm, let generation):
            changeVM(vm, cell, asker, "the VM stops") { .setPower($0.id, .stopped, generation: generation) }
        case .pauseVM(let vm, let generation):
            changeVM(vm, cell, asker, "the VM pauses", unless: AdminPort.isStopped) {
                .setPower($0.id, .paused, generation: generation)
            }
        case .restartVM(let vm): changeVM(vm, cell, asker, "the VM restarts") { .restartVM($0.id) }
        case .cancelMigration(let vm):
            changeVM(vm, cell, asker, "the migration is given up") { vm in
                if let departure = vm.departure {
                    .advanceMove(departure.number, .abort, reason: "called off")
                } else {
                    .cancelMigration(vm.id, target: vm.migration?.target.epoch ?? 0)
                }
            }
        case .createGroup(let group):
            change(.putGroup(group), cell, asker, "the placement group \(group.name) is set", status: 201)
        case .deleteGroup(let name, let tenant):
            change(
                .deleteGroup(tenant: tenant, name: name), cell, asker, "the placement group \(name) is deleted",
                status: 200)
        case .setDuty(let name, let duty):
            let done =
                switch duty {
                case .inService: "VMs may come again"
                case .cordoned: "no more VMs come"
                case .draining: "its VMs go elsewhere; see `muster host show`"
                case .maintenance: "it is in maintenance"
                }
            changeHost(name, cell, asker, "host \(name): \(done)", status: 202) { .setHostDuty($0, duty) }
        case .setHostPolicy(let name, let policy, let generation, let isEnforced):
            let rest = isEnforced ? ": what may not stay there is moved away; see `muster host show`" : " is changed"
            changeHost(name, cell, asker, "host \(name)" + rest, status: 200) {
                .setHostPolicy($0, policy, generation: generation, isEnforced: isEnforced)
            }
        case .careForHost(let name, let wish): careForHost(name, wish, cell, asker)
        case .removeHost(let name, let isForced):
            let rest = isForced ? "; what ran there starts elsewhere, on your word that none of it does any more" : ""
            changeHost(name, cell, asker, "host \(name) is removed" + rest, status: 202) {
                .removeHost($0, isForced: isForced)
            }
        case .setTenant(let name, let settings): setTenant(name, settings, asker)
        case .deleteTenant(let name): deleteTenant(name, cells, asker)
        case .changeSettings(let settings):
            judgeLease(settings, cell, asker) { [self] in changeSettings(settings.values[...], cell, asker) }
        default: preconditionFailure("\(request.operation) is no change")
        }
    }

    /// What makes a command's repetition harmless.
    enum CommandKey {
        /// Somebody's own: the cell remembers it after the answer, too.
        case kept([UInt8])
        /// This process's, until it is answered. The id is for names that are held for it.
        case once([UInt8] = [])

        var id: [UInt8] {
            switch self {
            case .kept(let id), .once(let id): id
            }
        }

        func with(_ id: [UInt8]) -> CommandKey {
            switch self {
            case .kept: .kept(id)
            case .once: .once(id)
            }
        }
    }

    /// Has the cell apply a command, wherever it is led; of several of one request, the one with this part's number.
    func command(
        _ operation: CellCommand.Operation, part: Int = 0, _ cell: GroupID, _ asker: FleetAsker,
        imagesAt: LogIndex? = nil, _ done: @escaping (Result<CellResult, Problem>) -> Void
    ) {
        command(operation, asker.request(part).map { .kept($0) } ?? .once(), cell, asker, imagesAt: imagesAt, done)
    }

    /// `imagesAt`: of a change, up to where the root's images were known when it was looked at.
    func command(
        _ operation: CellCommand.Operation, _ key: CommandKey, _ cell: GroupID, _ asker: FleetAsker,
        imagesAt: LogIndex? = nil, _ done: @escaping (Result<CellResult, Problem>) -> Void
    ) {
        if case .createVMs(var items, let isAtomic) = operation, !agent.knowsSecretFields,
            items.contains(where: { !$0.spec.secrets.isEmpty })
        {
            for i in items.indices { items[i].spec = items[i].spec.withAnnotatedSecrets }
            if items.allSatisfy(\.spec.secrets.isEmpty) {
                return command(.createVMs(items, isAtomic: isAtomic), key, cell, asker, done)
            }
        }
        let generation = operation.isJudgedByGeneration ? asker.generation : nil
        let level = generation == nil ? operation.level : max(operation.level, FeatureLevel.linkBudgets)
        if let problem = agent.problem(wanting: level) { return done(.failure(problem)) }
        if case .createVMs(let items, _) = operation {
            for item in items {
                if let problem = imageProblem(item.spec, item.tenant) { return done(.failure(problem)) }
            }
        }
        if case .createVMs(let items, let isAtomic) = operation, items.contains(where: \.spec.hasOpenSecrets) {
            // What is sealed for this VM opens for no later one of its name.
            let id = key.id.isEmpty ? Crypto.randomBytes(CellLimits.requestBytes) : key.id
            var marking = key
            if case .once = key { marking = .once(id) }
            let marked = items.map { item in
                var spec = item.spec
                if !spec.secrets.isEmpty { spec.sealMark = id }
                return (item.tenant, item.name, spec)
            }
            return agent.seal(marked) { [self] sealed in
                switch sealed {
                case .failure(let problem): done(.failure(problem))
                case .success(let specs):
                    var items = items
                    for (i, spec) in specs.enumerated() { items[i].spec = spec }
                    self.command(.createVMs(items, isAtomic: isAtomic), marking, cell, asker, done)
                }
            }
        }
        let command = CellCommand(
            request: key.id.isEmpty ? nil : key.id, by: asker.by,
            imagesAt: operation.namesImages ? imagesAt ?? imagesKnown : .zero,
            isBounded: isBounded(operation, asker), generation: generation, operation)
        if let problem = AdminPort.sizeProblem(command) { return done(.failure(problem)) }
        let take = { (outcome: ClientAnswer) in
            guard case .applied(.cell(let result)) = outcome else { return done(.failure(Problem(outcome))) }
            if result.outcome == .refused(.malformed), command.level > FeatureLevel.oldest {
                return done(.failure(Agent.levelUnheard(command.level)))
            }
            done(.success(result))
        }
        func send(_ take: @escaping (ClientAnswer) -> Void) {
            switch key {
            case .kept: agent.request(.command(cell, command.encoded()), take)
            case .once: agent.sendOwn(command, to: cell, take)
            }
        }
        send { [self] outcome in
            guard case .applied(.cell(let result)) = outcome, result.isForUnknownTenant else { return take(outcome) }
            // Nothing is kept of what came to nothing for that, and the same command may be carried out.
            bring(result.unknownTenants, to: cell, asker) { found in
                switch found {
                case .failure(let problem): done(.failure(problem))
                case .success(let isThere): if isThere { send(take) } else { take(outcome) }
                }
            }
        }
    }

    /// Whoever reaches some tenants alone gives their VMs the priorities that these may have.
    func isBounded(_ operation: CellCommand.Operation, _ asker: FleetAsker) -> Bool {
        guard asker.tenants != nil, agent.engine.levelOpen >= FeatureLevel.knownTenants else { return false }
        switch operation {
        case .createVMs, .updateVM: return true
        default: return false
        }
    }

    static func sizeProblem(_ command: CellCommand) -> Problem? {
        let byteCount = command.encoded().count + CellCommand.originBytesMax
        if byteCount <= CellLimits.commandBytesMax { return nil }
        return Problem(
            .bodyTooLarge,
            "the command has \(byteCount) bytes and may have \(CellLimits.commandBytesMax); send less at once")
    }

    /// Up to where this node knows the root's images; zero as long as there may be none.
    private var imagesKnown: LogIndex {
        agent.problem(wanting: FeatureLevel.images) == nil ? agent.view.through ?? .zero : .zero
    }

    private func change(
        _ operation: CellCommand.Operation, _ cell: GroupID, _ asker: FleetAsker, _ words: String, status: Int
    ) {
        command(operation, cell, asker) { [self] in finish($0, cell, asker, words, status: status) }
    }

    private func finish(
        _ result: Result<CellResult, Problem>, _ cell: GroupID, _ asker: FleetAsker, _ words: String, status: Int
    ) {
        switch result {
        case .failure(let problem): fail(asker, problem)
        case .success(let result):
            if case .refused(let refusal) = result.outcome {
                return fail(asker, problem(refusal, cell), result.revision.index)
            }
            var response = AdminResponse(Acceptance(words), status: status)
            response.index = result.revision.index
            answer(asker, response)
        }
    }

    func changeHost(
        _ name: String, _ cell: GroupID, _ asker: FleetAsker, _ words: String, status: Int,
        _ make: (HostID) -> CellCommand.Operation
    ) {
        guard let host = hostID(name) else { return fail(asker, AdminPort.noHost(name)) }
        change(make(host), cell, asker, words, status: status)
    }

    // MARK: VMs

    /// Changes a VM that this node's copy knows, or else the leader. The copy may be behind; then the cell refuses, and the
    /// leader is asked which VM it is.
    private func changeVM(
        _ reference: VMReference, _ cell: GroupID, _ asker: FleetAsker, _ words: String,
        unless problem: @escaping (CellVM) -> Problem? = { _ in nil },
        _ make: @escaping (CellVM) -> CellCommand.Operation
    ) {
        let query = AdminPort.query(reference)
        if case .cell(let found)? = agent.engine.readHere(cell, .cell(query)),
            case .success(let vm) = AdminPort.vm(reference, in: found, asker), problem(vm) == nil
        {
            return command(make(vm), cell, asker) { [self] result in
                if case .success(let done) = result, case .refused(let refusal) = done.outcome,
                    AdminPort.mayBeStale(refusal)
                {
                    return changeFresh(reference, cell, asker, words, unless: problem, make)
                }
                finish(result, of: make(vm), vm, cell, asker, words)
            }
        }
        changeFresh(reference, cell, asker, words, unless: problem, make)
    }

    /// It would start one that its owner stopped.
    private static func isStopped(_ vm: CellVM) -> Problem? {
        vm.power != .stopped
            ? nil
            : Problem(.notPossible, "the VM \(vm.name) is stopped; start it with `muster vm start`")
    }

    /// What was asked for before under the same key is answered as it was then, also when the VM is gone.
    private func deleteVM(_ reference: VMReference, _ generation: UInt64?, _ cell: GroupID, _ asker: FleetAsker) {
        let words = "the VM is stopped and goes then"
        func change() {
            changeVM(reference, cell, asker, words) { .deleteVM($0.id, generation: generation) }
        }
        if asker.key == nil || agent.problem(wanting: FeatureLevel.linkBudgets) != nil { return change() }
        // Where it is still known, the command itself finds what came of it before.
        if case .cell(let found)? = agent.engine.readHere(cell, .cell(AdminPort.query(reference))),
            case .success = AdminPort.vm(reference, in: found, asker)
        {
            return change()
        }
        gone(reference, cell, asker) { [self] id in
            guard let id else { return change() }
            repetition(of: .deleteVM(id, generation: generation), parts: [0, 1], cell, asker) { [self] known in
                guard let known else { return change() }
                finish(.success(known), cell, asker, words, status: 202)
            }
        }
    }

    /// The id of a VM that was deleted; nil for one that is there, or never was.
    private func gone(
        _ reference: VMReference, _ cell: GroupID, _ asker: FleetAsker, _ body: @escaping (VMID?) -> Void
    ) {
        func id(_ result: Result<CellRead, Problem>) -> (gone: VMID?, isThere: Bool) {
            guard case .success(let found) = result else { return (nil, false) }
            for row in AdminPort.rows(found.answer).rows {
                switch row {
                case .vm(_, _?): return (nil, true)
                case .tombstone(let known, let stone?) where asker.reaches(stone.tenant): return (known, false)
                default: break
                }
            }
            return (nil, false)
        }
        read(AdminPort.query(reference), .linearizable, cell) { [self] result in
            let found = id(result)
            guard case .id(let number) = reference, !found.isThere, found.gone == nil else { return body(found.gone) }
            read(.one(.tombstones, key: AdminPort.bytes(number.rawValue)), .linearizable, cell) { body(id($0).gone) }
        }
    }

    /// What came of an operation before, under the asker's key; nil where nothing is kept.
    private func repetition(
        of operation: CellCommand.Operation, parts: [Int], _ cell: GroupID, _ asker: FleetAsker,
        _ done: @escaping (CellResult?) -> Void
    ) {
        guard let part = parts.first, let request = asker.request(part) else { return done(nil) }
        let command = CellCommand(request: request, by: asker.by, operation)
        read(.repetition(command.encoded()), .linearizable, cell) { [self] result in
            if case .success(let found) = result, let known = found.answer.repeated { return done(known) }
            repetition(of: operation, parts: Array(parts.dropFirst()), cell, asker, done)
        }
    }

    private static func mayBeStale(_ refusal: CellRefusal) -> Bool {
        switch refusal {
        case .unknownVM, .noMigration, .epochOutdated: true
        default: false
        }
    }

    private func changeFresh(
        _ reference: VMReference, _ cell: GroupID, _ asker: FleetAsker, _ words: String,
        unless problem: @escaping (CellVM) -> Problem?, _ make: @escaping (CellVM) -> CellCommand.Operation
    ) {
        withVM(reference, cell, asker) { [self] vm in
            if let problem = problem(vm) { return fail(asker, problem) }
            // Another command than the one that was refused, so under another id.
            command(make(vm), part: 1, cell, asker) { [self] in finish($0, of: make(vm), vm, cell, asker, words) }
        }
    }

    /// One that grows gets what it lacks of its tenant's quota from other cells, and is asked once more.
    private func finish(
        _ result: Result<CellResult, Problem>, of operation: CellCommand.Operation, _ vm: CellVM, _ cell: GroupID,
        _ asker: FleetAsker, _ words: String
    ) {
        guard cells.count > 1, case .updateVM(_, let spec, _) = operation, case .success(let done) = result,
            done.outcome.isForQuota
        else { return finish(result, cell, asker, words, status: 202) }
        borrow(QuotaShare(vms: 0, spec.charge - vm.spec.charge), of: vm.tenant, in: cell, asker) { [self] _ in
            if let problem = imageProblem(spec, vm.tenant, before: vm.spec) { return fail(asker, problem) }
            // It may be there though nothing was lent: another request's loan, or what this one got before its answer was lost.
            command(operation, part: 2, cell, asker) { [self] in finish($0, cell, asker, words, status: 202) }
        }
    }

    /// The VM as it is now.
    func withVM(
        _ reference: VMReference, _ cell: GroupID, _ asker: FleetAsker, _ body: @escaping (CellVM) -> Void
    ) {
        read(AdminPort.query(reference), .linearizable, cell) { [self] result in
            switch result {
            case .failure(let problem): fail(asker, problem)
            case .success(let found):
                switch AdminPort.vm(reference, in: found.answer, asker) {
                case .failure(let problem):
                    if asker.isChange && problem.kind == .forbidden { forbade(problem.detail, by: asker.by) }
                    fail(asker, problem, found.answer.index)
                case .success(let vm): body(vm)
                }
            }
        }
    }

    /// Fields that are to stay as they are come from the VM as it is now, and only while nobody else changes it. Without such it is
    /// the same command when it is sent again: sealing a value twice gives the same.
    func withUpdate(
        _ reference: VMReference, _ spec: VMDescription, _ generation: UInt64?, _ cell: GroupID, _ asker: FleetAsker,
        _ body: @escaping (_ vm: CellVM, _ update: CellCommand.Operation, _ imagesAt: LogIndex) -> Void
    ) {
        withVM(reference, cell, asker) { [self] vm in
            if let problem = imageProblem(spec, vm.tenant, before: vm.spec) { return fail(asker, problem) }
            let known = imagesKnown
            var merged = spec.keepingSecrets(of: vm.spec)
            if !agent.knowsSecretFields { merged = merged.withAnnotatedSecrets }
            if !merged.secrets.isEmpty {
                merged.sealMark = vm.spec.sealMark.isEmpty ? VMDescription.sealMark(of: vm.id) : vm.spec.sealMark
            }
            agent.seal([(vm.tenant, vm.name, merged)]) { [self] sealed in
                switch sealed {
                case .failure(let problem): fail(asker, problem)
                case .success(let specs):
                    let keeps = spec.secrets.contains { $0.value == .kept }
                    let update = CellCommand.Operation.updateVM(
                        vm.id, specs[0], generation: generation ?? (keeps ? vm.generation : nil))
                    body(vm, update, known)
                }
            }
        }
    }

    private func createVM(_ creation: VMCreation, _ cells: [GroupID], _ asker: FleetAsker) {
        if hasHadCells {
            let job = CreationJob([creation], cells, asker, now: agent.loop.now) { [self] job in
                switch job.results[0] {
                case .success(let id)?:
                    let made = CreatedVM(id: id, name: creation.name, tenant: creation.tenant)
                    answer(asker, AdminResponse(json: made.json, status: 201, index: job.index))
                case .failure(let problem)?: fail(asker, problem, job.index)
                case nil: fail(asker, Problem(.internal, "the VM was forgotten; report this"))
                }
            }
            return run(job)
        }
        if case .failure(let problem) = reachable(creation.spec, cells) { return fail(asker, problem) }
        let cell = cells[0]
        command(.createVMs([creation], isAtomic: false), cell, asker) { [self] result in
            guard case .success(let done) = result else {
                return finish(result, cell, asker, "", status: 201)
            }
            switch done.outcome {
            case .items(let items):
                switch items.first {
                case .vm(let id)?:
                    let made = CreatedVM(id: id, name: creation.name, tenant: creation.tenant)
                    answer(asker, AdminResponse(json: made.json, status: 201, index: done.revision.index))
                case .refused(let refusal)?: fail(asker, problem(refusal, cell), done.revision.index)
                case nil: fail(asker, Problem(.internal, "the cell gave no result; report this"), done.revision.index)
                }
            case .refused(let refusal): fail(asker, problem(refusal, cell), done.revision.index)
            case .done, .kept:
                fail(asker, Problem(.internal, "the cell gave no result; report this"), done.revision.index)
            }
        }
    }

    /// VMs of a batch that go into one command; smaller than what a command may have, so that others get their turn.
    private static let batchItemsMax = 512
    /// Commands of one batch that are under way at once.
    private static let batchWidth = 4

    /// What is known of a batch's items so far.
    private final class BatchJob {
        let creations: [VMCreation?]
        var results: [VMBatchResult.Item?]
        /// Places of items that go into one command, in the order of the items.
        let parts: [[Int]]
        var next = 0
        var underWay = 0
        var index = LogIndex.zero

        init(_ batch: VMBatch, _ asker: FleetAsker, _ partMax: Int) {
            var creations: [VMCreation?] = []
            var results: [VMBatchResult.Item?] = []
            var parts: [[Int]] = []
            var part: [Int] = []
            for (place, item) in batch.items.enumerated() {
                switch item {
                case .failure(let problem):
                    creations.append(nil)
                    results.append(VMBatchResult.Item(name: batch.names[place], problem))
                case .success(let creation):
                    creations.append(creation)
                    if asker.reaches(creation.tenant) {
                        results.append(nil)
                        part.append(place)
                    } else {
                        results.append(
                            VMBatchResult.Item(
                                name: creation.name,
                                Problem(.forbidden, "the tenant \(creation.tenant) is not yours; ask an administrator"))
                        )
                    }
                }
                if part.count == partMax {
                    parts.append(part)
                    part = []
                }
            }
            if !part.isEmpty { parts.append(part) }
            self.creations = creations
            self.results = results
            self.parts = parts
        }
    }

    private func createVMs(_ batch: VMBatch, _ cells: [GroupID], _ asker: FleetAsker) {
        var (batch, cells) = (batch, cells)
        if batch.isAtomic || !hasHadCells {
            for (place, item) in batch.items.enumerated() {
                guard case .success(let creation) = item else { continue }
                switch reachable(creation.spec, cells) {
                case .success(let near): if batch.isAtomic { cells = near }
                case .failure(let problem) where batch.isAtomic: return fail(asker, problem.inside("items[\(place)]"))
                case .failure(let problem): batch.items[place] = .failure(problem.inside("items[\(place)]"))
                }
            }
        }
        let cell = cells[0]
        if batch.isAtomic && batch.items.count > CellLimits.itemsMax {
            return fail(
                asker,
                Problem(
                    .bodyTooLarge,
                    "an all-or-nothing batch has at most \(CellLimits.itemsMax) items; send fewer, or leave atomic out",
                    field: "items"))
        }
        for case .success(let item) in batch.items where !asker.reaches(item.tenant) {
            forbade("may not \(Action.writeTenant(item.tenant).name)", by: asker.by)
            break
        }
        let job = BatchJob(batch, asker, batch.isAtomic ? CellLimits.itemsMax : AdminPort.batchItemsMax)
        if batch.isAtomic && job.results.contains(where: { $0 != nil }) {
            return fail(
                asker, Problem(.forbidden, "an item's tenant is not yours, and all or none are made; nothing was"))
        }
        guard hasHadCells else { return goOn(job, batch.isAtomic, cell, asker) }
        if batch.isAtomic {
            return cellWithRoom(for: job.creations.compactMap { $0 }, cells[...], best: cell, asker) { [self] cell in
                createAll(job, cell, asker.commandKey(), asker)
            }
        }
        let wanted = job.creations.indices.map { job.results[$0] == nil ? job.creations[$0] : nil }
        let creation = CreationJob(wanted, cells, asker, now: agent.loop.now) { [self] made in
            for (place, result) in made.results.enumerated() {
                let name = job.creations[place]?.name ?? ""
                switch result {
                case .success(let id)?: job.results[place] = VMBatchResult.Item(name: name, id: id)
                case .failure(let problem)?: job.results[place] = VMBatchResult.Item(name: name, problem)
                case nil: break
                }
            }
            answer(asker, AdminResponse(json: VMBatchResult(job.results.compactMap { $0 }).json))
        }
        creation.overRegions = batch.overRegions
        run(creation)
    }

    /// All or none is one command, and so of one cell.
    private func createAll(
        _ job: BatchJob, _ cell: GroupID, _ key: CommandKey, replaces: [UInt8] = [], _ asker: FleetAsker
    ) {
        let creations = job.creations.compactMap { $0 }
        holdNames(of: creations[...], for: cell, key.id, replaces: replaces, asker) { [self] held in
            guard case .success(let cell) = held else {
                if case .failure(let problem) = held { fail(asker, problem) }
                return
            }
            command(.createVMs(creations, isAtomic: true), key, cell, asker) { [self] result in
                // What was refused under a request id is refused for ever: after a loan it is asked under the other one.
                if replaces.isEmpty, case .success(let done) = result, done.outcome.isForQuota {
                    return borrow(for: creations, in: cell, asker) { [self] in
                        createAll(job, cell, key.with(CreationJob.second(key.id)), replaces: key.id, asker)
                    }
                }
                take(result, job, Array(job.creations.indices))
                answer(
                    asker,
                    AdminResponse(
                        json: VMBatchResult(job.results.compactMap { $0 }).json,
                        index: job.index == .zero ? nil : job.index))
            }
        }
    }

    private func goOn(_ job: BatchJob, _ isAtomic: Bool, _ cell: GroupID, _ asker: FleetAsker) {
        while job.next < job.parts.count && job.underWay < AdminPort.batchWidth {
            job.next += 1
            job.underWay += 1
            makePart(job.next - 1, job, isAtomic, cell, asker, until: agent.loop.now + CreationJob.patience)
        }
        guard job.underWay == 0 && job.next == job.parts.count else { return }
        job.next += 1
        let items = job.results.compactMap { $0 }
        answer(
            asker,
            AdminResponse(json: VMBatchResult(items).json, index: job.index == .zero ? nil : job.index))
    }

    /// Again while its outcome is unknown: under somebody's own key it takes effect once.
    private func makePart(
        _ part: Int, _ job: BatchJob, _ isAtomic: Bool, _ cell: GroupID, _ asker: FleetAsker, until: Instant
    ) {
        let places = job.parts[part]
        command(
            .createVMs(places.compactMap { job.creations[$0] }, isAtomic: isAtomic), part: part, cell, asker
        ) { [self] result in
            if case .failure(let problem) = result, problem.kind == .outcomeUnknown, asker.key != nil,
                agent.loop.now < until
            {
                return makePart(part, job, isAtomic, cell, asker, until: until)
            }
            job.underWay -= 1
            take(result, job, places)
            goOn(job, isAtomic, cell, asker)
        }
    }

    private func take(_ result: Result<CellResult, Problem>, _ job: BatchJob, _ places: [Int]) {
        var made: [CellResult.Item] = []
        var problem: Problem?
        switch result {
        case .failure(let failure): problem = failure
        case .success(let result):
            job.index = max(job.index, result.revision.index)
            switch result.outcome {
            case .items(let items): made = items
            case .refused(let refusal): problem = Problem(refusal)
            case .done, .kept: break
            }
        }
        for (i, place) in places.enumerated() {
            let name = job.creations[place]?.name ?? ""
            guard problem == nil, i < made.count else {
                job.results[place] = VMBatchResult.Item(
                    name: name, problem ?? Problem(.internal, "the cell gave no result; report this"))
                continue
            }
            switch made[i] {
            case .vm(let id): job.results[place] = VMBatchResult.Item(name: name, id: id)
            case .refused(let refusal):
                job.results[place] = VMBatchResult.Item(name: name, Problem(refusal).inside("items[\(place)]"))
            }
        }
    }

    // MARK: Settings

    /// One after the other; the first that is refused ends it.
    private func changeSettings(
        _ values: ArraySlice<(CellSetting, UInt64)>, _ cell: GroupID, _ asker: FleetAsker
    ) {
        guard let (setting, value) = values.first else { return }
        command(.setSetting(setting, value), part: values.startIndex, cell, asker) { [self] result in
            if values.count > 1, case .success(let done) = result, case .done = done.outcome {
                return changeSettings(values.dropFirst(), cell, asker)
            }
            finish(result, cell, asker, "the cell's settings are changed", status: 200)
        }
    }
}

extension CellResult.Outcome {
    /// A tenant's quota is in the way, of all of it or of an item.
    fileprivate var isForQuota: Bool {
        switch self {
        case .refused(.quotaExceeded): true
        case .items(let items):
            items.contains { if case .refused(.quotaExceeded) = $0 { true } else { false } }
        default: false
        }
    }
}
