import ClusterBase
import FleetModel
import Placement
import Testing

@Suite struct DecideTests {
    /// A world and its index after many random changes.
    static func history(
        seed: UInt64, steps: Int, each: (inout World, inout PlacementIndex, VMSpec, Decision) throws -> Void
    )
        throws -> (World, PlacementIndex)
    {
        var maker = Maker(seed: seed)
        var world = World()
        var index = PlacementIndex(seed: seed)
        for id in 1...UInt64(6 + maker.random.below(8)) {
            let host = maker.host(id)
            world.hosts.append(host)
            try index.addHost(host)
        }
        for id in 1...UInt64(4) {
            let group = maker.group(id)
            world.groups.append(group)
            index.setGroup(group)
        }
        let policies: [PlacementPolicy] = [.pack, .balance, .spread]
        for step in 1...UInt64(steps) {
            let spec = maker.spec(step, groups: 4)
            let decision = index.decide(spec, policy: maker.pick(policies))
            try each(&world, &index, spec, decision)
            if let at = decision.assignment {
                try index.place(spec, at)
                world.placed.append((spec, at))
            }
            if maker.random.chance(2, in: 5), !world.placed.isEmpty {
                let gone = world.placed.remove(at: maker.random.below(world.placed.count))
                try index.remove(gone.spec.id)
            }
            if maker.random.chance(1, in: 10) {
                let at = maker.random.below(world.hosts.count)
                world.hosts[at].state = maker.pick([.ready, .ready, .cordoned, .down])
                try index.setState(world.hosts[at].id, world.hosts[at].state)
            }
            if maker.random.chance(1, in: 20) {
                let at = maker.random.below(world.hosts.count)
                world.hosts[at].labels = maker.random.chance(1, in: 2) ? [] : [Label(Word(60), Word(62))]
                world.hosts[at].rack = Word(UInt32(10 + maker.random.below(3)))
                try index.updateHost(world.hosts[at])
            }
            if maker.random.chance(1, in: 25) {
                let host = maker.host(100 + step)
                world.hosts.append(host)
                try index.addHost(host)
            }
            if maker.random.chance(1, in: 25), let at = world.hosts.firstIndex(where: { world.vms(on: $0.id).isEmpty }),
                world.hosts.count > 3
            {
                try index.removeHost(world.hosts.remove(at: at).id)
            }
            if maker.random.chance(1, in: 30) { index.setMix(index.mixOfPlacedVMs()) }
        }
        return (world, index)
    }

    /// Hosts by rule; kinds of room are one, and groups are, since a host that several exclude counts for any of them.
    private static func summed(_ counts: [Refusal.Count]) -> [Rule: Int] {
        var sums: [Rule: Int] = [:]
        for count in counts {
            let rule: Rule =
                switch count.rule {
                case .resource, .numa, .devices: .room
                case .group: .group(PlacementGroupID(rawValue: 0))
                default: count.rule
                }
            sums[rule, default: 0] += count.hosts
        }
        return sums
    }

    @Test(arguments: 1...60 as ClosedRange<UInt64>)
    func `a decision keeps every hard rule and a refusal means that no host would do`(seed: UInt64) throws {
        var refusals = 0
        _ = try DecideTests.history(seed: seed, steps: 150) { world, index, spec, decision in
            switch decision {
            case .place(let at, _):
                #expect(world.fault(spec, at) == nil, "seed \(seed), VM \(spec.id)")
            case .refuse(let refusal):
                refusals += 1
                let possible = world.hosts.filter { world.allows(spec, $0) }.map(\.id)
                #expect(possible.isEmpty, "seed \(seed), VM \(spec.id): \(refusal)")
                #expect(refusal.counts.reduce(0) { $0 + $1.hosts } == world.hosts.count)
                // Counted by classes and racks, and host by host: the same.
                var asked = index
                let found = asked.explain(spec, bestMax: 0)
                #expect(DecideTests.summed(refusal.counts) == DecideTests.summed(found.counts), "\(spec.id)")
            }
        }
        #expect(refusals > 0)
    }

