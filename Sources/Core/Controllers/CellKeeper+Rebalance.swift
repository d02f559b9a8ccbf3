import ClusterBase
package import FleetModel
import Placement

// Moves that make the cell better: off, advice, or by itself.

extension CellKeeper {
    /// Whether moving it can make the cell better.
    func isMovable(_ vm: CellVM) -> Bool {
        // Its disks would have to come along: that is not worth a better balance.
        if vm.boundTo != nil { return false }
        guard way(vm) == .migrate, pending[vm.id] == nil, let place = vm.place else { return false }
        return view.hosts[place.assignment.host]?.state == .ready
    }

    /// Every minute a part of the VMs is looked at, and what is found is made or proposed, as the cell is set. What was moved
    /// rests; and since it is not known here what another leader moved, nothing is moved before this node has led for that
    /// long. Every move makes the cell's score better by a stated least amount, so moves come to an end.
    ///
    /// VMs that wait for room that is not there keep nobody from moving, nor does a drain that can't go on; those whose turn it
    /// is to be placed, and a drain's moves, come first.
    mutating func planRebalance(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        let mode = view[.rebalance]
        if mode == 0 {
            counts.advice = nil
            adviceNoted = 0
        }
        if mode == 0 || now < rebalanceAt { return }
        let cooldown = Nanoseconds.milliseconds(Int64(clamping: min(view[.moveCooldown], 1 << 40)))
        if mode == 2 && now < leadsSince + cooldown {
            rebalanceAt = leadsSince + cooldown
            return
        }
        rebalanceAt = now + rebalanceInterval
        if isCutShort || drainGoesOn || returns.goOn || enforcement.goesOn { return }
        var budget = MoveBudget(self)
        if budget.left <= 0 { return }
        let scoreBefore = index.cellScore(policy)
        var rest = budget
        let repairs = makeRepairs(vmsMax: CellKeeper.repairExaminedMax, now, &rest)
        var found = RebalancePlan(
            moves: [], scoreBefore: scoreBefore, scoreAfter: index.cellScore(policy), isComplete: true)
        let frozen = frozenOutsideWindow(now)
        if frozen == nil && repairs.isEmpty { return }
        if let frozen {
            found = index.planRebalance(
                policy: policy,
                budget: rebalanceBudget(
                    rest, frozen: frozen + repairs.moves.map(\.vm), gainMin: CellKeeper.rebalanceGainMin))
        }
        undo(repairs)
        let moves = repairs.moves + found.moves
        let advice = RebalanceAdvice(
            through: view.through ?? .zero, scoreBefore: scoreBefore, scoreAfter: found.scoreAfter,
            steps: steps(of: repairs.leaves) + steps(of: moves))
        counts.advice = advice
        if mode == 1 { return noteAdvice(advice, &operations) }
        giveUp(repairs.leaves, now, &operations)
        // hash order: looked up only
        var taken: Set<HostID> = []
        for move in moves {
            guard budget.allows(move.from.host, move.to.host, self), let vm = view.vms[move.vm],
                // What the plan counted with there is another's now.
                !taken.contains(move.to.host)
            else { continue }
            var target = move.to
            if let home = hostTakingBack(vm), budget.allows(move.from.host, home, self),
                let own = decideReturn(vm, home)
            {
                target = own
                taken.insert(home)
            }
            begin(vm, target, .rebalance, now, &budget, &operations)
        }
    }

    /// All VMs but the next ones to be looked at, and of those the ones that can't move or rest; nil where nothing is left.
    private mutating func frozenOutsideWindow(_ now: Instant) -> [VMID]? {
        var frozen: [VMID] = []
        var window = 0
        var last: VMID?
        let ids = index.vmIDs
        for pass in 0..<2 {
            for id in ids where (id > rebalanceNext) == (pass == 0) {
                guard window < CellKeeper.rebalancedAtOnceMax, !CellKeeper.isCopy(id), let vm = view.vms[id],
                    isMovable(vm), restingUntil[id].map({ now >= $0 || mutated(.restsNot) }) ?? true
                else {
                    frozen.append(id)
                    continue
                }
                window += 1
                last = id
            }
        }
        guard let last else { return nil }
        rebalanceNext = last
        return frozen
    }

    private func rebalanceBudget(
        _ budget: MoveBudget, frozen: [VMID], gainMin: Int64, vmsExaminedMax: Int = 1_000_000
    ) -> RebalanceBudget {
        RebalanceBudget(
            movesMax: max(0, budget.left), movesPerHostMax: max(1, Int(clamping: view[.migrationsPerHostMax])),
            frozen: frozen, vmsExaminedMax: vmsExaminedMax, gainMin: gainMin, busyHosts: budget.busyHosts,
            movesPerLinkMax: max(1, budget.perLink), busyLinks: budget.busyLinks)
    }

