import ClusterBase

// Hosts that come, change, are lost and leave, and what becomes of the VMs there.

extension CellStep {
    // MARK: Coming

    mutating func register(
        _ id: HostID, _ incarnation: Incarnation, _ about: HostDescription, _ running: [RunningVM],
        _ assignment: UInt64
    ) throws(StoreError) -> CellResult.Outcome {
        if id.rawValue == 0 { return .refused(.unknownHost(id)) }
        if let refusal = CellCheck.refusal(of: about) { return .refused(refusal) }
        if running.count > CellLimits.vmsPerHostMax { return .refused(.tooMany(.vmsOnHost)) }
        if summary.isClosed { return .refused(.cellClosed) }
        let known = try host(id)
        // Whatever it has heard of its assignment: there it hears more.
        if let known, known.health == .removed, known.wentTo > 0, assignment <= known.assignment {
            return .refused(.hostWentTo(id, cell: known.wentTo))
        }
        if let known, assignment < known.assignment { return .refused(.assignmentOutdated(id)) }
        if summary.hostArrivals > 0, try access.value(for: CellTable.hostArrivals.key(id.rawValue)) != nil {
            return .refused(.hostArrives(id))
        }
        if let known, known.health == .removed {
            if !known.isReleased { return .refused(.hostRemoved(id)) }
            if assignment == known.assignment { return .refused(.hostReleased(id)) }
        }
        if let known, incarnation < known.incarnation { return .refused(.incarnationOutdated(id)) }
        let isNew = known == nil || known?.health == .removed
        if isNew || known?.about.name != about.name {
            if try access.value(for: CellKey.hostName(about.name)) != nil {
                return .refused(.hostNameTaken(about.name))
            }
            if let known, !isNew { access.delete(CellKey.hostName(known.about.name)) }
            access.put(CellKey.hostName(about.name), id.rawValue.bigEndianBytes)
        }
        guard let known, !isNew else {
            if known != nil {
                summary.hostsRemoved -= 1
            } else if summary.hosts + summary.hostsRemoved >= CellLimits.hostsMax {
                return .refused(.tooMany(.hosts))
            }
            var host = CellHost(id: id, about: about, incarnation: incarnation, since: time)
            host.generation = (known?.generation ?? 0) + 1
            host.assignment = assignment
            host.leaseBase = known?.leaseBase ?? 0
            host.workIndex = index
            summary.hosts += 1
            put(host)
            try countTaking(host, 1)
            note("host.registered", host)
            return .done
        }
        try countTaking(known, -1)
        let members = known.about.locality == about.locality ? [] : try takeOutOfDomains(id)
        var host = known
        host.about = about
        host.incarnation = incarnation
        host.assignment = assignment
        host.workIndex = index
        if known.health != .up || incarnation != known.incarnation {
            host.awayUntil = .zero
            host.declaredDeadAt = .zero
        }
        if known.health != .up {
            access.delete(CellKey.down(known.since, id))
            host.health = .up
            host.since = time
        }
        domains.removeAll()
        put(host)
        try countTaking(host, 1)
        try putIntoDomains(members)
        if incarnation != known.incarnation {
            note("host.registered", host, known.health == .up ? "its agent began anew" : "it is back")
        }
        for vm in try vms(on: id) { try recover(vm, host, running, sameProcess: incarnation == known.incarnation) }
        if known.about != about { try noteExcess(id) }
        return .done
    }

