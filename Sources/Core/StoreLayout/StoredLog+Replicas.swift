internal import BinaryCoding
package import ClusterBase
package import NodePorts
package import RaftCore
internal import Schema
internal import WireFormat

/// What a node finds of its replica of a group when it starts.
package enum RestoredReplica: Sendable {
    /// The group was never here.
    case none
    /// It was here and was removed; no replica up to this id may come back.
    case tombstone(ReplicaID)
    /// Votes or acknowledged entries may be lost. It must neither vote nor acknowledge nor campaign again under this id
    /// (nil when not even the id is known); the sentence says what was found.
    case damaged(ReplicaID?, reason: String)
    /// `snapshot` is what the state began with; see `StoredState.generation`.
    case log(ReplicaID, RestoredLog, snapshot: SnapshotID?)
}

/// Why a replica could not be made here. Nothing was written.
package enum ReplicaRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    case isHere(GroupID, ReplicaID)
    /// This id, or a higher one, was used on this node before.
    case idUsed(GroupID, ReplicaID, highest: ReplicaID)
    case damaged(GroupID, String)
    case store(StoreError)

    package var description: String {
        switch self {
        case .isHere(let group, let replica):
            "group \(group) has replica \(replica) on this node; remove it first"
        case .idUsed(let group, let replica, let highest):
            "replica id \(replica) of group \(group) can't be used again on this node, which has had \(highest); take a "
                + "higher one"
        case .damaged(let group, let finding):
            "the records of group \(group) on this node are damaged (\(finding)); destroy what is left of it first"
        case .store(let error): error.description
        }
    }
}

extension StoredLog {
    /// All groups that have any record here, ascending. Costs one search a group.
    package static func groups(in store: some OrderedReader) throws(StoreError) -> [GroupID] {
        var groups: [GroupID] = []
        var from: [UInt8] = LogKey.node + [0]
        while true {
            var next: UInt64?
            try store.scan(KeyRange(from: from, to: nil)) { key, _ in
                next = key.bigEndian64(at: 0)
                return false
            }
            guard let next else { return groups }
            groups.append(GroupID(next))
            guard let end = LogKey.all(GroupID(next)).to else { return groups }
            from = end
        }
    }

    /// Makes a group's replica with this log, synced: the group's first members start with an empty log, a member that
    /// joins with the base it was given.
    package static func createReplica(
        _ group: GroupID, _ replica: ReplicaID, _ log: RestoredLog, snapshot: SnapshotID? = nil,
        in store: inout some OrderedStore
    ) throws(ReplicaRefusal) {
        let found: Result<ReplicaRecord, DecodeError>?
        do throws(StoreError) {
            found = try read(ReplicaRecord.self, LogKey.replica(group), store)
        } catch {
            throw .store(error)
        }
        switch found {
        case nil: break
        case .failure(let error)?: throw .damaged(group, "\(error)")
        case .success(let record)?:
            let highest = ReplicaID(record.replica)
            if record.standing != .tombstone { throw .isHere(group, highest) }
            if replica <= highest { throw .idUsed(group, replica, highest: highest) }
        }
        precondition(
            log.tail.first.map { $0.index == log.base.index.next } ?? (log.last == log.base.index),
            "the log of a new replica of group \(group) is not whole in memory")
        var batch = WriteBatch()
        batch.delete(LogKey.all(group))
        putReplica(replica, .normal, group, into: &batch)
        putBase(log.base, group, into: &batch)
        if let snapshot { putSnapshot(snapshot, group, into: &batch) }
        for entry in log.tail { putEntry(entry, group, into: &batch) }
        putHardState(log.hardState, last: log.last, group, into: &batch)
        do throws(StoreError) {
            try store.write(batch, isSynced: true)
        } catch {
            throw .store(error)
        }
    }

    /// Removes a group's replica, synced, and leaves its id as the highest that was ever used here. Does not touch the
    /// group's applied state. A higher id that was already used here stays.
    package static func destroyReplica(
        _ group: GroupID, _ replica: ReplicaID, in store: inout some OrderedStore
    ) throws(StoreError) {
        var highest = replica
        if case .success(let record)? = try read(ReplicaRecord.self, LogKey.replica(group), store) {
            highest = max(highest, ReplicaID(record.replica))
        }
        var batch = WriteBatch()
        batch.delete(LogKey.all(group))
        putReplica(highest, .tombstone, group, into: &batch)
        try store.write(batch, isSynced: true)
    }

