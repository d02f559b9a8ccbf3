package import ClusterBase

/// Rows in memory over a store that is slower to read and to write: what is not in the store yet, and what was put there
/// last.
///
///     add ─▶ fresh ──(beginDraining)──▶ leaving ──(endDraining)──▶ kept, until the next ones come
///                                          └─▶ into the store, in one batch
///
/// All rows of a draining are one batch, so that the store holds a prefix of what was added whenever it ends: a crash
/// loses the rows here, and nothing of what lies before them. A row without a value hides one in the store.
package struct WriteBack: Sendable {
    private var fresh = SortedTable()
    private var leaving: SortedTable?
    private var kept = SortedTable()

    package init() {}

    /// Bytes of keys and values that are not on their way to the store yet.
    package var freshByteCount: Int { fresh.byteCount }
    /// Bytes of all keys and values in memory.
    package var byteCount: Int { fresh.byteCount + (leaving?.byteCount ?? 0) + kept.byteCount }

    /// Adds the changes of a batch without deletions of ranges, which are for a store to know.
    package mutating func add(_ batch: WriteBatch) {
        for operation in batch.operations {
            switch operation {
            case .put(let key, let value): fresh.put(key, value)
            case .delete(let key): fresh.mark(key)
            case .deleteRange(let range):
                preconditionFailure("the range from \(range.from) was to be deleted in memory")
            }
        }
    }

    /// The rows to put into the store now, all or none of them; nil when there are none. After that comes `endDraining`,
    /// and no other draining before it.
    package mutating func beginDraining() -> SortedTable? {
        precondition(leaving == nil, "a draining began before the last one ended")
        if fresh.isEmpty { return nil }
        let table = fresh
        fresh = SortedTable()
        leaving = table
        return table
    }

    /// The store has the rows. Gives back those that are forgotten for them, to be let go where it delays nobody.
    package mutating func endDraining() -> SortedTable {
        guard let table = leaving else { preconditionFailure("a draining ended that never began") }
        leaving = nil
        let forgotten = kept
        kept = table
        return forgotten
    }

    /// Forgets what the store holds anyway: something else has changed it there. Not while rows are leaving.
    package mutating func forgetKept() -> SortedTable {
        precondition(leaving == nil, "rows that may not be in the store yet would be forgotten")
        let forgotten = kept
        kept = SortedTable()
        return forgotten
    }

    /// What is known of a key: nil for nothing, a row without a value, or a value.
    package func row(of key: [UInt8]) -> [UInt8]?? {
        if let row = fresh.row(of: key) { return row }
        if let row = leaving?.row(of: key) { return row }
        return kept.row(of: key)
    }

    /// Calls `body` for the rows of a range in the store under these, ascending, until it returns false.
    package func scan(
        _ range: KeyRange, over store: some OrderedReader, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool
    ) throws(StoreError) {
        var pending = next(range, range.from, isAfter: false)
        if pending == nil { return try store.scan(range, body) }
        var isDone = false
        try store.scan(range) { key, value in
            while let row = pending, row.key.precedes(key) {
                pending = next(range, row.key, isAfter: true)
                if let value = row.value, !body(row.key, value) {
                    isDone = true
                    return false
                }
            }
            if let row = pending, row.key == key {
                pending = next(range, key, isAfter: true)
                if let value = row.value { isDone = !body(key, value) }
            } else {
                isDone = !body(key, value)
            }
            return !isDone
        }
        while !isDone, let row = pending {
            pending = next(range, row.key, isAfter: true)
            if let value = row.value { isDone = !body(row.key, value) }
        }
    }

    /// The first row of the range from a key on; where tables hold the same key, the newest one's.
    private func next(
        _ range: KeyRange, _ key: [UInt8], isAfter: Bool
    ) -> (key: [UInt8], value: [UInt8]?)? {
        var found = fresh.first(from: key, isAfter: isAfter)
        if let other = leaving?.first(from: key, isAfter: isAfter), found.map({ other.key.precedes($0.key) }) ?? true {
            found = other
        }
        if let other = kept.first(from: key, isAfter: isAfter), found.map({ other.key.precedes($0.key) }) ?? true {
            found = other
        }
        guard let found, range.contains(found.key) else { return nil }
        return found
    }
}

extension SortedTable {
    /// The rows as changes of a store: a put for a value, a deletion for a row without one.
    package var batch: WriteBatch {
        var batch = WriteBatch()
        forEachRow { key, value in
            if let value { batch.put(key, value) } else { batch.delete(key) }
        }
        return batch
    }
}

extension WriteBatch {
    /// Whether it deletes a range.
    package var deletesRange: Bool {
        operations.contains { operation in
            if case .deleteRange = operation { true } else { false }
        }
    }
}
