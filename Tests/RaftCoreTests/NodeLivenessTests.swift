import ClusterBase
import Testing

@testable import RaftCore

private let one = NodeID(1)
private let two = NodeID(2)
private let quiet = Pulses()

private func ms(_ n: Int64) -> Nanoseconds { .milliseconds(n) }
private func at(_ n: Int64) -> Instant { .origin + .milliseconds(n) }

/// Node 1 under test, with node 2's beats made by hand.
private struct Bench {
    var node: NodeLiveness
    var effects = LivenessEffects()
    var sequence: UInt64 = 0
    var peerIncarnation = Incarnation(7)

    init(_ settings: LivenessSettings = LivenessSettings(), peers: [NodeID] = [two]) {
        node = NodeLiveness(node: one, incarnation: Incarnation(3), settings: settings, now: .origin)
        for peer in peers { #expect(node.track(peer, now: .origin) == true) }
    }

    mutating func events() -> [LivenessEvent] {
        defer { effects.events.removeAll() }
        return effects.events
    }

    mutating func tick(_ now: Int64, _ pulses: Pulses = quiet) {
        node.tick(now: at(now), pulses: pulses, into: &effects)
    }

    /// Ticks at every deadline up to `now`, as a caller must.
    mutating func run(to now: Int64) {
        while node.deadline <= at(now) { node.tick(now: node.deadline, pulses: quiet, into: &effects) }
    }

    mutating func hear(_ now: Int64, from peer: NodeID = two, _ change: (inout Beat) -> Void = { _ in }) {
        sequence += 1
        var beat = Beat(incarnation: peerIncarnation, sequence: sequence, sentAt: at(900_000 + now))
        change(&beat)
        node.received(beat, from: peer, now: at(now), into: &effects)
    }

    /// The newest beat, echoed by the peer as if the path had taken `roundTrip` and the peer had kept it for `held`.
    mutating func echo(_ now: Int64, roundTrip: Int64, held: Int64 = 0) {
        let sent = effects.beats.last
        hear(now) {
            $0.echo = Beat.Echo(
                incarnation: Incarnation(3), sequence: sent?.beat.sequence ?? 0, sentAt: at(now - roundTrip - held),
                heldFor: ms(held))
        }
    }

    /// Regular beats every 15 ms with a near round trip, from `start` up to and with `end`.
    mutating func healthy(from start: Int64, to end: Int64) {
        var now = start
        while now <= end {
            run(to: now)
            if now == start { tick(now) }
            echo(now, roundTrip: 1)
            now += 15
        }
    }
}

struct NodeLivenessTests {
    // MARK: Life and death

    @Test func `a peer is not alive before its first beat`() {
        var bench = Bench()
        #expect(!bench.node.isAlive(two))
        bench.hear(1)
        #expect(bench.node.isAlive(two))
        #expect(bench.events() == [.nodeAlive(two)])
    }

    @Test func `a peer that never beats is reported once, after the longest timeout`() {
        var bench = Bench()
        bench.run(to: 1_999)
        #expect(bench.events() == [])
        bench.run(to: 5_000)
        #expect(bench.events() == [.nodeSuspected(two, .neverHeard)])
    }

    @Test func `a silent peer is suspected after the floor and alive again with its next beat`() {
        var bench = Bench()
        bench.healthy(from: 0, to: 3_000)
        #expect(bench.node.suspicionTimeout(two) == ms(50))
        _ = bench.events()
        bench.run(to: 3_049)
        #expect(bench.events() == [])
        bench.run(to: 3_050)
        #expect(bench.events() == [.nodeSuspected(two, .silence)])
        #expect(!bench.node.isAlive(two))
        bench.hear(3_060)
        #expect(bench.events() == [.nodeAlive(two)])
    }

