package import AdminAPI
package import CommandSyntax

extension ExitCode {
    /// What the cluster's answer means to a script. All of a request comes from the command line, so that what is senseless in
    /// the one is so in the other.
    package init(_ kind: Problem.Kind) {
        switch kind {
        case .malformed, .invalid, .bodyTooLarge, .targetTooLong: self = .usage
        case .keyNotFound, .spaceNotFound, .notFound: self = .notFound
        case .unauthenticated, .forbidden, .conflict, .retryUnknown, .alreadyExists, .notPossible, .quotaExceeded,
            .generationChanged, .compacted:
            self = .refused
        case .timeout, .tooManyRequests, .unavailable, .overloaded, .outcomeUnknown, .storageLow: self = .unavailable
        // Programs that don't understand each other.
        case .routeUnknown, .methodNotAllowed, .mediaTypeUnknown, .expectationFailed, .misdirected, .headTooLarge,
            .internal, .notImplemented, .versionUnsupported:
            self = .failure
        }
    }

    /// The one for several things that were asked for: what may be otherwise than it seems comes before what is known to be
    /// undone.
    package func worse(_ other: ExitCode) -> ExitCode {
        let order: [ExitCode] = [.unavailable, .failure, .refused, .notFound, .usage]
        return order.first { $0 == self || $0 == other } ?? .success
    }
}
