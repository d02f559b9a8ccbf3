import ClusterBase
import FleetModel
import Testing

@testable import Controllers

/// Which hosts of a cell go to another one.
@Suite struct SplitChoiceTests {
    private func facts(
        _ nodes: [RootNode], survives: RootCell.Survival? = nil,
        _ groups: [(PlacementGroup.Rule, PlacementGroup.Scope, on: [UInt64?])] = []
    ) -> SplitChoice.Facts {
        let cell = RootCell(name: "c", group: GroupID(.cell, number: 1), replicas: 3, survives: survives)
        var facts = SplitChoice.Facts(cell: cell, nodes: nodes)
        for (at, (rule, scope, hosts)) in groups.enumerated() {
            var group = CellGroup(
                id: PlacementGroupID(UInt64(at + 1)), name: "g\(at + 1)", tenant: "t", rule: rule, scope: scope)
            group.memberCount = UInt64(hosts.count)
            facts.ties.note(group)
            for (i, host) in hosts.enumerated() {
                var vm = CellVM(
                    id: VMID(UInt64(100 * at + i + 1)), name: "v", tenant: "t",
                    spec: VMDescription(resources: .zero), at: .zero, by: "")
                vm.spec.groups = [group.name]
                if let host { vm.place = VMPlace(Assignment(host: HostID(host)), epoch: 1) }
                facts.ties.note(vm)
            }
        }
        return facts
    }

    private func hand(_ count: Int, _ facts: SplitChoice.Facts) -> [UInt64] {
        SplitChoice.byHand(count, facts).nodes.map(\.rawValue).sorted()
    }

    private func half(_ facts: SplitChoice.Facts) -> [UInt64]? {
        SplitChoice.half(facts)?.nodes.map(\.rawValue).sorted()
    }

    /// Two zones of four hosts, each in a rack of its own.
    private var racks: [RootNode] { (1...8).map { RootNode.inRack($0, zone: $0 <= 4 ? "a" : "b", rack: "r\($0)") } }

