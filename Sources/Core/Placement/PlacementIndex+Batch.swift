import ClusterBase
public import FleetModel

/// What came of a batch.
public struct BatchDecision: Hashable, Sendable {
    /// One per request, in the order of the requests.
    public var decisions: [Decision]
    /// True when every request has a place.
    public var isComplete: Bool
    /// How many requests have a place.
    public var placed: Int { decisions.count { $0.assignment != nil } }
    /// Decisions that it took; 0 in what is handed out.
    var steps = 0
    var withoutSteps: BatchDecision {
        var same = self
        same.steps = 0
        return same
    }
    public init(decisions: [Decision], isComplete: Bool) {
        self.decisions = decisions
        self.isComplete = isComplete
    }
}

extension PlacementIndex {
    /// The most requests that are decided together.
    public static let batchMax = 100_000

    /// Decisions that are spent on finding places for more of a batch, after the first orders left some without.
    package static let batchStepsMax = 8192
    /// Orders in which a batch is tried.
    static let batchOrdersMax = 48

    /// Decides for many VMs as if they were placed together; the index is unchanged afterwards.
    ///
    /// The largest are placed first, whatever their order in the request. Where that leaves some without a place, the
    /// order given is tried, then the smallest first, then orders between that move VMs of the batch to let others in,
    /// as long as `batchStepsMax` allows; the most VMs placed wins, of equals the first. With `allOrNothing`, all
    /// requests are refused when one is: it with its reason, the others with no counts but a sentence that names it.
    public mutating func decideBatch(
        _ specs: [VMSpec], policy: PlacementPolicy = .pack, allOrNothing: Bool = false
    ) -> BatchDecision {
        decideBatch(specs, policy: policy, allOrNothing: allOrNothing, stepsMax: PlacementIndex.batchStepsMax)
    }

    /// What a VM takes of an average host, in 65,536ths: the order in which those that arrive together are placed.
    package func size(of spec: VMSpec) -> Int64 { Int64(min(totals.share(of: Shape(spec)), 0x1p20) * 65536) }

    /// The same with another bound on the decisions that are spent after the first order.
    package mutating func decideBatch(
        _ specs: [VMSpec], policy: PlacementPolicy, allOrNothing: Bool, stepsMax: Int
    ) -> BatchDecision {
        if specs.count > PlacementIndex.batchMax {
            let refusal = Refusal(invalid: "a batch has at most \(PlacementIndex.batchMax) VMs, not \(specs.count)")
            return BatchDecision(decisions: specs.map { _ in .refuse(refusal) }, isComplete: specs.isEmpty)
        }
        let sizes = specs.map { totals.share(of: Shape($0)) }
        let largestFirst = specs.indices.sorted { sizes[$0] == sizes[$1] ? $0 < $1 : sizes[$0] > sizes[$1] }
        let first = tryBatch(specs, BatchAttempt(order: largestFirst, policy: policy, stopsEarly: allOrNothing))
        if first.isComplete { return first.withoutSteps }
        var result = first
        var steps = stepsMax
        for number in 1..<PlacementIndex.batchOrdersMax {
            var attempt = BatchAttempt(order: largestFirst, policy: policy, stopsEarly: allOrNothing)
            switch number {
            case 1: attempt.order = Array(specs.indices)
            case 2: attempt.order = largestFirst.reversed()
            default:
                // All or nothing is a matter of the large ones, the most VMs one of the small ones.
                attempt.order = BatchAttempt.mixedOrder(sizes, number, largestFirst: allOrNothing)
                if number % 2 == 1 { attempt.policy = .pack }
                attempt.steps = steps
            }
            if specs.count > steps && (number > 2 || stepsMax < PlacementIndex.batchStepsMax) { break }
            if number > 1 && specs.count == 1 { break }
            let other = tryBatch(specs, attempt)
            steps -= max(1, other.steps)
            if other.isComplete { return other.withoutSteps }
            if other.placed > result.placed && !allOrNothing { result = other }
        }
        result.steps = 0
        if !allOrNothing { return result }
        guard let culprit = first.decisions.firstIndex(where: { $0.refusal != nil }) else { return first.withoutSteps }
        let together = Refusal(invalid: "VM \(specs[culprit].id) of the same batch has no place")
        result = first.withoutSteps
        for i in specs.indices where i != culprit { result.decisions[i] = .refuse(together) }
        return result
    }

