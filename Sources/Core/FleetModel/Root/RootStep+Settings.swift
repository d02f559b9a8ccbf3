import ClusterBase

// Authorities, operators, settings, feature levels and backups.

extension RootStep {
    // MARK: Authorities

    mutating func trust(
        _ fingerprint: [UInt8], _ certificate: [UInt8]
    ) throws(StoreError) -> RootResult.Outcome {
        if !RootCheck.isHash(fingerprint) { return .refused(.invalid(.fingerprint)) }
        if !RootCheck.isCertificate(certificate) { return .refused(.invalid(.certificate)) }
        let trusted = try all(Authority.self)
        if trusted.contains(where: { $0.fingerprint == fingerprint }) { return .refused(.authorityExists) }
        if trusted.count >= RootLimits.authoritiesMax { return .refused(.tooMany(.authorities)) }
        put(Authority(fingerprint: fingerprint, certificate: certificate, signs: false, since: time))
        return .done
    }

    /// Whoever does not trust an authority can neither be reached nor hear of it once that one signs.
    mutating func sign(with fingerprint: [UInt8], _ cluster: RootCluster) throws(StoreError) -> RootResult.Outcome {
        let trusted = try all(Authority.self)
        guard trusted.contains(where: { $0.fingerprint == fingerprint }) else { return .refused(.unknownAuthority) }
        if cluster.level >= FeatureLevel.trustTold {
            let doubter = try all(RootNode.self).first {
                $0.state != .removed && !$0.about.trusts.contains(fingerprint)
            }
            if let doubter { return .refused(.authorityDoubted(doubter.id)) }
        }
        for var authority in trusted where authority.signs != (authority.fingerprint == fingerprint) {
            authority.signs.toggle()
            authority.since = time
            put(authority)
        }
        return .done
    }

    mutating func distrust(_ fingerprint: [UInt8]) throws(StoreError) -> RootResult.Outcome {
        guard let authority = try access.record(Authority.self, RootTable.authorities.key(fingerprint)) else {
            return .refused(.unknownAuthority)
        }
        if authority.signs { return .refused(.authoritySigns) }
        for node in try all(RootNode.self) where node.state != .removed {
            // A renewed one may not have reached the node's disk yet.
            if node.certificate?.issuer == fingerprint || node.about.issuer == fingerprint {
                return .refused(.authorityInUse(node.id))
            }
        }
        delete(authority)
        return .done
    }

    // MARK: Operators

    mutating func add(_ added: Operator) throws(StoreError) -> RootResult.Outcome {
        if !RootCheck.isName(added.name) { return .refused(.invalid(.name)) }
        if added.role.hasScope ? !RootCheck.isName(added.scope) : !added.scope.isEmpty {
            return .refused(.invalid(.name))
        }
        if !RootCheck.isHash(added.credential) { return .refused(.invalid(.hash)) }
        if let refusal = try refusal(ofScopeOf: added) { return .refused(refusal) }
        if let end = added.expiresAt, end <= time || end > time.advanced(by: RootLimits.lifetimeMax) {
            return .refused(.invalid(.expiry))
        }
        if try access.record(Operator.self, added.rowKey) != nil { return .refused(.operatorExists(added.name)) }
        if let owner = try access.value(for: RootKey.credential(added.credential)) {
            return .refused(.credentialTaken(String(decoding: owner, as: UTF8.self)))
        }
        if summary.operators >= RootLimits.operatorsMax { return .refused(.tooMany(.operators)) }
        var kept = added
        kept.createdAt = time
        put(kept)
        access.put(RootKey.credential(added.credential), Array(added.name.utf8))
        summary.operators += 1
        return .done
    }

