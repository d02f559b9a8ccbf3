package import BinaryCoding
internal import ClusterBase
package import RaftCore
package import Schema

extension Peer: WireMapped {
    package init(wire: RaftPeer) throws(DecodeError) {
        self.init(
            replica: try identity(wire.replica, "Peer.replica"),
            node: try identity(wire.node, "Peer.node"))
    }

    package var wire: RaftPeer { RaftPeer(replica: replica.rawValue, node: node.rawValue) }

    package func encode(into writer: inout ByteWriter) {
        writer.number(1, replica.rawValue)
        writer.number(2, node.rawValue)
    }
}

extension Role {
    init(wire: RaftRole) throws(DecodeError) {
        switch wire {
        case .learner: self = .learner
        case .voter: self = .voter
        case .entering: self = .entering
        case .leaving: self = .leaving
        case .demoting: self = .demoting
        case .unspecified: throw DecodeError(.missing, field: "Member.role")
        case .unrecognized(let value): throw DecodeError(.badValue(Int64(value)), field: "Member.role")
        }
    }

    var wire: RaftRole {
        switch self {
        case .learner: .learner
        case .voter: .voter
        case .entering: .entering
        case .leaving: .leaving
        case .demoting: .demoting
        }
    }
}

extension Member: WireMapped {
    package init(wire: RaftMember) throws(DecodeError) {
        guard let priority = Int8(exactly: wire.priority) else {
            throw DecodeError(.valueOutOfRange, field: "Member.priority")
        }
        self.init(
            peer: try mapped(wire.peer, "Member.peer"), role: try Role(wire: wire.role),
            promotesItself: wire.promotesItself, priority: priority)
    }

    package var wire: RaftMember {
        RaftMember(peer: peer.wire, role: role.wire, promotesItself: promotesItself, priority: Int32(priority))
    }
}

extension RecoveryMark: WireMapped {
    package init(wire: RaftRecoveryMark) throws(DecodeError) {
        self.init(
            possibleLossAfter: try identity(wire.possibleLossAfter, "RecoveryMark.possible_loss_after"),
            term: try identity(wire.term, "RecoveryMark.term"))
    }

    package var wire: RaftRecoveryMark {
        RaftRecoveryMark(possibleLossAfter: possibleLossAfter.rawValue, term: term.rawValue)
    }
}

extension Configuration: WireMapped {
    package init(wire: RaftConfiguration) throws(DecodeError) {
        let members: [Member] = try mapped(
            wire.members, max: Configuration.membersMax, "Configuration.members")
        for i in members.indices.dropFirst() {
            // Ascending, so that equal configurations have equal bytes and no replica is in one twice.
            guard members[i - 1].peer.replica < members[i].peer.replica else {
                throw DecodeError(.badValue(Int64(members[i].peer.replica.rawValue)), field: "Configuration.members")
            }
            // Two copies on one node would fail together and count as two.
            for j in 0..<i where members[j].peer.node == members[i].peer.node {
                throw DecodeError(.badValue(Int64(members[i].peer.node.rawValue)), field: "Configuration.members")
            }
        }
        let highest: ReplicaID = try identity(wire.replicaHighest, "Configuration.replica_highest")
        if let last = members.last?.peer.replica, highest < last {
            throw DecodeError(.badValue(Int64(highest.rawValue)), field: "Configuration.replica_highest")
        }
        var recovery: RecoveryMark?
        if let mark = wire.recovery { recovery = try RecoveryMark(wire: mark) }
        self.init(
            members: members, epoch: try identity(wire.epoch, "Configuration.epoch"), replicaHighest: highest,
            recovery: recovery)
    }

    package var wire: RaftConfiguration {
        RaftConfiguration(
            members: members.map(\.wire), epoch: epoch.rawValue, replicaHighest: replicaHighest.rawValue,
            recovery: recovery?.wire)
    }
}

extension LogBase: WireMapped {
    package init(wire: RaftLogBase) throws(DecodeError) {
        self.init(
            index: try identity(wire.index, "LogBase.index"), term: try identity(wire.term, "LogBase.term"),
            chain: wire.chain, configuration: try mapped(wire.configuration, "LogBase.configuration"))
    }

    package var wire: RaftLogBase {
        RaftLogBase(
            index: index.rawValue, term: term.rawValue, chain: chain, configuration: configuration.wire)
    }
}

extension SnapshotID: WireMapped {
    package init(wire: RaftSnapshotID) throws(DecodeError) {
        self.init(
            source: try identity(wire.source, "SnapshotID.source"),
            incarnation: try identity(wire.incarnation, "SnapshotID.incarnation"),
            number: try WireFormat.number(wire.number, "SnapshotID.number"))
    }

    package var wire: RaftSnapshotID {
        RaftSnapshotID(source: source.rawValue, incarnation: incarnation.rawValue, number: number)
    }
}
