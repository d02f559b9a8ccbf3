import ClusterBase
import FleetModel
import Placement
import Testing

@testable import Controllers

/// A cell that balances itself: what keeps it from that, what only proposes, and what bounds it.
@Suite struct CellRebalanceTests {
    /// Twelve VMs on the first host, and three more hosts.
    private func uneven(mode: UInt64, racks: [String] = ["r1", "r1", "r1", "r1"]) throws -> CellWorld {
        let world = CellWorld()
        world.level = FeatureLevel.newest
        world.keeper.notesAdvice = true
        try world.apply(.setSetting(.policy, 2))
        try world.apply(.setSetting(.rebalance, mode))
        try world.apply(.setSetting(.moveCooldown, 5_000))
        try world.addHost(rack: racks[0])
        for _ in 0..<12 { try world.create(CellWorld.spec()) }
        try world.tick(5)
        for rack in racks.dropFirst() { try world.addHost(rack: rack) }
        return world
    }

    private func events(_ world: CellWorld) throws -> [CellEvent] {
        let found = try Cell.read(.events(after: .zero, vm: nil, host: nil, limit: 0), world.state)
        guard case .events(let events, _) = found.body else { return [] }
        return events
    }

    /// Two VMs on the first of two hosts, which then keeps half of itself for other things.
    private func overfull(mode: UInt64) throws -> (world: CellWorld, host: HostID, vms: [VMID]) {
        let world = CellWorld()
        try world.apply(.setSetting(.policy, 2))
        try world.apply(.setSetting(.rebalance, mode))
        try world.apply(.setSetting(.moveCooldown, 5_000))
        let host = try world.addHost()
        let vms = [
            try world.create(CellWorld.spec(cpu: 6_000, priority: 1)), try world.create(CellWorld.spec(cpu: 6_000)),
        ]
        try world.tick(5)
        try world.addHost(cpu: 10_000)
        try world.tick(5)
        var policy = HostPolicy()
        policy.reserved.cpuMillis = 8_000
        let foreseen = try #require(world.planCapacity(host, policy))
        #expect(foreseen.left.map(\.vm) == [vms[1]])
        #expect(
            foreseen.left.first?.text
                == "h1 would not take it: 4000m CPU too little is free; it runs on there; with --enforce it moves to h2"
        )
        try world.apply(.setHostPolicy(host, policy, generation: nil))
        try world.tick(5)
        return (world, host, vms)
    }

    @Test func `a plan begins with what a smaller host has no room for any more, and leaves the rest`() throws {
        let (world, host, vms) = try overfull(mode: 0)
        #expect(try world.host(of: vms[1]) == host, "nobody asked")
        let plan = world.keeper.planRebalance()
        #expect(plan.steps.first?.vm == vms[1] && plan.steps.first?.kind == .migrate)
        #expect(plan.steps.first?.toName == "h2" && plan.notes.count == 1)
        #expect(world.keeper.planRebalance().digest == plan.digest, "planning changes nothing")
        try world.apply(plan.operations(knowsIntents: false), by: "operator")
        try world.tick(200)
        #expect(try world.host(of: vms[0]) == host && world.host(of: vms[1]) != host)
        #expect(world.keeper.planRebalance().notes.isEmpty)
    }

    @Test func `a balance that is kept by itself takes away what may not stay, and comes to an end`() throws {
        let (world, host, vms) = try overfull(mode: 2)
        try world.tick(3_000)
        #expect(try world.host(of: vms[0]) == host && world.host(of: vms[1]) != host)
        let begun = world.keeper.counts.migrationsBegun
        #expect(begun == 1 && world.refused.isEmpty, "\(world.refused)")
        try world.tick(3_000)
        #expect(world.keeper.counts.migrationsBegun == begun)
    }

    @Test func `a VM whose host lost the label that it requires goes where one has it`() throws {
        let world = CellWorld()
        let first = try world.addHost()
        var policy = HostPolicy()
        policy.labels = [Named("disk", "fast")]
        try world.apply(.setHostPolicy(first, policy, generation: nil))
        var spec = CellWorld.spec()
        spec.required = [.init("disk", .oneOf(["fast"]))]
        let (vm, other) = (try world.create(spec), try world.create(CellWorld.spec()))
        try world.tick(5)
        #expect(try world.host(of: vm) == first)
        try world.apply(.setHostPolicy(first, HostPolicy(), generation: nil))
        try world.tick(5)
        #expect(world.keeper.planRebalance().steps.isEmpty, "there is nowhere to go")
        let second = try world.addHost(labels: [Named("disk", "fast")])
        try world.tick(5)
        let steps = world.keeper.planRebalance().steps
        #expect(steps.first?.vm == vm && steps.first?.to?.host == second)
        #expect(try world.host(of: other) == first)
    }

    /// A VM that its host, which lost a label, may not have, and another host that may; once it is as `prepare` makes it.
    private func astray(
        mode: UInt64, spec change: (inout VMDescription) -> Void = { _ in }, hosts: Int = 2,
        _ prepare: (CellWorld, VMID) throws -> Void
    ) throws -> (world: CellWorld, host: HostID, vm: VMID) {
        let world = CellWorld()
        try world.apply(.setSetting(.rebalance, mode))
        try world.apply(.setSetting(.moveCooldown, 5_000))
        let host = try world.addHost(labels: [])
        var policy = HostPolicy()
        policy.labels = [Named("disk", "fast")]
        try world.apply(.setHostPolicy(host, policy, generation: nil))
        var spec = CellWorld.spec()
        spec.required = [.init("disk", .oneOf(["fast"]))]
        change(&spec)
        let vm = try world.create(spec)
        try world.tick(20)
        try prepare(world, vm)
        try world.tick(20)
        for _ in 1..<hosts { try world.addHost(labels: [Named("disk", "fast")]) }
        try world.apply(.setHostPolicy(host, HostPolicy(), generation: nil))
        try world.tick(5)
        #expect(try world.host(of: vm) == host)
        return (world, host, vm)
    }

    private func stop(_ world: CellWorld, _ vm: VMID) throws {
        try world.apply(.setPower(vm, .stopped, generation: nil))
    }

    @Test func `a stopped VM gives up a place that it may not have, and starts where it may`() throws {
        let (world, host, vm) = try astray(mode: 0, stop)
        #expect(try world.vm(vm)?.phase == .stopped)
        let plan = world.keeper.planRebalance()
        #expect(plan.steps.map(\.kind) == [.release] && plan.steps.first?.from == host && plan.steps.first?.to == nil)
        #expect(plan.left.isEmpty && plan.notes.count == 2 && plan.notes[1].contains("when it is started"))
        #expect(world.keeper.planRebalance().digest == plan.digest, "planning changes nothing")
        try world.apply(plan.operations(knowsIntents: true), by: "operator")
        try world.tick(20)
        #expect(try world.vm(vm)?.place == nil && world.vm(vm)?.phase == .stopped)
        #expect(world.keeper.planRebalance().steps.isEmpty)
        try world.apply(.setPower(vm, .running, generation: nil))
        try world.tick(50)
        #expect(try world.host(of: vm) == HostID(2) && world.vm(vm)?.phase == .running)
    }

    @Test func `a balance that is kept by itself has stopped VMs give up such places once, and advice names them`()
        throws
    {
        let (world, host, vm) = try astray(mode: 2, stop)
        try world.tick(3_000)
        #expect(try world.vm(vm)?.place == nil && world.keeper.counts.migrationsBegun == 0)
        #expect(world.refused.isEmpty, "\(world.refused)")
        #expect(try events(world).count { $0.kind == "vm.released" } == 1)
        let (advised, _, other) = try astray(mode: 1, stop)
        try advised.tick(3_000)
        #expect(try advised.host(of: other) == host)
        #expect(advised.keeper.counts.advice?.text.contains("off h1") == true, "\(advised.keeper.counts)")
    }

    @Test func `a stopped VM that no other host takes keeps its place, and the plan says so`() throws {
        let (world, host, vm) = try astray(mode: 2, hosts: 1, stop)
        let plan = world.keeper.planRebalance()
        #expect(plan.steps.isEmpty && plan.left.map(\.vm) == [vm] && plan.left.first?.cause == .noHostFits)
        let text = try #require(plan.left.first?.text)
        #expect(text.hasPrefix("it may not stay on h1: ") && text.hasSuffix("; no other host takes it"), "\(text)")
        try world.tick(3_000)
        #expect(try world.host(of: vm) == host)
    }

    @Test(arguments: [true, false])
    func `a VM with a local disk stays where it may not, running or not, and the plan says why`(_ runs: Bool) throws {
        let (world, host, vm) = try astray(mode: 2) { spec in
            spec.disks = [VMDescription.NamedDisk(name: "root", sizeMiB: 1_024, kind: .local)]
        } _: { world, vm in
            if !runs { try stop(world, vm) }
        }
        let plan = world.keeper.planRebalance()
        #expect(plan.steps.isEmpty && plan.left.map(\.vm) == [vm] && plan.left.first?.cause == .localDisk)
        let text = try #require(plan.left.first?.text)
        #expect(text.hasPrefix("it may not stay on h1: ") && text.contains("local disk"), "\(text)")
        #expect(world.keeper.planRebalance().digest == plan.digest)
        try world.tick(3_000)
        #expect(try world.host(of: vm) == host)
    }

    @Test func `what ended by itself is not started elsewhere by a better balance`() throws {
        let (world, host, vm) = try astray(mode: 2) { spec in
            spec.restart = .never
        } _: { world, vm in
            world.crashing.insert(vm)
        }
        #expect(try world.vm(vm)?.phase == .crashed)
        let plan = world.keeper.planRebalance()
        #expect(plan.steps.isEmpty && plan.left.first?.cause == .notRunning, "\(plan.left)")
        try world.tick(3_000)
        #expect(try world.host(of: vm) == host && world.vm(vm)?.phase == .crashed)
    }

    @Test func `a VM that waits for room which is not there keeps nobody from moving`() throws {
        let world = try uneven(mode: 2)
        try world.create(CellWorld.spec(cpu: 1_000_000))
        try world.tick(6_000)
        #expect(world.keeper.counts.waiting == 1)
        let counts = try world.view().hosts.values.map(\.vmCount).sorted()
        #expect((counts.last ?? 0) - (counts.first ?? 0) <= 2, "\(counts)")
    }

    @Test func `a drain that can't go on keeps nobody from moving`() throws {
        let world = try uneven(mode: 2)
        // A local disk that does not move holds the last host's VM there.
        var spec = CellWorld.spec()
        spec.disks = [VMDescription.NamedDisk(name: "root", sizeMiB: 1_024, kind: .local)]
        let last = try world.addHost(labels: [Named("keep", "1")])
        spec.required = [VMDescription.NamedSelector("keep", .exists)]
        try world.create(spec)
        try world.tick(5)
        try world.apply(.setHostDuty(last, .draining))
        try world.tick(6_000)
        #expect(try world.view().hosts[last]?.vmCount == 1)
        let counts = try world.view().hosts.values.filter { $0.id != last }.map(\.vmCount).sorted()
        #expect((counts.last ?? 0) - (counts.first ?? 0) <= 2, "\(counts)")
    }

    @Test func `advice says what would move, tells it once, and moves nothing`() throws {
        let world = try uneven(mode: 1)
        try world.tick(2_000)
        #expect(world.keeper.counts.migrationsBegun == 0)
        let advice = try #require(world.keeper.counts.advice)
        #expect(!advice.steps.isEmpty && advice.scoreAfter > advice.scoreBefore)
        #expect(advice.text.contains("would raise the score from \(advice.scoreBefore) to \(advice.scoreAfter)"))
        let events = try events(world).filter { $0.kind == "cell.rebalance-advice" }
        #expect(events.count == 1 && events.first?.text == advice.text, "\(events)")
        #expect(world.keeper.standingAdvice == advice.text)
        #expect(world.refused.isEmpty, "\(world.refused)")
        // Carried out by somebody, it is advice no more.
        let first = try #require(advice.steps.first), target = try #require(first.to)
        try world.apply(
            .beginMigration(first.vm, from: first.epoch, to: target, cause: .asked, intent: .balanced), by: "operator")
        try world.tick(1)
        #expect(world.keeper.standingAdvice == "")
        try world.apply(.setSetting(.rebalance, 0))
        try world.tick(20)
        #expect(world.keeper.counts.advice == nil && world.keeper.standingAdvice == "")
    }

    @Test
    func `a controller that has not looked yet has no word on the balance, and one that moves VMs proposes nothing`()
        throws
    {
        let world = try uneven(mode: 1)
        #expect(world.keeper.standingAdvice == nil)
        try world.apply(.setSetting(.rebalance, 2))
        try world.tick(2_000)
        #expect(world.keeper.counts.advice != nil && world.keeper.standingAdvice == "")
    }

    @Test func `an older cluster's controller proposes without writing it down`() throws {
        let world = try uneven(mode: 1)
        world.keeper.notesAdvice = false
        try world.tick(2_000)
        #expect(world.keeper.counts.advice?.steps.isEmpty == false)
        #expect(try events(world).allSatisfy { $0.kind != "cell.rebalance-advice" })
    }

    @Test func `moves between racks keep to the bound of a link, and those within a rack don't count`() throws {
        let world = try uneven(mode: 2, racks: ["r1", "r2", "r2", "r3"])
        try world.apply(.setSetting(.migrationsPerHostMax, 8))
        try world.apply(.setSetting(.migrationsPerLinkMax, 1))
        #expect(try most(world) == 1, "one leaves rack r1 at a time")
        #expect(world.keeper.counts.migrationsBegun > 1)

        let same = try uneven(mode: 2)
        try same.apply(.setSetting(.migrationsPerHostMax, 8))
        try same.apply(.setSetting(.migrationsPerLinkMax, 1))
        #expect(try most(same) > 1, "a move within a rack takes no uplink")
    }

    /// Moves that are under way at one time.
    private func most(_ world: CellWorld) throws -> Int {
        var most = 0
        for _ in 0..<2_500 {
            try world.tick()
            most = max(most, world.keeper.counts.migrating)
        }
        return most
    }

    @Test func `a drain keeps to the bound of a link, and stays in its rack where the uplink is full`() throws {
        let world = CellWorld()
        world.level = FeatureLevel.newest
        try world.apply(.setSetting(.migrationsPerHostMax, 8))
        try world.apply(.setSetting(.migrationsPerLinkMax, 1))
        let first = try world.addHost(rack: "r1")
        for _ in 0..<6 { try world.create(CellWorld.spec()) }
        try world.tick(5)
        try world.addHost(rack: "r2")
        world.copyTicks = 50
        try world.tick(2)
        try world.apply(.setHostDuty(first, .draining))
        #expect(try most(world) == 1)
        #expect(try world.view().hosts[first]?.vmCount == 0, "the drain comes to its end")
    }

    @Test func `a move asked for by hand is told which bound is used up`() throws {
        let world = CellWorld()
        world.level = FeatureLevel.newest
        try world.apply(.setSetting(.migrationsPerHostMax, 8))
        try world.apply(.setSetting(.migrationsPerLinkMax, 1))
        let hosts = try ["r1", "r1", "r2"].map { try world.addHost(rack: $0) }
        let vm = try world.create(CellWorld.spec())
        try world.tick(5)
        let from = try #require(try world.host(of: vm))
        func lacks() -> [String?] {
            guard case .budgets(let lacks) = world.keeper.answer(.budgets(from: from, to: hosts)) else { return [] }
            return lacks
        }
        #expect(lacks().allSatisfy { $0 == nil })
        world.copyTicks = 500
        let epoch = try #require(try world.vm(vm)?.place?.epoch)
        let outcome = try world.apply(
            .beginMigration(vm, from: epoch, to: Assignment(host: hosts[2]), cause: .asked))
        #expect(outcome == .done)
        try world.tick(1)
        let now = lacks()
        #expect(now[1] == nil, "within the rack it may go")
        #expect(now[2]?.contains("migrationsPerLinkMax") == true && now[2]?.contains("rack r") == true, "\(now)")
    }
}
