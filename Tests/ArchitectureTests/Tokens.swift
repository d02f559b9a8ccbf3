/// A line of code as words and marks, so that a rule can name what it refuses without caring for blanks.
struct Tokens: Sendable {
    let all: [Substring]

    /// A word is an identifier with the `@` or `#` that belongs to it; every other visible character is a token alone.
    init(_ code: String) {
        var all: [Substring] = []
        var at = code.startIndex
        while at < code.endIndex {
            let first = code[at]
            let begin = at
            code.formIndex(after: &at)
            if first.isWhitespace { continue }
            if first.isWord || first == "@" || first == "#" {
                while at < code.endIndex, code[at].isWord { code.formIndex(after: &at) }
            }
            all.append(code[begin..<at])
        }
        self.all = all
    }

    /// True when the tokens of `pattern`, which blanks separate, stand here one after another.
    func contains(_ pattern: String) -> Bool {
        let wanted = pattern.split(separator: " ")
        if wanted.count == 1 { return all.contains(wanted[0]) }
        if wanted.count > all.count || !all.contains(wanted[0]) { return false }
        return (0...all.count - wanted.count).contains { all[$0..<$0 + wanted.count].elementsEqual(wanted) }
    }

    /// True when a type `[Key: Value]` is written here.
    var namesDictionaryType: Bool {
        for open in all.indices where all[open] == "[" {
            var depth = 1
            var key: [Substring] = []
            for token in all[(open + 1)...] {
                if token == "[" { depth += 1 }
                if token == "]" { depth -= 1 }
                if depth == 0 { break }
                if token == ":" && depth == 1 {
                    let words = key.filter { $0.first!.isWord }
                    let isType = key.allSatisfy { $0.first!.isWord || ["[", "]", ".", "<", ">", ","].contains($0) }
                    if isType && !words.isEmpty && words.allSatisfy({ $0.first!.isUppercase }) { return true }
                    break
                }
                key.append(token)
            }
        }
        return false
    }
}

extension Character {
    fileprivate var isWord: Bool { isLetter || isNumber || self == "_" }
}
