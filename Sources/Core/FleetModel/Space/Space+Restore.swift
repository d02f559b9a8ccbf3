package import ClusterBase

// A saved space that goes on in a new cluster.

extension Space {
    /// As if it were the entry at `index`: who watched the old space lists again, and no revision that the old space gave out
    /// after the backup is given out again for something else.
    package static func restore(at index: LogIndex, _ access: inout some StateAccess) throws(StoreError) {
        access.delete(.prefix([SpaceKey.Kind.history]))
        var summary = try SpaceSummary.read(access)
        // A deletion that was under way at the backup was not done.
        summary.hasEnded = false
        (summary.applied, summary.compactedThrough, summary.historyChanges, summary.historyBytes) = (index, index, 0, 0)
        access.put(SpaceKey.summary, summary.encoded())
    }
}
