package import ClusterBase

/// Who asks, as the certificate or the token proved it.
package enum Principal: Hashable, Sendable, CustomStringConvertible {
    case anonymous
    /// A person's or a program's certificate.
    case `operator`(String)
    /// A node's certificate.
    case node(NodeID)
    /// A bearer token, by its id.
    case token(String)

    package var description: String {
        switch self {
        case .anonymous: "nobody"
        case .operator(let name): "operator \(name)"
        case .node(let node): "node \(node)"
        case .token(let id): "token \(id)"
        }
    }
}

/// What somebody may do. A principal may have several, and may do what one of them allows.
package enum Role: Hashable, Sendable {
    case admin
    case `operator`
    case viewer
    /// The keys of one space and nothing else.
    case space(String, mayWrite: Bool)
    /// The VMs and placement groups of one tenant and nothing else.
    case tenant(String, mayWrite: Bool)
    /// A member of the cluster.
    case node

    /// What an administrator writes: `admin`, `operator`, `viewer`, or `space` or `tenant` with `:NAME:read` or
    /// `:NAME:write`.
    package init?(_ text: String) {
        switch text {
        case "admin": self = .admin
        case "operator": self = .operator
        case "viewer": self = .viewer
        default:
            let parts = text.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 3, parts[0] == "space" || parts[0] == "tenant", ObjectName.isValid(parts[1].utf8),
                parts[2] == "read" || parts[2] == "write"
            else { return nil }
            let name = String(parts[1])
            let mayWrite = parts[2] == "write"
            self = parts[0] == "space" ? .space(name, mayWrite: mayWrite) : .tenant(name, mayWrite: mayWrite)
        }
    }

    package var text: String {
        switch self {
        case .admin: "admin"
        case .operator: "operator"
        case .viewer: "viewer"
        case .node: "node"
        case .space(let name, let mayWrite): "space:\(name):\(mayWrite ? "write" : "read")"
        case .tenant(let name, let mayWrite): "tenant:\(name):\(mayWrite ? "write" : "read")"
        }
    }
}

/// What a request wants to do, as far as permission goes.
package enum Action: Hashable, Sendable {
    /// Health and the document that describes the port: for everyone.
    case ask
    /// The metrics, for everyone where the setting says so.
    case measure
    /// Prove oneself with the join token in the body.
    case join
    /// Status, nodes, spaces and certificates, without what keys hold.
    case observe
    case readSpace(String)
    case writeSpace(String)
    case manageSpaces
    case manageNodes
    case manageTokens
    case manageCertificates
    case renewOwnCertificate
    case transferLeadership
    case upgrade
    case changeSettings
    /// Read every group's state whole, as a backup does.
    case copyState
    case backup
    case recover
    /// See VMs, groups and events: of one tenant, or, where that is nil, of those that the asker's roles name; who answers
    /// leaves the others out.
    case readTenant(String?)
    case writeTenant(String?)
    /// Ask what making VMs would come to: of one tenant, or, where that is nil, of those that the asker's roles name.
    case planTenant(String?)
    case manageHosts
    case manageTenants
    /// Change which cells there are, who is in them, and what all of one goes by.
    case manageCells
    /// Whose lease it is, is judged where it is renewed.
    case renewOwnLease

    /// What it is called in a refusal.
    package var name: String {
        switch self {
        case .ask: "ask for the health"
        case .measure: "read the metrics"
        case .join: "join"
        case .observe: "look at the cluster"
        case .readSpace(let space): "read the space \(space)"
        case .writeSpace(let space): "write to the space \(space)"
        case .manageSpaces: "manage spaces"
        case .manageNodes: "manage nodes"
        case .manageTokens: "manage tokens"
        case .manageCertificates: "manage certificates"
        case .renewOwnCertificate: "renew its own certificate"
        case .transferLeadership: "transfer leadership"
        case .upgrade: "finalize an upgrade"
        case .changeSettings: "change settings of the cluster"
        case .copyState: "copy the state of groups"
        case .backup: "schedule backups"
        case .recover: "recover a group by force"
        case .readTenant(let tenant): "see what belongs to \(tenant.map { "the tenant \($0)" } ?? "every tenant")"
        case .writeTenant(let tenant): "change what belongs to \(tenant.map { "the tenant \($0)" } ?? "every tenant")"
        case .planTenant(let tenant): "plan what belongs to \(tenant.map { "the tenant \($0)" } ?? "every tenant")"
        case .manageHosts: "manage hosts"
        case .manageTenants: "manage tenants and quotas"
        case .manageCells: "manage cells"
        case .renewOwnLease: "renew a host's lease"
        }
    }
}

extension Action {
    /// It is to change something: who is refused it is in the audit.
    package var isChange: Bool {
        switch self {
        case .ask, .measure, .join, .observe, .readSpace, .readTenant, .planTenant, .renewOwnCertificate,
            .renewOwnLease:
            false
        case .writeSpace, .manageSpaces, .manageNodes, .manageTokens, .manageCertificates, .transferLeadership,
            .upgrade,
            .changeSettings, .copyState, .backup, .recover, .writeTenant, .manageHosts, .manageTenants, .manageCells:
            true
        }
    }
}

