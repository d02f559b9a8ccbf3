import ClusterBase
import Glibc
import KeyValueStore
import NodePorts
import NodeStorage
import StoreFolder
import StoreLayout
import Testing

/// The state store, with little memory before it, beside a plain table: through random operations and crashes.
@Suite struct WriteBackTests {
    typealias Rows = [[UInt8]]

    let folder = Folder()

    func open(_ life: Int) throws -> StateStore {
        var settings = StoreSettings.state(BlockCache(byteCountMax: 4 << 20))
        settings.backgroundJobsMax = 1
        // Large enough that files come with flushes only: a crash is a copy of them.
        settings.writeBufferBytes = 8 << 20
        let incoming = "\(folder.path)/incoming\(life)"
        mkdir(incoming, 0o700)
        return StateStore(
            try RocksStore("\(folder.path)/\(life)", settings), incoming: incoming, freshBytesMax: 2_000)
    }

    func rows(_ reader: some OrderedReader, _ range: KeyRange = KeyRange(from: [], to: nil)) throws -> Rows {
        var found: Rows = []
        try reader.scan(range) { key, value in
            found.append(key + [255] + value)
            return true
        }
        return found
    }

    func rows(_ table: SortedTable, _ range: KeyRange = KeyRange(from: [], to: nil)) -> Rows {
        var found: Rows = []
        table.scan(range) { key, value in
            found.append(key + [255] + value)
            return true
        }
        return found
    }

    struct Operations {
        var random: PRNG

        mutating func key() -> [UInt8] { [UInt8(random.below(3)), 1, UInt8(random.below(60))] }

        mutating func range() -> KeyRange {
            let (a, b) = (key(), key())
            return a.precedes(b) ? KeyRange(from: a, to: b) : KeyRange(from: b, to: a)
        }

        mutating func batch() -> WriteBatch {
            var batch = WriteBatch()
            for _ in 0..<1 + random.below(8) {
                switch random.below(24) {
                case 0..<16:
                    batch.put(key(), (0..<random.below(120)).map { _ in UInt8(random.below(250)) })
                case 16..<23: batch.delete(key())
                default: batch.delete(range())
                }
            }
            return batch
        }
    }

    func apply(_ batch: WriteBatch, to table: inout SortedTable) {
        for operation in batch.operations {
            switch operation {
            case .put(let key, let value): table.put(key, value)
            case .delete(let key): table.remove(key)
            case .deleteRange(let range): table.remove(range)
            }
        }
    }

    @Test(arguments: 0..<8 as Range<UInt64>)
    func `a store with rows in memory before it is as one without, and a crash leaves a prefix of its writes`(
        seed: UInt64
    ) throws {
        var operations = Operations(random: PRNG(seed: seed))
        var life = 0
        var store = try open(life)
        var table = SortedTable()
        // What the store held after each write since the last that was durable.
        var pictures = [rows(table)]
        var kept: (view: StateStore.View, rows: Rows)?
        for step in 0..<600 {
            let place: Comment = "seed \(seed), step \(step)"
            switch operations.random.below(24) {
            case 0..<14:
                let batch = operations.batch()
                let isSynced = operations.random.chance(1, in: 20)
                try store.write(batch, isSynced: isSynced)
                apply(batch, to: &table)
                if isSynced { pictures = [] }
                pictures.append(rows(table))
            case 14:
                try store.flush()
                pictures = [rows(table)]
            case 15: kept = (store.view(), rows(table))
            case 16:
                var load = WriteBatch()
                for i in 0..<operations.random.below(20) { load.put([9, UInt8(i)], [UInt8(step & 127)]) }
                load.put([9], [UInt8(step & 127)])
                var cut = WriteBatch()
                cut.delete(.prefix([9]))
                try store.write(cut, isSynced: false)
                try store.load(load)
                try store.flush()
                apply(cut, to: &table)
                apply(load, to: &table)
                pictures = [rows(table)]
            case 17 where operations.random.chance(1, in: 4):
                kept = nil
                life += 1
                Folder.copy("\(folder.path)/\(life - 1)", to: "\(folder.path)/\(life)")
                store = try open(life)
                let found = try rows(store)
                #expect(pictures.contains(found), place)
                table = SortedTable()
                for row in found {
                    let end = row.firstIndex(of: 255) ?? 0
                    table.put(Array(row[..<end]), Array(row[(end + 1)...]))
                }
                pictures = [found]
            case 18:
                let range = operations.range()
                #expect(try rows(store, range) == rows(table, range), place)
                var first: [UInt8]?
                try store.scan(range) { key, value in
                    first = key + [255] + value
                    return false
                }
                #expect(first == rows(table, range).first, place)
            default:
                let key = operations.key()
                #expect(try store.value(for: key) == table.value(for: key), place)
            }
            if let kept, operations.random.chance(1, in: 8) { #expect(try rows(kept.view) == kept.rows, place) }
            if operations.random.chance(1, in: 16) { #expect(try rows(store) == rows(table), place) }
        }
    }
}
