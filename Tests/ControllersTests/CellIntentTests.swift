import ClusterBase
import Controllers
import FleetModel
import Testing

/// How controllers choose what a move may cost.
@Suite struct CellIntentTests {
    private static let north = "north"

    private func world() throws -> CellWorld {
        let world = CellWorld()
        world.level = FeatureLevel.newest
        world.keeper.knowsIntents = true
        return world
    }

    /// Of each move that began since it was asked last.
    private func begun(_ world: CellWorld, ticks: Int) throws -> [VMID: [MoveIntent]] {
        var found: [VMID: [MoveIntent]] = [:]
        for _ in 0..<ticks {
            try world.tick()
            for case .beginMigration(let id, _, _, _, let intent) in world.lastOperations {
                found[id, default: []].append(intent)
            }
        }
        return found
    }

    @Test func `a better balance costs nobody anything, and an older cluster is asked for what it knows`() throws {
        for knows in [true, false] {
            let world = try world()
            world.keeper.knowsIntents = knows
            try world.apply(.setSetting(.policy, 2))
            try world.apply(.setSetting(.rebalance, 2))
            try world.apply(.setSetting(.moveCooldown, 5_000))
            try world.addHost()
            for _ in 0..<8 { try world.create(CellWorld.spec()) }
            try world.tick(5)
            for _ in 0..<3 { try world.addHost() }
            let plan = world.keeper.planRebalance()
            for case .beginMigration(_, _, _, _, let intent) in plan.operations(knowsIntents: knows) {
                #expect(intent == (knows ? .gentle : .balanced))
            }
            let found = try begun(world, ticks: 3_000)
            #expect(found.count >= 4)
            #expect(found.values.allSatisfy { $0.allSatisfy { $0 == (knows ? .gentle : .balanced) } }, "\(found)")
        }
    }

    @Test func `a drain moves VMs as they or their cell are set`() throws {
        let world = try world()
        let first = try world.addHost()
        let plain = try world.create(CellWorld.spec())
        var spec = CellWorld.spec()
        spec.moveIntent = .gentle
        let soft = try world.create(spec)
        try world.tick(5)
        try world.addHost()
        try world.apply(.setHostDuty(first, .draining))
        #expect(try begun(world, ticks: 60) == [plain: [.balanced], soft: [.gentle]])
        try world.apply(.setSetting(.moveIntent, 3))
        try world.apply(.setHostDuty(first, .inService))
        try world.apply(.setHostDuty(HostID(2), .draining))
        #expect(try begun(world, ticks: 60) == [plain: [.now], soft: [.gentle]])
    }

    @Test func `a move of a drain that came to no end is tried again harder, each time`() throws {
        let world = try world()
        let first = try world.addHost()
        var spec = CellWorld.spec()
        spec.moveIntent = .gentle
        let vm = try world.create(spec)
        try world.tick(5)
        try world.addHost()
        world.isStuck = true
        try world.apply(.setHostDuty(first, .draining))
        var tries: [MoveIntent] = []
        for _ in 0..<2_000 where tries.count < 4 {
            for (id, intents) in try begun(world, ticks: 1) where id == vm { tries += intents }
            guard let migration = try world.vm(vm)?.migration, migration.phase == .copying,
                let place = try world.vm(vm)?.place
            else { continue }
            try world.apply(
                .reportVMs(first, Incarnation(1), [VMReport(vm, epoch: place.epoch, .copyFailed, message: "it writes")])
            )
        }
        #expect(tries == [.gentle, .balanced, .now, .now])
    }

    @Test func `who leaves an evacuated region leaves it now`() throws {
        let world = try world()
        for _ in 0..<2 { try world.addHost(region: Self.north) }
        let vms = try (0..<3).map { _ in try world.create(CellWorld.spec()) }
        try world.tick(5)
        for _ in 0..<2 { try world.addHost(region: "south") }
        try world.tick(5)
        let plan = RegionPlan(number: 5, direction: .evacuate, state: .running)
        world.keeper.take(
            regions: RegionFacts(
                own: 1, region: Self.north,
                regions: [RegionStanding(name: Self.north, epoch: 5, isLost: false, plan: plan)], cells: []),
            now: world.now)
        let found = try begun(world, ticks: 200)
        #expect(Set(found.keys) == Set(vms) && found.values.allSatisfy { $0.first == .now }, "\(found)")
    }
}
