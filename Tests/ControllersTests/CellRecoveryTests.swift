import ClusterBase
import Controllers
import FleetModel
import Testing

/// How long VMs are down that were lost with their hosts, as it is measured, and told while it lasts.
@Suite struct CellRecoveryTests {
    private func world(hosts: Int) throws -> CellWorld {
        let world = CellWorld()
        world.level = FeatureLevel.newest
        world.keeper.tellsSilence = true
        for _ in 0..<hosts { try world.addHost() }
        return world
    }

    private func host(of ids: [VMID], _ world: CellWorld) throws -> HostID {
        try #require(try world.host(of: ids[0]))
    }

    @Test func `a lost host's VMs run again within its lease and a moment, counted from when it was heard last`() throws
    {
        let world = try world(hosts: 3)
        try world.apply(.setSetting(.rto, Objective.within(.seconds(60)).value))
        let ids = try (0..<6).map { _ in try world.create(CellWorld.spec(cpu: 1_000)) }
        try world.tick(30)
        let gone = try host(of: ids, world)
        let lost = try world.view().vms.values.filter { $0.place?.assignment.host == gone }.count
        let lostAt = world.time
        world.crash(gone)
        try world.tick(80)
        let view = try world.view()
        #expect(view.count(of: .running) == 6 && view.vms.values.allSatisfy { $0.lostAt == .zero })
        let known = try #require(view.slices.values.first { $0.recovery != nil }?.recovery)
        #expect(known.last.vms == UInt64(lost) && known.losses == 1 && known.missed == 0 && known.last == known.longest)
        // A lease of 3 s, a tenth and half a second more, a start.
        #expect(known.last.millis >= 3_800 && known.last.millis <= 6_000, "\(known)")
        #expect(known.last.lostAt.rawValue + 200 >= lostAt.rawValue && known.last.lostAt <= lostAt, "\(known)")
        #expect(world.keeper.lostVMs == 0 && world.keeper.lateVMs(world.now) == nil)
    }

    @Test func `what could run and does not for too long is told, and what has no room is not`() throws {
        let world = try world(hosts: 2)
        try world.apply(.setSetting(.rto, Objective.within(.seconds(10)).value))
        try world.apply(.setSetting(.brakeMillis, 1_000))
        let spec = CellWorld.spec(cpu: 1_000)
        let ids = try (0..<4).map { _ in try world.create(spec) }
        try world.tick(30)
        #expect(world.keeper.lateVMs(world.now) == nil)
        for machine in world.machines { world.crash(machine.id) }
        try world.tick(150)
        let down = try world.view().vms.values.filter { $0.lostAt > .zero }
        #expect(!down.isEmpty && world.keeper.lostVMs == down.count)
        #expect(world.keeper.lateVMs(world.now) == nil, "no host is left that takes them")
        // A new leader knows it from the rows, and when they were lost.
        world.changeLeader()
        world.keeper.tellsSilence = true
        let machine = try #require(try world.view().hosts.values.first { $0.health == .down })
        try world.revive(machine.id)
        try world.tick(100)
        let missed = try #require(try world.view().slices.values.compactMap(\.recovery).first)
        #expect(missed.missed == 1 && missed.last.isMissed && missed.last.millis > 10_000, "\(missed)")
        #expect(try world.view().vms.values.allSatisfy { $0.lostAt == .zero || $0.place == nil })
        #expect(ids.count == 4)
    }

    @Test func `what moves between hosts of the cell is timed, and no rehearsal knows a time before one has arrived`()
        throws
    {
        let world = CellWorld()
        world.level = FeatureLevel.newest
        for _ in 0..<3 { try world.addHost(region: "north") }
        let id = try world.create(CellWorld.spec(cpu: 1_000))
        try world.tick(30)
        func times() -> CellRehearsal {
            let facts = RegionFacts(own: 1, region: "north")
            return world.keeper.rehearse(lossOf: "north", facts, goesOn: true, now: world.now)
        }
        #expect(times().moveTime == nil && times().wayTime == nil)
        let from = try #require(try world.host(of: id))
        try world.apply(.setHostDuty(from, .draining))
        try world.tick(50)
        #expect(try world.host(of: id) != from)
        let took = try #require(times().moveTime)
        #expect(took >= .milliseconds(100) && took <= .seconds(3), "\(took)")
        #expect(times().wayTime == nil)
    }

    @Test func `ways and moves are timed, and a rehearsal says how long all of them take`() {
        var rehearsal = CellRehearsal(region: "north", through: LogIndex(1))
        rehearsal.pace = 4
        rehearsal.away = 10
        rehearsal.waves = 3
        #expect(rehearsal.expected(interval: .seconds(1), detection: .seconds(60)) == nil, "nothing has moved yet")
        rehearsal.wayTime = .seconds(5)
        rehearsal.silence = .seconds(4)
        #expect(rehearsal.expected(interval: .seconds(1), detection: .seconds(60)) == .seconds(60 + 15))
        rehearsal.kind = .evacuation
        #expect(rehearsal.expected(interval: .seconds(1), detection: .seconds(60)) == .seconds(15))
        rehearsal.migrated = 5
        #expect(rehearsal.expected(interval: .seconds(1), detection: .seconds(60)) == nil)
        rehearsal.moveTime = .milliseconds(200)
        #expect(rehearsal.expected(interval: .seconds(1), detection: .seconds(60)) == .seconds(15 + 2))
        // What a bound left over goes in later waves.
        rehearsal.isComplete = false
        rehearsal.waits = [.init(cause: .noRoom, vms: 7), .init(cause: .inTurn, vms: 6)]
        #expect(rehearsal.beyond == 6 && rehearsal.wavesBeyond == 2)
        #expect(rehearsal.expected(interval: .seconds(1), detection: .seconds(60)) == .seconds(20 + 2))
        rehearsal.isComplete = true
        #expect(rehearsal.beyond == 0 && rehearsal.wavesBeyond == 0)
    }
}
