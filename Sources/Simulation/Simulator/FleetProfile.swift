public import ClusterBase
import FleetModel
import NodeRuntime
import RaftCore

/// What a run with hosts and VMs draws beside its cluster's profile.
public struct FleetProfile: Sendable {
    /// Nodes with a replica of each cell, from the first on; the others are hosts only.
    public var voters = 3
    /// Cells, among which the hosts are dealt out.
    public var cells = 1
    /// Owners of VMs, each with one request under way at a time.
    public var clients = 3
    /// Owners create no more while there are this many.
    public var vmsMax = 24
    /// Whom VMs belong to.
    public var tenants = 2
    /// The longest time from an answer to the owner's next request.
    public var thinkTimeMax = Nanoseconds.milliseconds(400)
    /// After this an owner gives up and counts the outcome as unknown.
    public var operationTimeout = Nanoseconds.seconds(8)
    /// After this an owner asks another node.
    public var attemptTimeout = Nanoseconds.milliseconds(1_500)
    /// Guests go on when their agent ends.
    public var outlivesAgent = true
    /// How long a host's lease lasts.
    public var leaseMilliseconds: UInt64 = 3_000
    /// Between harm to guests and hosts; nil for none.
    public var mishapIntervalMax: Nanoseconds?
    /// Operators change hosts, quotas, rules and settings.
    public var hasOperators = true
    /// VMs ask for more than their room and their owner.
    public var hasRules = true
    /// Each of several cells has a region of its own, and one of these is lost.
    public var losesRegion = false
    /// Hosts go from cell to cell with their VMs.
    public var movesHosts = false
    /// Cells are split and merged by plans beside that.
    public var plansHosts = false
    /// Of the cells, the last ones that no host belongs to until a split makes them: cells are split and merged by themselves, too.
    public var spareCells = 0
    /// The newest feature level is open; with several cells it always is.
    public var opensLevel = false
    /// Controllers move VMs for a better balance by themselves, within bounds that change.
    public var rebalances = false
    /// After a move a VM is left alone for so long.
    public var moveCooldownMilliseconds: UInt64 = 600_000
    /// What each cell keeps free for losses.
    var failoverReserve: FailoverReserve?
    /// Of all that clients ask, in tenths, moves.
    public var movesShare: UInt64 = 2
    /// Clocks of the wall jump.
    public var wallJumps = false
    /// Courses of events that may strike beside the faults.
    public var plots: [FleetPlot] = []

    public init() {}
}

extension Profile {
    /// Draws a cluster with hosts and VMs. Clients of the key space, plots and jumps of the clocks that leases count by are
    /// not part of it: a lease rests on clocks that drift within a bound.
    public static func drawFleet(_ random: inout PRNG, nodes: ClosedRange<Int>) -> Profile {
        var p = draw(&random, nodes: nodes, hasPlots: false)
        p.groups = 1
        p.keys = 1
        p.clients = 0
        p.wanderMax = .milliseconds(500)
        var fleet = FleetProfile()
        fleet.wallJumps = p.faults.contains(.clockJump)
        p.faults.removeAll { $0 == .clockJump }
        fleet.voters = p.nodes < 3 ? p.nodes : min(p.nodes, 3 + 2 * random.below(2))
        fleet.clients = 1 + random.below(5)
        fleet.vmsMax = 4 + random.below(40)
        fleet.tenants = 1 + random.below(3)
        fleet.thinkTimeMax = .milliseconds(random.within(30...1_500))
        fleet.outlivesAgent = random.chance(3, in: 4)
        fleet.leaseMilliseconds = UInt64(random.within(1_000...6_000))
        if random.chance(3, in: 4) && !p.faults.isEmpty {
            fleet.mishapIntervalMax = .milliseconds(random.within(300...6_000))
        }
        fleet.hasOperators = random.chance(3, in: 4)
        fleet.hasRules = random.chance(2, in: 3)
        fleet.movesShare = random.chance(1, in: 2) ? 2 : 6
        p.faultIntervalMax = .milliseconds(random.within(300...4_000))
        // From a stream of its own, so that it shifts nothing.
        var other = random.child(0xF107)
        if !p.faults.isEmpty && other.chance(3, in: 4) {
            fleet.plots = FleetPlot.allCases.filter { _ in other.chance(1, in: 3) }
        }
        // So does this: what goes on in one cell is what it was.
        var several = random.child(0xCE11)
        if p.nodes >= 4 && several.chance(1, in: 4) {
            fleet.cells = p.nodes >= 6 ? 2 + several.below(2) : 2
            fleet.plots = []
            fleet.voters -= 1 - fleet.voters % 2
            p.groups = fleet.cells
            var regions = random.child(16)
            fleet.losesRegion = regions.chance(1, in: 2)
            // Within a region alone.
            var moving = random.child(31)
            fleet.movesHosts = !fleet.losesRegion && moving.chance(2, in: 3)
            var planning = random.child(44)
            fleet.plansHosts = fleet.movesHosts && planning.chance(1, in: 2)
            var dividing = random.child(49)
            if fleet.movesHosts && dividing.chance(1, in: 2) {
                fleet.plansHosts = true
                fleet.spareCells = 1 + dividing.below(2)
                fleet.cells += fleet.spareCells
                p.groups = fleet.cells
            }
        }
        var gangs = random.child(15)
        fleet.opensLevel = gangs.chance(1, in: 2)
        var balance = random.child(40)
        // A plot waits for a VM to be where it was placed.
        if fleet.plots.isEmpty && balance.chance(3, in: 4) {
            fleet.rebalances = true
            fleet.moveCooldownMilliseconds = UInt64(balance.within(1_500...8_000))
            p.settings.rebalanceInterval = .milliseconds(balance.within(300...2_000))
        }
        var reserve = random.child(48)
        if reserve.chance(1, in: 3) {
            let scopes: [PlacementGroup.Scope] = [.host, .host, .rack, .zone]
            fleet.failoverReserve = FailoverReserve(scopes[reserve.below(4)], 1)
        }
        p.fleet = fleet
        p.settings.forwardsRequests = true
        p.settings.runsControllers = true
        // A registration names all guests of a host, in one command.
        p.settings.raft.uncommittedBytesMax = max(p.settings.raft.uncommittedBytesMax, 16_000)
        return p
    }
}

