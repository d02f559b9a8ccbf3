import ClusterBase
import Controllers
import FleetModel
import Testing

/// A cell that has become small is merged by itself.
@Suite struct MergeRuleTests {
    private static let small = GroupID(.cell, number: 3)

    /// Cells default, b and c of no region, with nodes 1 to 3, 4 to 5, and 6; reports of b and c.
    private func root(splitAbove: UInt64 = 0, vms: UInt64 = 10) throws -> RootFixture {
        var root = RootFixture()
        try root.begin(nodes: 6)
        for name in ["b", "c"] { try root.apply(.createCell(name: name, replicas: 3)) }
        for (node, cell) in [(4, 2), (5, 2), (6, 3)] as [(UInt64, UInt64)] {
            for step in [RootCommand.MoveStep.begin, .finish] {
                try root.apply(.moveHost(NodeID(node), to: GroupID(.cell, number: cell), epoch: 0, step))
            }
        }
        for cell: UInt64 in 1...3 {
            var report = CellReport(group: GroupID(.cell, number: cell))
            (report.hosts, report.vms, report.splitAbove) = (1, vms, splitAbove)
            try root.apply(.reportCell(report))
        }
        return root
    }

    private func into(_ root: RootFixture, _ bound: SplitBound, vms: Int = 1, of cell: GroupID = small) throws
        -> String?
    {
        guard case .planHosts(_, let wish)? = MergeRule.plan(try root.view(), cell, vms: vms, bound) else { return nil }
        #expect(wish.step == .merge && wish.retires && wish.isAutomatic)
        return wish.into
    }

    @Test func `with less than its bound a cell goes into the one with the fewest hosts, and with as much nowhere`()
        throws
    {
        let root = try root()
        #expect(try into(root, SplitBound(.hosts, 1)) == nil)
        #expect(try into(root, SplitBound(.hosts, 2)) == "b")
        #expect(try into(root, SplitBound(.vms, 5), vms: 5) == nil && into(root, SplitBound(.vms, 6), vms: 5) == "b")
        #expect(try into(root, SplitBound(.hosts, 9), of: GroupID(.cell, number: 1)) == nil, "the first one stays")
    }

    @Test func `no merge makes a cell that is more than half of what is split`() throws {
        // b would have 3 hosts and 11 VMs, the first one 4 hosts and 11 VMs.
        for (most, found) in [
            (SplitBound(.hosts, 8), "b"), (SplitBound(.hosts, 6), "b"), (SplitBound(.hosts, 5), nil),
            (SplitBound(.vms, 22), "b"), (SplitBound(.vms, 21), nil),
        ] as [(SplitBound, String?)] {
            #expect(try into(try root(splitAbove: most.value), SplitBound(.hosts, 2)) == found, "\(most)")
        }
    }

    @Test func `nothing begins while hosts come or go by a plan, nor for an hour after one`() throws {
        var root = try root()
        var wish = HostsPlan.Wish(.split)
        (wish.into, wish.nodes) = ("c", [NodeID(1)])
        try root.apply(.planHosts(cell: "default", wish))
        #expect(try into(root, SplitBound(.hosts, 9)) == nil)
        wish = HostsPlan.Wish(.cancel)
        wish.number = try #require(try root.view().cell("default")?.plan?.number)
        try root.apply(.planHosts(cell: "default", wish))
        #expect(try into(root, SplitBound(.hosts, 9)) == nil)
        root.time += SplitRule.restsFor
        try root.apply(.noteTime)
        #expect(try into(root, SplitBound(.hosts, 9)) == "b")
        // The only other one that fits is taken.
        var merge = HostsPlan.Wish(.merge)
        merge.into = "default"
        try root.apply(.planHosts(cell: "b", merge))
        #expect(try into(root, SplitBound(.hosts, 9)) == nil)
    }

    @Test func `bounds of splits and merges are far apart, and count the same`() {
        func stand(_ above: String, _ below: String) -> Bool? {
            guard let above = SplitBound.value(above), let below = SplitBound.value(below) else { return nil }
            return SplitBound.mayStand(above: above, below: below)
        }
        for (above, below, isFine) in [
            ("hosts:8", "hosts:2", true), ("hosts:8", "hosts:3", false), ("vms:4", "vms:1", true),
            ("vms:100", "hosts:1", false), ("off", "hosts:3", true), ("hosts:3", "off", true),
        ] {
            #expect(stand(above, below) == isFine, "\(above) \(below)")
        }
    }
}
