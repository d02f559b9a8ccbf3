import ClusterBase
import FleetModel
import NodeRuntime

/// Cells are split and merged by plans, while nodes fail, leaders change and links break.
///
///     operator, as drawn: begin, pause, resume, cancel ─▶ a root that nothing befalls ◀─ what leaders of cells ask of it
///                                                              └─▶ every node is told of it at times of its own
///
/// In some runs cells also have small bounds that change, beyond which they are split by themselves, or merged below: into cells that are
/// there from the beginning, and that the root is told of when a split makes them.
///
/// That root is the real one's state machine, of one copy, which is asked in no time. What cells say of hosts it is told at the entry by
/// which they do.
extension Fleet {
    struct HostsPlans {
        /// Whose draws move no others.
        var random: PRNG
        /// Which hosts a split takes.
        var choice: PRNG
        /// Beyond which cells are split, or below which they are merged, by themselves.
        var bounds: PRNG
        /// Cells that the root has a replica of.
        var equipped = 0
        var rows = PaperRows()
        var index = LogIndex.zero
        var view = RootView()
    }

    private static let turn: UInt64 = 0
    private static let tell: UInt64 = 1

    func beginHostsPlans() {
        guard profile.plansHosts else { return }
        func hash(_ number: Int) -> [UInt8] { [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 32) }
        func about(_ number: Int) -> NodeDescription {
            let place = hosts.first { $0.id.rawValue == UInt64(number) }?.about.locality ?? Locality()
            return NodeDescription(
                name: "n\(number)", locality: Locality(zone: place.zone, rack: place.rack), peerAddress: "n:1",
                adminAddress: "n:2", key: hash(number), programVersion: "1",
                level: FeatureLevel.newest)
        }
        let certificate = NodeCertificate(fingerprint: hash(201), issuer: hash(202), expiresAt: LogTime(.max))
        let founding = RootCommand.Founding(
            cluster: [UInt8](repeating: 7, count: 16), name: "simulated", node: about(1), certificate: certificate,
            authority: Authority(fingerprint: hash(202), certificate: [1], signs: true, since: .zero),
            administrator: Operator(name: "o", role: .administrator, kind: .certificate, credential: hash(203)))
        askRoot(.found(founding))
        for cell in 0..<profile.cells - profile.spareCells {
            askRoot(.createCell(name: "c\(cell)", replicas: 1, region: "r"))
            equip(cell)
        }
        askRoot(.createToken(hash: hash(204), note: "", lifetime: 0, uses: 1_000))
        for number in 1..<max(1, hosts.count) { askRoot(.joinNode(token: hash(204), about(number + 1))) }
        for host in hosts where cell(of: host.node.number) > 0 {
            let (id, group) = (NodeID(host.id.rawValue), Fleet.group(of: cell(of: host.node.number)))
            for step in [RootCommand.MoveStep.begin, .finish] { askRoot(.moveHost(id, to: group, epoch: 0, step)) }
        }
        followPaperRoot(isHeard: true)
        for cell in 0..<profile.cells - profile.spareCells where profile.spareCells > 0 { drawBounds(cell) }
        world.plan(.fleetPlan, at: Nanoseconds.milliseconds(1_500).count, a: Fleet.turn)
        world.plan(.fleetPlan, at: Nanoseconds.milliseconds(700).count, a: Fleet.tell)
    }

    /// Its replicas are there.
    private func equip(_ cell: Int) {
        hostsPlans.equipped = cell + 1
        let group = Fleet.group(of: cell)
        askRoot(.foundGroup(group, nodes: [NodeID(1)]))
        askRoot(.reportReplicas(NodeID(1), made: [HeldReplica(group, ReplicaID(1))], lost: []))
    }

    /// What an operator sets, so that either happens often.
    private func drawBounds(_ cell: Int) {
        var above: SplitBound?
        var below: SplitBound?
        switch hostsPlans.bounds.below(UInt64(6)) {
        case 0, 1: above = SplitBound(.hosts, 1)
        case 2: above = SplitBound(.vms, UInt64(1 + hostsPlans.bounds.below(6)))
        case 3: below = SplitBound(.hosts, UInt64(2 + hostsPlans.bounds.below(4)))
        case 4: below = SplitBound(.vms, UInt64(4 + hostsPlans.bounds.below(16)))
        default: (above, below) = (SplitBound(.vms, 8), SplitBound(.vms, 2))
        }
        // What is set would refuse what is not a quarter of it; most are set once.
        let isFirst = world.now == 0
        let settings: [(CellSetting, UInt64)] = [
            (.mergeBelow, 0), (.splitAbove, above?.value ?? 0), (.mergeBelow, below?.value ?? 0),
        ].filter { !isFirst || $0.1 > 0 }
        chores += settings.map { Chore(cell: cell, operation: .setSetting($0.0, $0.1)) }
    }

