package import ClusterBase

/// What the node that leads a group has heard of the others: the only facts of the moment that a plan is made with.
package struct NodeWatch: Sendable {
    /// One node that was heard.
    package struct Fact: Hashable, Sendable {
        package var node: NodeID
        /// The first sign after the last break.
        package var since: Instant
        package var heardAt: Instant
        package init(node: NodeID, since: Instant, heardAt: Instant) {
            self.node = node
            self.since = since
            self.heardAt = heardAt
        }
    }

    /// The node that watches: always there.
    package var own: NodeID
    /// Since when it has watched: silence before is nobody's fault.
    package var watchingSince: Instant
    /// A node that is silent for longer is not there.
    package var gap: Nanoseconds
    private var facts: [Fact]

    package init(own: NodeID, watchingSince: Instant, facts: [Fact], gap: Nanoseconds = .seconds(5)) {
        self.own = own
        self.watchingSince = watchingSince
        self.gap = gap
        self.facts = facts.sorted { $0.node < $1.node }
    }

    private func fact(_ node: NodeID) -> Fact? {
        var low = 0
        var high = facts.count
        while low < high {
            let middle = (low + high) / 2
            if facts[middle].node < node { low = middle + 1 } else { high = middle }
        }
        return low < facts.count && facts[low].node == node ? facts[low] : nil
    }

    /// How long nothing was heard of the node.
    package func silence(of node: NodeID, at now: Instant) -> Nanoseconds {
        if node == own { return .zero }
        return now - max(fact(node)?.heardAt ?? watchingSince, watchingSince)
    }

    /// How long the node has been there without a break; nil when it is not there.
    package func presence(of node: NodeID, at now: Instant) -> Nanoseconds? {
        if node == own { return Nanoseconds(.max) }
        guard let fact = fact(node), now - fact.heardAt <= gap else { return nil }
        return now - fact.since
    }
}
