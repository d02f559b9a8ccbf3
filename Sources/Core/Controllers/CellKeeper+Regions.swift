package import ClusterBase
package import FleetModel
import Placement

// A region is lost: what finds no place in its cell goes to cells of other regions, the most urgent first, in waves. It is back:
// what is to return goes home.

/// What the root says of regions and of the other cells.
package struct RegionFacts: Hashable, Sendable {
    package struct Cell: Hashable, Sendable {
        package var number: UInt64
        package var name: String
        package var region: String
        package var report: CellReport?
        package init(number: UInt64, name: String, region: String, report: CellReport?) {
            self.number = number
            self.name = name
            self.region = region
            self.report = report
        }
    }
    /// The keeper's own cell, and the region where its hosts are; empty for none in particular.
    package var own: UInt64
    package var region: String
    package var regions: [RegionStanding]
    package var cells: [Cell]
    package var latencies: RegionLatencies
    package init(
        own: UInt64 = 0, region: String = "", regions: [RegionStanding] = [], cells: [Cell] = [],
        latencies: RegionLatencies = RegionLatencies()
    ) {
        self.own = own
        self.region = region
        self.regions = regions
        self.cells = cells
        self.latencies = latencies
    }
}

/// What a keeper remembers of lost regions; all of it can be lost.
struct RegionWork: Sendable {
    /// Of one VM that goes to another cell.
    struct Try: Hashable, Sendable {
        var to: UInt64
        /// Asked, and not seen in its row yet.
        var askedAt: Instant?
        /// Cells that did not take it since all of those with room had been tried, and how often it was not taken at all.
        var refusedBy: [UInt64] = []
        var refusals = 0
        var restsUntil = Instant.origin
        /// Why not, for people.
        var text = ""
    }

    var facts = RegionFacts()
    /// Epochs of declarations that the cell has noted.
    // hash order: looked up only
    var noted: [String: UInt64] = [:]
    /// VMs that came because their region was lost.
    // hash order: read sorted
    var guests: Set<VMID> = []
    /// VMs on their way to other cells.
    // hash order: read sorted
    var leaving: Set<VMID> = []
    // hash order: looked up, or filtered
    var tries: [VMID: Try] = [:]
    var planAt = Instant.origin
    var tellAt = Instant.origin
    /// Somebody waits for a turn.
    var isBusy = false
    /// Regions with hosts of the cell that are lost.
    var lost: [RegionStanding] = []
    /// Regions that are evacuated while the cell has hosts in others: their hosts take nothing, and empty themselves where the
    /// value says so.
    // hash order: looked up, or read sorted
    var closed: [String: Bool] = [:]
    /// Who leaves evacuated regions, in their turn; made anew from time to time.
    var leavers: (order: [VMID], next: Int, until: Instant) = ([], 0, .origin)
    /// In a rehearsal: as many leave at once as may be on their way at all.
    var isRehearsed = false
}

extension CellKeeper {
    /// Between two plans for lost regions.
    package static let regionInterval = Nanoseconds.seconds(1)
    static let regionTellInterval = Nanoseconds.seconds(5)
    /// VMs on their way at a time, and those to one cell.
    package static let awayMax = 256
    package static let awayPerCellMax = 64
    /// VMs that wait, of which a plan looks at the most urgent.
    static let awayLookedMax = 16_384
    static let awayRestFirst = Nanoseconds.seconds(2)
    static let awayRestMax = Nanoseconds.seconds(60)

    /// Tells what the root says of regions and other cells.
    package mutating func take(regions facts: RegionFacts, now: Instant) {
        if facts == regions.facts { return }
        let isNews = facts.regions != regions.facts.regions
        regions.facts = facts
        guard isNews else { return }
        regions.planAt = now
        regions.leavers.until = now
        wakeAt = min(wakeAt, now)
    }

