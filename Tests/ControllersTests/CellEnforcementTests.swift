import ClusterBase
import Controllers
import FleetModel
import Testing

/// What may not stay on a host that was changed is moved away where somebody says so.
@Suite struct CellEnforcementTests {
    /// VMs of a core each on the first host, two more with room, and a balance that nobody keeps.
    private func crowded(_ count: Int, others: Int = 2, cpu: Int64 = 16_000) throws -> (
        world: CellWorld, host: HostID, vms: [VMID]
    ) {
        let world = CellWorld()
        world.level = FeatureLevel.enforcement
        try world.apply(.setSlice(tenant: "default", revision: Revision(1), .unlimited))
        let host = try world.addHost()
        let vms = try (0..<count).map { i in try world.create(CellWorld.spec(priority: i == 0 ? 1 : 0)) }
        try world.tick(5)
        for _ in 0..<others { try world.addHost(cpu: cpu) }
        try world.tick(5)
        return (world, host, vms)
    }

    private func offering(_ cores: Int64) -> HostPolicy {
        var policy = HostPolicy()
        policy.reserved.cpuMillis = 16_000 - cores * 1_000
        return policy
    }

    private func there(_ world: CellWorld, _ host: HostID) throws -> [VMID] {
        try world.view().vms.values.filter { $0.place?.assignment.host == host }.map(\.id).sorted()
    }

    @Test func `what a smaller host has no room for moves as was planned, within the budgets, and no more`() throws {
        let (world, host, vms) = try crowded(9)
        let policy = offering(4)
        let plan = try #require(world.planEnforcement(host, policy))
        #expect(plan.steps.count == 5 && plan.left.isEmpty && plan.steps.allSatisfy { $0.kind == .migrate })
        let plain = try #require(world.planCapacity(host, policy))
        #expect(plain.steps.isEmpty && plain.left.map(\.vm) == plan.steps.map(\.vm) && plain.digest != plan.digest)
        #expect(world.planEnforcement(host, policy)?.digest == plan.digest)

        try world.apply(.setHostPolicy(host, policy, generation: nil, isEnforced: true))
        let most = try world.view()[.migrationsPerHostMax]
        try world.tick()
        #expect(world.keeper.counts.exceeded == 1)
        for _ in 0..<300 {
            try world.tick()
            let moving = try world.view().vms.values.filter { $0.migration != nil }
            #expect(moving.count <= Int(most) && moving.allSatisfy { $0.migration?.cause == .capacity })
        }
        #expect(try there(world, host) == vms.filter { id in !plan.steps.contains { $0.vm == id } })
        #expect(try there(world, host).contains(vms[0]), "the most important stays")
        let row = try #require(try world.view().hosts[host])
        #expect(!row.isEnforced && row.excess == nil && world.keeper.counts.exceeded == 0)
        #expect(world.refused.isEmpty && world.keeper.counts.migrationsBegun == 5, "\(world.refused)")
    }

    @Test func `it goes on under another leader, and another word without it calls it off`() throws {
        let (world, host, vms) = try crowded(12)
        try world.apply(.setHostPolicy(host, offering(2), generation: nil, isEnforced: true))
        while try there(world, host).count == vms.count { try world.tick() }
        world.changeLeader()
        while try there(world, host).count > 8 { try world.tick() }
        try world.apply(.setHostPolicy(host, offering(2), generation: nil))
        try world.tick(40)
        let left = try there(world, host).count
        #expect(left > 2 && left <= 8)
        try world.tick(100)
        #expect(try there(world, host).count == left)
        try world.apply(.setHostPolicy(host, offering(2), generation: nil, isEnforced: true))
        try world.tick(400)
        #expect(try there(world, host).count == 2)
    }

    @Test func `what no other host takes stays, is named beforehand, and the moves come to an end`() throws {
        let (world, host, _) = try crowded(8, others: 1, cpu: 2_000)
        let plan = try #require(world.planEnforcement(host, offering(4)))
        #expect(plan.steps.count == 2 && plan.left.count == 2)
        #expect(
            plan.left.allSatisfy { $0.text.hasSuffix("it runs on there, as no other host takes it") }, "\(plan.left)")
        try world.apply(.setHostPolicy(host, offering(4), generation: nil, isEnforced: true))
        try world.tick(300)
        #expect(try there(world, host).count == 6)
        let row = try #require(try world.view().hosts[host])
        #expect(!row.isEnforced && row.excess != nil)
        // Room that appears is for whoever asks again: the agent's own word on its capacity is enforced so, too.
        try world.addHost()
        try world.tick(100)
        #expect(try there(world, host).count == 6)
        try world.apply(.setHostPolicy(host, offering(4), generation: nil, isEnforced: true))
        try world.tick(200)
        #expect(try there(world, host).count == 4)
    }

    @Test func `what is stopped gives up its place, and what may not be there by a rule leaves as well`() throws {
        let (world, host, vms) = try crowded(3)
        try world.apply(.setPower(vms[2], .stopped, generation: nil))
        try world.tick(30)
        var policy = HostPolicy()
        policy.taints = [NamedTaint("gpu")]
        let plan = try #require(world.planEnforcement(host, policy))
        #expect(Set(plan.steps.map(\.kind)) == [.migrate, .release] && plan.steps.count == 3 && plan.left.isEmpty)
        try world.apply(.setHostPolicy(host, policy, generation: nil, isEnforced: true))
        try world.tick(200)
        #expect(try there(world, host).isEmpty)
        #expect(try world.vm(vms[2])?.place == nil && world.vm(vms[2])?.phase == .stopped)
        #expect(try world.view().hosts[host]?.isEnforced == false)
    }

    @Test func `a small one stays where a large one that went after it left room`() throws {
        let world = CellWorld()
        world.level = FeatureLevel.enforcement
        try world.apply(.setSlice(tenant: "default", revision: Revision(1), .unlimited))
        let host = try world.addHost()
        let vms = try [(6_000, 1), (6_000, 0), (3_000, 0)].map { cpu, priority in
            try world.create(CellWorld.spec(cpu: cpu, priority: Int32(priority)))
        }
        try world.tick(5)
        try world.addHost()
        try world.tick(5)
        let plan = try #require(world.planEnforcement(host, offering(10)))
        #expect(plan.steps.map(\.vm) == [vms[1]])
        try world.apply(.setHostPolicy(host, offering(10), generation: nil, isEnforced: true))
        try world.tick(200)
        #expect(try there(world, host) == [vms[0], vms[2]])
    }

    @Test func `a move that came to no end is tried harder, and one that nothing helps is left where it is`() throws {
        let (world, host, vms) = try crowded(1)
        world.keeper.knowsIntents = true
        try world.apply(.setSetting(.moveIntent, 1))
        world.isStuck = true
        var policy = HostPolicy()
        policy.taints = [NamedTaint("gpu")]
        try world.apply(.setHostPolicy(host, policy, generation: nil, isEnforced: true))
        #expect(try world.failMoves(of: vms[0]) == [.gentle, .balanced, .now])
        #expect(try world.view().hosts[host]?.isEnforced == false)
    }
}
