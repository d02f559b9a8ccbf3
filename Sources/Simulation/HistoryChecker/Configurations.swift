/// A list of configurations in one flat array: the value, 1 if it is present, then a bit for each slot in `available`
/// and one in `owed`, `width` words each. No configuration is an object of its own.
struct Configurations: Sendable {
    private(set) var width = 1
    private(set) var count = 0
    private var stride = 4
    private var words: [UInt64] = []

    /// Appends a register that was never written.
    mutating func appendAbsent() {
        for _ in 0..<stride { words.append(0) }
        count += 1
    }

    mutating func append(_ other: borrowing Configurations, _ i: Int) {
        let base = i * stride
        for k in base..<base + stride { words.append(other.words[k]) }
        count += 1
    }

    mutating func duplicate(_ i: Int) {
        let base = i * stride
        for k in base..<base + stride { words.append(words[k]) }
        count += 1
    }

    mutating func removeLast() {
        words.removeLast(stride)
        count -= 1
    }

    mutating func removeAll(width: Int) {
        words.removeAll(keepingCapacity: true)
        count = 0
        self.width = width
        stride = 2 + 2 * width
    }

    /// Makes room for more slots, which nobody has yet.
    mutating func widen(to width: Int) {
        var wider: [UInt64] = []
        wider.reserveCapacity(count * (2 + 2 * width))
        for base in Swift.stride(from: 0, to: words.count, by: stride) {
            let owed = base + 2 + self.width
            wider += words[base..<owed]
            for _ in self.width..<width { wider.append(0) }
            wider += words[owed..<base + stride]
            for _ in self.width..<width { wider.append(0) }
        }
        words = wider
        self.width = width
        stride = 2 + 2 * width
    }

    // MARK: One configuration

    func state(_ i: Int) -> UInt64? { words[i * stride + 1] == 0 ? nil : words[i * stride] }
    func available(_ i: Int, _ word: Int) -> UInt64 { words[i * stride + 2 + word] }
    func owed(_ i: Int, _ word: Int) -> UInt64 { words[i * stride + 2 + width + word] }
    func isAvailable(_ i: Int, _ slot: Int) -> Bool { available(i, slot >> 6) & slotBit(slot) != 0 }
    func isOwed(_ i: Int, _ slot: Int) -> Bool { owed(i, slot >> 6) & slotBit(slot) != 0 }

    mutating func setState(_ i: Int, _ value: UInt64?) {
        words[i * stride] = value ?? 0
        words[i * stride + 1] = value == nil ? 0 : 1
    }
    mutating func makeAvailable(_ i: Int, _ slot: Int) { words[i * stride + 2 + slot >> 6] |= slotBit(slot) }
    mutating func makeUnavailable(_ i: Int, _ slot: Int) { words[i * stride + 2 + slot >> 6] &= ~slotBit(slot) }
    mutating func oblige(_ i: Int, _ slot: Int) { words[i * stride + 2 + width + slot >> 6] |= slotBit(slot) }
    mutating func excuse(_ i: Int, _ word: Int, _ slots: UInt64) { words[i * stride + 2 + width + word] &= ~slots }

    // MARK: All of them

    /// Different states, sorted, absent first.
    var states: [UInt64?] {
        var present: [UInt64] = []
        var result: [UInt64?] = []
        for i in 0..<count {
            if let value = state(i) { present.append(value) } else if result.isEmpty { result.append(nil) }
        }
        present.sort()
        for (i, value) in present.enumerated() where i == 0 || present[i - 1] != value { result.append(value) }
        return result
    }

    /// The slots that at least one configuration has available.
    var availableAnywhere: [UInt64] {
        var result = [UInt64](repeating: 0, count: width)
        for i in 0..<count {
            for word in 0..<width { result[word] |= available(i, word) }
        }
        return result
    }

    /// Drops the last configuration if another covers it, else those that it covers. Says how many it compared.
    mutating func keepLastAlone() -> Int {
        let compared = count
        var i = 0
        while i < count - 1 {
            if covers(i, count - 1) {
                removeLast()
                return compared
            }
            if covers(count - 1, i) {
                // The one before the last fills the gap, the last moves down.
                move(count - 2, to: i)
                move(count - 1, to: count - 2)
                removeLast()
            } else {
                i += 1
            }
        }
        return compared
    }

    /// Drops the last configuration if another covers it. Says how many it compared.
    mutating func keepLastIfNew() -> Int {
        for i in 0..<count - 1 where covers(i, count - 1) {
            removeLast()
            return i + 1
        }
        return count
    }

    private mutating func move(_ from: Int, to: Int) {
        if from == to { return }
        for k in 0..<stride { words[to * stride + k] = words[from * stride + k] }
    }

    /// Whether all that `b` can become, `a` can become too.
    private func covers(_ a: Int, _ b: Int) -> Bool {
        let x = a * stride
        let y = b * stride
        if words[x] != words[y] || words[x + 1] != words[y + 1] { return false }
        for word in 2..<2 + width where words[y + word] & ~words[x + word] != 0 { return false }
        for word in 2 + width..<stride where words[x + word] & ~words[y + word] != 0 { return false }
        return true
    }
}

/// The bit of a slot in its word.
@inline(__always) func slotBit(_ slot: Int) -> UInt64 { 1 << UInt64(slot & 63) }
