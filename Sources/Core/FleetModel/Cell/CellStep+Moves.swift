import ClusterBase

// A VM goes to another cell. The cell that it leaves keeps the record, and decides; the other one only waits for its word.
//
//     source: moveVM ─▶ preparing ─▶ (asked to keep) ─▶ destination: a row that is not its own yet, with quota, name, groups
//                │                                                    and then a place, judged like any other
//                │ kept ─▶ leaving: the VM stops and leaves its place
//                │            │ nothing of it is left on a host
//                │            ▼
//                │         committed: the row is the destination's ─▶ (told) ─▶ destination: it may start, one epoch higher
//                ▼                                                                              │
//     aborting: it stays ─▶ (told) ─▶ destination: nothing is kept ─▶ settled ◀───────────────┘
//
// One that runs is sent live: the destination says at which host it has kept the place, and under which epoch. Its memory goes there
// while it runs (sending, in place of leaving); when all is copied and it is paused the commit makes it the destination's, whose
// host has it go on under that epoch as soon as it hears so. Where that comes to nothing it goes cold, or stays.
//
// Until the commit the VM is the source's, from then on the destination's. The destination remembers which moves are over,
// so that what is said again, or late, of one of them means nothing.

extension CellStep {
    // MARK: In the cell that it leaves

    /// A backup is being made: what one cell has copied of a VM on its way fits to what another one will.
    private func areMovesHeld() throws(StoreError) -> Bool { try setting(.movesHeldUntil) > time.rawValue }

    mutating func moveVM(
        _ id: VMID, to cell: UInt64, _ request: [UInt8], keepsName: Bool, _ home: CellVM.Home?, _ cause: CellMove.Cause,
        isCold: Bool
    ) throws(StoreError) -> CellResult.Outcome {
        if cell == number || cell == 0 { return .refused(.invalid(field: "cell", "name another cell")) }
        if !request.isEmpty && request.count != CellLimits.requestBytes {
            return .refused(.invalid(field: "request", "a request id has \(CellLimits.requestBytes) bytes"))
        }
        guard let old = try vm(id) else { return .refused(.unknownVM(id)) }
        if old.isDeleting { return .refused(.isDeleting(id)) }
        if old.isBetweenCells { return .refused(.betweenCells(id)) }
        if old.migration != nil { return .refused(.migrationUnderWay(id)) }
        if old.boundTo != nil || old.spec.isBoundToHost { return .refused(.boundToHost(id)) }
        if cause == .regionLost && !old.isWaiting { return .refused(.notWaiting(id)) }
        if let home, !CellCheck.isText(home.region) || home.cell == 0 {
            return .refused(.invalid(field: "home", "name a cell and its region"))
        }
        if summary.moves >= CellLimits.movesMax { return .refused(.tooMany(.moves)) }
        if try areMovesHeld() { return .refused(.movesHeld) }
        if keepsName { try keepName(of: old, to: cell) }
        var move = CellMove(
            number: revision.rawValue, vm: id, tenant: old.tenant, to: cell,
            share: try slice(old.tenant).bounded(old.spec.charge), request: request, since: time)
        move.home = home
        move.cause = cause
        move.isCold = isCold
        access.put(CellTable.moves.key(move.number), move.encoded())
        summary.moves += 1
        var vm = old
        vm.departure = CellVM.Departure(number: move.number, to: cell)
        vm.message = "it goes to cell number \(cell) as soon as that has room for it"
        try note(
            "vm.moving", &vm, host: vm.place?.assignment.host, "to cell number \(cell)\(cause.text(old.home ?? home))")
        try put(vm, was: old)
        return .done
    }

    /// A name from before the region had several cells was never held, since its VM was here. It is from now on: for a
    /// creation that nobody makes any more.
    mutating func keepName(of vm: CellVM, to cell: UInt64) throws(StoreError) {
        let key = CellKey.nameHold(vm.tenant, vm.name)
        if try access.value(for: key) != nil || summary.names >= CellLimits.namesMax { return }
        let hold = NameHold(
            cell: cell, request: revision.rawValue.bigEndianBytes + vm.id.rawValue.bigEndianBytes, at: time)
        access.put(key, hold.encoded())
        summary.names += 1
    }

