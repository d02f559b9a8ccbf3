package import ClusterBase

/// Why the root did not carry out a command or a query. Nothing changed.
package enum RootRefusal: Error, Hashable, Sendable {
    /// What there is a bound on.
    package enum Bound: UInt64, Hashable, Sendable {
        case nodes = 1, tokens, authorities, spaces, operators, backups, replicas, report, requests, commandBytes,
            cells, tenants, images, domains, regions
        case hostsPlans = 40
    }

    /// What an input is.
    package enum Field: UInt64, Hashable, Sendable {
        case name = 1, region, zone, rack, peerAddress, adminAddress, key, programVersion, hash, fingerprint,
            certificate
        case note, lifetime, uses, replicas, nodes, level, destination, interval, keep, reason, cluster, by, request
        case outcome, expiry, tier, quota, size, origin
        case hosts = 60
    }

    case malformed
    case unknownVersion(UInt64)
    case notFounded
    case alreadyFounded
    case invalid(Field)
    case tooMany(Bound)
    /// The request id was used for another command.
    case requestReused
    /// Of its process's session nothing is known here any more, so that the command may have been carried out before. A new
    /// session is born at this index of the log or later.
    case sessionUnknown(bornAtLeast: LogIndex)
    /// Its process asked for it before and has settled it: it was carried out then, or never will be.
    case commandSettled

    case nameTaken(String)
    case unknownNode(NodeID)
    case nodeRemoved(NodeID)
    /// Name and key are a node's for ever.
    case nodeMismatch(NodeID)
    case lastNode
    case holdsOnlyCopy(GroupID)
    case unknownToken
    case tokenExists
    case tokenExpired(LogTime)
    case tokenUsedUp
    case tokenRevoked
    case levelTooLow(needed: UInt32)

    case unknownAuthority
    case authorityExists
    case authoritySigns
    case authorityInUse(NodeID)
    case authorityDoubted(NodeID)

    case unknownSpace(String)
    case spaceExists(String)
    case unknownGroup(GroupID)
    case alreadyPlaced(GroupID)
    case nodeNotUsable(NodeID)
    case nodeHasReplica(NodeID)
    case unknownReplica(ReplicaID)
    case placementChanged(Revision)
    case noVoterLeft
    case epochOutdated(Epoch)

    case settingOutOfRange(RootSetting)
    case unknownOperator(String)
    case operatorExists(String)
    case credentialTaken(String)
    case lastAdministrator
    case levelNotNext(UInt32)
    case levelNotUnderstood(NodeID)
    case unknownBackup(String)
    case cellExists(String)
    case unknownTenant(String)
    case tenantExists(String)
    case unknownCell(String)
    /// The host was assigned anew meanwhile, under this epoch of the map.
    case assignmentChanged(UInt64)
    /// Of a cell that is to be retired.
    case cellHasHosts(String)
    /// Hosts that no other cell takes are in it.
    case firstCell(String)
    /// It keeps the names of a region that has several others.
    case cellKeepsNames(String)
    /// The cluster has another one.
    case sealingKeyNamed
    case imageExists(String)
    case unknownImage(String)
    case imageStays(String)
    case sealingKeyRotates
    case sealingStepOver
    /// With another mark than whoever asks knows.
    case domainMarked(String)
    /// No node is in it.
    case unknownRegion(String)
    /// Nothing is outside of it.
    case onlyRegion(String)
    /// It was declared something else meanwhile, under this epoch.
    case regionChanged(UInt64)
    /// It counts as lost.
    case regionIsLost(String)
    /// Nothing is planned for it that could go on.
    case noRegionPlan(String)
    /// All others are lost or evacuated.
    case noRegionLeft(String)
    /// It is split or merged, or another one's hosts come to it.
    case cellIsPlanned(String)
    /// It is neither split nor merged, or that is another plan now.
    case noHostsPlan(String)
    /// No other cell of the same region.
    case cellsApart(String)
    /// Of the cell that is to be split.
    case notItsHost(NodeID)
}

