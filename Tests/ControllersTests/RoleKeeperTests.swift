import ClusterBase
import Controllers
import FleetModel
import RaftCore
import Testing

@Suite struct RoleKeeperTests {
    @Test func `one node votes alone, a second stands by, a third makes three voters`() throws {
        let world = try World()
        try world.run(seconds: 30)
        #expect(world.nodes(of: .root, .voter) == [1])
        try world.join()
        try world.run(seconds: 60)
        #expect(world.nodes(of: .root, .voter) == [1])
        #expect(world.nodes(of: .root, .learner) == [2])
        try world.join()
        try world.run(seconds: 60)
        #expect(world.nodes(of: .root, .voter) == [1, 2, 3])
        #expect(world.nodes(of: .root, .learner) == [])
    }

    @Test func `three nodes that have just come bear a loss within seconds`() throws {
        let world = try World()
        for _ in 0..<2 { try world.join() }
        try world.run(seconds: 5)
        #expect(world.nodes(of: .root, .voter) == [1, 2, 3])
        #expect(world.groups.allSatisfy { $0.members.count { $0.role == .voter } == 3 })
    }

    @Test func `the next nodes stand by, and five vote when the operator wants five`() throws {
        let world = try World()
        for _ in 0..<6 { try world.join() }
        try world.run(seconds: 90)
        #expect(world.nodes(of: .root, .voter).count == 3)
        #expect(world.nodes(of: .root, .learner).count == 2)
        try world.ask(.changeSetting(.rootVoters, 5))
        try world.run(seconds: 120)
        #expect(world.nodes(of: .root, .voter).count == 5)
        #expect(world.nodes(of: .root, .learner).count == 2)
        try world.ask(.changeSetting(.rootVoters, 3))
        try world.run(seconds: 120)
        #expect(world.nodes(of: .root, .voter).count == 3)
        #expect(world.nodes(of: .root, .learner).count == 2)
    }

    @Test func `voters spread over zones that come later`() throws {
        let world = try World(zone: "a")
        try world.join("a")
        try world.join("a")
        try world.run(seconds: 60)
        #expect(world.nodes(of: .root, .voter) == [1, 2, 3])
        try world.join("b")
        try world.join("c")
        try world.run(seconds: 200)
        let zones = Set(world.nodes(of: .root, .voter).map { $0 <= 3 ? "a" : $0 == 4 ? "b" : "c" })
        #expect(zones.count == 3, "\(world.nodes(of: .root, .voter))")
    }

    @Test func `the root's voters spread over regions that come later, and nobody else's do`() throws {
        let world = try World(zone: "a")
        for zone in ["b", "c"] { try world.join(zone) }
        try world.run(seconds: 60)
        #expect(world.nodes(of: .root, .voter) == [1, 2, 3])
        for region in ["north", "south"] {
            for zone in ["a", "b", "c"] { try world.join(zone, region: region) }
        }
        try world.run(seconds: 300)
        let regions = world.nodes(of: .root, .voter).compactMap { world.view.node(NodeID($0))?.about.locality.region }
        #expect(regions.sorted() == ["north", "r", "south"])
        let cell = try #require(world.view.cells.first?.group)
        #expect(world.nodes(of: cell, .voter) == [1, 2, 3])
    }

    @Test func `a dead voter is replaced by a standby after the set time and not before`() throws {
        let world = try World()
        for _ in 0..<4 { try world.join() }
        try world.run(seconds: 90)
        let voters = world.nodes(of: .root, .voter)
        let standbys = world.nodes(of: .root, .learner)
        #expect(voters.count == 3 && standbys.count == 2)
        try world.ask(.changeSetting(.replaceAfter, 60_000))
        let lost = try #require(voters.first { $0 != 1 })
        world.set(NodeID(lost), isUp: false)
        let before = world.planned
        try world.run(seconds: 59)
        #expect(world.planned == before)
        try world.run(seconds: 5)
        let after = world.nodes(of: .root, .voter)
        #expect(after.count == 3 && !after.contains(lost), "\(after)")
        let entered = after.filter { !voters.contains($0) }
        #expect(entered.allSatisfy { standbys.contains($0) }, "the standby was caught up: it enters at once")
        try world.run(seconds: 60)
        #expect(!world.nodes(of: .root, .learner).contains(lost))
    }

    @Test func `a node that comes and goes changes nothing`() throws {
        let world = try World()
        for _ in 0..<5 { try world.join() }
        let group = try world.space("s")
        try world.run(seconds: 120)
        try world.ask(.changeSetting(.replaceAfter, 60_000))
        let (before, root, space) = (world.planned, world.nodes(of: .root, .voter), world.nodes(of: group, .voter))
        for round in 0..<40 {
            world.set(NodeID(2), isUp: round % 2 == 1)
            world.set(NodeID(6), isUp: round % 3 == 0)
            try world.run(seconds: round % 2 == 1 ? 8 : 29)
        }
        #expect(world.planned == before)
        #expect(world.nodes(of: .root, .voter) == root && world.nodes(of: group, .voter) == space)
    }

