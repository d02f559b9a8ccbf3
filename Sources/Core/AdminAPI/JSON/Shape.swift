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
        case object(Shape)
        /// An object of whatever members.
        case anyObject
        case anyObjects
        /// An object whose members are all strings: labels.
        case map
        case integers
        /// A whole number between these two.
        case range(Int64, Int64)
        /// One of these strings.
        case choice([String])
        /// A string that `ObjectName` allows.
        case name
        case names
        /// A string that this regular expression of JSON Schema describes. Who reads it checks it.
        case text(pattern: String)
        /// One of these numbers.
        case oneOf([Int64])
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
        case .objects, .anyObjects: "an array of objects"
        case .object, .anyObject: "an object"
        case .map: "an object of strings"
        case .integers: "an array of integers"
        case .range(let least, let most): "an integer from \(least) to \(most)"
        case .choice(let words): words.map { "\"\($0)\"" }.joined(separator: " or ")
        case .name: "\(ObjectName.rule)"
        case .names: "an array of strings, each of \(ObjectName.rule)"
        case .text(let pattern): "a string such as \(pattern)"
        case .oneOf(let numbers): numbers.map { "\($0)" }.joined(separator: " or ")
        }
    }

    func accepts(_ value: JSONValue) -> Bool {
        switch (kind, value) {
        case (.object, .object), (.anyObject, .object): true
        case (.map, .object(let members)): members.allSatisfy { $0.value.text != nil }
        case (.integers, .array(let elements)): elements.allSatisfy { $0.whole != nil }
        case (.range(let least, let most), _): value.whole.map { $0 >= least && $0 <= most } ?? false
        case (.choice(let words), .string(let text)): words.contains(text)
        case (.name, .string(let text)): ObjectName.isValid(text.utf8)
        case (.names, .array(let elements)):
            elements.allSatisfy { $0.text.map { ObjectName.isValid($0.utf8) } ?? false }
        case (.oneOf(let numbers), _): value.whole.map { numbers.contains($0) } ?? false
        case (.text, .string): true
        case (.integer, .number): value.whole != nil
        case (.string, .string), (.integer, .integer), (.number, .integer), (.number, .number), (.boolean, .bool):
            true
        case (.bytes, .string(let text)): Base64.decode(text.utf8) != nil
        case (.strings, .array(let elements)): elements.allSatisfy { $0.text != nil }
        case (.objects, .array(let elements)), (.anyObjects, .array(let elements)):
            elements.allSatisfy { $0.members != nil }
        default: false
        }
    }
}

/// A JSON object that fits a shape: every required member is there and every member is of its kind.
package struct ShapedObject: Hashable, Sendable {
    package let json: JSONValue
    /// Where it is in the body, for messages: empty, or what a member's name is put behind.
    let path: String
    let isStrict: Bool

    /// Checks `json` against a shape. A request must not have members that the shape does not know; an answer may, since a
    /// newer server says more.
    package init(_ json: JSONValue, _ shape: Shape, isStrict: Bool, path: String = "") throws(Problem) {
        guard let members = json.members else {
            throw Problem(
                .malformed,
                "\(path.isEmpty ? "the body" : "the member \"\(path)\"") is \(json.kindName); send an object of "
                    + shape.memberNames, field: path)
        }
        let prefix = path.isEmpty ? "" : path + "."
        if isStrict, let stray = members.first(where: { member in !shape.fields.contains { $0.name == member.name } }) {
            throw Problem(
                .malformed, "the member \"\(prefix)\(stray.name)\" is unknown; use \(shape.memberNames)",
                field: prefix + stray.name)
        }
        for field in shape.fields {
            guard let value = json[field.name], value != .null else {
                if field.isRequired {
                    throw Problem(
                        .malformed, "the member \"\(prefix)\(field.name)\" is missing; send it",
                        field: prefix + field.name)
                }
                continue
            }
            if !field.accepts(value) {
                // What base64 may be, no schema can say: it is a string, and an invalid one.
                let isText = field.kind == .bytes && value.text != nil
                throw Problem(
                    isText ? .invalid : .malformed,
                    "the member \"\(prefix)\(field.name)\" is \(value.shown); send \(field.kindName)",
                    field: prefix + field.name)
            }
        }
        self.json = json
        self.path = prefix
        self.isStrict = isStrict
    }

    package func has(_ name: String) -> Bool { json[name].map { $0 != .null } ?? false }
    package func optionalText(_ name: String) -> String? { json[name]?.text }
    package func text(_ name: String) -> String { json[name]?.text ?? "" }
    package func optionalInteger(_ name: String) -> Int64? { json[name]?.whole }
    package func integer(_ name: String) -> Int64 { json[name]?.whole ?? 0 }
    package func unsigned(_ name: String) -> UInt64 { UInt64(max(0, integer(name))) }
    package func number(_ name: String) -> Double {
        if case .number(let number)? = json[name] { number } else { Double(integer(name)) }
    }
    package func bool(_ name: String) -> Bool { json[name]?.bool ?? false }
    package func strings(_ name: String) -> [String] { (json[name]?.elements ?? []).compactMap(\.text) }
    package func integers(_ name: String) -> [Int64] { (json[name]?.elements ?? []).compactMap(\.whole) }
    package func bytes(_ name: String) -> [UInt8] { Base64.decode(text(name).utf8) ?? [] }

    package func objects<T: Shaped>(_ name: String) throws(Problem) -> [T] {
        var found: [T] = []
        for (place, element) in (json[name]?.elements ?? []).enumerated() {
            found.append(try T(ShapedObject(element, T.shape, isStrict: isStrict, path: "\(path)\(name)[\(place)]")))
        }
        return found
    }

    /// The object in a member, or nil when it is not there.
    package func object<T: Shaped>(_ name: String) throws(Problem) -> T? {
        guard let value = json[name], value != .null else { return nil }
        return try T(ShapedObject(value, T.shape, isStrict: isStrict, path: path + name))
    }

    /// A refusal of a member's value; `detail` goes on behind the name and says what to do.
    func wrong(_ name: String, _ detail: String) -> Problem {
        Problem(.invalid, "the member \"\(path)\(name)\" \(detail)", field: path + name)
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

    /// Leaves the member out when there are none.
    mutating func add(_ name: String, _ texts: [String]) {
        if !texts.isEmpty { append(JSONMember(name, texts)) }
    }

    mutating func add(_ name: String, objects: [some Shaped]) {
        if !objects.isEmpty { append(JSONMember(name, objects: objects)) }
    }
}
