import ClusterBase
import NodePorts
import NodeRuntime
import RaftCore

/// Breaks things, and mends them after a while.
struct Nemesis {
    struct Damage {
        var fault: Fault
        var node: Int
        /// The links that were cut, as pairs.
        var links: [(from: Int, to: Int)] = []
    }
    /// By number; nil once mended.
    var damages: [Damage?] = []
}

extension Simulation {
    func nemesisTurn() {
        guard recovery.phase == .chaos else { return }
        let wait = nemesisRandom.within(Nanoseconds.milliseconds(20)...profile.faultIntervalMax)
        plan(.nemesis, at: now + wait.count)
        guard !profile.faults.isEmpty, !course.isStaged else { return }
        // Changes of members are what the others must be mixed with.
        let changesMembers = profile.faults.contains(.membership) && nemesisRandom.chance(1, in: 4)
        strike(changesMembers ? .membership : profile.faults[nemesisRandom.below(profile.faults.count)])
    }

    private func strike(_ fault: Fault) {
        let length = nemesisRandom.within(Nanoseconds.milliseconds(10)...profile.faultLengthMax).count
        let node = nodes[nemesisRandom.below(nodes.count)]
        fleet?.struck(node.number, Int(fault.rawValue))
        // What struck nothing is not counted: a node that is down can't crash.
        if inflict(fault, node, length) { result.faults[Int(fault.rawValue)] += 1 }
    }

    private func inflict(_ fault: Fault, _ node: SimulatedNode, _ length: Int64) -> Bool {
        switch fault {
        case .crash:
            guard node.isRunning else { return false }
            crash(node, restartAfter: length)
        case .restartStorm:
            var struck = false
            for other in nodes where nemesisRandom.chance(1, in: 2) {
                struck = struck || other.isRunning
                crash(other, restartAfter: nemesisRandom.within(0...1_000_000_000))
            }
            return struck
        case .pause: return pause(node, length)
        case .wipe: return wipe(node, length)
        case .bitRot: return rot(node, length)
        case .diskStall:
            node.diskStalledUntil = max(node.diskStalledUntil, now + length)
        case .diskFull:
            if node.isDiskFull { return false }
            node.isDiskFull = true
            node.setDiskFaults()
            remember(Nemesis.Damage(fault: fault, node: node.number), length)
        case .writeError:
            if stateDiskRandom.chance(1, in: 2) {
                guard node.isRunning else { return false }
                node.failsStateWrites = true
                node.setDiskFaults()
            } else {
                node.failsNextWrite = true
            }
        case .clockJump: node.jumpClock(by: nemesisRandom.within(0...5_000_000_000))
        case .slowLink: slowLink(node, length)
        case .brokenConnection: return breakConnection(node)
        case .partition, .isolateLeader, .oneWayPartition, .flappingPartition, .bridge:
            return cut(fault, node, length)
        case .membership: return changeMembers()
        case .transfer: return transferLeadership()
        }
        return true
    }

    private func remember(_ damage: Nemesis.Damage, _ length: Int64) {
        nemesis.damages.append(damage)
        plan(.mend, at: now + length, a: UInt64(nemesis.damages.count - 1))
    }

    func mend(_ number: UInt64) {
        guard let damage = nemesis.damages[Int(number)] else { return }
        // What a run leaves broken for its recovery stays so.
        if recovery.leftBehind.contains(damage.node) && recovery.phase != .chaos && damage.fault == .diskFull { return }
        nemesis.damages[Int(number)] = nil
        for link in damage.links { unblock(link.from, link.to) }
        switch damage.fault {
        case .slowLink:
            for other in nodes where other.number != damage.node {
                network.slowness[damage.node * nodes.count + other.number] = 0
                network.slowness[other.number * nodes.count + damage.node] = 0
            }
        case .diskFull:
            nodes[damage.node].isDiskFull = false
            nodes[damage.node].setDiskFaults()
        case .flappingPartition where recovery.phase == .chaos && !course.isStaged && nemesisRandom.chance(3, in: 4):
            cutLinks(damage.links, .flappingPartition, damage.node, nemesisRandom.within(5_000_000...400_000_000))
        default: break
        }
    }

