import AdminAPI
import AdminHTTP
import ClusterBase
import Controllers
import FleetModel
import NodeRuntime
import RaftCore

// Pages of lists. A page by key costs what is on it: the next one begins behind its last key, whatever was written
// meanwhile. A filter looks at a bounded number of rows and then gives what it found, with the place to go on. A list over
// several cells is that of the first, then that of the next: the place to go on says in which.

/// A list that is being read.
final class FleetListJob {
    /// Rows that one page looks at before it is given as it is.
    static let examinedMax = 20_000
    /// Rows that a sorted list is made of; a longer one has to be narrowed down.
    static let sortedMax = 200_000

    let list: FleetList
    let isAudit: Bool
    /// That is read, and those that follow.
    private(set) var cells: ArraySlice<GroupID>
    private let isOverSeveral: Bool
    let asker: FleetAsker
    /// What to read, from after a key on.
    let query: (_ after: [UInt8]?, _ limit: Int) -> CellQuery
    var after: [UInt8]?
    var examined = 0
    var kept: [Found] = []
    /// Of the cell that is read.
    var index = LogIndex.zero
    /// Of the cells that were read.
    var indexes: [(cell: GroupID, index: LogIndex)] = []
    var age: Nanoseconds?
    /// Takes the answer, where it goes to another node.
    var done: ((AdminResponse) -> Void)?

    /// One thing of the list.
    struct Found {
        var cell: GroupID
        var key: UInt64
        var value: FilterValue
        var json: JSONValue
    }

    init(
        _ list: FleetList, isAudit: Bool, _ cells: [GroupID], _ asker: FleetAsker, after: [UInt8]?,
        _ query: @escaping ([UInt8]?, Int) -> CellQuery
    ) {
        self.list = list
        self.isAudit = isAudit
        self.cells = cells[...]
        isOverSeveral = cells.count > 1
        self.asker = asker
        self.after = after
        self.query = query
    }

    var cell: GroupID {
        guard let first = cells.first else {
            preconditionFailure("a list of \(list.kind) goes on behind its last cell")
        }
        return first
    }

    /// Goes on with the next cell. False when all were read.
    func next() -> Bool {
        indexes.append((cell, index))
        if cells.count == 1 { return false }
        cells.removeFirst()
        (index, after) = (.zero, nil)
        return true
    }

    /// Goes on in this cell, which an earlier page was in.
    func skip(to number: UInt64) {
        while cells.count > 1, cell.number < number { cells.removeFirst() }
        if cell.number != number { after = nil }
    }

    /// Where a page that ends here goes on.
    func place(_ cell: GroupID, _ key: UInt64) -> String { isOverSeveral ? "\(cell.number).\(key)" : "\(key)" }

    /// Where the page before ended, of a sorted list: `VALUE:KEY`.
    lazy var cursor: (value: FilterValue, cell: UInt64, key: UInt64)? = {
        guard let after = list.after, let colon = after.lastIndex(of: ":"),
            let (cell, key) = FleetListJob.place(String(after[after.index(after: colon)...]))
        else { return nil }
        let text = String(after[..<colon])
        if text.isEmpty { return (.none, cell, key) }
        guard list.kind.fields.first(where: { $0.name == list.sort?.field })?.kind == .number else {
            return (.text(text), cell, key)
        }
        // A page that is sorted otherwise ended there.
        guard let number = Int64(text) else { return nil }
        return (.number(number), cell, key)
    }()

    /// `after` is of no page before this one.
    static let noNext = Problem(
        .invalid, "after is no page's next of this list in this order; send next as the page before had it",
        field: "after")

    /// What is empty is as what is not there: a cursor can't tell them apart.
    static func sortable(_ value: FilterValue) -> FilterValue { value == .text("") ? .none : value }

    /// `CELL.KEY`, or `KEY` alone where there is one cell.
    static func place(_ text: String) -> (cell: UInt64, key: UInt64)? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { UInt64($0) }
        guard (1...2).contains(parts.count), let key = parts[parts.count - 1], let first = parts[0] else { return nil }
        return (parts.count == 2 ? first : 0, key)
    }

    private func precedes(_ a: Found, _ b: Found) -> Bool {
        if let first = a.value.precedes(b.value) { return first != (list.sort?.isDescending ?? false) }
        return (a.cell.number, a.key) < (b.cell.number, b.key)
    }

    /// Whether it was on an earlier page of a sorted list.
    func isPast(_ found: Found) -> Bool {
        guard let cursor, list.sort != nil else { return false }
        if let first = cursor.value.precedes(found.value) { return first == (list.sort?.isDescending ?? false) }
        return (cursor.cell, cursor.key) >= (isOverSeveral ? found.cell.number : 0, found.key)
    }

    /// Keeps the first of a sorted list, one more than are shown.
    func trim() {
        kept.sort(by: precedes)
        if kept.count > list.limit + 1 { kept.removeLast(kept.count - list.limit - 1) }
    }

    func cursorText(_ found: Found) -> String {
        let place = place(found.cell, found.key)
        return switch found.value {
        case .number(let number): "\(number):\(place)"
        case .text(let text): "\(text):\(place)"
        case .none, .texts: ":\(place)"
        }
    }
}

