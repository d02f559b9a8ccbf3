import ClusterBase

// A host goes to another cell of its region with the VMs on it, and none of them notices. The cell that it leaves keeps the
// record, and decides; the other one only waits for its word.
//
//     source: sendHost ─▶ preparing ─▶ (rows, in parts; again what changed) ─▶ destination: kept, with quotas and names
//                │            │ the destination has all rows as they are
//                │            ▼
//                │         committed: one entry; no lease is granted here from now on ─▶ (told) ─▶ destination: host and VMs are
//                ▼                                                                │                its own, as they were
//     aborting: it stays ─▶ (told) ─▶ destination: nothing is kept              │
//                └──────────────▶ the root is told where it is ◀───────────────┘ ─▶ settled: the record goes
//
// While it is preparing nobody changes the host and its VMs but the host itself. What it reports changes rows here, and the
// commit is refused until the destination has these, too.

extension CellStep {
    // MARK: In the cell that it leaves

    mutating func sendHost(
        _ id: HostID, to cell: UInt64, _ assignment: UInt64, keepsNames: Bool, _ company: HostCompany
    ) throws(StoreError) -> CellResult.Outcome {
        if cell == 0 { return .refused(.invalid(field: "cell", "name another cell")) }
        guard let known = try host(id) else { return .refused(.unknownHost(id)) }
        if known.health == .removed {
            if !known.isReleased { return .refused(.hostRemoved(id)) }
            return known.wentTo == cell && known.assignment == assignment ? .done : .refused(.hostReleased(id))
        }
        if assignment < known.assignment { return .refused(.assignmentOutdated(id)) }
        if cell == number { return try stay(known, assignment) }
        if assignment < known.staysBelow { return .refused(.assignmentOutdated(id)) }
        if let departure = known.departure { return departure.to == cell ? .done : .refused(.hostLeaves(id)) }
        if try setting(.movesHeldUntil) > time.rawValue { return .refused(.movesHeld) }
        if summary.hostMoves >= CellLimits.hostMovesMax { return .refused(.tooMany(.moves)) }
        if let reason = try reasonToStay(known, company) { return .refused(.hostStays(id, reason)) }
        var move = HostMove(number: revision.rawValue, host: id, to: cell, assignment: assignment, since: time)
        move.keepsNames = keepsNames
        move.vms = known.vmCount
        for vm in try vms(on: id) {
            guard let vm = try self.vm(vm), !move.bounds.contains(where: { $0.tenant == vm.tenant }) else { continue }
            let quota = try slice(vm.tenant).quota
            move.bounds.append(HostMove.Bounds(tenant: vm.tenant, share: quota.mask))
        }
        move.bounds.sort { $0.tenant < $1.tenant }
        access.put(CellTable.hostMoves.key(move.number), move.encoded())
        summary.hostMoves += 1
        try countTaking(known, -1)
        var host = known
        host.departure = CellHost.Departure(number: move.number, to: cell)
        put(host)
        try countTaking(host, 1)
        note("host.leaving", host, "to cell number \(cell) with \(known.vmCount) VMs")
        return .done
    }

    /// It stays, whatever is said later of this assignment.
    private mutating func stay(_ host: CellHost, _ assignment: UInt64) throws(StoreError) -> CellResult.Outcome {
        if let departure = host.departure,
            let move = try access.record(HostMove.self, CellTable.hostMoves.key(departure.number))
        {
            return try abort(move, "called off")
        }
        if assignment < host.staysBelow { return .done }
        var host = host
        host.staysBelow = assignment + 1
        put(host)
        return .done
    }

    /// What is under way on it that its cell has to bring to its end first.
    private mutating func reasonToStay(
        _ host: CellHost, _ company: HostCompany
    ) throws(StoreError) -> String? {
        if let reason = host.reasonToStay { return reason }
        var all: [CellVM] = []
        for id in try vms(on: host.id) {
            guard let vm = try vm(id) else { continue }
            if vm.isBetweenCells { return "VM \(vm.name) is on its way between cells" }
            if vm.migration != nil { return "VM \(vm.name) is being moved" }
            if vm.isDeleting { return "VM \(vm.name) is being deleted" }
            if vm.place?.isReleasing == true || vm.place?.assignment.host != host.id {
                return "VM \(vm.name) is about to leave it"
            }
            all.append(vm)
        }
        return try tornGroup(all, host.id, company)
    }

