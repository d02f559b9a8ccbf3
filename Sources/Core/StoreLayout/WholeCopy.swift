package import ClusterBase
internal import RaftCore
internal import Schema

// What is whole of a store that has rot in its files, for another store that takes its place.
//
// A read that comes to a rotten block fails, and never gives an older value in place of what the block held: what was
// read to its end is what was written.

/// A replica of which a copy could not take everything.
package struct CopyLoss: Hashable, Sendable {
    package var group: GroupID
    package var reason: String
}

/// Rows that are written at once.
private let copyBytes = 4 << 20

extension StoredLog {
    /// Copies all that a log store holds of this node, as the bytes lie there, in bounded batches into a store that is empty:
    /// the node's record and every log that is whole. What is left of one that is not is the record that it is damaged.
    package static func copyWhole(
        from store: some OrderedReader, _ write: (WriteBatch) throws(StoreError) -> Void
    ) throws(StoreError) -> [CopyLoss] {
        var lost: [CopyLoss] = []
        var batch = WriteBatch()
        try copy(LogKey.node, store, &batch)
        for group in try groups(in: store) {
            switch try restore(group, cacheBytesMax: 0, in: store) {
            case .none: break
            case .tombstone(let replica): putReplica(replica, .tombstone, group, into: &batch)
            case .damaged(let replica, let reason):
                lost.append(CopyLoss(group: group, reason: reason))
                if let replica {
                    putReplica(replica, .damaged, group, into: &batch)
                } else {
                    // No record at all would make a group of it that was never here.
                    batch.put(LogKey.replica(group), [])
                }
            case .log(_, let log, _):
                for key in [LogKey.base(group), LogKey.hardState(group), LogKey.replica(group), LogKey.snapshot(group)]
                {
                    try copy(key, store, &batch)
                }
                let entries = KeyRange(
                    from: LogKey.entry(group, log.base.index.next), to: LogKey.entry(group, log.last.next))
                try copyRows(entries, store, &batch, write)
            }
            if batch.byteCount >= copyBytes { try flush(&batch, write) }
        }
        try flush(&batch, write)
        return lost
    }

    private static func copy(
        _ key: [UInt8], _ store: some OrderedReader, _ batch: inout WriteBatch
    ) throws(StoreError) {
        if let value = try store.value(for: key) { batch.put(key, value) }
    }
}

extension StoredState {
    /// Copies the state of these groups, as the bytes lie there, in bounded batches into a store that is empty. Of one that can't
    /// be read to its end nothing is left.
    package static func copyWhole(
        of groups: [GroupID], from store: some OrderedReader, _ write: (WriteBatch) throws(StoreError) -> Void
    ) throws(StoreError) -> [CopyLoss] {
        var lost: [CopyLoss] = []
        for group in groups {
            var batch = WriteBatch()
            do throws(CopyFailure) {
                try copyReadable(StateKey.group(group), store, &batch, write)
            } catch {
                guard case .read(let failure) = error, failure.code == .corrupt else { throw error.failure }
                lost.append(CopyLoss(group: group, reason: failure.message))
                batch.removeAll()
                batch.delete(StateKey.group(group))
            }
            try flush(&batch, write)
        }
        return lost
    }
}

private enum CopyFailure: Error {
    case read(StoreError)
    case write(StoreError)

    var failure: StoreError {
        switch self {
        case .read(let failure), .write(let failure): failure
        }
    }
}

private func copyRows(
    _ range: KeyRange, _ store: some OrderedReader, _ batch: inout WriteBatch,
    _ write: (WriteBatch) throws(StoreError) -> Void
) throws(StoreError) {
    do throws(CopyFailure) {
        try copyReadable(range, store, &batch, write)
    } catch {
        throw error.failure
    }
}

private func copyReadable(
    _ range: KeyRange, _ store: some OrderedReader, _ batch: inout WriteBatch,
    _ write: (WriteBatch) throws(StoreError) -> Void
) throws(CopyFailure) {
    var rest = range
    var isMore = true
    while isMore {
        isMore = false
        var rows = batch
        do throws(StoreError) {
            try store.scan(rest) { key, value in
                rows.put(key, value)
                isMore = rows.byteCount >= copyBytes
                return !isMore
            }
        } catch {
            throw .read(error)
        }
        batch = rows
        guard isMore, case .put(let last, _)? = batch.operations.last else { return }
        rest.from = last + [0]
        do throws(StoreError) {
            try flush(&batch, write)
        } catch {
            throw .write(error)
        }
    }
}

private func flush(
    _ batch: inout WriteBatch, _ write: (WriteBatch) throws(StoreError) -> Void
) throws(StoreError) {
    if batch.isEmpty { return }
    try write(batch)
    batch.removeAll()
}
