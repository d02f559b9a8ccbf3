import ClusterBase
public import FleetModel

/// Measures decisions on made-up cells. The clock is the caller's, since this layer has none.
public struct PlacementBench: Sendable {
    /// What the VMs of a run look like.
    public enum Mix: String, Hashable, Sendable, CaseIterable {
        /// Eight shapes, no rules.
        case plain
        /// The same, each VM in a hard anti-affinity group of 8 over racks.
        case antiAffinity
        /// Hosts with two NUMA nodes; VMs on one node or split over both.
        case numa
        /// Three labels, two taints, preferences and required labels.
        case rules
        /// All of it at once: hosts with and without NUMA nodes, GPUs of two models, labels and taints; VMs with NUMA
        /// wishes, whole and shared GPUs, rules on labels, and groups over hosts, racks and zones.
        case mixed
    }

    /// What was measured.
    public struct Result: Hashable, Sendable {
        /// What was asked for.
        public var mix: Mix
        /// What hosts were judged by.
        public var policy: PlacementPolicy
        /// How many hosts there were.
        public var hosts: Int
        /// How many VMs were placed at the end.
        public var vms: Int
        /// The mean share of CPU in use when measuring, in thousandths.
        public var fullMilli: Int64
        /// How many decisions were measured.
        public var decisions: Int
        /// How many requests found no host, those before the measuring counted.
        public var refused: Int
        /// Of the time that decisions took, without the changes between them.
        public var decisionsPerSecond: Int64
        /// Half of the decisions took no longer.
        public var nanosecondsMedian: Int64
        /// 99 of 100 decisions took no longer.
        public var nanosecondsP99: Int64
        /// The longest decision.
        public var nanosecondsMost: Int64
        /// What placing a VM and letting another go take together, on average.
        public var nanosecondsChanges: Int64
        /// Of all decisions: the same run gives the same number.
        public var hash: UInt64
    }

    /// How many hosts are made.
    public var hosts: Int
    /// What VMs ask for.
    public var mix: Mix
    /// What hosts are judged by.
    public var policy: PlacementPolicy
    /// Thousandths of all CPU that are in use before measuring.
    public var fillMilli: Int64
    /// How many decisions are measured.
    public var decisions: Int
    /// The same seed makes the same hosts and VMs.
    public var seed: UInt64

    public init(
        hosts: Int, mix: Mix = .plain, policy: PlacementPolicy = .pack, fillMilli: Int64 = 900,
        decisions: Int = 20_000, seed: UInt64 = 1
    ) {
        self.hosts = hosts
        self.mix = mix
        self.policy = policy
        self.fillMilli = fillMilli
        self.decisions = decisions
        self.seed = seed
    }

    /// Fills a cell of 20 racks in 5 zones, then measures: each decision is placed, and a random VM leaves, so that
    /// the cell stays as full. Only `decide` is timed; what a change costs the next decision is part of that.
    public func run(nanoseconds: () -> Int64) throws(IndexError) -> Result {
        var random = PRNG(seed: seed)
        var index = PlacementIndex(seed: seed)
        for i in 0..<hosts { try index.addHost(host(i)) }
        var placed: [VMID] = []
        var next: UInt64 = 1
        var used: Int64 = 0
        let target = index.totals.offered.cpuMillis / 1000 * fillMilli
        index.setMix(expectedMix(index.totals))
        var failures = 0
        // Filled by a cheap rule that spoils hosts in a random way, as time does.
        while used < target && failures < 2000 {
            let spec = request(next, &random, &index)
            next += 1
            let policy: PlacementPolicy = random.chance(1, in: 4) ? .balance : .pack
            guard let place = index.decide(spec, policy: policy).assignment else {
                failures += 1
                continue
            }
            try index.place(spec, place)
            used += spec.resources.cpuMillis
            placed.append(spec.id)
            failures = 0
        }
        return try measure(nanoseconds, &index, &placed, &random, next)
    }

    private func measure(
        _ nanoseconds: () -> Int64, _ index: inout PlacementIndex, _ placed: inout [VMID], _ random: inout PRNG,
        _ first: UInt64
    ) throws(IndexError) -> Result {
        var times: [Int64] = []
        times.reserveCapacity(decisions)
        var changing: Int64 = 0
        var hash = ChainHash(seed)
        var refused = 0
        // Each shape's first decision remembers it; what follows is the steady state.
        let warmUp = min(decisions, 500)
        for i in 0..<(warmUp + decisions) {
            let spec = request(first + UInt64(i), &random, &index)
            let start = nanoseconds()
            let decision = index.decide(spec, policy: policy)
            let end = nanoseconds()
            if i >= warmUp { times.append(end - start) }
            if let place = decision.assignment {
                placed.append(spec.id)
                let gone = random.below(placed.count)
                let before = nanoseconds()
                try index.place(spec, place)
                try index.remove(placed[gone])
                changing += nanoseconds() - before
                hash.add(place.host.rawValue)
                placed.swapAt(gone, placed.count - 1)
                placed.removeLast()
            } else {
                refused += 1
                hash.add(0)
            }
        }
        let summary = DecisionTimes(times)
        let offered = index.totals.offered.cpuMillis
        var free: Int64 = 0
        for id in index.hostIDs { free += index.free(id)?.cpuMillis ?? 0 }
        return Result(
            mix: mix, policy: policy, hosts: hosts, vms: index.vmCount,
            fullMilli: offered > 0 ? (offered - free) * 1000 / offered : 0, decisions: decisions, refused: refused,
            decisionsPerSecond: summary.perSecond, nanosecondsMedian: summary.median, nanosecondsP99: summary.p99,
            nanosecondsMost: summary.most,
            nanosecondsChanges: changing / Int64(max(1, warmUp + decisions - refused)),
            hash: hash.value)
    }