    func pause(_ node: SimulatedNode, _ length: Int64) -> Bool {
        guard node.isRunning, node.pausedUntil <= now else { return false }
        node.pausedUntil = now + length
        node.pauses += 1
        plan(.resume, at: node.pausedUntil, node: node, a: node.pauses)
        return true
    }

    /// A stopped process goes on, or ends.
    func resume(_ node: SimulatedNode) {
        node.pausedUntil = 0
        for event in node.postponed { planAgain(event) }
        node.postponed.removeAll(keepingCapacity: true)
    }

    /// Whether this node may lose what it holds. Where a rotten record waits for its reader, that is the next loss.
    private func mayLose(_ node: SimulatedNode) -> Bool {
        checkers.allSatisfy { $0.mayLose(node.number) } && !isChangingMembers
            && !nodes.contains { $0.hasRottenState }
    }

    private func wipe(_ node: SimulatedNode, _ length: Int64) -> Bool {
        guard mayLose(node) else { return false }
        crash(node, restartAfter: length)
        node.wipe()
        for checker in checkers { checker.wiped(node.number) }
        return true
    }

    /// Changes a bit of something stored, while the process is down, so that its next start must notice.
    private func rot(_ node: SimulatedNode, _ length: Int64) -> Bool {
        guard mayLose(node), node.isRunning else { return false }
        crash(node, restartAfter: length)
        // Of a fleet's hosts most have no state, and what becomes of the one cell is the operator's to mend.
        if fleet == nil && stateDiskRandom.chance(1, in: 3) { return node.rotState(&stateDiskRandom) }
        let isLoss = nemesisRandom.chance(1, in: 4)
        let key = isLoss ? node.logDisk.loseRecord(&nemesisRandom) : node.logDisk.rot(&nemesisRandom)
        guard let key else { return false }
        for checker in checkers where key.bigEndian64(at: 0) == checker.group.rawValue {
            checker.isTainted[node.number] = true
        }
        // A record of the node's own: its start refuses, and all of it goes.
        let isOwn = !checkers.contains { $0.group.rawValue == key.bigEndian64(at: 0) }
        if isOwn && node.number < fleet?.profile.voters ?? nodes.count {
            for checker in checkers { checker.isTainted[node.number] = true }
        }
        return true
    }

    private func slowLink(_ node: SimulatedNode, _ length: Int64) {
        let nanosecondsPerByte = nemesisRandom.within(1_000...40_000)
        for other in nodes where other !== node && nemesisRandom.chance(1, in: 2) {
            network.slowness[node.number * nodes.count + other.number] = nanosecondsPerByte
            if nemesisRandom.chance(1, in: 2) {
                network.slowness[other.number * nodes.count + node.number] = nanosecondsPerByte
            }
        }
        remember(Nemesis.Damage(fault: .slowLink, node: node.number), length)
    }

    private func breakConnection(_ node: SimulatedNode) -> Bool {
        let other = nodes[nemesisRandom.below(nodes.count)]
        guard other !== node, other.isRunning, node.isRunning else { return false }
        plan(.link, at: now, node: node, a: UInt64(other.number), b: 0)
        plan(.link, at: now, node: other, a: UInt64(node.number), b: 0)
        plan(.link, at: now + 3_000_000, node: node, a: UInt64(other.number), b: 1)
        plan(.link, at: now + 3_000_000, node: other, a: UInt64(node.number), b: 1)
        return true
    }

    private func cut(_ fault: Fault, _ node: SimulatedNode, _ length: Int64) -> Bool {
        var links: [(from: Int, to: Int)] = []
        let victim = fault == .isolateLeader ? (leader(of: checkers[0].group) ?? node) : node
        switch fault {
        case .isolateLeader:
            for other in nodes where other !== victim {
                links += [(victim.number, other.number), (other.number, victim.number)]
            }
        case .oneWayPartition:
            for other in nodes where other !== victim && nemesisRandom.chance(2, in: 3) {
                links.append((victim.number, other.number))
            }
        case .bridge:
            // Two nodes that are each linked to one other only: elections with partial connections.
            let bridge = nodes[nemesisRandom.below(nodes.count)]
            for other in nodes where other !== victim && other !== bridge {
                links += [(victim.number, other.number), (other.number, victim.number)]
            }
        default:
            var side = nodes.map { _ in nemesisRandom.chance(1, in: 2) }
            side[victim.number] = true
            for a in nodes {
                for b in nodes where side[a.number] != side[b.number] { links.append((a.number, b.number)) }
            }
        }
        cutLinks(links, fault, victim.number, length)
        return !links.isEmpty
    }

