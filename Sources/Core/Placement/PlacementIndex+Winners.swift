import ClusterBase
import FleetModel

struct WinnersKey: Hashable, Sendable {
    var shape: Shape
    var policy: PlacementPolicy
}

/// The best host of every block, and the best score of every 64 blocks, for one shape under one policy, rules aside.
struct Winners: Sendable {
    static let none = Int64.max

    var key: WinnersKey
    var shape: CompiledShape
    var best: [Int64] = []
    var bestSlot: [Int32] = []
    var top: [Int64] = []
    /// The number of the first change that is not yet taken in; -1 before the first building.
    var seen = -1
    var lastUse: UInt64 = 0
}

extension PlacementIndex {
    /// The number of the up-to-date winners for a shape.
    mutating func currentWinners(_ shape: Shape, _ policy: PlacementPolicy) -> Int {
        let key = WinnersKey(shape: shape, policy: policy)
        useCount += 1
        let number: Int
        if let known = winnersOf[key] {
            number = known
        } else if winners.count < PlacementIndex.shapesRememberedMax {
            number = winners.count
            winners.append(Winners(key: key, shape: CompiledShape(shape)))
            winnersOf[key] = number
        } else {
            var oldest = 0
            for i in winners.indices where winners[i].lastUse < winners[oldest].lastUse { oldest = i }
            winnersOf[winners[oldest].key] = nil
            number = oldest
            winners[number] = Winners(key: key, shape: CompiledShape(shape))
            winnersOf[key] = number
        }
        // Moved out while it is repaired, so that it has one owner and is changed in place.
        var current = Winners(key: key, shape: winners[number].shape)
        swap(&current, &winners[number])
        repair(&current)
        current.lastUse = useCount
        swap(&current, &winners[number])
        return number
    }

    private mutating func repair(_ w: inout Winners) {
        let end = changesBase + changes.count
        defer { w.seen = end }
        if w.seen < changesBase || end - w.seen > max(64, slotOf.count) {
            w.best = Array(repeating: Winners.none, count: blocks.count)
            w.bestSlot = Array(repeating: -1, count: blocks.count)
            w.top = Array(repeating: Winners.none, count: (blocks.count + 63) / 64)
            for block in blocks.indices {
                rescan(block, &w)
                w.top[block >> 6] = min(w.top[block >> 6], w.best[block])
            }
            return
        }
        while w.best.count < blocks.count {
            if w.best.count & 63 == 0 { w.top.append(Winners.none) }
            w.best.append(Winners.none)
            w.bestSlot.append(-1)
        }
        var last: Int32 = -1
        var at = w.seen - changesBase
        while at < changes.count {
            let slot = changes[at]
            at += 1
            if slot == last { continue }
            last = slot
            rejudge(Int(slot), &w)
        }
    }

    private mutating func rejudge(_ slot: Int, _ w: inout Winners) {
        let block = slot >> PlacementIndex.blockShift
        let old = w.best[block]
        let score = fit(slot, w.shape, w.key.policy)?.score ?? Winners.none
        if Int(w.bestSlot[block]) == slot {
            if score <= old && score != Winners.none {
                w.best[block] = score
            } else {
                rescan(block, &w)
            }
        } else if score < old
            || (score == old && score != Winners.none && precedes(slot, Int(w.bestSlot[block]), w.key.policy))
        {
            w.best[block] = score
            w.bestSlot[block] = Int32(slot)
        } else {
            return
        }
        let new = w.best[block]
        let top = block >> 6
        if new <= w.top[top] {
            w.top[top] = new
        } else if old == w.top[top] {
            var least = Winners.none
            for b in top << 6..<min((top + 1) << 6, w.best.count) { least = min(least, w.best[b]) }
            w.top[top] = least
        }
    }

    private mutating func rescan(_ block: Int, _ w: inout Winners) {
        w.best[block] = Winners.none
        w.bestSlot[block] = -1
        if blocks[block].taking == 0 { return }
        let first = block << PlacementIndex.blockShift
        for slot in first..<first + PlacementIndex.blockSize {
            guard let fit = fit(slot, w.shape, w.key.policy) else { continue }
            if fit.score < w.best[block]
                || (fit.score == w.best[block] && precedes(slot, Int(w.bestSlot[block]), w.key.policy))
            {
                w.best[block] = fit.score
                w.bestSlot[block] = Int32(slot)
            }
        }
    }

    /// Decides between hosts of equal score.
    @inline(__always) func precedes(_ a: Int, _ b: Int, _ policy: PlacementPolicy) -> Bool {
        switch policy {
        case .balance, .spread: seats[a].rank < seats[b].rank
        default: seats[a].host < seats[b].host
        }
    }
}
