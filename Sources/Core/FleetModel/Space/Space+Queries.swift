package import ClusterBase

extension Space {
    /// Answers from the state as it stands. Throws only when the state can't be read.
    package static func read(_ query: SpaceQuery, _ access: some OrderedReader) throws(StoreError) -> SpaceAnswer {
        let summary = try SpaceSummary.read(access)
        let body: SpaceAnswer.Body
        switch query {
        case _ where summary.hasEnded: body = .refused(.ended)
        case .get(let key):
            if let refusal = refusal(ofKey: key) {
                body = .refused(refusal)
            } else {
                body = .record(try get(key, access))
            }
        case .list(let prefix, let after, let limit):
            if let refusal = refusal(ofPrefix: prefix) ?? after.flatMap(refusal(ofPrefix:)) {
                body = .refused(refusal)
            } else {
                body = try list(prefix, after: after, limit: bounded(limit), access)
            }
        case .lock(let name):
            if let refusal = refusal(ofLock: name) {
                body = .refused(refusal)
            } else {
                body = .locks(try SpaceLock.read(name, access).map { [$0] } ?? [], resumeAfter: nil)
            }
        case .locks(let prefix, let after, let limit):
            body = try locks(prefix: prefix, after: after, limit: bounded(limit), access)
        case .renewals(let after, let limit): body = try renewals(after: after, limit: bounded(limit), access)
        case .changes(let since, let prefix, let limit):
            if let refusal = refusal(ofPrefix: prefix) {
                body = .refused(refusal)
            } else {
                body = try changes(since: since, prefix, limit: bounded(limit), summary, access)
            }
        }
        return SpaceAnswer(revision: summary.applied == .zero ? .zero : .end(of: summary.applied), body: body)
    }

    private static func bounded(_ limit: Int) -> Int {
        limit <= 0 ? SpaceLimits.answerCountMax : min(limit, SpaceLimits.answerCountMax)
    }

    private static func refusal(ofPrefix prefix: [UInt8]) -> SpaceRefusal? {
        prefix.count > SpaceLimits.keyBytesMax ? .keyTooLong(UInt64(prefix.count)) : nil
    }

    private static func get(_ key: [UInt8], _ access: some OrderedReader) throws(StoreError) -> SpaceRecord? {
        guard let stored = try access.row(for: SpaceKey.user(key)) else { return nil }
        guard let record = record(key, stored) else { throw Head.corrupt(key.count, stored.count) }
        return record
    }

    private static func record(_ key: [UInt8], _ stored: StoredRow) -> SpaceRecord? {
        guard let head = Head(stored) else { return nil }
        return SpaceRecord(
            key: key, value: stored.value(from: Head.byteCount), created: head.created, modified: head.modified,
            version: head.version)
    }

    private static func list(
        _ prefix: [UInt8], after: [UInt8]?, limit: Int, _ access: some OrderedReader
    ) throws(StoreError) -> SpaceAnswer.Body {
        var range = KeyRange.prefix(SpaceKey.user(prefix))
        if let after {
            let next = SpaceKey.user(after + [0])
            if range.from.precedes(next) { range.from = next }
        }
        var records: [SpaceRecord] = []
        var bytes = 0
        var hasMore = false
        var failure: StoreError?
        try access.scan(range) { key, stored in
            let isFull = records.count == limit || bytes + stored.count > SpaceLimits.answerBytesMax
            if isFull && !records.isEmpty {
                hasMore = true
                return false
            }
            let userKey = Array(key.dropFirst())
            guard let record = record(userKey, StoredRow(stored, valueCount: stored.count)) else {
                failure = Head.corrupt(userKey.count, stored.count)
                return false
            }
            bytes += key.count + stored.count
            records.append(record)
            return true
        }
        if let failure { throw failure }
        return .page(records, resumeAfter: hasMore ? records.last?.key : nil)
    }

    private static func changes(
        since: Revision, _ prefix: [UInt8], limit: Int, _ summary: SpaceSummary, _ access: some OrderedReader
    ) throws(StoreError) -> SpaceAnswer.Body {
        let compacted = summary.compactedThrough == .zero ? Revision.zero : .end(of: summary.compactedThrough)
        if since < compacted { return .compacted(compacted) }
        // Its watcher saw a state that a forced recovery has given up, or another space's: what came instead was never told.
        if summary.applied != .zero, since > .end(of: summary.applied) { return .compacted(.end(of: summary.applied)) }
        // A watcher that has seen the end of an entry goes on with the next; one that stopped inside, inside.
        let range = KeyRange(
            from: SpaceKey.history(since.index), to: successor(ofPrefix: [SpaceKey.Kind.history]))
        var found: [SpaceChange] = []
        var bytes = 0
        var scanned = 0
        var through = since
        var isCut = false
        var isBad = false
        try access.scan(range) { key, record in
            guard let index = key.bigEndian64(at: 1) else {
                isBad = true
                return false
            }
            if scanned > SpaceLimits.watchScanBytesMax {
                isCut = true
                return false
            }
            scanned += record.count
            let isWhole = HistoryRecord.read(record) { change in
                if change.revision <= since { return true }
                if change.key.starts(with: prefix) {
                    let size = change.byteCount
                    let isFull = found.count == limit || bytes + size > SpaceLimits.answerBytesMax
                    if isFull && !found.isEmpty {
                        isCut = true
                        return false
                    }
                    bytes += size
                    found.append(change)
                }
                through = change.revision
                return true
            }
            if !isWhole { isBad = true }
            if isBad || isCut { return false }
            through = max(through, .end(of: LogIndex(index)))
            return true
        }
        if isBad { throw StoreError(.corrupt, "a history record after revision \(through) is malformed") }
        if !isCut && summary.applied != .zero { through = .end(of: summary.applied) }
        return .changes(found, through: through)
    }
}

extension SpaceChange {
    /// What it counts for in the bound of an answer.
    var byteCount: Int {
        switch self {
        case .written(let record): record.key.count + record.value.count + 32
        case .deleted(let key, _): key.count + 32
        }
    }
}
