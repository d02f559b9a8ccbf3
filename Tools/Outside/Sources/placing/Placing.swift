import ClusterBase
import FleetModel
import Placement

/// Places VMs on hosts of two zones, loses one zone, and asks why a VM finds no place.
@main
enum Placing {
    static func main() throws {
        var words = WordTable()
        guard let north = words.word("north"), let south = words.word("south") else { fatalError("no room for a word") }
        var index = PlacementIndex(seed: 1)
        let capacity = Resources(cpuMillis: 16_000, memoryMiB: 65_536)
        for id in 1...4 as ClosedRange<UInt64> {
            try index.addHost(Host(id: HostID(id), capacity: capacity, zone: id <= 2 ? north : south))
        }
        index.setGroup(PlacementGroup(id: PlacementGroupID(1), rule: .spread(skewMax: 1), scope: .zone))
        for id in 1...8 as ClosedRange<UInt64> {
            let spec = VMSpec(
                id: VMID(id), resources: Resources(cpuMillis: 4_000, memoryMiB: 8_192), groups: [PlacementGroupID(1)])
            guard let place = index.decide(spec, policy: .pack).assignment else { fatalError("VM \(id) has no place") }
            try index.place(spec, place)
        }
        let zones = index.vmIDs.compactMap { index.assignment($0).flatMap { index.host($0.host)?.zone } }
        precondition(zones.count { $0 == north } == 4, "eight VMs of a spread group are not four and four")

        try index.setState(HostID(1), .down)
        try index.setState(HostID(2), .cordoned)
        let late = VMSpec(id: VMID(9), resources: Resources(cpuMillis: 1_000, memoryMiB: 1_024), zones: [north])
        let decision = index.decide(late)
        guard let refusal = decision.refusal else { fatalError("a VM was placed where no host takes any: \(decision)") }
        let explanation = index.explain(late)
        print("placing: 8 VMs in two zones; VM 9 waits, \(refusal); \(explanation.hosts) hosts were judged")
    }
}