    @Test func `what a peer sends ahead of its beats breaks its silence, if this process of it sends it`() {
        var bench = Bench()
        bench.healthy(from: 0, to: 3_000)
        _ = bench.events()
        // A long queue of appends on a slow link: for two seconds no beat comes to its turn.
        for now in stride(from: Int64(3_040), to: 5_000, by: 40) {
            bench.run(to: now)
            bench.node.sawSign(of: two, bench.peerIncarnation, now: at(now))
        }
        #expect(bench.events() == [])
        // What it measured is the beats' alone, and a sign of another process says nothing of this one.
        #expect(bench.node.suspicionTimeout(two) == ms(50))
        bench.run(to: 5_009)
        bench.node.sawSign(of: two, Incarnation(6), now: at(5_009))
        bench.run(to: 5_010)
        #expect(bench.events() == [.nodeSuspected(two, .silence)])
        // Nor does any make it alive again: only a beat says what it leads.
        bench.node.sawSign(of: two, bench.peerIncarnation, now: at(5_011))
        #expect(bench.events() == [] && !bench.node.isAlive(two))
    }

    @Test func `a beat goes to every tracked peer every 15 ms and to no other`() {
        var bench = Bench(peers: [two, NodeID(5), NodeID(4)])
        #expect(bench.node.track(two, now: .origin) == true)
        bench.run(to: 150)
        #expect(bench.effects.beats.count == 33)
        #expect(bench.effects.beats.prefix(3).map(\.to) == [two, NodeID(4), NodeID(5)])
        bench.node.untrack(NodeID(4))
        bench.effects.removeAll()
        bench.run(to: 165)
        #expect(bench.effects.beats.map(\.to) == [two, NodeID(5)])
        bench.node.untrack(two)
        bench.node.untrack(NodeID(5))
        #expect(bench.node.deadline == Instant(nanoseconds: .max))
        bench.tick(10_000)
        #expect(bench.node.counters.ownPauses == 0)
    }

    @Test func `a peer that was forgotten and is tracked again gets beats with higher numbers`() {
        var bench = Bench(peers: [two])
        bench.run(to: 150)
        let before = bench.effects.beats.map(\.beat.sequence).max() ?? 0
        #expect(before > 5)
        bench.node.untrack(two)
        bench.effects.removeAll()
        #expect(bench.node.track(two, now: Instant(nanoseconds: 150_000_000)) == true)
        bench.run(to: 300)
        let after = bench.effects.beats.map(\.beat.sequence)
        #expect(after.min().map { $0 > before } == true, "its peer would pass over \(after)")
    }

    @Test func `one peer more than the bound is refused and changes nothing`() {
        var settings = LivenessSettings()
        settings.peersMax = 2
        var bench = Bench(settings, peers: [two, NodeID(3)])
        #expect(bench.node.track(NodeID(4), now: .origin) == false)
        #expect(bench.node.peerCount == 2)
        #expect(!bench.node.isAlive(NodeID(4)))
        bench.node.untrack(two)
        #expect(bench.node.track(NodeID(4), now: .origin) == true)
    }

    @Test func `a beat of a node that is not tracked is counted and makes nothing alive`() {
        var bench = Bench()
        bench.hear(1, from: NodeID(9))
        #expect(bench.effects.isEmpty)
        #expect(bench.node.counters.beatsOfStrangers == 1)
    }

    // MARK: Links

    @Test func `a refused connection is a verdict at once`() {
        var bench = Bench()
        bench.healthy(from: 0, to: 300)
        _ = bench.events()
        bench.node.linkBroken(two, .refused, now: at(301), into: &bench.effects)
        bench.node.linkBroken(two, .refused, now: at(302), into: &bench.effects)
        #expect(bench.events() == [.nodeSuspected(two, .linkRefused)])
    }

    @Test func `a closed connection that does not come back is a verdict after its grace`() {
        var bench = Bench()
        bench.healthy(from: 0, to: 300)
        _ = bench.events()
        bench.node.linkBroken(two, .closed, now: at(301), into: &bench.effects)
        bench.run(to: 315)
        #expect(bench.events() == [])
        bench.run(to: 316)
        #expect(bench.events() == [.nodeSuspected(two, .linkClosed)])
        bench.node.linkUp(two, now: at(317))
        #expect(!bench.node.isAlive(two))
    }

