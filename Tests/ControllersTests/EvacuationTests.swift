import ClusterBase
import Controllers
import FleetModel
import Testing

/// A region is evacuated, and its VMs go back.
@Suite struct EvacuationTests {
    private static let north = "north"

    private func cell(_ number: UInt64, cores: Int64 = 64, _ region: String = "south") -> RegionFacts.Cell {
        var report = CellReport(group: GroupID(.cell, number: number))
        report.hosts = 4
        report.offered = Resources(cpuMillis: cores * 1_000, memoryMiB: cores * 4_096)
        report.free = report.offered
        report.largest = Resources(cpuMillis: 16_000, memoryMiB: 65_536)
        report.zones = ["a"]
        return RegionFacts.Cell(number: number, name: "c\(number)", region: region, report: report)
    }

    private func facts(
        _ cells: [RegionFacts.Cell], _ state: RegionPlan.State? = .running,
        _ direction: RegionPlan.Direction = .evacuate,
        returns: RegionPlan.Returns = .policy, epoch: UInt64 = 5
    ) -> RegionFacts {
        let plan = state.map { RegionPlan(number: 5, direction: direction, state: $0, returns: returns) }
        return RegionFacts(
            own: 1, region: Self.north,
            regions: plan == nil ? [] : [RegionStanding(name: Self.north, epoch: epoch, isLost: false, plan: plan)],
            cells: cells)
    }

    private func spec(
        _ loss: VMDescription.RegionLoss = .mayMove, priority: Int32 = 0, cpu: Int64 = 1_000
    ) -> VMDescription {
        var spec = CellWorld.spec(cpu: cpu, priority: priority)
        spec.regionLoss = loss
        return spec
    }

    private func world(hosts: Int = 4, most: UInt64 = 4) throws -> CellWorld {
        let world = CellWorld()
        world.level = FeatureLevel.newest
        for _ in 0..<hosts { try world.addHost(region: Self.north) }
        try world.apply(.setSetting(.migrationsMax, most))
        return world
    }

    private func departures(_ world: CellWorld) throws -> [VMID: UInt64] {
        try world.view().vms.compactMapValues { $0.departure?.to }
    }

    /// What the other cell does, until the VM is its own.
    private func finish(_ world: CellWorld, _ id: VMID) throws {
        let number = try #require(try world.vm(id)?.departure?.number)
        try world.apply(.advanceMove(number, .leave, reason: ""))
        try world.tick(8)
        #expect(try world.vm(id)?.place == nil, "it has stopped before it goes")
        for step in [CellMove.Step.commit, .settle] {
            #expect(try world.apply(.advanceMove(number, step, reason: "")) == .done)
        }
    }

