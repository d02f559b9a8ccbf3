package import ClusterBase
package import FleetModel
import Placement

// Hosts that are away as planned, and those of which somebody says that they are off.

extension CellKeeper {
    /// When a host's planned absence is over, by the cell's time as it was seen last.
    struct Absence: Hashable, Sendable {
        var until: LogTime
        var at: Instant
    }

    /// Follows what is said of a host.
    mutating func noteCare(_ id: HostID, _ now: Instant) {
        let host = view.hosts[id].flatMap { $0.health == .removed ? nil : $0 }
        if let host, host.awayUntil > .zero {
            let end = now + left(until: host.awayUntil)
            let known = absences[id].flatMap { $0.until == host.awayUntil ? $0 : nil }
            absences[id] = Absence(until: host.awayUntil, at: min(known?.at ?? end, end))
            if known == nil { healthAt = min(healthAt, now) }
        } else if absences.removeValue(forKey: id) != nil {
            healthAt = min(healthAt, now)
        }
        if let host, host.declaredDeadAt > .zero, host.health == .up {
            if deadSince[id] == nil {
                deadSince[id] = now
                healthAt = min(healthAt, now)
            }
        } else {
            deadSince[id] = nil
        }
    }

    private func left(until end: LogTime) -> Nanoseconds {
        .milliseconds(Int64(clamping: end.rawValue - min(end.rawValue, view.time.rawValue)))
    }

    /// The cell's time goes on with its entries: where those were few, an absence ends earlier than it seemed.
    mutating func refreshAbsences(_ now: Instant) {
        for id in absences.keys.sorted() {
            guard let known = absences[id] else { continue }
            let end = now + left(until: known.until)
            if end >= known.at { continue }
            absences[id]?.at = end
            healthAt = min(healthAt, end)
        }
    }

    /// A leader that has just read the state does not know what time it is there now.
    mutating func askTime(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        if absences.isEmpty || knowsTime || !ledger.mayAsk(.time, view.through ?? .zero, now) { return }
        knowsTime = true
        ledger.asked(.time, now)
        operations.append(.noteTime)
    }

    /// It never went, and its time is over.
    mutating func endAbsence(_ id: HostID, _ now: Instant, _ operations: inout [CellCommand.Operation]) {
        guard ledger.mayAsk(.absence(id), view.through ?? .zero, now) else { return }
        ledger.asked(.absence(id), now)
        operations.append(.careForHost(id, .endAbsence))
    }

    /// What would start elsewhere if a host were declared dead, and what can't: as when it is lost, and also what runs on when it is
    /// cut off. Nil for a host that is not known.
    package mutating func planDeath(_ id: HostID) -> CellPlan? {
        guard let host = hostsIndexed[id] else { return nil }
        var plan = CellPlan(.declareDead(id), through: view.through ?? .zero)
        var searches = max(1, CellKeeper.gangVictimsWorkMax / max(1, index.hostCount))
        moveAway([id], &plan, searches: &searches) { _, vm in
            if vm.isDeleting || vm.power == .stopped { return .gone }
            if vm.boundTo != nil { return .stay(.localDisk) }
            if vm.spec.restart == .never { return .stay(.neverRestarts) }
            return .go(.restart)
        }
        plan.change = host.incarnation.rawValue
        return plan
    }

    /// For how long a host was not heard, and how much longer its lease may be in force as far as this leader knows. Nil for one
    /// that has none any more.
    package func silence(
        of id: HostID, _ watch: NodeWatch, now: Instant
    ) -> (unheard: Nanoseconds, leaseLeft: Nanoseconds)? {
        guard let host = view.hosts[id], host.health == .up else { return nil }
        let unheard = watch.silence(of: NodeID(rawValue: id.rawValue), at: now)
        let known = min(unheard, now - leadsSince)
        let most = CellKeeper.silenceMax(max(leaseLongest.milliseconds, view[.leaseLength]))
        return (unheard, known < most ? most - known : Nanoseconds(0))
    }
}
