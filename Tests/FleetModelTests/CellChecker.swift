import ClusterBase
import FleetModel

/// What must hold of a cell's rows after every entry.
struct CellChecker {
    private var hosts: [HostID: CellHost] = [:]
    private var vms: [VMID: CellVM] = [:]
    private var slices: [String: TenantSlice] = [:]
    /// Permissions ever given: VM, epoch, host.
    private var given: [[UInt64]: HostID] = [:]

    static func claims(_ vm: CellVM) -> [Assignment] {
        var claims: [Assignment] = []
        if let place = vm.place { claims.append(place.assignment) }
        if let migration = vm.migration {
            claims.append(migration.phase == .leaving ? migration.source.assignment : migration.target.assignment)
        }
        return claims
    }

    mutating func check(_ view: CellView, _ state: NaiveState, _ commands: [CellCommand]) throws {
        let isOne = commands.count == 1
        try checkHosts(view, isOne)
        try checkSlices(view, isOne)
        for id in view.vms.keys.sorted() {
            guard let vm = view.vms[id] else { continue }
            try checkEpochs(vm)
            guard isOne, vm != vms[id] else { continue }
            let before = vms[id].map(CellChecker.claims) ?? []
            for claim in CellChecker.claims(vm) where !before.contains(claim) { try checkRules(vm, claim, view) }
        }
        try checkIndexes(view, state)
        try checkRemains(view, state)
        try checkGangs(view)
        try checkReserve(view, isOne ? commands.first?.operation : nil)
        hosts = view.hosts
        vms = view.vms
        slices = view.slices
    }

    // MARK: What is kept free for losses

    /// Commands that the reserve was in force for, and those of them after which less was left and still enough.
    private(set) var reserveSteps = 0
    private(set) var reserveUses = 0
    private var slack: SIMD4<Int64>?

    /// What the cell counts, change by change, is what its rows say; and nothing but a loss or a change from outside leaves less than
    /// the reserve wants.
    private mutating func checkReserve(_ view: CellView, _ operation: CellCommand.Operation?) throws {
        let before = slack
        slack = nil
        guard let standing = view.reserve, !standing.isCounting else { return }
        let sums = ReserveSums(view, standing.reserve)
        let counted = [standing.free, standing.worst, standing.owed, standing.largest]
        if counted != sums.all { throw CellFailure("the reserve counts \(counted), and there is \(sums.all)") }
        for kind in ResourceKind.allCases {
            let lane = kind.rawValue
            for loss in sums.losses(of: standing.reserve.count, lane)
            where standing.slack.vector[lane] >= 0 && loss.room < loss.need {
                throw CellFailure("without \(loss.domains) there is room for \(loss.room) and not for \(loss.need)")
            }
        }
        slack = standing.slack.vector
        reserveSteps += 1
        guard let before, let operation else { return }
        let after = standing.slack.vector
        if any(after .< before) && after.min() >= 0 { reserveUses += 1 }
        if !any((after .< before) .& (after .< 0)) { return }
        switch operation {
        // Losses, and what nobody asked the cell about. A move was judged when it began.
        case .declareDown, .registerHost, .removeHost, .setSetting, .commitMigration, .careForHost(_, .declareDead):
            return
        // What was lost may use the reserve; once placed it may be the largest that is to find room again.
        case .placeVMs(let items, _) where items.contains(where: { vms[$0.vm]?.mayUseReserve == true }): return
        default: throw CellFailure("\(operation) left \(after) of \(before) beyond the reserve")
        }
    }

    // MARK: Disks that are left

    /// Changes that took a shared disk off a VM which had it.
    private(set) var drops = 0

