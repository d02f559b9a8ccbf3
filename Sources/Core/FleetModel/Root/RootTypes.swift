package import ClusterBase

/// A point in the root's time: milliseconds since 1970 by the clocks of its leaders. Never goes back.
package struct LogTime: Identity {
    package let rawValue: UInt64
    @inlinable package init(rawValue: UInt64) { self.rawValue = rawValue }
    package static let zero = LogTime(rawValue: 0)
    /// The time so many milliseconds later; the end of time when there is none.
    @inlinable package func advanced(by milliseconds: UInt64) -> LogTime {
        let (sum, isOver) = rawValue.addingReportingOverflow(milliseconds)
        return LogTime(rawValue: isOver ? .max : sum)
    }
}

/// The bounds of the root's state, all of them part of its replicated behaviour: changing one needs a new pack version.
package enum RootLimits {
    package static let nodesMax: UInt64 = 10_000
    /// Records of removed nodes that are kept; the oldest go.
    package static let nodesRemovedMax: UInt64 = 1_000
    package static let tokensMax: UInt64 = 1_000
    package static let authoritiesMax = 4
    package static let spacesMax: UInt64 = 10_000
    package static let operatorsMax: UInt64 = 1_000
    package static let backupsMax: UInt64 = 16
    package static let cellsMax: UInt64 = 1_000
    /// A cell's number is the upper part of its VMs' ids, and has 24 bits.
    package static let cellNumberMax: UInt64 = 1 << 24 - 1
    package static let tenantsMax: UInt64 = 10_000
    /// Splits and merges under way, and the hosts of one split.
    package static let hostsPlansMax = 64
    package static let plannedHostsMax = 2_048
    /// Events that are kept for the audit; the oldest go.
    package static let eventsMax: UInt64 = 20_000
    /// Of those that are too old, what one command drops.
    package static let eventsDroppedMax = 64
    package static let imagesMax: UInt64 = 10_000
    /// Storage domains whose mark is known; all of them are in one row.
    package static let domainsMax = 256
    /// Regions that were declared lost; of those that are back the one declared longest ago makes room.
    package static let regionsMax = 256
    package static let imageBytesMax: UInt64 = 1 << 44
    /// Records of forced recoveries that are kept; the oldest go.
    package static let recoveriesMax: UInt64 = 1_000
    /// Results kept under request ids for repetitions. Beyond it the oldest is dropped; before feature level 3 a new id was
    /// refused.
    package static let requestsMax: UInt64 = 65_536
    /// How long a result is kept, in milliseconds.
    package static let requestLifetime: UInt64 = 24 * 3_600_000
    /// Kept results that one command may drop because they are old.
    package static let requestsDroppedMax = 64
    package static let historyChangesMax: UInt64 = 20_000
    package static let historyBytesMax: UInt64 = 32 << 20
    package static let replicasPerGroupMax = 15
    /// Replicas in one report of a node.
    package static let reportMax = 256
    package static let nameBytesMax = 63
    package static let addressBytesMax = 255
    package static let textBytesMax = 255
    package static let certificateBytesMax = 8 << 10
    package static let hashBytes = 32
    package static let requestBytes = 16
    package static let clusterBytes = 16
    package static let commandBytesMax = 64 << 10
    package static let answerCountMax = 1_000
    /// Bytes in one answer, which always holds at least one row if there is any.
    package static let answerBytesMax = 1 << 20
    /// The furthest in the future, in milliseconds, that anything may expire: ten years.
    package static let lifetimeMax: UInt64 = 10 * 365 * 24 * 3_600_000
}

/// Where a host stands. Empty words are places that nobody named.
package struct Locality: Hashable, Sendable {
    package var region: String
    package var zone: String
    package var rack: String
    package init(region: String = "", zone: String = "", rack: String = "") {
        self.region = region
        self.zone = zone
        self.rack = rack
    }
}

