import ClusterBase
import FleetModel
import Placement

// VMs that arrived together: the queue has them placed the largest first, in one command. Where that leaves some without a
// place, they are decided as one batch, which finds orders and moves among them that let more of them in.

extension CellKeeper {
    /// Has those that arrived with one that was refused placed together with it, if so more of them have a place.
    mutating func decideTogether(_ refused: [VMID], _ placings: inout [Placing], _ now: Instant) {
        if placings.isEmpty { return }
        // hash order: looked up only
        var seen: Set<LogTime> = []
        for id in refused.prefix(CellKeeper.groupsTogetherMax) {
            guard let vm = view.vms[id], vm.boundTo == nil, seen.insert(vm.queuedAt).inserted else { continue }
            decideTogether(vm.spec.priority, vm.queuedAt, &placings, now)
        }
    }

    private mutating func decideTogether(
        _ priority: Int32, _ queuedAt: LogTime, _ placings: inout [Placing], _ now: Instant
    ) {
        let placed = placings.filter { placing in
            view.vms[placing.vm].map {
                $0.spec.priority == priority && $0.queuedAt == queuedAt && $0.boundTo == nil
            } ?? false
        }
        guard !placed.isEmpty, placed.count < CellKeeper.togetherMax,
            let waiting = queue.together(priority, queuedAt, most: CellKeeper.togetherMax - placed.count),
            !waiting.isEmpty
        else { return }
        for placing in placed { takeBack(placing.vm, now) }
        var specs: [VMSpec] = []
        let left = reserve.left
        for (position, id) in (placed.map(\.vm) + waiting).enumerated() {
            guard let vm = view.vms[id], let spec = intern(vm) else { continue }
            // Those that were placed are counted.
            if position >= placed.count && !useReserve([vm]) { continue }
            specs.append(spec)
        }
        counts.batches += 1
        let batch = index.decideBatch(
            specs, policy: policy, allOrNothing: false, stepsMax: CellKeeper.togetherStepsMax)
        guard batch.placed > placed.count else {
            reserve.left = left
            for placing in placed {
                if let vm = view.vms[placing.vm] {
                    expect(vm, .place(generation: placing.generation), placing.assignment, now)
                }
            }
            return
        }
        counts.batchGains += UInt64(batch.placed - placed.count)
        // hash order: looked up only
        let before = Set(placed.map(\.vm))
        placings.removeAll { before.contains($0.vm) }
        for (spec, decision) in zip(specs, batch.decisions) {
            guard let assignment = decision.assignment, let vm = view.vms[spec.id] else { continue }
            expect(vm, .place(generation: vm.generation), assignment, now)
            placings.append(Placing(spec.id, generation: vm.generation, assignment))
        }
    }

    // MARK: Gangs

    /// Places VMs that get their places all or none, in a command of their own. False where they don't fit together; then all
    /// is as if they had not been tried, and nothing is kept for them.
    mutating func placeTogether(
        _ specs: [VMSpec], _ now: Instant, _ operations: inout [CellCommand.Operation]
    ) -> Bool {
        counts.decisions += UInt64(specs.count)
        let batch = index.decideBatch(
            specs, policy: policy, allOrNothing: !mutated(.gangInParts), stepsMax: CellKeeper.togetherStepsMax)
        guard batch.isComplete || (mutated(.gangInParts) && batch.placed > 0) else {
            counts.refusals += 1
            return false
        }
        var placings: [Placing] = []
        for (spec, decision) in zip(specs, batch.decisions) {
            if decision.assignment == nil && mutated(.gangInParts) { continue }
            guard let vm = view.vms[spec.id], let assignment = decision.assignment else {
                preconditionFailure("VM \(spec.id) waits with others, and is not known or has no decision")
            }
            placings.append(Placing(vm.id, generation: vm.generation, assignment))
        }
        for placing in placings {
            if let vm = view.vms[placing.vm] {
                expect(vm, .place(generation: placing.generation), placing.assignment, now)
            }
        }
        counts.placed += UInt64(placings.count)
        counts.gangsPlaced += 1
        operations.append(.placeVMs(placings, isAtomic: true))
        return true
    }

    /// Whether others may be stopped for some of a gang, and it is small enough to look for them.
    func mayPreempt(_ gang: [VMSpec]) -> Bool {
        nominations.count + gang.count <= CellKeeper.nominationsMax
            && gang.count * index.hostCount <= CellKeeper.gangVictimsWorkMax
            && (victimPriorities.keys.min() ?? .max) < (gang.map(\.priority).max() ?? .min)
    }