    @Test(arguments: [true, false])
    func `a beat or a new connection takes a closed one back`(byBeat: Bool) {
        var bench = Bench()
        bench.healthy(from: 0, to: 300)
        _ = bench.events()
        bench.node.linkBroken(two, .closed, now: at(301), into: &bench.effects)
        if byBeat { bench.hear(305) } else { bench.node.linkUp(two, now: at(305)) }
        bench.run(to: 349)
        #expect(bench.events() == [])
        #expect(bench.node.isAlive(two))
        bench.run(to: 1_000)
        #expect(bench.events() == [.nodeSuspected(two, .silence)])
    }

    @Test func `the time a connection was gone is no beat interval`() {
        var bench = Bench()
        bench.healthy(from: 0, to: 3_000)
        bench.node.linkBroken(two, .closed, now: at(3_001), into: &bench.effects)
        bench.run(to: 3_390)
        bench.node.linkUp(two, now: at(3_390))
        bench.hear(3_400)
        #expect(bench.node.suspicionTimeout(two) == ms(50))
    }

    // MARK: Order and incarnations

    @Test func `duplicate and older beats change nothing and are counted`() {
        var bench = Bench()
        bench.healthy(from: 0, to: 300)
        _ = bench.events()
        for sequence in [UInt64(0), 5, bench.sequence] {
            bench.node.received(
                Beat(
                    incarnation: bench.peerIncarnation, sequence: sequence, sentAt: at(1),
                    storagePulseAge: .seconds(60),
                    leadershipVersion: 2, changesAfter: 1,
                    changes: [.init(group: GroupID(1), term: Term(1))], isWhole: true),
                from: two, now: at(310), into: &bench.effects)
        }
        #expect(bench.events() == [])
        #expect(bench.node.counters.beatsOld == 3)
        // Nor do they keep it alive.
        bench.run(to: 350)
        #expect(bench.events() == [.nodeSuspected(two, .silence)])
    }

    @Test func `a new incarnation restarts the node and a beat of the old one is ignored`() {
        var bench = Bench()
        bench.hear(1) {
            $0.leadershipVersion = 2
            $0.changesAfter = 1
            $0.isWhole = true
            $0.changes = [.init(group: GroupID(4), term: Term(9))]
            $0.leadershipDigest = LeadershipClaim.digest(GroupID(4), Term(9))
        }
        #expect(bench.events() == [.nodeAlive(two), .leadershipClaimed(two, GroupID(4), Term(9))])
        #expect(bench.node.leads(two, GroupID(4), Term(9)))
        bench.peerIncarnation = Incarnation(8)
        bench.sequence = 0
        bench.hear(5)
        #expect(bench.events() == [.nodeRestarted(two, Incarnation(8))])
        #expect(bench.node.claims(two, GroupID(4)) == nil)
        #expect(!bench.node.leads(two, GroupID(4), Term(9)))
        bench.peerIncarnation = Incarnation(7)
        bench.sequence = 500
        bench.hear(6)
        #expect(bench.node.counters.beatsOfOldIncarnation == 1)
        #expect(bench.node.incarnation(of: two) == Incarnation(8))
        #expect(bench.events() == [])
    }

    // MARK: Round trips and the timeout

    @Test func `the round trip is what an echo took less what the peer held it`() {
        var bench = Bench()
        bench.run(to: 40)
        bench.echo(40, roundTrip: 30, held: 10)
        #expect(bench.node.roundTrip(two) == ms(30))
    }

    @Test func `an echo of another incarnation, of a beat never sent, or with absurd times is ignored`() {
        var bench = Bench()
        bench.tick(0)
        let echoes = [
            Beat.Echo(incarnation: Incarnation(2), sequence: 1, sentAt: at(0), heldFor: .zero),
            Beat.Echo(incarnation: Incarnation(3), sequence: 2, sentAt: at(0), heldFor: .zero),
            Beat.Echo(incarnation: Incarnation(3), sequence: 1, sentAt: at(90), heldFor: .zero),
            Beat.Echo(incarnation: Incarnation(3), sequence: 1, sentAt: at(0), heldFor: ms(-1)),
            Beat.Echo(incarnation: Incarnation(3), sequence: 1, sentAt: Instant(nanoseconds: .min), heldFor: .zero),
            Beat.Echo(incarnation: Incarnation(3), sequence: 1, sentAt: at(-60_000), heldFor: .zero),
        ]
        for (i, echo) in echoes.enumerated() {
            bench.hear(Int64(i + 1)) { $0.echo = echo }
            #expect(bench.node.counters.echoesIgnored == i + 1)
        }
        #expect(bench.node.roundTrip(two) == nil)
    }

