package import ClusterBase
package import FleetModel

/// Decides on which nodes every group's replicas are to be; runs where the root group is led.
///
///     view of the root + what was heard of nodes ──▶ plan ──▶ commands for the root, each for the placement that it saw
///
/// The first cell is made as soon as there is a node. Rules, for the root group, every space and every cell alike:
/// * as many voters as wanted, an odd number where nodes allow it, spread over zones, then regions, racks and load;
/// * the root's next nodes stand by as learners; its voters also move to regions that came later;
/// * a cell that survives a zone has its voters in its region where nodes allow it, one that survives a region in as many
///   regions as there are;
/// * a group with one voter bears no loss, so it takes nodes that are there without waiting whether they stay;
/// * a voter whose log is lost, or whose node is removed, draining or silent for the set time, is replaced, one at a time, by
///   a standby if there is one; a node that comes and goes loses nothing and gets nothing;
/// * nothing new is begun in a group while something is under way in it.
///
/// A plan that comes late is refused by the root, since the placement has changed; executing it twice is harmless.
package enum RoleKeeper {
    /// Commands in one plan; the rest comes with the next one.
    package static let commandsMax = 64
    /// The cell that every cluster has.
    package static let firstCell = "default"
    /// Groups in which replicas move only for a better spread.
    package static let movesMax = 8

    /// What nothing was left to do for: a plan rests on nothing else.
    package struct Settled: Equatable {
        var through: LogIndex?
        var nodes: [NodePool.Standing]
    }

    /// What the root should be asked now. Costs a look at every node, and at every placement unless what was `settled` is as it was.
    package static func plan(
        _ view: RootView, _ watch: NodeWatch, now: Instant, settled: inout Settled?
    ) -> [RootCommand.Operation] {
        guard view.cluster != nil else { return [] }
        let present = Settled(through: view.through, nodes: NodePool.standings(view, watch, now))
        if settled == present { return [] }
        let commands = plan(view, NodePool(view, present.nodes))
        settled = commands.isEmpty ? present : nil
        return commands
    }

    private static func plan(_ view: RootView, _ nodes: NodePool) -> [RootCommand.Operation] {
        var pool = nodes
        var commands: [RootCommand.Operation] = []
        if view.cells.isEmpty && view.nodes.contains(where: { $0.state == .active }) {
            commands.append(.createCell(name: firstCell, replicas: 0))
        }
        let spaces = view.spaces.map { Size(group: $0.group, voters: Int($0.replicas)) }
        let cells = view.cells.map { cell in
            Size(
                group: cell.group, voters: Int(cell.replicas),
                home: cell.survives.map { Spread.Home(region: cell.region, survives: $0) })
        }
        let sizes = (spaces + cells).sorted { $0.group < $1.group }
        var moving = view.placements.count { $0.replicas.contains { $0.isLeaving } }
        for placement in view.placements {
            if commands.count >= commandsMax { break }
            guard let wanted = wanted(for: placement.group, view, sizes) else { continue }
            if placement.replicaHighest.rawValue == 0 {
                let nodes = pool.founders(wanted.voters, wanted.home)
                if nodes.isEmpty { continue }
                for node in nodes { pool.take(node) }
                commands.append(.foundGroup(placement.group, nodes: nodes))
                continue
            }
            var planner = GroupPlanner(placement, wanted, pool, mayMove: moving < movesMax)
            let changes = planner.plan()
            if changes.isEmpty { continue }
            for case .add(let node, _) in changes { pool.take(node) }
            if planner.isMove { moving += 1 }
            commands.append(.changePlacement(placement.group, revision: placement.revision, changes))
        }
        return commands
    }

    struct Wanted {
        var voters: Int
        var standbys: Int
        /// Whether operators' wishes about voting count.
        var isRoot: Bool
        /// Of a cell that has one.
        var home: Spread.Home?
    }

    private struct Size {
        var group: GroupID
        var voters: Int
        var home: Spread.Home?
    }

    private static func wanted(for group: GroupID, _ view: RootView, _ sizes: [Size]) -> Wanted? {
        if group == .root {
            return Wanted(
                voters: Int(view.settings[.rootVoters]), standbys: Int(view.settings[.rootStandbys]), isRoot: true)
        }
        var low = 0
        var high = sizes.count
        while low < high {
            let middle = (low + high) / 2
            if sizes[middle].group < group { low = middle + 1 } else { high = middle }
        }
        guard low < sizes.count, sizes[low].group == group else { return nil }
        return Wanted(voters: sizes[low].voters, standbys: 0, isRoot: false, home: sizes[low].home)
    }
}

