import ClusterBase
import FleetModel

/// A cell as hosts see it, in a few lines: rows, registrations, leases that end. It keeps the fleet's rules and nothing
/// else of a real cell.
struct Cellar {
    static let lease = UInt64(3_000)

    struct Member {
        var incarnation: Incarnation
        var isUp: Bool
        /// When the cell last heard it, on the world's clock.
        var heardAt: Instant
        var workIndex: LogIndex
    }

    var index = LogIndex(rawValue: 1)
    var vms: [VMID: CellVM] = [:]
    var hosts: [HostID: Member] = [:]
    /// Reports that were of no epoch in force.
    var ignored = 0

    mutating func changed(_ hosts: HostID?...) {
        index = LogIndex(rawValue: index.rawValue + 1)
        for host in hosts { if let host { self.hosts[host]?.workIndex = index } }
    }

    mutating func change(_ id: VMID, _ body: (inout CellVM) -> Void) {
        guard var vm = vms[id] else { return }
        let before = vm
        body(&vm)
        vms[id] = vm
        var hosts: [HostID?] = []
        for row in [before, vm] {
            hosts += [
                row.place?.assignment.host, row.migration?.target.assignment.host,
                row.migration?.source.assignment.host,
            ]
        }
        index = LogIndex(rawValue: index.rawValue + 1)
        for host in hosts { if let host { self.hosts[host]?.workIndex = index } }
    }

    /// A permission to start, on the host where it is or on another.
    mutating func permit(_ id: VMID, on host: HostID) {
        change(id) { vm in
            vm.epochHighest += 1
            vm.place = VMPlace(Assignment(host: host), epoch: vm.epochHighest)
            vm.phase = .starting
            vm.migration = nil
        }
    }

    func work(_ host: HostID, since: LogIndex) -> CellAnswer {
        let time = LogTime(rawValue: 0)
        guard let member = hosts[host], member.isUp else {
            return CellAnswer(index: index, time: time, body: .work([], workIndex: index, lease: 0))
        }
        if since == member.workIndex {
            return CellAnswer(
                index: index, time: time, body: .work(nil, workIndex: member.workIndex, lease: Cellar.lease))
        }
        let rows = vms.keys.sorted().compactMap { vms[$0] }.filter { vm in
            vm.place?.assignment.host == host || vm.migration?.target.assignment.host == host
                || vm.migration?.phase == .leaving && vm.migration?.source.assignment.host == host
        }
        return CellAnswer(
            index: index, time: time, body: .work(rows, workIndex: member.workIndex, lease: Cellar.lease))
    }

    mutating func apply(_ command: CellCommand, at now: Instant) -> CellResult {
        let done = CellResult(revision: Revision.zero, outcome: .done)
        switch command.operation {
        case .registerHost(let host, let incarnation, _, let running, _):
            if let member = hosts[host], incarnation < member.incarnation { return refused(.incarnationOutdated(host)) }
            hosts[host] = Member(incarnation: incarnation, isUp: true, heardAt: now, workIndex: .zero)
            changed(host)
            adopt(host, running)
            return done
        case .reportVMs(let host, let incarnation, let reports):
            guard let member = hosts[host], member.isUp, member.incarnation == incarnation else {
                return refused(.incarnationOutdated(host))
            }
            for report in reports { take(report, host) }
            return done
        default: return refused(.malformed)
        }
    }

    private func refused(_ refusal: CellRefusal) -> CellResult {
        CellResult(revision: .zero, outcome: .refused(refusal))
    }

    private mutating func adopt(_ host: HostID, _ running: [RunningVM]) {
        for id in vms.keys.sorted() {
            guard let vm = vms[id] else { continue }
            func isNamed(_ epoch: UInt64) -> Bool { running.contains(RunningVM(id, epoch: epoch)) }
            if let migration = vm.migration, migration.target.assignment.host == host, migration.phase != .leaving,
                !isNamed(migration.target.epoch)
            {
                change(id) { $0.migration = nil }
            }
            if let migration = vm.migration, migration.phase == .leaving, migration.source.assignment.host == host,
                !isNamed(migration.source.epoch)
            {
                change(id) { $0.migration = nil }
            }
            guard let place = vms[id]?.place, place.assignment.host == host else { continue }
            if isNamed(place.epoch) {
                if vm.phase == .unknown { change(id) { $0.phase = .starting } }
                continue
            }
            switch vm.phase {
            case .starting, .running, .paused, .unknown:
                // With its epoch a migration away is off.
                if let migration = vms[id]?.migration, migration.phase == .copying {
                    change(id) { $0.migration?.phase = .undoing }
                    change(id) { $0.phase = .crashed }
                } else if vms[id]?.migration == nil {
                    permit(id, on: host)
                } else {
                    change(id) { $0.phase = .crashed }
                }
            case .stopping: change(id) { $0.phase = .stopped }
            case .waiting, .stopped, .crashed, .looping: break
            }
            leaveIfGone(id)
        }
    }

