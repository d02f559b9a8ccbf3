import ClusterBase

// Placement groups with the members that count in each domain, slices, settings, and what is collected as garbage.

extension CellHost {
    /// The part of the cell that it is in for a rule of this scope.
    func domain(_ scope: PlacementGroup.Scope) -> [UInt8] {
        let place = about.locality
        return switch scope {
        case .host: id.rawValue.bigEndianBytes
        case .rack: Array(place.zone.utf8) + [0] + Array(place.rack.utf8)
        case .zone: Array(place.zone.utf8)
        }
    }
}

extension CellStep {
    // MARK: Domains

    /// The domains in which a VM counts, each once.
    mutating func domains(of vm: CellVM, _ scope: PlacementGroup.Scope) throws(StoreError) -> [[UInt8]] {
        var found: [[UInt8]] = []
        for claim in vm.claims {
            guard let host = try host(claim.host) else { continue }
            let domain = host.domain(scope)
            if !found.contains(domain) { found.append(domain) }
        }
        return found
    }

    mutating func followGroups(_ old: CellVM?, _ new: CellVM?, _ tenant: String) throws(StoreError) {
        let before = old?.spec.groups ?? []
        let after = new?.spec.groups ?? []
        if before.isEmpty && after.isEmpty { return }
        if before == after, let old, let new, old.claims == new.claims { return }
        for name in before {
            guard var group = try group(tenant, name) else { continue }
            if let old { for domain in try domains(of: old, group.scope) { try count(group, domain, -1) } }
            if !after.contains(name) {
                group.memberCount -= 1
                put(group)
                if group.isBrought && group.memberCount == 0 { emptied.append(group.id) }
            }
        }
        for name in after {
            guard var group = try group(tenant, name) else { continue }
            if let new { for domain in try domains(of: new, group.scope) { try count(group, domain, 1) } }
            if !before.contains(name) {
                group.memberCount += 1
                put(group)
            }
        }
    }

    /// Counts a VM in, or out, in the domains of all its groups.
    mutating func countDomains(of vm: CellVM, _ sign: Int) throws(StoreError) {
        for name in vm.spec.groups {
            guard let group = try group(vm.tenant, name) else { continue }
            for domain in try domains(of: vm, group.scope) { try count(group, domain, sign) }
        }
    }

    func members(_ group: PlacementGroupID, _ domain: [UInt8]) throws(StoreError) -> UInt64 {
        if let known = domains[group] { return known[domain] ?? 0 }
        return try access.number(CellKey.groupDomain(group, domain)) ?? 0
    }

    mutating func count(_ group: CellGroup, _ domain: [UInt8], _ sign: Int) throws(StoreError) {
        let key = CellKey.groupDomain(group.id, domain)
        var members = try members(group.id, domain)
        if sign > 0 { members += 1 } else { members -= min(1, members) }
        if members == 0 { access.delete(key) } else { access.put(key, members.bigEndianBytes) }
        if domains[group.id] != nil { domains[group.id]?[domain] = members == 0 ? nil : members }
    }

    /// All domains with members of a group: looked up once per entry, and kept up to date in it.
    // hash order: looked up, or read by sorted keys
    mutating func allDomains(_ group: PlacementGroupID) throws(StoreError) -> [[UInt8]: UInt64] {
        if let known = domains[group] { return known }
        // hash order: looked up only
        var found: [[UInt8]: UInt64] = [:]
        var bad: [UInt8]?
        try access.scan(.prefix(CellKey.groupDomains(group))) { key, value in
            guard let count = value.bigEndian64(at: 0) else {
                bad = key
                return false
            }
            found[Array(key.dropFirst(9))] = count
            return true
        }
        if let bad { throw CellKey.corrupt(bad) }
        domains[group] = found
        return found
    }

    // MARK: Domains that take VMs

    /// Counts a host in, or out, as one that takes VMs.
    mutating func countTaking(_ host: CellHost, _ sign: Int) throws(StoreError) {
        guard host.state.takesVMs else { return }
        if sign > 0 { summary.hostsTaking += 1 } else { summary.hostsTaking -= 1 }
        for scope in [PlacementGroup.Scope.rack, .zone] {
            let key = CellKey.taking(scope, host.domain(scope))
            var count = try access.number(key) ?? 0
            if sign > 0 { count += 1 } else { count -= min(1, count) }
            if count == 0 { access.delete(key) } else { access.put(key, count.bigEndianBytes) }
        }
    }

