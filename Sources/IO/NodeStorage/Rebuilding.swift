internal import ClusterBase
internal import Glibc
internal import KeyValueStore
internal import RaftCore
internal import StoreLayout

/// One of the two stores of a data directory, and how it is replaced by a copy of what is whole of it.
///
/// A rotten block is found by whoever reads it, and concerns the replica that it is of. RocksDB's merging of files reads it for
/// nobody, and fails every write from then on, at each start again; what is read meanwhile stays whole. So the store is
/// marked, the process ends, and its next start copies what can be read to its end:
///
///     NAME.damaged │ NAME            ─▶ NAME.rebuilt grows; a start that ends here begins anew
///     NAME.damaged │ NAME.old        ─▶ NAME.rebuilt is whole
///     NAME.damaged │ NAME, NAME.old  ─▶ NAME is the copy; the others go, the mark last
struct Rebuilding {
    let directory: String
    let name: String

    var folder: String { directory + "/" + name }
    private var mark: String { folder + ".damaged" }
    private var rebuilt: String { folder + ".rebuilt" }
    private var old: String { folder + ".old" }

    var isWanted: Bool { Files.exists(mark) }

    /// Has the next start rebuild the store.
    func want(_ failure: StoreError) {
        // Without it the next start fails in the same way, and tries this again.
        try? Files.write(Array((failure.message + "\n").utf8), to: mark, in: directory)
    }

    /// Why the store is rebuilt.
    func reason() throws(StoreError) -> String {
        let text = String(decoding: try Files.read(mark) ?? [], as: UTF8.self)
        return String(text.prefix { $0 != "\n" && $0 != "\0" })
    }

    /// Ends a switch that an earlier start began, and forgets a copy that none finished.
    func settle() throws(StoreError) {
        if Files.exists(old) {
            if !Files.exists(folder) { try rename(rebuilt, to: folder) }
            try finish()
        } else if Files.exists(rebuilt) {
            try Files.removeFlatFolder(rebuilt)
        }
    }

    /// Has `fill` make the copy at the given path, and puts it in the store's place, unless there is nothing to copy.
    /// Both stores are closed when it returns: a store that closes removes files by their names.
    func replace(
        _ fill: (_ path: String) throws(DataDirectoryRefusal) -> [CopyLoss]?
    ) throws(DataDirectoryRefusal) -> [CopyLoss]? {
        let lost: [CopyLoss]?
        do throws(DataDirectoryRefusal) {
            lost = try fill(rebuilt)
        } catch {
            // It takes space. The next start removes what of it stays.
            if Files.exists(rebuilt) { try? Files.removeFlatFolder(rebuilt) }
            throw error
        }
        guard let lost else { return nil }
        do throws(StoreError) {
            try Files.syncFolder(rebuilt)
            try rename(folder, to: old)
            try rename(rebuilt, to: folder)
            try finish()
        } catch {
            throw .store(error)
        }
        return lost
    }

    /// Of a store that began anew there is nothing to be copied.
    func forget() throws(StoreError) {
        if isWanted { try Files.remove(mark, in: directory) }
    }

    private func finish() throws(StoreError) {
        try Files.removeFlatFolder(old)
        try Files.remove(mark, in: directory)
    }

    private func rename(_ from: String, to: String) throws(StoreError) {
        if Glibc.rename(from, to) != 0 { throw Files.failure("rename the directory", from, errno) }
        try Files.syncFolder(directory)
    }

    /// The copy may take as much again.
    func checkSpace() throws(StoreError) {
        var byteCount: UInt64 = 0
        for file in try Files.names(in: folder) { byteCount += Files.byteCount(folder + "/" + file) ?? 0 }
        guard let space = DiskSpace(at: directory), space.freeBytes < byteCount else { return }
        throw StoreError(
            .noSpace,
            "the store \(folder) is damaged, and a copy of what is whole of it needs up to \(byteCount >> 20) MB, of which "
                + "\(space.freeBytes >> 20) are free")
    }
}

extension Opening {
    var logRebuilding: Rebuilding { Rebuilding(directory: path, name: "raft") }
    var stateRebuilding: Rebuilding { Rebuilding(directory: path, name: "state") }

