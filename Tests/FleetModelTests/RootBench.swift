import ClusterBase
import FleetModel
import Testing

/// A root on its own, with the log that leads to it.
struct RootBench {
    var state = NaiveState()
    var index = LogIndex.zero
    var time = LogTime(1_000_000)
    /// At which entries are packed.
    var level = FeatureLevel.oldest

    /// A founded cluster of one node.
    init() throws {
        guard try apply(.found(RootBench.founding)) == .node(NodeID(1)) else {
            throw StoreError(.corrupt, "the test's cluster was not founded")
        }
    }

    init(empty: Void) {}

    static let founding = RootCommand.Founding(
        cluster: [UInt8](repeating: 7, count: 16), name: "test", node: about("n1", level: 1),
        certificate: NodeCertificate(fingerprint: hash(101), issuer: hash(1), expiresAt: LogTime(9_000_000)),
        authority: Authority(fingerprint: hash(1), certificate: [1, 2, 3], signs: true, since: .zero),
        administrator: Operator(name: "admin", role: .administrator, kind: .certificate, credential: hash(50)))

    static func about(_ name: String, key: UInt8? = nil, level: UInt32 = 1, zone: String = "", region: String = "r")
        -> NodeDescription
    {
        NodeDescription(
            name: name, locality: Locality(region: region, zone: zone), peerAddress: "\(name).example:7001",
            adminAddress: "\(name).example:7002",
            key: hash(key ?? UInt8(truncatingIfNeeded: name.utf8.reduce(0) { $0 &* 31 &+ UInt64($1) })),
            programVersion: "1.0", level: level)
    }

    static func hash(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 32) }
    static func request(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 16) }

    mutating func apply(_ commands: [RootCommand]) throws -> [RootResult] {
        index = index.next
        let pack = Root.pack(commands.map { $0.encoded() }, level: level, time: time)
        return try Root.apply(pack: pack, index: index, access: &state)
    }
    mutating func apply(_ operation: RootCommand.Operation, by: String = "test") throws -> RootResult.Outcome {
        try apply([RootCommand(by: by, operation)])[0].outcome
    }

    mutating func addToken(_ byte: UInt8 = 9, uses: UInt32 = 100) throws {
        _ = try apply(.createToken(hash: RootBench.hash(byte), note: "", lifetime: 0, uses: uses))
    }

    /// A node that has joined and runs.
    @discardableResult mutating func node(
        _ name: String, level: UInt32 = 1, zone: String = "", region: String = "r"
    ) throws -> NodeID {
        if try Root.read(.token(hash: RootBench.hash(9)), state).records(JoinToken.self)?.isEmpty ?? true {
            try addToken()
        }
        let about = RootBench.about(name, level: level, zone: zone, region: region)
        guard case .node(let id) = try apply(.joinNode(token: RootBench.hash(9), about)) else {
            throw StoreError(.corrupt, "\(name) could not join")
        }
        _ = try apply(.reportNode(id, about))
        return id
    }

    mutating func space(_ name: String, replicas: UInt32 = 3, on nodes: [NodeID]) throws -> GroupID {
        guard case .group(let group) = try apply(.createSpace(name: name, replicas: replicas)) else {
            throw StoreError(.corrupt, "\(name) could not be created")
        }
        _ = try apply(.foundGroup(group, nodes: nodes))
        return group
    }

    func read(_ query: RootQuery) throws -> RootAnswer { try Root.read(query, state) }
    func all<Record: RootRecord>(_ type: Record.Type) throws -> [Record] {
        try #require(try read(.all(Record.table)).records(type))
    }
    func placement(_ group: GroupID) throws -> GroupPlacement {
        try #require(try read(.placement(group)).records(GroupPlacement.self)?.first)
    }
    func node(_ id: NodeID) throws -> RootNode { try #require(try read(.node(id)).records(RootNode.self)?.first) }
    func token(_ byte: UInt8 = 9) throws -> JoinToken {
        try #require(try read(.token(hash: RootBench.hash(byte))).records(JoinToken.self)?.first)
    }
    func view() throws -> RootView {
        var view = RootView()
        _ = try follow(&view)
        return view
    }
    /// Asks until nothing new comes; returns how often it asked.
    func follow(_ view: inout RootView) throws -> Int {
        for asked in 1...1_000 {
            _ = view.take(try read(view.nextQuery))
            if let through = view.through, through >= index, case .changes = view.nextQuery {
                let answer = try read(view.nextQuery)
                if case .changes(let rows, _) = answer.body, rows.isEmpty { return asked }
            }
        }
        throw StoreError(.corrupt, "a follower never came to an end")
    }
}
