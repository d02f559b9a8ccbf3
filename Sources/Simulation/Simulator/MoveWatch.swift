import ClusterBase
import FleetModel
import RaftCore

/// What moves that a cell's controllers begin keep to, worked out from its rows alone: bounds on how many there are at one
/// time, and the rest of a VM between two moves for a better balance.
///
/// A controller plans by what it knows. Entries that are before its own in the log may change a bound, or a host's rack, without
/// its knowledge: for a while the older ones count, too. What owners have moved keeps to no bound.
struct MoveWatch {
    /// Of what may be on its way when a controller plans.
    private static let entriesUnderWayMax: UInt64 = 100
    private static let timeUnderWayMax: Int64 = 5_000_000_000
    /// Clocks go wrong by a tenth, and a new leader counts from before it has read the state.
    private static let restSlack: Int64 = 1_000_000_000

    private struct Bounds: Equatable {
        var cell: UInt64
        var host: UInt64
        var link: UInt64
    }

    private struct Link: Hashable {
        var zone: String
        var rack: String
    }

    private struct Move {
        var ends: [HostID]
        /// Empty within a rack, and where a rack is another by now.
        var links: [Link]
    }

    private struct Rest {
        var since: Int64
        /// The shortest that was set from then on.
        var least: Int64
    }

    /// Bounds that are no more, and since when.
    private var former: [(bounds: Bounds, until: Int64, entry: LogIndex)] = []
    private var current: Bounds?
    private var racksAsOf: Int64 = .min
    // hash order: read sorted
    private var open: [VMID: Move] = [:]
    // hash order: looked up, or read sorted
    private var rests: [VMID: Rest] = [:]

    mutating func follow(
        _ before: CellView, _ after: CellView, at now: Int64, entry: LogIndex
    ) -> FleetRules.Broken? {
        followBounds(after, now, entry)
        followRacks(before, after, now)
        let cooldown = Int64(clamping: after[.moveCooldown]) * 1_000_000
        for id in rests.keys.sorted() {
            guard let rest = rests[id], rest.least > cooldown else { continue }
            rests[id] = Rest(since: rest.since, least: cooldown)
        }
        for id in before.vms.keys.sorted() {
            guard let old = before.vms[id] else { continue }
            if after.vms[id] == nil { rests[id] = nil }
            guard let migration = old.migration, after.vms[id]?.migration?.target.epoch != migration.target.epoch else {
                continue
            }
            open[id] = nil
            if migration.cause == .rebalance, after.vms[id] != nil { rests[id] = Rest(since: now, least: cooldown) }
        }
        var isNew = false
        for id in after.vms.keys.sorted() {
            guard let migration = after.vms[id]?.migration,
                [.rebalance, .drain, .capacity].contains(migration.cause),
                before.vms[id]?.migration?.target.epoch != migration.target.epoch
            else { continue }
            isNew = true
            let ends = [migration.source.assignment.host, migration.target.assignment.host]
            let links = ends.map { MoveWatch.link($0, after) }
            open[id] = Move(ends: ends, links: links[0] == links[1] ? [] : links)
            if migration.cause == .rebalance, let broken = restless(id, now) { return broken }
        }
        return isNew ? exceeded(now) : nil
    }

    private static func link(_ host: HostID, _ view: CellView) -> Link {
        let place = view.hosts[host]?.about.locality ?? Locality()
        return Link(zone: place.zone, rack: place.rack)
    }

    private mutating func followBounds(_ view: CellView, _ now: Int64, _ entry: LogIndex) {
        let bounds = Bounds(
            cell: view[.migrationsMax], host: view[.migrationsPerHostMax], link: view[.migrationsPerLinkMax])
        if let current, current != bounds { former.append((current, now, entry)) }
        current = bounds
        former.removeAll {
            now - $0.until > MoveWatch.timeUnderWayMax
                && entry.rawValue - $0.entry.rawValue > MoveWatch.entriesUnderWayMax
        }
    }

    private mutating func followRacks(_ before: CellView, _ after: CellView, _ now: Int64) {
        for id in after.hosts.keys.sorted() where MoveWatch.link(id, before) != MoveWatch.link(id, after) {
            racksAsOf = now
            for vm in open.keys.sorted() {
                guard let move = open[vm], move.ends.contains(id) else { continue }
                open[vm] = Move(ends: move.ends, links: [])
            }
        }
    }

    private func restless(_ id: VMID, _ now: Int64) -> FleetRules.Broken? {
        guard let rest = rests[id], now - rest.since < rest.least / 10 * 9 - MoveWatch.restSlack else { return nil }
        return FleetRules.Broken(
            promise: "what was moved rests",
            detail:
                "VM \(id) is moved for a better balance \((now - rest.since) / 1_000_000) ms after it was, and is to rest "
                + "for \(rest.least / 1_000_000)")
    }

    private func exceeded(_ now: Int64) -> FleetRules.Broken? {
        let all = former.map(\.bounds) + (current.map { [$0] } ?? [])
        func most(_ bound: (Bounds) -> UInt64) -> Int { Int(clamping: all.map(bound).max() ?? 0) }
        // hash order: looked up, or read by sorted keys
        var at: [HostID: Int] = [:]
        // hash order: only the most counts
        var over: [Link: Int] = [:]
        for id in open.keys.sorted() {
            for host in open[id]?.ends ?? [] { at[host, default: 0] += 1 }
            for link in open[id]?.links ?? [] { over[link, default: 0] += 1 }
        }
        let hosts = at.values.max() ?? 0
        let links = now - racksAsOf > MoveWatch.timeUnderWayMax ? over.values.max() ?? 0 : 0
        if open.count <= most(\.cell) && hosts <= most(\.host) && links <= most(\.link) { return nil }
        return FleetRules.Broken(
            promise: "moves keep to their bounds",
            detail:
                "controllers have \(open.count) under way in the cell, \(hosts) at a host and \(links) over an uplink; set are "
                + "\(most(\.cell)), \(most(\.host)) and \(most(\.link))")
    }
}
