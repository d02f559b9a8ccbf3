import ClusterBase
import FleetModel
import HistoryChecker
import NodePorts
import NodeRuntime
import RaftCore

/// One client: one operation at a time, repeated under the same sequence number until it is answered or given up.
struct SimulatedClient {
    struct Operation {
        var number: UInt64
        var group: GroupID
        var key: UInt64
        var kind: History.Kind
        var request: ClientRequest
        var ticket: StreamingChecker.Ticket
        var givesUpAt: Int64
    }

    let number: Int
    /// Sessions are a group's own, and so are their sequences.
    var sequences: [UInt64]
    var operation: Operation?
    var stamp: UInt64 = 0
    var target = 0
    var sessions: UInt64 = 0

    init(number: Int, groups: Int) {
        self.number = number
        sequences = Array(repeating: 0, count: groups)
        target = number
    }

    /// After an unknown outcome: the old session's last command may still take effect, so nothing more goes under it.
    mutating func renewSession() {
        sessions += 1
        for i in sequences.indices { sequences[i] = 0 }
    }

    var session: ClientID { ClientID(UInt64(number + 1) << 32 | sessions) }
}

extension Simulation {
    /// A client's turn: begin an operation, or try again the one that is not answered.
    func clientTurn(_ number: Int, stamp: UInt64) {
        if number >= LockOwners.firstNumber { return lockTurn(number - LockOwners.firstNumber, stamp: stamp) }
        guard stamp == clients[number].stamp, recovery.phase != .settling else { return }
        if clients[number].operation == nil { beginOperation(number) }
        guard let operation = clients[number].operation else { return }
        if now >= operation.givesUpAt { return giveUp(number) }
        attempt(number)
    }

    private func beginOperation(_ number: Int) {
        let key = keysFrom + clientRandom.below(profile.keys)
        let group = GroupID(key % UInt64(profile.groups) + 1)
        let operationNumber = UInt64(result.operations + 1)
        result.operations += 1
        // Every value is written once, so that a read tells whose write it saw.
        let value = operationNumber
        let kind: History.Kind
        switch clientRandom.below(UInt64(10)) {
        case 0..<4: kind = .get
        case 4..<7: kind = .put(value)
        case 7: kind = deletesConditionally(key).map { .compareAndSet(expected: $0, new: nil) } ?? .delete
        default: kind = .compareAndSet(expected: lastSeen[Int(key - keysFrom)], new: value)
        }
        let request: ClientRequest
        if kind == .get {
            // Any node can be asked.
            if clientRandom.chance(1, in: 3) { clients[number].target = clientRandom.below(nodes.count) }
            request = .query(group, .space(.get(key: Words.key(key))))
        } else {
            let lane = Int(group.rawValue) - 1
            clients[number].sequences[lane] += 1
            let command = SpaceCommand(
                client: clients[number].session, sequence: clients[number].sequences[lane], Words.operation(kind, key))
            request = .command(group, command.encoded())
        }
        let ticket = history.begin(client: clients[number].session, key: key, kind: kind, at: now)
        clients[number].operation = SimulatedClient.Operation(
            number: operationNumber, group: group, key: key, kind: kind, request: request, ticket: ticket,
            givesUpAt: now + profile.operationTimeout.count)
    }

    private func attempt(_ number: Int) {
        guard let operation = clients[number].operation else { return }
        let node = nodes[clients[number].target % nodes.count]
        plan(.request, at: now + clientLatency(), node: node, a: UInt64(number), b: operation.number)
        again(number, after: profile.attemptTimeout.count)
        // If nothing comes back, the next try goes elsewhere.
        clients[number].target = clientRandom.below(nodes.count)
    }

    private func again(_ number: Int, after delay: Int64) {
        clients[number].stamp += 1
        plan(.client, at: now + delay, a: UInt64(number), b: clients[number].stamp)
    }

    func deliverRequest(client: Int, operation number: UInt64, to node: SimulatedNode) {
        if client >= LockOwners.firstNumber {
            return deliverLockRequest(client - LockOwners.firstNumber, operation: number, to: node)
        }
        guard let operation = clients[client].operation, operation.number == number else { return }
        if operation.kind == .get { aboutToRead(node, operation.group) }
        turn(node, .request(operation.request, ticket: UInt64(client) << 40 | number))
    }

    /// A node answers; the answer travels.
    func answer(_ ticket: UInt64, _ answer: ClientAnswer, from node: SimulatedNode) {
        if Fleet.isHost(ticket) { fleet?.answered(ticket, answer, at: node) } else { sendAnswer(ticket, answer, node) }
    }

    private func sendAnswer(_ ticket: UInt64, _ answer: ClientAnswer, _ node: SimulatedNode) {
        plan(.answer, at: now + clientLatency(), a: answers.put((ticket, answer, node.number)))
    }