    /// Replaces a log store whose files can't be merged any more. What it has forgotten already is where rot may lie without
    /// loss: replicas whose logs are whole go on, the others are marked as damaged. A store that has lost writes besides
    /// stays until all its replicas are marked.
    func rebuildLog(_ identity: NodeIdentity?, _ notes: inout [String]) throws(DataDirectoryRefusal) {
        let rebuilding = logRebuilding
        guard rebuilding.isWanted, !Files.exists(markerPath) else { return }
        let reason = try storing { () throws(StoreError) in try rebuilding.reason() }
        let lost = try rebuilding.replace { copy throws(DataDirectoryRefusal) in try copyLog(to: copy, identity) }
        guard let lost else { return }
        notes.append("the log store had rot in its files, and was replaced by a copy of what is whole (\(reason))")
        notes += lost.map(\.reason)
    }

    private func copyLog(
        to path: String, _ identity: NodeIdentity?
    ) throws(DataDirectoryRefusal) -> [CopyLoss]? {
        guard let found = try openRotten(logRebuilding, settings.log(cache)) else { return nil }
        var findings: [String] = []
        let last = try lastNumber(found, &findings)
        if !findings.isEmpty { return nil }
        _ = try owner(found, identity, isNew: false, findings)
        try storing { () throws(StoreError) in try logRebuilding.checkSpace() }
        let copy = try makeStore(path, settings.log(cache))
        var lost: [CopyLoss] = []
        do throws(StoreError) {
            lost = try StoredLog.copyWhole(from: found) { batch throws(StoreError) in
                try copy.write(batch, isSynced: true)
            }
            try copy.write(WriteBatch(), number: last, forgetBelow: nil)
        } catch {
            // Which groups it has can't be read.
            throw error.code == .corrupt ? .refused(path: self.path, .damaged(error.message)) : .store(error)
        }
        copy.stop()
        found.stop()
        return lost
    }

    /// The same of the state store: what can't be read of it is had again, from the log or from others.
    func rebuildState(of groups: [GroupID], _ notes: inout [String]) throws(DataDirectoryRefusal) {
        let rebuilding = stateRebuilding
        guard rebuilding.isWanted else { return }
        let reason = try storing { () throws(StoreError) in try rebuilding.reason() }
        let lost = try rebuilding.replace { copy throws(DataDirectoryRefusal) in try copyState(of: groups, to: copy) }
        guard let lost else { return }
        notes.append("the state store had rot in its files, and was replaced by a copy of what is whole (\(reason))")
        notes += lost.map { "the state of group \($0.group) is lost here, and is to be had again: \($0.reason)" }
    }

    private func copyState(of groups: [GroupID], to path: String) throws(DataDirectoryRefusal) -> [CopyLoss]? {
        guard let found = try openRotten(stateRebuilding, settings.state(cache)) else { return nil }
        try storing { () throws(StoreError) in try stateRebuilding.checkSpace() }
        let copy = try makeStore(path, settings.state(cache))
        let lost = try storing { () throws(StoreError) in
            let lost = try StoredState.copyWhole(of: groups, from: found) { batch throws(StoreError) in
                try copy.write(batch, isSynced: false)
            }
            try copy.flush()
            return lost
        }
        copy.stop()
        found.stop()
        return lost
    }

    /// Nil when it does not even open, which is for others to deal with.
    private func openRotten(
        _ rebuilding: Rebuilding, _ settings: StoreSettings
    ) throws(DataDirectoryRefusal) -> RocksStore? {
        do throws(StoreOpenFailure) {
            return try RocksStore(rebuilding.folder, settings)
        } catch {
            if case .store(let failure) = error, failure.code == .corrupt { return nil }
            throw refusal(error)
        }
    }

    private func makeStore(_ path: String, _ settings: StoreSettings) throws(DataDirectoryRefusal) -> RocksStore {
        do throws(StoreOpenFailure) {
            return try RocksStore(path, settings)
        } catch {
            throw refusal(error)
        }
    }
}
