import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore

/// One owner and operator: one command at a time, repeated under the same request id until it is answered or given up.
struct FleetClient {
    struct Operation {
        var command: CellCommand
        var bytes: [UInt8]
        var cell: Int
        var givesUpAt: Int64
        var isChore = false
    }

    let number: Int
    var target: Int
    var operation: Operation?
    /// Counts the tries: an answer to an earlier one is as good, one to an earlier operation is none.
    var attempt: UInt64 = 0
    var firstAttempt: UInt64 = 0
    var stamp: UInt64 = 0
    var named: UInt64 = 0
    /// With each cell, of those that number their commands as an agent does; the others have ids of their own.
    var sessions: [CommandSession] = []
    var origin: CommandOrigin?

    init(number: Int, target: Int) {
        self.number = number
        self.target = target
    }
}

extension Fleet {
    func clientTurn(_ number: Int, stamp: UInt64) {
        guard stamp == clients[number].stamp else { return }
        if clients[number].operation == nil {
            guard let (cell, operation, isChore) = nextOperation(number) else {
                return again(number, after: 200_000_000)
            }
            begin(number, cell, operation, isChore)
        }
        guard let operation = clients[number].operation else { return }
        if world.now >= operation.givesUpAt && !operation.isChore { return giveUp(number) }
        try_(number)
    }

    private func nextOperation(_ number: Int) -> (Int, CellCommand.Operation, Bool)? {
        if number == 0, let chore = chores.first { return (chore.cell, chore.operation, true) }
        let cell = profile.cells == 1 ? 0 : random.below(profile.cells)
        switch world.recovery.phase {
        case .chaos: return drawOperation(number, cell).map { (cell, $0, false) }
        // Somebody must be answered, or nobody knows that the cell is back.
        case .healing: return (cell, .noteTime, false)
        case .settling, .done: return nil
        }
    }

    private func begin(_ number: Int, _ cell: Int, _ operation: CellCommand.Operation, _ isChore: Bool) {
        var request: [UInt8] = []
        request.appendBigEndian(random.next())
        request.appendBigEndian(random.next())
        var command = CellCommand(request: request, by: "client \(number)", operation)
        if let origin = originOfNext(number, cell) {
            command.request = nil
            command.origin = origin
        }
        clients[number].firstAttempt = clients[number].attempt + 1
        clients[number].operation = FleetClient.Operation(
            command: command, bytes: command.encoded(), cell: cell,
            givesUpAt: world.now + profile.operationTimeout.count, isChore: isChore)
        world.result.operations += 1
        checkers[cell].asked(operation)
    }

    /// Every second client numbers its commands, under a session for each cell, where the feature level is open.
    private func originOfNext(_ number: Int, _ cell: Int) -> CommandOrigin? {
        if number % 2 == 0 || profile.cells == 1 { return nil }
        if clients[number].sessions.isEmpty {
            clients[number].sessions = (0..<profile.cells).map {
                CommandSession(CommandOrigin.Session(node: UInt64(number), mark: UInt64($0)))
            }
        }
        // The one before is answered or given up.
        if let last = clients[number].origin { clients[number].sessions[Int(last.session.mark)].settle(last) }
        let origin = clients[number].sessions[cell].next()
        clients[number].origin = origin
        return origin
    }

    private func try_(_ number: Int) {
        clients[number].attempt += 1
        let node = world.nodes[clients[number].target % world.nodes.count]
        world.plan(
            .fleetRequest, at: world.now + latency(), node: node, a: UInt64(number), b: clients[number].attempt)
        clients[number].target = random.below(hosts.count)
        again(number, after: profile.attemptTimeout.count)
    }

    private func again(_ number: Int, after delay: Int64) {
        clients[number].stamp += 1
        world.plan(.fleetClient, at: world.now + delay, a: UInt64(number), b: clients[number].stamp)
    }

    private func latency() -> Int64 {
        world.profile.latencyNear.count + random.within(0...world.profile.latencyNear.count)
    }