    /// Records that a replica is damaged, synced: it stays so over restarts, even if its records are readable then.
    package static func markDamaged(
        _ group: GroupID, _ replica: ReplicaID, in store: inout some OrderedStore
    ) throws(StoreError) {
        var batch = WriteBatch()
        putReplica(replica, .damaged, group, into: &batch)
        try store.write(batch, isSynced: true)
    }

    /// Reads a group's log from its base to its end and checks all of it: seals, that no entry is missing, that terms never
    /// fall nor exceed the hard state's, that every chain follows from the one before. Keeps up to `cacheBytesMax` bytes of
    /// the newest entries in memory, and in any case those from the hard state's commit on.
    package static func restore(
        _ group: GroupID, cacheBytesMax: Int, in store: some OrderedReader
    ) throws(StoreError) -> RestoredReplica {
        try restore(group, cacheBytesMax: cacheBytesMax, endsAtDamage: false, in: store)
    }

    #if MUTANTS
    /// What others did: the log ends where it can't be read.
    package static func restoreUpToDamage(
        _ group: GroupID, cacheBytesMax: Int, in store: some OrderedReader
    ) throws(StoreError) -> RestoredReplica {
        try restore(group, cacheBytesMax: cacheBytesMax, endsAtDamage: true, in: store)
    }
    #endif

    private static func restore(
        _ group: GroupID, cacheBytesMax: Int, endsAtDamage: Bool, in store: some OrderedReader
    ) throws(StoreError) -> RestoredReplica {
        var id: ReplicaID?
        do throws(RestoreFailure) {
            guard let replica = try required(ReplicaRecord.self, LogKey.replica(group), "replica record", group, store)
            else {
                if try isEmpty(group, store) { return .none }
                throw .damage(LogDamage(group, "the replica record is missing"))
            }
            let (found, standing) = try content("replica record", group) { () throws(DecodeError) in
                try replica.content()
            }
            id = found
            switch standing {
            case .tombstone: return .tombstone(found)
            case .normal: break
            case .damaged: throw .damage(LogDamage(group, "it was found damaged before"))
            // Given out by no version: a snapshot switches atomically.
            case .installing, .unspecified, .unrecognized:
                throw .damage(LogDamage(group, "the replica record has the unknown standing \(standing.rawValue)"))
            }
            let (hardState, last, base) = try restoreHead(group, store)
            let snapshot = try restoreSnapshot(group, store)
            let log = try scanLog(group, hardState, base, last, cacheBytesMax, endsAtDamage, store)
            return .log(found, log, snapshot: snapshot)
        } catch {
            switch error {
            case .store(let error): throw error
            case .damage(let damage): return .damaged(id, reason: damage.sentence)
            }
        }
    }

    private enum RestoreFailure: Error {
        case store(StoreError)
        case damage(LogDamage)
    }

    private static func isEmpty(_ group: GroupID, _ store: some OrderedReader) throws(RestoreFailure) -> Bool {
        var isEmpty = true
        do throws(StoreError) {
            try store.scan(LogKey.all(group)) { _, _ in
                isEmpty = false
                return false
            }
        } catch {
            if error.code == .corrupt { throw .damage(LogDamage(group, error.message)) }
            throw .store(error)
        }
        return isEmpty
    }

    private static func required<Record: WireMessage>(
        _ type: Record.Type, _ key: [UInt8], _ name: String, _ group: GroupID, _ store: some OrderedReader
    ) throws(RestoreFailure) -> Record? {
        do throws(StoreError) {
            switch try read(type, key, store) {
            case nil: return nil
            case .success(let record)?: return record
            case .failure(let error)?: throw StoreError(.corrupt, "the \(name) is unreadable: \(error)")
            }
        } catch {
            // A store that finds the bad block itself says no more than ours does.
            if error.code == .corrupt { throw .damage(LogDamage(group, error.message)) }
            throw .store(error)
        }
    }

