import ClusterBase
import Controllers
import FleetModel
import Testing

/// A cell's keeper when a region is lost, and when it is back.
@Suite struct CellRegionTests {
    private static let north = "north"

    private func report(_ number: UInt64, hosts: UInt64 = 4, cores: Int64 = 64, largest: Int64 = 16) -> CellReport {
        var report = CellReport(group: GroupID(.cell, number: number))
        report.hosts = hosts
        report.offered = Resources(cpuMillis: cores * 1_000, memoryMiB: cores * 4_096)
        report.free = report.offered
        report.largest = Resources(cpuMillis: largest * 1_000, memoryMiB: largest * 4_096)
        report.zones = ["a"]
        return report
    }

    private func facts(_ cells: [RegionFacts.Cell], isLost: Bool = true, epoch: UInt64 = 1) -> RegionFacts {
        RegionFacts(
            own: 1, region: Self.north,
            regions: [RegionStanding(name: Self.north, epoch: epoch, isLost: isLost)], cells: cells)
    }

    private func cell(_ number: UInt64, _ report: CellReport?, _ region: String = "south") -> RegionFacts.Cell {
        RegionFacts.Cell(number: number, name: "c\(number)", region: region, report: report)
    }

    /// A cell with hosts in the region alone, and so many VMs of each kind on them.
    private func world(hosts: Int = 4) throws -> CellWorld {
        let world = CellWorld()
        world.level = FeatureLevel.newest
        for _ in 0..<hosts { try world.addHost(region: Self.north) }
        return world
    }

    private func spec(
        _ loss: VMDescription.RegionLoss, priority: Int32 = 0, cpu: Int64 = 1_000, returns: Bool = true
    ) -> VMDescription {
        var spec = CellWorld.spec(cpu: cpu, priority: priority)
        spec.regionLoss = loss
        spec.returnsHome = returns
        return spec
    }

    private func lose(_ world: CellWorld) throws {
        for machine in world.machines { world.crash(machine.id) }
        try world.tick(60)
    }

    private func departures(_ world: CellWorld) throws -> [VMID: UInt64] {
        try world.view().vms.compactMapValues { $0.departure?.to }
    }

    @Test
    func `before the region counts as lost the brake holds; then all its hosts are given up, and who may go goes`()
        throws
    {
        let world = try world()
        let stays = try world.create(spec(.homeOnly))
        let goes = try (0..<6).map { _ in try world.create(spec(.mayMove)) }
        try world.tick(20)
        #expect(try world.view().count(of: .running) == 7)
        try lose(world)
        #expect(try world.view().hosts.values.count { $0.health == .up } > 0, "the brake holds")
        #expect(try departures(world).isEmpty)
        world.keeper.take(regions: facts([cell(2, report(2))]), now: world.now)
        try world.tick(30)
        #expect(try world.view().hosts.values.allSatisfy { $0.health == .down })
        #expect(try departures(world) == Dictionary(uniqueKeysWithValues: goes.map { ($0, 2) }))
        let text = try #require(try world.vm(stays)?.message)
        #expect(text.contains("region north is lost") && text.contains("home-only"), "\(text)")
        #expect(world.explain(stays)?.region.contains("home-only") == true)
        #expect(world.explain(goes[0])?.region.contains("on its way") == true)
        #expect(world.keeper.counts.regionAway == 6)
        let moves = world.lastMoves
        #expect(moves.allSatisfy { $0.home == CellVM.Home(cell: 1, region: Self.north, epoch: 1) })
    }

    @Test func `those that must go are first, then by priority and tier, as far as the other cell has room`() throws {
        let world = try world()
        world.keeper.take(
            tenants: [TenantWish(name: "default", revision: .zero, quota: .unlimited, tier: "gold")], now: world.now)
        let low = try world.create(spec(.mayMove, priority: 1))
        let high = try world.create(spec(.mayMove, priority: 9))
        let must = try world.create(spec(.mustMove))
        try world.tick(20)
        try lose(world)
        world.keeper.take(regions: facts([cell(2, report(2, cores: 2))]), now: world.now)
        try world.tick(30)
        #expect(try Set(departures(world).keys) == [must, high])
        try world.tick(60)
        let text = try #require(try world.vm(low)?.message)
        #expect(text.contains("none of 1 cells in other regions has room"), "\(text)")
        world.keeper.take(regions: facts([cell(2, report(2, cores: 2)), cell(3, report(3), "west")]), now: world.now)
        try world.tick(15)
        #expect(try departures(world)[low] == 3)
    }

    @Test func `no lost region takes anything, nor one that the VM may not be in, and that is said`() throws {
        let world = try world()
        var bound = spec(.mayMove)
        bound.regions = ["east"]
        let id = try world.create(bound)
        try world.tick(20)
        try lose(world)
        var known = facts([cell(2, report(2)), cell(3, report(3), "east"), cell(4, report(4), Self.north)])
        known.regions.insert(RegionStanding(name: "east", epoch: 2, isLost: true), at: 0)
        world.keeper.take(regions: known, now: world.now)
        try world.tick(100)
        #expect(try departures(world).isEmpty)
        #expect(try world.vm(id)?.message.contains("there is no cell of east in another region") == true)
        known.regions[0] = RegionStanding(name: "east", epoch: 3, isLost: false)
        world.keeper.take(regions: known, now: world.now)
        try world.tick(30)
        #expect(try departures(world) == [id: 3])
    }