    func cutLinks(_ links: [(from: Int, to: Int)], _ fault: Fault, _ node: Int, _ length: Int64) {
        for link in links { network.block(link.from, link.to, by: 1, at: now) }
        remember(Nemesis.Damage(fault: fault, node: node, links: links), length)
    }

    func mendEverything(except kept: [Int]) {
        for i in nemesis.damages.indices {
            if let damage = nemesis.damages[i], damage.fault == .diskFull, kept.contains(damage.node) { continue }
            mend(UInt64(i))
        }
    }

    // MARK: The group's own changes

    func leader(of group: GroupID) -> SimulatedNode? {
        var found: SimulatedNode?
        var highest = Term.zero
        for node in nodes {
            node.runtime?.inspect(group) { raft, _ in
                if raft.isLeader && raft.term > highest {
                    highest = raft.term
                    found = node
                }
            }
        }
        return found
    }

    private func transferLeadership() -> Bool {
        let group = checkers[nemesisRandom.below(checkers.count)].group
        guard let leader = leader(of: group), leader.pausedUntil <= now else { return false }
        let target: ReplicaID? =
            nemesisRandom.chance(1, in: 2)
            ? nil
            : leader.runtime?.inspect(group) { raft, _ in
                raft.configuration.members[nemesisRandom.below(raft.configuration.members.count)].peer.replica
            }
        turn(leader, .request(.transferLeadership(group, to: target), ticket: Caretaker.ticket))
        return true
    }

    /// A leader that has only just been elected is asked for something that it may not do yet.
    func planMoment(_ node: SimulatedNode, _ group: GroupID) {
        guard recovery.phase == .chaos, !course.isStaged, profile.faults.contains(.membership),
            nemesisRandom.chance(1, in: 3)
        else {
            return
        }
        plan(.moment, at: now, node: node, a: 0, b: group.rawValue)
    }

    func momentCame(_ node: SimulatedNode, _ event: WorldEvent) {
        switch event.a {
        case 1: return crash(node, restartAfter: nemesisRandom.within(0...3_000_000_000))
        case 2: return node.pausedUntil <= now ? sendCommand(to: node, GroupID(event.b)) : ()
        case 3: return crash(node, restartAfter: plots.random.within(0...3_000_000_000))
        default: break
        }
        if let checker = checker(GroupID(event.b)), node.pausedUntil <= now { _ = changeMembers(of: checker, by: node) }
    }

    private func changeMembers() -> Bool {
        let checker = checkers[nemesisRandom.below(checkers.count)]
        guard let leader = leader(of: checker.group), leader.pausedUntil <= now else { return false }
        let isAsked = changeMembers(of: checker, by: leader)
        if profile.faults.contains(.crash) && nemesisRandom.chance(1, in: 3) {
            // What is under way then is in some logs, and committed in none or all of them.
            let length = (profile.latencyFar.count + profile.diskLatency.count) * 3
            plan(.moment, at: now + nemesisRandom.within(0...length), node: leader, a: 1)
        }
        return isAsked
    }

    private func changeMembers(of checker: ClusterChecker, by leader: SimulatedNode) -> Bool {
        guard !checker.isLost.contains(true), !checker.isTainted.contains(true),
            !nodes.contains(where: { $0.hasRottenState })
        else { return false }
        let members = checker.latestConfiguration.members
        let voters = members.filter { $0.role == .voter }
        var steps: [MembershipStep] = []
        for member in members where nemesisRandom.chance(1, in: 3) {
            if member.role == .learner {
                steps.append(
                    nemesisRandom.chance(1, in: 2) ? .promote(member.peer.replica) : .remove(member.peer.replica))
            } else if voters.count - steps.count > 3
                || (voters.count == 3 && steps.isEmpty && nemesisRandom.chance(1, in: 6))
            {
                steps.append(
                    nemesisRandom.chance(1, in: 2) ? .remove(member.peer.replica) : .demote(member.peer.replica))
            }
        }
        guard !steps.isEmpty else { return false }
        turn(leader, .request(.changeMembership(checker.group, steps), ticket: Caretaker.ticket))
        return true
    }
}