    private static func restoreHead(
        _ group: GroupID, _ store: some OrderedReader
    ) throws(RestoreFailure) -> (HardState, LogIndex, LogBase) {
        guard let hard = try required(HardStateRecord.self, LogKey.hardState(group), "hard state record", group, store)
        else { throw .damage(LogDamage(group, "the hard state record is missing")) }
        guard let stored = try required(LogBaseRecord.self, LogKey.base(group), "base record", group, store) else {
            throw .damage(LogDamage(group, "the base record is missing"))
        }
        let (state, last) = try content("hard state record", group) { () throws(DecodeError) in try hard.content() }
        let base = try content("base record", group) { () throws(DecodeError) in try stored.content() }
        if last < base.index {
            throw .damage(LogDamage(group, "the hard state record ends it at \(last), before its base \(base.index)"))
        }
        if base.term > state.term {
            throw .damage(
                LogDamage(group, "the base has term \(base.term), above term \(state.term) of the hard state record"))
        }
        return (state, last, base)
    }

    private static func restoreSnapshot(
        _ group: GroupID, _ store: some OrderedReader
    ) throws(RestoreFailure) -> SnapshotID? {
        guard let record = try required(SnapshotRecord.self, LogKey.snapshot(group), "snapshot record", group, store)
        else { return nil }
        return try content("snapshot record", group) { () throws(DecodeError) in try record.content() }
    }

    private static func content<Content>(
        _ name: String, _ group: GroupID, _ read: () throws(DecodeError) -> Content
    ) throws(RestoreFailure) -> Content {
        do throws(DecodeError) {
            return try read()
        } catch {
            throw .damage(LogDamage(group, "the \(name) is unreadable: \(error)"))
        }
    }

    private static func scanLog(
        _ group: GroupID, _ hardState: HardState, _ base: LogBase, _ last: LogIndex, _ cacheBytesMax: Int,
        _ endsAtDamage: Bool, _ store: some OrderedReader
    ) throws(RestoreFailure) -> RestoredLog {
        var log = RestoredLog(empty: base, hardState: hardState)
        var damage: LogDamage?
        var tailBytes = 0
        let range = KeyRange(from: LogKey.entry(group, base.index.next), to: LogKey.entry(group, last.next))
        if last > base.index {
            do throws(StoreError) {
                try store.scan(range) { key, value in
                    switch openEntry(key, value, group) {
                    case .failure(let found): damage = found
                    case .success(let entry):
                        damage = finding(entry, after: log, hardState.term, group)
                        if damage == nil {
                            log.append(entry)
                            tailBytes += entry.byteCount
                            if tailBytes > tailSlack * cacheBytesMax {
                                cut(&log.tail, &tailBytes, to: cacheBytesMax, from: hardState.commit)
                            }
                        }
                    }
                    return damage == nil
                }
            } catch {
                guard error.code == .corrupt else { throw .store(error) }
                damage = LogDamage(group, "the records after entry \(log.last) are unreadable: \(error)")
            }
            if damage == nil && log.last < last { damage = missing(log.last.next, group) }
        }
        if let damage, !endsAtDamage { throw .damage(damage) }
        cut(&log.tail, &tailBytes, to: cacheBytesMax, from: hardState.commit)
        return log
    }

    /// What is wrong with the entry that follows this log.
    private static func finding(
        _ entry: Entry, after log: RestoredLog, _ term: Term, _ group: GroupID
    ) -> LogDamage? {
        if entry.index != log.last.next { return missing(log.last.next, group) }
        let before = log.terms.last?.term ?? log.base.term
        if entry.term < before {
            return LogDamage(group, "entry \(entry.index) has term \(entry.term), below term \(before) before it")
        }
        if entry.term > term {
            return LogDamage(
                group, "entry \(entry.index) has term \(entry.term), above term \(term) of the hard state record")
        }
        let chain = Entry.chain(
            after: log.lastChain, index: entry.index, term: entry.term, content: entry.content)
        if chain != entry.chain {
            return LogDamage(group, "entry \(entry.index) does not follow from the entry before it: its chain differs")
        }
        return nil
    }

    /// Drops the oldest entries above the bound, and never the newest, nor any that may still be in conflict.
    private static func cut(_ tail: inout [Entry], _ bytes: inout Int, to bytesMax: Int, from kept: LogIndex) {
        var first = 0
        while bytes > bytesMax, first + 1 < tail.count, tail[first].index < kept {
            bytes -= tail[first].byteCount
            first += 1
        }
        tail.removeFirst(first)
    }
}
