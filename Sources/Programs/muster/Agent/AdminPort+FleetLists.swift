import AdminAPI
import AdminHTTP
import ClusterBase
import Controllers
import FleetModel
import NodeRuntime
import RaftCore

// Pages of lists. A page by key costs what is on it: the next one begins behind its last key, whatever was written
// meanwhile. A filter looks at a bounded number of rows and then gives what it found, with the place to go on.

/// A list that is being read.
final class FleetListJob {
    /// Rows that one page looks at before it is given as it is.
    static let examinedMax = 20_000
    /// Rows that a sorted list is made of; a longer one has to be narrowed down.
    static let sortedMax = 200_000

    let list: FleetList
    let isAudit: Bool
    let cell: GroupID
    let asker: FleetAsker
    /// What to read, from after a key on.
    let query: (_ after: [UInt8]?, _ limit: Int) -> CellQuery
    var after: [UInt8]?
    var examined = 0
    var kept: [Found] = []
    var index = LogIndex.zero
    var age: Nanoseconds?
    /// Takes the answer, where it goes to another node.
    var done: ((AdminResponse) -> Void)?

    /// One thing of the list.
    struct Found {
        var key: UInt64
        var value: FilterValue
        var json: JSONValue
    }

    init(
        _ list: FleetList, isAudit: Bool, _ cell: GroupID, _ asker: FleetAsker, after: [UInt8]?,
        _ query: @escaping ([UInt8]?, Int) -> CellQuery
    ) {
        self.list = list
        self.isAudit = isAudit
        self.cell = cell
        self.asker = asker
        self.after = after
        self.query = query
    }

    /// Where the page before ended, of a sorted list: `VALUE:KEY`.
    lazy var cursor: (value: FilterValue, key: UInt64)? = {
        guard let after = list.after, let colon = after.lastIndex(of: ":"),
            let key = UInt64(after[after.index(after: colon)...])
        else { return nil }
        let text = String(after[..<colon])
        let kind = list.kind.fields.first { $0.name == list.sort?.field }?.kind
        return (kind == .number ? .number(Int64(text) ?? 0) : text.isEmpty ? .none : .text(text), key)
    }()

    func precedes(_ a: (FilterValue, UInt64), _ b: (FilterValue, UInt64)) -> Bool {
        if let first = a.0.precedes(b.0) { return first != (list.sort?.isDescending ?? false) }
        return a.1 < b.1
    }

    /// Keeps the first of a sorted list, one more than are shown.
    func trim() {
        kept.sort { precedes(($0.value, $0.key), ($1.value, $1.key)) }
        if kept.count > list.limit + 1 { kept.removeLast(kept.count - list.limit - 1) }
    }

    func cursorText(_ found: Found) -> String {
        switch found.value {
        case .number(let number): "\(number):\(found.key)"
        case .text(let text): "\(text):\(found.key)"
        case .none, .texts: ":\(found.key)"
        }
    }
}

extension AdminPort {
    func beginList(_ list: FleetList, isAudit: Bool, _ cell: GroupID, _ asker: FleetAsker) {
        if list.watch != nil { return beginFleetWatch(list, isAudit: isAudit, cell, asker) }
        if list.kind == .events { return listEvents(list, isAudit: isAudit, cell, asker) }
        if list.kind == .tenants { return listTenants(list, cell, asker) }
        var after: [UInt8]?
        if let text = list.after, list.sort == nil {
            guard let number = UInt64(text) else {
                return fail(asker, Problem(.invalid, "after is none; send a page's next", field: "after"))
            }
            after = AdminPort.bytes(number)
        }
        let query: ([UInt8]?, Int) -> CellQuery
        switch list.kind {
        case .hosts: query = { .list(.hosts, after: $0, limit: $1) }
        case .groups: query = { .list(.groups, after: $0, limit: $1) }
        default: query = vmQuery(list, asker)
        }
        goOn(FleetListJob(list, isAudit: isAudit, cell, asker, after: after, query))
    }

