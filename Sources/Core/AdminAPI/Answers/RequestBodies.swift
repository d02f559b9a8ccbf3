// What the bodies of requests hold, read and written by the server and the command line alike.

/// `POST /v1/spaces`.
package struct SpaceCreation: Shaped {
    package var name: String
    /// How many nodes hold it; nil for what the cluster chooses.
    package var replicas: Int64?
    /// Names of nodes; empty for those that the cluster chooses.
    package var nodes: [String]

    package init(name: String, replicas: Int64? = nil, nodes: [String] = []) {
        self.name = name
        self.replicas = replicas
        self.nodes = nodes
    }

    package static let shape = Shape(
        "SpaceCreation",
        [
            Field("name", .name, "1 to 63 letters, digits, dots, dashes and underscores"),
            Field("replicas", .oneOf([1, 3, 5]), isRequired: false, "how many nodes hold it"),
            Field("nodes", .names, isRequired: false, "the nodes that hold it"),
        ])

    package var members: [JSONMember] {
        var members = [JSONMember("name", name)]
        members.add("replicas", replicas)
        if !nodes.isEmpty { members.append(JSONMember("nodes", nodes)) }
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            name: object.text("name"), replicas: object.optionalInteger("replicas"), nodes: object.strings("nodes"))
    }
}

/// `POST /v1/spaces/{space}/move`.
package struct SpaceMove: Shaped {
    package var nodes: [String]
    package init(nodes: [String]) { self.nodes = nodes }
    package static let shape = Shape("SpaceMove", [Field("nodes", .names, "the nodes that are to hold it")])
    package var members: [JSONMember] { [JSONMember("nodes", nodes)] }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(nodes: object.strings("nodes"))
        if nodes.isEmpty { throw Problem(.invalid, "\"nodes\" is empty; name the nodes that are to hold the space") }
    }
}

/// `POST /v1/tokens`.
package struct TokenCreation: Shaped {
    package enum Kind: String, Hashable, Sendable, CaseIterable {
        /// Lets nodes join.
        case join
        /// Lets a program ask, with a role.
        case api
    }

    package var kind: Kind
    /// For `api`.
    package var role: Role?
    package var uses: Int64?
    package var ttlSeconds: Int64?
    package var note: String?

    package init(kind: Kind, role: Role? = nil, uses: Int64? = nil, ttlSeconds: Int64? = nil, note: String? = nil) {
        self.kind = kind
        self.role = role
        self.uses = uses
        self.ttlSeconds = ttlSeconds
        self.note = note
    }

    package static let shape = Shape(
        "TokenCreation",
        [
            Field("kind", .choice(Kind.allCases.map(\.rawValue)), "what it is for"),
            Field(
                "role", .text(pattern: Pattern.role), isRequired: false,
                "for api: admin, operator, viewer, or space or tenant with :NAME:read or :NAME:write"),
            Field("uses", .range(1, 1 << 31), isRequired: false, "how often it may be used"),
            Field("ttlSeconds", .range(1, 1 << 40), isRequired: false, "how long it is good for"),
            Field("note", .string, isRequired: false, "what it is for"),
        ])

    package var members: [JSONMember] {
        var members = [JSONMember("kind", kind.rawValue)]
        members.add("role", role?.text)
        members.add("uses", uses)
        members.add("ttlSeconds", ttlSeconds)
        members.add("note", note)
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        guard let kind = Kind(rawValue: object.text("kind")) else {
            throw Problem(.malformed, "\"kind\" is neither join nor api; choose one")
        }
        self.init(
            kind: kind, uses: object.optionalInteger("uses"), ttlSeconds: object.optionalInteger("ttlSeconds"),
            note: object.optionalText("note"))
        if let text = object.optionalText("role") {
            guard let role = Role(text) else {
                throw Problem(
                    .malformed,
                    "the role is unknown; use admin, operator, viewer, space:NAME:read, space:NAME:write, "
                        + "tenant:NAME:read or tenant:NAME:write", field: "role")
            }
            self.role = role
        }
        if (kind == .api) != (role != nil) {
            throw Problem(.invalid, "an api token needs a role and a join token has none; set \"role\" accordingly")
        }
    }
}

