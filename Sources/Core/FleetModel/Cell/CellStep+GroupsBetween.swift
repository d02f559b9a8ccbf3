import ClusterBase

// Placement groups of VMs that go to another cell. Each cell judges by the members that it has. So a hard group is only parted where
// both cells together can not break its rule (`HostCompany`); it is made in the other cell where it is missing, with the same rule;
// and members that are to come count there from the moment at which they are kept. What was made so goes with its last member: a
// plan that is called off, or VMs that go on, leave no empty groups. One that somebody made, or set, stays until it is deleted.

extension CellStep {
    // MARK: In the cell that they leave

    /// The first hard group of these VMs of a host that would be torn, in words; nil for none.
    mutating func tornGroup(
        _ vms: [CellVM], _ host: HostID, _ company: HostCompany
    ) throws(StoreError) -> String? {
        if company.isAll { return nil }
        // hash order: looked up only
        let going = Set(company.hosts + [host])
        // hash order: looked up only
        var seen: Set<PlacementGroupID> = []
        for vm in vms {
            for name in vm.spec.groups {
                guard let group = try group(vm.tenant, name), !company.keeps(group), seen.insert(group.id).inserted
                else { continue }
                guard let why = try whatStays(of: group, going) else { continue }
                switch group.rule {
                case .pack, .affinity:
                    return
                        "VM \(vm.name) is in group \(name), which keeps its VMs in one \(group.scope), and \(why) stays; have all "
                        + "of them go, or make the group soft"
                case .antiAffinity, .spread:
                    return
                        "VM \(vm.name) is in group \(name), whose rule is about \(group.scope)s, and \(why) stays while both cells "
                        + "would have hosts of one \(group.scope); have whole \(group.scope)s go, or make the group soft"
                }
            }
        }
        return nil
    }

    /// A member that is not on these hosts alone, in words; nil where there is none.
    private mutating func whatStays(
        of group: CellGroup, _ going: Set<HostID>  // hash order: only asked whether a host is in it
    ) throws(StoreError) -> String? {
        if group.memberCount > UInt64(CellLimits.groupLookedMax) {
            return "one of its \(group.memberCount) VMs, which are more than can be looked at,"
        }
        let mark = CellKey.marked(.group(group.name))
        var ids: [VMID] = []
        var bad: [UInt8]?
        try access.scan(.prefix(mark)) { key, _ in
            guard let id = key.bigEndian64(at: mark.count) else {
                bad = key
                return false
            }
            ids.append(VMID(id))
            return ids.count <= CellLimits.groupLookedMax * 4
        }
        if let bad { throw CellKey.corrupt(bad) }
        var found: UInt64 = 0
        for id in ids {
            guard let member = try vm(id), member.tenant == group.tenant else { continue }
            found += 1
            let hosts = member.claims.map(\.host)
            if hosts.isEmpty { return "VM \(member.name), which is on no host," }
            if !hosts.allSatisfy(going.contains) { return "VM \(member.name)" }
        }
        // Not all of them are marked yet, or other tenants have too many in groups of this name.
        return found < group.memberCount ? "one of its VMs" : nil
    }

    // MARK: In the cell where they come

    /// Why groups of another cell can not be made here, or are not those that are here; nil when all are well.
    mutating func refusal(ofComing groups: [CellGroup]) throws(StoreError) -> CellRefusal? {
        if groups.count > CellLimits.itemsMax { return .tooMany(.groups) }
        // hash order: looked up only
        var more: [String: UInt64] = [:]
        for coming in groups {
            if let known = try group(coming.tenant, coming.name) {
                let isSame = known.rule == coming.rule && known.scope == coming.scope
                if isSame && known.isHard == coming.isHard || !known.isHard && !coming.isHard { continue }
                return .groupDiffers(coming.name)
            }
            if let refusal = CellCheck.refusal(of: coming) { return refusal }
            more[coming.tenant, default: 0] += 1
            let slice = try slice(coming.tenant)
            if slice.groupCount + (more[coming.tenant] ?? 0) > CellLimits.groupsPerTenantMax {
                return .tooMany(.groups)
            }
        }
        return nil
    }

    /// For VMs that may come: each goes with the last of its VMs, or where none of them is kept after all.
    mutating func makeMissing(_ groups: [CellGroup]) throws(StoreError) {
        for coming in groups where try group(coming.tenant, coming.name) == nil {
            try make(coming, isBrought: true)
            emptied.append(PlacementGroupID(summary.groupHighest))
        }
    }

    /// Why a VM's groups do not let it come: one that is not known, or a hard one whose rule would not hold here any more. Rules of
    /// spread are about where the next one goes, and let all come.
    mutating func refusal(
        ofGroupsOf vm: CellVM, _ part: HostPreparation, _ wanted: inout Wanted
    ) throws(StoreError) -> CellRefusal? {
        for name in vm.spec.groups {
            guard let group = try group(vm.tenant, name) else {
                if part.groups.contains(where: { $0.tenant == vm.tenant && $0.name == name }) { continue }
                return .unknownGroup(name)
            }
            let key = CellKey.groupName(vm.tenant, name)
            wanted.members[key, default: 0] += 1
            let coming = wanted.members[key] ?? 0
            if group.memberCount + coming > CellLimits.groupMembersMax { return .tooMany(.groupMembers) }
            // Who is on one host already comes with it.
            if !group.isHard || group.scope == .host && group.rule.isAboutParting { continue }
            let domain = part.host.domain(group.scope)
            let there = try members(group.id, domain)
            switch group.rule {
            case .antiAffinity(let most):
                if there > 0 && there + coming > UInt64(max(1, most)) {
                    return .doesNotFit(
                        part.host.id, "group \(name) allows \(most) in one \(group.scope), and \(there) are there")
                }
            case .pack, .affinity:
                let all = try allDomains(group.id)
                if there == 0 && !all.isEmpty {
                    return .doesNotFit(
                        part.host.id, "group \(name) keeps its members in one \(group.scope), and none is there")
                }
            case .spread: break
            }
        }
        return nil
    }

    /// Counts a VM that may come in, or out, in the domains of the host that it comes with.
    mutating func countComing(_ vm: CellVM, _ host: CellHost, _ sign: Int) throws(StoreError) {
        for name in vm.spec.groups {
            guard let group = try group(vm.tenant, name) else { continue }
            try count(group, host.domain(group.scope), sign)
        }
    }

    /// A host that may come says that it stands elsewhere.
    mutating func recount(_ old: CellHost, as new: CellHost) throws(StoreError) {
        if old.about.locality == new.about.locality { return }
        for id in try access.ids(CellKey.arriving(old.id)) {
            guard let vm = try vm(VMID(id)) else { continue }
            try countComing(vm, old, -1)
            try countComing(vm, new, 1)
        }
    }
}

extension PlacementGroup.Rule {
    /// It keeps members apart.
    package var isAboutParting: Bool {
        switch self {
        case .antiAffinity, .spread: true
        case .pack, .affinity: false
        }
    }
}