    mutating func advanceHost(_ number: UInt64, _ next: HostMove.Step) throws(StoreError) -> CellResult.Outcome {
        guard let move = try access.record(HostMove.self, CellTable.hostMoves.key(number)) else {
            return next == .settle ? .done : .refused(.moveIsOver)
        }
        switch next {
        case .commit(let through): return try commit(move, through)
        case .abort(let reason):
            if !CellCheck.isText(reason, CellLimits.annotationBytesMax) {
                return .refused(.invalid(field: "reason", "at most \(CellLimits.annotationBytesMax) bytes"))
            }
            return try abort(move, reason)
        case .settle:
            if try setting(.movesHeldUntil) > time.rawValue { return .refused(.movesHeld) }
            if move.phase == .preparing { return .refused(.hostLeaves(move.host)) }
            access.delete(CellTable.hostMoves.key(number))
            summary.hostMoves -= 1
            return .done
        }
    }

    /// From here on the host and its VMs are the other cell's, and so are the parts of quotas that these count for. Refused while
    /// anything of them is another than it was after `through`.
    private mutating func commit(_ move: HostMove, _ through: LogIndex) throws(StoreError) -> CellResult.Outcome {
        if move.phase == .committed { return .done }
        if try setting(.movesHeldUntil) > time.rawValue { return .refused(.movesHeld) }
        guard move.phase == .preparing, let before = try host(move.host), before.departure?.number == move.number else {
            return .refused(.moveIsOver)
        }
        var leaving: [CellVM] = []
        for id in try vms(on: move.host) {
            guard let vm = try vm(id) else { continue }
            if vm.revision.index > through { return .refused(.hostBehind(move.host)) }
            leaving.append(vm)
        }
        if before.workIndex > through { return .refused(.hostBehind(move.host)) }
        if before.assignment > move.assignment { return try abort(move, "it was assigned anew meanwhile") }
        if UInt64(leaving.count) != move.vms { return try abort(move, "a VM left it meanwhile") }
        for old in leaving {
            var vm = old
            try note("vm.moved", &vm, host: move.host, "to cell number \(move.to), with its host")
            if move.keepsNames { try keepName(of: old, to: move.to) }
            try forget(old)
            try keepStone(of: vm, movedTo: move.to)
            var slice = try slice(old.tenant)
            slice.net.vector &-= move.share(of: old).vector
            put(slice)
        }
        guard var host = try host(move.host) else { return .refused(.unknownHost(move.host)) }
        var next = move
        next.phase = .committed
        next.since = time
        next.leaseBase = host.leaseBase + index.rawValue
        next.lease = max(try setting(.leaseLength), try setting(.leaseBefore) & 0xFFFF_FFFF)
        access.put(CellTable.hostMoves.key(move.number), next.encoded())
        if mutated(.grantsAfterHandover) { return .done }
        try countTaking(host, -1)
        access.delete(CellKey.hostName(host.about.name))
        summary.hosts -= 1
        summary.hostsRemoved += 1
        host.health = .removed
        host.forgetAway()
        host.isEnforced = false
        host.isReleased = true
        host.departure = nil
        host.wentTo = move.to
        host.assignment = move.assignment
        host.since = time
        host.workIndex = index
        host.generation += 1
        put(host)
        note("host.released", host, "it went to cell number \(move.to) with \(leaving.count) VMs")
        return .done
    }

    private mutating func abort(_ move: HostMove, _ reason: String) throws(StoreError) -> CellResult.Outcome {
        switch move.phase {
        case .aborting: return .done
        case .committed: return .refused(.moveIsOver)
        case .preparing: break
        }
        var next = move
        next.phase = .aborting
        next.since = time
        next.reason = reason
        access.put(CellTable.hostMoves.key(move.number), next.encoded())
        guard let known = try host(move.host), known.departure?.number == move.number else { return .done }
        try countTaking(known, -1)
        var host = known
        host.departure = nil
        host.staysBelow = max(host.staysBelow, move.assignment + 1)
        put(host)
        try countTaking(host, 1)
        note("host.stays", host, reason)
        return .done
    }

    /// It is lost, or taken out: whoever is asked to keep its VMs hears that they stay.
    mutating func callOff(_ host: CellHost, _ reason: String) throws(StoreError) {
        guard let departure = host.departure,
            let move = try access.record(HostMove.self, CellTable.hostMoves.key(departure.number))
        else { return }
        _ = try abort(move, reason)
    }

