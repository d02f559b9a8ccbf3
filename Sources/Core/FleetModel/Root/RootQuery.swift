public import ClusterBase

/// A question about the root's state, answered from one state of it.
public enum RootQuery: Hashable, Sendable {
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

    public static var cluster: RootQuery { .one(.cluster, key: []) }
    public static func all(_ table: RootTable) -> RootQuery { .list(table, after: nil, limit: 0) }
    public static func node(_ id: NodeID) -> RootQuery { .one(.nodes, key: bytes(id.rawValue)) }
    public static func token(hash: [UInt8]) -> RootQuery { .one(.tokens, key: hash) }
    public static func space(_ name: String) -> RootQuery { .one(.spaces, key: Array(name.utf8)) }
    public static func cell(_ name: String) -> RootQuery { .one(.cells, key: Array(name.utf8)) }
    public static func tenant(_ name: String) -> RootQuery { .one(.tenants, key: Array(name.utf8)) }
    public static func placement(_ group: GroupID) -> RootQuery { .one(.placements, key: bytes(group.rawValue)) }

    private static func bytes(_ number: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(number)
        return bytes
    }
}

/// A row by its key, the table's byte included; without a value it is gone.
public struct RootRow: Hashable, Sendable {
    public var key: [UInt8]
    public var value: [UInt8]?
    public init(key: [UInt8], value: [UInt8]?) {
        self.key = key
        self.value = value
    }

    public var table: RootTable? { key.first.flatMap(RootTable.init(kind:)) }
}

/// The answer to a query, and the state that it comes from.
public struct RootAnswer: Hashable, Sendable {
    public enum Body: Hashable, Sendable {
        /// Rows that are there; `resumeAfter` goes into the next query's `after` when there may be more.
        case rows([RootRow], resumeAfter: [UInt8]?)
        /// Complete up to `through`: the next query begins there.
        case changes([RootRow], through: LogIndex)
        /// Changes at or before this entry are gone: take all rows again.
        case compacted(LogIndex)
        case refused(RootRefusal)
    }

    /// The last entry in the state that was read.
    public var index: LogIndex
    public var time: LogTime
    public var body: Body

    public init(index: LogIndex, time: LogTime, body: Body) {
        self.index = index
        self.time = time
        self.body = body
    }

    /// The records of one kind among the answer's rows; nil when a row is none that this version can read.
    public func records<Record: RootRecord>(_ type: Record.Type) -> [Record]? {
        guard case .rows(let rows, _) = body else { return [] }
        var records: [Record] = []
        for row in rows where row.table == Record.table {
            guard let value = row.value, let record = Record.decode(value) else { return nil }
            records.append(record)
        }
        return records
    }
}
