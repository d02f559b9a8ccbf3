import AdminAPI
import AdminHTTP
import ClusterBase
import CommandSyntax
import FleetModel
import Glibc
import Reactor
import TLSSession
import Terminal

// `muster lock`.

extension ClientCommands {
    private var lease: Nanoseconds { invocation.duration("lease") ?? .seconds(15) }

    func runLocks() throws -> ExitCode {
        let space = word("SPACE")
        switch invocation.path {
        case "lock take":
            let owner = word(option: "owner")
            return try show(take(space, word("LOCK"), owner))
        case "lock release":
            let token = invocation.integer("if-token").map { Revision(UInt64($0)) }
            let command = SpaceCommand(.release(lock: word("LOCK"), owner: word(option: "owner"), token: token))
            return try show(.write(space: space, command))
        case "lock show": return try show(.lock(space: space, name: word("LOCK"), .linearizable))
        case "lock list": return try listLocks(space)
        default: return try runLocked(space)
        }
    }

    private func word(option name: String) -> String { invocation.text(name) ?? "" }

    private func listLocks(_ space: String) throws -> ExitCode {
        var found: [SpaceLock] = []
        var after: String?
        repeat {
            let answer = try ask(
                .locks(space: space, prefix: word(option: "prefix"), after: after, limit: 1_000, .linearizable))
            guard answer.isSuccess else { return try show(answer) }
            let page = try LockPage(body: answer.body[...])
            found += page.items.map(\.lock)
            after = page.next
        } while after != nil
        return ClientCommands.present(JSONValue.object(LockPage(found, next: nil).members).bytes, invocation)
    }

    private func acquire(_ space: String, _ lock: String, _ owner: String) throws -> AdminAnswer {
        try ask(.write(space: space, SpaceCommand(.acquire(lock: lock, owner: owner, lease: lease))))
    }

    /// Tries as long as it is to be waited for. Whether the lock is free is asked without an entry in anybody's log.
    private func take(_ space: String, _ lock: String, _ owner: String) throws -> AdminAnswer {
        let end = SystemClock.now + (invocation.duration("wait") ?? .zero)
        while true {
            let answer = try acquire(space, lock, owner)
            guard answer.problem?.kind == .conflict, SystemClock.now < end else { return answer }
            repeat {
                usleep(200_000 + UInt32(Crypto.randomBytes(1)[0]) * 400)
            } while try SystemClock.now < end && ask(.lock(space: space, name: lock, .linearizable)).isSuccess
        }
    }

    // MARK: Running a command under a lock

    private func runLocked(_ space: String) throws -> ExitCode {
        let lock = try name("LOCK")
        let random = Crypto.randomBytes(8).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        let owner = "\(NodeCommands.hostName)-\(getpid())-\(random)"
        var asked = SystemClock.now
        var answer = try take(space, lock, owner)
        if invocation.has("wait"), answer.isSuccess {
            // It may have been waited for: the lease counts from the last question that was answered.
            asked = SystemClock.now
            answer = try acquire(space, lock, owner)
        }
        guard answer.isSuccess else { return try show(answer) }
        let token = Revision(try LockHeld(body: answer.body[...]).token)
        let release = SpaceCommand(.release(lock: lock, owner: owner, token: token))
        let run: LockedRun
        do {
            run = try LockedRun(
                Array(invocation.arguments.dropFirst(2)),
                [
                    "MUSTER_LOCK_TOKEN=\(token.rawValue)", "MUSTER_LOCK_FENCE=\(SpaceFence(lock, token).text)",
                    "MUSTER_LOCK_OWNER=\(owner)",
                ], lease: lease, heldSince: asked)
        } catch {
            _ = try ask(.write(space: space, release))
            throw error
        }
        let status = run.wait {
            // Where nobody answers it is tried again, until the lease is over.
            guard let renewed = try? acquire(space, lock, owner) else { return nil }
            // An answer that can't be read says nothing of the lock.
            guard renewed.isSuccess, let held = try? LockHeld(body: renewed.body[...]) else {
                return renewed.problem?.kind == .conflict || renewed.problem?.kind == .spaceNotFound ? false : nil
            }
            // Under another token it was free in between, and somebody else may have had it.
            return held.token == token.rawValue
        }
        if run.hasLost {
            Console.complain("muster: The lock \(lock) was lost, and the command was ended.")
            return .refused
        }
        // Where this does not arrive the lease ends it.
        _ = try? ask(.write(space: space, release))
        exit(status & 0x7F != 0 ? 128 + status & 0x7F : status >> 8 & 0xFF)
    }
}

