import Glibc
import Guard
import Terminal

/// `muster guard DIRECTORY`: what an agent starts to be the parent of its host's VMs. Nobody else needs to.
enum GuardCommand {
    static func run(_ words: [String]) -> Int32 {
        let inherited = words.count == 2 ? GuardInheritance(words[1]) : nil
        guard words.count == 1 || inherited != nil, let path = words.first, !path.hasPrefix("-") else {
            Console.complain("muster: guard wants the node's directory and nothing else; the agent starts it by itself")
            return 2
        }
        signal(SIGPIPE, SIG_IGN)
        do throws(GuardFailure) {
            // Another one guards already.
            guard let process = try GuardProcess(nodeDirectory: path, inherited: inherited) else { return 0 }
            process.run()
            return 0
        } catch {
            Console.complain("muster guard: \(error)")
            return 1
        }
    }
}