extension RootRefusal: CustomStringConvertible {
    package var description: String {
        switch self {
        case .malformed: "the bytes are no command; send one encoded as root.proto describes"
        case .unknownVersion(let version):
            "version \(version) of the command format is unknown here; send a version from \(FeatureLevel.oldest) to "
                + "\(FeatureLevel.newest)"
        case .notFounded: "there is no cluster here yet; run `muster init` on its first node"
        case .alreadyFounded: "this cluster is founded already; use `muster join` to add a node to it"
        case .invalid(let field): field.sentence
        case .tooMany(let bound): bound.sentence
        case .requestReused: "this request id was used for another command; draw a new one"
        case .sessionUnknown:
            "the root has forgotten the session that this command is of, and can't tell whether it was carried out; look, then "
                + "ask again"
        case .commandSettled:
            "the one who sent this command has given it up; look whether it was carried out, then ask again"
        case .nameTaken(let name):
            "a node named \(name) is in the cluster. If this is its host, made anew or without its disk, run `muster node remove "
                + "\(name)` and join again: it becomes a new node. If its data directory is still there, run `muster agent` with "
                + "that. If it is another host, choose another name"
        case .unknownNode(let node): "there is no node \(node); see `muster node list`"
        case .nodeRemoved(let node):
            "node \(node) was removed and can't come back; empty its data directory and join it as a new node"
        case .nodeMismatch(let node):
            "node \(node) has another name or key; start the agent with the data directory that it joined with"
        case .lastNode: "this is the last active node; a cluster needs one"
        case .holdsOnlyCopy(let group):
            "the node holds the only copy of \(group == .root ? "the root group" : "group \(group)"); drain it first, or "
                + "force the removal and lose that data"
        case .unknownToken: "the token is not known here; create one with `muster token create`"
        case .tokenExists: "a token with this secret exists; draw a new secret"
        case .tokenExpired: "the token has expired; create a new one with `muster token create`"
        case .tokenUsedUp: "the token was used as often as it may be; create a new one with `muster token create`"
        case .tokenRevoked: "the token was revoked; create a new one with `muster token create`"
        case .levelTooLow(let needed):
            "the cluster uses feature level \(needed), which this program does not understand; install a newer one"
        case .unknownAuthority: "no such authority is trusted here; see `muster cert list`"
        case .authorityExists: "this authority is trusted already"
        case .authoritySigns: "this authority signs new certificates; let another one sign first"
        case .authorityInUse(let node):
            "the certificate of node \(node) is signed by this authority; wait until the node has renewed it"
        case .authorityDoubted(let node):
            "node \(node) does not trust this authority yet and would be locked out; start it and wait until it has heard of it, "
                + "or remove it with `muster node remove`, and ask again"
        case .unknownSpace(let name): "there is no space \(name); see `muster space list`"
        case .spaceExists(let name): "a space named \(name) is there already; choose another name"
        case .unknownGroup(let group): "there is no group \(group)"
        case .alreadyPlaced(let group): "group \(group) has replicas already"
        case .nodeNotUsable(let node): "node \(node) takes no replicas: it is not active, or it is draining"
        case .nodeHasReplica(let node): "node \(node) holds a replica of this group already; choose another node"
        case .unknownReplica(let replica): "the group has no replica \(replica)"
        case .placementChanged(let revision):
            "the placement has changed at revision \(revision); read it again and plan anew"
        case .noVoterLeft: "the group would be left without a voter; add one first"
        case .epochOutdated(let epoch): "the group has gone on under epoch \(epoch)"
        case .settingOutOfRange(let setting):
            "\(setting.name) may be \(setting.range)"
        case .unknownOperator(let name): "there is no operator \(name)"
        case .operatorExists(let name): "an operator named \(name) is there already; choose another name"
        case .credentialTaken(let name): "this credential is \(name)'s; make a new one"
        case .lastAdministrator: "this is the last administrator; add another one first"
        case .levelNotNext(let level): "feature level \(level) is the one to finalize next"
        case .levelNotUnderstood(let node): "node \(node) does not understand this feature level; upgrade it first"
        case .unknownBackup(let name): "there is no backup schedule \(name)"
        case .cellExists(let name): "a cell named \(name) is there already; choose another name"
        case .unknownTenant(let name): "there is no tenant \(name); see `muster tenant list`"
        case .tenantExists(let name): "a tenant named \(name) is there already; change it, or choose another name"
        case .unknownCell(let name): "there is no cell \(name); see `muster cell list`"
        case .assignmentChanged(let epoch):
            "the host was assigned to a cell anew meanwhile, under epoch \(epoch); look again with `muster node show`"
        case .cellHasHosts(let name):
            "cell \(name) has hosts; assign them to other cells first with `muster cell assign`"
        case .firstCell(let name):
            "\(name) is the cluster's first cell, where hosts go that no other cell's region takes; it stays"
        case .cellKeepsNames(let name):
            "cell \(name) keeps the names of its region's VMs for several others; retire all of those but one first, or leave it "
                + "without hosts"
        case .sealingKeyNamed: "the cluster's sealing key is named already; it is another one"
        case .imageExists(let name): "an image named \(name) is there already; remove it first, or choose another name"
        case .sealingKeyRotates:
            "no key seals secret fields yet, or another one takes its place just now; see `muster cert list`"
        case .unknownRegion(let name):
            "no node of the cluster is in a region named \(name); see `muster region list`"
        case .onlyRegion(let name):
            "all nodes of the cluster are in region \(name): there is nobody left who could go on without it"
        case .regionChanged:
            "the region was declared lost or back, or planned for, by somebody else meanwhile; look again"
        case .regionIsLost(let name):
            "region \(name) counts as lost: VMs that may move go to other regions anyway, and none goes there; say that it is back first"
        case .noRegionPlan(let name):
            "nothing is planned for region \(name) that this could be said of; `muster region show` says what is"
        case .noRegionLeft(let name):
            "every other region is lost or evacuated: the VMs of \(name) could go nowhere; let one of these take VMs again first"
        case .cellIsPlanned(let name):
            "cell \(name) is being split or merged, or hosts come to it by such a plan; `muster cell list` shows which, and that ends "
                + "or is called off first"
        case .noHostsPlan(let name):
            "cell \(name) is neither split nor merged at this moment; `muster cell show \(name)` says what was planned last"
        case .cellsApart(let name):
            "hosts go with their VMs to another cell of their region, and \(name) is none; name another one"
        case .notItsHost(let node): "the host of node \(node) is not in the cell that is split; look again"
        case .domainMarked(let name): "the storage domain \(name) was marked by somebody else meanwhile; look again"
        case .sealingStepOver: "the rotation of the sealing key is further, or another one"
        case .imageStays(let name):
            "the removal of the image \(name) was called off, or another one took its place; look, and ask again"
        case .unknownImage(let name): "there is no image \(name); see `muster image list`"
        }
    }
}

