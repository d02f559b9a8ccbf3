package import ClusterBase
internal import Schema

/// What is said of a host beside its duty.
package enum HostCare: Hashable, Sendable {
    /// No move off it begins until it is said to go on; what is on its way goes on.
    case pauseDrain
    case resumeDrain
    /// It is to be away for so long at most: what it runs waits for it, and nothing comes.
    case goAway(milliseconds: UInt64)
    /// It is not to be away any more.
    case comeBack
    /// By a controller: it never went, and its time is over.
    case endAbsence
    /// Somebody says that the machine is off, and has been since this agent of it was heard: what it ran starts elsewhere when its
    /// lease has run out, whatever the brake and the policies of isolation say.
    case declareDead(Incarnation)
}

extension HostCare {
    init?(_ wire: WireCellCommand.CareForHost) {
        switch wire.care {
        case .pauseDrain: self = .pauseDrain
        case .resumeDrain: self = .resumeDrain
        case .goAway: self = .goAway(milliseconds: wire.millis)
        case .comeBack: self = .comeBack
        case .endAbsence: self = .endAbsence
        case .declareDead: self = .declareDead(Incarnation(wire.incarnation))
        default: return nil
        }
    }

    func wire(_ host: HostID) -> WireCellCommand.CareForHost {
        var wire = WireCellCommand.CareForHost(host: host.rawValue)
        switch self {
        case .pauseDrain: wire.care = .pauseDrain
        case .resumeDrain: wire.care = .resumeDrain
        case .goAway(let milliseconds):
            wire.care = .goAway
            wire.millis = milliseconds
        case .comeBack: wire.care = .comeBack
        case .endAbsence: wire.care = .endAbsence
        case .declareDead(let incarnation):
            wire.care = .declareDead
            wire.incarnation = incarnation.rawValue
        }
        return wire
    }

    /// For the audit.
    var name: String {
        switch self {
        case .pauseDrain: "pause a host's drain"
        case .resumeDrain: "let a host's drain go on"
        case .goAway: "let a host go away"
        case .comeBack, .endAbsence: "end a host's absence"
        case .declareDead: "declare a host dead"
        }
    }
}
