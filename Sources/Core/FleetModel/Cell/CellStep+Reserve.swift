import ClusterBase

// What is kept free for losses: counted as VMs and hosts change, and judged wherever something would use it up.
//
//     hosts, VMs ──▶ what each host has free, and what would start elsewhere from it ──▶ sums of its domain, in order by size
//                                                                                             │ the first few: the worst loss
//     free in all, owed, largest VM ──────────────────────────────────────────────────────────┴──▶ slack ≥ 0, or refused
//
// A loss itself is never refused, nor what starts elsewhere because of one.

extension CellKey {
    /// ‖ host → `ReserveHost`
    static let reserveHosts: UInt8 = 0x98
    /// ‖ domain → what its loss takes
    static let reserveDomains: UInt8 = 0x99
    /// ‖ kind of amount ‖ the same, the most first ‖ domain → nothing
    static let reserveOrder: UInt8 = 0x9A
    /// ‖ kind of amount ‖ amount, the most first → VMs that ask for it, 8 bytes
    static let reserveSizes: UInt8 = 0x9B

    static func reserveHost(_ host: HostID) -> [UInt8] { numbered([reserveHosts], host.rawValue) }
    static func reserveDomain(_ domain: [UInt8]) -> [UInt8] { [reserveDomains] + domain }
    static func reserveOrder(_ kind: ResourceKind, _ weight: Int64, _ domain: [UInt8]) -> [UInt8] {
        numbered([reserveOrder, UInt8(kind.rawValue)], ~UInt64(weight)) + domain
    }
    static func reserveSize(_ kind: ResourceKind, _ amount: Int64) -> [UInt8] {
        numbered([reserveSizes, UInt8(kind.rawValue)], ~UInt64(amount))
    }

    private static func numbered(_ prefix: [UInt8], _ number: UInt64) -> [UInt8] {
        var bytes = prefix
        bytes.appendBigEndian(number)
        return bytes
    }
}

/// The reserve's part of an entry's work.
struct ReserveWork {
    // hash order: looked up, and written by sorted keys
    var hosts: [HostID: Cached<ReserveHost>] = [:]
    /// Hosts whose part of the sums may be another one now.
    // hash order: read sorted
    var touched: Set<HostID> = []
    var isWorstStale = false
    var isLargestStale = false
}

extension OrderedReader {
    /// The first amounts of one kind in an order by size, and what follows them in their keys.
    func largest(
        _ order: UInt8, _ kind: ResourceKind, count: Int
    ) throws(StoreError) -> [(amount: Int64, rest: [UInt8])] {
        var found: [(amount: Int64, rest: [UInt8])] = []
        var bad: [UInt8]?
        try scan(.prefix([order, UInt8(kind.rawValue)])) { key, _ in
            guard let number = key.bigEndian64(at: 2), let amount = Int64(exactly: ~number) else {
                bad = key
                return false
            }
            found.append((amount, Array(key.dropFirst(10))))
            return found.count < count
        }
        if let bad { throw CellKey.corrupt(bad) }
        return found
    }

    func reserveStanding(_ count: ReserveCount) throws(StoreError) -> ReserveStanding {
        var standing = ReserveStanding(count.reserve)
        standing.isCounting = !count.isComplete
        standing.free = Resources(count.free)
        standing.worst = Resources(count.worst)
        standing.owed = Resources(count.owed)
        standing.largest = Resources(count.largest)
        for kind in ResourceKind.allCases {
            standing.domains[kind.rawValue] = try largest(CellKey.reserveOrder, kind, count: count.reserve.count).map {
                ReserveStanding.name($0.rest, count.reserve.scope)
            }
        }
        return standing
    }
}

extension ReserveStanding {
    /// A domain by name; a host by its number.
    static func name(_ domain: [UInt8], _ scope: PlacementGroup.Scope) -> String {
        if scope == .host { return domain.bigEndian64(at: 0).map { "\($0)" } ?? "" }
        let parts = domain.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        let name = parts.joined(separator: "/")
        return name.isEmpty ? "without a name" : name
    }
}