    private mutating func take(_ report: VMReport, _ host: HostID) {
        guard let vm = vms[report.vm] else { return }
        if let migration = vm.migration, migration.phase == .leaving, migration.source.assignment.host == host,
            migration.source.epoch == report.epoch
        {
            if report.state == .stopped || report.state == .crashed { change(report.vm) { $0.migration = nil } }
            return
        }
        if let migration = vm.migration, migration.target.assignment.host == host, migration.phase != .leaving,
            migration.target.epoch == report.epoch
        {
            switch report.state {
            case .crashed where migration.phase == .copying: change(report.vm) { $0.migration?.phase = .undoing }
            case .stopped where migration.phase == .undoing: change(report.vm) { $0.migration = nil }
            default: break
            }
            return
        }
        guard let place = vm.place, place.assignment.host == host, place.epoch == report.epoch else {
            ignored += 1
            return
        }
        change(report.vm) { vm in
            switch report.state {
            case .starting: break
            case .running, .paused:
                guard vm.phase != .stopping else { return }
                vm.phase = report.state == .running ? .running : .paused
                vm.runningGeneration = report.generation
            case .stopped:
                vm.phase = .stopped
                if vm.migration?.phase == .copying { vm.migration?.phase = .undoing }
            case .crashed:
                vm.phase = vm.phase == .stopping ? .stopped : .crashed
                if vm.migration?.phase == .copying { vm.migration?.phase = .undoing }
            case .copying: vm.migration?.progressMillis = report.progressMillis
            case .copied: vm.migration?.progressMillis = 1_000
            case .copyFailed: if vm.migration?.phase == .copying { vm.migration?.phase = .undoing }
            }
        }
        leaveIfGone(report.vm)
    }

    private mutating func leaveIfGone(_ id: VMID) {
        guard let vm = vms[id], vm.phase == .stopped || vm.phase == .crashed else { return }
        if vm.isDeleting, vm.migration == nil {
            change(id) { $0.place = nil }
            vms[id] = nil
        } else if vm.place?.isReleasing == true, vm.migration == nil {
            change(id) {
                $0.place = nil
                $0.phase = .waiting
            }
        }
    }

    // MARK: What controllers do

    /// Says that a host's lease has run out.
    mutating func declareDown(_ host: HostID) {
        hosts[host]?.isUp = false
        for id in vms.keys.sorted() {
            guard let vm = vms[id] else { continue }
            if let migration = vm.migration {
                // What may still be at the source of a commit, or at the target, has ended with the lease.
                let isSource = migration.phase == .leaving && migration.source.assignment.host == host
                let isTarget = migration.phase != .leaving && migration.target.assignment.host == host
                if isSource || isTarget {
                    if vm.spec.isolation == .stop { change(id) { $0.migration = nil } }
                }
            }
            guard vm.place?.assignment.host == host, vm.phase != .stopped else { continue }
            if vm.spec.isolation == .stop {
                if vm.migration?.phase == .copying { change(id) { $0.migration?.phase = .undoing } }
                if vms[id]?.migration == nil {
                    change(id) {
                        $0.place = nil
                        $0.phase = .waiting
                    }
                } else {
                    change(id) { $0.phase = .unknown }
                }
            } else {
                change(id) { $0.phase = .unknown }
            }
            if vm.isDeleting, vms[id]?.place == nil { vms[id] = nil }
        }
        changed(host)
    }

    mutating func beginMigration(_ id: VMID, to host: HostID) {
        change(id) { vm in
            guard let place = vm.place, vm.migration == nil, place.assignment.host != host else { return }
            vm.epochHighest += 1
            vm.migration = Migration(
                phase: .copying, cause: .asked, target: VMPlace(Assignment(host: host), epoch: vm.epochHighest),
                source: place, since: LogTime(rawValue: 0))
        }
    }

    mutating func commitMigration(_ id: VMID) {
        change(id) { vm in
            guard var migration = vm.migration, migration.phase == .copying, let place = vm.place else { return }
            migration.phase = .leaving
            migration.source = place
            vm.place = migration.target
            vm.migration = migration
        }
    }
}