    func hostsPlanTurn(_ kind: UInt64) {
        guard profile.plansHosts else { return }
        if kind == Fleet.tell {
            if profile.spareCells > 0 { reportCells() }
            for node in world.nodes where hostsPlans.random.chance(3, in: 4) { tellPaperRoot(node) }
            let later = Nanoseconds.milliseconds(hostsPlans.random.within(50...900)).count
            return world.plan(.fleetPlan, at: world.now + later, a: Fleet.tell)
        }
        guard world.recovery.phase == .chaos else { return }
        if profile.spareCells > 0 {
            if hostsPlans.bounds.chance(1, in: 4) { drawBounds(hostsPlans.bounds.below(profile.cells)) }
            // Most plans are the cells' own there.
            if hostsPlans.bounds.chance(1, in: 3) { operate() }
        } else {
            operate()
        }
        let later = Nanoseconds.milliseconds(hostsPlans.random.within(300...4_000)).count
        world.plan(.fleetPlan, at: world.now + later, a: Fleet.turn)
    }

    /// What leaders would have said of their cells' room.
    private func reportCells() {
        for cell in hostsPlans.view.cells where hostsPlans.bounds.chance(1, in: 2) {
            askRoot(.reportCell(checkers[Int(cell.group.number) - 1].view.report(of: cell.group)))
        }
        askRoot(.noteTime)
    }

    private func name(of cell: Int) -> String {
        hostsPlans.view.cell(Fleet.group(of: cell))?.name ?? "c\(cell)"
    }

    private func operate() {
        let cell = hostsPlans.random.below(profile.cells)
        guard let row = hostsPlans.view.cell(Fleet.group(of: cell)) else { return }
        if let plan = row.plan, plan.isLive {
            let steps: [HostsPlan.Step] = plan.state == .paused ? [.resume, .resume, .cancel] : [.pause, .cancel]
            // It is left alone, mostly.
            guard plan.state == .paused || hostsPlans.random.chance(1, in: 3) else { return }
            var wish = HostsPlan.Wish(steps[hostsPlans.random.below(steps.count)])
            wish.number = plan.number
            return change(cell, wish)
        }
        var wish = HostsPlan.Wish(hostsPlans.random.chance(1, in: 3) ? .merge : .split)
        wish.into = name(of: (cell + 1 + hostsPlans.random.below(profile.cells - 1)) % profile.cells)
        if wish.step == .split {
            let own = hosts.filter { assigned[$0.node.number].cell == cell }
            // The first is as good as any; or all of a rack or a zone go.
            let place = own.isEmpty ? Locality() : own[hostsPlans.choice.below(own.count)].about.locality
            let chosen: [SimulatedHost] =
                switch hostsPlans.choice.below(UInt64(4)) {
                case 0: own.filter { $0.about.locality.zone == place.zone }
                case 1: own.filter { ($0.about.locality.zone, $0.about.locality.rack) == (place.zone, place.rack) }
                default: Array(own.prefix(max(1, own.count / 2)))
                }
            wish.nodes = chosen.map { NodeID($0.id.rawValue) }
        }
        change(cell, wish)
    }

    private func change(_ cell: Int, _ wish: HostsPlan.Wish) {
        if askRoot(.planHosts(cell: name(of: cell), wish)) { counts.hostsPlans += 1 }
    }

    /// What a node would have heard of the root by now; and the root hears what the node's leaders ask since it was told last.
    func tellPaperRoot(_ node: SimulatedNode) {
        guard node.isRunning, let runtime = node.runtime else { return }
        let asks = runtime.tell(root: hostsPlans.view, now: node.local(world.now))
        for operation in asks { askRoot(operation) }
        if !asks.isEmpty { followPaperRoot(isHeard: false) }
    }

    /// A cell has said for good where a host is.
    func tellPaperRoot(of move: HostMove, in cell: Int) {
        let node = NodeID(move.host.rawValue)
        let to = GroupID(.cell, number: move.to)
        // Somebody sent it by hand.
        if hostsPlans.view.node(node)?.movesTo == nil {
            askRoot(.moveHost(node, to: to, epoch: move.assignment, .begin))
        }
        if move.phase == .committed {
            askRoot(.moveHost(node, to: to, epoch: move.assignment, .finish, vms: move.vms))
        } else {
            askRoot(
                .moveHost(node, to: Fleet.group(of: cell), epoch: move.assignment, .cancel, reason: "it stays"))
        }
        followPaperRoot(isHeard: world.recovery.phase != .chaos || hostRandom.chance(1, in: 2))
    }

    /// A split by itself makes a cell while one is left that can be made, and else takes one that is empty; nil for none. Nothing begins
    /// by itself when the faults have ended.
    private func withTarget(_ operation: RootCommand.Operation) -> RootCommand.Operation? {
        guard case .planHosts(let cell, var wish) = operation, wish.step == .split || wish.step == .merge else {
            return operation
        }
        if wish.isAutomatic && world.recovery.phase != .chaos { return nil }
        if hostsPlans.view.cell(wish.into) != nil || hostsPlans.equipped < profile.cells { return operation }
        let empty = hostsPlans.view.cells.first { row in
            row.name != cell && !hosts.contains { assigned[$0.node.number].cell == Int(row.group.number) - 1 }
        }
        guard let empty else { return nil }
        wish.into = empty.name
        return .planHosts(cell: cell, wish)
    }

