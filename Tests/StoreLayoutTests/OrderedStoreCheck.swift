import ClusterBase
import NodePorts
import Testing

/// The slowest correct store: what every ordered store is compared with.
struct NaiveStore {
    var rows: [(key: [UInt8], value: [UInt8])] = []
    /// What the store looked like after each batch since the last sync; the first is the durable one.
    var pictures: [[(key: [UInt8], value: [UInt8])]] = [[]]

    mutating func write(_ batch: WriteBatch, isSynced: Bool) {
        for operation in batch.operations {
            switch operation {
            case .put(let key, let value):
                rows.removeAll { $0.key == key }
                let at = rows.firstIndex { key.precedes($0.key) } ?? rows.count
                rows.insert((key, value), at: at)
            case .delete(let key): rows.removeAll { $0.key == key }
            case .deleteRange(let range): rows.removeAll { range.contains($0.key) }
            }
        }
        pictures.append(rows)
        if isSynced { flush() }
    }

    mutating func flush() { pictures = [rows] }
}

func isEqual(_ a: [(key: [UInt8], value: [UInt8])], _ b: [(key: [UInt8], value: [UInt8])]) -> Bool {
    a.count == b.count && zip(a, b).allSatisfy { $0.key == $1.key && $0.value == $1.value }
}

func rows(_ reader: some OrderedReader, _ range: KeyRange = KeyRange(from: [], to: nil)) throws
    -> [(key: [UInt8], value: [UInt8])]
{
    var found: [(key: [UInt8], value: [UInt8])] = []
    try reader.scan(range) { key, value in
        found.append((key, value))
        return true
    }
    return found
}

/// Compares a store with the naive one over random operations and crashes. Any store can be held against this:
/// `crash` ends it as a power cut would and gives back what a new process finds.
func checkOrderedStore<Store: OrderedStore>(
    _ store: inout Store, seed: UInt64, steps: Int, crash: (inout Store, inout PRNG) throws -> Void
) throws {
    var random = PRNG(seed: seed)
    var naive = NaiveStore()
    var kept: (view: Store.View, rows: [(key: [UInt8], value: [UInt8])])?
    var tail: UInt64 = 0

    /// Keys that collide often, share long prefixes, and end where words end.
    func key() -> [UInt8] {
        let length = [0, 1, 7, 8, 9, 16, 23, 24, 25, 26][random.below(10)]
        return (0..<length).map { $0 + 3 < length ? 0 : UInt8(random.below(3)) }
    }
    func range() -> KeyRange {
        if random.chance(1, in: 8) { return .prefix(key()) }
        let from = key()
        let to = key()
        if random.chance(1, in: 8) { return KeyRange(from: from, to: nil) }
        return from.precedes(to) ? KeyRange(from: from, to: to) : KeyRange(from: to, to: from)
    }

    for step in 0..<steps {
        switch random.below(20) {
        case 0..<13:
            var batch = WriteBatch()
            for _ in 0..<1 + random.below(6) {
                switch random.below(16) {
                case 0..<8: batch.put(key(), (0..<random.below(9)).map { _ in UInt8(random.below(256)) })
                case 8..<11:
                    // The end of a log: ascending keys, many of them.
                    for _ in 0..<1 + random.below(64) {
                        var key: [UInt8] = [9]
                        key.appendBigEndian(tail)
                        tail += 1
                        batch.put(key, [UInt8(truncatingIfNeeded: tail)])
                    }
                case 11..<14: batch.delete(key())
                case 14:
                    // The cut of a log's prefix.
                    var cut: [UInt8] = [9]
                    cut.appendBigEndian(tail - min(tail, UInt64(random.below(300))))
                    batch.delete(KeyRange(from: [9], to: cut))
                default: batch.delete(range())
                }
            }
            let isSynced = random.chance(1, in: 6)
            try store.write(batch, isSynced: isSynced)
            naive.write(batch, isSynced: isSynced)
        case 13:
            try store.flush()
            naive.flush()
        case 14:
            kept = (store.view(), naive.rows)
        case 15:
            try crash(&store, &random)
            let found = try rows(store)
            guard let survivor = naive.pictures.lastIndex(where: { isEqual($0, found) }) else {
                Issue.record("seed \(seed) step \(step): a crash left what is no prefix of the writes")
                return
            }
            naive.rows = naive.pictures[survivor]
            naive.pictures = [naive.rows]
        case 16:
            let range = range()
            #expect(
                isEqual(try rows(store, range), naive.rows.filter { range.contains($0.key) }),
                "seed \(seed) step \(step)")
        default:
            let key = key()
            #expect(
                try store.value(for: key) == naive.rows.first { $0.key == key }?.value, "seed \(seed) step \(step)")
        }
        if let kept, random.chance(1, in: 16) {
            #expect(isEqual(try rows(kept.view), kept.rows), "seed \(seed) step \(step): a view changed")
        }
        if random.chance(1, in: 16) {
            #expect(isEqual(try rows(store), naive.rows), "seed \(seed) step \(step)")
        }
    }
}
