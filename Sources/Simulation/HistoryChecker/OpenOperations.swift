/// The operations of one register that have been invoked and not closed, each in a slot, and what they do to
/// configurations.
struct OpenOperations: Sendable {
    enum Effect: Hashable, Sendable {
        case observe(UInt64?)
        case refuse(expected: UInt64?)
        case write(UInt64?)
        case swap(expected: UInt64?, new: UInt64?)

        /// What an operation does if it takes effect; nil when it explains nothing and needs no explanation.
        init?(of operation: History.Operation) {
            switch (operation.kind, operation.outcome) {
            case (_, .failed): return nil
            case (.get, .observed(let value)): self = .observe(value)
            case (.get, _): return nil
            case (.put(let value), _): self = .write(value)
            case (.delete, _): self = .write(nil)
            case (.compareAndSet(let expected, _), .refused): self = .refuse(expected: expected)
            case (.compareAndSet(let expected, let new), _): self = .swap(expected: expected, new: new)
            }
        }

        @inline(__always) func isAllowed(in state: UInt64?) -> Bool {
            switch self {
            case .observe(let value): value == state
            case .refuse(let expected): expected != state
            case .write: true
            case .swap(let expected, _): expected == state
            }
        }
    }

    private struct Slot: Sendable {
        var effect: Effect
        var operation: History.Operation
        /// Grows with every operation of the register.
        var number: Int
        /// When it returns; never is `Int64.max`.
        var end: Int64
        /// The open slot with the same effect that returns next before this one, or -1. Of such twins the one that
        /// returns first is used first: a sequence that uses them the other way round works with the two exchanged.
        var twin: Int
        /// For a put or delete: whether an open compare-and-set may expect what it writes. Spares most searches.
        var isExpected = false
    }

    /// Words in each set of slots below.
    private(set) var width = 1
    private var slots: [Slot] = []
    private var number = 0
    private var open: [UInt64] = [0]
    private var observers: [UInt64] = [0]
    private var blind: [UInt64] = [0]
    private var swaps: [UInt64] = [0]
    /// Operations that never return.
    private var endless: [UInt64] = [0]
    private var endlessCount = 0
    /// Whether twins were left out because there were enough of them.
    private var twinsWereLeftOut = false

    var hasEndless: Bool { endlessCount > 0 }
    func isObserver(_ slot: Int) -> Bool { has(observers, slot) }
    func returns(_ slot: Int) -> Bool { has(open, slot) && !has(endless, slot) }
    @inline(__always) private func has(_ set: [UInt64], _ slot: Int) -> Bool { set[slot >> 6] & slotBit(slot) != 0 }

    /// The open operations except one, in order of invocation.
    func operations(except slot: Int) -> [History.Operation] {
        slots.indices.filter { $0 != slot && has(open, $0) }
            .sorted { slots[$0].number < slots[$1].number }
            .map { slots[$0].operation }
    }

    func operation(_ slot: Int) -> History.Operation { slots[slot].operation }

    // MARK: Slots

    /// The slot of the operation, or the one that stands for it; nil when there is none.
    mutating func take(_ effect: Effect, _ operation: History.Operation, returns: Bool) -> Int? {
        let end = returns ? operation.returned ?? .max : .max
        let (before, after, endlessTwins) = neighbours(effect, end)
        if !returns && endlessTwins >= CheckLimits.twinsMax {
            twinsWereLeftOut = true
            return before
        }
        var word = 0
        while word < width, open[word] == .max { word += 1 }
        if word == width {
            if width * 64 >= CheckLimits.openOperationsMax { return nil }
            widen()
        }
        let slot = word << 6 + (~open[word]).trailingZeroBitCount
        let mask = slotBit(slot)
        open[word] |= mask
        switch effect {
        case .observe, .refuse: observers[word] |= mask
        case .write: blind[word] |= mask
        case .swap: swaps[word] |= mask
        }
        if !returns {
            endless[word] |= mask
            endlessCount += 1
        }
        number += 1
        let new = Slot(effect: effect, operation: operation, number: number, end: end, twin: before)
        if slot == slots.count { slots.append(new) } else { slots[slot] = new }
        if after >= 0 { slots[after].twin = slot }
        noteExpectations(slot)
        return slot
    }

    private mutating func noteExpectations(_ slot: Int) {
        switch slots[slot].effect {
        case .observe, .refuse: break
        case .write(let value):
            slots[slot].isExpected = contains(swaps) { $0.effect.isAllowed(in: value) }
        case .swap(let expected, _):
            for other in slots.indices where has(blind, other) && slots[other].effect == .write(expected) {
                slots[other].isExpected = true
            }
        }
    }

    private func contains(_ set: [UInt64], where isMatch: (Slot) -> Bool) -> Bool {
        for word in 0..<width {
            var rest = set[word]
            while rest != 0 {
                if isMatch(slots[word << 6 + rest.trailingZeroBitCount]) { return true }
                rest &= rest - 1
            }
        }
        return false
    }

