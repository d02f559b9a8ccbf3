import ClusterBase
import FleetModel
import Placement

/// A naive fleet that judges by looking at everything: the oracle.
struct World {
    var hosts: [Host] = []
    var groups: [PlacementGroup] = []
    var placed: [(spec: VMSpec, at: Assignment)] = []

    func vms(on id: HostID) -> [(spec: VMSpec, at: Assignment)] { placed.filter { $0.at.host == id } }

    func free(_ host: Host) -> Resources { vms(on: host.id).reduce(host.offered) { $0 - $1.spec.demand } }

    func freeNodes(_ host: Host) -> [NUMANode] {
        var nodes = host.numaNodes.map {
            NUMANode(
                cpuMillis: $0.cpuMillis * host.overcommit.cpuMilli / 1000,
                memoryMiB: $0.memoryMiB * host.overcommit.memoryMilli / 1000)
        }
        for vm in vms(on: host.id) where !vm.at.numaNodes.isEmpty {
            let count = Int64(vm.at.numaNodes.count)
            for n in vm.at.numaNodes {
                nodes[Int(n)].cpuMillis -= (vm.spec.demand.cpuMillis + count - 1) / count
                nodes[Int(n)].memoryMiB -= (vm.spec.demand.memoryMiB + count - 1) / count
            }
        }
        return nodes
    }

    func freeDevices(_ host: Host) -> [Int32] {
        var left = [Int32](repeating: 1000, count: host.devices.count)
        for vm in vms(on: host.id) { for use in vm.at.devices { left[Int(use.device)] -= use.millis } }
        return left
    }

    func domain(_ scope: PlacementGroup.Scope, _ host: Host) -> [UInt64] {
        switch scope {
        case .host: [host.id.rawValue]
        case .rack: [UInt64(host.zone.number), UInt64(host.rack.number)]
        case .zone: [UInt64(host.zone.number)]
        }
    }

    func members(_ id: PlacementGroupID, _ domain: [UInt64], _ scope: PlacementGroup.Scope) -> Int {
        placed.count { vm in
            guard vm.spec.groups.contains(id), let host = hosts.first(where: { $0.id == vm.at.host }) else {
                return false
            }
            return self.domain(scope, host) == domain
        }
    }

    func rulesAllow(_ spec: VMSpec, _ host: Host) -> Bool {
        if host.state != .ready { return false }
        if !spec.zones.isEmpty && !spec.zones.contains(host.zone) { return false }
        for selector in spec.required {
            let value = host.labels.first { $0.key == selector.key }?.value
            switch selector.match {
            case .oneOf(let values): if value == nil || !values.contains(value!) { return false }
            case .noneOf(let values): if value != nil && values.contains(value!) { return false }
            case .exists: if value == nil { return false }
            case .absent: if value != nil { return false }
            }
        }
        for taint in host.taints where taint.effect == .noPlacement {
            if !spec.tolerations.contains(where: { $0.key == taint.key && ($0.value == nil || $0.value == taint.value) }
            ) {
                return false
            }
        }
        for disk in spec.disks {
            if case .shared(let domain) = disk.kind, !host.storageDomains.contains(domain) { return false }
        }
        for network in spec.networks where !host.networks.contains(network) { return false }
        if spec.wantsTPM && !host.hasTPM { return false }
        for id in spec.groups {
            let group = groups.first { $0.id == id }!
            if !group.isHard { continue }
            let here = members(id, domain(group.scope, host), group.scope)
            let total = placed.count { $0.spec.groups.contains(id) }
            switch group.rule {
            case .antiAffinity(let most): if here >= max(1, most) { return false }
            case .pack, .affinity: if total > 0 && here == 0 { return false }
            case .spread(let skew):
                let ready = hosts.filter { $0.state == .ready }
                let least = ready.map { members(id, domain(group.scope, $0), group.scope) }.min() ?? 0
                if here + 1 - least > max(1, skew) { return false }
            }
        }
        return true
    }

    func hasRoom(_ spec: VMSpec, _ host: Host) -> Bool {
        let free = free(host)
        for lane in 0..<4 where spec.demand.vector[lane] > 0 && free.vector[lane] < spec.demand.vector[lane] {
            return false
        }
        let splits: [Int]
        switch spec.numa {
        case .none: splits = [0]
        case .nodes(let n): splits = [n]
        case .fewest(max: let n): splits = Array(1...n)
        }
        let nodes = freeNodes(host)
        for split in splits {
            for mask in 0..<(1 << nodes.count) where mask.nonzeroBitCount == split {
                let chosen = nodes.indices.filter { mask & (1 << $0) != 0 }
                let count = Int64(max(1, split))
                let cpu = (spec.demand.cpuMillis + count - 1) / count
                let memory = (spec.demand.memoryMiB + count - 1) / count
                if chosen.contains(where: {
                    nodes[$0].cpuMillis < cpu && cpu > 0 || nodes[$0].memoryMiB < memory && memory > 0
                }) {
                    continue
                }
                let near: [Int]? = spec.devicesOnSameNodes && split > 0 ? chosen : nil
                if devicesFit(spec.devices, host, freeDevices(host), near) { return true }
            }
        }
        return false
    }