extension CellStep {
    // MARK: Judging

    /// What is left beyond the reserve, by kind; nil where nothing is judged by it.
    mutating func reserveSlack() throws(StoreError) -> SIMD4<Int64>? {
        guard summary.reserve?.isComplete == true else { return nil }
        try settleReserve()
        return summary.reserve?.slack
    }

    private func reserveText(
        _ isBad: (ReserveStanding, ResourceKind) -> Int64?
    ) throws(StoreError) -> CellRefusal? {
        guard let count = summary.reserve else { return nil }
        let standing = try access.reserveStanding(count)
        for kind in ResourceKind.allCases {
            guard let short = isBad(standing, kind) else { continue }
            // hash order: looked up only
            var names: [UInt64: String] = [:]
            for name in standing.domains[kind.rawValue] {
                guard standing.reserve.scope == .host, let id = UInt64(name) else { continue }
                let host = try access.record(CellHost.self, CellTable.hosts.key(id))
                names[id] = host?.about.name
            }
            return .breaksReserve(standing.text(kind, short: short) { names[$0.rawValue] ?? "\($0)" })
        }
        return nil
    }

    /// Why one more VM would leave too little; nil where it may come. One that was lost may use what is kept for it.
    mutating func refusal(ofReserve vm: CellVM) throws(StoreError) -> CellRefusal? {
        if vm.mayUseReserve || mutated(.reserveNotJudged) { return nil }
        guard let slack = try reserveSlack(), let count = summary.reserve else { return nil }
        var placed = vm
        placed.place = VMPlace(Assignment(host: HostID(0)), epoch: 0)
        let left = ReserveStanding.slack(slack, count.largest, vm.demand.vector, counts: placed.startsElsewhere)
        if left.vector.allNotNegative { return nil }
        let demand = vm.demand.vector
        return try reserveText { _, kind in
            let lane = kind.rawValue
            return demand[lane] > 0 && left.vector[lane] < 0 ? -left.vector[lane] : nil
        }
    }

    /// Does something, unless it leaves too little where there was enough, or even less than before; then nothing of it is done.
    mutating func judgedByReserve(
        _ body: (inout CellStep) throws(StoreError) -> CellResult.Outcome
    ) throws(StoreError) -> CellResult.Outcome {
        guard let before = try reserveSlack(), !mutated(.reserveNotJudged) else { return try body(&self) }
        let kept = self
        let outcome = try body(&self)
        guard case .done = outcome, let after = try reserveSlack() else { return outcome }
        let isWorse = (after .< 0) .& (after .< before)
        if !any(isWorse) { return outcome }
        let refusal = try reserveText { _, kind in isWorse[kind.rawValue] ? -after[kind.rawValue] : nil }
        self = kept
        return refusal.map { .refused($0) } ?? outcome
    }

    /// Whether a VM as it would be leaves too little; nothing is done.
    mutating func refusal(ofReserveFor new: CellVM, was old: CellVM) throws(StoreError) -> CellRefusal? {
        if summary.reserve == nil { return nil }
        var trial = self
        let outcome = try trial.judgedByReserve { step throws(StoreError) in
            try step.put(new, was: old)
            return .done
        }
        if case .refused(let refusal) = outcome { return refusal }
        return nil
    }

    // MARK: Counting

    /// Begins to count for another reserve, or forgets what was counted.
    mutating func beginReserve(_ value: UInt64) throws(StoreError) {
        for kind in [CellKey.reserveHosts, CellKey.reserveDomains, CellKey.reserveOrder, CellKey.reserveSizes] {
            access.delete(.prefix([kind]))
        }
        reserve = ReserveWork()
        summary.reserve = FailoverReserve(value: value).map { ReserveCount($0) }
        if summary.reserve == nil { return }
        for id in try access.ids([CellTable.hosts.kind]) { reserve.touched.insert(HostID(id)) }
        // hash order: put into a set
        for id in hosts.keys { reserve.touched.insert(id) }
    }

