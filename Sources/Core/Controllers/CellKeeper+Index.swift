import ClusterBase
import FleetModel
import Placement

// The index of free room and the lists, brought up to what the view says, row by row.

extension CellKeeper {
    /// The id under which the index holds a VM's second copy: where it goes, or where it still is.
    static func copyID(_ id: VMID) -> VMID { VMID(rawValue: id.rawValue | 1 << 63) }
    static func isCopy(_ id: VMID) -> Bool { id.rawValue >> 63 == 1 }

    // MARK: All of it

    /// Forgets what is in the index and has all VMs brought into it anew, a part at a time.
    mutating func beginAgain(_ now: Instant) {
        index = PlacementIndex(seed: seed)
        words = WordTable()
        indexed = [:]
        hostsIndexed = [:]
        hostOrder = []
        groupsNamed = [:]
        unresolved = []
        queue = WaitingQueue()
        regions.guests = []
        regions.leaving = []
        regions.tries = [:]
        regions.leavers = ([], 0, .origin)
        migrating = [:]
        crashed = [:]
        lost = [:]
        ways.forget()
        moves.forget()
        draining = []
        returns = ReturnWork()
        enforcement = EnforcementWork()
        exceeded = []
        stuckSince = [:]
        victimPriorities = [:]
        slicesDue = slicesOfAll
        healthAt = min(healthAt, now)
        for id in view.groups.keys.sorted() { groupChanged(id) }
        for id in view.hosts.keys.sorted() { hostChanged(id, now) }
        backlog = view.vms.keys.sorted().reversed()
        changedSinceMix = 0
    }

    mutating func workOff(_ now: Instant) {
        var left = CellKeeper.indexedAtOnceMax
        while left > 0, let id = backlog.popLast() {
            vmChanged(id, now)
            left -= 1
        }
    }

    /// What `pack` keeps room for follows what is placed, when a quarter of it is new.
    mutating func tuneMix() {
        if changedSinceMix < 256 || changedSinceMix < index.vmCount / 4 { return }
        changedSinceMix = 0
        index.setMix(index.mixOfPlacedVMs())
    }

    // MARK: Groups

    mutating func groupChanged(_ id: PlacementGroupID) {
        guard let group = view.groups[id] else {
            // Refused while it has members; then their rows come first.
            do throws(IndexError) { try index.removeGroup(id) } catch { counts.misfits += 1 }
            queue.forget(id)
            for name in groupsNamed.keys where groupsNamed[name] == id { groupsNamed[name] = nil }
            return
        }
        groupsNamed[GroupName(tenant: group.tenant, name: group.name)] = id
        let rule = PlacementGroup(
            id: id, rule: group.rule, scope: group.scope, isHard: group.isHard, weight: group.weight)
        if index.group(id) == rule { return }
        if index.group(id) != nil { suspectAll() }
        index.setGroup(rule)
        queue.groupTouched(id)
    }

    // MARK: Hosts

    /// Removed hosts that VMs are still on.
    var hostsLeaving: [HostID] {
        if hostsIndexed.count == hostOrder.count { return [] }
        return hostsIndexed.keys.filter { view.hosts[$0].map { $0.health == .removed } ?? true }.sorted()
    }

    mutating func hostChanged(_ id: HostID, _ now: Instant) {
        let host = view.hosts[id].flatMap { $0.health == .removed ? nil : asPlanned($0) }
        setOrder(id, isThere: host != nil)
        noteCare(id, now)
        if let host, host.duty == .draining, !host.isDrainPaused, host.health == .up {
            if draining.insert(id).inserted { drainAt = now }
            if host.vmCount == 0 { drainAt = min(drainAt, now) }
        } else {
            draining.remove(id)
        }
        followReturn(of: id, host, now)
        followEnforcement(of: id, host, now)
        if host?.excess == nil { exceeded.remove(id) } else { exceeded.insert(id) }
        guard let host else {
            arrivedAt[id] = nil
            return removeHost(id)
        }
        let known = hostsIndexed[id]
        if host.leaseBase > 0 && arrivedAt[id] == nil { arrivedAt[id] = now }
        if let known {
            if known.health != host.health { healthAt = min(healthAt, now) }
            let isSame =
                known.about == host.about && known.policy == host.policy
                && known.stateForPlacement == host.stateForPlacement
            if isSame { return }
        } else {
            healthAt = min(healthAt, now)
        }
        hostsIndexed[id] = host
        suspects.insert(id)
        let seen = intern(host)
        do throws(IndexError) {
            if known == nil {
                try index.addHost(seen)
            } else if known.map({ $0.about == host.about && $0.policy == host.policy }) ?? false {
                try index.setState(id, seen.state)
            } else {
                try index.updateHost(seen)
            }
        } catch {
            replaceHost(seen, now)
        }
        queue.roomAppearedAnywhere()
    }

