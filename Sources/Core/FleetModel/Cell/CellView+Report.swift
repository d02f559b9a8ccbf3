package import ClusterBase

extension CellView {
    /// How much room the cell has, for those who choose among cells. O(hosts).
    package func report(of group: GroupID) -> CellReport {
        var report = CellReport(group: group)
        // hash order: read sorted
        var zones: Set<String> = []
        for id in hosts.keys.sorted() {
            guard let host = hosts[id], host.state == .ready else { continue }
            let free = host.offered - host.used
            report.hosts += 1
            report.offered += host.offered
            report.free += free
            report.largest.vector = pointwiseMax(report.largest.vector, free.vector)
            report.add(room: free)
            zones.insert(host.about.locality.zone)
        }
        report.zones = Array(zones.sorted().prefix(CellReport.zonesMax))
        report.waiting = UInt64(count(of: .waiting))
        report.vms = UInt64(vms.count)
        report.splitAbove = self[.splitAbove]
        report.cost = self[.cost]
        return report
    }
}