    @Test
    func
        `running VMs leave in waves as large as a cell migrates at a time, those that must first, and home-only ones stay`()
        throws
    {
        let world = try world()
        let stays = try world.create(spec(.homeOnly))
        let others = try (0..<6).map { _ in try world.create(spec()) }
        let must = try (0..<3).map { _ in try world.create(spec(.mustMove)) }
        let stopped = try world.create(spec(), power: .stopped)
        try world.tick(20)
        #expect(try world.view().count(of: .running) == 10)
        world.keeper.take(regions: facts([cell(2)]), now: world.now)
        try world.tick(30)
        let first = try departures(world)
        #expect(first.count == 4 && must.allSatisfy { first[$0] == 2 })
        #expect(world.lastMoves.allSatisfy { $0.cause == .evacuation && $0.phase == .preparing })
        #expect(world.lastMoves.allSatisfy { $0.home == CellVM.Home(cell: 1, region: Self.north, epoch: 5) })
        #expect(try world.view().count(of: .running) == 10, "they run until the other cell has a place for them")
        for _ in 0..<10 {
            for id in try departures(world).keys.sorted() { try finish(world, id) }
            try world.tick(20)
        }
        #expect(try world.view().vms.keys.sorted() == [stays], "\(others) and \(stopped) are gone")
        #expect(try world.vm(stays)?.phase == .running)
        #expect(
            world.explain(stays)?.region.contains(
                "region north is evacuated, and it stays: its regionLoss is home-only") == true)
        #expect(world.keeper.counts.regionEvacuated == 10)
    }

    @Test func `a pause lets nothing more begin, and what is called off stays if it has not left`() throws {
        let world = try world(most: 2)
        for _ in 0..<6 { try world.create(spec()) }
        try world.tick(20)
        world.keeper.take(regions: facts([cell(2)]), now: world.now)
        try world.tick(30)
        #expect(try departures(world).count == 2)
        world.keeper.take(regions: facts([cell(2)], .paused, epoch: 6), now: world.now)
        let moves = world.lastMoves
        #expect(moves.allSatisfy { !world.keeper.isCalledOff($0) }, "what is on its way goes on")
        for id in try departures(world).keys.sorted() { try finish(world, id) }
        try world.tick(60)
        #expect(try departures(world).isEmpty && world.view().vms.count == 4)
        let someone = try #require(try world.view().vms.keys.min())
        #expect(world.explain(someone)?.region.contains("it goes when the plan goes on") == true)
        world.keeper.take(regions: facts([cell(2)], epoch: 7), now: world.now)
        try world.tick(30)
        #expect(try departures(world).count == 2)
        world.keeper.take(regions: facts([cell(2)], .cancelled, epoch: 8), now: world.now)
        #expect(world.lastMoves.allSatisfy { world.keeper.isCalledOff($0) })
        var keeper = MoveKeeper()
        let view = try world.view()
        let asks = keeper.plan(
            world.lastMoves, of: 1, now: world.now, vm: { view.vms[$0] }, isCalledOff: { world.keeper.isCalledOff($0) },
            isThere: { _ in true })
        #expect(asks.count == 2)
        for case .own(let operation) in asks { #expect(try world.apply(operation) == .done) }
        #expect(try departures(world).isEmpty && world.view().count(of: .running) == 4)
    }

    @Test func `a VM that has left its place is past calling off, and one that its owner moves is nobody else's`()
        throws
    {
        let world = try world()
        let (leaves, asked) = (try world.create(spec()), try world.create(spec(.homeOnly)))
        try world.tick(20)
        world.keeper.take(regions: facts([cell(2)]), now: world.now)
        try world.tick(20)
        let number = try #require(try world.vm(leaves)?.departure?.number)
        try world.apply(.advanceMove(number, .leave, reason: ""))
        try world.apply(.moveVM(asked, to: 2, request: [], home: nil, cause: .asked))
        world.keeper.take(regions: facts([cell(2)], .cancelled, epoch: 8), now: world.now)
        var keeper = MoveKeeper()
        let view = try world.view()
        let asks = keeper.plan(
            world.lastMoves, of: 1, now: world.now, vm: { view.vms[$0] }, isCalledOff: { world.keeper.isCalledOff($0) },
            isThere: { _ in true })
        for ask in asks {
            if case .own(.advanceMove(_, .abort, _, _)) = ask { Issue.record("\(ask)") }
        }
    }

    @Test
    func `where the cell has hosts in other regions VMs go there while they run, and only what finds none goes far`()
        throws
    {
        let world = try world(hosts: 2, most: 8)
        let ids = try (0..<4).map { _ in try world.create(spec(.homeOnly)) }
        let far = try world.create(spec(cpu: 3_000))
        try world.tick(20)
        let there = try world.addHost(cpu: 4_000, region: "west")
        try world.tick(5)
        world.keeper.take(regions: facts([cell(2)]), now: world.now)
        try world.tick(200)
        let view = try world.view()
        #expect(ids.allSatisfy { view.vms[$0]?.place?.assignment.host == there && view.vms[$0]?.phase == .running })
        #expect(view.vms[far]?.departure?.to == 2)
        #expect(view.hosts.values.allSatisfy { $0.duty == .inService }, "the hosts' own duty is nobody else's")
        let late = try world.create(spec(.homeOnly))
        try world.tick(30)
        #expect(try world.vm(late)?.place == nil, "nothing comes to the region, and there is no room elsewhere")
        world.keeper.take(regions: facts([cell(2)], .running, .goBack, epoch: 6), now: world.now)
        try world.tick(30)
        #expect(try world.vm(late)?.phase == .running)
    }

    @Test func `a leader that begins anew goes on where the one before ended, and sends nobody twice`() throws {
        let world = try world(most: 3)
        for _ in 0..<8 { try world.create(spec()) }
        try world.tick(20)
        world.keeper.take(regions: facts([cell(2)]), now: world.now)
        try world.tick(20)
        #expect(try departures(world).count == 3)
        world.changeLeader()
        try world.tick(10)
        world.keeper.take(regions: facts([cell(2)]), now: world.now)
        try world.tick(40)
        #expect(try departures(world).count == 3, "the budget is the cell's, whoever leads it")
        for _ in 0..<6 {
            for id in try departures(world).keys.sorted() { try finish(world, id) }
            try world.tick(20)
        }
        #expect(try world.view().vms.isEmpty)
    }

    @Test func `what a rehearsal says of each VM is what becomes of it, and it changes nothing`() throws {
        let world = try world(most: 3)
        let home = try world.create(spec(.homeOnly))
        let goes = try (0..<5).map { _ in try world.create(spec()) }
        let huge = try world.create(spec(cpu: 15_000))
        var disk = spec()
        disk.disks = [VMDescription.NamedDisk(name: "d", sizeMiB: 10, kind: .local)]
        let tied = try world.create(disk)
        try world.tick(20)
        let known = facts([cell(2, cores: 12)], nil)
        let played = world.keeper.rehearse(.evacuate, of: Self.north, returns: nil, known, now: world.now)
        #expect(played.vms == 8 && played.away == 5 && played.waiting == 3 && played.waves == 2 && played.isComplete)
        #expect(played.kind == .evacuation && played.targets.map(\.vms) == [5] && played.silence == .zero)
        let causes = played.steps.reduce(into: [VMID: CellRehearsal.Cause]()) { $0[$1.vm] = $1.cause }
        #expect(causes == [home: .homeOnly, huge: .noRoom, tied: .localDisk])
        #expect(played.steps.allSatisfy { $0.fate != .away || $0.text.contains("it goes while it runs") })
        #expect(try departures(world).isEmpty)
        world.keeper.take(regions: facts([cell(2, cores: 12)]), now: world.now)
        try world.tick(30)
        let moving = try departures(world)
        #expect(moving.count == 3 && moving.keys.allSatisfy { goes.contains($0) })
        let halfway = world.keeper.rehearse(
            .evacuate, of: Self.north, returns: nil, facts([cell(2, cores: 12)]), now: world.now)
        #expect(halfway.moving == 3 && halfway.away == 5 && halfway.waiting == 3)
    }

    @Test func `guests go home when the plan says so: none, those that are to, or all; and a rehearsal says who`()
        throws
    {
        let world = CellWorld()
        world.level = FeatureLevel.newest
        for _ in 0..<4 { try world.addHost(region: "south") }
        func arrive(_ number: UInt64, returns: Bool) throws -> VMID {
            let id = VMID(2 << 40 | number)
            var described = spec()
            described.returnsHome = returns
            var row = CellVM(id: id, name: "g\(number)", tenant: "default", spec: described, at: .zero, by: "a")
            row.power = .running
            var move = CellMove(
                number: number, vm: id, tenant: "default", to: 1, share: .zero, request: [], since: .zero)
            move.home = CellVM.Home(cell: 2, region: Self.north, epoch: 5)
            try world.apply(.prepareArrival(move.preparation(of: row, from: 2)))
            try world.tick(5)
            try world.apply(.endArrival(id, from: 2, number: number, isCommitted: true, epoch: 4, floor: 0))
            return id
        }
        let returning = try arrive(1, returns: true)
        let other = try arrive(2, returns: false)
        try world.tick(20)
        func told(_ direction: RegionPlan.Direction, _ returns: RegionPlan.Returns, _ epoch: UInt64) -> RegionFacts {
            var known = facts([cell(2, cores: 64, Self.north)], .running, direction, returns: returns, epoch: epoch)
            known.region = "south"
            return known
        }
        for known in [told(.evacuate, .all, 6), told(.goBack, .none, 7)] {
            world.keeper.take(regions: known, now: world.now)
            try world.tick(30)
            #expect(try departures(world).isEmpty)
        }
        let played = world.keeper.rehearse(
            .goBack, of: Self.north, returns: .policy, told(.evacuate, .none, 6), now: world.now)
        #expect(played.away == 1 && played.waiting == 1 && played.waits.map(\.cause) == [.returnPolicy])
        world.keeper.take(regions: told(.goBack, .policy, 8), now: world.now)
        try world.tick(30)
        #expect(try departures(world) == [returning: 2])
        world.keeper.take(regions: told(.goBack, .all, 9), now: world.now)
        try world.tick(30)
        #expect(try departures(world) == [returning: 2, other: 2])
        #expect(world.lastMoves.allSatisfy { $0.cause == .regionBack && $0.home == nil })
        world.keeper.take(regions: told(.evacuate, .all, 10), now: world.now)
        #expect(world.lastMoves.allSatisfy { world.keeper.isCalledOff($0) }, "nobody goes where all leave")
    }

    @Test func `no cell of an evacuated region takes VMs of another one`() throws {
        let world = try world()
        let id = try world.create(spec())
        try world.tick(20)
        var known = facts([cell(2)])
        let plan = RegionPlan(number: 4, direction: .evacuate, state: .paused)
        known.regions.append(RegionStanding(name: "south", epoch: 4, isLost: false, plan: plan))
        world.keeper.take(regions: known, now: world.now)
        try world.tick(60)
        #expect(try departures(world).isEmpty)
        #expect(world.explain(id)?.region.contains("there is no cell in another region") == true)
    }

    @Test func `a cell whose CPU and memory are free on different hosts is not asked`() throws {
        let world = try world()
        let id = try world.create(spec(cpu: 4_000))
        try world.tick(20)
        var split = cell(2)
        let demand = try #require(try world.vm(id)?.demand)
        let lopsided = [
            Resources(cpuMillis: demand.cpuMillis - 1, memoryMiB: 65_536),
            Resources(cpuMillis: 16_000, memoryMiB: demand.memoryMiB - 1),
        ]
        split.report?.rooms = lopsided
        world.keeper.take(regions: facts([split]), now: world.now)
        try world.tick(40)
        #expect(try departures(world).isEmpty && world.lastMoves.isEmpty)
        let text = try #require(world.explain(id)?.region)
        #expect(text.contains("none of 1 cells in other regions has room for it"), "\(text)")
        split.report?.rooms = lopsided + [Resources(cpuMillis: 4_000, memoryMiB: 65_536)]
        world.keeper.take(regions: facts([split]), now: world.now)
        try world.tick(10)
        #expect(try departures(world) == [id: 2])
    }
}
