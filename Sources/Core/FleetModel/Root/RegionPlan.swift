import ClusterBase
internal import Schema

/// What is to become of a region's VMs while the region is there: they leave it, or those that left go back.
///
///                 ┌──── pause ────▶ paused ── resume ──┐
///     evacuate ─▶ running ◀──────────────────────────────┘
///                 │  └── goBack ─▶ running, the other way ── pause, resume, cancel as before
///                 └──── cancel ───▶ cancelled: whoever is on the way and can stay stays, nobody else moves
///
/// It names no VM: the leader of each cell with VMs of the region looks at what is there, and sends some of it on, as many at a
/// time as the cell lets migrate. So a new leader goes on where the one before ended, and a VM that comes later leaves too.
package struct RegionPlan: Hashable, Sendable {
    package enum Direction: Int32, Hashable, Sendable, CaseIterable {
        /// VMs that may move go to cells of other regions, and none comes.
        case evacuate = 1
        /// The region takes VMs again, and those that came from there go home.
        case goBack
    }
    package enum State: Int32, Hashable, Sendable, CaseIterable {
        case running = 1
        /// What is on its way goes on, nothing else begins, and the region still takes nothing.
        case paused
        case cancelled
    }
    /// Who goes home when the region takes VMs again.
    package enum Returns: Int32, Hashable, Sendable, CaseIterable {
        case none = 1
        /// Those that are to by their own policy.
        case policy
        case all

        package var text: String {
            switch self {
            case .none: "none"
            case .policy: "policy"
            case .all: "all"
            }
        }
    }
    package enum Step: Int32, Hashable, Sendable, CaseIterable {
        case evacuate = 1
        case goBack, pause, resume, cancel

        func text(_ region: String) -> String {
            switch self {
            case .evacuate: "evacuate the region \(region)"
            case .goBack: "have the VMs of region \(region) go back there"
            case .pause: "pause the plan for region \(region)"
            case .resume: "go on with the plan for region \(region)"
            case .cancel: "call off the plan for region \(region)"
            }
        }
    }

    /// The epoch of the region's standing that it began with.
    package var number: UInt64
    package var direction: Direction
    package var state: State
    package var returns: Returns
    /// When it began, when it was changed last, and by whom.
    package var since: LogTime
    package var changedAt: LogTime
    package var by: String
    package init(
        number: UInt64, direction: Direction, state: State = .running, returns: Returns = .policy,
        since: LogTime = .zero, changedAt: LogTime = .zero, by: String = ""
    ) {
        self.number = number
        self.direction = direction
        self.state = state
        self.returns = returns
        self.since = since
        self.changedAt = changedAt
        self.by = by
    }

    init?(_ wire: WireRegionPlan) {
        guard let direction = Direction(rawValue: wire.direction.rawValue),
            let state = State(rawValue: wire.state.rawValue), let returns = Returns(rawValue: wire.returns.rawValue)
        else { return nil }
        self.init(
            number: wire.number, direction: direction, state: state, returns: returns, since: LogTime(wire.since),
            changedAt: LogTime(wire.changedAt), by: wire.by)
    }
    var wire: WireRegionPlan {
        WireRegionPlan(
            number: number, direction: WireRegionPlanDirection(rawValue: direction.rawValue),
            state: WireRegionPlanState(rawValue: state.rawValue),
            returns: WireRegionPlanReturns(rawValue: returns.rawValue), since: since.rawValue,
            changedAt: changedAt.rawValue, by: by)
    }
}

extension RegionStanding {
    /// VMs leave it, or would if that did not pause: nothing goes there.
    package var isEvacuated: Bool { plan.map { $0.direction == .evacuate && $0.state != .cancelled } ?? false }
    /// VMs are sent away now.
    package var sendsAway: Bool { !isLost && plan.map { $0.direction == .evacuate && $0.state == .running } ?? false }
    /// Moves of its plan that have not left yet are for nothing: it was called off, or turned round.
    package func callsOff(_ cause: CellMove.Cause) -> Bool {
        switch cause {
        case .evacuation: !isEvacuated
        case .regionBack: isLost || isEvacuated || plan?.state == .cancelled
        case .asked, .regionLost: false
        }
    }

    /// Whether a VM that came from there and is to go back by its own policy, or not, goes now.
    package func takesBack(_ home: CellVM.Home, returnsHome: Bool) -> Bool {
        if isLost { return false }
        guard let plan else { return returnsHome && epoch > home.epoch }
        if plan.direction != .goBack || plan.state != .running { return false }
        return switch plan.returns {
        case .none: false
        case .policy: returnsHome
        case .all: true
        }
    }
}

extension RootStep {
    mutating func planRegion(
        _ name: String, _ step: RegionPlan.Step, _ returns: RegionPlan.Returns?, _ epoch: UInt64,
        _ cluster: inout RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        if name.isEmpty || !RootCheck.isText(name) { return .refused(.invalid(.region)) }
        let nodes = try all(RootNode.self).filter { $0.state != .removed }
        if !nodes.contains(where: { $0.about.locality.region == name }) { return .refused(.unknownRegion(name)) }
        let known = cluster.regions.first { $0.name == name }
        var next: RegionPlan?
        switch step {
        case .evacuate, .goBack: next = begun(known?.plan, step == .evacuate ? .evacuate : .goBack, returns)
        case .pause where known?.plan?.state == .running, .pause where known?.plan?.state == .paused:
            next = changed(known?.plan, .paused, returns)
        case .resume where known?.plan?.state == .running, .resume where known?.plan?.state == .paused:
            next = changed(known?.plan, .running, returns)
        case .cancel: next = changed(known?.plan, .cancelled, returns)
        case .pause, .resume: break
        }
        guard var next else { return .refused(.noRegionPlan(name)) }
        if next == known?.plan { return .done }
        if epoch != known?.epoch ?? 0 { return .refused(.regionChanged(known?.epoch ?? 0)) }
        if step == .evacuate || step == .goBack {
            if known?.isLost == true { return .refused(.regionIsLost(name)) }
        }
        if step == .evacuate {
            let others = nodes.map(\.about.locality.region).filter { $0 != name }
            if others.isEmpty { return .refused(.onlyRegion(name)) }
            let closed = cluster.regions.filter { $0.isLost || $0.isEvacuated }.map(\.name)
            if others.allSatisfy({ closed.contains($0) }) { return .refused(.noRegionLeft(name)) }
        }
        let highest = cluster.regions.map(\.epoch).max() ?? 0
        var standing = known ?? RegionStanding(name: name, epoch: 0, isLost: false, since: time, by: by)
        standing.epoch = cluster.floor(highest) + 1
        if next.number == 0 { next.number = standing.epoch }
        next.changedAt = time
        next.by = by
        standing.plan = next
        return set(standing, &cluster) ? .done : .refused(.tooMany(.regions))
    }

    /// The same where it goes that way already, else a new one.
    private func begun(
        _ known: RegionPlan?, _ direction: RegionPlan.Direction, _ returns: RegionPlan.Returns?
    ) -> RegionPlan {
        let asked = returns ?? known?.returns ?? .policy
        guard var plan = known, plan.direction == direction, plan.state != .cancelled else {
            return RegionPlan(number: 0, direction: direction, returns: asked, since: time)
        }
        plan.returns = asked
        return plan
    }

    private func changed(
        _ known: RegionPlan?, _ state: RegionPlan.State, _ returns: RegionPlan.Returns?
    ) -> RegionPlan? {
        guard var plan = known else { return nil }
        plan.state = state
        if let returns { plan.returns = returns }
        return plan
    }
}
