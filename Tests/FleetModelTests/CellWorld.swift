import ClusterBase
import FleetModel

struct CellFailure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// A cell with hosts that do what they are told late, lose what they ran, are cut off and come back, under random commands
/// of operators and controllers. After every entry everything that a cell promises is checked by rows alone.
final class CellWorld {
    struct Copy {
        enum State { case running, paused, received, sent }
        var epoch: UInt64
        var state: State
        var keepsRunning: Bool
    }

    struct Agent {
        var id: HostID
        var incarnation: UInt64 = 1
        var about: HostDescription
        var isThere = true
        var isGone = false
        /// Ascending by VM.
        var copies: [VMID: Copy] = [:]
        var ended: [[UInt64]] = []
        /// With the incarnation that says it.
        var outbox: [(incarnation: UInt64, report: VMReport)] = []
        /// What it heard last of its work.
        var known: (rows: [CellVM], index: LogIndex)?
    }

    var random: PRNG
    private var reserveRandom: PRNG
    private var careRandom: PRNG
    private var returnRandom: PRNG
    var state = NaiveState()
    var log: [[UInt8]] = []
    var index = LogIndex.zero
    var time = LogTime(1_000_000)
    var agents: [Agent] = []
    var view = CellView()
    var checker = CellChecker()
    /// Acknowledged and not asked to go.
    var wanted: Set<VMID> = []
    var names = 0
    /// Rises in the midst of a history: what older entries wrote is there beside what later ones did.
    var level = FeatureLevel.oldest
    var done: [String: Int] = [:]

    init(seed: UInt64) throws {
        random = PRNG(seed: seed)
        reserveRandom = random.child(48)
        careRandom = random.child(43)
        returnRandom = random.child(46)
        for i in 1...6 as ClosedRange<UInt64> {
            agents.append(Agent(id: HostID(i), about: about(i)))
            try register(Int(i) - 1)
        }
        try ask(.setSlice(tenant: "t", revision: Revision(1), .unlimited))
        for (name, rule, scope) in [
            ("anti", PlacementGroup.Rule.antiAffinity(perDomainMax: 1), PlacementGroup.Scope.host),
            ("racks", .antiAffinity(perDomainMax: 2), .rack), ("even", .spread(skewMax: 1), .zone),
            ("flat", .spread(skewMax: 1), .host), ("close", .affinity, .zone),
        ] {
            try ask(.putGroup(CellGroup(name: name, tenant: "t", rule: rule, scope: scope)))
        }
    }

    private func about(_ i: UInt64) -> HostDescription {
        HostDescription(
            name: "h\(i)", locality: Locality(zone: "z\(i % 3)", rack: "r\(i % 2)"),
            capacity: Resources(cpuMillis: 8_000, memoryMiB: 16_384, diskMiB: 50_000, networkMbps: 1_000),
            numaNodes: i % 2 == 0
                ? [] : [NUMANode(cpuMillis: 4_000, memoryMiB: 8_192), NUMANode(cpuMillis: 4_000, memoryMiB: 8_192)],
            devices: i % 3 == 0
                ? []
                : [
                    NamedDevice(kind: "gpu", numaNode: i % 2 == 0 ? nil : 0), NamedDevice(kind: "gpu"),
                    NamedDevice(kind: "fpga"),
                ],
            labels: [Named("kind", i % 2 == 0 ? "even" : "odd")], storageDomains: i < 5 ? ["ceph"] : [],
            networks: ["lan"])
    }

    // MARK: Asking

    @discardableResult func ask(_ operation: CellCommand.Operation) throws -> CellResult.Outcome {
        let command = CellCommand(by: "fuzz", operation)
        guard CellCommand.decode(command.encoded()) == .success(command) else {
            throw CellFailure("\(operation) is read back as something else")
        }
        return try ask([command])[0].outcome
    }

    func ask(_ commands: [CellCommand]) throws -> [CellResult] {
        index = index.next
        time = time.advanced(by: UInt64(random.below(20_000)))
        if index.rawValue == 150 { level = FeatureLevel.newest }
        let pack = Cell.pack(commands.map { $0.encoded() }, level: level, time: time)
        log.append(pack)
        let rehearsed = try rehearsal(commands)
        let results = try Cell.apply(pack: pack, index: index, access: &state)
        try compare(rehearsed, results[0].outcome)
        for result in results {
            if CellResult.decode(result.encoded()) != result {
                throw CellFailure("\(result) is read back as something else")
            }
        }
        for _ in 0..<100 {
            let isFollowing = view.through != nil
            _ = view.take(try Cell.read(view.nextQuery, state))
            if isFollowing && view.through == index { break }
        }
        for (command, result) in zip(commands, results) { count(command.operation, result.outcome) }
        try checker.check(view, state, commands)
        for id in wanted where view.vms[id] == nil { throw CellFailure("VM \(id) was acknowledged and is not there") }
        try checkCopies()
        for i in agents.indices { try checkChanges(i) }
        return results
    }

