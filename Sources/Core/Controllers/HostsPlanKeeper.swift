package import ClusterBase
package import FleetModel

/// What is next in a plan by which hosts of a cell go to another one: asked by whoever leads the cell that they leave.
///
///     next host ─▶ would it go? ─┬─▶ no: the root hears why, and others have their turn
///                                └─▶ root: it is to go ─▶ own cell: released where it is empty, else sent with its VMs
///                                                              └─▶ refused: it stays, by its cell, and then by the root
///
/// What the root and the cell keep says where each host is; what is remembered here is only when to ask again. So a new leader goes on
/// from there. A host that is on its way is brought to its end whatever becomes of the plan.
package struct HostsPlanKeeper: Sendable {
    package enum Ask: Hashable, Sendable {
        /// The cell that hosts leave, about this one; or about a VM that is on no host.
        case own(NodeID?, CellCommand.Operation)
        case root(RootCommand.Operation)
        /// The cell where they go.
        case other(GroupID, CellCommand.Operation)
    }

    /// What the root says of it.
    package struct Facts: Sendable {
        package var cell: RootCell
        package var plan: HostsPlan
        /// The nodes whose hosts are to go, in that order.
        package var leaving: [RootNode]
        /// Nodes whose hosts are in the cell.
        package var nodes: Int
        /// The cell where they go has a majority of its voters.
        package var isReady: Bool
        /// The cell that they leave keeps the names of its region.
        package var keepsNames: Bool
        /// What each of them goes with.
        package var company: HostCompany

        /// Nil where nothing is planned that anybody has to look after.
        package init?(_ view: RootView, _ group: GroupID) {
            guard let cell = view.cell(group), let plan = cell.plan, plan.state != .done else { return nil }
            let leaving = view.leaving(cell)
            if !plan.isLive && leaving.isEmpty { return nil }
            self.cell = cell
            self.plan = plan
            self.leaving = leaving
            let first = view.firstCell?.group
            nodes = view.nodes.count { $0.state != .removed && ($0.cell ?? first) == group }
            let placed = view.placement(plan.to)?.replicas.filter { !$0.isLeaving } ?? []
            isReady = placed.count { $0.phase == .made } > placed.count / 2
            keepsNames = view.cells.filter { $0.region == cell.region }.map(\.group).min() == group
            company = leaving.first.map { view.company(of: $0.id, from: group, to: plan.to) } ?? HostCompany()
        }
    }

    /// Hosts on their way at a time: what everybody else in the cell notices of it is one host's at a time.
    package static let hostsAtOnce = 1
    /// VMs on no host that are on their way at a time.
    package static let vmsAtOnce = 32
    package static let groupsAtOnce = 64
    /// After a question without an answer, or one whose answer has to show first.
    package static let patience = Nanoseconds.seconds(3)
    /// Before a host is tried again that did not go.
    package static let restFirst = Nanoseconds.seconds(2)
    package static let restMax = Nanoseconds.seconds(60)
    package static let vmRest = Nanoseconds.seconds(15)

    private struct Watch {
        /// Of the assignment that this is about.
        var epoch: UInt64
        /// The root was asked to have it go.
        var isBegun = false
        var isInUse = false
        /// It is to stay, and why.
        var stays: String?
        var askAt: Instant
        /// How often it did not go since somebody else led, and when it is tried again.
        var refusals = 0
        var restsUntil = Instant.origin
    }
    // hash order: looked up, or filtered
    private var watched: [NodeID: Watch] = [:]
    /// Until when VMs on no host are not asked again.
    // hash order: looked up, or filtered
    private var asked: [VMID: Instant] = [:]
    private var plan: UInt64 = 0
    /// The cell that the plan made has the settings of this one; and when it is asked again.
    private var areSettingsTaken = false
    private var settingsAt = Instant.origin
    /// Of a merge: so many of the cell's groups are in the other one.
    private var groupsTaken = 0

    package init() {}

    /// What to ask now. `settings` are the cell's; `refusal` says whether the cell would carry out a command as it is; `vms` are the VMs of the cell, asked for
    /// only where no host is left in it, and `groups` its placement groups, asked for when no VM is left either.
    package mutating func plan(
        // hash order: the command that takes them sorts their rows
        _ facts: Facts, now: Instant, settings: [CellSetting: UInt64], refusal: (CellCommand.Operation) -> CellRefusal?,
        vms: () -> [CellVM], groups: () -> [CellGroup]
    ) -> [Ask] {
        if plan != facts.plan.number {
            plan = facts.plan.number
            watched = [:]
            asked = [:]
            areSettingsTaken = !facts.plan.makesCell
            settingsAt = now
            groupsTaken = 0
        }
        // hash order: looked up only
        let known = Set(facts.leaving.map(\.id))
        // hash order: filtered
        watched = watched.filter { known.contains($0.key) }
        var asks: [Ask] = []
        var underWay = 0
        for node in facts.leaving where node.movesTo == facts.plan.to {
            underWay += 1
            if let ask = goOn(node, facts, now) { asks.append(ask) }
        }
        guard facts.plan.state == .running, facts.isReady else { return asks }
        if !areSettingsTaken {
            if now < settingsAt { return asks }
            settingsAt = now + HostsPlanKeeper.patience
            // hash order: filtered
            let shown = settings.filter { CellSetting.shown.contains($0.key) && $0.value != $0.key.standard }
            let take = CellCommand.Operation.takeSettings(
                from: facts.cell.group.number, plan: facts.plan.number, shown)
            return asks + [.other(facts.plan.to, take)]
        }
        underWay += facts.leaving.count { node in
            // The root has not answered yet.
            node.movesTo == nil
                && watched[node.id].map { $0.isBegun && $0.epoch == node.cellEpoch && now < $0.askAt } ?? false
        }
        for node in facts.leaving where underWay < HostsPlanKeeper.hostsAtOnce {
            if let ask = begin(node, facts, now, refusal) {
                if case .root(.moveHost) = ask { underWay += 1 }
                asks.append(ask)
            }
        }
        if facts.plan.kind == .merge && facts.nodes == 0 { asks += sendVMs(vms(), groups, facts, now) }
        return asks
    }

    private mutating func begin(
        _ node: RootNode, _ facts: Facts, _ now: Instant, _ refusal: (CellCommand.Operation) -> CellRefusal?
    ) -> Ask? {
        if node.movesTo != nil { return nil }
        var watch = watched[node.id] ?? Watch(epoch: node.cellEpoch, askAt: now)
        // It was to go, and stayed.
        if watch.epoch != node.cellEpoch { watch = rested(watch, node.cellEpoch, now) }
        defer { watched[node.id] = watch }
        if now < watch.askAt || now < watch.restsUntil { return nil }
        (watch.isBegun, watch.isInUse, watch.stays) = (false, false, nil)
        var reason = refusal(release(node))
        if case .hostInUse? = reason { reason = refusal(send(node, facts)) }
        guard let reason else {
            watch.askAt = now + HostsPlanKeeper.patience
            watch.isBegun = true
            return .root(.moveHost(node.id, to: facts.plan.to, epoch: node.cellEpoch, .begin))
        }
        watch = rested(watch, node.cellEpoch, now)
        let text = HostsPlanKeeper.words(reason)
        if facts.plan.stays.contains(where: { $0.node == node.id && $0.reason == text }) { return nil }
        return .root(.noteHosts(cell: facts.cell.name, number: facts.plan.number, node.id, reason: text))
    }

    private func rested(_ watch: Watch, _ epoch: UInt64, _ now: Instant) -> Watch {
        var watch = watch
        watch.epoch = epoch
        watch.askAt = now
        let rest = HostsPlanKeeper.restFirst * Int64(1 << min(watch.refusals, 5))
        watch.restsUntil = now + min(rest, HostsPlanKeeper.restMax)
        watch.refusals += 1
        return watch
    }

    /// The root knows that it is to go.
    private mutating func goOn(_ node: RootNode, _ facts: Facts, _ now: Instant) -> Ask? {
        var watch = watched[node.id] ?? Watch(epoch: node.cellEpoch, askAt: now)
        defer { watched[node.id] = watch }
        if watch.epoch != node.cellEpoch { watch = Watch(epoch: node.cellEpoch, askAt: now) }
        // What was asked of the root shows.
        if watch.isBegun { (watch.isBegun, watch.askAt) = (false, now) }
        if now < watch.askAt { return nil }
        watch.askAt = now + HostsPlanKeeper.patience
        if watch.stays != nil { return .own(node.id, stay(node, facts)) }
        return .own(node.id, watch.isInUse ? send(node, facts) : release(node))
    }

    private mutating func sendVMs(
        _ vms: [CellVM], _ groups: () -> [CellGroup], _ facts: Facts, _ now: Instant
    ) -> [Ask] {
        if vms.isEmpty {
            let left = groups().dropFirst(groupsTaken).prefix(HostsPlanKeeper.groupsAtOnce)
            if !left.isEmpty {
                if now < settingsAt { return [] }
                settingsAt = now + HostsPlanKeeper.patience
                let take = CellCommand.Operation.takeSettings(
                    from: facts.cell.group.number, plan: facts.plan.number, [:], groups: Array(left))
                return [.other(facts.plan.to, take)]
            }
            return [
                .root(
                    .noteHosts(cell: facts.cell.name, number: facts.plan.number, NodeID(rawValue: 0), reason: ""))
            ]
        }
        // hash order: filtered
        asked = asked.filter { $0.value > now }
        var left = HostsPlanKeeper.vmsAtOnce - vms.count { $0.departure != nil }
        var asks: [Ask] = []
        for vm in vms where left > 0 {
            if vm.departure != nil || vm.arrival != nil || vm.isDeleting || vm.place != nil || asked[vm.id] != nil {
                continue
            }
            left -= 1
            asked[vm.id] = now + HostsPlanKeeper.vmRest
            asks.append(
                .own(nil, .moveVM(vm.id, to: facts.plan.to.number, request: [], keepsName: facts.keepsNames)))
        }
        return asks
    }

    /// Takes in what the cell answered, nil for nothing, and gives what follows from it.
    package mutating func hear(
        _ outcome: CellResult.Outcome?, of operation: CellCommand.Operation, _ node: NodeID, to target: GroupID,
        now: Instant
    ) -> Ask? {
        if case .takeSettings(_, let plan, _, let groups) = operation {
            guard plan == self.plan, outcome != nil else { return nil }
            // One that is refused can not be there: members could not go either.
            areSettingsTaken = true
            groupsTaken += groups.count
            settingsAt = now
            return nil
        }
        guard var watch = watched[node] else { return nil }
        defer { watched[node] = watch }
        switch (operation, outcome) {
        case (_, nil): watch.askAt = now
        case (.releaseHost, .done?): return .root(.moveHost(node, to: target, epoch: watch.epoch, .finish))
        case (.releaseHost, .refused(.hostInUse)?):
            watch.isInUse = true
            watch.askAt = now
        // It is on its way, or has gone; its cell says so to the root. Or all moves are held for a backup.
        case (.releaseHost, .refused(.hostLeaves)?), (.sendHost, .refused(.hostLeaves)?),
            (.releaseHost, .refused(.hostReleased)?), (.sendHost, .refused(.hostReleased)?), (_, .refused(.movesHeld)?):
            break
        case (.sendHost(_, let cell, _, _, _), let outcome?):
            if cell == target.number {
                if case .refused(let refusal) = outcome { keep(&watch, HostsPlanKeeper.words(refusal), now) }
                return nil
            }
            switch outcome {
            // One that its cell does not know has no VMs there.
            case .done, .kept, .items, .refused(.unknownHost), .refused(.hostRemoved):
                let reason = watch.stays ?? ""
                return .root(
                    .moveHost(
                        node, to: GroupID(.cell, number: cell), epoch: watch.epoch, .cancel, reason: reason))
            // It has gone after all.
            case .refused: watch.stays = nil
            }
        case (.releaseHost, .refused(let refusal)?): keep(&watch, HostsPlanKeeper.words(refusal), now)
        default: break
        }
        return nil
    }

    private func keep(_ watch: inout Watch, _ reason: String, _ now: Instant) {
        watch.stays = reason
        watch.askAt = now
    }

    private func release(_ node: RootNode) -> CellCommand.Operation {
        .releaseHost(HostID(rawValue: node.id.rawValue), assignment: node.cellEpoch)
    }

    private func send(_ node: RootNode, _ facts: Facts) -> CellCommand.Operation {
        .sendHost(
            HostID(rawValue: node.id.rawValue), to: facts.plan.to.number, assignment: node.cellEpoch,
            keepsNames: facts.keepsNames, company: facts.company)
    }

    private func stay(_ node: RootNode, _ facts: Facts) -> CellCommand.Operation {
        .sendHost(
            HostID(rawValue: node.id.rawValue), to: facts.cell.group.number, assignment: node.cellEpoch,
            keepsNames: false)
    }

    /// As the root keeps it.
    private static func words(_ refusal: CellRefusal) -> String {
        let text: String
        if case .hostStays(_, let reason) = refusal { text = reason } else { text = "\(refusal)" }
        return text.fitting(RootLimits.textBytesMax)
    }
}

extension String {
    /// Its beginning, of at most so many bytes.
    package func fitting(_ bytes: Int) -> String {
        if utf8.count <= bytes { return self }
        var text = self
        while text.utf8.count > bytes - 3 { text.removeLast() }
        return text + "…"
    }
}
