/// The name of what a route does, in clients' code as in the OpenAPI document.
package enum Operation: String, Hashable, Sendable, CaseIterable {
    case health, ready, metrics, document
    case putKey, getKey, deleteKey, listKeys
    case takeLock, releaseLock, getLock, listLocks
    case listSpaces, createSpace, getSpace, deleteSpace, moveSpace
    case getStatus
    case listNodes, getNode, removeNode, promoteNode, demoteNode, assignHost, join
    case listCells, createCell, getCell, retireCell, planHosts
    case listRegions, getRegion, loseRegion, regainRegion, planRegion, setRegionLatency
    case listTokens, createToken, revokeToken
    case listSettings, changeSetting
    case transferLeadership
    case listCertificates, rotateCertificates, renewCertificate
    case getUpgrade, finalizeUpgrade
    case planBackup, beginBackup, endBackup, copyGroup, listBackupSchedules, setBackupSchedule, removeBackupSchedule
    case recover
    case listHosts, getHost, removeHost, cordonHost, drainHost, maintainHost, resumeHost, setHostPolicy
    case pauseDrain, resumeDrain, pauseReturn, resumeReturn, declareHostAway, declareHostBack, declareHostDead
    case markStorage
    case listVMs, createVM, createVMs, getVM, updateVM, deleteVM
    case startVM, stopVM, pauseVM, resumeVM, restartVM, migrateVM, cancelMigration, explainVM, getVMHistory, getVMLogs
    case useVMConsole, getVMUsage, getVMForecast, getHostUsage
    case listMigrations
    case listGroups, createGroup, getGroup, deleteGroup
    case listImages, getImage, addImagePart, addImage, removeImage
    case listRemains, forgetRemains
    case listTenants, getTenant, setTenant, deleteTenant
    case listEvents, getAudit
    case plan, getRebalance, startRebalance, listLosses
    case rehearseRegionLoss, getCellRecovery
    case getCellSettings, changeCellSettings
    case renewLease
}

/// One row of the table of routes. Requests are routed by it, their queries and bodies are checked by it, and the OpenAPI
/// document is written from it.
package struct Route: Hashable, Sendable {
    /// A parameter of the query. None is required.
    package struct Parameter: Hashable, Sendable {
        package var name: String
        package var kind: Field.Kind
        package var summary: String
        package init(_ name: String, _ kind: Field.Kind, _ summary: String) {
            self.name = name
            self.kind = kind
            self.summary = summary
        }
    }

    package enum Body: Hashable, Sendable {
        case none
        /// Any bytes, whatever their media type.
        case bytes
        case json(Shape)
    }

    package enum Answer: Hashable, Sendable {
        case json(Shape)
        /// Any bytes, text among them.
        case raw(MediaType)
        /// Free JSON.
        case anyJSON
    }

    /// Who may ask at all; what they may do is judged by the request's action.
    package enum Security: Hashable, Sendable {
        case open
        case setting
        case principal
    }

    package var operation: Operation
    package var method: HTTPMethod
    /// `/v1/kv/{space}/{key}`; a last parameter called `key` takes the rest, slashes and all.
    package var path: String
    package var summary: String
    package var security = Security.principal
    package var query: [Parameter] = []
    package var body = Body.none
    package var status = 200
    /// `If-Match` with a generation is looked at.
    package var hasGeneration = false
    package var answer: Answer

    init(
        _ operation: Operation, _ method: HTTPMethod, _ path: String, _ summary: String,
        security: Security = .principal, query: [Parameter] = [], body: Body = .none, status: Int = 200,
        hasGeneration: Bool = false, _ answer: Answer
    ) {
        self.operation = operation
        self.method = method
        self.path = path
        self.summary = summary
        self.security = security
        self.query = query
        self.body = body
        self.status = status
        self.hasGeneration = hasGeneration
        self.answer = answer
    }

    /// The names of the path's parameters.
    package var parameters: [String] {
        path.split(separator: "/").filter { $0.hasPrefix("{") }.map { String($0.dropFirst().dropLast()) }
    }
}

