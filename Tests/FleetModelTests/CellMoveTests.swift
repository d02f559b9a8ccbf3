import ClusterBase
import FleetModel
import Testing

/// VMs go from cell to cell, whatever is lost, repeated or late between them.
@Suite struct CellMoveTests {
    private static let tenant = "t"

    /// Cells of two hosts each; the first has the tenant's quota.
    private func cells(_ quota: Quota = Quota(vmCount: 4), count: Int = 2) throws -> [CellBench] {
        try (1...count).map { number in
            var cell = CellBench()
            cell.group = GroupID(.cell, number: UInt64(number))
            cell.level = FeatureLevel.cells
            for host in 1...2 { try cell.register(UInt64(10 * number + host)) }
            try cell.must(.setSlice(tenant: Self.tenant, revision: Revision(256), number == 1 ? quota : quota.emptied))
            return cell
        }
    }

    private func moves(_ cell: CellBench) throws -> [CellMove] {
        try cell.rows(.all(.moves)).compactMap { if case .move(_, let move?) = $0 { move } else { nil } }
    }

    private func stone(_ cell: CellBench, _ id: VMID) throws -> CellTombstone? {
        var key: [UInt8] = []
        key.appendBigEndian(id.rawValue)
        for case .tombstone(_, let stone?) in try cell.rows(.one(.tombstones, key: key)) { return stone }
        return nil
    }

    private func prepare(_ cells: [CellBench], _ move: CellMove, from: Int = 0) throws -> CellCommand.Operation {
        .prepareArrival(move.preparation(of: try cells[from].vm(move.vm), from: UInt64(from + 1)))
    }

    private func step(_ move: CellMove, _ step: CellMove.Step, _ why: String = "") -> CellCommand.Operation {
        .advanceMove(move.number, step, reason: why)
    }

    private func only(_ cell: CellBench) throws -> CellMove { try #require(try moves(cell).first) }

    @Test func `a VM that leaves an evacuated region counts as down from when it is to stop until it runs there`()
        throws
    {
        for (cause, isCounted) in [(CellMove.Cause.evacuation, true), (.asked, false)] {
            var cells = try cells()
            try cells[1].must(.setSetting(.rto, Objective.within(.seconds(5)).value))
            let id = try cells[0].running("a", on: 11)
            try cells[0].must(.moveVM(id, to: 2, request: [], cause: cause))
            #expect(try cells[1].refusal(try prepare(cells, try only(cells[0]))) == .notKeptYet(id))
            try cells[1].place(id, on: 21)
            cells[0].time = cells[0].time.advanced(by: 70_000)
            try cells[0].must(step(try only(cells[0]), .leave))
            let stopped = cells[0].time
            for at in 0..<2 { cells[at].time = stopped.advanced(by: 2_000) }
            try cells[0].report(id, .stopped)
            try cells[0].must(step(try only(cells[0]), .commit))
            let move = try only(cells[0])
            try cells[1].must(move.ending(from: 1, open: [move]))
            #expect(try cells[1].vm(id).lostAt == (isCounted ? stopped : .zero))
            cells[1].time = stopped.advanced(by: 7_000)
            try cells[1].report(id, .running)
            let recovery = try cells[1].slice(Self.tenant)?.recovery
            #expect(
                (recovery != nil) == isCounted && recovery.map { $0.last.millis == 7_000 && $0.missed == 1 } ?? true)
            let told = try cells[1].events().contains { $0.kind == "tenant.rto-missed" }
            #expect(told == isCounted)
        }
        // One that stays after all counts where it stays.
        var cells = try cells()
        let id = try cells[0].running("a", on: 11)
        try cells[0].must(.moveVM(id, to: 2, request: [], cause: .evacuation))
        try cells[0].must(step(try only(cells[0]), .leave))
        let since = cells[0].time
        try cells[0].report(id, .stopped)
        try cells[0].must(step(try only(cells[0]), .abort, "no"))
        #expect(try cells[0].vm(id).lostAt == since)
    }