    /// A file that somebody removes is no VM's, and what a VM may have had and has no more is noted.
    private mutating func checkRemains(_ view: CellView, _ state: NaiveState) throws {
        func hasPlace(_ disk: VMDescription.NamedDisk, _ other: CellRemains.Disk) -> Bool {
            disk.name == other.name && disk.kind == .shared(domain: other.domain)
        }
        var noted: [VMID: CellRemains] = [:]
        for row in state.rows where row.key.first == CellTable.remains.kind {
            guard let remains = CellRemains.decode(row.value) else { throw CellFailure("a note of disks is damaged") }
            noted[remains.vm] = remains
            for disk in view.vms[remains.vm]?.spec.disks ?? []
            where remains.leaving.contains(where: { hasPlace(disk, $0) }) {
                throw CellFailure("the disk \(disk.name) of VM \(remains.vm) is to be removed, and the VM has it")
            }
        }
        for (id, vm) in view.vms {
            for disk in vm.spec.disks where vm.droppedDisks.contains(where: { hasPlace(disk, $0) }) {
                throw CellFailure("VM \(id) has the disk \(disk.name) again, whose file may be removed late")
            }
            guard let old = vms[id], vm.droppedDisks.count > old.droppedDisks.count else { continue }
            drops += 1
            guard noted[id]?.leaving.isEmpty == false else {
                throw CellFailure("VM \(id) dropped a disk that nobody removes")
            }
        }
    }

    // MARK: Room

    private func checkHosts(_ view: CellView, _ isOne: Bool) throws {
        var used: [HostID: Resources] = [:]
        var counts: [HostID: UInt64] = [:]
        var nodes: [HostID: [NUMANode]] = [:]
        var devices: [HostID: [Int32]] = [:]
        for vm in view.vms.values {
            for claim in CellChecker.claims(vm) {
                used[claim.host, default: .zero] += vm.demand
                counts[claim.host, default: 0] += 1
                let n = Int64(max(1, claim.numaNodes.count))
                for node in claim.numaNodes {
                    var known = nodes[claim.host] ?? []
                    while known.count <= Int(node) { known.append(NUMANode(cpuMillis: 0, memoryMiB: 0)) }
                    known[Int(node)].cpuMillis += (vm.demand.cpuMillis + n - 1) / n
                    known[Int(node)].memoryMiB += (vm.demand.memoryMiB + n - 1) / n
                    nodes[claim.host] = known
                }
                for use in claim.devices {
                    var known = devices[claim.host] ?? []
                    while known.count <= Int(use.device) { known.append(0) }
                    known[Int(use.device)] += use.millis
                    devices[claim.host] = known
                }
            }
        }
        var away: [HostID: UInt64] = [:]
        for vm in view.vms.values {
            guard let origin = vm.origin, let host = view.hosts[origin.host], host.drain == origin.drain,
                host.health != .removed
            else { continue }
            away[host.id, default: 0] += 1
        }
        for (id, host) in view.hosts {
            if host.awayCount != away[id] ?? 0 {
                throw CellFailure("host \(id) counts \(host.awayCount) VMs that left it, they are \(away[id] ?? 0)")
            }
            if host.used != used[id] ?? .zero || host.vmCount != counts[id] ?? 0 || host.numaUsed != nodes[id] ?? []
                || host.devicesUsed != devices[id] ?? []
            {
                throw CellFailure("host \(id) counts \(host.used), its VMs are \(used[id] ?? .zero)")
            }
            guard isOne, let before = hosts[id] else { continue }
            let free = host.offered - host.used
            for i in 0..<4 where free.vector[i] < 0 && host.used.vector[i] > before.used.vector[i] {
                throw CellFailure("host \(id) is over what it offers, and more was let in")
            }
            for (n, use) in host.numaUsed.enumerated() {
                let known = n < before.numaUsed.count ? before.numaUsed[n] : NUMANode(cpuMillis: 0, memoryMiB: 0)
                let most = host.about.numaNodes[n].cpuMillis * host.policy.overcommit.cpuMilli / 1_000
                if (use.cpuMillis > most && use.cpuMillis > known.cpuMillis)
                    || (use.memoryMiB > host.about.numaNodes[n].memoryMiB && use.memoryMiB > known.memoryMiB)
                {
                    throw CellFailure("NUMA node \(n) of host \(id) is over what it has, and more was let in")
                }
            }
            for use in host.devicesUsed where use > 1_000 {
                throw CellFailure("a device of host \(id) is promised twice")
            }
        }
    }