/// What the fleet of a run did.
public struct FleetCounts: Sendable {
    /// VMs that the cell took in.
    public var created = 0
    /// VMs that the cell let go of.
    public var deleted = 0
    /// Sets of VMs, created all or none, that got their first places.
    public var gangsPlaced = 0
    /// VMs that left such a set before it had places: they were stopped, deleted or moved.
    public var gangsLeft = 0
    /// Guests that hosts let their hypervisors start, or take over at the end of a move.
    public var starts = 0
    /// Moves that a cell ordered.
    public var movesBegun = 0
    /// Moves after which the VM's place was another.
    public var movesCommitted = 0
    /// Of all moves, those that controllers began for a better balance.
    public var rebalanced = 0
    /// Back to a host that a drain moved them off.
    public var returned = 0
    /// Off a host that was changed, and that they may not be on any more.
    public var enforced = 0
    /// VMs that went from one cell to another.
    public var cellsChanged = 0
    /// Of those, VMs that ran all the time.
    public var cellsChangedLive = 0
    /// Regions whose nodes all crashed.
    public var regionsLost = 0
    /// VMs that went to another cell because their region was lost.
    public var regionAway = 0
    /// VMs that went home because their region was back.
    public var regionHome = 0
    /// VMs that went to another cell because their region was evacuated.
    public var evacuated = 0
    /// Plans for regions that were begun, paused, resumed, turned round or called off.
    public var regionPlans = 0
    /// Plans for splits and merges that were begun, paused, resumed or called off.
    public var hostsPlans = 0
    /// Splits and merges that cells began by themselves.
    public var plansByThemselves = 0
    /// Hosts that came to be in another cell where there are such plans, by them or by hand.
    public var hostsByPlans = 0
    /// VMs that did not get to another cell after all.
    public var cellsKept = 0
    /// Hosts that went from one cell to another with their VMs.
    public var hostsHandedOver = 0
    /// Hosts that were to go, and stayed.
    public var hostsKept = 0
    /// VMs on hosts that went.
    public var vmsHandedOver = 0
    /// Leases that ran out at their hosts, which then ended the guests.
    public var leasesEnded = 0
    /// Hosts that a cell declared down.
    public var hostsDeclaredDown = 0
    /// Harm done to guests and hypervisors.
    public var mishaps = 0
    /// How often each plot got to its worst moment, in the order of `FleetPlot.allCases`.
    public var plots = [Int](repeating: 0, count: FleetPlot.allCases.count)
    /// Commands that hosts sent to the cell.
    public var commands = 0
    /// Requests of owners that were refused.
    public var refused = 0
    /// VMs at the end of the run that have no place.
    public var waitingAtEnd = 0
    /// VMs at the end of the run.
    public var vmsAtEnd = 0
    /// How often a move was struck at one of its ends: by step (copying, copied, leaving, undoing), and in each by fault and
    /// then by mishap.
    public var movesStruck = [Int](repeating: 0, count: stepCount * strikeCount)

    /// Steps of a move in `movesStruck`.
    public static let stepCount = 4
    /// Kinds of strikes in `movesStruck`: faults, then mishaps.
    public static let strikeCount = Fault.allCases.count + SimulatedHypervisor.Mishap.allCases.count

    public init() {}

    public static func += (a: inout FleetCounts, b: FleetCounts) {
        a.created += b.created
        a.deleted += b.deleted
        a.gangsPlaced += b.gangsPlaced
        a.gangsLeft += b.gangsLeft
        a.starts += b.starts
        a.movesBegun += b.movesBegun
        a.movesCommitted += b.movesCommitted
        a.rebalanced += b.rebalanced
        a.returned += b.returned
        a.enforced += b.enforced
        a.cellsChanged += b.cellsChanged
        a.cellsChangedLive += b.cellsChangedLive
        a.cellsKept += b.cellsKept
        a.regionsLost += b.regionsLost
        a.regionAway += b.regionAway
        a.regionHome += b.regionHome
        a.evacuated += b.evacuated
        a.regionPlans += b.regionPlans
        a.hostsPlans += b.hostsPlans
        a.plansByThemselves += b.plansByThemselves
        a.hostsByPlans += b.hostsByPlans
        a.hostsHandedOver += b.hostsHandedOver
        a.hostsKept += b.hostsKept
        a.vmsHandedOver += b.vmsHandedOver
        a.leasesEnded += b.leasesEnded
        a.hostsDeclaredDown += b.hostsDeclaredDown
        a.mishaps += b.mishaps
        for i in a.plots.indices { a.plots[i] += b.plots[i] }
        a.commands += b.commands
        a.refused += b.refused
        a.waitingAtEnd += b.waitingAtEnd
        a.vmsAtEnd += b.vmsAtEnd
        for i in a.movesStruck.indices { a.movesStruck[i] += b.movesStruck[i] }
    }
}