    /// What the cell says beforehand that a command would do; nil for what nobody asks about.
    private func rehearsal(_ commands: [CellCommand]) throws -> CellAnswer.Body? {
        guard commands.count == 1, level >= FeatureLevel.rehearsals, commands[0].operation.canBeRehearsed,
            commands[0].request == nil, commands[0].origin == nil
        else { return nil }
        let before = state
        let answer = try Cell.read(.rehearsal([commands[0].encoded()], cell: 1, level: level), state)
        if state != before { throw CellFailure("a rehearsal of \(commands[0].operation) changed the state") }
        return answer.body
    }

    private func compare(_ rehearsed: CellAnswer.Body?, _ outcome: CellResult.Outcome) throws {
        switch (rehearsed, outcome) {
        case (nil, _): return
        case (.refused(let said)?, .refused(let refusal)) where said == refusal:
            done["foretold refusals", default: 0] += 1
        // One creation is asked about at a time.
        case (.refused(let said)?, .items(let items)) where items == [.refused(said)]:
            done["foretold refusals", default: 0] += 1
        case (.rows?, .items(let items)) where items.allSatisfy({ if case .vm = $0 { true } else { false } }):
            done["foretold changes", default: 0] += 1
        case (.rows?, .done): done["foretold changes", default: 0] += 1
        default: throw CellFailure("it was \(outcome), and the rehearsal said \(rehearsed.map { "\($0)" } ?? "")")
        }
    }

    private func count(_ operation: CellCommand.Operation, _ outcome: CellResult.Outcome) {
        let name = String("\(operation)".prefix { $0 != "(" })
        switch outcome {
        case .done, .kept: done[name, default: 0] += 1
        case .items(let items):
            for item in items {
                if case .vm = item { done[name, default: 0] += 1 } else { done["refused " + name, default: 0] += 1 }
            }
        case .refused: done["refused " + name, default: 0] += 1
        }
    }

    /// Nothing runs twice, whatever the cell thinks.
    private func checkCopies() throws {
        var running: [VMID: HostID] = [:]
        for agent in agents {
            for (id, copy) in agent.copies where copy.state == .running || copy.state == .paused {
                if let other = running[id] { throw CellFailure("VM \(id) runs on \(other) and \(agent.id)") }
                running[id] = agent.id
            }
        }
    }

    // MARK: Hosts

    private func register(_ i: Int) throws {
        let running = agents[i].copies.keys.sorted().compactMap { id in
            agents[i].copies[id].map { RunningVM(id, epoch: $0.epoch) }
        }
        let outcome = try ask(
            .registerHost(agents[i].id, Incarnation(agents[i].incarnation), agents[i].about, running: running))
        if agents[i].isGone != (outcome == .refused(.hostRemoved(agents[i].id))) {
            throw CellFailure("host \(agents[i].id) registered: \(outcome)")
        }
    }

    private func end(_ i: Int, _ id: VMID, _ state: VMReport.State) {
        guard let copy = agents[i].copies.removeValue(forKey: id) else { return }
        agents[i].ended.append([id.rawValue, copy.epoch])
        agents[i].outbox.append((agents[i].incarnation, VMReport(id, epoch: copy.epoch, state)))
    }

    /// An agent looks at its work and does it.
    private func work(_ i: Int) throws {
        let answer = try Cell.read(.hostWork(agents[i].id, since: .zero), state)
        guard case .work(let vms?, _, let lease) = answer.body, lease > 0 else { return }
        for id in agents[i].copies.keys.sorted() where !vms.contains(where: { $0.id == id }) { end(i, id, .stopped) }
        for vm in vms { work(i, vm) }
    }

