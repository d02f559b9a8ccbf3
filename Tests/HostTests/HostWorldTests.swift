import ClusterBase
import Controllers
import FleetModel
import NodePorts
import Simulator
import Testing

/// Hosts with their keepers and simulated drivers under one `Cellar`, with messages that are late, lost or doubled,
/// agents that end and come back, hosts that are cut off, and an operator who wants everything at once.
final class HostWorld {
    enum Event {
        case question(HostID, Incarnation, UInt64, LogIndex)
        case answer(HostID, Incarnation, UInt64, CellAnswer)
        case command(HostID, Incarnation, UInt64, CellCommand)
        case result(HostID, Incarnation, UInt64, CellResult)
        case lost(HostID, Incarnation, UInt64, isCommand: Bool)
    }
    struct Agent {
        var keeper: HostKeeper
        var driver: SimulatedHypervisor
        var incarnation: Incarnation
        var isCutOff = false
    }

    var random: PRNG
    var now = Instant.origin
    var cell = Cellar()
    var agents: [HostID: Agent] = [:]
    var events: [(at: Instant, number: Int, event: Event)] = []
    var eventLast = 0
    var incarnationLast: UInt64 = 0
    var isCalm = false
    let hosts: [HostID]
    private(set) var findings: [String] = []
    private(set) var counts: [String: Int] = [:]

    init(seed: UInt64, hostCount: Int = 3) {
        random = PRNG(seed: seed)
        hosts = (1...hostCount).map { HostID(rawValue: UInt64($0)) }
        for host in hosts { startAgent(host) }
    }

    func startAgent(_ host: HostID) {
        incarnationLast += 1
        let incarnation = Incarnation(rawValue: incarnationLast)
        let about = HostDescription(name: "h\(host)", capacity: Resources(cpuMillis: 8_000, memoryMiB: 65_536))
        agents[host] = Agent(
            keeper: HostKeeper(host: host, incarnation: incarnation, about: about), driver: SimulatedHypervisor(),
            incarnation: incarnation)
    }

    func count(_ what: String) { counts[what, default: 0] += 1 }

    func post(_ event: Event, from host: HostID) {
        let isCutOff = agents[host]?.isCutOff ?? true
        if !isCalm, random.chance(isCutOff ? 1 : 5, in: isCutOff ? 1 : 100) {
            switch event {
            case .question(_, let incarnation, let number, _):
                return later(.milliseconds(1_500), .lost(host, incarnation, number, isCommand: false))
            case .command(_, let incarnation, let number, _):
                return later(.milliseconds(1_500), .lost(host, incarnation, number, isCommand: true))
            case .answer(_, let incarnation, let number, _):
                return later(.milliseconds(1_500), .lost(host, incarnation, number, isCommand: false))
            case .result(_, let incarnation, let number, _):
                return later(.milliseconds(1_500), .lost(host, incarnation, number, isCommand: true))
            case .lost: break
            }
        }
        let isSlow = !isCalm && random.chance(1, in: 20)
        later(random.within(.microseconds(100)...(isSlow ? .seconds(4) : .milliseconds(20))), event)
    }

    func later(_ time: Nanoseconds, _ event: Event) {
        eventLast += 1
        events.append((now + time, eventLast, event))
    }

    func step(_ host: HostID, _ inputs: [HostKeeper.Input]) {
        guard var agent = agents[host] else { return }
        let news = agent.driver.takeNews(now: now).map { HostKeeper.Input.news($0) }
        // One that looks at all of its VMs finds nothing else to do.
        var all = agent.keeper
        all.due = nil
        let output = agent.keeper.step(news + inputs, now: now)
        let found = all.step(news + inputs, now: now)
        if output.orders != found.orders || output.command?.command != found.command?.command
            || output.questions.map(\.query) != found.questions.map(\.query)
            || agent.keeper.deadline != all.deadline || agent.keeper.isEnded(now) != all.isEnded(now)
        {
            findings.append("host \(host) overlooked something: \(output) instead of \(found)")
        }
        for order in output.orders { judge(order, host, agent.keeper) }
        agent.driver.carryOut(output.orders, now: now)
        agents[host] = agent
        for question in output.questions {
            guard case .hostWork(_, let since, _) = question.query else { continue }
            post(.question(host, agent.incarnation, question.number, since), from: host)
        }
        if let (number, command) = output.command {
            post(.command(host, agent.incarnation, number, command), from: host)
        }
    }

    private func judge(_ order: HypervisorOrder, _ host: HostID, _ keeper: HostKeeper) {
        switch order {
        case .start, .receive, .finishArrival:
            count("begun")
            if keeper.lease.map({ now < $0 }) != true { findings.append("\(host) begins without a lease: \(order)") }
        case .send: count("sent")
        case .stop: count("stopped")
        case .cancelSend: count("cancelled")
        default: break
        }
    }

