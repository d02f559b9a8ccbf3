import ClusterBase
import KeyValueStore
import NodePorts
import Simulator
import StoreFolder
import Testing

/// Drives the store on a disk and its twin in memory with the same operations and the same crashes.
///
/// A crash of the real store is a copy of its files at an instant, with its write-ahead log cut anywhere behind what was
/// synced. Each store must then hold a prefix of the writes with all synced ones in it; the two prefixes may differ, so
/// the twin goes on from the real one's.
@Suite struct TwinTests {
    typealias Rows = [(key: [UInt8], value: [UInt8])]

    struct Pair {
        let folder = Folder()
        let kind: StoreKind
        var life = 0
        var real: RocksStore
        var twin = MemoryStore()
        /// What the store held after each write since the last that was durable.
        var pictures: [Rows] = [[]]
        var syncedLogBytes = 0

        init(_ kind: StoreKind) throws {
            self.kind = kind
            real = try RocksStore(folder.path + "/0", smallSettings(kind))
        }

        var path: String { folder.path + "/\(life)" }

        var liveLog: String? { Folder.names(path).last { $0.hasSuffix(".log") }.map { path + "/" + $0 } }

        mutating func write(_ batch: WriteBatch, isSynced: Bool) throws {
            try real.write(batch, isSynced: isSynced)
            try twin.write(batch, isSynced: isSynced)
            pictures.append(try rows(twin))
            if isSynced { try noteDurable() }
        }

        mutating func flush() throws {
            try real.flush()
            try twin.flush()
            try noteDurable()
        }

        private mutating func noteDurable() throws {
            pictures = [try rows(twin)]
            syncedLogBytes = liveLog.map(Folder.size) ?? 0
        }

        mutating func crash(_ random: inout PRNG) throws {
            let next = folder.path + "/\(life + 1)"
            Folder.copy(path, to: next)
            life += 1
            if kind == .log, let log = liveLog {
                let bytes = Folder.read(log)
                let kept = syncedLogBytes + random.below(max(1, bytes.count - syncedLogBytes + 1))
                Folder.write(log, Array(bytes[..<min(kept, bytes.count)]))
            }
            real = try RocksStore(next, smallSettings(kind), mayCreate: false)
            Folder.remove(folder.path + "/\(life - 1)")
            twin.crash(&random)

            let found = try rows(real)
            #expect(isPrefix(found), "the store on disk holds what is no prefix of the writes")
            #expect(isPrefix(try rows(twin)), "the store in memory holds what is no prefix of the writes")
            twin = MemoryStore()
            var all = WriteBatch()
            for row in found { all.put(row.key, row.value) }
            try twin.write(all, isSynced: true)
            pictures = [found]
            syncedLogBytes = liveLog.map(Folder.size) ?? 0
        }

        private func isPrefix(_ found: Rows) -> Bool { pictures.contains { isEqual($0, found) } }
    }

    static func isEqual(_ a: Rows, _ b: Rows) -> Bool {
        a.count == b.count && zip(a, b).allSatisfy { $0.key == $1.key && $0.value == $1.value }
    }

    /// Random operations; keys collide often, share long prefixes, and end where words end.
    struct Operations {
        var random: PRNG
        var tail: UInt64 = 0

        mutating func key() -> [UInt8] {
            let length = [0, 1, 7, 8, 9, 16, 23, 24, 25, 26][random.below(10)]
            return (0..<length).map { $0 + 3 < length ? 0 : UInt8(random.below(3)) }
        }

        mutating func range() -> KeyRange {
            if random.chance(1, in: 8) { return .prefix(key()) }
            let from = key()
            let to = key()
            if random.chance(1, in: 8) { return KeyRange(from: from, to: nil) }
            return from.precedes(to) ? KeyRange(from: from, to: to) : KeyRange(from: to, to: from)
        }

        mutating func batch() -> WriteBatch {
            var batch = WriteBatch()
            for _ in 0..<1 + random.below(6) {
                switch random.below(16) {
                case 0..<8: batch.put(key(), (0..<random.below(9)).map { _ in UInt8(random.below(256)) })
                case 8..<11:
                    for _ in 0..<1 + random.below(64) {
                        var key: [UInt8] = [9]
                        key.appendBigEndian(tail)
                        tail += 1
                        batch.put(key, [UInt8](repeating: UInt8(truncatingIfNeeded: tail), count: random.below(200)))
                    }
                case 11..<14: batch.delete(key())
                case 14:
                    var cut: [UInt8] = [9]
                    cut.appendBigEndian(tail - min(tail, UInt64(random.below(300))))
                    batch.delete(KeyRange(from: [9], to: cut))
                default: batch.delete(range())
                }
            }
            return batch
        }
    }

    static let cases: [(StoreKind, UInt64)] = (0..<4).flatMap { seed in [(.log, seed), (.state, seed)] }

    @Test(arguments: cases)
    func `a store on disk and one in memory do the same, through random operations and crashes`(
        kind: StoreKind, seed: UInt64
    ) throws {
        var operations = Operations(random: PRNG(seed: seed))
        var pair = try Pair(kind)
        var kept: (real: RocksView, twin: MemoryStore.View)?
        for step in 0..<400 {
            let place: Comment = "\(kind), seed \(seed), step \(step)"
            switch operations.random.below(20) {
            case 0..<13:
                let batch = operations.batch()
                try pair.write(batch, isSynced: operations.random.chance(1, in: 6))
            case 13: try pair.flush()
            case 14: kept = (pair.real.view(), pair.twin.view())
            case 15:
                // A view would keep the old store open.
                kept = nil
                try pair.crash(&operations.random)
            case 16:
                let range = operations.range()
                #expect(Self.isEqual(try rows(pair.real, range), try rows(pair.twin, range)), place)
                let first = try rows(pair.twin, range).first?.key
                var asked: [[UInt8]] = []
                try pair.real.scan(range) { key, _ in
                    asked.append(key)
                    return false
                }
                #expect(asked == (first.map { [$0] } ?? []), place)
            default:
                let key = operations.key()
                #expect(try pair.real.value(for: key) == pair.twin.value(for: key), place)
                if let kept { #expect(try kept.real.value(for: key) == kept.twin.value(for: key), place) }
            }
            if let kept, operations.random.chance(1, in: 16) {
                #expect(Self.isEqual(try rows(kept.real), try rows(kept.twin)), place)
            }
            if operations.random.chance(1, in: 16) {
                #expect(Self.isEqual(try rows(pair.real), try rows(pair.twin)), place)
            }
        }
    }
}
