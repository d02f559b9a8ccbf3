package import ClusterBase
internal import Schema

// How far regions are from each other: round trips that their nodes measure and tell the root, or that an operator sets. They
// say which cell is asked first for a VM that is to be near somewhere, and are as old as they are.

/// A round trip to another region, as somebody measured it.
package struct RegionRoundTrip: Hashable, Sendable {
    package static let microsMax: UInt64 = 60_000_000

    package var region: String
    package var micros: UInt64
    package init(_ region: String, micros: UInt64) {
        self.region = region
        self.micros = micros
    }
}

/// What is known of the ways from one region to others.
package struct RegionLinks: Hashable, Sendable {
    package struct Link: Hashable, Sendable {
        package var region: String
        /// What was measured last; 0 for nothing.
        package var micros: UInt64 = 0
        /// Who measured it, and when that was told.
        package var node = NodeID(0)
        package var at = LogTime.zero
        /// What an operator set, which counts whatever is measured; 0 for nothing.
        package var setMicros: UInt64 = 0
        package init(_ region: String) { self.region = region }
    }

    package var region: String
    /// Ascending by region.
    package var links: [Link] = []
    package init(_ region: String) { self.region = region }

    package func link(to region: String) -> Link? { links.first { $0.region == region } }

    mutating func change(_ region: String, _ body: (inout Link) -> Void) {
        let at = links.firstIndex { $0.region >= region } ?? links.count
        if at == links.count || links[at].region != region { links.insert(Link(region), at: at) }
        body(&links[at])
    }
}

/// What is known of the ways between regions.
package struct RegionLatencies: Hashable, Sendable {
    /// Ascending by region.
    package var rows: [RegionLinks]
    package init(_ rows: [RegionLinks] = []) { self.rows = rows }

    /// What counts as the round trip between two regions, in microseconds: what an operator set, else what was measured last in
    /// either direction; nil where that is not known.
    package func micros(_ a: String, _ b: String) -> UInt64? {
        if a.isEmpty || b.isEmpty { return nil }
        if a == b { return 0 }
        let links = [link(a, b), link(b, a)].compactMap { $0 }
        if let set = links.first(where: { $0.setMicros > 0 }) { return set.setMicros }
        return links.filter { $0.micros > 0 }.max { $0.at < $1.at }?.micros
    }

    /// The longest round trip between a region and any of several; nil where one of them is not known.
    package func farthest(_ region: String, from others: [String]) -> UInt64? {
        var most: UInt64 = 0
        for other in others {
            guard let micros = micros(region, other) else { return nil }
            most = max(most, micros)
        }
        return most
    }

    package func link(_ a: String, _ b: String) -> RegionLinks.Link? {
        rows.first { $0.region == a }?.link(to: b)
    }
}

extension RegionLinks: RootRecord, RootMapped {
    package static var table: RootTable { .latencies }
    package var rowKey: [UInt8] { Self.table.key(region) }

    init?(_ wire: WireRegionLatencies) {
        self.init(wire.region)
        links = wire.links.map { wire in
            var link = Link(wire.region)
            (link.micros, link.node, link.at) = (wire.micros, NodeID(wire.node), LogTime(wire.at))
            link.setMicros = wire.setMicros
            return link
        }
    }
    var wire: WireRegionLatencies {
        WireRegionLatencies(
            region: region,
            links: links.map {
                WireRegionLatencies.Link(
                    region: $0.region, micros: $0.micros, node: $0.node.rawValue, at: $0.at.rawValue,
                    setMicros: $0.setMicros)
            })
    }
}

extension RootView {
    package var latencies: RegionLatencies { RegionLatencies(regionLinks) }
}

extension RootStep {
    /// What is known of regions without nodes goes with them, unless an operator set it.
    mutating func reportLatencies(
        _ id: NodeID, _ found: [RegionRoundTrip]
    ) throws(StoreError) -> RootResult.Outcome {
        let isSound = found.allSatisfy {
            RootCheck.isText($0.region) && (1...RegionRoundTrip.microsMax).contains($0.micros)
        }
        if !isSound || found.count > RootLimits.regionsMax { return .refused(.invalid(.region)) }
        guard let node = try node(id), node.state != .removed else { return .refused(.unknownNode(id)) }
        let own = node.about.locality.region
        if own.isEmpty { return .refused(.invalid(.region)) }
        // hash order: looked up only
        var regions: Set<String> = []
        for node in try all(RootNode.self) where node.state != .removed { regions.insert(node.about.locality.region) }
        let rows = try all(RegionLinks.self)
        for var row in rows where row.region != own && !regions.contains(row.region) {
            row.links.removeAll { $0.setMicros == 0 }
            if row.links.isEmpty { delete(row) } else { put(row) }
        }
        let known = rows.first { $0.region == own }
        if known == nil && rows.count >= RootLimits.regionsMax { return .refused(.tooMany(.regions)) }
        var row = known ?? RegionLinks(own)
        for trip in found where trip.region != own && regions.contains(trip.region) {
            row.change(trip.region) { ($0.micros, $0.node, $0.at) = (trip.micros, id, time) }
        }
        row.links.removeAll { !regions.contains($0.region) && $0.setMicros == 0 }
        if row.links.count > RootLimits.regionsMax { return .refused(.tooMany(.regions)) }
        if row != known { put(row) }
        return .done
    }

    /// It lies with the region that comes first.
    mutating func setLatency(
        _ a: String, _ b: String, _ micros: UInt64
    ) throws(StoreError) -> RootResult.Outcome {
        for name in [a, b] where name.isEmpty || !RootCheck.isText(name) { return .refused(.invalid(.region)) }
        if a == b || micros > RegionRoundTrip.microsMax { return .refused(.invalid(.region)) }
        let (first, second) = (min(a, b), max(a, b))
        let rows = try all(RegionLinks.self)
        let known = rows.first { $0.region == first }
        if micros == 0 {
            guard var row = known, row.link(to: second) != nil else { return .done }
            row.change(second) { $0.setMicros = 0 }
            row.links.removeAll { $0.micros == 0 && $0.setMicros == 0 }
            if row.links.isEmpty { delete(row) } else { put(row) }
            return .done
        }
        let nodes = try all(RootNode.self).filter { $0.state != .removed }
        for name in [a, b] where !nodes.contains(where: { $0.about.locality.region == name }) {
            return .refused(.unknownRegion(name))
        }
        if known == nil && rows.count >= RootLimits.regionsMax { return .refused(.tooMany(.regions)) }
        var row = known ?? RegionLinks(first)
        row.change(second) { $0.setMicros = micros }
        if row.links.count > RootLimits.regionsMax { return .refused(.tooMany(.regions)) }
        put(row)
        return .done
    }
}
