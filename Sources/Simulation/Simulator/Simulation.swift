public import ClusterBase
import FleetModel
import HistoryChecker
import NodePorts
import NodeRuntime
import RaftCore
import StoreLayout
import WireFormat

/// A promise that a run saw broken.
public struct BrokenPromise: Sendable, CustomStringConvertible {
    /// Which promise, by its number in the list of invariants where it has one.
    public var promise: String
    /// What was seen instead.
    public var detail: String
    /// Simulated time since the start.
    public var at: Nanoseconds
    public var description: String { "\(promise): \(detail) (at \(at.milliseconds) ms)" }
}

/// What one run did and found.
public struct SimulationResult: Sendable {
    /// The seed that the run had.
    public var seed: UInt64
    /// The first promise that was broken; nil when all were kept.
    public var violation: BrokenPromise?
    /// Simulated time from the start to the end.
    public var simulated = Nanoseconds.zero
    /// How many events the run was made of.
    public var events: UInt64 = 0
    /// A hash over every event in order: equal for equal seeds, on every machine.
    public var traceHash: UInt64 = 0
    /// Replicas that began to lead.
    public var elections = 0
    /// Operations that clients invoked, all of them judged.
    public var operations = 0
    /// Of these, operations whose clients never had an answer.
    public var operationsUnknown = 0
    /// Locks that somebody got.
    public var locksTaken = 0
    /// How often each fault struck, in the order of `Fault.allCases`.
    public var faults = [Int](repeating: 0, count: Fault.allCases.count)
    /// How often each plot struck, in the order of `Plot.allCases`.
    public var plots = [Int](repeating: 0, count: Plot.allCases.count)
    /// Snapshots that replicas switched over to.
    public var snapshotsInstalled = 0
    /// Configurations that took effect, counted at each replica.
    public var membershipChanges = 0
    /// What network and disks did, and what that cost.
    public var harm = Harm()
    /// How often the run ended so, in the order of `Ending.allCases`: once, or not.
    public var endings = [Int](repeating: 0, count: Ending.allCases.count)
    /// Entries that were committed, in all groups.
    public var entriesCommitted: UInt64 = 0
    /// What a fleet did, if there was one.
    public var fleet: FleetCounts?
    /// What the upgrade did, in a run of mixed versions.
    public var upgrade: UpgradeCounts?
}

/// What network and disks did to what nodes sent and wrote.
public struct Harm: Sendable {
    /// Copies of one frame count once.
    public var framesSent: UInt64 = 0
    /// Gone, because the link was cut, its queue full, or by chance.
    public var framesLost: UInt64 = 0
    /// Frames that came twice.
    public var framesDoubled: UInt64 = 0
    /// Frames that may have come later than one sent after them.
    public var framesDelayed: UInt64 = 0
    /// Kept while the link was cut, and brought all at once afterwards.
    public var framesHeldBack: UInt64 = 0
    /// Writes that a crash or a full or broken disk took away before they were durable: of logs, and of applied state.
    public var logWritesLost: UInt64 = 0
    /// Batches of applied state that were lost so; it is applied again from the log.
    public var stateBatchesLost: UInt64 = 0
    /// Records of applied state that had rotted and were found by whoever read them.
    public var rottenStatesFound: UInt64 = 0
    /// Committed entries that a forced recovery went on without.
    public var entriesForgotten: UInt64 = 0

    public init() {}

    public static func += (sum: inout Harm, more: Harm) {
        sum.framesSent += more.framesSent
        sum.framesLost += more.framesLost
        sum.framesDoubled += more.framesDoubled
        sum.framesDelayed += more.framesDelayed
        sum.framesHeldBack += more.framesHeldBack
        sum.logWritesLost += more.logWritesLost
        sum.stateBatchesLost += more.stateBatchesLost
        sum.rottenStatesFound += more.rottenStatesFound
        sum.entriesForgotten += more.entriesForgotten
    }
}

