import ClusterBase
import Controllers
import FleetModel
import Testing

/// Ordered rows in pieces, so that a hundred thousand of them can be changed one by one. One owner: a copy is the same.
final class PieceRows: StateAccess {
    private static let pieceMax = 512
    private var pieces: [[(key: [UInt8], value: [UInt8])]] = [[]]

    /// As it is now, whatever becomes of this one.
    func copy() -> PieceRows {
        let copy = PieceRows()
        copy.pieces = pieces
        return copy
    }

    private func piece(_ key: [UInt8]) -> Int {
        var low = 0
        var high = pieces.count
        while low < high {
            let middle = (low + high) / 2
            if let first = pieces[middle].first, !key.precedes(first.key) { low = middle + 1 } else { high = middle }
        }
        return max(0, low - 1)
    }
    private func place(_ key: [UInt8], in piece: Int) -> (at: Int, isFound: Bool) {
        var low = 0
        var high = pieces[piece].count
        while low < high {
            let middle = (low + high) / 2
            if pieces[piece][middle].key.precedes(key) { low = middle + 1 } else { high = middle }
        }
        return (low, low < pieces[piece].count && pieces[piece][low].key == key)
    }
    func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? {
        let piece = piece(key)
        let (at, isFound) = place(key, in: piece)
        return isFound ? pieces[piece][at].value : nil
    }
    func scan(_ range: KeyRange, _ body: ([UInt8], [UInt8]) -> Bool) throws(StoreError) {
        var piece = piece(range.from)
        var at = place(range.from, in: piece).at
        while piece < pieces.count {
            while at < pieces[piece].count {
                let row = pieces[piece][at]
                if !range.contains(row.key) || !body(row.key, row.value) { return }
                at += 1
            }
            piece += 1
            at = 0
        }
    }
    func put(_ key: [UInt8], _ value: [UInt8]) {
        let piece = piece(key)
        let (at, isFound) = place(key, in: piece)
        if isFound {
            pieces[piece][at].value = value
            return
        }
        pieces[piece].insert((key, value), at: at)
        if pieces[piece].count > PieceRows.pieceMax {
            let upper = Array(pieces[piece][(PieceRows.pieceMax / 2)...])
            pieces[piece].removeLast(upper.count)
            pieces.insert(upper, at: piece + 1)
        }
    }
    func delete(_ key: [UInt8]) {
        let piece = piece(key)
        let (at, isFound) = place(key, in: piece)
        if !isFound { return }
        pieces[piece].remove(at: at)
        if pieces[piece].isEmpty && pieces.count > 1 { pieces.remove(at: piece) }
    }
    func delete(_ range: KeyRange) {
        for key in keys(in: range) { delete(key) }
    }
    func keys(in range: KeyRange) -> [[UInt8]] {
        pieces.flatMap { piece in piece.filter { range.contains($0.key) }.map(\.key) }
    }
}

/// What an entry writes, over rows that stay as they are until it is kept: a copy is one.
struct EntryRows: StateAccess {
    let base: PieceRows
    /// Nil: deleted.
    private var changes: [[UInt8]: [UInt8]?] = [:]
    init(_ base: PieceRows) { self.base = base }

    func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? {
        if let change = changes[key] { return change }
        return try base.value(for: key)
    }
    func scan(_ range: KeyRange, _ body: ([UInt8], [UInt8]) -> Bool) throws(StoreError) {
        var rows: [(key: [UInt8], value: [UInt8])] = []
        try base.scan(range) { key, value in
            rows.append((key, value))
            return true
        }
        let changed = changes.keys.filter { range.contains($0) }
        rows.removeAll { changed.contains($0.key) }
        for key in changed { if let value = changes[key] ?? nil { rows.append((key, value)) } }
        for row in rows.sorted(by: { $0.key.precedes($1.key) }) where !body(row.key, row.value) { return }
    }
    mutating func put(_ key: [UInt8], _ value: [UInt8]) { changes[key] = .some(value) }
    mutating func delete(_ key: [UInt8]) { changes[key] = .some(nil) }
    mutating func delete(_ range: KeyRange) {
        var keys: [[UInt8]] = changes.keys.filter { range.contains($0) }
        for key in base.keys(in: range) { keys.append(key) }
        for key in keys { delete(key) }
    }
    func keep() {
        for (key, change) in changes { if let value = change { base.put(key, value) } else { base.delete(key) } }
    }
}

