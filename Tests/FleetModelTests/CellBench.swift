import ClusterBase
import FleetModel
import Testing

/// A cell on its own, with the log that leads to it.
struct CellBench {
    var state = NaiveState()
    var index = LogIndex.zero
    var time = LogTime(1_000_000)
    var group = GroupID(.cell, number: 1)
    /// At which entries are packed.
    var level = FeatureLevel.oldest
    /// Every pack that was applied, with its index, for replays.
    var log: [[UInt8]] = []
    /// Tenants are set, without bounds, when something is made for them.
    var setsTenants = true

    init() {}

    /// Hosts 1 … `count` of 8 cores and 16 GiB, alternating between zones a and b, two in a rack.
    init(hosts count: Int) throws {
        for i in 1...count { try register(UInt64(i)) }
    }

    static func about(
        _ id: UInt64, cores: Int64 = 8, memory: Int64 = 16_384, zone: String? = nil, rack: String? = nil
    ) -> HostDescription {
        HostDescription(
            name: "h\(id)",
            locality: Locality(zone: zone ?? (id % 2 == 0 ? "b" : "a"), rack: rack ?? "r\((id - 1) / 4)"),
            capacity: Resources(cpuMillis: cores * 1_000, memoryMiB: memory, diskMiB: 100_000, networkMbps: 10_000),
            storageDomains: ["ceph"], networks: ["lan"], driver: "simulated")
    }

    static func spec(_ cores: Int64 = 1, memory: Int64 = 1_024) -> VMDescription {
        VMDescription(resources: Resources(cpuMillis: cores * 1_000, memoryMiB: memory))
    }

