import ClusterBase
import FleetModel
import Testing

/// What operators say of hosts beside their duty.
@Suite struct HostCareTests {
    private func bench(hosts: Int = 2) throws -> CellBench {
        var cell = try CellBench(hosts: hosts)
        cell.level = FeatureLevel.hostCare
        return cell
    }

    private func isOtherwise(_ refusal: CellRefusal?) -> Bool {
        if case .hostIsOtherwise? = refusal { true } else { false }
    }

    @Test func `every care is read back as it was, and wants its feature level`() throws {
        let cares: [HostCare] = [.pauseDrain, .resumeDrain]
        for care in cares {
            let command = CellCommand(by: "a", .careForHost(HostID(7), care))
            #expect(try CellCommand.decode(command.encoded()).get() == command)
            #expect(throws: CellRefusal.malformed) {
                try CellCommand.decode(command.encoded(), level: FeatureLevel.hostCare - 1).get()
            }
        }
        let refusal = CellRefusal.hostIsOtherwise(HostID(7), "is up")
        let result = CellResult(revision: Revision(300), outcome: .refused(refusal))
        #expect(CellResult.decode(result.encoded()) == result)
        #expect(refusal.sentence(host: { _ in "h7" }, vm: { "\($0)" }) == "host h7 is up")
    }

    @Test func `a drain is paused and goes on, and nothing else is`() throws {
        var cell = try bench()
        let pause = CellCommand.Operation.careForHost(HostID(1), .pauseDrain)
        #expect(isOtherwise(try cell.refusal(pause)))
        try cell.must(.setHostDuty(HostID(1), .draining))
        let generation = try cell.host(1).generation
        for _ in 0..<2 { try cell.must(pause) }
        #expect(try cell.host(1).isDrainPaused && cell.host(1).generation == generation + 1)
        #expect(try cell.host(1).state == .draining, "nothing comes")
        #expect(isOtherwise(try cell.refusal(.finishDrain(HostID(1)))), "whoever paused it has something in mind")
        #expect(isOtherwise(try cell.refusal(.setHostDuty(HostID(1), .draining))))
        // Read from the rows as another replica has them.
        #expect(CellHost.decode(try cell.host(1).encoded())?.isDrainPaused == true)
        try cell.must(.careForHost(HostID(1), .resumeDrain))
        #expect(try !cell.host(1).isDrainPaused)
        try cell.must(.finishDrain(HostID(1)))
        #expect(isOtherwise(try cell.refusal(pause)), "it is over")
        #expect(try cell.refusal(.careForHost(HostID(9), .pauseDrain)) == .unknownHost(HostID(9)))
    }

    @Test func `a host that is taken back is paused in nothing, and its next drain goes on`() throws {
        var cell = try bench()
        for duty in [CellHost.Duty.inService, .cordoned, .maintenance] {
            try cell.must(.setHostDuty(HostID(1), .draining))
            try cell.must(.careForHost(HostID(1), .pauseDrain))
            try cell.must(.setHostDuty(HostID(1), duty))
            #expect(try !cell.host(1).isDrainPaused)
        }
    }
}
