extension CommandTable {
    /// Lines are broken after this many characters.
    private static let width = 100

    /// The help of the whole program.
    package func help() -> String {
        var text = "\(program): \(about)\n\nusage: \(program) COMMAND [options]\n\ncommands:\n"
        let listed = commands.filter { !$0.isHidden }
        text += Self.columns(listed.map { ($0.path, $0.summary) })
        text += Self.section("options everywhere", options)
        text += "\nexit codes:\n"
        let codes: [ExitCode] = [.success, .failure, .usage, .notFound, .refused, .unavailable]
        text += Self.columns(codes.map { ("\($0.rawValue)", $0.meaning) })
        if !topics.isEmpty {
            text += "\ntopics:\n" + Self.columns(topics.map { ($0.name, $0.summary) })
        }
        return text + "\nA noun and a verb may be shortened while only one is meant, but not what deletes. `ls` is\n"
            + "`list`, `rm` is `delete`, and a noun's plural alone lists.\n"
            + "\n`\(program) help COMMAND` explains one command"
            + (topics.isEmpty ? ".\n" : ", `\(program) help TOPIC` what concerns many.\n")
    }

    /// The help of one command.
    package func help(_ command: Command) -> String {
        var text = "\(program) \(command.path): \(command.summary)\n\nusage: \(program) \(command.path)"
        for option in command.options where option.isRequired { text += " \(option.synopsis)" }
        for argument in command.arguments { text += " \(argument.synopsis)" }
        if command.options.contains(where: { !$0.isRequired }) || !options.isEmpty { text += " [options]" }
        text += "\n"
        if !command.details.isEmpty { text += "\n\(command.details)\n" }
        if !command.arguments.isEmpty {
            text += "\narguments:\n" + Self.columns(command.arguments.map { ($0.name, $0.help) })
        }
        text += Self.section("options", command.options)
        text += Self.section("options everywhere", options)
        return text + Self.section(command.examples)
    }

    /// A topic's text and its examples.
    func help(_ topic: Topic) -> String {
        "\(program) help \(topic.name): \(topic.summary)\n\n\(topic.text)\n" + Self.section(topic.examples)
    }

    private static func section(_ examples: [Command.Example]) -> String {
        if examples.isEmpty { return "" }
        return "\nexamples:\n"
            + examples.map { example in
                "  \(example.line)\n" + (example.explanation.isEmpty ? "" : "      \(example.explanation)\n")
            }.joined()
    }

    /// The help of a noun: its verbs.
    func help(noun: String) -> String {
        let family = commands.filter { $0.words[0] == noun && !$0.isHidden }
        return "usage: \(program) \(noun) VERB [options]\n\nverbs:\n"
            + Self.columns(family.map { ($0.path, $0.summary) })
            + "\n`\(program) \(noun) VERB --help` explains one.\n"
    }

    func help(for words: [String]) -> ParsedLine {
        // A topic goes before a noun's plural.
        let words = topics.contains { [$0.name] == words } ? words : spelledOut(words)
        guard let first = words.first else { return .help(help()) }
        let family = commands.filter { $0.words[0] == first }
        if let command = family.first(where: { $0.words == Array(words.prefix(2)) || $0.words == [first] }) {
            return .help(help(command))
        }
        if !family.isEmpty, words.count == 1 { return .help(help(noun: first)) }
        if words.count == 1, let topic = topics.first(where: { $0.name == first }) { return .help(help(topic)) }
        let all = commands.filter { !$0.isHidden }.map(\.path) + nouns + topics.map(\.name)
        let path = words.joined(separator: " ")
        return .refused(
            "There is no command\(topics.isEmpty ? "" : " and no topic") '\(path)'\(NearestWord.hint(path, in: all)); `\(program) help` lists them."
        )
    }

    private static func section(_ title: String, _ options: [Option]) -> String {
        let options = options.filter { !$0.isHidden }
        if options.isEmpty { return "" }
        return "\n\(title):\n"
            + columns(
                options.map { option in
                    var help = option.help
                    if let variable = option.variable { help += " (or \(variable))" }
                    return ((option.letter.map { "-\($0), " } ?? "") + option.synopsis, help)
                })
    }

    /// Two columns with the second one broken at spaces.
    private static func columns(_ rows: [(String, String)]) -> String {
        let left = min(34, rows.map { $0.0.count }.max() ?? 0)
        var text = ""
        for (name, help) in rows {
            var line = "  " + name
            if name.count > left {
                text += line + "\n"
                line = String(repeating: " ", count: left + 2)
            } else {
                line += String(repeating: " ", count: left - name.count)
            }
            line += "  "
            var isEmpty = true
            for word in help.split(separator: " ") {
                if !isEmpty, line.count + 1 + word.count > width {
                    text += line + "\n"
                    line = String(repeating: " ", count: left + 4)
                    isEmpty = true
                }
                line += isEmpty ? String(word) : " \(word)"
                isEmpty = false
            }
            while line.last == " " { line.removeLast() }
            text += line + "\n"
        }
        return text
    }
}
