/// `POST /v1/vms/{vm}/console`: what was typed, and from where on the answer is to show what the guest wrote.
package struct ConsoleTurn: Shaped {
    /// What one request may type.
    package static let typedBytesMax = 4_096

    /// Names who types: what was typed twice under one name counts once.
    package var session: String
    /// Bytes that were typed in this session before these.
    package var typedBefore: Int64
    package var typed: [UInt8]
    /// A place in what the guest wrote; nil for its end.
    package var from: Int64?

    package init(session: String, typedBefore: Int64 = 0, typed: [UInt8] = [], from: Int64? = nil) {
        self.session = session
        self.typedBefore = typedBefore
        self.typed = typed
        self.from = from
    }

    package static let shape = Shape(
        "ConsoleTurn",
        [
            Field("session", .name, "any name of the caller's; what is typed again under it counts once"),
            Field(
                "typedBefore", .integer, isRequired: false,
                "bytes that were typed in this session before; 0 when left out"),
            Field("base64", .bytes, isRequired: false, "what was typed, at most 4096 bytes"),
            Field(
                "from", .integer, isRequired: false,
                "the last answer's next; the end of what the guest wrote when left out"),
        ])
    package var members: [JSONMember] {
        var members = [
            JSONMember("session", session), JSONMember("typedBefore", typedBefore), JSONMember("base64", base64: typed),
        ]
        members.add("from", from)
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            session: object.text("session"), typedBefore: object.optionalInteger("typedBefore") ?? 0,
            typed: object.bytes("base64"), from: object.optionalInteger("from"))
        if typed.count > ConsoleTurn.typedBytesMax || typedBefore < 0 || (from ?? 0) < 0 {
            throw Problem(
                .invalid, "at most \(ConsoleTurn.typedBytesMax) bytes are typed at once, and no number is below 0")
        }
    }
}

/// What a guest wrote since the place that was asked from.
package struct ConsoleOutput: Shaped {
    /// So that an answer fits what one node sends another.
    package static let bytesMax = 65_536

    package var host: String
    package var text: [UInt8]
    package var next: Int64

    package init(host: String, text: [UInt8], next: Int64) {
        self.host = host
        self.text = text
        self.next = next
    }

    package static let shape = Shape(
        "ConsoleOutput",
        [
            Field("host", .string, "where the VM is"), Field("base64", .bytes, "what it wrote"),
            Field("next", .integer, "where the next request goes on"),
        ])
    package var members: [JSONMember] {
        [JSONMember("host", host), JSONMember("base64", base64: text), JSONMember("next", next)]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(host: object.text("host"), text: object.bytes("base64"), next: object.integer("next"))
    }
}