    static func request(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 16) }

    // MARK: Asking

    mutating func apply(_ commands: [CellCommand]) throws -> [CellResult] {
        for tenant in try level >= FeatureLevel.knownTenants && setsTenants ? newTenants(commands) : [] {
            try must(.setSlice(tenant: tenant, revision: Revision(1), .unlimited))
        }
        index = index.next
        let pack = Cell.pack(commands.map { $0.encoded() }, level: level, time: time)
        log.append(pack)
        return try Cell.apply(pack: pack, index: index, group: group, access: &state)
    }

    private func newTenants(_ commands: [CellCommand]) throws -> [String] {
        var tenants: [String] = []
        for command in commands {
            switch command.operation {
            case .createVMs(let items, _): tenants += items.map(\.tenant)
            case .putGroup(let group): tenants.append(group.tenant)
            default: break
            }
        }
        return try Set(tenants).sorted().filter { tenant in
            try !(slice(tenant) ?? TenantSlice(tenant: tenant)).isKnown
        }
    }

    mutating func apply(_ operation: CellCommand.Operation, by: String = "test") throws -> CellResult.Outcome {
        try apply([CellCommand(by: by, operation)])[0].outcome
    }

    /// Asks for something that must be done.
    mutating func must(
        _ operation: CellCommand.Operation, _ location: SourceLocation = #_sourceLocation
    ) throws {
        let outcome = try apply(operation)
        #expect(outcome == .done, sourceLocation: location)
    }

    /// Asks for something that must be refused, and says why it was.
    mutating func refusal(
        _ operation: CellCommand.Operation, _ location: SourceLocation = #_sourceLocation
    ) throws -> CellRefusal? {
        switch try apply(operation) {
        case .refused(let refusal): return refusal
        case .items(let items):
            if case .refused(let refusal)? = items.first { return refusal }
        case .done, .kept: break
        }
        Issue.record("it was not refused", sourceLocation: location)
        return nil
    }

    mutating func register(
        _ id: UInt64, _ about: HostDescription? = nil, incarnation: UInt64 = 1, running: [RunningVM] = []
    ) throws {
        try must(
            .registerHost(HostID(id), Incarnation(incarnation), about ?? CellBench.about(id), running: running))
    }

    @discardableResult mutating func create(
        _ name: String, _ spec: VMDescription = CellBench.spec(), tenant: String = "t",
        power: CellVM.Power = .running
    ) throws -> VMID {
        let outcome = try apply(
            .createVMs([VMCreation(name: name, tenant: tenant, spec: spec, power: power)], isAtomic: false))
        guard case .items(let items) = outcome, case .vm(let id)? = items.first else {
            throw StoreError(.corrupt, "\(name) could not be created: \(outcome)")
        }
        return id
    }

    mutating func place(_ id: VMID, on assignment: Assignment) throws -> CellResult.Outcome {
        try apply(.placeVMs([Placing(id, generation: vm(id).generation, assignment)], isAtomic: false))
    }

    mutating func place(_ id: VMID, on host: UInt64, _ location: SourceLocation = #_sourceLocation) throws {
        let outcome = try place(id, on: Assignment(host: HostID(host)))
        #expect(outcome == .items([.vm(id)]), sourceLocation: location)
    }

    /// Why a place is refused.
    mutating func refusal(
        _ id: VMID, on assignment: Assignment, _ location: SourceLocation = #_sourceLocation
    ) throws -> CellRefusal? {
        guard case .items(let items) = try place(id, on: assignment), case .refused(let refusal)? = items.first else {
            Issue.record("the place was not refused", sourceLocation: location)
            return nil
        }
        return refusal
    }

    mutating func refusal(
        _ id: VMID, on host: UInt64, _ location: SourceLocation = #_sourceLocation
    ) throws -> CellRefusal? {
        try refusal(id, on: Assignment(host: HostID(host)), location)
    }

    /// The host of the VM says something of it, under the epoch in force.
    mutating func report(
        _ id: VMID, _ state: VMReport.State, message: String = "", isHostsFault: Bool = false
    ) throws {
        let vm = try vm(id)
        guard let place = vm.place, let host = try host(place.assignment.host) else {
            throw StoreError(.corrupt, "VM \(id) is nowhere")
        }
        try must(
            .reportVMs(
                host.id, host.incarnation,
                [
                    VMReport(
                        id, epoch: place.epoch, state, generation: vm.generation, message: message,
                        isHostsFault: isHostsFault)
                ]))
    }

    /// A VM that runs on a host.
    @discardableResult mutating func running(
        _ name: String, on host: UInt64, _ spec: VMDescription = CellBench.spec()
    ) throws -> VMID {
        let id = try create(name, spec)
        try place(id, on: host)
        try report(id, .running)
        return id
    }

    // MARK: Looking

    func read(_ query: CellQuery) throws -> CellAnswer { try Cell.read(query, state) }

    func rows(_ query: CellQuery) throws -> [CellRowContent] {
        guard case .rows(let rows, _) = try read(query).body else { return [] }
        return rows.compactMap(\.content)
    }
    func find(_ id: VMID) throws -> CellVM? {
        for case .vm(_, let vm) in try rows(.vm(id)) { return vm }
        return nil
    }
    func vm(_ id: VMID) throws -> CellVM { try #require(try find(id)) }
    func host(_ id: HostID) throws -> CellHost? {
        for case .host(_, let host) in try rows(.host(id)) { return host }
        return nil
    }
    func host(_ id: UInt64) throws -> CellHost { try #require(try host(HostID(id))) }
    func slice(_ tenant: String) throws -> TenantSlice? {
        for case .slice(_, let slice) in try rows(.slice(tenant)) { return slice }
        return nil
    }
    func work(_ host: UInt64, since: LogIndex = .zero) throws -> [CellVM]? {
        guard case .work(let vms, _, _) = try read(.hostWork(HostID(host), since: since)).body else { return nil }
        return vms
    }
    func events(vm: VMID? = nil, host: UInt64? = nil) throws -> [CellEvent] {
        var found: [CellEvent] = []
        var after = Revision.zero
        while true {
            let query = CellQuery.events(after: after, vm: vm, host: host.map { HostID($0) }, limit: 0)
            guard case .events(let events, let resume) = try read(query).body else { return found }
            found += events
            guard let resume else { return found }
            after = resume
        }
    }
    /// Asks until nothing new comes.
    func follow(_ view: inout CellView) throws -> CellChanges {
        var changes = CellChanges()
        for _ in 0..<1_000 {
            let isFollowing = view.through != nil
            let news = view.take(try read(view.nextQuery))
            if news.isWhole { changes.isWhole = true }
            changes.vms += news.vms
            changes.hosts += news.hosts
            if isFollowing, view.through == index { return changes }
        }
        throw StoreError(.corrupt, "a follower never came to an end")
    }
}
