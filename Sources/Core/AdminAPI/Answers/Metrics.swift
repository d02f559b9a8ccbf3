/// Numbers about a node in the text format that Prometheus reads.
package struct Metrics: Hashable, Sendable {
    package enum Kind: String, Hashable, Sendable {
        case counter, gauge
    }

    /// A label and its value.
    package struct Label: Hashable, Sendable {
        package var name: String
        package var value: String
        package init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    /// Counts of values by upper bound. `counts` has one more than `bounds`: those above all of them.
    package struct Histogram: Hashable, Sendable {
        package var bounds: [Double]
        package var counts: [UInt64]
        package var sum: Double
        package init(bounds: [Double], counts: [UInt64], sum: Double) {
            precondition(counts.count == bounds.count + 1, "\(counts.count) counts for \(bounds.count) bounds")
            self.bounds = bounds
            self.counts = counts
            self.sum = sum
        }
    }

    package private(set) var bytes: [UInt8] = []
    private var family = ""

    package init() {}

    /// One value. Values of one name follow each other, as the format demands.
    package mutating func add(_ name: String, _ kind: Kind, _ help: String, _ value: Double, _ labels: [Label] = []) {
        begin(name, kind.rawValue, help)
        sample(name, labels, value)
    }

    package mutating func add(_ name: String, _ kind: Kind, _ help: String, _ value: UInt64, _ labels: [Label] = []) {
        begin(name, kind.rawValue, help)
        head(name, labels)
        bytes.append(decimal: value)
        bytes.append(UInt8(ascii: "\n"))
    }

    package mutating func add(_ name: String, _ help: String, _ histogram: Histogram, _ labels: [Label] = []) {
        begin(name, "histogram", help)
        var total: UInt64 = 0
        for (bound, count) in zip(histogram.bounds, histogram.counts) {
            total += count
            sample(name + "_bucket", labels + [Label("le", Metrics.text(bound))], Double(total))
        }
        total += histogram.counts[histogram.bounds.count]
        sample(name + "_bucket", labels + [Label("le", "+Inf")], Double(total))
        sample(name + "_sum", labels, histogram.sum)
        sample(name + "_count", labels, Double(total))
    }

    private mutating func begin(_ name: String, _ kind: String, _ help: String) {
        if name == family { return }
        family = name
        bytes.append(text: "# HELP \(name) ")
        escape(help, quotes: false)
        bytes.append(text: "\n# TYPE \(name) \(kind)\n")
    }

    private mutating func sample(_ name: String, _ labels: [Label], _ value: Double) {
        head(name, labels)
        bytes.append(text: Metrics.text(value))
        bytes.append(UInt8(ascii: "\n"))
    }

    private mutating func head(_ name: String, _ labels: [Label]) {
        bytes.append(text: name)
        for (place, label) in labels.enumerated() {
            bytes.append(text: place == 0 ? "{" : ",")
            bytes.append(text: label.name + "=\"")
            escape(label.value, quotes: true)
            bytes.append(UInt8(ascii: "\""))
        }
        bytes.append(text: labels.isEmpty ? " " : "} ")
    }

    private mutating func escape(_ text: String, quotes: Bool) {
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\\"): bytes.append(text: "\\\\")
            case UInt8(ascii: "\n"): bytes.append(text: "\\n")
            case UInt8(ascii: "\"") where quotes: bytes.append(text: "\\\"")
            default: bytes.append(byte)
            }
        }
    }

    private static func text(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if value.magnitude < 1e15, Double(Int64(value)) == value { return "\(Int64(value))" }
        return "\(value)"
    }
}
