import ClusterBase
import Controllers
import FleetModel
import RaftCore
import Testing

/// What a cell's leader asks for VMs on their way to other cells.
@Suite struct MoveKeeperTests {
    private func move(_ number: UInt64, to cell: UInt64, _ phase: CellMove.Phase) -> CellMove {
        var move = CellMove(
            number: number, vm: VMID(number), tenant: "t", to: cell, share: QuotaShare(vms: 1), request: [],
            since: LogTime(1))
        move.phase = phase
        return move
    }

    private func vm(_ id: VMID, annotations: [Named] = []) -> CellVM {
        var spec = VMDescription(resources: Resources(cpuMillis: 1, memoryMiB: 1))
        spec.annotations = annotations
        return CellVM(id: id, name: "v\(id)", tenant: "t", spec: spec, at: LogTime(1), by: "a")
    }

    @Test func `moves to a cell that does not answer hold up none to another`() {
        var keeper = MoveKeeper()
        let silent = (1...UInt64(MoveKeeper.asksMax + 6)).map { move($0, to: 2, .committed) }
        let open = silent + [move(900, to: 3, .preparing), move(901, to: 2, .preparing)]
        func plan(_ now: Int64) -> [MoveKeeper.Ask] {
            keeper.plan(open, of: 1, now: Instant(nanoseconds: now)) {
                vm($0)
            } isThere: { _ in
                true
            }
        }
        let asks = plan(0)
        #expect(asks.count == MoveKeeper.asksMax + 1)
        #expect(
            asks.contains {
                if case .other(3, .prepareArrival(let arrival)) = $0 { arrival.number == 900 } else { false }
            })
        // What is late is called off, however many wait before it.
        let late = plan(MoveKeeper.patience.count + 1)
        #expect(late.contains(.own(.advanceMove(901, .abort, reason: "the other cell found no place for it in time"))))
    }

    @Test func `a VM whose image is being removed asks no cell to keep it, and is called off in the end`() {
        var keeper = MoveKeeper()
        let open = [move(1, to: 2, .preparing), move(2, to: 2, .preparing)]
        func plan(_ now: Int64, leaving: VMID) -> [MoveKeeper.Ask] {
            keeper.plan(open, of: 1, now: Instant(nanoseconds: now)) {
                vm($0)
            } mayArrive: {
                $0.id != leaving
            } isThere: { _ in
                true
            }
        }
        let asked = plan(0, leaving: VMID(1)).compactMap { ask -> VMID? in
            if case .other(2, .prepareArrival(let arrival)) = ask { arrival.vm } else { nil }
        }
        #expect(asked == [VMID(2)])
        let late = plan(MoveKeeper.patience.count + 1, leaving: VMID(1))
        #expect(late.contains(.own(.advanceMove(1, .abort, reason: "the other cell found no place for it in time"))))
    }

    @Test func `a guest that may take its time to end gets it before its move is called off`() {
        var keeper = MoveKeeper()
        let open = [move(1, to: 2, .leaving)]
        var leaving = vm(VMID(1), annotations: [Named("stop-grace-ms", "120000")])
        leaving.place = VMPlace(Assignment(host: HostID(1)), epoch: 1)
        func plan(seconds: Int64) -> [MoveKeeper.Ask] {
            keeper.plan(open, of: 1, now: Instant(nanoseconds: seconds * 1_000_000_000)) { _ in
                leaving
            } isThere: { _ in
                true
            }
        }
        #expect(plan(seconds: 0).isEmpty && plan(seconds: 170).isEmpty)
        #expect(plan(seconds: 181).count == 1)
    }

    @Test
    func `what is sent live is committed when it is copied, given up where that fails, and never waits for a backup`() {
        var sent = vm(VMID(1))
        (sent.place, sent.phase) = (VMPlace(Assignment(host: HostID(1)), epoch: 1), .running)
        sent.departure = CellVM.Departure(number: 1, to: 2)
        sent.departure?.far = CellVM.Far(CellMove.FarEnd(HostID(9), epoch: 2), source: 1, .balanced)
        func asks(
            _ change: (inout CellVM) -> Void, _ cause: CellMove.Cause = .asked, isHeld: Bool = false, seconds: Int64 = 0
        ) -> [MoveKeeper.Ask] {
            var row = sent
            change(&row)
            var open = [move(1, to: 2, .sending), move(2, to: 2, .committed)]
            open[0].cause = cause
            var keeper = MoveKeeper()
            var asks: [MoveKeeper.Ask] = []
            for at in [0, seconds] {
                // A quick look is for what is sent alone.
                asks = keeper.plan(
                    open, of: 1, now: Instant(nanoseconds: at * 1_000_000_000), isHeld: isHeld, isQuick: true
                ) { _ in
                    row
                } isThere: { _ in
                    true
                }
            }
            return asks
        }
        func own(_ step: CellMove.Step, _ reason: String = "") -> [MoveKeeper.Ask] {
            [.own(.advanceMove(1, step, reason: reason))]
        }
        let copied: (inout CellVM) -> Void = { vm in vm.departure?.far?.progressMillis = 1_000 }
        let failed: (inout CellVM) -> Void = { vm in vm.departure?.far?.failure = "cut" }
        #expect(asks { _ in }.isEmpty)
        #expect(asks(copied, seconds: 1) == own(.commit))
        #expect(asks(copied, isHeld: true, seconds: 1) == own(.abort, "a backup holds moves between cells"))
        #expect(asks(failed, seconds: 1) == own(.abort, "it could not be sent live: cut"))
        #expect(asks(failed, .evacuation, seconds: 1) == own(.leave))
        #expect(asks({ _ in }, seconds: 59).isEmpty)
        #expect(asks({ _ in }, seconds: 61) == own(.abort, "it could not be sent live: it got no further"))
    }

    @Test
    func `a VM that should have come long ago is asked about, and what is kept for it ends where nobody knows of it`() {
        var keeper = MoveKeeper()
        let arrival = CellVM.Arrival(from: 1, number: 300, share: QuotaShare(vms: 1))
        let gone = CellVM.Arrival(from: 7, number: 300, share: QuotaShare(vms: 1))
        func plan(seconds: Int64) -> [MoveKeeper.Ask] {
            keeper.plan(
                arrivals: [(VMID(5), arrival), (VMID(6), gone)], now: Instant(nanoseconds: seconds * 1_000_000_000),
                isThere: { $0 != 7 })
        }
        #expect(plan(seconds: 0).isEmpty && plan(seconds: 119).isEmpty)
        let question = CellCommand.Operation.confirmMove(VMID(5), from: 1, number: 300)
        #expect(plan(seconds: 121) == [.other(1, question)])
        #expect(plan(seconds: 130).isEmpty, "it was asked")
        #expect(plan(seconds: 250) == [.other(1, question)], "and is again")
        #expect(keeper.heard(.done, of: question) == nil)
        #expect(keeper.heard(.refused(.unknownVM(VMID(5))), of: question) == nil)
        #expect(
            keeper.heard(.refused(.moveIsOver), of: question)
                == .endArrival(VMID(5), from: 1, number: 300, isCommitted: false, epoch: 0, floor: 0))
    }

    @Test func `while a backup holds moves none of them is late`() {
        var keeper = MoveKeeper()
        func plan(_ seconds: Int64, isHeld: Bool) -> [MoveKeeper.Ask] {
            keeper.plan(
                [move(1, to: 2, .preparing)], of: 1, now: Instant(nanoseconds: seconds * 1_000_000_000), isHeld: isHeld
            ) {
                vm($0)
            } isThere: { _ in
                true
            }
        }
        func isAsked(_ asks: [MoveKeeper.Ask]) -> Bool {
            if case .other(2, .prepareArrival)? = asks.first { true } else { false }
        }
        #expect(isAsked(plan(0, isHeld: false)) && isAsked(plan(3_000, isHeld: true)))
        #expect(isAsked(plan(3_059, isHeld: false)) && !isAsked(plan(3_062, isHeld: false)))
    }

    @Test func `a VM that a plan sent is called off as soon as the other cell says why no host takes it`() throws {
        var keeper = MoveKeeper()
        let causes: [CellMove.Cause] = [.asked, .regionLost, .regionBack, .evacuation]
        let open = causes.enumerated().map { i, cause in
            var move = move(UInt64(i + 1), to: 2, .preparing)
            move.cause = cause
            return move
        }
        func plan(_ seconds: Int64) -> [MoveKeeper.Ask] {
            keeper.plan(open, of: 1, now: Instant(nanoseconds: seconds * 1_000_000_000)) {
                vm($0)
            } isThere: { _ in
                true
            }
        }
        func answer(_ asks: [MoveKeeper.Ask], why: String) {
            for case .other(_, let asked) in asks {
                guard case .prepareArrival(let arrival) = asked else { continue }
                #expect(keeper.heard(.refused(.notKeptYet(arrival.vm, why: why)), of: asked) == nil)
            }
        }
        answer(plan(0), why: "")
        let asks = plan(1)
        #expect(asks.count == 4, "a host is looked for")
        answer(asks, why: "no host fits")
        let told = plan(2)
        let reason = "the other cell has no place for it: no host fits"
        for number: UInt64 in 2...4 { #expect(told.contains(.own(.advanceMove(number, .abort, reason: reason)))) }
        #expect(told.count == 4)
        // A person's waits for room, and then says the same.
        let late = "the other cell found no place for it in time: no host fits"
        answer(told, why: "no host fits")
        #expect(plan(61).contains(.own(.advanceMove(1, .abort, reason: late))))
    }

    @Test func `what a cell said before it looked again is forgotten`() {
        var keeper = MoveKeeper()
        var evacuated = move(1, to: 2, .preparing)
        evacuated.cause = .evacuation
        func plan(_ seconds: Int64) -> MoveKeeper.Ask? {
            keeper.plan([evacuated], of: 1, now: Instant(nanoseconds: seconds * 1_000_000_000)) {
                vm($0)
            } isThere: { _ in
                true
            }.first
        }
        guard case .other(2, let asked)? = plan(0) else { return #expect(Bool(false), "it is asked for") }
        for why in ["no host fits", ""] { _ = keeper.heard(.refused(.notKeptYet(VMID(1), why: why)), of: asked) }
        #expect(plan(1) == .other(2, asked))
    }
}