    /// Keeps the lists of VMs that came or go; for each row that changed.
    mutating func followRegion(_ vm: CellVM, _ now: Instant) {
        if vm.home == nil { regions.guests.remove(vm.id) } else { regions.guests.insert(vm.id) }
        if vm.departure != nil {
            regions.tries[vm.id]?.askedAt = nil
            regions.leaving.insert(vm.id)
        } else if regions.leaving.remove(vm.id) != nil {
            // It stays after all.
            stays(vm.id, vm.message, now)
        }
        // One that is to leave though it has a place is still tried.
        let isLeaving = standing(of: region(of: vm))?.isEvacuated ?? false
        if vm.place != nil && vm.home == nil && !isLeaving { regions.tries[vm.id] = nil }
    }

    mutating func forgetRegion(_ id: VMID) {
        regions.guests.remove(id)
        regions.leaving.remove(id)
        regions.tries[id] = nil
    }

    private mutating func stays(_ id: VMID, _ text: String, _ now: Instant) {
        guard var known = regions.tries[id] else { return }
        known.askedAt = nil
        known.refusedBy.append(known.to)
        known.refusals += 1
        known.text = text
        let doublings = min(known.refusals - 1, 5)
        known.restsUntil = now + min(CellKeeper.awayRestFirst * Int64(1 << doublings), CellKeeper.awayRestMax)
        regions.tries[id] = known
    }

    /// What became of a command to note a region.
    mutating func noted(_ region: CellRegion, _ now: Instant) {
        regions.noted[region.name] = region.epoch
        regions.planAt = now
        // The brake may have held for its hosts until now.
        for id in hostOrder {
            guard let host = view.hosts[id], host.about.locality.region == region.name else { continue }
            ledger.forget(.down(id, host.incarnation))
        }
        healthAt = min(healthAt, now)
    }

    /// A command that a VM goes to another cell was refused, or not taken up.
    mutating func notSent(_ id: VMID, _ refusal: CellRefusal?, _ now: Instant) {
        stays(id, refusal.map { "\($0)" } ?? "nobody knows whether it may", now)
    }

    // MARK: Planning

    mutating func planRegions(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        if regions.facts.regions.isEmpty { return }
        let through = view.through ?? .zero
        for region in regions.facts.regions where regions.noted[region.name] ?? 0 < region.epoch {
            let key = CellLedger.Key.region(region.name, region.epoch)
            guard ledger.mayAsk(key, through, now) else { continue }
            ledger.asked(key, now)
            operations.append(
                .noteRegion(CellRegion(name: region.name, epoch: region.epoch, isLost: region.isLost)))
        }
        if now < regions.planAt {
            // What waits since may be for the next look to see.
            regions.isBusy = regions.isBusy || !regions.lost.isEmpty
            return
        }
        regions.planAt = now + CellKeeper.regionInterval
        regions.isBusy = false
        regions.lost = lostHere
        let evacuated = evacuatedHere(now)
        if regions.tries.count > CellKeeper.awayLookedMax {
            regions.tries = regions.tries.filter { $0.value.restsUntil > now || $0.value.askedAt != nil }
        }
        if regions.lost.isEmpty && regions.guests.isEmpty && evacuated.isEmpty { return }
        var wave = Wave(self, now)
        planAway(now, &wave, &operations)
        planEvacuation(of: evacuated, now, &wave, &operations)
        planHome(now, &wave, &operations)
        tellRegions(now, &operations)
    }

    /// Lost regions that this cell has hosts in, as it has noted them; its own first.
    private var lostHere: [RegionStanding] {
        let lost = regions.facts.regions.filter { $0.isLost && regions.noted[$0.name] == $0.epoch }
        if lost.isEmpty { return [] }
        var found = lost.filter { $0.name == regions.facts.region }
        for region in lost where region.name != regions.facts.region {
            let hasHosts = hostOrder.contains { view.hosts[$0]?.about.locality.region == region.name }
            if hasHosts { found.append(region) }
        }
        return found
    }

    /// VMs that no host here takes, in the order in which they go.
    private var stranded: [CellVM] {
        var found: [CellVM] = []
        let closed = queue.kinds.filter { !$0.isOpen && $0.count > 0 && !$0.isGang && $0.key.boundTo == nil }
        for kind in closed.sorted(by: { $0.priority > $1.priority }) {
            for turn in kind.turns[kind.first...] {
                if found.count >= CellKeeper.awayLookedMax { break }
                if let vm = view.vms[turn.vm] { found.append(vm) }
            }
        }
        return found
    }