    @Test func `a node that flaps is given nothing`() throws {
        let world = try World()
        for _ in 0..<2 { try world.join() }
        try world.run(seconds: 60)
        try world.ask(.changeSetting(.replaceAfter, 30_000))
        let flapping = try world.join()
        world.set(NodeID(3), isUp: false)
        for round in 0..<40 {
            world.set(flapping, isUp: round % 2 == 0)
            try world.run(seconds: round % 2 == 0 ? 3 : 7)
        }
        #expect(world.nodes(of: .root, .voter) == [1, 2, 3], "nobody steady could take the place")
        world.set(flapping, isUp: true)
        try world.run(seconds: 60)
        #expect(world.nodes(of: .root, .voter) == [1, 2, flapping.rawValue])
    }

    @Test func `a draining node loses its replicas, and can then be removed without force`() throws {
        let world = try World()
        for _ in 0..<4 { try world.join() }
        let groups = try (0..<10).map { try world.space("s\($0)") }
        try world.run(seconds: 120)
        try world.ask(.arrangeNode(NodeID(1), voting: .automatic, isDraining: true))
        try world.run(seconds: 400)
        for group in [GroupID.root] + groups {
            #expect(!world.nodes(of: group, .voter).contains(1) && !world.nodes(of: group, .learner).contains(1))
            #expect(world.nodes(of: group, .voter).count == 3)
        }
        #expect(world.nodes.first?.held == [])
        #expect(try world.ask(.removeNode(NodeID(1), isForced: false)) == .node(NodeID(1)))
    }

    @Test func `a removed node is replaced without waiting`() throws {
        let world = try World()
        for _ in 0..<4 { try world.join() }
        let group = try world.space("s")
        try world.run(seconds: 120)
        let gone = world.nodes(of: group, .voter)[1]
        world.set(NodeID(gone), isUp: false)
        try world.ask(.removeNode(NodeID(gone), isForced: false))
        try world.run(seconds: 60)
        for id in [GroupID.root, group] {
            #expect(world.nodes(of: id, .voter).count == 3 && !world.nodes(of: id, .voter).contains(gone))
            #expect(try !world.placement(id).replicas.contains { $0.node.rawValue == gone })
        }
    }

    @Test func `of three nodes one that is removed leaves two voters, which nothing takes apart`() throws {
        let world = try World()
        for _ in 0..<2 { try world.join() }
        try world.run(seconds: 60)
        world.set(NodeID(2), isUp: false)
        try world.ask(.removeNode(NodeID(2), isForced: false))
        try world.run(seconds: 60)
        #expect(world.nodes(of: .root, .voter) == [1, 3])
        let planned = world.planned
        try world.run(seconds: 600)
        #expect(world.planned == planned)
        try world.join()
        try world.run(seconds: 60)
        #expect(world.nodes(of: .root, .voter) == [1, 3, 4])
    }

    @Test func `a replica that lost its log is replaced under a new id, on the same node when there is no other`()
        throws
    {
        let world = try World()
        for _ in 0..<2 { try world.join() }
        let group = try world.space("s")
        try world.run(seconds: 90)
        let old = try #require(try world.placement(group).replica(on: NodeID(3))).replica
        world.lose(group, on: NodeID(3))
        try world.run(seconds: 90)
        #expect(world.nodes(of: group, .voter) == [1, 2, 3])
        let new = try #require(try world.placement(group).replica(on: NodeID(3))).replica
        #expect(new > old)
    }

    @Test func `losing a zone leaves quorums, and the voters move to the zones that are left`() throws {
        let world = try World(zone: "a")
        for zone in ["b", "c", "a", "b", "c"] { try world.join(zone) }
        let groups = try (0..<6).map { try world.space("s\($0)") }
        try world.run(seconds: 200)
        try world.ask(.changeSetting(.replaceAfter, 60_000))
        world.set(NodeID(3), isUp: false)
        world.set(NodeID(6), isUp: false)
        try world.run(seconds: 300)
        for group in [GroupID.root] + groups {
            let voters = world.nodes(of: group, .voter)
            #expect(voters.count == 3 && !voters.contains(3) && !voters.contains(6), "\(group): \(voters)")
        }
        world.set(NodeID(3), isUp: true)
        world.set(NodeID(6), isUp: true)
        try world.run(seconds: 600)
        for group in groups {
            let zones = Set(world.nodes(of: group, .voter).map { ($0 - 1) % 3 })
            #expect(zones.count == 3, "\(group): \(world.nodes(of: group, .voter))")
        }
    }

    @Test func `many spaces lie evenly over the nodes and over zones`() throws {
        let world = try World(zone: "a")
        for zone in ["b", "c", "a", "b", "c"] { try world.join(zone) }
        try world.run(seconds: 60)
        let groups = try (0..<90).map { try world.space("s\($0)") }
        try world.run(seconds: 60)
        for group in groups {
            let voters = world.nodes(of: group, .voter)
            #expect(Set(voters.map { ($0 - 1) % 3 }).count == 3 && voters.count == 3)
        }
        let loads = world.nodes.map(\.held.count)
        #expect((loads.max() ?? 0) - (loads.min() ?? 0) <= 3, "\(loads)")
    }

