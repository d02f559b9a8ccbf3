import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Reactor
import StoreLayout
import TLSSession

// Hosts, VMs and all that is asked of a cell.

/// Who asks something of a cell, and with what.
struct FleetAsker {
    var principal: Principal
    /// Who, and from where; for the audit.
    var by: String
    var key: IdempotencyKey?
    var ticket: Ticket
    /// The tenants that the asker reaches with this request; nil for all.
    var tenants: [String]?
    /// Where it is one, the cell that was found to be asked.
    var cell: GroupID?
    /// It is to change something.
    var isChange = false
    /// The asker said which cell.
    var isCellNamed = false
    /// What `If-Match` says of what is to be changed, where the change has no place for it itself.
    var generation: UInt64?
    /// Looks once more for the cell: the VM may have gone to another one since it was found.
    var again: (() -> Void)?

    func reaches(_ tenant: String) -> Bool { tenants?.contains(tenant) ?? true }

    /// What makes a repetition of the request's command harmless; of its `part`, where it is several.
    func request(_ part: Int = 0) -> [UInt8]? {
        guard let key else { return nil }
        var bytes: [UInt8] = []
        let client = key.client.rawValue
        bytes.appendBigEndian(part == 0 ? client : mix64(client ^ mix64(UInt64(part))))
        bytes.appendBigEndian(key.sequence)
        return bytes
    }

    /// The same for a command for which names are held.
    func commandKey(_ part: Int = 0) -> AdminPort.CommandKey {
        request(part).map { .kept($0) } ?? .once(Crypto.randomBytes(CellLimits.requestBytes))
    }
}

extension AdminPort {
    func hostName(_ host: HostID) -> String { agent.name(of: NodeID(host.rawValue)) }

    func fleet(
        _ request: FleetRequest, _ cell: String?, _ plan: String?, _ key: IdempotencyKey?, _ principal: Principal,
        _ ticket: Ticket
    ) {
        let address = server.clientAddress(ticket)
        var asker = FleetAsker(
            principal: principal, by: address.isEmpty ? "\(principal)" : "\(principal) from \(address)", key: key,
            ticket: ticket, tenants: Access.tenants(roles(of: principal), for: request.action),
            isChange: request.action.isChange)
        var request = request
        var generation: UInt64?
        if case .onlyAt(let number, let change) = request { (generation, request) = (number, change) }
        if case .audit(let list) = request, list.isRoot { return listRootEvents(list, asker) }
        if cells.isEmpty {
            return answer(
                ticket,
                AdminResponse(Problem(.unavailable, "the cluster's first cell is being made; ask again in a moment")))
        }
        asker.generation = generation
        carryOut(request, cell, plan, asker, isFirst: true)
    }

    private func carryOut(
        _ request: FleetRequest, _ cell: String?, _ plan: String?, _ asker: FleetAsker, isFirst: Bool
    ) {
        locate(request, cell, asker) { [self] found in
            var asker = asker
            asker.cell = found.count == 1 ? found[0] : nil
            asker.isCellNamed = cell != nil
            if isFirst && cell == nil && request.vm != nil && cells.count > 1 {
                asker.again = { [self, asker] in carryOut(request, nil, plan, asker, isFirst: false) }
            }
            guard let plan else { return carryOut(request, found, asker) }
            checkPlan(plan, of: request, found, asker) { [self] in carryOut(request, found, asker) }
        }
    }