    /// What another cell keeps for a VM of this one is for nothing if this one knows of no such move, and never will: its
    /// history may have lost it.
    mutating func confirmMove(
        _ id: VMID, from cell: UInt64, _ move: UInt64
    ) throws(StoreError) -> CellResult.Outcome {
        if cell != number { return .refused(.invalid(field: "from", "ask the cell that the VM leaves")) }
        if let known = try access.record(CellMove.self, CellTable.moves.key(move)), known.vm == id { return .done }
        // Where it is not, it may have gone for good by that very move.
        guard let vm = try vm(id) else { return .refused(.unknownVM(id)) }
        return .refused(vm.arrival == nil && vm.departure?.number != move ? .moveIsOver : .betweenCells(id))
    }

    mutating func advanceMove(
        _ number: UInt64, _ next: CellMove.Step, _ reason: String, _ far: CellMove.FarEnd?
    ) throws(StoreError) -> CellResult.Outcome {
        if !CellCheck.isText(reason, CellLimits.annotationBytesMax) {
            return .refused(.invalid(field: "reason", "at most \(CellLimits.annotationBytesMax) bytes"))
        }
        guard let move = try access.record(CellMove.self, CellTable.moves.key(number)) else {
            return next == .settle ? .done : .refused(.moveIsOver)
        }
        switch next {
        case .send: return try send(move, to: far)
        case .leave: return try leave(move)
        case .commit: return try commit(move)
        case .abort: return try abort(move, reason)
        case .settle:
            if try areMovesHeld() { return .refused(.movesHeld) }
            guard move.phase == .committed || move.phase == .aborting else { return .refused(.betweenCells(move.vm)) }
            access.delete(CellTable.moves.key(number))
            summary.moves -= 1
            return .done
        }
    }

    private mutating func enter(_ phase: CellMove.Phase, _ move: CellMove) {
        var move = move
        move.phase = phase
        move.since = time
        access.put(CellTable.moves.key(move.number), move.encoded())
    }

    /// The other cell has kept a place: its memory goes there while it runs on.
    private mutating func send(
        _ move: CellMove, to far: CellMove.FarEnd?
    ) throws(StoreError) -> CellResult.Outcome {
        guard let far, far.epoch > 0 else { return .refused(.invalid(field: "epoch", "name a host and an epoch")) }
        guard let old = try vm(move.vm), old.departure?.number == move.number else { return .refused(.moveIsOver) }
        if move.phase == .sending {
            return old.departure?.far?.end == far ? .done : .refused(.migrationUnderWay(old.id))
        }
        guard move.phase == .preparing else { return .refused(.moveIsOver) }
        if try areMovesHeld() { return .refused(.movesHeld) }
        guard !move.isCold, old.sender != nil, let place = old.place else { return .refused(.notRunning(old.id)) }
        if far.epoch <= old.epochHighest { return .refused(.epochOutdated(old.id)) }
        enter(.sending, move)
        var vm = old
        // What starts here after it came to nothing is no copy of this epoch.
        vm.epochHighest = far.epoch
        let usual = try setting(.moveIntent)
        let intent = old.spec.moveIntent ?? MoveIntent(rawValue: Int32(clamping: usual)) ?? .balanced
        vm.departure?.far = CellVM.Far(far, source: place.epoch, intent)
        vm.message = "its memory goes to host \(far.host) of cell number \(move.to)"
        try note("vm.migrating", &vm, host: far.host, "live, to cell number \(move.to)")
        try put(vm, was: old)
        return .done
    }

