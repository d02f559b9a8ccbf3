internal import BinaryCoding
internal import ClusterBase
internal import RaftCore
internal import Schema

extension RaftEntry {
    init(_ entry: Entry) {
        self.init()
        index = entry.index.rawValue
        term = entry.term.rawValue
        chain = entry.chain
        switch entry.content {
        case .noop: content = .noop(RaftNothing())
        case .command(let bytes): content = .command(bytes)
        case .configuration(let configuration): content = .configuration(RaftConfiguration(configuration))
        }
    }
}

extension Entry {
    init(_ wire: RaftEntry) throws(DecodeError) {
        let content: EntryContent
        switch wire.content {
        case .noop: content = .noop
        case .command(let bytes): content = .command(bytes)
        case .configuration(let configuration): content = .configuration(try Configuration(configuration))
        case nil: throw DecodeError(.missing, field: "Entry.content")
        }
        self.init(index: LogIndex(wire.index), term: Term(wire.term), chain: wire.chain, content: content)
    }
}

extension RaftConfiguration {
    init(_ configuration: Configuration) {
        self.init()
        for member in configuration.members {
            var wire = RaftMember()
            var peer = RaftPeer()
            peer.replica = member.peer.replica.rawValue
            peer.node = member.peer.node.rawValue
            wire.peer = peer
            wire.role = RaftRole(rawValue: Int32(member.role.rawValue) + 1)
            wire.promotesItself = member.promotesItself
            wire.priority = Int32(member.priority)
            members.append(wire)
        }
        epoch = configuration.epoch.rawValue
        replicaHighest = configuration.replicaHighest.rawValue
        if let mark = configuration.recovery {
            var wire = RaftRecoveryMark()
            wire.possibleLossAfter = mark.possibleLossAfter.rawValue
            wire.term = mark.term.rawValue
            recovery = wire
        }
    }
}

extension Configuration {
    init(_ wire: RaftConfiguration) throws(DecodeError) {
        var members: [Member] = []
        for member in wire.members {
            guard let peer = member.peer, let role = Role(rawValue: UInt8(truncatingIfNeeded: member.role.rawValue - 1)),
                let priority = Int8(exactly: member.priority)
            else { throw DecodeError(.badValue(0), field: "Configuration.members") }
            members.append(
                Member(
                    peer: Peer(replica: ReplicaID(peer.replica), node: NodeID(peer.node)), role: role,
                    promotesItself: member.promotesItself, priority: priority))
        }
        self.init(
            members: members, epoch: Epoch(wire.epoch), replicaHighest: ReplicaID(wire.replicaHighest),
            recovery: wire.recovery.map {
                RecoveryMark(possibleLossAfter: LogIndex($0.possibleLossAfter), term: Term($0.term))
            })
    }
}

extension RaftLogBase {
    init(_ base: LogBase) {
        self.init()
        index = base.index.rawValue
        term = base.term.rawValue
        chain = base.chain
        configuration = RaftConfiguration(base.configuration)
    }
}

extension LogBase {
    init(_ wire: RaftLogBase) throws(DecodeError) {
        guard let configuration = wire.configuration else {
            throw DecodeError(.missing, field: "LogBase.configuration")
        }
        self.init(
            index: LogIndex(wire.index), term: Term(wire.term), chain: wire.chain,
            configuration: try Configuration(configuration))
    }
}

extension RaftSnapshotID {
    init(_ id: SnapshotID) {
        self.init()
        source = id.source.rawValue
        incarnation = id.incarnation.rawValue
        number = id.number
    }
}

extension SnapshotID {
    init(_ wire: RaftSnapshotID) throws(DecodeError) {
        self.init(
            source: ReplicaID(wire.source), incarnation: Incarnation(wire.incarnation), number: wire.number)
    }
}