    @Test func `a running VM stops, and starts in the other cell under a higher epoch, with its quota`() throws {
        var cells = try cells()
        let id = try cells[0].create("a")
        try cells[0].place(id, on: 11)
        try cells[0].report(id, .running)
        try cells[0].must(.moveVM(id, to: 2, request: [], isCold: true))
        let move = try only(cells[0])
        #expect(try cells[0].refusal(.setPower(id, .stopped, generation: nil)) == .betweenCells(id))
        #expect(try cells[0].refusal(.deleteVM(id, generation: nil)) == .betweenCells(id))
        #expect(try cells[0].refusal(.moveVM(id, to: 2, request: [])) == .betweenCells(id))
        #expect(try cells[0].vm(id).phase == .running, "nothing changes before it is kept")
        let preparation = try prepare(cells, move)
        for _ in 0..<2 { #expect(try cells[1].refusal(preparation) == .notKeptYet(id)) }
        #expect(try cells[1].slice(Self.tenant)?.usedCount == 1 && cells[1].slice(Self.tenant)?.allowed.vmCount == 1)
        try cells[1].place(id, on: 21)
        #expect(try cells[1].host(21).used.cpuMillis == 1_000, "its room is kept")
        #expect(try cells[1].work(21) == [], "nothing of it runs there")
        #expect(try cells[1].vm(id).permit(on: HostID(21)) == nil)
        #expect(try cells[1].refusal(.setPower(id, .stopped, generation: nil)) == .betweenCells(id))
        for _ in 0..<2 { try cells[1].must(preparation) }
        try cells[0].must(step(move, .leave))
        #expect(try cells[0].refusal(step(move, .commit)) == .betweenCells(id), "its copy is not gone")
        #expect(try cells[0].vm(id).place?.isReleasing == true)
        try cells[0].report(id, .stopped)
        #expect(
            try cells[0].refusal(
                .placeVMs(
                    [Placing(id, generation: try cells[0].vm(id).generation, Assignment(host: HostID(12)))],
                    isAtomic: false)) == .notWaiting(id))
        for _ in 0..<2 { try cells[0].must(step(move, .commit)) }
        #expect(try cells[0].find(id) == nil && stone(cells[0], id)?.movedTo == 2)
        #expect(try cells[0].slice(Self.tenant)?.usedCount == 0 && cells[0].slice(Self.tenant)?.allowed.vmCount == 3)
        #expect(try cells[0].refusal(step(move, .abort)) == .moveIsOver)
        #expect(try cells[0].refusal(.closeCell) != nil)
        let ending = try only(cells[0]).ending(from: 1, open: moves(cells[0]))
        for _ in 0..<2 { try cells[1].must(ending) }
        for _ in 0..<2 { try cells[0].must(step(move, .settle)) }
        let there = try cells[1].vm(id)
        #expect(there.phase == .starting && there.place?.epoch == 2 && there.arrival == nil)
        #expect(try cells[1].work(21)?.map(\.id) == [id])
        #expect(try moves(cells[0]).isEmpty)
        // What comes late means nothing.
        #expect(try cells[1].refusal(preparation) == .moveIsOver)
        try cells[1].must(.endArrival(id, from: 1, number: move.number, isCommitted: false, epoch: 0, floor: 0))
        #expect(try cells[1].find(id) == there)
        #expect(try cells[0].events(vm: id).map(\.kind).suffix(2) == ["vm.released", "vm.moved"])
        #expect(try cells[1].events(vm: id).map(\.kind) == ["vm.arrived"])
    }

    @Test func `a stopped VM goes at once and back again, and its id finds it where it is`() throws {
        var cells = try cells()
        let id = try cells[0].create("a", power: .stopped)
        for (from, to) in [(0, 1), (1, 0)] {
            try cells[from].must(.moveVM(id, to: UInt64(to + 1), request: []))
            let move = try only(cells[from])
            try cells[to].must(try prepare(cells, move, from: from))
            for next in [CellMove.Step.leave, .commit] { try cells[from].must(step(move, next)) }
            try cells[to].must(try only(cells[from]).ending(from: UInt64(from + 1), open: [move]))
            try cells[from].must(step(move, .settle))
            #expect(try cells[to].vm(id).phase == .stopped && cells[from].find(id) == nil)
            #expect(try stone(cells[from], id)?.movedTo == UInt64(to + 1) && stone(cells[to], id) == nil)
        }
        #expect(try cells[0].slice(Self.tenant)?.allowed.vmCount == 4)
        // What is remembered of it goes with time, and nothing else does.
        cells[1].time = cells[1].time.advanced(by: 48 * 3_600_000)
        cells[0].time = cells[1].time
        for i in 0...1 { try cells[i].must(.collectGarbage) }
        #expect(try stone(cells[1], id) == nil && cells[1].rows(.vmNamed(tenant: "t", name: "a")).isEmpty)
        #expect(try !cells[0].rows(.vmNamed(tenant: "t", name: "a")).isEmpty)
    }

