import ClusterBase
import FleetModel
import Placement
import Testing

@Suite struct BatchTests {
    static func cell(_ count: UInt64) throws -> PlacementIndex {
        var index = PlacementIndex()
        for id in 1...count {
            try index.addHost(Host(id: HostID(rawValue: id), capacity: Resources(cpuMillis: 4000, memoryMiB: 8192)))
        }
        return index
    }

    static func specs(_ sizes: [Int64]) -> [VMSpec] {
        sizes.enumerated().map {
            VMSpec(
                id: VMID(rawValue: UInt64($0.offset + 1)), resources: Resources(cpuMillis: $0.element, memoryMiB: 100))
        }
    }

    @Test func `the largest of a batch go first and so all find room`() throws {
        var index = try BatchTests.cell(2)
        let batch = index.decideBatch(BatchTests.specs([1000, 1000, 1000, 1000, 4000]), allOrNothing: true)
        #expect(batch.isComplete)
        #expect(index.vmCount == 0)
        try index.placeBatch(BatchTests.specs([1000, 1000, 1000, 1000, 4000]), batch)
        #expect(index.vmCount == 5)
    }

    @Test func `a batch that must be whole and can't leaves no trace`() throws {
        var index = try BatchTests.cell(2)
        let before = view(index)
        let batch = index.decideBatch(BatchTests.specs([3000, 3000, 3000]), allOrNothing: true)
        #expect(!batch.isComplete)
        #expect(batch.decisions.allSatisfy { $0.assignment == nil })
        #expect(view(index) == before)
        let some = index.decideBatch(BatchTests.specs([3000, 3000, 3000]))
        #expect(some.decisions.count { $0.assignment != nil } == 2)
        #expect(view(index) == before)
    }