    /// A host that lost what VMs on it have: they stay there, without their NUMA nodes and devices.
    private mutating func replaceHost(_ host: Host, _ now: Instant) {
        counts.misfits += 1
        var there: [(VMSpec, Assignment)] = []
        for id in index.vms(on: host.id) {
            guard let spec = index.spec(id), let assignment = index.assignment(id) else { continue }
            there.append((spec, assignment))
            do throws(IndexError) { try index.remove(id) } catch { preconditionFailure("VM \(id): \(error)") }
        }
        do throws(IndexError) {
            if index.host(host.id) != nil { try index.removeHost(host.id) }
            try index.addHost(host)
        } catch {
            // Not a host that can be placed on; its VMs wait for a row that is.
            hostsIndexed[host.id] = nil
            for (spec, _) in there { lose(spec.id) }
            return
        }
        for (spec, assignment) in there { put(spec, assignment) }
    }

    private mutating func lose(_ id: VMID) {
        indexed[id] = nil
        unresolved.insert(VMID(rawValue: id.rawValue & ~(1 << 63)))
    }

    private mutating func removeHost(_ id: HostID) {
        guard hostsIndexed[id] != nil else { return }
        do throws(IndexError) {
            if index.vms(on: id).isEmpty {
                try index.removeHost(id)
                hostsIndexed[id] = nil
            } else if index.host(id)?.state != .down {
                try index.setState(id, .down)
            } else {
                return
            }
        } catch {
            counts.misfits += 1
        }
        queue.roomAppearedAnywhere()
    }

    private mutating func setOrder(_ id: HostID, isThere: Bool) {
        var low = 0
        var high = hostOrder.count
        while low < high {
            let middle = (low + high) / 2
            if hostOrder[middle] < id { low = middle + 1 } else { high = middle }
        }
        let isFound = low < hostOrder.count && hostOrder[low] == id
        if isThere && !isFound { hostOrder.insert(id, at: low) }
        if !isThere && isFound { hostOrder.remove(at: low) }
    }

    // MARK: VMs

    /// Brings one VM's copies, its turn and its care up to the view. Doing it twice changes nothing.
    mutating func vmChanged(_ id: VMID, _ now: Instant) {
        guard let vm = view.vms[id] else { return forget(id, now) }
        followRecovery(vm, now)
        let asked = pending[id]
        settlePending(vm)
        // The row may be there before the outcome.
        if let asked, case .place = asked.kind, asked.doneAt == nil, pending[id] == nil, vm.place != nil {
            counts.placingTimes.add(now - asked.since)
        }
        let pending = pending[id]
        var main: Assignment?
        var second: Assignment?
        if let place = vm.place {
            main = place.assignment
            if let migration = vm.migration {
                second = (migration.phase == .leaving ? migration.source : migration.target).assignment
            } else if let pending {
                second = pending.assignment
            }
        } else if let migration = vm.migration {
            second = (migration.phase == .leaving ? migration.source : migration.target).assignment
        } else if let pending {
            main = pending.assignment
        }
        // What is about to be placed counts as it will then, so that its confirmation changes nothing.
        let isAboutToBe = pending.map { !$0.isNomination && vm.place == nil } ?? false
        let isPinned = isAboutToBe ? !CellKeeper.mayMakeRoom(vm) : pending != nil || !CellKeeper.isDisplaceable(vm)
        setCopy(id, vm, main, isPinned: isPinned)
        setCopy(CellKeeper.copyID(id), vm, second, isPinned: true, besides: main)
        if CellKeeper.isWaiting(vm) && pending == nil {
            if let spec = intern(vm) {
                queue.insert(
                    spec, boundTo: vm.boundTo, gang: vm.gang, isLost: vm.mayUseReserve, queuedAt: vm.queuedAt,
                    size: index.size(of: spec))
            } else {
                unresolved.insert(id)
            }
        } else {
            queue.remove(id)
        }
        care(vm, now)
    }

