import ClusterBase
import FleetModel

/// The rules of a cell once more, worked out from its rows alone and without its counters or its judge.
enum FleetRules {
    struct Broken {
        var promise: String
        var detail: String
    }

    /// Where copies of a VM count, each host once.
    static func claims(_ vm: CellVM) -> [HostID] {
        var hosts: [HostID] = []
        if let place = vm.place { hosts.append(place.assignment.host) }
        if let migration = vm.migration {
            let other = (migration.phase == .leaving ? migration.source : migration.target).assignment.host
            if !hosts.contains(other) { hosts.append(other) }
        }
        return hosts
    }

    static func domain(_ scope: PlacementGroup.Scope, _ host: CellHost) -> String {
        switch scope {
        case .host: "\(host.id)"
        case .rack: host.about.locality.zone + "/" + host.about.locality.rack
        case .zone: host.about.locality.zone
        }
    }

    // MARK: Every index

    static func broken(before: CellView, after: CellView) -> Broken? {
        // hash order: looked up, or read by sorted keys
        var used: [HostID: Resources] = [:]
        // hash order: looked up, or read by sorted keys
        var charged: [String: (count: UInt64, sum: Resources)] = [:]
        for id in after.vms.keys.sorted() {
            guard let vm = after.vms[id] else { continue }
            for host in claims(vm) { used[host, default: .zero] += vm.demand }
            if vm.lostAt > .zero && (vm.phase == .running || vm.phase == .paused) {
                return Broken(promise: "what runs is not lost", detail: "\(vm)")
            }
            var charge = vm.spec.resources
            for disk in vm.spec.disks { charge.diskMiB += disk.sizeMiB }
            charged[vm.tenant, default: (0, .zero)].count += 1
            charged[vm.tenant, default: (0, .zero)].sum += charge
        }
        for id in after.hosts.keys.sorted() {
            guard let host = after.hosts[id] else { continue }
            if let broken = broken(host, used[id] ?? .zero, was: before.hosts[id]) { return broken }
        }
        if let broken = brokenReturn(after) ?? groupLeft(after) { return broken }
        for tenant in after.slices.keys.sorted() {
            guard let slice = after.slices[tenant] else { continue }
            let (count, sum) = charged[tenant] ?? (0, .zero)
            if let broken = broken(slice, count, sum, was: before.slices[tenant]) { return broken }
        }
        if let broken = brokenGang(before, after) { return broken }
        if let broken = brokenReserve(before, after) { return broken }
        for id in after.vms.keys.sorted() {
            guard let vm = after.vms[id] else { continue }
            if before.vms[id] == nil, let broken = groupMissing(vm, after) { return broken }
            let had = before.vms[id].map { claims($0) } ?? []
            for host in claims(vm) where !had.contains(host) {
                if let broken = broken(vm, newOn: host, before, after) { return broken }
            }
        }
        return nil
    }

    /// Groups that came along with VMs go with the last of them.
    private static func groupLeft(_ after: CellView) -> Broken? {
        for id in after.groups.keys.sorted() {
            guard let group = after.groups[id], group.isBrought, group.memberCount == 0 else { continue }
            return Broken(
                promise: "no group is left behind", detail: "group \(group.name) came along, and has no VM here")
        }
        return nil
    }

    /// Groups come along with VMs from other cells.
    private static func groupMissing(_ vm: CellVM, _ after: CellView) -> Broken? {
        for name in vm.spec.groups {
            guard let group = group(name, vm.tenant, after), group.memberCount > 0 else {
                return Broken(
                    promise: "VMs keep their groups", detail: "VM \(vm.id) is in group \(name), which is not here")
            }
        }
        return nil
    }

    /// A host counts the VMs that left it by a drain, and none of them is there.
    private static func brokenReturn(_ view: CellView) -> Broken? {
        // hash order: looked up only
        var away: [HostID: UInt64] = [:]
        for id in view.vms.keys.sorted() {
            guard let vm = view.vms[id], let origin = vm.origin, let host = view.hosts[origin.host],
                host.health != .removed, host.drain > 0, host.drain == origin.drain
            else { continue }
            away[host.id, default: 0] += 1
            if vm.place?.assignment.host == host.id && vm.place?.isReleasing == false {
                return Broken(promise: "who is back is not away", detail: "\(vm)")
            }
        }
        for id in view.hosts.keys.sorted() {
            guard let host = view.hosts[id], host.awayCount != away[id] ?? 0 else { continue }
            return Broken(
                promise: "who is away is counted",
                detail: "host \(id) counts \(host.awayCount) VMs that left it, and they are \(away[id] ?? 0)")
        }
        return nil
    }

