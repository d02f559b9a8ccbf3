package import ClusterBase
internal import Schema

/// Hosts of a cell go to another cell of its region with the VMs on them, and the cluster sees to it: a split takes some of them,
/// a merge all, and then what is on no host.
///
///              ┌──── pause ────▶ paused ── resume ──┐
///     begun ─▶ running ◀────────────────────────────────┘
///              │  └── nothing is left ─▶ done (─▶ the cell is retired, if a merge asked for that)
///              └──── cancel ───▶ cancelled: what has gone stays gone, who is on the way arrives, nobody else begins
///
/// Each host's way is a whole of its own (``HostMove``), and the root counts it when it hears where the host is. So whoever leads the
/// cell that they leave goes on with what is left, and a host that is moved by hand meanwhile counts, too.
package struct HostsPlan: Hashable, Sendable {
    package enum Kind: Int32, Hashable, Sendable, CaseIterable { case split = 1, merge }
    package enum State: Int32, Hashable, Sendable, CaseIterable { case running = 1, paused, cancelled, done }
    package enum Step: Int32, Hashable, Sendable, CaseIterable { case split = 1, merge, pause, resume, cancel }
    /// What begins one, or changes it.
    package struct Wish: Hashable, Sendable {
        package var step: Step
        /// Of the plan that goes on, pauses or ends; 0 to begin.
        package var number: UInt64 = 0
        /// Where hosts go. A split makes a cell of this name if there is none.
        package var into = ""
        /// Of a split, in the order in which they go.
        package var nodes: [NodeID] = []
        package var retires = false
        package var isAutomatic = false
        package init(_ step: Step) { self.step = step }

        func text(_ cell: String) -> String {
            switch step {
            case .split:
                "split the cell \(cell): \(nodes.count) hosts go to \(into)" + (isAutomatic ? ", beyond its bound" : "")
            case .merge:
                "merge the cell \(cell) into \(into)" + (retires ? ", and retire it" : "")
                    + (isAutomatic ? ", below its bound" : "")
            case .pause: "pause the plan for cell \(cell)"
            case .resume: "go on with the plan for cell \(cell)"
            case .cancel: "call off the plan for cell \(cell)"
            }
        }
    }
    /// A host that did not go when it was to; it is tried again.
    package struct Stay: Hashable, Sendable {
        package var node: NodeID
        package var reason: String
        package var at: LogTime
        package init(node: NodeID, reason: String, at: LogTime) {
            self.node = node
            self.reason = reason
            self.at = at
        }
    }

    /// The revision of the command that began it.
    package var number: UInt64
    package var kind: Kind
    package var state = State.running
    package var to: GroupID
    /// Of a split: the nodes whose hosts are still to go, in that order.
    package var left: [NodeID] = []
    package var retires = false
    /// That have gone, and VMs on them.
    package var hosts: UInt64 = 0
    package var vms: UInt64 = 0
    /// Those that were told of last.
    package var stays: [Stay] = []
    /// When it began, when it was changed last, and by whom.
    package var since: LogTime
    package var changedAt: LogTime
    package var by: String
    /// Since when it runs without a break, how many hosts had gone by then, and when the last one went.
    package var runsSince: LogTime
    package var hostsBefore: UInt64 = 0
    package var lastAt = LogTime.zero
    package var isAutomatic = false
    /// It made the cell that they go to, which gets the settings of this one before the first of them goes.
    package var makesCell = false
    package init(number: UInt64, _ kind: Kind, to: GroupID, at time: LogTime = .zero, by: String = "") {
        self.number = number
        self.kind = kind
        self.to = to
        (since, changedAt, runsSince) = (time, time, time)
        self.by = by
    }

    package static let staysMax = 16

    /// Somebody may go on with it.
    package var isLive: Bool { state == .running || state == .paused }

    /// How many milliseconds the rest takes, if hosts go as they went since it runs; nil where that is not known.
    package func expected(left: Int) -> UInt64? {
        guard state == .running, hosts > hostsBefore, lastAt > runsSince else { return nil }
        return (lastAt.rawValue - runsSince.rawValue) / (hosts - hostsBefore) * UInt64(left)
    }

    mutating func forget(_ node: NodeID) {
        left.removeAll { $0 == node }
        stays.removeAll { $0.node == node }
    }

    mutating func note(_ stay: Stay) {
        stays.removeAll { $0.node == stay.node }
        stays.append(stay)
        if stays.count > HostsPlan.staysMax { stays.removeFirst(stays.count - HostsPlan.staysMax) }
    }

    init?(_ wire: WireHostsPlan) {
        guard let kind = Kind(rawValue: wire.kind.rawValue), let state = State(rawValue: wire.state.rawValue) else {
            return nil
        }
        self.init(number: wire.number, kind, to: GroupID(wire.to), at: LogTime(wire.since), by: wire.by)
        self.state = state
        left = wire.left.map { NodeID($0) }
        retires = wire.retires
        hosts = wire.hosts
        vms = wire.vms
        stays = wire.stays.map { Stay(node: NodeID($0.node), reason: $0.reason, at: LogTime($0.at)) }
        changedAt = LogTime(wire.changedAt)
        runsSince = LogTime(wire.runsSince)
        hostsBefore = wire.hostsBefore
        lastAt = LogTime(wire.lastAt)
        isAutomatic = wire.isAutomatic
        makesCell = wire.makesCell
    }
    var wire: WireHostsPlan {
        WireHostsPlan(
            number: number, kind: WireHostsPlanKind(rawValue: kind.rawValue),
            state: WireHostsPlanState(rawValue: state.rawValue), to: to.rawValue, left: left.map(\.rawValue),
            retires: retires, hosts: hosts, vms: vms,
            stays: stays.map { WireHostsPlan.Stay(node: $0.node.rawValue, reason: $0.reason, at: $0.at.rawValue) },
            since: since.rawValue, changedAt: changedAt.rawValue, by: by, runsSince: runsSince.rawValue,
            hostsBefore: hostsBefore, lastAt: lastAt.rawValue, isAutomatic: isAutomatic, makesCell: makesCell)
    }
}

