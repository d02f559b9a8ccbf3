import AdminAPI
import AgentConfig
import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Reactor
import Schema
import TLSSession

// Another key for secret fields, which an operator asked for. The root's leader makes it, waits until all voters hold it, has the
// root name it, and then seals what is sealed with the one before anew, cell by cell, until nothing of that is left.

/// What the root's leader knows of the rotation under way; a new leader begins to count anew.
struct SealingRotation {
    /// How long a key is waited for whose maker may be gone, and how long a field may be under way that was sealed before.
    static let patience = Nanoseconds.seconds(40)
    static let pause = Nanoseconds.seconds(5)
    /// In a row, so that a VM on its way between cells is seen in one of them.
    static let cleanPassesMin = 2

    var isAsking = false
    /// The key that this node made for it.
    var made: [UInt8]?
    /// Since when the next key is named and not here.
    var missingSince: Instant?
    /// Since when all voters seal with the new key.
    var usedSince: Instant?
    var passAt = Instant.origin
    var cleanPasses = 0
    /// Boxes of the pass under way.
    var resealed = 0
    var unopened = 0
}

extension Agent {
    func rotateSealingKey(_ cluster: RootCluster) {
        guard !sealing.isAsking else { return }
        if cluster.sealingRotates {
            sealing.usedSince = nil
            guard !cluster.sealingKeyNext.isEmpty else { return offerSealingKey() }
            guard sealer(cluster.sealingKeyNext) != nil else {
                let since = sealing.missingSince ?? loop.now
                sealing.missingSince = since
                if loop.now - since >= SealingRotation.patience { offerSealingKey() }
                return
            }
            sealing.isAsking = true
            askAllVoters(NodeRequest.Seal(key: cluster.sealingKeyNext), but: node) { [self] isSure, _ in
                guard isSure else { return sealing.isAsking = false }
                step(.use, cluster.sealingKeyNext, "a new key seals secret fields")
            }
        } else if !cluster.sealingKeyBefore.isEmpty {
            resealAll(cluster)
        } else {
            sealing = SealingRotation()
        }
    }

    private func offerSealingKey() {
        sealing.missingSince = nil
        // One that was made and could not be offered is offered again.
        guard let made = sealing.made.flatMap({ sealer($0) }) ?? makeSealer() else { return }
        sealing.made = made.hash
        sealing.isAsking = true
        step(.offer, made.hash, "a new key for secret fields is made")
    }

    private func step(_ step: RootCommand.SealingStep, _ hash: [UInt8], _ words: String) {
        change(.rotateSealingKey(step, hash), by: settings.nodeName) { [self] result in
            sealing.isAsking = false
            switch result {
            case .success: log.info(words)
            case .failure(let problem): log.warning("the key of secret fields is not rotated yet: \(problem.detail)")
            }
        }
    }

    // MARK: Sealing anew

    private func resealAll(_ cluster: RootCluster) {
        guard loop.now >= sealing.passAt, let old = sealer(cluster.sealingKeyBefore), let new = sealerInForce else {
            return
        }
        sealing.isAsking = true
        askAllVoters(NodeRequest.Seal(), but: node) { [self] isSure, sealed in
            if isSure, sealed.allSatisfy({ $0 == cluster.sealingKey }) {
                sealing.usedSince = sealing.usedSince ?? loop.now
            } else {
                sealing.usedSince = nil
                sealing.cleanPasses = 0
            }
            (sealing.resealed, sealing.unopened) = (0, 0)
            let begun = loop.now
            reseal(view.cells.map(\.group)[...], after: nil, old, new) { [self] isWhole in
                endPass(cluster, begun: begun, isWhole: isWhole)
            }
        }
    }

    private func endPass(_ cluster: RootCluster, begun: Instant, isWhole: Bool) {
        sealing.isAsking = false
        sealing.passAt = loop.now + SealingRotation.pause
        if sealing.resealed > 0 {
            log.info("secret fields were sealed anew", ["fields": "\(sealing.resealed)"])
        }
        // What was sealed before all used the new key may have come in the meantime.
        let isSettled = sealing.usedSince.map { begun - $0 >= SealingRotation.patience } ?? false
        let isClean = isWhole && isSettled && sealing.resealed == 0
        sealing.cleanPasses = isClean ? sealing.cleanPasses + 1 : 0
        guard sealing.cleanPasses >= SealingRotation.cleanPassesMin else { return }
        if sealing.unopened > 0 {
            log.error(
                "secret fields that no key here opens are left as they are: set them again",
                ["fields": "\(sealing.unopened)"])
        }
        sealing.isAsking = true
        step(.drop, cluster.sealingKeyBefore, "no secret field needs the old key any more")
    }

    /// Goes over all VMs, page by page; says whether all cells answered.
    private func reseal(
        _ cells: ArraySlice<GroupID>, after: [UInt8]?, _ old: FieldSealer, _ new: FieldSealer,
        _ done: @escaping (Bool) -> Void
    ) {
        guard let cell = cells.first else { return done(true) }
        let page = CellQuery.list(.vms, after: after, limit: CellLimits.answerCountMax)
        request(.query(cell, .cell(page))) { [self] outcome in
            guard case .read(.cell(let found)) = outcome else { return done(false) }
            let (rows, next) = AdminPort.rows(found)
            var commands: [CellCommand.Operation] = []
            for case .vm(let id, let vm?) in rows {
                let boxes = resealed(vm, old, new)
                if !boxes.isEmpty { commands.append(.resealVM(id, boxes)) }
            }
            carryOut(commands[...], cell) { [self] isDone in
                guard isDone else { return done(false) }
                reseal(next == nil ? cells.dropFirst() : cells, after: next, old, new, done)
            }
        }
    }

    private func resealed(_ vm: CellVM, _ old: FieldSealer, _ new: FieldSealer) -> [Resealed] {
        var boxes: [Resealed] = []
        for field in vm.spec.secrets {
            guard let box = field.box, old.made(box) else { continue }
            let about = Agent.about(vm.tenant, vm.name, vm.spec.sealMark, field.key)
            // What does not open was never readable; it is counted and told.
            guard let value = try? old.open(box, about: about), let sealed = try? new.seal(value, about: about) else {
                sealing.unopened += 1
                continue
            }
            boxes.append(Resealed(key: field.key, from: box, to: sealed))
        }
        return boxes
    }

    private func carryOut(
        _ commands: ArraySlice<CellCommand.Operation>, _ cell: GroupID, _ done: @escaping (Bool) -> Void
    ) {
        guard let first = commands.first else { return done(true) }
        // It names what it replaces, and so takes effect once without a request id, of which a cell keeps so many only.
        let command = CellCommand(by: "node \(settings.nodeName)", first)
        request(.command(cell, command.encoded())) { [self] outcome in
            guard case .applied(.cell(let result)) = outcome else { return done(false) }
            switch result.outcome {
            case .done: if case .resealVM(_, let boxes) = first { sealing.resealed += boxes.count }
            // A VM that is gone needs nothing.
            case .refused(.unknownVM): break
            // The old key stays as long as anything may still need it.
            case .refused(let refusal):
                log.warning("secret fields can't be sealed anew yet: \(refusal)")
                return done(false)
            case .items, .kept: return done(false)
            }
            carryOut(commands.dropFirst(), cell, done)
        }
    }
}
