import AdminAPI
import AgentConfig
import ClusterBase
import FleetModel
import PeerTransport

// What goes from this node's region to others, for metrics.

/// Bytes sent to nodes of each region, ascending by region.
struct RegionTraffic {
    private(set) var rows: [(region: String, bytes: UInt64)] = []

    mutating func add(_ bytes: UInt64, to region: String) {
        let at = rows.firstIndex { $0.region >= region } ?? rows.count
        if at < rows.count && rows[at].region == region {
            rows[at].bytes += bytes
        } else if rows.count < RootLimits.regionsMax {
            rows.insert((region, bytes), at: at)
        }
    }
}

extension Agent {
    /// Counts what was sent since the last time by where its nodes are now.
    func countRegions() {
        for sent in network.takeSent() {
            guard let region = view.node(sent.node)?.about.locality.region, !region.isEmpty else { continue }
            regionTraffic.add(sent.bytes, to: region)
        }
    }

    /// Of each pair of regions the sender alone counts, so that the sum over all nodes is what went there.
    func addRegions(_ metrics: inout Metrics) {
        countRegions()
        if settings.region.isEmpty { return }
        for row in regionTraffic.rows {
            metrics.add(
                "muster_region_bytes_sent_total", .counter,
                "Bytes sent to nodes of a region, packed as they leave, before encryption.", row.bytes,
                [Metrics.Label("from", settings.region), Metrics.Label("to", row.region)])
        }
        for link in regionLatencies {
            metrics.add(
                "muster_region_round_trip_seconds", .gauge,
                "The round trip to another region that cells are chosen by.", Double(link.micros) / 1e6,
                [Metrics.Label("from", settings.region), Metrics.Label("to", link.region)])
        }
    }

    private var regionLatencies: [(region: String, micros: UInt64)] {
        let known = view.latencies
        return view.regionNames.filter { $0 != settings.region }.compactMap { other in
            known.micros(settings.region, other).map { (other, $0) }
        }
    }
}
