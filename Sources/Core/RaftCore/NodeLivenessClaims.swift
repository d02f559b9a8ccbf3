import ClusterBase

/// One group that a node leads.
struct LeadershipClaim: Sendable {
    var group: GroupID
    var term: Term
    /// The round of the whole set that last named it; only the receiver's.
    var round: UInt32 = 0

    /// A set's digest is the wrapping sum over its claims, so that it follows every change in constant time.
    static func digest(_ group: GroupID, _ term: Term) -> UInt64 {
        mix64(mix64(group.rawValue &+ 0x51ED_270B_3C1A_9D47) &+ term.rawValue)
    }
}

extension [LeadershipClaim] {
    /// Where `group` is, or where it belongs; the array is sorted by group.
    func position(of group: GroupID) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if self[middle].group < group { low = middle + 1 } else { high = middle }
        }
        return low
    }

    func term(of group: GroupID) -> Term? {
        let i = position(of: group)
        return i < count && self[i].group == group ? self[i].term : nil
    }
}

/// What this node tells one peer about its leaderships: the set, and the changes that the peer has not acknowledged.
///
/// The changes are a log with a version each. The peer acknowledges a version, and what it acknowledged is dropped. A
/// peer that asks for more than is left gets the whole set, which is the same log made anew: from nothing, one change
/// for each group, under new versions. So a set of any size goes out in bounded beats, and a lost one is just repeated.
struct ToldClaims: Sendable {
    private(set) var claims: [LeadershipClaim] = []
    private(set) var digest: UInt64 = 0
    private var log: [Beat.LeadershipChange] = []
    /// The version before the first change in `log`.
    private var base: UInt64 = 1
    /// Whether the set was empty at `base`.
    private var startsFromNothing = true
    /// Whether the peer has `base`; when not, the log starts from nothing.
    private(set) var peerHoldsBase = false

    var version: UInt64 { base + UInt64(log.count) }
    var hasUntold: Bool { !log.isEmpty }

    /// Changes kept beyond what the whole set would take; past them the whole set is the shorter message.
    static let slackMax = 1_024

    /// False when nothing changed.
    mutating func set(_ group: GroupID, _ term: Term?) -> Bool {
        let i = claims.position(of: group)
        let isKnown = i < claims.count && claims[i].group == group
        guard (isKnown ? claims[i].term : nil) != term else { return false }
        if isKnown { digest &-= LeadershipClaim.digest(group, claims[i].term) }
        if let term {
            digest &+= LeadershipClaim.digest(group, term)
            if isKnown {
                claims[i].term = term
            } else {
                claims.insert(LeadershipClaim(group: group, term: term), at: i)
            }
        } else {
            claims.remove(at: i)
        }
        log.append(Beat.LeadershipChange(group: group, term: term))
        if log.count > claims.count + ToldClaims.slackMax { restart() }
        return true
    }

    mutating func acknowledged(_ version: UInt64) {
        guard version >= base, version <= self.version else {
            peerHoldsBase = false
            // While the whole set is under way the peer may ask for it again: it goes on being sent.
            if !startsFromNothing { restart() }
            return
        }
        peerHoldsBase = true
        if version > base {
            log.removeFirst(Int(version - base))
            base = version
            startsFromNothing = false
        }
    }

    /// The peer's process is a new one and holds nothing.
    mutating func peerForgot() {
        peerHoldsBase = false
        if !startsFromNothing { restart() }
    }

    private mutating func restart() {
        base = version
        log.removeAll(keepingCapacity: true)
        for claim in claims { log.append(Beat.LeadershipChange(group: claim.group, term: claim.term)) }
        startsFromNothing = true
        peerHoldsBase = false
    }

    func fill(_ beat: inout Beat, changesMax: Int) {
        beat.leadershipDigest = digest
        beat.leadershipVersion = version
        beat.changesAfter = base
        beat.isWhole = !peerHoldsBase
        if !log.isEmpty { beat.changes = Array(log.prefix(changesMax)) }
    }
}

/// What one peer says it leads.
struct HeardClaims: Sendable {
    private(set) var claims: [LeadershipClaim] = []
    private var digest: UInt64 = 0
    /// The peer's version that `claims` are at; zero asks for the whole set.
    private(set) var version: UInt64 = 0
    private var round: UInt32 = 0
    /// A whole set is under way. What it has not named yet stays until it is complete: a set that comes in parts must not
    /// make leaders look gone in between.
    private var isWholeUnderWay = false

    enum Trouble {
        case malformed
        case digestMismatch
    }

    mutating func take(
        _ beat: Beat, from node: NodeID, groupsMax: Int, into effects: inout LivenessEffects
    ) -> Trouble? {
        guard beat.leadershipVersion != 0 else { return nil }
        if version == beat.leadershipVersion { return compare(beat) }
        let (through, overflow) = beat.changesAfter.addingReportingOverflow(UInt64(beat.changes.count))
        guard !overflow, beat.changesAfter > 0, through <= beat.leadershipVersion else { return .malformed }
        var known = 0
        if version >= beat.changesAfter, version <= through {
            known = Int(version - beat.changesAfter)
        } else if beat.isWhole {
            round &+= 1
            isWholeUnderWay = true
        } else {
            version = 0
            return nil
        }
        version = through
        for i in known..<beat.changes.count {
            let change = beat.changes[i]
            guard apply(change, from: node, groupsMax: groupsMax, into: &effects) else {
                version = 0
                return .malformed
            }
        }
        guard version == beat.leadershipVersion else { return nil }
        if isWholeUnderWay { sweep(from: node, into: &effects) }
        return compare(beat)
    }

    /// The peer's process is a new one, which leads nothing yet.
    mutating func forget() { self = HeardClaims() }

    private mutating func compare(_ beat: Beat) -> Trouble? {
        guard digest != beat.leadershipDigest else { return nil }
        version = 0
        return .digestMismatch
    }

    /// False when the peer claims more groups than anybody may lead.
    private mutating func apply(
        _ change: Beat.LeadershipChange, from node: NodeID, groupsMax: Int, into effects: inout LivenessEffects
    ) -> Bool {
        let group = change.group
        let i = claims.position(of: group)
        let isKnown = i < claims.count && claims[i].group == group
        guard let term = change.term else {
            if isKnown {
                digest &-= LeadershipClaim.digest(group, claims[i].term)
                effects.events.append(.leadershipLost(node, group, claims[i].term))
                claims.remove(at: i)
            }
            return true
        }
        if isKnown {
            claims[i].round = round
            guard claims[i].term != term else { return true }
            digest &-= LeadershipClaim.digest(group, claims[i].term)
            claims[i].term = term
        } else {
            guard claims.count < groupsMax else { return false }
            claims.insert(LeadershipClaim(group: group, term: term, round: round), at: i)
        }
        digest &+= LeadershipClaim.digest(group, term)
        effects.events.append(.leadershipClaimed(node, group, term))
        return true
    }

    private mutating func sweep(from node: NodeID, into effects: inout LivenessEffects) {
        isWholeUnderWay = false
        var kept = 0
        for i in 0..<claims.count {
            let claim = claims[i]
            if claim.round == round {
                claims[kept] = claim
                kept += 1
            } else {
                digest &-= LeadershipClaim.digest(claim.group, claim.term)
                effects.events.append(.leadershipLost(node, claim.group, claim.term))
            }
        }
        claims.removeLast(claims.count - kept)
    }
}
