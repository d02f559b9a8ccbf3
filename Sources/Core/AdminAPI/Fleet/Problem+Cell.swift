internal import ClusterBase
package import FleetModel

extension Problem {
    /// Why a cell did not carry something out.
    package init(_ refusal: CellRefusal) { self.init(refusal, saying: "\(refusal)") }

    /// With the refusal's sentence as it is to be read.
    package init(_ refusal: CellRefusal, saying detail: String) {
        switch refusal {
        case .malformed, .unknownVersion: self.init(.malformed, detail)
        case .settingOutOfRange: self.init(.invalid, detail)
        case .invalid(let field, _): self.init(.invalid, detail, field: field)
        case .tooMany(.commandBytes), .tooMany(.specBytes), .tooMany(.items): self.init(.bodyTooLarge, detail)
        case .tooMany: self.init(.notPossible, detail)
        case .requestReused: self.init(.retryUnknown, detail, field: "Idempotency-Key")
        case .sessionUnknown, .commandSettled: self.init(.outcomeUnknown, detail)
        case .unknownHost, .unknownVM: self.init(.notFound, detail)
        case .unknownGroup(let name):
            self.init(.notFound, detail, members: [JSONMember("field", "groups"), JSONMember("group", name)])
        case .imageReleased(let name): self.init(.notPossible, detail, members: [JSONMember("image", name)])
        case .hostNameTaken, .vmNameTaken: self.init(.alreadyExists, detail, field: "name")
        case .generationChanged(let generation):
            self.init(
                .generationChanged, detail,
                members: [JSONMember("generation", generation), JSONMember("field", "If-Match")])
        case .unknownTenant(let tenant):
            self.init(
                .notPossible, detail, members: [JSONMember("field", "tenant"), JSONMember("tenant", tenant)])
        case .priorityTooHigh(let tenant, let most, _):
            self.init(
                .forbidden, detail,
                members: [
                    JSONMember("field", "priority"), JSONMember("tenant", tenant), JSONMember("priorityMax", most),
                ])
        case .quotaExceeded(let tenant, let resource, let limit, let used, let asked):
            self.init(
                .quotaExceeded, detail,
                members: [
                    JSONMember("tenant", tenant), JSONMember("resource", resource), JSONMember("limit", limit),
                    JSONMember("used", used), JSONMember("asked", asked),
                ])
        case .hostLeaves, .hostArrives: self.init(.unavailable, detail)
        default: self.init(.notPossible, detail)
        }
    }
}
