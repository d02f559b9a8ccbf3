extension Tidy {
    /// Rooms with a public API that no product vends, and why.
    static let publicWithoutProduct: [String: String] = [
        "BinaryCoding": "generated code calls it, in whatever room that lies",
        "Schema": "Tools/protogen writes messages in one way for every room",
    ]

    static let products = [
        Tidy(promise: "what no product vends is not public") { house in
            eachLine(house.sources) { file, line, tokens in
                guard let room = house.room(of: file.path), room.products.isEmpty,
                    publicWithoutProduct[room.name] == nil,
                    tokens.contains("public") || tokens.contains("open class")
                else { return nil }
                return Finding(
                    file.path, line: line, "no library product vends \(room.name), so its public API has no reader",
                    instead: room.isExecutable ? "leave it internal" : "use `package`")
            }
        },
        Tidy(promise: "a product vends every room that its public API names") { house in
            let products = Dictionary(uniqueKeysWithValues: house.rooms.map { ($0.name, $0.products) })
            return eachLine(house.sources) { file, line, tokens in
                guard let room = house.room(of: file.path), tokens.all.starts(with: ["public", "import"]),
                    let named = tokens.all.last.flatMap({ products[String($0)] }),
                    let product = room.products.first(where: { !named.contains($0) })
                else { return nil }
                return Finding(
                    file.path, line: line,
                    "the product \(product) vends \(room.name), whose public API names \(tokens.all.last ?? ""), and does not "
                        + "vend that",
                    instead: "add it to the product's targets, or make what names it `package`")
            }
        },
        Tidy(promise: "what a product vends is documented, member by member") { house in
            house.sources.filter { !$0.isGenerated && house.room(of: $0.path)?.products.isEmpty == false }
                .flatMap { file -> [Finding] in
                    let texts = house.texts[file.path]!.split(separator: "\n", omittingEmptySubsequences: false)
                    return publicDeclarations(file).filter { !isDocumented(file, texts, $0) }.map {
                        Finding(
                            file.path, line: $0 + 1, "whoever drives this package can't know what this means",
                            instead: "write one `///` sentence of contract, with units and bounds, or make it `package`"
                        )
                    }
                }
        },
    ]

    private enum Scope { case publicEnum, publicProtocol, other }

    private static let modifiers: Set<Substring> = [
        "static", "final", "mutating", "nonisolated", "override", "indirect", "consuming", "borrowing", "convenience",
    ]

    /// The lines, from 0, that declare something public: declarations with the word, cases of public enumerations and
    /// requirements of public protocols. Left out is what says itself: initialisers that only store, and what a protocol
    /// of the standard library asks for.
    static func publicDeclarations(_ file: SourceFile) -> [Int] {
        var found: [Int] = []
        var scopes: [Scope] = []
        var opens = Scope.other
        var parentheses = 0
        for (i, line) in file.lines.enumerated() where line.hasCode {
            let tokens = line.tokens.all
            let words = declaration(tokens)
            let isPublic = words.first == "public" && words.dropFirst().first != "import"
            let isBegin = parentheses == 0
            if isBegin, isPublic, !saysItself(file, i, words.dropFirst()) { found.append(i) }
            if isBegin, scopes.last == .publicEnum, words.first == "case" { found.append(i) }
            if isBegin, scopes.last == .publicProtocol,
                ["func", "var", "init", "subscript", "associatedtype"].contains(words.first)
            {
                found.append(i)
            }
            if isPublic, words.contains("enum") { opens = .publicEnum }
            if isPublic, words.contains("protocol") { opens = .publicProtocol }
            for token in tokens {
                switch token {
                case "(": parentheses += 1
                case ")": parentheses -= 1
                case "{":
                    scopes.append(opens)
                    opens = .other
                case "}": if !scopes.isEmpty { scopes.removeLast() }
                default: break
                }
            }
        }
        return found
    }

    /// The tokens of a line without attributes and modifiers at its head.
    private static func declaration(_ tokens: [Substring]) -> ArraySlice<Substring> {
        var rest = tokens[...]
        while let first = rest.first {
            if first.first == "@" {
                rest = rest.dropFirst()
                if rest.first == "(", let end = rest.firstIndex(of: ")") { rest = rest[(end + 1)...] }
            } else if modifiers.contains(first) {
                rest = rest.dropFirst()
            } else {
                break
            }
        }
        return rest
    }

    private static func saysItself(_ file: SourceFile, _ line: Int, _ words: ArraySlice<Substring>) -> Bool {
        let words = Array(words.drop { modifiers.contains($0) })
        guard words.count > 1 else { return false }
        switch words[0] {
        case "init": return words.starts(with: ["init", "(", "rawValue"]) || onlyStores(file, line)
        case "var", "let": return ["description", "rawValue"].contains(words[1])
        case "func": return words[1] == "hash" || words[1].first.map { !$0.isLetter && $0 != "_" } == true
        default: return false
        }
    }

    /// Whether the body that begins at `line` or below holds nothing but `self.name = name` and `name = name`.
    private static func onlyStores(_ file: SourceFile, _ line: Int) -> Bool {
        var parentheses = 0
        var isBody = false
        for line in file.lines[line...] {
            var statement: [Substring] = []
            for token in line.tokens.all {
                if isBody {
                    if token == "}" { return stores(statement) }
                    statement.append(token)
                } else if token == "{" && parentheses == 0 {
                    isBody = true
                } else if token == "(" {
                    parentheses += 1
                } else if token == ")" {
                    parentheses -= 1
                }
            }
            if !stores(statement) { return false }
        }
        return false
    }

    private static func stores(_ statement: [Substring]) -> Bool {
        let rest = statement.starts(with: ["self", "."]) ? Array(statement.dropFirst(2)) : statement
        return rest.isEmpty || (rest.count == 3 && rest[1] == "=")
    }

    /// Comments that are no documentation, attributes and conditions may stand between.
    private static func isDocumented(_ file: SourceFile, _ texts: [Substring], _ line: Int) -> Bool {
        var above = line - 1
        while above >= 0 {
            let text = texts[above].drop { $0 == " " }
            if text.hasPrefix("///") { return true }
            if !text.hasPrefix("//") && !text.hasPrefix("@") && !text.hasPrefix("#if") { return false }
            above -= 1
        }
        return false
    }
}
