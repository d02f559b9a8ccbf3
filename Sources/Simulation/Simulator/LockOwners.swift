import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore

/// Owners who fight over locks of the key space: take, renew, write under the token, give back, or forget what they hold.
///
///     take ──▶ held ──▶ renew · write under the token ──▶ release, or silence until the lease is over
///       ▲                                                                    │
///       └────────────────────────────────────────────────────────────────────┘
///
/// Held to: no token has two owners; nobody gets a lock before the lease of whoever held it, counted from when its last renewal
/// was sent; a holder within its lease is not refused; of two writes under a lock's tokens the later one has the higher token.
/// The second and third rest on clocks that run, at a rate within a bound: where clocks jump, tokens alone are promised.
struct LockOwners {
    /// Above all clients of the key space.
    static let firstNumber = 1 << 12
    /// Of a run: names, and the groups that keep them.
    private static let locks = 2

    enum Kind {
        case take
        case release
        case write(token: Revision)
    }

    struct Operation {
        var number: UInt64
        var lock: Int
        var kind: Kind
        var request: ClientRequest
        var began: Int64
        var givesUpAt: Int64
    }

    struct Owner {
        var operation: Operation?
        var lock = 0
        /// What it holds as it believes, and what it held once: a stopped process goes on as if nothing had happened.
        var token: Revision?
        var formerToken: Revision?
        var stamp: UInt64 = 0
        var target = 0
    }

    /// What is known of a lock from the answers that came.
    struct Lock {
        var token = Revision.zero
        var holder: Int?
        /// Until then nobody else may have it.
        var heldUntil: Int64 = 0
        /// Its holder sent a release, which may have come to something.
        var mayBeFree = false
        /// Writes under its tokens, by revision.
        var writes: [(revision: Revision, token: Revision)] = []
    }

    var random: PRNG
    var owners: [Owner]
    var locks = Array(repeating: Lock(), count: LockOwners.locks)
    var operations: UInt64 = 0
    var generation = 0

    init(random: PRNG, count: Int) {
        self.random = random
        owners = Array(repeating: Owner(), count: count)
    }

    /// After a forced recovery nothing of before is promised.
    mutating func beginAnew() {
        generation += 1
        locks = Array(repeating: Lock(), count: LockOwners.locks)
        for i in owners.indices { (owners[i].operation, owners[i].token, owners[i].formerToken) = (nil, nil, nil) }
    }
}

extension Simulation {
    func planLockOwners() {
        for i in lockOwners.owners.indices {
            plan(.client, at: 70_000_000 + Int64(i) * 1_000_000, a: UInt64(LockOwners.firstNumber + i))
        }
    }

    private func group(ofLock lock: Int) -> GroupID { GroupID(UInt64(lock % profile.groups) + 1) }
    /// One for each lock: a renewal that comes late makes none shorter.
    private func lease(ofLock lock: Int) -> Nanoseconds { .milliseconds(Int64(1_200 + 1_500 * lock)) }
    private func name(ofLock lock: Int) -> String { "lock-\(lockOwners.generation)-\(lock)" }

    func lockTurn(_ i: Int, stamp: UInt64) {
        guard stamp == lockOwners.owners[i].stamp, recovery.phase != .settling else { return }
        if lockOwners.owners[i].operation == nil { beginLockOperation(i) }
        guard let operation = lockOwners.owners[i].operation else { return }
        if now >= operation.givesUpAt { return giveUpLock(i) }
        let node = nodes[lockOwners.owners[i].target % nodes.count]
        plan(.request, at: now + lockLatency(), node: node, a: UInt64(LockOwners.firstNumber + i), b: operation.number)
        lockAgain(i, after: profile.attemptTimeout.count)
        lockOwners.owners[i].target = lockOwners.random.below(nodes.count)
    }

    private func lockLatency() -> Int64 {
        profile.latencyNear.count + lockOwners.random.within(0...profile.latencyNear.count)
    }

    private func lockAgain(_ i: Int, after delay: Int64) {
        lockOwners.owners[i].stamp += 1
        plan(.client, at: now + delay, a: UInt64(LockOwners.firstNumber + i), b: lockOwners.owners[i].stamp)
    }

