package import ClusterBase
package import FleetModel
package import NodePorts
package import RaftCore

/// Everything that can happen to a node.
package enum NodeEvent: Sendable {
    /// From the node that the connection's certificate names.
    case frame(PeerFrame)
    /// Wanted at `deadline`, harmless at any time.
    case tick
    case logWritten(ticket: UInt64)
    case stateFlushed(ticket: UInt64)
    case linkBroken(NodeID, LinkBreak)
    case linkUp(NodeID)
    /// The ticket is the caller's and below 2^63.
    case request(ClientRequest, ticket: UInt64)
    /// Holds a new replica for a group that is about to make it a learner. Its id must be new to the group.
    case createReplica(GroupID, ReplicaID)
    /// Holds a first replica of a new group. All its first members begin with this same configuration, each exactly once:
    /// a node that had such a replica and lost it must not make it again.
    case createGroup(GroupID, ReplicaID, Configuration)
    case destroyReplica(GroupID)
    /// Where groups are, for requests that this node can't answer alone.
    case directory(Directory)
    /// The wall clock as it is now; wanted at the start and after every step of that clock, at least once a minute.
    case wallClock(LogTime)
    /// Whether the disk is nearly full. A leader then refuses what clients want kept, in groups of every kind
    /// (`Machine.wantsSpace`); what frees space and what a cluster needs to live goes on.
    case spaceLow(Bool)
    /// The log or state store failed: nothing that is not durable is acknowledged any more, and the process must end.
    case storageFailed(String)
}
