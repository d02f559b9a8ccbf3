internal import ClusterBase

/// One timer. Using it after it fired or was cancelled does nothing.
package struct TimerID: Hashable, Sendable {
    let slot: Int
    let number: UInt64
}

/// Timers by time, then by the order they were set in. A cancelled one leaves its place in the heap behind, which is
/// swept when such places are the majority.
struct TimerTable {
    private struct Place: Comparable {
        var at: Instant
        var number: UInt64
        var slot: Int
        static func < (a: Place, b: Place) -> Bool { a.at != b.at ? a.at < b.at : a.number < b.number }
    }
    private struct Slot {
        var number: UInt64 = 0
        var tag = 0
        var handler: (any TimerHandler)?
    }

    private var heap = Heap<Place>()
    private var slots: [Slot] = []
    private var free: [Int] = []
    private(set) var numberLast: UInt64 = 0
    private(set) var count = 0

    mutating func insert(at moment: Instant, _ handler: any TimerHandler, _ tag: Int) -> TimerID {
        if heap.count > 64 && heap.count > 2 * (count + 1) { sweep() }
        numberLast += 1
        let slot = free.popLast() ?? slots.count
        if slot == slots.count { slots.append(Slot()) }
        slots[slot] = Slot(number: numberLast, tag: tag, handler: handler)
        heap.insert(Place(at: moment, number: numberLast, slot: slot))
        count += 1
        return TimerID(slot: slot, number: numberLast)
    }

    mutating func remove(_ timer: TimerID) {
        guard slots[timer.slot].number == timer.number else { return }
        release(timer.slot)
    }

    /// When the next one is due.
    var next: Instant? {
        mutating get {
            while let first = heap.first {
                if slots[first.slot].number == first.number { return first.at }
                _ = heap.popFirst()
            }
            return nil
        }
    }

    mutating func popDue(_ now: Instant, numberedUpTo last: UInt64) -> (any TimerHandler, Int)? {
        while let first = heap.first, first.at <= now {
            let slot = slots[first.slot]
            if slot.number == first.number, first.number > last { return nil }
            _ = heap.popFirst()
            guard slot.number == first.number, let handler = slot.handler else { continue }
            release(first.slot)
            return (handler, slot.tag)
        }
        return nil
    }

    private mutating func release(_ slot: Int) {
        slots[slot] = Slot()
        free.append(slot)
        count -= 1
    }

    private mutating func sweep() {
        var swept = Heap<Place>()
        while let place = heap.popFirst() {
            if slots[place.slot].number == place.number { swept.insert(place) }
        }
        heap = swept
    }
}
