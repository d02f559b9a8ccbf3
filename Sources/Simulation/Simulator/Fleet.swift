import ClusterBase
import Controllers
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore

/// The hosts of a simulated cluster, the VMs on them, and those who own and operate them.
///
///     FleetClient ─▶ commands of owners and operators ─▶ any node ─▶ cell ─▶ FleetChecker: every index
///     SimulatedHost = HostKeeper over SimulatedHypervisor, and a guard that ends guests with the lease
///     mishaps: guests that crash, moves that fail or hang, hosts that become others, clocks of the wall that jump
///
/// What a run promises of VMs is checked when it can break: what runs at every order and every event of a guest, the cell
/// at every index, and after the faults that everything comes to rest as it was asked for.
final class Fleet {
    static func group(of cell: Int) -> GroupID { GroupID(.cell, number: UInt64(cell) + 1) }

    unowned let world: Simulation
    let profile: FleetProfile
    var hosts: [SimulatedHost] = []
    var clients: [FleetClient] = []
    /// One for each cell.
    let checkers: [FleetChecker]
    /// The first cell's: plots happen where there is no other one.
    var checker: FleetChecker { checkers[0] }
    var counts = FleetCounts()
    var random: PRNG
    var faultRandom: PRNG
    var gangRandom: PRNG
    var tpmRandom: PRNG
    var intentRandom: PRNG
    var tenantRandom: PRNG
    var balanceRandom: PRNG
    var hostRandom: PRNG
    var careRandom: PRNG
    var returnRandom: PRNG
    var enforcementRandom: PRNG
    /// The cell of each host, as a root would have it.
    var assigned: [Assigned] = []
    var regions: Regions
    var hostsPlans: HostsPlans
    /// What to add to true time for the calendar, per node, in milliseconds.
    var wallOffsets: [Int64] = []
    /// What operators still have to do before the fleet can come to rest.
    var chores: [Chore] = []
    var plots: FleetPlots
    /// Of which VM's placing a plot waits for what comes next.
    var awaited: VMID?
    /// Of what is sent in this moment, beside its latency.
    var delay: Int64 = 0
    var restCheckedAt: Int64 = 0
    /// VMs that were lost with their hosts and could run, and since when.
    // hash order: looked up only
    var lostSince: [VMID: Int64] = [:]
    var lateCheckedAt: Int64 = 0
    /// What it is that does not rest.
    var unrest = "nothing was looked at yet"
    #if MUTANTS
    var mutant: FleetMutant?
    #endif

    init(world: Simulation, profile: FleetProfile, random: PRNG) {
        self.world = world
        self.profile = profile
        self.random = random.child(1)
        faultRandom = random.child(2)
        plots = FleetPlots(random: random.child(3), plots: profile.plots)
        gangRandom = random.child(15)
        tpmRandom = random.child(35)
        intentRandom = random.child(45)
        tenantRandom = random.child(17)
        balanceRandom = random.child(41)
        hostRandom = random.child(31)
        careRandom = random.child(43)
        returnRandom = random.child(46)
        enforcementRandom = random.child(55)
        regions = Regions(random: random.child(16), planRandom: random.child(21))
        hostsPlans = HostsPlans(random: random.child(44), choice: random.child(47), bounds: random.child(49))
        let promises = FleetPromises()
        checkers = (0..<profile.cells).map { FleetChecker(Fleet.group(of: $0), promises) }
    }

    var opensLevel: Bool { profile.cells > 1 || profile.opensLevel }

    var zones: [String] { ["a", "b", "c"] }

    struct Chore {
        var cell: Int
        var operation: CellCommand.Operation
    }

    /// The first cell of a host, by its number.
    func cell(of host: Int) -> Int { host % (profile.cells - profile.spareCells) }

    func view(of host: SimulatedHost) -> CellView { checkers[host.cell].view }