    func takeAnswer(_ ticket: UInt64, _ answer: ClientAnswer, from node: Int) {
        if ticket == Caretaker.ticket { return }
        if let fleet { return fleet.takeAnswer(ticket, answer, from: node) }
        let number = Int(ticket >> 40)
        if number >= LockOwners.firstNumber {
            return takeLockAnswer(number - LockOwners.firstNumber, ticket & (1 << 40 - 1), answer, from: node)
        }
        guard let operation = clients[number].operation, operation.number == ticket & (1 << 40 - 1) else { return }
        switch answer {
        case .applied(.space(let result)) where result.outcome == .refused(.malformed) && upgrade != nil:
            // Packed while the level was closed. Another attempt may be in an entry that is still to come.
            upgrade?.counts.refused += 1
            giveUp(number)
        case .applied(let result):
            if case .compareAndSet(_, nil) = operation.kind { upgrade?.counts.conditional += 1 }
            finish(number, operation, Words.outcome(of: operation.kind, result), "\(result)", node)
        case .read(let answer): finish(number, operation, Words.outcome(of: operation.kind, answer), "\(answer)", node)
        case .unknown:
            again(number, after: 1_000_000)
        case .refused(.notLeader(let hint)):
            if let hint { clients[number].target = Int(hint.node.rawValue) - 1 }
            again(number, after: hint == nil ? 20_000_000 + clientRandom.within(0...30_000_000) : 1_000_000)
        case .refused, .accepted:
            again(number, after: 20_000_000 + clientRandom.within(0...60_000_000))
        }
    }

    private func finish(
        _ number: Int, _ operation: SimulatedClient.Operation, _ outcome: History.Outcome?,
        _ said: @autoclosure () -> String, _ node: Int
    ) {
        guard let outcome else {
            return fail("client protocol", "operation \(operation.kind) was answered by \(said())")
        }
        history.end(operation.ticket, outcome, at: now)
        if case .observed(let value) = outcome { lastSeen[Int(operation.key - keysFrom)] = value }
        clients[number].operation = nil
        clients[number].target = node
        recovery.sawSuccess(operation.group, at: now)
        again(number, after: clientRandom.within(0...profile.thinkTimeMax.count))
    }

    private func giveUp(_ number: Int) {
        guard let operation = clients[number].operation else { return }
        result.operationsUnknown += 1
        history.end(operation.ticket, .unknown, at: now)
        clients[number].operation = nil
        if operation.kind != .get { clients[number].renewSession() }
        again(number, after: clientRandom.within(0...profile.thinkTimeMax.count))
    }

    /// What was written before a forced recovery may be there or not. Clients go on under keys that nobody has used, and are held
    /// to the same rules there.
    func beginNewHistory() {
        history = StreamingChecker()
        lockOwners.beginAnew()
        keysFrom += profile.keys * UInt64(profile.groups)
        lastSeen = lastSeen.map { _ in nil }
        for i in clients.indices {
            clients[i].operation = nil
            clients[i].renewSession()
        }
    }

    /// Operations that never ended may have taken effect or not.
    func judgeHistory() {
        for client in clients {
            if let operation = client.operation { history.end(operation.ticket, .unknown, at: now) }
        }
        switch history.finish() {
        case .linearizable: break
        case .violation(let violation): fail("33 linearizability", "\(violation)")
        case .undecided(let key): fail("checker", "the history of key \(key) was too long to judge")
        }
    }
}

/// How a history's operations are said to the key space, and its answers understood.
enum Words {
    static func key(_ key: UInt64) -> [UInt8] { Array("key-\(key)".utf8) }

    /// A value's bytes: its number, and padding whose length follows from it.
    static func bytes(_ value: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(value)
        for _ in 0..<Int(value % 40) { bytes.append(0x2E) }
        return bytes
    }

    static func operation(_ kind: History.Kind, _ key: UInt64) -> SpaceCommand.Operation {
        switch kind {
        case .put(let value): .put(key: self.key(key), value: bytes(value))
        case .compareAndSet(let expected, let new?):
            .compareAndSet(
                key: self.key(key), expected: expected.map { .value(bytes($0)) } ?? .absent, value: bytes(new))
        case .compareAndSet(let expected?, nil): .compareAndDelete(key: self.key(key), expected: bytes(expected))
        case .get, .delete, .compareAndSet: .delete(key: self.key(key), revision: nil)
        }
    }

    static func outcome(of kind: History.Kind, _ result: MachineResult) -> History.Outcome? {
        guard case .space(let result) = result else { return nil }
        return switch (kind, result.outcome) {
        case (.put, .written), (.delete, .deleted), (.delete, .notFound): .acknowledged
        case (.compareAndSet, .written), (.compareAndSet, .deleted): .swapped
        case (.compareAndSet, .conflict): .refused
        default: nil
        }
    }

    static func outcome(of kind: History.Kind, _ answer: MachineAnswer) -> History.Outcome? {
        guard kind == .get, case .space(let answer) = answer, case .record(let record) = answer.body else { return nil }
        guard let record else { return .observed(nil) }
        guard let value = record.value.bigEndian64(at: 0), bytes(value) == record.value else { return nil }
        return .observed(value)
    }
}