    /// What nobody may change while its host goes to another cell.
    mutating func refusal(ofLeaving operation: CellCommand.Operation) throws(StoreError) -> CellRefusal? {
        if summary.hostMoves == 0 { return nil }
        switch operation {
        // What is said of one that is lost waits for nothing.
        case .careForHost(_, .declareDead): return nil
        case .setHostDuty(let id, _), .setHostPolicy(let id, _, _, _), .releaseHost(let id, _), .finishDrain(let id),
            .careForHost(let id, _):
            return try host(id)?.departure == nil ? nil : .hostLeaves(id)
        case .updateVM(let id, _, _), .setPower(let id, _, _), .restartVM(let id), .deleteVM(let id, _),
            .beginMigration(let id, _, _, _, _), .moveVM(let id, _, _, _, _, _, _):
            guard let vm = try vm(id), let leaving = try leavingHost(of: vm) else { return nil }
            return .hostLeaves(leaving)
        default: return nil
        }
    }

    mutating func leavingHost(of vm: CellVM) throws(StoreError) -> HostID? {
        if summary.hostMoves == 0 { return nil }
        for claim in vm.claims where try host(claim.host)?.departure != nil { return claim.host }
        return nil
    }

    // MARK: In the cell where it goes

    /// Keeps a part. Said again, or with rows that are older than those that are kept, it changes nothing.
    mutating func prepareHost(_ part: HostPreparation) throws(StoreError) -> CellResult.Outcome {
        if part.from == number || part.from == 0 { return .refused(.invalid(field: "from", "name another cell")) }
        if part.items.count > CellLimits.itemsMax { return .refused(.tooMany(.items)) }
        let id = part.host.id
        let peer = try access.record(CellPeer.self, CellKey.hostPeer(part.from)) ?? CellPeer()
        if peer.isOver(part.number) { return .refused(.moveIsOver) }
        if try setting(.movesHeldUntil) > time.rawValue { return .refused(.movesHeld) }
        let key = CellTable.hostArrivals.key(id.rawValue)
        let known = try access.record(HostArrival.self, key)
        // Of an older one is still to be heard that it is over.
        if let known, known.from != part.from || known.number != part.number { return .refused(.hostArrives(id)) }
        if known == nil, let refusal = try refusal(ofComing: part.host, peer) { return .refused(refusal) }
        if let refusal = try refusal(ofComing: part.groups) { return .refused(refusal) }
        var wanted = Wanted()
        for item in part.items {
            if let refusal = try refusal(of: item, part, &wanted) { return .refused(refusal) }
        }
        if known.map({ $0.host.workIndex <= part.host.workIndex }) ?? true {
            if let known, known.host.about.name != part.host.about.name {
                access.delete(CellKey.hostName(known.host.about.name))
            }
            if let known { try recount(known.host, as: part.host) }
            access.put(CellKey.hostName(part.host.about.name), id.rawValue.bigEndianBytes)
            access.put(key, HostArrival(host: part.host, from: part.from, number: part.number).encoded())
        }
        if known == nil { summary.hostArrivals += 1 }
        try makeMissing(part.groups)
        let place = try access.record(HostArrival.self, key)?.host ?? part.host
        for item in part.items { try keep(item, part, place) }
        return .done
    }

    private mutating func refusal(ofComing host: CellHost, _ peer: CellPeer) throws(StoreError) -> CellRefusal? {
        if summary.isClosed { return .cellClosed }
        if let refusal = CellCheck.refusal(of: host.about) { return refusal }
        if summary.hostArrivals >= CellLimits.hostMovesMax || peer.ended.count >= CellLimits.movesEndedMax {
            return .tooMany(.moves)
        }
        if let before = try self.host(host.id) {
            if before.health != .removed { return .hostIsUp(host.id) }
            if !before.isReleased { return .hostRemoved(host.id) }
            if host.assignment <= before.assignment { return .assignmentOutdated(host.id) }
        } else if summary.hosts + summary.hostsRemoved + summary.hostArrivals >= CellLimits.hostsMax {
            return .tooMany(.hosts)
        }
        if try access.value(for: CellKey.hostName(host.about.name)) != nil { return .hostNameTaken(host.about.name) }
        return nil
    }

