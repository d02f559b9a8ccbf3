import Glibc
import SimulatorFront
import Terminal

/// `mutants list` and `mutants simulate --mutant NAME`: what `muster` does with these words, in a build with -DMUTANTS.
/// `mutants known` and `mutants allocations` hold the core alone to account.
@main
enum Mutants {
    static func main() async {
        let words = Array(CommandLine.arguments.dropFirst())
        do {
            switch words.first {
            case "simulate": exit(try await SimulateCommand.run(Array(words.dropFirst())))
            case "known": exit(try KnownBugsCommand.run())
            case "allocations": exit(try AllocationsCommand.run())
            default: exit(try MutantsCommand.run(words))
            }
        } catch {
            Console.complain("mutants: \(error)")
            exit(2)
        }
    }
}
