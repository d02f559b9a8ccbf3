import ClusterBase
import Controllers
import FleetModel
import Testing

@Suite struct LockWatchTests {
    private func lock(_ name: String, renewed: UInt64, lease: Nanoseconds = .seconds(5)) -> SpaceLock {
        SpaceLock(name: name, owner: "me", token: Revision(1), renewed: Revision(renewed), lease: lease)
    }
    private func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

    @Test func `a lease is over so long after its renewal was heard of, not before, and said again until it is`() {
        var watch = LockWatch()
        let held = [lock("a", renewed: 3), lock("b", renewed: 4, lease: .seconds(2))]
        watch.take(held, now: at(1_000))
        #expect(watch.through == Revision(4) && watch.deadline == at(3_000))
        func current(_ name: String) -> SpaceLock? { held.first { $0.name == name } }
        #expect(watch.due(at(2_999), current).isEmpty)
        #expect(watch.due(at(3_000), current) == [.expire(lock: "b", renewed: Revision(4))])
        #expect(watch.due(at(3_500), current).isEmpty)
        #expect(watch.due(at(4_000), current) == [.expire(lock: "b", renewed: Revision(4))])
        #expect(watch.due(at(6_000)) { $0 == "a" ? held[0] : nil } == [.expire(lock: "a", renewed: Revision(3))])
        #expect(watch.count == 1)
    }

    @Test func `a renewal begins the lease anew, and one that is heard of late harms nothing`() {
        var watch = LockWatch()
        watch.take([lock("a", renewed: 3)], now: at(0))
        watch.take([lock("a", renewed: 9)], now: at(4_000))
        #expect(watch.due(at(5_000)) { _ in self.lock("a", renewed: 9) }.isEmpty)
        // The state knows of a renewal that did not come here yet: its lease is counted from now.
        #expect(watch.due(at(9_000)) { _ in self.lock("a", renewed: 12) }.isEmpty)
        #expect(watch.due(at(13_999)) { _ in self.lock("a", renewed: 12) }.isEmpty)
        let said = watch.due(at(14_000)) { _ in self.lock("a", renewed: 12) }
        #expect(said == [.expire(lock: "a", renewed: Revision(12))])
        #expect(watch.due(at(20_000)) { _ in nil }.isEmpty && watch.count == 0)
        #expect(watch.deadline == Instant(nanoseconds: .max))
    }
}