    /// What the host's new process says of a VM that counts there: what it does not name has ended with the process before.
    private mutating func recover(
        _ id: VMID, _ host: CellHost, _ running: [RunningVM], sameProcess: Bool
    ) throws(StoreError) {
        guard let old = try vm(id), old.arrival == nil else { return }
        var vm = old
        let named = running.filter { $0.vm == id }
        if let migration = old.migration {
            let end = migration.phase == .leaving ? migration.source : migration.target
            if end.assignment.host == host.id, !named.contains(where: { $0.epoch == end.epoch }), !sameProcess,
                !old.awaitsArrival
            {
                vm.migration = nil
                vm.message = migration.phase == .copying ? "its move failed: the destination's agent began anew" : ""
            }
        }
        if let place = old.place, place.assignment.host == host.id {
            if named.contains(where: { $0.epoch == place.epoch }) {
                if old.phase == .unknown { enter(old.power == .stopped ? .stopping : .running, &vm) }
            } else if named.isEmpty && (!sameProcess || old.phase == .unknown) {
                try end(&vm, "its host's agent began anew and did not find it")
            } else if old.phase == .unknown {
                enter(.starting, &vm)
            }
        }
        if vm != old { try put(vm, was: old) }
    }

    /// The copy of a VM at its place is gone, other than by being told to stop. What comes next follows from what is wanted.
    mutating func end(_ vm: inout CellVM, _ message: String) throws(StoreError) {
        let host = vm.place?.assignment.host
        if vm.migration?.phase == .copying { vm.migration?.phase = .undoing }
        vm.held = nil
        vm.runningGeneration = 0
        if vm.isDeleting || vm.place?.isReleasing == true { return leavePlace(&vm) }
        switch vm.phase {
        case .stopped, .crashed, .looping: return
        case .waiting, .starting, .running, .paused, .stopping, .unknown: break
        }
        if vm.power == .stopped { return enter(.stopped, &vm) }
        vm.message = message
        if vm.spec.restart == .never {
            enter(.crashed, &vm)
            try note("vm.crashed", &vm, host: host, message)
        } else {
            permit(&vm)
            try note("vm.restarted", &vm, host: host, message)
        }
    }

    // MARK: Domains of a host that moves to another rack or zone

    private mutating func takeOutOfDomains(_ id: HostID) throws(StoreError) -> [CellVM] {
        var members: [CellVM] = []
        for vm in try vms(on: id) {
            guard let vm = try self.vm(vm), !vm.spec.groups.isEmpty else { continue }
            try countDomains(of: vm, -1)
            members.append(vm)
        }
        return members
    }

    private mutating func putIntoDomains(_ members: [CellVM]) throws(StoreError) {
        for vm in members { try countDomains(of: vm, 1) }
    }

    // MARK: What operators set

    mutating func setDuty(_ id: HostID, _ duty: CellHost.Duty) throws(StoreError) -> CellResult.Outcome {
        guard var host = try host(id) else { return .refused(.unknownHost(id)) }
        if host.health == .removed { return .refused(.hostRemoved(id)) }
        if host.duty == .draining && duty == .draining && host.isDrainPaused {
            return .refused(
                .hostIsOtherwise(id, "is drained, and that is paused; `muster host drain --resume` lets it go on"))
        }
        let isBack = duty == .inService && host.awayUntil > .zero && host.health == .up
        if host.duty == duty && !isBack { return .done }
        if duty == .maintenance && host.vmCount > 0 { return .refused(.hostInUse(id)) }
        try countTaking(host, -1)
        let before = host.duty
        host.duty = duty
        host.isDrainPaused = false
        // All leaves it, or has left.
        if duty == .draining || duty == .maintenance { host.isEnforced = false }
        if isBack { host.awayUntil = .zero }
        let text = duty == .inService && before != .inService ? host.returnText : ""
        beginDuty(&host, was: before)
        host.generation += 1
        put(host)
        try countTaking(host, 1)
        let kind =
            switch duty {
            case .inService: "host.resumed"
            case .cordoned: "host.cordoned"
            case .draining: "host.draining"
            case .maintenance: "host.maintenance"
            }
        note(kind, host, text)
        return .done
    }

    mutating func finishDrain(_ id: HostID) throws(StoreError) -> CellResult.Outcome {
        guard var host = try host(id) else { return .refused(.unknownHost(id)) }
        if host.duty != .draining { return .done }
        if host.isDrainPaused { return .refused(.hostIsOtherwise(id, "is drained, and that is paused")) }
        if host.vmCount > 0 { return .refused(.hostInUse(id)) }
        host.duty = .maintenance
        host.generation += 1
        put(host)
        note("host.drained", host)
        return .done
    }

