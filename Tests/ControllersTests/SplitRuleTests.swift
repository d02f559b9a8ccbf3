import ClusterBase
import FleetModel
import Testing

@testable import Controllers

/// A cell that has outgrown its bound is split by itself.
@Suite struct SplitRuleTests {
    private static let home = GroupID(.cell, number: 1)

    private func split(_ root: RootFixture, vms: Int = 0, _ bound: SplitBound) throws -> (
        into: String, nodes: [UInt64]
    )? {
        guard case .planHosts("default", let wish)? = SplitRule.plan(try root.view(), Self.home, vms: vms, bound) else {
            return nil
        }
        #expect(wish.step == .split && wish.isAutomatic)
        return (wish.into, wish.nodes.map(\.rawValue))
    }

    private func half(_ nodes: [RootNode], survives: RootCell.Survival? = nil) -> [UInt64]? {
        SplitChoice.half(
            SplitChoice.Facts(
                cell: RootCell(name: "c", group: Self.home, replicas: 3, survives: survives), nodes: nodes))?
            .nodes.map(\.rawValue)
    }

    @Test func `beyond its bound half of the hosts go to a cell of the next free name, and up to it nobody`() throws {
        var root = RootFixture()
        try root.begin(nodes: 4)
        #expect(try split(root, SplitBound(.hosts, 4)) == nil)
        let found = try #require(try split(root, SplitBound(.hosts, 3)))
        #expect(found.into == "default-2" && found.nodes == [1, 2])
        #expect(try split(root, vms: 10, SplitBound(.vms, 10)) == nil)
        #expect(try split(root, vms: 11, SplitBound(.vms, 10))?.nodes == [1, 2])
        try root.apply(.createCell(name: "default-2", replicas: 1))
        #expect(try split(root, SplitBound(.hosts, 3))?.into == "default-3")
    }

    @Test func `nothing begins while hosts come or go by a plan, nor for an hour after one was called off`() throws {
        var root = RootFixture()
        try root.begin(nodes: 4)
        var wish = HostsPlan.Wish(.split)
        (wish.into, wish.nodes) = ("new", [NodeID(4)])
        try root.apply(.planHosts(cell: "default", wish))
        #expect(try split(root, SplitBound(.hosts, 1)) == nil)
        wish = HostsPlan.Wish(.cancel)
        wish.number = try #require(try root.view().cell("default")?.plan?.number)
        try root.apply(.planHosts(cell: "default", wish))
        #expect(try split(root, SplitBound(.hosts, 1)) == nil)
        root.time += SplitRule.restsFor
        try root.apply(.noteTime)
        #expect(try split(root, SplitBound(.hosts, 1)) != nil)
        var merge = HostsPlan.Wish(.merge)
        merge.into = "default"
        try root.apply(.planHosts(cell: "new", merge))
        #expect(try split(root, SplitBound(.hosts, 1)) == nil, "hosts come to it")
    }

    @Test func `whole racks go, of each zone by itself`() {
        let nodes = (1...8).map { number in
            RootNode.inRack(
                number, zone: number <= 4 ? "a" : "b", rack: number % 4 < 2 ? "r\(number / 4)" : "s\(number / 4)")
        }
        let going = half(nodes) ?? []
        #expect(going.count == 4 && going.count { $0 <= 4 } == 2, "\(going)")
        for node in nodes {
            let rack = nodes.filter { $0.about.locality == node.about.locality }.map(\.id.rawValue)
            #expect(rack.allSatisfy(going.contains) || !rack.contains(where: going.contains), "\(rack) of \(going)")
        }
        #expect(half([RootNode.inRack(1), RootNode.inRack(2), RootNode.inRack(3)]) == [1], "without racks any half")
        #expect(half([RootNode.inRack(1, rack: "r"), RootNode.inRack(2, rack: "r")]) == nil, "a rack is not divided")
    }

    @Test func `neither cell is left with fewer hosts than it has voters, or in one zone, if it is to survive one`() {
        func zoned(_ count: UInt64) -> [RootNode] {
            (1...count).map { RootNode.inRack($0, zone: $0 % 2 == 0 ? "a" : "b") }
        }
        #expect(half(zoned(5), survives: .zone) == nil)
        let six = half(zoned(8), survives: .zone) ?? []
        #expect(six.count == 4 && six.contains { $0 % 2 == 0 } && six.contains { $0 % 2 == 1 }, "\(six)")
        #expect(half(zoned(2)) != nil && half([RootNode.inRack(1)]) == nil)
    }

    @Test func `the setting is off, or so many hosts or VMs`() {
        for text in ["off", "hosts:1", "hosts:100000", "vms:4194304"] {
            #expect(SplitBound.value(text).map(SplitBound.text) == text)
        }
        for text in ["", "on", "hosts", "hosts:0", "hosts:100001", "vms:4194305", "vms:01", "vms:-1", "racks:2"] {
            #expect(SplitBound.value(text) == nil, "\(text)")
        }
        #expect(CellSetting.splitAbove.allows(0) && !CellSetting.splitAbove.allows(7))
    }
}