extension Route {
    private static let stale = Parameter(
        "stale", .text(pattern: Pattern.duration),
        "answer from this node's replica if it misses no more than this: 500ms, 2s")
    private static let previous = Parameter(
        "prev-revision", .text(pattern: Pattern.revisionOrZero),
        "only if this is the key's last change, index.slot; 0: only if the key is not there")
    private static let previousValue = Parameter(
        "prev-value", .text(pattern: Pattern.base64URL), "only if the key holds this value; base64url")
    private static let fence = Parameter(
        "fence", .text(pattern: Pattern.fence),
        "NAME:TOKEN; only while that lock of the space is held under that token")
    private static let accepted = Answer.json(Acceptance.shape)

    /// Every route of the admin port.
    package static let all: [Route] = fixed + keys + locks + spaces + nodes + cells + cluster + fleet

    /// The status of each operation's answer that says yes.
    // hash order: looked up only
    package static let status: [Operation: Int] = Dictionary(
        uniqueKeysWithValues: all.map { ($0.operation, $0.status) })

    private static let fixed = [
        Route(
            .health, .get, "/healthz", "Says that the process lives.", security: .open, .raw(.text)),
        Route(
            .ready, .get, "/readyz", "Says whether the node can serve.", security: .open, .raw(.text)),
        Route(
            .metrics, .get, "/metrics", "The node's numbers, for Prometheus.", security: .setting, .raw(.metrics)),
        Route(
            .document, .get, "/v1/openapi.json", "This document.", security: .open, .anyJSON),
    ]

    private static let keys = [
        Route(
            .putKey, .put, "/v1/kv/{space}/{key}", "Writes a key.",
            query: [previous, previousValue, fence],
            body: .bytes, .json(SpaceJSON.written)),
        Route(.getKey, .get, "/v1/kv/{space}/{key}", "Reads a key.", query: [stale], .raw(.bytes)),
        Route(
            .deleteKey, .delete, "/v1/kv/{space}/{key}", "Deletes a key.",
            query: [
                Parameter("prev-revision", .text(pattern: Pattern.revision), "only if this is the key's last change"),
                previousValue, fence,
            ],
            .json(SpaceJSON.deleted)),
        Route(
            .listKeys, .get, "/v1/kv/{space}",
            "Lists keys in pages, or with watch=1 streams changes as JSON lines.",
            query: [
                Parameter("prefix", .string, "only keys that begin with this"),
                Parameter("after", .string, "only keys after this one: a page's next"),
                Parameter("limit", .range(1, 1_000), "keys in a page, at most 1000"), stale,
                Parameter("watch", .range(0, 1), "1: stream changes until the connection ends"),
                Parameter(
                    "from", .text(pattern: Pattern.place),
                    "watch what comes after this revision, or after this index; now by default"),
            ],
            .json(SpaceJSON.page)),
    ]

    private static let locks = [
        Route(
            .takeLock, .put, "/v1/locks/{space}/{lock}",
            "Takes a lock that is free, or renews the owner's own. It becomes free without a renewal for its lease.",
            body: .json(LockWish.shape), .json(LockHeld.shape)),
        Route(
            .releaseLock, .post, "/v1/locks/{space}/{lock}/release", "Gives a lock back.",
            body: .json(LockRelease.shape), .json(SpaceJSON.deleted)),
        Route(
            .getLock, .get, "/v1/locks/{space}/{lock}", "Says who holds a lock.", query: [stale], .json(LockInfo.shape)),
        Route(
            .listLocks, .get, "/v1/locks/{space}", "Lists locks that are held, in pages.",
            query: [
                Parameter("prefix", .string, "only locks whose names begin with this"),
                Parameter("after", .string, "only locks after this one: a page's next"),
                Parameter("limit", .range(1, 1_000), "locks in a page, at most 1000"), stale,
            ],
            .json(LockPage.shape)),
    ]

