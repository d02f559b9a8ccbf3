import ClusterBase
import Controllers
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore

/// A course of events around leases, moves and confirmations that chance alone would hardly find. Every step of it is legal in
/// this world; a plot only chooses the moment. Each was named by a known bug that nothing else showed in time.
public enum FleetPlot: UInt8, CaseIterable, Sendable {
    /// A VM is placed on a host, which is cut off before it hears so, and comes back just when its leader has asked for it to be
    /// given up.
    case hostReturns
    /// A host is cut off with a long lease, and the leases are made short behind its back.
    case shorterLease
    /// A host stands still between its question and the answer, and is cut off before it goes on.
    case lateAnswer
    /// A host stands still before it hears of a VM placed there, and goes on when that is elsewhere.
    case lateRows
    /// A guest crashes and is restarted by its owner, and the report of the crash comes when it runs again.
    case lateReport
    /// A host with a guest that goes on without the cell is cut off for longer than its lease.
    case cutHost
    /// An agent ends and is back within its lease, with its guests.
    case agentRestart
}

/// The plot of a fleet that is under way, if any.
struct FleetPlots {
    enum Stage: Equatable {
        case idle
        /// Until something is placed on a host that is not the leader's.
        case placing(FleetPlot)
        /// Until this host asks for its work.
        case asking(FleetPlot, host: Int)
        /// Until the cell has taken the VM from the host.
        case taking(VMID, host: Int)
        /// Until the leader has asked for the host to be given up. The host is cut off by this damage.
        case givingUp(host: Int, damage: UInt64?)
        /// Until the host holds a long lease.
        case leasing(host: Int)
        /// Until the host reports what became of the VM.
        case reporting(VMID, host: Int)
    }
    enum Action: UInt64 {
        case turn, cutOff, bringBack, shorten, stop, cutLate, goOn, restart
    }

    /// A stream of its own: what a plot draws shifts no other draw.
    var random: PRNG
    let plots: [FleetPlot]
    var stage = Stage.idle
    /// The stage is given up then.
    var until: Int64 = 0
    /// VMs that plots brought, at most so many.
    var created = 0
    static let createdMax = 30
    /// An agent that ends now leaves its guests.
    var sparesGuests = false

    init(random: PRNG, plots: [FleetPlot]) {
        self.random = random
        self.plots = plots
    }
}

extension Fleet {
    func planPlots() {
        if !plots.plots.isEmpty { plan(.turn, at: world.now + 3_000_000_000) }
    }

    private func plan(_ action: FleetPlots.Action, at: Int64, host: Int = 0) {
        world.plan(.fleetPlot, at: at, a: action.rawValue, b: UInt64(host))
    }

    func plotCame(_ event: WorldEvent) {
        guard world.recovery.phase == .chaos, let action = FleetPlots.Action(rawValue: event.a) else { return }
        let host = Int(event.b)
        switch action {
        case .turn: plotTurn()
        case .cutOff: cutOff(host)
        case .bringBack: bringBack(host)
        case .shorten: shorten(host)
        case .stop:
            _ = world.pause(world.nodes[host], 25_000_000_000)
        case .cutLate: _ = cut([host], for: 16_000_000_000)
        case .goOn: goOn(world.nodes[host])
        case .restart:
            plots.sparesGuests = true
            world.crash(world.nodes[host], restartAfter: plots.random.within(10_000_000...900_000_000))
            plots.sparesGuests = false
        }
    }

