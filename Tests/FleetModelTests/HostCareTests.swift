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
        let cares: [HostCare] = [
            .pauseDrain, .resumeDrain, .goAway(milliseconds: 60_000), .comeBack, .endAbsence,
            .declareDead(Incarnation(4)),
        ]
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

    // MARK: Planned absence

    private func goAway(_ host: UInt64 = 1, _ milliseconds: UInt64 = 60_000) -> CellCommand.Operation {
        .careForHost(HostID(host), .goAway(milliseconds: milliseconds))
    }

    private func down(_ host: UInt64 = 1, silence: UInt64 = 4_000) -> CellCommand.Operation {
        .declareDown(HostID(host), Incarnation(1), silence: silence)
    }

    @Test func `what runs on a host that is away waits for it, nothing is lost, and it starts there again`() throws {
        var cell = try bench()
        let id = try cell.running("a", on: 1)
        var keeps = CellBench.spec()
        keeps.isolation = .keep
        let kept = try cell.running("k", on: 1, keeps)
        var never = CellBench.spec()
        never.restart = .never
        let once = try cell.running("n", on: 1, never)
        try cell.must(goAway())
        #expect(try cell.host(1).state == .cordoned && cell.host(1).health == .up, "nothing new comes")
        try cell.must(down())
        #expect(try cell.host(1).health == .away && cell.host(1).state == .down)
        for vm in [id, kept, once] {
            let row = try cell.vm(vm)
            #expect(row.phase == .unknown && row.place?.assignment.host == HostID(1) && row.lostAt == .zero)
            #expect(row.message == "its host is away, and is to come back")
        }
        #expect(isOtherwise(try cell.refusal(down())), "its time is not over")
        #expect(isOtherwise(try cell.refusal(.careForHost(HostID(1), .comeBack))), "it is not heard")
        #expect(isOtherwise(try cell.refusal(.removeHost(HostID(1), isForced: false))))
        try cell.register(1, incarnation: 2, running: [RunningVM(kept, epoch: 1)])
        #expect(try cell.host(1).health == .up && cell.host(1).awayUntil == .zero && cell.host(1).state == .ready)
        #expect(try cell.vm(id).phase == .starting && cell.vm(id).place?.epoch == 2)
        #expect(try cell.vm(kept).phase == .running && cell.vm(kept).place?.epoch == 1)
        #expect(try cell.vm(once).phase == .crashed)
        let kinds = try cell.events(host: 1).map(\.kind)
        #expect(kinds.contains("host.away") && kinds.contains("host.absent") && !kinds.contains("host.down"))
    }

    @Test func `the brake counts no host that is away, and an absence that is over is a loss from then on`() throws {
        var cell = try bench(hosts: 4)
        let id = try cell.running("a", on: 1)
        for host in [1, 2, 3] as [UInt64] {
            try cell.must(goAway(host))
            try cell.must(down(host))
        }
        try cell.must(.declareDown(HostID(4), Incarnation(1)))
        try cell.register(4, incarnation: 2)
        cell.time = cell.time.advanced(by: 59_000)
        #expect(isOtherwise(try cell.refusal(down())))
        cell.time = cell.time.advanced(by: 1_000)
        try cell.must(down(1, silence: 64_000))
        #expect(try cell.host(1).health == .down && cell.host(1).awayUntil == .zero)
        #expect(try cell.vm(id).phase == .waiting && cell.vm(id).lostAt == cell.time, "before that it was to be away")
        try cell.must(down(2))
        #expect(try cell.refusal(down(3)) == .brakeHolds)
    }

    @Test func `an absence ends when it is called off, when it never began, and no other way`() throws {
        var cell = try bench()
        #expect(isOtherwise(try cell.refusal(.careForHost(HostID(1), .comeBack))))
        for milliseconds in [0, 999, 86_400_001] as [UInt64] {
            #expect(
                try cell.refusal(goAway(1, milliseconds))
                    == .invalid(field: "seconds", "a host may be away for 1 s up to 24 h"))
        }
        try cell.must(goAway())
        try cell.must(.careForHost(HostID(1), .comeBack))
        #expect(try cell.host(1).state == .ready)
        try cell.must(goAway())
        try cell.must(.setHostDuty(HostID(1), .inService))
        #expect(try cell.host(1).state == .ready, "whoever takes it back wants it to take VMs")
        try cell.must(goAway())
        #expect(isOtherwise(try cell.refusal(.careForHost(HostID(1), .endAbsence))))
        // The same process registers, with another description: that is no return.
        try cell.register(1, CellBench.about(1, cores: 16))
        #expect(try cell.host(1).awayUntil > .zero)
        cell.time = cell.time.advanced(by: 60_000)
        try cell.must(.careForHost(HostID(1), .endAbsence))
        #expect(try cell.host(1).state == .ready && cell.host(1).awayUntil == .zero)
        try cell.must(down())
        #expect(try cell.host(1).health == .down)
        #expect(isOtherwise(try cell.refusal(goAway())), "its VMs were given up")
    }

    @Test func `what is being deleted leaves a host that is away, and a move to it has failed`() throws {
        var cell = try bench(hosts: 3)
        let gone = try cell.running("gone", on: 1)
        let moves = try cell.running("moves", on: 2)
        try cell.must(.beginMigration(moves, from: 1, to: Assignment(host: HostID(1)), cause: .asked))
        try cell.must(.deleteVM(gone, generation: nil))
        try cell.must(goAway())
        try cell.must(down())
        #expect(try cell.find(gone) == nil)
        #expect(try cell.vm(moves).migration == nil && cell.vm(moves).phase == .running)
    }

    // MARK: Declared dead

    private func dead(_ host: UInt64 = 1, _ incarnation: UInt64 = 1) -> CellCommand.Operation {
        .careForHost(HostID(host), .declareDead(Incarnation(incarnation)))
    }

    @Test
    func
        `a host that is declared dead is given up with its lease, all that can starts elsewhere, and no brake holds it`()
        throws
    {
        var cell = try bench(hosts: 4)
        let id = try cell.running("a", on: 3)
        var keeps = CellBench.spec()
        keeps.isolation = .keep
        let kept = try cell.running("k", on: 3, keeps)
        var local = CellBench.spec()
        local.disks = [.init(name: "d", sizeMiB: 100, kind: .local)]
        let bound = try cell.running("b", on: 3, local)
        for host in [1, 2] as [UInt64] { try cell.must(down(host)) }
        #expect(try cell.refusal(down(3)) == .brakeHolds)
        #expect(try cell.refusal(dead(3, 2)) == .incarnationOutdated(HostID(3)), "another process is meant")
        for _ in 0..<2 { try cell.must(dead(3)) }
        #expect(try cell.host(3).health == .up && cell.host(3).state == .cordoned)
        #expect(try cell.vm(id).phase == .running, "its lease may be in force")
        try cell.must(down(3))
        #expect(try cell.host(3).health == .down)
        #expect(try cell.vm(id).phase == .waiting && cell.vm(kept).phase == .waiting)
        #expect(try cell.vm(bound).phase == .unknown, "its disk is there")
        try cell.place(kept, on: 4)
        try cell.report(kept, .running)
        // It comes back, and has what was given away: that counts for nothing.
        try cell.register(3, incarnation: 2, running: [RunningVM(kept, epoch: 1), RunningVM(bound, epoch: 1)])
        #expect(try cell.host(3).declaredDeadAt == .zero && cell.host(3).state == .ready)
        #expect(try cell.vm(kept).place?.assignment.host == HostID(4) && cell.vm(kept).place?.epoch == 2)
        #expect(try cell.work(3)?.contains { $0.id == kept } == false, "it is told to run it no more")
        #expect(try cell.vm(bound).phase == .running)
    }

    @Test func `of a host that is down or away what is left starts elsewhere at once on somebody's word`() throws {
        for isAway in [false, true] {
            var cell = try bench(hosts: 3)
            var keeps = CellBench.spec()
            keeps.isolation = .keep
            let kept = try cell.running("k", on: 1, keeps)
            if isAway { try cell.must(goAway()) }
            try cell.must(down())
            #expect(try cell.vm(kept).phase == .unknown)
            try cell.must(dead())
            #expect(try cell.host(1).health == .down && cell.host(1).awayUntil == .zero)
            #expect(try cell.vm(kept).phase == .waiting && cell.vm(kept).place == nil)
            #expect(try cell.events(host: 1).contains { $0.kind == "host.declared-dead" && $0.by == "test" })
            #expect(isOtherwise(try cell.refusal(goAway())))
        }
    }

    @Test func `an agent that registers before its host is given up takes the word back`() throws {
        var cell = try bench()
        let id = try cell.running("a", on: 1)
        try cell.must(dead())
        try cell.register(1, incarnation: 2, running: [RunningVM(id, epoch: 1)])
        #expect(try cell.host(1).declaredDeadAt == .zero && cell.vm(id).phase == .running)
        #expect(try cell.refusal(down()) == .incarnationOutdated(HostID(1)))
    }
}
