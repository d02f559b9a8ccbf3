internal import BinaryCoding
import ClusterBase
internal import Schema

/// What somebody asked of the root, and what came of it.
package struct RootEvent: Hashable, Sendable {
    package var revision: Revision
    package var time: LogTime
    package var kind: String
    /// Of whose it is, or empty.
    package var tenant: String
    /// The name of the node that it is about, or empty.
    package var node: String
    package var by: String
    package var text: String

    /// What a join token is listed as: a part of its secret's hash that tells one from another, and nothing more.
    package static func tokenName(_ hash: [UInt8]) -> String {
        hash.prefix(6).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// As the audit of a cell shows what was asked of it.
    package var shown: CellEvent {
        var event = CellEvent(
            revision: revision, time: time, kind: kind, tenant: tenant, host: node, by: by, text: text)
        event.isAudit = true
        return event
    }
}

extension RootEvent: RootRecord, RootMapped {
    package static var table: RootTable { .events }
    package var rowKey: [UInt8] { Self.table.key(revision.rawValue) }

    init?(_ wire: WireRootEvent) {
        self.init(
            revision: Revision(wire.revision), time: LogTime(wire.time), kind: wire.kind, tenant: wire.tenant,
            node: wire.node, by: wire.by, text: wire.text)
    }
    var wire: WireRootEvent {
        WireRootEvent(
            revision: revision.rawValue, time: time.rawValue, kind: kind, tenant: tenant, node: node, by: by, text: text
        )
    }
}

extension RootStep {
    /// Carries a command out, and writes down what people asked for and what came of it.
    mutating func noted(_ operation: RootCommand.Operation) throws(StoreError) -> RootResult.Outcome {
        // A node that goes has a name until then.
        let node = level >= FeatureLevel.rootAudit ? try name(of: operation.node) : ""
        remark = nil
        let outcome = try execute(operation)
        guard level >= FeatureLevel.rootAudit else { return outcome }
        guard let note = operation.note ?? remark else {
            if operation.isClock { try dropOldEvents() }
            return outcome
        }
        var event = RootEvent(
            revision: revision, time: time, kind: note.kind, tenant: operation.tenant, node: node, by: by,
            text: note.text)
        if case .refused(let refusal) = outcome { (event.kind, event.text) = ("refused", "\(note.text): \(refusal)") }
        access.put(event.rowKey, event.encoded())
        summary.events += 1
        try dropOldEvents()
        return outcome
    }

    private func name(of node: NodeID?) throws(StoreError) -> String {
        guard let node else { return "" }
        return try self.node(node)?.about.name ?? ""
    }

    /// Those beyond the bound, and those that are older than the setting says.
    private mutating func dropOldEvents() throws(StoreError) {
        guard summary.events > 0 else { return }
        let lifetime = settings[.auditLifetime]
        var left = summary.events
        var old: [[UInt8]] = []
        var bad: [UInt8]?
        try access.scan(.prefix([RootTable.events.kind])) { key, value in
            guard let event = RootEvent.decode(value) else {
                bad = key
                return false
            }
            guard left > RootLimits.eventsMax || event.time.advanced(by: lifetime) <= time else { return false }
            left -= 1
            old.append(key)
            return old.count < RootLimits.eventsDroppedMax
        }
        if let bad { throw RootKey.corrupt(bad) }
        for key in old {
            access.delete(key)
            summary.events -= 1
            if let number = key.bigEndian64(at: 1) { summary.eventsThrough = Revision(number) }
        }
    }
}

extension RootCommand.Operation {
    /// It comes again and again, whether anybody asks for something or not.
    fileprivate var isClock: Bool {
        switch self {
        case .noteTime, .reportCell, .reportLatencies: true
        default: false
        }
    }

    fileprivate var node: NodeID? {
        switch self {
        case .arrangeNode(let node, _, _), .removeNode(let node, _), .moveHost(let node, _, _, _, _, _): node
        default: nil
        }
    }

    fileprivate var tenant: String {
        switch self {
        case .createTenant(let name, _, _), .setTenant(let name, _, _), .deleteTenant(let name): name
        case .addImage(let image): image.tenant
        case .removeImage(let tenant, _, _, _): tenant
        default: ""
        }
    }

    /// What is written down of what people ask for; nil of what nodes and controllers do by themselves, and of what a
    /// person's command has them do after it. Never a secret, nor its hash.
    var note: (kind: String, text: String)? {
        func quota(_ quota: Quota, _ tier: String) -> String {
            func part(_ name: String, _ amount: Int64?) -> String { amount.map { ", \(name) \($0)" } ?? "" }
            return (tier.isEmpty ? "" : ", tier \(tier)")
                + part("VMs", quota.vmCount.map { Int64(clamping: $0) }) + part("cpu", quota.cpuMillis)
                + part("memory", quota.memoryMiB) + part("disk", quota.diskMiB)
                + part("priority at most", quota.priorityMax == 0 ? nil : Int64(quota.priorityMax))
                + (quota.rto == .auto ? "" : ", VMs down at most \(quota.rto.text)")
        }
        switch self {
        case .found: return nil
        case .createToken(let hash, let note, _, let uses):
            return (
                "token.created",
                "make the join token \(RootEvent.tokenName(hash))\(uses > 0 ? " for \(uses) uses" : "")\(note.isEmpty ? "" : ": \(note)")"
            )
        case .revokeToken(let hash):
            return ("token.revoked", "revoke the join token \(RootEvent.tokenName(hash))")
        case .joinNode(_, let about): return ("node.joined", "join as \(about.name)")
        case .arrangeNode(_, let voting, let isDraining):
            return ("node.arranged", "let it vote: \(voting)\(isDraining ? ", and drain it" : "")")
        case .removeNode(_, let isForced): return ("node.removed", isForced ? "remove it by force" : "remove it")
        case .trustAuthority: return ("authority.trusted", "trust a new authority")
        case .signWithAuthority: return ("authority.signs", "let the new authority sign")
        case .distrustAuthority: return ("authority.distrusted", "trust an authority no more")
        case .createSpace(let name, _): return ("space.created", "make the space \(name)")
        case .deleteSpace(let name, _): return ("space.deleted", "delete the space \(name)")
        case .changeSetting(let setting, let value): return ("setting.changed", "set \(setting.name) to \(value)")
        case .addOperator(let added):
            return (
                "operator.added",
                "let \(added.name) in as \(added.role)\(added.scope.isEmpty ? "" : " of \(added.scope)")"
            )
        case .removeOperator(let name): return ("operator.removed", "let \(name) in no more")
        case .finalizeLevel(let level): return ("level.opened", "open feature level \(level)")
        case .setBackup(let schedule): return ("backup.scheduled", "make backups by the schedule \(schedule.name)")
        case .removeBackup(let name): return ("backup.unscheduled", "remove the schedule \(name)")
        case .recordRecovery(let record):
            return (
                "group.recovered",
                "recover \(record.group == .root ? "the root group" : "group \(record.group)") by force, what came after entry "
                    + "\(record.possibleLossAfter) may be lost: \(record.reason)"
            )
        case .createCell(let name, _, _, _): return ("cell.created", "make the cell \(name)")
        case .retireCell(let name): return ("cell.retired", "retire the cell \(name)")
        case .createTenant(let name, let bounds, let tier):
            return ("tenant.created", "make the tenant \(name)" + quota(bounds, tier))
        case .setTenant(let name, let bounds, let tier):
            return ("tenant.set", "set the tenant \(name)" + quota(bounds, tier))
        case .deleteTenant(let name): return ("tenant.deleted", "delete the tenant \(name)")
        case .moveHost(_, let cell, _, .begin, _, _): return ("host.assigned", "move the host to cell \(cell)")
        case .moveHost(_, _, _, .cancel, _, let reason):
            return ("host.stays", "call off the host's move" + (reason.isEmpty ? "" : ": \(reason)"))
        case .planHosts(let cell, let wish): return ("cell.plan", wish.text(cell))
        case .rotateSealingKey(.begin, _): return ("sealing-key.rotated", "take another key for secret fields")
        case .markDomain(let name, _, let before):
            return (
                "domain.marked",
                before.isEmpty ? "begin the storage domain \(name)" : "mark the storage domain \(name) anew"
            )
        case .noteForbidden(let action, let omitted):
            return (
                "forbidden",
                action + (omitted == 0 ? "" : "; \(omitted) refusals before it were not noted one by one")
            )
        case .declareRegion(let name, true, _, false):
            return ("region.lost", "declare the region \(name) lost")
        case .declareRegion(let name, true, _, true):
            return ("region.lost", "none of the nodes of region \(name) is heard, and the others are: it is lost")
        case .declareRegion(let name, false, _, false): return ("region.back", "the region \(name) is back")
        case .declareRegion(let name, false, _, true):
            return ("region.back", "most nodes of region \(name) are heard again: it is back")
        case .planRegion(let name, let step, let returns, _):
            return ("region.plan", step.text(name) + (returns.map { "; back go: \($0.text)" } ?? ""))
        case .setLatency(let a, let b, let micros):
            let what = micros == 0 ? "what is measured" : "\(Nanoseconds.microseconds(Int64(clamping: micros)))"
            return ("region.latency", "take the round trip between the regions \(a) and \(b) for \(what)")
        case .addImage(let image): return ("image.added", "add the image \(image.name)")
        case .removeImage(_, let name, .begin, _): return ("image.leaving", "remove the image \(name)")
        case .removeImage(_, let name, .finish, _): return ("image.removed", "the image \(name) goes")
        case .removeImage(_, let name, .cancel, _): return ("image.stays", "the image \(name) stays")
        case .reportNode, .certifyNode, .foundGroup, .changePlacement, .reportReplicas, .reportGroup, .noteBackup,
            .noteTime, .moveHost(_, _, _, .finish, _, _), .noteHosts, .reportCell, .nameSealingKey, .rotateSealingKey,
            .holdImage, .reportLatencies:
            return nil
        }
    }
}
