import ClusterBase
import FleetModel
import NodePorts
import RaftCore

// Any node can be asked. What it can't answer alone goes to a node that can, over the peer connection.
//
// A command is sent to one node at a time, and to the next only after a refusal that says that it has no effect. Once it
// is sent and neither a result nor a refusal comes, its answer is `unknown`: only the client may ask again.

extension NodeEngine {
    /// Every answer goes through here: to the shell, to another node, or back to a request that looks for its leader.
    func answer(_ ticket: UInt64, _ answer: ClientAnswer) {
        if ticket < Forwards.firstTicket { return ports.answer(ticket, answer) }
        guard let waiter = forwards.waiter(of: ticket) else { return }
        switch waiter {
        case .own(let slot, let client):
            guard let own = forwards.own[slot], own.ticket == client else { return }
            if case .here = own.stage {
            } else {
                // Late, and another node was asked too: what it read is an answer all the same.
                guard own.isElsewhere, case .read = answer else { return }
            }
            answered(slot, answer, lastNow)
        case .steward(let task): tended(task, answer, lastNow)
        case .node(let node, let incarnation, let number):
            send(ForwardedAnswer(number: number, incarnation: incarnation, body: body(of: answer)), to: node)
        }
    }

    /// A request of the shell's may go elsewhere; one that came from elsewhere is answered here.
    func mayForward(_ ticket: UInt64) -> Bool { settings.forwardsRequests && ticket < Forwards.firstTicket }

    func isAnsweredHere(_ request: ClientRequest) -> Bool {
        guard let i = position(of: request.group) else { return false }
        switch request {
        case .command, .transferLeadership: return replicas[i].isLeader
        // Only whom the leader answers has it heard, and only it knows whom it is about to declare down.
        case .query(_, .cell(.hostWork)): return replicas[i].isLeader
        // A follower asks its leader for the index to read at; without one, or with one that may be gone, the read waits.
        case .query: return replicas[i].leader.map { $0.node == node || !replicas[i].doubts($0.node) } ?? false
        case .changeMembership, .forceRecovery: return true
        }
    }

    // MARK: Own clients' requests

    /// `atOnce` is for the beginning of a turn's work; within a replica's step the request waits for the turn's end.
    func forward(_ request: ClientRequest, _ ticket: UInt64, _ now: Instant, atOnce: Bool = true) {
        let bytes: Int
        switch request {
        case .command(_, let command): bytes = command.count
        case .query, .transferLeadership: bytes = 64
        // What changes a group's members is for the node that leads it, and says who that is.
        case .changeMembership, .forceRecovery: return answer(ticket, .refused(.noSuchGroup))
        }
        if bytes > settings.raft.proposalBytesMax - NodeEngine.packOverheadBytes {
            return answer(ticket, .refused(.tooLarge))
        }
        if position(of: request.group) == nil && forwards.directory.nodes(of: request.group).isEmpty {
            return answer(ticket, .refused(.noSuchGroup))
        }
        if forwards.own.count >= settings.forwardsMax || forwards.ownBytes + bytes > settings.forwardBytesMax {
            return answer(ticket, .refused(.overloaded))
        }
        forwards.ownBytes += bytes
        let slot = forwards.own.insert(
            Forwards.Own(
                ticket: ticket, request: request, bytes: bytes, givesUpAt: now + settings.forwardTimeout,
                stage: .waiting(until: now)))
        if atOnce { route(slot, now) } else { forwards.sweepAt = min(forwards.sweepAt, now) }
    }

