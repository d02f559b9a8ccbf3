import ClusterBase
import FleetModel
import Testing

/// How much may be lost and how long VMs may be down: as it is set, told and counted.
@Suite struct CellObjectivesTests {
    @Test(
        arguments: [
            ("auto", 0), ("none", 1), ("0s", 2), ("500ms", 502), ("5s", 5_002), ("90s", 90_002), ("2m", 120_002),
            ("1h", 3_600_002), ("7d", 604_800_002),
        ] as [(String, UInt64)])
    func `an objective is the same as words and as a number`(_ text: String, _ value: UInt64) throws {
        let objective = try #require(Objective(text: text))
        #expect(objective.value == value && Objective(value: value) == objective && objective.text == text)
    }

    @Test func `what is no objective is none`() {
        for text in [
            "", "5", "s", "-1s", "5 s", "1.5s", "8d", "99999999999999999999s", "18446744073709551615d", "Auto",
        ] {
            #expect(Objective(text: text) == nil, "\(text)")
        }
        #expect(Objective(value: Objective.valueMax + 1) == nil && Objective(text: "1000ms")?.text == "1s")
    }

    private func bench() throws -> CellBench {
        var cell = CellBench()
        cell.level = FeatureLevel.newest
        for host in 1...3 as ClosedRange<UInt64> { try cell.register(host) }
        try cell.must(.setSetting(.brakeMillis, 1_000))
        return cell
    }

    @Test func `promises that are broken and kept again are events, and an older cluster hears of neither`() throws {
        var cell = try bench()
        try cell.must(.noteRisk(.rpoRegion, isOver: false, "a replica lags"))
        try cell.must(.noteRisk(.rpoRegion, isOver: true, "it is kept again"))
        #expect(try cell.events().suffix(2).map(\.kind) == ["cell.rpo-region-at-risk", "cell.rpo-region-kept"])
        for text in ["", "a\nb", String(repeating: "x", count: CellRisk.textBytesMax + 1)] {
            #expect(try cell.refusal(.noteRisk(.rto, isOver: false, text)) != nil)
        }
        #expect(try cell.refusal(.setSetting(.rto, Objective.valueMax + 1)) == .settingOutOfRange(.rto))
        cell.level = FeatureLevel.cells - 1
        #expect(try cell.refusal(.noteRisk(.rpoRegion, isOver: false, "a replica lags")) == .malformed)
        #expect(try cell.refusal(.setSetting(.rpoZone, 5)) == .malformed)
        #expect(try cell.refusal(.declareDown(HostID(1), Incarnation(1), silence: 9)) == .malformed)
    }

