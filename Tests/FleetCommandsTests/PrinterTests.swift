import AdminAPI
import CommandSyntax
import Testing

@testable import FleetCommands

@Suite struct PrinterTests {
    private let rows: [JSONValue] = [
        .object([
            JSONMember("name", .string("web")), JSONMember("phase", .string("running")),
            JSONMember("cpu", .integer(1_500)), JSONMember("memory", .integer(4_096)),
            JSONMember("created", .integer(1)), JSONMember("place", .object([JSONMember("host", .string("h1"))])),
        ]),
        .object([JSONMember("name", .string("a\u{1B}[2J")), JSONMember("phase", .string("waiting"))]),
    ]
    private let columns = [
        Column("NAME", "name"), Column("PHASE", "phase"), Column("HOST", "place.host"), Column("CPU", "cpu", .cores),
        Column("MEMORY", "memory", .mebibytes), Column("AGE", "created", .age, isWide: true),
    ]

    @Test func `a table lines up, and its names move no cursor`() {
        #expect(
            Printer(.table).list(rows, columns) == """
                NAME        PHASE    HOST  CPU  MEMORY
                web         running  h1    1.5    4GiB
                a\\u{1b}[2J  waiting  -       -       -

                """)
    }

    @Test func `wide shows every column, and columns can be chosen`() {
        let wide = Printer(.wide, now: 121 + 1).list([rows[0]], columns)
        #expect(wide.contains("AGE") && wide.contains("2m"))
        #expect(Printer(.table, wanted: ["phase", "Name"]).list([rows[0]], columns) == "PHASE    NAME\nrunning  web\n")
        #expect(
            Printer(.table, wanted: ["colour"]).refusal(columns)
                == "There is no column 'colour'; choose from name, phase, host, cpu, memory, age.")
    }

    @Test func `a label can be a column of its own, whatever is in its name`() {
        let row = JSONValue.object([
            JSONMember("name", .string("web")),
            JSONMember(
                "spec",
                .object([
                    JSONMember("labels", .object([JSONMember("app.io/env", .string("prod"))]))
                ])),
        ])
        let columns = [Column("NAME", "name"), Column("LABELS", "spec.labels", isWide: true)]
        let printer = Printer(.table, wanted: ["name", "label.app.io/env", "label.none"])
        #expect(printer.refusal(columns) == nil)
        #expect(printer.list([row], columns) == "NAME  APP.IO/ENV  NONE\nweb   prod        -\n")
        #expect(
            Printer(.table, wanted: ["label."]).refusal(columns)
                == "There is no column 'label.'; choose from name, labels, label.KEY.")
        #expect(Printer(.table, wanted: ["label.app"]).refusal(self.columns) != nil, "these have none")
    }

    @Test func `names are one a line, and no rows are said to be none`() {
        #expect(Printer(.name).list([rows[0]], columns) == "web\n")
        #expect(Printer(.table).list([], columns) == "None.\n")
        #expect(Printer(.json).list([], columns) == "[]\n")
        #expect(Printer(.name).list([], columns) == "")
    }

    @Test func `what has no name is called by what it has`() {
        let printer = Printer(.name)
        #expect(
            printer.list([.object([JSONMember("key", .string("k")), JSONMember("version", .integer(1))])], []) == "k\n")
        func record(_ members: [(String, JSONValue)]) -> String {
            printer.record(.object(members.map { JSONMember($0.0, $0.1) }))
        }
        #expect(record([("vm", .string("web")), ("host", .string("n1"))]) == "web\n")
        #expect(record([("vm", .string("web")), ("revision", .string("7.0"))]) == "7.0\n")
        #expect(record([("digest", .string("8f")), ("steps", .array([]))]) == "8f\n")
        #expect(record([("id", .integer(7)), ("name", .string("a"))]) == "a\n" && record([]) == "-\n")
    }

    @Test func `colours appear only where they are wanted`() {
        #expect(!Printer(.table).list(rows, columns).contains("\u{1B}["))
        #expect(Printer(.table, isColoured: true).list([rows[0]], columns).contains("\u{1B}[32mrunning\u{1B}[0m"))
    }

    @Test func `yaml quotes what could be read as something else`() {
        let value = JSONValue.object([
            JSONMember("name", .string("web-1")), JSONMember("on", .string("yes")), JSONMember("empty", .string("")),
            JSONMember(
                "list", .array([.string("a"), .object([JSONMember("b", .integer(1)), JSONMember("c", .array([]))])])),
            JSONMember("map", .object([JSONMember("k", .string("x: y"))])), JSONMember("none", .object([])),
        ])
        #expect(
            Printer(.yaml).record(value) == """
                name: web-1
                "on": "yes"
                empty: ""
                list:
                  - a
                  - b: 1
                    c: []
                map:
                  k: "x: y"
                none: {}

                """)
    }

    @Test func `a record shows members down the side and lists below`() {
        let value = JSONValue.object([
            JSONMember("name", .string("web")),
            JSONMember(
                "rules", .array([.object([JSONMember("rule", .string("cpu")), JSONMember("hosts", .integer(3))])])),
        ])
        #expect(
            Printer(.table).record(value) == """
                name:   web
                rules:
                  - rule:   cpu
                    hosts:  3

                """)
    }

    @Test func `sizes and ages are short`() {
        #expect(Column.size(512) == "512MiB")
        #expect(Column.size(1_536) == "1.5GiB")
        #expect(Column.size(2 << 20) == "2TiB")
        #expect(Column.age(119) == "119s")
        #expect(Column.age(7_199) == "119m")
        #expect(Column.age(172_799) == "47h")
        #expect(Column.age(172_800) == "2d")
    }
}

