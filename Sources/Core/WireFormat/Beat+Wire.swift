package import BinaryCoding
internal import ClusterBase
package import RaftCore
package import Schema

extension Beat.Echo: WireMapped {
    package init(wire: RaftBeat.Echo) throws(DecodeError) {
        self.init(
            incarnation: try identity(wire.incarnation, "Beat.Echo.incarnation"),
            sequence: try number(wire.sequence, "Beat.Echo.sequence"),
            sentAt: try instant(wire.sentAt, "Beat.Echo.sent_at"),
            heldFor: try elapsed(wire.heldFor, "Beat.Echo.held_for"))
    }

    package var wire: RaftBeat.Echo {
        RaftBeat.Echo(
            incarnation: incarnation.rawValue, sequence: sequence, sentAt: sentAt.nanoseconds, heldFor: heldFor.count)
    }
}

extension Beat.LeadershipChange: WireMapped {
    package init(wire: RaftBeat.LeadershipChange) throws(DecodeError) {
        var term: Term?
        if let value = wire.term { term = try identity(value, "Beat.LeadershipChange.term") }
        self.init(group: try identity(wire.group, "Beat.LeadershipChange.group"), term: term)
    }

    package var wire: RaftBeat.LeadershipChange {
        RaftBeat.LeadershipChange(group: group.rawValue, term: term?.rawValue)
    }
}

extension Beat.Activity {
    /// What a newer program may say beside these is work of some kind.
    fileprivate init(wire: RaftBeat.Activity) {
        switch wire {
        case .none: self = .none
        case .woken, .unrecognized: self = .woken
        case .own: self = .own
        }
    }

    fileprivate var wire: RaftBeat.Activity {
        switch self {
        case .none: .none
        case .woken: .woken
        case .own: .own
        }
    }
}

extension Beat: WireMapped {
    package init(wire: RaftBeat) throws(DecodeError) {
        var echo: Echo?
        if let value = wire.echo { echo = try Echo(wire: value) }
        self.init(
            incarnation: try identity(wire.incarnation, "Beat.incarnation"),
            sequence: try number(wire.sequence, "Beat.sequence"), sentAt: try instant(wire.sentAt, "Beat.sent_at"),
            echo: echo, enginePulseAge: try elapsed(wire.enginePulseAge, "Beat.engine_pulse_age"),
            storagePulseAge: try elapsed(wire.storagePulseAge, "Beat.storage_pulse_age"),
            leadershipDigest: wire.leadershipDigest,
            leadershipVersion: try number(wire.leadershipVersion, "Beat.leadership_version"),
            changesAfter: try number(wire.changesAfter, "Beat.changes_after"),
            changes: try mapped(wire.changes, max: WireLimits.changesMax, "Beat.changes"), isWhole: wire.isWhole,
            acknowledgedVersion: try number(wire.acknowledgedVersion, "Beat.acknowledged_version"),
            restsFor: try elapsed(wire.restsFor, "Beat.rests_for"), activity: Activity(wire: wire.activity))
    }

    package var wire: RaftBeat {
        RaftBeat(
            incarnation: incarnation.rawValue, sequence: sequence, sentAt: sentAt.nanoseconds, echo: echo?.wire,
            enginePulseAge: enginePulseAge.count, storagePulseAge: storagePulseAge.count,
            leadershipDigest: leadershipDigest, leadershipVersion: leadershipVersion, changes: changes.map(\.wire),
            isWhole: isWhole, acknowledgedVersion: acknowledgedVersion,
            changesAfter: changesAfter, restsFor: restsFor.count, activity: activity.wire)
    }
}