    func deliverRequest(client: Int, attempt: UInt64, to node: SimulatedNode) {
        guard let operation = clients[client].operation, attempt >= clients[client].firstAttempt else { return }
        world.turn(
            node,
            .request(.command(Fleet.group(of: operation.cell), operation.bytes), ticket: UInt64(client) << 40 | attempt)
        )
    }

    func takeAnswer(_ ticket: UInt64, _ answer: ClientAnswer, from node: Int) {
        let number = Int(ticket >> 40)
        guard number < clients.count, let operation = clients[number].operation,
            ticket & (1 << 40 - 1) >= clients[number].firstAttempt
        else { return }
        switch answer {
        case .applied(.cell(let result)):
            clients[number].operation = nil
            clients[number].target = node
            if operation.isChore && !chores.isEmpty {
                let done = chores.removeFirst()
                // It is asked again when that is over.
                if case .refused(.hostLeaves) = result.outcome { chores.append(done) }
            }
            if case .refused = result.outcome { counts.refused += 1 }
            checkers[operation.cell].acknowledged(operation.command.operation, result, self)
            world.recovery.sawSuccess(Fleet.group(of: operation.cell), at: world.now)
            again(number, after: operation.isChore ? 1_000_000 : random.within(0...profile.thinkTimeMax.count))
        case .refused(.notLeader(let hint)):
            if let hint { clients[number].target = Int(hint.node.rawValue) - 1 }
            again(number, after: hint == nil ? 20_000_000 + random.within(0...30_000_000) : 1_000_000)
        case .unknown: again(number, after: 1_000_000)
        case .applied, .read, .refused, .accepted: again(number, after: 20_000_000 + random.within(0...60_000_000))
        }
    }

    private func giveUp(_ number: Int) {
        world.result.operationsUnknown += 1
        clients[number].operation = nil
        again(number, after: random.within(0...profile.thinkTimeMax.count))
    }

    // MARK: What is asked

    private func drawOperation(_ number: Int, _ cell: Int) -> CellCommand.Operation? {
        let view = checkers[cell].view
        let ids = view.vms.keys.sorted()
        if profile.rebalances && balanceRandom.chance(1, in: 16) { return drawBalance() }
        if let operation = drawHostMove(cell) { return operation }
        if profile.hasOperators, opensLevel, let operation = drawCare(view) { return operation }
        if profile.cells > 1 && random.chance(1, in: 4), let operation = drawWay(cell, view, ids) { return operation }
        if profile.hasOperators && random.chance(1, in: 5) { return withReturn(drawOperator(view), view) }
        if ids.count < 3 || random.chance(1, in: 4) {
            if ids.count < profile.vmsMax { return drawCreation(number, view) }
        }
        guard !ids.isEmpty, let vm = view.vms[ids[random.below(ids.count)]] else {
            return drawCreation(number, view)
        }
        if random.below(UInt64(10)) < profile.movesShare { return drawMove(view, vm) }
        // Now and then somebody has seen an older generation.
        let seen: UInt64? = random.chance(1, in: 3) ? vm.generation : nil
        switch random.below(UInt64(12)) {
        case 0..<3: return .deleteVM(vm.id, generation: seen)
        case 3..<5: return .setPower(vm.id, .stopped, generation: seen)
        case 5..<8: return .setPower(vm.id, .running, generation: seen)
        case 8: return .setPower(vm.id, .paused, generation: seen)
        case 9: return .restartVM(vm.id)
        case 10:
            guard let place = vm.place else { return .restartVM(vm.id) }
            return .releaseVMs([Release(vm.id, epoch: place.epoch, reason: "asked")], cause: .asked)
        default:
            var spec = vm.spec
            switch random.below(UInt64(4)) {
            case 0: spec.resources.memoryMiB = random.within(1...8) * 512
            case 1: spec.isolation = spec.isolation == .keep ? .stop : .keep
            case 2: spec.priority = Int32(random.below(UInt64(3))) * 10
            default: spec.groups = drawGroups(vm.tenant, view)
            }
            return .updateVM(vm.id, spec, generation: seen)
        }
    }