    /// Counts some of the VMs that were there before, until all are counted.
    mutating func countMoreForReserve() throws(StoreError) {
        guard let count = summary.reserve, !count.isComplete else { return }
        let range = KeyRange(from: CellTable.vms.key(count.countedThrough) + [0], to: [CellTable.vms.kind + 1])
        var vms: [CellVM] = []
        var bad: [UInt8]?
        try access.scan(range) { key, value in
            guard let vm = CellVM.decode(value) else {
                bad = key
                return false
            }
            vms.append(vm)
            return vms.count < CellLimits.reserveCountedAtOnceMax
        }
        if let bad { throw CellKey.corrupt(bad) }
        summary.reserve?.countedThrough = .max
        for vm in vms { try followReserve(nil, vm, vm.id) }
        if vms.count == CellLimits.reserveCountedAtOnceMax, let last = vms.last {
            summary.reserve?.countedThrough = last.id.rawValue
        }
    }

    mutating func followReserve(_ old: CellVM?, _ new: CellVM?, _ id: VMID) throws(StoreError) {
        guard let count = summary.reserve, id.rawValue <= count.countedThrough else { return }
        let before = old.map { ReserveUse($0) }
        let after = new.map { ReserveUse($0) }
        if before == after { return }
        if let before { try self.count(before, -1) }
        if let after { try self.count(after, 1) }
        let (less, more) = (before?.counted ?? .zero, after?.counted ?? .zero)
        if less == more { return }
        for kind in ResourceKind.allCases where less[kind.rawValue] != more[kind.rawValue] {
            if less[kind.rawValue] > 0 { try countSize(kind, less[kind.rawValue], -1) }
            if more[kind.rawValue] > 0 { try countSize(kind, more[kind.rawValue], 1) }
        }
    }

    private mutating func count(_ use: ReserveUse, _ sign: Int64) throws(StoreError) {
        summary.reserve?.owed &+= use.owed &* sign
        if let part = use.still { try changeReserve(part.host) { $0.still &+= part.amount &* sign } }
        if let part = use.second { try changeReserve(part.host) { $0.second &+= part.amount &* sign } }
    }

    private mutating func countSize(_ kind: ResourceKind, _ amount: Int64, _ sign: Int) throws(StoreError) {
        let key = CellKey.reserveSize(kind, amount)
        var count = try access.number(key) ?? 0
        if sign > 0 { count += 1 } else { count -= min(1, count) }
        if count == 0 { access.delete(key) } else { access.put(key, count.bigEndianBytes) }
        let largest = summary.reserve?.largest[kind.rawValue] ?? 0
        if amount > largest { summary.reserve?.largest[kind.rawValue] = amount }
        if amount == largest && count == 0 { reserve.isLargestStale = true }
    }

    private mutating func reserveHost(_ id: HostID) throws(StoreError) -> ReserveHost {
        if let cached = reserve.hosts[id] { return cached.record ?? ReserveHost() }
        let key = CellKey.reserveHost(id)
        let bytes = try access.value(for: key)
        guard let host = bytes.map({ ReserveHost($0) }) ?? ReserveHost() else { throw CellKey.corrupt(key) }
        reserve.hosts[id] = Cached(record: host)
        return host
    }

    private mutating func changeReserve(
        _ id: HostID, _ body: (inout ReserveHost) -> Void
    ) throws(StoreError) {
        var host = try reserveHost(id)
        body(&host)
        reserve.hosts[id] = Cached(record: host, isChanged: true)
        reserve.touched.insert(id)
    }

    /// Brings the sums up to what the hosts are.
    mutating func settleReserve() throws(StoreError) {
        guard let count = summary.reserve else { return }
        if !reserve.touched.isEmpty {
            let touched = reserve.touched.sorted()
            reserve.touched = []
            for id in touched { try settle(try host(id), id, count.reserve.scope) }
        }
        if reserve.isWorstStale {
            reserve.isWorstStale = false
            for kind in ResourceKind.allCases {
                let first = try access.largest(CellKey.reserveOrder, kind, count: count.reserve.count)
                summary.reserve?.worst[kind.rawValue] = first.reduce(0) { $0 &+ $1.amount }
            }
        }
        if reserve.isLargestStale {
            reserve.isLargestStale = false
            for kind in ResourceKind.allCases {
                let first = try access.largest(CellKey.reserveSizes, kind, count: 1)
                summary.reserve?.largest[kind.rawValue] = first.first?.amount ?? 0
            }
        }
    }

