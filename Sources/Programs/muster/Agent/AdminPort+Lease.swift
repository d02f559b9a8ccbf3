import AdminAPI
import AdminHTTP
import ClusterBase
import Controllers
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Reactor
import StoreLayout

// The lease of a host whose guard asks for it by itself, through any node.

extension AdminPort {
    func renewLease(_ wish: LeaseWish, _ cell: GroupID, _ asker: FleetAsker) {
        guard asker.principal == .node(NodeID(wish.host.rawValue)) else {
            return fail(
                asker,
                Problem(
                    .forbidden,
                    "\(asker.principal) may not renew the lease of host \(wish.host); only its own guard does"))
        }
        hand(.renewLease(wish), cell, asker) { [self] in answer(asker, $0) }
    }

    /// Grants as the leader. False where the cell is not led here.
    ///
    /// The host is noted as heard before the state is read, in the term that reads it: so whoever declares it down later has
    /// waited since then, and a leader of a later term waits since its own election.
    func grant(_ wish: LeaseWish, _ cell: GroupID, _ done: @escaping (AdminResponse) -> Void) -> Bool {
        guard let term = ledTerm(cell) else { return false }
        func refuse(_ detail: String) -> Bool {
            done(AdminResponse(Problem(.unavailable, detail)))
            return true
        }
        guard agent.engine.hostSpoke(wish.host, in: cell, now: agent.loop.now) else {
            return refuse("the cell's leader is about to declare host \(wish.host) down; ask again in a moment")
        }
        agent.request(.query(cell, .cell(.hostWork(wish.host, since: .zero)))) { [self] outcome in
            guard ledTerm(cell) == term, case .read(.cell(let answer)) = outcome,
                case .work(.some(let rows), _, let lease) = answer.body
            else {
                _ = refuse("the cell has no leader that can read its state now; ask again, or ask another node")
                return
            }
            if lease == 0, isReleased(wish.host, cell) {
                _ = refuse("host \(wish.host) belongs to another cell now; ask again, or ask another node")
                return
            }
            let permits = RunPermit.permits(rows, on: wish.host)
            let digest = RunPermit.digest(permits)
            let info = LeaseInfo(
                lengthMilliseconds: lease, generation: answer.leaseBase + answer.index.rawValue, digest: digest,
                permits: digest == wish.digest ? nil : permits)
            done(AdminResponse(json: info.json, index: answer.index))
        }
        return true
    }

    /// Who asks here has an old map: that takes back nothing that the host's new cell has granted.
    private func isReleased(_ host: HostID, _ cell: GroupID) -> Bool {
        guard case .cell(let found)? = agent.engine.readHere(cell, .cell(.host(host))),
            case .host(_, let known?)? = AdminPort.rows(found).rows.first
        else { return false }
        return known.isReleased
    }

    private func ledTerm(_ cell: GroupID) -> Term? {
        agent.engine.inspect(cell) { raft, _ in raft.isLeader && raft.hasCommittedInTerm ? raft.term : nil } ?? nil
    }
}