    @Test func `a round trip that spans a pause of our own is not measured`() {
        var bench = Bench()
        bench.run(to: 30)
        bench.echo(530, roundTrip: 501)
        #expect(bench.node.counters.ownPauses == 1)
        #expect(bench.node.roundTrip(two) == nil)
    }

    @Test func `the forgiven run of losses is the one that chance brings once in 2^24 beats`() {
        for (lossEvery, run) in [(UInt64(1_000), 3), (100, 4), (20, 6), (10, 8), (4, 12), (2, 16)] {
            var timing = BeatTiming(settings: LivenessSettings())
            var random = PRNG(seed: lossEvery)
            var lost: UInt64 = 0
            var sum: Int64 = 0
            for _ in 0..<100_000 {
                if random.chance(1, in: lossEvery) {
                    lost += 1
                    continue
                }
                timing.beatArrived(
                    after: ms(15 * Int64(lost + 1)), lost: lost, sent: ms(15 * Int64(lost + 1)),
                    settings: LivenessSettings())
                lost = 0
                sum += timing.lostRun
            }
            let mean = Double(sum) / 100_000 / (1 - 1 / Double(lossEvery))
            #expect(abs(mean - Double(run)) < 1.2, "one of \(lossEvery) lost: \(mean)")
            #expect(timing.intervalLongest == ms(15))
        }
    }

    @Test func `a round trip with a held time longer than the whole is ignored`() {
        var bench = Bench()
        bench.tick(0)
        bench.hear(1) {
            $0.echo = Beat.Echo(incarnation: Incarnation(3), sequence: 1, sentAt: at(0), heldFor: ms(5))
        }
        #expect(bench.node.counters.echoesIgnored == 1)
        #expect(bench.node.roundTrip(two) == nil)
    }

    @Test func `an echo that comes twice is measured once`() {
        var bench = Bench()
        bench.tick(0)
        let echo = Beat.Echo(incarnation: Incarnation(3), sequence: 1, sentAt: at(0), heldFor: .zero)
        bench.hear(5) { $0.echo = echo }
        bench.hear(7) { $0.echo = echo }
        #expect(bench.node.roundTrip(two) == ms(5))
    }

    @Test func `a far peer gets a beat per half round trip and ten round trips of patience`() {
        var bench = Bench()
        var now: Int64 = 0
        while now < 6_000 {
            now += 50
            bench.run(to: now)
            bench.echo(now, roundTrip: 100)
        }
        #expect(bench.node.beatInterval(two) == ms(50))
        let suspicion = bench.node.suspicionTimeout(two) ?? .zero
        #expect(suspicion >= ms(1_000) && suspicion < ms(1_100))
        bench.effects.removeAll()
        bench.run(to: 7_000 - 60)
        #expect((18...21).contains(bench.effects.beats.count))
    }

    @Test func `no timeout is above its bound`() {
        var bench = Bench()
        for i in 1...200 {
            bench.run(to: Int64(i) * 250)
            bench.echo(Int64(i) * 250, roundTrip: 1_000)
        }
        #expect(bench.node.suspicionTimeout(two) == .seconds(2))
        #expect(bench.node.beatInterval(two) == ms(250))
    }

    @Test func `the timeout follows three times the mean interval of a slow peer`() {
        var bench = Bench()
        bench.healthy(from: 0, to: 300)
        for i in 1...40 {
            bench.run(to: 300 + Int64(i) * 60)
            bench.echo(300 + Int64(i) * 60, roundTrip: 1)
        }
        let suspicion = bench.node.suspicionTimeout(two) ?? .zero
        #expect(suspicion >= ms(179) && suspicion <= ms(181))
    }

