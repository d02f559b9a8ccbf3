internal import BinaryCoding
import ClusterBase
internal import Schema

// The rows of the root's state as Proto/root.proto describes them.

/// A kind of row that can be asked for.
package enum RootTable: Int32, Hashable, Sendable, CaseIterable {
    case cluster = 1, nodes, tokens, authorities, spaces, placements, settings, operators, backups, recoveries, cells,
        tenants, cellReports, images, events, latencies

    /// The first byte of its rows' keys.
    package var kind: UInt8 { 0x20 + UInt8(rawValue) }
    /// Whether followers of the root keep a copy of its rows.
    package var isFollowed: Bool { self != .tokens && self != .events }
    package init?(kind: UInt8) { self.init(rawValue: Int32(kind) - 0x20) }
}

/// A value that has a message in Proto/root.proto.
package protocol RootCoded: Hashable, Sendable {
    /// Nil when the bytes are none that this version knows.
    static func decode(_ bytes: [UInt8]) -> Self?
    func encoded() -> [UInt8]
}

/// A value that is a row of one table.
package protocol RootRecord: RootCoded {
    static var table: RootTable { get }
    /// The row's key, the table's byte included.
    var rowKey: [UInt8] { get }
}

protocol RootMapped: RootCoded {
    associatedtype Wire: WireMessage
    init?(_ wire: Wire)
    var wire: Wire { get }
}

extension RootMapped {
    package static func decode(_ bytes: [UInt8]) -> Self? {
        // Where in the bytes it went wrong matters to nobody: either they are of another version, or of no one's.
        guard let wire = try? Wire(serialized: bytes) else { return nil }
        return Self(wire)
    }
    package func encoded() -> [UInt8] { wire.serialized() }
}

extension RootTable {
    func key(_ number: UInt64) -> [UInt8] {
        var key = [kind]
        key.appendBigEndian(number)
        return key
    }
    func key(_ bytes: [UInt8]) -> [UInt8] { [kind] + bytes }
    func key(_ name: String) -> [UInt8] { [kind] + Array(name.utf8) }
}

extension RootMapped {
    static func all(_ wires: [Wire]) -> [Self]? {
        var values: [Self] = []
        values.reserveCapacity(wires.count)
        for wire in wires {
            guard let value = Self(wire) else { return nil }
            values.append(value)
        }
        return values
    }
}

extension NodeDescription: RootMapped {
    init?(_ wire: WireNodeDescription) {
        let place = wire.locality ?? WireLocality()
        self.init(
            name: wire.name, locality: Locality(region: place.region, zone: place.zone, rack: place.rack),
            peerAddress: wire.peerAddress, adminAddress: wire.adminAddress, key: wire.key,
            programVersion: wire.programVersion, level: wire.level, trusts: wire.trusts)
        issuer = wire.issuer
    }
    var wire: WireNodeDescription {
        let isNowhere = locality == Locality()
        return WireNodeDescription(
            name: name,
            locality: isNowhere ? nil : WireLocality(region: locality.region, zone: locality.zone, rack: locality.rack),
            peerAddress: peerAddress, adminAddress: adminAddress, key: key, programVersion: programVersion,
            level: level, trusts: trusts, issuer: issuer)
    }
}

extension NodeCertificate: RootMapped {
    init?(_ wire: WireNodeCertificate) {
        self.init(fingerprint: wire.fingerprint, issuer: wire.issuer, expiresAt: LogTime(wire.expiresAt))
    }
    var wire: WireNodeCertificate {
        WireNodeCertificate(fingerprint: fingerprint, issuer: issuer, expiresAt: expiresAt.rawValue)
    }
}

extension RootNode: RootRecord, RootMapped {
    package static var table: RootTable { .nodes }
    package var rowKey: [UInt8] { Self.table.key(id.rawValue) }

