extension Tidy {
    static let pageHeadings = ["Purpose", "Diagram", "Inputs and outputs", "Limits", "What it does not do"]

    // Written in two halves, so that this file does not find itself.
    private static let unfinished = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]
    private static let machinePaths = ["/ho" + "me/", "/ro" + "ot/", "/wo" + "rk/", "/Us" + "ers/"]

    static let documents = [
        Tidy(promise: "every library target has its page") { house in
            house.rooms.filter { !$0.layer.isEmpty && !$0.isExecutable && !$0.isCLibrary }.flatMap {
                room -> [Finding] in
                let path = "\(room.path)/\(room.name).docc/\(room.name).md"
                guard let text = house.texts[path] else {
                    return [
                        Finding(
                            path, "\(room.name) has no page",
                            instead: "write one with the headings \(pageHeadings.joined(separator: ", "))")
                    ]
                }
                let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
                var missing = pageHeadings.filter { !lines.contains("## \($0)") }.map { "## \($0)" }
                if lines.first != "# ``\(room.name)``" { missing.insert("# ``\(room.name)``", at: 0) }
                return missing.map {
                    Finding(path, "the heading `\($0)` is missing", instead: "say it there, even if it is one sentence")
                }
            }
        },
        Tidy(promise: "public types say what they are") { house in
            house.sources.filter { !$0.isGenerated }.flatMap { file in
                eachLine([file]) { file, line, tokens in
                    let kinds: Set<Substring> = ["struct", "enum", "class", "protocol"]
                    guard let access = tokens.all.firstIndex(of: "public"), let first = file.lines[line - 1].code.first,
                        !first.isWhitespace,
                        let kind = tokens.all[access...].firstIndex(where: { kinds.contains($0) }),
                        kind + 1 < tokens.all.count
                    else { return nil }
                    var above = line - 1
                    while above > 0, file.lines[above - 1].code.hasPrefix("@") { above -= 1 }
                    if above > 0, file.lines[above - 1].isComment { return nil }
                    return Finding(
                        file.path, line: line, "\(tokens.all[kind + 1]) is public and nothing says what it is",
                        instead: "write one `///` sentence: what it stands for, in which unit, with which bound")
                }
            }
        },
        Tidy(promise: "nothing is left for later without saying so where it is planned") { house in
            eachTextLine(house) { path, line, text in
                unfinished.first { word in
                    text.ranges(of: word).contains { range in
                        !isLetter(text, before: range.lowerBound) && !isLetter(text, from: range.upperBound)
                    }
                }.map {
                    Finding(
                        path, line: line, "a `\($0)` is a promise that nobody keeps",
                        instead: "do it, or name what is missing in the target's page under Limits")
                }
            }
        },
        Tidy(promise: "no file knows the machine it was written on") { house in
            eachTextLine(house) { path, line, text in
                machinePaths.first { prefix in
                    text.ranges(of: prefix).contains { range in
                        guard range.lowerBound > text.startIndex else { return true }
                        let before = text[text.index(before: range.lowerBound)]
                        return !before.isLetter && !before.isNumber && !"_.-)}>".contains(before)
                    }
                }.map {
                    Finding(
                        path, line: line, "`\($0)` exists on one machine only",
                        instead: "find the place at run time, from #filePath, an argument or mktemp")
                }
            }
        },
        Tidy(promise: "the commands that the documents name exist") { house in
            let commands = Set(
                (house.texts["Tools/check"] ?? "").split(separator: "\n").compactMap { line -> Substring? in
                    line.hasPrefix("command_") ? line.dropFirst(8).prefix { $0.isLetter } : nil
                })
            return eachTextLine(house) { path, line, text in
                guard path.hasSuffix(".md") || path == ".ci/run" else { return nil }
                for range in text.ranges(of: "Tools/check ") {
                    let name = text[range.upperBound...].prefix { $0.isLetter && $0.isLowercase }
                    if !name.isEmpty && !commands.contains(name) {
                        return Finding(
                            path, line: line, "`Tools/check \(name)` is no command",
                            instead: "name one of \(commands.sorted().joined(separator: ", "))")
                    }
                }
                return nil
            }
        },
    ]

    private static func eachTextLine(_ house: House, _ body: (String, Int, Substring) -> Finding?) -> [Finding] {
        house.paths.flatMap { path in
            house.texts[path]!.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
                .compactMap { body(path, $0.offset + 1, $0.element) }
        }
    }

    private static func isLetter(_ text: Substring, before index: Substring.Index) -> Bool {
        index > text.startIndex && text[text.index(before: index)].isLetter
    }

    private static func isLetter(_ text: Substring, from index: Substring.Index) -> Bool {
        index < text.endIndex && text[index].isLetter
    }
}
