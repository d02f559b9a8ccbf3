import ClusterBase
import FleetModel
import NodePorts

// What the cell's rows mean for the copies on this host.

extension HostKeeper {
    /// What a row wants of this host.
    enum Wish: Hashable, Sendable {
        /// No copy of any epoch, and nothing on its disks. With an epoch, the cell waits to hear so.
        case gone(UInt64?)
        /// No copy runs, what is on disk stays; the cell waits to hear so.
        case stopped(UInt64)
        /// The same, and the cell knows.
        case ended
        case run(UInt64, isPaused: Bool, mayStart: Bool, migration: Migration?)
        case arrive(UInt64, from: HostID)
    }

    func wish(_ row: CellVM) -> Wish {
        if let arrival = row.arrival {
            guard let sender = arrival.sender, let place = row.place, place.assignment.host == host else {
                return .gone(nil)
            }
            return .arrive(place.epoch, from: sender)
        }
        if let place = row.place, place.assignment.host == host {
            if row.phase == .stopped, !place.isReleasing, !row.isDeleting { return .ended }
            if place.isReleasing || row.isDeleting || row.power == .stopped || row.phase == .stopping {
                return .stopped(place.epoch)
            }
            switch row.phase {
            case .stopped, .crashed, .looping: return .ended
            case .waiting, .starting, .running, .paused, .stopping, .unknown:
                return .run(
                    place.epoch, isPaused: row.power == .paused, mayStart: row.phase == .starting,
                    migration: row.sending)
            }
        }
        guard let migration = row.migration else { return .gone(nil) }
        switch migration.phase {
        case .copying:
            guard migration.target.assignment.host == host, let place = row.place else { return .gone(nil) }
            return .arrive(migration.target.epoch, from: place.assignment.host)
        case .leaving where row.awaitsArrival && migration.source.assignment.host == host: return .ended
        case .leaving: return .gone(migration.source.assignment.host == host ? migration.source.epoch : nil)
        case .undoing: return .gone(migration.target.assignment.host == host ? migration.target.epoch : nil)
        }
    }

    func grace(_ row: CellVM?) -> Nanoseconds { row.flatMap { Timing.grace(of: $0.spec) } ?? timing.grace }

    // MARK: Orders

    /// Brings every copy a step nearer to what its row wants, where that is allowed, and notes what is under way.
    mutating func lookAtDue(mayStart: Bool, _ output: inout Output) {
        let wasBusy = isBusy
        if due == nil { (busy, owing, arriving) = ([], [], []) }
        for vm in dueVMs {
            let row = row(of: vm)
            if mayStart {
                isBusy = false
                tend(vm, row, &output)
                busy.note(vm, isBusy)
            }
            owing.note(vm, row.flatMap { report($0) } != nil)
            arriving.note(vm, records[vm]?.copy?.state == .arriving)
        }
        isBusy = wasBusy || (mayStart && !busy.isEmpty)
        if mayStart { due = [] }
    }

    /// Ascending.
    private var dueVMs: [VMID] {
        if let due { return due.sorted() }
        return Set(records.keys).union(work.map(\.id)).sorted()  // hash order: sorted
    }

    private func row(of vm: VMID) -> CellVM? {
        var (low, high) = (work.startIndex, work.endIndex)
        while low < high {
            let middle = (low + high) / 2
            if work[middle].id < vm { low = middle + 1 } else { high = middle }
        }
        return low < work.endIndex && work[low].id == vm ? work[low] : nil
    }

    /// Rows that came, and those that went.
    mutating func noteDue(_ changed: [CellVM], from old: [CellVM], to new: [CellVM]) {
        guard due != nil else { return }
        due?.formUnion(changed.map(\.id))
        var next = new.startIndex
        for i in old.indices {
            while next < new.endIndex, new[next].id < old[i].id { next += 1 }
            if next == new.endIndex || new[next].id != old[i].id { due?.insert(old[i].id) }
        }
    }

    private mutating func tend(_ vm: VMID, _ row: CellVM?, _ output: inout Output) {
        let wish = row.map { self.wish($0) } ?? .gone(nil)
        var record = records[vm] ?? Record()
        if let row { record.copy?.isolation = row.spec.isolation }
        switch wish {
        case .gone: discard(vm, &record, &output)
        case .stopped(let epoch):
            if let copy = record.copy, copy.epoch <= epoch { stop(vm, &record, grace(row), &output) }
            if record.copy != nil { isBusy = true }
        case .ended: if record.copy != nil { stop(vm, &record, .zero, &output) }
        case .run(let epoch, let isPaused, let mayStart, let migration):
            guard let row else { return }
            if let copy = record.copy {
                if copy.epoch < epoch, !mutated(.olderCopyReported) {
                    stop(vm, &record, copy.state == .arriving ? .zero : grace(row), &output)
                }
                if copy.epoch == epoch { steer(row, &record, isPaused, migration, &output) }
            } else if mayStart, record.highest < epoch || (record.highest == epoch && mutated(.epochStartsAgain)) {
                begin(row, epoch, .starting, &record)
                output.orders.append(.start(row, epoch: epoch, isPaused: isPaused))
            }
            let state = record.copy?.state
            isBusy = isBusy || record.copy?.order != nil || (state != .running && state != .paused)
        case .arrive(let epoch, let source):
            guard let row else { return }
            isBusy = true
            if mutated(.destinationBeforeCommit), row.migration?.isCopied ?? (row.arrival != nil),
                record.copy?.state == .arriving,
                record.copy?.epoch == epoch, record.copy?.order == nil
            {
                record.copy?.order = .finish
                output.orders.append(.finishArrival(vm, epoch: epoch))
            }
            if let copy = record.copy {
                if copy.epoch != epoch { discard(vm, &record, &output) }
            } else if record.highest < epoch {
                begin(row, epoch, .arriving, &record)
                output.orders.append(.receive(row, epoch: epoch, from: source))
            }
        }
        let isForgotten = row == nil && record.copy == nil
        records[vm] = isForgotten || record.highest == 0 ? nil : record
    }

