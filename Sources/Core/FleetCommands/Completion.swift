internal import AdminAPI
package import CommandSyntax

/// Scripts that complete command lines in a shell. They ask the program itself, so that names are the cluster's own and the
/// words are this version's.
package enum Completion {
    package enum Shell: String, CaseIterable, Sendable { case bash, zsh, fish }

    /// The hidden command that the scripts call with the words typed so far; the last one is unfinished.
    package static let command = "__complete"
    /// What it prints where the name of a file is wanted; nothing else is called so.
    package static let files = ":files"

    package static func script(_ shell: Shell, program: String) -> String {
        switch shell {
        case .bash:
            """
            _\(program)() {
                local IFS=$'\\n' word glued= cut="${COMP_WORDS[COMP_CWORD]}" last found
                local -a words
                # bash hands over --name=value as three words, and takes back the last one alone.
                for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
                    if [[ ${#words[@]} -gt 0 && ( $word == = || $glued ) ]]; then
                        words[${#words[@]}-1]+=$word
                    else
                        words+=("$word")
                    fi
                    [[ $word == = ]] && glued=1 || glued=
                done
                last="${words[${#words[@]}-1]}"
                [[ $cut == = ]] && cut=
                found="$(\(program) \(command) "${words[@]}" 2>/dev/null)"
                if [[ $found == \(files) ]]; then COMPREPLY=(); compopt -o default 2>/dev/null; return; fi
                COMPREPLY=($(compgen -W "$found" -- "$last"))
                COMPREPLY=("${COMPREPLY[@]#"${last%"$cut"}"}")
            }
            complete -F _\(program) \(program)

            """
        case .zsh:
            """
            #compdef \(program)
            _\(program)() {
                local -a found
                found=(${(f)"$(\(program) \(command) "${(@)words[2,CURRENT]}" 2>/dev/null)"})
                if [[ "$found" == \(files) ]]; then compset -P '--*='; _files; else compadd -a found; fi
            }
            compdef _\(program) \(program)

            """
        case .fish:
            """
            function __\(program)_complete
                set -l found (\(program) \(command) (commandline -opc)[2..] (commandline -ct) 2>/dev/null)
                if test "$found" = \(files)
                    # A path behind --name= is one of its own, and offered with that in front.
                    set -l stem (string match -r -- '^--[^=]*=' (commandline -ct))
                    for path in (__fish_complete_path (string replace -r -- '^--[^=]*=' '' (commandline -ct)))
                        printf '%s%s\\n' "$stem" $path
                    end
                else if test (count $found) -gt 0
                    printf '%s\\n' $found
                end
            end
            complete -c \(program) -f -a '(__\(program)_complete)'

            """
        }
    }

    /// What may stand at the end of these words.
    package enum Wish: Hashable, Sendable {
        case words([String])
        /// Names of what the cluster has.
        case names(Kind)
        /// A file or a folder of this machine.
        case files
    }
    package enum Kind: Hashable, Sendable {
        case vms, hosts, groups, tenants, spaces, nodes, cells, regions, images, settings, tokens, contexts
    }

    /// With a value behind `=` words have its option in front; names are printed behind `stem`.
    package static func wish(_ words: [String], in table: CommandTable) -> Wish {
        let stem = stem(words)
        guard !stem.isEmpty else { return plainWish(words, in: table) }
        guard case .words(let found) = plainWish(apart(words), in: table) else {
            return plainWish(apart(words), in: table)
        }
        return .words(found.map { stem + $0 })
    }

    /// `--name=` where a value is typed behind it; else empty.
    package static func stem(_ words: [String]) -> String {
        guard let last = words.last, last.hasPrefix("--"), let at = last.firstIndex(of: "=") else { return "" }
        return String(last[...at])
    }

    /// The same with such a value as a word of its own.
    private static func apart(_ words: [String]) -> [String] {
        let stem = stem(words)
        guard !stem.isEmpty, let last = words.last else { return words }
        return words.dropLast() + [String(stem.dropLast()), String(last.dropFirst(stem.count))]
    }

    private static func plainWish(_ words: [String], in table: CommandTable) -> Wish {
        let last = words.last ?? ""
        let before = table.spelledOut(spoken(Array(words.dropLast()), in: table))
        let family = table.commands.filter { !$0.isHidden && $0.words[0] == before.first }
        let command =
            family.first { $0.words.count == 1 } ?? family.first { before.count > 1 && $0.words[1] == before[1] }
        let previous = words.dropLast().last ?? ""
        let option = (table.options + (command?.options ?? [])).first {
            "--\($0.name)" == previous || $0.letter.map { "-\($0)" } == previous
        }
        let isValue = option.map { $0.value != .none } ?? false
        // A field to sort by may be turned round.
        if last.hasPrefix("-") && !(isValue && option?.name == "sort") {
            return .words((table.options + (command?.options ?? [])).map { "--\($0.name)" } + ["--help"])
        }
        if let option, isValue {
            if case .choice(let choices) = option.value { return .words(choices) }
            if option.name == "context" { return .names(.contexts) }
            if let known = list(of: command?.path) {
                if option.name == "columns" { return .words(listed(known.columns.map { $0.title.lowercased() }, last)) }
                if option.name == "sort" { return .words(known.fields + known.fields.map { "-" + $0 }) }
            }
            if [.text("FILE"), .text("DIR")].contains(option.value) { return .files }
            return kind(option.value).map { .names($0) } ?? .words([])
        }
        guard let command else {
            if before == ["help"] { return .words(table.topics.map(\.name) + nouns(of: table)) }
            if before.isEmpty {
                return .words(nouns(of: table) + ["help"])
            }
            return .words(family.filter { $0.words.count == 2 }.map { $0.words[1] })
        }
        let given = before.count - command.words.count
        // All that it takes is there, unless the last of it may be repeated.
        guard given < command.arguments.count || command.arguments.last?.isRepeated == true else { return .words([]) }
        let at = min(given, command.arguments.count - 1)
        guard at >= 0 else { return .words([]) }
        switch command.arguments[at].name {
        case "FILE": return .files
        case "SETTING" where command.path == "cell set":
            return .words(CellSettingsBody.shape.fields.map(\.name))
        case "VALUE" where command.path == "cell set":
            let setting = CellSettingsBody.shape.fields.first { $0.name == before.last }
            if case .choice(let words)? = setting?.kind { return .words(words) }
            return .words([])
        case "VM": return .names(.vms)
        case "HOST": return .names(.hosts)
        case "GROUP" where command.words[0] == "group": return .names(.groups)
        case "TENANT": return .names(.tenants)
        case "SPACE": return .names(.spaces)
        case "NODE": return .names(.nodes)
        case "CELL" where !command.path.hasSuffix("create"): return .names(.cells)
        case "REGION": return .names(.regions)
        case "IMAGE" where !command.path.hasSuffix("add"): return .names(.images)
        case "SETTING": return .names(.settings)
        case "NAME" where command.words[0] == "context" && !command.path.hasSuffix("set"): return .names(.contexts)
        case "ID" where command.words[0] == "token": return .names(.tokens)
        case "SHELL": return .words(Shell.allCases.map(\.rawValue))
        default: return .words([])
        }
    }

    /// What is asked for, so that a name is found among more than a page has: how it begins, and whose it is.
    package static func query(_ kind: Kind, _ words: [String]) -> [(name: String, value: String)] {
        var query: [(name: String, value: String)] = []
        let typed = String((words.last ?? "").dropFirst(stem(words).count))
        if [.vms, .hosts, .groups, .tenants].contains(kind), !typed.isEmpty,
            typed.utf8.allSatisfy({ $0 != UInt8(ascii: "'") && $0 != UInt8(ascii: "\\") })
        {
            query.append(("filter", "name~'\(typed)'"))
        }
        if kind == .vms || kind == .groups, let tenant = value(of: "tenant", in: words.dropLast()) {
            query.append(("tenant", tenant))
        }
        return query
    }

    /// The options typed so far that say which cluster is asked: the names offered are those of that one.
    package static func reach(_ words: [String]) -> [String] {
        ["context", "identity", "address", "token"].flatMap { name in
            value(of: name, in: words.dropLast()).map { ["--\(name)", $0] } ?? []
        }
    }

    /// What an option was given, as the next word or behind `=`.
    private static func value(of name: String, in words: ArraySlice<String>) -> String? {
        if let at = words.firstIndex(of: "--\(name)"), at + 1 < words.endIndex { return words[at + 1] }
        return words.first { $0.hasPrefix("--\(name)=") }.map { String($0.dropFirst(name.count + 3)) }
    }

    /// The words that are neither options nor their values.
    private static func spoken(_ words: [String], in table: CommandTable) -> [String] {
        let options = table.options + table.commands.filter { words.contains($0.words[0]) }.flatMap(\.options)
        var spoken: [String] = []
        var isValue = false
        for word in words {
            if isValue {
                isValue = false
            } else if word.hasPrefix("-") {
                let option = options.first { "--\($0.name)" == word || $0.letter.map { "-\($0)" } == word }
                isValue = option.map { $0.value != .none } ?? false
            } else {
                spoken.append(word)
            }
        }
        return spoken
    }

    /// What a listing can show and be sorted by.
    private static func list(of path: String?) -> (columns: [Column], fields: [String])? {
        let found: ([Column], FleetKind)? =
            switch path {
            case "vm list": (FleetColumns.vms, .vms)
            case "host list": (FleetColumns.hosts, .hosts)
            case "migration list": (FleetColumns.migrations, .migrations)
            case "group list": (FleetColumns.groups, .groups)
            case "tenant list", "quota list": (FleetColumns.tenants, .tenants)
            default: nil
            }
        return found.map { columns, kind in
            (columns, kind.fields.filter { $0.kind == .text || $0.kind == .number }.map(\.name))
        }
    }

    /// The words as the last ones of a list with commas.
    private static func listed(_ words: [String], _ typed: String) -> [String] {
        guard let comma = typed.lastIndex(of: ",") else { return words }
        return words.map { typed[...comma] + $0 }
    }

    private static func nouns(of table: CommandTable) -> [String] {
        var nouns: [String] = []
        for known in table.commands where !known.isHidden && !nouns.contains(known.words[0]) {
            nouns.append(known.words[0])
        }
        return nouns
    }

    private static func kind(_ value: OptionValue) -> Kind? {
        switch value {
        case .text("HOST"): .hosts
        case .text("NODE"): .nodes
        case .text("VM"): .vms
        case .text("TENANT"): .tenants
        case .text("GROUP"): .groups
        case .text("CELL"): .cells
        case .text("REGION"): .regions
        default: nil
        }
    }
}
