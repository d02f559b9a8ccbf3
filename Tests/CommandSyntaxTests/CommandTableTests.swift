import ClusterBase
import CommandSyntax
import Testing

@Suite struct CommandTableTests {
    static let table = CommandTable(
        program: "muster", about: "turns hosts into one VM fleet.",
        options: [
            Option("output", .choice(["table", "json"]), letter: "o", help: "how to print"),
            Option("address", .text("HOST:PORT"), variable: "MUSTER_ADDRESS", help: "the node to ask"),
        ],
        commands: [
            Command("status", summary: "shows the cluster"),
            Command(
                "token create", summary: "makes a join token",
                options: [
                    Option("expires", .duration(.seconds(60)...(.seconds(86_400))), help: "how long it can be used"),
                    Option("uses", .integer(1...100), help: "how often"),
                    Option("quiet", help: "prints the token alone"),
                    Option("label", .text("K=V"), isRepeated: true, help: "what the node gets"),
                ],
                examples: [.init("muster token create --expires 3h", "A token for this afternoon.")]),
            Command("token list", summary: "lists tokens"),
            Command("token revoke", summary: "ends a token", arguments: [Argument("ID", help: "from `token list`")]),
            Command(
                "kv put", summary: "writes a key",
                arguments: [
                    Argument("KEY", help: "the key"), Argument("VALUE", isOptional: true, help: "or standard input"),
                ]),
            Command("bench", summary: "measures", arguments: [Argument("NAME", isRepeated: true, help: "what")]),
            Command(
                "simulate", summary: "runs seeds",
                options: [
                    Option("seeds", .range(0...100), isRequired: true, help: "which"),
                    Option("size", .size(1...(1 << 30)), help: "how large"),
                ]),
            Command("secret thing", summary: "not for everybody", isHidden: true),
        ])

    static func run(_ line: String, _ variables: [String: String] = [:]) -> Invocation? {
        guard
            case .run(let made) = table.parse(line.split(separator: " ").map(String.init), variable: { variables[$0] })
        else { return nil }
        return made
    }

    static func refusal(_ line: String, _ variables: [String: String] = [:]) -> String? {
        guard
            case .refused(let text) = table.parse(
                line.split(separator: " ").map(String.init), variable: { variables[$0] })
        else { return nil }
        return text
    }

    @Test func `options and arguments may stand in any order, with a space or an equals sign`() throws {
        for line in [
            "-o json token create --expires 3h --uses=5 --label a=b --label c=d --quiet",
            "token create --quiet --uses 5 --label=a=b --output=json --label c=d --expires=3h",
        ] {
            let made = try #require(Self.run(line), "\(line)")
            #expect(made.path == "token create")
            #expect(made.duration("expires") == .seconds(10_800))
            #expect(made.integer("uses") == 5)
            #expect(made.has("quiet") && made.text("output") == "json" && made.text("address") == nil)
            #expect(made.texts("label") == ["a=b", "c=d"])
        }
        #expect(Self.run("kv put a b --output table")?.arguments == ["a", "b"])
        #expect(Self.run("kv put a")?.argument("VALUE") == nil)
        #expect(Self.run("kv put -- --a -b")?.arguments == ["--a", "-b"])
        #expect(Self.run("kv put a -7")?.argument("VALUE") == "-7")
        #expect(Self.run("kv put a -")?.argument("VALUE") == "-")
        #expect(Self.run("bench a b c")?.arguments == ["a", "b", "c"])
        #expect(Self.run("simulate --seeds 3..7 --size 64MiB")?.range("seeds") == 3...7)
        #expect(Self.run("simulate --seeds 3")?.range("seeds") == 3...3)
        #expect(Self.run("simulate --seeds 3 --size 1GiB")?.size("size") == 1 << 30)
        #expect(Self.run("secret thing") != nil)
    }

    @Test func `a flag can be taken back, and the last one counts`() {
        #expect(Self.run("token create --quiet --no-quiet")?.has("quiet") == false)
        #expect(Self.run("token create --no-quiet --quiet")?.has("quiet") == true)
        #expect(Self.run("token create")?.has("quiet") == false)
    }

    @Test func `a variable stands in for an option that is not given`() {
        let variables = ["MUSTER_ADDRESS": "a:1"]
        #expect(Self.run("status", variables)?.text("address") == "a:1")
        #expect(Self.run("status --address b:2", variables)?.text("address") == "b:2")
        #expect(Self.run("status", ["MUSTER_ADDRESS": ""])?.text("address") == nil)
    }

    @Test func `a variable of an option that may be repeated has several values`() {
        let table = CommandTable(
            program: "p", about: "",
            options: [Option("at", .text("X"), isRepeated: true, variable: "AT", help: "where")],
            commands: [Command("go", summary: "go")])
        func found(_ text: String) -> [String]? {
            guard case .run(let invocation) = table.parse(["go"], variable: { $0 == "AT" ? text : nil }) else {
                return nil
            }
            return invocation.texts("at")
        }
        #expect(found("a:1") == ["a:1"])
        #expect(found("a:1,b:2, c:3") == ["a:1", "b:2", "c:3"])
        #expect(found(",") == [])
    }