    func sortedByTurn(_ vms: [CellVM]) -> [CellVM] {
        func tier(_ vm: CellVM) -> String { tenants[vm.tenant]?.tier ?? "" }
        return vms.sorted { a, b in
            if a.spec.regionLoss != b.spec.regionLoss { return a.spec.regionLoss.rawValue > b.spec.regionLoss.rawValue }
            if a.spec.priority != b.spec.priority { return a.spec.priority > b.spec.priority }
            let (x, y) = (tier(a), tier(b))
            if x != y { return y.isEmpty || (!x.isEmpty && x < y) }
            return a.queuedAt == b.queuedAt ? a.id < b.id : a.queuedAt < b.queuedAt
        }
    }

    private mutating func planAway(
        _ now: Instant, _ wave: inout Wave, _ operations: inout [CellCommand.Operation]
    ) {
        guard let lost = regions.lost.first else { return }
        let all = stranded
        counts.regionWaiting = all.count
        let movable = sortedByTurn(all.filter { CellKeeper.mayLeave($0) })
        regions.isBusy = !movable.isEmpty
        for vm in movable {
            if wave.left <= 0 { break }
            guard mayGo(vm, now), let target = choose(vm, wave) else { continue }
            let home = vm.home ?? CellVM.Home(cell: regions.facts.own, region: lost.name, epoch: lost.epoch)
            begin(vm, to: target, home, .regionLost, now, &wave, &operations)
            counts.regionAway += 1
        }
    }

    func mayGo(_ vm: CellVM, _ now: Instant) -> Bool {
        if vm.departure != nil { return false }
        guard let known = regions.tries[vm.id] else { return true }
        if let asked = known.askedAt, now - asked < CellKeeper.patience { return false }
        return now >= known.restsUntil
    }

    mutating func begin(
        _ vm: CellVM, to target: RegionFacts.Cell, _ home: CellVM.Home?, _ cause: CellMove.Cause, _ now: Instant,
        _ wave: inout Wave, _ operations: inout [CellCommand.Operation]
    ) {
        wave.take(vm, target.number)
        var known = regions.tries[vm.id] ?? RegionWork.Try(to: target.number)
        known.to = target.number
        known.askedAt = now
        regions.tries[vm.id] = known
        operations.append(.moveVM(vm.id, to: target.number, request: [], home: home, cause: cause))
    }

    /// Whether its policy and its disks let it go to another region.
    static func mayLeave(_ vm: CellVM) -> Bool {
        vm.spec.regionLoss != .homeOnly && vm.boundTo == nil && !vm.spec.isBoundToHost && vm.arrival == nil
            && vm.gang == 0 && vm.place == nil
    }

    /// Cells that it may go to, by where they are alone.
    func allowed(_ vm: CellVM) -> [RegionFacts.Cell] {
        let wish = CellWish(vm.spec)
        return regions.facts.cells.filter { cell in
            if cell.number == regions.facts.own || cell.region == regions.facts.region { return false }
            let isClosed = regions.facts.regions.contains {
                ($0.isLost || $0.isEvacuated) && $0.name == cell.region
            }
            if isClosed { return false }
            if !vm.spec.regions.isEmpty && !vm.spec.regions.contains(cell.region) { return false }
            return !wish.isTooFar(cell.region, regions.facts.latencies)
        }
    }

    /// The best cell that has room by what was heard of it, and has not refused it lately.
    mutating func choose(_ vm: CellVM, _ wave: Wave) -> RegionFacts.Cell? {
        let cells = allowed(vm)
        if cells.isEmpty { return nil }
        let refused = regions.tries[vm.id]?.refusedBy ?? []
        let fitting = cells.filter { wave.fits(vm, $0) }
        var open = fitting.filter { !refused.contains($0.number) }
        if open.isEmpty, !fitting.isEmpty {
            // All of them said no: from the beginning, after the rest that it had.
            regions.tries[vm.id]?.refusedBy = []
            open = fitting
        }
        let order = CellRanking.order(
            CellWish(vm.spec),
            open.map { cell in
                var report = cell.report
                report?.free -= wave.taken[cell.number] ?? .zero
                return CellOffer(group: GroupID(.cell, number: cell.number), region: cell.region, report: report)
            }, regions.facts.latencies)
        return order.first.flatMap { best in open.first { $0.number == best.number } }
    }