    @Test func `an outage does not make the timeout longer`() {
        var bench = Bench()
        bench.healthy(from: 0, to: 3_000)
        bench.run(to: 4_500)
        bench.sequence += 99
        bench.echo(4_500, roundTrip: 1)
        #expect(bench.node.suspicionTimeout(two) == ms(50))
        bench.run(to: 9_000)
        bench.echo(9_000, roundTrip: 1)
        #expect(bench.node.suspicionTimeout(two) == ms(50))
    }

    /// After three seconds of silence a stream brings what it held in bursts, as its sender's timers repeat it.
    @Test func `nor do the bursts in which a stream recovers from one`() {
        var bench = Bench()
        bench.healthy(from: 0, to: 3_000)
        bench.run(to: 6_000)
        for now in [6_000, 6_001, 6_210, 6_211] as [Int64] {
            bench.run(to: now)
            bench.hear(now)
        }
        bench.healthy(from: 6_220, to: 8_000)
        #expect(bench.node.suspicionTimeout(two) == ms(50))
        // Later it is the path.
        bench.run(to: 8_200)
        bench.hear(8_200)
        #expect((bench.node.suspicionTimeout(two) ?? .zero) > ms(300))
    }

    @Test func `a clock of the peer that jumps changes nothing`() {
        var plain = Bench()
        var jumping = Bench()
        var random = PRNG(seed: 1)
        for i in 1...300 {
            let now = Int64(i) * 15
            plain.run(to: now)
            jumping.run(to: now)
            plain.hear(now)
            jumping.hear(now) { $0.sentAt = Instant(nanoseconds: Int64(bitPattern: random.next())) }
        }
        #expect(plain.node.suspicionTimeout(two) == jumping.node.suspicionTimeout(two))
        #expect(plain.events() == jumping.events())
    }

    // MARK: Pauses of our own

    @Test func `an own pause moves every deadline and a tick after it judges nobody`() {
        var bench = Bench()
        bench.healthy(from: 0, to: 3_000)
        _ = bench.events()
        bench.run(to: 3_001)
        let due = bench.node.deadline
        // 500 ms late, with nothing read yet.
        bench.node.tick(now: due + ms(500), pulses: quiet, into: &bench.effects)
        #expect(bench.events() == [])
        #expect(bench.node.counters.ownPauses == 1)
        bench.node.tick(now: due + ms(501), pulses: quiet, into: &bench.effects)
        #expect(bench.events() == [])
        // The peer is really dead: with the timeout doubled it still is found.
        var ticks = 0
        while bench.node.isAlive(two), ticks < 100 {
            bench.node.tick(now: bench.node.deadline, pulses: quiet, into: &bench.effects)
            ticks += 1
        }
        #expect(bench.events() == [.nodeSuspected(two, .silence)])
    }

    @Test func `a pause that a drained beat shows first is taken out of its interval`() {
        var bench = Bench()
        bench.healthy(from: 0, to: 3_000)
        bench.run(to: 3_001)
        bench.hear(3_600)
        bench.hear(3_600)
        bench.tick(3_600)
        #expect(bench.node.counters.ownPauses == 1)
        bench.run(to: 4_650)
        // The doubling ended, and neither the mean nor the longest interval grew.
        #expect(bench.node.suspicionTimeout(two) == ms(50))
    }

    @Test func `a pause longer than a timeout doubles it for one second`() {
        var bench = Bench()
        bench.healthy(from: 0, to: 3_000)
        bench.run(to: 3_001)
        bench.tick(3_500)
        #expect(bench.node.suspicionTimeout(two) == ms(100))
        bench.healthy(from: 3_500, to: 4_490)
        #expect(bench.node.suspicionTimeout(two) == ms(100))
        bench.healthy(from: 4_500, to: 4_530)
        #expect(bench.node.suspicionTimeout(two) == ms(50))
    }

