package import ClusterBase
package import FleetModel

/// How fresh a read must be.
package enum ReadMode: Hashable, Sendable {
    /// It sees every write that was acknowledged before it began.
    case linearizable
    /// It may miss what was acknowledged in the last `within`; any replica answers at once, or says that it can't.
    case stale(within: Nanoseconds)
    /// It sees everything up to this entry; a replica that has it answers at once.
    case atLeast(LogIndex)
}

/// What a request asks for, checked as far as it can be without the cluster.
package enum AdminRequest: Hashable, Sendable {
    case health
    case ready
    case metrics
    case document

    case write(space: String, SpaceCommand)
    case read(space: String, key: [UInt8], ReadMode)
    indirect case list(space: String, prefix: [UInt8], after: [UInt8]?, limit: Int, ReadMode)
    /// Changes after `from`, which is now where it is nil; the answer is a stream.
    case watch(space: String, prefix: [UInt8], from: Revision?)

    case lock(space: String, name: String, ReadMode)
    indirect case locks(space: String, prefix: String, after: String?, limit: Int, ReadMode)

    case spaces
    case space(String)
    indirect case createSpace(SpaceCreation)
    case deleteSpace(String, isForced: Bool = false)
    indirect case moveSpace(String, SpaceMove)

    case status
    case nodes(ReadMode)
    case node(String)
    case removeNode(String, isForced: Bool)
    case promoteNode(String)
    case demoteNode(String)
    indirect case join(JoinRequest)
    case assignHost(String, CellAssignment)

    case cells
    case cell(String)
    indirect case createCell(CellCreation)
    case retireCell(String)
    indirect case planHosts(String, HostsPlanWish)

    case regions
    case region(String)
    case declareRegion(String, isLost: Bool)
    case planRegion(String, RegionPlanWish)
    case setLatency(String, RegionLatencyWish)

    case tokens
    indirect case createToken(TokenCreation)
    case revokeToken(String)
    case settings
    case changeSetting(String, SettingChange)

    indirect case transferLeadership(LeaderTransfer)
    case certificates
    indirect case rotateCertificates(CertificateRotation)
    case renewCertificate(CertificateRenewal)
    case upgrade
    case finalizeUpgrade(UpgradeFinalization)
    case backupPlan
    /// A backup is to be made; it is made, or given up.
    case beginBackup
    case endBackup
    /// The answer is a stream.
    case copyGroup(UInt64)
    case backupSchedules
    indirect case setBackupSchedule(String, BackupSchedule)
    case removeBackupSchedule(String)
    indirect case recover(Recovery)

    /// About a cell.
    case fleet(FleetRequest)

    package var operation: Operation {
        switch self {
        case .health: .health
        case .ready: .ready
        case .metrics: .metrics
        case .document: .document
        case .write(_, let command):
            switch command.operation {
            case .put, .compareAndSet: .putKey
            case .delete, .compareAndDelete: .deleteKey
            case .acquire: .takeLock
            case .release: .releaseLock
            // Never a client's own.
            case .end, .expire: .deleteSpace
            }
        case .lock: .getLock
        case .locks: .listLocks
        case .read: .getKey
        case .list, .watch: .listKeys
        case .spaces: .listSpaces
        case .space: .getSpace
        case .createSpace: .createSpace
        case .deleteSpace: .deleteSpace
        case .moveSpace: .moveSpace
        case .status: .getStatus
        case .nodes: .listNodes
        case .node: .getNode
        case .removeNode: .removeNode
        case .promoteNode: .promoteNode
        case .demoteNode: .demoteNode
        case .join: .join
        case .assignHost: .assignHost
        case .cells: .listCells
        case .cell: .getCell
        case .createCell: .createCell
        case .retireCell: .retireCell
        case .planHosts: .planHosts
        case .regions: .listRegions
        case .region: .getRegion
        case .declareRegion(_, let isLost): isLost ? .loseRegion : .regainRegion
        case .planRegion: .planRegion
        case .setLatency: .setRegionLatency
        case .tokens: .listTokens
        case .createToken: .createToken
        case .revokeToken: .revokeToken
        case .settings: .listSettings
        case .changeSetting: .changeSetting
        case .transferLeadership: .transferLeadership
        case .certificates: .listCertificates
        case .rotateCertificates: .rotateCertificates
        case .renewCertificate: .renewCertificate
        case .upgrade: .getUpgrade
        case .finalizeUpgrade: .finalizeUpgrade
        case .backupPlan: .planBackup
        case .beginBackup: .beginBackup
        case .endBackup: .endBackup
        case .copyGroup: .copyGroup
        case .backupSchedules: .listBackupSchedules
        case .setBackupSchedule: .setBackupSchedule
        case .removeBackupSchedule: .removeBackupSchedule
        case .recover: .recover
        case .fleet(let request): request.operation
        }
    }

    /// What permission it needs.
    package var action: Action {
        switch self {
        case .health, .ready, .document: .ask
        case .metrics: .measure
        case .join: .join
        case .write(let space, _): .writeSpace(space)
        case .read(let space, _, _), .list(let space, _, _, _, _), .watch(let space, _, _),
            .lock(let space, _, _), .locks(let space, _, _, _, _):
            .readSpace(space)
        case .spaces, .space, .status, .nodes, .node, .cells, .cell, .regions, .region, .certificates, .upgrade:
            .observe
        case .createCell, .retireCell, .planHosts, .assignHost, .declareRegion, .planRegion, .setLatency:
            .manageCells
        case .createSpace, .deleteSpace, .moveSpace: .manageSpaces
        case .removeNode, .promoteNode, .demoteNode: .manageNodes
        case .tokens, .createToken, .revokeToken: .manageTokens
        case .transferLeadership: .transferLeadership
        case .rotateCertificates: .manageCertificates
        case .renewCertificate: .renewOwnCertificate
        case .settings: .observe
        case .changeSetting: .changeSettings
        case .finalizeUpgrade: .upgrade
        case .backupPlan, .beginBackup, .endBackup, .copyGroup: .copyState
        case .backupSchedules, .setBackupSchedule, .removeBackupSchedule: .backup
        case .recover: .recover
        case .fleet(let request): request.action
        }
    }

    /// Its answer is a stream.
    package var isStream: Bool {
        switch self {
        case .watch, .copyGroup: true
        case .fleet(let request): request.isStream
        default: false
        }
    }
}

