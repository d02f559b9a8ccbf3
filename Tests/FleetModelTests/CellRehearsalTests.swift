import ClusterBase
import FleetModel
import Testing

/// What a cell says that commands would do.
@Suite struct CellRehearsalTests {
    private func bench(hosts: Int = 2) throws -> CellBench {
        var cell = CellBench()
        cell.level = FeatureLevel.newest
        for host in 1...UInt64(hosts) { try cell.register(host) }
        return cell
    }

    private func rehearse(
        _ operations: [CellCommand.Operation], _ cell: CellBench, level: UInt32 = FeatureLevel.newest
    ) throws -> CellAnswer.Body {
        let commands = operations.map { CellCommand(by: "test", $0).encoded() }
        return try cell.read(.rehearsal(commands, cell: 1, level: level)).body
    }

    /// Rehearses a command, and has it carried out: both are the same, and the rehearsal has changed nothing.
    private func both(
        _ operation: CellCommand.Operation, _ cell: inout CellBench, _ location: SourceLocation = #_sourceLocation
    ) throws -> CellAnswer.Body {
        let (state, index) = (cell.state, cell.index)
        let said = try rehearse([operation], cell)
        #expect(cell.state == state && cell.index == index, sourceLocation: location)
        let outcome = try cell.apply(operation)
        switch said {
        case .refused(let refusal): #expect(outcome == .refused(refusal), sourceLocation: location)
        case .rows(let rows, _):
            #expect(outcome == .done, sourceLocation: location)
            #expect(rows.count % 2 == 0, sourceLocation: location)
            for pair in stride(from: 0, to: rows.count, by: 2) {
                let (before, after) = (rows[pair], rows[pair + 1])
                #expect(before.key == after.key, sourceLocation: location)
                #expect(try before.value == state.value(for: before.key), sourceLocation: location)
                #expect(try after.value == cell.state.value(for: after.key), sourceLocation: location)
            }
        default: Issue.record("\(said)", sourceLocation: location)
        }
        return said
    }

    @Test func `a rehearsal says what the command does, row for row, or refuses what it refuses`() throws {
        var cell = try bench()
        let web = try cell.running("web", on: 1)
        let idle = try cell.create("idle", power: .stopped)
        var large = CellBench.spec()
        large.resources.memoryMiB = 4_096
        large.labels = [Named("env", "prod")]
        let huge = CellBench.spec(64)
        for operation: CellCommand.Operation in [
            .updateVM(web, large, generation: 7), .updateVM(web, huge, generation: nil),
            .updateVM(web, large, generation: nil), .updateVM(web, large, generation: nil),
            .setSetting(.policy, 2), .setSetting(.policy, 2), .setSetting(.policy, 99),
            .setSetting(.leaseLength, 9_000),
            .setSetting(.policy, CellSetting.policy.standard),
            .beginMigration(web, from: 9, to: Assignment(host: HostID(2)), cause: .asked),
            .beginMigration(
                web, from: try cell.vm(web).place?.epoch ?? 0, to: Assignment(host: HostID(2)), cause: .asked),
            .moveVM(web, to: 2, request: [], keepsName: false), .moveVM(idle, to: 2, request: [], keepsName: false),
            .deleteVM(idle, generation: nil), .deleteVM(VMID(99), generation: nil),
            .deleteVM(web, generation: 1), .deleteVM(web, generation: nil), .deleteVM(web, generation: nil),
        ] {
            _ = try both(operation, &cell)
        }
        #expect(try cell.vm(web).isDeleting)
    }

    @Test func `what would go with a VM is named, and is still there`() throws {
        var cell = try bench()
        let idle = try cell.create("idle", power: .stopped)
        let before = cell.state
        guard case .rows(let rows, _) = try rehearse([.deleteVM(idle, generation: nil)], cell) else {
            Issue.record("it was refused")
            return
        }
        let contents = rows.compactMap(\.content)
        var vms: [CellVM?] = []
        for content in contents { if case .vm(idle, let vm) = content { vms.append(vm) } }
        #expect(vms.map { $0?.name } == ["idle", nil])
        #expect(contents.contains { if case .tombstone(idle, _?) = $0 { true } else { false } })
        #expect(cell.state == before)
        #expect(try cell.vm(idle).name == "idle")
    }

    @Test func `commands are tried one after the other, and the first refusal is the answer`() throws {
        let cell = try bench()
        guard
            case .rows(let rows, _) = try rehearse(
                [.setSetting(.migrationsMax, 3), .setSetting(.migrationsMax, 4)], cell)
        else {
            Issue.record("it was refused")
            return
        }
        #expect(rows.compactMap(\.content) == [.setting(.migrationsMax, nil), .setting(.migrationsMax, 4)])
        let refused = try rehearse([.setSetting(.migrationsMax, 3), .setSetting(.policy, 99)], cell)
        #expect(refused == .refused(.settingOutOfRange(.policy)))
    }

    @Test func `a creation is refused beforehand for what it would be refused for, and makes nothing`() throws {
        var cell = try bench()
        try cell.create("a")
        try cell.must(.setSlice(tenant: "t", revision: Revision(20), Quota(vmCount: 2)))
        func create(_ name: String, _ tenant: String = "t", groups: [String] = []) -> CellCommand.Operation {
            var spec = CellBench.spec()
            spec.groups = groups
            return .createVMs([VMCreation(name: name, tenant: tenant, spec: spec)], isAtomic: false)
        }
        #expect(try rehearse([create("a")], cell) == .refused(.vmNameTaken("a")))
        #expect(try rehearse([create("b", groups: ["none"])], cell) == .refused(.unknownGroup("none")))
        #expect(try rehearse([create("b", "nobody")], cell) == .refused(.unknownTenant("nobody")))
        let before = cell.state
        guard case .rows(let rows, _) = try rehearse([create("b")], cell) else {
            Issue.record("it was refused")
            return
        }
        #expect(rows.contains { if case .vm(_, let vm?)? = $0.content { vm.name == "b" } else { false } })
        #expect(cell.state == before)
    }

    @Test func `what is no command that people ask about first is no rehearsal`() throws {
        var cell = try bench()
        let id = try cell.create("a")
        let before = cell.state
        let settings = [CellCommand.Operation](repeating: .setSetting(.policy, 2), count: CellLimits.rehearsedMax)
        if case .rows = try rehearse(settings, cell) {} else { Issue.record("the bound is refused") }
        for wrong: [CellCommand.Operation] in [
            [], settings + [.setSetting(.policy, 2)], [.collectGarbage],
            [
                .createVMs(
                    ["b", "c"].map { VMCreation(name: $0, tenant: "t", spec: CellBench.spec()) }, isAtomic: false)
            ],
            [.placeVMs([Placing(id, generation: 1, Assignment(host: HostID(1)))], isAtomic: false)],
        ] {
            #expect(try rehearse(wrong, cell) == .refused(.malformed))
        }
        let delete = CellCommand.Operation.deleteVM(id, generation: nil)
        for level in [0, FeatureLevel.rehearsals - 1, FeatureLevel.newest + 1] {
            #expect(try rehearse([delete], cell, level: level) == .refused(.malformed))
        }
        let kept = CellCommand(request: CellBench.request(1), by: "test", delete)
        for bytes in [kept.encoded(), [1, 2, 3]] {
            let answer = try cell.read(.rehearsal([bytes], cell: 1, level: FeatureLevel.newest))
            #expect(answer.body == .refused(.malformed))
        }
        #expect(cell.state == before)
    }
}