    /// The other cell has what the VM needs: it stops here.
    private mutating func leave(_ move: CellMove) throws(StoreError) -> CellResult.Outcome {
        if move.phase == .leaving { return .done }
        guard move.phase == .preparing || move.phase == .sending, let old = try vm(move.vm),
            old.departure?.number == move.number
        else {
            return .refused(.moveIsOver)
        }
        if move.cause == .regionLost && old.place != nil { return try abort(move, "it found a place first") }
        var move = move
        let ran = old.phase == .running || old.phase == .paused
        // It counts as lost until it runs again, wherever that is.
        if move.cause == .evacuation && ran && old.power != .stopped { move.downSince = time }
        enter(.leaving, move)
        var vm = old
        vm.departure?.isLeaving = true
        vm.departure?.far = nil
        vm.message = "it stops, and goes to cell number \(move.to)"
        if vm.migration?.phase == .copying { vm.migration?.phase = .undoing }
        if let place = vm.place {
            try note("vm.released", &vm, host: place.assignment.host, "it goes to another cell")
            switch old.phase {
            // Nothing of it runs: it needs nobody's word.
            case .stopped, .crashed, .looping: leavePlace(&vm)
            case .unknown: vm.place?.isReleasing = true
            case .waiting, .starting, .running, .paused, .stopping:
                vm.place?.isReleasing = true
                enter(.stopping, &vm)
            }
        }
        try put(vm, was: old)
        return .done
    }

    /// From here on it is the other cell's, and so is the part of the quota that it counts for.
    private mutating func commit(_ move: CellMove) throws(StoreError) -> CellResult.Outcome {
        if move.phase == .committed { return .done }
        if try areMovesHeld() { return .refused(.movesHeld) }
        guard let old = try vm(move.vm), old.departure?.number == move.number else { return .refused(.moveIsOver) }
        if move.phase == .sending { return try commitSent(move, old) }
        guard move.phase == .leaving else { return .refused(.moveIsOver) }
        if (old.place != nil || old.migration != nil) && !mutated(.cellLeftTooEarly) {
            return .refused(.betweenCells(move.vm))
        }
        return try handOver(move, old)
    }

    /// All of its memory is there, and it is paused here: it goes on there.
    private mutating func commitSent(_ move: CellMove, _ old: CellVM) throws(StoreError) -> CellResult.Outcome {
        guard let far = old.departure?.far, let sending = old.sending else { return .refused(.notRunning(old.id)) }
        if !sending.isCopied && !mutated(.commitBeforeCopied) { return .refused(.noMigration(old.id)) }
        var move = move
        move.sent = far.end.epoch
        return try handOver(move, old)
    }

    private mutating func handOver(_ move: CellMove, _ old: CellVM) throws(StoreError) -> CellResult.Outcome {
        var move = move
        move.epoch = old.epochHighest
        enter(.committed, move)
        var vm = old
        try note("vm.moved", &vm, "to cell number \(move.to)\(move.sent > 0 ? ", live" : "")")
        try forget(old)
        try keepStone(of: vm, movedTo: move.to)
        var slice = try slice(old.tenant)
        slice.net.vector &-= move.share.vector
        put(slice)
        return .done
    }

    private mutating func abort(_ move: CellMove, _ reason: String) throws(StoreError) -> CellResult.Outcome {
        switch move.phase {
        case .aborting: return .done
        case .committed: if !mutated(.calledOffAfterCommit) { return .refused(.moveIsOver) }
        case .preparing, .sending, .leaving: break
        }
        enter(.aborting, move)
        guard let old = try vm(move.vm), old.departure?.number == move.number else { return .done }
        var vm = old
        vm.departure = nil
        vm.message = reason.isEmpty ? "" : "it stays in this cell: \(reason)"
        let runs = vm.phase == .running || vm.phase == .paused
        if move.downSince > .zero && vm.lostAt == .zero && !runs { vm.lostAt = move.downSince }
        if vm.isWaiting && !old.isWaiting { vm.queuedAt = time }
        try note("vm.move-failed", &vm, host: vm.place?.assignment.host, reason)
        try put(vm, was: old)
        return .done
    }

    // MARK: In the cell where it goes

