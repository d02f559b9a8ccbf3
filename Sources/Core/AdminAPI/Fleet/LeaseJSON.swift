internal import ClusterBase
package import FleetModel

/// `POST /v1/lease`: a host's guard renews the host's lease. Only for the host's own certificate.
package struct LeaseWish: Shaped {
    package var host: HostID
    /// Of the permits that the guard knows; they are sent only where they are others.
    package var digest: UInt64?
    package init(host: HostID, digest: UInt64? = nil) {
        self.host = host
        self.digest = digest
    }
    package static let shape = Shape(
        "LeaseWish",
        [
            Field("host", .integer, "the host's number, which is its node's"),
            Field("digest", .string, isRequired: false, "of the permits that are known, from the last answer"),
        ])
    package var members: [JSONMember] {
        var members = [JSONMember("host", host.rawValue)]
        members.add("digest", digest.map { String($0, radix: 16) })
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            host: HostID(object.unsigned("host")),
            digest: object.optionalText("digest").flatMap { UInt64($0, radix: 16) })
    }
}

extension RunPermit: Shaped {
    package static let shape = Shape(
        "RunPermit",
        [
            Field("vm", .integer, "the VM's id"), Field("epoch", .integer, "its placement epoch"),
            Field("isolation", .choice(FleetWords.isolation.all), "what becomes of it without a lease"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("vm", vm.rawValue), JSONMember("epoch", epoch),
            JSONMember("isolation", FleetWords.isolation[isolation]),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            VMID(object.unsigned("vm")), epoch: object.unsigned("epoch"),
            isolation: FleetWords.isolation[object.text("isolation")] ?? .stop)
    }
}

/// For how long a host may run what, counted from when it sent its request.
package struct LeaseInfo: Shaped {
    /// Zero when nothing is promised to the host.
    package var lengthMilliseconds: UInt64
    /// The entry of the cell's log that was read.
    package var generation: UInt64
    package var digest: UInt64
    /// Nil where the asker knows them by the digest.
    package var permits: [RunPermit]?
    package init(lengthMilliseconds: UInt64, generation: UInt64, digest: UInt64, permits: [RunPermit]?) {
        self.lengthMilliseconds = lengthMilliseconds
        self.generation = generation
        self.digest = digest
        self.permits = permits
    }
    package static let shape = Shape(
        "LeaseInfo",
        [
            Field("lengthMilliseconds", .integer, "from the sending of the request; 0: nothing is promised"),
            Field("generation", .integer, "the entry of the cell's log that was read"),
            Field("digest", .string, "of the permits"),
            Field("isWhole", .boolean, "the permits are all that there are, and not known already"),
            Field("permits", .objects(RunPermit.shape), isRequired: false, "what the host may run"),
        ])
    package var members: [JSONMember] {
        var members = [
            JSONMember("lengthMilliseconds", lengthMilliseconds), JSONMember("generation", generation),
            JSONMember("digest", String(digest, radix: 16)), JSONMember("isWhole", permits != nil),
        ]
        members.add("permits", objects: permits ?? [])
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        guard let digest = UInt64(object.text("digest"), radix: 16) else {
            throw Problem(.internal, "the lease's digest can't be read; use the same version of muster on all hosts")
        }
        let permits: [RunPermit] = try object.objects("permits")
        self.init(
            lengthMilliseconds: object.unsigned("lengthMilliseconds"), generation: object.unsigned("generation"),
            digest: digest, permits: object.bool("isWhole") ? permits : nil)
    }
}