/// `POST /v1/join`: a node that wants to become a member, or one that is and whose certificate has ended.
package struct JoinRequest: Shaped {
    package var secret: String
    package var name: String
    package var region: String
    package var zone: String
    package var rack: String
    /// Where other nodes reach it, `host:port`.
    package var address: String
    package var adminAddress: String
    /// The certificate request, DER.
    package var certificateRequest: [UInt8]
    package var version: String
    /// The highest feature level that its program knows.
    package var level: Int64
    /// Milliseconds since 1970 by its clock; 0 is not judged.
    package var clock: Int64
    /// Judge everything, change nothing.
    package var isCheck: Bool
    /// Whom to expect at its addresses while it is checked: the fingerprint of the authority that made the certificate which
    /// it shows there, hexadecimal. Empty where it shows none.
    package var probe: String

    package init(
        secret: String, name: String, region: String, zone: String, rack: String, address: String,
        adminAddress: String, certificateRequest: [UInt8], version: String, level: Int64, clock: Int64,
        isCheck: Bool = false, probe: String = ""
    ) {
        self.secret = secret
        self.name = name
        self.region = region
        self.zone = zone
        self.rack = rack
        self.address = address
        self.adminAddress = adminAddress
        self.certificateRequest = certificateRequest
        self.version = version
        self.level = level
        self.clock = clock
        self.isCheck = isCheck
        self.probe = probe
    }

    /// A member that wants another certificate for its key.
    package init(renewing name: String, _ certificateRequest: [UInt8]) {
        self.init(
            secret: "", name: name, region: "", zone: "", rack: "", address: "", adminAddress: "",
            certificateRequest: certificateRequest, version: "", level: 0, clock: 0)
    }

    /// A member's registered key is its proof, and only the name counts.
    package var isRenewal: Bool { secret.isEmpty }

    package static let shape = Shape(
        "JoinRequest",
        [
            Field("secret", .string, "the join token's secret; empty from a member whose certificate has ended"),
            Field("name", .string, "the node's name"),
            Field("region", .string, "where it is"), Field("zone", .string, "where it is"),
            Field("rack", .string, "where it is"), Field("address", .string, "where nodes reach it, host:port"),
            Field("adminAddress", .string, "where clients reach it, host:port"),
            Field("certificateRequest", .bytes, "its PKCS #10 request, DER"),
            Field("version", .string, "the version it runs"),
            Field("level", .integer, "the highest feature level that its program knows"),
            Field("clock", .integer, isRequired: false, "milliseconds since 1970 by its clock"),
            Field("isCheck", .boolean, isRequired: false, "judge everything and change nothing"),
            Field(
                "probe", .string, isRequired: false,
                "SHA-256 of the authority of the certificate that it shows at its addresses meanwhile, hexadecimal"),
        ])

    package var members: [JSONMember] {
        var members = [
            JSONMember("secret", secret), JSONMember("name", name), JSONMember("region", region),
            JSONMember("zone", zone), JSONMember("rack", rack), JSONMember("address", address),
            JSONMember("adminAddress", adminAddress),
            JSONMember("certificateRequest", base64: certificateRequest), JSONMember("version", version),
            JSONMember("level", level), JSONMember("clock", clock), JSONMember("isCheck", isCheck),
        ]
        members.add("probe", probe.isEmpty ? nil : probe)
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            secret: object.text("secret"), name: object.text("name"), region: object.text("region"),
            zone: object.text("zone"), rack: object.text("rack"), address: object.text("address"),
            adminAddress: object.text("adminAddress"), certificateRequest: object.bytes("certificateRequest"),
            version: object.text("version"), level: object.integer("level"), clock: object.integer("clock"),
            isCheck: object.bool("isCheck"), probe: object.text("probe"))
        if !ObjectName.isValid(name.utf8) { throw Router.badName("node") }
    }
}

/// `POST /v1/leader/transfer`: of the root group, unless a group or a space is named.
package struct LeaderTransfer: Shaped {
    package var group: Int64?
    package var space: String?
    /// A node's name; nil for the best follower.
    package var to: String?

    package init(group: Int64? = nil, space: String? = nil, to: String? = nil) {
        self.group = group
        self.space = space
        self.to = to
    }

    package static let shape = Shape(
        "LeaderTransfer",
        [
            Field("group", .range(1, .max), isRequired: false, "the group's number; the root group by default"),
            Field("space", .string, isRequired: false, "a space, instead of its group's number"),
            Field("to", .string, isRequired: false, "the node that is to lead; the best follower by default"),
        ])

    package var members: [JSONMember] {
        var members: [JSONMember] = []
        members.add("group", group)
        members.add("space", space)
        members.add("to", to)
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            group: object.optionalInteger("group"), space: object.optionalText("space"),
            to: object.optionalText("to"))
        if group != nil && space != nil { throw Problem(.invalid, "both group and space are given; name one") }
    }
}

