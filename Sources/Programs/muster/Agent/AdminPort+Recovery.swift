import AdminAPI
import AdminHTTP
import ClusterBase
import Controllers
import FleetModel
import NodeRuntime

// What a cell's losses would cost, and which of its promises are not kept.

extension Agent {
    /// By this node's own look where it leads the cell, else as the cell's leader told the root.
    func risks(of cell: GroupID) -> [CellRisk] {
        engine.exposure(of: cell)?.risks ?? view.report(of: cell)?.risks ?? []
    }

    /// Of all cells.
    var riskAlarms: [String] {
        view.cells.flatMap { cell in
            risks(of: cell.group).map { "cell \(cell.name) does not keep its \($0.kind.name): \($0.text)" }
        }
    }

    func addExposure(_ metrics: inout Metrics) {
        let cells = engine.ledCells.compactMap { group in
            engine.exposure(of: group).map { (view.cells.first { $0.group == group }?.name ?? "\(group)", $0) }
        }
        func each(_ name: String, _ help: String, _ value: (CellExposure.Loss) -> Double) {
            for (cell, known) in cells {
                for loss in known.exposure.losses {
                    metrics.add(
                        name, .gauge, help, value(loss),
                        [
                            Metrics.Label("cell", cell), Metrics.Label("scope", loss.scope.rawValue),
                            Metrics.Label("region", loss.region), Metrics.Label("zone", loss.zone),
                        ])
                }
            }
        }
        each(
            "muster_cell_loss_seconds",
            "How old the oldest acknowledged write is that would be lost with a zone or a region; +Inf where all would be."
        ) { $0.entries == nil ? .infinity : Double($0.lag.count) / 1e9 }
        each("muster_cell_loss_entries", "Acknowledged entries that would be lost with a zone or a region.") {
            $0.entries.map { Double($0) } ?? .infinity
        }
        each("muster_cell_loss_goes_on", "1 where a majority that answers is left without a zone or a region.") {
            $0.goesOn ? 1 : 0
        }
        for (cell, known) in cells {
            for scope in CellExposure.Scope.allCases {
                guard let most = known.promise.rpo(scope) else { continue }
                metrics.add(
                    "muster_cell_rpo_seconds", .gauge,
                    "How old what is lost with a zone or a region may be, as declared.",
                    Double(most.count) / 1e9, [Metrics.Label("cell", cell), Metrics.Label("scope", scope.rawValue)])
            }
        }
        addRecoveries(&metrics)
        addReserves(&metrics)
        for (cell, known) in cells {
            for kind in CellRisk.Kind.allCases {
                metrics.add(
                    "muster_cell_at_risk", .gauge, "1 while a promise of the cell is not kept.",
                    UInt64(known.risks.contains { $0.kind == kind } ? 1 : 0),
                    [Metrics.Label("cell", cell), Metrics.Label("promise", kind.name)])
            }
        }
    }

    /// Of a cell that is led here: by tier, how long VMs were down whose hosts were lost.
    func recoveries(of cell: GroupID) -> (rto: Nanoseconds?, lostVMs: Int, tiers: [TierRecoveryInfo])? {
        let known = engine.withCellKeeper(cell) { keeper in
            (keeper.rto, keeper.lostVMs, keeper.view.slices.values.filter { $0.recovery != nil })
        }
        guard let (rto, lostVMs, slices) = known else { return nil }
        var tiers: [TierRecoveryInfo] = []
        for slice in slices.sorted(by: { $0.tenant < $1.tenant }) {
            guard let recovery = slice.recovery else { continue }
            let one = TierRecoveryInfo(
                tier: view.tenant(slice.tenant)?.tier ?? "", recovery, rto: slice.rto(unless: rto))
            if let at = tiers.firstIndex(where: { $0.tier == one.tier }) {
                tiers[at].add(one)
            } else {
                tiers.append(one)
            }
        }
        return (rto, lostVMs, tiers.sorted { $0.tier < $1.tier })
    }

