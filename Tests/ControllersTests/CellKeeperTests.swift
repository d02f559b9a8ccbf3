import ClusterBase
import Controllers
import FleetModel
import Testing

@Suite struct CellKeeperTests {
    @Test func `VMs get places by themselves and run`() throws {
        let world = CellWorld()
        for i in 0..<3 { try world.addHost(rack: "r\(i)") }
        let creations = (0..<40).map { VMCreation(name: "a\($0)", tenant: "default", spec: CellWorld.spec()) }
        let ids = try world.create(creations).compactMap { $0 }
        try world.tick(3)
        let view = try world.view()
        #expect(ids.allSatisfy { view.vms[$0]?.phase == .running })
        #expect(world.refused.isEmpty, "\(world.refused)")
        #expect(world.keeper.counts.waiting == 0 && world.keeper.counts.placed == 40)
    }

    @Test func `what fits nowhere says why it waits, and goes when a VM leaves`() throws {
        let world = CellWorld()
        let host = try world.addHost(cpu: 4_000)
        let small = try world.create(CellWorld.spec(cpu: 3_000))
        try world.tick(2)
        let large = try world.create(CellWorld.spec(cpu: 2_000))
        try world.tick()
        let larger = try world.create(CellWorld.spec(cpu: 2_500))
        try world.tick(10)
        #expect(
            try world.vm(large)?.message
                == "no host fits: 1 by free cpu; fits on h1 if 1000m CPU more were free")
        #expect(
            try world.vm(larger)?.message
                == "no host fits: 1 by free cpu; fits on h1 if 1500m CPU more were free")
        let decisions = world.keeper.counts.decisions
        let asked = world.asked
        try world.tick(200)
        #expect(world.keeper.counts.decisions == decisions, "nothing changed, so nothing is tried again")
        #expect(world.asked == asked)
        try world.apply(.deleteVM(small, generation: nil))
        try world.tick(3)
        #expect(try world.host(of: large) == host)
        #expect(try world.host(of: larger) == nil)
    }

    @Test func `many of one kind cost one refusal`() throws {
        let world = CellWorld()
        try world.addHost(cpu: 4_000)
        try world.create((0..<500).map { VMCreation(name: "a\($0)", tenant: "default", spec: CellWorld.spec()) })
        try world.tick(20)
        #expect(world.keeper.counts.refusals == 1)
        #expect(world.keeper.counts.waiting == 496)
        #expect(try world.view().vms.values.count { $0.message.contains("1000m CPU more") } == 496)
    }

    @Test func `the queue goes by priority and then by time`() throws {
        let world = CellWorld()
        let late = try world.create(CellWorld.spec(cpu: 9_000))
        try world.tick(2)
        let later = try world.create(CellWorld.spec(cpu: 9_000))
        let urgent = try world.create(CellWorld.spec(cpu: 9_000, priority: 5))
        try world.tick(2)
        #expect(try world.view().vms.values.allSatisfy { $0.place == nil })
        try world.addHost(cpu: 10_000)
        try world.tick(2)
        #expect(try world.host(of: urgent) != nil)
        #expect(try world.host(of: late) == nil)
        try world.addHost(cpu: 10_000)
        try world.tick(2)
        #expect(try world.host(of: late) != nil)
        #expect(try world.host(of: later) == nil)
    }

    @Test func `room is made for a higher priority, and nobody else takes it`() throws {
        let world = CellWorld()
        for i in 0..<3 { try world.addHost(cpu: 8_000, rack: "r\(i)") }
        for _ in 0..<12 { try world.create(CellWorld.spec(cpu: 2_000, priority: 1)) }
        try world.tick(5)
        let urgent = try world.create(CellWorld.spec(cpu: 4_000, priority: 9))
        let small = try (0..<4).map { _ in try world.create(CellWorld.spec(cpu: 2_000, priority: 1)) }
        try world.tick(10)
        #expect(try world.vm(urgent)?.phase == .running)
        #expect(world.keeper.counts.preemptions == 1)
        let view = try world.view()
        #expect(view.vms.values.count { $0.priority == 1 && $0.place == nil } == 6, "two victims and four newcomers")
        #expect(small.allSatisfy { view.vms[$0]?.place == nil })
        #expect(world.refused.isEmpty, "\(world.refused)")
    }

    // MARK: Hosts

    @Test func `a silent host is declared down when its lease has surely run out, and its VMs start elsewhere`() throws
    {
        let world = CellWorld()
        let first = try world.addHost()
        let vms = try (0..<5).map { _ in try world.create(CellWorld.spec()) }
        try world.tick(5)
        try world.addHost()
        world.crash(first)
        // 3,000 ms and a tenth and half a second.
        try world.tick(37)
        #expect(try world.view().hosts[first]?.health == .up)
        try world.tick(2)
        #expect(try world.view().hosts[first]?.health == .down)
        try world.tick(5)
        let view = try world.view()
        #expect(vms.allSatisfy { view.vms[$0]?.place?.assignment.host == HostID(2) && view.vms[$0]?.phase == .running })
        try world.revive(first)
        try world.tick(5)
        #expect(try world.view().hosts[first]?.health == .up)
        #expect(world.refused.isEmpty, "\(world.refused)")
    }

    @Test func `a new leader waits for a whole lease of its own before it declares anything`() throws {
        let world = CellWorld()
        let first = try world.addHost()
        try world.addHost()
        try world.tick(2)
        world.crash(first)
        try world.tick(35)
        world.changeLeader()
        try world.tick(37)
        #expect(try world.view().hosts[first]?.health == .up)
        try world.tick(3)
        #expect(try world.view().hosts[first]?.health == .down)
    }

    @Test func `a shorter lease counts only when the longer one has run out`() throws {
        let world = CellWorld()
        let first = try world.addHost()
        try world.addHost()
        try world.apply(.setSetting(.leaseLength, 10_000))
        try world.tick(2)
        world.crash(first)
        try world.apply(.setSetting(.leaseLength, 1_000))
        try world.tick(110)
        #expect(try world.view().hosts[first]?.health == .up)
        try world.tick(10)
        #expect(try world.view().hosts[first]?.health == .down)
    }

    @Test func `the brake holds when too many hosts are lost at once`() throws {
        let world = CellWorld()
        for _ in 0..<4 { try world.addHost() }
        for _ in 0..<8 { try world.create(CellWorld.spec()) }
        try world.tick(5)
        for host in 1...4 { world.crash(HostID(UInt64(host))) }
        try world.tick(600)
        let down = try world.view().hosts.values.count { $0.health == .down }
        #expect(down == 2, "half of four")
        #expect(world.keeper.counts.brakeHeld > 0)
        #expect(world.refused.count < 30, "it asks seldom: \(world.refused.count)")
    }

    @Test func `a drained host is emptied within budgets, and says so`() throws {
        let world = CellWorld()
        let first = try world.addHost(cpu: 32_000)
        let vms = try (0..<20).map { _ in try world.create(CellWorld.spec()) }
        let stopped = try world.create(CellWorld.spec())
        try world.tick(5)
        try world.apply(.setPower(stopped, .stopped, generation: nil))
        for _ in 0..<3 { try world.addHost() }
        try world.apply(.setSetting(.migrationsMax, 5))
        try world.apply(.setSetting(.migrationsPerHostMax, 3))
        try world.tick(2)
        try world.apply(.setHostDuty(first, .draining))
        var most = 0
        for _ in 0..<200 {
            try world.tick()
            let view = try world.view()
            let moving = view.vms.values.filter { $0.migration != nil }
            most = max(most, moving.count)
            for host in view.hosts.keys {
                let here = moving.count {
                    $0.migration?.source.assignment.host == host || $0.migration?.target.assignment.host == host
                }
                #expect(here <= 3)
            }
            if view.hosts[first]?.duty == .maintenance { break }
        }
        #expect(most == 3, "the drained host takes part in each")
        let view = try world.view()
        #expect(view.hosts[first]?.duty == .maintenance)
        #expect(vms.allSatisfy { view.vms[$0]?.place?.assignment.host != first && view.vms[$0]?.phase == .running })
        #expect(vms.allSatisfy { view.vms[$0]?.place?.epoch == 2 }, "moved once each")
        #expect(world.refused.isEmpty, "\(world.refused)")
    }

    @Test func `what has just come to a host leaves it as soon as that is drained, too`() throws {
        let world = CellWorld()
        let first = try world.addHost(cpu: 32_000)
        let vms = try (0..<4).map { _ in try world.create(CellWorld.spec()) }
        try world.tick(5)
        let second = try world.addHost(cpu: 32_000)
        try world.tick(2)
        for (from, to) in [(first, second), (second, first), (first, second)] {
            try world.apply(.setHostDuty(from, .draining))
            for _ in 0..<60 where try world.view().hosts[from]?.duty != .maintenance { try world.tick() }
            let view = try world.view()
            #expect(view.hosts[from]?.duty == .maintenance, "not in time")
            #expect(vms.allSatisfy { view.vms[$0]?.place?.assignment.host == to })
            try world.apply(.setHostDuty(from, .inService))
        }
    }

    @Test func `what can't leave a drained host is named, and stays until there is room`() throws {
        let world = CellWorld()
        let first = try world.addHost(cpu: 8_000)
        var local = CellWorld.spec()
        local.disks = [.init(name: "data", sizeMiB: 100, kind: .local)]
        let bound = try world.create(local)
        let large = try world.create(CellWorld.spec(cpu: 6_000))
        try world.tick(5)
        try world.addHost(cpu: 4_000)
        try world.tick(2)
        let plan = try #require(world.planDrain(first))
        #expect(plan.steps.isEmpty)
        #expect(plan.left.map(\.vm).sorted() == [bound, large])
        #expect(Set(plan.left.map(\.cause)) == [.localDisk, .noHostFits])
        try world.apply(.setHostDuty(first, .draining))
        try world.tick(50)
        #expect(try world.host(of: large) == first)
        #expect(world.refused.isEmpty, "\(world.refused)")
        try world.addHost(cpu: 8_000)
        try world.tick(10)
        #expect(try world.host(of: large) == HostID(3))
        #expect(try world.view().hosts[first]?.duty == .draining)
        try world.apply(.deleteVM(bound, generation: nil))
        try world.tick(20)
        #expect(try world.view().hosts[first]?.duty == .maintenance)
    }

    @Test func `a drain takes the disks of VMs that run along where disks move, and no others`() throws {
        let world = CellWorld()
        world.level = FeatureLevel.diskMoves
        let first = try world.addHost(cpu: 8_000)
        var local = CellWorld.spec()
        local.disks = [.init(name: "data", sizeMiB: 100, kind: .local)]
        let running = try world.create(local)
        let stopped = try world.create(local)
        try world.tick(5)
        try world.apply(.setPower(stopped, .stopped, generation: nil))
        try world.tick(5)
        try world.addHost(cpu: 8_000)
        try world.tick(2)
        #expect(try #require(world.planDrain(first)).steps.isEmpty, "the level is not open")
        world.keeper.movesDisks = true
        let plan = try #require(world.planDrain(first))
        #expect(plan.steps.map(\.vm) == [running] && plan.steps.map(\.kind) == [.migrate])
        #expect(plan.steps.first?.cost == local.resources.memoryMiB + 100)
        #expect(plan.left.map(\.vm) == [stopped])
        #expect(plan.left.first?.text.contains("moves only while the VM runs") == true)
    }

    // MARK: VMs

    @Test func `a crashed VM is started again, each time later, and given up in the end`() throws {
        let world = CellWorld()
        try world.addHost()
        let vm = try world.create(CellWorld.spec())
        try world.tick(3)
        world.crashing.insert(vm)
        try world.tick(6)
        #expect(try world.vm(vm)?.phase == .crashed)
        #expect(try world.vm(vm)?.restarts == 0)
        try world.tick(20)
        #expect(try world.vm(vm)?.restarts == 1)
        try world.tick(600)
        #expect(try world.vm(vm)?.phase == .looping)
        #expect(try world.vm(vm)?.restarts == 5)
        let asked = world.asked
        try world.tick(100)
        #expect(world.asked == asked)
        world.crashing = []
        try world.apply(.setPower(vm, .running, generation: nil))
        try world.tick(5)
        #expect(try world.vm(vm)?.phase == .running)
    }

    @Test func `a migration that makes no progress is cancelled and tried again later`() throws {
        let world = CellWorld()
        let first = try world.addHost()
        let vm = try world.create(CellWorld.spec())
        try world.tick(3)
        try world.addHost()
        world.isStuck = true
        try world.apply(.setHostDuty(first, .draining))
        try world.tick(5)
        #expect(try world.vm(vm)?.migration?.phase == .copying)
        try world.tick(3_010)
        #expect(world.keeper.counts.migrationsCancelled == 1)
        world.isStuck = false
        try world.tick(400)
        #expect(try world.host(of: vm) == HostID(2))
    }

    @Test func `tenants' quotas become slices, once for each change`() throws {
        let world = CellWorld()
        try world.addHost()
        try world.tick(1)
        let quota = Quota(vmCount: 2)
        let wish = TenantWish(name: "acme", revision: Revision(rawValue: 9), quota: quota)
        world.keeper.take(tenants: [wish], now: world.now)
        try world.tick(3)
        #expect(try world.view().slices["acme"]?.quota == quota)
        let asked = world.asked
        world.keeper.take(tenants: [wish], now: world.now)
        world.changeLeader()
        world.keeper.take(tenants: [wish], now: world.now)
        try world.tick(20)
        #expect(world.asked == asked)
    }

    @Test func `the slice of a tenant that the root has deleted goes back, and not on what the root said before`()
        throws
    {
        let world = CellWorld()
        try world.addHost()
        try world.tick(1)
        let wish = TenantWish(name: "acme", revision: Revision(index: LogIndex(9), slot: 0), quota: Quota(vmCount: 2))
        world.keeper.take(tenants: [wish], through: LogIndex(9), now: world.now)
        try world.tick(3)
        #expect(try world.view().slices["acme"] != nil)
        // A new leader whose copy of the root is behind knows no such tenant yet.
        world.changeLeader()
        world.keeper.take(tenants: [], through: LogIndex(8), now: world.now)
        try world.tick(20)
        #expect(try world.view().slices["acme"]?.quota == Quota(vmCount: 2))
        world.keeper.take(tenants: [wish], through: LogIndex(9), now: world.now)
        world.keeper.take(tenants: [], through: LogIndex(12), now: world.now)
        try world.tick(3)
        #expect(try world.view().slices["acme"] == nil)
        let asked = world.asked
        try world.tick(20)
        #expect(world.asked == asked)
    }

    @Test func `a host with as many VMs as one may have is passed over, however much room it has`() throws {
        let world = CellWorld()
        for _ in 0..<2 { try world.addHost(cpu: 10_000_000, memory: 10_000_000) }
        try world.tick(1)
        let most = Int(CellLimits.vmsPerHostMax)
        var made = 0
        while made < most + 100 {
            let part = (made..<min(made + 512, most + 100)).map {
                VMCreation(name: "v\($0)", tenant: "default", spec: CellWorld.spec(cpu: 1, memory: 1))
            }
            made += try world.create(part).count { $0 != nil }
        }
        // Packing fills one host to its bound, and the next one takes the rest.
        try world.tick(40)
        let counts = try world.view().hosts.values.map { Int($0.vmCount) }.sorted()
        #expect(counts == [100, most])
    }

    @Test func `rebalancing by itself makes the cell better, keeps to budgets and comes to an end`() throws {
        let world = CellWorld()
        try world.apply(.setSetting(.policy, 2))
        try world.apply(.setSetting(.rebalance, 2))
        try world.apply(.setSetting(.moveCooldown, 5_000))
        try world.addHost()
        for _ in 0..<12 { try world.create(CellWorld.spec()) }
        try world.tick(5)
        for _ in 0..<3 { try world.addHost() }
        try world.tick(6_000)
        let begun = world.keeper.counts.migrationsBegun
        let counts = try world.view().hosts.values.map(\.vmCount).sorted()
        #expect((counts.last ?? 0) - (counts.first ?? 0) <= 2, "\(counts)")
        #expect((7...9).contains(begun), "each of them once: \(begun)")
        #expect(world.refused.isEmpty, "\(world.refused)")
        try world.tick(3_000)
        #expect(world.keeper.counts.migrationsBegun == begun)
    }

    @Test func `plans to rebalance one after the other count the moves that are under way at a host`() throws {
        let world = CellWorld()
        try world.apply(.setSetting(.policy, 2))
        try world.addHost()
        for _ in 0..<12 { try world.create(CellWorld.spec()) }
        try world.tick(5)
        for _ in 0..<5 { try world.addHost() }
        try world.tick(5)
        var begun = 0
        for _ in 0..<3 {
            let plan = world.keeper.planRebalance()
            begun += plan.steps.count
            try world.apply(plan.operations(knowsIntents: false), by: "operator")
            try world.lead()
        }
        #expect(begun == Int(CellSetting.migrationsPerHostMax.standard), "all of them leave the one host that is full")
    }

    // MARK: Questions

    @Test func `what a VM that is planned alone has stopped for it is in its plan`() throws {
        let world = CellWorld()
        try world.addHost(cpu: 4_000)
        let lesser = try world.create(CellWorld.spec(cpu: 3_000))
        try world.tick(5)
        var spec = CellWorld.spec(cpu: 2_000)
        spec.priority = 50
        let plan = world.keeper.planCreate([VMCreation(name: "big", tenant: "default", spec: spec)])
        #expect(plan.steps.map(\.kind) == [.preempt, .place] && plan.steps.first?.vm == lesser)
        let other = world.keeper.planCreate([VMCreation(name: "other", tenant: "default", spec: spec)])
        #expect(other.digest != plan.digest, "a plan holds for those that it was made for")
    }

    @Test func `a plan for VMs that don't exist names places, lacks and quotas`() throws {
        let world = CellWorld()
        try world.addHost(cpu: 4_000)
        try world.tick(1)
        world.keeper.take(
            tenants: [TenantWish(name: "acme", revision: Revision(rawValue: 9), quota: Quota(vmCount: 1))],
            now: world.now)
        try world.tick(2)
        let items = [
            VMCreation(name: "a", tenant: "default", spec: CellWorld.spec(cpu: 3_000)),
            VMCreation(name: "b", tenant: "default", spec: CellWorld.spec(cpu: 3_000)),
            VMCreation(name: "c", tenant: "acme", spec: CellWorld.spec(cpu: 100)),
            VMCreation(name: "d", tenant: "acme", spec: CellWorld.spec(cpu: 100)),
            VMCreation(name: "e", tenant: "acme", spec: CellWorld.spec(groups: ["web"])),
        ]
        let plan = world.keeper.planCreate(items)
        #expect(plan.steps.compactMap(\.item) == [0, 2])
        #expect(plan.left.sorted { $0.item ?? 0 < $1.item ?? 0 }.map(\.cause) == [.noHostFits, .quota, .invalid])
        #expect(
            plan.left.first { $0.item == 1 }?.text
                == "no host fits: 1 by free cpu; fits on h1 if 2100m CPU more were free")
        let again = world.keeper.planCreate(items)
        #expect(again.digest == plan.digest)
        let all = world.keeper.planCreate(Array(items.prefix(2)), isAtomic: true)
        #expect(all.steps.isEmpty && all.left.map(\.cause) == [.anotherItem, .noHostFits])
        #expect(try world.view().vms.isEmpty)
    }

    @Test func `a plan of several VMs, each for itself, says whom they have stopped and who waits all the same`() throws
    {
        let world = CellWorld()
        try world.addHost(cpu: 4_000)
        try world.addHost(cpu: 4_000)
        let lesser = try (0..<2).map { _ in try world.create(CellWorld.spec(cpu: 3_000)) }
        try world.tick(5)
        let items = [
            VMCreation(name: "a", tenant: "default", spec: CellWorld.spec(cpu: 2_000, priority: 50)),
            VMCreation(name: "b", tenant: "default", spec: CellWorld.spec(cpu: 3_500)),
            VMCreation(name: "c", tenant: "default", spec: CellWorld.spec(cpu: 4_000, priority: 60)),
            VMCreation(name: "a", tenant: "default", spec: CellWorld.spec(cpu: 100)),
        ]
        let plan = world.keeper.planCreate(items)
        #expect(plan.steps.map(\.kind) == [.preempt, .preempt, .place, .place])
        #expect(plan.steps.prefix(2).map(\.vm).sorted() == lesser.sorted())
        #expect(plan.steps.suffix(2).map(\.item) == [0, 2])
        #expect(plan.left.map(\.item) == [3, 1], "\(plan.left)")
        #expect(plan.left.first?.text.contains("has a VM named a") == true)
        #expect(world.keeper.planCreate(items) == plan, "planning changes nothing")
        // What fits as it is comes before all that has others stopped.
        let small = VMCreation(name: "s", tenant: "default", spec: CellWorld.spec(cpu: 900))
        let mixed = world.keeper.planCreate([items[0], small])
        #expect(mixed.steps.map(\.kind) == [.place, .preempt, .place] && mixed.steps.map(\.item) == [1, nil, 0])
        // And so it comes.
        try world.create(Array(items.prefix(3)))
        try world.tick(60)
        let placed = try world.view().vms.values.filter { $0.place != nil }.map(\.name).sorted()
        #expect(placed == ["a", "c"])
    }

    @Test func `a plan holds for all that is asked for, and leaves out what would not be made`() throws {
        let world = CellWorld()
        try world.addHost()
        try world.tick(1)
        let plain = VMCreation(name: "a", tenant: "default", spec: CellWorld.spec())
        var others = [plain, plain, plain, plain, plain]
        others[0].spec.zones = ["a"]
        others[1].spec.disks = [.init(name: "d", sizeMiB: 1, kind: .ephemeral, image: "debian")]
        others[2].spec.labels = [Named("env", "prod")]
        others[3].spec.policy = .spread
        let known = world.keeper.planCreate([plain])
        others[4].spec.disks = [.init(name: "d", sizeMiB: 1, kind: .ephemeral)]
        var digests = Set([known.digest, world.keeper.planCreate([plain], isAtomic: true).digest])
        for other in others { digests.insert(world.keeper.planCreate([other]).digest) }
        #expect(digests.count == 7)
        let plan = world.keeper.planCreate([plain], [CellPlan.Refused(0, .vmNameTaken("a"))])
        #expect(plan.steps.isEmpty && plan.left.map(\.cause) == [.invalid])
        #expect(plan.left.first?.text == CellRefusal.vmNameTaken("a").description)
    }

    @Test func `a plan counts disks in a quota as the creation does, and knows who is there`() throws {
        let world = CellWorld()
        try world.addHost()
        world.keeper.knowsTenants = true
        try world.tick(1)
        var creation = VMCreation(name: "a", tenant: "acme", spec: CellWorld.spec())
        creation.spec.disks = [.init(name: "d", sizeMiB: 1_024, kind: .shared(domain: "ssd"))]
        #expect(world.keeper.planCreate([creation]).left.first?.text == CellRefusal.unknownTenant("acme").description)
        world.keeper.take(
            tenants: [TenantWish(name: "acme", revision: Revision(rawValue: 9), quota: Quota(diskMiB: 1_023))],
            now: world.now)
        world.level = FeatureLevel.knownTenants
        try world.tick(2)
        let left = world.keeper.planCreate([creation]).left
        #expect(left.map(\.cause) == [.quota])
        guard case .items(let items) = try world.apply(.createVMs([creation], isAtomic: false)),
            case .refused(let refusal)? = items.first
        else {
            Issue.record("it was made")
            return
        }
        #expect(left.first?.text == refusal.description)
    }

    @Test func `a loss says whom its VMs have stopped, and a host that is named twice is lost once`() throws {
        let world = CellWorld()
        let first = try world.addHost(cpu: 4_000)
        let urgent = try world.create(CellWorld.spec(cpu: 3_000, priority: 50))
        try world.tick(5)
        let second = try world.addHost(cpu: 4_000)
        let lesser = try world.create(CellWorld.spec(cpu: 3_000))
        try world.tick(5)
        #expect(try world.host(of: lesser) == second)
        let plan = world.keeper.planLoss([first])
        #expect(plan.steps.map(\.kind) == [.preempt, .restart] && plan.steps.map(\.vm) == [lesser, urgent])
        #expect(plan.left.map(\.vm) == [lesser] && plan.left.map(\.cause) == [.preempted])
        #expect(world.keeper.planLoss([first]) == plan, "planning changes nothing")
        #expect(world.keeper.planLoss([first, first]) == plan)
        guard case .losses(let reports) = world.keeper.answer(.losses(.host)) else {
            Issue.record("no answer")
            return
        }
        #expect(reports.map { $0.down.map(\.vm) } == [[lesser], [lesser]])
        #expect(reports.map(\.preempted) == [1, 0] && reports.map(\.restarted) == [1, 0])
        #expect(reports.map(\.isComplete) == [true, true])
    }

    @Test func `what a loss has stopped looks for another place in its turn, and a loss is what it was said to be`()
        throws
    {
        let world = CellWorld()
        let first = try world.addHost(cpu: 4_000)
        let urgent = try world.create(CellWorld.spec(cpu: 4_000, priority: 50))
        try world.tick(5)
        try world.addHost(cpu: 4_000)
        let large = try world.create(CellWorld.spec(cpu: 3_000, priority: 10))
        try world.tick(5)
        try world.addHost(cpu: 3_000)
        let small = try world.create(CellWorld.spec(cpu: 2_000))
        try world.tick(5)
        guard case .losses(let reports) = world.keeper.answer(.losses(.host)), let report = reports.first else {
            Issue.record("no answer")
            return
        }
        // The urgent one has the large one stopped, and that the small one, which finds nothing.
        #expect(report.name == "h1" && report.preempted == 2 && report.restarted == 2)
        #expect(report.down.map(\.vm) == [small] && report.down.map(\.cause) == [.preempted])
        let plan = world.keeper.planLoss([first])
        #expect(plan.steps.map(\.vm) == [large, urgent, small, large])
        #expect(plan.steps.map(\.kind) == [.preempt, .restart, .preempt, .restart])
        #expect(world.keeper.planLoss([first]) == plan, "planning changes nothing")
        world.crash(first)
        try world.tick(120)
        let vms = try world.view().vms
        #expect(vms[urgent]?.place?.assignment == plan.steps[1].to && vms[large]?.place?.assignment == plan.steps[3].to)
        #expect(vms[small]?.place == nil)
    }

    @Test func `a loss names what would be down and why`() throws {
        let world = CellWorld()
        let first = try world.addHost(cpu: 8_000)
        var kept = CellWorld.spec()
        kept.isolation = .keep
        var once = CellWorld.spec()
        once.restart = .never
        let ids = try [kept, once, CellWorld.spec(), CellWorld.spec(cpu: 4_500)].map { try world.create($0) }
        try world.tick(5)
        try world.addHost(cpu: 4_000)
        try world.tick(2)
        let plan = world.keeper.planLoss([first])
        #expect(plan.steps.map(\.vm) == [ids[2]])
        #expect(plan.left.map(\.cause) == [.isolationKeep, .neverRestarts, .noHostFits])
        guard case .losses(let reports) = world.keeper.answer(.losses(.host)) else {
            Issue.record("no answer")
            return
        }
        #expect(reports.map(\.name) == ["h1", "h2"])
        #expect(reports.map(\.down.count) == [3, 0])
    }

    @Test func `explain tells of a waiting VM and of a placed one`() throws {
        let world = CellWorld()
        let first = try world.addHost(cpu: 4_000)
        let second = try world.addHost(cpu: 2_000)
        let placed = try world.create(CellWorld.spec(cpu: 3_000))
        try world.tick(3)
        let waiting = try world.create(CellWorld.spec(cpu: 4_000))
        try world.tick(3)
        let one = try #require(world.explain(placed, hosts: [second]))
        #expect(one.standing == .placed(first))
        #expect(one.candidates == 1 && one.best.map(\.name) == ["h1"])
        #expect(one.asked.map(\.excludedBy) == [["free cpu"]])
        let other = try #require(world.explain(waiting))
        #expect(other.standing == .waiting(before: 0))
        #expect(other.candidates == 0)
        #expect(other.rules == [.init(rule: "free cpu", hosts: 2)])
        #expect(other.nearest == "fits on h1 if 3000m CPU more were free")
        // For one that is larger than every host, others that leave are no help.
        let large = try world.create(CellWorld.spec(cpu: 5_000))
        try world.tick(3)
        let nearest = try #require(world.explain(large)).nearest
        #expect(nearest == "no host is large enough; fits on h1 if that offered 4000m CPU more")
        // As much for each of the two that wait.
        var policy = HostPolicy()
        policy.overcommit.cpuMilli = 3_000
        try world.apply(.setHostPolicy(first, policy, generation: nil))
        try world.tick(5)
        #expect(try world.host(of: waiting) == first && world.host(of: large) == first)
    }

    @Test func `a new leader waits for a lease that was made shorter before its time`() throws {
        let world = CellWorld()
        let host = try world.addHost()
        try world.apply(.setSetting(.leaseLength, 10_000))
        try world.tick(2)
        try world.apply(.setSetting(.leaseLength, 1_000))
        world.changeLeader()
        world.crash(host)
        try world.tick(110)
        #expect(try world.view().hosts[host]?.health == .up)
        try world.tick(20)
        #expect(try world.view().hosts[host]?.health == .down)
        #expect(try world.view()[.leaseBefore] & 0xFFFF_FFFF == 0)
    }
}

extension CellVM {
    var priority: Int32 { spec.priority }
}
