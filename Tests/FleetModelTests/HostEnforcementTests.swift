import ClusterBase
import FleetModel
import Testing

/// A host's policy that is enforced.
@Suite struct HostEnforcementTests {
    private let less = HostPolicy(reserved: Resources(cpuMillis: 1_000))

    private func bench() throws -> CellBench {
        var cell = try CellBench(hosts: 2)
        cell.level = FeatureLevel.enforcement
        return cell
    }

    private func set(_ policy: HostPolicy, _ isEnforced: Bool) -> CellCommand.Operation {
        .setHostPolicy(HostID(1), policy, generation: nil, isEnforced: isEnforced)
    }

    @Test func `every word on it is read back as it was, and wants its feature level`() throws {
        let place = Assignment(host: HostID(2))
        let operations: [CellCommand.Operation] = [
            set(less, true), .careForHost(HostID(1), .endEnforcement),
            .beginMigration(VMID(3), from: 1, to: place, cause: .capacity),
        ]
        for operation in operations {
            let command = CellCommand(by: "a", operation)
            #expect(try CellCommand.decode(command.encoded()).get() == command)
            #expect(throws: CellRefusal.malformed) {
                try CellCommand.decode(command.encoded(), level: FeatureLevel.enforcement - 1).get()
            }
        }
        #expect(set(less, false).level == FeatureLevel.oldest)
    }

    @Test func `it is in the host's row until a controller ends it, or somebody sets the host without it`() throws {
        var cell = try bench()
        try cell.must(set(less, true))
        #expect(try cell.host(1).isEnforced)
        #expect(CellHost.decode(try cell.host(1).encoded()) == (try cell.host(1)))
        let generation = try cell.host(1).generation
        try cell.must(set(less, true))
        #expect(try cell.host(1).generation == generation, "the same again changes nothing")
        try cell.must(set(less, false))
        #expect(try !cell.host(1).isEnforced && cell.host(1).generation == generation + 1)
        try cell.must(set(less, true))
        try cell.must(.careForHost(HostID(1), .endEnforcement))
        #expect(try !cell.host(1).isEnforced)
        let told = try cell.events(host: 1).filter { $0.kind == "host.enforced" }.map(\.text)
        #expect(
            told == [
                "what may not stay there is moved away", "no more moves off it begin for that",
                "what may not stay there is moved away", "all that is there may stay",
            ])
    }

    @Test func `a drain, whose moves are of all, takes its place`() throws {
        var cell = try bench()
        try cell.must(set(less, true))
        try cell.must(.setHostDuty(HostID(1), .draining))
        #expect(try !cell.host(1).isEnforced)
    }

    @Test func `what is new is written as another implementation writes it`() throws {
        let target = Assignment(
            host: HostID(7), numaNodes: [0, 1], devices: [DeviceUse(device: 2, millis: 500)])
        let commands = [
            CellCommand(
                by: "admin",
                .setHostPolicy(
                    HostID(7), HostPolicy(reserved: Resources(cpuMillis: 1_000)), generation: 4, isEnforced: true)),
            CellCommand(by: "controller", .careForHost(HostID(7), .endEnforcement)),
            CellCommand(
                by: "controller", .beginMigration(VMID(1 << 40), from: 3, to: target, cause: .capacity)),
        ]
        let bytes = try SpaceWireTests().golden("cell-enforcement-v3")
        #expect(Cell.pack(commands.map { $0.encoded() }, level: 3, time: LogTime(1_700_000_000_000)) == bytes)
    }
}