    mutating func removeOperator(_ name: String) throws(StoreError) -> RootResult.Outcome {
        let known = try all(Operator.self)
        guard let gone = known.first(where: { $0.name == name }) else { return .refused(.unknownOperator(name)) }
        // One who expires is no one to count on.
        let isLast = !known.contains { $0.name != name && $0.role == .administrator && $0.expiresAt == nil }
        if gone.role == .administrator && isLast { return .refused(.lastAdministrator) }
        remove(gone)
        return .done
    }

    private mutating func remove(_ gone: Operator) {
        delete(gone)
        access.delete(RootKey.credential(gone.credential))
        summary.operators -= 1
    }

    /// What a role reaches alone is there.
    private func refusal(ofScopeOf added: Operator) throws(StoreError) -> RootRefusal? {
        if level < FeatureLevel.scopedRoles { return nil }
        switch added.role {
        case .reader, .writer, .administrator: return nil
        case .tenantReader, .tenantWriter:
            let isThere = try access.value(for: RootTable.tenants.key(added.scope)) != nil
            return isThere || added.scope == Quota.tenantAlwaysThere ? nil : .unknownTenant(added.scope)
        case .spaceReader, .spaceWriter:
            return try access.value(for: RootTable.spaces.key(added.scope)) == nil ? .unknownSpace(added.scope) : nil
        }
    }

    /// Those who reach a tenant alone go with it; one that is made again under its name is not reached by them.
    mutating func endRoles(ofTenant name: String) throws(StoreError) {
        try endRoles([.tenantReader, .tenantWriter], of: name)
    }

    /// The same of a space.
    mutating func endRoles(ofSpace name: String) throws(StoreError) {
        try endRoles([.spaceReader, .spaceWriter], of: name)
    }

    private mutating func endRoles(_ roles: [Operator.Role], of scope: String) throws(StoreError) {
        if level < FeatureLevel.scopedRoles { return }
        for known in try all(Operator.self) where roles.contains(known.role) && known.scope == scope { remove(known) }
    }

    // MARK: Settings and levels

    mutating func change(_ setting: RootSetting, _ value: UInt64) -> RootResult.Outcome {
        if !setting.allows(value) { return .refused(.settingOutOfRange(setting)) }
        if settings[setting] == value { return .done }
        settings[setting] = value
        let row = RootSettingValue(setting, value)
        if value == setting.standard { delete(row) } else { put(row) }
        return .done
    }

    mutating func finalize(
        _ level: UInt32, _ cluster: inout RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        if level == cluster.level { return .done }
        // One by one, so that each level's own step from the one before has been tried.
        guard cluster.level < .max, level == cluster.level + 1 else {
            return .refused(.levelNotNext(cluster.level + 1))
        }
        for node in try all(RootNode.self) where node.state != .removed && node.about.level < level {
            return .refused(.levelNotUnderstood(node.id))
        }
        cluster.level = level
        put(cluster)
        return .done
    }

    /// Two hosts may have marked a new domain at once, perhaps not the same storage: the first one's is the domain. Another mark
    /// takes its place only for whoever knows the one before.
    mutating func markDomain(
        _ name: String, _ mark: [UInt8], _ before: [UInt8], _ cluster: inout RootCluster
    ) -> RootResult.Outcome {
        if name.isEmpty || !RootCheck.isText(name) { return .refused(.invalid(.name)) }
        if !RootCheck.isHash(mark) { return .refused(.invalid(.hash)) }
        let at = cluster.domains.firstIndex { $0.name >= name } ?? cluster.domains.count
        let known = at < cluster.domains.count && cluster.domains[at].name == name ? cluster.domains[at].mark : []
        if known == mark { return .done }
        if known != before { return .refused(.domainMarked(name)) }
        if !known.isEmpty {
            cluster.domains[at].mark = mark
        } else {
            if cluster.domains.count >= RootLimits.domainsMax { return .refused(.tooMany(.domains)) }
            cluster.domains.insert(DomainMark(name: name, mark: mark), at: at)
        }
        put(cluster)
        return .done
    }

