import AgentConfig
import ClusterBase
import CommandSyntax
import Testing

@Suite struct SettingsTests {
    static func load(
        _ text: String = "", variables: [(name: String, text: String)] = [],
        flags: [(key: String, text: String)] = []
    ) throws -> LoadedSettings {
        try AgentSettings.load(
            file: ("muster.toml", text), variables: variables, otherVariables: ["MUSTER_ADDRESS", "MUSTER_CONFIG"],
            flags: flags, hostName: "host-1")
    }

    static func problems(_ text: String) -> [String] {
        do {
            _ = try load(text)
            return []
        } catch let failure as SettingsFailure {
            return failure.problems
        } catch {
            return ["\(error)"]
        }
    }

    @Test func `a file with everything in it is read`() throws {
        let loaded = try Self.load(
            """
            # A comment, and a blank line.

            [node]
            name = "n1"   # behind a value
            data = '/var/lib/mu"ster'
            region = "eu"
            zone="eu-1"
            labels = [
                "disk=ssd",  # one
                "gpu/kind=A100",
            ]
            [peer]
            listen = "[::]:7471"
            advertise = "10.0.0.1:7471"
            bulk-rate = "64MiB"\r
            [admin]
            open-metrics = true
            drain-time = "1m30s"
            [log]
            level = "debug"
            format = "json"
            [storage]
            flush-entries = 20_000
            """)
        let settings = loaded.settings
        #expect(settings.nodeName == "n1" && settings.dataDirectory == "/var/lib/mu\"ster")
        #expect(settings.labels.map(\.description) == ["disk=ssd", "gpu/kind=A100"])
        #expect(settings.peerListen == Endpoint("[::]:7471") && settings.peerAdvertise == Endpoint("10.0.0.1:7471"))
        #expect(settings.bulkBytesPerSecond == 64 << 20 && settings.metricsAreOpen)
        #expect(settings.drainTime == .seconds(90) && settings.flushEntries == 20_000)
        #expect(settings.logLevel == .debug && settings.logFormat == .json)
        #expect(settings.region == "eu" && settings.zone == "eu-1" && settings.rack == "")
        #expect(loaded.warnings.isEmpty)
        let first = loaded.listing.table().split(separator: "\n").prefix(3)
        #expect(first.last?.contains("node.data") == true && first.last?.hasSuffix("line 5") == true)
    }