    /// Those that came from a region that is back, and are to return.
    private mutating func planHome(
        _ now: Instant, _ wave: inout Wave, _ operations: inout [CellCommand.Operation]
    ) {
        let guests = sortedByTurn(regions.guests.sorted().compactMap { view.vms[$0] }.filter { isGoingHome($0) })
        if guests.isEmpty { return }
        regions.isBusy = true
        wave.left = min(wave.left, movesAtOnce - wave.underWay)
        for vm in guests where mayGo(vm, now) {
            if wave.left <= 0 { break }
            guard let home = vm.home else { continue }
            let own = regions.facts.cells.filter { $0.number == home.cell }
            let near = own.isEmpty ? regions.facts.cells.filter { $0.region == home.region } : own
            guard let target = near.first(where: { wave.fits(vm, $0) }) else { continue }
            begin(vm, to: target, nil, .regionBack, now, &wave, &operations)
            counts.regionHome += 1
        }
    }

    private func isGoingHome(_ vm: CellVM) -> Bool {
        guard let home = vm.home, canLeave(vm) else { return false }
        return takesBack(home, vm.spec.returnsHome)
    }

    /// What is forgotten of a region is of long ago.
    private func takesBack(_ home: CellVM.Home, _ returnsHome: Bool) -> Bool {
        guard let standing = regions.facts.regions.first(where: { $0.name == home.region }) else { return returnsHome }
        return standing.takesBack(home, returnsHome: returnsHome)
    }

    // MARK: Words

    /// Why a VM waits though others go to other regions, or what it does in this one; nil where no region has a part in it.
    func regionText(_ vm: CellVM) -> String? { regionText(vm, nil) }

    private func regionText(_ vm: CellVM, _ known: Wave?) -> String? {
        if let home = vm.home, vm.place != nil {
            let cell = regions.facts.cells.first { $0.number == home.cell }?.name ?? "\(home.cell)"
            let plan = regions.facts.regions.first { $0.name == home.region }?.plan
            let returns = plan.map { $0.returns == .all || $0.returns == .policy && vm.spec.returnsHome }
            let what =
                !(returns ?? vm.spec.returnsHome)
                ? "it stays here"
                : takesBack(home, vm.spec.returnsHome)
                    ? "it goes back as soon as there is room for it"
                    : plan == nil ? "it goes back when that is" : "it goes back when that takes VMs again"
            let refused = regions.tries[vm.id].map { $0.text.isEmpty ? "" : "; last: \($0.text)" } ?? ""
            let why = plan == nil ? "lost" : "lost or evacuated"
            return "it came from cell \(cell) because region \(home.region) was \(why); \(what)\(refused)"
        }
        if let text = evacuationText(vm) { return text }
        guard let lost = regions.lost.first, vm.place == nil, vm.power != .stopped, !vm.isDeleting else { return nil }
        let head = "region \(lost.name) is lost"
        if vm.departure != nil { return "\(head), and it is on its way to another cell" }
        switch regionWait(vm, known) {
        case .localDisk: return "\(head), and it waits for its local disk there"
        case .gang: return "\(head), and it waits for its first place together with others"
        case .homeOnly: return "\(head), and its regionLoss is home-only: it waits for its cell"
        case .noRegion:
            let bound = vm.spec.regions.isEmpty ? "" : " of \(vm.spec.regions.joined(separator: ", "))"
            return "\(head), and there is no cell\(bound) in another region that it may go to"
        case .refused: return "\(head), and it is tried again: \(regions.tries[vm.id]?.text ?? "")"
        case .noRoom: return "\(head), and none of \(allowed(vm).count) cells in other regions has room for it"
        default: return "\(head), and it goes to another region in its turn"
        }
    }

