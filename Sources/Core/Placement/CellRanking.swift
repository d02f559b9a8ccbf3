package import ClusterBase
package import FleetModel

/// What new VMs ask of a cell.
package struct CellWish: Hashable, Sendable {
    /// Of one of them.
    package var demand: Resources
    package var count: Int
    /// Those that they may be in; empty for any.
    package var zones: [String]
    /// Where they are best; empty for anywhere.
    package var region: String
    package init(demand: Resources, count: Int = 1, zones: [String] = [], region: String = "") {
        self.demand = demand
        self.count = count
        self.zones = zones
        self.region = region
    }
}

/// In which order cells are asked to take new VMs. What it goes by was true a while ago, so it rules nothing out: the cell
/// that is asked first is the one that most likely says yes.
///
///     a host takes one of them, all hosts together all of them ▸ in the region ▸ nothing waits there ▸ the emptiest ▸ number
package enum CellRanking {
    /// The best cell first; of all cells that are offered, each once.
    package static func order(_ wish: CellWish, _ offers: [CellOffer]) -> [GroupID] {
        let ranked = offers.map { offer in (group: offer.group, rank: rank(wish, offer)) }
        return ranked.sorted {
            $0.rank == $1.rank ? $0.group < $1.group : $0.rank.lexicographicallyPrecedes($1.rank)
        }.map(\.group)
    }

    private static func rank(_ wish: CellWish, _ offer: CellOffer) -> [Int64] {
        let isNear = wish.region.isEmpty || wish.region == offer.region
        // Nobody has heard from it yet.
        guard let report = offer.report else { return [2, isNear ? 0 : 1, 0, 0] }
        let count = Int64(clamping: max(1, wish.count))
        var all = Resources.zero
        for kind in ResourceKind.allCases {
            all.vector[kind.rawValue] =
                wish.demand.vector[kind.rawValue].multipliedReportingOverflow(by: count).partialValue
        }
        let isInZone = wish.zones.isEmpty || wish.zones.contains { report.zones.contains($0) }
        let takesOne = isInZone && report.takesOne(wish.demand)
        let fits: Int64 = !takesOne ? 3 : report.free.holds(all) ? 0 : 1
        return [fits, isNear ? 0 : 1, report.waiting > 0 ? 1 : 0, fullness(report)]
    }

    /// Thousandths of what is scarcest that are in use.
    private static func fullness(_ report: CellReport) -> Int64 {
        var most: Int64 = 0
        for kind in [ResourceKind.cpu, .memory] {
            let offered = report.offered.vector[kind.rawValue]
            guard offered > 0 else { continue }
            most = max(most, (offered - report.free.vector[kind.rawValue]) * 1_000 / offered)
        }
        return most
    }
}

/// A cell that new VMs may go to, and what was heard of it last.
package struct CellOffer: Hashable, Sendable {
    package var group: GroupID
    package var region: String
    package var report: CellReport?
    package init(group: GroupID, region: String, report: CellReport?) {
        self.group = group
        self.region = region
        self.report = report
    }
}
