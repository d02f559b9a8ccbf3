import CommandSyntax
import FleetCommands
import Glibc
import TLSSession

/// The one binary. Its exit codes are `ExitCode`'s.
@main
enum Muster {
    static func main() async {
        let words = Array(CommandLine.arguments.dropFirst())
        let rest = Array(words.dropFirst())
        // Their options are in the table for the help alone.
        let wantsHelp =
            ["simulate", "bench", "mutants"].contains(words.first)
            && !["placement", "replay", "rebalance"].contains(rest.first)
            && rest.contains { $0 == "--help" || $0 == "-h" }
        do {
            switch wantsHelp ? "help" : words.first {
            case "simulate": exit(try await SimulateCommand.run(rest))
            case "bench": exit(try BenchCommand.run(rest))
            case "guard": exit(GuardCommand.run(rest))
            case "mutants": exit(try MutantsCommand.run(rest))
            case Completion.command?:
                LocalCommands.complete(rest, in: ClusterCommands.table)
                exit(0)
            default: exit(runCluster(words).rawValue)
            }
        } catch {
            Console.complain("muster: \(error)")
            exit(2)
        }
    }

    private static func runCluster(_ words: [String]) -> ExitCode {
        switch ClusterCommands.table.parse(words, variable: variable) {
        case .help(let text):
            Console.write(text, to: 1)
            return .success
        case .refused(let sentence):
            Console.complain("muster: \(sentence)")
            return .usage
        case .run(let invocation):
            switch invocation.path {
            case "init", "join", "agent", "backup restore": return NodeCommands.run(invocation)
            case "backup key", "backup inspect": return BackupFile.run(invocation)
            case let path where FleetClient.knows(path): return FleetClient.run(invocation)
            default: return ClientCommands.run(invocation)
            }
        }
    }

    static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    static func read(_ path: String) throws(TLSFailure) -> [UInt8] {
        do throws(AgentFailure) {
            return try NodeFiles.read(path)
        } catch {
            throw TLSFailure(.malformed, error.description)
        }
    }

    static func readStandardInput() throws(AgentFailure) -> [UInt8] { try NodeFiles.read("/dev/stdin") }
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
