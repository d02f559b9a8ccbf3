import ClusterBase
import FleetModel
import NodePorts
import RaftCore
import StoreLayout

/// The shadow of the fleet: replays the committed log with a state machine of its own, and holds against it what every
/// replica has, what hosts are told and what owners were answered.
final class FleetChecker {
    private struct Written {
        var term: Term
        var content: EntryContent
    }

    /// Entries by index as anybody wrote them; one of them is committed.
    // hash order: looked up only
    private var entries: [LogIndex: [Written]] = [:]
    private var writtenThrough = LogIndex.zero

    // The replay.
    private var store = MemoryStore()
    private var state = StateView()
    private(set) var applied = AppliedState.nothing
    private(set) var digests: [UInt64] = [0]
    private var comparedThrough = 0
    /// The cell after the last entry that was replayed.
    private(set) var view = CellView()

    /// Where each epoch of each VM was given permission to run, and whether it began there.
    struct Permission {
        var host: HostID
        var isMove: Bool
        var begun = false
    }
    private let promises: FleetPromises
    private let group: GroupID
    /// On their way from this cell to others.
    private(set) var moves: [CellMove] = []
    private var moveWatch = MoveWatch()
    /// Hosts on their way from this cell to others.
    private(set) var hostMoves: [HostMove] = []
    private var failure: (promise: String, detail: String)?
    #if MUTANTS
    var mutant: FleetMutant? {
        didSet { state.mutant = mutant }
    }
    #endif

    struct VMEpoch: Hashable {
        var vm: VMID
        var epoch: UInt64
    }

    init(_ group: GroupID, _ promises: FleetPromises) {
        self.group = group
        self.promises = promises
    }

    /// VMs that move, ascending.
    var moving: [VMID] { view.vms.keys.sorted().filter { view.vms[$0]?.migration != nil } }

    /// Ascending.
    var everSeen: [VMID] { promises.everSeen.sorted() }
    func mayBeGone(_ vm: VMID) -> Bool { promises.deletions.contains(vm) }

    func described(_ vm: VMID) -> String { view.vms[vm].map { "\($0)" } ?? "no such VM" }

    // MARK: The log

    func written(_ writes: [GroupWrite]) {
        for write in writes where write.group == group {
            for entry in write.write.entries where entry.index > applied.index {
                let known = entries[entry.index] ?? []
                if known.contains(where: { $0.term == entry.term }) { continue }
                entries[entry.index, default: []].append(Written(term: entry.term, content: entry.content))
            }
        }
    }

    /// Replays what became committed, and compares with what the replicas made of it. False when there was nothing.
    func follow(_ cluster: ClusterChecker, _ fleet: Fleet) -> Bool {
        let world = fleet.world
        let before = applied.index
        while applied.index < cluster.lastCommitted {
            let index = applied.index.next
            let term = cluster.committed[Int(index.rawValue) - 1].term
            guard let entry = entries[index]?.first(where: { $0.term == term }) else { break }
            replay(index, term, entry.content, fleet)
            entries[index] = nil
            if let failure {
                world.fail(failure.promise, "\(failure.detail), at entry \(index)")
                return true
            }
        }
        let end = min(digests.count, cluster.digests.count + 1)
        while comparedThrough < end {
            let seen = comparedThrough == 0 ? 0 : cluster.digests[comparedThrough - 1]
            if seen != 0 && seen != digests[comparedThrough] {
                world.fail("the log replays to the same state", "another state at entry \(comparedThrough)")
            }
            comparedThrough += 1
        }
        return applied.index > before
    }

    private func replay(_ index: LogIndex, _ term: Term, _ content: EntryContent, _ fleet: Fleet) {
        do throws(StoreError) {
            state.begin(group, generation: 1, applied: applied, store)
            var results: [CellResult] = []
            if case .command(let pack) = content {
                results = try Cell.apply(pack: pack, index: index, group: group, access: &state)
            }
            let (batch, now) = state.finish(index: index, term: term, chain: 0)
            try store.write(batch, isSynced: true)
            applied = now
            digests.append(now.digest)
            if results.isEmpty { return }
            try followView(fleet)
        } catch {
            broken("simulation", "the replay can't read its state: \(error.message)")
        }
    }

