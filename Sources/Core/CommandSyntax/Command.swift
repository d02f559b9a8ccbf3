package import ClusterBase

/// What a program's end means to a script.
package enum ExitCode: Int32, Sendable {
    case success = 0
    /// It was understood and tried, and failed.
    case failure = 1
    /// The command line makes no sense; nothing was tried.
    case usage = 2
    case notFound = 3
    /// The cluster said no: not allowed, or something else was there first.
    case refused = 4
    /// Nobody answered, or not in time; the outcome may be unknown.
    case unavailable = 5

    package var meaning: String {
        switch self {
        case .success: "done"
        case .failure: "failed"
        case .usage: "the command line makes no sense"
        case .notFound: "what was named is not there"
        case .refused: "refused, or in conflict with what is there"
        case .unavailable: "nobody answered in time"
        }
    }
}

/// What may stand after an option.
package enum OptionValue: Hashable, Sendable {
    /// Nothing: the option is there or not; `--no-name` takes it back.
    case none
    case text(String)
    case integer(ClosedRange<Int>)
    /// One number or two with dots between them, such as 3..7.
    case range(ClosedRange<Int>)
    case duration(ClosedRange<Nanoseconds>)
    case size(ClosedRange<Int>)
    case choice([String])

    /// What the help shows for the value.
    var placeholder: String {
        switch self {
        case .none: ""
        case .text(let name): name
        case .integer: "N"
        case .range: "A..B"
        case .duration: "TIME"
        case .size: "SIZE"
        case .choice(let words): words.joined(separator: "|")
        }
    }

    /// What is wrong with the text, as the end of a sentence; nil when nothing is.
    package func refusal(_ text: String) -> String? {
        switch self {
        case .none: return "wants no value"
        case .text: return nil
        case .integer(let range):
            guard let number = Quantity.integer(text), range.contains(number) else {
                return "wants a number from \(range.lowerBound) to \(range.upperBound), not '\(text)'"
            }
        case .range(let bounds):
            guard let range = Self.range(text), bounds.contains(range.lowerBound), bounds.contains(range.upperBound)
            else {
                return "wants a number or a range such as 3..7 from \(bounds.lowerBound) to \(bounds.upperBound), "
                    + "not '\(text)'"
            }
        case .duration(let range):
            guard let duration = Quantity.duration(text) else {
                return "wants a time with its unit, such as 90s or 3h, not '\(text)'"
            }
            if !range.contains(duration) {
                return "wants a time from \(Quantity.text(range.lowerBound)) to \(Quantity.text(range.upperBound)), "
                    + "not \(text)"
            }
        case .size(let range):
            guard let size = Quantity.size(text) else {
                return "wants a size with its unit, such as 64MiB, not '\(text)'"
            }
            if !range.contains(size) {
                return "wants a size from \(Quantity.text(bytes: range.lowerBound)) to "
                    + "\(Quantity.text(bytes: range.upperBound)), not \(text)"
            }
        case .choice(let words):
            guard words.contains(text) else {
                return "wants \(words.joined(separator: " or ")), not '\(text)'\(NearestWord.hint(text, in: words))"
            }
        }
        return nil
    }

    /// Reads `7` or `3..7`.
    static func range(_ text: String) -> ClosedRange<Int>? {
        if let one = Quantity.integer(text) { return one...one }
        guard let dots = text.firstRange(of: ".."), let low = Quantity.integer(String(text[..<dots.lowerBound])),
            let high = Quantity.integer(String(text[dots.upperBound...])), low <= high
        else { return nil }
        return low...high
    }
}

/// One option of a command: `--name`, and what stands after it.
package struct Option: Hashable, Sendable {
    /// Without the dashes in front.
    package let name: String
    package let letter: Character?
    package let value: OptionValue
    /// May be given more than once.
    package let isRepeated: Bool
    package let isRequired: Bool
    /// The variable that is asked when the option is not given; of one that may be repeated it may have several values.
    package let variable: String?
    /// Works, and stands in no help.
    package let isHidden: Bool
    /// One line for the help, without a full stop.
    package let help: String

    package init(
        _ name: String, _ value: OptionValue = .none, letter: Character? = nil, isRepeated: Bool = false,
        isRequired: Bool = false, variable: String? = nil, isHidden: Bool = false, help: String
    ) {
        self.isHidden = isHidden
        self.name = name
        self.letter = letter
        self.value = value
        self.isRepeated = isRepeated
        self.isRequired = isRequired
        self.variable = variable
        self.help = help
    }

    /// What its variable gives: several values with commas between them where it may be given more than once.
    func parts(ofVariable text: String) -> [String] {
        guard isRepeated else { return [text] }
        return text.split { $0 == "," || $0 == " " }.map(String.init)
    }

    /// The option as the help writes it.
    var synopsis: String {
        "--\(name)" + (value == .none ? "" : " \(value.placeholder)")
    }
}

/// One word of a command line that is no option.
package struct Argument: Hashable, Sendable {
    /// In capitals, as the help shows it.
    package let name: String
    package let isOptional: Bool
    /// Takes all words that are left; only the last argument may.
    package let isRepeated: Bool
    package let help: String

    package init(_ name: String, isOptional: Bool = false, isRepeated: Bool = false, help: String) {
        self.name = name
        self.isOptional = isOptional
        self.isRepeated = isRepeated
        self.help = help
    }

    var synopsis: String {
        let word = isRepeated ? "\(name)…" : name
        return isOptional ? "[\(word)]" : word
    }
}

/// Something that concerns many commands, explained: `help NAME` shows it.
package struct Topic: Hashable, Sendable {
    /// One word, which is no command's.
    package let name: String
    /// One line, without a full stop.
    package let summary: String
    package let text: String
    /// Lines that follow each other: each works after those before it.
    package let examples: [Command.Example]

    package init(_ name: String, summary: String, text: String, examples: [Command.Example] = []) {
        self.name = name
        self.summary = summary
        self.text = text
        self.examples = examples
    }
}

/// One thing that a program can do: `status`, or a noun and a verb such as `token create`.
package struct Command: Hashable, Sendable {
    /// A line to type, and what it does.
    package struct Example: Hashable, Sendable {
        package let line: String
        package let explanation: String
        package init(_ line: String, _ explanation: String) {
            self.line = line
            self.explanation = explanation
        }
    }

    /// One or two words.
    package let words: [String]
    /// One line, without a full stop.
    package let summary: String
    /// More, for the command's own help.
    package let details: String
    package let arguments: [Argument]
    package var options: [Option]
    package let examples: [Example]
    /// Works, and stands in no list.
    package let isHidden: Bool

    /// `path` has its words separated by a space.
    package init(
        _ path: String, summary: String, details: String = "", arguments: [Argument] = [], options: [Option] = [],
        examples: [Example] = [], isHidden: Bool = false
    ) {
        words = path.split(separator: " ").map(String.init)
        precondition((1...2).contains(words.count), "a command has one or two words, not '\(path)'")
        precondition(
            arguments.dropLast().allSatisfy { !$0.isRepeated && !$0.isOptional },
            "only the last argument of '\(path)' may be left out or repeated")
        self.summary = summary
        self.details = details
        self.arguments = arguments
        self.options = options
        self.examples = examples
        self.isHidden = isHidden
    }

    package var path: String { words.joined(separator: " ") }
}