extension RootView {
    /// The nodes whose hosts a cell's plan still has to bring away, in the order in which they go.
    package func leaving(_ cell: RootCell) -> [RootNode] {
        guard let plan = cell.plan, plan.state != .done else { return [] }
        let first = firstCell?.group
        let own = nodes.filter { $0.state != .removed && ($0.cell ?? first) == cell.group }
        switch plan.kind {
        case .split:
            // hash order: looked up only
            let known = Dictionary(uniqueKeysWithValues: own.map { ($0.id, $0) })
            return plan.left.compactMap { known[$0] }
        case .merge:
            let going = plan.isLive ? own : own.filter { $0.movesTo == plan.to }
            return going.sorted { $0.name < $1.name }
        }
    }

    /// Where a cell's VMs and hosts all go to another one; nil where they do not.
    package func merges(_ cell: GroupID) -> GroupID? {
        guard let plan = self.cell(cell)?.plan, plan.kind == .merge, plan.state == .running else { return nil }
        return plan.to
    }
}

// MARK: At the root

extension RootStep {
    mutating func planHosts(
        _ name: String, _ wish: HostsPlan.Wish, _ cluster: inout RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        guard var cell = try access.record(RootCell.self, RootTable.cells.key(name)) else {
            return .refused(.unknownCell(name))
        }
        if wish.step == .split || wish.step == .merge { return try beginPlan(cell, wish, &cluster) }
        guard var plan = cell.plan, plan.isLive, plan.number == wish.number else {
            return .refused(.noHostsPlan(name))
        }
        switch wish.step {
        case .pause: plan.state = .paused
        case .cancel:
            plan.state = .cancelled
            // Who is on the way arrives.
            let nodes = try all(RootNode.self).filter { $0.state != .removed && $0.movesTo == plan.to }
            plan.left.removeAll { left in !nodes.contains { $0.id == left } }
            plan.stays = []
        case .resume, .split, .merge:
            if plan.state == .running { return .done }
            plan.state = .running
            plan.runsSince = time
            plan.hostsBefore = plan.hosts
        }
        plan.changedAt = time
        plan.by = by
        cell.plan = plan
        put(cell)
        return .done
    }

    private mutating func beginPlan(
        _ cell: RootCell, _ wish: HostsPlan.Wish, _ cluster: inout RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        if wish.into == cell.name { return .refused(.cellsApart(cell.name)) }
        let cells = try all(RootCell.self)
        let into = cells.first { $0.name == wish.into }
        if let refusal = try refusal(of: wish, cell, into, cells) { return .refused(refusal) }
        if into == nil {
            let made = try createCell(wish.into, cell.replicas, cell.region, cell.survives, &cluster)
            if case .refused = made { return made }
        }
        guard let target = try access.record(RootCell.self, RootTable.cells.key(wish.into)) else {
            return .refused(.unknownCell(wish.into))
        }
        var plan = HostsPlan(
            number: revision.rawValue, wish.step == .merge ? .merge : .split, to: target.group, at: time, by: by)
        plan.left = wish.nodes
        plan.retires = wish.retires
        plan.isAutomatic = wish.isAutomatic
        plan.makesCell = into == nil
        var cell = cell
        cell.plan = plan
        put(cell)
        return .done
    }