/// A cell with the real state machine, hosts as simple as can be, and keepers that lead it or believe so. One tick is 100 ms.
final class CellWorld {
    struct Machine {
        var id: HostID
        var about: HostDescription
        var isUp = true
        var incarnation = Incarnation(1)
        var workIndex = LogIndex.zero
        var work: [CellVM] = []
        /// What runs here: the epoch, and since which tick.
        // hash order: read sorted
        var copies: [VMID: (epoch: UInt64, since: Int)] = [:]
        var heardAt: Instant
    }

    let state = PieceRows()
    private(set) var index = LogIndex.zero
    private(set) var time = LogTime(1_000_000)
    private(set) var now = Instant(nanoseconds: 1_000_000_000_000)
    private(set) var ticks = 0
    var machines: [Machine] = []
    var keeper: CellKeeper
    /// At which entries are packed; above the oldest, what is all or none is undone where it is refused.
    var level = FeatureLevel.oldest
    /// Keepers of leaders that were; they go on for a while without hearing.
    var deposed: [CellKeeper] = []
    /// Commands that keepers asked for, and those of them that were refused.
    private(set) var asked = 0
    private(set) var refused: [(CellCommand.Operation, CellRefusal)] = []
    private(set) var lastOperations: [CellCommand.Operation] = []
    /// VMs that end by themselves when they run.
    var crashing: Set<VMID> = []
    /// Migrations make no progress.
    var isStuck = false
    /// Ticks that a migration copies.
    var copyTicks = 3

    init() {
        keeper = CellKeeper(seed: 7, leadsSince: now)
    }

    // MARK: Commands

    @discardableResult
    func apply(_ operations: [CellCommand.Operation], by: String = "test") throws -> [CellResult] {
        index = index.next
        let pack = Cell.pack(operations.map { CellCommand(by: by, $0).encoded() }, level: level, time: time)
        if level > FeatureLevel.oldest {
            var entry = EntryRows(state)
            let results = try Cell.apply(pack: pack, index: index, access: &entry)
            entry.keep()
            return results
        }
        var access = state
        return try Cell.apply(pack: pack, index: index, access: &access)
    }

    @discardableResult
    func apply(_ operation: CellCommand.Operation, by: String = "test") throws -> CellResult.Outcome {
        try apply([operation], by: by)[0].outcome
    }

    @discardableResult
    func addHost(
        cpu: Int64 = 16_000, memory: Int64 = 65_536, zone: String = "a", rack: String = "r1", labels: [Named] = [],
        domains: [String] = ["ssd"], numaNodes: [NUMANode] = [], devices: [NamedDevice] = [], region: String = "r"
    ) throws -> HostID {
        let id = HostID(UInt64(machines.count + 1))
        let about = HostDescription(
            name: "h\(id)", locality: Locality(region: region, zone: zone, rack: rack),
            capacity: Resources(cpuMillis: cpu, memoryMiB: memory, diskMiB: 1 << 20, networkMbps: 10_000),
            numaNodes: numaNodes, devices: devices, labels: labels, storageDomains: domains, networks: ["lan"])
        try apply(.registerHost(id, Incarnation(1), about, running: []))
        machines.append(Machine(id: id, about: about, heardAt: now))
        return id
    }

    static func spec(
        cpu: Int64 = 1_000, memory: Int64 = 1_024, priority: Int32 = 0, groups: [String] = []
    ) -> VMDescription {
        var spec = VMDescription(resources: Resources(cpuMillis: cpu, memoryMiB: memory))
        spec.priority = priority
        spec.groups = groups
        return spec
    }