    @Test(arguments: 1...30 as ClosedRange<UInt64>)
    func `an index kept up change by change decides like one built afresh`(seed: UInt64) throws {
        var (world, index) = try DecideTests.history(seed: seed, steps: 200) { _, _, _, _ in }
        var fresh = PlacementIndex(seed: seed)
        for host in world.hosts.sorted(by: { $0.id > $1.id }) { try fresh.addHost(host) }
        for group in world.groups { fresh.setGroup(group) }
        for vm in world.placed { try fresh.place(vm.spec, vm.at) }
        fresh.setMix(index.mix)
        #expect(view(index) == view(fresh))
        var maker = Maker(seed: seed &+ 1000)
        for id in 1001...UInt64(1060) {
            let spec = maker.spec(id, groups: 4)
            for policy in PlacementPolicy.allCases {
                #expect(index.decide(spec, policy: policy) == fresh.decide(spec, policy: policy), "\(policy) \(spec)")
            }
            #expect(index.explain(spec) == fresh.explain(spec))
        }
        _ = world
        world = World()
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `the chosen host has the best score of all that were possible`(seed: UInt64) throws {
        _ = try DecideTests.history(seed: seed, steps: 100) { world, index, spec, decision in
            guard case .place(let at, let score) = decision else { return }
            // Asking for each host alone gives its score; none may be below the winner's. The policy of the
            // history is drawn per step, so it is found by the score that the winner has alone.
            for policy in [PlacementPolicy.pack, .balance, .spread] {
                let whole = index.decide(spec, policy: policy)
                guard case .place(let best, let least) = whole else { continue }
                for host in world.hosts {
                    let alone = index.decide(spec, policy: policy, among: HostFilter(only: [host.id]))
                    if case .place(_, let other) = alone { #expect(other >= least) }
                    if host.id == best.host { #expect(alone == whole) }
                    #expect((alone.assignment != nil) == world.allows(spec, host))
                }
            }
            _ = (at, score)
        }
    }

    @Test func `the same history gives the same decisions`() throws {
        var runs: [[Decision]] = [[], []]
        for run in 0..<2 {
            _ = try DecideTests.history(seed: 7, steps: 300) { _, _, _, decision in runs[run].append(decision) }
        }
        #expect(runs[0] == runs[1])
    }

    @Test func `a forgotten shape is found again with the same answer`() throws {
        var index = PlacementIndex()
        for id in 1...100 as ClosedRange<UInt64> {
            try index.addHost(
                Host(id: HostID(rawValue: id), capacity: Resources(cpuMillis: Int64(id) * 1000, memoryMiB: 1 << 20)))
        }
        let first = VMSpec(id: VMID(rawValue: 1), resources: Resources(cpuMillis: 50_000, memoryMiB: 1))
        let before = index.decide(first)
        for i in 1...PlacementIndex.shapesRememberedMax + 10 {
            _ = index.decide(VMSpec(id: VMID(rawValue: 2), resources: Resources(cpuMillis: Int64(i), memoryMiB: 1)))
        }
        #expect(index.decide(first) == before)
        #expect(before.assignment?.host == HostID(rawValue: 50))
    }

    @Test func `a wrong request is refused with a sentence and not judged`() {
        var index = PlacementIndex()
        var spec = VMSpec(id: VMID(rawValue: 1), resources: Resources(cpuMillis: -1))
        #expect(index.decide(spec).refusal?.invalid != nil)
        spec.resources = Resources(cpuMillis: 1)
        spec.groups = [PlacementGroupID(rawValue: 9)]
        #expect(index.decide(spec).refusal?.invalid?.contains("group 9") == true)
    }

    @Test func `pack keeps whole hosts for the large shapes of the mix`() throws {
        var index = PlacementIndex()
        for id in 1...2 as ClosedRange<UInt64> {
            try index.addHost(Host(id: HostID(rawValue: id), capacity: Resources(cpuMillis: 8000, memoryMiB: 8192)))
        }
        let large = VMSpec(id: VMID(rawValue: 1), resources: Resources(cpuMillis: 8000, memoryMiB: 1024))
        let small = VMSpec(id: VMID(rawValue: 2), resources: Resources(cpuMillis: 1000, memoryMiB: 1024))
        index.setMix(ShapeMix(counts: [(Shape(large), 1), (Shape(small), 1)], totals: index.totals))
        try index.place(small, Assignment(host: HostID(rawValue: 2)))
        var next = small
        next.id = VMID(rawValue: 3)
        #expect(index.decide(next, policy: .pack).assignment?.host == HostID(rawValue: 2))
        #expect(index.decide(next, policy: .balance).assignment?.host == HostID(rawValue: 1))
        #expect(index.decide(next, policy: .spread).assignment?.host == HostID(rawValue: 1))
        next.policy = .balance
        #expect(index.decide(next, policy: .pack).assignment?.host == HostID(rawValue: 1))
    }

    @Test func `a shared device is filled up before a whole one is opened`() throws {
        var index = PlacementIndex()
        let gpu = Word(5)
        try index.addHost(
            Host(
                id: HostID(rawValue: 1), capacity: Resources(cpuMillis: 64_000, memoryMiB: 65_536),
                devices: [Device(kind: gpu), Device(kind: gpu)]))
        let part = VMSpec(
            id: VMID(rawValue: 1), resources: Resources(cpuMillis: 1000, memoryMiB: 1024),
            devices: [DeviceWish(kinds: [gpu], count: 1, millis: 400)])
        let whole = VMSpec(
            id: VMID(rawValue: 2), resources: Resources(cpuMillis: 1000, memoryMiB: 1024),
            devices: [DeviceWish(kinds: [gpu])])
        index.setMix(ShapeMix(counts: [(Shape(part), 1), (Shape(whole), 1)], totals: index.totals))
        try index.place(part, Assignment(host: HostID(rawValue: 1), devices: [DeviceUse(device: 1, millis: 400)]))
        var second = part
        second.id = VMID(rawValue: 3)
        #expect(index.decide(second).assignment?.devices == [DeviceUse(device: 1, millis: 400)])
        #expect(index.decide(whole).assignment?.devices == [DeviceUse(device: 0, millis: 1000)])
    }

    @Test func `changes that would lose something are refused and leave the index as it was`() throws {
        var index = PlacementIndex()
        let host = Host(
            id: HostID(rawValue: 1), capacity: Resources(cpuMillis: 8000, memoryMiB: 8192),
            numaNodes: [NUMANode(cpuMillis: 4000, memoryMiB: 4096), NUMANode(cpuMillis: 4000, memoryMiB: 4096)])
        try index.addHost(host)
        let spec = VMSpec(
            id: VMID(rawValue: 1), resources: Resources(cpuMillis: 1000, memoryMiB: 1024), numa: .nodes(1))
        try index.place(spec, Assignment(host: host.id, numaNodes: [1]))
        let before = view(index)
        #expect(throws: IndexError.hostExists(host.id)) { try index.addHost(host) }
        #expect(throws: IndexError.hostHasVMs(host.id, count: 1)) { try index.removeHost(host.id) }
        #expect(throws: IndexError.vmExists(spec.id)) { try index.place(spec, Assignment(host: host.id)) }
        #expect(throws: IndexError.unknownVM(VMID(rawValue: 2))) { try index.remove(VMID(rawValue: 2)) }
        var smaller = host
        smaller.numaNodes.removeLast()
        #expect(throws: IndexError.self) { try index.updateHost(smaller) }
        #expect(view(index) == before)
        var shrunk = host
        shrunk.capacity.cpuMillis = 500
        try index.updateHost(shrunk)
        #expect(index.free(host.id)?.cpuMillis == -500)
    }
}
