package import ClusterBase

/// How much room a cell has, as its leader counted it: what the root tells everyone at a low rate, so that they know which
/// cell to ask first.
package struct CellReport: Hashable, Sendable {
    package static let zonesMax = 64
    package static let adviceBytesMax = 2_048
    package static let roomsMax = 8

    package var group: GroupID
    /// Hosts that take VMs.
    package var hosts: UInt64 = 0
    /// What those hosts have together, and have free.
    package var offered = Resources.zero
    package var free = Resources.zero
    /// The most of each that one of them has free.
    package var largest = Resources.zero
    /// What single hosts have free, without those that have no more of anything than another one; where there are too many of them,
    /// the most of each that several have. None where nobody said. Wants feature level 3, as the report does.
    package var rooms: [Resources] = []
    /// VMs that wait for a place.
    package var waiting: UInt64 = 0
    package var vms: UInt64 = 0
    /// Of those hosts, ascending.
    package var zones: [String] = []
    /// Promises that the cell does not keep as it is, one of a kind. Wants feature level 3, as the report does.
    package var risks: [CellRisk] = []
    package var at = LogTime.zero
    /// Of the setting `splitAbove`; 0 for none. Wants feature level 3, as the report does.
    package var splitAbove: UInt64 = 0
    /// Of the setting `cost`; 0 where nobody said. Wants feature level 3, as the report does.
    package var cost: UInt64 = 0
    /// Moves that would make it better, in words, where its controller only proposes them; else empty.
    package var advice = ""
    package init(group: GroupID) { self.group = group }

    /// Whether a host may have so much free. True where no single host does only if several had to be told as one.
    package func takesOne(_ demand: Resources) -> Bool {
        hosts > 0 && largest.holds(demand) && (rooms.isEmpty || rooms.contains { $0.holds(demand) })
    }

    /// Counts one host.
    package mutating func add(room free: Resources) {
        if rooms.contains(where: { $0.holds(free) }) { return }
        rooms.removeAll { free.holds($0) }
        if rooms.count < CellReport.roomsMax { return rooms.append(free) }
        // With the one to which that adds the least.
        var best = (at: 0, more: Int64.max)
        for (i, room) in rooms.enumerated() {
            var more: Int64 = 0
            for kind in ResourceKind.allCases {
                let (a, b) = (room.vector[kind.rawValue], free.vector[kind.rawValue])
                more += abs(a - b) * 1_000 / max(1, abs(a), abs(b))
            }
            if more < best.more { best = (i, more) }
        }
        var both = rooms.remove(at: best.at)
        both.vector = pointwiseMax(both.vector, free.vector)
        rooms.removeAll { both.holds($0) }
        rooms.append(both)
    }

    /// Whether somebody who knows `known` would choose another way: hosts came or went, VMs begin to wait or no longer do,
    /// a 32nd of the room is another; or what is proposed.
    package func isNews(to known: CellReport) -> Bool {
        if risks.map(\.kind) != known.risks.map(\.kind) { return true }
        if hosts != known.hosts || zones != known.zones || (waiting > 0) != (known.waiting > 0) { return true }
        if advice != known.advice || splitAbove != known.splitAbove || cost != known.cost { return true }
        for kind in ResourceKind.allCases {
            let i = kind.rawValue
            if offered.vector[i] != known.offered.vector[i] { return true }
            let step = max(1, offered.vector[i] / 32)
            if abs(free.vector[i] - known.free.vector[i]) >= step { return true }
            if abs(largest.vector[i] - known.largest.vector[i]) >= step { return true }
        }
        return !rooms.allSatisfy { isNear($0, known.rooms) } || !known.rooms.allSatisfy { isNear($0, rooms) }
    }

    private func isNear(_ room: Resources, _ others: [Resources]) -> Bool {
        others.contains { other in
            ResourceKind.allCases.allSatisfy { kind in
                let i = kind.rawValue
                return abs(room.vector[i] - other.vector[i]) < max(1, offered.vector[i] / 32)
            }
        }
    }
}