    /// Whether every domain that takes VMs has at least so many members of a group, one of which, in `ignored`, doesn't
    /// count.
    mutating func everyDomain(
        of group: CellGroup, has least: UInt64, ignoring ignored: [[UInt8]]
    ) throws(StoreError) -> Bool {
        if least == 0 { return true }
        let counts = try allDomains(group.id)
        func has(_ domain: [UInt8]) -> Bool {
            (counts[domain] ?? 0) >= least + (ignored.contains(domain) ? 1 : 0)
        }
        if group.scope == .host {
            // The hosts with members are fewer than all: those must be all that take VMs.
            var taking: UInt64 = 0
            for domain in counts.keys.sorted(by: { $0.precedes($1) }) where has(domain) {
                guard let id = domain.bigEndian64(at: 0), let host = try host(HostID(id)) else { continue }
                if host.state.takesVMs { taking += 1 }
            }
            return taking == summary.hostsTaking
        }
        var isTrue = true
        try access.scan(.prefix([CellKey.Kind.taking, group.scope.rawValue])) { key, _ in
            isTrue = has(Array(key.dropFirst(2)))
            return isTrue
        }
        return isTrue
    }

    // MARK: Groups as operators see them

    mutating func putGroup(_ wanted: CellGroup) throws(StoreError) -> CellResult.Outcome {
        if let refusal = CellCheck.refusal(of: wanted) { return .refused(refusal) }
        if summary.isClosed { return .refused(.cellClosed) }
        var kept = wanted
        kept.memberCount = 0
        kept.isBrought = false
        if let known = try group(wanted.tenant, wanted.name) {
            // Members are counted by the domains of the scope.
            if known.scope != wanted.scope && known.memberCount > 0 { return .refused(.groupInUse(wanted.name)) }
            kept.id = known.id
            kept.memberCount = known.memberCount
            if kept == known { return .done }
            note("group.changed", tenant: kept.tenant, kept.name)
        } else {
            let slice = try slice(wanted.tenant)
            if let refusal = refusal(ofNew: slice) { return .refused(refusal) }
            if slices[wanted.tenant]?.record == nil && summary.tenants >= CellLimits.tenantsMax {
                return .refused(.tooMany(.tenants))
            }
            if slice.groupCount >= CellLimits.groupsPerTenantMax { return .refused(.tooMany(.groups)) }
            try make(kept)
            return .done
        }
        put(kept)
        return .done
    }

    /// One that is not here yet.
    mutating func make(_ wanted: CellGroup, isBrought: Bool = false) throws(StoreError) {
        var slice = try slice(wanted.tenant)
        slice.groupCount += 1
        put(slice)
        summary.groups += 1
        summary.groupHighest += 1
        var kept = wanted
        kept.memberCount = 0
        kept.isBrought = isBrought
        kept.id = PlacementGroupID(summary.groupHighest)
        let key = CellKey.groupName(kept.tenant, kept.name)
        access.put(key, kept.id.rawValue.bigEndianBytes)
        groupIDs[key] = kept.id
        note("group.created", tenant: kept.tenant, kept.name)
        put(kept)
    }

    mutating func deleteGroup(_ tenant: String, _ name: String) throws(StoreError) -> CellResult.Outcome {
        guard let group = try group(tenant, name) else { return .refused(.unknownGroup(name)) }
        if group.memberCount > 0 { return .refused(.groupInUse(name)) }
        try remove(group)
        note("group.deleted", tenant: tenant, name)
        return .done
    }

    private mutating func remove(_ group: CellGroup) throws(StoreError) {
        let key = CellKey.groupName(group.tenant, group.name)
        access.delete(key)
        groupIDs[key] = nil
        groups[group.id] = Cached(record: nil, isChanged: true)
        var slice = try slice(group.tenant)
        slice.groupCount -= 1
        put(slice)
        summary.groups -= 1
    }

    /// Those that came along and have no VMs after the command go as they came.
    mutating func removeEmptied() throws(StoreError) {
        let ids = emptied
        emptied = []
        for id in ids {
            guard let group = try group(id), group.isBrought, group.memberCount == 0 else { continue }
            try remove(group)
            note("group.left", tenant: group.tenant, group.name)
        }
    }

