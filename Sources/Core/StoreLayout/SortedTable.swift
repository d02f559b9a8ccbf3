public import ClusterBase

/// An ordered map from byte strings to byte strings, as chunks of sorted rows: a tree of depth two.
///
/// A copy costs one reference; a write after it copies one chunk and the list of chunks. Finding a key takes two
/// binary searches that compare three words each, and touch key bytes only where the first 24 are equal.
public struct SortedTable: Sendable {
    struct Row: Sendable {
        let words: KeyWords
        let key: [UInt8]
        var value: [UInt8]
    }

    struct Chunk: Sendable {
        /// The words of the first row's key.
        var first: KeyWords
        /// Never empty, at most `rowsMax`.
        var rows: [Row]
    }

    /// A place between rows. Places in a table are compared and used only until its next change.
    struct Place: Sendable {
        var chunk: Int
        var row: Int
    }

    /// A chunk splits above this: 5 KiB of rows, so that an insertion moves little and a copy is cheap.
    static let rowsMax = 128

    private var chunks: [Chunk] = []
    public private(set) var count = 0
    /// Bytes of all keys and values.
    public private(set) var byteCount = 0

    public init() {}

    public var isEmpty: Bool { count == 0 }

    public func value(for key: [UInt8]) -> [UInt8]? {
        let (place, isFound) = find(key)
        return isFound ? chunks[place.chunk].rows[place.row].value : nil
    }

    /// Sets the value of a key and returns the one it had.
    @discardableResult public mutating func put(_ key: [UInt8], _ value: [UInt8]) -> [UInt8]? {
        let words = KeyWords(key)
        let (place, isFound) = find(key, words)
        if isFound {
            let old = chunks[place.chunk].rows[place.row].value
            byteCount += value.count - old.count
            chunks[place.chunk].rows[place.row].value = value
            return old
        }
        insert(Row(words: words, key: key, value: value), at: place)
        return nil
    }

    /// Removes a key and returns the value it had.
    @discardableResult public mutating func remove(_ key: [UInt8]) -> [UInt8]? {
        let (place, isFound) = find(key)
        if !isFound { return nil }
        let row = chunks[place.chunk].rows.remove(at: place.row)
        count -= 1
        byteCount -= row.key.count + row.value.count
        if chunks[place.chunk].rows.isEmpty {
            chunks.remove(at: place.chunk)
        } else if place.row == 0 {
            chunks[place.chunk].first = chunks[place.chunk].rows[0].words
        }
        return row.value
    }

    /// Removes all keys of a range, ascending; `removed` is told each of them with its value.
    public mutating func remove(_ range: KeyRange, _ removed: (_ key: [UInt8], _ value: [UInt8]) -> Void = { _, _ in }) {
        var place = find(range.from).place
        let end = range.to.map { find($0).place } ?? Place(chunk: chunks.count, row: 0)
        var emptied = place.chunk..<place.chunk
        while place.chunk < chunks.count, place.chunk <= end.chunk {
            let rows = chunks[place.chunk].rows
            let through = place.chunk == end.chunk ? end.row : rows.count
            if place.row < through {
                for i in place.row..<through {
                    removed(rows[i].key, rows[i].value)
                    byteCount -= rows[i].key.count + rows[i].value.count
                }
                count -= through - place.row
                if place.row == 0 && through == rows.count {
                    if emptied.isEmpty { emptied = place.chunk..<place.chunk }
                    emptied = emptied.lowerBound..<place.chunk + 1
                } else {
                    removeRows(place.row..<through, inChunk: place.chunk)
                }
            }
            place = Place(chunk: place.chunk + 1, row: 0)
        }
        if !emptied.isEmpty { chunks.removeSubrange(emptied) }
    }

    private mutating func removeRows(_ range: Range<Int>, inChunk chunk: Int) {
        chunks[chunk].rows.removeSubrange(range)
        chunks[chunk].first = chunks[chunk].rows[0].words
    }

    public mutating func removeAll() {
        // One chunk's memory is kept: most tables that are emptied often are small.
        if chunks.count == 1 {
            chunks[0].rows.removeAll(keepingCapacity: true)
            spare = chunks[0].rows
        }
        chunks.removeAll(keepingCapacity: true)
        count = 0
        byteCount = 0
    }

    private var spare: [Row] = []

    /// Calls `body` for the rows of a range, ascending, until it returns false.
    public func scan(_ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool) {
        var place = find(range.from).place
        let end = range.to.map { find($0).place } ?? Place(chunk: chunks.count, row: 0)
        while place.chunk < chunks.count, place.chunk <= end.chunk {
            let rows = chunks[place.chunk].rows
            let through = place.chunk == end.chunk ? end.row : rows.count
            while place.row < through {
                if !body(rows[place.row].key, rows[place.row].value) { return }
                place.row += 1
            }
            place = Place(chunk: place.chunk + 1, row: 0)
        }
    }