/// The nodes as a plan sees them. Ascending by id.
struct NodePool {
    /// What was heard of a node.
    struct Standing: Equatable {
        /// There long enough to be given something.
        var isStable: Bool
        var isPresent: Bool
        /// Silent for so long that its part goes to another.
        var isSilent: Bool
    }

    struct Entry {
        var node: RootNode
        /// Replicas that it holds or is to hold.
        var load = 0
        /// Active, and not draining.
        var isWanted: Bool
        var standing: Standing

        var isStable: Bool { standing.isStable }
        var isPresent: Bool { standing.isPresent }
        var isSilent: Bool { standing.isSilent }
    }

    private(set) var entries: [Entry]
    /// A replica that is wanted since before this time is not going to be made.
    let wantedSinceMin: LogTime

    /// Of every node of the view, in its order.
    static func standings(_ view: RootView, _ watch: NodeWatch, _ now: Instant) -> [Standing] {
        let stableFor = Nanoseconds.milliseconds(Int64(clamping: view.settings[.stableFor]))
        let replaceAfter = Nanoseconds.milliseconds(Int64(clamping: view.settings[.replaceAfter]))
        return view.nodes.map { node in
            let presence = watch.presence(of: node.id, at: now)
            return Standing(
                isStable: presence.map { $0 >= stableFor } ?? false, isPresent: presence != nil,
                isSilent: watch.silence(of: node.id, at: now) >= replaceAfter)
        }
    }

    init(_ view: RootView, _ standings: [Standing]) {
        let patience = view.settings[.replaceAfter]
        wantedSinceMin = LogTime(view.time.rawValue > patience ? view.time.rawValue - patience : 0)
        entries = zip(view.nodes, standings).map { node, standing in
            Entry(node: node, isWanted: node.state == .active && !node.isDraining, standing: standing)
        }
        for placement in view.placements {
            for replica in placement.replicas { take(replica.node) }
        }
    }

    private func position(_ id: NodeID) -> Int? {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].node.id < id { low = middle + 1 } else { high = middle }
        }
        return low < entries.count && entries[low].node.id == id ? low : nil
    }

    subscript(id: NodeID) -> Entry? { position(id).map { entries[$0] } }

    mutating func take(_ id: NodeID) {
        if let i = position(id) { entries[i].load += 1 }
    }

    /// The first nodes of a new group: an odd number, at most `count`.
    func founders(_ count: Int, _ home: Spread.Home? = nil) -> [NodeID] {
        var free = entries.filter { $0.isWanted && $0.isStable }
        if free.count < count { free = entries.filter { $0.isWanted && $0.isPresent } }
        var wanted = min(count, free.count)
        if wanted > 1 && wanted.isMultiple(of: 2) { wanted -= 1 }
        var chosen: [Entry] = []
        while chosen.count < wanted {
            guard let best = Spread(chosen, home).best(free) else { break }
            chosen.append(best)
            free.removeAll { $0.node.id == best.node.id }
        }
        return chosen.map(\.node.id)
    }
}

/// How voters lie over zones, regions and racks.
struct Spread {
    /// What a cell's voters are spread for.
    struct Home {
        var region: String
        var survives: RootCell.Survival
    }

    private let voters: [NodePool.Entry]
    private let home: Home?

    init(_ voters: [NodePool.Entry], _ home: Home?) {
        self.voters = voters
        self.home = home
    }

    private func isAway(_ entry: NodePool.Entry) -> Bool {
        home.map { $0.region != entry.node.about.locality.region } ?? false
    }

    /// Voters in the zone of `entry`, itself included if it is one.
    private func zoneCount(_ entry: NodePool.Entry) -> Int {
        let place = entry.node.about.locality
        return voters.count {
            $0.node.about.locality.region == place.region && $0.node.about.locality.zone == place.zone
        }
    }

    private func regionCount(_ entry: NodePool.Entry) -> Int {
        voters.count { $0.node.about.locality.region == entry.node.about.locality.region }
    }

    private func rackCount(_ entry: NodePool.Entry) -> Int {
        voters.count { $0.node.about.locality == entry.node.about.locality }
    }

    /// The smaller, the better a place for one more voter.
    private func cost(_ entry: NodePool.Entry) -> [UInt64] {
        let (zone, region, away) = (
            UInt64(zoneCount(entry)), UInt64(regionCount(entry)), UInt64(isAway(entry) ? 1 : 0)
        )
        let first: [UInt64] =
            switch home?.survives {
            case nil: [zone, region]
            case .zone: [away, zone, region]
            case .region: [region, away, zone]
            }
        return first + [UInt64(rackCount(entry)), UInt64(entry.load), entry.node.id.rawValue]
    }

