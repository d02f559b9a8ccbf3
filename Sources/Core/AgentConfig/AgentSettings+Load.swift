package import CommandSyntax

/// Why no settings could be made: every mistake that was found, each with its place.
package struct SettingsFailure: Error, Hashable, Sendable, CustomStringConvertible {
    /// Whole sentences, such as "muster.toml:7: peer.listen wants HOST:PORT, not 'x'.".
    package let problems: [String]

    package var description: String { problems.joined(separator: "\n") }
}

/// Where a setting's value comes from.
package enum SettingOrigin: Hashable, Sendable, CustomStringConvertible {
    case standard
    case file(line: Int)
    case variable(String)
    case flag(String)

    package var description: String {
        switch self {
        case .standard: "default"
        case .file(let line): "line \(line)"
        case .variable(let name): name
        case .flag(let name): "--\(name)"
        }
    }
}

/// Settings that passed all checks, and where each comes from.
package struct LoadedSettings: Hashable, Sendable {
    package let settings: AgentSettings
    /// One for each row of `AgentSettings.table`.
    package let origins: [SettingOrigin]
    /// What is probably a mistake and stops nobody.
    package let warnings: [String]

    /// Whether somebody named a value for this key.
    package func isSet(_ key: String) -> Bool {
        zip(AgentSettings.table, origins).contains { $0.key == key && $1 != .standard }
    }

    /// Of the file, as messages name it.
    let fileName: String

    /// Where a setting was made, to begin a sentence with that says what is wrong with it.
    package func place(of key: String) -> String { origins.place(of: key, fileName) }

    /// All settings as `--check-config` shows them.
    package var listing: Listing {
        var listing = Listing([.init("setting"), .init("value"), .init("from")])
        for (setting, origin) in zip(AgentSettings.table, origins) {
            listing.add([.text(setting.key), .text(setting.text(in: settings)), .text(origin.description)])
        }
        return listing
    }
}

extension [SettingOrigin] {
    fileprivate func place(of key: String, _ fileName: String) -> String {
        guard let index = AgentSettings.table.firstIndex(where: { $0.key == key }) else {
            preconditionFailure("'\(key)' is no setting")
        }
        switch self[index] {
        case .file(let line): return "\(fileName):\(line): \(key)"
        case .variable(let name): return "The variable \(name)"
        case .flag(let name): return "--\(name)"
        case .standard: return key
        }
    }
}

extension AgentSettings {
    static let variablePrefix = "MUSTER_"

    /// Puts the settings together: a file overrides the defaults, variables override the file, and flags override both.
    ///
    /// - Parameters:
    ///   - file: the name to show in messages, and the text.
    ///   - variables: the environment, or the part of it that begins with MUSTER_.
    ///   - otherVariables: names with that beginning that mean something to other parts of the program.
    ///   - flags: what `flags(of:)` gives.
    ///   - hostName: the node's name when nothing else names it.
    package static func load(
        file: (name: String, text: String)? = nil, variables: [(name: String, text: String)] = [],
        otherVariables: [String] = [], flags: [(key: String, text: String)] = [], hostName: String = ""
    ) throws(SettingsFailure) -> LoadedSettings {
        var loader = SettingsLoader(fileName: file?.name ?? "")
        loader.settings.nodeName = hostName
        if let file { loader.add(ConfigFile(file.text)) }
        for variable in variables.sorted(by: { $0.name < $1.name }) {
            loader.add(variable.name, variable.text, otherVariables)
        }
        for flag in flags { loader.add(flag: flag.key, flag.text) }
        loader.check()
        if !loader.problems.isEmpty { throw SettingsFailure(problems: loader.problems) }
        return LoadedSettings(
            settings: loader.settings, origins: loader.origins, warnings: loader.warnings, fileName: loader.fileName)
    }
}

private struct SettingsLoader {
    let fileName: String
    var settings = AgentSettings()
    var origins = [SettingOrigin](repeating: .standard, count: AgentSettings.table.count)
    var problems: [String] = []
    var warnings: [String] = []

