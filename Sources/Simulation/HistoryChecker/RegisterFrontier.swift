// One register, followed through time by everything it may be.
//
//      invocation of X                      return of X
//      ---------------                      -----------
//      X gets a slot; every                 every configuration in which X is not done is replaced by those that
//      configuration may use it             are reached by letting open operations take effect, X last
//
//           { state, available, owed }  x n    ->    { state, available, owed }  x m        m = 0: no explanation
//
// This is the search of Wing and Gong with Lowe's cache of configurations, taken breadth first and just in time: an
// operation takes effect only when a return needs it. So the front holds all that the past allows, a violation shows at
// the first return that has no explanation, and nothing before the front is needed again.
//
// `available` are the open writes that may still take effect; `owed` are the open operations that must take effect
// before their return. A write is first both, then neither. Four facts keep the front small; each cuts only what
// another configuration covers:
//
// 1. A get or a refused compare-and-set changes nothing, so it is done in the first state that allows it.
// 2. When a put or delete takes effect, every other open one may have done so just before, unseen. It stops being owed
//    and stays available. So a put that nobody sees before the next put is never tried.
// 3. Of two configurations with one state, the one with more available and less owed covers the other. A write with an
//    unknown outcome is available and never owed.
// 4. Of open writes with one and the same effect, the one that returns first is used first.

/// All configurations that one register's past allows.
struct RegisterFrontier: Sendable {
    enum Progress {
        case possible
        case impossible
        case exhausted
    }

    private(set) var table = OpenOperations()
    /// Steps taken, less what each return was granted.
    private(set) var steps = 0
    private var mayMissTwins = false
    private let budget: Int

    private var front = Configurations()
    // Kept between returns for their storage.
    private var search = Configurations()
    private var reached = Configurations()

    init(budget: Int) {
        self.budget = budget
        front.appendAbsent()
    }

    /// The states of the front, sorted, absent first.
    var states: [UInt64?] { front.states }

    /// Opens an operation and says which slot it has; nil when there are too many. Not for an unknown get and not for
    /// what failed: these explain nothing and need no explanation.
    mutating func begin(_ operation: History.Operation, _ effect: OpenOperations.Effect) -> Int? {
        let returns = operation.outcome != .unknown
        guard let slot = table.take(effect, operation, returns: returns) else { return nil }
        if table.width > front.width { front.widen(to: table.width) }
        for i in 0..<front.count {
            switch effect {
            case .observe, .refuse:
                if !effect.isAllowed(in: front.state(i)) { front.oblige(i, slot) }
            case .write, .swap:
                front.makeAvailable(i, slot)
                if returns { front.oblige(i, slot) }
            }
        }
        return slot
    }

    /// Closes the operation in `slot`. When nothing explains its return, the front stays as it was before.
    mutating func end(_ slot: Int) -> Progress {
        precondition(table.returns(slot), "slot \(slot) holds no operation that returns")
        search.removeAll(width: front.width)
        reached.removeAll(width: front.width)
        for i in 0..<front.count {
            let isOwed = front.isOwed(i, slot)
            if isOwed || front.isAvailable(i, slot) { search.append(front, i) }
            if !isOwed {
                // Done, or a put that may have been done unseen.
                reached.append(front, i)
                reached.makeUnavailable(reached.count - 1, slot)
                steps += reached.keepLastAlone()
            }
        }
        let observes = table.isObserver(slot)
        var next = 0
        while next < search.count {
            if steps > budget || search.count + reached.count > CheckLimits.configurationsMax { return .exhausted }
            expand(next, toward: slot, observes)
            next += 1
        }
        if reached.count == 0 { return mayMissTwins ? .exhausted : .impossible }
        swap(&front, &reached)
        table.release(slot)
        if next > 0 && table.hasEndless { table.releaseEndless(except: front.availableAnywhere) }
        steps = max(0, steps - CheckLimits.stepsPerReturn)
        return .possible
    }

    /// Lets each available write of configuration `i` of the search take effect, where that can matter to somebody.
    private mutating func expand(_ i: Int, toward goal: Int, _ goalObserves: Bool) {
        steps += search.width
        for word in 0..<search.width {
            var rest = search.available(i, word)
            while rest != 0 {
                let slot = word << 6 + rest.trailingZeroBitCount
                rest &= rest - 1
                guard table.isWorthTrying(slot, toward: goal, in: search, i) else { continue }
                steps += 1
                if table.usesLastTwin(slot) { mayMissTwins = true }
                if slot == goal {
                    reached.append(search, i)
                    table.apply(slot, to: &reached)
                    steps += reached.keepLastAlone()
                    continue
                }
                search.duplicate(i)
                table.apply(slot, to: &search)
                if goalObserves && !search.isOwed(search.count - 1, goal) {
                    reached.append(search, search.count - 1)
                    search.removeLast()
                    steps += reached.keepLastAlone()
                } else {
                    steps += search.keepLastIfNew()
                }
            }
        }
    }
}
