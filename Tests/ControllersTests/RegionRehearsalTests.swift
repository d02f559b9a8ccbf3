import ClusterBase
import Controllers
import FleetModel
import Testing

/// The loss of a region, rehearsed by a cell's keeper, and then the loss itself.
@Suite struct RegionRehearsalTests {
    private static let north = "north"

    private func cell(_ number: UInt64, cores: Int64, _ region: String = "south") -> RegionFacts.Cell {
        var report = CellReport(group: GroupID(.cell, number: number))
        report.hosts = 4
        report.offered = Resources(cpuMillis: cores * 1_000, memoryMiB: cores * 4_096)
        report.free = report.offered
        report.largest = Resources(cpuMillis: 8_000, memoryMiB: 32_768)
        report.zones = ["a"]
        report.at = LogTime(500_000)
        return RegionFacts.Cell(number: number, name: "c\(number)", region: region, report: report)
    }

    private func facts(_ cells: [RegionFacts.Cell], isLost: Bool) -> RegionFacts {
        RegionFacts(
            own: 1, region: Self.north,
            regions: isLost ? [RegionStanding(name: Self.north, epoch: 1, isLost: true)] : [], cells: cells)
    }

    private func spec(
        _ loss: VMDescription.RegionLoss, priority: Int32 = 0, cpu: Int64 = 1_000
    ) -> VMDescription {
        var spec = CellWorld.spec(cpu: cpu, priority: priority)
        spec.regionLoss = loss
        return spec
    }

    /// So many hosts in the region, and one elsewhere that takes nothing yet.
    private func world(hosts: Int, other cpu: Int64) throws -> (world: CellWorld, other: HostID) {
        let world = CellWorld()
        world.level = FeatureLevel.newest
        for _ in 0..<hosts { try world.addHost(region: Self.north) }
        let other = try world.addHost(cpu: cpu, region: "south")
        try world.apply(.setHostDuty(other, .cordoned))
        return (world, other)
    }

    private func rehearse(_ world: CellWorld, _ cells: [RegionFacts.Cell], goesOn: Bool = true) -> CellRehearsal {
        world.keeper.rehearse(lossOf: Self.north, facts(cells, isLost: false), goesOn: goesOn, now: world.now)
    }

    /// Declares the region lost, and then all its hosts fall silent at once.
    private func lose(_ world: CellWorld, _ cells: [RegionFacts.Cell]) throws {
        world.keeper.take(regions: facts(cells, isLost: true), now: world.now)
        try world.tick(2)
        for machine in world.machines where machine.about.locality.region == Self.north { world.crash(machine.id) }
        try world.tick(200)
    }

