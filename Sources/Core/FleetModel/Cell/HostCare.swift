import ClusterBase
internal import Schema

/// What an operator says of a host beside its duty.
package enum HostCare: Hashable, Sendable {
    /// No move off it begins until it is said to go on; what is on its way goes on.
    case pauseDrain
    case resumeDrain
}

extension HostCare {
    init?(_ wire: WireCellCommand.CareForHost) {
        switch wire.care {
        case .pauseDrain: self = .pauseDrain
        case .resumeDrain: self = .resumeDrain
        default: return nil
        }
    }

    func wire(_ host: HostID) -> WireCellCommand.CareForHost {
        switch self {
        case .pauseDrain: WireCellCommand.CareForHost(host: host.rawValue, care: .pauseDrain)
        case .resumeDrain: WireCellCommand.CareForHost(host: host.rawValue, care: .resumeDrain)
        }
    }
}