    /// Sends a waiting request where it can be answered, or lets it wait.
    private func route(_ slot: Int, _ now: Instant) {
        guard var own = forwards.own[slot] else { return }
        let group = own.request.group
        if !own.isElsewhere && isAnsweredHere(own.request) {
            own.stage = .here(since: now)
            forwards.own[slot] = own
            let check = own.isQuery ? min(own.givesUpAt, now + settings.forwardQueryRetry) : own.givesUpAt
            forwards.sweepAt = min(forwards.sweepAt, check)
            return take(own.request, forwards.ticket(for: .own(slot: slot, ticket: own.ticket)), now)
        }
        // After a few steps from hint to hint the hints are in a circle, and time must pass.
        let isTired = own.hops > 0 && own.hops % 4 == 0 && own.hint != nil
        guard !isTired, let node = target(of: own) else {
            // It was there when the request came, and is no more.
            if position(of: group) == nil && forwards.directory.nodes(of: group).isEmpty {
                return end(slot, .refused(.noSuchGroup))
            }
            (own.hint, own.isElsewhere) = (nil, false)
            let until = now + wait(own)
            own.stage = .waiting(until: until)
            if isTired { own.hops += 1 }
            forwards.own[slot] = own
            forwards.sweepAt = min(forwards.sweepAt, until)
            return
        }
        let body: ForwardedRequest.Body
        switch own.request {
        case .command(_, let command): body = .command(command)
        case .query(_, let query): body = .query(query.encoded())
        case .transferLeadership(_, let target): body = .transferLeadership(to: target)
        case .changeMembership, .forceRecovery: preconditionFailure("\(own.request) was forwarded")
        }
        let key = Forwards.Key(node: node, number: forwards.nextNumber(for: node))
        let request = ForwardedRequest(number: key.number, group: group, hops: own.hops, body: body)
        own.hint = nil
        own.hops += 1
        own.stage = .asked(key, at: now)
        forwards.own[slot] = own
        forwards.slotOfKey[key] = slot
        let check = own.isQuery ? min(own.givesUpAt, now + settings.forwardQueryRetry) : own.givesUpAt
        forwards.sweepAt = min(forwards.sweepAt, check)
        carry(to: node, bytes: own.bytes + 32) { $0.requests.append(request) }
    }

    /// Longer the more nodes were asked, so that a group that is long without a leader is not asked hundreds of times.
    private func wait(_ own: Forwards.Own) -> Nanoseconds { settings.forwardWait * Int64(1 + min(own.hops / 8, 9)) }

    private func target(of own: Forwards.Own) -> NodeID? {
        let group = own.request.group
        if let hint = own.hint, hint != node, !forwards.isCutOff(hint) { return hint }
        if !own.isElsewhere, let i = position(of: group) {
            if let leader = replicas[i].raft.leader?.node {
                return leader == node || forwards.isCutOff(leader) || replicas[i].doubts(leader) ? nil : leader
            }
            // A query can be answered by any replica that knows its leader.
            if !own.isQuery { return nil }
        } else if own.hops == 0, let leader = forwards.leader(of: group), leader != node, !forwards.isCutOff(leader) {
            return leader
        }
        let others = forwards.directory.nodes(of: group).filter { $0 != node && !forwards.isCutOff($0) }
        return others.isEmpty ? nil : others[(Int(own.hops) + forwards.passedOver) % others.count]
    }

    /// An answer for a request that looked for its leader, from here or from elsewhere.
    private func answered(_ slot: Int, _ answer: ClientAnswer, _ now: Instant) {
        guard var own = forwards.own[slot] else { return }
        switch answer {
        // However often: a group without a leader has one again in time, or the request gives up then.
        case .refused(.notLeader(let hint)):
            own.hint = hint?.node
            forwards.note(leader: hint?.node, of: own.request.group)
        case .refused(.noSuchGroup) where own.hops < settings.forwardHopsMax:
            forwards.note(leader: nil, of: own.request.group)
        default:
            return end(slot, answer)
        }
        // It goes on at the turn's end: this may be in the midst of a replica's step.
        let until = own.hint == nil ? now + wait(own) : now
        own.stage = .waiting(until: until)
        forwards.own[slot] = own
        forwards.sweepAt = min(forwards.sweepAt, until)
    }

    private func end(_ slot: Int, _ answer: ClientAnswer) {
        guard let own = forwards.own[slot] else { return }
        if case .asked(let key, _) = own.stage { forwards.slotOfKey[key] = nil }
        for key in own.earlier { forwards.slotOfKey[key] = nil }
        forwards.ownBytes -= own.bytes
        forwards.own.remove(slot)
        self.answer(own.ticket, answer)
    }

