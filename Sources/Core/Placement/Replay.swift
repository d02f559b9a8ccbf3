import ClusterBase
public import FleetModel

/// One VM of a trace: what it asks for, when it comes and when it goes.
public struct TraceRow: Hashable, Sendable {
    /// Its id is not used: the replay numbers VMs by row.
    public var spec: VMSpec
    /// In any unit, the same for all rows.
    public var arrival: Int64
    /// Nil: it stays to the end.
    public var departure: Int64?
    public init(spec: VMSpec, arrival: Int64, departure: Int64?) {
        self.spec = spec
        self.arrival = arrival
        self.departure = departure
    }
}

/// What came of a replay.
public struct ReplayResult: Hashable, Sendable {
    /// VMs that came.
    public var arrivals = 0
    /// VMs that no host took.
    public var rejections = 0
    /// VMs accepted before the first rejection.
    public var acceptedBeforeFirstRejection = 0
    /// The most VMs that were placed at one time.
    public var vmsMost = 0
    /// The most hosts that had VMs at one time.
    public var hostsUsedMost = 0
    /// The largest share of all CPU, memory, disk and network, and of all devices, in use at one time, in thousandths.
    public var fullMostMilli = SIMD4<Int64>(repeating: 0)
    /// The same for devices of all kinds together.
    public var devicesFullMostMilli: Int64 = 0
    /// VMs that were moved to let another in.
    public var moves = 0
    /// Means over samples from the second half of the trace, taken only with a clock, in millionths of the fleet, for
    /// the resource that is used the most: what is in use, and what is free on hosts that a VM of the trace, drawn by
    /// how many of its shape are placed, doesn't fit on.
    public var densityPPM: Int64 = 0
    /// What is free on hosts that such a VM doesn't fit on, in millionths of the fleet.
    public var fragmentationPPM: Int64 = 0
    /// Of all assignments, in order: the same decisions give the same number.
    public var hash: UInt64 = 0
    /// How long decisions took; zeros without a clock.
    public var times = DecisionTimes()
    public init() {}
}

/// How long decisions took, in nanoseconds.
public struct DecisionTimes: Hashable, Sendable {
    /// How many decisions there were.
    public var count = 0
    /// All of them together.
    public var sum: Int64 = 0
    /// Half of the decisions took no longer.
    public var median: Int64 = 0
    /// 99 of 100 decisions took no longer.
    public var p99: Int64 = 0
    /// The longest decision.
    public var most: Int64 = 0
    public init() {}
    /// Sums up decisions that took this many nanoseconds each.
    public init(_ times: [Int64]) {
        let sorted = times.sorted()
        count = sorted.count
        sum = sorted.reduce(0, +)
        if sorted.isEmpty { return }
        median = sorted[count / 2]
        p99 = sorted[count * 99 / 100]
        most = sorted[count - 1]
    }
    /// The time of one decision on average; zero without any.
    public var mean: Int64 { count > 0 ? sum / Int64(count) : 0 }
    /// Decisions that fit into a second of deciding alone; zero without any.
    public var perSecond: Int64 { sum > 0 ? Int64(Double(count) * 1e9 / Double(sum)) : 0 }
}

/// Replays arrivals and departures with the engine's own decision function.
public struct Replay: Sendable {
    /// What `pack` learns from: the VMs that are placed, again after this many arrivals. Early on more often.
    public var arrivalsPerMix = 1000
    /// What hosts are judged by.
    public var policy: PlacementPolicy
    /// The servers, all empty at the start.
    public var hosts: [Host]
    /// Groups that VMs of the trace may name.
    public var groups: [PlacementGroup] = []
    /// VMs may be moved, at every time at most once per this many arrivals so far; nil: VMs are never moved.
    public var arrivalsPerMove: Int?
    /// Stop at the first VM that no host takes.
    public var stopsAtRejection = false
    /// Decides ties where the policy leaves them to a seed.
    public var seed: UInt64 = 0

    public init(hosts: [Host], policy: PlacementPolicy = .pack) {
        self.hosts = hosts
        self.policy = policy
    }

    /// Runs the trace. Departures go before arrivals of the same time; arrivals in the order of the rows. With a clock,
    /// which is the caller's, decisions are timed.
    public func run(_ rows: [TraceRow], nanoseconds: (() -> Int64)? = nil) throws(IndexError) -> ReplayResult {
        try run(rows, Replay.order(rows), nanoseconds)
    }

