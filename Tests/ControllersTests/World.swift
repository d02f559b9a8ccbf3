import ClusterBase
import Controllers
import FleetModel
import RaftCore
import Testing

/// The slowest correct state access: a list of rows.
struct Rows: StateAccess {
    private var rows: [(key: [UInt8], value: [UInt8])] = []

    private func place(_ key: [UInt8]) -> (at: Int, isFound: Bool) {
        var low = 0
        var high = rows.count
        while low < high {
            let middle = (low + high) / 2
            if rows[middle].key.precedes(key) { low = middle + 1 } else { high = middle }
        }
        return (low, low < rows.count && rows[low].key == key)
    }
    func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? {
        let (at, isFound) = place(key)
        return isFound ? rows[at].value : nil
    }
    func scan(_ range: KeyRange, _ body: ([UInt8], [UInt8]) -> Bool) throws(StoreError) {
        var at = place(range.from).at
        while at < rows.count, range.contains(rows[at].key) {
            if !body(rows[at].key, rows[at].value) { return }
            at += 1
        }
    }
    mutating func put(_ key: [UInt8], _ value: [UInt8]) {
        let (at, isFound) = place(key)
        if isFound { rows[at].value = value } else { rows.insert((key, value), at: at) }
    }
    mutating func delete(_ key: [UInt8]) {
        let (at, isFound) = place(key)
        if isFound { rows.remove(at: at) }
    }
    mutating func delete(_ range: KeyRange) { rows.removeAll { range.contains($0.key) } }
}

/// A cluster as small as controllers see it: nodes that are there or not, groups that are nothing but their
/// configurations, and the real root. One tick is a second.
final class World {
    struct Node {
        var id: NodeID
        var isUp = true
        var since: Instant
        var heardAt: Instant
        var held: [HeldReplica] = []
    }

    struct Group {
        var id: GroupID
        var members: [Member]
        var highest: ReplicaID
        var leader: ReplicaID?
        var keeper = GroupKeeper()
    }

    private(set) var now = Instant(nanoseconds: 1_000_000_000_000)
    private var state = Rows()
    private var index = LogIndex.zero
    private var time = LogTime(1_000_000)
    private(set) var nodes: [Node] = []
    private(set) var groups: [Group] = []
    private(set) var view = RootView()
    /// Placement changes that the role keeper asked for.
    private(set) var planned = 0
    private var leadsSince: Instant

    init(zone: String = "a") throws {
        leadsSince = now
        let founding = RootCommand.Founding(
            cluster: [UInt8](repeating: 7, count: 16), name: "test", node: World.about(1, zone),
            certificate: NodeCertificate(fingerprint: World.hash(101), issuer: World.hash(1), expiresAt: LogTime(9)),
            authority: Authority(fingerprint: World.hash(1), certificate: [1], signs: true, since: .zero),
            administrator: Operator(name: "admin", role: .administrator, kind: .certificate, credential: World.hash(50))
        )
        try ask(.found(founding))
        try ask(.createToken(hash: World.hash(9), note: "", lifetime: 0, uses: 1_000))
        nodes.append(Node(id: NodeID(1), since: now, heardAt: now, held: [HeldReplica(.root, ReplicaID(1))]))
        groups.append(Group(id: .root, members: [World.voter(1, on: 1)], highest: ReplicaID(1)))
        try follow()
    }