    /// The first row at or after `key`.
    public func first(from key: [UInt8]) -> (key: [UInt8], value: [UInt8])? {
        let place = find(key).place
        if place.chunk == chunks.count { return nil }
        if place.row < chunks[place.chunk].rows.count {
            let row = chunks[place.chunk].rows[place.row]
            return (row.key, row.value)
        }
        if place.chunk + 1 == chunks.count { return nil }
        let row = chunks[place.chunk + 1].rows[0]
        return (row.key, row.value)
    }

    /// The row with this many rows before it; `position` is below `count`. Costs one step a chunk.
    public func row(at position: Int) -> (key: [UInt8], value: [UInt8]) {
        precondition(position >= 0 && position < count, "row \(position) is outside a table of \(count)")
        var left = position
        for chunk in chunks {
            if left < chunk.rows.count { return (chunk.rows[left].key, chunk.rows[left].value) }
            left -= chunk.rows.count
        }
        preconditionFailure("the chunks hold fewer rows than the \(count) counted")
    }

    // MARK: Places

    private func find(_ key: [UInt8]) -> (place: Place, isFound: Bool) { find(key, KeyWords(key)) }

    /// The place of a key, or the one where it belongs: in the last chunk whose first key is not above it.
    private func find(_ key: [UInt8], _ words: KeyWords) -> (place: Place, isFound: Bool) {
        if chunks.isEmpty { return (Place(chunk: 0, row: 0), false) }
        var low = 0
        var high = chunks.count
        // Chunks below `low` begin at or before the key, chunks from `high` on begin after it.
        while low < high {
            let middle = (low + high) / 2
            if isAfter(chunks[middle].first, words, key, middle) { high = middle } else { low = middle + 1 }
        }
        let chunk = max(0, low - 1)
        return chunks[chunk].rows.withRow(of: key, words) { row, isFound in (Place(chunk: chunk, row: row), isFound) }
    }

    private func isAfter(_ first: KeyWords, _ words: KeyWords, _ key: [UInt8], _ chunk: Int) -> Bool {
        if first != words { return words < first }
        return key.precedes(chunks[chunk].rows[0].key)
    }

    private mutating func insert(_ row: Row, at place: Place) {
        count += 1
        byteCount += row.key.count + row.value.count
        if chunks.isEmpty {
            var rows = spare
            spare = []
            rows.append(row)
            chunks.append(Chunk(first: row.words, rows: rows))
            return
        }
        let rowCount = chunks[place.chunk].rows.count
        if rowCount < SortedTable.rowsMax {
            chunks[place.chunk].rows.insert(row, at: place.row)
            if place.row == 0 { chunks[place.chunk].first = row.words }
        } else if place.row == rowCount {
            // Keys that come in ascending order fill their chunks.
            chunks.insert(Chunk(first: row.words, rows: [row]), at: place.chunk + 1)
        } else {
            let half = rowCount / 2
            let upper = Array(chunks[place.chunk].rows[half...])
            chunks[place.chunk].rows.removeSubrange(half...)
            chunks.insert(Chunk(first: upper[0].words, rows: upper), at: place.chunk + 1)
            let isUpper = place.row > half
            let target = isUpper ? place.chunk + 1 : place.chunk
            chunks[target].rows.insert(row, at: isUpper ? place.row - half : place.row)
            if place.row == 0 { chunks[target].first = row.words }
        }
    }
}

/// The first 24 bytes of a key as three big-endian words, filled up with zeros. Different words decide the order of two
/// keys; equal words don't.
struct KeyWords: Comparable, Sendable {
    let high: UInt64
    let middle: UInt64
    let low: UInt64

    init(_ key: [UInt8]) {
        let bytes = key.span
        high = KeyWords.word(bytes, 0)
        middle = KeyWords.word(bytes, 8)
        low = KeyWords.word(bytes, 16)
    }

    static func word(_ bytes: Span<UInt8>, _ from: Int) -> UInt64 {
        var word: UInt64 = 0
        if from + 8 <= bytes.count {
            for i in from..<from + 8 { word = word << 8 | UInt64(bytes[i]) }
            return word
        }
        var shift: UInt64 = 64
        var i = from
        while i < bytes.count {
            shift -= 8
            word |= UInt64(bytes[i]) << shift
            i += 1
        }
        return word
    }

    static func < (a: KeyWords, b: KeyWords) -> Bool {
        if a.high != b.high { return a.high < b.high }
        if a.middle != b.middle { return a.middle < b.middle }
        return a.low < b.low
    }
}

extension [SortedTable.Row] {
    /// The position of the first row that is not before the key, and whether it is the key's.
    fileprivate func withRow<R>(of key: [UInt8], _ words: KeyWords, _ body: (Int, Bool) -> R) -> R {
        let rows = self.span
        var low = 0
        var high = rows.count
        while low < high {
            let middle = (low + high) / 2
            let other = rows[middle].words
            let isBefore = other != words ? other < words : rows[middle].key.precedes(key)
            if isBefore { low = middle + 1 } else { high = middle }
        }
        let isFound = low < rows.count && rows[low].words == words && rows[low].key == key
        return body(low, isFound)
    }
}
