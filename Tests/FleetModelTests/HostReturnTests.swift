import ClusterBase
import FleetModel
import Testing

/// VMs that left a host by a drain, and what becomes of them when it is in service again.
@Suite struct HostReturnTests {
    private func bench(hosts: Int = 3) throws -> CellBench {
        var cell = try CellBench(hosts: hosts)
        cell.level = FeatureLevel.hostReturns
        return cell
    }

    /// As the controller and the hosts do it.
    private func move(
        _ id: VMID, to host: UInt64, _ cause: Migration.Cause, _ cell: inout CellBench
    ) throws {
        let place = try #require(try cell.vm(id).place)
        let source = place.assignment.host
        try cell.must(
            .beginMigration(id, from: place.epoch, to: Assignment(host: HostID(host)), cause: cause, intent: .balanced))
        let target = try #require(try cell.vm(id).migration).target.epoch
        let reports = [
            VMReport(id, epoch: place.epoch, .copied, generation: 1, progressMillis: 1_000)
        ]
        try cell.must(.reportVMs(source, Incarnation(1), reports))
        try cell.must(.commitMigration(id, target: target))
        try cell.must(.reportVMs(source, Incarnation(1), [VMReport(id, epoch: place.epoch, .stopped)]))
        try cell.must(.reportVMs(HostID(host), Incarnation(1), [VMReport(id, epoch: target, .running, generation: 1)]))
        #expect(try cell.vm(id).place?.assignment.host == HostID(host) && cell.vm(id).migration == nil)
    }

    private func drained(_ count: Int, _ returns: HostReturn? = nil) throws -> (cell: CellBench, vms: [VMID]) {
        var cell = try bench()
        var vms: [VMID] = []
        for i in 0..<count { vms.append(try cell.running("v\(i)", on: 1)) }
        try cell.must(returns.map { .careForHost(HostID(1), .drain($0)) } ?? .setHostDuty(HostID(1), .draining))
        for (i, id) in vms.enumerated() { try move(id, to: UInt64(2 + i % 2), .drain, &cell) }
        try cell.must(.finishDrain(HostID(1)))
        return (cell, vms)
    }

    private func isOtherwise(_ refusal: CellRefusal?) -> Bool {
        if case .hostIsOtherwise? = refusal { true } else { false }
    }

    private func resume(_ returns: HostReturn) -> CellCommand.Operation { .careForHost(HostID(1), .resume(returns)) }

