import Testing

/// A rule that finds nothing may be broken itself. Here each rule has to find what is planted for it, and to leave alone
/// what only looks like it.
@Suite struct TidyRuleTests {
    private static let core = "Sources/Core/RaftCore/Raft.swift"
    private static let store = "Sources/IO/KeyValueStore/Database.swift"
    private static let program = "Sources/Programs/muster/Command.swift"

    private func house(_ files: [String: String] = [:]) -> House {
        func room(_ layer: String, _ name: String, _ imports: [String], in products: [String] = []) -> House.Room {
            House.Room(
                name: name, path: "Sources/\(layer)/\(name)", imports: imports, isExecutable: layer == "Programs",
                hasStrictMemorySafety: true, treatsWarningsAsErrors: true, products: products)
        }
        return House(
            rooms: [
                room("Base", "ClusterBase", [], in: ["RaftCore", "Placement"]),
                room("Core", "RaftCore", ["ClusterBase"], in: ["RaftCore"]),
                room("CLibs", "CRocksDB", []),
                room("IO", "KeyValueStore", ["CRocksDB", "ClusterBase"]),
                room("IO", "StateStore", ["KeyValueStore", "CRocksDB"]),
                room("Programs", "muster", ["RaftCore"]),
            ],
            texts: files, topLevel: Tidy.topLevel)
    }

    private func rule(_ promise: String) throws -> Tidy {
        try #require(Tidy.rules.first { $0.promise == promise }, "no rule promises “\(promise)”")
    }

    /// `path` holds `bad` lines, each of which must be found, and `good` lines, none of which may be.
    struct Planting: CustomTestStringConvertible, Sendable {
        var promise: String
        var path = core
        var bad: [String]
        var good: [String]
        var testDescription: String { promise }
    }

