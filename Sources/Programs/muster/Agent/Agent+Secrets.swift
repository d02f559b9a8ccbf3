import AdminAPI
import AgentConfig
import BinaryCoding
import ClusterBase
import Controllers
import FleetModel
import NodePorts
import NodeRuntime
import PeerTransport
import RaftCore
import Reactor
import Schema
import TLSSession

// Secret fields of VMs' specifications. The key that seals them is in a file of the root's voters, and the root knows its
// hash: whoever votes in the root gets it from another voter. A node that a client gives a secret field to has a voter seal
// it before it becomes part of a command; the host that the cell has given the VM to has a voter open it, who asks the cell.
//
//     client ─ value ─▶ any node ─ value ─▶ root voter ─ box ─▶ that node ─ command ─▶ the cell's log and state
//     host ─ box ─▶ root voter ─ "whose is it?" ─▶ cell;  root voter ─ value ─▶ host ─▶ its driver, in memory

extension Agent {
    private static let sealingFile = "sealing.key"
    /// Keys in that file: the one in force, the next and the one before, and one that this node made and nobody named.
    private static let sealersMax = 4

    /// As the file holds them, one to a line; none where there is no file.
    static func sealers(_ files: NodeFiles) throws(AgentFailure) -> [FieldSealer] {
        guard files.has(sealingFile) else { return [] }
        return try sealers(text: try files.text(sealingFile), "\(files.path)/\(sealingFile)")
    }

    static func sealers(text: String, _ path: String) throws(AgentFailure) -> [FieldSealer] {
        var sealers: [FieldSealer] = []
        for line in text.split(whereSeparator: \.isNewline) where !line.allSatisfy(\.isWhitespace) {
            do throws(TLSFailure) {
                sealers.append(FieldSealer(try SecretKey(text: String(line))))
            } catch {
                throw AgentFailure("\(path) can't be read: \(error.message)")
            }
        }
        return sealers
    }

    static func keepSealers(_ sealers: [FieldSealer], _ files: NodeFiles) throws(AgentFailure) {
        try files.write(sealingFile, sealers.map(\.key.text).joined(), isSecret: true)
    }

    private var isRootVoter: Bool {
        view.placement(.root)?.replica(on: node).map { $0.part == .voter && !$0.isLeaving } ?? false
    }

    private var otherRootVoters: [NodeID] {
        let voters = view.placement(.root)?.replicas.filter { $0.part == .voter && !$0.isLeaving } ?? []
        return voters.map(\.node).filter { $0 != node && isHeard($0) }
    }

    /// Who may have the key still: also who leaves, and who has left, since none gives it up before the others have it.
    private var keyHolders: [NodeID] {
        let replicas = view.placement(.root)?.replicas.map(\.node).filter { $0 != node && isHeard($0) } ?? []
        return replicas.isEmpty ? view.nodes.map(\.id).filter { $0 != node && isHeard($0) } : replicas
    }

    /// The key, if it is the cluster's.
    var sealerInForce: FieldSealer? { view.cluster.flatMap { sealer($0.sealingKey) } }

    func sealer(_ hash: [UInt8]) -> FieldSealer? { hash.isEmpty ? nil : sealers.first { $0.hash == hash } }

    // MARK: The key

    /// Root voters hold the key, and during its rotation all that are named; the others give them up. The root's first leader
    /// that finds none named makes it.
    func tendSealingKey() {
        guard engine.levelOpen >= FeatureLevel.secrets, let cluster = view.cluster else { return }
        let wanted = [cluster.sealingKey, cluster.sealingKeyNext, cluster.sealingKeyBefore].filter { !$0.isEmpty }
        if cluster.sealingKey.isEmpty {
            if leads(.root), isRootVoter { nameSealingKey() }
        } else if isRootVoter {
            sealerUnneededSince = nil
            for hash in wanted where sealer(hash) == nil {
                for other in keyHolders { askForSealingKey(other, hash) }
            }
            forgetSealers(but: wanted)
            if leads(.root) { rotateSealingKey(cluster) } else { sealing = SealingRotation() }
        } else if !sealers.isEmpty, wanted.count == 1, !cluster.sealingRotates {
            giveUpSealingKeys()
        }
    }

