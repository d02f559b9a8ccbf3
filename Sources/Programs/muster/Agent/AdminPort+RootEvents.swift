import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore

// What people asked of the root: its part of the audit.

extension AdminPort {
    func listRootEvents(_ list: FleetList, _ asker: FleetAsker) {
        let isDescending = list.sort?.isDescending == true
        let place = list.after.flatMap { Revision($0) } ?? .zero
        var begin: [UInt8]?
        if place > .zero, !isDescending { begin = AdminPort.bytes(place.rawValue) }
        // There are `RootLimits.eventsMax` at most: the newest are the end of all.
        readRootEvents(begin, [], enough: isDescending ? .max : list.limit, list, asker) { [self] found, index in
            var shown = found
            if isDescending {
                shown = shown.reversed().filter { place == .zero || $0.revision < place }
            }
            let page = shown.prefix(list.limit)
            let next = shown.count > page.count ? page.last?.revision.description : nil
            answer(asker, AdminPort.page(page.map { EventInfo($0).json.only(list.fields) }, next: next, index, nil))
        }
    }

    /// Those that the asker sees, oldest first; one more than are enough where there are more.
    private func readRootEvents(
        _ after: [UInt8]?, _ kept: [CellEvent], enough: Int, _ list: FleetList, _ asker: FleetAsker,
        _ done: @escaping ([CellEvent], LogIndex) -> Void
    ) {
        agent.request(.query(.root, .root(.list(.events, after: after, limit: 0)))) { [self] outcome in
            guard case .read(.root(let read)) = outcome, case .rows(_, let next) = read.body,
                let events = read.records(RootEvent.self)
            else {
                return fail(asker, Problem(outcome))
            }
            let all =
                kept
                + events.map(\.shown).filter { event in
                    list.vm == nil && (list.host.map { $0 == event.host } ?? true) && shows(event, list, true, asker)
                }
            guard let next, all.count <= enough else { return done(all, read.index) }
            readRootEvents(next, all, enough: enough, list, asker, done)
        }
    }
}
