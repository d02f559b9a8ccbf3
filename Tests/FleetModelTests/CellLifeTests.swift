import ClusterBase
import FleetModel
import Testing

/// What becomes of VMs: power, crashes, moves, hosts that are lost and come back.
@Suite struct CellLifeTests {
    private func spec(_ change: (inout VMDescription) -> Void) -> VMDescription {
        var spec = CellBench.spec()
        change(&spec)
        return spec
    }

    @Test func `a stopped VM keeps its place and its room, and starts there under a new epoch`() throws {
        var cell = try CellBench(hosts: 1)
        let id = try cell.running("v", on: 1)
        try cell.must(.setPower(id, .stopped, generation: 1))
        #expect(try cell.vm(id).phase == .stopping)
        try cell.report(id, .stopped)
        #expect(try cell.vm(id).phase == .stopped && cell.host(1).vmCount == 1)
        try cell.must(.setPower(id, .running, generation: nil))
        #expect(try cell.vm(id).phase == .starting && cell.vm(id).place?.epoch == 2)
        try cell.must(.restartVM(id))
        #expect(try cell.vm(id).place?.epoch == 3)
        try cell.report(id, .running)
        try cell.must(.setPower(id, .paused, generation: nil))
        try cell.report(id, .paused)
        #expect(try cell.vm(id).phase == .paused && cell.vm(id).place?.epoch == 3)
    }

    @Test func `a VM that is created stopped waits for no place until it is started`() throws {
        var cell = try CellBench(hosts: 1)
        let id = try cell.create("v", power: .stopped)
        #expect(try cell.rows(.waitingVMs(limit: 0)).isEmpty && cell.vm(id).phase == .stopped)
        #expect(try cell.refusal(id, on: 1) == .notWaiting(id))
        try cell.must(.setPower(id, .running, generation: nil))
        #expect(try cell.rows(.waitingVMs(limit: 0)).count == 1)
    }

    @Test func `reports of another incarnation or epoch count for nothing`() throws {
        var cell = try CellBench(hosts: 1)
        let id = try cell.running("v", on: 1)
        func report(_ incarnation: UInt64, _ epoch: UInt64, _ state: VMReport.State) -> CellCommand.Operation {
            .reportVMs(HostID(1), Incarnation(incarnation), [VMReport(id, epoch: epoch, state)])
        }
        #expect(try cell.refusal(report(0, 1, .crashed)) == .incarnationOutdated(HostID(1)))
        try cell.must(report(1, 9, .crashed))
        try cell.must(.restartVM(id))
        try cell.must(report(1, 1, .stopped))
        #expect(try cell.vm(id).phase == .starting)
        try cell.must(report(1, 2, .crashed))
        try cell.must(report(1, 2, .running))
        #expect(try cell.vm(id).phase == .crashed, "under this epoch it had ended")
    }

    @Test func `a VM that ended with what it ran on starts again at once, however often, unless it is never to`() throws
    {
        var cell = try CellBench(hosts: 1)
        cell.level = FeatureLevel.hostsFaults
        let id = try cell.running("v", on: 1)
        for epoch in UInt64(2)...20 {
            try cell.report(id, .crashed, message: "its guard ended", isHostsFault: true)
            #expect(try cell.vm(id).phase == .starting && cell.vm(id).place?.epoch == epoch)
            #expect(try cell.vm(id).restarts == 0 && cell.vm(id).message == "its guard ended")
            try cell.report(id, .running)
        }
        var spec = CellBench.spec()
        spec.restart = .never
        let never = try cell.running("n", on: 1, spec)
        try cell.report(never, .crashed, message: "its guard ended", isHostsFault: true)
        #expect(try cell.vm(never).phase == .crashed && cell.vm(never).place?.epoch == 1)
        // One that is to stop has stopped.
        try cell.must(.setPower(id, .stopped, generation: nil))
        try cell.report(id, .crashed, isHostsFault: true)
        #expect(try cell.vm(id).phase == .stopped)
    }