    @Test func `a byte order mark before a file is no part of it`() throws {
        let marked = try AgentSettings.load(file: ("f", "\u{FEFF}[node]\nname = \"a\"\n"))
        #expect(marked.settings.nodeName == "a")
        #expect(throws: SettingsFailure.self) {
            try AgentSettings.load(file: ("f", "[node]\n\u{FEFF}name = \"a\"\n"))
        }
    }

    @Test func `flags win over variables, variables over the file, the file over the defaults`() throws {
        let text = "[log]\nlevel = \"error\"\n[node]\nname = \"f\"\nzone = \"f\"\nrack = \"f\"\n"
        let loaded = try Self.load(
            text, variables: [("MUSTER_NODE_ZONE", "v"), ("MUSTER_NODE_RACK", "v"), ("HOME", "x")],
            flags: [("node.rack", "g")])
        #expect(loaded.settings.logLevel == .error && loaded.settings.nodeName == "f")
        #expect(loaded.settings.zone == "v" && loaded.settings.rack == "g")
        func origin(_ key: String) -> SettingOrigin {
            loaded.origins[AgentSettings.table.firstIndex { $0.key == key }!]
        }
        #expect(origin("log.level") == .file(line: 2) && origin("node.zone") == .variable("MUSTER_NODE_ZONE"))
        #expect(origin("node.rack") == .flag("node-rack") && origin("peer.listen") == .standard)
        #expect(try Self.load().settings.nodeName == "host-1")
    }

    @Test func `lists and booleans can be given as variables`() throws {
        let loaded = try Self.load(
            variables: [
                ("MUSTER_NODE_LABELS", "a=1,b="), ("MUSTER_ADMIN_OPEN_METRICS", "yes"),
                ("MUSTER_STORAGE_FLUSH_ENTRIES", "500"),
            ])
        #expect(loaded.settings.labels.map(\.description) == ["a=1", "b="])
        #expect(loaded.settings.metricsAreOpen && loaded.settings.flushEntries == 500)
    }

    static let golden: [(String, [String])] = [
        ("[peer]\nlistne = \"a:1\"", ["muster.toml:2: peer.listne is no setting; did you mean 'peer.listen'?"]),
        ("\n[pear]\nlisten = 1\n", ["muster.toml:2: [pear] is no section; did you mean 'peer'?"]),
        (
            "[node]\nlisten = \"a:1\"",
            ["muster.toml:2: node.listen is no setting; did you mean 'peer.listen' or 'admin.listen'?"]
        ),
        ("level = \"info\"", ["muster.toml:1: level is no setting; did you mean 'log.level'?"]),
        (
            "[log]\nlevel = \"inof\"",
            ["muster.toml:2: log.level wants error or warning or info or debug, not 'inof'; did you mean 'info'?"]
        ),
        (
            "[log]\nlevel = info",
            ["muster.toml:2: log.level: 'info' is no number, and a text needs quotation marks around it."]
        ),
        ("[log]\nlevel = 3", ["muster.toml:2: log.level wants a text in quotation marks, not 3."]),
        ("[log]\nlevel", ["muster.toml:2: the setting 'level' has no value; write `level = value`."]),
        ("[log]\nlevel =\n", ["muster.toml:2: log.level has no value after the =."]),
        (
            "[log]\nlevel = \"info\" oops",
            ["muster.toml:2: 'oops' is left over at the end of the line; texts need quotation marks around them."]
        ),
        (
            "[log]\nlevel = \"info",
            ["muster.toml:2: log.level: the text does not end; its closing quotation mark must be in the same line."]
        ),
        (
            "[log]\nlevel = \"\"\"info\"\"\"",
            ["muster.toml:2: log.level: texts over several lines are not part of this format."]
        ),
        (
            "[log]\nlevel = \"in\\fo\"",
            [
                "muster.toml:2: log.level: after a backslash only \\\\ \\\" \\n and \\t are known; 'texts' take it as it is."
            ]
        ),
        (
            "[log]\nlevel = \"info\"\nlevel = \"debug\"",
            ["muster.toml:3: log.level was set in line 2 already; remove one of them."]
        ),
        ("[log]\n[node]\n[log]", ["muster.toml:3: the section [log] was begun in line 1 already; put both into one."]),
        (
            "[log\nlevel = 1",
            [
                "muster.toml:1: a section is written as [name], with lower-case letters and dashes.",
                "muster.toml:2: level is no setting; did you mean 'log.level'?",
            ]
        ),
        ("[[log]]", ["muster.toml:1: a section is written as [name], with lower-case letters and dashes."]),
        ("= 3", ["muster.toml:1: '=' begins no setting; write `name = value`."]),
        (
            "[node]\nlabels = { a = 1 }",
            ["muster.toml:2: node.labels: tables in braces are not part of this format; use a [section]."]
        ),
        ("[node]\nlabels = \"a=1\"", ["muster.toml:2: node.labels wants a list such as [\"rack=7\"], not 'a=1'."]),
        (
            "[node]\nlabels = [\n\"a=1\"\n\"b=2\"]",
            ["muster.toml:4: node.labels: there is no comma between two parts of the list."]
        ),
        (
            "[node]\nlabels = [1]",
            ["muster.toml:2: node.labels: '1]' is no text in quotation marks; lists are made of those."]
        ),
        (
            "[node]\nlabels = [\"a=1\",\n",
            ["muster.toml:3: node.labels: the list does not end; write ] after its last part."]
        ),
        (
            "[node]\nlabels = [\"A=1\"]",
            ["muster.toml:2: node.labels wants labels such as \"disk=ssd\" in lower-case letters, not 'A=1'."]
        ),
        ("[node]\nlabels = [\"a=1\", \"a=2\"]", ["muster.toml:2: node.labels has the label a twice."]),
        (
            "[node]\nname = \"Büro\"",
            [
                "muster.toml:2: node.name wants 1 to 63 lower-case letters, digits, dashes and dots, a letter or a digit at both ends, not 'Büro'."
            ]
        ),
        (
            "[node]\ndata = \"var\"",
            ["muster.toml:2: node.data wants an absolute path of at most 1024 bytes, not 'var'."]
        ),
        (
            "[peer]\nlisten = \"7471\"",
            ["muster.toml:2: peer.listen wants HOST:PORT, such as 10.0.0.1:7471 or [fd00::1]:7471, not '7471'."]
        ),
        ("[peer]\nbulk-rate = \"1KiB\"", ["muster.toml:2: peer.bulk-rate wants a size from 1MiB to 128GiB, not 1KiB."]),
        (
            "[peer]\nbulk-rate = \"fast\"",
            ["muster.toml:2: peer.bulk-rate wants a size with its unit, such as 64MiB, not 'fast'."]
        ),
        ("[admin]\ndrain-time = 5", ["muster.toml:2: admin.drain-time wants a text in quotation marks, not 5."]),
        (
            "[admin]\ndrain-time = \"5\"",
            ["muster.toml:2: admin.drain-time wants a time with its unit, such as 90s or 3h, not '5'."]
        ),
        ("[admin]\ndrain-time = \"6m\"", ["muster.toml:2: admin.drain-time wants a time from 0s to 5m, not 6m."]),
        ("[admin]\nopen-metrics = \"yes\"", ["muster.toml:2: admin.open-metrics wants true or false, not 'yes'."]),
        (
            "[storage]\nflush-entries = 5",
            ["muster.toml:2: storage.flush-entries wants a number from 100 to 10000000, not 5."]
        ),
        ("[hypervisor]\ndriver = \"xen\"", ["muster.toml:2: hypervisor.driver wants simulated or qemu, not 'xen'."]),
        (
            "[liveness]\nbeat-interval = \"50ms\"",
            ["liveness.suspicion-floor must be at least three times liveness.beat-interval, which is 50ms."]
        ),
        (
            "[liveness]\nsuspicion-floor = \"40ms\"",
            [
                "muster.toml:2: liveness.suspicion-floor must be at least three times liveness.beat-interval, which is 25ms."
            ]
        ),
        (
            "[liveness]\nsuspicion-floor = \"5s\"",
            ["liveness.suspicion-max must not be below liveness.suspicion-floor, which is 5s."]
        ),
        (
            "[peer]\nlisten = \"0.0.0.0:7470\"",
            ["admin.listen is the same as peer.listen; each needs a port of its own."]
        ),
        (
            "[peer]\nadvertise = \"0.0.0.0:7471\"",
            ["muster.toml:2: peer.advertise names no address that another host can reach; give one of this host's."]
        ),
        (
            "[admin]\nadvertise = \"[::]:1\"",
            ["muster.toml:2: admin.advertise names no address that another host can reach; give one of this host's."]
        ),
        (
            "[log]\nlevel = 1\n[peer]\nlisten = \"x\"\nfoo = 1\n\n[node]\nname = \"a b\"",
            [
                "muster.toml:2: log.level wants a text in quotation marks, not 1.",
                "muster.toml:4: peer.listen wants HOST:PORT, such as 10.0.0.1:7471 or [fd00::1]:7471, not 'x'.",
                "muster.toml:5: peer.foo is no setting.",
                "muster.toml:8: node.name wants 1 to 63 lower-case letters, digits, dashes and dots, a letter or a digit at both ends, not 'a b'.",
            ]
        ),
    ]

    @Test(arguments: golden)
    func `a mistake is named with its line and its key`(text: String, expected: [String]) {
        #expect(Self.problems(text) == expected)
    }

    @Test func `mistakes in variables and flags are named by theirs`() {
        func problems(_ variables: [(name: String, text: String)], _ flags: [(key: String, text: String)]) -> [String] {
            do {
                _ = try Self.load(variables: variables, flags: flags)
                return []
            } catch { return (error as? SettingsFailure)?.problems ?? [] }
        }
        #expect(
            problems([("MUSTER_LOG_LEVEL", "loud")], [])
                == ["The variable MUSTER_LOG_LEVEL wants error or warning or info or debug, not 'loud'."])
        #expect(
            problems([], [("storage.flush-entries", "many")])
                == ["--storage-flush-entries wants a number from 100 to 10000000, not 'many'."])
        #expect(
            problems([("MUSTER_PEER_ADVERTISE", "a:0")], [])
                == [
                    "The variable MUSTER_PEER_ADVERTISE names no address that another host can reach; give one of this host's."
                ])
    }

    @Test func `an unknown variable warns and stops nobody`() throws {
        let loaded = try Self.load(
            variables: [("MUSTER_SERVICE_HOST", "10.1.1.1"), ("MUSTER_LOG_LEVLE", "debug"), ("MUSTER_ADDRESS", "a:1")])
        #expect(
            loaded.warnings == [
                "The variable MUSTER_LOG_LEVLE means nothing here; did you mean 'MUSTER_LOG_LEVEL'?",
                "The variable MUSTER_SERVICE_HOST means nothing here.",
            ])
    }

    @Test func `a host whose name can't be a node's must name the node`() {
        let failure = #expect(throws: SettingsFailure.self) { try AgentSettings.load(hostName: "Ann's PC") }
        #expect(failure?.problems.first?.contains("set node.name") == true)
        #expect(throws: SettingsFailure.self) { try AgentSettings.load() }
    }

    @Test func `a node's name that the root would refuse is refused with its line`() {
        for name in ["a_b", "a-", "a.", "-a", "A", ""] {
            let failure = #expect(throws: SettingsFailure.self) {
                try AgentSettings.load(file: ("muster.toml", "[node]\nname = \"\(name)\"\n"), hostName: "h")
            }
            #expect(failure?.problems.count == 1)
            #expect(failure?.problems.first?.hasPrefix("muster.toml:2: node.name wants 1 to 63") == true, "\(name)")
        }
        // Zones and labels may have one.
        #expect(throws: Never.self) {
            try AgentSettings.load(file: ("x", "[node]\nname = \"a\"\nzone = \"z_1\"\n"))
        }
    }

    @Test func `where a setting was made begins the sentence about it`() throws {
        let loaded = try AgentSettings.load(
            file: ("muster.toml", "[node]\nname = \"a\"\n[peer]\nlisten = \"0.0.0.0:7471\"\n"),
            variables: [("MUSTER_LOG_LEVEL", "debug")], flags: [("node.zone", "z")])
        #expect(loaded.place(of: "peer.listen") == "muster.toml:4: peer.listen")
        #expect(loaded.place(of: "log.level") == "The variable MUSTER_LOG_LEVEL")
        #expect(loaded.place(of: "node.zone") == "--node-zone")
        #expect(loaded.place(of: "admin.listen") == "admin.listen")
    }

    @Test func `the example file says the defaults, commented out or not`() throws {
        let example = AgentSettings.exampleFile
        #expect(try Self.load(example).settings == Self.load().settings)
        let live = example.split(separator: "\n").map { line in
            line.hasPrefix("# ") && line.contains(" = ") && !line.contains(": ")
                ? String(line.dropFirst(2)) : String(line)
        }
        let loaded = try AgentSettings.load(
            file: ("x", live.joined(separator: "\n").replacing("name = \"\"", with: "name = \"host-1\"")))
        #expect(loaded.settings == (try Self.load().settings))
        #expect(loaded.origins.allSatisfy { $0 != .standard })
    }

    @Test func `every setting has a key, a flag, a variable and a help of its own`() throws {
        let table = AgentSettings.table
        for texts in [table.map(\.key), table.map(\.flag), table.map(\.variable)] {
            #expect(texts.sorted() == texts.sorted().reduce(into: []) { if $0.last != $1 { $0.append($1) } })
        }
        #expect(table.allSatisfy { !$0.help.isEmpty && !$0.help.hasSuffix(".") && $0.key.contains(".") })
        #expect(AgentSettings.documentation.split(separator: "\n").count == table.count + 2)
        // Sections follow each other without being torn apart.
        let sections = table.map(\.section).reduce(into: [String]()) { if $0.last != $1 { $0.append($1) } }
        #expect(sections.sorted() == sections.sorted().reduce(into: []) { if $0.last != $1 { $0.append($1) } })
    }

    @Test func `flags of a command line reach the settings`() throws {
        let program = CommandTable(
            program: "muster", about: "x", commands: [Command("agent", summary: "x", options: AgentSettings.options)])
        let line = [
            "agent", "--node-labels", "a=1", "--node-labels", "b=2", "--admin-open-metrics", "--log-level=debug",
            "--storage-low-space", "2GiB", "--liveness-suspicion-max", "3s",
        ]
        guard case .run(let invocation) = program.parse(line) else {
            Issue.record("\(program.parse(line))")
            return
        }
        let settings = try Self.load(flags: AgentSettings.flags(of: invocation)).settings
        #expect(settings.labels.map(\.description) == ["a=1", "b=2"] && settings.metricsAreOpen)
        #expect(settings.logLevel == .debug && settings.lowSpaceBytes == 2 << 30)
        #expect(settings.suspicionMax == .seconds(3))
        guard case .refused(let text) = program.parse(["agent", "--liveness-beat-interval", "1ms"]) else {
            Issue.record("a beat of 1 ms was taken")
            return
        }
        #expect(text.hasPrefix("--liveness-beat-interval wants a time from 5ms to 1s, not 1ms"))
    }

    @Test func `bounds of a file are kept and no text ends the process`() {
        #expect(Self.problems(String(repeating: "#", count: 300_000)).first?.contains("262144") == true)
        #expect(Self.problems(String(repeating: "x\n", count: 1_000)).count == 20)
        #expect(
            Self.problems("[node]\nzone = \"\(String(repeating: "a", count: 5_000))\"").first?.contains("4096") == true)
        var random = PRNG(seed: 3)
        let parts = [
            "[node]", "\n", "name", " = ", "\"a\"", "'", "\"", "[", "]", ",", "#", "1", "true", "\\", "\t", "\r",
            "\u{0}", "é", ".",
            "log.level", "{", "-", "_", "labels",
        ]
        for _ in 0..<3_000 {
            _ = Self.problems((0..<random.below(12)).map { _ in parts[random.below(parts.count)] }.joined())
        }
    }
}
