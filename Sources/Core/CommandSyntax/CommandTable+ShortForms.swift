/// Nouns and verbs may be shortened as long as only one is meant: `vm sh web` is `vm show web`. `ls` lists, `rm` deletes, and
/// a noun's plural alone lists, too. What ends something has to be written out: a key too few must not delete.
extension CommandTable {
    /// Verbs that are never meant by their beginning.
    static let writtenOut = [
        "delete", "remove", "retire", "revoke", "forget", "restore", "finalize", "recover",
    ]
    /// Other words for verbs; the first one that the noun has is meant.
    static let otherVerbs: [(word: String, verbs: [String])] = [
        ("ls", ["list"]), ("rm", ["delete", "remove"]),
    ]

    enum Spelling: Hashable {
        /// The words that are meant, for the first word or the first two that were typed.
        case words([String], taken: Int)
        /// What the first word may mean, and what the second.
        case ambiguous(String, [String])
        case unknown
    }

    /// What the first words of a line mean, where they are not written out.
    func spelling(_ first: String, _ second: String?) -> Spelling {
        let known = commands.filter { !$0.isHidden }
        var noun = first
        var impliedVerb: String?
        if !commands.contains(where: { $0.words[0] == first }) {
            if first.count > 1, first.hasSuffix("s"),
                known.contains(where: { $0.words == [String(first.dropLast()), "list"] })
            {
                noun = String(first.dropLast())
                impliedVerb = "list"
            } else {
                let meant = CommandTable.unique(known.map { $0.words[0] }.filter { $0.hasPrefix(first) })
                // A command without a verb is written out: some of them end or begin much.
                let nouns = meant.filter { word in known.contains { $0.words[0] == word && $0.words.count == 2 } }
                if first.isEmpty || nouns.isEmpty { return .unknown }
                guard meant.count == 1 else { return .ambiguous(first, meant) }
                noun = meant[0]
            }
        }
        let verbs = commands.filter { $0.words[0] == noun && $0.words.count == 2 }
        guard !verbs.isEmpty else { return .words([noun], taken: 1) }
        guard let second, !second.hasPrefix("-"), second != "help" else {
            return .words([noun] + (impliedVerb.map { [$0] } ?? []), taken: 1)
        }
        if verbs.contains(where: { $0.words[1] == second }) { return .words([noun, second], taken: 2) }
        if let other = CommandTable.otherVerbs.first(where: { $0.word == second }),
            let meant = other.verbs.first(where: { verb in verbs.contains { $0.words[1] == verb } })
        {
            return .words([noun, meant], taken: 2)
        }
        let meant = verbs.filter { !$0.isHidden && $0.words[1].hasPrefix(second) }.map { $0.words[1] }
        if second.isEmpty || meant.isEmpty || (meant.count == 1 && CommandTable.writtenOut.contains(meant[0])) {
            return .words([noun], taken: 1)
        }
        return meant.count == 1 ? .words([noun, meant[0]], taken: 2) : .ambiguous(second, meant)
    }

    /// The words with the first two as they are meant, where that is clear.
    package func spelledOut(_ words: [String]) -> [String] {
        guard let first = words.first else { return words }
        guard case .words(let meant, let taken) = spelling(first, words.dropFirst().first) else { return words }
        return meant + words.dropFirst(taken)
    }

    private static func unique(_ words: [String]) -> [String] {
        words.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }
}
