import ClusterBase
import FleetModel
import Testing

/// Splits and merges as the root keeps them.
@Suite struct HostsPlanTests {
    private static let first = GroupID(.cell, number: 1)
    private static let second = GroupID(.cell, number: 2)

    /// Four nodes in the first cell, `default` of region `r`.
    private func bench() throws -> RootBench {
        var root = try RootBench()
        root.level = FeatureLevel.cells
        _ = try root.apply(.createCell(name: "default", replicas: 3, region: "r", survives: .zone))
        for name in ["n2", "n3", "n4"] { try root.node(name) }
        return root
    }

    private func wish(
        _ step: HostsPlan.Step, into: String = "new", _ nodes: [UInt64] = [], number: UInt64 = 0, retires: Bool = false
    ) -> RootCommand.Operation {
        var wish = HostsPlan.Wish(step)
        (wish.into, wish.nodes, wish.number, wish.retires) = (into, nodes.map { NodeID($0) }, number, retires)
        return .planHosts(cell: "default", wish)
    }

    private func plan(_ root: RootBench, _ cell: String = "default") throws -> HostsPlan {
        try #require(try root.view().cell(cell)?.plan)
    }

    /// The cells hand a host over, or it stays.
    private func move(
        _ root: inout RootBench, _ node: UInt64, to cell: GroupID = second, vms: UInt64 = 0, stays: String? = nil
    ) throws {
        let id = NodeID(node)
        let epoch = try root.node(id).cellEpoch
        #expect(try root.apply(.moveHost(id, to: cell, epoch: epoch, .begin)) == .done)
        let step: RootCommand.MoveStep = stays == nil ? .finish : .cancel
        #expect(
            try root.apply(.moveHost(id, to: cell, epoch: epoch, step, vms: vms, reason: stays ?? "")) == .done)
    }

    @Test func `a split makes the cell that hosts go to, counts them as they come, and is done with the last`() throws {
        var root = try bench()
        #expect(try root.apply(wish(.split, [3, 2])) == .done)
        let made = try #require(try root.view().cell("new"))
        #expect(made.group == Self.second && made.region == "r" && made.survives == .zone && made.replicas == 3)
        var view = try root.view()
        #expect(view.leaving(try #require(view.cell("default"))).map(\.id) == [NodeID(3), NodeID(2)])
        root.time = LogTime(1_010_000)
        try move(&root, 3, vms: 7)
        var plan = try plan(root)
        #expect((plan.hosts, plan.vms, plan.left, plan.state) == (1, 7, [NodeID(2)], .running))
        #expect(plan.expected(left: 1) == 10_000, "as long as the first took")
        try move(&root, 2, stays: "it is down")
        plan = try self.plan(root)
        #expect(plan.left == [NodeID(2)] && plan.stays.map(\.reason) == ["it is down"])
        try move(&root, 2, vms: 1)
        plan = try self.plan(root)
        #expect((plan.hosts, plan.vms, plan.left, plan.state, plan.stays) == (2, 8, [], .done, []))
        view = try root.view()
        #expect(view.leaving(try #require(view.cell("default"))).isEmpty && plan.expected(left: 0) == nil)
        let kinds = try root.all(RootEvent.self).map(\.kind)
        #expect(kinds.contains("cell.plan") && kinds.last == "cell.split", "\(kinds)")
        #expect(try root.apply(wish(.pause, number: plan.number)) == .refused(.noHostsPlan("default")))
    }

    @Test func `a plan pauses and goes on, and whoever knows another one changes nothing`() throws {
        var root = try bench()
        _ = try root.apply(wish(.split, [2, 3]))
        let number = try plan(root).number
        #expect(try root.apply(wish(.pause, number: number + 1)) == .refused(.noHostsPlan("default")))
        for _ in 0..<2 { #expect(try root.apply(wish(.pause, number: number)) == .done) }
        #expect(try plan(root).state == .paused)
        root.time = LogTime(1_500_000)
        try move(&root, 2)
        for _ in 0..<2 { #expect(try root.apply(wish(.resume, number: number)) == .done) }
        let plan = try plan(root)
        #expect(plan.state == .running && plan.hosts == 1, "one that was on its way arrives")
        #expect(plan.expected(left: 1) == nil, "the pause says nothing of how long a host takes")
    }

    @Test func `a plan that is called off keeps who is on the way and nobody else, and another may begin`() throws {
        var root = try bench()
        _ = try root.apply(wish(.split, [2, 3]))
        _ = try root.apply(.moveHost(NodeID(3), to: Self.second, epoch: 0, .begin))
        #expect(try root.apply(wish(.cancel, number: try plan(root).number)) == .done)
        #expect(try plan(root).left == [NodeID(3)] && plan(root).state == .cancelled)
        #expect(try root.apply(.moveHost(NodeID(3), to: Self.second, epoch: 0, .finish, vms: 2)) == .done)
        let ended = try plan(root)
        #expect((ended.state, ended.hosts, ended.vms, ended.left) == (.cancelled, 1, 2, []))
        #expect(try root.node(NodeID(2)).cell == nil && root.node(NodeID(2)).movesTo == nil)
        #expect(try root.apply(wish(.split, into: "other", [2])) == .done)
        #expect(try plan(root).number > ended.number)
    }

    @Test func `what can not be split or merged is refused, and nothing has changed`() throws {
        var root = try bench()
        _ = try root.apply(.createCell(name: "far", replicas: 1, region: "elsewhere"))
        let before = try root.view().cells
        func refused(_ operation: RootCommand.Operation, _ refusal: RootRefusal) throws {
            #expect(try root.apply(operation) == .refused(refusal))
            #expect(try root.view().cells == before)
        }
        try refused(wish(.split, []), .invalid(.hosts))
        try refused(wish(.split, [2, 2]), .invalid(.hosts))
        try refused(wish(.split, [2], retires: true), .invalid(.hosts))
        try refused(wish(.split, (1...2_049).map { $0 }), .invalid(.hosts))
        try refused(wish(.split, [9]), .unknownNode(NodeID(9)))
        try refused(wish(.split, into: "Bad", [2]), .invalid(.name))
        try refused(wish(.split, into: "far", [2]), .cellsApart("far"))
        try refused(wish(.split, into: "default", [2]), .cellsApart("default"))
        try refused(wish(.merge, into: "none"), .unknownCell("none"))
        try refused(wish(.merge, into: "far"), .cellsApart("far"))
        try refused(wish(.cancel), .noHostsPlan("default"))
        try refused(.planHosts(cell: "none", HostsPlan.Wish(.pause)), .unknownCell("none"))
        try refused(
            .noteHosts(cell: "default", number: 1, NodeID(2), reason: "it is down"), .noHostsPlan("default"))
        _ = try root.apply(wish(.split, [2]))
        #expect(try root.apply(wish(.split, into: "third", [3])) == .refused(.cellIsPlanned("default")))
        var back = HostsPlan.Wish(.merge)
        back.into = "default"
        #expect(try root.apply(.planHosts(cell: "new", back)) == .refused(.cellIsPlanned("new")))
        #expect(try root.apply(.retireCell(name: "new")) == .refused(.cellIsPlanned("default")))
        try move(&root, 2)
        #expect(try root.apply(wish(.split, [2])) == .refused(.notItsHost(NodeID(2))))
        var old = try RootBench()
        #expect(try old.apply(wish(.split, [1])) == .refused(.malformed), "before the level is open")
    }

    @Test func `a merge takes all hosts, those that come too, and ends when its leader says that nothing is left`()
        throws
    {
        var root = try bench()
        _ = try root.apply(.createCell(name: "more", replicas: 1, region: "r"))
        #expect(try root.apply(wish(.merge, into: "more", retires: true)) == .refused(.firstCell("default")))
        for node: UInt64 in [2, 3] { try move(&root, node) }
        var merge = HostsPlan.Wish(.merge)
        (merge.into, merge.retires) = ("default", true)
        #expect(try root.apply(.planHosts(cell: "more", merge)) == .done)
        let number = try plan(root, "more").number
        let late = try root.node("n5")
        #expect(try root.view().assignment(of: late)?.cell == Self.first, "nobody comes to a cell that goes")
        let empty = RootCommand.Operation.noteHosts(cell: "more", number: number, NodeID(rawValue: 0), reason: "")
        #expect(try root.apply(empty) == .refused(.cellHasHosts("more")))
        var view = try root.view()
        #expect(view.leaving(try #require(view.cell("more"))).map(\.name) == ["n2", "n3"])
        #expect(
            try root.apply(.noteHosts(cell: "more", number: number, NodeID(2), reason: "it is drained")) == .done)
        #expect(try plan(root, "more").stays.map(\.reason) == ["it is drained"])
        for node: UInt64 in [3, 2] { try move(&root, node, to: Self.first, vms: 3) }
        #expect(try plan(root, "more").state == .running, "VMs on no host may be left")
        #expect(try root.apply(empty) == .done)
        let plan = try plan(root, "more")
        #expect((plan.state, plan.hosts, plan.vms, plan.stays) == (.done, 2, 6, []))
        #expect(try root.apply(.retireCell(name: "more")) == .group(Self.second))
        view = try root.view()
        #expect(view.cell("more") == nil)
    }

    @Test func `a node that is removed, or goes elsewhere by hand, is none that a split waits for`() throws {
        var root = try bench()
        _ = try root.apply(.createCell(name: "third", replicas: 1, region: "r"))
        _ = try root.apply(wish(.split, [2, 3, 4]))
        #expect(try root.apply(.removeNode(NodeID(2), isForced: true)) == .node(NodeID(2)))
        try move(&root, 3, to: Self.second)
        #expect(try plan(root).left == [NodeID(4)] && plan(root).hosts == 0)
        try move(&root, 4, to: GroupID(.cell, number: 3))
        let plan = try plan(root)
        #expect((plan.state, plan.hosts) == (.done, 1))
    }

    @Test func `of hosts that stay the ones told of last are kept, each once`() throws {
        var root = try bench()
        for node in 5...25 { try root.node("n\(node)") }
        _ = try root.apply(wish(.split, (2...25).map { $0 }))
        let number = try plan(root).number
        for node: UInt64 in [2, 2] + (3...25).map({ $0 }) {
            _ = try root.apply(.noteHosts(cell: "default", number: number, NodeID(node), reason: "it is down"))
        }
        let stays = try plan(root).stays
        #expect(stays.count == HostsPlan.staysMax && stays.last?.node == NodeID(25))
        let long = String(repeating: "a", count: 256)
        #expect(
            try root.apply(.noteHosts(cell: "default", number: number, NodeID(2), reason: long))
                == .refused(.invalid(.reason)))
    }
}