    /// Records a decided batch, all of it or none.
    public mutating func placeBatch(_ specs: [VMSpec], _ batch: BatchDecision) throws(IndexError) {
        var done: [VMID] = []
        for (i, spec) in specs.enumerated() where i < batch.decisions.count {
            guard let assignment = batch.decisions[i].assignment else { continue }
            do throws(IndexError) {
                try place(spec, assignment)
                done.append(spec.id)
            } catch {
                for id in done.reversed() { _ = takeOff(id) }
                throw error
            }
        }
    }

    private mutating func tryBatch(_ specs: [VMSpec], _ attempt: BatchAttempt) -> BatchDecision {
        // With `stopsEarly` the first request without a place ends the attempt, and only it is marked refused here.
        var decisions: [Decision?] = Array(repeating: nil, count: specs.count)
        // hash order: looked up, or all of it undone
        var placed: [VMID: Int] = [:]
        var isComplete = true
        var steps = 0
        for i in attempt.order {
            var decision = decide(specs[i], policy: attempt.policy)
            steps += 1
            if let assignment = decision.assignment {
                do throws(IndexError) {
                    try place(specs[i], assignment)
                    placed[specs[i].id] = i
                } catch {
                    decision = .refuse(Refusal(invalid: error.description))
                }
            } else if decision.refusal?.invalid == nil, vms[specs[i].id] == nil,
                let change = rearrange(specs[i], attempt.policy, placed, &steps, attempt.steps),
                let moved = placed[change.vm]
            {
                decisions[moved] = .place(change.to, score: 0)
                decision = .place(change.place, score: 0)
                placed[specs[i].id] = i
            }
            decisions[i] = decision
            if decision.assignment == nil {
                isComplete = false
                if attempt.stopsEarly { break }
            }
        }
        for i in attempt.order.reversed() where placed[specs[i].id] == i { _ = takeOff(specs[i].id) }
        var batch = BatchDecision(
            decisions: decisions.map { $0 ?? .place(Assignment(host: .init(rawValue: 0)), score: 0) },
            isComplete: isComplete)
        batch.steps = steps
        return batch
    }

    /// Lets a VM in by moving one of `movable` elsewhere; both are then placed.
    private mutating func rearrange(
        // hash order: looked up, or read by sorted keys
        _ spec: VMSpec, _ policy: PlacementPolicy, _ movable: [VMID: Int], _ steps: inout Int, _ stepsMax: Int
    ) -> (vm: VMID, to: Assignment, place: Assignment)? {
        if steps >= stepsMax { return nil }
        // Finding these hosts takes about as long as so many decisions.
        steps += seats.count / 32
        for host in hostsNearlyFitting(spec, policy, count: 8) {
            for other in vms(on: host) where movable[other] != nil {
                if steps >= stepsMax { return nil }
                steps += 1
                guard let taken = takeOff(other) else { continue }
                let slot = taken.slot
                if let place = decide(spec, policy: policy, among: HostFilter(only: [host])).assignment {
                    putOn(Int(slot), PlacedVM(spec: spec, assignment: place, slot: slot))
                    steps += 1
                    let elsewhere = decide(taken.spec, policy: policy, among: HostFilter(except: [host]))
                    if let to = elsewhere.assignment, let toSlot = slotOf[to.host] {
                        putOn(Int(toSlot), PlacedVM(spec: taken.spec, assignment: to, slot: toSlot))
                        return (other, to, place)
                    }
                    _ = takeOff(spec.id)
                }
                putOn(Int(slot), taken)
            }
        }
        return nil
    }
}

/// One way to place a batch.
private struct BatchAttempt {
    var order: [Int]
    var policy: PlacementPolicy
    var stopsEarly: Bool
    /// Decisions up to which VMs of the batch are moved to let others in; 0: none is.
    var steps = 0

    init(order: [Int], policy: PlacementPolicy, stopsEarly: Bool) {
        self.order = order
        self.policy = policy
        self.stopsEarly = stopsEarly
    }

    /// By size, where each size counts as up to a third more or less than it is.
    static func mixedOrder(_ sizes: [Double], _ number: Int, largestFirst: Bool) -> [Int] {
        var random = PRNG(seed: UInt64(number))
        // The first of these orders is by size as it is: what it changes is that VMs are moved.
        let spread = number == 3 ? 0 : 667
        let keys = sizes.map { $0 * (1 + Double(spread == 0 ? 0 : random.below(spread) - 333) / 1000) }
        return sizes.indices.sorted {
            keys[$0] == keys[$1] ? $0 < $1 : (largestFirst ? keys[$0] > keys[$1] : keys[$0] < keys[$1])
        }
    }
}