    private func nameSealingKey() {
        guard !isNamingSealer, let made = sealers.first ?? makeSealer() else { return }
        isNamingSealer = true
        change(.nameSealingKey(made.hash), by: settings.nodeName) { [self] result in
            isNamingSealer = false
            switch result {
            case .success: log.info("the cluster has a key for secret fields")
            case .failure(let problem): log.warning("the key of secret fields was not named: \(problem.detail)")
            }
        }
    }

    /// A new one, in the file before anybody hears of it.
    func makeSealer() -> FieldSealer? {
        let made = FieldSealer(SecretKey.make())
        do throws(AgentFailure) {
            try add(made)
            return made
        } catch {
            log.error("the key of secret fields can't be kept: \(error.description)")
            return nil
        }
    }

    private func add(_ made: FieldSealer) throws(AgentFailure) {
        var kept = sealers + [made]
        // What the root names is never given up for another one.
        let cluster = view.cluster
        let named = [cluster?.sealingKey, cluster?.sealingKeyNext, cluster?.sealingKeyBefore, made.hash]
        while kept.count > Agent.sealersMax, let at = kept.firstIndex(where: { !named.contains($0.hash) }) {
            kept.remove(at: at)
        }
        try Agent.keepSealers(kept, files)
        sealers = kept
        sealersAddedAt = loop.now
    }

    /// Those that the root names no more, a while after the last one came: one that was made just now is named in a moment.
    private func forgetSealers(but wanted: [[UInt8]]) {
        guard sealerInForce != nil, loop.now - sealersAddedAt >= .seconds(60) else { return }
        let kept = sealers.filter { wanted.contains($0.hash) }
        if kept.count == sealers.count { return }
        keep { () throws(AgentFailure) in
            try Agent.keepSealers(kept, files)
            sealers = kept
            log.info("has given up a key of secret fields that was replaced")
        }
    }

    private func askForSealingKey(_ other: NodeID, _ named: [UInt8]) {
        ask(other, .sealingKey(NodeRequest.SealingKey(key: named))) { [self] answer in
            guard let answer, let key = SecretKey(bytes: answer.sealingKey), sealer(named) == nil else { return }
            let made = FieldSealer(key)
            guard made.hash == named else { return }
            // What is in no file is not held: others give it up on this node's word.
            keep { () throws(AgentFailure) in
                try add(made)
                log.info("holds the key of secret fields now")
            }
        }
    }

    /// Only after every voter has shown that it has the key, and not at once: who leaves may be on its way back.
    private func giveUpSealingKeys() {
        let since = sealerUnneededSince ?? loop.now
        sealerUnneededSince = since
        guard loop.now - since >= .seconds(30) else { return }
        sealerUnneededSince = loop.now
        askAllVoters(.init(), but: nil) { [self] isSure, _ in
            guard isSure, !isRootVoter else { return }
            files.remove(Agent.sealingFile)
            sealers = []
            log.info("has given up the key of secret fields")
        }
    }

    /// Whether all voters say yes to the question whether they hold a key; with the hash of the key that each seals with.
    func askAllVoters(
        _ question: NodeRequest.Seal, but own: NodeID?, _ done: @escaping (Bool, [[UInt8]]) -> Void
    ) {
        let voters = view.placement(.root)?.replicas.filter { $0.part == .voter && !$0.isLeaving }.map(\.node) ?? []
        let others = voters.filter { $0 != own }
        guard !voters.isEmpty, others.allSatisfy({ isHeard($0) }) else { return done(false, []) }
        var (left, sealed, isSure) = (others.count, [[UInt8]](), true)
        if left == 0 { return done(true, []) }
        for voter in others {
            ask(voter, .seal(question)) { answer in
                left -= 1
                if let answer, answer.refusal.isEmpty { sealed.append(answer.body) } else { isSure = false }
                if left == 0 { done(isSure, sealed) }
            }
        }
    }

