package import ClusterBase

/// Lengths of time and amounts of bytes as people write them. A number always has its unit: nobody guesses seconds.
package enum Quantity {
    /// The longest text that is looked at.
    static let bytesMax = 64
    private static let timeUnits: [(name: String, nanoseconds: Int64)] = [
        ("d", 86_400_000_000_000), ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000),
        ("ms", 1_000_000), ("us", 1_000), ("ns", 1),
    ]
    private static let sizeUnits: [(name: String, bytes: Int)] = [
        ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000), ("B", 1),
    ]

    /// Reads `3h`, `90s`, `250ms` or parts in falling order such as `1h30m`. Nil when it is anything else.
    package static func duration(_ text: String) -> Nanoseconds? {
        var rest = Array(text.utf8)[...]
        guard !rest.isEmpty, rest.count <= bytesMax else { return nil }
        if rest.elementsEqual("0".utf8) { return .zero }
        var total: Int64 = 0
        var largest = Int64.max
        while !rest.isEmpty {
            guard let number = number(&rest).flatMap({ Int64(exactly: $0) }) else { return nil }
            let letters = rest.prefix { $0 >= 0x61 && $0 <= 0x7A }
            rest = rest.dropFirst(letters.count)
            guard let unit = timeUnits.first(where: { letters.elementsEqual($0.name.utf8) }),
                unit.nanoseconds < largest
            else { return nil }
            largest = unit.nanoseconds
            let (product, isTooLarge) = number.multipliedReportingOverflow(by: unit.nanoseconds)
            let (sum, isSumTooLarge) = total.addingReportingOverflow(product)
            if isTooLarge || isSumTooLarge { return nil }
            total = sum
        }
        return Nanoseconds(total)
    }

    /// The text that `duration` reads back.
    package static func text(_ duration: Nanoseconds) -> String {
        if duration.count <= 0 { return duration.count == 0 ? "0s" : duration.description }
        var text = ""
        var rest = duration.count
        for unit in timeUnits where rest >= unit.nanoseconds {
            text += "\(rest / unit.nanoseconds)\(unit.name)"
            rest %= unit.nanoseconds
        }
        return text
    }

    /// Reads `64MiB`, `500MB` or `4096B`. Nil when it is anything else or does not fit.
    package static func size(_ text: String) -> Int? {
        var rest = Array(text.utf8)[...]
        guard rest.count <= bytesMax, let number = number(&rest) else { return nil }
        if number == 0, rest.isEmpty { return 0 }
        guard let unit = sizeUnits.first(where: { rest.elementsEqual($0.name.utf8) }) else { return nil }
        let (product, isTooLarge) = number.multipliedReportingOverflow(by: unit.bytes)
        return isTooLarge ? nil : product
    }

    /// The text that `size` reads back, in the largest unit that divides it.
    package static func text(bytes: Int) -> String {
        for unit in sizeUnits where bytes >= unit.bytes && bytes % unit.bytes == 0 && unit.name.contains("i") {
            return "\(bytes / unit.bytes)\(unit.name)"
        }
        return "\(bytes)B"
    }

    /// A whole number without a sign; underscores between digits are allowed.
    package static func integer(_ text: String) -> Int? {
        let isNegative = text.hasPrefix("-")
        var rest = Array(text.utf8)[...]
        if isNegative { rest = rest.dropFirst() }
        guard rest.count <= bytesMax, let number = number(&rest), rest.isEmpty else { return nil }
        return isNegative ? -number : number
    }

    private static func number(_ rest: inout ArraySlice<UInt8>) -> Int? {
        var value = 0
        var digits = 0
        var isAfterDigit = false
        while let byte = rest.first {
            if byte == 0x5F {
                guard isAfterDigit else { return nil }
                isAfterDigit = false
            } else if byte >= 0x30, byte <= 0x39 {
                let (product, isTooLarge) = value.multipliedReportingOverflow(by: 10)
                let (sum, isSumTooLarge) = product.addingReportingOverflow(Int(byte - 0x30))
                if isTooLarge || isSumTooLarge { return nil }
                value = sum
                digits += 1
                isAfterDigit = true
            } else {
                break
            }
            rest = rest.dropFirst()
        }
        return digits > 0 && isAfterDigit ? value : nil
    }
}
