public import ClusterBase
public import NodePorts
public import RaftCore

/// Everything that can happen to a node.
public enum NodeEvent: Sendable {
    /// From the node that the connection's certificate names.
    case frame(PeerFrame)
    /// Wanted at `deadline`, harmless at any time.
    case tick
    case logWritten(ticket: UInt64)
    case stateFlushed(ticket: UInt64)
    case linkBroken(NodeID, LinkBreak)
    case linkUp(NodeID)
    case request(ClientRequest, ticket: UInt64)
    /// Holds a new replica for a group that is about to make it a learner. Its id must be new to the group.
    case createReplica(GroupID, ReplicaID)
    case destroyReplica(GroupID)
    /// The log or state store failed: nothing that is not durable is acknowledged any more, and the process must end.
    case storageFailed(String)
}
