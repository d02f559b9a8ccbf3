public import ClusterBase

/// A point in the root's time: milliseconds since 1970 by the clocks of its leaders. Never goes back.
@frozen public struct LogTime: Identity {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let zero = LogTime(rawValue: 0)
    /// The time so many milliseconds later; the end of time when there is none.
    @inlinable public func advanced(by milliseconds: UInt64) -> LogTime {
        let (sum, isOver) = rawValue.addingReportingOverflow(milliseconds)
        return LogTime(rawValue: isOver ? .max : sum)
    }
}

/// The bounds of the root's state, all of them part of its replicated behaviour: changing one needs a new pack version.
public enum RootLimits {
    public static let nodesMax: UInt64 = 10_000
    /// Records of removed nodes that are kept; the oldest go.
    public static let nodesRemovedMax: UInt64 = 1_000
    public static let tokensMax: UInt64 = 1_000
    public static let authoritiesMax = 4
    public static let spacesMax: UInt64 = 10_000
    public static let operatorsMax: UInt64 = 1_000
    public static let backupsMax: UInt64 = 16
    public static let cellsMax: UInt64 = 1_000
    /// A cell's number is the upper part of its VMs' ids, and has 24 bits.
    public static let cellNumberMax: UInt64 = 1 << 24 - 1
    public static let tenantsMax: UInt64 = 10_000
    /// Records of forced recoveries that are kept; the oldest go.
    public static let recoveriesMax: UInt64 = 1_000
    /// Results kept for repetitions. Beyond it new request ids are refused, and kept ones are never dropped early.
    public static let requestsMax: UInt64 = 65_536
    /// How long a result is kept, in milliseconds.
    public static let requestLifetime: UInt64 = 24 * 3_600_000
    /// Kept results that one command may drop because they are old.
    public static let requestsDroppedMax = 64
    public static let historyChangesMax: UInt64 = 20_000
    public static let historyBytesMax: UInt64 = 32 << 20
    public static let replicasPerGroupMax = 15
    /// Replicas in one report of a node.
    public static let reportMax = 256
    public static let nameBytesMax = 63
    public static let addressBytesMax = 255
    public static let textBytesMax = 255
    public static let certificateBytesMax = 8 << 10
    public static let hashBytes = 32
    public static let requestBytes = 16
    public static let clusterBytes = 16
    public static let commandBytesMax = 64 << 10
    public static let answerCountMax = 1_000
    /// Bytes in one answer, which always holds at least one row if there is any.
    public static let answerBytesMax = 1 << 20
    /// The furthest in the future, in milliseconds, that anything may expire: ten years.
    public static let lifetimeMax: UInt64 = 10 * 365 * 24 * 3_600_000
}

/// Where a host stands. Empty words are places that nobody named.
public struct Locality: Hashable, Sendable {
    public var region: String
    public var zone: String
    public var rack: String
    public init(region: String = "", zone: String = "", rack: String = "") {
        self.region = region
        self.zone = zone
        self.rack = rack
    }
}

/// What a node says of itself.
public struct NodeDescription: Hashable, Sendable {
    public var name: String
    public var locality: Locality
    /// Host and port, as other nodes reach it.
    public var peerAddress: String
    /// Host and port, as clients reach it.
    public var adminAddress: String
    /// SHA-256 of its public key, which outlives its certificates.
    public var key: [UInt8]
    public var programVersion: String
    /// The highest feature level that its program understands.
    public var level: UInt32
    public init(
        name: String, locality: Locality = Locality(), peerAddress: String, adminAddress: String, key: [UInt8],
        programVersion: String, level: UInt32
    ) {
        self.name = name
        self.locality = locality
        self.peerAddress = peerAddress
        self.adminAddress = adminAddress
        self.key = key
        self.programVersion = programVersion
        self.level = level
    }
}

/// What the root knows of a certificate that a node uses.
public struct NodeCertificate: Hashable, Sendable {
    /// SHA-256 of the certificate.
    public var fingerprint: [UInt8]
    /// The fingerprint of the authority that signed it.
    public var issuer: [UInt8]
    public var expiresAt: LogTime
    public init(fingerprint: [UInt8], issuer: [UInt8], expiresAt: LogTime) {
        self.fingerprint = fingerprint
        self.issuer = issuer
        self.expiresAt = expiresAt
    }
}

