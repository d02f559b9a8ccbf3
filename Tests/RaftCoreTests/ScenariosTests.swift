import Foundation
import Testing

@testable import RaftCore

/// Every file of `scenarios` is a list of commands, each followed by what it printed, indented by two spaces. Review a
/// changed output like code. `RECORD=1 swift test --filter Scenarios` writes all outputs anew.
@Suite struct ScenariosTests {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("scenarios")

    static let files: [String] = {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.filter { $0.hasSuffix(".txt") }.sorted()
    }()

    @Test func `there are scenarios`() {
        #expect(Self.files.count >= 30, "only \(Self.files.count) files in \(Self.folder.path)")
    }

    @Test(arguments: files)
    func `a recorded scenario plays as recorded`(file: String) throws {
        let url = Self.folder.appendingPathComponent(file)
        let recorded = try String(contentsOf: url, encoding: .utf8)
        let played = try Self.play(recorded)
        #expect(!played.contains("VIOLATION"), "\(file) breaks a promise:\n\(Self.difference(recorded, played))")
        if ProcessInfo.processInfo.environment["RECORD"] != nil {
            if played != recorded { try played.write(to: url, atomically: true, encoding: .utf8) }
            return
        }
        #expect(
            played == recorded,
            """
            \(file) plays differently. If the new output is right: RECORD=1 swift test --filter Scenarios
            \(Self.difference(recorded, played))
            """)
    }

    /// The file as it would be recorded now.
    static func play(_ recorded: String) throws -> String {
        var harness = ScenarioHarness()
        #if MUTANTS
        // `MUTANT=name` plays a core with that bug: the scenarios that fail are those that would find it.
        harness.settings.mutant = ProcessInfo.processInfo.environment["MUTANT"].flatMap(Mutant.init(rawValue:))
        #endif
        var lines: [String] = []
        for (number, line) in recorded.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            if line.hasPrefix("  ") { continue }
            lines.append(String(line))
            if line.isEmpty || line.hasPrefix("#") { continue }
            do {
                for text in try harness.execute(String(line)) { lines.append("  " + text) }
            } catch let mistake as ScenarioMistake {
                throw ScenarioMistake(description: "line \(number + 1), \(line): \(mistake.description)")
            }
        }
        return lines.joined(separator: "\n")
    }

    /// What was recorded and is gone, and what is new, with the lines around the first of them.
    static func difference(_ recorded: String, _ played: String) -> String {
        let old = recorded.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        let new = played.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        var changes: [(position: Int, text: String)] = []
        for change in new.difference(from: old) {
            switch change {
            case .remove(let offset, let element, _): changes.append((offset, "- \(offset + 1): \(element)"))
            case .insert(let offset, let element, _): changes.append((offset, "+ \(offset + 1): \(element)"))
            }
        }
        return changes.sorted { $0.position < $1.position }.prefix(40).map(\.text).joined(separator: "\n")
    }
}