    private func carryOut(_ request: FleetRequest, _ found: [GroupID], _ asker: FleetAsker) {
        let cell = found[0]
        switch request {
        case .list(let list) where list.asksController && asker.tenants == nil && found.count == 1:
            askLeader(request, cell, asker)
        case .list(let list), .audit(let list):
            var isAudit = false
            if case .audit = request { isAudit = true }
            beginList(list, isAudit: isAudit, found, asker)
        case .host(let name, let mode): showHost(name, mode, cell, asker)
        case .vm(let vm, let mode): showVM(vm, mode, cell, asker)
        case .history(let vm, let after, let limit): showHistory(vm, after, limit, cell, asker)
        case .logs(let vm, let bytes): showLogs(vm, bytes, cell, asker)
        case .console(let vm, let turn): useConsole(vm, turn, cell, asker)
        case .usage(let vm): showUsage(vm, cell, asker)
        case .forecast(let vm): showForecast(vm, cell, asker)
        case .hostUsage(let name): showUsage(ofHost: name, cell, asker)
        case .group(let name, let tenant, let mode): showGroup(name, tenant, mode, cell, asker)
        case .tenant(let name, let mode): showTenant(name, mode, found, asker)
        case .images(let tenant): listImages(tenant, asker)
        case .markStorage(let name, let marking): markStorage(name, marking, cell, asker)
        case .remains(let tenant): listRemains(tenant, found[...], [], after: nil, asker)
        case .forgetRemains(let vm, let tenant): forgetRemains(vm, tenant, found[...], asker)
        case .image(let name, let tenant): showImage(name, tenant, asker)
        case .addImagePart(let part): addImagePart(part, asker)
        case .addImage(let wanted): addImage(wanted, asker)
        case .removeImage(let name, let tenant): removeImage(name, tenant, asker)
        case .settings(let mode): showSettings(mode, cell, asker)
        case .renewLease(let wish): renewLease(wish, cell, asker)
        case .migrateVM(let vm, let wish) where wish.cell != nil:
            moveVM(vm, to: wish.cell ?? "", isCold: wish.isCold, cell, asker)
        case .plan(.quota(let wish)): planQuota(wish, asker) { [self] in answer(asker, $0) }
        case .plan(.create(let items, let isAtomic)):
            for item in items where !asker.reaches(item.tenant) {
                return fail(asker, Problem(.forbidden, "the tenant \(item.tenant) is not yours; ask an administrator"))
            }
            planCreation(items, isAtomic: isAtomic, among: found, asker) { [self] in
                answer(asker, AdminPort.plan($0, for: asker))
            }
        case .rehearse(let region, let kind, let returns): rehearse(region, kind, returns, found, asker)
        case .explain, .plan, .rebalance, .losses, .recovery, .startRebalance, .migrateVM,
            .careForHost(_, .declareDead):
            askLeader(request, cell, asker)
        case .dryRun(let change): rehearse(change, found, asker) { [self] in answer(asker, $0) }
        default: changeFleet(request, found, asker)
        }
    }

    /// Answers, and names the node that leads the cell: who asks it next saves a hop.
    func answer(_ asker: FleetAsker, _ response: AdminResponse) {
        var response = response
        if response.leader.isEmpty, let leader = leader(of: asker.cell) { response.leader = leader }
        answer(asker.ticket, response)
    }

    private func leader(of cell: GroupID?) -> String? {
        guard let cell, let leader = agent.engine.inspect(cell, { raft, _ in raft.leader?.node }) ?? nil else {
            return nil
        }
        if let known = leaderNamed, known.node == leader { return known.name }
        let name = agent.name(of: leader)
        leaderNamed = (leader, name)
        return name
    }

    func fail(_ asker: FleetAsker, _ problem: Problem, _ index: LogIndex? = nil) {
        if problem.kind == .notFound, let again = asker.again { return again() }
        // What a cell refuses is in its own audit.
        if asker.isChange && problem.kind == .forbidden && index == nil { forbade(problem.detail, by: asker.by) }
        var response = AdminResponse(problem)
        response.index = index
        answer(asker, response)
    }

    // MARK: Reading

    typealias CellRead = (answer: CellAnswer, age: Nanoseconds?)