    /// Done when all that the VM needs is kept. Until it has a place it is refused as one that waits, and asked again.
    mutating func prepareArrival(_ arrival: CellArrival) throws(StoreError) -> CellResult.Outcome {
        if arrival.from == number || arrival.from == 0 { return .refused(.invalid(field: "from", "name another cell")) }
        let peer = try access.record(CellPeer.self, CellKey.peer(arrival.from)) ?? CellPeer()
        if peer.isOver(arrival.number) { return .refused(.moveIsOver) }
        if peer.ended.count >= CellLimits.movesEndedMax { return .refused(.tooMany(.moves)) }
        if let known = try vm(arrival.vm) {
            if mutated(.keptTwice), known.arrival?.number == arrival.number {
                var slice = try slice(arrival.tenant)
                slice.net.vector &+= arrival.share.vector
                put(slice)
            }
            let isKept = known.arrival?.from == arrival.from && known.arrival?.number == arrival.number
            if isKept, let sender = known.arrival?.sender, known.arrival?.host == nil {
                if sender == arrival.sender, let place = known.place, place.epoch > arrival.epoch {
                    return .kept(CellMove.FarEnd(place.assignment.host, epoch: place.epoch))
                }
                // It runs where it ran no more, began anew there, or is not to come live: it comes cold.
                if sender != arrival.sender || known.place != nil {
                    var vm = known
                    vm.arrival?.sender = nil
                    try put(vm, was: known)
                }
            }
            if isKept && (known.place != nil || known.power == .stopped) { return .done }
            return .refused(.notKeptYet(arrival.vm, why: isKept ? known.whyNotKept : ""))
        }
        // An image of it goes, and its cell did not know that when it asked.
        let isReleased = try refusal(ofImages: arrival.spec.imageNames, arrival.tenant) != nil
        let isHeld = try areMovesHeld()
        if isHeld || isReleased { return .refused(.notKeptYet(arrival.vm)) }
        if let refusal = try refusal(of: arrival) { return .refused(refusal) }
        if let refusal = try refusal(ofComing: arrival.groups) { return .refused(refusal) }
        try makeMissing(arrival.groups)
        var slice = try slice(arrival.tenant)
        slice.net.vector &+= arrival.share.vector
        put(slice)
        var vm = CellVM(
            id: arrival.vm, name: arrival.name, tenant: arrival.tenant, spec: arrival.spec, at: arrival.createdAt,
            by: arrival.createdBy)
        vm.generation = arrival.generation
        vm.droppedDisks = arrival.droppedDisks
        vm.home = arrival.home?.cell == number ? nil : arrival.home
        vm.power = arrival.power
        vm.lostAt = arrival.lostAt
        vm.since = time
        vm.queuedAt = time
        if vm.power == .stopped { vm.phase = .stopped }
        vm.message = CellVM.toCome(from: arrival.from)
        vm.arrival = CellVM.Arrival(from: arrival.from, number: arrival.number, share: arrival.share)
        if arrival.sender != nil {
            vm.arrival?.sender = arrival.sender
            vm.epochHighest = arrival.epoch
        }
        // It was here before.
        if let stone = try dropStone(of: vm.id) { vm.events = stone.events }
        access.put(CellKey.vmName(vm.tenant, vm.name), vm.id.rawValue.bigEndianBytes)
        if let arrival = vm.arrival { access.put(CellTable.arrivals.key(vm.id.rawValue), arrival.encoded()) }
        try put(vm, was: nil)
        return vm.power == .stopped ? .done : .refused(.notKeptYet(vm.id))
    }

