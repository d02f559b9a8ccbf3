/// Finds what somebody who mistyped a word may have meant.
package enum NearestWord {
    /// The longest word that is compared; a longer one is no slip of the finger.
    static let bytesMax = 64

    /// The candidate with the fewest changes, if they are few for the word's length; the first of equals.
    package static func of(_ word: String, in candidates: [String]) -> String? {
        let bytes = Array(word.utf8)
        guard !bytes.isEmpty, bytes.count <= bytesMax else { return nil }
        var best: (word: String, changes: Int)?
        for candidate in candidates {
            let other = Array(candidate.utf8)
            guard other.count <= bytesMax else { continue }
            let changes = distance(bytes, other)
            if changes < best?.changes ?? Int.max { best = (candidate, changes) }
        }
        guard let best, best.changes <= max(1, min(bytes.count, best.word.utf8.count) / 3) else { return nil }
        return best.word
    }

    /// "; did you mean 'x'?", or nothing.
    package static func hint(_ word: String, in candidates: [String]) -> String {
        of(word, in: candidates).map { "; did you mean '\($0)'?" } ?? ""
    }

    /// Insertions, deletions, replacements and swaps of neighbours that turn one into the other.
    private static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
        var beforeLast = [Int](repeating: 0, count: b.count + 1)
        var last = Array(0...b.count)
        for i in a.indices {
            var row = [i + 1]
            for j in b.indices {
                var least = min(row[j] + 1, last[j + 1] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { least = min(least, beforeLast[j - 1] + 1) }
                row.append(least)
            }
            beforeLast = last
            last = row
        }
        return last[b.count]
    }
}
