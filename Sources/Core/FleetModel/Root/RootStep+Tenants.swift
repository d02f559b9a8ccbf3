import ClusterBase

// Who may have how much in all cells together.

extension RootStep {
    mutating func createTenant(
        _ name: String, _ quota: Quota, _ tier: String
    ) throws(StoreError) -> RootResult.Outcome {
        if let refusal = RootStep.refusal(name, quota, tier) { return .refused(refusal) }
        if try access.record(RootTenant.self, RootTable.tenants.key(name)) != nil {
            return .refused(.tenantExists(name))
        }
        if summary.tenants >= RootLimits.tenantsMax { return .refused(.tooMany(.tenants)) }
        // Of one that was deleted before roles ended with their tenants. Of the one that is always there nobody is a stranger.
        if name != Quota.tenantAlwaysThere { try endRoles(ofTenant: name) }
        put(RootTenant(name: name, quota: quota, tier: tier, revision: revision, createdAt: time, createdBy: by))
        summary.tenants += 1
        return .done
    }

    mutating func setTenant(
        _ name: String, _ quota: Quota, _ tier: String
    ) throws(StoreError) -> RootResult.Outcome {
        if let refusal = RootStep.refusal(name, quota, tier) { return .refused(refusal) }
        guard var tenant = try access.record(RootTenant.self, RootTable.tenants.key(name)) else {
            return .refused(.unknownTenant(name))
        }
        if tenant.quota == quota && tenant.tier == tier { return .done }
        tenant.quota = quota
        tenant.tier = tier
        tenant.revision = revision
        put(tenant)
        return .done
    }

    mutating func deleteTenant(_ name: String) throws(StoreError) -> RootResult.Outcome {
        guard let tenant = try access.record(RootTenant.self, RootTable.tenants.key(name)) else {
            return .refused(.unknownTenant(name))
        }
        delete(tenant)
        summary.tenants -= 1
        try endRoles(ofTenant: name)
        return .done
    }

    private static func refusal(_ name: String, _ quota: Quota, _ tier: String) -> RootRefusal? {
        if !RootCheck.isName(name) { return .invalid(.name) }
        if !RootCheck.isText(tier) { return .invalid(.tier) }
        return CellCheck.refusal(of: quota) == nil ? nil : .invalid(.quota)
    }
}
