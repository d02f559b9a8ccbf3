package import ClusterBase
package import FleetModel

// Images, in both directions.

/// What an image is called, and where its bytes are.
package struct ImageInfo: Hashable, Sendable, Shaped {
    package var name: String
    /// Empty: everybody's.
    package var tenant: String
    package var digest: String
    package var bytes: UInt64
    /// `raw` or `qcow2`; empty where nobody looked.
    package var format: String
    /// Of the disk that a guest sees.
    package var guestBytes: UInt64
    /// Names of the nodes that keep a copy.
    package var holders: [String]
    package var isLeaving: Bool
    package var created: Int64
    package var createdBy: String

    package init(_ image: RootImage, nodeName: (NodeID) -> String) {
        name = image.name
        tenant = image.tenant
        digest = image.digest
        bytes = image.size
        format = image.guestBytes == 0 ? "" : image.isQCOW2 ? "qcow2" : "raw"
        guestBytes = image.guestBytes
        holders = image.holders.map(nodeName)
        isLeaving = image.isLeaving
        created = Int64(clamping: image.createdAt.rawValue / 1_000)
        createdBy = image.createdBy
    }

    package static let shape = Shape(
        "Image",
        [
            Field("name", .string, "its name"), Field("tenant", .string, "whose it is; empty: every tenant's"),
            Field("sha256", .string, "of its bytes, in hexadecimal"), Field("bytes", .integer, "its size"),
            Field("format", .string, "raw or qcow2; empty of one that was added before this was looked at"),
            Field(
                "guestBytes", .integer, "of the disk that a guest sees, which a VM's disk has at least; 0 if unknown"),
            Field("holders", .strings, "nodes that keep a copy for the others"),
            Field("leaving", .boolean, "it is being removed, and no VM may name it"),
            Field("created", .integer, "when, in seconds since 1970"),
            Field("createdBy", .string, "who added it, and from where"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("name", name), JSONMember("tenant", tenant), JSONMember("sha256", digest),
            JSONMember("bytes", Int64(clamping: bytes)), JSONMember("format", format),
            JSONMember("guestBytes", Int64(clamping: guestBytes)), JSONMember("holders", holders),
            JSONMember("leaving", isLeaving), JSONMember("created", created), JSONMember("createdBy", createdBy),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        name = object.text("name")
        tenant = object.text("tenant")
        digest = object.text("sha256")
        bytes = UInt64(clamping: object.integer("bytes"))
        format = object.text("format")
        guestBytes = UInt64(clamping: object.integer("guestBytes"))
        holders = object.strings("holders")
        isLeaving = object.bool("leaving")
        created = object.integer("created")
        createdBy = object.text("createdBy")
    }
}

/// Whose an image is to be.
private enum ImageOwner {
    static let fields = [
        Field("tenant", .name, isRequired: false, "whose; \(defaultTenant) when left out"),
        Field("shared", .boolean, isRequired: false, "true: every tenant may use it, and tenant is left out"),
    ]
    static func members(_ tenant: String) -> [JSONMember] {
        tenant.isEmpty ? [JSONMember("shared", true)] : [JSONMember("tenant", tenant)]
    }
    /// Empty: everybody's.
    static func read(_ object: ShapedObject) throws(Problem) -> String {
        if object.bool("shared") && object.has("tenant") {
            throw object.wrong("shared", "stands beside a tenant; send one of them")
        }
        return object.bool("shared") ? "" : object.optionalText("tenant") ?? defaultTenant
    }
}

/// 64 hexadecimal digits in lower case.
enum Digest {
    static let pattern = "^[0-9a-f]{64}$"
    static func check(_ object: ShapedObject) throws(Problem) -> String {
        let text = object.text("sha256")
        let isDigest =
            text.utf8.count == 64
            && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
        guard isDigest else { throw object.wrong("sha256", "has 64 hexadecimal digits in lower case") }
        return text
    }
}

/// Gives a name to bytes that were sent before.
package struct ImageCreation: Hashable, Sendable, Shaped {
    package var name: String
    /// Empty: everybody's.
    package var tenant: String
    package var digest: String

    package init(name: String, tenant: String, digest: String) {
        self.name = name
        self.tenant = tenant
        self.digest = digest
    }

    package static let shape = Shape(
        "ImageCreation",
        [Field("name", .name, "its name")] + ImageOwner.fields + [
            Field(
                "sha256", .text(pattern: Digest.pattern),
                "of the bytes that were sent to this node for the same tenant, or of an image that the asker may see")
        ])
    package var members: [JSONMember] {
        [JSONMember("name", name), JSONMember("sha256", digest)] + ImageOwner.members(tenant)
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            name: object.text("name"), tenant: try ImageOwner.read(object), digest: try Digest.check(object))
    }
}

/// Some of the bytes of an image that is to be.
package struct ImagePart: Hashable, Sendable, Shaped {
    /// In one part; JSON has four bytes for three.
    package static let bytesMax = 4 << 20
    /// Empty: it is to be everybody's.
    package var tenant: String
    package var digest: String
    package var offset: Int64
    package var bytes: [UInt8]

    package init(tenant: String, digest: String, offset: Int64, bytes: [UInt8]) {
        self.tenant = tenant
        self.digest = digest
        self.offset = offset
        self.bytes = bytes
    }

    package static let shape = Shape(
        "ImagePart",
        ImageOwner.fields + [
            Field("sha256", .text(pattern: Digest.pattern), "of all of the image's bytes"),
            Field("offset", .range(0, 1 << 44), "where these bytes belong: what the last answer said"),
            Field(
                "bytes", .text(pattern: "^[A-Za-z0-9+/_-]*={0,2}$"),
                "at most \(bytesMax) of them, as base64; none asks where to go on"),
        ])
    package var members: [JSONMember] {
        var text: [UInt8] = []
        Base64.encode(bytes, into: &text)
        return [
            JSONMember("sha256", digest), JSONMember("offset", offset),
            JSONMember("bytes", String(decoding: text, as: UTF8.self)),
        ] + ImageOwner.members(tenant)
    }
    package init(_ object: ShapedObject) throws(Problem) {
        tenant = try ImageOwner.read(object)
        digest = try Digest.check(object)
        offset = object.integer("offset")
        guard let decoded = Base64.decode(object.text("bytes").utf8) else {
            throw object.wrong("bytes", "are no base64; encode them whole, in either alphabet")
        }
        bytes = decoded
        if bytes.count > ImagePart.bytesMax {
            throw object.wrong("bytes", "are more than \(ImagePart.bytesMax); send several parts")
        }
    }
}

/// How much of an image this node has.
package struct ImageProgress: Hashable, Sendable, Shaped {
    package var received: Int64
    package init(received: Int64) { self.received = received }
    package static let shape = Shape(
        "ImageProgress",
        [
            Field(
                "received", .integer,
                "bytes that are here, or all of them where the asker may see the image: where the next part begins")
        ])
    package var members: [JSONMember] { [JSONMember("received", received)] }
    package init(_ object: ShapedObject) throws(Problem) { received = object.integer("received") }
}