    func describe(_ number: Int) -> HostDescription {
        let capacity = Resources(
            cpuMillis: random.within(4...16) * 1_000, memoryMiB: random.within(8...32) * 1_024, diskMiB: 200_000,
            networkMbps: 10_000)
        var about = HostDescription(
            name: "h\(number + 1)",
            locality: Locality(
                region: regionName(cell(of: number)), zone: zones[number % zones.count], rack: "r\(random.below(2))"),
            capacity: capacity, storageDomains: random.chance(3, in: 4) ? ["ssd"] : [],
            networks: random.chance(4, in: 5) ? ["lan"] : [], driver: "simulated")
        if random.chance(1, in: 2) { about.labels = [Named("disk", "fast")] }
        if opensLevel {
            about.hasTPM = tpmRandom.chance(3, in: 4)
            about.guestUser = "guests run as users of their own"
        }
        return about
    }

    func tellWallClock(_ node: SimulatedNode) {
        let time = 1_700_000_000_000 + world.now / 1_000_000 + wallOffsets[node.number]
        node.runtime?.handle(.wallClock(LogTime(UInt64(clamping: time))), now: node.local(world.now))
    }
}

extension Simulation {
    /// Gives every node its host, and the hosts their owners.
    func populate(_ profile: FleetProfile, _ random: PRNG, _ mutant: String?) {
        let fleet = Fleet(world: self, profile: profile, random: random)
        #if MUTANTS
        fleet.mutant = mutant.flatMap { FleetMutant(rawValue: $0) }
        for checker in fleet.checkers { checker.mutant = fleet.mutant }
        #endif
        for node in nodes {
            var settings = SimulatedHypervisor.Settings()
            settings.outlivesAgent = profile.outlivesAgent
            settings.bandwidthMiBps = fleet.random.within(200...4_000)
            settings.gentleMax = .seconds(20)
            let driver = SimulatedHypervisor(settings)
            let number = node.number
            driver.link = { [unowned fleet] vm, target, to in fleet.isLinked(number, vm, target, to) }
            fleet.hosts.append(
                SimulatedHost(
                    node: node, cell: fleet.cell(of: number), about: fleet.describe(number), driver: driver))
            fleet.assigned.append(Fleet.Assigned(cell: fleet.cell(of: number)))
            fleet.wallOffsets.append(fleet.random.within(-300...300))
        }
        self.fleet = fleet
        for node in nodes { start(node) }
        fleet.begin()
    }

    /// Returns true when the run has ended: nothing is under way any more, and all is as it should be.
    func checkRest(_ fleet: Fleet) -> Bool {
        let elapsed = now - recovery.began
        if now - fleet.restCheckedAt < 250_000_000 { return false }
        fleet.restCheckedAt = now
        let isSettled = isSettled
        if isSettled && fleet.isAtRest {
            fleet.checkEnd()
            recovery.phase = .done
            return true
        }
        if elapsed > Fleet.restsWithin {
            fail(
                isSettled ? "the fleet comes to rest" : "46 replicas become equal",
                "not within \(Fleet.restsWithin / 1_000_000_000) s: "
                    + (isSettled ? fleet.unrest : (fleet.isAtRest ? "" : "\(fleet.unrest); ") + summary))
        }
        return false
    }
}

extension Fleet {
    /// Crashed VMs wait up to a minute for their restarts, and a move that stands still is given up after five.
    static let restsWithin: Int64 = 240_000_000_000

    func begin() {
        for number in 0..<profile.clients {
            clients.append(FleetClient(number: number, target: random.below(hosts.count)))
            world.plan(.fleetClient, at: 600_000_000 + Int64(number) * 10_000_000, a: UInt64(number))
        }
        var settings = [CellCommand.Operation.setSetting(.leaseLength, profile.leaseMilliseconds)]
        if random.chance(1, in: 2) { settings.append(.setSetting(.brakeMillis, 1_000)) }
        settings.append(.setSetting(.policy, 1 + random.below(UInt64(3))))
        if profile.rebalances {
            settings += [.setSetting(.moveCooldown, profile.moveCooldownMilliseconds), .setSetting(.rebalance, 2)]
            if opensLevel { settings.append(drawLinkBound()) }
        }
        if opensLevel, let reserve = profile.failoverReserve {
            settings.append(.setSetting(.failoverReserve, reserve.value))
        }
        for cell in 0..<profile.cells { chores += settings.map { Chore(cell: cell, operation: $0) } }
        for cell in 0..<profile.cells where opensLevel {
            for tenant in 1...profile.tenants {
                chores.append(
                    Chore(cell: cell, operation: setTenant("t\(tenant)", after: .zero, through: LogIndex(1 << 41))))
            }
        }
        world.plan(.fleetFault, at: 2_000_000_000)
        planPlots()
        planRegions()
        beginHostsPlans()
    }

