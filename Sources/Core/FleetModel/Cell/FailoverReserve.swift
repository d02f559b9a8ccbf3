internal import ClusterBase
internal import Schema

/// What a cell keeps free for its VMs to start elsewhere after a loss: of any so many hosts, racks or zones at once.
///
/// The rule, for each kind of amount by itself, over the hosts that are up:
///
///     free on hosts that take VMs  −  (free there + what would start elsewhere) in the worst domains  −  owed  −  largest  ≥  0
///
/// `owed` is what was lost and has no place yet; `largest` is the largest VM that would start elsewhere, since room in many
/// pieces is not all of use. So the sum of what is left holds the sum of what has to go there. Whether each VM finds one host is not
/// part of it: that is what `plan losses` plays through.
package struct FailoverReserve: Hashable, Sendable {
    package static let countMax = 8

    package var scope: PlacementGroup.Scope
    package var count: Int
    package init(_ scope: PlacementGroup.Scope, _ count: Int) {
        self.scope = scope
        self.count = count
    }

    /// Of the setting's values.
    static let valueMax = FailoverReserve(.zone, countMax).value

    /// Nil for 0, which is off, and for what no setting has.
    package init?(value: UInt64) {
        let count = Int(value & 0xFF)
        guard value <= FailoverReserve.valueMax, (1...FailoverReserve.countMax).contains(count),
            let scope = PlacementGroup.Scope(rawValue: UInt8(value >> 8) &- 1)
        else { return nil }
        self.init(scope, count)
    }
    package var value: UInt64 { UInt64(scope.rawValue + 1) << 8 | UInt64(count) }

    package var text: String { "\(scope)s:\(count)" }

    /// What the setting holds for `off`, `hosts:1`, `racks:2`, `zones:1`; nil for anything else.
    package static func value(_ text: String) -> UInt64? {
        if text == "off" { return 0 }
        for scope in PlacementGroup.Scope.allCases {
            for count in 1...countMax where text == FailoverReserve(scope, count).text {
                return FailoverReserve(scope, count).value
            }
        }
        return nil
    }
    package static func text(_ value: UInt64) -> String { FailoverReserve(value: value)?.text ?? "off" }
}

