import ClusterBase
import FleetModel
import NodePorts
import RaftCore
import StoreLayout

// Snapshots between nodes. The order on the receiver is what makes the switch atomic: all pieces into a new generation,
// flushed; then one synced log write that names the snapshot; then the old generation goes. A crash anywhere leaves the
// old state or the new one, never a mixture.

extension NodeEngine {
    // MARK: Sending

    func startSnapshots(_ now: Instant) {
        let waiting = outgoingWaiting
        outgoingWaiting.removeAll(keepingCapacity: true)
        for wanted in waiting {
            guard let i = position(of: wanted.group), replicas[i].raft.isLeader else { continue }
            if outgoing.contains(where: { $0.group == wanted.group && $0.to == wanted.peer }) { continue }
            if outgoing.count >= settings.snapshotsOutgoingMax || replicas[i].installing != nil {
                outgoingWaiting.append(wanted)
            } else {
                startSnapshot(i, wanted.peer, now)
            }
        }
    }

    private func startSnapshot(_ i: Int, _ peer: Peer, _ now: Instant) {
        let applied = replicas[i].applied
        let base = LogBase(
            index: applied.index, term: applied.term, chain: applied.chain,
            configuration: replicas[i].raft.configuration(at: applied.index))
        snapshotNumber += 1
        let id = SnapshotID(source: replicas[i].raft.peer.replica, incarnation: incarnation, number: snapshotNumber)
        do throws(StoreError) {
            let source = try SnapshotSource(
                replicas[i].group, generation: replicas[i].generation, base: base,
                bytesMax: settings.snapshotPieceBytesMax, ports.state.view())
            outgoing.append(
                SnapshotSending(
                    group: replicas[i].group, to: peer, id: id, epoch: replicas[i].raft.epoch,
                    term: replicas[i].raft.term, base: base, source: source, settings: settings, now: now))
        } catch {
            unreadable.append((replicas[i].group, error.message))
            return
        }
        sendPieces(outgoing.count - 1, now)
    }

    private func sendPieces(_ at: Int, _ now: Instant) {
        let from = Peer(replica: outgoing[at].id.source, node: node)
        do throws(StoreError) {
            for piece in try outgoing[at].pieces(settings) {
                let message = outgoing[at].message(from: from, piece)
                frame(to: outgoing[at].to.node) { $0.snapshots.append(message) }
            }
        } catch {
            // A damaged state is never sent on, and not served any longer either.
            unreadable.append((outgoing[at].group, error.message))
        }
    }

    private func endSending(_ at: Int, installed: LogIndex?, _ now: Instant) {
        let gone = outgoing.remove(at: at)
        if let i = position(of: gone.group) { step(i, .snapshotSent(gone.to.replica, installed: installed), now) }
        startSnapshots(now)
    }

    func tickSnapshots(_ now: Instant) {
        var at = 0
        while at < outgoing.count {
            let isLeader = position(of: outgoing[at].group).map { replicas[$0].raft.isLeader } ?? false
            if !isLeader || now >= outgoing[at].givesUpAt {
                endSending(at, installed: nil, now)
                continue
            }
            if now >= outgoing[at].retryAt {
                outgoing[at].repeatWindow(settings, now)
                sendPieces(at, now)
            }
            at += 1
        }
        for transfer in incoming where transfer.deadline <= now { abandon(transfer.id, of: transfer.group) }
    }

    // MARK: Receiving

    func receiveSnapshot(_ message: SnapshotMessage, _ now: Instant) {
        if case .piece(let number, let bytes, let checksum, let manifest) = message.body {
            let piece = SnapshotPiece(number: number, bytes: bytes, checksum: checksum, manifest: manifest)
            return receive(piece, message, now)
        }
        guard let at = outgoing.firstIndex(where: { $0.id == message.snapshot && $0.to == message.from }) else {
            return
        }
        switch message.body {
        case .received(let next):
            outgoing[at].acknowledge(next, settings, now)
            sendPieces(at, now)
        case .done: endSending(at, installed: outgoing[at].base.index, now)
        case .abandoned: endSending(at, installed: nil, now)
        case .piece: break
        }
    }

    private func reply(to message: SnapshotMessage, _ body: SnapshotMessage.Body) {
        let answer = SnapshotMessage(
            group: message.group, from: message.to, to: message.from, epoch: message.epoch, term: message.term,
            snapshot: message.snapshot, body: body)
        frame(to: message.from.node) { $0.snapshots.append(answer) }
    }

    private func receive(_ piece: SnapshotPiece, _ message: SnapshotMessage, _ now: Instant) {
        guard let i = position(of: message.group), replicas[i].raft.peer == message.to else { return }
        let epoch = replicas[i].raft.epoch
        // A replica that was just made has no epoch of its own.
        guard message.epoch == epoch || (message.epoch > epoch && replicas[i].isBlank),
            message.term >= replicas[i].raft.term
        else { return reply(to: message, .abandoned) }
        do throws(StoreError) {
            guard let at = try receiver(of: message, i, now) else { return reply(to: message, .abandoned) }
            guard incoming[at].stage == .receiving else { return }
            let batch: WriteBatch
            do throws(SnapshotRefusal) {
                batch = try incoming[at].staging.receive(piece)
            } catch {
                switch error {
                case .outOfOrder(let expected): return reply(to: message, .received(next: expected))
                case .checksum(let number): return reply(to: message, .received(next: number))
                case .malformed, .digest, .position:
                    abandon(message.snapshot, of: message.group)
                    return reply(to: message, .abandoned)
                }
            }
            try ports.state.load(batch)
            incoming[at].givesUpAt = now + settings.snapshotTimeout
            reply(to: message, .received(next: incoming[at].staging.next))
            guard let manifest = piece.manifest else { return }
            incoming[at].manifest = manifest
            // The state must be durable before the log says that it is the state.
            ticketNumber += 1
            incoming[at].stage = .flushing(ticket: ticketNumber)
            ports.flushState(ticket: ticketNumber)
        } catch {
            fail(error.message)
        }
    }

