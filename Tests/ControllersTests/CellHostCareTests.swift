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

    // MARK: Planned absence

    /// Two hosts, and VMs on the first, which is crashed.
    private func lost(_ seconds: UInt64?, keeps: Bool = false) throws -> (world: CellWorld, host: HostID, vms: [VMID]) {
        let world = CellWorld()
        world.level = FeatureLevel.hostCare
        try world.apply(.setSlice(tenant: "default", revision: Revision(1), .unlimited))
        let first = try world.addHost()
        var spec = CellWorld.spec()
        if keeps { spec.isolation = .keep }
        let vms = try (0..<4).map { _ in try world.create(spec) }
        try world.tick(5)
        try world.addHost()
        try world.tick(2)
        if let seconds { try world.apply(.careForHost(first, .goAway(milliseconds: seconds * 1_000))) }
        world.crash(first)
        return (world, first, vms)
    }

    private func health(_ world: CellWorld, _ host: HostID) throws -> CellHost.Health? {
        try world.view().hosts[host]?.health
    }

    @Test func `a host that is away for a while keeps its VMs, which start there again`() throws {
        let (world, first, vms) = try lost(20)
        try world.tick(45)
        #expect(try health(world, first) == .away)
        #expect(try vms.allSatisfy { try world.host(of: $0) == first && world.vm($0)?.phase == .unknown })
        try world.tick(100)
        #expect(try health(world, first) == .away)
        try world.revive(first)
        try world.tick(10)
        #expect(try health(world, first) == .up)
        #expect(try vms.allSatisfy { try world.host(of: $0) == first && world.vm($0)?.phase == .running })
        #expect(world.refused.isEmpty, "\(world.refused)")
    }

    @Test func `a host that is not back in time is given up then, also by a leader that has just come`() throws {
        for changes in [false, true] {
            let (world, first, vms) = try lost(10)
            try world.tick(60)
            if changes { world.changeLeader() }
            try world.tick(35)
            #expect(try health(world, first) == .away)
            try world.tick(10)
            #expect(try health(world, first) == .down)
            try world.tick(5)
            #expect(try vms.allSatisfy { try world.host(of: $0) == HostID(2) && world.vm($0)?.phase == .running })
            #expect(world.refused.isEmpty, "\(world.refused)")
        }
    }

    @Test func `a host that never went takes VMs again when its time is over`() throws {
        let world = CellWorld()
        world.level = FeatureLevel.hostCare
        let first = try world.addHost()
        try world.tick(2)
        try world.apply(.careForHost(first, .goAway(milliseconds: 5_000)))
        try world.tick(45)
        #expect(try world.view().hosts[first]?.state == .cordoned)
        try world.tick(10)
        #expect(try world.view().hosts[first]?.state == .ready)
        #expect(world.refused.isEmpty, "\(world.refused)")
    }

    // MARK: Declared dead

    @Test
    func `a host is declared dead only when its lease may not be in force, and nothing is granted to it from then on`()
        throws
    {
        let (world, first, vms) = try lost(nil, keeps: true)
        try world.tick(10)
        let early = try #require(world.keeper.silence(of: first, world.watch, now: world.now))
        #expect(early.unheard == .seconds(1) && early.leaseLeft == .milliseconds(2_800))
        let plan = try #require(world.planDeath(first))
        #expect(
            plan.steps.map(\.vm).sorted() == vms && plan.steps.allSatisfy { $0.kind == .restart } && plan.left.isEmpty)
        // By whatever way the word came so early: it is waited for the lease.
        try world.apply(.careForHost(first, .declareDead(Incarnation(1))))
        try world.tick(2)
        #expect(try health(world, first) == .up && !world.keeper.mayGrant(to: first))
        try world.tick(25)
        #expect(try health(world, first) == .up)
        try world.tick(5)
        #expect(try health(world, first) == .down)
        #expect(world.keeper.silence(of: first, world.watch, now: world.now) == nil)
        try world.tick(5)
        #expect(try vms.allSatisfy { try world.host(of: $0) == HostID(2) && world.vm($0)?.phase == .running })
        #expect(world.refused.isEmpty, "\(world.refused)")
    }

    @Test func `one that is heard although it was declared dead gets no lease, and is given up a lease later`() throws {
        let (world, first, _) = try lost(nil)
        try world.tick(1)
        try world.apply(.careForHost(first, .declareDead(Incarnation(1))))
        try world.tick(1)
        for _ in 0..<36 {
            // Its node is heard, and no answer grants anything.
            world.machines[0].heardAt = world.now
            try world.tick()
            #expect(!world.keeper.mayGrant(to: first))
        }
        #expect(try health(world, first) == .up)
        for _ in 0..<4 {
            world.machines[0].heardAt = world.now
            try world.tick()
        }
        #expect(try health(world, first) == .down)
    }
}