    init?(_ wire: WireRootNode) {
        guard let about = wire.about.flatMap(NodeDescription.init), let state = State(rawValue: wire.state.rawValue),
            let voting = VotingWish(rawValue: wire.voting.rawValue)
        else { return nil }
        self.init(
            id: NodeID(wire.id), about: about, state: state, since: LogTime(wire.since),
            certificate: wire.certificate.flatMap(NodeCertificate.init),
            previousCertificate: wire.previousCertificate.flatMap(NodeCertificate.init), voting: voting,
            isDraining: wire.isDraining, token: wire.token)
        cell = wire.cell == 0 ? nil : GroupID(wire.cell)
        cellEpoch = wire.cellEpoch
        movesTo = wire.movesTo == 0 ? nil : GroupID(wire.movesTo)
    }
    var wire: WireRootNode {
        WireRootNode(
            id: id.rawValue, about: about.wire, state: WireNodeState(rawValue: state.rawValue), since: since.rawValue,
            certificate: certificate?.wire, previousCertificate: previousCertificate?.wire,
            voting: WireVotingWish(rawValue: voting.rawValue), isDraining: isDraining, token: token,
            cell: cell?.rawValue ?? 0, cellEpoch: cellEpoch, movesTo: movesTo?.rawValue ?? 0)
    }
}

extension JoinToken: RootRecord, RootMapped {
    package static var table: RootTable { .tokens }
    package var rowKey: [UInt8] { Self.table.key(hash) }

    init?(_ wire: WireJoinToken) {
        self.init(
            hash: wire.secretHash, note: wire.note, createdAt: LogTime(wire.createdAt),
            expiresAt: LogTime(wire.expiresAt), usesLeft: wire.usesLeft, usesAllowed: wire.usesAllowed,
            isRevoked: wire.isRevoked, createdBy: wire.createdBy)
    }
    var wire: WireJoinToken {
        WireJoinToken(
            secretHash: hash, note: note, createdAt: createdAt.rawValue, expiresAt: expiresAt.rawValue,
            usesLeft: usesLeft, usesAllowed: usesAllowed, isRevoked: isRevoked, createdBy: createdBy)
    }
}

extension Authority: RootRecord, RootMapped {
    package static var table: RootTable { .authorities }
    package var rowKey: [UInt8] { Self.table.key(fingerprint) }

    init?(_ wire: WireAuthority) {
        self.init(
            fingerprint: wire.fingerprint, certificate: wire.certificate, signs: wire.signs, since: LogTime(wire.since))
    }
    var wire: WireAuthority {
        WireAuthority(fingerprint: fingerprint, certificate: certificate, signs: signs, since: since.rawValue)
    }
}

extension RootSpace: RootRecord, RootMapped {
    package static var table: RootTable { .spaces }
    package var rowKey: [UInt8] { Self.table.key(name) }

    init?(_ wire: WireRootSpace) {
        self.init(
            name: wire.name, group: GroupID(wire.group), replicas: wire.replicas, createdAt: LogTime(wire.createdAt),
            createdBy: wire.createdBy)
    }
    var wire: WireRootSpace {
        WireRootSpace(
            name: name, group: group.rawValue, replicas: replicas, createdAt: createdAt.rawValue, createdBy: createdBy)
    }
}

extension RootCell: RootRecord, RootMapped {
    package static var table: RootTable { .cells }
    package var rowKey: [UInt8] { Self.table.key(name) }

    init?(_ wire: WireRootCell) {
        self.init(
            name: wire.name, group: GroupID(wire.group), replicas: wire.replicas, createdAt: LogTime(wire.createdAt),
            createdBy: wire.createdBy, region: wire.region, survives: Survival(rawValue: wire.survives.rawValue),
            epoch: wire.epoch)
        plan = wire.plan.flatMap(HostsPlan.init)
    }
    var wire: WireRootCell {
        WireRootCell(
            name: name, group: group.rawValue, replicas: replicas, createdAt: createdAt.rawValue, createdBy: createdBy,
            region: region, survives: WireCellSurvival(rawValue: survives?.rawValue ?? 0), epoch: epoch,
            plan: plan?.wire)
    }
}

extension Resources {
    fileprivate init(_ wire: WireCellAmounts?) {
        self.init(
            cpuMillis: wire?.cpuMillis ?? 0, memoryMiB: wire?.memoryMib ?? 0, diskMiB: wire?.diskMib ?? 0,
            networkMbps: wire?.networkMbps ?? 0)
    }
    fileprivate var amounts: WireCellAmounts? {
        self == .zero
            ? nil
            : WireCellAmounts(
                cpuMillis: cpuMillis, memoryMib: memoryMiB, diskMib: diskMiB, networkMbps: networkMbps)
    }
}

