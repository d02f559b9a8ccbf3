import ClusterBase
import Controllers
import FleetModel
import RaftCore
import Testing

/// What the loss of a zone or a region would cost a cell, and which promises that breaks.
@Suite struct CellExposureTests {
    private typealias Replica = CellExposure.Replica
    private static let now = Instant(nanoseconds: 1_000_000_000_000)

    private func at(
        _ region: String, _ zone: String, _ match: UInt64, _ role: Role = .voter, silent: Bool = false
    ) -> Replica {
        Replica(
            name: "n-\(region)\(zone)", place: Locality(region: region, zone: zone), role: role,
            match: LogIndex(match), isSilent: silent)
    }

    private func at(_ region: String, _ match: UInt64, silent: Bool = false) -> Replica {
        at(region, "", match, silent: silent)
    }

    /// Entries up to 40 were committed long ago, those up to 100 in the last 8 s.
    private var times: CommitTimes {
        var times = CommitTimes(LogIndex(40), now: Self.now - .seconds(60))
        times.note(LogIndex(40), least: .zero, now: Self.now - .seconds(8))
        times.note(LogIndex(70), least: .zero, now: Self.now - .seconds(3))
        times.note(LogIndex(100), least: .zero, now: Self.now)
        return times
    }

    private func exposure(_ replicas: [Replica]) -> CellExposure {
        CellExposure(replicas, commit: LogIndex(100), times: times, now: Self.now)
    }

    private func region(_ name: String, _ replicas: [Replica]) throws -> CellExposure.Loss {
        try #require(exposure(replicas).losses.first { $0.scope == .region && $0.region == name })
    }

    @Test func `with three voters in three regions a lagging one costs time and no data, whichever is lost`() throws {
        let replicas = [at("a", 100), at("b", 100), at("c", 40)]
        for lost in ["a", "b"] {
            let loss = try region(lost, replicas)
            #expect(loss.isCovered && loss.entries == 0 && loss.lag == .zero && loss.goesOn)
            #expect(loss.catchUp == 60, "the lagging one has to catch up before writes go on")
        }
        let other = try region("c", replicas)
        #expect(other.isCovered && other.entries == 0 && other.catchUp == 0 && other.goesOn)
        let promise = CellPromise(rpoRegion: .zero, survives: .region)
        #expect(exposure(replicas).risks(promise).isEmpty)
    }

    @Test func `a voter that does not answer breaks no promise about data, and that of going on`() throws {
        let replicas = [at("a", 100), at("b", 100), at("c", 40, silent: true)]
        let loss = try region("a", replicas)
        #expect(loss.isCovered && loss.entries == 0 && !loss.goesOn && loss.elsewhere == 1)
        #expect(try region("c", replicas).goesOn)
        let found = exposure(replicas).risks(CellPromise(rpoZone: .zero, rpoRegion: .zero, survives: .region))
        // No node names a zone, so that of a zone's loss nothing can be promised.
        #expect(found.map(\.kind) == [.rpoZone, .survival])
        #expect(found.last?.text.contains("without region a") == true, "\(found)")
    }