    @Test func `a crashed VM starts again when it is let, and waits for somebody after one crash too many`() throws {
        var cell = try CellBench(hosts: 1)
        let id = try cell.running("v", on: 1)
        try cell.report(id, .crashed, message: "exit 1")
        #expect(try cell.vm(id).message == "exit 1")
        #expect(try cell.refusal(.retryVM(id, epoch: 9)) == .epochOutdated(id))
        try cell.must(.retryVM(id, epoch: 1))
        #expect(try cell.vm(id).restarts == 1 && cell.vm(id).phase == .starting)
        try cell.report(id, .crashed)
        try cell.must(.giveUpVM(id, epoch: 2))
        #expect(try cell.vm(id).phase == .looping)
        try cell.must(.setPower(id, .running, generation: nil))
        #expect(try cell.vm(id).phase == .starting && cell.vm(id).restarts == 0 && cell.vm(id).place?.epoch == 3)
        try cell.report(id, .crashed)
        try cell.must(.retryVM(id, epoch: 3))
        cell.time = cell.time.advanced(by: CellLimits.restartWindow + 1)
        try cell.report(id, .crashed)
        try cell.must(.retryVM(id, epoch: 4))
        #expect(try cell.vm(id).restarts == 1, "those of long ago don't count")
    }

    @Test func `a deleted VM stays until its host has confirmed that it is gone, and then leaves a tombstone`() throws {
        var cell = try CellBench(hosts: 1)
        let id = try cell.running("v", on: 1)
        try cell.must(.deleteVM(id, generation: nil))
        #expect(try cell.vm(id).isDeleting && cell.host(1).vmCount == 1)
        #expect(try cell.refusal(.setPower(id, .running, generation: nil)) == .isDeleting(id))
        #expect(
            try cell.apply(.createVMs([VMCreation(name: "v", tenant: "t", spec: CellBench.spec())], isAtomic: false))
                == .items([.refused(.vmNameTaken("v"))]))
        try cell.report(id, .stopped)
        #expect(try cell.find(id) == nil && cell.host(1).used == .zero)
        guard case .tombstone(id, let stone?)? = try cell.rows(.vmNamed(tenant: "t", name: "v")).first else {
            Issue.record("no tombstone")
            return
        }
        #expect(stone.name == "v" && stone.deletedAt == cell.time)
        #expect(try cell.events(vm: id).last?.kind == "vm.deleted")
        let next = try cell.create("v")
        #expect(next != id)
        cell.time = cell.time.advanced(by: CellSetting.tombstoneLifetime.standard)
        try cell.must(.collectGarbage)
        #expect(try cell.rows(.all(.tombstones)).isEmpty)
        #expect(try cell.rows(.vmNamed(tenant: "t", name: "v")) == [.vm(next, cell.vm(next))])
    }

    @Test func `a released VM stops, leaves its place when that is confirmed, and waits again`() throws {
        var cell = try CellBench(hosts: 2)
        let id = try cell.running("v", on: 1)
        try cell.mustAll(.releaseVMs([Release(id, epoch: 1, reason: "for another")], cause: .preemption))
        #expect(try cell.vm(id).place?.isReleasing == true && cell.host(1).vmCount == 1)
        #expect(try cell.refusal(id, on: 2) == .notWaiting(id))
        try cell.report(id, .stopped)
        #expect(try cell.vm(id).phase == .waiting && cell.vm(id).place == nil && cell.host(1).vmCount == 0)
        try cell.place(id, on: 2)
        #expect(try cell.vm(id).place?.epoch == 2)
    }

    @Test func `waiting VMs come by priority, and then by the time that they wait`() throws {
        var cell = try CellBench(hosts: 1)
        let low = try cell.create("low", spec { $0.priority = -5 })
        cell.time = cell.time.advanced(by: 1)
        let late = try cell.create("late")
        let high = try cell.create("high", spec { $0.priority = 7 })
        cell.time = cell.time.advanced(by: 1)
        let last = try cell.create("last")
        let ids = try cell.rows(.waitingVMs(limit: 0)).map { if case .vm(let id, _) = $0 { id } else { VMID(0) } }
        #expect(ids == [high, late, last, low])
        try cell.mustAll(.explainWaiting([WaitingReason(low, "no room anywhere")]))
        #expect(try cell.vm(low).message == "no room anywhere")
    }

    @Test func `a place planned for another generation is refused`() throws {
        var cell = try CellBench(hosts: 1)
        let id = try cell.create("v")
        try cell.must(.updateVM(id, CellBench.spec(2), generation: 1))
        #expect(
            try cell.apply(.placeVMs([Placing(id, generation: 1, Assignment(host: HostID(1)))], isAtomic: false))
                == .items([.refused(.generationChanged(2))]))
        #expect(try cell.refusal(.updateVM(id, CellBench.spec(3), generation: 1)) == .generationChanged(2))
    }

    @Test func `a running VM grows where there is room, and what it gives back is free only when its host has done it`()
        throws
    {
        var cell = try CellBench(hosts: 1)
        let id = try cell.running("v", on: 1, CellBench.spec(4))
        try cell.running("w", on: 1, CellBench.spec(2))
        #expect(try cell.refusal(.updateVM(id, CellBench.spec(7), generation: nil)) != nil)
        try cell.must(.updateVM(id, CellBench.spec(6), generation: nil))
        #expect(try cell.host(1).used.cpuMillis == 8_000)
        try cell.report(id, .running)
        try cell.must(.updateVM(id, CellBench.spec(1), generation: nil))
        #expect(try cell.host(1).used.cpuMillis == 8_000)
        try cell.report(id, .running)
        #expect(try cell.host(1).used.cpuMillis == 3_000)
        let changed = spec { $0.numa = .nodes(1) }
        #expect(
            try cell.refusal(.updateVM(id, changed, generation: nil)) != nil, "inside it changes only while it stands")
        try cell.must(.setPower(id, .stopped, generation: nil))
        try cell.report(id, .stopped)
        try cell.must(.updateVM(id, changed, generation: nil))
        #expect(try cell.vm(id).place == nil && cell.host(1).used.cpuMillis == 2_000)
    }

    // MARK: Moves

    @Test func `a move counts on both hosts, and has one point after which it only goes forward`() throws {
        var cell = try CellBench(hosts: 3)
        let id = try cell.running("v", on: 1)
        let to = Assignment(host: HostID(2))
        #expect(try cell.refusal(.beginMigration(id, from: 9, to: to, cause: .asked)) == .epochOutdated(id))
        try cell.must(.beginMigration(id, from: 1, to: to, cause: .asked))
        #expect(try cell.host(1).vmCount == 1 && cell.host(2).vmCount == 1)
        #expect(try cell.work(1)?.first?.migration?.phase == .copying && cell.work(2)?.count == 1)
        #expect(try cell.refusal(.restartVM(id)) == .migrationUnderWay(id))
        #expect(try cell.refusal(.commitMigration(id, target: 2)) == .noMigration(id), "not all is copied")
        let report = VMReport(id, epoch: 1, .copied)
        try cell.must(.reportVMs(HostID(1), Incarnation(1), [report]))
        try cell.must(.commitMigration(id, target: 2))
        try cell.must(.commitMigration(id, target: 2))
        var vm = try cell.vm(id)
        #expect(vm.place?.assignment.host == HostID(2) && vm.place?.epoch == 2 && vm.migration?.phase == .leaving)
        #expect(try cell.refusal(.cancelMigration(id, target: 2)) == .noMigration(id))
        #expect(try cell.host(1).vmCount == 1 && cell.host(2).vmCount == 1)
        try cell.must(.reportVMs(HostID(1), Incarnation(1), [VMReport(id, epoch: 1, .stopped)]))
        vm = try cell.vm(id)
        #expect(vm.migration == nil && vm.phase == .running)
        #expect(try cell.host(1).vmCount == 0 && cell.host(2).vmCount == 1)
    }

    @Test func `a cancelled or failed move ends when the destination holds nothing any more`() throws {
        for cancels in [true, false] {
            var cell = try CellBench(hosts: 2)
            let id = try cell.running("v", on: 1)
            try cell.must(.beginMigration(id, from: 1, to: Assignment(host: HostID(2)), cause: .drain))
            if cancels {
                try cell.must(.cancelMigration(id, target: 2))
            } else {
                try cell.report(id, .copyFailed, message: "too slow")
            }
            #expect(try cell.vm(id).migration?.phase == .undoing && cell.host(2).vmCount == 1)
            #expect(try cell.refusal(.commitMigration(id, target: 2)) == .noMigration(id))
            try cell.must(.reportVMs(HostID(2), Incarnation(1), [VMReport(id, epoch: 2, .stopped)]))
            #expect(try cell.vm(id).migration == nil && cell.vm(id).phase == .running)
            #expect(try cell.host(2).vmCount == 0 && cell.vm(id).place?.epoch == 1)
        }
    }

    @Test func `losing either end of a move leaves one VM`() throws {
        for lost in [1, 2] as [UInt64] {
            for isCommitted in [false, true] {
                var cell = try CellBench(hosts: 3)
                let id = try cell.running("v", on: 1)
                try cell.must(.beginMigration(id, from: 1, to: Assignment(host: HostID(2)), cause: .asked))
                try cell.must(.reportVMs(HostID(1), Incarnation(1), [VMReport(id, epoch: 1, .copied)]))
                if isCommitted { try cell.must(.commitMigration(id, target: 2)) }
                try cell.must(.declareDown(HostID(lost), Incarnation(1)))
                let vm = try cell.vm(id)
                #expect(try cell.host(lost).vmCount == 0)
                if (lost == 1) == isCommitted {
                    #expect(vm.migration == nil && vm.phase == .running)
                } else {
                    #expect(vm.place == nil && vm.phase == .waiting && vm.migration != nil)
                    #expect(try cell.refusal(id, on: 3) == .migrationUnderWay(id))
                    let other: UInt64 = 3 - lost
                    let epoch: UInt64 = other
                    try cell.must(.reportVMs(HostID(other), Incarnation(1), [VMReport(id, epoch: epoch, .stopped)]))
                    try cell.place(id, on: 3)
                }
            }
        }
    }

    // MARK: Hosts

    @Test func `an agent that begins anew adopts what runs, and what it does not find starts again by its policy`()
        throws
    {
        var cell = try CellBench(hosts: 1)
        let kept = try cell.running("kept", on: 1)
        let lost = try cell.running("lost", on: 1)
        let never = try cell.running("never", on: 1, spec { $0.restart = .never })
        let gone = try cell.running("gone", on: 1)
        try cell.must(.deleteVM(gone, generation: nil))
        #expect(
            try cell.refusal(.registerHost(HostID(1), Incarnation(0), CellBench.about(1), running: []))
                == .incarnationOutdated(HostID(1)))
        try cell.register(1, incarnation: 2, running: [RunningVM(kept, epoch: 1)])
        #expect(try cell.vm(kept).phase == .running && cell.vm(kept).place?.epoch == 1)
        #expect(try cell.vm(lost).phase == .starting && cell.vm(lost).place?.epoch == 2)
        #expect(try cell.vm(never).phase == .crashed && cell.vm(never).place?.epoch == 1)
        #expect(try cell.find(gone) == nil)
        #expect(try cell.refusal(.reportVMs(HostID(1), Incarnation(1), [])) == .incarnationOutdated(HostID(1)))
    }

    @Test func `a host that is down gives up what may move and keeps the rest as unknown`() throws {
        var cell = try CellBench(hosts: 2)
        let moves = try cell.running("moves", on: 1)
        let keeps = try cell.running("keeps", on: 1, spec { $0.isolation = .keep })
        let never = try cell.running("never", on: 1, spec { $0.restart = .never })
        let deleted = try cell.running("deleted", on: 1)
        try cell.must(.deleteVM(deleted, generation: nil))
        #expect(try cell.refusal(.declareDown(HostID(1), Incarnation(2))) == .incarnationOutdated(HostID(1)))
        try cell.must(.declareDown(HostID(1), Incarnation(1)))
        #expect(try cell.vm(moves).phase == .waiting)
        #expect(try cell.vm(keeps).phase == .unknown && cell.vm(never).phase == .unknown)
        #expect(try cell.find(deleted) == nil)
        #expect(
            try cell.read(.hostWork(HostID(1), since: .zero)).body
                == .work([], workIndex: cell.host(1).workIndex, lease: 0))
        #expect(try cell.refusal(.reportVMs(HostID(1), Incarnation(1), [])) == .incarnationOutdated(HostID(1)))
        try cell.register(1, incarnation: 2, running: [RunningVM(keeps, epoch: 1), RunningVM(moves, epoch: 1)])
        #expect(try cell.vm(keeps).phase == .running && cell.vm(keeps).place?.epoch == 1)
        #expect(try cell.vm(moves).phase == .waiting, "its permission is gone")
        #expect(try cell.work(1)?.map(\.id) == [keeps, never])
    }

    @Test func `a shorter lease leaves the longer one on record until a leader has waited it out`() throws {
        var cell = try CellBench(hosts: 1)
        func before(_ cell: CellBench) throws -> UInt64 {
            for case .setting(.leaseBefore, let value?) in try cell.rows(.all(.settings)) { return value }
            return 0
        }
        try cell.must(.setSetting(.leaseLength, 10_000))
        try cell.must(.setSetting(.leaseLength, 1_000))
        let seen = try before(cell)
        #expect(seen & 0xFFFF_FFFF == 10_000)
        try cell.must(.setSetting(.leaseLength, 2_000))
        #expect(try cell.refusal(.setSetting(.leaseBefore, seen)) == .settingOutOfRange(.leaseBefore))
        let now = try before(cell)
        #expect(now & 0xFFFF_FFFF == 10_000)
        try cell.must(.setSetting(.leaseBefore, now))
        #expect(try before(cell) & 0xFFFF_FFFF == 0)
    }

    @Test func `a VM that runs on when cut off becomes one that stops only while it is stopped`() throws {
        var cell = try CellBench(hosts: 2)
        let id = try cell.running("v", on: 1, spec { $0.isolation = .keep })
        let stops = spec { $0.isolation = .stop }
        guard case .invalid(field: "isolation", _)? = try cell.refusal(.updateVM(id, stops, generation: nil)) else {
            Issue.record("its host may be cut off and run it on, while the cell starts it elsewhere")
            return
        }
        try cell.must(.setPower(id, .stopped, generation: nil))
        try cell.report(id, .stopped)
        try cell.must(.updateVM(id, stops, generation: nil))
    }

    @Test func `too many lost hosts stop failover until an operator has looked`() throws {
        var cell = try CellBench(hosts: 4)
        for host in [1, 2] as [UInt64] { try cell.must(.declareDown(HostID(host), Incarnation(1))) }
        #expect(try cell.refusal(.declareDown(HostID(3), Incarnation(1))) == .brakeHolds)
        try cell.register(1, incarnation: 2)
        try cell.must(.declareDown(HostID(3), Incarnation(1)))
        #expect(try cell.refusal(.declareDown(HostID(4), Incarnation(1))) == .brakeHolds)
        cell.time = cell.time.advanced(by: CellLimits.brakeWindow + 1)
        try cell.must(.declareDown(HostID(4), Incarnation(1)))
        try cell.must(.setSetting(.brakeMillis, 1_000))
        try cell.must(.declareDown(HostID(1), Incarnation(2)))
    }

    @Test func `a drained host ends in maintenance when it is empty, and never before`() throws {
        var cell = try CellBench(hosts: 2)
        let id = try cell.running("v", on: 1)
        #expect(try cell.refusal(.setHostDuty(HostID(1), .maintenance)) == .hostInUse(HostID(1)))
        try cell.must(.setHostDuty(HostID(1), .draining))
        #expect(try cell.refusal(.finishDrain(HostID(1))) == .hostInUse(HostID(1)))
        try cell.mustAll(.releaseVMs([Release(id, epoch: 1, reason: "drain")], cause: .drain))
        try cell.report(id, .stopped)
        try cell.must(.finishDrain(HostID(1)))
        #expect(try cell.host(1).duty == .maintenance)
        try cell.must(.setHostDuty(HostID(1), .inService))
        try cell.place(id, on: 1)
    }

    @Test func `nobody's word removes a host that is up and has VMs, and their copies start nowhere else`() throws {
        var cell = try CellBench(hosts: 2)
        cell.level = FeatureLevel.removalsOfLost
        let id = try cell.running("a", on: 1)
        #expect(try cell.refusal(.removeHost(HostID(1), isForced: true)) == .hostIsUp(HostID(1)))
        #expect(try cell.vm(id).phase == .running && cell.host(1).health == .up)
        try cell.must(.declareDown(HostID(1), Incarnation(1)))
        try cell.must(.removeHost(HostID(1), isForced: true))
        #expect(try cell.vm(id).phase == .waiting)
        // One that has none may have been made by mistake.
        try cell.must(.removeHost(HostID(2), isForced: true))
        #expect(try cell.host(2).health == .removed)
    }

    @Test func `a host leaves when it is down and empty, or when an operator says that all is gone`() throws {
        var cell = try CellBench(hosts: 2)
        let keeps = try cell.running("keeps", on: 1, spec { $0.isolation = .keep })
        #expect(try cell.refusal(.removeHost(HostID(1), isForced: false)) == .hostIsUp(HostID(1)))
        try cell.must(.declareDown(HostID(1), Incarnation(1)))
        #expect(try cell.refusal(.removeHost(HostID(1), isForced: false)) == .hostInUse(HostID(1)))
        try cell.must(.removeHost(HostID(1), isForced: true))
        #expect(try cell.vm(keeps).phase == .waiting && cell.host(1).health == .removed)
        #expect(
            try cell.refusal(.registerHost(HostID(1), Incarnation(9), CellBench.about(1), running: []))
                == .hostRemoved(HostID(1)))
        try cell.register(7, CellBench.about(1), incarnation: 1)
        #expect(
            try cell.refusal(.registerHost(HostID(8), Incarnation(1), CellBench.about(1), running: []))
                == .hostNameTaken("h1"))
        #expect(try cell.rows(.hostNamed("h1")) == [.host(HostID(7), cell.host(7))])
    }

    @Test func `a host's work is answered again only when it has changed`() throws {
        var cell = try CellBench(hosts: 2)
        let id = try cell.running("v", on: 1)
        let index = try cell.host(1).workIndex
        #expect(try cell.work(1, since: index) == nil)
        try cell.report(id, .starting)
        try cell.create("elsewhere")
        #expect(try cell.host(1).workIndex == index)
        try cell.must(.setPower(id, .stopped, generation: nil))
        #expect(try cell.work(1, since: index)?.count == 1)
        guard case .work(_, _, let lease) = try cell.read(.hostWork(HostID(2), since: .zero)).body else { return }
        #expect(lease == CellSetting.leaseLength.standard)
        #expect(try cell.read(.hostWork(HostID(9), since: .zero)).body == .work([], workIndex: .zero, lease: 0))
    }
}

extension CellBench {
    /// Asks for items that must all be done.
    mutating func mustAll(_ operation: CellCommand.Operation, _ location: SourceLocation = #_sourceLocation) throws {
        guard case .items(let items) = try apply(operation) else {
            Issue.record("it was refused as a whole", sourceLocation: location)
            return
        }
        for case .refused(let refusal) in items { Issue.record("\(refusal)", sourceLocation: location) }
    }
}