    init(fileName: String) { self.fileName = fileName }

    mutating func add(_ file: ConfigFile) {
        var found = file.problems
        let sections = AgentSettings.table.map(\.section)
        let keys = AgentSettings.table.map(\.key)
        for (name, line) in file.sections where !sections.contains(name) {
            found.append(
                ConfigFile.Problem(
                    line: line, sentence: "[\(name)] is no section\(NearestWord.hint(name, in: sections))"))
        }
        for entry in file.entries {
            guard let index = keys.firstIndex(of: entry.key) else {
                // The keys of a section that is none are no news.
                let section = String(entry.key.prefix { $0 != "." })
                guard sections.contains(section) || !file.sections.contains(where: { $0.name == section }) else {
                    continue
                }
                found.append(
                    ConfigFile.Problem(
                        line: entry.line, sentence: "\(entry.key) is no setting\(Self.hint(entry.key, keys))"))
                continue
            }
            if let refusal = AgentSettings.table[index].apply(entry.value, to: &settings) {
                found.append(ConfigFile.Problem(line: entry.line, sentence: "\(entry.key) \(refusal)"))
            } else {
                origins[index] = .file(line: entry.line)
            }
        }
        for problem in found.sorted(by: { $0.line < $1.line }).prefix(ConfigFile.problemsMax) {
            problems.append(Self.sentence("\(fileName):\(problem.line): \(problem.sentence)"))
        }
    }

    /// A key in the wrong section is found by its name.
    private static func hint(_ key: String, _ keys: [String]) -> String {
        let near = NearestWord.hint(key, in: keys)
        if !near.isEmpty { return near }
        let name = key.split(separator: ".").last.map(String.init) ?? key
        let same = keys.filter { $0.hasSuffix(".\(name)") }
        return same.isEmpty ? "" : "; did you mean \(same.map { "'\($0)'" }.joined(separator: " or "))?"
    }

    private static func sentence(_ text: String) -> String { text.hasSuffix("?") ? text : text + "." }

    mutating func add(_ name: String, _ text: String, _ others: [String]) {
        guard name.hasPrefix(AgentSettings.variablePrefix), !others.contains(name) else { return }
        let names = AgentSettings.table.map(\.variable)
        guard let index = names.firstIndex(of: name) else {
            // Container managers set variables with the name of a service; those must not stop an agent.
            warnings.append(
                Self.sentence("The variable \(name) means nothing here\(NearestWord.hint(name, in: names + others))"))
            return
        }
        let setting = AgentSettings.table[index]
        if let refusal = setting.apply(setting.value(from: text), to: &settings) {
            problems.append(Self.sentence("The variable \(name) \(refusal)"))
        } else {
            origins[index] = .variable(name)
        }
    }

    mutating func add(flag key: String, _ text: String) {
        guard let index = AgentSettings.table.firstIndex(where: { $0.key == key }) else {
            preconditionFailure("'\(key)' is no setting")
        }
        let setting = AgentSettings.table[index]
        if let refusal = setting.apply(setting.value(from: text), to: &settings) {
            problems.append(Self.sentence("--\(setting.flag) \(refusal)"))
        } else {
            origins[index] = .flag(setting.flag)
        }
    }

    /// What can be judged only when everything is there. A contradiction is laid to the later of its two sources.
    mutating func check() {
        if !Setting.isNodeName(settings.nodeName) {
            problems.append(
                settings.nodeName.isEmpty
                    ? "node.name is missing; set it in the file, as MUSTER_NODE_NAME or with --node-name."
                    : "The host's name '\(settings.nodeName)' can't be a node's; set node.name to lower-case letters, "
                        + "digits, dashes and dots, a letter or a digit at both ends.")
        }
        if !problems.isEmpty { return }
        for (key, sentence) in settings.contradictions() {
            problems.append(Self.sentence("\(origins.place(of: key, fileName)) \(sentence)"))
        }
    }
}