/// What a node says of itself.
package struct NodeDescription: Hashable, Sendable {
    package var name: String
    package var locality: Locality
    /// Host and port, as other nodes reach it.
    package var peerAddress: String
    /// Host and port, as clients reach it.
    package var adminAddress: String
    /// SHA-256 of its public key, which outlives its certificates.
    package var key: [UInt8]
    package var programVersion: String
    /// The highest feature level that its program understands.
    package var level: UInt32
    /// Fingerprints of the authorities that it trusts, sorted; said from ``FeatureLevel/trustTold`` on.
    package var trusts: [[UInt8]]
    /// Of the certificate that its disk holds, the authority's fingerprint; empty where it has not said so.
    package var issuer: [UInt8] = []
    package init(
        name: String, locality: Locality = Locality(), peerAddress: String, adminAddress: String, key: [UInt8],
        programVersion: String, level: UInt32, trusts: [[UInt8]] = []
    ) {
        self.name = name
        self.locality = locality
        self.peerAddress = peerAddress
        self.adminAddress = adminAddress
        self.key = key
        self.programVersion = programVersion
        self.level = level
        self.trusts = trusts
    }
}

/// What the root knows of a certificate that a node uses.
package struct NodeCertificate: Hashable, Sendable {
    /// SHA-256 of the certificate.
    package var fingerprint: [UInt8]
    /// The fingerprint of the authority that signed it.
    package var issuer: [UInt8]
    package var expiresAt: LogTime
    package init(fingerprint: [UInt8], issuer: [UInt8], expiresAt: LogTime) {
        self.fingerprint = fingerprint
        self.issuer = issuer
        self.expiresAt = expiresAt
    }
}

/// A node as the cluster knows it. Its id is never given to another one.
package struct RootNode: Hashable, Sendable {
    /// `joining` until its agent has run once; `removed` for ever.
    package enum State: Int32, Hashable, Sendable { case joining = 1, active, removed }
    /// What an operator wants of it in the root group.
    package enum VotingWish: Int32, Hashable, Sendable { case automatic = 1, preferred, never }

    package var id: NodeID
    package var about: NodeDescription
    package var state: State
    package var since: LogTime
    package var certificate: NodeCertificate?
    /// Good beside the current one until it expires.
    package var previousCertificate: NodeCertificate?
    package var voting: VotingWish
    /// Its replicas go elsewhere, and no new ones come.
    package var isDraining: Bool
    /// The hash of the token that it joined with.
    package var token: [UInt8]
    /// The cell that its host belongs to; nil: the first one.
    package var cell: GroupID?
    /// Of the map that put it there; later assignments have higher ones.
    package var cellEpoch: UInt64 = 0
    /// The cell that it is to go to as soon as its own has let it go.
    package var movesTo: GroupID?
    package init(
        id: NodeID, about: NodeDescription, state: State, since: LogTime, certificate: NodeCertificate? = nil,
        previousCertificate: NodeCertificate? = nil, voting: VotingWish = .automatic, isDraining: Bool = false,
        token: [UInt8] = []
    ) {
        self.id = id
        self.about = about
        self.state = state
        self.since = since
        self.certificate = certificate
        self.previousCertificate = previousCertificate
        self.voting = voting
        self.isDraining = isDraining
        self.token = token
    }

    package var name: String { about.name }

    /// Whether a peer that shows a certificate with this fingerprint may speak for the node.
    package func accepts(_ fingerprint: [UInt8], at time: LogTime) -> Bool {
        if state == .removed { return false }
        if certificate?.fingerprint == fingerprint { return true }
        guard let previousCertificate, previousCertificate.fingerprint == fingerprint else { return false }
        return time < previousCertificate.expiresAt
    }
}

/// Permission to join, known by the hash of its secret.
package struct JoinToken: Hashable, Sendable {
    package var hash: [UInt8]
    package var note: String
    package var createdAt: LogTime
    package var expiresAt: LogTime
    package var usesLeft: UInt32
    package var usesAllowed: UInt32
    package var isRevoked: Bool
    package var createdBy: String
    package init(
        hash: [UInt8], note: String, createdAt: LogTime, expiresAt: LogTime, usesLeft: UInt32, usesAllowed: UInt32,
        isRevoked: Bool = false, createdBy: String
    ) {
        self.hash = hash
        self.note = note
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.usesLeft = usesLeft
        self.usesAllowed = usesAllowed
        self.isRevoked = isRevoked
        self.createdBy = createdBy
    }
}

/// A certificate that peers' certificates may be signed by.
package struct Authority: Hashable, Sendable {
    /// SHA-256 of the certificate.
    package var fingerprint: [UInt8]
    /// DER.
    package var certificate: [UInt8]
    /// New certificates are signed by this one. At most one does.
    package var signs: Bool
    package var since: LogTime
    package init(fingerprint: [UInt8], certificate: [UInt8], signs: Bool, since: LogTime) {
        self.fingerprint = fingerprint
        self.certificate = certificate
        self.signs = signs
        self.since = since
    }
}

