import ClusterBase
import Controllers
import FleetModel
import Testing

/// What the controllers make of what operators say of hosts beside their duty.
@Suite struct CellHostCareTests {
    private func drained(_ count: Int) throws -> (world: CellWorld, host: HostID, vms: [VMID]) {
        let world = CellWorld()
        world.level = FeatureLevel.hostCare
        try world.apply(.setSlice(tenant: "default", revision: Revision(1), .unlimited))
        let first = try world.addHost(cpu: 32_000)
        let vms = try (0..<count).map { _ in try world.create(CellWorld.spec()) }
        try world.tick(5)
        for _ in 0..<2 { try world.addHost(cpu: 32_000) }
        try world.tick(2)
        try world.apply(.setHostDuty(first, .draining))
        return (world, first, vms)
    }

    private func left(_ world: CellWorld, _ vms: [VMID], _ host: HostID) throws -> Int {
        try vms.count { try world.host(of: $0) == host }
    }

    @Test func `of a paused drain what moves arrives and nothing more leaves, whoever leads, until it goes on`() throws
    {
        let (world, first, vms) = try drained(8)
        while try world.view().vms.values.allSatisfy({ $0.migration == nil }) { try world.tick() }
        let moving = try world.view().vms.values.filter { $0.migration != nil }.map(\.id)
        #expect(!moving.isEmpty && moving.count < vms.count)
        try world.apply(.careForHost(first, .pauseDrain))
        try world.tick(40)
        #expect(try moving.allSatisfy { try world.host(of: $0) != first }, "they were on their way")
        #expect(try left(world, vms, first) == vms.count - moving.count)
        world.changeLeader()
        try world.tick(80)
        #expect(try left(world, vms, first) == vms.count - moving.count)
        #expect(try world.view().hosts[first]?.duty == .draining)
        let fresh = try world.create(CellWorld.spec())
        try world.tick(5)
        #expect(try world.host(of: fresh) != first, "nothing comes")
        try world.apply(.careForHost(first, .resumeDrain))
        try world.tick(150)
        #expect(try left(world, vms, first) == 0)
        #expect(try world.view().hosts[first]?.duty == .maintenance)
        #expect(world.refused.isEmpty, "\(world.refused)")
    }

    @Test func `what crashes on a host whose drain is paused starts there again`() throws {
        let (world, first, vms) = try drained(6)
        try world.apply(.careForHost(first, .pauseDrain))
        try world.tick(30)
        let stays = try #require(try vms.first { try world.host(of: $0) == first })
        world.crashing = [stays]
        try world.tick(3)
        world.crashing = []
        try world.tick(60)
        #expect(try world.host(of: stays) == first)
        #expect(try world.vm(stays)?.phase == .running)
    }

    @Test func `a drain is called off by taking the host back, paused or not`() throws {
        for isPaused in [false, true] {
            let (world, first, vms) = try drained(8)
            try world.tick(4)
            if isPaused { try world.apply(.careForHost(first, .pauseDrain)) }
            try world.apply(.setHostDuty(first, .inService))
            try world.tick(40)
            let stayed = try left(world, vms, first)
            #expect(stayed > 0)
            try world.tick(40)
            #expect(try left(world, vms, first) == stayed)
            #expect(try world.view().vms.values.allSatisfy { $0.migration == nil && $0.phase == .running })
        }
    }
}