    /// To another cell, or not after all.
    private func drawWay(_ cell: Int, _ view: CellView, _ ids: [VMID]) -> CellCommand.Operation? {
        let moves = checkers[cell].moves
        if !moves.isEmpty && random.chance(1, in: 3) {
            // Too late it is refused.
            let move = moves.first { $0.phase == .committed } ?? moves[random.below(moves.count)]
            return .advanceMove(move.number, .abort, reason: "called off")
        }
        if ids.isEmpty { return nil }
        let other = (cell + 1 + random.below(profile.cells - 1)) % profile.cells
        return .moveVM(ids[random.below(ids.count)], to: UInt64(other + 1), request: [])
    }

    private func drawMove(_ view: CellView, _ vm: CellVM) -> CellCommand.Operation? {
        if let migration = vm.migration {
            if random.chance(1, in: 3) { return .cancelMigration(vm.id, target: migration.target.epoch) }
            return random.chance(1, in: 8) ? .commitMigration(vm.id, target: migration.target.epoch) : nil
        }
        guard let place = vm.place else { return nil }
        // Its disks come along, where that level is open.
        var free = vm
        if profile.cells > 1 { free.boundTo = nil }
        let open = view.hosts.keys.sorted().filter { id in
            id != place.assignment.host && view.hosts[id].map { FleetRules.refusal(free, $0, view) == nil } ?? false
        }
        let isBlind = open.isEmpty || random.chance(1, in: 6)
        let target = isBlind ? HostID(UInt64(1 + random.below(hosts.count))) : open[random.below(open.count)]
        return .beginMigration(
            vm.id, from: place.epoch, to: Assignment(host: target), cause: .asked,
            intent: opensLevel ? MoveIntent.allCases[intentRandom.below(3)] : .balanced)
    }

    private func drawCreation(_ number: Int, _ view: CellView) -> CellCommand.Operation {
        let isGang = opensLevel && gangRandom.chance(1, in: 4)
        let count = isGang ? 2 + gangRandom.below(4) : random.chance(1, in: 5) ? 1 + random.below(4) : 1
        var items: [VMCreation] = []
        let tenant = "t\(random.below(profile.tenants) + 1)"
        if let first = setTenant(tenant, view) { return first }
        for _ in 0..<count {
            clients[number].named += 1
            items.append(
                VMCreation(
                    name: "c\(number)-\(clients[number].named)", tenant: tenant, spec: drawSpec(tenant, view),
                    power: random.chance(1, in: 10) ? .stopped : .running))
        }
        return .createVMs(items, isAtomic: isGang || random.chance(1, in: 3))
    }

    /// An administrator's word for one that nobody set, mostly: some ask without it. One that has used up what it has gets more
    /// at times, and some that is gone is heard of again from one who does not know. Where regions are lost, tenants stay.
    private func setTenant(_ tenant: String, _ view: CellView) -> CellCommand.Operation? {
        guard opensLevel else { return nil }
        let slice = view.slices[tenant] ?? TenantSlice(tenant: tenant)
        if slice.isKnown {
            if !profile.losesRegion, tenantRandom.chance(1, in: 20) {
                return .returnSlice(tenant: tenant, revision: slice.revision)
            }
            guard let most = slice.allowed.vmCount, slice.usedCount >= most, tenantRandom.chance(2, in: 3) else {
                return nil
            }
        } else if !profile.losesRegion, tenantRandom.chance(1, in: 3) {
            return nil
        }
        let isLate = tenantRandom.chance(1, in: 12)
        return setTenant(tenant, after: slice.revision, through: LogIndex(isLate ? 1 : 1 << 41))
    }

    /// The root here has no tenants; these are said by one that is far ahead of it, so that controllers do not take them back.
    func setTenant(_ tenant: String, after known: Revision, through: LogIndex) -> CellCommand.Operation {
        let revision = Revision(index: LogIndex(max(known.index.rawValue, 1 << 40) + 1), slot: 0)
        return .setSlice(tenant: tenant, revision: revision, .unlimited, through: through)
    }

