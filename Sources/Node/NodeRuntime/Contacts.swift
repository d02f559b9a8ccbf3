package import ClusterBase

/// Which nodes were heard, and since when without a break: any frame counts.
package struct Contacts: Sendable {
    /// One node that was heard.
    package struct Contact: Hashable, Sendable {
        package var node: NodeID
        package var incarnation: Incarnation
        /// The first frame after the last break, or of its process.
        package var since: Instant
        package var heardAt: Instant
    }

    /// Nodes above this number are not noted.
    static let countMax = 16_384

    /// Ascending by node.
    package private(set) var all: [Contact] = []

    /// Notes a frame. Returns whether it comes from a new process of a node that was heard before.
    mutating func heard(
        _ node: NodeID, _ incarnation: Incarnation, _ now: Instant, _ settings: NodeSettings
    ) -> Bool {
        let at = place(node)
        guard at < all.count, all[at].node == node else {
            if all.count < Contacts.countMax {
                all.insert(Contact(node: node, incarnation: incarnation, since: now, heardAt: now), at: at)
            }
            return false
        }
        if now - all[at].heardAt > settings.contactGap { all[at].since = now }
        all[at].heardAt = now
        let isNew = all[at].incarnation < incarnation
        if isNew { (all[at].incarnation, all[at].since) = (incarnation, now) }
        return isNew
    }

    /// This node stood still for `pause` until now.
    mutating func takeOut(_ pause: Nanoseconds, _ now: Instant) {
        for i in all.indices { all[i].heardAt = min(all[i].heardAt + pause, now) }
    }

    package func contact(_ node: NodeID) -> Contact? {
        let at = place(node)
        return at < all.count && all[at].node == node ? all[at] : nil
    }

    private func place(_ node: NodeID) -> Int {
        var low = 0
        var high = all.count
        while low < high {
            let middle = (low + high) / 2
            if all[middle].node < node { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
