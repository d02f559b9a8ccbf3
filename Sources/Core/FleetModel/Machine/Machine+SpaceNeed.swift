package import ClusterBase

// What waits while the disk of a group's leader is nearly full: all that clients ask to be kept beyond what is there.
//
// What frees space goes on, or is asked to be somewhere else; so does what keeps the cluster alive: members, roles,
// placements, leases, certificates, and every step that a controller takes. A space that refuses deletes would never have
// room again, and a cluster that refuses a new node could not be given a disk.

extension Machine {
    /// Whether an encoded command is one of those that wait. What can't be read is left to the machine, which refuses it.
    package static func wantsSpace(_ kind: GroupKind, _ command: [UInt8]) -> Bool {
        switch kind {
        case .space:
            guard case .success(let command) = SpaceCommand.decode(command) else { return false }
            return command.operation.wantsSpace
        case .root:
            guard case .success(let command) = RootCommand.decode(command) else { return false }
            return command.operation.wantsSpace
        case .cell:
            guard case .success(let command) = CellCommand.decode(command) else { return false }
            return command.operation.wantsSpace
        }
    }
}

extension SpaceCommand.Operation {
    package var wantsSpace: Bool {
        switch self {
        case .put, .compareAndSet: true
        case .delete, .compareAndDelete, .end: false
        // A lock is a short row, there are few of them, and who can't renew his own has to stop.
        case .acquire, .release, .expire: false
        }
    }
}

extension RootCommand.Operation {
    package var wantsSpace: Bool {
        switch self {
        case .createSpace, .createCell, .createTenant, .setTenant, .addOperator, .setBackup, .addImage: true
        // Another node is another disk; a setting or a wish may be what moves a role away from the full one.
        case .createToken, .joinNode, .arrangeNode, .changeSetting: false
        case .revokeToken, .removeNode, .distrustAuthority, .deleteSpace, .removeOperator, .removeBackup, .deleteTenant,
            .retireCell, .removeImage:
            false
        case .found, .reportNode, .certifyNode, .trustAuthority, .signWithAuthority, .foundGroup, .changePlacement,
            .reportReplicas, .reportGroup, .finalizeLevel, .noteBackup, .recordRecovery, .noteTime, .moveHost,
            .reportCell, .nameSealingKey, .rotateSealingKey, .holdImage, .markDomain,
            .declareRegion, .planRegion, .noteForbidden, .planHosts, .noteHosts, .reportLatencies, .setLatency:
            false
        }
    }
}

extension CellCommand.Operation {
    package var wantsSpace: Bool {
        switch self {
        case .createVMs, .updateVM, .putGroup, .setHostPolicy, .holdName: true
        // VMs that are there stay in their owners' hands, and hosts in their operators'.
        case .setHostDuty, .setPower, .restartVM, .setSetting, .moveVM: false
        case .careForHost, .removeHost, .deleteVM, .deleteGroup, .releaseHost, .closeCell, .sendHost: false
        case .registerHost, .reportVMs, .lendQuota, .takeQuota, .settleLoan, .advanceMove, .prepareArrival,
            .endArrival, .advanceHost, .prepareHost, .endHost, .confirmHost, .placeVMs, .explainWaiting, .releaseVMs,
            .retryVM, .giveUpVM, .beginMigration,
            .commitMigration, .cancelMigration, .declareDown, .finishDrain, .setSlice, .returnSlice, .collectGarbage,
            .resealVM, .noteTime, .releaseImage, .dropRemains, .confirmMove, .noteRegion, .noteAdvice, .noteRisk,
            .takeSettings:
            false
        }
    }
}
