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
        /// The next older slot with the same effect that never returns, or -1. Such twins are used oldest first, since
        /// it makes no difference which of them took effect.
        var twin: Int
    }

    /// Words in each set of slots below.
    private(set) var width = 1
    private(set) var returningCount = 0
    private var slots: [Slot] = []
    private var number = 0
    private var open: [UInt64] = [0]
    private var observers: [UInt64] = [0]
    private var blind: [UInt64] = [0]
    private var swaps: [UInt64] = [0]
    /// Operations that never return.
    private var endless: [UInt64] = [0]
    private var endlessCount = 0

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

    mutating func take(_ effect: Effect, _ operation: History.Operation, returns: Bool) -> Int? {
        var word = 0
        while word < width, open[word] == .max { word += 1 }
        if word == width {
            if width * 64 >= CheckLimits.openOperationsMax { return nil }
            widen()
        }
        let slot = word << 6 + (~open[word]).trailingZeroBitCount
        let twin = returns ? -1 : newestEndless(with: effect)
        let mask = slotBit(slot)
        open[word] |= mask
        switch effect {
        case .observe, .refuse: observers[word] |= mask
        case .write: blind[word] |= mask
        case .swap: swaps[word] |= mask
        }
        if returns {
            returningCount += 1
        } else {
            endless[word] |= mask
            endlessCount += 1
        }
        number += 1
        let new = Slot(effect: effect, operation: operation, number: number, twin: twin)
        if slot == slots.count { slots.append(new) } else { slots[slot] = new }
        return slot
    }

    private func newestEndless(with effect: Effect) -> Int {
        var newest = -1
        for word in 0..<width {
            var rest = endless[word]
            while rest != 0 {
                let slot = word << 6 + rest.trailingZeroBitCount
                rest &= rest - 1
                if slots[slot].effect == effect && (newest < 0 || slots[newest].number < slots[slot].number) {
                    newest = slot
                }
            }
        }
        return newest
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
        if endless[word] & mask == 0 { returningCount -= 1 } else { endlessCount -= 1 }
        open[word] &= ~mask
        observers[word] &= ~mask
        blind[word] &= ~mask
        swaps[word] &= ~mask
        endless[word] &= ~mask
    }

    /// Frees the slots that never return and are in no configuration's `available` any more.
    mutating func releaseEndless(except available: [UInt64]) {
        for word in 0..<width {
            var rest = endless[word] & ~available[word]
            while rest != 0 {
                let slot = word << 6 + rest.trailingZeroBitCount
                rest &= rest - 1
                // Older twins went before this one, so the younger has none.
                for other in slots.indices where slots[other].twin == slot { slots[other].twin = -1 }
                release(slot)
            }
        }
    }

    // MARK: Configurations

    /// Whether letting the available write in `slot` take effect next is possible and can matter: it is the goal, or a
    /// compare-and-set, or somebody may see what it puts before the next put.
    func isWorthTrying(_ slot: Int, toward goal: Int, in list: borrowing Configurations, _ i: Int) -> Bool {
        let twin = slots[slot].twin
        if twin >= 0 && list.isAvailable(i, twin) { return false }
        switch slots[slot].effect {
        case .observe, .refuse: return false
        case .swap(let expected, _): return list.state(i) == expected
        case .write(let value):
            if slot == goal { return true }
            for word in 0..<width {
                var owed = list.owed(i, word) & observers[word]
                while owed != 0 {
                    if slots[word << 6 + owed.trailingZeroBitCount].effect.isAllowed(in: value) { return true }
                    owed &= owed - 1
                }
                var free = list.available(i, word) & swaps[word]
                while free != 0 {
                    if slots[word << 6 + free.trailingZeroBitCount].effect.isAllowed(in: value) { return true }
                    free &= free - 1
                }
            }
            return false
        }
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
