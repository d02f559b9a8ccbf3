import ClusterBase

// What owners ask of their VMs.

extension CellStep {
    // MARK: Creating

    /// Those that are all or none get their places so, too: they are a gang, which is named after its creation.
    mutating func create(_ items: [VMCreation], _ isAtomic: Bool) throws(StoreError) -> CellResult.Outcome {
        let isGang = isAtomic && level >= FeatureLevel.gangs && items.count { $0.power != .stopped } > 1
        let gang = isGang ? revision.rawValue : 0
        return try each(items, isAtomic: isAtomic) { step, item throws(StoreError) in try step.create(item, gang) }
    }

    private mutating func create(_ item: VMCreation, _ gang: UInt64) throws(StoreError) -> Result<VMID, CellRefusal> {
        if let refusal = CellCheck.refusal(of: item) { return .failure(refusal) }
        // No two VMs come of one request under one name.
        if !item.spec.sealMark.isEmpty && item.spec.sealMark != request { return .failure(CellCheck.wrongSealMark) }
        if summary.isClosed { return .failure(.cellClosed) }
        let nameKey = CellKey.vmName(item.tenant, item.name)
        if let known = try access.number(nameKey), try access.value(for: CellTable.vms.key(known)) != nil {
            return .failure(.vmNameTaken(item.name))
        }
        if let hold = try access.record(NameHold.self, CellKey.nameHold(item.tenant, item.name)), hold.cell != number {
            return .failure(.vmNameTaken(item.name))
        }
        if let refusal = try refusal(ofGroups: item.spec.groups, besides: [], item.tenant) { return .failure(refusal) }
        if let refusal = try refusal(ofImages: item.spec.imageNames, item.tenant) { return .failure(refusal) }
        if summary.vms >= CellLimits.vmsMax || summary.vmHighest >= 1 << 40 - 1 { return .failure(.tooMany(.vms)) }
        let slice = try slice(item.tenant)
        if let refusal = refusal(ofNew: slice, item.spec.priority) { return .failure(refusal) }
        if slices[item.tenant]?.record == nil && summary.tenants >= CellLimits.tenantsMax {
            return .failure(.tooMany(.tenants))
        }
        if let refusal = slice.refusal(of: item.spec.charge, count: 1) { return .failure(refusal) }
        summary.vmHighest += 1
        var vm = CellVM(
            id: VMID(number << 40 | summary.vmHighest), name: item.name, tenant: item.tenant, spec: item.spec, at: time,
            by: by)
        vm.power = item.power
        vm.queuedAt = time
        vm.gang = gang
        if item.power == .stopped { vm.phase = .stopped }
        access.put(nameKey, vm.id.rawValue.bigEndianBytes)
        try note("vm.created", &vm)
        try put(vm, was: nil)
        return .success(vm.id)
    }

    mutating func refusal(
        ofGroups names: [String], besides known: [String], _ tenant: String
    ) throws(StoreError) -> CellRefusal? {
        for name in names where !known.contains(name) {
            guard let group = try group(tenant, name) else { return .unknownGroup(name) }
            if group.memberCount >= CellLimits.groupMembersMax { return .tooMany(.groupMembers) }
        }
        return nil
    }

    /// Whether anything may be made for a tenant, of this priority.
    func refusal(ofNew slice: TenantSlice, _ priority: Int32? = nil) -> CellRefusal? {
        if level < FeatureLevel.knownTenants { return nil }
        if !slice.isKnown && !mutated(.strangerServed) { return .unknownTenant(slice.tenant) }
        return priority.flatMap { refusal(of: $0, slice) }
    }

    private func refusal(of priority: Int32, _ slice: TenantSlice) -> CellRefusal? {
        guard isBounded, priority > slice.quota.priorityMax else { return nil }
        return .priorityTooHigh(tenant: slice.tenant, most: Int64(slice.quota.priorityMax), asked: Int64(priority))
    }

    // MARK: Changing

    /// The VM that an owner may change: it is there, and of the generation that was seen.
    private func changeable(_ id: VMID, _ generation: UInt64?) throws(StoreError) -> Result<CellVM, CellRefusal> {
        guard let vm = try vm(id) else { return .failure(.unknownVM(id)) }
        if let generation, generation != vm.generation { return .failure(.generationChanged(vm.generation)) }
        if vm.isBetweenCells { return .failure(.betweenCells(id)) }
        return vm.isDeleting ? .failure(.isDeleting(id)) : .success(vm)
    }

