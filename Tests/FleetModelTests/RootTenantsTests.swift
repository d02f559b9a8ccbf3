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

    // MARK: Who reaches one alone

    private static func bearer(_ name: String, _ role: Operator.Role, of scope: String, _ byte: UInt8) -> Operator {
        Operator(name: name, role: role, scope: scope, kind: .bearer, credential: RootBench.hash(byte))
    }

    /// Names of operators, as a follower of the root knows them.
    private func operators(_ root: RootBench) throws -> [String] { try root.view().operators.map(\.name).sorted() }

    @Test func `roles of a tenant end with it, and one made again under its name is not reached by them`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.scopedRoles
        for name in ["shop", "bank"] { _ = try root.apply(.createTenant(name: name, .unlimited, tier: "")) }
        _ = try root.space("shop", replicas: 1, on: [NodeID(1)])
        for (at, one) in [
            ("reads", Operator.Role.tenantReader, "shop"), ("writes", .tenantWriter, "shop"),
            ("other", .tenantWriter, "bank"), ("keys", .spaceReader, "shop"),
        ].enumerated() {
            let added = RootTenantsTests.bearer(one.0, one.1, of: one.2, UInt8(60 + at))
            #expect(try root.apply(.addOperator(added)) == .done)
        }
        var follower = try root.view()
        #expect(try root.apply(.deleteTenant(name: "shop")) == .done)
        #expect(try operators(root) == ["admin", "keys", "other"])
        _ = try root.follow(&follower)
        #expect(follower.operators.map(\.name).sorted() == ["admin", "keys", "other"], "who followed knows it, too")
        #expect(try root.read(.operatorWith(credential: RootBench.hash(60))).records(Operator.self) == [])
        #expect(try root.apply(.createTenant(name: "shop", .unlimited, tier: "")) == .done)
        #expect(try operators(root) == ["admin", "keys", "other"])
        // The same secret may be given a role again.
        let again = RootTenantsTests.bearer("reads", .tenantReader, of: "shop", 60)
        #expect(try root.apply(.addOperator(again)) == .done)
        #expect(try operators(root) == ["admin", "keys", "other", "reads"])
    }

    @Test func `roles of a space end with it`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.scopedRoles
        _ = try root.apply(.createTenant(name: "box", .unlimited, tier: ""))
        _ = try root.space("box", replicas: 1, on: [NodeID(1)])
        _ = try root.apply(.addOperator(RootTenantsTests.bearer("keys", .spaceWriter, of: "box", 60)))
        _ = try root.apply(.addOperator(RootTenantsTests.bearer("vms", .tenantWriter, of: "box", 61)))
        _ = try root.apply(.deleteSpace(name: "box"))
        #expect(try operators(root) == ["admin", "vms"])
        _ = try root.space("box", replicas: 1, on: [NodeID(1)])
        #expect(try operators(root) == ["admin", "vms"])
    }

    @Test func `a role of a tenant or a space that is not there is refused, and of the tenant that always is not`()
        throws
    {
        var root = try RootBench()
        root.level = FeatureLevel.scopedRoles
        func add(_ role: Operator.Role, _ scope: String, _ byte: UInt8) throws -> RootResult.Outcome {
            try root.apply(.addOperator(RootTenantsTests.bearer("t\(byte)", role, of: scope, byte)))
        }
        #expect(try add(.tenantReader, "shop", 60) == .refused(.unknownTenant("shop")))
        #expect(try add(.spaceWriter, "box", 61) == .refused(.unknownSpace("box")))
        #expect(try operators(root) == ["admin"])
        #expect(try add(.tenantWriter, Quota.tenantAlwaysThere, 62) == .done)
        // That it has bounds from now on concerns nobody who reaches it; that it is deleted, everybody.
        #expect(try root.apply(.createTenant(name: Quota.tenantAlwaysThere, Quota(vmCount: 3), tier: "")) == .done)
        #expect(try operators(root) == ["admin", "t62"])
        #expect(try root.apply(.deleteTenant(name: Quota.tenantAlwaysThere)) == .done)
        #expect(try operators(root) == ["admin"])
    }

    @Test func `roles of before their feature level stay, and are gone when their tenant is made again after it`()
        throws
    {
        var root = try RootBench()
        root.level = FeatureLevel.scopedRoles - 1
        #expect(try root.apply(.addOperator(RootTenantsTests.bearer("early", .tenantReader, of: "shop", 60))) == .done)
        _ = try root.apply(.createTenant(name: "shop", .unlimited, tier: ""))
        _ = try root.apply(.deleteTenant(name: "shop"))
        #expect(try operators(root) == ["admin", "early"])
        root.level = FeatureLevel.scopedRoles
        _ = try root.apply(.createTenant(name: "shop", .unlimited, tier: ""))
        #expect(try operators(root) == ["admin"])
    }
}
