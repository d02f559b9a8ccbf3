/// What a field of a thing holds, for filters and sorting.
package enum FilterValue: Hashable, Sendable {
    case none
    case text(String)
    case number(Int64)
    case texts([String])
}

/// A field that filters and sorting know.
package struct FilterField: Hashable, Sendable {
    package enum Kind: Hashable, Sendable {
        case text, number
        /// Several values: it equals what one of them equals.
        case texts
        /// `label.KEY`: one field for each key.
        case map
    }
    package var name: String
    package var kind: Kind
    /// All that it can hold, where that is known.
    package var values: [String]
    package init(_ name: String, _ kind: Kind, oneOf values: [String] = []) {
        self.name = name
        self.kind = kind
        self.values = values
    }
}

/// A condition that a list's things must meet, as in `phase=running and host=h1 and label.env in (a,b)`.
///
///     expression = conjunction { "or" conjunction }
///     conjunction = term { "and" term }
///     term       = "not" term | "(" expression ")" | field [ comparison ]
///     comparison = ("=" | "!=" | "~" | "!~" | "<" | "<=" | ">" | ">=") value | ["not"] "in" "(" value { "," value } ")"
///
/// `~` is true where the text begins with the value; a field alone is true where it is there. A value is a word of letters,
/// digits and `._:/@+-`, or text in quotes.
package struct FilterExpression: Hashable, Sendable {
    package static let bytesMax = 2_048
    package static let termsMax = 64
    package static let depthMax = 16
    package static let valuesMax = 256

    package enum Comparison: Hashable, Sendable {
        case equal, unequal, begins, beginsNot, less, lessOrEqual, more, moreOrEqual, oneOf, noneOf, exists
    }

    indirect enum Node: Hashable, Sendable {
        case any([Node])
        case all([Node])
        case not(Node)
        /// Numbers beside the texts where the field is a number.
        case compare(String, Comparison, [String], [Int64])
    }

    let root: Node
    /// As it was written.
    package let text: String

    package init(_ text: String, fields: [FilterField]) throws(Problem) {
        self.text = text
        if text.utf8.count > FilterExpression.bytesMax {
            throw FilterExpression.wrong("is too long; use at most \(FilterExpression.bytesMax) bytes")
        }
        var parser = FilterParser(Array(text.utf8), fields)
        root = try parser.whole()
    }

    static func wrong(_ detail: String) -> Problem { Problem(.invalid, "the filter \(detail)", field: "filter") }

    /// Judges a thing by its fields.
    package func matches(_ value: (String) -> FilterValue) -> Bool { FilterExpression.judge(root, value) }

    /// The value that the field must equal, where nothing else can pass.
    package func required(_ field: String) -> String? {
        switch root {
        case .compare(field, .equal, let values, _): return values.first
        case .all(let nodes):
            for node in nodes { if case .compare(field, .equal, let values, _) = node { return values.first } }
            return nil
        default: return nil
        }
    }

    /// The key and the value of a field such as `label.KEY` that must have that value.
    package func requiredPair(_ field: String) -> (key: String, value: String)? {
        let nodes = if case .all(let nodes) = root { nodes } else { [root] }
        for node in nodes {
            guard case .compare(let name, .equal, let values, _) = node, name.hasPrefix(field + "."),
                let value = values.first
            else { continue }
            return (String(name.dropFirst(field.count + 1)), value)
        }
        return nil
    }

    private static func judge(_ node: Node, _ value: (String) -> FilterValue) -> Bool {
        switch node {
        case .any(let nodes): nodes.contains { judge($0, value) }
        case .all(let nodes): nodes.allSatisfy { judge($0, value) }
        case .not(let node): !judge(node, value)
        case .compare(let field, let comparison, let texts, let numbers):
            judge(value(field), comparison, texts, numbers)
        }
    }

    private static func judge(
        _ value: FilterValue, _ comparison: Comparison, _ texts: [String], _ numbers: [Int64]
    ) -> Bool {
        func holds(_ test: (String) -> Bool) -> Bool {
            switch value {
            case .text(let text): test(text)
            case .texts(let all): all.contains(where: test)
            case .none, .number: false
            }
        }
        func isOne() -> Bool {
            if case .number(let number) = value { return numbers.contains(number) }
            return holds { texts.contains($0) }
        }
        func compared(_ test: (Int64, Int64) -> Bool) -> Bool {
            if case .number(let number) = value, let other = numbers.first { test(number, other) } else { false }
        }
        switch comparison {
        case .equal, .oneOf: return isOne()
        case .unequal, .noneOf: return !isOne()
        case .begins: return holds { $0.utf8.starts(with: texts[0].utf8) }
        case .beginsNot: return !holds { $0.utf8.starts(with: texts[0].utf8) }
        case .less: return compared(<)
        case .lessOrEqual: return compared(<=)
        case .more: return compared(>)
        case .moreOrEqual: return compared(>=)
        case .exists:
            switch value {
            case .none: return false
            case .text(let text): return !text.isEmpty
            case .texts(let all): return !all.isEmpty
            case .number(let number): return number != 0
            }
        }
    }
}