    private func followView(_ fleet: Fleet) throws(StoreError) {
        let before = view
        let reader = StateReader(group, generation: 1, store)
        for _ in 0..<1_000 {
            let answer = try Cell.read(view.nextQuery, reader)
            _ = view.take(answer)
            if let through = view.through, through >= answer.index { break }
        }
        if case .rows(let rows, _) = try Cell.read(.all(.moves), reader).body {
            moves = rows.compactMap { if case .move(_, let move?)? = $0.content { move } else { nil } }
        }
        if fleet.movesHosts, case .rows(let rows, _) = try Cell.read(.all(.hostMoves), reader).body {
            hostMoves = rows.compactMap { if case .hostMove(_, let move?)? = $0.content { move } else { nil } }
            for move in hostMoves { fleet.concluded(move, in: Int(group.number) - 1) }
        }
        compare(before, fleet)
    }

    private func broken(_ promise: String, _ detail: String) {
        if failure == nil { failure = (promise, detail) }
    }

    // MARK: Every index

    private func compare(_ before: CellView, _ fleet: Fleet) {
        for id in before.vms.keys.sorted() where view.vms[id] == nil {
            guard let old = before.vms[id] else { continue }
            // It is where it was, and its host is another cell's.
            if old.arrival == nil, let host = old.place?.assignment.host, before.hosts[host]?.departure != nil,
                view.hosts[host]?.health == .removed, view.hosts[host]?.wentTo ?? 0 > 0
            {
                fleet.counts.vmsHandedOver += 1
                continue
            }
            checkEnds(old, nil, before, fleet)
            if old.arrival != nil {
                fleet.counts.cellsKept += 1
                continue
            }
            // It is another cell's now, as is held against that one.
            if let way = old.departure {
                fleet.counts.cellsChanged += 1
                if way.far != nil { fleet.counts.cellsChangedLive += 1 }
                let cause = moves.first { $0.number == way.number }?.cause
                if cause == .regionLost { fleet.counts.regionAway += 1 }
                if cause == .regionBack { fleet.counts.regionHome += 1 }
                if cause == .evacuation { fleet.counts.evacuated += 1 }
                continue
            }
            fleet.counts.deleted += 1
            if !promises.deletions.contains(id) {
                broken("an acknowledged VM exists", "VM \(id) is gone, and nobody asked for that")
            }
        }
        for id in view.vms.keys.sorted() {
            guard let vm = view.vms[id] else { continue }
            let old = before.vms[id]
            if vm == old { continue }
            compare(vm, old, fleet)
            if let old { checkEnds(old, vm, before, fleet) }
        }
        for id in view.hosts.keys.sorted() {
            guard let host = view.hosts[id] else { continue }
            if before.hosts[id]?.health == .up && host.health == .down { fleet.counts.hostsDeclaredDown += 1 }
        }
        countGangs(before, fleet)
        if let broken = moveWatch.follow(before, view, at: fleet.world.now, entry: applied.index)
            ?? FleetRules.broken(before: before, after: view)
            ?? (fleet.opensLevel && fleet.profile.cells == 1 ? FleetRules.unknownOwner(before, view) : nil)
        {
            self.broken(broken.promise, broken.detail)
        }
    }

    private func countGangs(_ before: CellView, _ fleet: Fleet) {
        // hash order: only counted
        var placed: Set<UInt64> = []
        for id in before.vms.keys.sorted() {
            guard let old = before.vms[id], old.gang > 0 else { continue }
            if view.vms[id]?.place != nil {
                placed.insert(old.gang)
            } else if view.vms[id]?.gang != old.gang {
                fleet.counts.gangsLeft += 1
            }
        }
        fleet.counts.gangsPlaced += placed.count
    }

