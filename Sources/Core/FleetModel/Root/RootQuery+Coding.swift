internal import BinaryCoding
import ClusterBase
internal import Schema

// The root's queries and answers as bytes, as Proto/root.proto describes them.

extension RootQuery: RootCoded, RootMapped {
    init?(_ wire: WireRootQuery) {
        switch wire.query {
        case .list(let list)?:
            guard let table = RootTable(rawValue: list.table.rawValue) else { return nil }
            self = .list(table, after: list.after, limit: Int(list.limit))
        case .one(let one)?:
            guard let table = RootTable(rawValue: one.table.rawValue) else { return nil }
            self = .one(table, key: one.key)
        case .nodeNamed(let name)?: self = .nodeNamed(name)
        case .operatorWith(let credential)?: self = .operatorWith(credential: credential)
        case .changes(let changes)?: self = .changes(since: LogIndex(changes.since), limit: Int(changes.limit))
        case .rows(let page)?: self = .rows(after: page.after, limit: Int(page.limit))
        case nil: return nil
        }
    }
    var wire: WireRootQuery {
        typealias Wire = WireRootQuery
        return switch self {
        case .list(let table, let after, let limit):
            Wire(
                query: .list(
                    Wire.List(
                        table: WireRootTable(rawValue: table.rawValue), after: after, limit: UInt32(clamping: limit))))
        case .one(let table, let key):
            Wire(query: .one(Wire.One(table: WireRootTable(rawValue: table.rawValue), key: key)))
        case .nodeNamed(let name): Wire(query: .nodeNamed(name))
        case .operatorWith(let credential): Wire(query: .operatorWith(credential))
        case .changes(let since, let limit):
            Wire(query: .changes(Wire.Changes(since: since.rawValue, limit: UInt32(clamping: limit))))
        case .rows(let after, let limit):
            Wire(query: .rows(Wire.Page(after: after, limit: UInt32(clamping: limit))))
        }
    }
}

extension RootRow {
    init(_ wire: WireRootRow) { self.init(key: wire.key, value: wire.value) }
    var wire: WireRootRow { WireRootRow(key: key, value: value) }
}

extension RootAnswer: RootCoded, RootMapped {
    init?(_ wire: WireRootAnswer) {
        let body: Body
        switch wire.body {
        case .rows(let rows)?: body = .rows(rows.rows.map { RootRow($0) }, resumeAfter: rows.resumeAfter)
        case .changes(let changes)?:
            body = .changes(changes.rows.map { RootRow($0) }, through: LogIndex(changes.through))
        case .compacted(let index)?: body = .compacted(LogIndex(index))
        case .refused(let wire)?:
            guard let refusal = RootRefusal(wire) else { return nil }
            body = .refused(refusal)
        case nil: return nil
        }
        self.init(index: LogIndex(wire.index), time: LogTime(wire.time), body: body)
    }
    var wire: WireRootAnswer {
        let body: WireRootAnswer.Body =
            switch self.body {
            case .rows(let rows, let resumeAfter):
                .rows(WireRootAnswer.Rows(rows: rows.map(\.wire), resumeAfter: resumeAfter))
            case .changes(let rows, let through):
                .changes(WireRootAnswer.Changes(rows: rows.map(\.wire), through: through.rawValue))
            case .compacted(let index): .compacted(index.rawValue)
            case .refused(let refusal): .refused(refusal.wire)
            }
        return WireRootAnswer(index: index.rawValue, time: time.rawValue, body: body)
    }
}
