import ClusterBase
import FleetModel
import Testing

/// The root's state, and a view of it.
struct RootFixture {
    private var state = Rows()
    private var index = LogIndex.zero
    /// Beside the entry's index.
    var time: UInt64 = 0

    mutating func apply(_ operation: RootCommand.Operation) throws {
        index = index.next
        let pack = Root.pack(
            [RootCommand(by: "test", operation).encoded()], level: FeatureLevel.cells,
            time: LogTime(time + index.rawValue))
        for result in try Root.apply(pack: pack, index: index, access: &state) {
            if case .refused(let refusal) = result.outcome { throw refusal }
        }
    }

    mutating func begin(nodes: Int) throws {
        func hash(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 32) }
        func about(_ number: Int) -> NodeDescription {
            NodeDescription(
                name: "n\(number)", peerAddress: "a:1", adminAddress: "a:2", key: hash(UInt8(number)),
                programVersion: "1", level: 3)
        }
        let certificate = NodeCertificate(fingerprint: hash(101), issuer: hash(1), expiresAt: LogTime(9_000_000))
        try apply(
            .found(
                RootCommand.Founding(
                    cluster: [UInt8](repeating: 7, count: 16), name: "test", node: about(1), certificate: certificate,
                    authority: Authority(fingerprint: hash(1), certificate: [1], signs: true, since: .zero),
                    administrator: Operator(
                        name: "admin", role: .administrator, kind: .certificate, credential: hash(50)))))
        try apply(.createCell(name: "default", replicas: 1))
        try apply(.createToken(hash: hash(9), note: "", lifetime: 0, uses: 100))
        for number in 2..<(nodes + 1) {
            try apply(.joinNode(token: hash(9), about(number)))
            try apply(.reportNode(NodeID(UInt64(number)), about(number)))
        }
    }

    /// The cell has a voter.
    mutating func make(_ cell: String) throws {
        let group = try #require(try view().cell(cell)?.group)
        try apply(.foundGroup(group, nodes: [NodeID(1)]))
        try apply(.reportReplicas(NodeID(1), made: [HeldReplica(group, ReplicaID(1))], lost: []))
    }

    func view() throws -> RootView {
        var view = RootView()
        _ = view.take(try Root.read(view.nextQuery, state))
        return view
    }
}

extension RootNode {
    /// A node that is there, and where it stands in the region `r`.
    static func inRack(_ number: UInt64, zone: String = "", rack: String = "") -> RootNode {
        RootNode(
            id: NodeID(number),
            about: NodeDescription(
                name: "n\(number)", locality: Locality(region: "r", zone: zone, rack: rack), peerAddress: "a:1",
                adminAddress: "a:2", key: [], programVersion: "1", level: 3),
            state: .active, since: .zero)
    }
}
