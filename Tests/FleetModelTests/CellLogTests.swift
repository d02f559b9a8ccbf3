import ClusterBase
import FleetModel
import Testing

/// The cell as a replicated log: repetitions, packs, followers, events, bounds, and everything at once.
@Suite struct CellLogTests {
    private func creation(_ name: String, _ spec: VMDescription = CellBench.spec()) -> VMCreation {
        VMCreation(name: name, tenant: "t", spec: spec)
    }

    @Test func `a command with a request id takes effect once, and another command under that id not at all`() throws {
        var cell = try CellBench(hosts: 1)
        let command = CellCommand(
            request: CellBench.request(1), by: "a", .createVMs([creation("a"), creation("b")], isAtomic: false))
        let first = try cell.apply([command])[0]
        #expect(try cell.apply([command, command]) == [first, first])
        // From level 3 on it is the same from whatever address it comes.
        cell.level = FeatureLevel.placelessRequests
        for (by, isSame) in [("a from 10.0.0.1", true), ("a from ::1", true), ("b from 10.0.0.1", false)] {
            let again = CellCommand(
                request: CellBench.request(1), by: by, .createVMs([creation("a"), creation("b")], isAtomic: false))
            #expect(try (cell.apply([again])[0] == first) == isSame, "\(by)")
        }
        let other = CellCommand(request: CellBench.request(1), by: "a", .createVMs([creation("c")], isAtomic: false))
        #expect(try cell.apply([other])[0].outcome == .refused(.requestReused))
        #expect(try cell.rows(.all(.vms)).count == 2 && cell.slice("t")?.requestCount == 1)
        cell.time = cell.time.advanced(by: CellLimits.requestLifetime + 1)
        try cell.must(.collectGarbage)
        #expect(try cell.slice("t")?.requestCount == 0)
        #expect(
            try cell.apply([command])[0].outcome == .items([.refused(.vmNameTaken("a")), .refused(.vmNameTaken("b"))]))
    }

    @Test func `all or nothing leaves nothing of what came before the refused item`() throws {
        var cell = try CellBench(hosts: 1)
        try cell.create("taken")
        let before = cell.state.rows.filter { $0.key != [0x60] && $0.key.first != 0x7B }
        let items = [creation("a"), creation("taken"), creation("b")]
        #expect(
            try cell.apply(.createVMs(items, isAtomic: true))
                == .items([.refused(.anotherItem), .refused(.vmNameTaken("taken")), .refused(.anotherItem)]))
        #expect(cell.state.rows.filter { $0.key != [0x60] && $0.key.first != 0x7B } == before)
        let ids = try [cell.create("x", CellBench.spec(5)), cell.create("y", CellBench.spec(5))]
        let placings = ids.map { Placing($0, generation: 1, Assignment(host: HostID(1))) }
        guard case .items(let refused) = try cell.apply(.placeVMs(placings, isAtomic: true)) else { return }
        #expect(refused[0] == .refused(.anotherItem))
        #expect(try cell.host(1).used == .zero)
        guard case .items(let results) = try cell.apply(.placeVMs(placings, isAtomic: false)) else { return }
        #expect(results[0] == .vm(ids[0]) && results[1] != .vm(ids[1]))
    }

    @Test func `what is not exactly a command is refused and the next one in the pack is done`() throws {
        var cell = try CellBench(hosts: 1)
        let good = CellCommand(by: "a", .createVMs([creation("a")], isAtomic: false)).encoded()
        cell.index = cell.index.next
        let pack = Cell.pack([[1, 2, 3], [], good + [0x80 | 0x08, 0x7D, 1], good], time: nil)
        let results = try Cell.apply(pack: pack, index: cell.index, access: &cell.state)
        #expect(results.prefix(3).allSatisfy { $0.outcome == .refused(.malformed) })
        #expect(results[3].outcome == .items([.vm(VMID(1 << 40 | 1))]))
        cell.index = cell.index.next
        #expect(
            try Cell.apply(pack: [1, 2], index: cell.index, access: &cell.state).map(\.outcome) == [
                .refused(.malformed)
            ])
    }

    @Test func `ids begin with the number of the cell`() throws {
        var state = NaiveState()
        let command = CellCommand(by: "a", .createVMs([creation("a")], isAtomic: false))
        let result = try Cell.apply(
            pack: Cell.pack([command.encoded()], time: nil), index: LogIndex(1), group: GroupID(.cell, number: 3),
            access: &state)
        #expect(result[0].outcome == .items([.vm(VMID(3 << 40 | 1))]))
    }

    @Test func `a follower sees every change and nothing else, and begins again when it fell too far behind`() throws {
        var cell = try CellBench(hosts: 2)
        var view = CellView()
        #expect(try cell.follow(&view).isWhole)
        let id = try cell.running("v", on: 1)
        var changes = try cell.follow(&view)
        #expect(Set(changes.vms) == [id] && changes.hosts.contains(HostID(1)) && !changes.hosts.contains(HostID(2)))
        #expect(try view.vms[id] == cell.vm(id) && view.hosts[HostID(1)] == cell.host(1))
        try cell.must(.setSetting(.policy, 3))
        _ = try cell.follow(&view)
        #expect(view[.policy] == 3)
        try cell.must(.setSetting(.policy, 1))
        try cell.must(.deleteVM(id, generation: nil))
        try cell.report(id, .stopped)
        changes = try cell.follow(&view)
        #expect(view.vms.isEmpty && changes.vms == [id] && view[.policy] == 1)
        #expect(
            try cell.read(.changes(since: LogIndex(cell.index.rawValue + 9), limit: 0)).body
                == .changes([], through: cell.index))
    }

    @Test func `lists come in pages that miss and repeat nothing`() throws {
        var cell = try CellBench(hosts: 1)
        _ = try cell.apply(.createVMs((0..<25).map { creation("v\($0)") }, isAtomic: false))
        for query in [
            { CellQuery.list(.vms, after: $0, limit: 7) },
            { CellQuery.vmsOfTenant("t", after: $0?.bigEndian64(at: 0).map { VMID($0) }, limit: 7) },
        ] as [([UInt8]?) -> CellQuery] {
            var found: [CellRow] = []
            var after: [UInt8]?
            repeat {
                guard case .rows(let rows, let next) = try cell.read(query(after)).body else { return }
                #expect(rows.count <= 7)
                found += rows
                after = next
            } while after != nil
            #expect(found.count == 25 && Set(found.map(\.key)).count == 25)
        }
    }

    @Test func `the audit has who asked for what, from where, and what was refused`() throws {
        var cell = try CellBench(hosts: 1)
        _ = try cell.apply(.setHostDuty(HostID(1), .cordoned), by: "eve from 10.0.0.7")
        _ = try cell.apply(.removeHost(HostID(1), isForced: false), by: "eve from 10.0.0.7")
        _ = try cell.apply(.createVMs([creation("a"), creation("a"), creation("Bad")], isAtomic: false), by: "bob")
        _ = try cell.apply(.declareDown(HostID(9), Incarnation(1)), by: "controller")
        let audit = try cell.events().filter(\.isAudit)
        #expect(audit.map(\.kind) == ["host.cordoned", "refused", "vm.created", "refused"])
        #expect(audit.map(\.by) == ["eve from 10.0.0.7", "eve from 10.0.0.7", "bob", "bob"])
        #expect(audit[1].text.contains("remove a host: host 1 is up"))
        #expect(audit[3].text.contains("2 of 3"))
    }

    @Test func `events are bounded, and pages of them miss nothing that is left`() throws {
        var cell = CellBench()
        var made: UInt64 = 0
        while made <= CellLimits.eventsMax {
            var commands: [CellCommand] = []
            for i in 0..<250 as Range<UInt64> {
                commands.append(CellCommand(by: "a", .setSetting(.moveCooldown, made + i)))
            }
            _ = try cell.apply(commands)
            made += 250
        }
        let events = try cell.events()
        #expect(events.count <= Int(CellLimits.eventsMax) && events.count > Int(CellLimits.eventsMax) - 500)
        #expect(zip(events, events.dropFirst()).allSatisfy { $0.revision < $1.revision })
        #expect(events.last?.text == "move-cooldown from \(made - 2) to \(made - 1)")

        // Who goes on from before what is left is told so; what is left begins behind what it is told.
        func after(_ revision: Revision) throws -> CellAnswer.Body {
            try Cell.read(.events(after: revision, vm: nil, host: nil, limit: 1), cell.state).body
        }
        guard case .compacted(let through) = try after(Revision(index: LogIndex(1), slot: 3)) else {
            Issue.record("a gap is passed over in silence")
            return
        }
        #expect(through.next == events.first?.revision.index)
        guard case .events(let rest, _) = try after(.end(of: through)) else {
            Issue.record("what is left is refused")
            return
        }
        #expect(rest.first == events.first)
    }

    @Test func `a VM's events are followed without a gap beyond those that its row names`() throws {
        var cell = try CellBench(hosts: 1)
        _ = try cell.apply(.createVMs([VMCreation(name: "v", tenant: "t", spec: CellBench.spec())], isAtomic: false))
        _ = try cell.apply(.createVMs([VMCreation(name: "w", tenant: "t", spec: CellBench.spec())], isAtomic: false))
        let all = try cell.events()
        let made = try #require(all.first { $0.kind == "vm.created" && $0.vm == "v" })
        let id = try #require(made.vmID)
        for i in 0..<(3 * CellLimits.eventsPerVMMax) {
            try cell.must(.setPower(id, i % 2 == 0 ? .stopped : .running, generation: nil))
            if i % 5 == 0 { try cell.must(.setSetting(.moveCooldown, UInt64(i))) }
        }
        func follow(from start: Revision, limit: Int) throws -> [CellEvent] {
            var (found, after): ([CellEvent], Revision) = ([], start)
            while true {
                let body = try cell.read(.events(after: after, vm: id, host: nil, limit: limit)).body
                guard case .events(let events, let resume) = body else {
                    Issue.record("\(body)")
                    return found
                }
                found += events
                guard let resume else { return found }
                #expect(resume > after)
                after = resume
            }
        }
        let expected = try cell.events().filter { $0.vmID == id && $0.revision > made.revision }
        #expect(expected.count > 2 * CellLimits.eventsPerVMMax)
        for limit in [1, 7, 0] { #expect(try follow(from: made.revision, limit: limit) == expected) }
        // From a later place the row's own are enough; whoever begins gets the last ones.
        let late = expected[expected.count - 3].revision
        #expect(try follow(from: late, limit: 0) == Array(expected.suffix(2)))
        let last = try follow(from: .zero, limit: 0)
        #expect(last == Array(expected.suffix(last.count)) && last.count >= CellLimits.eventsPerVMMax)
    }

    @Test func `every setting has a range and a name of its own`() throws {
        var cell = try CellBench(hosts: 1)
        cell.level = FeatureLevel.newest
        for setting in CellSetting.shown {
            #expect(setting.allows(setting.standard) && CellSetting.named(setting.name) == setting)
            #expect(try cell.refusal(.setSetting(setting, .max)) == .settingOutOfRange(setting))
        }
    }

    @Test func `every refusal says something, and is read back as it was`() {
        let all: [CellRefusal] =
            [
                .malformed, .unknownVersion(7), .invalid(field: "name", "x"), .requestReused, .anotherItem,
                .unknownHost(HostID(1)), .hostRemoved(HostID(1)), .unknownVM(VMID(2)), .unknownGroup("g"),
                .hostNameTaken("h"), .vmNameTaken("v"), .groupInUse("g"), .generationChanged(3),
                .incarnationOutdated(HostID(1)), .hostInUse(HostID(1)), .hostIsUp(HostID(1)),
                .quotaExceeded(tenant: "t", resource: "cpu", limit: 1, used: 2, asked: 3),
                .doesNotFit(HostID(1), "rule"),
                .hostTakesNone(HostID(1), .draining), .notWaiting(VMID(1)), .epochOutdated(VMID(1)),
                .isDeleting(VMID(1)),
                .migrationUnderWay(VMID(1)), .noMigration(VMID(1)), .notRunning(VMID(1)), .boundToHost(VMID(1)),
                .settingOutOfRange(.policy), .brakeHolds,
            ] + (1...10).compactMap { CellRefusal.Bound(rawValue: $0).map { .tooMany($0) } }
        for refusal in all {
            let result = CellResult(revision: Revision(300), outcome: .items([.refused(refusal), .vm(VMID(4))]))
            #expect(CellResult.decode(result.encoded()) == result)
            #expect(refusal.description.count > 4)
        }
        #expect(all.filter { if case .tooMany = $0 { true } else { false } }.count == 10)
    }

    // MARK: Everything at once

    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func `whatever is asked in whatever order, room, quotas, rules and indexes hold, and nothing runs twice`(
        seed: UInt64
    ) throws {
        let world = try CellWorld(seed: seed)
        for _ in 0..<600 { try world.step() }
        for _ in 0..<2_000 where world.checker.drops == 0 { try world.step() }
        var copy = NaiveState()
        for (i, pack) in world.log.enumerated() {
            _ = try Cell.apply(pack: pack, index: LogIndex(UInt64(i + 1)), access: &copy)
        }
        #expect(copy == world.state, "a replay ends in another state")
        #expect(world.done["placeVMs", default: 0] > 10, "\(world.done)")
        for what in ["some changed", "rows left out", "other rows"] {
            #expect(world.done[what, default: 0] > 50, "\(what): \(world.done)")
        }
        for what in ["foretold changes", "foretold refusals"] {
            #expect(world.done[what, default: 0] > 5, "\(what): \(world.done)")
        }
        #expect(world.checker.drops > 0, "no VM dropped a shared disk")
        #expect(world.checker.reserveSteps > 10, "no reserve was kept")
        try world.clear()
        let gone = world.state.rows.filter { $0.key.first == CellTable.remains.kind }.compactMap {
            CellRemains.decode($0.value)
        }
        #expect(try world.ask(.dropRemains(gone.map { CellRemains.Left($0.vm, $0.disks) })) == .done)
        // The summary, removed hosts, what the root lent, settings, history and events.
        #expect(try world.ask(.setSetting(.failoverReserve, 0)) == .done)
        let left = world.state.rows.filter { ![0x60, 0x61, 0x64, 0x65, 0x7A, 0x7B].contains($0.key.first ?? 0) }
        #expect(left.isEmpty, "\(left.map(\.key))")
        #expect(world.view.hosts.values.allSatisfy { $0.used == .zero && $0.vmCount == 0 })
        #expect(world.view.slices.values.allSatisfy { $0.used == .zero && $0.usedCount == 0 && $0.groupCount == 0 })
    }
}
