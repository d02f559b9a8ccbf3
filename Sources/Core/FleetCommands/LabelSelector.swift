/// What `-l` says, as the filter expression of a list.
///
///     selector    = requirement { "," requirement }
///     requirement = KEY | "!" KEY | KEY ("=" | "==" | "!=") VALUE | KEY ("in" | "notin") "(" VALUE { "," VALUE } ")"
package enum LabelSelector {
    /// Nil where the text is no selector.
    package static func filter(_ text: String) -> String? {
        guard let parts = split(text) else { return nil }
        var terms: [String] = []
        for part in parts {
            guard let term = term(part) else { return nil }
            terms.append(term)
        }
        return terms.isEmpty ? nil : terms.joined(separator: " and ")
    }

    /// At the commas outside of brackets.
    private static func split(_ text: String) -> [String]? {
        var parts = [""]
        var depth = 0
        for character in text {
            switch character {
            case "(": depth += 1
            case ")": depth -= 1
            default: break
            }
            if depth < 0 || depth > 1 { return nil }
            if character == "," && depth == 0 { parts.append("") } else { parts[parts.count - 1].append(character) }
        }
        return depth == 0 ? parts.map(trimmed) : nil
    }

    private static func term(_ part: String) -> String? {
        if part.hasSuffix(")"), let open = part.firstIndex(of: "(") {
            let words = part[..<open].split(separator: " ").map(String.init)
            guard words.count == 2, let field = field(words[0]), ["in", "notin"].contains(words[1]) else { return nil }
            let inner = part[part.index(after: open)...].dropLast()
            var values: [String] = []
            for value in inner.split(separator: ",", omittingEmptySubsequences: false) {
                guard let value = self.value(trimmed(String(value))) else { return nil }
                values.append(value)
            }
            return "\(field) \(words[1] == "in" ? "in" : "not in") (\(values.joined(separator: ",")))"
        }
        for (sign, comparison) in [("!=", "!="), ("==", "="), ("=", "=")] {
            guard let at = part.range(of: sign) else { continue }
            guard let field = field(trimmed(String(part[..<at.lowerBound]))),
                let value = value(trimmed(String(part[at.upperBound...])))
            else { return nil }
            return "\(field)\(comparison)\(value)"
        }
        if part.hasPrefix("!") { return field(trimmed(String(part.dropFirst()))).map { "not \($0)" } }
        return field(part)
    }

    private static func isWord(_ text: String) -> Bool {
        !text.isEmpty
            && text.unicodeScalars.allSatisfy { scalar in
                scalar.isASCII
                    && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar)
                        || "._:/@+-".unicodeScalars.contains(scalar))
            }
    }

    private static func field(_ key: String) -> String? { isWord(key) ? "label.\(key)" : nil }

    private static func value(_ text: String) -> String? {
        if isWord(text) { return text }
        return text.contains("\"") || text.contains("\\") ? nil : "\"\(text)\""
    }

    private static func trimmed(_ text: String) -> String {
        var part = text[...]
        while part.first == " " { part.removeFirst() }
        while part.last == " " { part.removeLast() }
        return String(part)
    }
}

extension String {
    fileprivate func range(of sign: String) -> Range<Index>? {
        var at = startIndex
        while at < endIndex {
            if self[at...].hasPrefix(sign) { return at..<index(at, offsetBy: sign.count) }
            at = index(after: at)
        }
        return nil
    }
}
