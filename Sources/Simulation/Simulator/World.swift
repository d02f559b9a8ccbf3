import ClusterBase
import NodePorts

/// What is going to happen, ordered by true time and, at one time, by when it was planned.
struct WorldEvent: Comparable {
    enum Kind: UInt8 {
        /// A frame arrives: `a` is its slot.
        case deliver
        /// A node's timer: `a` is the stamp it must still have.
        case wake
        /// The oldest log write of a node ends.
        case logDone
        /// A flush of applied state ends: `a` is its ticket.
        case flushDone
        /// A connection between two nodes ends or begins: `a` is the other node, `b` 0 for closed, 1 for up, 2 for refused.
        case link
        /// A client's turn: `a` is the client, `b` the stamp it must still have.
        case client
        /// A client's request reaches a node: `a` is the client, `b` the operation.
        case request
        /// An answer reaches a client or the operator: `a` is its slot.
        case answer
        /// The nemesis strikes.
        case nemesis
        /// Something that the nemesis broke is mended: `a` is its number.
        case mend
        /// The worst moment for a node: `a` is 0 to ask it for other members of the group `b`, 1 and 3 to crash it,
        /// 2 to give it a command for that group.
        case moment
        case operatorTurn
        case restart
        /// A leader is deposed; with a node, the former leader of the group `b` is brought back.
        case plot
        /// The step of a node's host keeper: `a` is the stamp it must still have.
        case hostStep
        /// The end of a host's lease by its own clock, whatever became of its agent: `a` is the stamp it must still have.
        case leaseEnd
        /// A turn of a fleet client: `a` is the client, `b` the stamp it must still have.
        case fleetClient
        /// A fleet client's request reaches a node: `a` is the client, `b` the attempt.
        case fleetRequest
        /// Harm to guests, hosts and clocks of the wall.
        case fleetFault
        /// A stopped process goes on: `a` is the number of the pause.
        case resume
        /// A link brings what was held back while it was cut: `a` is the link, `b` the stamp it must still have.
        case release
        /// The operator of an upgrade acts; with a node, that node hears of the open level.
        case upgrade
        /// The course of the run's ending goes on.
        case ending
        /// A region is lost, and back: `a` is the step.
        case fleetRegion
        /// Cells are split and merged by plans: `a` is what happens.
        case fleetPlan
        /// The plot of a fleet goes on: `a` is what happens, `b` the host.
        case fleetPlot
    }

    var at: Int64
    var order: UInt64
    var kind: Kind
    var node: Int32
    /// The life of the node that this belongs to; of an earlier life it is void.
    var life: UInt32
    var a: UInt64
    var b: UInt64

    static func < (x: WorldEvent, y: WorldEvent) -> Bool { x.at != y.at ? x.at < y.at : x.order < y.order }
}

/// Slots that are used again, so that an event can carry something large as a number.
struct Slab<Element> {
    private var items: [Element?] = []
    private var free: [Int] = []

    mutating func put(_ element: consuming Element) -> UInt64 {
        if let slot = free.popLast() {
            items[slot] = element
            return UInt64(slot)
        }
        items.append(element)
        return UInt64(items.count - 1)
    }

    mutating func take(_ slot: UInt64) -> Element {
        var taken: Element?
        swap(&taken, &items[Int(slot)])
        guard let element = taken else { preconditionFailure("slot \(slot) is empty") }
        free.append(Int(slot))
        return element
    }
}
