package import ClusterBase

/// The replicated state machine of a space: keys with revisions, sessions, and a history to watch.
///
///     pack at index ──▶ command in slot 0, 1, … ──▶ session: known result? ──(yes)──▶ that result
///                                                        │ no
///                                                        ▼
///                                           judge and change the key ──▶ result, kept in the session
///                                                        │
///                                                        ▼
///                                     changes of the entry ──▶ one history record; the oldest go
///
/// Everything follows from the state and the log alone, so all replicas agree; time does not occur.
package enum Space {
    /// Applies one entry's pack and returns one result per command, in order; a pack that can't be read has one, a refusal.
    ///
    /// Throws when the state can't be read, and for a pack of a level above what the program `knows`; then nothing of the
    /// pack may become durable.
    package static func apply(
        pack: [UInt8], index: LogIndex, knows: UInt32 = FeatureLevel.newest, access: inout some StateAccess
    ) throws(StoreError) -> [SpaceResult] {
        switch try commands(in: pack, knows: knows) {
        case .failure(let refusal):
            return [SpaceResult(revision: Revision(index: index, slot: 0), outcome: .refused(refusal))]
        case .success(let (level, encoded)):
            var results: [SpaceResult] = []
            results.reserveCapacity(encoded.count)
            var step = try Step(index: index, access)
            for (slot, range) in encoded.enumerated() {
                let revision = Revision(index: index, slot: slot)
                switch SpaceCommand.decode(pack, range, level: level) {
                case .failure(let refusal):
                    results.append(SpaceResult(revision: revision, outcome: .refused(refusal)))
                case .success(let command):
                    results.append(try step.apply(command, revision, &access))
                }
            }
            try step.finish(&access)
            return results
        }
    }

    /// The checks of a command that need no state; a proposer makes them first, so that nothing hopeless is logged.
    package static func refusal(of command: SpaceCommand) -> SpaceRefusal? {
        switch command.operation {
        case .put(let key, let value), .compareAndSet(let key, _, let value):
            if let refusal = refusal(ofKey: key) { return refusal }
            if value.count > SpaceLimits.valueBytesMax { return .valueTooLong(UInt64(value.count)) }
        case .delete(let key, _):
            if let refusal = refusal(ofKey: key) { return refusal }
        case .compareAndDelete(let key, let expected):
            if let refusal = refusal(ofKey: key) { return refusal }
            if expected.count > SpaceLimits.valueBytesMax { return .valueTooLong(UInt64(expected.count)) }
        case .end: break
        case .acquire(let lock, let owner, let lease):
            if let refusal = refusal(ofLock: lock) ?? refusal(ofOwner: owner) ?? refusal(ofLease: lease) {
                return refusal
            }
        case .release(let lock, let owner, _):
            if let refusal = refusal(ofLock: lock) ?? refusal(ofOwner: owner) { return refusal }
        case .expire(let lock, _):
            if let refusal = refusal(ofLock: lock) { return refusal }
        }
        if let fence = command.fence, let refusal = refusal(ofLock: fence.lock) { return refusal }
        if (command.client.rawValue == 0) != (command.sequence == 0) { return .sequenceInvalid }
        if command.acknowledged > 0 && command.acknowledged >= command.sequence { return .sequenceInvalid }
        return nil
    }

    static func refusal(ofKey key: [UInt8]) -> SpaceRefusal? {
        if key.isEmpty { return .keyEmpty }
        if key.count > SpaceLimits.keyBytesMax { return .keyTooLong(UInt64(key.count)) }
        return nil
    }
}

/// The work on one entry.
struct Step {
    let index: LogIndex
    var summary: SpaceSummary
    private var history = HistoryRecord()

    init(index: LogIndex, _ access: some OrderedReader) throws(StoreError) {
        self.index = index
        summary = try SpaceSummary.read(access)
    }

    mutating func apply(
        _ command: SpaceCommand, _ revision: Revision, _ access: inout some StateAccess
    ) throws(StoreError) -> SpaceResult {
        if let refusal = Space.refusal(of: command) {
            return SpaceResult(revision: revision, outcome: .refused(refusal))
        }
        if summary.hasEnded { return SpaceResult(revision: revision, outcome: .refused(.ended)) }
        if command.client.rawValue == 0 {
            return SpaceResult(revision: revision, outcome: try execute(command, revision, &access))
        }
        var session: SpaceSession
        switch try admit(command, access) {
        case .known(let result): return result
        case .refused(let refusal): return SpaceResult(revision: revision, outcome: .refused(refusal))
        case .open(let found): session = found
        case .new:
            session = SpaceSession()
            summary.sessionCount += 1
        }
        let result = SpaceResult(revision: revision, outcome: try execute(command, revision, &access))
        session.keep(result, sequence: command.sequence, acknowledged: command.acknowledged)
        use(&session, of: command.client, &access)
        access.put(SpaceKey.session(command.client), session.encoded)
        if summary.sessionCount > SpaceLimits.sessionsMax { try expireOldestSession(&access) }
        return result
    }

