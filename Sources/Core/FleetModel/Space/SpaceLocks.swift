package import ClusterBase

// Locks of a space: each is held by one owner, under a token that goes up with every holder, until it is given back or not
// renewed for the length of its lease.
//
//     acquire ──▶ free, or the owner's own ──▶ held under a token: the revision at which this owner got it
//     renew   ──▶ acquire again by the same owner: the token stays
//     release ──▶ free
//     expire  ──▶ free, unless it was renewed since whoever proposes this looked
//
// Time does not occur here: where the space is led, somebody counts each lease from when it heard of the last renewal (`LockWatch`
// in Controllers), anew after a change of the leader, so that no wall clock and
// no difference between two clocks takes a lock from its holder early. Whoever
// is too slow to notice that it lost its lock is kept out by the token: writes may be made under it (`SpaceCommand.fence`).

/// A lock that is held.
package struct SpaceLock: Hashable, Sendable {
    package var name: String
    /// Whoever holds it, by a name of its own choice.
    package var owner: String
    /// When this owner got it. Higher than that of every holder before.
    package var token: Revision
    /// When it was renewed last.
    package var renewed: Revision
    package var lease: Nanoseconds

    package init(name: String, owner: String, token: Revision, renewed: Revision, lease: Nanoseconds) {
        self.name = name
        self.owner = owner
        self.token = token
        self.renewed = renewed
        self.lease = lease
    }
}

/// What a command may rest on: it takes effect only while the lock is held under this token.
package struct SpaceFence: Hashable, Sendable {
    package var lock: String
    package var token: Revision
    package init(_ lock: String, _ token: Revision) {
        self.lock = lock
        self.token = token
    }
}

extension SpaceLock {
    /// token, renewed, lease in milliseconds u32, owner.
    var encoded: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(24 + owner.utf8.count)
        bytes.appendBigEndian(token.rawValue)
        bytes.appendBigEndian(renewed.rawValue)
        bytes.appendBigEndian(UInt32(clamping: lease.milliseconds))
        bytes.append(contentsOf: owner.utf8)
        return bytes
    }

    init?(_ key: some Collection<UInt8>, _ row: StoredRow) {
        guard let token = row.bigEndian64(at: 0), let renewed = row.bigEndian64(at: 8), row.count >= 20 else {
            return nil
        }
        let bytes = row.bytes
        let lease = bytes[16..<20].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        self.init(
            name: String(decoding: key.dropFirst(), as: UTF8.self),
            owner: String(decoding: bytes[20..<row.count], as: UTF8.self), token: Revision(token),
            renewed: Revision(renewed), lease: .milliseconds(Int64(lease)))
    }

    static func read(_ name: String, _ access: some OrderedReader) throws(StoreError) -> SpaceLock? {
        let key = SpaceKey.lock(name)
        guard let row = try access.row(for: key) else { return nil }
        guard let lock = SpaceLock(key, row) else {
            throw StoreError(.corrupt, "the row of lock \(name) has \(row.count) bytes, fewer than its head")
        }
        return lock
    }
}

extension Space {
    static func refusal(ofLock name: String) -> SpaceRefusal? {
        let isName = (1...SpaceLimits.lockNameBytesMax).contains(name.utf8.count)
        return isName && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "/") } ? nil : .lockInvalid
    }

    static func refusal(ofOwner owner: String) -> SpaceRefusal? {
        let isOwner = (1...SpaceLimits.lockOwnerBytesMax).contains(owner.utf8.count)
        return isOwner && owner.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7F } ? nil : .lockInvalid
    }

    static func refusal(ofLease lease: Nanoseconds) -> SpaceRefusal? {
        SpaceLimits.lockLease.contains(lease) && lease.count % 1_000_000 == 0 ? nil : .lockInvalid
    }

    static func locks(
        prefix: String, after: String?, limit: Int, _ access: some OrderedReader
    ) throws(StoreError) -> SpaceAnswer.Body {
        var range = KeyRange.prefix(SpaceKey.lock(prefix))
        if let after {
            let next = SpaceKey.lock(after) + [0]
            if range.from.precedes(next) { range.from = next }
        }
        var found: [SpaceLock] = []
        var hasMore = false
        var isBad = false
        try access.scan(range) { key, row in
            if found.count == limit {
                hasMore = true
                return false
            }
            guard let lock = SpaceLock(key, StoredRow(row, valueCount: row.count)) else {
                isBad = true
                return false
            }
            found.append(lock)
            return true
        }
        if isBad { throw StoreError(.corrupt, "a lock after '\(found.last?.name ?? "")' is malformed") }
        return .locks(found, resumeAfter: hasMore ? found.last?.name : nil)
    }

    /// Those renewed after a revision, the oldest renewal first.
    static func renewals(
        after: Revision, limit: Int, _ access: some OrderedReader
    ) throws(StoreError) -> SpaceAnswer.Body {
        var names: [String] = []
        let range = KeyRange(
            from: SpaceKey.renewal(Revision(after.rawValue + 1), ""), to: successor(ofPrefix: [SpaceKey.Kind.renewal]))
        try access.scan(range) { key, _ in
            names.append(String(decoding: key.dropFirst(9), as: UTF8.self))
            return names.count < limit
        }
        var found: [SpaceLock] = []
        for name in names {
            guard let lock = try SpaceLock.read(name, access) else {
                throw StoreError(.corrupt, "lock \(name) was renewed and is not there")
            }
            found.append(lock)
        }
        return .locks(found, resumeAfter: names.count == limit ? found.last?.name : nil)
    }
}

extension Step {
    mutating func acquire(
        _ name: String, _ owner: String, _ lease: Nanoseconds, _ revision: Revision, _ access: inout some StateAccess
    ) throws(StoreError) -> SpaceResult.Outcome {
        let held = try SpaceLock.read(name, access)
        if let held, held.owner != owner { return .taken(token: held.token) }
        if held == nil {
            if summary.locks >= UInt64(SpaceLimits.locksMax) { return .refused(.tooManyLocks) }
            summary.locks += 1
        }
        if let held { access.delete(SpaceKey.renewal(held.renewed, name)) }
        let lock = SpaceLock(
            name: name, owner: owner, token: held?.token ?? revision, renewed: revision, lease: lease)
        access.put(SpaceKey.lock(name), lock.encoded)
        access.put(SpaceKey.renewal(revision, name), [])
        return .held(token: lock.token)
    }

    mutating func release(
        _ name: String, _ owner: String, _ token: Revision?, _ access: inout some StateAccess
    ) throws(StoreError) -> SpaceResult.Outcome {
        guard let held = try SpaceLock.read(name, access) else { return .notFound }
        if held.owner != owner || held.token != token ?? held.token { return .taken(token: held.token) }
        free(held, &access)
        return .deleted
    }

    mutating func expire(
        _ name: String, renewed: Revision, _ access: inout some StateAccess
    ) throws(StoreError) -> SpaceResult.Outcome {
        guard let held = try SpaceLock.read(name, access), held.renewed == renewed else { return .notFound }
        free(held, &access)
        return .deleted
    }

    private mutating func free(_ lock: SpaceLock, _ access: inout some StateAccess) {
        summary.locks -= 1
        access.delete(SpaceKey.lock(lock.name))
        access.delete(SpaceKey.renewal(lock.renewed, lock.name))
    }

    /// Why a command under a lock is not carried out.
    func refusal(of fence: SpaceFence, _ access: some OrderedReader) throws(StoreError) -> SpaceRefusal? {
        let held = try SpaceLock.read(fence.lock, access)
        return held?.token == fence.token ? nil : .lockLost(held: held?.token)
    }
}
