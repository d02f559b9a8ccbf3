import ClusterBase
import Controllers
import FleetModel
import RaftCore

/// The cells that this node leads, each with the keeper that plans for it. A lost leadership ends its keeper, and what it
/// remembers with it.
struct Cells {
    struct Kept {
        var group: GroupID
        var term: Term
        var keeper: CellKeeper
        /// The keeper knows everything up to this entry, and asks for more from then on.
        var followed = LogIndex.zero
        var followAt = Instant.origin
        /// The root's state from which it knows tenants.
        var tenantsThrough: LogIndex?
        /// When loans that are on their way are looked after next.
        var loansAt = Instant.origin
        /// When VMs on their way to other cells are looked after next, and what is remembered of them.
        var movesAt = Instant.origin
        /// When those that are sent live are looked at again, which is sooner.
        var sentAt = Instant(nanoseconds: .max)
        /// How far the cell was when no move was open in it: none is until it goes on.
        var movesNoneAt: LogIndex?
        var moves = MoveKeeper()
        /// The same of hosts on their way to other cells with their VMs.
        var hostMovesAt = Instant.origin
        var hostMovesNoneAt: LogIndex?
        var hostMoves = HostMoveKeeper()
        /// The same of a plan by which its hosts go to another cell, and the state of the root that it was looked at with.
        var hostsPlanAt = Instant.origin
        var hostsPlanThrough: LogIndex?
        var hostsPlan = HostsPlanKeeper()
        /// When it is looked next whether the cell has outgrown its bound.
        var splitAt = Instant.origin
        /// Names that are being held for VMs that go from here to a region with several cells.
        var claims: [Claim] = []
        /// When VMs that may come from other cells are looked after next.
        var arrivalsAt = Instant.origin
        /// When the root is told next how much room there is, if that has changed.
        var reportAt = Instant.origin
        /// What a loss would cost, which promises are not kept, and when to look again.
        var exposure: CellExposure?
        var commitTimes: CommitTimes?
        var risks: CellRiskWatch?
        var lookAt = Instant.origin
        /// Commands without an outcome, ascending by number.
        var asked: [(number: UInt64, operation: CellCommand.Operation)] = []
    }

    struct Claim {
        var number: UInt64
        var claim: NameClaim
        /// What is asked of the cell when the name is held.
        var operation: CellCommand.Operation
    }

    /// Pages of a state's changes that one turn takes in.
    static let pagesMax = 4
    /// After an answer that helps nobody.
    static let retryInterval = Nanoseconds.milliseconds(100)
    /// Between two looks whether a cell has outgrown its bound.
    static let splitInterval = Nanoseconds.seconds(5)
    /// A keeper with so many commands without an outcome does not plan.
    static let askedMax = 16

    /// Ascending by group.
    var kept: [Kept] = []
    /// Outcomes that the keepers have not heard yet.
    var outcomes: [(group: GroupID, number: UInt64, outcome: CellOutcome)] = []
    /// What became of loans, as the cells say that were told of them.
    var loanAnswers: [(lender: GroupID, tenant: String, loan: QuotaLoan, isTaken: Bool)] = []
    /// What cells said to steps of moves, and whose moves those are.
    var moveAnswers: [(group: GroupID, operation: CellCommand.Operation, outcome: CellResult.Outcome?)] = []
    /// What cells and the root said to steps of moves of hosts, and whose moves those are.
    var hostMoveAnswers: [(group: GroupID, number: UInt64, heard: HostMoveKeeper.Heard)] = []
    /// What cells said to steps of their plans, and about whose hosts.
    var hostsPlanAnswers:
        [(group: GroupID, node: NodeID, operation: CellCommand.Operation, outcome: CellResult.Outcome?)] = []
    /// What cells said to questions about names, and whose these are.
    var claimAnswers: [(group: GroupID, number: UInt64, answer: NameClaim.Answer)] = []
    /// What a shell without a root told of regions.
    // hash order: looked up only
    var told: [GroupID: RegionFacts] = [:]
    /// The same of cells and their plans, and what is asked of a root there.
    var toldRoot: RootView?
    var rootAsks: [RootCommand.Operation] = []
    private var number: UInt64 = 0

    func position(of group: GroupID) -> Int? { kept.firstIndex { $0.group == group } }

    mutating func nextNumber() -> UInt64 {
        number += 1
        return number
    }

    mutating func noteAsked(_ k: Int, _ operation: CellCommand.Operation) -> UInt64 {
        number += 1
        kept[k].asked.append((number, operation))
        return number
    }

    /// Tells the keepers the outcomes of their commands.
    mutating func settle(_ now: Instant) {
        if outcomes.isEmpty { return }
        for (group, number, outcome) in outcomes {
            guard let k = position(of: group), let at = kept[k].asked.firstIndex(where: { $0.number == number }) else {
                continue
            }
            let operation = kept[k].asked.remove(at: at).operation
            kept[k].keeper.take(outcome, of: operation, now: now)
        }
        outcomes.removeAll(keepingCapacity: true)
    }
}

/// Hosts whose guards asked for their leases here, and when last.
struct HostSigns {
    private(set) var all: [(node: NodeID, at: Instant)] = []

    /// This node stood still for `pause` until now.
    mutating func takeOut(_ pause: Nanoseconds, _ now: Instant) {
        for i in all.indices { all[i].at = min(all[i].at + pause, now) }
    }

    /// False when there are too many.
    mutating func note(_ node: NodeID, _ now: Instant) -> Bool {
        if let at = all.firstIndex(where: { $0.node == node }) {
            all[at].at = now
            return true
        }
        // Who was silent for so long has no lease from here.
        if all.count >= Contacts.countMax { all.removeAll { now - $0.at > .seconds(120) } }
        guard all.count < Contacts.countMax else { return false }
        all.append((node, now))
        return true
    }
}