/// A whole cluster in one value of time: real nodes (`NodeEngine` over `RaftCore`, `StoreLayout` and the key space),
/// simulated network, disks and clocks, clients, an operator, and a nemesis. One seed decides everything.
///
///     chaos: faults strike, clients work ──▶ faults stop, a core of nodes heals ──▶ the group must come back in time
///
/// Every step is checked against a shadow of what was promised; the clients' history is checked for linearizability.
public final class Simulation {
    /// Decides everything that the profile leaves open.
    public let seed: UInt64
    /// What the run is made of.
    public let profile: Profile
    private(set) var chaosEnd: Int64

    private(set) var now: Int64 = 0
    /// Hosts, VMs and their owners, in a run that has them.
    var fleet: Fleet?
    /// Programs of two versions, in a run that has them.
    var upgrade: Upgrade?
    private var order: UInt64 = 0
    private var events = Heap<WorldEvent>()
    var frames = Slab<PeerFrame>()
    var answers = Slab<(ticket: UInt64, answer: ClientAnswer, node: Int)>()

    var nodes: [SimulatedNode] = []
    var network: Network
    var clients: [SimulatedClient] = []
    var checkers: [ClusterChecker] = []
    var nemesis: Nemesis
    var caretaker: Caretaker
    var plots: Plots
    var course: EndingCourse
    var history = StreamingChecker()
    /// The last value that any client saw of a key, which compare-and-sets expect.
    var lastSeen: [UInt64?]
    var lockOwners: LockOwners
    /// The first of the keys that clients use now.
    var keysFrom: UInt64 = 0
    var result: SimulationResult

    // A stream per purpose: a draw for one shifts no other.
    var networkRandom: PRNG
    private var diskRandom: PRNG
    var clientRandom: PRNG
    var nemesisRandom: PRNG
    var operatorRandom: PRNG
    var heldRandom: PRNG
    var stateDiskRandom: PRNG
    var disasterRandom: PRNG

    private var trace: ChainHash
    /// A leader's disk fell behind, or an operator asked a leader for its office.
    private var hasSteppedAside = false
    /// Receives a line per event, if wanted.
    public var traceLine: ((String) -> Void)?
    var recovery = Recovery()
    /// Of a run that ends in one.
    var disaster: Disaster?
    private var failedNodes: [Int] = []
    private var electionsWhileSettling = 0
    /// Events since time last moved.
    private var standing = 0

    /// Makes the cluster; nothing runs yet. Faults strike for `chaos`. A mutant is named where the build has bugs in
    /// it.
    public init(seed: UInt64, profile: Profile, chaos: Nanoseconds, mutant: String? = nil) {
        self.seed = seed
        var profile = profile
        #if MUTANTS
        profile.settings.raft.mutant = mutant.flatMap { Mutant(rawValue: $0) }
        profile.settings.fleetMutant = mutant.flatMap { FleetMutant(rawValue: $0) }
        profile.settings.upgradeMutant = mutant.flatMap { UpgradeMutant(rawValue: $0) }
        #endif
        self.profile = profile
        chaosEnd = chaos.count
        let random = PRNG(seed: seed)
        networkRandom = random.child(1)
        diskRandom = random.child(2)
        clientRandom = random.child(3)
        nemesisRandom = random.child(4)
        operatorRandom = random.child(5)
        heldRandom = random.child(10)
        stateDiskRandom = random.child(11)
        disasterRandom = random.child(12)
        trace = ChainHash(seed)
        network = Network(count: profile.nodes)
        nemesis = Nemesis()
        plots = Plots(random: random.child(7), nodes: profile.nodes)
        course = EndingCourse(random: random.child(13))
        caretaker = Caretaker(replicaGiven: UInt64(profile.nodes))
        lastSeen = Array(repeating: nil, count: Int(profile.keys))
        lockOwners = LockOwners(
            random: random.child(50), count: profile.fleet == nil && !profile.isMixed ? profile.lockOwners : 0)
        result = SimulationResult(seed: seed)
        if profile.isMixed {
            upgrade = Upgrade(random: random.child(9), nodes: profile.nodes)
            plan(.upgrade, at: 1_000_000_000)
        }
        build(random.child(6))
        if let fleet = profile.fleet { populate(fleet, random.child(8), mutant) }
    }

