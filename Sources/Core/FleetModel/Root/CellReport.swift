package import ClusterBase

/// How much room a cell has, as its leader counted it: what the root tells everyone at a low rate, so that they know which
/// cell to ask first.
package struct CellReport: Hashable, Sendable {
    package static let zonesMax = 64
    package static let adviceBytesMax = 2_048

    package var group: GroupID
    /// Hosts that take VMs.
    package var hosts: UInt64 = 0
    /// What those hosts have together, and have free.
    package var offered = Resources.zero
    package var free = Resources.zero
    /// The most of each that one of them has free.
    package var largest = Resources.zero
    /// VMs that wait for a place.
    package var waiting: UInt64 = 0
    package var vms: UInt64 = 0
    /// Of those hosts, ascending.
    package var zones: [String] = []
    /// Promises that the cell does not keep as it is, one of a kind. Wants feature level 3, as the report does.
    package var risks: [CellRisk] = []
    package var at = LogTime.zero
    /// Moves that would make it better, in words, where its controller only proposes them; else empty.
    package var advice = ""
    package init(group: GroupID) { self.group = group }

    /// Whether somebody who knows `known` would choose another way: hosts came or went, VMs begin to wait or no longer do,
    /// a 32nd of the room is another; or what is proposed.
    package func isNews(to known: CellReport) -> Bool {
        if risks.map(\.kind) != known.risks.map(\.kind) { return true }
        if hosts != known.hosts || zones != known.zones || (waiting > 0) != (known.waiting > 0) { return true }
        if advice != known.advice { return true }
        for kind in ResourceKind.allCases {
            let i = kind.rawValue
            if offered.vector[i] != known.offered.vector[i] { return true }
            let step = max(1, offered.vector[i] / 32)
            if abs(free.vector[i] - known.free.vector[i]) >= step { return true }
            if abs(largest.vector[i] - known.largest.vector[i]) >= step { return true }
        }
        return false
    }
}
