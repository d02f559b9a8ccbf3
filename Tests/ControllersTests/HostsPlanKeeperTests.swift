import ClusterBase
import Controllers
import FleetModel
import Testing

/// What the leader of a cell does for a plan by which its hosts go to another one.
@Suite struct HostsPlanKeeperTests {
    private static let home = GroupID(.cell, number: 1)
    private static let target = GroupID(.cell, number: 2)

    /// A root with two cells and nodes 1 to 3 in the first, which follows its own commands.
    private struct World {
        var root = RootFixture()
        var keeper = HostsPlanKeeper()
        var now = Instant.origin
        /// What the cell says to a command before it is asked; and its VMs that are on no host.
        var refusals: [HostID: CellRefusal] = [:]
        var inUse: Set<HostID> = []
        var vms: [CellVM] = []
        var settings: [CellSetting: UInt64] = [:]
        var taken: [CellCommand.Operation] = []
        var groups: [CellGroup] = []

        mutating func plan(after seconds: Double = 0) throws -> [HostsPlanKeeper.Ask] {
            now = now + Nanoseconds(Int64(seconds * 1_000_000_000))
            guard let facts = HostsPlanKeeper.Facts(try root.view(), HostsPlanKeeperTests.home) else { return [] }
            var asks = asks(facts)
            // The other cell takes what is set, at once.
            while case .other(_, let take)? = asks.last {
                taken.append(take)
                _ = keeper.hear(.done, of: take, NodeID(rawValue: 0), to: HostsPlanKeeperTests.target, now: now)
                asks = self.asks(facts)
            }
            return asks
        }

        mutating func asks(_ facts: HostsPlanKeeper.Facts) -> [HostsPlanKeeper.Ask] {
            let (refusals, inUse, vms, groups) = (refusals, inUse, vms, groups)
            return keeper.plan(facts, now: now, settings: settings) { operation in
                switch operation {
                case .releaseHost(let host, _): inUse.contains(host) ? .hostInUse(host) : refusals[host]
                case .sendHost(let host, _, _, _, _): refusals[host]
                default: nil
                }
            } vms: {
                vms
            } groups: {
                groups
            }
        }

        mutating func hear(_ outcome: CellResult.Outcome?, _ operation: CellCommand.Operation, _ node: UInt64)
            -> HostsPlanKeeper.Ask?
        {
            keeper.hear(outcome, of: operation, NodeID(node), to: HostsPlanKeeperTests.target, now: now)
        }
    }

    private func world(_ kind: HostsPlan.Step = .split) throws -> World {
        var world = World()
        try world.root.begin(nodes: 3)
        var wish = HostsPlan.Wish(kind)
        wish.into = "new"
        if kind == .split { wish.nodes = [NodeID(2), NodeID(1)] }
        if kind == .merge { try world.root.apply(.createCell(name: "new", replicas: 1)) }
        try world.root.apply(.planHosts(cell: "default", wish))
        try world.root.make("new")
        return world
    }

    private func begin(_ node: UInt64, _ epoch: UInt64 = 0) -> HostsPlanKeeper.Ask {
        .root(.moveHost(NodeID(node), to: Self.target, epoch: epoch, .begin))
    }

    private func release(_ node: UInt64) -> CellCommand.Operation { .releaseHost(HostID(node), assignment: 0) }

    private func send(_ node: UInt64, to cell: UInt64 = 2) -> CellCommand.Operation {
        .sendHost(HostID(node), to: cell, assignment: 0, keepsNames: cell == 2, company: HostCompany())
    }

    /// With others that are to go still.
    private func send(_ node: UInt64, with others: [UInt64]) -> CellCommand.Operation {
        var company = HostCompany()
        company.hosts = others.map { HostID($0) }
        return .sendHost(HostID(node), to: 2, assignment: 0, keepsNames: true, company: company)
    }

