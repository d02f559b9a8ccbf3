import AdminAPI
import AdminHTTP
import AgentConfig
import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import Placement
import RaftCore
import Reactor
import TLSSession

// New VMs where there are several cells: each gets a cell that has room for it, then its name, then it is made.
//
//     cells by what was heard of them ─▶ each says in turn which it would place ─▶ name held in the region ─▶ created
//                                        (the rest waits in the best of them)       │ another's: taken, or it came to nothing
//                                                                                   ▼
//                             a refusal for want of room: the next cell · an unknown outcome: the same again, never elsewhere
//
// One that is refused for its tenant's quota gets what is missing from the cells that have it and do not use it.
//
// A creation's request id is decided once, and from its Idempotency-Key where there is one: whoever repeats the request finds
// the name held for the same creation, and goes on in the cell where it was.

/// Creations that are under way for one request.
final class CreationJob {
    /// Of one request at a time.
    static let width = 64
    static let patience = Nanoseconds.seconds(8)

    let creations: [VMCreation?]
    let requests: [[UInt8]]
    /// Best first.
    let cells: [GroupID]
    let asker: FleetAsker
    /// Nothing is tried anew after this.
    let deadline: Instant
    /// They are spread over the regions of the cells.
    var overRegions: VMBatch.OverRegions?
    /// Of each creation, where cells were chosen among several.
    var orders: [Int: [GroupID]] = [:]
    var targets: [Int: GroupID] = [:]
    var waiting: [Int] = []
    var underWay = 0
    var results: [Result<VMID, Problem>?]
    var index: LogIndex?
    let done: (CreationJob) -> Void

    /// The cells for one of the creations, best first.
    func order(_ place: Int) -> [GroupID] { orders[place] ?? cells }

    /// The id of a creation that was refused once, and may be carried out after a loan.
    static func second(_ request: [UInt8]) -> [UInt8] { request.map { ~$0 } }

    init(
        _ creations: [VMCreation?], _ cells: [GroupID], _ asker: FleetAsker, now: Instant,
        _ done: @escaping (CreationJob) -> Void
    ) {
        self.creations = creations
        requests = creations.indices.map { asker.commandKey($0).id }
        self.cells = cells
        self.asker = asker
        deadline = now + CreationJob.patience
        results = Array(repeating: nil, count: creations.count)
        self.done = done
    }
}

extension AdminPort {
    /// The cells, the one first that most likely has room for these VMs.
    func rankedCells(for creations: [VMCreation], _ groups: [GroupID]) -> [GroupID] {
        guard let first = creations.first else { return groups }
        let view = agent.view
        let wish = CellWish(first.spec, count: creations.count, region: agent.settings.region)
        let offers = cells.filter { groups.contains($0.group) }.map { cell in
            CellOffer(group: cell.group, region: cell.region, report: view.report(of: cell.group))
        }
        let order = CellRanking.order(wish, offers, view.latencies)
        // A region that is lost or evacuated, and a cell that goes into another one, only gets what no other takes.
        let closed = view.cluster?.regions.filter { $0.isLost || $0.isEvacuated }.map(\.name) ?? []
        let isClosed = { (group: GroupID) in
            view.merges(group) != nil || view.cell(group).map { closed.contains($0.region) } ?? false
        }
        return order.filter { !isClosed($0) } + order.filter(isClosed)
    }

    /// Of these cells those that are not too far for a VM, in their order; or why there is none.
    func reachable(_ spec: VMDescription, _ groups: [GroupID]) -> Result<[GroupID], Problem> {
        let wish = CellWish(spec)
        let latencies = agent.view.latencies
        let known = groups.compactMap { group in cells.first { $0.group == group } }
        let far = known.filter { wish.isTooFar($0.region, latencies) }
        if far.isEmpty || far.count < known.count {
            return .success(groups.filter { group in !far.contains { $0.group == group } })
        }
        let told = far.prefix(AdminPort.farToldMax).map { cell in
            let micros = latencies.farthest(cell.region, from: spec.near)
            return "\(cell.name) \(micros.map { "\(Nanoseconds.microseconds(Int64(clamping: $0)))" } ?? "unknown")"
        }
        let more = far.count > told.count ? ", and \(far.count - told.count) more" : ""
        return .failure(
            Problem(
                .notPossible,
                "no cell is known to be within \(spec.nearWithin)ms of \(spec.near.joined(separator: " and ")): "
                    + "\(told.joined(separator: ", "))\(more); ask for a longer way, or see `muster region latency`",
                field: "nearWithinMillis"))
    }

    private static let farToldMax = 8

