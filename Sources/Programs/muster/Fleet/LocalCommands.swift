import AdminAPI
import AgentConfig
import CommandSyntax
import FleetCommands
import FleetModel
import Glibc
import Terminal

/// Commands that ask no cluster: completion scripts, and the clusters that the user knows by name.
enum LocalCommands {
    /// Nil when the command is not one of these.
    static func run(_ line: Invocation) throws -> ExitCode? {
        switch line.path {
        case "completion":
            guard let shell = Completion.Shell(rawValue: line.argument("SHELL") ?? "") else {
                throw FleetMistake("'\(line.argument("SHELL") ?? "")' is no shell known here; say bash, zsh or fish.")
            }
            Console.write(Completion.script(shell, program: "muster"), to: 1)
        case "version": Console.write("muster \(Agent.version), feature levels up to \(FeatureLevel.newest)\n", to: 1)
        case "context list":
            let known = contexts
            let format = line.text("output").flatMap(OutputFormat.init) ?? .table
            Console.write(Printer(format).list(known.rows, FleetColumns.contexts), to: 1)
        case "context use":
            var known = contexts
            let name = line.argument("NAME") ?? ""
            guard known.use(name) else {
                throw FleetMistake("There is no context '\(name)'; see `muster context list`.", code: .notFound)
            }
            try keep(known)
        case "context set":
            var known = contexts
            let name = line.argument("NAME") ?? ""
            guard !name.isEmpty, !name.contains(where: { $0.isWhitespace }) else {
                throw FleetMistake("A context's name has no spaces; choose another.")
            }
            known.set(name, folder: absolute(line.text("folder") ?? ""), addresses: line.texts("at"))
            try keep(known)
        case "context remove":
            var known = contexts
            let name = line.argument("NAME") ?? ""
            guard known.remove(name) else {
                throw FleetMistake("There is no context '\(name)'; see `muster context list`.", code: .notFound)
            }
            try keep(known)
        default: return nil
        }
        return .success
    }

    private static func absolute(_ path: String) -> String {
        if path.hasPrefix("/") { return path }
        guard let here = unsafe realpath(".", nil) else { return path }
        defer { unsafe free(here) }
        return unsafe String(cString: here) + "/" + path
    }

    private static var file: (folder: String, name: String)? {
        if let path = Muster.variable("MUSTER_CONTEXTS") {
            let parts = path.split(separator: "/", omittingEmptySubsequences: false)
            return (parts.dropLast().joined(separator: "/"), String(parts.last ?? ""))
        }
        guard let home = Muster.variable("HOME") else { return nil }
        return ((Muster.variable("XDG_CONFIG_HOME") ?? home + "/.config") + "/muster", "contexts")
    }

    /// Those of a file that is not there or can't be read are none.
    static var contexts: Contexts {
        // A file that is not there holds none.
        guard let file, let bytes = try? NodeFiles.read(file.folder + "/" + file.name) else { return Contexts() }
        return Contexts(text: String(decoding: bytes, as: UTF8.self))
    }

    private static func keep(_ contexts: Contexts) throws {
        guard let file else { throw FleetMistake("HOME is not set; say where contexts are kept with MUSTER_CONTEXTS.") }
        try NodeFiles.makeFolders(file.folder)
        try NodeFiles(path: file.folder).write(file.name, contexts.text)
    }

    // MARK: Completion

    /// Prints what may stand at the end of the words; nothing when that is not known.
    static func complete(_ words: [String], in table: CommandTable) {
        let stem = Completion.stem(words)
        switch Completion.wish(words, in: table) {
        case .words(let found): Console.write(found.map { $0 + "\n" }.joined(), to: 1)
        case .files: Console.write(Completion.files + "\n", to: 1)
        case .names(.contexts): Console.write(contexts.entries.map { stem + $0.name + "\n" }.joined(), to: 1)
        case .names(let kind):
            let path: [String] =
                switch kind {
                case .vms: ["v1", "vms"]
                case .hosts: ["v1", "hosts"]
                case .groups: ["v1", "groups"]
                case .tenants: ["v1", "tenants"]
                case .spaces: ["v1", "spaces"]
                case .nodes: ["v1", "nodes"]
                case .cells: ["v1", "cells"]
                case .regions: ["v1", "regions"]
                case .images: ["v1", "images"]
                case .settings: ["v1", "settings"]
                case .tokens: ["v1", "tokens"]
                case .contexts: []
                }
            let asked = ["host", "list", "--timeout", "1s"] + Completion.reach(words)
            guard case .run(let line) = table.parse(asked, variable: Muster.variable),
                // Who waits for a completion wants no complaints.
                let client = try? FleetClient(line),
                // As above.
                let rows = try? client.get(path, Completion.query(kind, words))["items"]?.elements
            else { return }
            let names = rows.compactMap { $0["name"]?.text ?? $0["id"]?.text }
            Console.write(names.map { stem + $0 + "\n" }.joined(), to: 1)
        }
    }
}
