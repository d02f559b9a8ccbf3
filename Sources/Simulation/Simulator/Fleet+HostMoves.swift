import ClusterBase
import Controllers
import FleetModel
import NodePorts

/// Hosts go from cell to cell with the VMs on them, while nodes fail, leaders change and links break.
///
///     sendHost, as drawn ─▶ the cells hand it over, or it stays ─▶ assigned, as a root would write it down ─▶ its agent hears of that
///                                                                    └─▶ or hears it from the cell that it left, first
///
/// Nobody follows a root in these runs: which cell a host belongs to under which epoch is written down here, at the entry by which its
/// cell says so.
extension Fleet {
    struct Assigned {
        var cell: Int
        var epoch: UInt64 = 0
    }

    var movesHosts: Bool { profile.movesHosts }

    /// What an operator asks of hosts; nil for nothing this time.
    func drawHostMove(_ cell: Int) -> CellCommand.Operation? {
        guard movesHosts, hostRandom.chance(1, in: 4) else { return nil }
        if let move = checkers[cell].hostMoves.first, hostRandom.chance(1, in: 3) {
            // Too late it is refused.
            if hostRandom.chance(1, in: 2) { return .advanceHost(move.number, .abort(reason: "called off")) }
            return .sendHost(move.host, to: UInt64(cell + 1), assignment: move.assignment, keepsNames: false)
        }
        let own = hosts.filter { assigned[$0.node.number].cell == cell }
        // The last one stays, mostly.
        guard own.count > 1 || (own.count == 1 && hostRandom.chance(1, in: 8)) else { return nil }
        let laden = own.filter { checkers[cell].view.hosts[$0.id]?.vmCount ?? 0 > 0 }
        let open = laden.isEmpty || hostRandom.chance(1, in: 5) ? own : laden
        let host = open[hostRandom.below(open.count)]
        let other = (cell + 1 + hostRandom.below(profile.cells - 1)) % profile.cells
        // The root knows it not yet, or no more.
        if profile.spareCells > 0 && hostsPlans.view.cell(Fleet.group(of: other)) == nil { return nil }
        let company =
            profile.plansHosts
            ? hostsPlans.view.company(
                of: NodeID(host.id.rawValue), from: Fleet.group(of: cell), to: Fleet.group(of: other))
            : HostCompany()
        return .sendHost(
            host.id, to: UInt64(other + 1), assignment: assigned[host.node.number].epoch, keepsNames: false,
            company: company)
    }

    /// A cell has said for good where a host is under this assignment.
    func concluded(_ move: HostMove, in cell: Int) {
        let number = Int(move.host.rawValue) - 1
        guard assigned[number].cell == cell, assigned[number].epoch == move.assignment, move.phase != .preparing else {
            return
        }
        if move.phase == .committed { counts.hostsHandedOver += 1 } else { counts.hostsKept += 1 }
        if profile.plansHosts { return tellPaperRoot(of: move, in: cell) }
        assigned[number].epoch += 1
        if move.phase == .committed { assigned[number].cell = Int(move.to) - 1 }
        // Or its agent hears of it from the cell that it left, or when it begins anew, or when the faults have ended.
        let isHeard = hostRandom.chance(1, in: 2) || world.recovery.phase != .chaos
        if isHeard, hosts[number].keeper != nil { tellAssignment(hosts[number]) }
    }

    func tellAssignment(_ host: SimulatedHost) {
        let now = assigned[host.node.number]
        enter(now.cell, host, under: now.epoch)
    }

    /// The cell where it was says that it went on to this one.
    func redirect(_ host: SimulatedHost, to cell: UInt64) {
        guard host.cell != Int(cell) - 1 else { return }
        enter(Int(cell) - 1, host, under: assigned[host.node.number].epoch)
    }

    private func enter(_ cell: Int, _ host: SimulatedHost, under epoch: UInt64) {
        let isOther = host.cell != cell
        host.cell = cell
        host.applied = .zero
        host.inputs.append(.assigned(epoch: epoch, isOtherCell: isOther))
        schedule(host)
    }

    /// Whether any cell has, or keeps for a host that may come, the VM on this host.
    func isPlaced(_ vm: VMID, on host: HostID) -> Bool {
        checkers.contains { checker in
            guard let row = checker.view.vms[vm] else { return false }
            if let arrival = row.arrival {
                return CellVM.decode(arrival.row)?.place?.assignment.host == host
            }
            return row.place?.assignment.host == host
        }
    }
}