/// `POST /v1/certs/rotate`.
package struct CertificateRotation: Shaped {
    package enum Subject: String, Hashable, Sendable, CaseIterable {
        case node, ca
        /// The key of secret fields.
        case sealingKey = "sealing-key"
    }

    /// The steps of an authority's rotation, in order.
    package enum Step: String, Hashable, Sendable, CaseIterable {
        case trust, sign, finish
    }

    package var subject: Subject
    /// For `node`: its name; nil for the node that is asked.
    package var node: String?
    /// For `ca`: give up the new authority, which signs nothing yet.
    package var isAbandoned: Bool
    /// For `ca`: the step that is meant; another one is refused. Nil for whichever is due.
    package var step: Step?

    package init(subject: Subject, node: String? = nil, isAbandoned: Bool = false, step: Step? = nil) {
        self.subject = subject
        self.node = node
        self.isAbandoned = isAbandoned
        self.step = step
    }

    package static let shape = Shape(
        "CertificateRotation",
        [
            Field(
                "subject", .choice(Subject.allCases.map(\.rawValue)),
                "each call for ca takes the next step of its rotation; the rotation of a sealing-key goes on by itself"),
            Field("node", .string, isRequired: false, "the node whose certificate is renewed"),
            Field(
                "isAbandoned", .boolean, isRequired: false, "give up a new ca that signs nothing yet instead"),
            Field(
                "step", .choice(Step.allCases.map(\.rawValue)), isRequired: false,
                "of ca: the step that is meant, so that a call that is repeated does not take the next one"),
        ])

    package var members: [JSONMember] {
        var members = [JSONMember("subject", subject.rawValue)]
        members.add("node", node)
        members.append(JSONMember("isAbandoned", isAbandoned))
        members.add("step", step?.rawValue)
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        guard let subject = Subject(rawValue: object.text("subject")) else {
            throw Problem(.malformed, "\"subject\" is none of node, ca and sealing-key; choose one")
        }
        self.init(
            subject: subject, node: object.optionalText("node"), isAbandoned: object.bool("isAbandoned"))
        guard let text = object.optionalText("step") else { return }
        guard let step = Step(rawValue: text) else {
            throw Problem(.malformed, "\"step\" is none of trust, sign and finish; choose one")
        }
        self.step = step
    }
}

/// `POST /v1/certs/renew`, by the node or the operator whose certificate it is.
package struct CertificateRenewal: Shaped {
    /// The certificate request, DER; empty to hear of the authorities only.
    package var certificateRequest: [UInt8]
    package init(certificateRequest: [UInt8]) { self.certificateRequest = certificateRequest }
    package static let shape = Shape(
        "CertificateRenewal",
        [Field("certificateRequest", .bytes, "a PKCS #10 request, DER; empty: only tell the authorities")])
    package var members: [JSONMember] { [JSONMember("certificateRequest", base64: certificateRequest)] }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(certificateRequest: object.bytes("certificateRequest"))
    }
}

/// `POST /v1/upgrade/finalize`.
package struct UpgradeFinalization: Shaped {
    /// A feature gate; nil for all that can open.
    package var gate: String?
    package init(gate: String? = nil) { self.gate = gate }
    package static let shape = Shape(
        "UpgradeFinalization",
        [Field("gate", .string, isRequired: false, "the gate to open; by default all that every replica understands")])
    package var members: [JSONMember] {
        var members: [JSONMember] = []
        members.add("gate", gate)
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) { self.init(gate: object.optionalText("gate")) }
}

/// `POST /v1/recover`: an operator's way out of a lost quorum.
package struct Recovery: Shaped {
    package var group: Int64
    package var reason: String
    package var acceptsLoss: Bool

    package init(group: Int64, reason: String, acceptsLoss: Bool) {
        self.group = group
        self.reason = reason
        self.acceptsLoss = acceptsLoss
    }

    package static let shape = Shape(
        "Recovery",
        [
            Field("group", .range(1, .max), "the group without a quorum"),
            Field("reason", .string, "why, for the record"),
            Field("acceptsLoss", .boolean, "true: acknowledged writes that only the lost nodes hold may be gone"),
        ])

    package var members: [JSONMember] {
        [JSONMember("group", group), JSONMember("reason", reason), JSONMember("acceptsLoss", acceptsLoss)]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            group: object.integer("group"), reason: object.text("reason"), acceptsLoss: object.bool("acceptsLoss"))
        if reason.isEmpty { throw Problem(.invalid, "\"reason\" is empty; say why the quorum will not come back") }
        if !acceptsLoss {
            throw Problem(
                .invalid,
                "a recovery by force may lose acknowledged writes; set \"acceptsLoss\" to true when that is understood")
        }
    }
}
