/// Tells code, comments and strings apart. It knows as much of Swift's grammar as that takes: nested comments, raw and
/// multi-line strings, interpolation and quoted identifiers. Regex literals are not known to it and not used here.
struct SourceScanner {
    private enum Mode {
        case code
        /// Inside of `\( … )`; the count is of parentheses that were opened in it.
        case interpolation(Int)
        case string(hashes: Int, multiline: Bool)
    }

    private let bytes: [UInt8]
    private var at = 0
    private var modes: [Mode] = [.code]
    private var code: [UInt8] = []
    private var comment: [UInt8] = []
    private var lines: [SourceFile.Line] = []

    init(_ text: String) { bytes = Array(text.utf8) }

    mutating func scan() -> [SourceFile.Line] {
        while at < bytes.count {
            switch (modes[modes.count - 1], bytes[at]) {
            case (.string(_, multiline: false), UInt8(ascii: "\n")):
                // A string on one line ends with the line, whatever else is wrong with it.
                modes.removeLast()
            case (_, UInt8(ascii: "\n")):
                endLine()
                at += 1
            case (.string(let hashes, let multiline), _):
                scanString(hashes, multiline)
            case (.interpolation(0), UInt8(ascii: ")")):
                modes.removeLast()
                code.append(UInt8(ascii: " "))
                at += 1
            case (.interpolation(let open), UInt8(ascii: ")")):
                modes[modes.count - 1] = .interpolation(open - 1)
                take()
            case (.interpolation(let open), UInt8(ascii: "(")):
                modes[modes.count - 1] = .interpolation(open + 1)
                take()
            default:
                scanCode()
            }
        }
        endLine()
        return lines
    }

    private func sees(_ text: String, from start: Int) -> Bool {
        bytes[start...].starts(with: text.utf8)
    }

    private mutating func take() {
        code.append(bytes[at])
        at += 1
    }

    private mutating func endLine() {
        let text = comment.drop { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: " ") }
        lines.append(
            SourceFile.Line(code: String(decoding: code, as: UTF8.self), comment: String(decoding: text, as: UTF8.self))
        )
        code = []
        comment = []
    }

    private mutating func scanCode() {
        switch bytes[at] {
        case UInt8(ascii: "/") where sees("//", from: at):
            while at < bytes.count, bytes[at] != UInt8(ascii: "\n") {
                comment.append(bytes[at])
                at += 1
            }
        case UInt8(ascii: "/") where sees("/*", from: at):
            scanBlockComment()
        case UInt8(ascii: "`"):
            take()
            while at < bytes.count, bytes[at] != UInt8(ascii: "`"), bytes[at] != UInt8(ascii: "\n") { at += 1 }
            if at < bytes.count, bytes[at] == UInt8(ascii: "`") { take() }
        case UInt8(ascii: "\""), UInt8(ascii: "#"):
            if !beginString() { take() }
        default:
            take()
        }
    }

    private mutating func scanBlockComment() {
        var depth = 0
        repeat {
            if sees("/*", from: at) {
                depth += 1
                at += 2
            } else if sees("*/", from: at) {
                depth -= 1
                at += 2
            } else {
                if bytes[at] == UInt8(ascii: "\n") { endLine() } else { comment.append(bytes[at]) }
                at += 1
            }
        } while depth > 0 && at < bytes.count
    }

    /// Enters a string that begins here; false when the bytes are something else, as in `#if`.
    private mutating func beginString() -> Bool {
        var quote = at
        while quote < bytes.count, bytes[quote] == UInt8(ascii: "#") { quote += 1 }
        guard quote < bytes.count, bytes[quote] == UInt8(ascii: "\"") else { return false }
        let multiline = sees("\"\"\"", from: quote)
        modes.append(.string(hashes: quote - at, multiline: multiline))
        at = quote + (multiline ? 3 : 1)
        code += Array("\"\"".utf8)
        return true
    }

    private mutating func scanString(_ hashes: Int, _ multiline: Bool) {
        let fence = String(repeating: "#", count: hashes)
        let end = (multiline ? "\"\"\"" : "\"") + fence
        let escape = "\\" + fence
        if sees(end, from: at) {
            at += end.utf8.count
            modes.removeLast()
        } else if sees(escape + "(", from: at) {
            at += escape.utf8.count + 1
            modes.append(.interpolation(0))
            code.append(UInt8(ascii: " "))
        } else if sees(escape, from: at) {
            // An escaped line end stays for the loop to count.
            let next = at + escape.utf8.count
            at = next < bytes.count && bytes[next] != UInt8(ascii: "\n") ? next + 1 : next
        } else {
            at += 1
        }
    }
}