    private func build(_ source: PRNG) {
        var random = source
        for number in 0..<profile.nodes {
            let drift = random.within(-profile.clockDriftPPMMax...profile.clockDriftPPMMax)
            nodes.append(
                SimulatedNode(
                    world: self, number: number, driftPPM: drift, clockOffset: random.within(0...1_000_000_000_000)))
        }
        for number in 1...profile.groups {
            let voters = profile.fleet.map { min($0.voters, profile.nodes) } ?? profile.nodes
            let group = profile.fleet == nil ? GroupID(UInt64(number)) : Fleet.group(of: number - 1)
            let configuration = Configuration.voters(1...UInt64(voters))
            checkers.append(ClusterChecker(group: group, nodes: profile.nodes, first: configuration))
            for node in nodes { node.install(group: group, configuration) }
        }
        for number in 0..<profile.clients { clients.append(SimulatedClient(number: number, groups: profile.groups)) }
        if profile.fleet == nil { for node in nodes { start(node) } }
        for client in clients {
            plan(.client, at: 50_000_000 + Int64(client.number) * 1_000_000, a: UInt64(client.number))
        }
        planLockOwners()
        plan(.nemesis, at: 1_000_000_000)
        plan(.operatorTurn, at: 500_000_000)
        planPlots()
        planEnding()
    }

    /// The faults stop now, before their time.
    func endChaos() { chaosEnd = now }

    // MARK: Running

    /// Runs to the end, or to the first broken promise.
    public func run() -> SimulationResult {
        while result.violation == nil, let event = events.popFirst() {
            standing = event.at == now ? standing + 1 : 0
            if standing > Simulation.standingMax {
                fail(
                    "time goes on",
                    "\(standing) events at one instant, the last one \(event.kind) at node \(event.node + 1)")
                break
            }
            now = event.at
            if recovery.phase == .chaos && now >= chaosEnd {
                checkCalm()
                beginRecovery()
            }
            if now < Simulation.settledAt { electionsWhileSettling = result.elections }
            if recovery.phase != .chaos && checkRecovery() { break }
            process(event)
        }
        result.simulated = Nanoseconds(now)
        result.traceHash = trace.value
        if result.violation == nil { judgeHistory() }
        for checker in checkers { result.entriesCommitted += UInt64(checker.committed.count) }
        result.fleet = fleet?.counts
        result.upgrade = upgrade?.counts
        // A node's engine and its ports hold each other.
        for node in nodes { node.runtime = nil }
        return result
    }

    /// More events than this at one instant are a loop: something asks to be woken at once, again and again.
    private static let standingMax = 100_000

    /// By then a cluster that nothing disturbs has its leaders.
    private static let settledAt: Int64 = 5_000_000_000

    /// A healthy leader with all links up is never deposed.
    private func checkCalm() {
        // An upgrade restarts leaders too, and one whose disk falls behind what clients want of it is not healthy: it says so itself.
        guard profile.faults.isEmpty, profile.lossPerMille == 0, upgrade == nil, !hasSteppedAside,
            profile.fleet?.losesRegion != true, now > Simulation.settledAt
        else {
            return
        }
        if result.elections > electionsWhileSettling {
            fail(
                "38 a healthy leader stays",
                "\(result.elections - electionsWhileSettling) elections in a run without faults or losses")
        }
    }

    func fail(_ promise: String, _ detail: String) {
        if result.violation == nil {
            result.violation = BrokenPromise(promise: promise, detail: detail, at: Nanoseconds(now))
        }
    }

    func plan(_ kind: WorldEvent.Kind, at: Int64, node: SimulatedNode? = nil, a: UInt64 = 0, b: UInt64 = 0) {
        order += 1
        events.insert(
            WorldEvent(
                at: max(at, now), order: order, kind: kind, node: Int32(node?.number ?? -1), life: node?.life ?? 0,
                a: a, b: b))
    }

    /// What was put off happens now.
    func planAgain(_ event: WorldEvent) {
        order += 1
        var later = event
        later.at = now
        later.order = order
        events.insert(later)
    }

