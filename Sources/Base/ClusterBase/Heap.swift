/// A binary heap: the smallest element by `Comparable` comes out first.
public struct Heap<Element: Comparable> {
    @usableFromInline var items: [Element] = []
    @inlinable public init() {}

    @inlinable public var count: Int { items.count }
    @inlinable public var isEmpty: Bool { items.isEmpty }
    @inlinable public var first: Element? { items.first }

    @inlinable public mutating func insert(_ element: Element) {
        items.append(element)
        var child = items.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            if items[child] < items[parent] {
                items.swapAt(child, parent)
                child = parent
            } else {
                return
            }
        }
    }

    @inlinable public mutating func popFirst() -> Element? {
        if items.isEmpty { return nil }
        items.swapAt(0, items.count - 1)
        let least = items.removeLast()
        var parent = 0
        while true {
            let left = 2 * parent + 1
            if left >= items.count { break }
            let right = left + 1
            let least = right < items.count && items[right] < items[left] ? right : left
            if items[least] < items[parent] {
                items.swapAt(least, parent)
                parent = least
            } else {
                break
            }
        }
        return least
    }

    @inlinable public mutating func removeAll() { items.removeAll(keepingCapacity: true) }
}

extension Heap: Sendable where Element: Sendable {}