/// A child that runs while a lock is held.
final class LockedRun {
    private let lease: Nanoseconds
    private var waited: sigset_t
    private let watchdog: LockWatchdog

    var hasLost: Bool { watchdog.hasEnded }

    /// Signals are waited for, not handled, so that none is lost; the child gets the mask of before. `heldSince`: when what the
    /// holding rests on was sent.
    init(_ words: [String], _ variables: [String], lease: Nanoseconds, heldSince: Instant) throws {
        var (before, waited) = (sigset_t(), sigset_t())
        sigemptyset(&waited)
        for number in [SIGTERM, SIGINT, SIGCHLD] { sigaddset(&waited, number) }
        sigprocmask(SIG_BLOCK, &waited, &before)
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
        arguments.append(nil)
        var all: [UnsafeMutablePointer<CChar>?] = variables.map { strdup($0) }
        var own = environ
        while let entry = own.pointee {
            all.append(strdup(entry))
            own += 1
        }
        all.append(nil)
        defer { for word in arguments + all { free(word) } }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        posix_spawnattr_setsigmask(&attributes, &before)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var child: pid_t = 0
        let result = posix_spawnp(&child, words.first ?? "", nil, &attributes, arguments, all)
        guard result == 0 else {
            throw UsageMistake("Can't run \(words.first ?? ""): \(String(cString: strerror(result))).")
        }
        (self.lease, self.waited) = (lease, waited)
        watchdog = try LockWatchdog(child, until: heldSince + LockedRun.trusted(lease))
    }

    /// A twentieth less: this host's clock and the leader's may differ in their rates.
    private static func trusted(_ lease: Nanoseconds) -> Nanoseconds { lease - Nanoseconds(lease.count / 20) }

    /// The status that the child ended with. `renew` says whether the lock is held still; nil where nobody knows.
    func wait(renew: () -> Bool?) -> CInt {
        let third = Nanoseconds(lease.count / 3)
        var renewAt = SystemClock.now + third
        while true {
            if let status = watchdog.reap() { return status }
            let now = SystemClock.now
            if now >= renewAt, !watchdog.hasEnded {
                switch renew() {
                case true?: watchdog.trust(until: now + LockedRun.trusted(lease))
                case false?: watchdog.trust(until: now)
                case nil: break
                }
                renewAt = max(SystemClock.now + .milliseconds(200), now + third)
            }
            let pause = max(min(renewAt - SystemClock.now, .milliseconds(500)), .milliseconds(1))
            var limit = timespec(tv_sec: 0, tv_nsec: Int(pause.count))
            // A terminal's Ctrl-C comes to both.
            if sigtimedwait(&waited, nil, &limit) == SIGTERM { watchdog.send(SIGTERM) }
        }
    }
}

/// Ends a child when its time is over, whatever else its parent waits for: SIGTERM, and SIGKILL after 5 s.
final class LockWatchdog: Sendable {
    private struct State {
        var until: Instant
        var hasEnded = false
        var isOver = false
    }
    private let child: pid_t
    private let state: Guarded<State>
    private static let grace = Nanoseconds.seconds(5)

    var hasEnded: Bool { state.withLock { $0.hasEnded } }

    init(_ child: pid_t, until: Instant) throws(SystemError) {
        self.child = child
        state = Guarded(State(until: until))
        _ = try WorkerThread("lock watchdog") { [self] in
            while tend() { usleep(20_000) }
        }
    }

    /// Too late for a child that was told to end: what it was told stands.
    func trust(until: Instant) {
        state.withLock { state in
            if !state.hasEnded { state.until = until }
        }
    }

    /// The status that the child ended with, if it has. Its number may be another's afterwards, which nobody here sends a signal.
    func reap() -> CInt? {
        state.withLock { state in
            var status: CInt = 0
            guard waitpid(child, &status, WNOHANG) == child else { return nil }
            state.isOver = true
            return status
        }
    }

    func send(_ signal: CInt) {
        state.withLock { state in
            if !state.isOver { kill(child, signal) }
        }
    }

    private func tend() -> Bool {
        state.withLock { state in
            if state.isOver { return false }
            guard SystemClock.now >= state.until else { return true }
            kill(child, state.hasEnded ? SIGKILL : SIGTERM)
            state.until = SystemClock.now + LockWatchdog.grace
            state.hasEnded = true
            return true
        }
    }
}
