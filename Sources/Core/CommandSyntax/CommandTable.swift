/// All commands of a program, and the grammar of its command line:
///
///     line     = [global option…] command [option | argument]…
///     command  = verb | noun verb
///     option   = --name value | --name=value | --name | --no-name | -l value | -l
///     --       ends the options; what follows are arguments
///
/// A noun and a verb may be shortened while only one is meant (`CommandTable+ShortForms`).
/// `help`, `--help` and `-h` are understood everywhere.
package struct CommandTable: Sendable {
    package let program: String
    /// What the program is, in a sentence or two.
    package let about: String
    /// Understood before and after every command.
    package let options: [Option]
    package let commands: [Command]
    package let topics: [Topic]

    /// The most words that are looked at.
    package static let wordsMax = 4_096

    package init(
        program: String, about: String, options: [Option] = [], commands: [Command], topics: [Topic] = []
    ) {
        self.topics = topics
        self.program = program
        self.about = about
        self.options = options
        self.commands = commands
        for topic in topics {
            precondition(
                commands.allSatisfy { $0.words[0] != topic.name },
                "'\(topic.name)' is a topic and a command's first word")
        }
        for command in commands {
            let names = (options + command.options).map(\.name)
            precondition(
                names.count == names.sorted().reduce(into: [String]()) { if $0.last != $1 { $0.append($1) } }.count,
                "'\(command.path)' declares an option twice")
            precondition(
                commands.count { $0.words.first == command.words.first && $0.words.count != command.words.count } == 0,
                "'\(command.words[0])' is a command of its own and a noun")
        }
    }

    /// Reads the words after the program's name. `variable` gives the environment.
    package func parse(_ words: [String], variable: (String) -> String? = { _ in nil }) -> ParsedLine {
        guard words.count <= Self.wordsMax else {
            return .refused("The command line has more than \(Self.wordsMax) words.")
        }
        var reader = LineReader(words: words)
        // Global options may stand before the command.
        if let refusal = reader.takeOptions(options) { return .refused(refusal) }
        guard var first = reader.next() else {
            return reader.wantsHelp || words.isEmpty ? .help(help()) : .refused("Name a command; \(seeHelp()).")
        }
        if first == "help" { return help(for: reader.remainingWords) }
        let typed = first
        switch spelling(first, reader.peek) {
        case .words(let meant, let taken):
            if taken == 2 { _ = reader.next() }
            reader.putBack(Array(meant.dropFirst()))
            first = meant[0]
        case .ambiguous(let word, let meant):
            let all = meant.map { "'\($0)'" }
            return .refused(
                "'\(word)' may mean \(all.dropLast().joined(separator: ", ")) or \(all[all.count - 1]); "
                    + "write more of it.")
        case .unknown: break
        }
        let family = commands.filter { $0.words[0] == first }
        guard !family.isEmpty else {
            return .refused(
                "There is no command '\(typed)'\(NearestWord.hint(typed, in: nouns)); \(seeHelp()) lists them.")
        }
        guard let command = family.first(where: { $0.words.count == 1 }) ?? reader.takeVerb(family) else {
            if reader.wantsHelp { return .help(help(noun: first)) }
            let verbs = family.filter { !$0.isHidden }.map { $0.words[1] }
            let list = verbs.joined(separator: ", ")
            guard let word = reader.next(), !word.hasPrefix("-") else {
                return .refused("Say what to do: `\(program) \(first)` knows \(list).")
            }
            return .refused(
                "`\(program) \(first)` can't '\(word)'\(NearestWord.hint(word, in: verbs)); it knows \(list).")
        }
        return read(command, &reader, variable)
    }

    private func read(
        _ command: Command, _ reader: inout LineReader, _ variable: (String) -> String?
    ) -> ParsedLine {
        let known = command.options + options
        var arguments: [String] = []
        while true {
            if let refusal = reader.takeOptions(known) {
                return .refused("\(refusal); \(seeHelp(command)).")
            }
            guard let word = reader.next() else { break }
            arguments.append(word)
        }
        if reader.wantsHelp { return .help(help(command)) }
        let needed = command.arguments.filter { !$0.isOptional }
        if arguments.count < needed.count {
            let missing = needed[arguments.count]
            return .refused("\(missing.name) is missing (\(missing.help)); \(seeHelp(command)).")
        }
        if arguments.count > command.arguments.count, command.arguments.last?.isRepeated != true {
            return .refused("'\(arguments[command.arguments.count])' is one word too many; \(seeHelp(command)).")
        }
        var given = reader.given
        for option in known where !given.contains(where: { $0.option == option }) {
            if let name = option.variable, let text = variable(name), !text.isEmpty {
                if option.value == .none {
                    guard ["yes", "no"].contains(text) else {
                        return .refused("\(name) wants yes or no, not '\(text)'.")
                    }
                }
                for part in option.parts(ofVariable: text) {
                    if option.value != .none, let refusal = option.value.refusal(part) {
                        return .refused("The variable \(name) \(refusal).")
                    }
                    given.append((option, part))
                }
            } else if option.isRequired {
                return .refused("\(option.synopsis) is missing (\(option.help)); \(seeHelp(command)).")
            }
        }
        return .run(Invocation(command: command, arguments: arguments, given: given, options: known))
    }

    var nouns: [String] {
        commands.filter { !$0.isHidden }.reduce(into: []) { if !$0.contains($1.words[0]) { $0.append($1.words[0]) } }
            + ["help"]
    }

    private func seeHelp(_ command: Command? = nil) -> String {
        command.map { "see `\(program) \($0.path) --help`" } ?? "`\(program) help`"
    }
}

