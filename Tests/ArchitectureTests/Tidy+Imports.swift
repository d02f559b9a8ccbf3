extension Tidy {
    /// System modules that act on the world. Only targets of impure layers may import them.
    private static let systemModules: Set<Substring> = [
        "Glibc", "Foundation", "FoundationEssentials", "Dispatch", "Synchronization", "_Concurrency", "Musl",
    ]

    static let imports = [
        Tidy(promise: "a target imports what the manifest lists for it") { house in
            eachImport(house) { file, line, module, room in
                if module == "Swift" || room.imports.contains(String(module)) { return nil }
                if systemModules.contains(module) && !room.isPure { return nil }
                if systemModules.contains(module) {
                    return Finding(
                        file.path, line: line,
                        "\(room.name) is pure and imports \(module), which acts on the world",
                        instead: "take what is needed as an argument, or name it in NodePorts and act in an IO target")
                }
                return Finding(
                    file.path, line: line,
                    "\(room.name) imports \(module), which its row in Package.swift does not list",
                    instead: "do without it, or add the arrow to the table of rooms and give the reason in the commit")
            }
        },
        Tidy(promise: "each C library has one door") { house in
            var doors: [Substring: Set<String>] = [:]
            var findings: [Finding] = []
            let libraries = Set(house.rooms.filter(\.isCLibrary).map { Substring($0.name) })
            findings += eachImport(house) { file, line, module, room in
                guard libraries.contains(module) else { return nil }
                doors[module, default: []].insert(room.name)
                // Instructions of the processor are functions of their arguments.
                if room.isPure && module != "CProcessor" {
                    return Finding(
                        file.path, line: line, "\(room.name) is pure and imports the C library \(module)",
                        instead: "go through the target that wraps \(module)")
                }
                return nil
            }
            for library in libraries.sorted() where doors[library, default: []].count != 1 {
                let names = doors[library, default: []].sorted().joined(separator: " and ")
                findings.append(
                    Finding(
                        "Sources/CLibs/\(library)",
                        "it must be imported by exactly one target, and is by \(names.isEmpty ? "none" : names)",
                        instead:
                            "let one target wrap \(library), so that its pointers and error codes stay behind one door")
                )
            }
            return findings
        },
        Tidy(promise: "no import widens what another module sees") { house in
            eachLine(house.sources) { file, line, tokens in
                tokens.contains("@_exported import") || tokens.contains("@testable import")
                    || tokens.contains("@_spi")
                    ? Finding(
                        file.path, line: line, "the import opens a module further than its author did",
                        instead: "import each module where it is used, and make public what others need") : nil
            }
        },
    ]

    /// Calls `body` for every import under Sources.
    private static func eachImport(
        _ house: House, _ body: (SourceFile, Int, Substring, House.Room) -> Finding?
    ) -> [Finding] {
        house.sources.flatMap { file -> [Finding] in
            guard let room = house.room(of: file.path) else { return [] }
            return eachLine([file]) { file, line, tokens in
                guard let at = tokens.all.firstIndex(of: "import"), at + 1 < tokens.all.count else { return nil }
                let kinds: Set<Substring> = ["struct", "class", "enum", "protocol", "typealias", "func", "let", "var"]
                let name = kinds.contains(tokens.all[at + 1]) ? at + 2 : at + 1
                guard name < tokens.all.count else { return nil }
                return body(file, line, tokens.all[name], room)
            }
        }
    }

    /// Calls `body` for every line of code, counted from 1.
    static func eachLine(_ files: [SourceFile], _ body: (SourceFile, Int, Tokens) -> Finding?) -> [Finding] {
        files.flatMap { file in
            file.lines.indices.compactMap { i in
                file.lines[i].hasCode ? body(file, i + 1, file.lines[i].tokens) : nil
            }
        }
    }
}