    @Test(arguments: [
        ("statsu", "There is no command 'statsu'; did you mean 'status'?; `muster help` lists them."),
        ("frobnicate", "There is no command 'frobnicate'; `muster help` lists them."),
        ("token", "Say what to do: `muster token` knows create, list, revoke."),
        ("token crate", "`muster token` can't 'crate'; did you mean 'create'?; it knows create, list, revoke."),
        (
            "token create --user 3",
            "'--user' is no option here; did you mean '--uses'?; see `muster token create --help`."
        ),
        ("token create --uses", "--uses wants a value; see `muster token create --help`."),
        ("token create --uses --quiet", "--uses wants a value; see `muster token create --help`."),
        ("token create --uses 0", "--uses wants a number from 1 to 100, not '0'; see `muster token create --help`."),
        ("token create --uses 5 --uses 6", "--uses is there twice; see `muster token create --help`."),
        ("token create --quiet=yes", "--quiet wants no value; see `muster token create --help`."),
        ("token create x", "'x' is one word too many; see `muster token create --help`."),
        (
            "token create --expires 3",
            "--expires wants a time with its unit, such as 90s or 3h, not '3'; see `muster token create --help`."
        ),
        (
            "token create --expires 2d",
            "--expires wants a time from 1m to 1d, not 2d; see `muster token create --help`."
        ),
        ("token revoke", "ID is missing (from `token list`); see `muster token revoke --help`."),
        ("simulate", "--seeds A..B is missing (which); see `muster simulate --help`."),
        (
            "simulate --seeds 7..3",
            "--seeds wants a number or a range such as 3..7 from 0 to 100, not '7..3'; see `muster simulate --help`."
        ),
        (
            "simulate --seeds 3 --size 2GiB",
            "--size wants a size from 1B to 1GiB, not 2GiB; see `muster simulate --help`."
        ),
        ("-o jsn status", "-o wants table or json, not 'jsn'; did you mean 'json'?"),
        ("help tokn", "There is no command 'tokn'; did you mean 'token'?; `muster help` lists them."),
    ])
    func `a line that makes no sense is refused with what to do`(line: String, sentence: String) {
        #expect(Self.refusal(line) == sentence)
    }

    @Test func `help is found wherever it is asked for, also on a line that is wrong`() {
        func help(_ line: String) -> String? {
            guard case .help(let text) = Self.table.parse(line.split(separator: " ").map(String.init)) else {
                return nil
            }
            return text
        }
        let one = help("token create --help")
        #expect(
            one?.hasPrefix("muster token create: makes a join token\n\nusage: muster token create [options]\n") == true)
        #expect(help("help token create") == one && help("token create -h") == one)
        #expect(help("token create --help --nonsense") == one)
        #expect(help("--help token create") == one)
        #expect(help("token --help") == help("help token"))
        #expect(help("token --help")?.contains("token revoke") == true)
        #expect(help("") == help("help") && help("") == help("--help") && help("-h") == help(""))
        let all = help("") ?? ""
        for command in Self.table.commands { #expect(all.contains(command.summary) == !command.isHidden) }
        #expect(one?.contains("--expires TIME") == true && one?.contains("(or MUSTER_ADDRESS)") == true)
        #expect(one?.contains("  muster token create --expires 3h\n      A token for this afternoon.\n") == true)
        #expect(all.split(separator: "\n").allSatisfy { $0.count <= 100 })
    }

    @Test(
        arguments: [
            ("tok l", "token list"), ("t ls", "token list"), ("tokens", "token list"),
            ("tokens create", "token create"),
            ("token cr --uses 3", "token create"), ("k p a b", "kv put"), ("-o json tok ls", "token list"),
            ("stat", nil), ("token r 7", nil), ("token rev 7", nil), ("tokens 7", nil), ("s thing", nil),
            ("secr thing", nil),
        ] as [(String, String?)])
    func `a noun and a verb are known by their beginnings, but not what ends something`(line: String, path: String?) {
        #expect(Self.run(line)?.path == path)
    }

    @Test func `a beginning that several words have is refused with all of them`() {
        let table = CommandTable(
            program: "muster", about: "",
            commands: ["vm show", "vm start", "vm stop", "vm delete", "vm list", "space list", "status"].map {
                Command($0, summary: "", arguments: [Argument("X", isOptional: true, help: "")])
            })
        func said(_ line: String) -> String {
            switch table.parse(line.split(separator: " ").map(String.init)) {
            case .run(let made): made.path
            case .help: "help"
            case .refused(let text): text
            }
        }
        #expect(said("vm s x") == "'s' may mean 'show', 'start' or 'stop'; write more of it.")
        #expect(said("vm st x") == "'st' may mean 'start' or 'stop'; write more of it.")
        #expect(said("s l") == "'s' may mean 'space' or 'status'; write more of it.")
        #expect(said("v sho x") == "vm show")
        #expect(said("vm rm x") == "vm delete")
        #expect(said("vm d x") == "`muster vm` can't 'd'; it knows show, start, stop, delete, list.")
        #expect(said("vms --help") == "help" && said("help v sh") == "help")
        #expect(table.spelledOut(["v", "sto", "a"]) == ["vm", "stop", "a"])
        #expect(table.spelledOut(["vm", "s", "a"]) == ["vm", "s", "a"] && table.spelledOut([]).isEmpty)
    }

    @Test func `no line ends the process`() {
        var random = PRNG(seed: 7)
        let words = [
            "token", "create", "status", "--uses", "--", "-", "-o", "json", "--seeds", "3..", "..", "=", "--=", "-h",
            "kv",
            "put", "", "--no-", "--no-quiet", "--uses=", "-1", "help", "é", "simulate",
        ]
        for _ in 0..<3_000 {
            let line = (0..<random.below(6)).map { _ in words[random.below(words.count)] }
            switch Self.table.parse(line) {
            case .run(let made): #expect(!made.command.words.isEmpty)
            case .help(let text), .refused(let text): #expect(!text.isEmpty)
            }
        }
    }
}