    func run(_ job: CreationJob) {
        var places: [Int] = []
        // Those that ask the same of a cell are shared out together.
        var kinds: [(wish: CellWish, places: [Int])] = []
        // hash order: looked up only
        var known: [CellWish: Int] = [:]
        for (place, creation) in job.creations.enumerated() {
            guard let creation else { continue }
            switch reachable(creation.spec, job.cells) {
            case .failure(let problem): job.results[place] = .failure(problem)
            case .success(let cells):
                job.orders[place] = cells
                places.append(place)
                var wish = CellWish(creation.spec)
                wish.demand = .zero
                if let at = known[wish] {
                    kinds[at].places.append(place)
                } else {
                    known[wish] = kinds.count
                    kinds.append((wish, [place]))
                }
            }
        }
        if job.cells.count > 1 && kinds.count > 1 {
            for kind in kinds {
                let creations = kind.places.compactMap { job.creations[$0] }
                let order = rankedCells(for: creations, job.order(kind.places[0]))
                for place in kind.places { job.orders[place] = order }
            }
        }
        if let spread = job.overRegions { kinds = kinds.flatMap { spreadOut($0, spread, job) } }
        share(kinds.map(\.places)[...], job) { [self] in
            job.waiting = places.reversed()
            goOn(job)
        }
    }

    /// VMs that ask the same, by whose turn it is: regions that take no VMs have none.
    private func spreadOut(
        _ kind: (wish: CellWish, places: [Int]), _ spread: VMBatch.OverRegions, _ job: CreationJob
    ) -> [(wish: CellWish, places: [Int])] {
        let all = job.order(kind.places[0]).compactMap { group in cells.first { $0.group == group } }
        let closed = agent.view.cluster?.regions.filter { $0.isLost || $0.isEvacuated }.map(\.name) ?? []
        let open = all.filter { agent.view.report(of: $0.group)?.hosts != 0 && !closed.contains($0.region) }
        let turns = CellRanking.turns(
            (open.isEmpty ? all : open).map { ($0.group, $0.region) }, isHard: spread == .hard)
        for (turn, place) in kind.places.enumerated() { job.orders[place] = turns[turn % turns.count] }
        return turns.indices.map { turn in
            (kind.wish, kind.places.enumerated().filter { $0.offset % turns.count == turn }.map(\.element))
        }
    }

    private func share(_ kinds: ArraySlice<[Int]>, _ job: CreationJob, _ done: @escaping () -> Void) {
        guard let places = kinds.first, let first = places.first else { return done() }
        share(places, among: job.order(first)[...], job) { [self] in share(kinds.dropFirst(), job, done) }
    }

    /// Gives each VM to the first cell that would place it now, and the rest to the best one.
    private func share(
        _ places: [Int], among cells: ArraySlice<GroupID>, _ job: CreationJob, _ done: @escaping () -> Void
    ) {
        guard let cell = cells.first, job.cells.count > 1, !places.isEmpty, agent.loop.now < job.deadline else {
            for place in places { job.targets[place] = job.order(place)[0] }
            return done()
        }
        planned(places.compactMap { job.creations[$0] }, cell, job.asker) { [self] placed in
            var rest: [Int] = []
            for place in places {
                guard let creation = job.creations[place] else { continue }
                if placed.contains([creation.tenant, creation.name]) {
                    job.targets[place] = cell
                } else {
                    rest.append(place)
                }
            }
            share(rest, among: cells.dropFirst(), job, done)
        }
    }

    /// Tenants and names of those that a cell would place now.
    private func planned(
        _ creations: [VMCreation], isAtomic: Bool = false, _ cell: GroupID, _ asker: FleetAsker,
        _ done: @escaping (Set<[String]>) -> Void
    ) {
        hand(.plan(.create(creations, isAtomic: isAtomic)), cell, asker) { answer in
            var placed: Set<[String]> = []
            if answer.status == 200, case .bytes(let body) = answer.body,
                // What can't be read says of nobody that there is room.
                let plan = try? JSONParser.parse(body[...], depthMax: 32, valuesMax: 1 << 20)
            {
                let steps = plan["steps"]?.elements ?? []
                // Another cell may have room without stopping others. Those that fit as it is come first.
                let easy = steps.prefix { $0["action"]?.text != CellPlan.Step.Kind.preempt.rawValue }
                if !isAtomic || easy.count == steps.count {
                    placed = Set(easy.map { [$0["tenant"]?.text ?? "", $0["vm"]?.text ?? ""] })
                }
            }
            done(placed)
        }
    }

