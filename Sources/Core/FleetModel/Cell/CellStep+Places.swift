import ClusterBase

// What controllers decide: places, releases, restarts after crashes, moves.

extension CellStep {
    // MARK: Placing and releasing

    mutating func place(_ items: [Placing], _ isAtomic: Bool) throws(StoreError) -> CellResult.Outcome {
        // hash order: looked up only
        let together = isAtomic ? Set(items.map(\.vm)) : []
        // Gangs of which all are in the command.
        // hash order: looked up only
        var whole: Set<UInt64> = []
        return try each(items, isAtomic: isAtomic) { step, item throws(StoreError) in
            try step.place(item, together, &whole)
        }
    }

    private mutating func place(
        // hash order: looked up only
        _ item: Placing, _ together: Set<VMID>, _ whole: inout Set<UInt64>
    ) throws(StoreError) -> Result<VMID, CellRefusal> {
        guard let old = try vm(item.vm) else { return .failure(.unknownVM(item.vm)) }
        if old.isDeleting { return .failure(.isDeleting(item.vm)) }
        if !old.isWaiting { return .failure(.notWaiting(item.vm)) }
        // What is left of a move may still be on a host.
        if old.migration != nil { return .failure(.migrationUnderWay(item.vm)) }
        if old.generation != item.generation { return .failure(.generationChanged(old.generation)) }
        if old.gang > 0 && !whole.contains(old.gang) && !mutated(.gangInParts) {
            let gang = try access.ids(CellKey.gangVMs(old.gang))
            if !gang.allSatisfy({ together.contains(VMID($0)) }) {
                return .failure(.gangIncomplete(item.vm))
            }
            whole.insert(old.gang)
        }
        if let refusal = try refusal(of: old, at: item.assignment) { return .failure(refusal) }
        if let refusal = try refusal(ofReserve: old) { return .failure(refusal) }
        var vm = old
        vm.place = VMPlace(item.assignment, epoch: 0)
        if vm.origin?.host == item.assignment.host { vm.origin = nil }
        vm.message = ""
        // Of one that is still another cell's only the room is kept.
        if let arrival = vm.arrival {
            if arrival.sender != nil {
                vm.epochHighest += 1
                vm.place?.epoch = vm.epochHighest
            }
            try put(vm, was: old)
            return .success(vm.id)
        }
        permit(&vm)
        if vm.spec.isBoundToHost { vm.boundTo = item.assignment.host }
        try note("vm.placed", &vm, host: item.assignment.host)
        try put(vm, was: old)
        return .success(vm.id)
    }

    mutating func explain(_ items: [WaitingReason]) throws(StoreError) -> CellResult.Outcome {
        try each(items, isAtomic: false) { step, item throws(StoreError) in
            guard let old = try step.vm(item.vm) else { return .failure(.unknownVM(item.vm)) }
            if !old.isWaiting { return .failure(.notWaiting(item.vm)) }
            if !CellCheck.isText(item.text, CellLimits.annotationBytesMax) {
                return .failure(.invalid(field: "text", "it has at most \(CellLimits.annotationBytesMax) bytes"))
            }
            if old.message == item.text { return .success(old.id) }
            var vm = old
            vm.message = item.text
            try step.put(vm, was: old)
            return .success(vm.id)
        }
    }

    mutating func release(_ items: [Release], _ cause: Migration.Cause) throws(StoreError) -> CellResult.Outcome {
        try each(items, isAtomic: false) { step, item throws(StoreError) in
            guard let old = try step.vm(item.vm) else { return .failure(.unknownVM(item.vm)) }
            guard let place = old.place, place.epoch == item.epoch else { return .failure(.epochOutdated(item.vm)) }
            if old.isDeleting { return .failure(.isDeleting(item.vm)) }
            if place.isReleasing { return .success(old.id) }
            if old.boundTo != nil { return .failure(.boundToHost(item.vm)) }
            if let leaving = try step.leavingHost(of: old) { return .failure(.hostLeaves(leaving)) }
            if old.arrival != nil {
                var vm = old
                step.leavePlace(&vm)
                try step.put(vm, was: old)
                return .success(vm.id)
            }
            if !CellCheck.isText(item.reason) {
                return .failure(
                    .invalid(field: "reason", "at most \(CellLimits.textBytesMax) bytes, no control characters"))
            }
            var vm = old
            if vm.migration?.phase == .copying { vm.migration?.phase = .undoing }
            vm.message = item.reason
            try step.follow(leaving: place.assignment.host, to: nil, cause, &vm)
            try step.note("vm.released", &vm, host: place.assignment.host, "\(cause): \(item.reason)")
            switch old.phase {
            // Nothing of it runs: it needs nobody's word.
            case .stopped, .crashed, .looping: step.leavePlace(&vm)
            case .unknown: vm.place?.isReleasing = true
            case .waiting, .starting, .running, .paused, .stopping:
                vm.place?.isReleasing = true
                step.enter(.stopping, &vm)
            }
            try step.put(vm, was: old)
            return .success(vm.id)
        }
    }

    // MARK: After crashes