    /// Whether it wants a place and may have one. What is left of a move must be gone first.
    static func isWaiting(_ vm: CellVM) -> Bool {
        vm.place == nil && vm.power != .stopped && !vm.isDeleting && vm.migration == nil
            && vm.departure?.isLeaving != true
    }

    /// Whether it may be stopped for one of a higher priority.
    static func isDisplaceable(_ vm: CellVM) -> Bool {
        guard let place = vm.place else { return false }
        return !place.isReleasing && !vm.isDeleting && vm.migration == nil && vm.phase != .unknown && mayMakeRoom(vm)
    }

    private static func mayMakeRoom(_ vm: CellVM) -> Bool {
        vm.boundTo == nil && !vm.spec.isBoundToHost && vm.spec.restart != .never
    }

    private mutating func forget(_ id: VMID, _ now: Instant) {
        pending[id] = nil
        nominations[id] = nil
        races[id] = nil
        unresolved.remove(id)
        takeOff(id)
        takeOff(CellKeeper.copyID(id))
        queue.remove(id)
        forgetRegion(id)
        lost[id] = nil
        returns.follow(id, nil)
        moves.drop(id)
        // Its row goes when it is the other cell's.
        ways.end(id, now)
        if migrating.removeValue(forKey: id) != nil { drainAt = min(drainAt, now) }
        crashed[id] = nil
        stuckSince[id] = nil
        restingUntil[id] = nil
        failedUntil[id] = nil
        failedIntents[id] = nil
    }

    /// Drops what was asked for a VM when it is there, or can't come any more.
    private mutating func settlePending(_ vm: CellVM) {
        guard let asked = pending[vm.id] else { return }
        let stands: Bool
        switch asked.kind {
        case .place(let generation):
            stands = CellKeeper.isWaiting(vm) && vm.generation == generation
        case .move(let epoch):
            stands = vm.place?.epoch == epoch && vm.migration == nil && vm.place?.isReleasing == false
        }
        if stands { return }
        pending[vm.id] = nil
        nominations[vm.id] = nil
        if vm.place != nil { races[vm.id] = nil }
    }

    /// A second copy counts for a group only where the first does not.
    private mutating func setCopy(
        _ id: VMID, _ vm: CellVM, _ assignment: Assignment?, isPinned: Bool, besides first: Assignment? = nil
    ) {
        guard let assignment else { return takeOff(id) }
        let wanted = Indexed(
            assignment: assignment, generation: vm.generation, held: vm.held, first: first?.host, isPinned: isPinned,
            priority: vm.spec.priority, hasGroups: !vm.spec.groups.isEmpty)
        if let known = indexed[id] {
            if known == wanted { return }
            var same = known
            same.isPinned = isPinned
            takeOff(id, isQuiet: same == wanted)
        }
        guard hostsIndexed[assignment.host] != nil, var spec = intern(vm) else {
            unresolved.insert(vm.id)
            return
        }
        unresolved.remove(vm.id)
        spec.id = id
        if let held = vm.held { spec.resources += held - vm.spec.demand }
        if let first { spec.groups.removeAll { isSameDomain($0, first.host, assignment.host) } }
        // What is not to be stopped for others has the highest of priorities.
        if isPinned { spec.priority = .max }
        guard put(spec, assignment) else {
            unresolved.insert(vm.id)
            return
        }
        indexed[id] = wanted
        if !isPinned { victimPriorities[vm.spec.priority, default: 0] += 1 }
        changedSinceMix += 1
        queue.roomTaken()
        for group in spec.groups { queue.groupTouched(group) }
    }

    private func isSameDomain(_ group: PlacementGroupID, _ a: HostID, _ b: HostID) -> Bool {
        guard let group = index.group(group), let one = hostsIndexed[a]?.about.locality,
            let other = hostsIndexed[b]?.about.locality
        else { return false }
        switch group.scope {
        case .host: return a == b
        case .rack: return one.zone == other.zone && one.rack == other.rack
        case .zone: return one.zone == other.zone
        }
    }

    /// False when the index can't hold it.
    @discardableResult private mutating func put(_ spec: VMSpec, _ assignment: Assignment) -> Bool {
        do throws(IndexError) {
            try index.place(spec, assignment)
            return true
        } catch {
            counts.misfits += 1
        }
        do throws(IndexError) {
            try index.place(spec, Assignment(host: assignment.host))
            return true
        } catch {
            return false
        }
    }

