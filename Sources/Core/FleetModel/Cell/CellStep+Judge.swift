import ClusterBase

// The judge of places: everything that is hard. What is soft is the planner's business.

extension CellStep {
    /// Why a VM can't go there; nil when it can. What it has elsewhere doesn't count for its groups.
    mutating func refusal(of vm: CellVM, at target: Assignment) throws(StoreError) -> CellRefusal? {
        guard let host = try host(target.host), host.health != .removed else { return .unknownHost(target.host) }
        if !host.state.takesVMs { return .hostTakesNone(host.id, host.state) }
        if let bound = vm.boundTo, bound != host.id { return .boundToHost(vm.id) }
        if host.vmCount >= CellLimits.vmsPerHostMax { return .tooMany(.vmsOnHost) }
        if let rule = Self.brokenRule(vm.spec, host) { return .doesNotFit(host.id, rule) }
        if let lack = Self.lack(vm.demand, on: host), !mutated(.roomNotJudged) { return .doesNotFit(host.id, lack) }
        if let lack = Self.lackInside(vm.spec, vm.demand, target, host) { return .doesNotFit(host.id, lack) }
        if let rule = try brokenGroup(vm, host) { return .doesNotFit(host.id, rule) }
        return nil
    }

    // MARK: Labels, taints, zones, storage, networks

    /// The first rule between a VM and what a host is that does not hold.
    static func brokenRule(_ spec: VMDescription, _ host: CellHost) -> String? {
        if !spec.zones.isEmpty && !spec.zones.contains(host.about.locality.zone) {
            return "it is in zone \(host.about.locality.zone), which the VM does not name"
        }
        if !spec.required.isEmpty {
            let labels = host.labels
            for selector in spec.required where !selector.matches(labels) {
                return "its label \(selector.key) is not as the VM requires"
            }
        }
        for taint in host.policy.taints
        where taint.effect == .noPlacement && !spec.tolerations.contains(where: { $0.tolerates(taint) }) {
            return "it has the taint \(taint.key), which the VM does not tolerate"
        }
        for domain in spec.sharedDomains where !host.about.storageDomains.contains(domain) {
            return "it can't open storage domain \(domain)"
        }
        if spec.tpm != nil && !host.about.hasTPM { return "VMs can have no TPM there; install swtpm on it" }
        for network in spec.networks where !host.about.networks.contains(network) {
            return "it has no network \(network)"
        }
        return nil
    }

    // MARK: Room

    static func lack(_ demand: Resources, on host: CellHost) -> String? {
        let free = host.offered - host.used
        if free.holds(demand) { return nil }
        for kind in ResourceKind.allCases {
            let asked = demand.vector[kind.rawValue]
            let left = free.vector[kind.rawValue]
            if asked > 0 && asked > left { return "\(max(0, left)) of \(kind) are free and \(asked) are needed" }
        }
        return nil
    }

    /// What NUMA nodes and devices lack for an assignment, or what is wrong with it.
    static func lackInside(
        _ spec: VMDescription, _ demand: Resources, _ target: Assignment, _ host: CellHost
    ) -> String? {
        let nodes = target.numaNodes
        for i in nodes.indices where i > 0 && nodes[i] <= nodes[i - 1] { return "its NUMA nodes are not ascending" }
        if let last = nodes.last, Int(last) >= host.about.numaNodes.count { return "it has no NUMA node \(last)" }
        switch spec.numa {
        case .none: if !nodes.isEmpty { return "NUMA nodes were chosen, and the VM asks for none" }
        case .nodes(let count): if nodes.count != count { return "the VM asks for \(count) NUMA nodes" }
        case .fewest(let most):
            if !(1...max(1, most)).contains(nodes.count) { return "the VM asks for 1 to \(most) NUMA nodes" }
        }
        if !nodes.isEmpty {
            let share = demand.share(of: nodes.count)
            for node in nodes where !host.hasRoom(for: share, onNode: Int(node)) {
                return "its NUMA node \(node) has too little left"
            }
        }
        return lackOfDevices(spec, target, host)
    }

    private static func lackOfDevices(
        _ spec: VMDescription, _ target: Assignment, _ host: CellHost
    ) -> String? {
        if spec.devices.isEmpty {
            return target.devices.isEmpty ? nil : "devices were chosen, and the VM asks for none"
        }
        let wanted = spec.devices.reduce(0) { $0 + $1.count }
        if target.devices.count != wanted { return "the VM asks for \(wanted) devices" }
        var used = host.devicesUsed
        while used.count < host.about.devices.count { used.append(0) }
        for use in target.devices {
            let at = Int(use.device)
            if at >= host.about.devices.count { return "it has no device \(use.device)" }
            if !(1...Device.wholeMillis).contains(use.millis) { return "a part of a device has 1 to 1000 thousandths" }
            used[at] += use.millis
            if used[at] > Device.wholeMillis { return "too little of its device \(use.device) is free" }
        }
        return DeviceMatch(spec, target, host).isComplete ? nil : "the chosen devices are not those the VM asks for"
    }

    // MARK: Groups

