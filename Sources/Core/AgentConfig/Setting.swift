import ClusterBase
package import CommandSyntax

/// One row of the table of settings: its key, its kind and bounds, its help, and where in `AgentSettings` it goes.
package struct Setting: Sendable {
    enum Kind: Sendable {
        case name(any WritableKeyPath<AgentSettings, String> & Sendable, isOptional: Bool)
        case directory(any WritableKeyPath<AgentSettings, String> & Sendable)
        case optionalPath(any WritableKeyPath<AgentSettings, String> & Sendable)
        case endpoint(any WritableKeyPath<AgentSettings, Endpoint> & Sendable)
        case optionalEndpoint(any WritableKeyPath<AgentSettings, Endpoint?> & Sendable)
        case labels(any WritableKeyPath<AgentSettings, [NodeLabel]> & Sendable)
        case names(any WritableKeyPath<AgentSettings, [String]> & Sendable, areUnique: Bool)
        case boolean(any WritableKeyPath<AgentSettings, Bool> & Sendable)
        case integer(any WritableKeyPath<AgentSettings, Int> & Sendable, ClosedRange<Int>)
        case size(any WritableKeyPath<AgentSettings, Int> & Sendable, ClosedRange<Int>)
        case duration(any WritableKeyPath<AgentSettings, Nanoseconds> & Sendable, ClosedRange<Nanoseconds>)
        case logLevel
        case logFormat
        case hypervisor
    }

    /// Section and name, such as `peer.listen`.
    package let key: String
    /// One line, without a full stop.
    package let help: String
    let kind: Kind

    static let nameBytesMax = 63
    static let pathBytesMax = 1_024
    static let labelsMax = 64
    static let namesMax = 64

    init(_ key: String, _ kind: Kind, _ help: String) {
        self.key = key
        self.kind = kind
        self.help = help
    }

    package var section: String { String(key.prefix { $0 != "." }) }
    package var name: String { String(key.dropFirst(section.count + 1)) }
    /// The flag of `muster agent`, without its dashes.
    package var flag: String { key.replacing(".", with: "-") }
    package var variable: String { "MUSTER_" + key.uppercased().replacing(".", with: "_").replacing("-", with: "_") }

    /// The setting as an option of the command line, with the same bounds.
    package var option: Option {
        let value: OptionValue
        var isRepeated = false
        switch kind {
        case .name: value = .text("NAME")
        case .directory: value = .text("DIR")
        case .optionalPath: value = .text("PATH")
        case .endpoint, .optionalEndpoint: value = .text("HOST:PORT")
        case .labels: (value, isRepeated) = (.text("KEY=VALUE"), true)
        case .names: (value, isRepeated) = (.text("NAME"), true)
        case .boolean: value = .none
        case .integer(_, let range): value = .integer(range)
        case .size(_, let range): value = .size(range)
        case .duration(_, let range): value = .duration(range)
        case .logLevel: value = .choice(LogLevel.allCases.map(\.rawValue))
        case .logFormat: value = .choice(LogFormat.allCases.map(\.rawValue))
        case .hypervisor: value = .choice(HypervisorKind.allCases.map(\.rawValue))
        }
        return Option(flag, value, isRepeated: isRepeated, help: help)
    }

    /// What a value may be, in a few words.
    package var range: String {
        switch kind {
        case .name(_, let isOptional): "\(isOptional ? "empty, or " : "")1 to \(Self.nameBytesMax) of a-z 0-9 . - _"
        case .directory: "an absolute path"
        case .optionalPath: "empty, or an absolute path"
        case .endpoint: "HOST:PORT"
        case .optionalEndpoint: "empty, or HOST:PORT"
        case .labels: "at most \(Self.labelsMax) of \"key=value\""
        case .names: "at most \(Self.namesMax) of 1 to \(Self.nameBytesMax) of a-z 0-9 . - _"
        case .boolean: "true or false"
        case .integer(_, let range): "\(range.lowerBound) to \(range.upperBound)"
        case .size(_, let range):
            "\(Quantity.text(bytes: range.lowerBound)) to \(Quantity.text(bytes: range.upperBound))"
        case .duration(_, let range): "\(Quantity.text(range.lowerBound)) to \(Quantity.text(range.upperBound))"
        case .logLevel: LogLevel.allCases.map(\.rawValue).joined(separator: ", ")
        case .logFormat: LogFormat.allCases.map(\.rawValue).joined(separator: ", ")
        case .hypervisor: HypervisorKind.allCases.map(\.rawValue).joined(separator: ", ")
        }
    }

    /// The setting's value as the file writes it.
    package func text(in settings: AgentSettings) -> String {
        switch kind {
        case .name(let path, _), .directory(let path), .optionalPath(let path):
            Self.quoted(settings[keyPath: path])
        case .endpoint(let path): Self.quoted(settings[keyPath: path].description)
        case .optionalEndpoint(let path): Self.quoted(settings[keyPath: path]?.description ?? "")
        case .labels(let path):
            "[" + settings[keyPath: path].map { Self.quoted($0.description) }.joined(separator: ", ") + "]"
        case .names(let path, _): "[" + settings[keyPath: path].map { Self.quoted($0) }.joined(separator: ", ") + "]"
        case .boolean(let path): settings[keyPath: path] ? "true" : "false"
        case .integer(let path, _): String(settings[keyPath: path])
        case .size(let path, _): Self.quoted(Quantity.text(bytes: settings[keyPath: path]))
        case .duration(let path, _): Self.quoted(Quantity.text(settings[keyPath: path]))
        case .logLevel: Self.quoted(settings.logLevel.rawValue)
        case .logFormat: Self.quoted(settings.logFormat.rawValue)
        case .hypervisor: Self.quoted(settings.hypervisor.rawValue)
        }
    }

    private static func quoted(_ text: String) -> String {
        "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
    }

    /// Sets the value, or returns what is wrong with it as the end of a sentence and changes nothing.
    func apply(_ value: ConfigValue, to settings: inout AgentSettings) -> String? {
        switch kind {
        case .labels(let path):
            guard case .texts(let texts) = value else { return "wants a list such as [\"rack=7\"], not \(value.shown)" }
            return Self.labels(texts).apply { settings[keyPath: path] = $0 }
        case .names(let path, let areUnique):
            guard case .texts(let texts) = value else { return "wants a list such as [\"fast\"], not \(value.shown)" }
            if let refusal = Self.refusal(ofNames: texts, areUnique) { return refusal }
            settings[keyPath: path] = texts
            return nil
        case .boolean(let path):
            guard case .boolean(let isTrue) = value else { return "wants true or false, not \(value.shown)" }
            settings[keyPath: path] = isTrue
            return nil
        case .integer(let path, let range):
            guard case .integer(let number) = value, range.contains(number) else {
                return "wants a number from \(range.lowerBound) to \(range.upperBound), not \(value.shown)"
            }
            settings[keyPath: path] = number
            return nil
        default:
            guard case .text(let text) = value else { return "wants a text in quotation marks, not \(value.shown)" }
            return apply(text, to: &settings)
        }
    }

    /// Sets one of the kinds that are texts in the file.
    private func apply(_ text: String, to settings: inout AgentSettings) -> String? {
        switch kind {
        case .name(let path, let isOptional):
            if !isOptional {
                if !Self.isNodeName(text) { return Self.nodeNameRefusal(text) }
                settings[keyPath: path] = text
                return nil
            }
            guard text.isEmpty || Self.isName(text) else {
                return "wants 1 to \(Self.nameBytesMax) lower-case letters, digits, dots, dashes or underscores, "
                    + "not '\(text)'"
            }
            settings[keyPath: path] = text
        case .optionalPath(let path) where text.isEmpty: settings[keyPath: path] = text
        case .directory(let path), .optionalPath(let path):
            guard text.hasPrefix("/"), text.count > 1, text.utf8.count <= Self.pathBytesMax, !text.utf8.contains(0)
            else {
                return "wants an absolute path of at most \(Self.pathBytesMax) bytes, not '\(text)'"
            }
            settings[keyPath: path] = text
        case .endpoint(let path):
            guard let endpoint = Endpoint(text) else { return Self.endpointRefusal(text) }
            settings[keyPath: path] = endpoint
        case .optionalEndpoint(let path):
            let endpoint = Endpoint(text)
            if endpoint == nil, !text.isEmpty { return Self.endpointRefusal(text) }
            settings[keyPath: path] = endpoint
        case .size(let path, _):
            if let refusal = option.value.refusal(text) { return refusal }
            settings[keyPath: path] = Quantity.size(text) ?? settings[keyPath: path]
        case .duration(let path, _):
            if let refusal = option.value.refusal(text) { return refusal }
            settings[keyPath: path] = Quantity.duration(text) ?? settings[keyPath: path]
        case .logLevel:
            if let refusal = option.value.refusal(text) { return refusal }
            settings.logLevel = LogLevel(rawValue: text) ?? settings.logLevel
        case .logFormat:
            if let refusal = option.value.refusal(text) { return refusal }
            settings.logFormat = LogFormat(rawValue: text) ?? settings.logFormat
        case .hypervisor:
            if let refusal = option.value.refusal(text) { return refusal }
            settings.hypervisor = HypervisorKind(rawValue: text) ?? settings.hypervisor
        case .labels, .names, .boolean, .integer: preconditionFailure("\(key) is no text in the file")
        }
        return nil
    }

    /// What a variable or a flag says, as the file would. Lists have commas between their parts.
    func value(from text: String) -> ConfigValue {
        switch kind {
        case .labels, .names:
            .texts(text.isEmpty ? [] : text.split(separator: ",", omittingEmptySubsequences: false).map(String.init))
        case .boolean:
            switch text {
            case "true", "yes": .boolean(true)
            case "false", "no": .boolean(false)
            default: .text(text)
            }
        case .integer: Quantity.integer(text).map { .integer($0) } ?? .text(text)
        default: .text(text)
        }
    }

    static func isName(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        func isPlain(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte) || (0x30...0x39).contains(byte) }
        guard (1...nameBytesMax).contains(bytes.count), isPlain(bytes[0]) else { return false }
        return bytes.allSatisfy { isPlain($0) || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F }
    }

    /// As the root judges names, which it is asked about when the node is made.
    static func isNodeName(_ text: String) -> Bool {
        isName(text) && !text.utf8.contains(0x5F) && text.utf8.last.map { $0 != 0x2D && $0 != 0x2E } ?? false
    }

    private static func nodeNameRefusal(_ text: String) -> String {
        "wants 1 to \(nameBytesMax) lower-case letters, digits, dashes and dots, a letter or a digit at both ends, not '\(text)'"
    }

    private static func endpointRefusal(_ text: String) -> String {
        "wants HOST:PORT, such as 10.0.0.1:7471 or [fd00::1]:7471, not '\(text)'"
    }

    private static func refusal(ofNames texts: [String], _ areUnique: Bool) -> String? {
        if texts.count > namesMax { return "has \(texts.count) names; \(namesMax) are the most" }
        for (at, text) in texts.enumerated() {
            if !isName(text) {
                return "wants names of lower-case letters, digits, dots, dashes or underscores, not '\(text)'"
            }
            if areUnique, texts[..<at].contains(text) { return "has the name \(text) twice" }
        }
        return nil
    }

    private enum LabelsRead {
        case good([NodeLabel])
        case refused(String)

        func apply(_ set: ([NodeLabel]) -> Void) -> String? {
            switch self {
            case .good(let labels):
                set(labels)
                return nil
            case .refused(let why): return why
            }
        }
    }

    private static func labels(_ texts: [String]) -> LabelsRead {
        guard texts.count <= labelsMax else { return .refused("has \(texts.count) labels; \(labelsMax) are the most") }
        var labels: [NodeLabel] = []
        for text in texts {
            guard let label = NodeLabel(text) else {
                return .refused("wants labels such as \"disk=ssd\" in lower-case letters, not '\(text)'")
            }
            guard !labels.contains(where: { $0.key == label.key }) else {
                return .refused("has the label \(label.key) twice")
            }
            labels.append(label)
        }
        return .good(labels)
    }
}
