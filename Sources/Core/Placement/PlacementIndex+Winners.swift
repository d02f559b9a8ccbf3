import ClusterBase
import FleetModel

struct WinnersKey: Hashable, Sendable {
    var shape: Shape
    var policy: PlacementPolicy
}

/// For one shape under one policy, rules aside: the score of every host, the best host of every block, and the best
/// score of every bunch of blocks.
struct Winners: Sendable {
    static let none = Int64.max

    var key: WinnersKey
    var shape: CompiledShape
    /// By slot; `none` where the shape doesn't fit.
    var scores: [Int64] = []
    var best: [Int64] = []
    var bestSlot: [Int32] = []
    /// By bunch: no higher than the best of its blocks.
    var top: [Int64] = []
    /// By class of hosts: whether hosts of it could ever do.
    var classes: [Bool] = []
    /// The number of the first change that is not yet taken in; -1 before the first building.
    var seen = -1
    var lastUse: UInt64 = 0
}

extension PlacementIndex {
    /// Scores that are remembered, over all shapes: a bound on memory.
    static let scoresRememberedMax = 1 << 24

    /// The number of the up-to-date winners for a shape.
    mutating func currentWinners(_ shape: Shape, _ policy: PlacementPolicy) -> Int {
        let key = WinnersKey(shape: shape, policy: policy)
        useCount += 1
        let number: Int
        if let known = winnersOf[key] {
            number = known
        } else if winners.count < PlacementIndex.shapesRememberedMax
            && (winners.count < 16 || winners.count * seats.count < PlacementIndex.scoresRememberedMax)
        {
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
        while w.classes.count < classes.count { w.classes.append(classes[w.classes.count].couldTake(w.shape.shape)) }
        if w.seen < changesBase || end - w.seen > max(64, slotOf.count) {
            rebuild(&w)
            return
        }
        while w.top.count < bunches.count { w.top.append(Winners.none) }
        while w.best.count < blocks.count {
            w.best.append(Winners.none)
            w.bestSlot.append(-1)
            for _ in 0..<PlacementIndex.blockSize { w.scores.append(Winners.none) }
        }
        var at = w.seen - changesBase
        while at < changes.count {
            let slot = changes[at]
            // Hosts that change often are judged once.
            if slot < 0 {
                reseat(Int(~slot), &w)
            } else if lastChange[Int(slot)] == changesBase + at {
                rejudge(Int(slot), &w)
            }
            at += 1
        }
    }

    private mutating func rebuild(_ w: inout Winners) {
        w.scores = Array(repeating: Winners.none, count: seats.count)
        w.best = Array(repeating: Winners.none, count: blocks.count)
        w.bestSlot = Array(repeating: -1, count: blocks.count)
        w.top = Array(repeating: Winners.none, count: bunches.count)
        for block in blocks.indices {
            if blocks[block].taking == 0 || !w.classes[Int(blocks[block].key.hostClass)] { continue }
            let first = block << PlacementIndex.blockShift
            for slot in first..<first + blocks[block].span {
                w.scores[slot] = score(slot, w.shape, w.key.policy)
            }
            findBest(block, &w)
            let bunch = Int(blocks[block].bunch)
            w.top[bunch] = min(w.top[bunch], w.best[block])
        }
    }

    private mutating func rejudge(_ slot: Int, _ w: inout Winners) {
        let block = slot >> PlacementIndex.blockShift
        if !w.classes[Int(blocks[block].key.hostClass)] && w.best[block] == Winners.none { return }
        let score = score(slot, w.shape, w.key.policy)
        if score == w.scores[slot] { return }
        w.scores[slot] = score
        let old = w.best[block]
        if Int(w.bestSlot[block]) == slot {
            if score <= old && score != Winners.none { w.best[block] = score } else { findBest(block, &w) }
        } else if score < old
            || (score == old && score != Winners.none && precedes(slot, Int(w.bestSlot[block]), w.key.policy))
        {
            w.best[block] = score
            w.bestSlot[block] = Int32(slot)
        } else {
            return
        }
        lift(block, old, &w)
    }

    /// The host of a slot is another: what is remembered about it, its rank among equals too, is void.
    private mutating func reseat(_ slot: Int, _ w: inout Winners) {
        let block = slot >> PlacementIndex.blockShift
        let old = w.best[block]
        let isCandidate = w.classes[Int(blocks[block].key.hostClass)]
        w.scores[slot] = isCandidate ? score(slot, w.shape, w.key.policy) : Winners.none
        findBest(block, &w)
        lift(block, old, &w)
    }

    /// Takes a block's new best into the best of its bunch. A bunch that lost a block may keep a best that is too good,
    /// which costs a look at its blocks and no more.
    private func lift(_ block: Int, _ old: Int64, _ w: inout Winners) {
        let new = w.best[block]
        let top = Int(blocks[block].bunch)
        if new <= w.top[top] {
            w.top[top] = new
        } else if old == w.top[top] {
            var least = Winners.none
            for b in bunches[top].blocks { least = min(least, w.best[Int(b)]) }
            w.top[top] = least
        }
    }

    private func findBest(_ block: Int, _ w: inout Winners) {
        let first = block << PlacementIndex.blockShift
        var least = Winners.none
        let end = first + blocks[block].span
        for slot in first..<end { least = min(least, w.scores[slot]) }
        w.best[block] = least
        var best = -1
        if least != Winners.none {
            for slot in first..<end where w.scores[slot] == least {
                if best < 0 || precedes(slot, best, w.key.policy) { best = slot }
            }
        }
        w.bestSlot[block] = Int32(best)
    }

    /// Decides between hosts of equal score.
    @inline(__always) func precedes(_ a: Int, _ b: Int, _ policy: PlacementPolicy) -> Bool {
        switch policy {
        case .balance, .spread: seats[a].rank < seats[b].rank
        default: seats[a].host < seats[b].host
        }
    }
}
