package import ClusterBase

/// What changed in a `CellView`, so that controllers look at nothing else.
package struct CellChanges: Hashable, Sendable {
    /// Everything may have changed: it was loaded anew.
    package var isWhole = false
    /// Ascending, each once.
    package var hosts: [HostID] = []
    package var vms: [VMID] = []
    package var groups: [PlacementGroupID] = []
    package var slices: [String] = []
    package var settingsChanged = false
    package init() {}
    package var isEmpty: Bool {
        !isWhole && hosts.isEmpty && vms.isEmpty && groups.isEmpty && slices.isEmpty && !settingsChanged
    }
}

/// A follower's copy of a cell's state: what its controllers plan with.
///
///     empty ──(all rows, page by page)──▶ current ──(changes since `through`)──▶ current ──(compacted)──▶ empty, but readable
package struct CellView: Sendable {
    // hash order: looked up, or read by sorted keys
    package private(set) var hosts: [HostID: CellHost] = [:]
    // hash order: looked up, or read by sorted keys
    package private(set) var vms: [VMID: CellVM] = [:]
    // hash order: looked up, or read by sorted keys
    package private(set) var groups: [PlacementGroupID: CellGroup] = [:]
    // hash order: looked up, or read by sorted keys
    package private(set) var slices: [String: TenantSlice] = [:]
    // hash order: looked up only
    package private(set) var settings: [CellSetting: UInt64] = [:]
    /// The cell's time when it was last heard.
    package private(set) var time = LogTime.zero
    /// Everything up to this entry is in here; nil while rows are loaded for the first time.
    package private(set) var through: LogIndex?

    /// What is kept free for losses, by the state `through`; nil for nothing.
    package private(set) var reserve: ReserveStanding?

    private indirect enum Load: Sendable {
        case none
        /// What came so far, the state of the first page, and where the list goes on.
        case rows(CellView, since: LogIndex, after: [UInt8]?)
    }
    private var load = Load.none
    /// VMs by the number of their phase.
    private var phaseCounts = [Int](repeating: 0, count: CellVM.Phase.allCases.count + 1)

    package init() {}

    /// How many VMs are in a phase. Counted as they change, not when asked.
    package func count(of phase: CellVM.Phase) -> Int { phaseCounts[Int(phase.rawValue)] }

    package subscript(setting: CellSetting) -> UInt64 { settings[setting] ?? setting.standard }

    /// What to ask next.
    package var nextQuery: CellQuery {
        if case .rows(_, _, let after) = load { return .rows(after: after, limit: 0) }
        if let through { return .changes(since: through, limit: 0) }
        return .rows(after: nil, limit: 0)
    }

    /// Takes in the answer to `nextQuery` and says what changed. After an answer that no correct cell gives, everything is
    /// loaded again.
    package mutating func take(_ answer: CellAnswer) -> CellChanges {
        switch answer.body {
        case .rows(let rows, let resumeAfter):
            // Each page is taken in as it comes, so that no step does the work of all.
            var fresh = CellView()
            var since = answer.index
            if case .rows(let known, let first, _) = load {
                load = .none
                (fresh, since) = (known, first)
            }
            var changes = CellChanges()
            for row in rows where !fresh.set(row, &changes) { return beginAgain() }
            guard resumeAfter == nil else {
                load = .rows(fresh, since: since, after: resumeAfter)
                return CellChanges()
            }
            fresh.through = since
            fresh.time = max(time, answer.time)
            fresh.reserve = answer.reserve
            self = fresh
            changes = CellChanges()
            changes.isWhole = true
            return changes
        case .changes(let rows, let changed):
            guard let through, changed >= through, case .none = load else { return beginAgain() }
            var changes = CellChanges()
            for row in rows where !set(row, &changes) { return beginAgain() }
            self.through = changed
            // Of a later state where the answer was cut: the next one brings what belongs to it.
            reserve = answer.reserve
            time = max(time, answer.time)
            changes.hosts.sort()
            changes.vms.sort()
            changes.groups.sort()
            changes.slices.sort()
            return changes
        case .compacted, .work, .workChanges, .events, .refused: return beginAgain()
        }
    }

    private mutating func beginAgain() -> CellChanges {
        through = nil
        load = .none
        return CellChanges()
    }

    /// False when the row is none that this version can read.
    private mutating func set(_ row: CellRow, _ changes: inout CellChanges) -> Bool {
        guard let content = row.content else { return false }
        set(content, &changes)
        return true
    }

    private mutating func set(_ content: CellRowContent, _ changes: inout CellChanges) {
        switch content {
        case .host(let id, let host):
            hosts[id] = host
            changes.hosts.append(id)
        case .vm(let id, let vm):
            if let old = vms[id] { phaseCounts[Int(old.phase.rawValue)] -= 1 }
            if let vm { phaseCounts[Int(vm.phase.rawValue)] += 1 }
            vms[id] = vm
            changes.vms.append(id)
        case .group(let id, let group):
            groups[id] = group
            changes.groups.append(id)
        case .slice(let tenant, let slice):
            slices[tenant] = slice
            changes.slices.append(tenant)
        case .setting(let setting, let value):
            settings[setting] = value
            changes.settingsChanged = true
        case .tombstone, .move, .remains, .arrival, .hostMove, .hostArrival, .unknownTable: break
        }
    }

    /// Takes in rows as they would be: for a copy in which something is played through, and that nobody follows with.
    package mutating func suppose(_ contents: [CellRowContent], at time: LogTime) -> CellChanges {
        var changes = CellChanges()
        for content in contents { set(content, &changes) }
        self.time = max(self.time, time)
        changes.hosts.sort()
        changes.vms.sort()
        changes.groups.sort()
        changes.slices.sort()
        return changes
    }
}

/// A row as what it holds; without a value it is gone.
package enum CellRowContent: Hashable, Sendable {
    case host(HostID, CellHost?)
    case vm(VMID, CellVM?)
    case group(PlacementGroupID, CellGroup?)
    case slice(String, TenantSlice?)
    case setting(CellSetting, UInt64?)
    case tombstone(VMID, CellTombstone?)
    case move(UInt64, CellMove?)
    case remains(VMID, CellRemains?)
    case arrival(VMID, CellVM.Arrival?)
    case hostMove(UInt64, HostMove?)
    case hostArrival(HostID, HostArrival?)
    /// A table or setting of a newer version is not for this one.
    case unknownTable
}
