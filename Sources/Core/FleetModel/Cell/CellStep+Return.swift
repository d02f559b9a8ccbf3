import ClusterBase

// VMs that left a host by a drain, and their way back.
//
//     in service ──drain──▶ draining ─▶ maintenance ──resume──▶ none: nothing is remembered
//                     │ what leaves has it as its origin     ├─▶ lazy: it is taken first by those that go anywhere
//                     ▼                                      └─▶ all: they are moved back ──all that can are there──▶ lazy, or
//              counted in the host's row                             (paused, let go on)                              nothing
//
// A VM has one origin, the first that it has not come back to. It is forgotten when somebody moves the VM, when it is where it
// was, and when it was stopped for long; and all of a host at once, when that is resumed without a return or leaves the cell.

extension CellStep {
    // MARK: Origins

    /// A VM has left a host, for another one or for none.
    mutating func follow(
        leaving from: HostID, to: HostID?, _ cause: Migration.Cause, _ vm: inout CellVM
    ) throws(StoreError) {
        if level < FeatureLevel.hostReturns { return }
        if let to, let origin = vm.origin, origin.host == to {
            vm.origin = nil
            return
        }
        switch cause {
        case .asked: vm.origin = nil
        case .rebalance, .preemption, .return, .capacity: break
        case .drain:
            if let origin = vm.origin, try host(origin.host)?.isOrigin(origin) == true { return }
            guard let host = try host(from) else { return }
            vm.origin = host.drain == 0 ? nil : CellVM.Origin(host: from, drain: host.drain)
        }
    }

    /// Somebody starts it that was stopped for long.
    func forgetStoppedLong(_ vm: inout CellVM, _ old: CellVM) {
        if old.origin != nil && old.isStoppedLong(at: time) { vm.origin = nil }
    }

    mutating func followOrigin(_ old: CellVM?, _ new: CellVM?) throws(StoreError) {
        if old?.origin == new?.origin { return }
        if let origin = old?.origin { try countAway(origin, isMore: false) }
        if let origin = new?.origin { try countAway(origin, isMore: true) }
    }

    private mutating func countAway(_ origin: CellVM.Origin, isMore: Bool) throws(StoreError) {
        guard var host = try host(origin.host), host.isOrigin(origin) else { return }
        if isMore { host.awayCount += 1 } else { host.awayCount -= min(1, host.awayCount) }
        // The last of those for whom nothing moves.
        if host.awayCount == 0 && host.returns == .lazy && host.duty == .inService { host.forgetAway() }
        put(host)
    }

    // MARK: What is said of them

    /// Its duty becomes another one, or it is taken back again.
    func beginDuty(_ host: inout CellHost, was old: CellHost.Duty) {
        if level < FeatureLevel.hostReturns { return }
        switch host.duty {
        case .draining:
            if host.drain == 0 { host.drain = revision.rawValue }
            // What was said of a drain before is not meant for this one; one that goes on is the same.
            if old != .maintenance { host.returns = .none }
            host.isReturnPaused = false
        case .inService: if host.returns == .none { host.forgetAway() }
        case .cordoned, .maintenance: break
        }
    }

    mutating func drain(_ known: CellHost, _ returns: HostReturn) throws(StoreError) -> CellResult.Outcome {
        if known.duty != .draining || known.isDrainPaused {
            let outcome = try setDuty(known.id, .draining)
            if case .refused = outcome { return outcome }
        }
        guard var host = try host(known.id), host.returns != returns else { return .done }
        host.returns = returns
        host.generation += 1
        put(host)
        return .done
    }

    /// Takes it back into service; one that is in service already gets another return.
    mutating func resume(_ known: CellHost, _ returns: HostReturn) throws(StoreError) -> CellResult.Outcome {
        if known.duty == .inService && known.drain == 0 && returns != .none {
            return .refused(
                .hostIsOtherwise(
                    known.id,
                    "is in service, and nothing is remembered of VMs that left it; say what becomes of them when it is resumed, or "
                        + "drained"))
        }
        var host = known
        host.returns = host.drain == 0 ? .none : returns
        if host.returns != known.returns { host.isReturnPaused = false }
        if known.duty != .inService || known.awayUntil > .zero {
            if host != known { put(host) }
            return try setDuty(known.id, .inService)
        }
        if host == known { return .done }
        let text = host.returnText
        if returns == .none { host.forgetAway() }
        if host.returns == .lazy && host.awayCount == 0 { host.forgetAway() }
        host.generation += 1
        put(host)
        note("host.return-changed", host, text)
        return .done
    }

    mutating func pauseReturn(_ known: CellHost, _ isPaused: Bool) -> CellResult.Outcome {
        guard known.duty == .inService, known.returns == .all else {
            return .refused(
                .hostIsOtherwise(
                    known.id, "has no VMs on their way back; begin with `muster host resume --return all`"))
        }
        return switchPause(known, \.isReturnPaused, isPaused, isPaused ? "host.return-paused" : "host.return-resumed")
    }

    /// All that can be there are back. The others take it first when they go anywhere.
    mutating func endReturn(_ known: CellHost) -> CellResult.Outcome {
        guard known.duty == .inService, known.returns == .all else { return .done }
        if known.isReturnPaused {
            return .refused(.hostIsOtherwise(known.id, "takes its VMs back, and that is paused"))
        }
        var host = known
        host.returns = .lazy
        let text = host.awayCount == 0 ? "all that left it are back" : host.returnText
        if host.awayCount == 0 { host.forgetAway() }
        put(host)
        note("host.returned", host, text)
        return .done
    }
}
