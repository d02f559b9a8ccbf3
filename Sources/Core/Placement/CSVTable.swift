import ClusterBase
import FleetModel

/// Reads CSV row by row: a header line that names known columns in any order, then rows of which fields are asked for
/// by column. A field may stand in double quotes, without line breaks.
struct CSVTable {
    static let timeUnit = 1e6
    static let cpuUnit = 1e6
    static let memoryUnit = 1_048_576.0
    static let networkUnit = 1e3

    private let bytes: [UInt8]
    private var position = 0
    private var separator = UInt8(ascii: ",")
    private var columnCount = 0
    /// The position of each column in the header, by the column's own number; -1 where it is missing.
    private var places = [Int](repeating: -1, count: TraceColumn.allCases.count)
    private var fields: [Range<Int>] = []
    private(set) var ignored: [String] = []
    /// The line of the row that was read last.
    private(set) var line = 0

    // hash order: looked up only
    init(_ bytes: [UInt8], names: [TraceColumn: String]) throws(TraceError) {
        self.bytes = bytes
        if bytes.starts(with: [0x1F, 0x8B]) {
            throw TraceError(line: 0, "the file is compressed; unpack it first, for instance with zcat FILE | … -")
        }
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }
        let headerEnd = bytes[position...].firstIndex(of: 0x0A) ?? bytes.endIndex
        let header = bytes[position..<headerEnd]
        if !header.contains(separator) {
            separator = [UInt8(ascii: "\t"), UInt8(ascii: ";")].first { header.contains($0) } ?? separator
        }
        guard try takeLine() else { throw TraceError(line: 0, "the file is empty; its first line names the columns") }
        columnCount = fields.count
        let titles = fields.map { CSVTable.plain(String(decoding: bytes[$0], as: UTF8.self)) }
        for (number, column) in TraceColumn.allCases.enumerated() {
            let accepted: [String]
            if let name = names[column] {
                accepted = [CSVTable.plain(name)]
            } else if titles.contains(column.rawValue) {
                accepted = [column.rawValue]
            } else {
                accepted = column.aliases
            }
            let found = titles.indices.filter { accepted.contains(titles[$0]) }
            if found.isEmpty, let name = names[column] {
                throw TraceError(line: 1, "there is no column '\(name)'")
            }
            if found.count > 1 {
                throw TraceError(
                    line: 1,
                    "'\(titles[found[0]])' and '\(titles[found[1]])' both mean \(column.rawValue); say which it is "
                        + "with --column \(column.rawValue)=NAME")
            }
            places[number] = found.first ?? -1
        }
        ignored = titles.indices.filter { !places.contains($0) }.map { titles[$0] }
    }

    private static func plain(_ title: String) -> String {
        String(title.lowercased().map { " -.".contains($0) ? "_" : $0 })
    }

    func has(_ column: TraceColumn) -> Bool { places[CSVTable.number(of: column)] >= 0 }

    private static func number(of column: TraceColumn) -> Int {
        guard let number = TraceColumn.allCases.firstIndex(of: column) else { return 0 }
        return number
    }

    /// Goes to the next row; false at the end. Empty lines are skipped.
    mutating func next() throws(TraceError) -> Bool {
        while try takeLine() {
            if fields.count == 1 && fields[0].isEmpty { continue }
            if fields.count != columnCount {
                throw TraceError(line: line, "\(fields.count) fields, and the header has \(columnCount)")
            }
            return true
        }
        return false
    }

    private mutating func takeLine() throws(TraceError) -> Bool {
        if position >= bytes.count { return false }
        line += 1
        fields.removeAll(keepingCapacity: true)
        let quote = UInt8(ascii: "\"")
        while true {
            var start = position
            if position < bytes.count, bytes[position] == quote {
                start += 1
                position += 1
                while position < bytes.count, bytes[position] != quote, bytes[position] != 0x0A { position += 1 }
                if position >= bytes.count || bytes[position] != quote {
                    throw TraceError(line: line, "a quote is not closed")
                }
                fields.append(start..<position)
                position += 1
            } else {
                while position < bytes.count, bytes[position] != separator, bytes[position] != 0x0A { position += 1 }
                var end = position
                while end > start, bytes[end - 1] == 0x0D || bytes[end - 1] == 0x20 { end -= 1 }
                while start < end, bytes[start] == 0x20 { start += 1 }
                fields.append(start..<end)
            }
            if position < bytes.count, bytes[position] == 0x0D { position += 1 }
            if position >= bytes.count { return true }
            position += 1
            if bytes[position - 1] == 0x0A { return true }
            if bytes[position - 1] != separator { throw TraceError(line: line, "text follows a closing quote") }
        }
    }

    func text(_ column: TraceColumn) -> String {
        let place = places[CSVTable.number(of: column)]
        return place < 0 ? "" : String(decoding: bytes[fields[place]], as: UTF8.self)
    }

    /// The number in a column; nil where it is empty or the file has no such column.
    func number(_ column: TraceColumn) throws(TraceError) -> Double? {
        let place = places[CSVTable.number(of: column)]
        if place < 0 || fields[place].isEmpty { return nil }
        let field = bytes[fields[place]]
        // Most fields are short whole numbers.
        if field.count <= 15 {
            var sum: Int64 = 0
            var isWhole = true
            for byte in field {
                if byte < 0x30 || byte > 0x39 {
                    isWhole = false
                    break
                }
                sum = sum * 10 + Int64(byte - 0x30)
            }
            if isWhole { return Double(sum) }
        }
        let text = String(decoding: field, as: UTF8.self)
        if ["nan", "none", "null", "na", "-"].contains(text.lowercased()) { return nil }
        guard let number = Double(text), number.isFinite else {
            throw TraceError(line: line, "\(column.rawValue) is a number, not '\(text)'")
        }
        if number < 0 { throw TraceError(line: line, "\(column.rawValue) is \(text), and must not be below 0") }
        return number
    }

    func time(_ column: TraceColumn) throws(TraceError) -> Int64? {
        guard let number = try number(column) else { return nil }
        if number > 1e12 { throw TraceError(line: line, "\(column.rawValue) is above 10^12") }
        return Int64((number * CSVTable.timeUnit).rounded())
    }

    func truth(_ column: TraceColumn) throws(TraceError) -> Bool {
        switch text(column).lowercased() {
        case "", "0", "0.0", "false", "no": return false
        case "1", "1.0", "true", "yes": return true
        default: throw TraceError(line: line, "\(column.rawValue) is 0 or 1, not '\(text(column))'")
        }
    }

    private func amount(_ column: TraceColumn, _ unit: Double) throws(TraceError) -> Int64? {
        guard let number = try number(column) else { return nil }
        let amount = (number * unit).rounded()
        if amount > Double(Resources.amountMax) {
            throw TraceError(line: line, "\(column.rawValue) is \(number), which is more than can be counted")
        }
        // What is asked for at all is not rounded to nothing.
        return number > 0 ? max(1, Int64(amount)) : 0
    }

    func resources() throws(TraceError) -> Resources {
        if !has(.cpu) && !has(.cpuMilli) { throw TraceError(line: 1, "there is no column cpu (cores) or cpu_milli") }
        if !has(.memory) && !has(.memoryMiB) {
            throw TraceError(line: 1, "there is no column memory (GiB) or memory_mib")
        }
        var all = Resources.zero
        guard let cpu = try amount(.cpu, CSVTable.cpuUnit, .cpuMilli, CSVTable.cpuUnit / 1000) else {
            throw TraceError(line: line, "cpu is empty")
        }
        let giB = CSVTable.memoryUnit
        guard let memory = try amount(.memory, giB, .memoryMiB, giB / 1024) else {
            throw TraceError(line: line, "memory is empty")
        }
        all.cpuMillis = cpu
        all.memoryMiB = memory
        if let disk = try amount(.disk, giB, .diskMiB, giB / 1024) { all.diskMiB = disk }
        if let network = try amount(.network, CSVTable.networkUnit) { all.networkMbps = network }
        return all
    }

    private func amount(
        _ column: TraceColumn, _ unit: Double, _ other: TraceColumn, _ otherUnit: Double
    ) throws(TraceError) -> Int64? {
        if let amount = try amount(column, unit) { return amount }
        return try amount(other, otherUnit)
    }

    /// Whole GPUs (`gpus` = 2), a part of one (`gpus` = 0.5, or `gpus` = 1 and `gpu_milli` = 500), and of which models.
    func devices(_ words: inout WordTable) throws(TraceError) -> [DeviceWish] {
        let millis = try number(.gpuMilli)
        var count = 0.0
        if let given = try number(.gpus) { count = given } else if let millis { count = (millis / 1000).rounded(.up) }
        if count == 0 { return [] }
        var part = Double(Device.wholeMillis)
        if let millis, millis > 0 {
            part = millis > 1000 ? millis / count : millis
        } else if count < 1 {
            part = count * 1000
            count = 1
        }
        if count != count.rounded() || count > Double(Host.devicesMax) {
            throw TraceError(
                line: line, "gpus is a whole number up to \(Host.devicesMax), or a part of one below 1, not \(count)")
        }
        part = max(1, part.rounded())
        if part > Double(Device.wholeMillis) {
            throw TraceError(line: line, "gpu_milli is from 1 to \(Device.wholeMillis) per GPU")
        }
        var wish = DeviceWish(count: Int(count), millis: Int32(part))
        for model in text(.gpuModel).split(separator: "|") {
            guard let word = words.word(String(model)) else {
                throw TraceError(line: line, "there are too many GPU models")
            }
            if !wish.kinds.contains(word) { wish.kinds.append(word) }
        }
        wish.kinds.sort()
        return [wish]
    }
}
