import ClusterBase
import Controllers
import FleetModel
import Placement
import Testing

@Suite struct CellKeeperPropertyTests {
    @Test(arguments: 1...6)
    func `after any history all that fits is placed, reasons are true, and planning ends`(seed: UInt64) throws {
        var story = Story(seed: seed)
        try story.begin()
        for _ in 0..<120 { try story.step() }
        try story.settle()
        try story.check()
    }

    @Test(arguments: 1...4)
    func `the index is at any time the one that would be built anew`(seed: UInt64) throws {
        var story = Story(seed: 100 + seed)
        try story.begin()
        for _ in 0..<60 {
            try story.step()
            if !story.random.below(3).isMultiple(of: 3) { continue }
            // What is expected is no part of the state: it is over when all outcomes are in.
            try story.world.tick(1)
            try story.compareIndexes()
        }
    }

    @Test(arguments: 1...4)
    func `a rehearsal accounts for each VM once, whenever it is asked for, and leaves the index as it is`(
        seed: UInt64
    ) throws {
        var story = Story(seed: 200 + seed)
        story.world.level = FeatureLevel.newest
        try story.begin()
        for _ in 0..<60 {
            try story.step()
            try story.rehearse()
        }
        try story.world.tick(1)
        try story.rehearse()
        try story.compareIndexes()
    }
}

/// A random life of a small cell.
struct Story {
    var random: PRNG
    let world = CellWorld()
    var vms: [VMID] = []

    init(seed: UInt64) { random = PRNG(seed: seed) }

    mutating func begin() throws {
        for i in 0..<6 {
            let nodes = i % 2 == 0 ? [NUMANode](repeating: NUMANode(cpuMillis: 8_000, memoryMiB: 32_768), count: 2) : []
            let devices =
                i % 3 == 0 ? [NamedDevice(kind: "gpu", numaNode: i % 2 == 0 ? 1 : nil), NamedDevice(kind: "gpu")] : []
            try world.addHost(
                zone: i < 3 ? "a" : "b", rack: "r\(i / 2)", labels: i == 0 ? [Named("disk", "nvme")] : [],
                numaNodes: nodes, devices: devices, region: i < 3 ? "north" : "south")
        }
        let groups: [(String, PlacementGroup.Rule, PlacementGroup.Scope, Bool)] = [
            ("web", .antiAffinity(perDomainMax: 2), .rack, true), ("db", .spread(skewMax: 1), .zone, true),
            ("near", .affinity, .host, true), ("soft", .antiAffinity(perDomainMax: 1), .host, false),
        ]
        for (name, rule, scope, isHard) in groups {
            try world.apply(
                .putGroup(CellGroup(name: name, tenant: "default", rule: rule, scope: scope, isHard: isHard)))
        }
        try world.apply(.setSetting(.migrationsMax, 4))
        try world.apply(.setSetting(.moveCooldown, 3_000))
    }

    mutating func spec() -> VMDescription {
        var spec = CellWorld.spec(
            cpu: Int64(500 * (1 + random.below(12))), memory: Int64(1_024 * (1 + random.below(16))),
            priority: Int32(random.below(3)))
        switch random.below(12) {
        case 0: spec.groups = ["web"]
        case 1: spec.groups = ["db"]
        case 2: spec.groups = ["near"]
        case 3: spec.groups = ["soft", "web"]
        case 4: spec.zones = ["b"]
        case 5: spec.required = [.init("disk", .oneOf(["nvme"]))]
        case 6: spec.disks = [.init(name: "d", sizeMiB: 1_000, kind: .local)]
        case 7: spec.numa = .fewest(max: 2)
        case 8: spec.devices = [.init(kinds: ["gpu"], count: 1, millis: random.below(2) == 0 ? 1_000 : 400)]
        case 9: spec.isolation = .keep
        case 10: spec.restart = .never
        default: break
        }
        if world.level >= FeatureLevel.regions {
            spec.regionLoss = VMDescription.RegionLoss.allCases[vms.count % 3]
        }
        return spec
    }

    mutating func step() throws {
        switch random.below(20) {
        case 0..<8:
            let name = "v\(vms.count)"
            let ids = try world.create([VMCreation(name: name, tenant: "default", spec: spec())])
            if let id = ids[0] { vms.append(id) }
        case 8: if let vm = pick() { try world.apply(.deleteVM(vm, generation: nil)) }
        case 9: if let vm = pick() { try world.apply(.setPower(vm, .stopped, generation: nil)) }
        case 10: if let vm = pick() { try world.apply(.setPower(vm, .running, generation: nil)) }
        case 11:
            if let vm = pick(), let old = try world.vm(vm) {
                var spec = old.spec
                spec.resources.cpuMillis = Int64(500 * (1 + random.below(12)))
                spec.priority = Int32(random.below(3))
                try world.apply(.updateVM(vm, spec, generation: nil))
            }
        case 12: if let vm = pick() { world.crashing.formSymmetricDifference([vm]) }
        case 13:
            let up = world.machines.filter(\.isUp)
            if up.count > 4 { world.crash(up[random.below(up.count)].id) }
        case 14: if let down = world.machines.first(where: { !$0.isUp }) { try world.revive(down.id) }
        case 15:
            let host = world.machines[random.below(world.machines.count)].id
            let duty: [CellHost.Duty] = [.draining, .inService, .cordoned, .inService]
            try world.apply(.setHostDuty(host, duty[random.below(4)]))
        case 16:
            let host = world.machines[random.below(world.machines.count)].id
            let over = Overcommit(cpuMilli: 500 * Int64(1 + random.below(4)))
            var policy = HostPolicy(overcommit: over)
            if random.below(3) == 0 { policy.taints = [NamedTaint("no")] }
            try world.apply(.setHostPolicy(host, policy, generation: nil))
        case 17: world.changeLeader(keepsOld: random.below(2) == 0)
        case 18: try world.apply(.setSetting(.policy, UInt64(1 + random.below(3))))
        default: try world.apply(.setSetting(.rebalance, UInt64(random.below(3))))
        }
        if world.deposed.count > 2 { world.deposed.removeFirst() }
        try world.tick(random.below(4))
        try checkBudgets()
    }