    private func process(_ event: WorldEvent) {
        result.events += 1
        trace.add(UInt64(bitPattern: event.at))
        trace.add(UInt64(event.kind.rawValue) << 32 | UInt64(UInt32(bitPattern: event.node)))
        if let traceLine {
            traceLine("\(event.at) \(event.kind) n\(event.node + 1) \(event.a) \(event.b) \(trace.value)")
        }
        let node = event.node >= 0 ? nodes[Int(event.node)] : nil
        if let node, node.pausedUntil > now,
            [.deliver, .wake, .logDone, .flushDone, .link, .request, .hostStep, .fleetRequest].contains(event.kind)
        {
            // A stopped process sees it when it goes on; its disk and its sockets keep it meanwhile.
            if event.kind == .deliver || event.life == node.life { node.postponed.append(event) }
            return
        }
        switch event.kind {
        case .deliver: deliver(frames.take(event.a), to: node, wasUnderWay: event.b == Simulation.wasUnderWay)
        case .client: clientTurn(Int(event.a), stamp: event.b)
        case .answer:
            let arrived = answers.take(event.a)
            takeAnswer(arrived.ticket, arrived.answer, from: arrived.node)
        case .nemesis: nemesisTurn()
        case .mend: mend(event.a)
        case .resume: if let node, event.a == node.pauses { resume(node) }
        case .release: release(Int(event.a), stamp: event.b)
        case .moment: if let node, event.life == node.life { momentCame(node, event) }
        case .operatorTurn: operatorTurn()
        case .plot: if node.map({ $0.life == event.life }) ?? true { plotTurn(event, node) }
        case .ending: endingTurn()
        case .restart: if let node, event.life == node.life { start(node) }
        case .leaseEnd: if let node { fleet?.leaseEnded(at: node.number, stamp: event.a) }
        case .fleetClient: fleet?.clientTurn(Int(event.a), stamp: event.b)
        case .fleetFault: fleet?.faultTurn()
        case .fleetRegion: fleet?.regionTurn(event.a)
        case .fleetPlan: fleet?.hostsPlanTurn(event.a)
        case .fleetPlot: fleet?.plotCame(event)
        case .upgrade: if node.map({ $0.life == event.life }) ?? true { upgradeTurn(node) }
        case .wake, .logDone, .flushDone, .link, .request, .hostStep, .fleetRequest:
            guard let node, event.life == node.life, node.isRunning else { return }
            processAtNode(event, node)
        }
        drainFailures()
    }

    private func processAtNode(_ event: WorldEvent, _ node: SimulatedNode) {
        switch event.kind {
        case .wake:
            guard event.a == node.wakeStamp else { return }
            node.wakeAt = .max
            turn(node, .tick)
        case .logDone: finishLogWrite(node)
        case .flushDone:
            do throws(StoreError) {
                try node.state.flush()
                turn(node, .stateFlushed(ticket: event.a))
            } catch {
                turn(node, .storageFailed(error.message))
            }
        case .link:
            let other = NodeID(event.a + 1)
            turn(
                node,
                event.b == 0
                    ? .linkBroken(other, .closed) : event.b == 1 ? .linkUp(other) : .linkBroken(other, .refused))
        case .request: deliverRequest(client: Int(event.a), operation: event.b, to: node)
        case .hostStep: fleet?.hostStep(node.number, stamp: event.a)
        case .fleetRequest: fleet?.deliverRequest(client: Int(event.a), attempt: event.b, to: node)
        default: break
        }
    }

    /// One turn of a node's engine, and the checks after it.
    func turn(_ node: SimulatedNode, _ event: consuming NodeEvent) {
        guard let runtime = node.runtime else { return }
        let local = node.local(now)
        runtime.handle(event, now: local)
        runtime.endTurn(now: local)
        check(node)
        if profile.ending == .lossAfterChange { lookForSettledChange(node) }
        scheduleWake(node)
        fleet?.turned(node)
    }

