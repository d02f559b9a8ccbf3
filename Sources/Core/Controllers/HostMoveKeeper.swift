package import ClusterBase
package import FleetModel

/// What is next for a host's way to another cell with its VMs: asked by whoever leads the cell that it leaves, which alone decides.
///
///     all rows, in parts ─▶ (kept) ─▶ commit through that state ─┬─▶ refused, something changed: those rows, again
///                                                                └─▶ committed ─▶ the other cell is told ─▶ the root ─▶ settled
///
/// It remembers what the other cell has kept: a new leader begins anew with the cell's records, and sends all rows again.
package struct HostMoveKeeper: Sendable {
    /// Who is to be told or asked something about the move with this number.
    package enum Ask: Hashable, Sendable {
        /// The cell that the host leaves.
        case own(CellCommand.Operation)
        /// The cell where it goes, or may come from.
        case other(UInt64, CellCommand.Operation)
        /// The root hears where the host is.
        case root(HostMove)
    }

    /// What was answered.
    package enum Heard: Sendable {
        case cell(CellCommand.Operation, CellResult.Outcome)
        case root(RootResult.Outcome)
        /// It may have taken effect or not.
        case nothing
    }

    /// The other cell has so long to keep the host and its VMs: nobody changes these meanwhile.
    package static let patience = Nanoseconds.seconds(20)
    /// Between two looks at what has not been answered.
    package static let retry = Nanoseconds.milliseconds(500)
    /// What is under way without an answer for so long is asked again from the beginning.
    package static let answerMax = Nanoseconds.seconds(6)

    private struct Watch {
        var phase: HostMove.Phase
        var since: Instant
        /// When something is to be asked next.
        var askAt: Instant
        /// Parts without an answer, and the entry after which the rows in them were so.
        var parts = 0
        var readAt = LogIndex.zero
        /// The other cell has all rows as they were after this entry.
        var keptThrough: LogIndex?
        /// It has been told how it ended.
        var isTold = false
    }
    // hash order: looked up, or filtered
    private var watched: [UInt64: Watch] = [:]
    /// Hosts that may come, and since when they were not asked about.
    // hash order: looked up only
    private var awaited: [HostID: Instant] = [:]

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

    /// A host and its VMs as they are after an entry.
    package struct Rows: Sendable {
        package var host: CellHost
        package var vms: [CellVM]
        package var index: LogIndex
        /// That the VMs are in.
        package var groups: [CellGroup]
        package init(host: CellHost, vms: [CellVM], index: LogIndex, groups: [CellGroup] = []) {
            self.groups = groups
            self.host = host
            self.vms = vms
            self.index = index
        }
    }

    /// What to ask other cells about hosts that should have come from there, or not, long ago.
    package mutating func plan(arrivals: [HostArrival], now: Instant, isThere: (UInt64) -> Bool) -> [Ask] {
        // hash order: looked up only
        var next: [HostID: Instant] = [:]
        var asks: [Ask] = []
        for arrival in arrivals {
            let since = awaited[arrival.host.id] ?? now
            next[arrival.host.id] = since
            guard now - since >= MoveKeeper.arrivalPatience, isThere(arrival.from) else { continue }
            next[arrival.host.id] = now
            asks.append(
                .other(arrival.from, .confirmHost(arrival.host.id, from: arrival.from, number: arrival.number)))
        }
        awaited = next
        return asks
    }

    /// What to ask for now. `open` are the cell's moves of hosts, `rows` gives a host with its VMs, `mayArrive` whether the images
    /// that a VM rests on stay, as far as is known here, and `isThere` which cells there are. While moves are held nothing is late.
    package mutating func plan(
        _ open: [HostMove], of cell: UInt64, now: Instant, isHeld: Bool, rows: (HostID) -> Rows?,
        mayArrive: (CellVM) -> Bool, isThere: (UInt64) -> Bool
    ) -> [(number: UInt64, ask: Ask)] {
        // hash order: looked up only
        let numbers = Set(open.map(\.number))
        // hash order: filtered
        watched = watched.filter { numbers.contains($0.key) }
        var asks: [(number: UInt64, ask: Ask)] = []
        for move in open {
            var watch = watched[move.number] ?? Watch(phase: move.phase, since: now, askAt: now)
            if watch.phase != move.phase { watch = Watch(phase: move.phase, since: now, askAt: now) }
            if isHeld { watch.since = now }
            if now >= watch.askAt {
                watch.askAt = now + HostMoveKeeper.retry
                for ask in next(of: move, &watch, open, cell, now, rows, mayArrive, isThere) {
                    asks.append((move.number, ask))
                }
            }
            watched[move.number] = watch
        }
        return asks
    }

    private func next(
        of move: HostMove, _ watch: inout Watch, _ open: [HostMove], _ cell: UInt64, _ now: Instant,
        _ rows: (HostID) -> Rows?, _ mayArrive: (CellVM) -> Bool, _ isThere: (UInt64) -> Bool
    ) -> [Ask] {
        func advance(_ step: HostMove.Step) -> [Ask] { [.own(.advanceHost(move.number, step))] }
        switch move.phase {
        case .preparing:
            if !isThere(move.to) { return advance(.abort(reason: "there is no such cell")) }
            if now - watch.since > HostMoveKeeper.patience {
                return advance(.abort(reason: "the other cell did not take it in time"))
            }
            guard let found = rows(move.host), found.host.departure?.number == move.number,
                found.vms.allSatisfy(mayArrive)
            else { return [] }
            let since = watch.keptThrough ?? .zero
            let parts = move.preparations(
                of: found.host, found.vms.filter { $0.revision.index > since }, from: cell, groups: found.groups)
            watch.parts = parts.count
            watch.readAt = found.index
            watch.askAt = now + HostMoveKeeper.answerMax
            return parts.map { .other(move.to, $0) }
        case .committed, .aborting:
            if watch.isTold { return [.root(move)] }
            // One that is retired keeps nothing.
            if move.phase == .aborting && !isThere(move.to) {
                watch.isTold = true
                return [.root(move)]
            }
            return [.other(move.to, move.ending(from: cell, open: open))]
        }
    }

    /// Takes in what was answered, and gives what follows from it. Where something is to be asked again, the next plan does.
    package mutating func hear(
        _ heard: Heard, of move: HostMove?, _ number: UInt64, in cell: UInt64, now: Instant
    ) -> [Ask] {
        if case .cell(.confirmHost(let host, let from, let asked), .refused(.moveIsOver)) = heard {
            // The cell whose host it is knows of no such move: what is kept for it here is kept for nothing.
            return [
                .own(
                    .endHost(
                        HostEnding(
                            from: from, number: asked, host: host, isCommitted: false, vms: 0, leaseBase: 0, lease: 0,
                            floor: 0)))
            ]
        }
        guard var watch = watched[number] else { return [] }
        defer { watched[number] = watch }
        switch heard {
        case .nothing:
            // Nobody knows what was kept: all of it is sent again.
            watch.parts = 0
            watch.keptThrough = nil
            watch.askAt = now + HostMoveKeeper.retry
        case .cell(.prepareHost, .done):
            guard watch.parts > 0 else { return [] }
            watch.parts -= 1
            if watch.parts > 0 { return [] }
            watch.keptThrough = watch.readAt
            if mutated(.actsBeforeCommit), let move {
                return [.other(move.to, ending(before: move, cell))]
            }
            return [.own(.advanceHost(number, .commit(through: watch.readAt)))]
        case .cell(.prepareHost, .refused(let refusal)):
            watch.parts = 0
            watch.keptThrough = nil
            watch.askAt = now + HostMoveKeeper.retry
            switch refusal {
            case .notKeptYet, .movesHeld, .hostArrives: return []
            default: return [.own(.advanceHost(number, .abort(reason: "the other cell does not take it: \(refusal)")))]
            }
        case .cell(.advanceHost(_, .commit), .refused(.hostBehind)): watch.askAt = now
        case .cell(.advanceHost, .done): watch.askAt = now
        case .cell(.endHost, .done):
            watch.isTold = true
            watch.askAt = now
        case .cell: break
        case .root(let outcome):
            switch outcome {
            // Whoever said it; or nobody is to hear of it any more.
            case .done, .refused(.unknownNode): return [.own(.advanceHost(number, .settle))]
            case .refused(.assignmentChanged(let epoch)) where epoch > move?.assignment ?? .max:
                return [.own(.advanceHost(number, .settle))]
            default: watch.askAt = now + HostMoveKeeper.retry
            }
        }
        return []
    }

    /// A mutant's: what would be said after the commit.
    private func ending(before move: HostMove, _ cell: UInt64) -> CellCommand.Operation {
        var move = move
        move.phase = .committed
        return move.ending(from: cell, open: [])
    }
}