    /// What the new VMs of a part take together.
    struct Wanted {
        var vms: UInt64 = 0
        /// Members of groups, by the key of the group's name.
        // hash order: looked up only
        var members: [[UInt8]: UInt64] = [:]
        // hash order: looked up only
        var ofTenants: [String: (rest: Resources, count: UInt64)] = [:]
    }

    private mutating func refusal(
        of item: HostPreparation.Item, _ part: HostPreparation, _ wanted: inout Wanted
    ) throws(StoreError) -> CellRefusal? {
        let vm = item.vm
        if let known = try self.vm(vm.id) {
            let isKept =
                known.arrival?.from == part.from && known.arrival?.number == part.number
                && known.arrival?.host == part.host.id
            return isKept ? nil : .notKeptYet(vm.id)
        }
        if vm.place?.assignment.host != part.host.id || vm.migration != nil || vm.isBetweenCells {
            return .invalid(field: "vm", "VM \(vm.id) is not on host \(part.host.id) alone")
        }
        if !Self.isShare(item.share) { return .invalid(field: "share", "amounts are not negative") }
        // An image of it goes, and its cell did not know that when it asked.
        if try refusal(ofImages: vm.spec.imageNames, vm.tenant) != nil { return .notKeptYet(vm.id) }
        if let other = try access.number(CellKey.vmName(vm.tenant, vm.name)),
            try access.value(for: CellTable.vms.key(other)) != nil
        {
            return .vmNameTaken(vm.name)
        }
        if let refusal = try refusal(ofGroupsOf: vm, part, &wanted) { return refusal }
        wanted.vms += 1
        if summary.vms + wanted.vms > CellLimits.vmsMax { return .tooMany(.vms) }
        let slice = try slice(vm.tenant)
        if slices[vm.tenant]?.record == nil && summary.tenants >= CellLimits.tenantsMax { return .tooMany(.tenants) }
        // What comes along is there; what does not is this cell's to give.
        let charge = vm.spec.charge
        let share = item.share.vector
        let rest = Resources(
            cpuMillis: max(0, charge.cpuMillis - share[1]), memoryMiB: max(0, charge.memoryMiB - share[2]),
            diskMiB: max(0, charge.diskMiB - share[3]))
        var sum = wanted.ofTenants[vm.tenant] ?? (.zero, 0)
        sum.rest += rest
        sum.count += share[0] > 0 ? 0 : 1
        wanted.ofTenants[vm.tenant] = sum
        return slice.refusal(of: sum.rest, count: sum.count)
    }

    /// A row that is not this cell's own yet: as one that is stopped it wants no place, and what it is comes with its host.
    private mutating func keep(
        _ item: HostPreparation.Item, _ part: HostPreparation, _ place: CellHost
    ) throws(StoreError) {
        let known = try vm(item.vm.id)
        if let row = known?.arrival?.row, let kept = CellVM.decode(row), kept.revision >= item.vm.revision { return }
        var vm =
            known
            ?? CellVM(
                id: item.vm.id, name: item.vm.name, tenant: item.vm.tenant, spec: item.vm.spec, at: item.vm.createdAt,
                by: item.vm.createdBy)
        vm.generation = item.vm.generation
        vm.power = .stopped
        vm.phase = .stopped
        vm.since = time
        vm.message = "it is to come from cell number \(part.from) with its host"
        vm.arrival = CellVM.Arrival(from: part.from, number: part.number, share: item.share)
        vm.arrival?.host = part.host.id
        vm.arrival?.row = item.vm.encoded()
        if known == nil {
            var slice = try slice(vm.tenant)
            slice.net.vector &+= item.share.vector
            put(slice)
            // It was here before.
            if let stone = try dropStone(of: vm.id) { vm.events = stone.events }
            access.put(CellKey.vmName(vm.tenant, vm.name), vm.id.rawValue.bigEndianBytes)
            access.put(CellKey.arriving(part.host.id, vm.id), [])
        }
        try put(vm, was: known)
        if known == nil { try countComing(vm, place, 1) }
    }

