package import ClusterBase

/// One change that someone asks of the root.
package struct RootCommand: Hashable, Sendable {
    package enum Operation: Hashable, Sendable {
        /// The first command of a cluster: its id, its first node, which holds the root group's replica 1, who signs
        /// certificates, and who may administrate.
        case found(Founding)

        /// Lifetime in milliseconds and uses; 0 means what the settings say.
        case createToken(hash: [UInt8], note: String, lifetime: UInt64, uses: UInt32)
        case revokeToken(hash: [UInt8])
        /// Uses the token and registers the node in one step. Repeated with the same name and key it finds the same node,
        /// and uses nothing; with another key before the node was ever active, it takes its place under a new id.
        case joinNode(token: [UInt8], NodeDescription)
        /// A node's agent runs; what it says of itself replaces what was known, except name and key.
        case reportNode(NodeID, NodeDescription)
        /// The node got a new certificate; the one before is good for a while.
        case certifyNode(NodeID, NodeCertificate)
        case arrangeNode(NodeID, voting: RootNode.VotingWish, isDraining: Bool)
        /// Its certificates are refused from now on. Refused while it holds the only copy of something, unless forced.
        case removeNode(NodeID, isForced: Bool)

        case trustAuthority(fingerprint: [UInt8], certificate: [UInt8])
        /// New certificates are signed by this trusted authority from now on.
        case signWithAuthority(fingerprint: [UInt8])
        /// Refused while it signs, and while a node's certificate is signed by it.
        case distrustAuthority(fingerprint: [UInt8])

        /// With 0 replicas: as many as the settings say.
        case createSpace(name: String, replicas: UInt32)
        /// Its keys are gone with it, and roles of it alone.
        /// With its group: only the space that has it, which wants feature level `FeatureLevel.spaceEnds`.
        case deleteSpace(name: String, group: GroupID? = nil)
        /// Gives a group its first replicas, all voters, numbered in this order.
        case foundGroup(GroupID, nodes: [NodeID])
        /// Refused when the placement is not the one that the changes were planned for.
        case changePlacement(GroupID, revision: Revision, [PlacementChange])
        /// What a node found of the replicas that it is to hold.
        case reportReplicas(NodeID, made: [HeldReplica], lost: [HeldReplica])
        /// A group's leader says which replicas are not in its configuration and never come back to it.
        case reportGroup(GroupID, Epoch, gone: [ReplicaID])

        case changeSetting(RootSetting, UInt64)
        /// A role of one tenant or one space is given where that is there.
        case addOperator(Operator)
        case removeOperator(name: String)
        /// Opens a feature level for good. Refused until every node understands it.
        case finalizeLevel(UInt32)
        case setBackup(BackupSchedule)
        case removeBackup(name: String)
        case noteBackup(name: String, succeeded: Bool, outcome: String)
        /// An operator took a group out of a lost quorum.
        case recordRecovery(RecoveryRecord)
        /// Nothing but the time.
        case noteTime

        /// A group of hosts and their VMs, under the next number of its kind. With 0 replicas: as many as the settings
        /// say. With a region or what it survives it wants feature level `FeatureLevel.cells`.
        case createCell(name: String, replicas: UInt32, region: String = "", survives: RootCell.Survival? = nil)
        case createTenant(name: String, Quota, tier: String)
        case setTenant(name: String, Quota, tier: String)
        /// Its VMs stay; nothing more is let in. Roles of it alone end.
        case deleteTenant(name: String)

        /// A step of a host's move to another cell, planned for the assignment with this epoch.
        /// With how many VMs it went, or why it stays.
        case moveHost(NodeID, to: GroupID, epoch: UInt64, MoveStep, vms: UInt64 = 0, reason: String = "")
        /// Hosts of a cell go to another one with their VMs, or a plan for that is changed.
        indirect case planHosts(cell: String, HostsPlan.Wish)
        /// Of the plan with this number: why the host of a node does not go now; of no node: nothing is left in the cell.
        case noteHosts(cell: String, number: UInt64, NodeID, reason: String)
        /// Only one without hosts, and not the first. Its group ends.
        case retireCell(name: String)
        /// How much room a cell has. Its time is the root's.
        case reportCell(CellReport)
        /// SHA-256 of the key that seals secret fields. The first that is named stays.
        case nameSealingKey([UInt8])
        /// A step of its rotation, with the hash of the key that it is about; none to begin.
        case rotateSealingKey(SealingStep, [UInt8])
        /// A storage domain is known by this mark from now on. `before` is the one that whoever asks saw; none for a domain that
        /// is new.
        case markDomain(name: String, mark: [UInt8], before: [UInt8])
        /// A region is lost, or is back: planned for the standing with this epoch, 0 where there is none.
        case declareRegion(name: String, isLost: Bool, epoch: UInt64, isAutomatic: Bool)
        /// Asked for with the same epoch; `returns` nil: as it was.
        case planRegion(name: String, RegionPlan.Step, returns: RegionPlan.Returns?, epoch: UInt64)
        /// What a node measured from its region to others; none of it is the answer to a person.
        case reportLatencies(NodeID, [RegionRoundTrip])
        /// The round trip between two regions, in microseconds, whatever is measured; 0: what is measured.
        case setLatency(String, String, micros: UInt64)
        /// Somebody asked a node for a change without the right to it, and before that so many did of whom nothing was noted. It is
        /// for the audit, and changes nothing else.
        case noteForbidden(action: String, omitted: UInt64)
        /// Its time and its author are the root's.
        case addImage(RootImage)
        case holdImage(tenant: String, name: String, sha256: [UInt8], NodeID, isHeld: Bool)
        /// `removal` is the revision of the command that began it; 0 of that one itself.
        case removeImage(tenant: String, name: String, RootImage.Removal, removal: UInt64)
    }

    /// How another key comes to seal secret fields.
    ///
    ///     begin ──▶ wanted ──(a voter made one: offer)──▶ next ──(all voters hold it: use)──▶ in force, the old one opens
    ///                          another one takes its place ◀──┘                                   │ no box of the old one: drop
    ///                                                                                             ▼
    ///                                                                                          in force alone
    package enum SealingStep: Int32, Hashable, Sendable, CaseIterable { case begin = 1, offer, use, drop }

    /// What becomes of a host that goes from one cell to another.
    ///
    ///     at home ──(begin)──▶ to go ──(its cell has let it go: finish)──▶ at home in the other, under the next epoch
    ///                            └──(cancel)──▶ at home where it was, under the next epoch
    package enum MoveStep: Int32, Hashable, Sendable { case begin = 1, finish, cancel }

    package struct Founding: Hashable, Sendable {
        package var cluster: [UInt8]
        package var name: String
        package var node: NodeDescription
        package var certificate: NodeCertificate
        package var authority: Authority
        package var administrator: Operator
        package init(
            cluster: [UInt8], name: String, node: NodeDescription, certificate: NodeCertificate, authority: Authority,
            administrator: Operator
        ) {
            self.cluster = cluster
            self.name = name
            self.node = node
            self.certificate = certificate
            self.authority = authority
            self.administrator = administrator
        }
    }

    /// 16 random bytes of somebody's own that make repetitions harmless for up to 24 h; nil for none.
    package var request: [UInt8]?
    /// The process that sends it, which makes its repetitions harmless until it is answered. Wants feature level
    /// `FeatureLevel.sessions`. With neither of the two a repetition takes effect again.
    package var origin: CommandOrigin?
    /// Who asked, for the records.
    package var by: String
    package var operation: Operation

    package init(
        request: [UInt8]? = nil, origin: CommandOrigin? = nil, by: String = "", _ operation: Operation
    ) {
        self.request = request
        self.origin = origin
        self.by = by
        self.operation = operation
    }

    /// What repetitions have in common.
    var unnamed: RootCommand {
        // Which group a name has is found out by who carries the request out, and anew when it comes again.
        if case .deleteSpace(let name, _?) = operation { return RootCommand(by: by, .deleteSpace(name: name)) }
        return RootCommand(by: by, operation)
    }
}

/// One step of a change of a placement.
package enum PlacementChange: Hashable, Sendable {
    /// A new replica, under a new id.
    case add(NodeID, PlacedReplica.Part)
    case setPart(ReplicaID, PlacedReplica.Part)
    case leave(ReplicaID)
}

/// A replica as a node knows it.
package struct HeldReplica: Hashable, Sendable {
    package var group: GroupID
    package var replica: ReplicaID
    package init(_ group: GroupID, _ replica: ReplicaID) {
        self.group = group
        self.replica = replica
    }
}

/// What became of one command.
package struct RootResult: Hashable, Sendable {
    package enum Outcome: Hashable, Sendable {
        case done
        /// The node that was made, or found to be there already.
        case node(NodeID)
        /// The group of the space that was made.
        case group(GroupID)
        /// Nothing changed.
        case refused(RootRefusal)
    }

    /// Where in the log the command took effect; a repetition's answer tells the first time.
    package var revision: Revision
    package var outcome: Outcome

    package init(revision: Revision, outcome: Outcome) {
        self.revision = revision
        self.outcome = outcome
    }
}
