import ClusterBase
import FleetModel

/// What a keeper has asked of its cell and must not ask again yet.
///
///     asked ──(done at entry n)──▶ until the view shows n
///           ──(refused)──────────▶ for a time that doubles
///           ──(no answer)────────▶ for a while
struct CellLedger: Sendable {
    enum Key: Hashable, Sendable {
        case release(VMID, UInt64)
        case retry(VMID, UInt64)
        case giveUp(VMID, UInt64)
        case commit(VMID, UInt64)
        case cancel(VMID, UInt64)
        case down(HostID, Incarnation)
        case absence(HostID)
        case finishDrain(HostID)
        case endReturn(HostID)
        case endEnforcement(HostID)
        case slice(String)
        case reason(VMID)
        case garbage
        case time
        case leaseBefore(UInt64)
        case region(String, UInt64)
    }

    private enum Wait: Hashable, Sendable {
        case answer(until: Instant)
        case view(LogIndex, until: Instant)
        case time(Instant)
    }

    private struct Entry: Hashable, Sendable {
        var wait: Wait
        var refusals = 0
        /// When it was asked last.
        var askedAt: Instant?
    }

    static let refusedFirst = Nanoseconds.milliseconds(250)
    static let refusedDoublingsMax = 8
    /// An entry that has let go is forgotten this much later.
    private static let memory = Nanoseconds.seconds(120)

    // hash order: looked up, or filtered whole
    private var entries: [Key: Entry] = [:]

    var count: Int { entries.count }
    /// Those whose outcome is not known.
    private(set) var underWay = 0

    func mayAsk(_ key: Key, _ through: LogIndex, _ now: Instant) -> Bool {
        guard let entry = entries[key] else { return true }
        switch entry.wait {
        case .answer(let until), .time(let until): return now >= until
        case .view(let index, let until): return through >= index || now >= until
        }
    }

    /// It was asked, and its outcome is not known or not seen yet.
    func isUnderWay(_ key: Key) -> Bool {
        switch entries[key]?.wait {
        case .answer, .view: true
        case .time, nil: false
        }
    }

    /// How long ago something without an answer was asked.
    func waited(_ key: Key, _ now: Instant) -> Nanoseconds? {
        guard let entry = entries[key], case .answer = entry.wait, let askedAt = entry.askedAt else { return nil }
        return now - askedAt
    }

    /// What kept it from being asked is over. One whose outcome is not known stays.
    mutating func forget(_ key: Key) {
        if case .time = entries[key]?.wait { entries[key] = nil }
    }

    mutating func asked(_ key: Key, _ now: Instant) {
        var entry = entries[key] ?? Entry(wait: .time(now))
        if case .answer = entry.wait { underWay -= 1 }
        entry.wait = .answer(until: now + CellKeeper.patience)
        entry.askedAt = now
        underWay += 1
        entries[key] = entry
    }

    mutating func done(_ key: Key, at index: LogIndex, _ now: Instant) {
        guard let entry = entries[key] else { return }
        if case .answer = entry.wait { underWay -= 1 }
        entries[key] = Entry(wait: .view(index, until: now + CellKeeper.patience))
    }

    /// Also for what the node itself did not take up.
    mutating func refused(_ key: Key, _ now: Instant, for time: Nanoseconds? = nil) {
        guard var entry = entries[key] else { return }
        if case .answer = entry.wait { underWay -= 1 }
        let doublings = min(entry.refusals, CellLedger.refusedDoublingsMax)
        entry.refusals += 1
        entry.wait = .time(now + (time ?? CellLedger.refusedFirst * Int64(1 << doublings)))
        entries[key] = entry
    }

    /// Forgets what binds no more. O(entries).
    mutating func sweep(_ through: LogIndex, _ now: Instant) {
        entries = entries.filter { _, entry in
            switch entry.wait {
            case .answer(let until), .time(let until): now < until + CellLedger.memory
            case .view(let index, let until): through < index && now < until
            }
        }
        underWay = entries.values.count { if case .answer = $0.wait { true } else { false } }
    }
}

extension CellLedger.Key {
    /// Whose decision it is.
    var controller: CellKeeperCounts.Controller {
        switch self {
        case .release, .finishDrain, .endReturn, .endEnforcement: .drain
        case .retry, .giveUp: .restarts
        case .commit, .cancel: .migrations
        case .down, .absence, .leaseBefore: .health
        case .slice: .quotas
        case .reason: .reasons
        case .garbage, .time: .housekeeping
        case .region: .regions
        }
    }
}