private struct FilterParser {
    private enum Token: Hashable {
        case word(String)
        case quoted(String)
        case symbol(String)
        case end

        var shown: String {
            switch self {
            case .word(let text), .quoted(let text), .symbol(let text): "\"\(text)\""
            case .end: "its end"
            }
        }
    }

    private let bytes: [UInt8]
    private let fields: [FilterField]
    private var at = 0
    private var terms = 0
    private var token = Token.end

    init(_ bytes: [UInt8], _ fields: [FilterField]) {
        self.bytes = bytes
        self.fields = fields
    }

    mutating func whole() throws(Problem) -> FilterExpression.Node {
        try advance()
        if token == .end { throw FilterExpression.wrong("is empty; leave it out, or write one as phase=running") }
        let node = try expression(0)
        if token != .end { throw fault("and, or, or its end") }
        return node
    }

    private func fault(_ wanted: String) -> Problem {
        FilterExpression.wrong("has \(token.shown) before byte \(at) where \(wanted) belongs; correct it")
    }

    private mutating func expression(_ depth: Int) throws(Problem) -> FilterExpression.Node {
        if depth > FilterExpression.depthMax {
            throw FilterExpression.wrong("is nested too deep; nest at most \(FilterExpression.depthMax) levels")
        }
        var nodes = [try conjunction(depth)]
        while token == .word("or") {
            try advance()
            nodes.append(try conjunction(depth))
        }
        return nodes.count == 1 ? nodes[0] : .any(nodes)
    }

    private mutating func conjunction(_ depth: Int) throws(Problem) -> FilterExpression.Node {
        var nodes = [try term(depth)]
        while token == .word("and") {
            try advance()
            nodes.append(try term(depth))
        }
        return nodes.count == 1 ? nodes[0] : .all(nodes)
    }

    private mutating func term(_ depth: Int) throws(Problem) -> FilterExpression.Node {
        var isNot = false
        while token == .word("not") {
            isNot.toggle()
            try advance()
        }
        let node: FilterExpression.Node
        if token == .symbol("(") {
            try advance()
            node = try expression(depth + 1)
            if token != .symbol(")") { throw fault("a closing parenthesis") }
            try advance()
        } else {
            node = try comparison()
        }
        return isNot ? .not(node) : node
    }

    private mutating func comparison() throws(Problem) -> FilterExpression.Node {
        guard case .word(let name) = token, !["and", "or", "in"].contains(name) else { throw fault("a field") }
        terms += 1
        if terms > FilterExpression.termsMax {
            throw FilterExpression.wrong("has too many terms; use at most \(FilterExpression.termsMax)")
        }
        guard let field = field(name) else {
            let known = fields.map { $0.kind == .map ? "\($0.name).KEY" : $0.name }.joined(separator: ", ")
            throw FilterExpression.wrong("asks for the field \"\(name)\", which is unknown here; use \(known)")
        }
        try advance()
        switch token {
        case .symbol(let text):
            guard let comparison = FilterParser.comparisons.first(where: { $0.0 == text })?.1 else {
                if text == ")" { return .compare(name, .exists, [], []) }
                throw fault("a comparison")
            }
            try advance()
            let values = [try value()]
            return try make(field, name, comparison, values)
        case .word("in"):
            try advance()
            return try make(field, name, .oneOf, try values())
        case .word("not"):
            try advance()
            guard token == .word("in") else { throw fault("in") }
            try advance()
            return try make(field, name, .noneOf, try values())
        default: return .compare(name, .exists, [], [])
        }
    }

    private static let comparisons: [(String, FilterExpression.Comparison)] = [
        ("=", .equal), ("==", .equal), ("!=", .unequal), ("~", .begins), ("!~", .beginsNot), ("<", .less),
        ("<=", .lessOrEqual), (">", .more), (">=", .moreOrEqual),
    ]

