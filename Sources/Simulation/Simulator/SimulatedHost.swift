import ClusterBase
import Controllers
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import StoreLayout

/// A node as a host of the cell: the machine with its guests, and the keeper that leads it while the agent runs.
final class SimulatedHost {
    let node: SimulatedNode
    let id: HostID
    /// The number of its cell among those of the fleet.
    var cell: Int
    let driver: SimulatedHypervisor
    var about: HostDescription
    var keeper: HostKeeper?
    var inputs: [HostKeeper.Input] = []
    var steppedAt = Instant.origin
    /// Of the cell's replica here.
    var applied = LogIndex.zero
    var stepAt: Int64 = .max
    var stepStamp: UInt64 = 0
    var number: UInt64 = 0

    /// What the guard was told: when it ends all that may start elsewhere.
    var lease: Instant?
    var leaseStamp: UInt64 = 0

    /// What ran when it was looked at last, ascending.
    var running: [RunningVM] = []

    init(node: SimulatedNode, cell: Int, about: HostDescription, driver: SimulatedHypervisor) {
        self.node = node
        self.cell = cell
        id = HostID(node.id.rawValue)
        self.about = about
        self.driver = driver
    }

    /// Between steps that nothing but news asks for, as the agent does it.
    static let stepInterval = Nanoseconds.milliseconds(5)

    var deadline: Instant {
        guard let keeper else { return Instant(nanoseconds: .max) }
        var next = keeper.deadline
        if let due = driver.deadline { next = min(next, due) }
        if !inputs.isEmpty { next = .origin }
        return max(next, steppedAt + SimulatedHost.stepInterval)
    }
}

// A host's questions and commands go through its own node, as in the agent.

extension Fleet {
    private static let hostTickets: UInt64 = 1 << 61
    private static let commandTickets: UInt64 = 1 << 60

    static func isHost(_ ticket: UInt64) -> Bool { ticket >> 61 == 1 && ticket != Caretaker.ticket }

    func agentBegins(at node: SimulatedNode, _ incarnation: Incarnation) {
        let host = hosts[node.number]
        let now = node.local(world.now)
        host.driver.settle(now)
        // What happened before is found, not told.
        _ = host.driver.takeNews(now: now)
        let found = host.driver.found
        host.keeper = HostKeeper(
            host: host.id, incarnation: incarnation, about: host.about, found: found,
            leaseUntil: found.isEmpty ? nil : host.lease)
        #if MUTANTS
        host.keeper?.mutant = mutant
        #endif
        host.inputs = []
        host.applied = .zero
        if movesHosts {
            let home = assigned[node.number]
            host.cell = home.cell
            host.inputs.append(.assigned(epoch: home.epoch, isOtherCell: false))
        }
        host.steppedAt = now
        tellWallClock(node)
        let holders = world.nodes.prefix(profile.voters).map(\.id)
        let groups = (0..<profile.cells).map { Directory.Row(group: Fleet.group(of: $0), nodes: holders) }
        node.runtime?.handle(.directory(Directory(groups)), now: now)
        if opensLevel { node.runtime?.open(level: FeatureLevel.newest) }
    }

    func agentEnded(at node: SimulatedNode) {
        let host = hosts[node.number]
        let now = node.local(world.now)
        host.keeper = nil
        host.inputs = []
        host.stepStamp += 1
        host.stepAt = .max
        // A machine may go down with its agent.
        if host.driver.outlivesAgent && (plots.sparesGuests || faultRandom.chance(2, in: 3)) {
            host.driver.agentEnded(now)
        } else {
            host.driver.settle(now)
            host.driver.losePower()
            host.lease = nil
        }
        look(host)
    }

    /// After each turn of a node: what its replica applied may concern its host.
    func turned(_ node: SimulatedNode) {
        let host = hosts[node.number]
        let applied = node.runtime?.inspect(Fleet.group(of: host.cell)) { _, applied in applied.index } ?? .zero
        if applied != host.applied {
            host.applied = applied
            host.inputs.append(.stirred)
        }
        mayGiveUp(node)
        schedule(host)
    }

    func schedule(_ host: SimulatedHost) {
        guard host.keeper != nil else { return }
        let wanted = max(world.now, host.node.trueTime(of: host.deadline))
        if wanted < host.stepAt {
            host.stepAt = wanted
            host.stepStamp += 1
            world.plan(.hostStep, at: wanted, node: host.node, a: host.stepStamp)
        }
    }