    /// Whether it was not refused.
    @discardableResult private func askRoot(_ asked: RootCommand.Operation) -> Bool {
        guard let operation = withTarget(asked) else { return false }
        hostsPlans.index = hostsPlans.index.next
        // What rests for an hour after a plan does so for some seconds where cells do it by themselves.
        let passed = world.now / 1_000_000 * (profile.spareCells > 0 ? 600 : 1)
        let time = LogTime(UInt64(clamping: 1_700_000_000_000 + passed))
        let pack = Root.pack(
            [RootCommand(by: "simulated", operation).encoded()], level: FeatureLevel.newest, time: time)
        var isDone = false
        do throws(StoreError) {
            let results = try Root.apply(pack: pack, index: hostsPlans.index, access: &hostsPlans.rows)
            if case .refused? = results.first?.outcome {} else { isDone = true }
            repeat {
                _ = hostsPlans.view.take(try Root.read(hostsPlans.view.nextQuery, hostsPlans.rows))
            } while hostsPlans.view.through != hostsPlans.index
        } catch {
            world.fail("a plan's root can be read", error.message)
        }
        if isDone, case .planHosts(_, let wish) = operation {
            if wish.isAutomatic { counts.plansByThemselves += 1 }
            if hostsPlans.view.cells.count > hostsPlans.equipped { equip(hostsPlans.equipped) }
        }
        return isDone
    }

    /// Where hosts are under which assignment is what it says.
    private func followPaperRoot(isHeard: Bool) {
        for host in hosts {
            let number = host.node.number
            guard let home = hostsPlans.view.assignment(of: NodeID(host.id.rawValue)) else { continue }
            let cell = Int(home.cell.number) - 1
            if assigned[number].cell == cell && assigned[number].epoch == home.epoch { continue }
            if assigned[number].cell != cell { counts.hostsByPlans += 1 }
            assigned[number] = Assigned(cell: cell, epoch: home.epoch)
            // Or its agent hears of it later.
            if isHeard || world.recovery.phase != .chaos, host.keeper != nil { tellAssignment(host) }
        }
    }

    /// Merges end here; what is split goes on, or ends.
    func endHostsPlans() {
        guard profile.plansHosts else { return }
        for cell in 0..<profile.cells {
            guard let plan = hostsPlans.view.cell(Fleet.group(of: cell))?.plan, plan.isLive else { continue }
            let goesOn = plan.kind == .split && hostsPlans.random.chance(2, in: 3)
            var wish = HostsPlan.Wish(goesOn ? .resume : .cancel)
            wish.number = plan.number
            change(cell, wish)
        }
    }

    /// At rest each plan is over, or has said of every host that is left why it stays.
    var unrestOfPlans: String? {
        guard profile.plansHosts else { return nil }
        for cell in hostsPlans.view.cells {
            guard let plan = cell.plan else { continue }
            for node in hostsPlans.view.leaving(cell) {
                let isLost = world.recovery.leftBehind.contains(Int(node.id.rawValue) - 1)
                if !isLost && (node.movesTo != nil || !plan.stays.contains { $0.node == node.id }) {
                    return "host \(node.id) is to go from \(cell.name) by a plan, and nobody says why it does not"
                }
            }
        }
        return nil
    }
}

/// A state that no node keeps.
struct PaperRows: StateAccess {
    private var rows: [(key: [UInt8], value: [UInt8])] = []

    private func place(_ key: [UInt8]) -> (at: Int, isFound: Bool) {
        var low = 0
        var high = rows.count
        while low < high {
            let middle = (low + high) / 2
            if rows[middle].key.precedes(key) { low = middle + 1 } else { high = middle }
        }
        return (low, low < rows.count && rows[low].key == key)
    }
    func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? {
        let (at, isFound) = place(key)
        return isFound ? rows[at].value : nil
    }
    func scan(_ range: KeyRange, _ body: ([UInt8], [UInt8]) -> Bool) throws(StoreError) {
        var at = place(range.from).at
        while at < rows.count, range.contains(rows[at].key) {
            if !body(rows[at].key, rows[at].value) { return }
            at += 1
        }
    }
    mutating func put(_ key: [UInt8], _ value: consuming [UInt8]) {
        let (at, isFound) = place(key)
        if isFound { rows[at].value = value } else { rows.insert((key, value), at: at) }
    }
    mutating func delete(_ key: [UInt8]) {
        let (at, isFound) = place(key)
        if isFound { rows.remove(at: at) }
    }
    mutating func delete(_ range: KeyRange) { rows.removeAll { range.contains($0.key) } }
}