/// A named key space and the group that owns it.
package struct RootSpace: Hashable, Sendable {
    package var name: String
    package var group: GroupID
    /// How many voters its group is to have.
    package var replicas: UInt32
    package var createdAt: LogTime
    package var createdBy: String
    package init(name: String, group: GroupID, replicas: UInt32, createdAt: LogTime, createdBy: String) {
        self.name = name
        self.group = group
        self.replicas = replicas
        self.createdAt = createdAt
        self.createdBy = createdBy
    }
}

/// A replica that the root wants, or wants gone.
///
///     wanted ──(its node made it)──▶ made ──(its node has it no more)──▶ lost
///        └──────────────┴── is leaving ──┴──▶ the group's leader says that it is out ──▶ (gone, the id never comes back)
package struct PlacedReplica: Hashable, Sendable {
    package enum Part: Int32, Hashable, Sendable { case voter = 1, standby }
    package enum Phase: Int32, Hashable, Sendable { case wanted = 1, made, lost }

    package var replica: ReplicaID
    package var node: NodeID
    package var part: Part
    package var phase: Phase
    /// Never taken back.
    package var isLeaving: Bool
    /// When it came into its phase.
    package var since: LogTime
    package init(
        replica: ReplicaID, node: NodeID, part: Part, phase: Phase, isLeaving: Bool = false, since: LogTime
    ) {
        self.replica = replica
        self.node = node
        self.part = part
        self.phase = phase
        self.isLeaving = isLeaving
        self.since = since
    }
}

/// Which nodes hold, and are to hold, the replicas of one group.
package struct GroupPlacement: Hashable, Sendable {
    package struct Founder: Hashable, Sendable {
        package var replica: ReplicaID
        package var node: NodeID
        package init(replica: ReplicaID, node: NodeID) {
            self.replica = replica
            self.node = node
        }
    }

    package var group: GroupID
    /// Ascending by replica.
    package var replicas: [PlacedReplica]
    /// The highest replica id that was given out.
    package var replicaHighest: ReplicaID
    package var epoch: Epoch
    /// Of its last change.
    package var revision: Revision
    /// The group's first members, until each of them is made or gone.
    package var founders: [Founder]
    package init(
        group: GroupID, replicas: [PlacedReplica] = [], replicaHighest: ReplicaID = ReplicaID(0), epoch: Epoch = .zero,
        revision: Revision = .zero, founders: [Founder] = []
    ) {
        self.group = group
        self.replicas = replicas
        self.replicaHighest = replicaHighest
        self.epoch = epoch
        self.revision = revision
        self.founders = founders
    }

    package func position(of replica: ReplicaID) -> Int? { replicas.firstIndex { $0.replica == replica } }
    package func replica(on node: NodeID) -> PlacedReplica? { replicas.first { $0.node == node } }
    /// Voters that are to stay.
    package var voterCount: Int { replicas.count { $0.part == .voter && !$0.isLeaving } }
}

/// Who may use the admin port, and how they prove it.
package struct Operator: Hashable, Sendable {
    package enum Role: Int32, Hashable, Sendable {
        /// Each may do what the ones before it may.
        case reader = 1
        case writer, administrator
        /// Of one tenant or one space, and nothing else.
        case tenantReader, tenantWriter, spaceReader, spaceWriter

        package var hasScope: Bool { rawValue > Role.administrator.rawValue }
    }
    package enum Kind: Int32, Hashable, Sendable { case certificate = 1, bearer }

    package var name: String
    package var role: Role
    /// The name of the tenant or the space, for a role that has one.
    package var scope: String
    package var kind: Kind
    /// SHA-256 of the client certificate or of the bearer token.
    package var credential: [UInt8]
    /// Nil: never.
    package var expiresAt: LogTime?
    package var createdAt: LogTime
    package init(
        name: String, role: Role, scope: String = "", kind: Kind, credential: [UInt8], expiresAt: LogTime? = nil,
        createdAt: LogTime = .zero
    ) {
        self.name = name
        self.role = role
        self.scope = scope
        self.kind = kind
        self.credential = credential
        self.expiresAt = expiresAt
        self.createdAt = createdAt
    }
}