    /// Looks after everything that waits or was asked; cheap while nothing does.
    func sweepForwards(_ now: Instant) {
        if forwards.own.count == 0 {
            forwards.sweepAt = Instant(nanoseconds: .max)
            return
        }
        if now < forwards.sweepAt { return }
        forwards.sweepAt = Instant(nanoseconds: .max)
        for slot in forwards.own.indices {
            guard let own = forwards.own[slot] else { continue }
            var next = own.givesUpAt
            switch own.stage {
            case .waiting(let until):
                if now >= own.givesUpAt {
                    end(slot, .refused(.unavailable))
                } else if now >= until || !own.isElsewhere && isAnsweredHere(own.request) {
                    route(slot, now)
                } else {
                    next = min(next, until)
                }
            case .asked(let key, let at):
                if now >= own.givesUpAt {
                    forwards.passOver(key.node, own.request.group)
                    end(slot, own.isQuery ? .refused(.unavailable) : .unknown)
                } else if own.isQuery {
                    if now >= at + settings.forwardQueryRetry {
                        forwards.passOver(key.node, own.request.group)
                        // It may only be far: to a leader and from there to a quorum can take longer than this.
                        forwards.own[slot]?.earlier.append(key)
                        forwards.own[slot]?.stage = .waiting(until: now)
                        route(slot, now)
                    } else {
                        next = min(next, at + settings.forwardQueryRetry)
                    }
                }
            case .here(let since):
                // What becomes of a command here shows here; its client has waited long enough.
                if now >= own.givesUpAt {
                    end(slot, own.isQuery ? .refused(.unavailable) : .unknown)
                } else if own.isQuery {
                    if now >= since + settings.forwardQueryRetry {
                        forwards.own[slot]?.isElsewhere = true
                        forwards.own[slot]?.stage = .waiting(until: now)
                        route(slot, now)
                    } else {
                        next = min(next, since + settings.forwardQueryRetry)
                    }
                }
            }
            if forwards.own[slot] != nil { forwards.sweepAt = min(forwards.sweepAt, next) }
        }
    }

    /// What was asked of a node that is gone: queries are asked elsewhere, of commands nobody knows.
    func forwardsLost(at node: NodeID, _ now: Instant) {
        if forwards.own.count == 0 { return }
        for slot in forwards.own.indices {
            guard let own = forwards.own[slot], case .asked(let key, _) = own.stage, key.node == node else { continue }
            forwards.note(leader: nil, of: own.request.group)
            if own.isQuery {
                forwards.slotOfKey[key] = nil
                forwards.own[slot]?.stage = .waiting(until: now)
                route(slot, now)
            } else {
                end(slot, .unknown)
            }
        }
    }

    func take(_ answer: ForwardedAnswer, from node: NodeID, _ now: Instant) {
        let key = Forwards.Key(node: node, number: answer.number)
        guard answer.incarnation == incarnation, let slot = forwards.slotOfKey.removeValue(forKey: key),
            let own = forwards.own[slot]
        else { return }
        if own.earlier.contains(key) {
            // A refusal says nothing of the node that is asked now.
            guard case .read = answer.body else { return }
        }
        let group = own.request.group
        let result: ClientAnswer
        switch answer.body {
        case .applied(let bytes):
            forwards.note(leader: node, of: group)
            let decoded = group.kind.flatMap { MachineResult.decode($0, bytes) }
            // A result that only newer programs can read: it took effect, and what came of it is not known here.
            result = decoded.map { .applied($0) } ?? .unknown
        case .read(let bytes):
            let decoded = group.kind.flatMap { MachineAnswer.decode($0, bytes) }
            result = decoded.map { .read($0) } ?? .refused(.malformed)
        case .accepted: result = .accepted
        case .unknown: result = .unknown
        case .refused(let reason, let leader): result = .refused(refusal(reason, leader))
        }
        answered(slot, result, now)
    }

    private func refusal(_ reason: ForwardedAnswer.Refusal, _ leader: Peer?) -> ClientAnswer.Refusal {
        switch reason {
        case .notLeader: .notLeader(hint: leader)
        case .noSuchGroup: .noSuchGroup
        case .overloaded: .overloaded
        case .tooLarge: .tooLarge
        case .storageStalled: .storageStalled
        case .spaceLow: .spaceLow
        case .transferNotPossible: .transferNotPossible
        case .unavailable: .unavailable
        case .malformed: .malformed
        }
    }