    private func plotTurn() {
        plan(.turn, at: world.now + plots.random.within(200_000_000...1_400_000_000))
        if plots.stage != .idle && world.now < plots.until { return }
        plots.stage = .idle
        let plot = plots.plots[plots.random.below(plots.plots.count)]
        switch plot {
        case .hostReturns, .lateRows:
            wait(.placing(plot), 2_500_000_000)
            create(keeps: false)
        case .shorterLease:
            guard let (host, _) = drawGuest(keeps: false) else { return create(keeps: false) }
            send(.setSetting(.leaseLength, 6_000))
            wait(.leasing(host: host), 2_500_000_000)
            plan(.shorten, at: world.now + 2_000_000_000, host: host)
        case .lateAnswer:
            guard let (host, _) = drawGuest(keeps: false) else { return create(keeps: false) }
            if checker.view[.leaseLength] < 2_500 {
                return send(.setSetting(.leaseLength, UInt64(plots.random.within(2_500...6_000))))
            }
            wait(.asking(plot, host: host), 1_500_000_000)
        case .lateReport:
            guard let (host, vm) = drawGuest(keeps: nil) else { return }
            wait(.reporting(vm, host: host), 2_000_000_000)
            hosts[host].driver.strike(.crash, vm, world.nodes[host].local(world.now))
            look(hosts[host])
            schedule(hosts[host])
        case .cutHost:
            guard let (host, _) = drawGuest(keeps: true) else { return create(keeps: true) }
            let lease = Int64(checker.view[.leaseLength])
            count(plot)
            _ = cut([host], for: (lease * 2 + plots.random.within(1_000...3_000)) * 1_000_000)
        case .agentRestart:
            guard profile.outlivesAgent, let (host, _) = drawGuest(keeps: nil) else { return }
            count(plot)
            plan(.restart, at: world.now, host: host)
        }
    }

    // MARK: Its means

    private func wait(_ stage: FleetPlots.Stage, _ length: Int64) {
        plots.stage = stage
        plots.until = world.now + length
    }

    private func end() { plots.stage = .idle }

    /// It has come to its worst moment.
    private func count(_ plot: FleetPlot) { counts.plots[Int(plot.rawValue)] += 1 }

    private var leader: SimulatedNode? {
        guard let leader = world.leader(of: Fleet.group(of: 0)), leader.pausedUntil <= world.now else { return nil }
        return leader
    }

    /// A VM that runs, and may start elsewhere or not, on a host that does not lead the cell.
    private func drawGuest(keeps: Bool?) -> (host: Int, vm: VMID)? {
        guard let leader else { return nil }
        var open: [(Int, VMID)] = []
        for id in checker.view.vms.keys.sorted() {
            guard let vm = checker.view.vms[id], let place = vm.place, vm.phase == .running, vm.migration == nil else {
                continue
            }
            let host = Int(place.assignment.host.rawValue) - 1
            guard isOpen(host, leader), keeps == nil || vm.spec.isolation == (keeps == true ? .keep : .stop) else {
                continue
            }
            open.append((host, id))
        }
        return open.isEmpty ? nil : open[plots.random.below(open.count)]
    }

    private func isOpen(_ host: Int, _ leader: SimulatedNode) -> Bool {
        let node = world.nodes[host]
        return node !== leader && node.isRunning && node.pausedUntil <= world.now && hosts[host].keeper != nil
    }

    /// Whether the voters without these nodes are a majority.
    private func canDoWithout(_ side: [Int]) -> Bool {
        let voters = world.checkers[0].latestConfiguration.members.filter { $0.role == .voter }
        let others = voters.count { member in
            let number = Int(member.peer.node.rawValue) - 1
            return !side.contains(number) && world.nodes[number].isRunning
                && world.nodes[number].pausedUntil <= world.now
        }
        return others > voters.count / 2
    }

    private func cut(_ side: [Int], for length: Int64) -> UInt64 {
        var links: [(from: Int, to: Int)] = []
        for a in side {
            for b in world.nodes where !side.contains(b.number) { links += [(a, b.number), (b.number, a)] }
        }
        world.cutLinks(links, .partition, side[0], length)
        return UInt64(world.nemesis.damages.count - 1)
    }

    private func send(_ operation: CellCommand.Operation) {
        guard let leader else { return }
        let command = CellCommand(by: "plot", operation)
        world.turn(leader, .request(.command(Fleet.group(of: 0), command.encoded()), ticket: Caretaker.ticket))
    }

    /// Owners bring what the plot needs: some small VMs.
    private func create(keeps: Bool) {
        guard plots.created < FleetPlots.createdMax else { return }
        var items: [VMCreation] = []
        for _ in 0..<3 {
            plots.created += 1
            var spec = VMDescription(resources: Resources(cpuMillis: 500, memoryMiB: 256))
            spec.isolation = keeps ? .keep : .stop
            spec.annotations = [Named("sim.boot-ms", "20")]
            items.append(
                VMCreation(name: "p\(plots.created)", tenant: opensLevel ? Quota.tenantAlwaysThere : "t1", spec: spec))
        }
        send(.createVMs(items, isAtomic: false))
    }