    /// What changed since it asked last, and what it had, are what there is.
    private func checkChanges(_ i: Int) throws {
        let whole = try Cell.read(.hostWork(agents[i].id, since: .zero), state)
        guard case .work(let all?, let index, let lease) = whole.body, lease > 0 else { return agents[i].known = nil }
        // Some ask often, and some after many changes.
        defer {
            if agents[i].known == nil || random.chance(1, in: UInt64(2 + 2 * i)) { agents[i].known = (all, index) }
        }
        guard let known = agents[i].known else { return }
        let answer = try Cell.read(.hostWork(agents[i].id, since: known.index, takesChanges: true), state)
        if CellAnswer.decode(answer.encoded()) != answer {
            throw CellFailure("\(answer) is read back as something else")
        }
        switch answer.body {
        case .work(nil, _, _): done["nothing changed", default: 0] += 1
        case .work(let rows?, _, _): if rows != all { throw CellFailure("two questions, two answers") }
        case .workChanges(let changes, index, _):
            if changes.merged(with: known.rows) != all {
                throw CellFailure("what changed on \(agents[i].id) since \(known.index) does not give what is there")
            }
            done["some changed", default: 0] += 1
            done["rows left out", default: 0] += changes.ids.count - changes.vms.count
            // Whoever has other rows notices.
            let kept = known.rows.indices.filter { row in
                changes.ids.contains(known.rows[row].id) && !changes.vms.contains { $0.id == known.rows[row].id }
            }
            if !kept.isEmpty {
                let lost = kept[random.below(kept.count)]
                var other = known.rows
                if random.chance(1, in: 2) { other.remove(at: lost) } else { other[lost].revision = .end(of: index) }
                if changes.merged(with: other) != nil { throw CellFailure("other rows were taken for the right ones") }
                done["other rows", default: 0] += 1
            }
        default: throw CellFailure("\(answer)")
        }
    }

    private func work(_ i: Int, _ vm: CellVM) {
        let me = agents[i].id
        let copy = agents[i].copies[vm.id]
        func say(_ state: VMReport.State, _ epoch: UInt64, _ progress: UInt32 = 0) {
            agents[i].outbox.append(
                (
                    agents[i].incarnation,
                    VMReport(vm.id, epoch: epoch, state, generation: vm.generation, progressMillis: progress)
                ))
        }
        if let place = vm.place, place.assignment.host == me {
            if let copy, copy.epoch != place.epoch { end(i, vm.id, .stopped) }
            let mayRun = vm.power != .stopped && !place.isReleasing && !vm.isDeleting
            if !mayRun {
                if agents[i].copies[vm.id] != nil { return end(i, vm.id, .stopped) }
                return say(.stopped, place.epoch)
            }
            if var copy = agents[i].copies[vm.id] {
                if vm.migration?.phase == .copying {
                    if copy.state == .sent || random.chance(1, in: 2) {
                        copy.state = .sent
                        say(.copied, place.epoch)
                    } else {
                        say(.copying, place.epoch, UInt32(random.below(1_000)))
                    }
                } else {
                    copy.state = .running
                    say(vm.power == .paused ? .paused : .running, place.epoch)
                }
                agents[i].copies[vm.id] = copy
            } else if vm.phase == .starting, !agents[i].ended.contains([vm.id.rawValue, place.epoch]) {
                agents[i].copies[vm.id] = Copy(
                    epoch: place.epoch, state: .running, keepsRunning: vm.spec.isolation == .keep)
                say(.running, place.epoch)
            }
        } else if let migration = vm.migration {
            let target = migration.target
            if migration.phase == .copying && target.assignment.host == me {
                if copy == nil && !agents[i].ended.contains([vm.id.rawValue, target.epoch]) {
                    agents[i].copies[vm.id] = Copy(
                        epoch: target.epoch, state: .received, keepsRunning: vm.spec.isolation == .keep)
                }
            } else {
                let epoch = migration.phase == .leaving ? migration.source.epoch : target.epoch
                if copy != nil { end(i, vm.id, .stopped) } else { say(.stopped, epoch) }
            }
        }
    }

    private func deliver(_ i: Int) throws {
        let some = agents[i].outbox.filter { _ in random.chance(2, in: 3) }
        if random.chance(3, in: 4) { agents[i].outbox.removeAll() }
        for incarnation in Set(some.map(\.incarnation)).sorted() {
            let reports = some.filter { $0.incarnation == incarnation }.map(\.report)
            try ask(.reportVMs(agents[i].id, Incarnation(incarnation), reports))
        }
    }

