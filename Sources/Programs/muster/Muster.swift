import CommandSyntax
import FleetCommands
import Glibc
import SimulatorFront
import TLSSession
import Terminal

/// The one binary. Its exit codes are `ExitCode`'s.
@main
enum Muster {
    static func main() async {
        var words = Array(CommandLine.arguments.dropFirst())
        if words == ["--version"] { words = ["version"] }
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
            case "cert issue": return OperatorCertificate.run(invocation)
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

    static func readStandardInput() throws(AgentFailure) -> [UInt8] {
        let tooLong = "Standard input is longer than \(NodeFiles.bytesMax) bytes; send less."
        return try NodeFiles.read("/dev/stdin", tooLong: tooLong)
    }
}
