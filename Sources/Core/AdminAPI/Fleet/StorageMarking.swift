/// `POST /v1/hosts/{host}/storage`.
package struct StorageMarking: Hashable, Sendable, Shaped {
    package var domain: String
    /// Even while other hosts reach the domain.
    package var isForced: Bool
    package init(_ domain: String, isForced: Bool = false) {
        self.domain = domain
        self.isForced = isForced
    }

    package static let shape = Shape(
        "StorageMarking",
        [
            Field("domain", .string, "the storage domain, one of host.storage-domains there"),
            Field(
                "force", .boolean, isRequired: false,
                "even while other hosts reach it, which then don't until the same storage is mounted there"),
        ])
    package var members: [JSONMember] {
        var members = [JSONMember("domain", domain)]
        if isForced { members.append(JSONMember("force", isForced)) }
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        domain = object.text("domain")
        isForced = object.bool("force")
    }
}
