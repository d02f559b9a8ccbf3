internal import BinaryCoding
package import ClusterBase
internal import Schema

/// The replicated state machine of the root group: who belongs to the cluster, who may join and administrate, which
/// certificates count, which spaces there are and where every group's replicas are to be.
///
///     pack at index ──▶ time goes on ──▶ command in slot 0, 1, … ──▶ came before: known result? ──(yes)──▶ that result
///                                                                        │ no
///                                                                        ▼
///                                                     judge against the state at this index ──▶ refused, nothing changed
///                                                                        │ allowed
///                                                                        ▼
///                       rows change ──▶ one history record per entry, for those who follow the root; the oldest go
///
/// Everything follows from the state and the log alone, so all replicas agree; the only time is the one in the log.
package enum Root {
    /// Applies one entry's pack and returns one result per command, in order; a pack that can't be read has one, a refusal.
    ///
    /// Throws when the state can't be read, and for a pack of a level above what the program `knows`; then nothing of the
    /// pack may become durable.
    package static func apply<Access: StateAccess>(
        pack: [UInt8], index: LogIndex, knows: UInt32 = FeatureLevel.newest, access: inout Access
    ) throws(StoreError) -> [RootResult] {
        var step = try RootStep(index, access)
        var results: [RootResult] = []
        switch try unpack(pack, knows: knows) {
        case .failure(let refusal):
            results.append(RootResult(revision: Revision(index: index, slot: 0), outcome: .refused(refusal)))
        case .success(let (level, commands, time)):
            step.level = level
            step.advance(to: time)
            if commands.count > SpaceLimits.packCommandsMax {
                results.append(RootResult(revision: Revision(index: index, slot: 0), outcome: .refused(.malformed)))
                break
            }
            for (slot, bytes) in commands.enumerated() {
                results.append(try step.apply(bytes, Revision(index: index, slot: slot)))
            }
        }
        try step.finish()
        access = step.access
        return results
    }
}

/// The work on one entry. It owns the access while it lasts.
struct RootStep<Access: StateAccess> {
    let index: LogIndex
    var access: Access
    var summary: RootSummary
    var settings: RootSettings
    /// Nil before the cluster is founded.
    var cluster: RootCluster?
    var revision = Revision.zero
    var by = ""
    /// What came of the command besides, for the audit, where nothing is written down of the command itself.
    var remark: (kind: String, text: String)?
    /// Of the entry: what came later means nothing in it.
    var level = FeatureLevel.oldest
    private var changed: [RootRow] = []
    /// Of the processes that send commands.
    var sessions: SessionBook

    init(_ index: LogIndex, _ access: Access) throws(StoreError) {
        self.index = index
        self.access = access
        sessions = SessionBook(RootKey.sessionKinds, index)
        summary = try RootSummary.read(access)
        settings = try RootSettings.read(access)
        cluster = try access.record(RootCluster.self, RootCluster.onlyKey)
    }

    var time: LogTime { summary.time }

    mutating func advance(to time: LogTime) { summary.time = max(summary.time, time) }

    mutating func apply(_ bytes: [UInt8], _ revision: Revision) throws(StoreError) -> RootResult {
        self.revision = revision
        switch RootCommand.decode(bytes, level: level) {
        case .failure(let refusal): return RootResult(revision: revision, outcome: .refused(refusal))
        case .success(let command): return try apply(command)
        }
    }

