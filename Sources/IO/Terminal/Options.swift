/// Options of the form `--name value`, taken one by one; what is left over is an error.
package struct Options {
    private var words: [String]
    package init(_ words: [String]) { self.words = words }

    package mutating func flag(_ name: String) -> Bool {
        guard let i = words.firstIndex(of: name) else { return false }
        words.remove(at: i)
        return true
    }

    package mutating func value(_ name: String) throws -> String? {
        guard let i = words.firstIndex(of: name) else { return nil }
        guard i + 1 < words.count else { throw UsageError("\(name) wants a value") }
        let value = words[i + 1]
        words.removeSubrange(i...i + 1)
        return value
    }

    package mutating func number(_ name: String, _ range: ClosedRange<Int>) throws -> Int? {
        guard let text = try value(name) else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw UsageError("\(name) wants a number in \(range.lowerBound)...\(range.upperBound), not '\(text)'")
        }
        return number
    }

    /// `7` or `3..7`.
    package mutating func range(_ name: String, _ bounds: ClosedRange<Int>) throws -> ClosedRange<Int>? {
        guard let text = try value(name) else { return nil }
        let parts = text.split(separator: ".", omittingEmptySubsequences: true).map { Int($0) }
        if parts.count == 1 || parts.count == 2, let low = parts[0], let high = parts[parts.count - 1], low <= high,
            bounds.contains(low), bounds.contains(high)
        {
            return low...high
        }
        throw UsageError(
            "\(name) wants one number or a range such as 3..7 within \(bounds.lowerBound)..\(bounds.upperBound), not '\(text)'"
        )
    }

    package mutating func word() -> String? {
        guard let first = words.first, !first.hasPrefix("--") else { return nil }
        return words.removeFirst()
    }

    package func end() throws {
        if let first = words.first { throw UsageError("'\(first)' is not understood here; --help lists what is") }
    }
}

/// A command line that can't be followed, and what to do instead.
package struct UsageError: Error, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}
