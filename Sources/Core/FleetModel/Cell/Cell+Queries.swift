internal import BinaryCoding
package import ClusterBase
internal import Schema

extension Cell {
    /// Answers from the state as it stands. Throws only when the state can't be read.
    package static func read(_ query: CellQuery, _ access: some OrderedReader) throws(StoreError) -> CellAnswer {
        let summary = try CellSummary.read(access)
        var answer = CellAnswer(index: summary.applied, time: summary.time, body: try body(of: query, summary, access))
        switch query {
        case .changes, .rows:
            if let count = summary.reserve { answer.reserve = try access.reserveStanding(count) }
        default: break
        }
        if case .hostWork(let id, _, _) = query,
            let host = try access.record(CellHost.self, CellTable.hosts.key(id.rawValue))
        {
            answer.leaseBase = host.leaseBase
            answer.wentTo = host.health == .removed ? host.wentTo : 0
        }
        return answer
    }

    private static func body(
        of query: CellQuery, _ summary: CellSummary, _ access: some OrderedReader
    ) throws(StoreError) -> CellAnswer.Body {
        switch query {
        case .list(let table, let after, let limit):
            let last = after.map { table.key($0) }
            return try page(.prefix([table.kind]), after: last, bounded(limit), 1, access)
        case .one(let table, let key): return try rows([table.key(key)], access)
        case .vmNamed(let tenant, let name):
            guard let id = try access.number(CellKey.vmName(tenant, name)) else { return .rows([], resumeAfter: nil) }
            // Of a VM that is gone there is the tombstone.
            return try rows([CellTable.vms.key(id), CellTable.tombstones.key(id)], access)
        case .groupNamed(let tenant, let name):
            guard let id = try access.number(CellKey.groupName(tenant, name)) else {
                return .rows([], resumeAfter: nil)
            }
            return try rows([CellTable.groups.key(id)], access)
        case .hostNamed(let name):
            guard let id = try access.number(CellKey.hostName(name)) else { return .rows([], resumeAfter: nil) }
            return try rows([CellTable.hosts.key(id)], access)
        case .vmsOfTenant(let tenant, let after, let limit):
            return try vms(CellKey.tenantVMs(tenant), after, bounded(limit), access)
        case .vmsOnHost(let host, let after, let limit):
            return try vms(CellKey.hostVMs(host), after, bounded(limit), access)
        case .vmsMarked(let mark, let after, let limit):
            if summary.areAllMarked { return try vms(CellKey.marked(mark), after, bounded(limit), access) }
            let last = after.map { CellTable.vms.key($0.rawValue) }
            return try page(.prefix([CellTable.vms.kind]), after: last, bounded(limit), 1, access)
        case .waitingVMs(let limit): return try vms([CellKey.Kind.waiting], nil, bounded(limit), access)
        case .hostWork(let host, let since, let takesChanges):
            return try work(host, since, takesChanges, access)
        case .changes(let since, let limit): return try changes(since, bounded(limit), summary, access)
        case .rows(let after, let limit):
            let all = KeyRange(from: [CellTable.hosts.kind], to: [CellTable.settings.kind + 1])
            return try page(all, after: after, bounded(limit), 0, access)
        case .events(let after, let vm, let host, let limit):
            // Who goes on from somewhere is told what it missed; who begins takes what there is.
            let gone = summary.eventsThrough
            if let vm {
                let entries = try entries(of: vm, access)
                // The row names the last ones: what came between them and that place is looked for among all.
                let isWhole =
                    entries.count < CellLimits.eventsPerVMMax || (entries.first.map { $0 <= after.index } ?? true)
                if after == .zero || isWhole {
                    if after > .zero && entries.contains(where: { $0 > after.index && $0 <= gone }) {
                        return .compacted(gone)
                    }
                    return try events(of: vm, entries, after, bounded(limit), access)
                }
            }
            if gone > .zero && after > .zero && after < .end(of: gone) { return .compacted(gone) }
            return try events(after, vm, host, bounded(limit), access)
        case .rehearsal(let commands, let cell, let level):
            return try rehearse(commands, cell: cell, level: level, after: summary.applied, access)
        case .repetition(let command): return try repetition(of: command, access)
        }
    }

    private static func bounded(_ limit: Int) -> Int {
        limit <= 0 ? CellLimits.answerCountMax : min(limit, CellLimits.answerCountMax)
    }

    private static func rows(_ keys: [[UInt8]], _ access: some OrderedReader) throws(StoreError) -> CellAnswer.Body {
        var rows: [CellRow] = []
        for key in keys {
            if let value = try access.value(for: key) { rows.append(CellRow(key: key, value: value)) }
        }
        return .rows(rows, resumeAfter: nil)
    }