    /// Where no VM comes from another cell: whose VMs there are more of, somebody set.
    static func unknownOwner(_ before: CellView, _ after: CellView) -> Broken? {
        for tenant in after.slices.keys.sorted() where tenant != Quota.tenantAlwaysThere {
            guard let slice = after.slices[tenant], slice.usedCount > before.slices[tenant]?.usedCount ?? 0 else {
                continue
            }
            // Within the entry it may have been set and gone again.
            if slice.revision == .zero && before.slices[tenant]?.revision ?? .zero == .zero {
                return Broken(promise: "no VM is made for a tenant that nobody set", detail: "\(slice)")
            }
        }
        return nil
    }

    /// VMs that wait together get their first places in one entry, all that still wait; and none is by itself before.
    private static func brokenGang(_ before: CellView, _ after: CellView) -> Broken? {
        // hash order: looked up only
        var placed: [UInt64: VMID] = [:]
        for id in before.vms.keys.sorted() {
            guard let old = before.vms[id], old.gang > 0, let vm = after.vms[id] else { continue }
            if vm.place != nil { placed[old.gang] = id }
            // One that was stopped and started meanwhile is of another generation.
            if vm.place == nil && vm.gang != old.gang && vm.power != .stopped && !vm.isDeleting
                && vm.departure?.isLeaving != true && vm.generation == old.generation
            {
                return Broken(
                    promise: "a gang is placed whole",
                    detail: "VM \(id) waits, and is of gang \(old.gang) no more: \(vm)")
            }
        }
        for id in after.vms.keys.sorted() {
            guard let vm = after.vms[id], vm.gang > 0 else { continue }
            if let other = placed[vm.gang] {
                return Broken(
                    promise: "a gang is placed whole",
                    detail: "VM \(other) of gang \(vm.gang) has a place, and VM \(id) waits")
            }
            if vm.place != nil || vm.power == .stopped || vm.isDeleting {
                return Broken(promise: "a gang waits", detail: "\(vm)")
            }
        }
        return nil
    }

    private static func broken(_ host: CellHost, _ used: Resources, was: CellHost?) -> Broken? {
        if used != host.used {
            return Broken(
                promise: "no reservation leaks", detail: "host \(host.id) counts \(host.used), its VMs \(used)")
        }
        // One that came from another cell with its VMs has what it had there.
        guard let was, was.health != .removed, was.offered == host.offered else { return nil }
        for kind in ResourceKind.allCases {
            let (now, before) = (used.vector[kind.rawValue], was.used.vector[kind.rawValue])
            if now > before && now > host.offered.vector[kind.rawValue] {
                return Broken(
                    promise: "no host is exceeded",
                    detail:
                        "host \(host.id) offers \(host.offered.vector[kind.rawValue]) of \(kind), and \(now) are given")
            }
        }
        return nil
    }

    private static func broken(
        _ slice: TenantSlice, _ count: UInt64, _ sum: Resources, was: TenantSlice?
    ) -> Broken? {
        if slice.usedCount != count || slice.used != sum {
            return Broken(
                promise: "quotas are counted right",
                detail:
                    "\(slice.tenant) counts \(slice.usedCount) VMs with \(slice.used), its VMs are \(count) with \(sum)"
            )
        }
        // What goes along with VMs brings both at once.
        guard let was, was.quota == slice.quota, was.net == slice.net else { return nil }
        let quota = slice.allowed
        let isExceeded =
            (count > was.usedCount && count > quota.vmCount ?? .max)
            || (sum.cpuMillis > was.used.cpuMillis && sum.cpuMillis > quota.cpuMillis ?? .max)
            || (sum.memoryMiB > was.used.memoryMiB && sum.memoryMiB > quota.memoryMiB ?? .max)
            || (sum.diskMiB > was.used.diskMiB && sum.diskMiB > quota.diskMiB ?? .max)
        return isExceeded ? Broken(promise: "no quota is exceeded", detail: "\(slice)") : nil
    }

    private static func broken(_ vm: CellVM, newOn id: HostID, _ before: CellView, _ after: CellView) -> Broken? {
        guard let host = after.hosts[id] else {
            return Broken(promise: "places are hosts", detail: "VM \(vm.id) is on host \(id), which is none")
        }
        // Of an entry that changes the host, the rules, or the VM as well, the order within it is not known here.
        guard let was = before.hosts[id], was.health != .removed, was.about == host.about, was.policy == host.policy,
            before.vms[vm.id]?.spec ?? vm.spec == vm.spec
        else { return nil }
        if let rule = brokenRule(vm.spec, host) {
            return Broken(promise: "hard rules hold", detail: "VM \(vm.id) came to host \(id): \(rule)")
        }
        for name in vm.spec.groups {
            guard let group = group(name, vm.tenant, after), group.isHard,
                before.groups[group.id]?.rule == group.rule, before.groups[group.id]?.scope == group.scope,
                case .antiAffinity(let most) = group.rule
            else { continue }
            let there = members(of: group, in: domain(group.scope, host), after)
            let wereThere = members(of: group, in: domain(group.scope, host), before)
            if there > max(1, most) && there > wereThere {
                return Broken(
                    promise: "hard rules hold",
                    detail:
                        "group \(name) allows \(most) in one \(group.scope), and has \(there) with VM \(vm.id) on \(id)"
                )
            }
        }
        return nil
    }

