import ClusterBase
import Controllers
import FleetModel
import Testing

/// VMs that get their first places all or none.
@Suite struct CellGangTests {
    private func world(hosts: Int = 2, cpu: Int64 = 10_000) throws -> CellWorld {
        let world = CellWorld()
        world.level = FeatureLevel.newest
        for i in 0..<hosts { try world.addHost(cpu: cpu, rack: "r\(i)") }
        return world
    }

    private func gang(
        _ world: CellWorld, _ name: String, _ cores: [Int64], priority: Int32 = 0
    ) throws -> [VMID] {
        let items = cores.enumerated().map { i, cpu in
            VMCreation(
                name: "\(name)\(i)", tenant: "default", spec: CellWorld.spec(cpu: cpu * 1_000, priority: priority))
        }
        return try world.create(items, isAtomic: true).compactMap { $0 }
    }

    private func placed(_ world: CellWorld, _ ids: [VMID]) throws -> Int {
        let view = try world.view()
        return ids.count { view.vms[$0]?.place != nil }
    }

    @Test func `a gang that fits is placed by one command, and others by theirs`() throws {
        let world = try world()
        let ids = try gang(world, "g", [3, 4, 3, 3, 4, 3])
        var commands: [Int] = []
        for _ in 0..<3 {
            try world.tick()
            for case .placeVMs(let items, let isAtomic) in world.lastOperations {
                #expect(isAtomic)
                commands.append(items.count)
            }
        }
        #expect(commands == [6] && world.refused.isEmpty)
        #expect(try placed(world, ids) == 6)
        #expect(world.keeper.counts.gangsPlaced == 1)
    }

    @Test func `a gang that does not fit waits as one, keeps nothing, says why, and comes when there is room`() throws {
        let world = try world()
        let ids = try gang(world, "g", [6, 6, 6])
        try world.tick(5)
        #expect(try placed(world, ids) == 0)
        let found = try #require(world.explain(ids[0])?.gang)
        #expect(found.count == 3 && found.fitting == 2 && found.missing.count == 1)
        #expect(found.missing.first?.text.contains("fits on") == true, "\(found.missing)")
        let message = try #require(try world.vm(ids[1])).message
        #expect(message.hasPrefix("2 of the 3 VMs that are placed together fit; g"), "\(message)")
        #expect(message.contains("no host fits"), "\(message)")
        // Those behind it have the room that it can't use.
        let single = try world.create(CellWorld.spec(cpu: 9_000))
        try world.tick(3)
        #expect(try world.host(of: single) != nil)
        #expect(world.explain(ids[0])?.gang?.fitting == 1)
        try world.addHost(cpu: 20_000)
        try world.tick(10)
        #expect(try placed(world, ids) == 3)
        #expect(world.refused.isEmpty, "\(world.refused)")
    }

    @Test func `of two gangs that fit only one at a time, one has all and the other nothing`() throws {
        let world = try world()
        let first = try gang(world, "a", [6, 6])
        let second = try gang(world, "b", [6, 6])
        try world.tick(10)
        #expect(try placed(world, first) == 2 && placed(world, second) == 0)
        for id in first { try world.apply(.deleteVM(id, generation: nil)) }
        try world.tick(10)
        #expect(try placed(world, second) == 2)
    }

    @Test func `a gang has the turn of the least of its VMs`() throws {
        let world = try world(hosts: 1)
        try world.tick()
        let low = try gang(world, "low", [5, 5], priority: 1)
        let single = try world.create(CellWorld.spec(cpu: 6_000, priority: 2))
        let high = try gang(world, "high", [2, 2], priority: 3)
        #expect(try placed(world, low + high) == 0)
        try world.tick(3)
        #expect(try placed(world, high) == 2 && world.host(of: single) != nil && placed(world, low) == 0)
        #expect(world.explain(low[0])?.standing == .waiting(before: 0))
    }

