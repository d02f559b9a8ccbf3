package import ClusterBase
package import NodePorts
package import RaftCore
package import StoreLayout

extension NodeEngine {
    /// A consistent copy of a group's state as it stands here, to be read piece by piece while applying goes on; nil when
    /// no replica of the group is here, or when its state is just being replaced. It holds a view of the store until it
    /// is gone.
    package func copy(
        of group: GroupID, bytesMax: Int
    ) throws(StoreError) -> (base: LogBase, source: SnapshotSource<Ports.State.View>)? {
        guard let i = position(of: group), replicas[i].installing == nil else { return nil }
        let applied = replicas[i].applied
        let base = LogBase(
            index: applied.index, term: applied.term, chain: applied.chain,
            configuration: replicas[i].raft.configuration(at: applied.index))
        let source = try SnapshotSource(
            group, generation: replicas[i].generation, base: base, bytesMax: bytesMax, ports.state.view())
        return (base, source)
    }
}