    /// Tries every device for every piece.
    func devicesFit(_ wishes: [DeviceWish], _ host: Host, _ left: [Int32], _ near: [Int]?) -> Bool {
        var pieces: [(wish: Int, millis: Int32)] = []
        for (w, wish) in wishes.enumerated() { for _ in 0..<wish.count { pieces.append((w, wish.millis)) } }
        func search(_ piece: Int, _ left: [Int32], _ used: Set<Int>) -> Bool {
            if piece == pieces.count { return true }
            let same = piece > 0 && pieces[piece - 1].wish == pieces[piece].wish
            let wish = wishes[pieces[piece].wish]
            for d in left.indices where left[d] >= wish.millis && !(same && used.contains(d)) {
                if !wish.kinds.isEmpty && !wish.kinds.contains(host.devices[d].kind) { continue }
                if let near, !near.contains(Int(host.devices[d].numaNode ?? 255)) { continue }
                var less = left
                less[d] -= wish.millis
                if search(piece + 1, less, same ? used.union([d]) : [d]) { return true }
            }
            return false
        }
        return search(0, left, [])
    }

    func allows(_ spec: VMSpec, _ host: Host) -> Bool { rulesAllow(spec, host) && hasRoom(spec, host) }

    /// What a decision broke; nil when it keeps everything.
    func fault(_ spec: VMSpec, _ at: Assignment) -> String? {
        guard let host = hosts.first(where: { $0.id == at.host }) else { return "no such host" }
        if !rulesAllow(spec, host) { return "a rule forbids host \(host.id)" }
        var after = self
        after.placed.append((spec, at))
        let free = after.free(host)
        for lane in 0..<4 where spec.demand.vector[lane] > 0 && free.vector[lane] < 0 {
            return "host \(host.id) is over capacity"
        }
        switch spec.numa {
        case .none: if !at.numaNodes.isEmpty { return "nodes without a wish" }
        case .nodes(let n): if at.numaNodes.count != n { return "\(at.numaNodes.count) nodes, not \(n)" }
        case .fewest(max: let n): if at.numaNodes.isEmpty || at.numaNodes.count > n { return "wrong number of nodes" }
        }
        for (n, node) in after.freeNodes(host).enumerated() where at.numaNodes.contains(UInt8(n)) {
            if node.cpuMillis < 0 && spec.demand.cpuMillis > 0 || node.memoryMiB < 0 && spec.demand.memoryMiB > 0 {
                return "node \(n) is over capacity"
            }
        }
        if after.freeDevices(host).contains(where: { $0 < 0 }) { return "a device is over capacity" }
        var uses = at.devices
        // Choosy wishes first, so that one that takes anything does not claim what another needs.
        for wish in spec.devices.sorted(by: { !$0.kinds.isEmpty && $1.kinds.isEmpty }) {
            for _ in 0..<wish.count {
                let fitting = uses.firstIndex { use in
                    let device = host.devices[Int(use.device)]
                    if spec.devicesOnSameNodes && !at.numaNodes.isEmpty
                        && !at.numaNodes.contains(device.numaNode ?? 255)
                    {
                        return false
                    }
                    return use.millis == wish.millis && (wish.kinds.isEmpty || wish.kinds.contains(device.kind))
                }
                guard let fitting else { return "a device is missing or of the wrong kind" }
                uses.remove(at: fitting)
            }
        }
        return uses.isEmpty ? nil : "more devices than asked for"
    }
}

/// Random hosts, groups and requests, small enough for the oracle and tight enough that rules bite.
struct Maker {
    var random: PRNG
    init(seed: UInt64) { random = PRNG(seed: seed) }

    mutating func pick<T>(_ from: [T]) -> T { from[random.below(from.count)] }

