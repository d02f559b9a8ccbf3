import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Reactor
import TLSSession

// Commands that this process sends of its own, or for people who gave no key: each has a number in this process's session with
// its group. One whose answer was lost is sent again and takes effect once; what came of it is kept only until then.
//
//     numbered ─▶ sent ─▶ answered ──────────────────────────────▶ settled, and its answer handed on
//                  ▲  │
//                  │  ├─▶ answer lost ─▶ the same again, a few times ─▶ given up: nobody knows
//                  │  ├─▶ refused, and not the first time ─▶ the same again after a pause: the session knows what came of it
//                  │  └─▶ session forgotten ─▶ another session ─┐ the first time only; a repetition may have run before
//                  └───────────────────────────────────────────┘

extension Agent {
    /// How long a command is sent again whose answer was lost.
    static let repeatPatience = Nanoseconds.seconds(15)
    static let repeatsMax = 4
    /// Before a command goes out again that nobody took, though it may have been carried out before.
    static let refusedPause = Nanoseconds.milliseconds(250)

    /// Has a cell carry out a command of this process's own.
    func sendOwn(_ command: CellCommand, to cell: GroupID, _ done: @escaping (ClientAnswer) -> Void) {
        sendOwn(
            cell,
            { origin in
                var own = command
                own.origin = origin
                // Before there are sessions a command that is sent on twice has an id to be known by.
                if origin == nil && own.request == nil { own.request = Crypto.randomBytes(CellLimits.requestBytes) }
                return own.encoded()
            }, done)
    }

    /// The same for the root.
    func sendOwn(_ command: RootCommand, _ done: @escaping (ClientAnswer) -> Void) {
        sendOwn(
            .root,
            { origin in
                var own = command
                own.origin = origin
                if origin == nil && own.request == nil { own.request = Crypto.randomBytes(RootLimits.requestBytes) }
                return own.encoded()
            }, done)
    }

    private func sendOwn(
        _ group: GroupID, _ encode: @escaping (CommandOrigin?) -> [UInt8], _ done: @escaping (ClientAnswer) -> Void
    ) {
        guard engine.levelOpen >= FeatureLevel.sessions else { return request(.command(group, encode(nil)), done) }
        begin(OwnCommand(group: group, encode: encode, until: loop.now + Agent.repeatPatience, done: done))
    }

    private struct OwnCommand {
        let group: GroupID
        let encode: (CommandOrigin?) -> [UInt8]
        let until: Instant
        let done: (ClientAnswer) -> Void
        var repeatsLeft = Agent.repeatsMax
        var isRepeat = false
    }

    private func begin(_ command: OwnCommand) {
        let group = command.group
        if commandSessions[group]?.isFull ?? true { openSession(with: group, born: .zero) }
        guard let origin = commandSessions[group]?.next() else { return command.done(.refused(.unavailable)) }
        send(command, command.encode(origin), origin)
    }

    private func openSession(with group: GroupID, born: LogIndex) {
        let mark = Crypto.randomBytes(8).reduce(0) { $0 << 8 | UInt64($1) }
        commandSessions[group] = CommandSession(
            CommandOrigin.Session(node: node.rawValue, mark: mark),
            born: max(born, commandSessions[group]?.born ?? .zero))
    }

    private func send(_ command: OwnCommand, _ bytes: [UInt8], _ origin: CommandOrigin) {
        request(.command(command.group, bytes)) { [self] answer in
            let verdict = SessionVerdict(answer)
            if case .unknown = verdict, command.repeatsLeft > 0, loop.now < command.until {
                var again = command
                again.repeatsLeft -= 1
                again.isRepeat = true
                return send(again, bytes, origin)
            }
            if case .refused = verdict, command.isRepeat, loop.now + Agent.refusedPause < command.until {
                _ = loop.setTimer(
                    after: Agent.refusedPause, Later { [self] in send(command, bytes, origin) }, tag: 0)
                return
            }
            commandSessions[command.group]?.settle(origin)
            switch verdict {
            case .answered: command.done(answer)
            case .unknown: command.done(.unknown)
            // It had no effect now; of the first time nobody knows.
            case .refused: command.done(command.isRepeat ? .unknown : answer)
            case .unheard where !command.isRepeat: request(.command(command.group, command.encode(nil)), command.done)
            case .forgotten(let born):
                if commandSessions[command.group]?.id == origin.session { openSession(with: command.group, born: born) }
                if command.isRepeat || command.repeatsLeft == 0 { return command.done(.unknown) }
                var again = command
                again.repeatsLeft -= 1
                begin(again)
            case .unheard: command.done(.unknown)
            }
        }
    }
}

/// What an answer says of a command of a session.
private enum SessionVerdict {
    case answered
    /// It was not taken up.
    case refused
    case unknown
    case forgotten(LogIndex)
    /// The leader has not heard that there are sessions.
    case unheard

    init(_ answer: ClientAnswer) {
        switch answer {
        case .applied(.cell(let result)):
            switch result.outcome {
            case .refused(.sessionUnknown(let born)): self = .forgotten(born)
            case .refused(.commandSettled): self = .unknown
            case .refused(.malformed): self = .unheard
            default: self = .answered
            }
        case .applied(.root(let result)):
            switch result.outcome {
            case .refused(.sessionUnknown(let born)): self = .forgotten(born)
            case .refused(.commandSettled): self = .unknown
            case .refused(.malformed): self = .unheard
            default: self = .answered
            }
        case .refused: self = .refused
        case .unknown: self = .unknown
        case .applied, .read, .accepted: self = .answered
        }
    }
}

/// Does something when a timer fires.
final class Later: TimerHandler {
    private let body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }
    func timerFired(_ tag: Int) { body() }
}