    private func beginLockOperation(_ i: Int) {
        let owner = lockOwners.owners[i]
        var kind = LockOwners.Kind.take
        var lock = owner.lock
        let draw = lockOwners.random.below(10)
        if let token = owner.token {
            switch draw {
            case 0..<4: kind = .take
            case 4..<8: kind = .write(token: token)
            case 8: kind = .release
            default:
                // It is silent from now on, and takes another lock, or the same one once more.
                lockOwners.owners[i].formerToken = token
                lockOwners.owners[i].token = nil
                kind = .write(token: token)
            }
        } else if let token = owner.formerToken, draw < 3 {
            kind = .write(token: token)
        } else {
            lock = lockOwners.random.below(lockOwners.locks.count)
            if lock != owner.lock { lockOwners.owners[i].formerToken = nil }
            kind = .take
        }
        let operation: SpaceCommand.Operation
        var fence: SpaceFence?
        switch kind {
        case .take:
            operation = .acquire(lock: name(ofLock: lock), owner: "owner-\(i)", lease: lease(ofLock: lock))
        case .release:
            let token = owner.token ?? .zero
            operation = .release(lock: name(ofLock: lock), owner: "owner-\(i)", token: token)
            lockOwners.owners[i].formerToken = token
            lockOwners.owners[i].token = nil
            if lockOwners.locks[lock].holder == i { lockOwners.locks[lock].mayBeFree = true }
        case .write(let token):
            fence = SpaceFence(name(ofLock: lock), token)
            operation = .put(key: Array("under-\(lock)".utf8), value: Array("\(i)".utf8))
        }
        lockOwners.owners[i].lock = lock
        lockOwners.operations += 1
        lockOwners.owners[i].operation = LockOwners.Operation(
            number: lockOwners.operations, lock: lock, kind: kind,
            request: .command(group(ofLock: lock), SpaceCommand(fence: fence, operation).encoded()), began: now,
            givesUpAt: now + profile.operationTimeout.count)
    }

    private func giveUpLock(_ i: Int) {
        lockOwners.owners[i].operation = nil
        lockAgain(i, after: lockOwners.random.within(0...profile.thinkTimeMax.count))
    }

    func deliverLockRequest(_ i: Int, operation number: UInt64, to node: SimulatedNode) {
        guard let operation = lockOwners.owners[i].operation, operation.number == number else { return }
        turn(node, .request(operation.request, ticket: UInt64(LockOwners.firstNumber + i) << 40 | number))
    }

    func takeLockAnswer(_ i: Int, _ number: UInt64, _ answer: ClientAnswer, from node: Int) {
        guard let operation = lockOwners.owners[i].operation, operation.number == number else { return }
        switch answer {
        case .applied(.space(let result)):
            judge(i, operation, result)
            lockOwners.owners[i].operation = nil
            lockOwners.owners[i].target = node
            lockAgain(i, after: lockOwners.random.within(0...(profile.thinkTimeMax.count * 3)))
        case .refused(.notLeader(let hint)):
            if let hint { lockOwners.owners[i].target = Int(hint.node.rawValue) - 1 }
            lockAgain(i, after: hint == nil ? 40_000_000 : 1_000_000)
        default: lockAgain(i, after: 40_000_000)
        }
    }

    /// By how much a clock may be faster than time itself.
    private func surely(_ lease: Int64) -> Int64 {
        if profile.faults.contains(.clockJump) { return 0 }
        return lease - lease / 1_000_000 * (profile.clockDriftPPMMax + 1) - 1_000_000
    }

    private func judge(_ i: Int, _ operation: LockOwners.Operation, _ answer: SpaceResult) {
        let known = lockOwners.locks[operation.lock]
        switch (operation.kind, answer.outcome) {
        case (.take, .held(let token)):
            lockOwners.owners[i].token = token
            // An answer that came late says nothing of now.
            guard token >= known.token else { return }
            if token == known.token && known.holder != i {
                return fail(
                    "a token is one owner's", "owner \(i) got the token \(token) of owner \(known.holder ?? -1)")
            }
            let heldUntil = operation.began + surely(lease(ofLock: operation.lock).count)
            if token > known.token {
                if known.holder != nil, !known.mayBeFree, now < known.heldUntil {
                    return fail(
                        "a lock stays with its holder for its lease",
                        "owner \(i) got lock \(operation.lock) \(known.heldUntil - now) ns before the lease of owner "
                            + "\(known.holder ?? -1) was over")
                }
                result.locksTaken += 1
                lockOwners.locks[operation.lock].holder = i
                lockOwners.locks[operation.lock].token = token
                lockOwners.locks[operation.lock].mayBeFree = false
            }
            lockOwners.locks[operation.lock].heldUntil = max(
                token > known.token ? 0 : known.heldUntil, heldUntil)
        case (.take, .taken), (.release, .deleted), (.release, .taken), (.release, .notFound):
            if case .take = operation.kind { lockOwners.owners[i].token = nil }
        case (.write(let token), .written):
            let at = known.writes.firstIndex { $0.revision > answer.revision } ?? known.writes.count
            let isAfter = at == 0 || known.writes[at - 1].token <= token
            let isBefore = at == known.writes.count || known.writes[at].token >= token
            if !isAfter || !isBefore {
                return fail(
                    "writes under a lock go with its tokens",
                    "a write under \(token) at \(answer.revision) is out of order")
            }
            lockOwners.locks[operation.lock].writes.insert((answer.revision, token), at: at)
        case (.write(let token), .refused(.lockLost)):
            if known.holder == i, known.token == token, !known.mayBeFree, now < known.heldUntil {
                return fail("who holds a lock may write", "owner \(i) was refused under \(token), which it held")
            }
            if lockOwners.owners[i].token == token { lockOwners.owners[i].token = nil }
        default: fail("client protocol", "a lock's owner was answered \(answer)")
        }
    }
}
