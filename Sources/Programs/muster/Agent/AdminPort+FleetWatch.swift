import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Reactor
import StoreLayout

// Streams of a cell's changes and events. They follow this node's copy, which has everything that is committed in its
// order, only later; a node without one asks the others.

/// One client's stream.
struct FleetWatch {
    let list: FleetList
    let isAudit: Bool
    let cell: GroupID
    let asker: FleetAsker
    let vm: VMID?
    let host: HostID?
    /// Everything up to here was sent; nil until the beginning is known.
    var through: Revision?
    var isAsking = false
    var isFull = false
    var askAt: Instant
    /// The copy here had this applied when it was last asked.
    var seen = LogIndex.zero
    var toldAt: Instant

    var ticket: Ticket { asker.ticket }
    var asEvents: Bool { list.watch?.asEvents ?? false }
}

extension AdminPort {
    /// Streams of cells at one time.
    private static let fleetWatchesMax = 1_024
    private static let watchLimit = 1_000

    func beginFleetWatch(_ list: FleetList, isAudit: Bool, _ cell: GroupID, _ asker: FleetAsker) {
        guard fleetWatches.count < AdminPort.fleetWatchesMax else {
            return fail(
                asker,
                Problem(
                    .overloaded,
                    "\(AdminPort.fleetWatchesMax) streams are open here, which is the bound; ask another node"))
        }
        withSubject(list, cell, asker) { [self] vm, host in
            let now = agent.loop.now
            let from = list.watch?.from
            fleetWatches.append(
                FleetWatch(
                    list: list, isAudit: isAudit, cell: cell, asker: asker, vm: vm, host: host, through: from,
                    askAt: now, toldAt: now))
            if from != nil { answer(asker.ticket, .stream(list.watch?.asEvents == true ? .events : .jsonLines)) }
        }
    }

    var fleetWatchDeadline: Instant {
        var next = agent.loop.now + .seconds(3_600)
        for watch in fleetWatches where !watch.isAsking && !watch.isFull { next = min(next, watch.askAt) }
        return next
    }

    func fleetWatchHasRoom(_ ticket: Ticket) {
        guard let i = fleetWatches.firstIndex(where: { $0.ticket == ticket }) else { return }
        fleetWatches[i].isFull = false
        fleetWatches[i].askAt = agent.loop.now
    }

    /// Goes on with every stream whose cell may have changed.
    func tendFleetWatches() {
        if fleetWatches.isEmpty { return }
        let now = agent.loop.now
        for ticket in fleetWatches.map(\.ticket) {
            guard let i = fleetWatches.firstIndex(where: { $0.ticket == ticket }) else { continue }
            let watch = fleetWatches[i]
            if watch.isAsking || watch.isFull { continue }
            let here = agent.engine.inspect(watch.cell) { _, applied in applied.index }
            guard now >= watch.askAt || (here ?? .zero) > watch.seen else { continue }
            fleetWatches[i].seen = here ?? .zero
            fleetWatches[i].askAt = now + (here == nil ? AdminPort.watchPoll : AdminPort.progressEvery)
            let query = AdminPort.nextQuery(watch)
            // A stream begins with what is newest anywhere, and goes on with what is here.
            if let through = watch.through, case .cell(let found)? = agent.engine.readHere(watch.cell, .cell(query)),
                through.index <= found.index
            {
                take(found, i)
                continue
            }
            fleetWatches[i].isAsking = true
            agent.request(.query(watch.cell, .cell(query))) { [self] outcome in
                guard let i = fleetWatches.firstIndex(where: { $0.ticket == ticket }) else { return }
                fleetWatches[i].isAsking = false
                guard case .read(.cell(let found)) = outcome else {
                    // No leader now; the stream goes on where it stood.
                    fleetWatches[i].askAt = agent.loop.now + AdminPort.watchPoll
                    return
                }
                // Its reader saw a state that a forced recovery has given up, or another cell's: what came instead was never told.
                if let through = fleetWatches[i].through, through.index > found.index {
                    return end(i, compacted: found.index)
                }
                take(found, i)
            }
        }
    }

    private static func nextQuery(_ watch: FleetWatch) -> CellQuery {
        guard let through = watch.through else { return .list(.settings, after: nil, limit: 1) }
        if watch.list.kind == .events {
            return .events(after: through, vm: watch.vm, host: watch.host, limit: watchLimit)
        }
        // In the midst of an entry, all of it again: rows are as they are now, and harmless to repeat.
        let since = through == .end(of: through.index) ? through.index : LogIndex(max(1, through.index.rawValue) - 1)
        return .changes(since: since, limit: watchLimit)
    }

    private func take(_ found: CellAnswer, _ i: Int) {
        switch found.body {
        case .rows:
            // It begins now.
            fleetWatches[i].through = .end(of: found.index)
            fleetWatches[i].askAt = agent.loop.now
            let media: MediaType = fleetWatches[i].asEvents ? .events : .jsonLines
            answer(fleetWatches[i].ticket, .stream(media, index: found.index))
        case .changes(let rows, let through):
            var lines: [UInt8] = []
            for row in rows { if let content = row.content { write(content, fleetWatches[i], through, &lines) } }
            send(lines, isMore: !rows.isEmpty, .end(of: through), i)
        case .events(let events, let next):
            let watch = fleetWatches[i]
            var lines: [UInt8] = []
            for event in events where shows(event, watch.list, watch.isAudit, watch.asker) {
                WatchLine.write(
                    .event, revision: event.revision, item: EventInfo(event).json.only(watch.list.fields),
                    asEvents: watch.asEvents, into: &lines)
            }
            send(lines, isMore: next != nil, next ?? max(watch.through ?? .zero, .end(of: found.index)), i)
        case .compacted(let index): end(i, compacted: index)
        case .work, .workChanges, .refused:
            let ticket = fleetWatches[i].ticket
            fleetWatches.remove(at: i)
            server.endStream(ticket, isWhole: false)
        }
    }