    @Test func `a space that was deleted leaves nothing behind`() throws {
        let world = try World()
        for _ in 0..<2 { try world.join() }
        let group = try world.space("s")
        try world.run(seconds: 60)
        #expect(world.nodes.allSatisfy { $0.held.contains { $0.group == group } })
        try world.ask(.deleteSpace(name: "s"))
        try world.run(seconds: 3)
        #expect(world.nodes.allSatisfy { !$0.held.contains { $0.group == group } })
    }

    @Test func `operators' wishes decide who votes in the root`() throws {
        let world = try World()
        for _ in 0..<4 { try world.join() }
        try world.run(seconds: 90)
        let before = world.nodes(of: .root, .voter)
        #expect(before.count == 3 && before.contains(1))
        let wanted = try #require((2...5).first { !before.contains($0) })
        try world.ask(.arrangeNode(NodeID(wanted), voting: .preferred, isDraining: false))
        try world.ask(.arrangeNode(NodeID(1), voting: .never, isDraining: false))
        try world.run(seconds: 200)
        let voters = world.nodes(of: .root, .voter)
        #expect(voters.contains(wanted) && !voters.contains(1) && voters.count == 3, "\(voters)")
    }

    @Test func `after a forced recovery replicas of groups that the root forgot are kept and named`() throws {
        let world = try World()
        let record = RecoveryRecord(group: .root, epoch: Epoch(1), possibleLossAfter: LogIndex(3), reason: "")
        try world.ask(.recordRecovery(record))
        let group = try world.space("s", replicas: 1)
        try world.run(seconds: 3)
        let forgotten = HeldReplica(GroupID(.space, number: 1), ReplicaID(1))
        let duty = Assignments.plan(world.view, node: NodeID(1), held: world.nodes[0].held + [forgotten])
        #expect(duty.orphans == [forgotten] && duty.destructions == [])
        #expect(world.nodes[0].held.contains(HeldReplica(group, ReplicaID(1 << 32 + 1))))
    }

    @Test func `the first cell is made as soon as there is a node, once, and grows with the cluster`() throws {
        let world = try World()
        try world.run(seconds: 30)
        let cell = try #require(world.view.cell(RoleKeeper.firstCell))
        #expect(world.view.cells.count == 1 && cell.group == GroupID(.cell, number: 1))
        #expect(world.nodes(of: cell.group, .voter) == [1])
        for _ in 0..<2 { try world.join() }
        try world.run(seconds: 90)
        #expect(world.nodes(of: cell.group, .voter) == [1, 2, 3])
        #expect(world.view.cells.count == 1)
    }

    @Test
    func
        `a cell that survives a zone has its voters over the zones of its region, and elsewhere only for want of nodes`()
        throws
    {
        let world = try World()
        for zone in ["a", "b"] { try world.join(zone, region: "north") }
        try world.run(seconds: 30)
        try world.ask(.createCell(name: "north", replicas: 3, region: "north", survives: .zone))
        try world.run(seconds: 60)
        let cell = try #require(world.view.cell("north")).group
        #expect(
            world.nodes(of: cell, .voter) == [1, 2, 3], "two are in its region, and one elsewhere is better than none")
        try world.join("a", region: "north")
        try world.run(seconds: 120)
        #expect(world.nodes(of: cell, .voter) == [2, 3, 4])
        try world.join("c", region: "north")
        try world.run(seconds: 120)
        let calm = world.planned
        try world.run(seconds: 300)
        #expect(world.planned == calm, "it comes to rest")
    }

    @Test func `a cell that survives a region has its voters in different regions, one of them at home`() throws {
        let world = try World(zone: "z")
        for zone in ["a", "b", "c"] { try world.join(zone, region: "north") }
        try world.join("a", region: "south")
        try world.run(seconds: 30)
        try world.ask(.createCell(name: "wide", replicas: 3, region: "north", survives: .region))
        try world.run(seconds: 60)
        let cell = try #require(world.view.cell("wide")).group
        let regions = world.nodes(of: cell, .voter).compactMap { world.view.node(NodeID($0))?.about.locality.region }
        #expect(regions.sorted() == ["north", "r", "south"])
        let home = try #require(world.nodes(of: cell, .voter).first { (2...4).contains($0) })
        #expect(world.leadingNode(of: cell) == NodeID(home), "it is led at home")
        world.set(NodeID(home), isUp: false)
        try world.run(seconds: 30)
        #expect(world.leadingNode(of: cell).map { $0 != NodeID(home) } == true, "and elsewhere while nobody is there")
        world.set(NodeID(home), isUp: true)
        try world.run(seconds: 60)
        #expect(world.leadingNode(of: cell) == NodeID(home))
        let calm = world.planned
        try world.run(seconds: 300)
        #expect(world.planned == calm, "it comes to rest")
    }
}
