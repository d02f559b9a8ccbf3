package import AdminAPI
internal import ClusterBase
internal import FleetModel
package import NodePorts
internal import RaftCore

extension AdminResponse {
    /// What a node made of a request, as its client sees it.
    package init(_ answer: ClientAnswer) {
        switch answer {
        case .applied(.space(let result)): self.init(result)
        case .read(.space(let answer)): self.init(answer)
        // What the root or a cell answers is put into words by whoever asked it.
        case .applied(.root), .read(.root), .applied(.cell), .read(.cell):
            self.init(Problem(.internal, "the group's answer was not put into words; report this"))
        case .accepted:
            self.init(Acceptance("the change is taken up; status and lists show what becomes of it"), status: 202)
        case .refused(let refusal): self.init(Problem(refusal))
        case .unknown:
            self.init(
                Problem(
                    .outcomeUnknown,
                    "the leader changed or its answer was lost, and the change may take effect or not; read to see, or send it "
                        + "again with the same Idempotency-Key"))
        }
    }
}

extension Problem {
    /// Why a node did not carry a request out. It has no effect, now or later.
    package init(_ refusal: ClientAnswer.Refusal) {
        switch refusal {
        case .notLeader:
            self.init(.unavailable, "the group has no leader that this node knows; ask again in a moment")
        case .noSuchGroup: self.init(.notFound, "there is no such group here; see GET /v1/status")
        case .overloaded: self.init(.overloaded, "the group has as much under way as it takes; ask again in a moment")
        case .tooLarge: self.init(.bodyTooLarge, "the command is larger than a log entry may be; send less at once")
        case .storageStalled:
            self.init(.storageLow, "the disk of the leader takes too long to write; ask again, or look at that host")
        case .spaceLow:
            self.init(
                .storageLow,
                "the disk of the node that leads the group is nearly full, and nothing more is kept; free space there or hand "
                    + "its leadership over (`muster leader transfer`), then ask again. Deletes are taken")
        case .unavailable:
            self.init(.unavailable, "no node of the group answered in time; see that a majority of its voters is up")
        case .malformed:
            self.init(.malformed, "the group does not understand the request; upgrade the node that was asked")
        case .transferNotPossible:
            self.init(.notPossible, "leadership can't be handed to that replica; name a voter that is up and caught up")
        case .membership(let refusal): self.init(refusal)
        }
    }

    private init(_ refusal: MembershipRefusal) {
        switch refusal {
        case .notLeader: self.init(ClientAnswer.Refusal.notLeader(hint: nil))
        case .termNotCommitted, .changeInFlight:
            self.init(.notPossible, "the group is in the middle of another change; ask again in a moment")
        case .unknownReplica(let replica):
            self.init(.notFound, "the group has no replica \(replica); see GET /v1/status")
        case .replicaIDReused(let replica):
            self.init(.alreadyExists, "replica \(replica) was there before; use a new id")
        case .nodeHasReplica(let node):
            self.init(.alreadyExists, "node \(node) has a replica already; name another node")
        case .tooManyMembers: self.init(.notPossible, "the group has as many members as it can; remove one first")
        case .noVoterLeft: self.init(.notPossible, "nobody would vote any more; keep at least one voter")
        case .wouldLoseQuorum:
            self.init(.notPossible, "too few of the remaining voters are up; wait for them, or add others first")
        case .nothingToChange: self.init(.notPossible, "the group is as asked for already; nothing was changed")
        }
    }
}