    /// For another voter.
    func sealingKeyAnswer(for asker: NodeID, _ wanted: [UInt8]) -> NodeAnswer? {
        let isVoter = view.placement(.root)?.replica(on: asker).map { $0.part == .voter && !$0.isLeaving } ?? false
        guard isVoter, let known = wanted.isEmpty ? sealerInForce : sealer(wanted) else { return nil }
        return NodeAnswer(version: 1, sealingKey: known.keyBytes)
    }

    // MARK: Sealing

    /// What a box opens for: this field of this VM, whatever else is called so later.
    static func about(_ tenant: String, _ vm: String, _ mark: [UInt8], _ key: String) -> String {
        "\(tenant)/\(vm)/\(mark.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined())/\(key)"
    }

    private static let noSealer = Problem(
        .unavailable,
        "no voter of the root that holds the key of secret fields can be reached; see that they are up, then send it again"
    )

    /// The same VMs with all their secret fields sealed.
    func seal(
        _ specs: [(tenant: String, name: String, spec: VMDescription)],
        _ done: @escaping (Result<[VMDescription], Problem>) -> Void
    ) {
        var wanted: [(about: String, value: [UInt8])] = []
        for item in specs {
            for secret in item.spec.secrets {
                switch secret.value {
                case .sealed: break
                case .kept:
                    return done(
                        .failure(
                            Problem(
                                .invalid,
                                "\(secret.key) is \(SecretField.marker), which leaves a value as it is, and there is none; "
                                    + "send the value", field: "secrets")))
                case .clear(let value):
                    if value.count > CellLimits.secretBytesMax - FieldSealer.overheadBytes {
                        let most = CellLimits.secretBytesMax - FieldSealer.overheadBytes
                        return done(
                            .failure(
                                Problem(
                                    .invalid, "\(secret.key) has \(value.count) bytes and may have \(most)",
                                    field: "secrets")))
                    }
                    wanted.append((Agent.about(item.tenant, item.name, item.spec.sealMark, secret.key), value))
                }
            }
        }
        if wanted.isEmpty { return done(.success(specs.map(\.spec))) }
        if let problem = problem(wanting: FeatureLevel.secrets) { return done(.failure(problem)) }
        func finish(_ boxes: [[UInt8]]) {
            var rest = boxes[...]
            done(
                .success(
                    specs.map { item in
                        var spec = item.spec
                        for i in spec.secrets.indices where spec.secrets[i].box == nil {
                            if let box = rest.popFirst() { spec.secrets[i].value = .sealed(box) }
                        }
                        return spec
                    }))
        }
        if let sealer = sealerInForce {
            guard let boxes = Agent.boxes(wanted, sealer) else {
                return done(.failure(Problem(.internal, "a secret field could not be sealed; report this")))
            }
            return finish(boxes)
        }
        let question = NodeRequest.Seal(
            secrets: wanted.map { NodeRequest.Secret(name: $0.about, bytes: $0.value) })
        askVoters(.seal(question), otherRootVoters[...]) { answer in
            guard let boxes = answer?.secrets, boxes.count == wanted.count else {
                return done(.failure(Agent.noSealer))
            }
            finish(boxes)
        }
    }

    private static func boxes(_ wanted: [(about: String, value: [UInt8])], _ sealer: FieldSealer) -> [[UInt8]]? {
        var boxes: [[UInt8]] = []
        for item in wanted {
            // Counted by the caller, who refuses then.
            guard let box = try? sealer.seal(item.value, about: item.about) else { return nil }
            boxes.append(box)
        }
        return boxes
    }

    /// The first that does not refuse.
    private func askVoters(
        _ question: NodeRequest.Body, _ voters: ArraySlice<NodeID>, refusal: NodeAnswer? = nil,
        _ done: @escaping (NodeAnswer?) -> Void
    ) {
        guard let voter = voters.first else { return done(refusal) }
        ask(voter, question) { [self] answer in
            if let answer, answer.refusal.isEmpty { return done(answer) }
            askVoters(question, voters.dropFirst(), refusal: answer ?? refusal, done)
        }
    }