    /// Whether a voter moves from `worst`, which is one, to `entry`, which is none, only to be spread better. What it
    /// betters no later move takes back. Over regions that came later goes the root alone: a space or a cell that nobody asked
    /// that of would answer slower from then on.
    func gains(from worst: NodePool.Entry, to entry: NodePool.Entry, isRoot: Bool) -> Bool {
        let zones = zoneCount(worst) - zoneCount(entry)
        let regions = regionCount(worst) - regionCount(entry)
        switch home?.survives {
        case nil: return zones >= 2 || (isRoot && zones >= 1 && regions >= 2)
        case .zone: return isAway(worst) == isAway(entry) ? zones >= 2 : isAway(worst)
        case .region:
            let isSame = worst.node.about.locality.region == entry.node.about.locality.region
            return regions >= 2 || (isSame && zones >= 2)
        }
    }

    func best(_ entries: [NodePool.Entry]) -> NodePool.Entry? {
        entries.min { cost($0).lexicographicallyPrecedes(cost($1)) }
    }

    /// The voter that is missed least.
    func worst(_ entries: [NodePool.Entry]) -> NodePool.Entry? {
        entries.max { cost($0).lexicographicallyPrecedes(cost($1)) }
    }
}

/// The changes of one group's placement.
struct GroupPlanner {
    private let placement: GroupPlacement
    private let wanted: RoleKeeper.Wanted
    private let pool: NodePool
    private let mayMove: Bool
    private var taken: [NodeID]
    private let isAlone: Bool
    private var changes: [PlacementChange] = []
    /// Whether the change is only for a better place.
    private(set) var isMove = false

    init(_ placement: GroupPlacement, _ wanted: RoleKeeper.Wanted, _ pool: NodePool, mayMove: Bool) {
        self.placement = placement
        self.wanted = wanted
        self.pool = pool
        self.mayMove = mayMove
        taken = placement.replicas.map(\.node)
        isAlone = placement.voterCount <= 1
    }

    mutating func plan() -> [PlacementChange] {
        let staying = placement.replicas.filter { !$0.isLeaving }
        let voters = staying.filter { $0.part == .voter }
        let standbys = staying.filter { $0.part == .standby }
        for standby in standbys where isDoomed(standby) { changes.append(.leave(standby.replica)) }
        let isBusy = placement.replicas.contains { $0.isLeaving || ($0.phase == .wanted && !isDoomed($0)) }
        if let doomed = voters.first(where: { isDoomed($0) && (!isBusy || $0.phase == .wanted) }) {
            replace(doomed, voters, standbys)
            return changes
        }
        if isBusy || !changes.isEmpty || voters.contains(where: isDoomed) { return changes }
        adjustVoters(voters, standbys)
        if changes.isEmpty { rearrange(voters, standbys) }
        if changes.isEmpty { adjustStandbys(voters, standbys) }
        return changes
    }

    private func isDoomed(_ replica: PlacedReplica) -> Bool {
        guard let entry = pool[replica.node], entry.isWanted else { return true }
        if replica.phase == .wanted && replica.since < pool.wantedSinceMin { return true }
        return replica.phase == .lost || entry.isSilent
    }

    private func mayVote(_ entry: NodePool.Entry) -> Bool { !wanted.isRoot || entry.node.voting != .never }

    private func mayCome(_ entry: NodePool.Entry) -> Bool { isAlone ? entry.isPresent : entry.isStable }

    private func entries(_ replicas: [PlacedReplica]) -> [NodePool.Entry] { replicas.compactMap { pool[$0.node] } }

    /// Those that may become voters: standbys that are there, then nodes without a replica; the wished-for before others.
    private func bestVoter(
        beside voters: [PlacedReplica], _ standbys: [PlacedReplica]
    ) -> (change: PlacementChange, entry: NodePool.Entry)? {
        let spread = Spread(entries(voters), wanted.home)
        func choice(_ isPreferred: Bool) -> (change: PlacementChange, entry: NodePool.Entry)? {
            func fits(_ entry: NodePool.Entry) -> Bool {
                mayVote(entry) && (!isPreferred || (wanted.isRoot && entry.node.voting == .preferred))
            }
            let ready = standbys.filter { $0.phase == .made && !taken(asVoter: $0) && !isDoomed($0) }
            if let best = spread.best(entries(ready).filter { fits($0) && mayCome($0) }),
                let standby = ready.first(where: { $0.node == best.node.id })
            {
                return (.setPart(standby.replica, .voter), best)
            }
            let free = pool.entries.filter {
                $0.isWanted && mayCome($0) && fits($0) && !taken.contains($0.node.id)
            }
            return spread.best(free).map { (.add($0.node.id, .voter), $0) }
        }
        return choice(true) ?? choice(false)
    }