    /// The first of the cells that would place all of these now; the best one where none would.
    func cellWithRoom(
        for creations: [VMCreation], _ cells: ArraySlice<GroupID>, best: GroupID, _ asker: FleetAsker,
        _ done: @escaping (GroupID) -> Void
    ) {
        guard let cell = cells.first, cells.count > 1 || cell != best, creations.count <= PlanWish.itemsMax else {
            return done(best)
        }
        planned(creations, isAtomic: true, cell, asker) { [self] placed in
            if placed.count == creations.count { return done(cell) }
            cellWithRoom(for: creations, cells.dropFirst(), best: best, asker, done)
        }
    }

    private func goOn(_ job: CreationJob) {
        while job.underWay < CreationJob.width, let place = job.waiting.popLast() {
            job.underWay += 1
            let cell = job.targets[place] ?? job.order(place)[0]
            create(place, in: cell, tried: [], job.requests[place], replaces: [], job) { [self] result in
                job.results[place] = result
                job.underWay -= 1
                goOn(job)
            }
        }
        if job.underWay == 0 && job.waiting.isEmpty { job.done(job) }
    }

    private func create(
        _ place: Int, in cell: GroupID, tried: [GroupID], _ request: [UInt8], replaces: [UInt8], _ job: CreationJob,
        _ done: @escaping (Result<VMID, Problem>) -> Void
    ) {
        guard let creation = job.creations[place] else { return }
        holdName(of: creation, for: cell, request, replaces: replaces, job.asker) { [self] held in
            switch held {
            case .failure(let problem): done(.failure(problem))
            case .success(let (cell, request)):
                make(creation, in: cell, request, job) { [self] result in
                    // What was refused under a request id is refused for ever: after a loan it is asked under the other one.
                    if case .failure(let failure) = result, failure.isQuota, request == job.requests[place] {
                        return borrow(for: [creation], in: cell, job.asker) { [self] in
                            create(
                                place, in: cell, tried: tried, CreationJob.second(request), replaces: request, job, done
                            )
                        }
                    }
                    let tried = tried + [cell]
                    guard case .failure(let failure) = result, failure.isRoom, agent.loop.now < job.deadline,
                        let next = job.order(place).first(where: { !tried.contains($0) })
                    else { return done(result.mapError { $0.problem }) }
                    create(place, in: next, tried: tried, job.requests[place], replaces: request, job, done)
                }
            }
        }
    }

    private struct CreationFailure: Error {
        var problem: Problem
        /// Another cell may say otherwise.
        var isRoom = false
        /// So may this one, with a part of another's quota.
        var isQuota = false
    }

    /// The same command again while its outcome is unknown: under somebody's own request id it takes effect once. What is this
    /// process's own was sent again already.
    private func make(
        _ creation: VMCreation, in cell: GroupID, _ request: [UInt8], _ job: CreationJob,
        _ done: @escaping (Result<VMID, CreationFailure>) -> Void
    ) {
        let isKept = job.asker.key != nil
        let key: CommandKey = isKept ? .kept(request) : .once(request)
        command(.createVMs([creation], isAtomic: false), key, cell, job.asker) { [self] result in
            switch result {
            case .failure(let problem):
                if problem.kind == .outcomeUnknown, isKept, agent.loop.now < job.deadline {
                    return make(creation, in: cell, request, job, done)
                }
                done(.failure(CreationFailure(problem: problem)))
            case .success(let found):
                job.index = job.creations.count == 1 ? found.revision.index : nil
                var refusal: CellRefusal?
                switch found.outcome {
                case .items(let items):
                    if case .vm(let id)? = items.first { return done(.success(id)) }
                    if case .refused(let why)? = items.first { refusal = why }
                case .refused(let why): refusal = why
                case .done, .kept: break
                }
                guard let refusal else {
                    let lost = Problem(.internal, "the cell gave no result; report this")
                    return done(.failure(CreationFailure(problem: lost)))
                }
                var failure = CreationFailure(problem: Problem(refusal), isRoom: refusal.isWantOfRoom)
                if case .quotaExceeded = refusal { failure.isQuota = true }
                done(.failure(failure))
            }
        }
    }

    // MARK: Names

    /// Where there was never another cell, no name was ever held; else one may be for a VM of a cell that is gone.
    var hasHadCells: Bool { cells.count > 1 || (agent.view.cluster?.cellHighest ?? 0) > 1 }

    /// Has the names of one command held, one after the other; gives the cell that is to carry it out.
    func holdNames(
        of creations: ArraySlice<VMCreation>, for cell: GroupID, _ request: [UInt8], replaces: [UInt8] = [],
        _ asker: FleetAsker,
        _ done: @escaping (Result<GroupID, Problem>) -> Void
    ) {
        guard let first = creations.first else { return done(.success(cell)) }
        holdName(of: first, for: cell, request, replaces: replaces, asker) { [self] held in
            switch held {
            case .failure(let problem): done(.failure(problem))
            case .success(let (cell, _)):
                holdNames(of: creations.dropFirst(), for: cell, request, replaces: replaces, asker, done)
            }
        }
    }

