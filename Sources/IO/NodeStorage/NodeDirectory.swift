package import ClusterBase
internal import Glibc
internal import NodePorts
package import RaftCore
package import StoreLayout

/// A node's data directory, open.
///
///     LOCK       held by the process that has it open, whose number is in it
///     FORMAT     the version of this layout, before anything else is touched
///     raft/      the log store: logs, votes, whose directory it is; synced
///     state/     the applied state; flushed
///     incoming/  files of snapshots on their way into state/
///     horizon    the number of the newest acknowledged write
///     reserve    space put by for when the disk is full
///     DAMAGED    only while what is damaged is being marked
///     raft.damaged, state.damaged   the next start replaces that store by a copy of what is whole of it
///
/// Damage is found at opening and never repaired in place: every replica that may have lost something is then marked as
/// damaged, which keeps it from voting and acknowledging, and `findings` say what was found.
package final class NodeDirectory: Sendable {
    package static let formatVersion: UInt32 = 1

    package let path: String
    package let identity: NodeIdentity
    package let log: LogStore
    package let state: StateStore
    /// What was found damaged at opening, in sentences; empty as a rule.
    package let findings: [String]
    let horizon: HorizonFile
    let settings: DirectorySettings
    private let lock: DirectoryLock

    // MARK: Making and opening

    /// Makes the directory of a node that is new, and opens it. What is there may be an earlier try that was cut short, and
    /// what the caller names.
    package static func create(
        _ path: String, _ identity: NodeIdentity, _ settings: DirectorySettings = DirectorySettings(),
        besides others: [String] = []
    ) throws(DataDirectoryRefusal) -> NodeDirectory {
        let opening = Opening(path, settings)
        let directory = try opening.open(try opening.prepare(besides: others), identity, isNew: true)
        var log = directory.log
        do throws(DirectoryRefusal) {
            try StoredLog.format(identity, in: &log)
        } catch {
            throw .refused(path: path, error)
        }
        return directory
    }

    /// Whether `create` would find the directory fit, before anything is made.
    package static func checkVacant(_ path: String, besides others: [String]) throws(DataDirectoryRefusal) {
        try Opening(path, DirectorySettings()).checkVacant(besides: others)
    }

    /// Opens a node's directory. Without `identity`, whose it is is taken from it.
    package static func open(
        _ path: String, _ identity: NodeIdentity? = nil, _ settings: DirectorySettings = DirectorySettings()
    ) throws(DataDirectoryRefusal) -> NodeDirectory {
        if !Files.exists(path + "/FORMAT") { throw .refused(path: path, .notFormatted) }
        let opening = Opening(path, settings)
        let lock = try DirectoryLock(path)
        try opening.checkFormat()
        return try opening.open(lock, identity, isNew: false)
    }

    init(
        path: String, identity: NodeIdentity, log: LogStore, state: StateStore, findings: [String],
        horizon: HorizonFile, settings: DirectorySettings, lock: DirectoryLock
    ) {
        self.path = path
        self.identity = identity
        self.log = log
        self.state = state
        self.findings = findings
        self.horizon = horizon
        self.settings = settings
        self.lock = lock
    }

    /// Ends the stores' background work, makes everything durable that can be, and refuses further writes. The files are
    /// closed, and the directory is free for another process, when the last reference to it, its stores and their views
    /// is gone. The threads that write to it are stopped before.
    package func stop() {
        log.stop()
        state.stop()
        // It is written before anyone hears of a write; only a loss of power within this second needs it synced.
        try? horizon.sync()
    }

    // MARK: Reading

    /// Durable entries of a group, as `WorldPorts` wants them.
    package func entries(
        of group: GroupID, from: LogIndex, through: LogIndex, bytesMax: Int
    ) throws(StoreError) -> [Entry] {
        try StoredLog.entries(group, from: from, through: through, bytesMax: bytesMax, in: log)
    }

    // MARK: Space

    private var reservePath: String { path + "/reserve" }

    /// The space of the file system now; nil when it can't be asked.
    package var space: DiskSpace? { DiskSpace(at: path) }

    /// What is to be put by for when the disk is full, as long as it is not there.
    package func reserveOwed(_ space: DiskSpace) -> UInt64 { hasReserve ? 0 : settings.reserve(of: space) }

    /// Gives the reserve back to the file system.
    package func releaseReserve() throws(StoreError) { try Files.remove(reservePath, in: path) }

    /// Puts the reserve by if it is not there; false when there is no space for it.
    @discardableResult package func restoreReserve() throws(StoreError) -> Bool {
        try Opening(path, settings).makeReserve()
    }

    /// Whether all of it is there.
    package var hasReserve: Bool {
        guard let byteCount = Files.byteCount(reservePath) else { return false }
        return space.map { byteCount >= settings.reserve(of: $0) } ?? true
    }
}
