import AdminAPI
import CommandSyntax
import Testing

@testable import FleetCommands

@Suite struct SpecOptionsTests {
    private let table = CommandTable(program: "muster", about: "", commands: FleetTable.commands)

    private func line(_ words: String...) throws -> Invocation {
        switch table.parse(["vm", "create", "web"] + words) {
        case .run(let invocation): return invocation
        case .refused(let sentence): throw FleetMistake(sentence)
        case .help: throw FleetMistake("help")
        }
    }

    private func json(_ words: String...) throws -> String {
        guard case .run(let invocation) = table.parse(["vm", "create", "web"] + words) else { return "refused" }
        return String(decoding: JSONValue.object(try SpecOptions.members(invocation)).bytes, as: UTF8.self)
    }

    @Test func `cores are whole, broken or in thousandths`() throws {
        #expect(try SpecOptions.cores("2") == 2_000)
        #expect(try SpecOptions.cores("0.5") == 500)
        #expect(try SpecOptions.cores("1.25") == 1_250)
        #expect(try SpecOptions.cores("1500m") == 1_500)
        for wrong in [
            "", "0", "-1", "-0.5", "-0", "+1", "1.+5", "two", "1.2345", "1.", ".5", "0m", "1e3", "1.-5", "-5m",
        ] {
            #expect(throws: FleetMistake.self) { try SpecOptions.cores(wrong) }
        }
    }

    @Test func `only what is given becomes a member`() throws {
        #expect(try json() == "{}")
        #expect(try json("--cpu", "2", "--memory", "4GiB") == #"{"cpuMillis":2000,"memoryMiB":4096}"#)
    }

    /// A specification with what the options of an update say.
    private func updated(_ base: String, _ words: String...) throws -> String {
        guard case .run(let invocation) = table.parse(["vm", "update", "web"] + words) else { return "refused" }
        let known = try JSONParser.parse(Array(base.utf8)[...])
        return String(
            decoding: SpecOptions.merged(known, try SpecOptions.members(invocation)).bytes, as: UTF8.self)
    }

    @Test func `labels are set and taken away one by one, and the others stay`() throws {
        let base = #"{"labels":{"app":"web","old":"1"},"cpuMillis":1}"#
        #expect(
            try updated(base, "--label", "tier=front", "--label", "old-")
                == #"{"cpuMillis":1,"labels":{"app":"web","tier":"front"}}"#)
        #expect(try updated(base, "--label", "none") == #"{"cpuMillis":1}"#)
        #expect(try updated(#"{"cpuMillis":1}"#, "--label", "gone-") == #"{"cpuMillis":1,"labels":{}}"#)
        #expect(throws: FleetMistake.self) { try self.updated(base, "--label", "none", "--label", "a=b") }
        #expect(throws: FleetMistake.self) { try self.updated(base, "--label", "bare") }
    }