    /// A process goes on after it stood still: its sockets first, all in one turn, and then its timers.
    private func goOn(_ node: SimulatedNode) {
        guard node.pausedUntil > world.now else { return }
        let frames = node.postponed.filter { $0.kind == .deliver }
        node.postponed.removeAll { $0.kind == .deliver }
        world.resume(node)
        let local = node.local(world.now)
        for event in frames { node.runtime?.handle(.frame(world.frames.take(event.a)), now: local) }
        world.turn(node, .tick)
    }

    // MARK: What it waits for

    /// A VM may run at a place where it was not before.
    func placed(_ vm: CellVM, _ place: VMPlace) {
        guard case .placing(let plot) = plots.stage, let leader else { return }
        let host = Int(place.assignment.host.rawValue) - 1
        guard vm.spec.isolation == .stop, vm.boundTo == nil, vm.spec.restart != .never, isOpen(host, leader) else {
            return
        }
        switch plot {
        case .lateRows: wait(.asking(plot, host: host), 1_500_000_000)
        case .hostReturns:
            guard canDoWithout([host]) else { return }
            wait(.givingUp(host: host, damage: nil), 14_000_000_000)
            plan(.cutOff, at: world.now, host: host)
        default: return
        }
        awaited = vm.id
    }

    private func cutOff(_ host: Int) {
        guard case .givingUp(host: host, damage: nil) = plots.stage else { return }
        plots.stage = .givingUp(host: host, damage: cut([host], for: 16_000_000_000))
    }

    /// The cell has taken a VM from its host.
    func left(_ vm: VMID, _ host: HostID) {
        guard case .taking(vm, let number) = plots.stage, hosts[number].id == host else { return }
        end()
        count(.lateRows)
        plan(.goOn, at: world.now + plots.random.within(1_000_000...200_000_000), host: number)
    }

    /// A host is about to ask for its work.
    func asks(_ host: SimulatedHost) {
        guard case .asking(let plot, host.node.number) = plots.stage, let leader, isOpen(host.node.number, leader)
        else {
            return
        }
        let number = host.node.number
        plan(.stop, at: world.now, host: number)
        if plot == .lateRows, let awaited {
            return wait(.taking(awaited, host: number), 14_000_000_000)
        }
        count(.lateAnswer)
        let lease = Int64(checker.view[.leaseLength]) * 1_000_000
        let back = world.now + plots.random.within(lease / 2...lease * 3 / 4)
        plan(.cutLate, at: min(back, world.now + 400_000_000), host: number)
        plan(.goOn, at: back, host: number)
        end()
    }

    /// After a turn of a node that may lead.
    func mayGiveUp(_ node: SimulatedNode) {
        guard case .givingUp(let host, _?) = plots.stage else { return }
        let id = hosts[host].id
        guard node.runtime?.withCellKeeper(Fleet.group(of: 0), { !$0.mayGrant(to: id) }) ?? false else { return }
        plan(.bringBack, at: world.now, host: host)
    }

    private func bringBack(_ host: Int) {
        guard case .givingUp(_, let damage?) = plots.stage, let leader else { return }
        end()
        count(.hostReturns)
        world.mend(damage)
        // What was asked for becomes durable at a majority a little later.
        for node in world.nodes.prefix(profile.voters) where node !== leader {
            node.diskStalledUntil = max(node.diskStalledUntil, world.now + 800_000_000)
        }
        hosts[host].inputs.append(.stirred)
        schedule(hosts[host])
    }

    private func shorten(_ host: Int) {
        guard plots.stage == .leasing(host: host), let leader else { return }
        end()
        guard isOpen(host, leader), let lease = hosts[host].lease,
            lease - world.nodes[host].local(world.now) > .seconds(4)
        else { return }
        count(.shorterLease)
        _ = cut([host], for: 9_000_000_000)
        send(.setSetting(.leaseLength, 1_000))
    }

    /// How much later a report of a host's gets to its leader.
    func delay(of reports: [VMReport], by host: SimulatedHost) -> Int64 {
        guard case .reporting(let vm, host.node.number) = plots.stage,
            reports.contains(where: { $0.vm == vm && $0.state == .crashed })
        else { return 0 }
        end()
        count(.lateReport)
        send(.restartVM(vm))
        return 900_000_000
    }
}