extension RootRefusal.Bound {
    fileprivate var sentence: String {
        switch self {
        case .nodes: "the cluster has \(RootLimits.nodesMax) nodes, the most it may have; remove one first"
        case .tokens: "there are \(RootLimits.tokensMax) tokens, the most there may be; let some expire first"
        case .authorities:
            "\(RootLimits.authoritiesMax) authorities are trusted, the most there may be; distrust one first"
        case .spaces: "there are \(RootLimits.spacesMax) spaces, the most there may be; delete one first"
        case .operators: "there are \(RootLimits.operatorsMax) operators, the most there may be; remove one first"
        case .backups: "there are \(RootLimits.backupsMax) backup schedules, the most there may be; remove one first"
        case .replicas: "a group has at most \(RootLimits.replicasPerGroupMax) replicas; let one leave first"
        case .report: "a report names at most \(RootLimits.reportMax) replicas; send several"
        case .requests:
            "\(RootLimits.requestsMax) results are kept for repetitions, the most there may be; wait, or ask without a "
                + "request id"
        case .commandBytes: "a command has at most \(RootLimits.commandBytesMax) bytes"
        case .cells: "there are \(RootLimits.cellsMax) cells, the most there may be"
        case .images: "there are \(RootLimits.imagesMax) images, the most there may be; remove one first"
        case .regions:
            "\(RootLimits.regionsMax) regions are lost, the most there may be; declare those back that are"
        case .domains:
            "the cluster knows \(RootLimits.domainsMax) storage domains, the most it may; use the names of old ones again"
        case .hostsPlans:
            "\(RootLimits.hostsPlansMax) cells are being split or merged, the most that may be; let one end first"
        case .tenants: "there are \(RootLimits.tenantsMax) tenants, the most there may be; delete one first"
        }
    }
}

extension RootRefusal.Field {
    fileprivate var sentence: String {
        switch self {
        case .name:
            "a name has 1 to \(RootLimits.nameBytesMax) lower-case letters, digits, dots and hyphens, and begins and ends "
                + "with a letter or digit"
        case .hosts:
            "a split names 1 to \(RootLimits.plannedHostsMax) different hosts, and retires nothing; a merge takes all hosts and names "
                + "none"
        case .size: "an image has 1 to \(RootLimits.imageBytesMax) bytes"
        case .quota: "the amounts of a quota are not negative"
        case .region, .zone, .rack, .note, .reason, .programVersion, .outcome, .by, .destination, .tier:
            "\(words) has at most \(RootLimits.textBytesMax) bytes and no control characters"
        case .peerAddress, .adminAddress:
            "\(words) is host:port, at most \(RootLimits.addressBytesMax) bytes, with a port from 1 to 65535"
        case .key, .hash, .fingerprint: "\(words) is a SHA-256 and has \(RootLimits.hashBytes) bytes"
        case .certificate: "a certificate has 1 to \(RootLimits.certificateBytesMax) bytes"
        case .lifetime: "a token lives from one minute to ten years"
        case .uses: "a token is good for 1 to 10000 uses"
        case .replicas: "a space has 1, 3 or 5 replicas"
        case .nodes: "name 1 to \(RootLimits.replicasPerGroupMax) different nodes"
        case .level: "a feature level is a number from 1 on"
        case .interval: "a backup is made every minute at most and every year at least"
        case .keep: "keep 1 to 10000 backups"
        case .cluster: "a cluster's id has \(RootLimits.clusterBytes) bytes"
        case .origin: "a process counts its commands from 1, above those that are settled"
        case .request: "a request id has \(RootLimits.requestBytes) bytes"
        case .expiry: "this has expired, or lies more than ten years ahead"
        }
    }

