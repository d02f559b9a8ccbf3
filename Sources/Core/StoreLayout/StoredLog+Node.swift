internal import BinaryCoding
public import ClusterBase
public import NodePorts
internal import Schema

/// Whose data directory it is.
public struct NodeIdentity: Hashable, Sendable {
    /// The cluster's id, 16 bytes.
    public var cluster: [UInt8]
    public var node: NodeID
    public init(cluster: [UInt8], node: NodeID) {
        self.cluster = cluster
        self.node = node
    }
}

/// Why a data directory can't be used. Nothing was written.
public enum DirectoryRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    case notFormatted
    /// Something is there already.
    case notEmpty
    case otherCluster(found: [UInt8], expected: [UInt8])
    case otherNode(found: NodeID, expected: NodeID)
    case newerFormat(found: UInt32, supported: UInt32)
    case damaged(String)
    case store(StoreError)

    public var description: String {
        switch self {
        case .notFormatted:
            "the data directory was never set up; run init or join on this host, or name the right directory"
        case .notEmpty:
            "the data directory is in use by a node already; name an empty one, or start that node"
        case .otherCluster(let found, let expected):
            "the data directory belongs to cluster \(hex(found)), not to \(hex(expected)); name the right directory"
        case .otherNode(let found, let expected):
            "the data directory belongs to node \(found), not to node \(expected); name the right directory"
        case .newerFormat(let found, let supported):
            "the data directory has format \(found) and this program reads up to \(supported); start a newer program"
        case .damaged(let finding):
            "the data directory's node record is damaged (\(finding)); this node must not go on with it: remove the node "
                + "from its cluster, and join again with an empty directory"
        case .store(let error): error.description
        }
    }
}

private func hex(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

extension StoredLog {
    public static let clusterIDBytes = 16

    /// Sets up an empty store as this node's, synced. The first start gives incarnation 1.
    public static func format(_ identity: NodeIdentity, in store: inout some OrderedStore) throws(DirectoryRefusal) {
        precondition(identity.cluster.count == clusterIDBytes, "a cluster id of \(identity.cluster.count) bytes")
        do throws(StoreError) {
            var isEmpty = true
            try store.scan(KeyRange(from: [], to: nil)) { _, _ in
                isEmpty = false
                return false
            }
            if isEmpty {
                try store.write(nodeBatch(identity, Incarnation(0)), isSynced: true)
                return
            }
        } catch {
            throw .store(error)
        }
        throw .notEmpty
    }

    /// Checks that the store is this node's and readable, and begins a new incarnation, which is synced before this returns.
    public static func openNode(
        _ identity: NodeIdentity, in store: inout some OrderedStore
    ) throws(DirectoryRefusal) -> Incarnation {
        let found: Result<NodeRecord, DecodeError>?
        do throws(StoreError) {
            found = try read(NodeRecord.self, LogKey.node, store)
        } catch {
            throw .store(error)
        }
        let record: NodeRecord
        switch found {
        case nil: throw .notFormatted
        case .failure(let error)?:
            if case .unsupportedVersion(let version) = error.reason {
                throw .newerFormat(found: version, supported: formatVersion)
            }
            throw .damaged("\(error)")
        case .success(let found)?: record = found
        }
        if record.formatVersion > formatVersion {
            throw .newerFormat(found: record.formatVersion, supported: formatVersion)
        }
        if record.clusterID != identity.cluster {
            throw .otherCluster(found: record.clusterID, expected: identity.cluster)
        }
        if record.nodeID != identity.node.rawValue {
            throw .otherNode(found: NodeID(record.nodeID), expected: identity.node)
        }
        let incarnation = Incarnation(record.incarnation + 1)
        do throws(StoreError) {
            try store.write(nodeBatch(identity, incarnation), isSynced: true)
        } catch {
            throw .store(error)
        }
        return incarnation
    }

    private static func nodeBatch(_ identity: NodeIdentity, _ incarnation: Incarnation) -> WriteBatch {
        var record = NodeRecord()
        record.version = UInt32(recordVersion)
        record.clusterID = identity.cluster
        record.nodeID = identity.node.rawValue
        record.incarnation = incarnation.rawValue
        record.formatVersion = formatVersion
        var batch = WriteBatch()
        batch.put(LogKey.node, seal(record, LogKey.node))
        return batch
    }
}
