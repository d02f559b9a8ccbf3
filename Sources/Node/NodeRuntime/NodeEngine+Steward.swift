package import ClusterBase
import Controllers
package import FleetModel
import NodePorts
import RaftCore
import StoreLayout

// The controllers, on the node that is to run them.

extension NodeEngine {
    /// The root's state as this node knows it; empty while it does not follow it.
    package var root: RootView { steward.view }

    /// How long before `now` everything that the root had acknowledged is in the view for certain; nil while that is not known.
    package func rootAge(_ now: Instant) -> Nanoseconds? {
        var at = steward.currentAt
        // Where the view is what the replica here has applied, it is as current as that.
        if let i = position(of: .root), let heard = steward.heard, heard.applied == replicas[i].applied.index,
            let replicaAt = replicas[i].currentAt
        {
            at = max(at ?? replicaAt, replicaAt)
        }
        return at.map { max(now - $0, .zero) }
    }

    func tendCluster(_ now: Instant) {
        guard settings.runsControllers else { return }
        if steward.isAsking && now >= steward.givesUpAt { steward.isAsking = false }
        if now >= steward.followAt && !steward.isAsking {
            steward.followed(until: now + settings.rootFollowInterval)
            if !hasHeardAll(now) {
                steward.isAsking = true
                steward.asked += 1
                steward.askedAt = now
                steward.givesUpAt = now + settings.forwardTimeout + settings.forwardTimeout
                steward.askedWith = position(of: .root).map { replicas[$0].applied.index }
                steward.askedThrough = steward.view.through
                ask(.query(.root, .root(steward.view.nextQuery)), .follow(steward.asked), now)
            }
        }
        if now >= steward.planAt {
            steward.planAt = now + settings.controllerIdleInterval
            tendReplicas(now)
            tendRoles(now)
            tendGroups(now)
            tendLatencies(now)
        }
    }

    /// Where the root has a replica, its own copy tells that there is nothing to ask for. It may have been left behind, so
    /// that is believed for a while only.
    private func hasHeardAll(_ now: Instant) -> Bool {
        guard let heard = steward.heard, now < heard.at + settings.rootFollowIdleMax, steward.view.through != nil,
            let i = position(of: .root), replicas[i].leader != nil
        else { return false }
        return replicas[i].applied.index == heard.applied
    }

    /// When `tendCluster` has something to do.
    var stewardDeadline: Instant {
        guard settings.runsControllers else { return Instant(nanoseconds: .max) }
        // A look that nothing asked for waits for the next turn that comes anyway: an idle node is made of wake-ups.
        let leeway = steward.isFollowUrgent ? .zero : settings.rootFollowInterval
        return min(steward.planAt, steward.isAsking ? steward.givesUpAt : steward.followAt + leeway)
    }

    private func again(_ now: Instant) {
        steward.planAt = min(steward.planAt, now + settings.controllerInterval)
    }

    // MARK: Asking the root

    func ask(_ request: ClientRequest, _ task: StewardTask, _ now: Instant) {
        let ticket = forwards.ticket(for: .steward(task))
        // A question is asked of another node where the replica here does not answer.
        if case .query = request, settings.forwardsRequests {
            forward(request, ticket, now)
        } else if isAnsweredHere(request) {
            take(request, ticket, now)
        } else if settings.forwardsRequests {
            forward(request, ticket, now)
        } else {
            answer(ticket, .refused(.unavailable))
        }
    }

    func ask(_ operation: RootCommand.Operation, _ now: Instant) {
        steward.commandsUnderWay += 1
        ask(.command(.root, RootCommand(by: "controller", operation).encoded()), .command, now)
    }

    /// May be in the midst of a replica's step: it only notes.
    func tended(_ task: StewardTask, _ answer: ClientAnswer, _ now: Instant) {
        switch task {
        case .command:
            steward.commandsUnderWay -= 1
            // What came of it shows in the view.
            steward.follow(now)
            again(now)
        case .cell(let group, let number): tended(group, number: number, answer)
        case .loan(let group, let tenant, let loan): tended(group, tenant, loan, answer)
        case .move(let group, let operation): tended(group, operation, answer)
        case .hostMove(let group, let number, let operation): tended(group, number: number, operation, answer)
        case .hostsPlan(let group, let node, let operation): tended(group, node, operation, answer)
        case .claim(let group, let number, let isQuery): claimed(group, number, isQuery, answer)
        case .told: break
        case .follow(let number):
            guard number == steward.asked else { return }
            steward.isAsking = false
            guard case .read(.root(let news)) = answer else { return }
            if !isPassed(news), steward.view.take(news) {
                viewChanged(now)
                ports.report(.rootChanged(steward.view.through ?? .zero))
            }
            let isBehind = (steward.view.through ?? .zero) < news.index
            if isBehind { steward.follow(now) } else { steward.currentAt = steward.askedAt }
            steward.heard = isBehind ? nil : steward.askedWith.map { ($0, now) }
        }
    }

    /// The own replica told of it while the question was under way.
    private func isPassed(_ news: RootAnswer) -> Bool {
        guard case .changes(_, let changed) = news.body, let through = steward.view.through,
            let asked = steward.askedThrough
        else { return false }
        return through > asked && changed >= asked && changed < through
    }