/// Walks over the words of one line.
private struct LineReader {
    private var words: ArraySlice<String>
    private var isLiteral = false
    private(set) var wantsHelp = false
    private(set) var given: [(option: Option, text: String)] = []

    init(words: [String]) { self.words = words[...] }

    var remainingWords: [String] { words.filter { !$0.hasPrefix("-") } }

    mutating func next() -> String? { words.popFirst() }
    var peek: String? { words.first }
    mutating func putBack(_ before: [String]) { words = (before + words)[...] }

    mutating func takeVerb(_ family: [Command]) -> Command? {
        if let word = words.first, ["--help", "-h", "help"].contains(word) { wantsHelp = true }
        guard let command = family.first(where: { $0.words.count == 2 && $0.words[1] == words.first }) else {
            return nil
        }
        words.removeFirst()
        return command
    }

    /// Takes options until a word that is none; returns what is wrong, as a sentence without its end.
    mutating func takeOptions(_ known: [Option]) -> String? {
        while !isLiteral, let word = words.first, word.hasPrefix("-"), word != "-" {
            if word == "--" {
                isLiteral = true
                words.removeFirst()
                return nil
            }
            // A negative number is an argument.
            if !word.hasPrefix("--"), Quantity.integer(word) != nil { return nil }
            words.removeFirst()
            if word == "--help" || word == "-h" {
                wantsHelp = true
                continue
            }
            if let refusal = take(word, known) { return wantsHelp ? nil : refusal }
        }
        return nil
    }

    private mutating func take(_ word: String, _ known: [Option]) -> String? {
        let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let name = parts[0]
        var isTakenBack = false
        var found = known.first { "--\($0.name)" == name || $0.letter.map { "-\($0)" } == name }
        if found == nil, name.hasPrefix("--no-") {
            found = known.first { $0.value == .none && "--no-\($0.name)" == name }
            isTakenBack = true
        }
        guard let option = found else {
            return "'\(name)' is no option here\(NearestWord.hint(name, in: known.map { "--\($0.name)" }))"
        }
        if !option.isRepeated, option.value != .none, given.contains(where: { $0.option == option }) {
            return "\(name) is there twice"
        }
        if option.value == .none {
            if parts.count > 1 { return "\(name) wants no value" }
            given.append((option, isTakenBack ? "no" : "yes"))
            return nil
        }
        let text: String
        if parts.count > 1 {
            text = parts[1]
        } else {
            guard let next = words.first, !next.hasPrefix("--") else { return "\(name) wants a value" }
            text = next
            words.removeFirst()
        }
        if let refusal = option.value.refusal(text) { return "\(name) \(refusal)" }
        given.append((option, text))
        return nil
    }
}