    private func compare(_ vm: CellVM, _ old: CellVM?, _ fleet: Fleet) {
        if vm.arrival != nil { return }
        if old == nil {
            fleet.counts.created += 1
            if let known = promises.named[vm.name], known != vm.id {
                broken("a retry takes effect once", "\(vm.name) was created as \(known) and as \(vm.id)")
            }
            if !promises.everSeen.insert(vm.id).inserted { broken("ids are given once", "VM \(vm.id) came back") }
            promises.named[vm.name] = vm.id
        }
        if vm.epochHighest < old?.epochHighest ?? 0 { broken("epochs only rise", "\(vm)") }
        if let place = vm.place {
            permit(vm, place, isMove: false)
            if old?.place?.assignment.host != place.assignment.host && vm.migration == nil { fleet.placed(vm, place) }
        }
        if let migration = vm.migration {
            if migration.phase == .copying { permit(vm, migration.target, isMove: true) }
            if old?.migration == nil {
                fleet.counts.movesBegun += 1
                if migration.cause == .rebalance { fleet.counts.rebalanced += 1 }
                if migration.cause == .return { fleet.counts.returned += 1 }
                if migration.cause == .capacity { fleet.counts.enforced += 1 }
            }
            if migration.phase == .leaving && old?.migration?.phase != .leaving {
                fleet.counts.movesCommitted += 1
                promises.committedMoves.insert(VMEpoch(vm: vm.id, epoch: migration.target.epoch))
            }
        }
    }

    private func permit(_ vm: CellVM, _ place: VMPlace, isMove: Bool) {
        let key = VMEpoch(vm: vm.id, epoch: place.epoch)
        if place.epoch > vm.epochHighest || place.epoch == 0 {
            broken("epochs only rise", "VM \(vm.id) has epoch \(place.epoch) above \(vm.epochHighest)")
        }
        if let known = promises.permissions[key] {
            if known.host != place.assignment.host {
                broken("an epoch is one host's", "VM \(vm.id): epoch \(place.epoch) is for \(known.host) and \(place)")
            }
            return
        }
        promises.permissions[key] = Permission(host: place.assignment.host, isMove: isMove)
    }

    // MARK: Ends

    /// What the cell takes for ended has ended: a copy that lost its place, or that a phase says is over, and the other end of a
    /// move that is forgotten. Of a host that is down nothing may run; elsewhere nothing may be left of it, but for the ends of a live
    /// migration to another cell: they stand still, and their hosts drop them when they hear of it.
    private func checkEnds(_ old: CellVM, _ new: CellVM?, _ before: CellView, _ fleet: Fleet) {
        if let place = old.place {
            let isFar = old.arrival != nil || (new == nil && old.departure?.far != nil)
            if hasEnded(place, old, new, before) { requireEnd(of: old, place, mayStandStill: isFar, fleet) }
            if new?.place?.assignment.host != place.assignment.host { fleet.left(old.id, place.assignment.host) }
        }
        if let migration = old.migration, new?.migration?.target.epoch != migration.target.epoch {
            let end = migration.phase == .leaving ? migration.source : migration.target
            if new?.place?.epoch != end.epoch { requireEnd(of: old, end, fleet) }
        }
    }

    private func hasEnded(_ place: VMPlace, _ old: CellVM, _ new: CellVM?, _ before: CellView) -> Bool {
        guard let new else { return true }
        let host = place.assignment.host
        if let next = new.place, next.assignment.host == host {
            // A host ends the older copy itself before it starts the next, but a new process of its agent has named what it found.
            if next.epoch != place.epoch { return before.hosts[host]?.incarnation != view.hosts[host]?.incarnation }
            return !old.phase.isOver && new.phase.isOver
        }
        // Its move is committed, and waits for the source.
        return new.migration?.phase != .leaving || new.migration?.source.epoch != place.epoch
    }

    private func requireEnd(of vm: CellVM, _ place: VMPlace, mayStandStill: Bool = false, _ fleet: Fleet) {
        let host = fleet.hosts[Int(place.assignment.host.rawValue) - 1]
        let now = host.node.local(fleet.world.now)
        host.driver.settle(now)
        let isDown = view.hosts[host.id]?.health != .up
        let isThere =
            isDown || mayStandStill
            ? host.driver.running.contains(RunningVM(vm.id, epoch: place.epoch)) : host.driver.holds(vm.id, place.epoch)
        guard isThere else { return }
        broken(
            "what the cell takes for ended has ended",
            "host \(host.id), \(isDown ? "which is down," : "") has VM \(vm.id) under epoch \(place.epoch): "
                + "\(host.driver.describe(vm.id)), lease until \(host.lease.map { "\($0)" } ?? "-") at \(now); the cell had \(vm), "
                + "and has \(described(vm.id))")
    }

    // MARK: What hosts do