    @Test func `hosts whose VMs are in one hard group are not parted where that is possible`() {
        func half(_ together: [[UInt64?]]) -> [UInt64]? {
            self.half(facts(racks, survives: .zone, together.map { (.affinity, .zone, on: $0) }))
        }
        #expect(half([]) == [1, 2, 5, 6])
        let over = half([[2, 3], [1, 4]]) ?? []
        #expect(
            over.contains(2) == over.contains(3) && over.contains(1) == over.contains(4) && over.count == 4, "\(over)")
        let zones = half([[1, 8], [2, 7], [3, 6], [4, 5]]) ?? []
        #expect(zones.count == 4 && zones.allSatisfy { zones.contains(9 - $0) }, "\(zones)")
        let large = SplitChoice.half(facts(racks, survives: .zone, [(.affinity, .zone, on: [1, 2, 3, 4, 5])]))
        #expect(large?.nodes.count == 4 && (large?.held.count ?? 9) <= 2, "\(large as Any)")
        #expect(half([[1, nil], [5, nil]]) == [2, 3, 6, 7], "what stays in any case is not asked")
        #expect(SplitChoice.half(facts([])) == nil)
    }

    @Test func `so many go, of each zone its share, and whole racks where that makes the number`() {
        #expect(hand(4, facts(racks)) == [1, 2, 5, 6])
        #expect(hand(1, facts(racks)).count == 1)
        #expect(hand(3, facts(racks)).count == 3)
        #expect(hand(99, facts(racks)) == Array(1...8))
        #expect(hand(1, facts([])).isEmpty)
        // Racks of 3 and 2 in each zone.
        let uneven = (1...10).map { RootNode.inRack($0, zone: $0 <= 5 ? "a" : "b", rack: $0 % 5 < 3 ? "big" : "small") }
        for count in [2, 3, 4, 5, 6] {
            let going = hand(count, facts(uneven))
            #expect(going.count == count)
            let racks = Set(uneven.map(\.about.locality)).filter { place in
                let rack = uneven.filter { $0.about.locality == place }.map(\.id.rawValue)
                return rack.contains(where: going.contains) && !rack.allSatisfy(going.contains)
            }
            #expect(racks.isEmpty, "\(count): \(going)")
        }
        #expect(hand(1, facts(uneven)).count == 1, "a rack is divided where nothing else makes the number")
    }

    @Test func `by hand hosts go together that hard groups keep, and it is said who is left out for it`() throws {
        // By their names 1 and 2 would go.
        let one = (1...4).map { RootNode.inRack($0) }
        let two = facts(one, [(.affinity, .zone, on: [1, 3]), (.affinity, .host, on: [2, nil])])
        let choice = SplitChoice.byHand(2, two)
        #expect(choice.nodes.map(\.rawValue) == [1, 3] && choice.held.isEmpty && choice.isEnough)
        let passed = try #require(choice.passedOver.first)
        #expect(choice.passedOver.count == 1 && passed.node == NodeID(2))
        #expect(passed.why == "group g2 keeps its VMs in one host, and it has VMs on it and one on no host")
        let parted = SplitChoice.byHand(2, facts(one, [(.pack, .zone, on: [1, 2, 3])]))
        #expect(parted.held.count == 1 && parted.nodes.contains(NodeID(4)), "as few as possible: \(parted)")
        let tie = try #require(parted.held.first)
        #expect(SplitChoice.text(tie.value) { "n\($0.rawValue)" }.contains("and it has VMs on it and on n"))
        let all = SplitChoice.byHand(3, facts(one, [(.pack, .zone, on: [1, 2, 4])]))
        #expect(all.nodes.map(\.rawValue) == [1, 2, 4] && all.passedOver.map(\.node) == [NodeID(3)])
    }

    @Test func `racks are not divided where a group over racks would hold others back`() {
        let nodes = (1...6).map { RootNode.inRack($0, zone: "z", rack: $0 <= 3 ? "a" : "b") }
        let spread: (PlacementGroup.Rule, PlacementGroup.Scope, on: [UInt64?]) =
            (.antiAffinity(perDomainMax: 3), .rack, on: [1, 2, 3, 4, 5, 6])
        #expect(hand(4, facts(nodes)).count == 4)
        let choice = SplitChoice.byHand(4, facts(nodes, [spread]))
        #expect(choice.nodes.map(\.rawValue) == [1, 2, 3] && choice.held.isEmpty)
        // Who names no rack is in one with all others of the zone.
        let none = SplitChoice.byHand(
            1, facts((1...3).map { RootNode.inRack($0) }, [(.spread(skewMax: 1), .rack, on: [1, 2])]))
        #expect(none.nodes == [NodeID(3)] && none.passedOver.first?.node == NodeID(1))
    }

    @Test func `whole zones go where groups over zones would hold others back, and both cells keep enough of them`() {
        let four = (1...8).map { RootNode.inRack($0, zone: "\(($0 + 1) / 2)") }
        let group: (PlacementGroup.Rule, PlacementGroup.Scope, on: [UInt64?]) =
            (.antiAffinity(perDomainMax: 2), .zone, on: [1, 2, 3, 5, 7])
        #expect(half(facts(four, survives: .zone)) == [1, 3, 5, 7])
        #expect(half(facts(four, survives: .zone, [group])) == [1, 2, 3, 4])
        #expect(hand(4, facts(four, survives: .zone, [group])) == [1, 2, 3, 4])
        let two = (1...8).map { RootNode.inRack($0, zone: $0 <= 4 ? "a" : "b") }
        let torn: (PlacementGroup.Rule, PlacementGroup.Scope, on: [UInt64?]) =
            (.antiAffinity(perDomainMax: 1), .zone, on: [1, 5])
        let kept = SplitChoice.half(facts(two, survives: .zone, [torn]))
        #expect(kept?.isEnough == true && kept?.held.isEmpty == true, "\(kept as Any)")
        // Many zones are gone through in order.
        let many = (1...24).map { RootNode.inRack($0, zone: "z\(100 + $0 / 2)") }
        let over = SplitChoice.byHand(12, facts(many, [(.spread(skewMax: 1), .zone, on: (1...24).map { $0 })]))
        #expect(over.held.isEmpty && over.nodes.count >= 11, "\(over)")
    }

    @Test func `hosts that can not go as they are are passed over, and one that must is told`() {
        var facts = facts((1...4).map { RootNode.inRack($0) })
        for (id, duty, vms) in [(1, CellHost.Duty.draining, 1), (2, .draining, 0), (3, .inService, 1)] {
            var host = CellHost(
                id: HostID(UInt64(id)),
                about: HostDescription(
                    name: "n\(id)", locality: Locality(), capacity: .zero, storageDomains: [], networks: [],
                    driver: "simulated"),
                incarnation: Incarnation(1), since: .zero)
            (host.duty, host.vmCount) = (duty, UInt64(vms))
            facts.ties.note(host)
        }
        let choice = SplitChoice.byHand(2, facts)
        #expect(choice.nodes.map(\.rawValue) == [2, 3] && choice.passedOver.first?.why.contains("drained") == true)
        let all = SplitChoice.byHand(4, facts)
        #expect(all.nodes.count == 4 && all.held.keys.map(\.rawValue) == [1])
    }
}
