public import FleetModel

/// What came of a batch.
public struct BatchDecision: Hashable, Sendable {
    /// One per request, in the order of the requests.
    public var decisions: [Decision]
    /// True when every request has a place.
    public var isComplete: Bool
    /// How many requests have a place.
    public var placed: Int { decisions.count { $0.assignment != nil } }
    public init(decisions: [Decision], isComplete: Bool) {
        self.decisions = decisions
        self.isComplete = isComplete
    }
}

extension PlacementIndex {
    /// The most requests that are decided together.
    public static let batchMax = 100_000

    /// Decides for many VMs as if they were placed together; the index is unchanged afterwards.
    ///
    /// The largest are placed first, whatever their order in the request. Where that leaves some without a place, the
    /// order given is tried, and then, unless all are wanted or none, the smallest first; the most VMs placed wins, of
    /// equals the first. With `allOrNothing`, all requests are refused when one is: it with its reason, the others with
    /// no counts but a sentence that names it.
    public mutating func decideBatch(
        _ specs: [VMSpec], policy: PlacementPolicy = .pack, allOrNothing: Bool = false
    ) -> BatchDecision {
        if specs.count > PlacementIndex.batchMax {
            let refusal = Refusal(invalid: "a batch has at most \(PlacementIndex.batchMax) VMs, not \(specs.count)")
            return BatchDecision(decisions: specs.map { _ in .refuse(refusal) }, isComplete: specs.isEmpty)
        }
        let sizes = specs.map { totals.share(of: Shape($0)) }
        let largestFirst = specs.indices.sorted { sizes[$0] == sizes[$1] ? $0 < $1 : sizes[$0] > sizes[$1] }
        var result = tryBatch(specs, largestFirst, policy, stopsEarly: allOrNothing)
        if result.isComplete { return result }
        let asGiven = Array(specs.indices)
        let second = asGiven == largestFirst ? result : tryBatch(specs, asGiven, policy, stopsEarly: allOrNothing)
        if second.isComplete { return second }
        if !allOrNothing {
            // Full hosts take more small VMs than large ones.
            let third = tryBatch(specs, largestFirst.reversed(), policy, stopsEarly: false)
            for other in [second, third] where other.placed > result.placed { result = other }
            return result
        }
        guard let culprit = result.decisions.firstIndex(where: { $0.refusal != nil }) else { return result }
        let together = Refusal(invalid: "VM \(specs[culprit].id) of the same batch has no place")
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

    private mutating func tryBatch(
        _ specs: [VMSpec], _ order: [Int], _ policy: PlacementPolicy, stopsEarly: Bool
    ) -> BatchDecision {
        // With `stopsEarly` the first request without a place ends the attempt, and only it is marked refused here.
        var decisions: [Decision?] = Array(repeating: nil, count: specs.count)
        var placed: [VMID] = []
        var isComplete = true
        for i in order {
            var decision = decide(specs[i], policy: policy)
            if let assignment = decision.assignment {
                do throws(IndexError) {
                    try place(specs[i], assignment)
                    placed.append(specs[i].id)
                } catch {
                    decision = .refuse(Refusal(invalid: error.description))
                }
            }
            decisions[i] = decision
            if decision.assignment == nil {
                isComplete = false
                if stopsEarly { break }
            }
        }
        for id in placed.reversed() { _ = takeOff(id) }
        return BatchDecision(
            decisions: decisions.map { $0 ?? .place(Assignment(host: .init(rawValue: 0)), score: 0) },
            isComplete: isComplete)
    }
}