    /// Asks the cell: this node's copy where the mode allows that, else its leader.
    func read(
        _ query: CellQuery, _ mode: ReadMode, _ cell: GroupID, _ done: @escaping (Result<CellRead, Problem>) -> Void
    ) {
        switch mode {
        case .stale(let within):
            if let here = readHere(cell, .cell(query), within: within), case .cell(let found) = here.answer {
                return done(.success((found, here.age)))
            }
        case .atLeast(let index):
            if case .cell(let found)? = agent.engine.readHere(cell, .cell(query)), found.index >= index {
                return done(.success((found, nil)))
            }
        case .linearizable: break
        }
        agent.request(.query(cell, .cell(query))) { outcome in
            guard case .read(.cell(let found)) = outcome else { return done(.failure(Problem(outcome))) }
            if case .refused(let refusal) = found.body { return done(.failure(Problem(refusal))) }
            if case .atLeast(let index) = mode, found.index < index {
                return done(
                    .failure(
                        Problem(
                            .notPossible,
                            "the cell is at index \(found.index), and \(index) is yet to come; send one that Muster-Index said",
                            field: "index")))
            }
            done(.success((found, nil)))
        }
    }

    /// The rows of an answer; empty where it is of another kind.
    static func rows(_ answer: CellAnswer) -> (rows: [CellRowContent], resumeAfter: [UInt8]?) {
        guard case .rows(let rows, let resumeAfter) = answer.body else { return ([], nil) }
        return (rows.compactMap(\.content), resumeAfter)
    }

    private func show(
        _ query: CellQuery, _ mode: ReadMode, _ cell: GroupID, _ asker: FleetAsker,
        _ make: @escaping (CellAnswer) -> Result<JSONValue, Problem>
    ) {
        read(query, mode, cell) { [self] result in
            switch result {
            case .failure(let problem): fail(asker, problem)
            case .success(let found):
                switch make(found.answer) {
                case .failure(let problem): fail(asker, problem, found.answer.index)
                case .success(let json):
                    var response = AdminResponse(json: json, index: found.answer.index)
                    response.age = found.age
                    answer(asker, response)
                }
            }
        }
    }

    private func showHost(_ name: String, _ mode: ReadMode, _ cell: GroupID, _ asker: FleetAsker) {
        let query = hostID(name).map { CellQuery.host($0) } ?? .hostNamed(name)
        show(query, mode, cell, asker) { found in
            for row in AdminPort.rows(found).rows {
                if case .host(_, let host?) = row { return .success(HostInfo(host).json) }
            }
            return .failure(AdminPort.noHost(name))
        }
    }

    /// A host's number is its node's; a path may have the number too.
    func hostID(_ name: String) -> HostID? {
        if let node = agent.view.node(named: name) { return HostID(node.id.rawValue) }
        return UInt64(name).map { HostID($0) }
    }

    /// Why a cell did not carry something out, with the names of hosts and VMs instead of their numbers.
    func problem(_ refusal: CellRefusal, _ cell: GroupID) -> Problem {
        Problem(
            refusal,
            saying: refusal.sentence(host: hostName) { [self] id in
                guard case .cell(let found)? = agent.engine.readHere(cell, .cell(.vm(id))),
                    case .vm(_, let vm?)? = AdminPort.rows(found).rows.first
                else { return "\(id)" }
                return vm.name
            })
    }

    static func noHost(_ name: String) -> Problem {
        Problem(.notFound, "there is no host \(name) in the cell; see `muster host list`")
    }
    static func noVM(_ vm: VMReference, _ tombstone: CellTombstone? = nil) -> Problem {
        guard let tombstone else { return Problem(.notFound, "there is no VM \(vm); see `muster vm list`") }
        if tombstone.movedTo > 0 {
            return Problem(
                .notFound, "the VM \(vm) went from this cell to cell number \(tombstone.movedTo); ask without cell=",
                members: [JSONMember("movedTo", .integer(Int64(clamping: tombstone.movedTo)))])
        }
        return Problem(
            .notFound, "the VM \(vm) was deleted; `muster vm history \(vm)` says when and by whom",
            members: [JSONMember("deleted", .integer(tombstone.deletedAt.seconds))])
    }

    static func query(_ vm: VMReference) -> CellQuery {
        switch vm {
        case .id(let id): .vm(id)
        case .named(let name, let tenant): .vmNamed(tenant: tenant, name: name)
        }
    }