    mutating func setPolicy(
        _ id: HostID, _ policy: HostPolicy, _ generation: UInt64?, isEnforced: Bool
    ) throws(StoreError) -> CellResult.Outcome {
        if let refusal = CellCheck.refusal(of: policy) { return .refused(refusal) }
        guard var host = try host(id) else { return .refused(.unknownHost(id)) }
        if host.health == .removed { return .refused(.hostRemoved(id)) }
        if let generation, generation != host.generation { return .refused(.generationChanged(host.generation)) }
        if level >= FeatureLevel.linkBudgets,
            let kind = ResourceKind.allCases.first(where: {
                policy.reserved.vector[$0.rawValue] > host.about.capacity.vector[$0.rawValue]
                    && policy.reserved.vector[$0.rawValue] > host.policy.reserved.vector[$0.rawValue]
            })
        {
            let most = host.about.capacity.vector[kind.rawValue]
            return .refused(
                .invalid(field: "reserved", "the host has \(most) of \(kind) in all; reserve no more than that"))
        }
        let known = host
        host.policy = policy
        // Another word without it calls the moves off.
        host.isEnforced = isEnforced
        if host == known { return .done }
        host.generation += 1
        put(host)
        if policy != known.policy {
            note("host.changed", host)
            try noteExcess(id)
        }
        if isEnforced != known.isEnforced {
            note(
                "host.enforced", host,
                isEnforced ? "what may not stay there is moved away" : "no more moves off it begin for that")
        }
        return .done
    }

    /// Nothing more can be moved off it that may not stay.
    mutating func endEnforcement(_ known: CellHost) throws(StoreError) -> CellResult.Outcome {
        if !known.isEnforced { return .done }
        var host = known
        host.isEnforced = false
        put(host)
        var misplaced = 0
        for id in try vms(on: host.id) {
            guard let vm = try vm(id), Self.brokenRule(vm.spec, host) != nil else { continue }
            misplaced += 1
        }
        var left = host.excess.map { [$0] } ?? []
        if misplaced > 0 {
            left.append(misplaced == 1 ? "1 VM breaks a rule there" : "\(misplaced) VMs break a rule there")
        }
        let text = left.joined(separator: ", ")
        note(
            "host.enforced", host,
            text.isEmpty ? "all that is there may stay" : "\(text), and nothing more can be moved")
        return .done
    }

    /// Says what an outside change of a host made of what is there: it stays, and nothing new is let in.
    private mutating func noteExcess(_ id: HostID) throws(StoreError) {
        guard let host = try host(id) else { return }
        if let excess = host.excess {
            note("host.exceeded", host, "\(excess); what runs stays, nothing more is let in")
        }
        var told = 0
        for vm in try vms(on: id) {
            guard told < CellLimits.misplacedMax, let old = try self.vm(vm) else { break }
            guard let rule = Self.brokenRule(old.spec, host) else { continue }
            var vm = old
            try note("vm.misplaced", &vm, host: id, "\(rule); it stays until it is moved")
            try put(vm, was: old)
            told += 1
        }
    }

    // MARK: Being lost

    mutating func declareDown(
        _ id: HostID, _ incarnation: Incarnation, silence: UInt64
    ) throws(StoreError) -> CellResult.Outcome {
        guard let known = try host(id) else { return .refused(.unknownHost(id)) }
        if known.health == .removed { return .refused(.hostRemoved(id)) }
        if known.incarnation != incarnation { return .refused(.incarnationOutdated(id)) }
        if known.health == .down { return .done }
        if known.declaredDeadAt == .zero && known.awayUntil > time {
            // Asked again before its time is over.
            if known.health == .away { return .refused(.hostIsOtherwise(id, "is to be away longer")) }
            return try noteAbsence(id)
        }
        if known.declaredDeadAt == .zero, try brakeHolds(for: known) { return .refused(.brakeHolds) }
        let silent = known.health == .away ? 0 : silence
        try giveUp(known, lostAt: LogTime(time.rawValue - min(time.rawValue, silent)))
        return .done
    }

