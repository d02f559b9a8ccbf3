package import ClusterBase

// A saved cell that goes on in a new cluster.

extension Cell {
    /// Ids of VMs name files on shared storage: none that the old cluster gave out after the backup is given out again.
    package static func restore(_ access: inout some StateAccess) throws(StoreError) {
        var summary = try CellSummary.read(access)
        summary.vmHighest += CellLimits.vmsSkippedByRestore
        access.put(CellKey.summary, summary.encoded())
    }
}