/// When the cluster is backed up by itself, and how the last one went.
package struct BackupSchedule: Hashable, Sendable {
    package var name: String
    /// Milliseconds from one beginning to the next.
    package var interval: UInt64
    /// Backups kept at the destination.
    package var keep: UInt32
    package var destination: String
    package var keyName: String
    package var finishedAt: LogTime
    package var succeededAt: LogTime
    package var outcome: String
    package init(
        name: String, interval: UInt64, keep: UInt32, destination: String, keyName: String,
        finishedAt: LogTime = .zero, succeededAt: LogTime = .zero, outcome: String = ""
    ) {
        self.name = name
        self.interval = interval
        self.keep = keep
        self.destination = destination
        self.keyName = keyName
        self.finishedAt = finishedAt
        self.succeededAt = succeededAt
        self.outcome = outcome
    }
}

/// What is kept of a group that an operator took out of a lost quorum.
package struct RecoveryRecord: Hashable, Sendable {
    package var number: UInt64
    package var group: GroupID
    package var epoch: Epoch
    /// Entries after this index may have been acknowledged and are lost.
    package var possibleLossAfter: LogIndex
    package var at: LogTime
    package var by: String
    package var reason: String
    package init(
        number: UInt64 = 0, group: GroupID, epoch: Epoch, possibleLossAfter: LogIndex, at: LogTime = .zero,
        by: String = "", reason: String
    ) {
        self.number = number
        self.group = group
        self.epoch = epoch
        self.possibleLossAfter = possibleLossAfter
        self.at = at
        self.by = by
        self.reason = reason
    }
}

/// A group of hosts and their VMs, and where its replicas are to be.
package struct RootCell: Hashable, Sendable {
    package var name: String
    package var group: GroupID
    /// What its group goes on without.
    package enum Survival: Int32, Hashable, Sendable, CaseIterable {
        /// One of its region's zones: its voters are spread over them.
        case zone = 1
        /// A whole region: its voters are spread over regions.
        case region
    }

    /// How many voters its group is to have.
    package var replicas: UInt32
    package var createdAt: LogTime
    package var createdBy: String
    /// Where its hosts are; empty for none in particular.
    package var region: String
    /// Nil: its voters are wherever they are spread best.
    package var survives: Survival?
    /// Of the map that it came with.
    package var epoch: UInt64
    /// The last by which hosts of it go to another cell.
    package var plan: HostsPlan?
    package init(
        name: String, group: GroupID, replicas: UInt32, createdAt: LogTime = .zero, createdBy: String = "",
        region: String = "", survives: Survival? = nil, epoch: UInt64 = 0
    ) {
        self.name = name
        self.group = group
        self.replicas = replicas
        self.createdAt = createdAt
        self.createdBy = createdBy
        self.region = region
        self.survives = survives
        self.epoch = epoch
    }
}

/// Who owns VMs, and what they may have in all cells together.
package struct RootTenant: Hashable, Sendable {
    package var name: String
    package var quota: Quota
    /// A word that operators sort tenants by; nothing follows from it.
    package var tier: String
    /// Of its last change; cells take slices of it in this order.
    package var revision: Revision
    package var createdAt: LogTime
    package var createdBy: String
    package init(
        name: String, quota: Quota = .unlimited, tier: String = "", revision: Revision = .zero,
        createdAt: LogTime = .zero, createdBy: String = ""
    ) {
        self.name = name
        self.quota = quota
        self.tier = tier
        self.revision = revision
        self.createdAt = createdAt
        self.createdBy = createdBy
    }
}

/// A storage domain, and what its directory is known by on every host.
package struct DomainMark: Hashable, Sendable {
    package var name: String
    package var mark: [UInt8]
    package init(name: String, mark: [UInt8]) {
        self.name = name
        self.mark = mark
    }
}

