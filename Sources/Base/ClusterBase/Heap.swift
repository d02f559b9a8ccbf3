/// A binary heap: the smallest element by `Comparable` comes out first.
public struct Heap<Element: Comparable> {
    @usableFromInline var items: [Element] = []
    @inlinable public init() {}

    /// How many elements are in it.
    /// The smallest element, which stays; nil when it is empty.
    /// Whether nothing is in it.
    @inlinable public var count: Int { items.count }
    @inlinable public var isEmpty: Bool { items.isEmpty }
    @inlinable public var first: Element? { items.first }

    /// Adds an element, in logarithmic time.
    @inlinable public mutating func insert(_ element: Element) {
        items.append(element)
        var child = items.count - 1
        // The others make room, and it is put down once.
        while child > 0 {
            let parent = (child - 1) / 2
            guard element < items[parent] else { break }
            items[child] = items[parent]
            child = parent
        }
        items[child] = element
    }

    /// Takes the smallest element out, in logarithmic time; nil when it is empty.
    @inlinable public mutating func popFirst() -> Element? {
        guard let last = items.popLast() else { return nil }
        guard let least = items.first else { return last }
        let count = items.count
        var parent = 0
        while true {
            let left = 2 * parent + 1
            if left >= count { break }
            let right = left + 1
            let child = right < count && items[right] < items[left] ? right : left
            guard items[child] < last else { break }
            items[parent] = items[child]
            parent = child
        }
        items[parent] = last
        return least
    }

    /// Takes everything out and keeps the memory.
    @inlinable public mutating func removeAll() { items.removeAll(keepingCapacity: true) }
}

extension Heap: Sendable where Element: Sendable {}