    mutating func host(_ id: UInt64) -> Host {
        var host = Host(
            id: HostID(rawValue: id),
            capacity: Resources(
                cpuMillis: pick([8000, 16000]), memoryMiB: pick([16384, 32768, 65536]), diskMiB: pick([0, 10_000]),
                networkMbps: 10_000),
            zone: Word(UInt32(1 + random.below(2))), rack: Word(UInt32(10 + random.below(3))))
        if random.chance(1, in: 4) { host.overcommit.cpuMilli = 2000 }
        if random.chance(1, in: 4) { host.reserved = Resources(cpuMillis: 1000, memoryMiB: 1024) }
        if random.chance(1, in: 2) {
            let count = pick([2, 2, 4])
            host.numaNodes = Array(
                repeating: NUMANode(
                    cpuMillis: host.capacity.cpuMillis / Int64(count), memoryMiB: host.capacity.memoryMiB / Int64(count)
                ),
                count: count)
        }
        if random.chance(1, in: 2) {
            for _ in 0..<(1 + random.below(4)) {
                let node: UInt8? = host.numaNodes.isEmpty ? nil : UInt8(random.below(host.numaNodes.count))
                host.devices.append(Device(kind: Word(UInt32(50 + random.below(2))), numaNode: node))
            }
        }
        if random.chance(1, in: 2) { host.labels = [Label(Word(60), Word(UInt32(61 + random.below(2))))] }
        if random.chance(1, in: 6) { host.taints = [Taint(Word(70), effect: pick([.noPlacement, .avoid]))] }
        if random.chance(2, in: 3) { host.storageDomains = [Word(80)] }
        if random.chance(2, in: 3) { host.networks = [Word(90), Word(91)] }
        if random.chance(1, in: 12) { host.state = pick(HostState.allCases) }
        host.hasTPM = random.chance(2, in: 3)
        return host
    }

    mutating func group(_ id: UInt64) -> PlacementGroup {
        PlacementGroup(
            id: PlacementGroupID(rawValue: id),
            rule: pick([
                .antiAffinity(perDomainMax: 1), .antiAffinity(perDomainMax: 2), .spread(skewMax: 1),
                .spread(skewMax: 2),
                .pack, .affinity,
            ]),
            scope: pick(PlacementGroup.Scope.allCases), isHard: random.chance(2, in: 3), weight: pick([10, 50, 100]))
    }

    mutating func spec(_ id: UInt64, groups: UInt64) -> VMSpec {
        var spec = VMSpec(
            id: VMID(rawValue: id),
            resources: Resources(
                cpuMillis: pick([500, 1000, 2000, 4000]), memoryMiB: pick([512, 1024, 4096, 8192]),
                networkMbps: pick([0, 0, 1000])))
        if random.chance(1, in: 4) { spec.numa = pick([.nodes(1), .nodes(2), .fewest(max: 2)]) }
        if random.chance(1, in: 5) {
            spec.devices = [
                DeviceWish(kinds: pick([[], [Word(50)], [Word(51)]]), count: 1, millis: pick([300, 500, 1000]))
            ]
            if random.chance(1, in: 3) {
                spec.devices.append(DeviceWish(kinds: [Word(50)], count: pick([1, 2]), millis: pick([400, 1000])))
            }
            spec.devicesOnSameNodes = random.chance(1, in: 2)
        }
        if random.chance(1, in: 5) {
            spec.required = [
                Selector(Word(60), pick([.oneOf([Word(61)]), .noneOf([Word(62)]), .exists, .absent]))
            ]
        }
        if random.chance(1, in: 6) { spec.preferred = [Preference(Selector(Word(60), .oneOf([Word(62)])), weight: 30)] }
        if random.chance(1, in: 6) { spec.tolerations = [Toleration(Word(70))] }
        if random.chance(1, in: 6) {
            spec.disks = [Disk(sizeMiB: 100, kind: pick([.local, .shared(domain: Word(80))]))]
        }
        if random.chance(1, in: 6) { spec.networks = [Word(90)] }
        if random.chance(1, in: 8) { spec.zones = [Word(1)] }
        if groups > 0 && random.chance(1, in: 2) {
            spec.groups = [PlacementGroupID(rawValue: 1 + random.below(groups))]
        }
        spec.priority = Int32(random.below(4))
        spec.wantsTPM = random.chance(1, in: 8)
        return spec
    }
}

/// All that can be seen of an index, in a canonical order.
func view(_ index: PlacementIndex) -> [String] {
    var lines: [String] = ["\(index.totals) \(index.mix)"]
    for id in index.hostIDs {
        lines.append(
            "\(id) \(String(describing: index.free(id))) \(String(describing: index.freeNodes(id)))"
                + " \(String(describing: index.freeDevices(id))) \(index.vms(on: id))")
    }
    for id in index.vmIDs { lines.append("\(id) \(String(describing: index.assignment(id)))") }
    return lines
}
