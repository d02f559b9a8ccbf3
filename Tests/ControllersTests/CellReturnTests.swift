import ClusterBase
import Controllers
import FleetModel
import Testing

/// VMs that a drain moved off a host come back to it.
@Suite struct CellReturnTests {
    /// A host whose VMs are all elsewhere.
    private func drained(
        _ count: Int, _ returns: HostReturn = .none, cpu: Int64 = 1_000, hosts: Int = 2
    ) throws -> (world: CellWorld, host: HostID, vms: [VMID]) {
        let world = CellWorld()
        world.level = FeatureLevel.hostReturns
        try world.apply(.setSlice(tenant: "default", revision: Revision(1), .unlimited))
        let first = try world.addHost(cpu: 32_000)
        let vms = try (0..<count).map { _ in try world.create(CellWorld.spec(cpu: cpu)) }
        try world.tick(5)
        for _ in 0..<hosts { try world.addHost(cpu: 32_000) }
        try world.tick(2)
        try world.apply(.careForHost(first, .drain(returns)))
        try world.tick(200)
        #expect(try world.view().hosts[first]?.duty == .maintenance)
        #expect(try world.view().hosts[first]?.awayCount == UInt64(count))
        return (world, first, vms)
    }

    private func home(_ world: CellWorld, _ vms: [VMID], _ host: HostID) throws -> Int {
        try vms.count { try world.host(of: $0) == host }
    }

    @Test func `without a return all stays, and with all of it every VM is back, within the budgets`() throws {
        let (stays, one, there) = try drained(6)
        try stays.apply(.setHostDuty(one, .inService))
        try stays.tick(100)
        #expect(try home(stays, there, one) == 0)

        let (world, first, vms) = try drained(8, .all)
        let most = try world.view()[.migrationsPerHostMax]
        try world.apply(.setHostDuty(first, .inService))
        for _ in 0..<200 {
            try world.tick()
            let view = try world.view()
            let moving = view.vms.values.filter { $0.migration?.target.assignment.host == first }
            #expect(moving.count <= Int(most) && moving.allSatisfy { $0.migration?.cause == .return })
        }
        #expect(try home(world, vms, first) == vms.count)
        let host = try #require(try world.view().hosts[first])
        #expect(host.drain == 0 && host.returns == .none && host.awayCount == 0)
        #expect(world.refused.isEmpty, "\(world.refused)")
    }

    @Test func `a return that is paused stays so with another leader, goes on, and is called off by another word`()
        throws
    {
        let (world, first, vms) = try drained(8, .all)
        try world.apply(.setHostDuty(first, .inService))
        while try home(world, vms, first) == 0 { try world.tick() }
        try world.apply(.careForHost(first, .pauseReturn))
        try world.tick(40)
        let paused = try home(world, vms, first)
        #expect(paused > 0 && paused < vms.count)
        world.changeLeader()
        try world.tick(80)
        #expect(try home(world, vms, first) == paused)
        try world.apply(.careForHost(first, .resumeReturn))
        while try home(world, vms, first) == paused { try world.tick() }
        world.changeLeader()
        try world.apply(.careForHost(first, .resume(.lazy)))
        try world.tick(40)
        let lazy = try home(world, vms, first)
        #expect(lazy < vms.count)
        try world.tick(60)
        #expect(try home(world, vms, first) == lazy, "nothing moves for it")
        try world.apply(.careForHost(first, .resume(.all)))
        try world.tick(200)
        #expect(try home(world, vms, first) == vms.count)
    }

    @Test
    func
        `a move back that came to no end is tried harder, and one that nothing helps stays without holding up the return`()
        throws
    {
        let (world, first, vms) = try drained(1, .all)
        world.keeper.knowsIntents = true
        try world.apply(.setSetting(.moveIntent, 1))
        world.isStuck = true
        try world.apply(.setHostDuty(first, .inService))
        #expect(try world.failMoves(of: vms[0]) == [.gentle, .balanced, .now])
        let host = try #require(try world.view().hosts[first])
        #expect(host.returns == .lazy && host.awayCount == 1)
    }

    @Test func `lazy moves nothing, and what is moved or placed anyway takes its host first`() throws {
        let (world, first, vms) = try drained(6, .lazy)
        try world.apply(.setHostDuty(first, .inService))
        try world.tick(60)
        #expect(try home(world, vms, first) == 0)
        // One of the hosts where they are is drained: what it has goes home and not to the third host.
        let other = try #require(try world.host(of: vms[0]))
        let there = try vms.filter { try world.host(of: $0) == other }
        try world.apply(.setHostDuty(other, .draining))
        try world.tick(150)
        #expect(try home(world, there, first) == there.count)
        #expect(try home(world, vms, first) == there.count)
    }

    @Test func `what does not fit is named beforehand with the reason, and takes its host first after that`() throws {
        let (world, first, vms) = try drained(4, .all, cpu: 8_000)
        // Somebody takes most of the host meanwhile.
        try world.apply(
            .setHostPolicy(
                first, HostPolicy(reserved: Resources(cpuMillis: 15_000, memoryMiB: 0)), generation: nil))
        try world.tick(3)
        guard case .plan(let plan) = world.keeper.answer(.returns(first)) else {
            Issue.record("no plan")
            return
        }
        #expect(plan.steps.count == 2 && plan.left.count == 2)
        #expect(
            plan.left.allSatisfy { $0.text.contains("has no room for it") && $0.text.contains("CPU more") },
            "\(plan.left)")
        guard case .plan(let again) = world.keeper.answer(.returns(first)) else { return }
        #expect(again == plan, "asking changes nothing")
        try world.apply(.setHostDuty(first, .inService))
        try world.tick(150)
        #expect(try home(world, vms, first) == 2)
        let host = try #require(try world.view().hosts[first])
        #expect(host.returns == .lazy && host.awayCount == 2)
        // With room again nothing moves by itself, but the next word moves the rest.
        try world.apply(.setHostPolicy(first, HostPolicy(), generation: nil))
        try world.tick(60)
        #expect(try home(world, vms, first) == 2)
        try world.apply(.careForHost(first, .resume(.all)))
        try world.tick(100)
        #expect(try home(world, vms, first) == 4)
    }

    @Test func `one that was lost with the host where it was starts at home`() throws {
        let (world, first, vms) = try drained(4, .lazy)
        try world.apply(.setHostDuty(first, .inService))
        try world.tick(5)
        let other = try #require(try world.host(of: vms[0]))
        let there = try vms.filter { try world.host(of: $0) == other }
        world.crash(other)
        try world.tick(300)
        #expect(try home(world, there, first) == there.count)
    }
}