    private mutating func refusal(of arrival: CellArrival) throws(StoreError) -> CellRefusal? {
        let creation = VMCreation(name: arrival.name, tenant: arrival.tenant, spec: arrival.spec)
        if let refusal = CellCheck.refusal(of: creation) { return refusal }
        if !Self.isShare(arrival.share) { return .invalid(field: "share", "amounts are not negative") }
        if arrival.spec.isBoundToHost { return .boundToHost(arrival.vm) }
        if summary.isClosed { return .cellClosed }
        // Its name was taken over by somebody else before it came.
        if !arrival.request.isEmpty, try access.value(for: CellKey.request(arrival.request)) != nil {
            return .vmNameTaken(arrival.name)
        }
        if let known = try access.number(CellKey.vmName(arrival.tenant, arrival.name)),
            try access.value(for: CellTable.vms.key(known)) != nil
        {
            return .vmNameTaken(arrival.name)
        }
        for name in arrival.spec.groups where try group(arrival.tenant, name) == nil {
            if !arrival.groups.contains(where: { $0.name == name }) { return .unknownGroup(name) }
        }
        let known = arrival.spec.groups.filter { name in arrival.groups.contains { $0.name == name } }
        if let refusal = try refusal(ofGroups: arrival.spec.groups, besides: known, arrival.tenant) { return refusal }
        if summary.vms >= CellLimits.vmsMax { return .tooMany(.vms) }
        let slice = try slice(arrival.tenant)
        if slices[arrival.tenant]?.record == nil && summary.tenants >= CellLimits.tenantsMax {
            return .tooMany(.tenants)
        }
        // What came along is there; what did not is this cell's to give.
        let charge = arrival.spec.charge
        let share = arrival.share.vector
        let rest = Resources(
            cpuMillis: max(0, charge.cpuMillis - share[1]), memoryMiB: max(0, charge.memoryMiB - share[2]),
            diskMiB: max(0, charge.diskMiB - share[3]))
        return slice.refusal(of: rest, count: share[0] > 0 ? 0 : 1)
    }

    mutating func endArrival(
        _ id: VMID, from cell: UInt64, _ move: UInt64, isCommitted: Bool, _ epoch: UInt64, floor: UInt64,
        _ downSince: LogTime, sent: UInt64
    ) throws(StoreError) -> CellResult.Outcome {
        if cell == number || cell == 0 || floor > move {
            return .refused(.invalid(field: "from", "name another cell, and no move that is over"))
        }
        var peer = try access.record(CellPeer.self, CellKey.peer(cell)) ?? CellPeer()
        let isOver = peer.isOver(move)
        peer.end(move, floor: floor)
        let old = try vm(id)
        guard let old, let arrival = old.arrival, arrival.from == cell, arrival.number == move else {
            // It was told before; or it is called off before it could be kept, and is not kept any more.
            if isCommitted && !isOver { return .refused(.unknownVM(id)) }
            access.put(CellKey.peer(cell), peer.encoded())
            return .done
        }
        access.put(CellKey.peer(cell), peer.encoded())
        access.delete(CellTable.arrivals.key(id.rawValue))
        guard isCommitted else {
            try forget(old)
            let name = CellKey.vmName(old.tenant, old.name)
            if try access.number(name) == id.rawValue { access.delete(name) }
            var slice = try slice(old.tenant)
            slice.net.vector &-= arrival.share.vector
            put(slice)
            return .done
        }
        var vm = old
        vm.arrival = nil
        if !mutated(.epochsBeginAnew) { vm.epochHighest = max(vm.epochHighest, epoch) }
        vm.message = ""
        if downSince > .zero && vm.lostAt == .zero { vm.lostAt = min(downSince, time) }
        // Another place than the one that it was sent to has nothing of it.
        if sent > 0, arrival.sender != nil, vm.place?.epoch == sent {
            // Where its copy is gone, its host says so: under this epoch nothing starts anew.
            enter(vm.power == .paused ? .paused : .running, &vm)
        } else {
            permit(&vm)
        }
        try note("vm.arrived", &vm, host: vm.place?.assignment.host, "from cell number \(cell)")
        try put(vm, was: old)
        return .done
    }
}

extension TenantSlice {
    /// Of what a VM counts for, that which has a bound: it goes along with the VM.
    fileprivate func bounded(_ charge: Resources) -> QuotaShare {
        QuotaShare(
            vms: quota.vmCount == nil ? 0 : 1, cpuMillis: quota.cpuMillis == nil ? 0 : charge.cpuMillis,
            memoryMiB: quota.memoryMiB == nil ? 0 : charge.memoryMiB,
            diskMiB: quota.diskMiB == nil ? 0 : charge.diskMiB)
    }
}