    static func group(_ name: String, _ tenant: String, _ view: CellView) -> CellGroup? {
        for id in view.groups.keys.sorted() {
            if let group = view.groups[id], group.name == name, group.tenant == tenant { return group }
        }
        return nil
    }

    /// VMs of a group with a copy in a domain, without one of them.
    static func members(of group: CellGroup, in domain: String, _ view: CellView, besides: VMID? = nil) -> Int {
        var count = 0
        for id in view.vms.keys.sorted() where id != besides {
            guard let vm = view.vms[id], vm.tenant == group.tenant, vm.spec.groups.contains(group.name) else {
                continue
            }
            let isThere = claims(vm).contains { view.hosts[$0].map { self.domain(group.scope, $0) == domain } ?? false }
            if isThere { count += 1 }
        }
        return count
    }

    // MARK: One VM and one host

    static func brokenRule(_ spec: VMDescription, _ host: CellHost) -> String? {
        if !spec.zones.isEmpty && !spec.zones.contains(host.about.locality.zone) { return "another zone" }
        for selector in spec.required {
            let value = host.labels.first { $0.key == selector.key }?.value
            let holds: Bool
            switch selector.match {
            case .oneOf(let values): holds = value.map { values.contains($0) } ?? false
            case .noneOf(let values): holds = value.map { !values.contains($0) } ?? true
            case .exists: holds = value != nil
            case .absent: holds = value == nil
            }
            if !holds { return "label \(selector.key)" }
        }
        for taint in host.policy.taints where taint.effect == .noPlacement {
            let isTolerated = spec.tolerations.contains {
                $0.key == taint.key && ($0.value == nil || $0.value == taint.value)
            }
            if !isTolerated { return "taint \(taint.key)" }
        }
        for disk in spec.disks {
            if case .shared(let domain) = disk.kind, !host.about.storageDomains.contains(domain) { return "storage" }
        }
        if case .shared(let domain)? = spec.tpm, !host.about.storageDomains.contains(domain) { return "storage" }
        for network in spec.networks where !host.about.networks.contains(network) { return "network" }
        if spec.tpm != nil && !host.about.hasTPM { return "TPM" }
        return nil
    }

    /// Whether VMs without groups can all be on one host.
    static func takesAll(_ vms: [CellVM], _ host: CellHost, _ view: CellView) -> Bool {
        if vms.contains(where: { !$0.spec.groups.isEmpty || refusal($0, host, view) != nil }) { return false }
        let free = host.offered - host.used - vms.reduce(Resources.zero) { $0 + $1.demand }
        return ResourceKind.allCases.allSatisfy { free.vector[$0.rawValue] >= 0 }
    }

    /// Why a waiting VM can't be on a host; nil when it can.
    static func refusal(_ vm: CellVM, _ host: CellHost, _ view: CellView) -> String? {
        if host.health != .up || host.duty != .inService || host.awayUntil > .zero || host.declaredDeadAt > .zero {
            return "it takes none"
        }
        if let bound = vm.boundTo, bound != host.id { return "bound elsewhere" }
        if let rule = brokenRule(vm.spec, host) { return rule }
        let free = host.offered - host.used
        for kind in ResourceKind.allCases {
            let asked = vm.demand.vector[kind.rawValue]
            if asked > 0 && asked > free.vector[kind.rawValue] { return "too little \(kind)" }
        }
        for name in vm.spec.groups {
            guard let group = group(name, vm.tenant, view), group.isHard else { continue }
            let there = members(of: group, in: domain(group.scope, host), view, besides: vm.id)
            switch group.rule {
            case .antiAffinity(let most): if there + 1 > max(1, most) { return "group \(name)" }
            case .affinity, .pack:
                var all = 0
                for id in view.hosts.keys.sorted() {
                    guard let other = view.hosts[id] else { continue }
                    all += members(of: group, in: domain(group.scope, other), view, besides: vm.id)
                }
                if there == 0 && all > 0 { return "group \(name)" }
            case .spread:
                // Not drawn by any run.
                return nil
            }
        }
        return nil
    }
}