    /// Writes what belongs to the entry as a whole.
    mutating func finish(_ access: inout some StateAccess) throws(StoreError) {
        summary.applied = index
        if history.count > 0 {
            let value = history.bytes
            access.put(SpaceKey.history(index), value)
            summary.historyChanges += UInt64(history.count)
            summary.historyBytes += UInt64(value.count)
            if summary.historyIsTooLong { try trimHistory(&access) }
        }
        access.put(SpaceKey.summary, summary.encoded())
    }

    // MARK: Keys

    private mutating func execute(
        _ command: SpaceCommand, _ revision: Revision, _ access: inout some StateAccess
    ) throws(StoreError) -> SpaceResult.Outcome {
        if let fence = command.fence, let refusal = try refusal(of: fence, access) { return .refused(refusal) }
        switch command.operation {
        case .put(let key, let value):
            let stateKey = SpaceKey.user(key)
            let old = try Head.read(stateKey, access.row(for: stateKey))
            return write(key, stateKey, value, old, revision, &access)
        case .compareAndSet(let key, let expected, let value):
            let stateKey = SpaceKey.user(key)
            let stored = try access.row(for: stateKey)
            let old = try Head.read(stateKey, stored)
            let holds =
                switch expected {
                case .absent: old == nil
                case .revision(let modified): old?.modified == modified
                case .value(let expected): stored.map { Head.value(of: $0).elementsEqual(expected) } ?? false
                }
            return holds ? write(key, stateKey, value, old, revision, &access) : .conflict(modified: old?.modified)
        case .delete(let key, let expected):
            let stateKey = SpaceKey.user(key)
            guard let old = try Head.read(stateKey, access.row(for: stateKey)) else {
                return expected == nil ? .notFound : .conflict(modified: nil)
            }
            if let expected, old.modified != expected { return .conflict(modified: old.modified) }
            access.delete(stateKey)
            history.add(deleted: key, revision)
            return .deleted
        case .compareAndDelete(let key, let expected):
            let stateKey = SpaceKey.user(key)
            let stored = try access.row(for: stateKey)
            guard let stored, let old = try Head.read(stateKey, stored) else { return .conflict(modified: nil) }
            guard Head.value(of: stored).elementsEqual(expected) else { return .conflict(modified: old.modified) }
            access.delete(stateKey)
            history.add(deleted: key, revision)
            return .deleted
        case .end:
            summary.hasEnded = true
            return .deleted
        case .acquire(let lock, let owner, let lease): return try acquire(lock, owner, lease, revision, &access)
        case .release(let lock, let owner, let token): return try release(lock, owner, token, &access)
        case .expire(let lock, let renewed): return try expire(lock, renewed: renewed, &access)
        }
    }

    private mutating func write(
        _ key: [UInt8], _ stateKey: [UInt8], _ value: [UInt8], _ old: Head?, _ revision: Revision,
        _ access: inout some StateAccess
    ) -> SpaceResult.Outcome {
        let head = Head(created: old?.created ?? revision, modified: revision, version: (old?.version ?? 0) + 1)
        access.put(stateKey, head.encoded(with: value))
        history.add(written: key, value, head)
        return .written(version: head.version)
    }

    // MARK: Sessions

    private enum Admission {
        case known(SpaceResult)
        case refused(SpaceRefusal)
        case open(SpaceSession)
        case new
    }

    /// Decides whether a command is new, a retry, or neither surely.
    ///
    /// A first command of an unknown client may be a retry whose session has expired. It is new for sure when the client
    /// drew its id after an index at or above every expired session's last use: had it run before, its session would have
    /// been used above that index, and would not be among the expired.
    private func admit(_ command: SpaceCommand, _ access: some OrderedReader) throws(StoreError) -> Admission {
        guard let session = try SpaceSession.read(command.client, access) else {
            let isFirst = command.sequence == 1 && command.born >= summary.expiredThrough
            return isFirst ? .new : .refused(.sessionUnknown(bornAtLeast: summary.expiredThrough))
        }
        if let result = session.result(of: command.sequence) { return .known(result) }
        if command.sequence <= session.closedThrough {
            return .refused(.sequenceTooOld(through: session.closedThrough))
        }
        return .open(session)
    }