    /// What a host orders of its driver was permitted by the cell, to this host, and never before.
    func ordered(_ order: HypervisorOrder, _ host: SimulatedHost, _ fleet: Fleet) {
        let key: VMEpoch
        switch order {
        case .receive(let vm, let epoch, _):
            // Of one that is another cell's still nothing goes on by it, whatever became of its place here.
            if vm.arrival != nil { return }
            let ends = [view.vms[vm.id]?.migration?.target, view.vms[vm.id]?.place]
            if !ends.contains(where: { $0?.assignment.host == host.id && $0?.epoch == epoch }),
                !fleet.movesHosts || !fleet.isPlaced(vm.id, on: host.id)
            {
                isOld(order, host, fleet)
            }
            return
        case .start(let vm, let epoch, _): key = VMEpoch(vm: vm.id, epoch: epoch)
        case .finishArrival(let vm, let epoch): key = VMEpoch(vm: vm, epoch: epoch)
        default: return
        }
        fleet.counts.starts += 1
        // What its cell said before it handed the host on is as good as what the next one says.
        if view.vms[key.vm]?.place?.assignment.host != host.id,
            !fleet.movesHosts || !fleet.isPlaced(key.vm, on: host.id)
        {
            isOld(order, host, fleet)
        }
        guard let permission = promises.permissions[key], permission.host == host.id else {
            return fleet.world.fail(
                "what starts was permitted",
                "host \(host.id) starts VM \(key.vm) under epoch \(key.epoch), which "
                    + (promises.permissions[key].map { "is host \($0.host)'s" } ?? "the cell never gave out"))
        }
        if permission.isMove {
            guard promises.committedMoves.contains(key) else {
                return fleet.world.fail(
                    "a move has one commit point",
                    "host \(host.id) lets VM \(key.vm) go on under epoch \(key.epoch) before that is committed")
            }
            if case .start = order {
                return fleet.world.fail(
                    "an epoch starts once",
                    "host \(host.id) starts VM \(key.vm) anew under epoch \(key.epoch) of a move")
            }
        } else if permission.begun {
            fleet.world.fail(
                "an epoch starts once", "host \(host.id) starts VM \(key.vm) again under epoch \(key.epoch)")
        }
        promises.permissions[key]?.begun = true
    }

    /// Until the host itself says so, and while its lease lasts, the cell takes nothing from it.
    private func isOld(_ order: HypervisorOrder, _ host: SimulatedHost, _ fleet: Fleet) {
        fleet.world.fail(
            "what starts is permitted still",
            "host \(host.id) is ordered \(order), and the cell has \(described(order.vm)); lease until "
                + "\(host.lease.map { "\($0)" } ?? "-") at \(host.node.local(fleet.world.now))")
    }

    // MARK: What owners are told

    func asked(_ operation: CellCommand.Operation) {
        if case .deleteVM(let vm, _) = operation { promises.deletions.insert(vm) }
    }

    /// What was acknowledged is in the log: the entry that it names has been replayed.
    func acknowledged(_ operation: CellCommand.Operation, _ result: CellResult, _ fleet: Fleet) {
        if result.revision.index > applied.index {
            fleet.world.fail(
                "an acknowledged write is committed",
                "\(operation) was answered at entry \(result.revision.index), and \(applied.index) is the last one committed"
            )
        }
        guard case .createVMs(let items, _) = operation, case .items(let made) = result.outcome else { return }
        for (item, made) in zip(items, made) {
            // Each name is asked for by one command, so that only its own repetition can find it taken.
            if case .refused(.vmNameTaken(let name)) = made {
                fleet.world.fail(
                    "a retry takes effect once", "the one command that asks for \(name) was told that it is taken")
            }
            guard case .vm(let id) = made else { continue }
            if !promises.everSeen.contains(id) || promises.named[item.name] != id {
                fleet.world.fail(
                    "an acknowledged VM exists", "\(item.name) was acknowledged as VM \(id), which never was")
            }
        }
    }
}

extension CellVM.Phase {
    /// Under its epoch nothing of the VM runs, or will.
    fileprivate var isOver: Bool {
        switch self {
        case .stopped, .crashed, .looping: true
        case .waiting, .starting, .running, .paused, .stopping, .unknown: false
        }
    }
}