    @Test func `a decided batch that no longer fits the state is refused whole`() throws {
        var index = try BatchTests.cell(2)
        let specs = BatchTests.specs([1000, 1000])
        let batch = index.decideBatch(specs)
        try index.place(specs[1], Assignment(host: HostID(rawValue: 1)))
        let before = view(index)
        #expect(throws: IndexError.vmExists(specs[1].id)) { try index.placeBatch(specs, batch) }
        #expect(view(index) == before)
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `a random batch keeps every rule, one VM after the other`(seed: UInt64) throws {
        var (world, index) = try DecideTests.history(seed: seed, steps: 40) { _, _, _, _ in }
        var maker = Maker(seed: seed + 500)
        let specs = (1...12).map { maker.spec(UInt64(1000 + $0), groups: 4) }
        let before = view(index)
        let batch = index.decideBatch(specs)
        #expect(view(index) == before)
        // The order in which they were placed is not told, so only what holds at the end is checked: capacity.
        for (spec, decision) in zip(specs, batch.decisions) {
            if let at = decision.assignment { world.placed.append((spec, at)) }
        }
        for host in world.hosts {
            if world.vms(on: host.id).allSatisfy({ $0.spec.id.rawValue < 1000 }) { continue }
            #expect(world.free(host).cpuMillis >= 0 && world.free(host).memoryMiB >= 0)
            #expect(world.freeDevices(host).allSatisfy { $0 >= 0 })
        }
        try index.placeBatch(specs, batch)
        #expect(index.vmCount == world.placed.count)
    }

    @Test(arguments: 1...30 as ClosedRange<UInt64>)
    func `all or nothing is all that keeps the rules, or nothing, over random cells`(seed: UInt64) throws {
        var (world, index) = try DecideTests.history(seed: seed, steps: 60) { _, _, _, _ in }
        var maker = Maker(seed: seed + 700)
        for number in 0..<8 {
            let count = 2 + (Int(seed) + number) % 7
            let specs = (0..<count).map { maker.spec(UInt64(1000 + 100 * number + $0), groups: 4) }
            let before = view(index)
            let batch = index.decideBatch(specs, allOrNothing: true)
            #expect(view(index) == before)
            let there = batch.decisions.count { $0.assignment != nil }
            #expect(batch.isComplete ? there == count : there == 0)
            // What finds room one after the other finds it together.
            var trial = index
            var fits = 0
            for spec in specs {
                guard let at = trial.decide(spec).assignment else { break }
                try trial.place(spec, at)
                fits += 1
            }
            #expect(fits < count || batch.isComplete)
            if !batch.isComplete { continue }
            try index.placeBatch(specs, batch)
            for (spec, decision) in zip(specs, batch.decisions) {
                if let at = decision.assignment { world.placed.append((spec, at)) }
            }
            for host in world.hosts where world.vms(on: host.id).contains(where: { $0.spec.id.rawValue >= 1000 }) {
                #expect(world.free(host).cpuMillis >= 0 && world.free(host).memoryMiB >= 0)
                #expect(world.freeDevices(host).allSatisfy { $0 >= 0 })
            }
            #expect(index.vmCount == world.placed.count)
        }
    }
}

@Suite struct PreemptionTests {
    @Test(arguments: 1...15 as ClosedRange<UInt64>)
    func `victims are the cheapest set that a search through all sets finds`(seed: UInt64) throws {
        var (world, index) = try DecideTests.history(seed: seed, steps: 120) { _, _, _, _ in }
        var maker = Maker(seed: seed + 900)
        for number in 1...6 {
            var spec = maker.spec(UInt64(2000 + number), groups: 0)
            spec.priority = 3
            spec.resources.cpuMillis *= 2
            let before = view(index)
            let found = index.decidePreemption(spec)
            #expect(view(index) == before)
            let expected = PreemptionTests.cheapest(world, spec)
            #expect(found?.cost.priorityMost == expected?.priority, "seed \(seed)")
            #expect(found?.cost.count == expected?.count, "seed \(seed)")
            guard let found else { continue }
            var after = world
            after.placed.removeAll { found.victims.contains($0.spec.id) }
            #expect(after.fault(spec, found.assignment) == nil)
            for spared in found.victims {
                var with = world
                with.placed.removeAll { found.victims.contains($0.spec.id) && $0.spec.id != spared }
                let host = world.hosts.first { $0.id == found.assignment.host }!
                #expect(!with.allows(spec, host), "VM \(spared) need not go")
            }
        }
        world = World()
    }

    /// By trying every set of lower-priority VMs on every host; hosts with more than 12 of them are not made here.
    static func cheapest(_ world: World, _ spec: VMSpec) -> (priority: Int32, count: Int)? {
        if world.hosts.contains(where: { world.allows(spec, $0) }) { return (.min, 0) }
        var best: (priority: Int32, count: Int)?
        for host in world.hosts {
            let lower = world.vms(on: host.id).filter { $0.spec.priority < spec.priority }
            if lower.isEmpty || !world.rulesAllow(spec, host) { continue }
            func works(_ gone: [VMSpec]) -> Bool {
                var after = world
                after.placed.removeAll { vm in gone.contains { $0.id == vm.spec.id } }
                return after.hasRoom(spec, host)
            }
            if !works(lower.map(\.spec)) { continue }
            var sets: [(priority: Int32, count: Int, mask: Int)] = []
            for mask in 1..<(1 << lower.count) {
                let highest = lower.indices.filter { mask & (1 << $0) != 0 }.map { lower[$0].spec.priority }.max()!
                sets.append((highest, mask.nonzeroBitCount, mask))
            }
            sets.sort { $0 < $1 }
            for set in sets {
                if let best, (set.priority, set.count) >= best { break }
                if works(lower.indices.filter { set.mask & (1 << $0) != 0 }.map { lower[$0].spec }) {
                    best = (set.priority, set.count)
                    break
                }
            }
        }
        return best
    }