    /// Its lease has run out, and nobody waits for it.
    mutating func giveUp(_ known: CellHost, lostAt: LogTime) throws(StoreError) {
        try callOff(known, "it was lost")
        guard var host = try host(known.id) else { return }
        try countTaking(host, -1)
        host.health = .down
        host.awayUntil = .zero
        host.since = time
        put(host)
        access.put(CellKey.down(time, known.id), [])
        let isSaid = known.declaredDeadAt > .zero
        note(
            "host.down", host,
            isSaid
                ? "it was declared dead, and its lease has run out"
                : known.health == .away ? "it is not back in time" : "its lease has run out")
        for vm in try vms(on: known.id) { try lose(vm, known.id, lostAt, by: isSaid ? .word : .silence) }
    }

    /// How it is known that nothing of a host's VMs runs there.
    enum Loss {
        /// Its lease has run out, by which those with isolation `stop` have ended.
        case silence
        /// The same, as was planned: what ran there waits for it.
        case absence
        /// Its lease has run out, and somebody says that the machine is off. Local disks are there still.
        case word
        /// Somebody takes it out of the cell for ever.
        case removal
    }

    /// A host is lost with what it ran.
    mutating func lose(_ id: VMID, _ host: HostID, _ lostAt: LogTime, by loss: Loss) throws(StoreError) {
        guard let old = try vm(id) else { return }
        var vm = old
        if old.arrival != nil {
            leavePlace(&vm)
            return try put(vm, was: old)
        }
        if let migration = old.migration {
            let end = migration.phase == .leaving ? migration.source : migration.target
            if end.assignment.host == host {
                vm.migration = nil
                if migration.phase == .copying {
                    vm.message = "its move failed: the destination was lost"
                    try note("vm.migration-failed", &vm, host: host, "the destination was lost")
                }
            }
        }
        if let place = old.place, place.assignment.host == host {
            if vm.migration?.phase == .copying { vm.migration?.phase = .undoing }
            let hasEnded =
                loss == .word || loss == .removal || old.spec.isolation == .stop || mutated(.keepStartsElsewhere)
            if loss == .absence && !(hasEnded && (old.isDeleting || place.isReleasing)) {
                wait(&vm)
            } else if hasEnded {
                try loseCopy(&vm, host, lostAt, isForced: loss == .removal)
            } else {
                vm.message = "its host is down, and it may run on there"
                enter(.unknown, &vm)
            }
        }
        if vm != old { try put(vm, was: old) }
    }

    /// Its host is away, and comes back.
    private func wait(_ vm: inout CellVM) {
        switch vm.phase {
        case .stopped, .crashed, .looping: return
        case .waiting, .starting, .running, .paused, .stopping, .unknown: break
        }
        vm.held = nil
        vm.message = "its host is away, and is to come back"
        enter(.unknown, &vm)
    }

    private mutating func loseCopy(
        _ vm: inout CellVM, _ host: HostID, _ lostAt: LogTime, isForced: Bool
    ) throws(StoreError) {
        if isForced || vm.tieToLostHost == nil {
            leavePlace(&vm)
            if !vm.isDeleting && vm.power != .stopped {
                if level >= FeatureLevel.objectives && vm.lostAt == .zero { vm.lostAt = lostAt }
                vm.message = vm.boundTo == nil ? "its host was lost" : "its local disk was on a host that was removed"
            }
            return try note("vm.lost-host", &vm, host: host)
        }
        vm.held = nil
        if vm.phase == .stopped { return }
        vm.message =
            vm.boundTo == nil ? "its host is down, and it is never restarted" : "its host, with its local disk, is down"
        enter(.unknown, &vm)
        try note("vm.unknown", &vm, host: host, vm.message)
    }

    // MARK: Leaving

