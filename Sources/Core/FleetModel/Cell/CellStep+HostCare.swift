import ClusterBase

// What is said of hosts beside their duty.
//
//     up ──goAway──▶ up, to be away ──lease ends──▶ away ──time is over──▶ down: its VMs start elsewhere
//      ▲                   │                          │
//      └──comeBack, its time is over, its agent registers: what it ran starts there again
//
//     up ──declareDead──▶ up, no lease is granted ──lease ends──▶ down, with all that may leave it. One that is away or down has no
//     lease any more, and its VMs leave it at once.

extension CellStep {
    mutating func care(_ id: HostID, _ care: HostCare) throws(StoreError) -> CellResult.Outcome {
        guard let host = try host(id) else { return .refused(.unknownHost(id)) }
        if host.health == .removed { return .refused(.hostRemoved(id)) }
        switch care {
        case .pauseDrain: return pauseDrain(host, true)
        case .resumeDrain: return pauseDrain(host, false)
        case .goAway(let milliseconds): return try goAway(host, milliseconds)
        case .comeBack: return try comeBack(host)
        case .endAbsence: return try endAbsence(host)
        case .declareDead(let incarnation): return try declareDead(host, incarnation)
        case .drain(let returns): return try drain(host, returns)
        case .resume(let returns): return try resume(host, returns)
        case .pauseReturn: return pauseReturn(host, true)
        case .resumeReturn: return pauseReturn(host, false)
        case .endReturn: return endReturn(host)
        case .endEnforcement: return try endEnforcement(host)
        }
    }

    private mutating func pauseDrain(_ known: CellHost, _ isPaused: Bool) -> CellResult.Outcome {
        guard known.duty == .draining else {
            return .refused(.hostIsOtherwise(known.id, "is not being drained; begin with `muster host drain`"))
        }
        return switchPause(known, \.isDrainPaused, isPaused, isPaused ? "host.drain-paused" : "host.drain-resumed")
    }

    mutating func switchPause(
        _ known: CellHost, _ pause: WritableKeyPath<CellHost, Bool>, _ isPaused: Bool, _ event: String
    ) -> CellResult.Outcome {
        if known[keyPath: pause] == isPaused { return .done }
        var host = known
        host[keyPath: pause] = isPaused
        host.generation += 1
        put(host)
        note(event, host)
        return .done
    }

    // MARK: Planned absence

    private mutating func goAway(_ known: CellHost, _ milliseconds: UInt64) throws(StoreError) -> CellResult.Outcome {
        guard CellLimits.absence.contains(milliseconds) else {
            return .refused(.invalid(field: "seconds", "a host may be away for 1 s up to 24 h"))
        }
        if known.health == .down {
            return .refused(
                .hostIsOtherwise(known.id, "is down, and its VMs were given up; it is back when its agent registers"))
        }
        if known.declaredDeadAt > .zero {
            return .refused(.hostIsOtherwise(known.id, "was declared dead; it is back when its agent registers"))
        }
        var host = known
        host.awayUntil = time.advanced(by: milliseconds)
        host.generation += 1
        try change(known, to: host)
        note("host.away", host, "for \(milliseconds / 1_000) s at most; what it runs waits for it until then")
        return .done
    }

    private mutating func comeBack(_ known: CellHost) throws(StoreError) -> CellResult.Outcome {
        if known.awayUntil == .zero {
            return .refused(.hostIsOtherwise(known.id, "is not to be away; see `muster host show`"))
        }
        if known.health != .up {
            return .refused(
                .hostIsOtherwise(
                    known.id,
                    "is not heard, and back when its agent registers; `muster host declare-dead` gives it up before its time"
                ))
        }
        try endAbsence(of: known, "")
        return .done
    }

    private mutating func endAbsence(_ known: CellHost) throws(StoreError) -> CellResult.Outcome {
        if known.awayUntil == .zero || known.health != .up { return .done }
        if time < known.awayUntil { return .refused(.hostIsOtherwise(known.id, "is to be away longer")) }
        try endAbsence(of: known, "its time is over, and it never left")
        return .done
    }

    private mutating func endAbsence(of known: CellHost, _ why: String) throws(StoreError) {
        var host = known
        host.awayUntil = .zero
        host.generation += 1
        try change(known, to: host)
        note("host.back", host, why)
    }

    /// Its lease has run out while it is to be away: what it ran waits for it.
    mutating func noteAbsence(_ id: HostID) throws(StoreError) -> CellResult.Outcome {
        guard let known = try host(id) else { return .refused(.unknownHost(id)) }
        try callOff(known, "it went away")
        guard let left = try host(id) else { return .refused(.unknownHost(id)) }
        var host = left
        host.health = .away
        host.since = time
        try change(left, to: host)
        note("host.absent", host, "its lease has run out, as was to be; what it ran waits for it")
        for vm in try vms(on: id) { try lose(vm, id, time, by: .absence) }
        return .done
    }

    // MARK: Somebody's word

    private mutating func declareDead(
        _ known: CellHost, _ incarnation: Incarnation
    ) throws(StoreError) -> CellResult.Outcome {
        if known.incarnation != incarnation { return .refused(.incarnationOutdated(known.id)) }
        if known.declaredDeadAt > .zero && known.health == .up { return .done }
        var host = known
        host.declaredDeadAt = time
        host.generation += 1
        try change(known, to: host)
        note("host.declared-dead", host, "it is off, somebody says; what it ran starts elsewhere")
        switch known.health {
        case .up, .removed: break
        case .away: try giveUp(host, lostAt: time)
        case .down: for vm in try vms(on: known.id) { try lose(vm, known.id, time, by: .word) }
        }
        return .done
    }

    /// Writes a host that may take VMs now and did not, or the other way round.
    private mutating func change(_ old: CellHost, to new: CellHost) throws(StoreError) {
        try countTaking(old, -1)
        put(new)
        try countTaking(new, 1)
    }
}
