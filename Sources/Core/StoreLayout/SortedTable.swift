package import ClusterBase

/// An ordered map from byte strings to byte strings, as chunks of sorted rows: a tree of depth two.
///
/// A copy costs a few references; a write after it copies one chunk and the list of chunks. Finding a key takes two
/// binary searches over words that lie beside each other, and touches key bytes only where the first 32 are equal.
package struct SortedTable: Sendable {
    /// Rows as columns, so that a search reads nothing but words. Never empty, at most `rowsMax`.
    struct Chunk: Sendable {
        var words: [KeyWords]
        var keys: [[UInt8]]
        /// A row without a value is a mark, for the tables inside this module: see `mark`.
        var values: [[UInt8]?]
    }

    /// A place between rows. Places are used only until the table's next change.
    struct Place: Sendable {
        var chunk: Int
        var row: Int
    }

    /// A chunk splits above this: 4 KiB of words, so that an insertion moves little and a copy is cheap.
    static let rowsMax = 128

    /// The words of each chunk's first key.
    private var firsts: [KeyWords] = []
    private var chunks: [Chunk] = []
    /// An empty chunk with memory, for the first row.
    private var spare: Chunk?
    package private(set) var count = 0
    /// Bytes of all keys and values.
    package private(set) var byteCount = 0

    package init() {}

    package var isEmpty: Bool { count == 0 }

    package func value(for key: [UInt8]) -> [UInt8]? {
        if count == 0 { return nil }
        let (place, isFound) = find(key, KeyWords(key))
        return isFound ? chunks[place.chunk].values[place.row] : nil
    }

    /// The row of a key: nothing, a mark (`.some(nil)`) or a value.
    func row(of key: [UInt8]) -> [UInt8]?? {
        if count == 0 { return nil }
        let (place, isFound) = find(key, KeyWords(key))
        return isFound ? .some(chunks[place.chunk].values[place.row]) : nil
    }

    /// Sets the value of a key and returns the one it had.
    @discardableResult package mutating func put(_ key: [UInt8], _ value: [UInt8]) -> [UInt8]? { set(key, value) }

    /// Puts a row without a value in the key's place.
    mutating func mark(_ key: [UInt8]) { set(key, nil) }

    @discardableResult private mutating func set(_ key: [UInt8], _ value: consuming [UInt8]?) -> [UInt8]? {
        let words = KeyWords(key)
        let (place, isFound) = find(key, words)
        byteCount += value?.count ?? 0
        if isFound {
            swap(&value, &chunks[place.chunk].values[place.row])
            byteCount -= value?.count ?? 0
            return value
        }
        count += 1
        byteCount += key.count
        insert(words, key, value, at: place)
        return nil
    }

    /// Removes a key and returns the value it had.
    @discardableResult package mutating func remove(_ key: [UInt8]) -> [UInt8]? {
        if count == 0 { return nil }
        let (place, isFound) = find(key, KeyWords(key))
        if !isFound { return nil }
        let value = chunks[place.chunk].values[place.row]
        count -= 1
        byteCount -= key.count + (value?.count ?? 0)
        removeRows(place.row..<place.row + 1, inChunk: place.chunk)
        return value
    }

    /// Removes all keys of a range, ascending; `removed` is told each of them with its value.
    package mutating func remove(_ range: KeyRange, _ removed: (_ key: [UInt8], _ value: [UInt8]) -> Void = { _, _ in })
    {
        if count == 0 { return }
        let start = find(range.from, KeyWords(range.from)).place
        let end = range.to.map { find($0, KeyWords($0)).place } ?? Place(chunk: chunks.count, row: 0)
        if (end.chunk, end.row) <= (start.chunk, start.row) { return }
        for chunk in start.chunk...min(end.chunk, chunks.count - 1) {
            let rows =
                (chunk == start.chunk ? start.row : 0)..<(chunk == end.chunk ? end.row : chunks[chunk].keys.count)
            for row in rows {
                let key = chunks[chunk].keys[row]
                let value = chunks[chunk].values[row] ?? []
                count -= 1
                byteCount -= key.count + value.count
                removed(key, value)
            }
        }
        if end.chunk == start.chunk {
            removeRows(start.row..<end.row, inChunk: start.chunk)
            return
        }
        // From the end on, so that places before stay what they are.
        if end.chunk < chunks.count && end.row > 0 { removeRows(0..<end.row, inChunk: end.chunk) }
        let keepsFirst = start.row > 0
        if keepsFirst { removeRows(start.row..<chunks[start.chunk].keys.count, inChunk: start.chunk) }
        let emptied = start.chunk + (keepsFirst ? 1 : 0)..<min(end.chunk, chunks.count)
        chunks.removeSubrange(emptied)
        firsts.removeSubrange(emptied)
    }

    private mutating func removeRows(_ rows: Range<Int>, inChunk chunk: Int) {
        if rows.isEmpty { return }
        if rows.count == chunks[chunk].keys.count {
            chunks.remove(at: chunk)
            firsts.remove(at: chunk)
            return
        }
        chunks[chunk].words.removeSubrange(rows)
        chunks[chunk].keys.removeSubrange(rows)
        chunks[chunk].values.removeSubrange(rows)
        if rows.lowerBound == 0 { firsts[chunk] = chunks[chunk].words[0] }
    }

    /// Keeps the memory of one chunk for the next rows.
    package mutating func removeAll() {
        if let first = chunks.first, spare == nil {
            spare = first
            chunks.removeAll(keepingCapacity: true)
            spare?.removeAll()
        } else {
            chunks.removeAll(keepingCapacity: true)
        }
        firsts.removeAll(keepingCapacity: true)
        count = 0
        byteCount = 0
    }

    /// Calls `body` for the rows of a range, ascending, until it returns false.
    package func scan(_ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool) {
        if count == 0 { return }
        var place = find(range.from, KeyWords(range.from)).place
        let end = range.to.map { find($0, KeyWords($0)).place } ?? Place(chunk: chunks.count, row: 0)
        while place.chunk < chunks.count, place.chunk <= end.chunk {
            let chunk = chunks[place.chunk]
            let through = place.chunk == end.chunk ? end.row : chunk.keys.count
            while place.row < through {
                if !body(chunk.keys[place.row], chunk.values[place.row] ?? []) { return }
                place.row += 1
            }
            place = Place(chunk: place.chunk + 1, row: 0)
        }
    }

    /// All rows, ascending; a mark has no value.
    func forEachRow(_ body: (_ key: [UInt8], _ value: [UInt8]?) -> Void) {
        for chunk in chunks { for row in chunk.keys.indices { body(chunk.keys[row], chunk.values[row]) } }
    }

    /// The first row at or after `key`, or with `isAfter` after it; a mark has no value.
    func first(from key: [UInt8], isAfter: Bool = false) -> (key: [UInt8], value: [UInt8]?)? {
        if count == 0 { return nil }
        var (place, isFound) = find(key, KeyWords(key))
        if isAfter && isFound { place.row += 1 }
        if place.row == chunks[place.chunk].keys.count { place = Place(chunk: place.chunk + 1, row: 0) }
        if place.chunk == chunks.count { return nil }
        return (chunks[place.chunk].keys[place.row], chunks[place.chunk].values[place.row])
    }

    /// The row with this many rows before it; `position` is below `count`. Costs one step a chunk.
    package func row(at position: Int) -> (key: [UInt8], value: [UInt8]) {
        precondition(position >= 0 && position < count, "row \(position) is outside a table of \(count)")
        var left = position
        for chunk in chunks {
            if left < chunk.keys.count { return (chunk.keys[left], chunk.values[left] ?? []) }
            left -= chunk.keys.count
        }
        preconditionFailure("the chunks hold fewer rows than the \(count) counted")
    }

    // MARK: Places

    /// The place of a key, or the one where it belongs: in the last chunk whose first key is not above it.
    private func find(_ key: [UInt8], _ words: KeyWords) -> (place: Place, isFound: Bool) {
        if chunks.isEmpty { return (Place(chunk: 0, row: 0), false) }
        var low = 0
        var high = chunks.count
        // Chunks below `low` begin at or before the key, chunks from `high` on begin after it.
        while low < high {
            let middle = (low + high) / 2
            let isAfter =
                switch words.order(firsts[middle]) {
                case 0: key.order(chunks[middle].keys[0], after: KeyWords.byteCount) < 0
                case let order: order < 0
                }
            if isAfter { high = middle } else { low = middle + 1 }
        }
        let chunk = max(0, low - 1)
        let (row, isFound) = chunks[chunk].find(key, words)
        return (Place(chunk: chunk, row: row), isFound)
    }

    private mutating func insert(_ words: KeyWords, _ key: [UInt8], _ value: [UInt8]?, at place: Place) {
        if chunks.isEmpty {
            var chunk = spare ?? Chunk(words: [], keys: [], values: [])
            spare = nil
            chunk.words.append(words)
            chunk.keys.append(key)
            chunk.values.append(value)
            chunks.append(chunk)
            firsts.append(words)
            return
        }
        let rowCount = chunks[place.chunk].keys.count
        var target = place
        if rowCount == SortedTable.rowsMax {
            if place.row == rowCount {
                // Keys that come in ascending order fill their chunks.
                chunks.insert(Chunk(words: [words], keys: [key], values: [value]), at: place.chunk + 1)
                firsts.insert(words, at: place.chunk + 1)
                return
            }
            let half = rowCount / 2
            let upper = chunks[place.chunk].split(at: half)
            chunks.insert(upper, at: place.chunk + 1)
            firsts.insert(upper.words[0], at: place.chunk + 1)
            if place.row > half { target = Place(chunk: place.chunk + 1, row: place.row - half) }
        }
        chunks[target.chunk].words.insert(words, at: target.row)
        chunks[target.chunk].keys.insert(key, at: target.row)
        chunks[target.chunk].values.insert(value, at: target.row)
        if target.row == 0 { firsts[target.chunk] = words }
    }
}