    mutating func removeHost(_ id: HostID, _ isForced: Bool) throws(StoreError) -> CellResult.Outcome {
        guard let known = try host(id) else { return .refused(.unknownHost(id)) }
        if known.health == .removed { return .done }
        if !isForced {
            if known.health == .away {
                return .refused(
                    .hostIsOtherwise(
                        id, "is away and is to come back; `muster host declare-dead` gives it up before that"))
            }
            if known.health != .down { return .refused(.hostIsUp(id)) }
            if known.vmCount > 0 { return .refused(.hostInUse(id)) }
        } else if level >= FeatureLevel.removalsOfLost, known.health == .up, known.vmCount > 0,
            try brakeHolds(for: known) == false
        {
            // Nobody's word ends what has a lease: it would start elsewhere while it runs here. Where the brake keeps silent hosts
            // from being declared down there is nothing else than that word.
            return .refused(.hostIsUp(id))
        }
        try callOff(known, "it was removed")
        try countTaking(try host(id) ?? known, -1)
        for vm in try vms(on: id) { try lose(vm, id, time, by: .removal) }
        guard var host = try host(id) else { return .done }
        if known.health == .down { access.delete(CellKey.down(known.since, id)) }
        host.health = .removed
        host.awayUntil = .zero
        host.declaredDeadAt = .zero
        host.forgetAway()
        host.isEnforced = false
        host.since = time
        host.workIndex = index
        host.generation += 1
        put(host)
        access.delete(CellKey.hostName(host.about.name))
        summary.hosts -= 1
        summary.hostsRemoved += 1
        note("host.removed", host, isForced ? "forced" : "")
        return .done
    }

    // MARK: Going to another cell

    /// What is left is the row that refuses the host under this assignment. Nothing of this cell runs there any more: a VM
    /// counts on a host until its copy there is surely gone.
    mutating func releaseHost(_ id: HostID, _ assignment: UInt64) throws(StoreError) -> CellResult.Outcome {
        let known = try host(id)
        if let known, assignment < known.assignment { return .refused(.assignmentOutdated(id)) }
        var host =
            known
            ?? CellHost(
                id: id, about: HostDescription(name: "", capacity: .zero), incarnation: Incarnation(0), since: time)
        if host.vmCount > 0 { return .refused(.hostInUse(id)) }
        // Where it went with its VMs is said, and nowhere else.
        if let known, known.wentTo > 0, assignment == known.assignment { return .refused(.hostReleased(id)) }
        if let known, known.health != .removed {
            try countTaking(known, -1)
            if known.health == .down { access.delete(CellKey.down(known.since, id)) }
            access.delete(CellKey.hostName(known.about.name))
            summary.hosts -= 1
            summary.hostsRemoved += 1
        } else if known == nil {
            if summary.hosts + summary.hostsRemoved >= CellLimits.hostsMax { return .refused(.tooMany(.hosts)) }
            summary.hostsRemoved += 1
        }
        let isNews = host.health != .removed
        host.health = .removed
        host.forgetAway()
        host.isEnforced = false
        host.isReleased = true
        host.wentTo = 0
        host.assignment = assignment
        host.since = time
        host.workIndex = index
        host.generation += 1
        put(host)
        if isNews && known != nil { note("host.released", host, "it goes to another cell") }
        return .done
    }

    mutating func closeCell() throws(StoreError) -> CellResult.Outcome {
        for (count, what) in [(summary.hosts, "hosts"), (summary.vms, "VMs"), (summary.groups, "placement groups")]
        where count > 0 {
            return .refused(.cellInUse("\(count) \(what)"))
        }
        if summary.hostMoves + summary.hostArrivals > 0 {
            return .refused(.cellInUse("\(summary.hostMoves + summary.hostArrivals) hosts on their way between cells"))
        }
        if summary.moves > 0 { return .refused(.cellInUse("\(summary.moves) VMs on their way to other cells")) }
        if let tenant = try tenantWithLoans() { return .refused(.cellInUse("a part of the quota of tenant \(tenant)")) }
        summary.isClosed = true
        return .done
    }
}