/// A request with what belongs to it whatever it asks for.
package struct AdminCall: Hashable, Sendable {
    package var request: AdminRequest
    /// What makes a retry harmless; a write's is in its command already.
    package var idempotencyKey: IdempotencyKey?
    /// Answer with the header only.
    package var isHead: Bool
    /// The name of the cell that a request about hosts and VMs is for; nil: whichever has what it names.
    package var cell: String?
    /// The digest of the plan that was shown: the change is made only while that is the plan.
    package var plan: String?

    package init(
        _ request: AdminRequest, cell: String? = nil, plan: String? = nil, idempotencyKey: IdempotencyKey? = nil,
        isHead: Bool = false
    ) {
        self.request = request
        self.cell = cell
        self.plan = plan
        self.idempotencyKey = idempotencyKey
        self.isHead = isHead
    }
}

extension Revision {
    /// `index.slot`, or an index for its entry's end.
    package init?(_ text: String) { self.init(text: Array(text.utf8)[...], indexMeansEnd: true) }

    /// `index.slot`, as answers write it. With `indexMeansEnd` an index alone is its entry's end.
    init?(text: ArraySlice<UInt8>, indexMeansEnd: Bool = false) {
        let bytes = Array(text)
        let dot = bytes.firstIndex(of: UInt8(ascii: ".")) ?? bytes.count
        guard let index = HTTPSyntax.decimal(bytes.span, 0, dot) else { return nil }
        if dot == bytes.count {
            guard indexMeansEnd else { return nil }
            self = index == 0 ? .zero : .end(of: LogIndex(UInt64(index)))
            return
        }
        guard let slot = HTTPSyntax.decimal(bytes.span, dot + 1, bytes.count), slot < 256 else { return nil }
        self.init(index: LogIndex(UInt64(index)), slot: slot)
    }
}

extension Nanoseconds {
    /// `500ms` or `2s`.
    init?(text: ArraySlice<UInt8>) {
        let bytes = Array(text)
        let unit = bytes.firstIndex { $0 &- 48 > 9 } ?? bytes.count
        guard let count = HTTPSyntax.decimal(bytes.span, 0, unit), count <= 1_000_000_000 else { return nil }
        switch String(decoding: bytes[unit...], as: UTF8.self) {
        case "ms": self = .milliseconds(Int64(count))
        case "s": self = .seconds(Int64(count))
        default: return nil
        }
    }
}