    func deliver(_ event: Event) {
        switch event {
        case .question(let host, let incarnation, let number, let since):
            guard let agent = agents[host], agent.incarnation == incarnation else { return }
            cell.hosts[host]?.heardAt = now
            post(.answer(host, incarnation, number, cell.work(host, since: since)), from: host)
        case .command(let host, let incarnation, let number, let command):
            let result = cell.apply(command, at: now)
            post(.result(host, incarnation, number, result), from: host)
        case .answer(let host, let incarnation, let number, let answer):
            guard agents[host]?.incarnation == incarnation else { return }
            step(host, [.answered(question: number, answer)])
        case .result(let host, let incarnation, let number, let result):
            guard agents[host]?.incarnation == incarnation else { return }
            step(host, [.commandDone(number: number, result)])
        case .lost(let host, let incarnation, let number, let isCommand):
            guard agents[host]?.incarnation == incarnation else { return }
            step(host, [isCommand ? .commandFailed(number: number) : .questionFailed(question: number)])
        }
    }

    /// The next thing that happens, at its time.
    func advance() {
        var next = events.indices.min { (events[$0].at, events[$0].number) < (events[$1].at, events[$1].number) }
        var at = next.map { events[$0].at } ?? now + .seconds(1)
        var woken: HostID?
        for host in hosts {
            guard let agent = agents[host] else { continue }
            let wakes = min(agent.keeper.deadline, agent.driver.deadline ?? agent.keeper.deadline)
            if wakes < at { (at, woken, next) = (wakes, host, nil) }
        }
        // A keeper that wants a step at once gets it a moment later.
        now = max(now + .microseconds(1), at)
        if let next { deliver(events.remove(at: next).event) } else if let woken { step(woken, []) }
        control()
        check()
    }

    // MARK: The cell's leader

    func control() {
        for host in hosts {
            guard let member = cell.hosts[host], member.isUp else { continue }
            // What it answered last may be on its way for seconds; the lease counts from before it was asked.
            if now - member.heardAt > .milliseconds(Int64(Cellar.lease) * 11 / 10 + 500) {
                cell.declareDown(host)
                count("down")
            }
        }
        for id in cell.vms.keys.sorted() {
            guard let vm = cell.vms[id] else { continue }
            if vm.phase == .waiting, vm.place == nil, vm.migration == nil, vm.power != .stopped, !vm.isDeleting {
                let up = hosts.filter { cell.hosts[$0]?.isUp == true }
                if !up.isEmpty { cell.permit(id, on: up[random.below(up.count)]) }
            } else if vm.phase == .crashed, let place = vm.place, vm.migration == nil, !vm.isDeleting,
                vm.power != .stopped, cell.hosts[place.assignment.host]?.isUp == true
            {
                cell.permit(id, on: place.assignment.host)
            } else if vm.phase == .stopped, let place = vm.place, vm.migration == nil, vm.power != .stopped,
                !vm.isDeleting, !place.isReleasing, cell.hosts[place.assignment.host]?.isUp == true
            {
                cell.permit(id, on: place.assignment.host)
            }
            if let migration = vm.migration, migration.phase == .copying, migration.progressMillis == 1_000 {
                cell.commitMigration(id)
                count("committed")
            }
        }
    }

    func disturb() {
        let ids = cell.vms.keys.sorted()
        guard let id = ids.isEmpty ? nil : ids[random.below(ids.count)], let vm = cell.vms[id] else { return create() }
        let host = hosts[random.below(hosts.count)]
        switch random.below(14) {
        case 0, 1: create()
        case 2: cell.change(id) { $0.power = [.running, .running, .paused, .stopped][random.below(4)] }
        case 3 where vm.place != nil:
            cell.change(id) { $0.isDeleting = true }
            if vm.phase == .crashed || vm.phase == .stopped, vm.migration == nil { forget(id) }
        case 4 where vm.place != nil && vm.migration == nil && vm.phase == .running:
            // Restart in place.
            cell.permit(id, on: vm.place?.assignment.host ?? host)
        case 5 where vm.place != nil && vm.migration == nil && vm.phase == .running:
            cell.change(id) {
                $0.place?.isReleasing = true
                $0.phase = .stopping
            }
        case 6, 7, 8:
            if vm.phase == .running, !vm.isDeleting, vm.place?.isReleasing == false, cell.hosts[host]?.isUp == true {
                cell.beginMigration(id, to: host)
            }
        case 9: if vm.migration?.phase == .copying { cell.change(id) { $0.migration?.phase = .undoing } }
        case 10:
            startAgent(host)
            count("restarted")
        case 11: agents[host]?.isCutOff.toggle()
        case 12: for host in hosts { agents[host]?.isCutOff = false }
        default: cell.change(id) { $0.generation += 1 }
        }
    }