/// How many refusals a node writes down for the audit: some at once, then one in a while, with how many there were between.
/// Nobody drives out what else is in the audit by asking for what is not theirs.
package struct RefusalBudget: Hashable, Sendable {
    package static let burst = 10
    package static let interval = Nanoseconds.seconds(600)

    private var left = RefusalBudget.burst
    private var refilledAt: Instant?
    private var omitted: UInt64 = 0

    package init() {}

    /// How many were left out before this one, which is written down; nil where it is left out, too.
    package mutating func note(now: Instant) -> UInt64? {
        let since = refilledAt ?? now
        let more = Int((now - since).count / RefusalBudget.interval.count)
        if more > 0 || refilledAt == nil {
            left = min(RefusalBudget.burst, left + more)
            refilledAt =
                left == RefusalBudget.burst ? now : since + Nanoseconds(RefusalBudget.interval.count * Int64(more))
        }
        if left == 0 {
            omitted += 1
            return nil
        }
        left -= 1
        defer { omitted = 0 }
        return omitted
    }
}

/// The one table of who may do what.
package enum Access {
    package enum Verdict: Hashable, Sendable {
        case allowed
        /// Nobody has proved who asks.
        case unauthenticated
        case forbidden
    }

    /// Judges an action of somebody with these roles.
    package static func judge(
        _ action: Action, _ principal: Principal, roles: [Role], metricsAreOpen: Bool = false
    ) -> Verdict {
        switch action {
        case .ask, .join: return .allowed
        case .measure where metricsAreOpen: return .allowed
        default: break
        }
        if principal == .anonymous { return .unauthenticated }
        return roles.contains { allows($0, action) } ? .allowed : .forbidden
    }

    /// What hands out trust, undoes it, or may lose data stays with the administrator; a viewer sees the cluster and not
    /// what keys hold.
    static func allows(_ role: Role, _ action: Action) -> Bool {
        // Whose it is, is judged where it is renewed.
        if action == .renewOwnCertificate { return true }
        switch role {
        case .admin: return action != .renewOwnLease
        case .operator:
            switch action {
            case .ask, .measure, .join, .observe, .readSpace, .writeSpace, .manageSpaces, .manageNodes,
                .transferLeadership, .upgrade, .changeSettings, .copyState, .backup, .readTenant, .writeTenant,
                .planTenant, .manageHosts, .manageCells:
                return true
            case .manageTokens, .manageCertificates, .renewOwnCertificate, .renewOwnLease, .recover, .manageTenants:
                return false
            }
        case .viewer:
            switch action {
            case .ask, .measure, .join, .observe, .readTenant, .planTenant: return true
            default: return false
            }
        // Which nodes may copy state is judged where it is: those that hold the authority's key.
        case .node:
            if case .planTenant = action { return true }
            return [.ask, .measure, .join, .observe, .renewOwnCertificate, .renewOwnLease, .copyState].contains(action)
        case .space(let name, let mayWrite):
            switch action {
            case .ask, .join: return true
            case .readSpace(let space): return space == name
            case .writeSpace(let space): return space == name && mayWrite
            default: return false
            }
        case .tenant(let name, let mayWrite):
            switch action {
            case .ask, .join: return true
            case .readTenant(let tenant): return tenant == nil || tenant == name
            case .writeTenant(let tenant), .planTenant(let tenant):
                return (tenant == nil || tenant == name) && mayWrite
            default: return false
            }
        }
    }

    /// The tenants that these roles reach with such an action; nil for all of them.
    package static func tenants(_ roles: [Role], for action: Action) -> [String]? {
        switch action {
        case .writeTenant: return tenants(roles, toWrite: true)
        // Whoever sees all may ask about all.
        case .planTenant: return roles.contains { allows($0, .observe) } ? nil : tenants(roles, toWrite: true)
        default: return tenants(roles, toWrite: false)
        }
    }

    /// The tenants that these roles reach; nil for all of them.
    package static func tenants(_ roles: [Role], toWrite: Bool) -> [String]? {
        let whole = toWrite ? Action.writeTenant("") : .readTenant("")
        if roles.contains(where: { allows($0, whole) }) { return nil }
        return roles.compactMap { role in
            if case .tenant(let name, let mayWrite) = role, mayWrite || !toWrite { name } else { nil }
        }
    }

    /// The answer to a refusal.
    package static func problem(_ verdict: Verdict, _ action: Action, _ principal: Principal) -> Problem? {
        switch verdict {
        case .allowed: nil
        case .unauthenticated:
            Problem(
                .unauthenticated,
                "this needs to know who asks; present a client certificate of this cluster, or send "
                    + "`Authorization: Bearer` with an API token")
        case .forbidden:
            Problem(
                .forbidden,
                "\(principal) may not \(action.name); ask an administrator for a role that allows it")
        }
    }
}

/// The rule for names of spaces, nodes, tokens and all that is in a cell.
package enum ObjectName {
    package static let rule =
        "1 to \(AdminLimits.nameBytesMax) letters, digits, dots, dashes and underscores, beginning with a letter or digit"
    /// The same as a regular expression of JSON Schema.
    static let pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,\(AdminLimits.nameBytesMax - 1)}$"

    /// 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit.
    package static func isValid(_ bytes: some Collection<UInt8>) -> Bool {
        let copy = Array(bytes.prefix(AdminLimits.nameBytesMax + 1))
        return isValid(copy.span, 0, copy.count)
    }

    static func isValid(_ bytes: Span<UInt8>, _ lower: Int, _ upper: Int) -> Bool {
        if lower == upper || upper - lower > AdminLimits.nameBytesMax { return false }
        for place in lower..<upper {
            switch bytes[place] {
            case 48...57, 65...90, 97...122: continue
            case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"): if place == lower { return false }
            default: return false
            }
        }
        return true
    }
}