    private mutating func settle(_ host: CellHost?, _ id: HostID, _ scope: PlacementGroup.Scope) throws(StoreError) {
        var counted = try reserveHost(id)
        let (free, weight) = ReserveHost.part(host, counted)
        let domain = host.flatMap { $0.health == .up ? $0.domain(scope) : nil } ?? []
        if counted.free == free && counted.weight == weight && counted.domain == domain { return }
        summary.reserve?.free &+= free &- counted.free
        if counted.domain == domain {
            try add(weight &- counted.weight, to: domain)
        } else {
            try add(SIMD4.zero &- counted.weight, to: counted.domain)
            try add(weight, to: domain)
        }
        counted.free = free
        counted.weight = weight
        counted.domain = domain
        reserve.hosts[id] = Cached(record: counted, isChanged: true)
    }

    private mutating func add(_ more: SIMD4<Int64>, to domain: [UInt8]) throws(StoreError) {
        if more == .zero { return }
        let key = CellKey.reserveDomain(domain)
        let bytes = try access.value(for: key)
        guard let old = bytes.map({ SIMD4<Int64>($0, at: 0) }) ?? SIMD4.zero else { throw CellKey.corrupt(key) }
        let new = old &+ more
        if new == .zero {
            access.delete(key)
        } else {
            var bytes: [UInt8] = []
            new.append(to: &bytes)
            access.put(key, bytes)
        }
        for kind in ResourceKind.allCases {
            let (before, after) = (old[kind.rawValue], new[kind.rawValue])
            if before == after { continue }
            if before > 0 { access.delete(CellKey.reserveOrder(kind, before, domain)) }
            if after > 0 { access.put(CellKey.reserveOrder(kind, after, domain), []) }
        }
        reserve.isWorstStale = true
    }

    /// Writes what was counted of hosts.
    mutating func writeReserve() throws(StoreError) {
        if summary.reserve == nil { return }
        try countMoreForReserve()
        try settleReserve()
        for id in reserve.hosts.keys.sorted() {
            guard let cached = reserve.hosts[id], cached.isChanged, let host = cached.record else { continue }
            let key = CellKey.reserveHost(id)
            if host.isEmpty { access.delete(key) } else { access.put(key, host.bytes) }
        }
    }
}

extension ReserveHost {
    /// What a host has free for those of others, and what its loss takes: that, and the room for what would start elsewhere. One that
    /// drains has its VMs' room elsewhere as a debt, and loses nothing. A move takes nothing but where the VM is: the room at its
    /// other end comes back. Whether the cell does without it was judged when the move began; from a host that is cordoned, and of a
    /// VM that starts nowhere else, others may have taken it by the commit, which nobody refuses.
    static func part(_ host: CellHost?, _ known: ReserveHost) -> (free: SIMD4<Int64>, weight: SIMD4<Int64>) {
        guard let host else { return (.zero, .zero) }
        let moving = host.used.vector &- known.still &- known.second
        switch host.state {
        case .ready:
            let left = host.offered.vector &- host.used.vector &+ known.second
            let free = left.replacing(with: 0, where: left .< 0)
            return (free, free &+ moving)
        case .cordoned: return (.zero, moving)
        case .draining, .maintenance: return (known.second &- host.used.vector, .zero)
        case .down: return (.zero, .zero)
        }
    }
}

extension CellCommand.Operation {
    /// Somebody asks for it, and it may leave too little for losses.
    var isJudgedByReserve: Bool {
        switch self {
        case .setHostDuty, .setHostPolicy, .updateVM, .sendHost, .releaseHost: true
        case .careForHost(_, .goAway), .careForHost(_, .drain), .careForHost(_, .resume): true
        default: false
        }
    }
}