    @Test func `a cell that says no is not asked again at once; the next one is`() throws {
        let world = try world()
        let id = try world.create(spec(.mayMove))
        try world.tick(20)
        try lose(world)
        world.keeper.take(regions: facts([cell(2, report(2)), cell(3, report(3))]), now: world.now)
        try world.tick(30)
        func refuse() throws -> UInt64 {
            let departure = try #require(try world.vm(id)?.departure)
            try world.apply(.advanceMove(departure.number, .abort, reason: "no host fits"))
            try world.apply(.advanceMove(departure.number, .settle, reason: ""))
            return departure.to
        }
        var asked: [UInt64] = []
        for _ in 0..<4 {
            asked.append(try refuse())
            try world.tick(2)
            #expect(try world.vm(id)?.departure == nil)
            #expect(world.explain(id)?.region.contains("no host fits") == true)
            for _ in 0..<400 where try world.vm(id)?.departure == nil { try world.tick() }
        }
        #expect(asked == [2, 3, 2, 3])
    }

    @Test func `many go in waves, no more at a time to one cell than it may be asked for`() throws {
        let world = try world(hosts: 8)
        for _ in 0..<120 { try world.create(spec(.mayMove, cpu: 100)) }
        try world.tick(30)
        try lose(world)
        world.keeper.take(regions: facts([cell(2, report(2, cores: 900))]), now: world.now)
        try world.tick(30)
        #expect(try departures(world).count == 64)
        for (id, _) in try departures(world).prefix(20) {
            let number = try #require(try world.vm(id)?.departure?.number)
            for step in [CellMove.Step.leave, .commit, .settle] {
                try world.apply(.advanceMove(number, step, reason: ""))
            }
        }
        try world.tick(30)
        #expect(try world.view().vms.count == 100 && departures(world).count == 64)
    }

    @Test func `when the region is back guests that are to return go home, a few at a time, and the others stay`()
        throws
    {
        let world = CellWorld()
        world.level = FeatureLevel.newest
        for _ in 0..<4 { try world.addHost(region: "south") }
        let home = CellVM.Home(cell: 2, region: Self.north, epoch: 3)
        func arrive(_ number: UInt64, returns: Bool) throws -> VMID {
            let id = VMID(2 << 40 | number)
            var row = CellVM(
                id: id, name: "g\(number)", tenant: "default", spec: spec(.mayMove, returns: returns), at: .zero,
                by: "a")
            row.power = .running
            var move = CellMove(
                number: number, vm: id, tenant: "default", to: 1, share: .zero, request: [], since: .zero)
            move.home = home
            try world.apply(.prepareArrival(move.preparation(of: row, from: 2)))
            try world.tick(5)
            try world.apply(.endArrival(id, from: 2, number: number, isCommitted: true, epoch: 4, floor: 0))
            return id
        }
        let returning = try (1...6).map { try arrive($0, returns: true) }
        let staying = try arrive(7, returns: false)
        try world.tick(20)
        #expect(try world.view().count(of: .running) == 7)
        try world.apply(.setSetting(.migrationsMax, 4))
        func know(_ isLost: Bool, _ epoch: UInt64, _ report: CellReport) {
            world.keeper.take(
                regions: RegionFacts(
                    own: 1, region: "south",
                    regions: [RegionStanding(name: Self.north, epoch: epoch, isLost: isLost)],
                    cells: [cell(2, report, Self.north)]), now: world.now)
        }
        know(true, 3, report(2))
        try world.tick(30)
        #expect(try departures(world).isEmpty)
        #expect(world.explain(returning[0])?.region.contains("it goes back when that is") == true)
        know(false, 4, report(2, hosts: 0))
        try world.tick(30)
        #expect(try departures(world).isEmpty, "there is no host there yet")
        know(false, 4, report(2))
        try world.tick(30)
        let gone = try departures(world)
        #expect(gone.count == 4 && gone.values.allSatisfy { $0 == 2 } && gone[staying] == nil)
        #expect(world.lastMoves.allSatisfy { $0.home == nil })
        for (id, _) in gone {
            let number = try #require(try world.vm(id)?.departure?.number)
            try world.apply(.advanceMove(number, .leave, reason: ""))
            try world.tick(5)
            for step in [CellMove.Step.commit, .settle] { try world.apply(.advanceMove(number, step, reason: "")) }
        }
        try world.tick(30)
        #expect(try departures(world).count == 2)
        #expect(try world.vm(staying)?.phase == .running)
        #expect(world.explain(staying)?.region.contains("it stays here") == true)
    }
}

extension CellWorld {
    /// All ways to other cells that are open.
    var lastMoves: [CellMove] {
        guard case .rows(let rows, _)? = (try? Cell.read(.all(.moves), state))?.body else { return [] }
        return rows.compactMap { if case .move(_, let move?)? = $0.content { move } else { nil } }
    }
}