    /// The narrowest index that holds all VMs of a list.
    private func vmQuery(_ list: FleetList, _ asker: FleetAsker) -> ([UInt8]?, Int) -> CellQuery {
        func vm(_ after: [UInt8]?) -> VMID? {
            after.map { bytes in VMID(bytes.reduce(0) { $0 << 8 | UInt64($1) }) }
        }
        if list.kind == .vms, let name = list.filter?.required("host"), let host = hostID(name) {
            return { .vmsOnHost(host, after: vm($0), limit: $1) }
        }
        let only = asker.tenants.flatMap { $0.count == 1 ? $0[0] : nil }
        if let tenant = list.tenant ?? list.filter?.required("tenant") ?? only {
            return { .vmsOfTenant(tenant, after: vm($0), limit: $1) }
        }
        return { .list(.vms, after: $0, limit: $1) }
    }

    private func goOn(_ job: FleetListJob) {
        let isPlain =
            job.list.sort == nil && job.list.filter == nil && job.asker.tenants == nil && job.list.kind != .migrations
        let limit = isPlain ? job.list.limit - job.kept.count : CellLimits.answerCountMax
        // All of a sorted list is read from one node and in one mode; a page read later sees what was written meanwhile.
        let mode = job.index == .zero ? job.list.mode : .atLeast(job.index)
        read(job.query(job.after, limit), mode, job.cell) { [self] result in
            switch result {
            case .failure(let problem): fail(job.asker, problem)
            case .success(let found):
                job.index = max(job.index, found.answer.index)
                job.age = job.age ?? found.age
                take(found.answer, job)
            }
        }
    }

    private func take(_ page: CellAnswer, _ job: FleetListJob) {
        let (rows, resumeAfter) = AdminPort.rows(page)
        job.examined += rows.count
        for row in rows {
            guard let found = listed(row, job) else { continue }
            if job.list.sort == nil && job.kept.count == job.list.limit {
                // It is there, and comes with the next page.
                return finish(job, next: job.kept.last.map { "\($0.key)" })
            }
            if let cursor = job.cursor, job.list.sort != nil,
                !job.precedes((cursor.value, cursor.key), (found.value, found.key))
            {
                continue
            }
            job.kept.append(found)
            if job.list.sort != nil && job.kept.count >= 4 * job.list.limit + 1_000 { job.trim() }
        }
        job.after = resumeAfter
        if job.list.sort != nil {
            if resumeAfter == nil { return finishSorted(job) }
            if job.examined >= FleetListJob.sortedMax {
                return fail(
                    job.asker,
                    Problem(
                        .notPossible,
                        "a sorted list is made of at most \(FleetListJob.sortedMax) things; narrow it down with tenant or "
                            + "filter, or leave sort out", field: "sort"))
            }
            return goOn(job)
        }
        guard let resumeAfter else { return finish(job, next: nil) }
        let isFull = job.kept.count == job.list.limit || job.examined >= FleetListJob.examinedMax
        if !isFull { return goOn(job) }
        finish(job, next: "\(resumeAfter.reduce(0) { $0 << 8 | UInt64($1) } as UInt64)")
    }

    private func finishSorted(_ job: FleetListJob) {
        job.trim()
        let hasMore = job.kept.count > job.list.limit
        if hasMore { job.kept.removeLast() }
        finish(job, next: hasMore ? job.kept.last.map(job.cursorText) : nil)
    }

    private func finish(_ job: FleetListJob, next: String?) {
        let page = AdminPort.page(job.kept.map(\.json), next: next, job.index, job.age)
        if let done = job.done { done(page) } else { answer(job.asker, page) }
    }

    static func page(
        _ items: [JSONValue], next: String?, _ index: LogIndex, _ age: Nanoseconds?
    ) -> AdminResponse {
        var members = [JSONMember("items", .array(items))]
        if let next { members.append(JSONMember("next", .string(next))) }
        var response = AdminResponse(json: .object(members), index: index)
        response.age = age
        return response
    }

    /// A row as the list shows it; nil where the list does not.
    private func listed(_ row: CellRowContent, _ job: FleetListJob) -> FleetListJob.Found? {
        let list = job.list
        switch row {
        case .vm(let id, let vm?):
            guard job.asker.reaches(vm.tenant), list.tenant.map({ $0 == vm.tenant }) ?? true else { return nil }
            if list.kind == .migrations {
                guard let migration = vm.migration else { return nil }
                let info = MigrationInfo(migration, of: vm, now: agent.wallTime, hostName: hostName)
                return found(id.rawValue, list, { info.field($0) }, { info.json })
            }
            return found(
                id.rawValue, list, { vm.field($0, hostName: hostName) }, { VMInfo(vm, hostName: hostName).json })
        case .host(let id, let host?):
            return found(id.rawValue, list, { host.field($0) }, { HostInfo(host).json })
        case .group(let id, let group?):
            guard job.asker.reaches(group.tenant), list.tenant.map({ $0 == group.tenant }) ?? true else { return nil }
            return found(id.rawValue, list, { group.field($0) }, { group.json })
        default: return nil
        }
    }