extension SortedTable.Chunk {
    /// The position of the first row that is not before the key, and whether it is the key's.
    fileprivate func find(_ key: [UInt8], _ words: KeyWords) -> (row: Int, isFound: Bool) {
        let column = self.words.span
        var low = 0
        var high = column.count
        while low < high {
            let middle = (low + high) / 2
            var order = words.order(column[middle])
            if order == 0 { order = key.order(keys[middle], after: KeyWords.byteCount) }
            if order == 0 { return (middle, true) }
            if order > 0 { low = middle + 1 } else { high = middle }
        }
        return (low, false)
    }

    fileprivate mutating func removeAll() {
        words.removeAll(keepingCapacity: true)
        keys.removeAll(keepingCapacity: true)
        values.removeAll(keepingCapacity: true)
    }

    /// Takes the rows from `row` on out.
    fileprivate mutating func split(at row: Int) -> SortedTable.Chunk {
        let upper = SortedTable.Chunk(
            words: Array(words[row...]), keys: Array(keys[row...]), values: Array(values[row...]))
        words.removeSubrange(row...)
        keys.removeSubrange(row...)
        values.removeSubrange(row...)
        return upper
    }
}

/// The first 32 bytes of a key as big-endian words, filled up with zeros. Different words decide the order of two keys;
/// equal words don't.
struct KeyWords: BitwiseCopyable, Sendable {
    static let byteCount = 32