    static let plantings: [Planting] = [
        Planting(
            promise: "a target imports what the manifest lists for it",
            bad: [
                "import Foundation", "internal import Glibc", "public import FleetModel", "import struct FleetModel.VM",
                "import Synchronization", "import Dispatch", "import _Concurrency", "#if A\nimport Glibc\n#endif",
            ],
            good: [
                "public import ClusterBase", "import struct ClusterBase.Term", "// import Foundation", "import Swift",
            ]),
        Planting(
            promise: "a target imports what the manifest lists for it", path: store,
            bad: ["import RaftCore"], good: ["import Glibc", "internal import CRocksDB", "let s = \"import RaftCore\""]),
        Planting(
            promise: "no import widens what another module sees",
            bad: ["@_exported import ClusterBase", "@testable import ClusterBase"], good: ["public import ClusterBase"]),
        Planting(
            promise: "pure targets have no clock, no dice, no tasks and no console",
            bad: [
                "func f() async {}", "await f()", "Task { f() }", "Task.detached {}", "actor Node {", "@MainActor",
                "let c = ContinuousClock()", "let d = Date()", "let d = Date.now", "clock_gettime(0, &t)",
                "let n = Int.random(in: 0..<3)", "var g = SystemRandomNumberGenerator()", "list.shuffled()",
                "func hash(into h: inout Hasher) {", "let h = x.hashValue", "print(x)", "ProcessInfo.processInfo",
                "let s = \"\\(Int.random(in: 0..<3))\"", "let id = UUID()", "/* quiet */ print(x)",
            ],
            good: [
                "// await nobody", "let s = \"print(x)\"", "let taskCount = 3", "let s = #\"await \"quoted\" \"#",
                "func reprint(_ x: Int) {}", "var actor: NodeID", "let update(now: Instant)", "/* async /* await */ */",
                "let random = rng.next()", "enum Kind { case task }", "let s = \"\"\"\n  await \\(x) print(\n  \"\"\"",
                "let `async` = 1",
            ]),
        Planting(
            promise: "hash order reaches nothing",
            bad: [
                "var a: [NodeID: Progress] = [:]", "var a: [[UInt8]: Int]", "let s: Set<NodeID> = []",
                "Dictionary(uniqueKeysWithValues: x)",
                "var a: Dictionary<Int, Int>", "let s = Set(x)", "var a: [Swift.Int: Int]",
                "var a: [NodeID: [Int]] // hash order:",
            ],
            good: [
                "var a: [NodeID: Progress] // hash order: looked up by id only", "let a = [first: 1]",
                "let a = x ? [A] : [B]",
                "// hash order: looked up only\nlet s: Set<NodeID> = []", "f(ring[i], at: 3)", "let a: [Int] = []",
                "mutating func reset(_ set: Setting) {}", "x[Foo.a ? B : C]",
            ]),
        Planting(
            promise: "no error is turned into a crash", path: program,
            bad: ["let a = try! f()", "let a = b as! C"],
            good: ["let a = try f()", "let a = b as? C", "// never try! this", "let a = !b"]),
        Planting(
            promise: "a check that matters is still there in a release build",
            bad: ["assert(a == b)", "assertionFailure(\"no\")"],
            good: ["precondition(a == b, \"\\(a)\")", "assertAll(x)"]),
        Planting(
            promise: "a lost error says why losing it is right", path: store,
            bad: ["let a = try? f()"],
            good: [
                "let a = try? f()  // A missing file reads as an empty one.", "// Absent is fine.\nlet a = try? f()",
            ]),
        Planting(
            promise: "what the compiler cannot prove names its guard", path: store,
            bad: [
                "final class A: @unchecked Sendable {", "nonisolated(unsafe) var a = 1",
                "// Lock.\n@preconcurrency import X",
            ],
            good: [
                "final class A: @unchecked Sendable {  // `lock` guards every property.", "final class A: Sendable {",
            ]),
        Planting(
            promise: "unsafe code in a pure target says why it is sound",
            bad: ["let a = unsafe f(p)", "func f(_ p: UnsafeRawPointer) {}"],
            good: [
                "// The span outlives the call.\nlet a = unsafe f(p)\nlet b = unsafe f(q)", "let unsafely = 1",
                "let a = unsafe f(p)  // Bounds were checked above.",
            ]),
        Planting(
            promise: "no type carries its module's name", bad: ["public struct RaftCore {", "enum RaftCore {}"],
            good: ["struct Raft {", "extension RaftCore.Raft {"]),
        Planting(
            promise: "what no product vends is not public", path: program,
            bad: ["public struct A {", "public func f() {}"], good: ["struct A {", "// public\nlet a = \"public\""]),
        Planting(
            promise: "what no product vends is not public", path: core, bad: [],
            good: ["public struct A {", "public import ClusterBase"]),
        Planting(
            promise: "a product vends every room that its public API names", path: core,
            bad: ["public import muster", "public import struct KeyValueStore"],
            good: ["public import ClusterBase", "import KeyValueStore", "package import muster"]),
        Planting(
            promise: "a product vends every room that its public API names",
            path: "Sources/Base/ClusterBase/Term.swift",
            bad: ["public import RaftCore"], good: ["internal import RaftCore"]),
        Planting(
            promise: "what a product vends is documented, member by member", path: core,
            bad: [
                "public var term: Term", "@inlinable public static func f() {", "// No contract.\npublic func f() {",
                "/// A kind.\npublic enum Kind: A,\n    B\n{\n    case one\n}", "public init(a: Int) { f(a) }",
                "public init(\n  a: Int = { 1 }()\n) {\n  self.a = a + 1\n}", "public private(set) var n = 0",
                "/// A seam.\npublic protocol Seam {\n    func f()\n}", "public subscript(i: Int) -> Int {",
            ],
            good: [
                "/// Never falls.\npublic var term: Term", "var term: Term", "package func f() {", "public import A",
                "/// Never falls.\n@inlinable\npublic func f() {",
                "/// A name.\n// hash order: read only\npublic var n = 0",
                "enum Kind {\n  case one\n}", "public var description: String {",
                "public static func < (a: A, b: A) -> Bool {",
                "public init(a: Int, b: Int) {\n  self.a = a\n  c = b\n}", "public init() {}",
                "public let rawValue: UInt64",
                "/// A kind.\npublic enum Kind {\n  /// It.\n  case one\n  func f() {\n    switch a {\n    case .b: g()\n    }\n  }\n}",
                "/// A seam.\npublic protocol Seam {\n    /// Once.\n    func f(\n        a: Int,\n        var: Int)\n}",
            ]),
        Planting(
            promise: "what a product vends is documented, member by member", path: store, bad: [],
            good: ["public var term: Term"]),
        Planting(
            promise: "public types say what they are",
            bad: ["public struct A {", "@frozen public enum A {", "@frozen\npublic struct A {"],
            good: [
                "/// One vote.\npublic struct A {", "/// One vote.\n@frozen\npublic struct A {", "struct A {",
                "  public struct B {",
            ]),
        Planting(
            promise: "nothing is left for later without saying so where it is planned",
            bad: ["// TO" + "DO: more", "let a = 1  // FIX" + "ME", "// XX" + "X", "// HA" + "CK."],
            good: ["// Every to-do is an issue.", "let TO" + "DOS = 1", "let a = \"MAXXX" + "XY\"", "// HA" + "CKNEY"]),
        Planting(
            promise: "no file knows the machine it was written on", path: "Tools/check",
            bad: ["cd /ho" + "me/ann/muster", "x=\"/wo" + "rk/main\"", "/ro" + "ot/x"],
            good: ["cd \"$here/ho" + "me/x\"", "cat docs/wo" + "rk/list", "https://example.org/wo" + "rk/"]),
    ]

