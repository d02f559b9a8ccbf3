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
    public var arrivals = 0
    public var rejections = 0
    /// VMs accepted before the first rejection.
    public var acceptedBeforeFirstRejection = 0
    public var vmsMost = 0
    /// The most hosts that had VMs at one time.
    public var hostsUsedMost = 0
    public var moves = 0
    /// Of all assignments, in order: the same decisions give the same number.
    public var hash: UInt64 = 0
    public init() {}
}

/// Replays arrivals and departures with the engine's own decision function.
public struct Replay: Sendable {
    /// What `pack` learns from: the VMs that are placed, again after this many arrivals. Early on more often.
    public var arrivalsPerMix = 1000
    public var policy: PlacementPolicy
    public var hosts: [Host]
    public var groups: [PlacementGroup] = []
    /// After this many arrivals one move of a VM is allowed, and made where it gains; nil: VMs are never moved.
    public var arrivalsPerMove: Int?
    /// Stop at the first VM that no host takes.
    public var stopsAtRejection = false
    public var seed: UInt64 = 0

    public init(hosts: [Host], policy: PlacementPolicy = .pack) {
        self.hosts = hosts
        self.policy = policy
    }

    /// Runs the trace. Departures go before arrivals of the same time; arrivals in the order of the rows.
    public func run(_ rows: [TraceRow]) throws(IndexError) -> ReplayResult {
        try run(rows, Replay.order(rows))
    }

    /// The fewest of `range` hosts, each like `template`, that reject no VM: found by bisection, then each smaller
    /// number just below is tried too, as one host more can be worse for a greedy rule. Nil when none is enough.
    public static func fewestHosts(
        _ rows: [TraceRow], like template: Host, in range: ClosedRange<Int>, policy: PlacementPolicy = .pack,
        arrivalsPerMix: Int = 1000
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
            replay.stopsAtRejection = true
            return try replay.run(rows, order).rejections == 0
        }
        var low = range.lowerBound
        var high = range.upperBound
        if try !accepts(high) { return nil }
        while low < high {
            let middle = (low + high) / 2
            if try accepts(middle) { high = middle } else { low = middle + 1 }
        }
        var lower = max(range.lowerBound, low - 3)
        while lower < low {
            if try accepts(lower) { return lower }
            lower += 1
        }
        return low
    }

    /// Row numbers: `row` for an arrival, `~row` for a departure.
    private static func order(_ rows: [TraceRow]) -> [Int] {
        var events: [(time: Int64, kind: Int, row: Int)] = []
        for (i, row) in rows.enumerated() {
            events.append((row.arrival, 1, i))
            // A VM that goes no later than it comes would depart before it is there.
            if let departure = row.departure { events.append((max(departure, row.arrival + 1), 0, i)) }
        }
        events.sort { $0 < $1 }
        return events.map { $0.kind == 1 ? $0.row : ~$0.row }
    }

    private func run(_ rows: [TraceRow], _ order: [Int]) throws(IndexError) -> ReplayResult {
        var index = PlacementIndex(seed: seed)
        for host in hosts { try index.addHost(host) }
        for group in groups { index.setGroup(group) }
        var result = ReplayResult()
        var hash = ChainHash(seed)
        var untilMix = 64
        var used = 0
        var credit = 0
        for event in order {
            if event < 0 {
                let id = VMID(rawValue: UInt64(~event))
                guard let from = index.assignment(id)?.host else { continue }
                try index.remove(id)
                if index.vmCountOn(from) == 0 { used -= 1 }
                continue
            }
            result.arrivals += 1
            var spec = rows[event].spec
            spec.id = VMID(rawValue: UInt64(event))
            if policy == .pack {
                untilMix -= 1
                if untilMix <= 0 {
                    index.setMix(index.mixOfPlacedVMs())
                    untilMix = min(arrivalsPerMix, max(64, result.arrivals))
                }
            }
            var decision = index.decide(spec, policy: policy)
            if let arrivalsPerMove {
                credit += 1
                if decision.assignment == nil, credit >= arrivalsPerMove,
                    let move = index.moveThatLetsIn(spec, policy: policy)
                {
                    try index.apply(move)
                    credit -= arrivalsPerMove
                    result.moves += 1
                    decision = index.decide(spec, policy: policy)
                }
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
            if index.vmCountOn(place.host) == 1 {
                used += 1
                result.hostsUsedMost = max(result.hostsUsedMost, used)
            }
            result.vmsMost = max(result.vmsMost, index.vmCount)
        }
        if result.rejections == 0 { result.acceptedBeforeFirstRejection = result.arrivals }
        result.hash = hash.value
        return result
    }
}

extension PlacementIndex {
    func vmCountOn(_ id: HostID) -> Int { slotOf[id].map { Int(seats[Int($0)].vmCount) } ?? 0 }
}