    private func viewChanged(_ now: Instant) {
        // A root that is not founded yet knows of no place, and must be found again.
        let directory = steward.view.directory
        if !directory.nodes(of: .root).isEmpty { forwards.directory = directory }
        steward.planAt = now
        if let level = steward.view.cluster?.level { open(level: level) }
    }

    /// Brings the view as far as this node's own replica of the root has come, and asks nobody: what is applied is committed, and
    /// a round trip to other regions would tell no more. Returns whether the view changed. Not from within a replica's step.
    package func followOwnRoot(_ now: Instant) -> Bool {
        guard let i = position(of: .root) else { return false }
        var isNew = false
        while let through = steward.view.through, through < replicas[i].applied.index,
            case .root(let news)? = readHere(.root, .root(steward.view.nextQuery))
        {
            isNew = steward.view.take(news) || isNew
            // One that is not sound is loaded anew, and that is for those who ask.
            guard let reached = steward.view.through, reached > through else { break }
        }
        if isNew { viewChanged(now) }
        return isNew
    }

    /// Somebody waits for what the root says next: it is asked at once.
    package func followRoot(_ now: Instant) { steward.follow(now) }

    // MARK: Controllers

    private func tendReplicas(_ now: Instant) {
        var held = replicas.map { HeldReplica($0.group, $0.raft.peer.replica) }
        held += creations.map { HeldReplica($0.group, $0.replica) }
        let duty = Assignments.plan(steward.view, node: node, held: held)
        for gone in duty.destructions { destroyReplica(gone.group) }
        for creation in duty.creations {
            createReplica(
                creation.held.group, creation.held.replica, creation.members ?? Configuration(members: []), now)
        }
        if !duty.creations.isEmpty || !duty.destructions.isEmpty { again(now) }
        if steward.commandsUnderWay == 0 {
            for report in duty.reports { ask(report, now) }
        }
    }

    private func tendRoles(_ now: Instant) {
        guard let i = position(of: .root), replicas[i].raft.hasCommittedInTerm else {
            steward.leadsRootSince = nil
            steward.rolesSettled = nil
            return
        }
        let since = steward.leadsRootSince ?? now
        steward.leadsRootSince = since
        if steward.commandsUnderWay > 0 { return again(now) }
        let facts = contacts.all.map { NodeWatch.Fact(node: $0.node, since: $0.since, heardAt: $0.heardAt) }
        let watch = NodeWatch(
            own: node, watchingSince: since, facts: facts, gap: settings.contactGap)
        let commands =
            RegionWatch.plan(steward.view, watch, now: now)
            + RoleKeeper.plan(steward.view, watch, now: now, settled: &steward.rolesSettled)
        for command in commands { ask(command, now) }
        let isMoving = steward.view.placements.contains { $0.replicas.contains { $0.isLeaving || $0.phase == .wanted } }
        if isMoving { again(now) }
        // Waiting for a replica is measured in the root's time, which goes on only with commands.
        if isMoving && commands.isEmpty && now - steward.timeNotedAt >= settings.rootTimeInterval {
            steward.timeNotedAt = now
            ask(.noteTime, now)
        }
    }

    private func tendGroups(_ now: Instant) {
        var led: [GroupID] = []
        for i in replicas.indices where replicas[i].raft.isLeader { led.append(replicas[i].group) }
        steward.lead(led)
        for k in steward.kept.indices {
            let kept = steward.kept[k]
            guard let i = position(of: kept.group), let placement = steward.view.placement(kept.group) else { continue }
            let configuration = replicas[i].raft.configurationIndex
            if let settled = kept.settled, settled == (placement.revision, configuration) { continue }
            let standing = standing(i)
            let actions = steward.plan(k, placement, standing, now: now)
            let isLedWell = kept.keeper.heirsAtHome(kept.group, standing, steward.view) == nil
            let isPlaced =
                standing.isSettled && actions.isEmpty && isLedWell && isAtHome(placement, standing.configuration)
            steward.settle(k, placement.revision, configuration, isSettled: isPlaced)
            if !isPlaced { again(now) }
            for action in actions { carryOut(action, kept.group, now) }
        }
        results.removeAll(keepingCapacity: true)
    }

    private func standing(_ i: Int) -> GroupStanding {
        var standing = NodeEngine.standing(of: &replicas[i])
        for member in standing.configuration.members {
            guard let contact = contacts.contact(member.peer.node) else { continue }
            standing.presentSince.append((member.peer.replica, contact.since))
        }
        return standing
    }

    /// In place: a copy of a replica would cost a retain for every reference in it.
    private static func standing(of replica: inout Replica) -> GroupStanding { GroupStanding(replica.raft) }

    /// Whether the configuration is what the placement asks for.
    private func isAtHome(_ placement: GroupPlacement, _ configuration: Configuration) -> Bool {
        placement.replicas.count == configuration.members.count
            && placement.replicas.allSatisfy { placed in
                let role: Role = placed.part == .voter ? .voter : .learner
                return !placed.isLeaving && configuration.member(placed.replica)?.role == role
            }
    }

    private func carryOut(_ action: GroupAction, _ group: GroupID, _ now: Instant) {
        guard let i = position(of: group) else { return }
        switch action {
        case .change(let steps): step(i, .changeMembership(steps), now)
        case .transferLeadership(let heir): step(i, .transferLeadership(to: heir), now)
        case .report(let command):
            if steward.commandsUnderWay == 0 { ask(command, now) }
        }
    }
}