    @Test(arguments: plantings)
    func `a rule finds what is planted for it and nothing else`(planting: Planting) throws {
        let tidy = try rule(planting.promise)
        for text in planting.bad {
            let findings = tidy.check(house([planting.path: "\n" + text + "\n"]))
            #expect(findings.count == 1, "not refused once: \(text)")
            #expect(findings.first?.path == planting.path)
            // The planted text begins on line 2.
            let line = findings.first?.line ?? 0
            #expect(line >= 2, "no line is named for: \(text)")
            #expect(findings.first?.description.contains("Instead: ") == true)
        }
        for text in planting.good {
            let findings = tidy.check(house([planting.path: "\n" + text + "\n"]))
            #expect(findings.isEmpty, "refused: \(text)")
        }
    }

    @Test func `a C library with two doors or none is found, and one in a pure target`() throws {
        let tidy = try rule("each C library has one door")
        let one = [Self.store: "internal import CRocksDB\n"]
        #expect(tidy.check(house(one)).isEmpty)
        let two = one.merging(["Sources/IO/StateStore/State.swift": "import CRocksDB\n"]) { $1 }
        #expect(tidy.check(house(two)).map(\.path) == ["Sources/CLibs/CRocksDB"])
        #expect(tidy.check(house()).map(\.path) == ["Sources/CLibs/CRocksDB"])
        #expect(tidy.check(house([Self.core: "import CRocksDB\n"])).map(\.path) == [Self.core])
    }

    @Test func `a target without strict memory safety or with harmless warnings is found`() throws {
        let tidy = try rule(
            "every pure target compiles with strict memory safety and every target with warnings as errors")
        var broken = house()
        #expect(tidy.check(broken).isEmpty)
        broken.rooms[1].hasStrictMemorySafety = false
        broken.rooms[5].treatsWarningsAsErrors = false
        broken.rooms[2].treatsWarningsAsErrors = false
        #expect(tidy.check(broken).count == 2)
    }

    @Test func `a top level with a stray or a missing entry is found`() throws {
        let tidy = try rule("the top level is what the README draws")
        var broken = house()
        #expect(tidy.check(broken).isEmpty)
        broken.topLevel = broken.topLevel.filter { $0 != "Proto" } + ["docs"]
        #expect(tidy.check(broken).map(\.path).sorted() == ["Proto", "docs"])
    }

    @Test func `a room that the README does not draw is found`() throws {
        let tidy = try rule("every room is in the README's picture")
        let drawn = house().rooms.filter { !$0.isTest }.map(\.name)
        #expect(tidy.check(house(["README.md": drawn.joined(separator: " ")])).isEmpty)
        #expect(tidy.check(house(["README.md": drawn.dropFirst().joined(separator: " ")])).count == 1)
    }

    @Test func `a folder that no target owns is found`() throws {
        let tidy = try rule("every folder of Sources and Tests is a target of the manifest")
        let strays = tidy.check(
            house([
                "Sources/Core/Cellar/A.swift": "", "Sources/Core/Cellar/B.swift": "", "Tests/LostTests/A.swift": "",
                Self.core: "", "Tools/Bench/A.swift": "",
            ]))
        #expect(strays.map(\.path) == ["Sources/Core/Cellar", "Tests/LostTests"])
    }

