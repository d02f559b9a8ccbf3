import ClusterBase
import FleetModel
import Placement

/// How many migrations may still begin: in the cell, at each host in and out together, and over each rack's uplink.
///
/// A rack's uplink is what all moves take that begin in one rack and end in another; hosts of a zone that name no rack are in
/// one. A move within a rack takes none.
struct MoveBudget {
    /// A rack, which has one link to all others.
    struct Link: Hashable, Sendable {
        var zone: String
        var rack: String
    }

    private(set) var left: Int
    private let most: Int
    private let perHost: Int
    let perLink: Int
    // hash order: looked up, or read by sorted keys
    private var at: [HostID: Int] = [:]
    // hash order: looked up only
    private var over: [Link: Int] = [:]
    /// Hosts that take part in no more.
    private(set) var full: [HostID] = []
    private var fullLinks: [Link] = []
    /// One host of the rack for each of a move's ends at a link, in the order of the moves.
    private(set) var busyLinks: [HostID] = []

    init(_ keeper: borrowing CellKeeper) {
        most = Int(clamping: keeper.view[.migrationsMax])
        left = most
        perHost = Int(clamping: keeper.view[.migrationsPerHostMax])
        perLink = keeper.mutated(.linksUncounted) ? .max : Int(clamping: keeper.view[.migrationsPerLinkMax])
        for id in keeper.migrating.keys.sorted() {
            guard let vm = keeper.view.vms[id], let migration = vm.migration else { continue }
            take(migration.source.assignment.host, migration.target.assignment.host, keeper)
        }
        for id in keeper.pending.keys.sorted() {
            guard let asked = keeper.pending[id], case .move = asked.kind, let vm = keeper.view.vms[id],
                let from = vm.place?.assignment.host, vm.migration == nil
            else { continue }
            take(from, asked.assignment.host, keeper)
        }
    }

    private static func link(_ host: HostID, _ keeper: borrowing CellKeeper) -> Link {
        let place = keeper.view.hosts[host]?.about.locality ?? Locality()
        return Link(zone: place.zone, rack: place.rack)
    }

    /// The links that a move takes; none within a rack.
    private static func links(_ from: HostID, _ to: HostID, _ keeper: borrowing CellKeeper) -> [Link] {
        let ends = [link(from, keeper), link(to, keeper)]
        return ends[0] == ends[1] ? [] : ends
    }

    mutating func take(_ from: HostID, _ to: HostID, _ keeper: borrowing CellKeeper) {
        left -= 1
        for host in [from, to] {
            at[host, default: 0] += 1
            if at[host] == perHost { full.append(host) }
        }
        let links = MoveBudget.links(from, to, keeper)
        if links.isEmpty { return }
        busyLinks += [from, to]
        for link in links {
            over[link, default: 0] += 1
            if over[link] == perLink { fullLinks.append(link) }
        }
    }

    /// Once for each move that is under way at them.
    var busyHosts: [HostID] {
        // hash order: sorted
        at.keys.sorted().flatMap { host in repeatElement(host, count: at[host] ?? 0) }
    }

    func allows(_ host: HostID) -> Bool { left > 0 && at[host, default: 0] < perHost }

    func allows(_ from: HostID, _ to: HostID, _ keeper: borrowing CellKeeper) -> Bool {
        allows(from) && allows(to)
            && MoveBudget.links(from, to, keeper).allSatisfy { over[$0, default: 0] < perLink }
    }

    /// Some hosts are no targets though they may have room.
    var leavesOut: Bool { !full.isEmpty || !fullLinks.isEmpty }

    /// The hosts where a VM may go from its own. O(hosts) while a link is used up.
    func filter(from: HostID, _ keeper: borrowing CellKeeper) -> HostFilter {
        if fullLinks.isEmpty { return HostFilter(except: [from] + full) }
        let own = MoveBudget.link(from, keeper)
        if fullLinks.contains(own) {
            var only: [HostID] = []
            for id in keeper.hostOrder where MoveBudget.link(id, keeper) == own { only.append(id) }
            return HostFilter(only: only, except: [from] + full)
        }
        var except = [from] + full
        for id in keeper.hostOrder where fullLinks.contains(MoveBudget.link(id, keeper)) { except.append(id) }
        return HostFilter(except: except)
    }

    /// For each target: which bound keeps a move from beginning now, and how it is set.
    func lacks(from: HostID, to: [HostID], _ keeper: borrowing CellKeeper) -> [String?] {
        var lacks: [String?] = []
        for host in to { lacks.append(lack(from, host, keeper)) }
        return lacks
    }

    private func lack(_ from: HostID, _ to: HostID, _ keeper: borrowing CellKeeper) -> String? {
        func text(_ where: String, _ count: Int, _ setting: CellSetting) -> String {
            (count == 1 ? "1 move is under way" : "\(count) moves are under way") + " \(`where`), and no more may be; "
                + "wait for one to end, or set \(setting.member)"
        }
        if left <= 0 { return text("in the cell", most - left, .migrationsMax) }
        for host in [from, to] where at[host, default: 0] >= perHost {
            return text("at host \(keeper.hostName(host))", at[host, default: 0], .migrationsPerHostMax)
        }
        for link in MoveBudget.links(from, to, keeper) where over[link, default: 0] >= perLink {
            let rack = link.rack.isEmpty ? "the hosts without a rack" : "rack \(link.rack)"
            let zone = link.zone.isEmpty ? "" : " in zone \(link.zone)"
            return text("over the uplink of \(rack)\(zone)", over[link, default: 0], .migrationsPerLinkMax)
        }
        return nil
    }
}