    private func field(_ name: String) -> FilterField? {
        fields.first { field in
            field.kind == .map
                ? name.utf8.count > field.name.utf8.count + 1 && name.hasPrefix(field.name + ".") : field.name == name
        }
    }

    private func make(
        _ field: FilterField, _ name: String, _ comparison: FilterExpression.Comparison, _ values: [String]
    ) throws(Problem) -> FilterExpression.Node {
        let isOrder = [.less, .lessOrEqual, .more, .moreOrEqual].contains(comparison)
        let isPrefix = comparison == .begins || comparison == .beginsNot
        guard field.kind == .number else {
            if isOrder { throw FilterExpression.wrong("orders by \"\(name)\", which is no number; use = or ~") }
            if !isPrefix, !field.values.isEmpty, let other = values.first(where: { !field.values.contains($0) }) {
                throw FilterExpression.wrong(
                    "compares \"\(name)\" with \"\(other)\", which it never is; use \(field.values.joined(separator: ", "))"
                )
            }
            return .compare(name, comparison, values, [])
        }
        if isPrefix { throw FilterExpression.wrong("asks how \"\(name)\" begins, which is a number; use = or <") }
        var numbers: [Int64] = []
        for value in values {
            guard let number = Int64(value) else {
                throw FilterExpression.wrong("compares the number \"\(name)\" with \"\(value)\"; use a whole number")
            }
            numbers.append(number)
        }
        return .compare(name, comparison, values, numbers)
    }

    private mutating func values() throws(Problem) -> [String] {
        if token != .symbol("(") { throw fault("an opening parenthesis") }
        try advance()
        var found = [try value()]
        while token == .symbol(",") {
            try advance()
            found.append(try value())
            if found.count > FilterExpression.valuesMax {
                throw FilterExpression.wrong("lists too many values; use at most \(FilterExpression.valuesMax)")
            }
        }
        if token != .symbol(")") { throw fault("a comma or a closing parenthesis") }
        try advance()
        return found
    }

    private mutating func value() throws(Problem) -> String {
        switch token {
        case .word(let text), .quoted(let text):
            try advance()
            return text
        default: throw fault("a value")
        }
    }

    private static func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 48...57, 65...90, 97...122, 128...255: true
        case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: ":"), UInt8(ascii: "/"), UInt8(ascii: "@"),
            UInt8(ascii: "+"), UInt8(ascii: "-"):
            true
        default: false
        }
    }

    private mutating func advance() throws(Problem) {
        while at < bytes.count, bytes[at] == 32 || bytes[at] == 9 { at += 1 }
        guard at < bytes.count else {
            token = .end
            return
        }
        let byte = bytes[at]
        switch byte {
        case UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: ","), UInt8(ascii: "~"):
            token = .symbol(String(decoding: [byte], as: UTF8.self))
            at += 1
        case UInt8(ascii: "="), UInt8(ascii: "!"), UInt8(ascii: "<"), UInt8(ascii: ">"):
            let second = at + 1 < bytes.count ? bytes[at + 1] : 0
            let isPair = second == UInt8(ascii: "=") || (byte == UInt8(ascii: "!") && second == UInt8(ascii: "~"))
            let end = at + (isPair ? 2 : 1)
            token = .symbol(String(decoding: bytes[at..<end], as: UTF8.self))
            at = end
        case UInt8(ascii: "\""), UInt8(ascii: "'"): try quoted(byte)
        default:
            let begin = at
            while at < bytes.count, FilterParser.isWordByte(bytes[at]) { at += 1 }
            guard at > begin, let word = String(validating: bytes[begin..<at], as: UTF8.self) else {
                throw FilterExpression.wrong(
                    "has a character at byte \(begin) that belongs into quotes; quote the value")
            }
            token = .word(word)
        }
    }

    private mutating func quoted(_ quote: UInt8) throws(Problem) {
        var text: [UInt8] = []
        let begin = at
        at += 1
        while at < bytes.count, bytes[at] != quote {
            if bytes[at] == UInt8(ascii: "\\"), at + 1 < bytes.count { at += 1 }
            text.append(bytes[at])
            at += 1
        }
        guard at < bytes.count else {
            throw FilterExpression.wrong("has a quote at byte \(begin) that does not end; close it")
        }
        at += 1
        guard let whole = String(validating: text, as: UTF8.self) else {
            throw FilterExpression.wrong("holds text at byte \(begin) that is not UTF-8; encode it as such")
        }
        token = .quoted(whole)
    }
}
