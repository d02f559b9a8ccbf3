import ClusterBase
import Testing

@testable import RaftCore

private let peer = NodeID(2)

private func change(_ group: UInt64, _ term: UInt64?) -> Beat.LeadershipChange {
    Beat.LeadershipChange(group: GroupID(group), term: term.map { Term($0) })
}

/// One teller, one listener, and beats handed over by hand.
private struct Talk {
    var told = ToldClaims()
    var heard = HeardClaims()
    var effects = LivenessEffects()
    var partMax = 4
    var parts = 0

    func beat() -> Beat {
        var beat = Beat(incarnation: Incarnation(1), sequence: 1, sentAt: .origin)
        told.fill(&beat, changesMax: partMax)
        return beat
    }

    mutating func hear(_ beat: Beat) -> HeardClaims.Trouble? {
        heard.take(beat, from: peer, groupsMax: 100, into: &effects)
    }

    /// Beats and acknowledgements until nothing is left to tell.
    mutating func settle() {
        parts = 0
        repeat {
            #expect(hear(beat()) == nil)
            told.acknowledged(heard.version)
            parts += 1
        } while (!told.peerHoldsBase || told.hasUntold) && parts < 100
    }

    var isEqual: Bool {
        told.claims.map(\.group) == heard.claims.map(\.group) && told.claims.map(\.term) == heard.claims.map(\.term)
    }

    mutating func events() -> [LivenessEvent] {
        defer { effects.removeAll() }
        return effects.events
    }
}