    private func scheduleWake(_ node: SimulatedNode) {
        guard let runtime = node.runtime else { return }
        let wanted = max(now, node.trueTime(of: runtime.deadline))
        if wanted < node.wakeAt {
            node.wakeAt = wanted
            node.wakeStamp += 1
            plan(.wake, at: wanted, node: node, a: node.wakeStamp)
        }
    }

    // MARK: Disks

    func diskDelay() -> Int64 {
        let base = profile.diskLatency.count
        return base + diskRandom.within(0...base)
    }

    private func finishLogWrite(_ node: SimulatedNode) {
        guard let first = node.pendingLog.first else { return }
        if first.endsAt > now || node.diskStalledUntil > now {
            // The disk has stalled meanwhile.
            let later = max(node.diskStalledUntil, first.endsAt)
            plan(.logDone, at: later, node: node)
            return
        }
        _ = node.pendingLog.popFirst()
        if node.failsNextWrite || node.isDiskFull { return failLogWrite(node, first) }
        write(first, to: node)
        turn(node, .logWritten(ticket: first.ticket))
    }

    private func write(_ pending: SimulatedNode.PendingLogWrite, to node: SimulatedNode) {
        do throws(StoreError) {
            try node.logDisk.write(pending.batch, isSynced: true)
        } catch {
            return fail("simulation", "a disk without a fault failed: \(error.message)")
        }
        for item in pending.writes { checker(item.group)?.becameDurable(item, at: node.number, world: self) }
    }

    /// A write or its sync fails. What it wrote may be on the disk or not; nothing queued behind it is.
    private func failLogWrite(_ node: SimulatedNode, _ pending: SimulatedNode.PendingLogWrite) {
        let reason =
            node.isDiskFull ? "no space left on the simulated disk" : "the simulated disk reports a write error"
        let isThere = !node.isDiskFull && diskRandom.chance(1, in: 2)
        node.failsNextWrite = false
        #if MUTANTS
        if profile.settings.raft.mutant == .failedSyncRetried {
            // The kernel has marked the pages clean: the second try succeeds without having written anything.
            return turn(node, .logWritten(ticket: pending.ticket))
        }
        #endif
        if isThere { write(pending, to: node) }
        result.harm.logWritesLost += UInt64(node.pendingLog.count + (isThere ? 0 : 1))
        node.pendingLog.removeAll()
        turn(node, .storageFailed(reason))
    }

    // MARK: Life and death

    /// Ends a node's process. What its disks had not finished may be there or not.
    func crash(_ node: SimulatedNode, restartAfter: Int64?) {
        guard node.isRunning else { return }
        node.runtime = nil
        node.life += 1
        node.wakeAt = .max
        resume(node)
        let reached = diskRandom.below(node.pendingLog.count + 1)
        var done = 0
        while let write = node.pendingLog.popFirst() {
            guard done < reached, !node.isDiskFull, !node.failsNextWrite else {
                result.harm.logWritesLost += 1
                continue
            }
            done += 1
            self.write(write, to: node)
        }
        node.failsNextWrite = false
        node.failsStateWrites = false
        node.logDisk.crash(&diskRandom)
        let unsynced = node.state.unsyncedBatchCount
        node.state.crash(&diskRandom)
        result.harm.stateBatchesLost += UInt64(unsynced - node.state.keptBatchCount)
        dropHeld(of: node.number)
        fleet?.agentEnded(at: node)
        for checker in checkers { checker.crashed(node.number) }
        plots.forget(to: node.number)
        if profile.resetsConnections {
            for other in nodes where other !== node && other.isRunning && !network.isBlocked(node.number, other.number)
            {
                plan(.link, at: now + profile.latencyNear.count, node: other, a: UInt64(node.number), b: 0)
                plan(.link, at: now + profile.latencyNear.count * 3, node: other, a: UInt64(node.number), b: 2)
            }
        }
        if let restartAfter { plan(.restart, at: now + restartAfter, node: node) }
    }

