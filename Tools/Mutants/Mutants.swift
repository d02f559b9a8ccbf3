import Glibc
import SimulatorFront
import Terminal

/// `mutants list` and `mutants simulate --mutant NAME`: what `muster` does with these words, in a build with -DMUTANTS.
@main
enum Mutants {
    static func main() async {
        let words = Array(CommandLine.arguments.dropFirst())
        do {
            switch words.first {
            case "simulate": exit(try await SimulateCommand.run(Array(words.dropFirst())))
            default: exit(try MutantsCommand.run(words))
            }
        } catch {
            Console.complain("mutants: \(error)")
            exit(2)
        }
    }
}