extension CellReport: RootRecord, RootMapped {
    package static var table: RootTable { .cellReports }
    package var rowKey: [UInt8] { Self.table.key(group.rawValue) }

    init?(_ wire: WireCellReport) {
        self.init(group: GroupID(wire.group))
        hosts = wire.hosts
        offered = Resources(wire.offered)
        free = Resources(wire.free)
        largest = Resources(wire.largest)
        waiting = wire.waiting
        vms = wire.vms
        zones = wire.zones
        rooms = wire.rooms.map { Resources($0) }
        splitAbove = wire.splitAbove
        cost = wire.cost
        risks = wire.risks.compactMap(CellRisk.init)
        at = LogTime(wire.at)
        advice = wire.advice
    }
    var wire: WireCellReport {
        WireCellReport(
            group: group.rawValue, hosts: hosts, offered: offered.amounts, free: free.amounts,
            largest: largest.amounts, waiting: waiting, vms: vms, zones: zones, at: at.rawValue, advice: advice,
            risks: risks.map(\.wire), rooms: rooms.map { $0.amounts ?? WireCellAmounts() }, splitAbove: splitAbove,
            cost: cost)
    }
}

extension RootTenant: RootRecord, RootMapped {
    package static var table: RootTable { .tenants }
    package var rowKey: [UInt8] { Self.table.key(name) }

    init?(_ wire: WireRootTenant) {
        self.init(
            name: wire.name, quota: wire.quota.map { Quota($0) } ?? .unlimited, tier: wire.tier,
            revision: Revision(wire.revision), createdAt: LogTime(wire.createdAt), createdBy: wire.createdBy)
    }
    var wire: WireRootTenant {
        WireRootTenant(
            name: name, quota: quota.sparse, tier: tier, revision: revision.rawValue, createdAt: createdAt.rawValue,
            createdBy: createdBy)
    }
}

extension PlacedReplica: RootMapped {
    init?(_ wire: WirePlacedReplica) {
        guard let part = Part(rawValue: wire.part.rawValue), let phase = Phase(rawValue: wire.phase.rawValue) else {
            return nil
        }
        self.init(
            replica: ReplicaID(wire.replica), node: NodeID(wire.node), part: part, phase: phase,
            isLeaving: wire.isLeaving, since: LogTime(wire.since))
    }
    var wire: WirePlacedReplica {
        WirePlacedReplica(
            replica: replica.rawValue, node: node.rawValue, part: WireReplicaPart(rawValue: part.rawValue),
            phase: WireReplicaPhase(rawValue: phase.rawValue), isLeaving: isLeaving, since: since.rawValue)
    }
}

extension GroupPlacement: RootRecord, RootMapped {
    package static var table: RootTable { .placements }
    package var rowKey: [UInt8] { Self.table.key(group.rawValue) }

    init?(_ wire: WireGroupPlacement) {
        guard let replicas = PlacedReplica.all(wire.replicas) else { return nil }
        self.init(
            group: GroupID(wire.group), replicas: replicas, replicaHighest: ReplicaID(wire.replicaHighest),
            epoch: Epoch(wire.epoch), revision: Revision(wire.revision),
            founders: wire.founders.map { Founder(replica: ReplicaID($0.replica), node: NodeID($0.node)) })
    }
    var wire: WireGroupPlacement {
        WireGroupPlacement(
            group: group.rawValue, replicas: replicas.map(\.wire), replicaHighest: replicaHighest.rawValue,
            epoch: epoch.rawValue, revision: revision.rawValue,
            founders: founders.map {
                WireGroupPlacement.Founder(replica: $0.replica.rawValue, node: $0.node.rawValue)
            })
    }
}

extension Operator: RootRecord, RootMapped {
    package static var table: RootTable { .operators }
    package var rowKey: [UInt8] { Self.table.key(name) }

