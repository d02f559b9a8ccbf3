import ClusterBase

// Rows, and everything that follows from a VM's row: what counts on hosts, quotas, groups and indexes. All of it changes
// in one place, by what the VM was and what it is.

extension CellStep {
    // MARK: Hosts, slices and groups, once per entry

    mutating func host(_ id: HostID) throws(StoreError) -> CellHost? {
        if let cached = hosts[id] { return cached.record }
        let host = try access.record(CellHost.self, CellTable.hosts.key(id.rawValue))
        hosts[id] = Cached(record: host)
        return host
    }

    mutating func put(_ host: CellHost) {
        hosts[host.id] = Cached(record: host, isChanged: true)
        if summary.reserve != nil { reserve.touched.insert(host.id) }
    }

    /// The tenant's slice; one without bounds as long as the root has lent nothing.
    mutating func slice(_ tenant: String) throws(StoreError) -> TenantSlice {
        if let cached = slices[tenant] { return cached.record ?? TenantSlice(tenant: tenant) }
        let slice = try access.record(TenantSlice.self, CellTable.slices.key(tenant))
        slices[tenant] = Cached(record: slice)
        return slice ?? TenantSlice(tenant: tenant)
    }

    /// A slice that says nothing is no row.
    mutating func put(_ slice: TenantSlice) {
        var bare = slice
        bare.recovery = nil
        let isEmpty = bare == TenantSlice(tenant: slice.tenant)
        let wasThere = slices[slice.tenant]?.record != nil
        if !isEmpty && !wasThere { summary.tenants += 1 }
        if isEmpty && wasThere { summary.tenants -= 1 }
        slices[slice.tenant] = Cached(record: isEmpty ? nil : slice, isChanged: true)
    }

    mutating func group(_ id: PlacementGroupID) throws(StoreError) -> CellGroup? {
        if let cached = groups[id] { return cached.record }
        let group = try access.record(CellGroup.self, CellTable.groups.key(id.rawValue))
        groups[id] = Cached(record: group)
        return group
    }

    mutating func group(_ tenant: String, _ name: String) throws(StoreError) -> CellGroup? {
        let key = CellKey.groupName(tenant, name)
        if let id = groupIDs[key] { return try group(id) }
        guard let number = try access.number(key) else { return nil }
        groupIDs[key] = PlacementGroupID(number)
        return try group(PlacementGroupID(number))
    }

    mutating func put(_ group: CellGroup) { groups[group.id] = Cached(record: group, isChanged: true) }

    func setting(_ setting: CellSetting) throws(StoreError) -> UInt64 {
        let key = CellTable.settings.key(UInt64(setting.rawValue))
        return try access.record(CellSettingValue.self, key)?.value ?? setting.standard
    }

    // MARK: VMs

    func vm(_ id: VMID) throws(StoreError) -> CellVM? {
        try access.record(CellVM.self, CellTable.vms.key(id.rawValue))
    }

    func vms(on host: HostID) throws(StoreError) -> [VMID] {
        try access.ids(CellKey.hostVMs(host)).map { VMID($0) }
    }

    /// Enters a phase, which begins now when it is another one.
    func enter(_ phase: CellVM.Phase, _ vm: inout CellVM) { vm.enter(phase, at: time) }

    /// Gives permission to start where it is.
    func permit(_ vm: inout CellVM) {
        guard vm.place != nil else { return }
        vm.epochHighest += 1
        vm.place?.epoch = vm.epochHighest
        vm.runningGeneration = 0
        enter(.starting, &vm)
    }

    /// It has no place, and waits for one if it is to run.
    func leavePlace(_ vm: inout CellVM) { vm.leavePlace(at: time) }

    /// Writes a VM that was `old`, and all that follows from it. A VM that is being deleted goes when nothing of it can run.
    mutating func put(_ new: CellVM, was old: CellVM?) throws(StoreError) {
        if new.isDeleting && new.place == nil && new.migration == nil { return try bury(new, old) }
        var new = new
        new.revision = revision
        // From its place on it lives by itself, and so does one that wants none any more.
        if new.gang > 0 && !new.isWaiting && !mutated(.gangOutlivesPlace) { new.gang = 0 }
        if new.lostAt > .zero { try settleLoss(of: &new) }
        new.endSending()
        try follow(old, new)
        access.put(CellTable.vms.key(new.id.rawValue), new.encoded())
        changedVMs.append(new.id.rawValue)
    }