    @Test func `others are stopped for a gang of a higher priority, and all of it gets its places by one command`()
        throws
    {
        let world = try world()
        var singles: [VMID] = []
        for _ in 0..<4 { singles.append(try world.create(CellWorld.spec(cpu: 5_000))) }
        try world.tick(5)
        #expect(try placed(world, singles) == 4)
        let wish = [4, 4, 1].enumerated().map { i, cpu in
            VMCreation(name: "g\(i)", tenant: "default", spec: CellWorld.spec(cpu: cpu * 1_000, priority: 3))
        }
        let plan = world.keeper.planCreate(wish, isAtomic: true)
        #expect(plan.left.isEmpty)
        let stopped = plan.steps.filter { $0.kind == .preempt }.map(\.vm)
        let places = plan.steps.filter { $0.kind == .place }
        #expect(stopped.count == 2 && Set(stopped).isSubset(of: singles) && places.compactMap(\.item) == [0, 1, 2])
        let ids = try world.create(wish, isAtomic: true).compactMap { $0 }
        var commands: [Int] = []
        for _ in 0..<20 {
            try world.tick()
            for case .placeVMs(let items, let isAtomic) in world.lastOperations where isAtomic {
                commands.append(items.count)
            }
            let there = try placed(world, ids)
            #expect(there == 0 || there == 3)
        }
        #expect(commands == [3] && world.keeper.counts.preemptions == 1 && world.keeper.counts.gangsPlaced == 1)
        // As it was planned: the same places, and the same that were stopped.
        for (id, step) in zip(ids, places) { #expect(try world.host(of: id) == step.to?.host) }
        #expect(try Set(singles.filter { try world.host(of: $0) == nil }) == Set(stopped))
        #expect(world.refused.isEmpty, "\(world.refused)")
    }

    @Test func `nobody is stopped for a gang that would not fit then, or for one that is not more urgent`() throws {
        let world = try world()
        let kept = try world.create(CellWorld.spec(cpu: 6_000, priority: 3))
        var singles: [VMID] = []
        for _ in 0..<2 { singles.append(try world.create(CellWorld.spec(cpu: 4_000))) }
        try world.tick(5)
        let large = try gang(world, "large", [9, 9], priority: 3)
        let same = try gang(world, "same", [6, 6], priority: 0)
        try world.tick(150)
        #expect(try placed(world, large + same) == 0 && placed(world, singles + [kept]) == 3)
        #expect(world.keeper.counts.preemptions == 0)
    }

    @Test func `one that leaves a gang while room is made for it does not keep the others`() throws {
        let world = try world()
        for _ in 0..<4 { try world.create(CellWorld.spec(cpu: 5_000)) }
        try world.tick(5)
        let ids = try gang(world, "g", [4, 4, 4], priority: 3)
        try world.tick()
        #expect(world.keeper.counts.preemptions == 1)
        #expect(try placed(world, ids) == 0)
        try world.apply(.deleteVM(ids[2], generation: nil))
        try world.tick(20)
        #expect(try placed(world, Array(ids[..<2])) == 2)
    }

    @Test func `a plan of all or none says of each why it has no place`() throws {
        let world = try world()
        func creations(_ cores: [Int64], group: String? = nil) -> [VMCreation] {
            cores.enumerated().map { i, cpu in
                VMCreation(
                    name: "g\(i)", tenant: "default",
                    spec: CellWorld.spec(cpu: cpu * 1_000, groups: i == 1 ? group.map { [$0] } ?? [] : []))
            }
        }
        try world.tick()
        let fits = world.keeper.planCreate(creations([6, 6]), isAtomic: true)
        #expect(fits.steps.count == 2 && fits.left.isEmpty)
        let large = world.keeper.planCreate(creations([6, 6, 6]), isAtomic: true)
        #expect(large.steps.isEmpty && large.left.count { $0.cause == .anotherItem } == 2)
        #expect(large.left.count { $0.cause == .noHostFits } == 1)
        // One by one two of them would have places.
        #expect(world.keeper.planCreate(creations([6, 6, 6])).steps.count == 2)
        let wrong = world.keeper.planCreate(creations([1, 1, 1], group: "none"), isAtomic: true)
        #expect(wrong.steps.isEmpty && wrong.left.map(\.cause) == [.anotherItem, .invalid, .anotherItem])
        #expect(large.digest != fits.digest)
    }

    @Test func `who leaves a gang, or asks for less, lets the rest in`() throws {
        let world = try world(hosts: 1)
        let one = try gang(world, "a", [6, 3, 3])
        try world.tick(3)
        #expect(try placed(world, one) == 0)
        try world.apply(.setPower(one[1], .stopped, generation: nil))
        try world.tick(3)
        #expect(try placed(world, one) == 2)
        for id in one { try world.apply(.deleteVM(id, generation: nil)) }
        let other = try gang(world, "b", [6, 6])
        try world.tick(5)
        #expect(try placed(world, other) == 0)
        try world.apply(.updateVM(other[0], CellWorld.spec(cpu: 4_000), generation: nil))
        try world.tick(5)
        #expect(try placed(world, other) == 2)
    }

    @Test func `a lost host replans only its own VMs`() throws {
        let world = try world(hosts: 3)
        try world.apply(.setSetting(.brakeMillis, 1_000))
        let ids = try gang(world, "g", [6, 6])
        try world.tick(5)
        let before = try ids.map { try world.host(of: $0) }
        let lost = try #require(before[0])
        world.crash(lost)
        try world.tick(80)
        #expect(try world.host(of: ids[0]) != nil && world.host(of: ids[0]) != lost)
        #expect(try world.host(of: ids[1]) == before[1])
        // Where there is no room for it, it waits alone.
        world.crash(try #require(try world.host(of: ids[0])))
        try world.tick(80)
        #expect(try world.host(of: ids[0]) == nil && world.host(of: ids[1]) == before[1])
    }

    @Test func `what a host would take with other capacity is whole gangs`() throws {
        let world = try world(hosts: 1)
        let host = HostID(1)
        let small = try gang(world, "s", [6, 6])
        let large = try gang(world, "l", [9, 9])
        try world.tick(3)
        let plan = world.planCapacity(host, HostPolicy(overcommit: Overcommit(cpuMilli: 1_500)))
        #expect(plan?.steps.map(\.vm) == small)
        #expect(try placed(world, small + large) == 0)
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `whatever happens no gang is placed in part, and one that waits does not fit`(seed: UInt64) throws {
        var random = PRNG(seed: seed)
        let world = try world(hosts: 4)
        var gangs: [[VMID]] = []
        var singles: [VMID] = []
        var whole = 0
        for step in 0..<40 {
            switch random.below(10) {
            case 0..<4:
                let cores = (0..<(2 + random.below(5))).map { _ in Int64(1 + random.below(6)) }
                gangs.append(try gang(world, "g\(step)-", cores, priority: Int32(random.below(2))))
            case 4, 5: singles.append(try world.create(CellWorld.spec(cpu: Int64(1 + random.below(8)) * 1_000)))
            case 6:
                if let id = singles.popLast() { try world.apply(.deleteVM(id, generation: nil)) }
            case 7:
                guard !gangs.isEmpty else { continue }
                for id in gangs.remove(at: random.below(gangs.count)) {
                    try world.apply(.deleteVM(id, generation: nil))
                }
            case 8: world.changeLeader(keepsOld: random.below(2) == 0)
            default:
                let host = HostID(UInt64(1 + random.below(4)))
                try world.apply(.setHostDuty(host, random.below(2) == 0 ? .cordoned : .inService))
            }
            if world.deposed.count > 1 { world.deposed.removeFirst() }
            try world.tick(1 + random.below(3))
            for gang in gangs {
                // From its first place on each is for itself, and may be stopped for others.
                let there = try gang.count { try (world.vm($0)?.epochHighest ?? 0) > 0 }
                #expect(there == 0 || there == gang.count, "\(there) of \(gang.count)")
                if there > 0 { whole += 1 }
            }
        }
        #expect(whole > 0)
        world.deposed = []
        for i in 1...4 as ClosedRange<UInt64> { try world.apply(.setHostDuty(HostID(i), .inService)) }
        try world.tick(150)
        let asked = world.asked
        try world.tick(60)
        #expect(world.asked == asked, "it goes on asking: \(world.lastOperations.prefix(2))")
        for gang in gangs where try gang.allSatisfy({ try world.vm($0)?.epochHighest == 0 }) {
            let found = try #require(world.explain(gang[0])?.gang)
            #expect(found.fitting < found.count && !found.missing.isEmpty)
        }
    }
}
