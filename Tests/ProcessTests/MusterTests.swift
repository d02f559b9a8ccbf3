import Foundation
import Testing

@Suite struct MusterTests {
    @Test(arguments: ["help", "--help", "-h"]) func `help names every command`(word: String) throws {
        let run = try MusterRun(word)
        #expect(run.status == 0)
        for command in ["init", "join", "agent", "kv put", "simulate", "mutants", "bench"] {
            #expect(run.output.contains("\n  \(command) "))
        }
        #expect(run.complaint.isEmpty)
    }

    @Test func `without a command it helps`() throws {
        let (alone, help) = (try MusterRun(), try MusterRun("help"))
        #expect(alone.status == 0)
        #expect(alone.output == help.output)
    }

    @Test(arguments: ["version", "--version"]) func `a program says which one it is, without a cluster`(
        word: String
    ) throws {
        let run = try MusterRun(word)
        #expect(run.status == 0 && run.output.hasPrefix("muster 0."), "\(run.output)\(run.complaint)")
    }

    @Test func `an unknown command exits with 2 and says where to look`() throws {
        let run = try MusterRun("symulate")
        #expect(run.status == 2)
        #expect(run.output.isEmpty)
        #expect(run.complaint.contains("'symulate'") && run.complaint.contains("muster help"))
    }

    /// What bash makes of a line that it has split, as it does at every `=`.
    @Test(arguments: [
        (["vm", "create", "a", "--policy", "=", "pa"], "pack\n"),
        (["vm", "create", "a", "--policy", "=", ""], "pack\nbalance\nspread\nnone\n"),
        (["vm", "create", "a", "--policy", "="], "pack\nbalance\nspread\nnone\n"),
        (["vm", "create", "a", "--policy", "pa"], "pack\n"),
        (["vm", "create", "a", "--policy=pa"], "--policy=pack\n"),
        (["vm", "list", "--columns", "=", "name,hos"], "name,host\n"), (["vm", "li"], "list\n"),
        (["vm", "create", "a", "--label", "app", "=", "we"], ""),
    ]) func `bash completes values, behind = as well`(words: [String], expected: String) throws {
        let script = try MusterRun("completion", "bash").output
        let folder = try MusterRun.binary().deletingLastPathComponent().path
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments =
            [
                "bash", "--norc", "-c",
                "PATH=\(folder):$PATH\n\(script)\nCOMP_WORDS=(\"$@\"); COMP_CWORD=$(( $# - 1 ))\n_muster\n"
                    + "for found in \"${COMPREPLY[@]}\"; do echo \"$found\"; done", "bash", "muster",
            ] + words
        let output = Pipe()
        process.standardOutput = output.fileHandleForWriting
        try process.run()
        try output.fileHandleForWriting.close()
        let found = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        #expect(String(decoding: found, as: UTF8.self) == expected)
    }

    static let mistakes: [(arguments: [String], says: String)] = [
        (["simulate", "--seeds", "five"], "--seeds"),
        (["simulate", "--seeds"], "--seeds wants a value"),
        (["simulate", "--seeds", "9..3"], "'9..3'"),
        (["simulate", "--nodes", "0"], "--nodes"),
        (["simulate", "--seconds", "-1"], "--seconds"),
        (["simulate", "--sedes", "1"], "'--sedes'"),
        (["simulate", "--mutant", "nonesuch"], "'nonesuch'"),
        (["simulate", "--mixed", "--mutant", "nonesuch"], "--mixed"), (["simulate", "--mixed", "--fleet"], "--fleet"),
        (["simulate", "--trace", "/nonesuch/trace", "--seeds", "1..1"], "'/nonesuch/trace'"),
        (["mutants", "breed"], "mutants"),
        (["bench", "nonesuch"], "name a bench"),
    ]

    @Test(arguments: mistakes) func `a mistake in the options is one sentence, not a crash`(
        arguments: [String], says: String
    ) throws {
        let run = try MusterRun(arguments)
        #expect(run.status == 2)
        #expect(run.complaint.hasPrefix("muster: "))
        #expect(run.complaint.contains(says), "\(run.complaint)")
        #expect(run.complaint.split(separator: "\n").count == 1)
    }

    @Test func `simulated seeds that keep every promise exit with 0`() throws {
        let run = try MusterRun("simulate", "--seeds", "1..2", "--nodes", "3..5", "--seconds", "2", "--quiet")
        #expect(run.status == 0, "\(run.output)\(run.complaint)")
        #expect(run.output.contains("seeds 1..2"))
        #expect(run.output.hasSuffix("no promise was broken\n"))
    }

    /// Hash seeds differ between processes, so that any order taken from one shows here.
    @Test func `a seed traced in two processes is the same to the byte`() throws {
        let folder = try TemporaryFolder()
        var traces: [Data] = []
        for name in ["first", "second"] {
            let file = folder.file(name)
            let run = try MusterRun(
                "simulate", "--seeds", "7..8", "--nodes", "3..5", "--seconds", "2", "--trace", file.path)
            #expect(run.status == 0, "\(run.output)\(run.complaint)")
            traces.append(try Data(contentsOf: file))
        }
        #expect(traces[0].count > 10_000)
        #expect(traces[0] == traces[1])
    }

    @Test func `mutants are listed by name, and a build without them says how to get them`() throws {
        let list = try MusterRun("mutants", "list")
        #expect(list.status == 0)
        let names = list.output.split(separator: "\n")
        #expect(names.count > 10)
        let run = try MusterRun(
            "simulate", "--mutant", String(names[0]), "--seeds", "1..1", "--seconds", "1", "--quiet")
        if run.status == 2 { #expect(run.complaint.contains("-DMUTANTS")) }
    }
}