    mutating func execute(_ operation: RootCommand.Operation) throws(StoreError) -> RootResult.Outcome {
        if case .found(let founding) = operation { return found(founding) }
        guard var cluster else { return .refused(.notFounded) }
        defer { self.cluster = cluster }
        switch operation {
        case .found: return .refused(.alreadyFounded)
        case .createToken(let hash, let note, let lifetime, let uses):
            return try createToken(hash, note, lifetime, uses)
        case .revokeToken(let hash): return try revokeToken(hash)
        case .joinNode(let token, let about): return try joinNode(token, about, &cluster)
        case .reportNode(let node, let about): return try reportNode(node, about, cluster)
        case .certifyNode(let node, let certificate): return try certifyNode(node, certificate)
        case .arrangeNode(let node, let voting, let isDraining): return try arrangeNode(node, voting, isDraining)
        case .removeNode(let node, let isForced): return try removeNode(node, isForced)
        case .trustAuthority(let fingerprint, let certificate): return try trust(fingerprint, certificate)
        case .signWithAuthority(let fingerprint): return try sign(with: fingerprint, cluster)
        case .distrustAuthority(let fingerprint): return try distrust(fingerprint)
        case .createSpace(let name, let replicas): return try createSpace(name, replicas, &cluster)
        case .deleteSpace(let name, let group): return try deleteSpace(name, group)
        case .foundGroup(let group, let nodes): return try foundGroup(group, nodes, cluster)
        case .changePlacement(let group, let revision, let changes):
            return try changePlacement(group, revision, changes, cluster)
        case .reportReplicas(let node, let made, let lost): return try reportReplicas(node, made, lost)
        case .reportGroup(let group, let epoch, let gone): return try reportGroup(group, epoch, gone)
        case .changeSetting(let setting, let value): return change(setting, value)
        case .addOperator(let added): return try add(added)
        case .removeOperator(let name): return try removeOperator(name)
        case .finalizeLevel(let level): return try finalize(level, &cluster)
        case .setBackup(let schedule): return try set(schedule)
        case .removeBackup(let name): return try removeBackup(name)
        case .noteBackup(let name, let succeeded, let outcome): return try noteBackup(name, succeeded, outcome)
        case .recordRecovery(let record): return try recordRecovery(record, &cluster)
        case .noteTime: return .done
        case .createCell(let name, let replicas, let region, let survives):
            return try createCell(name, replicas, region, survives, &cluster)
        case .createTenant(let name, let quota, let tier): return try createTenant(name, quota, tier)
        case .setTenant(let name, let quota, let tier): return try setTenant(name, quota, tier)
        case .deleteTenant(let name): return try deleteTenant(name)
        case .moveHost(let node, let to, let epoch, let step, let vms, let reason):
            return try moveHost(node, to: to, epoch, step, vms, reason, &cluster)
        case .planHosts(let cell, let wish): return try planHosts(cell, wish, &cluster)
        case .noteHosts(let cell, let number, let node, let reason):
            return try noteHosts(cell, number, node, reason)
        case .retireCell(let name): return try retireCell(name, &cluster)
        case .reportCell(let report): return try reportCell(report)
        case .nameSealingKey(let hash): return nameSealingKey(hash, &cluster)
        case .markDomain(let name, let mark, let before): return markDomain(name, mark, before, &cluster)
        case .noteForbidden(let action, _): return RootCheck.isText(action) ? .done : .refused(.invalid(.note))
        case .declareRegion(let name, let isLost, let epoch, let isAutomatic):
            return try declareRegion(name, isLost, epoch, isAutomatic, &cluster)
        case .planRegion(let name, let step, let returns, let epoch):
            return try planRegion(name, step, returns, epoch, &cluster)
        case .reportLatencies(let node, let found): return try reportLatencies(node, found)
        case .setLatency(let a, let b, let micros): return try setLatency(a, b, micros)
        case .rotateSealingKey(let step, let hash): return rotateSealingKey(step, hash, &cluster)
        case .addImage(let image): return try addImage(image)
        case .holdImage(let tenant, let name, let sha256, let node, let isHeld):
            return try holdImage(tenant, name, sha256, node, isHeld)
        case .removeImage(let tenant, let name, let step, let removal):
            return try removeImage(tenant, name, step, removal)
        }
    }

    // MARK: Rows

    /// Writes a row that no follower keeps.
    mutating func putUnfollowed(_ key: [UInt8], _ value: [UInt8]) { access.put(key, value) }

    mutating func put(_ record: some RootRecord) { put(record.rowKey, record.encoded()) }

    mutating func delete(_ record: some RootRecord) { delete(record.rowKey) }

    private mutating func put(_ key: [UInt8], _ value: [UInt8]) {
        access.put(key, value)
        note(RootRow(key: key, value: value))
    }

    private mutating func delete(_ key: [UInt8]) {
        access.delete(key)
        note(RootRow(key: key, value: nil))
    }

    private mutating func note(_ row: RootRow) {
        if row.table?.isFollowed == true { changed.append(row) }
    }

    func all<Record: RootRecord>(_ type: Record.Type) throws(StoreError) -> [Record] {
        var records: [Record] = []
        var bad: [UInt8]?
        try access.scan(.prefix([Record.table.kind])) { key, value in
            guard let record = Record.decode(value) else {
                bad = key
                return false
            }
            records.append(record)
            return true
        }
        if let bad { throw RootKey.corrupt(bad) }
        return records
    }

    // MARK: The end of the entry

    /// Writes what belongs to the entry as a whole.
    mutating func finish() throws(StoreError) {
        summary.applied = index
        if !changed.isEmpty {
            let value = WireRootHistory(rows: changed.map(\.wire)).serialized()
            access.put(RootKey.history(index), value)
            summary.historyChanges += UInt64(changed.count)
            summary.historyBytes += UInt64(value.count)
            if summary.historyIsTooLong { try trimHistory() }
        }
        try sessions.finish(&access)
        access.put(RootKey.summary, summary.encoded())
    }

    private mutating func trimHistory() throws(StoreError) {
        var gone: [[UInt8]] = []
        var left = summary
        var bad: [UInt8]?
        try access.scan(.prefix([RootKey.Kind.history])) { key, value in
            guard left.historyIsTooLong, let index = key.bigEndian64(at: 1), index != self.index.rawValue else {
                return false
            }
            // The key says which record it is; how it is malformed helps nobody.
            guard let history = try? WireRootHistory(serialized: value) else {
                bad = key
                return false
            }
            gone.append(key)
            left.historyChanges -= min(left.historyChanges, UInt64(history.rows.count))
            left.historyBytes -= min(left.historyBytes, UInt64(value.count))
            left.compactedThrough = LogIndex(index)
            return true
        }
        if let bad { throw RootKey.corrupt(bad) }
        for key in gone { access.delete(key) }
        summary = left
    }
}
