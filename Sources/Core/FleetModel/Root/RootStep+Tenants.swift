import ClusterBase

// Cells, and who may have how much in them.

extension RootStep {
    mutating func createCell(
        _ name: String, _ replicas: UInt32, _ cluster: inout RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        if !RootCheck.isName(name) { return .refused(.invalid(.name)) }
        let replicas = replicas == 0 ? UInt32(clamping: settings[.spaceReplicas]) : replicas
        if !RootSetting.spaceReplicas.allows(UInt64(replicas)) { return .refused(.invalid(.replicas)) }
        if try access.record(RootCell.self, RootTable.cells.key(name)) != nil { return .refused(.cellExists(name)) }
        // As with other groups: above all that lost history can have given out, in fewer bits.
        let number = max(cluster.cellHighest, cluster.epoch.rawValue << 12) + 1
        if summary.cells >= RootLimits.cellsMax || number > RootLimits.cellNumberMax {
            return .refused(.tooMany(.cells))
        }
        let group = GroupID(.cell, number: number)
        cluster.cellHighest = number
        put(cluster)
        put(RootCell(name: name, group: group, replicas: replicas, createdAt: time, createdBy: by))
        put(GroupPlacement(group: group, revision: revision))
        summary.cells += 1
        return .done
    }

    mutating func createTenant(
        _ name: String, _ quota: Quota, _ tier: String
    ) throws(StoreError) -> RootResult.Outcome {
        if let refusal = RootStep.refusal(name, quota, tier) { return .refused(refusal) }
        if try access.record(RootTenant.self, RootTable.tenants.key(name)) != nil {
            return .refused(.tenantExists(name))
        }
        if summary.tenants >= RootLimits.tenantsMax { return .refused(.tooMany(.tenants)) }
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
        return .done
    }

    private static func refusal(_ name: String, _ quota: Quota, _ tier: String) -> RootRefusal? {
        if !RootCheck.isName(name) { return .invalid(.name) }
        if !RootCheck.isText(tier) { return .invalid(.tier) }
        return CellCheck.refusal(of: quota) == nil ? nil : .invalid(.quota)
    }
}
