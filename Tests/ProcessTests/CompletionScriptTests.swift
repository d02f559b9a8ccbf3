import Foundation
import Testing

/// The scripts for completion, read by the shells that this machine has.
@Suite struct CompletionScriptTests {
    /// What a shell offers for the last word when the program prints `answer`.
    private func offers(_ shell: String, _ script: String, _ words: [String], _ answer: [String]) throws -> [String] {
        let folder = try TemporaryFolder()
        let file = folder.file("script").path
        try Data(script.utf8).write(to: folder.file("script"))
        func quoted(_ words: [String]) -> String { words.map { "'\($0)'" }.joined(separator: " ") }
        let says = answer.isEmpty ? "true" : "printf '%s\\n' \(quoted(answer))"
        let text =
            switch shell {
            case "bash":
                """
                source \(file)
                muster() { \(says); }
                compopt() { echo FILES; }
                COMP_WORDS=(muster \(quoted(words))); COMP_CWORD=\(words.count); _muster
                for word in "${COMPREPLY[@]}"; do echo "$word"; done
                """
            case "zsh":
                """
                compdef() { true }
                source \(file)
                muster() { \(says) }
                compset() { true }
                compadd() { print -l -- "${(@P)2}" }
                _files() { print FILES }
                words=(muster \(quoted(words))); CURRENT=\(words.count + 1); _muster
                """
            default:
                """
                source \(file)
                function muster; \(says); end
                function __fish_complete_path; echo FILES; end
                function commandline
                    if test "$argv[1]" = -ct; echo \(quoted([words.last ?? ""])); return; end
                    printf '%s\\n' muster \(quoted(Array(words.dropLast())))
                end
                __muster_complete
                """
            }
        try Data((text + "\n").utf8).write(to: folder.file("text"))
        let plain = ["bash": "--norc", "zsh": "-f", "fish": "--no-config"][shell] ?? ""
        let done = try MusterRun([], inside: ["/usr/bin/\(shell)", plain, folder.file("text").path])
        #expect(done.complaint.isEmpty, "\(shell): \(done.complaint)")
        return done.output.split(separator: "\n").map(String.init)
    }

    @Test(arguments: ["bash", "zsh", "fish"])
    func `a shell offers what the program says, files where one is wanted, and else nothing`(_ shell: String) throws {
        guard FileManager.default.isExecutableFile(atPath: "/usr/bin/\(shell)") else { return }
        let script = try MusterRun("completion", shell).output
        #expect(try offers(shell, script, ["vm", "show", ""], ["web-1", "web-2"]) == ["web-1", "web-2"])
        #expect(try offers(shell, script, ["vm", "create", "--file", ""], [":files"]) == ["FILES"])
        #expect(try offers(shell, script, ["image", "show", ""], []).isEmpty)
    }

    @Test func `the program says where a file is wanted, and what a cell's settings are called`() throws {
        #expect(try MusterRun("__complete", "vm", "create", "--file", "").output == ":files\n")
        #expect(try MusterRun("__complete", "cell", "set", "rebalance", "").output == "off\nadvice\nauto\n")
    }
}
