import ClusterBase
import Testing

@testable import FleetModel

/// Changes that ask for a generation, and commands that come again under their key.
@Suite struct CellPreconditionTests {
    private func bench() throws -> (CellBench, VMID) {
        var cell = CellBench()
        cell.level = FeatureLevel.newest
        for host: UInt64 in 1...3 { try cell.register(host) }
        let id = try cell.create("a")
        try cell.place(id, on: 1)
        try cell.report(id, .running)
        return (cell, id)
    }

    private func outcome(
        _ cell: inout CellBench, _ operation: CellCommand.Operation, _ generation: UInt64?, key: UInt8? = nil,
        by: String = "ann"
    ) throws -> CellResult.Outcome {
        let command = CellCommand(
            request: key.map { CellBench.request($0) }, by: by, generation: generation, operation)
        return try cell.apply([command])[0].outcome
    }

    @Test func `what is about a VM or a host is not done where it has another generation`() throws {
        var (cell, id) = try bench()
        let now = try cell.vm(id).generation
        let host = try cell.host(2)
        let move = CellCommand.Operation.beginMigration(
            id, from: try #require(cell.vm(id).place?.epoch), to: Assignment(host: HostID(2)), cause: .asked)
        let changes: [(CellCommand.Operation, UInt64)] = [
            (.restartVM(id), now), (move, now), (.setHostDuty(HostID(2), .cordoned), host.generation),
            (.removeHost(HostID(2), isForced: false), host.generation),
        ]
        for (operation, generation) in changes {
            let before = try cell.vm(id)
            #expect(
                try outcome(&cell, operation, generation + 1) == .refused(.generationChanged(generation)),
                "\(operation)")
            #expect(try cell.vm(id).place == before.place && cell.vm(id).migration == nil)
        }
        #expect(try cell.host(2).policy == host.policy && cell.host(2).state == host.state)
        #expect(try outcome(&cell, .setHostDuty(HostID(2), .cordoned), host.generation) == .done)
        #expect(try outcome(&cell, .setHostDuty(HostID(2), .inService), nil) == .done)
        #expect(try outcome(&cell, move, now) == .done)
        let target = try #require(try cell.vm(id).migration?.target.epoch)
        let cancel = CellCommand.Operation.cancelMigration(id, target: target)
        #expect(try outcome(&cell, cancel, now + 1) == .refused(.generationChanged(now)))
        #expect(try cell.vm(id).migration?.phase == .copying)
        #expect(try outcome(&cell, cancel, now) == .done)
    }

    @Test func `a generation means nothing where none is judged, and nothing at all to an older cluster`() throws {
        var (cell, _) = try bench()
        guard case .refused(.invalid(field: "generation", _)) = try outcome(&cell, .noteTime, 1) else {
            Issue.record("it was done")
            return
        }
        cell.level = FeatureLevel.cells - 1
        #expect(try outcome(&cell, .noteTime, 1) == .refused(.malformed))
        #expect(try outcome(&cell, .noteAdvice("a move"), nil) == .refused(.malformed))
        #expect(try outcome(&cell, .setSetting(.migrationsPerLinkMax, 2), nil) == .refused(.malformed))
    }

    private func known(_ cell: CellBench, _ operation: CellCommand.Operation, key: UInt8) throws -> CellAnswer {
        let command = CellCommand(request: CellBench.request(key), by: "ann", operation)
        return try Cell.read(.repetition(command.encoded()), cell.state)
    }

    @Test func `a move that is asked for again under its key has the first answer, whatever host would be chosen now`()
        throws
    {
        var (cell, id) = try bench()
        let epoch = try #require(try cell.vm(id).place?.epoch)
        func move(_ host: UInt64, from: UInt64) -> CellCommand.Operation {
            .beginMigration(id, from: from, to: Assignment(host: HostID(host)), cause: .asked)
        }
        #expect(try known(cell, move(0, from: 0), key: 7).repeated == nil)
        #expect(try outcome(&cell, move(2, from: epoch), nil, key: 7, by: "ann from 10.0.0.1:5") == .done)
        #expect(try known(cell, move(0, from: 0), key: 7).repeated?.outcome == .done)
        #expect(try outcome(&cell, move(3, from: epoch), nil, key: 7, by: "ann from 10.0.0.2:9") == .done)
        #expect(try cell.vm(id).migration?.target.assignment.host == HostID(2), "it goes where it went")
        #expect(try known(cell, .restartVM(id), key: 7).body == .refused(.requestReused))
        // The controller's moves are what they are.
        let drain = CellCommand.Operation.beginMigration(
            id, from: epoch, to: Assignment(host: HostID(3)), cause: .drain)
        #expect(try outcome(&cell, drain, nil, key: 7) == .refused(.requestReused))
    }

    @Test func `a deletion that is asked for again has the first answer when the VM is gone`() throws {
        var (cell, id) = try bench()
        let delete = CellCommand.Operation.deleteVM(id, generation: nil)
        #expect(try outcome(&cell, delete, nil, key: 9) == .done)
        try cell.report(id, .stopped)
        #expect(try cell.rows(.vm(id)).isEmpty, "it is gone")
        #expect(try known(cell, delete, key: 9).repeated?.outcome == .done)
        #expect(try known(cell, delete, key: 8).repeated == nil)
    }

    @Test func `what is new in commands and queries is written as another implementation writes it`() throws {
        let commands = [
            CellCommand(by: "admin", generation: 300, .restartVM(VMID(7))),
            CellCommand(by: "controller", .noteAdvice("a from h1 to h2")),
            CellCommand(by: "admin", .setSetting(.migrationsPerLinkMax, 300)),
        ]
        let bytes = try SpaceWireTests().golden("cell-balance-v3")
        #expect(Cell.pack(commands.map { $0.encoded() }, level: 3, time: LogTime(1_700_000_000_000)) == bytes)
        for command in commands {
            #expect(try CellCommand.decode(command.encoded(), level: 3).get() == command)
            #expect(CellCommand.decode(command.encoded(), level: 2) == .failure(.malformed))
        }
        let query = CellQuery.repetition(commands[0].encoded())
        let known = try SpaceWireTests().golden("cell-repetition-v3")
        #expect(query.encoded() == known && CellQuery.decode(known) == query)
    }

    @Test func `the audit calls hosts and VMs in refusals by their names`() throws {
        var (cell, id) = try bench()
        _ = try outcome(&cell, .removeHost(HostID(1), isForced: false), nil)
        _ = try outcome(&cell, .cancelMigration(id, target: 9), nil)
        let found = try Cell.read(.events(after: .zero, vm: nil, host: nil, limit: 0), cell.state)
        guard case .events(let events, _) = found.body else { return #expect(Bool(false)) }
        let texts = events.filter { $0.kind == "refused" }.map(\.text)
        #expect(texts.count == 2 && texts[0].contains("host h1") && texts[1].contains("VM a "), "\(texts)")
    }

    @Test func `a host reserves no more than it has`() throws {
        var (cell, _) = try bench()
        var policy = HostPolicy()
        policy.reserved = Resources(cpuMillis: 0, memoryMiB: 16_385)
        guard
            case .invalid(field: "reserved", let text)? = try cell.refusal(
                .setHostPolicy(HostID(1), policy, generation: nil))
        else {
            Issue.record("it was taken")
            return
        }
        #expect(text.contains("16384"), "\(text)")
        policy.reserved = Resources(cpuMillis: 8_000, memoryMiB: 16_384)
        try cell.must(.setHostPolicy(HostID(1), policy, generation: nil))
    }
}
