import ClusterBase
import FleetModel
import Testing

/// When a schedule's backups are due, and when it looks as if nobody took them.
@Suite struct BackupDueTests {
    static let minute: UInt64 = 60_000

    func schedule(every minutes: UInt64, finished: UInt64 = 0, succeeded: UInt64 = 0) -> BackupSchedule {
        BackupSchedule(
            name: "b", interval: minutes * Self.minute, keep: 1, destination: "/b", keyName: "/k",
            finishedAt: LogTime(finished * Self.minute), succeededAt: LogTime(succeeded * Self.minute))
    }

    func at(_ minutes: UInt64) -> LogTime { LogTime(minutes * Self.minute) }

    @Test func `the first is due at once, the next after the interval, and after a failure soon`() {
        #expect(schedule(every: 60).dueAt == .zero)
        #expect(schedule(every: 60, finished: 100, succeeded: 100).dueAt == at(160))
        #expect(schedule(every: 60, finished: 100, succeeded: 40).dueAt == at(105))
        #expect(schedule(every: 2, finished: 100, succeeded: 40).dueAt == at(102))
    }

    @Test func `one that none has ended of for too long after it was due is overdue`() {
        let hourly = schedule(every: 60, finished: 100, succeeded: 100)
        #expect(!hourly.isOverdue(at: at(174), knownSince: at(0)))
        #expect(hourly.isOverdue(at: at(175), knownSince: at(0)))
        // Ten minutes of patience at least, and a quarter of a long interval.
        let often = schedule(every: 5, finished: 100, succeeded: 100)
        #expect(!often.isOverdue(at: at(114), knownSince: at(0)) && often.isOverdue(at: at(115), knownSince: at(0)))
        let daily = schedule(every: 1_440, finished: 100, succeeded: 100)
        #expect(!daily.isOverdue(at: at(1_899), knownSince: at(0)) && daily.isOverdue(at: at(1_900), knownSince: at(0)))
    }

    @Test func `failures that are told are not silence, and one that never ran is late since it is known`() {
        #expect(!schedule(every: 60, finished: 100, succeeded: 40).isOverdue(at: at(119), knownSince: at(0)))
        #expect(schedule(every: 60, finished: 100, succeeded: 40).isOverdue(at: at(120), knownSince: at(0)))
        #expect(!schedule(every: 60).isOverdue(at: at(1_014), knownSince: at(1_000)))
        #expect(schedule(every: 60).isOverdue(at: at(1_015), knownSince: at(1_000)))
    }
}