    /// The fewest of `range` hosts, each like `template`, that reject no VM. From the lower bound upwards in growing
    /// steps, then by bisection, then each number just below is tried too, as one host more can be worse for a greedy
    /// rule. Nil when none is enough.
    public static func fewestHosts(
        _ rows: [TraceRow], like template: Host, in range: ClosedRange<Int>, policy: PlacementPolicy = .pack,
        arrivalsPerMix: Int = 1000, arrivalsPerMove: Int? = nil, seed: UInt64 = 0
    ) throws(IndexError) -> Int? {
        let order = Replay.order(rows)
        func accepts(_ count: Int) throws(IndexError) -> Bool {
            var hosts: [Host] = []
            for i in 0..<count {
                var host = template
                host.id = HostID(rawValue: UInt64(i + 1))
                hosts.append(host)
            }
            var replay = Replay(hosts: hosts, policy: policy)
            replay.arrivalsPerMix = arrivalsPerMix
            replay.arrivalsPerMove = arrivalsPerMove
            replay.stopsAtRejection = true
            replay.seed = seed
            return try replay.run(rows, order, nil).rejections == 0
        }
        var low = range.lowerBound
        var high = low
        var step = 1
        while try accepts(high) == false {
            if high == range.upperBound { return nil }
            low = high + 1
            high = min(range.upperBound, high + step)
            step *= 2
        }
        let tooFew = low
        while low < high {
            let middle = (low + high) / 2
            if try accepts(middle) { high = middle } else { low = middle + 1 }
        }
        var lower = max(tooFew, low - 3)
        while lower < low {
            if try accepts(lower) { return lower }
            lower += 1
        }
        return low
    }

    /// Row numbers: `row` for an arrival, `~row` for a departure.
    static func order(_ rows: [TraceRow]) -> [Int] {
        var events: [(time: Int64, kind: Int, row: Int)] = []
        events.reserveCapacity(2 * rows.count)
        for (i, row) in rows.enumerated() {
            events.append((row.arrival, 1, i))
            // A VM that goes no later than it comes would depart before it is there.
            if let departure = row.departure { events.append((max(departure, row.arrival + 1), 0, i)) }
        }
        events.sort { $0 < $1 }
        return events.map { $0.kind == 1 ? $0.row : ~$0.row }
    }

    private func run(
        _ rows: [TraceRow], _ order: [Int], _ nanoseconds: (() -> Int64)?
    ) throws(IndexError) -> ReplayResult {
        var index = PlacementIndex(seed: seed)
        for host in hosts { try index.addHost(host) }
        for group in groups { index.setGroup(group) }
        var result = ReplayResult()
        var hash = ChainHash(seed)
        var times: [Int64] = []
        var meter = UseMeter(index.totals)
        var untilMix = 64
        var samples: [(density: Double, fragmentation: Double)] = []
        let sampleEvery = max(1, rows.count / 100)
        for event in order {
            if event < 0 {
                let id = VMID(rawValue: UInt64(~event))
                guard let from = index.assignment(id)?.host else { continue }
                try index.remove(id)
                meter.left(rows[~event].spec, index.vmCountOn(from))
                continue
            }
            result.arrivals += 1
            var spec = rows[event].spec
            spec.id = VMID(rawValue: UInt64(event))
            if policy == .pack {
                untilMix -= 1
                if untilMix <= 0 {
                    index.setMix(index.mixOfPlacedVMs())
                    untilMix = min(arrivalsPerMix, max(64, result.arrivals / 8))
                }
            }
            if nanoseconds != nil, 2 * result.arrivals > rows.count, result.arrivals % sampleEvery == 0 {
                samples.append(index.sample())
            }
            let start = nanoseconds?() ?? 0
            var decision = index.decide(spec, policy: policy)
            if let nanoseconds { times.append(nanoseconds() - start) }
            if let arrivalsPerMove, decision.assignment == nil,
                (result.moves + 1) * arrivalsPerMove <= result.arrivals,
                let move = index.moveThatLetsIn(spec, policy: policy, hostsMax: 64)
            {
                try index.apply(move)
                result.moves += 1
                meter.moved(index.vmCountOn(move.from.host), index.vmCountOn(move.to.host))
                decision = index.decide(spec, policy: policy)
            }
            guard let place = decision.assignment else {
                if result.rejections == 0 { result.acceptedBeforeFirstRejection = result.arrivals - 1 }
                result.rejections += 1
                hash.add(.max)
                if stopsAtRejection { break }
                continue
            }
            try index.place(spec, place)
            hash.add(place.host.rawValue)
            meter.came(spec, index.vmCountOn(place.host))
            result.vmsMost = max(result.vmsMost, index.vmCount)
        }
        if result.rejections == 0 { result.acceptedBeforeFirstRejection = result.arrivals }
        result.hash = hash.value
        result.times = DecisionTimes(times)
        meter.fill(&result)
        if !samples.isEmpty {
            let count = Double(samples.count)
            result.densityPPM = Int64((samples.reduce(0) { $0 + $1.density } / count * 1e6).rounded())
            result.fragmentationPPM = Int64((samples.reduce(0) { $0 + $1.fragmentation } / count * 1e6).rounded())
        }
        return result
    }
}