@Suite struct RecordTimeTests {
    @Test func `a record shows times as dates and how far off they are, and JSON has the number`() throws {
        let record = try JSONParser.parse(
            Array(#"{"since":1700000000,"created":1700000100,"expires":1700000160,"queued":0,"version":7}"#.utf8)[...])
        let shown = Printer(.table, now: 1_700_000_040).record(record)
        #expect(
            shown == """
                since:    2023-11-14T22:13:20Z, 40s ago
                created:  2023-11-14T22:15:00Z, 0s ago
                expires:  2023-11-14T22:16:00Z, in 2m
                queued:   -
                version:  7

                """)
        #expect(Printer(.json).record(record).contains(#""since":1700000000"#))
        #expect(CalendarDate.text(unixSeconds: 951_782_400) == "2000-02-29T00:00:00Z")
    }
}

@Suite struct CompletionTests {
    private let table = CommandTable(
        program: "muster", about: "", options: [Option("output", .choice(["table", "json"]), letter: "o", help: "")],
        commands: FleetTable.commands)

    @Test func `words, verbs, options, choices and names are completed where they belong`() {
        guard case .words(let nouns) = Completion.wish([""], in: table) else { return #expect(Bool(false)) }
        #expect(
            nouns.contains("vm") && nouns.contains("host") && nouns.contains("help") && !nouns.contains("__complete"))
        guard case .words(let verbs) = Completion.wish(["vm", "cr"], in: table) else { return #expect(Bool(false)) }
        #expect(verbs.contains("create") && !verbs.contains("cordon"))
        #expect(Completion.wish(["vm", "show", ""], in: table) == .names(.vms))
        #expect(Completion.wish(["vm", "stop", "a", ""], in: table) == .names(.vms))
        #expect(Completion.wish(["vm", "migrate", "a", "--to", ""], in: table) == .names(.hosts))
        #expect(Completion.wish(["vm", "list", "-o", ""], in: table) == .words(["table", "json"]))
        #expect(Completion.wish(["image", "remove", ""], in: table) == .names(.images))
        #expect(Completion.wish(["image", "add", ""], in: table) == .words([]))
        #expect(Completion.wish(["context", "use", ""], in: table) == .names(.contexts))
        #expect(Completion.wish(["v", "sh", ""], in: table) == .names(.vms))
        #expect(Completion.wish(["context", "rm", ""], in: table) == .names(.contexts))
        #expect(Completion.wish(["vm", "create", "a", "b"], in: table) == .words([]))
        guard case .words(let columns) = Completion.wish(["vm", "list", "--columns", "name,h"], in: table),
            case .words(let fields) = Completion.wish(["hosts", "--sort", ""], in: table)
        else { return #expect(Bool(false)) }
        #expect(columns.contains("name,host") && !columns.contains("host"))
        #expect(fields.contains("vmCount") && fields.contains("-name") && !fields.contains("label"))
        #expect(Completion.wish(["completion", ""], in: table) == .words(["bash", "zsh", "fish"]))
        guard case .words(let options) = Completion.wish(["vm", "create", "--"], in: table) else {
            return #expect(Bool(false))
        }
        #expect(options.contains("--memory") && options.contains("--output"))
    }

    @Test func `a value behind = is completed with its option in front`() {
        #expect(
            Completion.wish(["vm", "list", "--output="], in: table) == .words(["--output=table", "--output=json"]))
        #expect(
            Completion.wish(["vm", "list", "--output=js"], in: table) == .words(["--output=table", "--output=json"]))
        let policies = Completion.wish(["vm", "create", "a", "--policy=pa"], in: table)
        guard case .words(let found) = policies else { return #expect(Bool(false)) }
        #expect(found.contains("--policy=pack") && found.allSatisfy { $0.hasPrefix("--policy=") })
        #expect(Completion.wish(["vm", "migrate", "a", "--to=h"], in: table) == .names(.hosts))
        #expect(Completion.stem(["vm", "migrate", "a", "--to=h"]) == "--to=")
        #expect(Completion.stem(["vm", "--to=h", "a"]).isEmpty && Completion.stem(["vm", "--label", "a=b"]).isEmpty)
        let names = Completion.query(.hosts, ["vm", "migrate", "a", "--to=h"])
        #expect(names.map { "\($0.name)=\($0.value)" } == ["filter=name~'h'"])
        guard case .words(let columns) = Completion.wish(["vm", "list", "--columns=name,h"], in: table),
            case .words(let fields) = Completion.wish(["host", "list", "--sort=-vm"], in: table),
            case .words(let turned) = Completion.wish(["host", "list", "--sort", "-vm"], in: table)
        else { return #expect(Bool(false)) }
        #expect(columns.contains("--columns=name,host"))
        #expect(fields.contains("--sort=-vmCount") && turned.contains("-vmCount"))
        // One that takes none, or is not known.
        #expect(Completion.wish(["vm", "create", "a", "--wait=y"], in: table) == .words([]))
        #expect(Completion.wish(["vm", "create", "a", "--nothing=y"], in: table) == .words([]))
    }

    @Test func `options before the words and between them take no word's place`() {
        #expect(Completion.wish(["-o", "json", "vm", "show", ""], in: table) == .names(.vms))
        #expect(Completion.wish(["vm", "--output=json", "show", ""], in: table) == .names(.vms))
        #expect(Completion.wish(["--output", "json", "vm", "-o", "table", "stop", ""], in: table) == .names(.vms))
        guard case .words(let verbs) = Completion.wish(["-o", "json", "vm", ""], in: table) else {
            return #expect(Bool(false))
        }
        #expect(verbs.contains("create"))
    }

    @Test func `names are those of the cluster that the line asks`() {
        #expect(Completion.reach(["vm", "show", ""]) == [])
        #expect(Completion.reach(["--context", "prod", "vm", "delete", ""]) == ["--context", "prod"])
        #expect(
            Completion.reach(["vm", "delete", "--address=h:1", "--identity", "/id", ""])
                == ["--identity", "/id", "--address", "h:1"])
        #expect(Completion.reach(["--context", "pr"]) == [], "it is still typed")
    }

    @Test func `files are offered where a file is wanted, and nothing behind all that a command takes`() {
        #expect(Completion.wish(["vm", "create", "a", "--file", ""], in: table) == .files)
        #expect(Completion.wish(["image", "add", "debian", "x"], in: table) == .files)
        #expect(Completion.wish(["image", "add", "debian", "x.img", ""], in: table) == .words([]))
        #expect(Completion.wish(["group", "show", "web", ""], in: table) == .words([]))
        #expect(Completion.wish(["vm", "stop", "a", "b", ""], in: table) == .names(.vms))
        #expect(Completion.wish(["vm", "list", "--filter", ""], in: table) == .words([]))
    }

    @Test func `a cell's settings are completed with what they are called, and with their words`() {
        guard case .words(let settings) = Completion.wish(["cell", "set", ""], in: table) else {
            return #expect(Bool(false))
        }
        #expect(settings.contains("migrationsPerHostMax") && !settings.contains("root-voters"))
        #expect(
            Completion.wish(["cell", "set", "rebalance", ""], in: table) == .words(["off", "advice", "auto"]))
        #expect(Completion.wish(["cell", "set", "leaseMillis", ""], in: table) == .words([]))
    }

