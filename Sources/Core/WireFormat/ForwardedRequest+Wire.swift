package import BinaryCoding
internal import ClusterBase
package import NodePorts
internal import RaftCore
package import Schema

// Requests and answers that one node carries for another's clients.

extension ForwardedRequest: WireMapped {
    package init(wire: RaftForwardedRequest) throws(DecodeError) {
        let body: Body
        switch try required(wire.body, "ForwardedRequest.body") {
        case .command(let bytes):
            try checkCount(bytes.count, max: WireLimits.forwardBytesMax, "ForwardedRequest.command")
            body = .command(bytes)
        case .query(let bytes):
            try checkCount(bytes.count, max: WireLimits.forwardBytesMax, "ForwardedRequest.query")
            body = .query(bytes)
        case .transfer(let replica):
            body = .transferLeadership(to: replica == 0 ? nil : try identity(replica, "ForwardedRequest.transfer"))
        }
        self.init(
            number: try WireFormat.number(wire.number, "ForwardedRequest.number"),
            group: try identity(wire.group, "ForwardedRequest.group"), hops: wire.hops, body: body)
    }

    package var wire: RaftForwardedRequest {
        let body: RaftForwardedRequest.Body =
            switch self.body {
            case .command(let bytes): .command(bytes)
            case .query(let bytes): .query(bytes)
            case .transferLeadership(let replica): .transfer(replica?.rawValue ?? 0)
            }
        return RaftForwardedRequest(number: number, group: group.rawValue, hops: hops, body: body)
    }
}

extension ForwardedAnswer: WireMapped {
    package init(wire: RaftForwardedAnswer) throws(DecodeError) {
        let body: Body
        switch try required(wire.body, "ForwardedAnswer.body") {
        case .applied(let bytes):
            try checkCount(bytes.count, max: WireLimits.forwardBytesMax, "ForwardedAnswer.applied")
            body = .applied(bytes)
        case .read(let bytes):
            try checkCount(bytes.count, max: WireLimits.forwardBytesMax, "ForwardedAnswer.read")
            body = .read(bytes)
        case .accepted: body = .accepted
        case .unknown: body = .unknown
        case .refused(let refused):
            // What a newer program means by a reason of its own: it did not do it.
            let reason = Refusal(rawValue: refused.reason.rawValue) ?? .unavailable
            var leader: Peer?
            if let value = refused.leader { leader = try Peer(wire: value) }
            body = .refused(reason, leader: leader)
        }
        self.init(
            number: try WireFormat.number(wire.number, "ForwardedAnswer.number"),
            incarnation: try identity(wire.incarnation, "ForwardedAnswer.incarnation"), body: body)
    }

    package var wire: RaftForwardedAnswer {
        let body: RaftForwardedAnswer.Body =
            switch self.body {
            case .applied(let bytes): .applied(bytes)
            case .read(let bytes): .read(bytes)
            case .accepted: .accepted(RaftNothing())
            case .unknown: .unknown(RaftNothing())
            case .refused(let reason, let leader):
                .refused(
                    RaftForwardedAnswer.Refused(
                        reason: RaftForwardRefusal(rawValue: reason.rawValue), leader: leader?.wire))
            }
        return RaftForwardedAnswer(number: number, incarnation: incarnation.rawValue, body: body)
    }
}