    private func disturb(_ i: Int) throws {
        if agents[i].isGone { return }
        if !agents[i].isThere {
            if random.chance(1, in: 3) { try ask(.declareDown(agents[i].id, Incarnation(agents[i].incarnation))) }
            if random.chance(1, in: 2) {
                agents[i].isThere = true
                agents[i].incarnation += 1
                agents[i].ended.removeAll()
                try register(i)
            }
            return
        }
        switch random.below(6) {
        case 0:
            // It is cut off: what must stops, the rest runs on.
            agents[i].isThere = false
            for id in agents[i].copies.keys.sorted() where agents[i].copies[id]?.keepsRunning == false {
                end(i, id, .stopped)
            }
        case 1:
            agents[i].isThere = false
            agents[i].copies.removeAll()
        case 2:
            // The agent begins anew, and finds what its driver runs.
            agents[i].incarnation += 1
            agents[i].ended.removeAll()
            if random.chance(1, in: 2) { agents[i].about.locality.zone = "z\(random.below(3))" }
            if random.chance(1, in: 3) { agents[i].about.capacity.cpuMillis = Int64(4_000 + random.below(3) * 4_000) }
            try register(i)
        default:
            if let id = agents[i].copies.keys.sorted().first(where: { agents[i].copies[$0]?.state == .running }) {
                end(i, id, .crashed)
            }
        }
    }

    // MARK: A step

    func step() throws {
        try changeReserve()
        try askCare()
        switch random.below(24) {
        case 0..<5: try askAsOwner()
        case 5: try askAsOperator()
        case 6..<14: try control()
        case 14..<22:
            let i = random.below(agents.count)
            if agents[i].isThere && !agents[i].isGone {
                if random.chance(2, in: 3) { try work(i) }
                if random.chance(2, in: 3) { try deliver(i) }
            }
        default: try disturb(random.below(agents.count))
        }
    }

    private func someVM() -> CellVM? {
        let ids = view.vms.keys.sorted()
        return ids.isEmpty ? nil : view.vms[ids[random.below(ids.count)]]
    }

    private func spec() -> VMDescription {
        var spec = VMDescription(
            resources: Resources(
                cpuMillis: Int64(500 + random.below(6) * 500), memoryMiB: Int64(512 << random.below(4))))
        func sometimes(_ chance: Int, _ change: (inout VMDescription) -> Void) {
            if random.chance(1, in: UInt64(chance)) { change(&spec) }
        }
        sometimes(4) { $0.numa = random.chance(1, in: 2) ? .nodes(1 + random.below(2)) : .fewest(max: 2) }
        sometimes(4) {
            $0.devices = [
                VMDescription.NamedDeviceWish(kinds: ["gpu"], count: 1, millis: random.chance(1, in: 2) ? 1_000 : 400)
            ]
        }
        sometimes(2) { $0.groups = [["anti", "racks", "even", "flat", "close"][random.below(5)]] }
        sometimes(8) { $0.disks = [VMDescription.NamedDisk(name: "d", sizeMiB: 1_000, kind: .local)] }
        sometimes(6) { $0.disks = [VMDescription.NamedDisk(name: "d", sizeMiB: 1_000, kind: .shared(domain: "ceph"))] }
        sometimes(6) { $0.zones = ["z\(random.below(3))", "z0"] }
        sometimes(6) { $0.required = [VMDescription.NamedSelector("kind", .oneOf(["even"]))] }
        sometimes(3) { $0.labels = [Named("env", random.chance(1, in: 2) ? "prod" : "test")] }
        sometimes(3) { $0.tolerations = [VMDescription.NamedToleration("bad")] }
        sometimes(5) { $0.isolation = .keep }
        sometimes(8) { $0.restart = .never }
        spec.priority = Int32(random.below(3)) - 1
        return spec
    }

    private func askAsOwner() throws {
        let vm = someVM()
        if random.chance(1, in: 2), let id = view.vms.keys.sorted().first(where: mayDropDisks),
            var changed = view.vms[id]?.spec
        {
            let name = "d\(random.below(3))"
            changed.disks = [VMDescription.NamedDisk(name: name, sizeMiB: 1_000, kind: .shared(domain: "ceph"))]
            if random.chance(1, in: 3) { changed.disks = [] }
            try ask(.updateVM(id, changed, generation: nil))
            return
        }
        switch random.below(10) {
        case 0..<4:
            let items = (0...random.below(3)).map { _ in
                names += random.chance(9, in: 10) ? 1 : 0
                return VMCreation(
                    name: "v\(names)", tenant: "t", spec: spec(), power: random.chance(1, in: 8) ? .stopped : .running)
            }
            guard case .items(let results) = try ask(.createVMs(items, isAtomic: random.chance(1, in: 3))) else {
                return
            }
            for case .vm(let id) in results { wanted.insert(id) }
        case 4, 5:
            guard let vm else { return }
            wanted.remove(vm.id)
            try ask(.deleteVM(vm.id, generation: vm.generation))
        case 6:
            guard let vm else { return }
            try ask(.setPower(vm.id, CellVM.Power.allCases[random.below(3)], generation: nil))
        case 7: if let vm { try ask(.restartVM(vm.id)) }
        case 8:
            guard let vm else { return }
            var changed = random.chance(1, in: 2) ? spec() : vm.spec
            changed.resources.cpuMillis = Int64(500 + random.below(6) * 500)
            try ask(.updateVM(vm.id, changed, generation: nil))
        default:
            // Several commands of one entry.
            guard let vm else { return }
            wanted.remove(vm.id)
            let commands: [CellCommand.Operation] = [
                .setPower(vm.id, .stopped, generation: nil), .setPower(vm.id, .running, generation: nil),
                .deleteVM(vm.id, generation: nil),
            ]
            _ = try ask(commands.map { CellCommand(by: "fuzz", $0) })
        }
    }