    /// Whether what became of every VM is what was said.
    private func compare(_ played: CellRehearsal, _ world: CellWorld) throws {
        for step in played.steps {
            let vm = try #require(try world.vm(step.vm))
            let host = vm.place.map { "h\($0.assignment.host)" }
            switch step.fate {
            case .restart, .migrate: #expect(host == step.to && vm.phase == .running, "\(step)")
            case .away: #expect(vm.departure.map { "c\($0.to)" } == step.to, "\(step)")
            case .wait:
                #expect(vm.departure == nil && vm.phase != .running, "\(step)")
                if vm.place == nil { #expect(vm.message == step.text) }
            }
        }
        let gone = try world.view().vms.values.count { $0.departure != nil }
        #expect(gone == played.away)
    }

    @Test func `what is said of each VM is what becomes of it when the region is lost on the same state`() throws {
        let (world, other) = try world(hosts: 4, other: 2_000)
        let must = try world.create(spec(.mustMove))
        let high = try world.create(spec(.mayMove, priority: 9))
        let low = try world.create(spec(.mayMove, priority: 1))
        let home = try world.create(spec(.homeOnly))
        let may = try world.create(spec(.mayMove))
        var bound = spec(.mayMove)
        bound.regions = ["east"]
        let nowhere = try world.create(bound)
        let big = try world.create(spec(.mayMove, cpu: 12_000))
        var runsOn = spec(.mayMove)
        runsOn.isolation = .keep
        let keeps = try world.create(runsOn)
        var once = spec(.mayMove)
        once.restart = .never
        let never = try world.create(once)
        var disk = spec(.mayMove)
        disk.disks = [VMDescription.NamedDisk(name: "d", sizeMiB: 10, kind: .local)]
        let tied = try world.create(disk)
        try world.create(spec(.mustMove), power: .stopped)
        try world.tick(20)
        #expect(try world.view().count(of: .running) == 10)
        let huge = try world.create(spec(.mayMove, cpu: 17_000))
        try world.apply(.setHostDuty(other, .inService))
        try world.tick(20)

        let cells = [cell(2, cores: 1), cell(3, cores: 64, Self.north)]
        let played = rehearse(world, cells)
        // hash order: looked up only
        let steps = Dictionary(uniqueKeysWithValues: played.steps.map { ($0.vm, $0) })
        #expect(played.hosts == 4 && played.vms == 10 && played.waitedBefore == 1 && played.isComplete)
        #expect(steps.count == 11, "the one that is stopped is none of those")
        for vm in [high, low] { #expect(steps[vm]?.fate == .restart && steps[vm]?.to == "h5") }
        #expect(steps[must]?.fate == .away && steps[must]?.to == "c2" && steps[must]?.wave == 1)
        let causes: [VMID: CellRehearsal.Cause] = [
            home: .homeOnly, may: .noRoom, nowhere: .noRegion, big: .noRoom, keeps: .isolationKeep,
            never: .neverRestarts, tied: .localDisk, huge: .noRoom,
        ]
        for (vm, cause) in causes { #expect(steps[vm]?.fate == .wait && steps[vm]?.cause == cause) }
        #expect(played.restarted == 2 && played.away == 1 && played.waiting == 8 && played.waves == 1)
        #expect(Set(played.waits).contains(CellRehearsal.Wait(cause: .noRoom, vms: 3)))
        #expect(played.targets.map(\.name) == ["c2"] && played.targets[0].demand.cpuMillis == 1_000)
        #expect(played.targets[0].free.cpuMillis == 1_000 && played.targets[0].at == LogTime(500_000))

        try lose(world, cells)
        try compare(played, world)
        #expect(try world.host(of: high) == other)
    }

    @Test func `nothing is changed by it: neither rows, nor the index, nor what the keeper does next`() throws {
        let (world, other) = try world(hosts: 3, other: 2_000)
        let vms = try (0..<8).map { try world.create(spec($0 % 2 == 0 ? .mayMove : .homeOnly, priority: Int32($0))) }
        try world.tick(20)
        try world.apply(.setHostDuty(other, .inService))
        try world.tick(20)
        let before = try world.view()
        let index = world.index
        let explained = vms.map { world.explain($0) }
        let lost = world.keeper.planLoss([HostID(1), HostID(2), HostID(3)])
        let counts = world.keeper.counts
        let deadline = world.keeper.deadline
        for _ in 0..<2 { #expect(rehearse(world, [cell(2, cores: 64)]).restarted == 2) }
        #expect(world.index == index && world.keeper.counts == counts && world.keeper.deadline == deadline)
        #expect(vms.map { world.explain($0) } == explained)
        #expect(world.keeper.planLoss([HostID(1), HostID(2), HostID(3)]) == lost)
        let after = try world.view()
        #expect(after.vms == before.vms && after.hosts == before.hosts)
        try world.tick(50)
        #expect(try world.view().vms == before.vms && world.refused.isEmpty)
    }

    @Test func `waves are as large as they will be, and what is more than can be told is counted`() throws {
        let (world, _) = try world(hosts: 8, other: 1_000)
        for _ in 0..<300 { try world.create(spec(.mayMove, cpu: 100)) }
        try world.tick(30)
        #expect(try world.view().count(of: .running) == 300)
        let cells = [cell(2, cores: 900)]
        let played = rehearse(world, cells)
        #expect(played.away == 300 && played.waves == 5 && played.isComplete)
        #expect(played.steps.count == CellRehearsal.stepsOfFateMax && played.targets.map(\.vms) == [300])
        #expect(played.silence > .zero && played.silence < .seconds(60))
        let first = Set(played.steps.filter { $0.wave == 1 }.map(\.vm))
        #expect(first.count == 64)
        try lose(world, cells)
        #expect(try Set(world.view().vms.values.filter { $0.departure != nil }.map(\.id)) == first)
    }

    @Test func `who is stopped to make room for another is told, and where it goes then`() throws {
        let (world, other) = try world(hosts: 2, other: 2_000)
        let high = try world.create(spec(.homeOnly, priority: 9))
        try world.tick(20)
        for host in [HostID(1), HostID(2)] { try world.apply(.setHostDuty(host, .cordoned)) }
        try world.apply(.setHostDuty(other, .inService))
        let low = try (0..<2).map { _ in try world.create(spec(.mayMove)) }
        try world.tick(20)
        #expect(try low.allSatisfy { try world.host(of: $0) == other })
        let cells = [cell(2, cores: 64)]
        let played = rehearse(world, cells)
        #expect(played.preempted == 1 && played.restarted == 1 && played.away == 1 && played.waiting == 0)
        #expect(played.steps.first { $0.fate == .restart }?.vm == high)
        let victim = try #require(played.steps.first { $0.fate == .away })
        #expect(victim.isPreempted && low.contains(victim.vm))
        try lose(world, cells)
        try compare(played, world)
    }

    @Test func `of a cell that has no majority without the region all VMs wait`() throws {
        let (world, other) = try world(hosts: 2, other: 8_000)
        try world.create(spec(.mustMove))
        try world.tick(20)
        try world.apply(.setHostDuty(other, .inService))
        for host in [HostID(1), HostID(2)] { try world.apply(.setHostDuty(host, .cordoned)) }
        try world.create(spec(.mayMove))
        try world.tick(20)
        let played = rehearse(world, [cell(2, cores: 64)], goesOn: false)
        #expect(!played.goesOn && played.vms == 2 && played.waiting == 2 && played.away == 0 && played.waves == 0)
        #expect(played.waits == [CellRehearsal.Wait(cause: .cellHasNoMajority, vms: 2)] && played.targets.isEmpty)
    }
}