    private func refusal(
        of wish: HostsPlan.Wish, _ cell: RootCell, _ into: RootCell?, _ cells: [RootCell]
    ) throws(StoreError) -> RootRefusal? {
        let live = cells.filter { $0.plan?.isLive ?? false }
        if live.count >= RootLimits.hostsPlansMax { return .tooMany(.hostsPlans) }
        if live.contains(where: { $0.group == cell.group || $0.plan?.to == cell.group }) {
            return .cellIsPlanned(cell.name)
        }
        if let into {
            if live.contains(where: { $0.group == into.group }) { return .cellIsPlanned(into.name) }
            if into.region != cell.region { return .cellsApart(into.name) }
        }
        if wish.step == .merge {
            if into == nil { return .unknownCell(wish.into) }
            if !wish.nodes.isEmpty { return .invalid(.hosts) }
            if !wish.retires { return nil }
            if cells.allSatisfy({ $0.group >= cell.group }) { return .firstCell(cell.name) }
            return RootCell.keepsNames(cell, of: cells) ? .cellKeepsNames(cell.name) : nil
        }
        // hash order: counted only
        let different = Set(wish.nodes)
        if wish.retires || different.count != wish.nodes.count
            || !(1...RootLimits.plannedHostsMax).contains(wish.nodes.count)
        {
            return .invalid(.hosts)
        }
        let first = cells.map(\.group).min()
        for id in wish.nodes {
            guard let node = try node(id), node.state != .removed else { return .unknownNode(id) }
            if (node.cell ?? first) != cell.group { return .notItsHost(id) }
        }
        return nil
    }

    /// What a cell's leader says of its plan. Of another plan than there is it says nothing.
    mutating func noteHosts(
        _ name: String, _ number: UInt64, _ node: NodeID, _ reason: String
    ) throws(StoreError) -> RootResult.Outcome {
        if !RootCheck.isText(reason) { return .refused(.invalid(.reason)) }
        guard var cell = try access.record(RootCell.self, RootTable.cells.key(name)), var plan = cell.plan,
            plan.number == number, plan.isLive
        else { return .refused(.noHostsPlan(name)) }
        if node.rawValue == 0 {
            guard plan.kind == .merge else { return .refused(.noHostsPlan(name)) }
            let first = try all(RootCell.self).map(\.group).min()
            let hasHosts = try all(RootNode.self).contains {
                $0.state != .removed && ($0.cell ?? first) == cell.group
            }
            if hasHosts { return .refused(.cellHasHosts(name)) }
            end(&plan, of: name)
        } else {
            plan.note(HostsPlan.Stay(node: node, reason: reason, at: time))
        }
        cell.plan = plan
        put(cell)
        return .done
    }

    private mutating func end(_ plan: inout HostsPlan, of name: String) {
        plan.state = .done
        plan.stays = []
        plan.changedAt = time
        let what = plan.kind == .split ? "split" : "merged"
        remark = ("cell.\(what)", "the cell \(name) is \(what): \(plan.hosts) hosts have gone with \(plan.vms) VMs")
    }

    /// A host has gone from one cell to another; or it stays for this reason.
    mutating func hostMoved(
        _ node: NodeID, from source: GroupID?, to: GroupID?, vms: UInt64, _ reason: String
    ) throws(StoreError) {
        guard var cell = try all(RootCell.self).first(where: { $0.group == source }), var plan = cell.plan,
            plan.state != .done
        else { return }
        let known = plan
        if let to {
            let isListed = plan.kind == .merge || plan.left.contains(node)
            plan.forget(node)
            if to == plan.to && isListed {
                plan.hosts += 1
                plan.vms += vms
                plan.lastAt = time
            }
        } else if !plan.isLive {
            plan.forget(node)
        } else if !reason.isEmpty && (plan.kind == .merge || plan.left.contains(node)) {
            plan.note(HostsPlan.Stay(node: node, reason: reason, at: time))
        }
        if plan.kind == .split && plan.left.isEmpty && plan.isLive { end(&plan, of: cell.name) }
        if plan == known { return }
        cell.plan = plan
        put(cell)
    }
}