    /// Stopped VMs give up the places that they may not have; they get others when they are started.
    mutating func giveUp(
        _ leaves: [Repairs.Leave], _ now: Instant, _ operations: inout [CellCommand.Operation]
    ) {
        let through = view.through ?? .zero
        var releases: [Release] = []
        for leave in leaves {
            let key = CellLedger.Key.release(leave.spec.id, leave.epoch)
            if !ledger.mayAsk(key, through, now) { continue }
            ledger.asked(key, now)
            releases.append(Release(leave.spec.id, epoch: leave.epoch, reason: CellPlan.releaseReason))
        }
        if !releases.isEmpty { operations.append(.releaseVMs(releases, cause: .rebalance)) }
    }

    private func steps(of leaves: [Repairs.Leave]) -> [CellPlan.Step] {
        leaves.compactMap { leave in
            guard let vm = view.vms[leave.spec.id] else { return nil }
            return CellPlan.Step(
                .release, vm: vm.id, name: vm.name, tenant: vm.tenant, epoch: leave.epoch, from: leave.from.host,
                fromName: hostName(leave.from.host), to: nil, toName: "")
        }
    }

    private func steps(of moves: [Move]) -> [CellPlan.Step] {
        moves.compactMap { move in
            guard let vm = view.vms[move.vm], let place = vm.place else { return nil }
            return CellPlan.Step(
                .migrate, vm: move.vm, name: vm.name, tenant: vm.tenant, epoch: place.epoch, from: move.from.host,
                fromName: hostName(move.from.host), to: move.to, toName: hostName(move.to.host), gain: move.gain,
                cost: CellKeeper.moveCost(vm))
        }
    }

    /// The moves that it proposes and does not make, in words; empty where there are none, nil while it has not looked.
    package var standingAdvice: String? {
        guard view[.rebalance] == 1 else { return "" }
        return counts.advice.map { advice in
            // Where one of them was made meanwhile, or its VM went, the rest is looked for anew.
            let isOld = advice.steps.contains { step in
                guard let vm = view.vms[step.vm] else { return true }
                return vm.migration != nil || vm.place?.epoch != step.epoch
            }
            return advice.steps.isEmpty || isOld ? "" : advice.text
        }
    }

    /// Told once, and again when it is another one.
    private mutating func noteAdvice(_ advice: RebalanceAdvice, _ operations: inout [CellCommand.Operation]) {
        if advice.steps.isEmpty {
            adviceNoted = 0
            return
        }
        var plan = CellPlan(.rebalance, through: advice.through)
        plan.steps = advice.steps
        if !notesAdvice || plan.digest == adviceNoted { return }
        adviceNoted = plan.digest
        operations.append(.noteAdvice(advice.text))
    }

    /// The moves that make the cell better, as many as its budgets allow at one time, whatever rests now: first those of what is
    /// where it may not be.
    package mutating func planRebalance() -> CellPlan {
        var plan = CellPlan(.rebalance, through: view.through ?? .zero)
        plan.scoreBefore = index.cellScore(policy)
        var budget = MoveBudget(self)
        let repairs = makeRepairs(vmsMax: CellKeeper.rebalanceExaminedMax, nil, &budget)
        let frozen = index.vmIDs.filter { id in !(view.vms[id].map { isMovable($0) } ?? false) }
        let found = index.planRebalance(
            policy: policy,
            budget: rebalanceBudget(
                budget, frozen: frozen + repairs.moves.map(\.vm), gainMin: CellKeeper.rebalanceGainAskedMin,
                vmsExaminedMax: CellKeeper.rebalanceExaminedMax))
        undo(repairs)
        plan.steps = steps(of: repairs.leaves) + steps(of: repairs.moves + found.moves)
        plan.left = repairs.left
        plan.scoreAfter = found.scoreAfter
        plan.isComplete = found.isComplete && repairs.isComplete
        if !repairs.isEmpty {
            let count = repairs.vms.count
            plan.notes.append(
                (count == 1 ? "the first of these steps is of a VM" : "the first \(count) of these steps are of VMs")
                    + " that may not stay: the host was changed since, or a group")
        }
        if !repairs.leaves.isEmpty {
            plan.notes.append(
                "a VM that is stopped gives up its place, and gets one that it may have when it is started")
        }
        return plan
    }

    static let rebalancedAtOnceMax = 512
    /// The least gain of a move made without being asked: a 64th of an average host.
    static let rebalanceGainMin: Int64 = 1_024
    /// That of one that is asked for.
    static let rebalanceGainAskedMin: Int64 = 64
    static let rebalanceExaminedMax = 20_000
}