extension AdminPort {
    func beginList(_ list: FleetList, isAudit: Bool, _ cells: [GroupID], _ asker: FleetAsker) {
        if list.watch != nil { return beginFleetWatch(list, isAudit: isAudit, cells[0], asker) }
        if list.kind == .events { return listEvents(list, isAudit: isAudit, cells[0], asker) }
        if list.kind == .tenants { return listTenants(list, cells, asker) }
        var place: (cell: UInt64, key: UInt64)?
        if let text = list.after, list.sort == nil {
            place = FleetListJob.place(text)
            if place == nil {
                return fail(asker, FleetListJob.noNext)
            }
        }
        let query: ([UInt8]?, Int) -> CellQuery
        switch list.kind {
        case .hosts: query = { .list(.hosts, after: $0, limit: $1) }
        case .groups: query = { .list(.groups, after: $0, limit: $1) }
        default: query = vmQuery(list, asker)
        }
        let after = place.map { AdminPort.bytes($0.key) }
        let job = FleetListJob(list, isAudit: isAudit, cells, asker, after: after, query)
        if list.sort != nil, list.after != nil, job.cursor == nil {
            return fail(asker, FleetListJob.noNext)
        }
        if let place, cells.count > 1 { job.skip(to: place.cell) }
        goOn(job)
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
        if agent.engine.levelOpen >= FeatureLevel.marks, let mark = list.mark {
            return { .vmsMarked(mark, after: vm($0), limit: $1) }
        }
        if let tenant = list.tenant ?? list.filter?.required("tenant") ?? only {
            // A name is one VM's; the tenant's index goes on behind it.
            let name = list.kind == .vms ? list.filter?.required("name") : nil
            return { after, limit in
                if let name, after == nil { return .vmNamed(tenant: tenant, name: name) }
                return .vmsOfTenant(tenant, after: vm(after), limit: limit)
            }
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
                job.age = [job.age, found.age].compactMap(\.self).max()
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
                return finish(job, next: job.kept.last.map { job.place($0.cell, $0.key) })
            }
            if job.isPast(found) { continue }
            job.kept.append(found)
            if job.list.sort != nil && job.kept.count >= 4 * job.list.limit + 1_000 { job.trim() }
        }
        job.after = resumeAfter
        if job.list.sort != nil {
            if resumeAfter == nil { return job.next() ? goOn(job) : finishSorted(job) }
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
        let isFull = job.kept.count == job.list.limit || job.examined >= FleetListJob.examinedMax
        guard let resumeAfter else {
            if !job.next() { return finish(job, next: nil) }
            return isFull ? finish(job, next: job.place(job.cell, 0)) : goOn(job)
        }
        if !isFull { return goOn(job) }
        finish(job, next: job.place(job.cell, resumeAfter.reduce(0) { $0 << 8 | UInt64($1) }))
    }

    private func finishSorted(_ job: FleetListJob) {
        job.trim()
        let hasMore = job.kept.count > job.list.limit
        if hasMore { job.kept.removeLast() }
        finish(job, next: hasMore ? job.kept.last.map(job.cursorText) : nil)
    }