    private func checkSlices(_ view: CellView, _ isOne: Bool) throws {
        var used: [String: Resources] = [:]
        var counts: [String: UInt64] = [:]
        for vm in view.vms.values {
            var charge = vm.spec.resources
            for disk in vm.spec.disks { charge.diskMiB += disk.sizeMiB }
            used[vm.tenant, default: .zero] += charge
            counts[vm.tenant, default: 0] += 1
        }
        for (tenant, slice) in view.slices {
            if slice.used != used[tenant] ?? .zero || slice.usedCount != counts[tenant] ?? 0 {
                throw CellFailure("tenant \(tenant) counts \(slice.used), its VMs are \(used[tenant] ?? .zero)")
            }
            guard isOne, let before = slices[tenant] else { continue }
            let isOver = slice.usedCount > slice.quota.vmCount ?? .max && slice.usedCount > before.usedCount
            let isOverCPU =
                slice.used.cpuMillis > slice.quota.cpuMillis ?? .max && slice.used.cpuMillis > before.used.cpuMillis
            if isOver || isOverCPU { throw CellFailure("tenant \(tenant) is over its quota, and more was let in") }
        }
    }

    // MARK: Epochs

    private mutating func checkEpochs(_ vm: CellVM) throws {
        for place in [vm.place, vm.migration?.target, vm.migration?.source].compactMap({ $0 }) {
            if place.epoch == 0 || place.epoch > vm.epochHighest {
                throw CellFailure("VM \(vm.id) has epoch \(place.epoch)")
            }
            let key = [vm.id.rawValue, place.epoch]
            if let host = given[key], host != place.assignment.host {
                throw CellFailure(
                    "epoch \(place.epoch) of VM \(vm.id) was given to \(host) and \(place.assignment.host)")
            }
            given[key] = place.assignment.host
        }
        if let known = vms[vm.id], known.epochHighest > vm.epochHighest { throw CellFailure("epochs go back") }
        if let migration = vm.migration, let place = vm.place {
            let end = migration.phase == .leaving ? migration.source : migration.target
            if end.assignment.host == place.assignment.host {
                throw CellFailure("VM \(vm.id) counts twice on one host")
            }
        }
    }

    // MARK: Rules for whoever comes

    private func checkRules(_ vm: CellVM, _ claim: Assignment, _ view: CellView) throws {
        guard let host = view.hosts[claim.host] else { throw CellFailure("VM \(vm.id) was let onto no host") }
        func fail(_ text: String) -> CellFailure { CellFailure("VM \(vm.id) was let onto host \(host.id): \(text)") }
        if host.state != .ready { throw fail("\(host.state)") }
        if !vm.spec.zones.isEmpty && !vm.spec.zones.contains(host.about.locality.zone) { throw fail("zone") }
        for selector in vm.spec.required {
            guard case .oneOf(let values) = selector.match else { continue }
            if !host.labels.contains(where: { $0.key == selector.key && values.contains($0.value) }) {
                throw fail("label")
            }
        }
        if !host.policy.taints.isEmpty && vm.spec.tolerations.isEmpty { throw fail("taint") }
        for disk in vm.spec.disks
        where disk.kind == .shared(domain: "ceph") && !host.about.storageDomains.contains("ceph") {
            throw fail("storage")
        }
        // A move that takes its disk along is under way, or was committed.
        let isMoving = vm.migration?.phase != .undoing && vm.migration?.target.assignment.host == host.id
        if let bound = vm.boundTo, bound != host.id, !isMoving { throw fail("its disk is on \(bound)") }
        if let bound = vm.boundTo, let migration = vm.migration {
            let home = migration.phase == .leaving ? migration.target : migration.source
            if bound != home.assignment.host { throw fail("its disk is on \(bound), and it is at home elsewhere") }
        }
        for name in vm.spec.groups {
            guard let group = view.groups.values.first(where: { $0.name == name && $0.tenant == vm.tenant }) else {
                continue
            }
            try checkGroup(vm, host, group, view)
        }
    }

    private func domain(_ host: CellHost, _ scope: PlacementGroup.Scope) -> String {
        switch scope {
        case .host: "\(host.id)"
        case .rack: host.about.locality.zone + "/" + host.about.locality.rack
        case .zone: host.about.locality.zone
        }
    }

    private func checkGroup(_ vm: CellVM, _ host: CellHost, _ group: CellGroup, _ view: CellView) throws {
        var counts: [String: Int] = [:]
        for other in view.vms.values where other.id != vm.id && other.spec.groups.contains(group.name) {
            let own = Set(CellChecker.claims(other).compactMap { view.hosts[$0.host] }.map { domain($0, group.scope) })
            for domain in own { counts[domain, default: 0] += 1 }
        }
        let here = domain(host, group.scope)
        let others = counts[here] ?? 0
        switch group.rule {
        case .antiAffinity(let most):
            if others + 1 > most { throw CellFailure("group \(group.name) has \(others + 1) members in \(here)") }
        case .spread(let skew):
            let taking = Set(view.hosts.values.filter { $0.state == .ready }.map { domain($0, group.scope) })
            let least = taking.map { counts[$0] ?? 0 }.min() ?? 0
            if others + 1 - least > skew { throw CellFailure("group \(group.name) is skewed to \(here)") }
        case .pack, .affinity:
            if others == 0 && !counts.isEmpty { throw CellFailure("group \(group.name) is torn apart by \(here)") }
        }
    }

