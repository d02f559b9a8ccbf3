internal import BinaryCoding
import ClusterBase
internal import Schema

// What happened, for people and for the audit. One row per entry holds all its events.

extension CellStep {
    /// Adds an event about a VM, and names it in the VM's row, which the caller writes.
    mutating func note(_ kind: String, _ vm: inout CellVM, host: HostID? = nil, _ text: String = "") throws(StoreError)
    {
        if vm.events.last != index {
            if vm.events.count >= CellLimits.eventsPerVMMax { vm.events.removeFirst() }
            vm.events.append(index)
        }
        var hostName = ""
        if let host { hostName = try self.host(host)?.about.name ?? "" }
        events.append(
            WireCellEvent(
                revision: revision.rawValue, time: time.rawValue, kind: kind, tenant: vm.tenant, vm: vm.name,
                host: hostName, by: by, text: text, isAudit: isAudit, vmID: vm.id.rawValue, hostID: host?.rawValue ?? 0)
        )
    }

    mutating func note(_ kind: String, _ host: CellHost, _ text: String = "") {
        events.append(
            WireCellEvent(
                revision: revision.rawValue, time: time.rawValue, kind: kind, host: host.about.name, by: by, text: text,
                isAudit: isAudit, hostID: host.id.rawValue))
    }

    mutating func note(_ kind: String, tenant: String = "", _ text: String) {
        events.append(
            WireCellEvent(
                revision: revision.rawValue, time: time.rawValue, kind: kind, tenant: tenant, by: by, text: text,
                isAudit: isAudit))
    }

    /// For people: nothing is done about it.
    mutating func noteAdvice(_ text: String) -> CellResult.Outcome {
        if text.isEmpty || !CellCheck.isText(text, CellLimits.annotationBytesMax) {
            return .refused(.invalid(field: "text", "1 to \(CellLimits.annotationBytesMax) bytes"))
        }
        note("cell.rebalance-advice", text)
        return .done
    }

    /// For people: nothing is done about it.
    mutating func noteRisk(_ kind: CellRisk.Kind, isOver: Bool, _ text: String) -> CellResult.Outcome {
        if text.isEmpty || !CellCheck.isText(text, CellRisk.textBytesMax) {
            return .refused(.invalid(field: "text", "1 to \(CellRisk.textBytesMax) bytes"))
        }
        note("cell.\(kind.name)-\(isOver ? "kept" : "at-risk")", text)
        return .done
    }

    /// One event for a command that somebody asked for and that was refused, as a whole or in part.
    mutating func noteRefusal(
        of operation: CellCommand.Operation, _ outcome: CellResult.Outcome
    ) throws(StoreError) {
        switch outcome {
        case .done, .kept: return
        case .refused(let refusal):
            note("refused", tenant: operation.tenant, "\(operation.name): \(try words(refusal))")
        case .items(let items):
            var count = 0
            var first: CellRefusal?
            for case .refused(let refusal) in items {
                count += 1
                if first == nil || first == .anotherItem { first = refusal }
            }
            guard let first else { return }
            note(
                "refused", tenant: operation.tenant,
                "\(operation.name): \(count) of \(items.count), \(try words(first))")
        }
    }

    /// With names instead of numbers, as they are now; before feature level 3 with numbers.
    private mutating func words(_ refusal: CellRefusal) throws(StoreError) -> String {
        if level < FeatureLevel.linkBudgets { return "\(refusal)" }
        // A refusal has one number at most: a host's, a VM's, or another one, which is called by nobody.
        let number = refusal.stored.number
        let hostName = try host(HostID(number))?.about.name
        let vmName = try vm(VMID(number))?.name
        return refusal.sentence(host: { hostName ?? "\($0)" }, vm: { vmName ?? "\($0)" })
    }

    /// Entries whose events are all older than the setting says, some at a time.
    mutating func dropOldEvents() throws(StoreError) {
        let lifetime = try setting(.eventLifetime)
        guard summary.events > 0, time.rawValue >= lifetime else { return }
        let end = LogTime(time.rawValue - lifetime)
        var gone: [[UInt8]] = []
        var left = summary
        var bad: [UInt8]?
        try access.scan(.prefix([CellKey.Kind.events])) { key, value in
            // The key says which record it is; how it is malformed helps nobody.
            guard let index = key.bigEndian64(at: 1), let old = try? WireCellEvents(serialized: value) else {
                bad = key
                return false
            }
            guard old.events.allSatisfy({ LogTime($0.time) <= end }) else { return false }
            gone.append(key)
            left.events -= min(left.events, UInt64(old.events.count))
            left.eventBytes -= min(left.eventBytes, UInt64(value.count))
            left.eventsThrough = LogIndex(index)
            return gone.count < CellLimits.garbageMax
        }
        if let bad { throw CellKey.corrupt(bad) }
        for key in gone { access.delete(key) }
        summary = left
    }

    mutating func writeEvents() throws(StoreError) {
        if events.isEmpty { return }
        let value = WireCellEvents(events: events).serialized()
        access.put(CellKey.events(index), value)
        summary.events += UInt64(events.count)
        summary.eventBytes += UInt64(value.count)
        if !summary.eventsAreTooMany { return }
        var gone: [[UInt8]] = []
        var left = summary
        var bad: [UInt8]?
        try access.scan(.prefix([CellKey.Kind.events])) { key, value in
            guard left.eventsAreTooMany, let index = key.bigEndian64(at: 1), index != self.index.rawValue else {
                return false
            }
            // The key says which record it is; how it is malformed helps nobody.
            guard let old = try? WireCellEvents(serialized: value) else {
                bad = key
                return false
            }
            gone.append(key)
            left.events -= min(left.events, UInt64(old.events.count))
            left.eventBytes -= min(left.eventBytes, UInt64(value.count))
            left.eventsThrough = LogIndex(index)
            return true
        }
        if let bad { throw CellKey.corrupt(bad) }
        for key in gone { access.delete(key) }
        summary = left
    }
}

extension CellCommand.Operation {
    /// For the audit.
    var name: String {
        switch self {
        case .setHostDuty: "set a host's duty"
        case .setHostPolicy: "set a host's policy"
        case .careForHost(_, let care): care.name
        case .removeHost: "remove a host"
        case .createVMs: "create VMs"
        case .updateVM: "update a VM"
        case .setPower: "start, stop or pause a VM"
        case .restartVM: "restart a VM"
        case .deleteVM: "delete a VM"
        case .putGroup: "set a group"
        case .deleteGroup: "delete a group"
        case .setSetting: "change a setting"
        case .releaseVMs: "release VMs"
        case .beginMigration: "move a VM"
        case .cancelMigration: "cancel a move"
        case .releaseHost: "let a host go to another cell"
        case .sendHost: "let a host go to another cell with its VMs"
        case .closeCell: "close the cell"
        case .moveVM: "move a VM to another cell"
        case .advanceMove: "call off a VM's way to another cell"
        default: "change the cell"
        }
    }

    fileprivate var tenant: String {
        switch self {
        case .createVMs(let items, _): items.first?.tenant ?? ""
        case .putGroup(let group): group.tenant
        case .deleteGroup(let tenant, _): tenant
        default: ""
        }
    }
}
