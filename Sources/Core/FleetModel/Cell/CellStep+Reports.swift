import ClusterBase

// What hosts say of VMs. A report counts only under an incarnation and an epoch that are in force.

extension CellStep {
    mutating func report(
        _ id: HostID, _ incarnation: Incarnation, _ reports: [VMReport]
    ) throws(StoreError) -> CellResult.Outcome {
        if reports.count > CellLimits.itemsMax { return .refused(.tooMany(.items)) }
        guard let host = try host(id) else { return .refused(.unknownHost(id)) }
        if host.health == .removed {
            return .refused(host.wentTo > 0 ? .hostWentTo(id, cell: host.wentTo) : .hostRemoved(id))
        }
        if host.incarnation != incarnation { return .refused(.incarnationOutdated(id)) }
        // It was given up: it registers again before its word counts.
        if host.health != .up { return .refused(.incarnationOutdated(id)) }
        for report in reports {
            if !CellCheck.isText(report.message, CellLimits.annotationBytesMax) {
                return .refused(.invalid(field: "message", "at most \(CellLimits.annotationBytesMax) bytes"))
            }
        }
        for report in reports { try take(report, from: id) }
        return .done
    }

    private mutating func take(_ report: VMReport, from host: HostID) throws(StoreError) {
        guard let old = try vm(report.vm) else { return }
        var vm = old
        if let arrival = old.arrival {
            // What its memory was to come to is gone: it comes cold.
            guard arrival.sender != nil, let place = old.place, place.assignment.host == host,
                place.epoch == report.epoch, report.state == .stopped || report.state == .crashed
            else { return }
            vm.arrival?.sender = nil
            return try put(vm, was: old)
        }
        if let place = old.place, place.assignment.host == host,
            place.epoch == report.epoch || mutated(.otherEpochConfirms)
        {
            try takeOfPlace(report, host, &vm)
        } else if let migration = old.migration {
            let end = migration.phase == .leaving ? migration.source : migration.target
            guard end.assignment.host == host, end.epoch == report.epoch else { return }
            try takeOfOtherEnd(report, migration, host, &vm)
        }
        if vm != old { try put(vm, was: old) }
    }

    /// Of the copy at the VM's place.
    private mutating func takeOfPlace(_ report: VMReport, _ host: HostID, _ vm: inout CellVM) throws(StoreError) {
        switch vm.phase {
        // Under this epoch it has ended: what is said of its life comes late.
        case .stopped, .crashed, .looping: return
        case .waiting, .starting, .running, .paused, .stopping, .unknown: break
        }
        switch report.state {
        case .starting:
            if vm.phase == .unknown { enter(.starting, &vm) }
            if level >= FeatureLevel.images, vm.phase == .starting, !report.message.isEmpty {
                vm.message = report.message
            }
        case .running, .paused:
            if report.generation == vm.generation { vm.held = nil }
            vm.runningGeneration = max(vm.runningGeneration, min(report.generation, vm.generation))
            if vm.awaitsArrival { vm.migration?.hasArrived = true }
            if vm.phase == .stopping { return }
            if vm.power == .stopped || vm.isDeleting || vm.place?.isReleasing == true {
                return enter(.stopping, &vm)
            }
            let phase = report.state == .running ? CellVM.Phase.running : .paused
            if vm.phase == phase { return }
            let isBeginning = vm.phase == .starting || vm.phase == .unknown
            enter(phase, &vm)
            if isBeginning { vm.message = "" }
            try note(report.state == .running ? "vm.running" : "vm.paused", &vm, host: host)
        case .stopped: try takeStopped(host, &vm)
        case .crashed: try takeCrash(report, host, &vm)
        case .copying:
            if vm.migration?.phase == .copying, vm.migration?.isCopied == false {
                vm.migration?.progressMillis = min(999, report.progressMillis)
            } else if vm.migration == nil, vm.sending?.isCopied == false {
                vm.departure?.far?.progressMillis = min(999, report.progressMillis)
            }
        case .copied:
            if vm.migration?.phase == .copying { vm.migration?.progressMillis = 1_000 }
            if vm.migration == nil, vm.sending != nil { vm.departure?.far?.progressMillis = 1_000 }
        case .copyFailed:
            if vm.migration == nil, vm.sending != nil {
                vm.departure?.far?.failure = report.message.isEmpty ? "it could not be sent" : report.message
                return try note("vm.migration-failed", &vm, host: host, report.message)
            }
            guard vm.migration?.phase == .copying else { return }
            vm.migration?.phase = .undoing
            vm.message = "its move failed: \(report.message)"
            try note("vm.migration-failed", &vm, host: host, report.message)
        }
    }

    private mutating func takeStopped(_ host: HostID, _ vm: inout CellVM) throws(StoreError) {
        if !vm.isDeleting && vm.place?.isReleasing != true && vm.power == .stopped {
            try note("vm.stopped", &vm, host: host)
        }
        try end(&vm, "its host had stopped it")
    }

    private mutating func takeCrash(_ report: VMReport, _ host: HostID, _ vm: inout CellVM) throws(StoreError) {
        if vm.isDeleting || vm.place?.isReleasing == true || vm.power == .stopped { return try takeStopped(host, &vm) }
        // No crash of its own that would count, and be waited after.
        if report.isHostsFault, level >= FeatureLevel.hostsFaults { return try end(&vm, report.message) }
        if vm.migration?.phase == .copying { vm.migration?.phase = .undoing }
        vm.held = nil
        vm.runningGeneration = 0
        vm.message = report.message
        enter(.crashed, &vm)
        try note("vm.crashed", &vm, host: host, report.message)
    }

    /// Of the copy that a move makes, or leaves behind.
    private mutating func takeOfOtherEnd(
        _ report: VMReport, _ migration: Migration, _ host: HostID, _ vm: inout CellVM
    ) throws(StoreError) {
        guard report.state == .stopped || report.state == .crashed, !vm.awaitsArrival else { return }
        vm.migration = nil
        if migration.phase == .copying {
            vm.message = "its move failed: \(report.message)"
            try note("vm.migration-failed", &vm, host: host, report.message)
        }
    }
}