    private func begin(_ row: CellVM, _ epoch: UInt64, _ state: Copy.State, _ record: inout Record) {
        precondition(record.copy == nil, "VM \(row.id) has a copy here, epoch \(epoch) must wait")
        precondition(
            record.highest < epoch || mutated(.epochStartsAgain),
            "VM \(row.id) had epoch \(record.highest) here, \(epoch) is none later")
        record = Record()
        record.highest = epoch
        record.copy = Copy(
            epoch: epoch, state: state, generation: row.generation, isolation: row.spec.isolation,
            offered: row.generation)
    }

    /// Of a copy whose epoch is in force.
    private mutating func steer(
        _ row: CellVM, _ record: inout Record, _ isPaused: Bool, _ migration: Migration?, _ output: inout Output
    ) {
        guard var copy = record.copy, !copy.isLeaving else { return }
        let vm = row.id
        func give(_ order: Copy.Order, _ told: HypervisorOrder) {
            guard copy.order != order else { return }
            copy.order = order
            output.orders.append(told)
        }
        switch copy.state {
        case .starting: break
        case .arriving: give(.finish, .finishArrival(vm, epoch: copy.epoch))
        case .running, .paused:
            if let migration, copy.failedTarget != migration.target.epoch {
                let (target, to) = (migration.target.epoch, migration.target.assignment.host)
                give(
                    .send(target),
                    .send(vm, epoch: copy.epoch, target: target, to: to, intent: migration.intent))
            } else if migration == nil, case .send = copy.order {
                give(.cancel, .cancelSend(vm, epoch: copy.epoch))
            } else if migration == nil, copy.order != .cancel {
                if isPaused != (copy.state == .paused) {
                    give(
                        isPaused ? .pause : .resume,
                        isPaused ? .pause(vm, epoch: copy.epoch) : .resume(vm, epoch: copy.epoch))
                }
                if copy.offered != row.generation {
                    copy.offered = row.generation
                    if row.generation != copy.generation { output.orders.append(.update(row, epoch: copy.epoch)) }
                }
            }
        case .copying, .copied:
            if doubtsCommit, copy.state == .copied {
                doubtsCommit = false
                give(.cancel, .cancelSend(vm, epoch: copy.epoch))
                break
            }
            // Found so, when this process did not give the order.
            if let migration {
                if copy.order == nil { copy.order = .send(migration.target.epoch) }
                if case .send(let target) = copy.order, target != migration.target.epoch {
                    give(.cancel, .cancelSend(vm, epoch: copy.epoch))
                }
            } else {
                give(.cancel, .cancelSend(vm, epoch: copy.epoch))
            }
        }
        record.copy = copy
    }

    private func stop(_ vm: VMID, _ record: inout Record, _ grace: Nanoseconds, _ output: inout Output) {
        guard var copy = record.copy else { return }
        let order = Copy.Order.stop(isForced: grace == .zero)
        if copy.order == .discard || copy.order == order || copy.order == .stop(isForced: true) { return }
        copy.order = order
        record.copy = copy
        output.orders.append(.stop(vm, epoch: copy.epoch, grace: grace))
    }

    /// Its disks here too: it is somebody else's now, or nobody's.
    private mutating func discard(_ vm: VMID, _ record: inout Record, _ output: inout Output) {
        if record.copy != nil { isBusy = true }
        if record.isDiscarded || record.copy?.order == .discard || record.highest == 0 { return }
        record.copy?.order = .discard
        record.copy?.stopCause = nil
        record.isDiscarded = record.copy == nil
        output.orders.append(.discard(vm, epoch: record.highest, forGood: true))
    }

    // MARK: Stopping by itself

    /// Whoever may start elsewhere stops here, and without delay.
    mutating func stopForLease(_ output: inout Output) {
        for vm in records.keys.sorted() {
            guard var record = records[vm], let copy = record.copy, copy.isolation == .stop else { continue }
            if copy.order == .discard || copy.order == .stop(isForced: true) { continue }
            due?.insert(vm)
            if !copy.isLeaving { record.copy?.stopCause = "stopped by its host, whose lease ran out" }
            stop(vm, &record, .zero, &output)
            records[vm] = record
        }
    }

