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
    /// What is here leaves, and this becomes of it when the host is in service again.
    case drain(HostReturn)
    /// It is in service again, or was already, and this becomes of what left it by a drain.
    case resume(HostReturn)
    /// No move back begins until it is said to go on; what is on its way goes on.
    case pauseReturn
    case resumeReturn
    /// By a controller: what can be back is back.
    case endReturn
    /// By a controller: what may not stay and can move has moved.
    case endEnforcement
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
        case .drain, .resume:
            guard let returns = HostReturn(rawValue: wire.returns.rawValue) else { return nil }
            self = wire.care == .drain ? .drain(returns) : .resume(returns)
        case .pauseReturn: self = .pauseReturn
        case .resumeReturn: self = .resumeReturn
        case .endReturn: self = .endReturn
        case .endEnforcement: self = .endEnforcement
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
        case .drain(let returns):
            wire.care = .drain
            wire.returns = WireHostReturn(rawValue: returns.rawValue)
        case .resume(let returns):
            wire.care = .resume
            wire.returns = WireHostReturn(rawValue: returns.rawValue)
        case .pauseReturn: wire.care = .pauseReturn
        case .resumeReturn: wire.care = .resumeReturn
        case .endReturn: wire.care = .endReturn
        case .endEnforcement: wire.care = .endEnforcement
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
        case .drain: "drain a host"
        case .resume: "resume a host"
        case .pauseReturn: "pause the way back to a host"
        case .resumeReturn: "let the way back to a host go on"
        case .endReturn: "end the way back to a host"
        case .endEnforcement: "end the moves off a host"
        }
    }
}
