package import ClusterBase

/// Which of a process's commands one is: so it takes effect once, however often it comes, and leaves nothing behind for
/// longer than its answer needs.
package struct CommandOrigin: Hashable, Sendable {
    /// One of a process's sessions with a group. The mark is drawn anew for each, so that no other process, and none that
    /// began from a backup, is taken for it.
    package struct Session: Hashable, Comparable, Sendable {
        package var node: UInt64
        package var mark: UInt64
        package init(node: UInt64, mark: UInt64) {
            self.node = node
            self.mark = mark
        }
        package static func < (a: Session, b: Session) -> Bool { (a.node, a.mark) < (b.node, b.mark) }
    }

    package var session: Session
    /// From 1.
    package var sequence: UInt64
    /// All of the session's commands up to this one are settled: nobody asks for them again.
    package var settled: UInt64
    /// An index of the group's log that was applied before the session's first command was sent; 0 for none that is known.
    package var born: LogIndex
    package init(session: Session, sequence: UInt64, settled: UInt64, born: LogIndex) {
        self.session = session
        self.sequence = sequence
        self.settled = settled
        self.born = born
    }
}

/// The bounds of sessions, all of them part of what groups do: changing one needs a new pack version.
package enum SessionLimits {
    package static let sessionsMax: UInt64 = 4_096
    /// Results that are kept for one session: those of its last commands that may be asked for again.
    package static let window: UInt64 = 4_096
    /// Results that are kept for all.
    package static let resultsMax: UInt64 = 262_144
    /// Bytes of the results of one session, of which the oldest are given up then, and of all.
    package static let sessionBytesMax: UInt64 = 4 << 20
    package static let bytesMax: UInt64 = 64 << 20
    /// How long results are kept after the last command of their session, in milliseconds, and how often one looks: a process
    /// sends none again after seconds.
    package static let resultLifetime: UInt64 = 300_000
    package static let sweepInterval: UInt64 = 60_000
    /// How long a session is known after its last command, in milliseconds.
    package static let lifetime: UInt64 = 3_600_000
    /// Sessions that one command forgets because they are old.
    package static let forgottenMax = 4
}

/// A process's side of a session: numbers its commands, and knows which are settled.
package struct CommandSession: Sendable {
    package let id: CommandOrigin.Session
    package let born: LogIndex
    private var last: UInt64 = 0
    private var settled: UInt64 = 0
    /// Those above `settled` that are settled, too.
    // hash order: looked up only
    private var early: Set<UInt64> = []

    package init(_ id: CommandOrigin.Session, born: LogIndex = .zero) {
        self.id = id
        self.born = born
    }

    /// No more of its commands may be under way: the group would drop results that may be asked for. Another session is
    /// opened then.
    package var isFull: Bool { last - settled >= SessionLimits.window }

    package mutating func next() -> CommandOrigin {
        precondition(!isFull, "\(last - settled) commands of a session are under way")
        last += 1
        return CommandOrigin(session: id, sequence: last, settled: settled, born: born)
    }

    /// The command was answered, or is given up. What is of another session is nothing to this one.
    package mutating func settle(_ origin: CommandOrigin) {
        guard origin.session == id, origin.sequence > settled else { return }
        early.insert(origin.sequence)
        while early.remove(settled + 1) != nil { settled += 1 }
    }
}