    // MARK: Other nodes' clients' requests

    func serve(_ request: ForwardedRequest, for node: NodeID, _ incarnation: Incarnation, _ now: Instant) {
        guard forwards.take(request.number, of: node, incarnation) else { return }
        let group = request.group
        func refuse(_ reason: ForwardedAnswer.Refusal) {
            send(
                ForwardedAnswer(
                    number: request.number, incarnation: incarnation, body: .refused(reason, leader: nil)), to: node)
        }
        if forwards.waiters.count >= settings.servedMax { return refuse(.overloaded) }
        let taken: ClientRequest
        switch request.body {
        case .command(let bytes): taken = .command(group, bytes)
        case .query(let bytes):
            guard let kind = group.kind, let query = Query.decode(kind, bytes) else { return refuse(.malformed) }
            taken = .query(group, query)
        case .transferLeadership(let target): taken = .transferLeadership(group, to: target)
        }
        if isForLeader(taken), let i = position(of: group), !replicas[i].raft.isLeader {
            let leader = replicas[i].raft.leader
            let body = ForwardedAnswer.Body.refused(.notLeader, leader: leader)
            return send(ForwardedAnswer(number: request.number, incarnation: incarnation, body: body), to: node)
        }
        take(taken, forwards.ticket(for: .node(node, incarnation, number: request.number)), now)
    }

    /// A host's question after its work goes to the leader itself: whom it answers, it has heard, and does not hold for lost.
    private func isForLeader(_ request: ClientRequest) -> Bool {
        switch request {
        case .transferLeadership, .query(_, .cell(.hostWork)): true
        default: false
        }
    }

    private func body(of answer: ClientAnswer) -> ForwardedAnswer.Body {
        switch answer {
        case .applied(let result): .applied(result.encoded())
        case .read(let answer): .read(answer.encoded())
        case .accepted: .accepted
        case .unknown: .unknown
        case .refused(let refusal):
            switch refusal {
            case .notLeader(let hint): .refused(.notLeader, leader: hint)
            case .noSuchGroup: .refused(.noSuchGroup, leader: nil)
            case .overloaded: .refused(.overloaded, leader: nil)
            case .tooLarge: .refused(.tooLarge, leader: nil)
            case .storageStalled: .refused(.storageStalled, leader: nil)
            case .spaceLow: .refused(.spaceLow, leader: nil)
            case .transferNotPossible: .refused(.transferNotPossible, leader: nil)
            case .malformed: .refused(.malformed, leader: nil)
            // Changes of membership are not carried.
            case .unavailable, .membership: .refused(.unavailable, leader: nil)
            }
        }
    }

    // MARK: Frames

    private func send(_ answer: ForwardedAnswer, to node: NodeID) {
        var bytes = 32
        switch answer.body {
        case .applied(let body), .read(let body): bytes += body.count
        case .accepted, .unknown, .refused: break
        }
        carry(to: node, bytes: bytes) { $0.answers.append(answer) }
    }

    /// Frames of their own, so that a large answer never delays an append of the same turn.
    private func carry(to node: NodeID, bytes: Int, _ body: (inout PeerFrame) -> Void) {
        for i in forwards.outgoing.indices
        where forwards.outgoing[i].node == node && forwards.outgoing[i].bytes + bytes <= settings.forwardFrameBytesMax {
            forwards.outgoing[i].bytes += bytes
            return body(&forwards.outgoing[i].frame)
        }
        var frame = PeerFrame(from: self.node, incarnation: incarnation)
        body(&frame)
        forwards.outgoing.append(Forwards.Outgoing(node: node, frame: frame, bytes: bytes))
    }

    func sendForwards() {
        if forwards.outgoing.isEmpty { return }
        for outgoing in forwards.outgoing { ports.send(outgoing.frame, to: outgoing.node) }
        forwards.outgoing.removeAll(keepingCapacity: true)
    }
}

extension Forwards.Own {
    var isQuery: Bool {
        if case .query = request { return true }
        return false
    }
}