/// Where a cell stands with its reserve, by one state of it.
package struct ReserveStanding: Hashable, Sendable {
    package var reserve: FailoverReserve
    /// VMs are still being counted: until all are, nothing is judged by it.
    package var isCounting = false
    package var free = Resources.zero
    package var worst = Resources.zero
    package var owed = Resources.zero
    package var largest = Resources.zero
    /// Of each kind of amount: whose loss is the worst, by name; a host's number.
    package var domains: [[String]] = [[], [], [], []]

    package init(_ reserve: FailoverReserve) { self.reserve = reserve }

    package var slack: Resources { free - worst - owed - largest }

    /// Less than nothing is left of some kind.
    package var isBroken: Bool { !isCounting && !slack.vector.allNotNegative }

    /// What would be left after `demand` more; `counts`: it would start elsewhere.
    package func slack(after demand: Resources, counts: Bool) -> Resources {
        ReserveStanding.slack(slack.vector, largest.vector, demand.vector, counts: counts)
    }

    static func slack(
        _ slack: SIMD4<Int64>, _ largest: SIMD4<Int64>, _ demand: SIMD4<Int64>, counts: Bool
    ) -> Resources {
        let more = demand &- largest
        let grown = counts ? more.replacing(with: 0, where: more .< 0) : .zero
        return Resources(slack &- demand &- grown)
    }

    /// What `demand` more would leave too little of, and how much; nil where nothing. What is not demanded is not judged.
    package func lack(for demand: Resources, counts: Bool) -> (kind: ResourceKind, short: Int64)? {
        if isCounting { return nil }
        let left = slack(after: demand, counts: counts).vector
        for kind in ResourceKind.allCases where demand.vector[kind.rawValue] > 0 && left[kind.rawValue] < 0 {
            return (kind, -left[kind.rawValue])
        }
        return nil
    }

    /// `failoverReserve hosts:1: it would leave too little for the loss of host h3: 4 GiB of memory short`.
    package func text(_ lack: (kind: ResourceKind, short: Int64), _ hostName: (HostID) -> String) -> String {
        text(lack.kind, short: lack.short, hostName)
    }

    /// Counts one more that has its place.
    package mutating func take(_ demand: Resources, counts: Bool) {
        let more = demand.vector
        free = Resources(free.vector &- more)
        if counts { largest = Resources(largest.vector.replacing(with: more, where: more .> largest.vector)) }
    }

    /// What it lacks as it is; nil where nothing.
    package func shortage(_ hostName: (HostID) -> String) -> String? {
        if !isBroken { return nil }
        let kind = ResourceKind.allCases.first { slack.vector[$0.rawValue] < 0 } ?? .cpu
        return "too little is left for " + loss(kind, short: -slack.vector[kind.rawValue], hostName)
    }

    /// What less is left of than before, and less than nothing; nil where nothing is.
    package func breach(after before: ReserveStanding, _ hostName: (HostID) -> String) -> String? {
        let (was, now) = (before.slack.vector, slack.vector)
        let kind = ResourceKind.allCases.first { now[$0.rawValue] < 0 && now[$0.rawValue] < was[$0.rawValue] }
        return kind.map { text($0, short: -now[$0.rawValue], hostName) }
    }

    func text(_ kind: ResourceKind, short: Int64, _ hostName: (HostID) -> String) -> String {
        "failoverReserve \(reserve.text): it would leave too little for " + loss(kind, short: short, hostName)
    }

    /// Whose loss is the worst for a kind of amount, as people know them.
    package func worstNames(_ kind: ResourceKind, _ hostName: (HostID) -> String) -> [String] {
        domains[kind.rawValue].map { name in
            reserve.scope == .host ? UInt64(name).map { hostName(HostID($0)) } ?? name : name
        }
    }

    private func loss(_ kind: ResourceKind, short: Int64, _ hostName: (HostID) -> String) -> String {
        // Beyond these nobody reads on.
        let names = worstNames(kind, hostName).prefix(3)
        let more = domains[kind.rawValue].count > 3 ? ", …" : ""
        let one = names.count == 1 && more.isEmpty
        return "the loss of \(reserve.scope)\(one ? "" : "s") \(names.joined(separator: ", "))\(more): "
            + "\(ReserveStanding.amount(kind, short)) short"
    }

    /// `12 GiB of memory`, `1.5 cores`.
    package static func amount(_ kind: ResourceKind, _ amount: Int64) -> String {
        switch kind {
        case .cpu:
            let tenths = (amount + 99) / 100
            return tenths % 10 == 0 ? "\(tenths / 10) cores" : "\(tenths / 10).\(tenths % 10) cores"
        case .memory, .disk:
            return (amount % 1_024 == 0 ? "\(amount / 1_024) GiB" : "\(amount) MiB") + " of \(kind)"
        case .network: return "\(amount) Mbit/s"
        }
    }

    init?(_ wire: WireReserveStanding) {
        guard let reserve = FailoverReserve(value: wire.value) else { return nil }
        self.init(reserve)
        isCounting = wire.isCounting
        free = Resources(ofWire: wire.free)
        worst = Resources(ofWire: wire.worst)
        owed = Resources(ofWire: wire.owed)
        largest = Resources(ofWire: wire.largest)
        domains = wire.domains.map(\.names)
        while domains.count < ResourceKind.allCases.count { domains.append([]) }
    }
    var wire: WireReserveStanding {
        WireReserveStanding(
            value: reserve.value, isCounting: isCounting, free: free.sparse, worst: worst.sparse, owed: owed.sparse,
            largest: largest.sparse, domains: domains.map { WireReserveStanding.Domains(names: $0) })
    }
}

extension SIMD4<Int64> {
    var allNotNegative: Bool { all(self .>= 0) }
}

/// What a cell has counted for its reserve.
struct ReserveCount: Hashable {
    var reserve: FailoverReserve
    /// VMs with ids up to this one are counted, and no others; the highest number: all are, and those to come.
    var countedThrough: UInt64 = 0
    var free = SIMD4<Int64>.zero
    var worst = SIMD4<Int64>.zero
    var owed = SIMD4<Int64>.zero
    var largest = SIMD4<Int64>.zero