    @Test func `zsh hands over the empty word that a name is to stand in`() {
        #expect(Completion.script(.zsh, program: "muster").contains(#""${(@)words[2,CURRENT]}""#))
    }

    @Test func `names are asked for by how they begin, so that they are found among many`() {
        func query(_ kind: Completion.Kind, _ words: String...) -> [String] {
            Completion.query(kind, words).map { "\($0.name)=\($0.value)" }
        }
        #expect(query(.vms, "vm", "show", "web-1") == ["filter=name~'web-1'"])
        #expect(query(.vms, "vm", "show", "--tenant", "shop", "we") == ["filter=name~'we'", "tenant=shop"])
        #expect(query(.hosts, "host", "show", "").isEmpty && query(.spaces, "space", "show", "a").isEmpty)
        #expect(query(.vms, "vm", "show", "it's").isEmpty, "no name begins so")
    }

    @Test func `every shell has a script that asks the program`() {
        for shell in Completion.Shell.allCases {
            #expect(Completion.script(shell, program: "muster").contains("muster __complete"))
            // Where the program wants a file, the shell offers its own.
            let files = [Completion.Shell.bash: "compopt -o default", .zsh: "_files", .fish: "__fish_complete_path"]
            #expect(Completion.script(shell, program: "muster").contains(files[shell] ?? "?"))
        }
    }
}

@Suite struct ContextsTests {
    @Test func `contexts survive their file, and the first one is used`() {
        var contexts = Contexts()
        contexts.set("lab", folder: "/lab", addresses: [])
        contexts.set("home", folder: "/my home", addresses: ["a:1", "b:2"])
        #expect(contexts.used?.name == "lab")
        let useHome = contexts.use("home")
        #expect(useHome && !contexts.use("nowhere"))
        #expect(Contexts(text: contexts.text) == contexts)
        #expect(Contexts(text: contexts.text).used?.addresses == ["a:1", "b:2"])
        let printer = Printer(.json)
        #expect(printer.list(contexts.rows, FleetColumns.contexts).contains("{\"name\":\"home\",\"isUsed\":true"))
        #expect(Printer(.table).list(Contexts().rows, FleetColumns.contexts) == "None.\n")
        let isGone = contexts.remove("home")
        #expect(isGone && contexts.used == nil)
        #expect(Contexts(text: "nonsense\n\n").entries.isEmpty)
    }