/// What there is one of in a cluster.
package struct RootCluster: Hashable, Sendable {
    package var id: [UInt8]
    package var name: String
    /// The feature level that is finalized: no program writes anything newer.
    package var level: UInt32
    package var nodeHighest: NodeID
    package var groupHighest: UInt64
    /// Of cells, which are numbered apart.
    package var cellHighest: UInt64 = 0
    /// One higher after every change of which cells there are and which hosts are in them.
    package var mapEpoch: UInt64 = 0
    /// SHA-256 of the key that seals secret fields; empty before one is named.
    package var sealingKey: [UInt8] = []
    /// Somebody asked for another one. It is made by a voter, `sealingKeyNext` until all voters hold it, and the one before is
    /// `sealingKeyBefore` until no box of it is left.
    package var sealingRotates = false
    package var sealingKeyNext: [UInt8] = []
    package var sealingKeyBefore: [UInt8] = []
    /// Storage domains that hosts have used, ascending by name.
    package var domains: [DomainMark] = []
    /// Regions that were ever declared lost, ascending by name.
    package var regions: [RegionStanding] = []
    /// Of the root group: one higher after every forced recovery of it.
    package var epoch: Epoch
    /// How many forced recoveries there were.
    package var recoveries: UInt64
    package var foundedAt: LogTime
    package init(
        id: [UInt8], name: String, level: UInt32, nodeHighest: NodeID = NodeID(0), groupHighest: UInt64 = 0,
        epoch: Epoch = .zero, recoveries: UInt64 = 0, foundedAt: LogTime
    ) {
        self.id = id
        self.name = name
        self.level = level
        self.nodeHighest = nodeHighest
        self.groupHighest = groupHighest
        self.epoch = epoch
        self.recoveries = recoveries
        self.foundedAt = foundedAt
    }

    /// Ids given out after a forced recovery of the root begin above all that lost history can have given out.
    func floor(_ highest: UInt64) -> UInt64 { max(highest, epoch.rawValue << 32) }
}