    let a: UInt64
    let b: UInt64
    let c: UInt64
    let d: UInt64

    @inline(__always) init(_ key: [UInt8]) {
        let bytes = key.span
        a = KeyWords.word(bytes, 0)
        b = KeyWords.word(bytes, 8)
        c = KeyWords.word(bytes, 16)
        d = KeyWords.word(bytes, 24)
    }

    @inline(__always) static func word(_ bytes: Span<UInt8>, _ from: Int) -> UInt64 {
        if from + 8 <= bytes.count {
            let high =
                UInt64(bytes[from]) << 56 | UInt64(bytes[from + 1]) << 48 | UInt64(bytes[from + 2]) << 40
                | UInt64(bytes[from + 3]) << 32
            let low =
                UInt64(bytes[from + 4]) << 24 | UInt64(bytes[from + 5]) << 16 | UInt64(bytes[from + 6]) << 8
                | UInt64(bytes[from + 7])
            return high | low
        }
        var word: UInt64 = 0
        var shift: UInt64 = 64
        var i = from
        while i < bytes.count {
            shift -= 8
            word |= UInt64(bytes[i]) << shift
            i += 1
        }
        return word
    }

    /// Negative, zero or positive, as this is below, equal to or above the other.
    @inline(__always) func order(_ other: KeyWords) -> Int {
        if a != other.a { return a < other.a ? -1 : 1 }
        if b != other.b { return b < other.b ? -1 : 1 }
        if c != other.c { return c < other.c ? -1 : 1 }
        if d != other.d { return d < other.d ? -1 : 1 }
        return 0
    }
}

extension [UInt8] {
    /// The order of two keys whose first `from` bytes, filled up with zeros, are equal.
    fileprivate func order(_ other: [UInt8], after from: Int) -> Int {
        let a = self.span
        let b = other.span
        let shared = Swift.min(a.count, b.count)
        var i = from
        while i + 8 <= shared {
            let left = KeyWords.word(a, i)
            let right = KeyWords.word(b, i)
            if left != right { return left < right ? -1 : 1 }
            i += 8
        }
        while i < shared {
            if a[i] != b[i] { return a[i] < b[i] ? -1 : 1 }
            i += 1
        }
        return a.count == b.count ? 0 : a.count < b.count ? -1 : 1
    }
}