    /// The places of a new operation's twins just before and after it in order of return, or -1, and how many twins
    /// never return. Observers have no twins.
    private func neighbours(_ effect: Effect, _ end: Int64) -> (before: Int, after: Int, endless: Int) {
        var before = -1
        var after = -1
        var endlessTwins = 0
        for word in 0..<width {
            var rest = blind[word] | swaps[word]
            while rest != 0 {
                let slot = word << 6 + rest.trailingZeroBitCount
                rest &= rest - 1
                if slots[slot].effect != effect { continue }
                if has(endless, slot) { endlessTwins += 1 }
                if slots[slot].end <= end {
                    if before < 0 || precedes(before, slot) { before = slot }
                } else if after < 0 || precedes(slot, after) {
                    after = slot
                }
            }
        }
        return (before, after, endlessTwins)
    }

    private func precedes(_ a: Int, _ b: Int) -> Bool {
        (slots[a].end, slots[a].number) < (slots[b].end, slots[b].number)
    }

    /// Whether using this slot uses up the last of its twins, of which some were left out.
    func usesLastTwin(_ slot: Int) -> Bool {
        twinsWereLeftOut && has(endless, slot) && !slots.contains { $0.twin == slot }
    }

    private mutating func widen() {
        width += 1
        open.append(0)
        observers.append(0)
        blind.append(0)
        swaps.append(0)
        endless.append(0)
    }

    /// Frees a slot that no configuration has available or owed.
    mutating func release(_ slot: Int) {
        let word = slot >> 6
        let mask = slotBit(slot)
        if endless[word] & mask != 0 { endlessCount -= 1 }
        open[word] &= ~mask
        observers[word] &= ~mask
        blind[word] &= ~mask
        swaps[word] &= ~mask
        endless[word] &= ~mask
        for other in slots.indices where slots[other].twin == slot { slots[other].twin = slots[slot].twin }
        slots[slot].twin = -1
    }

    /// Frees the slots that never return and are in no configuration's `available` any more.
    mutating func releaseEndless(except available: [UInt64]) {
        for word in 0..<width {
            var rest = endless[word] & ~available[word]
            while rest != 0 {
                let slot = word << 6 + rest.trailingZeroBitCount
                rest &= rest - 1
                release(slot)
            }
        }
    }

    // MARK: Configurations

    /// Whether letting the available write in `slot` take effect next is possible and can matter: it is the goal, or a
    /// compare-and-set, or somebody may see what it puts before the next put.
    func isWorthTrying(_ slot: Int, toward goal: Int, in list: borrowing Configurations, _ i: Int) -> Bool {
        switch slots[slot].effect {
        case .observe, .refuse: return false
        case .swap(let expected, _): return list.state(i) == expected && !hasEarlierTwin(slot, list, i)
        case .write(let value):
            if slot == goal { return true }
            return isAwaited(value, slots[slot].isExpected, list, i) && !hasEarlierTwin(slot, list, i)
        }
    }

    private func hasEarlierTwin(_ slot: Int, _ list: borrowing Configurations, _ i: Int) -> Bool {
        var twin = slots[slot].twin
        while twin >= 0 {
            if list.isAvailable(i, twin) { return true }
            twin = slots[twin].twin
        }
        return false
    }

    /// Whether an owed observer or an available compare-and-set would make use of the value.
    private func isAwaited(_ value: UInt64?, _ isExpected: Bool, _ list: borrowing Configurations, _ i: Int) -> Bool {
        for word in 0..<width {
            var waiting = list.owed(i, word) & observers[word]
            if isExpected { waiting |= list.available(i, word) & swaps[word] }
            while waiting != 0 {
                if slots[word << 6 + waiting.trailingZeroBitCount].effect.isAllowed(in: value) { return true }
                waiting &= waiting - 1
            }
        }
        return false
    }

    /// Lets the write in `slot` take effect in the last configuration of the list, and with it every get and refused
    /// compare-and-set that the new state allows.
    func apply(_ slot: Int, to list: inout Configurations) {
        let i = list.count - 1
        let value: UInt64?
        switch slots[slot].effect {
        case .write(let new):
            value = new
            for word in 0..<width { list.excuse(i, word, blind[word]) }
        case .swap(_, let new): value = new
        case .observe, .refuse: preconditionFailure("slot \(slot) holds no write")
        }
        list.setState(i, value)
        list.makeUnavailable(i, slot)
        list.excuse(i, slot >> 6, slotBit(slot))
        for word in 0..<width {
            var owed = list.owed(i, word) & observers[word]
            while owed != 0 {
                let observer = word << 6 + owed.trailingZeroBitCount
                owed &= owed - 1
                if slots[observer].effect.isAllowed(in: value) { list.excuse(i, word, slotBit(observer)) }
            }
        }
    }
}