    mutating func pick() -> VMID? { vms.isEmpty ? nil : vms[random.below(vms.count)] }

    func checkBudgets() throws {
        // Deposed leaders don't count what others began.
        if !world.deposed.isEmpty { return }
        let moving = try world.view().vms.values.count { $0.migration != nil }
        #expect(moving <= 8, "four of this leader's and of the one before")
    }

    /// The loss of the hosts in the north, some of whose VMs another cell takes.
    func rehearse() throws {
        if !world.keeper.isReady { return }
        var report = CellReport(group: GroupID(.cell, number: 2))
        report.hosts = 2
        report.free = Resources(cpuMillis: 9_000, memoryMiB: 64_000)
        report.largest = Resources(cpuMillis: 5_000, memoryMiB: 16_000)
        report.zones = ["b"]
        let cell = RegionFacts.Cell(number: 2, name: "c2", region: "east", report: report)
        let facts = RegionFacts(own: 1, region: "north", cells: [cell])
        let rehearsed = world.keeper.rehearse(lossOf: "north", facts, goesOn: true, now: world.now)
        let fates = rehearsed.restarted + rehearsed.away + rehearsed.waiting
        #expect(fates == rehearsed.vms + rehearsed.waitedBefore + rehearsed.preempted)
        #expect(rehearsed.isComplete && rehearsed.waits.map(\.vms).reduce(0, +) == rehearsed.waiting)
        let sent = rehearsed.targets.map(\.demand.cpuMillis).reduce(0, +)
        #expect(sent <= 9_000 && rehearsed.targets.map(\.vms).reduce(0, +) == rehearsed.away)
        // hash order: looked up only
        let homes = try world.view().vms.filter { $0.value.spec.regionLoss == .homeOnly }
        #expect(rehearsed.steps.allSatisfy { $0.fate != .away || homes[$0.vm] == nil })
    }

    /// Lets everything come to rest.
    mutating func settle() throws {
        world.deposed = []
        world.crashing = []
        try world.apply(.setSetting(.rebalance, 0))
        for machine in world.machines where !machine.isUp { try world.revive(machine.id) }
        try world.tick(1_500)
    }

    func check() throws {
        let asked = world.asked
        try world.tick(300)
        #expect(world.asked == asked, "it asks for \(world.lastOperations.prefix(3)) though nothing changes")
        var fresh = try world.freshKeeper()
        let view = try world.view()
        for id in view.vms.keys.sorted() {
            guard let vm = view.vms[id], vm.place == nil, vm.power != .stopped, !vm.isDeleting else { continue }
            let known = fresh.explain(id)
            let found = try #require(known)
            let may = found.best.filter { vm.boundTo == nil || $0.host == vm.boundTo }
            #expect(may.isEmpty, "VM \(id) waits and fits on \(may.map(\.name)): \(vm.message)")
            #expect(vm.message.contains("fit") || vm.message.contains("local disk"), "VM \(id): \(vm.message)")
            if vm.boundTo == nil, let nearest = found.nearest {
                #expect(vm.message.hasSuffix(nearest), "VM \(id) waits as \(vm.message), and \(nearest)")
            }
        }
        try compareIndexes()
    }

    func compareIndexes() throws {
        let fresh = try world.freshKeeper()
        let own = world.keeper
        #expect(own.index.hostIDs == fresh.index.hostIDs)
        #expect(own.index.groupIDs == fresh.index.groupIDs)
        // Room that is made for somebody is kept in the index, and no part of the state.
        if own.counts.nominated > 0 { return }
        #expect(own.index.vmIDs == fresh.index.vmIDs)
        for id in fresh.index.vmIDs {
            #expect(own.index.assignment(id) == fresh.index.assignment(id))
            #expect(own.index.spec(id)?.demand == fresh.index.spec(id)?.demand)
            #expect(own.index.spec(id)?.priority == fresh.index.spec(id)?.priority)
            #expect(own.index.spec(id)?.groups == fresh.index.spec(id)?.groups)
        }
        for host in fresh.index.hostIDs {
            #expect(own.index.free(host) == fresh.index.free(host))
            #expect(own.index.freeNodes(host) == fresh.index.freeNodes(host))
            #expect(own.index.freeDevices(host) == fresh.index.freeDevices(host))
            #expect(own.index.host(host)?.state == fresh.index.host(host)?.state)
            let row = try #require(own.view.hosts[host])
            #expect(own.index.free(host) == row.offered - row.used, "the cell counts as the index does")
        }
    }
}
