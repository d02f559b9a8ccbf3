package import BinaryCoding
package import ClusterBase
package import RaftCore
package import Schema

// What the log store keeps of a replica. Each record is sealed under its key: see `StoredRecord`.

extension WireMessage {
    /// The message as it is stored under `key`.
    package func sealed(under key: [UInt8]) -> [UInt8] {
        StoredRecord.seal(version: WireVersions.storedFrame, key: key) { self.encode(into: &$0) }
    }

    /// Reads what was stored under `key`; refuses what was changed, or stored under another key.
    package init(sealed record: [UInt8], under key: [UInt8]) throws(DecodeError) {
        var payload = try StoredRecord.open(record, key: key, versions: 1...WireVersions.storedFrame).payload
        try self.init(from: &payload)
    }
}

extension Entry {
    /// The entry's `LogEntryRecord`, sealed under `key`.
    package func sealed(under key: [UInt8]) -> [UInt8] {
        let expected = encodedBytesExpected
        return StoredRecord.seal(version: WireVersions.storedFrame, key: key, expecting: expected + 6) { writer in
            writer.number(1, UInt64(WireVersions.logEntry))
            writer.nested(2, self, expecting: expected)
        }
    }

    package init(sealed record: [UInt8], under key: [UInt8]) throws(DecodeError) {
        let record = try LogEntryRecord(sealed: record, under: key)
        try checkVersion(record.version, current: WireVersions.logEntry, "LogEntryRecord.version")
        self = try mapped(record.entry, "LogEntryRecord.entry")
    }
}

extension HardStateRecord {
    package init(_ state: HardState, last: LogIndex) {
        self.init(
            version: WireVersions.hardState, term: state.term.rawValue, votedFor: state.votedFor?.rawValue,
            commit: state.commit.rawValue, last: last.rawValue)
    }

    /// The record's content, checked.
    package func content() throws(DecodeError) -> (state: HardState, last: LogIndex) {
        try checkVersion(version, current: WireVersions.hardState, "HardStateRecord.version")
        var vote: ReplicaID?
        if let votedFor { vote = try identity(votedFor, "HardStateRecord.voted_for") }
        let state = HardState(
            term: try identity(term, "HardStateRecord.term"), votedFor: vote,
            commit: try identity(commit, "HardStateRecord.commit"))
        let last: LogIndex = try identity(self.last, "HardStateRecord.last")
        guard state.commit <= last else {
            throw DecodeError(.badValue(Int64(state.commit.rawValue)), field: "HardStateRecord.commit")
        }
        return (state, last)
    }
}

extension LogBaseRecord {
    package init(_ base: LogBase) {
        self.init(version: WireVersions.logBase, base: base.wire)
    }

    /// The record's content, checked.
    package func content() throws(DecodeError) -> LogBase {
        try checkVersion(version, current: WireVersions.logBase, "LogBaseRecord.version")
        return try mapped(base, "LogBaseRecord.base")
    }
}

extension SnapshotRecord {
    package init(_ snapshot: SnapshotID) {
        self.init(version: WireVersions.snapshot, snapshot: snapshot.wire)
    }

    /// The record's content, checked.
    package func content() throws(DecodeError) -> SnapshotID {
        try checkVersion(version, current: WireVersions.snapshot, "SnapshotRecord.version")
        return try mapped(snapshot, "SnapshotRecord.snapshot")
    }
}

extension ReplicaRecord {
    package init(replica: ReplicaID, standing: Standing) {
        self.init(version: WireVersions.replica, replica: replica.rawValue, standing: standing)
    }

    /// The record's content, checked: the standing is one that this program knows.
    package func content() throws(DecodeError) -> (replica: ReplicaID, standing: Standing) {
        try checkVersion(version, current: WireVersions.replica, "ReplicaRecord.version")
        switch standing {
        case .normal, .installing, .damaged, .tombstone: break
        case .unspecified: throw DecodeError(.missing, field: "ReplicaRecord.standing")
        case .unrecognized(let value): throw DecodeError(.badValue(Int64(value)), field: "ReplicaRecord.standing")
        }
        return (try identity(replica, "ReplicaRecord.replica"), standing)
    }
}

/// Whose directory this is, and how often its node started.
package struct NodeMark: Hashable, Sendable, WireMapped {
    /// Bytes of a cluster's id.
    package static let clusterIDBytes = 16

    package var clusterID: [UInt8]
    package var node: NodeID
    package var incarnation: Incarnation
    /// The layout of keys and records that the directory was written in. The store decides whether it can read it.
    package var formatVersion: UInt32

    package init(clusterID: [UInt8], node: NodeID, incarnation: Incarnation, formatVersion: UInt32) {
        precondition(
            clusterID.count == Self.clusterIDBytes, "a cluster id of \(clusterID.count) bytes")
        self.clusterID = clusterID
        self.node = node
        self.incarnation = incarnation
        self.formatVersion = formatVersion
    }

    package init(wire: NodeRecord) throws(DecodeError) {
        try checkVersion(wire.version, current: WireVersions.node, "NodeRecord.version")
        guard wire.clusterID.count == Self.clusterIDBytes else {
            throw DecodeError(.badValue(Int64(wire.clusterID.count)), field: "NodeRecord.cluster_id")
        }
        guard wire.formatVersion > 0 else { throw DecodeError(.missing, field: "NodeRecord.format_version") }
        self.init(
            clusterID: wire.clusterID, node: try identity(wire.nodeID, "NodeRecord.node_id"),
            incarnation: try identity(wire.incarnation, "NodeRecord.incarnation"), formatVersion: wire.formatVersion)
    }

    package var wire: NodeRecord {
        NodeRecord(
            version: WireVersions.node, clusterID: clusterID, nodeID: node.rawValue,
            incarnation: incarnation.rawValue, formatVersion: formatVersion)
    }
}