    /// Of a cell that is led here: by kind of amount, what it keeps free for losses; empty for nothing.
    func reserve(of cell: GroupID) -> [CellReserveInfo] {
        let known = engine.withCellKeeper(cell) { keeper in
            keeper.view.reserve.map { ($0, keeper.worstLosses($0)) }
        }
        guard let (standing, losses) = known ?? nil, !standing.isCounting else { return [] }
        return ResourceKind.allCases.map { CellReserveInfo(standing, $0, losses: losses[$0.rawValue]) }
    }

    private func addReserves(_ metrics: inout Metrics) {
        let cells = engine.ledCells.map { group in
            (view.cells.first { $0.group == group }?.name ?? "\(group)", reserve(of: group))
        }
        for (cell, kinds) in cells {
            for one in kinds {
                metrics.add(
                    "muster_cell_reserve_left", .gauge,
                    "What is free beyond what is kept for losses: thousandths of a CPU, MiB, Mbit/s; below 0 that is broken.",
                    Double(one.left), [Metrics.Label("cell", cell), Metrics.Label("kind", one.kind)])
            }
        }
    }

    private func addRecoveries(_ metrics: inout Metrics) {
        let cells = engine.ledCells.compactMap { group in
            recoveries(of: group).map { (view.cells.first { $0.group == group }?.name ?? "\(group)", $0) }
        }
        for (cell, known) in cells {
            guard let rto = known.rto else { continue }
            metrics.add(
                "muster_cell_rto_seconds", .gauge, "How long VMs may be down that were lost, as declared.",
                Double(rto.count) / 1e9, [Metrics.Label("cell", cell)])
        }
        for (cell, known) in cells {
            metrics.add(
                "muster_cell_lost_vms", .gauge, "VMs that were lost with their hosts and do not run yet.",
                UInt64(known.lostVMs), [Metrics.Label("cell", cell)])
        }
        func each(_ name: String, _ help: String, _ value: (TierRecoveryInfo) -> Double) {
            for (cell, known) in cells {
                for tier in known.tiers {
                    metrics.add(
                        name, .gauge, help, value(tier),
                        [Metrics.Label("cell", cell), Metrics.Label("tier", tier.tier)])
                }
            }
        }
        each(
            "muster_cell_recovery_seconds",
            "How long the last VM of a tier was down that runs again after the last loss of hosts."
        ) { Double($0.millis) / 1_000 }
        each("muster_cell_recovery_longest_seconds", "The longest of any loss that is remembered.") {
            Double($0.longestMillis) / 1_000
        }
        each("muster_cell_recovery_missed", "Losses that took longer than was declared.") { Double($0.missed) }
    }
}

extension AdminPort {
    /// False where the cell is not led here.
    func recovery(of cell: GroupID, _ done: (AdminResponse) -> Void) -> Bool {
        if !agent.engine.ledCells.contains(cell) { return false }
        guard let known = agent.engine.exposure(of: cell) else {
            done(AdminResponse(Problem(.unavailable, "the cell's leader is new and still reads the state; ask again")))
            return true
        }
        let losses = known.exposure.losses.map { loss in
            CellLossInfo(
                scope: loss.scope.rawValue, region: loss.region, zone: loss.zone, replicas: loss.replicas,
                elsewhere: loss.elsewhere, isCovered: loss.isCovered, entries: loss.entries, lag: loss.lag,
                best: loss.best, goesOn: loss.goesOn, catchUp: loss.catchUp)
        }
        let recovered = agent.recoveries(of: cell)
        done(
            AdminResponse(
                CellRecoveryInfo(
                    cell: cellName(cell), index: known.exposure.commit, rpoZone: known.promise.rpoZone,
                    rpoRegion: known.promise.rpoRegion, losses: losses, risks: known.risks,
                    rto: recovered?.rto, lostVMs: recovered?.lostVMs ?? 0, recoveries: recovered?.tiers ?? [],
                    reserve: agent.reserve(of: cell))))
        return true
    }
}