    mutating func update(
        _ id: VMID, _ spec: VMDescription, _ generation: UInt64?
    ) throws(StoreError) -> CellResult.Outcome {
        if let refusal = CellCheck.refusal(of: spec) { return .refused(refusal) }
        let old: CellVM
        switch try changeable(id, generation) {
        case .failure(let refusal): return .refused(refusal)
        case .success(let vm): old = vm
        }
        var spec = spec
        if spec.sealMark.isEmpty { spec.sealMark = old.spec.sealMark }
        let marks = old.spec.sealMark.isEmpty ? [[], VMDescription.sealMark(of: id)] : [old.spec.sealMark]
        if !marks.contains(spec.sealMark) { return .refused(CellCheck.wrongSealMark) }
        if old.spec == spec { return .done }
        if let refusal = try refusal(ofGroups: spec.groups, besides: old.spec.groups, old.tenant) {
            return .refused(refusal)
        }
        if old.epochHighest > 0 && level >= FeatureLevel.images, let disk = spec.diskOfOtherImage(than: old.spec) {
            return .refused(
                .invalid(
                    field: "disks",
                    "the disk \(disk) was made of another image and stays what it is; give a disk of that image another name"
                ))
        }
        let images = spec.imageNames.filter { !old.spec.imageNames.contains($0) }
        if let refusal = try refusal(ofImages: images, old.tenant) { return .refused(refusal) }
        // What it was given stays, whoever gave it.
        if spec.priority > old.spec.priority, let refusal = refusal(of: spec.priority, try slice(old.tenant)) {
            return .refused(refusal)
        }
        if let refusal = try slice(old.tenant).refusal(of: spec.charge - old.spec.charge, count: 0),
            !mutated(.growthBeyondQuota)
        {
            return .refused(refusal)
        }
        var vm = old
        vm.spec = spec
        vm.generation += 1
        if old.place != nil {
            if let refusal = try refusal(ofChange: old, &vm) { return .refused(refusal) }
        } else if vm.boundTo != nil && !spec.isBoundToHost {
            vm.boundTo = nil
        }
        if let refusal = try changeDisks(old.spec, &vm) { return .refused(refusal) }
        try note("vm.updated", &vm)
        try put(vm, was: old)
        return .done
    }

    /// Whoever may change it or not: what it means stays, and so does its generation. Between cells it is done, too.
    mutating func reseal(_ id: VMID, _ boxes: [Resealed]) throws(StoreError) -> CellResult.Outcome {
        guard let old = try vm(id) else { return .refused(.unknownVM(id)) }
        var vm = old
        for i in vm.spec.secrets.indices {
            let field = vm.spec.secrets[i]
            if let new = boxes.first(where: { $0.key == field.key && $0.from == field.box }) {
                vm.spec.secrets[i].value = .sealed(new.to)
            }
        }
        if vm.spec == old.spec { return .done }
        if let refusal = CellCheck.refusal(of: vm.spec) { return .refused(refusal) }
        try put(vm, was: old)
        return .done
    }

    /// Judges a new specification where the VM is. What takes less room keeps the old one until its host has it in force.
    private mutating func refusal(ofChange old: CellVM, _ vm: inout CellVM) throws(StoreError) -> CellRefusal? {
        let spec = vm.spec
        let before = old.spec
        let isStill = old.phase == .stopped && old.migration == nil
        let changesInside =
            spec.numa != before.numa || spec.devices != before.devices
            || spec.devicesOnSameNodes != before.devicesOnSameNodes || spec.disks != before.disks
            || spec.tpm != before.tpm
        if changesInside && !isStill {
            return .invalid(
                field: "spec", "NUMA nodes, devices, disks and a TPM change only while the VM is stopped; stop it first"
            )
        }
        // Its host may be cut off, and run it on by what it knew last.
        if before.isolation == .keep && spec.isolation == .stop && !isStill {
            return .invalid(
                field: "isolation", "it changes from keep to stop only while the VM is stopped; stop it first")
        }
        if spec.isBoundToHost && vm.boundTo == nil { vm.boundTo = vm.place?.assignment.host }
        if !spec.isBoundToHost { vm.boundTo = nil }
        if changesInside && (spec.numa != before.numa || spec.devices != before.devices) {
            // It stands still: it takes a place that is as it asks now.
            leavePlace(&vm)
            return nil
        }
        let most = Resources(
            old.demand.vector.replacing(
                with: spec.demand.vector, where: spec.demand.vector .> old.demand.vector))
        vm.held = isStill || most == spec.demand ? nil : most
        let growth = vm.demand - old.demand
        for claim in old.claims {
            guard let host = try host(claim.host) else { continue }
            if let lack = Self.lack(growth, on: host) { return .doesNotFit(host.id, lack) }
            if !claim.numaNodes.isEmpty {
                let share = vm.demand.share(of: claim.numaNodes.count)
                let known = old.demand.share(of: claim.numaNodes.count)
                let more = NUMANode(
                    cpuMillis: share.cpuMillis - known.cpuMillis, memoryMiB: share.memoryMiB - known.memoryMiB)
                for node in claim.numaNodes where Int(node) < host.about.numaNodes.count {
                    if !host.hasRoom(for: more, onNode: Int(node)) {
                        return .doesNotFit(host.id, "its NUMA node \(node) has too little left")
                    }
                }
            }
            if spec.hasOtherRules(than: before), let rule = Self.brokenRule(spec, host) {
                return .doesNotFit(host.id, rule)
            }
            if spec.groups != before.groups, let rule = try brokenGroup(ofChange: old, vm, host) {
                return .doesNotFit(host.id, rule)
            }
        }
        return nil
    }