    @Test
    func `a VM counts as lost from when its host was heard last until it runs, once for all that were lost with it`()
        throws
    {
        var cell = try bench()
        try cell.must(.setSetting(.rto, Objective.within(.seconds(30)).value))
        let ids = try ["a", "b", "c"].map { try cell.running($0, on: 1) }
        let stops = try cell.running("d", on: 1)
        let keeps = try cell.running("e", on: 2)
        cell.time = cell.time.advanced(by: 60_000)
        let heard = LogTime(cell.time.rawValue - 4_000)
        try cell.must(.declareDown(HostID(1), Incarnation(1), silence: 4_000))
        for id in ids + [stops] { #expect(try cell.vm(id).lostAt == heard) }
        #expect(try cell.vm(keeps).lostAt == .zero)
        try cell.must(.setPower(stops, .stopped, generation: nil))
        #expect(try cell.vm(stops).lostAt == .zero, "nobody waits for it")
        for (after, id) in zip([1_000, 5_000] as [UInt64], ids) {
            cell.time = cell.time.advanced(by: after)
            try cell.place(id, on: 2)
            #expect(try cell.vm(id).lostAt == heard)
            try cell.report(id, .running)
            #expect(try cell.vm(id).lostAt == .zero)
        }
        var known = try #require(try cell.slice("t")?.recovery)
        #expect(known.last.vms == 2 && known.last.millis == 10_000 && known.losses == 1 && known.missed == 0)
        #expect(known.last == known.longest && known.last.lostAt == heard)
        // The last of them is late, and the only event says so.
        cell.time = cell.time.advanced(by: 40_000)
        try cell.place(ids[2], on: 3)
        try cell.report(ids[2], .running)
        known = try #require(try cell.slice("t")?.recovery)
        #expect(known.last.vms == 3 && known.last.millis == 50_000 && known.missed == 1 && known.last.isMissed)
        let late = try cell.events().filter { $0.kind == "tenant.rto-missed" }
        #expect(late.count == 1 && late[0].text.contains("50000 ms") && late[0].text.contains("30s"), "\(late)")
        // Another loss, long after, is another one; the longest stays.
        cell.time = cell.time.advanced(by: 200_000)
        try cell.must(.declareDown(HostID(3), Incarnation(1), silence: 4_000))
        try cell.place(ids[2], on: 2)
        try cell.report(ids[2], .running)
        let after = try #require(try cell.slice("t")?.recovery)
        #expect(after.losses == 2 && after.last.vms == 1 && after.last.millis == 4_000 && !after.last.isMissed)
        #expect(after.longest == known.longest && after.missed == 1)
    }

    @Test func `a tenant's own time goes before its cell's, and none is no promise`() throws {
        func missed(_ own: Objective) throws -> UInt64 {
            var cell = try bench()
            try cell.must(.setSetting(.rto, Objective.within(.seconds(30)).value))
            try cell.must(.setSlice(tenant: "t", revision: Revision(1), Quota(rto: own)))
            let id = try cell.running("a", on: 1)
            cell.time = cell.time.advanced(by: 60_000)
            try cell.must(.declareDown(HostID(1), Incarnation(1), silence: 20_000))
            try cell.place(id, on: 2)
            try cell.report(id, .running)
            let slice = try #require(try cell.slice("t"))
            #expect(slice.quota.rto == own && slice.recovery?.last.millis == 20_000)
            return slice.recovery?.missed ?? 0
        }
        #expect(try missed(.auto) == 0 && missed(.none) == 0 && missed(.within(.seconds(20))) == 0)
        #expect(try missed(.within(.milliseconds(19_999))) == 1)
    }

    @Test func `before the level is open nothing is counted, and what is lost twice was lost first`() throws {
        var cell = try bench()
        cell.level = FeatureLevel.cells - 1
        let old = try cell.running("old", on: 1)
        try cell.must(.declareDown(HostID(1), Incarnation(1)))
        #expect(try cell.vm(old).lostAt == .zero)
        cell.level = FeatureLevel.newest
        try cell.place(old, on: 2)
        try cell.report(old, .running)
        #expect(try cell.slice("t")?.recovery == nil)
        try cell.register(1, incarnation: 2)
        try cell.must(.declareDown(HostID(2), Incarnation(1), silence: 1_000))
        let first = try cell.vm(old).lostAt
        cell.time = cell.time.advanced(by: 9_000)
        try cell.place(old, on: 3)
        try cell.must(.noteRegion(CellRegion(name: "r", epoch: 1, isLost: true)))
        try cell.must(.declareDown(HostID(3), Incarnation(1)))
        try cell.must(.removeHost(HostID(3), isForced: true))
        #expect(try cell.vm(old).lostAt == first && cell.vm(old).phase == .waiting)
    }

    @Test func `what is new is written as another implementation writes it`() throws {
        let commands = [
            CellCommand(by: "controller", .noteRisk(.rpoRegion, isOver: true, "kept")),
            CellCommand(by: "controller", .declareDown(HostID(7), Incarnation(2), silence: 4_300)),
            CellCommand(by: "admin", .setSetting(.rpoZone, 5_002)),
        ]
        let bytes = try SpaceWireTests().golden("cell-objectives-v3")
        #expect(Cell.pack(commands.map { $0.encoded() }, level: 3, time: LogTime(1_700_000_000_000)) == bytes)
        for command in commands {
            #expect(try CellCommand.decode(command.encoded(), level: 3).get() == command)
            #expect(CellCommand.decode(command.encoded(), level: 2) == .failure(.malformed))
        }
        var slice = TenantSlice(tenant: "t")
        var loss = TenantRecovery.Loss(lostAt: LogTime(300))
        (loss.millis, loss.vms, loss.isMissed) = (9, 8, true)
        slice.recovery = TenantRecovery(loss)
        slice.recovery?.missed = 4
        #expect(TenantSlice.decode(slice.encoded()) == slice)
        var report = CellReport(group: GroupID(.cell, number: 2))
        report.risks = [CellRisk(.survival, since: LogTime(300), "why")]
        #expect(
            try RootCommand.decode(RootCommand(by: "c", .reportCell(report)).encoded(), level: 3).get().operation
                == .reportCell(report))
        #expect(report.isNews(to: CellReport(group: GroupID(.cell, number: 2))))
    }
}
