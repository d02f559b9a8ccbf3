import ClusterBase
import FleetModel
import Placement

// Hosts that were changed, and of which somebody said that what may not stay there is to be moved away: whatever the cell's setting of
// the balance is, and without rests between moves of a VM.

struct EnforcementWork: Sendable {
    // hash order: read sorted
    var hosts: Set<HostID> = []
    /// VMs that found no other host, and when in the order of events that was.
    // hash order: looked up only
    var stuck: [VMID: Int] = [:]
    var at = Instant.origin
    /// Some move off, or will as soon as a budget lets them.
    var goesOn = false
}

extension CellKeeper {
    mutating func followEnforcement(of id: HostID, _ host: CellHost?, _ now: Instant) {
        if host?.isEnforced == true {
            if enforcement.hosts.insert(id).inserted { enforcement.at = now }
        } else {
            enforcement.hosts.remove(id)
        }
    }

    /// Moves off what may not stay, and says when nothing more can be. O(VMs of these hosts), once a second.
    mutating func planEnforcement(_ now: Instant, _ operations: inout [CellCommand.Operation]) {
        enforcement.goesOn = enforcement.goesOn && !enforcement.hosts.isEmpty
        if enforcement.hosts.isEmpty {
            enforcement.stuck = [:]
            return
        }
        if now < enforcement.at { return }
        enforcement.at = now + CellKeeper.drainInterval
        enforcement.goesOn = false
        let through = view.through ?? .zero
        var budget = MoveBudget(self)
        var repairs = Repairs()
        var examined = 0
        for id in enforcement.hosts.sorted() {
            examined += index.vms(on: id).count
            // The first is looked at however many are there.
            if examined > CellKeeper.repairExaminedMax, examined > index.vms(on: id).count {
                enforcement.goesOn = true
                break
            }
            if enforce(on: id, now, &budget, &repairs) {
                enforcement.goesOn = true
            } else if ledger.mayAsk(.endEnforcement(id), through, now) {
                ledger.asked(.endEnforcement(id), now)
                operations.append(.careForHost(id, .endEnforcement))
            }
        }
        undo(repairs)
        giveUp(repairs.leaves, now, &operations)
        // What is counted there already is counted anew, move by move.
        var asked = MoveBudget(self)
        for move in repairs.moves {
            guard let vm = view.vms[move.vm] else { continue }
            begin(vm, move.to, .capacity, now, &asked, &operations)
        }
    }

    /// Looks for other places for what may not stay on a host; false where none of it moves or can.
    private mutating func enforce(
        on id: HostID, _ now: Instant, _ budget: inout MoveBudget, _ repairs: inout Repairs
    ) -> Bool {
        guard let host = view.hosts[id], host.state == .ready || host.state == .cordoned else { return false }
        // What is on its way, or still ends here, says anew who is too many when it has gone.
        if index.vms(on: id).contains(where: { CellKeeper.isCopy($0) }) { return true }
        var goesOn = false
        for id in astray(on: id) {
            guard let vm = view.vms[id] else { continue }
            if pending[id] != nil || failedUntil[id].map({ now < $0 }) ?? false {
                goesOn = true
                continue
            }
            switch way(vm) {
            case .wait:
                if vm.phase != .unknown || vm.migration != nil { goesOn = true }
                continue
            case .never: continue
            // Nothing is left that could be asked of the guest.
            case .migrate where failedIntents[id].map({ $0.harder == $0 }) ?? false: continue
            case .migrate, .restart: break
            }
            if let since = enforcement.stuck[id], !queue.mayFit(index.spec(id)?.groups ?? [], since: since) { continue }
            counts.decisions += 1
            switch repair(id, on: host.id, &budget, &repairs) {
            case .found, .later: goesOn = true
            case .stays: enforcement.stuck[id] = queue.event
            }
        }
        return goesOn
    }
}