    private static let spaces = [
        Route(.listSpaces, .get, "/v1/spaces", "Lists spaces.", .json(Listing<SpaceInfo>.shape)),
        Route(
            .createSpace, .post, "/v1/spaces", "Creates a space.", body: .json(SpaceCreation.shape), status: 201,
            .json(SpaceInfo.shape)),
        Route(.getSpace, .get, "/v1/spaces/{space}", "Shows a space.", .json(SpaceInfo.shape)),
        Route(
            .deleteSpace, .delete, "/v1/spaces/{space}",
            "Deletes a space and all its keys; nothing is written to it after.",
            query: [Parameter("force", .range(0, 1), "1: even if its replicas don't agree to take nothing more")],
            status: 202, accepted),
        Route(
            .moveSpace, .post, "/v1/spaces/{space}/move", "Moves a space to other nodes while it works.",
            body: .json(SpaceMove.shape), status: 202, accepted),
    ]

    private static let nodes = [
        Route(
            .listNodes, .get, "/v1/nodes", "Lists nodes.",
            query: [
                Parameter(
                    "stale", .text(pattern: Pattern.duration),
                    "answer with what this node knows of the root if it misses no more than this: 500ms, 2s")
            ], .json(Listing<NodeInfo>.shape)),
        Route(.getNode, .get, "/v1/nodes/{node}", "Shows a node.", .json(NodeInfo.shape)),
        Route(
            .removeNode, .delete, "/v1/nodes/{node}", "Removes a node; its certificate is refused from then on.",
            query: [Parameter("force", .range(0, 1), "1: even if a group loses a voter that it can't replace")],
            status: 202, accepted),
        Route(
            .promoteNode, .post, "/v1/nodes/{node}/promote", "Lets a node vote in the root group.", status: 202,
            accepted),
        Route(
            .demoteNode, .post, "/v1/nodes/{node}/demote", "Takes a node's vote in the root group.", status: 202,
            accepted),
        Route(
            .assignHost, .post, "/v1/nodes/{node}/assign",
            "Has a node's host go to another cell; within its region with its VMs, which run on. 202: it is on its way.",
            body: .json(CellAssignment.shape), accepted),
        Route(
            .join, .post, "/v1/join",
            "Makes a node a member; the join token in the body is the proof. A member whose certificate has ended gets "
                + "another: its registered key is the proof.",
            security: .open, body: .json(JoinRequest.shape), .json(JoinAnswer.shape)),
    ]

    private static let cells = [
        Route(.listCells, .get, "/v1/cells", "Lists cells.", .json(Listing<CellInfo>.shape)),
        Route(
            .createCell, .post, "/v1/cells", "Creates a cell; new nodes of its region come to it.",
            body: .json(CellCreation.shape), status: 201, .json(CellInfo.shape)),
        Route(.getCell, .get, "/v1/cells/{cell}", "Shows a cell.", .json(CellInfo.shape)),
        Route(.retireCell, .delete, "/v1/cells/{cell}", "Retires an empty cell; its group ends.", accepted),
        Route(
            .planHosts, .post, "/v1/cells/{cell}/plan",
            "Has hosts of a cell go to another one with their VMs, some of them or all, and pauses, resumes or cancels that. GET "
                + "/v1/cells/{cell} says how far it is.",
            body: .json(HostsPlanWish.shape), accepted),
        Route(.listRegions, .get, "/v1/regions", "Lists regions.", .json(Listing<RegionInfo>.shape)),
        Route(.getRegion, .get, "/v1/regions/{region}", "Shows a region.", .json(RegionInfo.shape)),
        Route(
            .loseRegion, .post, "/v1/regions/{region}/declare-lost",
            "Declares a region lost: cells give up all its hosts when their leases have ended, and VMs that may move go to "
                + "other regions.", accepted),
        Route(
            .regainRegion, .post, "/v1/regions/{region}/back",
            "Declares that a region is back: VMs that are to return go home.", accepted),
        Route(
            .planRegion, .post, "/v1/regions/{region}/plan",
            "Has a region's VMs leave it, or go back there, and pauses, resumes or cancels that. GET "
                + "/v1/regions/{region}/rehearsal says how far it is.",
            body: .json(RegionPlanWish.shape), accepted),
        Route(
            .setRegionLatency, .put, "/v1/regions/{region}/latency",
            "Sets the round trip between two regions, which counts whatever is measured, or takes that back.",
            body: .json(RegionLatencyWish.shape), accepted),
    ]