    private mutating func takeOff(_ id: VMID, isQuiet: Bool = false) {
        guard let known = indexed.removeValue(forKey: id) else { return }
        if !known.isPinned {
            let left = victimPriorities[known.priority, default: 1] - 1
            victimPriorities[known.priority] = left > 0 ? left : nil
        }
        let groups = known.hasGroups && !isQuiet ? index.spec(id)?.groups ?? [] : []
        do throws(IndexError) { try index.remove(id) } catch { preconditionFailure("VM \(id): \(error)") }
        if isQuiet { return }
        changedSinceMix += 1
        queue.roomAppeared(on: known.assignment.host)
        for group in groups { queue.groupTouched(group) }
    }

    // MARK: Words

    private mutating func word(_ name: String) -> Word { words.word(name) ?? .none }

    mutating func intern(_ host: CellHost) -> Host {
        let about = host.about
        var interned = Host(
            id: host.id, capacity: about.capacity, reserved: host.policy.reserved, overcommit: host.policy.overcommit,
            numaNodes: about.numaNodes,
            devices: about.devices.map { Device(kind: word($0.kind), numaNode: $0.numaNode) },
            region: word(about.locality.region), zone: word(about.locality.zone), rack: word(about.locality.rack),
            labels: host.labels.map { Label(word($0.key), word($0.value)) },
            taints: host.policy.taints.map { Taint(word($0.key), word($0.value), effect: $0.effect) },
            storageDomains: about.storageDomains.map { word($0) }, networks: about.networks.map { word($0) },
            state: host.stateForPlacement)
        interned.hasTPM = about.hasTPM
        return interned
    }

    /// Nil while a group that it names is not known here.
    mutating func intern(_ vm: CellVM) -> VMSpec? { intern(vm.spec, id: vm.id, tenant: vm.tenant) }

    mutating func intern(_ about: VMDescription, id: VMID, tenant: String) -> VMSpec? {
        var spec = VMSpec(id: id, resources: about.resources, numa: about.numa)
        for name in about.groups {
            guard let group = groupsNamed[GroupName(tenant: tenant, name: name)] else { return nil }
            spec.groups.append(group)
        }
        spec.devices = about.devices.map { wish in
            DeviceWish(kinds: wish.kinds.map { word($0) }, count: wish.count, millis: wish.millis)
        }
        spec.devicesOnSameNodes = about.devicesOnSameNodes
        spec.required = about.required.map { intern($0) }
        spec.preferred = about.preferred.map { Preference(intern($0.selector), weight: $0.weight) }
        spec.tolerations = about.tolerations.map { tolerated in
            Toleration(word(tolerated.key), value: tolerated.value.map { word($0) })
        }
        spec.disks = about.disks.map { disk in
            switch disk.kind {
            case .shared(let domain): Disk(sizeMiB: disk.sizeMiB, kind: .shared(domain: word(domain)))
            case .local: Disk(sizeMiB: disk.sizeMiB, kind: .local)
            case .ephemeral: Disk(sizeMiB: disk.sizeMiB, kind: .ephemeral)
            }
        }
        if let tpm = about.tpm {
            spec.wantsTPM = true
            // What it takes of a host is no whole MiB.
            if case .shared(let domain) = tpm {
                spec.disks.append(Disk(sizeMiB: 0, kind: .shared(domain: word(domain))))
            }
        }
        spec.networks = about.networks.map { word($0) }
        spec.zones = about.zones.map { word($0) }
        spec.priority = about.priority
        spec.policy = about.policy
        return spec
    }

    private mutating func intern(_ selector: VMDescription.NamedSelector) -> Selector {
        switch selector.match {
        case .oneOf(let values): Selector(word(selector.key), .oneOf(values.map { word($0) }))
        case .noneOf(let values): Selector(word(selector.key), .noneOf(values.map { word($0) }))
        case .exists: Selector(word(selector.key), .exists)
        case .absent: Selector(word(selector.key), .absent)
        }
    }

    var policy: PlacementPolicy {
        switch view[.policy] {
        case 2: .balance
        case 3: .spread
        default: .pack
        }
    }
}

extension CellHost {
    /// A host with as many VMs as one may have takes no more, however much room it has: the cell would refuse them.
    var stateForPlacement: HostState {
        state.takesVMs && vmCount >= CellLimits.vmsPerHostMax ? .cordoned : state
    }
}