    private var words: String {
        switch self {
        case .region: "a region"
        case .zone: "a zone"
        case .rack: "a rack"
        case .note: "a note"
        case .reason: "a reason"
        case .tier: "a tier"
        case .programVersion: "a program's version"
        case .outcome: "an outcome"
        case .by: "who asked"
        case .destination: "a destination"
        case .peerAddress: "the peer address"
        case .adminAddress: "the admin address"
        case .key: "a key's fingerprint"
        case .hash: "a hash"
        default: "a fingerprint"
        }
    }
}

extension RootRefusal {
    /// As a code, a number and a text, for kept results and the wire. Codes are never given a new meaning.
    var stored: (code: UInt32, number: UInt64, text: String) {
        switch self {
        case .malformed: (1, 0, "")
        case .unknownVersion(let version): (2, version, "")
        case .notFounded: (3, 0, "")
        case .alreadyFounded: (4, 0, "")
        case .invalid(let field): (5, field.rawValue, "")
        case .tooMany(let bound): (6, bound.rawValue, "")
        case .requestReused: (7, 0, "")
        case .sessionUnknown(let born): (8, born.rawValue, "")
        case .commandSettled: (9, 0, "")
        case .nameTaken(let name): (10, 0, name)
        case .unknownNode(let node): (11, node.rawValue, "")
        case .nodeRemoved(let node): (12, node.rawValue, "")
        case .nodeMismatch(let node): (13, node.rawValue, "")
        case .lastNode: (14, 0, "")
        case .holdsOnlyCopy(let group): (15, group.rawValue, "")
        case .unknownToken: (16, 0, "")
        case .tokenExists: (17, 0, "")
        case .tokenExpired(let time): (18, time.rawValue, "")
        case .tokenUsedUp: (19, 0, "")
        case .tokenRevoked: (20, 0, "")
        case .levelTooLow(let needed): (21, UInt64(needed), "")
        case .unknownAuthority: (30, 0, "")
        case .authorityExists: (31, 0, "")
        case .authoritySigns: (32, 0, "")
        case .authorityInUse(let node): (33, node.rawValue, "")
        case .authorityDoubted(let node): (34, node.rawValue, "")
        case .unknownSpace(let name): (40, 0, name)
        case .spaceExists(let name): (41, 0, name)
        case .unknownGroup(let group): (42, group.rawValue, "")
        case .alreadyPlaced(let group): (43, group.rawValue, "")
        case .nodeNotUsable(let node): (44, node.rawValue, "")
        case .nodeHasReplica(let node): (45, node.rawValue, "")
        case .unknownReplica(let replica): (46, replica.rawValue, "")
        case .placementChanged(let revision): (47, revision.rawValue, "")
        case .noVoterLeft: (48, 0, "")
        case .epochOutdated(let epoch): (49, epoch.rawValue, "")
        case .settingOutOfRange(let setting): (50, UInt64(setting.rawValue), "")
        case .unknownOperator(let name): (51, 0, name)
        case .operatorExists(let name): (52, 0, name)
        case .credentialTaken(let name): (53, 0, name)
        case .lastAdministrator: (54, 0, "")
        case .levelNotNext(let level): (55, UInt64(level), "")
        case .levelNotUnderstood(let node): (56, node.rawValue, "")
        case .unknownBackup(let name): (57, 0, name)
        case .cellExists(let name): (58, 0, name)
        case .unknownTenant(let name): (59, 0, name)
        case .tenantExists(let name): (60, 0, name)
        case .unknownCell(let name): (61, 0, name)
        case .assignmentChanged(let epoch): (62, epoch, "")
        case .cellHasHosts(let name): (63, 0, name)
        case .firstCell(let name): (64, 0, name)
        case .sealingKeyNamed: (65, 0, "")
        case .imageExists(let name): (66, 0, name)
        case .unknownImage(let name): (67, 0, name)
        case .imageStays(let name): (68, 0, name)
        case .sealingKeyRotates: (69, 0, "")
        case .sealingStepOver: (70, 0, "")
        case .cellKeepsNames(let name): (71, 0, name)
        case .domainMarked(let name): (72, 0, name)
        case .unknownRegion(let name): (73, 0, name)
        case .onlyRegion(let name): (74, 0, name)
        case .regionChanged(let epoch): (75, epoch, "")
        case .regionIsLost(let name): (90, 0, name)
        case .noRegionPlan(let name): (91, 0, name)
        case .noRegionLeft(let name): (92, 0, name)
        case .cellIsPlanned(let name): (110, 0, name)
        case .noHostsPlan(let name): (111, 0, name)
        case .cellsApart(let name): (112, 0, name)
        case .notItsHost(let node): (113, node.rawValue, "")
        }
    }