    /// It may have run with a shared disk, and stands still.
    private func mayDropDisks(_ id: VMID) -> Bool {
        guard let vm = view.vms[id], vm.epochHighest > 0, vm.migration == nil, !vm.isDeleting else { return false }
        return (vm.place == nil || vm.phase == .stopped)
            && vm.spec.disks.contains { $0.kind == .shared(domain: "ceph") }
    }

    /// Sets another reserve now and then, or none.
    private func changeReserve() throws {
        guard level >= FeatureLevel.failoverReserves, reserveRandom.chance(1, in: 25) else { return }
        let reserve = FailoverReserve(
            PlacementGroup.Scope.allCases[reserveRandom.below(3)], 1 + reserveRandom.below(2))
        try ask(.setSetting(.failoverReserve, reserveRandom.chance(1, in: 2) ? 0 : reserve.value))
    }

    /// Says more of hosts than their duty now and then, and goes on with time, so that absences end.
    private func askCare() throws {
        guard level >= FeatureLevel.hostCare, careRandom.chance(1, in: 60) else { return }
        let host = HostID(UInt64(1 + careRandom.below(agents.count)))
        let agent = agents[Int(host.rawValue) - 1]
        switch careRandom.below(7) {
        case 0: try ask(.careForHost(host, .goAway(milliseconds: UInt64(1_000 + careRandom.below(4_000)))))
        case 1: try ask(.careForHost(host, .comeBack))
        case 2: try ask(.careForHost(host, .endAbsence))
        case 3, 4:
            guard let known = view.hosts[host], agent.copies.isEmpty, !agent.isThere else { return }
            try ask(.declareDown(host, known.incarnation))
            // No lease is granted once it is said; agents here know of none.
            if view.hosts[host]?.health == .up { return }
            try ask(.careForHost(host, .declareDead(known.incarnation)))
        default: try ask(.careForHost(host, careRandom.chance(1, in: 2) ? .pauseDrain : .resumeDrain))
        }
    }

    /// The same duty with a word on what comes back, or another word on that.
    private func drawReturn(_ duty: CellHost.Duty) -> HostCare? {
        let returns = HostReturn.allCases[returnRandom.below(3)]
        switch returnRandom.below(8) {
        case 0: return .pauseReturn
        case 1: return .resumeReturn
        case 2: return .endReturn
        case 3, 4: return nil
        default: return duty == .draining ? .drain(returns) : duty == .inService ? .resume(returns) : nil
        }
    }

    private func askAsOperator() throws {
        let host = HostID(UInt64(1 + random.below(agents.count)))
        switch random.below(9) {
        case 0..<3, 8:
            let duty = random.chance(1, in: 2) ? .inService : CellHost.Duty.allCases[random.below(4)]
            if level >= FeatureLevel.hostReturns, let care = drawReturn(duty) {
                _ = try ask(.careForHost(host, care))
                return
            }
            try ask(.setHostDuty(host, duty))
        case 3, 4:
            var policy = HostPolicy()
            if random.chance(1, in: 2) { policy.overcommit.cpuMilli = Int64(500 + random.below(4) * 500) }
            if random.chance(1, in: 2) { policy.reserved.memoryMiB = Int64(random.below(3) * 2_048) }
            if random.chance(1, in: 3) { policy.labels = [Named("kind", "even")] }
            if random.chance(1, in: 5) { policy.taints = [NamedTaint("bad")] }
            try ask(.setHostPolicy(host, policy, generation: nil))
        case 5:
            let quota = Quota(
                vmCount: random.chance(1, in: 2) ? UInt64(10 + random.below(60)) : nil,
                cpuMillis: random.chance(1, in: 2) ? Int64(40_000 + random.below(60_000)) : nil)
            try ask(.setSlice(tenant: "t", revision: Revision(index: index.next, slot: 0), quota))
        case 6: try ask(.setSetting(.brakeMillis, UInt64(300 + random.below(700))))
        default:
            guard random.chance(1, in: 6) else { return }
            // Somebody has pulled the plug, and says so.
            let i = Int(host.rawValue) - 1
            agents[i].isGone = true
            agents[i].copies.removeAll()
            try remove(host)
        }
    }

