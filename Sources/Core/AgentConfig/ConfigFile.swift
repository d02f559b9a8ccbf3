import CommandSyntax

/// A value as a configuration file has it.
enum ConfigValue: Hashable, Sendable {
    case text(String)
    case integer(Int)
    case boolean(Bool)
    case texts([String])

    var shown: String {
        switch self {
        case .text(let text): "'\(text)'"
        case .integer(let number): String(number)
        case .boolean(let isTrue): isTrue ? "true" : "false"
        case .texts: "a list"
        }
    }
}

/// The form of the configuration file, a part of TOML 1.0 that any TOML editor knows:
///
///     # a comment
///     [section]
///     text    = "with \" \\ \n \t" or 'as it is'        times such as "3h" and sizes such as "64MiB" are texts
///     number  = 10_000
///     boolean = true
///     texts   = ["a", "b",        lists of texts, over several lines if they are long
///                "c"]
///
/// It reads on after a mistake, so that one run shows them all.
struct ConfigFile {
    struct Entry: Hashable {
        let key: String
        let value: ConfigValue
        let line: Int
    }

    struct Problem: Hashable {
        let line: Int
        /// Without the full stop.
        let sentence: String
    }

    static let bytesMax = 256 << 10
    static let textBytesMax = 4_096
    static let listMax = 256
    static let problemsMax = 20

    private(set) var entries: [Entry] = []
    /// With the lines that they begin in.
    private(set) var sections: [(name: String, line: Int)] = []
    private(set) var problems: [Problem] = []

    private let bytes: [UInt8]
    private var at = 0
    private var line = 1
    private var section = ""

    private struct Mistake: Error {
        let sentence: String
        init(_ sentence: String) { self.sentence = sentence }
    }

    init(_ text: String) {
        bytes = Array(text.utf8)
        guard bytes.count <= Self.bytesMax else {
            problems.append(
                Problem(line: 1, sentence: "the file has \(bytes.count) bytes; \(Self.bytesMax) are the most"))
            return
        }
        // Some editors put a byte order mark before the text, which is no part of it.
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { at = 3 }
        while skipBlank(acrossLines: true) {
            let began = line
            do throws(Mistake) {
                if bytes[at] == 0x5B { try readSection() } else { try readEntry() }
                try endLine()
            } catch {
                problems.append(Problem(line: max(began, line), sentence: error.sentence))
                if problems.count >= Self.problemsMax { return }
                while at < bytes.count, bytes[at] != 0x0A { at += 1 }
            }
        }
    }

    /// Moves to the next byte that means something; false at the end.
    private mutating func skipBlank(acrossLines: Bool) -> Bool {
        while at < bytes.count {
            switch bytes[at] {
            case 0x20, 0x09: at += 1
            case 0x0D where at + 1 < bytes.count && bytes[at + 1] == 0x0A: at += 1
            case 0x0A:
                if !acrossLines { return true }
                line += 1
                at += 1
            case 0x23:
                while at < bytes.count, bytes[at] != 0x0A { at += 1 }
            default: return true
            }
        }
        return false
    }

    private mutating func endLine() throws(Mistake) {
        guard skipBlank(acrossLines: false), bytes[at] != 0x0A else { return }
        throw Mistake("'\(word())' is left over at the end of the line; texts need quotation marks around them")
    }

    /// What stands here, for a message.
    private func word() -> String {
        let rest = bytes[at...].prefix { $0 > 0x20 }.prefix(40)
        return String(decoding: rest, as: UTF8.self)
    }

    private mutating func readSection() throws(Mistake) {
        at += 1
        let name = key()
        guard !name.isEmpty, at < bytes.count, bytes[at] == 0x5D else {
            throw Mistake("a section is written as [name], with lower-case letters and dashes")
        }
        at += 1
        if let first = sections.first(where: { $0.name == name }) {
            throw Mistake("the section [\(name)] was begun in line \(first.line) already; put both into one")
        }
        section = name
        sections.append((name, line))
    }

