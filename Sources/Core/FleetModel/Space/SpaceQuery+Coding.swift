internal import BinaryCoding
import ClusterBase
internal import Schema

// Queries and answers as bytes, as Proto/space.proto describes them. Nil when the bytes are none that this version knows.

extension SpaceQuery {
    package func encoded() -> [UInt8] {
        var wire = SpaceWireQuery()
        switch self {
        case .get(let key): wire.query = .get(SpaceWireGet(key: key))
        case .list(let prefix, let after, let limit):
            wire.query = .list(SpaceWireList(prefix: prefix, after: after, limit: UInt32(clamping: limit)))
        case .changes(let since, let prefix, let limit):
            wire.query = .changes(
                SpaceWireChanges(since: since.rawValue, prefix: prefix, limit: UInt32(clamping: limit)))
        case .lock(let name): wire.query = .lock(name)
        case .locks(let prefix, let after, let limit):
            wire.query = .locks(SpaceWireLocks(prefix: prefix, after: after, limit: UInt32(clamping: limit)))
        case .renewals(let after, let limit):
            wire.query = .renewals(SpaceWireRenewals(after: after.rawValue, limit: UInt32(clamping: limit)))
        }
        return wire.serialized()
    }

    package static func decode(_ bytes: [UInt8]) -> SpaceQuery? {
        guard let wire = message(SpaceWireQuery.self, bytes), let query = wire.query else { return nil }
        switch query {
        case .get(let get): return .get(key: get.key)
        case .list(let list): return .list(prefix: list.prefix, after: list.after, limit: Int(list.limit))
        case .changes(let changes):
            return .changes(since: Revision(changes.since), prefix: changes.prefix, limit: Int(changes.limit))
        case .lock(let name): return .lock(name: name)
        case .locks(let locks): return .locks(prefix: locks.prefix, after: locks.after, limit: Int(locks.limit))
        case .renewals(let renewals): return .renewals(after: Revision(renewals.after), limit: Int(renewals.limit))
        }
    }
}

extension SpaceAnswer {
    package func encoded() -> [UInt8] {
        var wire = SpaceWireAnswer()
        wire.revision = revision.rawValue
        switch body {
        case .record(let record): wire.body = .found(SpaceWireAnswer.Found(record: record.map(SpaceWireRecord.init)))
        case .page(let records, let resumeAfter):
            wire.body = .page(
                SpaceWireAnswer.Page(records: records.map(SpaceWireRecord.init), resumeAfter: resumeAfter))
        case .changes(let changes, let through):
            wire.body = .changes(
                SpaceWireAnswer.ChangeList(changes: changes.map(SpaceWireChange.init), through: through.rawValue))
        case .compacted(let revision): wire.body = .compacted(revision.rawValue)
        case .locks(let locks, let resumeAfter):
            wire.body = .locks(SpaceWireAnswer.LockList(locks: locks.map(SpaceWireLock.init), resumeAfter: resumeAfter))
        case .refused(let refusal):
            let (code, detail) = refusal.stored
            wire.body = .refused(SpaceWireAnswer.Refusal(code: UInt32(clamping: code), detail: detail))
        }
        return wire.serialized()
    }

    package static func decode(_ bytes: [UInt8]) -> SpaceAnswer? {
        guard let wire = message(SpaceWireAnswer.self, bytes), let body = wire.body else { return nil }
        let revision = Revision(wire.revision)
        switch body {
        case .found(let found):
            return SpaceAnswer(revision: revision, body: .record(found.record.map(SpaceRecord.init)))
        case .page(let page):
            let records = page.records.map(SpaceRecord.init)
            return SpaceAnswer(revision: revision, body: .page(records, resumeAfter: page.resumeAfter))
        case .changes(let list):
            var changes: [SpaceChange] = []
            for wire in list.changes {
                guard let change = SpaceChange(wire) else { return nil }
                changes.append(change)
            }
            return SpaceAnswer(revision: revision, body: .changes(changes, through: Revision(list.through)))
        case .compacted(let compacted):
            return SpaceAnswer(revision: revision, body: .compacted(Revision(compacted)))
        case .locks(let list):
            return SpaceAnswer(
                revision: revision, body: .locks(list.locks.map(SpaceLock.init), resumeAfter: list.resumeAfter))
        case .refused(let refused):
            guard let refusal = SpaceRefusal(code: UInt64(refused.code), detail: refused.detail) else { return nil }
            return SpaceAnswer(revision: revision, body: .refused(refusal))
        }
    }
}

private func message<M: WireMessage>(_ type: M.Type, _ bytes: [UInt8]) -> M? {
    // Where in the bytes it went wrong matters to nobody: client and server are of one make, or of different versions.
    try? M(serialized: bytes)
}

extension SpaceWireRecord {
    fileprivate init(_ record: SpaceRecord) {
        self.init(
            key: record.key, value: record.value, created: record.created.rawValue, modified: record.modified.rawValue,
            version: record.version)
    }
}

extension SpaceRecord {
    fileprivate init(_ wire: SpaceWireRecord) {
        self.init(
            key: wire.key, value: wire.value, created: Revision(wire.created), modified: Revision(wire.modified),
            version: wire.version)
    }
}

extension SpaceWireLock {
    fileprivate init(_ lock: SpaceLock) {
        self.init(
            name: lock.name, owner: lock.owner, token: lock.token.rawValue, renewed: lock.renewed.rawValue,
            leaseMillis: UInt64(max(lock.lease.milliseconds, 0)))
    }
}

extension SpaceLock {
    fileprivate init(_ wire: SpaceWireLock) {
        self.init(
            name: wire.name, owner: wire.owner, token: Revision(wire.token), renewed: Revision(wire.renewed),
            lease: .milliseconds(Int64(clamping: min(wire.leaseMillis, 1 << 40))))
    }
}

extension SpaceWireChange {
    fileprivate init(_ change: SpaceChange) {
        switch change {
        case .written(let record): self.init(record: SpaceWireRecord(record))
        case .deleted(let key, let revision):
            self.init(record: SpaceWireRecord(key: key, modified: revision.rawValue), isDeletion: true)
        }
    }
}

extension SpaceChange {
    fileprivate init?(_ wire: SpaceWireChange) {
        guard let record = wire.record else { return nil }
        self =
            wire.isDeletion ? .deleted(key: record.key, Revision(record.modified)) : .written(SpaceRecord(record))
    }
}
