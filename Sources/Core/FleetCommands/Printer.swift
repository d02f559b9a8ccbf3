package import AdminAPI

/// Prints answers: the same rows as a table, as JSON, as YAML or as names.
package struct Printer: Sendable {
    package var format: OutputFormat
    /// Titles of the columns that were asked for; empty for the usual ones.
    package var wanted: [String]
    package var isColoured: Bool
    /// Seconds since 1970, for ages.
    package var now: Int64

    package init(_ format: OutputFormat, wanted: [String] = [], isColoured: Bool = false, now: Int64 = 0) {
        self.format = format
        self.wanted = wanted
        self.isColoured = isColoured
        self.now = now
    }

    /// What is wrong with the columns asked for, and which there are; nil when nothing is.
    package func refusal(_ columns: [Column]) -> String? {
        for title in wanted where Printer.column(title, columns) == nil {
            var known = columns.map { $0.title.lowercased() }
            if known.contains(Printer.labels) { known.append("label.KEY") }
            return "There is no column '\(title)'; choose from \(known.joined(separator: ", "))."
        }
        return nil
    }

    private static let labels = "labels"

    /// One of those by its title, or one label of what has labels.
    private static func column(_ title: String, _ columns: [Column]) -> Column? {
        if let found = columns.first(where: { $0.title == title.uppercased() }) { return found }
        guard title.hasPrefix("label."), title.utf8.count > 6,
            let all = columns.first(where: { $0.title.lowercased() == labels })
        else { return nil }
        return Column(label: String(title.dropFirst(6)), of: all)
    }

    package func list(_ rows: [JSONValue], _ columns: [Column]) -> String {
        switch format {
        case .json:
            return rows.isEmpty
                ? "[]\n" : "[\n" + rows.map { "  " + Printer.json($0) }.joined(separator: ",\n") + "\n]\n"
        case .yaml: return rows.isEmpty ? "[]\n" : rows.map { Printer.yaml($0, item: true) }.joined()
        case .name: return rows.map { Printer.name(of: $0) + "\n" }.joined()
        case .table, .wide:
            if rows.isEmpty { return "None.\n" }
            return table(rows, chosen(columns))
        }
    }

    /// One thing: its members down the side, lists in it as tables.
    package func record(_ value: JSONValue) -> String {
        switch format {
        case .json: return Printer.json(value) + "\n"
        case .yaml: return Printer.yaml(value)
        case .name: return Printer.name(of: value) + "\n"
        case .table, .wide: return Printer.lines(value, "", now: now)
        }
    }

    /// What it is called; an event has its revision, a plan its digest.
    private static func name(of value: JSONValue) -> String {
        for member in ["name", "id", "revision", "digest", "subject", "vm", "node", "key"] {
            if let found = value[member], found != .null { return Column.plain(found) }
        }
        return Column.plain(.null)
    }

    private func chosen(_ columns: [Column]) -> [Column] {
        if wanted.isEmpty { return columns.filter { format == .wide || !$0.isWide } }
        return wanted.compactMap { Printer.column($0, columns) }
    }

    private func table(_ rows: [JSONValue], _ columns: [Column]) -> String {
        let cells = rows.map { row in columns.map { $0.text(in: row, now: now) } }
        let widths = columns.indices.map { i in cells.reduce(columns[i].title.count) { max($0, $1[i].count) } }
        func line(_ texts: [String], _ isTitle: Bool) -> String {
            var line = ""
            for i in columns.indices {
                let padding = String(repeating: " ", count: widths[i] - texts[i].count)
                let isNumber = columns[i].kind != .text && columns[i].kind != .age
                let text = isTitle ? texts[i] : paint(texts[i], columns[i])
                line += (i == 0 ? "" : "  ") + (isNumber ? padding + text : text + padding)
            }
            while line.last == " " { line.removeLast() }
            return line + "\n"
        }
        return line(columns.map(\.title), true) + cells.map { line($0, false) }.joined()
    }

    /// Colours say again what the word says, and nothing more.
    private func paint(_ text: String, _ column: Column) -> String {
        guard isColoured, ["PHASE", "STATE"].contains(column.title) else { return text }
        let colour: String
        switch text {
        case "running", "ready", "stopped", "done": colour = "32"
        case "crashed", "looping", "down", "unknown", "silent": colour = "31"
        case "waiting", "starting", "stopping", "cordoned", "draining", "maintenance", "paused": colour = "33"
        default: return text
        }
        return "\u{1B}[\(colour)m\(text)\u{1B}[0m"
    }

    /// Members that are seconds since 1970, or 0 for never.
    private static let times = [
        "since", "created", "queued", "awayUntil", "certificateExpires", "begins", "expires", "finished", "succeeded",
        "changedAt", "longestAt",
    ]

    /// A time as people read it, where the member is one; JSON and YAML have the number.
    private static func shown(_ member: JSONMember, _ now: Int64) -> String {
        guard times.contains(member.name), let seconds = member.value.integer else { return Column.plain(member.value) }
        if seconds == 0 { return "-" }
        // A count that is called so.
        if seconds < 1_000_000_000 { return Column.plain(member.value) }
        // What was is never to come, whatever the difference between two clocks.
        let isPast = seconds <= now || !["awayUntil", "certificateExpires", "begins", "expires"].contains(member.name)
        let span = Column.age(isPast ? max(0, now - seconds) : seconds - now)
        return CalendarDate.text(unixSeconds: seconds) + (isPast ? ", \(span) ago" : ", in \(span)")
    }

    private static func lines(_ value: JSONValue, _ indent: String, now: Int64) -> String {
        guard case .object(let members) = value else { return indent + Column.plain(value) + "\n" }
        let width = members.map(\.name.count).max() ?? 0
        var text = ""
        for member in members {
            let name = indent + member.name + ":"
            switch member.value {
            case .object(let inner) where !inner.isEmpty:
                text += name + "\n" + lines(member.value, indent + "  ", now: now)
            case .array(let elements) where elements.contains { $0.members != nil }:
                text += name + "\n"
                for element in elements {
                    let inner = lines(element, indent + "    ", now: now)
                    text += indent + "  - " + inner.dropFirst(indent.count + 4)
                }
            default:
                text += name + String(repeating: " ", count: width - member.name.count + 2)
                text += shown(member, now) + "\n"
            }
        }
        return text
    }

    /// On one line.
    static func json(_ value: JSONValue) -> String { String(decoding: value.bytes, as: UTF8.self) }

    /// Block style; strings are quoted unless they can be read as nothing else.
    static func yaml(_ value: JSONValue, _ indent: String = "", item: Bool = false) -> String {
        var text = ""
        switch value {
        case .object(let members) where !members.isEmpty:
            for (i, member) in members.enumerated() {
                let inner = item ? indent + "  " : indent
                text += item && i == 0 ? indent + "- " : inner
                text += scalar(.string(member.name)) + ":"
                text +=
                    isNested(member.value) ? "\n" + yaml(member.value, inner + "  ") : " " + scalar(member.value) + "\n"
            }
        case .array(let elements) where !elements.isEmpty:
            if item { text += indent + "-\n" }
            let inner = item ? indent + "  " : indent
            for element in elements { text += yaml(element, inner, item: true) }
        default: text += indent + (item ? "- " : "") + scalar(value) + "\n"
        }
        return text
    }

    private static func isNested(_ value: JSONValue) -> Bool {
        !(value.members?.isEmpty ?? true) || !(value.elements?.isEmpty ?? true)
    }

    private static func scalar(_ value: JSONValue) -> String {
        guard let text = value.text else { return json(value) }
        let isPlain =
            text.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."),
                    UInt8(ascii: "/"):
                    true
                default: false
                }
            } && text.utf8.first.map { ($0 >= 0x41 && $0 <= 0x5A) || ($0 >= 0x61 && $0 <= 0x7A) } ?? false
        let isWord = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(text.lowercased())
        return isPlain && !isWord ? text : json(value)
    }
}
