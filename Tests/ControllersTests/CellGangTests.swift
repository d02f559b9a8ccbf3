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
        // Nobody is stopped for a gang.
        let urgent = try gang(world, "urgent", [1, 1], priority: 9)
        try world.tick(5)
        #expect(try placed(world, urgent) == 0 && placed(world, high) == 2)
        #expect(world.keeper.counts.preemptions == 0)
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
                let there = try placed(world, gang)
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
        for gang in gangs where try placed(world, gang) == 0 {
            let found = try #require(world.explain(gang[0])?.gang)
            #expect(found.fitting < found.count && !found.missing.isEmpty)
        }
    }
}