    private func finish(_ job: FleetListJob, next: String?) {
        if job.indexes.last?.cell != job.cell && job.index > .zero { job.indexes.append((job.cell, job.index)) }
        let page = page(job.kept.map(\.json), next: next, job.indexes, job.age)
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

    /// A page over several cells has an index for each; none of them is the answer's.
    private func page(
        _ items: [JSONValue], next: String?, _ indexes: [(cell: GroupID, index: LogIndex)], _ age: Nanoseconds?
    ) -> AdminResponse {
        if indexes.count == 1 && cells.count == 1 {
            return AdminPort.page(items, next: next, indexes[0].index, age)
        }
        var members = [JSONMember("items", .array(items))]
        if let next { members.append(JSONMember("next", .string(next))) }
        members.append(
            JSONMember(
                "indexes",
                .object(indexes.map { JSONMember(cellName($0.cell), .integer(Int64(clamping: $0.index.rawValue))) })))
        var response = AdminResponse(json: .object(members))
        response.index = indexes.count == 1 ? indexes[0].index : nil
        response.age = age
        return response
    }

    /// A row as the list shows it; nil where the list does not.
    private func listed(_ row: CellRowContent, _ job: FleetListJob) -> FleetListJob.Found? {
        let list = job.list
        switch row {
        case .vm(let id, let vm?):
            // Another cell has it still.
            if vm.arrival != nil { return nil }
            guard job.asker.reaches(vm.tenant), list.tenant.map({ $0 == vm.tenant }) ?? true else { return nil }
            if list.kind == .migrations {
                guard let migration = vm.migration else { return nil }
                let info = MigrationInfo(migration, of: vm, now: agent.wallTime, hostName: hostName)
                return found(id.rawValue, job, { info.field($0) }, { info.json })
            }
            return found(
                id.rawValue, job, { vm.field($0, hostName: hostName) }, { info(vm).json })
        case .host(let id, let host?):
            // It is another cell's.
            if host.isReleased { return nil }
            return found(id.rawValue, job, { host.field($0) }, { HostInfo(host).json })
        case .group(let id, let group?):
            guard job.asker.reaches(group.tenant), list.tenant.map({ $0 == group.tenant }) ?? true else { return nil }
            return found(id.rawValue, job, { group.field($0) }, { group.json })
        default: return nil
        }
    }

    private func found(
        _ key: UInt64, _ job: FleetListJob, _ field: (String) -> FilterValue, _ json: () -> JSONValue
    ) -> FleetListJob.Found? {
        let list = job.list
        if let filter = list.filter, !filter.matches(field) { return nil }
        return FleetListJob.Found(
            cell: job.cell, key: key, value: list.sort.map { FleetListJob.sortable(field($0.field)) } ?? .none,
            json: json().only(list.fields))
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
                let job = FleetListJob(list, isAudit: false, [cell], asker, after: nil) { _, _ in .all(.settings) }
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
                    if job.isPast(found) { continue }
                    job.kept.append(found)
                }
                list.sort == nil ? finish(job, next: nil) : finishSorted(job)
            }
        }
    }

    // MARK: Tenants

    /// All of them at once: there are at most 10,000.
    private func listTenants(_ list: FleetList, _ cells: [GroupID], _ asker: FleetAsker) {
        refreshed(list.mode, asker) { [self] age in slices([], after: nil, list, cells[...], [], age, asker) }
    }

    private func slices(
        _ held: [TenantSlice], after: [UInt8]?, _ list: FleetList, _ cells: ArraySlice<GroupID>,
        _ indexes: [(cell: GroupID, index: LogIndex)], _ age: Nanoseconds?, _ asker: FleetAsker
    ) {
        guard let cell = cells.first else { return showTenants(held, list, indexes, age, asker) }
        read(.list(.slices, after: after, limit: 0), list.mode, cell) { [self] result in
            guard case .success(let found) = result else {
                if case .failure(let problem) = result { fail(asker, problem) }
                return
            }
            let (rows, resumeAfter) = AdminPort.rows(found.answer)
            let age = [age, found.age].compactMap(\.self).max()
            let all =
                held
                + rows.compactMap { row in
                    if case .slice(_, let slice?) = row, slice.isInUse { slice } else { nil }
                }
            if let resumeAfter { return slices(all, after: resumeAfter, list, cells, indexes, age, asker) }
            slices(all, after: nil, list, cells.dropFirst(), indexes + [(cell, found.answer.index)], age, asker)
        }
    }

    private func showTenants(
        _ held: [TenantSlice], _ list: FleetList, _ indexes: [(cell: GroupID, index: LogIndex)], _ age: Nanoseconds?,
        _ asker: FleetAsker
    ) {
        let byName = Dictionary(grouping: held, by: \.tenant)
        let names = Set(byName.keys).union(agent.view.tenants.map(\.name)).sorted()
        var infos: [TenantInfo] = []
        for name in names where asker.reaches(name) {
            let info = TenantInfo(name, agent.view.tenant(name), byName[name] ?? [], cellCount: indexes.count)
            if list.filter.map({ $0.matches { info.field($0) } }) ?? true { infos.append(info) }
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
            page(
                shown.map { $0.json.only(list.fields) }, next: infos.count > shown.count ? shown.last?.name : nil,
                indexes, age))
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