    /// Two nodes may have made a key at once: the one whose name comes first is the cluster's.
    mutating func nameSealingKey(_ hash: [UInt8], _ cluster: inout RootCluster) -> RootResult.Outcome {
        if !RootCheck.isHash(hash) { return .refused(.invalid(.hash)) }
        if cluster.sealingKey == hash { return .done }
        if !cluster.sealingKey.isEmpty { return .refused(.sealingKeyNamed) }
        cluster.sealingKey = hash
        put(cluster)
        return .done
    }

    /// A rotation ends before the next one begins. Of what two leaders do at once, the first of each step counts.
    mutating func rotateSealingKey(
        _ step: RootCommand.SealingStep, _ hash: [UInt8], _ cluster: inout RootCluster
    ) -> RootResult.Outcome {
        if step == .begin ? !hash.isEmpty : !RootCheck.isHash(hash) { return .refused(.invalid(.hash)) }
        switch step {
        case .begin:
            if cluster.sealingKey.isEmpty || cluster.sealingRotates || !cluster.sealingKeyBefore.isEmpty {
                return .refused(.sealingKeyRotates)
            }
            cluster.sealingRotates = true
        case .offer:
            // Whoever made the one before may be gone, and it sealed nothing.
            if !cluster.sealingRotates || hash == cluster.sealingKey { return .refused(.sealingStepOver) }
            cluster.sealingKeyNext = hash
        case .use:
            if cluster.sealingKey == hash { return .done }
            if !cluster.sealingRotates || cluster.sealingKeyNext != hash { return .refused(.sealingStepOver) }
            cluster.sealingKeyBefore = cluster.sealingKey
            cluster.sealingKey = hash
            cluster.sealingKeyNext = []
            cluster.sealingRotates = false
        case .drop:
            if cluster.sealingKeyBefore != hash { return .refused(.sealingStepOver) }
            cluster.sealingKeyBefore = []
        }
        put(cluster)
        return .done
    }

    // MARK: Backups

    mutating func set(_ schedule: BackupSchedule) throws(StoreError) -> RootResult.Outcome {
        if !RootCheck.isName(schedule.name) { return .refused(.invalid(.name)) }
        if !(60_000...365 * 24 * 3_600_000).contains(schedule.interval) { return .refused(.invalid(.interval)) }
        if !(1...10_000).contains(schedule.keep) { return .refused(.invalid(.keep)) }
        if schedule.destination.isEmpty || !RootCheck.isText(schedule.destination) {
            return .refused(.invalid(.destination))
        }
        if !RootCheck.isText(schedule.keyName) { return .refused(.invalid(.note)) }
        var kept = schedule
        let known = try access.record(BackupSchedule.self, schedule.rowKey)
        if known == nil {
            if summary.backups >= RootLimits.backupsMax { return .refused(.tooMany(.backups)) }
            summary.backups += 1
        }
        kept.finishedAt = known?.finishedAt ?? .zero
        kept.succeededAt = known?.succeededAt ?? .zero
        kept.outcome = known?.outcome ?? ""
        put(kept)
        return .done
    }

    mutating func removeBackup(_ name: String) throws(StoreError) -> RootResult.Outcome {
        guard let known = try access.record(BackupSchedule.self, RootTable.backups.key(name)) else {
            return .refused(.unknownBackup(name))
        }
        delete(known)
        summary.backups -= 1
        return .done
    }

    mutating func noteBackup(
        _ name: String, _ succeeded: Bool, _ outcome: String
    ) throws(StoreError) -> RootResult.Outcome {
        if !RootCheck.isText(outcome) { return .refused(.invalid(.outcome)) }
        guard var known = try access.record(BackupSchedule.self, RootTable.backups.key(name)) else {
            return .refused(.unknownBackup(name))
        }
        known.finishedAt = time
        if succeeded { known.succeededAt = time }
        known.outcome = outcome
        put(known)
        return .done
    }
}