    mutating func retry(_ id: VMID, _ epoch: UInt64) throws(StoreError) -> CellResult.Outcome {
        guard let old = try vm(id) else { return .refused(.unknownVM(id)) }
        if old.isDeleting { return .refused(.isDeleting(id)) }
        guard old.place?.epoch == epoch, old.phase == .crashed, old.power != .stopped, old.spec.restart != .never
        else { return .refused(.epochOutdated(id)) }
        var vm = old
        if time > vm.restartsSince.advanced(by: CellLimits.restartWindow) {
            vm.restarts = 0
            vm.restartsSince = time
        }
        vm.restarts += 1
        permit(&vm)
        try note("vm.restarted", &vm, host: vm.place?.assignment.host, "restart \(vm.restarts) after a crash")
        try put(vm, was: old)
        return .done
    }

    mutating func giveUp(_ id: VMID, _ epoch: UInt64) throws(StoreError) -> CellResult.Outcome {
        guard let old = try vm(id) else { return .refused(.unknownVM(id)) }
        if old.isDeleting { return .refused(.isDeleting(id)) }
        if old.phase == .looping { return .done }
        guard old.place?.epoch == epoch, old.phase == .crashed else { return .refused(.epochOutdated(id)) }
        var vm = old
        enter(.looping, &vm)
        try note("vm.looping", &vm, host: vm.place?.assignment.host, vm.message)
        try put(vm, was: old)
        return .done
    }

    // MARK: Moves

    mutating func beginMigration(
        _ id: VMID, _ from: UInt64, _ target: Assignment, _ cause: Migration.Cause, _ intent: MoveIntent
    ) throws(StoreError) -> CellResult.Outcome {
        guard let old = try vm(id) else { return .refused(.unknownVM(id)) }
        if old.isDeleting { return .refused(.isDeleting(id)) }
        if old.isBetweenCells { return .refused(.betweenCells(id)) }
        if old.migration != nil { return .refused(.migrationUnderWay(id)) }
        guard let place = old.place, place.epoch == from, !place.isReleasing else {
            return .refused(.epochOutdated(id))
        }
        if old.phase != .running && old.phase != .paused { return .refused(.notRunning(id)) }
        if old.spec.isBoundToHost && level < FeatureLevel.diskMoves { return .refused(.boundToHost(id)) }
        if place.assignment.host == target.host {
            return .refused(.doesNotFit(target.host, "the VM is there already"))
        }
        // Its disks come along.
        var vm = old
        vm.boundTo = nil
        if let refusal = try refusal(of: vm, at: target) { return .refused(refusal) }
        vm.boundTo = old.boundTo
        // A drain was judged when it began.
        if cause != .drain, let refusal = try refusal(ofReserveFor: old.moved(to: target), was: old) {
            return .refused(refusal)
        }
        vm.epochHighest += 1
        vm.migration = Migration(
            phase: .copying, cause: cause, intent: intent, target: VMPlace(target, epoch: vm.epochHighest),
            source: place, since: time)
        try note(
            "vm.migrating", &vm, host: target.host, intent == .balanced ? "\(cause)" : "\(cause), \(intent.word)")
        try put(vm, was: old)
        return .done
    }

    mutating func commitMigration(_ id: VMID, _ target: UInt64) throws(StoreError) -> CellResult.Outcome {
        guard let old = try vm(id) else { return .refused(.unknownVM(id)) }
        guard var migration = old.migration, migration.target.epoch == target, let place = old.place else {
            return .refused(.noMigration(id))
        }
        // A commit that was made already.
        if migration.phase == .leaving { return .done }
        guard migration.phase == .copying, migration.isCopied || mutated(.commitBeforeCopied) else {
            return .refused(.noMigration(id))
        }
        var vm = old
        migration.phase = .leaving
        migration.source = place
        vm.place = migration.target
        vm.migration = migration
        if vm.boundTo != nil { vm.boundTo = migration.target.assignment.host }
        try follow(
            leaving: place.assignment.host, to: migration.target.assignment.host, migration.cause, &vm)
        vm.message = ""
        try note("vm.migrated", &vm, host: migration.target.assignment.host)
        try put(vm, was: old)
        return .done
    }

    mutating func cancelMigration(_ id: VMID, _ target: UInt64) throws(StoreError) -> CellResult.Outcome {
        guard let old = try vm(id) else { return .refused(.unknownVM(id)) }
        guard let migration = old.migration, migration.target.epoch == target, migration.phase != .leaving else {
            return .refused(.noMigration(id))
        }
        if migration.phase == .undoing { return .done }
        var vm = old
        vm.migration?.phase = .undoing
        if mutated(.undoNotConfirmed) { vm.migration = nil }
        try note("vm.migration-cancelled", &vm, host: migration.target.assignment.host)
        try put(vm, was: old)
        return .done
    }
}

extension CellVM {
    /// As it is when a move there has ended.
    fileprivate func moved(to target: Assignment) -> CellVM {
        var vm = self
        vm.place = VMPlace(target, epoch: epochHighest + 1)
        if vm.boundTo != nil { vm.boundTo = target.host }
        return vm
    }
}