    /// Why a VM without a place goes to no other region now.
    func regionWait(_ vm: CellVM) -> CellRehearsal.Cause { regionWait(vm, nil) }

    func regionWait(_ vm: CellVM, _ known: Wave?) -> CellRehearsal.Cause {
        if vm.boundTo != nil || vm.spec.isBoundToHost { return .localDisk }
        if vm.gang > 0 { return .gang }
        if vm.spec.regionLoss == .homeOnly { return .homeOnly }
        let cells = allowed(vm)
        if cells.isEmpty { return .noRegion }
        if let tried = regions.tries[vm.id], !tried.text.isEmpty { return .refused }
        let wave = known ?? Wave(self, .origin)
        return cells.contains { wave.hasRoom(vm, $0) } ? .inTurn : .noRoom
    }

    /// The text of its kind, and what its region has to do with it.
    func rowText(_ id: VMID, _ text: String) -> String { rowText(id, text, nil) }

    private func rowText(_ id: VMID, _ text: String, _ wave: Wave?) -> String {
        if regions.lost.isEmpty { return text }
        guard let vm = view.vms[id], let more = regionText(vm, wave) else { return text }
        return text.isEmpty ? more : "\(text); \(more)"
    }

    /// What was told of a waiting VM may be another thing though nothing changed here.
    private mutating func tellRegions(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        if regions.lost.isEmpty || now < regions.tellAt { return }
        regions.tellAt = now + CellKeeper.regionTellInterval
        let through = view.through ?? .zero
        let wave = Wave(self, now)
        var reasons: [WaitingReason] = []
        for kind in queue.kinds where !kind.isOpen && kind.count > 0 && !kind.text.isEmpty {
            for turn in kind.turns[kind.first...] {
                if reasons.count == CellKeeper.reasonsMax { break }
                guard let vm = view.vms[turn.vm], vm.departure == nil else { continue }
                let text = rowText(vm.id, kind.text, wave)
                guard vm.message != text, ledger.mayAsk(.reason(vm.id), through, now) else { continue }
                ledger.asked(.reason(vm.id), now)
                reasons.append(WaitingReason(vm.id, text))
            }
        }
        if !reasons.isEmpty { operations.append(.explainWaiting(reasons)) }
    }
}

/// How many may still go at a time, and how much of what other cells have free is spoken for.
struct Wave {
    var left: Int
    private(set) var underWay = 0
    // hash order: looked up only
    private(set) var taken: [UInt64: Resources] = [:]
    // hash order: looked up only
    private var counts: [UInt64: Int] = [:]

    init(_ keeper: borrowing CellKeeper, _ now: Instant) {
        left = CellKeeper.awayMax
        for id in keeper.regions.leaving.sorted() {
            if let vm = keeper.view.vms[id], let to = vm.departure?.to { take(vm, to) }
        }
        for id in keeper.regions.tries.keys.sorted() {
            guard let known = keeper.regions.tries[id], let asked = known.askedAt, now - asked < CellKeeper.patience,
                let vm = keeper.view.vms[id]
            else { continue }
            take(vm, known.to)
        }
    }

    mutating func take(_ vm: CellVM, _ cell: UInt64) {
        left -= 1
        underWay += 1
        counts[cell, default: 0] += 1
        taken[cell, default: .zero] += vm.spec.demand
    }

    func fits(_ vm: CellVM, _ cell: RegionFacts.Cell) -> Bool {
        counts[cell.number, default: 0] < CellKeeper.awayPerCellMax && hasRoom(vm, cell)
    }

    /// By what was heard of it last.
    func hasRoom(_ vm: CellVM, _ cell: RegionFacts.Cell) -> Bool {
        guard let report = cell.report, report.takesOne(vm.spec.demand),
            vm.spec.zones.isEmpty || vm.spec.zones.contains(where: { report.zones.contains($0) })
        else { return false }
        return (report.free - (taken[cell.number] ?? .zero)).holds(vm.spec.demand)
    }
}
