import ClusterBase
import FleetModel
import Testing

/// Hosts go from cell to cell with the VMs on them, whatever is lost, repeated or late between the cells.
@Suite struct HostMoveTests {
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

    private func moves(_ cell: CellBench) throws -> [HostMove] {
        try cell.rows(.all(.hostMoves)).compactMap { if case .hostMove(_, let move?) = $0 { move } else { nil } }
    }

    private func only(_ cell: CellBench) throws -> HostMove { try #require(try moves(cell).first) }

    private func vms(_ cell: CellBench, on host: UInt64) throws -> [CellVM] {
        try cell.rows(.vmsOnHost(HostID(host), after: nil, limit: 0)).compactMap {
            if case .vm(_, let vm?) = $0 { vm } else { nil }
        }
    }

    private func parts(_ cells: [CellBench], _ move: HostMove, from: Int = 0) throws -> [CellCommand.Operation] {
        move.preparations(
            of: try cells[from].host(move.host.rawValue), try vms(cells[from], on: move.host.rawValue),
            from: UInt64(from + 1))
    }

    private func send(_ host: UInt64, to cell: UInt64 = 2, under assignment: UInt64 = 0) -> CellCommand.Operation {
        .sendHost(HostID(host), to: cell, assignment: assignment, keepsNames: false)
    }

    private func commit(_ move: HostMove, _ cell: CellBench) -> CellCommand.Operation {
        .advanceHost(move.number, .commit(through: cell.index))
    }

    private func stone(_ cell: CellBench, _ id: VMID) throws -> CellTombstone? {
        var key: [UInt8] = []
        key.appendBigEndian(id.rawValue)
        for case .tombstone(_, let stone?) in try cell.rows(.one(.tombstones, key: key)) { return stone }
        return nil
    }

    /// All of it, each step twice.
    private func handOver(_ cells: inout [CellBench], _ host: UInt64, under assignment: UInt64, from: Int, to: Int)
        throws
    {
        for _ in 0..<2 { try cells[from].must(send(host, to: UInt64(to + 1), under: assignment)) }
        let move = try only(cells[from])
        for part in try parts(cells, move, from: from) { for _ in 0..<2 { try cells[to].must(part) } }
        for _ in 0..<2 { try cells[from].must(commit(move, cells[from])) }
        let ending = try only(cells[from]).ending(from: UInt64(from + 1), open: moves(cells[from]))
        for _ in 0..<2 { try cells[to].must(ending) }
        for _ in 0..<2 { try cells[from].must(.advanceHost(move.number, .settle)) }
    }

    @Test
    func `a host goes with its VMs as they are: their places, epochs, phases and what of the quota they count for`()
        throws
    {
        var cells = try cells()
        let runs = try cells[0].running("runs", on: 11)
        let stopped = try cells[0].running("stopped", on: 11)
        try cells[0].must(.setPower(stopped, .stopped, generation: nil))
        try cells[0].report(stopped, .stopped)
        let other = try cells[0].running("other", on: 12)
        let before = try (cells[0].vm(runs), cells[0].vm(stopped))
        let hostBefore = try cells[0].host(11)
        try cells[0].must(.setSetting(.leaseLength, 20_000))
        for _ in 0..<2 { try cells[0].must(send(11)) }
        let move = try only(cells[0])
        #expect(move.vms == 2 && move.phase == .preparing)
        // Nobody changes it meanwhile, and its lease goes on.
        #expect(try cells[0].refusal(.setPower(runs, .stopped, generation: nil)) == .hostLeaves(HostID(11)))
        #expect(try cells[0].refusal(.deleteVM(runs, generation: nil)) == .hostLeaves(HostID(11)))
        #expect(try cells[0].refusal(.moveVM(runs, to: 2, request: [])) == .hostLeaves(HostID(11)))
        #expect(try cells[0].refusal(.setHostDuty(HostID(11), .draining)) == .hostLeaves(HostID(11)))
        #expect(try cells[0].refusal(.releaseHost(HostID(11), assignment: 0)) == .hostLeaves(HostID(11)))
        #expect(
            try cells[0].refusal(
                .releaseVMs(
                    [Release(runs, epoch: try cells[0].vm(runs).place?.epoch ?? 0, reason: "r")], cause: .drain))
                == .hostLeaves(HostID(11)))
        #expect(
            try cells[0].refusal(
                .beginMigration(
                    runs, from: try cells[0].vm(runs).place?.epoch ?? 0, to: Assignment(host: HostID(12)), cause: .asked
                ))
                == .hostLeaves(HostID(11)))
        let fresh = try cells[0].create("fresh")
        #expect(try cells[0].refusal(fresh, on: 11) == .hostTakesNone(HostID(11), .cordoned))
        try cells[0].must(.setPower(other, .paused, generation: nil))
        guard case .work(_, _, let lease) = try cells[0].read(.hostWork(HostID(11), since: .zero)).body else { return }
        #expect(lease == 20_000)
        // The other cell keeps it, and nothing of it is its own.
        for part in try parts(cells, move) { for _ in 0..<2 { try cells[1].must(part) } }
        #expect(try cells[1].host(HostID(11)) == nil)
        #expect(try cells[1].slice(Self.tenant)?.usedCount == 2 && cells[1].slice(Self.tenant)?.allowed.vmCount == 2)
        #expect(try cells[1].refusal(.setPower(runs, .stopped, generation: nil)) == .betweenCells(runs))
        #expect(
            try cells[1].refusal(.registerHost(HostID(11), Incarnation(1), CellBench.about(11), running: []))
                == .hostArrives(HostID(11)))
        #expect(try cells[1].refusal(.closeCell) != nil)
        for _ in 0..<2 { try cells[0].must(commit(move, cells[0])) }
        #expect(try cells[0].find(runs) == nil && stone(cells[0], runs)?.movedTo == 2)
        #expect(try cells[0].slice(Self.tenant)?.usedCount == 2 && cells[0].slice(Self.tenant)?.allowed.vmCount == 2)
        let gone = try cells[0].read(.hostWork(HostID(11), since: .zero))
        guard case .work(let none?, _, let promised) = gone.body else { return }
        #expect(none.isEmpty && promised == 0 && gone.wentTo == 2)
        #expect(try cells[0].refusal(.advanceHost(move.number, .abort(reason: "late"))) == .moveIsOver)
        #expect(
            try cells[0].refusal(.registerHost(HostID(11), Incarnation(1), CellBench.about(11), running: []))
                == .hostWentTo(HostID(11), cell: 2))
        #expect(
            try cells[0].refusal(.reportVMs(HostID(11), Incarnation(1), [])) == .hostWentTo(HostID(11), cell: 2))
        #expect(try cells[0].refusal(.releaseHost(HostID(11), assignment: 0)) == .hostReleased(HostID(11)))
        let ending = try only(cells[0]).ending(from: 1, open: moves(cells[0]))
        for _ in 0..<2 { try cells[1].must(ending) }
        for _ in 0..<2 { try cells[0].must(.advanceHost(move.number, .settle)) }
        #expect(try moves(cells[0]).isEmpty)
        for (id, was) in [(runs, before.0), (stopped, before.1)] {
            var now = try cells[1].vm(id)
            #expect(try cells[1].events(vm: id).map(\.kind) == ["vm.arrived"])
            (now.revision, now.events) = (was.revision, was.events)
            #expect(now == was, "as it was")
        }
        let host = try cells[1].host(11)
        #expect(host.health == .up && host.used == hostBefore.used && host.vmCount == 2)
        #expect(host.leaseBase > move.number >> 8, "the generations of its leases go on")
        #expect(try cells[1].work(11)?.map(\.id) == [runs, stopped])
        var key: [UInt8] = []
        key.appendBigEndian(UInt64(CellSetting.leaseBefore.rawValue))
        let kept = try cells[1].rows(.one(.settings, key: key))
        #expect(kept == [.setting(.leaseBefore, 1 << 32 | 20_000)], "the longer lease of before counts here")
        // What comes late means nothing.
        for part in try parts([cells[1], cells[1]], move, from: 0) {
            #expect(try cells[1].refusal(part) == .moveIsOver)
        }
        // From here on it is as any other.
        try cells[1].register(11)
        try cells[1].must(.setPower(runs, .stopped, generation: nil))
        try cells[1].report(runs, .stopped)
        #expect(try cells[1].vm(runs).phase == .stopped)
    }

    @Test func `VMs that come without a part of a quota are judged together by the quota where they come`() throws {
        for (quota, isRefused) in [
            (Quota(vmCount: 1), true), (Quota(vmCount: 2), false), (Quota(memoryMiB: 2_047), true),
            (Quota(memoryMiB: 2_048), false),
        ] {
            var cells = try cells(.unlimited)
            try cells[1].must(.setSlice(tenant: Self.tenant, revision: Revision(512), quota))
            for name in ["a", "b"] { _ = try cells[0].running(name, on: 11) }
            try cells[0].must(send(11))
            let part = try #require(try parts(cells, try only(cells[0])).first)
            guard isRefused else {
                try cells[1].must(part)
                continue
            }
            guard case .quotaExceeded? = try cells[1].refusal(part) else {
                Issue.record("\(quota) took both")
                continue
            }
            #expect(try cells[1].slice(Self.tenant)?.usedCount == 0)
        }
    }

    @Test func `what changes after it was sent is sent again before the host goes`() throws {
        var cells = try cells()
        let id = try cells[0].running("a", on: 11)
        try cells[0].must(send(11))
        let move = try only(cells[0])
        let early = try parts(cells, move)
        for part in early { try cells[1].must(part) }
        let through = cells[0].index
        // It ends by itself, and starts again under another epoch.
        try cells[0].report(id, .crashed)
        try cells[0].must(.retryVM(id, epoch: try cells[0].vm(id).place?.epoch ?? 0))
        #expect(
            try cells[0].refusal(.advanceHost(move.number, .commit(through: through))) == .hostBehind(HostID(11)))
        for part in try parts(cells, move) { try cells[1].must(part) }
        // An older part that comes late takes nothing back.
        for part in early { try cells[1].must(part) }
        let was = try cells[0].vm(id)
        try cells[0].must(commit(move, cells[0]))
        try cells[1].must(try only(cells[0]).ending(from: 1, open: moves(cells[0])))
        #expect(try cells[1].vm(id).place == was.place && cells[1].vm(id).epochHighest == 2)
    }

    @Test func `a host that is called off, lost or removed stays with its VMs, and is kept nowhere else`() throws {
        for way in 0..<4 {
            var cells = try cells()
            let id = try cells[0].running("a", on: 11)
            try cells[0].must(send(11, under: 3))
            let move = try only(cells[0])
            let parts = try parts(cells, move)
            for part in parts { try cells[1].must(part) }
            switch way {
            case 0: for _ in 0..<2 { try cells[0].must(.advanceHost(move.number, .abort(reason: "no more"))) }
            case 1: for _ in 0..<2 { try cells[0].must(send(11, to: 1, under: 3)) }
            case 2: try cells[0].must(.declareDown(HostID(11), Incarnation(1)))
            default:
                try cells[0].must(.declareDown(HostID(11), Incarnation(1)))
                try cells[0].must(.removeHost(HostID(11), isForced: true))
            }
            #expect(try only(cells[0]).phase == .aborting)
            #expect(try cells[0].refusal(commit(move, cells[0])) == .moveIsOver)
            #expect(try cells[0].find(id) != nil && cells[0].host(11).departure == nil)
            let ending = try only(cells[0]).ending(from: 1, open: moves(cells[0]))
            for _ in 0..<2 { try cells[1].must(ending) }
            try cells[0].must(.advanceHost(move.number, .settle))
            for part in parts { #expect(try cells[1].refusal(part) == .moveIsOver) }
            #expect(try cells[1].find(id) == nil && cells[1].slice(Self.tenant)?.usedCount == 0)
            #expect(try cells[1].slice(Self.tenant)?.net == .zero && cells[1].rows(.hostNamed("h11")).isEmpty)
            if way > 1 { continue }
            #expect(try cells[0].refusal(send(11, under: 3)) == .assignmentOutdated(HostID(11)), "late")
            try cells[0].must(.setPower(id, .stopped, generation: nil))
            try cells[0].must(send(11, under: 4))
        }
    }

    @Test func `a host that went comes back with its VMs, and the generations of its leases only rise`() throws {
        var cells = try cells()
        let id = try cells[0].running("a", on: 11)
        var bases: [UInt64] = []
        for (from, to, assignment) in [(0, 1, UInt64(0)), (1, 0, 4), (0, 1, 7)] {
            try handOver(&cells, 11, under: assignment, from: from, to: to)
            bases.append(try cells[to].host(11).leaseBase)
            #expect(try cells[to].vm(id).phase == .running && cells[from].find(id) == nil)
            #expect(try cells[from].host(11).health == .removed && cells[from].host(11).wentTo == UInt64(to + 1))
            #expect(try stone(cells[from], id)?.movedTo == UInt64(to + 1) && stone(cells[to], id) == nil)
            // The root has heard of it.
            try cells[to].must(
                .registerHost(
                    HostID(11), Incarnation(1), CellBench.about(11), running: [RunningVM(id, epoch: 1)],
                    assignment: assignment + 1))
        }
        #expect(bases == bases.sorted() && Set(bases).count == 3)
        #expect(
            try cells[0].slice(Self.tenant)?.allowed.vmCount == 3 && cells[1].slice(Self.tenant)?.allowed.vmCount == 1)
    }

    @Test func `what is under way on a host keeps it`() throws {
        var cells = try cells(Quota(vmCount: 9))
        let id = try cells[0].running("a", on: 11)
        func stays(_ cell: inout CellBench) throws -> Bool {
            let assignment = try cell.host(11).assignment
            if case .hostStays? = try cell.refusal(send(11, under: assignment)) { return true }
            return false
        }
        try cells[0].must(.setHostDuty(HostID(11), .draining))
        #expect(try stays(&cells[0]))
        try cells[0].must(.setHostDuty(HostID(11), .inService))
        let epoch = try cells[0].vm(id).place?.epoch ?? 0
        try cells[0].must(.beginMigration(id, from: epoch, to: Assignment(host: HostID(12)), cause: .asked))
        #expect(try stays(&cells[0]))
        try cells[0].must(.cancelMigration(id, target: epoch + 1))
        #expect(try stays(&cells[0]), "the other host has not confirmed that it holds nothing")
        try cells[0].must(.reportVMs(HostID(12), Incarnation(1), [VMReport(id, epoch: epoch + 1, .stopped)]))
    }

    @Test func `a cell that keeps a host whose cell knows of no such move gives it up`() throws {
        var cells = try cells()
        try cells[0].running("a", on: 11)
        try cells[0].must(send(11))
        let move = try only(cells[0])
        try cells[0].must(.confirmHost(HostID(11), from: 1, number: move.number))
        #expect(try cells[0].refusal(.confirmHost(HostID(11), from: 1, number: 7)) == .moveIsOver)
        try cells[0].must(commit(move, cells[0]))
        try cells[0].must(.confirmHost(HostID(11), from: 1, number: move.number))
        #expect(try cells[0].refusal(.confirmHost(HostID(11), from: 1, number: 7)) == .unknownHost(HostID(11)))
    }

    @Test func `commands, rows and answers of moves of hosts come back from their bytes`() throws {
        var cells = try cells()
        try cells[0].running("a", on: 11)
        try cells[0].must(send(11))
        let move = try only(cells[0])
        var operations = try parts(cells, move)
        operations += [
            send(11, under: 300), commit(move, cells[0]), .advanceHost(7, .abort(reason: "r")),
            .advanceHost(7, .settle), move.ending(from: 1, open: [move]), .confirmHost(HostID(7), from: 2, number: 300),
        ]
        for operation in operations {
            let command = CellCommand(by: "admin", operation)
            #expect(CellCommand.decode(command.encoded(), level: 3) == .success(command))
            #expect(CellCommand.decode(command.encoded(), level: 2) == .failure(.malformed))
        }
        for refusal in [
            CellRefusal.hostLeaves(HostID(7)), .hostArrives(HostID(7)), .hostStays(HostID(7), "w"),
            .hostBehind(HostID(7)), .hostWentTo(HostID(7), cell: 300),
        ] {
            let result = CellResult(revision: Revision(9), outcome: .refused(refusal))
            #expect(CellResult.decode(result.encoded()) == result && !"\(refusal)".isEmpty)
        }
        var answer = CellAnswer(
            index: LogIndex(9), time: LogTime(3), body: .work([], workIndex: LogIndex(3), lease: 0))
        (answer.leaseBase, answer.wentTo) = (300, 2)
        #expect(CellAnswer.decode(answer.encoded()) == answer)
    }
}
