import ClusterBase
import FleetModel
import Testing

/// For whom anything is made, and of which priority.
@Suite struct CellTenantsTests {
    private func bench(_ level: UInt32 = FeatureLevel.knownTenants) throws -> CellBench {
        var cell = try CellBench(hosts: 1)
        cell.level = level
        cell.setsTenants = false
        return cell
    }

    private func creation(_ name: String, tenant: String = "t", priority: Int32 = 0) -> VMCreation {
        var spec = CellBench.spec()
        spec.priority = priority
        return VMCreation(name: name, tenant: tenant, spec: spec)
    }

    private func create(_ name: String, tenant: String = "t", priority: Int32 = 0) -> CellCommand.Operation {
        .createVMs([creation(name, tenant: tenant, priority: priority)], isAtomic: false)
    }

    private func group(_ name: String, _ tenant: String = "t") -> CellCommand.Operation {
        .putGroup(CellGroup(name: name, tenant: tenant, rule: .pack))
    }

    @Test func `nothing is made for a tenant that nobody set, and the sentence says how it is set`() throws {
        var cell = try bench()
        #expect(try cell.refusal(create("a")) == .unknownTenant("t"))
        #expect(try cell.refusal(group("g")) == .unknownTenant("t"))
        #expect(CellRefusal.unknownTenant("t").description.contains("muster tenant set t"))
        #expect(try cell.slice("t") == nil, "a refusal leaves nothing behind")
        try cell.must(.setSlice(tenant: "t", revision: Revision(20), Quota(vmCount: 1), through: LogIndex(1)))
        try cell.create("a")
        try cell.must(group("g"))
        #expect(
            try cell.refusal(create("b"))
                == .quotaExceeded(tenant: "t", resource: "VMs", limit: 1, used: 1, asked: 1))
    }

    @Test func `the tenant default is there before anybody sets it`() throws {
        var cell = try bench()
        try cell.create("a", tenant: Quota.tenantAlwaysThere)
        try cell.must(group("g", Quota.tenantAlwaysThere))
    }

    @Test func `what a tenant had before tenants had to be set goes on, is changed and deleted`() throws {
        var cell = try bench(FeatureLevel.knownTenants - 1)
        let id = try cell.create("a")
        try cell.must(group("g"))
        cell.level = FeatureLevel.knownTenants
        #expect(try cell.refusal(create("b")) == .unknownTenant("t"))
        try cell.place(id, on: 1)
        try cell.must(.updateVM(id, CellBench.spec(2), generation: nil))
        try cell.must(.putGroup(CellGroup(name: "g", tenant: "t", rule: .affinity)))
        try cell.must(.setPower(id, .stopped, generation: nil))
        try cell.must(.deleteGroup(tenant: "t", name: "g"))
        try cell.must(.deleteVM(id, generation: nil))
    }

    @Test func `a tenant that is gone gets nothing more, and is not set by one who has not heard of that`() throws {
        var cell = try bench()
        let old = Revision(index: LogIndex(20), slot: 0)
        try cell.must(.setSlice(tenant: "t", revision: old, .unlimited, through: LogIndex(20)))
        let id = try cell.create("a")
        try cell.must(.returnSlice(tenant: "t", revision: .end(of: LogIndex(30))))
        #expect(try cell.refusal(create("b")) == .unknownTenant("t"))
        // A leader whose copy of the root is behind, or one of before there was such a field.
        for through in [LogIndex(29), .zero] {
            try cell.must(.setSlice(tenant: "t", revision: old, .unlimited, through: through))
            #expect(try cell.refusal(create("b")) == .unknownTenant("t"))
        }
        // It was made again.
        let new = Revision(index: LogIndex(31), slot: 0)
        try cell.must(.setSlice(tenant: "t", revision: new, Quota(vmCount: 2), through: LogIndex(31)))
        try cell.create("b")
        #expect(try cell.slice("t")?.usedCount == 2 && cell.vm(id).name == "a")
        // Another one that was there all the time comes by what is known by then.
        try cell.must(.setSlice(tenant: "u", revision: old, .unlimited, through: LogIndex(30)))
        try cell.create("c", tenant: "u")
    }

    @Test func `a restored cell hears of tenants from a root that counts anew`() throws {
        var cell = try bench()
        let revision = Revision(index: LogIndex(20), slot: 0)
        try cell.must(.setSlice(tenant: "t", revision: revision, .unlimited, through: LogIndex(20)))
        try cell.must(.returnSlice(tenant: "t", revision: .end(of: LogIndex(1_000))))
        cell.index = LogIndex(5)
        try Cell.restore(at: cell.index, &cell.state)
        try cell.must(
            .setSlice(tenant: "t", revision: Revision(index: LogIndex(8), slot: 0), .unlimited, through: LogIndex(8)))
        try cell.create("a")
    }

    @Test func `a creation that was refused for want of its tenant is carried out under the same id when it is there`()
        throws
    {
        var cell = try bench()
        let command = CellCommand(request: CellBench.request(1), by: "test", create("a"))
        #expect(try cell.apply([command])[0].unknownTenants == ["t"])
        try cell.must(.setSlice(tenant: "t", revision: Revision(20), .unlimited, through: LogIndex(1)))
        let made = try cell.apply([command])[0]
        guard case .items(let items) = made.outcome, case .vm? = items.first else {
            Issue.record("\(made)")
            return
        }
        #expect(try cell.apply([command])[0] == made, "and once")
        // Where something came of it, all of it is kept.
        let mixed = CellCommand(
            request: CellBench.request(2), by: "test",
            .createVMs([creation("b"), creation("b", tenant: "u")], isAtomic: false))
        let half = try cell.apply([mixed])[0]
        #expect(!half.isForUnknownTenant && half.unknownTenants == ["u"])
        #expect(try cell.apply([mixed])[0] == half)
    }

    @Test func `who reaches a tenant alone gives its VMs the priorities that it may have, and operators give any`()
        throws
    {
        var cell = try bench()
        try cell.must(.setSlice(tenant: "t", revision: Revision(20), Quota(priorityMax: 10), through: LogIndex(1)))
        func ask(_ operation: CellCommand.Operation, isBounded: Bool = true) throws -> CellResult.Outcome {
            let command = CellCommand(by: "test", isBounded: isBounded, operation)
            #expect(command.level == (isBounded ? FeatureLevel.knownTenants : FeatureLevel.oldest))
            #expect(CellCommand.decode(command.encoded()) == .success(command))
            return try cell.apply([command])[0].outcome
        }
        let tooHigh = CellRefusal.priorityTooHigh(tenant: "t", most: 10, asked: 11)
        #expect(tooHigh.description.contains("muster tenant set t --priority-max"))
        #expect(try ask(create("a", priority: 11)) == .items([.refused(tooHigh)]))
        let low = VMID(1 << 40 | 1)
        #expect(try ask(create("a", priority: 10)) == .items([.vm(low)]))
        let high = VMID(1 << 40 | 2)
        #expect(try ask(create("b", priority: 50), isBounded: false) == .items([.vm(high)]))
        func spec(_ priority: Int32, _ cores: Int64 = 1) -> VMDescription {
            var spec = CellBench.spec(cores)
            spec.priority = priority
            return spec
        }
        #expect(try ask(.updateVM(low, spec(11), generation: nil)) == .refused(tooHigh))
        // What an operator gave stays through all that its owner changes, and may be made less.
        #expect(try ask(.updateVM(high, spec(50, 2), generation: nil)) == .done)
        #expect(try ask(.updateVM(high, spec(40), generation: nil)) == .done)
        #expect(
            try ask(.updateVM(high, spec(41), generation: nil))
                == .refused(.priorityTooHigh(tenant: "t", most: 10, asked: 41)))
        // Nobody set it: the tenant that is always there has the bound that all have.
        #expect(
            try ask(create("c", tenant: Quota.tenantAlwaysThere, priority: 1))
                == .items([.refused(.priorityTooHigh(tenant: Quota.tenantAlwaysThere, most: 0, asked: 1))]))
    }

    @Test func `before its level opens nobody speaks of a bound of priority`() {
        #expect(
            CellCommand.Operation.setSlice(tenant: "t", revision: Revision(1), .unlimited).level == FeatureLevel.oldest)
        for operation in [
            CellCommand.Operation.setSlice(tenant: "t", revision: Revision(1), Quota(priorityMax: 1)),
            .setSlice(tenant: "t", revision: Revision(1), .unlimited, through: LogIndex(1)),
        ] {
            #expect(operation.level == FeatureLevel.knownTenants)
            let command = CellCommand(by: "test", operation)
            #expect(CellCommand.decode(command.encoded(), level: FeatureLevel.knownTenants - 1) == .failure(.malformed))
            #expect(CellCommand.decode(command.encoded()) == .success(command))
        }
        #expect(
            RootCommand.Operation.setTenant(name: "t", Quota(priorityMax: 1), tier: "").level
                == FeatureLevel.knownTenants)
        #expect(RootCommand.Operation.setTenant(name: "t", Quota(vmCount: 1), tier: "").level == FeatureLevel.oldest)
    }
}
