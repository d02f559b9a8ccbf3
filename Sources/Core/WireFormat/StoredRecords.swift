public import BinaryCoding
public import ClusterBase
public import RaftCore
public import Schema

// What the log store keeps of a replica. Each record is sealed under its key: see `StoredRecord`.

extension WireMessage {
    /// The message as it is stored under `key`.
    public func sealed(under key: [UInt8]) -> [UInt8] {
        StoredRecord.seal(version: WireVersions.storedFrame, key: key) { self.encode(into: &$0) }
    }

    /// Reads what was stored under `key`; refuses what was changed, or stored under another key.
    public init(sealed record: [UInt8], under key: [UInt8]) throws(DecodeError) {
        var payload = try StoredRecord.open(record, key: key, versions: 1...WireVersions.storedFrame).payload
        try self.init(from: &payload)
    }
}

extension Entry {
    /// The entry's `LogEntryRecord`, sealed under `key`.
    public func sealed(under key: [UInt8]) -> [UInt8] {
        let expected = encodedBytesExpected
        return StoredRecord.seal(version: WireVersions.storedFrame, key: key, expecting: expected + 6) { writer in
            writer.number(1, UInt64(WireVersions.logEntry))
            writer.nested(2, self, expecting: expected)
        }
    }

    public init(sealed record: [UInt8], under key: [UInt8]) throws(DecodeError) {
        let record = try LogEntryRecord(sealed: record, under: key)
        try checkVersion(record.version, current: WireVersions.logEntry, "LogEntryRecord.version")
        self = try mapped(record.entry, "LogEntryRecord.entry")
    }
}

extension HardState: WireMapped {
    public init(wire: HardStateRecord) throws(DecodeError) {
        try checkVersion(wire.version, current: WireVersions.hardState, "HardStateRecord.version")
        var votedFor: ReplicaID?
        if let value = wire.votedFor { votedFor = try identity(value, "HardStateRecord.voted_for") }
        self.init(
            term: try identity(wire.term, "HardStateRecord.term"), votedFor: votedFor,
            commit: try identity(wire.commit, "HardStateRecord.commit"))
    }

    public var wire: HardStateRecord {
        HardStateRecord(
            version: WireVersions.hardState, term: term.rawValue, votedFor: votedFor?.rawValue,
            commit: commit.rawValue)
    }
}

extension LogBaseRecord {
    public init(base: LogBase, last: LogIndex) {
        self.init(version: WireVersions.logBase, base: base.wire, last: last.rawValue)
    }

    /// The record's content, checked.
    public func content() throws(DecodeError) -> (base: LogBase, last: LogIndex) {
        try checkVersion(version, current: WireVersions.logBase, "LogBaseRecord.version")
        let base: LogBase = try mapped(self.base, "LogBaseRecord.base")
        let last: LogIndex = try identity(self.last, "LogBaseRecord.last")
        guard base.index <= last else {
            throw DecodeError(.badValue(Int64(last.rawValue)), field: "LogBaseRecord.last")
        }
        return (base, last)
    }
}

extension SnapshotRecord {
    public init(generation: UInt32, snapshot: SnapshotID?, base: LogBase) {
        self.init(
            version: WireVersions.snapshot, generation: generation, snapshot: snapshot?.wire, base: base.wire)
    }

    /// The record's content, checked.
    public func content() throws(DecodeError) -> (generation: UInt32, snapshot: SnapshotID?, base: LogBase) {
        try checkVersion(version, current: WireVersions.snapshot, "SnapshotRecord.version")
        var snapshot: SnapshotID?
        if let value = self.snapshot { snapshot = try SnapshotID(wire: value) }
        return (generation, snapshot, try mapped(base, "SnapshotRecord.base"))
    }
}

extension AppliedRecord {
    /// The state machine stands at `base.index`, with `base`'s configuration in force.
    public init(_ base: LogBase) {
        self.init(
            version: WireVersions.applied, index: base.index.rawValue, term: base.term.rawValue, chain: base.chain,
            configuration: base.configuration.wire)
    }

    /// The record's content, checked: the point from which the log is applied again.
    public func content() throws(DecodeError) -> LogBase {
        try checkVersion(version, current: WireVersions.applied, "AppliedRecord.version")
        return LogBase(
            index: try identity(index, "AppliedRecord.index"), term: try identity(term, "AppliedRecord.term"),
            chain: chain, configuration: try mapped(configuration, "AppliedRecord.configuration"))
    }
}

extension ReplicaRecord {
    public init(replica: ReplicaID, standing: Standing) {
        self.init(version: WireVersions.replica, replica: replica.rawValue, standing: standing)
    }

    /// The record's content, checked: the standing is one that this program knows.
    public func content() throws(DecodeError) -> (replica: ReplicaID, standing: Standing) {
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
public struct NodeMark: Hashable, Sendable, WireMapped {
    /// Bytes of a cluster's id.
    public static let clusterIDBytes = 16

    public var clusterID: [UInt8]
    public var node: NodeID
    public var incarnation: Incarnation
    /// The layout of keys and records that the directory was written in. The store decides whether it can read it.
    public var formatVersion: UInt32

    public init(clusterID: [UInt8], node: NodeID, incarnation: Incarnation, formatVersion: UInt32) {
        precondition(
            clusterID.count == Self.clusterIDBytes, "a cluster id of \(clusterID.count) bytes")
        self.clusterID = clusterID
        self.node = node
        self.incarnation = incarnation
        self.formatVersion = formatVersion
    }

    public init(wire: NodeRecord) throws(DecodeError) {
        try checkVersion(wire.version, current: WireVersions.node, "NodeRecord.version")
        guard wire.clusterID.count == Self.clusterIDBytes else {
            throw DecodeError(.badValue(Int64(wire.clusterID.count)), field: "NodeRecord.cluster_id")
        }
        guard wire.formatVersion > 0 else { throw DecodeError(.missing, field: "NodeRecord.format_version") }
        self.init(
            clusterID: wire.clusterID, node: try identity(wire.nodeID, "NodeRecord.node_id"),
            incarnation: try identity(wire.incarnation, "NodeRecord.incarnation"), formatVersion: wire.formatVersion)
    }

    public var wire: NodeRecord {
        NodeRecord(
            version: WireVersions.node, clusterID: clusterID, nodeID: node.rawValue,
            incarnation: incarnation.rawValue, formatVersion: formatVersion)
    }
}