    /// Moves a session to the young end of the order of use. Only when it is some way off: two writes less a command are
    /// worth it, since `expireOldestSession` looks at the exact `lastUsed`.
    private func use(_ session: inout SpaceSession, of client: ClientID, _ access: inout some StateAccess) {
        session.lastUsed = index
        if session.place != .zero && index - session.place < SpaceSession.placeSlack { return }
        move(&session, of: client, to: index, &access)
    }

    private func move(
        _ session: inout SpaceSession, of client: ClientID, to place: LogIndex, _ access: inout some StateAccess
    ) {
        if session.place != .zero { access.delete(SpaceKey.use(session.place, client)) }
        session.place = place
        access.put(SpaceKey.use(place, client), [])
    }

    /// Ends the session whose last use is the longest ago. A place is never after the last use, so the search ends where
    /// places pass the oldest use found; the sessions on the way get the places that they have earned.
    private mutating func expireOldestSession(_ access: inout some StateAccess) throws(StoreError) {
        var met: [(client: ClientID, session: SpaceSession)] = []
        var oldest = 0
        var failure: StoreError?
        try access.scan(.prefix([SpaceKey.Kind.use])) { key, _ in
            guard let place = key.bigEndian64(at: 1), let client = key.bigEndian64(at: 9) else { return false }
            if !met.isEmpty && met[oldest].session.lastUsed <= LogIndex(place) { return false }
            do throws(StoreError) {
                guard let session = try SpaceSession.read(ClientID(client), access) else { return false }
                if !met.isEmpty && session.lastUsed < met[oldest].session.lastUsed { oldest = met.count }
                met.append((ClientID(client), session))
            } catch {
                failure = error
            }
            return failure == nil
        }
        if let failure { throw failure }
        if met.isEmpty {
            throw StoreError(.corrupt, "the space counts \(summary.sessionCount) sessions and holds no oldest one")
        }
        for i in met.indices where i != oldest && met[i].session.place < met[i].session.lastUsed {
            move(&met[i].session, of: met[i].client, to: met[i].session.lastUsed, &access)
            access.put(SpaceKey.session(met[i].client), met[i].session.encoded)
        }
        let (client, session) = met[oldest]
        summary.expiredThrough = max(summary.expiredThrough, session.lastUsed)
        summary.sessionCount -= 1
        access.delete(SpaceKey.use(session.place, client))
        access.delete(SpaceKey.session(client))
    }

    // MARK: History

    private mutating func trimHistory(_ access: inout some StateAccess) throws(StoreError) {
        var gone: [LogIndex] = []
        var left = summary
        let index = index
        var isBad = false
        /// Whether to look at the record after this one.
        func drop(_ found: LogIndex, _ record: StoredRow) -> Bool {
            guard let changes = HistoryRecord.count(in: record), left.historyChanges >= UInt64(changes),
                left.historyBytes >= UInt64(record.count)
            else {
                isBad = true
                return false
            }
            // The newest entry stays whatever its size: a watcher that keeps up must never find a gap.
            if found == index { return false }
            gone.append(found)
            left.historyChanges -= UInt64(changes)
            left.historyBytes -= UInt64(record.count)
            left.compactedThrough = found
            return left.historyIsTooLong
        }
        // Most entries have a record, so that the next one is found by its key; a search costs many times that.
        var next = left.compactedThrough.next
        var isEnough = false
        while !isEnough, next < index, let record = try access.row(for: SpaceKey.history(next)) {
            isEnough = !drop(next, record)
            next = next.next
        }
        if !isEnough {
            let range = KeyRange(from: SpaceKey.history(next), to: successor(ofPrefix: [SpaceKey.Kind.history]))
            try access.scan(range) { key, value in
                guard let found = key.bigEndian64(at: 1) else {
                    isBad = true
                    return false
                }
                return drop(LogIndex(found), StoredRow(value, valueCount: value.count))
            }
        }
        if isBad { throw StoreError(.corrupt, "a history record after index \(left.compactedThrough) is malformed") }
        for record in gone { access.delete(SpaceKey.history(record)) }
        summary = left
    }
}
