internal import BinaryCoding
package import ClusterBase
package import NodePorts
internal import Schema
internal import WireFormat

/// Whose data directory it is.
package struct NodeIdentity: Hashable, Sendable {
    /// The cluster's id, 16 bytes.
    package var cluster: [UInt8]
    package var node: NodeID
    package init(cluster: [UInt8], node: NodeID) {
        self.cluster = cluster
        self.node = node
    }
}

/// Why a data directory can't be used. Nothing was written.
package enum DirectoryRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    case notFormatted
    /// Something is there already.
    case notEmpty
    case otherCluster(found: [UInt8], expected: [UInt8])
    case otherNode(found: NodeID, expected: NodeID)
    case newerFormat(found: UInt32, supported: UInt32)
    case damaged(String)
    case store(StoreError)

    /// Why nobody can tell which node or which groups this is.
    package init(unreadable error: StoreError) {
        self = error.code == .corrupt ? .damaged(error.message) : .store(error)
    }

    /// Whether the same start may succeed another time: the disk failed.
    package var mayPass: Bool { if case .store(let error) = self { error.mayPass } else { false } }

    package var description: String {
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
            "the data directory is damaged (\(finding)); this node must not go on with it: remove the node "
                + "from its cluster, and join again with an empty directory"
        case .store(let error): error.description
        }
    }
}

private func hex(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

extension StoredLog {
    /// Sets up an empty store as this node's, synced. The first start gives the incarnation after `before`, which must
    /// not be below that of any earlier disk of this node: its peers pass over what an earlier incarnation says.
    package static func format(
        _ identity: NodeIdentity, after before: Incarnation = Incarnation(0), in store: inout some OrderedStore
    ) throws(DirectoryRefusal) {
        precondition(
            identity.cluster.count == NodeMark.clusterIDBytes, "a cluster id of \(identity.cluster.count) bytes")
        do throws(StoreError) {
            if try isEmpty(store) {
                try store.write(nodeBatch(identity, before), isSynced: true)
                return
            }
        } catch {
            throw .store(error)
        }
        throw .notEmpty
    }

    /// Whose store it is and its newest incarnation, if this program can read it. Writes nothing.
    package static func identity(
        in store: some OrderedReader
    ) throws(DirectoryRefusal) -> (identity: NodeIdentity, incarnation: Incarnation) {
        let found: Result<NodeRecord, DecodeError>?
        let isUnused: Bool
        do throws(StoreError) {
            found = try read(NodeRecord.self, LogKey.node, store)
            isUnused = try isEmpty(store)
        } catch {
            throw DirectoryRefusal(unreadable: error)
        }
        if isUnused { throw .notFormatted }
        guard let found else { throw .damaged("it is missing") }
        let mark: NodeMark
        do throws(DecodeError) {
            mark = try NodeMark(wire: found.get())
        } catch {
            if case .unsupportedVersion(let version) = error.reason {
                throw .newerFormat(found: version, supported: formatVersion)
            }
            throw .damaged("\(error)")
        }
        if mark.formatVersion > formatVersion {
            throw .newerFormat(found: mark.formatVersion, supported: formatVersion)
        }
        return (NodeIdentity(cluster: mark.clusterID, node: mark.node), mark.incarnation)
    }

    /// Checks that the store is this node's and readable, and gives its newest incarnation. Writes nothing.
    package static func check(
        _ identity: NodeIdentity, in store: some OrderedReader
    ) throws(DirectoryRefusal) -> Incarnation {
        let (found, incarnation) = try self.identity(in: store)
        if found.cluster != identity.cluster {
            throw .otherCluster(found: found.cluster, expected: identity.cluster)
        }
        if found.node != identity.node { throw .otherNode(found: found.node, expected: identity.node) }
        return incarnation
    }

    /// Checks that the store is this node's and readable, and begins a new incarnation, which is synced before this returns.
    package static func openNode(
        _ identity: NodeIdentity, in store: inout some OrderedStore
    ) throws(DirectoryRefusal) -> Incarnation {
        let incarnation = Incarnation(try check(identity, in: store).rawValue + 1)
        do throws(StoreError) {
            try store.write(nodeBatch(identity, incarnation), isSynced: true)
        } catch {
            throw .store(error)
        }
        return incarnation
    }

    /// Damage may have taken the newest incarnations with it: the next one is above all that this disk can have had. Its peers
    /// pass over what an earlier one says, and would take a request or a snapshot of the same one for what they know already.
    package static func passOverIncarnations(in store: inout some OrderedStore) throws(DirectoryRefusal) {
        let (identity, newest) = try self.identity(in: store)
        do throws(StoreError) {
            try store.write(
                nodeBatch(identity, Incarnation(newest.rawValue + incarnationsPassedOver)), isSynced: true)
        } catch {
            throw .store(error)
        }
    }

    /// More starts than a node has between two finds of damage.
    private static let incarnationsPassedOver: UInt64 = 1 << 20

    private static func isEmpty(_ store: some OrderedReader) throws(StoreError) -> Bool {
        var isEmpty = true
        try store.scan(KeyRange(from: [], to: nil)) { _, _ in
            isEmpty = false
            return false
        }
        return isEmpty
    }

    private static func nodeBatch(_ identity: NodeIdentity, _ incarnation: Incarnation) -> WriteBatch {
        let mark = NodeMark(
            clusterID: identity.cluster, node: identity.node, incarnation: incarnation, formatVersion: formatVersion)
        var batch = WriteBatch()
        batch.put(LogKey.node, mark.wire.sealed(under: LogKey.node))
        return batch
    }
}