    init?(code: UInt32, number: UInt64, text: String) {
        switch code {
        case 1: self = .malformed
        case 2: self = .unknownVersion(number)
        case 3: self = .notFounded
        case 4: self = .alreadyFounded
        case 5:
            guard let field = Field(rawValue: number) else { return nil }
            self = .invalid(field)
        case 6:
            guard let bound = Bound(rawValue: number) else { return nil }
            self = .tooMany(bound)
        case 7: self = .requestReused
        case 8: self = .sessionUnknown(bornAtLeast: LogIndex(number))
        case 9: self = .commandSettled
        case 10: self = .nameTaken(text)
        case 11: self = .unknownNode(NodeID(number))
        case 12: self = .nodeRemoved(NodeID(number))
        case 13: self = .nodeMismatch(NodeID(number))
        case 14: self = .lastNode
        case 15: self = .holdsOnlyCopy(GroupID(number))
        case 16: self = .unknownToken
        case 17: self = .tokenExists
        case 18: self = .tokenExpired(LogTime(number))
        case 19: self = .tokenUsedUp
        case 20: self = .tokenRevoked
        case 21: self = .levelTooLow(needed: UInt32(truncatingIfNeeded: number))
        case 30: self = .unknownAuthority
        case 31: self = .authorityExists
        case 32: self = .authoritySigns
        case 33: self = .authorityInUse(NodeID(number))
        case 34: self = .authorityDoubted(NodeID(number))
        case 40: self = .unknownSpace(text)
        case 41: self = .spaceExists(text)
        case 42: self = .unknownGroup(GroupID(number))
        case 43: self = .alreadyPlaced(GroupID(number))
        case 44: self = .nodeNotUsable(NodeID(number))
        case 45: self = .nodeHasReplica(NodeID(number))
        case 46: self = .unknownReplica(ReplicaID(number))
        case 47: self = .placementChanged(Revision(number))
        case 48: self = .noVoterLeft
        case 49: self = .epochOutdated(Epoch(number))
        case 50:
            guard let setting = RootSetting(rawValue: UInt32(truncatingIfNeeded: number)) else { return nil }
            self = .settingOutOfRange(setting)
        case 51: self = .unknownOperator(text)
        case 52: self = .operatorExists(text)
        case 53: self = .credentialTaken(text)
        case 54: self = .lastAdministrator
        case 55: self = .levelNotNext(UInt32(truncatingIfNeeded: number))
        case 56: self = .levelNotUnderstood(NodeID(number))
        case 57: self = .unknownBackup(text)
        case 58: self = .cellExists(text)
        case 59: self = .unknownTenant(text)
        case 60: self = .tenantExists(text)
        case 61: self = .unknownCell(text)
        case 62: self = .assignmentChanged(number)
        case 63: self = .cellHasHosts(text)
        case 64: self = .firstCell(text)
        case 65: self = .sealingKeyNamed
        case 66: self = .imageExists(text)
        case 67: self = .unknownImage(text)
        case 68: self = .imageStays(text)
        case 69: self = .sealingKeyRotates
        case 70: self = .sealingStepOver
        case 71: self = .cellKeepsNames(text)
        case 72: self = .domainMarked(text)
        case 73: self = .unknownRegion(text)
        case 74: self = .onlyRegion(text)
        case 75: self = .regionChanged(number)
        case 90: self = .regionIsLost(text)
        case 91: self = .noRegionPlan(text)
        case 92: self = .noRegionLeft(text)
        case 110: self = .cellIsPlanned(text)
        case 111: self = .noHostsPlan(text)
        case 112: self = .cellsApart(text)
        case 113: self = .notItsHost(NodeID(number))
        default: return nil
        }
    }
}
