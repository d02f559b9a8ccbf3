import BackupFormat
import ClusterBase
import FleetModel
import NodePorts
import RaftCore
import Schema
import Simulator
import StoreLayout

/// A cluster's state without a cluster: commands go straight into a store.
struct BackupBench {
    var store = MemoryStore()
    private var applied: [(group: GroupID, state: AppliedState)] = []
    private var view = StateView()

    static func hash(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 32) }

    static func founding(_ cluster: UInt8, _ name: String) -> RootCommand.Founding {
        RootCommand.Founding(
            cluster: [UInt8](repeating: cluster, count: 16), name: "test",
            node: NodeDescription(
                name: name, peerAddress: "\(name):1", adminAddress: "\(name):2", key: hash(cluster),
                programVersion: "1", level: 1),
            certificate: NodeCertificate(
                fingerprint: hash(cluster + 1), issuer: hash(cluster + 2), expiresAt: LogTime(9_000_000)),
            authority: Authority(
                fingerprint: hash(cluster + 2), certificate: [1, 2, cluster], signs: true, since: .zero),
            administrator: Operator(
                name: "admin", role: .administrator, kind: .certificate, credential: hash(cluster + 3)))
    }

    /// A founded cluster with a space on its node, settings, tokens and a schedule.
    init(keys: Int) throws {
        try root(.found(BackupBench.founding(10, "n1")))
        try root(.createToken(hash: BackupBench.hash(90), note: "", lifetime: 0, uses: 3))
        try root(.changeSetting(.rootVoters, 5))
        try root(
            .addOperator(
                Operator(name: "token-1", role: .reader, kind: .bearer, credential: BackupBench.hash(91))))
        try root(
            .setBackup(
                BackupSchedule(name: "nightly", interval: 86_400_000, keep: 7, destination: "/b", keyName: "k")))
        try root(.createSpace(name: "box", replicas: 3))
        try root(.foundGroup(BackupBench.box, nodes: [NodeID(1)]))
        try root(.createSpace(name: "empty", replicas: 3))
        for i in 0..<keys {
            try space(
                .put(key: Array("key-\(i)".utf8), value: [UInt8](repeating: UInt8(truncatingIfNeeded: i), count: 900)))
        }
    }

    static let box = GroupID(.space, number: 1)

    mutating func root(_ operation: RootCommand.Operation) throws {
        try apply(.root, Root.pack([RootCommand(operation).encoded()], time: LogTime(1_000_000)))
    }
    mutating func space(_ operation: SpaceCommand.Operation) throws {
        try apply(BackupBench.box, Space.pack([SpaceCommand(operation).encoded()]))
    }

    private mutating func apply(_ group: GroupID, _ pack: [UInt8]) throws {
        let before = applied.first { $0.group == group }?.state ?? .nothing
        view.begin(group, generation: 1, applied: before, store)
        let index = before.index.next
        _ = try Machine.apply(group.kind ?? .space, group, pack: pack, index: index, access: &view)
        let (batch, after) = view.finish(index: index, term: Term(3), chain: index.rawValue * 7)
        try store.write(batch, isSynced: false)
        applied.removeAll { $0.group == group }
        applied.append((group, after))
    }

    /// The records of one group, in their frames.
    func frames(_ group: GroupID, _ name: String) throws -> [UInt8] {
        let state = applied.first { $0.group == group }?.state ?? .nothing
        let base = LogBase(
            index: state.index, term: state.term, chain: state.chain, configuration: Configuration(members: []))
        var source = BackupGroupSource(
            group, name: name, base: base,
            try SnapshotSource(
                group, generation: 1, base: base, bytesMax: BackupGroupSource<MemoryStore.View>.pieceBytesMax,
                store.view()))
        var bytes: [UInt8] = []
        while let next = try source.next() { bytes += next }
        return bytes
    }

    static func frame(_ body: BackupRecord.Body) -> [UInt8] {
        var bytes: [UInt8] = []
        BackupFrame.append(body, to: &bytes)
        return bytes
    }

    static let head = frame(
        .head(
            BackupRecord.Head(
                clusterID: [UInt8](repeating: 10, count: 16), clusterName: "test", takenAt: 5, programVersion: "1",
                level: 1)))
    static func end(_ groups: UInt64) -> [UInt8] { frame(.end(BackupRecord.End(groups: groups))) }

    func whole() throws -> [UInt8] {
        try BackupBench.head + frames(.root, "root") + frames(BackupBench.box, "box") + BackupBench.end(2)
    }
}

/// Scans a backup in parts of `step` bytes, writing into a store.
func scan(_ bytes: [UInt8], step: Int = 10_000, into store: inout MemoryStore) throws -> BackupScan {
    var frames = BackupFrames()
    var scan = BackupScan()
    for start in stride(from: 0, to: bytes.count, by: step) {
        frames.append(bytes[start..<min(start + step, bytes.count)])
        while let (body, _) = try frames.next() {
            switch try scan.take(body) {
            case .none: break
            case .write(let batch): try store.write(batch, isSynced: false)
            case .load(let batch): try store.load(batch)
            }
        }
    }
    try scan.requireComplete()
    return scan
}

func refusal(_ bytes: [UInt8]) -> BackupFailure? {
    var store = MemoryStore()
    do {
        _ = try scan(bytes, into: &store)
        return nil
    } catch {
        return error as? BackupFailure
    }
}
