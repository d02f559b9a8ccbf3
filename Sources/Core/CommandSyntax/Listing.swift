/// One value of a listing.
package enum Cell: Hashable, Sendable {
    case none
    case text(String)
    case integer(Int)
    case boolean(Bool)
    case texts([String])

    /// As a table shows it. Control characters are escaped: what a node calls itself must not move the cursor.
    var shown: String {
        switch self {
        case .none: "-"
        case .text(let text): text.isEmpty ? "-" : Self.plain(text)
        case .integer(let number): String(number)
        case .boolean(let isTrue): isTrue ? "yes" : "no"
        case .texts(let texts): texts.isEmpty ? "-" : texts.map(Self.plain).joined(separator: ",")
        }
    }

    var json: String {
        switch self {
        case .none: "null"
        case .text(let text): Self.quoted(text)
        case .integer(let number): String(number)
        case .boolean(let isTrue): isTrue ? "true" : "false"
        case .texts(let texts): "[" + texts.map(Self.quoted).joined(separator: ",") + "]"
        }
    }

    private static func plain(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator:
                result += "\\u{\(String(scalar.value, radix: 16))}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            default:
                if scalar.value < 0x20 || scalar.value == 0x7F {
                    let digits = String(scalar.value, radix: 16)
                    result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                } else {
                    result.unicodeScalars.append(scalar)
                }
            }
        }
        return result + "\""
    }
}

/// Rows of values that print as a table for people or as JSON for programs; both say the same.
package struct Listing: Sendable {
    /// One column: the key in JSON, and the title above it.
    package struct Column: Hashable, Sendable {
        package let key: String
        package let title: String
        /// Numbers line up at their last digit.
        package let isRightAligned: Bool

        /// Unless another title is given, it is the key's words in capitals: of `adminAddress` it is ADMIN ADDRESS, of `isReady`
        /// it is READY.
        package init(_ key: String, title: String? = nil, isRightAligned: Bool = false) {
            self.key = key
            self.title = title ?? Column.title(key)
            self.isRightAligned = isRightAligned
        }

        private static func title(_ key: String) -> String {
            let isQuestion = key.hasPrefix("is") && key.dropFirst(2).first?.isUppercase == true
            var title = ""
            for character in isQuestion ? key.dropFirst(2) : key[...] {
                if character == "_" || (character.isUppercase && !title.isEmpty) { title += " " }
                if character != "_" { title += character.uppercased() }
            }
            return title
        }
    }

    package let columns: [Column]
    package private(set) var rows: [[Cell]] = []

    package init(_ columns: [Column]) { self.columns = columns }

    package mutating func add(_ row: [Cell]) {
        precondition(row.count == columns.count, "a row of \(row.count) cells under \(columns.count) columns")
        rows.append(row)
    }

    /// A table with its titles, two spaces between columns, and no spaces at the ends of lines.
    package func table() -> String {
        let shown = [columns.map(\.title)] + rows.map { $0.map(\.shown) }
        let widths = columns.indices.map { i in shown.map { $0[i].count }.max() ?? 0 }
        return shown.map { row in
            var line = ""
            for i in columns.indices {
                let padding = String(repeating: " ", count: widths[i] - row[i].count)
                line += (i == 0 ? "" : "  ") + (columns[i].isRightAligned ? padding + row[i] : row[i] + padding)
            }
            while line.last == " " { line.removeLast() }
            return line + "\n"
        }.joined()
    }

    /// A JSON array with one object per row and line.
    package func json() -> String {
        if rows.isEmpty { return "[]\n" }
        return "[\n" + rows.map { "  " + Self.object(columns, $0) }.joined(separator: ",\n") + "\n]\n"
    }

    /// The one row of a listing about one thing: its titles down the side.
    package func record() -> String {
        guard let row = rows.first else { return "" }
        let width = columns.map { $0.title.count }.max() ?? 0
        return zip(columns, row).map { column, cell in
            "\(column.title):" + String(repeating: " ", count: width - column.title.count + 2) + cell.shown + "\n"
        }.joined()
    }

    /// The one row as a JSON object.
    package func recordJSON() -> String { rows.first.map { Self.object(columns, $0) + "\n" } ?? "null\n" }

    private static func object(_ columns: [Column], _ row: [Cell]) -> String {
        "{" + zip(columns, row).map { "\(Cell.quoted($0.key)): \($1.json)" }.joined(separator: ", ") + "}"
    }
}