/// What an operator may set for the whole cluster. Numbers are for ever.
package enum RootSetting: UInt32, Hashable, Sendable, CaseIterable {
    case rootVoters = 1
    case rootStandbys = 2
    case spaceReplicas = 3
    /// Milliseconds that a voter is silent before another takes its place.
    case replaceAfter = 4
    /// Milliseconds that a standby has kept up before it may vote, and a node has been there before it gets replicas.
    case stableFor = 5
    /// Milliseconds.
    case tokenLifetime = 6
    case tokenUses = 7
    /// Milliseconds.
    case certificateLifetime = 8
    /// Milliseconds for which a node's previous certificate is still good.
    case certificateOverlap = 9
    /// Milliseconds after which a feature level that all understand is finalized by itself; 0: only by an operator.
    case finalizeAfter = 10
    // 11 is not given out again.
    /// Bytes per second of one node's bulk transfers; 0: as much as its own setting allows.
    case bulkRate = 12
    /// Whether `/metrics` asks for authorization: 1 or 0.
    case metricsAuthorized = 13
    /// Milliseconds for which what people asked of the root is kept for the audit. Wants feature level 3.
    case auditLifetime = 14
    /// Milliseconds of silence of all of a region's nodes, while the others are heard, after which it is declared lost; 0:
    /// only by an operator. Wants feature level 3.
    case regionLostAfter = 15

    package var name: String {
        switch self {
        case .rootVoters: "root-voters"
        case .rootStandbys: "root-standbys"
        case .spaceReplicas: "space-replicas"
        case .replaceAfter: "replace-after"
        case .stableFor: "stable-for"
        case .tokenLifetime: "token-lifetime"
        case .tokenUses: "token-uses"
        case .certificateLifetime: "certificate-lifetime"
        case .certificateOverlap: "certificate-overlap"
        case .finalizeAfter: "finalize-after"
        case .bulkRate: "bulk-rate"
        case .metricsAuthorized: "metrics-authorized"
        case .auditLifetime: "audit-lifetime"
        case .regionLostAfter: "region-lost-after"
        }
    }

    /// What it decides, for people.
    package var summary: String {
        switch self {
        case .rootVoters: "how many nodes vote in the root group"
        case .rootStandbys: "how many more follow it, to take a lost voter's place"
        case .spaceReplicas: "how many nodes vote in a new space, and in a cell"
        case .replaceAfter: "how long a voter is silent before another takes its place"
        case .stableFor: "how long a node must have kept up before it gets replicas or votes"
        case .tokenLifetime: "how long a join token is good"
        case .tokenUses: "how many hosts may join with one"
        case .certificateLifetime: "how long a node's certificate is good; it is renewed when a third is left"
        case .certificateOverlap: "how long a node's previous certificate is still good"
        case .finalizeAfter:
            "when a feature level that all nodes know opens by itself; 0: only by `muster upgrade finalize`"
        case .bulkRate: "bytes per second of a node's snapshots and moving VMs; 0: as much as the node allows"
        case .metricsAuthorized: "whether /metrics asks for authorization"
        case .auditLifetime:
            "how long the audit keeps what was asked of the root, and the last \(RootLimits.eventsMax) of it at most"
        case .regionLostAfter:
            "how long all nodes of a region are silent, while the others are heard, until it counts as lost; 0: only by `muster "
                + "region declare-lost`"
        }
    }

    /// What it may be, in words.
    package var range: String {
        switch self {
        case .rootVoters, .spaceReplicas: "1, 3 or 5"
        case .rootStandbys: "0 to 5"
        case .replaceAfter: "1s to 3650d"
        case .stableFor: "100ms to 1h"
        case .tokenLifetime: "1m to 3650d"
        case .tokenUses: "1 to 10000"
        case .certificateLifetime: "10m to 3650d"
        case .certificateOverlap: "0s to 24h"
        case .finalizeAfter: "0s to 3650d"
        case .bulkRate: "0 or a size up to 1PiB"
        case .metricsAuthorized: "1 or 0"
        case .auditLifetime: "1h to 3650d"
        case .regionLostAfter: "0, or 5s to 24h"
        }
    }

    /// `ms`, `bytes`, or empty for a count.
    package var unit: String {
        switch self {
        case .replaceAfter, .stableFor, .tokenLifetime, .certificateLifetime, .certificateOverlap, .finalizeAfter,
            .auditLifetime, .regionLostAfter:
            "ms"
        case .bulkRate: "bytes"
        default: ""
        }
    }

    package var standard: UInt64 {
        switch self {
        case .rootVoters, .spaceReplicas: 3
        case .rootStandbys: 2
        case .replaceAfter: 5 * 60_000
        case .stableFor: 10_000
        case .tokenLifetime: 3 * 3_600_000
        case .tokenUses: 1
        case .certificateLifetime: 24 * 3_600_000
        case .certificateOverlap: 3_600_000
        case .finalizeAfter, .bulkRate: 0
        case .metricsAuthorized: 1
        case .auditLifetime: 90 * 24 * 3_600_000
        case .regionLostAfter: 60_000
        }
    }

    package func allows(_ value: UInt64) -> Bool {
        switch self {
        case .rootVoters, .spaceReplicas: value == 1 || value == 3 || value == 5
        case .rootStandbys: value <= 5
        case .replaceAfter: (1_000...RootLimits.lifetimeMax).contains(value)
        case .stableFor: (100...3_600_000).contains(value)
        case .tokenLifetime: (60_000...RootLimits.lifetimeMax).contains(value)
        case .tokenUses: (1...10_000).contains(value)
        case .certificateLifetime: (10 * 60_000...RootLimits.lifetimeMax).contains(value)
        case .certificateOverlap: value <= 24 * 3_600_000
        case .finalizeAfter: value <= RootLimits.lifetimeMax
        case .bulkRate: value <= 1 << 50
        case .metricsAuthorized: value <= 1
        case .auditLifetime: (3_600_000...RootLimits.lifetimeMax).contains(value)
        case .regionLostAfter: value == 0 || (5_000...24 * 3_600_000).contains(value)
        }
    }

    package static func named(_ name: String) -> RootSetting? { allCases.first { $0.name == name } }
}

/// A setting that was changed.
package struct RootSettingValue: Hashable, Sendable {
    package var setting: RootSetting
    package var value: UInt64
    package init(_ setting: RootSetting, _ value: UInt64) {
        self.setting = setting
        self.value = value
    }
}

/// All settings, with their standard values where nobody changed them.
package struct RootSettings: Hashable, Sendable {
    private var changed: [RootSettingValue] = []
    package init() {}

    package subscript(setting: RootSetting) -> UInt64 {
        get { changed.first { $0.setting == setting }?.value ?? setting.standard }
        set {
            changed.removeAll { $0.setting == setting }
            if newValue == setting.standard { return }
            let at = changed.firstIndex { $0.setting.rawValue > setting.rawValue } ?? changed.count
            changed.insert(RootSettingValue(setting, newValue), at: at)
        }
    }
}