    private mutating func bury(_ vm: CellVM, _ old: CellVM?) throws(StoreError) {
        var vm = vm
        try note("vm.deleted", &vm)
        if let old { try forget(old) }
        try keepStone(of: vm)
        try leaveRemains(of: vm)
    }

    /// Its row goes, and all that follows from it.
    mutating func forget(_ old: CellVM) throws(StoreError) {
        try follow(old, nil)
        access.delete(CellTable.vms.key(old.id.rawValue))
        changedVMs.append(old.id.rawValue)
    }

    mutating func keepStone(of vm: CellVM, movedTo cell: UInt64 = 0) throws(StoreError) {
        _ = try dropStone(of: vm.id)
        var stone = CellTombstone(
            id: vm.id, name: vm.name, tenant: vm.tenant, deletedAt: time, deletedBy: by, events: vm.events)
        stone.movedTo = cell
        access.put(CellTable.tombstones.key(vm.id.rawValue), stone.encoded())
        access.put(CellKey.tombstoneTime(time, vm.id), [])
        summary.tombstones += 1
    }

    /// What is remembered of it from before.
    mutating func dropStone(of id: VMID) throws(StoreError) -> CellTombstone? {
        let key = CellTable.tombstones.key(id.rawValue)
        guard let stone = try access.record(CellTombstone.self, key) else { return nil }
        access.delete(key)
        access.delete(CellKey.tombstoneTime(stone.deletedAt, id))
        summary.tombstones -= 1
        return stone
    }

    private mutating func follow(_ old: CellVM?, _ new: CellVM?) throws(StoreError) {
        guard let id = new?.id ?? old?.id, let tenant = new?.tenant ?? old?.tenant else { return }
        if (old == nil) != (new == nil) {
            let key = CellKey.tenantVM(tenant, id)
            if new != nil { access.put(key, []) } else { access.delete(key) }
            if new != nil { summary.vms += 1 } else { summary.vms -= 1 }
        }
        try followWaiting(old, new)
        followGang(old, new, id)
        followMarks(old, new, id)
        try followQuota(old, new, tenant)
        try followGroups(old, new, tenant)
        try followHosts(old, new, id)
        try followOrigin(old, new)
        try followReserve(old, new, id)
        if let new, level >= FeatureLevel.workChanges {
            // Beside each claim, so that a host is told of this VM and not of all its others.
            var value: [UInt8] = [new.arrival == nil ? 0 : 1]
            value.appendBigEndian(new.revision.rawValue)
            for claim in new.claims { access.put(CellKey.hostVM(claim.host, id), value) }
        }
    }

    private mutating func followWaiting(_ old: CellVM?, _ new: CellVM?) throws(StoreError) {
        let before = old.flatMap { $0.isWaiting ? CellKey.waiting($0) : nil }
        let after = new.flatMap { $0.isWaiting ? CellKey.waiting($0) : nil }
        if before == after { return }
        if let before { access.delete(before) }
        if let after { access.put(after, []) }
    }

    private mutating func followGang(_ old: CellVM?, _ new: CellVM?, _ id: VMID) {
        let before = old?.gang ?? 0
        let after = new?.gang ?? 0
        if before == after { return }
        if before > 0 { access.delete(CellKey.gangVM(before, id)) }
        if after > 0 { access.put(CellKey.gangVM(after, id), []) }
    }

    private mutating func followQuota(_ old: CellVM?, _ new: CellVM?, _ tenant: String) throws(StoreError) {
        let before = old?.spec.charge ?? .zero
        let after = new?.spec.charge ?? .zero
        if before == after && (old == nil) == (new == nil) { return }
        var slice = try slice(tenant)
        slice.used += after
        slice.used -= before
        if old == nil { slice.usedCount += 1 }
        if new == nil { slice.usedCount -= 1 }
        put(slice)
    }

    // MARK: What counts on hosts

