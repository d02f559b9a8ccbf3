import ClusterBase
import Controllers
import FleetModel
import Testing

/// VMs that arrive together, and plans of other capacity.
@Suite struct CellTogetherTests {
    private func batch(_ cores: [Int64]) -> [VMCreation] {
        cores.enumerated().map { i, cpu in
            VMCreation(name: "b\(i)", tenant: "default", spec: CellWorld.spec(cpu: cpu * 1_000))
        }
    }

    @Test func `VMs that arrive together are placed the largest first, in one command`() throws {
        let world = CellWorld()
        for i in 0..<2 { try world.addHost(cpu: 10_000, rack: "r\(i)") }
        // One by one the small ones take the room of a large one.
        try world.tick(2)
        let ids = try world.create(batch([3, 3, 7, 7])).compactMap { $0 }
        var placings: [Int] = []
        for _ in 0..<5 {
            try world.tick()
            for case .placeVMs(let items, _) in world.lastOperations { placings.append(items.count) }
        }
        #expect(placings == [4])
        for id in ids { #expect(try world.vm(id)?.place != nil, "\(id)") }
        #expect(world.keeper.counts.batches == 0, "the first order was enough")
        let times = world.keeper.counts.placingTimes
        #expect(times.counts.reduce(0, +) >= 4 && times.counts.count == LatencyCounts.boundsMilliseconds.count + 1)
    }

    @Test func `where the largest first leaves one out, moves among those that arrived together let it in`() throws {
        let world = CellWorld()
        for i in 0..<2 { try world.addHost(cpu: 10_000, rack: "r\(i)") }
        let ids = try world.create(batch([3, 4, 3, 3, 4, 3])).compactMap { $0 }
        try world.tick(3)
        for id in ids { #expect(try world.vm(id)?.place != nil, "\(id)") }
        #expect(world.keeper.counts.batches == 1 && world.keeper.counts.batchGains == 1)
        #expect(world.refused.isEmpty, "\(world.refused)")
    }

    @Test func `those that arrived before keep their turn, whatever their size`() throws {
        let world = CellWorld()
        let small = try world.create(CellWorld.spec(cpu: 2_000))
        try world.tick(2)
        let large = try world.create(CellWorld.spec(cpu: 9_000))
        try world.tick(2)
        #expect(world.explain(large)?.standing == .waiting(before: 1))
        try world.addHost(cpu: 10_000)
        try world.tick(2)
        #expect(try world.host(of: small) != nil && world.host(of: large) == nil)
    }

    @Test func `an explanation names every rule with the hosts that it excludes, alone and with others`() throws {
        let world = CellWorld()
        try world.addHost(cpu: 4_000, labels: [Named("disk", "ssd")])
        try world.addHost(cpu: 1_000, labels: [Named("disk", "ssd")])
        try world.addHost(cpu: 1_000)
        var spec = CellWorld.spec(cpu: 2_000)
        spec.required = [.init("disk", .oneOf(["ssd"]))]
        let id = try world.create(spec)
        try world.tick(3)
        let found = try #require(world.explain(id, hosts: [HostID(3)]))
        let cpu = try #require(found.verdicts.first { $0.rule == "free cpu" })
        let label = try #require(found.verdicts.first { $0.rule != "free cpu" && $0.excluded > 0 })
        #expect(cpu.excluded == 2 && cpu.excludedAlone == 1)
        #expect(label.excluded == 1 && label.excludedAlone == 0)
        #expect(found.verdicts.contains { $0.excluded == 0 }, "rules that exclude none are named")
        #expect(found.best.first?.score != nil && found.asked.first?.excludedBy.count == 2)
    }

    @Test func `a plan of other capacity says who would not fit and who would come, and changes nothing`() throws {
        let world = CellWorld()
        let host = try world.addHost(cpu: 8_000)
        var ids: [VMID] = []
        for cores in [4, 3, 1] as [Int64] { ids.append(try world.create(CellWorld.spec(cpu: cores * 1_000))) }
        try world.tick(5)
        let waiting = try world.create(CellWorld.spec(cpu: 2_000))
        try world.tick(5)
        let before = try #require(world.explain(waiting))
        var less = HostPolicy()
        less.reserved.cpuMillis = 2_000
        let tight = try #require(world.planCapacity(host, less))
        #expect(tight.left.map(\.vm) == [ids[1]], "the largest stay, and what is left over is the least")
        #expect(tight.steps.isEmpty)
        var more = HostPolicy()
        more.overcommit.cpuMilli = 1_500
        let wide = try #require(world.planCapacity(host, more))
        #expect(wide.left.isEmpty && wide.steps.map(\.vm) == [waiting])
        #expect(world.planCapacity(host, more)?.digest == wide.digest)
        var other = more
        other.overcommit.cpuMilli = 1_600
        #expect(
            world.planCapacity(host, other)?.digest != wide.digest, "it moves the same, and is another change")
        #expect(world.explain(waiting) == before)
        let removal = try #require(world.planRemoval(host))
        #expect(removal.left.count == 3 && removal.purpose == .remove(host))
        #expect(world.planCapacity(HostID(9), more) == nil)
        // What was planned comes true.
        try world.apply(.setHostPolicy(host, more, generation: nil))
        try world.tick(3)
        #expect(try world.host(of: waiting) == host)
        #expect(world.planCapacity(host, more)?.digest != wide.digest, "the state is another one")
    }

    @Test func `a plan of VMs that are to be stopped gives them no place`() throws {
        let world = CellWorld()
        try world.addHost(cpu: 4_000)
        try world.tick(2)
        var items = batch([3, 3, 1])
        items[0].power = .stopped
        let plan = world.keeper.planCreate(items)
        #expect(plan.steps.map(\.kind) == [.create, .place, .place] && plan.left.isEmpty)
        #expect(plan.steps[0].name == "b0" && plan.steps[0].to == nil && plan.steps[0].toName.isEmpty)
        #expect(world.keeper.planCreate(Array(items.prefix(1))).steps.map(\.kind) == [.create])
        var running = items
        running[0].power = .running
        #expect(world.keeper.planCreate(running).digest != plan.digest)
        // All or none: those that are to run have their places together, and one that can't be made takes all along.
        items[2] = batch([1, 1, 3])[2]
        let tight = world.keeper.planCreate(items, isAtomic: true)
        #expect(tight.steps.map(\.kind) == [.create] && tight.left.map(\.item) == [1, 2])
        items[2].spec.groups = ["none"]
        let wrong = world.keeper.planCreate(items, isAtomic: true)
        #expect(wrong.steps.isEmpty && wrong.left.map(\.item) == [0, 1, 2])
    }

    @Test func `a plan of another quota says what would be in use beyond it`() {
        let used = Resources(cpuMillis: 5_000, memoryMiB: 100)
        func plan(_ quota: Quota) -> CellPlan {
            CellPlan(of: "t", quota, used: used, count: 3, through: LogIndex(4))
        }
        #expect(plan(.unlimited).left.isEmpty)
        let tight = plan(Quota(vmCount: 2, cpuMillis: 4_000, memoryMiB: 100))
        #expect(tight.left.count == 2 && tight.left.allSatisfy { $0.cause == .quota })
        #expect(tight.left[0].text.hasPrefix("3 VMs are in use, 1 more than it would allow"))
        let digests = Set([plan(.unlimited), tight, plan(Quota(vmCount: 3)), plan(Quota(vmCount: 4))].map(\.digest))
        #expect(digests.count == 4)
        #expect(
            CellPlan(of: "t", Quota(vmCount: 2), used: used, count: 4, through: LogIndex(4)).digest
                != plan(Quota(vmCount: 2)).digest)
    }
}
