import ClusterBase

/// What is to be known of a cell before it is chosen which of its hosts go to another one: hard groups that two cells might break
/// together, where their VMs are, and hosts that can not go as they are.
///
/// It is taken from a view of the cell, or gathered: its hosts and groups first, and then VMs, of which those in no such group may be
/// left out.
package struct CellTies: Sendable {
    /// A hard group, and the hosts with VMs of it, ascending.
    package struct Group: Hashable, Sendable {
        package var group: CellGroup
        package var hosts: [HostID]
        /// A VM of it is on no host, or not all of them can be looked at: no host with one leaves the others behind.
        package var isLoose: Bool
    }
    /// What keeps a host.
    package enum Tie: Hashable, Sendable {
        case itself(String)
        /// With the group's VMs on this host; nil where one is on none.
        case group(CellGroup, HostID?)
    }

    /// Hosts with VMs that can not go as they are, and why.
    // hash order: looked up only
    package private(set) var stays: [HostID: String] = [:]
    /// Not all VMs were looked at.
    package var isCut = false
    private var tied: [CellGroup] = []
    // hash order: sorted where they are read
    private var places: [Set<HostID>] = []
    private var isLoose: [Bool] = []
    // hash order: looked up only
    private var positions: [[String]: Int] = [:]

    package init() {}

    package init(_ view: CellView) {
        // hash order: each is noted by its own key
        for host in view.hosts.values { note(host) }
        // hash order: by their ids
        for group in view.groups.values.sorted(by: { $0.id < $1.id }) { note(group) }
        if tied.isEmpty { return }
        // hash order: sets of hosts are filled, which have no order
        for vm in view.vms.values where !vm.spec.groups.isEmpty { note(vm) }
    }

    package mutating func note(_ host: CellHost) {
        if host.vmCount > 0, let why = host.reasonToStay { stays[host.id] = why }
    }

    /// One whose rule no two cells can break together is no tie.
    package mutating func note(_ group: CellGroup) {
        if HostCompany().keeps(group) || group.memberCount == 0 { return }
        positions[[group.tenant, group.name]] = tied.count
        tied.append(group)
        places.append([])
        isLoose.append(group.memberCount > UInt64(CellLimits.groupLookedMax))
    }

    package mutating func note(_ vm: CellVM) {
        for name in vm.spec.groups {
            guard let at = positions[[vm.tenant, name]] else { continue }
            let hosts = vm.claims.map(\.host)
            places[at].formUnion(hosts)
            if hosts.isEmpty { isLoose[at] = true }
        }
    }

    /// The names of the groups whose VMs are to be noted, ascending.
    package var namesWanted: [String] {
        // hash order: sorted at once
        Set(tied.map(\.name)).sorted()
    }

    /// Those with the fewest hosts first.
    package var groups: [Group] {
        tied.indices.filter { !places[$0].isEmpty }
            .map { Group(group: tied[$0], hosts: places[$0].sorted(), isLoose: isLoose[$0]) }
            .sorted { ($0.hosts.count, $0.group.id) < ($1.hosts.count, $1.group.id) }
    }

    /// Who of those that go in this company stays behind, as their cell will say (`sendHost`).
    // hash order: looked up, or counted
    package func held(_ company: HostCompany, _ groups: [Group]) -> [HostID: Tie] {
        if company.isAll { return [:] }
        // hash order: looked up only
        let going = Set(company.hosts)
        // hash order: looked up, or counted
        var held: [HostID: Tie] = [:]
        for host in company.hosts { if let why = stays[host] { held[host] = .itself(why) } }
        for tie in groups where !company.keeps(tie.group) {
            let other = tie.hosts.first { !going.contains($0) }
            guard other != nil || tie.isLoose else { continue }
            for host in tie.hosts where going.contains(host) && held[host] == nil {
                held[host] = .group(tie.group, other)
            }
        }
        return held
    }
}

extension CellHost {
    /// Why it can not go to another cell with its VMs as it is, whatever these are doing; nil where it can.
    var reasonToStay: String? {
        if health != .up { return "it is down, and nobody can hand its VMs on" }
        if declaredDeadAt > .zero { return "it was declared dead" }
        if awayUntil > .zero { return "it is to be away; end that with `muster host back`" }
        if duty == .draining { return "it is drained; resume it, or let it be empty first" }
        return nil
    }
}