    @Test(.timeLimit(.minutes(1)))
    func `a search among many full hosts takes its bounded time, and among equal ones finds what is cheapest`() throws {
        func spec(_ id: UInt64, _ cpu: Int64, _ priority: Int32) -> VMSpec {
            VMSpec(id: VMID(rawValue: id), resources: Resources(cpuMillis: cpu, memoryMiB: 100), priority: priority)
        }
        for differ in [false, true] {
            var index = try BatchTests.cell(300)
            for host in 1...300 as ClosedRange<UInt64> {
                for i in 0..<16 as Range<UInt64> {
                    let cpu: Int64 = differ ? 242 + Int64((host * 7 + i * 5) % 9) : 250
                    try index.place(spec(host * 16 + i, cpu, 1), Assignment(host: HostID(rawValue: host)))
                }
            }
            let answer = index.decidePreemption(spec(9, 1_900, 5))
            let found = try #require(answer)
            #expect(differ ? (7...8).contains(found.victims.count) : found.victims.count == 8)
            if !differ { #expect(found.assignment.host == HostID(rawValue: 1)) }
        }
    }

    @Test func `one of low priority goes before two, and low before high`() throws {
        var index = try BatchTests.cell(2)
        func vm(_ id: UInt64, _ cpu: Int64, _ priority: Int32) -> VMSpec {
            VMSpec(id: VMID(rawValue: id), resources: Resources(cpuMillis: cpu, memoryMiB: 100), priority: priority)
        }
        try index.place(vm(1, 2000, 1), Assignment(host: HostID(rawValue: 1)))
        try index.place(vm(2, 2000, 1), Assignment(host: HostID(rawValue: 1)))
        try index.place(vm(3, 4000, 2), Assignment(host: HostID(rawValue: 2)))
        let high = vm(9, 3000, 5)
        #expect(index.decide(high).assignment == nil)
        #expect(index.decidePreemption(high)?.victims == [VMID(rawValue: 1), VMID(rawValue: 2)])
        #expect(index.decidePreemption(vm(9, 1500, 5))?.victims.count == 1)
        #expect(index.decidePreemption(vm(9, 1500, 1)) == nil)
    }
}

@Suite struct RebalanceTests {
    @Test(arguments: 1...25 as ClosedRange<UInt64>, [PlacementPolicy.pack, .balance, .spread])
    func `a second run right after applying finds nothing`(seed: UInt64, policy: PlacementPolicy) throws {
        var (world, index) = try DecideTests.history(seed: seed, steps: 120) { _, _, _, _ in }
        index.setMix(index.mixOfPlacedVMs())
        let before = view(index)
        let plan = index.planRebalance(
            policy: policy, budget: RebalanceBudget(movesMax: 10_000, movesPerHostMax: 10_000))
        #expect(view(index) == before)
        #expect(plan.scoreAfter == plan.scoreBefore + plan.moves.reduce(0) { $0 + $1.gain })
        for move in plan.moves {
            let at = world.placed.firstIndex { $0.spec.id == move.vm }!
            let vm = world.placed.remove(at: at)
            #expect(vm.at == move.from)
            #expect(world.fault(vm.spec, move.to) == nil)
            world.placed.append((vm.spec, move.to))
            try index.apply(move)
        }
        #expect(index.cellScore(policy) == plan.scoreAfter)
        var rounds = 0
        // A VM moves at most once a plan, so what a second move of it gains is left to the next plan.
        var next = plan
        while !next.isComplete {
            rounds += 1
            next = index.planRebalance(
                policy: policy, budget: RebalanceBudget(movesMax: 10_000, movesPerHostMax: 10_000))
            for move in next.moves { try index.apply(move) }
            if rounds > 50 { break }
        }
        #expect(rounds <= 50, "plans go on for ever")
        let last = index.planRebalance(policy: policy)
        #expect(last.moves.isEmpty && last.isComplete)
    }

