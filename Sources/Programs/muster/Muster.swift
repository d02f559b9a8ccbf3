import Glibc

/// The one binary. Exit codes: 0 all well, 1 a promise was broken, 2 the command line makes no sense.
@main
enum Muster {
    static let help = """
        muster: turns hosts into one VM fleet. What is here today is its consensus core and the simulator that tries to
        break it; the agent, its network and its storage come next.

        usage:
          muster simulate [options]     run whole clusters under faults, each from one seed
          muster mutants list           the bugs that a mutant build (-DMUTANTS) can switch on
          muster bench core|history|simulate|placement [--quick]
          muster help

        `muster simulate --help` explains its options.
        """

    static func main() async {
        var arguments = Array(CommandLine.arguments.dropFirst())
        let command = arguments.isEmpty ? "help" : arguments.removeFirst()
        do {
            switch command {
            case "simulate": exit(try await SimulateCommand.run(arguments))
            case "bench": exit(try BenchCommand.run(arguments))
            case "mutants": exit(try MutantsCommand.run(arguments))
            case "help", "--help", "-h": print(help)
            default: throw UsageError("there is no command '\(command)'; `muster help` lists them")
            }
        } catch {
            Console.complain("muster: \(error)")
            exit(2)
        }
    }
}

/// A command line that can't be followed, and what to do instead.
struct UsageError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

enum Console {
    static func complain(_ line: String) { write(line + "\n", to: 2) }

    static func write(_ text: String, to descriptor: Int32) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count <= 0 { return }
            bytes = bytes.dropFirst(count)
        }
    }

    static var isTerminal: Bool { isatty(2) == 1 }

    /// Seconds on a clock that never goes back.
    static func seconds() -> Double {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    static func cpuSeconds() -> Double {
        var time = timespec()
        unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

/// Options of the form `--name value`, taken one by one; what is left over is an error.
struct Options {
    private var words: [String]
    init(_ words: [String]) { self.words = words }

    mutating func flag(_ name: String) -> Bool {
        guard let i = words.firstIndex(of: name) else { return false }
        words.remove(at: i)
        return true
    }

    mutating func value(_ name: String) throws -> String? {
        guard let i = words.firstIndex(of: name) else { return nil }
        guard i + 1 < words.count else { throw UsageError("\(name) wants a value") }
        let value = words[i + 1]
        words.removeSubrange(i...i + 1)
        return value
    }

    mutating func number(_ name: String, _ range: ClosedRange<Int>) throws -> Int? {
        guard let text = try value(name) else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw UsageError("\(name) wants a number in \(range.lowerBound)...\(range.upperBound), not '\(text)'")
        }
        return number
    }

    /// `7` or `3..7`.
    mutating func range(_ name: String, _ bounds: ClosedRange<Int>) throws -> ClosedRange<Int>? {
        guard let text = try value(name) else { return nil }
        let parts = text.split(separator: ".", omittingEmptySubsequences: true).map { Int($0) }
        if parts.count == 1 || parts.count == 2, let low = parts[0], let high = parts[parts.count - 1], low <= high,
            bounds.contains(low), bounds.contains(high)
        {
            return low...high
        }
        throw UsageError(
            "\(name) wants one number or a range such as 3..7 within \(bounds.lowerBound)..\(bounds.upperBound), not '\(text)'"
        )
    }

    mutating func word() -> String? {
        guard let first = words.first, !first.hasPrefix("--") else { return nil }
        return words.removeFirst()
    }

    func end() throws {
        if let first = words.first { throw UsageError("'\(first)' is not understood here; --help lists what is") }
    }
}
