package import ClusterBase
import FleetModel
package import NodePorts
package import RaftCore
package import StoreLayout

/// What a node finds in its two stores when it starts.
package struct OpenedNode: Sendable {
    package struct Replica: Sendable {
        package var group: GroupID
        package var replica: ReplicaID
        package var log: RestoredLog
        package var generation: UInt32
        package var applied: AppliedState
        /// What had arrived of a snapshot when the process ended.
        package var staging: SnapshotStaging?
    }

    package struct Damage: Sendable {
        package var group: GroupID
        /// Zero when not even the id is readable.
        package var replica: ReplicaID
        package var reason: String
    }

    package var incarnation: Incarnation
    /// Sorted by group.
    package var replicas: [Replica] = []
    package var damaged: [Damage] = []
    package var tombstones: [(group: GroupID, replica: ReplicaID)] = []

    /// Opens a node's stores: notes a new incarnation, checks every record of every log, and finds the state that each
    /// log belongs to. A replica with anything amiss is not opened; it is reported as damaged.
    package init(
        _ identity: NodeIdentity, log: inout some OrderedStore, state: inout some OrderedStore,
        settings nodeSettings: NodeSettings
    ) throws(DirectoryRefusal) {
        incarnation = try StoredLog.openNode(identity, in: &log)
        let groups: [GroupID]
        do throws(StoreError) {
            groups = try StoredLog.groups(in: log)
        } catch {
            throw DirectoryRefusal(unreadable: error)
        }
        do throws(StoreError) {
            var settings = nodeSettings.raft
            settings.cacheBytesMax = nodeSettings.cacheShare(of: groups.count)
            for group in groups {
                switch try OpenedNode.restore(group, settings, log) {
                case .none: break
                case .tombstone(let replica): tombstones.append((group, replica))
                case .damaged(let replica, let reason):
                    damaged.append(Damage(group: group, replica: replica ?? ReplicaID(0), reason: reason))
                case .log(let replica, let restored, let snapshot):
                    try openState(group, replica, restored, snapshot, log, &state)
                }
            }
        } catch {
            throw .store(error)
        }
    }

    private static func restore(
        _ group: GroupID, _ settings: Settings, _ log: some OrderedReader
    ) throws(StoreError) -> RestoredReplica {
        #if MUTANTS
        if settings.mutant == .corruptionTakenForTornTail {
            return try StoredLog.restoreUpToDamage(group, cacheBytesMax: settings.cacheBytesMax, in: log)
        }
        #endif
        return try StoredLog.restore(group, cacheBytesMax: settings.cacheBytesMax, in: log)
    }

    private mutating func openState(
        _ group: GroupID, _ replica: ReplicaID, _ log: RestoredLog, _ snapshot: SnapshotID?,
        _ entries: some OrderedReader, _ state: inout some OrderedStore
    ) throws(StoreError) {
        do throws(StoreError) {
            guard let generation = try StoredState.generation(of: group, snapshot: snapshot, in: state) else {
                throw StoreError(.corrupt, "the state that the log of group \(group) goes on from is not here")
            }
            let applied = try StoredState.applied(group, generation: generation, in: state)
            // Written without a log of its own, the state may be older than the log after a crash, and never newer.
            guard applied.index >= log.base.index, applied.index <= log.last else {
                throw StoreError(
                    .corrupt,
                    "the state of group \(group) stands at \(applied.index), outside its log \(log.base.index)...\(log.last)"
                )
            }
            // Another node's or another cluster's, as when files of two were mixed.
            guard try OpenedNode.chain(at: applied.index, of: group, log, entries) == applied.chain else {
                throw StoreError(
                    .corrupt,
                    "the state of group \(group) at \(applied.index) was made from another log than the one here")
            }
            let staging = try SnapshotStaging.left(of: group, current: generation, in: state)
            let leftovers = try StoredState.deleteGenerations(
                of: group, except: generation, and: staging?.generation, in: state)
            if !leftovers.isEmpty { try state.write(leftovers, isSynced: false) }
            replicas.append(
                Replica(
                    group: group, replica: replica, log: log, generation: generation, applied: applied,
                    staging: staging))
        } catch {
            guard error.code == .corrupt else { throw error }
            damaged.append(Damage(group: group, replica: replica, reason: error.message))
        }
    }

    private static func chain(
        at index: LogIndex, of group: GroupID, _ log: RestoredLog, _ entries: some OrderedReader
    ) throws(StoreError) -> UInt64? {
        if index == log.base.index { return log.base.chain }
        if index == log.last { return log.lastChain }
        return try StoredLog.entries(group, from: index, through: index, bytesMax: 1, in: entries).first?.chain
    }
}
