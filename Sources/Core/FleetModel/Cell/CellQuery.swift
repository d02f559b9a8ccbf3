package import ClusterBase

/// The rows of a cell's state. A row's key is a byte for its table, and then what identifies it.
package enum CellTable: UInt8, Hashable, Sendable, CaseIterable {
    /// By id, 8 bytes.
    case hosts = 1
    /// By id, 8 bytes.
    case vms
    /// By id, 8 bytes.
    case groups
    /// By name.
    case slices
    /// By number, 8 bytes.
    case settings
    /// By VM's id, 8 bytes. Not followed.
    case tombstones
    /// VMs on their way to other cells, by number, 8 bytes. Not followed.
    case moves
    /// Shared disks of VMs that are gone, by VM's id, 8 bytes. Not followed.
    case remains
    /// VMs that may come from other cells, by id, 8 bytes. Not followed.
    case arrivals
    /// Hosts on their way to other cells with their VMs, by number, 8 bytes. Not followed.
    case hostMoves = 14
    /// Hosts that may come from other cells with their VMs, by id, 8 bytes. Not followed.
    case hostArrivals

    /// The first byte of its rows' keys.
    package var kind: UInt8 { 0x60 + rawValue }
    package init?(kind: UInt8) { self.init(rawValue: kind &- 0x60) }
    /// Whether followers of the cell keep a copy of its rows.
    package var isFollowed: Bool { rawValue <= CellTable.settings.rawValue }

    /// The key of a row that is known by a number, the table's byte included.
    package func key(_ number: UInt64) -> [UInt8] {
        var key: [UInt8] = []
        key.reserveCapacity(9)
        key.append(kind)
        key.appendBigEndian(number)
        return key
    }
    package func key(_ name: String) -> [UInt8] { [kind] + Array(name.utf8) }
    func key(_ bytes: [UInt8]) -> [UInt8] { [kind] + bytes }
}

/// A question about a cell's state, answered from one state of it.
package enum CellQuery: Hashable, Sendable {
    /// Rows of a table in the order of their keys, after the row with the key `after`, which is without the table's byte.
    /// 0 or more than the bound means the bound.
    case list(CellTable, after: [UInt8]?, limit: Int)
    /// One row, by its key without the table's byte.
    case one(CellTable, key: [UInt8])
    /// The row of the VM, or the tombstone of the last one of that name.
    case vmNamed(tenant: String, name: String)
    case groupNamed(tenant: String, name: String)
    case hostNamed(String)
    /// In the order of their ids, after `after`.
    case vmsOfTenant(String, after: VMID?, limit: Int)
    case vmsOnHost(HostID, after: VMID?, limit: Int)
    /// The same; all VMs where not all have their marks yet. Wants feature level 3.
    case vmsMarked(CellMark, after: VMID?, limit: Int)
    /// By priority, and then by the time that they wait.
    case waitingVMs(limit: Int)
    /// What a host is to do: every VM that is placed there, comes there, or must be confirmed gone there. Without rows
    /// when nothing changed since the host's `workIndex` was `since`.
    /// Where changes are enough, an answer may have those alone.
    case hostWork(HostID, since: LogIndex, takesChanges: Bool = false)
    /// Rows that changed after the entry `since`, each as it is after its last change; for followers of the cell.
    case changes(since: LogIndex, limit: Int)
    /// All rows in the order of their keys, after the key `after`; for followers.
    case rows(after: [UInt8]?, limit: Int)
    /// Events after a revision, oldest first; of one VM or one host when named. An answer has all events of an entry or
    /// none, and may have none at all and still say where to go on. Of a VM after zero: those of its last entries. `compacted` where some after that revision are gone;
    /// after zero there is what is kept.
    case events(after: Revision, vm: VMID?, host: HostID?, limit: Int)
    /// What these commands would do if they came now, one after the other, to the cell of this number at this feature level;
    /// nothing is done. Of each VM, setting or other row that they would write there are two rows: as it is, and as it would be.
    /// Rows of hosts, groups and slices, which follow from those, are left out. The first refusal is the answer. Wants feature
    /// level 3.
    case rehearsal([[UInt8]], cell: UInt64, level: UInt32)
    /// What came of this command, which has a request id: one row with the result that is kept, or none. Refused where the id
    /// was another command's. Wants feature level 3.
    case repetition([UInt8])

    package static func host(_ id: HostID) -> CellQuery { .one(.hosts, key: bytes(id.rawValue)) }
    package static func vm(_ id: VMID) -> CellQuery { .one(.vms, key: bytes(id.rawValue)) }
    package static func slice(_ tenant: String) -> CellQuery { .one(.slices, key: Array(tenant.utf8)) }
    package static func all(_ table: CellTable) -> CellQuery { .list(table, after: nil, limit: 0) }

    private static func bytes(_ number: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(number)
        return bytes
    }
}

/// A row by its key, the table's byte included; without a value it is gone.
package struct CellRow: Hashable, Sendable {
    package var key: [UInt8]
    package var value: [UInt8]?
    package init(key: [UInt8], value: [UInt8]?) {
        self.key = key
        self.value = value
    }

    package var table: CellTable? { key.first.flatMap(CellTable.init(kind:)) }
}

extension CellAnswer {
    /// What `CellQuery.repetition` found.
    package var repeated: CellResult? {
        guard case .rows(let rows, _) = body, let value = rows.first?.value else { return nil }
        return CellResult.decode(value)
    }
}

/// The answer to a query, and the state that it comes from.
package struct CellAnswer: Hashable, Sendable {
    package enum Body: Hashable, Sendable {
        /// Rows that are there; `resumeAfter` goes into the next query's `after` when there may be more.
        case rows([CellRow], resumeAfter: [UInt8]?)
        /// What the host is to do since `workIndex`; nil when nothing changed. `lease` is its length in milliseconds, and
        /// 0 for a host that must register first.
        case work([CellVM]?, workIndex: LogIndex, lease: UInt64)
        /// The same as what changed since: what the host has of the others is what there is of them.
        case workChanges(WorkChanges, workIndex: LogIndex, lease: UInt64)
        /// Complete up to `through`: the next query begins there.
        case changes([CellRow], through: LogIndex)
        /// Changes at or before this entry are gone: take all rows again.
        case compacted(LogIndex)
        case events([CellEvent], resumeAfter: Revision?)
        case refused(CellRefusal)
    }

    /// The last entry in the state that was read.
    package var index: LogIndex
    package var time: LogTime
    package var body: Body
    /// Of a host's work: what comes before the index in the generation of its lease.
    package var leaseBase: UInt64 = 0
    /// The same: the cell that it went to with its VMs; 0 for none. What it was promised here goes on until it ends.
    package var wentTo: UInt64 = 0
    /// For followers: what is kept free for losses; nil for nothing.
    package var reserve: ReserveStanding?
    package init(index: LogIndex, time: LogTime, body: Body) {
        self.index = index
        self.time = time
        self.body = body
    }
}