    @Test func `budgets hold and frozen VMs stay`() throws {
        var index = try BatchTests.cell(8)
        for id in 1...8 as ClosedRange<UInt64> {
            try index.place(
                VMSpec(id: VMID(rawValue: id), resources: Resources(cpuMillis: 500, memoryMiB: 100)),
                Assignment(host: HostID(rawValue: 1 + id % 2)))
        }
        let all = index.planRebalance(policy: .balance)
        #expect(all.moves.count > 3)
        let two = index.planRebalance(policy: .balance, budget: RebalanceBudget(movesMax: 2))
        #expect(two.moves.count == 2 && !two.isComplete)
        let one = index.planRebalance(policy: .balance, budget: RebalanceBudget(movesPerHostMax: 1))
        #expect(one.moves.count == 2)
        let frozen = index.planRebalance(policy: .balance, budget: RebalanceBudget(frozen: index.vmIDs))
        #expect(frozen.moves.isEmpty && frozen.isComplete)
    }

    @Test func `a move whose VM is elsewhere is refused`() throws {
        var index = try BatchTests.cell(3)
        let spec = BatchTests.specs([1000])[0]
        try index.place(spec, Assignment(host: HostID(rawValue: 1)))
        let move = Move(
            vm: spec.id, from: Assignment(host: HostID(rawValue: 2)), to: Assignment(host: HostID(rawValue: 3)),
            gain: 1,
            cost: 1)
        let before = view(index)
        #expect(throws: IndexError.self) { try index.apply(move) }
        #expect(view(index) == before)
    }
}

@Suite struct ExplainTests {
    @Test(arguments: 1...25 as ClosedRange<UInt64>)
    func `counts add up and say the same as the oracle`(seed: UInt64) throws {
        _ = try DecideTests.history(seed: seed, steps: 80) { world, index, spec, decision in
            let before = view(index)
            let why = index.explain(spec, hosts: world.hosts.map(\.id))
            #expect(view(index) == before)
            #expect(why.counts.reduce(0) { $0 + $1.hosts } + why.candidates == world.hosts.count)
            #expect(why.candidates == world.hosts.count { world.allows(spec, $0) })
            #expect((decision.assignment != nil) == (why.candidates > 0))
            for report in why.asked {
                let host = world.hosts.first { $0.id == report.host }!
                #expect(report.excludedBy.isEmpty == world.allows(spec, host))
                #expect(report.free == world.free(host))
            }
            if case .place(let at, _) = index.decide(spec) { #expect(why.best.first?.assignment == at) }
        }
    }

    @Test func `the nearest change for want of room names host and amount`() throws {
        var index = PlacementIndex()
        for id in 1...4 as ClosedRange<UInt64> {
            try index.addHost(Host(id: HostID(rawValue: id), capacity: Resources(cpuMillis: 8000, memoryMiB: 16384)))
            try index.place(
                VMSpec(
                    id: VMID(rawValue: id), resources: Resources(cpuMillis: 1000, memoryMiB: id == 4 ? 11264 : 14336)),
                Assignment(host: HostID(rawValue: id)))
        }
        let why = index.explain(VMSpec(id: VMID(rawValue: 9), resources: Resources(cpuMillis: 1000, memoryMiB: 8192)))
        #expect(why.nearest?.description == "fits on host 4 if 3072 MiB of memory more were free")
        #expect(why.counts == [Refusal.Count(rule: .resource(.memory), hosts: 4)])
    }

    @Test func `the nearest change for want of racks names the group and the limit`() throws {
        var index = PlacementIndex()
        let web = PlacementGroupID(rawValue: 1)
        index.setGroup(PlacementGroup(id: web, rule: .antiAffinity(perDomainMax: 1), scope: .rack))
        for id in 1...4 as ClosedRange<UInt64> {
            try index.addHost(
                Host(
                    id: HostID(rawValue: id), capacity: Resources(cpuMillis: 8000, memoryMiB: 16384),
                    rack: Word(UInt32(id % 2))))
        }
        for id in 1...2 as ClosedRange<UInt64> {
            let spec = VMSpec(
                id: VMID(rawValue: id), resources: Resources(cpuMillis: 1000, memoryMiB: 1024), groups: [web])
            try index.place(spec, try #require(index.decide(spec).assignment))
        }
        let third = VMSpec(id: VMID(rawValue: 3), resources: Resources(cpuMillis: 1000, memoryMiB: 1024), groups: [web])
        #expect(index.decide(third).refusal?.description == "no host fits: 4 by group 1")
        #expect(index.explain(third).nearest?.description == "fits on host 1 if group 1 allowed 2 per rack")
    }

    @Test func `a host that is large enough and can't take it yet is nearer than a larger one`() throws {
        var index = PlacementIndex()
        try index.addHost(
            Host(id: HostID(rawValue: 1), capacity: Resources(cpuMillis: 8000, memoryMiB: 1024), state: .cordoned))
        try index.addHost(Host(id: HostID(rawValue: 2), capacity: Resources(cpuMillis: 4000, memoryMiB: 1024)))
        let large = VMSpec(id: VMID(rawValue: 9), resources: Resources(cpuMillis: 6000, memoryMiB: 64))
        try index.place(
            VMSpec(id: VMID(rawValue: 1), resources: Resources(cpuMillis: 3000)), Assignment(host: HostID(rawValue: 1)))
        #expect(
            index.explain(large).nearest?.description
                == "no single change lets it in; fits on host 1 if 1000m CPU more were free, and if it were not cordoned"
        )
        try index.setState(HostID(rawValue: 1), .ready)
        #expect(index.explain(large).nearest?.description == "fits on host 1 if 1000m CPU more were free")
        let huge = VMSpec(id: VMID(rawValue: 9), resources: Resources(cpuMillis: 9000, memoryMiB: 64))
        #expect(
            index.explain(huge).nearest?.description
                == "no host is large enough; fits on host 1 if that offered 4000m CPU more")
    }

