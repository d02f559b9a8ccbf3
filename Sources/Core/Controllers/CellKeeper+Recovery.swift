package import ClusterBase
import FleetModel

// How long VMs are down that were lost with their hosts, and how long moves take.

/// When moves began that are under way, and how long those took that ended lately.
struct WayTimes: Hashable, Sendable {
    static let countMax = 32
    static let openMax = 4_096

    // hash order: looked up only
    private var open: [VMID: Instant] = [:]
    /// The newest last.
    private var taken: [Nanoseconds] = []

    mutating func begin(_ id: VMID, _ now: Instant) {
        if open[id] == nil && open.count < WayTimes.openMax { open[id] = now }
    }
    mutating func end(_ id: VMID, _ now: Instant) {
        guard let began = open.removeValue(forKey: id) else { return }
        if taken.count == WayTimes.countMax { taken.removeFirst() }
        taken.append(now - began)
    }
    /// It came to nothing.
    mutating func drop(_ id: VMID) { open[id] = nil }
    /// What is under way is not known any more.
    mutating func forget() { open = [:] }

    /// On an average; nil where none has ended.
    var mean: Nanoseconds? {
        taken.isEmpty ? nil : taken.reduce(.zero, +) / Int64(taken.count)
    }
}

extension CellKeeper {
    /// VMs that are late of which one look asks why.
    static let lateLookedMax = 256

    /// For each row that changed.
    mutating func followRecovery(_ vm: CellVM, _ now: Instant) {
        if vm.lostAt == .zero || vm.arrival != nil {
            lost[vm.id] = nil
        } else if lost[vm.id] == nil {
            let ago = view.time.rawValue - min(view.time.rawValue, vm.lostAt.rawValue)
            lost[vm.id] = now - .milliseconds(Int64(clamping: min(ago, UInt64(Objective.longest.milliseconds))))
        }
        if vm.departure != nil { ways.begin(vm.id, now) } else { ways.drop(vm.id) }
        switch vm.migration?.phase {
        case .copying: moves.begin(vm.id, now)
        case .leaving: moves.end(vm.id, now)
        case .undoing, nil: moves.drop(vm.id)
        }
    }

    /// VMs that were lost with their hosts and do not run yet.
    package var lostVMs: Int { lost.count }

    /// How long VMs may be down that were lost, as it is set; nil where nothing is.
    package var rto: Nanoseconds? {
        Objective(value: view[.rto])?.most
    }

    /// The same for one of them, whose tenant may have one of its own.
    private func rto(of id: VMID, unless most: Nanoseconds?) -> Nanoseconds? {
        guard let vm = view.vms[id] else { return nil }
        guard let slice = view.slices[vm.tenant] else { return most }
        return slice.rto(unless: most)
    }

    /// VMs that were lost, do not run for longer than is declared, and could: there is room, or a way.
    package func lateVMs(_ now: Instant) -> CellRiskWatch.Found? {
        if lost.isEmpty { return nil }
        let rto = rto
        // hash order: sorted
        let late = lost.filter { id, since in
            guard let most = self.rto(of: id, unless: rto) else { return false }
            return now - since > most
        }.sorted { ($0.value, $0.key) < ($1.value, $1.key) }
        if late.isEmpty { return nil }
        let wave = Wave(self, now)
        var count = 0
        var first: (id: VMID, since: Instant)?
        for (id, since) in late.prefix(CellKeeper.lateLookedMax) where mayRun(id, wave) {
            count += 1
            if first == nil { first = (id, since) }
        }
        guard let first, let vm = view.vms[first.id] else { return nil }
        let more = late.count > CellKeeper.lateLookedMax ? " or more" : ""
        return CellRiskWatch.Found(
            .rto,
            "\(count)\(more) VMs that were lost with their hosts, or left an evacuated region, and have somewhere to run do not run yet, VM \(vm.name) of tenant "
                + "\(vm.tenant) for \(CellExposure.seconds(now - first.since)); declared is "
                + Objective.within(self.rto(of: first.id, unless: rto) ?? .zero).text)
    }

    /// Whether it is on its way, or may be placed here or sent elsewhere in its turn.
    private func mayRun(_ id: VMID, _ wave: Wave) -> Bool {
        guard let vm = view.vms[id] else { return false }
        if vm.place != nil || vm.departure != nil { return true }
        guard let kind = queue.kind(of: id) else { return pending[id] != nil }
        if queue.kinds[kind].isOpen { return true }
        if regions.lost.isEmpty || !CellKeeper.mayLeave(vm) { return false }
        switch regionWait(vm, wave) {
        case .inTurn, .refused: return true
        default: return false
        }
    }
}
