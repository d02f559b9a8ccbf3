package import ClusterBase
package import FleetModel

/// What is next for a VM's way to another cell: asked by whoever leads the cell that it leaves, which alone decides.
///
/// It remembers nothing but when it first saw a move in its phase: a new leader begins anew with the cell's records.
package struct MoveKeeper: Sendable {
    /// Who is to be told or asked something.
    package enum Ask: Hashable, Sendable {
        /// The cell that the VM leaves.
        case own(CellCommand.Operation)
        /// The cell where it goes; what it says comes back by `heard`.
        case other(UInt64, CellCommand.Operation)
    }

    /// The other cell has so long to keep what the VM needs, and the VM so long to leave its place, beside what its guest gets
    /// to end by itself.
    package static let patience = Nanoseconds.seconds(60)
    /// For a VM whose region is lost or evacuated, which may find room in another cell.
    package static let patienceOfLost = Nanoseconds.seconds(20)
    /// Moves that each other cell is asked about at once: those to one that does not answer wait for it alone.
    package static let asksMax = 64
    /// Of VMs that are sent live to one other cell at a time; the next ones wait for them.
    package static let sendingMax = 4
    /// One that is sent gets no further for so long: that comes to nothing.
    package static let stallMax = Nanoseconds.seconds(60)
    /// Between two of a cell's own steps for one that is sent, which is looked at more often than any other.
    package static let sentPause = Nanoseconds.milliseconds(300)

    private struct Watch {
        var phase: CellMove.Phase
        /// Since when it is in its phase, or in that of being sent got further.
        var since: Instant
        var progressMillis: UInt32 = 0
        var cause = CellMove.Cause.asked
        /// Of one that is sent: when its cell was asked for the next step.
        var askedAt: Instant?
        /// What the other cell said last of why it has no place; empty while it looks for one.
        var why = ""
    }
    // hash order: looked up, or filtered
    private var watched: [UInt64: Watch] = [:]
    /// VMs that may come, and since when they were not asked about.
    // hash order: looked up only
    private var awaited: [VMID: Instant] = [:]

    #if MUTANTS
    package var mutant: FleetMutant?
    #endif

    package init() {}

    private func mutated(_ mutant: FleetMutant) -> Bool {
        #if MUTANTS
        self.mutant == mutant
        #else
        false
        #endif
    }

    /// Between questions about a VM that may come from another cell, and before the first.
    package static let arrivalPatience = Nanoseconds.seconds(120)

    /// What to ask other cells about VMs that should have come from there, or not, long ago.
    package mutating func plan(
        arrivals: [(vm: VMID, arrival: CellVM.Arrival)], now: Instant, isThere: (UInt64) -> Bool
    ) -> [Ask] {
        // hash order: looked up only
        var next: [VMID: Instant] = [:]
        var asks: [Ask] = []
        for (vm, arrival) in arrivals {
            let since = awaited[vm] ?? now
            next[vm] = since
            guard now - since >= MoveKeeper.arrivalPatience, asks.count < MoveKeeper.asksMax, isThere(arrival.from)
            else {
                continue
            }
            next[vm] = now
            asks.append(.other(arrival.from, .confirmMove(vm, from: arrival.from, number: arrival.number)))
        }
        awaited = next
        return asks
    }

    /// What to ask for now; of a quick look, for those that are sent live alone. While moves are held nothing is late. `open` are the
    /// cell's moves, `vm` gives its VMs, `mayArrive` whether the images that one rests on stay, as far as is known here, `groups` those
    /// that go along with one, `isCalledOff` whether the plan that began a move does not want it any more, `isThere` which cells there are.
    package mutating func plan(
        _ open: [CellMove], of cell: UInt64, now: Instant, isHeld: Bool = false, isQuick: Bool = false,
        vm: (VMID) -> CellVM?,
        mayArrive: (CellVM) -> Bool = { _ in true }, groups: (CellVM) -> [CellGroup] = { _ in [] },
        isCalledOff: (CellMove) -> Bool = { _ in false },
        isThere: (UInt64) -> Bool
    ) -> [Ask] {
        // hash order: looked up only
        let numbers = Set(open.map(\.number))
        // hash order: filtered
        watched = watched.filter { numbers.contains($0.key) }
        var asks: [Ask] = []
        // hash order: looked up only
        var asked: [UInt64: Int] = [:]
        func mayAsk(_ cell: UInt64) -> Bool {
            asked[cell, default: 0] += 1
            return asked[cell, default: 0] <= MoveKeeper.asksMax
        }
        // hash order: looked up only
        var sending: [UInt64: Int] = [:]
        for move in open where move.phase == .sending { sending[move.to, default: 0] += 1 }
        for move in open where !isQuick || move.phase == .sending {
            let known = watched[move.number]
            let since = known?.phase == move.phase && !isHeld ? known?.since ?? now : now
            let why = known?.phase == move.phase ? known?.why ?? "" : ""
            watched[move.number] = Watch(
                phase: move.phase, since: since, progressMillis: known?.progressMillis ?? 0, cause: move.cause,
                askedAt: known?.phase == move.phase ? known?.askedAt : nil, why: why
            )
            // One that waits anyway, or goes wherever there is room, is tried elsewhere soon.
            let goesAnywhere = move.cause == .regionLost || move.cause == .evacuation
            let isLate = now - since > (goesAnywhere ? MoveKeeper.patienceOfLost : MoveKeeper.patience)
            switch move.phase {
            case .sending:
                guard let vm = vm(move.vm), let next = next(of: move, sent: vm, isHeld, isCalledOff(move), now) else {
                    continue
                }
                asks.append(.own(next))
            case .preparing:
                guard let vm = vm(move.vm) else { continue }
                let isLive = move.preparation(of: vm, from: cell).sender != nil
                if !isThere(move.to) {
                    asks.append(.own(.advanceMove(move.number, .abort, reason: "there is no such cell")))
                } else if isCalledOff(move) {
                    asks.append(
                        .own(.advanceMove(move.number, .abort, reason: "the plan for its region was called off")))
                } else if !why.isEmpty && move.cause != .asked {
                    // Room may come free there; the plan tries it again, or another cell first.
                    asks.append(
                        .own(.advanceMove(move.number, .abort, reason: "the other cell has no place for it: \(why)")))
                } else if isLate {
                    let text = "the other cell found no place for it in time" + (why.isEmpty ? "" : ": \(why)")
                    asks.append(.own(.advanceMove(move.number, .abort, reason: text)))
                } else if isLive && sending[move.to, default: 0] >= MoveKeeper.sendingMax {
                    // It waits for those before it, not for the other cell.
                    watched[move.number]?.since = now
                } else if mayArrive(vm), mayAsk(move.to) {
                    asks.append(
                        .other(move.to, .prepareArrival(move.preparation(of: vm, from: cell, groups: groups(vm)))))
                }
            case .leaving:
                guard let vm = vm(move.vm) else { continue }
                if (vm.place == nil && vm.migration == nil) || mutated(.cellLeftTooEarly) {
                    asks.append(.own(.advanceMove(move.number, .commit, reason: "")))
                } else if now - since > MoveKeeper.patience + (HostKeeper.Timing.grace(of: vm.spec) ?? .zero) {
                    asks.append(.own(.advanceMove(move.number, .abort, reason: "its host did not let it go in time")))
                }
            case .committed, .aborting:
                if move.phase == .committed && now > since && mutated(.calledOffAfterCommit) {
                    asks.append(.own(.advanceMove(move.number, .abort, reason: "no answer")))
                    continue
                }
                // One that is retired keeps nothing.
                if move.phase == .aborting && !isThere(move.to) {
                    asks.append(.own(.advanceMove(move.number, .settle, reason: "")))
                } else if mayAsk(move.to) {
                    asks.append(.other(move.to, move.ending(from: cell, open: open)))
                }
            }
        }
        return asks
    }

    /// What its cell is asked for one that is sent there live; nil while that goes on, or was asked a moment ago.
    private mutating func next(
        of move: CellMove, sent vm: CellVM, _ isHeld: Bool, _ isCalledOff: Bool, _ now: Instant
    ) -> CellCommand.Operation? {
        guard var watch = watched[move.number] else { return nil }
        if let askedAt = watch.askedAt, now - askedAt < MoveKeeper.sentPause { return nil }
        defer { watched[move.number] = watch }
        let far = vm.departure?.far
        let progress = far?.progressMillis ?? 0
        if progress > watch.progressMillis { watch.since = now }
        watch.progressMillis = progress
        func advance(_ step: CellMove.Step, _ reason: String = "") -> CellCommand.Operation {
            watch.askedAt = now
            return .advanceMove(move.number, step, reason: reason)
        }
        if vm.sending?.isCopied == true || mutated(.commitBeforeCopied) {
            // It stands still, and nobody knows for how long it would.
            return isHeld ? advance(.abort, "a backup holds moves between cells") : advance(.commit)
        }
        if isCalledOff { return advance(.abort, "the plan for its region was called off") }
        guard vm.sending == nil || now - watch.since > MoveKeeper.stallMax else { return nil }
        let why = far.map(\.failure).flatMap { $0.isEmpty ? nil : $0 } ?? "it got no further"
        // Whom nobody asked for goes however it can.
        return move.cause == .asked ? advance(.abort, "it could not be sent live: \(why)") : advance(.leave)
    }

    /// What follows from what the other cell said; nil while it is to be asked again.
    package mutating func heard(
        _ outcome: CellResult.Outcome, of asked: CellCommand.Operation
    ) -> CellCommand.Operation? {
        if case (.prepareArrival(let arrival), .refused(.notKeptYet(_, let why))) = (asked, outcome) {
            watched[arrival.number]?.why = why
        }
        return switch (asked, outcome) {
        // Whom somebody asked to move while it runs is not stopped for it.
        case (.prepareArrival(let arrival), .done)
        where arrival.sender != nil && watched[arrival.number]?.cause == .asked:
            .advanceMove(
                arrival.number, .abort,
                reason: "the other cell can't take it while it runs; --cold stops it for its way")
        case (.prepareArrival(let arrival), .done): .advanceMove(arrival.number, .leave, reason: "")
        case (.prepareArrival(let arrival), .kept(let far)): .advanceMove(arrival.number, .send, reason: "", far: far)
        case (.prepareArrival, .refused(.notKeptYet)): nil
        case (.prepareArrival(let arrival), .refused) where mutated(.leavesUnprepared):
            .advanceMove(arrival.number, .leave, reason: "")
        case (.prepareArrival(let arrival), .refused(let refusal)):
            .advanceMove(arrival.number, .abort, reason: "\(refusal)")
        // The cell whose VM it is knows of no such move: what is kept for it here is kept for nothing.
        case (.confirmMove(let vm, let from, let number), .refused(.moveIsOver)):
            .endArrival(vm, from: from, number: number, isCommitted: false, epoch: 0, floor: 0)
        case (.endArrival(_, _, let number, _, _, _, _, _), .done): .advanceMove(number, .settle, reason: "")
        default: nil
        }
    }
}
