import ClusterBase

/// What a leader knows of one member, itself included.
///
///     probe ──accepted──▶ replicate ──rejected, or no answer in time──▶ probe
///       └──next is behind the log's base──▶ snapshot ──sent, failed or caught up──▶ probe / replicate
struct Progress: Sendable {
    enum State: Equatable, Sendable {
        /// One append at a time, until the follower's log is known.
        case probe
        /// Appends go out without waiting, within the window.
        case replicate
        case snapshot
    }

    struct Inflight: Sendable {
        var last: LogIndex
        var bytes: Int
    }

    var member: Member
    var state: State = .probe
    /// Durable at the follower and equal to this log. Never falls within a term.
    var match: LogIndex = .zero {
        didSet { precondition(match >= oldValue, "invariant 23: the match of \(member.peer) fell to \(match)") }
    }
    var next: LogIndex
    var inflight = RingBuffer<Inflight>()
    var inflightBytes = 0
    var isProbeOutstanding = false
    var isFetching = false
    var commitSent: LogIndex = .zero
    var commitKnown: LogIndex = .zero
    /// When to repeat what got no answer; nil when nothing is owed.
    var retryAt: Instant?
    /// Doubles with every repetition up to 8, so that a slow link is not filled with copies.
    var retryFactor: Int64 = 1
    var heardAt: Instant
    var readRound: UInt64 = 0
    var caughtUpSince: Instant?

    init(member: Member, next: LogIndex, now: Instant) {
        self.member = member
        self.next = next
        self.heardAt = now
    }

    mutating func becomeProbe(next: LogIndex) {
        state = .probe
        self.next = max(next, match.next)
        clearWindow()
    }

    mutating func becomeReplicate() {
        state = .replicate
        next = match.next
        clearWindow()
    }

    mutating func becomeSnapshot() {
        state = .snapshot
        clearWindow()
        retryAt = nil
    }

    private mutating func clearWindow() {
        inflight.removeAll()
        inflightBytes = 0
        isProbeOutstanding = false
        isFetching = false
    }

    /// Takes in that everything up to `index` arrived. Returns whether that was news.
    mutating func accept(_ index: LogIndex) -> Bool {
        while let first = inflight.first, first.last <= index {
            inflightBytes -= first.bytes
            _ = inflight.popFirst()
        }
        guard index > match else { return false }
        match = index
        if next <= match { next = match.next }
        retryFactor = 1
        return true
    }

    func isWindowFull(_ settings: Settings) -> Bool {
        inflight.count >= settings.inflightMessagesMax
            || (!inflight.isEmpty && inflightBytes >= settings.inflightBytesMax)
    }
}