    @Test func `what is called off leaves nothing, also where it is heard of before it was asked for`() throws {
        var cells = try cells()
        let id = try cells[0].running("a", on: 11)
        for isEarly in [false, true] {
            try cells[0].must(.moveVM(id, to: 2, request: []))
            let move = try only(cells[0])
            let preparation = try prepare(cells, move)
            if !isEarly { #expect(try cells[1].refusal(preparation) == .notKeptYet(id)) }
            for _ in 0..<2 { try cells[0].must(step(move, .abort, "no more")) }
            #expect(try cells[0].refusal(step(move, .leave)) == .moveIsOver)
            #expect(try cells[0].vm(id).phase == .running && cells[0].vm(id).departure == nil)
            try cells[1].must(try only(cells[0]).ending(from: 1, open: moves(cells[0])))
            #expect(try cells[1].refusal(preparation) == .moveIsOver)
            try cells[0].must(step(move, .settle))
            #expect(try cells[1].find(id) == nil && cells[1].slice(Self.tenant)?.usedCount == 0)
            #expect(try cells[1].slice(Self.tenant)?.net == .zero)
            #expect(try cells[1].rows(.vmNamed(tenant: "t", name: "a")).isEmpty)
        }
    }

    @Test func `a VM is not taken where its name, its group, its host or a quota of others is in the way`() throws {
        var cells = try cells(Quota(vmCount: 4))
        try cells[0].must(.putGroup(CellGroup(name: "g", tenant: "t", rule: .antiAffinity(perDomainMax: 1))))
        var grouped = CellBench.spec()
        grouped.groups = ["g"]
        var local = CellBench.spec()
        local.disks = [.init(name: "d", sizeMiB: 1, kind: .local)]
        let first = try cells[0].create("a", grouped, power: .stopped)
        let bound = try cells[0].create("b", local, power: .stopped)
        #expect(try cells[0].refusal(.moveVM(bound, to: 2, request: [])) == .boundToHost(bound))
        #expect(try cells[0].refusal(.moveVM(first, to: 1, request: [])) != nil)
        try cells[0].must(.moveVM(first, to: 2, request: []))
        let move = try only(cells[0])
        #expect(try cells[1].refusal(try prepare(cells, move)) == .unknownGroup("g"))
        try cells[1].must(.putGroup(CellGroup(name: "g", tenant: "t", rule: .antiAffinity(perDomainMax: 1))))
        try cells[1].must(.setSlice(tenant: "t", revision: Revision(512), .unlimited))
        let other = try cells[1].create("a", power: .stopped)
        #expect(try cells[1].refusal(try prepare(cells, move)) == .vmNameTaken("a"))
        try cells[1].must(.deleteVM(other, generation: nil))
        // A bound that the VM's own cell does not know.
        try cells[1].must(.setSlice(tenant: "t", revision: Revision(768), Quota(cpuMillis: 500)))
        guard case .quotaExceeded? = try cells[1].refusal(try prepare(cells, move)) else {
            Issue.record("it was taken without a quota")
            return
        }
        try cells[1].must(.setSlice(tenant: "t", revision: Revision(1_024), .unlimited))
        try cells[1].must(try prepare(cells, move))
        #expect(try cells[1].refusal(.deleteGroup(tenant: "t", name: "g")) == .groupInUse("g"))
    }

    @Test func `a name from before the second cell is held when its VM goes to that cell`() throws {
        var cells = try cells()
        let id = try cells[0].create("a", power: .stopped)
        func hold(_ name: String, _ request: UInt8) -> CellCommand.Operation {
            .holdName(tenant: "t", name: name, cell: 1, request: CellBench.request(request), replaces: [])
        }
        #expect(try cells[0].refusal(hold("a", 1)) == .vmNameTaken("a"))
        try cells[0].must(.moveVM(id, to: 2, request: [], keepsName: true))
        let move = try only(cells[0])
        try cells[1].must(try prepare(cells, move))
        for next in [CellMove.Step.leave, .commit] { try cells[0].must(step(move, next)) }
        guard case .nameHeld(let cell, let request)? = try cells[0].refusal(hold("a", 1)) else {
            Issue.record("the VM is in the other cell, under this name")
            return
        }
        #expect(cell == 2 && request.count == CellLimits.requestBytes)
        // Whoever has found out that it is gone for good takes the name over.
        try cells[0].must(
            .holdName(tenant: "t", name: "a", cell: 1, request: CellBench.request(1), replaces: request))
        // Nobody keeps the names of a cell that is none of several.
        let other = try cells[0].create("b", power: .stopped)
        try cells[0].must(.moveVM(other, to: 2, request: []))
        let second = try #require(try moves(cells[0]).last)
        try cells[1].must(try prepare(cells, second))
        for next in [CellMove.Step.leave, .commit] { try cells[0].must(step(second, next)) }
        try cells[0].must(hold("b", 2))
    }

    @Test func `what is kept for a VM ends when the cell that it is of has forgotten the move`() throws {
        var cells = try cells()
        let id = try cells[0].create("a")
        // What a recovery by force gives up.
        let before = cells[0]
        try cells[0].must(.moveVM(id, to: 2, request: []))
        let move = try only(cells[0])
        #expect(try cells[1].refusal(try prepare(cells, move)) == .notKeptYet(id))
        func confirm(_ number: UInt64 = move.number, from: UInt64 = 1) -> CellCommand.Operation {
            .confirmMove(id, from: from, number: number)
        }
        try cells[0].must(confirm())
        #expect(try cells[0].refusal(confirm(move.number + 1)) == .moveIsOver, "there is another one")
        cells[0] = before
        try cells[0].must(.noteTime)
        func arrivals() throws -> [VMID] {
            try cells[1].rows(.all(.arrivals)).compactMap { if case .arrival(let vm, .some) = $0 { vm } else { nil } }
        }
        #expect(try arrivals() == [id])
        #expect(try cells[0].refusal(confirm()) == .moveIsOver)
        #expect(try cells[0].refusal(confirm(from: 2)) != nil)
        try cells[1].must(.endArrival(id, from: 1, number: move.number, isCommitted: false, epoch: 0, floor: 0))
        #expect(try arrivals().isEmpty)
        #expect(try cells[1].find(id) == nil && cells[1].slice(Self.tenant)?.usedCount ?? 0 == 0)
        #expect(try cells[0].vm(id).departure == nil)
        // One that is gone from there may have gone by this move: it is nobody's to end.
        var gone = before
        try gone.must(.deleteVM(id, generation: nil))
        #expect(try gone.refusal(confirm()) == .unknownVM(id))
    }

    @Test func `a VM that no host takes is not kept yet, and why goes back to its cell`() throws {
        var cells = try cells()
        let id = try cells[0].create("a")
        try cells[0].must(.moveVM(id, to: 2, request: []))
        let preparation = try prepare(cells, try only(cells[0]))
        for _ in 0..<2 { #expect(try cells[1].refusal(preparation) == .notKeptYet(id)) }
        #expect(try cells[1].apply(.explainWaiting([WaitingReason(id, "no host fits")])) == .items([.vm(id)]))
        let refusal = try #require(try cells[1].refusal(preparation))
        #expect(refusal == .notKeptYet(id, why: "no host fits"))
        #expect("\(refusal)".contains("no place in this cell yet: no host fits"))
        // The reason of the end of a move has a bound.
        let long = WaitingReason(id, String(repeating: "ü", count: 2_000))
        #expect(try cells[1].apply(.explainWaiting([long])) == .items([.vm(id)]))
        #expect(
            try cells[1].refusal(preparation)
                == .notKeptYet(id, why: String(repeating: "ü", count: CellLimits.textBytesMax / 2)))
        try cells[1].place(id, on: 21)
        try cells[1].must(preparation)
    }
}