    /// Ids of the VMs made, in order; nil where one was refused.
    @discardableResult
    func create(_ creations: [VMCreation], isAtomic: Bool = false) throws -> [VMID?] {
        guard case .items(let items) = try apply(.createVMs(creations, isAtomic: isAtomic)) else {
            return creations.map { _ in nil }
        }
        return items.map { if case .vm(let id) = $0 { id } else { nil } }
    }

    private var names = 0
    @discardableResult
    func create(_ spec: VMDescription, power: CellVM.Power = .running) throws -> VMID {
        names += 1
        let ids = try create([VMCreation(name: "v\(names)", tenant: "default", spec: spec, power: power)])
        return try #require(ids.first ?? nil)
    }

    // MARK: Looking

    /// The whole state as it is, freshly loaded.
    func view() throws -> CellView {
        var view = CellView()
        for _ in 0..<100_000 {
            _ = view.take(try Cell.read(view.nextQuery, state))
            if view.through != nil { return view }
        }
        throw StoreError(.corrupt, "the state never came to an end")
    }

    func explain(_ id: VMID, hosts: [HostID] = []) -> CellExplanation? { keeper.explain(id, hosts: hosts) }
    func planDrain(_ host: HostID) -> CellPlan? { keeper.planDrain(host) }
    func planCapacity(_ host: HostID, _ policy: HostPolicy) -> CellPlan? { keeper.planCapacity(host, policy) }
    func planEnforcement(_ host: HostID, _ policy: HostPolicy) -> CellPlan? {
        keeper.planCapacity(host, policy, isEnforced: true)
    }
    func planDeath(_ host: HostID) -> CellPlan? { keeper.planDeath(host) }
    func planRemoval(_ host: HostID) -> CellPlan? { keeper.planRemoval(host) }

    func vm(_ id: VMID) throws -> CellVM? { try view().vms[id] }
    func host(of id: VMID) throws -> HostID? { try vm(id)?.place?.assignment.host }

    /// A keeper that has just come to lead and has read everything.
    func freshKeeper() throws -> CellKeeper {
        var fresh = CellKeeper(seed: 7, leadsSince: now)
        try follow(&fresh)
        while !fresh.isReady { _ = fresh.plan(now: now) { watch } }
        return fresh
    }

    // MARK: Time

    /// Goes on for long, and has each move of a VM fail: with what intents it was tried.
    func failMoves(of id: VMID) throws -> [MoveIntent] {
        var tries: [MoveIntent] = []
        for _ in 0..<2_000 {
            try tick()
            for case .beginMigration(_, _, _, _, let intent) in lastOperations { tries.append(intent) }
            guard let vm = try vm(id), let place = vm.place, vm.migration?.phase == .copying else { continue }
            let report = VMReport(vm.id, epoch: place.epoch, .copyFailed, message: "it writes")
            try apply(.reportVMs(place.assignment.host, Incarnation(1), [report]))
        }
        return tries
    }

    func tick(_ count: Int = 1) throws {
        for _ in 0..<count {
            ticks += 1
            now += .milliseconds(100)
            time = time.advanced(by: 100)
            for i in machines.indices where machines[i].isUp { try serve(i) }
            for i in deposed.indices {
                let operations = deposed[i].plan(now: now) { watch }
                for operation in operations { try apply(operation, by: "controller") }
            }
            try lead()
        }
    }

    /// Lets the leader plan until it has nothing more to say at this time.
    func lead() throws {
        lastOperations = []
        for round in 0..<1_000 {
            try follow(&keeper)
            if now < keeper.deadline { return }
            let operations = keeper.plan(now: now) { watch }
            lastOperations += operations
            for operation in operations {
                asked += 1
                let result = try apply([operation], by: "controller")[0]
                keeper.take(.applied(result), of: operation, now: now)
                switch result.outcome {
                case .refused(let refusal): refused.append((operation, refusal))
                case .items(let items):
                    for item in items { if case .refused(let refusal) = item { refused.append((operation, refusal)) } }
                case .done, .kept: break
                }
            }
            #expect(round < 999, "planning never ends: \(operations.prefix(3))")
        }
    }