    private func drawSpec(_ tenant: String, _ view: CellView) -> VMDescription {
        var spec = VMDescription(
            resources: Resources(
                cpuMillis: random.within(1...8) * 500, memoryMiB: random.within(1...12) * 512, networkMbps: 10))
        spec.annotations = [
            Named("sim.boot-ms", "\(random.within(20...3_000))"), Named("sim.stop-ms", "\(random.within(0...800))"),
            Named("stop-grace-ms", "\(random.within(0...3_000))"),
            Named("sim.dirty-mibps", "\(random.within(0...600))"),
        ]
        if random.chance(1, in: 16) { spec.annotations.append(Named("sim.migration-fails", "as it was told to")) }
        if random.chance(1, in: 24) { spec.annotations.append(Named("sim.start-fails", "as it was told to")) }
        if random.chance(1, in: 6) { spec.isolation = .keep }
        if random.chance(1, in: 12) { spec.restart = .never }
        drawRegion(&spec)
        guard profile.hasRules else { return spec }
        spec.priority = Int32(random.below(UInt64(3))) * 10
        if random.chance(1, in: 10) { spec.disks = [.init(name: "d", sizeMiB: 1_024, kind: .local)] }
        if random.chance(1, in: 6) { spec.disks.append(.init(name: "s", sizeMiB: 512, kind: .shared(domain: "ssd"))) }
        if opensLevel, tpmRandom.chance(1, in: 8) {
            spec.tpm = [.shared(domain: "ssd"), .local, .ephemeral][tpmRandom.below(3)]
        }
        if opensLevel, intentRandom.chance(1, in: 4) { spec.moveIntent = MoveIntent.allCases[intentRandom.below(3)] }
        if random.chance(1, in: 8) { spec.networks = ["lan"] }
        if random.chance(1, in: 10) { spec.zones = [zones[random.below(zones.count)]] }
        if random.chance(1, in: 10) { spec.required = [.init("disk", .oneOf(["fast"]))] }
        if random.chance(1, in: 6) { spec.tolerations = [.init("gpu")] }
        spec.groups = drawGroups(tenant, view)
        return spec
    }

    private func drawGroups(_ tenant: String, _ view: CellView) -> [String] {
        guard profile.hasRules, random.chance(1, in: 3) else { return [] }
        let known = view.groups.keys.sorted().compactMap { view.groups[$0] }.filter {
            $0.tenant == tenant
        }
        if known.isEmpty { return [] }
        return [known[random.below(known.count)].name]
    }

    /// Whoever keeps an eye on the balance changes its bounds, and has it rest at times. The rest of a VM stays as it is.
    private func drawBalance() -> CellCommand.Operation {
        if opensLevel, intentRandom.chance(1, in: 4) {
            return .setSetting(.moveIntent, 1 + intentRandom.below(UInt64(3)))
        }
        return switch balanceRandom.below(UInt64(6)) {
        case 0: .setSetting(.rebalance, UInt64(balanceRandom.below(2)))
        case 1: .setSetting(.policy, 1 + balanceRandom.below(UInt64(3)))
        case 2 where opensLevel: drawLinkBound()
        case 3: .setSetting(.migrationsMax, 1 + balanceRandom.below(UInt64(4)))
        default: .setSetting(.rebalance, 2)
        }
    }

    func drawLinkBound() -> CellCommand.Operation {
        .setSetting(.migrationsPerLinkMax, 1 + balanceRandom.below(UInt64(3)))
    }

    /// Now and then somebody says more of a host than its duty.
    private func drawCare(_ view: CellView) -> CellCommand.Operation? {
        guard careRandom.chance(1, in: 24) else { return nil }
        let number = careRandom.below(hosts.count)
        let host = hosts[number].id
        switch careRandom.below(UInt64(8)) {
        case 0..<3: return .careForHost(host, .goAway(milliseconds: 1_000 + careRandom.below(UInt64(4_000))))
        case 3: return .careForHost(host, .comeBack)
        case 4:
            // Nothing starts there before an agent has registered, of which this is not said.
            guard !hosts[number].node.isRunning, hosts[number].driver.guests.isEmpty, let known = view.hosts[host]
            else {
                return nil
            }
            return .careForHost(host, .declareDead(known.incarnation))
        default:
            let draining = view.hosts.keys.sorted().filter { view.hosts[$0]?.duty == .draining }
            if draining.isEmpty { return nil }
            return .careForHost(
                draining[careRandom.below(draining.count)], careRandom.chance(1, in: 2) ? .pauseDrain : .resumeDrain)
        }
    }

