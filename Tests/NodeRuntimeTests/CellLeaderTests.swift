import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Testing

/// The cell that every cluster has, looked after where it is led: real engines over the test's ports.
@Suite struct CellLeaderTests {
    private static let cell = GroupID(.cell, number: 1)

    private func leader(_ cluster: TestCluster) -> TestNode? {
        cluster.nodes.first { $0.engine?.ledCells.contains(CellLeaderTests.cell) == true }
    }

    private func ask(_ cluster: TestCluster, _ operation: CellCommand.Operation, at node: TestNode) throws
        -> CellResult?
    {
        let ticket = cluster.nextTicket()
        let command = CellCommand(by: "test", operation).encoded()
        node.turn(.request(.command(CellLeaderTests.cell, command), ticket: ticket))
        _ = try cluster.run { !node.answers(to: ticket).isEmpty }
        guard case .applied(.cell(let result))? = node.answers(to: ticket).first else { return nil }
        return result
    }

    /// As the keeper of the cell's leader sees them.
    private func vms(_ cluster: TestCluster) -> [CellVM] {
        let found = leader(cluster)?.engine?.withCellKeeper(CellLeaderTests.cell) { Array($0.view.vms.values) }
        return (found ?? []).sorted { $0.id < $1.id }
    }

    private func creations(_ names: [String]) -> CellCommand.Operation {
        let spec = VMDescription(resources: Resources(cpuMillis: 1_000, memoryMiB: 1_024))
        return .createVMs(names.map { VMCreation(name: $0, tenant: "default", spec: spec) }, isAtomic: false)
    }

    @Test func `VMs are placed where the cell is led, by the next leader too, and leave a node that falls silent`()
        throws
    {
        let cluster = try StewardTests().cluster(of: 4)
        let isLed = try cluster.run(until: { leader(cluster) != nil }, limit: .seconds(60))
        #expect(isLed)
        for number in 1...4 {
            let about = HostDescription(
                name: "h\(number)", capacity: Resources(cpuMillis: 4_000, memoryMiB: 16_384, diskMiB: 1, networkMbps: 1)
            )
            let result = try ask(
                cluster, .registerHost(HostID(UInt64(number)), Incarnation(1), about, running: []),
                at: cluster.nodes[number - 1])
            #expect(result?.outcome == .done)
        }
        #expect(try ask(cluster, creations((1...6).map { "v\($0)" }), at: cluster.nodes[3]) != nil)
        let arePlaced = try cluster.run(
            until: { vms(cluster).count == 6 && vms(cluster).allSatisfy { $0.place != nil } }, limit: .seconds(5))
        #expect(arePlaced)
        guard
            case .explanation(let told)? = leader(cluster)?.engine?.ask(
                CellLeaderTests.cell, .explain(vms(cluster)[0].id, hosts: []))
        else {
            Issue.record("no explanation")
            return
        }
        #expect(told.hosts == 4)

        // The leader's node falls silent: another leads, declares its host down, and places what was there.
        try cluster.run(for: .seconds(3))
        let lost = try #require(leader(cluster))
        let host = HostID(lost.id.rawValue)
        lost.crash()
        let isLost = try cluster.run(
            until: {
                let keeper = leader(cluster)?.engine?.withCellKeeper(CellLeaderTests.cell) {
                    $0.view.hosts[host]?.health
                }
                return keeper == .down
            }, limit: .seconds(30))
        #expect(isLost)
        let areMoved = try cluster.run(
            until: { vms(cluster).allSatisfy { ($0.place?.assignment.host ?? host) != host } }, limit: .seconds(5))
        #expect(areMoved && vms(cluster).count == 6)
        let asked = try #require(leader(cluster))
        #expect(try ask(cluster, creations(["late"]), at: asked) != nil)
        let isThere = try cluster.run(until: { vms(cluster).last?.place != nil }, limit: .seconds(5))
        #expect(isThere)
    }

    /// Four hosts with six VMs, the same as a leader's keeper of the cell has seen for a while.
    private func settled() throws -> TestCluster {
        let cluster = try StewardTests().cluster(of: 4)
        #expect(try cluster.run(until: { leader(cluster) != nil }, limit: .seconds(60)))
        for number in 1...4 {
            let about = HostDescription(
                name: "h\(number)", capacity: Resources(cpuMillis: 4_000, memoryMiB: 16_384, diskMiB: 1, networkMbps: 1)
            )
            _ = try ask(
                cluster, .registerHost(HostID(UInt64(number)), Incarnation(1), about, running: []),
                at: cluster.nodes[number - 1])
        }
        #expect(try ask(cluster, creations((1...6).map { "v\($0)" }), at: cluster.nodes[3]) != nil)
        #expect(
            try cluster.run(
                until: { vms(cluster).count == 6 && vms(cluster).allSatisfy { $0.place != nil } }, limit: .seconds(5)))
        try cluster.run(for: .seconds(5))
        return cluster
    }

    /// Runs on, and names hosts that are declared down meanwhile.
    private func declaredDown(_ cluster: TestCluster, within length: Nanoseconds) throws -> Set<HostID> {
        var down: Set<HostID> = []
        let end = cluster.now + length
        while cluster.now < end {
            try cluster.run(for: .milliseconds(10))
            leader(cluster)?.engine?.withCellKeeper(CellLeaderTests.cell) { keeper in
                for (id, host) in keeper.view.hosts where host.health == .down { down.insert(id) }
            }
        }
        return down
    }

    @Test(arguments: [true, false])
    func `a leader that comes back from a hang declares nobody down whom it did not hear meanwhile`(ticksFirst: Bool)
        throws
    {
        let cluster = try settled()
        let hung = try #require(leader(cluster))
        let own = HostID(hung.id.rawValue)
        hung.isHung = true
        // The others go on without it, and hear of its host no more.
        #expect(try declaredDown(cluster, within: .seconds(20)) == [own])
        let epochs = vms(cluster).map { $0.place?.epoch }
        try cluster.goOn(hung, ticksFirst: ticksFirst)
        #expect(try declaredDown(cluster, within: .seconds(10)).subtracting([own]) == [])
        #expect(vms(cluster).map { $0.place?.epoch } == epochs)
    }

    @Test(arguments: [true, false])
    func `when all of a cluster stood still nobody is declared down for it`(ticksFirst: Bool) throws {
        let cluster = try settled()
        let before = try #require(leader(cluster))
        let epochs = vms(cluster).map { $0.place?.epoch }
        for node in cluster.nodes { node.isHung = true }
        try cluster.run(for: .seconds(20))
        // The leader looks at its clock before it hears anybody, or it is the last to go on.
        let others = cluster.nodes.filter { $0 !== before }
        for node in ticksFirst ? [before] + others : others + [before] {
            try cluster.goOn(node, ticksFirst: ticksFirst)
        }
        #expect(try declaredDown(cluster, within: .seconds(10)) == [])
        #expect(vms(cluster).map { $0.place?.epoch } == epochs)
    }
}
