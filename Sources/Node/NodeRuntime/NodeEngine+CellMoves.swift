import ClusterBase
import Controllers
import FleetModel
import NodePorts
import RaftCore
import StoreLayout

// VMs on their way from a cell that is led here to another one. Whatever became of who began it, the cell's leader asks for
// the next step until the move is over; no command waits for another.

extension NodeEngine {
    func tendMoves(_ now: Instant) {
        let answers = cells.moveAnswers
        cells.moveAnswers.removeAll()
        for (group, operation, outcome) in answers {
            guard let k = cells.position(of: group) else { continue }
            // Without an answer it is asked again in its turn.
            guard let outcome else { continue }
            if let next = cells.kept[k].moves.heard(outcome, of: operation) {
                send(.own(next), group, now)
            } else if outcome == .done {
                cells.kept[k].movesAt = now
            }
        }
        for k in cells.kept.indices where now >= min(cells.kept[k].movesAt, cells.kept[k].sentAt) { tendMoves(k, now) }
    }

    private func tendMoves(_ k: Int, _ now: Instant) {
        let isQuick = now < cells.kept[k].movesAt
        if !isQuick { cells.kept[k].movesAt = now + settings.moveInterval }
        cells.kept[k].sentAt = Instant(nanoseconds: .max)
        let group = cells.kept[k].group
        guard packLevel >= FeatureLevel.cells, let i = position(of: group) else { return }
        let applied = replicas[i].applied.index
        if cells.kept[k].movesNoneAt == applied { return }
        guard let open = openMoves(of: group) else { return }
        cells.kept[k].movesNoneAt = open.isEmpty ? applied : nil
        // One that is copied stands still until its commit.
        if open.contains(where: { $0.phase == .sending }) {
            cells.kept[k].sentAt = now + NodeEngine.sendingInterval
        }
        let root = steward.view
        let highest = root.cluster?.cellHighest ?? 0
        var keeper = cells.kept[k].moves
        let cellKeeper = cells.kept[k].keeper
        // One that is not heard of yet is none that is retired.
        let isThere = { (number: UInt64) in number > highest || root.cell(GroupID(.cell, number: number)) != nil }
        var asks: [MoveKeeper.Ask] = []
        if !isQuick, now >= cells.kept[k].arrivalsAt {
            cells.kept[k].arrivalsAt = now + NodeEngine.arrivalsInterval
            asks = keeper.plan(arrivals: arrivals(of: group), now: now, isThere: isThere)
        }
        asks += keeper.plan(open, of: group.number, now: now, isHeld: areMovesHeld(group), isQuick: isQuick) { id in
            guard case .cell(let found)? = readHere(group, .cell(.vm(id))), case .rows(let rows, _) = found.body,
                case .vm(_, let vm?)?? = rows.first.map(\.content)
            else { return nil }
            return vm
        } mayArrive: { vm in
            root.imagesStay(vm)
        } groups: { vm in
            // One that keeps VMs together is torn by a VM that goes alone.
            groups(of: [vm], group).filter { !$0.isHard || $0.rule.isAboutParting || root.merges(group) != nil }
        } isCalledOff: { move in
            cellKeeper.isCalledOff(move)
        } isThere: {
            isThere($0)
        }
        cells.kept[k].moves = keeper
        // What was asked rests on the images as they are known here.
        for ask in asks { send(ask, group, now, imagesAt: root.through ?? .zero) }
    }

    private static var arrivalsInterval: Nanoseconds { .seconds(10) }
    private static var sendingInterval: Nanoseconds { .milliseconds(5) }

    /// The first page of them: there are few, and those that come end.
    private func arrivals(of group: GroupID) -> [(vm: VMID, arrival: CellVM.Arrival)] {
        guard case .cell(let answer)? = readHere(group, .cell(.list(.arrivals, after: nil, limit: 0))),
            case .rows(let rows, _) = answer.body
        else { return [] }
        return rows.compactMap { row in
            guard case .arrival(let vm, let arrival?)? = row.content else { return nil }
            return (vm, arrival)
        }
    }

    /// Every step that is refused meanwhile brings the cell's time further, and so the end of it.
    func areMovesHeld(_ group: GroupID) -> Bool {
        var key: [UInt8] = []
        key.appendBigEndian(UInt64(CellSetting.movesHeldUntil.rawValue))
        guard case .cell(let answer)? = readHere(group, .cell(.one(.settings, key: key))),
            case .rows(let rows, _) = answer.body,
            case .setting(.movesHeldUntil, let until?)?? = rows.first.map(\.content)
        else { return false }
        return until > answer.time.rawValue
    }

    /// All of them, the oldest first: which of them are looked after is the keeper's to say.
    private func openMoves(of group: GroupID) -> [CellMove]? {
        var open: [CellMove] = []
        var after: [UInt8]?
        repeat {
            let query = CellQuery.list(.moves, after: after, limit: 0)
            guard case .cell(let answer)? = readHere(group, .cell(query)),
                case .rows(let rows, let resumeAfter) = answer.body
            else { return nil }
            open += rows.compactMap { if case .move(_, let move?)? = $0.content { move } else { nil } }
            after = resumeAfter
        } while after != nil
        return open
    }

    private func send(_ step: MoveKeeper.Ask, _ group: GroupID, _ now: Instant, imagesAt: LogIndex = .zero) {
        let (target, operation) =
            switch step {
            case .own(let operation): (group, operation)
            case .other(let number, let operation): (GroupID(.cell, number: number), operation)
            }
        var command = CellCommand(by: "controller", operation)
        if operation.namesImages { command.imagesAt = imagesAt }
        ask(.command(target, command.encoded()), .move(from: group, operation), now)
    }

    /// May be in the midst of a replica's step: it only notes.
    func tended(_ group: GroupID, _ operation: CellCommand.Operation, _ answer: ClientAnswer) {
        var outcome: CellResult.Outcome?
        if case .applied(.cell(let result)) = answer { outcome = result.outcome }
        cells.moveAnswers.append((group, operation, outcome))
    }
}