    private func found(
        _ key: UInt64, _ list: FleetList, _ field: (String) -> FilterValue, _ json: () -> JSONValue
    ) -> FleetListJob.Found? {
        if let filter = list.filter, !filter.matches(field) { return nil }
        return FleetListJob.Found(
            key: key, value: list.sort.map { field($0.field) } ?? .none, json: json().only(list.fields))
    }

    // MARK: Migrations

    /// On the cell's leader, whose controller knows which VMs migrate: what it has not followed yet is looked at besides.
    func listMigrations(
        _ list: FleetList, _ cell: GroupID, _ asker: FleetAsker, _ done: @escaping (AdminResponse) -> Void
    ) {
        let retry = AdminResponse(
            Problem(.unavailable, "the cell's leader is new and still reads the state; ask again"))
        read(.list(.settings, after: nil, limit: 1), list.mode, cell) { [self] result in
            switch result {
            case .failure(let problem): done(AdminResponse(problem))
            case .success(let now):
                let known = agent.engine.withCellKeeper(cell) { keeper in
                    keeper.isReady ? (ids: keeper.migratingVMs, through: keeper.view.through) : nil
                }
                guard let known = known ?? nil, let through = known.through,
                    case .cell(let later)? = agent.engine.readHere(cell, .cell(.changes(since: through, limit: 0))),
                    case .changes(let rows, let followed) = later.body, followed >= now.answer.index
                else { return done(retry) }
                let changed = rows.compactMap(\.content).compactMap { row -> VMID? in
                    if case .vm(let id, let vm?) = row, vm.migration != nil { id } else { nil }
                }
                let after = list.sort == nil ? list.after.flatMap(UInt64.init) ?? 0 : 0
                let job = FleetListJob(list, isAudit: false, cell, asker, after: nil) { _, _ in .all(.settings) }
                job.index = later.index
                job.done = done
                // hash order: sorted
                for id in Set(known.ids + changed).sorted() where id.rawValue > after {
                    guard case .cell(let state)? = agent.engine.readHere(cell, .cell(.vm(id))),
                        let row = AdminPort.rows(state).rows.first, let found = listed(row, job)
                    else { continue }
                    if list.sort == nil && job.kept.count == list.limit {
                        return finish(job, next: job.kept.last.map { "\($0.key)" })
                    }
                    if let cursor = job.cursor, list.sort != nil,
                        !job.precedes((cursor.value, cursor.key), (found.value, found.key))
                    {
                        continue
                    }
                    job.kept.append(found)
                }
                list.sort == nil ? finish(job, next: nil) : finishSorted(job)
            }
        }
    }

    // MARK: Tenants

    /// All of them at once: there are at most 10,000.
    private func listTenants(_ list: FleetList, _ cell: GroupID, _ asker: FleetAsker) {
        refreshed(list.mode, asker) { [self] in slices([], after: nil, list, cell, asker) }
    }

    private func slices(
        _ held: [TenantSlice], after: [UInt8]?, _ list: FleetList, _ cell: GroupID, _ asker: FleetAsker
    ) {
        read(.list(.slices, after: after, limit: 0), list.mode, cell) { [self] result in
            guard case .success(let found) = result else {
                if case .failure(let problem) = result { fail(asker, problem) }
                return
            }
            let (rows, resumeAfter) = AdminPort.rows(found.answer)
            let all =
                held
                + rows.compactMap { row in
                    if case .slice(_, let slice?) = row, slice.isInUse { slice } else { nil }
                }
            if let resumeAfter { return slices(all, after: resumeAfter, list, cell, asker) }
            var infos: [TenantInfo] = []
            var slices = all[...]
            for tenant in agent.view.tenants {
                while let slice = slices.first, slice.tenant < tenant.name {
                    infos.append(TenantInfo(slice.tenant, nil, slice))
                    slices.removeFirst()
                }
                let own = slices.first?.tenant == tenant.name ? slices.popFirst() : nil
                infos.append(TenantInfo(tenant.name, tenant, own))
            }
            infos += slices.map { TenantInfo($0.tenant, nil, $0) }
            pageTenants(infos, found, list, asker)
        }
    }

