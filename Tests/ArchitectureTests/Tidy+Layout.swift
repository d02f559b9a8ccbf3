extension Tidy {
    static let linesPerFileMax = 900
    static let linesPerFunctionMax = 100

    /// Files that may be longer, and why.
    static let longFiles: [String: String] = [:]

    /// Functions that may be longer, as `path name`, and why.
    static let longFunctions: [String: String] = [:]

    static let topLevel = ["Cluster", "Package.swift", "Proto", "README.md", "Sources", "Tests", "Tools"]

    static let layout = [
        Tidy(promise: "the top level is what the README draws") { house in
            house.topLevel.filter { !topLevel.contains($0) }.map { name in
                Finding(
                    name, "the top level of the package is fixed: \(topLevel.joined(separator: ", "))",
                    instead: "put it into the folder whose subject it is")
            }
                + topLevel.filter { !house.topLevel.contains($0) }.map { name in
                    Finding(
                        name, "it is part of the top level and is not there",
                        instead: "put it back, or change the rule, the README and the picture in one commit")
                }
        },
        Tidy(promise: "every room is in the README's picture") { house in
            guard let readme = house.texts["README.md"] else { return [] }
            let words = Set(readme.split { !$0.isLetter && !$0.isNumber })
            return house.rooms.filter { !$0.isTest && !$0.layer.isEmpty && !words.contains(Substring($0.name)) }.map {
                Finding("README.md", "\($0.name) is not in the picture of the layers", instead: "draw it in its layer")
            }
        },
        Tidy(promise: "every folder of Sources and Tests is a target of the manifest") { house in
            var strays: Set<String> = []
            for path in house.paths where path.hasSuffix(".swift") && house.room(of: path) == nil {
                let parts = path.split(separator: "/")
                if parts[0] == "Sources" { strays.insert(parts.prefix(3).joined(separator: "/")) }
                if parts[0] == "Tests" { strays.insert(parts.prefix(2).joined(separator: "/")) }
            }
            return strays.sorted().map {
                Finding(
                    $0, "no target of the manifest lies here, so nothing compiles or tests it", instead: "add its row")
            }
        },
        Tidy(promise: "a file is named for its main type") { house in
            house.sources.compactMap { file in
                let parts = file.stem.split(separator: "+", maxSplits: 1)
                guard file.stem != "main", !file.isGenerated, let type = parts.first,
                    declaration(of: type, orExtension: parts.count > 1, in: file) == nil,
                    // Several small types may share a page that carries the family's name.
                    parts.count > 1 || topLevelTypes(file) < 2
                else { return nil }
                return Finding(
                    file.path, "the file declares no type of its name, and no family of types either",
                    instead: "name it for its type, or Type+Aspect.swift for one side of a type")
            }
        },
        Tidy(promise: "no type carries its module's name") { house in
            house.sources.compactMap { file in
                guard let room = house.room(of: file.path),
                    let line = declaration(of: Substring(room.name), orExtension: false, in: file)
                else { return nil }
                return Finding(
                    file.path, line: line, "the type \(room.name) hides its module, and qualified names stop working",
                    instead: "name the type for what it is within \(room.name)")
            }
        },
        Tidy(promise: "files and functions fit into a head") { house in
            house.sources.filter { !$0.isGenerated }.flatMap { file -> [Finding] in
                var findings: [Finding] = []
                if file.lines.count > linesPerFileMax && longFiles[file.path] == nil {
                    findings.append(
                        Finding(
                            file.path, "\(file.lines.count) lines; \(linesPerFileMax) are the most a file may have",
                            instead:
                                "split off the second subject as Type+Aspect.swift, or list it in longFiles with the reason"
                        ))
                }
                for (name, line, count) in functions(file)
                where count > linesPerFunctionMax && longFunctions["\(file.path) \(name)"] == nil {
                    findings.append(
                        Finding(
                            file.path, line: line, "\(name) has \(count) lines; \(linesPerFunctionMax) are the most",
                            instead:
                                "keep the switch, move straight-line work into helpers, or list it in longFunctions "
                                + "with the reason"))
                }
                return findings
            }
        },
        Tidy(promise: "an exception that nobody needs is taken back") { house in
            let files = Dictionary(uniqueKeysWithValues: house.sources.map { ($0.path, $0) })
            let stale =
                longFiles.keys.filter { (files[$0]?.lines.count ?? 0) <= linesPerFileMax }
                + longFunctions.keys.filter { key in
                    let path = String(key.split(separator: " ")[0])
                    return !(files[path].map(functions) ?? []).contains {
                        "\(path) \($0.name)" == key && $0.count > linesPerFunctionMax
                    }
                }
            return stale.sorted().map {
                Finding($0, "it is listed as an exception and is none", instead: "delete its row in Tidy+Layout.swift")
            }
        },
    ]

    private static let typeKeywords: Set<Substring> = ["struct", "enum", "class", "protocol", "actor", "typealias"]

    /// The line, from 1, that declares `type` or, where that will do, extends it.
    private static func declaration(of type: Substring, orExtension: Bool, in file: SourceFile) -> Int? {
        file.lines.firstIndex { line in
            guard line.code.contains(type) else { return false }
            let tokens = line.tokens.all
            return tokens.indices.dropLast().contains { i in
                (typeKeywords.contains(tokens[i]) && tokens[i + 1] == type)
                    || (orExtension && tokens[i] == "extension" && tokens[i...].contains(type))
            }
        }.map { $0 + 1 }
    }

    private static func topLevelTypes(_ file: SourceFile) -> Int {
        file.lines.count { line in
            line.code.first?.isWhitespace == false && line.tokens.all.contains(where: typeKeywords.contains)
        }
    }

    /// Every function, initialiser and subscript with a body: its name, its first line from 1 and its lines.
    static func functions(_ file: SourceFile) -> [(name: String, line: Int, count: Int)] {
        var found: [(name: String, line: Int, count: Int)] = []
        // Functions whose body is open: where it began, and the depth of braces around it.
        var open: [(name: String, line: Int, depth: Int)] = []
        var declared: (name: String, line: Int)?
        let goesOn: Set<Substring> = ["{", "-", "throws", "rethrows", "async", "where"]
        var hanging = false
        var braces = 0
        var parentheses = 0
        for (i, line) in file.lines.enumerated() where line.hasCode {
            let tokens = line.tokens.all
            // A requirement of a protocol has no body: a line that does not go on with it ends it.
            if parentheses == 0, !goesOn.contains(tokens[0]), !hanging { declared = nil }
            hanging = [",", "where", ">", "throws"].contains(tokens[tokens.count - 1])
            for (t, token) in tokens.enumerated() {
                switch token {
                case "func" where t + 1 < tokens.count:
                    declared = (String(tokens[t + 1]), i + 1)
                case "init", "subscript", "deinit":
                    let isCall = t > 0 && (tokens[t - 1] == "." || tokens[t - 1] == "(")
                    if !isCall && parentheses == 0 && declared == nil { declared = (String(token), i + 1) }
                case "(": parentheses += 1
                case ")": parentheses -= 1
                case "{":
                    if let (name, line) = declared, parentheses == 0 {
                        open.append((name, line, braces))
                        declared = nil
                    }
                    braces += 1
                case "}":
                    braces -= 1
                    if let last = open.last, last.depth == braces {
                        open.removeLast()
                        found.append((last.name, last.line, i + 2 - last.line))
                    }
                default: break
                }
            }
        }
        return found
    }
}