    mutating func endHost(_ ending: HostEnding) throws(StoreError) -> CellResult.Outcome {
        if ending.from == number || ending.from == 0 || ending.floor > ending.number {
            return .refused(.invalid(field: "from", "name another cell, and no move that is over"))
        }
        var peer = try access.record(CellPeer.self, CellKey.hostPeer(ending.from)) ?? CellPeer()
        let isOver = peer.isOver(ending.number)
        let key = CellTable.hostArrivals.key(ending.host.rawValue)
        let known = try access.record(HostArrival.self, key)
        peer.end(ending.number, floor: ending.floor)
        guard let known, known.from == ending.from, known.number == ending.number else {
            // It was told before; or it is called off before it could be kept, and is not kept any more.
            if ending.isCommitted && !isOver { return .refused(.unknownHost(ending.host)) }
            access.put(CellKey.hostPeer(ending.from), peer.encoded())
            return .done
        }
        let ids = try access.ids(CellKey.arriving(ending.host)).map { VMID($0) }
        if ending.isCommitted && UInt64(ids.count) != ending.vms && !mutated(.actsBeforeCommit) {
            return .refused(.hostArrives(ending.host))
        }
        access.put(CellKey.hostPeer(ending.from), peer.encoded())
        access.delete(key)
        summary.hostArrivals -= 1
        for id in ids { access.delete(CellKey.arriving(ending.host, id)) }
        if ending.isCommitted { try takeIn(known, ids, ending) } else { try giveUp(known, ids) }
        return .done
    }

    private mutating func giveUp(_ arrival: HostArrival, _ ids: [VMID]) throws(StoreError) {
        access.delete(CellKey.hostName(arrival.host.about.name))
        for id in ids {
            guard let old = try vm(id), let kept = old.arrival else { continue }
            try countComing(old, arrival.host, -1)
            try forget(old)
            let name = CellKey.vmName(old.tenant, old.name)
            if try access.number(name) == id.rawValue { access.delete(name) }
            var slice = try slice(old.tenant)
            slice.net.vector &-= kept.share.vector
            put(slice)
        }
    }

    /// The host and its VMs are this cell's, as they were in the other one. Leases that it granted may go on for a while.
    private mutating func takeIn(_ arrival: HostArrival, _ ids: [VMID], _ ending: HostEnding) throws(StoreError) {
        let before = try host(ending.host)
        var host = arrival.host
        host.used = .zero
        host.vmCount = 0
        host.numaUsed = []
        host.devicesUsed = []
        host.departure = nil
        host.forgetAway()
        host.isEnforced = false
        host.staysBelow = 0
        host.isReleased = false
        host.wentTo = 0
        host.leaseBase = max(ending.leaseBase, before?.leaseBase ?? 0)
        host.generation = max(host.generation, before?.generation ?? 0) + 1
        host.health = .up
        host.since = time
        host.workIndex = index
        if before != nil { summary.hostsRemoved -= 1 }
        summary.hosts += 1
        put(host)
        try countTaking(host, 1)
        note("host.arrived", host, "from cell number \(ending.from) with \(ids.count) VMs")
        if ending.lease > (try setting(.leaseLength)) { try remember(lease: ending.lease) }
        for id in ids {
            guard let old = try vm(id), let row = old.arrival?.row, var vm = CellVM.decode(row) else {
                throw CellKey.corrupt(CellTable.vms.key(id.rawValue))
            }
            try countComing(old, arrival.host, -1)
            vm.events = old.events
            vm.gang = 0
            vm.origin = nil
            if vm.home?.cell == number { vm.home = nil }
            try note("vm.arrived", &vm, host: ending.host, "from cell number \(ending.from), with its host")
            try put(vm, was: old)
        }
    }

    /// What another cell keeps for a host of this one is for nothing if this one knows of no such move, and never will.
    mutating func confirmHost(
        _ id: HostID, from cell: UInt64, _ number: UInt64
    ) throws(StoreError) -> CellResult.Outcome {
        if cell != self.number { return .refused(.invalid(field: "from", "ask the cell that the host leaves")) }
        if let known = try access.record(HostMove.self, CellTable.hostMoves.key(number)), known.host == id {
            return .done
        }
        // Where it is not, it may have gone for good by that very move.
        guard let host = try host(id), host.health != .removed, host.departure?.number != number else {
            return .refused(.unknownHost(id))
        }
        return .refused(.moveIsOver)
    }
}

extension Quota {
    /// 1 for each amount that has a bound.
    fileprivate var mask: QuotaShare {
        QuotaShare(
            vms: vmCount == nil ? 0 : 1, cpuMillis: cpuMillis == nil ? 0 : 1, memoryMiB: memoryMiB == nil ? 0 : 1,
            diskMiB: diskMiB == nil ? 0 : 1)
    }
}
