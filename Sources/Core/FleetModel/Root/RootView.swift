package import ClusterBase

/// A follower's copy of the root's state: what every node knows of the cluster, and what controllers plan with.
///
///     empty ──(all rows, page by page)──▶ current ──(changes since `through`)──▶ current ──(compacted)──▶ empty, but readable
///
/// Pages of one load may come from different states; the changes since the first page's state bring all rows up to date.
package struct RootView: Sendable {
    package private(set) var cluster: RootCluster?
    /// Ascending by id; removed ones too, as long as the root remembers them.
    package private(set) var nodes: [RootNode] = []
    package private(set) var authorities: [Authority] = []
    /// Ascending by name.
    package private(set) var spaces: [RootSpace] = []
    /// Ascending by group.
    package private(set) var placements: [GroupPlacement] = []
    package private(set) var operators: [Operator] = []
    package private(set) var backups: [BackupSchedule] = []
    package private(set) var recoveries: [RecoveryRecord] = []
    /// Ascending by name.
    package private(set) var cells: [RootCell] = []
    /// Ascending by name.
    package private(set) var tenants: [RootTenant] = []
    /// Ascending by group.
    package private(set) var cellReports: [CellReport] = []
    /// Ascending by tenant and name.
    package private(set) var images: [RootImage] = []
    /// Ascending by region.
    package private(set) var regionLinks: [RegionLinks] = []
    package private(set) var settings = RootSettings()
    /// The root's time when it was last heard.
    package private(set) var time = LogTime.zero
    /// Everything up to this entry is in here; nil while rows are loaded for the first time.
    package private(set) var through: LogIndex?

    private enum Load: Sendable {
        case none
        /// What came so far, the state of the first page, and where the list goes on.
        case rows([RootRow], since: LogIndex, after: [UInt8]?)
    }
    private var load = Load.none

    package init() {}

    /// What to ask next.
    package var nextQuery: RootQuery {
        if case .rows(_, _, let after) = load { return .rows(after: after, limit: 0) }
        if let through { return .changes(since: through, limit: 0) }
        return .rows(after: nil, limit: 0)
    }

    /// Takes in the answer to `nextQuery`. Returns whether the view changed; false, too, for an answer that no correct root
    /// gives, after which everything is loaded again.
    package mutating func take(_ answer: RootAnswer) -> Bool {
        switch answer.body {
        case .rows(let rows, let resumeAfter):
            var all: [RootRow] = []
            var since = answer.index
            if case .rows(let known, let first, _) = load { (all, since) = (known, first) }
            all += rows
            guard resumeAfter == nil else {
                load = .rows(all, since: since, after: resumeAfter)
                return false
            }
            load = .none
            return replace(with: all, at: since, answer.time)
        case .changes(let rows, let changed):
            // Another history: a restored or recovered root begins again.
            guard let through, changed >= through, case .none = load else { return beginAgain() }
            var isSound = true
            for row in rows { isSound = set(row) && isSound }
            if !isSound { return beginAgain() }
            self.through = changed
            time = max(time, answer.time)
            return !rows.isEmpty
        case .compacted, .refused: return beginAgain()
        }
    }

    private mutating func beginAgain() -> Bool {
        through = nil
        load = .none
        return false
    }

    private mutating func replace(with rows: [RootRow], at index: LogIndex, _ time: LogTime) -> Bool {
        var fresh = RootView()
        for row in rows where !fresh.set(row) { return beginAgain() }
        fresh.through = index
        fresh.time = max(time, self.time)
        self = fresh
        return true
    }

    /// False when the row is none that this version can read.
    private mutating func set(_ row: RootRow) -> Bool {
        switch row.table {
        case .cluster?: RootView.set(row) { cluster = $0 }
        case .nodes?: RootView.set(row, in: &nodes)
        case .authorities?: RootView.set(row, in: &authorities)
        case .spaces?: RootView.set(row, in: &spaces)
        case .placements?: RootView.set(row, in: &placements)
        case .operators?: RootView.set(row, in: &operators)
        case .backups?: RootView.set(row, in: &backups)
        case .recoveries?: RootView.set(row, in: &recoveries)
        case .cells?: RootView.set(row, in: &cells)
        case .tenants?: RootView.set(row, in: &tenants)
        case .cellReports?: RootView.set(row, in: &cellReports)
        case .images?: RootView.set(row, in: &images)
        case .latencies?: RootView.set(row, in: &regionLinks)
        case .settings?: setSetting(row)
        // A table of a newer version is not for this one.
        case .tokens?, .events?, nil: true
        }
    }

    private static func set<Record: RootRecord>(_ row: RootRow, _ assign: (Record?) -> Void) -> Bool {
        guard let value = row.value else {
            assign(nil)
            return true
        }
        guard let record = Record.decode(value) else { return false }
        assign(record)
        return true
    }

    private mutating func setSetting(_ row: RootRow) -> Bool {
        guard let number = row.key.bigEndian64(at: 1) else { return false }
        // One that only newer versions know.
        guard let setting = RootSetting(rawValue: UInt32(clamping: number)) else { return true }
        guard let value = row.value else {
            settings[setting] = setting.standard
            return true
        }
        guard let changed = RootSettingValue.decode(value) else { return false }
        settings[setting] = changed.value
        return true
    }

    private static func set<Record: RootRecord>(_ row: RootRow, in records: inout [Record]) -> Bool {
        let (at, isFound) = place(row.key, in: records)
        guard let value = row.value else {
            if isFound { records.remove(at: at) }
            return true
        }
        guard let record = Record.decode(value), record.rowKey == row.key else { return false }
        if isFound { records[at] = record } else { records.insert(record, at: at) }
        return true
    }

    private static func place<Record: RootRecord>(_ key: [UInt8], in records: [Record]) -> (at: Int, isFound: Bool) {
        var low = 0
        var high = records.count
        while low < high {
            let middle = (low + high) / 2
            if records[middle].rowKey.precedes(key) { low = middle + 1 } else { high = middle }
        }
        return (low, low < records.count && records[low].rowKey == key)
    }

    private static func find<Record: RootRecord>(_ key: [UInt8], in records: [Record]) -> Record? {
        let (at, isFound) = place(key, in: records)
        return isFound ? records[at] : nil
    }

    // MARK: Looking up

    package func node(_ id: NodeID) -> RootNode? { RootView.find(RootTable.nodes.key(id.rawValue), in: nodes) }
    /// Not a removed one.
    package func node(named name: String) -> RootNode? { nodes.first { $0.name == name && $0.state != .removed } }
    package func space(_ name: String) -> RootSpace? { RootView.find(RootTable.spaces.key(name), in: spaces) }
    package func cell(_ name: String) -> RootCell? { RootView.find(RootTable.cells.key(name), in: cells) }
    package func cell(_ group: GroupID) -> RootCell? { cells.first { $0.group == group } }
    /// How much room a cell has, as far as was heard.
    package func report(of cell: GroupID) -> CellReport? {
        RootView.find(RootTable.cellReports.key(cell.rawValue), in: cellReports)
    }
    /// Where hosts are that no other cell took.
    package var firstCell: RootCell? { cells.min { $0.group < $1.group } }
    /// The cell of a node's host, and the epoch of the map that put it there. Nil while there is none yet.
    package func assignment(of node: NodeID) -> (cell: GroupID, epoch: UInt64)? {
        guard let node = self.node(node), let cell = node.cell ?? firstCell?.group else { return nil }
        return (cell, node.cellEpoch)
    }
    package func tenant(_ name: String) -> RootTenant? { RootView.find(RootTable.tenants.key(name), in: tenants) }
    package func placement(_ group: GroupID) -> GroupPlacement? {
        RootView.find(RootTable.placements.key(group.rawValue), in: placements)
    }

    /// Whether a peer that shows a certificate with this fingerprint may speak for the node.
    package func accepts(_ node: NodeID, fingerprint: [UInt8]) -> Bool {
        self.node(node)?.accepts(fingerprint, at: time) ?? false
    }

    /// Where requests for each group may be sent.
    package var directory: Directory {
        Directory(
            placements.map { placement in
                Directory.Row(
                    group: placement.group,
                    nodes: placement.replicas.filter { $0.phase == .made || !$0.isLeaving }.map(\.node))
            })
    }
}

/// Which nodes hold which groups: a hint, which may be old.
package struct Directory: Hashable, Sendable {
    package struct Row: Hashable, Sendable {
        package var group: GroupID
        package var nodes: [NodeID]
        package init(group: GroupID, nodes: [NodeID]) {
            self.group = group
            self.nodes = nodes
        }
    }

    /// Ascending by group.
    private var rows: [Row]

    package init(_ rows: [Row] = []) { self.rows = rows.sorted { $0.group < $1.group } }

    /// Empty for a group that is not known.
    package func nodes(of group: GroupID) -> [NodeID] {
        var low = 0
        var high = rows.count
        while low < high {
            let middle = (low + high) / 2
            if rows[middle].group < group { low = middle + 1 } else { high = middle }
        }
        return low < rows.count && rows[low].group == group ? rows[low].nodes : []
    }
}