    /// The process that runs them is about to end.
    mutating func endAll(_ output: inout Output) {
        for vm in records.keys.sorted() {
            guard var record = records[vm], let copy = record.copy else { continue }
            if copy.order == .discard || copy.order == .stop(isForced: true) { continue }
            due?.insert(vm)
            if !copy.isLeaving { record.copy?.stopCause = "its host's agent ended, and ran it itself" }
            stop(vm, &record, .zero, &output)
            records[vm] = record
        }
    }

    // MARK: Reports

    /// A guest is paused and copied, and the cell has not been told.
    var owesCopied: Bool {
        owing.contains { vm in
            guard let record = records[vm], let copy = record.copy, copy.state == .copied else { return false }
            // Bound once: asked of the optional twice, Swift 6.3.1 can't compile it optimized.
            guard let taken = record.taken?.report else { return true }
            return taken.state != .copied || taken.epoch != copy.epoch
        }
    }

    /// What the rows do not show yet, ascending by VM, as much as goes into one command. What the cell took, and its rows still don't
    /// show, comes again.
    mutating func reports(_ now: Instant) -> [VMReport] {
        if !owing.isEmpty { isBusy = true }
        // hash order: only which are kept
        takenOfOthers = takenOfOthers.filter { owing.contains($0.key) }
        var list: [VMReport] = []
        for vm in owing.sorted() {
            guard list.count < HostKeeper.reportsMax, let row = row(of: vm), let report = report(row) else { continue }
            if let taken = records[vm]?.taken ?? takenOfOthers[vm], isSame(taken.report, report) {
                if now < taken.at + timing.repetition { continue }
                asksAll = true
            }
            list.append(report)
        }
        return list
    }

    /// Progress alone is told in steps.
    private func isSame(_ a: VMReport, _ b: VMReport) -> Bool {
        var a = a
        if a.state == .copying, b.state == .copying, b.progressMillis < a.progressMillis + 50 {
            a.progressMillis = b.progressMillis
        }
        return a == b
    }

    private func report(_ row: CellVM) -> VMReport? {
        let record = records[row.id]
        switch wish(row) {
        case .ended: return nil
        case .gone(let epoch):
            guard let epoch, record?.copy == nil else { return nil }
            return VMReport(row.id, epoch: epoch, .stopped)
        case .stopped(let epoch):
            guard record?.copy == nil else { return nil }
            return VMReport(row.id, epoch: epoch, .stopped)
        case .arrive(let epoch, _):
            guard let record, record.copy == nil, record.highest >= epoch else { return nil }
            return VMReport(row.id, epoch: epoch, .crashed, message: record.end?.message ?? "")
        case .run(let epoch, _, let mayStart, let migration):
            guard let copy = record?.copy else {
                if mayStart, (record?.highest ?? 0) < epoch { return nil }
                guard record?.highest == epoch, let end = record?.end else {
                    return VMReport(
                        row.id, epoch: epoch, .crashed, message: "it does not run on its host", isHostsFault: true)
                }
                return VMReport(
                    row.id, epoch: epoch, .crashed, message: end.message, isHostsFault: end.isHostsFault)
            }
            if mutated(.olderCopyReported) {
                return VMReport(row.id, epoch: epoch, .crashed, message: "it does not run on its host")
            }
            return copy.epoch == epoch ? report(row, copy, migration) : nil
        }
    }

    private func report(_ row: CellVM, _ copy: Copy, _ migration: Migration?) -> VMReport? {
        func say(_ state: VMReport.State) -> VMReport {
            VMReport(
                row.id, epoch: copy.epoch, state, generation: copy.generation,
                progressMillis: state == .copying || state == .copied ? copy.progressMillis : 0, message: copy.message)
        }
        if copy.isLeaving { return nil }
        if let migration, copy.failedTarget == migration.target.epoch { return say(.copyFailed) }
        switch copy.state {
        case .starting:
            return row.phase == .starting && !copy.message.isEmpty && copy.message != row.message ? say(.starting) : nil
        case .arriving: return nil
        case .running:
            let isKnown = row.phase == .running && row.runningGeneration == copy.generation && !row.awaitsArrival
            return isKnown ? nil : say(.running)
        case .paused:
            let isKnown = row.phase == .paused && row.runningGeneration == copy.generation && !row.awaitsArrival
            return isKnown ? nil : say(.paused)
        case .copying:
            guard let migration, copy.progressMillis > migration.progressMillis else { return nil }
            return say(.copying)
        case .copied: return migration == nil ? nil : say(.copied)
        }
    }
}

// hash order: one is put in or taken out
extension Set<VMID> {
    fileprivate mutating func note(_ vm: VMID, _ isIn: Bool) {
        if isIn { insert(vm) } else { remove(vm) }
    }
}