    func follow(_ keeper: inout CellKeeper) throws {
        while (keeper.view.through ?? .zero) < index {
            keeper.take(try Cell.read(keeper.nextQuery, state), now: now)
        }
    }

    /// Another node leads, and knows nothing yet; the one before goes on for a while.
    func changeLeader(keepsOld: Bool = false) {
        if keepsOld { deposed.append(keeper) }
        keeper = CellKeeper(seed: 7, leadsSince: now)
    }

    var watch: NodeWatch {
        NodeWatch(
            own: NodeID(0), watchingSince: .origin,
            facts: machines.map { NodeWatch.Fact(node: NodeID($0.id.rawValue), since: .origin, heardAt: $0.heardAt) })
    }

    // MARK: Hosts

    func crash(_ host: HostID) { machines[Int(host.rawValue) - 1].isUp = false }

    func revive(_ host: HostID) throws {
        let i = Int(host.rawValue) - 1
        machines[i].isUp = true
        machines[i].incarnation = Incarnation(machines[i].incarnation.rawValue + 1)
        machines[i].copies = [:]
        machines[i].workIndex = .zero
        machines[i].heardAt = now
        try apply(.registerHost(host, machines[i].incarnation, machines[i].about, running: []))
    }

    private func serve(_ i: Int) throws {
        machines[i].heardAt = now
        let host = machines[i].id
        let answer = try Cell.read(.hostWork(host, since: machines[i].workIndex), state)
        guard case .work(let work, let workIndex, let lease) = answer.body else { return }
        if lease == 0 {
            machines[i].incarnation = Incarnation(machines[i].incarnation.rawValue + 1)
            machines[i].copies = [:]
            machines[i].workIndex = .zero
            try apply(.registerHost(host, machines[i].incarnation, machines[i].about, running: []))
            return
        }
        if let work {
            machines[i].work = work
            machines[i].workIndex = workIndex
        }
        var reports: [VMReport] = []
        for vm in machines[i].work { reports += serve(i, vm) }
        if reports.isEmpty { return }
        try apply(.reportVMs(host, machines[i].incarnation, reports))
        // It looks at what its reports changed.
        machines[i].workIndex = .zero
    }

    private func serve(_ i: Int, _ vm: CellVM) -> [VMReport] {
        let host = machines[i].id
        if let place = vm.place, place.assignment.host == host {
            return serve(i, vm, place)
        }
        guard let migration = vm.migration else { return [] }
        let end = migration.phase == .leaving ? migration.source : migration.target
        if end.assignment.host != host || migration.phase == .copying { return [] }
        machines[i].copies[vm.id] = nil
        return [VMReport(vm.id, epoch: end.epoch, .stopped)]
    }

    private func serve(_ i: Int, _ vm: CellVM, _ place: VMPlace) -> [VMReport] {
        let isWanted = !place.isReleasing && !vm.isDeleting && vm.power != .stopped
        if !isWanted {
            machines[i].copies[vm.id] = nil
            return vm.phase == .stopped ? [] : [VMReport(vm.id, epoch: place.epoch, .stopped)]
        }
        if [.crashed, .looping, .stopped].contains(vm.phase) { return [] }
        if let copy = machines[i].copies[vm.id], copy.epoch == place.epoch {
            if crashing.contains(vm.id) {
                machines[i].copies[vm.id] = nil
                return [VMReport(vm.id, epoch: place.epoch, .crashed, message: "guest panic")]
            }
            if vm.migration?.phase == .copying && vm.migration?.isCopied == false && !isStuck {
                let began = copy.since
                if ticks - began >= copyTicks { return [VMReport(vm.id, epoch: place.epoch, .copied)] }
            }
            if vm.phase == .running && vm.runningGeneration == vm.generation { return [] }
        } else {
            machines[i].copies[vm.id] = (place.epoch, ticks)
        }
        let state: VMReport.State = vm.power == .paused ? .paused : .running
        return [VMReport(vm.id, epoch: place.epoch, state, generation: vm.generation)]
    }
}
