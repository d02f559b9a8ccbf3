import ClusterBase
import FleetModel
import Testing

/// A VM goes to another cell while it runs.
@Suite struct LiveCellMoveTests {
    /// Two cells of two hosts each, and a VM that runs in the first and has its place kept in the second.
    private struct Pair {
        var cells: [CellBench]
        let id: VMID
        var number: UInt64 = 0

        init(cause: CellMove.Cause = .asked) throws {
            cells = try (1...2).map { number in
                var cell = CellBench()
                cell.group = GroupID(.cell, number: UInt64(number))
                cell.level = FeatureLevel.cells
                for host in 1...2 { try cell.register(UInt64(10 * number + host)) }
                let quota = Quota(vmCount: 4)
                try cell.must(.setSlice(tenant: "t", revision: Revision(256), number == 1 ? quota : quota.emptied))
                return cell
            }
            id = try cells[0].running("a", on: 11)
            try cells[0].must(.moveVM(id, to: 2, request: [], cause: cause))
            let begun = try move()
            number = begun.number
            #expect(try cells[1].refusal(preparation()) == .notKeptYet(id))
            try cells[1].place(id, on: 21)
        }

        func move() throws -> CellMove {
            let moves = try cells[0].rows(.all(.moves)).compactMap { row -> CellMove? in
                if case .move(_, let move?) = row { move } else { nil }
            }
            return try #require(moves.first)
        }
        func preparation() throws -> CellCommand.Operation {
            .prepareArrival(try move().preparation(of: try cells[0].vm(id), from: 1))
        }
        /// Where the second cell has kept its place.
        mutating func kept() throws -> CellMove.FarEnd? {
            if case .kept(let far) = try cells[1].apply(preparation()) { far } else { nil }
        }
        func send(_ far: CellMove.FarEnd) -> CellCommand.Operation {
            .advanceMove(number, .send, reason: "", far: far)
        }
        func step(_ step: CellMove.Step) -> CellCommand.Operation { .advanceMove(number, step, reason: "") }
        mutating func end() throws {
            let move = try move()
            try cells[1].must(move.ending(from: 1, open: [move]))
            try cells[0].must(step(.settle))
        }
    }

    @Test func `it runs until all of it is there, and goes on under the epoch that was kept for it`() throws {
        var pair = try Pair()
        let far = try #require(try pair.kept())
        let before = try pair.cells[0].vm(pair.id).epochHighest
        #expect(far.host == HostID(21) && far.epoch > before)
        // Its memory may come there; nothing of it runs.
        #expect(try pair.cells[1].work(21)?.map(\.id) == [pair.id])
        #expect(try pair.cells[1].vm(pair.id).permit(on: HostID(21))?.epoch == far.epoch)
        #expect(try pair.cells[1].vm(pair.id).permit(on: HostID(22)) == nil)
        for _ in 0..<2 { try pair.cells[0].must(pair.send(far)) }
        let sent = try pair.cells[0].vm(pair.id)
        #expect(sent.phase == .running && sent.sending?.target.assignment.host == far.host)
        #expect(sent.epochHighest == far.epoch, "what starts here later has another epoch")
        #expect(try pair.cells[0].refusal(pair.step(.commit)) == .noMigration(pair.id))
        try pair.cells[0].report(pair.id, .copying)
        #expect(try pair.cells[0].refusal(pair.step(.commit)) == .noMigration(pair.id))
        try pair.cells[0].report(pair.id, .copied)
        for _ in 0..<2 { try pair.cells[0].must(pair.step(.commit)) }
        #expect(try pair.cells[0].find(pair.id) == nil && pair.cells[0].work(11) == [])
        #expect(try pair.cells[0].refusal(pair.step(.abort)) == .moveIsOver)
        #expect(try pair.cells[1].vm(pair.id).arrival != nil, "until it is told, nothing goes on there")
        try pair.end()
        let there = try pair.cells[1].vm(pair.id)
        #expect(there.arrival == nil && there.place?.epoch == far.epoch && there.phase == .running)
        try pair.cells[1].report(pair.id, .running)
        #expect(try pair.cells[1].vm(pair.id).runningGeneration == there.generation)
        #expect(try pair.cells[1].slice("t")?.usedCount == 1 && pair.cells[0].slice("t")?.usedCount == 0)
    }

