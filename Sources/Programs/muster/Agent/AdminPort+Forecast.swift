import AdminAPI
import AdminHTTP
import AgentConfig
import ClusterBase
import Controllers
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Reactor

// What a live migration would take: the VM's host measures for a second, and says.

extension AdminPort {
    func showForecast(_ reference: VMReference, _ cell: GroupID, _ asker: FleetAsker) {
        withVM(reference, cell, asker) { [self] vm in
            guard vm.place != nil else {
                return fail(asker, Problem(.notPossible, "the VM has no place, and so no way from it; see its explain"))
            }
            askForecast(of: vm, cell, asker) { [self] in answer(asker, $0) }
        }
    }

    /// Asks its host, which may be this one.
    private func askForecast(
        of vm: CellVM, _ cell: GroupID, _ asker: FleetAsker, _ done: @escaping (AdminResponse) -> Void
    ) {
        guard let place = vm.place else { return done(AdminResponse(AdminPort.noVM(.id(vm.id)))) }
        let node = NodeID(place.assignment.host.rawValue)
        if node == agent.node { return forecast(of: vm.id, done) }
        relay(.forecast(.id(vm.id)), cell, to: [node], asker, done)
    }

    /// Of a VM that runs here.
    func forecast(of vm: VMID, _ done: @escaping (AdminResponse) -> Void) {
        let name = agent.settings.nodeName
        let disks = agent.host.keeper.known.first { $0.id == vm }?.spec.diskMiBOnHost ?? 0
        agent.host.driver.probe(vm, now: agent.loop.now) { probe in
            guard let probe else {
                return done(
                    AdminResponse(
                        Problem(
                            .notPossible, "the VM does not run on \(name) now, or too many ask; see `muster vm show`")))
            }
            done(AdminResponse(MoveOutlook(probe, diskMiB: disks, host: name)))
        }
    }

    /// Puts what its host says to the plan of a move. A plan without it is as good as one.
    func addForecast(
        to plan: PlanInfo, of vm: CellVM, _ intent: MoveIntent, _ cell: GroupID, _ asker: FleetAsker,
        _ done: @escaping (PlanInfo) -> Void
    ) {
        askForecast(of: vm, cell, asker) { response in
            var plan = plan
            if response.status == 200, case .bytes(let bytes) = response.body,
                // A host of another version may have another word for it.
                let outlook = try? MoveOutlook(body: bytes[...])
            {
                plan.forecast = outlook.forecasts.first { $0.intent == intent.word }
            }
            done(plan)
        }
    }
}