    /// `skipped` bytes of a key are left out where the list says where it goes on.
    private static func page(
        _ range: KeyRange, after: [UInt8]?, _ limit: Int, _ skipped: Int, _ access: some OrderedReader
    ) throws(StoreError) -> CellAnswer.Body {
        var range = range
        if let after, range.from.precedes(after + [0]) { range.from = after + [0] }
        var rows: [CellRow] = []
        var bytes = 0
        var hasMore = false
        try access.scan(range) { key, value in
            if rows.count == limit || (!rows.isEmpty && bytes + key.count + value.count > CellLimits.answerBytesMax) {
                hasMore = true
                return false
            }
            bytes += key.count + value.count
            rows.append(CellRow(key: key, value: value))
            return true
        }
        return .rows(rows, resumeAfter: hasMore ? rows.last.map { Array($0.key.dropFirst(skipped)) } : nil)
    }

    /// The VMs that an index names, in its order.
    private static func vms(
        _ prefix: [UInt8], _ after: VMID?, _ limit: Int, _ access: some OrderedReader
    ) throws(StoreError) -> CellAnswer.Body {
        let ids = try access.ids(prefix, after: after?.rawValue, limit: limit + 1)
        var rows: [CellRow] = []
        var bytes = 0
        for id in ids {
            let key = CellTable.vms.key(id)
            guard let value = try access.value(for: key) else { throw CellKey.corrupt(key) }
            let isFull = rows.count == limit || (!rows.isEmpty && bytes + value.count > CellLimits.answerBytesMax)
            if isFull { return .rows(rows, resumeAfter: rows.last.map { Array($0.key.dropFirst()) }) }
            bytes += value.count
            rows.append(CellRow(key: key, value: value))
        }
        return .rows(rows, resumeAfter: nil)
    }

    private static func work(
        _ id: HostID, _ since: LogIndex, _ takesChanges: Bool, _ access: some OrderedReader
    ) throws(StoreError) -> CellAnswer.Body {
        let host = try access.record(CellHost.self, CellTable.hosts.key(id.rawValue))
        guard let host, host.health == .up else { return .work([], workIndex: host?.workIndex ?? .zero, lease: 0) }
        let setting = CellSetting.leaseLength
        let lease = try access.record(CellSettingValue.self, CellTable.settings.key(UInt64(setting.rawValue)))
        let length = lease?.value ?? setting.standard
        if since == host.workIndex { return .work(nil, workIndex: host.workIndex, lease: length) }
        if takesChanges, since > .zero, since < host.workIndex {
            let changes = try workChanges(id, since, access)
            // Where all changed, all is the shorter answer.
            if changes.vms.count == changes.ids.count {
                return .work(changes.vms, workIndex: host.workIndex, lease: length)
            }
            return .workChanges(changes, workIndex: host.workIndex, lease: length)
        }
        var vms: [CellVM] = []
        for vm in try access.ids(CellKey.hostVMs(id)) {
            let record = try row(vm, access)
            // One that is still another cell's, and comes cold, is nothing to do.
            if record.isWork { vms.append(record) }
        }
        return .work(vms, workIndex: host.workIndex, lease: length)
    }

    private static func row(_ vm: UInt64, _ access: some OrderedReader) throws(StoreError) -> CellVM {
        let key = CellTable.vms.key(vm)
        guard let record = try access.record(CellVM.self, key) else { throw CellKey.corrupt(key) }
        return record
    }

    /// Reads the rows that changed, and of the others only what the index of the host's VMs says of them.
    private static func workChanges(
        _ host: HostID, _ since: LogIndex, _ access: some OrderedReader
    ) throws(StoreError) -> WorkChanges {
        var all: [(vm: UInt64, revision: UInt64?)] = []
        var bad: [UInt8]?
        try access.scan(.prefix(CellKey.hostVMs(host))) { key, value in
            guard let vm = key.bigEndian64(at: key.count - 8), value.isEmpty || value.count == 9 else {
                bad = key
                return false
            }
            all.append((vm, value.first == 0 ? value.bigEndian64(at: 1) : nil))
            return true
        }
        if let bad { throw CellKey.corrupt(bad) }
        var changes = WorkChanges(vms: [], ids: [], digest: 0)
        changes.ids.reserveCapacity(all.count)
        for (vm, noted) in all {
            var revision = noted.map { Revision($0) } ?? .zero
            if noted == nil || revision.index > since {
                // What an older program wrote says nothing of the row, and one that comes from another cell nothing of its end.
                let record = try row(vm, access)
                if !record.isWork { continue }
                revision = record.revision
                if revision.index > since { changes.vms.append(record) }
            }
            changes.ids.append(VMID(vm))
            changes.digest &+= WorkChanges.digest(VMID(vm), revision)
        }
        return changes
    }