    static func hash(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 32) }
    static func voter(_ replica: UInt64, on node: UInt64) -> Member {
        Member(peer: Peer(replica: ReplicaID(replica), node: NodeID(node)), role: .voter)
    }
    private static func about(_ number: UInt64, _ zone: String, _ region: String = "r") -> NodeDescription {
        NodeDescription(
            name: "n\(number)", locality: Locality(region: region, zone: zone), peerAddress: "n\(number):1",
            adminAddress: "n\(number):2", key: hash(UInt8(truncatingIfNeeded: number)), programVersion: "1", level: 1)
    }

    // MARK: What tests do

    @discardableResult func join(_ zone: String = "a", region: String = "r") throws -> NodeID {
        let about = World.about(UInt64(nodes.count) + 1, zone, region)
        guard case .node(let id) = try ask(.joinNode(token: World.hash(9), about)) else {
            throw StoreError(.corrupt, "a node could not join")
        }
        try ask(.reportNode(id, about))
        nodes.append(Node(id: id, since: now, heardAt: now))
        try follow()
        return id
    }

    @discardableResult func ask(_ operation: RootCommand.Operation) throws -> RootResult.Outcome {
        index = index.next
        let pack = Root.pack([RootCommand(operation).encoded()], level: operation.level, time: time)
        return try Root.apply(pack: pack, index: index, access: &state)[0].outcome
    }

    func space(_ name: String, replicas: UInt32 = 3) throws -> GroupID {
        guard case .group(let group) = try ask(.createSpace(name: name, replicas: replicas)) else {
            throw StoreError(.corrupt, "no space")
        }
        return group
    }

    func set(_ node: NodeID, isUp: Bool) {
        for i in nodes.indices where nodes[i].id == node { nodes[i].isUp = isUp }
    }

    /// Its log is gone, its process goes on.
    func lose(_ group: GroupID, on node: NodeID) {
        for i in nodes.indices where nodes[i].id == node { nodes[i].held.removeAll { $0.group == group } }
    }

    func run(seconds: Int) throws { for _ in 0..<seconds { try tick() } }

    func placement(_ group: GroupID) throws -> GroupPlacement { try #require(view.placement(group)) }

    /// Nodes of the members with this role, ascending.
    func nodes(of group: GroupID, _ role: Role) -> [UInt64] {
        groups.first { $0.id == group }?.members.filter { $0.role == role }.map(\.peer.node.rawValue).sorted() ?? []
    }

    // MARK: A second

    private func follow() throws {
        for _ in 0..<100 {
            let answer = try Root.read(view.nextQuery, state)
            if !view.take(answer), case .changes(let rows, _) = answer.body, rows.isEmpty { return }
        }
        throw StoreError(.corrupt, "the view never came to an end")
    }

    /// What the planner remembers from tick to tick.
    private var settled: RoleKeeper.Settled?

    private func tick() throws {
        now += .seconds(1)
        time = time.advanced(by: 1_000)
        for i in nodes.indices where nodes[i].isUp {
            if now - nodes[i].heardAt > .seconds(5) { nodes[i].since = now }
            nodes[i].heardAt = now
        }
        try follow()
        if let leader = leader(of: .root) {
            let facts = nodes.map { NodeWatch.Fact(node: $0.id, since: $0.since, heardAt: $0.heardAt) }
            let watch = NodeWatch(own: leader.node, watchingSince: leadsSince, facts: facts)
            var nothing: RoleKeeper.Settled?
            let commands = RoleKeeper.plan(view, watch, now: now, settled: &settled)
            #expect(commands == RoleKeeper.plan(view, watch, now: now, settled: &nothing), "nothing is passed over")
            for command in commands {
                planned += 1
                let outcome = try ask(command)
                #expect(outcome == .done, "\(command): \(outcome)")
            }
        }
        try follow()
        for i in nodes.indices where nodes[i].isUp { try attend(i) }
        for i in groups.indices { try keep(i) }
    }

    private func attend(_ i: Int) throws {
        let duty = Assignments.plan(view, node: nodes[i].id, held: nodes[i].held)
        for creation in duty.creations {
            nodes[i].held.append(creation.held)
            guard let members = creation.members else { continue }
            if let known = groups.first(where: { $0.id == creation.held.group }) {
                #expect(known.highest >= members.replicaHighest)
            } else {
                groups.append(
                    Group(id: creation.held.group, members: members.members, highest: members.replicaHighest))
            }
        }
        for held in duty.destructions {
            let isMember = groups.first { $0.id == held.group }?.members.contains { $0.peer.replica == held.replica }
            if view.placement(held.group) != nil {
                #expect(isMember != true, "replica \(held) was ended while it is a member")
            }
            nodes[i].held.removeAll { $0 == held }
        }
        for report in duty.reports { try ask(report) }
    }

    func leadingNode(of group: GroupID) -> NodeID? { leader(of: group)?.node }

    private func isUp(_ peer: Peer, _ group: GroupID) -> Bool {
        nodes.contains { $0.id == peer.node && $0.isUp && $0.held.contains(HeldReplica(group, peer.replica)) }
    }

    private func leader(of id: GroupID) -> Peer? {
        guard let i = groups.firstIndex(where: { $0.id == id }) else { return nil }
        let voters = groups[i].members.filter { $0.role == .voter }
        let up = voters.filter { isUp($0.peer, id) }
        guard up.count > voters.count / 2 else { return nil }
        if let known = up.first(where: { $0.peer.replica == groups[i].leader }) { return known.peer }
        groups[i].leader = up[0].peer.replica
        groups[i].keeper = GroupKeeper()
        if id == .root { leadsSince = now }
        return up[0].peer
    }

    private func keep(_ i: Int) throws {
        let id = groups[i].id
        guard let leader = leader(of: id), let placement = view.placement(id) else { return }
        let others = groups[i].members.filter { $0.peer != leader }
        let up = others.filter { isUp($0.peer, id) }.map(\.peer.replica)
        let standing = GroupStanding(
            own: leader.replica,
            configuration: Configuration(members: groups[i].members, replicaHighest: groups[i].highest),
            epoch: .zero, isSettled: true, silent: others.map(\.peer.replica).filter { !up.contains($0) }, caughtUp: up)
        for action in groups[i].keeper.plan(placement, standing, view, now: now) {
            switch action {
            case .report(let command): try ask(command)
            case .transferLeadership(let heir):
                #expect(up.contains(heir))
                groups[i].leader = heir
                groups[i].keeper = GroupKeeper()
                if id == .root { leadsSince = now }
            case .change(let steps): change(i, steps, leader)
            }
        }
    }

    /// What consensus would make of these steps, and what it would refuse.
    private func change(_ i: Int, _ steps: [MembershipStep], _ leader: Peer) {
        let before = groups[i].members
        for step in steps {
            switch step {
            case .addLearner(let peer, _, _):
                #expect(peer.replica > groups[i].highest && !groups[i].members.contains { $0.peer.node == peer.node })
                groups[i].highest = peer.replica
                groups[i].members.append(Member(peer: peer, role: .learner))
            case .addVoter: Issue.record("a voter that has nothing yet")
            case .promote(let replica): setRole(i, replica, .voter)
            case .demote(let replica): setRole(i, replica, .learner)
            case .remove(let replica):
                #expect(groups[i].members.contains { $0.peer.replica == replica })
                groups[i].members.removeAll { $0.peer.replica == replica }
            }
        }
        let id = groups[i].id
        func up(_ members: [Member]) -> Int { members.count { $0.role == .voter && isUp($0.peer, id) } }
        let voters = groups[i].members.count { $0.role == .voter }
        #expect(up(groups[i].members) > voters / 2, "\(steps) leave no quorum of \(groups[i].members)")
        #expect(
            up(groups[i].members) >= min(up(before), Int(view.settings[.rootVoters])),
            "\(steps): fewer voters are there")
        #expect(groups[i].members.contains { $0.peer == leader && $0.role == .voter }, "the leader was taken out")
    }

    private func setRole(_ i: Int, _ replica: ReplicaID, _ role: Role) {
        guard let at = groups[i].members.firstIndex(where: { $0.peer.replica == replica }) else {
            Issue.record("replica \(replica) is no member")
            return
        }
        groups[i].members[at].role = role
    }
}
