/// A queue in one growing circle: both ends in constant time, no allocation once it is as large as it gets.
public struct RingBuffer<Element> {
    /// How many elements are in it.
    @usableFromInline var slots: [Element?]
    @usableFromInline var head = 0
    public private(set) var count = 0

    /// Room for `capacity` elements, rounded up to a power of two, is made at once.
    @inlinable public init(capacity: Int = 0) {
        slots = []
        if capacity > 0 { slots = Array(repeating: nil, count: RingBuffer.rounded(capacity)) }
    }

    @inlinable static func rounded(_ n: Int) -> Int {
        var size = 4
        while size < n { size *= 2 }
        return size
    }

    /// Whether nothing is in it.
    /// The element that was appended last.
    /// The element that is longest in it.
    @inlinable public var isEmpty: Bool { count == 0 }
    @inlinable public var first: Element? { count == 0 ? nil : slots[head] }
    @inlinable public var last: Element? { count == 0 ? nil : slots[slot(count - 1)] }
    @inlinable func slot(_ i: Int) -> Int { (head &+ i) & (slots.count &- 1) }

    /// The element at a position, 0 being the first; a position outside ends the process.
    public subscript(i: Int) -> Element {
        @inlinable get {
            precondition(i >= 0 && i < count, "index \(i) is outside a ring of \(count)")
            guard let element = slots[slot(i)] else { preconditionFailure("a ring slot in use is empty") }
            return element
        }
        @inlinable set {
            precondition(i >= 0 && i < count, "index \(i) is outside a ring of \(count)")
            slots[slot(i)] = newValue
        }
    }

    /// Adds an element at the end; doubles the room when it is full.
    @inlinable public mutating func append(_ element: Element) {
        if count == slots.count { grow() }
        slots[slot(count)] = element
        setCount(count + 1)
    }

    /// Takes the first element out; nil when it is empty.
    @inlinable public mutating func popFirst() -> Element? {
        if count == 0 { return nil }
        let element = slots[head]
        slots[head] = nil
        head = slot(1)
        setCount(count - 1)
        return element
    }

    /// Takes the last element out; nil when it is empty.
    @inlinable public mutating func popLast() -> Element? {
        if count == 0 { return nil }
        let at = slot(count - 1)
        let element = slots[at]
        slots[at] = nil
        setCount(count - 1)
        return element
    }

    /// Takes everything out and keeps the memory.
    public mutating func removeAll() {
        while popFirst() != nil {}
    }

    @usableFromInline mutating func setCount(_ n: Int) { count = n }

    @usableFromInline mutating func grow() {
        var larger: [Element?] = []
        larger.reserveCapacity(max(4, slots.count * 2))
        for i in 0..<count { larger.append(slots[slot(i)]) }
        while larger.count < max(4, slots.count * 2) { larger.append(nil) }
        slots = larger
        head = 0
    }
}

extension RingBuffer: Sendable where Element: Sendable {}
