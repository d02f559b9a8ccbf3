import ClusterBase
import KeyValueStore
import NodePorts
import NodeStorage
import RaftCore
import StoreLayout

let identity = NodeIdentity(cluster: [UInt8](repeating: 5, count: 16), node: NodeID(3))
let members = Configuration.voters([1, 2, 3])

func smallSettings() -> DirectorySettings {
    var settings = DirectorySettings()
    settings.blockCacheBytes = 4 << 20
    settings.logBufferBytes = 1 << 20
    settings.stateBufferBytes = 1 << 20
    settings.reserveBytes = 1 << 20
    settings.space = SpaceThreshold(permille: 1, freeBytesMin: 1 << 20)
    return settings
}

/// The log of one replica as it grows, and the writes that make it durable.
struct GrowingLog {
    let group: GroupID
    let replica = ReplicaID(3)
    private(set) var last: LogIndex
    private(set) var chain: UInt64
    private var term: UInt64 = 1
    private var sequence: UInt64 = 0

    init(_ group: UInt64) {
        self.group = GroupID(group)
        let empty = RestoredLog(firstMembers: members)
        last = empty.last
        chain = empty.base.chain
    }

    /// Goes on where a restored log ends.
    init(continuing found: RestoredLog, group: UInt64) {
        self.group = GroupID(group)
        last = found.last
        chain = found.lastChain
        term = found.hardState.term.rawValue
    }

    /// The newest entries' places, oldest first, for cuts.
    private(set) var positions: [(index: LogIndex, term: Term, chain: UInt64)] = []

    func create(in log: inout some OrderedStore) throws {
        try StoredLog.createReplica(group, replica, RestoredLog(firstMembers: members), in: &log)
    }

    /// Appends entries in a term of their own, with a vote for `vote`.
    mutating func grow(_ count: Int, bytes: Int = 20, vote: UInt64 = 2) -> GroupWrite {
        term += 1
        sequence += 1
        var entries: [Entry] = []
        for _ in 0..<count {
            let entry = Entry(
                index: last.next, term: Term(term), after: chain,
                content: .command([UInt8](repeating: UInt8(truncatingIfNeeded: term), count: bytes)))
            chain = entry.chain
            last = last.next
            entries.append(entry)
            positions.append((last, Term(term), chain))
            if positions.count > 150 { positions.removeFirst() }
        }
        let state = HardState(term: Term(term), votedFor: ReplicaID(vote), commit: .zero)
        return GroupWrite(
            group: group, replica: replica,
            write: LogWrite(
                sequence: sequence, hardState: state, entries: entries, last: last, base: nil, snapshot: nil))
    }

    var newestTerm: Term { Term(term) }
}

/// What a replica's log holds now; nil when it is damaged.
func restored(_ group: GroupID, in log: some OrderedReader) throws -> RestoredLog? {
    guard case .log(_, let found, _) = try StoredLog.restore(group, cacheBytesMax: 1 << 20, in: log) else { return nil }
    return found
}