    @Test func `what is optional can be taken away again`() throws {
        let base = #"{"groups":["a"],"regions":["north"],"policy":"pack","zones":["z"]}"#
        #expect(
            try updated(base, "--group", "none", "--region", "none", "--policy", "none", "--zone", "none")
                == #"{"zones":[],"groups":[],"regions":[]}"#
                || SpecOptionsTests.isEmpty(
                    updated(base, "--group", "none", "--region", "none", "--policy", "none", "--zone", "none"))
        )
        #expect(throws: FleetMistake.self) { try self.updated(base, "--group", "none", "--group", "b") }
    }

    @Test func `what a move may cost is set, taken away, and one of three words`() throws {
        #expect(try json("--move-intent", "gentle") == #"{"moveIntent":"gentle"}"#)
        #expect(try updated(#"{"moveIntent":"now"}"#, "--move-intent", "none") == "{}")
        #expect(throws: FleetMistake.self) { try self.line("--move-intent", "quick") }
    }

    private static func isEmpty(_ text: String) -> Bool {
        ["groups", "regions", "zones"].allSatisfy { text.contains("\"\($0)\":[]") } && !text.contains("policy")
    }

    @Test func `one wish for NUMA nodes takes the place of the other`() throws {
        #expect(try updated(#"{"numaExactly":1}"#, "--numa", "fewest") == #"{"numaAtMost":8}"#)
        #expect(try updated(#"{"numaAtMost":8}"#, "--numa", "2") == #"{"numaExactly":2}"#)
        #expect(try updated(#"{"numaAtMost":8}"#, "--numa", "none") == "{}")
    }

    @Test func `a disk is a size alone or named in parts`() throws {
        #expect(
            try json("--disk", "20GiB", "--disk", "name=root,size=1GiB,kind=shared:fast,image=debian")
                == #"{"disks":[{"name":"disk0","sizeMiB":20480,"kind":"local"},"#
                + #"{"name":"root","sizeMiB":1024,"kind":"shared","domain":"fast","image":"debian"}]}"#)
        for wrong in [
            "", "kind=local", "size=1", "size=1GiB,kind=tape", "size=1GiB,kind=shared", "size=1GiB,colour=red",
        ] {
            let invocation = try line("--disk", wrong)
            #expect(throws: FleetMistake.self) { try SpecOptions.members(invocation) }
        }
    }

    @Test func `selectors say what a label is, is not, or that it is there`() throws {
        #expect(
            try json("--require", "disk=ssd,nvme", "--require", "!old", "--require", "gpu", "--require", "!zone=a")
                == #"{"required":[{"key":"disk","oneOf":["ssd","nvme"]},{"key":"old","exists":false},"#
                + #"{"key":"gpu","exists":true},{"key":"zone","noneOf":["a"]}]}"#)
    }

    @Test func `what becomes a secret is no annotation any more, unless both are asked for`() throws {
        let known = try JSONParser.parse(Array(#"{"cpuMillis":1,"annotations":{"a":"1","b":"2"}}"#.utf8)[...])
        let secret = JSONMember("secrets", .object([JSONMember("a", .string("3"))]))
        let both = [secret, JSONMember("annotations", .object([JSONMember("a", .string("4"))]))]
        #expect(SpecOptions.merged(known, [secret])["annotations"]?.members?.map(\.name) == ["b"])
        #expect(SpecOptions.merged(known, both)["annotations"]?.members?.map(\.name).sorted() == ["a", "b"])
    }

    @Test func `a TPM says where it remembers`() throws {
        #expect(try json("--tpm", "local") == #"{"tpm":"local"}"#)
        #expect(try json("--tpm", "shared:fast") == #"{"tpm":"shared:fast"}"#)
        #expect(try json("--tpm", "none") == #"{"tpm":null}"#)
        for wrong in ["yes", "shared", "shared:", ""] {
            #expect(throws: FleetMistake.self) { try json("--tpm", wrong) }
        }
    }

    @Test func `devices count and share`() throws {
        #expect(
            try json("--device", "gpu*2", "--device", "a,b:500")
                == #"{"devices":[{"kinds":["gpu"],"count":2,"millis":1000},{"kinds":["a","b"],"count":1,"millis":500}]}"#
        )
        for wrong in ["", "gpu*0", "gpu:0", "gpu:1001", "gpu*2*2", "gpu:1:1"] {
            let invocation = try line("--device", wrong)
            #expect(throws: FleetMistake.self) { try SpecOptions.members(invocation) }
        }
    }

    @Test func `a pattern in braces makes many names`() throws {
        #expect(try SpecOptions.names("web") == ["web"])
        #expect(try SpecOptions.names("web-{1..3}") == ["web-1", "web-2", "web-3"])
        #expect(try SpecOptions.names("w{08..10}x") == ["w08x", "w09x", "w10x"])
        // As a shell hands on what it has expanded itself.
        #expect(try SpecOptions.names(["web-1", "db-{1..2}"]) == ["web-1", "db-1", "db-2"])
        #expect(throws: FleetMistake.self) { try SpecOptions.names(Array(repeating: "w{1..10000}", count: 11)) }
        for wrong in ["w{", "w{1}", "w{3..1}", "w{a..b}", "w{0..10000}", "w{-1..2}"] {
            #expect(throws: FleetMistake.self) { try SpecOptions.names(wrong) }
        }
    }

    @Test func `labels are pairs, and the last of a key wins`() throws {
        #expect(try json("-l", "a=1", "-l", "a=2", "-l", "b=") == #"{"labels":{"a":"2","b":""}}"#)
        let invocation = try line("-l", "a")
        #expect(throws: FleetMistake.self) { try SpecOptions.members(invocation) }
    }
}
