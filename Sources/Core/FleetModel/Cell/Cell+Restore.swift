package import ClusterBase

// A saved cell that goes on in a new cluster.

extension Cell {
    /// Ids of VMs name files on shared storage: none that the old cluster gave out after the backup is given out again.
    ///
    /// As if it were the entry at `index`: who followed the old cell lists again.
    package static func restore(at index: LogIndex, _ access: inout some StateAccess) throws(StoreError) {
        access.delete(.prefix([CellKey.Kind.history]))
        var summary = try CellSummary.read(access)
        (summary.applied, summary.compactedThrough, summary.historyChanges, summary.historyBytes) = (index, index, 0, 0)
        summary.tenantsFloor = .zero
        summary.vmHighest += CellLimits.vmsSkippedByRestore
        access.put(CellKey.summary, summary.encoded())
    }
}