    @Test func `a majority in one region acknowledges what is nowhere else, by as much as the one elsewhere lags`()
        throws
    {
        let replicas = [at("a", "1", 100), at("a", "2", 100), at("b", "3", 70)]
        let loss = try region("a", replicas)
        #expect(!loss.isCovered && loss.entries == 30 && !loss.goesOn && loss.best == "n-b3")
        #expect(loss.lag == .seconds(3), "entry 71 was not there at the look 3 s ago")
        let all = exposure(replicas)
        #expect(
            all.losses.map(\.place).prefix(3) == ["zone 1 of region a", "zone 2 of region a", "zone 3 of region b"])
        #expect(all.losses.filter { $0.scope == .zone }.allSatisfy { $0.isCovered && $0.entries == 0 && $0.goesOn })
        #expect(all.risks(CellPromise(rpoZone: .zero)).isEmpty)
        #expect(all.risks(CellPromise(rpoRegion: .seconds(3))).isEmpty)
        let late = all.risks(CellPromise(rpoRegion: .seconds(2)))
        #expect(late.map(\.kind) == [.rpoRegion])
        #expect(late[0].text.contains("last 3.0 s could be lost, 30 entries") && late[0].text.contains("2s"), "\(late)")
        // Nothing lags, and yet nobody elsewhere is waited for: that is no promise of zero.
        let level = exposure([at("a", "1", 100), at("a", "2", 100), at("b", "3", 100)])
        #expect(level.risks(CellPromise(rpoRegion: .zero)).map(\.kind) == [.rpoRegion])
        #expect(level.risks(CellPromise(rpoRegion: .milliseconds(1))).isEmpty)
    }

    @Test func `where nobody elsewhere answers everything is lost, and a learner elsewhere holds what it has`() throws {
        let alone = [at("a", "1", 100), at("a", "2", 100), at("b", "3", 100, silent: true)]
        #expect(try region("a", alone).entries == nil)
        let found = exposure(alone).risks(CellPromise(rpoRegion: .seconds(3_600)))
        #expect(found.map(\.kind) == [.rpoRegion] && found[0].text.contains("all that was acknowledged"), "\(found)")
        let learner = [at("a", "1", 100), at("a", "2", 100), at("a", "3", 90), at("b", "4", 95, .learner)]
        let loss = try region("a", learner)
        #expect(loss.entries == 5 && !loss.isCovered && !loss.goesOn && loss.elsewhere == 1)
        #expect(try region("b", learner).isCovered, "a learner counts for no majority")
    }

    @Test func `while voters change both halves are asked: one that has its majority elsewhere is enough`() throws {
        let entering = [
            at("a", "1", 100), at("a", "2", 100, .leaving), at("b", "3", 100), at("b", "4", 100, .entering),
        ]
        // Old: a1, a2, b3. New: a1, b3, b4.
        let lost = try region("a", entering)
        #expect(lost.isCovered && !lost.goesOn, "the old half's majority is there, the new half's is not")
        let other = try region("b", entering)
        #expect(other.isCovered && !other.goesOn)
    }

    @Test func `an age is never told too short, and the times that are kept have a bound`() {
        var times = CommitTimes(.zero, now: Self.now)
        for second in 1...1_000 as ClosedRange<UInt64> {
            times.note(LogIndex(second * 10), least: .zero, now: Self.now + .seconds(Int64(second)))
        }
        let now = Self.now + .seconds(1_000)
        for match in stride(from: 0, to: 10_000, by: 37) as StrideTo<UInt64> {
            // Entry e was committed within the second e / 10, rounded up.
            let truth = Nanoseconds.seconds(1_000 - Int64((match + 10) / 10))
            let told = times.age(after: LogIndex(match), upTo: LogIndex(10_000), now)
            #expect(told >= truth && told <= truth + truth / 8 + .seconds(2), "\(match): \(told), \(truth)")
        }
        #expect(times.age(after: LogIndex(10_000), upTo: LogIndex(10_000), now) == .zero)
        times.note(LogIndex(10_000), least: LogIndex(9_995), now: now)
        #expect(times.age(after: LogIndex(9_995), upTo: LogIndex(10_000), now) == .seconds(1))
    }

    @Test func `a promise that is broken for a moment is told to nobody, nor is one that is kept for a moment`() {
        var watch = CellRiskWatch()
        let found = [CellRiskWatch.Found(.rpoRegion, "why")]
        var now = Self.now
        var changes: [CellRiskWatch.Change] = []
        func look(_ found: [CellRiskWatch.Found], seconds: Int) {
            for _ in 0..<seconds {
                now += .seconds(1)
                changes += watch.look(found, time: LogTime(5), now: now)
            }
        }
        look(found, seconds: 5)
        look([], seconds: 1)
        look(found, seconds: 5)
        #expect(changes.isEmpty && watch.told.isEmpty && watch.isTurning)
        look(found, seconds: 1)
        #expect(changes.map(\.isOver) == [false] && changes.map(\.text) == ["why"] && !watch.isTurning)
        look([], seconds: 15)
        look(found, seconds: 1)
        look([], seconds: 15)
        #expect(changes.count == 1 && watch.told == [CellRisk(.rpoRegion, since: LogTime(5), "why")])
        look([], seconds: 1)
        #expect(changes.map(\.isOver) == [false, true] && watch.told.isEmpty)
        // A leader that comes later says nothing again.
        var next = CellRiskWatch(told: [CellRisk(.survival, since: LogTime(1), "before")])
        #expect(next.look([CellRiskWatch.Found(.survival, "now")], time: LogTime(9), now: now).isEmpty)
        #expect(next.told == [CellRisk(.survival, since: LogTime(1), "now")])
    }

    @Test func `what is promised follows from what the cell survives, unless it is set`() throws {
        let world = CellWorld()
        world.level = FeatureLevel.newest
        func promise(_ survives: RootCell.Survival?) throws -> CellPromise {
            CellPromise(try world.view(), survives: survives)
        }
        #expect(try promise(nil) == CellPromise())
        #expect(try promise(.zone) == CellPromise(rpoZone: .zero, survives: .zone))
        #expect(try promise(.region) == CellPromise(rpoZone: .zero, rpoRegion: .zero, survives: .region))
        try world.apply(.setSetting(.rpoRegion, Objective.within(.seconds(5)).value))
        try world.apply(.setSetting(.rpoZone, Objective.none.value))
        #expect(try promise(.zone) == CellPromise(rpoRegion: .seconds(5), survives: .zone))
        #expect(try promise(.region).rpoRegion == .seconds(5))
    }
}