    /// The VM in an answer, if the asker may know of it.
    static func vm(
        _ reference: VMReference, in answer: CellAnswer, _ asker: FleetAsker
    ) -> Result<CellVM, Problem> {
        var tombstone: CellTombstone?
        for row in rows(answer).rows {
            switch row {
            case .vm(_, let vm?):
                guard asker.reaches(vm.tenant) else {
                    return .failure(
                        Problem(.forbidden, "VM \(reference) is another tenant's; ask its owner or an administrator"))
                }
                return .success(vm)
            case .tombstone(_, let gone?): if asker.reaches(gone.tenant) { tombstone = gone }
            default: break
            }
        }
        return .failure(noVM(reference, tombstone))
    }

    private func showVM(_ vm: VMReference, _ mode: ReadMode, _ cell: GroupID, _ asker: FleetAsker) {
        read(AdminPort.query(vm), mode, cell) { [self] result in
            switch result {
            case .failure(let problem): fail(asker, problem)
            case .success(let found):
                switch AdminPort.vm(vm, in: found.answer, asker) {
                case .failure(let problem):
                    hopOn(vm, problem, found.answer.index, asker) { [self] in showVM(vm, mode, $0, $1) }
                case .success(let known):
                    var info = info(known, now: agent.wallTime)
                    origin(of: known, mode, cell) { [self] origin in
                        info.origin = origin
                        var response = AdminResponse(json: info.json, index: found.answer.index)
                        response.age = found.age
                        answer(asker, response)
                    }
                }
            }
        }
    }

    /// Where a drain took it from, as long as that counts.
    private func origin(of vm: CellVM, _ mode: ReadMode, _ cell: GroupID, _ done: @escaping (String) -> Void) {
        guard let origin = vm.origin else { return done("") }
        read(.host(origin.host), mode, cell) { [self] result in
            guard case .success(let found) = result,
                case .host(_, let host?)? = AdminPort.rows(found.answer).rows.first, host.isOrigin(origin)
            else { return done("") }
            done(hostName(origin.host))
        }
    }

    /// A VM may have gone to another cell since it was located: it is looked for once more.
    func hopOn(
        _ vm: VMReference, _ problem: Problem, _ index: LogIndex, _ asker: FleetAsker,
        _ body: @escaping (GroupID, FleetAsker) -> Void
    ) {
        guard problem.kind == .notFound, cells.count > 1, !asker.isCellNamed else { return fail(asker, problem, index) }
        locate(vm, cells.map(\.group), asker) { found in
            var asker = asker
            asker.cell = found[0]
            // Not again.
            asker.isCellNamed = true
            body(found[0], asker)
        }
    }

    private func showGroup(
        _ name: String, _ tenant: String, _ mode: ReadMode, _ cell: GroupID, _ asker: FleetAsker
    ) {
        show(.groupNamed(tenant: tenant, name: name), mode, cell, asker) { found in
            for row in AdminPort.rows(found).rows {
                if case .group(_, let group?) = row { return .success(group.json) }
            }
            return .failure(
                Problem(.notFound, "the tenant \(tenant) has no placement group \(name); see `muster group list`"))
        }
    }

    private func showSettings(_ mode: ReadMode, _ cell: GroupID, _ asker: FleetAsker) {
        show(.all(.settings), mode, cell, asker) { found in
            var values = CellSetting.shown.map { ($0, $0.standard) }
            for row in AdminPort.rows(found).rows {
                guard case .setting(let setting, let value?) = row else { continue }
                for i in values.indices where values[i].0 == setting { values[i].1 = value }
            }
            return .success(CellSettingsBody(values).json)
        }
    }

    private func showTenant(_ name: String, _ mode: ReadMode, _ cells: [GroupID], _ asker: FleetAsker) {
        refreshed(mode, asker) { [self] age in
            let known = agent.view.tenant(name)
            readAll(.slice(name), mode, cells) { [self] answers in
                var slices: [TenantSlice] = []
                var reads: [CellRead] = []
                for answer in answers {
                    switch answer {
                    case .failure(let problem): return fail(asker, problem)
                    case .success(let found):
                        reads.append(found)
                        for row in AdminPort.rows(found.answer).rows {
                            if case .slice(_, let held?) = row, held.isInUse { slices.append(held) }
                        }
                    }
                }
                guard known != nil || !slices.isEmpty else {
                    return fail(asker, Problem(.notFound, "there is no tenant \(name); see `muster tenant list`"))
                }
                let info = TenantInfo(name, known, slices, cellCount: cells.count)
                var response = AdminResponse(json: info.json, index: reads.count == 1 ? reads[0].answer.index : nil)
                response.age = (reads.map(\.age) + [age]).compactMap(\.self).max()
                answer(asker, response)
            }
        }
    }

