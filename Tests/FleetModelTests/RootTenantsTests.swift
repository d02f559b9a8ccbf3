import ClusterBase
import FleetModel
import Testing

@Suite struct RootTenantsTests {
    @Test func `a cell is made once, numbered apart from spaces, and placed like their groups`() throws {
        var root = try RootBench()
        let space = try root.space("s", replicas: 1, on: [NodeID(1)])
        #expect(try root.apply(.createCell(name: "default", replicas: 0)) == .done)
        #expect(try root.apply(.createCell(name: "default", replicas: 0)) == .refused(.cellExists("default")))
        #expect(try root.apply(.createCell(name: "Bad", replicas: 0)) == .refused(.invalid(.name)))
        let cell = try #require(try root.view().cell("default"))
        #expect(cell.group == GroupID(.cell, number: 1) && cell.replicas == 3 && space == GroupID(.space, number: 1))
        #expect(try root.apply(.foundGroup(cell.group, nodes: [NodeID(1)])) == .done)
        #expect(try root.placement(cell.group).founders.count == 1)
    }

    @Test func `after a forced recovery of the root a cell gets a number that lost history has not given out`() throws {
        var root = try RootBench()
        let record = RecoveryRecord(group: .root, epoch: Epoch(2), possibleLossAfter: LogIndex(1), reason: "")
        _ = try root.apply(.recordRecovery(record))
        _ = try root.apply(.createCell(name: "default", replicas: 1))
        #expect(try root.view().cell("default")?.group == GroupID(.cell, number: 2 << 12 + 1))
    }

    @Test func `tenants have a quota, a tier and the revision of their last change`() throws {
        var root = try RootBench()
        #expect(try root.apply(.setTenant(name: "t", .unlimited, tier: "")) == .refused(.unknownTenant("t")))
        #expect(try root.apply(.createTenant(name: "t", Quota(vmCount: 3), tier: "gold")) == .done)
        #expect(try root.apply(.createTenant(name: "t", .unlimited, tier: "")) == .refused(.tenantExists("t")))
        #expect(try root.apply(.createTenant(name: "u", Quota(cpuMillis: -1), tier: "")) == .refused(.invalid(.quota)))
        let first = try #require(try root.view().tenant("t"))
        #expect(first.quota == Quota(vmCount: 3) && first.tier == "gold" && first.revision > .zero)
        #expect(try root.apply(.setTenant(name: "t", Quota(vmCount: 3), tier: "gold")) == .done)
        #expect(try root.view().tenant("t") == first, "nothing changed")
        #expect(try root.apply(.setTenant(name: "t", Quota(vmCount: 2), tier: "gold")) == .done)
        #expect(try #require(try root.view().tenant("t")).revision > first.revision)
        #expect(try root.apply(.deleteTenant(name: "t")) == .done)
        #expect(try root.apply(.deleteTenant(name: "t")) == .refused(.unknownTenant("t")))
        #expect(try root.view().tenants.isEmpty)
    }
}
