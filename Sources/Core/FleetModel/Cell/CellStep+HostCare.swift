import ClusterBase

// What operators say of hosts beside their duty.

extension CellStep {
    mutating func care(_ id: HostID, _ care: HostCare) throws(StoreError) -> CellResult.Outcome {
        guard let host = try host(id) else { return .refused(.unknownHost(id)) }
        if host.health == .removed { return .refused(.hostRemoved(id)) }
        switch care {
        case .pauseDrain: return pauseDrain(host, true)
        case .resumeDrain: return pauseDrain(host, false)
        }
    }

    private mutating func pauseDrain(_ known: CellHost, _ isPaused: Bool) -> CellResult.Outcome {
        guard known.duty == .draining else {
            return .refused(.hostIsOtherwise(known.id, "is not being drained; begin with `muster host drain`"))
        }
        if known.isDrainPaused == isPaused { return .done }
        var host = known
        host.isDrainPaused = isPaused
        host.generation += 1
        put(host)
        note(isPaused ? "host.drain-paused" : "host.drain-resumed", host)
        return .done
    }
}
