internal import BinaryCoding
package import ClusterBase
internal import Schema

extension Root {
    /// Answers from the state as it stands. Throws only when the state can't be read.
    package static func read(_ query: RootQuery, _ access: some OrderedReader) throws(StoreError) -> RootAnswer {
        let summary = try RootSummary.read(access)
        return RootAnswer(index: summary.applied, time: summary.time, body: try body(of: query, summary, access))
    }

    private static func body(
        of query: RootQuery, _ summary: RootSummary, _ access: some OrderedReader
    ) throws(StoreError) -> RootAnswer.Body {
        switch query {
        case .list(let table, let after, let limit):
            let last = after.map { table.key($0) }
            return try page(.prefix([table.kind]), after: last, bounded(limit), 1, access) { _ in true }
        case .one(let table, let key): return try one(table.key(key), access)
        case .nodeNamed(let name):
            guard let key = try access.value(for: RootKey.nodeName(name)) else { return .rows([], resumeAfter: nil) }
            return try one(key, access)
        case .operatorWith(let credential):
            guard let name = try access.value(for: RootKey.credential(credential)) else {
                return .rows([], resumeAfter: nil)
            }
            return try one(RootTable.operators.key(name), access)
        case .changes(let since, let limit): return try changes(since, bounded(limit), summary, access)
        case .rows(let after, let limit):
            let all = KeyRange(from: [RootTable.cluster.kind], to: [RootTable.latencies.kind + 1])
            return try page(all, after: after, bounded(limit), 0, access) {
                $0.first.flatMap(RootTable.init(kind:))?.isFollowed == true
            }
        }
    }

    private static func bounded(_ limit: Int) -> Int {
        limit <= 0 ? RootLimits.answerCountMax : min(limit, RootLimits.answerCountMax)
    }

    private static func one(_ key: [UInt8], _ access: some OrderedReader) throws(StoreError) -> RootAnswer.Body {
        guard let value = try access.value(for: key) else { return .rows([], resumeAfter: nil) }
        return .rows([RootRow(key: key, value: value)], resumeAfter: nil)
    }

    /// `skipped` bytes of a key are left out where the list says where it goes on.
    private static func page(
        _ range: KeyRange, after: [UInt8]?, _ limit: Int, _ skipped: Int, _ access: some OrderedReader,
        _ isWanted: ([UInt8]) -> Bool
    ) throws(StoreError) -> RootAnswer.Body {
        var range = range
        if let after, range.from.precedes(after + [0]) { range.from = after + [0] }
        var rows: [RootRow] = []
        var bytes = 0
        var hasMore = false
        try access.scan(range) { key, value in
            if !isWanted(key) { return true }
            if rows.count == limit || (!rows.isEmpty && bytes + key.count + value.count > RootLimits.answerBytesMax) {
                hasMore = true
                return false
            }
            bytes += key.count + value.count
            rows.append(RootRow(key: key, value: value))
            return true
        }
        return .rows(rows, resumeAfter: hasMore ? rows.last.map { Array($0.key.dropFirst(skipped)) } : nil)
    }

    /// Whole entries, at least one if there is any; of each row only its last change.
    private static func changes(
        _ since: LogIndex, _ limit: Int, _ summary: RootSummary, _ access: some OrderedReader
    ) throws(StoreError) -> RootAnswer.Body {
        if since < summary.compactedThrough { return .compacted(summary.compactedThrough) }
        if since > summary.applied { return .changes([], through: summary.applied) }
        var found: [RootRow] = []
        var bytes = 0
        var through = summary.applied
        var bad: [UInt8]?
        let range = KeyRange(from: RootKey.history(since.next), to: successor(ofPrefix: [RootKey.Kind.history]))
        var last = since
        try access.scan(range) { key, value in
            // The key says which record it is; how it is malformed helps nobody.
            guard let index = key.bigEndian64(at: 1), let history = try? WireRootHistory(serialized: value) else {
                bad = key
                return false
            }
            if !found.isEmpty
                && (found.count + history.rows.count > limit || bytes + value.count > RootLimits.answerBytesMax)
            {
                through = last
                return false
            }
            found += history.rows.map { RootRow($0) }
            bytes += value.count
            last = LogIndex(index)
            return true
        }
        if let bad { throw RootKey.corrupt(bad) }
        return .changes(found, through: through)
    }
}
