internal import BinaryCoding
import ClusterBase
internal import Schema

// A cell's queries and answers as bytes, as Proto/cell.proto describes them.

extension CellQuery: CellCoded, CellMapped {
    init?(_ wire: WireCellQuery) {
        switch wire.query {
        case .list(let list)?:
            guard let table = CellTable(rawValue: UInt8(clamping: list.table.rawValue)) else { return nil }
            self = .list(table, after: list.after, limit: Int(list.limit))
        case .one(let one)?:
            guard let table = CellTable(rawValue: UInt8(clamping: one.table.rawValue)) else { return nil }
            self = .one(table, key: one.key)
        case .vmNamed(let wire)?: self = .vmNamed(tenant: wire.tenant, name: wire.name)
        case .groupNamed(let wire)?: self = .groupNamed(tenant: wire.tenant, name: wire.name)
        case .hostNamed(let name)?: self = .hostNamed(name)
        case .vmsOfTenant(let wire)?:
            self = .vmsOfTenant(wire.tenant, after: wire.after.map { VMID($0) }, limit: Int(wire.limit))
        case .vmsOnHost(let wire)?:
            self = .vmsOnHost(HostID(wire.host), after: wire.after.map { VMID($0) }, limit: Int(wire.limit))
        case .vmsMarked(let wire)?:
            let mark: CellMark
            if let label = wire.label {
                mark = .label(label.key, label.value)
            } else if !wire.group.isEmpty {
                mark = .group(wire.group)
            } else {
                guard let phase = CellVM.Phase(rawValue: wire.phase.rawValue) else { return nil }
                mark = .phase(phase)
            }
            self = .vmsMarked(mark, after: wire.after.map { VMID($0) }, limit: Int(wire.limit))
        case .waitingVMs(let limit)?: self = .waitingVMs(limit: Int(limit))
        case .hostWork(let wire)?:
            self = .hostWork(HostID(wire.host), since: LogIndex(wire.since), takesChanges: wire.takesChanges)
        case .changes(let changes)?: self = .changes(since: LogIndex(changes.since), limit: Int(changes.limit))
        case .rows(let page)?: self = .rows(after: page.after, limit: Int(page.limit))
        case .events(let wire)?:
            self = .events(
                after: Revision(wire.after), vm: wire.vm.map { VMID($0) }, host: wire.host.map { HostID($0) },
                limit: Int(wire.limit))
        case .rehearsal(let wire)?: self = .rehearsal(wire.commands, cell: wire.cell, level: wire.level)
        case .repetition(let command)?: self = .repetition(command)
        case nil: return nil
        }
    }

    var wire: WireCellQuery {
        typealias Wire = WireCellQuery
        return switch self {
        case .list(let table, let after, let limit):
            Wire(
                query: .list(
                    Wire.List(
                        table: WireCellTable(rawValue: Int32(table.rawValue)), after: after,
                        limit: UInt32(clamping: limit))))
        case .one(let table, let key):
            Wire(query: .one(Wire.One(table: WireCellTable(rawValue: Int32(table.rawValue)), key: key)))
        case .vmNamed(let tenant, let name): Wire(query: .vmNamed(Wire.NameOf(tenant: tenant, name: name)))
        case .groupNamed(let tenant, let name): Wire(query: .groupNamed(Wire.NameOf(tenant: tenant, name: name)))
        case .hostNamed(let name): Wire(query: .hostNamed(name))
        case .vmsOfTenant(let tenant, let after, let limit):
            Wire(
                query: .vmsOfTenant(
                    Wire.Vms(tenant: tenant, after: after?.rawValue, limit: UInt32(clamping: limit))))
        case .vmsOnHost(let host, let after, let limit):
            Wire(
                query: .vmsOnHost(
                    Wire.Vms(host: host.rawValue, after: after?.rawValue, limit: UInt32(clamping: limit))))
        case .vmsMarked(let mark, let after, let limit):
            Wire(query: .vmsMarked(Wire.VmsMarked(mark, after: after?.rawValue, limit: UInt32(clamping: limit))))
        case .waitingVMs(let limit): Wire(query: .waitingVMs(UInt32(clamping: limit)))
        case .hostWork(let host, let since, let takesChanges):
            Wire(
                query: .hostWork(
                    Wire.HostWork(host: host.rawValue, since: since.rawValue, takesChanges: takesChanges)))
        case .changes(let since, let limit):
            Wire(query: .changes(Wire.Changes(since: since.rawValue, limit: UInt32(clamping: limit))))
        case .rows(let after, let limit):
            Wire(query: .rows(Wire.Page(after: after, limit: UInt32(clamping: limit))))
        case .events(let after, let vm, let host, let limit):
            Wire(
                query: .events(
                    Wire.Events(
                        after: after.rawValue, vm: vm?.rawValue, host: host?.rawValue, limit: UInt32(clamping: limit))))
        case .rehearsal(let commands, let cell, let level):
            Wire(query: .rehearsal(Wire.Rehearsal(commands: commands, cell: cell, level: level)))
        case .repetition(let command): Wire(query: .repetition(command))
        }
    }
}

