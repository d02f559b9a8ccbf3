package import AdminAPI

/// One column of a listing: its title, and where its value is in a row.
package struct Column: Hashable, Sendable {
    package enum Kind: Hashable, Sendable {
        case text
        case integer
        /// Thousandths, shown as cores.
        case cores
        case mebibytes
        /// Seconds since 1970, shown as how long ago.
        case age
        /// Thousandths, shown as a percentage.
        case share
        /// A time in seconds, 0 where it is not known.
        case seconds
    }

    package let title: String
    /// Names of members, separated by dots. Of several separated by `|`, the first that is there.
    package let path: String
    package let kind: Kind
    /// Shown by `wide` only.
    package let isWide: Bool
    /// Of the labels at the path, this one, whatever is in its name.
    private let label: String?

    package init(_ title: String, _ path: String, _ kind: Kind = .text, isWide: Bool = false) {
        self.title = title
        self.path = path
        self.kind = kind
        self.isWide = isWide
        label = nil
    }

    init(label: String, of all: Column) {
        title = Column.plain(.string(label.uppercased()))
        path = all.path
        kind = .text
        isWide = false
        self.label = label
    }

    /// The value in a row, as a person reads it; `-` where there is none. `now` is in seconds since 1970.
    package func text(in row: JSONValue, now: Int64) -> String {
        for path in path.split(separator: "|") {
            var value: JSONValue? = row
            for name in path.split(separator: ".") { value = value?[String(name)] }
            if let label { value = value?[label] }
            if let value, value != .null, value != .string("") { return shown(value, now) }
        }
        return "-"
    }

    private func shown(_ value: JSONValue, _ now: Int64) -> String {
        if kind == .age, case .number(let seconds) = value { return Column.age(max(0, now - Int64(seconds))) }
        guard let number = value.integer else { return Column.plain(value) }
        switch kind {
        case .text, .integer: return String(number)
        case .cores: return Column.decimal(number, 1_000)
        case .mebibytes: return Column.size(number)
        case .age: return number <= 0 ? "-" : Column.age(max(0, now - number))
        case .share: return Column.decimal(number, 10) + "%"
        case .seconds: return number <= 0 ? "-" : Column.age(number)
        }
    }

    /// At most one digit after the point, and none where it is 0.
    private static func decimal(_ number: Int64, _ unit: Int64) -> String {
        let tenths = number * 10 / unit
        return tenths % 10 == 0 ? "\(tenths / 10)" : "\(tenths / 10).\(tenths % 10)"
    }

    static func size(_ mebibytes: Int64) -> String {
        if mebibytes >= 1 << 20 { return decimal(mebibytes, 1 << 20) + "TiB" }
        if mebibytes >= 1 << 10 { return decimal(mebibytes, 1 << 10) + "GiB" }
        return "\(mebibytes)MiB"
    }

    static func age(_ seconds: Int64) -> String {
        switch seconds {
        case ..<120: return "\(seconds)s"
        case ..<7_200: return "\(seconds / 60)m"
        case ..<172_800: return "\(seconds / 3_600)h"
        default: return "\(seconds / 86_400)d"
        }
    }

    /// A value on one line. Control characters are escaped: what somebody called a VM must not move the cursor.
    package static func plain(_ value: JSONValue) -> String {
        switch value {
        case .null: return "-"
        case .bool(let isTrue): return isTrue ? "yes" : "no"
        case .integer(let number): return String(number)
        case .number(let number): return "\(number)"
        case .array(let elements): return elements.isEmpty ? "-" : elements.map(plain).joined(separator: ",")
        case .object(let members): return members.map { "\($0.name)=\(plain($0.value))" }.joined(separator: ",")
        case .string(let text):
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
    }
}