    private mutating func followHosts(_ old: CellVM?, _ new: CellVM?, _ id: VMID) throws(StoreError) {
        let before = old?.claims ?? []
        let after = new?.claims ?? []
        let demandBefore = old?.demand ?? .zero
        let demandAfter = new?.demand ?? .zero
        if before != after || demandBefore != demandAfter {
            for claim in before {
                let leaks = mutated(.reservationLeaks) && old?.migration != nil && new?.migration == nil
                if leaks && claim != new?.place?.assignment { continue }
                try count(claim, demandBefore, -1)
                if !after.contains(where: { $0.host == claim.host }) {
                    access.delete(CellKey.hostVM(claim.host, id))
                }
            }
            for claim in after {
                try count(claim, demandAfter, 1)
                if !before.contains(where: { $0.host == claim.host }) {
                    access.put(CellKey.hostVM(claim.host, id), [])
                }
            }
        }
        let changesWork: Bool
        if let old, let new { changesWork = !old.hasSameWork(as: new) } else { changesWork = true }
        if !changesWork { return }
        for claim in before + after { try touch(claim.host) }
    }

    /// The host's agent has something new to look at.
    mutating func touch(_ id: HostID) throws(StoreError) {
        let index = index
        try change(id) { $0.workIndex = index }
    }

    /// Changes a host in its place in the entry's table: a copy would cost more than the change.
    private mutating func change(_ id: HostID, _ body: (inout CellHost) -> Void) throws(StoreError) {
        if hosts[id] == nil { _ = try host(id) }
        hosts[id]?.change(body)
        if summary.reserve != nil { reserve.touched.insert(id) }
    }

    private mutating func count(_ claim: Assignment, _ demand: Resources, _ sign: Int64) throws(StoreError) {
        try change(claim.host) { $0.count(claim, demand, sign) }
    }
}

extension Cached {
    fileprivate mutating func change(_ body: (inout Record) -> Void) {
        guard var changed = record else { return }
        // Given away first, so that its arrays are changed in place.
        record = nil
        isChanged = true
        body(&changed)
        record = changed
    }
}

extension CellHost {
    /// Counts a VM in, or out.
    fileprivate mutating func count(_ claim: Assignment, _ demand: Resources, _ sign: Int64) {
        used.vector &+= demand.vector &* sign
        if sign > 0 { vmCount += 1 } else { vmCount -= 1 }
        if !claim.numaNodes.isEmpty {
            let share = demand.share(of: claim.numaNodes.count)
            for node in claim.numaNodes {
                while numaUsed.count <= Int(node) { numaUsed.append(NUMANode(cpuMillis: 0, memoryMiB: 0)) }
                numaUsed[Int(node)].cpuMillis += share.cpuMillis * sign
                numaUsed[Int(node)].memoryMiB += share.memoryMiB * sign
            }
            while numaUsed.last == NUMANode(cpuMillis: 0, memoryMiB: 0) { numaUsed.removeLast() }
        }
        if !claim.devices.isEmpty {
            for use in claim.devices {
                while devicesUsed.count <= Int(use.device) { devicesUsed.append(0) }
                devicesUsed[Int(use.device)] += use.millis * Int32(sign)
            }
            while devicesUsed.last == 0 { devicesUsed.removeLast() }
        }
    }
}

extension Resources {
    /// What each of so many NUMA nodes gives, rounded up.
    func share(of nodes: Int) -> NUMANode {
        let n = Int64(nodes)
        return NUMANode(cpuMillis: (cpuMillis + n - 1) / n, memoryMiB: (memoryMiB + n - 1) / n)
    }
}

extension VMDescription {
    /// What it counts for in its tenant's quota: all its disks, wherever they are.
    package var charge: Resources {
        var sum = resources
        for disk in disks { sum.diskMiB += disk.sizeMiB }
        return sum
    }
}

extension CellVM {
    var isWaiting: Bool { place == nil && power != .stopped && !isDeleting && departure?.isLeaving != true }

    /// Where a copy of it may be, at most one for each host.
    var claims: [Assignment] {
        var claims: [Assignment] = []
        if let place { claims.append(place.assignment) }
        if let migration {
            claims.append(migration.phase == .leaving ? migration.source.assignment : migration.target.assignment)
        }
        return claims
    }

    /// Whether its hosts have to do the same for it.
    func hasSameWork(as other: CellVM) -> Bool {
        generation == other.generation && power == other.power && isDeleting == other.isDeleting
            && place == other.place && migration?.phase == other.migration?.phase
            && migration?.target == other.migration?.target && migration?.source == other.migration?.source
            && awaitsArrival == other.awaitsArrival && (arrival == nil) == (other.arrival == nil)
            && arrival?.sender == other.arrival?.sender && sending?.target == other.sending?.target
    }
}