extension WireCellQuery.VmsMarked {
    fileprivate init(_ mark: CellMark, after: UInt64?, limit: UInt32) {
        switch mark {
        case .phase(let phase):
            self.init(phase: WireVmPhase(rawValue: phase.rawValue), after: after, limit: limit)
        case .group(let name): self.init(group: name, after: after, limit: limit)
        case .label(let key, let value):
            self.init(label: WireNamed(key: key, value: value), after: after, limit: limit)
        }
    }
}

extension CellRow {
    init(_ wire: WireCellRow) { self.init(key: wire.key, value: wire.value) }
    var wire: WireCellRow { WireCellRow(key: key, value: value) }
}

extension CellAnswer: CellCoded, CellMapped {
    init?(_ wire: WireCellAnswer) {
        let body: Body
        switch wire.body {
        case .rows(let rows)?: body = .rows(rows.rows.map { CellRow($0) }, resumeAfter: rows.resumeAfter)
        case .work(let work)?:
            guard let vms = CellVM.all(work.vms) else { return nil }
            let index = LogIndex(work.workIndex)
            if work.isChanges {
                guard !work.isWhole else { return nil }
                var last: UInt64 = 0
                let ids = work.ids.map { difference in
                    last &+= difference
                    return VMID(last)
                }
                let changes = WorkChanges(vms: vms, ids: ids, digest: work.digest)
                body = .workChanges(changes, workIndex: index, lease: work.lease)
            } else {
                body = .work(work.isWhole ? vms : nil, workIndex: index, lease: work.lease)
            }
        case .changes(let changes)?:
            body = .changes(changes.rows.map { CellRow($0) }, through: LogIndex(changes.through))
        case .compacted(let index)?: body = .compacted(LogIndex(index))
        case .events(let wire)?:
            body = .events(wire.events.map { CellEvent($0) }, resumeAfter: wire.resumeAfter.map { Revision($0) })
        case .refused(let wire)?:
            guard let refusal = CellRefusal(wire) else { return nil }
            body = .refused(refusal)
        case nil: return nil
        }
        self.init(index: LogIndex(wire.index), time: LogTime(wire.time), body: body)
        leaseBase = wire.leaseBase
        wentTo = wire.wentTo
        reserve = wire.reserve.flatMap { ReserveStanding($0) }
    }

    var wire: WireCellAnswer {
        typealias Wire = WireCellAnswer
        let body: Wire.Body =
            switch self.body {
            case .rows(let rows, let resumeAfter):
                .rows(Wire.Rows(rows: rows.map(\.wire), resumeAfter: resumeAfter))
            case .work(let vms, let index, let lease):
                .work(
                    Wire.Work(
                        isWhole: vms != nil, vms: (vms ?? []).map(\.wire), workIndex: index.rawValue, lease: lease))
            case .workChanges(let changes, let index, let lease): .work(changes.wire(index, lease))
            case .changes(let rows, let through):
                .changes(Wire.Changes(rows: rows.map(\.wire), through: through.rawValue))
            case .compacted(let index): .compacted(index.rawValue)
            case .events(let events, let resumeAfter):
                .events(Wire.Events(events: events.map(\.wire), resumeAfter: resumeAfter?.rawValue))
            case .refused(let refusal): .refused(refusal.wire)
            }
        return Wire(
            index: index.rawValue, time: time.rawValue, body: body, leaseBase: leaseBase, wentTo: wentTo,
            reserve: reserve?.wire)
    }
}

extension WorkChanges {
    fileprivate func wire(_ index: LogIndex, _ lease: UInt64) -> WireCellAnswer.Work {
        var last: UInt64 = 0
        let differences = ids.map { id in
            defer { last = id.rawValue }
            return id.rawValue &- last
        }
        return WireCellAnswer.Work(
            isWhole: false, vms: vms.map(\.wire), workIndex: index.rawValue, lease: lease, isChanges: true,
            ids: differences, digest: digest)
    }
}