    @Test func `hosts go one after the other, one without VMs by the root alone and one with VMs by the cells`() throws
    {
        var world = try world()
        world.inUse = [HostID(1)]
        #expect(try world.plan() == [begin(2)])
        #expect(try world.plan(after: 1).isEmpty, "the root has not answered")
        try world.root.apply(.moveHost(NodeID(2), to: Self.target, epoch: 0, .begin))
        #expect(try world.plan() == [.own(NodeID(2), release(2))])
        #expect(
            world.hear(.done, release(2), 2)
                == .root(.moveHost(NodeID(2), to: Self.target, epoch: 0, .finish)))
        try world.root.apply(.moveHost(NodeID(2), to: Self.target, epoch: 0, .finish))
        #expect(try world.plan() == [begin(1)])
        try world.root.apply(.moveHost(NodeID(1), to: Self.target, epoch: 0, .begin))
        #expect(try world.plan() == [.own(NodeID(1), release(1))])
        #expect(world.hear(.refused(.hostInUse(HostID(1))), release(1), 1) == nil)
        #expect(try world.plan() == [.own(NodeID(1), send(1, with: [1]))])
        #expect(world.hear(.done, send(1, with: [1]), 1) == nil)
        #expect(try world.plan(after: 1).isEmpty, "the cells see to it")
        try world.root.apply(.moveHost(NodeID(1), to: Self.target, epoch: 0, .finish, vms: 5))
        #expect(try world.plan().isEmpty)
        let plan = try #require(try world.root.view().cell("default")?.plan)
        #expect((plan.state, plan.hosts, plan.vms) == (.done, 2, 5))
    }

    @Test func `a new leader goes on with the host that is on its way, also of a plan that was called off`() throws {
        var world = try world()
        try world.root.apply(.moveHost(NodeID(2), to: Self.target, epoch: 0, .begin))
        var wish = HostsPlan.Wish(.cancel)
        wish.number = try #require(try world.root.view().cell("default")?.plan?.number)
        try world.root.apply(.planHosts(cell: "default", wish))
        world.keeper = HostsPlanKeeper()
        #expect(try world.plan() == [.own(NodeID(2), release(2))], "and host 1 does not begin")
        world.keeper = HostsPlanKeeper()
        #expect(try world.plan() == [.own(NodeID(2), release(2))])
        #expect(world.hear(nil, release(2), 2) == nil)
        #expect(try world.plan() == [.own(NodeID(2), release(2))], "nobody knows what became of it")
        try world.root.apply(.moveHost(NodeID(2), to: Self.target, epoch: 0, .finish))
        #expect(try world.plan().isEmpty)
    }

    @Test func `a paused plan begins nothing, and goes on where it was`() throws {
        var world = try world()
        var wish = HostsPlan.Wish(.pause)
        wish.number = try #require(try world.root.view().cell("default")?.plan?.number)
        try world.root.apply(.planHosts(cell: "default", wish))
        #expect(try world.plan(after: 10).isEmpty)
        wish.step = .resume
        try world.root.apply(.planHosts(cell: "default", wish))
        #expect(try world.plan() == [begin(2)])
    }

    @Test func `nobody goes to a cell that has no voters yet`() throws {
        var world = World()
        try world.root.begin(nodes: 2)
        var wish = HostsPlan.Wish(.split)
        (wish.into, wish.nodes) = ("new", [NodeID(2)])
        try world.root.apply(.planHosts(cell: "default", wish))
        #expect(try world.plan(after: 5).isEmpty)
        try world.root.make("new")
        #expect(try world.plan() == [begin(2)])
    }

    @Test func `what keeps a host is told once, it is tried again later and later, and others go meanwhile`() throws {
        var world = try world()
        world.inUse = [HostID(2)]
        world.refusals = [HostID(2): .hostStays(HostID(2), "VM a is being moved")]
        let number = try #require(try world.root.view().cell("default")?.plan?.number)
        let note = RootCommand.Operation.noteHosts(
            cell: "default", number: number, NodeID(2), reason: "VM a is being moved")
        #expect(try world.plan() == [.root(note), begin(1)])
        try world.root.apply(note)
        try world.root.apply(.moveHost(NodeID(1), to: Self.target, epoch: 0, .begin))
        try world.root.apply(.moveHost(NodeID(1), to: Self.target, epoch: 0, .finish))
        #expect(try world.plan(after: 3).isEmpty, "the same again is no news")
        world.refusals = [:]
        #expect(try world.plan(after: 1).isEmpty, "it rests for longer now")
        #expect(try world.plan(after: 4) == [begin(2)])
    }

    @Test func `a host that its cell does not let go stays by its cell first, and then by the root`() throws {
        var world = try world()
        world.inUse = [HostID(2)]
        #expect(try world.plan() == [begin(2)])
        try world.root.apply(.moveHost(NodeID(2), to: Self.target, epoch: 0, .begin))
        _ = try world.plan()
        _ = world.hear(.refused(.hostInUse(HostID(2))), release(2), 2)
        #expect(try world.plan() == [.own(NodeID(2), send(2, with: [2, 1]))])
        #expect(world.hear(.refused(.hostStays(HostID(2), "it is down")), send(2), 2) == nil)
        #expect(try world.plan() == [.own(NodeID(2), send(2, to: 1))])
        let cancel = RootCommand.Operation.moveHost(
            NodeID(2), to: Self.home, epoch: 0, .cancel, reason: "it is down")
        #expect(world.hear(.done, send(2, to: 1), 2) == .root(cancel))
        try world.root.apply(cancel)
        let plan = try #require(try world.root.view().cell("default")?.plan)
        #expect(plan.stays.map(\.reason) == ["it is down"] && plan.left == [NodeID(2), NodeID(1)])
        let epoch = try #require(try world.root.view().node(NodeID(2))?.cellEpoch)
        #expect(try world.plan() == [begin(1)])
        #expect(epoch > 0)
    }

    @Test func `of a merge VMs on no host go last, not all at once, and then nothing is left`() throws {
        var world = try world(.merge)
        #expect(try world.plan() == [begin(1)])
        for node: UInt64 in 1...3 {
            try world.root.apply(.moveHost(NodeID(node), to: Self.target, epoch: 0, .begin))
            try world.root.apply(.moveHost(NodeID(node), to: Self.target, epoch: 0, .finish))
        }
        world.vms = (1...40).map { number in
            CellVM(
                id: VMID(1 << 40 | number), name: "v\(number)", tenant: "default",
                spec: VMDescription(resources: Resources(cpuMillis: 1_000, memoryMiB: 1_024)), at: LogTime(0),
                by: "test")
        }
        let asks = try world.plan()
        #expect(asks.count == HostsPlanKeeper.vmsAtOnce)
        #expect(asks.first == .own(nil, .moveVM(world.vms[0].id, to: 2, request: [], keepsName: true)))
        for at in 0..<20 { world.vms[at].departure = CellVM.Departure(number: 7, to: 2) }
        #expect(try world.plan().count == 8, "those that were not asked yet")
        world.vms = []
        world.groups = (1...70).map { CellGroup(name: "g\($0)", tenant: "default", rule: .affinity) }
        let number = try #require(try world.root.view().cell("default")?.plan?.number)
        #expect(
            try world.plan()
                == [.root(.noteHosts(cell: "default", number: number, NodeID(rawValue: 0), reason: ""))])
        let taken = world.taken.map {
            if case .takeSettings(1, number, [:], let groups) = $0 { groups.count } else { 0 }
        }
        #expect(taken == [64, 6], "its groups, before it is done")
    }

    @Test func `a cell that a plan makes gets the settings of the old one before the first host goes, and once`() throws
    {
        var world = World()
        try world.root.begin(nodes: 2)
        world.settings = [
            .rebalance: 2, .policy: CellSetting.policy.standard, .splitAbove: SplitBound(.vms, 9).value,
            .leaseBefore: 7,
        ]
        var wish = HostsPlan.Wish(.split)
        (wish.into, wish.nodes) = ("new", [NodeID(2)])
        try world.root.apply(.planHosts(cell: "default", wish))
        try world.root.make("new")
        let plan = try #require(try world.root.view().cell("default")?.plan)
        #expect(plan.makesCell)
        let facts = try #require(HostsPlanKeeper.Facts(try world.root.view(), Self.home))
        let take = CellCommand.Operation.takeSettings(
            from: 1, plan: plan.number, [.rebalance: 2, .splitAbove: SplitBound(.vms, 9).value])
        #expect(world.asks(facts) == [.other(Self.target, take)])
        #expect(world.asks(facts).isEmpty, "nobody has answered")
        #expect(world.hear(nil, take, 0) == nil)
        world.now = world.now + .seconds(4)
        #expect(world.asks(facts) == [.other(Self.target, take)])
        #expect(world.hear(.done, take, 0) == nil)
        #expect(world.asks(facts) == [begin(2)])
        // Into a cell that was there before nothing is set.
        var other = try self.world(.merge)
        other.settings = [.rebalance: 2]
        #expect(try other.plan() == [begin(1)] && other.taken.isEmpty)
    }
}
