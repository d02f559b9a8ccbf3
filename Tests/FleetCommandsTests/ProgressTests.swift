import Testing

@testable import FleetCommands

@Suite struct ProgressTests {
    @Test func `plain lines come when something is new and only then`() {
        var progress = Progress(3, "running", isTerminal: false)
        let texts = [(0, "a is starting"), (0, "a is starting"), (1, "b is waiting"), (3, "nobody is")].map {
            progress.text(done: $0.0, note: $0.1)
        }
        #expect(
            texts == [
                "0 of 3 running; a is starting\n", nil, "1 of 3 running; b is waiting\n", "3 of 3 running\n",
            ])
        #expect(progress.leave.isEmpty)
    }

    @Test func `a terminal has a bar that is drawn over, never wraps, and ends with its line`() throws {
        var progress = Progress(2, "gone", isTerminal: true)
        #expect(progress.leave.isEmpty)
        let shown = progress.text(done: 1, note: String(repeating: "x", count: 300))
        let first = try #require(shown)
        #expect(first.hasPrefix("\r\u{1B}[K[###############...............] 1 of 2 gone; xxx"))
        #expect(first.count <= 110 && !first.contains("\n"))
        #expect(progress.leave == "\n")
        let last = progress.text(done: 2)
        #expect(last?.hasSuffix("2 of 2 gone\n") == true)
    }

    @Test func `nothing to wait for is done at once`() {
        var progress = Progress(0, "moved off h1", isTerminal: false)
        let text = progress.text(done: 0)
        #expect(text == "0 of 0 moved off h1\n")
    }
}
