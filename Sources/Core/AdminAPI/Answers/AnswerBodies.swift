// What the bodies of answers hold, read and written by the server and the command line alike. Times are seconds since
// 1970, and 0 is never.

/// A list of things of one kind.
package struct Listing<Item: Shaped>: Shaped {
    package var items: [Item]
    package init(_ items: [Item]) { self.items = items }
    package static var shape: Shape {
        Shape(Item.shape.name + "List", [Field("items", .objects(Item.shape), "one for each")])
    }
    package var members: [JSONMember] { [JSONMember("items", objects: items)] }
    package init(_ object: ShapedObject) throws(Problem) { self.init(try object.objects("items")) }
}

/// A space.
package struct SpaceInfo: Shaped {
    package var name: String
    package var group: UInt64
    /// Names of the nodes that hold it.
    package var nodes: [String]
    /// Empty while nobody leads.
    package var leader: String
    package var state: String

    package init(name: String, group: UInt64, nodes: [String], leader: String, state: String) {
        self.name = name
        self.group = group
        self.nodes = nodes
        self.leader = leader
        self.state = state
    }

    package static let shape = Shape(
        "Space",
        [
            Field("name", .string, "its name"), Field("group", .integer, "the number of its group"),
            Field("nodes", .strings, "the nodes that hold it"),
            Field("leader", .string, "the node that leads it; empty while none is known to"),
            Field("state", .string, "ready, creating, moving or deleting"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("name", name), JSONMember("group", group), JSONMember("nodes", nodes),
            JSONMember("leader", leader), JSONMember("state", state),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            name: object.text("name"), group: object.unsigned("group"), nodes: object.strings("nodes"),
            leader: object.text("leader"), state: object.text("state"))
    }
}

/// A group as the node that is asked sees it.
package struct GroupInfo: Shaped {
    package var group: UInt64
    package var kind: String
    package var name: String
    package var leader: String
    package var term: UInt64
    package var committed: UInt64
    package var applied: UInt64
    /// Of its last entry, committed or not: who is ahead in these has the newest log.
    package var last: UInt64
    package var lastTerm: UInt64
    package var voters: [String]
    package var learners: [String]

    package init(
        group: UInt64, kind: String, name: String, leader: String, term: UInt64, committed: UInt64, applied: UInt64,
        last: UInt64, lastTerm: UInt64, voters: [String], learners: [String]
    ) {
        self.group = group
        self.kind = kind
        self.name = name
        self.leader = leader
        self.term = term
        self.committed = committed
        self.applied = applied
        self.last = last
        self.lastTerm = lastTerm
        self.voters = voters
        self.learners = learners
    }

    package static let shape = Shape(
        "Group",
        [
            Field("group", .integer, "its number"), Field("kind", .string, "root, cell or space"),
            Field("name", .string, "the space's or cell's name"),
            Field("leader", .string, "the node that leads it; empty while none does"),
            Field("term", .integer, "its term"), Field("committed", .integer, "the last committed index"),
            Field("applied", .integer, "the last applied index"),
            Field("last", .integer, "the index of the last entry of its log, committed or not"),
            Field("lastTerm", .integer, "that entry's term"), Field("voters", .strings, "nodes that vote"),
            Field("learners", .strings, "nodes that follow without a vote"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("group", group), JSONMember("kind", kind), JSONMember("name", name),
            JSONMember("leader", leader), JSONMember("term", term), JSONMember("committed", committed),
            JSONMember("applied", applied), JSONMember("last", last), JSONMember("lastTerm", lastTerm),
            JSONMember("voters", voters), JSONMember("learners", learners),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            group: object.unsigned("group"), kind: object.text("kind"), name: object.text("name"),
            leader: object.text("leader"), term: object.unsigned("term"), committed: object.unsigned("committed"),
            applied: object.unsigned("applied"), last: object.unsigned("last"), lastTerm: object.unsigned("lastTerm"),
            voters: object.strings("voters"), learners: object.strings("learners"))
    }
}

extension GroupInfo {
    /// What a forced recovery is best based on comes first. The last entry decides, by the rule by which replicas vote: one that
    /// was acknowledged may be committed on no survivor's word, and a term may be of elections that nobody won.
    package func isNewer(than other: GroupInfo) -> Bool { (lastTerm, last) > (other.lastTerm, other.last) }
}

/// The cluster as the node that is asked sees it.
package struct ClusterStatus: Shaped {
    package var cluster: String
    package var node: String
    package var version: String
    package var isReady: Bool
    package var groups: [GroupInfo]
    package var alarms: [String]
    package var addresses: [String]
    /// The root has confirmed what is shown of it.
    package var isCurrent = true
    /// What would make cells better, where their controllers only propose it.
    package var advice: [String] = []

    package init(
        cluster: String, node: String, version: String, isReady: Bool, groups: [GroupInfo], alarms: [String],
        addresses: [String]
    ) {
        self.cluster = cluster
        self.node = node
        self.version = version
        self.isReady = isReady
        self.groups = groups
        self.alarms = alarms
        self.addresses = addresses
    }

    package static let shape = Shape(
        "Status",
        [
            Field("cluster", .string, "the cluster's id"), Field("node", .string, "the node that answers"),
            Field("version", .string, "the version it runs"),
            Field("isReady", .boolean, "it can serve reads and writes"),
            Field("groups", .objects(GroupInfo.shape), "the groups that it holds"),
            Field("alarms", .strings, "what needs a person"),
            Field("addresses", .strings, "where the cluster's nodes can be asked, as far as this one knows"),
            Field(
                "isCurrent", .boolean, isRequired: false,
                "false: the root did not answer in time, and what is shown of it may be as old as Muster-Age says"),
            Field(
                "advice", .strings, isRequired: false,
                "moves that would make a cell better, where its setting rebalance is advice"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("cluster", cluster), JSONMember("node", node), JSONMember("version", version),
            JSONMember("isReady", isReady), JSONMember("groups", objects: groups), JSONMember("alarms", alarms),
            JSONMember("addresses", addresses), JSONMember("isCurrent", isCurrent), JSONMember("advice", advice),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            cluster: object.text("cluster"), node: object.text("node"), version: object.text("version"),
            isReady: object.bool("isReady"), groups: try object.objects("groups"), alarms: object.strings("alarms"),
            addresses: object.strings("addresses"))
        isCurrent = object.has("isCurrent") ? object.bool("isCurrent") : true
        advice = object.strings("advice")
    }
}

/// A node.
package struct NodeInfo: Shaped {
    package var name: String
    package var node: UInt64
    package var region: String
    package var zone: String
    package var rack: String
    package var address: String
    package var adminAddress: String
    package var role: String
    package var state: String
    package var version: String
    package var certificateExpires: Int64
    package var cell: String
    package var movesTo: String?

    package init(
        name: String, node: UInt64, region: String, zone: String, rack: String, address: String,
        adminAddress: String, role: String, state: String, version: String, certificateExpires: Int64,
        cell: String = "", movesTo: String? = nil
    ) {
        self.name = name
        self.node = node
        self.region = region
        self.zone = zone
        self.rack = rack
        self.address = address
        self.adminAddress = adminAddress
        self.role = role
        self.state = state
        self.version = version
        self.certificateExpires = certificateExpires
        self.cell = cell
        self.movesTo = movesTo
    }

    package static let shape = Shape(
        "Node",
        [
            Field("name", .string, "its name"), Field("node", .integer, "its number"),
            Field("region", .string, "where it is"), Field("zone", .string, "where it is"),
            Field("rack", .string, "where it is"), Field("address", .string, "where nodes reach it"),
            Field("adminAddress", .string, "where clients reach it"),
            Field("role", .string, "voter, standby or none in the root group"),
            Field("state", .string, "up, suspect, down or leaving"), Field("version", .string, "what it runs"),
            Field("certificateExpires", .integer, "when its certificate ends; seconds since 1970"),
            Field("cell", .string, isRequired: false, "the cell that its host belongs to; empty while there is none"),
            Field("movesTo", .string, isRequired: false, "the cell that its host is to go to"),
        ])

    package var members: [JSONMember] {
        var members = [
            JSONMember("name", name), JSONMember("node", node), JSONMember("region", region),
            JSONMember("zone", zone), JSONMember("rack", rack), JSONMember("address", address),
            JSONMember("adminAddress", adminAddress), JSONMember("role", role), JSONMember("state", state),
            JSONMember("version", version), JSONMember("certificateExpires", certificateExpires),
            JSONMember("cell", cell),
        ]
        members.add("movesTo", movesTo)
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            name: object.text("name"), node: object.unsigned("node"), region: object.text("region"),
            zone: object.text("zone"), rack: object.text("rack"), address: object.text("address"),
            adminAddress: object.text("adminAddress"), role: object.text("role"), state: object.text("state"),
            version: object.text("version"), certificateExpires: object.integer("certificateExpires"),
            cell: object.optionalText("cell") ?? "", movesTo: object.optionalText("movesTo"))
    }
}

/// A token, without its secret.
package struct TokenInfo: Shaped {
    package var id: String
    package var kind: String
    package var role: String
    package var usesLeft: Int64
    package var expires: Int64
    package var note: String

    package init(id: String, kind: String, role: String, usesLeft: Int64, expires: Int64, note: String) {
        self.id = id
        self.kind = kind
        self.role = role
        self.usesLeft = usesLeft
        self.expires = expires
        self.note = note
    }

    package static let shape = Shape(
        "Token",
        [
            Field("id", .string, "its name in lists and records"), Field("kind", .string, "join or api"),
            Field("role", .string, "what an api token may do; empty for join"),
            Field("usesLeft", .integer, "how often it may still be used; -1 without limit"),
            Field("expires", .integer, "when it ends; seconds since 1970"), Field("note", .string, "what it is for"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("id", id), JSONMember("kind", kind), JSONMember("role", role),
            JSONMember("usesLeft", usesLeft), JSONMember("expires", expires), JSONMember("note", note),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            id: object.text("id"), kind: object.text("kind"), role: object.text("role"),
            usesLeft: object.integer("usesLeft"), expires: object.integer("expires"), note: object.text("note"))
    }
}

/// A token that was just made; nobody can read its text again.
package struct CreatedToken: Shaped {
    package var id: String
    package var token: String
    package var expires: Int64

    package init(id: String, token: String, expires: Int64) {
        self.id = id
        self.token = token
        self.expires = expires
    }

    package static let shape = Shape(
        "CreatedToken",
        [
            Field("id", .string, "its name in lists and records"),
            Field("token", .string, "the token itself, shown this once"),
            Field("expires", .integer, "when it ends; seconds since 1970"),
        ])

    package var members: [JSONMember] {
        [JSONMember("id", id), JSONMember("token", token), JSONMember("expires", expires)]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(id: object.text("id"), token: object.text("token"), expires: object.integer("expires"))
    }
}

/// What a node gets when it joins.
package struct JoinAnswer: Shaped {
    package var cluster: String
    package var node: UInt64
    /// Its certificate, DER; empty for a check.
    package var certificate: [UInt8]
    /// The cluster's CA certificates, PEM.
    package var authorities: [String]
    /// Addresses of nodes to begin with.
    package var peers: [String]

    package init(cluster: String, node: UInt64, certificate: [UInt8], authorities: [String], peers: [String]) {
        self.cluster = cluster
        self.node = node
        self.certificate = certificate
        self.authorities = authorities
        self.peers = peers
    }

    package static let shape = Shape(
        "JoinAnswer",
        [
            Field("cluster", .string, "the cluster's id"), Field("node", .integer, "the number of the new node"),
            Field("certificate", .bytes, "its certificate, DER; empty for a check"),
            Field("authorities", .strings, "the cluster's CA certificates, PEM"),
            Field("peers", .strings, "addresses of nodes to begin with"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("cluster", cluster), JSONMember("node", node),
            JSONMember("certificate", base64: certificate), JSONMember("authorities", authorities),
            JSONMember("peers", peers),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            cluster: object.text("cluster"), node: object.unsigned("node"),
            certificate: object.bytes("certificate"), authorities: object.strings("authorities"),
            peers: object.strings("peers"))
    }
}

/// A certificate of the cluster.
package struct CertificateInfo: Shaped {
    package var subject: String
    package var serial: String
    package var begins: Int64
    package var expires: Int64
    package var state: String

    package init(subject: String, serial: String, begins: Int64, expires: Int64, state: String) {
        self.subject = subject
        self.serial = serial
        self.begins = begins
        self.expires = expires
        self.state = state
    }

    package static let shape = Shape(
        "Certificate",
        [
            Field("subject", .string, "its URI, or ca"), Field("serial", .string, "its serial number in hex"),
            Field("begins", .integer, "when it begins; seconds since 1970"),
            Field("expires", .integer, "when it ends; seconds since 1970"),
            Field("state", .string, "in use, trusted or retired"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("subject", subject), JSONMember("serial", serial), JSONMember("begins", begins),
            JSONMember("expires", expires), JSONMember("state", state),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            subject: object.text("subject"), serial: object.text("serial"), begins: object.integer("begins"),
            expires: object.integer("expires"), state: object.text("state"))
    }
}

/// A renewed certificate.
package struct RenewedCertificate: Shaped {
    /// DER.
    package var certificate: [UInt8]
    /// PEM.
    package var authorities: [String]

    package init(certificate: [UInt8], authorities: [String]) {
        self.certificate = certificate
        self.authorities = authorities
    }

    package static let shape = Shape(
        "RenewedCertificate",
        [
            Field("certificate", .bytes, "the new certificate, DER"),
            Field("authorities", .strings, "the cluster's CA certificates, PEM"),
        ])

    package var members: [JSONMember] {
        [JSONMember("certificate", base64: certificate), JSONMember("authorities", authorities)]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(certificate: object.bytes("certificate"), authorities: object.strings("authorities"))
    }
}

/// A feature gate.
package struct GateInfo: Shaped {
    package var name: String
    /// What opens with it, for people.
    package var summary: String
    package var isOpen: Bool
    /// Nodes that run a version that does not know it.
    package var missing: [String]

    package init(name: String, summary: String, isOpen: Bool, missing: [String]) {
        self.name = name
        self.summary = summary
        self.isOpen = isOpen
        self.missing = missing
    }

    package static let shape = Shape(
        "Gate",
        [
            Field("name", .string, "its name"), Field("summary", .string, "what opens with it, for people"),
            Field("isOpen", .boolean, "it is in use, and going back ends here"),
            Field("missing", .strings, "nodes that do not understand it"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("name", name), JSONMember("summary", summary), JSONMember("isOpen", isOpen),
            JSONMember("missing", missing),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            name: object.text("name"), summary: object.text("summary"), isOpen: object.bool("isOpen"),
            missing: object.strings("missing"))
    }
}

/// A change that is taken up; what becomes of it shows in lists and status.
package struct Acceptance: Shaped {
    package var message: String
    package init(_ message: String) { self.message = message }
    package static let shape = Shape("Acceptance", [Field("message", .string, "what happens now")])
    package var members: [JSONMember] { [JSONMember("message", message)] }
    package init(_ object: ShapedObject) throws(Problem) { self.init(object.text("message")) }
}

extension AdminResponse {
    /// An answer of JSON.
    package init(_ answer: some Shaped, status: Int = 200) { self.init(json: answer.json, status: status) }
}