    // MARK: Slices and settings

    mutating func setSlice(
        _ tenant: String, _ revision: Revision, _ quota: Quota, _ through: LogIndex
    ) throws(StoreError) -> CellResult.Outcome {
        if !CellCheck.isName(tenant) { return .refused(.invalid(field: "tenant", CellCheck.nameRule)) }
        if let refusal = CellCheck.refusal(of: quota) { return .refused(refusal) }
        var slice = try slice(tenant)
        // An older one comes late: what the root lent since counts.
        if revision < slice.revision { return .done }
        if slice.revision == revision && slice.quota == quota { return .done }
        // Who asks may not have heard yet that the tenant is gone; it asks again when it knows as much as who said so.
        if level >= FeatureLevel.knownTenants && slice.revision == .zero && through < summary.tenantsFloor {
            return .done
        }
        if slices[tenant]?.record == nil && summary.tenants >= CellLimits.tenantsMax {
            return .refused(.tooMany(.tenants))
        }
        slice.revision = revision
        slice.quota = quota
        put(slice)
        if let excess = slice.excess {
            note("tenant.exceeded", tenant: tenant, "\(excess); what runs stays, nothing more is let in")
        }
        return .done
    }

    /// What was lent goes back, and the row with it unless something of the tenant is still here.
    mutating func returnSlice(_ tenant: String, _ revision: Revision) throws(StoreError) -> CellResult.Outcome {
        if level >= FeatureLevel.knownTenants { summary.tenantsFloor = max(summary.tenantsFloor, revision.index) }
        var slice = try slice(tenant)
        // The tenant was made again meanwhile.
        if slice.revision == .zero || revision < slice.revision { return .done }
        slice.revision = .zero
        slice.quota = .unlimited
        put(slice)
        return .done
    }

    mutating func set(_ setting: CellSetting, _ value: UInt64) throws(StoreError) -> CellResult.Outcome {
        if !setting.allows(value) { return .refused(.settingOutOfRange(setting)) }
        let old = try self.setting(setting)
        if setting == .settingsTaken { return .refused(.settingOutOfRange(setting)) }
        if setting == .movesHeldUntil {
            if value > time.rawValue + CellSetting.movesHeldMax { return .refused(.settingOutOfRange(setting)) }
            put(setting, value)
            return .done
        }
        if setting == .leaseBefore {
            // Of another value the leader has not waited the lease out.
            if value != old { return .refused(.settingOutOfRange(setting)) }
            if old & 0xFFFF_FFFF != 0 { put(setting, (old >> 32 + 1) << 32) }
            return .done
        }
        if old == value { return .done }
        if setting == .splitAbove || setting == .mergeBelow {
            let other = try self.setting(setting == .splitAbove ? .mergeBelow : .splitAbove)
            let (above, below) = setting == .splitAbove ? (value, other) : (other, value)
            if !SplitBound.mayStand(above: above, below: below) { return .refused(.boundsMeet) }
        }
        put(setting, value)
        if setting == .leaseLength { try remember(lease: old) }
        if setting == .failoverReserve {
            try beginReserve(value)
            let (before, after) = (FailoverReserve.text(old), FailoverReserve.text(value))
            note("setting.changed", "\(setting.name) from \(before) to \(after)")
            return .done
        }
        note("setting.changed", "\(setting.name) from \(old) to \(value)")
        return .done
    }

    /// What the cell that this one was split from has set. What somebody set here before stays.
    mutating func takeSettings(
        // hash order: gone through by `rows`, which are sorted
        _ from: UInt64, _ plan: UInt64, _ settings: [CellSetting: UInt64], _ groups: [CellGroup]
    ) throws(StoreError) -> CellResult.Outcome {
        if from == number || from == 0 { return .refused(.invalid(field: "from", "name another cell")) }
        if summary.isClosed { return .refused(.cellClosed) }
        // One that is here has the rule that it has here.
        var missing: [CellGroup] = []
        for coming in groups where try group(coming.tenant, coming.name) == nil { missing.append(coming) }
        if let refusal = try refusal(ofComing: missing) { return .refused(refusal) }
        for coming in missing where try group(coming.tenant, coming.name) == nil { try make(coming) }
        // The cell that they come from may end.
        for coming in groups {
            guard var known = try group(coming.tenant, coming.name), known.isBrought else { continue }
            known.isBrought = false
            put(known)
        }
        let taken = try setting(.settingsTaken)
        if settings.isEmpty || plan <= taken { return .done }
        for row in CellSettingValue.rows(of: settings) where CellSetting.shown.contains(row.setting) {
            // One that does not go with what is set here is left out.
            if try setting(row.setting) == row.setting.standard { _ = try set(row.setting, row.value) }
        }
        put(.settingsTaken, plan)
        return .done
    }