    @Test func `a file that is not named for its main type is found`() throws {
        let tidy = try rule("a file is named for its main type")
        let folder = "Sources/Core/RaftCore/"
        let good = [
            folder + "Raft.swift": "public struct Raft {}", folder + "Raft+Election.swift": "extension Raft {}",
            folder + "Quorum+Joint.swift": "struct Quorum {}", folder + "main.swift": "f()",
            folder + "Wire.swift":
                "// swift-format-ignore-file\n// Generated by Tools/protogen from wire.proto.\nstruct Other {}",
            folder + "Messages.swift": "public struct Vote {\n    enum Kind {}\n}\nstruct Append {}",
        ]
        #expect(tidy.check(house(good)).isEmpty)
        let bad = [
            folder + "Helpers.swift": "struct Raft {}", folder + "Raft.swift": "extension Raft {}",
            folder + "Raft+Election.swift": "struct Election {}", folder + "Log.swift": "struct Logbook {}",
            folder + "Words.swift": "public struct Vote {\n    enum Kind {}\n}",
        ]
        #expect(tidy.check(house(bad)).count == bad.count)
    }

    @Test func `long files and long functions are found, generated ones are not`() throws {
        let tidy = try rule("files and functions fit into a head")
        let body = String(repeating: "    f()\n", count: Tidy.linesPerFunctionMax)
        let short = String(body.dropLast(24))
        let long = tidy.check(
            house([
                Self.core: "struct Raft {\nfunc step(\n  _ x: Int = { 1 }()\n) {\n\(body)}\nfunc brief() { f() }\n}\n",
                Self.store: "init(a: Int) {\n\(body)}\n",
            ]))
        #expect(long.map(\.line) == [2, 1])
        #expect(tidy.check(house([Self.core: "func step() {\n\(short)}\n"])).isEmpty)
        #expect(tidy.check(house([Self.core: "// Generated by Tools/protogen.\nfunc step() {\n\(body)}\n"])).isEmpty)
        let lines = String(repeating: "let a = 1\n", count: Tidy.linesPerFileMax)
        #expect(tidy.check(house([Self.core: lines + "let b = 1\n"])).count == 1)
        #expect(tidy.check(house([Self.core: String(lines.dropLast(10))])).isEmpty)
    }

    @Test func `functions are measured from their first line to their last brace`() {
        let text = """
            protocol P {
                func required()
                var v: Int { get }
                func last() -> [Int]
            }
            struct A: P {
                init() { self.init(x: 1) }
                func required() {
                    let f = { if x { "}" } }  // }
                }
                func outer(
                    _ a: Int
                ) -> Int
                where A: P,
                    B: Q
                {
                    func inner() {
                        g()
                    }
                    return 1
                }
            }
            """
        let found = Tidy.functions(SourceFile(path: "A.swift", text: text)).map { "\($0.name) \($0.line) \($0.count)" }
        #expect(found == ["init 7 1", "required 8 3", "inner 17 3", "outer 11 11"])
    }

    @Test func `an exception in the tables that is none is found`() throws {
        let tidy = try rule("an exception that nobody needs is taken back")
        // The house of the tests has none of the files that the tables name.
        let named = Set(Tidy.longFiles.keys).union(Tidy.longFunctions.keys)
        #expect(Set(tidy.check(house()).map(\.path)) == named)
    }

    @Test func `a library target without a page or without one of its headings is found`() throws {
        let tidy = try rule("every library target has its page")
        func page(_ name: String, _ headings: [String]) -> String {
            "# ``\(name)``\n\nText.\n\n" + headings.map { "## \($0)\n\nText.\n" }.joined(separator: "\n")
        }
        var texts: [String: String] = [:]
        for room in house().rooms where !room.isCLibrary && !room.isExecutable {
            texts["\(room.path)/\(room.name).docc/\(room.name).md"] = page(room.name, Tidy.pageHeadings)
        }
        #expect(tidy.check(house(texts)).isEmpty)
        let raft = "Sources/Core/RaftCore/RaftCore.docc/RaftCore.md"
        texts[raft] = page("Raft", Tidy.pageHeadings.filter { $0 != "Limits" })
        #expect(tidy.check(house(texts)).count == 2)
        texts[raft] = nil
        #expect(tidy.check(house(texts)).map(\.path) == [raft])
    }

    @Test func `a document that names a command which is not there is found`() throws {
        let tidy = try rule("the commands that the documents name exist")
        let check = "command_test() {\n  :\n}\ncommand_smoke() { :; }\n"
        let good = ["Tools/check": check, "README.md": "Run `Tools/check test`, or see `Tools/check`."]
        #expect(tidy.check(house(good)).isEmpty)
        let bad = [
            "Tools/check": check, "README.md": "Run `Tools/check tests`.", ".ci/run": "Tools/check everything\n",
        ]
        #expect(tidy.check(house(bad)).count == 2)
    }
}