    /// Groups that it joins where it is.
    private mutating func brokenGroup(
        ofChange old: CellVM, _ vm: CellVM, _ host: CellHost
    ) throws(StoreError) -> String? {
        var joining = vm
        joining.spec.groups = vm.spec.groups.filter { !old.spec.groups.contains($0) }
        // It counts nowhere in them yet.
        joining.place = nil
        joining.migration = nil
        return try brokenGroup(joining, host)
    }

    mutating func setPower(
        _ id: VMID, _ power: CellVM.Power, _ generation: UInt64?
    ) throws(StoreError) -> CellResult.Outcome {
        let old: CellVM
        switch try changeable(id, generation) {
        case .failure(let refusal): return .refused(refusal)
        case .success(let vm): old = vm
        }
        let isDown = old.phase == .crashed || old.phase == .looping
        if old.power == power && !(isDown && power != .stopped) { return .done }
        var vm = old
        vm.power = power
        if old.power != power { vm.generation += 1 }
        switch power {
        case .stopped: stop(&vm)
        case .running, .paused:
            forgetStoppedLong(&vm, old)
            start(&vm, wasStopped: old.power == .stopped || isDown)
            if let refusal = try startElsewhere(&vm, old) { return .refused(refusal) }
        }
        let kind = power == .stopped ? "vm.stop" : power == .paused ? "vm.pause" : "vm.start"
        try note(kind, &vm, host: vm.place?.assignment.host)
        try put(vm, was: old)
        return .done
    }

    /// Wants it to run no more, where it is.
    private func stop(_ vm: inout CellVM) {
        if vm.place == nil {
            enter(.stopped, &vm)
            return
        }
        if vm.migration?.phase == .copying { vm.migration?.phase = .undoing }
        switch vm.phase {
        case .crashed, .looping, .stopped: enter(.stopped, &vm)
        case .unknown: break
        case .waiting, .starting, .running, .paused, .stopping: enter(.stopping, &vm)
        }
    }

    /// One that stood still counted for no loss. Where it would leave too little for one, it waits for another place; while it
    /// still stops, it is refused.
    private mutating func startElsewhere(_ vm: inout CellVM, _ old: CellVM) throws(StoreError) -> CellRefusal? {
        guard summary.reserve != nil, old.power == .stopped, vm.place != nil,
            let refusal = try refusal(ofReserveFor: vm, was: old)
        else { return nil }
        if old.phase != .stopped || old.migration != nil { return refusal }
        leavePlace(&vm)
        return nil
    }

    private func start(_ vm: inout CellVM, wasStopped: Bool) {
        if vm.place == nil {
            if vm.phase != .waiting {
                enter(.waiting, &vm)
                vm.queuedAt = time
            }
            return
        }
        // What must leave its place starts at the next one.
        if !wasStopped || vm.place?.isReleasing == true { return }
        vm.restarts = 0
        vm.message = ""
        if vm.phase != .unknown { permit(&vm) }
    }

    mutating func restart(_ id: VMID) throws(StoreError) -> CellResult.Outcome {
        let old: CellVM
        switch try changeable(id, nil) {
        case .failure(let refusal): return .refused(refusal)
        case .success(let vm): old = vm
        }
        if old.power == .stopped || old.place == nil || old.phase == .unknown { return .refused(.notRunning(id)) }
        if old.migration != nil { return .refused(.migrationUnderWay(id)) }
        if old.place?.isReleasing == true { return .refused(.epochOutdated(id)) }
        var vm = old
        vm.restarts = 0
        vm.message = ""
        permit(&vm)
        try note("vm.restart", &vm, host: vm.place?.assignment.host)
        try put(vm, was: old)
        return .done
    }

    mutating func delete(_ id: VMID, _ generation: UInt64?) throws(StoreError) -> CellResult.Outcome {
        let old: CellVM
        switch try changeable(id, generation) {
        case .failure(.isDeleting): return .done
        case .failure(let refusal): return .refused(refusal)
        case .success(let vm): old = vm
        }
        var vm = old
        vm.isDeleting = true
        vm.generation += 1
        vm.power = .stopped
        try note("vm.delete", &vm, host: vm.place?.assignment.host)
        stop(&vm)
        // Nothing of it runs: it needs nobody's word.
        if vm.phase == .stopped { leavePlace(&vm) }
        try put(vm, was: old)
        return .done
    }
}

extension VMDescription {
    /// Whether other hosts may be allowed to have it.
    fileprivate func hasOtherRules(than other: VMDescription) -> Bool {
        required != other.required || tolerations != other.tolerations || networks != other.networks
            || zones != other.zones || disks != other.disks || tpm != other.tpm
    }
}