    /// Whoever drains hosts, or takes them back, says at times what becomes of what left them, pauses that, or wants it otherwise.
    private func withReturn(_ drawn: CellCommand.Operation?, _ view: CellView) -> CellCommand.Operation? {
        guard opensLevel, case .setHostDuty(let host, let duty)? = drawn else { return drawn }
        let returns = HostReturn.allCases[returnRandom.below(3)]
        let back = view.hosts.keys.sorted().filter { view.hosts[$0]?.takesBack == true }
        if !back.isEmpty, returnRandom.chance(1, in: 4) {
            let host = back[returnRandom.below(back.count)]
            switch returnRandom.below(4) {
            case 0: return .careForHost(host, .pauseReturn)
            case 1: return .careForHost(host, .resume(returns))
            default: return .careForHost(host, .resumeReturn)
            }
        }
        guard returnRandom.chance(2, in: 3) else { return drawn }
        switch duty {
        case .draining: return .careForHost(host, .drain(returns))
        case .inService: return .careForHost(host, .resume(returns))
        case .cordoned, .maintenance: return drawn
        }
    }

    private func drawOperator(_ view: CellView) -> CellCommand.Operation? {
        let host = HostID(UInt64(1 + random.below(hosts.count)))
        switch random.below(UInt64(12)) {
        case 0..<3: return .setHostDuty(host, .inService)
        case 3: return .setHostDuty(host, .cordoned)
        case 4, 5: return .setHostDuty(host, .draining)
        case 6:
            var policy = HostPolicy()
            if random.chance(1, in: 2) { policy.reserved.memoryMiB = random.within(0...4) * 1_024 }
            if random.chance(1, in: 3) { policy.taints = [NamedTaint("gpu")] }
            if random.chance(1, in: 4) { policy.overcommit.cpuMilli = 1_500 }
            return .setHostPolicy(
                host, policy, generation: nil, isEnforced: opensLevel && enforcementRandom.chance(1, in: 2))
        case 7, 8:
            let tenant = "t\(random.below(profile.tenants) + 1)"
            let quota = Quota(
                vmCount: random.chance(1, in: 2) ? UInt64(random.below(12)) : nil,
                memoryMiB: random.chance(1, in: 2) ? random.within(1...40) * 1_024 : nil)
            let seen = view.slices[tenant]?.revision.index ?? .zero
            return .setSlice(tenant: tenant, revision: Revision(index: seen.next, slot: 0), quota)
        case 9:
            guard profile.hasRules else { return nil }
            let rules: [PlacementGroup.Rule] = [
                .antiAffinity(perDomainMax: 1), .antiAffinity(perDomainMax: 2), .affinity,
            ]
            let scopes = PlacementGroup.Scope.allCases
            return .putGroup(
                CellGroup(
                    name: "g\(random.below(4))", tenant: "t\(random.below(profile.tenants) + 1)",
                    rule: rules[random.below(rules.count)], scope: scopes[random.below(scopes.count)],
                    isHard: random.chance(2, in: 3)))
        case 10: return .setSetting(.leaseLength, UInt64(random.within(1_000...6_000)))
        default:
            let other: [CellCommand.Operation] = [
                .setSetting(.policy, 1 + random.below(UInt64(3))),
                .setSetting(.migrationsMax, 1 + random.below(UInt64(8))),
                .setSetting(.migrationsPerHostMax, 1 + random.below(UInt64(3))), .noteTime,
            ]
            return other[random.below(other.count)]
        }
    }
}