    /// Ends a stream with the word that what comes next can't be told: its reader lists again.
    private func end(_ i: Int, compacted index: LogIndex) {
        var line: [UInt8] = []
        WatchLine.write(.compacted, revision: .end(of: index), asEvents: fleetWatches[i].asEvents, into: &line)
        let ticket = fleetWatches[i].ticket
        fleetWatches.remove(at: i)
        _ = server.send(ticket, line)
        server.endStream(ticket)
    }

    private func send(_ lines: [UInt8], isMore: Bool, _ through: Revision, _ i: Int) {
        let asker = fleetWatches[i].asker
        // What it may see is not what it was when it began.
        guard Access.tenants(roles(of: asker.principal), toWrite: false) == asker.tenants else {
            fleetWatches.remove(at: i)
            return server.endStream(asker.ticket, isWhole: false)
        }
        let now = agent.loop.now
        fleetWatches[i].through = max(through, fleetWatches[i].through ?? .zero)
        if isMore { fleetWatches[i].askAt = now }
        guard !lines.isEmpty || now - fleetWatches[i].toldAt >= AdminPort.progressEvery else { return }
        var piece = lines
        WatchLine.write(
            .progress, revision: fleetWatches[i].through ?? through, asEvents: fleetWatches[i].asEvents, into: &piece)
        fleetWatches[i].toldAt = now
        switch server.send(fleetWatches[i].ticket, piece) {
        case .open: break
        case .full: fleetWatches[i].isFull = true
        case .gone: fleetWatches.remove(at: i)
        }
    }

    /// A VM as it is shown while programs may be about that know no secret fields, and after.
    func info(_ vm: CellVM, now: LogTime? = nil) -> VMInfo {
        var info = VMInfo(vm, now: now, hostName: hostName)
        info.showsAnnotations = !agent.knowsSecretFields
        return info
    }

    /// Whether one of the groups that a stream is about went since what was sent. A row that is gone does not say whose it was; events
    /// do. Where they can't be read the end is told to all: an id says little to others, and its owner would miss it.
    private func mayHaveLostGroup(_ watch: FleetWatch, _ through: LogIndex) -> Bool {
        if watch.asker.tenants == nil && watch.list.tenant == nil { return true }
        let since = watch.through.map { $0.index } ?? .zero
        let before = Revision.end(of: LogIndex(max(1, since.rawValue) - 1))
        let query = CellQuery.events(after: before, vm: nil, host: nil, limit: AdminPort.watchLimit)
        guard case .cell(let found)? = agent.engine.readHere(watch.cell, .cell(query)),
            case .events(let events, nil) = found.body, found.index >= through
        else { return true }
        return events.contains { event in
            (event.kind == "group.deleted" || event.kind == "group.left") && watch.asker.reaches(event.tenant)
                && watch.list.tenant.map { $0 == event.tenant } ?? true
        }
    }

    private func write(_ row: CellRowContent, _ watch: FleetWatch, _ through: LogIndex, _ lines: inout [UInt8]) {
        let list = watch.list
        let revision = Revision.end(of: through)
        func line(_ id: UInt64, _ json: JSONValue?, passes: Bool) {
            if let json, passes {
                WatchLine.write(
                    .put, revision: revision, id: id, item: json.only(list.fields), asEvents: watch.asEvents,
                    into: &lines)
            } else {
                WatchLine.write(
                    json == nil ? .delete : .out, revision: revision, id: id, asEvents: watch.asEvents, into: &lines)
            }
        }
        switch (list.kind, row) {
        case (.vms, .vm(let id, let vm?)):
            // Another cell has it still.
            if vm.arrival != nil { return }
            guard watch.asker.reaches(vm.tenant), list.tenant.map({ $0 == vm.tenant }) ?? true else { return }
            let passes = list.filter.map { $0.matches { vm.field($0, hostName: hostName) } } ?? true
            line(id.rawValue, passes ? info(vm).json : .null, passes: passes)
        case (.vms, .vm(let id, nil)):
            if watch.asker.tenants != nil || list.tenant != nil {
                // Whose it was, its tombstone says. Where that can't be read the end is told to all: an id says nothing to others,
                // and whoever had the VM would take it for running for ever.
                let query = CellQuery.one(.tombstones, key: AdminPort.bytes(id.rawValue))
                if case .cell(let found)? = agent.engine.readHere(watch.cell, .cell(query)),
                    case .tombstone(_, let gone?)? = AdminPort.rows(found).rows.first,
                    !watch.asker.reaches(gone.tenant) || !(list.tenant.map({ $0 == gone.tenant }) ?? true)
                {
                    return
                }
            }
            line(id.rawValue, nil, passes: false)
        case (.hosts, .host(let id, let host)):
            let passes = host.map { host in list.filter.map { $0.matches { host.field($0) } } ?? true } ?? false
            line(id.rawValue, host.map { HostInfo($0).json }, passes: passes)
        case (.groups, .group(let id, let group)):
            if let group {
                guard watch.asker.reaches(group.tenant), list.tenant.map({ $0 == group.tenant }) ?? true else { return }
            } else if !mayHaveLostGroup(watch, through) {
                return
            }
            let passes = group.map { group in list.filter.map { $0.matches { group.field($0) } } ?? true } ?? false
            line(id.rawValue, group.map(\.json), passes: passes)
        default: break
        }
    }
}
