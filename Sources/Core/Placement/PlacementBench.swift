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
    }

    public struct Result: Hashable, Sendable {
        public var mix: Mix
        public var policy: PlacementPolicy
        public var hosts: Int
        public var vms: Int
        /// The mean share of CPU in use when measuring, in thousandths.
        public var fullMilli: Int64
        public var decisions: Int
        public var refused: Int
        public var decisionsPerSecond: Int64
        public var nanosecondsMedian: Int64
        public var nanosecondsP99: Int64
        public var nanosecondsMost: Int64
        /// Of all decisions: the same run gives the same number.
        public var hash: UInt64
    }

    public var hosts: Int
    public var mix: Mix
    public var policy: PlacementPolicy
    /// Thousandths of all CPU that are in use before measuring.
    public var fillMilli: Int64
    public var decisions: Int
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
        while used < target && failures < 1000 {
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
        }
        return try measure(nanoseconds, &index, &placed, &random, next)
    }

    private func measure(
        _ nanoseconds: () -> Int64, _ index: inout PlacementIndex, _ placed: inout [VMID], _ random: inout PRNG,
        _ first: UInt64
    ) throws(IndexError) -> Result {
        var times: [Int64] = []
        times.reserveCapacity(decisions)
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
                try index.place(spec, place)
                hash.add(place.host.rawValue)
                placed.append(spec.id)
                let gone = random.below(placed.count)
                try index.remove(placed[gone])
                placed.swapAt(gone, placed.count - 1)
                placed.removeLast()
            } else {
                refused += 1
                hash.add(0)
            }
        }
        times.sort()
        let sum = max(1, times.reduce(0, +))
        let offered = index.totals.offered.cpuMillis
        var free: Int64 = 0
        for id in index.hostIDs { free += index.free(id)?.cpuMillis ?? 0 }
        return Result(
            mix: mix, policy: policy, hosts: hosts, vms: index.vmCount,
            fullMilli: offered > 0 ? (offered - free) * 1000 / offered : 0, decisions: decisions, refused: refused,
            decisionsPerSecond: Int64(times.count) * 1_000_000_000 / sum,
            nanosecondsMedian: times.isEmpty ? 0 : times[times.count / 2],
            nanosecondsP99: times.isEmpty ? 0 : times[times.count * 99 / 100], nanosecondsMost: times.last ?? 0,
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
        if mix == .numa {
            host.numaNodes = Array(repeating: NUMANode(cpuMillis: cpu / 2, memoryMiB: memory / 2), count: 2)
        }
        if mix == .rules {
            host.labels = [Label(Word(200), Word(UInt32(201 + i / 20 % 3)))]
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
            let group = PlacementGroupID(rawValue: number / 8 + 1)
            if index.group(group) == nil {
                index.setGroup(PlacementGroup(id: group, rule: .antiAffinity(perDomainMax: 1), scope: .rack))
            }
            spec.groups = [group]
        case .numa:
            spec.numa = size.cpu > 8000 ? .nodes(2) : .nodes(1)
        case .rules:
            if random.chance(1, in: 2) { spec.required = [Selector(Word(200), .oneOf([Word(201), Word(202)]))] }
            if random.chance(1, in: 4) { spec.tolerations = [Toleration(Word(300))] }
            if random.chance(1, in: 4) {
                spec.preferred = [Preference(Selector(Word(200), .oneOf([Word(202)])), weight: 10)]
            }
        }
        return spec
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
