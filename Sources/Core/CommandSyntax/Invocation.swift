package import ClusterBase

/// A command line that was understood: a command, and values that passed every check its options make.
///
/// Asking for an option that the command does not declare, or as another kind, is a bug and ends the process.
package struct Invocation: Sendable {
    package let command: Command
    /// The words that are no options, in order.
    package let arguments: [String]
    /// In the order of the command line; a later one wins.
    let given: [(option: Option, text: String)]
    package let options: [Option]

    package var path: String { command.path }

    /// The argument of this name, if it was given.
    package func argument(_ name: String) -> String? {
        guard let index = command.arguments.firstIndex(where: { $0.name == name }) else {
            preconditionFailure("'\(path)' has no argument \(name)")
        }
        return index < arguments.count ? arguments[index] : nil
    }

    package func has(_ name: String) -> Bool {
        let option = declared(name)
        return option.value == .none ? value(option) == "yes" : value(option) != nil
    }

    package func text(_ name: String) -> String? { value(declared(name)) }

    /// All values of an option that may be repeated, in order.
    package func texts(_ name: String) -> [String] {
        let option = declared(name)
        return given.filter { $0.option == option }.map(\.text)
    }

    package func integer(_ name: String) -> Int? { value(declared(name)).flatMap(Quantity.integer) }

    package func range(_ name: String) -> ClosedRange<Int>? { value(declared(name)).flatMap(OptionValue.range) }

    package func duration(_ name: String) -> Nanoseconds? { value(declared(name)).flatMap(Quantity.duration) }

    package func size(_ name: String) -> Int? { value(declared(name)).flatMap(Quantity.size) }

    private func value(_ option: Option) -> String? { given.last { $0.option == option }?.text }

    private func declared(_ name: String) -> Option {
        guard let option = options.first(where: { $0.name == name }) else {
            preconditionFailure("'\(path)' declares no option --\(name)")
        }
        return option
    }
}

/// What a command line means.
package enum ParsedLine: Sendable {
    case run(Invocation)
    /// Somebody asked for help; this is it.
    case help(String)
    /// It makes no sense; one sentence that says what to do.
    case refused(String)
}