    // MARK: Changes

    /// Whole entries, at least one if there is any; each row once, as it is now, which may be after a later entry.
    private static func changes(
        _ since: LogIndex, _ limit: Int, _ summary: CellSummary, _ access: some OrderedReader
    ) throws(StoreError) -> CellAnswer.Body {
        if since < summary.compactedThrough { return .compacted(summary.compactedThrough) }
        if since > summary.applied { return .changes([], through: summary.applied) }
        var keys: [[UInt8]] = []
        var through = summary.applied
        var bad: [UInt8]?
        let range = KeyRange(from: CellKey.history(since.next), to: successor(ofPrefix: [CellKey.Kind.history]))
        var last = since
        try access.scan(range) { key, value in
            // The key says which record it is; how it is malformed helps nobody.
            guard let index = key.bigEndian64(at: 1), let history = try? WireCellHistory(serialized: value) else {
                bad = key
                return false
            }
            if !keys.isEmpty && keys.count + Int(history.changeCount) > limit {
                through = last
                return false
            }
            keys += history.keys
            last = LogIndex(index)
            return true
        }
        if let bad { throw CellKey.corrupt(bad) }
        keys.sort { $0.precedes($1) }
        var found: [CellRow] = []
        for (i, key) in keys.enumerated() where i == 0 || key != keys[i - 1] {
            found.append(CellRow(key: key, value: try access.value(for: key)))
        }
        return .changes(found, through: through)
    }

    // MARK: Events

    private static func events(
        _ after: Revision, _ vm: VMID?, _ host: HostID?, _ limit: Int, _ access: some OrderedReader
    ) throws(StoreError) -> CellAnswer.Body {
        var found: [CellEvent] = []
        var resume: Revision?
        var bytes = 0
        var scanned = 0
        var bad: [UInt8]?
        var last = after
        let range = KeyRange(from: CellKey.events(after.index), to: successor(ofPrefix: [CellKey.Kind.events]))
        try access.scan(range) { key, value in
            // The key says which record it is; how it is malformed helps nobody.
            guard let index = key.bigEndian64(at: 1), let row = try? WireCellEvents(serialized: value) else {
                bad = key
                return false
            }
            let events = row.events.map { CellEvent($0) }.filter {
                $0.revision > after && (host == nil || $0.hostID == host) && (vm == nil || $0.vmID == vm)
            }
            let isFull = found.count + events.count > limit || bytes + value.count > CellLimits.answerBytesMax
            if scanned >= CellLimits.eventsScannedMax || (!found.isEmpty && isFull) {
                resume = last
                return false
            }
            found += events
            bytes += events.isEmpty ? 0 : value.count
            scanned += 1
            last = Revision(index: LogIndex(index), slot: 255)
            return true
        }
        if let bad { throw CellKey.corrupt(bad) }
        return .events(found, resumeAfter: resume)
    }

    /// Those that the VM's row or its tombstone names, the last ones, ascending.
    private static func entries(of id: VMID, _ access: some OrderedReader) throws(StoreError) -> [LogIndex] {
        if let vm = try access.record(CellVM.self, CellTable.vms.key(id.rawValue)) { return vm.events }
        return try access.record(CellTombstone.self, CellTable.tombstones.key(id.rawValue))?.events ?? []
    }

    private static func events(
        of id: VMID, _ entries: [LogIndex], _ after: Revision, _ limit: Int, _ access: some OrderedReader
    ) throws(StoreError) -> CellAnswer.Body {
        var found: [CellEvent] = []
        for index in entries where index >= after.index {
            let key = CellKey.events(index)
            // The oldest ones may be gone.
            guard let value = try access.value(for: key) else { continue }
            // As above.
            guard let row = try? WireCellEvents(serialized: value) else { throw CellKey.corrupt(key) }
            let events = row.events.filter { $0.vmID == id.rawValue && Revision($0.revision) > after }
            if !found.isEmpty && found.count + events.count > limit {
                return .events(found, resumeAfter: found.last?.revision)
            }
            found += events.map { CellEvent($0) }
        }
        return .events(found, resumeAfter: nil)
    }
}

extension WireCellHistory {
    fileprivate var keys: [[UInt8]] {
        hosts.map { CellTable.hosts.key($0) } + vms.map { CellTable.vms.key($0) }
            + groups.map { CellTable.groups.key($0) } + slices.map { CellTable.slices.key($0) }
            + settings.map { CellTable.settings.key(UInt64($0)) }
    }
}