    /// Takes the characters of a key: letters, digits, dashes, underscores, dots.
    private mutating func key() -> String {
        let start = at
        while at < bytes.count {
            let byte = bytes[at]
            guard
                (0x61...0x7A).contains(byte | 0x20) || (0x30...0x39).contains(byte) || byte == 0x2D || byte == 0x5F
                    || byte == 0x2E
            else { break }
            at += 1
        }
        return String(decoding: bytes[start..<at], as: UTF8.self)
    }

    private mutating func readEntry() throws(Mistake) {
        let began = line
        let name = key()
        guard !name.isEmpty else { throw Mistake("'\(word())' begins no setting; write `name = value`") }
        guard skipBlank(acrossLines: false), bytes[at] == 0x3D else {
            throw Mistake("the setting '\(name)' has no value; write `\(name) = value`")
        }
        at += 1
        let key = section.isEmpty ? name : "\(section).\(name)"
        if let first = entries.first(where: { $0.key == key }) {
            throw Mistake("\(key) was set in line \(first.line) already; remove one of them")
        }
        guard skipBlank(acrossLines: false), bytes[at] != 0x0A else { throw Mistake("\(key) has no value after the =") }
        let value = try readValue(key)
        entries.append(Entry(key: key, value: value, line: began))
    }

    private mutating func readValue(_ key: String) throws(Mistake) -> ConfigValue {
        switch bytes[at] {
        case 0x22, 0x27: return .text(try readText(key))
        case 0x5B: return .texts(try readList(key))
        case 0x7B: throw Mistake("\(key): tables in braces are not part of this format; use a [section]")
        default:
            let start = at
            while at < bytes.count, bytes[at] > 0x20, bytes[at] != 0x23, bytes[at] != 0x2C, bytes[at] != 0x5D {
                at += 1
            }
            let word = String(decoding: bytes[start..<at], as: UTF8.self)
            if word == "true" || word == "false" { return .boolean(word == "true") }
            if let number = Quantity.integer(word) { return .integer(number) }
            throw Mistake("\(key): '\(word.prefix(40))' is no number, and a text needs quotation marks around it")
        }
    }

    private mutating func readList(_ key: String) throws(Mistake) -> [String] {
        at += 1
        var texts: [String] = []
        var needsComma = false
        while skipBlank(acrossLines: true) {
            switch bytes[at] {
            case 0x5D:
                at += 1
                return texts
            case 0x2C where needsComma:
                needsComma = false
                at += 1
            case 0x22, 0x27:
                if needsComma { throw Mistake("\(key): there is no comma between two parts of the list") }
                texts.append(try readText(key))
                needsComma = true
                if texts.count > Self.listMax { throw Mistake("\(key): the list has more than \(Self.listMax) parts") }
            default: throw Mistake("\(key): '\(word())' is no text in quotation marks; lists are made of those")
            }
        }
        throw Mistake("\(key): the list does not end; write ] after its last part")
    }

    private mutating func readText(_ key: String) throws(Mistake) -> String {
        let quote = bytes[at]
        if at + 2 < bytes.count, bytes[at + 1] == quote, bytes[at + 2] == quote {
            throw Mistake("\(key): texts over several lines are not part of this format")
        }
        at += 1
        var text: [UInt8] = []
        while at < bytes.count, bytes[at] != 0x0A {
            let byte = bytes[at]
            at += 1
            if byte == quote { return String(decoding: text, as: UTF8.self) }
            if byte == 0x5C, quote == 0x22 {
                text.append(try readEscape(key))
            } else if byte < 0x20 && byte != 0x09 || byte == 0x7F {
                throw Mistake("\(key): the text has a control character in it")
            } else {
                text.append(byte)
            }
            if text.count > Self.textBytesMax {
                throw Mistake("\(key): the text has more than \(Self.textBytesMax) bytes")
            }
        }
        throw Mistake("\(key): the text does not end; its closing quotation mark must be in the same line")
    }

    private mutating func readEscape(_ key: String) throws(Mistake) -> UInt8 {
        let letter = at < bytes.count ? bytes[at] : 0
        at += letter == 0x0A ? 0 : 1
        switch letter {
        case 0x22, 0x5C: return letter
        case 0x6E: return 0x0A
        case 0x74: return 0x09
        default:
            throw Mistake("\(key): after a backslash only \\\\ \\\" \\n and \\t are known; 'texts' take it as it is")
        }
    }
}
