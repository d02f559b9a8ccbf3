package import AdminAPI
internal import ClusterBase

/// One request that waits for its answer: a connection of this server and a number on it. Fits into the 64 bits that a
/// node's requests are told apart by.
package struct Ticket: Hashable, Sendable, CustomStringConvertible {
    /// From the top: 24 bits of the connection's generation, 16 of its slot, 24 of the request's number.
    package let rawValue: UInt64

    package init(rawValue: UInt64) { self.rawValue = rawValue }

    static let slotsMax = 1 << 16
    static let numberMask: UInt32 = 0xFF_FFFF

    init(slot: Int, generation: UInt32, number: UInt32) {
        rawValue =
            UInt64(generation & Ticket.numberMask) << 40 | UInt64(slot) << 24 | UInt64(number & Ticket.numberMask)
    }

    var slot: Int { Int(rawValue >> 24 & 0xFFFF) }
    var generation: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 40) }
    var number: UInt32 { UInt32(truncatingIfNeeded: rawValue) & Ticket.numberMask }

    package var description: String { "request \(number) on connection \(slot).\(generation)" }
}

/// Carries out requests. Called on the loop's thread, never from within a call of its own to the server.
package protocol AdminHandler: AnyObject {
    /// An authorized request, which gets exactly one answer through `AdminServer.answer`, at once or later, unless it is
    /// cancelled before.
    func handle(_ call: AdminCall, from principal: Principal, _ ticket: Ticket)
    /// A stream that was full has room again.
    func streamHasRoom(_ ticket: Ticket)
    /// The reader of a stream has not taken what was sent in time. What the handler sends now is the last of it, and it has to
    /// end the stream in this call.
    func streamIsOverdue(_ ticket: Ticket)
    /// Nobody waits for the answer or the rest of the stream any more. What was begun may go on.
    func cancelled(_ ticket: Ticket)
}

/// Says who somebody is and what they may do, as of now; asked for every request, so that what is taken away is gone.
package protocol AdminAuthority: AnyObject {
    /// The cluster whose certificates count.
    var cluster: String { get }
    var metricsAreOpen: Bool { get }
    /// False until it has learned from the cluster who may do what.
    var knowsRoles: Bool { get }
    /// Nothing for somebody who was removed or is unknown.
    func roles(of principal: Principal) -> [Role]
    /// Whom a bearer token stands for; nil when it is unknown, has expired or was revoked.
    func principal(ofToken token: ArraySlice<UInt8>) -> Principal?
    /// Goes on, at once or later, when everything that was granted before it is known here; false where that can't be found out
    /// now. What follows may be asked for on behalf of strangers: it is the authority's to bound.
    func learn(_ done: @escaping (_ isNewest: Bool) -> Void)
    /// Somebody known asked for a change without the right to it, and was told so.
    func forbade(_ action: Action, _ principal: Principal, from address: String)
}

/// What became of a piece of a stream.
package enum StreamRoom: Hashable, Sendable {
    /// Taken, and more may follow.
    case open
    /// Taken, and the next has to wait for `streamHasRoom`.
    case full
    /// Not taken: the client is gone.
    case gone
}

/// What the server did since its start.
package struct AdminCounters: Hashable, Sendable {
    package var accepted: UInt64 = 0
    /// Connections beyond the bound.
    package var turnedAway: UInt64 = 0
    /// TLS handshakes that failed, certificates that were refused among them.
    package var insecure: UInt64 = 0
    package var requests: UInt64 = 0
    /// Bytes that were no request.
    package var malformed: UInt64 = 0
    /// Requests without permission.
    package var refused: UInt64 = 0
    /// Requests beyond what their client may ask in a second.
    package var tooOften: UInt64 = 0
    /// Connections that were too slow to ask or to listen.
    package var tooSlow: UInt64 = 0
    /// Requests that nobody answered in time.
    package var unanswered: UInt64 = 0
    /// Answers by the first digit of their status.
    package var succeeded: UInt64 = 0
    package var clientErrors: UInt64 = 0
    package var serverErrors: UInt64 = 0

    package init() {}

    mutating func count(status: Int) {
        switch status {
        case ..<400: succeeded += 1
        case ..<500: clientErrors += 1
        default: serverErrors += 1
        }
    }
}