    /// Without a field it is the question whether this node holds the key for good.
    func sealAnswer(_ wanted: NodeRequest.Seal) -> NodeAnswer? {
        guard let sealer = sealerInForce else { return nil }
        if wanted.secrets.isEmpty {
            guard isRootVoter, files.has(Agent.sealingFile), wanted.key.isEmpty || self.sealer(wanted.key) != nil else {
                return nil
            }
            return NodeAnswer(version: 1, body: sealer.hash)
        }
        return Agent.boxes(wanted.secrets.map { ($0.name, $0.bytes) }, sealer).map {
            NodeAnswer(version: 1, secrets: $0)
        }
    }

    // MARK: Opening

    /// Why boxes were not opened, and whether asking again helps.
    struct Unopened: Error {
        var reason: String
        var isFinal = false
    }

    /// Opens boxes of a VM for a host, if the cell lets that host run the VM.
    func open(
        _ vm: VMID, _ cell: GroupID, for host: NodeID, _ fields: [(key: String, box: [UInt8])],
        _ done: @escaping (Result<[[UInt8]], Unopened>) -> Void
    ) {
        guard sealerInForce != nil else {
            return done(.failure(Unopened(reason: "node \(node) does not hold the key")))
        }
        request(.query(cell, .cell(.vm(vm)))) { [self] answer in
            guard case .read(.cell(let found)) = answer, let inForce = sealerInForce else {
                return done(
                    .failure(Unopened(reason: "the cell does not answer; see that a majority of its voters is up")))
            }
            guard case .vm(_, let known?)? = AdminPort.rows(found).rows.first,
                known.permit(on: HostID(rawValue: host.rawValue)) != nil
            else { return done(.failure(Unopened(reason: "the VM is not given to this host"))) }
            do throws(TLSFailure) {
                var values: [[UInt8]] = []
                for field in fields {
                    let about = Agent.about(known.tenant, known.name, known.spec.sealMark, field.key)
                    let sealer = sealers.first { $0.made(field.box) } ?? inForce
                    values.append(try sealer.open(field.box, about: about))
                }
                done(.success(values))
            } catch {
                done(.failure(Unopened(reason: error.message, isFinal: true)))
            }
        }
    }

    func answerUnseal(_ request: PeerQuestion, _ wanted: NodeRequest.Unseal) {
        open(
            VMID(rawValue: wanted.vm), GroupID(wanted.cell), for: request.node,
            wanted.secrets.map { ($0.name, $0.bytes) }
        ) { [self] result in
            switch result {
            case .success(let values):
                network.answer(request, NodeAnswer(version: 1, secrets: values).serialized())
            case .failure(let why):
                network.answer(
                    request,
                    NodeAnswer(version: 1, refusal: why.reason, status: why.isFinal ? 1 : 0).serialized())
            }
        }
    }

    /// Has the fields of this host's VMs opened that wait for it.
    func openSecrets() {
        guard let cell = host.cell else { return }
        for (vm, fields) in host.held.takeQuestions(now: loop.now) {
            let boxes = fields.map { (key: $0.key, box: $0.box ?? []) }
            let finish: (Result<[[UInt8]], Unopened>) -> Void = { [self] result in
                switch result {
                case .success(let values): host.held.opened(vm, fields, values)
                case .failure(let why):
                    tellUnready(vm, "its secret fields could not be opened: \(why.reason)", isFinal: why.isFinal)
                }
            }
            if sealerInForce != nil {
                open(vm, cell, for: node, boxes, finish)
                continue
            }
            let question = NodeRequest.Unseal(
                cell: cell.rawValue, vm: vm.rawValue,
                secrets: boxes.map { NodeRequest.Secret(name: $0.key, bytes: $0.box) })
            askVoters(.unseal(question), otherRootVoters[...]) { answer in
                if let answer, answer.refusal.isEmpty, answer.secrets.count == boxes.count {
                    return finish(.success(answer.secrets))
                }
                let reason = answer?.refusal ?? "no voter of the root can be reached"
                finish(.failure(Unopened(reason: reason, isFinal: answer?.status == 1)))
            }
        }
    }
}