    private mutating func put(_ setting: CellSetting, _ value: UInt64) {
        let key = CellTable.settings.key(UInt64(setting.rawValue))
        if value == setting.standard {
            access.delete(key)
        } else {
            access.put(key, CellSettingValue(setting, value).encoded())
        }
        if !changedSettings.contains(setting.rawValue) { changedSettings.append(setting.rawValue) }
    }

    /// Hosts may hold a lease of this length though another is set. The next leader must know that, too.
    mutating func remember(lease: UInt64) throws(StoreError) {
        let before = try setting(.leaseBefore)
        put(.leaseBefore, (before >> 32 + 1) << 32 | max(before & 0xFFFF_FFFF, lease))
    }

    // MARK: Garbage

    /// Drops tombstones, kept results and sessions whose time is over, a bounded number at once.
    mutating func collectGarbage() throws(StoreError) -> CellResult.Outcome {
        try dropOldRequests()
        if level >= FeatureLevel.rootAudit { try dropOldEvents() }
        try sessions.forgetOld(time, &access)
        let lifetime = try setting(.tombstoneLifetime)
        guard summary.tombstones > 0, time.rawValue >= lifetime else { return .done }
        let end = LogTime(time.rawValue - lifetime).advanced(by: 1)
        var old: [[UInt8]] = []
        let range = KeyRange(
            from: [CellKey.Kind.tombstoneTime], to: CellKey.tombstoneTime(end, VMID(0)))
        try access.scan(range) { key, _ in
            old.append(key)
            return old.count < CellLimits.garbageMax
        }
        for key in old {
            guard let id = key.bigEndian64(at: 9) else { throw CellKey.corrupt(key) }
            let row = CellTable.tombstones.key(id)
            guard let stone = try access.record(CellTombstone.self, row) else { throw CellKey.corrupt(row) }
            access.delete(key)
            access.delete(row)
            let name = CellKey.vmName(stone.tenant, stone.name)
            if try access.number(name) == id { access.delete(name) }
            summary.tombstones -= 1
        }
        return .done
    }
}

extension TenantSlice {
    /// What is in use beyond the quota, in words.
    var excess: String? {
        func over(_ what: String, _ limit: Int64?, _ used: Int64) -> String? {
            guard let limit, used > limit else { return nil }
            return "\(used) of \(what) are in use, and the quota is \(limit)"
        }
        return over("VMs", allowed.vmCount.map { Int64(clamping: $0) }, Int64(clamping: usedCount))
            ?? over("cpu", allowed.cpuMillis, used.cpuMillis) ?? over("memory", allowed.memoryMiB, used.memoryMiB)
            ?? over("disk", allowed.diskMiB, used.diskMiB)
    }

    /// Why so much more is not allowed; nil when it is.
    package func refusal(of more: Resources, count: UInt64) -> CellRefusal? {
        func check(_ what: String, _ limit: Int64?, _ used: Int64, _ asked: Int64) -> CellRefusal? {
            guard let limit, asked > 0, used + asked > limit else { return nil }
            return .quotaExceeded(tenant: tenant, resource: what, limit: limit, used: used, asked: asked)
        }
        return check(
            "VMs", allowed.vmCount.map { Int64(clamping: $0) }, Int64(clamping: usedCount), Int64(clamping: count))
            ?? check("cpu", allowed.cpuMillis, used.cpuMillis, more.cpuMillis)
            ?? check("memory", allowed.memoryMiB, used.memoryMiB, more.memoryMiB)
            ?? check("disk", allowed.diskMiB, used.diskMiB, more.diskMiB)
    }
}