    private func pageTenants(_ all: [TenantInfo], _ read: CellRead, _ list: FleetList, _ asker: FleetAsker) {
        var infos = all.filter { info in
            asker.reaches(info.name) && list.filter.map { $0.matches { info.field($0) } } ?? true
        }
        if let sort = list.sort {
            infos.sort { a, b in
                if let first = a.field(sort.field).precedes(b.field(sort.field)) { return first != sort.isDescending }
                return a.name < b.name
            }
        }
        // Names are unique, so the last one of a page says where the next begins; of one that is gone, at the front.
        if let after = list.after {
            if list.sort == nil {
                infos.removeAll { $0.name <= after }
            } else if let place = infos.firstIndex(where: { $0.name == after }) {
                infos.removeFirst(place + 1)
            }
        }
        let shown = infos.prefix(list.limit)
        answer(
            asker,
            AdminPort.page(
                shown.map { $0.json.only(list.fields) }, next: infos.count > shown.count ? shown.last?.name : nil,
                read.answer.index, read.age))
    }

    // MARK: Events

    private func listEvents(_ list: FleetList, isAudit: Bool, _ cell: GroupID, _ asker: FleetAsker) {
        let after = list.after.flatMap { Revision($0) } ?? .zero
        withSubject(list, cell, asker) { [self] vm, host in
            if list.sort?.isDescending == true {
                return begin(NewestEvents(list, isAudit: isAudit, vm: vm, host: host, cell, asker))
            }
            events(list, isAudit, after, vm, host, [], 0, cell, asker)
        }
    }

    /// The ids of the VM and the host that a list of events is about.
    func withSubject(
        _ list: FleetList, _ cell: GroupID, _ asker: FleetAsker, _ body: @escaping (VMID?, HostID?) -> Void
    ) {
        var host: HostID?
        if let name = list.host {
            guard let found = hostID(name) else { return fail(asker, AdminPort.noHost(name)) }
            host = found
        }
        guard let name = list.vm else { return body(nil, host) }
        let reference =
            UInt64(name).map { VMReference.id(VMID($0)) } ?? .named(name, tenant: list.tenant ?? defaultTenant)
        withVM(reference, cell, asker) { body($0.id, host) }
    }

    /// Whether the asker sees an event in a list.
    func shows(_ event: CellEvent, _ list: FleetList, _ isAudit: Bool, _ asker: FleetAsker) -> Bool {
        if isAudit && !event.isAudit { return false }
        if let tenant = list.tenant, event.tenant != tenant { return false }
        if asker.tenants != nil && (event.tenant.isEmpty || !asker.reaches(event.tenant)) { return false }
        return list.filter.map { $0.matches { event.field($0) } } ?? true
    }

    private func events(
        _ list: FleetList, _ isAudit: Bool, _ after: Revision, _ vm: VMID?, _ host: HostID?, _ kept: [JSONValue],
        _ examined: Int, _ cell: GroupID, _ asker: FleetAsker
    ) {
        // An answer has all events of an entry, so it may be longer than asked for.
        let limit = max(1, list.limit - kept.count)
        read(.events(after: after, vm: vm, host: host, limit: limit), list.mode, cell) { [self] result in
            guard case .success(let found) = result else {
                if case .failure(let problem) = result { fail(asker, problem) }
                return
            }
            switch found.answer.body {
            case .events(let events, let next):
                let shown = events.filter { shows($0, list, isAudit, asker) }
                let all = kept + shown.map { EventInfo($0).json.only(list.fields) }
                let count = examined + max(1, events.count)
                if let next, all.count < list.limit, count < FleetListJob.examinedMax {
                    return self.events(list, isAudit, next, vm, host, all, count, cell, asker)
                }
                answer(
                    asker, AdminPort.page(all, next: next?.description, found.answer.index, found.age))
            case .compacted(let index): fail(asker, AdminPort.compacted(index), found.answer.index)
            default: fail(asker, Problem(.internal, "the cell's answer was of another kind; report this"))
            }
        }
    }

    static func compacted(_ index: LogIndex) -> Problem {
        Problem(
            .compacted, "what happened up to index \(index) is no longer kept; begin with after=\(index)",
            members: [JSONMember("compacted", .string(Revision.end(of: index).description))])
    }
}