    init(_ reserve: FailoverReserve) { self.reserve = reserve }

    var isComplete: Bool { countedThrough == .max }
    var slack: SIMD4<Int64> { free &- worst &- owed &- largest }

    init?(_ wire: WireReserveCount) {
        guard let reserve = FailoverReserve(value: wire.value) else { return nil }
        self.init(reserve)
        countedThrough = wire.countedThrough
        free = Resources(ofWire: wire.free).vector
        worst = Resources(ofWire: wire.worst).vector
        owed = Resources(ofWire: wire.owed).vector
        largest = Resources(ofWire: wire.largest).vector
    }
    var wire: WireReserveCount {
        WireReserveCount(
            value: reserve.value, countedThrough: countedThrough, free: Resources(free).sparse,
            worst: Resources(worst).sparse, owed: Resources(owed).sparse, largest: Resources(largest).sparse)
    }
}

/// What is counted of one host.
struct ReserveHost: Hashable {
    /// Of VMs here that would not start elsewhere.
    var still = SIMD4<Int64>.zero
    /// Of second copies of VMs that move: room that comes back.
    var second = SIMD4<Int64>.zero
    /// Its part of its domain's sums, as they have it.
    var free = SIMD4<Int64>.zero
    var weight = SIMD4<Int64>.zero
    var domain: [UInt8] = []

    var isEmpty: Bool { self == ReserveHost() }

    init() {}

    init?(_ bytes: [UInt8]) {
        guard let still = SIMD4<Int64>(bytes, at: 0), let second = SIMD4<Int64>(bytes, at: 32),
            let free = SIMD4<Int64>(bytes, at: 64), let weight = SIMD4<Int64>(bytes, at: 96)
        else { return nil }
        self.still = still
        self.second = second
        self.free = free
        self.weight = weight
        domain = Array(bytes.dropFirst(128))
    }

    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(128 + domain.count)
        for vector in [still, second, free, weight] { vector.append(to: &bytes) }
        return bytes + domain
    }
}

extension SIMD4<Int64> {
    init?(_ bytes: [UInt8], at offset: Int) {
        self = .zero
        for lane in 0..<4 {
            guard let value = bytes.bigEndian64(at: offset + 8 * lane) else { return nil }
            self[lane] = Int64(bitPattern: value)
        }
    }

    func append(to bytes: inout [UInt8]) {
        for lane in 0..<4 { bytes.appendBigEndian(UInt64(bitPattern: self[lane])) }
    }
}

extension VMDescription {
    /// A VM of it that runs starts elsewhere when its host is lost.
    package var startsElsewhere: Bool { !isBoundToHost && restart != .never && isolation != .keep }
}

extension CellVM {
    /// It starts elsewhere when its host is lost.
    package var startsElsewhere: Bool {
        guard let place, !place.isReleasing else { return false }
        return startsElsewhereOncePlaced
    }

    /// It will when it has a place.
    package var startsElsewhereOncePlaced: Bool {
        !isDeleting && power != .stopped && boundTo == nil && spec.startsElsewhere
    }

    /// What is kept free is for it: it was lost, or comes from another cell, which gives it up for a reason of its own.
    package var mayUseReserve: Bool { lostAt > .zero || arrival != nil }

    /// It was lost with its host, is to start elsewhere, and has no place yet.
    package var isOwedAPlace: Bool { isWaiting && lostAt > .zero && boundTo == nil }
}

/// What a VM counts for in its cell's reserve.
struct ReserveUse: Hashable {
    struct Part: Hashable {
        var host: HostID
        var amount: SIMD4<Int64>
    }
    var still: Part?
    var second: Part?
    var counted = SIMD4<Int64>.zero
    var owed = SIMD4<Int64>.zero

    init(_ vm: CellVM) {
        let demand = vm.demand.vector
        if vm.startsElsewhere {
            counted = demand
        } else if let place = vm.place {
            still = Part(host: place.assignment.host, amount: demand)
        }
        if let migration = vm.migration {
            let other = migration.phase == .leaving ? migration.source : migration.target
            second = Part(host: other.assignment.host, amount: demand)
        }
        if vm.isOwedAPlace { owed = demand }
    }
}