    private func taken(asVoter standby: PlacedReplica) -> Bool {
        changes.contains { $0 == .setPart(standby.replica, .voter) || $0 == .leave(standby.replica) }
    }

    private mutating func replace(_ doomed: PlacedReplica, _ voters: [PlacedReplica], _ standbys: [PlacedReplica]) {
        let others = voters.filter { $0.replica != doomed.replica }
        if let (change, _) = bestVoter(beside: others, standbys) {
            changes += [change, .leave(doomed.replica)]
            return
        }
        // One that can never vote again is only in the way, even when nothing comes in its place.
        let isGone = doomed.phase == .lost || pool[doomed.node].map { $0.node.state == .removed } ?? true
        if isGone && others.contains(where: { !isDoomed($0) }) { changes.append(.leave(doomed.replica)) }
    }

    private mutating func adjustVoters(_ voters: [PlacedReplica], _ standbys: [PlacedReplica]) {
        let available = pool.entries.count { $0.isWanted && mayVote($0) }
        var target = min(wanted.voters, available)
        if target > 1 && target.isMultiple(of: 2) { target -= 1 }
        if voters.count < target {
            var chosen: [(change: PlacementChange, entry: NodePool.Entry)] = []
            var all = voters
            while all.count < target, let next = bestVoter(beside: all, standbys) {
                chosen.append(next)
                changes.append(next.change)
                taken.append(next.entry.node.id)
                all.append(
                    PlacedReplica(
                        replica: ReplicaID(0), node: next.entry.node.id, part: .voter, phase: .wanted, since: .zero))
            }
            // An even number of voters bears no more failures than one less.
            if all.count.isMultiple(of: 2) && !chosen.isEmpty { changes.removeLast() }
        } else if voters.count > wanted.voters {
            var left = voters
            while left.count > wanted.voters, let worst = Spread(entries(left), wanted.home).worst(entries(left)),
                let i = left.firstIndex(where: { $0.node == worst.node.id })
            {
                let gone = left.remove(at: i)
                changes.append(wanted.isRoot ? .setPart(gone.replica, .standby) : .leave(gone.replica))
            }
        }
    }

    /// Better places for the voters there are: what operators wish, and fewer in one zone.
    private mutating func rearrange(_ voters: [PlacedReplica], _ standbys: [PlacedReplica]) {
        let all = entries(voters)
        let spread = Spread(all, wanted.home)
        func release(_ voter: PlacedReplica) -> PlacementChange {
            wanted.isRoot ? .setPart(voter.replica, .standby) : .leave(voter.replica)
        }
        if wanted.isRoot {
            if let unwilling = voters.first(where: { pool[$0.node]?.node.voting == .never }),
                let (change, _) = bestVoter(beside: voters.filter { $0 != unwilling }, standbys)
            {
                changes = [change, .setPart(unwilling.replica, .standby)]
                return
            }
            let plain = all.filter { $0.node.voting != .preferred }
            if let worst = spread.worst(plain), let gone = voters.first(where: { $0.node == worst.node.id }),
                let (change, entry) = bestVoter(beside: voters.filter { $0 != gone }, standbys),
                entry.node.voting == .preferred
            {
                changes = [change, .setPart(gone.replica, .standby)]
                return
            }
        }
        guard mayMove else { return }
        let movable = all.filter { !wanted.isRoot || $0.node.voting != .preferred }
        guard let worst = spread.worst(movable), let gone = voters.first(where: { $0.node == worst.node.id }),
            let (change, entry) = bestVoter(beside: voters.filter { $0 != gone }, standbys),
            spread.gains(from: worst, to: entry, isRoot: wanted.isRoot)
        else { return }
        isMove = true
        changes = [change, release(gone)]
    }

    private mutating func adjustStandbys(_ voters: [PlacedReplica], _ standbys: [PlacedReplica]) {
        if standbys.count > wanted.standbys {
            if let worst = Spread(entries(voters), wanted.home).worst(entries(standbys)),
                let gone = standbys.first(where: { $0.node == worst.node.id })
            {
                changes.append(.leave(gone.replica))
            }
            return
        }
        var count = standbys.count
        while count < wanted.standbys {
            let free = pool.entries.filter {
                $0.isWanted && $0.isStable && mayVote($0) && !taken.contains($0.node.id)
            }
            guard let best = Spread(entries(voters), wanted.home).best(free) else { return }
            changes.append(.add(best.node.id, .standby))
            taken.append(best.node.id)
            count += 1
        }
    }
}