    init?(_ wire: WireOperator) {
        guard let role = Role(rawValue: wire.role.rawValue), let kind = Kind(rawValue: wire.kind.rawValue) else {
            return nil
        }
        self.init(
            name: wire.name, role: role, scope: wire.scope, kind: kind, credential: wire.credential,
            expiresAt: wire.expiresAt == 0 ? nil : LogTime(wire.expiresAt), createdAt: LogTime(wire.createdAt))
    }
    var wire: WireOperator {
        WireOperator(
            name: name, role: WireOperatorRole(rawValue: role.rawValue),
            kind: WireCredentialKind(rawValue: kind.rawValue),
            credential: credential, expiresAt: expiresAt?.rawValue ?? 0, createdAt: createdAt.rawValue, scope: scope)
    }
}

extension BackupSchedule: RootRecord, RootMapped {
    package static var table: RootTable { .backups }
    package var rowKey: [UInt8] { Self.table.key(name) }

    init?(_ wire: WireBackupSchedule) {
        self.init(
            name: wire.name, interval: wire.interval, keep: wire.keep, destination: wire.destination,
            keyName: wire.keyName, finishedAt: LogTime(wire.finishedAt), succeededAt: LogTime(wire.succeededAt),
            outcome: wire.outcome)
    }
    var wire: WireBackupSchedule {
        WireBackupSchedule(
            name: name, interval: interval, keep: keep, destination: destination, keyName: keyName,
            finishedAt: finishedAt.rawValue, succeededAt: succeededAt.rawValue, outcome: outcome)
    }
}

extension RecoveryRecord: RootRecord, RootMapped {
    package static var table: RootTable { .recoveries }
    package var rowKey: [UInt8] { Self.table.key(number) }

    init?(_ wire: WireRecoveryRecord) {
        self.init(
            number: wire.number, group: GroupID(wire.group), epoch: Epoch(wire.epoch),
            possibleLossAfter: LogIndex(wire.possibleLossAfter), at: LogTime(wire.at), by: wire.by, reason: wire.reason)
    }
    var wire: WireRecoveryRecord {
        WireRecoveryRecord(
            number: number, group: group.rawValue, epoch: epoch.rawValue, possibleLossAfter: possibleLossAfter.rawValue,
            at: at.rawValue, by: by, reason: reason)
    }
}

extension RootSettingValue: RootRecord, RootMapped {
    package static var table: RootTable { .settings }
    package var rowKey: [UInt8] { Self.table.key(UInt64(setting.rawValue)) }

    init?(_ wire: WireRootSettingRow) {
        guard let setting = RootSetting(rawValue: wire.setting) else { return nil }
        self.init(setting, wire.value)
    }
    var wire: WireRootSettingRow { WireRootSettingRow(setting: setting.rawValue, value: value) }
}

extension RootCluster: RootRecord, RootMapped {
    package static var table: RootTable { .cluster }
    package static var onlyKey: [UInt8] { [table.kind] }
    package var rowKey: [UInt8] { Self.onlyKey }

    init?(_ wire: WireRootCluster) {
        self.init(
            id: wire.id, name: wire.name, level: wire.level, nodeHighest: NodeID(wire.nodeHighest),
            groupHighest: wire.groupHighest, epoch: Epoch(wire.epoch), recoveries: wire.recoveries,
            foundedAt: LogTime(wire.foundedAt))
        cellHighest = wire.cellHighest
        mapEpoch = wire.mapEpoch
        sealingKey = wire.sealingKey
        sealingRotates = wire.sealingRotates
        sealingKeyNext = wire.sealingKeyNext
        sealingKeyBefore = wire.sealingKeyBefore
        domains = wire.domains.map { DomainMark(name: $0.name, mark: $0.mark) }
        regions = wire.regions.map { RegionStanding($0) }
    }
    var wire: WireRootCluster {
        WireRootCluster(
            id: id, name: name, level: level, nodeHighest: nodeHighest.rawValue, groupHighest: groupHighest,
            epoch: epoch.rawValue, recoveries: recoveries, foundedAt: foundedAt.rawValue, cellHighest: cellHighest,
            mapEpoch: mapEpoch, sealingKey: sealingKey, sealingRotates: sealingRotates, sealingKeyNext: sealingKeyNext,
            sealingKeyBefore: sealingKeyBefore,
            domains: domains.map { WireStorageDomainMark(name: $0.name, mark: $0.mark) }, regions: regions.map(\.wire))
    }
}
