import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodeRuntime
import Reactor

// Who asked for a change without the right to it is in the root's audit: who, what, when and from where. At most some of it: a
// node that refuses much says how often, and not each.

extension AdminPort {
    func forbade(_ action: Action, _ principal: Principal, from address: String) {
        forbade("may not \(action.name)", by: address.isEmpty ? "\(principal)" : "\(principal) from \(address)")
    }

    func forbade(_ what: String, by: String) {
        guard agent.engine.levelOpen >= FeatureLevel.rootAudit, let omitted = refusals.note(now: agent.loop.now) else {
            return
        }
        // Whoever asked has the answer already; where the root can't be reached, it is not noted.
        agent.change(.noteForbidden(action: what, omitted: omitted), request: nil, by: by) { _ in }
    }
}