    /// Where all of a gang would be when others were stopped, each for one of it that has a higher priority; nil when what may be
    /// stopped is not enough.
    mutating func makingRoom(for gang: [VMSpec]) -> [Preemption]? {
        let found = index.decidePreemptions(gang, policy: policy).compactMap { $0 }
        return found.count == gang.count && found.contains { !$0.victims.isEmpty } ? found : nil
    }

    /// Has others stopped for a gang, and keeps all of its places.
    mutating func nominate(
        _ gang: [VMSpec], _ now: Instant, _ operations: inout [CellCommand.Operation]
    ) -> Bool {
        guard let found = makingRoom(for: gang) else { return false }
        var releases: [Release] = []
        for (spec, answer) in zip(gang, found) {
            guard let vm = view.vms[spec.id] else { preconditionFailure("VM \(spec.id) waits and is not known") }
            guard let more = self.releases(of: answer.victims, for: vm, now) else { return false }
            releases += more
        }
        if releases.count > CellLimits.itemsMax { return false }
        stop(releases, now, &operations)
        for (spec, answer) in zip(gang, found) {
            guard let vm = view.vms[spec.id] else { continue }
            expect(vm, .place(generation: vm.generation), answer.assignment, now, isNomination: true)
            nominations[spec.id] = Nomination(
                host: answer.assignment.host, victims: answer.victims, gang: vm.gang,
                givesUpAt: now + CellKeeper.nominationMax)
        }
        return true
    }

    /// Places a gang for which others were stopped, when all of these have gone. Where one of it changed or can't go where it
    /// was to go, all of it waits again and is tried anywhere.
    mutating func placeNominated(_ gang: UInt64, _ now: Instant, _ operations: inout [CellCommand.Operation]) {
        let ids = nominations.keys.sorted().filter { nominations[$0]?.gang == gang }
        var isWhole = !queue.waits(gang: gang)
        var isClear = true
        var members: [(spec: VMSpec, host: HostID)] = []
        for id in ids {
            guard let nomination = nominations[id], now < nomination.givesUpAt, let vm = view.vms[id],
                let spec = queueSpec(vm), view.hosts[nomination.host]?.state.takesVMs == true
            else {
                isWhole = false
                break
            }
            if nomination.victims.contains(where: { isOn(nomination.host, $0) }) { isClear = false }
            members.append((spec, nomination.host))
        }
        if isWhole && !isClear { return }
        for id in ids { takeBack(id, now) }
        if !isWhole { return }
        var placings: [Placing] = []
        for (spec, host) in members {
            guard let vm = view.vms[spec.id],
                let assignment = index.decide(spec, policy: policy, among: HostFilter(only: [host])).assignment
            else {
                for placing in placings { takeBack(placing.vm, now) }
                return
            }
            expect(vm, .place(generation: vm.generation), assignment, now)
            placings.append(Placing(spec.id, generation: vm.generation, assignment))
        }
        counts.placed += UInt64(placings.count)
        counts.gangsPlaced += 1
        operations.append(.placeVMs(placings, isAtomic: true))
    }

    /// How many of a gang would fit together now, and why the others don't when those are there.
    mutating func gangStanding(_ specs: [VMSpec], textsMax: Int) -> CellExplanation.Gang {
        let batch = index.decideBatch(
            specs, policy: policy, allOrNothing: false, stepsMax: CellKeeper.togetherStepsMax)
        let texts = texts(specs, batch, most: textsMax)
        let missing = texts.keys.sorted().compactMap { position in
            texts[position].map { text in
                let id = specs[position].id
                return CellExplanation.Gang.Missing(vm: id, name: view.vms[id]?.name ?? "\(id)", text: text)
            }
        }
        return CellExplanation.Gang(count: specs.count, fitting: batch.placed, missing: missing)
    }

    /// `2 of the 3 VMs that are placed together fit; web-3: no host fits: 3 by free memory`.
    mutating func gangText(_ specs: [VMSpec]) -> String {
        let gang = gangStanding(specs, textsMax: 1)
        if gang.fitting == gang.count { return "waits for its turn" }
        let why = gang.missing.first.map { "; \($0.name): \($0.text)" } ?? ""
        return "\(gang.fitting) of the \(gang.count) VMs that are placed together fit\(why)"
    }

    /// VMs of a gang of which an explanation says what they lack.
    static let gangExplainedMax = 16
    /// Times of arrival that one plan looks at in this way.
    static let groupsTogetherMax = 4
}