    /// The first hard group whose rule one more member on this host would break. Where the VM is now doesn't count.
    mutating func brokenGroup(_ vm: CellVM, _ host: CellHost) throws(StoreError) -> String? {
        for name in vm.spec.groups {
            guard let group = try group(vm.tenant, name), group.isHard else { continue }
            let own = try domains(of: vm, group.scope)
            let domain = host.domain(group.scope)
            let there = try members(group.id, domain)
            let others = own.contains(domain) ? there - min(1, there) : there
            switch group.rule {
            case .antiAffinity(let most):
                if others + 1 > UInt64(max(1, most)) {
                    return "group \(name) allows \(most) in one \(group.scope), and \(others) are there"
                }
            case .spread(let skew):
                let most = UInt64(max(1, skew))
                let least = others + 1 > most ? others + 1 - most : 0
                let isEven = try everyDomain(of: group, has: least, ignoring: own)
                if !isEven {
                    return "group \(name) allows \(most) more in one \(group.scope) than in another"
                }
            case .pack, .affinity:
                if others == 0, try hasMembers(group, besides: own) {
                    return "group \(name) keeps its members in one \(group.scope), and none is there"
                }
            }
        }
        return nil
    }

    /// Whether a group has members somewhere, one of which, in `ignored`, doesn't count.
    private func hasMembers(_ group: CellGroup, besides ignored: [[UInt8]]) throws(StoreError) -> Bool {
        var found = false
        try access.scan(.prefix(CellKey.groupDomains(group.id))) { key, value in
            let count = value.bigEndian64(at: 0) ?? 0
            found = count > (ignored.contains(Array(key.dropFirst(9))) ? 1 : 0)
            return !found
        }
        return found
    }
}

extension VMDescription.NamedSelector {
    func matches(_ labels: [Named]) -> Bool {
        let label = labels.first { $0.key == key }
        switch match {
        case .oneOf(let values): return label.map { values.contains($0.value) } ?? false
        case .noneOf(let values): return label.map { !values.contains($0.value) } ?? true
        case .exists: return label != nil
        case .absent: return label == nil
        }
    }
}

extension VMDescription.NamedToleration {
    func tolerates(_ taint: NamedTaint) -> Bool { taint.key == key && (value == nil || value == taint.value) }
}

extension CellHost {
    /// What is promised of a NUMA node, less what is in use there.
    func free(onNode node: Int) -> NUMANode {
        let used = node < numaUsed.count ? numaUsed[node] : NUMANode(cpuMillis: 0, memoryMiB: 0)
        let over = policy.overcommit
        return NUMANode(
            cpuMillis: about.numaNodes[node].cpuMillis * over.cpuMilli / 1000 - used.cpuMillis,
            memoryMiB: about.numaNodes[node].memoryMiB * over.memoryMilli / 1000 - used.memoryMiB)
    }

    func hasRoom(for share: NUMANode, onNode node: Int) -> Bool {
        let free = free(onNode: node)
        return (share.cpuMillis <= free.cpuMillis || share.cpuMillis <= 0)
            && (share.memoryMiB <= free.memoryMiB || share.memoryMiB <= 0)
    }

    /// What is in use beyond what it offers, in words.
    package var excess: String? {
        let free = offered - used
        for kind in ResourceKind.allCases where used.vector[kind.rawValue] > 0 && free.vector[kind.rawValue] < 0 {
            return "\(-free.vector[kind.rawValue]) of \(kind) more are in use than it offers"
        }
        for node in numaUsed.indices {
            if node >= about.numaNodes.count { return "NUMA node \(node), which it no longer has, is in use" }
            let free = self.free(onNode: node)
            if free.cpuMillis < 0 || free.memoryMiB < 0 { return "more of NUMA node \(node) is in use than it offers" }
        }
        for device in devicesUsed.indices where devicesUsed[device] > 0 && device >= about.devices.count {
            return "device \(device), which it no longer has, is in use"
        }
        return nil
    }
}

/// Whether devices can be dealt out to the wishes of a VM: each wish gets as many different ones as it asks for.
struct DeviceMatch {
    private let uses: [DeviceUse]
    /// The wish that each use serves.
    private var servedBy: [Int?]
    private let wishes: [VMDescription.NamedDeviceWish]
    private let fits: [[Bool]]
    private(set) var isComplete = true

    init(_ spec: VMDescription, _ target: Assignment, _ host: CellHost) {
        uses = target.devices
        wishes = spec.devices
        servedBy = Array(repeating: nil, count: uses.count)
        let near = spec.devicesOnSameNodes && !target.numaNodes.isEmpty
        fits = wishes.map { wish in
            target.devices.map { use in
                let device = host.about.devices[Int(use.device)]
                if use.millis != wish.millis || !(wish.kinds.isEmpty || wish.kinds.contains(device.kind)) {
                    return false
                }
                return !near || device.numaNode.map { target.numaNodes.contains($0) } ?? false
            }
        }
        for wish in wishes.indices {
            for _ in 0..<wishes[wish].count {
                var tried = Array(repeating: false, count: uses.count)
                if !serve(wish, &tried) {
                    isComplete = false
                    return
                }
            }
        }
    }

    /// Finds one more use for a wish, where others make way when they can.
    private mutating func serve(_ wish: Int, _ tried: inout [Bool]) -> Bool {
        for use in uses.indices where fits[wish][use] && !tried[use] && !hasDevice(wish, uses[use].device) {
            tried[use] = true
            if let other = servedBy[use] {
                servedBy[use] = nil
                if !serve(other, &tried) {
                    servedBy[use] = other
                    continue
                }
            }
            servedBy[use] = wish
            return true
        }
        return false
    }

    private func hasDevice(_ wish: Int, _ device: UInt8) -> Bool {
        uses.indices.contains { servedBy[$0] == wish && uses[$0].device == device }
    }
}
