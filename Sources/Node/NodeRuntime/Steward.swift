import ClusterBase
import Controllers
import FleetModel
import RaftCore

/// What a node does for its cluster beside running its groups: follows the root, and runs the controllers that are its to
/// run.
///
///     root's state ─▶ view ─▶ Assignments              ─▶ replicas made and ended here, reports to the root
///                        ├──▶ GroupKeeper, per group led ─▶ changes of its configuration
///                        └──▶ RoleKeeper, where the root is led ─▶ commands for the root
struct Steward {
    /// One group that is led here.
    struct Kept {
        var group: GroupID
        var keeper = GroupKeeper()
        /// The placement and the configuration that nothing was left to do for.
        var settled: (placement: Revision, configuration: LogIndex)?
    }

    var view = RootView()
    /// Ascending by group.
    private(set) var kept: [Kept] = []
    var isAsking = false
    /// The newest question about the root, and when it is given up for another: nothing else ends the wait for its answer.
    var asked: UInt64 = 0
    var givesUpAt = Instant.origin
    /// When the question under way was asked, and when the newest one was after whose answer the view had all of it.
    var askedAt = Instant.origin
    var currentAt: Instant?
    /// How far this node's own replica of the root was when the root last answered, and when that was.
    var heard: (applied: LogIndex, at: Instant)?
    /// The same of the question under way.
    var askedWith: LogIndex?
    /// How far the view was then.
    var askedThrough: LogIndex?
    var commandsUnderWay = 0
    private(set) var followAt: Instant
    /// Whether something asked for the next look at the root.
    private(set) var isFollowUrgent = true
    var planAt: Instant
    /// Since when this node leads the root: what was silent before is not held against anyone.
    var leadsRootSince: Instant?
    var timeNotedAt: Instant
    var rolesSettled: RoleKeeper.Settled?
    var latencies = LatencyWork()

    init(now: Instant) {
        followAt = now
        planAt = now
        timeNotedAt = now
    }

    /// The root is to be looked at now.
    mutating func follow(_ now: Instant) {
        followAt = min(followAt, now)
        isFollowUrgent = true
    }

    /// It was looked at; again at `then`, or somewhat later.
    mutating func followed(until then: Instant) {
        followAt = then
        isFollowUrgent = false
    }

    /// Keeps what is known of groups still led, and forgets the others.
    mutating func lead(_ groups: [GroupID]) {
        var next: [Kept] = []
        next.reserveCapacity(groups.count)
        var old = kept[...]
        for group in groups {
            while let first = old.first, first.group < group { old.removeFirst() }
            if let first = old.first, first.group == group {
                next.append(first)
            } else {
                next.append(Kept(group: group))
            }
        }
        kept = next
    }

    mutating func plan(
        _ i: Int, _ placement: GroupPlacement, _ standing: GroupStanding, now: Instant
    ) -> [GroupAction] {
        kept[i].keeper.plan(placement, standing, view, now: now)
    }

    mutating func settle(_ i: Int, _ placement: Revision, _ configuration: LogIndex, isSettled: Bool) {
        kept[i].settled = isSettled ? (placement, configuration) : nil
    }
}

/// What a ticket of the steward's is for.
enum StewardTask {
    case follow(UInt64)
    case command
    /// A command of a cell's keeper.
    case cell(GroupID, number: UInt64)
    /// Another cell is told of a loan of this one's.
    case loan(from: GroupID, tenant: String, QuotaLoan)
    /// A step of a VM's way from this cell to another one, in either of them.
    case move(from: GroupID, CellCommand.Operation)
    /// A step of a host's way from this cell to another one with its VMs; without an operation, in the root.
    case hostMove(GroupID, number: UInt64, CellCommand.Operation?)
    /// A step of a plan by which hosts of this cell go to another one, about one of them.
    case hostsPlan(GroupID, NodeID, CellCommand.Operation)
    /// A question about a name that is to be held for a VM of this cell.
    case claim(GroupID, number: UInt64, isQuery: Bool)
    /// Nothing follows from the answer: what came of it shows in the state.
    case told
}