    func hostStep(_ number: Int, stamp: UInt64) {
        let host = hosts[number]
        guard stamp == host.stepStamp, host.keeper != nil else { return }
        host.stepAt = .max
        let now = host.node.local(world.now)
        guard now >= host.deadline else { return schedule(host) }
        host.steppedAt = now
        let news = host.driver.takeNews(now: now)
        let inputs = news.map { HostKeeper.Input.news($0) } + host.inputs
        host.inputs = []
        guard let output = host.keeper?.step(inputs, now: now) else { return }
        if let traceLine = world.traceLine { trace(news, output, host, traceLine) }
        for order in output.orders { checkers[host.cell].ordered(order, host, self) }
        if !output.orders.isEmpty { host.driver.carryOut(output.orders, now: now) }
        tellGuard(host)
        look(host)
        if !output.questions.isEmpty { asks(host) }
        for question in output.questions {
            world.turn(
                host.node,
                .request(
                    .query(Fleet.group(of: host.cell), .cell(question.query)),
                    ticket: Fleet.hostTickets | question.number))
        }
        if let (number, command) = output.command {
            counts.commands += 1
            let ticket = Fleet.hostTickets | Fleet.commandTickets | number
            if case .reportVMs(_, _, let reports) = command.operation { delay = delay(of: reports, by: host) }
            world.turn(host.node, .request(.command(Fleet.group(of: host.cell), command.encoded()), ticket: ticket))
            delay = 0
        }
        if let cell = output.wentTo { redirect(host, to: cell) }
        schedule(host)
    }

    private func trace(
        _ news: [HypervisorNews], _ output: HostKeeper.Output, _ host: SimulatedHost, _ line: (String) -> Void
    ) {
        let head = "\(world.now) host \(host.id)"
        for case .state(let report) in news { line("\(head) hears \(report.vm) \(report.epoch) \(report.state)") }
        for order in output.orders {
            switch order {
            case .start(let vm, let epoch, _): line("\(head) orders start of \(vm.id) \(epoch)")
            case .receive(let vm, let epoch, let from): line("\(head) orders receive of \(vm.id) \(epoch) from \(from)")
            case .update(let vm, let epoch): line("\(head) orders update of \(vm.id) \(epoch)")
            default: line("\(head) orders \(order)")
            }
        }
        switch output.command?.command.operation {
        case .registerHost(_, _, _, let running, _)?: line("\(head) registers with \(running)")
        case .reportVMs(_, _, let reports)?:
            for report in reports { line("\(head) reports \(report.vm) \(report.epoch) \(report.state)") }
        default: break
        }
    }

    func answered(_ ticket: UInt64, _ answer: ClientAnswer, at node: SimulatedNode) {
        let host = hosts[node.number]
        let number = ticket & (Fleet.commandTickets - 1)
        if ticket & Fleet.commandTickets == 0 {
            if case .read(.cell(let answer)) = answer {
                host.inputs.append(.answered(question: number, answer))
            } else {
                host.inputs.append(.questionFailed(question: number))
            }
        } else if case .applied(.cell(let result)) = answer {
            host.inputs.append(.commandDone(number: number, result))
        } else {
            host.inputs.append(.commandFailed(number: number))
        }
        // The step is planned when the turn that answers has ended.
    }

    // MARK: The guard

    private func tellGuard(_ host: SimulatedHost) {
        let lease = host.keeper?.lease
        if lease == host.lease { return }
        host.lease = lease
        host.leaseStamp += 1
        guard let lease else { return }
        world.plan(.leaseEnd, at: host.node.trueTime(of: lease), node: host.node, a: host.leaseStamp)
    }

    func leaseEnded(at number: Int, stamp: UInt64) {
        let host = hosts[number]
        guard stamp == host.leaseStamp, let lease = host.lease else { return }
        let now = host.node.local(world.now)
        if now < lease {
            return world.plan(.leaseEnd, at: host.node.trueTime(of: lease), node: host.node, a: stamp)
        }
        #if MUTANTS
        if mutant == .guardSleeps { return }
        #endif
        counts.leasesEnded += 1
        if !host.driver.endWithoutLease(now).isEmpty { schedule(host) }
        look(host)
    }

    // MARK: What runs

    /// Compares what runs on a host with what ran, and every new copy with all other hosts.
    func look(_ host: SimulatedHost) {
        let running = host.driver.running
        if running == host.running { return }
        let before = host.running
        host.running = running
        for copy in running where !before.contains(copy) { checkAlone(copy, host) }
    }

    private func checkAlone(_ copy: RunningVM, _ host: SimulatedHost) {
        for other in hosts where other !== host && other.running.contains(where: { $0.vm == copy.vm }) {
            // What is due there by now has happened.
            other.driver.settle(other.node.local(world.now))
            other.running = other.driver.running
            guard let there = other.running.first(where: { $0.vm == copy.vm }) else { continue }
            world.fail(
                "a VM runs once",
                "VM \(copy.vm) begins to run on host \(host.id) under epoch \(copy.epoch) while it runs on host "
                    + "\(other.id) under epoch \(there.epoch); the cell has \(checkers[host.cell].described(copy.vm)); there: "
                    + "\(other.keeper?.describe(copy.vm) ?? "no agent"), lease until \(other.lease.map { "\($0)" } ?? "-") at "
                    + "\(other.node.local(world.now))")
        }
    }
}