struct NodeLivenessClaimsTests {
    @Test func `changes beyond one beat's bound follow when the first are acknowledged`() {
        var talk = Talk()
        for group in UInt64(1)...10 { #expect(talk.told.set(GroupID(group), Term(1)) == true) }
        #expect(talk.beat().changes.count == 4)
        talk.settle()
        #expect(talk.parts == 3)
        #expect(talk.isEqual)
        #expect(talk.beat().changes == [])
        #expect(!talk.beat().isWhole)
    }

    @Test func `a set that did not change is no change`() {
        var talk = Talk()
        #expect(talk.told.set(GroupID(1), nil) == false)
        #expect(talk.told.set(GroupID(1), Term(1)) == true)
        #expect(talk.told.set(GroupID(1), Term(1)) == false)
        #expect(talk.told.version == 2)
    }

    @Test func `changes are repeated until they are acknowledged and taken in once`() {
        var talk = Talk()
        _ = talk.told.set(GroupID(1), Term(1))
        _ = talk.told.set(GroupID(2), Term(1))
        let first = talk.beat()
        #expect(talk.hear(first) == nil)
        #expect(talk.events().count == 2)
        _ = talk.told.set(GroupID(1), nil)
        let second = talk.beat()
        #expect(second.changes == [change(1, 1), change(2, 1), change(1, nil)])
        #expect(talk.hear(second) == nil)
        #expect(talk.events() == [.leadershipLost(peer, GroupID(1), Term(1))])
        #expect(talk.hear(second) == nil)
        #expect(talk.events() == [])
        talk.settle()
        #expect(talk.isEqual)
    }

    @Test func `a claim in a higher term replaces the lower one in one event`() {
        var talk = Talk()
        _ = talk.told.set(GroupID(1), Term(1))
        talk.settle()
        _ = talk.events()
        _ = talk.told.set(GroupID(1), Term(4))
        talk.settle()
        #expect(talk.events() == [.leadershipClaimed(peer, GroupID(1), Term(4))])
    }

    @Test func `a listener that lost everything gets the whole set`() {
        var talk = Talk()
        for group in UInt64(1)...10 { _ = talk.told.set(GroupID(group), Term(group)) }
        talk.settle()
        talk.heard.forget()
        talk.told.acknowledged(talk.heard.version)
        #expect(talk.beat().isWhole)
        talk.settle()
        #expect(talk.isEqual)
    }

    @Test func `asking again for the whole set while it is under way does not start it anew`() {
        var talk = Talk()
        for group in UInt64(1)...10 { _ = talk.told.set(GroupID(group), Term(group)) }
        talk.settle()
        talk.told.acknowledged(0)
        let version = talk.told.version
        talk.told.acknowledged(0)
        talk.told.acknowledged(0)
        #expect(talk.told.version == version)
    }

    @Test func `a whole set that comes in parts makes no leader look gone in between`() {
        var talk = Talk()
        for group in UInt64(1)...10 { _ = talk.told.set(GroupID(group), Term(1)) }
        talk.settle()
        _ = talk.events()
        // The teller starts over and lost group 3 meanwhile.
        talk.told.acknowledged(0)
        _ = talk.told.set(GroupID(3), nil)
        talk.told.acknowledged(0)
        #expect(talk.hear(talk.beat()) == nil)
        #expect(talk.heard.claims.count == 10)
        talk.settle()
        #expect(talk.events() == [.leadershipLost(peer, GroupID(3), Term(1))])
        #expect(talk.isEqual)
    }

    @Test func `what a whole set does not name is lost when it is complete`() {
        var talk = Talk()
        for group in UInt64(1)...10 { _ = talk.told.set(GroupID(group), Term(1)) }
        talk.settle()
        _ = talk.events()
        _ = talk.told.set(GroupID(3), nil)
        // The log is made anew without a trace of group 3.
        talk.told.acknowledged(0)
        talk.told.peerForgot()
        talk.settle()
        #expect(talk.events() == [.leadershipLost(peer, GroupID(3), Term(1))])
        #expect(talk.isEqual)
    }

    @Test func `a digest that differs is reported and cured by the whole set`() {
        var talk = Talk()
        _ = talk.told.set(GroupID(1), Term(1))
        talk.settle()
        var beat = talk.beat()
        beat.leadershipDigest ^= 1
        #expect(talk.hear(beat) == .digestMismatch)
        #expect(talk.heard.version == 0)
        // It still counts until the whole set says otherwise.
        #expect(talk.heard.claims.count == 1)
        talk.told.acknowledged(0)
        talk.settle()
        #expect(talk.isEqual)
        #expect(talk.heard.version == talk.told.version)
    }

    @Test func `the digest is not compared before the listener has reached its version`() {
        var talk = Talk()
        for group in UInt64(1)...10 { _ = talk.told.set(GroupID(group), Term(1)) }
        var beat = talk.beat()
        beat.leadershipDigest ^= 1
        #expect(talk.hear(beat) == nil)
        #expect(talk.heard.version == 5)
    }

    @Test func `changes with a gap before them are refused and the whole set is asked for`() {
        var talk = Talk()
        _ = talk.told.set(GroupID(1), Term(1))
        talk.settle()
        _ = talk.told.set(GroupID(2), Term(1))
        var beat = talk.beat()
        beat.changesAfter += 1
        beat.leadershipVersion += 1
        #expect(talk.hear(beat) == nil)
        #expect(talk.heard.version == 0)
        #expect(talk.heard.claims.count == 1)
    }

    @Test func `versions that can't be are malformed and change nothing`() {
        var talk = Talk()
        _ = talk.told.set(GroupID(1), Term(1))
        talk.settle()
        var overflowing = talk.beat()
        overflowing.changesAfter = .max
        overflowing.leadershipVersion = .max
        overflowing.changes = [change(2, 1)]
        overflowing.isWhole = true
        #expect(talk.hear(overflowing) == .malformed)
        var ahead = talk.beat()
        ahead.leadershipVersion += 1
        ahead.changes = [change(2, 1), change(3, 1)]
        ahead.isWhole = true
        #expect(talk.hear(ahead) == .malformed)
        #expect(talk.isEqual)
    }

    @Test func `a peer that claims more groups than anybody may lead is malformed`() {
        var talk = Talk()
        talk.partMax = 256
        for group in UInt64(1)...101 { _ = talk.told.set(GroupID(group), Term(1)) }
        #expect(talk.hear(talk.beat()) == .malformed)
        #expect(talk.heard.claims.count == 100)
    }

    @Test func `a beat with more changes than the bound is dropped`() {
        var node = NodeLiveness(
            node: NodeID(1), incarnation: Incarnation(1), settings: LivenessSettings(), now: .origin)
        var effects = LivenessEffects()
        #expect(node.track(peer, now: .origin) == true)
        let beat = Beat(
            incarnation: Incarnation(1), sequence: 1, sentAt: .origin, leadershipVersion: 1_000, changesAfter: 1,
            changes: Array(repeating: change(1, 1), count: Beat.changesMax + 1), isWhole: true)
        node.received(beat, from: peer, now: .origin, into: &effects)
        #expect(effects.isEmpty)
        #expect(node.counters.beatsMalformed == 1)
        #expect(!node.isAlive(peer))
    }

    @Test func `changes for a peer that never answers stay bounded`() {
        var talk = Talk()
        talk.partMax = .max
        for term in UInt64(1)...100_000 { _ = talk.told.set(GroupID(term % 50), Term(term)) }
        #expect(talk.beat().changes.count <= 50 + ToldClaims.slackMax)
        talk.settle()
        #expect(talk.isEqual)
    }

    @Test func `an acknowledgement meant for an earlier process of ours counts for nothing`() {
        var node = NodeLiveness(
            node: NodeID(1), incarnation: Incarnation(5), settings: LivenessSettings(), now: .origin)
        var effects = LivenessEffects()
        #expect(node.track(peer, now: .origin) == true)
        node.setLeadership(GroupID(1), term: Term(1), sharedWith: [peer], now: .origin)
        node.tick(now: .origin, pulses: Pulses(), into: &effects)
        for (sequence, incarnation, isTold) in [(UInt64(1), UInt64(4), false), (2, 5, true)] {
            node.received(
                Beat(
                    incarnation: Incarnation(1), sequence: sequence, sentAt: .origin,
                    echo: Beat.Echo(
                        incarnation: Incarnation(incarnation), sequence: 1, sentAt: .origin, heldFor: .zero),
                    acknowledgedVersion: 2),
                from: peer, now: .origin, into: &effects)
            #expect(node.hasToldAll(peer) == isTold)
        }
    }
}
