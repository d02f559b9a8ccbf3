import ClusterBase

// Cells, and which hosts are in them.

extension RootStep {
    mutating func createCell(
        _ name: String, _ replicas: UInt32, _ region: String, _ survives: RootCell.Survival?,
        _ cluster: inout RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        if !RootCheck.isName(name) { return .refused(.invalid(.name)) }
        if !RootCheck.isText(region) { return .refused(.invalid(.region)) }
        let replicas = replicas == 0 ? UInt32(clamping: settings[.spaceReplicas]) : replicas
        if !RootSetting.spaceReplicas.allows(UInt64(replicas)) { return .refused(.invalid(.replicas)) }
        if try access.record(RootCell.self, RootTable.cells.key(name)) != nil { return .refused(.cellExists(name)) }
        // As with other groups: above all that lost history can have given out, in fewer bits.
        let number = max(cluster.cellHighest, cluster.epoch.rawValue << 12) + 1
        if summary.cells >= RootLimits.cellsMax || number > RootLimits.cellNumberMax {
            return .refused(.tooMany(.cells))
        }
        let group = GroupID(.cell, number: number)
        cluster.cellHighest = number
        if level >= FeatureLevel.cells { cluster.mapEpoch = cluster.floor(cluster.mapEpoch) + 1 }
        put(cluster)
        put(
            RootCell(
                name: name, group: group, replicas: replicas, createdAt: time, createdBy: by, region: region,
                survives: survives, epoch: cluster.mapEpoch))
        put(GroupPlacement(group: group, revision: revision))
        summary.cells += 1
        return .done
    }

    mutating func retireCell(
        _ name: String, _ cluster: inout RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        guard let cell = try access.record(RootCell.self, RootTable.cells.key(name)) else {
            return .refused(.unknownCell(name))
        }
        if try all(RootCell.self).allSatisfy({ $0.group >= cell.group }) { return .refused(.firstCell(name)) }
        let hasHosts = try all(RootNode.self).contains {
            $0.state != .removed && ($0.cell == cell.group || $0.movesTo == cell.group)
        }
        if hasHosts { return .refused(.cellHasHosts(name)) }
        let cells = try all(RootCell.self)
        if RootCell.keepsNames(cell, of: cells) { return .refused(.cellKeepsNames(name)) }
        if let other = cells.first(where: { $0.plan?.to == cell.group && $0.plan?.isLive == true }) {
            return .refused(.cellIsPlanned(other.name))
        }
        delete(cell)
        if let placement = try access.record(GroupPlacement.self, RootTable.placements.key(cell.group.rawValue)) {
            delete(placement)
        }
        if let report = try access.record(CellReport.self, RootTable.cellReports.key(cell.group.rawValue)) {
            delete(report)
        }
        summary.cells -= 1
        cluster.mapEpoch = cluster.floor(cluster.mapEpoch) + 1
        put(cluster)
        return .group(cell.group)
    }

    mutating func reportCell(_ report: CellReport) throws(StoreError) -> RootResult.Outcome {
        if report.zones.count > CellReport.zonesMax || !report.zones.allSatisfy(RootCheck.isText) {
            return .refused(.invalid(.zone))
        }
        let isShort = report.advice.utf8.count <= CellReport.adviceBytesMax
        if !isShort || !report.advice.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) {
            return .refused(.invalid(.note))
        }
        if report.rooms.count > CellReport.roomsMax { return .refused(.malformed) }
        if report.risks.count > CellRisk.countMax
            || !report.risks.allSatisfy({ CellCheck.isText($0.text, CellRisk.textBytesMax) })
        {
            return .refused(.invalid(.reason))
        }
        guard try all(RootCell.self).contains(where: { $0.group == report.group }) else {
            return .refused(.unknownGroup(report.group))
        }
        var kept = report
        kept.at = time
        put(kept)
        return .done
    }

    /// The cell of a new node's host: of its region's the one with the fewest hosts. Nil where that is the first cell.
    func cell(for locality: Locality) throws(StoreError) -> GroupID? {
        let cells = try all(RootCell.self).sorted { $0.group < $1.group }
        guard level >= FeatureLevel.cells, cells.count > 1, let first = cells.first else { return nil }
        // hash order: looked up only
        var hosts: [GroupID: Int] = [:]
        for node in try all(RootNode.self) where node.state != .removed {
            hosts[node.movesTo ?? node.cell ?? first.group, default: 0] += 1
        }
        // One that goes into another one takes none.
        let near = cells.filter {
            $0.region == locality.region && !($0.plan?.kind == .merge && $0.plan?.isLive == true)
        }
        let best = near.min { (hosts[$0.group] ?? 0, $0.group) < (hosts[$1.group] ?? 0, $1.group) } ?? first
        return best.group == first.group ? nil : best.group
    }

    /// A host is in one cell at any time: in the one where it was until that has let it go, and never again under the same
    /// epoch.
    mutating func moveHost(
        _ id: NodeID, to: GroupID, _ epoch: UInt64, _ step: RootCommand.MoveStep, _ vms: UInt64, _ reason: String,
        _ cluster: inout RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        if !RootCheck.isText(reason) { return .refused(.invalid(.reason)) }
        guard var node = try node(id), node.state != .removed else { return .refused(.unknownNode(id)) }
        let cells = try all(RootCell.self)
        guard cells.contains(where: { $0.group == to }) else { return .refused(.unknownGroup(to)) }
        let first = cells.map(\.group).min()
        let source = node.cell ?? first
        // Who says again what was done is told so.
        if step == .finish, node.movesTo == nil, (node.cell ?? first) == to, node.cellEpoch > epoch { return .done }
        if node.cellEpoch != epoch { return .refused(.assignmentChanged(node.cellEpoch)) }
        switch step {
        case .begin:
            if (node.cell ?? first) == to && node.movesTo == nil { return .done }
            node.movesTo = to
            put(node)
            return .done
        case .finish:
            // Its cell has let it go there under this epoch, and nowhere else, wherever somebody wants it since.
            if node.movesTo == nil { return .refused(.assignmentChanged(node.cellEpoch)) }
            node.cell = to
        case .cancel:
            if node.movesTo == nil { return .done }
        }
        // Its old cell may have let it go, whoever cancels: it comes back only under a later epoch.
        cluster.mapEpoch = cluster.floor(cluster.mapEpoch) + 1
        put(cluster)
        node.movesTo = nil
        node.cellEpoch = cluster.mapEpoch
        put(node)
        try hostMoved(id, from: source, to: step == .finish ? to : nil, vms: vms, reason)
        return .done
    }
}

extension RootCell {
    /// Whether several other cells of its region rest on the names that it keeps: the first of a region does so for all. With
    /// one other there is nobody left whose names that one does not know.
    package static func keepsNames(_ cell: RootCell, of cells: [RootCell]) -> Bool {
        let others = cells.filter { $0.region == cell.region && $0.group != cell.group }
        return others.count > 1 && others.allSatisfy { $0.group > cell.group }
    }
}
