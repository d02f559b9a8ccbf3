/// The members of a JSON object that crosses the admin port: what is checked when it is read, and what OpenAPI says.
package struct Shape: Hashable, Sendable {
    package var name: String
    package var fields: [Field]

    package init(_ name: String, _ fields: [Field]) {
        self.name = name
        self.fields = fields
    }
}

/// One member of a shape.
package struct Field: Hashable, Sendable {
    package indirect enum Kind: Hashable, Sendable {
        case string, integer, number, boolean, strings
        /// A string of base64.
        case bytes
        case objects(Shape)
    }

    package var name: String
    package var kind: Kind
    package var isRequired: Bool
    package var summary: String

    package init(_ name: String, _ kind: Kind, isRequired: Bool = true, _ summary: String) {
        self.name = name
        self.kind = kind
        self.isRequired = isRequired
        self.summary = summary
    }

    var kindName: String {
        switch kind {
        case .string: "a string"
        case .integer: "an integer"
        case .number: "a number"
        case .boolean: "true or false"
        case .strings: "an array of strings"
        case .bytes: "a string of base64"
        case .objects: "an array of objects"
        }
    }

    func accepts(_ value: JSONValue) -> Bool {
        switch (kind, value) {
        case (.string, .string), (.integer, .integer), (.number, .integer), (.number, .number), (.boolean, .bool):
            true
        case (.bytes, .string(let text)): Base64.decode(text.utf8) != nil
        case (.strings, .array(let elements)): elements.allSatisfy { $0.text != nil }
        case (.objects, .array(let elements)): elements.allSatisfy { $0.members != nil }
        default: false
        }
    }
}

/// A JSON object that fits a shape: every required member is there and every member is of its kind.
package struct ShapedObject: Hashable, Sendable {
    package let json: JSONValue

    /// Checks `json` against a shape. A request must not have members that the shape does not know; an answer may, since a
    /// newer server says more.
    package init(_ json: JSONValue, _ shape: Shape, isStrict: Bool) throws(Problem) {
        guard let members = json.members else {
            throw Problem(.malformed, "the body is \(json.kindName); send an object of \(shape.memberNames)")
        }
        if isStrict, let stray = members.first(where: { member in !shape.fields.contains { $0.name == member.name } }) {
            throw Problem(.malformed, "the member \"\(stray.name)\" is unknown; use \(shape.memberNames)")
        }
        for field in shape.fields {
            guard let value = json[field.name], value != .null else {
                if field.isRequired { throw Problem(.malformed, "the member \"\(field.name)\" is missing; send it") }
                continue
            }
            if !field.accepts(value) {
                throw Problem(
                    .malformed, "the member \"\(field.name)\" is \(value.kindName); send \(field.kindName)")
            }
        }
        self.json = json
    }

    package func optionalText(_ name: String) -> String? { json[name]?.text }
    package func text(_ name: String) -> String { json[name]?.text ?? "" }
    package func optionalInteger(_ name: String) -> Int64? { json[name]?.integer }
    package func integer(_ name: String) -> Int64 { json[name]?.integer ?? 0 }
    package func unsigned(_ name: String) -> UInt64 { UInt64(max(0, integer(name))) }
    package func bool(_ name: String) -> Bool { json[name]?.bool ?? false }
    package func strings(_ name: String) -> [String] { (json[name]?.elements ?? []).compactMap(\.text) }
    package func bytes(_ name: String) -> [UInt8] { Base64.decode(text(name).utf8) ?? [] }

    package func objects<T: Shaped>(_ name: String) throws(Problem) -> [T] {
        var found: [T] = []
        for element in json[name]?.elements ?? [] {
            found.append(try T(ShapedObject(element, T.shape, isStrict: false)))
        }
        return found
    }
}

extension Shape {
    var memberNames: String { fields.map { "\"\($0.name)\"" }.joined(separator: ", ") }
}

/// A value that crosses the admin port as a JSON object.
package protocol Shaped: Hashable, Sendable {
    static var shape: Shape { get }
    /// The members, those that are not there left out. A test holds them to the shape.
    var members: [JSONMember] { get }
    init(_ object: ShapedObject) throws(Problem)
}

extension Shaped {
    package var json: JSONValue { .object(members) }

    /// Reads an answer's body.
    package init(body: ArraySlice<UInt8>) throws(Problem) {
        let json: JSONValue
        do throws(JSONFault) {
            json = try JSONParser.parse(body, depthMax: 32, valuesMax: 1 << 20)
        } catch {
            throw Problem(.internal, "the answer can't be read: \(error)")
        }
        try self.init(ShapedObject(json, Self.shape, isStrict: false))
    }
}

extension JSONMember {
    init(_ name: String, _ text: String) { self.init(name, .string(text)) }
    init(_ name: String, _ number: UInt64) { self.init(name, .integer(Int64(clamping: number))) }
    init(_ name: String, _ number: Int64) { self.init(name, .integer(number)) }
    init(_ name: String, _ bool: Bool) { self.init(name, .bool(bool)) }
    init(_ name: String, _ texts: [String]) { self.init(name, .array(texts.map { .string($0) })) }
    init(_ name: String, base64 bytes: [UInt8]) {
        var text: [UInt8] = []
        Base64.encode(bytes, into: &text)
        self.init(name, .string(String(decoding: text, as: UTF8.self)))
    }
    init(_ name: String, objects: [some Shaped]) { self.init(name, .array(objects.map(\.json))) }
}

extension [JSONMember] {
    /// Leaves the member out when there is no value.
    mutating func add(_ name: String, _ text: String?) {
        if let text { append(JSONMember(name, text)) }
    }

    mutating func add(_ name: String, _ number: Int64?) {
        if let number { append(JSONMember(name, number)) }
    }
}
