import ClusterBase
import Controllers
import FleetModel
import Testing

/// What is kept free for losses: who waits for it, and that a loss may use it.
@Suite struct CellReserveTests {
    private func world(hosts: Int) throws -> CellWorld {
        let world = CellWorld()
        world.level = FeatureLevel.newest
        for _ in 0..<hosts { try world.addHost() }
        return world
    }

    /// CPU of the smallest host, in thousandths.
    private func offered(_ world: CellWorld) throws -> Int64 {
        try #require(try world.view().hosts.values.map { $0.offered.cpuMillis }.min())
    }

    @Test func `what would use up the reserve waits, and says for whose loss`() throws {
        let world = try world(hosts: 3)
        try world.apply(.setSetting(.failoverReserve, FailoverReserve(.host, 1).value))
        let half = try offered(world) / 2
        // Of six halves two are kept for a host's loss, and one since room in pieces is not all of use.
        let ids = try (0..<5).map { _ in try world.create(CellWorld.spec(cpu: half)) }
        try world.tick(40)
        let view = try world.view()
        #expect(view.count(of: .running) == 3)
        #expect(view.reserve?.isBroken == false)
        let waiting = try #require(ids.compactMap { view.vms[$0] }.first { $0.place == nil })
        #expect(waiting.message.contains("failoverReserve hosts:1: it would leave too little for the loss of host"))
        #expect(waiting.message.contains("cores short"), "\(waiting.message)")
        let explained = try #require(world.explain(waiting.id))
        #expect(explained.candidates > 0 && explained.reserve == waiting.message, "\(explained)")
        // What a plan says is what becomes of it.
        let plan = world.keeper.planCreate([
            VMCreation(name: "more", tenant: "default", spec: CellWorld.spec(cpu: half))
        ])
        #expect(plan.steps.isEmpty && plan.left.map(\.cause) == [.reserve], "\(plan)")

        // Without it they start.
        try world.apply(.setSetting(.failoverReserve, 0))
        try world.tick(40)
        #expect(try world.view().count(of: .running) == 5)
    }

    @Test func `room that comes back lets in what waited for it`() throws {
        let world = try world(hosts: 3)
        try world.apply(.setSetting(.failoverReserve, FailoverReserve(.host, 1).value))
        let half = try offered(world) / 2
        let ids = try (0..<4).map { _ in try world.create(CellWorld.spec(cpu: half)) }
        try world.tick(40)
        let view = try world.view()
        let gone = try #require(ids.first { view.vms[$0]?.place != nil })
        let waits = try #require(ids.first { view.vms[$0]?.place == nil })
        try world.apply(.deleteVM(gone, generation: nil))
        try world.tick(60)
        #expect(try world.view().vms[waits]?.phase == .running)
    }

    @Test func `a loss uses what was kept for it, and it is told that nothing is left for the next one`() throws {
        let world = try world(hosts: 3)
        try world.apply(.setSetting(.failoverReserve, FailoverReserve(.host, 1).value))
        let half = try offered(world) / 2
        let ids = try (0..<4).map { _ in try world.create(CellWorld.spec(cpu: half)) }
        try world.tick(40)
        #expect(world.keeper.reserveAtRisk == nil)
        let view = try world.view()
        let hosts = ids.compactMap { view.vms[$0]?.place?.assignment.host }
        let host = try #require(hosts.first)
        world.crash(host)
        try world.tick(120)
        // The three that ran run, and the fourth still waits.
        #expect(try world.view().count(of: .running) == 3)
        let risk = try #require(world.keeper.reserveAtRisk)
        #expect(risk.kind == .reserve && risk.text.contains("too little is left for the loss of host"), "\(risk)")
        try world.revive(host)
        try world.tick(60)
        #expect(world.keeper.reserveAtRisk == nil)
    }

    @Test func `what comes from another cell may use the reserve, and who is placed beside it does not`() throws {
        let world = try world(hosts: 3)
        try world.apply(.setSetting(.failoverReserve, FailoverReserve(.host, 1).value))
        let half = try offered(world) / 2
        let first = try (0..<2).map { _ in try world.create(CellWorld.spec(cpu: half)) }
        try world.tick(40)
        #expect(try world.view().count(of: .running) == first.count)
        let comes = VMID(2 << 40 | 1)
        let move = CellMove(
            number: 300, vm: comes, tenant: "default", to: 1, share: QuotaShare(), request: [], since: LogTime(1))
        let spec = CellWorld.spec(cpu: half, priority: 9)
        let there = CellVM(id: comes, name: "comes", tenant: "default", spec: spec, at: LogTime(1), by: "a")
        let arrival = move.preparation(of: there, from: 2)
        #expect(try world.apply(.prepareArrival(arrival)) == .refused(.notKeptYet(comes)))
        let new = try world.create(CellWorld.spec(cpu: half))
        try world.tick(40)
        let view = try world.view()
        #expect(view.vms[comes]?.place != nil)
        let message = try #require(view.vms[new]?.message)
        #expect(view.vms[new]?.place == nil && message.contains("failoverReserve hosts:1"), "\(message)")
        #expect(world.keeper.counts.takenBack == 0, "nothing was asked for that the cell refuses")
    }

    @Test func `a plan says where a host that is drained, made smaller or removed leaves too little for losses`() throws
    {
        let world = try world(hosts: 3)
        try world.apply(.setSetting(.failoverReserve, FailoverReserve(.host, 1).value))
        let half = try offered(world) / 2
        var host = HostID(1)
        var less = HostPolicy()
        less.reserved.cpuMillis = half
        func notes() throws -> [[String]] {
            [
                try #require(world.planDrain(host)).notes, try #require(world.planCapacity(host, less)).notes,
                try #require(world.planRemoval(host)).notes,
            ]
        }
        _ = try world.create(CellWorld.spec(cpu: half))
        try world.tick(40)
        // Two hosts hold one VM, and another one with it.
        #expect(try notes().allSatisfy(\.isEmpty))
        for _ in 0..<2 { _ = try world.create(CellWorld.spec(cpu: half)) }
        try world.tick(40)
        let view = try world.view()
        #expect(view.count(of: .running) == 3)
        // One that has room.
        host = try #require(view.hosts.values.min { $0.used.cpuMillis < $1.used.cpuMillis }).id
        for (id, known) in view.hosts { #expect(view.reserve(if: id, were: known) == view.reserve) }
        let found = try notes()
        #expect(found[0].first?.hasPrefix("the cell refuses it: failoverReserve hosts:1: it would leave") == true)
        #expect(found[1].first?.hasPrefix("the cell refuses it: failoverReserve hosts:1: it would leave") == true)
        #expect(found[2].first?.hasPrefix("failoverReserve hosts:1: it would leave too little for the loss") == true)
        // What is foretold is what the cell says.
        let commands: [CellCommand.Operation] = [
            .setHostDuty(host, .draining), .setHostPolicy(host, less, generation: nil),
        ]
        for (command, notes) in zip(commands, found) {
            guard case .refused(.breaksReserve(let text)) = try world.apply(command) else {
                Issue.record("\(command) is not refused")
                continue
            }
            #expect(notes == ["the cell refuses it: \(text)"])
        }
    }
}
