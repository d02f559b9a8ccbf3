import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Testing

/// What a leader whose disk is nearly full still takes: whatever frees space, and whatever the cluster lives of.
@Suite struct LowSpaceTests {
    private static let cell = GroupID(.cell, number: 1)

    private func answer(_ cluster: TestCluster, _ node: TestNode, _ request: ClientRequest) throws -> ClientAnswer? {
        let ticket = cluster.nextTicket()
        node.turn(.request(request, ticket: ticket))
        _ = try cluster.run { !node.answers(to: ticket).isEmpty }
        return node.answers(to: ticket).first
    }

    private func root(_ operation: RootCommand.Operation) -> ClientRequest {
        .command(.root, RootCommand(by: "test", operation).encoded())
    }

    private func cell(_ operation: CellCommand.Operation) -> ClientRequest {
        .command(LowSpaceTests.cell, CellCommand(by: "test", operation).encoded())
    }

    private func create(_ name: String) -> CellCommand.Operation {
        let spec = VMDescription(resources: Resources(cpuMillis: 1_000, memoryMiB: 1_024))
        return .createVMs([VMCreation(name: name, tenant: "default", spec: spec)], isAtomic: false)
    }

    private func vms(_ cluster: TestCluster) -> [CellVM] {
        let leader = cluster.nodes.first { $0.engine?.ledCells.contains(LowSpaceTests.cell) == true }
        let found = leader?.engine?.withCellKeeper(LowSpaceTests.cell) { Array($0.view.vms.values) }
        return (found ?? []).sorted { $0.id < $1.id }
    }

    @Test func `leaders without space refuse what clients want kept in any group, and the cluster goes on`() throws {
        let cluster = try StewardTests().cluster(of: 4)
        let isLed = try cluster.run(
            until: { cluster.nodes.contains { $0.engine?.ledCells.contains(LowSpaceTests.cell) == true } },
            limit: .seconds(60))
        #expect(isLed)
        guard case .applied(.cell(let made))? = try answer(cluster, cluster.nodes[3], cell(create("v1"))),
            case .items(let items) = made.outcome, case .vm(let first)? = items.first
        else {
            Issue.record("no VM was made")
            return
        }

        for node in cluster.nodes { node.turn(.spaceLow(true)) }
        for node in cluster.nodes {
            #expect(try answer(cluster, node, cell(create("v2"))) == .refused(.spaceLow))
            let space = RootCommand.Operation.createSpace(name: "box", replicas: 3)
            #expect(try answer(cluster, node, root(space)) == .refused(.spaceLow))
            let tenant = RootCommand.Operation.createTenant(name: "t", Quota(vmCount: 1), tier: "")
            #expect(try answer(cluster, node, root(tenant)) == .refused(.spaceLow))
        }
        // A host comes, and a controller gives it the VM that waited.
        let about = HostDescription(
            name: "h1", capacity: Resources(cpuMillis: 4_000, memoryMiB: 16_384, diskMiB: 1, networkMbps: 1))
        guard
            case .applied(.cell(let registered))? = try answer(
                cluster, cluster.nodes[1], cell(.registerHost(HostID(1), Incarnation(1), about, running: [])))
        else {
            Issue.record("the host was not let in")
            return
        }
        #expect(registered.outcome == .done)
        #expect(try cluster.run { vms(cluster).first?.place != nil })
        // What frees space, and what makes room for another node.
        guard
            case .applied(.cell(let deleted))? = try answer(
                cluster, cluster.nodes[2], cell(.deleteVM(first, generation: nil)))
        else {
            Issue.record("the VM was not deleted")
            return
        }
        #expect(deleted.outcome == .done)
        let hash = [UInt8](repeating: 177, count: 32)
        guard
            case .applied(.root(let token))? = try answer(
                cluster, cluster.nodes[3], root(.createToken(hash: hash, note: "", lifetime: 0, uses: 0)))
        else {
            Issue.record("no token was made")
            return
        }
        #expect(token.outcome == .done)

        for node in cluster.nodes { node.turn(.spaceLow(false)) }
        guard case .applied? = try answer(cluster, cluster.nodes[3], cell(create("v2"))),
            case .applied? = try answer(
                cluster, cluster.nodes[3], root(.createSpace(name: "box", replicas: 3)))
        else {
            Issue.record("it did not clear by itself")
            return
        }
    }

    @Test func `keys can be deleted where none can be put, and what can't be read is the machine's to refuse`() throws {
        let cluster = try TestCluster()
        let leader = try #require(try cluster.leader())
        #expect(try cluster.put(1, at: leader))
        leader.turn(.spaceLow(true))
        func ask(_ operation: SpaceCommand.Operation) throws -> ClientAnswer? {
            try answer(cluster, leader, .command(GroupID(1), SpaceCommand(operation).encoded()))
        }
        let key = Array("key 0".utf8)
        #expect(try ask(.put(key: key, value: [1])) == .refused(.spaceLow))
        #expect(try ask(.compareAndSet(key: key, expected: .absent, value: [1])) == .refused(.spaceLow))
        guard case .applied(.space(let deleted))? = try ask(.delete(key: key, revision: nil)) else {
            Issue.record("the key was not deleted")
            return
        }
        #expect(deleted.outcome == .deleted)
        guard case .applied(.space(let refused))? = try answer(cluster, leader, .command(GroupID(1), [1, 2, 3])) else {
            Issue.record("bytes that nobody can read are judged by the machine")
            return
        }
        #expect(refused.outcome == .refused(.malformed))
    }
}
