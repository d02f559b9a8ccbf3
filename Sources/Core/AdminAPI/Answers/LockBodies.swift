package import ClusterBase
package import FleetModel

/// What takes a lock, or renews it.
package struct LockWish: Shaped {
    package var owner: String
    package var leaseMillis: Int64

    package init(owner: String, leaseMillis: Int64) {
        self.owner = owner
        self.leaseMillis = leaseMillis
    }

    package static let shape = Shape(
        "LockWish",
        [
            Field("owner", .text(pattern: Pattern.owner), "a name that nobody else uses; the same one renews"),
            Field("leaseMillis", .range(1_000, 3_600_000), "without a renewal for so long the lock becomes free"),
        ])

    package var members: [JSONMember] { [JSONMember("owner", owner), JSONMember("leaseMillis", leaseMillis)] }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(owner: object.text("owner"), leaseMillis: object.integer("leaseMillis"))
    }
}

package struct LockRelease: Shaped {
    package var owner: String
    package var token: UInt64?

    package init(owner: String, token: UInt64? = nil) {
        self.owner = owner
        self.token = token
    }

    package static let shape = Shape(
        "LockRelease",
        [
            Field("owner", .text(pattern: Pattern.owner), "who took it"),
            Field(
                "token", .range(1, .max), isRequired: false,
                "only the holding under this token: a request that comes late frees no later one"),
        ])

    package var members: [JSONMember] {
        var members = [JSONMember("owner", owner)]
        if let token { members.append(JSONMember("token", token)) }
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(owner: object.text("owner"), token: object.json["token"].map { _ in object.unsigned("token") })
    }
}

/// A lock that was taken or renewed.
package struct LockHeld: Shaped {
    package var token: UInt64
    package init(token: Revision) { self.token = token.rawValue }

    package static let shape = Shape(
        "LockHeld",
        [
            Field(
                "token", .integer,
                "higher than that of every holder before; send it along with what you do under the lock")
        ])

    package var members: [JSONMember] { [JSONMember("token", token)] }
    package init(_ object: ShapedObject) throws(Problem) { token = object.unsigned("token") }
}

/// A lock that somebody holds.
package struct LockInfo: Shaped {
    package var lock: SpaceLock
    package init(_ lock: SpaceLock) { self.lock = lock }

    package static let shape = Shape(
        "Lock",
        [
            Field("name", .string, "its name"), Field("owner", .string, "who holds it"),
            Field("token", .integer, "under which it is held"), Field("leaseMillis", .integer, "its lease"),
            Field("renewed", .string, "the revision of the last renewal"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("name", lock.name), JSONMember("owner", lock.owner), JSONMember("token", lock.token.rawValue),
            JSONMember("leaseMillis", lock.lease.milliseconds), JSONMember("renewed", lock.renewed.description),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        lock = SpaceLock(
            name: object.text("name"), owner: object.text("owner"), token: Revision(object.unsigned("token")),
            renewed: Revision(text: Array(object.text("renewed").utf8)[...]) ?? .zero,
            lease: .milliseconds(object.integer("leaseMillis")))
    }
}

/// A page of locks that are held.
package struct LockPage: Shaped {
    package var items: [LockInfo]
    package var next: String?

    package init(_ locks: [SpaceLock], next: String?) {
        items = locks.map { LockInfo($0) }
        self.next = next
    }

    package static let shape = Shape(
        "LockPage",
        [
            Field("items", .objects(LockInfo.shape), "in the order of their names"),
            Field("next", .string, isRequired: false, "there are more: ask again with after= this"),
        ])

    package var members: [JSONMember] {
        var members = [JSONMember("items", objects: items)]
        members.add("next", next)
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        items = try object.objects("items")
        next = object.json["next"]?.text
    }
}

extension AdminResponse {
    /// The answer to a question for one lock.
    package init(lock name: String, _ answer: SpaceAnswer, age: Nanoseconds? = nil) {
        if case .locks(let locks, _) = answer.body, let lock = locks.first {
            self.init(LockInfo(lock))
            (index, self.age) = (answer.revision.index, age)
        } else if case .locks = answer.body {
            self.init(Problem.lockFree(name))
            (index, self.age) = (answer.revision.index, age)
        } else {
            self.init(answer, age: age)
        }
    }
}

extension Problem {
    package static func lockFree(_ name: String) -> Problem { Problem(.notFound, "nobody holds the lock \(name)") }
}

extension SpaceFence {
    /// As a query says it: `NAME:TOKEN`.
    package init?(text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, ObjectName.isValid(parts[0].utf8), let token = UInt64(parts[1]) else { return nil }
        self.init(String(parts[0]), Revision(token))
    }

    package var text: String { "\(lock):\(token.rawValue)" }
}