    @Test(arguments: 1...60 as ClosedRange<UInt64>)
    func `what would let a VM in does, once it is done`(seed: UInt64) throws {
        var changes = 0
        _ = try DecideTests.history(seed: seed, steps: 80) { world, index, spec, decision in
            guard decision.assignment == nil, decision.refusal?.invalid == nil else { return }
            let change = try #require(index.explain(spec).nearest, "something always would")
            var (wish, other) = (spec, index)
            try apply(change, &wish, &other, world)
            let found = other.decide(wish, policy: .pack, among: HostFilter(only: [change.host]))
            #expect(found.assignment != nil, "\(change): \(found)")
            changes += 1
        }
        #expect(changes > 0 || seed > 5)
    }

    /// Makes a change true: at the host and in the groups, or in what is asked for.
    private func apply(_ change: NearestChange, _ spec: inout VMSpec, _ index: inout PlacementIndex, _ world: World)
        throws
    {
        switch change {
        case .free(let id, let lacking), .offer(let id, let lacking):
            var host = try #require(index.host(id))
            let promised = host.overcommit.applied(to: Resources(SIMD4(repeating: 1000)))
            for lack in lacking {
                let factor = promised.vector[lack.kind.rawValue]
                host.capacity.vector[lack.kind.rawValue] += (lack.amount * 1000 + factor - 1) / factor
            }
            try index.updateHost(host)
        case .groupLimit(let id, let limit, _, _):
            var group = try #require(world.groups.first { $0.id == id })
            if case .spread = group.rule {
                group.rule = .spread(skewMax: limit)
            } else {
                group.rule = .antiAffinity(perDomainMax: limit)
            }
            index.setGroup(group)
        case .groupSoft(let id, _):
            var group = try #require(world.groups.first { $0.id == id })
            group.isHard = false
            index.setGroup(group)
        case .hostReady(let id, _): try index.setState(id, .ready)
        case .rule(let rule, _):
            switch rule {
            case .zone: spec.zones = []
            case .selector: spec.required = []
            case .taint: spec.tolerations = try #require(index.host(change.host)).taints.map { Toleration($0.key) }
            case .storageDomain: spec.disks.removeAll { if case .shared = $0.kind { true } else { false } }
            case .network: spec.networks = []
            case .tpm: spec.wantsTPM = false
            case .numa: (spec.numa, spec.devicesOnSameNodes) = (.none, false)
            case .devices: spec.devices = []
            default: Issue.record("\(rule) can't be dropped")
            }
        case .several(let parts, _):
            #expect(parts.count > 1)
            for part in parts { try apply(part, &spec, &index, world) }
        }
    }