    /// Has the name held for this creation, if there are or were several cells: by the first of the cell's region. Gives the cell where
    /// the VM is to be made and the request id, which are others where this creation was begun before.
    func holdName(
        of creation: VMCreation, for cell: GroupID, _ request: [UInt8], replaces: [UInt8], attempts: Int = 4,
        _ asker: FleetAsker, _ done: @escaping (Result<(GroupID, [UInt8]), Problem>) -> Void
    ) {
        let region = cells.first { $0.group == cell }?.region
        let siblings = cells.filter { $0.region == region }
        guard hasHadCells, let keeper = siblings.first?.group else { return done(.success((cell, request))) }
        let hold = CellCommand.Operation.holdName(
            tenant: creation.tenant, name: creation.name, cell: cell.number, request: request, replaces: replaces)
        command(hold, .once(), keeper, asker) { [self] result in
            switch result {
            case .failure(let problem):
                if problem.kind == .outcomeUnknown, attempts > 0 {
                    return holdName(
                        of: creation, for: cell, request, replaces: replaces, attempts: attempts - 1, asker, done)
                }
                done(.failure(problem))
            case .success(let found):
                guard case .refused(let refusal) = found.outcome else { return done(.success((cell, request))) }
                guard case .nameHeld(let number, let other) = refusal else { return done(.failure(Problem(refusal))) }
                let holder = GroupID(.cell, number: number)
                let isThere = cells.contains { $0.group == holder }
                let isOwn = other == request || other == CreationJob.second(request)
                if isOwn && isThere { return done(.success((holder, other))) }
                guard attempts > 0 else { return done(.failure(Problem(CellRefusal.vmNameTaken(creation.name)))) }
                func takeOver() {
                    holdName(of: creation, for: cell, request, replaces: other, attempts: attempts - 1, asker, done)
                }
                settle(other, of: creation, in: isThere ? holder : nil, siblings.map(\.group), asker) { settled in
                    switch settled {
                    case .failure(let problem): done(.failure(problem))
                    case .success(true): done(.failure(Problem(CellRefusal.vmNameTaken(creation.name))))
                    case .success(false): takeOver()
                    }
                }
            }
        }
    }

    /// Whether the VM of another creation is there. If it is not, that creation comes to nothing from then on: its request id
    /// is used up.
    private func settle(
        _ other: [UInt8], of creation: VMCreation, in cell: GroupID?, _ siblings: [GroupID], _ asker: FleetAsker,
        _ done: @escaping (Result<Bool, Problem>) -> Void
    ) {
        isThere(creation, in: siblings, of: siblings, asker) { [self] found in
            // A retired cell makes nothing.
            guard case .success(false) = found, let cell else { return done(found) }
            command(.noteTime, .kept(other), cell, asker) { [self] result in
                if case .failure(let problem) = result { return done(.failure(problem)) }
                // Either it was used up now, or it was before: then what came of it is there to see.
                isThere(creation, in: siblings, of: siblings, asker, done)
            }
        }
    }

    /// Whether one of the region's cells has the VM, or keeps room for it: it may have gone from one to another, and out of the
    /// region and back. One that left a cell while the next was asked is looked for where it went.
    func isThere(
        _ creation: VMCreation, in cells: [GroupID], of region: [GroupID], hops: Int = 4, _ asker: FleetAsker,
        _ done: @escaping (Result<Bool, Problem>) -> Void
    ) {
        readAll(.vmNamed(tenant: creation.tenant, name: creation.name), .linearizable, cells) { [self] answers in
            var next: [GroupID] = []
            for (cell, answer) in zip(cells, answers) {
                guard case .success(let found) = answer else { return done(answer.map { _ in false }) }
                for row in AdminPort.rows(found.answer).rows {
                    switch row {
                    case .vm(_, .some) where region.contains(cell): return done(.success(true))
                    case .tombstone(_, let gone?) where gone.movedTo > 0:
                        next.append(GroupID(.cell, number: gone.movedTo))
                    default: break
                    }
                }
            }
            next = self.cells.map(\.group).filter { next.contains($0) }
            if next.isEmpty || hops == 0 { return done(.success(false)) }
            isThere(creation, in: next, of: region, hops: hops - 1, asker, done)
        }
    }
}

extension CellRefusal {
    /// Another cell may have what this one has not.
    fileprivate var isWantOfRoom: Bool {
        switch self {
        case .quotaExceeded, .tooMany, .cellClosed: true
        default: false
        }
    }
}
