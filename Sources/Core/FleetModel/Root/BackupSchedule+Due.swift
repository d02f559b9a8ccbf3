internal import ClusterBase

extension BackupSchedule {
    /// A failed backup is tried again after so many milliseconds, or after the interval if that is shorter.
    package static let retryAfter: UInt64 = 5 * 60_000
    private static let latenessMin: UInt64 = 10 * 60_000

    /// When the next one is to begin; at once when there was none yet.
    package var dueAt: LogTime {
        if finishedAt == .zero { return .zero }
        return finishedAt.advanced(by: finishedAt > succeededAt ? min(interval, Self.retryAfter) : interval)
    }

    /// Whether it looks as if nobody took its backups: for a quarter of its interval, and ten minutes at least, none has ended
    /// since one was due, be it well or badly. One that never ran is due since it was set, or as far as `knownSince` tells.
    package func isOverdue(at now: LogTime, knownSince: LogTime) -> Bool {
        let due = finishedAt == .zero ? knownSince : dueAt
        return due.advanced(by: max(interval / 4, Self.latenessMin)) <= now
    }
}