    /// Replicas of two groups on two nodes may give the same number to a snapshot.
    private func position(ofIncoming id: SnapshotID, _ group: GroupID) -> Int? {
        incoming.firstIndex { $0.id == id && $0.group == group }
    }

    /// The transfer that a piece belongs to. One at a time per group; a newer one takes the place of one still coming in.
    private func receiver(of message: SnapshotMessage, _ i: Int, _ now: Instant) throws(StoreError) -> Int? {
        if let at = position(ofIncoming: message.snapshot, message.group) {
            if incoming[at].from == nil {
                ports.report(.snapshotResumed(message.group, pieces: incoming[at].staging.next))
            }
            incoming[at].from = message.from
            return at
        }
        if replicas[i].installing != nil { return nil }
        if let old = incoming.firstIndex(where: { $0.group == message.group }) {
            if incoming[old].stage != .receiving { return nil }
            incoming.remove(at: old)
        }
        let (staging, batch) = try SnapshotStaging.open(
            message.group, message.snapshot, current: replicas[i].generation, in: ports.state)
        if staging.isComplete { return nil }
        if !batch.isEmpty { try ports.state.write(batch, isSynced: false) }
        incoming.append(
            SnapshotReceiving(from: message.from, staging: staging, givesUpAt: now + settings.snapshotTimeout))
        return incoming.count - 1
    }

    /// A flush has ended; snapshots that waited for it are handed to their cores.
    func snapshotsFlushed(_ ticket: UInt64, _ now: Instant) {
        let arrived = incoming.filter { $0.stage == .flushing(ticket: ticket) }
        for transfer in arrived {
            guard let i = position(of: transfer.group), let manifest = transfer.manifest, let from = transfer.from,
                let at = position(ofIncoming: transfer.id, transfer.group)
            else { continue }
            incoming[at].stage = .installing
            step(i, .snapshotReceived(transfer.id, base: manifest.base, from: from), now)
        }
    }

    /// The core takes the snapshot. From here on the old state stands still until the switch is durable.
    func acceptSnapshot(_ i: Int, _ id: SnapshotID, _ sequence: UInt64) {
        replicas[i].installing = Replica.Installing(snapshot: id, sequence: sequence)
        #if MUTANTS
        if settings.raft.mutant == .installRacesWithApply { switchNow(i) }
        #endif
    }

    /// The log write that names the snapshot may be durable: then its generation is the state.
    func switchState(_ i: Int, through sequence: UInt64) {
        if let installing = replicas[i].installing, sequence >= installing.sequence { switchNow(i) }
    }

    private func switchNow(_ i: Int) {
        guard let installing = replicas[i].installing,
            let at = position(ofIncoming: installing.snapshot, replicas[i].group)
        else { return }
        replicas[i].installing = nil
        let done = incoming.remove(at: at)
        do throws(StoreError) {
            replicas[i].generation = done.staging.generation
            replicas[i].applied = try StoredState.applied(
                replicas[i].group, generation: done.staging.generation, in: ports.state)
            let old = try StoredState.deleteGenerations(
                of: replicas[i].group, except: done.staging.generation, in: ports.state)
            if !old.isEmpty { try ports.state.write(old, isSynced: false) }
        } catch {
            return fail(error.message)
        }
        replicas[i].durableApplied = replicas[i].applied.index
        forgetOvertaken(i)
        tellDone(done, replicas[i].raft.peer)
    }

    private func tellDone(_ done: SnapshotReceiving, _ own: Peer) {
        guard let from = done.from else { return }
        let message = SnapshotMessage(
            group: done.group, from: own, to: from, epoch: .zero, term: .zero, snapshot: done.id, body: .done)
        frame(to: from.node) { $0.snapshots.append(message) }
    }

    /// Commands whose entries the snapshot jumped over: whether they took effect is not known here.
    private func forgetOvertaken(_ i: Int) {
        while let first = replicas[i].underWay.first, first.index <= replicas[i].applied.index {
            _ = replicas[i].underWay.popFirst()
            replicas[i].commandsUnderWay -= first.tickets.count
            for ticket in first.tickets { answer(ticket, .unknown) }
        }
    }

    /// The core needs the snapshot no more: it has the entries.
    func dropIncoming(_ id: SnapshotID, of group: GroupID) {
        guard let at = position(ofIncoming: id, group) else { return }
        if let i = position(of: group) { tellDone(incoming[at], replicas[i].raft.peer) }
        abandon(id, of: group)
    }

    func abandon(_ id: SnapshotID, of group: GroupID) {
        guard let at = position(ofIncoming: id, group) else { return }
        let gone = incoming.remove(at: at)
        do throws(StoreError) {
            try ports.state.write(gone.staging.discard(), isSynced: false)
        } catch {
            fail(error.message)
        }
    }
}