    /// By force, once its lease has run out.
    private func remove(_ host: HostID) throws {
        if let known = view.hosts[host] { try ask(.declareDown(host, known.incarnation)) }
        try ask(.removeHost(host, isForced: true))
    }

    private func assignment(_ vm: CellVM) -> Assignment {
        let i = random.below(agents.count)
        var assignment = Assignment(host: agents[i].id)
        switch vm.spec.numa {
        case .none: break
        case .nodes(let count): assignment.numaNodes = count == 2 ? [0, 1] : [UInt8(random.below(2))]
        case .fewest: assignment.numaNodes = random.chance(1, in: 3) ? [0, 1] : [UInt8(random.below(2))]
        }
        for wish in vm.spec.devices {
            assignment.devices.append(DeviceUse(device: UInt8(random.below(3)), millis: wish.millis))
        }
        return assignment
    }

    private func control() throws {
        let all = view.vms.keys.sorted().compactMap { view.vms[$0] }
        let waiting = all.filter { $0.place == nil && $0.power != .stopped }
        switch random.below(12) {
        case 0 where waiting.contains { $0.gang > 0 }:
            let gangs = waiting.filter { $0.gang > 0 }
            let gang = gangs[random.below(gangs.count)].gang
            let items = waiting.filter { $0.gang == gang }.map {
                Placing($0.id, generation: $0.generation, assignment($0))
            }
            if case .items(let placed) = try ask(.placeVMs(items, isAtomic: true)), case .vm? = placed.first {
                done["gangs", default: 0] += 1
            }
        case 0..<6:
            if waiting.isEmpty { return }
            let items = (0...random.below(6)).map { _ in
                let vm = waiting[random.below(waiting.count)]
                return Placing(vm.id, generation: vm.generation, assignment(vm))
            }
            try ask(.placeVMs(items, isAtomic: random.chance(1, in: 4)))
        case 6:
            guard let vm = someVM(), let place = vm.place else { return }
            try ask(.releaseVMs([Release(vm.id, epoch: place.epoch, reason: "room")], cause: .preemption))
        case 7, 8:
            let running = all.filter { $0.phase == .running && $0.migration == nil }
            if running.isEmpty { return }
            let vm = running[random.below(running.count)]
            try ask(.beginMigration(vm.id, from: vm.place?.epoch ?? 0, to: assignment(vm), cause: .drain))
        case 9:
            for vm in all {
                guard let migration = vm.migration else { continue }
                if random.chance(1, in: 8) { try ask(.cancelMigration(vm.id, target: migration.target.epoch)) }
                if migration.isCopied { try ask(.commitMigration(vm.id, target: migration.target.epoch)) }
            }
        case 10:
            for vm in all where vm.phase == .crashed {
                let epoch = vm.place?.epoch ?? 0
                try ask(random.chance(1, in: 4) ? .giveUpVM(vm.id, epoch: epoch) : .retryVM(vm.id, epoch: epoch))
            }
        default:
            try ask(.finishDrain(agents[random.below(agents.count)].id))
            try ask(.collectGarbage)
            if let vm = waiting.first { try ask(.explainWaiting([WaitingReason(vm.id, "no room \(random.below(9))")])) }
        }
    }

    /// Everything goes.
    func clear() throws {
        for i in agents.indices where !agents[i].isGone {
            agents[i].isGone = true
            agents[i].copies.removeAll()
            try remove(agents[i].id)
        }
        wanted.removeAll()
        for id in view.vms.keys.sorted() { try ask(.deleteVM(id, generation: nil)) }
        for name in ["anti", "racks", "even", "flat", "close"] { try ask(.deleteGroup(tenant: "t", name: name)) }
        time = time.advanced(by: 48 * 3_600_000)
        for _ in 0..<3 { try ask(.collectGarbage) }
    }
}