    /// Whether a source reaches the copy that receives its VM.
    func isLinked(_ from: Int, _ vm: VMID, _ target: UInt64, _ to: HostID) -> Bool {
        let number = Int(to.rawValue) - 1
        guard number >= 0, number < hosts.count, number != from else { return false }
        if world.network.isBlocked(from, number) || world.network.isBlocked(number, from) { return false }
        return hosts[number].driver.receives(vm, target)
    }

    // MARK: Mishaps

    func faultTurn() {
        guard world.recovery.phase == .chaos else { return }
        guard let most = profile.mishapIntervalMax else { return }
        world.plan(.fleetFault, at: world.now + faultRandom.within(Nanoseconds.milliseconds(20)...most).count)
        if profile.wallJumps && faultRandom.chance(1, in: 8) {
            let node = world.nodes[faultRandom.below(world.nodes.count)]
            wallOffsets[node.number] += faultRandom.within(-600_000...3_600_000)
            if node.isRunning { tellWallClock(node) }
            return
        }
        let host = hosts[faultRandom.below(hosts.count)]
        if faultRandom.chance(1, in: 10) { return changeMachine(host) }
        strikeGuest(host)
    }

    private func changeMachine(_ host: SimulatedHost) {
        guard profile.hasOperators, host.keeper != nil else { return }
        counts.mishaps += 1
        var about = host.about
        switch faultRandom.below(UInt64(4)) {
        case 0: about.capacity.memoryMiB = faultRandom.within(4...32) * 1_024
        case 1: about.capacity.cpuMillis = faultRandom.within(2...16) * 1_000
        case 2: about.labels = about.labels.isEmpty ? [Named("disk", "fast")] : []
        default: about.locality.rack = "r\(faultRandom.below(2))"
        }
        host.about = about
        host.inputs.append(.described(about))
        schedule(host)
    }

    private func strikeGuest(_ host: SimulatedHost) {
        let now = host.node.local(world.now)
        host.driver.settle(now)
        let mishap = SimulatedHypervisor.Mishap.allCases[
            faultRandom.below(SimulatedHypervisor.Mishap.allCases.count)]
        let open = host.driver.guestIDs.filter { host.driver.isOpen(to: mishap, $0) }
        guard !open.isEmpty else { return }
        counts.mishaps += 1
        let vm = open[faultRandom.below(open.count)]
        struck(host.node.number, Fault.allCases.count + Int(mishap.rawValue), only: vm)
        host.driver.strike(mishap, vm, now)
        look(host)
        schedule(host)
    }

    /// Counts the moves that have an end at a node that is struck.
    func struck(_ node: Int, _ strike: Int, only vm: VMID? = nil) {
        let id = hosts[node].id
        for vm in vm.map({ [$0] }) ?? checkers[hosts[node].cell].moving {
            guard let migration = checkers[hosts[node].cell].view.vms[vm]?.migration,
                migration.source.assignment.host == id || migration.target.assignment.host == id
            else { continue }
            let step =
                switch migration.phase {
                case .copying: migration.isCopied ? 1 : 0
                case .leaving: 2
                case .undoing: 3
                }
            counts.movesStruck[step * FleetCounts.strikeCount + strike] += 1
        }
    }

    // MARK: The end

    func beginRecovery() {
        endRegions()
        endHostsPlans()
        for host in hosts {
            host.driver.release(host.node.local(world.now))
            if movesHosts && host.keeper != nil { tellAssignment(host) }
            // It may still be on its way to another cell.
            for cell in 0..<profile.cells where movesHosts || cell == host.cell {
                chores.append(Chore(cell: cell, operation: .setHostDuty(host.id, .inService)))
            }
        }
        for cell in 0..<profile.cells { chores.append(Chore(cell: cell, operation: .setSetting(.brakeMillis, 1_000))) }
        for client in clients { world.plan(.fleetClient, at: world.now, a: UInt64(client.number), b: client.stamp) }
    }
}