/// Follows how much of a fleet is in use.
private struct UseMeter {
    private let offered: SIMD4<Int64>
    private let deviceMillis: Int64
    private var used = SIMD4<Int64>(repeating: 0)
    private var usedMost = SIMD4<Int64>(repeating: 0)
    private var devices: Int64 = 0
    private var devicesMost: Int64 = 0
    private var hosts = 0
    private var hostsMost = 0

    init(_ totals: FleetTotals) {
        offered = totals.offered.vector
        deviceMillis = totals.devices.reduce(0) { $0 + Int64($1.count) * Int64(Device.wholeMillis) }
    }

    private static func devices(_ spec: VMSpec) -> Int64 {
        var sum: Int64 = 0
        for wish in spec.devices { sum += Int64(wish.count) * Int64(wish.millis) }
        return sum
    }

    mutating func came(_ spec: VMSpec, _ vmsThere: Int) {
        used &+= spec.demand.vector
        devices += UseMeter.devices(spec)
        if vmsThere == 1 { hosts += 1 }
        usedMost = pointwiseMax(usedMost, used)
        devicesMost = max(devicesMost, devices)
        hostsMost = max(hostsMost, hosts)
    }

    mutating func left(_ spec: VMSpec, _ vmsThere: Int) {
        used &-= spec.demand.vector
        devices -= UseMeter.devices(spec)
        if vmsThere == 0 { hosts -= 1 }
    }

    mutating func moved(_ vmsThere: Int, _ vmsHere: Int) {
        if vmsThere == 0 { hosts -= 1 }
        if vmsHere == 1 { hosts += 1 }
        hostsMost = max(hostsMost, hosts)
    }

    func fill(_ result: inout ReplayResult) {
        result.hostsUsedMost = hostsMost
        for i in 0..<4 where offered[i] > 0 { result.fullMostMilli[i] = usedMost[i] * 1000 / offered[i] }
        if deviceMillis > 0 { result.devicesFullMostMilli = devicesMost * 1000 / deviceMillis }
    }
}

extension PlacementIndex {
    func vmCountOn(_ id: HostID) -> Int { slotOf[id].map { Int(seats[Int($0)].vmCount) } ?? 0 }

    /// How full the fleet is in its scarcest resource, and how much of that is free and of no use to a VM like those
    /// that are placed; both as shares of all.
    mutating func sample() -> (density: Double, fragmentation: Double) {
        let shapes = mixOfPlacedVMs().parts.map { (shape: CompiledShape($0.shape), weight: Double($0.weight)) }
        let weights = shapes.reduce(0) { $0 + $1.weight }
        var free = SIMD4<Double>(repeating: 0)
        var lost = SIMD4<Double>(repeating: 0)
        for slot in seats.indices where seats[slot].isUsed {
            let here = SIMD4<Double>(pointwiseMax(seats[slot].free, SIMD4(repeating: 0)))
            free += here
            if weights <= 0 { continue }
            var misfits = 0.0
            for part in shapes where score(slot, part.shape, .firstFit) == Winners.none { misfits += part.weight }
            lost += here * (misfits / weights)
        }
        var fullest = (density: 0.0, fragmentation: 0.0)
        for i in 0..<4 where totals.offered.vector[i] > 0 {
            let all = Double(totals.offered.vector[i])
            if 1 - free[i] / all > fullest.density { fullest = (1 - free[i] / all, lost[i] / all) }
        }
        return fullest
    }
}