    @Test func `one that can't be sent runs on where it is, and may be sent to the same place cold`() throws {
        var pair = try Pair(cause: .evacuation)
        let far = try #require(try pair.kept())
        try pair.cells[0].must(pair.send(far))
        try pair.cells[0].report(pair.id, .copyFailed, message: "the way was cut")
        let failed = try pair.cells[0].vm(pair.id)
        #expect(failed.sending == nil && failed.departure?.far?.failure == "the way was cut")
        #expect(failed.phase == .running && failed.place?.isReleasing == false)
        try pair.cells[0].report(pair.id, .copied)
        #expect(try pair.cells[0].refusal(pair.step(.commit)) == .notRunning(pair.id), "its word comes late")
        try pair.cells[0].must(pair.step(.leave))
        #expect(try pair.cells[0].vm(pair.id).phase == .stopping)
        try pair.cells[0].report(pair.id, .stopped)
        try pair.cells[0].must(pair.step(.commit))
        try pair.end()
        let there = try pair.cells[1].vm(pair.id)
        #expect(there.phase == .starting && (there.place?.epoch ?? 0) > far.epoch, "the copy that waited there is none")
    }

    @Test func `one that is called off before the commit stays, and its host goes on with it`() throws {
        var pair = try Pair()
        let far = try #require(try pair.kept())
        try pair.cells[0].must(pair.send(far))
        try pair.cells[0].report(pair.id, .copied)
        try pair.cells[0].must(pair.step(.abort))
        let stays = try pair.cells[0].vm(pair.id)
        #expect(stays.departure == nil && stays.sending == nil && stays.phase == .running)
        #expect(try pair.cells[0].refusal(pair.step(.commit)) == .moveIsOver)
        try pair.end()
        #expect(try pair.cells[1].find(pair.id) == nil && pair.cells[1].work(21) == [])
        #expect(try pair.cells[1].host(21).used == .zero)
    }

    @Test func `a crash, a lost host or a new start of it there ends the sending, whatever was copied`() throws {
        for isLost in [false, true] {
            var pair = try Pair()
            let far = try #require(try pair.kept())
            try pair.cells[0].must(pair.send(far))
            try pair.cells[0].report(pair.id, .copied)
            if isLost {
                try pair.cells[0].must(.declareDown(HostID(11), Incarnation(1)))
            } else {
                try pair.cells[0].report(pair.id, .crashed)
            }
            #expect(try pair.cells[0].vm(pair.id).sending == nil)
            #expect(try pair.cells[0].refusal(pair.step(.commit)) == .notRunning(pair.id))
            #expect(try pair.cells[0].vm(pair.id).departure?.far?.failure.isEmpty == false)
        }
    }

    @Test func `what waited for its memory and is gone is told, and the place stays for it to come cold`() throws {
        var pair = try Pair()
        let far = try #require(try pair.kept())
        let host = try pair.cells[1].host(21)
        try pair.cells[1].must(
            .reportVMs(host.id, host.incarnation, [VMReport(pair.id, epoch: far.epoch, .crashed)]))
        #expect(try pair.cells[1].vm(pair.id).place?.assignment.host == HostID(21))
        #expect(try pair.cells[1].vm(pair.id).permit(on: HostID(21)) == nil && pair.cells[1].work(21) == [])
        #expect(try pair.kept() == nil)
        try pair.cells[1].must(pair.preparation())
    }

    @Test func `one that was sent to a place that its cell has lost since starts anew, under a higher epoch`() throws {
        var pair = try Pair()
        let far = try #require(try pair.kept())
        try pair.cells[0].must(pair.send(far))
        try pair.cells[1].must(.declareDown(HostID(21), Incarnation(1)))
        try pair.cells[1].place(pair.id, on: 22)
        let other = try #require(try pair.kept())
        #expect(other.host == HostID(22) && other.epoch > far.epoch)
        try pair.cells[0].report(pair.id, .copied)
        try pair.cells[0].must(pair.step(.commit))
        try pair.end()
        let there = try pair.cells[1].vm(pair.id)
        #expect(there.phase == .starting && (there.place?.epoch ?? 0) > other.epoch)
    }

    @Test func `it comes cold where it does not run any more, or was asked to, and not by an epoch that was used`()
        throws
    {
        var pair = try Pair()
        let far = try #require(try pair.kept())
        try pair.cells[0].report(pair.id, .crashed)
        #expect(try pair.cells[0].refusal(pair.send(far)) == .notRunning(pair.id))
        try pair.cells[1].must(pair.preparation())
        #expect(try pair.cells[1].vm(pair.id).arrival?.sender == nil)
        var again = try Pair()
        let place = try #require(try again.kept())
        try again.cells[0].report(again.id, .crashed)
        try again.cells[0].must(.retryVM(again.id, epoch: 1))
        try again.cells[0].report(again.id, .running)
        #expect(try again.cells[0].refusal(again.send(place)) == .epochOutdated(again.id))
        #expect(try again.kept() == nil && again.cells[1].vm(again.id).arrival?.sender == nil)
    }
}