    func start(_ node: SimulatedNode) {
        guard !node.isRunning, !node.isDown else { return }
        node.setDiskFaults()
        do throws(DirectoryRefusal) {
            let opened = try node.open(profile.settings)
            for checker in checkers { checker.restarted(node.number, opened.replicas, opened.damaged, world: self) }
            let local = node.local(now)
            node.life += 1
            var settings = profile.settings
            if let upgrade { settings.level = upgrade.levels[node.number] }
            let runtime = NodeEngine(
                node: node.id, opened: opened, settings: settings, ports: node,
                seed: mix64(seed ^ mix64(UInt64(node.number) << 32 | opened.incarnation.rawValue)), now: local)
            node.runtime = runtime
            fleet?.agentBegins(at: node, opened.incarnation)
            if !lockOwners.owners.isEmpty { runtime.open(level: FeatureLevel.newest) }
            tellLevel(node)
            runtime.endTurn(now: local)
            check(node)
            scheduleWake(node)
            fleet?.turned(node)
            for other in nodes where other !== node && other.isRunning {
                plan(.link, at: now + profile.latencyNear.count * 2, node: other, a: UInt64(node.number), b: 1)
                // A host without a replica hears nothing by itself: it connects again after the refusal.
                if fleet != nil {
                    plan(.link, at: now + profile.latencyNear.count * 6, node: other, a: UInt64(node.number), b: 1)
                }
            }
        } catch {
            node.logDisk.crash(&diskRandom)
            var isLost = false
            if case .damaged = error { isLost = true }
            // Of a host's few records any may be the one that is gone.
            if case .notFormatted = error, fleet != nil { isLost = true }
            if isLost {
                // The operator does what the refusal says: the node comes back with an empty disk.
                node.wipe()
                for checker in checkers { checker.wiped(node.number) }
            }
            // Else there is no space to note its new incarnation: the supervisor tries again.
            plan(.restart, at: now + 500_000_000, node: node)
        }
    }

    func take(_ report: NodeReport, from node: SimulatedNode) {
        traceLine?("\(now) n\(node.number + 1) reports \(report)")
        switch report {
        case .storageFailed: failedNodes.append(node.number)
        case .outdated(let reason):
            stoppedAsOutdated(node, reason)
            failedNodes.append(node.number)
        case .damaged(let group, let replica, let reason):
            checker(group)?.foundDamaged(node.number, replica, reason, world: self)
        case .event(let group, let event):
            checker(group)?.saw(event, at: node.number, world: self)
            if case .steppedDown(_, reason: .asked) = event { hasSteppedAside = true }
            if case .becameLeader = event {
                planMoment(node, group)
                if has(.lateAnswers) && recovery.phase == .chaos { sendLateAnswers(to: node) }
            }
        case .replicaRemoved, .rootChanged, .peerSuspected, .peerHeard, .snapshotResumed: break
        }
    }

    /// A node whose storage failed ends, and is started again by its supervisor.
    private func drainFailures() {
        if failedNodes.isEmpty { return }
        while let number = failedNodes.popLast() {
            crash(nodes[number], restartAfter: 200_000_000 + nemesisRandom.within(0...1_000_000_000))
        }
    }

    func checker(_ group: GroupID) -> ClusterChecker? {
        let i = Int(group.number) - 1
        return i >= 0 && i < checkers.count && checkers[i].group == group ? checkers[i] : nil
    }

    private func check(_ node: SimulatedNode) {
        guard let runtime = node.runtime else { return }
        for checker in checkers {
            checker.check(runtime, at: node.number, world: self)
            // What a node did is part of the trace, and not only when.
            guard let standing = runtime.standing(of: checker.group) else { continue }
            trace.add(standing.term.rawValue << 48 ^ standing.commit.rawValue << 24 ^ standing.applied.rawValue)
            trace.add(checker.chain(at: node.number))
        }
        fleet?.follow(checkers)
    }

    func checkSent(_ frame: PeerFrame, _ from: SimulatedNode) {
        if let traceLine {
            for item in frame.messages {
                traceLine("\(now) n\(from.number + 1) sends \(item.group.rawValue) \(item.message.line)")
            }
        }
        for item in frame.messages { checker(item.group)?.sent(item.message, by: from.number, world: self) }
    }
}
