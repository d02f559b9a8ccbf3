package import ClusterBase
package import FleetModel
package import NodePorts
internal import RaftCore
internal import StoreLayout

/// Makes a new cluster's first node of a backup whose rows a `BackupScan` has put into a state store.
package enum BackupRestore {
    /// The node that a backup is restored as: its id was never given out before.
    package static func node(_ scan: BackupScan) throws(BackupFailure) -> NodeID {
        guard let cluster = scan.cluster else {
            throw BackupFailure(.incomplete, "The backup holds no founded cluster; use another one.")
        }
        return cluster.nodeNext
    }

    /// Removes what an earlier try has left.
    package static func clear(_ state: inout some OrderedStore) throws(StoreError) {
        for group in try StoredState.groups(in: state) {
            let batch = try StoredState.deleteGenerations(of: group, except: nil, in: state)
            try state.write(batch, isSynced: false)
        }
    }

    /// What the old cluster did after the backup is not known: far more than a group can have done since is left out, so that no
    /// revision means two things, and what was seen of the old cluster's later states is older than anything of the new one.
    static let indexesLeftOut: UInt64 = 1 << 32

    static func index(after saved: LogIndex) -> LogIndex {
        LogIndex((saved.rawValue / indexesLeftOut + 1) * indexesLeftOut)
    }

    /// Rewrites the root for the new cluster, and gives every group a log of one replica, here, which goes on far behind where
    /// the saved one was applied: what was saved keeps its revisions. Durable when it returns.
    package static func finish(
        _ scan: BackupScan, as founding: RootCommand.Founding, log: inout some OrderedStore,
        state: inout some OrderedStore
    ) throws {
        try scan.requireComplete()
        try state.flush()
        guard let root = scan.groups.first(where: { $0.group == .root }) else {
            throw BackupFailure(.incomplete, "The backup lacks the root group; use another one.")
        }
        let generation = StoredState.firstGeneration + 1
        let saved = scan.groups.map(\.group)
        var view = StateView()
        let applied = try StoredState.applied(.root, generation: generation, in: state)
        view.begin(.root, generation: generation, applied: applied, state)
        let placements: [GroupPlacement]
        let index = BackupRestore.index(after: root.base.index)
        switch try Root.restore(as: founding, saved: saved, gone: scan.gone, at: index, access: &view) {
        case .success(let found): placements = found
        case .failure(let refusal):
            view.abandon()
            throw BackupFailure(.notUsable, "The backup can't become a cluster: \(refusal).")
        }
        let (batch, _) = view.finish(index: index, term: root.base.term, chain: root.base.chain)
        try state.write(batch, isSynced: false)
        for group in scan.groups where !placements.contains(where: { $0.group == group.group }) {
            // Made after the root was saved: nobody would find it.
            try state.write(StoredState.deleteGenerations(of: group.group, except: nil, in: state), isSynced: false)
        }
        for group in scan.groups where placements.contains(where: { $0.group == group.group }) {
            if group.group != .root { try restore(group, generation, &state) }
        }
        try state.flush()
        for placement in placements {
            guard let group = scan.groups.first(where: { $0.group == placement.group }),
                let placed = placement.replicas.first
            else { continue }
            var base = group.base
            base.index = BackupRestore.index(after: group.base.index)
            base.configuration = Configuration(
                members: [Member(peer: Peer(replica: placed.replica, node: placed.node), role: .voter)],
                epoch: placement.epoch, replicaHighest: placement.replicaHighest)
            let hardState = HardState(term: base.term, commit: base.index)
            try StoredLog.createReplica(
                group.group, placed.replica, RestoredLog(empty: base, hardState: hardState),
                snapshot: BackupScan.snapshot, in: &log)
        }
    }

    private static func restore(
        _ group: BackupScan.Group, _ generation: UInt32, _ state: inout some OrderedStore
    ) throws(StoreError) {
        var view = StateView()
        let applied = try StoredState.applied(group.group, generation: generation, in: state)
        view.begin(group.group, generation: generation, applied: applied, state)
        let index = BackupRestore.index(after: group.base.index)
        switch group.group.kind {
        case .cell: try Cell.restore(at: index, &view)
        case .space: try Space.restore(at: index, &view)
        case .root, nil: return
        }
        let (batch, _) = view.finish(index: index, term: group.base.term, chain: group.base.chain)
        try state.write(batch, isSynced: false)
    }
}