    private func forget(_ id: VMID) {
        cell.change(id) { $0.place = nil }
        cell.vms[id] = nil
    }

    var vmLast: UInt64 = 0
    func create() {
        guard cell.vms.count < 12 else { return }
        vmLast += 1
        let id = VMID(rawValue: 1 << 40 | vmLast)
        var spec = VMDescription(resources: Resources(cpuMillis: 1_000, memoryMiB: 4_096))
        spec.isolation = random.chance(1, in: 4) ? .keep : .stop
        if random.chance(1, in: 8) { spec.annotations.append(Named("sim.crash-after-ms", "2500")) }
        if random.chance(1, in: 8) { spec.annotations.append(Named("sim.migration-fails", "as asked")) }
        if random.chance(1, in: 4) { spec.annotations.append(Named("sim.stop-ms", "20000")) }
        cell.vms[id] = CellVM(
            id: id, name: "vm-\(vmLast)", tenant: "default", spec: spec, at: LogTime(rawValue: 0), by: "test")
    }

    // MARK: What must hold

    func check() {
        var seen: [VMID: (host: HostID, epoch: UInt64)] = [:]
        for host in hosts {
            guard let agent = agents[host] else { continue }
            for copy in agent.driver.running {
                if let other = seen[copy.vm] {
                    findings.append("\(now): VM \(copy.vm) runs on \(other) and on \(host) under \(copy.epoch)")
                }
                seen[copy.vm] = (host, copy.epoch)
            }
        }
    }

    var isSettled: Bool { cell.vms.values.allSatisfy { isSettled($0) } }

    private func isSettled(_ vm: CellVM) -> Bool {
        guard !vm.isDeleting, vm.migration == nil else { return false }
        let copies = hosts.compactMap { host in
            agents[host]?.driver.running.first { $0.vm == vm.id }.map { (host, $0.epoch) }
        }
        switch vm.power {
        case .stopped: return copies.isEmpty && (vm.phase == .stopped || vm.phase == .waiting)
        case .running, .paused:
            guard let place = vm.place, copies.count == 1 else { return false }
            return copies[0] == (place.assignment.host, place.epoch) && !place.isReleasing
                && vm.phase == (vm.power == .paused ? .paused : .running)
                && vm.runningGeneration == vm.generation
        }
    }

    func run(disturbances: Int) {
        for _ in 0..<disturbances {
            disturb()
            let until = now + random.within(.milliseconds(1)...(.milliseconds(900)))
            while now < until { advance() }
            if !findings.isEmpty { return }
        }
        isCalm = true
        for host in hosts { agents[host]?.isCutOff = false }
        for id in cell.vms.keys {
            cell.change(id) { $0.spec.annotations.removeAll { $0.key == "sim.crash-after-ms" } }
        }
        let end = now + .seconds(90)
        while now < end && !isSettled { advance() }
        // What was started with the wish to crash still does.
        for id in cell.vms.keys.sorted() {
            guard let vm = cell.vms[id], !isSettled(vm) else { continue }
            let copies = hosts.map { host in
                "\(agents[host]?.keeper.describe(id) ?? "-") up=\(cell.hosts[host]?.isUp ?? false)"
            }
            findings.append(
                "not settled: \(vm.phase) \(vm.power) deleting=\(vm.isDeleting) g=\(vm.generation)/\(vm.runningGeneration) \(vm.place, default: "-") \(vm.migration, default: "-") \(vm.spec.annotations): \(copies)"
            )
        }
    }
}

@Suite struct HostWorldTests {
    @Test(arguments: 1...60)
    func `a VM never runs twice, and everything settles, whatever is lost, late, cut off or restarted`(seed: Int) {
        let world = HostWorld(seed: UInt64(seed))
        world.run(disturbances: 120)
        #expect(world.findings.isEmpty, "seed \(seed): \(world.findings.prefix(3).joined(separator: "\n"))")
        // The hosts hear of it.
        let calm = world.now + .seconds(5)
        while world.now < calm { world.advance() }
        let keepers = world.hosts.compactMap { world.agents[$0]?.keeper }
        #expect(!keepers.isEmpty && keepers.allSatisfy(\.isSettled), "VMs that are settled are not looked at")
    }

    @Test func `the world of the test does what it is there for`() {
        var counts: [String: Int] = [:]
        for seed in 1...20 {
            let world = HostWorld(seed: UInt64(seed))
            world.run(disturbances: 120)
            counts.merge(world.counts) { $0 + $1 }
        }
        for what in ["begun", "sent", "stopped", "cancelled", "down", "restarted", "committed"] {
            #expect(counts[what, default: 0] > (what == "cancelled" ? 5 : 20), "\(what): \(counts)")
        }
    }
}