    @Test func `every word on returns is read back as it was, and wants its feature level`() throws {
        let cares: [HostCare] =
            HostReturn.allCases.flatMap { [.drain($0), .resume($0)] } + [.pauseReturn, .resumeReturn, .endReturn]
        let place = Assignment(host: HostID(2))
        let operations: [CellCommand.Operation] =
            cares.map { .careForHost(HostID(7), $0) } + [
                .beginMigration(VMID(3), from: 1, to: place, cause: .return),
                .releaseVMs([Release(VMID(3), epoch: 1, reason: "home")], cause: .return),
            ]
        for operation in operations {
            let command = CellCommand(by: "a", operation)
            #expect(try CellCommand.decode(command.encoded()).get() == command)
            #expect(throws: CellRefusal.malformed) {
                try CellCommand.decode(command.encoded(), level: FeatureLevel.hostReturns - 1).get()
            }
        }
    }

    @Test func `what a drain moves away is remembered and counted, and a plain resume forgets it`() throws {
        var (cell, vms) = try drained(3)
        #expect(try cell.host(1).awayCount == 3 && cell.host(1).drain > 0)
        for id in vms {
            #expect(try cell.vm(id).origin == CellVM.Origin(host: HostID(1), drain: cell.host(1).drain))
            #expect(CellVM.decode(try cell.vm(id).encoded())?.origin == (try cell.vm(id).origin))
        }
        #expect(CellHost.decode(try cell.host(1).encoded()) == (try cell.host(1)))
        try cell.must(.setHostDuty(HostID(1), .inService))
        #expect(try cell.host(1).drain == 0 && cell.host(1).awayCount == 0)
        #expect(try !cell.vm(vms[0]).comesBack(to: cell.host(1), at: cell.time))
        #expect(
            try cell.events(host: 1).contains {
                $0.kind == "host.resumed" && $0.text.contains("3 VMs that left it stay")
            })
        #expect(isOtherwise(try cell.refusal(resume(.all))), "nothing is remembered")
        // A later drain counts its own.
        try move(vms[0], to: 1, .rebalance, &cell)
        try cell.must(.setHostDuty(HostID(1), .draining))
        try move(vms[0], to: 2, .drain, &cell)
        #expect(try cell.host(1).awayCount == 1)
        #expect(try !cell.vm(vms[1]).comesBack(to: cell.host(1), at: cell.time), "it stayed")
    }

    @Test func `one that is back, was moved by somebody, is deleted or was stopped for long is away no more`() throws {
        var (cell, vms) = try drained(6)
        try cell.must(resume(.all))
        #expect(try cell.host(1).state == .ready && cell.host(1).takesBack)
        try move(vms[0], to: 1, .return, &cell)
        #expect(try cell.vm(vms[0]).origin == nil && cell.host(1).awayCount == 5)
        try move(vms[1], to: 2, .asked, &cell)
        #expect(try cell.vm(vms[1]).origin == nil && cell.host(1).awayCount == 4)
        let elsewhere: UInt64 = try cell.vm(vms[2]).place?.assignment.host == HostID(2) ? 3 : 2
        try move(vms[2], to: elsewhere, .rebalance, &cell)
        #expect(try cell.host(1).awayCount == 4, "nobody asked for that")
        try cell.must(.deleteVM(vms[3], generation: nil))
        try cell.report(vms[3], .stopped)
        #expect(try cell.find(vms[3]) == nil && cell.host(1).awayCount == 3)
        for (id, hours) in [(vms[4], 167), (vms[5], 169)] as [(VMID, UInt64)] {
            try cell.must(.setPower(id, .stopped, generation: nil))
            try cell.report(id, .stopped)
            cell.time = cell.time.advanced(by: hours * 3_600_000)
            #expect(try cell.vm(id).comesBack(to: cell.host(1), at: cell.time) == (id == vms[4]))
            try cell.must(.setPower(id, .running, generation: nil))
            #expect(try (cell.vm(id).origin == nil) == (id == vms[5]))
        }
        #expect(try cell.host(1).awayCount == 2)
    }

    @Test func `a VM that is drained again has its first host as its origin, until that is resumed without a return`()
        throws
    {
        var (cell, vms) = try drained(2)
        // The first is on host 2, the second on host 3.
        try cell.must(.careForHost(HostID(2), .drain(.all)))
        try move(vms[0], to: 3, .drain, &cell)
        #expect(try cell.vm(vms[0]).origin?.host == HostID(1) && cell.host(2).awayCount == 0)
        try cell.must(.setHostDuty(HostID(1), .inService))
        try cell.must(.setHostDuty(HostID(2), .inService))
        try cell.must(.setHostDuty(HostID(3), .draining))
        try move(vms[0], to: 2, .drain, &cell)
        #expect(try cell.vm(vms[0]).origin?.host == HostID(3), "what was before is void")
        #expect(try cell.host(3).awayCount == 1)
        // Of a move off a host that nobody drains, as by a plan for its region, nothing is remembered.
        let other = try cell.running("w", on: 1)
        try move(other, to: 2, .drain, &cell)
        #expect(try cell.vm(other).origin == nil)
    }

    @Test
    func `a return is what was said of the drain unless something else is, and none, lazy and all become each other`()
        throws
    {
        var (cell, _) = try drained(2, .all)
        #expect(try cell.host(1).returns == .all && !cell.host(1).takesBack, "it is not in service")
        #expect(isOtherwise(try cell.refusal(.careForHost(HostID(1), .pauseReturn))))
        try cell.must(.setHostDuty(HostID(1), .inService))
        #expect(try cell.host(1).returns == .all && cell.host(1).takesBack)
        for _ in 0..<2 { try cell.must(.careForHost(HostID(1), .pauseReturn)) }
        #expect(isOtherwise(try cell.refusal(.careForHost(HostID(1), .endReturn))))
        try cell.must(.careForHost(HostID(1), .resumeReturn))
        let generation = try cell.host(1).generation
        try cell.must(resume(.lazy))
        #expect(try cell.host(1).returns == .lazy && cell.host(1).generation == generation + 1)
        #expect(isOtherwise(try cell.refusal(.careForHost(HostID(1), .pauseReturn))), "nothing moves for it")
        try cell.must(resume(.all))
        try cell.must(.careForHost(HostID(1), .endReturn))
        #expect(try cell.host(1).returns == .lazy && cell.host(1).awayCount == 2, "they could not come")
        try cell.must(resume(.none))
        #expect(try cell.host(1).drain == 0 && cell.host(1).awayCount == 0 && cell.host(1).state == .ready)
        let kinds = try cell.events(host: 1).map(\.kind)
        for kind in ["host.return-paused", "host.return-resumed", "host.return-changed", "host.returned"] {
            #expect(kinds.contains(kind), "\(kinds)")
        }
        (cell, _) = try drained(1, .all)
        try cell.must(resume(.none))
        #expect(try cell.host(1).drain == 0, "what is said last counts")
        (cell, _) = try drained(1, .all)
        try cell.must(.setHostDuty(HostID(1), .inService))
        try cell.must(.setHostDuty(HostID(1), .draining))
        #expect(try cell.host(1).returns == .none && cell.host(1).awayCount == 1, "another drain, another word")
    }

    @Test func `the last that is back ends what nothing moves for, and a removed host takes nothing back`() throws {
        var (cell, vms) = try drained(2, .lazy)
        try cell.must(.setHostDuty(HostID(1), .inService))
        for id in vms { try move(id, to: 1, .rebalance, &cell) }
        #expect(try cell.host(1).drain == 0 && cell.host(1).returns == .none && cell.host(1).awayCount == 0)
        (cell, vms) = try drained(2, .all)
        try cell.must(.declareDown(HostID(1), Incarnation(1)))
        try cell.must(.removeHost(HostID(1), isForced: false))
        #expect(try !cell.vm(vms[0]).comesBack(to: cell.host(1), at: cell.time))
        #expect(try cell.host(1).awayCount == 0)
        try move(vms[0], to: 3, .rebalance, &cell)
        #expect(try cell.host(1).awayCount == 0)
    }

    @Test func `one that stood still when its host was drained has it as its origin, and is back when placed there`()
        throws
    {
        var cell = try bench()
        let id = try cell.running("a", on: 1)
        try cell.must(.setPower(id, .stopped, generation: nil))
        try cell.report(id, .stopped)
        try cell.must(.careForHost(HostID(1), .drain(.lazy)))
        let epoch = try #require(try cell.vm(id).place).epoch
        _ = try cell.apply(.releaseVMs([Release(id, epoch: epoch, reason: "its host is drained")], cause: .drain))
        #expect(try cell.vm(id).place == nil && cell.host(1).awayCount == 1)
        try cell.must(.setHostDuty(HostID(1), .inService))
        try cell.must(.setPower(id, .running, generation: nil))
        try cell.place(id, on: 1)
        #expect(try cell.vm(id).origin == nil && cell.host(1).awayCount == 0 && cell.host(1).drain == 0)
    }

    @Test func `a drain is judged by what is kept for losses, whatever is said of the way back`() throws {
        var cell = try bench()
        for i in 1...3 { try cell.running("v\(i)", on: UInt64(i), CellBench.spec(4)) }
        try cell.must(.setSetting(.failoverReserve, FailoverReserve(.host, 1).value))
        for operation in [.setHostDuty(HostID(1), .draining), .careForHost(HostID(1), .drain(.all))]
            as [CellCommand.Operation]
        {
            guard case .breaksReserve? = try cell.refusal(operation) else {
                Issue.record("\(operation) was refused for something else")
                continue
            }
        }
        #expect(try cell.host(1).duty == .inService && cell.host(1).drain == 0)
    }

    @Test func `what is new is written as another implementation writes it`() throws {
        let target = Assignment(
            host: HostID(7), numaNodes: [0, 1], devices: [DeviceUse(device: 2, millis: 500)])
        let commands =
            [.drain(.lazy), .resume(.all), .pauseReturn, .resumeReturn].map {
                CellCommand(by: "admin", .careForHost(HostID(7), $0))
            } + [
                CellCommand(by: "controller", .careForHost(HostID(7), .endReturn)),
                CellCommand(
                    by: "controller",
                    .beginMigration(VMID(1 << 40), from: 3, to: target, cause: .return, intent: .gentle)),
            ]
        let bytes = try SpaceWireTests().golden("cell-returns-v3")
        #expect(Cell.pack(commands.map { $0.encoded() }, level: 3, time: LogTime(1_700_000_000_000)) == bytes)
    }
}
