import AgentConfig
import Foundation
import Testing

/// What the systemd unit says fits what the program does.
@Suite struct UnitFileTests {
    private func values(_ key: String) throws -> [String] {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Cluster/muster.service")
        return try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
            .filter { $0.hasPrefix(key + "=") }.map { String($0.dropFirst(key.count + 1)) }
    }

    @Test func `an agent that drains for as long as it may be set to is not killed meanwhile`() throws {
        let seconds = try #require(try values("TimeoutStopSec").first.flatMap { Int($0) })
        func takes(_ seconds: Int) -> Bool {
            let problems = try? AgentSettings.load(  // Refused is what is asked for.
                file: nil, variables: [], otherVariables: [], flags: [("admin.drain-time", "\(seconds)s")],
                hostName: "n1")
            return problems != nil
        }
        #expect(takes(seconds - 30), "the unit waits for longer than any agent drains")
        #expect(!takes(seconds - 29), "an agent may drain until the unit kills it")
    }

    @Test func `what no other start mends is not started again`() throws {
        #expect(try values("RestartPreventExitStatus") == ["2 4"])
        #expect(try values("Restart") == ["always"])
    }
}
