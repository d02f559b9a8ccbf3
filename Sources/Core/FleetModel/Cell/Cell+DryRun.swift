import ClusterBase

// What commands would do: they are carried out by the very code that applies the log, on changes that nobody keeps.
//
//     commands ──▶ CellStep over ForgottenChanges(state) ──▶ refused: that refusal
//                                                └──▶ done: the rows that it wrote, each as it is and as it would be

extension Cell {
    static func rehearse(
        _ commands: [[UInt8]], cell: UInt64, level: UInt32, after index: LogIndex, _ access: some OrderedReader
    ) throws(StoreError) -> CellAnswer.Body {
        let isKnown = level >= FeatureLevel.rehearsals && level <= FeatureLevel.newest
        if commands.isEmpty || commands.count > CellLimits.rehearsedMax || !isKnown { return .refused(.malformed) }
        var step = try CellStep(index.next, cell, ForgottenChanges(access))
        step.level = level
        for (slot, bytes) in commands.enumerated() {
            guard case .success(let command) = CellCommand.decode(bytes, level: level),
                command.request == nil, command.origin == nil, command.operation.canBeRehearsed
            else { return .refused(.malformed) }
            step.revision = Revision(index: index.next, slot: slot)
            let result = try step.apply(command)
            if case .refused(let refusal) = result.outcome { return .refused(refusal) }
            if case .items(let items) = result.outcome, case .refused(let refusal)? = items.first {
                return .refused(refusal)
            }
        }
        var rows: [CellRow] = []
        for change in step.access.changed where change.table != nil {
            rows.append(CellRow(key: change.key, value: try access.value(for: change.key)))
            rows.append(change)
        }
        return .rows(rows, resumeAfter: nil)
    }
}

extension CellCommand.Operation {
    /// People ask what it would do before they ask for it. It changes few rows.
    package var canBeRehearsed: Bool {
        switch self {
        case .createVMs(let items, _): items.count == 1
        case .updateVM, .deleteVM, .setSetting, .beginMigration, .moveVM, .holdName, .releaseHost, .sendHost: true
        default: false
        }
    }
}

/// A state under changes that are forgotten with it.
struct ForgottenChanges: StateAccess {
    private let state: any OrderedReader
    /// By key; without a value it is deleted.
    // hash order: looked up, or read in the order of the keys
    private var changes: [[UInt8]: CellRow] = [:]
    /// Deleted before the changes.
    private var deletedRanges: [KeyRange] = []

    init(_ state: some OrderedReader) { self.state = state }

    /// In the order of the keys.
    var changed: [CellRow] {
        // hash order: sorted at once
        changes.values.sorted { $0.key.precedes($1.key) }
    }

    func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? {
        if let change = changes[key] { return change.value }
        for range in deletedRanges where range.contains(key) { return nil }
        return try state.value(for: key)
    }

    func scan(
        _ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool
    ) throws(StoreError) {
        let pending = changed.filter { range.contains($0.key) }
        var next = 0
        var isDone = false
        /// Gives the changes before `key`, or all that are left.
        func give(before key: [UInt8]?) {
            while next < pending.count, !isDone {
                let change = pending[next]
                if let key, !change.key.precedes(key) { return }
                next += 1
                if let value = change.value, !body(change.key, value) { isDone = true }
            }
        }
        try state.scan(range) { key, value in
            give(before: key)
            if isDone { return false }
            // What was changed is given in its turn.
            if changes[key] != nil || deletedRanges.contains(where: { $0.contains(key) }) { return true }
            if !body(key, value) { isDone = true }
            return !isDone
        }
        give(before: nil)
    }

    mutating func put(_ key: [UInt8], _ value: consuming [UInt8]) { changes[key] = CellRow(key: key, value: value) }
    mutating func delete(_ key: [UInt8]) { changes[key] = CellRow(key: key, value: nil) }
    mutating func delete(_ range: KeyRange) {
        // hash order: only which are kept
        changes = changes.filter { !range.contains($0.key) }
        deletedRanges.append(range)
    }
}