    private static let sizes: [(cpu: Int64, memory: Int64, weight: Int)] = [
        (1000, 2048, 30), (2000, 4096, 20), (2000, 8192, 12), (4000, 8192, 14), (4000, 16384, 10), (8000, 16384, 8),
        (8000, 65536, 3), (16000, 65536, 3),
    ]

    private func host(_ i: Int) -> Host {
        let large = i % 3 == 0
        let cpu: Int64 = large ? 128_000 : 64_000
        let memory: Int64 = large ? 524_288 : 262_144
        var host = Host(
            id: HostID(rawValue: UInt64(i + 1)), capacity: Resources(cpuMillis: cpu, memoryMiB: memory),
            zone: Word(UInt32(1 + i % 5)), rack: Word(UInt32(100 + i % 20)))
        // Racks repeat every 20 hosts: properties that go by the hundred are in all racks.
        let kind = i / 20
        if mix == .numa || (mix == .mixed && kind % 4 == 1) {
            host.numaNodes = Array(repeating: NUMANode(cpuMillis: cpu / 2, memoryMiB: memory / 2), count: 2)
        }
        if mix == .mixed && kind % 10 == 1 {
            let model = Word(kind % 20 == 1 ? 400 : 401)
            host.devices = (0..<8).map { Device(kind: model, numaNode: host.numaNodes.isEmpty ? nil : UInt8($0 / 4)) }
        }
        if mix == .rules || mix == .mixed {
            host.labels = [Label(Word(200), Word(UInt32(201 + kind % 3)))]
            if i % 11 == 3 { host.taints = [Taint(Word(300))] }
            if i % 11 == 7 { host.taints = [Taint(Word(301), effect: .avoid)] }
        }
        return host
    }

    private func request(_ number: UInt64, _ random: inout PRNG, _ index: inout PlacementIndex) -> VMSpec {
        var at = random.below(100)
        var size = PlacementBench.sizes[0]
        for candidate in PlacementBench.sizes {
            size = candidate
            if at < candidate.weight { break }
            at -= candidate.weight
        }
        var spec = VMSpec(
            id: VMID(rawValue: number), resources: Resources(cpuMillis: size.cpu, memoryMiB: size.memory))
        switch mix {
        case .plain: break
        case .antiAffinity:
            join(
                PlacementGroup(id: PlacementGroupID(rawValue: 0), rule: .antiAffinity(perDomainMax: 1), scope: .rack),
                &spec, &index)
        case .numa:
            spec.numa = size.cpu > 8000 ? .nodes(2) : .nodes(1)
        case .rules:
            addRules(&spec, &random)
        case .mixed:
            addRules(&spec, &random)
            if random.chance(1, in: 6) { spec.numa = size.cpu > 8000 ? .nodes(2) : .nodes(1) }
            // GPUs are offered in a few flavours.
            switch random.below(200) {
            case 0...2:
                spec.resources = Resources(cpuMillis: 4000, memoryMiB: 16384)
                spec.devices = [DeviceWish(count: 1, millis: 500)]
            case 3:
                spec.resources = Resources(cpuMillis: 8000, memoryMiB: 65536)
                spec.devices = [DeviceWish(kinds: [Word(400)], count: 1)]
            case 4:
                spec.resources = Resources(cpuMillis: 16000, memoryMiB: 131_072)
                spec.devices = [DeviceWish(count: 2)]
            default: break
            }
            switch number / 8 % 8 {
            case 0:
                join(
                    PlacementGroup(
                        id: PlacementGroupID(rawValue: 0), rule: .antiAffinity(perDomainMax: 1), scope: .rack), &spec,
                    &index)
            case 1:
                join(
                    PlacementGroup(
                        id: PlacementGroupID(rawValue: 0), rule: .antiAffinity(perDomainMax: 1), scope: .host), &spec,
                    &index)
            case 2:
                join(
                    PlacementGroup(id: PlacementGroupID(rawValue: 0), rule: .spread(skewMax: 1), scope: .zone), &spec,
                    &index)
            case 3:
                join(
                    PlacementGroup(
                        id: PlacementGroupID(rawValue: 0), rule: .pack, scope: .rack, isHard: false, weight: 10), &spec,
                    &index)
            default: break
            }
        }
        return spec
    }

    /// Eight VMs in a row are one group.
    private func join(_ rule: PlacementGroup, _ spec: inout VMSpec, _ index: inout PlacementIndex) {
        var group = rule
        group.id = PlacementGroupID(rawValue: spec.id.rawValue / 8 + 1)
        if index.group(group.id) == nil { index.setGroup(group) }
        spec.groups = [group.id]
    }

    private func addRules(_ spec: inout VMSpec, _ random: inout PRNG) {
        if random.chance(1, in: 2) { spec.required = [Selector(Word(200), .oneOf([Word(201), Word(202)]))] }
        if random.chance(1, in: 4) { spec.tolerations = [Toleration(Word(300))] }
        if random.chance(1, in: 4) {
            spec.preferred = [Preference(Selector(Word(200), .oneOf([Word(202)])), weight: 10)]
        }
    }

    private func expectedMix(_ totals: FleetTotals) -> ShapeMix {
        var counts: [(shape: Shape, count: Int)] = []
        for size in PlacementBench.sizes {
            var spec = VMSpec(
                id: VMID(rawValue: 0), resources: Resources(cpuMillis: size.cpu, memoryMiB: size.memory))
            if mix == .numa { spec.numa = size.cpu > 8000 ? .nodes(2) : .nodes(1) }
            counts.append((Shape(spec), size.weight))
        }
        return ShapeMix(counts: counts, totals: totals)
    }
}