    // MARK: Gangs

    /// Nobody has its first place while others of its gang wait.
    private func checkGangs(_ view: CellView) throws {
        var left: Set<UInt64> = []
        for vm in view.vms.values where vm.gang > 0 {
            if vm.place != nil || vm.power == .stopped || vm.isDeleting {
                throw CellFailure("\(vm) waits for no place with others")
            }
            left.insert(vm.gang)
        }
        for old in vms.values where left.contains(old.gang) && view.vms[old.id]?.place != nil {
            throw CellFailure("VM \(old.id) has a place, and others of its gang wait")
        }
    }

    // MARK: Indexes

    private func number(_ kind: UInt8, _ numbers: UInt64...) -> [UInt8] {
        var key = [kind]
        for number in numbers { key.appendBigEndian(number) }
        return key
    }

    /// The rows that other rows are found by, as they must be.
    private func checkIndexes(_ view: CellView, _ state: NaiveState) throws {
        var expected: Set<[UInt8]> = []
        for (id, vm) in view.vms {
            expected.insert([0x74] + Array(vm.tenant.utf8) + number(0, id.rawValue))
            for claim in CellChecker.claims(vm) { expected.insert(number(0x73, claim.host.rawValue, id.rawValue)) }
            if vm.place == nil && vm.power != .stopped && !vm.isDeleting {
                var key: [UInt8] = [0x75]
                key.appendBigEndian(UInt32(bitPattern: ~(vm.spec.priority ^ Int32.min)))
                key.appendBigEndian(vm.queuedAt.rawValue)
                key.appendBigEndian(id.rawValue)
                expected.insert(key)
            }
            for name in vm.spec.groups {
                guard let group = view.groups.values.first(where: { $0.name == name }) else { continue }
                for claim in CellChecker.claims(vm) {
                    guard let host = view.hosts[claim.host] else { continue }
                    let place = host.about.locality
                    let domain: [UInt8] =
                        switch group.scope {
                        case .host: Array(number(0, host.id.rawValue).dropFirst())
                        case .rack: Array(place.zone.utf8) + [0] + Array(place.rack.utf8)
                        case .zone: Array(place.zone.utf8)
                        }
                    expected.insert(number(0x76, group.id.rawValue) + domain)
                }
            }
        }
        for host in view.hosts.values where host.state == .ready {
            let place = host.about.locality
            expected.insert([0x77, 1] + Array(place.zone.utf8) + [0] + Array(place.rack.utf8))
            expected.insert([0x77, 2] + Array(place.zone.utf8))
        }
        for (id, vm) in view.vms where vm.gang > 0 { expected.insert(number(0x85, vm.gang, id.rawValue)) }
        // Whoever has one of the marks has all of them, and most have after a while.
        let marked = Set(
            state.rows.map(\.key).filter { $0.first == 0x86 }.compactMap { $0.bigEndian64(at: $0.count - 8) })
        for (id, vm) in view.vms where marked.contains(id.rawValue) {
            let tail = number(0, id.rawValue)
            expected.insert([0x86, 1, UInt8(vm.phase.rawValue)] + tail)
            for group in vm.spec.groups { expected.insert([0x86, 2] + Array(group.utf8) + tail) }
            for label in vm.spec.labels {
                expected.insert([0x86, 3] + Array(label.key.utf8) + [0] + Array(label.value.utf8) + tail)
            }
        }
        let kinds: [ClosedRange<UInt8>] = [0x73...0x77, 0x85...0x86]
        let found = Set(state.rows.map(\.key).filter { key in kinds.contains { $0.contains(key.first ?? 0) } })
        if found != expected {
            throw CellFailure(
                "indexes: missing \(expected.subtracting(found).sorted { $0.precedes($1) }.prefix(3)), "
                    + "too many \(found.subtracting(expected).sorted { $0.precedes($1) }.prefix(3))")
        }
        for (id, vm) in view.vms {
            let row = try state.value(for: [0x70] + Array(vm.tenant.utf8) + [0] + Array(vm.name.utf8))
            if row != Array(number(0, id.rawValue).dropFirst()) {
                throw CellFailure("the name of VM \(id) is not found")
            }
        }
        let rows = state.place([0x66]).at - state.place([0x61]).at
        let kept = view.hosts.values.count + view.vms.count + view.groups.values.count + view.slices.count
        if rows != kept + view.settings.values.count {
            throw CellFailure("the view has \(kept) rows and \(view.settings.count) settings of \(rows)")
        }
    }
}

