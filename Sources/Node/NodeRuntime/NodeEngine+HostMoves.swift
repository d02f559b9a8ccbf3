import ClusterBase
import Controllers
import FleetModel
import NodePorts
import RaftCore
import StoreLayout

// Hosts on their way from a cell that is led here to another one with their VMs. Whatever became of who began it, the cell's leader
// asks for the next step until the move is over.

extension NodeEngine {
    func tendHostMoves(_ now: Instant) {
        let answers = cells.hostMoveAnswers
        cells.hostMoveAnswers.removeAll()
        for (group, number, heard) in answers {
            guard let k = cells.position(of: group) else { continue }
            let move = hostMoves(of: group)?.first { $0.number == number }
            for ask in cells.kept[k].hostMoves.hear(heard, of: move, number, in: group.number, now: now) {
                send(ask, group, number, now)
            }
            cells.kept[k].hostMovesAt = now
        }
        for k in cells.kept.indices where now >= cells.kept[k].hostMovesAt { tendHostMoves(k, now) }
    }

    private func tendHostMoves(_ k: Int, _ now: Instant) {
        cells.kept[k].hostMovesAt = now + settings.moveInterval
        let group = cells.kept[k].group
        guard packLevel >= FeatureLevel.cells, let i = position(of: group) else { return }
        let applied = replicas[i].applied.index
        if cells.kept[k].hostMovesNoneAt == applied { return }
        guard let open = hostMoves(of: group), let arriving = hostArrivals(of: group) else { return }
        cells.kept[k].hostMovesNoneAt = open.isEmpty && arriving.isEmpty ? applied : nil
        if open.isEmpty && arriving.isEmpty { return }
        let root = steward.view
        let highest = root.cluster?.cellHighest ?? 0
        // One that is not heard of yet is none that is retired.
        let isThere = { (number: UInt64) in number > highest || root.cell(GroupID(.cell, number: number)) != nil }
        var keeper = cells.kept[k].hostMoves
        for ask in keeper.plan(arrivals: arriving, now: now, isThere: isThere) { send(ask, group, 0, now) }
        let asks = keeper.plan(open, of: group.number, now: now, isHeld: areMovesHeld(group)) { host in
            hostRows(host, group)
        } mayArrive: { vm in
            root.imagesStay(vm)
        } isThere: {
            isThere($0)
        }
        cells.kept[k].hostMoves = keeper
        for (number, ask) in asks { send(ask, group, number, now) }
    }

    private func send(_ ask: HostMoveKeeper.Ask, _ group: GroupID, _ number: UInt64, _ now: Instant) {
        let (target, operation): (GroupID, CellCommand.Operation)
        switch ask {
        case .own(let own): (target, operation) = (group, own)
        case .other(let cell, let other): (target, operation) = (GroupID(.cell, number: cell), other)
        case .root(let move): return tellRoot(move, group, now)
        }
        var command = CellCommand(by: "controller", operation)
        // What was asked rests on the images as they are known here.
        if operation.namesImages { command.imagesAt = steward.view.through ?? .zero }
        self.ask(.command(target, command.encoded()), .hostMove(group, number: number, operation), now)
    }

    /// A shell without a root has nobody to tell.
    private func tellRoot(_ move: HostMove, _ group: GroupID, _ now: Instant) {
        guard steward.view.through != nil else {
            cells.hostMoveAnswers.append((group, move.number, .root(.done)))
            return
        }
        let node = NodeID(rawValue: move.host.rawValue)
        let operation: RootCommand.Operation =
            move.phase == .committed
            ? .moveHost(
                node, to: GroupID(.cell, number: move.to), epoch: move.assignment, .finish, vms: move.vms)
            : .moveHost(
                node, to: group, epoch: move.assignment, .cancel, reason: move.reason.fitting(RootLimits.textBytesMax))
        ask(
            .command(.root, RootCommand(by: "controller", operation).encoded()),
            .hostMove(group, number: move.number, nil), now)
    }

    /// May be in the midst of a replica's step: it only notes.
    func tended(_ group: GroupID, number: UInt64, _ operation: CellCommand.Operation?, _ answer: ClientAnswer) {
        var heard = HostMoveKeeper.Heard.nothing
        if let operation {
            if case .applied(.cell(let result)) = answer { heard = .cell(operation, result.outcome) }
        } else if case .applied(.root(let result)) = answer {
            heard = .root(result.outcome)
            steward.follow(lastNow)
        }
        cells.hostMoveAnswers.append((group, number, heard))
    }

    // MARK: The cell's rows, as they are here

    private func hostMoves(of group: GroupID) -> [HostMove]? {
        guard case .cell(let answer)? = readHere(group, .cell(.all(.hostMoves))),
            case .rows(let rows, _) = answer.body
        else { return nil }
        return rows.compactMap { if case .hostMove(_, let move?)? = $0.content { move } else { nil } }
    }

    private func hostArrivals(of group: GroupID) -> [HostArrival]? {
        guard case .cell(let answer)? = readHere(group, .cell(.all(.hostArrivals))),
            case .rows(let rows, _) = answer.body
        else { return nil }
        return rows.compactMap { if case .hostArrival(_, let host?)? = $0.content { host } else { nil } }
    }

    private func hostRows(_ id: HostID, _ group: GroupID) -> HostMoveKeeper.Rows? {
        guard case .cell(let first)? = readHere(group, .cell(.host(id))), case .rows(let found, _) = first.body,
            case .host(_, let host?)?? = found.first.map(\.content)
        else { return nil }
        var vms: [CellVM] = []
        var after: VMID?
        repeat {
            guard case .cell(let answer)? = readHere(group, .cell(.vmsOnHost(id, after: after, limit: 0))),
                case .rows(let rows, let resumeAfter) = answer.body
            else { return nil }
            vms += rows.compactMap { if case .vm(_, let vm?)? = $0.content { vm } else { nil } }
            after = resumeAfter == nil ? nil : vms.last?.id
        } while after != nil
        return HostMoveKeeper.Rows(host: host, vms: vms, index: first.index, groups: groups(of: vms, group))
    }

    /// As they are in the cell.
    func groups(of vms: [CellVM], _ group: GroupID) -> [CellGroup] {
        // hash order: looked up only
        var asked: Set<[String]> = []
        var found: [CellGroup] = []
        for vm in vms {
            for name in vm.spec.groups where asked.insert([vm.tenant, name]).inserted {
                let query = CellQuery.groupNamed(tenant: vm.tenant, name: name)
                guard case .cell(let answer)? = readHere(group, .cell(query)), case .rows(let rows, _) = answer.body,
                    case .group(_, let known?)?? = rows.first.map(\.content)
                else { continue }
                found.append(known)
            }
        }
        return found
    }
}