    private static let cluster = [
        Route(.getStatus, .get, "/v1/status", "Shows the cluster as this node sees it.", .json(ClusterStatus.shape)),
        Route(.listTokens, .get, "/v1/tokens", "Lists tokens, without their secrets.", .json(Listing<TokenInfo>.shape)),
        Route(
            .createToken, .post, "/v1/tokens", "Makes a token to join or to ask with.",
            body: .json(TokenCreation.shape), status: 201, .json(CreatedToken.shape)),
        Route(
            .listSettings, .get, "/v1/settings", "Lists what is set for the whole cluster.",
            .json(Listing<SettingInfo>.shape)),
        Route(
            .changeSetting, .put, "/v1/settings/{setting}", "Changes a setting of the cluster.",
            body: .json(SettingChange.shape), accepted),
        Route(.revokeToken, .delete, "/v1/tokens/{token}", "Revokes a token.", accepted),
        Route(
            .transferLeadership, .post, "/v1/leader/transfer", "Hands a group's leadership over.",
            body: .json(LeaderTransfer.shape), status: 202, accepted),
        Route(.listCertificates, .get, "/v1/certs", "Lists certificates.", .json(Listing<CertificateInfo>.shape)),
        Route(
            .rotateCertificates, .post, "/v1/certs/rotate",
            "Renews a node's certificate, or takes the next step of the CA's rotation.",
            body: .json(CertificateRotation.shape), status: 202, accepted),
        Route(
            .renewCertificate, .post, "/v1/certs/renew",
            "Renews the certificate of whoever asks, a node or an operator, and names the authorities.",
            body: .json(CertificateRenewal.shape), .json(RenewedCertificate.shape)),
        Route(.getUpgrade, .get, "/v1/upgrade", "Lists feature gates.", .json(Listing<GateInfo>.shape)),
        Route(
            .finalizeUpgrade, .post, "/v1/upgrade/finalize", "Opens feature gates; going back ends here.",
            body: .json(UpgradeFinalization.shape), status: 202, accepted),
        Route(
            .planBackup, .get, "/v1/backup", "Lists what a backup has to hold and who can give it.",
            .json(BackupPlan.shape)),
        Route(
            .beginBackup, .post, "/v1/backup/begin",
            "Begins a backup: for an hour, or until it ends, no VM goes from cell to cell, so that copies have each once.",
            accepted),
        Route(
            .endBackup, .post, "/v1/backup/end",
            "Says that a backup is made, or given up: VMs go from cell to cell again.",
            accepted),
        Route(
            .copyGroup, .get, "/v1/backup/{group}",
            "Streams a group's state, consistent at one index, as records of a backup (Proto/backup.proto).",
            .raw(.bytes)),
        Route(
            .listBackupSchedules, .get, "/v1/backup-schedules",
            "Lists the schedules of backups, and how the last ones went.",
            .json(Listing<BackupScheduleInfo>.shape)),
        Route(
            .setBackupSchedule, .put, "/v1/backup-schedules/{schedule}", "Makes or changes a schedule of backups.",
            body: .json(BackupSchedule.shape), accepted),
        Route(
            .removeBackupSchedule, .delete, "/v1/backup-schedules/{schedule}",
            "Removes a schedule of backups; the backups stay.", accepted),
        Route(
            .recover, .post, "/v1/recover",
            "Gives a group that lost its quorum to this node alone. Acknowledged writes may be lost.",
            body: .json(Recovery.shape), status: 202, accepted),
    ]
}