    @Test func `a tick late by less than half a beat is no pause`() {
        var bench = Bench()
        bench.healthy(from: 0, to: 300)
        let due = bench.node.deadline
        bench.node.tick(now: due + ms(7), pulses: quiet, into: &bench.effects)
        #expect(bench.node.counters.ownPauses == 0)
    }

    // MARK: Stalls

    @Test(arguments: [true, false])
    func `a peer whose pulse stands still is stalled until it moves again`(ofStorage: Bool) {
        func pulse(_ age: Nanoseconds, _ beat: inout Beat) {
            if ofStorage { beat.storagePulseAge = age } else { beat.enginePulseAge = age }
        }
        var bench = Bench()
        bench.hear(1) { pulse(.seconds(1), &$0) }
        #expect(bench.events() == [.nodeAlive(two)])
        bench.hear(2) { pulse(ms(1_001), &$0) }
        #expect(bench.events() == [.nodeStalled(two)])
        #expect(bench.node.isAlive(two))
        #expect(!bench.node.isFitToLead(two))
        bench.hear(3) { pulse(ms(900), &$0) }
        #expect(bench.events() == [])
        bench.hear(4) { pulse(ms(500), &$0) }
        #expect(bench.events() == [.nodeRecovered(two)])
        #expect(bench.node.isFitToLead(two))
    }

    @Test func `a stalled node's claims do not keep its followers`() {
        var bench = Bench()
        bench.hear(1) {
            $0.leadershipVersion = 2
            $0.changesAfter = 1
            $0.isWhole = true
            $0.changes = [.init(group: GroupID(4), term: Term(9))]
            $0.leadershipDigest = LeadershipClaim.digest(GroupID(4), Term(9))
        }
        #expect(bench.node.leads(two, GroupID(4), Term(9)))
        #expect(bench.node.leads(two, GroupID(4), Term(8)))
        #expect(!bench.node.leads(two, GroupID(4), Term(10)))
        #expect(!bench.node.leads(two, GroupID(5), Term(1)))
        bench.hear(2) { $0.storagePulseAge = .seconds(2) }
        #expect(!bench.node.leads(two, GroupID(4), Term(9)))
        #expect(bench.node.claims(two, GroupID(4)) == Term(9))
    }

    @Test func `a beat tells the sender's own pulses`() {
        var bench = Bench()
        bench.tick(0, Pulses(engineAge: ms(3), storageAge: ms(1_500)))
        #expect(bench.effects.beats.first?.beat.enginePulseAge == ms(3))
        #expect(bench.effects.beats.first?.beat.storagePulseAge == ms(1_500))
    }

    // MARK: Our own bugs

    @Test func `time that goes back ends the process`() async {
        await #expect(processExitsWith: .failure) {
            var node = NodeLiveness(
                node: NodeID(1), incarnation: Incarnation(1), settings: LivenessSettings(),
                now: Instant(nanoseconds: 10))
            var effects = LivenessEffects()
            node.tick(now: Instant(nanoseconds: 9), pulses: Pulses(), into: &effects)
        }
    }

    @Test func `a leader whose term goes back ends the process`() async {
        await #expect(processExitsWith: .failure) {
            var node = NodeLiveness(
                node: NodeID(1), incarnation: Incarnation(1), settings: LivenessSettings(), now: .origin)
            node.setLeadership(GroupID(1), term: Term(5), sharedWith: [], now: .origin)
            node.setLeadership(GroupID(1), term: Term(4), sharedWith: [], now: .origin)
        }
    }

    @Test func `a floor that one lost beat reaches ends the process`() async {
        await #expect(processExitsWith: .failure) {
            var settings = LivenessSettings()
            settings.suspicionFloor = .milliseconds(20)
            _ = NodeLiveness(node: NodeID(1), incarnation: Incarnation(1), settings: settings, now: .origin)
        }
    }

    @Test func `a node that tracks itself ends the process`() async {
        await #expect(processExitsWith: .failure) {
            var node = NodeLiveness(
                node: NodeID(1), incarnation: Incarnation(1), settings: LivenessSettings(), now: .origin)
            _ = node.track(NodeID(1), now: .origin)
        }
    }
}