    /// Goes on with a view of the root that is as fresh as asked for, and with how old it may be.
    func refreshed(_ mode: ReadMode, _ asker: FleetAsker, _ body: @escaping (Nanoseconds?) -> Void) {
        refreshed(mode, asker.ticket, body)
    }

    func refreshed(_ mode: ReadMode, _ ticket: Ticket, _ body: @escaping (Nanoseconds?) -> Void) {
        switch mode {
        case .stale(let within):
            if let age = agent.engine.rootAge(SystemClock.now), age <= within { return body(age) }
        // The index is a cell's, and says nothing about the root.
        case .atLeast: return body(nil)
        case .linearizable: break
        }
        agent.refreshView { [self] problem in
            if let problem { return answer(ticket, AdminResponse(problem)) }
            body(nil)
        }
    }

    private func showHistory(
        _ vm: VMReference, _ after: Revision, _ limit: Int, _ cell: GroupID, _ asker: FleetAsker
    ) {
        // A VM that is gone has a history as well.
        read(AdminPort.query(vm), .linearizable, cell) { [self] result in
            guard case .success(let found) = result else {
                if case .failure(let problem) = result { fail(asker, problem) }
                return
            }
            var id: VMID?
            var tenant = ""
            for row in AdminPort.rows(found.answer).rows {
                switch row {
                case .vm(let known, let vm?): (id, tenant) = (known, vm.tenant)
                case .tombstone(let known, let gone?) where id == nil: (id, tenant) = (known, gone.tenant)
                default: break
                }
            }
            if id == nil, case .id(let number) = vm {
                return read(.one(.tombstones, key: AdminPort.bytes(number.rawValue)), .linearizable, cell) {
                    [self] result in
                    guard case .success(let found) = result,
                        case .tombstone(_, let gone?)? = AdminPort.rows(found.answer).rows.first,
                        asker.reaches(gone.tenant)
                    else { return fail(asker, AdminPort.noVM(vm)) }
                    showEvents(of: number, after, limit, cell, asker)
                }
            }
            guard let id, asker.reaches(tenant) else { return fail(asker, AdminPort.noVM(vm), found.answer.index) }
            showEvents(of: id, after, limit, cell, asker)
        }
    }

    private func showEvents(
        of vm: VMID, _ after: Revision, _ limit: Int, _ cell: GroupID, _ asker: FleetAsker
    ) {
        show(.events(after: after, vm: vm, host: nil, limit: limit), .linearizable, cell, asker) { found in
            guard case .events(let events, let next) = found.body else {
                return .failure(Problem(.compacted, "the history up to there is gone; begin without after"))
            }
            return .success(FleetPage(events.map(EventInfo.init), next: next?.description).json)
        }
    }

    static func bytes(_ number: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(number)
        return bytes
    }
}

extension TenantSlice {
    /// More than answers that are kept for retries.
    var isInUse: Bool { revision > .zero || usedCount > 0 || groupCount > 0 }
}

extension TenantInfo {
    /// What the root allows, and what the cells have of it and use.
    init(_ name: String, _ known: RootTenant?, _ slices: [TenantSlice], cellCount: Int) {
        let held = slices.count == cellCount && slices.allSatisfy { $0.revision >= known?.revision ?? .zero }
        self.init(
            name: name, tier: known?.tier ?? "", quota: known?.quota ?? slices.first?.quota ?? .unlimited,
            usedCount: slices.reduce(0) { $0 + $1.usedCount }, used: slices.reduce(.zero) { $0 + $1.used },
            isPending: known != nil && !held)
    }
}