    @Test func `a placed VM is explained as if it were not placed`() throws {
        var index = try BatchTests.cell(1)
        let spec = BatchTests.specs([4000])[0]
        try index.place(spec, Assignment(host: HostID(rawValue: 1)))
        let why = index.explain(spec)
        #expect(why.candidates == 1)
        #expect(index.assignment(spec.id) != nil)
    }
}

@Suite struct ReplayTests {
    /// Shapes of three ratios of CPU to memory, none of which is the servers'.
    static func trace(_ count: Int) -> [TraceRow] {
        var random = PRNG(seed: 5)
        return (0..<count).map { i in
            let size = [1, 1, 1, 2, 4, 8][random.below(6)]
            return TraceRow(
                spec: VMSpec(
                    id: VMID(rawValue: 0),
                    resources: Resources(
                        cpuMillis: Int64(size) * 1000, memoryMiB: Int64(size) * (1024 << random.below(3)))),
                arrival: Int64(i), departure: Int64(i + 1 + random.below(400)))
        }
    }

    static func hosts(_ count: Int) -> [Host] {
        (1...count).map {
            Host(id: HostID(rawValue: UInt64($0)), capacity: Resources(cpuMillis: 32_000, memoryMiB: 65_536))
        }
    }

    @Test func `pack needs no more servers than the baselines`() throws {
        let rows = ReplayTests.trace(2000)
        let template = ReplayTests.hosts(1)[0]
        func fewest(_ policy: PlacementPolicy) throws -> Int {
            try #require(try Replay.fewestHosts(rows, like: template, in: 20...40, policy: policy))
        }
        let pack = try fewest(.pack)
        for policy in [PlacementPolicy.firstFit, .bestFit, .worstFit, .leastSquares, .dotProduct] {
            let other = try fewest(policy)
            #expect(pack <= other, "\(policy)")
        }
    }

    @Test func `a replay says what was rejected and is repeated exactly`() throws {
        let rows = ReplayTests.trace(2000)
        let few = Replay(hosts: ReplayTests.hosts(12))
        let result = try few.run(rows)
        #expect(result.arrivals == 2000)
        #expect(result.rejections > 0)
        #expect(result.acceptedBeforeFirstRejection < 2000)
        #expect(result.hostsUsedMost <= 12)
        #expect(try few.run(rows) == result)
        var moving = few
        moving.arrivalsPerMove = 20
        let moved = try moving.run(rows)
        #expect(moved.moves > 0)
        #expect(moved.moves <= 100)
    }
}

@Suite struct PlacementBenchTests {
    @Test(arguments: PlacementBench.Mix.allCases)
    func `the bench runs and repeats its decisions`(mix: PlacementBench.Mix) throws {
        var ticks: Int64 = 0
        let clock = { () -> Int64 in
            ticks += 1
            return ticks
        }
        let bench = PlacementBench(hosts: 60, mix: mix, fillMilli: 800, decisions: 200)
        let first = try bench.run(nanoseconds: clock)
        let second = try bench.run(nanoseconds: clock)
        #expect(first.hash == second.hash)
        #expect(first.fullMilli > 600)
        #expect(first.refused < 100)
    }
}
