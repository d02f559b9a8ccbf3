import AdminAPI
import ClusterBase
import Controllers
import FleetModel
import NodeRuntime

// The fleet's numbers, on the node that leads the cell: its controller has counted them.

extension Agent {
    private struct CellFacts {
        var cell: Metrics.Label
        var phases: [(CellVM.Phase, Int)]
        var hosts: [(HostState, Int)]
        var counts: CellKeeperCounts
        var lease: UInt64
        var leaseLeast: UInt64
    }

    func addFleet(_ metrics: inout Metrics) {
        let cells = engine.ledCells.compactMap { group -> CellFacts? in
            let name = view.cells.first { $0.group == group }?.name ?? "\(group)"
            let least = leaseLeast(of: group)?.milliseconds ?? 0
            return engine.withCellKeeper(group) { keeper in
                var hosts = HostState.allCases.map { ($0, 0) }
                // hash order: summed up
                for host in keeper.view.hosts.values where host.health != .removed {
                    hosts[Int(host.state.rawValue)].1 += 1
                }
                return CellFacts(
                    cell: Metrics.Label("cell", name),
                    phases: CellVM.Phase.allCases.map { ($0, keeper.view.count(of: $0)) }, hosts: hosts,
                    counts: keeper.counts, lease: keeper.view[.leaseLength], leaseLeast: least)
            }
        }
        if cells.isEmpty { return }
        for cell in cells {
            for (phase, count) in cell.phases {
                metrics.add(
                    "muster_cell_vms", .gauge, "VMs by phase.", UInt64(count),
                    [cell.cell, Metrics.Label("phase", FleetWords.word(phase))])
            }
        }
        for cell in cells {
            for (state, count) in cell.hosts {
                metrics.add(
                    "muster_cell_hosts", .gauge, "Hosts by state.", UInt64(count),
                    [cell.cell, Metrics.Label("state", FleetWords.word(state))])
            }
        }
        for cell in cells {
            metrics.add(
                "muster_cell_lease_seconds", .gauge, "How long a host's lease lasts.", Double(cell.lease) / 1_000,
                [cell.cell])
        }
        for cell in cells {
            metrics.add(
                "muster_cell_lease_least_seconds", .gauge,
                "What a lease must last to outlive the election of a leader, by the links as they are now.",
                Double(cell.leaseLeast) / 1_000, [cell.cell])
        }
        func gauge(_ name: String, _ help: String, _ value: (CellKeeperCounts) -> Int) {
            for cell in cells {
                metrics.add("muster_cell_\(name)", .gauge, help, UInt64(max(0, value(cell.counts))), [cell.cell])
            }
        }
        gauge("queue_length", "VMs that wait for a place.", \.waiting)
        gauge("queue_stuck_kinds", "Kinds of waiting VMs that no host takes now.", \.refusedClasses)
        gauge("region_waiting_vms", "VMs of lost regions that no host of their cell takes.", \.regionWaiting)
        gauge("nominations", "VMs that room is being made for.", \.nominated)
        gauge("crashed_vms", "Crashed VMs that wait to start again.", \.crashed)
        gauge("migrations", "Migrations under way.", \.migrating)
        gauge("draining_hosts", "Hosts that are being drained.", \.draining)
        gauge("exceeded_hosts", "Hosts on which more is in use than they offer.", \.exceeded)
        gauge("commands_under_way", "Commands of the controller without an outcome yet.", \.underWay)
        func counter(_ name: String, _ help: String, _ value: (CellKeeperCounts) -> UInt64) {
            for cell in cells {
                metrics.add("muster_cell_\(name)_total", .counter, help, value(cell.counts), [cell.cell])
            }
        }
        counter("plans", "Times that the controller planned.", \.plans)
        counter("decisions", "Placement decisions.", \.decisions)
        counter("refusals", "Decisions that found no host.", \.refusals)
        counter("placed", "VMs placed.", \.placed)
        counter("races_lost", "Placings that the state machine refused.", \.takenBack)
        counter("batches", "Times that VMs which arrived together were decided together.", \.batches)
        counter("batch_gains", "VMs that have a place because they were decided together.", \.batchGains)
        counter("gangs_placed", "Gangs of VMs that were placed, all of each in one command.", \.gangsPlaced)
        counter("misfits", "Rows that could not be taken into the index as they are.", \.misfits)
        counter("preemptions", "VMs stopped to make room.", \.preemptions)
        counter("migrations_begun", "Migrations begun.", \.migrationsBegun)
        counter("migrations_cancelled", "Migrations given up.", \.migrationsCancelled)
        counter("restarts", "Restarts after crashes.", \.restarts)
        counter("hosts_declared_down", "Hosts declared down.", \.hostsDeclaredDown)
        counter("region_away", "VMs sent to cells of other regions because theirs was lost.", \.regionAway)
        counter("region_home", "VMs sent home because their region was back.", \.regionHome)
        counter(
            "region_evacuated", "VMs sent to cells of other regions because theirs was evacuated.", \.regionEvacuated)
        counter("brake_held", "Times that the brake stopped a failover.", \.brakeHeld)
        addExposure(&metrics)
        addBalance(cells, &metrics)
        addLatencies(cells, &metrics)
        for cell in cells {
            let times = cell.counts.placingTimes
            metrics.add(
                "muster_cell_placing_seconds", "From a placement decision to its outcome.",
                Metrics.Histogram(
                    bounds: LatencyCounts.boundsMilliseconds.map { Double($0) / 1_000 }, counts: times.counts,
                    sum: Double(times.sum.count) / 1e9), [cell.cell])
        }
    }

    /// From decisions to their outcomes, by controller.
    private func addLatencies(_ cells: [CellFacts], _ metrics: inout Metrics) {
        for cell in cells {
            for controller in CellKeeperCounts.Controller.allCases {
                let times = cell.counts.controllerTimes[controller] ?? LatencyCounts()
                metrics.add(
                    "muster_cell_controller_seconds", "From a controller's decision to its outcome.",
                    Metrics.Histogram(
                        bounds: LatencyCounts.boundsMilliseconds.map { Double($0) / 1_000 }, counts: times.counts,
                        sum: Double(times.sum.count) / 1e9),
                    [cell.cell, Metrics.Label("controller", controller.rawValue)])
            }
        }
    }

    /// Of cells where moves for a better balance were looked for.
    private func addBalance(_ cells: [CellFacts], _ metrics: inout Metrics) {
        func gauge(_ name: String, _ help: String, _ value: (RebalanceAdvice) -> Int64) {
            for cell in cells {
                guard let advice = cell.counts.advice else { continue }
                metrics.add("muster_cell_rebalance_\(name)", .gauge, help, Double(value(advice)), [cell.cell])
            }
        }
        gauge("score", "The cell's score, higher is better, when moves were looked for last.", \.scoreBefore)
        gauge("score_after", "The score that it would have after the moves that were found.", \.scoreAfter)
        gauge("proposed_moves", "Moves that were found then.") { Int64($0.steps.count) }
    }
}
