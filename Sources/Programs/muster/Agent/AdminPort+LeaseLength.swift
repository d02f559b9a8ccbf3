import AdminAPI
import AdminHTTP
import AgentConfig
import ClusterBase
import CommandSyntax
import FleetModel
import NodeRuntime
import RaftCore

// A lease outlasts the election of another leader. How long that takes is measured by the cell's leader alone, so it is asked
// before a lease is set.

extension AdminPort {
    /// Goes on where the settings hold no lease, or one that the cell's leader takes.
    func judgeLease(
        _ settings: CellSettingsBody, _ cell: GroupID, _ asker: FleetAsker, _ body: @escaping () -> Void
    ) {
        if !settings.values.contains(where: { $0.0 == .leaseLength && $0.0.allows($0.1) }) { return body() }
        hand(.dryRun(.changeSettings(settings)), cell, asker) { [self] response in
            response.status < 400 ? body() : answer(asker, response)
        }
    }

    /// This node's word as the cell's leader. False where it is not led here.
    func judgeLease(_ settings: CellSettingsBody, of cell: GroupID, _ done: (AdminResponse) -> Void) -> Bool {
        guard let least = agent.leaseLeast(of: cell) else { return false }
        guard let lease = settings.values.first(where: { $0.0 == .leaseLength })?.1, lease < least.milliseconds else {
            done(AdminResponse(Acceptance("the lease is long enough")))
            return true
        }
        done(
            AdminResponse(
                Problem(
                    .invalid,
                    "a lease of \(lease) ms is too short for this cell, whose nodes are held for dead after "
                        + "\(Quantity.text(least.suspicion)): hosts would lose it and stop their VMs while another leader is elected; set at "
                        + "least \(least.milliseconds), which is 5 times that and 2 beats",
                    field: CellSetting.leaseLength.member)))
        return true
    }
}

extension Agent {
    /// By what is measured now; nil where the cell is not led here.
    func leaseLeast(of cell: GroupID) -> (milliseconds: UInt64, suspicion: Nanoseconds)? {
        guard engine.ledCells.contains(cell),
            let suspicion = engine.inspect(cell, { raft, _ in raft.settings.suspicion })
        else { return nil }
        let least = CellSetting.leaseLeast(suspicion: suspicion, beat: settings.beatInterval)
        // The longest that there is is taken anyway.
        return (min(least, CellSetting.leaseLength.range.upperBound), suspicion)
    }
}
