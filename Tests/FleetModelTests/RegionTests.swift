import ClusterBase
import FleetModel
import Testing

/// Regions that are declared lost and back, and what cells make of that.
@Suite struct RegionTests {
    // MARK: The root

    private func root() throws -> RootBench {
        var root = try RootBench()
        root.level = FeatureLevel.regions
        try root.node("n2", region: "north")
        return root
    }

    private func declare(
        _ root: inout RootBench, _ isLost: Bool, epoch: UInt64, _ name: String = "north"
    ) throws -> RootResult.Outcome {
        try root.apply(.declareRegion(name: name, isLost: isLost, epoch: epoch, isAutomatic: false), by: "ada")
    }

    @Test func `a region is lost and back under higher and higher epochs, by whoever knew the one before`() throws {
        var root = try root()
        #expect(try declare(&root, true, epoch: 3) == .refused(.regionChanged(0)))
        for _ in 0..<2 { #expect(try declare(&root, true, epoch: 0) == .done) }
        let lost = try #require(try root.view().region("north"))
        #expect(lost.isLost && lost.epoch == 1 && lost.by == "ada" && lost.since == root.time && !lost.isAutomatic)
        #expect(try declare(&root, false, epoch: 0) == .refused(.regionChanged(1)))
        for _ in 0..<2 { #expect(try declare(&root, false, epoch: 1) == .done) }
        #expect(try root.view().region("north")?.isLost == false && root.view().region("north")?.epoch == 2)
        #expect(try declare(&root, true, epoch: 2) == .done)
        #expect(try root.view().region("north")?.epoch == 3 && root.view().region("r") == nil)
    }

    @Test func `a loss that was found out by itself becomes that of the person who declares it, under another epoch`()
        throws
    {
        var root = try root()
        func found() throws -> RootResult.Outcome {
            try root.apply(.declareRegion(name: "north", isLost: true, epoch: 0, isAutomatic: true), by: "root")
        }
        #expect(try found() == .done)
        let before = try #require(try root.view().region("north"))
        #expect(before.isAutomatic && before.epoch == 1)
        #expect(try declare(&root, true, epoch: 0) == .refused(.regionChanged(1)))
        #expect(try declare(&root, true, epoch: 1) == .done)
        let after = try #require(try root.view().region("north"))
        #expect(after.isLost && !after.isAutomatic && after.epoch == 2 && after.by == "ada")
        #expect(after.since == before.since, "lost since it was found so")
        for _ in 0..<2 { #expect(try declare(&root, true, epoch: 1) == .done, "said again it is no news") }
        #expect(try found() == .done)
        #expect(try root.view().region("north") == after, "nobody finds out what a person has said")
        let back = RootCommand.Operation.declareRegion(name: "north", isLost: false, epoch: 1, isAutomatic: true)
        #expect(try root.apply(back, by: "root") == .refused(.regionChanged(2)))
        #expect(try declare(&root, false, epoch: 2) == .done)
    }

    @Test func `a region without nodes, and the only one, can't be lost; a region that never was is back anyway`()
        throws
    {
        var root = try root()
        #expect(try declare(&root, true, epoch: 0, "east") == .refused(.unknownRegion("east")))
        #expect(try declare(&root, true, epoch: 0, "") == .refused(.invalid(.region)))
        #expect(try declare(&root, false, epoch: 0) == .done && root.view().region("north") == nil)
        #expect(try declare(&root, false, epoch: 0, "east") == .refused(.unknownRegion("east")))
        var alone = try RootBench()
        alone.level = FeatureLevel.regions
        #expect(try declare(&alone, true, epoch: 0, "r") == .refused(.onlyRegion("r")))
        alone.level = FeatureLevel.oldest
        try alone.node("n2", region: "north")
        #expect(try declare(&alone, true, epoch: 0) == .refused(.malformed), "older programs would not know it")
    }

    @Test func `of many regions those that are back make room, and lost ones never`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.regions
        try root.addToken(uses: 10_000)
        try root.node("n2", region: "north")
        for number in 0..<RootLimits.regionsMax { try root.node("m\(number)", region: "q\(number)") }
        #expect(try declare(&root, true, epoch: 0) == .done && declare(&root, false, epoch: 1) == .done)
        for number in 0..<RootLimits.regionsMax {
            #expect(try declare(&root, true, epoch: 0, "q\(number)") == .done)
        }
        #expect(try root.view().region("north") == nil, "it was back, and the oldest")
        #expect(try root.view().cluster?.regions.count == RootLimits.regionsMax)
        #expect(try declare(&root, true, epoch: 0) == .refused(.tooMany(.regions)))
    }

    // MARK: A cell

    private func cell(north: Int, south: Int) throws -> CellBench {
        var cell = CellBench()
        cell.level = FeatureLevel.regions
        for id in 1...(north + south) {
            var about = CellBench.about(UInt64(id))
            about.locality.region = id <= north ? "north" : "south"
            try cell.register(UInt64(id), about)
        }
        return cell
    }

    private func note(_ isLost: Bool, _ epoch: UInt64, _ name: String = "north") -> CellCommand.Operation {
        .noteRegion(CellRegion(name: name, epoch: epoch, isLost: isLost))
    }

    @Test func `the brake lets go of a lost region's hosts, and holds for the others as if those were not there`()
        throws
    {
        var cell = try cell(north: 4, south: 4)
        func down(_ host: UInt64) -> CellCommand.Operation { .declareDown(HostID(host), Incarnation(1)) }
        for host in 1...4 as ClosedRange<UInt64> { try cell.must(down(host)) }
        #expect(try cell.refusal(down(5)) == .brakeHolds)
        try cell.must(note(true, 4))
        try cell.must(down(5))
        try cell.must(down(6))
        #expect(try cell.refusal(down(7)) == .brakeHolds, "half of what is left is gone")
        // The region is back: what was noted before means nothing any more.
        try cell.must(note(false, 5))
        #expect(try cell.refusal(note(true, 4)) == .regionOutdated(5))
        for host in 1...4 as ClosedRange<UInt64> {
            var about = CellBench.about(host)
            about.locality.region = "north"
            try cell.register(host, about, incarnation: 2)
        }
        try cell.must(.declareDown(HostID(1), Incarnation(2)))
        try cell.must(.declareDown(HostID(2), Incarnation(2)))
        #expect(try cell.refusal(.declareDown(HostID(3), Incarnation(2))) == .brakeHolds)
        for _ in 0..<2 { try cell.must(note(true, 6)) }
        try cell.must(.declareDown(HostID(3), Incarnation(2)))
        #expect(try cell.refusal(note(true, 0)) != nil && cell.refusal(note(true, 9, "")) != nil)
    }

    @Test func `what a cell knows of regions has a bound, and lost ones stay the longest`() throws {
        var cell = try cell(north: 4, south: 4)
        try cell.must(note(true, 1))
        for number in 0..<CellLimits.regionsMax { try cell.must(note(false, UInt64(number + 2), "q\(number)")) }
        for host in 1...4 as ClosedRange<UInt64> { try cell.must(.declareDown(HostID(host), Incarnation(1))) }
        try cell.must(.declareDown(HostID(5), Incarnation(1)))
        #expect(try cell.refusal(note(true, 0, "q1")) != nil)
        #expect(try cell.refusal(note(true, 2, "q5")) == .regionOutdated(7))
    }

    @Test func `a VM without a place goes because its region is lost, and knows its home there`() throws {
        var cells = try [1, 2].map { number in
            var cell = CellBench()
            cell.group = GroupID(.cell, number: UInt64(number))
            cell.level = FeatureLevel.regions
            try cell.register(UInt64(10 * number))
            return cell
        }
        var spec = CellBench.spec()
        (spec.regionLoss, spec.returnsHome, spec.regions) = (.mustMove, true, ["south"])
        let id = try cells[0].create("a", spec)
        let home = CellVM.Home(cell: 1, region: "north", epoch: 4)
        func moves(_ cell: CellBench) throws -> [CellMove] {
            try cell.rows(.all(.moves)).compactMap { if case .move(_, let move?) = $0 { move } else { nil } }
        }
        func go(_ cause: CellMove.Cause, _ home: CellVM.Home?, _ from: Int = 0) -> CellCommand.Operation {
            .moveVM(id, to: UInt64(2 - from), request: [], home: home, cause: cause, isCold: true)
        }
        try cells[0].place(id, on: 10)
        #expect(try cells[0].refusal(go(.regionLost, home)) == .notWaiting(id))
        try cells[0].must(.declareDown(HostID(10), Incarnation(1)))
        try cells[0].must(go(.regionLost, home))
        var move = try #require(try moves(cells[0]).first)
        // Its host is back before the other cell has room: it stays.
        try cells[0].register(10, incarnation: 2)
        try cells[0].place(id, on: 10)
        try cells[0].must(.advanceMove(move.number, .leave, reason: ""))
        #expect(try moves(cells[0]).first?.phase == .aborting && cells[0].vm(id).departure == nil)
        #expect(try cells[0].vm(id).place != nil)
        try cells[0].must(.advanceMove(move.number, .settle, reason: ""))
        try cells[0].must(.declareDown(HostID(10), Incarnation(2)))
        try cells[0].must(go(.regionLost, home))
        move = try #require(try moves(cells[0]).first)
        func bring(_ from: Int) throws {
            let move = try #require(try moves(cells[from]).first)
            let to = 1 - from
            let arrival = move.preparation(of: try cells[from].vm(id), from: UInt64(from + 1))
            _ = try cells[to].apply(.prepareArrival(arrival))
            try cells[to].place(id, on: UInt64(10 * (to + 1)))
            try cells[to].must(.prepareArrival(arrival))
            try cells[from].must(.advanceMove(move.number, .leave, reason: ""))
            if try cells[from].vm(id).place != nil { try cells[from].report(id, .stopped) }
            try cells[from].must(.advanceMove(move.number, .commit, reason: ""))
            let ending = try #require(try moves(cells[from]).first).ending(from: UInt64(from + 1), open: [])
            try cells[to].must(ending)
            try cells[from].must(.advanceMove(move.number, .settle, reason: ""))
        }
        try bring(0)
        let there = try cells[1].vm(id)
        #expect(there.home == home && there.spec == spec && there.phase == .starting)
        try cells[1].report(id, .running)
        try cells[0].register(10, incarnation: 3)
        try cells[1].must(go(.regionBack, nil, 1))
        #expect(try cells[1].vm(id).phase == .running, "nothing changes before there is room at home")
        try bring(1)
        #expect(try cells[0].vm(id).home == nil && cells[0].vm(id).phase == .starting)
        #expect(try cells[0].vm(id).epochHighest > there.epochHighest)
    }

    private func plan(
        _ root: inout RootBench, _ step: RegionPlan.Step, epoch: UInt64, returns: RegionPlan.Returns? = nil,
        _ name: String = "north"
    ) throws -> RootResult.Outcome {
        try root.apply(.planRegion(name: name, step, returns: returns, epoch: epoch), by: "ada")
    }

    @Test func `a plan for a region begins, pauses, goes on, ends and turns round, by whoever knew what was`() throws {
        var root = try root()
        #expect(try plan(&root, .pause, epoch: 0) == .refused(.noRegionPlan("north")))
        #expect(try plan(&root, .cancel, epoch: 0) == .refused(.noRegionPlan("north")))
        #expect(try plan(&root, .evacuate, epoch: 7) == .refused(.regionChanged(0)))
        #expect(try plan(&root, .evacuate, epoch: 0, returns: .all) == .done)
        let begun = try #require(try root.view().region("north"))
        #expect(begun.isEvacuated && begun.sendsAway && !begun.isLost && begun.epoch == 1 && begun.plan?.number == 1)
        #expect(begun.plan?.returns == .all && begun.plan?.by == "ada")
        #expect(try plan(&root, .evacuate, epoch: 0) == .done, "said again it is no news")
        #expect(try root.view().region("north") == begun)
        #expect(try plan(&root, .pause, epoch: 1) == .done)
        let paused = try #require(try root.view().region("north"))
        #expect(paused.isEvacuated && !paused.sendsAway && paused.plan?.number == 1 && paused.epoch == 2)
        #expect(try plan(&root, .cancel, epoch: 1) == .refused(.regionChanged(2)))
        #expect(try plan(&root, .resume, epoch: 2) == .done)
        #expect(try root.view().region("north")?.sendsAway == true)
        #expect(try plan(&root, .goBack, epoch: 3) == .done)
        let home = CellVM.Home(cell: 1, region: "north", epoch: 1)
        let back = try #require(try root.view().region("north"))
        #expect(!back.isEvacuated && back.takesBack(home, returnsHome: false), "all were to return")
        #expect(back.plan?.number == 4 && !back.callsOff(.regionBack) && back.callsOff(.evacuation))
        #expect(try plan(&root, .goBack, epoch: 4, returns: RegionPlan.Returns.none) == .done)
        #expect(try root.view().region("north")?.takesBack(home, returnsHome: true) == false)
        #expect(try plan(&root, .cancel, epoch: 5) == .done)
        #expect(try root.view().region("north")?.callsOff(.regionBack) == true)
        #expect(try plan(&root, .resume, epoch: 6) == .refused(.noRegionPlan("north")))
    }

    @Test
    func
        `a lost region is not evacuated, an evacuated one that is lost still is when it is back, and one is left open`()
        throws
    {
        var root = try root()
        try root.node("n3", region: "west")
        #expect(try plan(&root, .evacuate, epoch: 0, "east") == .refused(.unknownRegion("east")))
        #expect(try plan(&root, .evacuate, epoch: 0) == .done)
        #expect(try plan(&root, .evacuate, epoch: 0, "west") == .done)
        #expect(try plan(&root, .evacuate, epoch: 0, "r") == .refused(.noRegionLeft("r")))
        #expect(try declare(&root, true, epoch: 1) == .done)
        let lost = try #require(try root.view().region("north"))
        #expect(lost.isLost && lost.isEvacuated && !lost.sendsAway)
        #expect(try plan(&root, .goBack, epoch: lost.epoch) == .refused(.regionIsLost("north")))
        #expect(try declare(&root, false, epoch: lost.epoch) == .done)
        let back = try #require(try root.view().region("north"))
        #expect(back.sendsAway && !back.takesBack(CellVM.Home(cell: 1, region: "north", epoch: 1), returnsHome: true))
        #expect(try plan(&root, .cancel, epoch: back.epoch) == .done)
        #expect(try declare(&root, true, epoch: back.epoch + 1) == .done)
        #expect(try root.view().region("north")?.plan == nil, "what was called off is over")
        var alone = try RootBench()
        alone.level = FeatureLevel.regions
        #expect(try plan(&alone, .evacuate, epoch: 0, "r") == .refused(.onlyRegion("r")))
        alone.level = FeatureLevel.regions - 1
        try alone.node("n2", region: "north")
        #expect(try plan(&alone, .evacuate, epoch: 0) == .refused(.malformed))
    }

    @Test func `a lease outlasts five times the suspicion of its cell's nodes, and two beats`() {
        func least(_ suspicion: Nanoseconds, _ beat: Nanoseconds) -> UInt64 {
            CellSetting.leaseLeast(suspicion: suspicion, beat: beat)
        }
        #expect(least(.milliseconds(125), .milliseconds(25)) == 675)
        #expect(least(.seconds(2), .milliseconds(25)) == 10_050)
        #expect(least(Nanoseconds(1), .zero) == 1, "a part of a millisecond is one")
        #expect(CellSetting.leaseLength.allows(least(.seconds(2), .seconds(1))))
    }

    @Test func `before the level is open no specification says what becomes of it`() throws {
        var cell = CellBench()
        cell.level = 2
        var spec = CellBench.spec()
        spec.regionLoss = .mayMove
        let creation = CellCommand.Operation.createVMs(
            [VMCreation(name: "a", tenant: "t", spec: spec)], isAtomic: false)
        #expect(try cell.apply(creation) == .refused(.malformed))
        #expect(try cell.apply(note(true, 1)) == .refused(.malformed))
    }
}
