package import ClusterBase

/// A question about the root's state, answered from one state of it.
package enum RootQuery: Hashable, Sendable {
    /// Rows of a table in the order of their keys, after the row with the key `after`, which is without the table's byte.
    /// 0 or more than the bound means the bound.
    case list(RootTable, after: [UInt8]?, limit: Int)
    /// One row, by its key without the table's byte.
    case one(RootTable, key: [UInt8])
    case nodeNamed(String)
    case operatorWith(credential: [UInt8])
    /// Rows that changed after the entry `since`, each as it is after its last change; for followers of the root.
    case changes(since: LogIndex, limit: Int)
    /// All rows that followers keep, in the order of their keys, after the key `after`.
    case rows(after: [UInt8]?, limit: Int)

    package static var cluster: RootQuery { .one(.cluster, key: []) }
    package static func all(_ table: RootTable) -> RootQuery { .list(table, after: nil, limit: 0) }
    package static func node(_ id: NodeID) -> RootQuery { .one(.nodes, key: bytes(id.rawValue)) }
    package static func token(hash: [UInt8]) -> RootQuery { .one(.tokens, key: hash) }
    package static func space(_ name: String) -> RootQuery { .one(.spaces, key: Array(name.utf8)) }
    package static func cell(_ name: String) -> RootQuery { .one(.cells, key: Array(name.utf8)) }
    package static func tenant(_ name: String) -> RootQuery { .one(.tenants, key: Array(name.utf8)) }
    package static func placement(_ group: GroupID) -> RootQuery { .one(.placements, key: bytes(group.rawValue)) }

    private static func bytes(_ number: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(number)
        return bytes
    }
}

/// A row by its key, the table's byte included; without a value it is gone.
package struct RootRow: Hashable, Sendable {
    package var key: [UInt8]
    package var value: [UInt8]?
    package init(key: [UInt8], value: [UInt8]?) {
        self.key = key
        self.value = value
    }

    package var table: RootTable? { key.first.flatMap(RootTable.init(kind:)) }
}

/// The answer to a query, and the state that it comes from.
package struct RootAnswer: Hashable, Sendable {
    package enum Body: Hashable, Sendable {
        /// Rows that are there; `resumeAfter` goes into the next query's `after` when there may be more.
        case rows([RootRow], resumeAfter: [UInt8]?)
        /// Complete up to `through`: the next query begins there.
        case changes([RootRow], through: LogIndex)
        /// Changes at or before this entry are gone: take all rows again.
        case compacted(LogIndex)
        case refused(RootRefusal)
    }

    /// The last entry in the state that was read.
    package var index: LogIndex
    package var time: LogTime
    package var body: Body

    package init(index: LogIndex, time: LogTime, body: Body) {
        self.index = index
        self.time = time
        self.body = body
    }

    /// The records of one kind among the answer's rows; nil when a row is none that this version can read.
    package func records<Record: RootRecord>(_ type: Record.Type) -> [Record]? {
        guard case .rows(let rows, _) = body else { return [] }
        var records: [Record] = []
        for row in rows where row.table == Record.table {
            guard let value = row.value, let record = Record.decode(value) else { return nil }
            records.append(record)
        }
        return records
    }
}