    @Test func `a watched list is written when something is another one, and its ages are of now`() throws {
        let row = JSONValue.object([
            JSONMember("name", .string("a")), JSONMember("phase", .string("running")),
            JSONMember("created", .integer(100)),
        ])
        let columns = FleetColumns.vms.filter { ["NAME", "PHASE", "AGE"].contains($0.title) }
        var plain = WatchedList(Printer(.table, now: 110), columns, isTerminal: false)
        #expect(plain.text([row], now: 110)?.contains("10s") == true)
        #expect(plain.text([row], now: 125) == nil, "an age alone is nothing new")
        let two = plain.text([row, row], now: 130)
        #expect(two?.contains("30s") == true && two?.contains("10s") == false, "\(two ?? "")")
        var terminal = WatchedList(Printer(.table, now: 110), columns, isTerminal: true)
        #expect(terminal.text([row], now: 110)?.hasPrefix("\u{1B}[H") == true)
        #expect(terminal.text([row], now: 125)?.contains("25s") == true)
    }

    @Test func `an explanation says first where a VM is and what would help, and then what speaks against each host`()
        throws
    {
        var found = ExplainInfo(
            vm: "web-4", standing: "waiting", host: "", before: 2, index: 21, hosts: 3, candidates: 0, excluded: [],
            rules: [RuleVerdict(rule: "group web", excluded: 3, excludedAlone: 3)], best: [], asked: [], policy: "pack",
            tieBreak: "the lowest host id", tied: 0, nearest: "fits on n1 if group web allowed 2 per zone", invalid: "")
        let waiting = ExplainText.text(found, Printer(.table))
        #expect(waiting.hasPrefix("web-4 waits for a place, behind 2 others.\nWhat would let it in: fits on n1 if"))
        #expect(waiting.contains("RULE       EXCLUDES  ALONE\ngroup web         3      3\n"), "\(waiting)")
        #expect(waiting.contains("0 of 3 hosts can take it.\n") && !waiting.contains("invalid"))
        (found.standing, found.host, found.nearest, found.candidates, found.tied) = ("placed", "n2", "", 3, 2)
        let placed = ExplainText.text(found, Printer(.table))
        #expect(placed.hasPrefix("web-4 is on n2.\n\n"))
        #expect(
            placed.contains(
                "3 of 3 hosts can take it, judged by pack; 2 of them are equally good, and what decides is the lowest"))
    }
}