/// What a reserve rests on, counted from the rows of all hosts and VMs.
struct ReserveSums {
    private var free: [[UInt8]: SIMD4<Int64>] = [:]
    private var need: [[UInt8]: SIMD4<Int64>] = [:]
    private var debt = SIMD4<Int64>.zero
    private var owed = SIMD4<Int64>.zero
    private var largest = SIMD4<Int64>.zero
    private let count: Int

    init(_ view: CellView, _ reserve: FailoverReserve) {
        count = reserve.count
        func domain(_ host: CellHost) -> [UInt8] {
            let place = host.about.locality
            return switch reserve.scope {
            case .host: Array("\(host.id)".utf8)
            case .rack: Array("\(place.zone)/\(place.rack)".utf8)
            case .zone: Array(place.zone.utf8)
            }
        }
        var second: [HostID: SIMD4<Int64>] = [:]
        for vm in view.vms.values {
            let demand = vm.demand.vector
            for claim in CellChecker.claims(vm) where claim != vm.place?.assignment {
                second[claim.host, default: .zero] &+= demand
            }
            if vm.place == nil, vm.lostAt > .zero, vm.power != .stopped, !vm.isDeleting, vm.boundTo == nil,
                vm.departure?.isLeaving != true
            {
                owed &+= demand
            }
            guard let place = vm.place, !place.isReleasing, !vm.isDeleting, vm.power != .stopped, vm.boundTo == nil,
                !vm.spec.isBoundToHost, vm.spec.restart != .never, vm.spec.isolation == .stop
            else { continue }
            largest = largest.replacing(with: demand, where: demand .> largest)
            guard let host = view.hosts[place.assignment.host], host.state == .ready || host.state == .cordoned
            else { continue }
            need[domain(host), default: .zero] &+= demand
        }
        for host in view.hosts.values {
            let used = host.used.vector &- second[host.id, default: .zero]
            switch host.state {
            case .ready:
                let left = host.offered.vector &- used
                free[domain(host), default: .zero] &+= left.replacing(with: 0, where: left .< 0)
            case .cordoned, .down: break
            case .draining, .maintenance: debt &+= used
            }
        }
    }

    private var domains: [[UInt8]] { Set(free.keys).union(need.keys).sorted { $0.precedes($1) } }
    private var freeInAll: SIMD4<Int64> { free.values.reduce(.zero) { $0 &+ $1 } &- debt }

    /// Of the loss of any so many domains: what is free without them, and what has to go there.
    func losses(of count: Int, _ lane: Int) -> [(domains: [[UInt8]], room: Int64, need: Int64)] {
        var sets: [[[UInt8]]] = [[]]
        for _ in 0..<count { sets += sets.flatMap { set in domains.filter { !set.contains($0) }.map { set + [$0] } } }
        return sets.filter { $0.count <= count }.map { set in
            let gone = set.reduce(Int64(0)) { $0 + (free[$1]?[lane] ?? 0) }
            let moving = set.reduce(Int64(0)) { $0 + (need[$1]?[lane] ?? 0) }
            return (set, freeInAll[lane] - gone, moving + owed[lane] + largest[lane])
        }
    }

    /// As the cell has it: free, worst, owed, largest.
    var all: [Resources] {
        var worst = SIMD4<Int64>.zero
        for lane in 0..<4 {
            let sums = domains.map { (free[$0]?[lane] ?? 0) + (need[$0]?[lane] ?? 0) }.sorted(by: >)
            worst[lane] = sums.prefix(count).reduce(0, +)
        }
        return [freeInAll, worst, owed, largest].map { Resources($0) }
    }
}