/// A node as the cluster knows it. Its id is never given to another one.
public struct RootNode: Hashable, Sendable {
    /// `joining` until its agent has run once; `removed` for ever.
    public enum State: Int32, Hashable, Sendable { case joining = 1, active, removed }
    /// What an operator wants of it in the root group.
    public enum VotingWish: Int32, Hashable, Sendable { case automatic = 1, preferred, never }

    public var id: NodeID
    public var about: NodeDescription
    public var state: State
    public var since: LogTime
    public var certificate: NodeCertificate?
    /// Good beside the current one until it expires.
    public var previousCertificate: NodeCertificate?
    public var voting: VotingWish
    /// Its replicas go elsewhere, and no new ones come.
    public var isDraining: Bool
    /// The hash of the token that it joined with.
    public var token: [UInt8]
    public init(
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

    public var name: String { about.name }

    /// Whether a peer that shows a certificate with this fingerprint may speak for the node.
    public func accepts(_ fingerprint: [UInt8], at time: LogTime) -> Bool {
        if state == .removed { return false }
        if certificate?.fingerprint == fingerprint { return true }
        guard let previousCertificate, previousCertificate.fingerprint == fingerprint else { return false }
        return time < previousCertificate.expiresAt
    }
}

/// Permission to join, known by the hash of its secret.
public struct JoinToken: Hashable, Sendable {
    public var hash: [UInt8]
    public var note: String
    public var createdAt: LogTime
    public var expiresAt: LogTime
    public var usesLeft: UInt32
    public var usesAllowed: UInt32
    public var isRevoked: Bool
    public var createdBy: String
    public init(
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
public struct Authority: Hashable, Sendable {
    /// SHA-256 of the certificate.
    public var fingerprint: [UInt8]
    /// DER.
    public var certificate: [UInt8]
    /// New certificates are signed by this one. At most one does.
    public var signs: Bool
    public var since: LogTime
    public init(fingerprint: [UInt8], certificate: [UInt8], signs: Bool, since: LogTime) {
        self.fingerprint = fingerprint
        self.certificate = certificate
        self.signs = signs
        self.since = since
    }
}

/// A named key space and the group that owns it.
public struct RootSpace: Hashable, Sendable {
    public var name: String
    public var group: GroupID
    /// How many voters its group is to have.
    public var replicas: UInt32
    public var createdAt: LogTime
    public var createdBy: String
    public init(name: String, group: GroupID, replicas: UInt32, createdAt: LogTime, createdBy: String) {
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
public struct PlacedReplica: Hashable, Sendable {
    public enum Part: Int32, Hashable, Sendable { case voter = 1, standby }
    public enum Phase: Int32, Hashable, Sendable { case wanted = 1, made, lost }

    public var replica: ReplicaID
    public var node: NodeID
    public var part: Part
    public var phase: Phase
    /// Never taken back.
    public var isLeaving: Bool
    /// When it came into its phase.
    public var since: LogTime
    public init(
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
public struct GroupPlacement: Hashable, Sendable {
    public struct Founder: Hashable, Sendable {
        public var replica: ReplicaID
        public var node: NodeID
        public init(replica: ReplicaID, node: NodeID) {
            self.replica = replica
            self.node = node
        }
    }

    public var group: GroupID
    /// Ascending by replica.
    public var replicas: [PlacedReplica]
    /// The highest replica id that was given out.
    public var replicaHighest: ReplicaID
    public var epoch: Epoch
    /// Of its last change.
    public var revision: Revision
    /// The group's first members, until each of them is made or gone.
    public var founders: [Founder]
    public init(
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

    public func position(of replica: ReplicaID) -> Int? { replicas.firstIndex { $0.replica == replica } }
    public func replica(on node: NodeID) -> PlacedReplica? { replicas.first { $0.node == node } }
    /// Voters that are to stay.
    public var voterCount: Int { replicas.count { $0.part == .voter && !$0.isLeaving } }
}

/// Who may use the admin port, and how they prove it.
public struct Operator: Hashable, Sendable {
    public enum Role: Int32, Hashable, Sendable {
        /// Each may do what the ones before it may.
        case reader = 1
        case writer, administrator
        /// Of one tenant or one space, and nothing else.
        case tenantReader, tenantWriter, spaceReader, spaceWriter

        public var hasScope: Bool { rawValue > Role.administrator.rawValue }
    }
    public enum Kind: Int32, Hashable, Sendable { case certificate = 1, bearer }

    public var name: String
    public var role: Role
    /// The name of the tenant or the space, for a role that has one.
    public var scope: String
    public var kind: Kind
    /// SHA-256 of the client certificate or of the bearer token.
    public var credential: [UInt8]
    /// Nil: never.
    public var expiresAt: LogTime?
    public var createdAt: LogTime
    public init(
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
public struct BackupSchedule: Hashable, Sendable {
    public var name: String
    /// Milliseconds from one beginning to the next.
    public var interval: UInt64
    /// Backups kept at the destination.
    public var keep: UInt32
    public var destination: String
    public var keyName: String
    public var finishedAt: LogTime
    public var succeededAt: LogTime
    public var outcome: String
    public init(
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
public struct RecoveryRecord: Hashable, Sendable {
    public var number: UInt64
    public var group: GroupID
    public var epoch: Epoch
    /// Entries after this index may have been acknowledged and are lost.
    public var possibleLossAfter: LogIndex
    public var at: LogTime
    public var by: String
    public var reason: String
    public init(
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
public struct RootCell: Hashable, Sendable {
    public var name: String
    public var group: GroupID
    /// How many voters its group is to have.
    public var replicas: UInt32
    public var createdAt: LogTime
    public var createdBy: String
    public init(name: String, group: GroupID, replicas: UInt32, createdAt: LogTime = .zero, createdBy: String = "") {
        self.name = name
        self.group = group
        self.replicas = replicas
        self.createdAt = createdAt
        self.createdBy = createdBy
    }
}

/// Who owns VMs, and what they may have in all cells together.
public struct RootTenant: Hashable, Sendable {
    public var name: String
    public var quota: Quota
    /// A word that operators sort tenants by; nothing follows from it.
    public var tier: String
    /// Of its last change; cells take slices of it in this order.
    public var revision: Revision
    public var createdAt: LogTime
    public var createdBy: String
    public init(
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

/// What there is one of in a cluster.
public struct RootCluster: Hashable, Sendable {
    public var id: [UInt8]
    public var name: String
    /// The feature level that is finalized: no program writes anything newer.
    public var level: UInt32
    public var nodeHighest: NodeID
    public var groupHighest: UInt64
    /// Of cells, which are numbered apart.
    public var cellHighest: UInt64 = 0
    /// Of the root group: one higher after every forced recovery of it.
    public var epoch: Epoch
    /// How many forced recoveries there were.
    public var recoveries: UInt64
    public var foundedAt: LogTime
    public init(
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
public enum RootSetting: UInt32, Hashable, Sendable, CaseIterable {
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

    public var name: String {
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
        }
    }

    /// What it decides, for people.
    public var summary: String {
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
        }
    }

    /// What it may be, in words.
    public var range: String {
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
        }
    }

    /// `ms`, `bytes`, or empty for a count.
    public var unit: String {
        switch self {
        case .replaceAfter, .stableFor, .tokenLifetime, .certificateLifetime, .certificateOverlap, .finalizeAfter: "ms"
        case .bulkRate: "bytes"
        default: ""
        }
    }

    public var standard: UInt64 {
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
        }
    }

    public func allows(_ value: UInt64) -> Bool {
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
        }
    }

    public static func named(_ name: String) -> RootSetting? { allCases.first { $0.name == name } }
}

/// A setting that was changed.
public struct RootSettingValue: Hashable, Sendable {
    public var setting: RootSetting
    public var value: UInt64
    public init(_ setting: RootSetting, _ value: UInt64) {
        self.setting = setting
        self.value = value
    }
}

/// All settings, with their standard values where nobody changed them.
public struct RootSettings: Hashable, Sendable {
    private var changed: [RootSettingValue] = []
    public init() {}

    public subscript(setting: RootSetting) -> UInt64 {
        get { changed.first { $0.setting == setting }?.value ?? setting.standard }
        set {
            changed.removeAll { $0.setting == setting }
            if newValue == setting.standard { return }
            let at = changed.firstIndex { $0.setting.rawValue > setting.rawValue } ?? changed.count
            changed.insert(RootSettingValue(setting, newValue), at: at)
        }
    }
}
