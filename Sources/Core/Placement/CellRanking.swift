package import ClusterBase
package import FleetModel

/// What new VMs ask of a cell.
package struct CellWish: Hashable, Sendable {
    /// Of one of them.
    package var demand: Resources
    package var count: Int
    /// Those that they may be in; empty for any.
    package var zones: [String]
    /// Where they are best if they do not say near what they are to be; empty for anywhere.
    package var region: String
    /// Regions to which their way is to be short.
    package var near: [String] = []
    /// The longest round trip to any of these that they may have, in milliseconds; 0: of any length.
    package var nearWithin: UInt32 = 0
    package var choice = VMDescription.CellChoice.near
    package init(demand: Resources, count: Int = 1, zones: [String] = [], region: String = "") {
        self.demand = demand
        self.count = count
        self.zones = zones
        self.region = region
    }

    /// What one VM asks, and `count` of the same.
    package init(_ spec: VMDescription, count: Int = 1, region: String = "") {
        self.init(demand: spec.demand, count: count, zones: spec.zones, region: region)
        (near, nearWithin, choice) = (spec.near, spec.nearWithin, spec.cellChoice)
    }

    /// Whether a cell there is no place for them, however much room it has. A way of which nobody knows how long it is, is too
    /// long where a bound was asked for.
    package func isTooFar(_ region: String, _ latencies: RegionLatencies) -> Bool {
        if nearWithin == 0 || near.isEmpty { return false }
        guard let micros = latencies.farthest(region, from: near) else { return true }
        return micros > UInt64(nearWithin) * 1_000
    }
}

/// Why a cell comes before another one for new VMs, and after which. Less is better in each.
package struct CellRank: Hashable, Sendable {
    /// What is known of the room there.
    package enum Room: Int, Hashable, Sendable, CaseIterable {
        /// One host takes one of them, and all hosts together all of them.
        case all
        case one
        /// Nobody has heard from it yet.
        case unknown
        case none
    }

    package var group: GroupID
    package var room: Room
    /// The longest round trip to where they are to be near, in whole milliseconds; nil where it is not known, 0 where they are to
    /// be near nothing.
    package var millis: UInt64?
    package var isElsewhere: Bool
    /// 0 where nobody said.
    package var cost: UInt64
    package var hasWaiting: Bool
    /// Thousandths of what is scarcest that are in use.
    package var fullness: Int64

    fileprivate func key(_ choice: VMDescription.CellChoice) -> [UInt64] {
        let way = millis ?? .max
        let price = cost == 0 ? .max : cost
        let rest = [hasWaiting ? 1 : 0, UInt64(clamping: fullness), group.rawValue]
        let region: UInt64 = isElsewhere ? 1 : 0
        return switch choice {
        case .near: [UInt64(room.rawValue), way, region, rest[0], price, rest[1], rest[2]]
        case .cheap: [UInt64(room.rawValue), price, way, region] + rest
        }
    }
}

/// In which order cells are asked to take new VMs. What it goes by was true a while ago, so it rules nothing out but by a bound
/// that was asked for: the cell that is asked first is the one that most likely says yes.
///
///     near:  room ▸ the way to where they are to be near ▸ in the region ▸ nothing waits there ▸ cost ▸ the emptiest ▸ number
///     cheap: room ▸ cost ▸ the way ▸ in the region ▸ nothing waits there ▸ the emptiest ▸ number
package enum CellRanking {
    /// The best cell first; of all cells that are offered, each once.
    package static func order(
        _ wish: CellWish, _ offers: [CellOffer], _ latencies: RegionLatencies = RegionLatencies()
    ) -> [GroupID] {
        ranks(wish, offers, latencies).map(\.group)
    }

    package static func ranks(
        _ wish: CellWish, _ offers: [CellOffer], _ latencies: RegionLatencies = RegionLatencies()
    ) -> [CellRank] {
        let ranked = offers.map { offer in
            let rank = rank(wish, offer, latencies)
            return (rank: rank, key: rank.key(wish.choice))
        }
        return ranked.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map(\.rank)
    }

    /// For VMs that are spread over regions, one after the other and from the beginning again: the cells of one region each, best
    /// first, and of a soft spread the others after them. Where no cell says where it is, all of them are one region.
    package static func turns(_ order: [(group: GroupID, region: String)], isHard: Bool) -> [[GroupID]] {
        var regions: [String] = []
        for cell in order where !regions.contains(cell.region) { regions.append(cell.region) }
        return regions.map { region in
            order.filter { $0.region == region }.map(\.group)
                + (isHard ? [] : order.filter { $0.region != region }.map(\.group))
        }
    }

    private static func rank(_ wish: CellWish, _ offer: CellOffer, _ latencies: RegionLatencies) -> CellRank {
        let isNear = !wish.near.isEmpty || wish.region.isEmpty || wish.region == offer.region
        // A way of less than a millisecond is one, so that the region itself comes before its neighbours.
        let millis = latencies.farthest(offer.region, from: wish.near).map { ($0 + 999) / 1_000 }
        var rank = CellRank(
            group: offer.group, room: .unknown, millis: millis, isElsewhere: !isNear, cost: offer.report?.cost ?? 0,
            hasWaiting: false, fullness: 0)
        guard let report = offer.report else { return rank }
        let count = Int64(clamping: max(1, wish.count))
        var all = Resources.zero
        for kind in ResourceKind.allCases {
            all.vector[kind.rawValue] =
                wish.demand.vector[kind.rawValue].multipliedReportingOverflow(by: count).partialValue
        }
        let isInZone = wish.zones.isEmpty || wish.zones.contains { report.zones.contains($0) }
        let takesOne = isInZone && report.takesOne(wish.demand)
        rank.room = !takesOne ? .none : report.free.holds(all) ? .all : .one
        rank.hasWaiting = report.waiting > 0
        rank.fullness = fullness(report)
        return rank
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
