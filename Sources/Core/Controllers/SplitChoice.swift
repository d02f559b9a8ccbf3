package import ClusterBase
package import FleetModel

/// Which hosts of a cell go to another one, by command or by themselves.
///
/// Several ways to divide the hosts are tried: by racks, each zone giving its share; the same with racks that hold VMs of one hard group
/// kept together; whole zones; and by hand, also with one rack divided to make it as many as are wanted, and by name. The best is
/// the one after which both cells can be what the cell is to be, and by which as many go as are wanted, the fewest are held back, and
/// the fewest racks are divided, in this order. O(hosts) each, and O(groups' hosts).
package struct SplitChoice: Sendable {
    /// In the order in which they go.
    package var nodes: [NodeID] = []
    /// Who of them stays for now, and what keeps it.
    // hash order: looked up, or counted
    package var held: [NodeID: CellTies.Tie] = [:]
    /// Both cells have as many hosts, in as many zones, as the cell wants.
    package var isEnough = true
    /// Hosts that would go by their names, and why others go instead of them.
    package var passedOver: [(node: NodeID, why: String)] = []

    /// What is chosen from.
    package struct Facts {
        package var cell: RootCell
        /// The cell's hosts.
        package var nodes: [RootNode]
        /// Hosts of the cell where they go.
        package var there: [RootNode] = []
        package var ties = CellTies()
        package init(cell: RootCell, nodes: [RootNode]) {
            self.cell = cell
            self.nodes = nodes
        }
    }

    private static let passedOverMax = 16
    /// Up to which number of zones all ways to part them are tried.
    private static let zonesTriedMax = 10

    /// `count` hosts at most, which somebody asked for.
    package static func byHand(_ count: Int, _ facts: Facts) -> SplitChoice {
        let search = Search(facts, count: min(count, facts.nodes.count, RootLimits.plannedHostsMax), mayExceed: false)
        if search.count == search.nodes.count {
            // Nothing is to be chosen.
            return search.judged(search.nodes)
        }
        var ways = search.ways
        ways += ways.map(search.filled)
        ways.append(search.nodes.sorted { $0.name < $1.name }.prefix(search.count).map { $0 })
        var choice = search.best(ways.filter { !$0.isEmpty })
        choice.passedOver = search.passedOver(choice)
        return choice
    }

    /// Half of them, about; nil where either cell would be left with less than it is to have.
    package static func half(_ facts: Facts) -> SplitChoice? {
        if facts.nodes.count < 2 { return nil }
        let half = min(facts.nodes.count / 2, RootLimits.plannedHostsMax)
        let search = Search(facts, count: half, mayExceed: true)
        let ways = search.ways.map { Array($0.prefix(RootLimits.plannedHostsMax)) }.filter(search.isEnough)
        return ways.isEmpty ? nil : search.best(ways)
    }

    private struct Search {
        let facts: Facts
        let count: Int
        /// One more is as good as one less.
        let mayExceed: Bool
        /// By zone, rack and name.
        let nodes: [RootNode]
        let zones: [String]
        let groups: [CellTies.Group]
        /// Who is held back whoever goes along, or nearly so.
        // hash order: looked up only
        private var bound: Set<NodeID> = []

        init(_ facts: Facts, count: Int, mayExceed: Bool) {
            self.facts = facts
            self.count = count
            self.mayExceed = mayExceed
            nodes = SplitChoice.inOrder(facts.nodes)
            // hash order: sorted at once
            zones = Set(nodes.map(\.about.locality.zone)).sorted()
            groups = facts.ties.groups
            let most = max(count, nodes.count - count)
            // hash order: looked up only
            bound = Set(nodes.map(\.id).filter { facts.ties.stays[HostID(rawValue: $0.rawValue)] != nil })
            for tie in groups where !tie.group.rule.isAboutParting && (tie.isLoose || tie.hosts.count > most) {
                bound.formUnion(tie.hosts.map { NodeID(rawValue: $0.rawValue) })
            }
        }

        // MARK: Ways to divide them

        var ways: [[RootNode]] {
            var apart = HostCompany()
            apart.racksApart = true
            let narrow = groups.filter { !apart.keeps($0.group) }
            let racks = units(narrow)
            var ways = [byZones(racks)]
            if narrow.count < groups.count { ways.append(byZones(units(groups))) }
            if !groups.isEmpty { ways += [byZones(units([])), wholeZones] }
            // Racks that make the number where the zones' shares do not.
            if zones.count > 1 { ways.append(taken(racks)) }
            ways.append(taken(racks.enumerated().sorted { ($0.1.count, $0.0) < ($1.1.count, $1.0) }.map(\.1)))
            return ways.filter { !$0.isEmpty }
        }

        private func taken(_ units: [[RootNode]]) -> [RootNode] {
            var going: [RootNode] = []
            take(units, upTo: count, &going)
            return going
        }

        /// Hosts that go or stay together: a rack, and racks that hold VMs of one of these groups. What is too large to go, and to stay,
        /// is not kept together. First those of which the fewest are held back whoever goes.
        private func units(_ groups: [CellTies.Group]) -> [[RootNode]] {
            var units: [[RootNode]] = []
            for node in nodes {
                let place = node.about.locality
                // Who names no rack is in none.
                if let last = units.last?.last?.about.locality, !place.rack.isEmpty, last.zone == place.zone,
                    last.rack == place.rack
                {
                    units[units.count - 1].append(node)
                } else {
                    units.append([node])
                }
            }
            // hash order: looked up only
            var unitOf: [NodeID: Int] = [:]
            for (i, unit) in units.enumerated() { for node in unit { unitOf[node.id] = i } }
            for tie in groups {
                // hash order: sorted at once
                let joined = Set(tie.hosts.compactMap { unitOf[NodeID(rawValue: $0.rawValue)] }).sorted()
                guard let first = joined.first, joined.count > 1 else { continue }
                let size = joined.reduce(0) { $0 + units[$1].count }
                if size > max(count, nodes.count - count) { continue }
                for other in joined.dropFirst() {
                    for node in units[other] { unitOf[node.id] = first }
                    units[first] += units[other]
                    units[other] = []
                }
            }
            let left = units.filter { !$0.isEmpty }.map { unit in
                (unit, bound: bound.isEmpty ? 0 : unit.count { bound.contains($0.id) })
            }
            return left.enumerated().sorted { ($0.element.bound, $0.offset) < ($1.element.bound, $1.offset) }
                .map(\.element.0)
        }

        /// Each zone gives its share.
        private func byZones(_ units: [[RootNode]]) -> [RootNode] {
            let wide = units.filter { unit in
                unit.contains { $0.about.locality.zone != unit[0].about.locality.zone }
            }
            var going: [RootNode] = []
            // Those of several zones first: of these, too, their share.
            take(wide, upTo: wide.reduce(0) { $0 + $1.count } * count / nodes.count, &going)
            // hash order: looked up only
            let known = Set(wide.flatMap { $0.map(\.id) })
            var sum = 0
            for zone in zones {
                sum += nodes.count { $0.about.locality.zone == zone }
                // As many as make it the share of all zones so far.
                let upTo = (sum * count + nodes.count - 1) / nodes.count
                let here = units.filter { $0[0].about.locality.zone == zone && !known.contains($0[0].id) }
                let later = going.count { $0.about.locality.zone > zone }
                take(here, upTo: min(upTo + later, count), &going)
            }
            // What a zone could not give others do.
            // hash order: looked up only
            let gone = Set(going.map(\.id))
            take(units.filter { !gone.contains($0[0].id) }, upTo: count, &going)
            return going
        }

        /// Each unit that brings their number nearer to `upTo`.
        private func take(_ units: [[RootNode]], upTo: Int, _ going: inout [RootNode]) {
            for unit in units {
                let left = upTo - going.count
                if left <= 0 { break }
                if unit.count <= left || mayExceed && unit.count - left < left { going += unit }
            }
        }

        /// The zones that are together nearest to what is wanted.
        private var wholeZones: [RootNode] {
            let sizes = zones.map { zone in nodes.count { $0.about.locality.zone == zone } }
            var best: (off: Int, zones: [String]) = (count, [])
            func judge(_ chosen: [Int]) {
                let sum = chosen.reduce(0) { $0 + sizes[$1] }
                if sum > count && !mayExceed || sum == nodes.count { return }
                let off = abs(count - sum)
                if off < best.off { best = (off, chosen.map { zones[$0] }) }
            }
            if zones.count <= SplitChoice.zonesTriedMax {
                for subset in 1..<(1 << zones.count) { judge(zones.indices.filter { subset >> $0 & 1 == 1 }) }
            } else {
                var chosen: [Int] = []
                var sum = 0
                for i in zones.indices where sum + sizes[i] <= count {
                    chosen.append(i)
                    sum += sizes[i]
                }
                judge(chosen)
            }
            return nodes.filter { best.zones.contains($0.about.locality.zone) }
        }

        /// As many as are wanted, with others of any rack.
        func filled(_ going: [RootNode]) -> [RootNode] {
            // hash order: looked up only
            let gone = Set(going.map(\.id))
            let rest = nodes.filter { !gone.contains($0.id) }
            let open = rest.filter { !bound.contains($0.id) } + rest.filter { bound.contains($0.id) }
            return going + open.prefix(count - going.count)
        }

        // MARK: What comes of one

        private func staying(_ going: [RootNode]) -> [RootNode] {
            // hash order: looked up only
            let gone = Set(going.map(\.id))
            return nodes.filter { !gone.contains($0.id) }
        }

        func company(_ going: [RootNode]) -> HostCompany {
            HostCompany(
                of: going.map(\.id), staying: staying(going).map(\.about.locality),
                there: (facts.there + going).map(\.about.locality))
        }

        func isEnough(_ going: [RootNode]) -> Bool {
            let cell = facts.cell
            return [facts.there + going, staying(going)].allSatisfy { side in
                if cell.survives == nil { return !side.isEmpty }
                // hash order: counted only
                let own = Set(side.map(\.about.locality.zone)).count
                return side.count >= Int(cell.replicas) && own >= min(2, zones.count)
            }
        }

        func judged(_ going: [RootNode]) -> SplitChoice {
            var choice = SplitChoice()
            choice.nodes = SplitChoice.inOrder(going).map(\.id)
            // hash order: looked up by the same ids
            for (host, tie) in facts.ties.held(company(going), groups) {
                choice.held[NodeID(rawValue: host.rawValue)] = tie
            }
            choice.isEnough = isEnough(going)
            return choice
        }

        func best(_ ways: [[RootNode]]) -> SplitChoice {
            let choices = ways.enumerated().map { i, way in
                let choice = judged(way)
                let off = abs(count - (choice.nodes.count - choice.held.count))
                return (choice, [choice.isEnough ? 0 : 1, off, choice.held.count, racksDivided(way), i])
            }
            return choices.min { $0.1.lexicographicallyPrecedes($1.1) }?.0 ?? SplitChoice()
        }

        private func racksDivided(_ going: [RootNode]) -> Int {
            // hash order: counted only
            func racks(_ nodes: [RootNode]) -> Set<[String]> {
                // hash order: counted only
                Set(nodes.map(\.about.locality).filter { !$0.rack.isEmpty }.map { [$0.zone, $0.rack] })
            }
            return racks(going).intersection(racks(staying(going))).count
        }

        // MARK: In words

        func passedOver(_ choice: SplitChoice) -> [(node: NodeID, why: String)] {
            // hash order: looked up only
            let chosen = Set(choice.nodes)
            let company = company(nodes.filter { chosen.contains($0.id) })
            return nodes.sorted { $0.name < $1.name }.prefix(count).filter { !chosen.contains($0.id) }
                .prefix(SplitChoice.passedOverMax).map { ($0.id, why($0, chosen, company)) }
        }

        private func why(
            // hash order: only asked whether a node is in it
            _ node: RootNode, _ chosen: Set<NodeID>, _ company: HostCompany
        ) -> String {
            let host = HostID(rawValue: node.id.rawValue)
            if let why = facts.ties.stays[host] { return why }
            for tie in groups where !company.keeps(tie.group) && tie.hosts.contains(host) {
                let others = tie.hosts.filter { $0 != host && !chosen.contains(NodeID(rawValue: $0.rawValue)) }
                if let other = others.first { return SplitChoice.text(.group(tie.group, other), name) }
                if tie.isLoose { return SplitChoice.text(.group(tie.group, nil), name) }
            }
            let place = node.about.locality
            let zone = nodes.filter { $0.about.locality.zone == place.zone }
            let rack = zone.filter { $0.about.locality.rack == place.rack }
            if zones.count > 1 && !zone.contains(where: { chosen.contains($0.id) }) {
                return "zone \(place.zone) stays whole"
            }
            if !place.rack.isEmpty && rack.count > 1 && !rack.contains(where: { chosen.contains($0.id) }) {
                return "rack \(place.rack) stays whole"
            }
            return zones.count > 1 ? "zone \(place.zone) gives its share with others" : "others go instead"
        }

        private func name(_ host: HostID) -> String {
            nodes.first { $0.id.rawValue == host.rawValue }?.name ?? "\(host)"
        }
    }

    /// By zone, rack and name.
    package static func inOrder(_ nodes: [RootNode]) -> [RootNode] {
        nodes.sorted { one, other in
            let (a, b) = (one.about.locality, other.about.locality)
            return (a.zone, a.rack, one.name) < (b.zone, b.rack, other.name)
        }
    }

    /// What keeps a host, with other hosts' names.
    package static func text(_ tie: CellTies.Tie, _ name: (HostID) -> String) -> String {
        switch tie {
        case .itself(let why): why
        case .group(let group, let other):
            "group \(group.name)"
                + (group.rule.isAboutParting
                    ? ", whose rule is about \(group.scope)s, has VMs on it and "
                    : " keeps its VMs in one \(group.scope), and it has VMs on it and ")
                + (other.map { "on \(name($0))" } ?? "one on no host")
        }
    }
}
